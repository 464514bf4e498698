"""Yes/no traits and counts: printed factors, QGglmm's answers, closed forms, a simulated cut."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from lineage.evolution.inheritance.liability import data_scale, liability_factor, on_liability
from lineage.model import Estimate


@pytest.mark.parametrize(
    ("prevalence", "factor"),
    [(0.5, 1.5707963), (0.3, 1.7371142), (0.1, 2.9221098), (0.05, 4.4655615)],
)
def test_dempster_lerner_factors_are_the_reference_ones(prevalence: float, factor: float) -> None:
    assert liability_factor(prevalence) == pytest.approx(factor, abs=5e-8)
    assert liability_factor(1 - prevalence) == pytest.approx(factor, abs=5e-8)


def test_sampling_cases_as_they_come_changes_nothing_and_more_of_them_does() -> None:
    assert liability_factor(0.1, 0.1) == pytest.approx(liability_factor(0.1))
    # Lee et al. 2011: K²(1 − K)² / (z² P(1 − P))
    height = norm.pdf(norm.ppf(0.005))
    assert liability_factor(0.005, 0.5) == pytest.approx(0.004975**2 / height**2 / 0.25)


def test_parents_and_children_cut_at_a_threshold_have_the_heritability_of_their_liability() -> None:
    rng = np.random.default_rng(0)
    n, h2 = 400_000, 0.3
    parent = rng.normal(size=n)
    child = h2 * parent + math.sqrt(1 - h2**2) * rng.normal(size=n)
    cut = norm.ppf(0.8)
    zero_one = np.cov(parent > cut, child > cut)[0, 1] / 0.16
    factor = liability_factor(0.2)
    # Exact to first order in h²: the rest of the tetrachoric series is known
    assert zero_one * factor == pytest.approx(h2 + h2**2 * cut**2 / 2, abs=0.02)


def observed(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, 0.9, 50, "share of animal", 7, 0.01)


def test_an_estimate_is_scaled_with_its_interval() -> None:
    found = on_liability(observed(0.2, 0.1, 0.5), 0.1)
    factor = liability_factor(0.1)
    assert (found.value, found.low) == (pytest.approx(0.2 * factor), pytest.approx(0.1 * factor))
    assert found.high == 1
    assert (found.level, found.n, found.n_clusters, found.p_value) == (0.9, 50, 7, 0.01)
    assert "share of animal; × 2.922 to the liability" in found.method
    assert on_liability(observed(0.2, 0.1, 0.5), 0.1, 0.5).value == pytest.approx(
        0.2 * liability_factor(0.1, 0.5)
    )


def test_a_negative_end_of_an_interval_is_cut_at_zero() -> None:
    assert on_liability(observed(0.1, -0.2, 0.3), 0.5).low == 0
    below = on_liability(observed(-0.1, -0.2, 0.3), 0.5)
    assert below.low == below.value == pytest.approx(-0.1 * math.pi / 2)


def test_more_than_all_of_the_liability_is_not_believed() -> None:
    found = on_liability(observed(0.5, 0.4, 0.6), 0.05)
    assert math.isnan(found.value)
    assert "2.23 exceeds 1" in found.method
    missing = on_liability(Estimate(math.nan, math.nan, math.nan, 0.9, 5, "h²"), 0.5)
    assert math.isnan(missing.value)
    assert "it was not on the 0/1 scale" in missing.method


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_shares_outside_zero_and_one_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        liability_factor(share)
    with pytest.raises(ValueError, match="between 0 and 1"):
        liability_factor(0.2, share)


# QGglmm::QGparams (de Villemereuil et al. 2016)
@pytest.mark.parametrize(
    ("kind", "additive", "total", "heritability"),
    [
        ("probit", 1.0, 2.0, 0.2122066),
        ("logit", 0.5, 1.0, 0.0853845),
        ("poisson", 0.5, 1.0, 0.2150711),
    ],
)
def test_heritability_on_the_data_scale_is_that_of_qgglmm(
    kind: str, additive: float, total: float, heritability: float
) -> None:
    assert data_scale(kind, 0.0, additive, total).heritability == pytest.approx(
        heritability, abs=6e-8
    )


def test_mean_and_variance_of_counts_are_those_of_qgglmm() -> None:
    found = data_scale("poisson", 0.0, 0.5, 1.0)
    assert found.mean == pytest.approx(1.648721, abs=5e-7)
    assert found.variance == pytest.approx(6.319496, abs=1e-6)


@given(st.floats(-2, 2), st.floats(0.01, 3), st.floats(0, 1))
def test_counts_and_probits_have_their_closed_forms(mu: float, v: float, share: float) -> None:
    counts = data_scale("poisson", mu, share * v, v)
    mean = math.exp(mu + v / 2)
    assert counts.mean == pytest.approx(mean)
    assert counts.slope == pytest.approx(mean)
    assert counts.variance == pytest.approx(mean + mean**2 * math.expm1(v))
    assert counts.additive_variance == pytest.approx(mean**2 * share * v)
    cut = data_scale("probit", mu, share * v, v)
    p = norm.cdf(mu / math.sqrt(1 + v))
    slope = norm.pdf(mu / math.sqrt(1 + v)) / math.sqrt(1 + v)
    assert cut.mean == pytest.approx(p)
    assert cut.slope == pytest.approx(slope)
    assert cut.variance == pytest.approx(p * (1 - p))
    assert cut.heritability == pytest.approx(slope**2 * share * v / (p * (1 - p)))


@pytest.mark.parametrize(("mu", "v"), [(0.3, 0.2), (-2.0, 3.0)])
def test_logits_are_those_of_adaptive_integration(mu: float, v: float) -> None:
    def mean_of(function: object) -> float:
        return float(
            quad(lambda x: function(x) * norm.pdf(x, mu, math.sqrt(v)), -25, 25)[0]  # type: ignore[operator]
        )

    found = data_scale("logit", mu, v / 2, v)
    p = mean_of(expit)
    slope = mean_of(lambda x: expit(x) * expit(-x))
    assert found.mean == pytest.approx(p, rel=1e-7)
    assert found.heritability == pytest.approx(slope**2 * v / 2 / (p * (1 - p)), rel=1e-7)


def test_probit_scale_and_threshold_scale_are_one() -> None:
    # Residual liability variance 1 beside V: h² of the liability is σ²_A/(V + 1)
    found = data_scale("probit", -0.7, 0.6, 0.9)
    assert found.heritability * liability_factor(found.mean) == pytest.approx(0.6 / 1.9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cauchit", 0.0, 0.5, 1.0), "no data model cauchit"),
        (("probit", 0.0, 2.0, 1.0), "0 ≤ σ²_A ≤ V"),
        (("probit", 0.0, -0.1, 1.0), "0 ≤ σ²_A ≤ V"),
        (("probit", 0.0, 0.0, 0.0), "V > 0"),
        (("probit", math.nan, 0.5, 1.0), "must be finite"),
        (("logit", 0.0, 1.0, 1e5), "too large to integrate"),
    ],
)
def test_impossible_latent_models_are_refused(
    arguments: tuple[str, float, float, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        data_scale(*arguments)
