"""Whatever is asked of the console: an answer or a sentence, nothing reached, nobody hurt."""

from __future__ import annotations

import gc
import io
import json
import math
import os
import re
import shutil
import threading
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineage.store import console as module
from lineage.store import console_worker
from lineage.store.console import Answer, Console, Limits, Refused, count_rows
from lineage.store.plain_table import words_of
from lineage.store.publication import connect_publication, read_manifest
from lineage.store.saved_questions import SAVED
from lineage.store.schema import PUBLISHED
from synthetic import MODELS, make_publication


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return make_publication(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def database(home):
    return home.published / read_manifest(home).file


@pytest.fixture(scope="module")
def console():
    with_time = Console(Limits(seconds=10.0))  # the machine may be busy; endings have their own
    with_time.warm()
    yield with_time
    with_time.close()


@pytest.fixture(scope="module")
def here(database, tmp_path_factory):
    """Asks in this process, which is fast: what the worker says, and how it is read."""
    copy = tmp_path_factory.mktemp("copy") / "copy.duckdb"
    shutil.copy(database, copy)
    console = Console()

    def ask(sql: str) -> Answer | Refused:
        out = io.BytesIO()
        console_worker.answer(console.limits.question(copy, sql), out)
        return console._read(out.getvalue(), 0.0)

    return ask


def rows(answer: Answer | Refused) -> list[tuple]:
    assert isinstance(answer, Answer), answer
    return [tuple(row.values()) for row in answer.table.to_pylist()]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT count(*) FROM model", [(len(MODELS),)]),
        ("WITH m AS (FROM model) SELECT count(*) FROM m;", [(len(MODELS),)]),
        ("FROM meta SELECT value WHERE key = 'endpoint'", [("https://huggingface.co",)]),
        ("VALUES (1, 'a')", [(1, "a")]),
        ("SELECT current_setting('TimeZone') -- a comment", [("UTC",)]),
        ("SELECT repo_id FROM model WHERE false", []),
    ],
)
def test_a_question_that_reads_is_answered(here, sql, expected):
    assert rows(here(sql)) == expected


