"""The HTTP client: budgets, tries, translated errors, and ranges that keep their word."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import pytest
from huggingface_hub import set_client_factory
from huggingface_hub.utils import close_session

from crawler.budgets import Budgets
from crawler.client import Address, Hub
from crawler.errors import (
    DisabledError,
    FileChangedError,
    GatedError,
    MalformedError,
    NotFoundError,
    PermanentError,
    RangeIgnoredError,
    RateLimitedError,
    ServerError,
    TruncatedError,
)
from crawler.ranges import RangeReader
from crawler.records import RepoRef

REF = RepoRef("owner/name", "a" * 40)
DATA = bytes(range(256)) * 40

Handler = Callable[[httpx2.Request], httpx2.Response]


class Server:
    """Answers requests by a function and remembers them."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests: list[httpx2.Request] = []
        self.slept: list[float] = []
        self.now = 0.0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return self.handler(request)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def hub(self, token: str | None = None) -> Hub:
        return Hub("https://hub.test", token, sleep=self.sleep, clock=lambda: self.now)


@pytest.fixture
def serve() -> Iterator[Callable[[Handler], Server]]:
    def start(handler: Handler) -> Server:
        server = Server(handler)
        set_client_factory(
            lambda: httpx2.Client(transport=httpx2.MockTransport(server), follow_redirects=True)
        )
        return server

    yield start
    close_session()
    from huggingface_hub.utils._http import default_client_factory

    set_client_factory(default_client_factory)


def file_server(request: httpx2.Request) -> httpx2.Response:
    if request.method == "HEAD":
        return httpx2.Response(200, headers={"x-linked-size": str(len(DATA)), "etag": '"e"'})
    start, stop = request.headers["range"].removeprefix("bytes=").split("-")
    part = DATA[int(start) : int(stop) + 1]
    return httpx2.Response(
        206, content=part, headers={"content-range": f"bytes {start}-{stop}/{len(DATA)}"}
    )


def test_spans_come_back_in_the_order_asked_and_neighbours_share_a_request(serve):
    server = serve(file_server)
    reader = RangeReader(server.hub())
    spans = [(5000, 5100), (0, 10), (20, 30), (9990, 10000)]
    assert reader.read(REF, "m.safetensors", spans) == [DATA[a:b] for a, b in spans]
    assert reader.requests == 3
    assert reader.bytes_read >= 130
    reader.read(REF, "m.safetensors", [(1, 2)])
    assert sum(r.method == "HEAD" for r in server.requests) == 1


def test_ranges_are_inclusive_on_the_wire_and_ask_for_plain_bytes(serve):
    server = serve(file_server)
    server.hub().get_range(Address("https://hub.test/x", len(DATA), None), 10, 20)
    assert server.requests[0].headers["range"] == "bytes=10-19"
    assert server.requests[0].headers["accept-encoding"] == "identity"


def test_a_span_beyond_the_file_is_refused_before_any_range_is_read(serve):
    server = serve(file_server)
    with pytest.raises(MalformedError, match="were wanted"):
        RangeReader(server.hub()).read(REF, "m", [(0, len(DATA) + 1)])
    assert [r.method for r in server.requests] == ["HEAD"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx2.Response(200, content=DATA), RangeIgnoredError),
        (
            httpx2.Response(206, content=b"123", headers={"content-range": "bytes 0-9/10240"}),
            TruncatedError,
        ),
        (
            httpx2.Response(206, content=b"0" * 10, headers={"content-range": "bytes 5-14/10240"}),
            MalformedError,
        ),
        (
            httpx2.Response(206, content=b"0" * 10, headers={"content-range": "bytes 0-9/77"}),
            FileChangedError,
        ),
        (
            httpx2.Response(206, content=b"0" * 99, headers={"content-range": "bytes 0-9/10240"}),
            MalformedError,
        ),
        (httpx2.Response(416), PermanentError),
    ],
)
def test_answers_that_are_not_the_range_asked_for_are_refused(serve, answer, error):
    server = serve(lambda _: answer)
    with pytest.raises(error):
        server.hub().get_range(Address("https://hub.test/x", 10240, None), 0, 10)


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (404, {"x-error-code": "RepoNotFound"}, NotFoundError),
        (404, {"x-error-code": "EntryNotFound"}, NotFoundError),
        (401, {}, NotFoundError),
        (401, {"x-error-code": "GatedRepo"}, GatedError),
        (403, {"x-error-code": "GatedRepo"}, GatedError),
        (403, {"x-error-message": "Access to this resource is disabled."}, DisabledError),
        (400, {}, PermanentError),
    ],
)
def test_refusals_are_translated_and_not_repeated(serve, status, headers, error):
    server = serve(lambda _: httpx2.Response(status, headers=headers))
    with pytest.raises(error):
        server.hub().get("api/models")
    assert len(server.requests) == 1


