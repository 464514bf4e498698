"""Score the published register against known ancestry, with what it cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import duckdb

from lineage.errors import NotFoundError
from lineage.infer.scoring import Counted, MergeScore, Score, score
from lineage.infer.truth import read_truth
from lineage.store import reads
from lineage.store.findings import current_findings
from lineage.store.home import Home
from lineage.store.publish import open_published
from lineage.weights.probe import plan_probe
from lineage.weights.reference import SEVEN_BILLION, plain_weights, tensors_of
from lineage.weights.stages import BUDGET_BYTES

__all__ = ["Cost", "Evaluation", "evaluate"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes of weights read: per model, and as a share of the weight files."""

    n_models: int
    total_bytes: int
    weight_bytes: int
    median_bytes: float
    max_bytes: int
    median_share: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Accuracy, cost and whether declared parents were seen."""

    score: Score
    cost: Cost
    seconds: tuple[tuple[str, float], ...]
    ignored_claims: bool
    planned_bytes: int
    """What the same probe plan, with its default budget, reads of a model of seven billion."""
    checkpoint_bytes: int

    def to_dict(self) -> dict[str, object]:
        """The figures under stable names, for JSON; NaN becomes null."""
        result, pairs, parents = self.score, self.score.pairs, self.score.direct_parents
        return {
            "n_models": result.n_models,
            "n_not_testable_by_weights": result.n_mute,
            "ignored_claims": self.ignored_claims,
            "related_pairs": {
                "true_positives": pairs.true_positives,
                "false_positives": pairs.false_positives,
                "true_negatives": pairs.true_negatives,
                "false_negatives": pairs.false_negatives,
                "recall": _number(pairs.recall.value),
                "recall_all": _number(pairs.recall_all.value),
                "not_testable": pairs.n_mute,
                "not_testable_related": pairs.n_mute_related,
                "false_pairs": [list(pair) for pair in pairs.false_pairs],
                "common_init": {
                    "n": pairs.common_init.n,
                    "as_common_init": pairs.common_init.as_common_init,
                    "as_related": pairs.common_init.as_related,
                    "as_unrelated": pairs.common_init.as_unrelated,
                },
            },
            "direct_parents": {
                "precision": _counted(parents.precision),
                "recall": _counted(parents.recall),
                "recall_all": _counted(parents.recall_all),
                "precision_up_to_copies": _counted(parents.precision_up_to_copies),
                "recall_up_to_copies": _counted(parents.recall_up_to_copies),
                "ties_with_true_parent": _counted(parents.ties),
                "wrong": [{"child": child, "found": found} for child, found in parents.wrong],
            },
            "direction_accuracy": _counted(result.direction),
            "kind_accuracy": _counted(result.kind),
            "kind_confusions": [
                {"model": model, "true": true, "found": found}
                for model, true, found in result.confusions
            ],
            "abstentions": list(result.abstentions),
            "merges": {name: _merge(one) for name, one in result.merges.items()},
            "merges_up_to_copies": {
                name: _merge(one) for name, one in result.merges_up_to_copies.items()
            },
            "coefficient_mean_absolute_error": _number(result.coefficient_error),
            "n_coefficients": result.n_coefficients,
            "layer_maps_exact": _counted(result.layer_maps),
            "merge_methods": _counted(result.methods),
            "lora_ranks": _counted(result.ranks),
            "bytes_read": {
                "n_models": self.cost.n_models,
                "total": self.cost.total_bytes,
                "weight_bytes": self.cost.weight_bytes,
                "median": _number(self.cost.median_bytes),
                "max": self.cost.max_bytes,
                "median_share": _number(self.cost.median_share),
            },
            "seven_billion": {
                "model": SEVEN_BILLION.name,
                "planned_bytes": self.planned_bytes,
                "checkpoint_bytes": self.checkpoint_bytes,
            },
            "seconds": dict(self.seconds),
        }

    def rows(self) -> list[tuple[str, str]]:
        """The figures in words, for people."""
        result, pairs, parents = self.score, self.score.pairs, self.score.direct_parents
        init = pairs.common_init
        told = [
            ("declared parents seen", "no" if self.ignored_claims else "yes"),
            ("models", f"{result.n_models}, {result.n_mute} not testable by weights"),
            (
                "related pairs",
                f"{pairs.true_positives} found, {pairs.false_negatives} missed, "
                f"{pairs.false_positives} false, {pairs.true_negatives} rightly unrelated",
            ),
            ("related-pair recall", _words(pairs.recall)),
            ("  with what weights cannot tell", _words(pairs.recall_all)),
            (
                "shared initialisation",
                f"{init.n} pairs: {init.as_common_init} said so, {init.as_related} called related,"
                f" {init.as_unrelated} unrelated",
            ),
            ("direct-parent precision", _words(parents.precision)),
            ("direct-parent recall", _words(parents.recall)),
            ("  with what weights cannot tell", _words(parents.recall_all)),
            ("  precision up to copies", _words(parents.precision_up_to_copies)),
            ("  recall up to copies", _words(parents.recall_up_to_copies)),
            ("ties that hold the true parent", _words(parents.ties)),
            ("direction among decided", _words(result.direction)),
            ("kind", _words(result.kind)),
            ("abstentions", str(len(result.abstentions))),
        ]
        for name, one in result.merges.items():
            error = (
                "" if not one.n_coefficients else f", coefficients off {one.coefficient_error:.4f}"
            )
            told.append(
                (
                    f"merge parents F1, {name}",
                    f"{_figure(one.f1)} ({one.exact} of {one.n} exact){error}",
                )
            )
        told += [
            ("coefficient error, linear and slerp", _figure(result.coefficient_error, 4)),
            ("layer maps exact", _words(result.layer_maps)),
            ("merge method", _words(result.methods)),
            (
                "bytes read per model",
                f"median {self.cost.median_bytes / 1e6:.2f} MB "
                f"({100 * self.cost.median_share:.0f} % of the weights), "
                f"largest {self.cost.max_bytes / 1e6:.2f} MB",
            ),
            (
                f"the same plan on {SEVEN_BILLION.name}",
                f"{self.planned_bytes / 1e6:.2f} MB of {self.checkpoint_bytes / 1e9:.2f} GB",
            ),
        ]
        told += [(f"seconds, {stage}", f"{value:.1f}") for stage, value in self.seconds]
        return told


def evaluate(home: Home, truth_file: Path) -> Evaluation:
    """Score the publication of `home` against `truth_file`.

    Raises
    ------
    NotFoundError
        If there is no publication or no such file.
    UsageError
        If the truth file is malformed.
    """
    try:
        truth = read_truth(truth_file.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotFoundError(f"cannot read {truth_file}: {error.strerror}") from error
    large = tensors_of(SEVEN_BILLION)
    connection = open_published(home)
    try:
        costs = reads.costs(connection)
        adapters = {row.repo_id for row in costs if row.format == "adapter"}
        readable = {row.repo_id for row in costs if row.is_read} - adapters
        lines = dict(connection.execute("SELECT key, value FROM meta").fetchall())
        return Evaluation(
            score(
                truth,
                current_findings(connection),
                reads.edges(connection),
                reads.pair_verdicts(connection),
                truth.models.keys() - readable,
            ),
            _cost(costs),
            _seconds(lines),
            lines.get("ignore_claims") == "true",
            plan_probe(plain_weights(large), budget_bytes=BUDGET_BYTES).bytes_planned,
            sum(tensor.stop - tensor.start for tensor in large),
        )
    except duckdb.Error as error:
        raise NotFoundError(f"the publication in {home.root} cannot be read: {error}") from error
    finally:
        connection.close()


def _cost(rows: tuple[reads.CostRow, ...]) -> Cost:
    read = [row for row in rows if row.is_read]
    shares = [row.bytes_read / row.weight_bytes for row in read if row.weight_bytes]
    return Cost(
        len(read),
        sum(row.bytes_read for row in rows),
        sum(row.weight_bytes for row in rows),
        median(row.bytes_read for row in read) if read else math.nan,
        max((row.bytes_read for row in read), default=0),
        median(shares) if shares else math.nan,
    )


def _seconds(lines: dict[str, str]) -> tuple[tuple[str, float], ...]:
    prefix = "seconds_"
    return tuple(
        (key.removeprefix(prefix), float(value))
        for key, value in sorted(lines.items())
        if key.startswith(prefix)
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def _counted(one: Counted) -> dict[str, float | int | None]:
    return {"value": _number(one.value), "right": one.right, "n": one.n}


def _merge(one: MergeScore) -> dict[str, float | int | None]:
    return {
        "f1": _number(one.f1),
        "n": one.n,
        "exact_sets": one.exact,
        "true_positives": one.true_positives,
        "false_positives": one.false_positives,
        "false_negatives": one.false_negatives,
        "coefficient_mean_absolute_error": _number(one.coefficient_error),
    }


def _figure(value: float, digits: int = 3) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _words(one: Counted) -> str:
    return f"{_figure(one.value)} ({one.right} of {one.n})" if one.n else "– (none)"
