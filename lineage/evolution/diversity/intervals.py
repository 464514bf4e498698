"""Diversity by category and founder: counts, and intervals that resample founders.

Models of a founder are not independent: intervals resample founders. Counts are arrays
(..., S) of which the last axis is the categories; categories of a model are numbers from 0, and a
negative one means unknown and takes part in nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lineage.evolution.clusters import MIN_BOOTSTRAP_CLUSTERS, untrusted
from lineage.model import Estimate

__all__ = [
    "Statistic",
    "counts_by_cluster",
    "diversity",
    "founder_interval",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

_FINITE_SHARE = 0.9
_DRAWS_PER_BATCH = 4_000_000  # bounds the memory of resampling to some 32 MB


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
        E.g. ``partial(hill_number, q=1)``, :func:`lineage.evolution.diversity.hill.chao1`,
        :func:`lineage.evolution.diversity.entropy.chao_shen`.
    name
        What it is, for `method`.

    Examples
    --------
    >>> import numpy as np
    >>> from functools import partial
    >>> from lineage.evolution.diversity.hill import hill_number
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
