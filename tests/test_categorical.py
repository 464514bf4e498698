"""Heredity of categories: hand cases, naive oracles, a real sample of the Hub."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import math
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from benchmarks.evolution.radar_categories import Radar, read_radar
from lineage.evolution.categories.drift import drift_table, turnover
from lineage.evolution.categories.information import parent_information
from lineage.evolution.categories.mutation import clustered_mean, mutation_rate, mutation_rates
from lineage.evolution.categories.siblings import sibling_resemblance
from lineage.evolution.categories.value_sets import edge_distance, single_values, value_sets

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NAN = math.nan
Edges = tuple[list[set[str]], Ints, Ints]


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def ints(*values: int) -> Ints:
    return np.array(values, dtype=np.int64)


@st.composite
def populations(draw: st.DrawFn) -> Edges:
    n = draw(st.integers(2, 9))
    sets = [set(draw(st.sets(st.sampled_from("abcde"), max_size=4))) for _ in range(n)]
    pairs = draw(
        st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), min_size=1, max_size=12)
    )
    child, parent = zip(*pairs, strict=True)
    return sets, ints(*child), ints(*parent)


def naive_distance(a: set[str], b: set[str]) -> float:
    return 1 - len(a & b) / len(a | b) if a and b else NAN


# -- sets ---------------------------------------------------------------------------------------


@given(populations())
def test_distances_are_those_of_the_sets(population: Edges) -> None:
    stated, child, parent = population
    sets, values = value_sets(stated)
    assert [
        {values[k] for k in sets.indices[sets.indptr[i] : sets.indptr[i + 1]]}
        for i in range(len(stated))
    ] == stated
    expected = [naive_distance(stated[c], stated[p]) for c, p in zip(child, parent, strict=True)]
    np.testing.assert_allclose(edge_distance(sets, child, parent), expected, atol=1e-15)
    alone = [values.index(next(iter(s))) if len(s) == 1 else -1 for s in stated]
    np.testing.assert_array_equal(single_values(sets), alone)


def test_sets_of_nobody_and_of_nothing() -> None:
    for stated in ([], [set(), set()]):
        sets, values = value_sets(stated)
        assert sets.shape == (len(stated), 0)
        assert values == ()
    assert np.isnan(edge_distance(sets, ints(0), ints(1))).all()
    with pytest.raises(ValueError, match="a parent for each child"):
        edge_distance(sets, ints(0), ints(0, 1))


# -- clustered means ----------------------------------------------------------------------------


def test_a_mean_has_the_error_of_the_textbook_where_each_is_its_own_group() -> None:
    x = rng().normal(3, 2, 40)
    found = clustered_mean(np.append(x, NAN), np.arange(41), "x")
    error = x.std(ddof=1) / math.sqrt(40)
    assert found.value == pytest.approx(x.mean())
    assert found.high - found.value == pytest.approx(2.0226909 * error)  # t(.975, 39)
    assert (found.n, found.n_clusters) == (40, 40)
    # copies within groups add nothing
    copied = clustered_mean(x.repeat(5), np.arange(40).repeat(5), "x")
    assert (copied.low, copied.high) == pytest.approx((found.low, found.high))


def test_a_clustered_mean_is_that_of_statsmodels() -> None:
    import statsmodels.api as sm

    generator = rng()
    cluster = generator.integers(0, 25, 300)
    x = generator.normal(size=25)[cluster] + generator.normal(size=300)
    fit = sm.OLS(x, np.ones(300)).fit(
        cov_type="cluster", cov_kwds={"groups": cluster, "use_correction": False}, use_t=True
    )
    found = clustered_mean(x, cluster, "x", level=0.9)
    reach = float(np.diff(fit.conf_int(0.1)[0])[0]) / 2 * math.sqrt(25 / 24)
    assert found.high - found.value == pytest.approx(reach, rel=1e-9)


def test_intervals_of_means_hold_the_truth_as_often_as_they_say() -> None:
    generator = rng()
    held = 0
    for _ in range(400):
        sizes = generator.integers(1, 12, 30)
        effect = np.repeat(generator.normal(size=30), sizes)
        x = effect + generator.normal(size=sizes.sum())
        found = clustered_mean(x, np.repeat(np.arange(30), sizes), "x")
        held += found.low <= 0 <= found.high
    assert 0.91 <= held / 400 <= 0.98


def test_equal_values_do_not_prove_that_all_are_equal() -> None:
    none = clustered_mean(np.zeros(50), np.arange(50) // 5, "x", bounds=(0, 1))
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 10))  # Clopper–Pearson, 0 of 10
    every = clustered_mean(np.ones(50), np.arange(50) // 5, "x", bounds=(0, 1))
    assert (every.low, every.high) == pytest.approx((0.025 ** (1 / 10), 1))
    even = clustered_mean(np.zeros(50), np.arange(50) // 5, "x", bounds=(-1, 1))
    assert even.low == -even.high == pytest.approx(-none.high)
    free = clustered_mean(np.full(50, 3.0), np.arange(50), "x")
    assert math.isnan(free.value)
    assert "do not vary" in free.method


def test_means_of_too_little_are_not_estimated() -> None:
    few = clustered_mean(np.array([1.0, 2, NAN]), np.arange(3), "x")
    assert math.isnan(few.value)
    assert "2 values, 3 needed" in few.method
    one = clustered_mean(np.arange(9.0), np.zeros(9, int), "x")
    assert "1 independent group, 2 needed" in one.method
    with pytest.raises(ValueError, match="outside"):
        clustered_mean(np.array([0.5, 2, 0]), np.arange(3), "x", bounds=(0, 1))
    with pytest.raises(ValueError, match="outside"):
        clustered_mean(np.array([0.5, -2, 0]), np.arange(3), "x", bounds=(0, 1))
    with pytest.raises(ValueError, match="a cluster for each"):
        clustered_mean(np.zeros(3), np.zeros(2, int), "x")


# -- mutation rates -----------------------------------------------------------------------------


def test_the_rate_is_over_edges_known_at_both_ends_and_says_how_many_they_are() -> None:
    stated = [{"en", "fr"}, {"en"}, {"de"}, set(), {"en", "fr"}, {"fr", "en"}]
    sets, _ = value_sets(stated)
    child, parent = ints(1, 2, 3, 4, 5, 1), ints(0, 0, 0, 1, 4, 3)
    found = mutation_rate(sets, child, parent, ints(0, 0, 0, 1, 1, 2))
    # distances ½, 1, –, ½, 0, –
    assert found.by_parent.value == found.by_founder.value == pytest.approx(0.5)
    assert (found.n_edges, found.n_known, found.n_changed, found.n_disjoint) == (6, 4, 3, 1)
    assert found.share_known == pytest.approx(4 / 6)
    assert (found.by_parent.n_clusters, found.by_founder.n_clusters) == (3, 2)
    assert 0 <= found.by_parent.low <= found.by_parent.high <= 1
    nothing = mutation_rate(sets, ints(), ints(), ints())
    assert math.isnan(nothing.share_known)
    assert math.isnan(nothing.by_parent.value)


def test_rates_by_kind_share_the_edges_out() -> None:
    sets, _ = value_sets([{"a"}, {"a"}, {"b"}, {"a", "b"}, {"b"}])
    child, parent = ints(1, 2, 3, 4), ints(0, 0, 0, 3)
    found = mutation_rates(sets, child, parent, ints(0, 0, 1, 1), ["x", "y", "x", "y"])
    assert sorted(found) == ["", "x", "y"]
    assert found[""].by_parent.value == pytest.approx((0 + 1 + 0.5 + 0.5) / 4)
    assert (found["x"].n_edges, found["y"].n_edges, found["y"].n_changed) == (2, 2, 2)
    with pytest.raises(ValueError, match="a kind for each edge"):
        mutation_rates(sets, child, parent, parent, ["x"])


# -- information --------------------------------------------------------------------------------


def naive_information(pairs: list[tuple[int, int]]) -> float:
    n = len(pairs)
    joint, above, below = Counter(pairs), Counter(p for p, _ in pairs), Counter(c for _, c in pairs)
    mutual = sum(
        k / n * math.log(k * n / (above[p] * below[c])) for (p, c), k in joint.items()
    )  # fmt: skip
    return mutual / -sum(k / n * math.log(k / n) for k in below.values())


def families(
    n_families: int, copied: float, seed: int, *, shared: bool = False
) -> tuple[Ints, Ints, Ints, Ints]:
    """Families of eight parents with three children each; values copied with a probability.

    `shared`: all of a family tend to a value of the family's, whoever the parent is.
    """
    generator = np.random.default_rng(seed)
    n = n_families * 8
    family = np.repeat(np.arange(n_families), 8)
    common = generator.integers(0, 4, n_families)
    value_of_parent = generator.integers(0, 4, n)
    if shared:
        follows = generator.random(n) < 0.7
        value_of_parent = np.where(follows, common[family], value_of_parent)
    mother = np.repeat(np.arange(n), 3)
    fresh = generator.integers(0, 4, mother.size)
    if shared:
        fresh = np.where(generator.random(mother.size) < 0.7, common[family[mother]], fresh)
    kept = generator.random(mother.size) < copied
    value_of_child = np.where(kept, value_of_parent[mother], fresh)
    value = np.concatenate([value_of_parent, value_of_child])
    return value, n + np.arange(mother.size), mother, family[mother]


def test_information_is_that_of_the_table() -> None:
    value, child, parent, family = families(10, 0.5, 1)
    value[[3, 100]] = -1
    found = parent_information(value, child, parent, family, rng=rng(), n_permutations=99)
    pairs = [
        (int(value[p]), int(value[c]))
        for c, p in zip(child, parent, strict=True)
        if value[c] >= 0 and value[p] >= 0
    ]
    assert found.observed.value == pytest.approx(naive_information(pairs), rel=1e-12)
    assert (found.observed.n, found.n_edges) == (len(pairs), 240)
    assert found.observed.n_clusters == 10
    assert found.observed.low < found.observed.value < found.observed.high
    assert found.observed.p_value == pytest.approx(1 / 100)
    assert found.null_low <= found.null_mean <= found.null_high < found.observed.value
    assert found.excess == pytest.approx(
        (found.observed.value - found.null_mean) / (1 - found.null_mean)
    )


def test_without_heredity_only_the_bias_of_the_table_is_left() -> None:
    values = [
        parent_information(*families(8, 0.0, seed), rng=rng(), n_permutations=99, n_resamples=20)
        for seed in range(40)
    ]
    # (4 − 1)²/2n over ln 4 is the bias of a table of 192 independent pairs
    bias = 9 / (2 * 192) / math.log(4)
    observed = np.mean([one.observed.value for one in values])
    assert observed == pytest.approx(bias, rel=0.25)
    assert np.mean([one.null_mean for one in values]) == pytest.approx(observed, rel=0.2)
    assert abs(np.mean([one.excess for one in values])) < 0.01
    rejected = np.mean([one.observed.p_value <= 0.05 for one in values])
    assert rejected <= 0.15


def test_what_a_family_has_in_common_is_not_credited_to_parents() -> None:
    found = parent_information(*families(20, 0.0, 3, shared=True), rng=rng(), n_permutations=99)
    assert found.observed.value > 0.15
    assert abs(found.excess) < 0.05
    inherited = parent_information(*families(20, 0.6, 3, shared=True), rng=rng(), n_permutations=99)
    assert inherited.excess > 0.2
    assert inherited.observed.p_value == pytest.approx(0.01)


def test_stars_have_no_null_and_perfect_copies_show_all_the_excess() -> None:
    # Ten families of one parent: nothing to permute, the null repeats the table.
    value = np.concatenate([np.arange(10) % 3, np.repeat(np.arange(10) % 3, 4)])
    child, parent = 10 + np.arange(40), np.repeat(np.arange(10), 4)
    star = parent_information(value, child, parent, parent, rng=rng(), n_permutations=19)
    assert star.observed.value == pytest.approx(1)
    assert math.isnan(star.null_mean)
    assert star.observed.p_value is None
    assert "not tested: no parents of one base family differ in value" in star.observed.method
    assert math.isnan(star.excess)
    perfect = parent_information(*families(10, 1.0, 5), rng=rng(), n_permutations=19)
    assert perfect.observed.value == pytest.approx(1)
    assert perfect.excess == pytest.approx(1)


def trend(seed: int, copied: float) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Families over four months; who is born in one tends to its value, whoever the parent is."""
    generator = np.random.default_rng(seed)
    family = np.repeat(np.arange(6), 24)
    month = np.tile(np.repeat(np.arange(4), 6), 6)
    n = family.size

    def of_month(months: Ints) -> Ints:
        follows = generator.random(months.size) < 0.8
        return np.where(follows, months, generator.integers(0, 4, months.size))

    value = of_month(month)
    mother = np.repeat(np.arange(n), 2)
    kept = generator.random(mother.size) < copied
    child_value = np.where(kept, value[mother], of_month(month[mother]))  # born soon after
    stratum = np.concatenate([family * 4 + month, np.full(mother.size, -1)])
    return (
        np.concatenate([value, child_value]),
        n + np.arange(mother.size),
        mother,
        family[mother],
        stratum,
    )


