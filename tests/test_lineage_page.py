"""The page Lineage and the side bar, run by Streamlit's own test driver."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from functools import partial

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.explorer.filters import COLOURS, Filters, read_filters
from lineage.views.clades import Bounds
from page_driver import asked, labels, markup, open_page
from synthetic import HOSTILE, MODELS, make_publication


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_publication(tmp_path_factory.mktemp("home")).root


@pytest.fixture
def visit(root, monkeypatch):
    monkeypatch.setenv("HERDBOOK_HOME", str(root))
    return partial(open_page, "lineage")


# -- filters --------------------------------------------------------------------------------------


def test_a_plain_address_narrows_nothing():
    assert read_filters({}) == Filters()
    assert Filters().query() == {}


def test_an_address_says_all_filters_and_is_said_again():
    query = {
        "relation": "adapter,merge", "verdict": "undeclared", "since": "2024-01-31",
        "until": "2024-12-01", "downloads": "100", "descendants": "3", "colour": "licence",
        "up": "2", "down": "12", "most": "30",
    }  # fmt: skip
    filters = read_filters(query)
    assert filters.bounds == Bounds(
        ("adapter", "merge"), ("undeclared",), date(2024, 1, 31), date(2024, 12, 1), 100, 3
    )
    assert filters.query() == query


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("relation", "nonsense"), ("relation", "finetune,adapter,quantized,merge"),
        ("verdict", "<b>"), ("since", "2024-02-30"), ("since", "9999-01-01"), ("until", "now"),
        ("downloads", "-5"), ("downloads", "²"), ("downloads", "1e9"), ("descendants", "9" * 400),
        ("colour", "trait:"), ("colour", "trait:" + "x" * 500), ("colour", "__class__"),
        ("up", "0"), ("down", "1000000"), ("most", "601"),
    ],
)  # fmt: skip
def test_what_an_address_says_wrongly_is_as_if_it_were_not_said(key, value):
    assert read_filters({key: value}) == Filters()


KEYS = ("relation", "verdict", "since", "until", "downloads", "up", "down", "most", "colour")


@given(st.dictionaries(st.sampled_from(KEYS), st.text()))
def test_any_address_gives_filters_whose_address_gives_them_again(query):
    filters = read_filters(query)
    assert read_filters(filters.query()) == filters


def test_the_side_bar_shows_what_the_address_says_and_writes_changes_there(visit):
    app = visit(model="zen/chat", relation="merge", downloads="10", down="2", colour="verdict")
    assert app.sidebar.multiselect[0].value == ["merge"]
    assert app.sidebar.number_input[0].value == 10
    app.sidebar.multiselect[1].set_value(["undeclared"]).run()
    assert asked(app, "verdict") == "undeclared"
    app.sidebar.selectbox[0].set_value("month").run()
    assert asked(app, "colour") == "month"
    app.sidebar.date_input[0].set_value(date(2024, 5, 1)).run()
    assert asked(app, "since") == "2024-05-01"
    app.sidebar.selectbox[3].set_value(3).run()
    assert "down" not in app.query_params
    app.sidebar.button[0].click().run()
    assert {"relation", "verdict", "since", "downloads"}.isdisjoint(app.query_params)
    assert asked(app, "colour") == "month"
    assert not app.exception


def test_links_keep_the_filters_and_the_view(visit):
    text = markup(visit(model="zen/chat", view="family", show="declared", colour="task", down="2"))
    assert (
        'data-go="lineage?model=acme%2Fbase-a-7b&amp;view=family&amp;show=declared'
        "&amp;colour=task&amp;down=2" in text
    )


def test_filters_leave_models_out_and_say_how_many(visit):
    text = markup(visit(model="acme/base-a-7b", relation="adapter"))
    assert 'data-id="lora/style-adapter"' in text
    assert 'data-id="zen/chat-v2"' not in text
    assert "Outside the filters: " in text


# -- the drawing ----------------------------------------------------------------------------------


def test_the_breadcrumb_leads_from_the_founder_along_first_parents(visit):
    text = markup(visit(model="blend/slerp-a-b-dpo"))
    crumbs = text[text.index('class="crumbs"') : text.index("</nav>")]
    names = ["acme/base-a-7b", "zen/chat", "blend/slerp-a-b", "blend/slerp-a-b-dpo"]
    places = [crumbs.index(name) for name in names]
    assert places == sorted(places)
    assert 'class="crumbs"' not in markup(visit(model="acme/base-a-7b"))


def test_another_parent_of_a_merge_can_be_followed_and_taken_back(visit):
    plain = markup(visit(model="blend/slerp-a-b"))
    assert "elbow=other%2Fbase-b-tuned" in plain
    swapped = visit(model="blend/slerp-a-b", elbow="other/base-b-tuned")
    text = markup(swapped)
    order = [text.index(f'data-id="{name}"') for name in ("other/base-b-tuned", "blend/slerp-a-b")]
    assert order == sorted(order)
    assert text.index('data-id="zen/chat"') < order[1]
    assert text.count("the drawing follows this one") == 1
    assert 'data-go="lineage?model=blend%2Fslerp-a-b"' in text
    for bad in ("no/such", "<b>", "acme/base-a-7b"):
        assert markup(visit(model="blend/slerp-a-b", elbow=bad)).count("follows this one") == 1


@pytest.mark.parametrize("colour", [*COLOURS, "trait:loss/python", "trait:no such", "trait:<b>"])
def test_every_colour_of_the_address_draws(visit, colour):
    text = markup(visit(model="zen/chat", colour=colour))
    assert "svg" in text
    assert "<b>:" not in text


def test_what_is_looked_for_is_marked_and_missing_names_are_said(visit):
    app = visit(model="acme/base-a-7b", find="DPO")
    assert 'class="n r-finetune s-ok hit" ' in markup(app)
    assert "1 name with <b>DPO</b>" in markup(app)
    app.text_input[0].set_value("<script>").run()
    assert asked(app, "find") == "<script>"
    assert "No name in this clade has <b>&lt;script&gt;</b>" in markup(app)
    app.text_input[0].set_value("").run()
    assert "find" not in app.query_params


@pytest.mark.parametrize(
    "opened", ["", ":", "quantized", "quantized:9", "quantized:999:zen/chat", "x:1:zen/chat",
               "merge:²:zen/chat", "merge:-1:zen/chat", "merge:5:no/such", "a:b:c:d"],
)  # fmt: skip
def test_any_stack_that_an_address_opens_is_survived(visit, opened):
    assert "svg" in markup(visit(model="zen/chat", open=opened))


@pytest.mark.parametrize("model", [name for name, *_ in MODELS])
def test_every_model_of_the_register_has_its_page(visit, model):
    app = visit(model=model, view="family")
    assert len(app.download_button) >= 8
    assert "aria-current" in markup(app)


def test_the_page_offers_every_format_named_after_model_and_date(visit):
    app = visit(model="zen/chat")
    assert labels(app) == [
        "Drawing (SVG)", "Edges (CSV)", "Edges (Parquet)", "Models and edges (JSON)",
        "Graph (GraphML)", "Tree (Newick)", "Network (extended Newick)", "Coloured tree (Nexus)",
    ]  # fmt: skip
    assert 'data-png="herdbook-zen-chat-2024-12-01.png"' in markup(app)


def test_hostile_names_are_text_everywhere(visit):
    for query in (
        {"model": HOSTILE},
        {"model": "zen/chat", "find": "img", "colour": "trait:<img>"},
    ):
        text = markup(visit(**query))
        assert "<img" not in text
        assert "<script" not in text


def test_the_minimap_shows_a_family_that_is_not_all_drawn(visit):
    assert "The whole family of acme/base-a-7b" in markup(visit(model="zen/chat-v2"))
    assert "The whole family of" not in markup(visit(model="lonely/unrelated"))


def test_downloads_over_time_have_a_picture_a_sentence_and_a_table(root, tmp_path, monkeypatch):
    home = make_publication(tmp_path)
    path = home.published / "register-1.duckdb"
    with duckdb.connect(str(path)) as connection:
        for day, n in ((1, 100), (8, 300)):
            connection.execute(
                "INSERT INTO observation"
                " VALUES ('zen/chat', ?::TIMESTAMPTZ, ?, NULL, 4, NULL, 'hub')",
                [f"2024-11-{day:02d} 10:00:00+00", n],
            )
    manifest = home.published / "manifest.json"
    fields = json.loads(manifest.read_text())
    fields["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(fields))
    monkeypatch.setenv("HERDBOOK_HOME", str(tmp_path))
    text = markup(open_page("lineage", model="zen/chat"))
    assert "300 in the 30 days before 8 Nov 2024." in text
    assert "Downloads in 30 days: 100 on 1 Nov 2024, 300 on 8 Nov 2024, at most 300" in text
    assert text.count("<td>1 Nov 2024</td>") == 1
