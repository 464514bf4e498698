"""One pass over values: what every run of up to 1,024 values of a row tells.

A *segment* is columns ``[1024 j, 1024 (j+1))`` of one row. Everything that feeds SimHash is exact
there, so that all devices agree to the bit, in whatever order they add:

- a segment is scaled by a power of two, so that its largest magnitude lies in [2¹², 2¹³);
- ``q`` are the scaled values rounded to integers; their sum and the sum of their magnitudes stay
  below 2²⁴ and are exact in float32;
- ``m`` is the rounded mean of ``q``, ``g`` 16 over the standard deviation that the mean magnitude
  would have under a normal law;
- ``z = round((y - m) g)``, cut at ±127: one subtraction and one product, each rounded once (IEEE),
  with nothing that a compiler may fuse.

Moments come from the same ``d = y - m`` in float32, per segment; they are merged in float64
(:mod:`lineage.weights.sketch.tally`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["SEGMENT", "STATISTICS", "measure_segments", "scale_of", "standardising_factor"]

SEGMENT = 1024
"""Values of one segment."""
TOP_BITS = 13
"""Scaled magnitudes stay below two to this."""
MAX_SHIFT = 100
"""Largest exponent of the scale: what is subnormal then cannot reach ``z``, flushed or not."""
CUT = 127.0
UNITS = 16.0
"""Units of ``z`` per standard deviation."""
STATISTICS = ("largest", "mean", "shift", "sum1", "sum2", "sum3", "sum4")
"""Columns of the statistics: largest magnitude of the finite values, ``m``, a further shift, sums
of powers of ``d`` less that shift."""


def scale_of(largest: Tensor) -> Tensor:
    """The power of two that brings each (finite, float32) magnitude into [2¹², 2¹³)."""
    exponent = (largest.view(torch.int32) >> 23) - 126
    shift = (TOP_BITS - exponent).clamp(max=MAX_SHIFT)
    return ((shift + 127) << 23).view(torch.float32)


def standardising_factor(n: int) -> float:
    """Multiplied with 1 / sum of magnitudes of `n` values, gives ``g``."""
    return UNITS * n * math.sqrt(2 / math.pi)


def measure_segments(
    values: Tensor, signs: Tensor, lazy: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Statistics and standardised integers of segments of one length.

    Parameters
    ----------
    values
        Segments × values, float32, contiguous; overwritten.
    signs
        Factor of each segment's ``z``: ±1, or 0 for segments that are to stand aside.
    lazy
        Whether to look first if anything is zero or no finite number, and count only then. Spares
        passes; a device that computes asynchronously would have to wait for the answer.

    Returns
    -------
    statistics
        Segments × 7 (:data:`STATISTICS`), float32. What is no finite number counts as 0 here.
    counts
        Segments × 3, int64: zeros, NaN, infinities. None: there are none.
    standardised
        ``z`` times the signs, segments × values, float32 holding integers: `values`, overwritten.
    """
    n = values.shape[1]
    scratch = values.abs()
    largest = scratch.amax(1)
    smallest = scratch.amin(1)
    counts = None
    if not lazy or not bool((smallest > 0).all() & largest.isfinite().all()):
        counts = torch.stack(
            [(values == 0).sum(1), values.isnan().sum(1), values.isinf().sum(1)], dim=1
        )
        values.nan_to_num_(0.0, 0.0, 0.0)
        largest = torch.abs(values, out=scratch).amax(1)
    values *= scale_of(largest)[:, None]
    torch.round(values, out=scratch)
    mean = (scratch.sum(1) * (1.0 / n)).round_()
    magnitude = scratch.abs_().sum(1)
    values -= mean[:, None]
    powers = _power_sums(values, scratch)
    # The integer m is off by up to half a unit: too much where the spread is a fraction of that.
    shift = powers[0] / n
    near = powers[1] >= 5 * n * shift * shift
    if lazy and bool(near.all()):
        shift = torch.zeros_like(shift)
    else:
        shift.masked_fill_(near, 0)
        powers = _power_sums(torch.sub(values, shift[:, None]), scratch)
    statistics = torch.stack([largest, mean, shift, *powers], dim=1)
    # Tensor by tensor: torch would turn number / tensor into a reciprocal and a product.
    factor = torch.full_like(magnitude, standardising_factor(n)) / magnitude
    factor.masked_fill_(magnitude == 0, 0.0)
    factor *= signs
    values *= factor[:, None]
    values.round_().clamp_(-CUT, CUT)
    return statistics, counts, values


def _power_sums(values: Tensor, scratch: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sums of the first four powers of each row."""
    first = values.sum(1)
    root2 = torch.linalg.vector_norm(values, dim=1)
    torch.mul(values, values, out=scratch)
    root4 = torch.linalg.vector_norm(scratch, dim=1)
    return first, root2 * root2, scratch.mul_(values).sum(1), root4 * root4
