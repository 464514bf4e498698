"""Merges that decide word by word: made here by naive code on whole tensors, then recovered."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lineage.infer.geometry import Pool, make_pool
from lineage.infer.methods.arithmetic import mixed
from lineage.infer.methods.between_two import (
    _threshold,
    replay_arcee_fusion,
    replay_nearswap,
)
from lineage.infer.methods.masked_search import MaskedMerge
from lineage.infer.methods.masks import Rule, changes_from, fit_masks
from lineage.infer.methods.model_stock import replay_model_stock
from lineage.infer.methods.selected import _fitted_weights, replay_sce
from lineage.infer.parent_sets import _Search, parent_sets
from lineage.infer.replay import Replay
from lineage.infer.settle import merges, sums, words
from lineage.infer.settle.family import OpenFamily
from lineage.infer.settle.merged import without_merges
from lineage.infer.settle.merges import settle_merges
from lineage.infer.sphere import multislerp
from lineage.model import Finding, Grade, Kind, ParentShare
from lineage.weights.encodings import round_to
from lineage.weights.roles import TensorKey
from simulated import Herd, fingerprint, shapes, stored

DTYPE = "BF16"
KINSHIP = ("p/one", "p/two", "p/three", "p/four", "p/five", "p/six")


@pytest.fixture(scope="module")
def herd():
    """A base and nine fine-tunes of it, two of them on one text, and one fine-tune's child."""
    h = Herd(23)
    base = stored(h.founder(layers=2))
    models = {"z/base": base}
    for number, name in enumerate(KINSHIP):
        models[name] = h.train(base, 0.012 + 0.004 * (number % 3), text=number)
    models["d/twin"] = h.train(base, 0.015, text=0)
    models["d/child"] = h.train(models["p/two"], 0.01, text=7)
    models["d/other"] = h.train(base, 0.02, text=8)
    return models


def settled(models, merged, dtype=DTYPE):
    """The finding of one more model, or None where it is not called a merge."""
    members = {name: fingerprint(name, model) for name, model in models.items()}
    members["m/merge"] = fingerprint("m/merge", merged, dtype)
    family = OpenFamily(members, {}, {}, {})
    for name in models:  # only the last one is asked
        family.settle(Finding(name, Kind.FINETUNE, Grade.ABSTAIN))
    settle_merges(family, make_pool(list(members.values())))
    return family.findings.get("m/merge")


def shares(finding):
    return {share.parent: share.weight for share in finding.parents}


# The naive oracle: every word by itself, in the order in which the papers tell it.


def bf16(number):
    return float(round_to(DTYPE, np.array([number], np.float32))[0])


def naive_mixed(changes, weights, rule):
    """One word's changes (0 where dropped), combined."""
    weighted = [bf16(bf16(w) * d) for w, d in zip(weights, changes, strict=True)]
    total = np.float32(0)
    for value in weighted:
        total = np.float32(total + np.float32(value))
    if rule == "sum":
        return bf16(total)
    agree = [i for i, v in enumerate(weighted) if v != 0 and (v > 0) == (total >= 0)]
    part, divisor = np.float32(0), np.float32(0)
    for i in agree:
        part = np.float32(part + np.float32(weighted[i]))
        divisor = np.float32(divisor + np.float32(bf16(weights[i])))
    if rule == "elected" or not agree or bf16(divisor) == 0:
        return bf16(part)
    return bf16(bf16(part) / bf16(divisor))


def deltas(models, names, key, dtype=DTYPE):
    base = models["z/base"][key]
    return [round_to(dtype, models[name][key] - base) for name in names]


def combined(base, kept, weights, rule):
    """The fast twin of :func:`naive_mixed`, by another route than the module: parent by parent."""
    scales = [np.float32(bf16(weight)) for weight in weights]
    weighted = [round_to(DTYPE, scale * d) for scale, d in zip(scales, kept, strict=True)]
    total = sum(weighted, np.zeros_like(base))
    if rule == "sum":
        return round_to(DTYPE, base + round_to(DTYPE, total))
    part, divisor = np.zeros_like(base), np.zeros_like(base)
    for value, scale in zip(weighted, scales, strict=True):
        agrees = (value != 0) & ((value > 0) == (total >= 0))
        part += np.where(agrees, value, 0)
        divisor += np.where(agrees, scale, 0)
    part = round_to(DTYPE, part)
    if rule == "mean":
        divisor = round_to(DTYPE, divisor)
        part = round_to(DTYPE, part / np.where(divisor == 0, 1, divisor).astype(np.float32))
    return round_to(DTYPE, base + part)


def largest(delta, density, gamma=0.0):
    """The mask of the largest changes of a tensor, without the very largest."""
    order = np.argsort(-np.abs(delta).ravel(), kind="stable")
    first = int(gamma * delta.size)
    mask = np.zeros(delta.size, bool)
    mask[order[first : first + max(1, int(density * delta.size))]] = True
    return mask.reshape(delta.shape)


def trimmed(models, names, weights, densities, rule, gamma=0.0):
    merged = {}
    for key, base in models["z/base"].items():
        kept = [
            d * largest(d, density, gamma) if density < 1 else d
            for d, density in zip(deltas(models, names, key), densities, strict=True)
        ]
        merged[key] = combined(base, kept, weights, rule)
    return merged


