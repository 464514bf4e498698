"""Opportunity for selection, episode by episode.

Propagation comes in steps: a model is noticed, downloaded, built upon. With C_k what is left of it
after episode k (C_K is fitness), the *episode's* relative fitness is

    w_k = (C_k / C_{k−1}) / (C̄_k / C̄_{k−1})

each model weighted by its share ``p_{k−1} = C_{k−1} / Σ C_{k−1}`` of what had been left before. Its
opportunity is the weighted variance ``I_k = Σ p_{k−1} (w_k − 1)²``, and the selection differential
``s_k = Σ p_{k−1} (w_k − 1) z`` is the change of the mean trait within the episode (Arnold & Wade
1984, Evolution 38:709 and 38:720).

The differentials add up to that of the whole. The opportunities do not: what adds up are the
increments, ``I(after k) − I(after k−1)``, of which I_k is the part that does not depend on what
came before; the rest is covariance between the episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.clusters import cluster_bootstrap, untrusted
from lineage.evolution.selection.differentials import MIN_MODELS, opportunity
from lineage.evolution.selection.fitness import Fitness
from lineage.model import Estimate

__all__ = [
    "Episode",
    "EpisodeDifferentials",
    "Episodes",
    "differential_by_episode",
    "opportunity_by_episode",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

_ROUNDING = 1e-12  # share of the scale below which a spread is rounding, not variation


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode of selection.

    Attributes
    ----------
    name
        Name of the total that ends it.
    opportunity
        I_k, the variance of the episode's own relative fitness among what entered it.
    increment
        What the episode adds to the opportunity so far, ``I_k`` and its covariance with the
        episodes before; negative where it undoes their differences. Increments sum to the total.
    """

    name: str
    opportunity: Estimate
    increment: Estimate


@dataclass(frozen=True, slots=True)
class Episodes:
    """Opportunity for selection over all episodes, and of each of them in order."""

    total: Estimate
    episodes: tuple[Episode, ...]


@dataclass(frozen=True, slots=True)
class EpisodeDifferentials:
    """Selection differential over all episodes, and of each by name in order; they sum to it."""

    total: Estimate
    episodes: tuple[tuple[str, Estimate], ...]


