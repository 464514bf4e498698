"""Byte ranges of a Hub's files, one after the other: what a crawl needs of a file's beginning.

Many ranges are read by :mod:`crawler.range_source`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from crawler.client import Address, Hub
from crawler.errors import MalformedError, PermanentError
from crawler.records import RepoRef
from crawler.spans import MAX_GAP_BYTES, Span, coalesce, cut

__all__ = ["RangeReader"]


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
        joined = coalesce(spans, self._max_gap_bytes)
        pieces = [self._one(ref, path, address, start, stop) for start, stop in joined]
        return cut(spans, joined, pieces)

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