def dropped(models, names, weights, densities, rule, epsilon=0.0, seed=5):
    rng = np.random.default_rng(seed)
    merged = {}
    for key, base in models["z/base"].items():
        kept = []
        for delta, density in zip(deltas(models, names, key), densities, strict=True):
            rows = np.atleast_2d(np.abs(delta))
            rank = rows.argsort(axis=1).argsort(axis=1) / (rows.shape[1] - 1)
            chance = density - epsilon + 2 * epsilon * rank.reshape(delta.shape)
            mask = rng.random(delta.shape) < chance
            scale = bf16(np.abs(delta).sum()) / max(bf16(np.abs(delta * mask).sum()), 1e-9)
            kept.append(round_to(DTYPE, delta * mask * np.float32(bf16(scale))))
        merged[key] = combined(base, kept, weights, rule)
    return merged


@settings(max_examples=25)
@given(
    arrays(np.float32, (3, 4), elements=st.floats(-2, 2, width=16)),
    st.sampled_from(list(Rule)),
    st.lists(st.sampled_from([0.1, 0.3, 0.5, 1.0]), min_size=3, max_size=3),
)
def test_kept_changes_are_combined_as_word_by_word_arithmetic_says(changes, rule, weights):
    changes = round_to(DTYPE, changes)
    fast = mixed(changes, weights, rule, DTYPE)
    slow = [naive_mixed(column, weights, rule.value) for column in changes.T]
    np.testing.assert_array_equal(fast, np.array(slow, np.float32))


# The search for parents.


def test_six_parents_are_found_among_distractors_without_trying_all_sets(herd):
    weights = (0.3, 0.2, 0.15, 0.15, 0.1, 0.1)
    merged = {
        key: round_to("F32", sum(w * herd[n][key] for w, n in zip(weights, KINSHIP, strict=True)))
        for key in herd["z/base"]
    }
    pool = make_pool([fingerprint(n, m) for n, m in (herd | {"m/merge": merged}).items()])
    found = parent_sets(pool, "m/merge", [name for name in pool.ids if name != "m/merge"])
    assert set(found[5].members) == set(KINSHIP)
    by_name = dict(zip(found[5].members, found[5].shares, strict=True))
    assert [by_name[name] for name in KINSHIP] == pytest.approx(weights, abs=0.01)
    assert found[5].left < 0.5 * found[4].left


def test_a_copy_among_the_candidates_is_taken_once(herd):
    models = herd | {"a/copy": herd["p/one"]}
    merged = {k: (v + herd["p/two"][k]) / 2 for k, v in herd["p/one"].items()}
    pool = make_pool([fingerprint(n, m) for n, m in (models | {"m/merge": merged}).items()])
    names = [name for name in pool.ids if name != "m/merge"]
    for found in parent_sets(pool, "m/merge", names):
        assert len({"a/copy", "p/one"} & set(found.members)) <= 1


def test_an_adapter_and_its_base_are_no_pair_for_being_equal_where_it_has_no_factors():
    """Differences to a merge of the first two; the third is the first but for some tensors."""
    way, noise, factors = np.eye(3)
    one, two = noise + way, noise - way
    groups = [np.stack([one, two, one + size * factors]) for size in (0, 0, 0.1)]
    gram = np.stack([group @ group.T for group in groups])
    search = _Search(("one", "two", "adapter"), gram, np.full(3, 1e4))
    assert search.pairs()[0] == [0, 1]
    assert search.left([0, 2]) == pytest.approx(2 * search.left([0, 1]), rel=1e-3)


@pytest.mark.parametrize("candidates", [[], ["z/base"], ["z/base", "p/one"]])
def test_sets_are_no_larger_than_what_there_is(herd, candidates):
    merged = mixed_of(herd, {"z/base": 0.4, "p/one": 0.6})
    members = herd | {"m/merge": merged}
    pool = make_pool([fingerprint(n, m) for n, m in members.items()])
    assert len(parent_sets(pool, "m/merge", candidates)) == len(candidates)


def mixed_of(models, shares):
    keys = next(iter(models.values()))
    return {
        key: round_to(DTYPE, sum(np.float32(w) * models[name][key] for name, w in shares.items()))
        for key in keys
    }


def test_to_a_child_of_one_parent_its_siblings_add_nothing(herd):
    pool = make_pool([fingerprint(n, m) for n, m in herd.items()])
    names = [name for name in herd if name not in ("p/two", "d/child")]
    assert [one.members for one in parent_sets(pool, "p/two", names)] == [("z/base",)]


def test_what_lies_between_its_fine_tunes_is_no_masked_merge_of_them():
    """Small steps, rounded: masks of many would explain nearly every word of the base."""
    rng = np.random.default_rng(5)
    base = {
        TensorKey(role, layer): round_to(DTYPE, rng.normal(0, 0.1, (64, 32)).astype("f4"))
        for role in ("q", "v", "up")
        for layer in range(2)
    }
    models = {
        f"p/{number}": {
            key: round_to(DTYPE, (w + rng.normal(0, size, w.shape)).astype("f4"))
            for key, w in base.items()
        }
        for number, size in enumerate(0.0003 * np.exp(np.linspace(0, 2.3, 15)))
    }
    assert settled(models, base) is None


# Methods whose masks follow from the size of the change.


