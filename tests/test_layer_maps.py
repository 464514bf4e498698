"""Layer maps: pruned, stacked and trained since; units that were kept; what a stack is made of."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.infer.layers import (
    align,
    difference,
    kept_units,
    layer_digests,
    layer_origin,
    repeats_itself,
    similar_layers,
)
from lineage.infer.settle.descent import shape_groups
from lineage.infer.settle.family import OpenFamily
from lineage.infer.settle.layers import settle_layers
from lineage.infer.settle.trained_layers import settle_trained_layers
from lineage.model import Finding, Grade, Kind, ParentShare
from lineage.weights.encodings import round_to
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.probe import SCHEME
from lineage.weights.roles import TensorKey

F32 = np.float32
D, FFN, DEPTH = 32, 48, 6


def founder(seed=0, depth=DEPTH):
    """Layers by number, and what stands outside them."""
    rng = np.random.default_rng(seed)
    layers = [
        {"q": rng.standard_normal((D, D)), "o": rng.standard_normal((D, D)),
         "up": rng.standard_normal((FFN, D)), "gate": rng.standard_normal((FFN, D)),
         "down": rng.standard_normal((D, FFN)), "ffn_norm": 1 + 0.1 * rng.standard_normal(D)}
        for _ in range(depth)
    ]  # fmt: skip
    return layers, {"embed": rng.standard_normal((20, D))}


def moved(weights, size, seed):
    rng = np.random.default_rng(seed)
    layers, outside = weights

    def step(values):
        return values + size * rng.standard_normal(values.shape) * (values.ndim > 1)

    return [{r: step(v) for r, v in layer.items()} for layer in layers], {
        r: step(v) for r, v in outside.items()
    }


def mean_of(one, other):
    """Half of each."""
    layers = [
        {role: (values + b[role]) / 2 for role, values in a.items()}
        for a, b in zip(one[0], other[0], strict=True)
    ]
    return layers, {role: (values + other[1][role]) / 2 for role, values in one[1].items()}


def stacked(*pieces):
    """Layers picked from several models; the first one's embedding."""
    layers = [weights[0][n] for weights, picked in pieces for n in picked]
    return layers, pieces[0][0][1]


def model(name, weights, dtype="BF16"):
    layers, outside = weights
    named = {TensorKey(role): values for role, values in outside.items()}
    named |= {TensorKey(r, n): v for n, layer in enumerate(layers) for r, v in layer.items()}
    return model_of(name, named, dtype)


def model_of(name, named, dtype="BF16"):
    samples = {}
    for key, values in named.items():
        words = round_to("BF16", values.astype(F32))
        rows = tuple(range(len(values))) if values.ndim == 2 else (0,)
        is_half = dtype == "F16"
        data = (
            words.astype("<f2") if is_half else (words.view("<u4") >> 16).astype("<u2")
        ).tobytes()
        samples[key] = Sample(str(key), dtype, values.shape, rows, data)
    return Fingerprint(name, "0" * 40, SCHEME, "safetensors", samples)


def settled(weights, findings=()):
    members = {name: model(name, its) for name, its in weights.items()}
    family = OpenFamily(members, {}, {}, {})
    for finding in findings:
        family.settle(finding)
    settle_layers(family)
    groups = shape_groups(family)
    for group in groups:
        settle_trained_layers(family, group, groups)
    return family.findings


def places(finding):
    return [(source.parent, source.parent_layer) for source in finding.layer_map]


BASE = founder()
OTHER = moved(BASE, 0.02, 1)


# -- dynamic programming ---------------------------------------------------------------------------


def naive(fits):
    """Every way tried, cheapest first; of equal ones the smaller places."""

    def step(here, there):
        if here[0] != there[0] or there[1] < here[1]:
            return 0.03
        return {0: 0.02, 1: 0.0}.get(there[1] - here[1], 0.01)

    def cost(path):
        own = sum(fit[place] for fit, place in zip(fits, path, strict=True))
        return own + sum(step(a, b) for a, b in pairwise(path))

    return min((cost(path) for path in product(*fits)), default=None), cost


PLACES = st.tuples(st.integers(0, 1), st.integers(0, 4))


@settings(max_examples=60)
@given(st.lists(st.dictionaries(PLACES, st.floats(0, 0.1), max_size=4), max_size=5))
def test_the_alignment_is_the_cheapest_of_all(fits):
    path = align(fits)
    if not fits or not all(fits):
        assert path is None
        return
    least, cost = naive(fits)
    assert cost(path) == pytest.approx(least)


