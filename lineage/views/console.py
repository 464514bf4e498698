"""Asking in one's own words: the console, its saved questions, and what the tables hold."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from lineage.store.console import Answer, Console, Limits, Refused, count_rows
from lineage.store.saved_questions import SAVED, SavedQuestion
from lineage.store.schema import PUBLISHED

__all__ = [
    "SAVED",
    "Answer",
    "ColumnRow",
    "Console",
    "Limits",
    "Refused",
    "SavedQuestion",
    "TableRow",
    "tables",
]


@dataclass(frozen=True, slots=True)
class ColumnRow:
    """One column: its name, DuckDB type and meaning."""

    name: str
    type: str
    meaning: str


@dataclass(frozen=True, slots=True)
class TableRow:
    """One published table: what it holds, how many rows, and its columns."""

    name: str
    meaning: str
    n_rows: int
    columns: tuple[ColumnRow, ...]


def tables(cursor: duckdb.DuckDBPyConnection) -> tuple[TableRow, ...]:
    """The published tables, in the order in which they are declared."""
    counted = count_rows(cursor)
    return tuple(
        TableRow(
            table.name,
            table.doc,
            counted[table.name],
            tuple(ColumnRow(column.name, column.type, column.doc) for column in table.columns),
        )
        for table in PUBLISHED
    )
