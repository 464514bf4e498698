"""Enters the rows of other people's tables: counts and scores, each with its time and its file.

Rows are staged in a temporary table, where every one gets the repository that it names or the
reason why it is refused; what the register has already is told by reading only, so a dry run and a
real one count the same. Text from strangers reaches SQL as registered values only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from crawler.bulk import ScoreName
from crawler.bulk_rows import model_named
from lineage.store.tabular import identifier

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "NO_COMMIT",
    "Refusal",
    "ScoreCount",
    "accepted",
    "enter_counts",
    "enter_scores",
    "first_rows",
    "is_repo_id_sql",
    "refusals",
    "stage_rows",
    "unread_cells",
]

NO_COMMIT = "0" * 40
"""The revision of a score whose table names no commit."""

_EXAMPLES = 3
_SHOWN_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why rows or cells were not taken, how many, and the first of them."""

    reason: str
    n: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScoreCount:
    """Scores of a table: not known before, newer than the known, known already, and superseded.

    Superseded are those of a model and commit of which the same table has a later one.
    """

    new: int
    newer: int
    known: int
    superseded: int


def is_repo_id_sql(text: str) -> str:
    """:func:`crawler.records.is_repo_id` as SQL over the expression `text`."""
    return (
        rf"(regexp_full_match({text}, '[A-Za-z0-9][\w.\-]{{0,95}}"
        r"(/[A-Za-z0-9_][\w.\-]{0,95})?')"
        f" AND NOT contains({text}, '--') AND NOT contains({text}, '..')"
        rf" AND NOT regexp_matches({text}, '(\.git|\.|-)$'))"
    )


def stage_rows(
    connection: duckdb.DuckDBPyConnection,
    rows: pa.Table,
    *,
    names: pa.Table | None = None,
    needs_owner: bool,
) -> None:
    """Make the temporary table ``ingest_row`` of `rows`, with ``repo_id`` and ``refusal``.

    Parameters
    ----------
    rows
        ``n`` (row number), ``given`` (the cell that names a model) or ``key``, and what else there
        is to keep.
    names
        ``key`` and ``given``, where another table says which model a key means.
    needs_owner
        Whether a name without owner is none; False for tables of the Hub itself.
    """
    connection.register("incoming", rows)
    try:
        if names is None:
            connection.execute("CREATE OR REPLACE TEMP TABLE ingest_raw AS SELECT * FROM incoming")
        else:
            _join_names(connection, names)
    finally:
        connection.unregister("incoming")
    plain = is_repo_id_sql("trim(raw.given)")
    if needs_owner:
        plain += " AND contains(raw.given, '/')"
    _read_names(connection, plain)
    keyless = "" if names is None else " WHEN raw.given IS NULL THEN unkeyed"
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE ingest_row AS SELECT raw.*,"
        f" CASE WHEN {plain} THEN trim(raw.given) ELSE ingest_name.repo_id END AS repo_id,"
        f" CASE WHEN {plain} OR ingest_name.repo_id IS NOT NULL THEN NULL{keyless}"
        " WHEN raw.given IS NULL THEN 'no id' ELSE ingest_name.reason END AS refusal"
        " FROM ingest_raw AS raw LEFT JOIN ingest_name ON ingest_name.given = raw.given"
    )
    connection.execute("DROP TABLE ingest_raw")
    connection.execute("DROP TABLE ingest_name")


def _join_names(connection: duckdb.DuckDBPyConnection, names: pa.Table) -> None:
    connection.register("named", names)
    try:
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE ingest_raw AS SELECT incoming.*, meant.given,"
            " CASE WHEN key IS NULL THEN 'no key' WHEN meant.n_meant > 1 THEN 'key of several'"
            " ELSE 'unknown key' END AS unkeyed"
            " FROM incoming LEFT JOIN (SELECT key AS meant_key, count(DISTINCT given) AS n_meant,"
            " CASE WHEN count(DISTINCT given) = 1 THEN any_value(given) END AS given"
            " FROM named WHERE key IS NOT NULL GROUP BY key) AS meant ON meant_key = key"
        )
    finally:
        connection.unregister("named")


def _read_names(connection: duckdb.DuckDBPyConnection, plain: str) -> None:
    """``ingest_name``: every cell that is no `plain` id, once, and the model that it names."""
    import pyarrow as pa

    cells = [
        cell
        for (cell,) in connection.execute(
            "SELECT DISTINCT given FROM ingest_raw AS raw"
            f" WHERE given IS NOT NULL AND NOT ({plain})"
        ).fetchall()
    ]
    read = [model_named(cell) for cell in cells]
    text = pa.string()
    connection.register(
        "read_names",
        pa.table(
            {
                "given": pa.array(cells, text),
                "repo_id": pa.array([repo_id for repo_id, _ in read], text),
                "reason": pa.array([reason for _, reason in read], text),
            }
        ),
    )
    try:
        connection.execute("CREATE OR REPLACE TEMP TABLE ingest_name AS SELECT * FROM read_names")
    finally:
        connection.unregister("read_names")


