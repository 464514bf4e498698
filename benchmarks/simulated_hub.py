"""A simulated Hub of millions of models that serves the Hub's listing, for the crawl benchmark.

``python -m benchmarks.simulated_hub --models 3000000 --port 0 --seed 0`` prints
``ready http://127.0.0.1:PORT`` and serves until interrupted:

- ``GET /api/models?expand=…&limit=…&sort=createdAt|lastModified[&cursor=…]``, newest first;
- ``GET /api/models/{owner}/{name}[?expand=…]``;
- ``POST /advance`` with ``share_changed``, ``share_new``, ``share_deleted`` (form or JSON, all may
  be left out) lets a day pass and answers what happened.

Records come from :mod:`benchmarks.hub_population`. Here are only the state (which models changed
when, which are deleted) and its orders, a few bytes per model.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import math
import mmap
import multiprocessing
import re
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlencode

import numpy as np
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.hub_cards import SHARED_DATA
from benchmarks.hub_draws import Draws, Ints
from benchmarks.hub_population import Population
from benchmarks.hub_rows import MissingDataError
from benchmarks.hub_templates import FIELDS
from crawler.hub_http import Query, Refusal, read_form, refuse
from crawler.hub_records import EXPANDABLE, EXPANDABLE_IN_LISTINGS, LISTED

__all__ = ["EXIT_NO_DATA", "Day", "Shares", "SimulatedHub", "main", "make_app"]

EXIT_NO_DATA = 77
_PAGE = 1000
_WINDOW_S = 300
_BLOCK = 1 << 18  # models looked at together: bounds what a day costs in memory
_INDEX_BITS = 24
_INDEX_MASK = (1 << _INDEX_BITS) - 1
_MAX_BODY_BYTES = 1 << 16
_MAX_DAYS = 1 << 12
_UNSERVED = ("author", "filter", "gated", "pipeline_tag", "search")


@dataclass(frozen=True, slots=True)
class Shares:
    """Which shares of the living models a day changes, adds and deletes."""

    changed: float = 0.01
    new: float = 0.002
    deleted: float = 0.0005


@dataclass(frozen=True, slots=True)
class Day:
    """What happened on a day, and how many models live after it."""

    day: int
    changed: int
    new: int
    deleted: int
    models: int


class SimulatedHub:
    """A population that changes by days, and its two listings."""

    def __init__(self, population: Population, seed: int) -> None:
        self.population = population
        self._draws = Draws(seed)
        self._versions = np.zeros(population.n_models, np.uint16)
        self._deleted = np.zeros(population.n_models, np.bool_)
        self._orders: dict[str, Ints] = {}
        self._sort()

    @property
    def n_living(self) -> int:
        """How many models the listing shows."""
        return len(self._orders["createdAt"])

    def advance(self, shares: Shares) -> Day:
        """Let a day pass: some models change, some are deleted, some are new.

        Raises
        ------
        ValueError
            A share is not in [0, 1], or there is no room for the new models.
        """
        if not all(0 <= share <= 1 for share in (shares.changed, shares.new, shares.deleted)):
            raise ValueError("shares must be in [0, 1]")
        day = self.population.n_days + 1
        n_new = round(self.n_living * shares.new)
        self.population.grow(n_new)
        n_changed = n_deleted = 0
        for start in range(0, len(self._versions), _BLOCK):
            index = np.arange(start, min(start + _BLOCK, len(self._versions)))
            living = ~self._deleted[index]
            goes = living & (self._draws.share(f"deleted {day}", index) < shares.deleted)
            changes = living & ~goes & (self._draws.share(f"changed {day}", index) < shares.changed)
            self._deleted[index[goes]] = True
            self._versions[index[changes]] = day
            n_changed, n_deleted = n_changed + int(changes.sum()), n_deleted + int(goes.sum())
        self._versions = np.append(self._versions, np.zeros(n_new, np.uint16))
        self._deleted = np.append(self._deleted, np.zeros(n_new, np.bool_))
        self._sort()
        return Day(day, n_changed, n_new, n_deleted, self.n_living)

    def _sort(self) -> None:
        # One integer sorts and names a model: its time and, below, its index.
        living = np.flatnonzero(~self._deleted)
        keys = np.empty_like(living)
        for start in range(0, len(living), _BLOCK):
            index = living[start : start + _BLOCK]
            modified = self.population.modified(index, self._version_of(index))
            keys[start : start + _BLOCK] = modified << _INDEX_BITS | index
        keys.sort()
        self._orders = {"createdAt": living, "lastModified": keys}

    def _version_of(self, index: Ints) -> Ints:
        return self._versions[index].astype(np.int64)

    def page(
        self, sort: str, before: int | None, limit: int, fields: Collection[str]
    ) -> tuple[bytes, int | None]:
        """A page of the listing, newest first, and the key of its last model if more follow.

        `before` is the key of the last model of the page before: what moves to the front between
        two pages is not seen again, and nothing that stays is left out.
        """
        keys = self._orders[sort]
        stop = len(keys) if before is None else int(np.searchsorted(keys, before))
        shown = keys[max(0, stop - limit) : stop][::-1]
        index = shown & _INDEX_MASK
        records = self.population.render(index, self._version_of(index), fields)
        more = int(shown[-1]) if stop > limit else None
        return b"[" + b",".join(records) + b"]", more

    def record(self, repo_id: str, fields: Collection[str]) -> bytes | None:
        """One model's record; None when there is no such model (any more)."""
        found = self.population.find(repo_id)
        if found is None or self._deleted[found]:
            return None
        index = np.array([found])
        return self.population.render(index, self._version_of(index), fields)[0]


