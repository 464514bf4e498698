"""Intervals for observations that come in related groups: the founder bootstrap.

Models of one founder share their history, so the independent units are founders, not models.
Every statistic here is a function of sums over models, so that resampling founders means
re-adding their sums; no statistic is computed observation by observation. Where a few founders
have most models the bootstrap takes too little for chance: selection and heritability have the
jackknife instead (:mod:`lineage.evolution.jackknife`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from lineage.model import Estimate

__all__ = [
    "MIN_BOOTSTRAP_CLUSTERS",
    "cluster_bootstrap",
    "student_interval",
    "too_few_clusters",
    "untrusted",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIN_BOOTSTRAP_CLUSTERS = 3
"""With fewer groups the resamples are too alike for an interval to mean anything."""

_FINITE_SHARE = 0.9  # of the resamples in which a statistic must be defined
_RESAMPLES_AT_ONCE = 100  # bounds memory
_DRAWS_AT_ONCE = 8_000_000  # 64 MB


def untrusted(n: int, level: float, method: str, reason: str, n_clusters: int) -> Estimate:
    """An estimate that cannot be trusted: NaN throughout, `method` says why."""
    return Estimate(
        math.nan, math.nan, math.nan, level, n, f"{method}; not estimated: {reason}", n_clusters
    )


def student_interval(
    value: float, error: float, df: float, n: int, n_clusters: int, level: float, method: str
) -> Estimate:
    """Estimate from a standard error, by Student's t with `df` degrees of freedom.

    `p_value` is that of zero, None where the error is 0.
    """
    reach = float(student_t.ppf((1 + level) / 2, df)) * error
    p_value = float(2 * student_t.sf(abs(value) / error, df)) if error > 0 else None
    return Estimate(
        float(value), float(value - reach), float(value + reach), level, n,
        f"{method}; SE {error:.4g}", n_clusters, p_value,
    )  # fmt: skip


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
    problem = too_few_clusters(n_clusters)
    if problem:
        return untrusted(n, level, method, problem, n_clusters)
    sums = np.zeros((n_clusters, moments.shape[1]))
    np.add.at(sums, group, moments)
    value = float(statistic(sums.sum(axis=0)))
    if not math.isfinite(value):
        return untrusted(n, level, method, "no variation to measure it by", n_clusters)
    drawn = _drawn(rng, n_clusters, n_resamples)
    resampled = np.concatenate([statistic(part @ sums) for part in drawn])
    resampled = resampled[np.isfinite(resampled)]
    if resampled.size < _FINITE_SHARE * n_resamples:
        reason = f"undefined in {n_resamples - resampled.size} of the resamples"
        return untrusted(n, level, method, reason, n_clusters)
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Estimate(value, min(low, value), max(high, value), level, n, method, n_clusters)


def too_few_clusters(n_clusters: int) -> str | None:
    """Why no bootstrap over so few clusters can be trusted, None when it can."""
    if n_clusters < MIN_BOOTSTRAP_CLUSTERS:
        return f"{n_clusters} independent groups, {MIN_BOOTSTRAP_CLUSTERS} needed"
    return None


def _drawn(rng: np.random.Generator, n_clusters: int, n_resamples: int) -> Iterator[Ints]:
    """How often each resample holds each cluster, (B, G) at a time, so that memory is bounded."""
    at_once = max(1, min(_RESAMPLES_AT_ONCE, _DRAWS_AT_ONCE // n_clusters))
    evenly = np.full(n_clusters, 1 / n_clusters)
    for first in range(0, n_resamples, at_once):
        yield rng.multinomial(n_clusters, evenly, size=min(at_once, n_resamples - first))
