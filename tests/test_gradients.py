"""Selection gradients: Bumpus's sparrows as R has them, naive oracles, refusals by name."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

from lineage.evolution.selection.average_gradients import average_gradients
from lineage.evolution.selection.differentials import opportunity
from lineage.evolution.selection.fitness import Fitness
from lineage.evolution.selection.gradients import (
    linear_gradients,
    linear_gradients_jackknife,
    quadratic_gradients,
    quadratic_gradients_jackknife,
    robertson_covariances,
)
from lineage.model import Estimate

Floats = NDArray[np.float64]
NAN = math.nan

NAMES = (
    "TotalLength_mm", "AlarExtent_mm", "Weight_g", "SkullL_mm", "HumerusL_in", "FemurL_in",
    "TibioTarL_in", "SkullW_in", "SternumL_in",
)  # fmt: skip


def rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


def fitness(values: list[float] | Floats) -> Fitness:
    return Fitness("w", np.array(values, dtype=float), "fitness: given")


def error_of(found: Estimate) -> float:
    return float(re.search(r"SE (\S+)$", found.method)[1])


def sparrows(folder: Path, sex: str, *, log: bool) -> tuple[dict[str, Floats], Fitness]:
    path = folder / "statistics" / "selection" / "Bumpus_Sparrows.csv"
    rows = [r for r in csv.DictReader(path.read_text().splitlines()) if r["Sex"] in sex]
    traits = {name: np.array([float(row[name]) for row in rows]) for name in NAMES}
    traits["Weight_g"] = np.cbrt(traits["Weight_g"])  # a length, as the others
    if log:
        traits = {name: np.log(values) for name, values in traits.items()}
    return traits, fitness([float(row["W"]) for row in rows])


# Printed by R 4.2.2, lm() of relative survival on standardised traits; reference_R.txt.
# sex, ln?, n, β, SE, p, R², twice the coefficients of the squares in the full quadratic fit
SPARROWS = {
    "males, as psa has them": (
        "1", False, 87,
        [-0.5148, 0.0947, -0.2728, 0.0514, 0.1621, 0.1136, -0.0071, 0.1335, 0.1653],
        [0.0998, 0.1271, 0.0933, 0.0924, 0.1667, 0.1675, 0.1270, 0.0850, 0.0866],
        [0.0000, 0.4586, 0.0045, 0.5798, 0.3339, 0.4996, 0.9556, 0.1202, 0.0602],
        0.4582984,
        [0.2265, 0.4479, -0.1698, 0.1777, -0.4141, 0.8045, 0.2782, 0.1307, 0.1942],
    ),
    "males, as Lande and Arnold have them": (
        "1", True, 87,
        [-0.5161, 0.0967, -0.2716, 0.0508, 0.1640, 0.1162, -0.0178, 0.1371, 0.1645],
        [0.1000, 0.1277, 0.0932, 0.0928, 0.1676, 0.1692, 0.1283, 0.0853, 0.0872],
        [0.0000, 0.4512, 0.0047, 0.5861, 0.3307, 0.4945, 0.8901, 0.1122, 0.0630],
        0.4570902,
        [0.2207, 0.3987, -0.1732, 0.1671, -0.4470, 0.9299, 0.3144, 0.1506, 0.2125],
    ),
    "females": (
        "0", True, 49,
        [-0.2128, -0.1426, -0.5313, 0.0614, 0.3279, -0.1744, 0.4265, -0.0194, 0.1691],
        [0.2837, 0.3178, 0.2528, 0.3223, 0.3688, 0.3604, 0.3487, 0.2599, 0.2370],
        [0.4575, 0.6562, 0.0421, 0.8499, 0.3793, 0.6312, 0.2286, 0.9410, 0.4797],
        0.2071162,
        None,  # 55 coefficients of 49 birds
    ),
    "all": (
        "01", True, 136,
        [-0.4939, 0.2505, -0.3842, 0.0838, 0.2696, -0.0417, -0.0004, 0.0688, 0.2340],
        [0.1070, 0.1264, 0.0979, 0.1004, 0.1570, 0.1514, 0.1264, 0.0891, 0.0930],
        [0.0000, 0.0497, 0.0001, 0.4051, 0.0883, 0.7834, 0.9973, 0.4416, 0.0131],
        0.3172541,
        [0.1008, 0.0184, -0.2193, -0.0020, -0.3736, 0.2614, -0.1067, 0.2670, 0.2514],
    ),
}  # fmt: skip


@pytest.mark.parametrize("group", SPARROWS)
def test_bumpus_sparrows_have_the_gradients_that_r_finds(shared_data: Path, group: str) -> None:
    sex, log, n, beta, error, p_value, explained, gamma = SPARROWS[group]
    traits, w = sparrows(shared_data, sex, log=log)
    found = linear_gradients(traits, w)
    values = [found.beta[name] for name in NAMES]
    assert [e.value for e in values] == pytest.approx(beta, abs=5.1e-5)
    assert [error_of(e) for e in values] == pytest.approx(error, abs=5.1e-5)
    assert [e.p_value for e in values] == pytest.approx(p_value, abs=5.1e-5)
    assert {e.n for e in values} == {n}
    assert found.explained.value == pytest.approx(explained, abs=5e-8)
    curved = quadratic_gradients(traits, w)
    if gamma is None:
        assert math.isnan(curved.quadratic["Weight_g"].value)
        assert (
            "49 models with every trait and fitness, 56 needed"
            in next(iter(curved.correlational.values())).method
        )
    else:
        assert [curved.quadratic[name].value for name in NAMES] == pytest.approx(gamma, abs=5.1e-5)
        assert len(curved.correlational) == 36


def test_bumpus_males_have_the_published_intensities_and_opportunity(shared_data: Path) -> None:
    traits, w = sparrows(shared_data, "1", log=False)
    each = np.arange(87)
    published = [  # as the vignette of the R package psa prints them
        -0.3694482090, -0.0135955629, -0.2331200346, 0.0897961209, 0.1597756323, 0.1330311154,
        0.0942776554, 0.0643777446, 0.1283547160,
    ]  # fmt: skip
    found = robertson_covariances(traits, w, each, rng=rng())
    assert [found[name].value for name in NAMES] == pytest.approx(published, abs=1e-9)
    chance = opportunity(w, each, rng=rng(), n_resamples=50)
    assert chance.value == pytest.approx(0.70588, abs=5e-6)  # variance over n
    assert chance.value * 87 / 86 == pytest.approx(0.7140903, abs=5e-8)  # over n − 1, as R


def test_bumpus_males_have_the_average_logistic_gradients_that_r_finds(shared_data: Path) -> None:
    traits, w = sparrows(shared_data, "1", log=True)
    found = average_gradients(traits, w, np.arange(87), family="logistic")
    expected = [-0.4996, 0.0885, -0.2516, 0.0740, 0.1541, 0.1279, -0.0239, 0.0887, 0.1709]
    assert [found[name].value for name in NAMES] == pytest.approx(expected, abs=5.1e-5)
    # Nine traits of 87 birds: a jackknife errs above the published error of least squares.
    assert 0.10 < error_of(found["TotalLength_mm"]) < 0.14


# -- least squares ------------------------------------------------------------------------------


def sample(seed: int, n: int = 40, k: int = 3) -> tuple[dict[str, Floats], Fitness, NDArray]:
    source = np.random.default_rng(seed)
    z = source.normal([100, 5, -3][:k], [2, 0.5, 1][:k], (n, k))
    z[:, 1] += 0.1 * (z[:, 0] - 100)
    w = source.poisson(np.exp(0.3 * (z[:, 0] - 100) / 2)) + source.random(n)
    names = ["size", "age", "speed"][:k]
    return dict(zip(names, z.T, strict=True)), fitness(w), source.integers(0, 8, n)


def second_order(z: Floats) -> Floats:
    k = z.shape[1]
    columns = [z[:, i] * z[:, i] for i in range(k)]
    columns += [z[:, i] * z[:, j] for i in range(k) for j in range(i + 1, k)]
    return np.column_stack([z, *columns])


def naive_linear(z: Floats, w: Floats) -> Floats:
    """β = P⁻¹ S of standardised traits, by covariance matrices."""
    z = (z - z.mean(axis=0)) / z.std(axis=0, ddof=1)
    both = np.cov(np.column_stack([z, w / w.mean()]).T)
    return np.linalg.solve(both[:-1, :-1], both[:-1, -1])


def naive_quadratic(z: Floats, w: Floats) -> Floats:
    k = z.shape[1]
    z = (z - z.mean(axis=0)) / z.std(axis=0, ddof=1)
    design = np.column_stack([np.ones(len(z)), second_order(z)])
    coefficient = np.linalg.lstsq(design, w / w.mean(), rcond=None)[0][1 + k :]
    return coefficient * np.array([2.0] * k + [1.0] * (len(coefficient) - k))


def values_of(found: object) -> list[Estimate]:
    if hasattr(found, "beta"):
        return list(found.beta.values())
    return [*found.quadratic.values(), *found.correlational.values()]


@given(st.integers(0, 10_000))
def test_gradients_are_the_inverse_covariance_times_robertsons_covariance(seed: int) -> None:
    traits, w, cluster = sample(seed)
    z = np.column_stack(list(traits.values()))
    found = linear_gradients(traits, w)
    expected = naive_linear(z, w.values)
    assert [e.value for e in values_of(found)] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    raw = linear_gradients(traits, w, scale="raw")
    spread = z.std(axis=0, ddof=1)
    assert [e.value for e in values_of(raw)] == pytest.approx(expected / spread, rel=1e-9)
    total = robertson_covariances(traits, w, cluster, rng=rng(), scale="raw")
    s = np.array([total[name].value for name in traits])
    assert np.cov(z.T) @ [e.value for e in values_of(raw)] == pytest.approx(s, rel=1e-9, abs=1e-12)


def test_classical_errors_are_those_of_statsmodels() -> None:
    from statsmodels.api import OLS, add_constant

    traits, w, _ = sample(11)
    z = np.column_stack(list(traits.values()))
    relative = w.values / w.values.mean()
    for scale, columns in (("raw", z), ("sd", (z - z.mean(axis=0)) / z.std(axis=0, ddof=1))):
        oracle = OLS(relative, add_constant(columns)).fit()
        found = linear_gradients(traits, w, scale=scale, level=0.9)
        for j, estimate in enumerate(values_of(found), start=1):
            assert estimate.value == pytest.approx(oracle.params[j])
            assert (estimate.low, estimate.high) == pytest.approx(
                tuple(oracle.conf_int(alpha=0.1)[j])
            )
            assert estimate.p_value == pytest.approx(oracle.pvalues[j])
        assert found.explained.value == pytest.approx(oracle.rsquared)
        assert found.explained.p_value == pytest.approx(oracle.f_pvalue)
        # γ_ii and its error are twice those of the square, γ_ij those of the product
        centred = columns - columns.mean(axis=0)
        oracle = OLS(relative, add_constant(second_order(centred))).fit()
        for j, estimate in enumerate(values_of(quadratic_gradients(traits, w, scale=scale))):
            factor = 2 if j < 3 else 1
            assert estimate.value == pytest.approx(factor * oracle.params[4 + j])
            assert estimate.high - estimate.low == pytest.approx(
                factor * np.ptp(oracle.conf_int()[4 + j])
            )


def test_pairs_of_traits_are_told_apart_by_their_names() -> None:
    source = rng()
    a, b, c = source.normal(size=(3, 30))
    w = fitness(10 + a + 0.5 * a * c - 0.25 * b * b)
    found = quadratic_gradients({"a": a, "b": b, "c": c}, w, scale="raw")
    mean = w.values.mean()
    assert found.correlational["a", "c"].value == pytest.approx(0.5 / mean)
    assert found.quadratic["b"].value == pytest.approx(-0.5 / mean)
    assert found.correlational["a", "b"].value == pytest.approx(0, abs=1e-12)
    assert found.quadratic["a"].value == pytest.approx(0, abs=1e-12)
    sd = quadratic_gradients({"a": a, "b": b, "c": c}, w)
    unit = a.std(ddof=1) * c.std(ddof=1)
    assert sd.correlational["a", "c"].value == pytest.approx(0.5 * unit / mean)
    assert sd.scale == "sd"
    assert found.scale == "raw"


def test_a_fit_without_error_has_no_width() -> None:
    z = np.arange(6.0)
    found = linear_gradients({"z": z}, fitness(1 + z), scale="raw")
    assert (found.beta["z"].low, found.beta["z"].high) == pytest.approx((1 / 3.5, 1 / 3.5))
    assert (found.explained.low, found.explained.high) == pytest.approx((1, 1))


def test_models_with_a_missing_trait_or_fitness_are_left_out_everywhere() -> None:
    traits, w, cluster = sample(2, n=43)
    holes = {name: values.copy() for name, values in traits.items()}
    holes["size"][40], holes["speed"][41], w.values[42] = NAN, NAN, NAN
    kept = {name: values[:40] for name, values in traits.items()}
    whole = fitness(w.values[:40])
    for found, expected in (
        (linear_gradients(holes, w), linear_gradients(kept, whole)),
        (quadratic_gradients(holes, w), quadratic_gradients(kept, whole)),
    ):
        assert values_of(found) == values_of(expected)
        assert {e.n for e in values_of(found)} == {40}
    first = linear_gradients_jackknife(holes, w, cluster, rng=rng())
    again = linear_gradients_jackknife(kept, whole, cluster[:40], rng=rng())
    assert first.beta == again.beta
    total = robertson_covariances(holes, w, cluster, rng=rng())
    assert {e.n for e in total.values()} == {40}
    assert total == robertson_covariances(kept, whole, cluster[:40], rng=rng())


def test_the_interval_of_the_share_explained_covers_as_often_as_it_says() -> None:
    source, truth, held = rng(5), 0.2, 0
    for _ in range(200):
        z = source.normal(size=(30, 2))
        z = (z - z.mean(axis=0)) / z.std(axis=0)
        signal = z[:, 0] / z[:, 0].std() * math.sqrt(truth)  # fixed regressors: exact share
        w = 10 + signal + source.normal(size=30) * math.sqrt(1 - truth)
        found = linear_gradients({"a": z[:, 0], "b": z[:, 1]}, fitness(w), level=0.8).explained
        held += found.low <= truth <= found.high
    assert 0.72 <= held / 200 <= 0.88


# -- founders -----------------------------------------------------------------------------------


def away_from(values: Floats, month: NDArray) -> Floats:
    return values - np.array([values[month == m].mean(axis=0) for m in month])


def naive_within(z: Floats, w: Floats, month: NDArray, scale: str, *, curved: bool) -> Floats:
    """Gradients of regressions with a column for each month."""
    k, free = z.shape[1], len(z) - np.unique(month).size
    terms = second_order(z) if curved else z
    design = np.column_stack([terms, month[:, None] == np.unique(month)])
    coefficient = np.linalg.lstsq(design, w / w.mean())[0][: terms.shape[1]]
    spread = np.sqrt((away_from(z, month) ** 2).sum(axis=0) / free)
    if not curved:
        return coefficient * (spread if scale == "sd" else 1.0)
    pairs = [(i, i) for i in range(k)] + [(i, j) for i in range(k) for j in range(i + 1, k)]
    units = np.array([spread[i] * spread[j] for i, j in pairs]) if scale == "sd" else 1.0
    return coefficient[k:] * np.array([2.0] * k + [1.0] * (len(pairs) - k)) * units


@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("scale", ["sd", "raw"])
@pytest.mark.parametrize("n_months", [1, 3])
def test_gradients_without_a_founder_are_those_of_the_others_alone(
    curved: bool, scale: str, n_months: int
) -> None:
    traits, w, _ = sample(7, n=120, k=2)
    cluster = np.repeat([1, 5, 6, 9, 12, 13, 20, 40], [13, 25, 10, 14, 16, 13, 9, 20])
    month = rng().integers(0, n_months, 120)
    z = np.column_stack(list(traits.values()))
    statistic = quadratic_gradients_jackknife if curved else linear_gradients_jackknife
    by_month = {} if n_months == 1 else {"month": month}
    found = values_of(statistic(traits, w, cluster, rng=rng(), scale=scale, level=0.9, **by_month))

    def naive(keep: NDArray) -> Floats:
        about = z[keep] - z.mean(axis=0)
        return naive_within(about, w.values[keep], month[keep], scale, curved=curved)

    value = naive(np.ones(120, dtype=bool))
    without = np.array([naive(cluster != g) for g in np.unique(cluster)])
    away = without - without.mean(axis=0)
    error = np.sqrt(7 / 8 * (away**2).sum(axis=0))
    df = (away**2).sum(axis=0) ** 2 / (away**4).sum(axis=0)
    assert [e.value for e in found] == pytest.approx(value, rel=1e-7)
    reach = student_t.ppf(0.95, df) * error
    assert [e.high - e.value for e in found] == pytest.approx(reach, rel=1e-6)
    assert {(e.n, e.n_clusters, e.level) for e in found} == {(120, 8, 0.9)}


def test_the_p_value_of_a_gradient_holds_the_other_traits() -> None:
    # Selection on a alone; b goes with a, and is no cause.
    source = rng(12)
    a = source.normal(size=600)
    b = a + 0.5 * source.normal(size=600)
    w = fitness(source.poisson(np.exp(0.4 * a)))
    founder = source.integers(0, 40, 600)
    found = linear_gradients_jackknife({"a": a, "b": b}, w, founder, rng=rng()).beta
    assert found["a"].p_value < 0.01
    assert found["b"].p_value > 0.05
    alone = linear_gradients_jackknife({"b": b}, w, founder, rng=rng()).beta["b"]
    assert alone.p_value < 0.01
    total = robertson_covariances({"b": b}, w, founder, rng=rng())["b"]
    assert alone.value == pytest.approx(total.value)
    assert alone.p_value == total.p_value


def test_founder_intervals_hold_the_classical_estimate_and_only_p_knows_the_seed() -> None:
    traits, w, cluster = sample(4)
    first = linear_gradients_jackknife(traits, w, cluster, rng=rng())
    again = linear_gradients_jackknife(traits, w, cluster, rng=rng(4))
    assert first.explained is None
    for name, found in linear_gradients(traits, w).beta.items():
        assert first.beta[name].value == pytest.approx(found.value)
        assert (first.beta[name].low, first.beta[name].high) == (
            again.beta[name].low, again.beta[name].high
        )  # fmt: skip


def test_families_widen_the_interval_of_a_gradient() -> None:
    source = rng(1)
    size = np.repeat(source.normal(size=12), 30)
    w = fitness(np.exp(0.2 * size + np.repeat(source.normal(size=12), 30)))
    cluster = np.repeat(np.arange(12), 30)
    naive = linear_gradients({"size": size}, w).beta["size"]
    honest = linear_gradients_jackknife({"size": size}, w, cluster, rng=rng()).beta["size"]
    assert honest.high - honest.low > 2 * (naive.high - naive.low)


# -- average gradients --------------------------------------------------------------------------


def naive_average(z: Floats, w: Floats, month: NDArray, family: str, scale: str) -> Floats:
    """Average gradients by statsmodels, with a column for each month that tells."""
    from statsmodels.api import GLM, families

    kind = families.Binomial() if family == "logistic" else families.Poisson()
    mean = np.array([w[month == m].mean() for m in month])
    tells = (mean > 0) & ((mean < 1) | (family == "poisson"))
    own = month[tells, None] == np.unique(month[tells])
    fit = GLM(w[tells], np.column_stack([z[tells], own]), family=kind).fit(tol=1e-13)
    slope = fit.mu * (1 - fit.mu) if family == "logistic" else fit.mu
    value = fit.params[: z.shape[1]] * slope.sum() / w.sum()
    if scale == "sd":
        free = len(z) - np.unique(month).size
        value = value * np.sqrt((away_from(z, month) ** 2).sum(axis=0) / free)
    return value


@pytest.mark.parametrize("family", ["logistic", "poisson"])
@pytest.mark.parametrize("scale", ["sd", "raw"])
@pytest.mark.parametrize("n_months", [1, 4])
def test_the_surface_is_fitted_anew_without_each_founder(
    family: str, scale: str, n_months: int
) -> None:
    source = rng(6)
    n, n_groups = 240, 30
    cluster = np.repeat(np.arange(n_groups), n // n_groups)
    month = source.integers(0, n_months, n)
    z = source.normal([10, -2], [2, 0.5], (n, 2)) + source.normal(size=(n_groups, 2))[cluster]
    eta = 0.4 * (z[:, 0] - 10) - 0.5 * (z[:, 1] + 2) + 0.5 * source.normal(size=n_groups)[cluster]
    w = (
        (source.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
        if family == "logistic"
        else source.poisson(np.exp(eta)).astype(float)
    )
    w[month == 3] = 0.0  # a month of which nothing can be told
    by_month = {} if n_months == 1 else {"month": month}
    found = average_gradients(
        {"a": z[:, 0], "b": z[:, 1]}, fitness(w), cluster, family=family, scale=scale, **by_month
    )
    value = naive_average(z, w, month, family, scale)
    assert [e.value for e in found.values()] == pytest.approx(value, rel=1e-7)
    kept = [cluster != g for g in range(n_groups)]
    without = np.array([naive_average(z[k], w[k], month[k], family, scale) for k in kept])
    away = without - without.mean(axis=0)
    error = np.sqrt((n_groups - 1) / n_groups * (away**2).sum(axis=0))
    df = (away**2).sum(axis=0) ** 2 / (away**4).sum(axis=0)
    reach = [e.high - e.value for e in found.values()]
    assert reach == pytest.approx(student_t.ppf(0.975, df) * error, rel=1e-5)
    assert {e.n_clusters for e in found.values()} == {n_groups}


def test_very_many_founders_are_left_out_in_groups_the_largest_apart() -> None:
    from lineage.evolution.selection.average_gradients import MOST_GROUPS, _dealt

    founder = np.concatenate([np.full(50, 3), np.full(40, 1), np.arange(4, 500)])
    group = _dealt(np.unique(founder, return_inverse=True)[1])
    assert np.unique(group).size == MOST_GROUPS
    assert set(group[:50]).isdisjoint(group[50:90])
    assert np.bincount(group).max() <= 52
    for label in np.unique(founder):
        assert np.unique(group[founder == label]).size == 1
    z = rng().normal(size=founder.size)
    w = fitness(rng(4).poisson(np.exp(0.3 * z)))
    found = average_gradients({"z": z}, w, founder, family="poisson", scale="raw")["z"]
    assert found.n_clusters == np.unique(founder).size
    assert found.low < 0.3 < found.high


def test_an_average_gradient_recovers_the_surface_it_was_made_with() -> None:
    source = rng(9)
    z = source.normal(size=(4000, 2))
    w = source.poisson(np.exp(-0.5 + 0.3 * z[:, 0] - 0.2 * z[:, 1])).astype(float)
    found = average_gradients(
        {"a": z[:, 0], "b": z[:, 1]}, fitness(w), np.arange(4000), family="poisson", scale="raw"
    )
    assert found["a"].low < 0.3 < found["a"].high
    assert found["b"].low < -0.2 < found["b"].high
    assert found["a"].high - found["a"].low < 0.2
    # Of a normal trait, least squares and the average of the surface agree (Stein's lemma).
    alive = (source.random(4000) < norm.cdf(z[:, 0])).astype(float)
    least = linear_gradients({"a": z[:, 0]}, fitness(alive)).beta["a"]
    surface = average_gradients({"a": z[:, 0]}, fitness(alive), np.arange(4000), family="logistic")
    assert surface["a"].value == pytest.approx(least.value, rel=0.02)


@pytest.mark.parametrize("family", ["logistic", "poisson"])
def test_a_trait_that_foretells_fitness_has_no_finite_surface(family: str) -> None:
    z = np.repeat([0.0, 1.0], 10)
    w = np.where(z == 0, 0.0, np.tile([0.0, 1.0], 10))
    found = average_gradients({"z": z}, fitness(w), np.arange(20), family=family)["z"]
    assert math.isnan(found.value)
    assert "foretells fitness without error" in found.method
    if family == "logistic":
        for every in (z, np.ones(20)):
            found = average_gradients({"z": z}, fitness(every), np.arange(20), family=family)["z"]
            assert math.isnan(found.value)


def test_a_logistic_surface_takes_only_survival() -> None:
    with pytest.raises(ValueError, match="needs fitness of 0 or 1"):
        average_gradients(
            {"z": np.arange(9.0)}, fitness(np.arange(9.0)), np.arange(9), family="logistic"
        )


# -- refusals -----------------------------------------------------------------------------------

EVERY = [
    linear_gradients,
    quadratic_gradients,
    lambda t, w: linear_gradients_jackknife(t, w, np.arange(w.values.size), rng=rng()),
    lambda t, w: quadratic_gradients_jackknife(t, w, np.arange(w.values.size), rng=rng()),
    lambda t, w: average_gradients(t, w, np.arange(w.values.size), family="poisson"),
]


@pytest.mark.parametrize("statistic", EVERY)
def test_traits_that_tell_the_same_are_refused_by_name(statistic: Callable[..., object]) -> None:
    source = rng()
    a, b, c = source.normal(50, 3, size=(3, 60))
    w = fitness(source.poisson(3.0, 60))
    with pytest.raises(ValueError, match=r"^a, twice_a.*: one is a sum of the others"):
        statistic({"a": a, "c": c, "twice_a": 2 * a + 7}, w)
    with pytest.raises(ValueError, match=r"^a, b, both.*: one is a sum of the others"):
        statistic({"a": a, "b": b, "c": c, "both": a - b}, w)
    with pytest.raises(ValueError, match=r"flat.*: the same in every model, leave it out"):
        statistic({"a": a, "flat": np.full(60, 0.1)}, w)


@pytest.mark.parametrize("statistic", [EVERY[1], EVERY[3]])
def test_the_square_of_a_trait_of_two_values_is_refused_by_name(
    statistic: Callable[..., object],
) -> None:
    z = rng().normal(size=30)
    w = fitness(np.arange(30.0))
    with pytest.raises(ValueError, match="gguf, square of gguf: one is a sum"):
        statistic({"z": z, "gguf": np.arange(30) % 3 == 0}, w)
    with pytest.raises(ValueError, match="square of sign: the same in every model"):
        statistic({"z": z, "sign": np.where(np.arange(30) % 2, 1.0, -1.0)}, w)


@pytest.mark.parametrize("statistic", EVERY)
def test_impossible_input_is_refused(statistic: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="no trait is given"):
        statistic({}, fitness([1, 2, 3]))
    with pytest.raises(ValueError, match="age: 3 values expected, 2 given"):
        statistic({"age": np.zeros(2)}, fitness([1, 2, 3]))
    with pytest.raises(ValueError, match="fitness must not be negative"):
        statistic({"age": np.arange(3.0)}, fitness([1, -2, 3]))


def test_a_cluster_of_the_wrong_length_is_refused() -> None:
    traits, w = {"z": np.arange(9.0)}, fitness(np.arange(9.0))
    with pytest.raises(ValueError, match="cluster: 9 labels expected, 3 given"):
        linear_gradients_jackknife(traits, w, np.arange(3), rng=rng())
    with pytest.raises(ValueError, match="cluster: 9 labels expected, 3 given"):
        average_gradients(traits, w, np.arange(3), family="poisson")


@pytest.mark.parametrize("statistic", EVERY)
@pytest.mark.parametrize(
    ("z", "w", "reason"),
    [
        ([1, NAN, NAN], [1, 2, 3], "1 models with every trait and fitness"),
        ([1, 2, 3], [NAN, NAN, NAN], "0 models with every trait and fitness"),
        ([], [], "0 models with every trait and fitness"),
        ([1, 2, 3, 5, 8, 9], [0] * 6, "no model has any fitness"),
    ],
)
def test_gradients_that_cannot_be_trusted_are_nan_and_say_why(
    statistic: Callable[..., object], z: list[float], w: list[float], reason: str
) -> None:
    found = statistic({"z": np.array(z, dtype=float)}, fitness(w))
    found = values_of(found) if not isinstance(found, dict) else list(found.values())
    assert all(math.isnan(e.value) and reason in e.method for e in found)
    assert found


def test_two_models_more_than_terms_are_the_fewest_that_can_be_fitted() -> None:
    z, w, each = np.array([1.0, 2, 4, 5]), np.array([1.0, 3, 2, 5]), np.arange(4)
    for n, known in ((2, False), (3, True)):
        traits, few = {"z": z[:n]}, fitness(w[:n])
        assert math.isfinite(linear_gradients(traits, few).beta["z"].value) == known
        found = average_gradients(traits, few, each[:n], family="poisson")["z"]
        assert math.isfinite(found.value) == known
    for n, known in ((3, False), (4, True)):
        found = quadratic_gradients({"z": z[:n]}, fitness(w[:n])).quadratic["z"]
        assert math.isfinite(found.value) == known


def test_too_few_founders_are_not_trusted() -> None:
    traits, w, _ = sample(1)
    two = np.arange(40) % 2
    found = linear_gradients_jackknife(traits, w, two, rng=rng()).beta["age"]
    assert math.isnan(found.value)
    assert "2 independent groups, 3 needed" in found.method
    found = average_gradients(traits, w, np.arange(40) % 4, family="poisson")["age"]
    assert math.isnan(found.value)
    assert "4 independent groups, 5 needed for 3 traits" in found.method


def test_a_trait_of_one_founder_only_is_not_trusted() -> None:
    cluster = np.repeat(np.arange(5), 6)
    rare = np.where(cluster == 2, np.arange(30) % 2, 0).astype(float)
    traits, w = {"rare": rare, "size": rng().normal(size=30)}, fitness(1 + np.arange(30) % 7)
    of_each = linear_gradients_jackknife(traits, w, cluster, rng=rng()).beta
    surface = average_gradients(traits, w, cluster, family="poisson")
    for found in (of_each["rare"], surface["rare"]):
        assert math.isnan(found.value)
        assert "undefined without one of 1 of the independent groups" in found.method


def test_fitness_that_does_not_vary_explains_nothing() -> None:
    found = linear_gradients({"z": np.arange(9.0)}, fitness(np.ones(9)))
    assert found.beta["z"].value == pytest.approx(0, abs=1e-12)
    assert math.isnan(found.explained.value)
    assert "does not vary" in found.explained.method
