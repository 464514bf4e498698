"""Models of a Hub-wide snapshot: each row that counts becomes a record of the Hub's listing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from crawler.bulk import Field, Understanding
from crawler.bulk_rows import hub_record
from crawler.errors import MalformedError
from crawler.listed import ListedRepo, parse_record
from lineage.errors import HerdbookError
from lineage.store.ingest import Refusal, enter_counts
from lineage.store.ingest_models import (
    enter_models,
    enter_removed,
    plan_models,
    wanted_models,
)
from lineage.store.tabular import TableFile

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ingest_models"]

# Counts are entered from the staged rows; these two name the row.
_APART = frozenset(
    {
        Field.REPO_ID, Field.OBSERVED_AT, Field.REMOVED, Field.REMOVED_AT, Field.LIKES,
        Field.DOWNLOADS_30D, Field.DOWNLOADS_ALL_TIME, Field.TRENDING,
    }
)  # fmt: skip
_MOMENTS = frozenset({Field.CREATED_AT, Field.LAST_MODIFIED})


def ingest_models(
    connection: duckdb.DuckDBPyConnection,
    table: TableFile,
    found: Understanding,
    source: str,
    *,
    is_dry: bool,
) -> tuple[tuple[tuple[str, int], ...], tuple[Refusal, ...]]:
    """Enter the staged rows of `table` that know more than the register.

    The table is read a second time, for the rows that count alone, piece by piece. Callers hold
    the transaction, unless it is a dry run.

    Returns
    -------
    tuple
        Counts by what they count, and cells that could not be read.

    Raises
    ------
    HerdbookError
        If the file changes while it is read.
    """
    planned = plan_models(connection)
    new, known = enter_counts(connection, source, is_dry=is_dry, keep_rows=True)
    wanted = wanted_models(connection)
    unread: Counter[str] = Counter()
    n_claims = 0
    for rows in _records(table, found, wanted, unread):
        n_claims += sum(len(row.claims) for row, _, _ in rows)
        if not is_dry:
            enter_models(connection, rows)
    if not is_dry:
        enter_removed(connection)
    counts = (
        ("new models", planned.new),
        ("changed models", planned.changed),
        ("tombstones", planned.gone),
        ("models with nothing new", planned.known),
        ("claims stated by new and changed models", n_claims),
        ("observations", new),
        ("observations known already", known),
    )
    return counts, tuple(Refusal(name, n, ()) for name, n in unread.most_common())


def _records(
    table: TableFile, found: Understanding, wanted: pa.Table, unread: Counter[str]
) -> Iterator[list[tuple[ListedRepo, datetime, bool]]]:
    """The wanted rows of each piece of `table`, parsed as the Hub's own records are."""
    if not len(wanted):
        return
    fields = {meaning: column for meaning, column in found.fields.items() if meaning not in _APART}
    cells = {
        meaning.value: table.moment(column) if meaning in _MOMENTS else table.text(column)
        for meaning, column in fields.items()
    }
    if Field.PARAMETERS in fields:
        cells[Field.PARAMETERS.value] = table.count(fields[Field.PARAMETERS])
    cells["given"] = table.text(found.fields[Field.REPO_ID])
    numbers = wanted["n"].to_numpy()
    for batch in table.batches(cells):
        first, last = batch["n"][0].as_py(), batch["n"][-1].as_py()
        start, stop = np.searchsorted(numbers, [first, last + 1])
        if start == stop:
            continue
        chosen = _rows_at(batch, numbers[start:stop] - first)
        rows = []
        planned = wanted.slice(start, stop - start).to_pylist()
        for cell, plan in zip(chosen, planned, strict=True):
            if not str(cell.pop("given")).startswith(plan["given"]):
                raise HerdbookError(f"{table.name} changed while it was read")
            del cell["n"]
            row = _parsed(cell, plan["repo_id"], plan["seen_at"], unread)
            if row is not None:
                rows.append((row, plan["seen_at"], plan["is_removed"]))
        yield rows


def _rows_at(batch: pa.RecordBatch, positions: np.ndarray) -> list[dict[str, object]]:
    import pyarrow as pa

    found: list[dict[str, object]] = batch.take(pa.array(positions)).to_pylist()
    return found


def _parsed(
    cells: dict[str, object], repo_id: str, at: datetime, unread: Counter[str]
) -> ListedRepo | None:
    cells[Field.REPO_ID.value] = repo_id
    record, unreadable = hub_record(cells)
    unread.update(unreadable)
    try:
        return parse_record(record, at)
    except MalformedError as error:
        unread[str(error)[:100]] += 1
        return None
