"""Enters what a listing shows, many repositories at once: states, counts, claims, traits.

A state is entered when it differs from the one before; counts are entered every time. Text from
strangers reaches SQL as registered values only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING

import duckdb

from crawler.listed import ListedRepo
from crawler.records import EvalResult
from crawler.traits import Facts
from lineage.store.claims import enter_claims
from lineage.store.transaction import transaction

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NO_COMMIT", "ListedCount", "enter_listed", "enter_traits", "write_listed"]

NO_COMMIT = "0" * 40
"""Stands where no commit is known; NULL in the database."""

_STATE_COLUMNS = (
    "repo_id", "revision", "observed_at", "gated", "author", "created_at", "last_modified",
    "licence", "licence_name", "library", "pipeline_tag", "architecture", "model_type",
    "parameters", "dtype", "context_length", "quantisation",
)  # fmt: skip

_LIST_COLUMNS = ("tags", "languages", "datasets")
_BETWEEN = "\x1f"
"""ASCII's unit separator, which no word needs."""
_SAME_TRAIT = """
    trait.repo_id = new.repo_id AND trait.revision = new.revision AND trait.name = new.name
    AND trait.value = new.value AND trait.metric = new.metric AND trait.dataset = new.dataset
    AND trait.higher_is_better IS NOT DISTINCT FROM new.better
"""


@dataclass(frozen=True, slots=True)
class ListedCount:
    """How many of some listed repositories were new, had changed, or had not."""

    new: int
    changed: int
    same: int

    def __add__(self, other: ListedCount) -> ListedCount:
        return ListedCount(
            self.new + other.new, self.changed + other.changed, self.same + other.same
        )


def write_listed(
    connection: duckdb.DuckDBPyConnection, rows: Sequence[tuple[ListedRepo, datetime]]
) -> ListedCount:
    """Enter listed repositories, each with the time of its page, in one transaction."""
    with transaction(connection):
        return enter_listed(connection, rows)


def enter_listed(
    connection: duckdb.DuckDBPyConnection,
    rows: Sequence[tuple[ListedRepo, datetime]],
    *,
    with_claims: bool = True,
) -> ListedCount:
    """As :func:`write_listed`, within the caller's transaction.

    A repository that is listed twice counts as it was listed last. `with_claims` is False where
    the caller enters all its claims and traits, those of its files too.
    """
    latest = {row.repo_id: (row, at) for row, at in rows}
    if not latest:
        return ListedCount(0, 0, 0)
    connection.register("incoming", _arrow(list(latest.values())))
    try:
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE verdict AS SELECT incoming.repo_id,"
            " repository.repo_id IS NULL AS is_new,"
            " repository.state IS DISTINCT FROM incoming.state OR"
            " repository.status IN ('gone', 'disabled') AND repository.status <> incoming.status"
            " AS is_changed,"
            # That this token may not read a gated repository is learnt from its files, not here.
            " CASE WHEN repository.status = 'gated' AND incoming.status = 'ok'"
            " AND incoming.gated IS NOT NULL THEN 'gated' ELSE incoming.status END AS status,"
            " coalesce(repository.state IS NULL OR repository.listed_at < incoming.observed_at,"
            " TRUE) AS is_later"
            " FROM incoming LEFT JOIN repository USING (repo_id)"
        )
        entered = connection.execute(
            "SELECT repo_id, is_new FROM verdict WHERE is_new OR is_changed"
        ).fetchall()
        changed = {repo_id for repo_id, _ in entered}
        if changed:
            _enter_states(connection)
            if with_claims:
                known = {repo_id for repo_id, is_new in entered if not is_new}
                _enter_words(connection, [latest[repo_id] for repo_id in changed], known)
        _enter_counts(connection)
        _enter_ledger(connection)
    finally:
        connection.unregister("incoming")
    n_new = sum(is_new for _, is_new in entered)
    return ListedCount(n_new, len(changed) - n_new, len(latest) - len(changed))


def _enter_states(connection: duckdb.DuckDBPyConnection) -> None:
    names = ", ".join(_STATE_COLUMNS)
    lists = ", ".join(_LIST_COLUMNS)
    split = ", ".join(
        f"CASE WHEN {name} = '' THEN [] ELSE string_split({name}, '{_BETWEEN}') END"
        for name in _LIST_COLUMNS
    )
    connection.execute(
        # Two looks in one moment are one observation: the later one is the more complete.
        "DELETE FROM snapshot USING incoming, verdict WHERE snapshot.repo_id = incoming.repo_id"
        " AND snapshot.observed_at = incoming.observed_at AND verdict.repo_id = incoming.repo_id"
        " AND is_changed AND NOT is_new"
    )
    connection.execute(
        f"INSERT INTO snapshot ({names}, {lists}, status) SELECT {names}, {split}, verdict.status"
        " FROM incoming JOIN verdict USING (repo_id) WHERE is_new OR is_changed"
    )


def _enter_words(
    connection: duckdb.DuckDBPyConnection,
    changed: Sequence[tuple[ListedRepo, datetime]],
    known: set[str],
) -> None:
    enter_claims(
        connection,
        {row.repo_id: (at, row.sources) for row, at in changed if row.repo_id in known},
        [claim for row, _ in changed for claim in row.claims],
    )
    enter_traits(
        connection,
        [
            (row.repo_id, row.revision, row.evaluations, at)
            for row, at in changed
            if row.revision is not None and row.evaluations
        ],
    )


