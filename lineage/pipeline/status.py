"""Where a register stands: counts, problems, last runs, current publication."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lineage.errors import HerdbookError
from lineage.store import reads
from lineage.store.home import Home
from lineage.store.publication import read_manifest

__all__ = ["ProblemCount", "Status", "read_status"]

_LAST_RUNS = 10


@dataclass(frozen=True, slots=True)
class ProblemCount:
    """How many problems of one code a stage recorded."""

    stage: str
    code: str
    n: int


@dataclass(frozen=True, slots=True)
class Status:
    """Counts of the working database, and the name of the current publication, if any."""

    counts: Mapping[str, int]
    problems: tuple[ProblemCount, ...]
    runs: tuple[reads.RunRow, ...]
    published: str | None


def read_status(home: Home) -> Status:
    """Read the working database's counts.

    Raises
    ------
    NotFoundError
        If nothing was crawled here.
    HomeError
        If a stage is writing just now.
    """
    connection = reads.open_for_reading(home)
    try:
        return Status(
            dict(reads.catalogue_counts(connection)),
            tuple(ProblemCount(*row) for row in reads.problem_codes(connection)),
            reads.runs(connection, _LAST_RUNS),
            _published(home),
        )
    finally:
        connection.close()


def _published(home: Home) -> str | None:
    try:
        return read_manifest(home).file
    except HerdbookError:
        return None