# -- word for word ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [(0, 1, 2, 4, 5), (0, 2, 4), (5,), (1, 2)])
def test_a_pruned_model_keeps_layers_of_its_parent(kept):
    found = settled({"b/base": BASE, "a/cut": stacked((BASE, kept))})["a/cut"]
    assert (found.kind, found.grade) == (Kind.PRUNED, Grade.PROVED)
    assert places(found) == [("b/base", n) for n in kept]


@pytest.mark.parametrize(
    "picked", [(0, 1, 2, 3, 2, 3, 4, 5), (0, 0, 1, 1, 2, 2), (0, 1, 2, 0, 1, 2, 3, 4, 5)]
)
def test_a_stack_repeats_and_jumps_back(picked):
    found = settled({"b/base": BASE, "a/stack": stacked((BASE, picked))})["a/stack"]
    assert (found.kind, found.grade) == (Kind.PASSTHROUGH, Grade.PROVED)
    assert places(found) == [("b/base", n) for n in picked]
    assert set(settled({"b/base": BASE, "a/stack": stacked((BASE, picked))})) == {"a/stack"}


def test_a_stack_of_two_names_the_fewest_parents_though_relatives_share_their_layers():
    third = (OTHER[0][:2] + BASE[0][2:], BASE[1])  # shares layers with both
    weights = {
        "c/base": BASE,
        "b/other": OTHER,
        "a/third": third,
        "a/stack": stacked((BASE, (0, 1, 2, 3)), (OTHER, (2, 3, 4, 5))),
    }
    found = settled(weights)["a/stack"]
    assert (found.kind, found.grade) == (Kind.PASSTHROUGH, Grade.PROVED)
    assert places(found) == [
        *(("c/base", n) for n in range(4)), *(("b/other", n) for n in range(2, 6)),
    ]  # fmt: skip


def test_of_models_with_equal_layers_the_one_with_the_childs_tokens_is_the_parent():
    renumbered = (BASE[0], {"embed": BASE[1]["embed"][::-1]})
    weights = {"a/tokens": renumbered, "b/base": BASE, "c/cut": stacked((BASE, (0, 2, 5)))}
    assert {p for p, _ in places(settled(weights)["c/cut"])} == {"b/base"}


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_of_models_with_equal_layers_an_original_comes_before_its_cast(dtype):
    first, second = moved(BASE, 0.02, 11), moved(BASE, 0.02, 12)
    for _, outside in (first, second):
        outside["final_norm"] = np.ones(D)  # which tells nobody from anybody
    members = {"b/first": model("b/first", first), "c/second": model("c/second", second)}
    members["a/cast"] = model("a/cast", second, dtype)
    stack = stacked((first, (0, 1, 2, 3)), (second, (2, 3, 4, 5)))
    members["d/stack"] = model("d/stack", stack, dtype)
    family = OpenFamily(members, {}, {}, {})
    family.settle(Finding("a/cast", Kind.CAST, Grade.PROVED, (ParentShare("c/second", 1.0),)))
    settle_layers(family)
    assert {share.parent for share in family.findings["d/stack"].parents} == {
        "b/first", "c/second",
    }  # fmt: skip


def test_an_original_is_not_made_of_the_models_that_were_pruned_from_it():
    halves = {"a/even": stacked((BASE, (0, 2, 4))), "b/odd": stacked((BASE, (1, 3, 5)))}
    found = settled({"c/base": BASE, **halves})
    assert {name: places(one)[0][0] for name, one in found.items()} == dict.fromkeys(
        halves, "c/base"
    )


def test_a_model_is_not_cut_from_a_stack_that_holds_it_whole():
    stack = stacked((BASE, range(DEPTH)), (OTHER, range(DEPTH)))
    found = settled({"b/base": BASE, "b/other": OTHER, "c/stack": stack})
    assert set(found) == {"c/stack"}


def test_a_stack_in_short_runs_is_no_model_that_its_parents_were_cut_from():
    first, second = founder(1, depth=4), founder(2, depth=4)
    picked = [(first, 0), (first, 1), (second, 1), (first, 2), (second, 2), (first, 3)]
    made = [weights[0][n] for weights, n in picked], first[1]
    found = settled({"a/one": first, "b/two": second, "z/stack": made})
    assert {share.parent for share in found["z/stack"].parents} == {"a/one", "b/two"}
    assert found["z/stack"].kind is Kind.PASSTHROUGH
    assert "a/one" not in found


