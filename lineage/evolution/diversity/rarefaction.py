"""Diversity at equal effort: coverage, rarefaction, extrapolation, and windows of time.

Every Hill number grows with the sample, so that months of different size compare only at equal
size or, better, at equal *coverage*, the share of the population that belongs to categories
already seen (Chao & Jost 2012; Chao et al. 2014).

References
----------
Chao & Jost 2012, Ecology 93:2533 (coverage). Chao et al. 2014, Ecol Monogr 84:45 (rarefaction and
extrapolation). Chao, Wang & Jost 2013, Methods Ecol Evol 4:1091 (entropy). Chao & Jost 2015,
Methods Ecol Evol 6:873 (extrapolation of order 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import digamma, gammaln, xlogy

from lineage.evolution.clusters import untrusted
from lineage.evolution.diversity.hill import as_counts, hill_number
from lineage.evolution.diversity.intervals import counts_by_cluster, founder_interval
from lineage.model import Estimate

__all__ = [
    "WindowDiversity",
    "asymptotic_diversity",
    "coverage",
    "diversity_through_time",
    "rarefied",
    "size_at_coverage",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIN_WINDOW = 20
"""Windows with fewer models of known category neither set the common effort nor get a value."""


def _whole(counts: Floats) -> Floats:
    """One assemblage of whole individuals, categories without any left out."""
    x = as_counts(counts)
    if x.ndim != 1 or (x != np.rint(x)).any():
        raise ValueError("whole counts of one assemblage are needed, shape (S,)")
    return x[x > 0]


def _rare(x: Floats) -> tuple[float, float, float, float]:
    """n, f₁, unseen categories f̂₀ (Chao 1984), and the ratio A by which 1 − coverage shrinks."""
    n, f1, f2 = float(x.sum()), float((x == 1).sum()), float((x == 2).sum())
    if f1 == 0:
        return n, f1, 0.0, 0.0
    f0 = (n - 1) / n * (f1 * f1 / (2 * f2) if f2 else f1 * (f1 - 1) / 2)
    return n, f1, f0, n * f0 / (n * f0 + f1)


def coverage(counts: Floats, size: float | None = None) -> float:
    """Estimated share of the population that belongs to the categories of a sample of `size`.

    At the sample itself ``1 − f₁/n · A``; below by the unbiased
    ``1 − Σ x_i/n · C(n − x_i, m)/C(n − 1, m)``; above ``1 − f₁/n · A^{m − n + 1}`` (Chao & Jost
    2012, eqs 4a, 5, 6 and 12), with ``A = n f̂₀ / (n f̂₀ + f₁)``.

    Parameters
    ----------
    counts : (S,)
        Whole numbers.
    size
        m > 0, not necessarily whole; None is the sample's own size n. NaN gives NaN.

    Raises
    ------
    ValueError
        If counts are not whole, there are none, or `size` is not above zero.

    Examples
    --------
    >>> import numpy as np
    >>> round(coverage(np.array([5, 3, 1, 1])), 4), round(coverage(np.array([5, 3, 1, 1]), 4), 4)
    (0.8364, 0.6968)
    """
    x = _whole(counts)
    n, f1, _, ratio = _rare(x)
    if n == 0:
        raise ValueError("no individuals: nothing is covered")
    m = n if size is None else size
    if m <= 0:
        raise ValueError(f"a sample has more than no individuals: {m}")
    if m >= n or math.isnan(m):
        return float(1 - f1 / n * ratio ** (m - n + 1)) if not math.isnan(m) else math.nan
    unseen = x[n - x >= m]
    log_missed = gammaln(n - unseen + 1) - gammaln(n - unseen - m + 1) - gammaln(n)
    return float(1 - (unseen / n * np.exp(log_missed + gammaln(n - m))).sum())


def size_at_coverage(counts: Floats, target: float) -> float:
    """Size m, not necessarily whole, at which a sample would have coverage `target`.

    NaN where it would have to be more than twice the sample: richness extrapolated further is
    worth nothing (Chao et al. 2014).

    Raises
    ------
    ValueError
        If `target` is not between 0 and 1, or counts are not whole or none.
    """
    if not 0 < target <= 1:
        raise ValueError(f"coverage lies between 0 and 1: {target}")
    x = _whole(counts)
    n, f1, _, ratio = _rare(x)
    if coverage(x) < target:
        if not ratio < 1 or target == 1:  # coverage never gets there
            return math.nan
        size = n - 1 + math.log((1 - target) * n / f1) / math.log(ratio)
        return size if size <= 2 * n else math.nan
    if coverage(x, 1) >= target:
        return 1.0
    low, high = 1, int(n)  # coverage(low) < target <= coverage(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if coverage(x, middle) < target else (low, middle)
    below, above = coverage(x, low), coverage(x, high)
    return low + (target - below) / (above - below)


def asymptotic_diversity(counts: Floats, q: int) -> float:
    """Diversity of order 0, 1 or 2 that an ever larger sample would reach.

    q = 0: ``S + f̂₀`` (Chao 1984, a lower bound); q = 1: exp of the entropy estimator of Chao, Wang
    & Jost 2013; q = 2: the unbiased ``n(n − 1) / Σ x(x − 1)``, NaN where nobody was seen twice.

    Raises
    ------
    ValueError
        If q is another order, counts are not whole, or there are none.
    """
    x = _whole(counts)
    n, f1, f0, ratio = _rare(x)
    if n == 0:
        raise ValueError("no individuals: no diversity")
    if q == 0:
        return x.size + f0
    if q == 1:
        entropy = float((x / n * (digamma(n) - digamma(x))).sum())
        if ratio < 1:
            entropy += f1 / n * _log_tail(ratio, n)
        return math.exp(entropy)
    if q == 2:
        pairs = float((x * (x - 1)).sum())
        return n * (n - 1) / pairs if pairs else math.nan
    raise ValueError(f"asymptotic diversity is known for orders 0, 1 and 2, not {q}")


def _log_tail(b: float, n: float) -> float:
    """``b^{1−n} (−ln(1 − b) − Σ_{r<n} b^r / r) = Σ_{r≥n} b^{r−n+1} / r``.

    The left side is a difference of nearly equal numbers times a power that overflows; the right
    side is ``b ∫ t^{n−1} / (1 − bt) dt`` from 0 to 1, here with t = exp(−u/n).
    """

    def density(u: float) -> float:
        return math.exp(-u) / (1 - b - b * math.expm1(-u / n))

    turn = min(n * (1 - b), 1.0)  # where the denominator begins to grow
    near, _ = quad(density, 0, turn, epsabs=0, epsrel=1e-12)
    middle, _ = quad(
        lambda v: density(math.exp(v)) * math.exp(v),
        math.log(turn),
        math.log(60.0),
        epsabs=0,
        epsrel=1e-12,
    )
    return float(b * (near + middle) / n)


def rarefied(counts: Floats, size: float, q: float) -> float:
    """Expected Hill number of order q of `size` models drawn without replacement, or of more.

    Below the sample's size n from the expected number of categories seen k times among m,
    ``f_k(m) = Σ_i C(x_i, k) C(n − x_i, m − k) / C(n, m)``, as ``(Σ (k/m)^q f_k)^{1/(1−q)}`` (Chao
    et al. 2014, eqs 3–7); above, for orders 0, 1 and 2 only and up to 2n, from the sample towards
    :func:`asymptotic_diversity` (eqs 9–13; order 1 as Chao & Jost 2015). Sizes that are not whole
    are interpolated.

    Returns
    -------
    float
        NaN above 2n, for other orders above n, for order ∞ but at n, and for a NaN size.

    Raises
    ------
    ValueError
        If counts are not whole or none, `size` is below 1 or q negative.

    Examples
    --------
    >>> import numpy as np
    >>> round(rarefied(np.array([2, 1]), 2, 0), 6)  # the pairs are aa, ab, ab
    1.666667
    """
    x = _whole(counts)
    n = float(x.sum())
    if n == 0:
        raise ValueError("no individuals: nothing to draw")
    if size < 1 or not q >= 0:
        raise ValueError(f"a size of at least 1 and an order of at least 0: {size}, {q}")
    if math.isnan(size) or size > 2 * n:
        return math.nan
    if size == n:
        return float(hill_number(x, q))
    if size > n:
        return _extrapolated(x, size, q)
    below = math.floor(size)
    if below == size:
        return _interpolated(x, below, q)
    lower, upper = _interpolated(x, below, q), _interpolated(x, below + 1, q)
    return lower + (size - below) * (upper - lower)


def _interpolated(x: Floats, m: float, q: float) -> float:
    n = float(x.sum())
    if math.isinf(q):
        return math.nan  # the expectation of a maximum is no function of the f_k
    if q == 0:
        rare = x[n - x >= m]
        log_missed = gammaln(n - rare + 1) - gammaln(n - rare - m + 1) - gammaln(n + 1)
        return float(x.size - np.exp(log_missed + gammaln(n - m + 1)).sum())
    if q == 2:
        return float(1 / (1 / m + (1 - 1 / m) * (x * (x - 1)).sum() / (n * (n - 1))))
    total, top = 0.0, 0.0
    log_draws = gammaln(n + 1) - gammaln(m + 1) - gammaln(n - m + 1)
    for size, times in zip(*np.unique(x, return_counts=True), strict=True):
        k = np.arange(max(1.0, m - (n - size)), min(float(m), size) + 1)
        chosen = gammaln(size + 1) - gammaln(k + 1) - gammaln(size - k + 1)
        rest, left = n - size, m - k
        others = gammaln(rest + 1) - gammaln(left + 1) - gammaln(rest - left + 1)
        expected = times * np.exp(chosen + others - log_draws)
        share = k / m
        total += float((-xlogy(share, share) if q == 1 else share**q) @ expected)
        top += float(share @ expected)
    # Σ (k/m) f_k is 1 but for rounding in the logarithms.
    return math.exp(total / top) if q == 1 else (total / top) ** (1 / (1 - q))


def _extrapolated(x: Floats, m: float, q: float) -> float:
    n = float(x.sum())
    if q not in (0, 1, 2) or n < 2:
        return math.nan
    if q == 2:
        return _interpolated(x, m, 2)  # one formula holds on both sides of n
    seen, final = float(hill_number(x, q)), asymptotic_diversity(x, int(q))
    before = _interpolated(x, int(n) - 1, q)
    if not final > seen:
        return seen
    # The curve approaches its end geometrically, with the slope it has at the sample itself.
    step = (seen - before) / (final - before)
    return float(seen + (final - seen) * (1 - (1 - step) ** (m - n)))


# -- through time ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WindowDiversity:
    """Diversity of one window at the effort common to all.

    `n` models of known category and estimated `coverage` are the window's own; `effort` is the
    size or coverage at which `diversity` holds.
    """

    window: int
    n: int
    coverage: float
    effort: float
    diversity: Estimate


def diversity_through_time(
    window: Ints,
    category: Ints,
    cluster: Ints,
    *,
    q: float,
    by: Literal["size", "coverage"] = "coverage",
    effort: float | None = None,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 200,
) -> tuple[WindowDiversity, ...]:
    """Diversity in each window of time, all at equal size or equal coverage.

    At their own sizes windows differ because they grow: diversity would track growth. At equal
    coverage they are compared for equally complete pictures, which favours no window (Chao & Jost
    2012); equal size under-states the more diverse.

    Parameters
    ----------
    window : (n,)
        Window of each row (month number); negative where unknown.
    category, cluster : (n,)
        As for :func:`lineage.evolution.diversity.intervals.diversity`.
    q
        Order; resamples are sometimes smaller than the effort, so 0, 1 or 2.
    by, effort
        The common size or coverage; None is that of the poorest window with at least
        `MIN_WINDOW` models, so that nothing is extrapolated.

    Returns
    -------
    tuple of WindowDiversity
        By window; NaN with the reason in `method` where the window is too small or would have to
        be more than doubled.

    Raises
    ------
    ValueError
        If q is not 0, 1 or 2.
    """
    if q not in (0, 1, 2):
        raise ValueError(f"diversity at equal effort is known for orders 0, 1 and 2, not {q}")
    known = (window >= 0) & (category >= 0)
    window, category, cluster = window[known], category[known], cluster[known]
    tables = {
        int(w): counts_by_cluster(category[window == w], cluster[window == w])
        for w in np.unique(window)
    }
    counts = {w: np.asarray(table.sum(axis=0), dtype=float) for w, table in tables.items()}
    sizes = {w: int(x.sum()) for w, x in counts.items()}
    covered = {w: coverage(x) for w, x in counts.items()}
    if effort is None:
        poorest = [(sizes if by == "size" else covered)[w] for w in sizes if sizes[w] >= MIN_WINDOW]
        effort = float(min(poorest, default=math.nan))
    common = effort

    def at_effort(totals: Floats) -> Floats:
        if totals.ndim > 1:
            return np.array([at_effort(row) for row in totals])
        size = common if by == "size" else size_at_coverage(totals, common)
        return np.array(rarefied(totals, size, q))

    method = f"Hill number of order {q:g} at a common {by} of {effort:.4g}"
    found = []
    for w, table in tables.items():
        if sizes[w] < MIN_WINDOW:
            reason = f"{sizes[w]} models in the window, {MIN_WINDOW} needed"
            estimate = untrusted(sizes[w], level, method, reason, table.shape[0])
        else:
            estimate = founder_interval(
                table,
                at_effort,
                n=sizes[w],
                rng=rng,
                level=level,
                n_resamples=n_resamples,
                method=method,
                lowest=1.0,
            )
        found.append(WindowDiversity(w, sizes[w], covered[w], effort, estimate))
    return tuple(found)
