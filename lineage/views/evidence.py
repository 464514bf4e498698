"""Everything that speaks for and against one edge: words, finding, tests, layers, recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from lineage.infer.edge_layers import EdgeLayer
from lineage.model import PairTest, PairVerdict
from lineage.store import published_evidence
from lineage.views.judgement import found_instead
from lineage.views.questions import audit_models, model_card, model_detail
from lineage.views.rows import EdgeRow, FindingRow, ModelCard, ModelDetail
from lineage.views.rulings import AuditLine

__all__ = [
    "EdgeEvidence",
    "EdgeLayer",
    "LayerMatrix",
    "MergeFit",
    "StatedRecipe",
    "edge_evidence",
    "pair_test",
]


@dataclass(frozen=True, slots=True)
class LayerMatrix:
    """Row-matching z of child layers (rows) against parent layers (columns) by some matrices."""

    roles: str
    z: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, slots=True)
class MergeFit:
    """Coefficients of all parents of a merge, by layer (None: outside the layers)."""

    parents: tuple[str, ...]
    by_layer: tuple[tuple[int | None, tuple[float, ...]], ...]


@dataclass(frozen=True, slots=True)
class StatedRecipe:
    """A merge recipe that the repository itself states, as text from strangers."""

    source: str
    method: str
    text: str


@dataclass(frozen=True, slots=True)
class EdgeEvidence:
    """One edge and what is known of it.

    Attributes
    ----------
    detail
        The child, with all its parents and claims, but without its children.
    parent_card
        None where the parent lies outside the register.
    line
        The ruling of the audit, with the claims about this parent.
    layers
        By layer; empty where the pair was not described, one row of 0 words where nothing compares.
    matrix, fit, test
        None where there is none.
    instead
        Parents that the weights show in place of a contradicted one.
    """

    detail: ModelDetail
    parent_card: ModelCard | None
    edge: EdgeRow
    line: AuditLine | None
    test: PairTest | None
    layers: tuple[EdgeLayer, ...]
    matrix: LayerMatrix | None
    fit: MergeFit | None
    recipes: tuple[StatedRecipe, ...]
    instead: tuple[str, ...]

    @property
    def finding(self) -> FindingRow | None:
        """What the weights show of the child."""
        return self.detail.finding


def edge_evidence(
    cursor: duckdb.DuckDBPyConnection, child: str, parent: str
) -> EdgeEvidence | None:
    """Everything known about an edge; None where the register has no such edge."""
    detail = model_detail(cursor, child, max_children=0)
    if detail is None:
        return None
    edge = next((edge for edge in detail.parents if edge.parent == parent), None)
    if edge is None:
        return None
    lines = [line for audited in audit_models(cursor, [child]) for line in audited.lines]
    return EdgeEvidence(
        detail,
        model_card(cursor, parent),
        edge,
        next((line for line in lines if line.parent == parent), None),
        pair_test(cursor, child, parent),
        tuple(EdgeLayer(*row) for row in published_evidence.layers_of_edge(cursor, child, parent)),
        _matrix(published_evidence.matches_of_edge(cursor, child, parent)),
        _fit(published_evidence.coefficients_of(cursor, child), detail.finding),
        tuple(StatedRecipe(*row) for row in published_evidence.recipes_of(cursor, child)),
        found_instead(edge, detail.finding),
    )


def pair_test(cursor: duckdb.DuckDBPyConnection, one: str, other: str) -> PairTest | None:
    """The family test of two models; None where they were not tested."""
    row = published_evidence.pair_of(cursor, one, other)
    return None if row is None else PairTest(row[0], row[1], PairVerdict(row[2]), *row[3:])


def _matrix(rows: Sequence[tuple[str, Sequence[float | None]]]) -> LayerMatrix | None:
    if not rows:
        return None
    return LayerMatrix(rows[0][0], tuple(tuple(z) for _, z in rows))


def _fit(
    rows: Sequence[tuple[int | None, str, float]], finding: FindingRow | None
) -> MergeFit | None:
    if not rows or finding is None:
        return None
    parents = tuple(share.parent for share in finding.parents)
    found: dict[int | None, Mapping[str, float]] = {}
    for layer, parent, value in rows:
        found[layer] = {**found.get(layer, {}), parent: value}
    return MergeFit(
        parents,
        tuple(
            (layer, tuple(values[parent] for parent in parents))
            for layer, values in found.items()
            if values.keys() >= set(parents)
        ),
    )
