"""Fitness, selection, opportunity, the Price identity: hand cases and published answers."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import t as student_t

from lineage.evolution.clusters import cluster_bootstrap
from lineage.evolution.selection.differentials import (
    differential_jackknife,
    intensity_jackknife,
    opportunity,
    opportunity_excess,
    selection_differential,
)
from lineage.evolution.selection.fitness import (
    Fitness,
    children_within,
    rate_since_birth,
    rolling_count,
)
from lineage.evolution.selection.price import price_partition
from lineage.graph import LineageGraph

Floats = NDArray[np.float64]
NAN = math.nan


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def fitness(values: list[float] | Floats) -> Fitness:
    return Fitness("w", np.array(values, dtype=float), "fitness: given")


def column(rows: list[dict[str, str]], name: str) -> Floats:
    return np.array([float(row[name]) for row in rows])


# -- fitness ------------------------------------------------------------------------------------


def test_children_count_within_the_window_and_only_of_models_watched_to_its_end() -> None:
    graph = LineageGraph.from_edges(
        ["old", "late", "early", "undated", "young", "before"],
        [
            ("late", "old", 1, 0),
            ("early", "old", 1, 0),
            ("undated", "old", 1, 0),
            ("young", "early", 1, 0),
            ("before", "early", 1, 0),
        ],
    )
    born = np.array([0.0, 101.0, 100.0, NAN, 160.0, 90.0])
    found = children_within(graph, born, until_day=200.0, window_days=100.0)
    # old: early at exactly 100 d counts, late at 101 d and the undated one do not.
    # early: young at 60 d counts, the one dated before it does not; young and late: not watched.
    np.testing.assert_array_equal(found.values, [1, NAN, 1, NAN, NAN, 0])
    assert found.name == "children_100d"


def test_likes_are_a_rate_and_downloads_need_their_whole_window() -> None:
    born = np.array([0.0, 180.0, 181.0, NAN, 0.0])
    total = np.array([36.0, 18.0, 99.0, 5.0, NAN])
    rate = rate_since_birth("likes_per_day", total, born, until_day=360.0, window_days=180.0)
    np.testing.assert_allclose(rate.values, [0.1, 0.1, NAN, NAN, NAN])
    born = np.array([0.0, 30.0, 31.0, NAN])
    count = rolling_count("downloads_30d", np.array([5.0, 6, 7, 8]), born, until_day=60.0)
    np.testing.assert_array_equal(count.values, [5, 6, NAN, NAN])


# -- selection ----------------------------------------------------------------------------------


def test_differential_and_intensity_of_a_case_worked_on_paper() -> None:
    # W̄ = 2, w = 0 .5 1 2.5; z̄ = 2.5; Σ(w−1)(z−z̄) = 1.5+.25+0+2.25 = 4, over 3
    w, z, cluster = fitness([0, 1, 2, 5]), np.array([1.0, 2, 3, 4]), np.array([0, 1, 2, 3])
    found = selection_differential(z, w, cluster, rng=rng())
    assert found.value == pytest.approx(4 / 3)
    assert found.low <= found.value <= found.high
    assert (found.n, found.n_clusters) == (4, 4)
    assert differential_jackknife(z, w, cluster, rng=rng()).value == pytest.approx(4 / 3)
    assert intensity_jackknife(z, w, cluster, rng=rng()).value == pytest.approx(
        4 / 3 / math.sqrt(5 / 3)
    )
    # Var(W) over n = (4+1+0+9)/4 = 3.5; I = 3.5/4; beyond chance I − 1/2
    assert opportunity(w, cluster, rng=rng()).value == pytest.approx(0.875)
    assert opportunity_excess(w, cluster, rng=rng()).value == pytest.approx(0.375)


def test_models_without_trait_or_fitness_do_not_enter_the_means() -> None:
    z = np.array([1.0, 2, 3, 4, NAN, 50])
    w = fitness([0, 1, 2, 5, 900, NAN])
    for statistic in (selection_differential, differential_jackknife):
        found = statistic(z, w, np.arange(6), rng=rng())
        assert found.value == pytest.approx(4 / 3)
        assert (found.n, found.n_clusters) == (4, 4)
    of_one_month = differential_jackknife(
        z, w, np.arange(6), rng=rng(), month=np.array([0, 0, 0, 0, 1, 2])
    )
    assert of_one_month.value == pytest.approx(4 / 3)


def naive_differential(z: Floats, w: Floats) -> float:
    return float(np.cov(w / w.mean(), z)[0, 1])


def naive_intensity(z: Floats, w: Floats) -> float:
    return naive_differential(z, w) / float(z.std(ddof=1))


def naive_opportunity(_: Floats, w: Floats) -> float:
    return float(np.var(w) / w.mean() ** 2)


def naive_excess(z: Floats, w: Floats) -> float:
    return naive_opportunity(z, w) - 1 / float(w.mean())


@pytest.mark.parametrize(
    ("statistic", "naive"),
    [
        (selection_differential, naive_differential),
        (lambda _, w, c, **k: opportunity(w, c, **k), naive_opportunity),
        (lambda _, w, c, **k: opportunity_excess(w, c, **k), naive_excess),
    ],
)
def test_intervals_are_those_of_a_plain_bootstrap_over_founders(
    statistic: Callable[..., object], naive: Callable[[Floats, Floats], float]
) -> None:
    source = np.random.default_rng(4)
    cluster = np.repeat([1, 5, 6, 9, 12, 13], [3, 5, 2, 4, 6, 3])
    z = source.normal(100, 1, cluster.size)
    w = source.poisson(3.0, cluster.size) + 1.0
    found = statistic(z, fitness(w), cluster, rng=np.random.default_rng(8), n_resamples=200)
    values = []
    for counts in np.random.default_rng(8).multinomial(6, [1 / 6] * 6, size=200):
        rows = np.concatenate(
            [
                np.tile(np.flatnonzero(cluster == label), count)
                for label, count in zip(np.unique(cluster), counts, strict=True)
            ]
        )
        values.append(naive(z[rows], w[rows]))
    low, high = np.quantile(values, [0.025, 0.975])
    value = naive(z, w)
    expected = (value, min(low, value), max(high, value))
    assert (found.value, found.low, found.high) == pytest.approx(expected, rel=1e-8)  # type: ignore[attr-defined]


def within_months(values: Floats, month: NDArray[np.int64]) -> tuple[Floats, int]:
    """Values less their month's mean, and how many of them are free."""
    labels = np.unique(month)
    away = values - np.array([values[month == m].mean() for m in month])
    return away, values.size - labels.size


