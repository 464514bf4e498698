"""Reads of the published database for the page Owner."""

from __future__ import annotations

from typing import Any

import duckdb

from lineage.store.published import MODEL_COLUMNS

__all__ = [
    "ORDERS",
    "near_owners",
    "owner_models",
    "owner_parents",
    "owner_totals",
    "owner_users",
    "owner_verdicts",
    "top_owners",
]

Row = tuple[Any, ...]

ORDERS = {
    "downloads": "coalesce(downloads_30d, 0) DESC",
    "descendants": "n_descendants DESC",
    "newest": "created_at DESC NULLS LAST",
    "name": "repo_id",
}
"""Orders of an owner's models."""
_MODEL = ", ".join(
    f"{column} AT TIME ZONE 'UTC'" if column == "created_at" else column for column in MODEL_COLUMNS
)
# What begins with "owner/" lies between that and "owner0": the nought follows the slash.
_OWNED = (
    "NOT contains($owner, '/') AND (repo_id = $owner"
    " OR (repo_id >= concat($owner, '/') AND repo_id < concat($owner, '0')))"
)
_OWN = f"WITH own AS (SELECT * FROM model WHERE {_OWNED})"


def owner_totals(cursor: duckdb.DuckDBPyConnection, owner: str) -> Row:
    """Models, those with a parent, downloads of 30 days, likes, first and last day, children.

    Children are those of its models that others made; a child of two of its models counts once.
    """
    rows = cursor.execute(
        f"""
        {_OWN}
        SELECT count(*), count(*) FILTER (n_parents > 0), sum(downloads_30d)::BIGINT,
               sum(likes)::BIGINT, min(created_at) AT TIME ZONE 'UTC',
               max(created_at) AT TIME ZONE 'UTC',
               (SELECT count(DISTINCT child_pos) FROM edge SEMI JOIN own ON own.pos = parent_pos
                WHERE verdict <> 'contradicted' AND child_pos NOT IN (SELECT pos FROM own))
        FROM own
        """,
        {"owner": owner},
    ).fetchall()
    return rows[0]


def owner_models(
    cursor: duckdb.DuckDBPyConnection, owner: str, order: str, limit: int, offset: int
) -> list[Row]:
    """One page of an owner's models: model rows; `order` is one of :data:`ORDERS`."""
    return cursor.execute(
        f"SELECT {_MODEL} FROM model WHERE {_OWNED}"
        f" ORDER BY {ORDERS[order]}, repo_id LIMIT $limit OFFSET $offset",
        {"owner": owner, "limit": limit, "offset": offset},
    ).fetchall()


def owner_verdicts(cursor: duckdb.DuckDBPyConnection, owner: str) -> list[Row]:
    """Verdicts on the parents of an owner's models, and how many there are."""
    return cursor.execute(
        f"{_OWN} SELECT verdict, count(*) FROM edge SEMI JOIN own ON own.pos = child_pos"
        " GROUP BY verdict ORDER BY verdict",
        {"owner": owner},
    ).fetchall()


def owner_parents(cursor: duckdb.DuckDBPyConnection, owner: str, limit: int) -> list[Row]:
    """Models of others that this owner builds upon most, and how many models were made of each."""
    return cursor.execute(
        f"{_OWN} SELECT parent, count(DISTINCT child_pos) AS n FROM edge"
        " SEMI JOIN own ON own.pos = child_pos"
        " WHERE verdict <> 'contradicted' AND split_part(parent, '/', 1) <> $owner"
        " GROUP BY parent ORDER BY n DESC, parent LIMIT $limit",
        {"owner": owner, "limit": limit},
    ).fetchall()


def owner_users(cursor: duckdb.DuckDBPyConnection, owner: str, limit: int) -> list[Row]:
    """Owners who build upon this one most, and how many models they made of its models."""
    return cursor.execute(
        f"{_OWN} SELECT split_part(child, '/', 1) AS other, count(DISTINCT child_pos) AS n"
        " FROM edge SEMI JOIN own ON own.pos = parent_pos"
        " WHERE verdict <> 'contradicted' AND child_pos NOT IN (SELECT pos FROM own)"
        " GROUP BY other ORDER BY n DESC, other LIMIT $limit",
        {"owner": owner, "limit": limit},
    ).fetchall()


def near_owners(cursor: duckdb.DuckDBPyConnection, text: str, limit: int) -> list[Row]:
    """Owners whose names look most like `text` (Jaro-Winkler .75 or more), and their models."""
    return cursor.execute(
        """
        WITH owners AS (SELECT split_part(repo_id, '/', 1) AS name, count(*) AS n_models
                        FROM model GROUP BY name)
        SELECT name, n_models FROM owners
        WHERE jaro_winkler_similarity(lower(name), $1) >= .75
           OR (length($1) > 2 AND contains(lower(name), $1))
        ORDER BY jaro_winkler_similarity(lower(name), $1) DESC, n_models DESC, name LIMIT $2
        """,
        [text.lower(), limit],
    ).fetchall()


def top_owners(cursor: duckdb.DuckDBPyConnection, limit: int) -> list[Row]:
    """Owners whose models have most children, their models and those children."""
    return cursor.execute(
        "SELECT split_part(repo_id, '/', 1) AS name, count(*), sum(n_children)::BIGINT FROM model"
        " GROUP BY name ORDER BY sum(n_children) DESC, count(*) DESC, name LIMIT ?",
        [limit],
    ).fetchall()
