"""Phylogenetic signal: printed answers, the trap of two maxima, and exact moments."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from lineage.evolution.comparative.gls import SignalLikelihood
from lineage.evolution.comparative.signal import (
    abouheif_c_mean,
    abouheif_proximity,
    blomberg_k,
    inverse_distance,
    morans_i,
    pagels_lambda,
)
from lineage.evolution.comparative.trees import Tree
from phylogenies import (
    column,
    line_of,
    random_forest,
    read_table,
    read_tree,
    tip_names,
    tree_of,
)

Floats = NDArray[np.float64]
NAN = math.nan
PAIRS = np.kron(np.eye(3), [[1.0, 0.8], [0.8, 1.0]])


def published(shared_data: Path, name: str, trait: str) -> tuple[Floats, Floats]:
    """Covariance of the tips and their values, logarithms for the mammals."""
    folder = shared_data / "statistics" / "phylo"
    tree = read_tree(folder / f"{name}.nwk")
    table = read_table(folder / f"{name}{'_traits' if name == 'phylocom' else ''}.csv")
    names = [tip for tip in tip_names(tree) if tip in table]
    values = column(table, trait, names)
    return tree.shared_length(tree.numbers(names)), np.log(values) if name == "mammal" else values


def scaled(covariance: Floats, signal: float) -> Floats:
    return signal * covariance + (1 - signal) * np.diag(np.diag(covariance))


# R 4.2.2: phytools 1.5-1 (phylosig), phylolm 2.6.5, geiger 2.0.11 (wingL and culmenL, where the
# other two stop at a lower maximum or short of the end), ape 5.7 (Moran.I of 1/distance).
# K, P(K), λ, logL(λ), logL(0), I, its sd
REFERENCE = {
    ("geospiza", "wingL"): (
        0.42143111, 0.149, 0.0, 9.8052225, 9.8052225, -0.083053706, 0.082244292),
    ("geospiza", "tarsusL"): (
        0.55462814, 0.092, 0.87438, 11.181963, 10.360733, 0.0083368342, 0.078016933),
    ("geospiza", "culmenL"): (
        0.27149685, 0.372, 0.0, 1.029876, 1.029876, 0.0094961191, 0.087036442),
    ("geospiza", "beakD"): (
        0.64307086, 0.027, 0.745714, -5.5307816, -6.4828279, -0.044807095, 0.08196621),
    ("geospiza", "gonysW"): (
        0.52429782, 0.063, 0.565629, -3.1268331, -3.3939463, -0.050737152, 0.083115755),
    ("anole", "SVL"): (1.6952555, 0.001, 1.0, 5.2561207, -43.69559, 0.21339137, 0.012540236),
    ("mammal", "bodyMass"): (
        0.57323301, 0.001, 0.981504, -74.889324, -93.101364, 0.15244111, 0.039515363),
    ("mammal", "homeRange"): (
        0.25680451, 0.003, 0.415982, -100.81308, -101.20492, 0.07652621, 0.0392866),
}  # fmt: skip


@pytest.mark.parametrize(("name", "trait"), REFERENCE)
def test_published_traits_have_the_signal_that_r_gives(
    shared_data: Path, name: str, trait: str
) -> None:
    k, p, signal, top, zero, moran, sd = REFERENCE[name, trait]
    V, values = published(shared_data, name, trait)
    found = pagels_lambda(values, V)
    assert found.signal.value == pytest.approx(signal, abs=2e-5)
    assert found.log_likelihood == pytest.approx(top, rel=1e-7, abs=1e-6)
    assert found.log_likelihood_zero == pytest.approx(zero, rel=1e-7, abs=1e-6)
    ratio = blomberg_k(values, V, rng=np.random.default_rng(1))
    assert ratio.value == pytest.approx(k, abs=1e-8)
    assert ratio.p_value == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 999) + 2e-3)
    assert ratio.low < ratio.value < ratio.high
    near = morans_i(values, inverse_distance(V), rng=np.random.default_rng(1))
    assert near.value == pytest.approx(moran, abs=1e-8)
    assert near.expected == pytest.approx(-1 / (values.size - 1))
    assert near.sd == pytest.approx(sd, abs=1e-8)


@pytest.mark.parametrize(
    ("trait", "p_value"), [("tarsusL", 0.19998819), ("beakD", 0.16762095), ("gonysW", 0.46483541)]
)
def test_the_test_of_no_signal_is_that_of_phytools(
    shared_data: Path, trait: str, p_value: float
) -> None:
    V, values = published(shared_data, "geospiza", trait)
    assert pagels_lambda(values, V).signal.p_value == pytest.approx(p_value, abs=1e-6)


def test_wing_length_of_finches_has_its_global_maximum_at_no_signal(shared_data: Path) -> None:
    # phytools 1.5-1 and phylolm 2.6.5 return the lower one, λ = .6262, logL 9.729565
    V, values = published(shared_data, "geospiza", "wingL")
    at = SignalLikelihood(values, np.ones((13, 1)), V)
    assert at(0.62622539) == pytest.approx(9.729565, abs=1e-6)
    assert at(0.62622539) > max(at(0.55), at(0.7))  # a maximum it is, but not the highest
    found = pagels_lambda(values, V)
    assert found.signal.value == 0
    assert found.log_likelihood == pytest.approx(9.8052225, abs=1e-7)
    assert (found.signal.low, found.signal.high) == (0, 1)  # thirteen finches rule nothing out
    assert found.signal.p_value == 1


def test_caudata_size_has_the_signal_of_phylotraits(shared_data: Path) -> None:
    folder = shared_data / "statistics" / "network"
    tree, table = read_tree(folder / "caudata_tree.txt"), read_table(folder / "caudata_trait.txt")
    values, V = column(table, "trait", tip_names(tree)), tree.shared_length()
    found = pagels_lambda(values, V)
    assert found.signal.value == pytest.approx(0.9193, abs=5e-5)
    assert found.log_likelihood == pytest.approx(-51.684379, abs=1e-6)
    assert found.log_likelihood_one == pytest.approx(-78.9611507833, abs=1e-9)
    assert found.p_one < 1e-10
    at = SignalLikelihood(values, np.ones((values.size, 1)), V)
    for end in (found.signal.low, found.signal.high):
        assert at(end) == pytest.approx(found.log_likelihood - 0.5 * 3.841458820694124, abs=1e-6)
    ratio = blomberg_k(values, V, rng=np.random.default_rng(1))
    assert ratio.value == pytest.approx(1.11183603, abs=1e-8)


@pytest.mark.parametrize(
    ("trait", "expected"),
    [("traitA", 0.89056088), ("traitB", 2.9340184), ("traitC", 0.51495017), ("traitD", 4.3536696)],
)
def test_phylocom_traits_have_the_k_of_picante(
    shared_data: Path, trait: str, expected: float
) -> None:
    V, values = published(shared_data, "phylocom", trait)
    found = blomberg_k(values, V, rng=np.random.default_rng(1), n_permutations=99)
    assert found.value == pytest.approx(expected, rel=1e-7)


# adephylo 1.1-13, abouheif.moran, 999 permutations
@pytest.mark.parametrize(
    ("trait", "expected", "p_value"),
    [
        ("afbw", 0.16539204, 0.123),
        ("mnw", 0.36814097, 0.016),
        ("fnw", 0.38432725, 0.014),
        ("ls", 0.30024246, 0.040),
    ],
)
def test_ungulates_have_the_c_mean_of_adephylo(
    shared_data: Path, trait: str, expected: float, p_value: float
) -> None:
    folder = shared_data / "statistics" / "phylo"
    tree = read_tree(folder / "ungulates.nwk")
    values = column(read_table(folder / "ungulates.csv"), trait, tip_names(tree))
    found = abouheif_c_mean(values, tree, rng=np.random.default_rng(1), n_permutations=2000)
    assert found.value == pytest.approx(expected, abs=1e-8)
    assert found.p_value == pytest.approx(
        p_value, abs=4 * math.sqrt(p_value * (1 - p_value) / 999) + 2e-3
    )


@given(st.integers(0, 10_000), st.booleans())
def test_lambda_is_the_highest_of_a_dense_grid(seed: int, reml: bool) -> None:
    V = random_forest(seed, 30, n_roots=1).shared_length()
    n = V.shape[0]
    values = np.random.default_rng(seed).normal(size=n)
    assume((np.abs(V - np.diag(np.diag(V))) > 0).any())
    found = pagels_lambda(values, V, reml=reml)
    assert found.signal.low <= found.signal.value <= found.signal.high
    for signal in np.linspace(0, 0.999, 25):
        matrix = scaled(V, signal)
        inverse = np.linalg.inv(matrix)
        total = inverse.sum()
        mean = inverse.sum(axis=0) @ values / total
        rate = (values - mean) @ inverse @ (values - mean) / (n - 1 if reml else n)
        here = multivariate_normal.logpdf(values, np.full(n, mean), rate * matrix)
        if reml:
            here += 0.5 * math.log(2 * math.pi) - 0.5 * math.log(total / rate)
        assert found.log_likelihood >= here - 1e-9


def test_signal_is_found_as_it_was_put_in() -> None:
    V = random_forest(2, 320, n_roots=1).shared_length()
    rng = np.random.default_rng(5)
    for signal in (0.0, 0.5, 1.0):
        factor = np.linalg.cholesky(scaled(V, signal))
        drawn = [pagels_lambda(factor @ rng.normal(size=V.shape[0]), V).signal for _ in range(12)]
        assert np.median([found.value for found in drawn]) == pytest.approx(signal, abs=0.12)
        assert sum(found.low <= signal <= found.high for found in drawn) >= 10


def test_k_is_the_ratio_of_mean_squares_and_near_1_under_brownian_motion() -> None:
    tree = random_forest(11, 80, n_roots=1)
    V = tree.shared_length()
    n = V.shape[0]
    rng = np.random.default_rng(3)
    factor, inverse = np.linalg.cholesky(V), np.linalg.inv(V)
    above = below = 0.0
    for _ in range(300):
        y = factor @ rng.normal(size=n)
        centre = inverse.sum(axis=0) @ y / inverse.sum()
        above += (y - centre) @ (y - centre)
        below += (y - centre) @ inverse @ (y - centre)
    expected = (np.trace(V) - n / inverse.sum()) / (n - 1)
    assert above / below / expected == pytest.approx(1, abs=0.1)
    found = blomberg_k(y, V, rng=rng, n_permutations=9, n_simulations=99)
    alone = (y - centre) @ (y - centre) / ((y - centre) @ inverse @ (y - centre)) / expected
    assert found.value == pytest.approx(alone)


def test_the_interval_of_k_is_that_of_its_scatter_under_the_fitted_model() -> None:
    V = random_forest(4, 90, n_roots=1).shared_length()
    rng = np.random.default_rng(6)
    factor = np.linalg.cholesky(V)
    found = [
        blomberg_k(factor @ rng.normal(size=V.shape[0]), V, rng=rng, n_permutations=1,
                   n_simulations=300)
        for _ in range(150)
    ]  # fmt: skip
    middle = np.median([k.value for k in found])
    assert sum(k.low <= middle <= k.high for k in found) / 150 > 0.88


def test_values_dealt_at_random_show_no_signal() -> None:
    V = random_forest(7, 40, n_roots=1).shared_length()
    rng = np.random.default_rng(2)
    p_values = np.array(
        [
            (
                blomberg_k(y, V, rng=rng, n_permutations=99, n_simulations=9).p_value,
                morans_i(y, inverse_distance(V), rng=rng, n_permutations=99).p_value,
            )
            for y in rng.normal(size=(200, V.shape[0]))
        ]
    )
    assert (p_values <= 0.1).mean(axis=0) == pytest.approx([0.1, 0.1], abs=0.06)
    assert p_values.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.07)


@given(st.integers(0, 1000))
def test_moments_of_morans_i_are_exact_over_all_deals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 5
    w = rng.exponential(1, (n, n)) * (1 - np.eye(n))
    y = rng.exponential(1, n)
    for standardise in (False, True):
        used = w / w.sum(axis=1, keepdims=True) if standardise else w
        z = y - y.mean()
        every = []
        for deal in itertools.permutations(z):
            near = sum(used[i, j] * deal[i] * deal[j] for i in range(n) for j in range(n))
            every.append(n / used.sum() * near / (z @ z))
        found = morans_i(y, w, rng=rng, n_permutations=9, row_standardise=standardise)
        assert found.value == pytest.approx(every[0])
        assert found.expected == pytest.approx(np.mean(every))
        assert found.sd == pytest.approx(np.std(every), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 18))
def test_abouheifs_proximities_are_products_along_paths(seed: int, n: int) -> None:
    tree = random_forest(seed, n)
    found = abouheif_proximity(tree)
    for a, i in enumerate(tree.tips.tolist()):
        for b, j in enumerate(tree.tips.tolist()):
            up, down = line_of(tree, i), line_of(tree, j)
            if up[-1] != down[-1]:
                assert found[a, b] == 0
                continue
            last = next(k for k in up if k in down)
            inner = {*up[: up.index(last) + 1], *down[: down.index(last) + 1]}
            path = up[1:] if i == j else [k for k in inner if k not in (i, j)]
            chance = math.prod(1 / int(tree.n_children[k]) for k in path)
            assert found[a, b] == pytest.approx(chance)
    assert found.sum(axis=1) == pytest.approx(np.ones(tree.tips.size))
    assert found == pytest.approx(found.T)


def test_c_mean_is_the_mean_over_all_ways_to_draw_the_tree() -> None:
    # ((a,b),(c,(d,e))): Abouheif's statistic of each drawing, 1 − Σ(next − this)²/(2 Σ z²) with
    # the ends joined in a ring, averaged over rotations of every node
    def drawings(node: object) -> list[list[str]]:
        if isinstance(node, str):
            return [[node]]
        parts = [drawings(child) for child in node]  # type: ignore[attr-defined]
        return [
            [tip for piece in order for tip in piece]
            for choice in itertools.product(*parts)
            for order in itertools.permutations(choice)
        ]

    y = dict(zip("abcde", [1.0, 2.5, 2.0, 7.0, 5.0], strict=True))
    z = {tip: value - 3.5 for tip, value in y.items()}
    total = sum(value**2 for value in z.values())
    rings = [
        sum(z[one] * z[two] for one, two in itertools.pairwise(drawing))
        + (z[drawing[0]] ** 2 + z[drawing[-1]] ** 2) / 2
        for drawing in drawings((("a", "b"), ("c", ("d", "e"))))
    ]
    tree = tree_of("((a,b),(c,(d,e)));")
    values = np.array([y[name] for name in tip_names(tree)])
    found = abouheif_c_mean(values, tree, rng=np.random.default_rng(1), n_permutations=9)
    assert found.value == pytest.approx(float(np.mean(rings)) / total)


def test_c_mean_asks_nothing_of_edge_lengths_and_leaves_out_what_is_missing() -> None:
    tree = random_forest(3, 30)
    values = np.random.default_rng(1).normal(size=tree.tips.size)
    values[2] = NAN
    one = abouheif_c_mean(values, tree, rng=np.random.default_rng(1))
    two = abouheif_c_mean(
        values, replace(tree, length=9 * tree.length), rng=np.random.default_rng(1)
    )
    assert one == two
    assert one.n == tree.tips.size - 1
    seen = np.isfinite(values)
    w, z = abouheif_proximity(tree)[np.ix_(seen, seen)], values[seen] - values[seen].mean()
    assert one.value == pytest.approx(z.size / w.sum() * (z @ w @ z) / (z @ z))
    deals = np.random.default_rng(2).permuted(np.tile(z, (9999, 1)), axis=1)
    dealt = z.size / w.sum() * (deals @ w * deals).sum(axis=1) / (z @ z)
    assert one.expected == pytest.approx(dealt.mean(), abs=5 * dealt.std() / math.sqrt(999))
    assert one.sd == pytest.approx(dealt.std(), rel=0.1)


@given(st.integers(0, 10_000), st.floats(0.1, 10), st.floats(-5, 5))
def test_signal_has_no_unit(seed: int, unit: float, offset: float) -> None:
    V = random_forest(seed, 40, n_roots=1).shared_length()
    y = np.random.default_rng(seed).normal(size=V.shape[0])

    def all_of(values: Floats, length: float) -> list[float]:
        g = np.random.default_rng(1)
        few = {"rng": g, "n_permutations": 19}
        return [
            pagels_lambda(values, length * V).signal.value,
            blomberg_k(values, length * V, n_simulations=19, **few).value,
            morans_i(values, inverse_distance(length * V), **few).value,
        ]

    assert all_of(unit * y + offset, 3.0) == pytest.approx(all_of(y, 1.0), rel=1e-4, abs=1e-4)


def test_permutation_p_counts_what_was_observed_and_falls_with_signal() -> None:
    y = np.array([1.0, 1.1, 3.0, 3.1, 6.0, 6.1])
    w = (PAIRS == 0.8).astype(float)
    found = morans_i(y, w, rng=np.random.default_rng(4), n_permutations=4999)
    # of the 15 ways to pair six values one is as good
    assert found.p_value == pytest.approx(1 / 15, abs=0.012)
    k = blomberg_k(y, PAIRS, rng=np.random.default_rng(4), n_permutations=4999)
    assert k.p_value == pytest.approx(1 / 15, abs=0.012)
    rare = morans_i(np.arange(6.0), np.eye(6)[::-1], rng=np.random.default_rng(1), n_permutations=9)
    assert rare.p_value == 1  # the most negative there is
    assert rare.value == pytest.approx(-1)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([2.0] * 6, "vary|variation"),
        ([1.0, NAN, 2.0, NAN, 3.0, NAN], "needed|share a path"),
        ([NAN] * 6, "needed"),
    ],
)
def test_what_cannot_be_told_is_nan_and_says_why(values: list[float], reason: str) -> None:
    y, g = np.array(values), np.random.default_rng(1)
    signal = pagels_lambda(y, PAIRS)
    assert math.isnan(signal.p_one)
    assert math.isnan(signal.log_likelihood)
    comb = tree_of("(a,b,c,d,e,f);")
    for found in (
        signal.signal,
        blomberg_k(y, PAIRS, rng=g),
        morans_i(y, inverse_distance(PAIRS), rng=g),
        abouheif_c_mean(y, comb, rng=g),
    ):
        assert math.isnan(found.value)
        assert found.p_value is None or math.isnan(found.p_value)
        assert "not estimated" in found.method
        assert re.search(reason, found.method)


def test_k_needs_shared_paths_and_nearness_needs_neighbours() -> None:
    y, g = np.array([1.0, 2, 4, 3]), np.random.default_rng(1)
    assert "share a path" in blomberg_k(y, np.eye(4), rng=g).method
    assert "share a path" in pagels_lambda(y, np.eye(4)).signal.method
    assert "near each other" in morans_i(y, np.zeros((4, 4)), rng=g).method


def test_bad_input_is_refused() -> None:
    y, g = np.array([1.0, 2, 4, 3]), np.random.default_rng(1)
    with pytest.raises(ValueError, match="to itself must be zero"):
        morans_i(y, np.eye(4), rng=g)
    with pytest.raises(ValueError, match="not negative"):
        morans_i(y, np.eye(4) - 1, rng=g)
    with pytest.raises(ValueError, match="finite"):
        morans_i(y, np.where(np.eye(4) > 0, 0, NAN), rng=g)
    with pytest.raises(ValueError, match=r"shape \(4, 4\) expected"):
        morans_i(y, np.zeros((3, 3)), rng=g)
    with pytest.raises(ValueError, match=r"shape \(4, 4\) expected, \(2, 2\) given"):
        abouheif_c_mean(y, tree_of("(a,b);"), rng=g)
    with pytest.raises(ValueError, match="one place"):
        inverse_distance(np.ones((3, 3)))
    with pytest.raises(ValueError, match="symmetric"):
        inverse_distance(np.triu(np.ones((3, 3))))
    with pytest.raises(ValueError, match="no variance"):
        blomberg_k(y, np.zeros((4, 4)), rng=g)
    copies = np.kron(np.eye(2), np.ones((2, 2)))
    with pytest.raises(ValueError, match="collapse copies"):
        blomberg_k(y, copies, rng=g)


def test_founders_of_a_forest_are_no_neighbours() -> None:
    tree = Tree(tuple("abcd"), np.array([-1, -1, 0, 1]), np.array([0.0, 0, 1, 2]))
    assert abouheif_proximity(tree).tolist() == [[1, 0], [0, 1]]
    assert inverse_distance(tree.shared_length()).tolist() == [[0, 1 / 3], [1 / 3, 0]]
