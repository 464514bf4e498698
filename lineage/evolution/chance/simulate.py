"""A simulated Hub: models born one after another that choose, mix and change their parents.

Attention. Parents are chosen by the law of :mod:`lineage.evolution.chance.attachment`, with the
merits of :mod:`lineage.evolution.chance.rules`.

Inheritance. ``a_i = Σ_k w_ik a_k + m_i`` with Var(m) = d·V_A by kind of birth, as in Henderson's
generalised pedigree (see the relationship matrices); founders have V_A = h². Phenotype
``z = a + author effect + trend + e``, in standard deviations of the founders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.chance.attachment import copy_parents, draws_of, require_births
from lineage.evolution.chance.rules import (
    FINETUNE,
    FOUNDER,
    MERGE,
    QUANTISED,
    CategoryRules,
    HubRules,
)
from lineage.evolution.traits import Population
from lineage.graph import LineageGraph

__all__ = ["MONTH_DAYS", "SimulatedHub", "simulate_hub"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MONTH_DAYS = 30.436875
"""Days of the months in which a trend is counted."""

_LOG_CEILING = 4.0  # selection saturates at ±4, a factor of 55 either way
_MODELS_PER_PARENT = 10  # a merge of K needs 10 (K − 1) models to choose from
_MAX_PARENTS = 8


@dataclass(frozen=True, eq=False)
class SimulatedHub:
    """A simulated Hub; n models in order of birth, T traits, C categories.

    Attributes
    ----------
    born_day : (n,)
        Birth in days.
    until_day
        Last day that was watched.
    kind : (n,)
        Index into `KINDS` of :mod:`lineage.evolution.chance.rules`.
    author : (n,)
        Label of the author.
    parent_start, parent_index, parent_weight
        The pedigree as in :class:`lineage.graph.LineageGraph`; shares of a child sum to 1.
    additive, phenotype, measured : (T, n)
        Additive values a, phenotypes z, and z where it was measured (else NaN).
    category : (C, n)
        States of the categories.
    log_attention : (n,)
        Log of v, what selection made of the traits and kind; −∞ where nobody would choose it.
    """

    born_day: Floats
    until_day: float
    kind: Ints
    author: Ints
    parent_start: Ints
    parent_index: Ints
    parent_weight: Floats
    additive: Floats
    phenotype: Floats
    measured: Floats
    category: Ints
    log_attention: Floats

    def __len__(self) -> int:
        """Number of models."""
        return self.born_day.size

    def graph(self) -> LineageGraph:
        """The pedigree; ids ``m0``, ``m1``, … in order of birth."""
        width = len(str(len(self) - 1))
        ids = tuple(f"m{i:0{width}d}" for i in range(len(self)))
        return LineageGraph(ids, self.parent_start, self.parent_index, self.parent_weight)

    def population(self) -> Population:
        """Pedigree, births and measured traits ``trait_0``, ``trait_1``, …."""
        traits = {f"trait_{j}": values for j, values in enumerate(self.measured)}
        return Population(self.graph(), self.born_day, traits)

    def seen_until(self, day: float) -> SimulatedHub:
        """What somebody saw who looked on `day`: the models born by then."""
        n = int(np.searchsorted(self.born_day, day, side="right"))
        start = self.parent_start[: n + 1]
        return SimulatedHub(
            self.born_day[:n], day, self.kind[:n], self.author[:n], start,
            self.parent_index[: start[-1]], self.parent_weight[: start[-1]],
            self.additive[:, :n], self.phenotype[:, :n], self.measured[:, :n],
            self.category[:, :n], self.log_attention[:n],
        )  # fmt: skip


def simulate_hub(
    rules: HubRules, rng: np.random.Generator, *, born_day: Floats | None = None
) -> SimulatedHub:
    """Let a Hub grow; the same rules and generator give the same Hub.

    Parameters
    ----------
    rules
        How it grows.
    rng
        Source of everything that is random.
    born_day : (n,)
        Observed births, ascending, instead of the rules' number, span and growth.

    Raises
    ------
    ValueError
        If the births are not finite and ascending, or there are none; or as
        :func:`lineage.evolution.chance.attachment.copy_parents` raises.

    Examples
    --------
    >>> import numpy as np
    >>> from lineage.evolution.chance.rules import TraitRules
    >>> rules = HubRules(1000, merge_share=0.1, traits=(TraitRules(linear=0.3),))
    >>> hub = simulate_hub(rules, np.random.default_rng(1))
    >>> len(hub), int(hub.kind[0]), bool((hub.parent_index < hub.graph().edge_child).all())
    (1000, 0, True)
    """
    if born_day is None:
        born_day, until_day = _arrivals(rules, rng), rules.span_days
    else:
        require_births(born_day)
        until_day = float(born_day[-1])
    n = born_day.size
    kind = _kinds(rules, n, rng)
    n_parents = np.where(kind == FOUNDER, 0, 1)
    merges = np.flatnonzero(kind == MERGE)
    wanted = 2 + rng.poisson(rules.extra_parents, merges.size)
    n_parents[merges] = np.minimum(
        wanted, np.minimum(1 + merges // _MODELS_PER_PARENT, _MAX_PARENTS)
    )
    kind[merges[n_parents[merges] == 1]] = FINETUNE
    start = np.concatenate(([0], np.cumsum(n_parents)))
    share = _shares(n_parents, rules.weight_concentration, rng)
    brood = _Brood(rules, born_day, kind, start, share, rng)
    parent = copy_parents(
        born_day, n_parents, rules.attachment, rng, on_born=brood.settle, ceiling=brood.ceiling
    )
    primary = np.full(n, -1)
    primary[n_parents > 0] = parent[start[:-1][n_parents > 0]]
    states = [_categories(law, primary, rng) for law in rules.categories]
    category = np.array(states, dtype=np.int64).reshape(len(states), n)
    return SimulatedHub(
        born_day, until_day, kind, brood.author, start, parent, share,
        brood.additive, brood.phenotype, brood.measured(rng), category, brood.log_attention,
    )  # fmt: skip


class _Brood:
    """Authors and traits of models as they are born."""

    def __init__(
        self,
        rules: HubRules,
        born_day: Floats,
        kind: Ints,
        start: Ints,
        share: Floats,
        rng: np.random.Generator,
    ) -> None:
        n, n_traits = born_day.size, len(rules.traits)
        self.rules, self.kind, self.start, self.share = rules, kind, start, share
        self.author = _authors(n, rules.new_author_share, rng)
        self.loyal = rng.random(n) < rules.author_loyalty
        self.author_effect = rng.standard_normal((n_traits, self.author.max() + 1))
        # The two parts of a trait begin as what is drawn for each model alone.
        self.additive = rng.standard_normal((n_traits, n))
        self.phenotype = rng.standard_normal((n_traits, n))
        self.deviation = np.empty((n_traits, n))  # of the phenotype from its trend
        self.trend = (born_day - born_day[0]) / MONTH_DAYS
        self.log_attention = np.zeros(n)
        for j, law in enumerate(rules.traits):
            variance = np.array([1.0, law.finetune_variance, 0.0, law.merge_variance])
            self.additive[j] *= np.sqrt(law.heritability * variance)[kind]
            self.phenotype[j] *= math.sqrt(max(0.0, 1 - law.heritability - law.author_share))
            self.author_effect[j] *= math.sqrt(law.author_share)
        selected = any(law.linear or law.quadratic for law in rules.traits)
        neutral = not selected and set(rules.kind_weight) == {1.0}
        self.ceiling = None if neutral else math.exp(_LOG_CEILING if selected else 0.0)

    def settle(self, births: Ints, parent: Ints) -> Floats:
        """Authors and traits of `births`, whose parents are known; returns their v."""
        first = self.start[births]
        length = self.start[births + 1] - first
        loyal = self.loyal[births] & (length > 0)
        self.author[births[loyal]] = self.author[parent[first[loyal]]]
        draw = draws_of(births, self.start)
        row = np.repeat(np.arange(births.size), length)
        total = np.zeros(births.size)
        for j, law in enumerate(self.rules.traits):
            inherited = self.share[draw] * self.additive[j, parent[draw]]
            self.additive[j, births] += np.bincount(row, inherited, births.size)
            x = self.additive[j, births] + self.phenotype[j, births]
            x += self.author_effect[j, self.author[births]]
            self.deviation[j, births] = x
            self.phenotype[j, births] = x + law.trend_per_month * self.trend[births]
            total += law.linear * x + law.quadratic / 2 * x * x
        weight = np.asarray(self.rules.kind_weight)[self.kind[births]]
        v = weight * np.exp(np.clip(total, -_LOG_CEILING, _LOG_CEILING))
        log_v = np.full(births.size, -np.inf)
        self.log_attention[births] = np.log(v, out=log_v, where=v > 0)
        return np.asarray(v)

    def measured(self, rng: np.random.Generator) -> Floats:
        """Phenotypes, NaN where nobody measured."""
        values = self.phenotype.copy()
        for j, law in enumerate(self.rules.traits):
            if law.measured_share < 1:
                log_odds = math.log(law.measured_share / (1 - law.measured_share))
                chance = 1 / (1 + np.exp(-log_odds - law.measured_slope * self.deviation[j]))
                values[j, rng.random(chance.size) >= chance] = np.nan
        return values


def _arrivals(rules: HubRules, rng: np.random.Generator) -> Floats:
    u = np.sort(rng.random(rules.n_models))
    growth = rules.growth_per_day * rules.span_days
    if abs(growth) < 1e-9:
        return np.asarray(u * rules.span_days)
    return np.asarray(np.log1p(u * np.expm1(growth)) / growth * rules.span_days)


def _kinds(rules: HubRules, n: int, rng: np.random.Generator) -> Ints:
    bounds = np.cumsum([rules.founder_share, rules.quantised_share, rules.merge_share])
    part = np.searchsorted(bounds, rng.random(n), side="right")
    kind = np.array([FOUNDER, QUANTISED, MERGE, FINETUNE])[part]
    kind[0] = FOUNDER
    return np.asarray(kind, dtype=np.int64)


def _shares(n_parents: Ints, concentration: float, rng: np.random.Generator) -> Floats:
    """Dirichlet shares in compressed rows, largest first within each model."""
    model = np.repeat(np.arange(n_parents.size), n_parents)
    amount = np.ones(model.size)
    merged = n_parents[model] > 1
    amount[merged] = np.maximum(rng.standard_gamma(concentration, int(merged.sum())), 1e-9)
    amount = amount[np.lexsort((-amount, model))]
    return np.asarray(amount / np.bincount(model, amount)[model] if model.size else amount)


def _authors(n: int, new_share: float, rng: np.random.Generator) -> Ints:
    """Labels of authors: a new one, or that of a random earlier model."""
    place = np.arange(n)
    source = np.where(rng.random(n) < new_share, place, (rng.random(n) * place).astype(np.int64))
    return np.unique(_root(source), return_inverse=True)[1]


def _categories(law: CategoryRules, primary: Ints, rng: np.random.Generator) -> Ints:
    n = primary.size
    founder = primary < 0
    mutant = rng.random(n) < law.mutation
    place = np.arange(n)
    if law.n_states is None:
        return _root(np.asarray(np.where(founder | mutant, place, primary)))
    step = np.where(mutant, rng.integers(1, law.n_states, n), 0)
    step[founder] = rng.integers(0, law.n_states, int(founder.sum()))
    # Add up the steps to the founder, doubling the distance covered; founders' own count once.
    above = np.where(founder, place, primary)
    total = np.where(founder, 0, step)
    while True:
        further = above[above]
        if np.array_equal(further, above):
            return np.asarray((total + step[above]) % law.n_states)
        total = total + total[above]
        above = further


def _root(source: Ints) -> Ints:
    """Where following `source` ends; its fixed points end it."""
    while True:
        further = source[source]
        if np.array_equal(further, source):
            return source
        source = further
