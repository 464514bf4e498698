"""What ``herdbook behave`` found, as a table, as sentences, and for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from lineage.model import Estimate
from lineage.pipeline.behaviour.alleles import BehaviourSettings
from lineage.pipeline.behaviour.study import Study

__all__ = ["COLUMNS", "BehaveReport", "ModelRow"]

COLUMNS = ("model", "revision", "outcome", "genes", "unresolved", "seconds", "why")


@dataclass(frozen=True, slots=True)
class ModelRow:
    """What became of one model.

    Attributes
    ----------
    outcome
        ``run``, ``kept`` (of an earlier run), ``skipped`` (with its `reason`) or ``waiting``.
    n_genes
        Prompts at which it said something.
    unresolved
        Mean probability of what was not followed; None where nothing was read.
    seconds
        What running it took, then or now.
    """

    model: str
    revision: str
    runner: str
    outcome: str
    reason: str
    n_genes: int
    unresolved: float | None
    seconds: float

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        return (
            self.model,
            self.revision.removeprefix("folder:")[:7] if self.runner == "transformers" else "",
            self.outcome,
            str(self.n_genes) if self.n_genes else "",
            "" if self.unresolved is None else f"{self.unresolved:.3f}",
            f"{self.seconds:.1f}" if self.seconds else "",
            self.reason,
        )


@dataclass(frozen=True, slots=True)
class BehaveReport:
    """What was run, and what it shows."""

    models: tuple[ModelRow, ...]
    n_prompts: int
    prompts: str
    chosen: str
    settings: BehaviourSettings
    study: Study
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """The report as plain values, for JSON."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The report in words, a fact a line, without the table of models."""
        settings = self.settings
        how = "computed" if settings.samples is None else f"{settings.samples} draws"
        yield (
            f"{len(self.study.models)} models at {self.n_prompts} prompts {self.prompts[:12]}: "
            f"{self.chosen}"
        )
        yield (
            f"alleles: the next {settings.characters} characters at temperature "
            f"{settings.temperature:g}, {how} (at endpoints drawn), seed {settings.seed}"
        )
        study = self.study
        if study.newick is not None:
            yield (
                f"tree: {study.n_splits} splits, {study.n_supported} of them in at least 70 % of "
                f"{study.n_trees} trees of resampled prompts"
            )
        if study.comparison is not None:
            yield "against the lineage that the weights show:"
            yield f"  relatives closer than strangers {_words(study.comparison.kinship)}"
            for unit, estimate in study.comparison.cophenetic:
                yield f"  cophenetic correlation, {unit}: {_words(estimate)}"
            yield f"  Robinson–Foulds {_words(study.comparison.robinson_foulds)}"
            yield f"  clades recovered {_words(study.comparison.recovered)}"
        if study.predictions:
            yield "predicted from distances, a founder's family at a time from the others (R²):"
            for trait, estimate in study.predictions:
                yield f"  {trait}: {_words(estimate)}"
        if study.note:
            yield f"note: {study.note}"
        yield f"{self.seconds:.0f} s"


def _words(estimate: Estimate) -> str:
    groups = "" if estimate.n_clusters is None else f", {estimate.n_clusters} groups"
    if math.isnan(estimate.value):
        reason = estimate.method.rpartition("not estimated: ")[2]
        return f"not estimated (n {estimate.n}{groups}): {reason}"
    p_value = "" if estimate.p_value is None else f", p {estimate.p_value:.3g}"
    return (
        f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
        f" (n {estimate.n}{groups}{p_value})"
    )
