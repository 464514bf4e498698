"""Emergence: a score against the size of models, lineage by lineage."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np

from lineage.evolution.comparative.scaling import scaling_break
from lineage.model import Estimate
from lineage.store import published_diversity as published
from lineage.store.published_scope import Scope

__all__ = ["LEAST_SCORED", "Evaluation", "Scaling", "evaluations", "scaling"]

LEAST_SCORED = 8
"""Models with a score and a size below which a trait is not offered."""

_MOST = 4_000
_THRESHOLDED = ("acc", "exact", "pass", "match", "em", "f1")
"""Beginnings of names of metrics that count answers above a bar."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A measured trait, its metric, and of how many models of known size it is known."""

    name: str
    metric: str
    n_models: int


@dataclass(frozen=True, slots=True)
class Scaling:
    """A score against size.

    Attributes
    ----------
    models
        Name, parameters, score and founder of each.
    slope
        Score per tenfold size within lineages, of one straight line.
    break_size, slope_below, slope_above
        Where the slope changes (common logarithm of parameters), if the straight line is rejected.
    p_value
        Of the straight line.
    thresholded
        Whether the metric counts answers above a bar, so that a bend is expected anyway.
    """

    models: tuple[tuple[str, float, float, str], ...]
    slope: Estimate
    break_size: Estimate
    slope_below: Estimate
    slope_above: Estimate
    p_value: float
    thresholded: bool


def evaluations(cursor: duckdb.DuckDBPyConnection) -> tuple[Evaluation, ...]:
    """Measured traits that enough models of known size have, best known first."""
    return tuple(Evaluation(*row) for row in published.evaluations(cursor, LEAST_SCORED))


def scaling(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, trait: str, metric: str
) -> Scaling | None:
    """Whether a trait bends at some size; None where no model of the scope has it and a size."""
    found = published.scores_and_sizes(cursor, scope, trait, _MOST)
    if not found["value"].size:
        return None
    family = found["family"].astype(np.int64)
    thresholded = metric.lower().startswith(_THRESHOLDED)
    fit = scaling_break(
        found["value"].astype(float), np.log10(found["parameters"].astype(float)), family, family,
        thresholded=thresholded, rng=np.random.default_rng(0), n_resamples=499,
    )  # fmt: skip
    rows = zip(
        *(found[name].tolist() for name in ("name", "parameters", "value", "founder")), strict=True
    )
    return Scaling(
        tuple((str(a), float(b), float(c), str(d)) for a, b, c, d in rows),
        fit.slope, fit.break_size, fit.slope_below, fit.slope_above, fit.p_value, thresholded,
    )  # fmt: skip
