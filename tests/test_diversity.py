"""Diversity at equal effort, along trees and of niches: published answers and naive oracles."""

from __future__ import annotations

import csv
import math
from collections import Counter
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineage.evolution.diversity.along_pedigree import PhyloSums, phylo_diversity, phylo_sums
from lineage.evolution.diversity.entropy import shannon
from lineage.evolution.diversity.hill import chao1, fisher_alpha, hill_number, simpson
from lineage.evolution.diversity.intervals import counts_by_cluster, diversity, founder_interval
from lineage.evolution.diversity.niches import niche_overlap, overlap_of
from lineage.evolution.diversity.rarefaction import (
    asymptotic_diversity,
    coverage,
    diversity_through_time,
    rarefied,
    size_at_coverage,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NAN = math.nan

# Ellison et al. 2010 by way of iNEXT 3.0.1; equal to spider_*.csv of the shared data.
GIRDLED = np.array([46, 22, 17, 15, 15, 9, 8, 6, 6, 4, 2, 2, 2, 2] + [1] * 12, dtype=float)
LOGGED = np.array(
    [88, 22, 16, 15, 13, 10, 8, 8, 7, 7, 7, 5, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2] + [1] * 14,
    dtype=float,
)


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def column(path: Path, name: str) -> Floats:
    with path.open(encoding="utf-8") as lines:
        return np.array([float(row[name]) for row in csv.DictReader(lines)])


@pytest.fixture(scope="module")
def bci(shared_data: Path) -> Floats:
    """Trees of 50 plots of Barro Colorado Island (Condit et al. 2002), shape (50, 225)."""
    with (shared_data / "statistics" / "diversity" / "BCI_plots.csv").open() as lines:
        rows = list(csv.reader(lines))[1:]
    return np.array([[float(cell) for cell in row[1:]] for row in rows])


# -- Hill numbers -------------------------------------------------------------------------------


def test_typed_spiders_are_those_of_the_shared_data(shared_data: Path) -> None:
    folder = shared_data / "statistics" / "diversity"
    np.testing.assert_array_equal(GIRDLED, column(folder / "spider_Girdled.csv", "count"))
    np.testing.assert_array_equal(LOGGED, column(folder / "spider_Logged.csv", "count"))


def test_hill_numbers_of_the_spiders_are_those_of_r() -> None:
    # vegan 2.6-4 and iNEXT 3.0.1, as computed in reference_R.txt
    for counts, q0, q1, q2, gini in (
        (GIRDLED, 26, 12.0596505, 7.84, 0.87244898),
        (LOGGED, 37, 14.4210015, 6.76149915, 0.852103804),
    ):
        assert hill_number(counts, 0) == q0
        assert hill_number(counts, 1) == pytest.approx(q1, rel=1e-8)
        assert hill_number(counts, 2) == pytest.approx(q2, rel=1e-8)
        assert simpson(counts) == pytest.approx(gini, rel=1e-8)
    assert chao1(GIRDLED) == pytest.approx(39.2)
    assert chao1(LOGGED) == pytest.approx(55.2)


def test_indices_of_barro_colorado_are_those_of_vegan(bci: Floats) -> None:
    expected = [93.0000000, 71.1702655, 55.6127039, 39.4155538, 29.1305480, 17.9200000]
    found = [float(hill_number(bci[0], q)) for q in (0, 0.5, 1, 2, 4, math.inf)]
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    np.testing.assert_allclose(
        shannon(bci[:5]), [4.01841166, 3.84847117, 3.8140595, 3.97656299, 3.9699403], rtol=1e-8
    )
    np.testing.assert_allclose(
        simpson(bci[:5]), [0.974629305, 0.968339279, 0.964607756, 0.971611693, 0.967826684]
    )
    np.testing.assert_allclose(
        fisher_alpha(bci[:5]), [35.6729741, 30.9909126, 33.3203284, 33.9220878, 37.9642295]
    )
    # vegan stops its search at six digits; ours answers the equation (tested below)
    assert fisher_alpha(bci.sum(axis=0)) == pytest.approx(35.054748, rel=1e-6)
    np.testing.assert_allclose(chao1(bci[:3]), [117.473684, 117.214286, 141.230769])
    assert shannon(bci.sum(axis=0)) == pytest.approx(4.27040876, rel=1e-8)
    assert shannon(bci).mean() == pytest.approx(3.82083991, rel=1e-8)


def test_indices_are_those_of_scikit_bio(bci: Floats) -> None:
    from skbio.diversity import alpha

    for plot in bci[:6].astype(int):
        for q in (0, 0.3, 1, 2, 3.5, math.inf):
            assert hill_number(plot, q) == pytest.approx(alpha.hill(plot, order=q), rel=1e-12)
        assert chao1(plot) == pytest.approx(alpha.chao1(plot))
        assert fisher_alpha(plot) == pytest.approx(alpha.fisher_alpha(plot), rel=1e-6)
        assert simpson(plot) == pytest.approx(alpha.simpson(plot))
        assert shannon(plot) == pytest.approx(alpha.shannon(plot, base=math.e))


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(any),
    st.floats(0, 6, allow_nan=False),
)
def test_hill_numbers_fall_with_their_order_and_double_with_a_second_half(
    counts: list[int], q: float
) -> None:
    x = np.array(counts, dtype=float)
    value = float(hill_number(x, q))
    assert float(hill_number(x, math.inf)) - 1e-9 <= value <= float(hill_number(x, 0)) + 1e-9
    # The replication principle: two equal populations without a common category are twice as many.
    assert hill_number(np.concatenate([x, x]), q) == pytest.approx(2 * value, rel=1e-6)


