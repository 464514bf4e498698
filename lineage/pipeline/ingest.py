"""Ingestion of other people's tables: counts, scores and Hub-wide snapshots, all or nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from crawler.bulk import Field, Kind, understand
from lineage.errors import UsageError
from lineage.pipeline.ingest_models import ingest_models
from lineage.pipeline.ingest_plan import (
    COUNTS,
    IngestOptions,
    Plan,
    checked_cells,
    count_cells,
    listed_columns,
    model_cells,
    moment_cells,
    names_of,
    require_models,
    time_of,
)
from lineage.pipeline.ingest_scores import ingest_scores
from lineage.store import ingest as store
from lineage.store.home import Home
from lineage.store.ingest import Refusal
from lineage.store.reads import open_for_reading
from lineage.store.runs import Scalar, record_run
from lineage.store.tabular import open_table
from lineage.store.transaction import transaction

__all__ = ["ColumnUse", "IngestOptions", "IngestReport", "ingest"]

_SAMPLE_ROWS = 5
_DEFAULTS = IngestOptions()


@dataclass(frozen=True, slots=True)
class ColumnUse:
    """A column, and what it was understood as: a field, a trait, or None (ignored)."""

    column: str
    type: str
    meaning: str | None


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What was understood of a table and what was written, or would be.

    `counts` are rows by what becomes of them; `refused` are rows, `unread` cells that are left out
    of rows that are taken otherwise.
    """

    kind: str
    file: str
    is_dry_run: bool
    n_rows: int
    n_accepted: int
    n_models: int
    time: str
    columns: tuple[ColumnUse, ...]
    counts: tuple[tuple[str, int], ...]
    refused: tuple[Refusal, ...]
    unread: tuple[Refusal, ...]
    sample_columns: tuple[str, ...]
    sample: tuple[tuple[str, ...], ...]


def ingest(
    home: Home,
    kind: Kind,
    address: str,
    options: IngestOptions = _DEFAULTS,
    *,
    now: datetime | None = None,
) -> IngestReport:
    """Read a table and enter what it says, in one transaction.

    Parameters
    ----------
    address
        A local file or pattern, or ``hf://…`` (:func:`lineage.store.tabular.open_table`).
    now
        Moment of ingestion; None: the clock's.

    Raises
    ------
    NotFoundError
        If there is no such file.
    UsageError
        If no column names models, rows have no time, or a mapping does not fit.
    HerdbookError
        If the file cannot be read to its end; nothing is written then.
    """
    now = now or datetime.now(UTC)
    with open_table(address, options.endpoint) as table:
        try:
            found = understand(kind, table.columns, options.mapped)
        except ValueError as error:
            raise UsageError(f"{table.name}: {error}; {listed_columns(table)}") from error
        require_models(table, found, options)
        plan = Plan(kind, address, table, found, options, time_of(found, address, options, now))
        with _book(home, options.is_dry_run) as connection:
            if options.is_dry_run:
                return _entered(connection, plan)
            parameters: dict[str, Scalar] = {
                "kind": str(kind),
                "file": table.name,
                "names": bool(options.names),
            }
            inputs: dict[str, Scalar] = {"sha256": table.sha256}
            with record_run(connection, "ingest", parameters, inputs), transaction(connection):
                return _entered(connection, plan)


