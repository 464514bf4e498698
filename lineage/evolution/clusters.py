"""Intervals for observations that come in related groups: the founder bootstrap.

Models of one founder share their history, so the independent units are founders, not models.
Every statistic here is a function of sums over models, so that resampling founders means
re-adding their sums; no statistic is computed observation by observation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lineage.model import Estimate

__all__ = ["MIN_BOOTSTRAP_CLUSTERS", "cluster_bootstrap", "untrusted"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIN_BOOTSTRAP_CLUSTERS = 3
"""With fewer groups the resamples are too alike for an interval to mean anything."""

_FINITE_SHARE = 0.9


def untrusted(n: int, level: float, method: str, reason: str, n_clusters: int) -> Estimate:
    """An estimate that cannot be trusted: NaN throughout, `method` says why."""
    return Estimate(
        math.nan, math.nan, math.nan, level, n, f"{method}; not estimated: {reason}", n_clusters
    )


def cluster_bootstrap(
    moments: Floats,
    cluster: Ints,
    statistic: Callable[[Floats], Floats],
    *,
    rng: np.random.Generator,
    level: float,
    n_resamples: int,
    method: str,
) -> Estimate:
    """Estimate with the percentile interval of a bootstrap over whole clusters.

    Parameters
    ----------
    moments : (n, k)
        One row per observation; the first column must be 1.
    cluster : (n,)
        Label of each observation's group.
    statistic
        From sums of the moments, shape (..., k), to values, shape (...). NaN where undefined.
    rng
        Source of the resamples, so that the same seed gives the same interval.
    n_resamples
        Draws of G clusters out of G with replacement.

    Notes
    -----
    The interval is widened to hold the estimate where the percentiles miss it. NaN if there are
    fewer than `MIN_BOOTSTRAP_CLUSTERS` groups, the statistic is undefined, or it is undefined in
    more than a tenth of the resamples. Efron & Tibshirani (1993), *An Introduction to the
    Bootstrap*, ch. 13; resampling whole groups: Davison & Hinkley (1997), §3.8.
    """
    labels, group = np.unique(cluster, return_inverse=True)
    n, n_clusters = moments.shape[0], labels.size
    method = f"{method}; {level:.0%} percentile interval of {n_resamples} cluster resamples"
    if n_clusters < MIN_BOOTSTRAP_CLUSTERS:
        reason = f"{n_clusters} independent groups, {MIN_BOOTSTRAP_CLUSTERS} needed"
        return untrusted(n, level, method, reason, n_clusters)
    sums = np.zeros((n_clusters, moments.shape[1]))
    np.add.at(sums, group, moments)
    value = float(statistic(sums.sum(axis=0)))
    if not math.isfinite(value):
        return untrusted(n, level, method, "no variation to measure it by", n_clusters)
    drawn = rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=n_resamples)
    resampled = statistic(drawn @ sums)
    finite = resampled[np.isfinite(resampled)]
    if finite.size < _FINITE_SHARE * n_resamples:
        reason = f"undefined in {n_resamples - finite.size} of the resamples"
        return untrusted(n, level, method, reason, n_clusters)
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(
        value, min(float(low), value), max(float(high), value), level, n, method, n_clusters
    )