def test_counts_are_stacked_and_nothing_is_no_diversity() -> None:
    stack = np.array([[[2.0, 2, 0], [0, 0, 0]], [[1, 1, 1], [5, 0, 0]]])
    for q in (0, 0.5, 1, 2, math.inf):
        np.testing.assert_allclose(hill_number(stack, q), [[2, NAN], [3, 1]], rtol=1e-12)
    assert math.isnan(hill_number(np.array([]), 0))
    np.testing.assert_allclose(fisher_alpha(np.array([[1.0, 1], [0, 0]])), [NAN, NAN])


@pytest.mark.parametrize("counts", [[-1.0, 2], [NAN, 1], [math.inf, 1]])
def test_counts_that_are_none_are_refused(counts: list[float]) -> None:
    with pytest.raises(ValueError, match="counts must be finite"):
        hill_number(np.array(counts), 1)


def test_orders_below_zero_are_refused() -> None:
    for q in (-1.0, NAN):
        with pytest.raises(ValueError, match="order"):
            hill_number(np.array([1.0, 2]), q)


# -- coverage, rarefaction, extrapolation -------------------------------------------------------


def test_coverage_and_asymptotes_of_the_spiders_are_those_of_inext() -> None:
    # Coverage: reference_R.txt. Asymptotes: iNEXT's printed AsyEst of its spider data.
    assert coverage(GIRDLED) == pytest.approx(0.928855439, rel=1e-8)
    assert coverage(LOGGED) == pytest.approx(0.944570635, rel=1e-8)
    for counts, printed in (
        (GIRDLED, (43.892857, 13.826253, 8.174825)),
        (LOGGED, (61.402778, 16.337069, 6.920350)),
    ):
        found = [asymptotic_diversity(counts, q) for q in (0, 1, 2)]
        np.testing.assert_allclose(found, printed, rtol=0, atol=6e-7)


def test_extrapolation_of_the_spiders_is_that_of_inext() -> None:
    # iNEXT 3: estimateD(spider$Girdled, level = 300), as printed in the manual of divent
    found = [rarefied(GIRDLED, 300, q) for q in (0, 1, 2)]
    np.testing.assert_allclose(found, [33.317733, 12.869603, 7.983882], rtol=0, atol=6e-7)
    assert coverage(GIRDLED, 300) == pytest.approx(0.9579518, abs=6e-8)
    assert size_at_coverage(GIRDLED, coverage(GIRDLED, 300)) == pytest.approx(300)


def individuals(counts: list[int]) -> list[int]:
    return [category for category, times in enumerate(counts) for _ in range(times)]


