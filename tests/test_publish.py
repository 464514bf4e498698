"""Publications are whole, checked, read-only and swapped in by a rename."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.records import RepoStatus
from lineage.errors import NotFoundError, SchemaError
from lineage.model import Kind
from lineage.pipeline.publish import publish
from lineage.store import publication
from lineage.store import publish as store
from lineage.store.home import Home
from lineage.store.publish import open_published
from lineage.store.readings import record_status
from registers import COMMIT, START, add_claim, add_run, found, make_home

OTHER_COMMIT = "9876543210" * 4
FAMILY = [
    found("a/base"),
    found("a/chat", "a/base"),
    found("b/code", "a/base"),
    found("b/code-chat", "b/code"),
    found("m/mix", "a/chat", "b/code", kind=Kind.MERGE),
    found("z/alone"),
]


@pytest.fixture
def home(tmp_path):
    return make_home(tmp_path / "home", FAMILY, [("a/chat", "a/base"), ("z/alone", "far/away")])


def ask(home, query):
    with open_published(home) as connection:
        return connection.execute(query).fetchall()


def test_models_carry_their_place_in_the_graph(home):
    report = publish(home)
    assert (report.n_models, report.n_edges) == (6, 6)
    rows = dict(
        (name, rest)
        for name, *rest in ask(
            home,
            "SELECT repo_id, founder, generation, n_parents, n_children, n_descendants, size,"
            " primary_parent FROM model",
        )
    )
    assert rows["a/base"] == ["a/base", 0, 0, 2, 4, 5, None]
    assert rows["m/mix"] == ["a/base", 2, 2, 0, 0, 1, "a/chat"]
    assert rows["b/code-chat"] == ["a/base", 2, 1, 0, 0, 1, "b/code"]
    # far/away is an edge, but no model: nothing was seen of it
    assert rows["z/alone"] == ["z/alone", 0, 0, 0, 0, 1, None]
    assert ask(home, "SELECT verdict FROM edge WHERE parent = 'far/away'") == [("unverified",)]


def test_the_manifest_names_a_file_with_its_digest(home):
    report = publish(home)
    manifest = json.loads((home.published / "manifest.json").read_text())
    assert manifest["file"] == report.file
    assert manifest["sha256"] == report.sha256
    assert manifest["data_date"] == "2025-04-16T00:00:00Z"
    assert dict(ask(home, "FROM meta"))["endpoint"] == "http://127.0.0.1:1"


def test_an_altered_file_is_not_opened(home):
    report = publish(home)
    with (home.published / report.file).open("ab") as file:
        file.write(b"x")
    with pytest.raises(SchemaError, match="sha256"):
        open_published(home)


def test_a_publication_can_neither_be_written_nor_reach_outside(home, tmp_path):
    publish(home)
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with open_published(home) as connection:
        for statement in (
            "DELETE FROM edge",
            f"SELECT * FROM read_csv('{tmp_path}/secret.csv')",
            f"ATTACH '{tmp_path}/other.duckdb'",
            f"COPY edge TO '{tmp_path}/out.csv'",
            "SET enable_external_access = true",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(statement)


def test_the_large_files_of_the_latest_commit_are_published(home):
    files = [
        ("a/chat", COMMIT, "model.safetensors", 70, "5a" * 32),
        ("a/chat", COMMIT, "README.md", 7, None),
        ("a/chat", OTHER_COMMIT, "model-old.safetensors", 60, "6b" * 32),
        ("far/away", COMMIT, "model.safetensors", 50, "7c" * 32),
    ]
    with home.open_working() as connection:
        connection.executemany("INSERT INTO file VALUES (?, ?, ?, ?, ?, NULL)", files)
    publish(home)
    (row,) = ask(
        home, "SELECT repo_id, path, f.size_bytes, sha256 FROM large_file f JOIN model USING (pos)"
    )
    assert row == ("a/chat", "model.safetensors", 70, "5a" * 32)


def test_what_does_not_fit_into_memory_goes_to_a_folder_that_goes_with_the_process(home):
    publish(home)
    program = f"""
import os
from pathlib import Path
from lineage.store.home import Home
from lineage.store.publish import open_published
connection = open_published(Home(Path({str(home.root)!r})))
asked = "SELECT current_setting('memory_limit'), current_setting('temp_directory')"
memory, folder = connection.execute(asked).fetchall()[0]
assert os.listdir(folder) == []
print(memory, folder)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    memory, folder = done.stdout.rsplit(maxsplit=1)
    assert memory.split() == ["667.5", "MiB"]
    assert not Path(folder).exists()


def test_without_a_place_for_temporary_files_a_publication_opens_all_the_same(home, monkeypatch):
    def refuse(prefix):
        raise FileNotFoundError("no usable temporary directory")

    publish(home)
    publication._spill_folder.cache_clear()
    monkeypatch.setattr(publication.tempfile, "mkdtemp", refuse)
    try:
        assert ask(home, "SELECT count(*), current_setting('temp_directory') FROM model") == [
            (6, "")
        ]
    finally:
        publication._spill_folder.cache_clear()


