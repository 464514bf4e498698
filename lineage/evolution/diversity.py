"""Diversity of a population: Hill numbers at equal effort, along the pedigree, and of niches.

A population of n models falls into S categories (families, licences, languages, architectures)
with counts x_i. Its diversity of order q is the number of equally common categories that would
be as diverse, ``D_q = (Σ p_i^q)^{1/(1−q)}`` (Hill 1973): q = 0 counts categories, q = 1 is
``exp(Shannon)``, q = 2 is ``1/Σ p²``, q = ∞ is ``1/max p``. Every one of them grows with n, so that
months of different size compare only at equal size or, better, at equal *coverage*, the share of
the population that belongs to categories already seen (Chao & Jost 2012; Chao et al. 2014).

Models of a founder are not independent: intervals resample founders. Counts are arrays
(..., S) of which the last axis is the categories; categories of a model are numbers from 0, and a
negative one means unknown and takes part in nothing.

References
----------
Chao & Jost 2012, Ecology 93:2533 (coverage). Chao et al. 2014, Ecol Monogr 84:45 (rarefaction and
extrapolation). Chao, Wang & Jost 2013, Methods Ecol Evol 4:1091 (entropy). Chao & Jost 2015,
Methods Ecol Evol 6:873 (extrapolation of order 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.sparse import csr_array
from scipy.special import digamma, gammaln, xlogy

from lineage.evolution.clusters import MIN_BOOTSTRAP_CLUSTERS, untrusted
from lineage.model import Estimate

__all__ = [
    "PhyloSums", "WindowDiversity", "asymptotic_diversity", "chao1", "counts_by_cluster",
    "coverage", "diversity", "diversity_through_time", "fisher_alpha", "founder_interval",
    "hill_number", "niche_overlap", "overlap_of", "phylo_diversity", "phylo_sums", "rarefied",
    "simpson", "size_at_coverage",
]  # fmt: skip

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Statistic = Callable[[Floats], Floats]
OverlapIndex = Literal["pianka", "morisita-horn", "schoener"]

MIN_WINDOW = 20
"""Windows with fewer models of known category neither set the common effort nor get a value."""

_FINITE_SHARE = 0.9
_DRAWS_PER_BATCH = 4_000_000  # bounds the memory of resampling to some 32 MB


# -- intervals ----------------------------------------------------------------------------------


def counts_by_cluster(category: Ints, cluster: Ints, n_categories: int | None = None) -> csr_array:
    """Counts of each category in each cluster, shape (G, S), clusters in ascending order.

    Rows whose category is negative (unknown) are left out, and clusters without any other.

    Raises
    ------
    ValueError
        If the two arrays differ in shape.
    """
    if category.shape != cluster.shape:
        raise ValueError(f"a cluster for each category: {category.shape} and {cluster.shape}")
    known = category >= 0
    labels, row = np.unique(cluster[known], return_inverse=True)
    column = category[known]
    width = int(column.max(initial=-1)) + 1 if n_categories is None else n_categories
    return csr_array((np.ones(row.size), (row, column)), shape=(labels.size, width))


def founder_interval(
    sums: csr_array | Floats,
    statistic: Statistic,
    *,
    n: int,
    rng: np.random.Generator,
    level: float,
    n_resamples: int,
    method: str,
    lowest: float = -math.inf,
    highest: float = math.inf,
) -> Estimate:
    """Estimate with a bootstrap over whole clusters that does not inherit the resamples' bias.

    A resample repeats some founders and lacks others: it misses rare categories, and its
    diversity falls short of the sample's as the sample's falls short of the population's.
    Percentiles may then lie wholly below the estimate. The interval is therefore the spread of the
    resamples about *their own* mean, laid around the estimate (as Chao et al. 2014 lay their
    standard errors).

    Parameters
    ----------
    sums : (G, k)
        Sums of each cluster; `statistic` is a function of their totals.
    statistic
        From totals (..., k) to values (...); NaN where undefined.
    n
        Observations behind the estimate.
    lowest, highest
        Bounds of the statistic, to which the interval is cut.

    Returns
    -------
    Estimate
        NaN with the reason in `method` with fewer than 3 clusters, where the statistic is
        undefined, or where it is undefined in more than a tenth of the resamples.
    """
    n_clusters = sums.shape[0]
    method = f"{method}; {level:.0%} interval of {n_resamples} cluster resamples, recentred"
    if n_clusters < MIN_BOOTSTRAP_CLUSTERS:
        reason = f"{n_clusters} independent groups, {MIN_BOOTSTRAP_CLUSTERS} needed"
        return untrusted(n, level, method, reason, n_clusters)
    value = float(statistic(np.asarray(sums.sum(axis=0), dtype=float)))
    if not math.isfinite(value):
        return untrusted(n, level, method, "undefined for these counts", n_clusters)
    batch = max(1, _DRAWS_PER_BATCH // n_clusters)
    evenly = np.full(n_clusters, 1 / n_clusters)
    found = []
    for first in range(0, n_resamples, batch):
        size = min(batch, n_resamples - first)
        drawn = rng.multinomial(n_clusters, evenly, size=size).astype(float)
        found.append(np.asarray(statistic(np.asarray((sums.T @ drawn.T).T))))
    resampled = np.concatenate(found)
    finite = resampled[np.isfinite(resampled)]
    if finite.size < _FINITE_SHARE * n_resamples:
        reason = f"undefined in {n_resamples - finite.size} of the resamples"
        return untrusted(n, level, method, reason, n_clusters)
    low, high = value + np.quantile(finite - finite.mean(), [(1 - level) / 2, (1 + level) / 2])
    return Estimate(
        value,
        max(min(float(low), value), min(lowest, value)),
        min(max(float(high), value), max(highest, value)),
        level,
        n,
        method,
        n_clusters,
    )


def diversity(
    category: Ints,
    cluster: Ints,
    statistic: Statistic,
    name: str,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 1000,
    lowest: float = 0.0,
) -> Estimate:
    """Any function of the counts of categories, with its interval by founder.

    Parameters
    ----------
    category : (n,)
        Category of each model, negative where unknown. A model with several values (languages)
        takes one row for each.
    cluster : (n,)
        Founder of each row.
    statistic
        E.g. ``partial(hill_number, q=1)``, :func:`chao1`,
        :func:`lineage.evolution.entropy.chao_shen`.
    name
        What it is, for `method`.

    Examples
    --------
    >>> import numpy as np
    >>> from functools import partial
    >>> licence, founder = np.array([0, 0, 1, 1, -1]), np.array([0, 1, 2, 3, 3])
    >>> rng = np.random.default_rng(1)
    >>> found = diversity(licence, founder, partial(hill_number, q=2), "Hill number", rng=rng)
    >>> found.value, found.n, found.n_clusters
    (2.0, 4, 4)
    """
    sums = counts_by_cluster(category, cluster)
    return founder_interval(
        sums,
        statistic,
        n=int((category >= 0).sum()),
        rng=rng,
        level=level,
        n_resamples=n_resamples,
        method=name,
        lowest=lowest,
    )


# -- Hill numbers and estimators of what was not seen -------------------------------------------


def _counts(counts: Floats) -> Floats:
    x = np.asarray(counts, dtype=float)
    if x.ndim == 0 or not np.isfinite(x).all() or (x < 0).any():
        raise ValueError("counts must be finite and not negative, the last axis the categories")
    return x


def _whole(counts: Floats) -> Floats:
    """One assemblage of whole individuals, categories without any left out."""
    x = _counts(counts)
    if x.ndim != 1 or (x != np.rint(x)).any():
        raise ValueError("whole counts of one assemblage are needed, shape (S,)")
    return x[x > 0]


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
    x = _counts(counts)
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
    twice (Chao 2005); defined when f₂ = 0. :func:`asymptotic_diversity` of order 0 is the classic
    form with the factor (n − 1)/n, which is what rarefaction curves are extrapolated to.
    """
    x = _counts(counts)
    f1, f2 = (x == 1).sum(axis=-1), (x == 2).sum(axis=-1)
    return np.asarray((x > 0).sum(axis=-1) + f1 * (f1 - 1) / (2 * (f2 + 1)))


