"""Reads of the published database about the kinds of models, counted or sampled there.

A category is a founder, a licence, a language, an architecture or a task; models without one are
left out. Months count from January 1970.
"""

from __future__ import annotations

from typing import Any

import duckdb

from lineage.store.published_scope import BLOCKS, CLUSTERED, DATED, RELATED, Columns, Scope, columns

__all__ = [
    "CATEGORIES",
    "births_by_category",
    "counts_by_category",
    "descent_by_category",
    "evaluations",
    "family_nodes",
    "largest_families",
    "sample_by_month",
    "scores_and_sizes",
    "use_by_family",
]

Row = tuple[Any, ...]

CATEGORIES = ("family", "licence", "language", "architecture", "task")
"""What diversity is taken over."""

_VALUES = {
    "family": "[founder]",
    "licence": "[licence]",
    "language": "languages",
    "architecture": "[architecture]",
    "task": "[pipeline_tag]",
}
_SINGLE = {
    **{name: value.strip("[]") for name, value in _VALUES.items()},
    # One value a model, as descent needs it.
    "language": "CASE len(languages) WHEN 0 THEN NULL WHEN 1 THEN languages[1] ELSE 'several' END",
}

_MONTH = "datesub('month', TIMESTAMP '1970-01-01', date_trunc('month', {0} AT TIME ZONE 'UTC'))"
_BORN_MONTH = f"{_MONTH.format('created_at')}::BIGINT"


def _bound(scope: Scope, until: float, category: str) -> dict[str, object]:
    bound = {"until": until, **scope.bound}
    if category == "family" and not scope.clade:
        # A family is one founder: its independent groups are the lines below the founder.
        bound |= {"lines": True, "blocks": BLOCKS}
    return bound


_OF_RELATION = """
    LEFT JOIN related ON child_pos = pos WHERE coalesce(relation, 'founder') = $relation
"""


def _valued(category: str, relation: str) -> str:
    return f"""
        {DATED}, {CLUSTERED}, {RELATED},
        valued AS (
            SELECT pos, cluster, {_BORN_MONTH} AS month, unnest({_VALUES[category]}) AS value,
                   hash(repo_id) AS draw
            FROM clustered {_OF_RELATION if relation else ""})
    """


def _asked(relation: str) -> dict[str, object]:
    return {"relation": relation} if relation else {}


def counts_by_category(
    cursor: duckdb.DuckDBPyConnection,
    scope: Scope,
    category: str,
    until: float,
    relation: str,
    every: int,
) -> Columns:
    """Models by ``cluster`` and category (``code``, numbered from 0), and how many (``n``).

    Of every so many models one is drawn by a hash of its name; 1 takes all. A model of several
    languages counts once for each.

    Raises
    ------
    KeyError
        If there is no such category.
    """
    return columns(
        cursor,
        f"""
        WITH {_valued(category, relation)}
        SELECT cluster, dense_rank() OVER (ORDER BY value) - 1 AS code, count(*) AS n
        FROM valued WHERE value IS NOT NULL AND draw % $every = 0 GROUP BY cluster, value
        """,
        {**_bound(scope, until, category), **_asked(relation), "every": every},
    )


def sample_by_month(
    cursor: duckdb.DuckDBPyConnection,
    scope: Scope,
    category: str,
    until: float,
    relation: str,
    months: int,
    largest: int,
) -> Columns:
    """At most `largest` random models of each period of so many `months`, by a hash of the name.

    ``window`` (first month of the period), ``code``, ``cluster``, and ``n`` rows the period has.
    """
    return columns(
        cursor,
        f"""
        WITH {_valued(category, relation)},
        drawn AS (
            SELECT month - month % $months AS slot, value, cluster,
                   row_number() OVER (PARTITION BY month - month % $months ORDER BY draw, value)
                   AS place,
                   count(*) OVER (PARTITION BY month - month % $months) AS n
            FROM valued WHERE value IS NOT NULL)
        SELECT slot AS "window", dense_rank() OVER (ORDER BY value) - 1 AS code, cluster, n
        FROM drawn WHERE place <= $largest ORDER BY slot, place
        """,
        {
            **_bound(scope, until, category), **_asked(relation), "months": months,
            "largest": largest,
        },
    )  # fmt: skip


