"""Leaving out founders: sums by plain recomputation, intervals by hand, tests by their level."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import t as student_t

from lineage.evolution.jackknife import (
    contributions,
    jackknife,
    left_out,
    partial_slope,
    sign_flip_p_value,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


def about_strata(columns: Floats, stratum: Ints) -> Floats:
    return np.concatenate(
        [columns[stratum == s] - columns[stratum == s].mean(axis=0) for s in np.unique(stratum)]
    )


@given(st.integers(0, 10_000))
def test_sums_without_a_founder_are_those_of_the_others_alone(seed: int) -> None:
    source = rng(seed)
    n, q = int(source.integers(8, 30)), int(source.integers(1, 4))
    columns = source.normal(50, 2, (n, q))
    # One founder has a stratum of its own, which goes with it.
    cluster = np.array([7, 7, 2, *source.integers(2, 6, n - 3)])
    stratum = np.array([9, 9, 1, *source.integers(0, 3, n - 3)])
    found = left_out(columns, cluster, stratum)
    keeps = [np.ones(n, dtype=bool), *(cluster != g for g in np.unique(cluster))]
    assert found.products.shape == (len(keeps), q, q)
    for row, keep in enumerate(keeps):
        about = about_strata(columns[keep], stratum[keep])
        assert found.products[row] == pytest.approx(about.T @ about, rel=1e-9, abs=1e-9)
        assert found.n[row] == keep.sum()
        assert found.free[row] == keep.sum() - np.unique(stratum[keep]).size
        assert found.mean[row] == pytest.approx(columns[keep].mean(axis=0))
    assert found.own.sum(axis=0) == pytest.approx(found.products[0])


def test_without_strata_everybody_is_one() -> None:
    columns, cluster = rng().normal(size=(9, 2)), np.arange(9) % 3
    one = left_out(columns, cluster, np.zeros(9, dtype=np.int64))
    for name in ("products", "n", "free", "mean", "own"):
        np.testing.assert_array_equal(getattr(left_out(columns, cluster), name), getattr(one, name))


def test_rounding_of_large_values_is_no_variation_within_strata() -> None:
    columns = np.array([0.1 + 0.2, 0.3, 5e5, 5e5])[:, None]
    found = left_out(columns, np.arange(4), np.array([0, 0, 1, 1]))
    assert not found.products.any()


@given(st.integers(0, 10_000), st.booleans())
def test_a_partial_slope_is_that_of_least_squares(seed: int, twice: bool) -> None:
    source = rng(seed)
    y, x, a = source.normal(size=(3, 20))
    held = np.column_stack([a, 1e5 * a**2] + [2 * a - 1] * twice)
    found = partial_slope(left_out(np.column_stack([y, x, held]), np.arange(20) % 4).products)
    design = np.column_stack([x, np.ones(20), held])
    for row, keep in enumerate([np.ones(20, bool), *(np.arange(20) % 4 != g for g in range(4))]):
        expected = np.linalg.lstsq(design[keep] / np.abs(design[keep]).max(axis=0), y[keep])[0][0]
        expected /= np.abs(x[keep]).max()
        assert found[row] == pytest.approx(expected, rel=1e-6)


def test_a_slope_on_what_is_held_already_is_undefined() -> None:
    x = np.arange(6.0)
    found = partial_slope(left_out(np.column_stack([x**2, x, 3 * x]), np.arange(6) % 3).products)
    assert np.isnan(found).all()


def test_interval_and_degrees_of_freedom_of_a_case_worked_on_paper() -> None:
    # without: 1 2 3 6, mean 3; δ = −2 −1 0 3; Σδ² = 14, Σδ⁴ = 98: 196/98 = 2 effective groups
    found = jackknife(np.array([2.5, 1, 2, 3, 6]), 40, 0.9, "figure")
    error = math.sqrt(3 / 4 * 14)
    reach = student_t.ppf(0.95, 2) * error
    assert (found.low, found.high) == pytest.approx((2.5 - reach, 2.5 + reach))
    assert found.p_value == pytest.approx(2 * student_t.sf(2.5 / error, 2))
    assert (found.value, found.level, found.n, found.n_clusters) == (2.5, 0.9, 40, 4)
    assert "t with 2 effective groups" in found.method


@pytest.mark.parametrize(
    ("without", "df"),
    [([1.0, 0.0], 1), ([2.0, 2, 2, -6], 1.714), ([1.0, -1] * 20, 39), ([0.0] * 99 + [1.0], 1.0203)],
)
def test_founders_that_make_the_variance_are_those_that_count(
    without: list[float], df: float
) -> None:
    # 2, 2, 2, −6: (4·3 + 36)² / (16·3 + 1296); of forty alike 39 are free
    values = np.array([0.0, *without])
    found = jackknife(values, 9, 0.95, "figure")
    away = values[1:] - values[1:].mean()
    error = math.sqrt((away.size - 1) / away.size * (away @ away))
    assert found.high == pytest.approx(student_t.ppf(0.975, df) * error, rel=1e-3)


def test_a_jackknife_without_spread_has_no_width_and_no_p_value() -> None:
    found = jackknife(np.full(5, 1.5), 9, 0.95, "figure")
    assert (found.low, found.high, found.p_value) == (1.5, 1.5, None)


def test_a_p_value_from_elsewhere_is_kept_and_said() -> None:
    found = jackknife(np.array([1.0, 1.1, 0.9]), 9, 0.95, "figure", 0.25)
    assert found.p_value == 0.25
    assert "signs of their contributions" in found.method


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([math.nan, 1, 2, 3], "no variation to measure it by"),
        ([1, 2, math.nan, 3], "undefined without one of 1 of the independent groups"),
    ],
)
def test_what_hangs_on_one_founder_is_nan_and_says_so(values: list[float], reason: str) -> None:
    found = jackknife(np.array(values), 9, 0.95, "figure")
    assert math.isnan(found.value)
    assert reason in found.method
    assert found.n_clusters == 3


@given(st.integers(0, 10_000))
def test_contributions_are_products_of_what_is_left_of_both_columns(seed: int) -> None:
    source = rng(seed)
    columns, cluster = source.normal(size=(18, 4)), np.arange(18) % 5
    found = contributions(left_out(columns, cluster))
    held = np.column_stack([np.ones(18), columns[:, 2:]])
    left = columns[:, :2] - held @ np.linalg.lstsq(held, columns[:, :2])[0]
    expected = np.bincount(cluster, left[:, 0] * left[:, 1])
    assert found == pytest.approx(expected, abs=1e-10)


def test_p_is_the_share_of_flips_that_go_as_far() -> None:
    parts = np.array([3.0, -1.0, 2.0, 0.5, 4.0, 0.25, 1.0])
    sums = [abs(float(np.dot(s, parts))) for s in itertools.product([-1, 1], repeat=7)]
    exact = np.mean([x >= abs(parts.sum()) - 1e-9 for x in sums])
    assert exact == 12 / 128
    found = sign_flip_p_value(parts, rng=rng(), n_flips=40_000)
    assert found == pytest.approx(exact, abs=0.004)


def test_a_flip_as_far_as_what_was_observed_counts_and_p_is_never_zero() -> None:
    # All flips of one founder, or of two alike, are as far or nearer: rounding must not decide.
    assert sign_flip_p_value(np.array([0.3]), rng=rng(), n_flips=99) == 1.0
    assert sign_flip_p_value(np.full(40, 0.1), rng=rng(), n_flips=99) == pytest.approx(1 / 100)
    parts = 0.1 * np.array([4, 2, 3, -1, 5, -5])  # 30 of 64 sums reach 8, whatever 0.1 rounds to
    assert sign_flip_p_value(parts, rng=rng(), n_flips=40_000) == pytest.approx(30 / 64, abs=0.01)
    parts = np.array([0.1, 0.2, 0.0])  # 2 of 4 signs of the first two
    assert sign_flip_p_value(parts, rng=rng(), n_flips=4000) == pytest.approx(0.5, abs=0.03)


def test_without_contributions_there_is_no_p_value() -> None:
    assert sign_flip_p_value(np.zeros(4), rng=rng()) is None


def test_flips_keep_their_level_however_unequal_the_founders() -> None:
    source, size = rng(5), np.array([300.0, 100, 30, 10, 5, 2, 1, 1, 1, 1])
    p = [sign_flip_p_value(size * source.normal(size=10), rng=source, n_flips=199)
         for _ in range(2000)]  # fmt: skip
    assert 0.035 <= np.mean(np.array(p) <= 0.05) <= 0.065
