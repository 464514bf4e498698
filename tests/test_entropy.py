"""The entropy account: hand cases, the identity, and a naive walk through the months."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lineage.evolution.diversity.entropy import (
    PARTS,
    EntropyAccount,
    binned,
    chao_shen,
    entropy_account,
    entropy_account_intervals,
    miller_madow,
    shannon,
)
from lineage.evolution.diversity.entropy_months import entropy_through_time
from lineage.graph import LineageGraph

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NAN = math.nan


def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def ints(*values: int) -> Ints:
    return np.array(values, dtype=np.int64)


def entropy(masses: dict[int, float]) -> float:
    total = sum(masses.values())
    return -sum(m / total * math.log(m / total) for m in masses.values() if m > 0)


# -- entropy of counts --------------------------------------------------------------------------


def test_entropies_of_a_case_worked_on_paper() -> None:
    counts = np.array([[4.0, 2, 1], [0, 3, 0], [0, 0, 0]])
    plain = 4 / 7 * math.log(7 / 4) + 2 / 7 * math.log(7 / 2) + 1 / 7 * math.log(7)
    np.testing.assert_allclose(shannon(counts), [plain, 0, NAN], atol=1e-15)
    np.testing.assert_allclose(miller_madow(counts), [plain + 2 / 14, 0, NAN], atol=1e-15)
    adjusted = 0.0
    for x in (4, 2, 1):
        p = 6 / 7 * x / 7
        adjusted -= p * math.log(p) / (1 - (1 - p) ** 7)
    np.testing.assert_allclose(chao_shen(counts), [adjusted, 0, NAN], atol=1e-15)


def test_the_adjusted_entropy_does_without_a_category_seen_twice() -> None:
    p = (1 / 3) / 3  # f₁ = n: coverage is taken from f₁ = n − 1
    expected = -3 * p * math.log(p) / (1 - (1 - p) ** 3)
    assert chao_shen(np.ones(3)) == pytest.approx(expected)


def test_corrections_of_entropy_take_most_of_the_bias_away() -> None:
    shares = 1 / np.arange(1, 41)
    shares /= shares.sum()
    truth = float(shannon(shares))
    counts = rng().multinomial(80, shares, size=4000).astype(float)
    bias = {
        name: abs(float(estimate(counts).mean()) - truth)
        for name, estimate in (("plain", shannon), ("mm", miller_madow), ("cs", chao_shen))
    }
    # First order: (S − 1)/2n of all 40 categories would be 0.24, of those seen about 0.15.
    assert bias["plain"] > 0.17
    assert bias["mm"] < 0.5 * bias["plain"]
    assert bias["cs"] < 0.3 * bias["plain"]


@pytest.mark.parametrize("estimate", [shannon, miller_madow, chao_shen])
def test_counts_below_zero_are_refused(estimate: object) -> None:
    with pytest.raises(ValueError, match="counts must be finite"):
        estimate(np.array([1.0, -1]))


def test_bins_are_closed_below_and_missing_values_unknown() -> None:
    values = np.array([-5.0, 1, 1.5, 7, 8, NAN])
    np.testing.assert_array_equal(binned(values, np.array([1.0, 7])), [0, 1, 1, 2, 2, -1])
    with pytest.raises(ValueError, match="ascend"):
        binned(values, np.array([7.0, 1]))


# -- the account --------------------------------------------------------------------------------


def test_selection_alone() -> None:
    # Two kinds of parents, one childless: entropy ln 2 is lost to selection.
    found = entropy_account(ints(0, 1), ints(0, 0), ints(0, 1), ints(0, 0), np.ones(2))
    assert found.parts["selection"] == pytest.approx(-math.log(2))
    assert [found.parts[part] for part in PARTS[1:]] == [0, 0, 0, 0]
    assert found.change == pytest.approx(-math.log(2))
    assert (found.n_parents, found.n_children) == (2, 2)


def test_choice_is_what_merges_of_unlike_parents_do() -> None:
    # Two merges of kinds 0 and 1 in equal shares both take kind 1: no selection, all choice.
    found = entropy_account(
        ints(0, 1), ints(1, 1), ints(0, 0, 1, 1), ints(0, 1, 0, 1), np.full(4, 0.5)
    )
    assert found.parts["selection"] == pytest.approx(0)
    assert found.parts["choice"] == pytest.approx(-math.log(2))
    assert found.parts["mutation"] == 0


def test_mutation_is_a_value_of_none_of_the_parents() -> None:
    found = entropy_account(ints(0, 0), ints(0, 1), ints(0, 1), ints(0, 1), np.ones(2))
    assert found.parts["mutation"] == pytest.approx(math.log(2))
    # A merge with a third value stays the mixture of its parents until it mutates.
    merge = entropy_account(ints(0, 1), ints(2), ints(0, 0), ints(0, 1), np.array([0.25, 0.75]))
    mixture = entropy({0: 0.25, 1: 0.75})
    assert merge.parts["selection"] == pytest.approx(mixture - math.log(2))
    assert merge.parts["choice"] == 0
    assert merge.parts["mutation"] == pytest.approx(-mixture)


def test_a_share_of_zero_makes_no_parent() -> None:
    found = entropy_account(ints(0, 1), ints(1), ints(0, 0), ints(0, 1), np.array([1.0, 0.0]))
    assert found.parts["choice"] == 0
    assert found.stages[2].tolist() == [1, 0]  # not chosen: still its real parent's


def test_outside_parents_are_unplaced_and_founders_immigrants() -> None:
    found = entropy_account(
        ints(0), ints(0, 1, 2), ints(0, 1), ints(0, -1), np.ones(2)
    )  # a child, one of a parent outside, a founder
    assert found.parts["unplaced"] == pytest.approx(math.log(2))
    assert found.parts["immigration"] == pytest.approx(math.log(3) - math.log(2))
    # a third of a child from nowhere is a third of an immigrant
    part = entropy_account(
        ints(0), ints(0, 1), ints(0, 1, 1), ints(0, 0, -1), np.array([1, 1 / 3, 1 / 3])
    )
    np.testing.assert_allclose(part.stages[3:, 1], [1 / 3, 2 / 3, 1])


@st.composite
def generations(draw: st.DrawFn) -> tuple[Ints, Ints, Ints, Ints, Floats]:
    n, m = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    parents = [draw(st.integers(0, 3)) for _ in range(n)]
    children = [draw(st.integers(0, 4)) for _ in range(m)]
    links: list[tuple[int, int, float]] = []
    for child in range(m):
        mothers = draw(st.lists(st.integers(-1, n - 1), unique=True, max_size=4))
        raw = [draw(st.floats(0, 1)) for _ in mothers]
        scale = max(sum(raw), 1.0)
        links += [(child, k, share / scale) for k, share in zip(mothers, raw, strict=True)]
    links.append((m, draw(st.integers(0, n - 1)), 1.0))  # somebody has a parent
    children.append(draw(st.integers(0, 4)))
    child, parent, share = zip(*links, strict=True)
    return ints(*parents), ints(*children), ints(*child), ints(*parent), np.array(share)


def naive_stages(
    parents: Ints, children: Ints, child: Ints, parent: Ints, share: Floats
) -> list[dict[int, float]]:
    """Model by model, with dictionaries."""
    stages: list[dict[int, float]] = [defaultdict(float) for _ in range(6)]
    for kind in parents.tolist():
        stages[0][kind] += 1
    for i, kind in enumerate(children.tolist()):
        known = {
            int(k): float(s)
            for c, k, s in zip(child, parent, share, strict=True)
            if c == i and k >= 0 and s > 0
        }
        outside = sum(
            float(s) for c, k, s in zip(child, parent, share, strict=True) if c == i and k < 0
        )
        for k, s in known.items():
            stages[1][int(parents[k])] += s
        if kind in {int(parents[k]) for k in known}:
            stages[2][kind] += sum(known.values())
        else:
            for k, s in known.items():
                stages[2][int(parents[k])] += s
        stages[3][kind] += sum(known.values())
        stages[4][kind] += sum(known.values()) + outside
        stages[5][kind] += 1
    return stages


@given(generations())
def test_the_parts_are_those_of_a_walk_and_sum_to_the_change(
    case: tuple[Ints, Ints, Ints, Ints, Floats],
) -> None:
    found = entropy_account(*case)
    stages = naive_stages(*case)
    assert abs(sum(found.parts.values()) - found.change) < 1e-12
    expected = [entropy(stage) for stage in stages]
    np.testing.assert_allclose(found.entropies, expected, rtol=0, atol=1e-12)
    assert found.change == pytest.approx(
        entropy(Counter(case[1].tolist())) - entropy(Counter(case[0].tolist())), abs=1e-12
    )


@given(generations(), st.permutations(range(5)))
def test_the_names_of_categories_do_not_matter(
    case: tuple[Ints, Ints, Ints, Ints, Floats], names: list[int]
) -> None:
    parents, children, *links = case
    renamed = entropy_account(np.array(names)[parents], np.array(names)[children], *links)
    for part, value in entropy_account(*case).parts.items():
        assert renamed.parts[part] == pytest.approx(value, abs=1e-12)


def test_bad_accounts_are_refused() -> None:
    one = np.ones(1)
    with pytest.raises(ValueError, match="needs its category"):
        entropy_account(ints(0, -1), ints(0), ints(0), ints(0), one)
    with pytest.raises(ValueError, match="needs its category"):
        entropy_account(ints(0), ints(-1), ints(0), ints(0), one)
    with pytest.raises(ValueError, match="must not sum to more than 1"):
        entropy_account(ints(0, 1), ints(0), ints(0, 0), ints(0, 1), np.array([0.7, 0.7]))
    for bad in (NAN, -0.5):
        with pytest.raises(ValueError, match="at least zero"):
            entropy_account(ints(0), ints(0), ints(0), ints(0), np.array([bad]))
    with pytest.raises(ValueError, match="no child has a parent"):
        entropy_account(ints(0), ints(0), ints(0), ints(-1), one)
    with pytest.raises(ValueError, match="no child has a parent"):
        entropy_account(ints(0), ints(0), ints(), ints(), np.array([]))


# -- intervals ----------------------------------------------------------------------------------


def test_intervals_surround_the_account_and_follow_founders() -> None:
    generator = np.random.default_rng(2)
    n = 120
    parents, mother = generator.integers(0, 4, n), generator.integers(0, n, 200)
    children = np.where(generator.random(200) < 0.2, generator.integers(0, 6, 200), parents[mother])
    links = (np.arange(180), mother[:180], np.ones(180))
    child_cluster = np.concatenate([mother[:180] // 4, np.arange(200, 220)])
    found = entropy_account_intervals(
        parents, children, *links, np.arange(n) // 4, child_cluster, rng=rng()
    )
    account = entropy_account(parents, children, *links)
    assert tuple(found) == (*PARTS, "change")
    for part in ("selection", "mutation", "immigration", "change"):
        value = account.change if part == "change" else account.parts[part]
        assert found[part].value == pytest.approx(value, abs=1e-12)
        assert found[part].low < value < found[part].high
        assert (found[part].n, found[part].n_clusters) == (200, 50)
    # choice does nothing here, in any resample
    assert found["choice"].low == found["choice"].high == pytest.approx(0, abs=1e-12)
    single = entropy_account_intervals(
        parents, children, *links, np.zeros(n, int), np.zeros(200, int), rng=rng()
    )
    assert math.isnan(single["selection"].value)


# -- month by month -----------------------------------------------------------------------------


def months() -> tuple[LineageGraph, Ints, Ints, Ints]:
    """Month 0: a, b. 1: c of a, d of c (same month), e a founder, f of e. 2: g of the unknown u.

    h merges a and x, a founder of its own month 2; b vanishes in month 2, v at once in month 0.
    """
    models = {
        "a": (0, 0, -1), "b": (1, 0, 2), "c": (0, 1, -1), "d": (2, 1, -1), "e": (3, 1, -1),
        "f": (3, 1, -1), "u": (-1, 1, -1), "g": (1, 2, -1), "h": (0, 2, -1), "x": (4, 2, 2),
        "v": (-1, 0, 0),
    }  # fmt: skip
    edges = [
        ("c", "a", 2.0, 0), ("d", "c", 1.0, 0), ("f", "e", 1.0, 0), ("g", "u", 1.0, 0),
        ("h", "a", 3.0, 0), ("h", "x", 1.0, 1),
    ]  # fmt: skip
    graph = LineageGraph.from_edges(list(models), edges)
    category, born, removed = (np.array(column) for column in zip(*models.values(), strict=True))
    return graph, category, born, removed


def test_months_are_accounted_from_the_living_to_the_living() -> None:
    graph, category, born, removed = months()
    first, second = entropy_through_time(graph, category, born, removed=removed)
    # Month 1: a, b live on; c inherits from a; d from a by way of c, and mutates; e, f immigrate.
    assert first.window == 1
    assert first.unknown == second.unknown == 1  # u, for v is gone
    np.testing.assert_allclose(
        first.account.stages,
        [
            [1, 1, 0, 0],
            [3, 1, 0, 0],
            [3, 1, 0, 0],
            [2, 1, 1, 0],
            [2, 1, 1, 0],
            [2, 1, 1, 2],
        ],
    )
    # Month 2: b goes; g is of an unknown parent; h has ¾ of a and ¼ of a founder of its month.
    assert second.window == 2
    np.testing.assert_allclose(
        second.account.stages,
        [
            [2, 1, 1, 2],
            [2.75, 0, 1, 2],
            [2.75, 0, 1, 2],
            [2.75, 0, 1, 2],
            [2.75, 1, 1, 2],
            [3, 1, 1, 2],
        ],
    )
    assert second.account.parts["selection"] < 0  # b's kind was removed
    assert second.intervals == {}


def test_each_month_begins_where_the_last_one_ended() -> None:
    generator = np.random.default_rng(9)
    n = 300
    ids = [f"m{i:03}" for i in range(n)]
    born = np.sort(generator.integers(0, 8, n))
    born[generator.random(n) < 0.05] = -1
    removed = np.where(generator.random(n) < 0.2, born + generator.integers(0, 4, n), -1)
    category = generator.integers(-1, 5, n)
    edges = []
    for i in range(10, n):
        mothers = generator.choice(i, size=generator.integers(0, 3), replace=False)
        edges += [(ids[i], ids[k], float(generator.random()), j) for j, k in enumerate(mothers)]
    graph = LineageGraph.from_edges(ids, edges)
    found = entropy_through_time(graph, category, born, removed=removed)
    assert len(found) >= 7
    for earlier, later in pairwise(found):
        np.testing.assert_allclose(
            [*earlier.account.stages[-1], 0, 0][:5], [*later.account.stages[0], 0, 0][:5]
        )
    for one in found:
        assert isinstance(one.account, EntropyAccount)
        assert abs(sum(one.account.parts.values()) - one.account.change) < 1e-12
        alive = (born >= 0) & (born <= one.window) & ((removed < 0) | (removed > one.window))
        counts = np.bincount(category[alive & (category >= 0)], minlength=5)
        np.testing.assert_array_equal(
            np.pad(one.account.stages[-1], (0, 5 - one.account.stages.shape[1])), counts
        )
        assert one.unknown == (alive & (category < 0)).sum()


def test_months_have_intervals_when_asked_for() -> None:
    graph, category, born, removed = months()
    first, _ = entropy_through_time(
        graph, category, born, removed=removed, rng=rng(), n_resamples=50
    )
    assert tuple(first.intervals) == (*PARTS, "change")
    assert first.intervals["immigration"].value == pytest.approx(first.account.parts["immigration"])
    assert first.intervals["change"].n_clusters == 3  # founders a, b, e


def test_a_population_without_survivors_has_no_account() -> None:
    graph = LineageGraph.from_edges(["a", "b"], [("b", "a", 1, 0)])
    assert entropy_through_time(graph, ints(0, 0), ints(0, 1), removed=ints(1, -1)) == ()
    assert entropy_through_time(graph, ints(-1, 0), ints(0, 1)) == ()
    with pytest.raises(ValueError, match="one value for each of the 2 models"):
        entropy_through_time(graph, ints(0), ints(0, 1))


def test_a_child_dated_before_its_parent_is_unplaced() -> None:
    graph = LineageGraph.from_edges(["a", "b", "c"], [("b", "c", 1, 0)])
    found = entropy_through_time(graph, ints(0, 1, 1), ints(0, 1, 2))
    np.testing.assert_allclose(found[0].account.stages[3:], [[1, 0], [1, 1], [1, 1]])