def births_by_category(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, category: str, until: float
) -> Columns:
    """Dated models of a scope: ``month`` of birth, ``cluster``, ``value``, and how many (``n``).

    One value a model: of several languages ``several``. Values that are not known are left out.
    """
    return columns(
        cursor,
        f"""
        WITH {DATED}, {CLUSTERED}
        SELECT {_BORN_MONTH} AS month, cluster, {_SINGLE[category]} AS value, count(*) AS n
        FROM clustered WHERE value IS NOT NULL GROUP BY ALL ORDER BY ALL
        """,
        _bound(scope, until, category),
    )


def descent_by_category(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, category: str, until: float
) -> Columns:
    """Where the models born in each month descend from, summed by cluster and category.

    ``month``, ``stage`` (1 to 5, those of :mod:`lineage.evolution.diversity.entropy`),
    ``cluster``, ``value`` and ``mass``. Shares of one model sum to 1, equal ones where any is
    unknown. A model whose parents were born in the same month descends from theirs. Parents that
    are undated, younger, or of unknown value are ``unplaced``: they are in stage 4 alone.
    """
    return columns(
        cursor,
        f"""
        WITH RECURSIVE {DATED}, {CLUSTERED},
        member AS (
            SELECT pos, cluster, {_BORN_MONTH} AS month, {_SINGLE[category]} AS value
            FROM clustered),
        stated AS (
            SELECT child_pos AS child, parent_pos AS parent,
                   CASE WHEN bool_or(weight IS NULL OR isnan(weight)) OVER (PARTITION BY child_pos)
                        THEN 1.0 ELSE weight END AS weight
            FROM edge WHERE verdict <> 'contradicted' AND child_pos BETWEEN $low AND $high
              AND parent_pos BETWEEN $low AND $high),
        link AS (
            SELECT child, parent, weight / sum(weight) OVER (PARTITION BY child) AS share
            FROM stated WHERE weight > 0),
        step AS (
            SELECT link.child, link.parent, share, newborn.month AS born,
                   coalesce(former.month = newborn.month, false) AS goes_on
            FROM link JOIN member AS newborn ON newborn.pos = link.child
            LEFT JOIN member AS former ON former.pos = link.parent),
        descent AS (
            SELECT child, parent, share, goes_on FROM step
            UNION ALL
            SELECT descent.child, step.parent, descent.share * step.share, step.goes_on
            FROM descent JOIN step ON step.child = descent.parent WHERE descent.goes_on),
        origin AS (
            SELECT descent.child, share, own.cluster, own.month, own.value,
                   CASE WHEN former.month < own.month THEN former.value END AS inherited
            FROM descent JOIN member AS own ON own.pos = descent.child
            LEFT JOIN member AS former ON former.pos = descent.parent
            WHERE NOT goes_on AND own.value IS NOT NULL),
        judged AS (
            SELECT *, coalesce(bool_or(inherited = value) OVER (PARTITION BY child), false) AS alike
            FROM origin),
        mass AS (
            SELECT month, 1 AS stage, cluster, inherited AS value, share AS mass
            FROM judged WHERE inherited IS NOT NULL
            UNION ALL
            SELECT month, 2, cluster, CASE WHEN alike THEN value ELSE inherited END, share
            FROM judged WHERE inherited IS NOT NULL
            UNION ALL
            SELECT month, 3, cluster, value, share FROM judged WHERE inherited IS NOT NULL
            UNION ALL
            SELECT month, 4, cluster, value, share FROM judged
            UNION ALL
            SELECT month, 5, cluster, value, 1.0 FROM member WHERE value IS NOT NULL)
        SELECT month, stage, cluster, value, sum(mass) AS mass FROM mass
        GROUP BY ALL ORDER BY ALL
        """,
        _bound(scope, until, category),
    )


# -- families -------------------------------------------------------------------------------------