def naive_rarefied(counts: list[int], m: int, q: float) -> float:
    """By every subset of m individuals: mean number of categories seen k times, then the sum."""
    subsets = list(combinations(range(sum(counts)), m))
    who = individuals(counts)
    seen: Counter[int] = Counter()
    for subset in subsets:
        seen.update(Counter(who[i] for i in subset).values())
    f = {k: times / len(subsets) for k, times in seen.items()}
    if q == 1:
        return math.exp(-sum(k / m * math.log(k / m) * f[k] for k in f))
    return sum((k / m) ** q * f[k] for k in f) ** (1 / (1 - q))


def naive_coverage(counts: list[int], m: int) -> float:
    """By every subset of m individuals and each of the others: is its category in the subset?"""
    who = individuals(counts)
    answers = [
        who[other] in {who[i] for i in subset}
        for subset in combinations(range(len(who)), m)
        for other in set(range(len(who))) - set(subset)
    ]
    return sum(answers) / len(answers)


@pytest.mark.parametrize("counts", [[4, 3, 1, 1], [2, 2, 2], [7, 1], [1, 1, 1, 1], [9]])
def test_rarefaction_and_coverage_are_means_over_all_subsets(counts: list[int]) -> None:
    x = np.array(counts, dtype=float)
    for m in range(1, sum(counts)):
        for q in (0, 0.7, 1, 2, 3):
            assert rarefied(x, m, q) == pytest.approx(naive_rarefied(counts, m, q), rel=1e-10)
        assert coverage(x, m) == pytest.approx(naive_coverage(counts, m), rel=1e-10)
    assert rarefied(x, 1, 1) == pytest.approx(1)
    assert rarefied(x, sum(counts), 1.5) == pytest.approx(float(hill_number(x, 1.5)))


def test_sizes_that_are_not_whole_lie_between_their_neighbours() -> None:
    for q in (0, 1, 2):
        between = [rarefied(GIRDLED, m, q) for m in (50, 50.25, 51)]
        assert between[1] == pytest.approx(0.75 * between[0] + 0.25 * between[2])
    last = [rarefied(GIRDLED, m, 1) for m in (167, 167.5, 168)]
    assert last[1] == pytest.approx((last[0] + last[2]) / 2)


@pytest.mark.parametrize("counts", [GIRDLED, LOGGED, np.array([5.0, 3, 1, 1]), np.array([3.0, 1])])
def test_curves_rise_and_do_not_jump_where_extrapolation_begins(counts: Floats) -> None:
    n = int(counts.sum())
    for q in (0, 1, 2):
        curve = [rarefied(counts, m, q) for m in range(1, 2 * n + 1)]
        steps = np.diff(curve)
        assert (steps > -1e-9).all()
        # the first step beyond the sample is no longer than the last within
        assert steps[n - 1] <= steps[n - 2] + 1e-9
    covered = [coverage(counts, m) for m in range(1, 2 * n)]
    assert (np.diff(covered) > -1e-12).all()


def test_the_tail_of_the_entropy_estimator_does_not_overflow() -> None:
    # 2,000 individuals of 2,000 categories: a power of 1e-6 to the −2000th in the printed form
    assert 1e6 < asymptotic_diversity(np.ones(2000), 1) < 1e7
    assert asymptotic_diversity(np.array([1e7, 1, 1, 2]), 1) == pytest.approx(1, abs=1e-4)
    assert asymptotic_diversity(np.array([5.0, 5]), 1) == pytest.approx(
        math.exp(sum(1 / k for k in range(5, 10)))  # Σ x/n (ψ(n) − ψ(x)), nothing unseen
    )


def naive_entropy(counts: Floats) -> float:
    """Chao, Wang & Jost 2013, eq. 7 as printed."""
    n, f1, f2 = int(counts.sum()), int((counts == 1).sum()), int((counts == 2).sum())
    a = 2 * f2 / ((n - 1) * f1 + 2 * f2) if f2 else 2 / ((n - 1) * (f1 - 1) + 2)
    known = sum(x / n * sum(1 / k for k in range(int(x), n)) for x in counts)
    tail = -math.log(a) - sum((1 - a) ** r / r for r in range(1, n))
    return known + f1 / n * (1 - a) ** (1 - n) * tail