@pytest.mark.parametrize("by_month", [False, True])
def test_selection_without_a_founder_is_that_of_the_others_alone(by_month: bool) -> None:
    source = np.random.default_rng(4)
    cluster = np.repeat([1, 5, 6, 9, 12, 13, 14], [13, 5, 2, 4, 6, 3, 7])
    month = source.integers(0, 3, cluster.size) if by_month else np.zeros(cluster.size, int)
    month[cluster == 6] = 7  # a month of one founder only
    z = source.normal(100, 1, cluster.size) + month
    w = source.poisson(3.0, cluster.size) + 1.0

    def naive(keep: NDArray[np.bool_]) -> tuple[float, float]:
        (dz, free), (dw, _) = (within_months(v[keep], month[keep]) for v in (z, w))
        s = dz @ dw / free / w[keep].mean()
        return s, s / math.sqrt(dz @ dz / free)

    everybody = np.ones(cluster.size, dtype=bool)
    without = np.array([naive(cluster != g) for g in np.unique(cluster)])
    away = without - without.mean(axis=0)
    errors = np.sqrt(6 / 7 * (away**2).sum(axis=0))
    df = (away**2).sum(axis=0) ** 2 / (away**4).sum(axis=0)
    for k, statistic in enumerate((differential_jackknife, intensity_jackknife)):
        found = statistic(z, fitness(w), cluster, rng=rng(), month=month, level=0.9)
        assert found.value == pytest.approx(naive(everybody)[k], rel=1e-9)
        reach = student_t.ppf(0.95, df[k]) * errors[k]
        assert found.high - found.value == pytest.approx(reach, rel=1e-8)
        assert (found.n, found.n_clusters, found.level) == (40, 7, 0.9)
        assert found.p_value == statistic(z, fitness(w), cluster, rng=rng(), month=month).p_value


def test_a_trend_of_the_field_is_no_selection_among_models_of_one_month() -> None:
    source = np.random.default_rng(2)
    month = np.repeat(np.arange(12), 40)
    z, w = month + source.normal(size=480), fitness(source.poisson(1.0 + month))
    founder = source.integers(0, 60, 480)
    assert differential_jackknife(z, w, founder, rng=rng()).p_value < 0.01
    assert differential_jackknife(z, w, founder, rng=rng(), month=month).p_value > 0.05
    assert "among models of one month" in intensity_jackknife(
        z, w, founder, rng=rng(), month=month
    ).method  # fmt: skip


