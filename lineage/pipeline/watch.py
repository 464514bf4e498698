"""Re-reads chosen repositories and tells what changed: their own state, and who descends from them.

What is new is decided by the book alone: the descendants by the claims that stand now, against
those by the claims that stood when the model was watched last (the ``run`` table knows when). So it
does not matter whether a watch or a crawl between two watches entered a claim.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import duckdb

from crawler.children import ListedChild, list_children
from crawler.client import Hub
from crawler.errors import CrawlError, RetryableError
from crawler.records import RepoStatus, is_repo_id
from lineage.errors import HerdbookError, UsageError
from lineage.pipeline.crawl import crawl
from lineage.pipeline.progress import track
from lineage.pipeline.watched import WatchedModel, tell
from lineage.pipeline.webhook import take_requests
from lineage.store.descent import (
    Descent,
    RepoState,
    claimed_children,
    current_names,
    descendants,
    former_names,
    last_problem,
    previous_watch,
    states,
)
from lineage.store.home import Home
from lineage.store.runs import record_run

__all__ = ["DEFAULT_LIMIT", "WatchReport", "watch", "watch_repeatedly"]

DEFAULT_LIMIT = 200
_MAX_MODELS = 1000
_MAX_PAGES = 100
_MAX_PAGES_FOLLOWED = 5


class Read(Protocol):
    """What the watch needs of the crawl stage."""

    def __call__(
        self, home: Home, endpoint: str | None, *, ids: Sequence[str], now: datetime, hub: Hub
    ) -> object:
        """Read these repositories into the book."""


@dataclass(frozen=True, slots=True)
class WatchReport:
    """One watch.

    `n_waiting` descendants are listed by the Hub and not in the book yet; of `n_not_asked` known
    descendants the children were not asked for: both for the limit. `n_requested` repositories
    were asked for by webhooks. `failures`: what could not be done for no model in particular.
    """

    observed_at: datetime
    models: tuple[WatchedModel, ...]
    n_requested: int
    n_waiting: int
    n_not_asked: int
    n_requests: int
    failures: tuple[str, ...]


def watch(
    home: Home,
    endpoint: str | None,
    models: Sequence[str],
    *,
    limit: int = DEFAULT_LIMIT,
    now: datetime | None = None,
    hub: Hub | None = None,
    read: Read = crawl,
) -> WatchReport:
    """Re-read repositories, look for their descendants, and compare with the watch before.

    Each model is re-read; then the Hub is asked who is tagged with it, and with its descendants as
    far as they are known (those with children first). Listed ones that the book does not know, and
    known ones that are listed no more, are read.

    Parameters
    ----------
    limit
        Most new descendants to enter (the newest), most known ones whose children are asked for,
        most missing ones to look for, and most requests of webhooks to follow: so many of each.
    now, hub, read
        Injected by tests: time of observation, client, and the stage that reads ids.

    Raises
    ------
    UsageError
        If there is no model, or more than a thousand.
    HomeError
        If the home cannot be used.
    HerdbookError
        If not one of the models could be read.
    """
    wanted = list(dict.fromkeys(model.strip() for model in models))
    if not 0 < len(wanted) <= _MAX_MODELS:
        raise UsageError(f"name one to {_MAX_MODELS} models to watch")
    hub, now = hub or Hub(endpoint), now or datetime.now(UTC)
    connection = home.open_working()
    try:
        valid = [model for model in wanted if is_repo_id(model)]
        parameters = {
            "models": " ".join(valid),  # ids hold no space
            "observed_at": now.isoformat(),
            "endpoint": endpoint,
            "limit": limit,
        }
        before = {model: previous_watch(connection, model) for model in valid}
        with record_run(connection, "watch", parameters):
            return _Watch(home, endpoint, connection, hub, now, limit, read).run(wanted, before)
    finally:
        connection.close()


def watch_repeatedly(
    look: Callable[[], WatchReport],
    every_s: float,
    *,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[WatchReport]:
    """Watch again and again, `every_s` seconds after the watch before ended.

    An error of the first watch is raised; later ones are said and tried again the next time.

    Raises
    ------
    HerdbookError
        If the first watch fails.
    """
    is_first = True
    while True:
        try:
            yield look()
        except (HerdbookError, CrawlError) as error:
            if is_first:
                raise
            say(f"this time it failed: {error}; trying again in {every_s:.0f} s")
        is_first = False
        sleep(every_s)


@dataclass(frozen=True, slots=True)
class _Listing:
    """Who is tagged with a parent; `is_complete`: the listing was read to its end."""

    children: Mapping[str, ListedChild]
    is_complete: bool

    @classmethod
    def read(cls, hub: Hub, names: Sequence[str], max_pages: int) -> _Listing:
        """Ask for the children of one parent under each of its names."""
        found: dict[str, ListedChild] = {}
        are_complete = True
        for name in names:
            children, is_complete = list_children(hub, name, max_pages=max_pages)
            found.update((child.repo_id, child) for child in children)
            are_complete &= is_complete
        return cls(found, are_complete)


class _Watch:
    """One watch: it reads first, and compares at the end."""

    def __init__(
        self,
        home: Home,
        endpoint: str | None,
        connection: duckdb.DuckDBPyConnection,
        hub: Hub,
        now: datetime,
        limit: int,
        read: Read,
    ) -> None:
        self._home, self._endpoint, self._connection = home, endpoint, connection
        self._hub, self._now, self._limit, self._read_ids = hub, now, limit, read
        self._problems: dict[str, str] = {}
        self._failures: list[str] = []

    def run(self, wanted: Sequence[str], before: Mapping[str, datetime | None]) -> WatchReport:
        """Do it; `before` has the watched ids that have an id's form."""
        n_requests = self._hub.n_requests
        requested = take_requests(self._home, self._connection, self._now)
        self._read_watched(list(before))
        names = {model: model for model in before}
        names.update(current_names(self._connection, names))
        known = states(self._connection, set(names.values()))
        roots = [name for name in dict.fromkeys(names.values()) if name in known]
        n_waiting, n_not_asked = self._find(roots, requested)
        models = tuple(
            self._tell(model, names.get(model, model), before.get(model)) for model in wanted
        )
        return WatchReport(
            self._now,
            models,
            len(requested),
            n_waiting,
            n_not_asked,
            self._hub.n_requests - n_requests,
            tuple(self._failures),
        )

    def _read(self, ids: Sequence[str]) -> None:
        self._read_ids(self._home, self._endpoint, ids=ids, now=self._now, hub=self._hub)

    def _read_watched(self, models: Sequence[str]) -> None:
        """Re-read the watched models; one that stops the crawl does not stop the others."""
        try:
            if models:
                self._read(models)
            return
        except HerdbookError:
            if len(models) == 1:
                raise
        for model in models:
            try:
                self._read([model])
            except HerdbookError as error:
                self._problems[model] = str(error)
                if len(self._problems) == len(models):
                    raise

    def _find(self, roots: Sequence[str], requested: Sequence[str]) -> tuple[int, int]:
        """Read the descendants that the book lacks, and those that are listed no more.

        Returns how many wait for the limit, and of how many the children were not asked for.
        """
        listings, n_not_asked = self._list(roots)
        claimed = claimed_children(self._connection, listings)
        missing = {
            child
            for (parent, child), is_tagged in claimed.items()
            if is_tagged and listings[parent].is_complete and child not in listings[parent].children
        }
        listed = {one for listing in listings.values() for one in listing.children}
        known = states(self._connection, listed | missing)
        gone = {one for one, state in known.items() if state.status is RepoStatus.GONE}
        found = {
            child.repo_id: child
            for parent, listing in listings.items()
            for child in listing.children.values()
            if child.repo_id in gone
            or ((parent, child.repo_id) not in claimed and not _is_current(child, known))
        }
        new = list(found.values())
        new.sort(key=_newest_first)
        lost = sorted(missing - gone)
        few = self._limit
        reading = dict.fromkeys(
            [*(child.repo_id for child in new[:few]), *lost[:few], *requested[:few]]
        )
        try:
            if reading:
                self._read(list(reading))
        except HerdbookError as error:
            self._failures.append(f"not every descendant could be read: {error}")
        return len(new) - len(new[:few]), n_not_asked

    def _list(self, roots: Sequence[str]) -> tuple[dict[str, _Listing], int]:
        """The children of watched models, and of as many of their descendants as the limit lets.

        Returns them by parent, and how many descendants were not asked for.
        """
        listings: dict[str, _Listing] = {}
        for root in track(roots, "listing", len(roots)):
            try:
                names = [root, *former_names(self._connection, root)]
                listings[root] = _Listing.read(self._hub, names, _MAX_PAGES)
            except CrawlError as error:
                self._problems[root] = f"its descendants could not be listed: {error}"
        fathers, leaves = self._known_descendants(roots)
        found = [child for listing in listings.values() for child in listing.children.values()]
        new = [child.repo_id for child in sorted(found, key=_newest_first)]
        known = {*leaves}
        new = [repo_id for repo_id in new if repo_id not in known]
        queue = deque(dict.fromkeys([*fathers, *new, *leaves]))
        asked = {*roots}
        for _ in track(range(self._limit), "following", self._limit):
            while queue and queue[0] in asked:
                queue.popleft()
            if not queue:
                break
            parent = queue.popleft()
            asked.add(parent)
            try:
                listings[parent] = _Listing.read(self._hub, [parent], _MAX_PAGES_FOLLOWED)
            except CrawlError as error:
                self._failures.append(f"the children of {parent} could not be listed: {error}")
                if isinstance(error, RetryableError):
                    break  # all tries were in vain: the others would fare no better
            else:
                queue.extend(listings[parent].children)
        return listings, len({*queue} - asked)

    def _known_descendants(self, roots: Sequence[str]) -> tuple[list[str], list[str]]:
        """Those with children of their own, nearest first; and the others, latest claimed first."""
        known: dict[str, Descent] = {}
        for root in roots:
            known.update(descendants(self._connection, root))
        fathers = {how.through for how in known.values()} & known.keys()
        leaves = [how for how in known.values() if how.repo_id not in fathers]
        # Quantised versions are hardly ever built upon.
        leaves.sort(key=lambda how: how.first_seen, reverse=True)
        leaves.sort(key=lambda how: how.relation == "quantized")
        return [one for one in known if one in fathers], [how.repo_id for how in leaves]

    def _tell(self, model: str, name: str, since: datetime | None) -> WatchedModel:
        problem = self._problems.get(name) or self._problems.get(model)
        if not is_repo_id(model):
            problem = "not the id of a repository (owner/name)"
        told = tell(self._connection, model, name, since, problem)
        if problem is None and told.state is None:
            reason = last_problem(self._connection, model)
            problem = f"not found: {reason or self._hub.endpoint}"
        elif problem is None and told.state is not None and told.state.status is RepoStatus.OK:
            reason = last_problem(self._connection, name, self._now)
            problem = f"could not be read this time: {reason}" if reason else None
        return replace(told, problem=problem)


def _newest_first(child: ListedChild) -> tuple[float, str]:
    return (-child.created_at.timestamp() if child.created_at else 0.0, child.repo_id)


def _is_current(child: ListedChild, known: Mapping[str, RepoState]) -> bool:
    """Whether the book holds a listed repository as it is listed, whatever it read from it."""
    state = known.get(child.repo_id)
    return (
        state is not None
        and state.status in (RepoStatus.OK, RepoStatus.GATED)
        and child.last_modified is not None
        and state.last_modified == child.last_modified
    )