def test_more_than_four_parents_or_a_layer_of_nobody_is_no_map():
    models = {f"m/{n}": moved(BASE, 0.02, 10 + n) for n in range(5)}
    digests = {name: layer_digests(model(name, its)) for name, its in models.items()}
    pieces = [(its, (n,)) for n, its in enumerate(models.values())]
    digests["s"] = layer_digests(model("s", stacked(*pieces)))
    assert layer_origin("s", digests, list(models)) is None
    digests["t"] = layer_digests(model("t", stacked(*pieces[:4])))
    assert len(layer_origin("t", digests, list(models)).parents) == 4
    digests["u"] = ("nobody", *digests["t"])
    assert layer_origin("u", digests, list(models)) is None
    assert layer_origin("m/0", digests, ["m/0"]) is None


def test_a_crowd_of_relatives_with_a_shared_layer_stays_cheap():
    digests = {f"m/{n}": ("shared", f"own{n}") for n in range(300)}
    digests["child"] = ("shared", "own7", "own8", "nobody")
    assert layer_origin("child", digests, [n for n in digests if n != "child"]) is None
    digests["child"] = ("own7", "shared", "own8")
    found = layer_origin("child", digests, [n for n in digests if n != "child"])
    assert set(found.parents) == {"m/7", "m/8"}


# -- trained since ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0.01, 0.1, 0.5])
def test_layers_that_were_trained_since_are_placed(size):
    for picked in ((0, 2, 4), (0, 1, 2, 3, 2, 3, 4, 5)):
        child = model("a/c", moved(stacked((BASE, picked)), size, 3))
        found = similar_layers(child, model("b/base", BASE))
        assert [source.parent_layer for source in found.layer_map] == list(picked)
        assert found.repeats is (len(picked) > DEPTH)
        assert found.distance == pytest.approx(size**2, rel=0.1)


def test_a_trained_model_of_the_same_layers_and_a_stranger_are_not_rearranged():
    assert similar_layers(model("a", moved(BASE, 0.1, 4)), model("b", BASE)) is None
    assert similar_layers(model("a", founder(9, 4)), model("b", BASE)) is None
    empty = Fingerprint("e", "0" * 40, SCHEME, "safetensors", {})
    assert similar_layers(empty, model("b", BASE)) is None
    assert difference(empty, model("b", BASE)) == (float("inf"), 0.0)


def test_disjoint_layers_of_an_unpublished_model_lead_to_its_published_ancestor():
    unseen = moved(BASE, 0.01, 5)
    weights = {
        "b/base": BASE,
        "a/sibling": moved(BASE, 0.01, 6),
        "c/even": stacked((unseen, (0, 2, 4))),
        "c/odd": stacked((unseen, (1, 3, 5))),
    }
    found = settled(weights)
    for name, kept in (("c/even", (0, 2, 4)), ("c/odd", (1, 3, 5))):
        assert (found[name].kind, found[name].grade) == (Kind.PRUNED, Grade.INFERRED)
        assert places(found[name]) == [("b/base", n) for n in kept]


def pulled(weights, size):
    """One rank-one step in every matrix, the same whoever takes it, as training on one text is."""
    rng = np.random.default_rng(77)
    layers, outside = weights

    def step(values):
        if values.ndim < 2:
            return values
        left, right = (rng.standard_normal(n) for n in values.shape)
        return values + size * np.outer(left, right)

    return [{r: step(v) for r, v in layer.items()} for layer in layers], outside


NEAR = moved(pulled(BASE, 0.03), 0.01, 3)
"""It went the way that others of the founder's children went, and little besides."""
SETTLED = (
    Finding("a/founder", Kind.FOUNDER, Grade.INFERRED),
    Finding("b/near", Kind.FINETUNE, Grade.INFERRED, (ParentShare("a/founder", 1.0),)),
    Finding("c/far", Kind.FINETUNE, Grade.INFERRED, (ParentShare("a/founder", 1.0),)),
)


