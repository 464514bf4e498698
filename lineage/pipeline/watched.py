"""What is to be told of a watched model: the book now against the book at the watch before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from crawler.records import RepoStatus
from lineage.store.descent import Descent, RepoState, descendants, gone, states

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
    state = states(connection, [name]).get(name)
    now = _Family.read(connection, name, None)
    counts = len(now.present), sum(how.depth == 1 for how in now.present.values())
    if since is None:
        return WatchedModel(repo_id, name, None, problem, state, (), *counts, (), (), ())
    then = _Family.read(connection, name, since)
    added = [how for one, how in now.present.items() if one not in then.present]
    lost = [how for one, how in then.present.items() if one not in now.present]
    known = states(connection, [*(now.descent.keys() - then.present.keys()),
                                *(how.repo_id for how in lost)])  # fmt: skip
    new = _newly_descended(now, then, known, since)
    return WatchedModel(
        repo_id,
        name,
        since,
        problem,
        state,
        _changes(states(connection, [name], since).get(name), state),
        *counts,
        tuple(_descendant(how, known) for how in added if how.repo_id in new),
        tuple(_descendant(how, known) for how in added if how.repo_id not in new),
        tuple(_descendant(how, known) for how in lost),
    )


@dataclass(frozen=True, slots=True)
class _Family:
    """The descendants of a model at one moment; `present` leaves out those that were gone."""

    descent: Mapping[str, Descent]
    present: Mapping[str, Descent]

    @classmethod
    def read(cls, connection: duckdb.DuckDBPyConnection, name: str, at: datetime | None) -> _Family:
        descent = descendants(connection, name, at)
        # A repository that is gone still links its own children to their ancestors.
        missing = gone(connection, at)
        return cls(descent, {one: how for one, how in descent.items() if one not in missing})


def _descendant(how: Descent, known: Mapping[str, RepoState]) -> Descendant:
    state = known.get(how.repo_id)
    return Descendant(
        how.repo_id,
        how.relation,
        how.through,
        how.depth,
        state.author if state else None,
        state.created_at if state else None,
        state.status if state else RepoStatus.OK,
    )


def _newly_descended(
    now: _Family, then: _Family, known: Mapping[str, RepoState], since: datetime
) -> set[str]:
    """Those to whom descent came since: a step of their way was claimed by a change of its child.

    A claim that is only new to the book, of a repository that did not change, makes nobody new.
    """
    new: set[str] = set()
    for how in now.descent.values():  # nearest first: a parent is decided before its children
        if how.repo_id in then.present:
            continue
        is_back = how.repo_id in then.descent  # it was gone then
        state = known.get(how.repo_id)
        changed_at = state.last_modified if state else None
        is_claimed_since = how.first_seen > since and (
            changed_at is None or changed_at >= since - _LAG
        )
        if is_back or is_claimed_since or how.through in new:
            new.add(how.repo_id)
    return new


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
