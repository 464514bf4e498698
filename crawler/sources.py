"""Where spans of files come from: the Hub, a folder, the cache of the Hub's client.

::

    Source                      read(ref, path, spans), bytes_read, requests
    ├── MeteredSource           serves many models at once; meter() is one model's view of it
    │   ├── HubSource           crawler.range_source
    │   ├── FolderSource        a folder of files
    │   ├── CacheSource         what the Hub's client downloaded before
    │   └── FirstOf             the cache where it has the file, else another source
    ├── Meter                   counts for one model, and holds each file to one state
    └── PrefixSource            remembers the heads of files, so that they are paid for once

The bytes of one file that are read through one meter are of one state of that file, or the read
fails: a fingerprint is never made of two.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from crawler.errors import FileChangedError, NotFoundError
from crawler.mapped_file import MappedFile
from crawler.records import RepoRef
from crawler.spans import MAX_GAP_BYTES, Span, coalesce

__all__ = [
    "CacheSource",
    "FirstOf",
    "FolderSource",
    "Meter",
    "MeteredSource",
    "PrefixSource",
    "Source",
    "Tally",
]

_MAX_OPEN_MAPS = 64
_MAX_PREFIX_BYTES = 32 << 20


class Source(Protocol):
    """Anything that spans of files are read from."""

    @property
    def bytes_read(self) -> int:
        """Bytes received, those between joined spans and of tries that failed included."""

    @property
    def requests(self) -> int:
        """Ranges asked for, again after failures included; resolving addresses is not."""

    async def read(self, ref: RepoRef, path: str, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of every span, in the order asked for.

        Raises
        ------
        ValueError
            If a span is empty, reversed or negative.
        NotFoundError
            If there is no such file.
        MalformedError
            If a span ends beyond the file.
        FileChangedError
            If the file changed while it was read.
        CrawlError
            As the Hub or the disk answers.
        """


@dataclass(slots=True)
class Tally:
    """What was read for one model: how much, and which state each file was in.

    `states` is filled by the sources, in words of their own.
    """

    bytes_read: int = 0
    requests: int = 0
    states: dict[tuple[RepoRef, str], object] = field(default_factory=dict)

    def require_state(self, ref: RepoRef, path: str, state: object) -> None:
        """Raise FileChangedError if bytes of another state of the file were read before."""
        if self.states.setdefault((ref, path), state) != state:
            raise FileChangedError(f"{path} changed while it was read")


