"""Balance: published tables, slow oracles, and shapes that break other indices."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.evolution.comparative.balance import b1, b2, colless, j1, out_degrees, sackin
from lineage.evolution.comparative.trees import Tree
from phylogenies import children_of, line_of, random_forest, read_tree, tree_of

NAN = math.nan
CATERPILLAR = "((((a,b),c),d),e);"
BALANCED = "(((a,b),(c,d)),((e,f),(g,h)));"
MIX = "((((a,b),(c,d)),e),(f,g));"
POLYTOMY = "((a,b,c),(d,e),f);"


# R 4.2.2: treebalance 1.2.0 (Colless, Sackin, B1, B2) and RUtreebalance (J¹)
@pytest.mark.parametrize(
    ("newick", "expected"),
    [
        (CATERPILLAR, (6, 14, 1.833333333, 1.875, 0.8292600339)),
        (BALANCED, (0, 24, 5.0, 3.0, 1.0)),
        (MIX, (6, 22, 3.833333333, 2.5, 0.8932492934)),
        (POLYTOMY, (None, 11, None, 2.446616668, 0.9567017286)),
        ("((a),(b,c));", (None, None, None, None, 0.7924812504)),
    ],
)
def test_small_trees_have_the_indices_that_r_gives(
    newick: str, expected: tuple[float | None, ...]
) -> None:
    tree = tree_of(newick)
    for index, value in zip((colless, sackin, b1, b2, j1), expected, strict=True):
        if value is not None:
            assert index(tree)[0] == pytest.approx(value, abs=5e-10), index.__name__


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bird_orders", (82, 154, 11.09563492, 3.256835938, 0.6755969155)),
        ("hiv", (992, 2028, 96.87680791, 5.667221069, 0.7225563157)),
        ("bird_families", (None, 1783, None, 4.318146527, None)),
    ],
)
def test_published_trees_have_the_indices_that_r_gives(
    shared_data: Path, name: str, expected: tuple[float | None, ...]
) -> None:
    tree = read_tree(shared_data / "statistics" / "trees" / f"{name}.nwk")
    for index, value in zip((colless, sackin, b1, b2, j1), expected, strict=True):
        if value is not None:
            assert index(tree)[0] == pytest.approx(value, rel=2e-9), index.__name__


def naive_j1(tree: Tree, own: dict[int, float], root: int) -> float:
    """Lemant et al. 2022, by recursion over nodes."""
    top = bottom = 0.0

    def size(node: int) -> float:
        return own[node] + sum(size(child) for child in children_of(tree, node))

    for node in own:
        if line_of(tree, node)[-1] != root:
            continue
        sizes = [size(child) for child in children_of(tree, node)]
        below = sum(sizes)
        sharing = [s for s in sizes if s > 0]
        bottom += below
        if len(sharing) > 1:
            top += sum(-s * math.log(s / below, len(sharing)) for s in sharing)
    return top / bottom if bottom else NAN


@given(st.integers(0, 10_000), st.integers(2, 22))
def test_indices_of_random_forests_agree_with_the_definitions(seed: int, n: int) -> None:
    tree = random_forest(seed, n)
    rng = np.random.default_rng(seed)
    own = rng.choice([0.0, 0.0, 1.0, 2.5], n)
    tips = set(tree.tips.tolist())

    def height(node: int) -> int:
        return max((1 + height(child) for child in children_of(tree, node)), default=0)

    for place, root in enumerate(tree.roots.tolist()):
        nodes = [i for i in range(n) if line_of(tree, i)[-1] == root]
        ends = [i for i in nodes if i in tips]
        assert sackin(tree)[place] == sum(len(line_of(tree, tip)) - 1 for tip in ends)
        inner = [i for i in nodes if i not in tips and i != root]
        assert b1(tree)[place] == pytest.approx(sum(1 / height(i) for i in inner))
        chances = [
            math.prod(1 / len(children_of(tree, k)) for k in line_of(tree, tip)[1:]) for tip in ends
        ]
        assert b2(tree)[place] == pytest.approx(-sum(p * math.log2(p) for p in chances), abs=1e-12)
        populated = dict(enumerate(own.tolist()))
        assert j1(tree, own)[place] == pytest.approx(
            naive_j1(tree, populated, root), abs=1e-12, nan_ok=True
        )
        plain = {i: float(i in tips) for i in range(n)}
        assert j1(tree)[place] == pytest.approx(naive_j1(tree, plain, root), abs=1e-12, nan_ok=True)
    degrees = [len(children_of(tree, i)) for i in range(n)]
    assert out_degrees(tree).tolist() == [degrees.count(d) for d in range(max(degrees) + 1)]


@given(st.integers(0, 10_000), st.integers(2, 25))
def test_j1_lies_between_0_and_1_and_knows_no_unit_of_population(seed: int, n: int) -> None:
    tree = random_forest(seed, n, n_roots=1)
    own = np.random.default_rng(seed).exponential(1.0, n)
    value = j1(tree, own)
    assert 0 <= value[0] <= 1 + 1e-12
    assert j1(tree, 1000 * own) == pytest.approx(value)


@given(st.integers(0, 10_000), st.integers(3, 20))
def test_binary_trees_have_the_colless_index_of_the_definition(seed: int, n_tips: int) -> None:
    rng = np.random.default_rng(seed)
    parent, open_tips = [-1], [0]
    while len(open_tips) < n_tips:
        split = open_tips.pop(int(rng.integers(len(open_tips))))
        open_tips += [len(parent), len(parent) + 1]
        parent += [split, split]
    n = len(parent)
    tree = Tree(tuple(map(str, range(n))), np.array(parent), np.minimum(np.arange(n), 1.0))
    expected = 0
    for node in range(n):
        pair = children_of(tree, node)
        if pair:
            left, right = (sum(c in line_of(tree, t) for t in tree.tips) for c in pair)
            expected += abs(left - right)
    assert colless(tree).tolist() == [expected]
    assert colless(tree)[0] <= (n_tips - 1) * (n_tips - 2) / 2


# Examples in the documentation of the authors' program: three lines from one root.
@pytest.mark.parametrize(
    ("population", "expected"),
    [([1, 5, 5, 5, 5, 5, 5], 30 / 45), ([0, 0, 0, 0, 1, 1, 1], 0.5), ([0, 1, 1, 1, 0, 0, 0], 1.0)],
)
def test_j1_counts_populated_inner_nodes_and_linear_ones(
    population: list[float], expected: float
) -> None:
    tree = Tree(tuple("1234567"), np.array([-1, 0, 0, 0, 1, 2, 3]), np.array([0.0, *[1.0] * 6]))
    assert j1(tree, np.array(population, dtype=float))[0] == pytest.approx(expected)


def test_a_star_is_perfectly_balanced_and_its_centres_own_size_does_not_count() -> None:
    star = Tree(tuple("abcde"), np.array([-1, 0, 0, 0, 0]), np.array([0.0, 1, 1, 1, 1]))
    assert j1(star).tolist() == pytest.approx([1])
    assert j1(star, np.array([99.0, 1, 1, 1, 1])).tolist() == pytest.approx([1])
    assert (sackin(star)[0], b1(star)[0], b2(star)[0]) == (4, 0, 2)
    assert out_degrees(star).tolist() == [4, 0, 0, 0, 1]


def test_a_lone_founder_has_no_balance_to_speak_of() -> None:
    lone = Tree(("a",), np.array([-1]), np.zeros(1))
    assert math.isnan(j1(lone)[0])
    assert (sackin(lone)[0], colless(lone)[0], b1(lone)[0], b2(lone)[0]) == (0, 0, 0, 0)


def test_indices_do_not_depend_on_edge_lengths() -> None:
    tree = random_forest(3, 20)
    longer = replace(tree, length=tree.length * 7)
    for index in (sackin, b1, b2, j1):
        assert index(tree) == pytest.approx(index(longer), nan_ok=True)


@pytest.mark.parametrize("newick", [POLYTOMY, "((a),(b,c));"])
def test_colless_refuses_what_does_not_bifurcate(newick: str) -> None:
    with pytest.raises(ValueError, match="two children at every inner node"):
        colless(tree_of(newick))


@pytest.mark.parametrize("population", [[1, NAN, 1], [1, -1, 1], [1, 1]])
def test_populations_must_be_known_and_not_negative(population: list[float]) -> None:
    with pytest.raises(ValueError, match="population"):
        j1(tree_of("(a,b);"), np.array(population))


@pytest.mark.slow
def test_a_million_models_take_seconds() -> None:
    n, rng = 1_000_000, np.random.default_rng(0)
    parent = (rng.random(n) ** 2 * np.arange(n)).astype(np.int64)
    parent[rng.random(n) < 0.3] = -1
    parent[0] = -1
    tree = Tree(tuple(map(str, range(n))), parent, (parent >= 0) * 1.0)
    begun = time.perf_counter()
    for index in (sackin, b1, b2, j1):
        assert index(tree).size == tree.roots.size
    assert out_degrees(tree).sum() == n
    assert time.perf_counter() - begun < 20