def test_a_ties_merge_is_told_with_its_densities_and_weights(herd):
    names = ("p/one", "p/three")
    found = settled(herd, trimmed(herd, names, (0.6, 0.3), (0.5, 0.7), "mean"))
    assert (found.method, found.grade, found.base) == ("ties", Grade.INFERRED, "z/base")
    assert shares(found) == pytest.approx({"p/one": 2 / 3, "p/three": 1 / 3}, abs=0.01)
    recipe = yaml.safe_load(found.recipe_yaml)
    densities = {m["model"]: m["parameters"]["density"] for m in recipe["models"]}
    assert densities == pytest.approx({"p/one": 0.5, "p/three": 0.7}, abs=0.011)
    assert recipe["parameters"]["normalize"] is True


@pytest.mark.parametrize(
    ("method", "rule"), [("breadcrumbs", "sum"), ("breadcrumbs_ties", "elected")]
)
def test_breadcrumbs_are_told_by_both_tails_that_are_missing(herd, method, rule):
    names, weights = ("p/two", "p/three"), (0.5, 0.8)
    found = settled(herd, trimmed(herd, names, weights, (0.6, 0.8), rule, gamma=0.01))
    assert (found.method, found.base) == (method, "z/base")
    assert shares(found) == pytest.approx({"p/two": 5 / 13, "p/three": 8 / 13}, abs=0.02)


def test_the_largest_changes_are_missed_where_they_would_show(herd):
    """What a parent of little weight changed is rounded away, kept or not."""
    names, weights = ("p/two", "p/three"), (0.97, 0.03)
    found = settled(herd, trimmed(herd, names, weights, (0.6, 0.8), "elected", gamma=0.01))
    assert (found.method, found.base) == ("breadcrumbs_ties", "z/base")
    assert set(shares(found)) == set(names)


# Methods whose masks are random.


@pytest.mark.parametrize(("method", "rule"), [("dare_linear", "sum"), ("dare_ties", "elected")])
def test_random_masks_give_weights_with_bounds_and_densities_but_no_recipe(herd, method, rule):
    names, weights = ("p/one", "p/two", "p/three"), (0.5, 0.3, 0.4)
    densities = (0.5, 0.6, 0.8)
    found = settled(herd, dropped(herd, names, weights, densities, rule))
    assert (found.method, found.grade, found.base) == (method, Grade.INFERRED, "z/base")
    true = {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}
    assert shares(found) == pytest.approx(true, abs=0.03)
    for share in found.parents:
        assert share.low < true[share.parent] < share.high
    assert found.recipe_yaml is None
    assert "random" in found.note
    facts = {fact.name: fact.value for fact in found.evidence}
    assert facts["densities"] == pytest.approx(np.mean(densities), abs=0.05)
    assert facts["words_contained"] > 0.99


def test_della_is_told_from_dare_by_small_changes_dropped_more_often(herd):
    names = ("p/three", "p/six")
    merged = dropped(herd, names, (0.6, 0.4), (0.5, 0.5), "sum", epsilon=0.15)
    assert settled(herd, merged).method == "della_linear"


# Methods without a choice of masks.


def test_a_model_stock_of_unrelated_changes_is_found_by_rows_that_do_not_tell_their_cosine():
    """Of 300 rows 40 were read; the last matrix moved so little that its t is told badly, too."""
    t = round_to(DTYPE, np.array([0.037], np.float32))
    read = []
    for size in (0.1, 0.1, 0.1, 0.05):
        rng = np.random.default_rng(1)
        base = round_to(DTYPE, rng.standard_normal((300, 48)).astype(np.float32))
        one, two = (
            round_to(DTYPE, base + size * rng.standard_normal(base.shape).astype(np.float32))
            for _ in range(2)
        )
        mean = round_to(DTYPE, round_to(DTYPE, one + two) / np.float32(2))
        rest = round_to(DTYPE, 1 - t)
        child = round_to(DTYPE, round_to(DTYPE, t * mean) + round_to(DTYPE, rest * base))
        read.append(np.stack([model[:40] for model in (base, one, two, child)]))
    keys = tuple(TensorKey("up", layer) for layer in range(len(read)))
    pool = Pool(("r", "p/one", "p/two", "c"), keys, tuple(read))
    found = replay_model_stock(pool, "c", DTYPE, ("p/one", "r", "p/two"))
    assert (found.match, found.base) == (1.0, "r")
    assert found.weights == pytest.approx([float(t[0]) / 2] * 2)


def naive_stock(models, names):
    """Tensor by tensor, with t from all cosines."""
    merged = {}
    for key, base in models["z/base"].items():
        d = [x.astype("f8").ravel() for x in deltas(models, names, key)]
        cosines = [
            d[i] @ d[j] / np.linalg.norm(d[i]) / np.linalg.norm(d[j])
            for i in range(len(names))
            for j in range(i)
        ]
        c, n = np.mean(cosines), len(names)
        t = np.float32(bf16(n * c / (1 + (n - 1) * c)))
        total = np.zeros_like(base)
        for name in names:
            total = round_to(DTYPE, total + models[name][key])
        mean = round_to(DTYPE, total / np.float32(n))
        rest = np.float32(bf16(1 - t))
        merged[key] = round_to(DTYPE, round_to(DTYPE, t * mean) + round_to(DTYPE, rest * base))
    return merged


@pytest.mark.slow
def test_model_stock_is_proved_by_the_cosines_of_its_parents(herd):
    names = ("p/one", "d/twin", "p/three")
    found = settled(herd, naive_stock(herd, names))
    assert (found.method, found.grade, found.base) == ("model_stock", Grade.PROVED, "z/base")
    assert shares(found) == pytest.approx(dict.fromkeys(names, 1 / 3), abs=1e-9)


