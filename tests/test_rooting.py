"""Founders chosen from a tree: against every rooting drawn out in full."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.infer.descent import resolve_descent
from lineage.infer.geometry import Pool, make_pool
from lineage.infer.inheritance import Parallel
from lineage.infer.lattice import lattice_log_odds
from lineage.infer.placement import parallel_fact
from lineage.infer.rooting import (
    StepOdds,
    date_log_odds,
    founder_log_odds,
    is_above,
    lattice_odds,
)
from lineage.weights.encodings import round_to
from lineage.weights.roles import TensorKey
from simulated import Herd, fingerprint, stored

BORN = datetime(2024, 1, 1, tzinfo=UTC)


@st.composite
def trees(draw):
    """Parent by child over nodes 0…n−1 rooted at 0, and odds of every step."""
    n = draw(st.integers(1, 9))
    parents = {str(c): str(draw(st.integers(0, c - 1))) for c in range(1, n)}
    odds = {c: draw(st.floats(-6, 6)) for c in parents}
    return parents, odds


def by_drawing(parents, odds, candidates):
    """Every candidate as root: all steps drawn anew from there, their odds added up."""
    neighbours: dict[str, set[str]] = {"0": set()}
    for child, parent in parents.items():
        neighbours.setdefault(child, set()).add(parent)
        neighbours.setdefault(parent, set()).add(child)
    scores = {}
    for root in candidates:
        score, seen, waiting, above = 0.0, {root}, [root], {}
        while waiting:
            at = waiting.pop()
            for other in neighbours[at] - seen:
                # Half the odds for each direction: turning a step costs its odds once.
                score += 0.5 * (odds[other] if parents.get(other) == at else -odds[at])
                seen.add(other)
                waiting.append(other)
                above[other] = at
        scores[root] = score + np.log(n_growths(above, frozenset(seen)))
    total = np.logaddexp.reduce(list(scores.values()))
    return {root: score - total for root, score in scores.items()}


def n_growths(above, left):
    """In how many orders a tree can have grown, counted by taking the youngest away."""
    if len(left) == 1:
        return 1
    leaves = left - {above[name] for name in left if name in above}
    return sum(n_growths(above, left - {leaf}) for leaf in leaves)


@given(trees())
def test_one_pass_weighs_founders_as_drawing_every_tree_does(tree):
    parents, odds = tree
    nodes = {"0", *parents}
    found = founder_log_odds(parents, "0", odds, nodes)
    assert found == pytest.approx(by_drawing(parents, odds, nodes))
    assert np.exp(list(found.values())).sum() == pytest.approx(1)


def test_steps_into_models_that_cannot_be_founders_are_not_turned():
    parents = {"b": "a", "c": "b", "d": "a"}
    odds = dict.fromkeys(parents, -9.0)
    assert (
        max(founder_log_odds(parents, "a", odds, {"a", "b", "c", "d"}).items(), key=value)[0] == "c"
    )
    assert founder_log_odds(parents, "a", odds, {"a", "c", "d"}).keys() == {"a", "d"}


def value(item):
    return item[1]


@given(trees())
def test_a_step_leads_down_unless_a_founder_lies_below_it(tree):
    parents, odds = tree
    founders = founder_log_odds(parents, "0", odds, {"0", *parents})
    for child in parents:
        below = {child}
        for _ in parents:
            below |= {c for c, p in parents.items() if p in below}
        share = sum(np.exp(founders[name]) for name in below)
        expected = np.log(max(1 - share, 1e-300)) - np.log(share)
        if 1e-6 < share < 1 - 1e-6:
            assert is_above(parents, child, founders) == pytest.approx(expected, abs=1e-4)


def test_a_step_above_which_every_founder_lies_is_certain():
    assert is_above({"b": "a"}, "b", {"a": 0.0}) == np.inf
    assert is_above({"b": "a"}, "b", {"b": 0.0}) == -np.inf


def test_dates_speak_within_their_cap_and_only_when_they_differ():
    dates = {"old": BORN, "young": BORN + timedelta(days=9), "unknown": None}
    assert date_log_odds("young", "old", dates) == 5
    assert date_log_odds("old", "young", dates) == -5
    assert date_log_odds("young", "old", dates, cap=1) == 1
    assert date_log_odds("old", "unknown", dates) == 0
    assert date_log_odds("old", "old", dates) == 0
    near = {"old": BORN, "young": BORN + timedelta(minutes=5)}
    assert date_log_odds("young", "old", near) == 0


@pytest.fixture(scope="module")
def pool():
    herd = Herd(5)
    base = stored(herd.founder())
    models = {"a": base, "b": herd.train(base, 0.003), "c": herd.train(base, 0.05)}
    return make_pool([fingerprint(name, weights) for name, weights in models.items()])


def test_the_odds_of_a_step_are_those_of_the_step_back_negated(pool):
    steps = StepOdds(pool, {})
    for one, other in (("a", "b"), ("a", "c"), ("b", "c")):
        assert steps.log_odds(one, other) == pytest.approx(-StepOdds(pool, {}).log_odds(other, one))
        assert steps.log_odds(one, other) == -steps.log_odds(other, one)


def test_small_and_large_steps_are_both_seen_to_lead_away_from_the_founder(pool):
    steps = StepOdds(pool, {})
    assert steps.log_odds("a", "b") > 0
    assert steps.log_odds("a", "c") > 0


def test_a_date_is_one_witness_among_others(pool):
    dates = {"a": BORN + timedelta(days=3), "b": BORN}
    told = StepOdds(pool, dates).log_odds("a", "b")
    assert told == pytest.approx(StepOdds(pool, {}).log_odds("a", "b") - 5)


def test_the_finer_of_two_number_types_is_asked_about_the_coarser():
    rng = np.random.default_rng(5)
    older = rng.normal(0, 0.02, (64, 64)).astype(np.float32)
    younger = round_to("BF16", older + rng.laplace(0, 2e-5, older.shape).astype(np.float32))
    values = (np.stack([older, younger]),)
    keys = (TensorKey("up", 0),)
    pool = Pool(("fine", "coarse"), keys, values, ("F32", "BF16"))
    told = lattice_odds(pool, "fine", "coarse")
    assert told == pytest.approx(lattice_log_odds([older], [younger], "BF16"))
    assert told > 3
    assert lattice_odds(pool, "coarse", "fine") == -told
    assert lattice_odds(Pool(pool.ids, keys, values, ("BF16", "BF16")), "fine", "coarse") == 0
    alike = Pool(pool.ids, keys, values, ("BF16", "BF16"))
    step = StepOdds(pool, {}).log_odds("fine", "coarse")
    assert step > StepOdds(alike, {}).log_odds("fine", "coarse") + 2


def parallel(rng, shared):
    """Three models of one text and one founder: steps share leading directions and some of all."""
    sides = [(48, 48)] * 16
    founder = [rng.standard_normal(side) for side in sides]
    text = [rng.standard_normal((48, 2)) @ rng.standard_normal((2, 48)) for _ in sides]
    common = [rng.standard_normal(side) for side in sides]

    def step(size):
        own = [rng.standard_normal(side) for side in sides]
        return [
            f + size * (0.006 * t + 0.01 * (np.sqrt(shared) * c + np.sqrt(1 - shared) * o))
            for f, t, c, o in zip(founder, text, common, own, strict=True)
        ]

    models = {"r": founder, "a": step(1), "b": step(1.1), "c": step(0.9)}
    return pool_of(models)


def pool_of(models):
    n_matrices = len(models["r"])
    keys = tuple(TensorKey("up", layer) for layer in range(n_matrices))
    values = (np.stack([model[n] for model in models.values()]) for n in range(n_matrices))
    return Pool(tuple(models), keys, tuple(value.astype(np.float32) for value in values))


def test_parallel_ways_part_at_the_elder_from_whichever_end_they_are_seen():
    pool = parallel(np.random.default_rng(9), 0.4)
    seen = pool.carried("r", "a").parallel()
    assert (seen.with_child, seen.with_parent, seen.balance) == (2, 0, 1.0)
    back = pool.carried("a", "r").parallel()
    assert (back.with_child, back.with_parent, back.balance) == (0, 2, -1.0)


def test_shares_near_nothing_and_near_all_do_not_tell_who_moved_in_parallel():
    """What a step takes back lies in leading directions, too, and so does what wears off."""
    pool = parallel(np.random.default_rng(9), 0.05)
    assert pool.carried("r", "a").share("b")[0] < 0.15
    assert pool.carried("r", "a").whole_share("b") > 0.4
    assert pool.carried("r", "a").parallel().balance == 0
    assert pool.carried("a", "r").share("b")[0] > 0.85
    assert pool.carried("a", "r").parallel().balance == 0


def test_models_that_share_all_directions_alike_did_not_move_in_parallel():
    """As merges share a parent's change: no more of it in leading directions than elsewhere."""
    rng = np.random.default_rng(2)
    founder, one, two = (rng.standard_normal((6, 48, 48)) * size for size in (1, 0.01, 0.01))
    models = {"r": founder, "one": founder + one, "half": founder + (one + two) / 2}
    pool = pool_of(models)
    assert pool.carried("r", "one").share("half")[0] == pytest.approx(0.5, abs=0.05)
    assert pool.carried("r", "one").parallel().balance == 0