def enter_counts(
    connection: duckdb.DuckDBPyConnection, source: str, *, is_dry: bool, keep_rows: bool = False
) -> tuple[int, int]:
    """Enter the staged rows as observations; returns how many are new, and how many were known.

    An observation is known when one of the same repository, moment and source is; a repeated one
    within the table is refused. With `keep_rows` such rows, and rows without counts, stay accepted
    for another use.
    """
    if not keep_rows:
        connection.execute(
            "UPDATE ingest_row SET refusal = CASE WHEN bad_observed_at IS NOT NULL"
            " THEN 'not a time' ELSE 'no time' END WHERE refusal IS NULL AND observed_at IS NULL"
        )
        connection.execute(
            "UPDATE ingest_row SET refusal = 'no counts' WHERE refusal IS NULL"
            " AND downloads_30d IS NULL AND downloads_all_time IS NULL AND likes IS NULL"
            " AND trending IS NULL"
        )
        connection.execute(
            "UPDATE ingest_row SET refusal = CASE WHEN same THEN 'said before in this file'"
            " ELSE 'another count for the same moment' END FROM ("
            " SELECT n AS again, (downloads_30d, downloads_all_time, likes, trending)"
            " IS NOT DISTINCT FROM first_value((downloads_30d, downloads_all_time, likes,"
            " trending)) OVER moment AS same, row_number() OVER moment AS place FROM ingest_row"
            " WHERE refusal IS NULL WINDOW moment AS (PARTITION BY repo_id, observed_at ORDER BY n)"
            ") WHERE n = again AND place > 1"
        )
    counted = (
        "SELECT repo_id, observed_at, downloads_30d, downloads_all_time, likes, trending"
        " FROM ingest_row WHERE refusal IS NULL AND (downloads_30d IS NOT NULL OR"
        " downloads_all_time IS NOT NULL OR likes IS NOT NULL OR trending IS NOT NULL)"
    )
    unknown = (
        f"FROM ({counted}) AS new WHERE NOT EXISTS (SELECT 1 FROM observation AS old"
        " WHERE old.repo_id = new.repo_id AND old.observed_at = new.observed_at"
        " AND old.source = $source)"
    )
    n_all = _number(connection, f"SELECT count(*) FROM ({counted})")
    n_new = _number(connection, f"SELECT count(*) {unknown}", {"source": source})
    if not is_dry:
        connection.execute(
            f"INSERT INTO observation SELECT *, $source {unknown}", {"source": source}
        )
    return n_new, n_all - n_new


def enter_scores(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    names: Sequence[ScoreName],
    columns: Sequence[str],
    *,
    is_dry: bool,
) -> ScoreCount:
    """Enter the staged scores as traits.

    Parameters
    ----------
    names
        What the scores are called.
    columns
        The staged columns that hold them, in the order of `names`. Without any the staged table is
        long: its column ``score`` is a place in `names`, its column ``value`` the score.

    Notes
    -----
    Of several scores of one model, commit and name the latest stands, here and in the register;
    one without a date of its own is older than all that have one. A known score of the same value
    stays as it is.
    """
    absent = " AND ".join(f"{identifier(name)} IS NULL" for name in columns or ("value",))
    unnamed = "" if columns or not names else " OR score IS NULL"
    whether = f"({absent}{unnamed})" if names else "true"
    connection.execute(
        f"UPDATE ingest_row SET refusal = 'no score' WHERE refusal IS NULL AND {whether}"
    )
    kept = "n, repo_id, revision, observed_at, dated"
    taken = "FROM ingest_row WHERE refusal IS NULL"
    stated = " UNION ALL ".join(
        f"SELECT {kept}, {place} AS score, {identifier(name)} AS value {taken}"
        f" AND {identifier(name)} IS NOT NULL"
        for place, name in enumerate(columns)
    )
    if not stated:
        value = "score, value" if names else "0 AS score, 0.0 AS value"
        stated = f"SELECT {kept}, {value} {taken}"
    _name_scores(connection, names)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE ingest_trait AS SELECT repo_id, name, value, metric, dataset,"
        " better, revision, observed_at, row_number() OVER (PARTITION BY repo_id, name, revision"
        f" ORDER BY dated DESC, observed_at DESC, n) AS place FROM ({stated}) AS stated"
        " JOIN ingest_score ON ingest_score.score = stated.score"
    )
    return _enter_traits(connection, source, is_dry)


