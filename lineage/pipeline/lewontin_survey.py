"""Lewontin's conditions of every trait at once, with what so many tests are worth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from lineage.evolution.catalogue import STATED, Trait, TraitType
from lineage.evolution.categories.mutation import MIN_EDGES
from lineage.evolution.lewontin import (
    N_REPLICATES,
    SIGNIFICANCE,
    Answer,
    Condition,
    LewontinVerdict,
)
from lineage.evolution.selection.multiple import adjusted_p_values
from lineage.pipeline.inquiry import Inquiry, Scope, coverage_of, open_inquiry, opened, read_texts
from lineage.pipeline.lewontin import judge
from lineage.pipeline.population import LEAST_MEASURED
from lineage.pipeline.progress import track
from lineage.store.home import Home

__all__ = ["COLUMNS", "NotAsked", "Survey", "SurveyRow", "survey"]

COLUMNS = (
    "trait", "models", "founders", "variation", "heredity", "q", "differential fitness", "q",
    "verdict",
)  # fmt: skip
_NAMES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class NotAsked:
    """A trait that cannot be asked about, and why."""

    trait: str
    reason: str


@dataclass(frozen=True, slots=True)
class SurveyRow:
    """The verdict on one trait among others.

    Attributes
    ----------
    q_values
        Of each condition, adjusted for the number of traits; NaN where nothing was tested, and of
        the heredity of constitutive traits, which no test has to show.
    """

    verdict: LewontinVerdict
    q_values: tuple[float, float, float]

    @property
    def answers(self) -> tuple[Answer, ...]:
        """A condition that is met by itself is not shown where its q-value says too little."""
        return tuple(
            Answer.NOT_SHOWN
            if condition.answer is Answer.MET and q > SIGNIFICANCE
            else condition.answer
            for condition, q in zip(self.verdict.conditions, self.q_values, strict=True)
        )

    @property
    def answer(self) -> Answer:
        """Met where all three are; cannot tell where one cannot be told and none is not shown."""
        answers = set(self.answers)
        if answers == {Answer.MET}:
            return Answer.MET
        return Answer.NOT_SHOWN if Answer.NOT_SHOWN in answers else Answer.CANNOT_TELL

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        cells = [self.verdict.trait.name, str(self.verdict.n_models), str(self.verdict.n_founders)]
        for condition, answer, q in zip(
            self.verdict.conditions, self.answers, self.q_values, strict=True
        ):
            found = condition.estimate
            interval = f" {found.value:.3g} ({found.low:.3g} to {found.high:.3g})"
            cells.append(f"{answer}{'' if math.isnan(found.value) else interval}")
            if condition.nulls:
                cells.append("" if math.isnan(q) else f"{q:.2g}")
        return (*cells, str(self.answer))

    def to_dict(self) -> dict[str, object]:
        """The row for JSON; `alone` is the answer to the trait had no other been asked about."""
        verdict = self.verdict
        return {
            "trait": asdict(verdict.trait),
            "answer": str(self.answer),
            "n_models": verdict.n_models,
            "n_founders": verdict.n_founders,
            "conditions": [
                {
                    "name": condition.name,
                    "answer": str(answer),
                    "alone": str(condition.answer),
                    "estimate": condition.estimate,
                    "nulls": condition.nulls,
                    "p_value": _p_value(condition),
                    "q_value": q,
                }
                for condition, answer, q in zip(
                    verdict.conditions, self.answers, self.q_values, strict=True
                )
            ],
            "threats": [threat.name for threat in verdict.threats if threat.applies],
        }


@dataclass(frozen=True, slots=True)
class Survey:
    """Every trait that could be asked about, in the order of ``herdbook traits``, and the rest."""

    rows: tuple[SurveyRow, ...]
    not_asked: tuple[NotAsked, ...]
    inquiry: Inquiry

    def to_dict(self) -> dict[str, object]:
        """Everything, for JSON."""
        inquiry = self.inquiry
        return {
            "clade": inquiry.clade,
            "since": inquiry.scope.since,
            "observed_until": inquiry.until,
            "claims": "ignored" if inquiry.scope.ignore_claims else "used",
            "fitness": inquiry.fitness.name,
            "fitness_counts": inquiry.counted,
            "traits": [row.to_dict() for row in self.rows],
            "not_asked": self.not_asked,
        }

    def lines(self) -> Iterator[str]:
        """What stands below the table."""
        inquiry = self.inquiry
        whom = "all models" if inquiry.clade is None else f"{inquiry.clade} and its descendants"
        since = inquiry.scope.since
        born = "" if since is None else f", born since {since:%Y-%m-%d}"
        yield f"asked of {whom}{born}; seen until {inquiry.until:%Y-%m-%d}"
        yield f"fitness {inquiry.fitness.name}: {inquiry.counted}"
        n_met = sum(row.answer is Answer.MET for row in self.rows)
        yield (
            f"{n_met} of {len(self.rows)} traits meet all three conditions; q: Benjamini–Hochberg "
            "over the traits, of each condition by itself (variation needs no test; the heredity "
            "of traits that derivation copies is not tested); what is met alone is not shown where "
            f"q is above {SIGNIFICANCE:g}"
        )
        n_tested = sum(not math.isnan(row.q_values[2]) for row in self.rows)
        if inquiry.scope.fitness == "children" and n_tested > SIGNIFICANCE * (1 + N_REPLICATES):
            yield (
                f"{N_REPLICATES} blind histories give no p-value below {1 / (1 + N_REPLICATES):g}"
                f": of {n_tested} traits one alone cannot reach q {SIGNIFICANCE:g} in differential "
                "fitness; ask about it by itself, or by another --fitness"
            )
        by_reason: dict[str, list[str]] = {}
        for one in self.not_asked:
            by_reason.setdefault(one.reason, []).append(one.trait)
        for reason, names in by_reason.items():
            more = len(names) - _NAMES_SHOWN
            shown = ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
            yield f"not asked: {shown}: {reason}"


def survey(home: Home, scope: Scope | None = None) -> Survey:
    """Judge every trait that can be judged, and adjust the tests for their number.

    A verdict is that of :func:`lineage.pipeline.lewontin.lewontin` on the trait alone, and what it
    calls met has to stay significant among all. Where several nulls have to be rejected, the
    largest of their p-values is the condition's (Berger 1982, Technometrics 24:295).

    Raises
    ------
    NotFoundError, UsageError
        As :func:`lineage.pipeline.lewontin.lewontin` of the same scope.
    """
    with opened(home) as connection:
        inquiry = open_inquiry(connection, scope or Scope())
        asked, not_asked = _askable(inquiry)
        if any(trait.type is TraitType.TEXT for trait in asked):
            inquiry = read_texts(connection, inquiry)
    verdicts = []
    for trait in track(asked, "traits", len(asked)):
        verdict = judge(inquiry, trait)
        if any(condition.answer is not Answer.CANNOT_TELL for condition in verdict.conditions):
            verdicts.append(verdict)
        else:
            reason = verdict.conditions[1].estimate.method.partition("not estimated: ")[2]
            not_asked.append(NotAsked(trait.name, reason or verdict.conditions[1].sentence))
    return Survey(tuple(_rows(verdicts)), tuple(not_asked), inquiry)


def _askable(inquiry: Inquiry) -> tuple[list[Trait], list[NotAsked]]:
    """Traits with values at both ends of enough edges, and the others."""
    studied = inquiry.studied
    asked: list[Trait] = []
    not_asked: list[NotAsked] = []
    for trait in studied.declared.values():
        n_pairs = coverage_of(studied, trait.name).n_pairs
        if n_pairs >= MIN_EDGES:
            asked.append(trait)
        else:
            reason = f"fewer than {MIN_EDGES} edges know it at both ends"
            not_asked.append(NotAsked(trait.name, reason))
    names = (
        *(trait.name for trait in STATED),
        *(one.trait for one in inquiry.observed.evaluations),
    )
    too_few = f"fewer than {LEAST_MEASURED} models have a value"
    not_asked += [NotAsked(name, too_few) for name in names if name not in studied.declared]
    return asked, not_asked


def _rows(verdicts: list[LewontinVerdict]) -> Iterator[SurveyRow]:
    of_each: list[dict[str, float]] = []
    for k in range(3):
        p_values = {
            verdict.trait.name: _p_value(verdict.conditions[k])
            for verdict in verdicts
            # Tests that cannot fail would make room for others' false findings.
            if not (verdict.trait.is_constitutive and verdict.conditions[k].name == "heredity")
        }
        of_each.append(adjusted_p_values(p_values))
    for verdict in verdicts:
        variation, heredity, differential = (
            found.get(verdict.trait.name, math.nan) for found in of_each
        )
        yield SurveyRow(verdict, (variation, heredity, differential))


def _p_value(condition: Condition) -> float:
    """The largest p-value of the nulls that could be drawn; NaN without, or without the first."""
    if not condition.nulls or math.isnan(condition.nulls[0].p_value):
        return math.nan
    return max(null.p_value for null in condition.nulls if not math.isnan(null.p_value))