class MeteredSource(ABC):
    """A source that serves many models at once."""

    def __init__(self) -> None:
        self._total = Tally()

    @property
    def bytes_read(self) -> int:
        """Bytes received for all models."""
        return self._total.bytes_read

    @property
    def requests(self) -> int:
        """Ranges asked for, for all models."""
        return self._total.requests

    async def read(self, ref: RepoRef, path: str, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of every span; see :meth:`Source.read`. Two calls may see two states."""
        return await self.read_for(Tally(), ref, path, spans)

    def meter(self) -> Meter:
        """One model's view: it counts its own reads, and holds each file to one state."""
        return Meter(self)

    @abstractmethod
    async def read_for(
        self, tally: Tally, ref: RepoRef, path: str, spans: Sequence[Span]
    ) -> list[bytes]:
        """:meth:`Source.read`, entered into `tally` besides the total."""

    @abstractmethod
    async def aclose(self) -> None:
        """Give back what is held open; the source may be used again."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _count(self, tally: Tally, *, n_bytes: int = 0, requests: int = 0) -> None:
        for counted in (self._total, tally):
            counted.bytes_read += n_bytes
            counted.requests += requests


class Meter:
    """One model's view of a source; not to be shared between models."""

    def __init__(self, source: MeteredSource) -> None:
        self._source = source
        self._tally = Tally()

    @property
    def bytes_read(self) -> int:
        """Bytes received for this model."""
        return self._tally.bytes_read

    @property
    def requests(self) -> int:
        """Ranges asked for, for this model."""
        return self._tally.requests

    async def read(self, ref: RepoRef, path: str, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of every span; see :meth:`Source.read`."""
        return await self._source.read_for(self._tally, ref, path, spans)


class PrefixSource:
    """One model's source that remembers the beginning of each file.

    Headers are read by growing a prefix; only what is missing of it is fetched, and later spans
    that lie inside it cost nothing. At most 32 MiB of a file are remembered.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._prefixes: dict[tuple[RepoRef, str], bytes] = {}

    @property
    def bytes_read(self) -> int:
        """Bytes received by the source below."""
        return self._source.bytes_read

    @property
    def requests(self) -> int:
        """Ranges asked for by the source below."""
        return self._source.requests

    async def read(self, ref: RepoRef, path: str, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of every span; see :meth:`Source.read`."""
        coalesce(spans)  # judges the spans that are not fetched, too
        known = self._prefixes.get((ref, path), b"")
        missing = [
            (max(start, len(known)) if start <= len(known) else start, stop)
            for start, stop in spans
            if stop > len(known)
        ]
        fetched = iter(await self._source.read(ref, path, missing) if missing else [])
        found = []
        for start, stop in spans:
            if stop <= len(known):
                found.append(known[start:stop])
            elif start <= len(known):
                found.append(known[start:] + next(fetched))
            else:
                found.append(next(fetched))
        if len(spans) == 1:
            ((start, stop),) = spans
            if start <= len(known) < stop <= _MAX_PREFIX_BYTES:
                self._prefixes[ref, path] = known[:start] + found[0]
        return found


class _MappedSource(MeteredSource):
    """Files of this machine, mapped; few maps are open at once, the least used is closed first."""

    def __init__(self, *, max_gap_bytes: int, max_open: int) -> None:
        super().__init__()
        self._max_gap_bytes = max_gap_bytes
        self._max_open = max_open
        self._maps: OrderedDict[Path, MappedFile] = OrderedDict()

    @abstractmethod
    def _locate(self, ref: RepoRef, path: str) -> Path | None:
        """The file itself, links followed; None: there is none that may be read."""

    async def read_for(
        self, tally: Tally, ref: RepoRef, path: str, spans: Sequence[Span]
    ) -> list[bytes]:
        """The bytes of every span; see :meth:`Source.read`.

        Only the wanted bytes are copied; as requests count the ranges that a Hub would be asked
        for.

        Raises
        ------
        TruncatedError
            If the file is cut short while it is read.
        """
        joined = coalesce(spans, self._max_gap_bytes)
        if not joined:
            return []
        file = self._locate(ref, path)
        if file is None:
            raise NotFoundError(f"no file {path} of {ref.repo_id}")
        opened = self._open(file, path)
        before = opened.now()
        found = [opened.cut(start, stop, path) for start, stop in spans]
        self._count(tally, n_bytes=sum(map(len, found)), requests=len(joined))
        for state in (before, opened.now()):  # whatever was written meanwhile shows
            tally.require_state(ref, path, state)
        return found

    def _open(self, file: Path, path: str) -> MappedFile:
        opened = self._maps.get(file)
        if opened is not None and self._is_current(opened, file):
            self._maps.move_to_end(file)
            return opened
        if opened is not None:
            self._maps.pop(file).close()
        opened = MappedFile(file, path)
        self._maps[file] = opened
        while len(self._maps) > self._max_open:
            self._maps.popitem(last=False)[1].close()
        return opened

    @staticmethod
    def _is_current(opened: MappedFile, file: Path) -> bool:
        """Whether the map shows the file as it is, or as much of it as was left."""
        try:
            return opened.is_of(file.stat()) and opened.now().size_bytes <= opened.state.size_bytes
        except OSError:
            return False

    async def aclose(self) -> None:
        """Close the maps; the source may be used again."""
        while self._maps:
            self._maps.popitem()[1].close()


class FolderSource(_MappedSource):
    """The files of one folder, whatever repository is named.

    A path never leads out of the folder, by itself or by a link. The folder may be written while
    it is read: what changes is noticed (see :class:`Meter`), but for a file cut short in the very
    moment in which its bytes are copied, which would end the process.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_gap_bytes: int = MAX_GAP_BYTES,
        max_open: int = _MAX_OPEN_MAPS,
    ) -> None:
        super().__init__(max_gap_bytes=max_gap_bytes, max_open=max_open)
        self._folder = folder.resolve()

    def file(self, path: str) -> Path:
        """The file itself, links followed.

        Raises
        ------
        NotFoundError
            If there is none, or it lies outside the folder.
        """
        found = _inside(self._folder, path, self._folder)
        if found is None:
            raise NotFoundError(f"no file {path} in {self._folder}")
        return found

    def _locate(self, ref: RepoRef, path: str) -> Path | None:
        return _inside(self._folder, path, self._folder)


class CacheSource(_MappedSource):
    """The files that the Hub's own client downloaded.

    They stand under ``models--owner--name/snapshots/commit/path`` in the cache and are links to
    ``blobs`` of the same repository; no link is followed out of its folder.

    Parameters
    ----------
    cache_dir
        Default: where the client keeps its cache (``HF_HUB_CACHE``, ``HF_HOME``).
    max_gap_bytes, max_open
        As of :class:`FolderSource`.
    """

    def __init__(
        self,
        cache_dir: Path | None = None,
        *,
        max_gap_bytes: int = MAX_GAP_BYTES,
        max_open: int = _MAX_OPEN_MAPS,
    ) -> None:
        super().__init__(max_gap_bytes=max_gap_bytes, max_open=max_open)
        if cache_dir is None:
            from huggingface_hub.constants import HF_HUB_CACHE

            cache_dir = Path(HF_HUB_CACHE)
        self._cache_dir = cache_dir.resolve()

    def has(self, ref: RepoRef, path: str) -> bool:
        """Whether this file at this commit is in the cache."""
        return self._locate(ref, path) is not None

    def _locate(self, ref: RepoRef, path: str) -> Path | None:
        repo = self._cache_dir / ("models--" + ref.repo_id.replace("/", "--"))
        snapshot = repo / "snapshots" / ref.revision
        # The words must stay in the snapshot, the file that they lead to in the repository.
        if not Path(os.path.normpath(snapshot / path)).is_relative_to(snapshot):
            return None
        return _inside(snapshot, path, repo)


def _inside(folder: Path, path: str, bound: Path) -> Path | None:
    """The regular file that `path` leads to, if it lies inside `bound`."""
    try:
        file = (folder / path).resolve()
        return file if file.is_relative_to(bound.resolve()) and file.is_file() else None
    except (OSError, RuntimeError, ValueError):  # endless links, names too long, a zero in them
        return None


class FirstOf(MeteredSource):
    """Reads a file from a cache where that has it, else from another source."""

    def __init__(self, cache: CacheSource, otherwise: MeteredSource) -> None:
        super().__init__()
        self._cache = cache
        self._otherwise = otherwise

    @property
    def bytes_read(self) -> int:
        """Bytes received by both."""
        return self._cache.bytes_read + self._otherwise.bytes_read

    @property
    def requests(self) -> int:
        """Ranges asked for, of both."""
        return self._cache.requests + self._otherwise.requests

    async def read_for(
        self, tally: Tally, ref: RepoRef, path: str, spans: Sequence[Span]
    ) -> list[bytes]:
        """The bytes of every span; see :meth:`Source.read`."""
        source = self._cache if self._cache.has(ref, path) else self._otherwise
        return await source.read_for(tally, ref, path, spans)

    async def aclose(self) -> None:
        """Close both."""
        await self._cache.aclose()
        await self._otherwise.aclose()
