"""Genetics of behaviour: hand cases, naive oracles, and trees by another library."""

from __future__ import annotations

import math
import random

import dendropy
import networkx as nx
import numpy as np
import pytest
from dendropy.calculate import treecompare
from dendropy.simulate import treesim
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineage.evolution.behaviour.alleles import (
    AlleleTable,
    allele_table,
    nei_distance,
    nei_identity,
)
from lineage.evolution.behaviour.lineage_comparison import compare_with_lineage, robinson_foulds
from lineage.evolution.behaviour.pedigree import lineage_clades, lineage_distance
from lineage.evolution.behaviour.prediction import predict_trait
from lineage.evolution.behaviour.tree import (
    BehaviourTree,
    bootstrap_trees,
    neighbour_joining,
    newick,
    split_of,
    with_support,
)
from lineage.graph import LineageGraph

Floats = NDArray[np.float64]
Genes = list[dict[str, float] | None]
INF, NAN = math.inf, math.nan
SEEDS = st.integers(0, 2**32 - 1)


# ---- identity and distance -------------------------------------------------------------------


def random_genes(rng, n_genes, *, missing=0.0, n_samples=None) -> Genes:
    genes: Genes = []
    for _ in range(n_genes):
        if rng.random() < missing:
            genes.append(None)
            continue
        shares = rng.dirichlet(np.full(4, 0.5))
        if n_samples is not None:
            shares = rng.multinomial(n_samples, shares) / n_samples
        genes.append({"abcd"[i]: float(p) for i, p in enumerate(shares) if p})
    return genes


def random_table(seed, n_models=5, n_genes=7, **more) -> tuple[dict[str, Genes], AlleleTable]:
    rng = np.random.default_rng(seed)
    observed = {f"m{i}": random_genes(rng, n_genes, **more) for i in range(n_models)}
    n = more.get("n_samples")
    return observed, allele_table(observed, dict.fromkeys(observed, n))


def naive_identity(a: Genes, b: Genes, n_a=None, n_b=None) -> float:
    """Nei's formula, gene by gene and allele by allele."""
    across = own_a = own_b = 0.0
    for one, other in zip(a, b, strict=True):
        if one is None or other is None:
            continue
        across += sum(p * other.get(allele, 0.0) for allele, p in one.items())
        for alleles, n, which in ((one, n_a, "a"), (other, n_b, "b")):
            agree = sum(p * p for p in alleles.values())
            if n is not None:
                agree = (n * agree - 1) / (n - 1)
            if which == "a":
                own_a += agree
            else:
                own_b += agree
    return across / math.sqrt(own_a * own_b) if own_a > 0 and own_b > 0 else math.nan


def test_identity_and_distance_of_a_case_worked_on_paper():
    # gene 1: (1, 0) and (½, ½); gene 2: (.2, .8) and (.6, .4)
    # J_ab = .5 + .12 + .32 = .94; J_a = 1 + .68 = 1.68; J_b = .5 + .52 = 1.02
    a: Genes = [{"x": 1.0}, {"x": 0.2, "y": 0.8}]
    b: Genes = [{"x": 0.5, "y": 0.5}, {"x": 0.6, "y": 0.4}]
    table = allele_table({"a": a, "b": b}, {"a": None, "b": None})
    found = nei_identity(table)
    assert found[0, 1] == found[1, 0] == pytest.approx(0.94 / math.sqrt(1.68 * 1.02))
    assert np.diag(found).tolist() == [1.0, 1.0]
    assert nei_distance(found)[0, 1] == pytest.approx(-math.log(0.94 / math.sqrt(1.68 * 1.02)))


def test_an_equal_text_at_another_gene_is_another_allele():
    table = allele_table({"a": [{"x": 1.0}, {"y": 1.0}], "b": [{"y": 1.0}, {"x": 1.0}]},
                         {"a": None, "b": None})  # fmt: skip
    assert nei_identity(table)[0, 1] == 0.0
    assert nei_distance(nei_identity(table))[0, 1] == math.inf


def test_sampled_agreement_is_that_of_two_different_draws():
    # draws x x y y: of their 6 pairs 2 agree
    table = allele_table({"a": [{"x": 0.5, "y": 0.5}]}, {"a": 4})
    assert table.agreement[0, 0, 0] == pytest.approx(2 / 6)


