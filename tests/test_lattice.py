"""Which of a fine and a coarse model came first: simulated, computed slowly, where it is mute."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.infer.lattice import lattice_log_odds
from lineage.weights.encodings import round_to

SIZE = 100_000


def weights(seed: int = 0, dtype: str = "F32", size: int = SIZE) -> np.ndarray:
    return round_to(dtype, np.random.default_rng(seed).normal(0, 0.02, size).astype(np.float32))


def trained(parent: np.ndarray, step: float, seed: int, dtype: str) -> np.ndarray:
    steps = np.random.default_rng(seed).laplace(0, step, parent.shape)
    return round_to(dtype, (parent + steps).astype(np.float32))


PAIRS = [("F32", "BF16"), ("F16", "BF16"), ("F32", "F16")]
STEPS = {"BF16": 5e-5, "F16": 5e-6}


@pytest.mark.parametrize(("fine", "coarse"), PAIRS)
def test_a_fine_parent_knows_nothing_of_its_coarse_child(fine, coarse):
    parent = weights(dtype=fine)
    child = trained(parent, STEPS[coarse], 1, coarse)
    assert lattice_log_odds([parent], [child], coarse) > 5


@pytest.mark.parametrize(("fine", "coarse"), PAIRS)
def test_a_fine_child_lies_about_its_coarse_parent(fine, coarse):
    parent = weights(dtype=coarse)
    child = trained(parent, STEPS[coarse], 1, fine)
    assert lattice_log_odds([child], [parent], coarse) < -5


@pytest.mark.parametrize("fine_first", [True, False])
@pytest.mark.parametrize("step", [1e-4, 3e-4, 1e-3])
def test_the_odds_hold_over_many_pairs_and_steps(step, fine_first):
    for seed in range(12):
        parent = weights(seed, "F32" if fine_first else "BF16", 20_000)
        child = trained(parent, step, seed + 100, "BF16" if fine_first else "F32")
        odds = (
            lattice_log_odds([parent], [child], "BF16")
            if fine_first
            else -lattice_log_odds([child], [parent], "BF16")
        )
        assert odds > -math.log(9)


def test_steps_longer_than_the_grid_say_nothing():
    parent = weights()
    assert abs(lattice_log_odds([parent], [trained(parent, 5e-3, 1, "BF16")], "BF16")) < 1


@pytest.mark.parametrize("step", [0.0, 1e-5])
def test_a_parent_that_came_from_coarse_words_itself_is_not_taken_for_the_child(step):
    """A cast, or a gentle fine-tune in full precision, and what was trained from it."""
    oldest = weights(dtype="BF16")
    parent = trained(oldest, step, 1, "F32")
    child = trained(parent, 3e-4, 2, "BF16")
    assert lattice_log_odds([parent], [child], "BF16") == 0


def test_a_cast_whose_words_are_all_equal_is_the_child():
    coarse = weights(dtype="BF16")
    assert lattice_log_odds([coarse], [coarse], "BF16") < -1000


def test_small_words_of_half_precision_are_no_finer_and_are_passed_over():
    tiny = np.random.default_rng(0).normal(0, 1e-5, SIZE).astype(np.float32)
    parent = round_to("F16", tiny)
    child = trained(parent, 1e-8, 1, "BF16")
    assert lattice_log_odds([parent], [child], "BF16") == 0


@pytest.mark.parametrize("dtype", ["F32", "F8_E4M3", ""])
def test_only_the_two_coarse_types_have_a_lattice(dtype):
    parent = weights()
    assert lattice_log_odds([parent], [trained(parent, 5e-5, 1, "BF16")], dtype) == 0


def test_nothing_to_compare_says_nothing():
    endless = np.full((9, 9), np.inf)
    for values in (np.zeros((0, 4)), np.zeros((8, 4)), np.full((9, 9), np.nan), endless, -endless):
        one = values.astype(np.float32)
        assert lattice_log_odds([one], [one], "BF16") == 0
    assert lattice_log_odds([], [], "BF16") == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from([3e-5, 1e-4, 1e-3]), st.booleans())
def test_the_odds_are_those_of_a_slow_look_at_every_word(seed, step, fine_first):
    first = weights(seed, "F32" if fine_first else "BF16", 900)
    second = trained(first, step, seed + 1, "BF16" if fine_first else "F32")
    fine, coarse = (first, second) if fine_first else (second, first)
    by_binade: dict[int, list[float]] = {}
    for p, c in zip(fine.tolist(), coarse.tolist(), strict=True):
        exponent = math.frexp(c)[1]
        if p * c > 0 and exponent == math.frexp(p)[1] and exponent > -14:
            by_binade.setdefault(exponent, []).append((p - c) / 2.0 ** (exponent - 1 - 7))
    far = [math.cos(2 * math.pi * u) for us in by_binade.values() for u in us if abs(u) >= 0.5]
    odds = 0.0
    for us in by_binade.values():
        if len(us) >= 50:
            seen = sum(math.cos(2 * math.pi * u) for u in us) / len(us)
            expected = math.exp(-2 * math.pi**2 * sum(u * u for u in us) / len(us))
            odds += len(us) / 2 * ((seen - expected) ** 2 - seen**2)
    if sum(far) > 3 * math.sqrt(len(far) / 2):
        odds = 0.0
    assert lattice_log_odds([fine], [coarse], "BF16") == pytest.approx(odds, abs=1e-6)
