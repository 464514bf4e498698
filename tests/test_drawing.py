from __future__ import annotations

import io
import itertools
import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.explorer.axis import TimeAxis
from lineage.explorer.colours import cividis, colour_marks, in_hex
from lineage.explorer.drawing import DrawOptions, draw_lineage, shown_edges
from lineage.explorer.exports import (
    drawn_pedigree,
    edges_csv,
    file_stem,
    neighbourhood_json,
    parquet_of,
)
from lineage.explorer.figures import draw_estimates, draw_history, draw_layers, draw_shares
from lineage.explorer.layout import elbows, lay_out, preorder
from lineage.explorer.markup import address, tag
from lineage.explorer.minimap import draw_minimap
from lineage.explorer.ribbons import make_piles, next_start, ribbon_height, stream
from lineage.explorer.words import short
from lineage.model import LayerSource, ParentShare
from lineage.views import EdgeRow, EstimateRow, Mark, Neighbourhood
from lineage.views.clades import Opened
from lineage.views.rows import Births, Stack
from lineage.views.surroundings import Density, Observed

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
    x = {item.mark.repo_id: item.x for item in lay_out(FAMILY).placed}
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
    placed = lay_out(around).placed
    assert len({item.y for item in placed}) == len(marks)
    assert all(0 < item.x < 900 for item in placed)


def test_labels_stay_inside_the_drawing():
    long = mark("owner-of-a-long-name/" + "m" * 80, 100)
    placed = lay_out(Neighbourhood("x", (mark("a/b", 0), long), (), 0)).placed
    assert placed[1].x + 42 * 6.7 < 900


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


# -- swapping, stacks, ribbons --------------------------------------------------------------------


def test_rows_follow_the_primary_parents_and_on_request_another_parent_of_the_focus():
    rows = [m.repo_id for m in preorder(FAMILY, elbows(FAMILY))]
    assert rows == ["o/founder", "o/child", "o/merge", "o/ghost", "o/quant"]
    two = Neighbourhood(
        "m",
        (mark("a", 0), mark("m", 30, "merge"), mark("b", 10), mark("m/child", 40)),
        (edge("m", "a"), edge("m", "b", position=1), edge("m/child", "m")),
        0,
    )
    swapped = elbows(two, "b")
    assert [m.repo_id for m in preorder(two, swapped)] == ["a", "b", "m", "m/child"]
    root = ElementTree.fromstring(draw_lineage(two, DrawOptions(parent="b")))
    paths = {
        g.get("data-parent"): g.find(f"{SVG}path").get("d")
        for g in root.iter(f"{SVG}g")
        if g.get("data-child") == "m"
    }
    assert "C" in paths["a"]
    assert "V" in paths["b"]
    assert elbows(two, "no/such") == elbows(two)


def test_a_ring_of_parents_is_drawn_once_each():
    ring = Neighbourhood(
        "a", (mark("a"), mark("b"), mark("c")), (edge("a", "b"), edge("b", "a"), edge("c", "c")), 0
    )
    assert [m.repo_id for m in preorder(ring, elbows(ring))] == ["c", "a", "b"]
    ElementTree.fromstring(draw_lineage(ring))


def births(owner, *counts, category="finetune", step="month"):
    start, made = date(2024, 1, 1), []
    for n in counts:
        made.append(Births(owner, start, category, n))
        start = next_start(start, step)
    return tuple(one for one in made if one.n)


HUB = replace(
    FAMILY,
    focus="o/founder",
    stacks=(
        Stack("o/founder", "finetune", 60), Stack("o/founder", "quantized", 1234),
        Stack("o/child", "merge", 3), Stack("o/merge", "odd <b>", 7),
    ),
    births=births("o/founder", 10, 0, 40, 5) + births("o/founder", 3, 1, category=None),
)  # fmt: skip


def groups(svg, look):
    root = ElementTree.fromstring(svg)
    return [g for g in root.iter(f"{SVG}g") if look in g.get("class", "").split()]