def test_what_a_month_has_in_common_is_heredity_within_families_and_none_within_strata() -> None:
    p_values = []
    for seed in range(40):
        value, child, parent, family, stratum = trend(seed, 0.0)
        p_values.append(
            parent_information(
                value, child, parent, family,
                stratum=stratum, alike="founder and month", rng=rng(), n_permutations=99,
                n_resamples=20,
            ).observed.p_value
        )  # fmt: skip
    assert np.mean([p <= 0.05 for p in p_values]) <= 0.14  # .05 and two and a half errors
    value, child, parent, family, stratum = trend(1, 0.0)
    by_family = parent_information(value, child, parent, family, rng=rng(), n_permutations=99)
    assert by_family.observed.p_value == pytest.approx(0.01)
    held = parent_information(
        value, child, parent, family, stratum=stratum, alike="founder and month", rng=rng()
    )
    assert held.null_mean > by_family.null_mean + 0.1
    assert "parents of one founder and month change places" in held.observed.method
    assert held.observed.value == by_family.observed.value
    value, child, parent, family, stratum = trend(2, 0.5)
    inherited = parent_information(value, child, parent, family, stratum=stratum, rng=rng())
    assert inherited.observed.p_value == pytest.approx(1 / 500)
    assert inherited.excess > 0.05


