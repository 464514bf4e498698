"""Settings of a merge that vary over its layers, and the shortest list that explains them.

Merge recipes give a parameter as one number or as a list of anchors that is stretched over the
layers and interpolated (mergekit's gradients). Layer by layer, what the stored words say of the
number is a :class:`Response`: how many words come out with each value. The list that is handed out
is the shortest, and its anchors the roundest, that lose no word but by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lineage.weights.encodings import round_to

__all__ = ["Response", "Scanned", "WordIntervals", "anchor_shares", "shortest_list", "value_at"]

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

FLOAT32_NOISE = 2.0**-22
"""Relative error that a few steps in float32 add up to."""
BY_CHANCE = 3
"""Words that one more free number may win by rounding alone."""
_GRIDS = (0.1, 0.05, 0.01, 0.005, 0.001, 1e-4, 1e-6)
_DIGITS = 9
_HOPELESS_BELOW = 0.98
"""Share of what free values explain below which a fitted list is not worth rounding."""
_LONGEST = 10
"""Lists that people write; beyond that every layer has its own value."""
_STEPS = (0.01, 0.002, 0.0005, 0.0001)
_REACH = 6


class Response(Protocol):
    """How many words come out, as a function of one unknown number."""

    def at(self, value: float) -> int:
        """Words that come out with this value."""

    @property
    def peak(self) -> tuple[float, float]:
        """The interval of values with which most words come out."""


class WordIntervals:
    """A response where every word is an interval of the unknown: all values that round to it.

    Parameters
    ----------
    starts, ends
        Of every word that some value gives; in the same order.
    """

    def __init__(self, starts: F64, ends: F64) -> None:
        self._starts = np.sort(starts)
        self._ends = np.sort(ends)

    @classmethod
    def around(
        cls,
        at: float,
        values: F32,
        slopes: F32,
        words: F32,
        dtype: str,
        *,
        reach: float,
        noise: float = FLOAT32_NOISE,
    ) -> WordIntervals:
        """Intervals within `reach` of a value, where words change nearly in proportion to it.

        Parameters
        ----------
        values, slopes
            What comes out at `at` before it is rounded, and its derivative.
        words
            What is stored; words that are no finite number are not asked.
        noise
            Relative error of `values`. A mean of two neighbours lies *on* the edge between two
            words, so there must be some.
        """
        known = np.isfinite(words) & np.isfinite(values) & np.isfinite(slopes)
        lower, upper = _cells(dtype, words[known], noise)
        offset, slope = values[known].astype(np.float64), slopes[known].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            edges = np.stack([(lower - offset) / slope, (upper - offset) / slope])
        # Where nothing moves, the word is given always or never.
        still = (slope == 0)[None, :] & np.array([[True], [True]])
        inside = (lower <= offset) & (offset <= upper)
        edges = np.where(still, np.where(inside, [[-reach], [reach]], 2 * reach), edges)
        starts, ends = edges.min(axis=0), edges.max(axis=0)
        met = (starts <= reach) & (ends >= -reach)
        return cls(at + np.maximum(starts[met], -reach), at + np.minimum(ends[met], reach))

    @classmethod
    def joined(cls, parts: Sequence[WordIntervals]) -> WordIntervals:
        """All words of several responses to one unknown."""
        return cls(
            np.concatenate([part._starts for part in parts]),
            np.concatenate([part._ends for part in parts]),
        )

    def at(self, value: float) -> int:
        """Words whose interval holds this value."""
        begun = self._starts.searchsorted(value, side="right")
        return int(begun - self._ends.searchsorted(value, side="left"))

    @cached_property
    def peak(self) -> tuple[float, float]:
        """The interval that most words share; every number where there is no word."""
        if not len(self._starts):
            return -np.inf, np.inf
        ended = np.searchsorted(self._ends, self._starts, side="left")
        best = int(np.argmax(np.arange(1, len(self._starts) + 1) - ended))
        return float(self._starts[best]), float(self._ends[ended[best]])


class Scanned:
    """A response that is found by trying, in ever smaller steps from where a fit begins.

    Parameters
    ----------
    count
        Words that come out with a value.
    """

    def __init__(self, count: Callable[[float], int], start: float) -> None:
        self._count, self._start = count, start
        self._known: dict[float, int] = {}

    def at(self, value: float) -> int:
        """Words that come out with this value."""
        key = round(value, 9)
        if key not in self._known:
            self._known[key] = self._count(key)
        return self._known[key]

    @cached_property
    def peak(self) -> tuple[float, float]:
        """The run of tried values with which most words come out."""
        best = round(self._start, 2)
        for step in _STEPS:
            tried = [best + step * n for n in range(-_REACH, _REACH + 1)]
            best = max(tried, key=self.at)
        most = self.at(best)
        equal = [value for value, count in self._known.items() if count == most]
        return min(equal), max(equal)


def anchor_shares(n_anchors: int, position: float) -> F64:
    """How much each anchor of a list counts at a position between 0 (first layer) and 1 (last).

    Examples
    --------
    >>> anchor_shares(3, 0.25).tolist()
    [0.5, 0.5, 0.0]
    """
    scaled = position * (n_anchors - 1)
    first = int(scaled)
    shares = np.zeros(n_anchors)
    shares[first] = 1 - (scaled - first)
    shares[min(n_anchors - 1, first + 1)] += scaled - first
    return shares


def value_at(anchors: Sequence[float], position: float) -> float:
    """The value of a list of anchors at a position, in mergekit's arithmetic.

    Examples
    --------
    >>> value_at([0.0, 0.5, 0.3], 0.75)
    0.4
    """
    scaled = position * (len(anchors) - 1)
    first = int(scaled)
    part = scaled - first
    return (1 - part) * anchors[first] + part * anchors[min(len(anchors) - 1, first + 1)]


def shortest_list(asked: Sequence[tuple[float, Response]]) -> tuple[tuple[float, ...], int]:
    """The shortest list of the roundest anchors, and how many words it loses to free values.

    Parameters
    ----------
    asked
        Position between 0 and 1, and the response there. Several may share a position.

    Returns
    -------
    tuple
        Anchors, one where a constant will do (0.5 where nothing depends on it); and the words
        that come out with the best value of every response, but not with these.
    """
    middles = np.array([_middle(response.peak) for _, response in asked])
    free = sum(response.at(middle) for (_, response), middle in zip(asked, middles, strict=True))
    n_positions = len({position for position, _ in asked})
    found: list[tuple[tuple[float, ...], int]] = []
    for n_anchors in sorted({*range(1, min(_LONGEST, n_positions) + 1), n_positions}):
        grids = _GRIDS if n_anchors < n_positions else _grids_between(n_positions)
        anchors, count = _fit(asked, middles, n_anchors, free, grids)
        found.append((anchors, free - count))
        if free - count <= BY_CHANCE:
            break
    return min(found, key=lambda one: one[1] + BY_CHANCE * len(one[0]))


def _middle(peak: tuple[float, float]) -> float:
    return (peak[0] + peak[1]) / 2 if np.isfinite(peak).all() else 0.5


def _grids_between(n_positions: int) -> list[float]:
    """Grids of values at every position: of a longer list, these lie between its round anchors."""
    between = [grid / (n_positions - 1) for grid in _GRIDS[:2]] if n_positions > 1 else []
    return sorted({*_GRIDS, *between}, reverse=True)


def _fit(
    asked: Sequence[tuple[float, Response]],
    middles: F64,
    n_anchors: int,
    free: int,
    grids: Sequence[float],
) -> tuple[tuple[float, ...], int]:
    """Anchors by least squares, narrow peaks weighing more; then the coarsest grid that will do."""
    shares = np.stack([anchor_shares(n_anchors, position) for position, _ in asked])
    widths = np.array([response.peak[1] - response.peak[0] for _, response in asked])
    weights = 1 / np.clip(widths, 1e-9, 1e9)
    weights /= weights.max()
    solved = np.linalg.lstsq(shares * weights[:, None], middles * weights, rcond=1e-10)[0]
    exact = np.asarray(np.round(solved, _DIGITS), dtype=np.float64)
    tried = [(exact, _count(asked, shares, exact))]
    if tried[0][1] >= _HOPELESS_BELOW * free:
        for grid in grids:
            tried.insert(-1, _on_grid(asked, shares, exact, grid))
            if tried[-2][1] >= free:
                break
    most = max(count for _, count in tried)
    anchors, count = next(one for one in tried if one[1] >= most - BY_CHANCE)
    return tuple(float(round(anchor, _DIGITS)) for anchor in anchors), count


def _count(asked: Sequence[tuple[float, Response]], shares: F64, anchors: F64) -> int:
    values = shares @ anchors
    return sum(response.at(value) for (_, response), value in zip(asked, values, strict=True))


def _on_grid(
    asked: Sequence[tuple[float, Response]], shares: F64, anchors: F64, grid: float
) -> tuple[F64, int]:
    """Anchors rounded to a grid, each moved by a step of it while that wins words."""
    anchors = np.round(anchors / grid) * grid
    for j in range(len(anchors)):
        near = [one for one, share in zip(asked, shares[:, j], strict=True) if share > 0]
        rows = shares[shares[:, j] > 0]
        moved = [anchors + step * grid * (np.arange(len(anchors)) == j) for step in (0, -1, 1)]
        counts = [_count(near, rows, one) for one in moved]
        anchors = moved[int(np.argmax(counts))]
    return anchors, _count(asked, shares, anchors)


def _cells(dtype: str, words: F32, noise: float) -> tuple[F64, F64]:
    """Between which numbers everything rounds to these words: halfway to their neighbours."""
    values = words.astype(np.float64)
    wider = noise * np.abs(values)
    return (
        (values + _neighbour(dtype, words, -1)) / 2 - wider,
        (values + _neighbour(dtype, words, 1)) / 2 + wider,
    )


def _neighbour(dtype: str, words: F32, way: int) -> F64:
    """The next word of a dtype, upwards or downwards; infinite beyond the largest."""
    towards = np.float32(np.inf * way)
    if dtype == "F16":
        return np.nextafter(words.astype(np.float16), np.float16(towards)).astype(np.float64)
    if dtype != "BF16":
        return np.nextafter(words, towards).astype(np.float64)
    bits = words.view(np.int32).astype(np.int64)
    ordered = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits) + (way << 16)
    magnitude = np.abs(ordered).astype(np.uint32) | np.where(ordered < 0, 0x80000000, 0).astype(
        np.uint32
    )
    return round_to("BF16", magnitude.view(np.float32)).astype(np.float64)
