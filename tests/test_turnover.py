"""Turnover of top lists, shares of families, silent lineages: oracles and known cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineage.evolution.time.turnover import (
    neutral_turnover,
    share_changes,
    silent_lineages,
    top_turnover,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def rng() -> np.random.Generator:
    return np.random.default_rng(8)


# -- top lists ------------------------------------------------------------------------------------


def naive_lists(
    rows: list[tuple[int, int, int]], size: int
) -> tuple[list[int], list[list[int] | None], list[int]]:
    months = sorted({m for m, _, c in rows if c > 0})
    span = list(range(months[0], months[-1] + 1))
    lists: list[list[int] | None] = []
    tied = []
    for month in span:
        total: dict[int, int] = {}
        for m, model, count in rows:
            if m == month and count > 0:
                total[model] = total.get(model, 0) + count
        ranked = sorted(total, key=lambda model: (-total[model], model))
        whole = len(ranked) >= size
        lists.append(ranked[:size] if whole else None)
        bar = total[ranked[size - 1]] if whole else -1
        contested = whole and any(total[model] == bar for model in ranked[size:])
        tied.append(sum(total[model] == bar for model in ranked[:size]) if contested else 0)
    return span, lists, tied


@given(
    st.lists(
        st.tuples(st.integers(-2, 5), st.integers(0, 7), st.integers(0, 4)),
        min_size=1,
        max_size=60,
    ).filter(lambda rows: any(c for _, _, c in rows)),
    st.integers(1, 4),
)
def test_lists_are_those_of_sorting_every_month(
    rows: list[tuple[int, int, int]], size: int
) -> None:
    month, model, count = (np.array(part) for part in zip(*rows, strict=True))
    found = top_turnover(month, model, count.astype(float), size, rng=rng(), n_resamples=20)
    span, lists, tied = naive_lists(rows, size)
    assert found.month.tolist() == span
    assert found.tied.tolist() == tied
    for k, members in enumerate(lists):
        former = lists[k - 1] if k else None
        if members is None:
            assert f"models with a count, {size} needed" in found.reason[k]
        elif former is None:
            assert found.reason[k] == "no list of the month before"
        else:
            assert found.reason[k] == ""
            assert found.entered[k] == len(set(members) - set(former))
            continue
        assert math.isnan(found.entered[k])


def test_mean_turnover_resamples_quarters_not_months() -> None:
    # Six months of the same list, then six of a wholly new one each: runs, not coin flips.
    names = [[1, 2]] * 7 + [[10 + 2 * k, 11 + 2 * k] for k in range(6)]
    month = np.repeat(np.arange(13), 2)
    found = top_turnover(
        month, np.array(names).ravel(), np.ones(26), 2, rng=rng(), n_resamples=4000
    )
    assert found.entered[1:].tolist() == [0.0] * 6 + [2.0] * 6
    assert found.mean.value == 1.0
    assert (found.mean.n, found.mean.n_clusters) == (12, 5)
    months_alone = 1.96 * 1.0 / math.sqrt(12)
    assert found.mean.high - found.mean.low > 2.2 * months_alone


def test_missing_counts_are_not_zero_places() -> None:
    month, model = np.array([0, 0, 0, 1, 1, 1]), np.array([1, 2, 3, 1, 2, 3])
    found = top_turnover(
        month, model, np.array([9.0, 5.0, 1.0, np.nan, 5.0, 1.0]), 2, rng=rng(), n_resamples=10
    )
    assert found.entered[1] == 1  # model 1 was not asked, so that 3 moves up: see the docstring
    short = top_turnover(
        month, model, np.array([9.0, 5.0, 1.0, np.nan, 0.0, 1.0]), 2, rng=rng(), n_resamples=10
    )
    assert short.reason[1] == "1 models with a count, 2 needed"
    assert "independent groups" in short.mean.method
    assert math.isnan(short.mean.value)


def test_top_lists_refuse_bad_input() -> None:
    one = np.array([1])
    with pytest.raises(ValueError, match="at least one place"):
        top_turnover(one, one, np.ones(1), 0, rng=rng())
    with pytest.raises(ValueError, match="one month, one model"):
        top_turnover(one, one, np.ones(2), 1, rng=rng())
    with pytest.raises(ValueError, match="not negative"):
        top_turnover(one, one, np.array([-1.0]), 1, rng=rng())
    for nothing in (0.0, np.nan):
        with pytest.raises(ValueError, match="no count is known"):
            top_turnover(one, one, np.array([nothing]), 1, rng=rng())


def test_copying_by_generations_turns_over_about_as_bentley_found() -> None:
    n, mu, size, steps = 500, 0.01, 20, 150
    random = np.random.default_rng(2)
    variants, fresh, seen = np.arange(n), n, []
    for step in range(-400, steps):
        variants = variants[random.integers(0, n, n)]
        new = np.flatnonzero(random.random(n) < mu)
        variants[new] = fresh + np.arange(new.size)
        fresh += new.size
        if step >= 0:
            seen.append(variants)
    found = top_turnover(
        np.repeat(np.arange(steps), n),
        np.concatenate(seen),
        np.ones(n * steps),
        size,
        rng=rng(),
        n_resamples=200,
    )
    assert found.mean.value == pytest.approx(neutral_turnover(size, 1, 100).value, rel=0.35)


def test_neutral_turnover_has_the_interval_of_its_innovation_rate() -> None:
    # Wilson 95 % of 40/1000: .029514 .054003 (hand: centre .041759, reach .012245)
    found = neutral_turnover(100, 40, 1000)
    assert (found.low, found.high) == pytest.approx(
        (100 * math.sqrt(0.029514), 100 * math.sqrt(0.054003)), rel=1e-4
    )
    assert "wrong under Moran" in found.method
    assert neutral_turnover(10, 0, 50).low == 0
    assert neutral_turnover(10, 50, 50).high == 10
    for size, new, births in ((0, 1, 2), (1, 3, 2), (1, -1, 2), (1, 0, 0)):
        with pytest.raises(ValueError, match="no more new than all"):
            neutral_turnover(size, new, births)


# -- families -------------------------------------------------------------------------------------


def births_of(seed: int) -> tuple[Ints, Floats, Ints]:
    random = np.random.default_rng(seed)
    cluster = random.integers(0, 30, 900)
    family = cluster % 3
    born = random.uniform(0, 200, 900)
    # family 0 loses, family 2 gains: its births of the first half are moved to the second
    move = (family == 2) & (born < 100) & (random.random(900) < 0.6)
    return family, np.where(move, born + 100, born), cluster


def test_shares_and_their_change_are_counted_by_period() -> None:
    family, born, cluster = births_of(1)
    found = share_changes(family, born, cluster, (0, 100), (100, 200), rng=rng())
    assert next(c.family for c in found) == 2
    for change in found:
        early = (family[born < 100] == change.family).mean()
        late = (family[born >= 100] == change.family).mean()
        assert change.before.value == pytest.approx(early)
        assert change.after.value == pytest.approx(late)
        assert change.change.value == pytest.approx(late - early)
        assert change.change.low <= change.change.value <= change.change.high
        assert change.change.n_clusters == 30
    assert sum(c.change.value for c in found) == pytest.approx(0, abs=1e-12)
    assert found[0].change.low > 0
    assert found[-1].change.high < 0
    values = [c.change.value for c in found]
    assert values == sorted(values, reverse=True)


def test_intervals_of_share_follow_founders_not_models() -> None:
    family, born, cluster = births_of(1)
    wide = share_changes(
        family, born, cluster % 3 + 3 * (cluster // 9), (0, 100), (100, 200), rng=rng()
    )
    narrow = share_changes(family, born, np.arange(900), (0, 100), (100, 200), rng=rng())
    spread = [c[0].after.high - c[0].after.low for c in (wide, narrow)]
    assert spread[0] > 2 * spread[1]


def test_only_births_within_the_periods_count_and_a_day_on_the_border_is_late() -> None:
    family = np.array([1, 1, 1, 2, 2, 2, 1, 2, 1])
    born = np.array([0.0, 5.0, 10.0, 9.9, 10.0, 19.9, 20.0, np.nan, -0.1])
    found = share_changes(family, born, np.arange(9), (0, 10), (10, 20), rng=rng())
    by_family = {c.family: c for c in found}
    assert by_family[1].before.value == pytest.approx(2 / 3)
    assert by_family[1].after.value == pytest.approx(1 / 3)
    assert by_family[1].before.n == 6


def test_a_family_of_one_founder_is_untrusted_and_only_the_largest_are_compared() -> None:
    family, born, cluster = births_of(1)
    lone = share_changes(
        np.where(cluster == 4, 9, family), born, cluster, (0, 100), (100, 200), rng=rng()
    )
    assert lone[-1].family == 9
    assert "1 independent groups in the family, 3 needed" in lone[-1].change.method
    assert math.isnan(lone[-1].change.value)
    few = share_changes(family, born, cluster, (0, 100), (100, 200), rng=rng(), largest=2)
    sizes = np.bincount(family)
    assert {c.family for c in few} == set(np.argsort(-sizes)[:2].tolist())


def test_share_changes_refuse_bad_input() -> None:
    family, born, cluster = births_of(1)
    with pytest.raises(ValueError, match="follow each other"):
        share_changes(family, born, cluster, (0, 110), (100, 200), rng=rng())
    with pytest.raises(ValueError, match="follow each other"):
        share_changes(family, born, cluster, (100, 100), (100, 200), rng=rng())
    with pytest.raises(ValueError, match="nobody was born"):
        share_changes(family, born, cluster, (0, 100), (300, 400), rng=rng())
    with pytest.raises(ValueError, match="one family, one birth"):
        share_changes(family[1:], born, cluster, (0, 100), (100, 200), rng=rng())


# -- silence --------------------------------------------------------------------------------------


def test_the_black_footed_ferret_is_as_extinct_as_solow_found() -> None:
    # Solow (1993): 28 sightings, the last in month 203 of 229, (203/229)^28 = .034
    born = np.concatenate([[0.0], np.linspace(7, 203, 28)])
    found = silent_lineages(np.zeros(29, dtype=np.int64), born, 229.0, window_days=20.0)
    assert found.p_value[0] == pytest.approx(0.034, abs=5e-4)
    assert (found.births[0], found.last_day[0], bool(found.silent[0])) == (28, 203, True)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100)), min_size=1, max_size=30),
    st.integers(1, 60),
)
def test_silence_is_that_of_each_lineage_looked_at_alone(
    models: list[tuple[int, int]], window: int
) -> None:
    lineage = np.array([m for m, _ in models])
    born = np.array([float(d) for _, d in models])
    found = silent_lineages(lineage, born, 100.0, window_days=float(window))
    assert found.lineage.tolist() == sorted(set(lineage.tolist()))
    old = quiet = 0
    for k, label in enumerate(found.lineage.tolist()):
        days = sorted(born[lineage == label].tolist())
        silent = 100 - days[-1] >= window
        assert bool(found.silent[k]) == silent
        assert found.births[k] == len(days) - 1
        age = 100 - days[0]
        reached = (days[-1] - days[0]) / age if age else 1.0
        assert found.p_value[k] == pytest.approx(reached ** (len(days) - 1))
        old += age >= window
        quiet += silent
    if old:
        assert found.share.value == quiet / old
        assert (found.share.n, found.share.n_clusters) == (old, old)
        assert found.share.low <= found.share.value <= found.share.high
    else:
        assert "no lineage is that old" in found.share.method


def test_a_founder_without_children_is_silent_but_nothing_says_it_is_extinct() -> None:
    found = silent_lineages(np.array([1, 2]), np.array([0.0, 95.0]), 100.0, window_days=30.0)
    assert found.silent.tolist() == [True, False]
    assert found.p_value.tolist() == [1.0, 1.0]
    assert found.share.value == 1.0
    assert found.share.n == 1  # the younger lineage could not have been silent so long


def test_chance_of_silence_is_uniform_while_births_go_on() -> None:
    random = np.random.default_rng(3)
    lineage = np.repeat(np.arange(400), 9)
    born = random.uniform(0, 100, (400, 9))
    born[:, 0] = 0
    found = silent_lineages(lineage, born.ravel(), 100.0)
    assert np.quantile(found.p_value, [0.05, 0.5, 0.95]).tolist() == pytest.approx(
        [0.05, 0.5, 0.95], abs=0.06
    )


def test_silence_refuses_bad_input() -> None:
    with pytest.raises(ValueError, match="one lineage and one birth"):
        silent_lineages(np.array([1]), np.zeros(2), 1.0)
    with pytest.raises(ValueError, match="above 0"):
        silent_lineages(np.array([1]), np.zeros(1), 1.0, window_days=-1.0)
    for born in (np.nan, 5.0):
        with pytest.raises(ValueError, match="no birth is known"):
            silent_lineages(np.array([1]), np.array([born]), 1.0)
