"""Hill numbers and other plain statistics of the counts of categories.

A population of n models falls into S categories (families, licences, languages, architectures)
with counts x_i. Its diversity of order q is the number of equally common categories that would
be as diverse, ``D_q = (Σ p_i^q)^{1/(1−q)}`` (Hill 1973): q = 0 counts categories, q = 1 is
``exp(Shannon)``, q = 2 is ``1/Σ p²``, q = ∞ is ``1/max p``. Counts are arrays (..., S) of which the
last axis is the categories.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import xlogy

__all__ = [
    "as_counts",
    "chao1",
    "fisher_alpha",
    "hill_number",
    "simpson",
]

Floats = NDArray[np.float64]


def as_counts(counts: Floats) -> Floats:
    """Counts as floating values, shape (..., S).

    Raises
    ------
    ValueError
        If there is no axis of categories, or a count is negative or not finite.
    """
    x = np.asarray(counts, dtype=float)
    if x.ndim == 0 or not np.isfinite(x).all() or (x < 0).any():
        raise ValueError("counts must be finite and not negative, the last axis the categories")
    return x


def hill_number(counts: Floats, q: float) -> Floats:
    """Hill number of order q of the counts themselves, shape (...); NaN where all are zero.

    Parameters
    ----------
    counts : (..., S)
        Counts or shares.
    q
        Order, 0 ≤ q ≤ ∞.

    Raises
    ------
    ValueError
        If q is negative or NaN, or a count is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> [round(float(hill_number(np.array([8, 4, 4]), q)), 4) for q in (0, 1, 2, np.inf)]
    [3.0, 2.8284, 2.6667, 2.0]
    """
    x = as_counts(counts)
    if not q >= 0:
        raise ValueError(f"the order of a Hill number is not negative: {q}")
    total = x.sum(axis=-1, keepdims=True)
    some = total[..., 0] > 0
    p = x / np.where(total > 0, total, 1.0)
    if q == 1:
        value = np.exp(-xlogy(p, p).sum(axis=-1))
    elif math.isinf(q):
        value = 1 / np.where(some, p.max(axis=-1, initial=0.0), 1.0)
    else:
        # 0⁰ is 1, but a category without individuals is no category.
        powers = np.where(p > 0, p**q, 0.0).sum(axis=-1)
        value = np.where(some, powers, 1.0) ** (1 / (1 - q))
    return np.asarray(np.where(some, value, np.nan))


def simpson(counts: Floats) -> Floats:
    """Gini–Simpson index ``1 − Σ p²``: two random models differ in category (Simpson 1949)."""
    return np.asarray(1 - 1 / hill_number(counts, 2))


def chao1(counts: Floats) -> Floats:
    """Chao's lower bound of the number of categories, seen and unseen, shape (...).

    Bias-corrected form ``S + f₁(f₁ − 1) / (2 (f₂ + 1))`` with f₁ categories seen once and f₂ seen
    twice (Chao 2005); defined when f₂ = 0. Order 0 of
    :func:`lineage.evolution.diversity.rarefaction.asymptotic_diversity` is the classic form with
    the factor (n − 1)/n, which is what rarefaction curves are extrapolated to.
    """
    x = as_counts(counts)
    f1, f2 = (x == 1).sum(axis=-1), (x == 2).sum(axis=-1)
    return np.asarray((x > 0).sum(axis=-1) + f1 * (f1 - 1) / (2 * (f2 + 1)))


def fisher_alpha(counts: Floats) -> Floats:
    """Fisher's α, shape (...): the root of ``S = α ln(1 + n/α)`` (Fisher et al. 1943).

    NaN where every category was seen but once (α is infinite) and without individuals.
    """
    x = as_counts(counts)
    if x.ndim > 1:
        return np.array([fisher_alpha(row) for row in x])
    n, seen = float(x.sum()), float((x > 0).sum())
    if n <= seen:
        return np.array(math.nan)

    def short(log_alpha: float) -> float:
        alpha = math.exp(log_alpha)
        return alpha * math.log1p(n / alpha) - seen

    # α ln(1 + n/α) grows from 0 to n; near n it is n − n²/2α, which bounds α from above.
    top = math.log(n * n)
    return np.array(math.exp(brentq(short, -30.0 - top, top, xtol=1e-14)))
