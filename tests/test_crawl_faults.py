"""A crawl of a Hub that fails, of one that changes, and a crawl that is killed.

Whatever goes wrong on the way, the working database is that of an undisturbed crawl;
:mod:`logical` says what "is" means, :mod:`faulty_hub` what goes wrong.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from crawler.archive import Archive
from crawler.client import Hub
from crawler.errors import CrawlError
from crawler.records import ClaimSource, RepoSnapshot, RepoStatus
from faulty_hub import FAULTS, LISTING, Asked, FaultyHub, Reply
from lineage.errors import HerdbookError
from lineage.pipeline.crawl import CrawlReport, crawl
from lineage.store.home import Home
from lineage.store.snapshots import latest_snapshots, standing_claims
from logical import Content, columns_of, differences, logical_content

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = datetime(2024, 1, 1, tzinfo=UTC)


def gguf(**metadata: str) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    fields = b"".join(
        text(key) + struct.pack("<I", 8) + text(value) for key, value in metadata.items()
    )
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(metadata)) + fields + b"\0" * 64


def card(parent: str, **more: str) -> str:
    lines = [f"base_model: {parent}", *(f"{key}: {value}" for key, value in more.items())]
    return "---\n" + "\n".join(lines) + f"\n---\n# A model\n\nFine-tuned from {parent}.\n" * 8


MERGE = """merge_method: ties
base_model: ann/base
models:
- {model: ann/child, parameters: {weight: 0.5, density: 0.5}}
- {model: bob/other, parameters: {weight: 0.5, density: 0.5}}
dtype: bfloat16
"""
EVALUATED = """---
license: mit
base_model: ann/base
model-index:
- name: child
  results:
  - {dataset: {name: prose, type: prose}, metrics: [{type: loss, value: 1.5}]}
