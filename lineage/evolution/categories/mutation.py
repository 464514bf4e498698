"""The edge mutation rate of a categorical trait, and means over edges with clustered errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import t as student_t

from lineage.evolution.categories.value_sets import edge_distance
from lineage.evolution.clusters import untrusted
from lineage.model import Estimate

__all__ = [
    "MIN_EDGES",
    "MutationRate",
    "clustered_mean",
    "mutation_rate",
    "mutation_rates",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIN_EDGES = 3
MIN_CLUSTERS = 2


def clustered_mean(
    values: Floats,
    cluster: Ints,
    method: str,
    *,
    level: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """Mean with a cluster-robust interval; NaN values are left out.

    Variance ``G/(G−1) · Σ_g (Σ_{i∈g} (x_i − x̄))² / n²``, Student's t with G−1 degrees of freedom
    (CR1; Cameron & Miller 2015, J Hum Resour 50:317), cut to `bounds`. Where all values are equal
    that variance is zero, which G groups do not prove: a share ``u = 1 − ((1 − level)/2)^{1/G}``
    of all groups may still be otherwise (Clopper & Pearson 1934), and the interval is what the
    mean would be with those at either bound.

    Parameters
    ----------
    values, cluster : (n,)
        Observations and the labels of their independent groups.
    method
        What the mean is of.

    Returns
    -------
    Estimate
        NaN with the reason in `method` with fewer than 3 values or 2 groups, or equal values
        without finite bounds.

    Raises
    ------
    ValueError
        If the two differ in shape, or a value lies outside the bounds.
    """
    if values.shape != cluster.shape:
        raise ValueError(f"a cluster for each value: {values.shape} and {cluster.shape}")
    known = np.isfinite(values)
    x = values[known]
    labels, group = np.unique(cluster[known], return_inverse=True)
    n, n_clusters = x.size, labels.size
    method = f"{method}; CR1 cluster-robust SE, t with G−1 df"
    if n < MIN_EDGES:
        return untrusted(n, level, method, f"{n} values, {MIN_EDGES} needed", n_clusters)
    if n_clusters < MIN_CLUSTERS:
        reason = f"{n_clusters} independent group, {MIN_CLUSTERS} needed"
        return untrusted(n, level, method, reason, n_clusters)
    lowest, highest = bounds
    if x.min() < lowest or x.max() > highest:
        raise ValueError(f"values outside [{lowest}, {highest}]")
    mean = float(x.mean())
    if np.ptp(x) == 0:
        if not math.isfinite(highest - lowest):
            return untrusted(n, level, method, "the values do not vary", n_clusters)
        unseen, mean = 1 - ((1 - level) / 2) ** (1 / n_clusters), float(x[0])
        low, high = mean - unseen * (mean - lowest), mean + unseen * (highest - mean)
        return Estimate(mean, low, high, level, n, method, n_clusters)
    scores = np.bincount(group, weights=x - mean)
    error = math.sqrt(n_clusters / (n_clusters - 1) * float(scores @ scores)) / n
    reach = float(student_t.ppf((1 + level) / 2, n_clusters - 1)) * error
    # Rounding may carry the mean of values at a bound past it.
    low, high = max(mean - reach, min(lowest, mean)), min(mean + reach, max(highest, mean))
    return Estimate(mean, low, high, level, n, method, n_clusters)


@dataclass(frozen=True, slots=True)
class MutationRate:
    """Edge mutation rate with intervals by parent and by founder.

    `n_edges` were looked at, `n_known` have a value at both ends: the rate is conditional on
    that. `n_changed` of those differ at all, `n_disjoint` have nothing in common.
    """

    by_parent: Estimate
    by_founder: Estimate
    n_edges: int
    n_known: int
    n_changed: int
    n_disjoint: int

    @property
    def share_known(self) -> float:
        """Share of the edges with a value at both ends; NaN without edges."""
        return self.n_known / self.n_edges if self.n_edges else math.nan


def mutation_rate(
    sets: csr_array, child: Ints, parent: Ints, founder: Ints, *, level: float = 0.95
) -> MutationRate:
    """Mean Jaccard distance over edges with both ends known (Laufer et al. 2025).

    Parameters
    ----------
    sets : (n, V)
        Values of each model, from :func:`lineage.evolution.categories.value_sets.value_sets`.
    child, parent, founder : (E,)
        Rows of `sets`, and the founder of each edge.

    Examples
    --------
    >>> import numpy as np
    >>> from lineage.evolution.categories.value_sets import value_sets
    >>> sets, _ = value_sets([{"en", "fr"}, {"en"}, {"en", "fr"}, {"de"}, set()])
    >>> child, parent = np.array([1, 2, 3, 4]), np.array([0, 0, 2, 2])
    >>> rate = mutation_rate(sets, child, parent, np.zeros(4, dtype=int))
    >>> rate.by_parent.value, rate.n_known, rate.share_known
    (0.5, 3, 0.75)
    """
    distance = edge_distance(sets, child, parent)
    known = distance[np.isfinite(distance)]
    name = "edge mutation rate, mean Jaccard distance of edges known at both ends"
    return MutationRate(
        clustered_mean(distance, parent, f"{name}, by parent", level=level, bounds=(0, 1)),
        clustered_mean(distance, founder, f"{name}, by founder", level=level, bounds=(0, 1)),
        child.size,
        known.size,
        int((known > 0).sum()),
        int((known == 1).sum()),
    )


def mutation_rates(
    sets: csr_array,
    child: Ints,
    parent: Ints,
    founder: Ints,
    kind: Sequence[str],
    *,
    level: float = 0.95,
) -> dict[str, MutationRate]:
    """:func:`mutation_rate` of all edges (under the empty name) and of each kind of edge."""
    kinds = np.array(kind, dtype=object)
    if kinds.shape != child.shape:
        raise ValueError(f"a kind for each edge: {kinds.shape} and {child.shape}")
    found = {"": mutation_rate(sets, child, parent, founder, level=level)}
    for name in sorted(set(kind)):
        of = kinds == name
        found[name] = mutation_rate(sets, child[of], parent[of], founder[of], level=level)
    return found
