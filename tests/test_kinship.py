"""Relatedness: published matrices, naive recursions, and identities on random pedigrees."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineage.evolution.inheritance.relatedness import (
    Relatedness,
    mendelian,
    relatedness,
    variance_by_kind,
)
from lineage.evolution.inheritance.shares import group_shares
from lineage.graph import CycleError, LineageGraph

Floats = NDArray[np.float64]
Parents = dict[str, dict[str, float]]


def graph_of(parents: Parents) -> LineageGraph:
    edges = [
        (child, parent, weight, place)
        for child, of in parents.items()
        for place, (parent, weight) in enumerate(of.items())
    ]
    return LineageGraph.from_edges(list(parents), edges)


def diploid(rows: str) -> LineageGraph:
    """Rows ``id sire dam``, 0 for unknown."""
    lines = [line.split() for line in rows.strip().splitlines()]
    return graph_of({c: {p: 0.5 for p in known if p != "0"} for c, *known in lines})


def naive_a(graph: LineageGraph, variance: Floats) -> Floats:
    """A row by row, parents first (the tabular method), with plain loops."""
    n = len(graph)
    a = np.zeros((n, n))
    done: list[int] = []
    for i in graph.topological.tolist():
        parents = [(graph.number(p), w) for p, w in graph.parents(graph.ids[i])]
        for j in done:
            a[i, j] = a[j, i] = sum(w * a[p, j] for p, w in parents)
        passed = sum(w * v * a[p, q] for p, w in parents for q, v in parents)
        a[i, i] = passed + variance[i]
        done.append(i)
    return a


def random_pedigree(seed: int, n: int = 14, zero: float = 0.0) -> tuple[LineageGraph, Floats]:
    """Up to four parents of unequal shares that may sum to less than one, in shuffled order."""
    rng = np.random.default_rng(seed)
    parents: Parents = {}
    variance = np.empty(n)
    order = rng.permutation(n)
    for born, i in enumerate(order):
        k = int(rng.integers(0, min(born, 4) + 1))
        chosen = rng.choice(order[:born], size=k, replace=False) if k else []
        shares = rng.dirichlet(np.ones(k + 1))[:k] if k > 1 else np.ones(k)
        parents[f"m{i}"] = {f"m{p}": float(w) for p, w in zip(chosen, shares, strict=True)}
        variance[i] = 0.0 if k and rng.random() < zero else rng.uniform(0.05, 1.5)
    ids = [f"m{i}" for i in range(n)]
    return graph_of({i: parents[i] for i in ids}), variance


MRODE = "1 0 0\n2 0 0\n3 1 2\n4 1 0\n5 4 3\n6 5 2"
FG90 = "1 0 0\n2 0 0\n3 1 0\n4 1 2\n5 3 4\n6 1 4\n7 5 6\n8 5 6"
WRAY = "1 0 0\n2 0 0\n3 2 1\n4 2 1\n5 3 4\n6 2 4\n7 5 6\n8 5 7"


# -- published answers -------------------------------------------------------------------------


def test_mrode_table_2_1_gives_the_printed_relationships_and_inverse() -> None:
    related = mendelian(diploid(MRODE))
    printed = [
        [1, 0, 0.5, 0.5, 0.5, 0.25],
        [0, 1, 0.5, 0, 0.25, 0.625],
        [0.5, 0.5, 1, 0.25, 0.625, 0.5625],
        [0.5, 0, 0.25, 1, 0.625, 0.3125],
        [0.5, 0.25, 0.625, 0.625, 1.125, 0.6875],
        [0.25, 0.625, 0.5625, 0.3125, 0.6875, 1.125],
    ]
    np.testing.assert_allclose(related.matrix(np.arange(6)), printed, atol=1e-15)
    inverse = [  # nadiv::makeAinv, 4 decimals; rows in order 1, 2, 3, 4, 5, 6
        [1.8333, 0.5, -1, -0.6667, 0, 0],
        [0.5, 2.0333, -1, 0, 0.5333, -1.0667],
        [-1, -1, 2.5, 0.5, -1, 0],
        [-0.6667, 0, 0.5, 1.8333, -1, 0],
        [0, 0.5333, -1, -1, 2.5333, -1.0667],
        [0, -1.0667, 0, 0, -1.0667, 2.1333],
    ]
    np.testing.assert_allclose(related.inverse.toarray(), inverse, atol=5e-5)
    assert -related.log_determinant == pytest.approx(2.431662, abs=5e-7)  # nadiv: of the inverse
    np.testing.assert_allclose(related.diagonal - 1, [0, 0, 0, 0, 0.125, 0.125], atol=1e-15)


def test_fikse_pedigree_gives_the_printed_relationships() -> None:
    printed = [  # nadiv::makeA(FG90)
        [1.000, 0.00, 0.500, 0.5000, 0.50000, 0.75000, 0.62500, 0.62500],
        [0.000, 1.00, 0.000, 0.5000, 0.25000, 0.25000, 0.25000, 0.25000],
        [0.500, 0.00, 1.000, 0.2500, 0.62500, 0.37500, 0.50000, 0.50000],
        [0.500, 0.50, 0.250, 1.0000, 0.62500, 0.75000, 0.68750, 0.68750],
        [0.500, 0.25, 0.625, 0.6250, 1.12500, 0.56250, 0.84375, 0.84375],
        [0.750, 0.25, 0.375, 0.7500, 0.56250, 1.25000, 0.90625, 0.90625],
        [0.625, 0.25, 0.500, 0.6875, 0.84375, 0.90625, 1.28125, 0.87500],
        [0.625, 0.25, 0.500, 0.6875, 0.84375, 0.90625, 0.87500, 1.28125],
    ]
    np.testing.assert_allclose(mendelian(diploid(FG90)).matrix(np.arange(8)), printed, atol=1e-15)


def test_wray_pedigree_has_the_printed_inbreeding() -> None:
    inbreeding = mendelian(diploid(WRAY)).diagonal - 1
    assert inbreeding.tolist() == [0, 0, 0, 0, 0.25, 0.25, 0.3125, 0.46875]


def test_gryphon_relationships_have_the_reference_invariants(shared_data: Path) -> None:
    with (shared_data / "statistics" / "gryphon" / "gryphonped.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    known = {
        row["id"]: {row[k]: 0.5 for k in ("father", "mother") if row[k] != "NA"} for row in rows
    }
    related = mendelian(graph_of(known))
    dense = related.matrix(np.arange(1309))
    assert np.trace(dense) == 1309.25
    assert dense.sum() == pytest.approx(8597.447265625, abs=1e-9)
    assert related.log_determinant == pytest.approx(-509.3088742, abs=5e-8)
    assert related.diagonal.max() == 1.25
    np.testing.assert_allclose(related.diagonal, np.diag(dense), atol=1e-14)


def test_hybrid_network_of_unequal_parents_has_the_printed_variances() -> None:
    # PhyloNetworks.jl test/test_traits.jl, V2:
    # (A:0.5,((B:1,#H1:1::0.1):1,(C:1,(D:1)#H1:1::0.9):1):0.5);
    # the root is one value (its variance falls from the differences), so it is left out here.
    parents: Parents = {
        "A": {}, "r": {}, "x": {"r": 1}, "y": {"r": 1}, "B": {"x": 1}, "C": {"y": 1},
        "H": {"y": 0.9, "x": 0.1}, "D": {"H": 1},
    }  # fmt: skip
    lengths = [0.5, 0.5, 1, 1, 1, 1, 0.9**2 + 0.1**2, 1]  # hybrid: d = Σ w² t
    related = relatedness(graph_of(parents), np.array(lengths))
    tips = np.array([related.graph.number(tip) for tip in "ABCD"])
    printed = [[0.5, 0, 0, 0], [0, 2.5, 0.5, 0.6], [0, 0.5, 2.5, 1.4], [0, 0.6, 1.4, 3.14]]
    np.testing.assert_allclose(related.matrix(tips), printed, atol=1e-14)
    np.testing.assert_allclose(related.diagonal[tips], np.diag(printed), atol=1e-14)


def test_phantom_groups_of_quaas_1988_have_the_printed_shares() -> None:
    # nadiv::Q1988: A has unknown parents of g1 and g2, B a known dam and g2, C g1 and g2, D = B × C
    graph = diploid("A 0 0\nB A 0\nC 0 0\nD B C")
    unknown = np.array([[0.5, 0.5], [0, 0.5], [0.5, 0.5], [0, 0]])
    shares = group_shares(graph, unknown).toarray()
    assert shares.tolist() == [[0.5, 0.5], [0.25, 0.75], [0.5, 0.5], [0.375, 0.625]]


# -- against the obvious way -------------------------------------------------------------------


@given(st.integers(0, 100_000))
def test_every_route_gives_the_matrix_of_the_naive_recursion(seed: int) -> None:
    graph, variance = random_pedigree(seed)
    related = relatedness(graph, variance)
    naive = naive_a(graph, variance)
    everybody = np.arange(len(graph))
    np.testing.assert_allclose(related.matrix(everybody), naive, atol=1e-12)
    np.testing.assert_allclose(related.diagonal, np.diag(naive), atol=1e-12)
    np.testing.assert_allclose(related.inverse @ naive, np.eye(len(graph)), atol=1e-10)
    assert related.log_determinant == pytest.approx(np.linalg.slogdet(naive).logabsdet, abs=1e-9)
    one, other = (
        [graph.ids[i] for i in side.ravel()] for side in np.meshgrid(everybody, everybody)
    )
    np.testing.assert_allclose(related.between(one, other), naive.ravel(), atol=1e-12)
    few = np.array([7, 2, 11])
    np.testing.assert_allclose(related.matrix(few), naive[np.ix_(few, few)], atol=1e-12)


@given(st.integers(0, 100_000))
def test_mendelian_variance_is_that_of_the_tabular_method(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(16):
        known = rng.choice(i, size=2, replace=False) + 1 if i > 1 else [0, 0]
        sire, dam = (0 if rng.random() < 0.25 else parent for parent in known)
        rows.append(f"{i + 1} {sire} {dam}")
    graph = diploid("\n".join(rows))
    a = np.zeros((16, 16))
    for i in range(16):  # Mrode 2005, eqs 2.1–2.3
        parents = [graph.number(p) for p, _ in graph.parents(graph.ids[i])]
        a[i, :i] = a[:i, i] = sum(0.5 * a[p, :i] for p in parents)
        a[i, i] = 1 + (0.5 * a[parents[0], parents[1]] if len(parents) == 2 else 0)
    related = mendelian(graph)
    np.testing.assert_allclose(related.matrix(np.arange(16)), a, atol=1e-13)
    np.testing.assert_allclose(related.diagonal, np.diag(a), atol=1e-13)


@given(st.integers(0, 100_000))
def test_models_without_variance_are_expressed_by_the_others(seed: int) -> None:
    graph, variance = random_pedigree(seed, zero=0.5)
    related = relatedness(graph, variance)
    naive = naive_a(graph, variance)
    kept, through = related.kept, related.expression.toarray()
    assert (variance[kept] > 0).all()
    among = naive[np.ix_(kept, kept)]
    np.testing.assert_allclose(related.inverse @ among, np.eye(kept.size), atol=1e-9)
    np.testing.assert_allclose(through @ among @ through.T, naive, atol=1e-10)
    np.testing.assert_allclose(through[kept], np.eye(kept.size), atol=0)
    np.testing.assert_allclose(related.diagonal, np.diag(naive), atol=1e-12)


@given(st.integers(0, 100_000))
def test_group_shares_solve_the_pedigree(seed: int) -> None:
    graph, _ = random_pedigree(seed)
    w = relatedness(graph, np.ones(len(graph))).shares.toarray()
    rng = np.random.default_rng(seed)
    unknown = (1 - w.sum(axis=1))[:, None] * rng.dirichlet([1, 1, 1], len(graph))
    expected = np.linalg.solve(np.eye(len(graph)) - w, unknown)
    np.testing.assert_allclose(group_shares(graph, unknown).toarray(), expected, atol=1e-12)


@given(st.integers(0, 100_000))
def test_a_pedigree_of_ancestors_keeps_their_relationships(seed: int) -> None:
    graph, variance = random_pedigree(seed, zero=0.2)
    related = relatedness(graph, variance)
    chosen = np.array([5, 9])
    smaller, members = related.ancestry(chosen)
    above = {graph.number(a) for i in chosen for a in graph.ancestors(graph.ids[i])} | {5, 9}
    assert members.tolist() == sorted(above)
    assert smaller.graph.ids == tuple(graph.ids[i] for i in members)
    everyone = np.arange(members.size)
    np.testing.assert_allclose(smaller.matrix(everyone), related.matrix(members), atol=1e-12)


@given(st.integers(0, 100_000))
def test_expected_values_are_the_regression_on_known_ancestors(seed: int) -> None:
    graph, variance = random_pedigree(seed)
    related = relatedness(graph, variance)
    members = related.ancestry(np.array([4, 10]))[1]
    values = np.random.default_rng(seed).normal(size=members.size)
    naive = naive_a(graph, variance)
    among = naive[np.ix_(members, members)]
    expected = naive[:, members] @ np.linalg.solve(among, values)
    np.testing.assert_allclose(related.expected(members, values), expected, atol=1e-9)


@given(st.integers(0, 100_000))
def test_mean_covariance_is_that_of_the_dense_matrix(seed: int) -> None:
    graph, variance = random_pedigree(seed)
    related = relatedness(graph, variance)
    nodes = np.array([3, 3, 8, 12])
    dense = naive_a(graph, variance)[np.ix_(nodes, nodes)]
    assert related.mean_covariance(nodes) == pytest.approx(dense.mean(), abs=1e-12)


# -- what the model says about models ----------------------------------------------------------


def test_fine_tunes_add_variance_and_merges_halve_it() -> None:
    graph = graph_of({"a": {}, "b": {}, "t": {"a": 1}, "tt": {"t": 1}, "m": {"a": 0.5, "b": 0.5}})
    d = variance_by_kind(
        graph,
        ["", "", "finetune", "finetune", "merge"],
        {"finetune": 0.2, "merge": 0.0},
    )
    related = relatedness(graph, d)
    assert related.diagonal.tolist() == pytest.approx([1, 1, 1.2, 1.4, 0.5])


def test_a_chain_of_copies_is_its_original() -> None:
    graph = graph_of({"o": {}, "c": {"o": 1}, "cc": {"c": 1}, "t": {"cc": 1}})
    related = relatedness(graph, np.array([1, 0, 0, 0.5]))
    assert related.kept.tolist() == [0, 3]
    assert related.expression.toarray().tolist() == [[1, 0], [1, 0], [1, 0], [0, 1]]
    assert related.inverse.toarray().tolist() == [[3, -2], [-2, 2]]


def test_a_parent_of_share_zero_is_no_parent() -> None:
    graph = graph_of({"a": {}, "b": {}, "m": {"a": 1.0, "b": 0.0}})
    related = relatedness(graph, np.ones(3))
    assert related.between(["m", "m"], ["a", "b"]).tolist() == [1, 0]
    assert related.shares.nnz == 1
    assert related.ancestry(np.array([2]))[1].tolist() == [0, 2]


def test_an_empty_pedigree_has_empty_matrices() -> None:
    related = relatedness(LineageGraph.from_edges([], []), np.empty(0))
    assert related.diagonal.shape == (0,)
    assert related.inverse.shape == (0, 0)


def test_long_chains_and_wide_stars_are_swept_at_once() -> None:
    depth, width = 2_000, 20_000
    n = depth + width
    primary = np.concatenate([np.arange(-1, depth - 1), np.zeros(width, dtype=int)])
    start = np.concatenate([[0], np.cumsum(primary >= 0)])
    ids = tuple(map(str, range(n)))
    graph = LineageGraph(ids, start, primary[primary >= 0], np.ones(n - 1))
    related = relatedness(graph, np.where(primary < 0, 1.0, 0.5))
    assert related.diagonal[depth - 1] == pytest.approx(1 + 0.5 * (depth - 1))
    assert related.diagonal[-1] == 1.5
    assert related.inverse.nnz == n + 2 * (n - 1)


# -- refusals ----------------------------------------------------------------------------------

TWO = graph_of({"a": {}, "b": {"a": 1.0}})


@pytest.mark.parametrize(
    ("variance", "message"),
    [
        ([1.0], "2 values expected"),
        ([1.0, np.nan], "variance of b is nan"),
        ([1.0, np.inf], "variance of b is inf"),
        ([1.0, -0.1], r"variance of b is -0\.1"),
        ([0.0, 1.0], "variance of founder a is 0"),
    ],
)
def test_impossible_variances_are_refused(variance: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        relatedness(TWO, np.array(variance))


def test_shares_beyond_one_are_refused_and_never_scaled() -> None:
    graph = graph_of({"a": {}, "b": {}, "m": {"a": 0.7, "b": 0.7}})
    with pytest.raises(ValueError, match=r"shares of m sum to 1\.4"):
        relatedness(graph, np.ones(3))


def test_negative_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="b has a negative share"):
        relatedness(graph_of({"a": {}, "b": {"a": -0.5}}), np.ones(2))


def test_cycles_are_refused() -> None:
    with pytest.raises(CycleError, match="own ancestor"):
        graph_of({"a": {"b": 1.0}, "b": {"a": 1.0}})


def test_mendelian_inheritance_is_refused_for_merges_and_fine_tunes() -> None:
    with pytest.raises(ValueError, match="b draws a share other than ½"):
        mendelian(TWO)
    three = graph_of({"a": {}, "b": {}, "c": {}, "m": {"a": 0.5, "b": 0.5, "c": 0.5}})
    with pytest.raises(ValueError, match="m has more than two parents"):
        mendelian(three)


def test_kinds_without_a_variance_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no variance is given for kind adapter"):
        variance_by_kind(TWO, ["", "adapter"], {"merge": 0.1})
    with pytest.raises(ValueError, match="2 expected"):
        variance_by_kind(TWO, ["merge"], {"merge": 0.1})


def test_groups_that_leave_a_share_unexplained_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shares of a sum to 0\.5, not to 1"):
        group_shares(TWO, np.array([[0.5], [0.0]]))
    with pytest.raises(ValueError, match="2 rows expected"):
        group_shares(TWO, np.ones((1, 1)))


def test_pairs_and_models_that_do_not_fit_are_refused() -> None:
    related: Relatedness = relatedness(TWO, np.ones(2))
    with pytest.raises(ValueError, match="pairs expected"):
        related.between(["a"], ["a", "b"])
    with pytest.raises(KeyError):
        related.between(["a"], ["nobody"])