@pytest.mark.parametrize(
    "sql", ["DESCRIBE model", "SHOW TABLES", "SUMMARIZE edge", "EXPLAIN FROM model"]
)
def test_the_tables_can_be_looked_at(here, sql):
    assert rows(here(sql))


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t AS SELECT 1", "CREATE TEMP TABLE t AS SELECT 1", "DROP TABLE model",
        "INSERT INTO meta VALUES ('a', 'b')", "UPDATE model SET likes = 0", "DELETE FROM model",
        "ALTER TABLE model ADD COLUMN x INT", "ATTACH ':memory:' AS x", "DETACH x", "USE memory",
        "COPY model TO '/tmp/a.csv'", "COPY meta FROM '/etc/passwd'", "EXPORT DATABASE '/tmp/x'",
        "INSTALL httpfs", "LOAD httpfs", "SET memory_limit = '99GB'", "RESET threads",
        "PRAGMA database_list", "CALL pragma_version()", "BEGIN", "VACUUM", "CHECKPOINT",
        "PREPARE p AS SELECT 1", "EXECUTE p", "SET VARIABLE x = 1", "PIVOT model ON status",
        "CREATE MACRO f() AS 1", "CREATE SECRET (TYPE s3)", "IMPORT DATABASE '/tmp/x'",
        "COMMENT ON TABLE model IS 'x'", "ANALYZE",
    ],
)  # fmt: skip
def test_a_statement_that_does_not_read_is_refused_by_name(here, sql):
    refused = here(sql)
    assert isinstance(refused, Refused)
    assert refused.sentence.startswith("This console only reads: SELECT")
    assert refused.sentence.endswith("is not allowed.")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/proc/self/environ')", "SELECT * FROM glob('/*')",
        "SELECT * FROM '/etc/passwd.csv'", "SELECT * FROM read_parquet('https://example.org/x')",
        "SELECT * FROM parquet_metadata('/tmp/x')", "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM read_json_auto('hf://datasets/a/b/c.json')",
        "SELECT * FROM query('FROM read_text(''/etc/passwd'')')",
        "EXPLAIN ANALYZE COPY model TO '/tmp/herdbook-console-test.csv'",
    ],
)  # fmt: skip
def test_files_and_hosts_are_out_of_reach(here, sql):
    refused = here(sql)
    assert isinstance(refused, Refused)
    assert "root:" not in refused.detail
    assert not Path("/tmp/herdbook-console-test.csv").exists()


def test_nothing_of_the_servers_environment_is_there(console, database, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with Console() as fresh:
        pid = fresh._waiting.take()
        try:
            assert b"hf_secret" not in Path(f"/proc/{pid.pid}/environ").read_bytes()
        finally:
            module._end(pid)
    refused = console.ask(database, "SELECT getenv('HF_TOKEN')")
    assert isinstance(refused, Refused)


def test_nothing_that_a_question_does_outlives_it(console, database):
    before = database.read_bytes()
    made = console.ask(database, "EXPLAIN ANALYZE CREATE TEMP TABLE kept AS SELECT 1")
    assert isinstance(made, Answer)
    assert isinstance(console.ask(database, "FROM kept"), Refused)
    assert database.read_bytes() == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM range(1000000000000)",
        "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT max(x) FROM t",
        "SELECT count(*) FROM " + ", ".join(f"model {name}" for name in "abcdefghi"),
    ],
)
def test_a_question_without_end_is_stopped_in_time(database, sql):
    with Console(Limits(seconds=0.7)) as console:
        console.warm()
        started = time.monotonic()
        refused = console.ask(database, sql)
        assert isinstance(refused, Refused)
        assert refused.sentence.startswith("Stopped after 0.7 s.")
        assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT length(repeat('x', 1000000000))",
        "SELECT list_sort(range(100000000))",
        "SELECT array_agg(range) FROM range(100000000)",
        "SELECT * FROM range(100000000) ORDER BY random()",
        "SELECT string_agg(repeat('x', 1000000)) FROM range(100000)",
        "SELECT repeat('x', 1000000) FROM range(10000)",
    ],
)
def test_a_question_that_eats_memory_is_stopped(console, database, sql):
    refused = console.ask(database, sql)
    assert isinstance(refused, Refused)
    assert refused.sentence.startswith("Stopped")
    assert "memory" in refused.sentence or "larger than" in refused.sentence


def test_a_trillion_rows_are_cut(console, database):
    answer = console.ask(database, "SELECT * FROM range(1000000000000)")
    assert isinstance(answer, Answer)
    assert (answer.table.num_rows, answer.is_cut) == (10_000, True)
    assert rows(answer)[-1] == (9_999,)


@pytest.mark.parametrize(("n", "is_cut"), [(9_999, False), (10_000, False), (10_001, True)])
def test_rows_are_cut_at_the_limit_exactly(here, n, is_cut):
    answer = here(f"FROM range({n})")
    assert isinstance(answer, Answer)
    assert (answer.table.num_rows, answer.is_cut) == (min(n, 10_000), is_cut)


def test_an_answer_that_is_too_wide_is_refused(here):
    refused = here("SELECT repeat('x', 17 * 1024 * 1024)")
    assert isinstance(refused, Refused)
    assert refused.sentence == (
        "Stopped: the answer is larger than 16 MB. Ask for fewer columns or rows."
    )


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("-- only a comment", "Write a question"),
        ("SELECT 1; SELECT 2", "this holds 2"),
        ("SELECT 1; DROP TABLE model", "this holds 2"),
        ("SELEC 1", "does not understand this as SQL"),
        ("SELECT '", "does not understand this as SQL"),
        ("FROM nowhere", "no such table, column or function"),
        ("SELECT nope FROM model", "do not fit the tables"),
        ("SELECT 'x'::INTEGER", "could not be read as the type"),
        ("SELECT error('<script>')", "DuckDB refuses this question"),
        ("SELECT 127::TINYINT + 1::TINYINT", "left the range"),
        ("SELECT " + "(" * 1900 + "1" + ")" * 1900, "does not understand"),
    ],
)
def test_a_mistake_has_its_sentence(here, sql, words):
    refused = here(sql)
    assert isinstance(refused, Refused)
    assert words in refused.sentence


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("", "Write a question"),
        (" \n\t", "Write a question"),
        ("SELECT " + "x" * 4_000, "4,007 characters; 4,000 are the most"),
        ("SELECT '\0'", "characters that are no text"),
        ("SELECT '\ud800'", "characters that are no text"),
    ],
)
def test_what_is_no_question_is_not_even_asked(database, sql, words, monkeypatch):
    monkeypatch.setattr(module, "_start", lambda: pytest.fail("a process was started"))
    refused = Console().ask(database, sql)
    assert isinstance(refused, Refused)
    assert words in refused.sentence


@pytest.mark.parametrize("sql", ["SELECT count(*) FROM model", "COPY model TO '/tmp/x'", "SELEC"])
def test_the_process_says_what_is_said_here(console, here, database, sql):
    said = console.ask(database, sql)
    if isinstance(said, Answer):
        assert rows(said) == rows(here(sql))
    else:
        assert said == here(sql)


def test_what_duckdb_says_is_kept_but_not_its_advice_on_settings(here):
    refused = here("SELEC 1")
    assert isinstance(refused, Refused)
    assert refused.detail.startswith('Parser Error: syntax error at or near "SELEC"')
    refused = here("SELECT array_agg(range) FROM range(100000000)")
    assert isinstance(refused, Refused)
    assert "SET threads" not in refused.detail


def test_a_database_that_went_away_is_told_and_may_be_asked_again(console, tmp_path):
    refused = console.ask(tmp_path / "gone.duckdb", "SELECT 1")
    assert isinstance(refused, Refused)
    assert (refused.again, refused.detail) == (True, "")
    assert "moved or replaced" in refused.sentence
    assert str(tmp_path) not in refused.sentence
    (tmp_path / "half.duckdb").write_bytes(b"half a database" * 400)
    refused = console.ask(tmp_path / "half.duckdb", "SELECT 1")
    assert isinstance(refused, Refused)
    assert refused.again


def test_names_are_distinct_and_types_are_those_of_files(here):
    answer = here(
        "SELECT 1 AS a, 2 AS a, 3 AS a_2, [1, NULL] AS list, {'k': 'v', 'n': 'nan'::DOUBLE} AS s,"
        " MAP {'k': 1} AS m, 1::HUGEINT AS h, 2.5::DECIMAL(9, 2) AS d, INTERVAL 26 HOUR AS i,"
        " '\\xFF'::BLOB AS b, UUID '5cb0efa2-384c-4367-b512-0f91f62268a5' AS u,"
        " DATE '2024-02-29' AS day, TIME '10:11' AS t, 'x'::ENUM ('x', 'y') AS e, NULL AS none,"
        " TIMESTAMPTZ '2024-01-01 00:00:00+00' AS w, true AS yes, '{\"j\": 1}'::JSON AS j",
    )
    assert isinstance(answer, Answer)
    (row,) = answer.table.to_pylist()
    assert row == {
        "a": 1, "a_2": 2, "a_2_2": 3, "list": "[1, null]", "s": '{"k": "v", "n": null}',
        "m": '[["k", 1]]', "h": Decimal(1), "d": Decimal("2.50"), "i": "0 months 0 days 93600 s",
        "b": "ff", "u": "5cb0efa2-384c-4367-b512-0f91f62268a5", "day": date(2024, 2, 29),
        "t": "10:11:00", "e": "x", "none": None, "w": datetime(2024, 1, 1, tzinfo=UTC),
        "yes": True, "j": '{"j": 1}',
    }  # fmt: skip


def test_answers_are_those_of_duckdb(here, home):
    connection = connect_publication(home, read_manifest(home))
    try:
        for table in PUBLISHED:
            sql = f'SELECT * FROM "{table.name}" ORDER BY ALL'
            said = here(sql)
            assert isinstance(said, Answer)
            expected = connection.execute(sql).fetchall()
            assert len(expected) == said.table.num_rows == count_rows(connection)[table.name]
            for mine, theirs in zip(rows(said), expected, strict=True):
                for a, b in zip(mine, theirs, strict=True):
                    assert a == b or isinstance(b, list | dict) or (a != a and b != b)
    finally:
        connection.close()


@pytest.mark.parametrize("saved", SAVED, ids=lambda saved: saved.title)
def test_saved_questions_are_answered_and_fit_into_an_address(here, saved):
    assert len(saved.sql) < Limits().characters
    assert saved.words.endswith(".")
    answer = here(saved.sql)
    assert isinstance(answer, Answer), answer


def test_saved_questions_say_what_they_promise(here):
    asked = {saved.title: rows(here(saved.sql)) for saved in SAVED}
    assert asked["Largest families"][0][:2] == ("acme/base-a-7b", 11)
    assert ("zen/chat-v2", "zen/chat") in [row[:2] for row in asked["Undeclared parents"]]
    ((child, declared, *_),) = asked["Contradicted declarations"]
    assert (child, declared) == ("liar/claims-base-b", "other/base-b")
    assert asked["Merges and their shares"][0][2] == "zen/chat 0.62 + other/base-b-tuned 0.38"
    assert asked["Parents outside the register"] == [
        ("vanished/old-model", 1, "lost/child-of-ghost")
    ]
    # The founder and its eleven descendants; what a merge has from elsewhere is none of them.
    assert sum(row[1] for row in asked["The largest family by generation"]) == 12
    births = sum(row[2] for row in asked["Births by month and relation"])
    assert births == sum(bool(parents) for _, _, _, parents, _ in MODELS)


def test_no_more_than_so_many_at_once_and_the_next_is_told(database):
    with Console(Limits(at_once=1, queue_s=0.2, seconds=3.0)) as console:
        console.warm()
        slow = threading.Thread(
            target=console.ask, args=(database, "SELECT count(*) FROM range(1000000000000)")
        )
        slow.start()
        while console._places._value:
            time.sleep(0.01)
        refused = console.ask(database, "SELECT 1")
        slow.join()
        assert isinstance(refused, Refused)
        assert refused.again
        assert refused.sentence.startswith("Other visitors")
        assert rows(console.ask(database, "SELECT 1")) == [(1,)]


def test_many_visitors_each_get_their_own_answer(database):
    said: dict[int, list[tuple]] = {}
    with Console(Limits(at_once=2, queue_s=60.0, seconds=20.0)) as console:

        def ask(number: int) -> None:
            said[number] = rows(console.ask(database, f"SELECT {number}"))

        visitors = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join()
    assert said == {number: [(number,)] for number in range(4)}


def test_a_process_that_died_while_waiting_is_replaced(console, database):
    console.warm()
    console._waiting.process.kill()
    console._waiting.process.wait()
    assert rows(console.ask(database, "SELECT 1")) == [(1,)]


def test_a_process_that_breaks_is_a_sentence(console, database, monkeypatch):
    monkeypatch.setattr(module, "_WORKER", Path("/dev/null"))
    with Console() as broken:
        refused = broken.ask(database, "SELECT 1")
    assert isinstance(refused, Refused)
    assert "did not start" in refused.sentence
    assert refused.again
    assert console._read(b"", 0.1) == Refused(
        "Stopped: the process that answered broke under this question; nothing else did."
    )


def test_letting_go_of_a_console_ends_its_process():
    console = Console()
    console.warm()
    process = console._waiting.process
    del console
    gc.collect()
    assert process.returncode is not None


def test_a_process_whose_server_ended_ends_as_well():
    console = Console()
    console.warm()
    process = console._waiting.process
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    console.close()


TOKENS = st.sampled_from(
    ["SELECT", "FROM", "WHERE", "model", "edge", "repo_id", "*", ",", "(", ")", "'", '"', ";", "1",
     "NULL", "UNION", "ALL", "WITH", "AS", "range(9)", "--", "/*", "*/", "$$", "::", "LIMIT",
     "COPY", "TO", "'/tmp/x'", "ATTACH", "read_text", "CREATE", "TABLE", "\n", "é", "\u202e", "🧬"]
)  # fmt: skip


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TOKENS, max_size=12).map(" ".join) | st.text(max_size=60))
def test_any_text_gets_an_answer_or_a_sentence(here, sql):
    said = here(sql)
    if isinstance(said, Refused):
        assert re.search(r"[.,:]$|ones\.$", said.sentence)
        assert len(said.detail) <= 2_000
    else:
        assert said.table.num_rows <= 10_000
        assert len(set(said.table.column_names)) == said.table.num_columns


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.lists(VALUES, min_size=1, max_size=3) | st.dictionaries(st.text(max_size=3), VALUES))
def test_lists_and_structures_become_json_that_can_be_read(value):
    def equal(a: object, b: object) -> bool:
        if isinstance(a, float) and not math.isfinite(a):
            return b is None
        if isinstance(a, dict) and isinstance(b, dict):
            return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
        if isinstance(a, list) and isinstance(b, list):
            return len(a) == len(b) and all(map(equal, a, b))
        return a == b

    assert equal(value, json.loads(words_of(value)))