def test_the_null_within_strata_is_the_mean_over_all_exchanges() -> None:
    value = np.array([0, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1])
    child, parent = np.arange(5, 13), ints(0, 0, 1, 1, 2, 3, 3, 4)
    stratum = np.array([4, 4, 4, 2, 2, *[9] * 8])
    family = ints(0, 0, 1, 1, 2, 2, 2, 0)
    found = parent_information(
        value, child, parent, family, stratum=stratum, rng=rng(), n_permutations=4000
    )
    every = []
    for first in itertools.permutations((0, 1, 2)):
        for second in itertools.permutations((3, 4)):
            dealt = [*first, *second]
            every.append(
                naive_information(
                    [
                        (int(value[dealt[p]]), int(value[c]))
                        for c, p in zip(child, parent, strict=True)
                    ]
                )
            )
    assert found.null_mean == pytest.approx(np.mean(every), abs=4 * np.std(every) / 63)
    share = np.mean(np.array(every) >= found.observed.value - 1e-12)
    assert found.observed.p_value == pytest.approx(share, abs=0.03)


def test_strata_in_which_parents_do_not_differ_have_no_null() -> None:
    value, child, parent, family = families(10, 0.5, 1)
    found = parent_information(value, child, parent, family, stratum=value, rng=rng())
    assert found.observed.p_value is None
    assert math.isfinite(found.observed.low)
    alone = parent_information(
        value, child, parent, family, stratum=np.arange(value.size), rng=rng()
    )
    assert "differ in value" in alone.observed.method
    with pytest.raises(ValueError, match="a stratum for each model"):
        parent_information(value, child, parent, family, stratum=family, rng=rng())


