"""Diversification rates: printed likelihoods, an integrated oracle, and trees that are refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from lineage.evolution.comparative.birth_death import (
    birth_death_log_likelihood,
    branching_times,
    fit_birth_death,
    gamma_statistic,
    yule,
)
from lineage.evolution.comparative.trees import Tree
from phylogenies import children_of, read_tree, tree_of

Floats = NDArray[np.float64]
THREE = "((a:1,b:1):2,c:3);"


def yule_tree(rng: np.random.Generator, n: int, rate: float = 1.0) -> Tree:
    """Pure birth from two lineages to n, stopped as the next birth is due."""
    parent, length, alive = [-1, 0, 0], [0.0, 0.0, 0.0], [1, 2]
    while True:
        wait = rng.exponential(1 / (rate * len(alive)))
        for node in alive:
            length[node] += wait
        if len(alive) == n:
            return Tree(tuple(map(str, range(len(parent)))), np.array(parent), np.array(length))
        split = alive.pop(int(rng.integers(len(alive))))
        alive += [len(parent), len(parent) + 1]
        parent += [split, split]
        length += [0.0, 0.0]


def integrated(tree: Tree, birth: float, death: float, sampled: float) -> tuple[float, float]:
    """Likelihood of one history and of extinction, by integrating along every edge."""

    def change(_: float, state: Floats) -> list[float]:
        gone, seen = state
        return [
            death - (birth + death) * gone + birth * gone**2,
            -(birth + death) * seen + 2 * birth * gone * seen,
        ]

    def node(i: int) -> tuple[float, float]:
        """Extinction and (log) likelihood just below the edge above i."""
        pair = children_of(tree, i)
        if not pair:
            return 1 - sampled, math.log(sampled)
        (gone, left), (_, right) = (along(child) for child in pair)
        return gone, left + right + math.log(birth)

    def along(i: int) -> tuple[float, float]:
        gone, log_seen = node(i)
        if tree.length[i] == 0:
            return gone, log_seen
        solved = solve_ivp(change, (0, tree.length[i]), [gone, 1.0], rtol=1e-10, atol=1e-12)
        return float(solved.y[0, -1]), log_seen + math.log(solved.y[1, -1])

    gone, log_seen = node(0)
    return gone, log_seen


# diversitree 0.10-1, inst/tests/test-bd.R
def test_likelihoods_are_those_printed_in_diversitrees_own_tests(shared_data: Path) -> None:
    tree = read_tree(shared_data / "statistics" / "trees" / "diversitree_test_bd.nwk")
    rates = (0.1531017326, 0.1044247799)  # printed to ten digits there
    at = birth_death_log_likelihood
    assert at(tree, 0.1, 0.03) == pytest.approx(-22.50266563415211, abs=1e-12)
    assert at(tree, *rates) == pytest.approx(-23.59180370809460, abs=2e-9)
    assert at(tree, *rates, given_survival=False) == pytest.approx(-27.26771051981412, abs=2e-9)
    assert at(tree, *rates, sampled=0.5) == pytest.approx(-23.81317463410290, abs=2e-9)
    found = fit_birth_death(tree)
    assert found.birth.value == pytest.approx(0.09613912777, rel=1e-7)
    assert (found.death.value, found.death.low) == (0, 0)
    assert found.log_likelihood == pytest.approx(-22.08032513, abs=1e-8)
    assert gamma_statistic(tree).value == pytest.approx(-0.6493145575, abs=1e-10)


# ape 5.7 (gammaStat, yule, birthdeath) and diversitree 0.10-1 under R 4.2.2
@pytest.mark.parametrize(
    ("name", "gamma", "rate", "error", "log_likelihood"),
    [
        ("bird_orders", -6.955432982, 0.03909886427, 0.008532071672, -40.60371769),
        ("agamids", -4.498754328, 6.807374073, 0.831653108, 283.4628738),
    ],
)
def test_published_trees_have_the_rates_that_r_gives(
    shared_data: Path, name: str, gamma: float, rate: float, error: float, log_likelihood: float
) -> None:
    tree = read_tree(shared_data / "statistics" / "trees" / f"{name}.nwk")
    found = gamma_statistic(tree)
    assert found.value == pytest.approx(gamma, abs=1e-9)
    assert (found.low, found.high) == pytest.approx((gamma - 1.959964, gamma + 1.959964), abs=1e-6)
    pure = yule(tree)
    assert pure.value == pytest.approx(rate, rel=1e-9)
    assert float(pure.method.rpartition("SE ")[2]) == pytest.approx(error, rel=1e-3)
    assert pure.low < rate - error < rate + error < pure.high
    both = fit_birth_death(tree)
    assert both.birth.value == pytest.approx(rate, rel=1e-6)
    assert both.death.value == 0
    assert both.log_likelihood == pytest.approx(log_likelihood, abs=1e-7)
    assert birth_death_log_likelihood(tree, rate, 0) == pytest.approx(log_likelihood, abs=1e-7)


def test_gamma_of_bird_orders_has_the_p_value_of_phytools(shared_data: Path) -> None:
    tree = read_tree(shared_data / "statistics" / "trees" / "bird_orders.nwk")
    assert gamma_statistic(tree).p_value == pytest.approx(3.514808404e-12, rel=1e-9)


@pytest.mark.parametrize(
    ("birth", "death", "sampled"),
    [(0.7, 0.2, 1.0), (0.7, 0.7, 0.6), (0.4, 0.9, 0.3), (1.1, 0.0, 0.5), (0.3, 0.6, 1.0)],
)
def test_likelihoods_agree_with_integrating_along_every_edge(
    birth: float, death: float, sampled: float
) -> None:
    tree = yule_tree(np.random.default_rng(4), 7)
    gone, log_seen = integrated(tree, birth, death, sampled)
    n = tree.tips.size
    bare = birth_death_log_likelihood(tree, birth, death, sampled=sampled, given_survival=False)
    assert bare == pytest.approx(log_seen + math.lgamma(n), abs=1e-7)
    given_alive = birth_death_log_likelihood(tree, birth, death, sampled=sampled)
    assert given_alive == pytest.approx(bare - math.log(birth) - 2 * math.log(1 - gone), abs=1e-7)


@given(st.integers(0, 10_000), st.floats(0.05, 3.0))
def test_equal_rates_are_the_limit_of_nearly_equal_ones(seed: int, rate: float) -> None:
    tree = yule_tree(np.random.default_rng(seed), 6)
    exact = birth_death_log_likelihood(tree, rate, rate)
    for near in (1 - 1e-7, 1 + 1e-7):
        assert birth_death_log_likelihood(tree, rate, rate * near) == pytest.approx(exact, abs=1e-4)


@given(st.integers(0, 10_000), st.floats(0.01, 100.0))
def test_the_unit_of_time_moves_rates_and_nothing_else(seed: int, unit: float) -> None:
    tree = yule_tree(np.random.default_rng(seed), 6)
    slower = Tree(tree.names, tree.parent, tree.length * unit)
    assert gamma_statistic(slower).value == pytest.approx(gamma_statistic(tree).value, abs=1e-9)
    assert yule(slower).value * unit == pytest.approx(yule(tree).value)


def test_death_is_found_where_the_likelihood_rises_with_it() -> None:
    # long stems and a burst near the tips look like extinction of all that came between
    times = [10.0, 9.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05]
    newick = "a:0.05"
    for k, (now, above) in enumerate(zip(times[::-1], [*times[::-1][1:], 10.0], strict=True)):
        newick = f"({newick},t{k}:{now}):{above - now}"
    tree = tree_of(newick + ";")
    assert branching_times(tree) == pytest.approx(times)
    found = fit_birth_death(tree)
    best = max(
        (birth_death_log_likelihood(tree, float(b), float(b) * e), float(b), e)
        for b in np.linspace(0.2, 4, 60)
        for e in np.linspace(0, 1.2, 61)
    )
    assert found.log_likelihood >= best[0]
    assert found.log_likelihood == pytest.approx(best[0], abs=0.01)
    assert found.death.value > 0.5
    assert found.birth.value == pytest.approx(best[1], rel=0.1)
    # the profile falls by 1.92 to the ends of the interval
    drop = found.log_likelihood - 0.5 * 3.841458820694124
    for end in (found.birth.low, found.birth.high):
        along = max(birth_death_log_likelihood(tree, end, d) for d in np.linspace(0, 12, 20_001))
        assert along == pytest.approx(drop, abs=1e-4)
    for end in (found.death.low, found.death.high):
        along = max(birth_death_log_likelihood(tree, b, end) for b in np.linspace(0.05, 12, 20_001))
        assert along == pytest.approx(drop, abs=1e-4)


def test_gamma_is_standard_normal_and_the_yule_interval_covers_under_pure_birth() -> None:
    rng = np.random.default_rng(12)
    trees = [yule_tree(rng, 15, rate=2.0) for _ in range(400)]
    gammas = np.array([gamma_statistic(tree).value for tree in trees])
    assert gammas.mean() == pytest.approx(0, abs=0.15)
    assert gammas.std() == pytest.approx(1, abs=0.1)
    covered = sum(found.low <= 2.0 <= found.high for found in map(yule, trees))
    assert 0.93 < covered / len(trees) < 0.995


def test_one_birth_in_seven_units_of_length_has_a_rate_and_an_interval_known_on_paper() -> None:
    found = yule(tree_of(THREE))  # Poisson count 1: −ln(.975), and the root of e^−x (1 + x) = .025
    assert found.value == pytest.approx(1 / 7)
    assert found.low == pytest.approx(-math.log(0.975) / 7)
    high = 7 * found.high
    assert math.exp(-high) * (1 + high) == pytest.approx(0.025)
    assert (found.n, found.n_clusters, found.level) == (3, 1, 0.95)
    gamma = gamma_statistic(tree_of(THREE), level=0.5)
    # g₂ = 2, g₃ = 1: T₂ = 4, T = 7, (4 − 3.5) / (7 √(1/12))
    assert gamma.value == pytest.approx(0.5 / (7 / math.sqrt(12)))
    assert gamma.high - gamma.value == pytest.approx(0.67448975)
    assert (gamma.n, gamma.n_clusters) == (3, 1)


def test_gamma_tells_early_splits_from_late_ones() -> None:
    early = tree_of("((a:9,b:9):1,(c:9.5,d:9.5):0.5);")
    late = tree_of("((a:1,b:1):9,(c:0.5,d:0.5):9.5);")
    assert gamma_statistic(early).value < 0 < gamma_statistic(late).value


def test_polytomies_are_refused_where_other_programs_only_warn(shared_data: Path) -> None:
    tree = read_tree(shared_data / "statistics" / "trees" / "bird_families.nwk")
    for method in (gamma_statistic, yule, fit_birth_death):
        with pytest.raises(ValueError, match="polytomies and linear nodes"):
            method(tree)


@pytest.mark.parametrize(
    ("tree", "complaint"),
    [
        (tree_of("(a:1,b:1,c:1);"), "1 have not"),
        (tree_of("((a:1):1,(b:1,c:1):1);"), "1 have not"),
        (tree_of("((a:1,b:2):2,c:3);"), "must all end today"),
        (tree_of("(a:1,b:1);"), "3 tips needed, 2 given"),
        (Tree(("a", "b"), np.array([-1, -1]), np.zeros(2)), "one tree needed, 2 given"),
    ],
)
def test_trees_that_tell_no_splitting_times_are_refused(tree: Tree, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        branching_times(tree)


@pytest.mark.parametrize(("birth", "death"), [(0.0, 0.1), (-1, 0), (1, -0.1), (math.nan, 0)])
def test_impossible_rates_are_refused(birth: float, death: float) -> None:
    with pytest.raises(ValueError, match="rates must be positive"):
        birth_death_log_likelihood(tree_of(THREE), birth, death)


@pytest.mark.parametrize("sampled", [0.0, 1.1, math.nan])
def test_impossible_sampling_is_refused(sampled: float) -> None:
    with pytest.raises(ValueError, match="sampled share"):
        birth_death_log_likelihood(tree_of(THREE), 1, 0, sampled=sampled)
    with pytest.raises(ValueError, match="sampled share"):
        fit_birth_death(tree_of(THREE), sampled=sampled)


def test_two_rates_are_not_told_from_two_times() -> None:
    found = fit_birth_death(tree_of(THREE))
    assert math.isnan(found.birth.value)
    assert "3 tips, 4 needed" in found.death.method
