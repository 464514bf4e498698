"""Changes of state: printed likelihoods, sums over every hidden history, and closed forms."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import expm, logm

from lineage.evolution.categories.edge_rates import edge_rates
from lineage.evolution.comparative.markov import fit_mk, mk_log_likelihood, rate_classes
from lineage.evolution.comparative.trees import Tree
from phylogenies import random_forest, read_table, read_tree, tree_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def at_tips(tree: Tree, values: list[int]) -> Ints:
    states = np.full(len(tree), -1)
    states[tree.tips] = values
    return states


def star(n: int, length: float = 1.0) -> Tree:
    lengths = np.where(np.arange(n + 1) == 0, 0.0, length)
    return Tree(tuple(map(str, range(n + 1))), np.minimum(np.arange(n + 1) - 1, 0), lengths)


def generator(rates: Floats) -> Floats:
    filled = rates.copy()
    np.fill_diagonal(filled, 0)
    np.fill_diagonal(filled, -filled.sum(axis=1))
    return filled


def enumerated(tree: Tree, states: Ints, rates: Floats, prior: Floats) -> float:
    """The probability of the states, summed over all the hidden ones."""
    k = rates.shape[0]
    steps = [expm(generator(rates) * t) for t in tree.length]
    choices = [range(k) if s < 0 else [int(s)] for s in states]
    total = 0.0
    for history in itertools.product(*choices):
        chance = 1.0
        for i, s in enumerate(history):
            above = tree.parent[i]
            chance *= prior[s] if above < 0 else steps[i][history[above], s]
        total += chance
    return math.log(total)


@given(st.integers(0, 10_000), st.integers(2, 3), st.integers(2, 8))
def test_pruning_agrees_with_summing_over_every_history(seed: int, k: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    tree = random_forest(seed, n)
    states = rng.integers(-1, k, n)  # hidden and known nodes, inner ones among them
    rates = rng.exponential(1.0, (k, k))
    prior = rng.dirichlet(np.ones(k))
    found = mk_log_likelihood(tree, states, rates, root=prior)
    assert found == pytest.approx(enumerated(tree, states, rates, prior), abs=1e-9)
    flat = mk_log_likelihood(tree, states, rates)
    assert flat == pytest.approx(enumerated(tree, states, rates, np.full(k, 1 / k)), abs=1e-9)


# diversitree 0.10-1, inst/tests/test-mkn.R (its default root: observed)
def test_mk2_has_the_likelihood_printed_in_diversitrees_own_tests(shared_data: Path) -> None:
    folder = shared_data / "statistics" / "trees"
    tree = read_tree(folder / "diversitree_test_mk2.nwk")
    table = read_table(folder / "diversitree_test_mk2_states.csv")
    states = np.full(len(tree), -1)
    states[tree.numbers(list(table))] = [int(row["state"]) for row in table.values()]
    rates = np.array([[0, 0.1527165771], [0.7705360115, 0]])
    at = mk_log_likelihood(tree, states, rates, root="observed")
    assert at == pytest.approx(-10.90569519216388, abs=1e-10)
    found = fit_mk(tree, states, rate_classes("ARD", 2), root="observed")
    assert found.log_likelihood == pytest.approx(-10.90569519216388, abs=1e-9)
    assert [rate.value for rate in found.rates] == pytest.approx(
        [0.1527165771, 0.7705360115], rel=1e-4
    )
    assert found.rates[0].high == math.inf  # 25 tips do not bound it
    assert found.rates[0].n == 25


# ape 5.7 and phytools 1.5-1 under R 4.2.2; states of ape's example: five tips, then eighteen
def test_bird_orders_have_the_rates_of_ace_and_fitmk(shared_data: Path) -> None:
    tree = read_tree(shared_data / "statistics" / "trees" / "bird_orders.nwk")
    states = at_tips(tree, [0] * 5 + [1] * 18)
    one = fit_mk(tree, states, rate_classes("ER", 2))
    assert one.rates[0].value == pytest.approx(0.001996047752, rel=1e-6)
    assert one.log_likelihood == pytest.approx(-6.804392011, abs=1e-9)
    assert one.log_likelihood + math.log(2) == pytest.approx(-6.111244831, abs=1e-9)  # ace
    own = fit_mk(tree, states, rate_classes("ER", 2), root="observed")
    assert own.rates[0].value == pytest.approx(0.001981824004, rel=1e-6)
    assert own.log_likelihood == pytest.approx(-6.69281599, abs=1e-8)
    two = fit_mk(tree, states, rate_classes("ARD", 2))
    assert two.log_likelihood + math.log(2) == pytest.approx(-5.601565135, abs=1e-8)
    assert two.rates[0].value == pytest.approx(0.01006295194, rel=1e-5)
    assert (two.rates[1].value, two.rates[1].low) == (0, 0)
    assert math.isnan(two.errors[1])
    # the states of ace's output are the other way round: which tips count as 0 is a name
    turned = fit_mk(tree, np.where(states < 0, -1, 1 - states), rate_classes("ARD", 2))
    assert turned.rates[1].value == pytest.approx(two.rates[0].value, rel=1e-5)


def test_one_rate_on_known_edges_has_its_closed_form_error_and_interval() -> None:
    # of n edges of length t from a known parent m change: p = (1 − exp(−2qt))/2
    n, changed, t = 40, 7, 2.5
    tree = star(n, t)
    states = np.array([0, *[1] * changed, *[0] * (n - changed)])
    found = fit_mk(tree, states, rate_classes("ER", 2))
    p = changed / n
    assert found.rates[0].value == pytest.approx(-math.log(1 - 2 * p) / (2 * t), rel=1e-6)
    error = math.sqrt(p * (1 - p) / n) / ((1 - 2 * p) * t)
    assert found.errors[0] == pytest.approx(error, rel=1e-4)
    for end in (found.rates[0].low, found.rates[0].high):
        q = (1 - math.exp(-2 * end * t)) / 2
        fall = changed * math.log(p / q) + (n - changed) * math.log((1 - p) / (1 - q))
        assert fall == pytest.approx(0.5 * 3.841458820694124, abs=1e-6)


@pytest.mark.parametrize(
    "counts",
    [
        [[60, 12], [5, 70]],
        pytest.param([[60, 12, 8], [5, 70, 10], [9, 3, 50]], marks=pytest.mark.slow),
    ],
)
def test_all_rates_on_known_edges_are_the_logarithm_of_the_transition_table(
    counts: list[list[int]],
) -> None:
    table = np.array(counts)
    k = len(counts)
    blocks = [star(int(row.sum())) for row in table]
    start = np.cumsum([0, *(len(block) for block in blocks)])
    tree = Tree(
        tuple(map(str, range(start[-1]))),
        np.concatenate(
            [np.where(b.parent < 0, -1, b.parent + s) for b, s in zip(blocks, start, strict=False)]
        ),
        np.concatenate([block.length for block in blocks]),
    )
    states = np.concatenate([[a, *np.repeat(np.arange(k), table[a])] for a in range(k)])
    expected = logm(table / table.sum(axis=1, keepdims=True))
    found = fit_mk(tree, states, rate_classes("ARD", k))
    assert found.matrix == pytest.approx(expected, abs=1e-4)
    assert found.rates[0].n_clusters == k
    for rate, error in zip(found.rates, found.errors, strict=True):
        assert rate.low < rate.value < rate.high
        # the profile's reach is like that of the curvature
        assert (rate.high - rate.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.25)


def test_the_root_may_be_believed_flat_stationary_or_as_it_looks() -> None:
    tree, rates = tree_of("((a:1,b:1):1,c:2);"), np.array([[0.0, 0.3], [0.9, 0.0]])
    states = at_tips(tree, [0, 0, 1])
    alone = np.array(
        [math.exp(mk_log_likelihood(tree, states, rates, root=np.eye(2)[s])) for s in (0, 1)]
    )
    at = {r: mk_log_likelihood(tree, states, rates, root=r) for r in ("equilibrium", "observed")}
    assert math.exp(at["equilibrium"]) == pytest.approx(0.75 * alone[0] + 0.25 * alone[1])
    assert math.exp(at["observed"]) == pytest.approx((alone**2).sum() / alone.sum())


def test_trees_of_a_forest_are_independent() -> None:
    rates = np.array([[0.0, 0.4, 0.1], [0.2, 0.0, 0.3], [0.5, 0.6, 0.0]])
    one, two = star(3), star(2, 0.5)
    both = Tree(
        tuple("abcdefg"),
        np.array([-1, 0, 0, 0, -1, 4, 4]),
        np.concatenate([one.length, two.length]),
    )
    s1, s2 = np.array([-1, 0, 1, 2]), np.array([-1, 2, 2])
    for root in ("flat", "observed", "equilibrium"):
        assert mk_log_likelihood(both, np.concatenate([s1, s2]), rates, root=root) == pytest.approx(
            mk_log_likelihood(one, s1, rates, root=root)
            + mk_log_likelihood(two, s2, rates, root=root)
        )


def test_ten_thousand_children_do_not_underflow() -> None:
    n, q = 10_000, 0.2
    tree = star(n)
    states = np.array([-1, *[1] * 3000, *[0] * 7000])
    stay = (1 + math.exp(-2 * q)) / 2
    one = 7000 * math.log(stay) + 3000 * math.log(1 - stay)
    other = 3000 * math.log(stay) + 7000 * math.log(1 - stay)
    expected = np.logaddexp(one, other) - math.log(2)
    found = mk_log_likelihood(tree, states, np.array([[0, q], [q, 0]]))
    assert found == pytest.approx(expected, rel=1e-12)


def test_very_long_and_very_short_edges_are_both_exact() -> None:
    rates = np.array([[0, 1e-6, 30.0], [2.0, 0, 1.0], [0.1, 5.0, 0]])
    for length in (1e-9, 1e-3, 1.0, 1e3):
        tree = star(1, length)
        chances = expm(generator(rates) * length)
        for a, b in itertools.product(range(3), repeat=2):
            found = math.exp(mk_log_likelihood(tree, np.array([a, b]), rates)) * 3
            assert found == pytest.approx(chances[a, b], rel=1e-8, abs=1e-18)


def test_impossible_states_have_no_likelihood_and_unknown_ones_are_certain() -> None:
    one_way = np.array([[0.0, 1.0], [0.0, 0.0]])
    tree = star(2)
    assert mk_log_likelihood(tree, np.array([1, 0, 1]), one_way) == -math.inf
    assert mk_log_likelihood(tree, np.array([-1, -1, -1]), one_way) == pytest.approx(0)
    still = np.zeros((2, 2))
    assert mk_log_likelihood(tree, np.array([0, 0, 0]), still) == pytest.approx(-math.log(2))
    with pytest.raises(ValueError, match="no unique stationary distribution"):
        mk_log_likelihood(tree, np.array([0, 0, 0]), still, root="equilibrium")


def test_classes_of_rates_are_numbered_by_row() -> None:
    assert rate_classes("ER", 3).tolist() == [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]
    assert rate_classes("SYM", 3).tolist() == [[-1, 0, 1], [0, -1, 2], [1, 2, -1]]
    assert rate_classes("ARD", 3).tolist() == [[-1, 0, 1], [2, -1, 3], [4, 5, -1]]


def test_a_class_may_be_left_out_of_the_fit() -> None:
    tree = star(10)
    states = np.array([0, *[1] * 3, *[0] * 7])
    found = fit_mk(tree, states, np.array([[-1, 0], [-1, -1]]))
    assert found.rates[0].value == pytest.approx(-math.log(0.7), rel=1e-6)
    assert found.matrix[1].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("states", "rates", "root", "complaint"),
    [
        ([0, 1], [[0, 1], [1, 0]], "flat", "3 values expected"),
        ([0, 1, 2], [[0, 1], [1, 0]], "flat", "numbered 0 to 1"),
        ([0, -2, 1], [[0, 1], [1, 0]], "flat", "numbered 0 to 1"),
        ([0, 1, 1], [[0, -1], [1, 0]], "flat", "not negative"),
        ([0, 1, 1], [[0, math.nan], [1, 0]], "flat", "finite"),
        ([0, 1, 1], [[0, 1, 1], [1, 0, 1]], "flat", "square matrix"),
        ([0, 1, 1], [[0, 1], [1, 0]], "fitzjohn", "not 'fitzjohn'"),
        ([0, 1, 1], [[0, 1], [1, 0]], np.array([0.5, 0.6]), "summing to 1"),
    ],
)
def test_what_does_not_fit_is_refused(
    states: list[int], rates: list[list[float]], root: str | Floats, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        mk_log_likelihood(star(2), np.array(states), np.array(rates, dtype=float), root=root)


@pytest.mark.parametrize(
    ("tree", "states", "classes", "complaint"),
    [
        (star(2), [0, 0, -1], [[-1, 0], [0, -1]], "only one state"),
        (star(2, 0.0), [0, 0, 1], [[-1, 0], [0, -1]], "no length"),
        (star(2), [0, 0, 1], [[-1, 1], [1, -1]], "numbered from 0"),
        (star(2), [0, 0, 1], [[0, 0], [0, -1]], "into itself"),
    ],
)
def test_a_fit_that_cannot_be_is_refused(
    tree: Tree, states: list[int], classes: list[list[int]], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        fit_mk(tree, np.array(states), np.array(classes))


def test_unknown_models_are_refused() -> None:
    with pytest.raises(ValueError, match="ER, SYM or ARD"):
        rate_classes("JC", 2)
    with pytest.raises(ValueError, match="two states needed"):
        rate_classes("ER", 1)


def rates_of(
    parent: list[int], child: list[int], exposure: list[float], cluster: list[int], seed: int = 1
) -> dict[tuple[int, int], object]:
    return edge_rates(
        np.array(parent),
        np.array(child),
        np.array(exposure, dtype=float),
        np.array(cluster),
        rng=np.random.default_rng(seed),
        n_resamples=400,
    )


@given(st.integers(0, 10_000))
def test_edge_rates_are_counts_over_exposure_where_both_ends_are_known(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    parent, child = rng.integers(-1, 3, n), rng.integers(-1, 3, n)
    exposure = np.where(rng.random(n) < 0.1, np.nan, rng.exponential(1, n))
    cluster = rng.integers(0, 20, n)
    found = rates_of(parent.tolist(), child.tolist(), exposure.tolist(), cluster.tolist())
    assert set(found) == {(a, b) for a in range(3) for b in range(3) if a != b}
    for (a, b), estimate in found.items():
        kept = [
            i for i in range(n)
            if parent[i] == a and child[i] >= 0 and math.isfinite(exposure[i])
        ]  # fmt: skip
        count = sum(child[i] == b for i in kept)
        assert estimate.value == pytest.approx(count / sum(exposure[i] for i in kept))
        assert estimate.n == len(kept)
        assert estimate.n_clusters == len({cluster[i] for i in kept})


def test_a_change_never_seen_still_has_an_upper_limit() -> None:
    found = rates_of([0] * 30 + [1] * 3, [0] * 30 + [1, 1, 0], [2] * 33, list(range(33)))
    never = found[0, 1]
    assert (never.value, never.low) == (0, 0)
    assert never.high == pytest.approx(-math.log(0.05) / 60)
    assert "none seen" in never.method
    assert "none seen" not in found[1, 0].method


def test_edges_of_one_parent_count_as_one_cluster() -> None:
    # one prolific parent makes all the changes: resampling parents must show how little is known
    parent, child = [0] * 40, [1] * 20 + [0] * 20
    alone = rates_of(parent, child, [1] * 40, list(range(40)))[0, 1]
    grouped = rates_of(parent, child, [1] * 40, [0] * 20 + list(range(1, 21)))[0, 1]
    assert alone.value == grouped.value == 0.5
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_too_few_clusters_or_no_exposure_give_no_rate() -> None:
    few = rates_of([0, 0, 0], [1, 0, 0], [1, 1, 1], [7, 7, 8])[0, 1]
    assert math.isnan(few.value)
    assert "2 independent groups" in few.method
    still = rates_of([0, 0, 0], [1, 0, 0], [0, 0, 0], [1, 2, 3])[0, 1]
    assert math.isnan(still.value)
    assert rates_of([], [], [], []) == {}
    nobody = rates_of([1, 1, 1], [0, 1, 1], [1, 1, 1], [1, 2, 3])[0, 1]
    assert math.isnan(nobody.value)


def test_bad_exposures_and_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="1 exposures are negative"):
        rates_of([0, 0], [0, 1], [1, -1], [1, 2])
    with pytest.raises(ValueError, match="one length"):
        rates_of([0, 0], [0, 1], [1], [1, 2])
