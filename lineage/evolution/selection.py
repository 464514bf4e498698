"""Fitness of models, and selection on their traits.

Fitness W is how much a model is propagated. Whatever is counted needs time to happen, so a model
takes part only once the time over which it is counted has been watched to its end; the raw counts
of the young are never used. Relative fitness is ``w = W / W̄``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.clusters import cluster_bootstrap, untrusted
from lineage.graph import LineageGraph
from lineage.model import Estimate

__all__ = [
    "MIN_MODELS",
    "Fitness",
    "children_within",
    "descendants_within",
    "opportunity",
    "opportunity_excess",
    "rate_since_birth",
    "rolling_count",
    "selection_differential",
    "selection_intensity",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Covariance = Callable[[Floats, Floats, Floats, Floats], Floats]

MIN_MODELS = 3
_ROUNDING = 1e-12  # share of the scale below which a spread is rounding, not variation


@dataclass(frozen=True, eq=False)
class Fitness:
    """A measure of propagation.

    Attributes
    ----------
    name
        E.g. ``children_180d``.
    values : (n,)
        Fitness of each model, NaN where it has not been watched for long enough.
    method
        What was counted, over which time, and who was left out.
    """

    name: str
    values: Floats
    method: str


def children_within(
    graph: LineageGraph, born_day: Floats, until_day: float, window_days: float = 180.0
) -> Fitness:
    """Children born within `window_days` of a model's own birth.

    Parameters
    ----------
    graph
        The pedigree.
    born_day : (n,)
        Births in days, NaN when unknown. A child of unknown birth, or dated before its parent, is
        not counted; a model of unknown birth has no fitness.
    until_day
        Last day that was observed. Models younger than the window then have no fitness (NaN).
    """
    age = born_day[graph.edge_child] - born_day[graph.parent_index]
    counted = (age >= 0) & (age <= window_days)
    count = np.bincount(graph.parent_index[counted], minlength=len(graph)).astype(float)
    values = np.where(born_day + window_days <= until_day, count, np.nan)
    return Fitness(
        f"children_{window_days:g}d",
        values,
        f"fitness: children born within {window_days:g} d of the model's own birth; "
        "models not watched that long left out",
    )


def descendants_within(
    graph: LineageGraph, born_day: Floats, until_day: float, window_days: float = 180.0
) -> Fitness:
    """Descendants born within `window_days` of a model's own birth, each counted once.

    Over all edges: a descendant of unknown birth, or dated before the model, is passed through but
    not counted. Parameters and missing values as for :func:`children_within`. Time grows with the
    number of pairs of ancestor and descendant inside the window.
    """
    counts = np.full(len(graph), np.nan)
    watched = np.flatnonzero(born_day + window_days <= until_day)
    counts[watched] = 0.0
    ends = born_day + window_days
    for model in watched[graph.n_children[watched] > 0].tolist():
        seen = {model}
        waiting = [model]
        while waiting:
            i = waiting.pop()
            for k in graph.child_index[graph.child_start[i] : graph.child_start[i + 1]].tolist():
                # What was born after the window has no descendants in it.
                if k not in seen and not born_day[k] > ends[model]:
                    seen.add(k)
                    waiting.append(k)
                    counts[model] += born_day[k] >= born_day[model]
    return Fitness(
        f"descendants_{window_days:g}d",
        counts,
        f"fitness: descendants born within {window_days:g} d of the model's own birth; "
        "models not watched that long left out",
    )


def rate_since_birth(
    name: str, total: Floats, born_day: Floats, until_day: float, window_days: float = 180.0
) -> Fitness:
    """A running total (likes) per day of life, for models at least `window_days` old.

    NaN where the total or the birth is unknown.
    """
    age = until_day - born_day
    old_enough = age >= window_days
    values = np.where(old_enough, total / np.where(age > 0, age, np.nan), np.nan)
    return Fitness(
        name,
        values,
        f"fitness: total per day since birth; models younger than {window_days:g} d left out",
    )


def rolling_count(
    name: str, count: Floats, born_day: Floats, until_day: float, window_days: float = 30.0
) -> Fitness:
    """A count over the last `window_days` (downloads), for models that lived through all of them.

    NaN where the count or the birth is unknown.
    """
    values = np.where(born_day + window_days <= until_day, count, np.nan)
    return Fitness(
        name,
        values,
        f"fitness: count over the last {window_days:g} d; models younger than that left out",
    )


def selection_differential(
    trait: Floats,
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Estimate:
    """Selection differential ``S = Cov(w, z)``, in units of the trait (Robertson 1966; Price 1970).

    How much the mean trait, weighted by fitness, exceeds the plain mean; the sample covariance
    (n − 1) is used. It contains every path from trait to fitness and every common cause of both.

    Parameters
    ----------
    trait : (n,)
        Values z; models with a NaN here or in `fitness` are left out of the means too.
    fitness
        Values W; ``w = W / W̄`` over the models that take part.
    cluster : (n,)
        Founder of each model; resampled whole.
    rng
        Source of the resamples.

    Returns
    -------
    Estimate
        NaN with the reason in `method` when fewer than 3 models or 3 groups take part, nobody has
        any fitness, or the trait does not vary.
    """
    method = f"selection differential S = Cov(w, z); {fitness.method}"

    def differential(n: Floats, mean_w: Floats, s_wz: Floats, s_zz: Floats) -> Floats:
        return np.asarray(s_wz / (n - 1) / mean_w)

    return _covariance(differential, trait, fitness, cluster, rng, level, n_resamples, method)


def selection_intensity(
    trait: Floats,
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Estimate:
    """Standardised selection differential ``i = S / σ_z``, in standard deviations of the trait.

    Both with n − 1 (Lande & Arnold 1983). Parameters and missing values as for
    :func:`selection_differential`; each resample is standardised by its own σ_z.
    """
    method = f"standardised selection differential i = Cov(w, z)/σ_z; {fitness.method}"

    def intensity(n: Floats, mean_w: Floats, s_wz: Floats, s_zz: Floats) -> Floats:
        return np.asarray(s_wz / (n - 1) / mean_w / np.sqrt(s_zz / (n - 1)))

    return _covariance(intensity, trait, fitness, cluster, rng, level, n_resamples, method)


def opportunity(
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Estimate:
    """Opportunity for selection ``I = Var(W) / W̄²`` (Crow 1958; Arnold & Wade 1984).

    Variance over n. ``√I`` bounds the intensity of selection on any trait whatever; it is not
    itself evidence of selection, since chance and fashion make fitness vary too.
    """
    method = f"opportunity for selection I = Var(W)/W̄²; {fitness.method}"
    return _opportunity(fitness, cluster, rng, level, n_resamples, method, 0.0)


def opportunity_excess(
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Estimate:
    """Opportunity beyond chance, ``I − 1/W̄``; for counts only.

    If every model had the same expected number of children, counts would be Poisson with variance
    W̄ and I would be 1/W̄. An excess means that expectations differ, be it through traits, fashion
    or preferential attachment.
    """
    method = f"opportunity beyond Poisson chance I − 1/W̄; {fitness.method}"
    return _opportunity(fitness, cluster, rng, level, n_resamples, method, 1.0)


def _covariance(
    statistic: Covariance,
    trait: Floats,
    fitness: Fitness,
    cluster: Ints,
    rng: np.random.Generator,
    level: float,
    n_resamples: int,
    method: str,
) -> Estimate:
    """Bootstrap a function of n, W̄, Σ(W−W̄)(z−z̄) and Σ(z−z̄)²."""
    both = np.isfinite(trait) & np.isfinite(fitness.values)
    z, w, cluster = trait[both], fitness.values[both], cluster[both]
    n_clusters = np.unique(cluster).size
    if z.size < MIN_MODELS:
        reason = f"{z.size} models with trait and fitness, {MIN_MODELS} needed"
        return untrusted(z.size, level, method, reason, n_clusters)
    if np.ptp(z) <= _ROUNDING * np.abs(z).max():
        return untrusted(z.size, level, method, "the trait does not vary", n_clusters)
    if w.mean() <= 0:
        return untrusted(z.size, level, method, "no model has any fitness", n_clusters)
    mean_w = w.mean()
    # Centred before squaring, so that sums of clusters keep their digits.
    dz, dw = z - z.mean(), w - mean_w
    moments = np.column_stack([np.ones_like(z), dw, dz, dw * dz, dz * dz])
    floor = _ROUNDING * float(dz @ dz)

    def of_sums(sums: Floats) -> Floats:
        n, sw, sz, swz, szz = np.moveaxis(sums, -1, 0)
        mean = np.where(mean_w + sw / n > 0, mean_w + sw / n, np.nan)
        spread = szz - sz * sz / n
        usable = (n > 1) & (spread > floor)
        n = np.where(usable, n, np.nan)
        return statistic(n, mean, swz - sw * sz / n, np.where(usable, spread, np.nan))

    return cluster_bootstrap(
        moments, cluster, of_sums, rng=rng, level=level, n_resamples=n_resamples, method=method
    )


def _opportunity(
    fitness: Fitness,
    cluster: Ints,
    rng: np.random.Generator,
    level: float,
    n_resamples: int,
    method: str,
    chance: float,
) -> Estimate:
    known = np.isfinite(fitness.values)
    w, cluster = fitness.values[known], cluster[known]
    n_clusters = np.unique(cluster).size
    if w.size < MIN_MODELS:
        reason = f"{w.size} models with fitness, {MIN_MODELS} needed"
        return untrusted(w.size, level, method, reason, n_clusters)
    if w.mean() <= 0:
        return untrusted(w.size, level, method, "no model has any fitness", n_clusters)
    mean_w = w.mean()
    dw = w - mean_w
    moments = np.column_stack([np.ones_like(w), dw, dw * dw])

    def of_sums(sums: Floats) -> Floats:
        n, sw, sww = np.moveaxis(sums, -1, 0)
        mean = np.where(mean_w + sw / n > 0, mean_w + sw / n, np.nan)
        return np.asarray((sww - sw * sw / n) / n / mean**2 - chance / mean)

    return cluster_bootstrap(
        moments, cluster, of_sums, rng=rng, level=level, n_resamples=n_resamples, method=method
    )
