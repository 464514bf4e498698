"""What the measure stage reads and writes: members, traits, estimates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from lineage.model import Estimate

__all__ = [
    "EstimateRow",
    "Member",
    "TraitValue",
    "read_estimates",
    "read_members",
    "read_traits",
    "replace_estimates",
]


@dataclass(frozen=True, slots=True)
class Member:
    """A model as a member of the population; None where it was never stated."""

    repo_id: str
    observed_at: datetime
    created_at: datetime | None
    downloads_30d: int | None
    likes: int | None
    parameters: int | None


@dataclass(frozen=True, slots=True)
class TraitValue:
    """The latest measurement of one trait of one model."""

    repo_id: str
    trait: str
    value: float


@dataclass(frozen=True, slots=True)
class EstimateRow:
    """An estimate and what it is of; `trait` and `fitness` are None where none is used."""

    statistic: str
    trait: str | None
    fitness: str | None
    population: str
    estimate: Estimate


def read_members(connection: duckdb.DuckDBPyConnection) -> tuple[Member, ...]:
    """Every observed model with its latest stated values, in order of name."""
    rows = connection.execute(
        # arg_max passes over NULL: a repository that has since gone keeps what it last said.
        "SELECT repo_id, epoch_us(greatest(seen, counted)), epoch_us(created), downloads, likes,"
        " parameters FROM (SELECT repo_id, max(observed_at) AS seen,"
        " arg_max(created_at, observed_at) AS created,"
        " arg_max(parameters, observed_at) AS parameters FROM snapshot GROUP BY repo_id)"
        " LEFT JOIN (SELECT repo_id, max(observed_at) AS counted,"
        " arg_max(downloads_30d, observed_at) AS downloads, arg_max(likes, observed_at) AS likes"
        " FROM observation GROUP BY repo_id) USING (repo_id) ORDER BY repo_id"
    ).fetchall()
    return tuple(
        Member(repo_id, _moment(observed), None if created is None else _moment(created), *counts)
        for repo_id, observed, created, *counts in rows
    )


def read_traits(connection: duckdb.DuckDBPyConnection) -> tuple[TraitValue, ...]:
    """The latest value of every trait of every model, in order of model and trait.

    One name measured by several metrics, on several data sets or by several sources (cards, each
    ingested table) is several traits, then named ``name (metric, dataset)`` or ``name (metric,
    dataset; source)``: values on different scales must not meet.
    """
    rows = connection.execute(
        "WITH latest AS (SELECT repo_id, name, metric, dataset, source,"
        " arg_max(value, observed_at) AS value FROM trait WHERE isfinite(value) GROUP BY ALL),"
        " scales AS (SELECT name, count(DISTINCT (metric, dataset)) AS n,"
        " count(DISTINCT source) AS n_sources FROM latest GROUP BY name)"
        " SELECT repo_id, CASE WHEN n = 1 AND n_sources = 1 THEN name ELSE name || ' (' || metric"
        " || ', ' || dataset || CASE WHEN n_sources = 1 THEN '' ELSE '; ' || source END || ')'"
        " END AS trait, value"
        " FROM latest JOIN scales USING (name) ORDER BY repo_id, trait"
    ).fetchall()
    return tuple(TraitValue(*row) for row in rows)


def replace_estimates(
    connection: duckdb.DuckDBPyConnection, run_id: int, rows: Sequence[EstimateRow]
) -> None:
    """Keep the estimates of this run only, in one transaction; NaN is stored as NULL."""
    connection.begin()
    try:
        connection.execute("DELETE FROM estimate")
        if rows:
            connection.executemany(
                "INSERT INTO estimate VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    [
                        run_id,
                        row.statistic,
                        row.trait,
                        row.fitness,
                        row.population,
                        _or_null(row.estimate.value),
                        _or_null(row.estimate.low),
                        _or_null(row.estimate.high),
                        row.estimate.level,
                        row.estimate.n,
                        row.estimate.n_clusters,
                        row.estimate.p_value,
                        row.estimate.method,
                    ]
                    for row in rows
                ],
            )
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def read_estimates(connection: duckdb.DuckDBPyConnection) -> tuple[EstimateRow, ...]:
    """The estimates of the latest run, in order of statistic, population, trait and fitness."""
    rows = connection.execute(
        "SELECT statistic, trait, fitness, population, value, low, high, level, n, n_clusters,"
        " p_value, method FROM estimate ORDER BY statistic, population, trait, fitness"
    ).fetchall()
    return tuple(
        EstimateRow(
            statistic,
            trait,
            fitness,
            population,
            Estimate(
                _or_nan(value), _or_nan(low), _or_nan(high), level, n, method, clusters, p_value
            ),
        )
        for (
            statistic, trait, fitness, population, value, low, high, level, n, clusters,
            p_value, method,
        ) in rows
    )  # fmt: skip


def _moment(microseconds: int) -> datetime:
    # As a number: DuckDB hands out zoned times only where pytz is installed.
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
