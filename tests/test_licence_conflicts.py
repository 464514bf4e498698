from __future__ import annotations

from itertools import pairwise

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.licences import LicenceClass, class_of
from evidence_register import make_register
from lineage.store.licence_conflicts import FORBIDDEN, nearest_above
from lineage.store.publication import connect_publication, read_manifest
from lineage.views.ancestry import read_ancestry
from lineage.views.licences import all_conflicts, conflict_lines, licence_conflicts


@pytest.fixture(scope="module")
def cursor(tmp_path_factory):
    home = make_register(tmp_path_factory.mktemp("home"))
    connection = connect_publication(home, read_manifest(home))
    yield connection.cursor()
    connection.close()


def naive_nearest(n, edges, sources):
    """By walking up from each node, a generation at a time."""
    parents = {i: [p for c, p in edges if c == i] for i in range(n)}
    found = []
    for node in range(n):
        level, steps, seen = {node}, 0, {node}
        while level:
            hits = [i for i in level if sources[i]]
            if hits:
                found.append((min(hits), steps))
                break
            level = {p for i in level for p in parents[i]} - seen
            seen |= level
            steps += 1
        else:
            found.append((-1, -1))
    return found


@st.composite
def graphs(draw):
    n = draw(st.integers(1, 14))
    edges = [
        (child, parent)
        for child in range(n)
        for parent in draw(st.sets(st.integers(0, max(child - 1, 0)), max_size=3))
        if parent < child
    ]
    order = draw(st.permutations(edges)) if edges else []
    return n, order, draw(st.lists(st.booleans(), min_size=n, max_size=n))


@given(graphs())
def test_the_nearest_source_above_is_found_by_a_shortest_path(graph):
    n, edges, sources = graph
    child, parent = (np.array([e[i] for e in edges], dtype=np.int64) for i in (0, 1))
    nearest, steps = nearest_above(n, child, parent, np.array(sources))
    assert list(zip(nearest.tolist(), steps.tolist(), strict=True)) == naive_nearest(
        n, edges, sources
    )


def test_the_rule_forbids_more_permissive_terms_and_nothing_else():
    permissive, copyleft = LicenceClass.PERMISSIVE, LicenceClass.COPYLEFT
    assert FORBIDDEN[LicenceClass.NON_COMMERCIAL] == (permissive, copyleft)
    assert FORBIDDEN[LicenceClass.CUSTOM] == (permissive, copyleft)
    assert FORBIDDEN[LicenceClass.COPYLEFT] == (permissive,)
    assert LicenceClass.PERMISSIVE not in FORBIDDEN
    assert LicenceClass.UNKNOWN not in FORBIDDEN


def naive_conflicts(cursor):
    licence = dict(cursor.execute("SELECT repo_id, licence FROM model").fetchall())
    edges = cursor.execute(
        "SELECT child, parent FROM edge WHERE verdict <> 'contradicted' AND grade <> 'tie'"
    ).fetchall()
    found = set()
    for child in licence:
        level, steps, reached = [child], 0, {}
        while level:
            level = sorted({p for c, p in edges if c in level and p in licence})
            steps += 1
            for name in level:
                reached.setdefault(class_of(licence[name]), (name, steps))
        if class_of(licence[child]) in FORBIDDEN:
            # A model of the class itself is the nearest of its class.
            reached.pop(class_of(licence[child]), None)
        found |= {
            (child, name, steps)
            for terms, (name, steps) in reached.items()
            if class_of(licence[child]) in FORBIDDEN.get(terms, ())
        }
    return found


def test_a_publication_holds_every_conflict_once_with_its_nearest_ancestor(cursor):
    found = {(one.child, one.ancestor, one.n_edges) for one in all_conflicts(cursor)}
    assert ("zen/chat", "acme/base-a-7b", 1) in found
    assert ("blend/slerp-a-b-dpo", "other/base-b", 3) in found
    expected = naive_conflicts(cursor)
    # Of several ancestors equally near the first in drawing order is told, not the first by name.
    assert {(child, n) for child, _, n in found} == {(child, n) for child, _, n in expected}
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    "child",
    ["liar/claims-base-b", "copy/either-one", "lora/style-adapter", "gone/away", "zen/chat-v2",
     "lost/child-of-ghost"],
)  # fmt: skip
def test_no_conflict_along_contradictions_ties_or_below_what_states_no_licence(cursor, child):
    """The liar's only other parent is under custom terms, which is a conflict of its own."""
    ancestors = {one.ancestor for one in all_conflicts(cursor) if one.child == child}
    assert ancestors <= {"acme/base-a-7b"} if child == "liar/claims-base-b" else not ancestors


def test_conflicts_are_filtered_paged_and_counted(cursor):
    whole = licence_conflicts(cursor, limit=100)
    assert whole.count("") == len(whole.rows) == sum(whole.counts.values())
    assert {one.ancestor_class for one in whole.rows} == {"custom", "non_commercial"}
    custom = licence_conflicts(cursor, terms="custom", limit=2, offset=1)
    assert len(custom.rows) == 2
    assert custom.rows == tuple(r for r in whole.rows if r.ancestor_class == "custom")[1:3]
    assert {r.child for r in licence_conflicts(cursor, owner="zen").rows} <= {
        "zen/chat", "zen/chat-v2-GGUF",
    }  # fmt: skip
    assert licence_conflicts(cursor, family="lonely/unrelated").rows == ()
    assert licence_conflicts(cursor, owner="'; DROP TABLE model; --").rows == ()


def test_the_line_of_a_conflict_leads_from_the_model_to_the_ancestor(cursor):
    rows = all_conflicts(cursor)
    lines = conflict_lines(cursor, read_ancestry(cursor), rows)
    for row in rows:
        line = lines[row.child, row.ancestor]
        assert len(line) == row.n_edges
        assert (line[0].child, line[-1].parent) == (row.child, row.ancestor)
        assert all(one.parent == two.child for one, two in pairwise(line))


def test_an_empty_publication_has_no_conflicts():
    connection = duckdb.connect()
    connection.execute("ATTACH ':memory:' AS publication")
    from lineage.store.licence_conflicts import fill_licence_conflicts
    from lineage.store.schema import PUBLISHED

    for table in PUBLISHED:
        connection.execute(table.ddl().replace('TABLE "', 'TABLE publication."', 1))
    fill_licence_conflicts(connection)
    assert connection.execute("SELECT count(*) FROM publication.licence_conflict").fetchall() == [
        (0,)
    ]
    connection.close()
