"""Opportunity by episodes: Howard's bullfrogs, a naive oracle, and what adds up."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineage.evolution.selection.differentials import opportunity
from lineage.evolution.selection.episodes import differential_by_episode, opportunity_by_episode
from lineage.evolution.selection.fitness import Fitness

Floats = NDArray[np.float64]
NAN = math.nan
NAMES = ("mates", "eggs", "hatched", "grown")


def rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


def totals(*columns: list[float] | Floats) -> list[Fitness]:
    return [
        Fitness(name, np.array(values, dtype=float), f"fitness: {name}")
        for name, values in zip(NAMES, columns, strict=False)
    ]


def naive(columns: list[Floats], z: Floats) -> tuple[list[float], list[float], list[float]]:
    """Own opportunities, increments and differentials, episode by episode in plain words."""
    weight = np.ones(len(z)) / len(z)
    before = np.ones(len(z))
    own, increments, moved, so_far = [], [], [], 0.0
    for after in columns:
        alive = before > 0
        factor = after[alive] / before[alive]
        relative = factor / (weight[alive] @ factor)
        own.append(float(weight[alive] @ (relative - 1) ** 2))
        moved.append(float(weight[alive] @ ((relative - 1) * z[alive])))
        weight = after / after.sum()
        all_told = float(np.var(after / after.mean()))
        increments.append(all_told - so_far)
        so_far, before = all_told, after
    return own, increments, moved


def test_bullfrogs_have_the_published_opportunities_by_episode(shared_data: Path) -> None:
    # Arnold & Wade 1984, data of Howard 1979; computed by R 4.2.2, reference_R.txt
    path = shared_data / "statistics" / "selection" / "Howard_Bullfrogs.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    counted = totals(
        *(
            [float(row[name]) for row in rows]
            for name in ("WTotalCops", "WTotalZygotes", "WTotalHatch")
        )
    )
    each = np.arange(len(rows))
    found = opportunity_by_episode(counted, each, rng=rng(), n_resamples=100)
    assert found.total.value == pytest.approx(2.27578, abs=5e-6)
    assert [part.opportunity.value for part in found.episodes] == pytest.approx(
        [1.345679, 0.2073314, 0.155692], abs=5e-7
    )
    assert np.cumsum([part.increment.value for part in found.episodes]) == pytest.approx(
        [1.345679, 1.935785, 2.27578], abs=5e-6
    )
    assert [part.name for part in found.episodes] == list(NAMES[:3])
    assert {part.opportunity.n for part in found.episodes} == {38}
    # The first frog's size lost a digit in the table; R's differentials were made with it too.
    size = np.array([float(row["BodySize_mm"]) for row in rows])
    moved = differential_by_episode(size, counted, each, rng=rng(), n_resamples=100)
    assert [e.value for _, e in moved.episodes] == pytest.approx(
        [0.07212476, 1.921264, 2.448324], abs=5e-6
    )
    assert moved.total.value == pytest.approx(4.441713, abs=5e-6)
    assert [name for name, _ in moved.episodes] == list(NAMES[:3])


def test_episodes_of_a_case_worked_on_paper() -> None:
    # mates 0 1 1 2: w₁ 0 1 1 2, I₁ ½. young 0 1 3 4, per mate 1 3 2 weighted ¼ ¼ ½: mean 2,
    # w₂ ½ 3/2 1, I₂ = ¼·¼ + ¼·¼ = ⅛. young over 4: mean 2, w 0 ½ 3/2 2, I = (1+¼+¼+1)/4 = ⅝
    counted = totals([0, 1, 1, 2], [0, 1, 3, 4])
    found = opportunity_by_episode(counted, np.arange(4), rng=rng(), n_resamples=100)
    assert [part.opportunity.value for part in found.episodes] == pytest.approx([0.5, 0.125])
    assert [part.increment.value for part in found.episodes] == pytest.approx([0.5, 0.125])
    assert found.total.value == pytest.approx(0.625)
    # z 1 2 3 4, mean 5/2; by mates (2+3+8)/4 = 13/4; by young (2+9+16)/8 = 27/8
    moved = differential_by_episode(
        np.array([1.0, 2, 3, 4]), counted, np.arange(4), rng=rng(), n_resamples=100
    )
    assert [e.value for _, e in moved.episodes] == pytest.approx([0.75, 0.125])
    assert moved.total.value == pytest.approx(0.875)


@st.composite
def products(draw: st.DrawFn) -> tuple[list[Floats], Floats]:
    n, k = draw(st.integers(3, 9)), draw(st.integers(1, 4))
    running, columns = np.ones(n), []
    for _ in range(k):
        factor = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
        running = running * np.array(factor, dtype=float)
        running[0] = max(running[0], 1.0)  # something is left
        columns.append(running)
    return columns, np.array(draw(st.lists(st.floats(-10, 10), min_size=n, max_size=n)))


@given(products())
def test_increments_and_differentials_add_up_and_agree_with_plain_weighting(
    case: tuple[list[Floats], Floats],
) -> None:
    columns, z = case
    counted = totals(*columns)
    # Founders of equal fate, so that hardly any resample is left with nothing.
    z3, three = np.tile(z, 3), [np.tile(c, 3) for c in columns]
    cluster = np.repeat(np.arange(3), z.size)
    counted = totals(*three)
    own, increments, moved = naive(columns, z)
    found = opportunity_by_episode(counted, cluster, rng=rng(), n_resamples=20)
    assert [p.opportunity.value for p in found.episodes] == pytest.approx(own, abs=1e-11)
    assert [p.increment.value for p in found.episodes] == pytest.approx(increments, abs=1e-11)
    total = sum(p.increment.value for p in found.episodes)
    assert total == pytest.approx(found.total.value, abs=1e-11)
    if np.ptp(z) > 1e-6:
        steps = differential_by_episode(z3, counted, cluster, rng=rng(), n_resamples=20)
        assert [e.value for _, e in steps.episodes] == pytest.approx(moved, abs=1e-11)
        whole = sum(e.value for _, e in steps.episodes)
        assert whole == pytest.approx(steps.total.value, abs=1e-11)


def test_intervals_are_those_of_a_plain_bootstrap_over_founders() -> None:
    source = rng(4)
    cluster = np.repeat([1, 5, 6, 9, 12, 13], [3, 5, 2, 4, 6, 3])
    first = source.poisson(3.0, cluster.size) + 1.0
    second = first * source.poisson(2.0, cluster.size)
    z = source.normal(100, 1, cluster.size)
    found = opportunity_by_episode(
        totals(first, second), cluster, rng=rng(8), n_resamples=200, level=0.9
    )
    drawn = rng(8)
    for part, k, which in (
        (found.episodes[0].opportunity, 0, 0),
        (found.episodes[0].increment, 0, 1),
        (found.episodes[1].opportunity, 1, 0),
        (found.episodes[1].increment, 1, 1),
    ):
        values = []
        for counts in drawn.multinomial(6, [1 / 6] * 6, size=200):
            rows = np.concatenate(
                [
                    np.tile(np.flatnonzero(cluster == label), count)
                    for label, count in zip(np.unique(cluster), counts, strict=True)
                ]
            )
            values.append(naive([first[rows], second[rows]], z[rows])[which][k])
        assert (part.low, part.high) == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])))
        assert (part.n, part.n_clusters, part.level) == (cluster.size, 6, 0.9)


def test_one_episode_is_the_opportunity_itself() -> None:
    counted = totals([0, 1, 2, 5])
    found = opportunity_by_episode(counted, np.arange(4), rng=rng(), n_resamples=200)
    whole = opportunity(counted[0], np.arange(4), rng=rng(), n_resamples=200)
    assert found.episodes[0].opportunity.value == pytest.approx(whole.value)
    assert found.episodes[0].increment.value == pytest.approx(whole.value)


def test_units_and_origins_do_not_matter() -> None:
    columns = [np.array([0.0, 1, 1, 2, 3]), np.array([0.0, 1, 3, 4, 2])]
    z, each = np.array([1.0, 2, 3, 4, 7]), np.arange(5)
    small = totals(*(c * 1e-4 for c in columns))
    one = opportunity_by_episode(totals(*columns), each, rng=rng(), n_resamples=99)
    two = opportunity_by_episode(small, each, rng=rng(), n_resamples=99)
    for a, b in zip(one.episodes, two.episodes, strict=True):
        for x, y in ((a.opportunity, b.opportunity), (a.increment, b.increment)):
            assert (x.value, x.low, x.high) == pytest.approx((y.value, y.low, y.high))
    near = differential_by_episode(z, totals(*columns), each, rng=rng(), n_resamples=99)
    far = differential_by_episode(z + 1e9, small, each, rng=rng(), n_resamples=99)
    for (_, x), (_, y) in zip(near.episodes, far.episodes, strict=True):
        assert (x.value, x.low, x.high) == pytest.approx((y.value, y.low, y.high), rel=1e-9)


def test_episodes_that_most_resamples_leave_empty_are_not_trusted() -> None:
    # Only one of four founders has anything left: a third of the resamples miss it.
    counted = totals([4, 1, 1, 1], [4, 0, 0, 0])
    found = opportunity_by_episode(counted, np.arange(4), rng=rng())
    assert math.isfinite(found.episodes[0].opportunity.value)
    for estimate in (found.episodes[1].opportunity, found.episodes[1].increment, found.total):
        assert math.isnan(estimate.value)
        assert "of the resamples" in estimate.method
    moved = differential_by_episode(np.arange(4.0), counted, np.arange(4), rng=rng())
    assert "of the resamples" in moved.total.method


def test_models_unknown_in_one_episode_take_part_in_none() -> None:
    counted = totals([0, 1, 1, 2, 9, NAN, 9], [0, 1, 3, 4, NAN, 7, 9])
    z = np.array([1.0, 2, 3, 4, 5, 6, NAN])
    known = totals([0, 1, 1, 2, 9], [0, 1, 3, 4, 9])
    each = np.array([0, 1, 2, 3, 4, 5, 6])
    found = opportunity_by_episode(counted, each, rng=rng(), n_resamples=100)
    expected = opportunity_by_episode(known, np.array([0, 1, 2, 3, 6]), rng=rng(), n_resamples=100)
    assert found == expected
    moved = differential_by_episode(z, counted, each, rng=rng(), n_resamples=100)
    assert {e.n for _, e in moved.episodes} == {4}
    assert moved.total.value == pytest.approx(0.875)


@pytest.mark.parametrize(
    ("columns", "cluster", "reason"),
    [
        ([[1, 2, NAN], [1, 2, 3]], [0, 1, 2], "2 models known in every episode, 3 needed"),
        ([[1, 2, 3], [0, 0, 0]], [0, 1, 2], "nothing is left of any model"),
        ([[], []], [], "0 models known in every episode"),
        ([[1, 2, 3], [1, 2, 3]], [0, 1, 1], "2 independent groups, 3 needed"),
    ],
)
def test_episodes_that_cannot_be_trusted_are_nan_and_say_why(
    columns: list[list[float]], cluster: list[int], reason: str
) -> None:
    groups = np.array(cluster, dtype=np.int64)
    found = opportunity_by_episode(totals(*columns), groups, rng=rng())
    moved = differential_by_episode(
        np.arange(len(cluster)) * 1.0, totals(*columns), groups, rng=rng()
    )
    estimates = [e for part in found.episodes for e in (part.opportunity, part.increment)]
    for estimate in (*estimates, moved.total, *(e for _, e in moved.episodes)):
        assert math.isnan(estimate.value)
        assert reason in estimate.method
    assert math.isnan(found.total.value)


def test_a_trait_that_does_not_vary_is_not_moved() -> None:
    moved = differential_by_episode(
        np.full(3, 0.1), totals([1, 2, 3]), np.arange(3), rng=rng(), n_resamples=10
    )
    assert math.isnan(moved.total.value)
    assert "the trait does not vary" in moved.total.method


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([], "no episode is given"),
        ([[1, 2, 3], [1, 2]], "eggs: 3 values expected, 2 given"),
        ([[1, 2, 3], [1, -2, 3]], "eggs: what is left of a model must not be negative"),
        ([[1, 0, 3], [1, 2, 3]], "eggs: something is left of a model without mates"),
    ],
)
def test_what_is_no_running_product_is_refused(columns: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opportunity_by_episode(totals(*columns), np.arange(3), rng=rng())
    with pytest.raises(ValueError, match=message):
        differential_by_episode(np.arange(3.0), totals(*columns), np.arange(3), rng=rng())


def test_a_trait_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="trait: 3 values expected, 2 given"):
        differential_by_episode(np.zeros(2), totals([1, 2, 3]), np.arange(3), rng=rng())
