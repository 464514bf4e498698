"""Reads of the published database about births and counts through time, aggregated there.

Times are days since 1970 UTC. A birth is a child dated at or after its parent, once for each
parent whose claim the weights do not contradict. A window is half-open: ``since <= day < until``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import duckdb

from lineage.store.published_scope import (
    BORN,
    CLUSTERED,
    DATED,
    RELATED,
    Columns,
    Scope,
    columns,
)

__all__ = [
    "LABELS",
    "births_by_family",
    "births_by_month",
    "cohorts",
    "daily_births",
    "growth_by_cluster",
    "merges_of",
    "person_time_by_label",
    "time_span",
]

Row = tuple[Any, ...]

LABELS = {
    "relation": "relation",
    "licence": "licence",
    "architecture": "architecture",
    "task": "pipeline_tag",
    "size": "size_class",
}
"""What births are compared by, and the column or expression behind it."""

_SIZE_CLASS = """
    CASE WHEN parameters IS NULL THEN NULL WHEN parameters < 1e9 THEN 'below 1 B'
         WHEN parameters < 4e9 THEN '1 to 4 B' WHEN parameters < 10e9 THEN '4 to 10 B'
         WHEN parameters < 40e9 THEN '10 to 40 B' ELSE '40 B and more' END
"""


def time_span(cursor: duckdb.DuckDBPyConnection, until: float) -> Row:
    """Day of the first and of the last birth before `until`, dated models, and all models."""
    return cursor.execute(
        f"WITH {DATED} SELECT min(day), max(day), count(*), (SELECT count(*) FROM model) "
        "FROM dated",
        {"until": until},
    ).fetchall()[0]


def births_by_month(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, until: float, relation: str
) -> list[Row]:
    """Models of a scope by month of birth and relation to their primary parent (or founder)."""
    return cursor.execute(
        f"""
        WITH {DATED}, {RELATED}
        SELECT strftime(date_trunc('month', created_at AT TIME ZONE 'UTC'), '%Y-%m-%d') AS month,
               coalesce(relation, 'founder') AS relation, count(*)
        FROM dated LEFT JOIN related ON child_pos = pos
        WHERE pos BETWEEN $low AND $high
          AND ($relation = '' OR coalesce(relation, 'founder') = $relation)
        GROUP BY ALL ORDER BY ALL
        """,
        {"until": until, "low": scope.low, "high": scope.high, "relation": relation},
    ).fetchall()


def growth_by_cluster(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, since: float, until: float, relation: str
) -> Columns:
    """Models of each cluster born in a window (``later``), and in one as long before it."""
    return columns(
        cursor,
        f"""
        WITH {DATED}, {CLUSTERED}, {RELATED}
        SELECT cluster, count(*) FILTER (day >= $since) AS later,
               count(*) FILTER (day < $since) AS earlier
        FROM clustered LEFT JOIN related ON child_pos = pos
        WHERE day >= 2 * $since - $until
          AND ($relation = '' OR coalesce(relation, 'founder') = $relation)
        GROUP BY cluster
        """,
        {"until": until, "since": since, "relation": relation, **scope.bound},
    )


def daily_births(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, until: float
) -> tuple[Columns, Columns]:
    """Models born a day, and births a day by the age of the primary parent in whole days.

    Columns ``day`` and ``n``; ``day``, ``age`` and ``n``. Of the births, child and parent belong
    to the scope.
    """
    bound: dict[str, object] = {"until": until, "low": scope.low, "high": scope.high}
    inside = "pos BETWEEN $low AND $high"
    models = columns(
        cursor,
        f"WITH {DATED} SELECT floor(day)::BIGINT AS day, count(*) AS n FROM dated "
        f"WHERE {inside} GROUP BY 1 ORDER BY 1",
        bound,
    )
    births = columns(
        cursor,
        f"""
        WITH {DATED}
        SELECT floor(child.day)::BIGINT AS day,
               floor(child.day)::BIGINT - floor(parent.day)::BIGINT AS age, count(*) AS n
        FROM dated AS child JOIN dated AS parent ON parent.repo_id = child.primary_parent
        WHERE child.{inside} AND parent.{inside} AND floor(child.day) >= floor(parent.day)
        GROUP BY 1, 2 ORDER BY 1, 2
        """,
        bound,
    )
    return models, births


def cohorts(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, until: float, window_days: float
) -> Columns:
    """By month of birth and cluster: models, and their children within a window of their birth.

    ``month`` counts from January 1970; ``unwatched`` are the models that were not watched through
    the window.
    """
    return columns(
        cursor,
        f"""
        WITH {DATED}, {CLUSTERED}, {BORN},
        bred AS (
            SELECT parent_pos, count(*) AS n FROM born
            WHERE day - parent_day < $window GROUP BY parent_pos)
        SELECT (datesub('month', TIMESTAMP '1970-01-01',
                date_trunc('month', created_at AT TIME ZONE 'UTC')))::BIGINT AS month,
               cluster, count(*) AS models, coalesce(sum(n), 0)::BIGINT AS children,
               count(*) FILTER (day + $window > $until) AS unwatched
        FROM clustered LEFT JOIN bred ON parent_pos = pos GROUP BY 1, 2
        """,
        {"until": until, "since": -1e9, "window": window_days, **scope.bound},
    )


# -- by trait, family and model -------------------------------------------------------------------


def person_time_by_label(
    cursor: duckdb.DuckDBPyConnection,
    scope: Scope,
    label: str,
    since: float,
    until: float,
    age_cuts: tuple[float, ...],
    largest: int,
) -> Columns:
    """Model-days and births in a window by cluster, age band and label.

    ``cluster``, ``label``, ``band`` (0 at birth), ``days``, ``births``. The `largest` labels keep
    their names, the others are called ``others``; models without one are left out.

    Raises
    ------
    KeyError
        If births are not compared by that.
    """
    value = LABELS[label]
    if value == "size_class":
        value = _SIZE_CLASS
    elif value == "relation":
        value = "coalesce(relation, 'founder')"
    edges = (0.0, *age_cuts, 1e9)
    split = " UNION ALL ".join(
        f"""SELECT pos, cluster, label, {band} AS band,
            least($until, day + {high!r}) - greatest($since, day + {low!r}) AS days
            FROM labelled WHERE least($until, day + {high!r}) > greatest($since, day + {low!r})"""
        for band, (low, high) in enumerate(pairwise(edges))
    )
    cuts = "".join(f" + (born.day >= parent_day + {cut!r})::INTEGER" for cut in age_cuts)
    return columns(
        cursor,
        f"""
        WITH {DATED}, {CLUSTERED}, {BORN}, {RELATED},
        named AS (
            SELECT pos, cluster, day, {value} AS said
            FROM clustered LEFT JOIN related ON child_pos = pos),
        large AS (
            SELECT said FROM named WHERE said IS NOT NULL AND said <> 'other'
            GROUP BY said ORDER BY count(*) DESC, said LIMIT $largest),
        labelled AS (
            SELECT pos, cluster, day,
                   CASE WHEN said IN (SELECT said FROM large) THEN said ELSE 'others' END AS label
            FROM named WHERE said IS NOT NULL),
        split AS ({split}),
        spent AS (SELECT cluster, label, band, sum(days) AS days FROM split GROUP BY ALL),
        bred AS (
            SELECT cluster, label, 0{cuts} AS band, count(*) AS births
            FROM born JOIN labelled ON labelled.pos = parent_pos GROUP BY ALL)
        SELECT cluster, label, band, days, coalesce(births, 0)::BIGINT AS births
        FROM spent LEFT JOIN bred USING (cluster, label, band) ORDER BY ALL
        """,
        {"since": since, "until": until, "largest": largest, **scope.bound},
    )


def births_by_family(
    cursor: duckdb.DuckDBPyConnection, since: float, until: float, largest: int, lines: int
) -> Columns:
    """Models born in two windows of equal length, the later from `since`: family, line and count.

    ``family`` (place of the founder), ``name``, ``line``, ``later``, ``n``. The `largest` families
    have their own lines (children of the founder), thrown into at most `lines` random groups;
    the founders of all others are one line each, in as many groups.
    """
    return columns(
        cursor,
        f"""
        WITH {DATED},
        head AS (
            SELECT pos AS line FROM model WHERE repo_id = founder OR primary_parent = founder),
        born AS (
            SELECT dated.founder, line, day >= $since AS later
            FROM dated ASOF JOIN head ON dated.pos >= head.line
            WHERE day >= 2 * $since - $until AND day < $until),
        large AS (
            SELECT born.founder, model.pos AS family FROM born
            JOIN model ON model.repo_id = born.founder WHERE model.size > 1
            GROUP BY ALL ORDER BY count(*) DESC, born.founder LIMIT $largest)
        SELECT coalesce(family, -1) AS family, coalesce(large.founder, '') AS name,
               CASE WHEN family IS NULL THEN -1 - (hash(born.founder) % $lines)::BIGINT
                    ELSE family * $lines + (hash(line) % $lines)::BIGINT END AS line,
               later, count(*) AS n
        FROM born LEFT JOIN large USING (founder) GROUP BY ALL ORDER BY ALL
        """,
        {"since": since, "until": until, "largest": largest, "lines": lines},
    )


def merges_of(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, since: float, until: float, limit: int
) -> list[Row]:
    """Merges born in a window with a parent in the scope, newest first.

    Child, its day, all parents and their shares, and whether the scope's head is one of them.
    """
    return cursor.execute(
        f"""
        WITH {DATED},
        merged AS (
            SELECT child_pos, any_value(day) AS day, bool_or(parent = $clade) AS own
            FROM edge JOIN dated ON pos = child_pos
            WHERE relation = 'merge' AND verdict <> 'contradicted'
              AND parent_pos BETWEEN $low AND $high AND day >= $since
            GROUP BY child_pos)
        SELECT child, day, own, list(parent ORDER BY position), list(weight ORDER BY position)
        FROM merged JOIN edge USING (child_pos) WHERE verdict <> 'contradicted'
        GROUP BY ALL ORDER BY own DESC, day DESC, child LIMIT $limit
        """,
        {
            "since": since, "until": until, "limit": limit,
            "clade": scope.clade, "low": scope.low, "high": scope.high,
        },
    ).fetchall()  # fmt: skip
