"""The watch: what is told of chosen models and of who came to descend from them, or went."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from crawler.children import list_children
from crawler.client import Hub
from crawler.errors import CrawlError, MalformedError, NotFoundError
from crawler.hub_server import running_hub
from crawler.webhook import EventAction, WebhookEvent
from lineage.cli import main
from lineage.cli.watch import report_lines
from lineage.errors import HerdbookError, HomeError, UsageError
from lineage.pipeline.crawl import crawl
from lineage.pipeline.watch import WatchReport, _Listing, watch, watch_repeatedly
from lineage.pipeline.watched import WatchedModel
from lineage.pipeline.webhook import Inbox
from lineage.store.descent import descendants, previous_watch
from lineage.store.home import Home

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def day(n: float) -> datetime:
    return NOW + timedelta(days=n)


class World:
    """A Hub in a folder whose repositories come, change and go on chosen days."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def put(self, repo_id: str, at: float, *parents: str, licence: str = "mit",
            relation: str | None = None) -> None:  # fmt: skip
        card = ["---", f"license: {licence}"]
        if parents:
            card.append(f"base_model: [{', '.join(parents)}]")
        if relation:
            card.append(f"base_model_relation: {relation}")
        path = self.folder / repo_id / "README.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*card, "---", f"# {repo_id}", f"as of day {at}"]))
        os.utime(path, (day(at).timestamp(),) * 2)

    def say(self, **entries: object) -> None:
        (self.folder / "hub.json").write_text(json.dumps({"models": entries}))

    def drop(self, repo_id: str) -> None:
        shutil.rmtree(self.folder / repo_id)


def read_simply(
    home: Home, endpoint: str | None, *, ids: Sequence[str], now: datetime, hub: Hub
) -> None:
    """A crawl reduced to what the watch needs: states and the claims that tags make."""
    words = ("author", "createdAt", "lastModified", "sha", "tags", "gated")
    expand = "&".join(f"expand={word}" for word in words)
    with contextlib.closing(home.open_working()) as connection:
        for repo_id in ids:
            try:
                record = json.loads(hub.get(f"api/models/{quote(repo_id)}?{expand}"))
            except NotFoundError as error:
                known = connection.execute(
                    "SELECT count(*) FROM snapshot WHERE repo_id = ?", [repo_id]
                ).fetchone()
                if known != (0,):
                    connection.execute(
                        "INSERT INTO snapshot (repo_id, observed_at, status) VALUES (?, ?, 'gone')",
                        [repo_id, now],
                    )
                else:
                    connection.execute(
                        "INSERT INTO problem (repo_id, stage, code, reason, observed_at)"
                        " VALUES (?, 'crawl', ?, ?, ?)", [repo_id, error.code, str(error), now],
                    )  # fmt: skip
                continue
            tags = record["tags"]
            licences = [tag.removeprefix("license:") for tag in tags if tag.startswith("license:")]
            connection.execute(
                "INSERT INTO snapshot (repo_id, revision, observed_at, status, gated, author,"
                " created_at, last_modified, licence) VALUES (?, ?, ?, 'ok', ?, ?, ?, ?, ?)",
                [repo_id, record["sha"], now, record["gated"] or None, record["author"],
                 record["createdAt"], record["lastModified"], licences[0] if licences else None],
            )  # fmt: skip
            claimed = [tag.split(":") for tag in tags if tag.startswith("base_model:")]
            claims = {words[-1]: words[1] for words in claimed if len(words) == 3}
            connection.execute(
                "UPDATE claim SET ended_at = $2, last_seen = $2 WHERE child = $1"
                " AND ended_at IS NULL AND parent NOT IN (SELECT unnest($3::VARCHAR[]))",
                [repo_id, now, list(claims)],
            )
            for parent, relation in claims.items():
                connection.execute(
                    "INSERT INTO claim (child, parent, parent_text, relation, source, text,"
                    " revision, first_seen) SELECT $1, $2, $2, $3, 'tag', '', $4, $5"
                    " WHERE NOT EXISTS (SELECT 1 FROM claim WHERE child = $1 AND parent = $2"
                    " AND ended_at IS NULL)",
                    [repo_id, parent, relation, record["sha"], now],
                )