def test_information_of_too_little_is_not_estimated() -> None:
    value, child, parent, family = families(2, 0.5, 1)
    few = parent_information(value, child, parent, family, rng=rng())
    assert math.isnan(few.observed.value)
    assert math.isnan(few.excess)
    assert "of 2 families, 3 needed" in few.observed.method
    same = parent_information(np.zeros_like(value), child, parent, child, rng=rng())
    assert "all children have the same value" in same.observed.method
    unknown = parent_information(np.full_like(value, -1), child, parent, child, rng=rng())
    assert unknown.observed.n == 0
    assert unknown.n_edges == child.size


# -- drift --------------------------------------------------------------------------------------


def exact_limits(k: int, n: int) -> tuple[float, float]:
    """Clopper & Pearson by bisection of the binomial tails."""

    def root(tail: object) -> float:
        low, high = 0.0, 1.0
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if tail(middle) else (low, middle)
        return low

    low = root(lambda p: binom.sf(k - 1, n, p) < 0.025) if k else 0.0
    high = root(lambda p: binom.cdf(k, n, p) > 0.025) if k < n else 1.0
    return low, high


def drifting() -> tuple[Ints, Ints, Ints]:
    """Nine parents of 0 with two children of 1 each, two of 1 with one of 0, one of 2 with 0, 1."""
    value = [0] * 9 + [1] * 2 + [2]
    child, parent = [], []
    for k in range(9):
        child += [len(value), len(value) + 1, len(value) + 2]
        value += [1, 1, 0]
        parent += [k] * 3
    for k in (9, 10, 11):
        child.append(len(value))
        value.append(0)
        parent.append(k)
    child += [len(value), len(value) + 1]
    value += [1, -1]
    parent += [11, 0]
    return ints(*value), ints(*child), ints(*parent)


