"""Byte ranges of files, remote or local: neighbours read together, addresses resolved once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from crawler.client import Address, Hub
from crawler.errors import MalformedError, NotFoundError, PermanentError, TruncatedError
from crawler.records import RepoRef
from crawler.spans import MAX_GAP_BYTES, Span, coalesce, cut

__all__ = ["LocalReader", "PrefixReader", "RangeReader"]

_ReadOne = Callable[[int, int], bytes]


class RangeReader:
    """Reads spans of one Hub's files; counts what it costs.

    Attributes
    ----------
    bytes_read
        Bytes received, gaps between joined spans included.
    requests
        Range requests made (addresses are resolved on top).
    """

    def __init__(self, hub: Hub, *, max_gap_bytes: int = MAX_GAP_BYTES) -> None:
        self.bytes_read = 0
        self.requests = 0
        self._hub = hub
        self._max_gap_bytes = max_gap_bytes
        self._addresses: dict[tuple[RepoRef, str], Address] = {}
        self._lock = threading.Lock()

    def read(self, ref: RepoRef, path: str, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of every span, in the order asked for.

        Raises
        ------
        CrawlError
            If a span lies beyond the file (MalformedError), or as the Hub answers.
        """
        address = self._address(ref, path)
        return _cut(
            spans,
            self._max_gap_bytes,
            lambda start, stop: self._one(ref, path, address, start, stop),
        )

    def size_bytes(self, ref: RepoRef, path: str) -> int:
        """The length of a file as the server states it."""
        return self._address(ref, path).size_bytes

    def _address(self, ref: RepoRef, path: str) -> Address:
        with self._lock:
            known = self._addresses.get((ref, path))
        if known is None:
            known = self._hub.resolve(ref, path)
            with self._lock:
                self._addresses[ref, path] = known
        return known

    def _one(self, ref: RepoRef, path: str, address: Address, start: int, stop: int) -> bytes:
        if stop > address.size_bytes:
            raise MalformedError(
                f"{path} has {address.size_bytes} bytes, bytes {start}-{stop - 1} were wanted"
            )
        try:
            data = self._hub.get_range(address, start, stop)
        except PermanentError as error:
            if address.url == self._hub.file_url(ref, path) or error.code != "permanent":
                raise
            # A signed address expires: resolve once more.
            fresh = self._hub.resolve(ref, path)
            with self._lock:
                self._addresses[ref, path] = fresh
            data = self._hub.get_range(fresh, start, stop)
        with self._lock:
            self.bytes_read += len(data)
            self.requests += 1
        return data


class PrefixReader:
    """A reader that remembers the beginning of each file, so that headers are paid for once.

    Headers are read by growing a prefix; only what is missing of it is fetched, and later spans
    that lie inside it cost nothing.
    """

    def __init__(self, reader: RangeReader | LocalReader) -> None:
        self._reader = reader
        self._prefixes: dict[tuple[RepoRef, str], bytes] = {}

    @property
    def bytes_read(self) -> int:
        """Bytes received by the reader below."""
        return self._reader.bytes_read

    @property
    def requests(self) -> int:
        """Requests made by the reader below."""
        return self._reader.requests

    def read(self, ref: RepoRef, path: str, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of every span, in the order asked for; raises what the reader below raises."""
        known = self._prefixes.get((ref, path), b"")
        missing = [
            (max(start, len(known)) if start <= len(known) else start, stop)
            for start, stop in spans
            if stop > len(known)
        ]
        fetched = iter(self._reader.read(ref, path, missing) if missing else [])
        found = []
        for start, stop in spans:
            if stop <= len(known):
                found.append(known[start:stop])
            elif start <= len(known):
                found.append(known[start:] + next(fetched))
            else:
                found.append(next(fetched))
        if len(spans) == 1 and spans[0][0] == 0 and len(found[0]) > len(known):
            self._prefixes[ref, path] = found[0]
        return found


class LocalReader:
    """The same reads from a folder of files; a path never leads out of the folder."""

    def __init__(self, folder: Path, *, max_gap_bytes: int = MAX_GAP_BYTES) -> None:
        self.bytes_read = 0
        self.requests = 0
        self._folder = folder.resolve()
        self._max_gap_bytes = max_gap_bytes

    def read(self, ref: RepoRef, path: str, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of every span, in the order asked for; `ref` is not looked at.

        Raises
        ------
        NotFoundError
            If there is no such file in the folder.
        TruncatedError
            If the file is shorter than a span.
        """
        return _cut(spans, self._max_gap_bytes, lambda start, stop: self._one(path, start, stop))

    def _one(self, path: str, start: int, stop: int) -> bytes:
        file = (self._folder / path).resolve()
        if not file.is_relative_to(self._folder) or not file.is_file():
            raise NotFoundError(f"no file {path} in {self._folder}")
        with file.open("rb") as opened:
            opened.seek(start)
            data = opened.read(stop - start)
        if len(data) != stop - start:
            raise TruncatedError(f"{path} ends before byte {stop}")
        self.bytes_read += len(data)
        self.requests += 1
        return data


def _cut(spans: Sequence[Span], max_gap_bytes: int, read_one: _ReadOne) -> list[bytes]:
    joined = coalesce(spans, max_gap_bytes)
    return cut(spans, joined, [read_one(start, stop) for start, stop in joined])
