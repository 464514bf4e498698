"""Kaplan–Meier, log-rank and Cox against R's survival, against definitions, and by identities."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineage.evolution.time.cox import _count_below, cox
from lineage.evolution.time.survival import (
    Lifetimes,
    first_child,
    kaplan_meier,
    log_rank,
    median_survival,
    survival_at,
)
from lineage.graph import LineageGraph

Floats = NDArray[np.float64]
Z = 1.959963984540054


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def column(rows: list[dict[str, str]], name: str) -> Floats:
    return np.array([float(row[name]) for row in rows])


# R 4.2.2, survival 3.5-3: printed in survival/reference_R.txt beside the data.


def test_cox_of_the_rossi_recidivists_is_that_of_r(shared_data: Path) -> None:
    # coxph(Surv(week, arrest) ~ fin + age + race + wexp + mar + paro + prio), without educ
    rows = rows_of(shared_data / "statistics" / "survival" / "rossi.csv")
    flags = {"fin": "yes", "race": "other", "wexp": "yes", "mar": "not married", "paro": "yes"}
    covariates = {
        name: np.array([row[name] == flags[name] for row in rows], dtype=float)
        if name in flags
        else column(rows, name)
        for name in ("fin", "age", "race", "wexp", "mar", "paro", "prio")
    }
    lives = Lifetimes.of(column(rows, "week"), column(rows, "arrest"))
    fit = cox(lives, covariates)
    printed = [
        (-0.3794221665, 0.1913794807),
        (-0.0574377427, 0.0219994706),
        (-0.3138997878, 0.3079927766),
        (-0.1497956977, 0.2122242962),
        (0.4337038779, 0.3818680577),
        (-0.0848710825, 0.1957566719),
        (0.0914970810, 0.0286485500),
    ]
    # R stops once the likelihood gains less than 1e-9 of itself, hence not the last digit
    assert fit.log_ratio.tolist() == pytest.approx([beta for beta, _ in printed], abs=3e-9)
    errors = np.sqrt(np.diag(fit.covariance))
    assert errors.tolist() == pytest.approx([error for _, error in printed], abs=1e-9)
    assert fit.null_log_likelihood == pytest.approx(-675.380632, abs=5e-7)
    assert fit.log_likelihood == pytest.approx(-658.747659, abs=5e-7)
    prio = fit.hazard_ratios["prio"]
    assert prio.value == pytest.approx(1.095813578, abs=5e-9)
    assert prio.p_value == pytest.approx(0.00140424528, rel=1e-6)
    assert (prio.n, prio.n_clusters) == (432, None)
    assert fit.concordance.value == pytest.approx(0.640329247, abs=1e-9)
    assert (fit.concordance.high - fit.concordance.value) / Z == pytest.approx(
        0.0266581228, abs=1e-9
    )


def test_cox_of_late_entries_and_several_rows_a_patient_is_that_of_r(shared_data: Path) -> None:
    # coxph(Surv(start, stop, event) ~ age + year + surgery + transplant, heart)
    rows = rows_of(shared_data / "statistics" / "survival" / "heart_countingprocess.csv")
    lives = Lifetimes.of(column(rows, "stop"), column(rows, "event"), column(rows, "start"))
    names = ("age", "year", "surgery", "transplant")
    fit = cox(lives, {name: column(rows, name) for name in names})
    assert fit.log_ratio.tolist() == pytest.approx(
        [0.0271666410, -0.1463463457, -0.6372098900, -0.0102507724], abs=1e-9
    )
    assert np.sqrt(np.diag(fit.covariance)).tolist() == pytest.approx(
        [0.0137141152, 0.0704679795, 0.3672259962, 0.3137547983], abs=1e-9
    )
    assert fit.null_log_likelihood == pytest.approx(-298.121356, abs=5e-7)
    assert fit.log_likelihood == pytest.approx(-290.565616, abs=5e-7)
    p_values = [fit.hazard_ratios[name].p_value for name in names]
    assert p_values == pytest.approx([0.0475996254, 0.0378220587, 0.0827057041, 0.9739367230])


def lung(shared_data: Path) -> tuple[Lifetimes, Floats]:
    rows = rows_of(shared_data / "statistics" / "survival" / "lung.csv")
    return Lifetimes.of(column(rows, "time"), column(rows, "status") == 2), column(rows, "sex")


def test_kaplan_meier_of_the_lung_patients_is_that_of_r(shared_data: Path) -> None:
    lives, sex = lung(shared_data)
    ages = np.array([100.0, 365.0, 600.0])
    found = survival_at(lives, ages, np.arange(228))
    assert [e.value for e in found] == pytest.approx(
        [0.863968968, 0.409241624, 0.213587258], abs=5e-10
    )
    curve = kaplan_meier(lives)
    place = np.searchsorted(curve.time, ages, side="right") - 1
    printed = [0.0227102304, 0.0358236382, 0.0334803292]
    assert curve.std_error[place].tolist() == pytest.approx(printed, abs=5e-11)
    # each patient a cluster: the jackknife is Greenwood's
    for k, e in enumerate(found):
        assert math.log(e.high / e.value) * e.value / Z == pytest.approx(printed[k], abs=5e-10)
        assert e.low == pytest.approx(curve.low[place[k]], rel=1e-12)
    medians = [
        median_survival(lives.where(sex == k), np.arange(int((sex == k).sum()))) for k in (1, 2)
    ]
    assert [(m.value, m.low, m.high) for m in medians] == [(270, 212, 310), (426, 348, 550)]


def test_log_rank_of_the_lung_patients_is_that_of_r(shared_data: Path) -> None:
    lives, sex = lung(shared_data)
    test = log_rank(lives, sex)
    assert test.observed.tolist() == [112, 53]
    assert test.expected.tolist() == pytest.approx([91.582, 73.418], abs=5e-4)
    assert test.statistic == pytest.approx(10.327, abs=5e-4)
    assert (test.df, test.p_value) == (1, pytest.approx(0.00131, abs=5e-6))


def test_kaplan_meier_of_the_leukaemia_patients_is_that_of_r_down_to_zero(
    shared_data: Path,
) -> None:
    rows = rows_of(shared_data / "statistics" / "survival" / "aml.csv")
    arm = np.array([row["x"] == "Nonmaintained" for row in rows])
    lives = Lifetimes.of(column(rows, "time"), column(rows, "status"))
    curve = kaplan_meier(lives.where(arm))
    assert curve.time.tolist() == [5, 8, 12, 23, 27, 30, 33, 43, 45]
    assert curve.at_risk.tolist() == [12, 10, 8, 6, 5, 4, 3, 2, 1]
    assert curve.events.tolist() == [2, 2, 1, 1, 1, 1, 1, 1, 1]
    printed = {
        "survival": [0.833333, 0.666667, 0.583333, 0.486111, 0.388889, 0.291667, 0.194444],
        "std_error": [0.107583, 0.136083, 0.142319, 0.148130, 0.146986, 0.138715, 0.121875],
        "low": [0.647037, 0.446846, 0.361614, 0.267518, 0.185397, 0.114831, 0.056922],
        "high": [1.0, 0.99463, 0.94100, 0.88332, 0.81574, 0.74082, 0.66422],
    }
    for name, values in printed.items():
        assert getattr(curve, name)[:7].tolist() == pytest.approx(values, abs=6e-6), name
    assert curve.survival[-1] == 0
    assert math.isnan(curve.std_error[-1])
    maintained = kaplan_meier(lives.where(~arm))
    assert maintained.survival.tolist() == pytest.approx(
        [0.90909, 0.81818, 0.71591, 0.61364, 0.49091, 0.36818, 0.18409], abs=6e-6
    )
    assert maintained.low[-1] == pytest.approx(0.035918, abs=5e-7)


def test_statsmodels_agrees_on_breslow_and_efron_without_late_entries() -> None:
    from statsmodels.duration.hazard_regression import PHReg

    rng = np.random.default_rng(4)
    x = rng.normal(size=(150, 2))
    ages = np.ceil(rng.exponential(np.exp(-x[:, 0]) * 6))
    event = rng.random(150) < 0.7
    for ties in ("efron", "breslow"):
        other = PHReg(ages, x, event.astype(int), ties=ties).fit(disp=0)
        fit = cox(Lifetimes.of(ages, event), {"a": x[:, 0], "b": x[:, 1]}, ties=ties)
        assert fit.log_ratio.tolist() == pytest.approx(other.params.tolist(), abs=1e-7)
        assert fit.log_likelihood == pytest.approx(other.llf, abs=1e-8)


# -- oracles by the definition --------------------------------------------------------------------


def naive_partial(lives: Lifetimes, x: Floats, beta: Floats, ties: str, weights: Floats) -> float:
    """Log partial likelihood, risk set by risk set; whole numbers as weights repeat a row."""
    value = 0.0
    for t in sorted(set(lives.time[lives.event].tolist())):
        risk, dead, dead_x = 0.0, 0.0, []
        for i in range(len(lives)):
            share = weights[i] * math.exp(float(x[i] @ beta))
            if lives.entry[i] < t <= lives.time[i]:
                risk += share
                if lives.event[i] and lives.time[i] == t:
                    dead += share
                    dead_x += [x[i]] * int(weights[i])
        for k in range(len(dead_x)):
            shed = k / len(dead_x) if ties == "efron" else 0.0
            value += float(dead_x[k] @ beta) - math.log(risk - shed * dead)
    return value


def random_lives(seed: int, n: int = 25) -> tuple[Lifetimes, Floats]:
    rng = np.random.default_rng(seed)
    ages = rng.integers(1, 8, n).astype(float)  # many ties
    entry = np.where(rng.random(n) < 0.5, -np.inf, ages - rng.integers(1, 5, n))
    event = rng.random(n) < 0.7
    event[:4] = True
    return Lifetimes.of(ages, event, entry), rng.normal(size=(n, 2))


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("seed", range(5))
def test_cox_climbs_to_the_top_of_the_likelihood_as_defined(seed: int, ties: str) -> None:
    lives, x = random_lives(seed)
    fit = cox(lives, {"a": x[:, 0], "b": x[:, 1]}, ties=ties)
    once = np.ones(len(lives))
    top = naive_partial(lives, x, fit.log_ratio, ties, once)
    assert fit.log_likelihood == pytest.approx(top, abs=1e-9)
    step = 1e-4
    curvature = np.empty((2, 2))
    for a in range(2):
        for b in range(2):
            da, db = np.eye(2)[a] * step, np.eye(2)[b] * step

            def at(shift: Floats) -> float:
                return naive_partial(lives, x, fit.log_ratio + shift, ties, once)

            curvature[a, b] = -(at(da + db) - at(da - db) - at(db - da) + at(-da - db)) / (
                4 * step * step
            )
            slope = (at(da) - at(-da)) / (2 * step)
            assert slope == pytest.approx(0, abs=1e-6)
    assert fit.covariance.ravel() == pytest.approx(np.linalg.inv(curvature).ravel(), rel=1e-4)


def naive_score_residuals(lives: Lifetimes, x: Floats, beta: Floats, ties: str) -> Floats:
    """∫ (x_i − x̄(t)) dM_i(t), event by event; Efron's dead are at risk by what they have left."""
    residuals = np.zeros_like(x)
    hazard = np.exp(x @ beta)
    for t in sorted(set(lives.time[lives.event].tolist())):
        at_risk = (lives.entry < t) & (t <= lives.time)
        dead = lives.event & (lives.time == t)
        d = int(dead.sum())
        for k in range(d):
            left = at_risk - (k / d if ties == "efron" else 0.0) * dead
            total = float((left * hazard).sum())
            mean = (left * hazard) @ x / total
            residuals += (dead / d)[:, None] * (x - mean)
            residuals -= (left * hazard / total)[:, None] * (x - mean)
    return residuals


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_clustered_error_is_the_sandwich_of_score_residuals(ties: str) -> None:
    lives, x = random_lives(7, 40)
    cluster = np.arange(40) // 4
    fit = cox(lives, {"a": x[:, 0], "b": x[:, 1]}, cluster, ties=ties)
    residuals = naive_score_residuals(lives, x, fit.log_ratio, ties)
    assert residuals.sum(axis=0) == pytest.approx([0, 0], abs=1e-9)
    sums = np.array([residuals[cluster == g].sum(axis=0) for g in range(10)])
    sandwich = fit.covariance @ sums.T @ sums @ fit.covariance
    assert fit.robust_covariance.ravel() == pytest.approx(sandwich.ravel(), rel=1e-8)
    ratio = fit.hazard_ratios["a"]
    error = math.sqrt(sandwich[0, 0] * 10 / 9)
    assert math.log(ratio.high / ratio.value) == pytest.approx(2.262157163 * error, rel=1e-8)
    assert math.log(ratio.value / ratio.low) == pytest.approx(2.262157163 * error, rel=1e-8)
    assert ratio.n_clusters == 10
    from scipy.stats import t as student_t

    p_value = 2 * student_t.sf(abs(fit.log_ratio[0]) / error, 9)
    assert ratio.p_value == pytest.approx(p_value, rel=1e-8)


