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

import numpy as np
import torch
from torch import Tensor

from lineage.weights.sketch.scratch import Scratch

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
    values: Tensor, signs: Tensor, scratch: Scratch
) -> tuple[Tensor, Tensor, Tensor]:
    """Statistics and standardised integers of segments of one length.

    Parameters
    ----------
    values
        Segments × values, float32, contiguous; overwritten.
    signs
        Factor of each segment's ``z``: ±1, or 0 for segments that are to stand aside.
    scratch
        Working memory.

    Returns
    -------
    statistics
        Segments × 7 (:data:`STATISTICS`), float32. What is no finite number counts as 0 here.
    counts
        Segments × 3, int64: zeros, NaN, infinities.
    standardised
        ``z`` times the signs, segments × values, float32 holding integers: `values`, overwritten.
    """
    # The CPU looks first if rare work is due; other devices would have to wait for the answer.
    lazy = values.device.type == "cpu"
    n = values.shape[1]
    second = scratch.take("second", values.shape, torch.float32)
    counts = torch.zeros((len(values), 3), dtype=torch.int64, device=values.device)
    counts[:, 0] = _count_zeros(values, scratch)
    largest = _largest(values)
    if not lazy or not bool(largest.isfinite().all()):
        counts[:, 1] = values.isnan().sum(1)
        counts[:, 2] = values.isinf().sum(1)
        values.nan_to_num_(0.0, 0.0, 0.0)
        largest = _largest(values)
    values *= scale_of(largest)[:, None]
    torch.round(values, out=second)
    mean = (second.sum(1) * (1.0 / n)).round_()
    magnitude = second.abs_().sum(1)
    values -= mean[:, None]
    powers = _power_sums(values, second)
    # The integer m is off by up to half a unit: too much where the spread is a fraction of that.
    shift = powers[:, 0] / n
    near = powers[:, 1] >= 5 * n * shift * shift
    shift.masked_fill_(near, 0)
    if not lazy:
        powers = _power_sums(values - shift[:, None], second)
    elif not bool(near.all()):
        far = ~near
        rest = values[far] - shift[far, None]
        powers[far] = _power_sums(rest, torch.empty_like(rest))
    statistics = torch.cat([torch.stack([largest, mean, shift], 1), powers], 1)
    # Tensor by tensor: torch would turn number / tensor into a reciprocal and a product.
    factor = torch.full_like(magnitude, standardising_factor(n)) / magnitude
    factor.masked_fill_(magnitude == 0, 0.0)
    factor *= signs
    values *= factor[:, None]
    values.round_().clamp_(-CUT, CUT)
    return statistics, counts, values


def _largest(values: Tensor) -> Tensor:
    """Largest magnitude of each row; no finite number where there is any such."""
    return torch.maximum(values.amax(1), -values.amin(1)).abs_()


def _count_zeros(values: Tensor, scratch: Scratch) -> Tensor:
    """How many of each row's up to 1,024 values are zero, int64."""
    if values.device.type != "cpu":
        return (values == 0).sum(1)
    mask = scratch.take("second", values.shape, torch.bool)
    np.equal(values.numpy(), 0, out=mask.numpy())  # ten times faster than torch's
    if values.shape[1] % 8:
        return mask.sum(1)
    # Eight columns at once: each byte of the sum counts up to 128.
    return mask.view(torch.int64).sum(1, keepdim=True).view(torch.uint8).sum(1)


def _power_sums(values: Tensor, squares: Tensor) -> Tensor:
    """Sums of the first four powers of each row, rows × 4; overwrites `squares`."""
    torch.mul(values, values, out=squares)
    third, fourth = _dot(squares, values), _dot(squares, squares)
    return torch.stack([values.sum(1), squares.sum(1), third, fourth], 1)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """Products of rows with rows."""
    if first.device.type == "cpu":  # one call for each row of BLAS, without the single products
        return torch.from_numpy(np.vecdot(first.numpy(), second.numpy()))
    return torch.linalg.vecdot(first, second)  # type: ignore[no-any-return]
