"""A Hub for any folder ``owner/name/files…``, for the demonstration and for tests.

It answers what the unmodified Hub client asks for models: listings, details, trees, references,
commits, paths, and files with byte ranges. What it says of a repository comes from
:mod:`crawler.hub_folder` and :mod:`crawler.hub_metadata`. On request it serves data sets that can
be written (:mod:`crawler.hub_datasets`), and fails the way real servers do (:class:`Faults`).
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from html import escape
from pathlib import Path
from urllib.parse import unquote

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawler.errors import NotFoundError
from crawler.hub_datasets import DatasetHub
from crawler.hub_folder import HostedFile, HostedRepo, HubFolder, digests_of
from crawler.hub_http import (
    Faults,
    FileBody,
    Limits,
    Query,
    Refusal,
    is_turn,
    page,
    parse_span,
    read_form,
    refuse,
)
from crawler.hub_metadata import Description, describe
from crawler.hub_records import (
    EXPANDABLE,
    EXPANDABLE_IN_LISTINGS,
    LISTED,
    LISTED_IN_FULL,
    Json,
    commit_record,
    model_record,
    sibling_record,
    tree_record,
)

__all__ = ["Faults", "make_app", "running_hub", "serve"]

_PAGE = 1000
_PAGE_EXPANDED = 50
_MAX_BODY_BYTES = 4 << 20
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 2
_SORTS = frozenset({"createdAt", "downloads", "lastModified", "likes", "trendingScore"})


def _no_file(headers: Mapping[str, str] | None = None) -> Refusal:
    return Refusal(404, "Entry not found", "EntryNotFound", headers)


def _no_repo() -> Refusal:
    return Refusal(404, "Repository not found", "RepoNotFound")


def _no_page() -> Refusal:
    return Refusal(404, "Sorry, we can't find the page you are looking for.")


class _Hub:
    """The answers, by path. `folder` is looked at anew on each request."""

    def __init__(self, folder: HubFolder, faults: Faults, accepted_tokens: Collection[str]) -> None:
        self._folder, self._faults = folder, faults
        self._accepted_tokens = frozenset(accepted_tokens)
        self._descriptions: dict[str, tuple[str, Description]] = {}
        self._bodies = itertools.count(1)

    async def answer(self, request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY_BYTES:
                raise Refusal(413, "Request entity too large")
        return await run_in_threadpool(self._route, request, body)

    def _route(self, request: Request, body: bytes) -> Response:
        # The raw path tells the slash inside a revision or a path (%2F) from those between parts.
        raw: bytes = request.scope["raw_path"]
        parts = [unquote(part) for part in raw.decode("ascii", errors="replace")[1:].split("/")]
        try:
            match parts:
                case ["api", "models"] if request.method != "POST":
                    return self._list(request)
                case ["api", "models", owner, name, *rest]:
                    repo = self._readable(f"{owner}/{name}")
                    return self._api(repo, rest, request, body)
                case ["api", "models" | "datasets" | "spaces", *_] | [_, "resolve", *_]:
                    raise _no_repo()
                case ["api", "whoami-v2"]:
                    raise Refusal(401, "Invalid username or password.")
                case [owner, name, "resolve", revision, *rest] if owner != "api":
                    return self._resolve(f"{owner}/{name}", revision, "/".join(rest), request)
        except NotFoundError as error:  # a file went away between two looks
            raise _no_file() from error
        raise _no_page()

    def _api(self, repo: HostedRepo, rest: list[str], request: Request, body: bytes) -> Response:
        query = Query(request.query_params.multi_items())
        if request.method == "POST":
            match rest:
                case ["paths-info", revision]:
                    return self._paths(_at(repo, revision), read_form(request, body))
            raise Refusal(405, "Method not allowed")
        match rest:
            case []:
                return self._detail(repo, query)
            case ["revision", revision]:
                return self._detail(_at(repo, revision), query)
            case ["tree", revision, *inside]:
                return self._tree(_at(repo, revision), "/".join(inside).strip("/"), request)
            case ["refs"]:
                return self._refs(repo, query)
            case ["commits", revision]:
                return self._commits(_at(repo, revision), query)
            case ["auth-check"]:
                self._require_access(repo, request)
                return Response(b"", 200)
        raise _no_page()

    def _readable(self, repo_id: str) -> HostedRepo:
        repo = self._folder.repo(repo_id)
        if repo is None:
            raise _no_repo()
        if repo.entry.disabled:
            raise Refusal(403, "Access to this resource is disabled.")
        return repo

    def _require_access(self, repo: HostedRepo, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = scheme.lower() == "bearer" and token != ""
        if repo.entry.gated and not (given and token in self._accepted_tokens):
            message = f"Access to model {repo.repo_id} is restricted."
            raise Refusal(403 if given else 401, message, "GatedRepo", _commit_header(repo))

    def _describe(self, repo: HostedRepo) -> Description:
        """What the files say, derived once per state of the repository."""
        known = self._descriptions.get(repo.repo_id)
        if known is None or known[0] != repo.state:
            known = self._descriptions[repo.repo_id] = (repo.state, describe(repo))
        return known[1]

    def _record(self, repo: HostedRepo, fields: Collection[str] | None = None) -> dict[str, Json]:
        record = model_record(repo, self._describe(repo))
        if fields is None or "siblings" in fields:
            record["siblings"] = [{"rfilename": path} for path in repo.files]
        if fields is None:
            return record
        return {key: value for key, value in record.items() if key in fields}

    def _list(self, request: Request) -> Response:
        query = Query(request.query_params.multi_items())
        expand = query.expand(EXPANDABLE_IN_LISTINGS)
        fields = {"_id", "id", *expand}
        if not expand:
            fields = set(LISTED_IN_FULL if query.flag("full") else LISTED)
            fields |= {key for key in ("cardData", "config") if query.flag(key)}
        sort = query.one("sort")
        if sort is not None and sort not in _SORTS:
            raise Refusal(400, f'"sort" must be one of [{", ".join(sorted(_SORTS))}]')
        found = [repo for repo in self._folder.repos() if self._matches(repo, query)]
        if sort is not None:
            found.sort(key=_SORT_KEYS[sort], reverse=query.one("direction") != "1")
        return page(request, found, _PAGE, lambda repo: self._record(repo, fields))

    def _matches(self, repo: HostedRepo, query: Query) -> bool:
        author, search = query.one("author"), query.one("search")
        if author is not None and repo.repo_id.split("/")[0].lower() != author.lower():
            return False
        if search is not None and search.lower() not in repo.repo_id.lower():
            return False
        gated = query.one("gated")
        if gated is not None and (repo.entry.gated is not None) != query.flag("gated"):
            return False
        tags, task = query.all("filter"), query.one("pipeline_tag")
        if not tags and task is None:
            return True
        description = self._describe(repo)
        return set(tags) <= set(description.tags) and task in (None, description.task)

    def _detail(self, repo: HostedRepo, query: Query) -> Response:
        expand = query.expand(EXPANDABLE)
        record = self._record(repo, {"_id", "id", *expand} if expand else None)
        if "childrenModelCount" in expand:
            tag = f"base_model:{repo.repo_id}"
            record["childrenModelCount"] = sum(
                tag in self._describe(other).tags for other in self._folder.repos()
            )
        if not expand:
            record.pop("baseModels", None)
            record.pop("downloadsAllTime", None)
        if query.flag("blobs"):
            record["siblings"] = [sibling_record(file) for file in repo.files.values()]
        return JSONResponse(record)

    def _tree(self, repo: HostedRepo, inside: str, request: Request) -> Response:
        query = Query(request.query_params.multi_items())
        prefix = f"{inside}/" if inside else ""
        paths = [path for path in repo.files if path.startswith(prefix)]
        if inside and not paths:
            raise _no_file(_commit_header(repo))
        entries: dict[str, HostedFile | None] = {}
        for path in paths:
            steps = path[len(prefix) :].split("/")
            deepest = len(steps) if query.flag("recursive") else 1
            for depth in range(1, min(deepest, len(steps) - 1) + 1):
                entries[prefix + "/".join(steps[:depth])] = None
            if len(steps) <= deepest:
                entries[path] = repo.files[path]
        expand = query.flag("expand")
        return page(
            request,
            sorted(entries.items()),
            _PAGE_EXPANDED if expand else _PAGE,
            lambda item: tree_record(repo, *item, expand=expand),
        )

    def _paths(self, repo: HostedRepo, form: Query) -> Response:
        found = []
        for path in dict.fromkeys(form.all("paths")):
            file = repo.files.get(path)
            is_folder = any(other.startswith(f"{path}/") for other in repo.files)
            if file is not None or is_folder:
                found.append(tree_record(repo, path, file, expand=form.flag("expand")))
        return JSONResponse(found)

    def _refs(self, repo: HostedRepo, query: Query) -> Response:
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.revision}
        refs: dict[str, object] = {"branches": [main], "converts": [], "tags": []}
        if query.flag("include_prs"):
            refs["pullRequests"] = []
        return JSONResponse(refs)

    def _commits(self, repo: HostedRepo, query: Query) -> Response:
        author = repo.repo_id.split("/")[0]
        commit: dict[str, object] = {**commit_record(repo), "message": ""}
        commit["authors"] = [{"user": author, "avatar": ""}]
        if "formatted" in query.all("expand"):
            commit["formatted"] = {"title": escape(str(commit["title"])), "message": ""}
        commits = [commit] if query.one("p") in (None, "0") else []
        return JSONResponse(commits, headers={"X-Total-Count": "1"})

    def _resolve(self, repo_id: str, revision: str, path: str, request: Request) -> Response:
        if request.method == "POST":
            raise Refusal(405, "Method not allowed")
        repo = _at(self._readable(repo_id), revision)
        self._require_access(repo, request)
        # Only what the folder's scan found is served: no path ever leads out of the repository.
        file = repo.files.get(path)
        if file is None:
            raise _no_file(_commit_header(repo))
        etag = f'"{digests_of(file).etag}"'
        headers = {**_commit_header(repo), "ETag": etag, "Accept-Ranges": "bytes"}
        headers |= {"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment"}
        if file.is_large:
            headers |= {"X-Linked-Size": str(file.size_bytes), "X-Linked-ETag": etag}
        wanted = request.headers.get("range", "")
        if self._faults.ignore_ranges or request.headers.get("if-range", etag) != etag:
            wanted = ""
        span = parse_span(wanted, file.size_bytes, headers)
        start, stop = span or (0, file.size_bytes)
        if span is not None:
            shown = start + 1 if self._faults.corrupt_range else start
            headers["Content-Range"] = f"bytes {shown}-{stop - 1}/{file.size_bytes}"
        if path in self._faults.truncate:
            stop = start + (stop - start) // 2
        headers["Content-Length"] = str(stop - start)
        sent = stop - start
        if request.method == "GET" and is_turn(next(self._bodies), self._faults.drop_every):
            sent //= 2
        return FileBody(file, (start, stop), sent, 206 if span else 200, headers)


_SORT_KEYS: Mapping[str, Callable[[HostedRepo], float]] = {
    "createdAt": lambda repo: repo.created_at.timestamp(),
    "lastModified": lambda repo: repo.last_modified.timestamp(),
    "downloads": lambda repo: repo.entry.downloads,
    "likes": lambda repo: repo.entry.likes,
    "trendingScore": lambda repo: 0,
}


def _at(repo: HostedRepo, revision: str) -> HostedRepo:
    known = {"main", "refs/heads/main", "HEAD", repo.revision}
    is_short = len(revision) >= 7 and repo.revision.startswith(revision)
    if revision not in known and not is_short:
        raise Refusal(404, f"Invalid rev id: {revision[:80]!a}", "RevisionNotFound")
    return repo


def _commit_header(repo: HostedRepo) -> dict[str, str]:
    return {"X-Repo-Commit": repo.revision}


def make_app(
    folder: Path,
    *,
    faults: Faults = Faults(),  # noqa: B008 - frozen
    vanish: bool = False,
    accepted_tokens: Collection[str] = (),
    datasets: DatasetHub | None = None,
) -> Starlette:
    """Build the application that serves `folder`.

    Parameters
    ----------
    folder
        Holds ``owner/name/files…`` and perhaps ``hub.json`` (see :mod:`crawler.hub_folder`).
    faults
        How to misbehave.
    vanish
        Hide the repositories that ``hub.json`` says vanish.
    accepted_tokens
        Bearer tokens that may read gated repositories.
    datasets
        Data sets that are served, and can be written, beside the models.

    Raises
    ------
    NotFoundError
        There is no such folder.
    MalformedError
        Its ``hub.json`` cannot be used.
    """
    hub = _Hub(HubFolder(folder, vanish=vanish), faults, accepted_tokens)
    models = Route("/{path:path}", hub.answer, methods=["GET", "HEAD", "POST"])
    return Starlette(
        routes=[*(datasets.routes() if datasets else ()), models],
        middleware=[Middleware(Limits, faults=faults)],
        exception_handlers={Refusal: refuse},
    )


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    # With the protocol named, asyncio sets TCP_NODELAY; without it each answer takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """A server that says when it is ready."""

    def __init__(self, app: Starlette) -> None:
        # No logging: faults are meant, and standard error belongs to the command.
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="critical",
            timeout_graceful_shutdown=_STOP_TIMEOUT_S,
        )
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def serve(
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    faults: Faults = Faults(),  # noqa: B008 - frozen
    vanish: bool = False,
    accepted_tokens: Collection[str] = (),
    datasets: DatasetHub | None = None,
) -> None:
    """Serve `folder` until interrupted; the parameters are those of :func:`make_app`.

    Raises
    ------
    OSError
        The port is taken, or the host is not this machine's.
    """
    app = make_app(
        folder, faults=faults, vanish=vanish, accepted_tokens=accepted_tokens, datasets=datasets
    )
    with _listen(host, port) as listener, contextlib.suppress(KeyboardInterrupt):
        _Server(app).run(sockets=[listener])


@contextlib.contextmanager
def running_hub(
    folder: Path,
    *,
    faults: Faults = Faults(),  # noqa: B008 - frozen
    vanish: bool = False,
    accepted_tokens: Collection[str] = (),
    datasets: DatasetHub | None = None,
) -> Iterator[str]:
    """Serve `folder` from a thread on a free port of this machine; yields the endpoint.

    The parameters are those of :func:`make_app`. On leaving, the server has stopped.

    Raises
    ------
    RuntimeError
        The server did not start.
    """
    app = make_app(
        folder, faults=faults, vanish=vanish, accepted_tokens=accepted_tokens, datasets=datasets
    )
    with _listen("127.0.0.1", 0) as listener:
        server = _Server(app)
        thread = threading.Thread(target=server.run, args=([listener],), name="hub", daemon=True)
        address, port = listener.getsockname()
        thread.start()
        try:
            if not server.ready.wait(_START_TIMEOUT_S):
                raise RuntimeError("the local Hub did not start")
            yield f"http://{address}:{port}"
        finally:
            server.should_exit = True
            thread.join()
