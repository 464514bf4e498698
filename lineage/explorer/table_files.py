"""What a page lists, as CSV, JSON and Parquet that are made when they are asked for."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import streamlit as st

from lineage.export.csv_text import csv_text

__all__ = ["Columns", "download_table", "table_csv", "table_json", "table_parquet"]

Cell: TypeAlias = str | int | float | None
Columns: TypeAlias = Mapping[str, Sequence[Cell]]
"""Columns of equal length by name; None where there is no value."""


def table_csv(columns: Columns) -> str:
    r"""CSV with a header; text that a spreadsheet would run gets a leading apostrophe.

    Examples
    --------
    >>> table_csv({"model": ["a/b", "=1+1"], "n": [3, None]})
    "model,n\na/b,3\n'=1+1,\n"
    """
    return csv_text(list(columns), zip(*columns.values(), strict=True))


def table_json(columns: Columns) -> str:
    """A JSON list with one object a row."""
    rows = zip(*columns.values(), strict=True)
    return json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=2) + "\n"


def table_parquet(columns: Columns) -> bytes:
    """A Parquet file; a column without any value is one of text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {
        name: pa.array(list(values))
        if any(value is not None for value in values)
        else pa.array([None] * len(values), pa.string())
        for name, values in columns.items()
    }
    out = io.BytesIO()
    pq.write_table(pa.table(arrays), out)
    return out.getvalue()


def _made(write: Callable[[Columns], str | bytes], make: Callable[[], Columns]) -> str | bytes:
    return write(make())


def download_table(label: str, make: Callable[[], Columns], stem: str, key: str) -> None:
    """Three buttons for one table, which is made when one of them is pressed.

    Parameters
    ----------
    label
        What the table holds, in our own words: a button's label is read as markup.
    make
        Makes the table; runs outside the page's own run, so it takes a cursor of its own.
    stem
        Name of the file, without its suffix.
    key
        Distinguishes the buttons of several tables on one page.
    """
    formats: Mapping[str, tuple[Callable[[Columns], str | bytes], str, str]] = {
        "CSV": (table_csv, "csv", "text/csv"),
        "JSON": (table_json, "json", "application/json"),
        "Parquet": (table_parquet, "parquet", "application/vnd.apache.parquet"),
    }
    for column, (name, (write, suffix, mime)) in zip(st.columns(3), formats.items(), strict=True):
        with column:
            st.download_button(
                f"{label} ({name})",
                partial(_made, write, make),
                file_name=f"{stem}.{suffix}",
                mime=mime,
                on_click="ignore",
                icon=":material/download:",
                width="stretch",
                key=f"{key}-{suffix}",
            )
