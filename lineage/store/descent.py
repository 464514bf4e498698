"""Who claimed to descend from whom, now or at any moment before, and in what state they were."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from crawler.records import ClaimSource, RepoStatus

__all__ = [
    "Descent",
    "RepoState",
    "claimed_children",
    "current_names",
    "descendants",
    "former_names",
    "gone",
    "last_problem",
    "previous_watch",
    "states",
]

_RANK = {str(source): rank for rank, source in enumerate(ClaimSource)}  # most trusted first


@dataclass(frozen=True, slots=True)
class Descent:
    """How a repository descends from a watched one, by the shortest way of claims.

    `through` is the parent on that way, `depth` its length; `relation` is the Hub's word for the
    last step, None if no claim states it; `first_seen` is when that step was first claimed.
    """

    repo_id: str
    through: str
    depth: int
    relation: str | None
    first_seen: datetime


@dataclass(frozen=True, slots=True)
class RepoState:
    """The latest state of a repository; of one that is gone, all but `status` as it was before."""

    repo_id: str
    status: RepoStatus
    revision: str | None
    gated: str | None
    licence: str | None
    author: str | None
    created_at: datetime | None
    last_modified: datetime | None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Filtered by the parents' names as they are written, so that the scan stays one comparison a row;
# times as numbers, because times with a zone are slow to hand over.
_STANDING = """
    SELECT coalesce(c.new_id, child), coalesce(p.new_id, parent), relation, source,
      epoch_us(first_seen)
    FROM (SELECT child, parent, relation, source, first_seen FROM claim
      WHERE parent IN (SELECT unnest($1::VARCHAR[])
        UNION ALL SELECT old_id FROM alias WHERE new_id IN (SELECT unnest($1::VARCHAR[])))
      AND ($2::TIMESTAMPTZ IS NULL AND ended_at IS NULL
        OR first_seen <= $2 AND (ended_at IS NULL OR ended_at > $2)))
    LEFT JOIN alias AS c ON c.old_id = child LEFT JOIN alias AS p ON p.old_id = parent
"""


def descendants(
    connection: duckdb.DuckDBPyConnection, ancestor: str, at: datetime | None = None
) -> dict[str, Descent]:
    """All descendants by claims that stand (or stood at `at`), nearest first; renames followed.

    Cycles and self-parents end where they began. Of several claims of one step the most trusted
    source's counts, and its relation unless it states none.
    """
    found: dict[str, Descent] = {}
    seen, frontier, depth = {ancestor}, [ancestor], 0
    while frontier:
        depth += 1
        rows = connection.execute(_STANDING, [frontier, at]).fetchall()
        rows.sort(key=lambda row: (_RANK.get(row[3], len(_RANK)), row[1], row[2] or "~"))
        level: dict[str, Descent] = {}
        for child, parent, relation, _, claimed_us in rows:
            if child in seen:
                continue
            first_seen = _EPOCH + timedelta(microseconds=claimed_us)
            known = level.get(child)
            if known is None:
                level[child] = Descent(child, parent, depth, relation, first_seen)
            elif known.through == parent:
                relation, first_seen = known.relation or relation, min(known.first_seen, first_seen)
                level[child] = Descent(child, parent, depth, relation, first_seen)
        found.update(sorted(level.items()))
        seen.update(level)
        frontier = sorted(level)
    return found


def claimed_children(
    connection: duckdb.DuckDBPyConnection, parents: Collection[str]
) -> dict[tuple[str, str], bool]:
    """(parent, child) of every standing claim about one of `parents`, and whether a tag makes it.

    Only a child that is tagged must show in a listing under that tag.
    """
    rows = connection.execute(_STANDING, [sorted(parents), None]).fetchall()
    found: dict[tuple[str, str], bool] = {}
    for child, parent, _, source, _ in rows:
        is_tagged = source == ClaimSource.TAG
        found[parent, child] = found.get((parent, child), False) or is_tagged
    return found


def states(
    connection: duckdb.DuckDBPyConnection, ids: Collection[str], at: datetime | None = None
) -> dict[str, RepoState]:
    """The latest state (at `at`) of those of `ids` that were ever there."""
    rows = connection.execute(
        "WITH seen AS (SELECT * FROM snapshot WHERE repo_id IN (SELECT unnest($1::VARCHAR[]))"
        " AND ($2::TIMESTAMPTZ IS NULL OR observed_at <= $2)),"
        " latest AS (SELECT repo_id, arg_max(status, observed_at) AS status FROM seen GROUP BY 1),"
        " readable AS (SELECT * FROM seen WHERE status <> 'gone'"
        " QUALIFY row_number() OVER (PARTITION BY repo_id"
        " ORDER BY status <> 'disabled' DESC, observed_at DESC) = 1)"
        " SELECT repo_id, latest.status, revision, gated, coalesce(licence_name, licence), author,"
        " created_at, last_modified FROM latest JOIN readable USING (repo_id)",
        [sorted(ids), at],
    ).fetchall()
    return {row[0]: RepoState(row[0], RepoStatus(row[1]), *row[2:]) for row in rows}


def gone(connection: duckdb.DuckDBPyConnection, at: datetime | None = None) -> set[str]:
    """Every repository that is gone (or was at `at`)."""
    rows = connection.execute(
        "SELECT repo_id FROM snapshot WHERE repo_id IN (SELECT repo_id FROM snapshot WHERE"
        " status = 'gone') AND ($1::TIMESTAMPTZ IS NULL OR observed_at <= $1)"
        " GROUP BY 1 HAVING arg_max(status, observed_at) = 'gone'",
        [at],
    ).fetchall()
    return {repo_id for (repo_id,) in rows}


def current_names(connection: duckdb.DuckDBPyConnection, ids: Collection[str]) -> Mapping[str, str]:
    """The present id of each of `ids` that was renamed."""
    return dict(
        connection.execute(
            "SELECT old_id, new_id FROM alias WHERE old_id IN (SELECT unnest($1::VARCHAR[]))",
            [sorted(ids)],
        ).fetchall()
    )


def former_names(connection: duckdb.DuckDBPyConnection, repo_id: str) -> tuple[str, ...]:
    """The ids that lead to a repository: tags of its children may still hold them."""
    rows = connection.execute(
        "SELECT old_id FROM alias WHERE new_id = ? AND old_id <> new_id ORDER BY old_id", [repo_id]
    ).fetchall()
    return tuple(old_id for (old_id,) in rows)


def last_problem(
    connection: duckdb.DuckDBPyConnection, repo_id: str, since: datetime | None = None
) -> str | None:
    """Why the crawl (since then) could not read a repository; None if it could."""
    row = connection.execute(
        "SELECT reason FROM problem WHERE repo_id = $1 AND stage = 'crawl' AND path IS NULL"
        " AND ($2::TIMESTAMPTZ IS NULL OR observed_at >= $2) ORDER BY observed_at DESC LIMIT 1",
        [repo_id, since],
    ).fetchone()
    return str(row[0]) if row else None


def previous_watch(connection: duckdb.DuckDBPyConnection, repo_id: str) -> datetime | None:
    """When the latest finished watch of a repository looked; None if there was none."""
    rows = connection.execute(
        "SELECT parameters FROM run WHERE stage = 'watch' AND finished_at IS NOT NULL"
        " ORDER BY run_id DESC"
    )
    while row := rows.fetchone():
        parameters = json.loads(row[0])
        if repo_id in str(parameters["models"]).split():
            return datetime.fromisoformat(parameters["observed_at"]).astimezone(UTC)
    return None