def read_really(
    home: Home, endpoint: str | None, *, ids: Sequence[str], now: datetime, hub: Hub
) -> None:
    """The crawl stage itself."""
    crawl(home, endpoint, ids=ids, now=now, hub=hub)


class Watcher:
    """Watches a world on chosen days."""

    def __init__(self, home: Home, world: World, endpoint: str, read: Callable[..., object]):
        self.home, self.world, self.endpoint, self.read = home, world, endpoint, read
        self.reads: list[list[str]] = []

    def __call__(self, at: float, *models: str, limit: int = 200, hub: Hub | None = None
                 ) -> WatchReport:  # fmt: skip
        def read(*args, ids, **more):
            self.reads.append(list(ids))
            self.read(*args, ids=ids, **more)

        hub = hub or Hub(self.endpoint, sleep=lambda _: None)
        return watch(
            self.home, self.endpoint, models or ("ann/base",), limit=limit, now=day(at), hub=hub,
            read=read,
        )  # fmt: skip

    def one(self, at: float, model: str = "ann/base", **more) -> WatchedModel:
        return self(at, model, **more).models[0]


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "hub")
    world.put("ann/base", -30)
    world.put("bob/child", -20, "ann/base")
    world.put("cyd/other", -20)
    return world


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture(params=[read_simply, read_really], ids=["simple", "crawl"])
def look(request, home, world) -> Iterator[Watcher]:
    with running_hub(world.folder) as endpoint:
        yield Watcher(home, world, endpoint, request.param)


@pytest.fixture
def simply(home, world) -> Iterator[Watcher]:
    with running_hub(world.folder) as endpoint:
        yield Watcher(home, world, endpoint, read_simply)


def ids(found) -> list[str]:
    return [one.repo_id for one in found]


def text(report: WatchReport) -> str:
    return "\n".join(words for _, words in report_lines(report))


# Who came.


def test_the_first_watch_counts_and_calls_nothing_new(look):
    model = look.one(0)
    assert (model.since, model.problem, model.n_descendants, model.n_direct) == (None, None, 1, 1)
    assert model.new == model.late == model.vanished == model.changes == ()


def test_a_child_that_appears_between_two_watches_is_new_once(look, world):
    look(0)
    world.put("dan/child", 0.5, "ann/base", relation="quantized")
    model = look.one(1)
    (new,) = model.new
    assert (new.repo_id, new.relation, new.through, new.depth) == (
        "dan/child", "quantized", "ann/base", 1,
    )  # fmt: skip
    assert (new.author, new.created_at) == ("dan", day(0.5))
    assert (model.since, model.n_descendants) == (day(0), 2)
    again = look.one(2)
    assert (again.new, again.late, again.n_descendants) == ((), (), 2)


def test_a_grandchild_is_found_through_its_parent(look, world):
    look(0)
    world.put("eve/grand", 0.5, "bob/child")
    model = look.one(1)
    (new,) = model.new
    assert (new.repo_id, new.through, new.depth) == ("eve/grand", "bob/child", 2)
    assert (model.n_descendants, model.n_direct) == (2, 1)


def test_the_children_of_a_new_child_are_found_in_the_same_watch(look, world):
    look(0)
    world.put("dan/child", 0.5, "ann/base")
    world.put("eve/grand", 0.6, "dan/child")
    assert ids(look.one(1).new) == ["dan/child", "eve/grand"]


