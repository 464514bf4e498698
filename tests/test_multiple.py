"""Permutation within strata against full enumeration; adjusted p-values against statsmodels."""

from __future__ import annotations

import math
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineage.evolution.selection import multiple
from lineage.evolution.selection.differentials import selection_differential
from lineage.evolution.selection.fitness import Fitness
from lineage.evolution.selection.gradients import linear_gradients
from lineage.evolution.selection.multiple import (
    adjusted_p_values,
    permute_differential,
    permute_gradients,
    permute_resemblance,
)

Floats = NDArray[np.float64]
NAN = math.nan


def rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


def fitness(values: list[float] | Floats) -> Fitness:
    return Fitness("w", np.array(values, dtype=float), "fitness: given")


def every_permutation(w: Floats, stratum: NDArray) -> list[Floats]:
    """Fitness in all its orders within strata, the slow way."""
    places = [np.flatnonzero(stratum == label) for label in np.unique(stratum)]
    found = []
    for orders in product(*(list(permutations(own)) for own in places)):
        drawn = w.copy()
        for own, order in zip(places, orders, strict=True):
            drawn[own] = w[list(order)]
        found.append(drawn)
    return found


def differential(z: Floats, w: Floats) -> float:
    return float(np.cov(w / w.mean(), z)[0, 1])


def gradients(z: Floats, w: Floats) -> Floats:
    z = (z - z.mean(axis=0)) / z.std(axis=0, ddof=1)
    design = np.column_stack([np.ones(len(z)), z])
    return np.linalg.lstsq(design, w / w.mean(), rcond=None)[0][1:]


# Strata that vary, of 4, 3 and 2; one of a single model; one of equal fitness.
STRATUM = np.array([5, 5, 5, 5, 2, 2, 2, 9, 7, 7, 4, 4])
W = np.array([0.0, 1, 1, 4, 3, 5, 6, 2, 2, 2, 1, 3])
Z = np.array([1.0, 3, 2, 5, 20, 24, 21, 10, 30, 33, 8, 6])


def test_the_null_of_a_differential_is_that_of_every_permutation_within_strata() -> None:
    found = permute_differential(Z, fitness(W), STRATUM, rng=rng(), n_permutations=4000)
    nulls = np.array([differential(Z, w) for w in every_permutation(W, STRATUM)])
    assert found.value == pytest.approx(differential(Z, W))
    assert found.expected == pytest.approx(nulls.mean())
    assert found.spread == pytest.approx(nulls.std())
    away = np.abs(nulls - nulls.mean())
    exact = np.mean(away >= abs(differential(Z, W) - nulls.mean()) - 1e-12)
    assert 0.02 < exact < 0.5
    assert abs(found.p_value - exact) < 4 * found.p_error
    assert found.p_error == pytest.approx(math.sqrt(exact * (1 - exact) / 4001), rel=0.1)
    assert (found.n, found.n_strata, found.n_permutations) == (12, 3, 4000)
    assert "4000 permutations of fitness within 3 strata" in found.method


def test_the_null_of_gradients_is_that_of_every_permutation_within_strata() -> None:
    z = np.column_stack([Z, [2.0, 1, 4, 4, 0, 3, 3, 9, 1, 2, 7, 5]])
    found = permute_gradients(
        {"size": z[:, 0], "age": z[:, 1]}, fitness(W), STRATUM, rng=rng(), n_permutations=4000
    )
    nulls = np.array([gradients(z, w) for w in every_permutation(W, STRATUM)])
    value = gradients(z, W)
    exact = np.mean(
        np.abs(nulls - nulls.mean(axis=0)) >= np.abs(value - nulls.mean(axis=0)) - 1e-12, axis=0
    )
    for j, test in enumerate(found.values()):
        assert test.value == pytest.approx(value[j])
        assert test.expected == pytest.approx(nulls[:, j].mean(), abs=1e-12)
        assert test.spread == pytest.approx(nulls[:, j].std())
        assert abs(test.p_value - exact[j]) < 4 * test.p_error
    assert list(found) == ["size", "age"]


