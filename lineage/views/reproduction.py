"""Reproduction numbers of the published population, from sums by day and by cluster."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import duckdb
import numpy as np
from numpy.typing import NDArray

from lineage.evolution.clusters import student_interval, untrusted
from lineage.evolution.time.person_time import month_starts
from lineage.evolution.time.reproduction import (
    MIN_INTERVALS,
    infectiousness,
    reproduction_posterior,
)
from lineage.model import Estimate
from lineage.store import published_propagation as published
from lineage.store.published_scope import Columns, Scope

__all__ = ["MonthEstimate", "month_words", "reproduction"]

Floats = NDArray[np.float64]

_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class MonthEstimate:
    """An estimate of a month (its first day as ISO date)."""

    month: str
    estimate: Estimate


def month_words(month: int) -> str:
    """First day, as ISO date, of a month counted from January 1970."""
    return f"{1970 + month // 12}-{month % 12 + 1:02d}-01"


def reproduction(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, until: float, window_days: int = 180
) -> tuple[tuple[MonthEstimate, ...], tuple[MonthEstimate, ...]]:
    """Reproduction numbers by month: instantaneous, and of the models born in it (cohorts).

    The same as :func:`lineage.evolution.time.reproduction.instantaneous_reproduction` and
    :func:`~lineage.evolution.time.reproduction.cohort_reproduction`, from sums by day and cluster.
    Cohorts that were not watched to the end of the window are NaN: their children are still to come
    (right truncation).
    """
    models, births = published.daily_births(cursor, scope, until)
    if not models["day"].size:
        return (), ()
    return (
        _instantaneous(models, births, until, window_days),
        _cohorts(published.cohorts(cursor, scope, until, float(window_days)), window_days),
    )


def _instantaneous(
    models: Columns, births: Columns, until: float, window_days: int
) -> tuple[MonthEstimate, ...]:
    first, starts = month_starts(float(models["day"].min()), until)
    origin, n_days = int(starts[0]), int(starts[-1] - starts[0])
    day, age, n = (births[name].astype(np.int64) for name in ("day", "age", "n"))
    bred = age <= window_days
    watched = bred & (day - age + window_days < math.floor(until))
    count = np.bincount(age[watched], weights=n[watched], minlength=window_days + 1)
    n_intervals = int(count.sum())
    interval = count / max(n_intervals, 1)
    born = np.bincount(models["day"] - origin, weights=models["n"], minlength=n_days)
    pressure = infectiousness(born.astype(np.float64), interval)
    begotten = np.bincount(day[bred] - origin, weights=n[bred], minlength=n_days)
    method = (
        f"instantaneous reproduction number (Cori et al. 2013) within {window_days} d over primary "
        f"parents, {n_intervals} generation intervals of parents watched that long; takes births "
        "as independent"
    )
    found = []
    for month, (start, stop) in enumerate(pairwise(starts.tolist()), start=first):
        span = slice(int(start) - origin, int(stop) - origin)
        n_born, reason = int(begotten[span].sum()), None
        if stop > math.floor(until):
            reason = "the month was not watched to its end"
        elif n_intervals < MIN_INTERVALS:
            reason = f"{n_intervals} generation intervals, {MIN_INTERVALS} needed"
        estimate = (
            reproduction_posterior(n_born, float(pressure[span].sum()), method=method, level=_LEVEL)
            if reason is None
            else untrusted(n_born, _LEVEL, method, reason, 0)
        )
        found.append(MonthEstimate(month_words(month), estimate))
    return tuple(found)


def _cohorts(found: Columns, window_days: int) -> tuple[MonthEstimate, ...]:
    method = f"mean children within {window_days} d of the models born in the month, of founders"
    months = []
    for month in np.unique(found["month"]).tolist():
        own = found["month"] == month
        n, children = found["models"][own].astype(float), found["children"][own].astype(float)
        unwatched, estimate = int(found["unwatched"][own].sum()), _mean(n, children, method)
        if unwatched:
            total = int(n.sum())
            reason = f"{unwatched} of {total} models born then not watched to the end"
            estimate = untrusted(total, _LEVEL, method, reason, n.size)
        months.append(MonthEstimate(month_words(month), estimate))
    return tuple(months)


def _mean(n: Floats, children: Floats, method: str) -> Estimate:
    """Ratio of cluster sums: linearised error, t with G−1, floored at 0."""
    total, n_clusters = float(n.sum()), n.size
    if n_clusters < 2:
        return untrusted(int(total), _LEVEL, method, "one independent group, 2 needed", n_clusters)
    mean = float(children.sum()) / total
    if mean == 0:
        high = -math.log(1 - _LEVEL) / n_clusters
        about = f"{method}; no child: Poisson bound"
        return Estimate(0.0, 0.0, high, _LEVEL, int(total), about, n_clusters)
    residual = children - mean * n
    error = math.sqrt(n_clusters / (n_clusters - 1) * float(residual @ residual)) / total
    found = student_interval(mean, error, n_clusters - 1, int(total), n_clusters, _LEVEL, method)
    return replace(found, low=max(found.low, 0.0), p_value=None)
