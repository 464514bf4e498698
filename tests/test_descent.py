"""What is inherited and what is only parallel; which way trees point; merges without a recipe."""

from __future__ import annotations

import sys

import networkx as nx
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lineage.infer.carrying import Carrying
from lineage.infer.descent import resolve_descent, resolve_family
from lineage.infer.descent_tree import DescentTree
from lineage.infer.geometry import Pool, make_pool
from lineage.infer.inheritance import PARALLEL
from lineage.infer.rooting import StepOdds
from lineage.infer.trained_merges import trained_merge
from lineage.weights.roles import TensorKey
from simulated import Herd, fingerprint, stored

N_MATRICES, SIDE = 6, 48


def pool_of(models: dict[str, list[np.ndarray]], role: str = "up") -> Pool:
    keys = tuple(TensorKey(role, layer) for layer in range(N_MATRICES))
    values = tuple(
        np.stack([model[layer] for model in models.values()]).astype(np.float32)
        for layer in range(N_MATRICES)
    )
    return Pool(tuple(models), keys, values)


def noise(rng: np.random.Generator, size: float) -> list[np.ndarray]:
    return [size * rng.standard_normal((SIDE, SIDE)) for _ in range(N_MATRICES)]


def leading(rng: np.random.Generator, size: float) -> list[np.ndarray]:
    return [
        size * rng.standard_normal((SIDE, 2)) @ rng.standard_normal((2, SIDE))
        for _ in range(N_MATRICES)
    ]


def add(*terms: list[np.ndarray]) -> list[np.ndarray]:
    return [sum(layers) for layers in zip(*terms, strict=True)]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_a_descendant_carries_a_change_whole_and_whitened_alike(rng):
    base = noise(rng, 1.0)
    parent = add(base, noise(rng, 0.01), leading(rng, 0.01))
    child = add(parent, noise(rng, 0.01), leading(rng, 0.01))
    carried = pool_of({"r": base, "p": parent, "c": child}).carried("r", "p")
    share, error = carried.share("c")
    assert error < 0.2
    assert share == pytest.approx(1, abs=3 * error)
    assert carried.whole_share("c") < 1.2


def test_parallel_training_shares_more_of_the_whole_than_of_what_is_left_without_leading_directions(
    rng,
):
    base, text, common = noise(rng, 1.0), leading(rng, 0.01), noise(rng, 0.01)
    one = add(base, text, common, noise(rng, 0.002))
    two = add(base, text, text, common, noise(rng, 0.002))
    carried = pool_of({"r": base, "one": one, "two": two}).carried("r", "one")
    assert 0.8 < carried.share("two")[0] < 1.15
    assert carried.whole_share("two") > 1.2 * carried.share("two")[0]


def test_the_error_of_a_share_is_that_of_repeated_draws(rng):
    shares, errors = [], []
    for _ in range(40):
        base = noise(rng, 1.0)
        parent = add(base, noise(rng, 0.01))
        child = add(parent, noise(rng, 0.05))
        share, error = pool_of({"r": base, "p": parent, "c": child}).carried("r", "p").share("c")
        shares.append(share)
        errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(shares), rel=0.4)


def test_equal_models_carry_nothing_and_say_so(rng):
    base = noise(rng, 1.0)
    carried = pool_of({"r": base, "p": base, "c": base}).carried("r", "p")
    assert np.isnan(carried.share("c")[0])
    assert np.isnan(carried.whole_share("c"))


@given(st.integers(0, 2**32 - 1), st.floats(1e-4, 1.0))
def test_growth_changes_its_sign_when_the_models_are_swapped(seed, size):
    rng = np.random.default_rng(seed)
    one = noise(rng, 1.0)
    pool = pool_of({"one": one, "two": add(one, noise(rng, size))})
    assert -1 <= pool.growth("two", "one") <= 1
    assert pool.growth("two", "one") == pytest.approx(-pool.growth("one", "two"))
    assert pool.growth("one", "one") == 0


