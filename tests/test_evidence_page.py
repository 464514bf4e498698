"""The page Evidence: every state of an edge, its pictures, tables and words."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence_register import MERGE, N_LAYERS, PARENTS, make_register
from lineage.explorer.evidence_blocks import layer_sentence, layer_table, matrix_table
from lineage.explorer.evidence_figures import (
    MOST_CELLS,
    draw_coefficients,
    draw_equal_words,
    draw_matrix,
    percent,
)
from lineage.explorer.table_files import table_csv, table_json, table_parquet
from lineage.store.publication import connect_publication, read_manifest
from lineage.views.evidence import EdgeLayer, LayerMatrix, MergeFit, edge_evidence, pair_test
from page_driver import asked, labels, markup, open_page
from synthetic import HOSTILE


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return make_register(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def cursor(tmp_path_factory):
    # A file of its own: one process opens a publication once.
    home = make_register(tmp_path_factory.mktemp("questions"))
    connection = connect_publication(home, read_manifest(home))
    yield connection.cursor()
    connection.close()


@pytest.fixture
def visit(home, monkeypatch):
    monkeypatch.setenv("HERDBOOK_HOME", str(home.root))
    return lambda **query: open_page("evidence", **query)


# -- the question -------------------------------------------------------------------------------


def test_an_edge_comes_with_layers_matrix_fit_test_claims_and_recipes(cursor):
    found = edge_evidence(cursor, MERGE, PARENTS[0])
    assert [row.layer for row in found.layers] == [None, *range(N_LAYERS)]
    assert found.matrix.roles == "up, gate"
    assert found.matrix.z[3][3] == 50.0
    assert found.matrix.z[0][7] is None
    assert found.fit.parents == PARENTS
    assert found.fit.by_layer[0] == (None, pytest.approx((0.62, 0.38)))
    assert found.fit.by_layer[-1] == (N_LAYERS - 1, pytest.approx((0.48, 0.52)))
    assert found.test.bit_equality == pytest.approx(0.21)
    assert [one.source for one in found.line.declared] == ["card"]
    assert found.recipes[0].method == "slerp"
    assert {edge.parent for edge in found.detail.parents} == set(PARENTS)


def test_a_pair_test_is_found_in_either_order_and_only_where_it_was_made(cursor):
    assert pair_test(cursor, "zen/chat", MERGE) == pair_test(cursor, MERGE, "zen/chat")
    assert pair_test(cursor, "zen/chat", "zen/chat-v2") is None


@pytest.mark.parametrize(
    ("child", "parent"),
    [("zen/chat", "zen/chat-v2"), ("zen/chat", "zen/chat"), ("no/body", "zen/chat"), ("", "")],
)
def test_what_is_no_edge_has_no_evidence(cursor, child, parent):
    assert edge_evidence(cursor, child, parent) is None


# -- pictures -----------------------------------------------------------------------------------


def parsed(svg):
    return ElementTree.fromstring(str(svg))


def marks(svg, name="rect"):
    return [one for one in parsed(svg).iter() if one.tag.endswith(f"}}{name}")]


def layer(n, *, words=100, equal=50, change=0.1, codes=0, replayed=0):
    return EdgeLayer("a/c", "a/p", n, n, words, equal, change, codes, replayed)


def test_bars_are_as_tall_as_shares_and_changes():
    rows = [layer(None, equal=100, change=0.2), layer(0, equal=50), layer(1, equal=0, change=0.0)]
    tall = [float(rect.get("height")) for rect in marks(draw_equal_words(rows))]
    assert tall[0] == pytest.approx(2 * tall[1])
    assert tall[3] == pytest.approx(2 * tall[4])
    assert tall[2] == tall[5] == 1.0


def test_of_a_quantised_child_the_codes_are_drawn_and_of_nothing_a_dot():
    svg = draw_equal_words(
        [layer(0, codes=10, replayed=5), layer(1, words=0, equal=0, change=None)]
    )
    assert "codes that the parent" in str(svg)
    assert len(marks(svg)) == 2
    assert str(svg).count(">·<") == 2


def test_a_coefficient_stands_where_its_value_is():
    fit = MergeFit(("a/p", "a/q"), ((0, (0.25, 0.75)), (1, (0.5, 0.5))))
    circles = marks(draw_coefficients(fit), "circle")
    squares = marks(draw_coefficients(fit), "rect")
    low, middle = (float(one.get("cy")) for one in circles[:2])
    high = float(squares[0].get("y")) + float(squares[0].get("height")) / 2
    assert low - middle == pytest.approx(middle - high, abs=0.2)
    assert low > middle > high


def test_negative_coefficients_and_large_ones_stay_in_the_picture():
    fit = MergeFit(("a/p", "a/q", "a/r"), ((0, (-1.5, 3.0, 0.2)), (None, (0.0, 1.0, 0.0))))
    svg = draw_coefficients(fit)
    assert all(0 <= float(one.get("cy")) <= 276 for one in marks(svg, "circle"))
    assert "a/q 1 to 3" in str(svg)


def test_a_matrix_is_brightest_where_layers_match_and_says_how_many_are_in_place():
    z = tuple(tuple(40.0 if j == (i + 1) % 4 else -1.0 for j in range(4)) for i in range(4))
    svg = draw_matrix(LayerMatrix("v", z))
    cells = marks(svg)[:16]
    bright = [k for k, one in enumerate(cells) if one.get("fill") == "#ffea46"]
    assert bright == [1, 6, 11, 12]
    assert "0 match best the parent" in str(svg)
    assert "4 match best" in str(draw_matrix(LayerMatrix("v", z[3:] + z[:3])))


def test_a_matrix_of_a_deep_model_is_pooled_and_loses_no_match():
    n = MOST_CELLS * 2 + 1
    z = tuple(tuple(9.0 if i == j == n - 1 else 0.0 for j in range(n)) for i in range(n))
    svg = draw_matrix(LayerMatrix("v", z))
    cells = [one for one in marks(svg) if one.get("width") != "14"]
    assert len(cells) <= MOST_CELLS**2
    assert cells[-1].get("fill") == "#ffea46"


@given(
    st.lists(
        st.lists(st.one_of(st.none(), st.floats(-50, 200)), min_size=3, max_size=3), max_size=5
    )
)
def test_every_matrix_is_well_formed(z):
    svg = draw_matrix(LayerMatrix("<up> & gate", tuple(tuple(row) for row in z)))
    assert parsed(svg).get("role") == "img"


@given(
    st.lists(
        st.builds(
            lambda words, share, change: layer(
                0, words=words, equal=int(words * share), change=change
            ),
            st.integers(0, 10**12), st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1e9)),
        ),
        max_size=130,
    )
)  # fmt: skip
def test_every_set_of_layers_is_drawn_within_the_frame(rows):
    for rect in marks(draw_equal_words(rows)):
        x, y, width, height = (float(rect.get(k)) for k in ("x", "y", "width", "height"))
        assert 0 <= x <= 540 - width
        assert 0 <= y <= 292 - height


@pytest.mark.parametrize(
    ("share", "words"),
    [(1, "100 %"), (0.999999, "99.99 %"), (0.0, "0 %"), (1e-9, "<0.01 %"), (0.1234, "12.3 %")],
)
def test_all_and_none_are_said_of_all_and_none_only(share, words):
    assert percent(share) == words


# -- tables -------------------------------------------------------------------------------------


def test_the_tables_hold_what_the_pictures_show(cursor):
    found = edge_evidence(cursor, MERGE, PARENTS[0])
    table = layer_table(found)
    assert table["layer"][:2] == ["outside", "0"]
    assert table["share_equal"][1] == pytest.approx(0.2)
    assert table["coefficient of other/base-b-tuned"][-1] == pytest.approx(0.52)
    assert "codes" not in table
    assert matrix_table(found.matrix)["parent 7"] == [None] * N_LAYERS
    quantised = edge_evidence(cursor, "zen/chat-v2-GGUF", "zen/chat-v2")
    assert layer_table(quantised)["codes_replayed"] == [396]
    assert "99.0 % of 400 stored codes" in layer_sentence(quantised)


def test_tables_are_written_as_csv_json_and_parquet_alike(tmp_path):
    import pyarrow.parquet as pq

    table = {"name": ["a/b", "=HYPERLINK(1)", 'x"y,z'], "n": [1, None, 3], "none": [None] * 3}
    assert table_csv(table).splitlines()[2] == "'=HYPERLINK(1),,"
    rows = json.loads(table_json(table))
    assert rows[1] == {"name": "=HYPERLINK(1)", "n": None, "none": None}
    path = tmp_path / "t.parquet"
    path.write_bytes(table_parquet(table))
    assert pq.read_table(path).to_pylist() == rows


# -- the page -----------------------------------------------------------------------------------


def test_an_edge_shows_words_layers_recipe_commands_and_files(visit):
    app = visit(child=MERGE, parent=PARENTS[0])
    text = markup(app)
    for words in (
        "What was declared", "base_model: zen/chat &lt;script&gt;", "The family test", "z 93",
        "Equal values, layer by layer", "Coefficients by layer", "Which layer is which",
        "Recovered recipe", "See it for yourself",
    ):  # fmt: skip
        assert words in text
    code = [block.value for block in app.code]
    assert "merge_method: slerp" in code[0]
    assert f"# rebuilds: {MERGE} at " in code[0]
    assert "<script>alert('recipe')</script>" in code[1]
    assert code[2].splitlines() == [
        f"herdbook compare {MERGE} zen/chat",
        f"herdbook explain {MERGE} zen/chat",
        f"herdbook audit {MERGE}",
        f"herdbook recipe {MERGE} > recipe.yml",
        f"herdbook verify recipe.yml {MERGE}",
    ]
    assert labels(app) == [
        "Recipe (YAML)", "Equal values (SVG)", "Coefficients (SVG)", "Matrix (SVG)",
        "Layers (CSV)", "Everything (JSON)",
    ]  # fmt: skip
    assert list(app.dataframe[0].value["values"]) == [1000] * (N_LAYERS + 1)


@pytest.mark.parametrize(
    ("child", "parent", "words"),
    [
        ("copy/either-one", "zen/chat-v2", "All 1,500 values that both readings hold are equal"),
        ("copy/either-one", "zen/chat-v2", "Equally good parents"),
        ("lora/style-adapter", "zen/chat", "no tensor that compares"),
        ("liar/claims-base-b", "other/base-b", "The weights point to"),
        ("liar/claims-base-b", "other/base-b", "No trace of a common origin"),
        ("zen/chat-v2", "zen/chat", "Nobody named this parent"),
        ("stack/franken-9b", "zen/chat", "Where the layers came from"),
        ("zen/chat-v2", "zen/chat", "made before edges were described by layer"),
        ("shy/gated-tune", "acme/base-a-7b", "The weights of the child were not read"),
        ("lost/child-of-ghost", "vanished/old-model", "The parent is not in this register"),
        (HOSTILE, "zen/chat", "The names hold characters"),
    ],
)
def test_every_kind_of_edge_has_its_sentence(visit, child, parent, words):
    assert words in markup(visit(child=child, parent=parent))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, "Somebody declared this parent; the weights disagree."),
        ({"child": "zen/chat", "parent": "zen/chat"}, "A model is no parent of its own"),
        ({"child": "zen/chat", "parent": "zen/chat-v2"}, "It is the other way round"),
        ({"child": "zen/chat", "parent": "lonely/unrelated"}, "says: unrelated"),
        ({"child": "zen/chat-v2", "parent": "lonely/unrelated"}, "were not held against"),
        ({"child": "zen/chta"}, 'data-go="evidence?child=zen%2Fchat"'),
        ({"child": "zen/chat", "parent": "acme/base-a-7bb"},
         'data-go="evidence?parent=acme%2Fbase-a-7b&amp;child=zen%2Fchat"'),
        ({"child": "zen/chat"}, "Its children"),
        ({"parent": "acme/base-a-7b"}, 'data-go="evidence?child=zen%2Fchat&amp;parent=acme'),
        ({"child": "lonely/unrelated"}, "No edge yet"),
        ({"child": "zen/chat", "parent": "unseen:1"}, "An ancestor that nobody published"),
        ({"child": "unseen:1", "parent": "zen/chat"}, 'data-go="evidence?child=zen%2Fchat"'),
        ({"child": "unseen:1"}, "An ancestor that nobody published"),
        ({"child": "   "}, "Somebody declared this parent; the weights disagree."),
    ],
)  # fmt: skip
def test_what_is_no_edge_has_its_sentence(visit, query, words):
    assert words in markup(visit(**query))


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>", "'; DROP TABLE edge; --", "x" * 5000, "\u202egnp.exe", "%00",
     "javascript:alert(1)", "[a](http://b)"],
)  # fmt: skip
def test_hostile_names_are_text(visit, name):
    for query in ({"child": name}, {"child": "zen/chat", "parent": name}):
        text = markup(visit(**query))
        assert "does not know that model" in text
        assert "<script" not in text
        assert len(text) < 20_000


def test_a_parameter_given_twice_is_one_of_the_two(visit):
    assert "Evidence" in markup(visit(child=["zen/chat", "zen/chat-v2"], parent="zen/chat"))


def test_a_name_that_is_typed_stands_in_the_address(visit):
    app = visit()
    app.text_input[0].set_value(MERGE).run()
    app.text_input[1].set_value(" zen/chat ").run()
    assert (asked(app, "child"), asked(app, "parent")) == (MERGE, "zen/chat")
    assert "Equal values, layer by layer" in markup(app)


def test_a_register_without_findings_says_what_to_run(home, tmp_path, monkeypatch):
    import hashlib
    import shutil

    import duckdb

    shutil.copytree(home.root, tmp_path / "home")
    manifest = tmp_path / "home" / "published" / "manifest.json"
    fields = json.loads(manifest.read_text())
    path = manifest.parent / fields["file"]
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE edge SET verdict = 'unverified'")
    fields["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(fields))
    monkeypatch.setenv("HERDBOOK_HOME", str(tmp_path / "home"))
    assert "herdbook fingerprint &amp;&amp; herdbook infer" in markup(open_page("evidence"))