def opportunity_by_episode(
    totals: Sequence[Fitness],
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Episodes:
    """Opportunity for selection in each of several successive episodes.

    Parameters
    ----------
    totals
        What is left of each model after each episode, shape (n,), in order of time: not the
        factor of the episode but the running product, as field studies count it (mates, eggs of
        those mates, hatched eggs). A model with a NaN in any of them is left out of all.
    cluster : (n,)
        Founder of each model; resampled whole.
    rng
        Source of the resamples.

    Returns
    -------
    Episodes
        All variances over n. NaN with the reason in `method` when fewer than 3 models or 3
        founders take part, or nothing is left of any model.

    Raises
    ------
    ValueError
        If there is no episode, lengths differ, a total is negative, or something is left of a
        model of which nothing was left before; names the episode.

    Examples
    --------
    >>> import numpy as np
    >>> mates = Fitness("mates", np.array([0.0, 1.0, 1.0, 2.0]), "fitness: mates")
    >>> young = Fitness("young", np.array([0.0, 1.0, 3.0, 4.0]), "fitness: young")
    >>> found = opportunity_by_episode(
    ...     [mates, young], np.arange(4), rng=np.random.default_rng(1), n_resamples=100
    ... )
    >>> [(part.name, part.opportunity.value) for part in found.episodes], found.total.value
    ([('mates', 0.5), ('young', 0.125)], 0.625)
    """
    totals, cluster, _ = _complete(totals, cluster, np.ones(cluster.shape, dtype=np.bool_))
    draws = _Draws(cluster, _problem(totals), rng, level, n_resamples)
    before = np.ones(cluster.size)
    episodes = []
    for total in totals:
        after = total.values
        share = np.divide(after**2, before, out=np.zeros_like(after), where=before > 0)
        rows = np.column_stack([np.ones_like(after), before, after, before**2, after**2, share])
        method = f"episode {total.name!r}, {total.method}"
        episodes.append(
            Episode(
                total.name,
                draws.estimate(rows, _own, f"opportunity for selection I_k of {method}"),
                draws.estimate(rows, _increment, f"opportunity for selection added by {method}"),
            )
        )
        before = after
    whole = opportunity(totals[-1], cluster, rng=rng, level=level, n_resamples=n_resamples)
    return Episodes(whole, tuple(episodes))


def differential_by_episode(
    trait: Floats,
    totals: Sequence[Fitness],
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> EpisodeDifferentials:
    """Selection differential in each of several successive episodes, in units of the trait.

    Parameters
    ----------
    trait : (n,)
        Trait of each model; one with a NaN here or in any total is left out.
    totals, cluster, rng
        As for :func:`opportunity_by_episode`, and the same errors.

    Returns
    -------
    EpisodeDifferentials
        Covariances over n, so that the parts are changes of a mean and add up. NaN also where the
        trait does not vary.
    """
    if trait.shape != cluster.shape:
        raise ValueError(f"trait: {cluster.size} values expected, {trait.size} given")
    kept, group, known = _complete(totals, cluster, np.isfinite(trait))
    z = trait[known]
    problem = _problem(kept)
    if not problem and np.ptp(z) <= _ROUNDING * np.abs(z).max():
        problem = "the trait does not vary"
    draws = _Draws(group, problem, rng, level, n_resamples)
    z = z - z.mean() if z.size else z

    def differential(before: Floats, after: Floats, method: str) -> Estimate:
        rows = np.column_stack([np.ones_like(z), before, after, before * z, after * z])
        return draws.estimate(rows, _moved, f"selection differential {method}")

    none = np.ones_like(z)
    starts = [none, *(t.values for t in kept[:-1])]
    parts = tuple(
        (t.name, differential(start, t.values, f"s_k of episode {t.name!r}, {t.method}"))
        for start, t in zip(starts, kept, strict=True)
    )
    last = kept[-1]
    return EpisodeDifferentials(
        differential(none, last.values, f"over all episodes, {last.method}"), parts
    )


@dataclass(frozen=True, eq=False)
class _Draws:
    """Bootstrap over founders of statistics of one set of models."""

    cluster: Ints
    problem: str | None
    rng: np.random.Generator
    level: float
    n_resamples: int

    def estimate(self, rows: Floats, statistic: Statistic, method: str) -> Estimate:
        if self.problem:
            n_clusters = np.unique(self.cluster).size
            return untrusted(self.cluster.size, self.level, method, self.problem, n_clusters)
        return cluster_bootstrap(
            rows,
            self.cluster,
            statistic,
            rng=self.rng,
            level=self.level,
            n_resamples=self.n_resamples,
            method=method,
        )


def _own(sums: Floats) -> Floats:
    """``Σ p w² − 1`` with p = C' / ΣC' and w = (C / C') (ΣC' / ΣC); C' before, C after."""
    before, after, squares = sums[..., 1], _positive(sums[..., 2]), sums[..., 5]
    return np.asarray(before * squares / after**2 - 1.0)


def _increment(sums: Floats) -> Floats:
    n, before, after = sums[..., 0], _positive(sums[..., 1]), _positive(sums[..., 2])
    return np.asarray(n * (sums[..., 4] / after**2 - sums[..., 3] / before**2))


def _moved(sums: Floats) -> Floats:
    """Mean trait of what is left after the episode, less that of what was left before."""
    before, after = _positive(sums[..., 1]), _positive(sums[..., 2])
    return np.asarray(sums[..., 4] / after - sums[..., 3] / before)


def _positive(total: Floats) -> Floats:
    return np.asarray(np.where(total > 0, total, np.nan))


def _complete(
    totals: Sequence[Fitness], cluster: Ints, among: NDArray[np.bool_]
) -> tuple[list[Fitness], Ints, NDArray[np.bool_]]:
    """Totals and clusters of the models known throughout, and which they are."""
    if not totals:
        raise ValueError("no episode is given")
    for total in totals:
        if total.values.shape != cluster.shape:
            raise ValueError(
                f"{total.name}: {cluster.size} values expected, {total.values.size} given"
            )
        if (total.values < 0).any():
            raise ValueError(f"{total.name}: what is left of a model must not be negative")
    for before, after in pairwise(totals):
        if ((before.values == 0) & (after.values > 0)).any():
            raise ValueError(f"{after.name}: something is left of a model without {before.name}")
    known = among & np.isfinite(np.stack([total.values for total in totals])).all(axis=0)
    kept = [Fitness(total.name, total.values[known], total.method) for total in totals]
    return kept, cluster[known], known


def _problem(totals: Sequence[Fitness]) -> str | None:
    """Why no episode can be trusted, None when it can."""
    last = totals[-1].values
    if last.size < MIN_MODELS:
        return f"{last.size} models known in every episode, {MIN_MODELS} needed"
    if not last.any():
        return "nothing is left of any model"
    return None