def largest_families(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, largest: int, most: int
) -> list[Row]:
    """Founders (or heads of lines, within a clade) of the largest clades of at most `most` models.

    Name, place and size.
    """
    return cursor.execute(
        """
        SELECT repo_id, pos, size FROM model
        WHERE pos BETWEEN $low AND $high AND size > 2 AND size <= $most
          AND CASE WHEN $clade = '' THEN repo_id = founder
                   ELSE repo_id = $clade OR primary_parent = $clade END
        ORDER BY size DESC, pos LIMIT $largest
        """,
        {
            "clade": scope.clade, "low": scope.low, "high": scope.high, "largest": largest,
            "most": most,
        },
    ).fetchall()  # fmt: skip


def family_nodes(cursor: duckdb.DuckDBPyConnection, low: int, high: int) -> Columns:
    """The models of a clade in preorder, by the place of their primary ``parent`` (−1: none)."""
    return columns(
        cursor,
        """
        SELECT own.pos, coalesce(parent.pos, -1) AS parent FROM model AS own
        LEFT JOIN model AS parent ON parent.repo_id = own.primary_parent
        WHERE own.pos BETWEEN $low AND $high ORDER BY own.pos
        """,
        {"low": low, "high": high},
    )


def use_by_family(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, category: str, until: float, largest: int
) -> Columns:
    """Models of the `largest` families by what they are made for.

    ``family`` (place of the founder), ``name``, ``cluster`` (line), ``code`` and ``n``.
    """
    return columns(
        cursor,
        f"""
        WITH {DATED},
        head AS (
            SELECT pos AS line FROM model WHERE repo_id = founder OR primary_parent = founder),
        large AS (
            SELECT pos, size, repo_id AS name FROM model WHERE repo_id = founder AND size > 2
              AND pos BETWEEN $low AND $high ORDER BY size DESC, pos LIMIT $largest),
        lined AS (
            SELECT dated.*, large.pos AS family, large.name
            FROM dated JOIN large ON dated.pos BETWEEN large.pos AND large.pos + large.size - 1),
        valued AS (
            SELECT family, name, line, unnest({_VALUES[category]}) AS value
            FROM lined ASOF JOIN head ON lined.pos >= head.line)
        SELECT family, name, line % $blocks AS cluster,
               dense_rank() OVER (ORDER BY value) - 1 AS code, count(*) AS n
        FROM valued WHERE value IS NOT NULL GROUP BY family, name, line % $blocks, value
        """,
        {
            "until": until, "low": scope.low, "high": scope.high, "largest": largest,
            "blocks": BLOCKS,
        },
    )  # fmt: skip


# -- scores ---------------------------------------------------------------------------------------


def evaluations(cursor: duckdb.DuckDBPyConnection, least: int) -> list[Row]:
    """Measured traits of models of known size: name, metric and models, best known first."""
    return cursor.execute(
        """
        SELECT name, any_value(metric), count(DISTINCT repo_id) AS n
        FROM trait JOIN model USING (repo_id) WHERE parameters > 0
        GROUP BY name HAVING n >= $least ORDER BY n DESC, name LIMIT 200
        """,
        {"least": least},
    ).fetchall()


def scores_and_sizes(
    cursor: duckdb.DuckDBPyConnection, scope: Scope, trait: str, largest: int
) -> Columns:
    """A trait and the size of at most `largest` models of a scope, drawn by a hash of the name.

    ``name``, ``value`` (the latest), ``parameters``, ``founder`` and ``family`` (its place).
    """
    return columns(
        cursor,
        """
        WITH latest AS (
            SELECT repo_id, arg_max(value, observed_at) AS value FROM trait
            WHERE name = $trait GROUP BY repo_id)
        SELECT own.repo_id AS name, value, own.parameters::DOUBLE AS parameters,
               own.founder, head.pos AS family
        FROM latest JOIN model AS own USING (repo_id)
        JOIN model AS head ON head.repo_id = own.founder
        WHERE own.parameters > 0 AND own.pos BETWEEN $low AND $high
        ORDER BY hash(own.repo_id) LIMIT $largest
        """,
        {"trait": trait, "low": scope.low, "high": scope.high, "largest": largest},
    )