def test_weights_that_grew_along_themselves_point_from_the_smaller_to_the_larger(rng):
    one = noise(rng, 1.0)
    two = add(one, [0.005 * layer for layer in one], noise(rng, 0.005))
    assert pool_of({"one": one, "two": two}).growth("two", "one") > 0.8


def test_growth_is_asked_of_feed_forward_matrices_where_there_are_any(rng):
    one = noise(rng, 1.0)
    grown = add(one, [0.01 * layer for layer in one])
    shrunk = add(one, [-0.01 * layer for layer in one])
    up, values = (pool_of({"one": one, "two": two}) for two in (grown, shrunk))
    both = Pool(
        up.ids,
        (*up.keys, *(TensorKey("v", key.layer) for key in up.keys)),
        (*up.values, *values.values),
    )
    assert both.growth("two", "one") == up.growth("two", "one")
    attention = pool_of({"one": one, "two": shrunk}, role="v")
    assert attention.growth("two", "one") < -0.8


def test_the_feed_forward_arrow_passes_over_attention_and_errs_as_it_scatters(rng):
    one = noise(rng, 1.0)
    step = noise(rng, 0.01)
    up = pool_of({"one": one, "two": add(one, step)})
    shrunk = pool_of({"one": one, "two": add(one, [-0.5 * layer for layer in one])}, role="v")
    both = Pool(up.ids, (*up.keys, *shrunk.keys), (*up.values, *shrunk.values))
    arrow, error = both.feed_forward_arrow("two", "one")
    along = sum(float((d * w).sum()) for d, w in zip(step, one, strict=True))
    assert arrow == pytest.approx(along / sum(float((d**2).sum()) for d in step), rel=1e-3)
    assert both.feed_forward_arrow("one", "two")[0] == pytest.approx(-1 - arrow, rel=1e-3)
    drawn = [
        pool_of({"one": one, "two": add(one, noise(rng, 0.01))}).feed_forward_arrow("two", "one")
        for _ in range(60)
    ]
    assert np.mean([e for _, e in drawn]) == pytest.approx(np.std([a for a, _ in drawn]), rel=0.4)
    assert error > 0
    assert np.isnan(both.feed_forward_arrow("one", "one")).all()


def test_an_embedding_that_left_the_origin_points_from_the_nearer_to_the_farther(rng):
    one, step = noise(rng, 1.0), noise(rng, 0.02)
    two = add(one, step, [0.01 * layer for layer in one])
    pool = pool_of({"one": one, "two": two}, role="embed")
    grown = pool.embedding_growth("two", "one")
    change = np.stack(two).astype(np.float32) - np.stack(one).astype(np.float32)
    middle = np.stack(two).astype(np.float32) + np.stack(one).astype(np.float32)
    cosine = (change * middle).sum() / np.linalg.norm(change) / np.linalg.norm(middle)
    assert grown == pytest.approx(float(cosine), rel=1e-3)
    assert grown > 0.3
    assert pool.embedding_growth("one", "two") == pytest.approx(-grown)
    assert pool.embedding_growth("one", "one") == 0
    assert pool_of({"one": one, "two": two}, role="up").embedding_growth("two", "one") == 0
    for odd in (np.inf, np.nan):
        broken = pool_of({"one": one, "two": [np.full((SIDE, SIDE), odd)] * N_MATRICES}, "embed")
        with np.errstate(invalid="ignore"):
            assert broken.embedding_growth("two", "one") == 0
            assert broken.embedding_growth("one", "two") == 0


@pytest.mark.parametrize(
    ("dtypes", "finer"),
    [
        (("F32", "BF16"), "one"), (("BF16", "F16"), "two"), (("F16", "F32"), "two"),
        (("BF16", "BF16"), None), (("Q8_0", "BF16"), None), ((), None),
    ],
)  # fmt: skip
def test_the_finer_of_two_models_tells_more_values_apart(rng, dtypes, finer):
    pool = pool_of({"one": noise(rng, 1.0), "two": noise(rng, 1.0)})
    assert Pool(pool.ids, pool.keys, pool.values, dtypes).finer("one", "two") == finer


