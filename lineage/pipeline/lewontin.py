"""Do models evolve? Lewontin's conditions, trait by trait, asked of the register."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from lineage.errors import NotFoundError, UsageError
from lineage.evolution.catalogue import Trait, TraitType
from lineage.evolution.categories.value_sets import value_sets
from lineage.evolution.generations import response_of
from lineage.evolution.lewontin import (
    LewontinVerdict,
    Question,
    judge_labels,
    judge_numbers,
)
from lineage.evolution.selection.fitness import Fitness, descendants_within
from lineage.evolution.selection.response import Response
from lineage.model import Estimate
from lineage.pipeline.population import (
    Observed,
    Studied,
    fitnesses,
    read_observed,
    strata,
    study,
    to_days,
)
from lineage.store.home import Home

__all__ = ["FITNESSES", "Judgement", "TraitCoverage", "lewontin", "traits"]

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

FITNESSES = ("children", "descendants", "likes", "downloads")


@dataclass(frozen=True, slots=True)
class TraitCoverage:
    """A declared trait, and of how many models it is known."""

    trait: Trait
    n_known: int
    n_models: int
    n_pairs: int
    """Edges with the trait known at both ends."""

    @property
    def missing(self) -> float:
        """Share of the models without a value; NaN without models."""
        return 1 - self.n_known / self.n_models if self.n_models else float("nan")


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and what was asked; a clade is named by its original, not by a copy."""

    verdict: LewontinVerdict
    response: Response | None
    """Of a quantity: predicted and observed change from parents to children."""
    clade: str | None
    since: datetime | None
    until: datetime
    ignore_claims: bool

    def to_dict(self) -> dict[str, object]:
        """Everything, for JSON."""
        verdict = asdict(self.verdict)
        return {
            "answer": str(self.verdict.answer),
            "sentence": self.verdict.sentence,
            "clade": self.clade,
            "since": self.since,
            "observed_until": self.until,
            "claims": "ignored" if self.ignore_claims else "used",
            **verdict,
            "response": self.response,
        }

    def lines(self) -> list[str]:
        """The verdict for a reader."""
        verdict, trait = self.verdict, self.verdict.trait
        whom = "all models" if self.clade is None else f"{self.clade} and its descendants"
        born = "" if self.since is None else f", born since {self.since:%Y-%m-%d}"
        lines = [
            verdict.sentence,
            "",
            f"asked of   {whom}{born}; seen until {self.until:%Y-%m-%d}",
            f"trait      {trait.name} ({trait.type}; {trait.unit}), known of {verdict.n_models} "
            f"of {verdict.n_population} models, {verdict.n_founders} "
            + ("founder" if verdict.n_founders == 1 else "founders"),
            f"fitness    {verdict.fitness}",
        ]
        for condition in verdict.conditions:
            lines += ["", f"{condition.name}: {condition.answer}", f"  {condition.sentence}"]
            lines += [f"  {_beside(name, found)}" for name, found in condition.beside]
        if self.response is not None:
            lines += ["", "response to selection, from parents to children"]
            lines += [f"  {line}" for line in _response_lines(self.response)]
        lines += ["", "threats"]
        marks = {True: "applies", False: "little", None: "unknown"}
        lines += [f"  {marks[threat.applies]:<8} {threat.sentence}" for threat in verdict.threats]
        lines += ["", "degrees (Godfrey-Smith)"]
        lines += [f"  {one.letter} {one.name}: {one.sentence}" for one in verdict.degrees]
        return lines


def traits(home: Home, *, ignore_claims: bool = False) -> tuple[TraitCoverage, ...]:
    """Every trait with a value: size and evaluation results, then what records state.

    Raises
    ------
    NotFoundError
        If nothing was crawled.
    """
    _, studied = _studied(home, ignore_claims)
    return tuple(_coverage(studied, name) for name in studied.declared)