def test_sampled_models_are_as_near_as_they_are_on_average_not_farther():
    rng = np.random.default_rng(3)
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    truth = (p @ q) / math.sqrt((p @ p) * (q @ q))
    genes = 4000  # sums over so many genes come near to their expectation
    draws = [rng.multinomial(4, shares, size=genes) / 4 for shares in (p, q)]
    observed = {
        name: [{str(i): float(s) for i, s in enumerate(row) if s} for row in rows]
        for name, rows in zip("ab", draws, strict=True)
    }
    unbiased = nei_identity(allele_table(observed, {"a": 4, "b": 4}))[0, 1]
    naive = nei_identity(allele_table(observed, {"a": None, "b": None}))[0, 1]
    assert unbiased == pytest.approx(truth, abs=0.02)
    assert naive < truth - 0.1


@given(SEEDS, st.sampled_from([None, 2, 9]), st.sampled_from([0.0, 0.4]))
def test_identity_agrees_with_the_naive_sums(seed, n_samples, missing):
    observed, table = random_table(seed, n_samples=n_samples, missing=missing)
    found = nei_identity(table)
    for i, a in enumerate(observed):
        for j, b in enumerate(observed):
            if i != j:
                wanted = naive_identity(observed[a], observed[b], n_samples, n_samples)
                assert found[i, j] == pytest.approx(wanted, nan_ok=True, rel=1e-9, abs=1e-12)


def test_computed_and_sampled_models_stand_in_one_table():
    rng = np.random.default_rng(8)
    a, b = random_genes(rng, 6), random_genes(rng, 6, n_samples=5)
    table = allele_table({"a": a, "b": b}, {"a": None, "b": 5})
    assert nei_identity(table)[0, 1] == pytest.approx(naive_identity(a, b, None, 5))


@given(SEEDS)
def test_weights_count_genes_as_often_as_they_say(seed):
    observed, table = random_table(seed, missing=0.2)
    weight = np.random.default_rng(seed).integers(0, 4, table.n_genes)
    repeated = {
        name: [gene for gene, n in zip(genes, weight, strict=True) for _ in range(n)]
        for name, genes in observed.items()
    }
    if weight.sum() == 0:
        return
    whole = nei_identity(allele_table(repeated, dict.fromkeys(repeated)))
    assert nei_identity(table, weight.astype(float)) == pytest.approx(whole, nan_ok=True)


def test_frequencies_that_leave_out_rare_alleles_are_not_scaled_up():
    rare = {"a": [{"x": 0.5}, {"x": 1.0}], "b": [{"x": 0.5}, {"y": 1.0}]}
    table = allele_table(rare, {"a": None, "b": None})
    assert nei_identity(table)[0, 1] == pytest.approx(0.25 / 1.25)


def test_models_that_sampling_makes_too_alike_lie_no_less_than_nothing_apart():
    found = nei_distance(np.array([1.3, 1.0, 0.5]))
    assert found.tolist() == [0.0, 0.0, pytest.approx(math.log(2))]


def test_models_that_share_no_gene_have_no_identity():
    table = allele_table({"a": [{"x": 1.0}, None], "b": [None, {"x": 1.0}]}, {"a": None, "b": None})
    assert math.isnan(nei_identity(table)[0, 1])
    assert math.isnan(nei_distance(nei_identity(table))[0, 1])


@pytest.mark.parametrize(
    ("observed", "n", "words"),
    [
        ({}, None, "same genes"),
        ({"a": []}, None, "same genes"),
        ({"a": [{"x": 1.0}], "b": []}, None, "same genes"),
        ({"a": [{"x": -0.5, "y": 1.5}]}, None, "negative"),
        ({"a": [{"x": math.nan}]}, None, "not finite"),
        ({"a": [{"x": 0.8, "y": 0.8}]}, None, "sum to 1.6"),
        ({"a": [{}]}, None, "sum to 0"),
        ({"a": [{"x": 1.0}]}, 1, "1 draws"),
    ],
)
def test_frequencies_that_are_none_are_refused(observed, n, words):
    with pytest.raises(ValueError, match=words):
        allele_table(observed, dict.fromkeys(observed, n))


@pytest.mark.parametrize("weight", [np.ones(6), -np.ones(7)])
def test_weights_of_other_genes_or_below_zero_are_refused(weight):
    with pytest.raises(ValueError, match="7 of zero or more"):
        nei_identity(random_table(1)[1], weight)