def parents_in(pool: Pool, root: str, known: dict[str, tuple[str, ...]] | None = None):
    children = [name for name in pool.ids if name != root and name not in (known or {})]
    found = resolve_descent(pool, root, children, {}, known or {})
    return {one.child: {name for name, *_ in one.parents} for one in found}


def test_a_root_that_went_the_childs_way_does_not_keep_it_from_its_parent(rng):
    """Seen from a sibling on the same text, the common parent's share falls short of .8."""
    base, text, common = noise(rng, 1.0), leading(rng, 0.004), noise(rng, 0.004)
    sibling = add(base, noise(rng, 0.01), common, text)
    child = add(base, noise(rng, 0.012), *[add(common, text)] * 2)
    pool = pool_of({"sibling": sibling, "base": base, "child": child})
    share, error = pool.carried("sibling", "base").share("child")
    assert 0.5 < share < 0.8 - 2.5 * error
    assert parents_in(pool, "sibling")["child"] == {"base"}


def test_a_child_nearer_to_the_root_than_its_parent_is_no_sibling_of_it(rng):
    """It took back some of what was done before the two: it is placed before its parent is."""
    base = noise(rng, 1.0)
    early = noise(rng, 0.03)
    old, back = add(base, early), [-0.05 * one for one in early]
    parent = add(old, noise(rng, 0.008))
    child = add(parent, back, noise(rng, 0.008))
    pool = pool_of({"r": base, "old": old, "child": child, "parent": parent})
    own = pool.instrumented("r").own
    assert own[pool.ids.index("old")] < own[pool.ids.index("child")]
    assert own[pool.ids.index("child")] < own[pool.ids.index("parent")]
    found = parents_in(pool, "r")
    assert (found["child"], found["parent"]) == ({"parent"}, {"old"})


@pytest.mark.parametrize(
    ("carried", "known", "moves", "placed", "told"),
    [
        ({("a", "b"): True}, {}, True, ["a"], {"a"}),
        ({("a", "b"): True}, {}, False, ["a"], set()),
        ({("a", "b"): True, ("b", "a"): None}, {}, True, [], set()),
        ({("a", "b"): True}, {"b": ("r",)}, True, [], set()),
        ({("a", "b"): None}, {}, True, [], set()),
        ({("a", "x"): True}, {}, True, [], set()),
    ],
)
def test_only_what_surely_carries_a_sibling_one_way_is_placed_again(
    rng, monkeypatch, carried, known, moves, placed, told
):
    """Of siblings `a` and `b`; `x` stands below `b`."""
    pool = pool_of({name: noise(rng, 1.0) for name in "rabx"})
    tree = DescentTree(StepOdds(pool, {}), "r", known)
    tree.parents = {"a": "r", "b": "r", "x": "b"}
    asked = []

    def place(tree, child):
        asked.append(child)
        tree.parents[child] = "b" if moves else tree.parents[child]

    monkeypatch.setattr(DescentTree, "place", place)
    monkeypatch.setattr(
        Carrying, "descends", lambda _, child, other, at: carried.get((child, other), False)
    )
    tree.place_below_siblings(["a", "b", "x"])
    assert (asked, tree.told_by_shares) == (placed, told)


def test_an_ancestor_of_the_parents_of_a_merge_is_not_made_of_the_merge(rng):
    base = noise(rng, 1.0)
    old = add(base, noise(rng, 0.03))
    first, second = (add(old, noise(rng, 0.01)) for _ in range(2))
    third = add(base, noise(rng, 0.01))
    merge = [0.45 * a + 0.45 * b + 0.1 * c for a, b, c in zip(first, second, third, strict=True)]
    models = {"r": base, "old": old, "1": first, "2": second, "3": third, "m": merge}
    found = parents_in(pool_of(models), "r", {"m": ("1", "2", "3")})
    assert found["old"] == {"r"}
    assert found["1"] == found["2"] == {"old"}


