"""Lewontin's conditions for one trait of one population, with what would make them false.

A population evolves by natural selection of a trait if its members differ in it (*variation*),
offspring resemble their parents in it (*heredity*), and members that differ in it leave different
numbers of offspring (*differential fitness*) (Lewontin 1970, Annu Rev Ecol Syst 1:1). Each is an
estimate with an interval and, where chance or common origin could make it too, a null that keeps
them. A condition is *met* only where the founders agree (a quantity's p-value by the signs of their
contributions, else the interval) and the null is rejected; *not shown* is no evidence of absence;
*cannot tell* means that the data do not allow the question.

A numeric trait is judged by its standard deviation, its slope on the weighted mid-parent and its
standardised selection differential among models of one month; a categorical one by its effective
number of values, the information that a parent's value gives about the child's, and the variance of
relative fitness between its values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lineage.evolution.catalogue import Trait
from lineage.evolution.categories.information import parent_information
from lineage.evolution.categories.label_selection import fitness_between_labels, permute_labels
from lineage.evolution.categories.mutation import mutation_rate
from lineage.evolution.categories.value_sets import single_values
from lineage.evolution.chance.attachment_fit import AttachmentFit, fit_attachment
from lineage.evolution.chance.copying_null import copying_null
from lineage.evolution.clusters import cluster_bootstrap
from lineage.evolution.degrees import (
    Degree,
    continuity,
    dependence,
    dependence_on_label,
    fidelity,
    no_order,
)
from lineage.evolution.diversity.hill import hill_number
from lineage.evolution.diversity.intervals import diversity
from lineage.evolution.inheritance.adjusted import adjusted_heritability
from lineage.evolution.inheritance.heritability import (
    heritability_jackknife,
    within_founder_heritability,
)
from lineage.evolution.selection.differentials import (
    intensity_jackknife,
    opportunity,
    opportunity_excess,
)
from lineage.evolution.selection.fitness import Fitness
from lineage.evolution.selection.multiple import permute_differential, permute_resemblance
from lineage.evolution.threats import DAYS_A_MONTH, Circumstances, Threat, threats_of
from lineage.evolution.traits import Population
from lineage.model import Estimate

__all__ = [
    "N_REPLICATES",
    "Answer",
    "Condition",
    "LewontinVerdict",
    "Null",
    "Question",
    "judge_labels",
    "judge_numbers",
    "strata_of",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SIGNIFICANCE = 0.05
N_REPLICATES = 199
"""Blind histories that the copying null draws."""
_ROUNDING = 1e-12
_COPYING = "parents chosen blindly, by age and fame as fitted"
_UNFITTED = f"{_COPYING} (though no single law fits)"


class Answer(StrEnum):
    """What the data say about a condition."""

    MET = "met"
    NOT_SHOWN = "not shown"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class Null:
    """What the estimate would be without what is asked for.

    Attributes
    ----------
    words
        What was left to chance.
    expected
        Mean of the null.
    p_value
        NaN where the null cannot be drawn; `method` says why.
    """

    words: str
    expected: float
    p_value: float
    method: str


@dataclass(frozen=True, slots=True)
class Condition:
    """One of Lewontin's three, with its estimate, its nulls and what stands beside it.

    Every null that could be drawn has to be rejected, the first one in any case. `beside` holds
    further estimates by name; they do not decide.
    """

    name: str
    answer: Answer
    estimate: Estimate
    nulls: tuple[Null, ...]
    beside: tuple[tuple[str, Estimate], ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class LewontinVerdict:
    """The three conditions, the threats to them and the degrees.

    Attributes
    ----------
    n_models, n_founders
        Models of the population with a known value, and their founders.
    n_population
        Models of the population, with a value or without.
    """

    trait: Trait
    fitness: str
    n_population: int
    n_models: int
    n_founders: int
    conditions: tuple[Condition, Condition, Condition]
    threats: tuple[Threat, ...]
    degrees: tuple[Degree, ...]

    @property
    def answer(self) -> Answer:
        """Met where all three are; cannot tell where one cannot be told and none is not shown."""
        answers = {condition.answer for condition in self.conditions}
        if answers == {Answer.MET}:
            return Answer.MET
        return Answer.NOT_SHOWN if Answer.NOT_SHOWN in answers else Answer.CANNOT_TELL

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        what = f"“{self.trait.name}”"
        doubts = sum(threat.applies is True for threat in self.threats)
        doubtful = (
            f" {doubts} known {'threat applies' if doubts == 1 else 'threats apply'} to this."
            if doubts
            else ""
        )
        if self.answer is Answer.MET:
            return (
                f"Lewontin's three conditions are met for {what}: models differ in it, hand it on, "
                f"and those that differ are propagated differently.{doubtful}"
            )
        missing = [c.name for c in self.conditions if c.answer is not Answer.MET]
        how = "cannot be told" if self.answer is Answer.CANNOT_TELL else "is not shown"
        return (
            f"That {what} evolves by selection {how}: {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not established.{doubtful}"
        )


@dataclass(frozen=True, eq=False)
class Question:
    """The population, the fitness and how both are asked.

    Attributes
    ----------
    population
        Pedigree and births; parents outside `member` still count as parents.
    member : (n,)
        Who is asked: everybody, a clade, those born since a day.
    cluster : (n,)
        Independent groups: founders, or within one clade the lines of its founder's children.
    unit
        What such a group is called.
    owner : (n,)
        Who uploaded each model.
    stratum : (n,)
        Models that are alike but for the trait (:func:`strata_of`).
    alike
        In what.
    fitness
        Of all n models.
    watched
        Last day that was observed and length of the window in days, where fitness counts the
        children born in it: selection of a quantity is then held against blind copying too.
    attention
        The law by which this population chose its parents, where it was fitted before.
    """

    population: Population
    member: Bools
    cluster: Ints
    owner: Ints
    stratum: Ints
    fitness: Fitness
    watched: tuple[float, float] | None = None
    unit: str = "founder"
    alike: str = "founder, size and month"
    attention: AttachmentFit | None = None

    def of_members(self) -> Fitness:
        """Fitness of those asked, NaN for others."""
        return replace(self.fitness, values=np.where(self.member, self.fitness.values, np.nan))


def strata_of(*labels: Ints | Floats) -> Ints:
    """One stratum for every combination of labels, such as founder, size and month of birth.

    NaN is a value of its own: of unknown size, of unknown birth.

    Examples
    --------
    >>> import numpy as np
    >>> strata_of(np.array([0, 0, 1]), np.array([1.0, np.nan, 1.0])).tolist()
    [0, 1, 2]
    """
    columns = []
    for label in labels:
        _, place = np.unique(np.asarray(label, dtype=float), return_inverse=True, equal_nan=True)
        columns.append(place.ravel())
    _, stratum = np.unique(np.column_stack(columns), axis=0, return_inverse=True)
    return np.asarray(stratum.ravel(), dtype=np.int64)


def judge_numbers(
    asked: Question,
    trait: Trait,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
    n_permutations: int = 999,
) -> LewontinVerdict:
    """Judge a numeric or binary trait of `asked.population.traits`.

    Raises
    ------
    KeyError
        If the population has no such trait.
    """
    population, member, cluster = asked.population, asked.member, asked.cluster
    values = np.where(member, population.traits[trait.name], np.nan)
    known = np.isfinite(values)
    spread = cluster_bootstrap(
        np.column_stack([np.ones(known.sum()), *_powers(values[known])]),
        cluster[known],
        _standard_deviation,
        rng=rng,
        level=level,
        n_resamples=n_resamples,
        method="standard deviation",
    )
    variation = Condition(
        "variation",
        _varied(spread, 0.0),
        spread,
        (),
        (),
        _told(spread, "Models differ in it by {} (standard deviation)."),
    )

    mid_parent = np.where(member, population.mid_parent(trait.name), np.nan)
    month = strata_of(np.floor(population.born_day / DAYS_A_MONTH))
    slope = heritability_jackknife(values, mid_parent, cluster, rng=rng, level=level)
    shuffled = permute_resemblance(
        values, mid_parent, _of_parents(asked), rng=rng, n_permutations=n_permutations
    )
    how = f"parents exchanged among models of one {asked.alike}"
    nulls: tuple[Null, ...] = (Null(how, shuffled.expected, shuffled.p_value, shuffled.method),)
    within = within_founder_heritability(
        values, mid_parent, population.graph.founder, rng=rng, level=level
    )
    adjusted = adjusted_heritability(
        population, trait.name, asked.owner, cluster, month, rng=rng, member=member, level=level
    )
    heredity = Condition(
        "heredity",
        _answer(slope, slope.value > 0 and _is_significant(slope), nulls),
        slope,
        nulls,
        (("slope within founders", within), ("slope within months, between owners", adjusted)),
        _told(slope, "Of a difference between parents, the share {} is found in their children.")
        + _by_chance(nulls),
    )

    fitness = asked.of_members()
    intensity = intensity_jackknife(values, fitness, cluster, rng=rng, month=month, level=level)
    away, stretch = _within(values, fitness, month)
    tested = permute_differential(
        away, fitness, asked.stratum, rng=rng, n_permutations=n_permutations
    )
    deviation = float(np.nanstd(away, ddof=1)) if np.isfinite(away).sum() > 1 else math.nan
    expected = stretch * tested.expected / (deviation or math.nan)
    how = f"fitness exchanged among models of one {asked.alike}"
    nulls = (
        Null(how, expected, tested.p_value, tested.method),
        *_copied(asked, away, stretch, rng),
    )
    differential = Condition(
        "differential fitness",
        _answer(intensity, _is_significant(intensity), nulls),
        intensity,
        nulls,
        _opportunities(fitness, cluster, rng, level, n_resamples),
        _told(
            intensity,
            "Weighted by how much models are propagated, the mean of one month's models is shifted "
            f"by {{}} standard deviations{_towards(trait, intensity)}.",
        )
        + _by_chance(nulls),
    )
    relative = _relative(fitness.values)
    degrees = (
        fidelity(slope),
        continuity(values, relative, cluster, level=level),
        dependence(values, relative, asked.stratum, cluster, level=level),
    )
    conditions = (variation, heredity, differential)
    everyone = population.traits[trait.name]
    return _verdict(asked, trait, known, everyone, conditions, degrees)


def judge_labels(
    asked: Question,
    trait: Trait,
    sets: csr_array,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
    n_permutations: int = 999,
) -> LewontinVerdict:
    """Judge a categorical trait.

    Parameters
    ----------
    sets : (n, V)
        Values of every model (:func:`lineage.evolution.categories.value_sets.value_sets`). Edge
        mutation rates use sets as they are; everything else the models with exactly one value.
    """
    graph, member, cluster = asked.population.graph, asked.member, asked.cluster
    label = np.where(member, single_values(sets), -1)
    fitness = asked.of_members()
    known = label >= 0
    n_several = int((member & (np.diff(sets.indptr) > 1)).sum())

    number = diversity(
        label,
        cluster,
        partial(hill_number, q=1.0),
        "effective number of values (Hill number of order 1)",
        rng=rng,
        level=level,
        n_resamples=n_resamples,
        lowest=1.0,
    )
    variation = Condition(
        "variation",
        _varied(number, 1.0),
        number,
        (),
        (),
        _told(number, "Models are as diverse in it as {} equally common values would be.")
        + (f" {n_several} models with several values are left out." if n_several else ""),
    )

    asks = member[graph.edge_child]
    child, parent = graph.edge_child[asks], graph.parent_index[asks]
    everyone = single_values(sets)
    told = parent_information(
        everyone, child, parent, cluster[child], stratum=asked.stratum, alike=asked.alike,
        rng=rng, level=level, n_permutations=n_permutations, n_resamples=n_resamples,
    )  # fmt: skip
    p_value = told.observed.p_value
    p_value = math.nan if p_value is None else p_value
    how = f"parents exchanged among models of one {asked.alike}"
    nulls = (Null(how, told.null_mean, p_value, told.observed.method),)
    rate = mutation_rate(sets, child, parent, cluster[child], level=level).by_founder
    heredity = Condition(
        "heredity",
        _answer(told.observed, told.observed.low > 0, nulls),
        told.observed,
        nulls,
        (("edge mutation rate", rate),),
        _told(told.observed, "Knowing the parent removes the share {} of the doubt about a child.")
        + _by_chance(nulls),
    )

    fitness = asked.of_members()
    between = fitness_between_labels(
        label, fitness, cluster, rng=rng, level=level, n_resamples=n_resamples
    )
    tested = permute_labels(label, fitness, asked.stratum, rng=rng, n_permutations=n_permutations)
    how = f"fitness exchanged among models of one {asked.alike}"
    nulls = (Null(how, tested.expected, tested.p_value, tested.method),)
    differential = Condition(
        "differential fitness",
        _answer(between, True, nulls),  # a square: only its null can say that it is none
        between,
        nulls,
        _opportunities(fitness, cluster, rng, level, n_resamples),
        _told(between, "Relative fitness has the variance {} between its values.")
        + _by_chance(nulls),
    )
    degrees = (
        fidelity(rate, is_rate_of_change=True),
        no_order(int(known.sum()), level),
        dependence_on_label(label, _relative(fitness.values), asked.stratum, cluster, level=level),
    )
    conditions = (variation, heredity, differential)
    numbers = np.where(everyone >= 0, everyone.astype(float), np.nan)
    return _verdict(asked, trait, known, numbers, conditions, degrees)


def _verdict(
    asked: Question,
    trait: Trait,
    known: Bools,
    numbers: Floats,
    conditions: tuple[Condition, Condition, Condition],
    degrees: tuple[Degree, ...],
) -> LewontinVerdict:
    at = Circumstances(
        known,
        numbers,
        trait.type,
        asked.fitness.values,
        asked.owner,
        min(one.estimate.n_clusters or 0 for one in conditions),
        asked.unit,
        trait.is_constitutive,
        trait.is_evaluation,
    )
    return LewontinVerdict(
        trait,
        asked.fitness.name,
        int(asked.member.sum()),
        int(known.sum()),
        int(np.unique(asked.population.graph.founder[known]).size),
        conditions,
        threats_of(asked.population, at),
        degrees,
    )


def _of_parents(asked: Question) -> Ints:
    """The stratum of each model's primary parent, −1 for founders.

    Parents are exchanged with all their children, whenever these were born.
    """
    primary = asked.population.graph.primary
    return np.where(primary >= 0, asked.stratum[primary], -1)


def _powers(values: Floats) -> tuple[Floats, Floats]:
    """First and second powers about the mean, so that sums keep their digits."""
    away = values - values.mean() if values.size else values
    return away, away**2


def _standard_deviation(sums: Floats) -> Floats:
    n, first, second = np.moveaxis(sums, -1, 0)
    variance = (second - first**2 / n) / np.where(n > 1, n - 1, np.nan)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def _towards(trait: Trait, shift: Estimate) -> str:
    if trait.higher_is_better is None or not _is_significant(shift):
        return ""
    return ", towards " + ("better" if (shift.value > 0) == trait.higher_is_better else "worse")


def _opportunities(
    fitness: Fitness, cluster: Ints, rng: np.random.Generator, level: float, n_resamples: int
) -> tuple[tuple[str, Estimate], ...]:
    """Opportunity for selection; of counts also its excess over Poisson chance."""
    beside = [("opportunity for selection", opportunity)]
    if fitness.name.startswith("children"):
        beside.append(("opportunity beyond Poisson chance", opportunity_excess))
    return tuple(
        (name, asked(fitness, cluster, rng=rng, level=level, n_resamples=n_resamples))
        for name, asked in beside
    )


def _relative(fitness: Floats) -> Floats:
    known = fitness[np.isfinite(fitness)]
    mean = float(known.mean()) if known.size else 0.0
    return fitness / mean if mean > 0 else np.full_like(fitness, np.nan)


def _varied(spread: Estimate, nothing: float) -> Answer:
    if math.isnan(spread.value):
        return Answer.CANNOT_TELL
    return Answer.MET if spread.low > nothing else Answer.NOT_SHOWN


def _is_significant(estimate: Estimate) -> bool:
    return estimate.p_value is not None and estimate.p_value <= SIGNIFICANCE


def _answer(estimate: Estimate, is_clear: bool, nulls: tuple[Null, ...]) -> Answer:
    """Met if the estimate is clear of nothing and every null that could be drawn is rejected.

    A null is rejected by an estimate that lies beyond it, seen from zero: less resemblance than
    chance makes is no heredity, whatever its p-value.
    """
    if math.isnan(estimate.value) or math.isnan(nulls[0].p_value):
        return Answer.CANNOT_TELL
    drawn = [null for null in nulls if not math.isnan(null.p_value)]
    beyond = all(
        null.p_value <= SIGNIFICANCE
        and math.copysign(1.0, estimate.value) * (estimate.value - null.expected) > 0
        for null in drawn
    )
    return Answer.MET if is_clear and beyond else Answer.NOT_SHOWN


def _told(estimate: Estimate, words: str) -> str:
    """A sentence with the estimate and its interval in it, or why there is none."""
    if math.isnan(estimate.value):
        return f"Cannot be told: {estimate.method.partition('not estimated: ')[2]}."
    interval = f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"
    return words.replace("{}", interval, 1)


def _by_chance(nulls: tuple[Null, ...]) -> str:
    return "".join(map(_told_null, nulls))


def _told_null(null: Null) -> str:
    if math.isnan(null.p_value):
        reason = (
            null.method.partition("not tested: ")[2] or null.method.partition("not estimated: ")[2]
        )
        return f" No null could be drawn with {null.words}{': ' + reason if reason else ''}."
    return f" With {null.words} it would be {null.expected:.3g} (p = {null.p_value:.2g})."


def _within(values: Floats, fitness: Fitness, month: Ints) -> tuple[Floats, float]:
    """Trait as differences from its month's mean, and what makes its i that of a jackknife.

    NaN without trait or fitness. The nulls divide by n − 1, the jackknife by n less the months.
    """
    known = np.isfinite(values) & np.isfinite(fitness.values)
    away = np.full_like(values, np.nan)
    if not known.any():
        return away, math.nan
    _, place, size = np.unique(month[known], return_inverse=True, return_counts=True)
    from_mean = values[known] - (np.bincount(place, values[known]) / size)[place]
    # Rounding of large values must not pass for variation within a month.
    away[known] = np.where(
        np.abs(from_mean) > _ROUNDING * np.abs(values[known]).max(), from_mean, 0.0
    )
    free = int(known.sum()) - size.size
    return away, math.sqrt((int(known.sum()) - 1) / free) if free else math.nan


def _copied(
    asked: Question, away: Floats, stretch: float, rng: np.random.Generator
) -> tuple[Null, ...]:
    """The intensity of selection had parents been chosen blindly, by their age and their fame."""
    if asked.watched is None:
        return ()
    graph, born = asked.population.graph, asked.population.born_day
    until_day, window_days = asked.watched
    try:
        fit = asked.attention or fit_attachment(graph, born)
    except ValueError as error:
        return (Null(_COPYING, math.nan, math.nan, f"copying null; not tested: {error}"),)
    drawn = copying_null(
        graph, born, {"trait": away}, fit.attachment,
        rng=rng, until_day=until_day, window_days=window_days, n_replicates=N_REPLICATES,
    )  # fmt: skip
    figure = drawn.intensity["trait"]
    words = _UNFITTED if math.isnan(fit.half_life_days.value) else _COPYING
    return (Null(words, stretch * figure.expected, figure.p_value, figure.method),)
