"""What the measure stage reads and writes: members, traits, estimates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from lineage.model import Estimate
from lineage.store.reads import LATEST

__all__ = [
    "EstimateRow",
    "Evaluation",
    "Member",
    "Stated",
    "TraitValue",
    "read_estimates",
    "read_evaluations",
    "read_members",
    "read_stated",
    "read_traits",
    "replace_estimates",
]


_NAMED_TRAITS = """
    WITH latest AS (
        SELECT repo_id, name, metric, dataset, source, arg_max(value, observed_at) AS value,
               arg_max(higher_is_better, observed_at) AS higher_is_better
        FROM trait WHERE abs(value) < 1e30 GROUP BY ALL),  -- larger ones are no measurements
    scales AS (
        SELECT name, count(DISTINCT (metric, dataset)) AS n, count(DISTINCT source) AS n_sources
        FROM latest GROUP BY name),
    named AS (
        SELECT repo_id, CASE WHEN n = 1 AND n_sources = 1 THEN name ELSE name || ' (' || metric
               || ', ' || dataset || CASE WHEN n_sources = 1 THEN '' ELSE '; ' || source END || ')'
               END AS trait, value, metric, higher_is_better, source
        FROM latest JOIN scales USING (name))
"""


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
class Evaluation:
    """How a trait of :func:`read_traits` was measured; sources of several are listed."""

    trait: str
    metric: str
    higher_is_better: bool | None
    source: str


@dataclass(frozen=True, slots=True)
class Stated:
    """What records and files of a model last stated; None and () where they never did."""

    repo_id: str
    licence: str | None
    languages: tuple[str, ...]
    task: str | None
    library: str | None
    datasets: tuple[str, ...]
    architecture: str | None
    dtype: str | None
    context_length: int | None
    tokenizer: str | None
    gated: str | None
    card_characters: int | None
    card_completeness: float | None

    @staticmethod
    def unknown(repo_id: str = "") -> Stated:
        """A model of which nothing is stated."""
        return Stated(repo_id, None, (), None, None, (), *(None,) * 7)


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
        f"{_NAMED_TRAITS} SELECT repo_id, trait, value FROM named ORDER BY repo_id, trait"
    ).fetchall()
    return tuple(TraitValue(*row) for row in rows)


def read_evaluations(connection: duckdb.DuckDBPyConnection) -> tuple[Evaluation, ...]:
    """How each trait of :func:`read_traits` was measured, in order of trait.

    Whether higher is better is None where nobody said, and where sources disagree.
    """
    rows = connection.execute(
        f"{_NAMED_TRAITS} SELECT trait, min(metric), CASE WHEN bool_and(higher_is_better) ="
        " bool_or(higher_is_better) THEN bool_and(higher_is_better) END,"
        " string_agg(DISTINCT source, ', ' ORDER BY source) FROM named GROUP BY trait"
        " ORDER BY trait"
    ).fetchall()
    return tuple(Evaluation(*row) for row in rows)


def read_stated(connection: duckdb.DuckDBPyConnection) -> tuple[Stated, ...]:
    """What every model last stated, in order of name."""
    columns = (
        "licence, languages, pipeline_tag, library, datasets, architecture, dtype,"
        " context_length, tokenizer, gated, card_characters, card_completeness"
    )
    rows = connection.execute(
        f"SELECT repo_id, {columns} FROM ({LATEST}) ORDER BY repo_id"
    ).fetchall()
    return tuple(
        Stated(repo_id, licence, tuple(languages or ()), task, library, tuple(sets or ()), *rest)
        for repo_id, licence, languages, task, library, sets, *rest in rows
    )


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
