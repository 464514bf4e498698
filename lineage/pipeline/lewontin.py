"""Do models evolve? Lewontin's conditions, trait by trait, asked of the register."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np

from lineage.errors import NotFoundError
from lineage.evolution.catalogue import Trait, TraitType
from lineage.evolution.categories.value_sets import value_sets
from lineage.evolution.generations import response_of
from lineage.evolution.lewontin import (
    LewontinVerdict,
    Question,
    judge_labels,
    judge_numbers,
)
from lineage.evolution.selection.response import Response
from lineage.evolution.text_verdict import judge_texts
from lineage.model import Estimate
from lineage.pipeline.inquiry import (
    FITNESSES,
    Inquiry,
    Scope,
    TraitCoverage,
    coverage_of,
    open_inquiry,
    opened,
    read_texts,
)
from lineage.pipeline.population import Studied, read_observed, strata, study
from lineage.store.home import Home

__all__ = ["FITNESSES", "Judgement", "Scope", "judge", "lewontin", "traits"]


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
    counted: str
    """What fitness counts, and who was left out."""

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
            "fitness_counts": self.counted,
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
            f"fitness    {verdict.fitness}: {self.counted}",
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
    with opened(home) as connection:
        studied = study(read_observed(connection, ignore_claims=ignore_claims))
    return tuple(coverage_of(studied, name) for name in studied.declared)


def lewontin(home: Home, *, trait: str | None = None, scope: Scope | None = None) -> Judgement:
    """Judge whether a trait meets Lewontin's conditions.

    Parameters
    ----------
    trait
        Name of a trait (:func:`traits`); by default the evaluation result, or for want of one the
        expressed trait, that most parents and children both have.
    scope
        Who is asked, and by which fitness; by default everybody, by children.

    Raises
    ------
    NotFoundError
        If nothing was crawled, or the trait or the model is unknown, and names what there is; if
        the history of counts does not allow the fitness, and says what is missing.
    UsageError
        If there is no such fitness.
    """
    with opened(home) as connection:
        inquiry = open_inquiry(connection, scope or Scope())
        chosen = _chosen_trait(inquiry.studied, trait)
        if chosen.type is TraitType.TEXT:
            inquiry = read_texts(connection, inquiry)
    rng = _stream(inquiry, chosen)
    verdict = _judged(inquiry, chosen, rng)
    response = None
    if chosen.type in (TraitType.NUMERIC, TraitType.BINARY):
        population, fitness = inquiry.studied.population, inquiry.fitness
        response = response_of(
            population, chosen.name, fitness, inquiry.member, inquiry.cluster, rng=rng
        )
    return Judgement(
        verdict,
        response,
        inquiry.clade,
        inquiry.scope.since,
        inquiry.until,
        inquiry.scope.ignore_claims,
        inquiry.counted,
    )


def judge(inquiry: Inquiry, trait: Trait) -> LewontinVerdict:
    """The verdict on one trait; the same whatever else is asked."""
    return _judged(inquiry, trait, _stream(inquiry, trait))


def _judged(inquiry: Inquiry, trait: Trait, rng: np.random.Generator) -> LewontinVerdict:
    studied, scope = inquiry.studied, inquiry.scope
    alike, stratum = strata(studied.population, trait.name)
    asked = Question(
        studied.population,
        inquiry.member,
        inquiry.cluster,
        studied.owner,
        stratum,
        inquiry.fitness,
        (studied.until_day, scope.window_days) if scope.fitness == "children" else None,
        "founder" if scope.clade is None else "line",
        alike,
        inquiry.attention if scope.fitness == "children" else None,
    )
    if trait.type is TraitType.CATEGORICAL:
        sets, _ = value_sets(studied.labels[trait.name])
        return judge_labels(asked, trait, sets, rng=rng)
    if trait.type is TraitType.TEXT:
        assert inquiry.texts is not None
        return judge_texts(asked, trait, inquiry.texts, rng=rng)
    return judge_numbers(asked, trait, rng=rng)


def _stream(inquiry: Inquiry, trait: Trait) -> np.random.Generator:
    """A stream of its own for every trait, so that a verdict is the same beside others."""
    scope = inquiry.scope
    words = "\0".join((trait.name, scope.clade or "", scope.fitness)).encode()
    return np.random.default_rng([scope.seed, zlib.crc32(words)])


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
        if not one.is_constitutive and one.type not in (TraitType.BINARY, TraitType.TEXT)
    ]
    if not able:
        raise NotFoundError("no model has a trait that could evolve: crawl or ingest some first")
    return max(able, key=lambda one: (one.is_evaluation, coverage_of(studied, one.name).n_pairs))


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
