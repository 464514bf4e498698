"""Listings page by page, and the archive of raw answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crawler.archive import Archive
from crawler.client import Hub
from crawler.errors import MalformedError
from crawler.hub_server import running_hub
from crawler.listing import ListedRepo, ParseFailure, list_pages, list_repositories, parse_record
from crawler.records import RepoStatus

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class PagedHub(Hub):
    """Answers listings from a function of the address."""

    def __init__(self, answer: Callable[[str], tuple[bytes, str | None]]) -> None:
        super().__init__("https://hub.test")
        self.answer = answer
        self.asked: list[str] = []

    def get_page(self, path, params=None, *, max_bytes=0):
        self.asked.append(path)
        return self.answer(path)


def page(*records: object) -> bytes:
    return json.dumps(records).encode()


def test_a_listing_of_a_real_server_is_read_whole_and_by_author(tmp_path: Path):
    for name in ("ann/one", "ann/two", "bob/three"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "README.md").write_text("# x")
    with running_hub(tmp_path) as endpoint:
        hub = Hub(endpoint)
        listed = list(list_repositories(hub))
        assert {item.repo_id for item in listed} == {"ann/one", "ann/two", "bob/three"}
        assert all(isinstance(item, ListedRepo) and item.revision for item in listed)
        assert len(list(list_repositories(hub, author="ann"))) == 2
        assert len(list(list_repositories(hub, search="three"))) == 1
        assert len(list(list_repositories(hub, limit=1))) == 1
        by_id = list(list_repositories(hub, ids=["bob/three", "no/body", "../etc", "bob/three"]))
    assert [type(item) for item in by_id] == [ListedRepo, ParseFailure, ParseFailure]
    assert [getattr(item, "code", None) for item in by_id] == [None, "not_found", "malformed"]


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
    found = list(list_repositories(hub))
    assert [type(item) for item in found] == [
        ListedRepo, ParseFailure, ParseFailure, ListedRepo, ParseFailure, ListedRepo,
    ]  # fmt: skip
    assert isinstance(found[2], ParseFailure)
    assert found[2].repo_id == "a/c"
    assert "yesterday" in found[2].reason
    assert isinstance(found[3], ListedRepo)
    assert (found[3].tags, found[3].downloads_30d, found[3].revision) == (("x",), None, None)
    assert isinstance(found[5], ListedRepo)
    assert found[5].created_at == datetime(2024, 1, 1, tzinfo=UTC)


def test_pages_are_archived_before_they_are_parsed(tmp_path: Path):
    hub = PagedHub(lambda _: (b"<html>sorry</html>", None))
    archive = Archive(tmp_path)
    with pytest.raises(MalformedError, match="not JSON"):
        list(list_pages(hub, archive=archive, now=NOW))
    (answer,) = archive
    assert (answer.body, answer.at) == (b"<html>sorry</html>", NOW)


def test_a_listing_goes_on_at_the_address_it_is_given():
    hub = PagedHub(lambda url: (page({"id": "a/b"}), None))
    (only,) = list_pages(hub, start_url="https://hub.test/api/models?cursor=x")
    assert hub.asked == ["https://hub.test/api/models?cursor=x"]
    assert only.next_url is None


@pytest.mark.parametrize("address", ["https://evil.test/api/models", "http://hub.test/api/models"])
def test_a_listing_never_leads_to_another_host(address):
    hub = PagedHub(lambda url: (page(), address))
    with pytest.raises(MalformedError, match="another host"):
        list(list_pages(hub))


def test_a_listing_that_leads_in_a_circle_ends():
    hub = PagedHub(lambda url: (page(), "https://hub.test/api/models?cursor=1"))
    with pytest.raises(MalformedError, match="circle"):
        list(list_pages(hub))


def test_a_record_says_whether_it_is_gated_or_disabled():
    assert parse_record({"id": "a/b", "gated": "auto"}).status is RepoStatus.GATED
    assert parse_record({"id": "a/b", "disabled": True}).status is RepoStatus.DISABLED
    assert parse_record({"id": "a/b", "gated": False}).status is RepoStatus.OK


def test_the_archive_keeps_every_answer_in_order_of_time(tmp_path: Path):
    archive = Archive(tmp_path)
    later = NOW + timedelta(hours=1)
    second = archive.append("GET x", b"\x00new\n", later)
    first = archive.append("GET x", b"old", NOW)
    assert archive.append("GET x", b"other", NOW) == first
    assert [answer.body for answer in archive] == [b"old", b"\x00new\n"]
    assert archive.read(second).request == "GET x"
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "0" * 64])
def test_the_archive_reads_nothing_but_its_answers(tmp_path: Path, name):
    with pytest.raises(MalformedError):
        Archive(tmp_path).read(name)


def test_a_damaged_answer_is_malformed(tmp_path: Path):
    archive = Archive(tmp_path)
    name = archive.append("GET x", b"body", NOW)
    path = tmp_path / name[:2] / f"{name}.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(MalformedError):
        archive.read(name)
