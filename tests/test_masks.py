"""The parts of the hidden-mask model against naive arithmetic."""

from __future__ import annotations

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
    low = RNG.normal(size=(200, 8)) * 30
    width = RNG.uniform(0.1, 3, low.shape)
    unit = RNG.uniform(1e-6, 5, (200, 1))
    high = low + unit / width
    below, above, log_inside = masks._logistic_cell(low, high, width, unit)
    assert np.allclose(below, expit(low), rtol=1e-12)
    assert np.allclose(above, expit(-high), rtol=1e-12)
    naive = log_expit(-low) + log_expit(high) + np.log(-np.expm1(-unit / width))
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
