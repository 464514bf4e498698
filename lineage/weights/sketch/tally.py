"""What is known of many tensors so far: digests, moments and projections, added to piece by piece.

Moments of pieces are merged about the mean of all of them (Chan, Golub, LeVeque 1983; Pébay 2008),
in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lineage.weights.sketch.digest import place_lanes
from lineage.weights.sketch.segments import STATISTICS, scale_of

__all__ = ["Moments", "Segments", "Tally", "merge_moments"]

_FLUSH = 1 << 14
"""Segments and rows whose figures are put by before they are merged: many small steps in one."""


@dataclass(frozen=True)
class Moments:
    """Counts, means and central power sums of many sets of values; one set an entry.

    Attributes
    ----------
    n
        Finite values, float64.
    mean, m2, m3, m4
        Mean and sums of powers of the distances from it, float64; 0 where there are no values.
    """

    n: Tensor
    mean: Tensor
    m2: Tensor
    m3: Tensor
    m4: Tensor

    @staticmethod
    def none(n_sets: int, device: torch.device) -> Moments:
        """Sets without values."""
        zeros = torch.zeros((5, n_sets), dtype=torch.float64, device=device)
        return Moments(*zeros.unbind())


def merge_moments(parts: Moments, slots: Tensor, n_sets: int) -> Moments:
    """Moments of the unions of the parts that have one slot.

    Parameters
    ----------
    parts
        Moments of disjoint sets.
    slots
        Which of the `n_sets` unions each part belongs to, int64.
    """

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(n_sets).index_add_(0, slots, values)

    n = total(parts.n)
    divisor = n.clamp(min=1)
    mean = total(parts.n * parts.mean) / divisor
    away = parts.mean - mean[slots]
    m2 = parts.m2 + parts.n * away**2
    m3 = parts.m3 + 3 * away * parts.m2 + parts.n * away**3
    m4 = parts.m4 + 4 * away * parts.m3 + 6 * away**2 * parts.m2 + parts.n * away**4
    return Moments(n, mean, total(m2), total(m3), total(m4))


@dataclass(frozen=True)
class Segments:
    """Statistics of the segments of some rows, all of one width.

    Attributes
    ----------
    statistics, counts
        Of :func:`~lineage.weights.sketch.segments.measure_segments`.
    slots, norms
        Tensor of each row, and the place of its norm, int64.
    each
        Segments of a row.
    width
        Values of a segment.
    """

    statistics: Tensor
    counts: Tensor
    slots: Tensor
    norms: Tensor
    each: int
    width: int


def squares_of(statistics: Tensor, width: Tensor) -> Tensor:
    """Sum of squares of each segment, float64; arguments as for :func:`moments_of`."""
    _, mean, shift, sum1, sum2 = statistics.double()[:, :5].unbind(1)
    mean = mean + shift
    scaled = (sum2 + 2 * mean * sum1 + width * mean**2).clamp(min=0)
    return scaled / scale_of(statistics[:, 0]).double() ** 2


def moments_of(statistics: Tensor, counts: Tensor, width: Tensor) -> Moments:
    """Moments of segments from their power sums.

    Parameters
    ----------
    statistics
        Segments × 7 of :func:`~lineage.weights.sketch.segments.measure_segments`.
    counts
        Segments × 3, int64.
    width
        Values of each segment, those included that are no finite number.
    """
    unit = 1 / scale_of(statistics[:, 0]).double()
    _, mean, further, s1, s2, s3, s4 = statistics.double().unbind(1)
    shift = mean + further
    # What is no finite number was counted as 0, which is -shift from it.
    absent = (counts[:, 1] + counts[:, 2]).double()
    n = width - absent
    s1, s2 = s1 + absent * shift, s2 - absent * shift**2
    s3, s4 = s3 + absent * shift**3, s4 - absent * shift**4
    off = s1 / n.clamp(min=1)
    m2 = (s2 - off * s1).clamp(min=0)
    m3 = s3 - 3 * off * s2 + 2 * off**2 * s1
    m4 = (s4 - 4 * off * s3 + 6 * off**2 * s2 - 3 * off**3 * s1).clamp(min=0)
    mean = torch.where(n > 0, shift + off, 0.0)
    return Moments(n, mean * unit, m2 * unit**2, m3 * unit**3, m4 * unit**4)


@dataclass
class Tally:
    """Figures of `n_tensors` tensors, on one device.

    Attributes
    ----------
    counts
        Tensors × 3, int64: zeros, NaN, infinities.
    largest
        Largest finite magnitude, float32.
    moments
        Of the finite values.
    lanes
        Tensors × 2, int64: sums of the digest.
    squares
        Sums of squares of `n_norms` rows, float64.
    """

    n_tensors: int
    n_norms: int
    device: torch.device
    counts: Tensor = field(init=False)
    largest: Tensor = field(init=False)
    moments: Moments = field(init=False)
    lanes: Tensor = field(init=False)
    squares: Tensor = field(init=False)
    _segments: list[Segments] = field(default_factory=list)
    _blocks: list[tuple[Tensor, Tensor, Tensor, int]] = field(default_factory=list)
    _waiting: int = 0

    def __post_init__(self) -> None:
        self.counts = torch.zeros((self.n_tensors, 3), dtype=torch.int64, device=self.device)
        self.largest = torch.zeros(self.n_tensors, device=self.device)
        self.moments = Moments.none(self.n_tensors, self.device)
        self.squares = torch.zeros(self.n_norms, dtype=torch.float64, device=self.device)
        self.lanes = torch.zeros((self.n_tensors, 2), dtype=torch.int64, device=self.device)

    def add_segments(self, segments: Segments) -> None:
        """Take statistics of segments."""
        self._segments.append(segments)
        self._grow(len(segments.statistics))

    def add_blocks(self, lanes: Tensor, rows: Tensor, slots: Tensor, first_block: int) -> None:
        """Take the lanes of rows (rows × blocks × 2) that begin with block `first_block`."""
        self._blocks.append((lanes, rows, slots, first_block))
        self._grow(lanes.shape[0] * lanes.shape[1])

    def _grow(self, by: int) -> None:
        self._waiting += by
        if self._waiting > _FLUSH:
            self.settle()

    def settle(self) -> None:
        """Merge what was put by."""
        if self._segments:
            self._merge_segments()
        for first in sorted({block[3] for block in self._blocks}):
            self._merge_blocks(first)
        self._segments, self._blocks, self._waiting = [], [], 0

    def _merge_segments(self) -> None:
        parts = self._segments
        statistics = torch.cat([part.statistics for part in parts])
        slots = torch.cat([part.slots.repeat_interleave(part.each) for part in parts])
        norms = torch.cat([part.norms.repeat_interleave(part.each) for part in parts])
        counts = torch.cat([part.counts for part in parts])
        width = torch.cat([
            statistics.new_full((len(part.statistics),), part.width, dtype=torch.float64)
            for part in parts
        ])  # fmt: skip
        self.counts.index_add_(0, slots, counts)
        self.largest.scatter_reduce_(0, slots, statistics[:, STATISTICS.index("largest")], "amax")
        self.squares.index_add_(0, norms, squares_of(statistics, width))
        new = moments_of(statistics, counts, width)
        both = Moments(*(torch.cat([getattr(self.moments, name), getattr(new, name)])
                         for name in ("n", "mean", "m2", "m3", "m4")))  # fmt: skip
        own = torch.arange(self.n_tensors, device=self.device)
        self.moments = merge_moments(both, torch.cat([own, slots]), self.n_tensors)

    def _merge_blocks(self, first: int) -> None:
        for width in {block[0].shape[1] for block in self._blocks if block[3] == first}:
            same = [b for b in self._blocks if b[3] == first and b[0].shape[1] == width]
            lanes, rows, slots = (
                torch.cat(parts) for parts in zip(*(b[:3] for b in same), strict=True)
            )
            self.lanes.index_add_(0, slots, place_lanes(lanes, rows, first))