# ---- trees -----------------------------------------------------------------------------------


def random_dendropy_tree(seed: int, n: int, names: dendropy.TaxonNamespace | None = None):
    rng = random.Random(seed)
    tree = treesim.birth_death_tree(
        1.0, 0.0, num_extant_tips=n, taxon_namespace=names, rng=rng,
        is_assign_extant_taxa=True,
    )  # fmt: skip
    for edge in tree.preorder_edge_iter():
        edge.length = rng.uniform(0.1, 2.0)
    tree.is_rooted = False
    return tree


def path_matrix(tree, names) -> Floats:
    distances = tree.phylogenetic_distance_matrix()
    taxa = {taxon.label: taxon for taxon in tree.taxon_namespace}
    return np.array(
        [[0.0 if a == b else distances.patristic_distance(taxa[a], taxa[b]) for b in names]
         for a in names]
    )  # fmt: skip


def naive_paths(tree: BehaviourTree) -> Floats:
    """Walk up from both tips to where they meet."""
    n = len(tree.names)
    paths = np.zeros((n, n))

    def way(node):
        walked, far = {node: 0.0}, 0.0
        while tree.parent[node] >= 0:
            far += tree.length[node]
            node = int(tree.parent[node])
            walked[node] = far
        return walked

    for a in range(n):
        for b in range(n):
            one, other = way(a), way(b)
            paths[a, b] = min(one[node] + other[node] for node in one if node in other)
    return paths


@settings(max_examples=25)
@given(SEEDS, st.integers(3, 14))
def test_path_lengths_of_a_tree_give_that_tree_back(seed, n):
    truth = random_dendropy_tree(seed, n)
    names = sorted(taxon.label for taxon in truth.taxon_namespace)
    distance = path_matrix(truth, names)
    found = neighbour_joining(names, distance)
    assert found.path_lengths == pytest.approx(distance, abs=1e-9)
    again = dendropy.Tree.get(
        data=newick(found), schema="newick", taxon_namespace=truth.taxon_namespace,
        rooting="force-unrooted", suppress_internal_node_taxa=True,
    )  # fmt: skip
    assert treecompare.symmetric_difference(truth, again) == 0


@settings(max_examples=20)
@given(SEEDS)
def test_path_lengths_agree_with_walking(seed):
    rng = np.random.default_rng(seed)
    d = rng.random((8, 8))
    d = np.triu(d, 1) + np.triu(d, 1).T
    tree = neighbour_joining([f"t{i}" for i in range(8)], d)
    assert tree.path_lengths == pytest.approx(naive_paths(tree), abs=1e-12)


@settings(max_examples=25)
@given(SEEDS, SEEDS, st.integers(4, 12))
def test_robinson_foulds_agrees_with_dendropy(seed, other_seed, n):
    names = dendropy.TaxonNamespace([f"T{i + 1}" for i in range(n)])
    pair = [random_dendropy_tree(one, n, names) for one in (seed, other_seed)]
    for tree in pair:
        tree.encode_bipartitions()
    labels = [taxon.label for taxon in names]
    ours = [neighbour_joining(labels, path_matrix(tree, labels)) for tree in pair]
    total = sum(len(tree.splits) for tree in ours)
    assert total == 2 * (n - 3)
    wanted = treecompare.symmetric_difference(*pair) / total
    assert robinson_foulds(ours[0].splits, ours[1].splits) == pytest.approx(wanted)


def test_no_splits_at_all_have_no_distance():
    assert math.isnan(robinson_foulds(frozenset(), frozenset()))


def test_models_that_behave_alike_make_no_split_among_themselves():
    # a1 = a2 = a3 and b1 = b2: the only split is a | b, whatever order ties are joined in
    names, place = ["a1", "a2", "a3", "b1", "b2"], np.array([0.0, 0, 0, 1, 1])
    tree = neighbour_joining(names, np.abs(place[:, None] - place[None, :]))
    assert tree.splits == {split_of(np.array([True, True, True, False, False]))}


