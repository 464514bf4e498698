"""Every page, deep link and empty state, run by Streamlit's own test driver."""

from __future__ import annotations

import ast
import hashlib
import json

import duckdb
import pytest

from lineage import views
from lineage.explorer.register import prepare
from lineage.explorer.words import estimate_sentence
from lineage.views import EstimateRow
from page_driver import APP, asked, markup, open_page
from synthetic import HOSTILE, make_publication


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_publication(tmp_path_factory.mktemp("home")).root


@pytest.fixture
def visit(root, monkeypatch):
    monkeypatch.setenv("HERDBOOK_HOME", str(root))
    return open_page


def test_find_greets_with_counts_and_examples(visit):
    text = markup(visit())
    assert "Who descends from whom" in text
    assert "A parent nobody declared" in text
    assert 'data-go="lineage?model=blend%2Fslerp-a-b"' in text


@pytest.mark.parametrize("damage", ["nothing", "cut", "a folder", "no manifest"])
def test_the_server_prepares_whatever_the_publication_is(tmp_path, damage):
    home = make_publication(tmp_path)
    database = next(home.published.glob("*.duckdb"))
    if damage == "cut":
        database.write_bytes(database.read_bytes()[:5000])
    elif damage == "a folder":
        database.unlink()
        database.mkdir()
    elif damage == "no manifest":
        (home.published / "manifest.json").unlink()
    prepare(home)


def test_a_question_that_needs_too_much_memory_has_its_sentence(visit, monkeypatch):
    def burst(cursor):
        raise duckdb.OutOfMemoryException("could not allocate block of size 256 KiB")

    monkeypatch.setattr(views, "coverage", burst)
    assert "Too much at once" in markup(visit())


def test_find_shows_what_the_address_asks_for(visit):
    app = visit(q="slerp")
    assert app.text_input[0].value == "slerp"
    text = markup(app)
    assert "2 models whose name contains" in text
    assert "A parent nobody declared" not in text


def test_find_answers_what_is_typed(visit):
    app = visit()
    app.text_input[0].set_value("adapter").run()
    assert "style-adapter" in markup(app)


def test_find_offers_near_names_and_never_a_blank_page(visit):
    assert "These look most like it" in markup(visit(q="zen/chatt"))
    assert "No model of that name" in markup(visit(q="qqqqqqqqqqq"))


def test_lineage_draws_the_model_of_the_address(visit):
    app = visit("lineage", model="blend/slerp-a-b")
    text = markup(app)
    assert 'data-id="other/base-b-tuned"' in text
    assert "merge_method: slerp" in text
    assert [button.label for button in app.download_button] == [
        "Drawing (SVG)", "Edges (CSV)", "Edges (Parquet)", "Models and edges (JSON)",
        "Graph (GraphML)", "Tree (Newick)", "Network (extended Newick)", "Coloured tree (Nexus)",
        "Recipe (YAML)",
    ]  # fmt: skip


def test_the_large_files_of_a_model_are_listed_as_text(visit):
    text = markup(visit("lineage", model="acme/base-a-7b"))
    assert "&lt;b&gt;/../model.safetensors" in text
    assert f'title="{0:064x}"' in text
    assert "14.5 GB" in text


def test_the_table_of_a_lineage_is_made_when_it_is_opened(visit):
    assert not visit("lineage", model="blend/slerp-a-b").dataframe
    twin = visit("lineage", model="blend/slerp-a-b", table="true").dataframe[0].value
    assert list(twin["model"]) == [
        "acme/base-a-7b", "zen/chat", "blend/slerp-a-b", "blend/slerp-a-b-dpo", "other/base-b",
        "other/base-b-tuned",
    ]  # fmt: skip


def test_lineage_takes_view_and_edges_from_the_address_and_writes_them_there(visit):
    app = visit("lineage", model="zen/chat", view="family", show="found")
    assert [control.value for control in app.segmented_control] == ["family", "found"]
    assert "view=family&amp;show=found" in markup(app)
    app.segmented_control[0].set_value("near").run()
    assert "view" not in app.query_params
    assert asked(app, "model") == "zen/chat"


def test_lineage_ignores_values_that_it_does_not_know(visit):
    app = visit("lineage", model="zen/chat", view="<b>", show="nonsense")
    assert [control.value for control in app.segmented_control] == ["near", "all"]


def test_lineage_without_a_model_offers_examples(visit):
    text = markup(visit("lineage"))
    assert "Choose a model" in text
    assert "data-go" in text


def test_lineage_of_an_unknown_model_offers_near_names(visit):
    text = markup(visit("lineage", model="zen/chta"))
    assert "does not know that model" in text
    assert 'data-go="lineage?model=zen%2Fchat"' in text


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("lonely/unrelated", "an absence, not a proof"),
        ("shy/gated-tune", "gated: its files need permission"),
        ("gone/away", "since disappeared from the Hub"),
        ("lost/child-of-ghost", "outside this register: only its name is known"),
        ("copy/either-one", "Equally good parents"),
        ("zen/chat-v2", "Nobody declared a parent."),
        ("liar/claims-base-b", "contradicted"),
        ("stack/franken-9b", "Where the layers came from"),
        (HOSTILE, "disabled by the Hub"),
    ],
)
def test_lineage_says_what_is_particular_about_a_model(visit, model, words):
    assert words in markup(visit("lineage", model=model))