def test_a_model_stock_of_changes_that_point_apart_takes_their_mean_away(herd):
    opposed = {
        key: round_to(DTYPE, values - np.float32(0.2) * (herd["p/one"][key] - herd["z/base"][key]))
        for key, values in herd["p/five"].items()
    }
    models = {name: herd[name] for name in ("z/base", "p/one", "p/three")} | {"p/apart": opposed}
    found = settled(models, naive_stock(models, ("p/one", "p/apart")))
    assert (found.method, found.grade, found.base) == ("model_stock", Grade.PROVED, "z/base")
    assert shares(found) == pytest.approx({"p/one": 0.5, "p/apart": 0.5}, abs=1e-9)


def naive_sce(models, names, share, dtype=DTYPE):
    """Select, calculate, erase, tensor by tensor; sums in float32, stored in `dtype`."""

    def narrow(number):
        return float(round_to(dtype, np.array([number], np.float32))[0])

    merged = {}
    for key, base in models["z/base"].items():
        d = np.stack(deltas(models, names, key, dtype))
        variance = round_to(dtype, d.astype("f8").var(axis=0).astype("f4"))
        mask = np.zeros(base.size, bool)
        n = int(share * np.count_nonzero(variance))
        mask[np.argsort(-variance.ravel(), kind="stable")[:n]] = True
        d = d * (mask.reshape(base.shape) if share < 1 else 1)
        squares = np.array([narrow(round_to(dtype, one * one).mean()) for one in d])
        total = narrow(squares.sum())
        weights = squares / total if total >= 1e-6 else np.full(len(names), 1 / len(names))
        total_change = sum(d)
        up, down = np.zeros_like(base), np.zeros_like(base)
        for one, weight in zip(d, weights, strict=True):
            agrees = np.sign(one) == np.where(total_change >= 0, 1, -1)
            scale = np.where(agrees, np.float32(narrow(weight)), np.float32(0))
            up += round_to(dtype, one * scale)
            down += scale
        down = np.maximum(round_to(dtype, down), np.float32(1e-6))
        change = round_to(dtype, round_to(dtype, up) / down)
        merged[key] = round_to(dtype, base + change)
    return merged


@pytest.mark.parametrize(("names", "share"), [(KINSHIP[:3], 0.3), (KINSHIP[1:3], 1.0)])
def test_sce_is_proved_with_the_share_of_words_it_selects(herd, names, share):
    found = settled(herd, naive_sce(herd, names, share))
    assert (found.method, found.grade, found.base) == ("sce", Grade.PROVED, "z/base")
    assert set(shares(found)) == set(names)
    recipe = yaml.safe_load(found.recipe_yaml)
    assert recipe.get("parameters", {}).get("select_topk", 1.0) == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_sce_is_replayed_by_rows_that_do_not_tell_its_weights(dtype):
    """A third of the rows was read; few of the words tell, and some are not what they seem."""
    rng, read = np.random.default_rng(6), slice(0, 240, 3)
    base = rng.standard_normal((240, 64)).astype("f4") / 20
    moves = [rng.standard_normal(base.shape) * size for size in (0.004, 0.002, 0.003)]
    names = ("b", "x", "y", "z")
    models = dict(zip(names, (base, *(base + one for one in moves)), strict=True))
    models = {name: stored({TensorKey("q", 0): v.astype("f4")}) for name, v in models.items()}
    whole = naive_sce(
        {"z/base" if n == "b" else n: m for n, m in models.items()}, names[1:], 0.4, dtype
    )
    members = {**models, "c": whole}
    pool = make_pool(
        [fingerprint(n, {k: v[read] for k, v in m.items()}, dtype) for n, m in members.items()]
    )
    found = replay_sce(pool, "c", dtype, "b", names[1:])
    assert found.match > 0.985


@pytest.mark.parametrize(
    ("dtype", "size", "n_words"), [("BF16", 0.05, 20_000), ("BF16", 1.0, 3000), ("F32", 1.0, 3000)]
)
@pytest.mark.parametrize("seed", [7, 8])
def test_the_weights_of_sce_are_fitted_though_some_words_were_not_selected(
    dtype, size, n_words, seed
):
    """To the last bit, from words coarser than what moved them or finer."""
    rng, true = np.random.default_rng(seed), np.array([0.2, 0.3, 0.5])
    origin = round_to(dtype, (rng.standard_normal(n_words) / 20).astype("f4"))
    sizes = size * np.array([[0.002], [0.003], [0.004]])
    moves = round_to(dtype, (rng.standard_normal((3, len(origin))) * sizes).astype("f4"))
    scale = true[:, None] * (np.sign(moves) == np.where(moves.sum(axis=0) >= 0, 1, -1))
    mean = (scale * moves).sum(axis=0) / np.maximum(scale.sum(axis=0), 1e-9)
    target = round_to(dtype, (origin + mean).astype("f4"))
    target[rng.random(len(origin)) < 0.08] = 0
    target = np.where(target == 0, origin, target)
    found = _fitted_weights(moves, origin, target, dtype)
    assert found == pytest.approx(round_to(dtype, true.astype("f4")), abs=1e-7)


@pytest.mark.parametrize("other", [1, -1])
def test_parents_of_sce_that_are_equal_or_opposite_have_some_weights(other):
    moves = np.full((2, 50), 0.01, np.float32) * np.array([[1], [other]], np.float32)
    found = _fitted_weights(moves, np.zeros(50, np.float32), moves[0], DTYPE)
    assert found.sum() == pytest.approx(1)