def fisher_alpha(counts: Floats) -> Floats:
    """Fisher's α, shape (...): the root of ``S = α ln(1 + n/α)`` (Fisher et al. 1943).

    NaN where every category was seen but once (α is infinite) and without individuals.
    """
    x = _counts(counts)
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


# -- through time -------------------------------------------------------------------------------


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
        As for :func:`diversity`.
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


# -- along the pedigree -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PhyloSums:
    """What a set of models has of each tree that holds any of them; arrays (G,), by root.

    Distances are sums of branch lengths; models of different trees have none.
    """

    root: Ints
    n_members: Ints
    branch_length: Floats
    pairs: Floats
    pair_distance: Floats
    nearest: Floats
    nearest_distance: Floats

    @property
    def pd(self) -> float:
        """Faith's phylogenetic diversity: length of all branches from the set to its roots."""
        return float(self.branch_length.sum())

    @property
    def mpd(self) -> float:
        """Mean distance of pairs in the same tree (Webb 2000); NaN without any."""
        return _ratio(self.pair_distance.sum(), self.pairs.sum())

    @property
    def mntd(self) -> float:
        """Mean distance to the nearest other of the same tree (Webb 2000); NaN without any."""
        return _ratio(self.nearest_distance.sum(), self.nearest.sum())


