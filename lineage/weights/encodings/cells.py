"""Rounding cells: which values would have been given the stored code.

Whoever quantises a model searches scales as he likes (least squares, an importance matrix, a
calibration set), but at the end rounds every value to the nearest level that the chosen scale
allows. So, given the stored scales, the original's values lie in the cells around the stored
levels, all of them, and another model's do not. That holds for every scalar code, whatever routine
chose the scale; it says nothing for codes that stand for several values at once (``IQ1`` to
``IQ3``), whose cells are no intervals.

Levels of GGML blocks are read off the reference decoder: a block whose code bits are all set to one
code decodes to the level of that code at every place. Codes of the K-quants, of ``MXFP4`` and
``NVFP4`` are assigned with the scale as it is stored; those of the older types and of ``IQ4_*``
before it is rounded to float16, so their cells reach that rounding further. [1]_

References
----------
.. [1] ``ggml-quants.c`` of github.com/ggml-org/llama.cpp: ``quantize_row_*``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.weights.encodings.ggml import decode_ggml, ggml_blocks

__all__ = ["Cells", "ggml_cells"]

F32 = NDArray[np.float32]

_HALF = 2.0**-11
"""Relative error of rounding to float16."""
_TINY_HALF = 2.0**-25
"""Largest absolute error of rounding to float16 below its normal range, 2⁻¹⁴."""
_TWO_HALVES = 3 * _HALF
"""Where a minimum is rounded too: by itself, and by the range that the scale spans above it."""
_SINGLE = 1e-6
"""Relative error of the few float32 operations between a value and its code."""


@dataclass(frozen=True, slots=True)
class Cells:
    """One interval for every value; its ends belong to it.

    Attributes
    ----------
    low, high
        Rows × columns; infinite where the writer clamps. NaN: nothing is asked of this value,
        since every value would have been given its code, or its scale is no number.
    """

    low: F32
    high: F32

    def count(self, values: F32) -> tuple[int, int]:
        """How many of `values` lie in their cell, of how many that could be asked.

        Values that are no finite numbers are not asked.
        """
        asked = np.isfinite(values) & ~np.isnan(self.low)
        with np.errstate(invalid="ignore"):
            inside = (values >= self.low) & (values <= self.high)  # NaN compares false
        return int(np.count_nonzero(inside & asked)), int(np.count_nonzero(asked))


@dataclass(frozen=True, slots=True)
class _Plane:
    """Bytes ``[start, stop)`` of a block hold `bits` bits of every code, from bit `shift` on."""

    start: int
    stop: int
    bits: int
    shift: int = 0

    def byte(self, code: int) -> int:
        """The byte in which every code is `code`."""
        part = code >> self.shift & (1 << self.bits) - 1
        return part * (0xFF // ((1 << self.bits) - 1))


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the codes of a block lie, and how levels follow from them.

    Attributes
    ----------
    lowest, highest
        Codes at the ends of the range, of evenly spaced levels; `highest` 0: levels stand in a
        table of sixteen.
    scale_error
        Relative error of the scale that codes were assigned with.
    """

    planes: tuple[_Plane, ...]
    highest: int
    scale_error: float = _SINGLE
    lowest: int = 0


_LAYOUTS = {
    "Q4_0": _Layout((_Plane(2, 18, 4),), 15, _HALF),
    "Q4_1": _Layout((_Plane(4, 20, 4),), 15, _TWO_HALVES),
    "Q5_0": _Layout((_Plane(6, 22, 4), _Plane(2, 6, 1, 4)), 31, _HALF),
    "Q5_1": _Layout((_Plane(8, 24, 4), _Plane(4, 8, 1, 4)), 31, _TWO_HALVES),
    "Q8_0": _Layout((_Plane(2, 34, 8),), 0x7F, _HALF, lowest=0x80),
    "Q2_K": _Layout((_Plane(16, 80, 2),), 3),
    "Q3_K": _Layout((_Plane(32, 96, 2), _Plane(0, 32, 1, 2)), 7),
    "Q4_K": _Layout((_Plane(16, 144, 4),), 15),
    "Q5_K": _Layout((_Plane(48, 176, 4), _Plane(16, 48, 1, 4)), 31),
    "Q6_K": _Layout((_Plane(0, 128, 4), _Plane(128, 192, 2, 4)), 63),
    "TQ2_0": _Layout((_Plane(0, 64, 2),), 2, _HALF),
    "IQ4_NL": _Layout((_Plane(2, 18, 4),), 0, _HALF),
    "IQ4_XS": _Layout((_Plane(8, 136, 4),), 0, _HALF),
    "MXFP4": _Layout((_Plane(1, 17, 4),), 0),
    "NVFP4": _Layout((_Plane(4, 36, 4),), 0),
}
"""Block types whose codes stand for one value each."""
_N_TABLE = 16
_TABLE_REACH = 127
"""Largest level of the tables, in scales."""
_BLOCKS_AT_ONCE = 512


