"""Ewens' formula against Slatkin's program, and against enumeration by plain recursion."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.evolution.chance.ewens import ewens_test, ewens_theta, homozygosity_null


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def partitions(n: int, k: int, largest: int) -> Iterator[tuple[int, ...]]:
    if k == 0:
        if n == 0:
            yield ()
        return
    for part in range(min(largest, n), 0, -1):
        for rest in partitions(n - part, k - 1, part):
            yield (part, *rest)


def naive_probabilities(n: int, k: int) -> dict[tuple[int, ...], float]:
    """P(configuration | k, n) by Ewens' formula as it is printed."""
    weight = {
        sizes: 1.0 / math.prod(j**c * math.factorial(c) for j, c in Counter(sizes).items())
        for sizes in partitions(n, k, n)
    }
    total = sum(weight.values())
    return {sizes: w / total for sizes, w in weight.items()}


def test_the_published_example_of_the_exact_test_is_reproduced() -> None:
    # Slatkin's README of 1997; E(F) and Var(F) from the enumerate.c that PyPop ships
    test = ewens_test([9, 2, 1, 1, 1, 1, 1], rng=rng())
    assert (test.n, test.k, test.n_configurations) == (16, 7, 28)
    assert test.theta == pytest.approx(4.184877, abs=1e-5)  # that program's root is good to 5e-6
    assert test.homozygosity == pytest.approx(0.351563, abs=6e-7)
    assert test.p_ewens == pytest.approx(0.989348, abs=5e-7)
    assert test.p_homozygosity == pytest.approx(0.989348, abs=5e-7)
    assert test.expected == pytest.approx(0.224972, abs=5e-7)
    assert test.variance == pytest.approx(0.00229675, abs=5e-9)
    assert test.deviate == pytest.approx((0.3515625 - 0.224972) / math.sqrt(0.00229675), abs=1e-4)
    assert "enumerated" in test.method


def test_every_row_of_slatkins_program_is_reproduced(shared_data: Path) -> None:
    path = shared_data / "statistics" / "neutrality" / "slatkin_exact.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == 5
    for row in rows:
        sizes = [int(size) for size in row["configuration"].split()]
        test = ewens_test(sizes, rng=rng(), max_configurations=100_000, n_draws=40_000)
        assert (test.n, test.k) == (int(row["n"]), int(row["k"]))
        assert test.theta == pytest.approx(float(row["theta"]), abs=1e-5)
        assert test.homozygosity == pytest.approx(float(row["F"]), abs=6e-7)
        assert test.expected == pytest.approx(float(row["EF"]), rel=5e-6)
        assert test.variance == pytest.approx(float(row["VarF"]), rel=5e-6)
        for found, printed in ((test.p_ewens, row["P_E"]), (test.p_homozygosity, row["P_H"])):
            p = float(printed)
            drawn = "drawn" in test.method
            error = 4 * math.sqrt(p * (1 - p) / 40_000) if drawn else 1e-6 * p
            assert found == pytest.approx(p, abs=error + 1e-6), row["configuration"]


@pytest.mark.slow
def test_three_million_configurations_are_enumerated_to_the_digits_of_slatkins_program() -> None:
    sizes = [52, 9, 8, 4, 4, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1]  # computed with enumerate.c
    test = ewens_test(sizes, rng=rng(), max_configurations=4_000_000)
    assert test.n_configurations == 3_014_304
    assert test.p_ewens == pytest.approx(0.99033, abs=5e-6)
    assert test.p_homozygosity == pytest.approx(0.990998, abs=5e-7)


@pytest.mark.parametrize(("n", "k"), [(5, 2), (9, 3), (12, 5), (10, 9), (7, 1), (6, 6)])
def test_moments_and_p_values_are_those_of_plain_enumeration(n: int, k: int) -> None:
    chance = naive_probabilities(n, k)
    f = {sizes: sum(s * s for s in sizes) / n**2 for sizes in chance}
    mean = sum(p * f[sizes] for sizes, p in chance.items())
    variance = sum(p * (f[sizes] - mean) ** 2 for sizes, p in chance.items())
    null = homozygosity_null(k, n)
    assert null.mean == pytest.approx(mean, rel=1e-10)
    assert null.variance == pytest.approx(variance, abs=1e-12)
    for sizes in chance:
        test = ewens_test(sizes[::-1], rng=rng())
        assert test.n_configurations == len(chance)
        rarer = sum(p for s, p in chance.items() if math.prod(s) >= math.prod(sizes))
        flatter = sum(p for s, p in chance.items() if f[s] <= f[sizes])
        assert test.p_ewens == pytest.approx(rarer, abs=1e-12)
        assert test.p_homozygosity == pytest.approx(flatter, abs=1e-12)