def test_stacks_are_links_that_open_them_step_by_step_and_then_lead_to_their_owner():
    labels = {g.get("aria-label"): g.get("data-go") for g in groups(draw_lineage(HUB), "stack")}
    label = "+1,234 quantisations below o/founder: open"
    assert labels[label] == "lineage?model=o%2Ffounder&open=quantized%3A40%3Ao%2Ffounder"
    more = DrawOptions(opened=Opened("o/founder", "quantized", 80), query={"view": "family"})
    again = {
        g.get("aria-label"): g.get("data-go") for g in groups(draw_lineage(HUB, more), "stack")
    }
    assert again[label].endswith("view=family&open=quantized%3A120%3Ao%2Ffounder")
    last = replace(more, opened=Opened("o/founder", "quantized", 120))
    full = {g.get("aria-label"): g.get("data-go") for g in groups(draw_lineage(HUB, last), "stack")}
    assert full[label] == "lineage?model=o%2Ffounder&view=family&relation=quantized"
    assert "+7 others below o/merge: open" in labels


def test_a_small_stack_has_no_row_but_its_owner_says_how_many_there_are():
    svg = draw_lineage(HUB)
    assert not [g for g in groups(svg, "pile") if g.get("data-owner") == "o/child"]
    (child,) = [g for g in groups(svg, "n") if g.get("data-id") == "o/child"]
    assert "+3 more" in "".join(child.itertext())


def test_a_ribbon_says_in_words_what_it_shows_and_merges_equal_colours():
    (ribbon,) = groups(draw_lineage(HUB), "ribbon")
    assert ribbon.get("aria-label") == (
        "1,294 models below o/founder that are not drawn one by one, born 1 January 2024 to "
        "1 May 2024, at most 40 in a month"
    )
    assert len(ribbon.findall(f"{SVG}path")) == 2
    plain = DrawOptions(colouring=colour_marks("month", HUB.marks))
    (grey,) = groups(draw_lineage(HUB, plain), "ribbon")
    assert len(grey.findall(f"{SVG}path")) == 1


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(
            st.lists(st.integers(0, 500), min_size=n, max_size=n), min_size=1, max_size=4
        )
    ).filter(lambda layers: any(map(any, layers))),
    st.floats(5, 200),
)  # fmt: skip
def test_layers_of_a_stream_touch_and_are_as_thick_as_their_counts(layers, height):
    xs = [float(i) for i in range(len(layers[0]))]
    drawn = stream(layers, xs, 100.0, height)
    peak = max(map(sum, zip(*layers, strict=True)))
    for place in range(len(xs)):
        points = [layer[place] for layer in drawn]
        assert points[0][1] + points[-1][2] == pytest.approx(200)
        for counts, (_, top, bottom) in zip(layers, points, strict=True):
            assert bottom - top == pytest.approx(height * counts[place] / peak, abs=1e-9)
        assert all(a[2] == b[1] for a, b in itertools.pairwise(points))


def test_piles_put_the_focus_first_and_keep_the_rest_small():
    stacks = [Stack(f"o/{i}", "finetune", 10 + i) for i in range(100)] + [Stack("me", "merge", 1)]
    born = [one for i in range(100) for one in births(f"o/{i}", 30, 40)]
    piles, more = make_piles(stacks, born, "month", "me")
    assert next(iter(piles)) == "me"
    assert len(piles) == 30
    assert sum(pile.ribbon is not None for pile in piles.values()) == 12
    assert sum(more.values()) + sum(pile.n for pile in piles.values()) == sum(s.n for s in stacks)


def test_a_ribbon_grows_with_the_logarithm_of_its_peak_and_stays_in_bounds():
    heights = []
    for n in (1, 100, 1000, 10**9):
        piles, _ = make_piles([Stack("a", "merge", n)], births("a", n), "month", "a")
        heights.append(ribbon_height(piles["a"].ribbon))
    assert heights == sorted(heights)
    assert heights[0] == 16
    assert heights[2] - heights[1] == pytest.approx(24)
    assert heights[3] == 96


@pytest.mark.parametrize("step", ["day", "week", "month"])
def test_spans_follow_each_other_without_gaps(step):
    ends = list(itertools.accumulate(range(30), lambda day, _: next_start(day, step),
                                     initial=date(2023, 11, 1)))  # fmt: skip
    lengths = {(b - a).days for a, b in itertools.pairwise(ends)}
    assert lengths <= {"day": {1}, "week": {7}, "month": {28, 29, 30, 31}}[step]
    assert all(end.day == 1 for end in ends) or step != "month"


