"""Listings page by page, and the archive of raw answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crawler.archive import Archive, ArchivedAnswer
from crawler.client import Hub
from crawler.errors import CrawlError, MalformedError, RetryableError, TruncatedError
from crawler.hub_server import running_hub
from crawler.listed import ListedRepo, ParseFailure, parse_record
from crawler.listing import first_page, list_pages, read_ids, read_listed
from crawler.recorded import NotRecordedError, RecordedHub
from crawler.records import ClaimSource, RepoStatus

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class PagedHub(Hub):
    """Answers listings from a function of the address."""

    def __init__(self, answer: Callable[[str], tuple[bytes, str | None]]) -> None:
        super().__init__("https://hub.test")
        self.answer = answer
        self.asked: list[str] = []

    def get_page(self, path, params=None, *, accept=lambda body, next_url: None, **more):
        for tried in (1, 2, 3):
            self.asked.append(path)
            body, next_url = self.answer(path)
            try:
                accept(body, next_url)
            except RetryableError:
                if tried == 3:
                    raise
            else:
                return body, next_url
        raise AssertionError


def listing(hub: Hub, archive: Archive | None = None, start: str | None = None):
    recorded = RecordedHub(hub, archive, "run", clock=lambda: NOW)
    return list_pages(recorded, start or first_page(), scope="run")


def items(hub: Hub, **options):
    recorded = RecordedHub(hub, None, clock=lambda: NOW)
    pages = list_pages(recorded, first_page(**options), scope="")
    return [item for page in pages for item in page.items]


def page(*records: object) -> bytes:
    return json.dumps(records).encode()


def test_a_listing_of_a_real_server_is_read_whole_and_by_author(tmp_path: Path):
    for name in ("ann/one", "ann/two", "bob/three"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "README.md").write_text("# x")
    with running_hub(tmp_path) as endpoint:
        hub = Hub(endpoint)
        listed = items(hub)
        assert {item.repo_id for item in listed} == {"ann/one", "ann/two", "bob/three"}
        assert all(isinstance(item, ListedRepo) and item.revision for item in listed)
        assert len(items(hub, author="ann")) == 2
        assert len(items(hub, search="three")) == 1
        recorded = RecordedHub(hub, None, clock=lambda: NOW)
        by_id = [read_listed(recorded, name) for name in ("bob/three", "no/body", "../etc")]
    assert [type(item) for item, _ in by_id] == [ListedRepo, ParseFailure, ParseFailure]
    assert [at for _, at in by_id] == [NOW, None, None]
    assert [getattr(item, "code", None) for item, _ in by_id] == [None, "not_found", "malformed"]


def test_ids_are_read_once_each_without_comments(tmp_path: Path):
    (tmp_path / "ids").write_text("# mine\na/b\n\n a/c \na/b\n")
    assert read_ids(tmp_path / "ids") == ["a/b", "a/c"]


def test_one_malformed_record_is_a_failure_with_its_reason_and_the_rest_is_read():
    records = [
        {"id": "a/b", "sha": "0" * 40},
        {"id": "../../etc/passwd"},
        {"id": "a/c", "createdAt": "yesterday"},
        {"id": "a/d", "tags": [1, "x"], "downloads": "many", "sha": 7},
        None,
        {"id": "a/e", "createdAt": "2024-01-01T02:00:00+02:00"},
    ]
    hub = PagedHub(lambda _: (page(*records), None))
    found = items(hub)
    assert [type(item) for item in found] == [
        ListedRepo, ParseFailure, ParseFailure, ListedRepo, ParseFailure, ListedRepo,
    ]  # fmt: skip
    assert isinstance(found[2], ParseFailure)
    assert found[2].repo_id == "a/c"
    assert "yesterday" in found[2].reason
    assert json.loads(found[2].raw or "") == {"id": "a/c", "createdAt": "yesterday"}
    assert isinstance(found[3], ListedRepo)
    assert (found[3].tags, found[3].downloads_30d, found[3].revision) == (("x",), None, None)
    assert isinstance(found[5], ListedRepo)
    assert found[5].created_at == datetime(2024, 1, 1, tzinfo=UTC)


def test_a_record_that_is_no_strict_json_leaves_the_others_whole():
    body = b'[{"id": "a/b"}, {"id": "a/c", "likes": NaN, "tags": ["\\ud800x"]}]'
    found = items(PagedHub(lambda _: (body, None)))
    assert [item.repo_id for item in found] == ["a/b", "a/c"]
    assert (found[1].likes, found[1].tags) == (None, ("\ufffdx",))


def test_a_page_is_archived_before_it_is_parsed_and_asked_for_again_when_it_is_none(tmp_path: Path):
    answers = iter([(b"<html>sorry</html>", None), (page({"id": "a/b"}), None)])
    archive = Archive(tmp_path)
    (only,) = listing(PagedHub(lambda _: next(answers)), archive)
    assert [item.repo_id for item in only.items] == ["a/b"]
    kept = sorted((archive.read(name) for name in archive.names()), key=lambda a: a.scope)
    assert [(answer.error, answer.at) for answer in kept] == [(None, NOW), ("truncated", NOW)]
    assert kept[1].body == b"<html>sorry</html>"


def test_a_page_that_never_comes_whole_is_an_error():
    with pytest.raises(TruncatedError, match="not JSON"):
        list(listing(PagedHub(lambda _: (b"[{", None))))
    with pytest.raises(TruncatedError, match="not a list"):
        list(listing(PagedHub(lambda _: (b"{}", None))))


def test_archived_pages_are_parsed_again_without_the_hub(tmp_path: Path):
    pages = {first_page(): (page({"id": "a/b"}), "api/models?cursor=1"),
             "api/models?cursor=1": (page({"id": "a/c"}), None)}  # fmt: skip
    archive = Archive(tmp_path)
    asked = list(listing(PagedHub(lambda url: pages[url]), archive))
    alone = RecordedHub(None, archive, "run", endpoint="https://hub.test")
    assert list(list_pages(alone, first_page(), scope="run")) == asked
    with pytest.raises(NotRecordedError):
        list(list_pages(alone, first_page(author="x"), scope="run"))


def test_a_listing_goes_on_at_the_address_it_is_given():
    hub = PagedHub(lambda url: (page({"id": "a/b"}), None))
    (only,) = listing(hub, start="https://hub.test/api/models?cursor=x")
    assert hub.asked == ["https://hub.test/api/models?cursor=x"]
    assert only.next_url is None


@pytest.mark.parametrize("address", ["https://evil.test/api/models", "http://hub.test/api/models"])
def test_a_listing_never_leads_to_another_host(address):
    hub = PagedHub(lambda url: (page(), address))
    with pytest.raises(CrawlError, match="another host"):
        list(listing(hub))


def test_a_listing_that_leads_in_a_circle_ends():
    hub = PagedHub(lambda url: (page(), "https://hub.test/api/models?cursor=1"))
    with pytest.raises(CrawlError, match="circle"):
        list(listing(hub))


def test_a_wrong_address_of_the_next_page_is_asked_for_again():
    ways = iter(["https://evil.test/api/models", None])
    (only,) = listing(PagedHub(lambda url: (page({"id": "a/b"}), next(ways))))
    assert only.next_url is None


def test_tags_and_the_copy_of_the_card_make_claims():
    record = {
        "id": "a/b",
        "tags": ["base_model:x/y", "base_model:quantized:x/y", "en"],
        "cardData": {"base_model": ["x/y", "./local"], "base_model_relation": "quantized"},
    }
    listed = parse_record(record, NOW)
    assert {(c.parent, c.parent_text, c.relation, c.source) for c in listed.claims} == {
        ("x/y", "x/y", "quantized", ClaimSource.TAG),
        ("x/y", "x/y", "quantized", ClaimSource.CARD),
        (None, "./local", "quantized", ClaimSource.CARD),
    }
    assert listed.sources == {ClaimSource.TAG, ClaimSource.CARD}
    assert parse_record({"id": "a/b"}, NOW).sources == {ClaimSource.TAG}


def test_the_state_of_a_record_is_moved_by_what_it_says_and_not_by_counts():
    record = {"id": "a/b", "sha": "1" * 40, "downloads": 1, "likes": 1, "tags": ["x"]}
    state = parse_record(record, NOW).state
    later = NOW + timedelta(days=1)
    assert (
        parse_record({**record, "downloads": 2, "likes": 9, "trendingScore": 3}, later).state
        == state
    )
    for change in ({"sha": "2" * 40}, {"tags": ["y"]}, {"gated": "auto"}, {"disabled": True},
                   {"cardData": {"license": "mit"}}, {"lastModified": "2024-01-01T00:00:00Z"},
                   {"cardData": {"base_model": "x/y"}}, {"pipeline_tag": "fill-mask"}):  # fmt: skip
        assert parse_record({**record, **change}, NOW).state != state, change


def test_a_record_says_whether_it_is_gated_or_disabled():
    assert parse_record({"id": "a/b", "gated": "auto"}, NOW).gated == "auto"
    assert parse_record({"id": "a/b", "disabled": True}, NOW).status is RepoStatus.DISABLED
    assert parse_record({"id": "a/b", "gated": False}, NOW).gated is None


def answer(request: str, body: bytes, at: datetime = NOW, scope: str = "run") -> ArchivedAnswer:
    return ArchivedAnswer(scope, request, at, body)


def test_the_archive_keeps_the_first_answer_to_a_request_in_its_scope(tmp_path: Path):
    archive = Archive(tmp_path)
    first = archive.append(answer("GET x", b"\x00old\n"))
    assert archive.append(answer("GET x", b"other", NOW + timedelta(hours=1))) == first
    second = archive.append(answer("GET x", b"new", scope="later run"))
    assert archive.read(first) == answer("GET x", b"\x00old\n")
    assert archive.find("later run", "GET x") == archive.read(second)
    assert archive.find("later run", "GET y") is None
    assert sorted(archive.names()) == sorted([first, second])
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "0" * 64])
def test_the_archive_reads_nothing_but_its_answers(tmp_path: Path, name):
    with pytest.raises(MalformedError):
        Archive(tmp_path).read(name)


def test_a_damaged_answer_is_malformed(tmp_path: Path):
    archive = Archive(tmp_path)
    name = archive.append(answer("GET x", b"body"))
    path = tmp_path / name[:2] / f"{name}.zst"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(MalformedError):
        archive.read(name)


def test_a_refusal_is_archived_and_given_again_without_the_hub(tmp_path: Path):
    class Refusing(Hub):
        def get(self, path, params=None, **more):
            raise MalformedError(f"no {path}")

    archive = Archive(tmp_path)
    for hub in (Refusing("https://hub.test"), None):
        with pytest.raises(MalformedError, match="no api/x"):
            RecordedHub(hub, archive, "run").get("api/x", max_bytes=9)