def test_a_model_that_hardly_left_its_base_is_no_sce_merge(herd):
    pool = make_pool([fingerprint(n, m) for n, m in herd.items()])
    for child in ("d/child", "d/twin"):
        found = replay_sce(pool, child, DTYPE, "z/base", ("p/three", "p/four"))
        assert found is None or found.match < 0.9


def nearswapped(first, second, t):
    merged = {}
    for key, a in first.items():
        b = second[key]
        gap = np.maximum(np.abs(round_to(DTYPE, a - b)), np.float32(1e-6))
        weight = np.minimum(round_to(DTYPE, np.float32(t) / gap), np.float32(1))
        rest = round_to(DTYPE, 1 - weight)
        merged[key] = round_to(DTYPE, round_to(DTYPE, weight * b) + round_to(DTYPE, rest * a))
    return merged


def test_nearswap_is_proved_with_its_step(herd):
    found = settled(herd, nearswapped(herd["p/two"], herd["p/three"], 5e-4))
    assert (found.method, found.base) == ("nearswap", "p/two")
    assert yaml.safe_load(found.recipe_yaml)["parameters"]["t"] == pytest.approx(5e-4)


@pytest.mark.parametrize("t", [6e-4, 9e-4])
def test_a_nearswap_that_left_few_words_between_the_two_tells_its_step_by_the_finest(t):
    h = Herd(23)
    second = stored(h.founder(layers=2))
    first = h.train(second, 0.01, text=1)
    models = {"a": first, "b": second, "c": nearswapped(first, second, t)}
    pool = make_pool([fingerprint(name, model) for name, model in models.items()])
    found = replay_nearswap(pool, "c", DTYPE, ("a", "b"))
    assert (found.match, found.base) == (1.0, "a")
    assert yaml.safe_load(found.recipe_yaml)["parameters"]["t"] == t


def fused(first, second, dtype, rows=slice(None)):
    """Arcee Fusion by torch, every step in the merge's number type; the mask makes it float32.

    The threshold is that of whole tensors, of which `rows` are handed on.
    """
    merged = {}
    for key, values in first.items():
        a, b = (
            torch.from_numpy(np.ascontiguousarray(one)).to(dtype) for one in (values, second[key])
        )
        p, q = (torch.softmax(one, dim=-1) + 1e-8 for one in (b, a))
        divergence = torch.sum(p * torch.log(p / q), dim=-1, keepdim=True)
        importance = (b - a).abs() * divergence
        ordered = importance.flatten().sort().values
        lower, middle, upper = (ordered[int(q * (len(ordered) - 1))] for q in (0.25, 0.5, 0.75))
        taken = (importance >= middle + 1.5 * (upper - lower)).float()
        merged[key] = (a + (b - a) * taken).float().numpy()[rows]
    return merged


@pytest.mark.parametrize(
    ("inner", "stored_in"), [("bfloat16", "F32"), ("bfloat16", "BF16"), ("float32", "F32")]
)
def test_arcee_fusion_is_proved_in_the_number_type_of_its_steps(herd, inner, stored_in):
    merged = fused(herd["p/one"], herd["p/five"], getattr(torch, inner))
    found = settled(herd, stored(merged, stored_in), dtype=stored_in)
    assert (found.method, found.grade, found.base) == ("arcee_fusion", Grade.PROVED, "p/one")
    assert set(shares(found)) == {"p/one", "p/five"}
    assert found.evidence[0].value == pytest.approx(1, abs=1e-4)
    assert yaml.safe_load(found.recipe_yaml)["dtype"] == inner


def test_arcee_fusion_is_proved_by_rows_that_do_not_tell_its_threshold():
    rng, read = np.random.default_rng(4), slice(0, 240, 6)
    first = {TensorKey(role, 0): rng.standard_normal((240, 64)) / 20 for role in ("q", "k", "o")}
    # Rows that are read moved a fifth farther than the others: importance goes by the cube.
    move = np.where(np.arange(240) % 6 == 0, 0.012, 0.01)[:, None]
    second = {key: v + move * rng.standard_normal(v.shape) / 20 for key, v in first.items()}
    first, second = (
        {k: round_to(DTYPE, v.astype("f4")) for k, v in m.items()} for m in (first, second)
    )
    merged = fused(first, second, torch.bfloat16, read)
    rows = [{key: v[read] for key, v in one.items()} for one in (first, second)]
    members = zip("abc", (*rows, merged), strict=True)
    pool = make_pool([fingerprint(name, one, "F32") for name, one in members])
    found = replay_arcee_fusion(pool, "c", "F32", ("b", "a"))
    assert (found.base, found.match) == ("a", pytest.approx(1, abs=1e-3))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_threshold_of_a_fusion_is_the_best_within_a_factor_of_two_of_the_rows(data):
    n = data.draw(st.integers(1, 30))
    sign = data.draw(st.sampled_from([1, -1]))
    importance = sign * data.draw(arrays(np.float32, n, elements=st.integers(0, 40)))
    taken, untouched = (data.draw(arrays(np.bool_, n)) for _ in range(2))
    ordered = np.sort(importance)
    lower, middle, upper = (ordered[int(q * (n - 1))] for q in (0.25, 0.5, 0.75))
    of_rows = middle + 1.5 * (upper - lower)

    def n_wrong(threshold):
        return int(np.where(importance >= threshold, ~taken, ~untouched).sum())

    found = _threshold(importance, taken, untouched)
    reach = sorted((of_rows / 2, of_rows * 2))
    assert np.nextafter(np.float32(reach[0]), np.float32(-np.inf)) <= found
    assert found <= np.nextafter(np.float32(reach[1]), np.float32(np.inf))
    near = importance[(importance >= reach[0]) & (importance <= reach[1])]
    tried = (*near, np.nextafter(np.float32(reach[1]), np.float32(np.inf)))
    assert n_wrong(found) == (min(map(n_wrong, tried)) if len(near) else n_wrong(of_rows))


