"""Half-open spans of bytes: which of them one request reads, and how its answer is cut. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

__all__ = ["MAX_GAP_BYTES", "MAX_RANGE_BYTES", "Span", "coalesce", "cut"]

Span = tuple[int, int]

MAX_GAP_BYTES = 4 << 10
"""Bytes nobody asked for that are read rather than asked around."""

MAX_RANGE_BYTES = 8 << 20
"""A joined span never grows beyond this, so that a request that fails costs little."""


def coalesce(spans: Sequence[Span], max_gap_bytes: int = MAX_GAP_BYTES) -> list[Span]:
    """The fewest half-open spans that cover `spans`, joining across gaps of at most so many bytes.

    A joined span never grows beyond 8 MiB; a single span may be longer.

    Returns
    -------
    list of Span
        By beginning; each of `spans` lies inside the last of them that begins no later.

    Raises
    ------
    ValueError
        If a span is empty, reversed or negative.

    Examples
    --------
    >>> coalesce([(100, 200), (0, 50), (60, 90)], max_gap_bytes=10)
    [(0, 200)]
    """
    joined: list[Span] = []
    for start, stop in sorted(spans):
        if not 0 <= start < stop:
            raise ValueError(f"not a span of bytes: [{start}, {stop})")
        if not joined:
            joined.append((start, stop))
            continue
        first, last = joined[-1]
        if stop <= last:
            continue
        if start - last <= max_gap_bytes and stop - first <= MAX_RANGE_BYTES:
            joined[-1] = (first, stop)
        else:
            joined.append((start, stop))
    return joined


def cut(spans: Sequence[Span], joined: Sequence[Span], pieces: Sequence[bytes]) -> list[bytes]:
    """The bytes of each of `spans`, from the `pieces` that hold the bytes of its `joined` ones.

    Examples
    --------
    >>> cut([(3, 5), (0, 2)], [(0, 5)], [b"abcde"])
    [b'de', b'ab']
    """
    starts = [start for start, _ in joined]
    found = []
    for start, stop in spans:
        i = bisect_right(starts, start) - 1
        origin = starts[i]
        piece = pieces[i]
        found.append(piece[start - origin : stop - origin])
    return found
