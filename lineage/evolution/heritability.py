"""Heritability by parent–offspring regression on the weighted mid-parent.

For child i with parents k and shares w, ``z_i = a + b · Σ_k w_ik z_k + e``. The slope b is the
heritability for any number of parents and any shares, provided parents are unrelated and nothing
else makes parent and child alike (Falconer & Mackay 1996; Lynch & Walsh 1998, ch. 17). For a
single parent of share 1 (a fine-tune) nothing is halved by meiosis: b then estimates the *broad*
heritability and whatever else lineage carries along, such as size and architecture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from lineage.evolution.clusters import cluster_bootstrap, untrusted
from lineage.model import Estimate

__all__ = ["MIN_CLUSTERS", "MIN_PAIRS", "heritability", "heritability_bootstrap"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIN_PAIRS = 3
MIN_CLUSTERS = 2

_CR1 = (
    "parent–offspring regression on the weighted mid-parent, CR1 cluster-robust SE, t with G−1 df"
)
_BOOTSTRAP = "parent–offspring regression on the weighted mid-parent"
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
    labels, group = np.unique(cluster, return_inverse=True)
    n, n_clusters = x.size, labels.size
    problem = _problem(x, n_clusters)
    if problem:
        return untrusted(n, level, _CR1, problem, n_clusters)
    dx, dy = x - x.mean(), y - y.mean()
    sxx = float(dx @ dx)
    slope = float(dx @ dy) / sxx
    scores = np.bincount(group, weights=dx * (dy - slope * dx), minlength=n_clusters)
    factor = n_clusters / (n_clusters - 1) * (n - 1) / (n - 2)
    error = float(np.sqrt(factor * (scores @ scores)) / sxx)
    reach = float(student_t.ppf((1 + level) / 2, n_clusters - 1)) * error
    p_value = float(2 * student_t.sf(abs(slope) / error, n_clusters - 1)) if error > 0 else None
    return Estimate(
        slope,
        slope - reach,
        slope + reach,
        level,
        n,
        f"{_CR1}; SE {error:.4g}",
        n_clusters,
        p_value,
    )


def heritability_bootstrap(
    child: Floats,
    mid_parent: Floats,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Estimate:
    """The same slope with the percentile interval of a bootstrap over groups.

    Parameters
    ----------
    child, mid_parent, cluster : (n,)
        As for :func:`heritability`.
    rng
        Source of the resamples.
    """
    x, y, cluster = _pairs(child, mid_parent, cluster)
    n_clusters = np.unique(cluster).size
    problem = _problem(x, n_clusters)
    if problem:
        return untrusted(x.size, level, _BOOTSTRAP, problem, n_clusters)
    dx, dy = x - x.mean(), y - y.mean()
    moments = np.column_stack([np.ones_like(dx), dx, dy, dx * dx, dx * dy])
    floor = _ROUNDING * float(dx @ dx)

    def slope(sums: Floats) -> Floats:
        n, sx, sy, sxx, sxy = np.moveaxis(sums, -1, 0)
        spread = sxx - sx * sx / n
        return np.asarray((sxy - sx * sy / n) / np.where(spread > floor, spread, np.nan))

    return cluster_bootstrap(
        moments, cluster, slope, rng=rng, level=level, n_resamples=n_resamples, method=_BOOTSTRAP
    )


def _pairs(child: Floats, mid_parent: Floats, cluster: Ints) -> tuple[Floats, Floats, Ints]:
    both = np.isfinite(child) & np.isfinite(mid_parent)
    return mid_parent[both], child[both], cluster[both]


def _problem(x: Floats, n_clusters: int) -> str | None:
    """Why no slope can be trusted, None when it can."""
    if x.size < MIN_PAIRS:
        return f"{x.size} measured parent–offspring pairs, {MIN_PAIRS} needed"
    if n_clusters < MIN_CLUSTERS:
        return f"{n_clusters} independent group, {MIN_CLUSTERS} needed"
    if np.ptp(x) <= _ROUNDING * np.abs(x).max():
        return "the mid-parents do not vary"
    return None
