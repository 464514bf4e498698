"""Heritability by parent–offspring regression on the weighted mid-parent.

For child i with parents k and shares w, ``z_i = a + b · Σ_k w_ik z_k + e``. The slope b is the
heritability for any number of parents and any shares, provided parents are unrelated and nothing
else makes parent and child alike (Falconer & Mackay 1996; Lynch & Walsh 1998, ch. 17). For a
single parent of share 1 (a fine-tune) nothing is halved by meiosis: b then estimates the *broad*
heritability and whatever else lineage carries along, such as size and architecture.

:func:`heritability_jackknife` takes founders as the independent units and is what is reported of
a Hub. :func:`heritability` has the sandwich error that is printed elsewhere, and
:func:`heritability_bootstrap` the founder bootstrap: with many founders of like weight all agree.
:func:`within_founder_heritability` leaves out all that founders differ in. Those for independent
pairs are in :mod:`lineage.evolution.inheritance.textbook`. :func:`from_one_parent` and
:func:`corrected_for_attenuation` turn a slope into h² where only one parent was measured, or
measured with error.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.clusters import cluster_bootstrap, student_interval, untrusted
from lineage.evolution.jackknife import (
    contributions,
    jackknife,
    left_out,
    partial_slope,
    sign_flip_p_value,
)
from lineage.model import Estimate

__all__ = [
    "MIN_CLUSTERS",
    "MIN_PAIRS",
    "corrected_for_attenuation",
    "from_one_parent",
    "heritability",
    "heritability_bootstrap",
    "heritability_jackknife",
    "slope_problem",
    "within_founder_heritability",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIN_PAIRS = 3
MIN_CLUSTERS = 2

_CR1 = (
    "parent–offspring regression on the weighted mid-parent, CR1 cluster-robust SE, t with G−1 df"
)
_SLOPE = "parent–offspring regression on the weighted mid-parent"
_WITHIN = "parent–offspring regression within founders (each founder its own intercept)"
_ROUNDING = 1e-12  # share of the scale below which a spread is rounding, not variation


def heritability(
    child: Floats, mid_parent: Floats, cluster: Ints, *, level: float = 0.95
) -> Estimate:
    """Slope of offspring on mid-parent, with a cluster-robust interval.

    ``b = Σ (x − x̄)(y − ȳ) / Σ (x − x̄)²``; its variance is the sandwich
    ``c · Σ_g (Σ_{i∈g} (x_i − x̄) u_i)² / (Σ (x − x̄)²)²`` with residuals u, groups g and the
    small-sample factor ``c = G/(G−1) · (n−1)/(n−2)`` (CR1; Cameron & Miller 2015, J Hum Resour
    50:317). The interval and `p_value` (of b = 0) use Student's t with G−1 degrees of freedom.

    Parameters
    ----------
    child, mid_parent : (n,)
        Trait of the child and of its weighted mid-parent; pairs with a NaN are left out.
    cluster : (n,)
        Group of each child (its founder); groups are taken to be independent.
    level
        Coverage of the interval.

    Returns
    -------
    Estimate
        NaN with the reason in `method` when fewer than 3 pairs or 2 groups remain, or the
        mid-parents do not vary.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 1.0, 2.0])
    >>> round(heritability(y, x, np.array([0, 0, 1, 1])).value, 6)
    0.6
    """
    x, y, cluster = _pairs(child, mid_parent, cluster)
    return _clustered(x, y, cluster, level, _CR1)


def heritability_jackknife(
    child: Floats,
    mid_parent: Floats,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    stratum: Ints | None = None,
    held: Floats | None = None,
    level: float = 0.95,
) -> Estimate:
    """The same slope with the interval of a jackknife over founders, which few of them do not fool.

    The interval is for the slope of *Hubs that grow by the same law with other founders*. That of
    the sandwich is too narrow for it where a few founders have most models
    (:mod:`lineage.evolution.jackknife`), and too wide for the slope among just these parents.

    Parameters
    ----------
    child, mid_parent, cluster : (n,)
        As for :func:`heritability`.
    rng
        Source of the flips of the p-value; the interval does not depend on it.
    stratum : (n,)
        Stratum of each child, such as its month of birth: the slope is that within strata, each
        with its own intercept.
    held : (n, c)
        What is held besides, such as the parents' day of birth; pairs with a NaN are left out.

    Returns
    -------
    Estimate
        NaN with the reason in `method` when fewer than 3 pairs or 2 groups remain, the mid-parents
        do not vary, or do so within one group only.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 1.0, 2.0])
    >>> found = heritability_jackknife(y, x, np.arange(4), rng=np.random.default_rng(1))
    >>> round(found.value, 6), round(found.low, 3), round(found.high, 3)
    (0.6, 0.206, 0.994)
    """
    return _jackknifed(child, mid_parent, cluster, rng, stratum, held, level, _SLOPE)


def within_founder_heritability(
    child: Floats,
    mid_parent: Floats,
    founder: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Estimate:
    """Slope of offspring on mid-parent within founders: each founder has its own intercept.

    What founders differ in (architecture, size, what they were trained on) makes parent and child
    alike without being inherited from the one by the other; here it falls out. Child and
    mid-parent are taken as differences from their founder's means (the fixed-effect estimator;
    Wooldridge 2010, *Econometric Analysis of Cross Section and Panel Data*, §10.5). The interval
    is that of :func:`heritability_jackknife` with founders as groups.

    Parameters
    ----------
    child, mid_parent, rng
        As for :func:`heritability_jackknife`.
    founder : (n,)
        Founder of each child. One with a single measured pair says nothing and is left out of `n`
        and `n_clusters`.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.array([0.0, 2.0, 10.0, 12.0]), np.array([0.0, 1.0, 30.0, 31.0])
    >>> rng = np.random.default_rng(1)
    >>> within_founder_heritability(y, x, np.array([0, 0, 1, 1]), rng=rng).value
    0.5
    """
    x, y, founder = _pairs(child, mid_parent, founder)
    _, group, size = np.unique(founder, return_inverse=True, return_counts=True)
    several = size[group] > 1
    x, y, founder = x[several], y[several], founder[several]
    return _jackknifed(y, x, founder, rng, founder, None, level, _WITHIN)


def heritability_bootstrap(
    child: Floats,
    mid_parent: Floats,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
    error_variance: Floats | None = None,
) -> Estimate:
    """The same slope with the percentile interval of a bootstrap over groups.

    Parameters
    ----------
    child, mid_parent, cluster : (n,)
        As for :func:`heritability`.
    rng
        Source of the resamples.
    error_variance : (n,)
        Variance of the measurement error of each mid-parent (of a score, its squared standard
        error; of a weighted mid-parent, ``Σ w² σ²``). Errors of the mid-parent flatten the slope:
        ``b = S_xy / (S_xx − (n−1)/n Σ σ²)`` is free of that (Fuller 1987, *Measurement Error
        Models*, §1.2), if they are independent of the child's: a harness that scored both is no
        such error. Pairs with a NaN are left out.

    Raises
    ------
    ValueError
        If an error variance is negative.
    """
    method = _SLOPE
    if error_variance is not None:
        if (error_variance < 0).any():
            raise ValueError("the variance of a measurement error must not be negative")
        method = f"{_SLOPE}, corrected for its measurement error"
        mid_parent = np.where(np.isfinite(error_variance), mid_parent, np.nan)
        error_variance = error_variance[np.isfinite(child) & np.isfinite(mid_parent)]
    x, y, cluster = _pairs(child, mid_parent, cluster)
    n_clusters = np.unique(cluster).size
    problem = slope_problem(x, n_clusters)
    if problem:
        return untrusted(x.size, level, method, problem, n_clusters)
    dx, dy = x - x.mean(), y - y.mean()
    noise = np.zeros_like(dx) if error_variance is None else error_variance
    moments = np.column_stack([np.ones_like(dx), dx, dy, dx * dx, dx * dy, noise])
    floor = _ROUNDING * float(dx @ dx)

    def slope(sums: Floats) -> Floats:
        n, sx, sy, sxx, sxy, error = np.moveaxis(sums, -1, 0)
        spread = sxx - sx * sx / n - (n - 1) / n * error
        return np.asarray((sxy - sx * sy / n) / np.where(spread > floor, spread, np.nan))

    return cluster_bootstrap(
        moments, cluster, slope, rng=rng, level=level, n_resamples=n_resamples, method=method
    )


def from_one_parent(slope: Estimate, share: float) -> Estimate:
    """Heritability from the slope on one parent that gave `share` of the child: ``h² = b / w``.

    The other parents, unmeasured, must be unrelated to it and unlike it only by chance; where like
    merges with like, h² comes out too high. With sexual parents w = ½ and h² = 2b (Falconer &
    Mackay 1996, ch. 10). Any slope of this module will do; its interval is divided too.

    Raises
    ------
    ValueError
        If the share does not lie in (0, 1].

    Examples
    --------
    >>> slope = Estimate(0.25, 0.2, 0.3, 0.95, 500, "slope on the mother")
    >>> from_one_parent(slope, 0.5).value
    0.5
    """
    if not 0 < share <= 1:
        raise ValueError(f"the parent's share of the child must lie in (0, 1]: {share}")
    return _divided(slope, share, f"slope on one parent of share {share:g}, divided by it")


def corrected_for_attenuation(slope: Estimate, reliability: float) -> Estimate:
    """Slope on the true parent from that on a parent measured with error: ``b / λ``.

    The reliability λ is the share of the measured variance (of the mid-parent, among those in the
    regression) that is not error, such as the correlation of two runs of one benchmark. It is
    taken as known: the interval is divided by it and has no part for its own error. Where the
    error variance of each score is known, ``error_variance`` of :func:`heritability_bootstrap`
    has that part too. Error of the *child* needs no correction. Spearman (1904), Am J Psychol
    15:72; Fuller (1987), §1.1.

    Raises
    ------
    ValueError
        If the reliability does not lie in (0, 1].
    """
    if not 0 < reliability <= 1:
        raise ValueError(f"the reliability must lie in (0, 1]: {reliability}")
    return _divided(slope, reliability, f"divided by the parent's reliability {reliability:g}")


def slope_problem(mid_parent: Floats, n_clusters: int, n_pairs: float | None = None) -> str | None:
    """Why no slope can be trusted, None when it can; `n_pairs` where rows stand for several."""
    n_pairs = mid_parent.size if n_pairs is None else n_pairs
    if n_pairs < MIN_PAIRS:
        return f"{n_pairs:g} measured parent–offspring pairs, {MIN_PAIRS} needed"
    if n_clusters < MIN_CLUSTERS:
        return f"{n_clusters} independent group, {MIN_CLUSTERS} needed"
    if np.ptp(mid_parent) <= _ROUNDING * np.abs(mid_parent).max():
        return "the mid-parents do not vary"
    return None


def _pairs(child: Floats, mid_parent: Floats, cluster: Ints) -> tuple[Floats, Floats, Ints]:
    both = np.isfinite(child) & np.isfinite(mid_parent)
    return mid_parent[both], child[both], cluster[both]


def _clustered(x: Floats, y: Floats, cluster: Ints, level: float, method: str) -> Estimate:
    labels, group = np.unique(cluster, return_inverse=True)
    n, n_clusters = x.size, labels.size
    problem = slope_problem(x, n_clusters)
    if problem:
        return untrusted(n, level, method, problem, n_clusters)
    dx, dy = x - x.mean(), y - y.mean()
    sxx = float(dx @ dx)
    slope = float(dx @ dy) / sxx
    scores = np.bincount(group, weights=dx * (dy - slope * dx), minlength=n_clusters)
    factor = n_clusters / (n_clusters - 1) * (n - 1) / (n - 2)
    error = float(np.sqrt(factor * (scores @ scores)) / sxx)
    return student_interval(slope, error, n_clusters - 1, n, n_clusters, level, method)


def _jackknifed(
    child: Floats,
    mid_parent: Floats,
    cluster: Ints,
    rng: np.random.Generator,
    stratum: Ints | None,
    held: Floats | None,
    level: float,
    method: str,
) -> Estimate:
    held = np.empty((child.size, 0)) if held is None else held
    both = np.isfinite(np.column_stack([child, mid_parent, held])).all(axis=1)
    x, y, cluster = mid_parent[both], child[both], cluster[both]
    n_clusters = np.unique(cluster).size
    problem = slope_problem(x, n_clusters)
    if problem:
        return untrusted(x.size, level, method, problem, n_clusters)
    columns = np.column_stack([y, x, held[both]])
    sums = left_out(columns, cluster, None if stratum is None else stratum[both])
    p_value = sign_flip_p_value(contributions(sums), rng=rng)
    return jackknife(partial_slope(sums.products), x.size, level, method, p_value)


def _divided(slope: Estimate, by: float, words: str) -> Estimate:
    return replace(
        slope,
        value=slope.value / by,
        low=slope.low / by,
        high=slope.high / by,
        method=f"{words}; before that: {slope.method}",
    )