def test_a_line_of_new_descendants_is_followed_to_its_end(simply, world):
    simply(0)
    for n, (child, parent) in enumerate([("d/one", "ann/base"), ("d/two", "d/one"),
                                         ("d/three", "d/two"), ("d/four", "d/three")]):  # fmt: skip
        world.put(child, 0.1 * n + 0.1, parent)
    assert ids(simply.one(1).new) == ["d/one", "d/two", "d/three", "d/four"]


def test_a_listing_that_is_not_read_to_its_end_makes_nobody_missing(simply, monkeypatch):
    simply(0)
    whole = _Listing.read

    def cut(hub, names, max_pages):
        return _Listing({}, False) if names == ["ann/base"] else whole(hub, names, max_pages)

    monkeypatch.setattr(_Listing, "read", cut)
    simply(1)
    assert simply.reads[2:] == [["ann/base"]]
    monkeypatch.setattr(_Listing, "read", lambda *_: _Listing({}, True))
    simply(2)
    assert simply.reads[3:] == [["ann/base"], ["bob/child"]]


def test_descendants_of_one_that_newly_claims_descent_are_new_with_it(look, world):
    look(0, "ann/base", "cyd/other")
    world.put("eve/grand", 0.5, "cyd/other")
    assert ids(look(1, "ann/base", "cyd/other").models[1].new) == ["eve/grand"]
    world.put("cyd/other", 1.5, "ann/base")
    report = look(3, "ann/base", "cyd/other")
    assert [ids(model.new) for model in report.models] == [["cyd/other", "eve/grand"], []]


def test_cycles_and_self_parents_end(look, world):
    world.put("ann/base", -30, "ann/base", "fay/cycle")
    world.put("fay/cycle", -10, "bob/child", "fay/cycle")
    model = look.one(0)
    assert (model.n_descendants, model.n_direct) == (2, 1)
    world.put("bob/child", 0.5, "ann/base", "fay/cycle")
    assert look.one(1).new == ()


def test_what_a_crawl_entered_between_two_watches_is_new(look, world, home):
    look(0)
    world.put("dan/child", 0.5, "ann/base")
    hub = Hub(look.endpoint, sleep=lambda _: None)
    look.read(home, look.endpoint, ids=["dan/child"], now=day(1), hub=hub)
    assert ids(look.one(2).new) == ["dan/child"]


def test_several_models_are_told_apart_and_each_has_its_own_watch_before(look, world):
    look(0, "ann/base")
    world.put("dan/child", 0.5, "ann/base", "cyd/other")
    base, other = look(1, "ann/base", "cyd/other").models
    assert (ids(base.new), base.since) == (["dan/child"], day(0))
    assert (other.new, other.since, other.n_descendants) == ((), None, 1)


def test_a_limit_enters_the_newest_and_the_rest_is_said_and_later_not_called_new(look, world):
    for n in range(5):
        world.put(f"dan/m{n}", -10 + n, "ann/base")
    report = look(0, limit=2)
    assert (report.models[0].n_descendants, report.n_waiting) == (2, 4)
    assert set(look.reads[-1]) == {"dan/m4", "dan/m3"}
    world.put("dan/fresh", 0.5, "ann/base")
    report = look(2, limit=2)
    (model,) = report.models
    assert (ids(model.new), ids(model.late), report.n_waiting) == (["dan/fresh"], ["dan/m2"], 3)


def test_a_limit_bounds_whose_children_are_asked_for_and_says_so(simply, world):
    for n in range(5):
        world.put(f"dan/m{n}", -10 + n, "ann/base")
    simply(0)
    assert simply(1, limit=2).n_not_asked == 4
    assert "4 descendants were not asked" in text(simply(2, limit=2))


# Who went, and what changed.


def test_a_descendant_that_is_gone_vanished_once_and_its_children_stay(look, world):
    world.put("eve/grand", -5, "bob/child")
    look(0)
    world.drop("bob/child")
    model = look.one(1)
    assert [(one.repo_id, one.status) for one in model.vanished] == [("bob/child", "gone")]
    assert (model.new, model.n_descendants) == ((), 1)
    assert look.one(2).vanished == ()
    world.put("bob/child", 2.5, "ann/base")
    assert ids(look.one(3).new) == ["bob/child"]


