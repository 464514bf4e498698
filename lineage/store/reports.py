"""Whole answers kept as documents: what ``herdbook lewontin`` and ``herdbook behave`` print."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime

import duckdb
import numpy as np

from lineage.store.transaction import transaction

__all__ = ["keep_reports", "plain", "read_reports"]


def keep_reports(
    connection: duckdb.DuckDBPyConnection, run_id: int, kind: str, documents: Mapping[str, object]
) -> None:
    """Replace every report of this kind by `documents`, which are named by what they are about.

    A document is anything that :func:`plain` takes.
    """
    now = datetime.now(UTC)
    rows = [
        [run_id, kind, name, now, json.dumps(plain(document), allow_nan=False)]
        for name, document in documents.items()
    ]
    with transaction(connection):
        connection.execute("DELETE FROM report WHERE kind = ?", [kind])
        if rows:
            connection.executemany("INSERT INTO report VALUES (?, ?, ?, ?, ?)", rows)


def plain(value: object) -> object:
    """`value` made of what JSON knows: dataclasses become objects, NaN and infinity None.

    Examples
    --------
    >>> plain({"a": (1, float("nan")), "b": datetime(2025, 1, 31)})
    {'a': [1, None], 'b': '2025-01-31T00:00:00'}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)


def read_reports(cursor: duckdb.DuckDBPyConnection, kind: str) -> dict[str, str]:
    """Names and JSON documents of one kind, in order of name; of either database."""
    rows = cursor.execute(
        "SELECT name, document FROM report WHERE kind = ? ORDER BY name", [kind]
    ).fetchall()
    return {str(name): str(document) for name, document in rows}
