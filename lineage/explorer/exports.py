"""What is shown, as files: CSV, JSON and Parquet, and as a pedigree for trees and graphs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields

from lineage import views
from lineage.explorer.colours import Colouring, in_hex
from lineage.explorer.layout import elbows, preorder
from lineage.export.csv_text import csv_text
from lineage.export.edges import EDGE_FIELDS, edges_parquet
from lineage.export.pedigree import Bond, Individual, Pedigree
from lineage.model import Edge, Grade, Verdict

__all__ = [
    "drawn_pedigree",
    "edges_csv",
    "estimates_csv",
    "file_stem",
    "neighbourhood_json",
    "parquet_of",
]


def file_stem(repo_id: str, data_date: str) -> str:
    """The name of an export: model and data date, with nothing a file system could mind."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._") else "-" for c in repo_id)
    return f"herdbook-{safe[:96].strip('.-') or 'model'}-{data_date[:10]}"


def edges_csv(edges: Sequence[views.EdgeRow]) -> str:
    """Edges as CSV, one a line; the evidence as sentences."""
    rows = (
        (edge.child, edge.parent, edge.relation, edge.kind, edge.weight, edge.verdict, edge.grade,
         edge.p_value, edge.probability, "; ".join(item.text for item in edge.evidence))
        for edge in edges
    )  # fmt: skip
    return csv_text(EDGE_FIELDS, rows)


def parquet_of(edges: Sequence[views.EdgeRow]) -> bytes:
    """Edges as Parquet, the evidence as a list of structs."""
    return edges_parquet(
        [
            Edge(
                row.child, row.parent, row.relation, row.kind, row.weight, Verdict(row.verdict),
                Grade(row.grade), row.p_value, row.probability, row.evidence,
            )
            for row in edges
        ]
    )  # fmt: skip


def neighbourhood_json(
    around: views.Neighbourhood, edges: Sequence[views.EdgeRow] | None = None
) -> str:
    """Models and edges of a drawing as JSON, with the counts of those not drawn one by one.

    `edges` are those that are shown; all of them by default.
    """
    models = [
        {
            "model": mark.repo_id,
            "relation": mark.relation,
            "kind": mark.kind,
            "created_at": mark.created_at.isoformat() if mark.created_at else None,
            "status": mark.status,
            "licence": mark.licence,
            "task": mark.task,
            "architecture": mark.architecture,
            "downloads_30d": mark.downloads_30d,
            "likes": mark.likes,
            "n_descendants": mark.n_descendants,
        }
        for mark in around.marks
    ]
    written = [
        {
            "child": edge.child,
            "parent": edge.parent,
            "relation": edge.relation,
            "kind": edge.kind,
            "weight": edge.weight,
            "verdict": edge.verdict,
            "grade": edge.grade,
            "p_value": edge.p_value,
            "probability": edge.probability,
        }
        for edge in (around.edges if edges is None else edges)
    ]
    counted = [
        {"below": stack.owner, "relation": stack.relation, "n": stack.n} for stack in around.stacks
    ]
    document = {"focus": around.focus, "models": models, "edges": written, "counted": counted}
    return json.dumps(document, indent=2)


def drawn_pedigree(
    around: views.Neighbourhood,
    edges: Sequence[views.EdgeRow],
    colouring: Colouring,
    *,
    parent: str = "",
    with_contradicted: bool = False,
) -> Pedigree:
    """Models and edges of a drawing for the writers of trees and graphs, in drawing order.

    Parameters
    ----------
    around
        What is drawn.
    edges
        The edges that are shown.
    colouring
        The colours of the models, which files have in the light theme's tones.
    parent
        The parent of the focus that the drawing follows instead of the first.
    with_contradicted
        Whether claims that the weights contradict are edges too; in a tree they are none.
    """
    follow = elbows(around, parent)
    individuals = []
    for mark in preorder(around, follow):
        shade = colouring.fills.get(mark.repo_id)
        if shade is None and colouring.by_shape and not mark.ghost:
            shade = colouring.births.get(mark.relation, "var(--unknown)")
        facts = {
            "relation": mark.relation,
            "kind": mark.kind,
            "status": mark.status,
            "licence": mark.licence,
            "task": mark.task,
            "architecture": mark.architecture,
            "downloads_30d": mark.downloads_30d,
            "likes": mark.likes,
            "descendants": None if mark.ghost else mark.n_descendants,
        }
        individuals.append(
            Individual(mark.repo_id, mark.created_at, in_hex(shade) if shade else None, facts)
        )
    bonds = [
        Bond(
            edge.child,
            edge.parent,
            edge == follow.get(edge.child),
            {
                "relation": edge.relation,
                "kind": edge.kind,
                "weight": edge.weight,
                "verdict": edge.verdict,
                "grade": edge.grade,
                "p_value": edge.p_value,
            },
        )
        for edge in edges
        if with_contradicted or edge.verdict != "contradicted"
    ]
    return Pedigree(tuple(individuals), tuple(bonds))


def estimates_csv(rows: Sequence[views.EstimateRow]) -> str:
    """Estimates as CSV."""
    names = [field.name for field in fields(views.EstimateRow)]
    return csv_text(names, ([getattr(row, name) for name in names] for row in rows))