---
# Child
"""
REPOS: dict[str, dict[str, str | bytes]] = {
    "ann/base": {"README.md": "# Base", "config.json": '{"architectures": ["A"]}'},
    "ann/child": {"README.md": EVALUATED},
    "bob/other": {"README.md": card("ann/base", license="apache-2.0")},
    "bob/adapter": {"adapter_config.json": '{"base_model_name_or_path": "ann/base", "r": 8}'},
    "bob/merged": {"mergekit_config.yml": MERGE, "README.md": card("ann/child")},
    "bob/quiet": {"config.json": '{"_name_or_path": "ann/base"}'},
    "cyd/bad-card": {"README.md": "---\na: b: c\n---\nFine-tuned from `ann/base`."},
    "cyd/bad-config": {"config.json": "{not json"},
    "cyd/gated": {"README.md": card("ann/child"), "model.safetensors": b"\0" * 64},
    "cyd/off": {"README.md": "# Off"},
    "dot/small-gguf": {
        "small.gguf": gguf(**{"general.architecture": "llama", "general.name": "small"})
    },
    **{f"eve/model-{n:02}": {"README.md": card("bob/other")} for n in range(9)},
}


def entry(n: int, **more: object) -> dict[str, object]:
    created = FIRST + timedelta(days=n)
    stamps = {"created_at": created, "last_modified": created + timedelta(hours=5)}
    return {
        **{key: moment.isoformat() for key, moment in stamps.items()},
        "downloads": 3 * n, "likes": n, "revision": f"{n + 1:040x}", **more,
    }  # fmt: skip


def lay_out(folder: Path) -> Path:
    for repo_id, files in REPOS.items():
        for path, content in files.items():
            (folder / repo_id).mkdir(parents=True, exist_ok=True)
            data = content if isinstance(content, bytes) else content.encode()
            (folder / repo_id / path).write_bytes(data)
    entries = {repo_id: entry(n) for n, repo_id in enumerate(REPOS)}
    entries["cyd/gated"]["gated"] = "manual"
    entries["cyd/off"]["disabled"] = True
    (folder / "hub.json").write_text(json.dumps({"models": entries}))
    return folder


@pytest.fixture(autouse=True)
def _many_pages_and_little_patience(monkeypatch):
    monkeypatch.setattr("crawler.listing.PAGE_SIZE", 5)
    monkeypatch.setattr("crawler.client._PATIENCE_S", 0.3)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return lay_out(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultyHub]:
    """One address for every Hub: it stands in the database."""
    with FaultyHub().running() as hub:
        yield hub


@pytest.fixture
def hub(proxy: FaultyHub, small: Path) -> Iterator[FaultyHub]:
    with proxy.before(small):
        proxy.misbehave()
        yield proxy
        proxy.misbehave()


def run(home: Home, hub: FaultyHub, *, day: float = 0, **options: object) -> CrawlReport:
    client = Hub(hub.endpoint, sleep=lambda _: None)
    return crawl(home, None, now=NOW + timedelta(days=day), hub=client, **options)


@pytest.fixture(scope="module")
def undisturbed(proxy: FaultyHub, small: Path, tmp_path_factory) -> Content:
    home = Home(tmp_path_factory.mktemp("undisturbed"))
    with proxy.before(small), pytest.MonkeyPatch.context() as patch:
        patch.setattr("crawler.listing.PAGE_SIZE", 5)
        proxy.misbehave()
        report = run(home, proxy)
    assert (report.n_listed, report.n_pages, report.n_waiting) == (20, 4, 0)
    return logical_content(home)


def test_every_part_of_the_database_counts_in_the_comparison(undisturbed, hub, tmp_path):
    home = Home(tmp_path)
    run(home, hub)
    assert differences(logical_content(home), undisturbed) == []
    filled = {name for name, rows in undisturbed.items() if rows}
    assert filled >= {
        "repository", "snapshot", "observation", "reading", "file", "card", "sweep", "claim",
        "recipe", "problem", "trait",
    }  # fmt: skip
    connection = home.open_working()
    connection.execute("INSERT INTO observation SELECT * FROM observation WHERE likes = 3")
    connection.execute("UPDATE trait SET value = nextafter(value, 2)")
    lines = differences(logical_content(connection), undisturbed)
    connection.close()
    assert [line.split(" ")[:3] for line in lines] == [
        ["+", "1x", "observation"], ["+", "1x", "trait"], ["-", "1x", "trait"],
    ]  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_one_kind_of_fault_leaves_no_trace(kind, undisturbed, hub, tmp_path):
    hub.misbehave(kind, share=0.2 if kind == "drip" else 1.0)
    run(Home(tmp_path), hub)
    assert hub.injected[kind] >= (1 if "drip" in kind else 4)
    assert differences(logical_content(Home(tmp_path)), undisturbed) == []


@pytest.mark.parametrize("seed", range(4))
def test_all_faults_together_leave_no_trace(seed, undisturbed, hub, tmp_path):
    hub.misbehave(*FAULTS, seed=seed)
    run(Home(tmp_path), hub)
    assert len(hub.injected) >= 12
    assert differences(logical_content(Home(tmp_path)), undisturbed) == []


# Kills.


class Killer:
    """Crawls in processes of their own; see :mod:`killed_crawl`."""

    def __init__(self, process: subprocess.Popen[str], endpoint: str) -> None:
        self._process = process
        self._endpoint = endpoint

    def crawl(self, home: Home, point: str = "never", n: int = 1, *, day: float = 0) -> bool:
        """Crawl; whether it was killed before it was through."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {
            "home": str(home.root), "endpoint": self._endpoint, "point": point, "n": n,
            "now": (NOW + timedelta(days=day)).isoformat(),
        }  # fmt: skip
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        assert code in (0, -signal.SIGKILL)
        return code != 0


