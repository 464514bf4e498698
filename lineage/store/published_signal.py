"""Reads of the published database about measured traits and the pedigree above their models."""

from __future__ import annotations

from typing import Any

import duckdb

from lineage.store.published_scope import Columns, Scope, columns

__all__ = ["SIZE", "ancestors", "founders_of", "measured_traits", "measured_values"]

Row = tuple[Any, ...]

SIZE = "log10 parameters"
"""The one trait that is no measurement: the common logarithm of the number of stored values."""

_VALUES = f"""
    valued AS (
        SELECT pos, repo_id, founder, log10(parameters) AS value FROM model
        WHERE $trait = '{SIZE}' AND parameters > 0 AND pos BETWEEN $low AND $high
        UNION ALL
        SELECT pos, repo_id, any_value(founder), arg_max(value, trait.observed_at)
        FROM trait JOIN model USING (repo_id)
        WHERE name = $trait AND $trait <> '{SIZE}' AND pos BETWEEN $low AND $high
        GROUP BY pos, repo_id),
    chosen AS (SELECT * FROM valued ORDER BY hash(repo_id), pos LIMIT $largest)
"""


def measured_traits(cursor: duckdb.DuckDBPyConnection, least: int) -> list[Row]:
    """Numeric traits of at least so many models, and the number of models, best known first."""
    return cursor.execute(
        f"""
        SELECT name, count(DISTINCT repo_id) AS n FROM trait JOIN model USING (repo_id)
        WHERE name <> '{SIZE}' GROUP BY name HAVING n >= $least
        UNION ALL
        SELECT '{SIZE}', count(*) FROM model WHERE parameters > 0 HAVING count(*) >= $least
        ORDER BY n DESC, name LIMIT 200
        """,
        {"least": least},
    ).fetchall()


def measured_values(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, trait: str, largest: int
) -> Columns:
    """A trait of at most `largest` models of a scope, drawn by a hash of the name.

    ``pos``, ``name``, ``founder`` and ``value`` (the latest), in order of ``pos``.
    """
    return columns(
        cursor,
        f"WITH {_VALUES} SELECT pos, repo_id AS name, founder, value FROM chosen ORDER BY pos",
        {"trait": trait, "low": scope.low, "high": scope.high, "largest": largest},
    )


def ancestors(cursor: duckdb.DuckDBPyConnection, scope: Scope, trait: str, largest: int) -> Columns:
    """The same models and everybody above them along primary parents, themselves among them.

    ``pos`` and ``above``, both places.
    """
    return columns(
        cursor,
        f"""
        WITH RECURSIVE {_VALUES},
        line AS (
            SELECT chosen.pos, chosen.pos AS above, primary_parent FROM chosen
            JOIN model ON model.pos = chosen.pos
            UNION ALL
            SELECT line.pos, model.pos, model.primary_parent
            FROM line JOIN model ON model.repo_id = line.primary_parent)
        SELECT pos, above FROM line ORDER BY pos, above
        """,
        {"trait": trait, "low": scope.low, "high": scope.high, "largest": largest},
    )


def founders_of(cursor: duckdb.DuckDBPyConnection, names: list[str]) -> list[Row]:
    """Models and their founders; unknown names are left out."""
    return cursor.execute(
        "SELECT repo_id, founder FROM model WHERE repo_id IN (SELECT unnest(?::VARCHAR[]))", [names]
    ).fetchall()
