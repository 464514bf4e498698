"""The parts of the hidden-mask model against naive arithmetic."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.special import expit, log_expit
from scipy.stats import rankdata

from lineage.infer.methods import masks
from lineage.infer.methods.masks import Changes, Rule, fit_masks

RNG = np.random.default_rng(0)


def drawn(n_parents: int, n_words: int, kept: float, seed: int = 0) -> Changes:
    """A child of `n_parents` with weight .4 each, a share of whose changes was kept."""
    rng = np.random.default_rng(seed)
    parents = 1e-2 * rng.normal(size=(n_parents, n_words))
    base = rng.normal(size=n_words)
    unit = 2.0**-12 * np.abs(base) + 1e-7
    exact = base + 0.4 * (parents * (rng.random(parents.shape) < kept)).sum(axis=0)
    child = np.round(exact / unit) * unit - base
    place = rankdata(np.abs(parents), axis=1) / n_words
    nothing = np.zeros(n_words, dtype=np.int64)
    return Changes(child, parents, place, place, unit, nothing, nothing)


def test_ranks_of_some_values_are_those_among_all_with_ties_in_the_middle():
    size = np.round(np.abs(RNG.normal(size=(50, 40))), 1).astype(np.float32)
    some = np.sort(RNG.choice(size.size, 300, replace=False))
    of_all = rankdata(size, axis=None).ravel()[some] / size.size
    of_rows = rankdata(size, axis=1).ravel()[some] / size.shape[1]
    assert np.allclose(masks._rank_shares(size, some), of_all)
    assert np.allclose(masks._rank_shares_in_rows(size, some), of_rows)


def test_chances_of_a_cell_are_the_logistic_distributions():
    low = RNG.normal(size=(8, 200)) * 30
    size = RNG.uniform(1e-6, 30, low.shape)
    high = low + size
    below, above, spread, log_inside = masks._logistic_cell(low, size)
    assert np.allclose(below, expit(low), rtol=1e-12)
    assert np.allclose(above, expit(-high), rtol=1e-12)
    assert np.allclose(spread, expit(low) * expit(-low) + expit(high) * expit(-high), rtol=1e-12)
    naive = log_expit(-low) + log_expit(high) + np.log(-np.expm1(-size))
    assert np.allclose(log_inside, naive, rtol=1e-12, atol=1e-12)
    assert np.allclose(np.exp(log_inside) + below + above, 1)


@pytest.mark.parametrize("rule", list(Rule))
def test_words_taken_some_at_a_time_fit_as_all_at_once(rule, monkeypatch):
    changes = drawn(3, 700, 0.6)
    start = np.full(3, 0.3)
    fits = []
    for entries in (1 << 30, 100):
        monkeypatch.setattr(masks, "_ENTRIES_AT_ONCE", entries)
        fits.append(fit_masks(changes, rule, False, start, n_last=3))
    assert np.allclose(fits[0].coefficients, fits[1].coefficients, rtol=1e-9)
    assert fits[0].log_likelihood == pytest.approx(fits[1].log_likelihood, rel=1e-9)
    assert np.allclose(fits[0].kept, fits[1].kept, atol=1e-9)
    assert fits[0].noise == pytest.approx(fits[1].noise)


def test_weights_and_shares_kept_are_recovered_from_random_masks():
    fit = fit_masks(drawn(3, 4_000, 0.6), Rule.SUM, False, np.full(3, 0.25))
    assert np.allclose(fit.coefficients, 0.4, atol=0.005)
    assert np.allclose(fit.curves.mean(axis=1), 0.6, atol=0.03)
    assert (np.abs(fit.coefficients - 0.4) < 4 * fit.errors + 1e-3).all()


def naive_log_likelihood(
    changes: Changes,
    rule: Rule,
    a: np.ndarray,
    width_of: np.ndarray,
    looseness: float,
    shift: float = 0.0,
) -> np.ndarray:
    """The logarithm of what all outcomes make of each word, one after another.

    `a` are the coefficients of every word: words × parents; `width_of` those that set how far a
    word may be off; `shift` is added to what is predicted.
    """
    n_parents, n_words = changes.parents.shape
    typical = np.abs(changes.child).mean()
    logs = np.zeros(n_words)
    for word in range(n_words):
        unit, child = changes.unit[word], changes.child[word]
        chance = 0.0
        for kept in product((False, True), repeat=n_parents):
            predicted, wide = (
                combined(rule, of[word][list(kept)], changes.parents[list(kept), word])
                for of in (a, width_of)
            )
            width = (0.02 + looseness / 2) * unit + looseness * abs(wide) / 4
            width += masks._FIRST_NOISE * typical
            ends = (child - predicted - shift + side * unit / 2 for side in (-1, 1))
            low, high = (expit(end / width) for end in ends)
            chance += (high - low) * np.prod(np.where(kept, 0.6, 0.4))
        stray = masks._STRAY * min(1.0, unit / (2 * typical)) * np.exp(-abs(child) / typical)
        logs[word] = np.log((1 - masks._STRAY) * chance + stray)
    return logs


def combined(rule: Rule, weights: np.ndarray, kept: np.ndarray) -> float:
    """What a rule makes of kept changes."""
    values = weights * kept
    if rule is Rule.SUM:
        return float(values.sum())
    agrees = values > 0 if values.sum() >= 0 else values < 0
    total = float(values[agrees].sum())
    return total / (float(weights[agrees].sum()) or 1.0) if rule is Rule.MEAN else total


@pytest.mark.parametrize("n_groups", [1, 3])
@pytest.mark.parametrize("rule", list(Rule))
def test_a_round_moves_along_the_slope_of_the_naive_likelihood(rule, n_groups):
    looseness, step = 0.2, 1e-6
    changes = drawn(2, 40, 0.6)
    group = np.arange(40) % n_groups
    start = np.full((n_groups, 2), [0.3, 0.5]) + 0.05 * np.arange(n_groups)[:, None]
    fit = masks._Fit(changes, rule, False, group, start, masked=True)
    gradient, square = np.zeros((n_groups, 2)), np.zeros((n_groups, 4))
    fit._expect(slice(0, 40), looseness, np.ones(2), gradient, square)

    def naive(coefficients: np.ndarray, shift: float = 0.0) -> np.ndarray:
        known = coefficients[group], start[group]
        return naive_log_likelihood(changes, rule, *known, looseness, shift)

    assert np.allclose(fit.log_likelihood, naive(start), rtol=1e-9)
    by_shift = (naive(start, 1e-9) - naive(start, -1e-9)) / 2e-9
    assert np.allclose(fit.score, by_shift * changes.unit, rtol=1e-3, atol=1e-6)
    for g, i in np.ndindex(n_groups, 2):
        moved = np.zeros_like(start)
        moved[g, i] = step
        slope = (naive(start + moved) - naive(start - moved)).sum() / (2 * step)
        assert gradient[g, i] == pytest.approx(slope, rel=1e-4, abs=1e-4)
    squares = square.reshape(n_groups, 2, 2)
    assert np.allclose(squares, squares.transpose(0, 2, 1))
    # A mean does not change with the size of its weights.
    along = np.einsum("gi,gij,gj->g", start, squares, start)
    assert (np.abs(along) < 1e-9).all() if rule is Rule.MEAN else (along > 1).all()


@pytest.mark.parametrize("rule", list(Rule))
def test_a_round_takes_a_bounded_newton_step_and_measures_what_is_left(rule):
    """Nothing is masked, so that a word has one outcome and what is expected is plain."""
    looseness, start = 0.2, np.array([[0.3, 0.5]])
    changes = drawn(2, 40, 0.6)
    words = np.zeros(40, dtype=np.int64)
    asked = masks._Fit(changes, rule, False, words, start, masked=False)
    gradient, square = np.zeros((1, 2)), np.zeros((1, 4))
    asked._expect(slice(0, 40), looseness, np.ones(2), gradient, square)
    typical = np.abs(changes.child).mean()
    curvature, slopes, off = np.zeros(40), np.zeros((40, 2)), np.zeros(40)
    for word in range(40):

        def given(weights, word=word):
            return combined(rule, weights, changes.parents[:, word])

        off[word] = abs(changes.child[word] - given(start[0]))
        for i, step in enumerate(1e-6 * np.eye(2)):
            slopes[word, i] = (given(start[0] + step) - given(start[0] - step)) / 2e-6
        unit = changes.unit[word]
        width = (0.02 + looseness / 2) * unit + looseness * abs(given(start[0])) / 4
        width += masks._FIRST_NOISE * typical
        ends = (changes.child[word] - given(start[0]) + np.array([-unit, unit]) / 2) / width
        curvature[word] = (expit(ends) * expit(-ends)).sum() / width**2 * asked.certain[word]
    assert np.allclose(square.reshape(2, 2), (slopes.T * curvature) @ slopes, rtol=1e-6)

    fit = masks._Fit(changes, rule, False, words, start, masked=False)
    fit.step(looseness)
    ridged = square.reshape(2, 2) * (1 + 1e-6 * np.eye(2))  # a mean has no size of its own
    newton = np.linalg.solve(ridged, gradient[0])
    reached = start + np.clip(newton, -0.3 * start, 0.3 * start)
    reached = reached / reached.sum() if rule is Rule.MEAN else reached
    assert np.allclose(fit.a, reached, rtol=1e-4)
    left = (fit.certain * np.maximum(off - changes.unit / 2, 0) / typical).sum()
    assert fit.noise == pytest.approx(left / fit.certain.sum() / (2 * np.log(2)), rel=1e-6)
    far = masks._Fit(changes, Rule.SUM, False, words, 10 * start, masked=False)
    far.step(looseness)
    assert np.allclose(np.abs(far.a / (10 * start) - 1), 0.3)


@pytest.mark.parametrize("rule", list(Rule))
def test_groups_that_are_alike_are_fitted_as_one(rule):
    changes = drawn(2, 60, 0.6)
    twice = changes.taken(np.tile(np.arange(60), 2))
    groups = replace(twice, group=np.repeat([0, 1], 60))
    start = np.full(2, 0.3)
    one = fit_masks(changes, rule, False, start, by_group=True)
    both = fit_masks(groups, rule, False, start, by_group=True)
    assert np.allclose(both.coefficients[0], both.coefficients[1], rtol=1e-6)
    assert np.isfinite(one.errors).all()
    assert np.isfinite(both.errors).all()


def test_a_group_without_words_keeps_its_start():
    changes = drawn(2, 60, 0.6)
    gap = replace(changes, group=np.repeat([0, 2], 30))
    fit = fit_masks(gap, Rule.SUM, False, np.full(2, 0.3), by_group=True)
    assert np.allclose(fit.coefficients[1], 0.3)
    assert np.isfinite(fit.coefficients).all()
    assert (fit.errors[1] > 1).all()