def test_parallel_relatives_are_one_witness_among_others():
    pool = parallel(np.random.default_rng(9), 0.4)
    alone = Pool(pool.ids[:2], pool.keys, tuple(values[:2] for values in pool.values))
    without, with_relatives = (StepOdds(one, {}).log_odds("r", "a") for one in (alone, pool))
    assert with_relatives == pytest.approx(without + 3.5)


def test_a_finding_says_who_moved_in_parallel_and_no_merge_is_asked():
    pool = parallel(np.random.default_rng(9), 0.4)
    for known, asked in (({}, "2 relatives"), ({"b": ("x", "y")}, "one relative")):
        children = [name for name in "abc" if name not in known]
        (found, *_) = resolve_descent(pool, "r", children, {}, known)
        (fact,) = (fact for fact in found.evidence if fact.name == "moved_in_parallel")
        assert fact.value == 1
        assert fact.text == f"{asked} moved along with it from r: parallel ways part at the elder"


def test_relatives_of_both_ends_are_told_of_and_weighed():
    fact = parallel_fact("p", Parallel(3, 1))
    assert fact.value == 0.5
    assert fact.text.startswith(
        "3 relatives moved along with it from p and one relative moved along"
    )


def test_merges_are_not_asked_what_they_moved_along_with():
    pool = parallel(np.random.default_rng(9), 0.4)
    assert StepOdds(pool, {}, {"b"}).parallel("r", "a").with_child == 1
    alone = StepOdds(pool, {}, {"b", "c"})
    assert alone.parallel("r", "a").balance == 0
    assert alone.log_odds("r", "a") == pytest.approx(StepOdds(pool, {}).log_odds("r", "a") - 3.5)