def test_the_worker_is_confined(database):
    """What the system enforces, seen from inside."""
    with Console() as console:
        worker = console._waiting.take()
        with worker:
            assert module._is_ready(worker)
            asked = {"database": str(database), "sql": "SELECT count(*) FROM range(1000000000000)"}
            asked |= {"max_rows": 1, "max_bytes": 1, "memory_bytes": 256 << 20}
            worker.stdin.write(json.dumps(asked).encode() + b"\n")
            worker.stdin.flush()
            limits, until = "", time.monotonic() + 20
            while "Max file size             0 " not in limits and time.monotonic() < until:
                limits = Path(f"/proc/{worker.pid}/limits").read_text()
            nice = os.getpriority(os.PRIO_PROCESS, worker.pid)
            worker.kill()
    assert re.search(r"Max data size +805306368 +805306368", limits)
    assert re.search(r"Max core file size +0 +0", limits)
    assert re.search(r"Max cpu time +30 +30", limits)
    assert nice >= 10


def test_the_worker_needs_nothing_of_this_package():
    text = module._WORKER.read_text()
    assert not re.search(r"^(from|import) (lineage|crawler)", text, re.MULTILINE)


def test_the_limits_of_the_published_connection_hold_too(home):
    connection = connect_publication(home, read_manifest(home))
    try:
        with pytest.raises(duckdb.Error):
            connection.execute("SET memory_limit = '9GB'")
        with pytest.raises(duckdb.Error):
            connection.execute("CREATE TABLE t (x INT)")
    finally:
        connection.close()