def test_words_of_two_models_at_random_are_no_arcee_fusion(herd):
    rng = np.random.default_rng(5)
    first, second = herd["p/one"], herd["p/five"]
    mixed_up = {k: np.where(rng.random(v.shape) < 0.1, second[k], v) for k, v in first.items()}
    found = settled(herd, mixed_up)
    assert (found.method, found.grade) == (None, Grade.INFERRED)
    assert set(shares(found)) == {"p/one", "p/five"}


# Many parents and weights by layer.


@pytest.mark.slow
def test_task_arithmetic_of_five_parents_is_proved(herd):
    names, weights = KINSHIP[:5], (0.4, 0.3, 0.2, 0.5, 0.15)
    found = settled(herd, trimmed(herd, names, weights, (1,) * 5, "sum"))
    assert (found.method, found.grade, found.base) == ("task_arithmetic", Grade.PROVED, "z/base")
    true = {name: weight / sum(weights) for name, weight in zip(names, weights, strict=True)}
    assert shares(found) == pytest.approx(true, abs=0.005)


def test_other_recipes_that_give_every_word_are_listed(herd):
    # In float32 no step rounds: the mean is one parent plus half of the way to the other.
    half = {k: ((v + herd["p/two"][k]) / 2).astype("f4") for k, v in herd["p/one"].items()}
    found = settled(herd, half, dtype="F32")
    assert (found.method, found.grade) == ("linear", Grade.PROVED)
    others = [fact for fact in found.evidence if fact.name == "equivalent_recipe"]
    assert others
    assert all(fact.value >= 0.998 for fact in others)
    assert not any(fact.text.startswith("linear of") for fact in others)
    assert any("p/one" in fact.text and "p/two" in fact.text for fact in others)


def test_a_recipe_that_nothing_else_gives_lists_no_other(herd):
    found = settled(herd, trimmed(herd, KINSHIP[:2], (0.7, 0.5), (1, 1), "sum"))
    assert found.method == "task_arithmetic"
    assert not [fact for fact in found.evidence if fact.name == "equivalent_recipe"]


# What is no merge.


def test_a_fine_tune_is_no_masked_merge_whatever_its_siblings_were_trained_on(herd):
    for size, text in ((0.01, 0), (0.02, 1), (0.003, 9)):
        tuned = Herd(int(1e4 * size)).train(herd["p/one"], size, text=text)
        assert settled(herd, tuned) is None


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan, np.inf])
def test_models_of_one_value_are_no_merges_and_stop_nothing(herd, value):
    flat = {key: np.full(shape, value, np.float32) for key, shape in shapes(layers=2).items()}
    assert settled(herd, flat) is None


def test_a_merge_of_one_small_tensor_is_not_asserted():
    rng = np.random.default_rng(1)
    one = {key: rng.standard_normal((4, 3)).astype("f4") for key in list(shapes(layers=2))[:1]}
    models = {f"x/{n}": {k: stored({k: v + n})[k] for k, v in one.items()} for n in range(4)}
    found = settled(models, models["x/1"])
    assert found is None or found.kind is not Kind.MERGE or found.grade is not Grade.PROVED


def test_masks_are_fitted_to_changes_of_nothing(herd):
    pool = make_pool([fingerprint(n, m) for n, m in herd.items()])
    changes = changes_from(pool, "z/base", "z/base", ("p/one",), DTYPE, 200)
    fit = fit_masks(changes, Rule.SUM, False, np.array([0.5]))
    assert np.isfinite(fit.log_likelihood)
    assert abs(fit.coefficients[0, 0]) * fit.curves[0].mean() < 0.05


@pytest.mark.parametrize("weights", [(0.4, 0.2), (0.3, 0.4)])
def test_of_recipes_that_are_nearly_right_the_one_that_gives_every_word_is_told(weights):
    h = Herd(47)
    base = stored(h.founder(layers=2))
    parent = h.train(base, 0.003, text=1)
    models = {"z/base": base, "p/one": parent, "p/two": h.train(parent, 0.001, text=2)}
    merged = trimmed(models, ("p/one", "p/two"), weights, (1, 1), "sum")
    found = settled(models, merged)
    assert (found.method, found.grade, found.base) == ("task_arithmetic", Grade.PROVED, "z/base")
    assert set(shares(found)) == {"p/one", "p/two"}
    replayed = {fact.name: fact.value for fact in found.evidence}["words_replayed"]
    assert replayed == pytest.approx(1, abs=1e-4)


# Sums and fusions that no recipe here replays.


def summed(herd, names, seed=2, noise=0.0, shares=None):
    """Weights of every tensor's own, every product rounded on the way; trained on by `noise`."""
    rng = np.random.default_rng(seed)
    merged = {}
    for key in herd["z/base"]:
        weights = rng.dirichlet(np.full(len(names), 20.0)) if shares is None else shares
        parts = [
            round_to(DTYPE, herd[name][key] * np.float32(w))
            for name, w in zip(names, weights, strict=True)
        ]
        total = parts[0]
        for part in parts[1:]:
            total = round_to(DTYPE, total + part)
        size = np.float32(noise) * np.abs(total) * rng.standard_normal(total.shape)
        merged[key] = round_to(DTYPE, (total + size).astype(np.float32))
    return merged