@pytest.mark.parametrize("counts", [[4, 3, 2, 1, 1], [5, 1, 1, 1], [9, 2, 1]])
def test_asymptotic_entropy_is_that_of_the_paper(counts: list[int]) -> None:
    x = np.array(counts, dtype=float)
    assert math.log(asymptotic_diversity(x, 1)) == pytest.approx(naive_entropy(x), rel=1e-10)


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=12).filter(lambda x: sum(x) > 3),
    st.floats(0.05, 0.999),
)
def test_size_at_coverage_is_the_inverse_of_coverage(counts: list[int], target: float) -> None:
    x = np.array(counts, dtype=float)
    size = size_at_coverage(x, target)
    if math.isnan(size):
        assert coverage(x, 2 * x.sum()) < target
    elif size == 1:
        assert coverage(x, 1) >= target - 1e-12
    elif size > x.sum() - 1:
        low, high = sorted((coverage(x, math.floor(size)), coverage(x, math.ceil(size))))
        assert low - 1e-9 <= target <= high + 1e-9
    else:
        below, above = coverage(x, math.floor(size)), coverage(x, math.floor(size) + 1)
        between = below + (size - math.floor(size)) * (above - below)
        assert between == pytest.approx(target, abs=1e-9)


def test_nothing_is_extrapolated_beyond_twice_the_sample_nor_for_other_orders() -> None:
    assert math.isnan(rarefied(GIRDLED, 337, 0))
    assert math.isfinite(rarefied(GIRDLED, 336, 0))
    assert math.isnan(rarefied(GIRDLED, 200, 1.5))
    assert math.isnan(rarefied(GIRDLED, 100, math.inf))
    assert math.isnan(rarefied(GIRDLED, NAN, 0))
    assert math.isnan(coverage(GIRDLED, NAN))
    assert math.isnan(size_at_coverage(GIRDLED, 1.0))
    assert math.isnan(size_at_coverage(np.ones(10), 0.9))
    assert size_at_coverage(np.array([5.0, 5]), 1.0) <= 10  # complete: no category seen once
    assert math.isnan(rarefied(np.array([1.0]), 2, 0))
    assert math.isnan(asymptotic_diversity(np.ones(3), 2))


def test_one_category_stays_one_however_many_are_drawn() -> None:
    for q in (0, 1, 2):
        assert rarefied(np.array([30.0]), 45, q) == pytest.approx(1)
        assert rarefied(np.array([30.0]), 5, q) == pytest.approx(1)


def test_bad_samples_are_refused() -> None:
    for bad in (np.array([0.5, 2]), np.array([[1.0, 2]])):
        for function in (coverage, lambda x: rarefied(x, 1, 0), lambda x: size_at_coverage(x, 0.5)):
            with pytest.raises(ValueError, match="whole counts"):
                function(bad)
    none = np.array([0.0, 0])
    for function in (coverage, lambda x: rarefied(x, 1, 0), lambda x: asymptotic_diversity(x, 1)):
        with pytest.raises(ValueError, match="no individuals"):
            function(none)
    with pytest.raises(ValueError, match="more than no individuals"):
        coverage(GIRDLED, 0)
    with pytest.raises(ValueError, match="size of at least 1"):
        rarefied(GIRDLED, 0, 0)
    with pytest.raises(ValueError, match="order of at least 0"):
        rarefied(GIRDLED, 5, -1)
    with pytest.raises(ValueError, match="coverage lies between"):
        size_at_coverage(GIRDLED, 1.5)
    with pytest.raises(ValueError, match="orders 0, 1 and 2"):
        asymptotic_diversity(GIRDLED, 3)


# -- intervals ----------------------------------------------------------------------------------


def test_unknown_categories_take_part_in_nothing() -> None:
    table = counts_by_cluster(np.array([0, -1, 2, 2, -1]), np.array([7, 7, 7, 5, 3]))
    np.testing.assert_array_equal(table.toarray(), [[0, 0, 1], [1, 0, 1]])
    with pytest.raises(ValueError, match="a cluster for each"):
        counts_by_cluster(np.array([0, 1]), np.array([0]))


