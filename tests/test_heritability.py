"""Parent–offspring regression: hand cases, naive oracles, and published answers."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import t as student_t

from lineage.evolution.inheritance.adjusted import adjusted_heritability
from lineage.evolution.inheritance.heritability import (
    heritability,
    heritability_bootstrap,
    heritability_jackknife,
)
from lineage.evolution.traits import EdgeTuple, Population, collapse_copies
from lineage.graph import LineageGraph

Floats = NDArray[np.float64]


def rows_of(path: Path) -> list[dict[str, str]]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return [{k.strip(): v for k, v in row.items()} for row in csv.DictReader(lines)]


def naive_cr1(x: Floats, y: Floats, groups: list[int]) -> tuple[float, float]:
    """The sandwich by matrices: (X'X)⁻¹ (Σ X_g' u_g u_g' X_g) (X'X)⁻¹ · CR1."""
    design = np.column_stack([np.ones_like(x), x])
    bread = np.linalg.inv(design.T @ design)
    beta = bread @ design.T @ y
    residual = y - design @ beta
    meat = np.zeros((2, 2))
    for g in set(groups):
        rows = [i for i, label in enumerate(groups) if label == g]
        score = design[rows].T @ residual[rows]
        meat += np.outer(score, score)
    n, count = len(x), len(set(groups))
    sandwich = bread @ meat @ bread * count / (count - 1) * (n - 1) / (n - 2)
    return float(beta[1]), math.sqrt(sandwich[1, 1])


def standard_error(method: str) -> float:
    return float(method.rpartition("SE ")[2])


def test_slope_error_and_interval_of_a_case_worked_on_paper() -> None:
    # x̄ = 1.5, Sxx = 5, Sxy = 3, b = .6; residuals −.1 .3 −.3 .1; scores by group ∓0 ...
    x, y = np.array([0.0, 1, 2, 3]), np.array([0.0, 1, 1, 2])
    # groups {0,3} and {1,2}: scores .15+.15 = .3 and −.15−.15 = −.3
    found = heritability(y, x, np.array([0, 1, 1, 0]))
    assert found.value == pytest.approx(0.6)
    error = math.sqrt(2 / 1 * 3 / 2 * (0.09 + 0.09)) / 5
    assert found.high - found.value == pytest.approx(12.706204736 * error)
    assert found.value - found.low == pytest.approx(12.706204736 * error)
    assert (found.n, found.n_clusters, found.level) == (4, 2, 0.95)
    assert found.p_value == pytest.approx(2 * math.atan(error / 0.6) / math.pi)  # Cauchy


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_clustered_interval_agrees_with_the_matrix_sandwich(seed: int, n_groups: int) -> None:
    rng = np.random.default_rng(seed)
    groups = [*range(n_groups), *rng.integers(0, n_groups, 9).tolist()]
    x, y = rng.normal(40, 1, len(groups)), rng.normal(-3, 1, len(groups))
    found = heritability(y, x, np.array(groups))
    slope, error = naive_cr1(x, y, groups)
    assert found.value == pytest.approx(slope, rel=1e-8, abs=1e-10)
    assert standard_error(found.method) == pytest.approx(error, rel=1e-3)


def test_finch_beak_depth_has_the_published_heritabilities(shared_data: Path) -> None:
    folder = shared_data / "statistics" / "finches"
    fortis = rows_of(folder / "fortis_beak_depth_heredity.csv")
    child = np.array([float(row["Mid-offspr"]) for row in fortis])
    middle = np.array([(float(r["Male BD"]) + float(r["Female BD"])) / 2 for r in fortis])
    # one child per cluster, HC1: the published SE is the classical one, checked by its own oracle
    found = heritability(child, middle, np.arange(child.size))
    assert found.value == pytest.approx(0.7229051911438156, abs=1e-12)
    assert (found.n, found.n_clusters) == (413, 413)
    assert classical_error(middle, child) == pytest.approx(0.03354688000424289, abs=1e-12)
    bootstrap = heritability_bootstrap(
        child, middle, np.arange(child.size), rng=np.random.default_rng(1)
    )
    assert bootstrap.value == pytest.approx(found.value, abs=1e-12)
    assert (bootstrap.low, bootstrap.high) == pytest.approx((0.652, 0.793), abs=0.015)

    scandens = rows_of(folder / "scandens_beak_depth_heredity.csv")
    child = np.array([float(row["mid_offspring"]) for row in scandens])
    middle = np.array([float(row["mid_parent"]) for row in scandens])
    found = heritability(child, middle, np.arange(child.size))
    assert found.value == pytest.approx(0.5485340868685983, abs=1e-12)
    assert found.n == 130
    bootstrap = heritability_bootstrap(
        child, middle, np.arange(child.size), rng=np.random.default_rng(1)
    )
    assert (bootstrap.low, bootstrap.high) == pytest.approx((0.355, 0.758), abs=0.03)


def classical_error(x: Floats, y: Floats) -> float:
    dx, dy = x - x.mean(), y - y.mean()
    slope = (dx @ dy) / (dx @ dx)
    return math.sqrt(float(((dy - slope * dx) ** 2).sum() / (x.size - 2) / (dx @ dx)))


def test_galton_heights_regress_as_galton_and_r_found(shared_data: Path) -> None:
    pairs = rows_of(shared_data / "statistics" / "heights" / "Galton1886.csv")
    child = np.array([float(row["child"]) for row in pairs])
    parent = np.array([float(row["parent"]) for row in pairs])
    found = heritability(child, parent, np.arange(child.size))
    assert found.value == pytest.approx(0.64629058, abs=1e-8)
    assert classical_error(parent, child) == pytest.approx(0.041135882, abs=1e-8)
    # independent children: the robust error must come out near the classical one
    assert standard_error(found.method) == pytest.approx(0.0411, rel=0.1)


def test_clustering_by_family_widens_galtons_error_as_statsmodels_has_it(shared_data: Path) -> None:
    # Recipe: statsmodels 0.15.0, smf.ols("y ~ midparentHeight").fit(cov_type="cluster",
    # cov_kwds={"groups": family, "use_correction": True}, use_t=True); daughters × 1.08.
    families = rows_of(shared_data / "statistics" / "heights" / "GaltonFamilies.csv")
    middle = np.array([float(row["midparentHeight"]) for row in families])
    raw = np.array([float(row["childHeight"]) for row in families])
    adjusted = raw * np.where([row["gender"] == "male" for row in families], 1.0, 1.08)
    _, family = np.unique([row["family"] for row in families], return_inverse=True)
    found = heritability(adjusted, middle, family)
    assert found.value == pytest.approx(0.7125849916953153, abs=1e-10)
    assert (found.low, found.high) == pytest.approx(
        (0.6114083451187988, 0.8137616382718318), abs=1e-10
    )
    assert found.p_value == pytest.approx(2.664358880948963e-31, rel=1e-6)
    assert (found.n, found.n_clusters) == (934, 205)
    assert standard_error(found.method) > 1.2 * 0.040752382  # R's unclustered SE
    found = heritability(raw, middle, family)
    assert found.value == pytest.approx(0.6373608969694974, abs=1e-10)
    assert (found.low, found.high) == pytest.approx(
        (0.5070952640358888, 0.767626529903106), abs=1e-10
    )


def test_perfect_inheritance_gives_slope_one_and_no_width() -> None:
    x = np.array([1.0, 2, 4, 8])
    found = heritability(x + 3, x, np.array([0, 0, 1, 1]))
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(
    ("child", "middle", "cluster", "reason"),
    [
        ([1, 2], [1, 3], [0, 1], "2 measured parent–offspring pairs"),
        ([1, 2, math.nan], [1, 3, 4], [0, 1, 2], "2 measured parent–offspring pairs"),
        ([1, 2, 3], [1, math.nan, 4], [0, 1, 2], "2 measured parent–offspring pairs"),
        ([1, 2, 3], [1, 3, 4], [5, 5, 5], "1 independent group"),
        ([1, 2, 3], [0.1, 0.1, 0.1], [0, 1, 2], "do not vary"),
    ],
)
def test_what_cannot_be_trusted_is_nan_and_says_why(
    child: list[float], middle: list[float], cluster: list[int], reason: str
) -> None:
    arrays = (np.array(child, float), np.array(middle, float), np.array(cluster))
    for found in (
        heritability(*arrays),
        heritability_jackknife(*arrays, rng=np.random.default_rng(0)),
        heritability_bootstrap(*arrays, rng=np.random.default_rng(0)),
    ):
        assert math.isnan(found.value)
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert reason in found.method


def test_the_founder_bootstrap_is_that_of_whole_founders_and_repeats_under_one_seed() -> None:
    rng = np.random.default_rng(5)
    cluster = np.repeat([3, 7, 8, 11, 20], [4, 2, 6, 3, 5])
    x = rng.normal(10, 1, cluster.size)
    y = 0.5 * x + rng.normal(0, 1, cluster.size)
    found = heritability_bootstrap(y, x, cluster, rng=np.random.default_rng(9), n_resamples=300)
    again = heritability_bootstrap(y, x, cluster, rng=np.random.default_rng(9), n_resamples=300)
    assert found == again
    slopes = []
    for counts in np.random.default_rng(9).multinomial(5, [0.2] * 5, size=300):
        rows = np.concatenate(
            [
                np.tile(np.flatnonzero(cluster == label), count)
                for label, count in zip(np.unique(cluster), counts, strict=True)
            ]
        )
        slopes.append(np.polyfit(x[rows], y[rows], 1)[0])
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(slopes, [0.025, 0.975])))


def test_the_jackknife_leaves_out_whole_founders() -> None:
    rng = np.random.default_rng(5)
    cluster = np.repeat([3, 7, 8, 11, 20], [14, 2, 6, 3, 5])
    x = rng.normal(10, 1, cluster.size)
    y = 0.5 * x + rng.normal(0, 1, cluster.size)
    found = heritability_jackknife(y, x, cluster, rng=rng)
    without = np.array(
        [np.polyfit(x[cluster != g], y[cluster != g], 1)[0] for g in np.unique(cluster)]
    )
    away = without - without.mean()
    reach = student_t.ppf(0.975, (away @ away) ** 2 / (away**4).sum())
    assert found.value == pytest.approx(heritability(y, x, cluster).value)
    assert found.high - found.value == pytest.approx(reach * math.sqrt(0.8 * (away @ away)))
    assert (found.n, found.n_clusters) == (30, 5)


def test_the_jackknife_of_many_alike_agrees_with_the_sandwich() -> None:
    rng = np.random.default_rng(5)
    cluster = np.repeat(np.arange(300), 3)
    x = rng.normal(10, 1, 900)
    y = 0.5 * x + rng.normal(0, 1, 900)
    one, other = heritability_jackknife(y, x, cluster, rng=rng), heritability(y, x, cluster)
    assert standard_error(one.method) == pytest.approx(standard_error(other.method), rel=0.02)
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=0.01)


NAN = math.nan


def trending(season: float = 0.0) -> tuple[Population, np.ndarray, np.ndarray]:
    """Pairs without any inheritance, but with a trend of the field and owners of their own hand."""
    rng, n = np.random.default_rng(8), 3000
    parent_day = rng.uniform(0, 600, n)
    born = np.concatenate([parent_day, parent_day + rng.exponential(60, n)])
    owner = np.concatenate([np.arange(n), np.where(rng.random(n) < 0.5, 0, n) + np.arange(n)])
    hand = rng.normal(size=2 * n)[owner]
    graph = LineageGraph.from_edges(
        [f"p{i}" for i in range(n)] + [f"c{i}" for i in range(n)],
        [(f"c{i}", f"p{i}", 1.0, 0) for i in range(n)],
    )
    trait = 0.01 * born + season * np.sin(born / 60) + hand + rng.normal(size=2 * n)
    return Population(graph, born, {"loss": trait}), owner, np.floor(born / 30).astype(int)


def test_trend_and_owners_are_no_heritability_once_adjusted_for() -> None:
    field, owner, month = trending()
    founder, rng = field.graph.founder, np.random.default_rng(1)
    plain = heritability_jackknife(field.traits["loss"], field.mid_parent("loss"), founder, rng=rng)
    assert plain.value > 0.5
    found = adjusted_heritability(field, "loss", owner, founder, month, rng=rng)
    assert found.low < 0 < found.high
    assert found.p_value > 0.05
    assert found.high - found.low < 0.2
    assert 1300 < found.n < 1700  # half of the children are their parents' owners' own
    assert found.method.startswith("within months of birth")
    half = np.arange(6000) % 2 == 0
    assert adjusted_heritability(
        field, "loss", owner, founder, month, rng=rng, member=half
    ).n == pytest.approx(found.n / 2, abs=60)  # fmt: skip


def test_seasons_that_no_parabola_follows_are_caught_by_months() -> None:
    field, owner, month = trending(season=2.0)
    founder, rng = field.graph.founder, np.random.default_rng(1)
    found = adjusted_heritability(field, "loss", owner, founder, month, rng=rng)
    assert found.low < 0 < found.high
    one = adjusted_heritability(field, "loss", owner, founder, np.zeros_like(month), rng=rng)
    assert one.low > 0.1


def test_neither_months_alone_nor_owners_alone_explain_what_both_make() -> None:
    field, owner, month = trending()
    founder, rng = field.graph.founder, np.random.default_rng(1)
    nobody, always = np.arange(6000), np.zeros(6000, dtype=int)
    of_owners = adjusted_heritability(field, "loss", nobody, founder, month, rng=rng)
    assert of_owners.low > 0.1
    # The parents' days are held in any case; months catch what the field does to the children.
    of_trend = adjusted_heritability(field, "loss", owner, founder, always, rng=rng)
    assert of_trend.value == pytest.approx(0, abs=0.1)


def population(edges: list[EdgeTuple], values: dict[str, float]) -> Population:
    graph = LineageGraph.from_edges(list(values), edges)
    return Population(
        graph, np.zeros(len(graph)), {"loss": np.array(list(values.values()), dtype=float)}
    )


def test_mid_parent_weights_the_parents_and_is_missing_where_any_of_them_is() -> None:
    group = population(
        [
            ("merge", "a", 0.25, 0),
            ("merge", "b", 0.75, 1),
            ("scaled", "a", 1.0, 0),
            ("scaled", "b", 1.0, 1),
            ("half_known", "a", 0.5, 0),
            ("half_known", "dark", 0.5, 1),
            ("idle", "a", 1.0, 0),
            ("idle", "b", 0.0, 1),
            ("nothing", "a", 0.0, 0),
        ],
        {
            "a": 2.0, "b": 6.0, "dark": NAN, "merge": 1.0, "scaled": 1.0, "half_known": 1.0,
            "idle": NAN, "nothing": 1.0,
        },
    )  # fmt: skip
    middle = dict(zip(group.graph.ids, group.mid_parent("loss").tolist(), strict=True))
    assert middle["merge"] == pytest.approx(5.0)
    assert middle["scaled"] == pytest.approx(4.0)
    assert middle["idle"] == pytest.approx(2.0)
    for name in ("a", "b", "dark", "half_known", "nothing"):
        assert math.isnan(middle[name])


def test_a_parent_of_no_weight_need_not_be_measured() -> None:
    group = population(
        [("c", "a", 1.0, 0), ("c", "dark", 0.0, 1)], {"a": 2.0, "dark": NAN, "c": 1.0}
    )
    assert group.mid_parent("loss")[2] == 2.0


def test_branches_are_the_lines_of_the_founders_children() -> None:
    names = ["f", "a", "b", "a1", "a2", "b1", "g"]
    edges: list[EdgeTuple] = [
        ("a", "f", 1, 0), ("b", "f", 1, 0), ("a1", "a", 1, 0), ("a2", "a1", 1, 0), ("b1", "b", 1, 0)
    ]  # fmt: skip
    group = population(edges, dict.fromkeys(names, 0.0))
    assert [names[i] for i in group.branch] == ["f", "a", "b", "a", "a", "b", "g"]


def test_collapsing_copies_joins_their_children_to_the_original() -> None:
    ids = ["f", "copy", "copy2", "child", "merge", "stray"]
    edges: list[EdgeTuple] = [
        ("copy", "f", 1.0, 0),
        ("copy2", "copy", 1.0, 0),
        ("child", "copy2", 1.0, 0),
        ("merge", "f", 0.3, 0),
        ("merge", "copy", 0.2, 1),
        ("merge", "child", 0.5, 2),
    ]
    kept, origin = collapse_copies(ids, edges, {"copy", "copy2", "stray"})
    assert set(kept) == {("child", "f", 1.0, 0), ("merge", "f", 0.5, 0), ("merge", "child", 0.5, 2)}
    assert origin == {
        "f": "f", "copy": "f", "copy2": "f", "child": "child", "merge": "merge", "stray": "stray"
    }  # fmt: skip


def test_arrays_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(ValueError, match="born_day: 1 values expected, 2 given"):
        Population(LineageGraph.from_edges(["a"], []), np.zeros(2), {})