def test_a_failing_server_is_tried_again_with_growing_pauses(serve):
    answers = iter([httpx2.Response(500), httpx2.Response(503), httpx2.Response(200, text="ok")])
    server = serve(lambda _: next(answers))
    assert server.hub().get("api/models") == b"ok"
    assert len(server.slept) == 2
    assert server.slept[1] > server.slept[0] / 2


def test_a_server_that_keeps_failing_is_given_up(serve):
    server = serve(lambda _: httpx2.Response(500))
    with pytest.raises(ServerError):
        server.hub().get("api/models")
    assert 3 <= len(server.requests) <= 10


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "99999"}, 300.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"ratelimit": '"api";r=0;t=9'}, 9.0),
    ],
)
def test_retry_after_is_honoured_and_capped(serve, headers, wait_s):
    answers = iter([httpx2.Response(429, headers=headers), httpx2.Response(200, text="ok")])
    server = serve(lambda _: next(answers))
    assert server.hub().get("api/models") == b"ok"
    assert max(server.slept, default=0.0) == pytest.approx(wait_s)


def test_a_used_up_budget_delays_the_next_request_of_its_kind_only(serve):
    server = serve(
        lambda _: httpx2.Response(200, text="ok", headers={"ratelimit": '"api";r=0;t=30'})
    )
    hub = server.hub()
    hub.get("api/models")
    hub.get(f"owner/name/resolve/{'a' * 40}/README.md")
    assert server.slept == []
    hub.get("api/models")
    assert server.slept == [30.0]


def test_a_broken_connection_is_tried_again(serve):
    calls = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        calls.append(request)
        if len(calls) == 1:
            raise httpx2.RemoteProtocolError("peer closed connection")
        if len(calls) == 2:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(200, text="ok")

    assert serve(handler).hub().get("api/models") == b"ok"


def test_rate_limits_that_never_end_are_reported_as_such(serve):
    server = serve(lambda _: httpx2.Response(429, headers={"retry-after": "1"}))
    with pytest.raises(RateLimitedError) as caught:
        server.hub().get("api/models")
    assert caught.value.wait_s == 1.0


def test_the_token_goes_to_the_hub_and_not_to_signed_addresses(serve):
    server = serve(file_server)
    hub = server.hub(token="hf_secret")
    hub.get_range(Address("https://hub.test/x", len(DATA), None), 0, 1)
    hub.get_range(Address("https://cdn.test/x?sig=1", len(DATA), None), 0, 1)
    assert server.requests[0].headers["authorization"] == "Bearer hf_secret"
    assert "authorization" not in server.requests[1].headers


