"""The ledger of fingerprints: what was read of which model, how deep, and in which part it lies.

A model is done under a scheme and to a stage when its line names a stored fingerprint. Lines are
entered after the part is whole, a batch in one transaction, so a kill costs at most what is being
read; see :mod:`lineage.store.part_recovery` for parts whose lines were never entered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

import duckdb

__all__ = ["LedgerRow", "done", "fingerprint_rows", "record_fingerprint", "record_fingerprints"]


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One line: a model at a commit, under one scheme.

    `digest` is None when there is no fingerprint; then `reason` says why. `part` names the part it
    lies in. Columns are described in ``docs/data-model.md``.
    """

    repo_id: str
    revision: str
    scheme: str
    digest: str | None
    format: str | None
    bytes_read: int
    requests: int
    weight_bytes: int
    n_tensors: int
    seconds: float
    made_at: datetime
    stage: int = 3
    part: str | None = None
    bytes_stored: int = 0
    reason: str | None = None
    given_up: tuple[str, ...] = ()
    budget_bytes: int | None = None
    n_unknown: int = 0
    device: str | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Repository, revision and scheme."""
        return self.repo_id, self.revision, self.scheme


_NAMES = tuple(field.name for field in fields(LedgerRow))
_COLUMNS = ", ".join(_NAMES)


def record_fingerprint(connection: duckdb.DuckDBPyConnection, row: LedgerRow) -> None:
    """Enter one line; see :func:`record_fingerprints`."""
    record_fingerprints(connection, [row])


def record_fingerprints(connection: duckdb.DuckDBPyConnection, rows: Sequence[LedgerRow]) -> None:
    """Enter the lines of a batch: all or none, and the same however often.

    A line that names a fingerprint is not replaced by one of less: a failure, or a smaller stage.
    Of several lines of one model the last that is not less than another counts.

    Raises
    ------
    duckdb.Error
        If the database cannot be written; then nothing was entered.
    """
    best: dict[tuple[str, str, str], LedgerRow] = {}
    for row in rows:
        if row.key not in best or _worth(row) >= _worth(best[row.key]):
            best[row.key] = row
    if not best:
        return
    import pyarrow as pa

    kinds = {"made_at": pa.timestamp("us", "UTC"), "given_up": pa.list_(pa.string())}
    texts = {"repo_id", "revision", "scheme", "digest", "format", "part", "reason", "device"}
    table = pa.table(
        {
            name: pa.array(
                [_storable(getattr(row, name)) for row in best.values()],
                kinds.get(name, pa.string() if name in texts else None),
            )
            for name in _NAMES
        }
    )
    connection.register("new_fingerprints", table)
    try:
        # One statement is one transaction, within the caller's if there is one.
        connection.execute(
            f"INSERT OR REPLACE INTO fingerprint ({_COLUMNS}) SELECT {_COLUMNS}"
            " FROM new_fingerprints AS new WHERE NOT EXISTS (SELECT 1 FROM fingerprint AS old"
            " WHERE old.repo_id = new.repo_id AND old.revision = new.revision"
            " AND old.scheme = new.scheme AND old.digest IS NOT NULL"
            " AND (new.digest IS NULL OR old.stage > new.stage))"
        )
    finally:
        connection.unregister("new_fingerprints")


def fingerprint_rows(
    connection: duckdb.DuckDBPyConnection,
    scheme: str | None = None,
    repo_ids: Sequence[str] | None = None,
) -> tuple[LedgerRow, ...]:
    """All lines of one scheme and of some models (None: of all), by repository and time."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM fingerprint WHERE ($1 IS NULL OR scheme = $1)"
        " AND ($2::VARCHAR[] IS NULL OR list_contains($2, repo_id))"
        " ORDER BY repo_id, made_at, revision, scheme",
        [scheme, None if repo_ids is None else list(repo_ids)],
    ).fetchall()
    named = [dict(zip(_NAMES, row, strict=True)) for row in rows]
    return tuple(LedgerRow(**row | {"given_up": tuple(row["given_up"] or ())}) for row in named)


def done(
    connection: duckdb.DuckDBPyConnection, scheme: str, stage: int
) -> frozenset[tuple[str, str]]:
    """(repository, revision) of the models that need no reading: stored at `stage` or deeper."""
    return frozenset(
        connection.execute(
            "SELECT repo_id, revision FROM fingerprint"
            " WHERE scheme = ? AND stage >= ? AND digest IS NOT NULL",
            [scheme, stage],
        ).fetchall()
    )


def _storable(value: object) -> object:
    """Sentences may quote what is no Unicode text; it must not cost the batch its lines."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return [_storable(one) for one in value] if isinstance(value, tuple) else value


def _worth(row: LedgerRow) -> tuple[bool, int]:
    return row.digest is not None, row.stage if row.digest is not None else 0
