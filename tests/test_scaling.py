"""One change of slope of score on log size: a published case, oracles, calibration, and a trap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineage.evolution.comparative.scaling import ScalingFit, scaling_break

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def rng(seed: int = 8) -> np.random.Generator:
    return np.random.default_rng(seed)


# Bacon & Watts (1971), stagnant band height on log flow, as in the OpenBUGS examples ("Stagnant").
FLOW = np.array(
    [
        *(-1.39, -1.39, -1.08, -1.08, -0.94, -0.80, -0.63, -0.63, -0.25, -0.25, -0.12, -0.12),
        *(0.01, 0.11, 0.11, 0.11, 0.25, 0.25, 0.34, 0.34, 0.44, 0.59, 0.70, 0.70, 0.85, 0.85),
        *(0.99, 0.99, 1.19),
    ]
)
HEIGHT = np.array(
    [
        *(1.12, 1.12, 0.99, 1.03, 0.92, 0.90, 0.81, 0.83, 0.65, 0.67, 0.60, 0.59, 0.51, 0.44),
        *(0.43, 0.43, 0.33, 0.30, 0.25, 0.24, 0.13, -0.01, -0.13, -0.14, -0.30, -0.33, -0.46),
        *(-0.43, -0.65),
    ]
)


def fit_of(
    score: Floats, size: Floats, lineage: Ints, cluster: Ints, n_resamples: int = 999
) -> ScalingFit:
    return scaling_break(
        score, size, lineage, cluster, thresholded=False, rng=rng(), n_resamples=n_resamples
    )


def test_the_stagnant_band_breaks_where_bayes_found_it() -> None:
    # OpenBUGS: x.change .02797 (sd .0313; −.0352 to .0849), slopes −.4196 (.0148), −1.014 (.0173)
    fit = fit_of(HEIGHT, FLOW, np.zeros(29, dtype=np.int64), np.arange(29))
    assert fit.p_value == 0.001
    assert fit.break_size.value == pytest.approx(0.028, abs=0.015)
    assert (fit.break_size.low, fit.break_size.high) == pytest.approx((-0.0352, 0.0849), abs=0.04)
    assert fit.slope_below.value == pytest.approx(-0.4196, abs=0.006)
    assert fit.slope_above.value == pytest.approx(-1.014, abs=0.006)
    assert fit.slope_below.high - fit.slope_below.low == pytest.approx(4 * 0.0148, rel=0.4)
    assert fit.slope_above.high - fit.slope_above.low == pytest.approx(4 * 0.0173, rel=0.4)


def naive_break(
    score: Floats, size: Floats, lineage: Ints, candidates: Floats
) -> tuple[Floats, list[Floats], float]:
    """Least squares with a dummy for every lineage, break by break."""
    dummies = (lineage[:, None] == np.unique(lineage)).astype(float)
    line = np.column_stack([dummies, size])

    def squares(design: Floats) -> tuple[float, Floats]:
        beta = np.linalg.lstsq(design, score, rcond=None)[0]
        return float(((score - design @ beta) ** 2).sum()), beta

    straight, single = squares(line)
    profile, slopes = [], []
    for candidate in candidates:
        design = np.column_stack([line, np.maximum(size - candidate, 0)])
        broken, beta = squares(design)
        profile.append((straight - broken) / (broken / (score.size - design.shape[1])))
        slopes.append(beta[-2:])
    return np.array(profile), slopes, float(single[-1])


def simulated(seed: int, bend: float, n: int = 60) -> tuple[Floats, Floats, Ints, Ints]:
    random = rng(seed)
    cluster = np.repeat(np.arange(12), n // 12)
    lineage = cluster // 2
    size = random.uniform(0, 3, n) + 0.3 * lineage
    error = random.normal(size=n) * 0.3
    score = 2.0 * lineage + 0.2 * size + bend * np.maximum(size - 2.2, 0) + error
    return score, size, lineage, cluster


@pytest.mark.parametrize("seed", range(5))
def test_profile_and_slopes_are_those_of_dummy_regression(seed: int) -> None:
    score, size, lineage, cluster = simulated(seed, 1.2)
    fit = fit_of(score, size, lineage, cluster)
    profile, slopes, single = naive_break(score, size, lineage, fit.candidates)
    assert fit.profile.tolist() == pytest.approx(profile.tolist(), rel=1e-7)
    best = int(np.argmax(profile))
    assert fit.sup_f == pytest.approx(profile[best])
    assert fit.break_size.value == fit.candidates[best]
    assert fit.slope_below.value == pytest.approx(slopes[best][0])
    assert fit.slope_change.value == pytest.approx(slopes[best][1])
    assert fit.slope_above.value == pytest.approx(slopes[best].sum())
    assert fit.slope.value == pytest.approx(single)


def test_resamples_are_whole_clusters_of_residuals_refitted_from_scratch() -> None:
    score, size, lineage, cluster = simulated(3, 0.25)
    fit = fit_of(score, size, lineage, cluster, n_resamples=40)
    # The same weights, drawn from the same stream, through dummy regressions one by one.
    webb = np.sqrt([0.5, 1.0, 1.5])
    weights = rng().choice(np.concatenate([-webb, webb]), size=(12, 40))
    dummies = (lineage[:, None] == np.unique(lineage)).astype(float)
    line = np.column_stack([dummies, size])
    straight = line @ np.linalg.lstsq(line, score, rcond=None)[0]
    larger = 0
    for k in range(40):
        again = straight + (score - straight) * weights[cluster, k]
        profile, _, _ = naive_break(again, size, lineage, fit.candidates)
        larger += profile.max() >= fit.sup_f
    assert fit.p_value == pytest.approx((1 + larger) / 41)


def test_intervals_come_from_leaving_out_one_founder_at_a_time() -> None:
    score, size, lineage, cluster = simulated(3, 1.2)
    fit = fit_of(score, size, lineage, cluster)
    whole = [fit.slope, fit.break_size, fit.slope_below, fit.slope_above, fit.slope_change]
    apart = []
    for g in range(12):
        rest = cluster != g
        sizes = np.sort(size[rest])
        low, high = np.quantile(sizes, [0.15, 0.85])
        candidates = np.linspace(max(low, sizes[2]), min(high, sizes[-3]), 200)
        profile, slopes, single = naive_break(score[rest], size[rest], lineage[rest], candidates)
        best = int(np.argmax(profile))
        below, change = slopes[best]
        apart.append([single, candidates[best], below, below + change, change])
    for estimate, values in zip(whole, np.array(apart).T, strict=True):
        error = math.sqrt(11 / 12 * ((values - estimate.value) ** 2).sum())
        assert estimate.high - estimate.value == pytest.approx(2.200985160 * error, rel=1e-6)
        assert estimate.value - estimate.low == pytest.approx(2.200985160 * error, rel=1e-6)
        assert (estimate.n, estimate.n_clusters) == (60, 12)


def test_many_founders_are_left_out_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    score, size, lineage, cluster = simulated(3, 1.2)
    one_by_one = fit_of(score, size, lineage, cluster % 6).slope
    monkeypatch.setattr("lineage.evolution.comparative.scaling._MAX_REFITS", 6)
    blocks = fit_of(score, size, lineage, cluster).slope
    error = [float(e.method.rpartition("SE ")[2]) for e in (one_by_one, blocks)]
    assert error[0] == error[1]
    assert blocks.n_clusters == 12


def test_a_founder_without_whom_nothing_can_be_fitted_makes_intervals_untrusted() -> None:
    score, size, lineage, cluster = simulated(3, 1.2)
    few_sizes = np.where(cluster == 0, size, np.round(size / 3) * 3)
    fit = fit_of(score, few_sizes, lineage, cluster)
    assert math.isnan(fit.slope.value)
    assert "without one of the clusters there is nothing to fit" in fit.slope.method
    assert 0 < fit.p_value <= 1


@given(
    st.integers(0, 300), st.floats(-5, 5), st.floats(0.1, 10), st.floats(-50, 50), st.floats(-2, 2)
)
def test_units_origins_and_any_straight_trend_leave_the_test_alone(
    seed: int, shift: float, unit: float, height: float, trend: float
) -> None:
    score, size, lineage, cluster = simulated(seed, 0.8)
    plain = fit_of(score, size, lineage, cluster, n_resamples=99)
    moved = fit_of(
        unit * score + height + trend * size, size + shift, lineage, cluster, n_resamples=99
    )
    assert moved.sup_f == pytest.approx(plain.sup_f, rel=1e-5)
    assert moved.p_value == plain.p_value
    assert moved.slope.value == pytest.approx(unit * plain.slope.value + trend, abs=1e-7)
    if not math.isnan(plain.break_size.value):
        assert moved.break_size.value == pytest.approx(plain.break_size.value + shift, abs=1e-6)
        assert moved.slope_change.value == pytest.approx(unit * plain.slope_change.value, abs=1e-6)


def test_lineages_of_unequal_height_make_no_break() -> None:
    # Larger models happen to be of better lineages: pooled it bends, within lineages it is flat.
    random = rng(2)
    lineage = np.repeat(np.arange(10), 8)
    size = np.repeat(np.arange(10) * 0.5, 8) + np.tile(np.linspace(0, 1, 8), 10)
    score = np.maximum(lineage - 5, 0) * 3.0 + random.normal(size=80)
    cluster = np.arange(80) // 4
    pooled = fit_of(score, size, np.zeros(80, dtype=np.int64), cluster)
    within = fit_of(score, size, lineage, cluster)
    assert pooled.p_value <= 0.01
    assert within.p_value > 0.05
    assert "a straight line is not rejected" in within.break_size.method
    for estimate in (
        within.break_size,
        within.slope_below,
        within.slope_above,
        within.slope_change,
    ):
        assert math.isnan(estimate.value)
    assert within.slope.low < 0 < within.slope.high


def test_straight_lines_are_rejected_about_as_often_as_the_level_says() -> None:
    p_values = []
    for seed in range(80):
        random = rng(seed)
        cluster = np.repeat(np.arange(12), 5)
        lineage = cluster // 2
        size = random.normal(size=60)
        # founders differ and their residuals go together
        error = random.normal(size=12)[cluster] * 0.5 + random.normal(size=60) * 0.5
        score = lineage + size + error
        p_values.append(fit_of(score, size, lineage, cluster, n_resamples=99).p_value)
    assert np.mean(np.array(p_values) <= 0.05) <= 0.11
    assert np.mean(np.array(p_values) <= 0.5) == pytest.approx(0.5, abs=0.13)


def test_true_breaks_are_found_within_their_intervals() -> None:
    covered = []
    for seed in range(60):
        score, size, lineage, cluster = simulated(seed, 1.5, 120)
        fit = fit_of(score, size, lineage, cluster, n_resamples=99)
        assert fit.p_value <= 0.05
        covered.append(
            [
                fit.break_size.low <= 2.2 <= fit.break_size.high,
                fit.slope_below.low <= 0.2 <= fit.slope_below.high,
                fit.slope_above.low <= 1.7 <= fit.slope_above.high,
            ]
        )
    assert (np.mean(covered, axis=0) >= 0.85).all()


def test_exact_match_of_several_tokens_bends_though_the_ability_does_not() -> None:
    # Schaeffer et al. 2023: the known wrong answer. Per-token accuracy rises straight with size.
    random = rng(5)
    cluster = np.repeat(np.arange(15), 8)
    lineage = cluster // 3
    size = random.uniform(0, 4, 120)
    token = 0.15 + 0.2 * size + 0.02 * lineage + random.normal(size=120) * 0.02
    exact = np.clip(token, 0, 1) ** 6
    smooth = fit_of(token, size, lineage, cluster)
    bent = scaling_break(
        exact, size, lineage, cluster, thresholded=True, rng=rng(), n_resamples=999
    )
    assert smooth.p_value > 0.05
    assert "THRESHOLDED" not in smooth.slope.method
    assert bent.p_value <= 0.01
    assert bent.slope_above.low > bent.slope_below.high
    for estimate in (bent.slope, bent.break_size, bent.slope_change):
        assert "THE SCORE IS THRESHOLDED: a break is expected without any emergence" in (
            estimate.method
        )


def test_models_without_score_or_size_are_left_out() -> None:
    score, size, lineage, cluster = simulated(3, 1.2)
    score[4], size[17] = np.nan, np.nan
    keep = np.isfinite(score + size)
    some = fit_of(score, size, lineage, cluster)
    same = fit_of(score[keep], size[keep], lineage[keep], cluster[keep])
    assert some.break_size == same.break_size
    assert some.slope.n == 58


def reason_of(score: Floats, size: Floats, lineage: Ints, cluster: Ints) -> str:
    fit = fit_of(score, size, lineage, cluster)
    assert math.isnan(fit.p_value)
    assert math.isnan(fit.slope.value)
    assert math.isnan(fit.break_size.value)
    assert fit.profile.size == 0
    return fit.slope_change.method


def test_too_few_data_are_said_to_be_so() -> None:
    score, size, lineage, cluster = simulated(3, 1.2)
    one = np.zeros(60, dtype=np.int64)
    assert "5 independent groups, 6 needed" in reason_of(score, size, lineage, cluster % 5)
    assert "0 independent groups" in reason_of(score * np.nan, size, lineage, cluster)
    assert "no lineage has models of several sizes" in reason_of(
        score, lineage.astype(float), lineage, cluster
    )
    five = np.tile(np.arange(5.0), 12)
    assert "no size with 3 sizes and enough models" in reason_of(score, five, one, cluster)
    lopsided = np.where(np.arange(60) < 55, size * 0.001, size)
    assert "no size with 3 sizes and enough models" in reason_of(
        score, np.round(lopsided, 2), one, cluster
    )
    assert "on a straight line exactly" in reason_of(2 * size + 1, size, one, cluster)
    # twelve models, of which three of one lineage alone say anything
    few = np.arange(12)
    alone = np.where(few % 4 == 1, 99, few)
    assert "12 models for 10 lineages" in reason_of(score[few], few.astype(float), alone, few)


def test_bad_input_is_refused() -> None:
    score, size, lineage, cluster = simulated(3, 1.2)
    with pytest.raises(ValueError, match="one score, size, lineage and cluster"):
        fit_of(score[1:], size, lineage, cluster)
    for trim in (-0.1, 0.5):
        with pytest.raises(ValueError, match="trim must lie"):
            scaling_break(score, size, lineage, cluster, thresholded=False, rng=rng(), trim=trim)