@pytest.fixture(scope="module")
def killer(proxy: FaultyHub) -> Iterator[Killer]:
    script = Path(__file__).with_name("killed_crawl.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Killer(process, proxy.endpoint)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def points(killer: Killer, proxy: FaultyHub, small: Path, tmp_path_factory) -> dict[str, int]:
    """How often each point is passed by a crawl that is not killed; `time` in milliseconds."""
    home = home_for_kills(tmp_path_factory.mktemp("not-killed"))
    with proxy.before(small):
        began = time.monotonic()
        assert not killer.crawl(home)
        passed_ms = int(1000 * (time.monotonic() - began))
    return {**json.loads((home.root / "passed.json").read_text()), "time": passed_ms}


def home_for_kills(folder: Path) -> Home:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.toml").write_text("[crawl]\nbatch_pages = 2\nthreads = 3\n")
    return Home(folder)


def pages_not_to_be_asked_again(home: Home) -> set[str]:
    """Archived pages of a walk that is not through: what a crawl that goes on has already."""
    if not home.database.exists():
        return set()
    connection = home.open_working()
    walks = connection.execute(
        "SELECT scope FROM sweep WHERE kind <> 'increment' AND finished_at IS NULL"
    ).fetchall()
    connection.close()
    scopes = {scope for (scope,) in walks}
    archive = Archive(home.archive)
    answers = [archive.read(name) for name in archive.names()]
    return {
        "GET /" + answer.request.removeprefix("GET ").split("/", 3)[-1]
        if "://" in answer.request
        else answer.request.replace("GET ", "GET /")
        for answer in answers
        if answer.scope in scopes and "sort=createdAt" in answer.request
    }


def kill_and_resume(
    rng: random.Random, n_kills: int, killer: Killer, points: dict[str, int], hub: FaultyHub,
    folder: Path, undisturbed: Content,
) -> Counter[str]:  # fmt: skip
    """Kill crawls until `n_kills` were killed; every one is begun again until it is through."""
    killed: Counter[str] = Counter()
    n_homes = n_archived = 0
    while killed.total() < n_kills:
        home = home_for_kills(folder / str(n_homes))
        n_homes += 1
        is_through = False
        while not is_through:
            archived = pages_not_to_be_asked_again(home) if rng.random() < 0.7 else set()
            n_archived += len(archived)
            hub.requests.clear()
            # Half of the homes see three kills in a row or more before anything may finish.
            point = rng.choice(sorted(points)) if killed.total() < n_kills else "never"
            most = points.get(point, 1)
            is_through = not killer.crawl(home, point, rng.randint(1, max(1, most * 3 // 4)))
            killed[point] += not is_through
            assert archived.isdisjoint(hub.requests)
        expected = undisturbed | {"sweep": census_alone(undisturbed)}
        assert differences(logical_content(home, walks="census"), expected) == [], point
    assert n_archived > 0
    return killed


def census_alone(content: Content) -> Counter[tuple[str, ...]]:
    kind = columns_of("sweep").index("kind")
    return Counter({row: n for row, n in content["sweep"].items() if row[kind] == "'census'"})


def test_a_crawl_that_is_killed_at_some_moments_ends_as_if_it_had_not_been(
    killer, points, hub, tmp_path, undisturbed
):
    kill_and_resume(random.Random(1), 8, killer, points, hub, tmp_path, undisturbed)


@pytest.mark.parametrize(
    ("point", "n"),
    [("half", 1), ("half", 3), ("half", 12), ("committed", 1), ("page", 3), ("draft", 4)],
)
def test_a_kill_in_the_midst_of_an_entry_is_as_if_it_had_not_begun(
    point, n, killer, hub, tmp_path, undisturbed
):
    home = home_for_kills(tmp_path)
    assert killer.crawl(home, point, n)
    archived = pages_not_to_be_asked_again(home)
    # All four pages were entered before the twelfth of these statements, among the details.
    assert archived or n == 12
    hub.requests.clear()
    assert not killer.crawl(home)
    assert archived.isdisjoint(hub.requests)
    expected = undisturbed | {"sweep": census_alone(undisturbed)}
    assert differences(logical_content(home, walks="census"), expected) == []


@pytest.mark.slow
def test_a_crawl_that_is_killed_at_fifty_moments_ends_as_if_it_had_not_been(
    killer, points, hub, tmp_path, undisturbed
):
    killed = kill_and_resume(random.Random(2), 50, killer, points, hub, tmp_path, undisturbed)
    assert killed.total() >= 50
    assert len(killed) >= 7


@pytest.mark.slow
def test_a_crawl_may_be_killed_before_each_of_its_last_statements(
    killer, points, hub, tmp_path, undisturbed
):
    """What is entered of failures, tombstones and new names is entered whole, too."""
    for n in range(points["execute"] - 40, points["execute"], 5):
        home = home_for_kills(tmp_path / str(n))
        assert killer.crawl(home, "execute", n)
        assert not killer.crawl(home)
        expected = undisturbed | {"sweep": census_alone(undisturbed)}
        assert differences(logical_content(home, walks="census"), expected) == [], n


# A Hub that changes.

PARENT, LICENCE, COUNTED = (
    "cobaltkite/wick-cpp",
    "cobaltkite/Kite-wide-docs",
    "saltmarsh/samphire-gpt2",
)
DELETED, GATED = "elinor-v/fern-docs-adapter", "brackenfold/fern-base"
LATE = "kestrel-nlp/wick-licence-lora-r4"
OLD, RENAMED, NEW = "j-okafor/wick-python", "j-okafor/wick-python-two", "newcomer/wick-tiny"


class World:
    """A folder that is served, and its ``hub.json``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries = json.loads((folder / "hub.json").read_text())["models"]

    def save(self) -> None:
        (self.folder / "hub.json").write_text(json.dumps({"models": self.entries}))

    def edit(self, repo_id: str, old: str, new: str, at: datetime, revision: str) -> None:
        path = self.folder / repo_id / "README.md"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        self.entries[repo_id] |= {"last_modified": at.isoformat(), "revision": revision * 40}

    def first_day(self) -> None:
        at = NOW + timedelta(hours=12)
        self.edit(PARENT, "lanternworks/Wick-270k", "lanternworks/Wick-270k-Instruct", at, "a")
        self.edit(LICENCE, "license: apache-2.0", "license: mit", at, "b")
        self.entries[COUNTED]["downloads"] += 100
        self.entries[COUNTED]["likes"] += 1
        shutil.rmtree(self.folder / DELETED)
        self.entries[GATED]["gated"] = "auto"
        (self.folder / OLD).rename(self.folder / RENAMED)
        self.entries[RENAMED] = self.entries.pop(OLD)
        (self.folder / NEW).mkdir(parents=True)
        (self.folder / NEW / "README.md").write_text(card("lanternworks/Wick-270k"))
        self.entries[NEW] = {
            "created_at": at.isoformat(), "last_modified": at.isoformat(), "revision": "c" * 40,
        }  # fmt: skip
        self.save()

    def second_day(self) -> None:
        at = NOW + timedelta(hours=36)
        self.edit(LICENCE, "license: mit", "license: apache-2.0", at, "d")
        self.entries[COUNTED]["downloads"] -= 120
        self.entries[GATED]["gated"] = False
        self.edit(LATE, "lanternworks/Wick-270k", PARENT, at, "e")
        self.save()


def renamed(asked: Asked) -> Reply | None:
    """Lead from the old name to the new, as the Hub does."""
    if f"/{OLD}?" in asked.target or f"/{OLD}/" in asked.target:
        return Reply(307, (("Location", asked.target.replace(OLD, RENAMED, 1)),), b"")
    return None


@dataclass(frozen=True, slots=True)
class Told:
    """Three crawls of a Hub that changed between them: the home, and its content after each."""

    home: Home
    contents: tuple[Content, Content, Content]
    reports: tuple[CrawlReport, CrawlReport, CrawlReport]


@pytest.fixture(scope="module")
def told(proxy: FaultyHub, pocket: Path, tmp_path_factory) -> Told:
    folder = tmp_path_factory.mktemp("changing")
    world = World(shutil.copytree(pocket, folder / "hub"))
    home = Home(folder / "home")
    reports, contents = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crawler.listing.PAGE_SIZE", 5)
        proxy.misbehave()
        for day, change in enumerate((world.save, world.first_day, world.second_day)):
            change()
            proxy.answer_with = renamed if day else lambda asked: None
            with proxy.before(world.folder):
                reports.append(run(home, proxy, day=day))
            contents.append(logical_content(home))
    proxy.answer_with = lambda asked: None
    return Told(home, tuple(contents), tuple(reports))


@pytest.fixture
def book(told: Told) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = told.home.open_working()
    yield connection
    connection.close()


def as_of(book: duckdb.DuckDBPyConnection, day: int, repo_id: str) -> RepoSnapshot | None:
    known = {snap.ref.repo_id: snap for snap in latest_snapshots(book, NOW + timedelta(days=day))}
    return known.get(repo_id)


def states(book: duckdb.DuckDBPyConnection, repo_id: str) -> list[RepoStatus | None]:
    return [
        None if snap is None else snap.status
        for snap in (as_of(book, day, repo_id) for day in range(3))
    ]


def test_a_crawl_of_a_changed_hub_counts_what_changed(told):
    first, second, third = told.reports
    assert first.n_waiting == second.n_waiting == third.n_waiting == 0
    assert (second.n_new, second.n_gone, second.n_renamed) == (2, 1, 1)
    # Parent, licence, gating, the new one, the new name, and the one that was gated before.
    assert second.n_read == 6
    assert (third.n_new, third.n_gone, third.n_renamed) == (0, 0, 0)
    assert third.n_read == 4  # licence, parent, what was opened, and what is gated still


def test_states_are_told_as_of_each_day(book):
    ok, gone, gated = RepoStatus.OK, RepoStatus.GONE, RepoStatus.GATED
    assert states(book, DELETED) == [ok, gone, gone]
    assert states(book, OLD) == [ok, gone, gone]
    assert states(book, RENAMED) == [None, ok, ok]
    assert states(book, NEW) == [None, ok, ok]
    assert states(book, GATED) == [ok, gated, ok]
    licences = [as_of(book, day, LICENCE).licence for day in range(3)]
    assert licences == ["Apache-2.0", "MIT", "Apache-2.0"]
    downloads = [as_of(book, day, COUNTED).downloads_30d for day in range(3)]
    assert downloads == [downloads[0], downloads[0] + 100, downloads[0] - 20]
    likes = [as_of(book, day, COUNTED).likes for day in range(3)]
    assert likes == [likes[0], likes[0] + 1, likes[0] + 1]
    aliases = book.execute("SELECT old_id, new_id, seen_at FROM alias").fetchall()
    assert aliases == [(OLD, RENAMED, NOW + timedelta(days=1))]


def test_what_a_gated_repository_said_before_is_kept(book):
    texts = [as_of(book, day, GATED).card_text for day in range(3)]
    assert texts[0] is not None
    assert texts == [texts[0]] * 3


def intervals(book: duckdb.DuckDBPyConnection, child: str) -> list[tuple[object, ...]]:
    """The parents that its tags named: each with when it was first and last seen, and the end."""
    return book.execute(
        "SELECT parent, first_seen, last_seen, ended_at FROM claim WHERE child = ?"
        " AND source = 'tag' ORDER BY first_seen",
        [child],
    ).fetchall()


def test_claims_are_told_as_of_each_day(book):
    def parents(day: int, child: str, source: ClaimSource = ClaimSource.CARD) -> set[str | None]:
        claims = standing_claims(book, NOW + timedelta(days=day))
        return {c.parent for c in claims if c.child == child and c.source is source}

    was, became = {"lanternworks/Wick-270k"}, {"lanternworks/Wick-270k-Instruct"}
    for source in (ClaimSource.CARD, ClaimSource.TAG):
        assert [parents(day, PARENT, source) for day in range(3)] == [was, became, became]
        assert [parents(day, NEW, source) for day in range(3)] == [set(), was, was]
    second, third = NOW + timedelta(days=1), NOW + timedelta(days=2)
    assert intervals(book, PARENT) == [(*was, NOW, NOW, second), (*became, second, None, None)]
    assert intervals(book, LATE) == [(*was, NOW, second, third), (PARENT, third, None, None)]
    ended = book.execute("SELECT DISTINCT child FROM claim WHERE ended_at IS NOT NULL").fetchall()
    assert sorted(ended) == [(PARENT,), (LATE,)]
    # The children of a renamed model lead to its new name, on every day.
    assert RENAMED in {c.parent for c in standing_claims(book)}
    assert OLD not in {c.parent for c in standing_claims(book)}


CLOSING = {
    "claim": {"last_seen", "ended_at"},  # an interval is closed
    "recipe": {"ended_at"},
    "reading": {"read_at"},  # the same commit was read again
}


@pytest.mark.parametrize(
    "table", ["snapshot", "observation", "card", "file", "trait", "alias", *CLOSING]
)
def test_nothing_that_was_entered_is_overwritten(told, table):
    kept = [n for n, column in enumerate(columns_of(table)) if column not in CLOSING.get(table, ())]
    days = [
        Counter(tuple(row[n] for n in kept) for row in content[table].elements())
        for content in told.contents
    ]
    assert days[0] - days[1] == days[1] - days[2] == Counter()
    assert days[0] or table == "alias"


def test_faults_of_every_kind_leave_no_trace_in_a_crawl_of_the_pocket_hub(
    told, proxy, pocket, tmp_path
):
    with proxy.before(pocket):
        proxy.misbehave(*FAULTS, seed=7, share=0.5)
        run(Home(tmp_path), proxy)
    assert proxy.injected.total() > 100
    assert differences(logical_content(Home(tmp_path)), told.contents[0]) == []
    proxy.misbehave()


# Re-checking a part each night.


def check_one_page_a_night(folder: Path) -> Home:
    folder.mkdir()
    (folder / "settings.toml").write_text("[crawl]\ncheck_pages = 1\n")
    return Home(folder)


def gone(home: Home) -> set[str]:
    connection = home.open_working()
    try:
        found = connection.execute("SELECT repo_id FROM repository WHERE status = 'gone'")
        return {repo_id for (repo_id,) in found.fetchall()}
    finally:
        connection.close()


@pytest.fixture
def nightly(proxy: FaultyHub, tmp_path: Path):
    """A Hub of five pages that is re-checked by one each night, and how to let a night pass."""
    world = World(lay_out(tmp_path / "hub"))
    for n in range(5):
        repo_id = f"zoe/late-{n}"
        (world.folder / repo_id).mkdir(parents=True)
        (world.folder / repo_id / "README.md").write_text("# Late")
        world.entries[repo_id] = entry(30 + n)
    world.save()
    home = check_one_page_a_night(tmp_path / "home")
    proxy.misbehave()

    def night(n: int) -> CrawlReport:
        with proxy.before(world.folder):
            return run(home, proxy, day=n)

    return world, home, night


def test_a_deleted_repository_is_missed_when_the_walk_passes_it_and_nobody_else_is(nightly):
    world, home, night = nightly
    assert night(0).n_pages == 5
    # The newest creations come first: bob/merged (of n = 4) is on the last of the five pages.
    shutil.rmtree(world.folder / "bob/merged")
    for n in range(1, 5):
        assert night(n).n_gone == 0, n
        assert gone(home) == set(), n
    assert night(5).n_gone == 1
    assert gone(home) == {"bob/merged"}
    for n in range(6, 12):
        assert night(n).n_gone == 0
    assert gone(home) == {"bob/merged"}


def test_a_repository_that_slips_from_page_to_page_between_nights_is_not_called_gone(nightly):
    world, home, night = nightly
    night(0)
    night(1)
    # On a page that was passed already: every later page begins one repository further on.
    shutil.rmtree(world.folder / "zoe/late-3")
    for n in range(2, 6):
        night(n)
        assert gone(home) == set(), n
    assert night(6).n_gone == 1
    assert gone(home) == {"zoe/late-3"}
    connection = home.open_working()
    slipped = connection.execute(
        "SELECT count(*) FROM repository WHERE listed_at < ? AND status <> 'gone'",
        [NOW + timedelta(days=1)],
    ).fetchall()
    connection.close()
    assert slipped == [(0,)]


def test_a_kill_between_a_walk_and_its_missing_does_not_put_a_tombstone_off(nightly, monkeypatch):
    world, home, night = nightly
    night(0)
    shutil.rmtree(world.folder / "bob/merged")
    for n in range(1, 5):
        night(n)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lineage.pipeline.crawl.look_up", killed)
        with pytest.raises(KeyboardInterrupt):
            night(5)
    assert gone(home) == set()
    assert night(6).n_gone == 1
    assert gone(home) == {"bob/merged"}


# Kills among tombstones and new names.


def change_small(world: World) -> None:
    """One repository deleted, one renamed, one switched off, one gone after it was listed."""
    shutil.rmtree(world.folder / "eve/model-03")
    (world.folder / "bob/other").rename(world.folder / "bob/another")
    world.entries["bob/another"] = world.entries.pop("bob/other")
    world.entries["eve/model-05"] |= {"disabled": True, "revision": "e" * 40}
    world.entries["eve/model-07"] |= {"revision": "f" * 40}
    world.save()


def lead_to_another(asked: Asked) -> Reply | None:
    if asked.target.startswith("/api/models/eve/model-07?"):
        return Reply(404, (("X-Error-Code", "RepoNotFound"),), b"{}")
    if asked.target.startswith(("/api/models/bob/other?", "/bob/other/")):
        target = asked.target.replace("bob/other", "bob/another", 1)
        return Reply(307, (("Location", target),), b"")
    return None


def kill_the_second_crawl(killer: Killer, proxy: FaultyHub, folder: Path, *every: str) -> int:
    """Kill it at passages of these points (of ``execute`` at each fourth); returns how often."""
    world = World(lay_out(folder / "hub"))
    first = home_for_kills(folder / "first")
    proxy.misbehave()
    with proxy.before(world.folder):
        assert not killer.crawl(first)
    change_small(world)
    proxy.answer_with = lead_to_another
    try:
        with proxy.before(world.folder):
            whole = Home(shutil.copytree(first.root, folder / "whole"))
            assert not killer.crawl(whole, day=1)
            expected = logical_content(whole)
            connection = whole.open_working()
            statuses = dict(connection.execute("SELECT repo_id, status FROM repository").fetchall())
            twice = connection.execute(
                "SELECT repo_id FROM snapshot GROUP BY repo_id, observed_at HAVING count(*) > 1"
            ).fetchall()
            connection.close()
            assert twice == []
            assert [statuses[f"eve/model-0{n}"] for n in (3, 4, 5)] == ["gone", "ok", "disabled"]
            assert (statuses["bob/other"], statuses["bob/another"]) == ("gone", "ok")
            assert statuses["eve/model-07"] == "gone"
            n_passed = json.loads((whole.root / "passed.json").read_text())
            moments = [
                (point, n)
                for point in every
                for n in range(1, n_passed[point] + 1, 4 if point == "execute" else 1)
            ]
            for point, n in moments:
                home = Home(shutil.copytree(first.root, folder / f"{point}-{n}"))
                assert killer.crawl(home, point, n, day=1), (point, n)
                assert not killer.crawl(home, day=1)
                found = logical_content(home)
                assert differences(found, expected, but={"sweep"}) == [], (point, n)
                shutil.rmtree(home.root)
            return len(moments)
    finally:
        proxy.answer_with = lambda asked: None


def test_a_kill_among_tombstones_and_new_names_leaves_none_half_entered(killer, proxy, tmp_path):
    assert kill_the_second_crawl(killer, proxy, tmp_path, "status") >= 3


@pytest.mark.slow
def test_no_kill_of_a_second_crawl_leaves_anything_half_entered(killer, proxy, tmp_path):
    assert kill_the_second_crawl(killer, proxy, tmp_path, "execute", "committed") >= 40


# Tokens.

SECRET = "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"


def echo(kind: str) -> Callable[[Asked], Reply | None]:
    """Quote the request's headers where an answer can: at most three times for a request."""

    def answer(asked: Asked) -> Reply | None:
        heard = "; ".join(f"{name}: {value}" for name, value in asked.headers.items())
        assert SECRET in heard
        body = json.dumps({"error": heard}).encode()
        once = asked.n == 0
        if kind == "error" and once:
            return Reply(500, (("X-Error-Message", heard),), body)
        if kind == "refusal" and asked.target.startswith("/api/models/eve/"):
            return Reply(403, (("X-Error-Message", heard),), body)
        if kind == "page" and once:
            return Reply(200, (("Content-Type", "application/json"),), b"[" + body + b"]")
        if kind == "object" and once and not asked.target.startswith(LISTING):
            return Reply(200, (("Content-Type", "application/json"),), body)
        if kind == "link" and once and asked.target.startswith(LISTING):
            return Reply(200, (("Link", f'</api/models?x={SECRET}>; rel="next"'),), b"[]")
        if kind == "redirect" and once:
            return Reply(307, (("Location", f"/{SECRET}?{SECRET}"),), b"")
        if kind == "header" and once:
            return Reply(200, (("bad header\x01", heard),), body)
        if kind == "range" and asked.method == "GET" and "range" in asked.headers and once:
            return Reply(206, (("Content-Range", heard),), body)
        return None

    return answer


KINDS_OF_ECHO = ["error", "refusal", "page", "object", "link", "redirect", "header", "range"]


@pytest.mark.parametrize("kind", KINDS_OF_ECHO)
def test_a_token_that_a_server_quotes_is_kept_nowhere(kind, hub, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    hub.answer_with = echo(kind)
    home, failure = Home(tmp_path), ""
    try:
        for day in range(2):
            try:
                client = Hub(hub.endpoint, SECRET, sleep=lambda _: None)
                crawl(home, None, now=NOW + timedelta(days=day), hub=client)
            except HerdbookError:
                failure += traceback.format_exc()
    finally:
        hub.answer_with = lambda asked: None
    out, err = capfd.readouterr()
    assert SECRET not in failure + caplog.text + out + err
    archive = Archive(home.archive)
    for name in archive.names():
        assert SECRET not in repr(archive.read(name))
    assert list(archive.names())
    assert SECRET not in (home.archive / "journal.jsonl").read_text()
    connection = home.open_working()
    for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
        assert SECRET not in repr(connection.execute(f'SELECT * FROM "{table}"').fetchall())
    connection.close()
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


def test_a_token_goes_to_the_hub_and_an_error_that_quotes_it_says_the_rest(hub):
    hub.answer_with = echo("refusal")
    try:
        with pytest.raises(CrawlError, match="authorization: Bearer <token>") as caught:
            Hub(hub.endpoint, SECRET).get("api/models/eve/model-00")
    finally:
        hub.answer_with = lambda asked: None
    assert SECRET not in "".join(traceback.format_exception(caught.value))
