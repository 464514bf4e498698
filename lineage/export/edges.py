"""Edges as CSV, JSON or Parquet: one record per child and parent, the same fields in each."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

from lineage.export.csv_text import csv_text
from lineage.model import Edge

__all__ = ["EDGE_FIELDS", "edges_csv", "edges_json", "edges_parquet"]

EDGE_FIELDS = (
    "child", "parent", "relation", "kind", "weight", "verdict", "grade", "p_value", "probability",
    "evidence",
)  # fmt: skip
"""Fields of a record, in order."""


def _facts(edge: Edge) -> list[dict[str, object]]:
    return [{"name": one.name, "value": one.value, "text": one.text} for one in edge.evidence]


def _record(edge: Edge) -> dict[str, object]:
    return {
        "child": edge.child,
        "parent": edge.parent,
        "relation": edge.relation,
        "kind": edge.kind,
        "weight": edge.weight,
        "verdict": str(edge.verdict),
        "grade": str(edge.grade),
        "p_value": edge.p_value,
        "probability": edge.probability,
        "evidence": _facts(edge),
    }


def edges_json(edges: Sequence[Edge]) -> str:
    """A JSON list with one object per edge; evidence is a list of ``{name, value, text}``."""
    return json.dumps([_record(edge) for edge in edges], indent=2, ensure_ascii=False) + "\n"


def edges_csv(edges: Sequence[Edge]) -> str:
    """CSV with a header; evidence as JSON, missing values empty.

    Text that a spreadsheet would take for a formula gets a leading apostrophe.
    """
    records = [
        {**_record(edge), "evidence": json.dumps(_facts(edge), ensure_ascii=False)}
        for edge in edges
    ]
    return csv_text(EDGE_FIELDS, ([record[field] for field in EDGE_FIELDS] for record in records))


def edges_parquet(edges: Sequence[Edge]) -> bytes:
    """A Parquet file; evidence is a list of structs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.float64()
    fact = pa.struct([("name", text), ("value", number), ("text", text)])
    types = dict.fromkeys(EDGE_FIELDS, text) | dict.fromkeys(
        ("weight", "p_value", "probability"), number
    )
    types["evidence"] = pa.list_(fact)
    table = pa.Table.from_pylist(
        [_record(edge) for edge in edges], schema=pa.schema(list(types.items()))
    )
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()
