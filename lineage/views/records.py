"""Rows of the store as frozen rows: what the questions share."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from lineage.store.evidence import read_evidence
from lineage.store.published import Row
from lineage.views.rows import EdgeRow, ModelCard

__all__ = ["card_of", "edges_of", "zoned"]


def zoned(row: Row) -> Row:
    """The same row with its plain times in UTC."""
    return tuple(v.replace(tzinfo=UTC) if isinstance(v, datetime) else v for v in row)


def card_of(row: Row) -> ModelCard:
    """A row of ``published.MODEL_COLUMNS``."""
    return ModelCard(*zoned(row))


def edges_of(rows: Iterable[Row]) -> tuple[EdgeRow, ...]:
    """Rows of ``published.EDGE_COLUMNS``."""
    made: list[EdgeRow] = []
    for row in rows:
        values: Row = (*row[:-1], read_evidence(row[-1]))
        made.append(EdgeRow(*values))
    return tuple(made)
