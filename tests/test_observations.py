"""What the working database keeps of observations, claims and problems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from crawler.listing import ListedRepo
from crawler.parents import FileProblem
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
from lineage.store.observations import (
    NO_COMMIT,
    clear_problems,
    confirm_snapshots,
    current_claims,
    known_repositories,
    latest_snapshots,
    mark_gone,
    record_problem,
    write_reading,
    write_snapshot,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
LAST = NOW + timedelta(days=2)
SNAPSHOT = RepoSnapshot(
    RepoRef("a/child", "1" * 40),
    NOW,
    author="a",
    created_at=datetime(2024, 1, 1, tzinfo=UTC),
    last_modified=datetime(2024, 2, 1, tzinfo=UTC),
    downloads_30d=7,
    likes=1,
    licence="mit",
    tags=("x", "'; DROP TABLE claim; --"),
    files=(FileEntry("a.gguf", 5, "f" * 64), FileEntry("b", 6)),
    card_text="# <script>alert(1)</script>",
    config_text='{"architectures": ["LlamaForCausalLM"]}',
    evaluations=(EvalResult("loss/prose", 1.5, "loss", "prose", False),),
)
CLAIM = Claim("a/child", "b/p", "b/p", "merge", ClaimSource.CARD, "w", "1" * 40, NOW, 0.5, "ties")


@pytest.fixture
def book(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = Home(tmp_path / "home").open_working()
    yield connection
    connection.close()


def count(book: duckdb.DuckDBPyConnection, table: str) -> int:
    row = book.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


def seen(revision: str, downloads: int) -> ListedRepo:
    return ListedRepo(
        "a/child", revision, RepoStatus.OK, "a", None, None, downloads, 2, None, None, ()
    )


def at(moment: datetime) -> RepoSnapshot:
    return replace(SNAPSHOT, observed_at=moment)


def test_a_snapshot_comes_back_as_it_was_written(book):
    write_snapshot(book, SNAPSHOT, [CLAIM])
    assert latest_snapshots(book) == (SNAPSHOT,)
    assert current_claims(book) == (CLAIM,)
    assert book.execute("SELECT architecture, size_bytes, n_files FROM snapshot").fetchone() == (
        "LlamaForCausalLM", 11, 2,
    )  # fmt: skip


def test_a_claim_seen_again_is_renewed_and_a_changed_weight_is_a_new_one(book):
    write_snapshot(book, SNAPSHOT, [CLAIM, CLAIM])
    write_snapshot(book, at(LATER), [replace(CLAIM, observed_at=LATER)])
    assert book.execute("SELECT first_seen, last_seen FROM claim").fetchall() == [(NOW, LATER)]
    heavier = replace(CLAIM, observed_at=LAST, weight=0.75)
    write_snapshot(book, at(LAST), [heavier])
    assert count(book, "claim") == 2
    assert current_claims(book) == (heavier,)


def test_a_claim_that_is_no_longer_made_is_kept_but_not_current(book):
    write_snapshot(book, SNAPSHOT, [CLAIM])
    write_snapshot(book, at(LATER), [])
    assert current_claims(book) == ()
    assert count(book, "claim") == 1


def test_an_unchanged_repository_has_new_counts_and_its_claims_stand(book):
    write_snapshot(book, SNAPSHOT, [CLAIM])
    confirm_snapshots(book, [seen("1" * 40, 9)], LATER)
    confirm_snapshots(book, [], LATER)
    (latest,) = latest_snapshots(book)
    assert latest == replace(SNAPSHOT, observed_at=LATER, downloads_30d=9, likes=2)
    assert [claim.observed_at for claim in current_claims(book)] == [LATER]
    assert count(book, "snapshot") == 2


def test_a_repository_that_is_gone_keeps_what_was_last_known(book):
    write_snapshot(book, SNAPSHOT, [CLAIM])
    mark_gone(book, "a/child", LATER)
    mark_gone(book, "a/child", LAST)
    assert latest_snapshots(book) == (replace(SNAPSHOT, observed_at=LATER, status=RepoStatus.GONE),)
    assert current_claims(book) == (CLAIM,)
    assert count(book, "snapshot") == 2
    assert known_repositories(book)["a/child"].revision == "1" * 40


def test_a_repository_that_never_could_be_read_has_no_commit(book):
    write_snapshot(book, RepoSnapshot(RepoRef("a/x", NO_COMMIT), NOW, RepoStatus.DISABLED), [])
    assert book.execute("SELECT revision FROM snapshot").fetchall() == [(None,)]
    (latest,) = latest_snapshots(book)
    assert (latest.ref.revision, latest.status) == (NO_COMMIT, RepoStatus.DISABLED)
    assert known_repositories(book)["a/x"].revision is None


def test_writing_the_same_commit_again_doubles_nothing_but_the_observation(book):
    write_snapshot(book, SNAPSHOT, [CLAIM])
    write_snapshot(book, at(LATER), [replace(CLAIM, observed_at=LATER)])
    assert [count(book, table) for table in ("snapshot", "file", "card", "claim", "trait")] == [
        2, 2, 1, 1, 1,
    ]  # fmt: skip


def test_the_same_problem_is_recorded_once(book):
    for moment in (NOW, LATER):
        record_problem(book, "a/x", None, "crawl", None, "server", "why", moment)
    record_problem(book, "a/x", None, "infer", "p", "server", "why", NOW)
    assert book.execute("SELECT observed_at FROM problem WHERE stage = 'crawl'").fetchall() == [
        (LATER,)
    ]
    clear_problems(book, "a/x", "crawl")
    assert count(book, "problem") == 1


def test_reading_again_forgets_the_problems_of_the_last_time(book):
    problem = FileProblem("README.md", "server", "500")
    write_reading(book, RepoReading(SNAPSHOT, (), (problem,)))
    assert known_repositories(book)["a/child"].is_incomplete
    write_reading(book, RepoReading(at(LATER), (), (FileProblem(None, "malformed", "x"),)))
    assert not known_repositories(book)["a/child"].is_incomplete
    assert count(book, "problem") == 1


def test_a_repository_is_written_whole_or_not_at_all(book):
    broken = replace(CLAIM, weight="heavy")  # type: ignore[arg-type]
    with pytest.raises(duckdb.Error):
        write_snapshot(book, SNAPSHOT, [broken])
    assert [count(book, table) for table in ("snapshot", "file", "card", "claim")] == [0, 0, 0, 0]


def test_text_of_strangers_is_only_ever_data(book):
    nasty = replace(CLAIM, parent_text="'); DROP TABLE claim; --\x00", parent=None, text='"$1')
    write_snapshot(book, SNAPSHOT, [nasty])
    assert current_claims(book) == (nasty,)
