"""The page Compare: meetings against a naive search, relatedness, and every state."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence_register import MERGE, make_register
from lineage.explorer.compare_blocks import difference_columns, kinship_sentence, meeting_sentence
from lineage.explorer.meeting_figure import draw_meeting
from lineage.store import published_comparison
from lineage.store.publication import connect_publication, read_manifest
from lineage.views.ancestry import Ancestry, read_ancestry
from lineage.views.comparison import (
    Kinship,
    PathEdge,
    compare_models,
    kinship,
    lines_between,
    meetings,
)
from page_driver import asked, labels, markup, open_page
from synthetic import HOSTILE, MODELS


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


@pytest.fixture(scope="module")
def ancestry(cursor):
    return read_ancestry(cursor)


@pytest.fixture
def visit(home, monkeypatch):
    monkeypatch.setenv("HERDBOOK_HOME", str(home.root))
    return lambda **query: open_page("compare", **query)


def edge(child, parent, weight=1.0, position=0):
    return PathEdge(child, parent, position, "finetune", weight, "confirmed", "inferred")


# -- walking ------------------------------------------------------------------------------------


@st.composite
def pedigrees(draw):
    n = draw(st.integers(2, 12))
    return [
        (child, parent)
        for child in range(1, n)
        for parent in sorted(draw(st.sets(st.integers(0, child - 1), max_size=3)))
    ], n


def naive_ancestors(pairs, node):
    """The node itself and everything above it, with the number of steps."""
    found, level, steps = {node: 0}, {node}, 0
    while level:
        steps += 1
        level = {parent for child, parent in pairs if child in level} - found.keys()
        found |= dict.fromkeys(level, steps)
    return found


@given(pedigrees(), st.data())
def test_nearest_common_ancestors_are_those_without_a_nearer_one_below(pedigree, data):
    pairs, n = pedigree
    a, b = (data.draw(st.integers(0, n - 1)) for _ in range(2))
    edges = [edge(f"m/{child}", f"m/{parent}") for child, parent in pairs]
    found, n_common = meetings(edges, f"m/{a}", f"m/{b}")
    above_a, above_b = naive_ancestors(pairs, a), naive_ancestors(pairs, b)
    common = above_a.keys() & above_b.keys()
    nearest = {
        one for one in common
        if not any(one in naive_ancestors(pairs, other) for other in common - {one})
    }  # fmt: skip
    assert n_common == len(common)
    assert {meeting.ancestor for meeting in found} == {f"m/{one}" for one in nearest}
    assert [meeting.n_edges for meeting in found] == sorted(one.n_edges for one in found)
    known = {(one.child, one.parent) for one in edges}
    for meeting in found:
        node = int(meeting.ancestor[2:])
        for line, start, steps in ((meeting.line_a, a, above_a), (meeting.line_b, b, above_b)):
            assert (line[0], line[-1]) == (f"m/{start}", meeting.ancestor)
            assert len(line) - 1 == steps[node]
            assert set(pairwise(line)) <= known


@given(pedigrees(), st.data())
def test_a_walk_in_memory_finds_what_a_walk_over_edges_finds(pedigree, data):
    pairs, n = pedigree
    start = np.cumsum([0] + [sum(child == i for child, _ in pairs) for i in range(n)])
    parents = np.array([parent for _, parent in sorted(pairs)], dtype=np.int32)
    node = data.draw(st.integers(0, n - 1))
    above = Ancestry(start, parents).above([node], 100)
    expected = naive_ancestors(pairs, node)
    assert set(above) == expected.keys()
    assert [expected[i] for i in above] == sorted(expected.values())


def test_a_walk_stops_when_there_are_too_many():
    chain = Ancestry(np.array([0, *range(50)]), np.arange(49, dtype=np.int32))
    assert chain.above([49], 10) == list(range(49, 38, -1))


def test_every_model_of_a_publication_can_be_walked_up_from(cursor, ancestry):
    for place in range(len(MODELS)):
        assert ancestry.above([place], 100)[0] == place


# -- relatedness --------------------------------------------------------------------------------


def test_a_copy_is_its_parent_and_strangers_share_nothing():
    edges = [edge("a/copy", "a/base"), edge("b/copy", "b/base")]
    own = {"a/copy": 0.0, "b/copy": 0.0}
    assert kinship(edges, own, "a/copy", "a/base").correlation == pytest.approx(1)
    assert kinship(edges, own, "a/copy", "b/copy").correlation == 0


def test_siblings_are_as_related_as_their_steps_leave_them():
    """a = base + e1, b = base + e2: covariance 1, variances 1 + d."""
    edges = [edge("a/one", "z/base"), edge("b/two", "z/base")]
    found = kinship(edges, {"a/one": 0.25, "b/two": 1.0}, "a/one", "b/two")
    assert found.correlation == pytest.approx(1 / (1.25 * 2) ** 0.5)
    assert (found.n_models, found.n_steps, found.n_measured) == (3, 2, 2)


def test_a_merge_of_strangers_is_half_related_to_each_by_its_shares():
    edges = [edge("m/m", "a/a", 0.8, 0), edge("m/m", "b/b", 0.2, 1)]
    found = kinship(edges, {"m/m": 0.0}, "m/m", "a/a")
    assert found.correlation == pytest.approx(0.8 / (0.8**2 + 0.2**2) ** 0.5)


def test_what_shares_leave_over_comes_from_somebody_unknown():
    found = kinship([edge("m/m", "a/a", 0.6)], {"m/m": 0.0}, "m/m", "a/a")
    assert found.correlation == pytest.approx(0.6 / (0.6**2 + 0.4**2) ** 0.5)


def test_steps_without_a_measure_count_as_copies_and_are_told():
    found = kinship([edge("a/one", "z/base")], {"a/one": None}, "a/one", "z/base")
    assert found.correlation == 1
    assert "upper bound" in kinship_sentence(found)
    assert "upper bound" not in kinship_sentence(Kinship(0.5, 2, 1, 1))
    assert "Relatedness 0.99999" in kinship_sentence(Kinship(0.9999999, 2, 1, 1))


@pytest.mark.parametrize("weights", [(-0.5, 1.5), (0.9, 0.9)])
def test_shares_that_are_no_mixture_have_a_reason_and_no_number(weights):
    edges = [edge("m/m", p, w, i) for i, (p, w) in enumerate(zip("ab", weights, strict=True))]
    found = kinship(edges, {"m/m": 0.0}, "m/m", "a")
    assert found.correlation is None
    assert "cannot be computed" in kinship_sentence(found)


def test_claims_in_a_circle_have_a_reason_and_no_number():
    edges = [edge("a/a", "b/b"), edge("b/b", "a/a")]
    found = kinship(edges, {}, "a/a", "b/b")
    assert found.correlation is None
    assert "circle" in found.reason


# -- the question -------------------------------------------------------------------------------


def test_two_models_meet_over_every_parent(cursor, ancestry):
    found = compare_models(cursor, ancestry, "blend/slerp-a-b-dpo", "stack/franken-9b")
    assert [meeting.ancestor for meeting in found.meetings] == ["zen/chat"]
    assert found.meetings[0].line_a == ("blend/slerp-a-b-dpo", MERGE, "zen/chat")
    assert found.meetings[0].line_b == ("stack/franken-9b", "zen/chat")
    assert found.n_common == 2
    assert {(one.child, one.parent) for one in found.edges} == {
        ("blend/slerp-a-b-dpo", MERGE), (MERGE, "zen/chat"), ("stack/franken-9b", "zen/chat"),
    }  # fmt: skip
    assert not found.is_cut


def test_contradicted_claims_are_no_descent_and_unknown_parents_are(cursor, ancestry):
    liar = compare_models(cursor, ancestry, "liar/claims-base-b", "other/base-b")
    assert liar.meetings == ()
    assert liar.test.verdict == "unrelated"
    line = lines_between(cursor, ancestry, [("lost/child-of-ghost", "vanished/old-model")])
    assert [one.parent for one in next(iter(line.values()))] == ["vanished/old-model"]


def test_the_first_of_a_tie_stands_for_all(cursor, ancestry):
    found = compare_models(cursor, ancestry, "copy/either-one", "zen/chat-v2")
    assert [one.ancestor for one in found.meetings] == ["zen/chat-v2"]


def test_of_an_unknown_model_there_is_no_comparison(cursor, ancestry):
    assert compare_models(cursor, ancestry, "no/body", "zen/chat") is None
    assert compare_models(cursor, ancestry, "zen/chat", "no/body") is None


def test_measured_steps_of_findings_enter_the_relatedness(cursor, ancestry):
    found = compare_models(cursor, ancestry, "zen/chat", "zen/chat-v2")
    step = 0.0123**2
    expected = (1 + step) / ((1 + step) * (1 + 2 * step)) ** 0.5
    assert found.kinship.correlation == pytest.approx(expected)
    assert found.kinship.n_measured == found.kinship.n_steps == 2


def test_a_proved_merge_adds_nothing_of_its_own(cursor, ancestry):
    found = compare_models(cursor, ancestry, MERGE, "zen/chat")
    assert found.kinship.correlation == pytest.approx(0.62 / (0.62**2 + 0.38**2) ** 0.5)
    assert found.kinship.n_measured == found.kinship.n_steps == 3


def test_what_is_measured_of_a_merge_or_a_copy_is_no_step(tmp_path):
    import duckdb

    home = make_register(tmp_path)
    with duckdb.connect(str(home.published / "register-1.duckdb")) as connection:
        connection.execute("UPDATE finding SET grade = 'inferred' WHERE kind = 'merge'")
        connection.execute("UPDATE finding SET kind = 'cast' WHERE child = 'zen/chat'")
        found = compare_models(connection, read_ancestry(connection), MERGE, "acme/base-a-7b")
    assert (found.kinship.n_steps, found.kinship.n_measured) == (3, 2)
    step = 0.0123**2
    spread = (0.62**2 + 0.38**2 * (1 + step)) ** 0.5
    assert found.kinship.correlation == pytest.approx(0.62 / spread)


def test_of_a_tie_the_first_parent_stands_and_contradicted_ones_are_none(tmp_path):
    import duckdb

    home = make_register(tmp_path)
    with duckdb.connect(str(home.published / "register-1.duckdb")) as connection:
        place = connection.execute(
            "SELECT pos FROM model WHERE repo_id = 'copy/either-one'"
        ).fetchall()[0][0]
        connection.execute(
            "INSERT INTO edge SELECT * REPLACE ('lonely/unrelated' AS parent, position + 1 AS"
            " position, 15 AS parent_pos) FROM edge WHERE child = 'copy/either-one'"
        )
        rows = published_comparison.edges_at(connection, [place])
        liar = connection.execute(
            "SELECT pos FROM model WHERE repo_id = 'liar/claims-base-b'"
        ).fetchall()[0][0]
        said = published_comparison.edges_at(connection, [liar])
    assert [(row[0], row[1]) for row in rows] == [("copy/either-one", "zen/chat-v2")]
    assert [row[1] for row in said] == ["acme/base-a-7b"]


def test_facts_and_traits_stand_beside_each_other_with_their_difference(cursor, ancestry):
    found = compare_models(cursor, ancestry, "zen/chat", "zen/chat-v2")
    table = difference_columns(found)
    row = table["what"].index("loss/python (cross_entropy on python)")
    assert table["one"][row] == pytest.approx(2.02)
    assert table["difference"][row] == pytest.approx(-0.02)
    licence = table["what"].index("Licence")
    assert (table["one"][licence], table["other"][licence]) == ("Apache-2.0", "CC-BY-NC-4.0")
    assert table["difference"][licence] is None


def test_the_drawing_links_every_model_and_edge_once_and_is_well_formed(cursor, ancestry):
    found = compare_models(cursor, ancestry, "blend/slerp-a-b-dpo", "stack/franken-9b")
    root = ElementTree.fromstring(str(draw_meeting(found.meetings[0], found.edges)))
    groups = [one for one in root.iter() if one.get("data-go")]
    assert len([one for one in groups if one.get("data-id")]) == 4
    edges = {
        (one.get("data-child"), one.get("data-parent")) for one in groups if one.get("data-child")
    }
    assert edges == {(one.child, one.parent) for one in found.edges}
    assert all(one.get("tabindex") == "0" and one.get("aria-label") for one in groups)


# -- the page -----------------------------------------------------------------------------------


def test_two_models_show_where_they_meet_and_what_differs(visit):
    app = visit(a="blend/slerp-a-b-dpo", b="stack/franken-9b")
    text = markup(app)
    for words in (
        "Their lines meet in zen/chat, 3 steps apart", "Relatedness", "Where they meet",
        "What differs", 'data-go="evidence?child=stack%2Ffranken-9b&amp;parent=zen%2Fchat"',
        "were not held against each other",
    ):  # fmt: skip
        assert words in text
    assert labels(app)[-2:] == ["Lines (SVG)", "Everything (JSON)"]
    assert len(app.dataframe[0].value) == 3


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (MERGE, "zen/chat", "zen/chat is an ancestor of blend/slerp-a-b, 1 step above it"),
        (MERGE, "zen/chat", "One is a parent of the other"),
        ("zen/chat", MERGE, "zen/chat is an ancestor of blend/slerp-a-b, 1 step above it"),
        ("lonely/unrelated", "zen/chat", "an absence, not a proof"),
        ("lonely/unrelated", "zen/chat", "no trace of a common origin"),
        ("zen/chat", "zen/chat", "One model twice"),
        (HOSTILE, "zen/chat", "is an ancestor of evil/&lt;img"),
        ("zen/chta", "zen/chat", 'data-go="compare?a=zen%2Fchat&amp;b=zen%2Fchat"'),
        ("zen/chat", "zen/chat-v3", 'data-go="compare?b=zen%2Fchat-v2&amp;a=zen%2Fchat"'),
        ("zen/chat-v2", "", 'data-go="compare?a=zen%2Fchat-v2&amp;b=zen%2Fchat"'),
        ("", "", "Name two models above"),
        ("<script>", "x" * 3000, "does not know that model"),
    ],
)
def test_every_pair_has_its_sentence(visit, a, b, words):
    text = markup(visit(a=a, b=b))
    assert words in text
    assert "<script" not in text
    assert "<img" not in text


def test_a_model_that_is_typed_stands_in_the_address(visit):
    app = visit(a="zen/chat")
    app.text_input[1].set_value("zen/chat-v2").run()
    assert asked(app, "b") == "zen/chat-v2"
    assert "1 step above it" in markup(app)


def test_a_cut_ancestry_is_told(cursor, ancestry):
    from dataclasses import replace

    found = compare_models(cursor, ancestry, "lonely/unrelated", "zen/chat")
    assert "too large to be walked" not in meeting_sentence(found)
    assert "too large to be walked" in meeting_sentence(replace(found, is_cut=True))