@pytest.mark.parametrize(
    ("names", "d", "words"),
    [
        (["a", "b"], np.zeros((2, 2)), "a tree needs 3"),
        (["a", "b", "a"], np.zeros((3, 3)), "twice"),
        (["a", "b", "c"], np.zeros((2, 2)), "3 by 3"),
        (["a", "b", "c"], [[0, 1, INF], [1, 0, 1], [INF, 1, 0]], "of a and c is inf"),
        (["a", "b", "c"], [[0, 1, 1], [1, 0, NAN], [1, NAN, 0]], "of b and c is nan"),
        (["a", "b", "c"], [[0, 1, 1], [1, 0, -1], [1, -1, 0]], "of b and c is -1"),
        (["a", "b", "c"], [[0, 1, 1], [2, 0, 1], [1, 1, 0]], "symmetric"),
        (["a", "b", "c"], np.eye(3), "zero from a model to itself"),
    ],
)
def test_what_makes_no_tree_is_refused_by_name(names, d, words):
    with pytest.raises(ValueError, match=words):
        neighbour_joining(names, np.asarray(d, dtype=float))


@pytest.mark.parametrize(
    ("side", "is_split"),
    [([1, 1, 0, 0], True), ([0, 0, 1, 1], True), ([1, 0, 0, 0], False), ([1, 1, 1, 1], False),
     ([0, 0, 0, 0], False), ([1, 1, 1, 0], False)],
)  # fmt: skip
def test_a_split_leaves_two_on_either_side(side, is_split):
    assert (split_of(np.array(side, dtype=bool)) is not None) == is_split


def test_names_with_any_signs_survive_newick():
    names = ["a/b c", "it's", "x_y", "(z:1,[q]);", "plain"]
    rng = np.random.default_rng(2)
    d = rng.random((5, 5))
    d = np.triu(d, 1) + np.triu(d, 1).T
    tree = neighbour_joining(names, d)
    back = dendropy.Tree.get(data=newick(tree), schema="newick", preserve_underscores=True)
    assert sorted(leaf.taxon.label for leaf in back.leaf_node_iter()) == sorted(names)
    assert path_matrix(back, names) == pytest.approx(tree.path_lengths, rel=1e-4, abs=1e-5)


# ---- support ---------------------------------------------------------------------------------


def test_support_is_the_share_of_trees_with_the_split():
    def four(left):
        d = np.full((4, 4), 3.0)
        for a, b in (left, tuple({0, 1, 2, 3} - set(left))):
            d[a, b] = d[b, a] = 1.0
        np.fill_diagonal(d, 0.0)
        return neighbour_joining(list("abcd"), d)

    tree = with_support(four((0, 1)), [four((0, 1)), four((2, 3)), four((0, 2)), four((0, 1))])
    (node,) = tree.split_nodes.values()
    assert tree.support[node] == 0.75
    assert np.isnan(np.delete(tree.support, node)).all()
    assert ")75" in newick(tree)
    with pytest.raises(ValueError, match="same tips"):
        with_support(tree, [])
    with pytest.raises(ValueError, match="same tips"):
        with_support(tree, [neighbour_joining(list("abce"), tree.path_lengths)])


def test_bootstrap_trees_are_those_of_genes_drawn_with_replacement():
    observed, table = random_table(11, n_models=6, n_genes=9)
    trees = bootstrap_trees(table, rng=np.random.default_rng(4), n_resamples=5)
    rng = np.random.default_rng(4)
    for tree in trees:
        counts = rng.multinomial(9, np.full(9, 1 / 9))
        drawn = {
            name: [gene for gene, n in zip(genes, counts, strict=True) for _ in range(n)]
            for name, genes in observed.items()
        }
        d = nei_distance(nei_identity(allele_table(drawn, dict.fromkeys(drawn))))
        assert tree.path_lengths == pytest.approx(neighbour_joining(list(drawn), d).path_lengths)
    assert len({tree.splits for tree in trees}) > 1


def test_resamples_without_a_shared_allele_have_no_tree():
    # gene 1 is shared by all, at gene 2 nobody agrees: resamples of gene 2 alone have no tree
    observed = {name: [{"x": 1.0}, {name: 1.0}] for name in "abc"}
    table = allele_table(observed, dict.fromkeys(observed))
    trees = bootstrap_trees(table, rng=np.random.default_rng(0), n_resamples=100)
    assert 60 < len(trees) < 90