def test_drawn_configurations_have_the_probabilities_of_the_formula() -> None:
    chance = naive_probabilities(10, 4)
    for sizes in chance:
        exact = ewens_test(sizes, rng=rng())
        drawn = ewens_test(sizes, rng=rng(3), max_configurations=0, n_draws=20_000)
        assert drawn.p_ewens == pytest.approx(exact.p_ewens, abs=0.015)
        assert drawn.p_homozygosity == pytest.approx(exact.p_homozygosity, abs=0.015)


def test_mean_homozygosity_is_that_of_a_plain_chinese_restaurant() -> None:
    # All 5! ways to seat 5 guests at θ = 1, where each is as likely: exact means by the number k.
    squares: dict[int, list[int]] = {}
    for seats in product(*(range(i + 1) for i in range(5))):
        tables: list[int] = []
        at: list[int] = []
        for guest, choice in enumerate(seats):
            if choice == guest:  # one way to open, one beside each guest before
                tables.append(0)
                at.append(len(tables) - 1)
            else:
                at.append(at[choice])
            tables[at[-1]] += 1
        squares.setdefault(len(tables), []).append(sum(t * t for t in tables))
    for k, values in squares.items():
        assert homozygosity_null(k, 5).mean == pytest.approx(np.mean(values) / 25)
        assert homozygosity_null(k, 5).variance == pytest.approx(np.var(values) / 625, abs=1e-14)


@given(st.integers(2, 300), st.data())
def test_theta_makes_the_observed_number_of_kinds_the_expected_one(
    n: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, n))
    found = ewens_theta(k, n)
    if k in (1, n):
        assert math.isnan(found.value)
        assert "kind" in found.method
    else:
        assert sum(found.value / (found.value + i) for i in range(n)) == pytest.approx(k)
        variance = sum(found.value * i / (found.value + i) ** 2 for i in range(n))
        reach = math.exp(1.959963984540054 / math.sqrt(variance))
        assert found.high / found.value == pytest.approx(reach)
        assert found.value / found.low == pytest.approx(reach)


def test_the_interval_of_theta_holds_the_truth_about_as_often_as_it_says() -> None:
    source, theta, n, held = rng(5), 8.0, 400, 0
    opens = source.random((400, n)) < theta / (theta + np.arange(n))
    for k in opens.sum(axis=1).tolist():
        found = ewens_theta(k, n)
        held += found.low <= theta <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_the_test_is_level_on_neutral_samples() -> None:
    source, n, p_values = rng(7), 60, []
    for _ in range(150):
        kinds: list[int] = []
        for m in range(n):
            kinds.append(m if source.random() < 3 / (3 + m) else kinds[source.integers(m)])
        sizes = np.unique(kinds, return_counts=True)[1]
        test = ewens_test(sizes, rng=source, max_configurations=20_000, n_draws=500)
        p_values.append(test.p_homozygosity)
    assert abs(np.mean(p_values) - 0.5) < 0.08
    assert np.mean(np.array(p_values) > 0.95) < 0.11


@pytest.mark.parametrize("sizes", [[], [0, 3], [-1, 2], [1.5, 2], [[1, 2]]])
def test_sizes_that_are_no_counts_of_models_are_refused(sizes: list[float]) -> None:
    with pytest.raises(ValueError, match="size of every kind"):
        ewens_test(sizes, rng=rng())


@pytest.mark.parametrize(("k", "n"), [(0, 3), (4, 3)])
def test_impossible_numbers_of_kinds_are_refused(k: int, n: int) -> None:
    for function in (ewens_theta, homozygosity_null):
        with pytest.raises(ValueError, match="between 1 and n kinds"):
            function(k, n)


def test_a_table_too_large_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match="subsample"):
        ewens_test(np.full(10_000, 10), rng=rng())


@pytest.mark.parametrize("sizes", [[7], [1, 1, 1]])
def test_a_sample_without_alternatives_tests_nothing(sizes: list[int]) -> None:
    test = ewens_test(sizes, rng=rng())
    assert (test.p_ewens, test.p_homozygosity, test.n_configurations) == (1.0, 1.0, 1)
    assert test.variance == 0
    assert math.isnan(test.deviate)
    assert math.isnan(test.theta)
