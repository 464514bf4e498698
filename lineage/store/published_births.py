"""Reads of the published database over time: births in a clade, and counts of one model.

Times leave as plain UTC.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from lineage.store.published import Row
from lineage.store.published_clades import CATEGORIES, FIRST_EDGE, Bounds

__all__ = ["births", "dates_of", "density", "history_of"]


def births(
    cursor: duckdb.DuckDBPyConnection,
    start: int,
    stop: int,
    segments: Sequence[tuple[int, int]],
    bounds: Bounds,
    category: str,
    step: str,
) -> list[Row]:
    """Count the models of a clade by owner and relation, and by owner, time and category.

    Parameters
    ----------
    cursor
        Of a published database.
    start, stop
        The clade, ``[start, stop)``.
    segments
        ``(first position, owner)`` in order, the first at or before `start`: whose the models are
        from there on. Models of owner -1 are not counted.
    bounds
        Which models are counted.
    category
        A key of :data:`CATEGORIES`.
    step
        Length of a span of time: day, week or month.

    Returns
    -------
    list of tuple
        ``(owner, is_total, relation, born, category, count)``. Where `is_total` is 1, `born` and
        category are empty and the count is that of a relation; else relation is. `born` is the
        first day of the span; a model without a date has none. In order of owner and time.
    """
    conditions, values = bounds.where()
    rows = cursor.execute(
        f"""
        WITH segment AS (
            SELECT unnest($starts::INTEGER[]) AS start, unnest($owners::INTEGER[]) AS owner),
        member AS (
            SELECT model.pos, edge.relation, {CATEGORIES[category]} AS category,
                   date_trunc($step, created_at)::DATE AS born
            FROM model {FIRST_EDGE}
            WHERE model.pos BETWEEN $start AND $stop - 1 {conditions})
        SELECT owner, grouping(born), relation, born, category, count(*)
        FROM member ASOF JOIN segment ON member.pos >= segment.start WHERE owner >= 0
        GROUP BY GROUPING SETS ((owner, relation), (owner, born, category))
        ORDER BY owner, born, category NULLS FIRST, relation
        """,
        {
            "starts": [first for first, _ in segments],
            "owners": [owner for _, owner in segments],
            "start": start,
            "stop": stop,
            "step": step,
            **values,
        },
    ).fetchall()
    return rows


def dates_of(cursor: duckdb.DuckDBPyConnection, start: int, stop: int) -> Row:
    """First and last date (plain UTC) of the models in ``[start, stop)``; None without any."""
    return cursor.execute(
        "SELECT min(created_at) AT TIME ZONE 'UTC', max(created_at) AT TIME ZONE 'UTC' "
        "FROM model WHERE pos BETWEEN ? AND ?",
        [start, stop - 1],
    ).fetchall()[0]


def density(
    cursor: duckdb.DuckDBPyConnection, start: int, stop: int, n_rows: int, n_columns: int
) -> tuple[list[Row], Row]:
    """Count the models of a clade on a grid of drawing position and time.

    Returns
    -------
    tuple
        ``(row, column, count)`` of every cell that holds a model, and the dates (plain UTC) at
        which the grid begins and ends; they are None where no model has a date.
    """
    span = dates_of(cursor, start, stop)
    if span[0] is None:
        return [], span
    cells = cursor.execute(
        """
        WITH span AS (SELECT epoch_us($first::TIMESTAMP) AS first,
                             greatest(1, epoch_us($last::TIMESTAMP)
                                         - epoch_us($first::TIMESTAMP)) AS length)
        SELECT (pos - $start)::BIGINT * $rows // ($stop - $start) AS row_,
               least($columns - 1, (epoch_us(created_at) - first) * $columns // length) AS column_,
               count(*)
        FROM model, span WHERE pos BETWEEN $start AND $stop - 1 AND created_at IS NOT NULL
        GROUP BY row_, column_ ORDER BY row_, column_
        """,
        {
            "start": start, "stop": stop, "rows": n_rows, "columns": n_columns,
            "first": span[0], "last": span[1],
        },
    ).fetchall()  # fmt: skip
    return cells, span


def history_of(cursor: duckdb.DuckDBPyConnection, repo_id: str, limit: int) -> list[Row]:
    """When, downloads and likes of the latest `limit` days of a model; the last of each day."""
    rows = cursor.execute(
        """
        SELECT max(observed_at) AT TIME ZONE 'UTC', arg_max(downloads_30d, observed_at),
               arg_max(likes, observed_at)
        FROM observation WHERE repo_id = ?
        GROUP BY observed_at::DATE ORDER BY observed_at::DATE DESC LIMIT ?
        """,
        [repo_id, limit],
    ).fetchall()
    return rows[::-1]
