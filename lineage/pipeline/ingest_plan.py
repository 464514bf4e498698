"""What is asked of a table before it is read: the person's options, times, and cells as SQL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from crawler.bulk import Field, Kind, Understanding, understand
from crawler.bulk_rows import MAX_CELL_CHARACTERS
from lineage.errors import UsageError
from lineage.store.tabular import TableFile, open_table, source_name

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "COUNTS",
    "IngestOptions",
    "Plan",
    "checked_cells",
    "count_cells",
    "listed_columns",
    "model_cells",
    "moment_cells",
    "names_of",
    "require_models",
    "time_of",
]

COUNTS = (Field.DOWNLOADS_30D, Field.DOWNLOADS_ALL_TIME, Field.LIKES)
_SHOWN_COLUMNS = 40
_DATE = re.compile(r"(?<!\d)20\d\d-[01]\d-[0-3]\d(?!\d)")


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """What a person says of a table.

    `mapped` is field to column; `date` the moment of rows that have none; `names` the address of a
    table that says which model each key means; `scores` the only columns that are scores.
    """

    mapped: Mapping[str, str] = field(default_factory=dict)
    date: datetime | None = None
    names: str | None = None
    scores: tuple[str, ...] = ()
    lower_is_better: tuple[str, ...] = ()
    higher_is_better: tuple[str, ...] = ()
    endpoint: str | None = None
    is_dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Time:
    """Where the time of rows comes from: a column, and a moment for rows without."""

    column: str | None
    fallback: datetime | None
    words: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A table that is open, what was understood of it, and what a person said."""

    kind: Kind
    address: str
    table: TableFile
    found: Understanding
    options: IngestOptions
    time: Time

    @property
    def source(self) -> str:
        """What its rows are marked with."""
        return source_name(self.address)


def model_cells(plan: Plan) -> dict[str, str]:
    """The cell that names the model, or its key; cut just past what can be one."""
    fields, table = plan.found.fields, plan.table

    def cut(meaning: Field) -> str:
        return f"left({table.text(fields[meaning])}, {MAX_CELL_CHARACTERS + 1})"

    if plan.options.names is not None:
        return {"key": cut(Field.KEY)}
    return {"given": cut(Field.REPO_ID), "key": "NULL::VARCHAR"}


def moment_cells(plan: Plan) -> dict[str, str]:
    """When a row was seen, and what its cell says where that is no time."""
    column, fallback = plan.time.column, plan.time.fallback
    stated = f"TIMESTAMPTZ '{fallback.isoformat()}'" if fallback else "NULL::TIMESTAMPTZ"
    if column is None:
        return {"observed_at": stated, "bad_observed_at": "NULL::VARCHAR"}
    text, moment = plan.table.text(column), plan.table.moment(column)
    cells = checked_cells("observed_at", text, moment)
    # A score stands without a time, a count does not.
    whether = moment if plan.kind is Kind.SCORES else text
    cells["observed_at"] = f"CASE WHEN {whether} IS NULL THEN {stated} ELSE {moment} END"
    return cells


def count_cells(plan: Plan) -> dict[str, str]:
    """Downloads, likes and trending; NULL where a table has none."""
    cells: dict[str, str] = {}
    for meaning in (*COUNTS, Field.TRENDING):
        column = plan.found.fields.get(meaning)
        kind = "DOUBLE" if meaning is Field.TRENDING else "BIGINT"
        if column is None:
            cells[meaning.value] = f"NULL::{kind}"
            continue
        read = plan.table.number if meaning is Field.TRENDING else plan.table.count
        cells |= checked_cells(meaning.value, plan.table.text(column), read(column))
    return cells


def checked_cells(name: str, text: str, value: str) -> dict[str, str]:
    """The value, and the text where it says something that is no such value."""
    bad = f"CASE WHEN {text} IS NOT NULL AND ({value}) IS NULL THEN left({text}, 100) END"
    return {name: value, f"bad_{name}": bad}


def names_of(plan: Plan) -> pa.Table | None:
    """The table that says which model each key means."""
    address = plan.options.names
    if address is None:
        return None
    with open_table(address, plan.options.endpoint) as table:
        found = understand(Kind.DOWNLOADS, table.columns).fields
        if not {Field.REPO_ID, Field.KEY} <= found.keys():
            raise UsageError(
                f"{table.name} has no columns of keys and models; {listed_columns(table)}"
            )
        return table.select(
            {
                "key": f"left({table.text(found[Field.KEY])}, {MAX_CELL_CHARACTERS + 1})",
                "given": f"left({table.text(found[Field.REPO_ID])}, {MAX_CELL_CHARACTERS + 1})",
            }
        )


def require_models(table: TableFile, found: Understanding, options: IngestOptions) -> None:
    """Raise UsageError unless a column names models, or keys where they are looked up."""
    needed = Field.KEY if options.names is not None else Field.REPO_ID
    if needed in found.fields:
        return
    if Field.KEY in found.fields:
        raise UsageError(
            f"{table.name}: {found.fields[Field.KEY]!r} holds keys; say which models they mean"
            " with --names FILE"
        )
    said = "keys" if needed is Field.KEY else "models"
    raise UsageError(
        f"{table.name}: no column names {said}; {listed_columns(table)};"
        f" say which with --map {needed}=COLUMN"
    )


def time_of(found: Understanding, address: str, options: IngestOptions, now: datetime) -> Time:
    """Where the time of rows comes from: a column, the person, the file's name.

    Scores without any stand at the moment of ingestion.

    Raises
    ------
    UsageError
        If counts or models have no time.
    """
    column, date = found.fields.get(Field.OBSERVED_AT), options.date
    if column is not None:
        words = f"column {column}" + (f", else {date.isoformat()}" if date else "")
        fallback = date or (now if found.kind is Kind.SCORES else None)
        return Time(column, fallback, words)
    if date is not None:
        return Time(None, date, f"{date.isoformat()}, as stated")
    named = _DATE.findall(address if address.startswith("hf://") else Path(address).name)
    if named and "*" not in address:
        try:
            date = datetime.fromisoformat(named[-1]).replace(tzinfo=UTC)
        except ValueError:
            date = None
    if date is not None:
        return Time(None, date, f"{date.isoformat()}, from the file's name")
    if found.kind is Kind.SCORES:
        return Time(None, now, "not stated: the moment of ingestion")
    raise UsageError(
        f"{source_name(address).partition(':')[2]}: no column says when this was seen; state it"
        " with --date 2026-08-22 or --map observed_at=COLUMN"
    )


def listed_columns(table: TableFile) -> str:
    """The columns of a table in words, for messages."""
    names = [column.name[:60] for column in table.columns]
    more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    return f"its columns are {', '.join(names[:_SHOWN_COLUMNS])}{more}"