def _name_scores(connection: duckdb.DuckDBPyConnection, names: Sequence[ScoreName]) -> None:
    import pyarrow as pa

    text = pa.string()
    connection.register(
        "score_names",
        pa.table(
            {
                "score": pa.array(range(len(names)), pa.int64()),
                "name": pa.array([score.name for score in names], text),
                "metric": pa.array([score.metric for score in names], text),
                "dataset": pa.array([score.dataset for score in names], text),
                "better": pa.array([score.higher_is_better for score in names], pa.bool_()),
            }
        ),
    )
    try:
        connection.execute("CREATE OR REPLACE TEMP TABLE ingest_score AS SELECT * FROM score_names")
    finally:
        connection.unregister("score_names")


def _enter_traits(connection: duckdb.DuckDBPyConnection, source: str, is_dry: bool) -> ScoreCount:
    bound = {"source": source}
    same = (
        "old.repo_id = new.repo_id AND old.name = new.name AND old.revision = new.revision"
        " AND old.source = $source"
    )
    newer = f"{same} AND old.observed_at < new.observed_at AND (old.value <> new.value"
    newer += " OR old.higher_is_better IS DISTINCT FROM new.better)"
    placed = "(SELECT * FROM ingest_trait WHERE place = 1) AS new"
    n_new = _number(
        connection,
        f"SELECT count(*) FROM {placed} WHERE NOT EXISTS (SELECT 1 FROM trait AS old WHERE {same})",
        bound,
    )
    n_newer = _number(
        connection,
        f"SELECT count(*) FROM {placed} WHERE EXISTS (SELECT 1 FROM trait AS old WHERE {newer})",
        bound,
    )
    n_all, n_placed = connection.execute(
        "SELECT count(*), count(*) FILTER (place = 1) FROM ingest_trait"
    ).fetchall()[0]
    if not is_dry:
        connection.execute(f"DELETE FROM trait AS old USING {placed} WHERE {newer}", bound)
        connection.execute(
            "INSERT INTO trait SELECT repo_id, name, value, metric, dataset, better, $source,"
            f" revision, observed_at FROM {placed}"
            f" WHERE NOT EXISTS (SELECT 1 FROM trait AS old WHERE {same})",
            bound,
        )
    return ScoreCount(n_new, n_newer, n_placed - n_new - n_newer, n_all - n_placed)


def accepted(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """Staged rows that are taken, and the repositories that they name."""
    rows, repositories = connection.execute(
        "SELECT count(*), count(DISTINCT repo_id) FROM ingest_row WHERE refusal IS NULL"
    ).fetchall()[0]
    return int(rows), int(repositories)


def refusals(connection: duckdb.DuckDBPyConnection) -> tuple[Refusal, ...]:
    """Why staged rows are refused, the most frequent reason first."""
    rows = connection.execute(
        "SELECT refusal, any_value(n_rows), list(shown ORDER BY n) FROM (SELECT refusal, n,"
        f" left(coalesce(given, key, 'row ' || n), {_SHOWN_CHARACTERS}) AS shown,"
        " count(*) OVER (PARTITION BY refusal) AS n_rows FROM ingest_row"
        " WHERE refusal IS NOT NULL QUALIFY row_number() OVER (PARTITION BY refusal ORDER BY n)"
        f" <= {_EXAMPLES}) GROUP BY refusal ORDER BY 2 DESC, 1"
    ).fetchall()
    return tuple(Refusal(reason, n, tuple(examples)) for reason, n, examples in rows)


def unread_cells(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[str]
) -> tuple[Refusal, ...]:
    """Cells that say something else than their column should, by ``bad_…`` column."""
    found = []
    for column in columns:
        name = identifier(column)
        n, example = connection.execute(
            f"SELECT count({name}), arg_min({name}, n) FROM ingest_row"
        ).fetchall()[0]
        if n:
            found.append(Refusal(column.removeprefix("bad_"), n, (str(example),)))
    return tuple(found)


def first_rows(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[str], limit: int
) -> tuple[tuple[Any, ...], ...]:
    """The first staged rows that are taken."""
    listed = ", ".join(identifier(name) for name in columns)
    return tuple(
        connection.execute(
            f"SELECT {listed} FROM ingest_row WHERE refusal IS NULL ORDER BY n LIMIT {limit:d}"
        ).fetchall()
    )


def _number(
    connection: duckdb.DuckDBPyConnection, query: str, bound: dict[str, str] | None = None
) -> int:
    return int(connection.execute(query, bound).fetchall()[0][0])