def test_genes_that_all_tell_the_same_support_it_wholly():
    alike = {"a": "x", "b": "x", "c": "y", "d": "y"}
    observed = {name: [{text: 0.9, "z": 0.1}] * 6 for name, text in alike.items()}
    table = allele_table(observed, dict.fromkeys(observed))
    tree = neighbour_joining(list("abcd"), nei_distance(nei_identity(table)))
    supported = with_support(
        tree, bootstrap_trees(table, rng=np.random.default_rng(1), n_resamples=20)
    )
    assert np.nanmin(supported.support) == 1.0


# ---- pedigrees -------------------------------------------------------------------------------


def random_pedigree(seed: int, n: int = 9) -> LineageGraph:
    rng = np.random.default_rng(seed)
    edges = []
    for child in range(2, n):
        for place, parent in enumerate(rng.choice(child, rng.integers(0, 3), replace=False)):
            edges.append((f"n{child}", f"n{parent}", float(rng.choice([0.0, 0.5, 1.0])), place))
    return LineageGraph.from_edges([f"n{i}" for i in range(n)], edges)


@given(SEEDS)
def test_lineage_distances_agree_with_walking_every_way_up(seed):
    graph = random_pedigree(seed)
    rng = np.random.default_rng(seed)
    length = rng.choice([0.0, 1.0, 2.5, np.nan], graph.parent_index.size)
    up = nx.DiGraph()
    up.add_nodes_from(range(len(graph)))
    for child, parent, weight, far in zip(
        graph.edge_child, graph.parent_index, graph.parent_weight, length, strict=True
    ):
        if weight and not np.isnan(far):
            up.add_edge(child, parent, far=far)
    ways = dict(nx.all_pairs_dijkstra_path_length(up, weight="far"))
    found = lineage_distance(graph, graph.ids, length)
    for a in range(len(graph)):
        for b in range(len(graph)):
            shared = set(ways[a]) & set(ways[b])
            wanted = min((ways[a][c] + ways[b][c] for c in shared), default=math.nan)
            assert found[a, b] == pytest.approx(wanted, nan_ok=True)


def test_founders_that_meet_in_a_merge_are_not_related():
    graph = LineageGraph.from_edges(["f", "g", "m"], [("m", "f", 0.5, 0), ("m", "g", 0.5, 1)])
    found = lineage_distance(graph, ["f", "g", "m"])
    assert math.isnan(found[0, 1])
    assert found[0, 2] == found[1, 2] == 1.0


@pytest.mark.parametrize("length", [np.ones(3), -np.ones(2)])
def test_lengths_that_do_not_fit_are_refused(length):
    graph = LineageGraph.from_edges(["f", "g", "m"], [("m", "f", 0.5, 0), ("m", "g", 0.5, 1)])
    with pytest.raises(ValueError, match="2 lengths"):
        lineage_distance(graph, ["f"], length)


def test_clades_are_those_of_primary_parents_each_once():
    #     f            g          h
    #   a   b          c
    #  a1 a2 b1        (m: primary a1, second g)
    edges = [("a", "f", 1, 0), ("b", "f", 1, 0), ("a1", "a", 1, 0), ("a2", "a", 1, 0)]
    edges += [("b1", "b", 1, 0), ("c", "g", 1, 0), ("m", "a1", 0.6, 0), ("m", "g", 0.4, 1)]
    graph = LineageGraph.from_edges(["f", "g", "h", "a", "b", "a1", "a2", "b1", "c", "m"], edges)
    models = ["a1", "a2", "b", "b1", "c", "h", "m"]
    found = {frozenset(np.array(models)[side]) for side in lineage_clades(graph, models)}
    assert found == {
        frozenset({"a1", "a2", "b", "b1", "m"}),  # f; that {c, h} is left over is the same split
        frozenset({"a1", "a2", "m"}),
        frozenset({"a1", "m"}),
        frozenset({"b", "b1"}),
    }


def balanced(n_levels: int = 4) -> tuple[LineageGraph, list[str]]:
    """A binary pedigree of unseen inner models; its tips."""
    edges, names = [], ["r"]
    layer = ["r"]
    for _ in range(n_levels):
        layer = [parent + side for parent in layer for side in "01"]
        names += layer
        edges += [(child, child[:-1], 1.0, 0) for child in layer]
    return LineageGraph.from_edges(names, edges), layer


