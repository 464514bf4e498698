"""What is to be told of a watched model: the book now against the book at the watch before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from crawler.records import RepoStatus
from lineage.store.descent import Descent, RepoState, descendants, states

__all__ = ["Change", "Descendant", "WatchedModel", "tell"]

# The Hub's listings lag a little, and its clock is not ours: what was changed so shortly before the
# watch before may not have shown then.
_LAG = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Change:
    """What changed in a watched repository: status, commit, gating or licence."""

    what: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Descendant:
    """A descendant that came or went.

    `through` is its parent on the shortest way from the watched model, which is `depth` steps long
    (1: a direct child). `status` is the state in which it was last seen; one that vanished with
    another than ``gone`` is there, but no longer claims this descent.
    """

    repo_id: str
    relation: str | None
    through: str
    depth: int
    author: str | None
    created_at: datetime | None
    status: RepoStatus


@dataclass(frozen=True, slots=True)
class WatchedModel:
    """What is to be told of one watched repository.

    Attributes
    ----------
    repo_id, name
        As it was asked for, and its present id.
    since
        The watch before; None the first time: then nothing is called new.
    problem
        Why it could not be read, or its descendants not be listed; None if they could.
    state
        What the book knows of it; None if it was never read.
    n_descendants, n_direct
        By the claims that stand now, without those that are gone; how many of them are direct.
    new, late, vanished
        Against the watch before. `late` ones are in the book only now, though nothing about them
        changed since the watch before: they were beyond its limit.
    """

    repo_id: str
    name: str
    since: datetime | None
    problem: str | None
    state: RepoState | None
    changes: tuple[Change, ...]
    n_descendants: int
    n_direct: int
    new: tuple[Descendant, ...]
    late: tuple[Descendant, ...]
    vanished: tuple[Descendant, ...]


def tell(
    connection: duckdb.DuckDBPyConnection,
    repo_id: str,
    name: str,
    since: datetime | None,
    problem: str | None,
) -> WatchedModel:
    """Compare a model and its descendants now with what they were at `since`."""
    now = _Family.read(connection, name, None)
    if since is None:
        return WatchedModel(repo_id, name, None, problem, now.state, (), *now.counts(), (), (), ())
    then = _Family.read(connection, name, since)
    added = [now.descendant(one) for one in now.present.values() if one.repo_id not in then.present]
    new_ids = _newly_descended(now, then, since)
    return WatchedModel(
        repo_id,
        name,
        since,
        problem,
        now.state,
        _changes(then.state, now.state),
        *now.counts(),
        tuple(one for one in added if one.repo_id in new_ids),
        tuple(one for one in added if one.repo_id not in new_ids),
        _vanished(connection, now, then),
    )


@dataclass(frozen=True, slots=True)
class _Family:
    """A model and its descendants at one moment; `present` leaves out those that are gone."""

    state: RepoState | None
    descent: Mapping[str, Descent]
    states: Mapping[str, RepoState]
    present: Mapping[str, Descent]

    @classmethod
    def read(cls, connection: duckdb.DuckDBPyConnection, name: str, at: datetime | None) -> _Family:
        descent = descendants(connection, name, at)
        known = states(connection, [name, *descent], at)
        # A repository that is gone still links its own children to their ancestors.
        present = {
            one: how
            for one, how in descent.items()
            if one not in known or known[one].status is not RepoStatus.GONE
        }
        return cls(known.get(name), descent, known, present)

    def counts(self) -> tuple[int, int]:
        """All descendants, and the direct ones."""
        return len(self.present), sum(how.depth == 1 for how in self.present.values())

    def descendant(self, how: Descent, status: RepoStatus | None = None) -> Descendant:
        state = self.states.get(how.repo_id)
        return Descendant(
            how.repo_id,
            how.relation,
            how.through,
            how.depth,
            state.author if state else None,
            state.created_at if state else None,
            status or (state.status if state else RepoStatus.OK),
        )


def _newly_descended(now: _Family, then: _Family, since: datetime) -> set[str]:
    """Those to whom descent came since: a step of their way was claimed by a change of its child.

    A claim that is only new to the book, of a repository that did not change, makes nobody new.
    """
    new: set[str] = set()
    for how in now.descent.values():  # nearest first: a parent is decided before its children
        if how.repo_id in then.present:
            continue
        is_back = how.repo_id in then.descent  # it was gone then
        state = now.states.get(how.repo_id)
        changed_at = state.last_modified if state else None
        is_claimed_since = how.first_seen > since and (
            changed_at is None or changed_at >= since - _LAG
        )
        if is_back or is_claimed_since or how.through in new:
            new.add(how.repo_id)
    return new


def _vanished(
    connection: duckdb.DuckDBPyConnection, now: _Family, then: _Family
) -> tuple[Descendant, ...]:
    lost = [how for one, how in then.present.items() if one not in now.present]
    present = states(connection, [how.repo_id for how in lost])
    return tuple(
        then.descendant(how, present[how.repo_id].status if how.repo_id in present else None)
        for how in lost
    )


def _changes(then: RepoState | None, now: RepoState | None) -> tuple[Change, ...]:
    if then is None or now is None:
        return ()
    pairs = (
        ("status", str(then.status), str(now.status)),
        ("commit", then.revision, now.revision),
        ("gating", then.gated, now.gated),
        ("licence", then.licence, now.licence),
    )
    return tuple(Change(what, a, b) for what, a, b in pairs if a != b)