@pytest.mark.parametrize(
    ("start", "parent"), [(pulled(BASE, 0.03), "a/founder"), (NEAR, "b/near"), (OTHER, "c/far")]
)
@pytest.mark.parametrize("kept", [[0, 2, 4], [1, 3, 5]])
def test_a_cut_model_comes_from_what_it_carries(start, parent, kept):
    cut = stacked((moved(start, 0.01, 4), kept))
    weights = {"a/founder": BASE, "b/near": NEAR, "c/far": OTHER, "x/cut": cut}
    found = settled(weights, SETTLED)["x/cut"]
    assert (found.kind, found.grade) == (Kind.PRUNED, Grade.INFERRED)
    assert places(found) == [(parent, n) for n in kept]
    assert [share.parent for share in found.parents] == [parent]
    assert ("inherited_share" in {fact.name for fact in found.evidence}) == (parent != "a/founder")


def test_where_relatives_are_not_settled_a_cut_model_comes_from_the_nearest():
    cut = stacked((moved(pulled(BASE, 0.03), 0.01, 4), [0, 2, 4]))
    weights = {"a/founder": BASE, "b/near": NEAR, "c/far": OTHER, "x/cut": cut}
    away = [difference(model("x", cut), model("b", its), [0, 2, 4])[0] for its in (BASE, NEAR)]
    assert away[1] < away[0]  # which is why the one above must not ask who is nearest
    for findings in ((), SETTLED[:2], [replace(one, parents=()) for one in SETTLED]):
        assert places(settled(weights, findings)["x/cut"]) == [("b/near", n) for n in (0, 2, 4)]


def test_a_cut_model_that_may_come_from_two_is_a_tie_with_the_layer_map_of_the_likelier():
    near = moved(BASE, 0.0001, 3)  # so small a step that nobody can be seen to carry it
    weights = {"a/founder": BASE, "b/near": near, "c/far": OTHER}
    cut = stacked((moved(BASE, 0.05, 4), [0, 2, 4]))
    found = settled({**weights, "x/cut": cut}, SETTLED)["x/cut"]
    assert found.grade is Grade.TIE
    assert set(found.ties) == {"a/founder", "b/near"}
    assert places(found) == [(found.parents[0].parent, n) for n in (0, 2, 4)]


def test_what_was_cut_from_an_unpublished_merge_ties_its_parents():
    far, farther = moved(BASE, 0.02, 21), moved(BASE, 0.02, 22)
    merge = mean_of(far, farther)
    weights = {"a/founder": BASE, "b/near": far, "c/far": farther}
    found = settled({**weights, "x/cut": stacked((merge, [0, 2, 4]))}, SETTLED)["x/cut"]
    assert found.grade is Grade.TIE
    assert set(found.ties) == {"b/near", "c/far"}


def test_a_trained_stack_comes_from_what_it_carries():
    picked = [0, 1, 2, 2, 3, 4, 5]
    stack = moved(stacked((moved(pulled(BASE, 0.03), 0.01, 4), picked)), 0.005, 9)
    weights = {"a/founder": BASE, "b/near": NEAR, "c/far": OTHER, "x/stack": stack}
    found = settled(weights, SETTLED)["x/stack"]
    assert found.kind is Kind.PASSTHROUGH
    assert places(found) == [("a/founder", n) for n in picked]


def test_a_mixture_of_experts_is_not_what_a_dense_model_was_cut_from():
    layers, outside = BASE
    experts = [
        {("up", 0) if role == "up" else (role, -1): values for role, values in layer.items()}
        for layer in layers
    ]
    samples = {TensorKey(role): values for role, values in outside.items()}
    samples |= {
        TensorKey(role, n, expert): values
        for n, layer in enumerate(experts)
        for (role, expert), values in layer.items()
    }
    mixture = model_of("a/mixture", samples)
    cut = model("x/cut", stacked((moved(BASE, 0.01, 4), [0, 2, 4])))
    family = OpenFamily({"a/mixture": mixture, "x/cut": cut}, {}, {}, {})
    groups = shape_groups(family)
    settle_trained_layers(family, ["x/cut"], groups)
    assert not family.findings


def test_what_was_trained_from_a_stack_is_left_to_descent():
    stack = stacked((BASE, (0, 1, 2, 3, 2, 3, 4, 5)))
    found = settled({"b/base": BASE, "a/stack": stack, "a/tuned": moved(stack, 0.02, 7)})
    assert set(found) == {"a/stack"}


def test_a_model_is_not_pruned_from_its_own_trained_stack():
    stack = moved(stacked((BASE, (0, 1, 2, 3, 2, 3, 4, 5))), 0.02, 8)
    assert repeats_itself(model("s", stack))
    assert not repeats_itself(model("b", BASE))
    found = settled({"b/base": BASE, "a/stack": stack})
    assert set(found) == {"a/stack"}
    assert found["a/stack"].kind is Kind.PASSTHROUGH