def test_text_from_the_hub_is_never_markup(visit):
    for text in (
        markup(visit("lineage", model=HOSTILE)),
        markup(visit("lineage", model="<script>alert(1)</script>")),
        markup(visit("audit")),
        markup(visit(q="<img")),
    ):
        assert "<img" not in text
        assert "<script" not in text


def test_only_well_formed_names_link_to_the_hub(visit):
    assert 'href="https://huggingface.co/zen/chat"' in markup(visit("lineage", model="zen/chat"))
    assert "huggingface.co" not in markup(visit("lineage", model=HOSTILE))


def test_audit_shows_every_edge_with_claims_and_evidence(visit):
    text = markup(visit("audit"))
    assert text.count("<details>") == 17
    assert "The weights differ from the parent&#x27;s by 1.2 % in norm." in text
    assert "The weights point to" in text


def test_audit_filters_by_the_verdict_of_the_address(visit):
    assert markup(visit("audit", verdict="contradicted")).count("<details>") == 1
    assert markup(visit("audit", verdict="no-such-verdict")).count("<details>") == 17


def test_audit_filters_by_family_and_owner_and_says_when_nothing_is_left(visit):
    app = visit("audit", family="other/base-b")
    assert app.selectbox[0].value == "other/base-b"
    assert markup(app).count("<details>") == 2
    app.selectbox[1].set_value("zen").run()
    assert asked(app, "owner") == "zen"
    assert "No such edge" in markup(app)


@pytest.mark.parametrize("page", ["0", "-1", "99999", "x", "²", "9" * 50])
def test_audit_survives_every_page_number(visit, page):
    assert "Declared against found" in markup(visit("audit", page=page))


def test_heritability_shows_each_estimate_with_a_sentence_and_its_method(visit):
    text = markup(visit("heritability"))
    assert "Offspring keep about 0.82" in text
    # One whose interval holds zero while its p-value is small, and what either means.
    assert "The interval, which allows for other founders, holds zero" in text
    assert "as few as 3 founders" in text
    assert "descendants: no estimate. Too few models with offspring." in text


@pytest.mark.parametrize(
    ("p_value", "words"),
    [(None, "cannot tell it from no effect"), (0.4, "cannot tell it from no effect"),
     (0.03, "chance alone seldom makes so much")],
)  # fmt: skip
def test_an_interval_over_zero_is_told_with_its_p_value(p_value, words):
    row = EstimateRow(
        "selection_differential", "loss/web", "children_180d", "all", -0.05, -0.11, 0.01, 0.95, 40,
        9, p_value, "jackknife",
    )  # fmt: skip
    assert words in estimate_sentence(row)


def test_about_tells_date_version_coverage_and_how_to_cite(visit):
    text = markup(visit("about"))
    for words in ("2024-12-01", "0.1.0", "17, of which 14", "herdbook 0.1.0, register of", "gated"):
        assert words in text


@pytest.mark.parametrize("page", ["", "lineage", "audit", "heritability", "about"])
def test_without_a_database_every_page_names_the_command(page, tmp_path, monkeypatch):
    monkeypatch.setenv("HERDBOOK_HOME", str(tmp_path))
    assert "herdbook run" in markup(open_page(page))


def test_another_schema_version_is_named(tmp_path, monkeypatch):
    make_publication(tmp_path, schema_version=99)
    monkeypatch.setenv("HERDBOOK_HOME", str(tmp_path))
    assert "schema version 99" in markup(open_page())


def test_a_file_that_is_not_what_its_manifest_says_is_refused(tmp_path, monkeypatch):
    home = make_publication(tmp_path)
    manifest = home.published / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"sha256": "0" * 64}))
    monkeypatch.setenv("HERDBOOK_HOME", str(tmp_path))
    assert "sha256 differs" in markup(open_page())


def test_a_new_publication_shows_without_a_restart(tmp_path, monkeypatch):
    import duckdb

    home = make_publication(tmp_path)
    monkeypatch.setenv("HERDBOOK_HOME", str(tmp_path))
    assert "<b>17</b>" in markup(open_page())
    manifest = json.loads((home.published / "manifest.json").read_text())
    newer = home.published / "register-2.duckdb"
    newer.write_bytes((home.published / manifest["file"]).read_bytes())
    connection = duckdb.connect(str(newer))
    connection.execute("DELETE FROM model WHERE repo_id = 'lonely/unrelated'")
    connection.close()
    manifest |= {"file": newer.name, "sha256": hashlib.sha256(newer.read_bytes()).hexdigest()}
    (home.published / "manifest.json").write_text(json.dumps(manifest))
    assert "<b>16</b>" in markup(open_page())


def test_the_entry_imports_the_explorer_and_nothing_else():
    tree = ast.parse(APP.read_text())
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert imported == ["__future__", "lineage.explorer.main"]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
