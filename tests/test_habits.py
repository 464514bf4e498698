"""Steps take back some of what came before them, and a family's habit of it directs a step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.infer.descent import resolve_descent
from lineage.infer.descent_tree import DescentTree
from lineage.infer.geometry import Pool
from lineage.infer.habits import Habit, habit_of
from lineage.infer.rooting import StepOdds
from lineage.weights.roles import TensorKey

N_MATRICES, SIDE = 6, 48
OUTCOMES = (True, False, None)
counts = st.integers(0, 50)
habits = st.builds(Habit, counts, counts, counts)

Weights = np.ndarray


def pool_of(models: dict[str, Weights]) -> Pool:
    keys = tuple(TensorKey("up", layer) for layer in range(N_MATRICES))
    values = np.stack(list(models.values())).astype(np.float32)
    return Pool(tuple(models), keys, tuple(values[:, layer] for layer in range(N_MATRICES)))


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def noise(rng: np.random.Generator, size: float) -> Weights:
    return size * rng.standard_normal((N_MATRICES, SIDE, SIDE))


def trained(
    rng: np.random.Generator, parent: Weights, root: Weights, size: float, back: float
) -> Weights:
    """A step of relative length `size`, with cosine −`back` to the way from the root."""
    way = parent - root
    step = noise(rng, size)
    return parent + step - back * np.linalg.norm(step) / np.linalg.norm(way) * way


@given(habits, st.sampled_from(OUTCOMES), st.sampled_from(OUTCOMES))
def test_a_step_drawn_the_other_way_round_has_the_odds_negated(habit, forwards, backwards):
    odds = habit.log_odds(forwards, backwards)
    assert odds == pytest.approx(-habit.log_odds(backwards, forwards))
    assert (odds == 0) == (habit.log_odds(backwards, forwards) == 0)


def test_no_habit_directs_nothing_and_seven_of_seven_speak_fifteen_to_one():
    assert Habit().log_odds(True, None) == 0
    assert Habit(n_back=7).log_odds(True, False) == pytest.approx(math.log(15))
    assert Habit(n_back=7).log_odds(None, True) == pytest.approx(-math.log(15))
    assert Habit(3, 3, 0).log_odds(True, False) == 0
    assert Habit(n_neither=4, n_back=1).log_odds(None, True) == pytest.approx(math.log(3))


@given(st.lists(st.sampled_from(OUTCOMES)))
def test_a_habit_counts_every_step_once(outcomes):
    habit = habit_of(outcomes)
    assert habit.n_steps == len(outcomes)
    assert (habit.n_back, habit.n_on, habit.n_neither) == tuple(
        sum(one is kind for one in outcomes) for kind in OUTCOMES
    )


@pytest.mark.parametrize(("back", "goes_back"), [(0.2, True), (0.0, None), (-0.2, False)])
def test_a_step_goes_back_where_it_leads_against_the_way_before_it(rng, back, goes_back):
    root = noise(rng, 1.0)
    parent = root + noise(rng, 0.1)
    child = trained(rng, parent, root, 0.01, back)
    assert pool_of({"r": root, "p": parent, "c": child}).carried("r", "p").goes_back("c") is (
        goes_back
    )


def test_where_a_step_leads_is_unclear_if_matrices_disagree(rng):
    root = noise(rng, 1.0)
    parent = root + noise(rng, 0.1)
    signs = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -0.9])[:, None, None]
    child = parent + 0.1 * signs * (parent - root)
    assert pool_of({"r": root, "p": parent, "c": child}).carried("r", "p").goes_back("c") is None


def test_the_way_on_and_its_length_are_those_of_the_plain_vectors(rng):
    models = {name: noise(rng, size) for name, size in (("r", 1.0), ("x", 0.4), ("c", 0.7))}
    carried = pool_of(models).carried("r", "x")
    way, step = models["x"] - models["r"], models["c"] - models["x"]
    size = np.linalg.norm(way) * np.linalg.norm(step)
    assert carried.turning("c") == pytest.approx(float((way * step).sum()) / size, abs=1e-5)
    length = np.linalg.norm(models["c"] - models["r"]) / np.linalg.norm(way)
    assert carried.times_as_long("c") == pytest.approx(length, rel=1e-5)


def test_nothing_turns_from_a_model_that_equals_the_root_or_the_child(rng):
    root, other = noise(rng, 1.0), noise(rng, 1.0)
    carried = pool_of({"r": root, "x": root, "c": other}).carried("r", "x")
    assert (carried.turning("c"), carried.times_as_long("c")) == (0.0, 0.0)
    same = pool_of({"r": root, "x": other, "c": other}).carried("r", "x")
    assert (same.turning("c"), same.times_as_long("c")) == pytest.approx((0.0, 1.0), abs=1e-6)


def text(rng: np.random.Generator, size: float) -> Weights:
    """A change in few directions, as training on one text makes."""
    return size * (
        rng.standard_normal((N_MATRICES, SIDE, 2)) @ rng.standard_normal((N_MATRICES, 2, SIDE))
    )


def family(rng: np.random.Generator, n_chains: int, *, back: float = 0.5) -> dict[str, Weights]:
    """Chains of two steps below one root, and a small step after a step thirty times as long.

    The second step of a chain takes back a share of what the first did for its text.
    """
    root = noise(rng, 1.0)
    models = {"r": root}
    for chain in range(n_chains):
        learned = text(rng, 0.01)
        models[f"a{chain}"] = root + noise(rng, 0.01) + learned
        models[f"b{chain}"] = models[f"a{chain}"] + noise(rng, 0.01) - back * learned
    learned = text(rng, 0.3)
    models["long"] = root + noise(rng, 0.3) + learned
    models["late"] = models["long"] + noise(rng, 0.01) - 0.01 * learned
    return models


def placed(models: dict[str, Weights]):
    children = [name for name in models if name != "r"]
    return {one.child: one for one in resolve_descent(pool_of(models), "r", children, {}, {})}


def test_a_small_step_after_a_long_one_is_directed_by_what_its_family_takes_back(rng):
    found = placed(family(rng, 7))
    assert (found["late"].parents[0][0], found["late"].ties) == ("long", ())
    assert "late" not in (found["long"].parents[0][0], *found["long"].ties)
    (fact,) = (fact for fact in found["late"].evidence if fact.name == "goes_back")
    assert fact.value == pytest.approx(math.log(15))
    assert "of 7 steps in this family whose direction is known 7 went back" in fact.text


def test_a_child_that_lies_nearer_to_the_root_than_its_parent_is_turned_round(rng):
    models = family(rng, 7)
    models["late"] = models["late"] - 0.01 * (models["long"] - models["r"])
    own = pool_of(models).instrumented("r").own
    assert own[list(models).index("late")] < own[list(models).index("long")]
    found = placed(models)
    assert found["late"].parents[0][0] == "long"
    assert "late" not in (found["long"].parents[0][0], *found["long"].ties)


def test_without_a_habit_the_two_ends_of_such_a_step_tie(rng):
    found = placed(family(rng, 0))
    assert {"long", "late"} <= set(found["late"].ties) | set(found["long"].ties)
    assert not any(fact.name == "goes_back" for one in found.values() for fact in one.evidence)


def test_a_family_whose_steps_go_neither_way_directs_nothing_by_it(rng):
    found = placed(family(rng, 7, back=0.0))
    assert {"long", "late"} <= set(found["late"].ties) | set(found["long"].ties)


def tree_of(rng, parents: dict[str, str]) -> DescentTree:
    models = {name: noise(rng, 1.0) for name in ("r", *parents)}
    return DescentTree(StepOdds(pool_of(models), {}), "r", {}, parents=dict(parents))


def test_a_habit_is_learned_from_told_steps_below_the_first_the_way_they_are_told(rng, monkeypatch):
    tree = tree_of(rng, {"a": "r", "b": "a", "c": "b", "d": "b"})
    odds = {("a", "b"): 3.0, ("b", "c"): -3.0, ("b", "d"): 2.0}
    went = {("a", "b"): True, ("c", "b"): False}
    monkeypatch.setattr(tree, "_step_log_odds", lambda *step: odds[step])
    monkeypatch.setattr(tree, "_goes_back", lambda *step: went[step])
    tree.learn_habit(["a", "b", "c", "d"])
    assert tree.habit == Habit(n_back=1, n_on=1)


def test_who_is_turned_round_is_asked_for_its_parent_anew(rng, monkeypatch):
    tree = tree_of(rng, {"a": "r", "b": "a", "c": "a", "x": "r"})
    tree.ties = {"a": ("x",), "b": (), "c": (), "x": ()}
    placed_anew = []

    def place(child):
        placed_anew.append(child)
        tree.parents[child] = "x"

    monkeypatch.setattr(tree, "_step_log_odds", lambda *_: -3.0)
    monkeypatch.setattr(tree, "place", place)
    tree.reconsider("b")
    assert placed_anew == ["b", "c"]
    assert tree.parents == {"a": "b", "b": "x", "c": "x", "x": "r"}
    assert tree.ties["a"] == ()
