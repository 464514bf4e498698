"""Births by age and month, lineages through time, reproduction numbers: oracles and prints."""

from __future__ import annotations

import csv
import gzip
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineage.evolution.selection.fitness import Fitness, children_within
from lineage.evolution.time.birth_rates import birth_rates
from lineage.evolution.time.lineages import lineages_through_time
from lineage.evolution.time.person_time import PersonTime, person_time
from lineage.evolution.time.reproduction import (
    cohort_reproduction,
    generation_interval,
    infectiousness,
    instantaneous_reproduction,
    reproduction_posterior,
)
from lineage.graph import LineageGraph

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def month_of(day: float) -> int:
    return int(np.datetime64(math.floor(day), "D").astype("datetime64[M]").astype(int))


def naive_split(
    born: list[float],
    exits: list[float],
    entry: list[float],
    births: list[tuple[int, float]],
    cuts: list[float],
    unit: list[int],
) -> tuple[dict[tuple[int, int, int], float], dict[tuple[int, int, int], int]]:
    """Quarter-day by quarter-day: dates in quarters make it exact."""
    days: dict[tuple[int, int, int], float] = {}
    count: dict[tuple[int, int, int], int] = {}
    step = 0.25
    for i in range(len(born)):
        if math.isnan(born[i]) or math.isnan(exits[i]):
            continue
        instant = max(born[i], entry[i])
        while instant < exits[i]:
            band = sum(instant - born[i] >= cut for cut in cuts)
            cell = (unit[i], band, month_of(instant))
            days[cell] = days.get(cell, 0.0) + step
            instant += step
        for parent, day in births:
            if parent == i and max(born[i], entry[i]) <= day < exits[i]:
                cell = (unit[i], sum(day - born[i] >= cut for cut in cuts), month_of(day))
                count[cell] = count.get(cell, 0) + 1
    return days, count


quarters = st.integers(-400, 1200).map(lambda k: k / 4)


@given(
    st.lists(
        st.tuples(quarters, st.integers(0, 600), st.integers(-40, 200), st.integers(0, 2)),
        min_size=1,
        max_size=6,
    ),
    st.lists(st.tuples(st.integers(0, 5), quarters), max_size=12),
    st.sampled_from([[], [7.0], [0.25, 30.0, 90.0]]),
)
def test_time_is_split_as_by_walking_through_every_quarter_of_a_day(
    models: list[tuple[float, int, int, int]], births: list[tuple[int, float]], cuts: list[float]
) -> None:
    born = [m[0] for m in models]
    exits = [m[0] + m[1] / 4 for m in models]
    entry = [m[0] + m[2] / 4 for m in models]
    unit = [m[3] for m in models]
    births = [(p % len(models), d) for p, d in births]
    split = person_time(
        np.array(born),
        np.array(exits),
        np.array([p for p, _ in births], dtype=np.int64),
        np.array([d for _, d in births]),
        age_cuts=cuts,
        entry_day=np.array(entry),
        unit=np.array(unit),
    )
    days, count = naive_split(born, exits, entry, births, cuts, unit)
    cells = list(
        zip(split.unit.tolist(), split.age_band.tolist(), split.month.tolist(), strict=True)
    )
    assert cells == sorted(days)
    assert dict(zip(cells, split.days.tolist(), strict=True)) == pytest.approx(days)
    found = {c: b for c, b in zip(cells, split.births.tolist(), strict=True) if b}
    assert found == count
    assert split.births.sum() + split.n_left_out == len(births)


@given(st.integers(0, 10_000))
def test_no_birth_falls_outside_its_time_however_days_are_rounded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    born = rng.uniform(15_000, 20_000, 50)
    cuts = np.sort(rng.uniform(0.1, 400, 4))
    parent = rng.integers(0, 50, 200)
    # births exactly on the cuts, where rounding decides the band
    day = born[parent] + rng.choice(np.append(cuts, 0.0), 200)
    split = person_time(born, np.full(50, 21_000.0), parent, day, age_cuts=cuts)
    assert split.births.sum() == 200
    assert split.n_left_out == 0
    assert split.days.sum() == pytest.approx((21_000 - born).sum())
    assert (split.days > 0).all()


