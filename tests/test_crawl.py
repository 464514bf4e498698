"""The crawl of small Hubs: what is read, what is kept, what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crawler.client import Hub
from crawler.errors import NotFoundError
from crawler.hub_server import Faults, running_hub
from crawler.recorded import RecordedHub
from crawler.records import ClaimSource, RepoStatus
from crawler.snapshot import read_repository
from lineage.errors import HerdbookError
from lineage.errors import NotFoundError as UnknownError
from lineage.pipeline.again import parse_again
from lineage.pipeline.crawl import CrawlReport, crawl, plan_crawl
from lineage.store.home import Home
from lineage.store.snapshots import latest_snapshots, standing_claims

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CARD = """---
license: mit
base_model: ann/base
model-index:
- name: child
  results:
  - {dataset: {name: prose, type: prose}, metrics: [{type: loss, value: 1.5}]}
---
# Child
"""


def lay_out(folder: Path, repos: Mapping[str, Mapping[str, str]], **entries: object) -> Path:
    for repo_id, files in repos.items():
        for path, text in files.items():
            (folder / repo_id / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / repo_id / path).write_text(text)
    (folder / "hub.json").write_text(json.dumps({"models": entries}))
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def family(tmp_path: Path) -> Path:
    return lay_out(
        tmp_path / "hub",
        {
            "ann/base": {"README.md": "# Base", "config.json": '{"architectures": ["A"]}'},
            "ann/child": {"README.md": CARD},
            "bob/adapter": {"adapter_config.json": '{"base_model_name_or_path": "ann/base"}'},
            "bob/merged": {
                "mergekit_config.yml": "merge_method: linear\nmodels:\n- model: ann/base\n"
                "- model: ann/child\n"
            },
            "bob/quiet": {"config.json": '{"_name_or_path": "ann/base"}'},
            "cyd/bad-card": {
                "README.md": "---\na: b: c\n---\nFine-tuned from `ann/base-1`.",
                "config.json": "{not json",
            },
        },
    )


def problems(home: Home) -> set[tuple[str, str | None, str]]:
    connection = home.open_working()
    try:
        return set(connection.execute("SELECT repo_id, path, code FROM problem").fetchall())
    finally:
        connection.close()


def statuses(home: Home) -> dict[str, RepoStatus]:
    connection = home.open_working()
    try:
        return {snap.ref.repo_id: snap.status for snap in latest_snapshots(connection)}
    finally:
        connection.close()


def run(home: Home, folder: Path, *, day: int = 0, vanish: bool = False,
        faults: Faults = Faults()) -> CrawlReport:  # noqa: B008 - frozen  # fmt: skip
    with running_hub(folder, vanish=vanish, faults=faults) as endpoint:
        hub = Hub(endpoint, sleep=lambda _: None)
        return crawl(home, endpoint, now=NOW + timedelta(days=day), hub=hub)


def test_every_source_of_claims_is_read(home, family):
    report = run(home, family)
    assert (report.n_listed, report.n_read, report.n_unchanged, report.n_gone) == (6, 6, 0, 0)
    connection = home.open_working()
    said = {(c.child, c.parent, c.source) for c in standing_claims(connection)}
    traits = connection.execute("SELECT repo_id, name, value FROM trait").fetchall()
    runs = connection.execute("SELECT stage, finished_at IS NOT NULL FROM run").fetchall()
    connection.close()
    assert {
        ("ann/child", "ann/base", ClaimSource.CARD),
        ("ann/child", "ann/base", ClaimSource.TAG),
        ("bob/adapter", "ann/base", ClaimSource.ADAPTER_CONFIG),
        ("bob/merged", "ann/base", ClaimSource.MERGE_RECIPE),
        ("bob/merged", "ann/child", ClaimSource.MERGE_RECIPE),
        ("bob/quiet", "ann/base", ClaimSource.CONFIG),
        ("cyd/bad-card", "ann/base-1", ClaimSource.PROSE),
    } <= said
    assert traits == [("ann/child", "loss/prose", 1.5)]
    assert runs == [("crawl", True)]


def test_malformed_files_are_problems_of_their_repository_alone(home, family):
    report = run(home, family)
    assert problems(home) == {
        ("cyd/bad-card", "README.md", "malformed"),
        ("cyd/bad-card", "config.json", "malformed"),
    }
    assert report.problems == (("malformed", 2),)


def test_a_second_crawl_reads_only_what_changed(home, family):
    first = run(home, family)
    (family / "ann/child/README.md").write_text(CARD.replace("ann/base", "ann/other"))
    second = run(home, family, day=1)
    assert (second.n_read, second.n_changed, second.n_unchanged) == (1, 1, 5)
    assert second.n_requests < first.n_requests
    connection = home.open_working()
    parents = {c.parent for c in standing_claims(connection) if c.child == "ann/child"}
    connection.close()
    assert parents == {"ann/other"}


def test_gated_disabled_and_vanishing_repositories_are_kept_with_their_status(home, tmp_path):
    repos = {f"ann/{name}": {"README.md": "# x"} for name in ("open", "gated", "off", "leaves")}
    folder = lay_out(
        tmp_path / "hub", repos,
        **{"ann/gated": {"gated": "auto"}, "ann/off": {"disabled": True},
           "ann/leaves": {"vanishes": True}},
    )  # fmt: skip
    run(home, folder)
    report = run(home, folder, day=1, vanish=True)
    assert report.n_gone == 1
    assert statuses(home) == {
        "ann/open": RepoStatus.OK,
        "ann/gated": RepoStatus.GATED,
        "ann/off": RepoStatus.DISABLED,
        "ann/leaves": RepoStatus.GONE,
    }
    assert {("ann/gated", None, "gated"), ("ann/off", None, "disabled")} <= problems(home)
    assert run(home, folder, day=2, vanish=True).n_gone == 0


def test_a_filtered_crawl_calls_nothing_gone(home, family):
    run(home, family)
    with running_hub(family) as endpoint:
        report = crawl(home, endpoint, author="ann", now=NOW + timedelta(days=1))
        assert (report.n_listed, report.n_gone) == (2, 0)
        by_id = crawl(home, endpoint, ids=["bob/quiet", "no/body"], now=NOW + timedelta(days=2))
        assert dict(by_id.problems) == {"not_found": 1}
    assert set(statuses(home).values()) == {RepoStatus.OK}


def test_errors_of_the_server_and_limits_of_rate_are_waited_out(home, family):
    # With several requests under way, one of them may be the unlucky one every time.
    home.prepare()
    (home.root / "settings.toml").write_text("[crawl]\nthreads = 1\n", encoding="utf-8")
    report = run(home, family, faults=Faults(fail_every=3, rate_limit_every=4, drop_every=3))
    assert report.n_read == 6
    assert dict(report.problems) == {"malformed": 2}


class DyingHub(Hub):
    """A Hub on which a repository vanishes after it was listed."""

    def get(self, path, params=None, **more):
        if path.startswith("api/models/ann/child?blobs"):
            raise NotFoundError("404")
        return super().get(path, params, **more)


def test_a_repository_that_vanishes_mid_crawl_stops_nobody(home, family):
    with running_hub(family) as endpoint:
        report = crawl(home, endpoint, now=NOW, hub=DyingHub(endpoint))
    assert (report.n_read, report.n_gone) == (5, 1)
    assert ("ann/child", None, "not_found") in problems(home)


def test_a_hub_that_cannot_be_reached_is_one_clear_sentence(home):
    with pytest.raises(HerdbookError, match="cannot be read"):
        crawl(home, None, hub=Hub("http://127.0.0.1:1", sleep=lambda _: None), now=NOW)


KILLED = """
import os, signal, sys
from pathlib import Path
from lineage.pipeline import details as stage
from lineage.store.home import Home
from lineage.pipeline.crawl import crawl
write, n = stage.write_readings, [0]
stage._BATCH = 1
def write_then_die(connection, readings):
    write(connection, readings)
    n[0] += 1
    if n[0] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
