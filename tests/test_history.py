"""What the working database keeps of states, counts, claims and problems, and at which time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from crawler.listed import ListedRepo, parse_record
from crawler.parents import FileProblem, FoundRecipe
from crawler.recipes import parse_recipe
from crawler.records import (
    Claim,
    ClaimSource,
    EvalResult,
    FileEntry,
    RepoRef,
    RepoSnapshot,
    RepoStatus,
)
from crawler.snapshot import RepoReading
from lineage.store.home import Home
from lineage.store.ledger import (
    advance_sweep,
    begin_sweep,
    details_queue,
    last_sweep,
    missing_since,
    newest_listed,
    note_alias,
)
from lineage.store.listed import ListedCount, write_listed
from lineage.store.problems import record_problem
from lineage.store.readings import record_status, write_readings
from lineage.store.requests import Request, want_repositories
from lineage.store.snapshots import latest_snapshots, standing_claims

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
LAST = NOW + timedelta(days=2)
RECORD = {
    "id": "a/child",
    "sha": "1" * 40,
    "author": "a",
    "createdAt": "2024-01-01T00:00:00Z",
    "lastModified": "2024-02-01T00:00:00Z",
    "downloads": 7,
    "likes": 1,
    "tags": ["x", "'; DROP TABLE claim; --", "license:mit"],
}
CLAIM = Claim("a/child", "b/p", "b/p", "merge", ClaimSource.CARD, "w", "1" * 40, NOW, 0.5, "ties")
RECIPE = "merge_method: linear\nmodels:\n- {model: b/p, parameters: {weight: 1}}\n- model: b/q\n"


def listed(at: datetime = NOW, **fields: object) -> ListedRepo:
    return parse_record({**RECORD, **fields}, at)


def reading(at: datetime = NOW, *claims: Claim, card: str | None = "# <script>", **fields: object):
    row = listed(at, **fields)
    snapshot = RepoSnapshot(
        RepoRef(row.repo_id, row.revision or ""),
        at,
        author="a",
        created_at=row.created_at,
        last_modified=row.last_modified,
        downloads_30d=row.downloads_30d,
        likes=row.likes,
        licence="MIT",
        tags=row.tags,
        files=(FileEntry("a.gguf", 5, "f" * 64), FileEntry("b", 6)),
        card_text=card,
        config_text='{"architectures": ["LlamaForCausalLM"]}',
        evaluations=(EvalResult("loss/prose", 1.5, "loss", "prose", False),),
    )
    return RepoReading(
        row, snapshot, tuple(replace(claim, observed_at=at) for claim in claims), licence="MIT"
    )


@pytest.fixture
def book(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = Home(tmp_path / "home").open_working()
    yield connection
    connection.close()


def rows(book: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[object, ...]]:
    return book.execute(sql).fetchall()


def test_a_repository_comes_back_as_it_was_read(book):
    first = reading(NOW, CLAIM)
    write_readings(book, [first])
    assert latest_snapshots(book) == (first.snapshot,)
    assert standing_claims(book) == (CLAIM,)


def test_a_state_is_entered_when_it_changes_and_counts_every_time(book):
    assert write_listed(book, [(listed(), NOW)]) == ListedCount(1, 0, 0)
    assert write_listed(book, [(listed(LATER, downloads=9), LATER)]) == ListedCount(0, 0, 1)
    assert write_listed(book, [(listed(LAST, tags=["y"]), LAST)]) == ListedCount(0, 1, 0)
    assert rows(book, "SELECT observed_at, tags[1] FROM snapshot ORDER BY 1") == [
        (NOW, "x"), (LAST, "y"),
    ]  # fmt: skip
    assert rows(book, "SELECT observed_at, downloads_30d FROM observation ORDER BY 1") == [
        (NOW, 7), (LATER, 9), (LAST, 7),
    ]  # fmt: skip
    assert rows(book, "SELECT first_seen, listed_at FROM repository") == [(NOW, LAST)]


def test_what_was_known_at_a_moment_can_be_asked_for(book):
    write_listed(book, [(listed(NOW, tags=["base_model:b/p"]), NOW)])
    write_listed(book, [(listed(LAST, tags=["base_model:b/q"], downloads=9), LAST)])
    for moment, parent, downloads in ((NOW, "b/p", 7), (LATER, "b/p", 7), (LAST, "b/q", 9)):
        (snapshot,) = latest_snapshots(book, moment)
        assert (snapshot.tags, snapshot.downloads_30d) == ((f"base_model:{parent}",), downloads)
        assert [claim.parent for claim in standing_claims(book, moment)] == [parent]
    assert latest_snapshots(book, NOW - timedelta(days=1)) == ()
    assert standing_claims(book, NOW - timedelta(days=1)) == ()


def test_a_claim_that_is_no_longer_made_ends_and_was_last_seen_when_its_child_was_listed(book):
    write_listed(book, [(listed(NOW, tags=["base_model:b/p"]), NOW)])
    write_listed(book, [(listed(LATER, tags=["base_model:b/p"]), LATER)])
    write_listed(book, [(listed(LAST, tags=[]), LAST)])
    assert standing_claims(book) == ()
    found = "SELECT first_seen, last_seen, ended_at FROM claim"
    assert rows(book, found) == [(NOW, LATER, LAST)]
    again = LAST + timedelta(days=1)
    write_listed(book, [(listed(again, tags=["base_model:b/p"]), again)])
    assert rows(book, f"{found} ORDER BY 1") == [(NOW, LATER, LAST), (again, None, None)]


def test_a_claim_made_again_is_one_claim_and_a_changed_weight_is_another(book):
    write_readings(book, [reading(NOW, CLAIM, CLAIM)])
    write_readings(book, [reading(LATER, CLAIM)])
    assert rows(book, "SELECT first_seen, ended_at FROM claim") == [(NOW, None)]
    write_readings(book, [reading(LAST, replace(CLAIM, weight=0.7))])
    assert rows(book, "SELECT weight, ended_at FROM claim ORDER BY weight") == [
        (0.5, LAST), (0.7, None),
    ]  # fmt: skip


def test_a_listing_ends_no_claim_of_the_files_and_silence_of_an_unread_file_ends_none(book):
    prose = replace(CLAIM, source=ClaimSource.PROSE, weight=None, method=None)
    write_readings(book, [reading(NOW, CLAIM, prose)])
    write_listed(book, [(listed(LATER, sha="2" * 40), LATER)])
    assert {claim.source for claim in standing_claims(book)} == {CLAIM.source, prose.source}
    unread = frozenset({ClaimSource.PROSE})
    write_readings(book, [replace(reading(LAST, sha="2" * 40), unread=unread)])
    assert [claim.source for claim in standing_claims(book)] == [ClaimSource.PROSE]


def test_recipes_are_kept_whole_and_end_when_they_are_no_longer_stated(book):
    recipe = FoundRecipe(parse_recipe(RECIPE, "a/child"), ClaimSource.MERGE_RECIPE)
    write_readings(book, [replace(reading(NOW), recipes=(recipe,))])
    write_readings(book, [replace(reading(LATER), recipes=(recipe,))])
    parent = "document ->> '$.parents[0].model.repo_id'"
    assert rows(book, f"SELECT method, {parent}, ended_at FROM recipe") == [
        ("linear", "b/p", None)
    ]  # fmt: skip
    write_readings(book, [reading(LAST)])
    assert rows(book, "SELECT first_seen, ended_at FROM recipe") == [(NOW, LAST)]


def test_a_repository_that_is_gone_keeps_what_was_last_known_and_may_come_back(book):
    first = reading(NOW, CLAIM)
    write_readings(book, [first])
    assert record_status(book, "a/child", RepoStatus.GONE, LATER)
    assert not record_status(book, "a/child", RepoStatus.GONE, LAST)
    (latest,) = latest_snapshots(book)
    assert latest == replace(first.snapshot, status=RepoStatus.GONE, observed_at=LATER)
    write_listed(book, [(listed(LAST), LAST)])
    assert [snapshot.status for snapshot in latest_snapshots(book)] == [RepoStatus.OK]
    assert len(rows(book, "SELECT 1 FROM snapshot")) == 3


def test_a_repository_that_never_could_be_read_has_no_commit(book):
    record_status(book, "a/off", RepoStatus.DISABLED, NOW)
    record_status(book, "no/body", RepoStatus.GONE, NOW)
    (only,) = latest_snapshots(book)
    assert (only.ref, only.status) == (RepoRef("a/off", "0" * 40), RepoStatus.DISABLED)


def test_a_gate_that_opens_is_a_new_state(book):
    shut = replace(reading(NOW, gated="auto"))
    shut = replace(shut, snapshot=replace(shut.snapshot, status=RepoStatus.GATED))
    write_readings(book, [shut])
    write_listed(book, [(listed(LATER, gated="auto"), LATER)])
    assert [s.status for s in latest_snapshots(book)] == [RepoStatus.GATED]
    write_readings(book, [reading(LAST, gated="auto")])
    assert [s.status for s in latest_snapshots(book)] == [RepoStatus.OK]


def test_the_same_problem_is_recorded_once_and_forgotten_when_the_repository_is_read(book):
    for moment in (NOW, LATER):
        record_problem(book, "a/child", None, "crawl", "x", "server", "500", moment)
    assert rows(book, "SELECT observed_at FROM problem") == [(LATER,)]
    problem = FileProblem("README.md", "malformed", "README.md: no")
    write_readings(book, [replace(reading(LAST), problems=(problem,))])
    assert rows(book, "SELECT code FROM problem") == [("malformed",)]


def test_a_batch_is_written_whole_or_not_at_all(book):
    bad = reading(NOW, replace(CLAIM, weight="heavy"))  # type: ignore[arg-type]
    with pytest.raises(Exception, match="heavy"):
        write_readings(book, [reading(NOW), bad])
    assert latest_snapshots(book) == ()
    assert rows(book, "SELECT count(*) FROM repository") == [(0,)]


def test_text_of_strangers_is_only_ever_data(book):
    evil = "x'); DROP TABLE snapshot; --"
    write_readings(book, [reading(NOW, replace(CLAIM, parent_text=evil), card=evil)])
    assert [claim.parent_text for claim in standing_claims(book)] == [evil]
    assert [snapshot.card_text for snapshot in latest_snapshots(book)] == [evil]


def test_an_old_name_and_another_case_lead_to_the_model_that_is_meant(book):
    write_listed(book, [(listed(), NOW), (listed(id="b/New"), NOW), (listed(id="C/Upper"), NOW)])
    note_alias(book, "b/old", "b/New", NOW)
    claims = [replace(CLAIM, parent=p, parent_text=p) for p in ("b/old", "c/upper", "d/unknown")]
    write_readings(book, [reading(NOW, *claims)])
    assert [(c.parent_text, c.parent) for c in standing_claims(book)] == [
        ("b/old", "b/New"), ("c/upper", "C/Upper"), ("d/unknown", "d/unknown"),
    ]  # fmt: skip


def queue(
    book: duckdb.DuckDBPyConnection, at: datetime = LATER, **options
) -> list[tuple[str, str]]:
    found, _ = details_queue(
        book, at, **{"limit": None, "recheck_after": timedelta(days=1), **options}
    )
    return [(item.repo_id, item.reason) for item in found]


def test_the_queue_puts_first_what_was_asked_for_then_parents_and_downloads_then_the_young(book):
    tags = ["base_model:a/parent"]
    write_listed(book, [
        (listed(id="a/old", downloads=0, createdAt="2020-01-01T00:00:00Z"), NOW),
        (listed(id="a/young", downloads=0, createdAt="2025-12-30T00:00:00Z"), NOW),
        (listed(id="a/parent", downloads=0), NOW),
        (listed(id="a/popular", downloads=100), NOW),
        *((listed(id=f"c/{i}", downloads=0, tags=tags), NOW) for i in range(200)),
    ])  # fmt: skip
    want_repositories(book, [Request("a/old", NOW), Request("x/unknown", NOW)])
    order = [name for name, _ in queue(book)]
    assert set(order[:2]) == {"a/old", "x/unknown"}
    assert order[2:4] == ["a/parent", "a/popular"]
    assert order.index("a/young") < order.index("c/0")
    wanted = {("a/old", "wanted"), ("x/unknown", "wanted")}
    assert set(queue(book, limit=2)) == wanted
    assert set(queue(book, among=["a/popular"])) == {*wanted, ("a/popular", "new")}


def test_the_queue_holds_what_changed_or_failed_for_a_reason_that_passes_and_nothing_else(book):
    write_readings(book, [reading(NOW, id=name) for name in ("a/same", "a/moved", "a/failed")])
    assert queue(book) == []
    write_listed(book, [(listed(LATER, id="a/moved", sha="2" * 40), LATER)])
    record_problem(book, "a/failed", None, "crawl", "x", "server", "500", NOW)
    record_problem(book, "a/same", None, "crawl", "x", "malformed", "no", NOW)
    record_status(book, "a/shut", RepoStatus.GATED, NOW)
    record_status(book, "a/same", RepoStatus.GONE, LATER)
    assert sorted(queue(book)) == [
        ("a/failed", "incomplete"), ("a/moved", "changed"), ("a/shut", "new"),
    ]  # fmt: skip


def test_a_walk_misses_what_it_passed_and_did_not_list(book):
    days = {"a/new": "2025-03-01", "a/mid": "2025-02-01", "a/old": "2025-01-01"}
    write_listed(book, [(listed(id=k, createdAt=f"{v}T00:00:00Z"), NOW) for k, v in days.items()])
    sweep = begin_sweep(book, "check", "https://hub", "s", LATER)
    write_listed(book, [(listed(LATER, id="a/mid", createdAt="2025-02-01T00:00:00Z"), LATER)])
    sweep = advance_sweep(
        book, sweep, next_url="next", n_pages=1, n_records=1, newest=LATER,
        oldest=datetime(2025, 2, 1, tzinfo=UTC), finished_at=None,
    )  # fmt: skip
    assert missing_since(book, sweep, 9) == ["a/new"]
    assert last_sweep(book, "https://hub", "check") == sweep
    assert newest_listed(book, "https://hub") is None
    done = advance_sweep(
        book, sweep, next_url=None, n_pages=0, n_records=0, newest=None, oldest=None,
        finished_at=LATER,
    )  # fmt: skip
    assert missing_since(book, done, 9) == ["a/new", "a/old"]
    assert missing_since(book, done, 1) == ["a/new"]
    record_status(book, "a/new", RepoStatus.GONE, LATER)
    assert missing_since(book, done, 9) == ["a/old"]