def test_what_was_made_of_a_model_and_its_child_stands_below_them(rng, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "N_MATRICES", 30)
    base = noise(rng, 1.0)
    parent, other = add(base, noise(rng, 0.01)), add(base, noise(rng, 0.01))
    child = add(parent, noise(rng, 0.02))
    merge = [0.65 * p + 0.26 * c + 0.09 * o for p, c, o in zip(parent, child, other, strict=True)]
    # So much of its own that the child seems to carry all that it and the merge did since the
    # parent, by chance: to be made of the merge, the parent would have to come from it, too.
    tuned = add(merge, noise(rng, 0.008))
    models = {"r": base, "p": parent, "o": other, "c": child, "m": merge, "t": tuned}
    pool = pool_of(models)
    assert Carrying(StepOdds(pool, {}, frozenset({"m"}))).descends("c", "t", "p")
    found = parents_in(pool, "r", {"m": ("p", "c", "o")})
    assert found["t"] == {"m"}
    assert found["c"] == {"p"}


def test_what_was_made_of_equal_halves_stands_below_them(rng):
    base = noise(rng, 1.0)
    first, second = (add(base, noise(rng, 0.02)) for _ in range(2))
    merge = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    models = {"r": base, "1": first, "2": second, "m": merge, "c": add(merge, noise(rng, 0.005))}
    pool = pool_of(models)
    assert pool.carried("r", "c").share("1")[0] == pytest.approx(1, abs=0.15)
    assert parents_in(pool, "r", {"m": ("1", "2")})["c"] == {"m"}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_was_made_of_a_merge_may_hide_its_smaller_part_in_noise(seed):
    rng = np.random.default_rng(seed)
    base = noise(rng, 1.0)
    far, near = add(base, noise(rng, 0.01)), add(base, noise(rng, 0.003))
    merge = [(a + b) / 2 for a, b in zip(far, near, strict=True)]
    models = {"far": far, "near": near, "m": merge, "c": add(merge, noise(rng, 0.004))}
    pool = pool_of({"r": base} | models)
    beta, error = pool.carried("r", "near").share("c")
    assert beta < 4 * error
    assert parents_in(pool, "r", {"m": ("far", "near")})["c"] == {"m"}


def family(models: dict[str, dict[str, np.ndarray]]) -> Pool:
    return make_pool([fingerprint(name, weights) for name, weights in models.items()])


@pytest.fixture(scope="module")
def herd():
    h = Herd(3)
    base = stored(h.founder())
    one = h.train(base, 0.01, text=1)
    two = h.train(base, 0.015, text=1)
    three = h.train(base, 0.01, text=2)
    below = h.train(one, 0.01, text=3)
    return h, {"r": base, "one": one, "two": two, "three": three, "below": below}


def half(a, b):
    return {key: (a[key] + b[key]) / 2 for key in a}


def test_the_sum_of_two_relatives_is_explained_by_them_and_a_sibling_is_not(herd):
    _, models = herd
    pool = family(models | {"sum": half(models["one"], models["three"])})
    seen = pool.instrumented("r")
    shares, _ = seen.shares("sum", ("one", "three"))
    assert seen.explained("sum", ("one", "three"), shares) > 0.65
    shares, _ = seen.shares("two", ("one", "three"))
    assert seen.explained("two", ("one", "three"), shares) < 0.3


def test_a_model_is_no_child_of_what_was_merged_from_its_own_child(herd):
    _, models = herd
    merged = half(models["below"], models["three"])
    pool = family(models | {"merged": merged})
    free = [name for name in models]
    found = resolve_family(pool, free, {}, {"merged": ("below", "three")})
    parents = {one.child: [name for name, *_ in one.parents] for one in found.descents}
    assert "merged" not in {name for names in parents.values() for name in names}


