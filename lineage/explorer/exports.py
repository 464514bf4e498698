"""What is shown, as files: CSV and JSON."""

from __future__ import annotations

import csv
import io
import json

from lineage import views

__all__ = ["edges_csv", "estimates_csv", "file_stem", "neighbourhood_json"]


def file_stem(repo_id: str, data_date: str) -> str:
    """The name of an export: model and data date, with nothing a file system could mind."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._") else "-" for c in repo_id)
    return f"herdbook-{safe[:96].strip('.-') or 'model'}-{data_date[:10]}"


_DANGEROUS_STARTS = ("=", "+", "-", "@", "\t", "\r")


def _cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula."""
    if isinstance(value, str) and value.startswith(_DANGEROUS_STARTS):
        return "'" + value
    return "" if value is None else value


def edges_csv(edges: tuple[views.EdgeRow, ...]) -> str:
    """Edges as CSV, one a line; the evidence as sentences."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["child", "parent", "relation", "kind", "weight", "verdict", "grade", "p_value",
         "probability", "evidence"]
    )  # fmt: skip
    for edge in edges:
        evidence = "; ".join(item.text for item in edge.evidence)
        row = (edge.child, edge.parent, edge.relation, edge.kind, edge.weight, edge.verdict,
               edge.grade, edge.p_value, edge.probability, evidence)  # fmt: skip
        writer.writerow([_cell(value) for value in row])
    return out.getvalue()


def neighbourhood_json(around: views.Neighbourhood) -> str:
    """Models and edges of a drawing as JSON."""
    models = [
        {
            "model": mark.repo_id,
            "kind": mark.kind,
            "created_at": mark.created_at.isoformat() if mark.created_at else None,
            "status": mark.status,
            "n_descendants": mark.n_descendants,
        }
        for mark in around.marks
    ]
    edges = [
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
        for edge in around.edges
    ]
    return json.dumps({"focus": around.focus, "models": models, "edges": edges}, indent=2)


def estimates_csv(rows: tuple[views.EstimateRow, ...]) -> str:
    """Estimates as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(list(views.EstimateRow.__slots__))
    for row in rows:
        writer.writerow([getattr(row, field) for field in views.EstimateRow.__slots__])
    return out.getvalue()