def test_a_descendant_that_no_longer_says_so_vanished(look, world):
    look(0)
    world.put("bob/child", 0.5, "cyd/other")
    model = look.one(1)
    assert [(one.repo_id, one.status) for one in model.vanished] == [("bob/child", "ok")]
    assert model.n_descendants == 0


def test_changes_of_the_model_itself_are_told(look, world):
    before = look.one(0).state
    world.put("ann/base", 0.5, licence="apache-2.0")
    model = look.one(1)
    changes = {change.what: (change.before, change.after) for change in model.changes}
    assert [words.lower() for words in changes["licence"]] == ["mit", "apache-2.0"]
    assert changes["commit"] == (before.revision, model.state.revision)
    assert look.one(2).changes == ()


def test_a_watched_model_that_is_gone_is_told_and_its_descendants_stay(look, world):
    look(0)
    world.drop("ann/base")
    model = look.one(1)
    assert [(c.what, c.before, c.after) for c in model.changes] == [("status", "ok", "gone")]
    assert model.n_descendants == 1


def test_gating_is_told(look, world):
    look(0)
    world.say(**{"ann/base": {"gated": "manual"}})
    with running_hub(world.folder) as look.endpoint:
        model = look.one(1)
    assert ("gating", None, "manual") in [(c.what, c.before, c.after) for c in model.changes]


def test_a_renamed_model_is_watched_under_its_new_name(simply, world, home):
    simply(0)
    world.put("zoe/base", -30)
    world.put("dan/child", 0.5, "zoe/base")
    world.drop("ann/base")
    with contextlib.closing(home.open_working()) as connection:
        connection.execute("INSERT INTO alias VALUES ('ann/base', 'zoe/base', ?)", [day(0.5)])
    simply.read(home, None, ids=["zoe/base"], now=day(1), hub=Hub(simply.endpoint))
    model = simply.one(2)
    assert (model.repo_id, model.name, model.n_descendants) == ("ann/base", "zoe/base", 2)
    assert (ids(model.new), model.vanished) == (["dan/child"], ())
    # Its elder child is still tagged with the old name: it is not taken for one that is missing.
    assert simply.reads[2:] == [["ann/base"], ["dan/child"]]


# What goes wrong.


def test_a_bad_model_never_stops_the_others(look):
    report = look(0, "no/body", "../../etc", "ann/base", "bad\nid")
    unknown, path, base, newline = report.models
    assert unknown.state is None
    assert "404" in unknown.problem
    assert "not the id" in path.problem
    assert "not the id" in newline.problem
    assert (base.problem, base.n_descendants) == (None, 1)


def test_a_known_model_that_cannot_be_read_this_time_is_a_problem(simply, home):
    simply(0)

    def read(home, endpoint, *, ids, now, hub):
        with contextlib.closing(home.open_working()) as connection:
            connection.execute(
                "INSERT INTO problem (repo_id, stage, code, reason, observed_at)"
                " VALUES ('ann/base', 'crawl', 'server', '500 for it', ?)", [now],
            )  # fmt: skip

    whole, simply.read = simply.read, read
    assert simply.one(1).problem == "could not be read this time: 500 for it"
    simply.read = whole
    assert simply.one(2).problem is None


def test_a_model_that_breaks_the_crawl_leaves_the_others(simply):
    whole = simply.read

    def read(home, endpoint, *, ids, **more):
        if "cyd/other" in ids:
            raise HerdbookError("the crawl broke")
        whole(home, endpoint, ids=ids, **more)

    simply.read = read
    base, other = simply(0, "ann/base", "cyd/other").models
    assert base.problem is None
    assert other.problem == "the crawl broke"
    with pytest.raises(HerdbookError, match="broke"):
        simply(1, "cyd/other")