def enter_traits(
    connection: duckdb.DuckDBPyConnection,
    stated: Iterable[tuple[str, str, Sequence[EvalResult], datetime]],
) -> None:
    """Enter evaluations: of each repository and commit the latest reading counts.

    What a commit states cannot change, but how it is read can; what is read as before is left as
    it was first seen.
    """
    import pyarrow as pa

    rows = [
        (repo_id, revision, result, at)
        for repo_id, revision, results, at in stated
        for result in results
    ]
    if not rows:
        return
    text = pa.string()
    connection.register(
        "new_traits",
        pa.table(
            {
                "repo_id": pa.array([row[0] for row in rows], text),
                "name": pa.array([row[2].name for row in rows], text),
                "value": pa.array([row[2].value for row in rows], pa.float64()),
                "metric": pa.array([row[2].metric for row in rows], text),
                "dataset": pa.array([row[2].dataset for row in rows], text),
                "better": pa.array([row[2].higher_is_better for row in rows], pa.bool_()),
                "revision": pa.array([row[1] for row in rows], text),
                "seen": pa.array([row[3] for row in rows], pa.timestamp("us", "UTC")),
            }
        ),
    )
    try:
        connection.execute(
            "DELETE FROM trait USING (SELECT DISTINCT repo_id, revision FROM new_traits) AS read"
            " WHERE trait.repo_id = read.repo_id AND trait.revision = read.revision"
            " AND trait.source = 'card'"
            f" AND NOT EXISTS (SELECT 1 FROM new_traits AS new WHERE {_SAME_TRAIT})"
        )
        connection.execute(
            "INSERT INTO trait SELECT repo_id, name, value, metric, dataset, better, 'card',"
            " revision, seen FROM new_traits AS new WHERE NOT EXISTS"
            f" (SELECT 1 FROM trait WHERE trait.source = 'card' AND {_SAME_TRAIT})"
        )
    finally:
        connection.unregister("new_traits")


def _enter_counts(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "INSERT INTO observation SELECT repo_id, observed_at, downloads_30d, downloads_all_time,"
        " likes, trending, 'hub' FROM incoming JOIN verdict USING (repo_id) WHERE is_later AND"
        " (downloads_30d IS NOT NULL OR downloads_all_time IS NOT NULL OR likes IS NOT NULL"
        " OR trending IS NOT NULL)"
    )


def _enter_ledger(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "UPDATE repository SET listed_at = incoming.observed_at, created_at = incoming.created_at,"
        " last_modified = incoming.last_modified, revision = incoming.revision,"
        " status = verdict.status, state = incoming.state,"
        # Who may read it may have changed without a commit: its files are asked for again.
        " read_revision = CASE WHEN repository.status IN ('gated', 'disabled')"
        " AND repository.status <> verdict.status"
        " OR incoming.gated IS NOT NULL AND verdict.status = 'ok' THEN NULL"
        " ELSE repository.read_revision END"
        " FROM incoming JOIN verdict USING (repo_id)"
        " WHERE repository.repo_id = incoming.repo_id AND is_changed AND NOT is_new"
    )
    connection.execute(
        "UPDATE repository SET listed_at = incoming.observed_at"
        " FROM incoming JOIN verdict USING (repo_id)"
        " WHERE repository.repo_id = incoming.repo_id AND NOT is_changed AND NOT is_new"
    )
    connection.execute(
        "INSERT INTO repository (repo_id, first_seen, listed_at, created_at, last_modified,"
        " revision, status, state) SELECT repo_id, observed_at, observed_at, created_at,"
        " last_modified, revision, incoming.status, state"
        " FROM incoming JOIN verdict USING (repo_id) WHERE is_new"
    )


def _joined(words: tuple[str, ...]) -> str:
    """A list as one text, which crosses to the database several times faster."""
    joined = _BETWEEN.join(words)
    if joined.count(_BETWEEN) >= max(1, len(words)):  # a word has the separator itself
        joined = _BETWEEN.join(word.replace(_BETWEEN, "\ufffd") for word in words)
    return joined


def _arrow(rows: Sequence[tuple[ListedRepo, datetime]]) -> pa.Table:
    """The rows as columns, named as the tables name them."""
    import pyarrow as pa

    text, whole = pa.string(), pa.int64()
    stamp = pa.timestamp("us", "UTC")
    types: dict[str, pa.DataType] = {
        "repo_id": text, "revision": text, "gated": text, "author": text, "created_at": stamp,
        "last_modified": stamp, "downloads_30d": whole, "downloads_all_time": whole,
        "likes": whole, "trending": pa.float64(), "library": text, "pipeline_tag": text,
        "status": text, "state": pa.uint64(),
    }  # fmt: skip
    fact_types: dict[str, pa.DataType] = {
        "licence": text, "licence_name": text, "architecture": text, "model_type": text,
        "parameters": whole, "dtype": text, "context_length": whole, "quantisation": text,
    }  # fmt: skip
    listed = [row for row, _ in rows]
    facts: list[Facts] = [row.facts for row in listed]
    columns: dict[str, pa.Array] = {}
    for values, kinds in ((listed, types), (facts, fact_types)):
        of_each = zip(*map(attrgetter(*kinds), values), strict=True)
        for (name, kind), column in zip(kinds.items(), of_each, strict=True):
            columns[name] = pa.array(column, kind)
    columns["tags"] = pa.array([_joined(row.tags) for row in listed], text)
    columns["languages"] = pa.array([_joined(fact.languages) for fact in facts], text)
    columns["datasets"] = pa.array([_joined(fact.datasets) for fact in facts], text)
    columns["observed_at"] = pa.array([at for _, at in rows], stamp)
    return pa.table(columns)
