"""Requests for a repository's details: the ledger's ``wanted_at``, written in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

__all__ = ["Request", "unread_parents", "want_repositories"]


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asked for a repository's details.

    `may_enter`: whether a repository that the ledger does not know is entered; one that is private
    or has gone is asked for only where it is known.
    """

    repo_id: str
    wanted_at: datetime
    may_enter: bool = True


def unread_parents(
    connection: duckdb.DuckDBPyConnection, children: Sequence[str]
) -> tuple[str, ...]:
    """The claimed parents of `children` whose details nobody has asked the Hub for, sorted."""
    rows = connection.execute(
        "SELECT DISTINCT coalesce(new_id, parent) AS id FROM claim"
        " LEFT JOIN alias ON old_id = parent"
        " LEFT JOIN repository ON repo_id = coalesce(new_id, parent)"
        " WHERE child IN (SELECT unnest(?::VARCHAR[])) AND ended_at IS NULL AND parent IS NOT NULL"
        " AND read_at IS NULL ORDER BY id",
        [list(children)],
    ).fetchall()
    return tuple(repo_id for (repo_id,) in rows)


_NEW = """
    (SELECT unnest($1::VARCHAR[]) AS id, unnest($2::TIMESTAMPTZ[]) AS asked_at,
      unnest($3::BOOLEAN[]) AS may_enter) AS new
"""


def want_repositories(
    connection: duckdb.DuckDBPyConnection, requests: Sequence[Request]
) -> tuple[str, ...]:
    """Ask for the details of repositories; returns the ids that are asked for now, sorted.

    The latest request of each id counts, and an earlier one never replaces a later one, so asking
    again changes nothing. Ids that the ledger does not know are entered as ``ok`` and never listed.
    """
    latest: dict[str, Request] = {}
    for request in requests:
        known = latest.get(request.repo_id)
        if known is None or request.wanted_at >= known.wanted_at:
            latest[request.repo_id] = request
    if not latest:
        return ()
    rows = list(latest.values())
    columns = [[row.repo_id for row in rows], [row.wanted_at for row in rows]]
    enters = [row.may_enter for row in rows]
    connection.begin()
    try:
        connection.execute(
            f"UPDATE repository SET wanted_at = new.asked_at FROM {_NEW} WHERE repo_id = new.id"
            " AND (wanted_at IS NULL OR wanted_at < new.asked_at)",
            [*columns, enters],
        )
        connection.execute(
            "INSERT INTO repository (repo_id, first_seen, listed_at, status, wanted_at)"
            f" SELECT id, asked_at, asked_at, 'ok', asked_at FROM {_NEW} WHERE may_enter"
            " AND NOT EXISTS (SELECT 1 FROM repository WHERE repo_id = new.id)",
            [*columns, enters],
        )
        found = connection.execute(
            "SELECT repo_id FROM repository WHERE repo_id IN (SELECT unnest($1::VARCHAR[]))"
            " ORDER BY repo_id",
            [columns[0]],
        ).fetchall()
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return tuple(repo_id for (repo_id,) in found)