def _ratio(top: float, bottom: float) -> float:
    return float(top / bottom) if bottom > 0 else math.nan


def phylo_sums(parent: Ints, length: Floats, member: Bools) -> PhyloSums:
    """Phylogenetic diversity of a set of models in a forest, in time linear in the nodes.

    Members may be ancestors of each other: on the Hub ancestors are observed. The mean distance
    of pairs comes from counting, for each branch, the pairs it parts.

    Parameters
    ----------
    parent : (n,)
        Parent of each node, −1 for roots (``LineageGraph.primary``).
    length : (n,)
        Length of the branch above each node: 1 to count edges, or days. That of a root counts
        for Faith's PD alone.
    member : (n,)
        Whether a node belongs to the set.

    Raises
    ------
    ValueError
        If shapes differ, a length is negative or missing, or the parents run in a circle.

    Examples
    --------
    >>> import numpy as np
    >>> parent = np.array([-1, 0, 0, 1, 1])  # 0 with children 1 and 2, 1 with children 3 and 4
    >>> member = np.array([False, False, True, True, True])
    >>> found = phylo_sums(parent, np.array([0, 1.0, 1, 1, 1]), member)
    >>> found.pd, round(found.mpd, 4), round(found.mntd, 4)
    (4.0, 2.6667, 2.3333)
    """
    n = parent.size
    if length.shape != (n,) or member.shape != (n,):
        raise ValueError("parent, length and member are one for each node")
    if not (np.isfinite(length).all() and (length >= 0).all()):
        raise ValueError("every branch needs a length, zero or more")
    layers, root = _layers(parent)
    below = member.astype(np.int64)
    # Nearest member within the clade by way of the best and the second-best road out of a node,
    # its own membership among the roads.
    best = np.where(member, 0.0, math.inf)
    second = np.full(n, math.inf)
    road = np.arange(n)
    for layer in reversed(layers[1:]):
        np.add.at(below, parent[layer], below[layer])
        offered = best[layer] + length[layer]
        order = np.lexsort((offered, parent[layer]))
        child, offered = layer[order], offered[order]
        above = parent[child]
        first = np.flatnonzero(np.concatenate(([True], above[1:] != above[:-1])))
        runner = np.full(first.size, math.inf)
        more = np.diff(np.append(first, child.size)) > 1
        runner[more] = offered[first[more] + 1]
        up, lead = above[first], offered[first]
        wins = lead < best[up]
        second[up] = np.where(wins, np.minimum(best[up], runner), np.minimum(second[up], lead))
        road[up] = np.where(wins, child[first], road[up])
        best[up] = np.where(wins, lead, best[up])
    outside = np.full(n, math.inf)
    for layer in layers[1:]:
        above = parent[layer]
        elsewhere = np.where(road[above] == layer, second[above], best[above])
        outside[layer] = length[layer] + np.minimum(outside[above], elsewhere)
    # A member's own road has length zero and is its best; the second leads to the nearest below.
    nearest = np.where(member, np.minimum(second, outside), math.inf)
    met = np.isfinite(nearest)
    tree_size = below[root]
    used = below > 0
    kept = np.flatnonzero((parent < 0) & used)
    apart = length * below * (tree_size - below)

    def by_tree(values: Floats) -> Floats:
        return np.asarray(np.bincount(root, weights=values, minlength=n)[kept], dtype=float)

    size = below[kept]
    return PhyloSums(
        kept,
        size,
        by_tree(np.where(used, length, 0.0)),
        size * (size - 1) / 2,
        by_tree(apart),
        by_tree(met.astype(float)),
        by_tree(np.where(met, nearest, 0.0)),
    )


def _layers(parent: Ints) -> tuple[list[Ints], Ints]:
    """Nodes by depth, roots first, and the root of each."""
    root = np.where(parent < 0, np.arange(parent.size), parent)
    depth = (parent >= 0).astype(np.int64)
    for _ in range(parent.size.bit_length() + 1):  # each round doubles the distance walked
        depth = depth + depth[root]
        root = root[root]
    if parent.size and (parent[root] >= 0).any():
        raise ValueError("the parents run in a circle")
    if not parent.size:
        return [], root
    order = np.argsort(depth, kind="stable")
    return np.split(order, np.cumsum(np.bincount(depth))[:-1]), root