@pytest.mark.parametrize("names", [("p/one", "p/three"), ("p/two", "p/five", "p/six")])
def test_a_sum_that_leaves_but_rounding_is_a_merge_though_no_recipe_replays_it(herd, names):
    found = settled(herd, summed(herd, names))
    assert (found.kind, found.grade, found.method) == (Kind.MERGE, Grade.INFERRED, None)
    assert shares(found) == pytest.approx(dict.fromkeys(names, 1 / len(names)), abs=0.1)
    facts = {fact.name: fact.value for fact in found.evidence}
    assert facts["left_by_sum"] < 0.5
    assert facts["words_fitted"] < 0.97


def far_apart(size=1.5):
    h = Herd(37)
    base = stored(h.founder(layers=2))
    return {
        "z/base": base,
        "p/one": h.train(base, size, text=1),
        "p/two": h.train(base, size, text=2),
    }


@pytest.mark.parametrize(("models", "noise"), [("near", 0.003), ("far", 0.01)])
def test_a_sum_that_was_trained_on_is_left_to_descent(herd, models, noise):
    models, names = (
        (herd, ("p/one", "p/three")) if models == "near" else (far_apart(), ("p/one", "p/two"))
    )
    assert settled(models, summed(models, names)) is not None
    assert settled(models, summed(models, names, noise=noise)) is None


def test_a_parent_is_no_sum_of_its_merge_less_the_others(herd):
    others = {name: model for name, model in herd.items() if name != "p/one"}
    others["q/sum"] = {
        key: round_to(DTYPE, (0.83 * one.astype("f8") + 0.17 * herd["p/three"][key]).astype("f4"))
        for key, one in herd["p/one"].items()
    }
    assert settled(others, herd["p/one"]) is None


def test_a_sum_that_leaves_more_than_little_of_the_way_from_its_nearest_is_left_to_descent(herd):
    names, shares = ("p/one", "p/three"), (0.8, 0.2)
    assert settled(herd, summed(herd, names, shares=shares)) is not None
    # Still within the bound on rounding steps: the way itself is short.
    assert settled(herd, summed(herd, names, shares=shares, noise=0.0025)) is None


@pytest.mark.parametrize("shares", [(0.62, 0.58, -0.2), (0.55, 0.55, -0.1)])
@pytest.mark.parametrize("models", ["near", "far"])
def test_task_vectors_that_weigh_more_than_one_are_no_sum_of_parents_unless_replayed(
    herd, models, shares
):
    models, names = (
        (herd, ("p/one", "p/three", "z/base"))
        if models == "near"
        else (far_apart(), ("p/one", "p/two", "z/base"))
    )
    assert settled(models, summed(models, names, shares=shares)) is None
    assert settled(models, summed(models, names, shares=(0.46, 0.44, 0.1))) is not None


def test_a_model_misled_by_a_merge_that_was_found_after_it_is_asked_again(herd, monkeypatch):
    told = Finding("x/later", Kind.MERGE, Grade.INFERRED, (ParentShare("p/one", 1.0),))
    asked = []

    def masked(family, pool, child, candidates):
        offered = without_merges(family, candidates)
        asked.append((child, "x/later" in offered))
        if child == "x/later":
            return told
        return None if "x/later" in offered else replace(told, child=child)

    monkeypatch.setattr(merges, "masked", masked)
    mixed = trimmed(herd, ("p/one", "p/three"), (0.5, 0.5), (1, 1), "sum")
    models = {"z/base": herd["z/base"], "p/one": herd["p/one"]}
    members = {name: fingerprint(name, model) for name, model in models.items()}
    members |= {name: fingerprint(name, mixed) for name in ("m/first", "x/later")}
    family = OpenFamily(members, {}, {}, {})
    for name in models:
        family.settle(Finding(name, Kind.FINETUNE, Grade.ABSTAIN))
    settle_merges(family, make_pool(list(members.values())))
    assert asked == [("m/first", True), ("x/later", False), ("m/first", False)]
    assert family.findings["m/first"].kind is Kind.MERGE


def test_a_recipe_that_gives_its_own_rounding_names_a_merge_of_which_a_part_was_read():
    """The norm of the whole embedding is not that of the rows that were read."""
    far = far_apart(0.2)
    parents = [far["p/one"], far["p/two"]]
    merged = {}
    for key in far["z/base"]:
        both = np.stack([parent[key] for parent in parents])
        unread = round_to(DTYPE, np.concatenate([both, 1.3 * both[:, ::-1]], axis=1))
        whole = unread if key.role in ("embed", "head") else both
        merged[key] = multislerp(whole, (0.3, 0.7), DTYPE)[: len(both[0])]
    found = settled(far, {key: merged[key].reshape(far["z/base"][key].shape) for key in merged})
    assert (found.kind, found.grade, found.method) == (Kind.MERGE, Grade.INFERRED, "multislerp")
    assert shares(found) == pytest.approx({"p/one": 0.3, "p/two": 0.7}, abs=0.01)
    assert "rows read" in found.note
    assert "multislerp" in found.recipe_yaml


