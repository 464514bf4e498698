from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.explorer.axis import TimeAxis
from lineage.explorer.drawing import DrawOptions, draw_lineage, lay_out
from lineage.explorer.exports import edges_csv, file_stem
from lineage.explorer.figures import draw_estimates, draw_layers, draw_shares
from lineage.explorer.markup import address, tag
from lineage.explorer.words import short
from lineage.model import LayerSource, ParentShare
from lineage.views import EdgeRow, EstimateRow, Mark, Neighbourhood

DAY = datetime(2024, 3, 1, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"


def mark(name, day=0, relation="finetune", **changes):
    fields = {
        "repo_id": name, "relation": relation, "kind": None, "status": "ok",
        "created_at": None if day is None else DAY + timedelta(days=day), "pos": 0,
        "n_parents": 1, "n_descendants": 0, "n_hidden": 0,
    }  # fmt: skip
    return Mark(**{**fields, **changes})


def edge(child, parent, position=0, verdict="confirmed", grade="inferred", **changes):
    fields = {"relation": "finetune", "kind": None, "weight": None, "p_value": None,
              "probability": None, "evidence": ()}  # fmt: skip
    return EdgeRow(child=child, parent=parent, position=position, verdict=verdict, grade=grade,
                   **{**fields, **changes})  # fmt: skip


def classes(svg, child):
    root = ElementTree.fromstring(svg)
    return [
        set(g.get("class").split()) for g in root.iter(f"{SVG}g") if g.get("data-child") == child
    ]


FAMILY = Neighbourhood(
    "o/merge",
    (
        mark("o/founder", 0, "founder", n_parents=0, n_descendants=3),
        mark("o/child", 30),
        mark("o/merge", 60, "merge", n_parents=2),
        mark("o/ghost", None, "unknown", ghost=True),
        mark("o/quant", 90, "quantized", n_hidden=1234),
    ),
    (
        edge("o/child", "o/founder", verdict="undeclared"),
        edge("o/merge", "o/child"),
        edge("o/merge", "o/founder", position=1),
        edge("o/quant", "o/ghost", verdict="unverified", grade="declared"),
        edge("o/child", "o/ghost", position=1, verdict="contradicted"),
    ),
    0,
)


def test_the_drawing_is_well_formed_and_has_every_model_and_edge_once():
    root = ElementTree.fromstring(draw_lineage(FAMILY))
    nodes = [g.get("data-id") for g in root.iter(f"{SVG}g") if g.get("data-id")]
    assert nodes == [m.repo_id for m in FAMILY.marks]
    assert len([g for g in root.iter(f"{SVG}g") if g.get("data-child")]) == 5


def test_the_primary_parent_is_an_elbow_and_the_other_parents_are_curves():
    root = ElementTree.fromstring(draw_lineage(FAMILY))
    paths = {
        (g.get("data-child"), g.get("data-parent")): g.find(f"{SVG}path").get("d")
        for g in root.iter(f"{SVG}g")
        if g.get("data-child")
    }
    assert re.fullmatch(r"M[\d. ]+V[\d.]+H[\d.]+", paths["o/merge", "o/child"])
    assert "C" in paths["o/merge", "o/founder"]


def test_undeclared_contradicted_and_tied_edges_look_different_from_declared_ones():
    svg = draw_lineage(FAMILY)
    assert {"v-undeclared"} <= classes(svg, "o/child")[0] | classes(svg, "o/child")[1]
    root = ElementTree.fromstring(svg)
    edges = next(g for g in root.iter(f"{SVG}g") if g.get("class") == "edges")
    badges = [c.get("class") for c in edges.iter() if c.get("class") in {"found", "cross"}]
    assert sorted(badges) == ["cross", "found"]
    tied = Neighbourhood("o/merge", FAMILY.marks, (edge("o/child", "o/founder", grade="tie"),), 0)
    assert "tie" in classes(draw_lineage(tied), "o/child")[0]


@pytest.mark.parametrize(
    ("relation", "element"),
    [("finetune", "circle"), ("adapter", "rect"), ("quantized", "polygon"), ("merge", "polygon")],
)
def test_each_relation_has_its_own_shape(relation, element):
    around = Neighbourhood("a/b", (mark("a/b", relation=relation),), (), 0)
    root = ElementTree.fromstring(draw_lineage(around))
    nodes = next(g for g in root.iter(f"{SVG}g") if g.get("class") == "nodes")
    shapes = [item for item in nodes.iter() if item.get("class") == "mark"]
    assert [item.tag for item in shapes] == [SVG + element]


def test_a_merge_shows_its_parent_count_and_a_cut_clade_its_rest():
    svg = draw_lineage(FAMILY)
    assert re.search(r'class="count">2</text>', svg)
    assert "+1,234 more" in svg


def test_declared_and_found_show_only_their_edges():
    declared = draw_lineage(FAMILY, DrawOptions(show="declared"))
    found = draw_lineage(FAMILY, DrawOptions(show="found"))
    assert {frozenset(c) & {"v-undeclared"} for c in classes(declared, "o/child")} == {frozenset()}
    assert classes(found, "o/quant") == []
    assert len(classes(found, "o/merge")) == 2


def test_every_mark_can_be_focused_named_and_followed():
    root = ElementTree.fromstring(draw_lineage(FAMILY))
    for node in (g for g in root.iter(f"{SVG}g") if g.get("data-id")):
        assert node.get("tabindex") == "0"
        assert node.get("role") == "link"
        assert node.get("aria-label").startswith(node.get("data-id"))
        assert node.get("data-go").startswith("lineage?model=")


def test_both_themes_stand_in_the_file():
    svg = draw_lineage(FAMILY)
    assert "prefers-color-scheme:dark" in svg
    assert '[data-theme="dark"]' in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_a_model_without_a_date_stands_left_of_its_child():
    placed, _ = lay_out(FAMILY, DrawOptions())
    x = {item.mark.repo_id: item.x for item in placed}
    assert x["o/ghost"] < x["o/child"]


names = st.text(min_size=1, max_size=120)


@given(st.lists(st.tuples(names, st.none() | st.integers(-400, 4000)), min_size=1, max_size=12,
                unique_by=lambda item: item[0]))  # fmt: skip
def test_hostile_names_and_any_dates_give_well_formed_drawings_inside_the_page(items):
    marks = tuple(mark(name, day) for name, day in items)
    edges = tuple(
        edge(child.repo_id, parent.repo_id, position=i % 3, verdict="undeclared")
        for i, (parent, child) in enumerate(itertools.pairwise(marks))
    )
    around = Neighbourhood(marks[0].repo_id, marks, edges, 0)
    root = ElementTree.fromstring(draw_lineage(around))
    assert {item.tag.removeprefix(SVG) for item in root.iter()} <= {
        "svg", "title", "desc", "style", "rect", "g", "path", "text", "tspan", "circle", "polygon",
    }  # fmt: skip
    placed, _ = lay_out(around, DrawOptions())
    assert len({item.y for item in placed}) == len(marks)
    assert all(0 < item.x < 1080 for item in placed)


def test_labels_stay_inside_the_drawing():
    long = mark("owner-of-a-long-name/" + "m" * 80, 100)
    placed, _ = lay_out(Neighbourhood("x", (mark("a/b", 0), long), (), 0), DrawOptions())
    assert placed[1].x + 42 * 6.7 < 1080


@given(st.integers(0, 5000), st.integers(200, 1500))
def test_ticks_are_round_dates_inside_the_axis_and_far_enough_apart(days, width):
    axis = TimeAxis.over([DAY, DAY + timedelta(days=days)], 20, 20 + width)
    xs = [x for x, _ in axis.ticks()]
    assert all(20 <= x <= 20 + width for x in xs)
    assert all(b - a > 60 for a, b in itertools.pairwise(xs))


def test_markup_escapes_what_it_is_given_and_invisible_characters_show():
    assert tag("b", '<i x="1">&') == "<b>&lt;i x=&quot;1&quot;&gt;&amp;</b>"
    assert tag("b", title='"><script>') == '<b title="&quot;&gt;&lt;script&gt;"></b>'
    assert "\u202e" not in tag("b", "a\u202egpj.exe")
    assert "\x00" not in tag("b", "\x00")


def test_addresses_quote_their_values():
    assert address("audit", verdict="a&b=c", page="") == "audit?verdict=a%26b%3Dc"
    assert address("") == "./"


def test_short_names_keep_both_ends():
    assert short("abcdefghij", 10) == "abcdefghij"
    assert short("abcdefghijk", 6) == "abc…jk"


def test_shares_may_be_negative_and_carry_their_bounds():
    svg = draw_shares([ParentShare("a/<b>", 1.4, 1.3, 1.5), ParentShare("c/d", -0.4)])
    root = ElementTree.fromstring(svg)
    widths = [float(r.get("width")) for r in root.iter(f"{SVG}rect")]
    assert widths[0] > widths[1] > 0
    assert "−0.4" in svg


def test_the_layer_map_draws_each_layer_of_the_child_once():
    layers = [LayerSource(i, "a/b" if i < 5 else "c/d", i % 5) for i in range(9)]
    layers.append(LayerSource(8, "a/b", 1))
    root = ElementTree.fromstring(draw_layers(layers))
    boxes = [r for r in root.iter(f"{SVG}rect") if r.find(f"{SVG}title") is not None]
    assert len(boxes) == 9


def test_an_estimate_that_cannot_be_trusted_keeps_its_row():
    good = EstimateRow("heritability", "t", None, "all", 0.5, 0.2, 0.8, 0.95, 9, 3, None, "m")
    bad = EstimateRow("heritability", "u", None, "all", None, None, None, 0.95, 1, 1, None, "few")
    svg = draw_estimates([good, bad])
    root = ElementTree.fromstring(svg)
    assert len([c for c in root.iter(f"{SVG}circle")]) == 1
    assert "no estimate" in svg


def test_no_cell_of_an_export_is_a_formula():
    text = edges_csv((edge("=cmd|' /C calc'!A0", "+1"),))
    assert text.splitlines()[1].startswith("'=cmd")
    assert ",'+1," in text


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "<x>", "\x00", "é/ü", "." * 300])
def test_names_of_exports_are_safe_file_names(name):
    stem = file_stem(name, "2024-12-01T00:00:00Z")
    assert re.fullmatch(r"herdbook-[A-Za-z0-9._-]+-2024-12-01", stem)
    assert len(stem) < 130