class Astray(Hub):
    """A Hub whose listings fail, or lead elsewhere."""

    def get_page(self, path, params=None, **more):
        if "bob/child" in path or "bob%2Fchild" in path:
            raise MalformedError("not this one")
        body, _ = super().get_page(path, params, **more)
        return body, "https://elsewhere.example/api/models"


def test_a_listing_that_leads_astray_is_a_problem_and_nobody_vanishes(simply, world):
    simply(0)
    model = simply.one(1, hub=Astray(simply.endpoint))
    assert "leads astray" in model.problem
    assert (model.vanished, model.n_descendants) == ((), 1)


def test_a_hub_that_cannot_be_reached_is_an_error_and_no_finished_watch(home):
    def read(*_, **__):
        raise HerdbookError("cannot be reached")

    with pytest.raises(HerdbookError, match="reached"):
        watch(home, None, ["ann/base"], now=NOW, read=read)
    with contextlib.closing(home.open_working()) as connection:
        assert previous_watch(connection, "ann/base") is None


@pytest.mark.parametrize("models", [[], [f"a/m{n}" for n in range(1001)]])
def test_no_model_and_too_many_are_refused(models, home):
    with pytest.raises(UsageError):
        watch(home, None, models)


def test_listings_are_paged_and_hostile_records_passed_over():
    class Pages(Hub):
        def get_page(self, path, params=None, **more):
            if path.startswith("api/"):
                first = [
                    {"id": "a/one", "createdAt": "2026-01-01T00:00:00.000Z"},
                    7,
                    {"id": "../x"},
                ]
                return json.dumps(first).encode(), f"{self.endpoint}/api/models?cursor=2"
            return b'[{"id": "a/two", "createdAt": 9}, {"id": "a/base"}, {"id": "a/x\\n"}]', None

    found, is_complete = list_children(Pages("http://hub.example"), "a/base", max_pages=9)
    assert [(child.repo_id, child.created_at) for child in found] == [
        ("a/one", NOW), ("a/two", None),
    ]  # fmt: skip
    assert is_complete
    cut, is_complete = list_children(Pages("http://hub.example"), "a/base", max_pages=1)
    assert (len(cut), is_complete) == (1, False)


@pytest.mark.parametrize("body", [b"{", b"{}", b"[" * 100_000])
def test_a_listing_that_is_none_is_malformed(body):
    class Broken(Hub):
        def get_page(self, path, params=None, **more):
            return body, None

    with pytest.raises(MalformedError):
        list_children(Broken("http://hub.example"), "a/base", max_pages=9)


# Webhooks.


def test_repositories_that_webhooks_named_are_read(look, world, home):
    look(0)
    world.put("dan/child", 0.5)  # tagged with nobody: no listing leads to it
    event = WebhookEvent(EventAction.CREATE, "dan/child", None, False, True, True, "")
    Inbox(home).append(event, day(0.6))
    report = look(1)
    assert report.n_requested == 1
    assert "dan/child" in look.reads[-1]
    with contextlib.closing(home.open_working()) as connection:
        seen = connection.execute("SELECT count(*) FROM snapshot WHERE repo_id = 'dan/child'")
        assert seen.fetchone() == (1,)


# The book.


def test_the_way_with_the_most_trusted_relation_is_taken(home):
    with contextlib.closing(home.open_working()) as connection:
        for parent, relation, source, first_seen in (
            ("a/base", None, "merge_recipe", NOW),
            ("a/base", "finetune", "tag", day(-1)),
            ("a/base", "merge", "prose", NOW),
            (None, "merge", "card", NOW),
        ):
            connection.execute(
                "INSERT INTO claim (child, parent, parent_text, relation, source, text, revision,"
                " first_seen) VALUES ('a/child', ?, '', ?, ?, '', '', ?)",
                [parent, relation, source, first_seen],
            )
        (how,) = descendants(connection, "a/base").values()
    assert (how.relation, how.first_seen, how.depth) == ("finetune", day(-1), 1)


