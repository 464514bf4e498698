"""Reads of the published database for the page Compare: the ancestors of two models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "edges_at",
    "n_places",
    "parent_places",
    "places_of",
    "relative_changes",
    "traits_of_both",
]

Row = tuple[Any, ...]
Ints = NDArray[np.int32]


def parent_places(cursor: duckdb.DuckDBPyConnection) -> tuple[Ints, Ints]:
    """Drawing positions of children and parents, an edge each: all that stand in the catalogue."""
    found = cursor.execute(
        "SELECT child_pos, parent_pos FROM edge WHERE verdict <> 'contradicted'"
        " AND child_pos IS NOT NULL AND parent_pos IS NOT NULL"
    ).fetchnumpy()
    return (
        np.asarray(found["child_pos"], dtype=np.int32),
        np.asarray(found["parent_pos"], dtype=np.int32),
    )


def n_places(cursor: duckdb.DuckDBPyConnection) -> int:
    """How many drawing positions there are."""
    rows = cursor.execute("SELECT coalesce(max(pos), -1) + 1 FROM model").fetchall()
    return int(rows[0][0])


def places_of(cursor: duckdb.DuckDBPyConnection, models: Sequence[str]) -> list[int]:
    """Drawing positions of models; unknown ones are left out."""
    rows = cursor.execute(
        f"SELECT pos FROM model WHERE repo_id IN ({', '.join('?' * len(models))})", list(models)
    ).fetchall()
    return [int(pos) for (pos,) in rows]


def edges_at(cursor: duckdb.DuckDBPyConnection, places: Sequence[int]) -> list[Row]:
    """Edges that stand from the models at some drawing positions to all their parents.

    Child, parent, position, relation, weight, verdict and grade. Contradicted claims are no
    edges; of a tie, which is one parent of several, the first stands for all.
    """
    if not places:
        return []
    return cursor.execute(
        """
        SELECT child, parent, position, relation, weight, verdict, grade FROM edge
        WHERE child_pos BETWEEN $first AND $last
          AND child_pos IN (SELECT unnest($places::INTEGER[])) AND verdict <> 'contradicted'
        QUALIFY grade <> 'tie'
             OR row_number() OVER (PARTITION BY child, grade ORDER BY position) = 1
        ORDER BY child, position
        """,
        {"first": min(places), "last": max(places), "places": list(places)},
    ).fetchall()


def relative_changes(cursor: duckdb.DuckDBPyConnection, models: Sequence[str]) -> list[Row]:
    """Model, kind and grade of its finding, and the relative change that it measured (or None)."""
    return cursor.execute(
        """
        SELECT child, kind, grade, list_extract(list_transform(list_filter(
                   from_json(evidence, '[{"name": "VARCHAR", "value": "DOUBLE"}]'),
                   lambda fact: fact.name = 'relative_change'), lambda fact: fact.value), 1)
        FROM finding WHERE valid_to IS NULL AND child IN (SELECT unnest(?::VARCHAR[]))
        """,
        [list(models)],
    ).fetchall()


def traits_of_both(cursor: duckdb.DuckDBPyConnection, one: str, other: str) -> list[Row]:
    """Traits that either has: name, metric, data set, which end is better, and both values."""
    return cursor.execute(
        """
        SELECT name, any_value(metric), any_value(dataset), any_value(higher_is_better),
               max(value) FILTER (repo_id = $1), max(value) FILTER (repo_id = $2)
        FROM trait WHERE repo_id IN ($1, $2) GROUP BY name ORDER BY name
        """,
        [one, other],
    ).fetchall()
