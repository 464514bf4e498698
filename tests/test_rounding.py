"""The arrow of time that rounding leaves: simulated, counted slowly, and where it is mute."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.infer.rounding import rounding_arrow
from lineage.weights.encodings import round_to

SIZE = 400_000


def weights(seed: int = 0, dtype: str = "BF16", size: int = SIZE) -> np.ndarray:
    return round_to(dtype, np.random.default_rng(seed).normal(0, 0.02, size).astype(np.float32))


def trained(parent: np.ndarray, step: float, seed: int, dtype: str = "BF16") -> np.ndarray:
    steps = np.random.default_rng(seed).laplace(0, step, parent.shape)
    return round_to(dtype, (parent + steps).astype(np.float32))


@pytest.mark.parametrize(
    ("dtype", "step", "least"), [("BF16", 1e-5, 3), ("BF16", 4e-5, 3), ("F16", 4e-6, 1)]
)
def test_small_steps_leave_wide_cells_more_often_than_they_enter_them(dtype, step, least):
    parent = weights(dtype=dtype)
    child = trained(parent, step, 1, dtype)
    arrow = rounding_arrow([parent], [child], dtype)
    assert arrow.n_left > arrow.n_entered
    assert arrow.log_odds > least


def test_swapping_the_models_changes_the_sign():
    parent = weights()
    child = trained(parent, 4e-5, 1)
    one, other = (
        rounding_arrow([parent], [child], "BF16"),
        rounding_arrow([child], [parent], "BF16"),
    )
    assert (one.n_left, one.n_entered) == (other.n_entered, other.n_left)
    assert one.log_odds == pytest.approx(-other.log_odds)


def odds(older: np.ndarray, younger: np.ndarray) -> float:
    return rounding_arrow([older], [younger], "BF16").log_odds


def test_siblings_of_equal_steps_exchange_words_evenly():
    parent = weights()
    between = [odds(trained(parent, 4e-5, n), trained(parent, 4e-5, n + 50)) for n in range(12)]
    forward = [odds(parent, trained(parent, 4e-5, n)) for n in range(6)]
    assert abs(np.mean(between)) < 3 * np.std(between, ddof=1) / np.sqrt(len(between))
    assert np.mean(forward) > 2 * np.std(between, ddof=1)


def test_a_sibling_that_moved_less_looks_older():
    """Not descent, and documented: only the ends of one step may be asked."""
    parent = weights()
    assert odds(trained(parent, 1e-5, 1), trained(parent, 4e-5, 2)) > 0


@pytest.mark.parametrize("factor", [0.999, 0.9995, 1.0005, 1.001])
def test_growth_and_decay_of_all_weights_are_taken_off(factor):
    parent = weights()
    moved = (parent * np.float32(factor)).astype(np.float32)
    told = [odds(parent, trained(moved, 2e-5, n)) for n in range(4)]
    assert min(told) > 0
    between = [odds(trained(parent, 2e-5, n), trained(moved, 2e-5, n + 50)) for n in range(6)]
    assert abs(np.mean(between)) < np.mean(told)


def test_large_steps_forget_where_they_began():
    parent = weights()
    arrow = rounding_arrow([parent], [trained(parent, 5e-3, 1)], "BF16")
    assert abs(arrow.log_odds) < 1


def test_the_odds_hold_over_many_pairs():
    """Of pairs with odds of at least 9 to 1, nine in ten point the right way at the least."""
    right = wrong = 0
    for seed in range(40):
        parent = weights(seed, size=100_000)
        told = odds(parent, trained(parent, 3e-5, seed + 100))
        right += told >= np.log(9)
        wrong += told <= -np.log(9)
    assert right >= 9 * wrong
    assert right + wrong > 5


@pytest.mark.parametrize("dtype", ["F32", "F8_E4M3", "Q8_0", ""])
def test_other_number_types_say_nothing(dtype):
    parent = weights()
    assert rounding_arrow([parent], [trained(parent, 4e-5, 1)], dtype).log_odds == 0


def test_values_off_the_grid_count_for_nothing():
    parent = np.random.default_rng(0).normal(0, 0.02, SIZE).astype(np.float32)
    child = trained(parent, 4e-5, 1, "F32")
    arrow = rounding_arrow([parent], [child], "BF16")
    assert arrow.n_left + arrow.n_entered < 20


def test_nothing_to_compare_says_nothing():
    none = np.zeros((0, 4), np.float32)
    zeros = np.zeros((8, 4), np.float32)
    for pair in (none, zeros, np.full((4, 4), np.nan, np.float32)):
        arrow = rounding_arrow([pair], [pair], "BF16")
        assert (arrow.n_left, arrow.n_entered, arrow.log_odds) == (0, 0, 0.0)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from(["BF16", "F16"]), st.floats(1e-6, 1e-2))
def test_counts_are_those_of_a_slow_look_at_every_word(seed, dtype, step):
    parent = weights(seed, dtype, 400)
    child = trained(parent, step, seed + 1, dtype)
    arrow = rounding_arrow([parent], [child], dtype)
    below = {"BF16": 2.0**-8, "F16": 2.0**-11}[dtype]  # the step below a power of two, relative
    left = entered = 0
    for p, c in zip(parent.tolist(), child.tolist(), strict=True):
        if p * c > 0:
            power_p, power_c = np.frexp(abs(p))[0] == 0.5, np.frexp(abs(c))[0] == 0.5
            left += power_p and abs(c) == abs(p) * (1 - below)
            entered += power_c and abs(p) == abs(c) * (1 - below)
    assert (arrow.n_left, arrow.n_entered) == (left, entered)