def test_an_interval_follows_founders_not_models() -> None:
    generator = np.random.default_rng(5)
    category = generator.integers(0, 6, 60)
    founder = np.arange(60)
    richly = partial(hill_number, q=2)
    alone = diversity(category, founder, richly, "D2", rng=rng())
    # Each model ten times over in its founder: ten times the models, the very same interval.
    copied = diversity(category.repeat(10), founder.repeat(10), richly, "D2", rng=rng())
    assert (copied.value, copied.low, copied.high) == pytest.approx(
        (alone.value, alone.low, alone.high)
    )
    assert (copied.n, copied.n_clusters) == (600, 60)
    # As models of their own they would seem to say far more.
    naive = diversity(category.repeat(10), np.arange(600), richly, "D2", rng=rng())
    assert naive.high - naive.low < 0.6 * (copied.high - copied.low)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    shares = 1 / np.arange(1, 13)
    shares /= shares.sum()
    truth = float(hill_number(shares, 2))
    generator = np.random.default_rng(6)
    held = 0
    for _ in range(200):
        category = generator.choice(12, size=150, p=shares)
        found = diversity(
            category,
            np.arange(150),
            partial(hill_number, q=2),
            "D2",
            rng=generator,
            n_resamples=200,
        )
        held += found.low <= truth <= found.high
    assert 0.89 <= held / 200 <= 0.99


def test_an_interval_is_not_shifted_by_what_resamples_miss() -> None:
    # 40 categories seen once: every resample misses a third of them, percentiles all lie below 40.
    found = diversity(
        np.arange(40), np.arange(40), partial(hill_number, q=0), "D0", rng=rng(), lowest=1
    )
    assert found.value == 40
    assert found.low < 40 < found.high
    assert abs((found.low + found.high) / 2 - 40) < 1.5


def test_intervals_are_cut_to_what_is_possible_and_refuse_too_few_founders() -> None:
    one = diversity(
        np.array([0, 0, 0, 1]), np.arange(4), partial(hill_number, q=0), "D0", rng=rng(), lowest=1
    )
    assert 1 <= one.low <= one.value == 2
    few = diversity(np.array([0, 1, 1]), np.array([0, 0, 1]), chao1, "Chao1", rng=rng())
    assert math.isnan(few.value)
    assert "2 independent groups, 3 needed" in few.method
    empty = diversity(np.full(3, -1), np.arange(3), chao1, "Chao1", rng=rng())
    assert math.isnan(empty.value)
    assert empty.n == 0
    flat = founder_interval(
        np.zeros((4, 2)),
        partial(hill_number, q=1),
        n=4,
        rng=rng(),
        level=0.95,
        n_resamples=10,
        method="D1",
    )
    assert "undefined for these counts" in flat.method
    rare = np.zeros((4, 2))
    rare[0] = 1
    seldom = founder_interval(
        rare,
        partial(hill_number, q=1),
        n=4,
        rng=rng(),
        level=0.95,
        n_resamples=100,
        method="D1",
    )
    assert "of the resamples" in seldom.method
    assert math.isnan(seldom.value)


def test_a_seed_gives_one_interval_however_resamples_are_batched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sums = np.random.default_rng(1).integers(0, 9, (50, 4)).astype(float)
    call = partial(
        founder_interval,
        sums,
        partial(hill_number, q=1),
        n=50,
        level=0.9,
        n_resamples=30,
        method="D1",
    )
    whole = call(rng=rng())
    monkeypatch.setattr("lineage.evolution.diversity.intervals._DRAWS_PER_BATCH", 150)
    assert call(rng=rng()) == whole


# -- through time -------------------------------------------------------------------------------


def windows(sizes: list[int], n_categories: int = 300) -> tuple[Ints, Ints]:
    """Windows of one and the same population, of different size."""
    shares = 1 / np.arange(1, n_categories + 1)
    generator = np.random.default_rng(2)
    window = np.repeat(np.arange(len(sizes)), sizes)
    return window, generator.choice(n_categories, size=window.size, p=shares / shares.sum())