@contextmanager
def _book(home: Home, is_dry: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    """The working database; for a dry run it is only read, or an empty one that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="herdbook-") as folder:
        if not is_dry:
            connection = home.open_working()
        elif home.database.is_file():
            connection = open_for_reading(home)
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"SET temp_directory = '{folder.replace(chr(39), chr(39) * 2)}'")
        else:
            connection = Home(Path(folder) / "home").open_working()
        try:
            # Staged rows of the whole Hub go to disk rather than push others out of memory.
            connection.execute("SET memory_limit = '1GB'")
            yield connection
        finally:
            connection.close()


def _entered(connection: duckdb.DuckDBPyConnection, plan: Plan) -> IngestReport:
    if plan.kind is Kind.DOWNLOADS:
        return _enter_downloads(connection, plan)
    if plan.kind is Kind.SCORES:
        return _enter_scores(connection, plan)
    return _enter_models(connection, plan)


def _enter_downloads(connection: duckdb.DuckDBPyConnection, plan: Plan) -> IngestReport:
    cells = model_cells(plan) | moment_cells(plan) | count_cells(plan)
    n_rows = _staged(connection, plan, cells, needs_owner=True)
    new, known = store.enter_counts(connection, plan.source, is_dry=plan.options.is_dry_run)
    counts = (("observations", new), ("known already", known))
    shown = (
        "repo_id",
        "observed_at",
        *(f for f in (*COUNTS, Field.TRENDING) if f in plan.found.fields),
    )
    return _report(connection, plan, n_rows, {}, counts, shown, list(cells))


def _staged(
    connection: duckdb.DuckDBPyConnection,
    plan: Plan,
    cells: dict[str, str],
    *,
    needs_owner: bool,
) -> int:
    """Stage `cells` of every row; returns how many there are."""
    rows = plan.table.select(cells)
    store.stage_rows(connection, rows, names=names_of(plan), needs_owner=needs_owner)
    return len(rows)


def _enter_scores(connection: duckdb.DuckDBPyConnection, plan: Plan) -> IngestReport:
    found = ingest_scores(connection, plan)
    counts = (
        ("traits", found.count.new),
        ("newer than known", found.count.newer),
        ("known already", found.count.known),
        ("superseded in this file", found.count.superseded),
    )
    return _report(
        connection, plan, found.n_rows, found.meanings, counts, found.shown, found.staged,
        found.titles,
    )  # fmt: skip


def _enter_models(connection: duckdb.DuckDBPyConnection, plan: Plan) -> IngestReport:
    cells = model_cells(plan) | moment_cells(plan) | count_cells(plan)
    table, fields = plan.table, plan.found.fields
    for meaning in (Field.LAST_MODIFIED, Field.REMOVED_AT):
        column = fields.get(meaning)
        if column is None:
            cells[meaning.value] = "NULL::TIMESTAMPTZ"
        else:
            cells |= checked_cells(meaning.value, table.text(column), table.moment(column))
    removed, removed_at = fields.get(Field.REMOVED), fields.get(Field.REMOVED_AT)
    if removed is not None:
        said = f"lower(trim({table.text(removed)})) IN ('true', '1', '1.0', 'yes', 't')"
        cells["is_removed"] = f"coalesce({said}, false)"
    else:
        cells["is_removed"] = (
            f"{table.moment(removed_at)} IS NOT NULL" if removed_at is not None else "false"
        )
    n_rows = _staged(connection, plan, cells, needs_owner=False)
    counts, unread = ingest_models(
        connection, table, plan.found, plan.source, is_dry=plan.options.is_dry_run
    )
    shown = ("repo_id", "last_modified", "is_removed", *(f for f in COUNTS if f in fields))
    return _report(connection, plan, n_rows, {}, counts, shown, list(cells), unread=unread)


def _report(
    connection: duckdb.DuckDBPyConnection,
    plan: Plan,
    n_rows: int,
    meanings: Mapping[str, str],
    counts: tuple[tuple[str, int], ...],
    shown: Sequence[str],
    staged: Sequence[str],
    titles: Mapping[str, str] | None = None,
    unread: tuple[Refusal, ...] = (),
) -> IngestReport:
    titles = titles or {}
    uses = []
    for column in plan.table.columns:
        meaning = plan.found.field_of(column.name)
        said = meanings.get(column.name) or (str(meaning) if meaning else None)
        uses.append(ColumnUse(column.name, column.type, said))
    bad = store.unread_cells(connection, [name for name in staged if name.startswith("bad_")])
    n_accepted, n_models = store.accepted(connection)
    rows = store.first_rows(connection, shown, _SAMPLE_ROWS)
    return IngestReport(
        kind=str(plan.kind),
        file=plan.table.name,
        is_dry_run=plan.options.is_dry_run,
        n_rows=n_rows,
        n_accepted=n_accepted,
        n_models=n_models,
        time=plan.time.words,
        columns=tuple(uses),
        counts=counts,
        refused=store.refusals(connection),
        unread=tuple(
            Refusal(titles.get(one.reason, one.reason), one.n, one.examples) for one in bad
        ) + unread,
        sample_columns=tuple(titles.get(name, str(name)) for name in shown),
        sample=tuple(tuple(_word(value) for value in row) for row in rows),
    )  # fmt: skip


def _word(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return f"{value:g}" if isinstance(value, float) else str(value)