def test_copying_every_model_within_its_cluster_leaves_the_robust_interval_where_it_was() -> None:
    # Breslow's likelihood of doubled data is twice the likelihood: the naive error shrinks by √2.
    lives, x = random_lives(9, 60)
    cluster = np.arange(60) // 3
    twice = np.tile(np.arange(60), 2)
    once = cox(lives, {"a": x[:, 0]}, cluster, ties="breslow")
    doubled = cox(lives.where(twice), {"a": x[twice, 0]}, cluster[twice], ties="breslow")
    assert doubled.log_ratio[0] == pytest.approx(once.log_ratio[0], abs=1e-9)
    assert doubled.covariance[0, 0] == pytest.approx(once.covariance[0, 0] / 2, rel=1e-8)
    assert doubled.robust_covariance[0, 0] == pytest.approx(once.robust_covariance[0, 0], rel=1e-8)
    assert doubled.concordance.value == pytest.approx(once.concordance.value)
    assert doubled.concordance.high == pytest.approx(once.concordance.high)


@given(st.integers(0, 10_000))
def test_splitting_a_row_in_two_changes_nothing_in_cox_or_kaplan_meier(seed: int) -> None:
    lives, x = random_lives(seed)
    cut = np.where(np.isfinite(lives.entry), (lives.entry + lives.time) / 2, lives.time / 2)
    split = Lifetimes(
        np.concatenate([cut, lives.time]),
        np.concatenate([np.zeros(25, dtype=bool), lives.event]),
        np.concatenate([lives.entry, cut]),
    )
    cluster = np.arange(25)
    whole = cox(lives, {"a": x[:, 0]}, cluster)
    parts = cox(split, {"a": np.tile(x[:, 0], 2)}, np.tile(cluster, 2))
    assert parts.log_ratio[0] == pytest.approx(whole.log_ratio[0], abs=1e-7)
    assert parts.robust_covariance[0, 0] == pytest.approx(whole.robust_covariance[0, 0], rel=1e-6)
    assert parts.concordance.value == pytest.approx(whole.concordance.value)
    assert parts.concordance.low == pytest.approx(whole.concordance.low)
    assert kaplan_meier(split).survival.tolist() == pytest.approx(
        kaplan_meier(lives).survival.tolist()
    )
    ages = np.array([2.0, 4.5])
    for a, b in zip(
        survival_at(lives, ages, cluster),
        survival_at(split, ages, np.tile(cluster, 2)),
        strict=True,
    ):
        if not math.isnan(a.value):
            assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high))