def phylo_diversity(
    sums: PhyloSums, *, rng: np.random.Generator, level: float = 0.95, n_resamples: int = 1000
) -> dict[str, Estimate]:
    """``pd``, ``mpd`` and ``mntd`` of a set with intervals over whole trees (founders).

    Faith's PD is a total: its interval is that of a total over as many founders.
    """
    columns = {
        "pd": (sums.branch_length, np.ones_like(sums.branch_length), "Faith's PD"),
        "mpd": (sums.pair_distance, sums.pairs, "mean distance of pairs in the same tree"),
        "mntd": (sums.nearest_distance, sums.nearest, "mean distance to the nearest in the tree"),
    }
    n_trees = sums.root.size

    def ratio(totals: Floats) -> Floats:
        top, bottom = np.moveaxis(totals, -1, 0)
        return np.asarray(top / np.where(bottom > 0, bottom, np.nan))

    found = {}
    for name, (top, bottom, method) in columns.items():
        scale = float(n_trees) if name == "pd" else 1.0  # PD = trees · mean of a tree
        found[name] = founder_interval(
            np.column_stack([top * scale, bottom]),
            ratio,
            n=int(sums.n_members.sum()),
            rng=rng,
            level=level,
            n_resamples=n_resamples,
            method=method,
            lowest=0.0,
        )
    return found


# -- niches -------------------------------------------------------------------------------------


def overlap_of(a: Floats, b: Floats, index: OverlapIndex) -> Floats:
    """Overlap of the use of resources by two groups, between 0 and 1, shape (...).

    With shares p and q of each resource: Pianka (1973) ``Σpq / √(Σp² Σq²)``; Morisita–Horn (Horn
    1966) ``2Σpq / (Σp² + Σq²)``; Schoener (1970) ``1 − ½ Σ|p − q|``. NaN where a group used none.

    Parameters
    ----------
    a, b : (..., R)
        Counts or shares of each resource (task, language).

    Raises
    ------
    ValueError
        If the index is unknown, or a count negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> float(overlap_of(np.array([1, 1, 0]), np.array([0, 1, 1]), "schoener"))
    0.5
    """
    a, b = _counts(a), _counts(b)
    sum_a, sum_b = a.sum(axis=-1, keepdims=True), b.sum(axis=-1, keepdims=True)
    p, q = a / np.where(sum_a > 0, sum_a, np.nan), b / np.where(sum_b > 0, sum_b, np.nan)
    pp, qq, pq = (p * p).sum(axis=-1), (q * q).sum(axis=-1), (p * q).sum(axis=-1)
    if index == "pianka":
        return np.asarray(pq / np.sqrt(pp * qq))
    if index == "morisita-horn":
        return np.asarray(2 * pq / (pp + qq))
    if index == "schoener":
        return np.asarray(1 - np.abs(p - q).sum(axis=-1) / 2)
    raise ValueError(f"no such index of overlap: {index}")


def niche_overlap(
    group: Ints,
    resource: Ints,
    cluster: Ints,
    pair: tuple[int, int],
    *,
    index: OverlapIndex = "morisita-horn",
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 1000,
) -> Estimate:
    """Overlap of two groups (families) in what their models are made for, with its interval.

    Parameters
    ----------
    group, resource, cluster : (n,)
        One row for each use: a model with two languages has two rows. Rows of negative group or
        resource are left out. `cluster` are the independent units *within* groups: where the
        groups are founders' families, the branches below founders (``Population.branch``).
    pair
        The two groups.

    Returns
    -------
    Estimate
        NaN with the reason in `method` where one of the two has fewer than 3 clusters. Overlap of
        small samples is under-estimated; no index corrects for it.
    """
    name = f"niche overlap ({index})"
    known = np.isin(group, pair) & (resource >= 0)
    group, resource, cluster = group[known], resource[known], cluster[known]
    fewest = min(np.unique(cluster[group == g]).size for g in pair)
    n_clusters = np.unique(cluster).size
    if fewest < MIN_BOOTSTRAP_CLUSTERS:
        reason = f"a group has {fewest} independent clusters, {MIN_BOOTSTRAP_CLUSTERS} needed"
        return untrusted(resource.size, level, name, reason, n_clusters)
    width = int(resource.max()) + 1
    sums = counts_by_cluster(resource + width * (group == pair[1]), cluster, 2 * width)

    def overlap(totals: Floats) -> Floats:
        return overlap_of(totals[..., :width], totals[..., width:], index)

    return founder_interval(
        sums,
        overlap,
        n=resource.size,
        rng=rng,
        level=level,
        n_resamples=n_resamples,
        method=name,
        lowest=0.0,
        highest=1.0,
    )