def test_drift_counts_edges_tests_groups_and_gives_rates() -> None:
    value, child, parent = drifting()
    first, *others = drift_table(value, child, parent, parent)
    assert (first.a, first.b, first.n_ab, first.n_ba) == (0, 1, 18, 2)
    assert (first.groups_ab, first.groups_ba) == (9, 2)
    assert first.share.value == pytest.approx(9 / 11)
    assert (first.share.low, first.share.high) == pytest.approx(exact_limits(9, 11))
    p_value = 2 * sum(math.comb(11, k) for k in (9, 10, 11)) / 2**11
    assert first.share.p_value == pytest.approx(p_value)
    assert first.q_value == pytest.approx(p_value)  # the only pair that can be tested
    assert (first.rate_ab.value, first.rate_ab.n) == (pytest.approx(18 / 27), 27)
    assert (first.rate_ba.value, first.rate_ba.n) == (1, 2)
    assert {(one.a, one.b) for one in others} == {(2, 0), (2, 1)}
    for one in others:
        assert one.share.p_value is None
        assert math.isnan(one.q_value)
        assert (one.share.low, one.share.high) == pytest.approx(exact_limits(1, 1))
        assert math.isnan(one.rate_ab.value) is False


def test_wilson_limits_are_those_of_statsmodels() -> None:
    from statsmodels.stats.proportion import proportion_confint

    first, *_ = drift_table(*drifting(), drifting()[2], level=0.9)
    for rate, k in ((first.rate_ab, 18), (first.rate_ba, 2)):
        expected = proportion_confint(k, rate.n, alpha=0.1, method="wilson")
        assert (rate.low, rate.high) == pytest.approx(expected)


def test_many_pairs_are_adjusted_together_as_statsmodels_does() -> None:
    from statsmodels.stats.multitest import multipletests

    generator = rng()
    shares = np.array([8, 4, 2, 1, 1]) / 16
    value = np.concatenate([generator.choice(5, 600), generator.choice(5, 600, p=shares)])
    child, parent = 600 + np.arange(600), np.arange(600)
    table = drift_table(value, child, parent, parent)
    assert len(table) == 10
    p_values = [one.share.p_value for one in table]
    assert [one.q_value for one in table] == pytest.approx(
        multipletests(p_values, method="fdr_bh")[1].tolist()
    )
    assert min(one.q_value for one in table) < 0.01
    assert all(one.n_ab >= one.n_ba for one in table)


@given(populations(), st.integers(0, 3))
def test_drift_is_that_of_counting_pairs(population: Edges, n_groups: int) -> None:
    stated, child, parent = population
    value = ints(*("abcde".index(min(s)) if s else -1 for s in stated))
    cluster = child % (n_groups + 1)
    counts: Counter[tuple[int, int]] = Counter()
    votes: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    exposed: Counter[int] = Counter()
    for c, p, g in zip(child, parent, cluster, strict=True):
        a, b = int(value[p]), int(value[c])
        if a < 0 or b < 0:
            continue
        exposed[a] += 1
        if a != b:
            counts[a, b] += 1
            votes[min(a, b), max(a, b)][int(g)] += 1 if a < b else -1
    table = drift_table(value, child, parent, cluster)
    assert len(table) == len({(min(pair), max(pair)) for pair in counts})
    for one in table:
        assert (one.n_ab, one.n_ba) == (counts[one.a, one.b], counts[one.b, one.a])
        sign = 1 if one.a < one.b else -1
        balance = [sign * v for v in votes[min(one.a, one.b), max(one.a, one.b)].values()]
        assert one.groups_ab == sum(v > 0 for v in balance)
        assert one.groups_ba == sum(v < 0 for v in balance)
        assert (one.rate_ab.n, one.rate_ba.n) == (exposed[one.a], exposed[one.b])


