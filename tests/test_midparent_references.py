"""Parent–offspring regression against what Galton, Pearson, the Grants and R found."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineage.evolution.inheritance.heritability import (
    corrected_for_attenuation,
    from_one_parent,
    heritability,
    heritability_bootstrap,
    within_founder_heritability,
)
from lineage.evolution.inheritance.textbook import (
    heritability_independent,
    parent_offspring_correlation,
    parent_set_means,
    parent_sets,
)
from lineage.graph import LineageGraph
from lineage.model import Estimate

Floats = NDArray[np.float64]
NAN = math.nan


def rows_of(path: Path) -> list[dict[str, str]]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return [{k.strip(): v for k, v in row.items()} for row in csv.DictReader(lines)]


def column(rows: list[dict[str, str]], name: str) -> Floats:
    return np.array([NAN if row[name] in ("", "NA") else float(row[name]) for row in rows])


def error_of(found: Estimate) -> float:
    """The standard error, from the interval by Student's t; all digits, unlike the method's."""
    from scipy.stats import t

    return (found.high - found.low) / 2 / float(t.ppf((1 + found.level) / 2, found.n - 2))


# -- published answers --------------------------------------------------------------------------


def test_finch_beaks_have_the_grants_heritabilities_and_errors(shared_data: Path) -> None:
    # Grant & Grant, 40 Years of Evolution (2014), Fig. 3.3; errors by R's lm()
    folder = shared_data / "statistics" / "finches"
    fortis = rows_of(folder / "fortis_beak_depth_heredity.csv")
    child = column(fortis, "Mid-offspr")
    male, female = column(fortis, "Male BD"), column(fortis, "Female BD")
    found = heritability_independent(child, (male + female) / 2)
    assert found.value == pytest.approx(0.7229051911438156, abs=1e-12)
    assert error_of(found) == pytest.approx(0.03354688000424289, abs=1e-12)
    assert found.n == 413
    r = parent_offspring_correlation(child, (male + female) / 2)
    assert r.value == pytest.approx(0.7283412395518487, abs=1e-12)
    assert r.low < 0.7283 < r.high
    # One parent of share ½ at a time: mates resemble each other, so both are above 0.72.
    for parent, slope in ((male, 0.36130878593867954), (female, 0.4834968228250727)):
        one = heritability_independent(child, parent)
        assert one.value == pytest.approx(slope, abs=1e-12)
        assert from_one_parent(one, 0.5).value == pytest.approx(2 * slope, abs=1e-12)
    scandens = rows_of(folder / "scandens_beak_depth_heredity.csv")
    child, middle = column(scandens, "mid_offspring"), column(scandens, "mid_parent")
    found = heritability_independent(child, middle)
    assert found.value == pytest.approx(0.5485340868685983, abs=1e-12)
    assert error_of(found) == pytest.approx(0.10731991457615303, abs=1e-12)
    assert found.n == 130
    assert parent_offspring_correlation(child, middle).value == pytest.approx(
        0.41170636294012586, abs=1e-12
    )


def test_galtons_table_of_1886_regresses_as_r_has_it(shared_data: Path) -> None:
    pairs = rows_of(shared_data / "statistics" / "heights" / "Galton1886.csv")
    child, parent = column(pairs, "child"), column(pairs, "parent")
    found = heritability_independent(child, parent)
    assert found.value == pytest.approx(0.64629058, abs=5e-9)
    assert error_of(found) == pytest.approx(0.041135882, abs=5e-10)
    assert found.p_value == pytest.approx(1.7325093e-49, rel=1e-7)
    assert found.n == 928
    r = parent_offspring_correlation(child, parent)
    assert r.value == pytest.approx(0.45876237, abs=5e-9)
    assert r.p_value == pytest.approx(1.7325093e-49, rel=1e-7)  # the same test
    # As a table of cells, the same
    cells, times = np.unique(np.column_stack([child, parent]), axis=0, return_counts=True)
    tabled = heritability_independent(cells[:, 0], cells[:, 1], frequency=times.astype(float))
    assert tabled.n == 928
    assert (tabled.value, tabled.low, tabled.high) == pytest.approx(
        (found.value, found.low, found.high), abs=1e-12
    )


def test_galtons_families_pooled_by_sex_and_by_family_regress_as_r_has_them(
    shared_data: Path,
) -> None:
    rows = rows_of(shared_data / "statistics" / "heights" / "GaltonFamilies.csv")
    middle, raw = column(rows, "midparentHeight"), column(rows, "childHeight")
    son = np.array([row["gender"] == "male" for row in rows])
    _, family = np.unique([row["family"] for row in rows], return_inverse=True)
    as_men = raw * np.where(son, 1.0, 1.08)
    expected = {
        "pooled": (raw, 0.6373609, 0.061607602, 8.053865e-24, 0.3209499),
        "daughters × 1.08": (as_men, 0.71258499, 0.040752382, 1.9957624e-59, 0.49701225),
    }
    for child, slope, error, p_value, r in expected.values():
        found = heritability_independent(child, middle)
        assert found.value == pytest.approx(slope, abs=5e-8)
        assert error_of(found) == pytest.approx(error, abs=5e-10)
        assert found.p_value == pytest.approx(p_value, rel=1e-6)
        assert found.n == 934
        correlation = parent_offspring_correlation(child, middle)
        assert correlation.value == pytest.approx(r, abs=5e-8)
    # One mean for each family: the error that independence of siblings had hidden.
    means = parent_set_means(as_men, middle, family, family)
    found = heritability_independent(means[0], means[1])
    assert found.value == pytest.approx(0.66908934, abs=5e-9)
    assert error_of(found) == pytest.approx(0.057438244, abs=5e-10)
    assert found.n == 205
    assert means[2].tolist() == list(range(205))
    # Sons and daughters on the plain mean of their parents.
    father, mother = column(rows, "father"), column(rows, "mother")
    for sex, slope, error in (
        (son, 0.74577016, 0.061455718),
        (~son, 0.68652991, 0.053742965),
    ):
        found = heritability_independent(raw[sex], (father + mother)[sex] / 2)
        assert found.value == pytest.approx(slope, abs=5e-9)
        assert error_of(found) == pytest.approx(error, abs=5e-10)


def test_pearson_and_lees_cells_have_their_slopes_and_correlations(shared_data: Path) -> None:
    rows = rows_of(shared_data / "statistics" / "heights" / "PearsonLee1903.csv")
    expected = {  # R; Pearson & Lee (1903) print .514, .510, .494, .507
        "fs": (1078, 0.51926465, 0.51413368),
        "fd": (1376, 0.47873203, 0.51084886),
        "ms": (1057, 0.56334976, 0.49383358),
        "md": (1381, 0.54493677, 0.50193523),
    }
    for group, (n, slope, r) in expected.items():
        own = [row for row in rows if row["gp"] == group]
        arrays = column(own, "child"), column(own, "parent")
        times = column(own, "frequency")
        found = heritability_independent(*arrays, frequency=times)
        assert found.value == pytest.approx(slope, abs=5e-9)
        assert found.n == n
        correlation = parent_offspring_correlation(*arrays, frequency=times)
        assert correlation.value == pytest.approx(r, abs=5e-9)
        assert correlation.n == n
        assert from_one_parent(found, 0.5).value == pytest.approx(2 * slope, abs=1e-8)


def test_gryphon_daughters_of_mothers_overstate_heritability_as_r_has_it(shared_data: Path) -> None:
    # Wilson et al. (2010): the animal model with a maternal effect has 0.388
    rows = rows_of(shared_data / "statistics" / "gryphon" / "gryphon.csv")
    rows = [{k.strip('"'): v for k, v in row.items()} for row in rows]
    weight = {row["animal"]: NAN if row["bwt"] in ("", "NA") else float(row["bwt"]) for row in rows}
    child = np.array(list(weight.values()))
    mother = np.array([weight.get(row["mother"], NAN) for row in rows])
    found = heritability_independent(child, mother)
    assert found.value == pytest.approx(0.2711509, abs=5e-8)
    assert error_of(found) == pytest.approx(0.0472186, abs=5e-8)
    assert found.p_value == pytest.approx(1.536727e-08, rel=1e-6)
    assert found.n == 558
    assert from_one_parent(found, 0.5).value == pytest.approx(0.5423, abs=5e-5)


# -- within founders ----------------------------------------------------------------------------


def naive_within(x: Floats, y: Floats, founder: list[int]) -> float:
    """Slope of least squares with a column for each founder."""
    design = np.column_stack([x] + [np.array(founder) == g for g in sorted(set(founder))])
    return float(np.linalg.lstsq(design, y, rcond=None)[0][0])


@given(st.integers(0, 10_000))
def test_the_slope_within_founders_is_that_of_a_column_for_each_founder(seed: int) -> None:
    source = np.random.default_rng(seed)
    founder = [0, 0, 0, 1, 1, 2, *source.integers(0, 5, 12).tolist()]
    x, y = source.normal(40, 1, len(founder)), source.normal(-3, 1, len(founder))
    x += 5 * np.array(founder)
    found = within_founder_heritability(y, x, np.array(founder), rng=source)
    several = sorted(g for g in set(founder) if founder.count(g) > 1)
    rows = [i for i, g in enumerate(founder) if g in several]
    assert found.value == pytest.approx(
        naive_within(x[rows], y[rows], [founder[i] for i in rows]), rel=1e-8, abs=1e-10
    )
    without = []
    for left in several:
        kept = [i for i in rows if founder[i] != left]
        without.append(naive_within(x[kept], y[kept], [founder[i] for i in kept]))
    away, count = np.array(without) - np.mean(without), len(several)
    stated = float(re.search(r"SE (\S+)$", found.method)[1])
    assert stated == pytest.approx(np.sqrt((count - 1) / count * (away @ away)), rel=1e-3)
    assert found.n == len(rows)
    assert found.n_clusters == count


def test_what_founders_differ_in_is_no_heritability_within_them() -> None:
    source = np.random.default_rng(2)
    founder = np.repeat(np.arange(40), 10)
    size = source.normal(0, 3, 40)[founder]
    parent, child = size + source.normal(size=400), size + source.normal(size=400)
    between = heritability(child, parent, founder)
    within = within_founder_heritability(child, parent, founder, rng=source)
    assert between.value > 0.8
    assert within.low < 0 < within.high


@pytest.mark.parametrize(
    ("x", "founder", "reason"),
    [
        ([1.1, 1.2, 2.2, 2.2, 3.3], [0, 0, 1, 1, 1], None),
        ([1.1, 1.1, 2.2, 2.2, 3.3], [0, 0, 1, 1, 1], "undefined without one of 1"),
        ([0.1 + 0.2, 0.3, 2.2, 2.2], [0, 0, 1, 1], "no variation to measure it by"),
        ([1, 2, 3, 4], [0, 1, 2, 3], "0 measured parent–offspring pairs"),
        ([1, 2, 3, 4], [0, 0, 0, 3], "1 independent group"),
        ([1, 2, 3, NAN], [0, 0, 1, 1], "2 measured parent–offspring pairs"),
        ([], [], "0 measured parent–offspring pairs"),
    ],
)
def test_slopes_within_founders_that_cannot_be_trusted_are_nan(
    x: list[float], founder: list[int], reason: str | None
) -> None:
    y = np.arange(len(x), dtype=float)
    found = within_founder_heritability(
        y, np.array(x, dtype=float), np.array(founder, dtype=int), rng=np.random.default_rng(1)
    )
    assert math.isnan(found.value) == (reason is not None)
    assert reason is None or reason in found.method


# -- one parent, and parents measured with error --------------------------------------------------


def test_dividing_a_slope_divides_its_interval_and_keeps_its_p_value() -> None:
    slope = Estimate(-0.2, -0.4, 0.1, 0.9, 50, "slope", 7, 0.03)
    for found in (from_one_parent(slope, 0.25), corrected_for_attenuation(slope, 0.25)):
        assert (found.value, found.low, found.high) == pytest.approx((-0.8, -1.6, 0.4))
        assert (found.level, found.n, found.n_clusters, found.p_value) == (0.9, 50, 7, 0.03)
        assert found.method.endswith("before that: slope")
    assert "share 0.25" in from_one_parent(slope, 0.25).method
    assert "reliability 0.25" in corrected_for_attenuation(slope, 0.25).method


def test_a_slope_that_was_not_trusted_stays_so() -> None:
    nothing = Estimate(NAN, NAN, NAN, 0.95, 1, "slope; not estimated: too few", 1)
    found = from_one_parent(nothing, 0.5)
    assert math.isnan(found.value)
    assert "too few" in found.method


@pytest.mark.parametrize("by", [0.0, -0.5, 1.01, NAN])
def test_shares_and_reliabilities_outside_nought_to_one_are_refused(by: float) -> None:
    slope = Estimate(0.2, 0.1, 0.3, 0.95, 50, "slope")
    with pytest.raises(ValueError, match=r"share of the child must lie in \(0, 1\]"):
        from_one_parent(slope, by)
    with pytest.raises(ValueError, match=r"reliability must lie in \(0, 1\]"):
        corrected_for_attenuation(slope, by)


def test_correction_recovers_the_slope_that_error_flattened() -> None:
    source = np.random.default_rng(3)
    cluster = np.repeat(np.arange(300), 10)
    true = source.normal(50, 2, 3000)
    child = 0.6 * true + source.normal(0, 1, 3000)
    variance = source.uniform(1, 3, 3000)  # reliability 4 / (4 + 2)
    measured = true + source.normal(0, np.sqrt(variance))
    flat = heritability(child, measured, cluster)
    assert flat.high < 0.45
    assert corrected_for_attenuation(flat, 4 / 6).value == pytest.approx(0.6, abs=0.03)
    found = heritability_bootstrap(
        child, measured, cluster, rng=np.random.default_rng(1), error_variance=variance
    )
    assert found.value == pytest.approx(0.6, abs=0.03)
    assert found.low < 0.6 < found.high
    assert "corrected for its measurement error" in found.method
    # By hand: the same denominators
    dx, dy = measured - measured.mean(), child - child.mean()
    expected = dx @ dy / (dx @ dx - 2999 / 3000 * variance.sum())
    assert found.value == pytest.approx(expected, rel=1e-9)
    # Correction widens: its own uncertainty is in it, and the signal is less.
    plain = heritability_bootstrap(child, measured, cluster, rng=np.random.default_rng(1))
    assert found.high - found.low > plain.high - plain.low


def test_no_error_is_no_correction_and_an_unknown_one_leaves_the_pair_out() -> None:
    source = np.random.default_rng(3)
    x, y, cluster = source.normal(size=21), source.normal(size=21), np.arange(21) % 7
    error = np.zeros(21)
    error[20] = NAN
    found = heritability_bootstrap(
        y, x, cluster, rng=np.random.default_rng(1), error_variance=error
    )
    plain = heritability_bootstrap(y[:20], x[:20], cluster[:20], rng=np.random.default_rng(1))
    assert (found.value, found.low, found.high, found.n) == pytest.approx(
        (plain.value, plain.low, plain.high, 20)
    )


def test_errors_larger_than_the_variation_leave_no_slope() -> None:
    x = np.arange(12.0)
    found = heritability_bootstrap(
        x, x, np.arange(12), rng=np.random.default_rng(1), error_variance=np.full(12, 50.0)
    )
    assert math.isnan(found.value)
    with pytest.raises(ValueError, match="measurement error must not be negative"):
        heritability_bootstrap(
            x, x, np.arange(12), rng=np.random.default_rng(1), error_variance=np.full(12, -1.0)
        )


# -- the textbook estimators ---------------------------------------------------------------------


@pytest.mark.parametrize("statistic", [heritability_independent, parent_offspring_correlation])
@pytest.mark.parametrize(
    ("child", "middle", "times", "reason"),
    [
        ([1, 2], [1, 3], None, "2 measured parent–offspring pairs, 3 needed"),
        ([1, 2, NAN], [1, 3, 4], None, "2 measured parent–offspring pairs"),
        ([1, 2, 3], [0.1, 0.1, 0.1], None, "do not vary"),
        ([1, 2, 3], [1, 2, 4], [0.5, 0.5, 0.5], "1.5 measured parent–offspring pairs"),
        ([1, 2, 3], [1, 1, 4], [9, 9, 0], "do not vary"),
        ([], [], None, "0 measured parent–offspring pairs"),
    ],
)
def test_textbook_estimates_that_cannot_be_trusted_are_nan_and_say_why(
    statistic: object,
    child: list[float],
    middle: list[float],
    times: list[float] | None,
    reason: str,
) -> None:
    frequency = None if times is None else np.array(times, dtype=float)
    found = statistic(np.array(child, float), np.array(middle, float), frequency=frequency)
    assert math.isnan(found.value)
    assert reason in found.method


@pytest.mark.parametrize("times", [[1, -1, 3], [1, NAN, 3]])
def test_frequencies_that_count_nothing_are_refused(times: list[float]) -> None:
    x = np.array([1.0, 2, 3])
    for statistic in (heritability_independent, parent_offspring_correlation):
        with pytest.raises(ValueError, match="every row needs its frequency, not negative"):
            statistic(x, x, frequency=np.array(times, dtype=float))


def test_correlation_and_its_interval_are_scipys() -> None:
    from scipy.stats import pearsonr

    source = np.random.default_rng(8)
    x = source.normal(100, 1, 30)
    y = -0.4 * x + source.normal(size=30)
    found = parent_offspring_correlation(y, x, level=0.9)
    oracle = pearsonr(x, y)
    assert found.value == pytest.approx(oracle.statistic)
    assert found.p_value == pytest.approx(oracle.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval(0.9)))


def test_a_correlation_needs_four_pairs_and_children_that_vary() -> None:
    x = np.arange(6.0)
    found = parent_offspring_correlation(x[:3] ** 2, x[:3])
    assert "3 measured parent–offspring pairs, 4 needed" in found.method
    found = parent_offspring_correlation(np.full(6, 0.1), x)
    assert "the children do not vary" in found.method
    found = parent_offspring_correlation(-x, x)
    assert (found.value, found.low, found.high) == pytest.approx((-1, -1, -1))


# -- siblings -----------------------------------------------------------------------------------


def test_models_of_the_same_parents_in_the_same_shares_are_siblings() -> None:
    graph = LineageGraph.from_edges(
        ["a", "b", "m1", "m2", "m3", "f1", "f2", "f3", "dead"],
        [
            ("m1", "a", 0.25, 0),
            ("m1", "b", 0.75, 1),
            ("m2", "b", 3.0, 0),  # the same, in another order and scale
            ("m2", "a", 1.0, 1),
            ("m3", "a", 0.5, 0),
            ("m3", "b", 0.5, 1),
            ("f1", "a", 1.0, 0),
            ("f2", "a", 0.3, 0),
            ("f2", "b", 0.0, 1),
            ("f3", "b", 1.0, 0),
            ("dead", "a", 0.0, 0),
        ],
    )
    assert parent_sets(graph).tolist() == [-1, -1, 0, 0, 1, 2, 2, 3, -1]


def test_one_mean_stands_for_each_set_of_parents() -> None:
    child, middle, cluster = parent_set_means(
        np.array([1.0, 9.0, 3.0, NAN, 5.0, 7.0]),
        np.array([2.0, 4.0, 2.0, 2.0, NAN, 4.0]),
        np.array([5, 3, 5, 5, 8, 3]),
        np.array([1, 0, 1, 1, 2, 0]),
    )
    assert child.tolist() == [8.0, 2.0]
    assert middle.tolist() == [4.0, 2.0]
    assert cluster.tolist() == [0, 1]
    assert [a.size for a in parent_set_means(*[np.zeros(0)] * 2, *[np.zeros(0, int)] * 2)] == [
        0
    ] * 3


def test_siblings_of_several_mid_parents_or_clusters_are_refused() -> None:
    one = np.zeros(2, dtype=np.int64)
    with pytest.raises(ValueError, match="must have one mid-parent"):
        parent_set_means(np.array([1.0, 2]), np.array([1.0, 2]), one, one)
    with pytest.raises(ValueError, match="must be of one cluster"):
        parent_set_means(np.array([1.0, 2]), np.array([1.0, 1]), one, np.array([0, 1]))
