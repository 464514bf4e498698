"""A Hub whose every answer is archived, and the same Hub played again from the archive.

Whatever is parsed was archived first, so that a crawl can be repeated without the network: the
same code then reads the archived answers, at the times at which they came.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

from crawler.archive import Archive, ArchivedAnswer
from crawler.client import Budget, Hub
from crawler.errors import (
    CrawlError,
    DisabledError,
    GatedError,
    MalformedError,
    NotFoundError,
    PermanentError,
    RangeIgnoredError,
    RateLimitedError,
    RetryableError,
    ServerError,
    TruncatedError,
)
from crawler.ranges import RangeReader
from crawler.records import RepoRef

__all__ = ["NotRecordedError", "RecordedHub"]

_BY_CODE: dict[str, type[CrawlError]] = {
    error.code: error
    for error in (
        DisabledError, GatedError, MalformedError, NotFoundError, PermanentError,
        RangeIgnoredError, RetryableError, ServerError, TruncatedError,
    )
}  # fmt: skip


class NotRecordedError(CrawlError):
    """The archive holds no answer to this request: it was not asked in that run."""

    code = "not_recorded"


class RecordedHub:
    """A Hub, an archive before it, and the scope under which answers are kept.

    Parameters
    ----------
    hub
        None: nothing is asked, only what is archived is answered.
    archive
        Where answers are kept; None: nowhere.
    scope
        Name of the run; within it a request is asked once.
    clock
        Time of an answer; injected by tests.
    """

    def __init__(
        self,
        hub: Hub | None,
        archive: Archive | None,
        scope: str = "",
        *,
        endpoint: str | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._hub = hub
        self._archive = archive
        self._clock = clock
        self.scope = scope
        self.endpoint = hub.endpoint if hub is not None else (endpoint or "")

    @property
    def n_requests(self) -> int:
        """Requests made so far."""
        return self._hub.n_requests if self._hub is not None else 0

    def budgets(self) -> tuple[Budget, ...]:
        """What is known of the Hub's budgets."""
        return self._hub.budgets() if self._hub is not None else ()

    def page(
        self, url: str, accept: Callable[[bytes, str | None], None], *, scope: str
    ) -> ArchivedAnswer:
        """One page of a listing, from the archive if it was had within `scope`.

        A page that `accept` refuses is archived apart, and asked for again; one that cannot be had
        is asked for by the next run.
        """
        found = self._find(scope, f"GET {url}")
        if found is not None:
            return found

        def keep_what_is_refused(body: bytes, next_url: str | None) -> None:
            try:
                accept(body, next_url)
            except CrawlError as error:
                at = self._clock()
                refused = f"{scope} refused {at.isoformat()}"
                self._keep(ArchivedAnswer(refused, f"GET {url}", at, body, next_url, error.code))
                raise

        body, next_url = self._require_hub(url).get_page(url, accept=keep_what_is_refused)
        answer = ArchivedAnswer(scope, f"GET {url}", self._clock(), body, next_url)
        self._keep(answer)
        return answer

    def get(self, path: str, *, max_bytes: int) -> ArchivedAnswer:
        """The answer to ``GET endpoint/path``, a JSON object; anything else is asked for again.

        Raises
        ------
        CrawlError
            As the Hub refused it; the refusal is archived too.
        """
        return self._ask(
            f"GET {path}", lambda hub: hub.get(path, max_bytes=max_bytes, accept=_require_object)
        )

    def get_file(
        self, ref: RepoRef, path: str, *, max_bytes: int, size_bytes: int | None = None
    ) -> bytes:
        """A small file, whole; see :meth:`crawler.client.Hub.get_file`."""
        request = f"GET {ref.repo_id}/resolve/{ref.revision}/{path}"

        def fetch(hub: Hub) -> bytes:
            return hub.get_file(ref, path, max_bytes=max_bytes, size_bytes=size_bytes)

        return self._ask(request, fetch).body

    def get_head(self, ref: RepoRef, path: str, n_bytes: int) -> bytes:
        """The first bytes of a file, by one range request."""
        request = f"GET {ref.repo_id}/resolve/{ref.revision}/{path} bytes 0-{n_bytes - 1}"

        def read(hub: Hub) -> bytes:
            (data,) = RangeReader(hub).read(ref, path, [(0, n_bytes)])
            return data

        return self._ask(request, read).body

    def require_readable(self, ref: RepoRef, path: str) -> None:
        """Raise as the Hub does when this token may not read a file."""

        def resolve(hub: Hub) -> bytes:
            hub.resolve(ref, path)
            return b""

        self._ask(f"HEAD {ref.repo_id}/resolve/{ref.revision}/{path}", resolve)

    def decided(self, what: str, decide: Callable[[], list[str]]) -> list[str]:
        """Which repositories this run turns to: decided once, and archived with what it asks.

        Played again, a run turns to the same ones, whatever a newer parser would have chosen.
        """
        request = f"decided: {what}"
        answer = self._find(self.scope, request)
        if answer is not None:
            return [str(repo_id) for repo_id in json.loads(answer.body)]
        if self._hub is None:
            raise NotRecordedError(f"{request} was not reached in the run {self.scope}")
        chosen = decide()
        self._keep(ArchivedAnswer(self.scope, request, self._clock(), json.dumps(chosen).encode()))
        return chosen

    def _ask(self, request: str, fetch: Callable[[Hub], bytes]) -> ArchivedAnswer:
        answer = self._find(self.scope, request)
        if answer is None:
            error: CrawlError | None = None
            try:
                body = fetch(self._require_hub(request))
            except NotRecordedError:
                raise
            except CrawlError as refused:
                error, body = refused, str(refused).encode("utf-8", "replace")
            answer = ArchivedAnswer(
                self.scope, request, self._clock(), body, error=error.code if error else None
            )
            self._keep(answer)
        if answer.error is not None:
            raise _error_of(answer)
        return answer

    def _find(self, scope: str, request: str) -> ArchivedAnswer | None:
        return self._archive.find(scope, request) if self._archive is not None else None

    def _keep(self, answer: ArchivedAnswer) -> None:
        if self._archive is not None:
            self._archive.append(answer)

    def _require_hub(self, request: str) -> Hub:
        if self._hub is None:
            raise NotRecordedError(f"{request} was not asked in the run {self.scope}")
        return self._hub


def _require_object(body: bytes, _: str | None) -> None:
    """Refuse an answer that is no JSON object: what a server or a proxy sends when it fails."""
    try:
        value = json.loads(body.decode("utf-8", "replace"))
    except RecursionError:
        return  # whole, and not to be used: who reads it says so
    except ValueError as error:
        raise TruncatedError(f"the answer is not JSON: {str(error)[:100]}") from error
    if not isinstance(value, dict):
        raise TruncatedError(f"the answer is a {type(value).__name__}, not an object")


def _error_of(answer: ArchivedAnswer) -> CrawlError:
    said = answer.body.decode("utf-8", "replace")
    if answer.error == RateLimitedError.code:
        return RateLimitedError(said, 0.0)
    return _BY_CODE.get(answer.error or "", PermanentError)(said)
