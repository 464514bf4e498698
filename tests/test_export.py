"""Edges leave as CSV, JSON and Parquet with the same records."""

from __future__ import annotations

import csv
import io
import json

import pyarrow.parquet as pq
import pytest

from lineage.export.edges import EDGE_FIELDS, edges_csv, edges_json, edges_parquet
from lineage.model import Edge, Evidence, Grade, Verdict

EDGES = (
    Edge(
        "b", "a", "finetune", "finetune", 1.0, Verdict.UNDECLARED, Grade.INFERRED, 1e-9, None,
        (Evidence("bit_equality", 0.5, 'half, "exactly"\nhalf'),),
    ),
    Edge("c", "a", "merge", None, None, Verdict.UNVERIFIED, Grade.DECLARED, None, None, ()),
)  # fmt: skip


def test_json_has_the_promised_keys_and_nothing_else():
    first, second = json.loads(edges_json(EDGES))
    assert tuple(first) == tuple(second) == EDGE_FIELDS
    assert first["verdict"] == "undeclared"
    assert first["evidence"][0]["text"] == 'half, "exactly"\nhalf'
    assert second["weight"] is None


def test_csv_reads_back():
    first, second = csv.DictReader(io.StringIO(edges_csv(EDGES)))
    assert tuple(first) == EDGE_FIELDS
    assert json.loads(first["evidence"])[0]["value"] == 0.5
    assert second["kind"] == ""


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_csv_disarms_text_that_a_spreadsheet_would_run(start):
    edge = Edge(
        "b",
        f"{start}cmd",
        "finetune",
        None,
        -1.0,
        Verdict.UNVERIFIED,
        Grade.DECLARED,
        None,
        None,
        (),
    )
    (row,) = csv.DictReader(io.StringIO(edges_csv([edge])))
    assert row["parent"] == f"'{start}cmd"
    assert float(row["weight"]) == -1.0


def test_parquet_reads_back():
    table = pq.read_table(io.BytesIO(edges_parquet(EDGES)))
    assert tuple(table.column_names) == EDGE_FIELDS
    assert table.to_pylist() == json.loads(edges_json(EDGES))


def test_no_edges_are_still_a_valid_file_of_each_form():
    assert json.loads(edges_json(())) == []
    assert edges_csv(()).strip() == ",".join(EDGE_FIELDS)
    assert pq.read_table(io.BytesIO(edges_parquet(()))).num_rows == 0
