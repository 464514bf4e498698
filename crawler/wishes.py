"""Bytes that a parser wishes for. Parsers ask, somebody else reads: from a Hub, a folder, a cache.

A parser of a file that is not at hand is a generator: it yields ``(path, start, stop)``, is sent
these bytes of the file, and returns what it found. An error of the reader is thrown into it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from crawler.errors import MalformedError, TruncatedError

__all__ = ["FilePieces", "HeaderProblem", "Wish", "Wishes", "bytes_of"]

Wish = tuple[str, int, int]
"""Path of a file, first byte, and the byte after the last."""

_T = TypeVar("_T")
Wishes = Generator[Wish, bytes, _T]
"""Steps that wish for bytes and return a `_T`."""


@dataclass(frozen=True, slots=True)
class HeaderProblem:
    """Why a file, or a tensor of it, could not be used.

    `code` is a word of `crawler.errors`, ``pickle`` (weights that only unpickling would read) or
    ``tied`` (a second name of bytes that are listed already).
    """

    path: str
    code: str
    reason: str


def bytes_of(path: str, start: int, stop: int) -> Wishes[bytes]:
    """Wish for bytes of a file, if any, and hold their number against the wish.

    Raises
    ------
    TruncatedError
        If another number of bytes came.
    """
    if start == stop:
        return b""
    data = yield path, start, stop
    if len(data) != stop - start:
        raise TruncatedError(f"{path}: {len(data)} bytes came instead of {stop - start}")
    return data


class FilePieces:
    """Pieces of one file, fetched as they are needed; the last few are kept.

    Parameters
    ----------
    max_wishes
        How often bytes may be wished for before the file is given up.
    n_kept
        Pieces kept at a time.
    """

    def __init__(self, path: str, size_bytes: int, *, max_wishes: int, n_kept: int = 3) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self._wishes_left = max_wishes
        self._pieces: deque[tuple[int, bytes]] = deque(maxlen=n_kept)

    def read(self, start: int, stop: int, *, ahead_bytes: int = 0) -> Wishes[bytes]:
        """The bytes ``[start, stop)``; at least `ahead_bytes` are fetched if any have to be.

        Raises
        ------
        MalformedError
            If they lie outside the file, or too much was wished for before.
        """
        if not 0 <= start <= stop <= self.size_bytes:
            raise MalformedError(
                f"{self.path}: bytes {start} to {stop} are wanted, the file has {self.size_bytes}"
            )
        for first, data in self._pieces:
            if first <= start and stop <= first + len(data):
                return data[start - first : stop - first]
        if not self._wishes_left:
            raise MalformedError(f"{self.path}: its header is spread over too many places")
        self._wishes_left -= 1
        data = yield from bytes_of(
            self.path, start, min(max(stop, start + ahead_bytes), self.size_bytes)
        )
        self._pieces.append((start, data))
        return data[: stop - start]
