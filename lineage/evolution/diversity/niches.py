"""Niches: how far two groups of models are made for the same tasks or languages."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.clusters import MIN_BOOTSTRAP_CLUSTERS, untrusted
from lineage.evolution.diversity.hill import as_counts
from lineage.evolution.diversity.intervals import counts_by_cluster, founder_interval
from lineage.model import Estimate

__all__ = [
    "OverlapIndex",
    "niche_overlap",
    "overlap_of",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
OverlapIndex = Literal["pianka", "morisita-horn", "schoener"]


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
    a, b = as_counts(a), as_counts(b)
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