# Again and again.


def test_watching_repeatedly_waits_and_outlives_a_failure():
    looks: list[object] = ["first", HomeError("busy"), CrawlError("down"), "last"]
    said: list[str] = []
    slept: list[float] = []

    def once():
        result = looks.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    reports = watch_repeatedly(once, 60, say=said.append, sleep=slept.append)
    assert [next(reports), next(reports)] == ["first", "last"]
    assert slept == [60, 60, 60]
    assert len(said) == 2


def test_a_first_watch_that_fails_ends_it():
    def once():
        raise HomeError("no home")

    with pytest.raises(HomeError):
        next(watch_repeatedly(once, 60, say=str, sleep=float))


# The command.


def test_a_watch_in_words(simply, world):
    simply(0)
    world.put("dan/child-with-a-long-name", 0.5, "ann/base", relation="adapter")
    world.put("eve/grand", 0.6, "dan/child-with-a-long-name")
    world.put("ann/base", 0.5, licence="apache-2.0")
    world.drop("bob/child")
    lines = text(simply(1)).splitlines()
    assert lines[0] == "ann/base"
    for words in (
        "apache-2.0 · 2 descendants, 1 direct",
        "  licence: mit → apache-2.0",
        "  2 new",
        "    + dan/child-with-a-long-name  adapter   2026-01-01  by dan  direct",
        "    + eve/grand                   finetune  2026-01-01  by eve  through dan/child-with",
        "  1 vanished",
        "    - bob/child  finetune  2025-12-12  by bob  direct  gone",
    ):
        assert any(words in line for line in lines), (words, lines)
    assert "nothing new since 2026-01-02 00:00 UTC" in text(simply(2))


@pytest.fixture
def crawled(simply, monkeypatch) -> Watcher:
    monkeypatch.setattr(watch, "__kwdefaults__", {**watch.__kwdefaults__, "read": simply.read})
    return simply


def test_a_name_with_control_characters_never_reaches_the_terminal(crawled, capsys):
    assert main(["watch", "x\x1b[31m", "--home", str(crawled.home.root)]) == 3
    assert "\x1b" not in capsys.readouterr().out


def test_the_command_prints_json_and_fails_for_an_unknown_model(crawled, capsys):
    command = ["watch", "--home", str(crawled.home.root), "--endpoint",
               crawled.endpoint, "--json", "ann/base"]  # fmt: skip
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["models"][0]["n_descendants"] == 1
    assert main([*command, "no/body"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert [model["problem"] is None for model in told["models"]] == [True, False]


def test_the_command_watches_until_it_is_interrupted(crawled, capsys, monkeypatch):
    sleeps = iter([None, KeyboardInterrupt])

    def sleep(seconds):
        assert seconds == 60
        if next(sleeps) is not None:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch_repeatedly, "__kwdefaults__", {"sleep": sleep})
    command = ["watch", "ann/base", "--home", str(crawled.home.root), "--endpoint",
               crawled.endpoint, "--json", "--every", "60"]  # fmt: skip
    assert main(command) == 130
    out = capsys.readouterr().out.splitlines()
    assert [bool(json.loads(line)["models"][0]["since"]) for line in out] == [False, True]


@pytest.mark.parametrize("words", [["--every", "5"], ["--every", "60", "--once"], ["--limit", "0"]])
def test_impolite_and_contradicting_options_are_refused(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["watch", "ann/base", *words])
    assert stopped.value.code == 2


def test_a_terminal_gets_colours(crawled, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    assert main(["watch", "ann/base", "--home", str(crawled.home.root), "--endpoint",
                 crawled.endpoint]) == 0  # fmt: skip
    assert "\x1b[1mann/base" in screen.getvalue()