def test_models_without_dates_have_no_time_and_their_births_are_counted_as_left_out() -> None:
    born, exits = np.array([0.0, np.nan, 50.0]), np.array([100.0, 100.0, 40.0])
    split = person_time(
        born,
        exits,
        np.array([0, 1, 2, 0, 0, 0]),
        np.array([10.0, 10.0, 10.0, np.nan, -1.0, 100.0]),
    )
    assert split.unit.tolist() == [0] * split.unit.size
    assert split.days.sum() == 100
    assert split.births.sum() == 1
    assert split.n_left_out == 5
    nobody = person_time(born[1:2], exits[1:2], np.array([0]), np.array([5.0]))
    assert nobody.days.size == 0
    assert nobody.n_left_out == 1


def test_an_unknown_entry_means_from_birth_on() -> None:
    none = np.empty(0, dtype=np.int64)
    split = person_time(
        np.array([10.0]), np.array([20.0]), none, np.empty(0), entry_day=np.array([np.nan])
    )
    assert split.days.sum() == 10


def test_splitting_refuses_bad_input() -> None:
    one, none = np.array([1.0]), np.empty(0, dtype=np.int64)
    with pytest.raises(ValueError, match="one birth, one exit"):
        person_time(one, np.array([1.0, 2.0]), none, np.empty(0))
    with pytest.raises(ValueError, match="one parent and one day"):
        person_time(one, one, none, one)
    for cuts in ([0.0], [5.0, 5.0], [-1.0]):
        with pytest.raises(ValueError, match="ages must increase"):
            person_time(one, one, none, np.empty(0), age_cuts=cuts)
    for parent in (-1, 1):
        with pytest.raises(ValueError, match="indices of models"):
            person_time(one, one + 1, np.array([parent]), one)