class _Ledger:
    """The days that passed, shared by all processes: each lets them pass for itself."""

    _DAY = struct.Struct("3d")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 + _MAX_DAYS * self._DAY.size)
        self.lock = multiprocessing.Lock()

    def days(self) -> int:
        return int.from_bytes(self._memory[:8], sys.byteorder)

    def shares(self, day: int) -> Shares:
        return Shares(*self._DAY.unpack_from(self._memory, 8 + (day - 1) * self._DAY.size))

    def append(self, shares: Shares) -> None:
        day = self.days() + 1
        values = (shares.changed, shares.new, shares.deleted)
        self._DAY.pack_into(self._memory, 8 + (day - 1) * self._DAY.size, *values)
        self._memory[:8] = day.to_bytes(8, sys.byteorder)


class _Quota:
    """The fixed window of a rate limit; every process counts on its own."""

    def __init__(self, quota: int, clock: Callable[[], float]) -> None:
        self._quota, self._clock = quota, clock
        self._ends, self._left = clock() + _WINDOW_S, quota

    def spend(self) -> dict[str, str]:
        """Count a request; the headers that say what is left.

        Raises
        ------
        Refusal
            429: nothing is left.
        """
        now = self._clock()
        if now >= self._ends:
            self._ends, self._left = now + _WINDOW_S, self._quota
        wait_s = math.ceil(self._ends - now)
        policy = {"RateLimit-Policy": f'"fixed window";"api";q={self._quota};w={_WINDOW_S}'}
        if self._left == 0:
            waiting = {"RateLimit": f'"api";r=0;t={wait_s}', "Retry-After": str(wait_s)}
            raise Refusal(429, "We had to rate limit you", headers={**policy, **waiting})
        self._left -= 1
        return {**policy, "RateLimit": f'"api";r={self._left};t={wait_s}'}