def trained_merges(seed, first, second):
    """Parents by child where a merge that was trained on went into another one that was, too."""
    rng = np.random.default_rng(seed)
    base = noise(rng, 1.0)
    one, two, three = (add(base, noise(rng, 0.01)) for _ in range(3))
    merge = add(scaled(0.5, one), scaled(0.5, two), noise(rng, first))
    later = add(scaled(0.5, merge), scaled(0.5, three), noise(rng, second))
    models = {"one": one, "two": two, "three": three, "merge": merge, "later": later}
    pool = pool_of({"r": base} | models)
    found = resolve_descent(pool, "r", list(models), {}, {})
    return {descent.child: {name for name, *_ in descent.parents} for descent in found}


def scaled(by, layers):
    return [by * layer for layer in layers]


def test_of_two_merges_that_seem_made_of_each_other_the_better_explained_is_the_child():
    parents = trained_merges(2, 0.004, 0.002)  # fitted alone, "merge" holds a part of "later"
    assert parents["later"] == {"merge", "three"}
    assert parents["merge"] == {"one", "two"}


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1), st.floats(0.003, 0.006), st.floats(0.001, 0.004))
@example(0, 0.006, 0.004)
@example(1, 0.006, 0.004)
def test_merges_without_a_recipe_close_no_circle(seed, first, second):
    parents = trained_merges(seed, first, second)
    steps = nx.DiGraph((name, child) for child, names in parents.items() for name in names)
    assert nx.is_directed_acyclic_graph(steps)


def test_what_carries_one_relative_whole_is_its_child_whatever_else_it_carries(rng):
    base, own, other = noise(rng, 1.0), noise(rng, 0.01), noise(rng, 0.01)
    one, two = add(base, own), add(base, other)
    child = add(one, scaled(0.5, other), noise(rng, 0.001))
    pool = pool_of({"r": base, "one": one, "two": two, "child": child})
    found = {each.child: each for each in resolve_descent(pool, "r", pool.ids[1:], {}, {})}
    assert found["child"].names == {"one"}


class Fitted:
    """What a child carries of two relatives, jointly fitted: shares, and how much they explain."""

    ids = ("child", "one", "two")
    own = np.ones(3)
    products = np.ones((1, 3, 3))

    def __init__(self, shares, explained):
        self.answer = np.array(shares), explained

    def shares(self, child, movers):
        return self.answer[0], np.full(2, 0.01)

    def explained(self, child, movers, shares):
        return self.answer[1]


@pytest.mark.parametrize(
    ("shares", "explained", "is_merge"),
    [
        ((0.5, 0.4), 0.9, True),
        ((0.5, 0.4), 0.5, False),  # most of the change is the child's own
        ((0.5, 0.4), 1.3, False),  # more than all there is: errors that cancel
        ((0.9, 0.9), 1.0, True),
        ((1.3, 1.2), 1.0, False),  # more than two models' worth
    ],
)
def test_joint_shares_are_believed_where_they_explain_most_and_no_more_than_there_is(
    shares, explained, is_merge
):
    found = trained_merge(Fitted(shares, explained), "child", ("one", "two"))
    assert (found is not None) == is_merge


@pytest.mark.parametrize("noise_after", [0.0015, 0.002, 0.003])
def test_a_share_outside_its_bounds_by_no_more_than_its_error_is_a_tie(rng, noise_after):
    base = noise(rng, 1.0)
    parent = add(base, noise(rng, 0.001))
    children = {f"c{i:02}": add(parent, noise(rng, noise_after)) for i in range(40)}
    pool = pool_of({"r": base, "p": parent, **children})
    found = {one.child: one for one in resolve_descent(pool, "r", pool.ids[1:], {}, {})}
    carried = pool.carried("r", "p")
    untied = [
        name
        for name in children
        if found[name].parents[0][0] != "p" and "p" not in found[name].ties
    ]
    for name in untied:  # what looks like parallel training is refused all the same
        assert carried.whole_share(name) > PARALLEL * carried.share(name)[0]
    assert len(untied) <= 2