@pytest.mark.slow
def test_a_million_models_are_split_and_fitted_within_two_minutes() -> None:
    rng = np.random.default_rng(5)
    n = 1_000_000
    born = 19_000 + 900 * np.sqrt(rng.random(n))
    founder, large = rng.integers(0, n // 3, n), rng.integers(0, 2, n)
    pairs, unit = np.unique(founder * 2 + large, return_inverse=True)
    parent = rng.choice(n, 800_000, p=(1 + large) / (1 + large).sum())
    day = born[parent] + rng.exponential(90, parent.size)
    began = time.process_time()
    split = person_time(born, np.full(n, 20_000.0), parent, day, unit=unit)
    fit = birth_rates(split, pairs // 2, {"large": (pairs % 2).astype(np.int64)})
    assert time.process_time() - began < 120
    assert split.days.sum() == pytest.approx((20_000 - born).sum())
    found = fit.ratios["large=1"] if "large=1" in fit.ratios else fit.ratios["large=0"]
    truth = 2.0 if "large=1" in fit.ratios else 0.5
    assert found.low < truth < found.high
    assert found.n_clusters is not None
    assert found.n_clusters > 300_000


# -- rates ----------------------------------------------------------------------------------------

# Doll & Hill (1966), British doctors: deaths and person-years by age band, smokers first.
DEATHS = np.array([32, 104, 206, 186, 102, 2, 12, 28, 28, 31])
YEARS = np.array([52407, 43248, 28612, 12663, 5317, 18790, 10673, 5710, 2585, 1462], dtype=float)


def doctors() -> tuple[PersonTime, Ints]:
    cells = np.arange(10)
    time_at_risk = PersonTime(
        cells, cells % 5, np.zeros(10, dtype=np.int64), YEARS, DEATHS, (1.0, 2.0, 3.0, 4.0), 0
    )
    return time_at_risk, (cells < 5).astype(np.int64)


def test_rate_ratios_of_the_british_doctors_are_those_that_stata_prints() -> None:
    # stata.com/features/overview/poisson-regression: poisson deaths smokes i.agecat,
    # exposure(pyears) irr; IRR 1.425519 (.1530638), 4.410584 13.8392 28.51678 40.45121,
    # log likelihood −33.600153. There the youngest are the reference, as here (most time).
    split, smokes = doctors()
    fit = birth_rates(split, np.arange(10), {"smokes": smokes})
    ratio = fit.ratios["smokes=0"]  # smokers have most time
    assert 1 / ratio.value == pytest.approx(1.425519, abs=5e-7)
    assert fit.poisson_error["smokes=0"] * 1.425519 == pytest.approx(0.1530638, abs=5e-7)
    printed = {
        "age 1–2 d": (4.410584, 0.8605197),
        "age 2–3 d": (13.8392, 2.542638),
        "age 3–4 d": (28.51678, 5.269878),
        "age from 4 d": (40.45121, 7.775511),
    }
    for term, (value, error) in printed.items():
        assert fit.ratios[term].value == pytest.approx(value, rel=2e-6)
        assert fit.poisson_error[term] * value == pytest.approx(error, rel=2e-6)
    assert fit.rate.value == pytest.approx(0.0003636 * 1.425519, rel=2e-4)
    assert fit.log_likelihood == pytest.approx(-33.600153, abs=5e-7)
    assert fit.reference.startswith("against age 0–1 d, month 1970-01, smokes=1")
    # Pearson X² over df = 11.155/4 (computed by hand from the printed fit): over-dispersed
    assert fit.dispersion.value == pytest.approx(naive_pearson(fit.log_likelihood), rel=1e-4)
    assert fit.dispersion.p_value is not None
    assert fit.dispersion.p_value < 0.05


def naive_pearson(log_likelihood: float) -> float:
    """X²/4 from the coefficients that Stata prints."""
    age = np.array([1, 4.410584, 13.8392, 28.51678, 40.45121])
    mean = 0.0003636 * YEARS * np.tile(age, 2) * np.repeat([1.425519, 1], 5)
    mean *= DEATHS.sum() / mean.sum()  # the constant is printed to four digits only
    poisson = (DEATHS * np.log(mean) - mean).sum() - sum(math.lgamma(k + 1) for k in DEATHS)
    assert poisson == pytest.approx(log_likelihood, abs=1e-4)
    return float(((DEATHS - mean) ** 2 / mean).sum() / 4)


def simulated(seed: int, n_units: int = 40) -> tuple[PersonTime, Ints, Ints, Floats]:
    rng = np.random.default_rng(seed)
    unit, band, month = (a.ravel() for a in np.meshgrid(range(n_units), range(2), range(3)))
    days = rng.uniform(50, 200, unit.size)
    kind, size = rng.integers(0, 3, n_units), rng.normal(size=n_units)
    rate = 0.02 * np.exp(0.4 * kind + 0.3 * size)[unit] * np.exp(-0.5 * band + 0.1 * month)
    split = PersonTime(unit, band, month, days, rng.poisson(rate * days), (30.0,), 0)
    return split, kind, rng.integers(0, 12, n_units), size


@pytest.mark.parametrize("seed", range(4))
def test_collapsing_cells_changes_neither_ratios_nor_clustered_errors(seed: int) -> None:
    # The whole table, uncollapsed, through statsmodels' own cluster sandwich.
    import statsmodels.api as sm

    split, kind, founder, size = simulated(seed)
    fit = birth_rates(split, founder, {"kind": kind, "size": size})
    terms = list(fit.ratios)
    columns = [np.ones(split.days.size)]
    for term in terms:
        if term == "size":
            columns.append(size[split.unit])
        elif term.startswith("kind="):
            columns.append((kind[split.unit] == int(term[5:])).astype(float))
        elif term.startswith("month "):
            columns.append(
                (split.month == month_of(float(np.datetime64(term[6:], "D").astype(int)))) * 1.0
            )
        else:
            columns.append((split.age_band == (0 if term.startswith("age 0") else 1)) * 1.0)
    result = sm.GLM(
        split.births,
        np.column_stack(columns),
        family=sm.families.Poisson(),
        offset=np.log(split.days),
    ).fit(
        cov_type="cluster",
        cov_kwds={"groups": founder[split.unit], "use_correction": False},
        tol=1e-12,
    )
    found = [fit.rate, *fit.ratios.values()]
    assert [math.log(e.value) for e in found] == pytest.approx(result.params.tolist(), abs=1e-8)
    n = np.unique(founder).size
    errors = [float(e.method.rpartition("SE of the log ")[2]) for e in found]
    assert errors == pytest.approx((result.bse * math.sqrt(n / (n - 1))).tolist(), rel=1e-3)
    from scipy.stats import t as student_t

    reach = student_t.ppf(0.975, n - 1) * result.bse * math.sqrt(n / (n - 1))
    assert [math.log(e.high / e.value) for e in found] == pytest.approx(reach.tolist(), rel=1e-6)
    assert [math.log(e.value / e.low) for e in found] == pytest.approx(reach.tolist(), rel=1e-6)
    statistic = result.params[1] / (result.bse[1] * math.sqrt(n / (n - 1)))
    assert found[1].p_value == pytest.approx(2 * student_t.sf(abs(statistic), n - 1), rel=1e-6)
    assert {(e.n, e.n_clusters) for e in found} == {(int(split.births.sum()), n)}


def test_true_rate_ratios_lie_within_their_intervals() -> None:
    covered = []
    for seed in range(60):
        split, kind, founder, size = simulated(seed)
        fit = birth_rates(split, founder, {"kind": kind, "size": size})
        ratio = fit.ratios["size"]
        covered.append(math.log(ratio.low) <= 0.3 <= math.log(ratio.high))
    assert 0.85 <= np.mean(covered) <= 1


def test_founders_of_unequal_luck_show_as_overdispersion_and_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    n, founders = 2000, 200
    founder = np.arange(n) % founders
    trait = (founder % 2).astype(np.int64)
    luck = rng.gamma(1.0, 1.0, founders)[founder]  # α = 1
    cells = np.arange(n)
    zero = np.zeros(n, dtype=np.int64)
    births = rng.poisson(2.0 * luck)
    split = PersonTime(cells, zero, zero, np.full(n, 100.0), births, (), 0)
    fit = birth_rates(split, founder, {"trait": trait})
    assert fit.overdispersion.low < 1 < fit.overdispersion.high
    assert fit.overdispersion.p_value is not None
    assert fit.overdispersion.p_value < 1e-3
    error = float(next(iter(fit.ratios.values())).method.rpartition(" ")[2])
    assert error > 3 * next(iter(fit.poisson_error.values()))

    even = PersonTime(cells, zero, zero, np.full(n, 100.0), rng.poisson(2.0, n), (), 0)
    calm = birth_rates(even, founder, {"trait": trait}).overdispersion
    assert calm.low < 0 < calm.high


def test_overdispersion_is_that_of_the_auxiliary_regression() -> None:
    import statsmodels.api as sm

    split, kind, founder, _ = simulated(1)
    fit = birth_rates(split, founder, {"kind": kind}, by_month=False)
    rate = fit.rate.value * np.ones(split.days.size)
    for term, ratio in fit.ratios.items():
        if term.startswith("kind="):
            rate[kind[split.unit] == int(term[5:])] *= ratio.value
        else:
            rate[split.age_band == (0 if term.startswith("age 0") else 1)] *= ratio.value
    group = founder[split.unit]
    births = np.bincount(group, weights=split.births)
    mean = np.bincount(group, weights=rate * split.days)
    result = sm.OLS(((births - mean) ** 2 - births) / mean, mean).fit(cov_type="HC0")
    assert fit.overdispersion.value == pytest.approx(float(result.params[0]), rel=1e-6)
    reach = 1.959963984540054 * float(result.bse[0])
    assert fit.overdispersion.high - fit.overdispersion.value == pytest.approx(reach, rel=1e-6)


def test_months_and_categories_without_births_are_named_and_leave_the_rest_alone() -> None:
    split, kind, founder, _size = simulated(2)
    whole = birth_rates(split, founder, {"kind": kind})
    more = PersonTime(
        np.append(split.unit, [0, 40]),
        np.append(split.age_band, [0, 0]),
        np.append(split.month, [7, 0]),
        np.append(split.days, [80.0, 90.0]),
        np.append(split.births, [0, 0]),
        split.age_cuts,
        0,
    )
    fit = birth_rates(more, np.append(founder, 99), {"kind": np.append(kind, 5)})
    assert "no births in month 1970-08: left out; no births in kind=5: left out" in fit.reference
    assert list(fit.ratios) == list(whole.ratios)
    for term, ratio in fit.ratios.items():
        assert ratio.value == pytest.approx(whole.ratios[term].value, rel=1e-9)
        assert ratio.low == pytest.approx(whole.ratios[term].low, rel=1e-9)


@pytest.mark.parametrize("missing", [np.nan, -1])
def test_units_of_unknown_trait_are_left_out_and_said_to_be(missing: float) -> None:
    split, kind, founder, size = simulated(2)
    values: NDArray[np.generic] = size.copy() if math.isnan(missing) else kind.copy()
    values[:5] = missing
    fit = birth_rates(split, founder, {"trait": values})
    kept = split.unit >= 5
    fewer = PersonTime(
        *(getattr(split, name)[kept] for name in ("unit", "age_band", "month", "days", "births")),
        split.age_cuts,
        0,
    )
    same = birth_rates(fewer, founder, {"trait": np.where(np.arange(40) < 5, 0, values)})
    assert f"{split.days[~kept].sum():.0f} model-days of unknown trait left out" in fit.reference
    for term, ratio in fit.ratios.items():
        assert ratio.value == pytest.approx(same.ratios[term].value, rel=1e-9)


def test_text_serves_as_a_category() -> None:
    split, kind, founder, _ = simulated(2)
    named = birth_rates(split, founder, {"kind": np.array(["gguf", "lora", "merge"])[kind]})
    coded = birth_rates(split, founder, {"kind": kind})
    assert [e.value for e in named.ratios.values()] == pytest.approx(
        [e.value for e in coded.ratios.values()]
    )
    assert any(term in named.ratios for term in ("kind=lora", "kind=gguf"))


def untrustworthy_rates() -> list[tuple[PersonTime, Ints, dict[str, NDArray[np.generic]], str]]:
    split, _kind, founder, size = simulated(2)
    silent = PersonTime(
        split.unit, split.age_band, split.month, split.days, split.births * 0, (30.0,), 0
    )
    few = np.zeros_like(split.births)
    few[:3] = 1
    scarce = PersonTime(split.unit, split.age_band, split.month, split.days, few, (30.0,), 0)
    return [
        (split, founder * 0, {}, "1 independent groups, 3 needed"),
        (silent, founder, {}, "0 independent groups, 3 needed"),
        (scarce, founder, {"size": size}, "3 births of 11 independent groups for 4 terms"),
        (split, founder % 5, {"size": size}, "of 5 independent groups for 5 terms"),
        (split, founder, {"flat": np.ones(40)}, "cannot be told apart"),
        (split, founder, {"size": size, "again": 2 * size + 1}, "cannot be told apart"),
        (split, founder, {"size": size * np.nan}, "0 independent groups, 3 needed"),
    ]


@pytest.mark.parametrize("case", range(7))
def test_rates_that_cannot_be_trusted_are_nan_with_the_reason(case: int) -> None:
    split, founder, traits, reason = untrustworthy_rates()[case]
    fit = birth_rates(split, founder, traits)
    for estimate in (fit.rate, *fit.ratios.values()):
        assert math.isnan(estimate.value)
        assert reason in estimate.method
    assert math.isnan(fit.log_likelihood)


def test_a_saturated_table_has_no_dispersion_to_measure() -> None:
    cells = np.arange(4)
    split = PersonTime(cells, cells * 0, cells * 0, np.full(4, 9.0), np.array([5, 6, 7, 8]), (), 0)
    fit = birth_rates(split, cells, {"kind": cells % 2})
    assert fit.ratios["kind=1"].value == pytest.approx(14 / 12)
    assert math.isnan(fit.dispersion.value)
    assert "as many terms as cells" in fit.dispersion.method


def test_rates_refuse_bad_input() -> None:
    split, kind, founder, _ = simulated(2)
    with pytest.raises(ValueError, match="cluster: 40 units, 39 values given"):
        birth_rates(split, founder[:-1])
    with pytest.raises(ValueError, match="kind: 40 units"):
        birth_rates(split, founder, {"kind": kind[:-1]})
    none = np.empty(0, dtype=np.int64)
    with pytest.raises(ValueError, match="no time at risk"):
        birth_rates(PersonTime(none, none, none, np.empty(0), none, (), 0), none)


def test_too_many_distinct_cells_are_refused_before_memory_runs_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lineage.evolution.time.birth_rates._MAX_DESIGN", 100)
    split, _, founder, size = simulated(2)
    with pytest.raises(ValueError, match="give traits in bands"):
        birth_rates(split, founder, {"size": size})


def test_every_edge_of_the_real_register_is_counted_or_said_to_be_left_out(
    shared_data: Path,
) -> None:
    with gzip.open(shared_data / "radar" / "models.jsonl.gz", "rt") as lines:
        models = [json.loads(line) for line in lines]
    ids = [model["id"] for model in models]
    known = set(ids)
    with gzip.open(shared_data / "radar" / "edges_from_tags.csv.gz", "rt") as lines:
        pairs = {(row["child"], row["parent"]) for row in csv.DictReader(lines)}
    edges = [(c, p, None, 0) for c, p in sorted(pairs) if c != p and {c, p} <= known]
    graph = LineageGraph.from_edges(ids, edges)
    seconds = np.array([model["created_at"][:19] for model in models], dtype="datetime64[s]")
    born = seconds.astype(float) / 86_400
    until = math.floor(born.max())
    split = person_time(born, np.full(len(ids), until), graph.parent_index, born[graph.edge_child])
    age = born[graph.edge_child] - born[graph.parent_index]
    assert split.births.sum() == ((age >= 0) & (born[graph.edge_child] < until)).sum()
    assert split.births.sum() + split.n_left_out == len(edges)
    assert split.days.sum() == pytest.approx(np.maximum(until - born, 0).sum())
    gguf = np.array(["gguf" in model["formats"] for model in models]).astype(np.int64)
    fit = birth_rates(split, graph.founder, {"gguf": gguf})
    # Ready-made quantisations are seldom built upon; a few founders have most of the children.
    assert fit.ratios["gguf=1"].high < 0.5
    assert fit.overdispersion.value > 1


# -- lineages through time ------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 300)), min_size=1, max_size=25),
    st.integers(301, 500),
    st.sampled_from([10.0, 45.0, 1000.0]),
)
def test_lineages_are_counted_as_by_looking_at_every_month(
    models: list[tuple[int, int]], until: int, window: float
) -> None:
    lineage = np.array([label for label, _ in models])
    born = np.array([float(day) for _, day in models])
    counts = lineages_through_time(lineage, born, float(until), window_days=window)
    for k, month in enumerate(counts.month.tolist()):
        end = float(np.datetime64(month + 1, "M").astype("datetime64[D]").astype(int))
        assert end <= until
        days = [sorted(d for m, d in models if m == label and d < end) for label in set(lineage)]
        assert counts.started[k] == sum(len(d) >= 1 for d in days)
        assert counts.families[k] == sum(len(d) >= 2 for d in days)
        assert counts.active[k] == sum(bool(d) and end - d[-1] <= window for d in days)
    assert counts.month[0] == month_of(born.min())
    last = np.datetime64(int(counts.month[-1]) + 2, "M").astype("datetime64[D]").astype(int)
    assert last > until


def test_undated_and_later_models_are_in_no_count() -> None:
    counts = lineages_through_time(
        np.array([1, 2, 3, 3]), np.array([0.0, np.nan, 200.0, 1.0]), 59.0
    )
    assert counts.started.tolist() == [2, 2]
    assert counts.families.tolist() == [0, 0]
    with pytest.raises(ValueError, match="no model was born"):
        lineages_through_time(np.array([1]), np.array([np.nan]), 59.0)
    with pytest.raises(ValueError, match="above 0"):
        lineages_through_time(np.array([1]), np.array([1.0]), 59.0, window_days=0.0)


# -- reproduction numbers -------------------------------------------------------------------------


def test_cohort_numbers_are_means_of_those_born_and_young_months_are_nan() -> None:
    ids = [*"abcdefg"]
    edges = [("c", "a", 1.0, 0), ("d", "a", 1.0, 0), ("e", "b", 1.0, 0), ("g", "c", 1.0, 0)]
    graph = LineageGraph.from_edges(ids, edges)
    born = np.array([0.0, 5.0, 10.0, 30.0, 40.0, 100.0, 150.0])
    fitness = children_within(graph, born, until_day=140.0, window_days=60)
    monthly = cohort_reproduction(fitness, born, np.arange(7))
    assert monthly.month.tolist() == [0, 1, 2, 3, 4]
    january, february, march, april, may = monthly.estimates
    assert january.value == pytest.approx((2 + 1 + 0 + 0) / 4)
    assert (january.n, january.n_clusters) == (4, 4)
    # four clusters of deviations 1.25 .25 −.75 −.75: CR1 mean
    error = math.sqrt(4 / 3 * (1.25**2 + 0.25**2 + 2 * 0.75**2)) / 4
    assert january.high - january.value == pytest.approx(3.182446305 * error)
    assert january.low == 0.0
    assert "1 independent groups born then, 2 needed" in february.method
    assert "0 independent groups born then" in march.method
    assert "1 of 1 models born then not watched to the end" in april.method
    assert all(math.isnan(e.value) for e in (february, march, april, may))


def test_one_unwatched_model_spoils_its_month_since_those_before_it_are_no_fair_sample() -> None:
    born = np.arange(20.0)
    values = np.where(born <= 18, 1.0, np.nan)
    monthly = cohort_reproduction(Fitness("c", values, "children"), born, np.arange(20))
    assert math.isnan(monthly.estimates[0].value)
    assert "1 of 20" in monthly.estimates[0].method


def test_a_month_without_children_has_the_poisson_bound_not_a_point() -> None:
    born = np.arange(20.0)
    fitness = Fitness("c", np.zeros(20), "children")
    found = cohort_reproduction(fitness, born, np.arange(20) // 2).estimates[0]
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(2.995732 / 10, rel=1e-6)


def test_two_groups_are_enough_for_a_cohort() -> None:
    fitness = Fitness("c", np.array([1.0, 3.0]), "children")
    found = cohort_reproduction(fitness, np.zeros(2), np.arange(2)).estimates[0]
    # deviations ∓1 of two groups: SE = √(2 · 2)/2 = 1, t of 1 df
    assert (found.value, found.low) == (2.0, 0.0)
    assert found.high == pytest.approx(2 + 12.706204736)


def test_cohort_numbers_refuse_bad_input() -> None:
    fitness = Fitness("c", np.zeros(2), "children")
    with pytest.raises(ValueError, match="no birth is known"):
        cohort_reproduction(fitness, np.full(2, np.nan), np.arange(2))
    with pytest.raises(ValueError, match="one fitness, one birth"):
        cohort_reproduction(fitness, np.zeros(3), np.arange(3))


# EpiEstim (Cori et al. 2013), data Flu2009, estimate_R(method = "parametric_si", mean_si 2.6,
# std_si 1.5): the first six weekly windows as printed, with discr_si(0:20, 2.6, 1.5). Incidence:
# days 1–6 printed; 7–13 follow from the printed means and SDs, (mean/SD)² = 1 + ΣI.
FLU = np.array([1, 1, 0, 2, 5, 3, 3, 3, 6, 2, 5, 9, 13], dtype=float)
FLU_INTERVAL = np.array(
    [
        *(0.0, 0.2331721, 0.3585794, 0.1981108, 0.1033427, 0.05290518, 0.02682146),
        *(0.01351620, 0.006783438, 0.003394351, 0.001694674, 0.0008445945, 0.0004203313),
    ]
)
FLU_PRINTED = [
    (1.735798, 1.0287437, 2.624781),
    (1.749168, 1.1088223, 2.533119),
    (1.537058, 0.9947030, 2.195540),
    (1.431839, 0.9514466, 2.008849),
    (1.422725, 0.9731426, 1.956336),
    (1.635373, 1.1786332, 2.165745),
]


def test_reproduction_numbers_of_the_2009_flu_are_those_that_epiestim_prints() -> None:
    pressure = infectiousness(FLU, FLU_INTERVAL)
    for k, printed in enumerate(FLU_PRINTED):
        week = slice(k + 1, k + 8)
        found = reproduction_posterior(
            int(FLU[week].sum()), float(pressure[week].sum()), method="Cori"
        )
        assert (found.value, found.low, found.high) == pytest.approx(printed, rel=2e-6)


def random_pedigree(seed: int, n: int = 60) -> tuple[LineageGraph, Floats]:
    rng = np.random.default_rng(seed)
    ids = [f"m{i}" for i in range(n)]
    edges = []
    for i in range(1, n):
        parents = rng.choice(i, size=min(i, int(rng.integers(0, 3))), replace=False)
        edges += [(ids[i], ids[int(p)], None, k) for k, p in enumerate(parents)]
    born = np.sort(rng.uniform(0, 150, n)) + rng.normal(0, 2, n)  # some before their parents
    born[rng.random(n) < 0.1] = np.nan
    return LineageGraph.from_edges(ids, edges), born


def naive_interval(
    graph: LineageGraph, born: Floats, until: float, window: int, members: NDArray[np.bool_]
) -> list[int]:
    found = []
    for i in range(len(graph)):
        p = int(graph.primary[i])
        if p < 0 or not members[i] or math.isnan(born[i]) or math.isnan(born[p]):
            continue
        age = math.floor(born[i]) - math.floor(born[p])
        if 0 <= age <= window and math.floor(born[p]) + window < math.floor(until):
            found.append(age)
    return found


@given(st.integers(0, 10_000), st.sampled_from([20, 45]), st.floats(120, 200))
def test_instantaneous_numbers_are_those_of_a_double_loop_over_models(
    seed: int, window: int, until: float
) -> None:
    graph, born = random_pedigree(seed)
    members = np.random.default_rng(seed).random(len(graph)) < 0.9
    ages = naive_interval(graph, born, until, window, members)
    interval, n = generation_interval(graph, born, until, window_days=window, members=members)
    assert n == len(ages)
    if ages:
        assert interval.tolist() == pytest.approx(
            [ages.count(a) / len(ages) for a in range(window + 1)]
        )
    monthly = instantaneous_reproduction(graph, born, until, window_days=window, members=members)
    for month, found in zip(monthly.month.tolist(), monthly.estimates, strict=True):
        start, stop = (
            int(np.datetime64(m, "M").astype("datetime64[D]").astype(int))
            for m in (month, month + 1)
        )
        births, pressure = 0, 0.0
        for i in np.flatnonzero(members & (born < until)):
            day = math.floor(born[i])
            pressure += sum(start <= day + a < stop for a in ages) / max(len(ages), 1)
            p = int(graph.primary[i])
            if start <= day < stop and p >= 0 and members[p] and not math.isnan(born[p]):
                births += 0 <= day - math.floor(born[p]) <= window
        assert found.n == births
        if stop > math.floor(until):
            assert "not watched to its end" in found.method
        elif len(ages) < 10:
            assert f"{len(ages)} generation intervals, 10 needed" in found.method
        elif pressure < 1:
            assert "expected at R = 1, 1 needed" in found.method
        else:
            assert found.value == pytest.approx((1 + births) / (0.2 + pressure), rel=1e-9)
            assert found.low < found.value < found.high
            continue
        assert math.isnan(found.value)


def branching(rng: np.random.Generator, mean: float, until: float) -> tuple[LineageGraph, Floats]:
    """A family in which every model has Poisson(mean) children at ages uniform on 0–60 d."""
    born, edges, i = [0.0] * 40, [], 0
    while i < len(born):
        for age in rng.uniform(0, 60, rng.poisson(mean)):
            if born[i] + age < until:
                edges.append((f"m{len(born)}", f"m{i}", 1.0, 0))
                born.append(born[i] + float(age))
        i += 1
    return LineageGraph.from_edges([f"m{k}" for k in range(len(born))], edges), np.array(born)


def test_both_reproduction_numbers_find_the_true_one_and_growth_does_not_shorten_generations() -> (
    None
):
    graph, born = branching(np.random.default_rng(11), 1.6, 300.0)
    interval, n = generation_interval(graph, born, 300.0, window_days=60)
    # Naively, intervals of the still young population are far shorter than the true mean of 30 d.
    naive = born[graph.edge_child] - born[graph.parent_index]
    assert n > 300
    assert interval @ np.arange(61) == pytest.approx(30, abs=1.5)
    assert naive.mean() < 28
    monthly = instantaneous_reproduction(graph, born, 300.0, window_days=60)
    # The one founding cohort is over within 60 d; later months are a population of mixed ages.
    for found in monthly.estimates[1:-1]:
        assert found.value == pytest.approx(1.6, abs=0.35)
    assert "not watched to its end" in monthly.estimates[-1].method
    cohort = cohort_reproduction(
        children_within(graph, born, 300.0, 60.0), born, np.arange(born.size)
    )
    for found in cohort.estimates[1:7]:
        assert found.value == pytest.approx(1.6, abs=0.3)
    assert all("not watched" in found.method for found in cohort.estimates[8:])


def test_reproduction_is_untrusted_without_intervals_or_expected_births() -> None:
    lonely = LineageGraph.from_edges(["a", "b"], [("b", "a", 1.0, 0)])
    monthly = instantaneous_reproduction(lonely, np.array([0.0, 3.0]), 400.0)
    assert "1 generation intervals, 10 needed" in monthly.estimates[0].method
    assert "0 births expected at R = 1" in reproduction_posterior(3, 0.0, method="m").method
    assert math.isnan(reproduction_posterior(3, math.nan, method="m").value)
    with pytest.raises(ValueError, match="no member was born"):
        instantaneous_reproduction(lonely, np.full(2, np.nan), 400.0)
    with pytest.raises(ValueError, match="place in the mask"):
        instantaneous_reproduction(lonely, np.zeros(2), 400.0, members=np.ones(3, dtype=bool))