stage.write_readings = write_then_die
crawl(Home(Path(sys.argv[1])), sys.argv[2])
"""


def test_a_killed_crawl_loses_nothing_finished_and_the_next_one_completes(home, family):
    with running_hub(family) as endpoint:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(home.root), endpoint],
            check=False, timeout=60, env={**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1"},
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL
        report = crawl(home, endpoint)
    assert (report.n_read, report.n_unchanged) == (3, 6)
    assert len(statuses(home)) == 6


def test_an_interrupted_listing_goes_on_at_the_page_it_came_to(home, family, monkeypatch):
    monkeypatch.setattr("crawler.listing.PAGE_SIZE", 2)

    class FailingHub(Hub):
        pages = 0

        def get_page(self, path, params=None, **more):
            self.pages += "api/models?" in path
            if self.pages == 3:
                raise NotFoundError("the third page is lost")
            return super().get_page(path, params, **more)

    with running_hub(family) as endpoint:
        with pytest.raises(HerdbookError, match="goes on from there"):
            crawl(home, endpoint, hub=FailingHub(endpoint), now=NOW)
        assert len(statuses(home)) == 4
        report = crawl(home, endpoint, now=NOW + timedelta(hours=1))
        assert (report.n_new, report.n_pages, report.n_gone) == (2, 1, 0)
        again = crawl(home, endpoint, now=NOW + timedelta(hours=2))
        assert (again.n_listed, again.n_unchanged) == (6, 6)


def test_one_repository_is_read_without_a_database(family):
    with running_hub(family) as endpoint:
        hub = RecordedHub(Hub(endpoint), None, clock=lambda: NOW)
        snapshot = read_repository(hub, "ann/child").snapshot
    assert snapshot.licence == "MIT"
    assert [file.path for file in snapshot.files] == ["README.md"]
    assert snapshot.observed_at == NOW


def tables(home: Home) -> dict[str, list[tuple[object, ...]]]:
    names = ["repository", "snapshot", "observation", "reading", "file", "card", "claim", "recipe",
             "doubt", "alias", "problem", "trait", "fingerprint", "run"]  # fmt: skip
    connection = home.open_working()
    found = {
        name: connection.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall() for name in names
    }
    connection.close()
    return found


def test_the_archive_is_parsed_again_into_the_same_book_without_the_network(home, family):
    run(home, family)
    (family / "ann/child/README.md").write_text(CARD.replace("ann/base", "ann/other"))
    run(home, family, day=1)
    shutil.rmtree(family / "bob/quiet")
    run(home, family, day=2)
    before = tables(home)
    report = parse_again(home)
    assert (report.n_crawls, report.n_interrupted) == (3, 0)
    assert tables(home) == before
    assert dict(report.rows)["claim"] == "9 → 9"


def test_a_mended_parser_is_applied_to_what_was_archived(home, family, monkeypatch):
    run(home, family)
    monkeypatch.setattr("crawler.parents.prose_parents", lambda *_: iter(()))
    parse_again(home)
    assert not [row for row in tables(home)["claim"] if row[4] == "prose"]
    assert run(home, family, day=1).n_read == 0


def test_an_archive_with_a_crawl_that_died_is_parsed_as_far_as_it_came(home, family, monkeypatch):
    with running_hub(family) as endpoint, monkeypatch.context() as patch:
        patch.setattr("lineage.pipeline.details.read_repository", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            crawl(home, endpoint, now=NOW)
    run(home, family, day=1)
    before = tables(home)
    assert parse_again(home).n_interrupted == 0
    assert tables(home) == before


def test_without_an_archive_there_is_nothing_to_parse(home):
    with pytest.raises(UnknownError, match="no crawl is archived"):
        parse_again(home)


def test_a_plan_tells_what_the_next_crawl_would_do_and_asks_nothing(home, family):
    run(home, family)
    connection = home.open_working()
    connection.execute("UPDATE repository SET read_revision = NULL WHERE repo_id = 'ann/base'")
    connection.close()
    before = tables(home)
    plan = plan_crawl(home, "http://127.0.0.1:1")
    assert (plan.walk, plan.n_known, plan.n_read) == ("census", 6, 1)
    assert plan.queue == (("changed", 1),)
    assert tables(home) == before
