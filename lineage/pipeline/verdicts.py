"""Keep whole answers in the register, so that a publication shows them: verdicts, behaviour."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lineage.errors import NotFoundError
from lineage.evolution.catalogue import TraitType
from lineage.evolution.generations import response_of
from lineage.pipeline.behaviour.report import BehaveReport
from lineage.pipeline.inquiry import Inquiry, Scope
from lineage.pipeline.lewontin import Judgement
from lineage.pipeline.lewontin_survey import Survey, SurveyRow, survey
from lineage.store.home import Home
from lineage.store.reports import keep_reports
from lineage.store.runs import Scalar, record_run

__all__ = ["KEPT_FITNESSES", "VerdictsReport", "keep_behaviour", "keep_verdicts"]

KEPT_FITNESSES = ("children", "likes-gained", "downloads-gained", "likes", "downloads")
"""Fitnesses of which verdicts are kept, those that the history of counts allows."""


@dataclass(frozen=True, slots=True)
class VerdictsReport:
    """What was judged.

    Attributes
    ----------
    n_verdicts
        Documents kept, over all fitnesses.
    by_fitness
        Verdicts of each fitness.
    not_asked
        Fitnesses that the history of counts does not allow, and why.
    """

    n_verdicts: int
    by_fitness: tuple[tuple[str, int], ...]
    not_asked: tuple[tuple[str, str], ...]


def keep_verdicts(
    home: Home,
    *,
    fitnesses: Sequence[str] = KEPT_FITNESSES,
    window_days: float = 180.0,
    ignore_claims: bool = False,
    seed: int = 0,
) -> VerdictsReport:
    """Judge every trait of everybody by each fitness, and keep the verdicts as reports.

    A document is what ``herdbook lewontin --trait T --fitness F --json`` prints, with the q-values
    among all traits and the answer that they leave. It is named by fitness and trait. Earlier
    verdicts are replaced, all or none. A document named by the fitness alone lists the traits that
    could not be asked about.

    Raises
    ------
    NotFoundError
        If nothing was crawled.
    UsageError
        If there is no such fitness.
    """
    home.require_database()
    documents: dict[str, object] = {}
    counted, refused = [], []
    for fitness in fitnesses:
        scope = Scope(
            fitness=fitness, window_days=window_days, ignore_claims=ignore_claims, seed=seed
        )
        try:
            found = survey(home, scope)
        except NotFoundError as error:
            refused.append((fitness, str(error)))
            continue
        documents |= {
            f"{fitness}: {row.verdict.trait.name}": _document(found, row, fitness)
            for row in found.rows
        }
        documents[fitness] = {"asked_fitness": fitness, "not_asked": found.not_asked}
        counted.append((fitness, len(found.rows)))
    connection = home.open_working()
    try:
        parameters: dict[str, Scalar] = {
            "fitnesses": ", ".join(fitnesses), "window_days": window_days,
            "ignore_claims": ignore_claims, "seed": seed,
        }  # fmt: skip
        with record_run(connection, "lewontin", parameters) as run_id:
            keep_reports(connection, run_id, "lewontin", documents)
    finally:
        connection.close()
    return VerdictsReport(sum(n for _, n in counted), tuple(counted), tuple(refused))


def _document(found: Survey, row: SurveyRow, fitness: str) -> Mapping[str, object]:
    inquiry, trait = found.inquiry, row.verdict.trait
    response = None
    if trait.type in (TraitType.NUMERIC, TraitType.BINARY):
        response = response_of(
            inquiry.studied.population, trait.name, inquiry.fitness, inquiry.member,
            inquiry.cluster, rng=_stream(inquiry, trait.name),
        )  # fmt: skip
    judgement = Judgement(
        row.verdict, response, inquiry.clade, inquiry.scope.since, inquiry.until,
        inquiry.scope.ignore_claims, inquiry.counted,
    )  # fmt: skip
    return {
        **judgement.to_dict(),
        "asked_fitness": fitness,
        "answer_among_all": str(row.answer),
        "answers_among_all": [str(answer) for answer in row.answers],
        "q_values": row.q_values,
    }


def _stream(inquiry: Inquiry, trait: str) -> np.random.Generator:
    words = "\0".join(("response", trait, inquiry.scope.fitness)).encode()
    return np.random.default_rng([inquiry.scope.seed, zlib.crc32(words)])


def keep_behaviour(home: Home, report: BehaveReport) -> None:
    """Keep what ``herdbook behave`` found, named by its prompts; without a register nothing.

    Raises
    ------
    HomeError
        If another command holds the register.
    """
    if not home.database.is_file():
        return
    connection = home.open_working()
    try:
        inputs: dict[str, Scalar] = {"models": len(report.study.models), "prompts": report.prompts}
        with record_run(connection, "behaviour", {"seconds": report.seconds}, inputs) as run_id:
            keep_reports(connection, run_id, "behaviour", {report.prompts[:12]: report.to_dict()})
    finally:
        connection.close()
