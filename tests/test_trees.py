"""Trees as arrays: what they refuse, and what follows from parents and lengths."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.evolution.comparative.trees import Tree
from lineage.graph import LineageGraph
from phylogenies import line_of, random_forest, read_tree, tree_of

NAN = math.nan


@given(st.integers(0, 10_000), st.integers(2, 25))
def test_depths_sizes_and_shared_paths_agree_with_walking_each_line(seed: int, n: int) -> None:
    tree = random_forest(seed, n)
    lines = [line_of(tree, i) for i in range(n)]
    assert tree.depth.tolist() == [len(line) - 1 for line in lines]
    assert tree.root.tolist() == [line[-1] for line in lines]
    tips = [i for i in range(n) if i not in tree.parent]
    assert tree.tips.tolist() == tips
    assert tree.n_tips.tolist() == [sum(i in lines[t] for t in tips) for i in range(n)]
    assert tree.distance == pytest.approx([sum(tree.length[line]) for line in lines])
    shared = tree.shared_length(np.arange(n))
    for i in range(n):
        for j in range(n):
            both = [k for k in lines[i] if k in lines[j]]
            assert shared[i, j] == pytest.approx(sum(tree.length[k] for k in both))
    assert np.array_equal(tree.shared_length(), shared[np.ix_(tips, tips)])
    assert sorted(i for layer in tree.layers for i in layer.tolist()) == list(range(n))


def test_caudata_shared_paths_are_those_of_phylonetworks(shared_data: Path) -> None:
    folder = shared_data / "statistics" / "network"
    tree = read_tree(folder / "caudata_tree.txt")
    theirs = np.loadtxt(folder / "caudata_shared_paths.txt", delimiter=",", skiprows=1)
    ours = tree.shared_length(np.arange(len(tree)))
    # their nodes are numbered otherwise: rows are matched by their contents
    assert theirs.shape == ours.shape == (393, 393)
    assert np.sort(ours.ravel()) == pytest.approx(np.sort(theirs.ravel()), abs=1e-9)
    assert np.sort(ours.sum(axis=1)) == pytest.approx(np.sort(theirs.sum(axis=1)), abs=1e-8)


def test_a_pedigree_becomes_its_primary_forest() -> None:
    graph = LineageGraph.from_edges(
        ["f", "g", "tune", "merge"],
        [("tune", "f", 1.0, 0), ("merge", "g", 0.3, 1), ("merge", "tune", 0.7, 0)],
    )
    tree = Tree.from_graph(graph)
    assert tree.names == ("f", "g", "tune", "merge")
    assert tree.parent.tolist() == [-1, -1, 0, 2]
    assert tree.length.tolist() == [0, 0, 1, 1]
    dated = Tree.from_graph(graph, np.array([NAN, NAN, 30.0, 4.0]))
    assert dated.distance.tolist() == [0, 0, 30, 34]
    assert dated.shared_length().tolist() == [[0, 0], [0, 34]]


@pytest.mark.parametrize(
    ("parent", "length", "complaint"),
    [
        ([-1, 2, 1], [0, 1, 1], "its own ancestor"),
        ([0], [0], "its own ancestor"),
        ([-1, 3, 0], [0, 1, 1], "node numbers below 3"),
        ([-1, -2, 0], [0, 1, 1], "node numbers below 3"),
        ([-1, 0, 0], [0, 1, -1], "1 are not"),
        ([-1, 0, 0], [0, NAN, math.inf], "2 are not"),
        ([-1, 0, 0], [5, 1, 1], "a root has no edge"),
        ([-1, 0], [0, 1, 1], "parent: 3 values expected"),
        ([-1, 0, 0], [0, 1], "length: 3 values expected"),
    ],
)
def test_what_is_no_forest_is_refused(
    parent: list[int], length: list[float], complaint: str
) -> None:
    names = tuple("abc"[: max(len(parent), len(length))])
    with pytest.raises(ValueError, match=complaint):
        Tree(names, np.array(parent), np.array(length, dtype=float))


def test_a_line_of_thousands_needs_no_recursion() -> None:
    n = 20_000
    tree = Tree(tuple(map(str, range(n))), np.arange(n) - 1, np.minimum(np.arange(n), 1.0))
    assert tree.depth[-1] == n - 1
    assert tree.n_tips.max() == 1
    assert tree.distance[-1] == n - 1


def test_an_empty_forest_is_one() -> None:
    empty = Tree((), np.empty(0, dtype=np.int64), np.empty(0))
    assert (len(empty), empty.layers, empty.tips.size) == (0, (), 0)
    assert empty.shared_length().shape == (0, 0)


def test_nodes_are_found_by_name_unless_two_share_it() -> None:
    tree = tree_of("((a,b)x,c);")
    assert [tree.names[i] for i in tree.numbers(["c", "a"])] == ["c", "a"]
    with pytest.raises(ValueError, match="not in the tree: z"):
        tree.numbers(["a", "z"])
    twins = Tree(("a", "a"), np.array([-1, -1]), np.zeros(2))
    with pytest.raises(ValueError, match="share a name"):
        twins.numbers(["a"])
