"""Tables of scores, wide (a column for each) and long (a row for each), as traits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from crawler.bulk import Field, Kind, ScoreName, may_be_score, score_name, understand
from lineage.errors import UsageError
from lineage.pipeline.ingest_plan import (
    IngestOptions,
    Plan,
    checked_cells,
    listed_columns,
    model_cells,
    moment_cells,
    names_of,
)
from lineage.store.ingest import NO_COMMIT, ScoreCount, enter_scores, stage_rows

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["StagedScores", "ingest_scores"]

_MAX_SCORES = 1_000
_SAMPLE_SCORES = 4
_BETWEEN = "\x1f"


@dataclass(frozen=True, slots=True)
class StagedScores:
    """What was staged and entered: rows, and how their columns are called and shown."""

    n_rows: int
    count: ScoreCount
    staged: tuple[str, ...]
    shown: tuple[str, ...]
    titles: Mapping[str, str]
    meanings: Mapping[str, str]


def ingest_scores(connection: duckdb.DuckDBPyConnection, plan: Plan) -> StagedScores:
    """Stage the rows of a table of scores and enter them as traits.

    Callers hold the transaction, unless it is a dry run.

    Raises
    ------
    UsageError
        If a column that a person named is not there, or a long table names too many scores.
    """
    table = plan.table
    cells = model_cells(plan) | moment_cells(plan) | _commit_cells(plan)
    meanings: dict[str, str] = {}
    if Field.VALUE in plan.found.fields:
        rows, names = _long_scores(plan, cells)
        columns: tuple[str, ...] = ()
        shown: tuple[str, ...] = ("dataset", "metric", "value")
    else:
        names = []
        for i, column in enumerate(_score_columns(plan)):
            names.append(_scored(column, None, column, plan.options))
            meanings[column] = f"trait {names[i].name}"
            cells |= checked_cells(f"s{i}", table.text(column), table.number(column))
        rows = table.select(cells)
        columns = tuple(f"s{i}" for i in range(len(names)))
        shown = columns[:_SAMPLE_SCORES]
    stage_rows(connection, rows, names=names_of(plan), needs_owner=True)
    count = enter_scores(connection, plan.source, names, columns, is_dry=plan.options.is_dry_run)
    titles = dict(zip(columns, (score.name for score in names), strict=False))
    return StagedScores(
        len(rows), count, tuple(rows.column_names), ("repo_id", "observed_at", *shown), titles,
        meanings,
    )  # fmt: skip


def _commit_cells(plan: Plan) -> dict[str, str]:
    """The commit, forty zeros where none is stated, and whether the row has a time of its own."""
    table, fields = plan.table, plan.found.fields
    revision = table.text(fields[Field.REVISION]) if Field.REVISION in fields else "NULL"
    commit = f"lower(trim({revision}))"
    time = plan.time.column
    return {
        "revision": f"CASE WHEN regexp_full_match({commit}, '[0-9a-f]{{40}}') THEN {commit}"
        f" ELSE '{NO_COMMIT}' END",
        "dated": f"{table.moment(time)} IS NOT NULL" if time else "false",
    }


def _long_scores(plan: Plan, cells: Mapping[str, str]) -> tuple[pa.Table, list[ScoreName]]:
    """The rows of a long table, each with the place of its score among the names."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table, fields = plan.table, plan.found.fields
    metric = table.text(fields[Field.METRIC]) if Field.METRIC in fields else "NULL::VARCHAR"
    rows = table.select(
        {
            **cells,
            **checked_cells(
                "value", table.text(fields[Field.VALUE]), table.number(fields[Field.VALUE])
            ),
            "dataset": f"left(trim({table.text(fields[Field.DATASET])}), 500)",
            "metric": f"left(trim({metric}), 500)",
        }
    )
    pairs = rows.group_by(["dataset", "metric"]).aggregate([]).to_pylist()
    stated = sorted(
        (one["dataset"], one["metric"] or "") for one in pairs if one["dataset"] is not None
    )
    if len(stated) > _MAX_SCORES:
        raise UsageError(f"{table.name} names {len(stated)} scores; at most {_MAX_SCORES} are read")
    words = pc.binary_join_element_wise(
        rows["dataset"], pc.fill_null(rows["metric"].cast("string"), ""), _BETWEEN
    )
    known = pa.array([_BETWEEN.join(pair) for pair in stated], pa.string())
    rows = rows.append_column("score", pc.index_in(words, value_set=known))
    names = [_scored(dataset, said or None, dataset, plan.options) for dataset, said in stated]
    return rows, names


def _scored(words: str, metric: str | None, column: str, options: IngestOptions) -> ScoreName:
    name = score_name(words, metric)
    if column in options.lower_is_better or column in options.higher_is_better:
        better = column in options.higher_is_better
        return ScoreName(name.name, name.metric, name.dataset, better)
    return name


def _score_columns(plan: Plan) -> list[str]:
    """Columns of a wide table that are scores: named by a person, or mostly numbers."""
    table, options = plan.table, plan.options
    known = {column.name for column in table.columns}
    for column in (*options.scores, *options.lower_is_better, *options.higher_is_better):
        if column not in known:
            raise UsageError(
                f"{table.name}: there is no column {column[:100]!r}; {listed_columns(table)}"
            )
    if options.scores:
        return list(dict.fromkeys(options.scores))
    # The table of downloads and models has words for what is no score.
    others = {
        column
        for kind in Kind
        for meaning, column in understand(kind, table.columns).fields.items()
        if meaning is not Field.VALUE
    } | set(plan.found.fields.values())
    candidates = [
        column.name for column in table.columns
        if column.name not in others and may_be_score(column)
    ]  # fmt: skip
    if not candidates:
        return []
    counted = table.summary(
        [f"count({sql(column)})" for column in candidates for sql in (table.text, table.number)]
    )
    return [
        column
        for column, stated, numbers in zip(candidates, counted[::2], counted[1::2], strict=True)
        if numbers * 2 > stated
    ]
