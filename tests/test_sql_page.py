"""The pages SQL & data and About, and what every page says of a register that cannot be read."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import shutil
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import parse_qsl, urlsplit

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.errors import NotFoundError, SchemaError
from lineage.explorer import register
from lineage.explorer.frame import frame_query, parent_site
from lineage.explorer.manual import chapters, read_chapter
from lineage.explorer.pages import sql as page
from lineage.store.home import Home
from lineage.store.publication import (
    companion_path,
    connect_publication,
    file_sha256,
    parse_manifest,
    read_manifest,
)
from lineage.store.saved_questions import SAVED
from synthetic import make_publication
from test_explorer import asked, markup, open_page


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_publication(tmp_path_factory.mktemp("home")).root


@pytest.fixture
def visit(root, monkeypatch):
    monkeypatch.setenv("HERDBOOK_HOME", str(root))
    return open_page


@pytest.fixture
def own(root, tmp_path, monkeypatch):
    """A home that a test may damage."""
    shutil.copytree(root, tmp_path / "home")
    monkeypatch.setenv("HERDBOOK_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home")


@pytest.fixture(scope="module", autouse=True)
def _ended():
    yield
    page._console.clear()


def without_tables(app) -> str:
    return markup(app).split("Saved questions")[0]


# -- SQL & data ------------------------------------------------------------------------------------


def test_the_page_offers_questions_and_tables_before_anything_is_asked(visit):
    app = visit("sql")
    text = markup(app)
    assert app.text_area[0].value == ""
    assert all(saved.title.replace("&", "&amp;") in text for saved in SAVED)
    assert "clade size: the clade is pos BETWEEN pos AND pos + size - 1" in text
    assert not app.dataframe


def test_the_question_of_the_address_is_asked_and_answered(visit):
    app = visit("sql", q="SELECT repo_id, likes FROM model ORDER BY likes DESC LIMIT 3")
    assert app.text_area[0].value.startswith("SELECT repo_id, likes")
    assert list(app.dataframe[0].value["repo_id"]) == [
        "acme/base-a-7b", "zen/chat", "zen/chat-v2",
    ]  # fmt: skip
    assert "3 rows in" in markup(app)
    assert [button.label for button in app.download_button] == [
        "Answer (CSV)", "Answer (Parquet)", "Answer (JSON)",
    ]  # fmt: skip


def test_what_is_typed_stands_in_the_address_and_the_page_begins_anew(visit):
    app = visit("sql", q="FROM range(300)", page="2")
    app.text_area[0].set_value("SELECT 41 + 1 AS answer")
    app.button[0].click().run()
    assert asked(app, "q") == "SELECT 41 + 1 AS answer"
    assert "page" not in app.query_params
    assert app.dataframe[0].value["answer"][0] == 42
    app.text_area[0].set_value("  ")
    app.button[0].click().run()
    assert "q" not in app.query_params


def test_a_saved_question_is_a_link_that_asks_it(visit):
    saved = SAVED[0]
    links = [part.split('"')[0] for part in markup(visit("sql")).split('data-go="')[1:]]
    queries = [dict(parse_qsl(urlsplit(link.replace("&amp;", "&")).query)) for link in links]
    assert {"q": saved.sql} in queries
    text = markup(visit("sql", q=saved.sql))
    assert 'class="card on"' in text


@pytest.mark.parametrize(
    ("number", "first", "last"),
    [("1", 0, 99), ("2", 100, 199), ("3", 200, 249), ("9", 200, 249), ("0", 0, 99), ("-1", 0, 99),
     ("²", 0, 99), ("x", 0, 99), ("9" * 60, 0, 99)],
)  # fmt: skip
def test_a_long_answer_is_paged_whatever_the_address_says(visit, number, first, last):
    app = visit("sql", q="SELECT range AS n FROM range(250)", page=number)
    shown = list(app.dataframe[0].value["n"])
    assert (shown[0], shown[-1]) == (first, last)
    assert f"rows {first + 1:,} to {last + 1:,}" in markup(app)


def test_an_answer_that_was_cut_says_so(visit):
    assert "The first 10,000 rows in" in markup(visit("sql", q="FROM range(10001)"))


def test_an_empty_answer_is_a_sentence(visit):
    assert "No row of the register fits" in markup(visit("sql", q="FROM model WHERE false"))


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("COPY model TO '/tmp/x'", "COPY is not allowed"),
        ("SELECT * FROM read_text('/etc/passwd')", "out of reach here"),
        ("SELECT 1; SELECT 2", "this holds 2"),
        ("x" * 20_000, "4,000 are the most"),
        ("-- ", "Write a question"),
        ("SELECT error('<script>alert(1)</script>')", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("<img src=x onerror=alert(1)>", "does not understand this as SQL"),
        ("SELECT '\u202e\u200b", "does not understand this as SQL"),
    ],
)
def test_a_question_that_gets_no_answer_gets_a_sentence(visit, sql, words):
    app = visit("sql", q=sql)
    text = markup(app)
    assert words in text
    assert "<script" not in text
    assert "<img" not in text
    assert not app.dataframe


def test_what_may_be_asked_again_is_not_remembered(visit, monkeypatch):
    from lineage.views.console import Answer, Console, Refused

    said = [Refused("All busy.", again=True), Answer(pa.table({"n": [7]}), False, 0.1)]
    monkeypatch.setattr(Console, "ask", lambda self, database, sql: said.pop(0))
    sql = "SELECT 'asked twice'"
    assert "All busy." in markup(visit("sql", q=sql))
    assert list(visit("sql", q=sql).dataframe[0].value["n"]) == [7]
    assert list(visit("sql", q=sql).dataframe[0].value["n"]) == [7]  # remembered


TABLE = pa.table(
    {
        "name": ["=cmd()", "a,b", None],
        "n": pa.array([1, None, 3], pa.int64()),
        "x": [1.5, math.nan, math.inf],
        "when": pa.array([datetime(2024, 1, 2, tzinfo=UTC), None, None]),
        "exact": pa.array([Decimal("1.20"), None, None]),
        "yes": [True, False, None],
    }
)


def test_files_hold_the_answer():
    read = pq.read_table(io.BytesIO(page.as_parquet(TABLE)))
    assert read.schema == TABLE.schema
    assert str(read.to_pylist()) == str(TABLE.to_pylist())  # NaN is NaN
    first, second, third = json.loads(page.as_json(TABLE))
    assert first == {
        "name": "=cmd()", "n": 1, "x": 1.5, "when": "2024-01-02T00:00:00+00:00", "exact": "1.20",
        "yes": True,
    }  # fmt: skip
    assert (second["x"], third["x"], third["name"]) == (None, None, None)
    lines = page.as_csv(TABLE).decode().splitlines()
    assert lines[0] == "name,n,x,when,exact,yes"
    assert lines[1].startswith("'=cmd(),1,1.5,2024-01-02")


@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.floats()),
        min_size=1,
        max_size=5,
    )
)
def test_files_can_be_read_back(values):
    table = pa.table({"t": [text for text, _ in values], "x": [x for _, x in values]})
    read = pq.read_table(io.BytesIO(page.as_parquet(table)))
    assert read.column("t").to_pylist() == [text for text, _ in values]
    rows = json.loads(page.as_json(table))
    assert [row["t"] for row in rows] == [text for text, _ in values]
    for row, (_, x) in zip(rows, values, strict=True):
        assert row["x"] == (x if math.isfinite(x) else None)


# -- About -----------------------------------------------------------------------------------------


def test_about_tells_how_it_is_made_and_how_to_cite_it(visit):
    app = visit("about")
    text = markup(app)
    for words in ("How it is made", "Coverage", "Limits", "How sure", "about?doc=statistics"):
        assert words in text
    sentence, entry = (block.value for block in app.code)
    sha256 = read_manifest(Home(register.default_home().root)).sha256
    assert sentence == f"herdbook 0.1.0, register of 2024-12-01 (sha256 {sha256})."
    assert entry.startswith("@misc{herdbook-2024-12-01,")
    assert entry.count("{") == entry.count("}")


def test_a_fetched_register_is_cited_by_its_commit(own):
    manifest = read_manifest(own)
    origin = {"address": "hf://datasets/a/b", "commit": "c" * 40, "sha256": manifest.sha256}
    (own.published / "origin.json").write_text(json.dumps(origin))
    app = open_page("about")
    where = f"hf://datasets/a/b@{'c' * 40}"
    assert where in markup(app)
    assert app.code[0].value.endswith(f"(sha256 {manifest.sha256}). {where}")
    assert f"howpublished = {{\\url{{{where}}}}}," in app.code[1].value
    assert f"herdbook fetch {where}" in markup(open_page("sql"))


def test_a_chapter_is_shown_with_a_way_back(visit):
    app = visit("about", doc="glossary")
    assert app.markdown[0].value == read_chapter("glossary").strip()
    assert 'data-go="about"' in markup(app)


@pytest.mark.parametrize("name", chapters())
def test_links_in_a_chapter_stay_inside(name):
    text = read_chapter(name)
    assert text.startswith("# ")
    assert "![" not in text
    for target in re.findall(r"\]\(([^)]*)\)", text):
        assert target.startswith(("about?doc=", "https://", "http://", "#")), target


@pytest.mark.parametrize("name", ["../../etc/passwd", "README", "nope", "<b>", "x" * 9_000])
def test_a_chapter_that_is_none_shows_the_page(visit, name):
    assert "About this register" in markup(visit("about", doc=name))
    with pytest.raises(KeyError):
        read_chapter(name)


# -- in another site's frame -----------------------------------------------------------------------


def frames(app) -> list[dict]:
    said = [json.loads(item.proto.json) for item in app.main if item.type == "bidi_component"]
    return [data for data in said if "origin" in data]


def test_the_framing_site_is_told_the_page_and_its_parameters_and_nothing_else(visit, monkeypatch):
    assert not frames(visit("audit", verdict="undeclared"))
    monkeypatch.setenv("HERDBOOK_FRAME", "https://huggingface.co/")
    (told,) = frames(visit("about", doc="glossary"))
    assert told == {"origin": "https://huggingface.co", "query": "?at=about&doc=glossary"}
    (told,) = frames(visit())
    assert told["query"] == ""


@pytest.mark.parametrize(
    "site",
    ["*", "", "null", "http://huggingface.co", "https://huggingface.co/x", "https://a b",
     "javascript:alert(1)", "https://huggingface.co;*"],
)  # fmt: skip
def test_what_is_no_site_is_told_nothing(site, monkeypatch):
    monkeypatch.setenv("HERDBOOK_FRAME", site)
    assert parent_site() is None


def test_what_the_framing_site_hands_back_leads_to_the_page(visit):
    app = visit("", at="about", doc="glossary")
    assert asked(app, "doc") == "glossary"
    assert "at" not in app.query_params
    assert "at" not in visit("", at="no/such<page>").query_params


@given(
    st.sampled_from(["", "lineage", "sql"]),
    st.dictionaries(st.text("abcmodel_", min_size=1), st.text(st.characters(codec="utf-8"))),
)
def test_a_query_string_reads_as_it_was_written(name, query):
    query.pop("at", None)
    written = frame_query(name, query)
    assert written == "" or written[0] == "?"
    read = dict(parse_qsl(written[1:], keep_blank_values=True))
    assert read == {**({"at": name} if name else {}), **query}


# -- a register that cannot be read ----------------------------------------------------------------


def replace_manifest(home: Home, **changed: object) -> None:
    path = home.published / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"file": 1}', "\ud800", "[" * 9_999])
def test_a_manifest_that_is_none_is_a_sentence(own, text):
    path = own.published / "manifest.json"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    shown = markup(open_page("about"))
    assert "This register cannot be shown" in shown
    assert "cannot be read" in shown


@pytest.mark.parametrize(
    "changed",
    [
        {"file": "../manifest.json"},
        {"file": "manifest.json"},
        {"file": ""},
        {"file": "/etc/passwd"},
        {"sha256": "x"},
        {"companions": {"names": {"file": "..", "sha256": "0" * 64}}},
    ],
)
def test_a_manifest_that_leads_elsewhere_is_refused(own, changed):
    replace_manifest(own, **changed)
    with pytest.raises(SchemaError, match="cannot be one"):
        read_manifest(own)
    assert "This register cannot be shown" in markup(open_page())


def test_a_database_that_is_half_copied_or_gone_is_a_sentence(own):
    path = own.published / read_manifest(own).file
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "sha256 differs" in markup(open_page())
    path.unlink()
    assert "is missing" in markup(open_page())
    path.write_bytes(whole)
    assert "Who descends from whom" in markup(open_page())


def test_a_database_that_is_replaced_while_open_is_checked_again(own):
    path = own.published / read_manifest(own).file
    assert "Who descends from whom" in markup(open_page())
    path.write_bytes(b"something else" * 10_000)
    assert "sha256 differs" in markup(open_page())


def test_a_database_that_breaks_under_a_page_is_a_sentence(own, monkeypatch):
    from lineage import views

    def breaks(*_: object) -> None:
        raise duckdb.IOException("IO Error: could not read from file /secret/path")

    monkeypatch.setattr(views, "coverage", breaks)
    shown = markup(open_page("about"))
    assert "replaced or damaged while it was being read" in shown
    assert "/secret/path" not in shown


def test_a_database_without_a_column_of_the_schema_is_named(own):
    manifest = read_manifest(own)
    path = own.published / manifest.file
    with duckdb.connect(str(path)) as connection:
        connection.execute("ALTER TABLE meta DROP COLUMN value")
    replace_manifest(own, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(SchemaError, match=r"lacks meta\.value"):
        connect_publication(own, read_manifest(own))
    assert "lacks meta.value" in markup(open_page())


def test_a_companion_is_handed_out_only_as_its_manifest_says(own):
    beside = own.published / "names.bin"
    beside.write_bytes(b"names")
    digest = hashlib.sha256(b"names").hexdigest()
    replace_manifest(own, companions={"names": {"file": beside.name, "sha256": digest}})
    manifest = read_manifest(own)
    assert companion_path(own, manifest, "names") == beside
    with pytest.raises(NotFoundError, match="no file for the atlas"):
        companion_path(own, manifest, "atlas")
    beside.write_bytes(b"other")
    with pytest.raises(SchemaError, match="sha256 differs"):
        companion_path(own, manifest, "names")
    beside.unlink()
    with pytest.raises(NotFoundError, match=r"names\.bin is missing"):
        companion_path(own, manifest, "names")


def test_a_digest_is_computed_once_for_each_state_of_a_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"a")
    first = file_sha256(path)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("computed again"))
    assert file_sha256(path) == first
    monkeypatch.undo()
    path.write_bytes(b"bb")
    assert file_sha256(path) == hashlib.sha256(b"bb").hexdigest()


@given(st.text(max_size=40) | st.recursive(
    st.none() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["schema_version", "data_date", "sha256", "file", "herdbook_version", "counts",
         "companions"]), inner),
    max_leaves=9,
).map(json.dumps))  # fmt: skip
def test_any_text_is_a_manifest_or_a_sentence(text):
    with pytest.raises(SchemaError):
        parse_manifest(text, "somewhere")
