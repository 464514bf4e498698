"""Reproduction numbers by month, of cohorts and instantaneous, and the generation interval.

A child of several parents is a birth to each of them, except in the instantaneous reproduction
number, which follows primary parents. Models that were deleted before they were seen are in no
number here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma as gamma_law
from scipy.stats import t as student_t

from lineage.evolution.clusters import untrusted
from lineage.evolution.selection.fitness import Fitness
from lineage.evolution.time.person_time import month_starts
from lineage.graph import LineageGraph
from lineage.model import Estimate

__all__ = [
    "MIN_INTERVALS",
    "Monthly",
    "cohort_reproduction",
    "generation_interval",
    "infectiousness",
    "instantaneous_reproduction",
    "reproduction_posterior",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIN_INTERVALS = 10
"""Parent–child intervals below which their distribution is not estimated."""


@dataclass(frozen=True, eq=False)
class Monthly:
    """One estimate a month; `month` (m,) counts from January 1970."""

    month: Ints
    estimates: tuple[Estimate, ...]


def cohort_reproduction(
    fitness: Fitness, born_day: Floats, cluster: Ints, *, level: float = 0.95
) -> Monthly:
    """Mean children of the models born in each month (the cohort, or case, reproduction number).

    Parameters
    ----------
    fitness
        From :func:`lineage.evolution.selection.fitness.children_within`: NaN for models that have
        not been watched to the end of the window (right truncation).
    born_day : (n,)
        Birth in days since 1970 UTC; models without one are in no month. NaN hides a model: so a
        family is singled out.
    cluster : (n,)
        Independent group of each model: founders, or branches within one family.

    Returns
    -------
    Monthly
        Every month from the first birth to the last. NaN with the reason where nobody was born,
        somebody born then was not watched to the end, or fewer than 2 clusters were born. The
        error is that of a ratio of cluster sums (linearised, t with G−1), floored at 0; without
        any child the upper end is the Poisson bound ``−ln(1 − level)/G``.

    Notes
    -----
    Counts every parent of a merge, so that it exceeds growth where merges are many. Fraser (2007),
    PLoS ONE 2:e758, for cohort against instantaneous numbers.

    Raises
    ------
    ValueError
        If no birth is known, or the arrays differ in length.
    """
    if not fitness.values.shape == born_day.shape == cluster.shape:
        raise ValueError("give every model one fitness, one birth and one cluster")
    dated = np.flatnonzero(np.isfinite(born_day))
    if not dated.size:
        raise ValueError("no birth is known")
    first, starts = month_starts(float(born_day[dated].min()), float(born_day[dated].max()))
    month = np.searchsorted(starts, born_day[dated], side="right") - 1
    cohorts = np.split(
        dated[np.argsort(month, kind="stable")],
        np.cumsum(np.bincount(month, minlength=starts.size - 1))[:-1],
    )
    method = f"mean over the models born in the month; {fitness.method}"
    estimates = [
        _clustered_mean(fitness.values[models], cluster[models], level, method)
        for models in cohorts
    ]
    return Monthly(first + np.arange(starts.size - 1), tuple(estimates))


def _clustered_mean(values: Floats, cluster: Ints, level: float, method: str) -> Estimate:
    labels, group = np.unique(cluster, return_inverse=True)
    n, n_clusters = values.size, labels.size
    unwatched = int(np.isnan(values).sum())
    if n_clusters < 2 or unwatched:
        reason = f"{unwatched} of {n} models born then not watched to the end"
        if not unwatched:
            reason = f"{n_clusters} independent groups born then, 2 needed"
        return untrusted(n, level, method, reason, n_clusters)
    mean = float(values.mean())
    if mean == 0:
        high = -math.log(1 - level) / n_clusters
        return Estimate(0.0, 0.0, high, level, n, f"{method}; no child: Poisson bound", n_clusters)
    sums = np.bincount(group, weights=values - mean, minlength=n_clusters)
    error = math.sqrt(n_clusters / (n_clusters - 1) * float(sums @ sums)) / n
    reach = float(student_t.ppf((1 + level) / 2, n_clusters - 1)) * error
    method = f"{method}; clustered SE {error:.4g}"
    return Estimate(mean, max(mean - reach, 0.0), mean + reach, level, n, method, n_clusters)


def generation_interval(
    graph: LineageGraph,
    born_day: Floats,
    until_day: float,
    *,
    window_days: int = 180,
    members: NDArray[np.bool_] | None = None,
) -> tuple[Floats, int]:
    """Distribution of the age of a model at its children's births, up to `window_days`.

    Only parents that were watched through the whole window take part: the intervals of younger
    ones are cut short, which would make generations look faster than they are.

    Parameters
    ----------
    graph, born_day, until_day
        Pedigree, births in days (NaN unknown), end of the time observed.
    members : (n,)
        Children to be counted; all if None.

    Returns
    -------
    probability : (window_days + 1,)
        Share of intervals of 0, 1, … whole days, over primary parents; NaN if there are none.
    n
        Intervals it rests on.
    """
    age, parent = _primary_age(graph, born_day)
    counted = (age >= 0) & (age <= window_days)
    counted &= np.floor(born_day[parent]) + window_days < math.floor(until_day)
    if members is not None:
        counted &= members
    count = np.bincount(age[counted].astype(np.int64), minlength=window_days + 1)
    n = int(count.sum())
    return (count / n if n else np.full(window_days + 1, np.nan)), n


def _primary_age(graph: LineageGraph, born_day: Floats) -> tuple[Floats, Ints]:
    """Whole days from the primary parent's birth to each model's; NaN for founders."""
    parent = graph.primary
    day = np.floor(born_day)
    return np.where(parent >= 0, day - day[parent], np.nan), parent


def infectiousness(births: Floats, interval: Floats) -> Floats:
    """Births that would be expected on each day if every model had one child in all, shape (d,).

    ``Λ_t = Σ_s w_s I_{t−s}`` (Cori et al. 2013, eq. 1), s from 0: parent and child may share a day.
    """
    return np.convolve(births, interval)[: births.size]


def reproduction_posterior(
    n_births: int,
    pressure: float,
    *,
    method: str,
    level: float = 0.95,
    prior_shape: float = 1.0,
    prior_scale: float = 5.0,
) -> Estimate:
    """Gamma posterior of a reproduction number from births and their expectation at R = 1.

    Shape ``a + n``, rate ``1/b + Λ`` (Cori et al. 2013, Am J Epidemiol 178:1505, web appendix 1);
    the value is the posterior mean. NaN where Λ < 1: fewer than one birth could be expected, and
    the prior would speak.
    """
    method = f"{method}; gamma posterior, prior shape {prior_shape:g} scale {prior_scale:g}"
    if not pressure >= 1:
        reason = f"{pressure:.2g} births expected at R = 1, 1 needed"
        return Estimate(
            math.nan, math.nan, math.nan, level, n_births, f"{method}; not estimated: {reason}"
        )
    shape, scale = prior_shape + n_births, 1 / (1 / prior_scale + pressure)
    low, high = (
        float(gamma_law.ppf((1 + side * level) / 2, shape, scale=scale)) for side in (-1, 1)
    )
    value = shape * scale
    return Estimate(value, min(low, value), max(high, value), level, n_births, method)


def instantaneous_reproduction(
    graph: LineageGraph,
    born_day: Floats,
    until_day: float,
    *,
    window_days: int = 180,
    members: NDArray[np.bool_] | None = None,
    level: float = 0.95,
) -> Monthly:
    """Children that a model would have within the window if each month's conditions lasted.

    Births of the month to parents of at most `window_days`, over those that would be expected if
    every member had one child in all, at an age drawn from :func:`generation_interval`.

    Parameters
    ----------
    graph
        The pedigree; primary parents count.
    born_day : (n,)
        Births in days since 1970 UTC; models without one take part on neither side.
    until_day
        End of the time observed.
    window_days
        Ages at which births count.
    members : (n,)
        The family: a birth counts if child and primary parent belong to it. All models if None.

    Returns
    -------
    Monthly
        NaN with the reason where the month was not watched to its end, nobody could be expected
        to have a child, or fewer than `MIN_INTERVALS` intervals are known. The intervals take
        births as independent and the generation interval as known and constant: they are too
        narrow where a few models have most of the children.

    Raises
    ------
    ValueError
        If no member's birth is known, or `members` is no mask of the models.

    Examples
    --------
    >>> ids = [f"m{i}" for i in range(80)]
    >>> chain = [(ids[i], ids[i - 1], 1.0, 0) for i in range(1, 80)]
    >>> days = np.arange(80) * 5.0
    >>> monthly = instantaneous_reproduction(
    ...     LineageGraph.from_edges(ids, chain), days, 400.0, window_days=30
    ... )
    >>> round(monthly.estimates[4].value, 2)  # one child each; the prior pulls up a little
    1.11
    """
    if members is None:
        members = np.ones(len(graph), dtype=bool)
    if members.shape != (len(graph),) or born_day.shape != (len(graph),):
        raise ValueError(f"{len(graph)} models: give each a birth and a place in the mask")
    taking_part = members & np.isfinite(born_day) & (born_day < until_day)
    if not taking_part.any():
        raise ValueError("no member was born at a known time before until_day")
    interval, n_intervals = generation_interval(
        graph, born_day, until_day, window_days=window_days, members=members
    )
    undated = int((members & ~np.isfinite(born_day)).sum())
    method = (
        f"instantaneous reproduction number (Cori et al. 2013) within {window_days} d over primary "
        f"parents, {n_intervals} generation intervals of parents watched that long, "
        f"{undated} undated members left out; takes births as independent"
    )
    day = np.floor(born_day[taking_part]).astype(np.int64)
    first, starts = month_starts(float(day.min()), float(until_day))
    origin, n_days = int(starts[0]), int(starts[-1] - starts[0])
    age, parent = _primary_age(graph, born_day)
    begotten = taking_part & members[parent] & (age >= 0) & (age <= window_days)
    births = np.bincount(np.floor(born_day[begotten]).astype(np.int64) - origin, minlength=n_days)
    pressure = infectiousness(np.bincount(day - origin, minlength=n_days).astype(float), interval)
    estimates = []
    for start, stop in pairwise(starts.tolist()):
        span = slice(int(start) - origin, int(stop) - origin)
        n = int(births[span].sum())
        reason = None
        if stop > math.floor(until_day):
            reason = "the month was not watched to its end"
        elif n_intervals < MIN_INTERVALS:
            reason = f"{n_intervals} generation intervals, {MIN_INTERVALS} needed"
        estimates.append(
            reproduction_posterior(n, float(pressure[span].sum()), method=method, level=level)
            if reason is None
            else Estimate(
                math.nan, math.nan, math.nan, level, n, f"{method}; not estimated: {reason}"
            )
        )
    return Monthly(first + np.arange(starts.size - 1), tuple(estimates))