def ggml_cells(dtype: str, data: bytes) -> Cells | None:
    """Cells of the values of whole blocks, flat; None where codes stand for several values.

    Raises
    ------
    MalformedError
        If the dtype is unknown or `data` is not a whole number of blocks.
    """
    blocks = ggml_blocks(dtype, data)
    layout = _LAYOUTS.get(dtype)
    if layout is None:
        return None
    low: list[F32] = [np.zeros(0, np.float32)]
    high: list[F32] = [np.zeros(0, np.float32)]
    for first in range(0, len(blocks), _BLOCKS_AT_ONCE):
        some = blocks[first : first + _BLOCKS_AT_ONCE]
        values = decode_ggml(dtype, some.tobytes())
        found = (_tabulated if layout.highest == 0 else _even)(dtype, layout, some, values)
        low.append(found.low)
        high.append(found.high)
    return Cells(np.concatenate(low), np.concatenate(high))


def _levels(dtype: str, layout: _Layout, blocks: NDArray[np.uint8], code: int) -> F32:
    """The level of `code` at the place of every value."""
    filled = blocks.copy()
    for plane in layout.planes:
        filled[:, plane.start : plane.stop] = plane.byte(code)
    return decode_ggml(dtype, filled.tobytes())


def _even(dtype: str, layout: _Layout, blocks: NDArray[np.uint8], values: F32) -> Cells:
    """Cells of evenly spaced levels; half a step to either side, open at the ends."""
    one_end, other_end = (
        _levels(dtype, layout, blocks, code) for code in (layout.lowest, layout.highest)
    )
    n_steps = (layout.highest - layout.lowest) % 256
    with np.errstate(invalid="ignore", over="ignore"):
        least, most = np.minimum(one_end, other_end), np.maximum(one_end, other_end)
        step = ((most - least) / n_steps).astype(np.float32)
        half = step / 2
        slack = _slack(layout, least, most, n_steps)
        below, above = np.float32(-np.inf), np.float32(np.inf)
        low = np.where(values < least + half, below, values - half - slack)
        high = np.where(values > most - half, above, values + half + slack)
    return _asked(low, high, step)


def _tabulated(dtype: str, layout: _Layout, blocks: NDArray[np.uint8], values: F32) -> Cells:
    """Cells that end halfway to the next levels of a table."""
    levels = np.stack([_levels(dtype, layout, blocks, code) for code in range(_N_TABLE)])
    with np.errstate(invalid="ignore", over="ignore"):
        below = np.where(levels < values, levels, np.float32(-np.inf)).max(axis=0)
        above = np.where(levels > values, levels, np.float32(np.inf)).min(axis=0)
        least, most = levels.min(axis=0), levels.max(axis=0)
        slack = _slack(layout, least, most, _TABLE_REACH)
        low, high = (values + below) / 2 - slack, (values + above) / 2 + slack
    return _asked(low, high, most - least)


def _slack(layout: _Layout, least: F32, most: F32, n_scales: int) -> F32:
    """What the error of the scale makes at the level farthest out, `n_scales` scales away."""
    widest = np.maximum(np.abs(least), np.abs(most))
    relative = widest * np.float32(layout.scale_error)
    if layout.scale_error == _SINGLE:
        return relative
    slack: F32 = np.maximum(relative, np.float32(_TINY_HALF * (n_scales + 1)))
    return slack


def _asked(low: F32, high: F32, spread: F32) -> Cells:
    told = np.isfinite(spread) & (spread > 0)
    nothing = np.float32(np.nan)
    return Cells(np.where(told, low, nothing), np.where(told, high, nothing))
