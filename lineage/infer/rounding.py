"""Which of two models came first, told by how floating-point grids round.

Training starts from stored words: from the *centres* of the cells to which a number type rounds.
Just below a power of two the cells are half as wide as above it, and the cell of the power itself
is one and a half of the narrow ones. Of weights that follow any smooth density, three are stored
at the power for every two at the next word below. A small step carries a word out of its cell
only if it exceeds half a cell, and that is equally likely for both: so more words leave the power
downwards than enter it from below, in the ratio

    ``r = 1.5 · (S(½) − S(1½)) / (S(½) − S(2))``,

where ``S(t)`` is the chance that a step is longer than ``t`` narrow cells. Seen from the child, the
ratio is ``1/r``. Large steps forget where they began (r → 1); steps of less than a cell, as in most
fine-tunes of bfloat16 weights, do not (r → 1.5). ``S`` is measured on the same two models: half a
cell, one and a half, and two of the narrow cells are the first thresholds of the binades below
and above.

Weights that grow or shrink together (weight decay) move words across powers too. They move those
just below the power as well, where all cells are equal: the ratio of steps down to steps up is
counted there and taken off.

What is told is which of the two lies nearer to words that training started from. Of a parent and
its child that is the parent; of two siblings it is the one that moved less, and a mean of two
models looks older than both: who asks must know that the two are one step apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["RoundingArrow", "rounding_arrow"]

_MANTISSA_BITS = {"BF16": 7, "F16": 10}
_F32_MANTISSA_BITS = 23
_MIN_WORDS = 50
_WIDE_TO_NARROW = 1.5
_TEMPER = 0.5
"""Words of one matrix move together: the counts are worth about half of independent ones."""

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RoundingArrow:
    """Words that crossed a power of two by one step, and what they say.

    `log_odds` is positive where the first model is the older; 0 where nothing can be told.
    """

    n_left: int
    n_entered: int
    log_odds: float


def rounding_arrow(
    parent: Sequence[NDArray[np.float32]], child: Sequence[NDArray[np.float32]], dtype: str
) -> RoundingArrow:
    """Ask the grid whether `child` was trained from `parent`, or the other way round.

    Parameters
    ----------
    parent, child
        Values of the same tensors of both, as float32.
    dtype
        The number type that both are stored in. Only ``BF16`` and ``F16`` have words coarse enough;
        values off its grid count for nothing.

    Returns
    -------
    RoundingArrow
        Swapping the models changes the sign of `log_odds` and swaps the counts.
    """
    bits = _MANTISSA_BITS.get(dtype)
    if bits is None:
        return RoundingArrow(0, 0, 0.0)
    n_left = n_entered = 0
    log_odds = 0.0
    for before, after in zip(parent, child, strict=True):
        left, entered, odds = _one_tensor(before, after, bits)
        n_left, n_entered, log_odds = n_left + left, n_entered + entered, log_odds + odds
    return RoundingArrow(n_left, n_entered, _TEMPER * log_odds)


def _one_tensor(
    before: NDArray[np.float32], after: NDArray[np.float32], bits: int
) -> tuple[int, int, float]:
    p, p_negative, p_exact = _words(before, bits)
    c, c_negative, c_exact = _words(after, bits)
    usable = (p_negative == c_negative) & p_exact & c_exact & (p > 0) & (c > 0)
    p, c = p[usable], c[usable]
    n_binades = int(max(p.max(initial=0), c.max(initial=0)) >> bits) + 3
    left = _at_powers(p, bits) & (c == p - 1)
    entered = _at_powers(c, bits) & (p == c - 1)
    n_left = np.bincount(p[left] >> bits, minlength=n_binades)
    n_entered = np.bincount(c[entered] >> bits, minlength=n_binades)
    odds = 0.0
    for binade in map(int, np.flatnonzero(n_left + n_entered)):
        ratio = _log_ratio(p, c, binade, bits)
        drift = _log_drift(p, c, binade, bits)
        # Chances that a word which crosses goes down: if `before` is the older, and if it is not.
        older, younger = expit(drift + ratio), expit(drift - ratio)
        odds += n_left[binade] * np.log(older / younger)
        odds += n_entered[binade] * np.log((1 - older) / (1 - younger))
    return int(n_left.sum()), int(n_entered.sum()), float(odds)


def _words(
    values: NDArray[np.float32], bits: int
) -> tuple[I64, NDArray[np.bool_], NDArray[np.bool_]]:
    """Magnitudes as integers that count the grid, signs, and whether values lie on the grid."""
    words = np.ascontiguousarray(values, dtype=np.float32).reshape(-1).view(np.uint32)
    cut = _F32_MANTISSA_BITS - bits
    magnitude = (words & np.uint32(0x7FFF_FFFF)).astype(np.int64)
    return magnitude >> cut, words >> 31 != 0, magnitude & ((1 << cut) - 1) == 0


def _at_powers(words: I64, bits: int) -> NDArray[np.bool_]:
    return np.asarray(words & ((1 << bits) - 1) == 0)


def _log_ratio(p: I64, c: I64, binade: int, bits: int) -> float:
    """``log r`` at the power of two where a binade begins; symmetric in the two models."""
    shares = []
    for other, n_steps in ((binade - 1, 1), (binade - 1, 2), (binade + 1, 1)):
        inside = (p >> bits == other) & (c >> bits == other)
        moved = np.abs(p[inside] - c[inside])
        if len(moved) < _MIN_WORDS:
            if other < binade:
                return 0.0
            shares.append(0.0)
        else:
            shares.append(float((moved >= n_steps).mean()))
    half, one_and_half, two = shares
    down = half - one_and_half
    up = half - min(two, one_and_half)
    if down <= 0 or up <= 0:
        return 0.0
    return float(np.log(np.clip(_WIDE_TO_NARROW * down / up, 1.0, _WIDE_TO_NARROW)))


def _log_drift(p: I64, c: I64, binade: int, bits: int) -> float:
    """Log-ratio of single steps down to single steps up in the upper quarter of the binade below.

    Cells are equal there, so only a common drift makes them differ.
    """
    quarter = 1 << (bits - 2)
    top = binade << bits
    inside = (np.minimum(p, c) >= top - quarter) & (np.maximum(p, c) < top)
    down, up = int((inside & (c == p - 1)).sum()), int((inside & (p == c - 1)).sum())
    return float(np.log((down + 1) / (up + 1)))