@pytest.mark.parametrize("by", ["size", "coverage"])
@pytest.mark.parametrize("q", [0, 1])
def test_growth_alone_does_not_change_diversity_at_equal_effort(by: str, q: int) -> None:
    window, category = windows([500, 2500, 8000])
    found = diversity_through_time(
        window, category, np.arange(window.size), q=q, by=by, rng=rng(), n_resamples=40
    )
    raw = [float(hill_number(np.bincount(category[window == w]), q)) for w in range(3)]
    assert raw[2] > 1.2 * raw[0]
    at_effort = [one.diversity for one in found]
    assert max(e.value for e in at_effort) < 1.15 * min(e.value for e in at_effort)
    assert at_effort[1].low <= at_effort[0].value <= at_effort[1].high
    assert [one.n for one in found] == [500, 2500, 8000]
    if by == "size":
        assert {one.effort for one in found} == {500.0}
        expected = rarefied(np.bincount(category[window == 2]).astype(float), 500, q)
    else:
        assert found[0].effort == min(one.coverage for one in found)
        counts = np.bincount(category[window == 2]).astype(float)
        expected = rarefied(counts, size_at_coverage(counts, found[0].effort), q)
    assert found[2].diversity.value == pytest.approx(expected)


def test_small_windows_set_no_effort_and_get_no_value() -> None:
    window, category = windows([5, 50, 90])
    window[60:62], category[70] = -1, -1
    found = diversity_through_time(
        window, category, np.arange(window.size), q=0, by="size", rng=rng(), n_resamples=20
    )
    assert found[0].n == 5
    assert math.isnan(found[0].diversity.value)
    assert "5 models in the window, 20 needed" in found[0].diversity.method
    assert found[1].effort == 50
    assert found[1].diversity.value == hill_number(np.bincount(category[5:55]), 0)
    assert found[2].n == 87
    given_size = diversity_through_time(
        window, category, window, q=0, by="size", effort=170, rng=rng(), n_resamples=20
    )
    assert math.isnan(given_size[1].diversity.value)


def test_windows_need_an_order_that_can_be_extrapolated() -> None:
    with pytest.raises(ValueError, match="orders 0, 1 and 2"):
        diversity_through_time(np.zeros(3, int), np.zeros(3, int), np.arange(3), q=3, rng=rng())


def test_no_window_is_no_answer() -> None:
    none = np.array([], dtype=np.int64)
    assert diversity_through_time(none, none, none, q=1, rng=rng()) == ()


# -- along the pedigree -------------------------------------------------------------------------


def naive_phylo(parent: Ints, length: Floats, member: list[int]) -> tuple[float, float, float]:
    """By walking: branches to the root, all pairs, the nearest other."""

    def way(node: int) -> list[int]:
        return [node] if parent[node] < 0 else [node, *way(int(parent[node]))]

    ways = {m: way(m) for m in member}
    branches = {node for m in member for node in ways[m]}

    def distance(a: int, b: int) -> float:
        if ways[a][-1] != ways[b][-1]:
            return math.inf
        apart = set(ways[a]) ^ set(ways[b])
        return float(sum(length[node] for node in apart))

    pairs = [d for a, b in combinations(member, 2) if (d := distance(a, b)) < math.inf]
    near = [min((distance(a, b) for b in member if b != a), default=math.inf) for a in member]
    near = [d for d in near if d < math.inf]
    return (
        float(sum(length[node] for node in branches)),
        float(np.mean(pairs)) if pairs else NAN,
        float(np.mean(near)) if near else NAN,
    )


@st.composite
def forests(draw: st.DrawFn) -> tuple[Ints, Floats, list[int]]:
    n = draw(st.integers(1, 14))
    parent = [draw(st.integers(-1, i - 1)) for i in range(n)]
    length = [draw(st.sampled_from([0.0, 0.5, 1.0, 2.5])) for _ in range(n)]
    member = [i for i in range(n) if draw(st.booleans())]
    shuffle = draw(st.permutations(range(n)))  # parents need not stand before their children
    shuffled = np.empty(n, dtype=np.int64)
    lengths = np.empty(n)
    for i in range(n):
        shuffled[shuffle[i]] = -1 if parent[i] < 0 else shuffle[parent[i]]
        lengths[shuffle[i]] = length[i]
    return shuffled, lengths, [shuffle[m] for m in member]


