"""BiSSE: printed likelihoods, and what it must be where states do not matter."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from lineage.evolution.comparative.birth_death import birth_death_log_likelihood
from lineage.evolution.comparative.bisse import BisseRates, bisse_log_likelihood
from lineage.evolution.comparative.markov import mk_log_likelihood
from lineage.evolution.comparative.trees import Tree
from phylogenies import read_table, read_tree, tree_of

FIVE = "(((a:1,b:1):0.5,c:1.5):1,(d:0.7,e:0.7):1.8);"


def states_of(tree: Tree, **tips: int) -> np.ndarray:
    states = np.full(len(tree), -1)
    states[tree.numbers(list(tips))] = list(tips.values())
    return states


# diversitree 0.10-1, inst/tests/test-bisse.R and a run of it; its integrator keeps 8 digits
@pytest.mark.parametrize(
    ("rates", "root", "given_survival", "expected"),
    [
        (((0.1, 0.2), (0.03, 0.03), (0.01, 0.01)), "observed", True, -159.709955958896),
        ("second", "flat", True, -173.4031631),
        ("second", "observed", True, -173.0838412),
        ("second", "equilibrium", True, -173.5748517),
        ("second", "flat", False, -176.5641906),
        ("second", "observed", False, -175.9391488),
        ("second", "equilibrium", False, -176.8406543),
        (
            (
                (0.1344483686, 0.1778019935),
                (0.1216342206, 0.03624447263),
                (3.6034361e-08, 0.01866017257),
            ),
            "observed",
            True,
            -158.6873848,
        ),
    ],
)
def test_likelihoods_are_those_of_diversitree(
    shared_data: Path,
    rates: tuple[tuple[float, float], ...] | str,
    root: str,
    given_survival: bool,
    expected: float,
) -> None:
    folder = shared_data / "statistics" / "trees"
    tree = read_tree(folder / "diversitree_test_bisse.nwk")
    table = read_table(folder / "diversitree_test_bisse_states.csv")
    states = states_of(tree, **{tip: int(row["state"]) for tip, row in table.items()})
    if isinstance(rates, str):
        rates = (
            (0.1265508663, 0.23721239), (0.08728533634, 0.120820779), (0.0301681931, 0.0998389685)
        )  # fmt: skip
    found = bisse_log_likelihood(
        tree, states, BisseRates(*rates), root=root, given_survival=given_survival
    )
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("given_survival", [True, False])
def test_where_states_do_not_matter_it_is_birth_and_death_times_mk(given_survival: bool) -> None:
    tree = tree_of(FIVE)
    states = states_of(tree, a=0, b=1, c=0, d=1, e=1)
    change = np.array([[0, 0.3], [0.7, 0]])
    rates = BisseRates((0.8, 0.8), (0.2, 0.2), (0.3, 0.7))
    found = bisse_log_likelihood(tree, states, rates, root="flat", given_survival=given_survival)
    shape = birth_death_log_likelihood(tree, 0.8, 0.2, given_survival=given_survival)
    # that of birth and death counts the orders in which five tips may be labelled
    expected = shape - math.lgamma(5) + mk_log_likelihood(tree, states, change)
    assert found == pytest.approx(expected, abs=1e-7)


def test_swapping_the_names_of_the_states_changes_nothing() -> None:
    tree = tree_of(FIVE)
    states = states_of(tree, a=0, b=1, c=0, d=1, e=1)
    one = BisseRates((0.8, 0.5), (0.2, 0.1), (0.3, 0.7))
    other = BisseRates((0.5, 0.8), (0.1, 0.2), (0.7, 0.3))
    for root in ("flat", "observed", "equilibrium"):
        assert bisse_log_likelihood(tree, states, one, root=root) == pytest.approx(
            bisse_log_likelihood(tree, np.where(states < 0, -1, 1 - states), other, root=root)
        )


def test_an_unknown_tip_may_be_either() -> None:
    tree = tree_of(FIVE)
    rates = BisseRates((0.8, 0.5), (0.2, 0.1), (0.3, 0.7))

    def at(state: int) -> float:
        states = states_of(tree, a=state, b=1, c=0, d=1, e=1)
        return math.exp(bisse_log_likelihood(tree, states, rates, root="flat"))

    assert at(-1) == pytest.approx(at(0) + at(1))


@pytest.mark.parametrize(
    "rates",
    [
        BisseRates((0.8, 0.5), (0.2, 0.1), (0.3, 0.7)),
        BisseRates((0.5, 0.9), (0.2, 0.1), (0.3, 0.0)),
        BisseRates((1.5, 0.5), (0.2, 0.1), (0.3, 0.0)),
        BisseRates((0.5, 0.5), (0.1, 0.1), (0.3, 0.6)),
        BisseRates((0.2, 1.9), (0.1, 0.1), (0.0, 0.4)),
    ],
)
def test_the_equilibrium_is_where_the_process_tends(rates: BisseRates) -> None:
    def growth(_: float, n: np.ndarray) -> list[float]:
        net = np.array(rates.birth) - np.array(rates.death)
        away, back = rates.change[0] * n[0], rates.change[1] * n[1]
        return [net[0] * n[0] - away + back, net[1] * n[1] + away - back]

    grown = solve_ivp(growth, (0, 60), [1, 1], rtol=1e-10).y[:, -1]
    share = grown[0] / grown.sum()
    tree = tree_of(FIVE)
    states = states_of(tree, a=0, b=1, c=0, d=1, e=1)
    found = bisse_log_likelihood(tree, states, rates, root="equilibrium", given_survival=False)
    flat = math.exp(bisse_log_likelihood(tree, states, rates, root="flat", given_survival=False))
    squares = math.exp(
        bisse_log_likelihood(tree, states, rates, root="observed", given_survival=False)
    )
    # flat = (D₀ + D₁)/2, observed = (D₀² + D₁²)/(D₀ + D₁): hence D₀ and D₁, up to their order
    total, square = 2 * flat, squares * 2 * flat
    half = math.sqrt(max(2 * square - total**2, 0)) / 2
    ends = [share * (flat + s * half) + (1 - share) * (flat - s * half) for s in (1, -1)]
    assert min(abs(math.exp(found) - end) for end in ends) < 1e-7 * flat


def test_states_that_cannot_have_come_about_have_no_likelihood() -> None:
    tree = tree_of(FIVE)
    rates = BisseRates((0.8, 0.5), (0.2, 0.1), (0.0, 0.0))
    mixed = states_of(tree, a=0, b=1, c=0, d=1, e=1)
    assert bisse_log_likelihood(tree, mixed, rates, root="flat") == -math.inf


def test_bad_input_is_refused() -> None:
    tree = tree_of(FIVE)
    rates = BisseRates((0.8, 0.8), (0.2, 0.2), (0.0, 0.0))
    states = states_of(tree, a=0, b=1, c=0, d=1, e=1)
    with pytest.raises(ValueError, match="no equilibrium"):
        bisse_log_likelihood(tree, np.where(tree.n_children > 0, -1, 0), rates, root="equilibrium")
    with pytest.raises(ValueError, match="not 'equi'"):
        bisse_log_likelihood(tree, np.where(tree.n_children > 0, -1, 0), rates, root="equi")
    with pytest.raises(ValueError, match="states 0, 1 or −1 of 9 nodes"):
        bisse_log_likelihood(tree, states + 1, rates)
    with pytest.raises(ValueError, match="states 0, 1 or −1 of 9 nodes"):
        bisse_log_likelihood(tree, states[:3], rates)
    with pytest.raises(ValueError, match="inner nodes are hidden"):
        bisse_log_likelihood(tree, np.zeros(9, dtype=int), rates)
    polytomy = tree_of("(a:1,b:1,c:1);")
    with pytest.raises(ValueError, match="polytomies"):
        bisse_log_likelihood(polytomy, states_of(polytomy, a=0, b=0, c=0), rates)
    for bad in (
        ((0, 0), (0, 0), (1, 1)),
        ((1, -1), (0, 0), (1, 1)),
        ((1, 1), (0, 0), (1, math.nan)),
    ):
        with pytest.raises(ValueError, match="rates must be finite"):
            BisseRates(*bad)