def lewontin(
    home: Home,
    *,
    trait: str | None = None,
    clade: str | None = None,
    since: datetime | None = None,
    fitness: str = "children",
    window_days: float = 180.0,
    ignore_claims: bool = False,
    seed: int = 0,
) -> Judgement:
    """Judge whether a trait meets Lewontin's conditions.

    Parameters
    ----------
    trait
        Name of a trait (:func:`traits`); by default the evaluation result, or for want of one the
        expressed trait, that most parents and children both have.
    clade
        Only this model and its descendants.
    since
        Only models born since then; their parents may be older.
    fitness
        One of :data:`FITNESSES`.
    window_days
        How long each model's children are counted from its birth.
    ignore_claims
        Use the edges that the weights show, and no declared one.

    Raises
    ------
    NotFoundError
        If nothing was crawled, or the trait or the model is unknown; names what there is.
    UsageError
        If the fitness is none of those.
    """
    if fitness not in FITNESSES:
        raise UsageError(f"fitness is one of {', '.join(FITNESSES)}, not {fitness}")
    observed, studied = _studied(home, ignore_claims)
    chosen = _chosen_trait(studied, trait)
    original = None if clade is None else studied.origin.get(clade)
    if clade is not None and original is None:
        raise NotFoundError(f"{clade} is not in the register")
    member, cluster = _asked_of(studied, original)
    if since is not None:
        member &= studied.population.born_day >= to_days(since)
    population = studied.population
    alike, stratum = strata(population, chosen.name)
    counted = _fitness(observed, studied, fitness, window_days)
    watched = (studied.until_day, window_days) if fitness == "children" else None
    unit = "founder" if clade is None else "line"
    asked = Question(
        population, member, cluster, studied.owner, stratum, counted, watched, unit, alike
    )
    words = "\0".join((chosen.name, clade or "", fitness)).encode()
    rng = np.random.default_rng([seed, zlib.crc32(words)])
    if chosen.type is TraitType.CATEGORICAL:
        sets, _ = value_sets(studied.labels[chosen.name])
        verdict = judge_labels(asked, chosen, sets, rng=rng)
        response = None
    else:
        verdict = judge_numbers(asked, chosen, rng=rng)
        response = response_of(population, chosen.name, counted, member, cluster, rng=rng)
    until = datetime.fromtimestamp(86_400 * studied.until_day, UTC)
    return Judgement(verdict, response, original, since, until, ignore_claims)


def _studied(home: Home, ignore_claims: bool) -> tuple[Observed, Studied]:
    home.require_database()
    connection = home.open_working()
    try:
        observed = read_observed(connection, ignore_claims=ignore_claims)
    finally:
        connection.close()
    return observed, study(observed)


def _coverage(studied: Studied, name: str) -> TraitCoverage:
    graph = studied.population.graph
    known = _known(studied, name)
    pairs = known[graph.edge_child] & known[graph.parent_index]
    return TraitCoverage(studied.declared[name], int(known.sum()), len(graph), int(pairs.sum()))


def _known(studied: Studied, name: str) -> Bools:
    if name in studied.labels:
        return np.array([bool(values) for values in studied.labels[name]], dtype=bool)
    return np.isfinite(studied.population.traits[name])


def _chosen_trait(studied: Studied, name: str | None) -> Trait:
    if name is not None:
        if name not in studied.declared:
            there = ", ".join(studied.declared) or "none"
            raise NotFoundError(f"no model has a trait {name!r}; there are: {there}")
        return studied.declared[name]
    # Whether access is asked for is known of nearly all models, and seldom what is asked about.
    able = [
        one
        for one in studied.declared.values()
        if not one.is_constitutive and one.type is not TraitType.BINARY
    ]
    if not able:
        raise NotFoundError("no model has a trait that could evolve: crawl or ingest some first")
    return max(able, key=lambda one: (one.is_evaluation, _coverage(studied, one.name).n_pairs))


def _asked_of(studied: Studied, clade: str | None) -> tuple[Bools, Ints]:
    population = studied.population
    if clade is None:
        return np.ones(len(population.graph), dtype=bool), population.graph.founder
    return population.clade(clade), population.lines_below(clade)


def _fitness(observed: Observed, studied: Studied, name: str, window_days: float) -> Fitness:
    population = studied.population
    if name == "descendants":
        until = studied.until_day
        return descendants_within(population.graph, population.born_day, until, window_days)
    children, likes, downloads = fitnesses(
        population, observed.members, studied.origin, window_days
    )
    by_name: Mapping[str, Fitness] = {
        "children": children, "likes": likes, "downloads": downloads,
    }  # fmt: skip
    return by_name[name]


def _response_lines(response: Response) -> list[str]:
    parts = response.observed
    lines = [
        _beside("predicted by the breeder's equation, h²S", response.breeder),
        _beside("observed", response.descent),
        f"  of it selection {parts.selection:+.3g}, transmission {parts.transmission:+.3g}",
    ]
    if response.secondary is not None:
        genetic = _beside("predicted by the genetic covariance with fitness", response.secondary)
        lines.insert(1, genetic)
    return [*lines, response.caveat] if response.caveat else lines


def _beside(name: str, found: Estimate) -> str:
    if np.isnan(found.value):
        return f"{name}: {found.method.partition('not estimated: ')[2]}"
    return f"{name}: {found.value:.3g} ({found.low:.3g} to {found.high:.3g}), n = {found.n}"