def test_without_a_publication_the_sentence_says_what_to_run(tmp_path):
    with pytest.raises(NotFoundError, match="herdbook run"):
        open_published(Home(tmp_path))


def test_an_empty_catalogue_is_not_published(tmp_path):
    home = Home(tmp_path)
    home.open_working().close()
    with pytest.raises(NotFoundError, match="nothing was crawled"):
        publish(home)
    assert not (home.published / "manifest.json").exists()


def test_a_publication_that_fails_its_checks_leaves_the_last_one(home, monkeypatch):
    first = publish(home)
    monkeypatch.setattr(store, "_check", _refuse)
    with pytest.raises(SchemaError):
        publish(home)
    assert json.loads((home.published / "manifest.json").read_text())["file"] == first.file
    monkeypatch.undo()
    publish(home)
    assert not list(home.published.glob(".*part*"))


def _refuse(*_):
    raise SchemaError("refused")


def test_a_kill_before_the_manifest_leaves_the_last_publication(home, monkeypatch):
    first = publish(home)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_write_manifest", killed)
    with pytest.raises(KeyboardInterrupt):
        publish(home)
    monkeypatch.undo()
    assert json.loads((home.published / "manifest.json").read_text())["file"] == first.file
    assert ask(home, "SELECT count(*) FROM model") == [(6,)]


def test_the_last_publication_but_one_goes(home):
    names = [publish(home, now=datetime(2026, 1, day, tzinfo=UTC)).file for day in (1, 2, 3)]
    assert sorted(path.name for path in home.published.glob("*.duckdb")) == names[1:]


def test_a_reader_of_the_old_publication_is_not_disturbed(home):
    publish(home)
    with open_published(home) as old:
        publish(home)
        assert old.execute("SELECT count(*) FROM model").fetchone() == (6,)


def test_what_a_vanished_repository_said_outlives_it(home):
    with home.open_working() as connection:
        record_status(connection, "a/chat", RepoStatus.GONE, START + timedelta(days=300))
    publish(home)
    assert ask(
        home, "SELECT status, revision, downloads_30d, licence FROM model WHERE repo_id = 'a/chat'"
    ) == [("gone", COMMIT, 10, "mit")]
    assert ask(home, "SELECT verdict FROM edge WHERE child = 'a/chat'") == [("confirmed",)]


def test_a_claim_that_a_later_commit_took_back_makes_no_edge(home):
    with home.open_working() as connection:
        connection.execute("UPDATE claim SET ended_at = ? WHERE child = 'z/alone'", [START])
        add_claim(connection, "z/alone", "new/parent", revision=OTHER_COMMIT)
    publish(home)
    assert ask(home, "SELECT parent FROM edge WHERE child = 'z/alone'") == [("new/parent",)]


def test_readings_and_traits_of_earlier_commits_stay_behind(home):
    with home.open_working() as connection:
        connection.execute("UPDATE fingerprint SET made_at = made_at - INTERVAL 1 DAY")
        for revision, value in ((OTHER_COMMIT, 1.5), (COMMIT, 2.5)):
            connection.execute(
                "INSERT INTO trait VALUES ('a/chat', 'loss/code', ?, 'cross_entropy', 'd', false,"
                " 'card', ?, now())",
                [value, revision],
            )
        connection.execute(
            "INSERT INTO fingerprint SELECT * REPLACE (? AS revision, 7 AS bytes_read,"
            " made_at + INTERVAL 1 DAY AS made_at) FROM fingerprint WHERE repo_id = 'a/chat'",
            [OTHER_COMMIT],
        )
    publish(home)
    assert ask(home, "SELECT value FROM trait") == [(2.5,)]
    assert ask(home, "SELECT bytes_read FROM fingerprint WHERE repo_id = 'a/chat'") == [(7,)]


def test_ignoring_claims_publishes_none(home):
    report = publish(home, ignore_claims=True)
    assert report.by_verdict == (("undeclared", 5),)
    assert ask(home, "SELECT count(*) FROM claim") == [(0,)]


def test_an_inference_that_ignored_claims_is_published_without_them(home):
    with home.open_working() as connection:
        add_run(connection, "infer", ignore_claims=True)
    assert publish(home).ignored_claims
    assert dict(ask(home, "FROM meta"))["ignore_claims"] == "true"


@settings(max_examples=8)
@given(st.data())
def test_published_clades_are_contiguous_and_rows_distinct(data):
    n = data.draw(st.integers(1, 9))
    family = [found("m/0")]
    for i in range(1, n):
        parents = data.draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True))
        family.append(found(f"m/{i}", *(f"m/{k}" for k in parents), kind=Kind.MERGE))
    with TemporaryDirectory() as folder:
        home = make_home(Path(folder), family)
        publish(home)
        rows = ask(home, "SELECT repo_id, primary_parent, pos, size FROM model ORDER BY pos")
    assert [pos for _, _, pos, _ in rows] == list(range(n))
    below = {name: {name} for name, *_ in rows}
    for name, parent, _, _ in reversed(rows):
        if parent is not None:
            below[parent] |= below[name]
    for name, _, pos, size in rows:
        assert {row[0] for row in rows[pos : pos + size]} == below[name]