@given(forests())
def test_phylogenetic_diversity_is_that_of_walking_the_forest(
    forest: tuple[Ints, Floats, list[int]],
) -> None:
    parent, length, member = forest
    mask = np.zeros(parent.size, dtype=bool)
    mask[member] = True
    found = phylo_sums(parent, length, mask)
    np.testing.assert_allclose(
        (found.pd, found.mpd, found.mntd), naive_phylo(parent, length, member), rtol=1e-12
    )
    assert found.n_members.sum() == len(member)


def phylocom(folder: Path) -> tuple[list[str], Ints, Floats]:
    import dendropy

    tree = dendropy.Tree.get(
        path=str(folder / "phylocom.nwk"), schema="newick", preserve_underscores=True
    )
    nodes = list(tree.preorder_node_iter())
    number = {id(node): i for i, node in enumerate(nodes)}
    parent = [-1 if node.parent_node is None else number[id(node.parent_node)] for node in nodes]
    length = [node.edge_length or 0.0 for node in nodes]
    names = [node.taxon.label if node.taxon else "" for node in nodes]
    return names, np.array(parent), np.array(length)


def test_phylocom_has_the_answers_of_picante(shared_data: Path) -> None:
    # picante 1.8.2, as printed: Faith's PD (with root), mpd, mntd of presences
    printed = {
        "clump1": (16, 4.857143, 2),
        "clump2a": (17, 6, 2),
        "clump2b": (18, 7.142857, 2),
        "clump4": (22, 8.285714, 2),
        "even": (30, 8.857143, 6),
        "random": (27, 8.428571, 5),
    }
    folder = shared_data / "statistics" / "phylo"
    names, parent, length = phylocom(folder)
    with (folder / "phylocom_sample.csv").open() as lines:
        samples = {row.pop(""): row for row in csv.DictReader(lines)}
    assert samples.keys() == printed.keys()
    for sample, answers in printed.items():
        member = np.array([float(samples[sample].get(name, 0)) > 0 for name in names])
        found = phylo_sums(parent, length, member)
        np.testing.assert_allclose((found.pd, found.mpd, found.mntd), answers, rtol=0, atol=6e-7)


def test_faiths_diversity_is_that_of_scikit_bio(shared_data: Path) -> None:
    from skbio import TreeNode
    from skbio.diversity.alpha import faith_pd

    folder = shared_data / "statistics" / "phylo"
    tree = TreeNode.read(str(folder / "phylocom.nwk"))
    names, parent, length = phylocom(folder)
    tips = [name for name in names if name]
    for seed in range(5):
        chosen = np.random.default_rng(seed).choice(tips, size=9, replace=False)
        counts = [int(name in chosen) for name in tips]
        found = phylo_sums(parent, length, np.isin(names, chosen))
        assert found.pd == pytest.approx(faith_pd(counts, taxa=tips, tree=tree))


def test_intervals_along_the_pedigree_are_over_founders() -> None:
    # Forty stars of one, two or three children, distances 2 among them and 1 to the founder.
    parent, member = [], []
    for k in range(40):
        root = len(parent)
        parent += [-1, *[root] * (1 + k % 3)]
        member += [k % 2 == 0, *[True] * (1 + k % 3)]
    sums = phylo_sums(np.array(parent), np.ones(len(parent)), np.array(member))
    found = phylo_diversity(sums, rng=rng())
    for name, value in (("pd", sums.pd), ("mpd", sums.mpd), ("mntd", sums.mntd)):
        assert found[name].value == pytest.approx(value)
        assert found[name].low < value < found[name].high
        assert (found[name].n, found[name].n_clusters) == (sum(member), 40)
    single = phylo_sums(np.array([-1, 0, 0]), np.ones(3), np.ones(3, dtype=bool))
    assert isinstance(single, PhyloSums)
    assert math.isnan(phylo_diversity(single, rng=rng())["mpd"].value)