def test_a_sum_whose_rounding_no_recipe_gives_has_no_method():
    far = far_apart()
    found = settled(far, summed(far, ("p/one", "p/two")))
    assert (found.kind, found.grade, found.method) == (Kind.MERGE, Grade.INFERRED, None)


def test_a_sum_that_is_one_model_to_a_fortieth_is_that_model_changed():
    far = far_apart()
    few, some = (summed(far, ("p/one", "p/two"), shares=(1 - w, w)) for w in (0.025, 0.1))
    assert settled(far, few) is None
    assert settled(far, some).kind is Kind.MERGE


def picked(first, second, share, seed=3):
    """Words of two models, chosen at random."""
    rng = np.random.default_rng(seed)
    return {key: np.where(rng.random(a.shape) < share, second[key], a) for key, a in first.items()}


def test_a_fusion_whose_choice_of_words_is_not_known_is_a_merge_of_the_two(herd):
    found = settled(herd, picked(herd["p/one"], herd["p/five"], 0.2))
    assert (found.kind, found.grade) == (Kind.MERGE, Grade.INFERRED)
    assert shares(found) == pytest.approx({"p/one": 0.8, "p/five": 0.2}, abs=0.05)


def test_a_step_between_two_that_changed_few_words_each_is_no_fusion_of_them():
    h = Herd(31)
    base = stored(h.founder(layers=2))
    other, large = stored(h.founder(layers=2)), h.train(base, 0.02, text=1)
    between = picked(base, large, 0.06)
    after = picked(between, h.train(between, 0.02, text=2), 0.06, seed=4)
    models = {"z/base": base, "x/other": other, "p/after": after}
    assert settled(models, between) is None


def test_a_merge_stays_told_though_masks_put_it_in_the_middle_of_leaning_parents():
    """Steps of .5 cosine, weights .25 and density .4: V = c, seen from the merge all is square."""
    rng = np.random.default_rng(11)
    models = {"z/base": {}, "p/one": {}, "p/two": {}}
    merged = {}
    for key in (TensorKey(role, layer) for role in ("q", "v", "up") for layer in range(4)):
        base = round_to(DTYPE, rng.normal(0, 0.1, (64, 48)).astype("f4"))
        steps = rng.normal(0, 0.01 / np.sqrt(2), (3, *base.shape))
        one, two = (round_to(DTYPE, (base + steps[0] + own).astype("f4")) for own in steps[1:])
        kept = rng.random((2, *base.shape)) < 0.4
        change = 0.625 * (kept[0] * (one - base) + kept[1] * (two - base))
        models["z/base"][key], models["p/one"][key], models["p/two"][key] = base, one, two
        merged[key] = round_to(DTYPE, (base + change).astype("f4"))
    found = settled(models, merged)
    assert found is not None
    assert found.base == "z/base"
    assert set(shares(found)) == {"p/one", "p/two"}


def test_sce_is_asked_of_the_largest_parents_where_masks_found_one_too_many(herd):
    names = list(KINSHIP[:3])
    members = herd | {"m/merge": naive_sce(herd, names, 0.3)}
    pool = make_pool([fingerprint(name, model) for name, model in members.items()])
    fit = SimpleNamespace(coefficients=np.array([[0.04, 0.3, 0.4, 0.5]]))
    said = MaskedMerge("z/base", ("d/child", *names), None, fit, 2.0)
    found = words._selected(pool, "m/merge", DTYPE, said)
    assert set(found.parents) == set(names)
    assert found.match >= 0.99


@pytest.mark.parametrize(("own", "pair"), [(0.0, ("p/one", "p/two")), (0.03, None)])
def test_who_gave_a_tenth_of_the_words_is_asked_for_a_fusion(herd, own, pair):
    rng = np.random.default_rng(2)
    merged = {}
    for key, first in herd["p/one"].items():
        chance = rng.random(first.shape)
        merged[key] = np.where(chance < 0.08, herd["p/two"][key], first)
        merged[key] = np.where(chance > 1 - own, np.float32(7), merged[key])
    pool = make_pool([fingerprint(n, m) for n, m in (herd | {"m/merge": merged}).items()])
    assert (
        words._pair_of_words(pool, "m/merge", [name for name in herd if name != "d/twin"]) == pair
    )
    assert words._pair_of_words(pool, "m/merge", ["p/one"]) is None


@pytest.mark.parametrize(
    ("t", "match", "said"),
    [(0.285714293, 0.99999, "linear"), (0.285714293, 0.9999, "linear"), (0.3, 0.99999, "slerp")],
)
def test_a_number_that_nobody_wrote_makes_no_sphere_of_a_line(t, match, said):
    line = Replay("linear", ("a", "b"), (0.5, 0.2), 0.99998, "models:\n- {weight: 0.5}\n")
    sphere = Replay("slerp", ("a", "b"), (1 - t, t), match, f"parameters:\n  t: [{t}, 1]\n")
    rough = Replay("nuslerp", ("a", "b"), (1, 1), 0.5, "parameters: {weight: 1}\n")
    assert sums._likeliest(iter((line, rough, sphere))).method == said
    assert sums._likeliest((rough,)) is rough


def test_a_line_that_gives_fewer_words_is_none_however_plain():
    line = Replay("linear", ("a", "b"), (0.5, 0.2), 0.995, "models:\n- {weight: 0.5}\n")
    sphere = Replay("slerp", ("a", "b"), (0.7, 0.3), 0.999, "parameters:\n  t: 0.285714293\n")
    assert sums._likeliest((line, sphere)) is sphere