def test_a_group_that_goes_both_ways_alike_has_no_vote() -> None:
    # Founder 0: 0 → 1 and 1 → 0; founder 1: 0 → 1 twice, 1 → 0 once; founder 2: 1 → 0.
    value = ints(0, 1, 1, 0)
    child, parent = ints(1, 0, 1, 2, 3, 0), ints(0, 1, 3, 0, 2, 2)
    (found,) = drift_table(value, child, parent, ints(0, 0, 1, 1, 1, 2))
    assert (found.a, found.b, found.n_ab, found.n_ba) == (0, 1, 3, 3)
    assert (found.groups_ab, found.groups_ba) == (1, 1)
    (even,) = drift_table(value, child[:2], parent[:2], ints(0, 0))
    assert (even.groups_ab, even.groups_ba) == (0, 0)
    assert math.isnan(even.share.value)
    assert "every group is even" in even.share.method


def test_nothing_changed_is_an_empty_table() -> None:
    assert drift_table(ints(1, 1, -1), ints(1, 2), ints(0, 0), ints(0, 0)) == ()
    assert drift_table(ints(), ints(), ints(), ints()) == ()


@given(populations())
def test_turnover_is_that_of_the_sets(population: Edges) -> None:
    stated, child, parent = population
    sets, values = value_sets(stated)
    pairs = [
        (stated[p], stated[c])
        for c, p in zip(child, parent, strict=True)
        if stated[p] and stated[c]
    ]
    table = turnover(sets, child, parent)
    met = set().union(*(p | c for p, c in pairs)) if pairs else set()
    assert {values[one.value] for one in table} == met
    for one in table:
        name = values[one.value]
        had = sum(name in p for p, _ in pairs)
        assert one.n_lost == sum(name in p and name not in c for p, c in pairs)
        assert one.n_gained == sum(name not in p and name in c for p, c in pairs)
        assert (one.lost.n, one.gained.n) == (had, len(pairs) - had)
        assert math.isnan(one.lost.value) == (had == 0)
    changes = [one.n_lost + one.n_gained for one in table]
    assert changes == sorted(changes, reverse=True)


# -- siblings -----------------------------------------------------------------------------------


def test_siblings_that_change_alike_are_more_alike_than_their_parent() -> None:
    # Each of 12 parents says "a b"; its three children all say "a": a directed change.
    stated = [{"a", "b"}] * 12 + [{"a"}] * 36
    sets, _ = value_sets(stated)
    child, parent = 12 + np.arange(36), np.arange(36) // 3
    found = sibling_resemblance(sets, child, parent, parent, rng=rng())
    assert found.parent_child.value == pytest.approx(0.5)
    assert found.siblings.value == 0
    assert found.difference.value == pytest.approx(0.5)
    assert (found.difference.n, found.n_sibships) == (36, 12)


def test_siblings_are_compared_with_one_another_and_never_with_themselves() -> None:
    generator = rng()
    values = "abcdefgh"
    stated = [set(generator.choice(list(values), generator.integers(0, 5))) for _ in range(70)]
    sets, _ = value_sets(stated)
    child, parent = 10 + np.arange(60), generator.integers(0, 10, 60)
    sibships = defaultdict(list)
    for c, p in zip(child, parent, strict=True):
        if stated[c] and stated[p]:
            sibships[p].append(c)
    sibships = {p: children for p, children in sibships.items() if len(children) > 1}
    every = [
        np.mean([naive_distance(stated[c], stated[other]) for other in children if other != c])
        for children in sibships.values()
        for c in children
    ]
    draws = [
        sibling_resemblance(sets, child, parent, parent, rng=np.random.default_rng(seed))
        for seed in range(150)
    ]
    # The mean over rings tends to the mean over all pairs.
    assert np.mean([d.siblings.value for d in draws]) == pytest.approx(np.mean(every), abs=0.01)
    to_parent = [naive_distance(stated[c], stated[p]) for p, cs in sibships.items() for c in cs]
    for one in draws[:3]:
        assert one.parent_child.value == pytest.approx(np.mean(to_parent))
        assert one.difference.value == pytest.approx(one.parent_child.value - one.siblings.value)
        assert (one.siblings.n, one.n_sibships) == (len(every), len(sibships))