def test_an_expired_signed_address_is_resolved_again(serve):
    state = {"expired": True}

    def handler(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "hub.test":
            return httpx2.Response(302, headers={"location": "https://cdn.test/file?sig=1"})
        if request.method == "GET" and state.pop("expired", False):
            return httpx2.Response(403)
        return file_server(request)

    server = serve(handler)
    assert RangeReader(server.hub()).read(REF, "m", [(3, 9)]) == [DATA[3:9]]


def test_a_body_longer_than_its_bound_is_not_read_to_the_end(serve):
    server = serve(lambda _: httpx2.Response(200, content=b"x" * 5000))
    with pytest.raises(MalformedError, match="longer than 100 bytes"):
        server.hub().get("api/models", max_bytes=100)


def test_the_next_page_is_followed_verbatim(serve):
    link = '<https://hub.test/api/models?cursor=x%3D&limit=2>; rel="next"'
    server = serve(lambda _: httpx2.Response(200, text="[]", headers={"link": link}))
    assert server.hub().get_page("api/models", {"expand": ["sha", "tags"]}) == (
        b"[]",
        "https://hub.test/api/models?cursor=x%3D&limit=2",
    )
    assert str(server.requests[0].url).endswith("expand=sha&expand=tags")


def test_requests_under_way_are_counted_against_the_budget_before_the_server_sees_them(serve):
    headers = {"ratelimit": '"api";r=2;t=100', "ratelimit-policy": '"fixed window";"api";q=9;w=300'}
    server = serve(lambda _: httpx2.Response(200, headers=headers, content=b"[]"))
    hub = server.hub()
    hub.get("api/models")
    (budget,) = hub.budgets()
    assert (budget.resource, budget.remaining, budget.reset_s) == ("api", 2, 100.0)
    server.handler = lambda _: httpx2.Response(200, content=b"[]")  # no word of a budget
    hub.get("api/models")
    hub.get("api/models")
    assert server.slept == []
    hub.get("api/models")
    assert server.slept == [100.0]
    assert hub.budgets() == ()


def said(remaining: int, reset_s: int) -> dict[str, str]:
    return {"ratelimit": f'"api";r={remaining};t={reset_s}'}


def test_an_answer_that_was_overtaken_gives_nothing_back():
    budgets = Budgets(lambda: 0.0)
    for _ in range(3):
        assert budgets.take("api") is None
    budgets.note(said(7, 60))
    budgets.done("api")
    assert budgets.known()[0].remaining == 5  # two are under way, which the server had not seen
    budgets.note(said(9, 60))
    budgets.done("api")
    budgets.note(said(8, 60))
    budgets.done("api")
    assert budgets.known()[0].remaining == 5
    budgets.note(said(50, 90))
    assert budgets.known()[0].remaining == 50  # another window


def test_a_window_is_waited_for_no_longer_than_one_lasts_and_is_over_by_itself():
    now = [0.0]
    budgets = Budgets(lambda: now[0])
    assert budgets.take("api") is None
    budgets.note(said(0, 10**9))
    budgets.done("api")
    used_up = budgets.take("api")
    assert used_up is not None
    assert budgets.wait_s(used_up) == 300
    assert budgets.take(None) is None
    now[0] = 301.0
    assert budgets.take("api") is None
    assert budgets.n_requests == 3


def test_an_overloaded_server_that_says_for_how_long_is_waited_for(serve):
    answers = iter([httpx2.Response(503, headers={"retry-after": "42"}), httpx2.Response(200)])
    server = serve(lambda _: next(answers))
    server.hub().get("api/models")
    assert server.slept == [42.0]


def test_a_server_that_drips_is_cut_off(serve):
    server = serve(lambda _: httpx2.Response(200, stream=Drip(server)))
    with pytest.raises(TruncatedError, match="sent"):
        server.hub().get("api/models")


class Drip(httpx2.SyncByteStream):
    """One chunk a minute."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(1000):
            self.server.now += 60
            yield b"x" * 100


def test_a_page_that_is_not_accepted_is_asked_for_again(serve):
    answers = iter([b"[1", b"[1]"])
    server = serve(lambda _: httpx2.Response(200, content=next(answers)))

    def whole(body: bytes, next_url: str | None) -> None:
        if not body.endswith(b"]"):
            raise TruncatedError("half a page")

    assert server.hub().get_page("api/models", accept=whole) == (b"[1]", None)
    assert len(server.requests) == 2


def test_an_address_with_a_password_is_refused_without_repeating_it():
    with pytest.raises(PermanentError) as refused:
        Hub("https://me:hidden@hub.test")
    assert "hidden" not in str(refused.value)
