"""Kept verdicts on Lewontin's conditions, read back from their documents.

Documents were made by this software but lie in a file that may have been changed: what does not
have the form of a verdict is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from lineage.model import Estimate
from lineage.store.reports import read_reports

__all__ = [
    "ConditionRow",
    "DegreeRow",
    "NullRow",
    "ResponseRow",
    "ThreatRow",
    "Verdict",
    "Verdicts",
    "estimate_of",
    "verdicts",
]


@dataclass(frozen=True, slots=True)
class NullRow:
    """What the estimate would be by chance, and how often chance gives as much."""

    words: str
    expected: float
    p_value: float
    method: str


@dataclass(frozen=True, slots=True)
class ConditionRow:
    """One of the three conditions; `q_value` is NaN where nothing was tested."""

    name: str
    answer: str
    estimate: Estimate
    nulls: tuple[NullRow, ...]
    beside: tuple[tuple[str, Estimate], ...]
    sentence: str
    answer_among_all: str
    q_value: float


@dataclass(frozen=True, slots=True)
class ThreatRow:
    """One reason to doubt; `applies` is None where no field can show it."""

    name: str
    applies: bool | None
    value: float | None
    sentence: str


@dataclass(frozen=True, slots=True)
class DegreeRow:
    """One of Godfrey-Smith's degrees."""

    letter: str
    name: str
    estimate: Estimate
    sentence: str


@dataclass(frozen=True, slots=True)
class ResponseRow:
    """Predicted and observed change from parents to children, by name; `caveat` may be empty."""

    estimates: tuple[tuple[str, Estimate], ...]
    caveat: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one trait by one fitness.

    Attributes
    ----------
    asked_fitness
        What was asked for, e.g. ``likes-gained``; `fitness` is its name with units, `counted` what
        it counts.
    answer, answer_among_all
        Of the trait alone, and after adjustment for the number of traits.
    document
        The whole answer as JSON.
    """

    trait: str
    trait_type: str
    unit: str
    is_constitutive: bool
    is_evaluation: bool
    asked_fitness: str
    fitness: str
    counted: str
    answer: str
    answer_among_all: str
    sentence: str
    n_population: int
    n_models: int
    n_founders: int
    observed_until: str
    conditions: tuple[ConditionRow, ...]
    threats: tuple[ThreatRow, ...]
    degrees: tuple[DegreeRow, ...]
    response: ResponseRow | None
    document: str


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Everything that was kept; `not_asked` are fitness, trait and reason."""

    verdicts: tuple[Verdict, ...]
    not_asked: tuple[tuple[str, str, str], ...]

    @property
    def fitnesses(self) -> tuple[str, ...]:
        """What was asked, children first."""
        found = {one.asked_fitness for one in self.verdicts}
        return tuple(sorted(found, key=lambda name: (name != "children", name)))


def verdicts(cursor: duckdb.DuckDBPyConnection) -> Verdicts:
    """Every kept verdict, in order of fitness and trait."""
    found: list[Verdict] = []
    left: list[tuple[str, str, str]] = []
    for text in read_reports(cursor, "lewontin").values():
        try:
            document = json.loads(text)
            if "not_asked" in document:
                fitness = str(document["asked_fitness"])
                left += [
                    (fitness, str(one["trait"]), str(one["reason"]))
                    for one in document["not_asked"]
                ]
            else:
                found.append(_verdict(document, text))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    found.sort(key=lambda one: (one.asked_fitness, one.trait))
    return Verdicts(tuple(found), tuple(left))


def estimate_of(fields: Mapping[str, Any]) -> Estimate:
    """An estimate from its document; None in JSON is NaN.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the document has not its form.
    """
    p_value, n_clusters = fields.get("p_value"), fields.get("n_clusters")
    return Estimate(
        _number(fields["value"]),
        _number(fields["low"]),
        _number(fields["high"]),
        float(fields["level"]),
        int(fields["n"]),
        str(fields["method"]),
        None if n_clusters is None else int(n_clusters),
        None if p_value is None else float(p_value),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _verdict(document: Mapping[str, Any], text: str) -> Verdict:
    trait = document["trait"]
    fitness = str(document["fitness"])
    conditions = document["conditions"]
    among = document.get("answers_among_all") or [one["answer"] for one in conditions]
    q_values = document.get("q_values") or [None] * len(conditions)
    answer = str(document["answer"])
    return Verdict(
        str(trait["name"]),
        str(trait["type"]),
        str(trait["unit"]),
        bool(trait["is_constitutive"]),
        bool(trait["is_evaluation"]),
        str(document.get("asked_fitness") or fitness.partition("_")[0]),
        fitness,
        str(document["fitness_counts"]),
        answer,
        str(document.get("answer_among_all") or answer),
        str(document["sentence"]),
        int(document["n_population"]),
        int(document["n_models"]),
        int(document["n_founders"]),
        str(document["observed_until"]),
        tuple(
            ConditionRow(
                str(one["name"]),
                str(one["answer"]),
                estimate_of(one["estimate"]),
                tuple(
                    NullRow(
                        str(null["words"]),
                        _number(null["expected"]),
                        _number(null["p_value"]),
                        str(null["method"]),
                    )
                    for null in one["nulls"]
                ),
                tuple((str(name), estimate_of(fields)) for name, fields in one["beside"]),
                str(one["sentence"]),
                str(every),
                _number(q),
            )
            for one, every, q in zip(conditions, among, q_values, strict=True)
        ),
        tuple(
            ThreatRow(
                str(one["name"]),
                None if one["applies"] is None else bool(one["applies"]),
                None if one["value"] is None else float(one["value"]),
                str(one["sentence"]),
            )
            for one in document["threats"]
        ),
        tuple(
            DegreeRow(
                str(one["letter"]),
                str(one["name"]),
                estimate_of(one["estimate"]),
                str(one["sentence"]),
            )
            for one in document["degrees"]
        ),
        _response(document.get("response")),
        text,
    )


_ANSWERS = (
    ("predicted by the breeder's equation, h²S", "breeder"),
    ("predicted by the genetic covariance with fitness", "secondary"),
    ("observed, by descent", "descent"),
    ("observed less predicted", "excess"),
)


def _response(fields: Mapping[str, Any] | None) -> ResponseRow | None:
    if fields is None:
        return None
    estimates = tuple(
        (words, estimate_of(fields[name])) for words, name in _ANSWERS if fields[name] is not None
    )
    return ResponseRow(estimates, str(fields["caveat"] or ""))