def test_perfect_evidence_is_recognised_whole():
    graph, tips = balanced()
    rng = np.random.default_rng(0)
    tree = neighbour_joining(tips, lineage_distance(graph, tips))
    found = compare_with_lineage(tree, [tree, tree], graph, rng=rng, n_permutations=199)
    ((unit, correlation),) = found.cophenetic
    assert unit == "edges"
    assert correlation.value == pytest.approx(1.0)
    assert correlation.n == 16 * 15 / 2
    assert found.robinson_foulds.value == 0.0
    assert found.robinson_foulds.n == 26
    assert found.recovered.value == 1.0
    assert found.recovered.n == 13
    for estimate in (correlation, found.robinson_foulds, found.recovered):
        assert estimate.p_value == pytest.approx(1 / 200)
        assert estimate.low <= estimate.value <= estimate.high
        assert "2 resamples" in estimate.method
    assert math.isnan(found.kinship.value)  # all are related
    assert "nothing to tell apart" in found.kinship.method


def two_families() -> tuple[LineageGraph, list[str]]:
    names = ["f", "g", *(f"{family}{i}" for family in "fg" for i in range(5))]
    edges = [(name, name[0], 1.0, 0) for name in names[2:]]
    return LineageGraph.from_edges(names, edges), names[2:]


def test_kinship_is_the_share_of_pairs_of_pairs_in_the_right_order():
    graph, tips = two_families()
    rng = np.random.default_rng(5)
    d = rng.random((10, 10))
    d = np.triu(d, 1) + np.triu(d, 1).T
    tree = neighbour_joining(tips, d)
    found = compare_with_lineage(tree, (), graph, rng=rng, n_permutations=99).kinship
    pairs = [(a, b) for a in range(10) for b in range(a)]
    kin = [tree.path_lengths[p] for p in pairs if (p[0] < 5) == (p[1] < 5)]
    strangers = [tree.path_lengths[p] for p in pairs if (p[0] < 5) != (p[1] < 5)]
    right = np.mean([(x < y) + (abs(x - y) < 1e-12) / 2 for x in kin for y in strangers])
    assert found.value == pytest.approx(right)
    assert (found.low, found.high) == (0.0, 1.0)
    assert "no interval" in found.method
    assert (found.n, found.n_clusters) == (45, 2)


def test_a_tree_that_resolves_what_the_pedigree_leaves_open_recovers_all_its_clades():
    graph, tips = two_families()
    rng = np.random.default_rng(9)
    d = rng.random((10, 10))
    d[:5, 5:] = d[5:, :5] = 10.0
    d = np.triu(d, 1) + np.triu(d, 1).T
    tree = neighbour_joining(tips, d)
    mixed = rng.permutation(10)
    others = [neighbour_joining(tips, d[np.ix_(mixed, mixed)])] * 3
    found = compare_with_lineage(tree, others, graph, rng=rng, n_permutations=9)
    n_splits = len(tree.splits)
    assert n_splits > 3
    assert (found.recovered.value, found.recovered.n) == (1.0, 1)
    assert found.robinson_foulds.value == pytest.approx((n_splits - 1) / (n_splits + 1))
    # the resampled trees recover nothing: the interval is widened to hold the value
    assert (found.recovered.low, found.recovered.high) == (0.0, 1.0)


def test_families_of_different_scale_are_no_correlation():
    # In family f all lie 2 apart by lineage and 1 by behaviour, in the chains of g 4 and 10.
    names = ["f", "g", *(f"f{i}" for i in range(4)), *(f"g{i}" for i in range(4)),
             *(f"G{i}" for i in range(4))]  # fmt: skip
    edges = [(f"f{i}", "f", 1.0, 0) for i in range(4)]
    edges += [(f"g{i}", "g", 1.0, 0) for i in range(4)]
    edges += [(f"G{i}", f"g{i}", 1.0, 0) for i in range(4)]
    graph = LineageGraph.from_edges(names, edges)
    tips = [f"f{i}" for i in range(4)] + [f"G{i}" for i in range(4)]
    d = np.full((8, 8), 20.0)
    d[:4, :4], d[4:, 4:] = 1.0, 10.0
    np.fill_diagonal(d, 0.0)
    found = compare_with_lineage(
        neighbour_joining(tips, d), (), graph, rng=np.random.default_rng(0), n_permutations=19
    )
    ((_, correlation),) = found.cophenetic
    assert math.isnan(correlation.value)
    assert "do not vary within components" in correlation.method
    assert correlation.n_clusters == 2
    assert found.kinship.value == 1.0
    assert found.kinship.p_value <= 0.1  # of the ways to draw two fours of eight 1 in 35 is as good


