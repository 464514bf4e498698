"""A model that somebody named: a folder of this machine, or a repository of the Hub."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from hashlib import sha1
from pathlib import Path
from types import TracebackType
from typing import Self

from crawler.client import Hub
from crawler.configs import load_json_object
from crawler.errors import CrawlError
from crawler.headers import HeaderReport, read_headers
from crawler.range_source import HubSource
from crawler.recorded import RecordedHub
from crawler.records import FileEntry, RepoRef, RepoSnapshot, is_repo_id
from crawler.snapshot import read_repository
from crawler.sources import (
    CacheSource,
    FirstOf,
    FolderSource,
    MeteredSource,
    PrefixSource,
    Source,
)
from lineage.errors import HerdbookError, NotFoundError
from lineage.weights.facts import facts_of

__all__ = ["LocatedModel", "ModelReader", "locate", "locate_folder", "locate_on_hub"]

_CONFIG = "config.json"
_MAX_CONFIG_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class LocatedModel:
    """A model, and where its files are read from; `folder` is None on the Hub."""

    name: str
    source: MeteredSource
    snapshot: RepoSnapshot
    folder: Path | None = None


def locate(name: str, endpoint: str | None, *, use_cache: bool = False) -> LocatedModel:
    """A local folder or a Hub id; a folder of that name goes first.

    Parameters
    ----------
    use_cache
        Whether files that the Hub's client downloaded before are read from its cache.

    Raises
    ------
    NotFoundError
        If it is neither a folder nor a Hub id, or the Hub does not show it.
    """
    folder = Path(name)
    if folder.is_dir():
        return locate_folder(folder)
    if not is_repo_id(name):
        raise NotFoundError(f"{name} is neither a folder nor a model id of the form owner/name")
    return locate_on_hub(name, endpoint, use_cache=use_cache)


def locate_on_hub(
    repo_id: str, endpoint: str | None, *, revision: str | None = None, use_cache: bool = False
) -> LocatedModel:
    """A repository of the Hub.

    Parameters
    ----------
    revision
        Commit, branch or tag; default: as it is now.
    use_cache
        As of :func:`locate`.

    Raises
    ------
    NotFoundError
        If the Hub does not show it.
    """
    hub = Hub(endpoint)
    try:
        snapshot = read_repository(RecordedHub(hub, archive=None), repo_id, revision).snapshot
    except CrawlError as error:
        at = f" at {revision}" if revision else ""
        raise NotFoundError(f"cannot read {repo_id}{at}: {error}") from error
    source: MeteredSource = HubSource(hub)
    return LocatedModel(repo_id, FirstOf(CacheSource(), source) if use_cache else source, snapshot)


def locate_folder(folder: Path) -> LocatedModel:
    """The model in a folder: its files and those one folder below.

    Its id is the end of the path, or made up where that is no id.
    """
    path = folder.resolve()
    files = tuple(
        FileEntry(entry.relative_to(path).as_posix(), entry.stat().st_size)
        for entry in sorted([*path.glob("[!.]*"), *path.glob("[!.]*/[!.]*")])
        if entry.is_file()
    )
    name = "/".join(path.parts[-2:]).lstrip("/")
    if not is_repo_id(name):
        name = f"local/{sha1(str(path).encode(), usedforsecurity=False).hexdigest()[:12]}"
    snapshot = RepoSnapshot(RepoRef(name, "0" * 40), datetime.now(UTC), files=files)
    return LocatedModel(str(folder), FolderSource(folder), snapshot, path)


class ModelReader:
    """Reads the files of one model, a span at a time, wherever they lie.

    Every byte of a file is of one state of it, or reading fails (see :mod:`crawler.sources`).
    """

    def __init__(self, located: LocatedModel) -> None:
        self.located = located
        self._runner = asyncio.Runner()
        self._source: Source = located.source.meter()
        self._sizes = {file.path: file.size_bytes for file in located.snapshot.files}

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Bytes ``[start, stop)`` of a file.

        Raises
        ------
        CrawlError
            As the Hub or the disk answers.
        """
        return self._read(self._source, path, start, stop)

    def _read(self, source: Source, path: str, start: int, stop: int) -> bytes:
        (data,) = self._runner.run(source.read(self.located.snapshot.ref, path, [(start, stop)]))
        return data

    def small_file(self, path: str, max_bytes: int) -> bytes | None:
        """A whole file; None where the model has none of this name.

        Raises
        ------
        HerdbookError
            If it is longer than `max_bytes`.
        """
        size = self._sizes.get(path)
        if size is not None and size > max_bytes:
            raise HerdbookError(f"{path} of {self.located.name} has {size} bytes: not read")
        return None if size is None else self.read(path, 0, size) if size else b""

    @cached_property
    def headers(self) -> HeaderReport:
        """What the headers of its weight files say."""
        # The beginnings are remembered for as long as headers are read: with the words that
        # follow they would be as large as the model.
        beginnings = PrefixSource(self._source)
        return read_headers(partial(self._read, beginnings), self.located.snapshot.files)

    @cached_property
    def config(self) -> Mapping[str, object] | None:
        """Its ``config.json``; None where it has none.

        Raises
        ------
        HerdbookError
            If it cannot be used.
        """
        try:
            data = self.small_file(_CONFIG, _MAX_CONFIG_BYTES)
            return None if data is None else load_json_object(data.decode("utf-8"), _CONFIG)
        except (CrawlError, UnicodeDecodeError) as error:
            raise HerdbookError(f"cannot use {_CONFIG} of {self.located.name}: {error}") from error

    @cached_property
    def model_type(self) -> str | None:
        """The word for its architecture, by which names of tensors are understood."""
        return facts_of(self.config).model_type

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.run(self.located.source.aclose())
        self._runner.close()
