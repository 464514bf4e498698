"""The lineage graph against hand cases and against networkx."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.graph import CycleError, LineageGraph

Edges = list[tuple[str, str, float | None, int]]


@st.composite
def pedigrees(draw: st.DrawFn, max_models: int = 14) -> LineageGraph:
    """Random acyclic graphs; ids are shuffled so that their order says nothing of ancestry."""
    n = draw(st.integers(0, max_models))
    names = [f"m{i:02d}" for i in range(n)]
    edges: Edges = []
    for i in range(1, n):
        parents = draw(st.lists(st.integers(0, i - 1), max_size=4, unique=True))
        for position, k in enumerate(parents):
            edges.append((names[i], names[k], draw(st.floats(0, 1)), position))
    return LineageGraph.from_edges(draw(st.permutations(names)), draw(st.permutations(edges)))


def naive_graph(graph: LineageGraph) -> nx.DiGraph:
    """The same graph in networkx, edges from parent to child."""
    oracle = nx.DiGraph()
    oracle.add_nodes_from(graph.ids)
    for child in graph.ids:
        for place, (parent, weight) in enumerate(graph.parents(child)):
            oracle.add_edge(parent, child, weight=weight, primary=place == 0)
    return oracle


def naive_founder(graph: LineageGraph, model: str) -> str:
    """Follow the first parent by hand."""
    parents = graph.parents(model)
    return naive_founder(graph, parents[0][0]) if parents else model


def naive_rows(graph: LineageGraph) -> dict[str, int]:
    """The ladder by recursion: smaller clades first, then order of ids."""
    below: dict[str | None, list[str]] = {}
    for model in graph.ids:
        parents = graph.parents(model)
        below.setdefault(parents[0][0] if parents else None, []).append(model)

    def size(model: str) -> int:
        return 1 + sum(size(child) for child in below.get(model, []))

    rows: dict[str, int] = {}

    def visit(model: str) -> None:
        rows[model] = len(rows)
        for child in sorted(below.get(model, []), key=lambda c: (size(c), graph.ids.index(c))):
            visit(child)

    for model in sorted(below.get(None, []), key=lambda c: (size(c), graph.ids.index(c))):
        visit(model)
    return rows


HAND = LineageGraph.from_edges(
    ["root", "a", "b", "c", "merge", "alone"],
    [
        ("a", "root", 1.0, 0),
        ("b", "root", 1.0, 0),
        ("c", "a", 1.0, 0),
        ("merge", "b", 0.4, 1),
        ("merge", "c", 0.6, 0),
    ],
)


def test_a_hand_made_pedigree_has_the_orders_counts_and_rows_worked_out_on_paper() -> None:
    assert HAND.generation.tolist() == [0, 1, 1, 2, 3, 0]
    assert HAND.n_parents.tolist() == [0, 1, 1, 1, 2, 0]
    assert HAND.n_children.tolist() == [2, 1, 1, 1, 0, 0]
    assert HAND.n_descendants.tolist() == [4, 2, 1, 1, 0, 0]
    assert [HAND.ids[i] for i in HAND.founder] == ["root"] * 5 + ["alone"]
    assert HAND.size.tolist() == [5, 3, 1, 2, 1, 1]
    # alone (size 1) before root (5); under root, b (1) before a (3)
    assert HAND.pos.tolist() == [1, 3, 2, 4, 5, 0]
    assert HAND.parents("merge") == (("c", 0.6), ("b", 0.4))
    assert HAND.children("root") == ("a", "b")
    assert HAND.clade_interval("a") == (3, 6)
    assert HAND.clade("a") == ("a", "c", "merge")
    assert HAND.ancestors("merge") == ("c", "b", "a", "root")
    assert HAND.ancestors("merge", depth=1) == ("c", "b")
    assert HAND.ancestors("merge", depth=0) == ()
    assert HAND.descendants("root", depth=1) == ("a", "b")
    assert HAND.descendants("a") == ("c", "merge")
    assert len(set(HAND.component[:5])) == 1
    assert HAND.component[5] != HAND.component[0]


def test_a_child_with_any_unknown_weight_gets_equal_shares() -> None:
    graph = LineageGraph.from_edges(
        ["a", "b", "c"], [("c", "a", 0.9, 0), ("c", "b", None, 1), ("b", "a", 0.8, 0)]
    )
    assert graph.parents("c") == (("a", 0.5), ("b", 0.5))
    assert graph.parents("b") == (("a", 0.8),)


def test_an_empty_graph_answers_with_empty_arrays() -> None:
    graph = LineageGraph.from_edges([], [])
    for array in (graph.generation, graph.pos, graph.size, graph.n_descendants, graph.founder):
        assert array.size == 0
    assert graph.component.size == 0


def test_a_cycle_is_refused_and_named() -> None:
    edges: Edges = [("b", "a", 1, 0), ("c", "b", 1, 0), ("a", "c", 1, 0), ("d", "c", 1, 0)]
    edges.append(("b", "x", 1, 1))  # a founder above the cycle
    with pytest.raises(CycleError, match="its own ancestor") as caught:
        LineageGraph.from_edges(["d", "x", "a", "b", "c"], edges)
    cycle = caught.value.cycle
    assert sorted(cycle) == ["a", "b", "c"]
    pairs = {(child, parent) for child, parent, _, _ in edges}
    assert all(pair in pairs for pair in zip(cycle, (*cycle[1:], cycle[0]), strict=True))
    with pytest.raises(CycleError, match="a → a"):
        LineageGraph.from_edges(["a"], [("a", "a", 1, 0)])


@pytest.mark.parametrize(
    ("ids", "edges", "message"),
    [
        (["a", "a"], [], "id occurs twice: a"),
        (["a"], [("a", "b", 1, 0)], "b is not among the ids"),
        (["a", "b"], [("a", "b", 1, 0), ("a", "b", 0.5, 1)], "edge occurs twice: a → b"),
    ],
)
def test_edges_that_make_no_sense_are_refused(ids: list[str], edges: Edges, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LineageGraph.from_edges(ids, edges)


@given(pedigrees())
def test_generation_and_order_agree_with_networkx(graph: LineageGraph) -> None:
    oracle = naive_graph(graph)
    longest = dict.fromkeys(graph.ids, 0)
    for model in nx.topological_sort(oracle):
        for child in oracle.successors(model):
            longest[child] = max(longest[child], longest[model] + 1)
    assert dict(zip(graph.ids, graph.generation.tolist(), strict=True)) == longest
    assert (graph.generation[graph.edge_child] > graph.generation[graph.parent_index]).all()
    place = np.empty(len(graph), dtype=int)
    place[graph.topological] = np.arange(len(graph))
    assert sorted(graph.topological.tolist()) == list(range(len(graph)))
    assert (place[graph.edge_child] > place[graph.parent_index]).all()


@given(pedigrees())
def test_counts_walks_and_components_agree_with_networkx(graph: LineageGraph) -> None:
    oracle = naive_graph(graph)
    components = {m: i for i, c in enumerate(nx.weakly_connected_components(oracle)) for m in c}
    for i, model in enumerate(graph.ids):
        descendants = nx.descendants(oracle, model)
        assert graph.n_descendants[i] == len(descendants)
        assert set(graph.descendants(model)) == descendants
        assert len(graph.descendants(model)) == len(descendants)
        assert set(graph.ancestors(model)) == nx.ancestors(oracle, model)
        assert set(graph.children(model)) == set(oracle.successors(model))
        assert graph.n_children[i] == oracle.out_degree(model)
        near = nx.single_source_shortest_path_length(oracle, model, cutoff=2)
        assert set(graph.descendants(model, depth=2)) == set(near) - {model}
        assert graph.ids[graph.founder[i]] == naive_founder(graph, model)
        for j, other in enumerate(graph.ids):
            together = components[model] == components[other]
            assert (graph.component[i] == graph.component[j]) == together


@given(pedigrees())
def test_descendants_are_exact_when_merges_span_several_blocks(graph: LineageGraph) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lineage.graph._MERGES_PER_BLOCK", 2)
        counts = graph.n_descendants.tolist()
    oracle = naive_graph(graph)
    assert counts == [len(nx.descendants(oracle, model)) for model in graph.ids]


@given(pedigrees())
def test_rows_are_distinct_and_every_clade_is_contiguous(graph: LineageGraph) -> None:
    rows = naive_rows(graph)
    assert dict(zip(graph.ids, graph.pos.tolist(), strict=True)) == rows
    assert sorted(graph.pos.tolist()) == list(range(len(graph)))
    forest = nx.DiGraph()
    forest.add_nodes_from(graph.ids)
    for model in graph.ids:
        if graph.parents(model):
            forest.add_edge(graph.parents(model)[0][0], model)
    for model in graph.ids:
        first, stop = graph.clade_interval(model)
        inside = {m for m in graph.ids if first <= rows[m] < stop}
        assert inside == {model} | nx.descendants(forest, model)
        assert set(graph.clade(model)) == inside
        assert graph.clade(model)[0] == model


def test_ten_thousand_models_with_merges_and_a_long_chain_are_counted_right() -> None:
    rng = np.random.default_rng(7)
    names = [f"m{i}" for i in range(10_000)]
    edges: Edges = [(names[i], names[i - 1], 1.0, 0) for i in range(1, 2_000)]
    for i in range(2_000, 10_000):
        parents = np.unique(rng.integers(0, i, size=3 if i % 10 == 0 else 1))
        edges += [(names[i], names[k], None, p) for p, k in enumerate(parents)]
    graph = LineageGraph.from_edges(names, edges)
    n_descendants, pos = graph.n_descendants, graph.pos
    assert len(np.unique(pos)) == len(graph)
    for i in (0, 1_500, 4_321):
        assert n_descendants[i] == len(graph.descendants(names[i]))
