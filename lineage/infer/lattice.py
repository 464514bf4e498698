"""Which of two models came first, where one is stored more finely than the other.

Training starts from stored words. If it started from the coarser of the two, the finer one's
values lie about the coarse *lattice*, each as far from its word as training carried it; if it
started from the finer one, they know nothing of the lattice, since the coarse words were rounded
afterwards. With ``u`` the distance of a fine value from the coarse word, in steps of the coarse
grid, ``φ = mean cos 2πu`` is 0 in the second case, and in the first the characteristic function
of training's steps, ``exp(−2π² mean u²)`` if they are Gaussian. Large weights have wide steps, so
the two cases are asked apart for every tensor and power of two, and what cannot tell stays silent.

A finer model that was itself trained, or cast, from some other coarse one lies about *that* one's
words and looks younger than its children. Then it lies about the lattice also where it is more
than half a step from the coarse word, which a step of training does not explain: such models are
not asked. As with the rounding arrow (:mod:`.rounding`), only the two ends of one step may be.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lineage.infer.methods.masks import spacing

__all__ = ["lattice_log_odds"]

_COARSE = ("BF16", "F16")
_SMALLEST_BINADE = -14
"""Of F16; its smaller words are as coarse as those of BF16."""
_LEAST_WORDS = 50
_SIGMAS = 3.0
_TEMPER = 0.5
"""Words of one matrix move together: they are worth about half as many independent ones."""


def lattice_log_odds(
    fine: Sequence[NDArray[np.float32]], coarse: Sequence[NDArray[np.float32]], dtype: str
) -> float:
    """Log-odds that the finer model is the parent of the coarser one, rather than its child.

    Parameters
    ----------
    fine, coarse
        Values of the same tensors of both, as float32.
    dtype
        The number type that `coarse` is stored in, ``BF16`` or ``F16``.

    Returns
    -------
    float
        0 where nothing can be told: steps longer than the grid's, too few words, another type.
    """
    if dtype not in _COARSE:
        return 0.0
    log_odds = aligned = 0.0
    n_far = 0
    for one, other in zip(fine, coarse, strict=True):
        u, binade = _steps_apart(one.ravel(), other.ravel(), dtype)
        far = np.cos(2 * np.pi * u[np.abs(u) >= 1 / 2])
        aligned, n_far = aligned + float(far.sum()), n_far + len(far)
        log_odds += _of_tensor(u, binade)
    if aligned > _SIGMAS * np.sqrt(n_far / 2):
        return 0.0
    return log_odds


def _steps_apart(
    fine: NDArray[np.float32], coarse: NDArray[np.float32], dtype: str
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Distances of fine values from coarse words in steps of the grid, and the words' binades.

    Values of other signs or binades are left out: another grid holds there.
    """
    _, binade = np.frexp(coarse)
    _, other = np.frexp(fine)
    usable = (binade == other) & (binade - 1 >= _SMALLEST_BINADE)
    usable &= np.isfinite(coarse) & np.isfinite(fine)
    usable &= (coarse != 0) & (np.sign(coarse) == np.sign(fine))
    binade, fine, coarse = binade[usable], fine[usable], coarse[usable]
    return (fine.astype(np.float64) - coarse) / spacing(coarse, dtype), binade


def _of_tensor(u: NDArray[np.float64], binade: NDArray[np.int32]) -> float:
    """Log-likelihood ratio of Gaussian sample means of ``cos 2πu``, of variance 1/2 each."""
    if not len(u):
        return 0.0
    first = int(binade.min())
    n, cosines, squares = (
        np.bincount(binade - first, weights) for weights in (None, np.cos(2 * np.pi * u), u**2)
    )
    asked = n >= _LEAST_WORDS
    n, seen = n[asked], cosines[asked] / n[asked]
    expected = np.exp(-2 * np.pi**2 * squares[asked] / n)
    return float((_TEMPER * n * ((seen - expected) ** 2 - seen**2)).sum())