def test_the_largest_view_stays_under_half_a_megabyte():
    # 240 one by one, 40 ancestors, 60 other parents of merges, 40 ghosts.
    names = [f"organisation-{i}/a-model-of-some-length-{i}-GGUF" for i in range(380)]
    marks = tuple(mark(name, i, n_hidden=3) for i, name in enumerate(names))
    edges = tuple(edge(name, names[i // 3]) for i, name in enumerate(names) if i)
    stacks = tuple(Stack(n, r, 50) for n in names for r in ("finetune", "quantized", "adapter"))
    born = tuple(one for name in names for one in births(name, *range(1, 60)))
    svg = draw_lineage(Neighbourhood(names[0], marks, edges, 0, 0, stacks, born))
    n_marks = len(groups(svg, "n")) - len(groups(svg, "legend"))
    assert n_marks <= 600
    assert len(svg.encode()) < 500_000


# -- colours --------------------------------------------------------------------------------------


def test_categories_take_the_commonest_colours_and_the_rest_is_grey():
    marks = [mark(f"m/{i}", licence=f"l{i % 10}") for i in range(40)] + [mark("none", licence=None)]
    many = [Births("x", date(2024, 1, 1), "rare", 1000)]
    colouring = colour_marks("licence", marks, many)
    assert colouring.births["rare"] == "var(--c0)"
    assert "none" not in colouring.fills
    assert colouring.fills["m/0"] == "var(--c1)"
    assert colouring.fills["m/9"] == colouring.births["l9"] == "var(--other)"
    assert len(colouring.key) == 8
    assert colouring.key[-1] == ("4 others", "var(--other)")
    svg = draw_lineage(Neighbourhood("m/0", tuple(marks), (), 0), DrawOptions(colouring=colouring))
    assert "Licence:" in svg
    assert "not known" in svg


def test_numbers_run_from_dark_to_light_and_missing_ones_are_hollow():
    marks = [mark("a", 0), mark("b", 10), mark("c", None), mark("g", None, ghost=True)]
    colouring = colour_marks("trait:loss/x", marks, (), {"a": 1.0, "b": 3.0, "g": 9.0, "zz": 8.0})
    assert colouring.fills == {"a": cividis(0), "b": cividis(1)}
    assert colouring.scale == ("1", "3")
    svg = draw_lineage(Neighbourhood("a", tuple(marks), (), 0), DrawOptions(colouring=colouring))
    hollow = [g.get("data-id") for g in groups(svg, "hollow") if g.get("data-id")]
    assert hollow == ["c"]
    assert colour_marks("trait:none", marks).scale is None


@pytest.mark.parametrize("colour", ["relation", "verdict", "licence", "task", "architecture",
                                    "library", "month", "downloads", "likes", "parameters",
                                    "descendants"])  # fmt: skip
def test_every_colour_draws_with_and_without_values(colour):
    full = mark("a", 0, verdict="confirmed", licence="mit", task="t", architecture="A",
                library="l", downloads_30d=10, likes=2, parameters=7)  # fmt: skip
    around = replace(HUB, marks=(*HUB.marks, full))
    options = DrawOptions(colouring=colour_marks(colour, around.marks, around.births))
    ElementTree.fromstring(draw_lineage(around, options))


@given(st.floats(0, 1), st.floats(0, 1))
def test_cividis_grows_lighter(a, b):
    def luminance(colour):
        r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.299 * r + 0.587 * g + 0.114 * b

    low, high = sorted((a, b))
    assert luminance(cividis(low)) <= luminance(cividis(high)) + 1


def test_colours_leave_the_page_in_the_light_theme():
    assert in_hex("var(--merge)") == "#D55E00"
    assert in_hex("#012345") == "#012345"
    assert in_hex("var(--nothing)") is None


# -- the strip, the course of downloads -----------------------------------------------------------


def test_the_minimap_marks_the_window_and_never_leaves_the_strip():
    grid = Density(
        "o/f", 100, 1000, 4, 10, ((0, 0, 5), (3, 9, 900)), DAY, DAY + timedelta(days=100)
    )
    dates = [DAY + timedelta(days=25), DAY + timedelta(days=500)]
    root = ElementTree.fromstring(draw_minimap(grid, 600, 1, dates, "The window is o/<x>."))
    (window,) = [r for r in root.iter(f"{SVG}rect") if r.get("class") == "window"]
    assert float(window.get("x")) == pytest.approx(270)
    assert float(window.get("width")) == pytest.approx(810)
    assert float(window.get("y")) == pytest.approx(42, abs=3)
    assert float(window.get("height")) == pytest.approx(5, abs=0.2)
    assert "1,000 models" in root.get("aria-label")
    empty = replace(grid, cells=(), first=None, last=None)
    ElementTree.fromstring(draw_minimap(empty, 100, 1000, [], ""))


def test_the_course_of_downloads_begins_at_zero_and_says_its_ends():
    history = [Observed(DAY + timedelta(days=i), n, None) for i, n in enumerate((10, None, 40, 20))]
    root = ElementTree.fromstring(draw_history(history))
    assert root.get("aria-label") == (
        "Downloads in 30 days: 10 on 1 Mar 2024, 20 on 4 Mar 2024, at most 40"
    )
    assert len(list(root.iter(f"{SVG}circle"))) == 3


# -- files ----------------------------------------------------------------------------------------


def test_edges_leave_as_parquet_and_come_back():
    table = pq.read_table(io.BytesIO(parquet_of(FAMILY.edges)))
    assert table.column("child").to_pylist() == [e.child for e in FAMILY.edges]
    assert table.column("verdict").to_pylist() == [e.verdict for e in FAMILY.edges]


def test_json_holds_what_is_shown_and_the_counts_of_the_rest():
    document = json.loads(neighbourhood_json(HUB, shown_edges(HUB, "found")))
    assert {edge["verdict"] for edge in document["edges"]} == {"confirmed", "undeclared"}
    assert {"below": "o/founder", "relation": "quantized", "n": 1234} in document["counted"]
    assert len(document["models"]) == 5


def test_the_pedigree_of_a_drawing_follows_its_elbows_and_leaves_out_what_was_contradicted():
    colouring = colour_marks("relation", FAMILY.marks)
    pedigree = drawn_pedigree(FAMILY, FAMILY.edges, colouring)
    assert [one.name for one in pedigree.individuals] == [
        "o/founder", "o/child", "o/merge", "o/ghost", "o/quant",
    ]  # fmt: skip
    assert {one.name: one.colour for one in pedigree.individuals}["o/merge"] == "#D55E00"
    bonds = {(b.child, b.parent): b.is_primary for b in pedigree.bonds}
    assert bonds["o/merge", "o/child"]
    assert not bonds["o/merge", "o/founder"]
    assert ("o/child", "o/ghost") not in bonds
    swapped = drawn_pedigree(FAMILY, FAMILY.edges, colouring, parent="o/founder")
    assert {(b.child, b.parent): b.is_primary for b in swapped.bonds}["o/merge", "o/founder"]
    every = drawn_pedigree(FAMILY, FAMILY.edges, colouring, with_contradicted=True)
    assert len(every.bonds) == 5


def test_a_parent_outside_the_register_is_followed_only_where_there_is_no_other():
    around = Neighbourhood(
        "m",
        (
            mark("base", 0), mark("g", None, "unknown", ghost=True),
            mark("m", 30, primary="base"), mark("n", 40), mark("far", 50, primary="not drawn"),
        ),
        (
            edge("m", "g"), edge("m", "base", position=1), edge("n", "g"),
            edge("far", "base", position=1),
        ),
        0,
    )  # fmt: skip
    followed = {child: one.parent for child, one in elbows(around).items()}
    assert followed == {"m": "base", "n": "g"}
    looks = {
        (g.get("data-child"), g.get("data-parent")): "extra" in g.get("class").split()
        for g in groups(draw_lineage(around), "e")
        if g.get("data-child")
    }
    assert looks == {("m", "g"): True, ("m", "base"): False, ("n", "g"): False,
                     ("far", "base"): True}  # fmt: skip