def naive_concordance(lives: Lifetimes, risk: Floats) -> tuple[float, Floats]:
    n = len(lives)
    score, pairs = np.zeros((n, n)), np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            later = lives.time[j] > lives.time[i] or (
                lives.time[j] == lives.time[i] and not lives.event[j]
            )
            if i != j and lives.event[i] and lives.entry[j] < lives.time[i] and later:
                pairs[i, j] += 1
                apart = round(risk[i] - risk[j], 9)
                score[i, j] += 1.0 if apart > 0 else 0.5 if apart == 0 else 0.0
    value = score.sum() / pairs.sum()
    excess = score - value * pairs
    return float(value), (excess.sum(axis=0) + excess.sum(axis=1)) / pairs.sum()


@given(st.integers(0, 10_000))
def test_concordance_is_that_of_all_pairs(seed: int) -> None:
    lives, x = random_lives(seed)
    level = np.round(x[:, 0])  # ties of risk
    fit = cox(lives, {"a": level}, np.arange(25) // 3)
    value, influence = naive_concordance(lives, level * fit.log_ratio[0])
    assert fit.concordance.value == pytest.approx(value)
    sums = np.bincount(np.arange(25) // 3, weights=influence)
    reach = Z * math.sqrt(float(sums @ sums))
    assert fit.concordance.high == pytest.approx(min(value + reach, 1.0))
    assert fit.concordance.low == pytest.approx(max(value - reach, 0.0))


def naive_km(lives: Lifetimes, age: float, weights: Floats) -> float:
    survival = 1.0
    for t in sorted(set(lives.time[lives.event].tolist())):
        if t <= age:
            at_risk = weights[(lives.entry < t) & (t <= lives.time)].sum()
            survival *= 1 - weights[lives.event & (lives.time == t)].sum() / at_risk
    return survival


@given(st.integers(0, 10_000), st.sampled_from([1.0, 3.0, 4.5, 7.0]))
def test_curve_and_its_clustered_error_follow_from_weighing_the_models(
    seed: int, age: float
) -> None:
    lives, _ = random_lives(seed)
    cluster = np.random.default_rng(seed).integers(0, 6, 25)
    found = survival_at(lives, np.array([age]), cluster)[0]
    once = np.ones(25)
    survival = naive_km(lives, age, once)
    if survival <= 1e-12:
        assert math.isnan(found.value)
        assert "had a child" in found.method
        return
    assert found.value == pytest.approx(survival)
    # jackknife, infinitesimal: the derivative of log S by the weight of a whole cluster
    variance, step = 0.0, 1e-6
    for g in range(6):
        up, down = (naive_km(lives, age, once + s * step * (cluster == g)) for s in (1, -1))
        variance += ((math.log(up) - math.log(down)) / (2 * step)) ** 2
    assert math.log(found.value / found.low) == pytest.approx(Z * math.sqrt(variance), abs=1e-5)


@given(st.integers(0, 10_000))
def test_every_model_its_own_cluster_gives_greenwoods_error_if_none_enters_late(seed: int) -> None:
    lives, _ = random_lives(seed)
    lives = Lifetimes.of(lives.time, lives.event)
    curve = kaplan_meier(lives)
    for k, found in enumerate(survival_at(lives, curve.time, np.arange(25))):
        if curve.survival[k] > 0:
            assert found.low == pytest.approx(curve.low[k])
            assert found.high == pytest.approx(curve.high[k])


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_ranks_below_a_limit_are_counted_as_by_looking(seed: int, top: int) -> None:
    rng = np.random.default_rng(seed)
    ranks = rng.integers(0, top, 30)
    low = rng.integers(0, 31, 12)
    high = np.minimum(low + rng.integers(0, 31, 12), 30)
    limit = rng.integers(0, 45, 12)
    naive = [int((ranks[a:b] < c).sum()) for a, b, c in zip(low, high, limit, strict=True)]
    assert _count_below(ranks, low, high, limit).tolist() == naive


def test_related_models_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    cluster = np.repeat(np.arange(30), 20)
    ages = np.ceil(rng.exponential(50 * np.exp(rng.normal(size=30)))[cluster])
    lives = Lifetimes.of(ages, np.ones(600))
    related = survival_at(lives, np.array([40.0]), cluster)[0]
    alone = survival_at(lives, np.array([40.0]), np.arange(600))[0]
    assert related.value == alone.value
    assert related.high - related.low > 3 * (alone.high - alone.low)
    wide, narrow = (median_survival(lives, c) for c in (cluster, np.arange(600)))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_log_rank_is_the_score_test_of_cox_without_ties() -> None:
    rng = np.random.default_rng(6)
    ages, entry = rng.random(50) + 0.5, rng.random(50) * 0.5
    group = rng.integers(0, 2, 50)
    lives = Lifetimes.of(ages, rng.random(50) < 0.6, entry)
    score, variance = 0.0, 0.0
    for t in lives.time[lives.event]:
        at_risk = (entry < t) & (t <= ages)
        share = group[at_risk].mean()
        score += float(group[ages == t][0] - share)
        variance += share * (1 - share)
    test = log_rank(lives, group)
    assert test.statistic == pytest.approx(score**2 / variance)
    three = log_rank(lives, np.where(np.arange(50) < 20, 2, group))
    assert three.df == 2
    assert three.observed.sum() == pytest.approx(three.expected.sum())


def test_groups_that_make_a_difference_are_told_in_print_of_three_arms() -> None:
    # By hand, all at risk from 0: a dies at 1, b at 2, c censored: E = 1/3+0, 1/3+1/2, 1/3+1/2.
    lives = Lifetimes.of(np.array([1.0, 2.0, 3.0]), np.array([1, 1, 0]))
    test = log_rank(lives, np.array(["a", "b", "c"]))
    assert test.expected.tolist() == pytest.approx([1 / 3, 5 / 6, 5 / 6])


# -- left truncation and bad input ----------------------------------------------------------------


def test_late_entry_is_not_life_before_entry() -> None:
    rng = np.random.default_rng(1)
    ages = rng.exponential(100, 20_000)
    entry = rng.uniform(0, 150, 20_000)
    seen = entry < ages  # those with an early child are never seen
    lives = Lifetimes.of(ages[seen], np.ones(int(seen.sum())), entry[seen])
    blind = Lifetimes.of(ages[seen], np.ones(int(seen.sum())))
    truth = math.exp(-1)
    found, wrong = (survival_at(x, np.array([100.0]), np.arange(len(x)))[0] for x in (lives, blind))
    # conditional on the first entries, which are near 0
    assert found.value == pytest.approx(truth, abs=0.03)
    assert wrong.value > truth + 0.1


def test_a_risk_set_that_empties_early_is_said_to() -> None:
    lives = Lifetimes.of(np.array([1.0, 5.0, 6.0, 7.0]), np.ones(4), np.array([0.0, 2.0, 2.0, 2.0]))
    assert kaplan_meier(lives).survival.tolist() == [0, 0, 0, 0]
    found = survival_at(lives, np.array([0.5, 6.0]), np.arange(4))
    assert (found[0].value, found[0].low, found[0].high) == (1, 1, 1)
    assert "all at risk at 1 d had a child" in found[1].method


def graph_of_five() -> tuple[LineageGraph, Floats]:
    edges = [
        ("b", "a", 1.0, 0),
        ("c", "a", 1.0, 0),
        ("d", "b", 0.5, 0),
        ("d", "c", 0.5, 1),
        ("e", "d", 1.0, 0),
    ]
    graph = LineageGraph.from_edges(["a", "b", "c", "d", "e"], edges)
    return graph, np.array([0.0, 10.0, 4.0, 30.0, 25.0])  # e is dated before its parent


def test_first_children_are_dated_from_the_pedigree() -> None:
    graph, born = graph_of_five()
    lives = first_child(graph, born, 100.0)
    assert lives.time.tolist() == [4, 20, 26, 70, 75]
    assert lives.event.tolist() == [True, True, True, False, False]
    assert (lives.entry == -np.inf).all()


def test_watching_ends_with_the_end_of_time_or_the_model() -> None:
    graph, born = graph_of_five()
    gone = np.array([np.nan, 15.0, 400.0, np.nan, np.nan])
    lives = first_child(graph, born, 29.0, gone_day=gone)
    assert lives.time[:3].tolist() == [4, 5, 25]
    assert lives.event.tolist() == [True, False, False, False, False]
    assert math.isnan(lives.time[3])  # not born yet


def test_models_older_than_the_watch_enter_late_or_not_at_all() -> None:
    graph, born = graph_of_five()
    lives = first_child(graph, born, 100.0, watched_from=12.0)
    assert math.isnan(lives.time[0])  # its child came before anyone watched
    assert not lives.event[0]
    assert lives.entry.tolist() == [-np.inf, 2, 8, -np.inf, -np.inf]
    assert lives.time[1:].tolist() == [20, 26, 70, 75]


def test_a_child_on_the_last_day_counts_and_one_on_the_first_day_of_the_watch_does_not() -> None:
    graph, born = graph_of_five()
    assert first_child(graph, born, 30.0).event.tolist()[:3] == [True, True, True]
    lives = first_child(graph, born, 100.0, watched_from=4.0)
    assert math.isnan(lives.time[0])
    assert first_child(graph, born, 100.0, watched_from=3.9).time[0] == 4


def test_models_of_unknown_birth_are_left_out_and_their_children_unseen() -> None:
    graph, born = graph_of_five()
    born[2] = np.nan
    lives = first_child(graph, born, 100.0)
    assert math.isnan(lives.time[2])
    assert lives.time[0] == 10
    curve = kaplan_meier(lives)
    assert curve.n == 4
    assert survival_at(lives, np.array([15.0]), np.arange(5))[0].value == pytest.approx(0.75)


def test_a_child_on_the_day_of_birth_counts() -> None:
    graph, _ = graph_of_five()
    lives = first_child(graph, np.zeros(5), 10.0)
    assert kaplan_meier(lives).survival.tolist() == pytest.approx([0.2])


def test_the_median_is_untrusted_or_unbounded_where_the_curve_does_not_reach() -> None:
    lives = Lifetimes.of(np.arange(1.0, 11), np.arange(10) < 4)
    assert "stayed childless" in median_survival(lives, np.arange(10)).method
    lives = Lifetimes.of(np.arange(1.0, 11), np.arange(10) < 6)
    assert median_survival(lives, np.arange(10)).high == math.inf
    # exactly half at 5: the middle of the step to 6
    assert median_survival(lives, np.arange(10)).value == 5.5
    at_once = Lifetimes.of(np.ones(5), np.ones(5))
    assert median_survival(at_once, np.arange(5)).value == 1


def test_curves_are_untrusted_with_few_founders_and_beyond_the_last_age() -> None:
    lives = Lifetimes.of(np.arange(1.0, 11), np.arange(10) < 4)
    few = survival_at(lives, np.array([3.0]), np.arange(10) % 2)[0]
    assert "2 independent groups, 3 needed" in few.method
    assert "2 independent groups, 3 needed" in median_survival(lives, np.arange(10) % 2).method
    beyond = survival_at(lives, np.array([10.0, 11.0]), np.arange(10))
    assert beyond[0].value == pytest.approx(0.6)
    assert math.isnan(beyond[1].value)
    assert "nobody was watched beyond 10 d" in beyond[1].method


def cox_reason(lives: Lifetimes, covariates: dict[str, Floats], cluster: object = None) -> str:
    fit = cox(lives, covariates, cluster)
    assert np.isnan(fit.log_ratio).all()
    assert np.isnan(fit.robust_covariance).all()
    assert math.isnan(fit.log_likelihood)
    assert {math.isnan(e.value) for e in fit.hazard_ratios.values()} == {True}
    return fit.concordance.method


def test_cox_says_why_it_cannot_be_trusted() -> None:
    lives, x = random_lives(3)
    a = x[:, 0]
    assert "does not vary" in cox_reason(lives, {"a": np.ones(25)})
    assert "repeat each other" in cox_reason(lives, {"a": a, "b": 1 - 3 * a})
    assert "2 independent groups" in cox_reason(lives, {"a": a}, np.arange(25) % 2)
    assert "0 events for 1" in cox_reason(lives, {"a": a * np.nan})
    childless = Lifetimes(lives.time, np.zeros(25, dtype=bool), lives.entry)
    assert "0 events for 1" in cox_reason(childless, {"a": a})
    ages = np.arange(1.0, 21)
    apart = Lifetimes.of(ages, np.ones(20))
    assert "separates" in cox_reason(apart, {"a": -ages})
    half = Lifetimes.of(np.ones(20), np.arange(20) < 10)
    assert "separates" in cox_reason(half, {"a": (np.arange(20) < 10).astype(float)})


def test_three_founders_are_enough_for_an_interval() -> None:
    lives, x = random_lives(3)
    fit = cox(lives, {"a": x[:, 0]}, np.arange(25) % 3)
    assert fit.hazard_ratios["a"].n_clusters == 3
    assert fit.hazard_ratios["a"].low < fit.hazard_ratios["a"].high
    assert survival_at(lives, np.array([2.0]), np.arange(25) % 3)[0].n_clusters == 3
    assert not math.isnan(median_survival(lives, np.arange(25) % 3).value)


def test_rows_of_unknown_covariate_are_left_out() -> None:
    lives, x = random_lives(3)
    a = x[:, 0].copy()
    a[5:8] = np.nan
    keep = np.isfinite(a)
    some = cox(lives, {"a": a}, np.arange(25))
    same = cox(lives.where(keep), {"a": a[keep]}, np.arange(25)[keep])
    assert some.hazard_ratios["a"] == same.hazard_ratios["a"]
    assert some.hazard_ratios["a"].n == 22


def test_large_and_shifted_covariates_do_not_upset_the_fit() -> None:
    lives, x = random_lives(3, 60)
    plain = cox(lives, {"a": x[:, 0]})
    shifted = cox(lives, {"a": 1e6 + 1e3 * x[:, 0]})
    assert shifted.log_ratio[0] * 1e3 == pytest.approx(plain.log_ratio[0], rel=1e-6)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="lie before its time"):
        Lifetimes.of(np.array([1.0]), np.array([1]), np.array([1.0]))
    with pytest.raises(ValueError, match="lie before its time"):
        Lifetimes.of(np.array([1.0]), np.array([1]), np.array([np.nan]))
    with pytest.raises(ValueError, match="one time, one event"):
        Lifetimes.of(np.array([1.0]), np.array([1, 0]))
    nobody = Lifetimes.of(np.array([np.nan]), np.array([0]))
    with pytest.raises(ValueError, match="no model has a known time"):
        kaplan_meier(nobody)
    lives, x = random_lives(0)
    with pytest.raises(ValueError, match="at least one covariate"):
        cox(lives, {})
    with pytest.raises(ValueError, match="25 rows"):
        cox(lives, {"a": x[1:, 0]})
    with pytest.raises(ValueError, match="25 rows"):
        cox(lives, {"a": x[:, 0]}, np.arange(3))
    with pytest.raises(ValueError, match="25 models, 3 clusters"):
        survival_at(lives, np.array([1.0]), np.arange(3))
    with pytest.raises(ValueError, match="25 models, 3 clusters"):
        median_survival(lives, np.arange(3))
    with pytest.raises(ValueError, match="25 models, 3 labels"):
        log_rank(lives, np.arange(3))
    with pytest.raises(ValueError, match="two groups"):
        log_rank(lives, np.zeros(25))


@pytest.mark.slow
def test_a_million_models_are_fitted_within_a_minute() -> None:
    rng = np.random.default_rng(0)
    n = 1_000_000
    x = rng.normal(size=(n, 3))
    ages = rng.exponential(300 * np.exp(-0.5 * x[:, 0]))
    entry = rng.uniform(-50, 50, n)
    seen = entry < ages
    until = rng.uniform(60, 600, n)
    watched = seen & (entry < until)
    lives = Lifetimes.of(np.minimum(ages, until)[watched], (ages <= until)[watched], entry[watched])
    began = time.process_time()
    fit = cox(lives, {f"x{k}": x[watched, k] for k in range(3)}, np.arange(len(lives)) // 3)
    survival_at(lives, np.array([30.0, 100.0]), np.arange(len(lives)) // 3)
    assert time.process_time() - began < 60
    assert fit.log_ratio.tolist() == pytest.approx([0.5, 0, 0], abs=0.01)
