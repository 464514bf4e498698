"""Reads of the published database about what single models gained in a window of time.

Times are days since 1970 UTC. A window is half-open: ``since <= day < until``.
"""

from __future__ import annotations

from typing import Any

import duckdb

from lineage.store.published_scope import BORN, DATED, RELATED, Columns, columns

__all__ = [
    "births_of_parents",
    "counts_gained",
    "counts_standing",
    "descendants_gained",
    "models_at",
    "places_of_relation",
    "times_observed",
]

Row = tuple[Any, ...]


def times_observed(cursor: duckdb.DuckDBPyConnection) -> Row:
    """First and last day on which counts were observed, and on how many days they were."""
    return cursor.execute(
        "SELECT min(epoch(observed_at)) / 86400.0, max(epoch(observed_at)) / 86400.0, "
        "count(DISTINCT epoch(observed_at)::BIGINT // 86400) FROM observation"
    ).fetchall()[0]


def births_of_parents(cursor: duckdb.DuckDBPyConnection, since: float, until: float) -> Columns:
    """Every dated model: ``pos``, ``age`` at `until`, ``days`` watched in the window, ``gained``.

    Gained are children born in the window.
    """
    return columns(
        cursor,
        f"""
        WITH {DATED}, {BORN},
        bred AS (SELECT parent_pos, count(*) AS n FROM born GROUP BY parent_pos)
        SELECT pos, $until - day AS age, $until - greatest(day, $since) AS days,
               coalesce(n, 0)::DOUBLE AS gained
        FROM dated LEFT JOIN bred ON parent_pos = pos WHERE $until > day ORDER BY pos
        """,
        {"since": since, "until": until},
    )


def descendants_gained(cursor: duckdb.DuckDBPyConnection, since: float, until: float) -> Columns:
    """The same of descendants along primary parents, each once."""
    return columns(
        cursor,
        f"""
        WITH {DATED},
        counted AS (
            SELECT pos, size, sum(coalesce((epoch(created_at) / 86400.0 >= $since
                   AND epoch(created_at) / 86400.0 < $until)::INTEGER, 0)) OVER (ORDER BY pos)
                   AS so_far FROM model)
        SELECT dated.pos, $until - day AS age, $until - greatest(day, $since) AS days,
               (last.so_far - own.so_far)::DOUBLE AS gained
        FROM dated JOIN counted AS own ON own.pos = dated.pos
        JOIN counted AS last ON last.pos = dated.pos + dated.size - 1
        WHERE $until > day ORDER BY dated.pos
        """,
        {"since": since, "until": until},
    )


def counts_gained(
    cursor: duckdb.DuckDBPyConnection, count: str, since: float, until: float
) -> Columns:
    """First and last observation of a total in a window, of every dated model observed in it.

    ``pos``, ``age`` at the later one, ``first_day``, ``first``, ``last_day``, ``last``. `count` is
    ``likes`` or ``downloads_all_time``.

    Raises
    ------
    ValueError
        If there is no such total.
    """
    if count not in ("likes", "downloads_all_time"):
        raise ValueError(f"no total: {count}")
    return columns(
        cursor,
        f"""
        WITH {DATED},
        seen AS (
            SELECT repo_id, epoch(observed_at) / 86400.0 AS seen_day, {count}::DOUBLE AS total
            FROM observation WHERE {count} IS NOT NULL
              AND epoch(observed_at) / 86400.0 BETWEEN $since AND $until)
        SELECT pos, max(seen_day) - any_value(day) AS age, min(seen_day) AS first_day,
               arg_min(total, seen_day) AS first, max(seen_day) AS last_day,
               arg_max(total, seen_day) AS last
        FROM seen JOIN dated USING (repo_id) GROUP BY pos ORDER BY pos
        """,
        {"since": since, "until": until},
    )


def counts_standing(cursor: duckdb.DuckDBPyConnection, count: str, until: float) -> Columns:
    """The last observation of a count before `until`: ``pos``, ``age`` then, and ``total``.

    `count` is ``likes`` or ``downloads_30d``.

    Raises
    ------
    ValueError
        If there is no such count.
    """
    if count not in ("likes", "downloads_30d"):
        raise ValueError(f"no count: {count}")
    return columns(
        cursor,
        f"""
        WITH {DATED},
        seen AS (
            SELECT repo_id, max(epoch(observed_at)) / 86400.0 AS seen_day,
                   arg_max({count}, observed_at)::DOUBLE AS total
            FROM observation WHERE {count} IS NOT NULL
              AND epoch(observed_at) / 86400.0 <= $until GROUP BY repo_id)
        SELECT pos, seen_day - day AS age, total FROM seen JOIN dated USING (repo_id)
        WHERE seen_day > day ORDER BY pos
        """,
        {"until": until},
    )


def models_at(cursor: duckdb.DuckDBPyConnection, places: list[int]) -> list[Row]:
    """Place, name, day of birth, relation, family and descendants of the models at `places`."""
    return cursor.execute(
        f"""
        WITH {DATED}, {RELATED}
        SELECT pos, repo_id, day, coalesce(relation, 'founder'), founder, n_descendants
        FROM dated LEFT JOIN related ON child_pos = pos
        WHERE pos IN (SELECT unnest($places::INTEGER[]))
        """,
        {"until": 1e9, "places": places},
    ).fetchall()


def places_of_relation(cursor: duckdb.DuckDBPyConnection, relation: str) -> Columns:
    """``pos`` of the models of one relation to their primary parent (``founder``: without one)."""
    return columns(
        cursor,
        f"""
        WITH {RELATED.strip()}
        SELECT pos FROM model LEFT JOIN related ON child_pos = pos
        WHERE coalesce(relation, 'founder') = $relation
        """,
        {"relation": relation},
    )