class _Answers:
    """The answers, by path."""

    def __init__(self, hub: SimulatedHub, ledger: _Ledger, quota: _Quota) -> None:
        self._hub, self._ledger, self._quota = hub, ledger, quota

    async def answer(self, request: Request) -> Response:
        parts = [unquote(part) for part in request.url.path[1:].split("/")]
        if request.method == "POST":
            if parts != ["advance"]:
                raise Refusal(405, "Method not allowed")
            return await self._advance(request)
        headers = self._quota.spend()
        self._catch_up()
        try:
            body = self._get(parts, request, headers)
        except Refusal as refusal:
            refusal.headers.update(headers)
            raise
        return Response(body, headers=headers, media_type="application/json; charset=utf-8")

    def _get(self, parts: Sequence[str], request: Request, headers: dict[str, str]) -> bytes:
        query = Query(request.query_params.multi_items())
        match parts:
            case ["api", "models"]:
                return self._list(request, query, headers)
            case ["api", "models", owner, name]:
                fields = query.expand(EXPANDABLE) or FIELDS
                record = self._hub.record(f"{owner}/{name}", fields)
                if record is None:
                    raise Refusal(404, "Repository not found", "RepoNotFound")
                return record
            case ["api", "models", *_]:
                raise Refusal(404, "Repository not found", "RepoNotFound")
        raise Refusal(404, "Sorry, we can't find the page you are looking for.")

    def _list(self, request: Request, query: Query, headers: dict[str, str]) -> bytes:
        fields = query.expand(EXPANDABLE_IN_LISTINGS) or LISTED
        sort = query.one("sort") or "createdAt"
        if sort not in ("createdAt", "lastModified"):
            raise Refusal(400, '"sort" must be one of [createdAt, lastModified]')
        if query.one("direction") not in (None, "-1"):
            raise Refusal(400, '"direction" must be -1')
        for name in _UNSERVED:
            if query.one(name) is not None:
                raise Refusal(400, f'"{name}" is not simulated')
        limit = query.number("limit", _PAGE, _PAGE)
        body, last = self._hub.page(sort, _read_cursor(query.one("cursor")), limit, fields)
        if last is not None:
            pairs = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
            cursor = base64.urlsafe_b64encode(f"before:{last}".encode()).decode()
            address = request.url.replace(query=urlencode([*pairs, ("cursor", cursor)]))
            headers["Link"] = f'<{address}>; rel="next"'
        return body

    async def _advance(self, request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY_BYTES:
                raise Refusal(413, "Request entity too large")
        shares = _read_shares(read_form(request, body)) if body else Shares()
        with self._ledger.lock:
            self._catch_up()
            if self._ledger.days() == _MAX_DAYS:
                raise Refusal(400, f"At most {_MAX_DAYS} days can pass")
            try:
                # Passes here first: what cannot pass is not written down for the others.
                day = self._hub.advance(shares)
                self._ledger.append(shares)
            except ValueError as error:
                raise Refusal(400, str(error)) from error
        return Response(orjson.dumps(asdict(day)), media_type="application/json")

    def _catch_up(self) -> None:
        while self._hub.population.n_days < self._ledger.days():
            self._hub.advance(self._ledger.shares(self._hub.population.n_days + 1))


def _read_cursor(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor.encode("ascii"), b"-_", validate=True)
    except ValueError as error:
        raise Refusal(400, "Invalid cursor") from error
    match = re.fullmatch(rb"before:([0-9]{1,18})", text)
    if match is None:
        raise Refusal(400, "Invalid cursor")
    return int(match[1])


def _read_shares(form: Query) -> Shares:
    values: Mapping[str, str] = {key.removeprefix("share_"): value for key, value in form.pairs}
    try:
        shares = Shares(**{key: float(value) for key, value in values.items()})
    except (TypeError, ValueError) as error:
        raise Refusal(400, "shares are share_changed, share_new, share_deleted") from error
    return shares


def make_app(
    hub: SimulatedHub,
    *,
    quota: int = 1_000_000,
    ledger: _Ledger | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Starlette:
    """The application that serves `hub`; `quota` requests are answered in each five minutes."""
    answers = _Answers(hub, ledger or _Ledger(), _Quota(quota, clock))
    return Starlette(
        routes=[Route("/{path:path}", answers.answer, methods=["GET", "HEAD", "POST"])],
        exception_handlers={Refusal: refuse},
    )


def _run(app: Starlette, listener: socket.socket) -> None:
    config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, log_level="critical")
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="simulated_hub", description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=3_000_000)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--quota", type=int, default=1_000_000, help="requests in five minutes")
    parser.add_argument("--data", type=Path, default=SHARED_DATA, help="the folder of real data")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        population = Population.learn(options.data, options.models, options.seed)
    except MissingDataError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return EXIT_NO_DATA
    except ValueError as error:
        parser.error(str(error))
    hub = SimulatedHub(population, options.seed)
    app = make_app(hub, quota=options.quota, ledger=_Ledger())
    # With the protocol named, asyncio sets TCP_NODELAY; without it each answer takes 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", options.port))
        listener.listen(128)
        # uvicorn raises the signal again when it has stopped: as an exit, it ends the children too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        fork = multiprocessing.get_context("fork")
        for _ in range(options.processes - 1):
            fork.Process(target=_run, args=(app, listener), daemon=True).start()
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{hub.n_living} models, started in {time.monotonic() - started:.1f} s, "
            f"at most {peak_mb:.0f} MB",
            file=sys.stderr,
        )
        print(f"ready http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        _run(app, listener)
    return 0


if __name__ == "__main__":
    sys.exit(main())