def test_values_are_those_of_the_estimators() -> None:
    source = rng(2)
    traits = {"a": source.normal(9, 2, 30), "b": source.normal(size=30)}
    w, stratum = fitness(source.poisson(2.0, 30)), source.integers(0, 4, 30)
    for name, test in permute_gradients(
        traits, w, stratum, rng=rng(), n_permutations=9
    ).items():  # fmt: skip
        assert test.value == pytest.approx(linear_gradients(traits, w).beta[name].value)
    test = permute_differential(traits["a"], w, stratum, rng=rng(), n_permutations=9)
    expected = selection_differential(traits["a"], w, np.arange(30), rng=rng(), n_resamples=9)
    assert test.value == pytest.approx(expected.value)


def test_p_is_never_zero_and_counts_the_observed_order_itself() -> None:
    z = np.arange(20.0)
    found = permute_differential(z, fitness(z), np.zeros(20, int), rng=rng(), n_permutations=99)
    assert found.p_value == pytest.approx(1 / 100)
    assert found.p_error == pytest.approx(math.sqrt(0.01 * 0.99 / 100))


def test_ties_with_the_observed_value_count_against_it() -> None:
    # Survival of one of three: every order is as far from the mean as one of three distances.
    z = np.array([0.1, 0.1, 0.7])
    found = permute_differential(
        z, fitness([1, 0, 0]), np.zeros(3, int), rng=rng(), n_permutations=500
    )
    assert found.p_value == 1.0  # 0.1 is the nearest distance there is, and no order is nearer


def test_what_strata_alone_make_is_expected_and_is_no_evidence() -> None:
    source = rng(1)
    stratum = np.repeat(np.arange(10), 20)
    big = stratum.astype(float)
    z, w = big + source.normal(size=200), source.poisson(1 + big).astype(float)
    alike = permute_differential(z, fitness(w), stratum, rng=rng())
    pooled = permute_differential(z, fitness(w), np.zeros(200, int), rng=rng())
    assert pooled.p_value < 0.01 < 0.1 < alike.p_value
    assert alike.expected == pytest.approx(alike.value, abs=3 * alike.spread)
    assert pooled.expected == pytest.approx(0, abs=1e-12)
    both = permute_gradients({"z": z}, fitness(w), stratum, rng=rng())
    assert both["z"].p_value == pytest.approx(alike.p_value)  # one trait: the same statistic


def test_p_values_are_uniform_where_nothing_is_selected() -> None:
    source, p = rng(4), []
    stratum = np.repeat(np.arange(6), 5)
    for _ in range(300):
        z = source.normal(size=30) + stratum
        w = fitness(source.poisson(1.0 + stratum, 30))
        p.append(permute_differential(z, w, stratum, rng=source, n_permutations=39).p_value)
    for cut in (0.1, 0.25, 0.5, 0.75):
        assert np.mean(np.array(p) <= cut) == pytest.approx(cut, abs=0.075)


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = permute_differential(Z, fitness(W), STRATUM, rng=rng(), n_permutations=40)
    monkeypatch.setattr(multiple, "_ENTRIES_AT_ONCE", 9 * 12)  # nine move: batches of 12, 12, 12, 4
    assert permute_differential(Z, fitness(W), STRATUM, rng=rng(), n_permutations=40) == whole
    monkeypatch.setattr(multiple, "_ENTRIES_AT_ONCE", 1)
    assert permute_differential(Z, fitness(W), STRATUM, rng=rng(), n_permutations=40) == whole


def test_the_unit_of_fitness_does_not_matter() -> None:
    whole = permute_differential(Z, fitness(W), STRATUM, rng=rng(), n_permutations=99)
    for unit in (1e-6, 1e6):
        found = permute_differential(Z, fitness(W * unit), STRATUM, rng=rng(), n_permutations=99)
        assert (found.value, found.spread) == pytest.approx((whole.value, whole.spread))
        assert (found.p_value, found.n_strata) == (whole.p_value, 3)