def test_a_copy_is_not_named_where_its_original_is_there():
    unseen = moved(BASE, 0.01, 5)
    weights = {"a/copy": BASE, "b/base": BASE, "c/even": stacked((unseen, (0, 2, 4)))}
    copy = Finding("a/copy", Kind.DUPLICATE, Grade.PROVED, (ParentShare("b/base", 1.0),))
    assert {p for p, _ in places(settled(weights, [copy])["c/even"])} == {"b/base"}


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_constant_layers_crash_nothing(fill):
    flat = ([{r: np.full_like(v, fill) for r, v in layer.items()} for layer in BASE[0]], BASE[1])
    settled({"a/flat": flat, "b/base": BASE, "c/cut": stacked((flat, (0, 1)))})


# -- units -----------------------------------------------------------------------------------------


def narrowed(weights, units):
    layers, outside = weights
    kept = [
        {**layer, "up": layer["up"][units], "gate": layer["gate"][units],
         "down": layer["down"][:, units]}
        for layer in layers
    ]  # fmt: skip
    return kept, outside


def test_a_model_that_kept_some_units_comes_from_the_wider_one():
    units = np.sort(np.random.default_rng(0).permutation(FFN)[:30])
    weights = {"b/base": BASE, "a/other": OTHER, "c/narrow": narrowed(BASE, units)}
    found = settled(weights)
    assert set(found) == {"c/narrow"}
    assert (found["c/narrow"].kind, found["c/narrow"].method) == (Kind.PRUNED, "width")
    assert [share.parent for share in found["c/narrow"].parents] == ["b/base"]
    n = 2 * DEPTH * 30
    assert kept_units(model("c", narrowed(BASE, units)), model("b", BASE)) == (n, n)


def test_units_of_another_model_in_another_order_or_with_other_words_are_not_kept_ones():
    units = np.arange(30)
    wide = model("b", BASE)
    assert kept_units(model("c", narrowed(BASE, units[::-1])), wide) is None
    assert kept_units(model("c", narrowed(OTHER, units)), wide) is None
    assert kept_units(wide, wide) is None
    assert kept_units(wide, model("c", narrowed(BASE, units))) is None
    layers, outside = narrowed(BASE, units)
    layers[0]["up"] = np.random.default_rng(1).standard_normal(layers[0]["up"].shape)
    found, asked = kept_units(model("c", (layers, outside)), wide)
    assert found == asked - 30


def test_a_stack_stored_in_another_type_is_found_word_for_word():
    first = moved(founder(1, 4), 0.0, 0)
    second = moved(first, 0.02, 3)
    # Float16 loses the smallest of what bfloat16 can hold.
    for layers in (first[0], second[0]):
        for layer in layers:
            layer["q"] = layer["q"] * np.where(np.arange(D) % 5 == 0, 1e-6, 1)
    pieces = ((first, [0, 1, 2]), (second, [1, 2, 3]))
    members = {
        "a/first": model("a/first", first),
        "a/second": model("a/second", second),
        "b/stack": model("b/stack", stacked(*pieces), dtype="F16"),
    }
    family = OpenFamily(members, {}, {}, {})
    settle_layers(family)
    finding = family.findings["b/stack"]
    assert (finding.kind, finding.grade) == (Kind.PASSTHROUGH, Grade.PROVED)
    assert [(one.parent, one.parent_layer) for one in finding.layer_map] == [
        ("a/first", 0), ("a/first", 1), ("a/first", 2),
        ("a/second", 1), ("a/second", 2), ("a/second", 3),
    ]  # fmt: skip
    assert "a/first" not in family.findings  # nothing is pruned from its stack


def test_a_disguised_copy_can_be_what_a_stack_was_made_of():
    first = founder(1, 4)
    second = moved(first, 0.02, 3)
    members = {
        "a/first": model("a/first", first),
        "a/second": model("a/second", second),
        "b/stack": model("b/stack", stacked((first, [0, 1, 2]), (second, [1, 2, 3]))),
    }
    family = OpenFamily(members, {}, {}, {})
    family.settle(Finding("a/second", Kind.PERMUTED, Grade.PROVED, (ParentShare("a/hidden", 1.0),)))
    settle_layers(family)
    assert {share.parent for share in family.findings["b/stack"].parents} == {
        "a/first", "a/second",
    }  # fmt: skip