def test_selection_of_unequal_founders_is_found_by_their_signs() -> None:
    # All founders agree, one of them is most of the sum: no interval, but p, tells.
    size = np.array([400, *np.full(11, 10)])
    founder = np.repeat(np.arange(12), size)
    source = np.random.default_rng(6)
    z = source.normal(size=founder.size)
    found = differential_jackknife(z, fitness(np.exp(0.7 * z)), founder, rng=rng())
    assert found.p_value < 0.005


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 9)), min_size=3, max_size=12))
def test_intensity_never_exceeds_the_root_of_opportunity(pairs: list[tuple[float, int]]) -> None:
    z, w = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs], dtype=float)
    cluster = np.arange(len(pairs))
    i = intensity_jackknife(z, fitness(w), cluster, rng=rng())
    bound = opportunity(fitness(w), cluster, rng=rng(), n_resamples=20)
    if not math.isnan(i.value):
        n = len(pairs)
        total = naive_opportunity(z, w) * n / (n - 1)  # both with n − 1
        assert abs(i.value) <= math.sqrt(total) + 1e-9
        assert math.isnan(bound.value) or bound.value >= 0


@pytest.mark.parametrize(
    ("z", "w", "cluster", "reason"),
    [
        ([1, 2, NAN], [1, 2, 3], [0, 1, 2], "2 models with trait and fitness"),
        ([0.1, 0.1, 0.1], [1, 2, 3], [0, 1, 2], "the trait does not vary"),
        ([1, 2, 3], [0, 0, 0], [0, 1, 2], "no model has any fitness"),
        ([1, 2, 3], [1, 2, 3], [0, 1, 1], "2 independent groups, 3 needed"),
    ],
)
def test_selection_that_cannot_be_trusted_is_nan_and_says_why(
    z: list[float], w: list[float], cluster: list[int], reason: str
) -> None:
    for statistic in (selection_differential, differential_jackknife, intensity_jackknife):
        found = statistic(np.array(z, float), fitness(w), np.array(cluster), rng=rng())
        assert math.isnan(found.value)
        assert reason in found.method


@pytest.mark.parametrize(
    ("w", "reason"),
    [([1, 2, NAN], "2 models with fitness"), ([0, 0, 0], "no model has any fitness")],
)
def test_opportunity_that_cannot_be_trusted_is_nan_and_says_why(
    w: list[float], reason: str
) -> None:
    for statistic in (opportunity, opportunity_excess):
        found = statistic(fitness(w), np.arange(3), rng=rng())
        assert math.isnan(found.value)
        assert reason in found.method


def test_selection_that_hangs_on_one_founder_is_not_trusted() -> None:
    found = intensity_jackknife(np.arange(4.0), fitness([4, 0, 0, 0]), np.arange(4), rng=rng())
    assert math.isnan(found.value)
    assert "undefined without one of 1 of the independent groups" in found.method


