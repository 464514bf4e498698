"""Brings ledger and parts together at the beginning of a run.

A worker writes a part, then the driver enters it. A kill between the two leaves a whole part that
no line names: an orphan, whose models need no second reading. It is read through, and entered where
that gains something. What is left over then (partial files, halves of a part, copies of models that
lie in another part, damaged orphans) is deleted. Call this while no worker of this home is writing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from lineage.errors import SchemaError
from lineage.store.fingerprint_ledger import LedgerRow, record_fingerprints
from lineage.store.fingerprint_parts import MODELS, WORDS, PartReader, part_of, require_scheme
from lineage.store.part_location import PartLocation, as_location, is_partial

__all__ = ["Recovery", "adopt_parts", "forget_missing", "recover_parts", "sweep_parts"]

Where = PartLocation | str | Path


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was mended.

    Attributes
    ----------
    n_forgotten
        Models whose part is gone: they are read again.
    n_adopted
        Models found in parts that were never entered: they need no reading.
    n_removed
        Files deleted.
    damaged
        Reasons, one a part that was never entered and cannot be read.
    """

    n_forgotten: int
    n_adopted: int
    n_removed: int
    damaged: tuple[str, ...]


def recover_parts(connection: duckdb.DuckDBPyConnection, where: Where, scheme: str) -> Recovery:
    """Forget what is gone, adopt what was never entered, sweep what is left over.

    Raises
    ------
    HomeError
        If the location cannot be listed, or leftovers cannot be deleted.
    """
    location = as_location(where)
    n_forgotten = forget_missing(connection, location, scheme)
    n_adopted, damaged = adopt_parts(connection, location, scheme)
    # On the way from an object store a whole part may look damaged: it is tried again next time.
    kept = () if location.is_local else tuple(damaged)
    n_removed = sweep_parts(connection, location, scheme, keep=kept)
    return Recovery(n_forgotten, n_adopted, n_removed, tuple(damaged.values()))


def forget_missing(connection: duckdb.DuckDBPyConnection, where: Where, scheme: str) -> int:
    """Enter as not read the models whose part's files are gone; returns their number."""
    present = as_location(where).names(require_scheme(scheme))
    gone = [
        part
        for part in _entered(connection, scheme)
        if part + MODELS not in present or part + WORDS not in present
    ]
    rows = connection.execute(
        "UPDATE fingerprint SET digest = NULL, part = NULL, bytes_stored = 0,"
        " reason = 'its stored part is missing'"
        " WHERE scheme = ? AND part IN (SELECT unnest(?::VARCHAR[])) RETURNING repo_id",
        [scheme, gone],
    ).fetchall()
    return len(rows)


def adopt_parts(
    connection: duckdb.DuckDBPyConnection, where: Where, scheme: str
) -> tuple[int, dict[str, str]]:
    """Enter the models of orphans, each read through and compared with its digest.

    A model that is entered already, at the same stage or a deeper one, stays where it is.

    Returns
    -------
    n_adopted, damaged
        Models entered; why orphans cannot be read, by part.
    """
    location = as_location(where)
    present = location.names(require_scheme(scheme))
    entered = _entered(connection, scheme)
    orphans = sorted({p for file in present if (p := part_of(file)) is not None} - entered)
    n_adopted = 0
    damaged: dict[str, str] = {}
    for part in orphans:
        if part + MODELS not in present or part + WORDS not in present:
            continue
        try:
            lines = _lines(location, scheme, part)
        except SchemaError as error:
            damaged[part] = str(error)
            continue
        gained = [line for line in lines if _is_gain(connection, line)]
        record_fingerprints(connection, gained)
        n_adopted += len(gained)
    return n_adopted, damaged


def sweep_parts(
    connection: duckdb.DuckDBPyConnection, where: Where, scheme: str, *, keep: Collection[str] = ()
) -> int:
    """Delete partial files and parts that no line names, but those in `keep`; returns how many.

    Files of other names are left alone: they are somebody else's.
    """
    location = as_location(where)
    kept = _entered(connection, scheme) | set(keep)
    unused = [
        file
        for file in location.names(require_scheme(scheme))
        if is_partial(file) or ((part := part_of(file)) is not None and part not in kept)
    ]
    # The file of models goes first: a kill leaves no part with its words missing.
    for file in sorted(unused, key=lambda file: not file.endswith(MODELS)):
        location.remove(scheme, file)
    return len(unused)


def _entered(connection: duckdb.DuckDBPyConnection, scheme: str) -> set[str]:
    rows = connection.execute(
        "SELECT DISTINCT part FROM fingerprint WHERE scheme = ? AND part IS NOT NULL", [scheme]
    ).fetchall()
    return {part for (part,) in rows}


def _lines(location: PartLocation, scheme: str, part: str) -> Sequence[LedgerRow]:
    reader = PartReader(location, scheme, part)
    try:
        for key in reader.keys:
            reader.fingerprint(*key)
        return [reader.line(*key) for key in reader.keys]
    finally:
        reader.close()


def _is_gain(connection: duckdb.DuckDBPyConnection, line: LedgerRow) -> bool:
    rows = connection.execute(
        "SELECT 1 FROM fingerprint WHERE repo_id = ? AND revision = ? AND scheme = ?"
        " AND digest IS NOT NULL AND stage >= ?",
        [*line.key, line.stage],
    ).fetchall()
    return not rows