@settings(max_examples=20)
@given(SEEDS)
def test_correlation_within_components_agrees_with_a_regression_on_families(seed):
    graph = random_pedigree(seed, n=14)
    rng = np.random.default_rng(seed)
    d = rng.random((14, 14))
    tree = neighbour_joining(graph.ids, np.triu(d, 1) + np.triu(d, 1).T)
    ((_, found),) = compare_with_lineage(tree, (), graph, rng=rng, n_permutations=1).cophenetic
    w = lineage_distance(graph, graph.ids)
    pairs = [(a, b) for a in range(14) for b in range(a + 1, 14) if np.isfinite(w[a, b])]
    if math.isnan(found.value):
        return
    labels = sorted({graph.component[a] for a, _ in pairs})
    design = np.array([[graph.component[a] == c for c in labels] for a, _ in pairs], dtype=float)
    residuals = []
    for values in (tree.path_lengths, w):
        y = np.array([values[p] for p in pairs])
        residuals.append(y - design @ np.linalg.lstsq(design, y, rcond=None)[0])
    assert found.value == pytest.approx(np.corrcoef(*residuals)[0, 1], abs=1e-9)
    assert (found.n, found.n_clusters) == (len(pairs), len(labels))


def test_behaviour_that_follows_nothing_is_seldom_significant():
    graph, tips = balanced(3)
    small = {"cophenetic": 0, "robinson_foulds": 0, "recovered": 0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        d = rng.random((8, 8))
        tree = neighbour_joining(tips, np.triu(d, 1) + np.triu(d, 1).T)
        found = compare_with_lineage(tree, (), graph, rng=rng, n_permutations=39)
        for name in small:
            one = getattr(found, name)
            small[name] += (one[0][1] if name == "cophenetic" else one).p_value <= 0.05
    assert all(n <= 7 for n in small.values())  # 40 × .05 = 2; more than 7 in 1 of 1000


def test_unrelated_models_and_stars_are_compared_with_nothing():
    graph = LineageGraph.from_edges(list("abcd"), [])
    rng = np.random.default_rng(0)
    d = rng.random((4, 4))
    tree = neighbour_joining(list("abcd"), np.triu(d, 1) + np.triu(d, 1).T)
    found = compare_with_lineage(tree, (), graph, rng=rng)
    ((_, correlation),) = found.cophenetic
    assert "0 related pairs, 6 needed" in correlation.method
    assert "0 of 6 pairs are related" in found.kinship.method
    assert "the pedigree makes no split" in found.recovered.method
    assert "the pedigree makes no split" in found.robinson_foulds.method
    star = neighbour_joining(list("abcd"), 1.0 - np.eye(4))
    graph = LineageGraph.from_edges(list("abcd"), [("b", "a", 1, 0), ("d", "c", 1, 0)])
    found = compare_with_lineage(star, (), graph, rng=rng)
    assert "the tree makes no split" in found.recovered.method


# ---- prediction ------------------------------------------------------------------------------


def naive_prediction(d: Floats, z: Floats, founder: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Nested leave-one-founder-out, one model at a time."""

    def guess(i, others, h):
        if math.isinf(h):
            return np.mean([z[j] for j in others])
        weights = [math.exp(-d[i, j] / h) for j in others]
        return sum(w * z[j] for w, j in zip(weights, others, strict=True)) / sum(weights)

    known = [i for i in range(len(z)) if np.isfinite(z[i])]
    predicted, baseline = np.full(len(z), np.nan), np.full(len(z), np.nan)
    for i in known:
        others = [j for j in known if founder[j] != founder[i]]
        between = [d[j, k] for j in others for k in others if founder[j] != founder[k] and d[j, k]]
        scale = float(np.median(between)) if between else 1.0
        errors = {}
        for h in [x * scale for x in (math.inf, 2, 1, 0.5, 0.25, 0.125, 0.0625)]:
            errors[h] = sum(
                (z[j] - guess(j, [k for k in others if founder[k] != founder[j]], h)) ** 2
                for j in others
            )
        best = min(errors, key=lambda h: errors[h])
        predicted[i], baseline[i] = guess(i, others, best), np.mean([z[j] for j in others])
    return predicted, baseline


@settings(max_examples=20)
@given(SEEDS)
def test_prediction_agrees_with_the_naive_loops(seed):
    rng = np.random.default_rng(seed)
    founder = np.array([0, 0, 1, 1, 2, 2, 3, 3, 3])
    place = rng.random((9, 2))
    d = np.sqrt(((place[:, None] - place[None, :]) ** 2).sum(-1))
    z = place[:, 0] + 0.2 * rng.normal(size=9)
    z[4] = np.nan
    found = predict_trait(d, z, founder, rng=np.random.default_rng(0), n_resamples=50)
    predicted, baseline = naive_prediction(d, z, founder)
    assert found.predicted == pytest.approx(predicted, nan_ok=True)
    assert found.baseline == pytest.approx(baseline, nan_ok=True)
    known = np.isfinite(z)
    left = ((z - predicted)[known] ** 2).sum()
    whole = ((z - baseline)[known] ** 2).sum()
    assert found.r_squared.value == pytest.approx(1 - left / whole)
    assert (found.r_squared.n, found.r_squared.n_clusters) == (8, 4)


def test_a_score_that_only_relatives_share_is_not_predicted():
    rng = np.random.default_rng(6)
    founder = np.repeat(np.arange(12), 5)
    z = rng.normal(size=12)[founder]  # equal within families, chance between them
    d = np.where(founder[:, None] == founder[None, :], 0.0, rng.uniform(1, 2, (60, 60)))
    d = (d + d.T) / 2
    found = predict_trait(d, z, founder, rng=rng, n_resamples=200).r_squared
    assert found.value < 0.1
    assert found.low <= found.value <= found.high


def test_a_score_that_goes_with_behaviour_is_predicted_across_families():
    rng = np.random.default_rng(7)
    founder = np.repeat(np.arange(10), 6)
    z = rng.uniform(size=60)
    found = predict_trait(
        np.abs(z[:, None] - z[None, :]), z, founder, rng=rng, n_resamples=200
    ).r_squared
    assert 0.9 < found.low <= found.value <= found.high <= 1.0


def test_a_model_very_far_from_all_is_still_predicted_from_the_nearest():
    place = np.array([0.0, 0.1, 10.0, 10.1, 20.0, 20.1, 9e4])
    d = np.abs(place[:, None] - place[None, :])
    z = np.array([0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 5.0])
    founder = np.array([0, 1, 0, 1, 0, 1, 2])
    found = predict_trait(d, z, founder, rng=np.random.default_rng(0), n_resamples=20)
    assert found.predicted[6] == pytest.approx(2.0, abs=0.01)


def test_a_stranger_to_all_is_given_their_mean():
    founder = np.array([0, 1, 2, 3])
    d = np.array([[0, np.inf, np.inf, np.inf], [np.inf, 0, 1, 2], [np.inf, 1, 0, 1],
                  [np.inf, 2, 1, 0.0]])  # fmt: skip
    z = np.array([9.0, 1.0, 2.0, 3.0])
    found = predict_trait(d, z, founder, rng=np.random.default_rng(0), n_resamples=20)
    assert found.predicted[0] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("z", "founder", "words"),
    [
        ([1.0, 2.0, 3.0], [0, 0, 1], "2 founders with the trait, 3 needed"),
        ([1.0, 2.0, math.nan], [0, 1, 2], "2 founders with the trait, 3 needed"),
        ([math.nan] * 3, [0, 1, 2], "0 founders"),
        ([5.0, 5.0, 5.0], [0, 1, 2], "no variation"),
    ],
)
def test_what_cannot_be_predicted_is_nan_and_says_why(z, founder, words):
    found = predict_trait(
        1 - np.eye(3), np.array(z), np.array(founder), rng=np.random.default_rng(0)
    ).r_squared
    assert math.isnan(found.value)
    assert words in found.method


@pytest.mark.parametrize("wrong", [np.zeros((2, 2)), np.full((3, 3), np.nan), -np.ones((3, 3))])
def test_distances_that_do_not_fit_a_trait_are_refused(wrong):
    with pytest.raises(ValueError, match=r"distances"):
        predict_trait(wrong, np.arange(3.0), np.arange(3), rng=np.random.default_rng(0))