def test_months_of_one_model_each_hold_no_selection() -> None:
    z, w, each = np.arange(5.0), fitness([1, 2, 3, 4, 5]), np.arange(5)
    for statistic in (differential_jackknife, intensity_jackknife):
        for trait, month in ((z, each), (z // 2, each // 2)):  # or in which the trait is the same
            found = statistic(trait, w, each, rng=rng(), month=month)
            assert math.isnan(found.value)
            assert "no variation to measure it by" in found.method


def test_statistics_undefined_in_most_resamples_are_not_trusted() -> None:
    # Only one of four founders has any fitness: a third of the resamples miss it.
    found = opportunity(fitness([4, 0, 0, 0]), np.arange(4), rng=rng())
    assert math.isnan(found.value)
    assert "of the resamples" in found.method


@pytest.mark.parametrize(("value", "resampled"), [(0.0, 1.0), (2.0, 1.0)])
def test_an_interval_is_widened_to_hold_its_estimate(value: float, resampled: float) -> None:
    found = cluster_bootstrap(
        np.ones((4, 1)),
        np.arange(4),
        lambda sums: np.full(sums.shape[:-1], value if sums.ndim == 1 else resampled),
        rng=rng(),
        level=0.9,
        n_resamples=10,
        method="m",
    )
    assert (found.low, found.value, found.high) == (min(value, 1), value, max(value, 1))


def test_bumpus_sparrows_have_the_published_intensities_and_opportunity(shared_data: Path) -> None:
    path = shared_data / "statistics" / "selection" / "Bumpus_Sparrows.csv"
    males = [row for row in csv.DictReader(path.read_text().splitlines()) if row["Sex"] == "1"]
    assert len(males) == 87
    w = fitness(column(males, "W"))
    each = np.arange(len(males))
    published = {  # raw scale, as the vignette of the R package psa prints them
        "TotalLength_mm": -0.3694482090, "AlarExtent_mm": -0.0135955629,
        "SkullL_mm": 0.0897961209, "HumerusL_in": 0.1597756323, "FemurL_in": 0.1330311154,
        "TibioTarL_in": 0.0942776554, "SkullW_in": 0.0643777446, "SternumL_in": 0.1283547160,
    }  # fmt: skip
    for name, value in published.items():
        found = intensity_jackknife(column(males, name), w, each, rng=rng())
        assert found.value == pytest.approx(value, abs=1e-9), name
    cube_root = np.cbrt(column(males, "Weight_g"))
    found = intensity_jackknife(cube_root, w, each, rng=rng())
    assert found.value == pytest.approx(-0.2331200346, abs=1e-9)
    assert opportunity(w, each, rng=rng()).value == pytest.approx(36 / 51, abs=1e-12)


def test_bullfrogs_have_the_published_opportunity(shared_data: Path) -> None:
    path = shared_data / "statistics" / "selection" / "Howard_Bullfrogs.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    for name, value in (("WTotalHatch", 2.27578), ("WTotalCops", 1.345679)):
        found = opportunity(fitness(column(rows, name)), np.arange(len(rows)), rng=rng())
        assert found.value == pytest.approx(value, abs=5e-6)


# -- Price --------------------------------------------------------------------------------------


def test_the_price_partition_of_a_case_worked_on_paper() -> None:
    # parents 0 and 2; child 2.5 of ½ + ½, child 3 of the second, immigrant 10
    part = price_partition(
        np.array([0.0, 2.0]),
        np.array([2.5, 3.0, 10.0]),
        np.array([0, 0, 1]),
        np.array([0, 1, 1]),
        np.array([0.5, 0.5, 1.0]),
    )
    assert part.selection == pytest.approx(0.5)  # w̃ = ½, 3/2
    assert part.transmission == pytest.approx((0.5 * 2.5 + 0.5 * 0.5 + 1.0) / 2)
    assert part.immigration == pytest.approx((10 - 2.75) / 3)
    assert part.change == pytest.approx(15.5 / 3 - 1)
    assert (part.n_parents, part.n_children, part.n_immigrants) == (2, 2, 1)


@st.composite
def descents(draw: st.DrawFn) -> tuple[Floats, Floats, Floats]:
    n, m = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    trait = st.floats(-10, 10)
    parents = np.array(draw(st.lists(trait, min_size=n, max_size=n)))
    children = np.array(draw(st.lists(trait, min_size=m, max_size=m)))
    shares = np.zeros((m, n))
    for i in range(m):
        chosen = draw(
            st.lists(st.integers(0, n - 1), min_size=0 if i else 1, max_size=4, unique=True)
        )
        for k in chosen:
            shares[i, k] = draw(st.floats(0.05, 1))
        if chosen:
            shares[i] /= shares[i].sum()
    return parents, children, shares


@given(descents())
def test_the_price_equation_is_an_identity(case: tuple[Floats, Floats, Floats]) -> None:
    parents, children, shares = case
    child, parent = np.nonzero(shares)
    part = price_partition(parents, children, child, parent, shares[child, parent])
    total = part.selection + part.transmission + part.immigration
    assert part.change == pytest.approx(children.mean() - parents.mean(), abs=1e-12)
    assert total == pytest.approx(part.change, abs=1e-12)
    bred = shares.sum(axis=1) > 0
    fitness_of = shares.sum(axis=0)
    weighted = (fitness_of * parents).sum() / fitness_of.sum()
    assert part.selection == pytest.approx(weighted - parents.mean(), abs=1e-12)
    assert part.immigration == pytest.approx(children.mean() - children[bred].mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("parents", "children", "share", "message"),
    [
        ([1.0, NAN], [1.0], [1.0], "every model needs its trait"),
        ([1.0, 2.0], [NAN], [1.0], "every model needs its trait"),
        ([1.0, 2.0], [1.0], [0.7], "must sum to 1"),
        ([1.0, 2.0], [1.0], [], "no child has a parent"),
    ],
)
def test_a_descent_without_full_shares_or_traits_is_refused(
    parents: list[float], children: list[float], share: list[float], message: str
) -> None:
    links = np.zeros(len(share), dtype=np.int64)
    with pytest.raises(ValueError, match=message):
        price_partition(np.array(parents), np.array(children), links, links, np.array(share))