def test_only_children_have_no_siblings() -> None:
    sets, _ = value_sets([{"a"}] * 6)
    found = sibling_resemblance(sets, ints(3, 4, 5), ints(0, 1, 2), ints(0, 1, 2), rng=rng())
    assert found.n_sibships == 0
    assert math.isnan(found.difference.value)


# -- a real sample, and a large one -------------------------------------------------------------


@pytest.fixture(scope="module")
def radar(shared_data: Path) -> Radar:
    return read_radar(shared_data / "radar")


def stated_licences(folder: Path) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Licences by the tags themselves, and edges, read without the library."""
    licence = {}
    with gzip.open(folder / "models.jsonl.gz", "rt") as lines:
        for line in lines:
            record = json.loads(line)
            words = {tag[8:] for tag in record["tags"] if tag.startswith("license:")}
            if len(words) == 1 and words != {"unknown"}:
                (licence[record["id"]],) = words
    with gzip.open(folder / "edges_from_tags.csv.gz", "rt") as lines:
        edges = {(row["child"], row["parent"]) for row in csv.DictReader(lines)}
    return licence, sorted((c, p) for c, p in edges if c != p)


def test_licence_mutations_of_a_real_sample_are_those_of_counting_its_tags(
    radar: Radar, shared_data: Path
) -> None:
    licence, edges = stated_licences(shared_data / "radar")
    sets, _ = value_sets(radar.sets("licence"))
    rates = mutation_rates(sets, radar.child, radar.parent, radar.founder, radar.kind)
    known = [(c, p) for c, p in edges if c in licence and p in licence]
    changed = [(c, p) for c, p in known if licence[c] != licence[p]]
    assert rates[""].n_edges == len(edges)
    assert rates[""].n_known == len(known)
    assert rates[""].n_changed == rates[""].n_disjoint == len(changed)
    assert rates[""].by_parent.value == pytest.approx(len(changed) / len(known))
    assert rates[""].by_parent.n_clusters == len({p for _, p in known})
    # founders hold whole parents: fewer groups, and here a wider interval
    founders, parents = rates[""].by_founder, rates[""].by_parent
    assert founders.n_clusters < parents.n_clusters
    kinds = [rate for kind, rate in rates.items() if kind]
    assert sum(rate.n_edges for rate in kinds) == len(edges)
    assert sum(rate.n_changed for rate in kinds) == len(changed)
    # the words of the Hub and their normal forms are one to one among those that change
    table = drift_table(single_values(sets), radar.child, radar.parent, radar.parent)
    assert sum(row.n_ab + row.n_ba for row in table) == len(changed)
    pairs = Counter((licence[p], licence[c]) for c, p in changed)
    both = Counter(frozenset(pair) for pair in pairs.elements())
    assert sorted((row.n_ab + row.n_ba for row in table), reverse=True) == sorted(
        both.values(), reverse=True
    )


@pytest.mark.parametrize("trait", ["languages", "tasks"])
def test_set_valued_mutations_of_a_real_sample_are_those_of_its_sets(
    radar: Radar, trait: str
) -> None:
    stated = radar.sets(trait)
    sets, _ = value_sets(stated)
    rate = mutation_rate(sets, radar.child, radar.parent, radar.founder)
    distances = [
        naive_distance(stated[c], stated[p]) for c, p in zip(radar.child, radar.parent, strict=True)
    ]
    known = [d for d in distances if not math.isnan(d)]
    assert rate.n_known == len(known)
    assert rate.by_parent.value == pytest.approx(math.fsum(known) / len(known), rel=1e-12)
    assert 0 < rate.by_founder.low < rate.by_founder.value < rate.by_founder.high < 1


@pytest.mark.slow
def test_a_million_edges_take_seconds() -> None:
    generator = rng()
    n = 1_000_000
    pool = [set(), *({f"v{k}", f"v{k * k % 50}"} for k in range(50))]
    sets, _ = value_sets([pool[k] for k in generator.integers(0, 51, n + 1)])
    child = 1 + np.arange(n)
    parent = (child * generator.random(n) ** 3).astype(np.int64)
    begun = time.perf_counter()
    rate = mutation_rate(sets, child, parent, parent % 1000)
    drift_table(single_values(sets), child, parent, parent)
    turnover(sets, child, parent)
    sibling_resemblance(sets, child, parent, parent, rng=rng())
    assert time.perf_counter() - begun < 120  # ten on an idle core
    assert rate.n_known > 900_000