def test_rounding_is_no_variation_within_a_stratum() -> None:
    three = 0.1 + 0.2
    w, stratum = fitness(np.array([three, 0.3, 3, 3]) * 1e5), np.array([0, 0, 1, 1])
    found = permute_differential(np.array([1.0, 2, 3, 4]), w, stratum, rng=rng())
    assert math.isnan(found.p_value)
    assert found.n_strata == 0
    z = np.array([three, 0.3, 5, 5]) * 1e5
    found = permute_differential(z, fitness([1, 2, 3, 4]), stratum, rng=rng())
    assert math.isnan(found.p_value)
    assert found.spread == 0


def test_models_without_trait_or_fitness_are_left_out_of_the_means() -> None:
    z, w = np.append(Z, [50.0, NAN]), np.append(W, [NAN, 60.0])
    stratum = np.append(STRATUM, [5, 2])
    found = permute_differential(z, fitness(w), stratum, rng=rng(), n_permutations=50)
    assert found == permute_differential(Z, fitness(W), STRATUM, rng=rng(), n_permutations=50)
    found = permute_gradients({"z": z}, fitness(w), stratum, rng=rng(), n_permutations=50)
    assert found == permute_gradients({"z": Z}, fitness(W), STRATUM, rng=rng(), n_permutations=50)
    assert found["z"].n == 12


@pytest.mark.parametrize(
    ("z", "w", "stratum", "reason"),
    [
        ([1, 2, 3], [1, 2, 3], [0, 1, 2], "vary together within no stratum"),
        ([1, 2, 3, 3], [2, 2, 1, 3], [0, 0, 1, 1], "vary together within no stratum"),
        ([0.1, 0.1, 0.1], [1, 2, 3], [0, 0, 0], "vary together within no stratum"),
        ([1, 2, NAN], [1, 2, 3], [0, 0, 0], "2 models with trait and fitness, 3 needed"),
        ([1, 2, 3], [0, 0, 0], [0, 0, 0], "no model has any fitness"),
        ([], [], [], "0 models with trait and fitness"),
    ],
)
def test_what_cannot_move_has_no_p_value_and_says_why(
    z: list[float], w: list[float], stratum: list[int], reason: str
) -> None:
    found = permute_differential(
        np.array(z, float), fitness(w), np.array(stratum, int), rng=rng(), n_permutations=9
    )
    assert math.isnan(found.p_value)
    assert math.isnan(found.p_error)
    assert reason in found.method
    assert found.n_permutations == 9
    assert found.n_strata == 0 or "vary together" in reason


def test_gradients_that_cannot_be_trusted_have_no_p_value() -> None:
    z = {"a": np.arange(3.0), "b": np.array([1.0, 5, 2])}
    for test in permute_gradients(
        z, fitness([1, 2, 4]), np.zeros(3, int), rng=rng(), n_permutations=9
    ).values():  # fmt: skip
        assert math.isnan(test.p_value)
        assert "3 models with every trait and fitness, 4 needed" in test.method


def test_impossible_input_is_refused() -> None:
    z, w, stratum = np.arange(9.0), fitness(np.arange(9.0)), np.zeros(9, int)
    for call in (
        lambda z, w, s, **k: permute_differential(z, w, s, rng=rng(), **k),
        lambda z, w, s, **k: permute_gradients({"trait": z}, w, s, rng=rng(), **k),
    ):
        with pytest.raises(ValueError, match="stratum: 9 values expected, 2 given"):
            call(z, w, stratum[:2])
        with pytest.raises(ValueError, match="trait: 9 values expected, 3 given"):
            call(z[:3], w, stratum)
        with pytest.raises(ValueError, match="fitness must not be negative"):
            call(z, fitness(np.arange(9.0) - 1), stratum)
        with pytest.raises(ValueError, match="at least one permutation is needed: 0"):
            call(z, w, stratum, n_permutations=0)
    with pytest.raises(ValueError, match="a, b: one is a sum of the others"):
        permute_gradients({"a": z, "b": 2 * z}, w, stratum, rng=rng())


def test_one_permutation_is_a_test_if_a_poor_one() -> None:
    found = permute_differential(Z, fitness(W), STRATUM, rng=rng(), n_permutations=1)
    assert found.p_value in (0.5, 1.0)