def test_bad_forests_are_refused_and_empty_ones_empty() -> None:
    yes = np.ones(3, dtype=bool)
    with pytest.raises(ValueError, match="circle"):
        phylo_sums(np.array([1, 2, 0]), np.ones(3), yes)
    with pytest.raises(ValueError, match="circle"):
        phylo_sums(np.array([0, -1, 1]), np.ones(3), yes)
    for bad in (np.array([1, -1.0, 1]), np.array([1, NAN, 1])):
        with pytest.raises(ValueError, match="needs a length"):
            phylo_sums(np.array([-1, 0, 0]), bad, yes)
    with pytest.raises(ValueError, match="one for each node"):
        phylo_sums(np.array([-1, 0, 0]), np.ones(2), yes)
    empty = phylo_sums(np.array([], dtype=np.int64), np.array([]), np.array([], dtype=bool))
    assert empty.pd == 0
    assert math.isnan(empty.mpd)
    assert math.isnan(empty.mntd)


# -- niches -------------------------------------------------------------------------------------


def test_overlaps_of_a_case_worked_on_paper() -> None:
    # p = .6 .4 0, q = .2 .4 .4: Σpq .28, Σp² .52, Σq² .36, Σ|p − q| .8
    a, b = np.array([6.0, 4, 0]), np.array([1.0, 2, 2])
    assert overlap_of(a, b, "pianka") == pytest.approx(0.28 / math.sqrt(0.52 * 0.36))
    assert overlap_of(a, b, "morisita-horn") == pytest.approx(0.56 / 0.88)
    assert overlap_of(a, b, "schoener") == pytest.approx(0.6)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6),
    st.sampled_from(["pianka", "morisita-horn", "schoener"]),
)
def test_overlap_is_symmetric_scale_free_and_one_for_the_same_niche(
    uses: list[tuple[int, int]], index: str
) -> None:
    a, b = np.array(uses, dtype=float).T
    value = float(overlap_of(a, b, index))
    if a.sum() == 0 or b.sum() == 0:
        assert math.isnan(value)
        return
    assert -1e-12 <= value <= 1 + 1e-12
    assert overlap_of(3 * b, a, index) == pytest.approx(value)
    assert overlap_of(a, 2 * a, index) == pytest.approx(1)
    assert overlap_of(np.append(a, 0 * a), np.append(0 * a, a), index) == pytest.approx(0)


@pytest.mark.parametrize("index", ["pianka", "morisita-horn", "schoener"])
def test_niche_overlap_counts_uses_of_the_two_families(index: str) -> None:
    generator = np.random.default_rng(3)
    group = generator.integers(0, 3, 300)
    resource = np.where(group == 0, generator.integers(0, 3, 300), generator.integers(1, 5, 300))
    resource[:7] = -1
    cluster = np.arange(300) // 3 * 3 + group
    found = niche_overlap(group, resource, cluster, (0, 2), index=index, rng=rng())
    of = [np.bincount(resource[7:][group[7:] == g], minlength=5) for g in (0, 2)]
    assert found.value == pytest.approx(float(overlap_of(of[0], of[1], index)))
    assert 0 <= found.low < found.value < found.high <= 1
    assert found.n == of[0].sum() + of[1].sum()
    assert found.n_clusters == np.unique(cluster[7:][group[7:] != 1]).size


def test_a_family_of_few_branches_has_no_overlap_to_tell() -> None:
    group = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    cluster = np.array([0, 1, 2, 3, 4, 4, 5, 5])
    found = niche_overlap(group, np.zeros(8, int), cluster, (0, 1), rng=rng())
    assert math.isnan(found.value)
    assert "2 independent clusters, 3 needed" in found.method
    with pytest.raises(ValueError, match="no such index"):
        overlap_of(np.ones(2), np.ones(2), "jaccard")


def test_fishers_alpha_answers_its_own_equation() -> None:
    for counts in (GIRDLED, LOGGED, np.array([1e6]), np.array([1.0] * 99 + [2])):
        alpha = float(fisher_alpha(counts))
        n, seen = counts.sum(), (counts > 0).sum()
        assert alpha * math.log1p(n / alpha) == pytest.approx(seen, rel=1e-9)