def test_the_null_of_a_resemblance_is_that_of_every_exchange_of_parents_within_strata() -> None:
    # Children of one mid-parent in one stratum move together: 3 and 3 units.
    stratum = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    x = np.array([1.0, 1, 2, 5, 7, 8, 8, 4])
    y = np.array([2.0, 3, 1, 6, 5, 9, 8, 3])
    found = permute_resemblance(
        np.append(y, [NAN, 3]), np.append(x, [1, NAN]), np.append(stratum, [0, 1]), rng=rng(),
        n_permutations=3000,
    )  # fmt: skip
    units = [np.array(own) for own in ([0, 1], [2], [3], [4], [5, 6], [7])]
    sxx = ((x - x.mean()) ** 2).sum()
    nulls = []
    for first in permutations(range(3)):
        for second in permutations(range(3, 6)):
            drawn = x.copy()
            for own, source in zip(units, (*first, *second), strict=True):
                drawn[own] = x[units[source][0]]
            nulls.append(((y - y.mean()) * (drawn - x.mean())).sum() / sxx)
    assert found.value == pytest.approx(np.polyfit(x, y, 1)[0])
    assert found.expected == pytest.approx(np.mean(nulls))
    assert found.spread == pytest.approx(np.std(nulls))
    exact = np.mean(np.abs(nulls - np.mean(nulls)) >= abs(found.value - np.mean(nulls)) - 1e-12)
    assert abs(found.p_value - exact) < 4 * found.p_error
    assert found.n == 8


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        ([1, 2, NAN], "2 measured parent–offspring pairs"),
        ([0.1, 0.1, 0.1], "the mid-parents do not vary"),
    ],
)
def test_a_resemblance_that_cannot_be_tested_says_why(x: list[float], reason: str) -> None:
    found = permute_resemblance(
        np.arange(3.0), np.array(x), np.zeros(3, int), rng=rng(), n_permutations=9
    )
    assert math.isnan(found.p_value)
    assert reason in found.method
    with pytest.raises(ValueError, match="at least one permutation is needed"):
        permute_resemblance(np.arange(3.0), np.array(x), np.zeros(3, int), rng=rng(),
                            n_permutations=0)  # fmt: skip


# -- many tests ---------------------------------------------------------------------------------


def naive_adjusted(p: list[float], dependent: bool) -> list[float]:
    """min over ranks above of p·m/rank, by definition."""
    m = len(p)
    factor = sum(1 / i for i in range(1, m + 1)) if dependent else 1.0
    found = []
    for one in p:
        reached = [
            min(1.0, factor * m * other / sum(x <= other for x in p)) for other in p if other >= one
        ]
        found.append(min(reached))
    return found


@given(st.lists(st.one_of(st.floats(0, 1), st.just(NAN)), max_size=12), st.sampled_from("hy"))
def test_adjusted_p_values_are_those_of_the_definition_and_of_statsmodels(
    p: list[float], kind: str
) -> None:
    from statsmodels.stats.multitest import multipletests

    names = [f"t{i}" for i in range(len(p))]
    found = adjusted_p_values(dict(zip(names, p, strict=True)), method="b" + kind)
    assert list(found) == names
    tested = [i for i, value in enumerate(p) if not math.isnan(value)]
    assert all(math.isnan(found[names[i]]) for i in range(len(p)) if i not in tested)
    values = [found[names[i]] for i in tested]
    kept = [p[i] for i in tested]
    assert values == pytest.approx(naive_adjusted(kept, kind == "y"), abs=1e-12)
    if kept:
        oracle = multipletests(kept, method="fdr_b" + kind)[1]
        assert values == pytest.approx(oracle, abs=1e-12)


def test_untested_traits_cost_nothing() -> None:
    found = adjusted_p_values({"a": 0.01, "dark": NAN, "b": 0.02, "darker": NAN})
    assert (found["a"], found["b"]) == pytest.approx((0.02, 0.02))
    assert math.isnan(adjusted_p_values({"dark": NAN})["dark"])
    assert adjusted_p_values({}) == {}


@pytest.mark.parametrize("p", [-0.1, 1.1, math.inf])
def test_what_is_no_p_value_is_refused_by_name(p: float) -> None:
    with pytest.raises(ValueError, match=r"size: a p-value must lie in \[0, 1\]"):
        adjusted_p_values({"age": 0.5, "size": p})
