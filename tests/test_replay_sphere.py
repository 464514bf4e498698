"""Merges on the sphere: their arithmetic beside slow oracles, and recipes recovered from words."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.export.mergekit_reader import read_config
from lineage.infer.geometry import Pool
from lineage.infer.gradients import WordIntervals, shortest_list, value_at
from lineage.infer.merges import Mixture, fit_mixture
from lineage.infer.replay_slerp import line_or_sphere
from lineage.infer.replay_sphere import (
    SPHERICAL,
    replay_karcher,
    replay_multislerp,
    replay_nuslerp,
    replay_slerp,
)
from lineage.infer.settle import sums
from lineage.infer.sphere import (
    cosine_between,
    karcher_mean,
    multislerp,
    nuslerp,
    slerp,
    sphere_shares,
)
from lineage.model import Grade
from lineage.pipeline.located import ModelReader, locate_folder
from lineage.pipeline.rebuild import rebuild, scratch_folder
from lineage.pipeline.verify import verify
from lineage.pipeline.verify_plan import VerifyOptions
from lineage.weights.encodings import round_to
from lineage.weights.roles import TensorKey, role_of

LAYERS, ROWS, COLUMNS = 6, 24, 32
ROLES = ("q", "o", "up", "down")
GRADIENT = {"self_attn": [0.0, 0.5, 0.3, 0.7, 1.0], "mlp": [1.0, 0.5, 0.7, 0.3, 0.0]}


def models(n, size=0.1, dtype="BF16", seed=0, shape=(ROWS, COLUMNS)):
    """Relatives that each changed a common base by `size`; the base comes last."""
    rng = np.random.default_rng(seed)
    made = []
    keys = [TensorKey(role, layer) for layer in range(LAYERS) for role in ROLES]
    keys += [TensorKey("attn_norm", layer) for layer in range(LAYERS)] + [TensorKey("embed")]
    for key in keys:
        whole = (1, COLUMNS) if key.role == "attn_norm" else shape
        base = rng.standard_normal(whole)
        made.append([
            round_to(dtype, (0.05 * (base + amount * rng.standard_normal(whole))).astype("f4"))
            for amount in [*[size] * n, 0.0]
        ])  # fmt: skip
    return dict(sorted(zip(keys, made, strict=True)))


def pool_of(parents, merge, *, n_parents=2, rows=slice(None)):
    """A pool of the parents "a", "b" …, their base and "child", `merge`d tensor by tensor."""
    names = (*"abcdefgh"[:n_parents], "base", "child")
    values, n_words = [], []
    for key, tensors in parents.items():
        stack = np.stack([*tensors[:n_parents], tensors[-1], merge(key, tensors)])
        n_words.append(stack[0].size)
        values.append(stack[:, rows] if stack.shape[1] > 1 else stack)
    return Pool(names, tuple(parents), tuple(values), (), tuple(n_words))


def replayed(replay, pool, dtype="BF16", parents=("a", "b"), bases=()):
    return replay(pool, "child", dtype, fit_mixture(pool, "child", parents, dtype), bases)


def parameters(found):
    recipe = yaml.safe_load(found.recipe_yaml)
    return recipe.get("parameters", {}), [m.get("parameters") for m in recipe["models"]], recipe


def position(key):
    return max(key.layer, 0) / (LAYERS - 1)


def slerped(t_of, dtype="BF16"):
    def merge(key, tensors):
        x, y = tensors[:2]
        return slerp(x, y, t_of(key), cosine_between(x, y), dtype)

    return merge


# ---- arithmetic beside oracles ---------------------------------------------------------------


def unit(x):
    return x / np.linalg.norm(x)


def log_map(p, x):
    angle = np.arccos(np.clip(p @ x, -1, 1))
    return np.zeros_like(p) if angle < 1e-12 else angle / np.sin(angle) * (x - (p @ x) * p)


def exp_map(p, v):
    length = np.linalg.norm(v)
    return p if length < 1e-300 else np.cos(length) * p + np.sin(length) * v / length


def vectors(n, size, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.standard_normal(400)
    return [base + size * rng.standard_normal(400) for _ in range(n)]


def f4(x):
    return np.asarray(x, np.float32).reshape(20, 20)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(t=st.floats(0.0, 1.0), size=st.floats(0.1, 3.0))
def test_slerp_and_nuslerp_walk_the_great_circle(t, size):
    x, y = (unit(v) for v in vectors(2, size))
    oracle = exp_map(x, t * log_map(x, y))
    found = slerp(f4(x), f4(y), t, float(x @ y), "F32").ravel()
    assert np.allclose(found, oracle, atol=2e-6)
    assert np.allclose(nuslerp(f4(x), f4(y), t, "F32").ravel(), oracle, atol=1e-4)


def test_nuslerp_takes_rows_or_columns_one_by_one():
    x, y = (f4(v) for v in vectors(2, 0.5))
    by_row = np.stack([nuslerp(a[None], b[None], 0.3, "F32")[0] for a, b in zip(x, y, strict=True)])
    assert np.allclose(nuslerp(x, y, 0.3, "F32", axis=-1), by_row, rtol=1e-5)
    assert np.allclose(nuslerp(x.T, y.T, 0.3, "F32", axis=0), by_row.T, rtol=1e-5)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(size=st.floats(0.1, 3.0), raw=st.lists(st.floats(0.1, 2.0), min_size=2, max_size=5))
def test_multislerp_is_one_step_from_the_mean_direction(size, raw):
    given_ = vectors(len(raw), size)
    weights = np.array(raw) / sum(raw)
    units = [unit(v) for v in given_]
    mean = unit(sum(w * u for w, u in zip(weights, units, strict=True)))
    ways = [u - (u @ mean) * mean for u in units]
    oracle = exp_map(mean, sum(w * v for w, v in zip(weights, ways, strict=True)))
    oracle *= weights @ [np.linalg.norm(v) for v in given_]
    found = multislerp(np.stack([f4(v) for v in given_]), raw, "F32").ravel()
    assert np.allclose(found, oracle, atol=1e-5 * np.abs(oracle).max())


@settings(max_examples=15, deadline=None, derandomize=True)
@given(size=st.floats(0.1, 1.5), n=st.integers(2, 5))
def test_the_karcher_mean_has_no_mean_way_to_go_and_no_order(size, n):
    given_ = vectors(n, size)
    found = karcher_mean(np.stack([f4(v) for v in given_]), "F32", max_iter=100, tol=1e-7)
    mean = unit(found.ravel().astype(float))
    way = sum(log_map(mean, unit(v)) for v in given_)
    assert np.linalg.norm(way) < 1e-5 * n
    assert np.linalg.norm(found) == pytest.approx(np.mean([np.linalg.norm(v) for v in given_]))
    turned = karcher_mean(np.stack([f4(v) for v in given_[::-1]]), "F32", max_iter=100, tol=1e-7)
    assert np.allclose(found, turned, atol=1e-5 * np.abs(found).max())


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_the_ends_are_the_parents(dtype):
    x, y = (round_to(dtype, f4(v)) for v in vectors(2, 0.3))
    for t, parent in ((0.0, x), (1.0, y)):
        assert np.array_equal(slerp(x, y, t, cosine_between(x, y), dtype), parent)
        assert np.allclose(nuslerp(x, y, t, dtype), parent, rtol=0.02)


def test_shares_change_as_their_derivatives_say():
    shares, to_t, to_cosine = sphere_shares(0.3, 0.8)
    step = 1e-6
    assert np.allclose((sphere_shares(0.3 + step, 0.8)[0] - shares) / step, to_t, atol=1e-5)
    assert np.allclose((sphere_shares(0.3, 0.8 + step)[0] - shares) / step, to_cosine, atol=1e-5)


@pytest.mark.parametrize("merge", [
    lambda s: slerp(s[0], s[1], 0.5, cosine_between(s[0], s[1]), "BF16"),
    lambda s: nuslerp(s[0], s[1], 0.5, "BF16"),
    lambda s: multislerp(s, [0.5, 0.5], "BF16"),
    lambda s: karcher_mean(s, "BF16"),
])  # fmt: skip
def test_zeros_stay_zero_and_equal_parents_stay_what_they_are(merge):
    zeros = np.zeros((2, 4, 5), np.float32)
    assert np.array_equal(merge(zeros), zeros[0])
    one = round_to("BF16", np.linspace(1, 2, 20, dtype=np.float32).reshape(4, 5))
    assert np.allclose(merge(np.stack([one, one])), one, rtol=0.01)


def test_in_half_precision_what_did_not_change_has_no_direction():
    """Merge tools divide zero by zero there, too: such words match nothing, and nothing fails."""
    some = np.stack([np.zeros((4, 5), np.float32), np.ones((4, 5), np.float32)])
    assert np.isnan(multislerp(some, [0.5, 0.5], "F16")).all()
    axis = np.eye(4, dtype=np.float32)[
        [0, 0], None
    ]  # no angle to the mean, no rounding to make one
    assert np.isnan(multislerp(axis, [0.5, 0.5], "F16")).all()


# ---- lists of anchors ------------------------------------------------------------------------


@settings(max_examples=50, deadline=None, derandomize=True)
@given(anchors=st.lists(st.floats(-1, 1), min_size=1, max_size=8), at=st.floats(0, 1))
def test_a_list_is_stretched_over_the_layers(anchors, at):
    places = np.linspace(0, 1, len(anchors)) if len(anchors) > 1 else [0.0]
    assert value_at(anchors, at) == pytest.approx(np.interp(at, places, anchors), abs=1e-9)


def test_words_are_counted_as_trying_would_count_them():
    rng = np.random.default_rng(1)
    x, y = (round_to("BF16", rng.standard_normal(300).astype("f4")) for _ in range(2))
    words = round_to("BF16", 0.7 * x + 0.3 * y)
    asked = WordIntervals.around(0.25, 0.75 * x + 0.25 * y, y - x, words, "BF16", reach=1.0)
    for t in (0.1, 0.29, 0.2991, 0.3, 0.31, 0.9):
        tried = int((round_to("BF16", np.float32(1 - t) * x + np.float32(t) * y) == words).sum())
        assert asked.at(t) == pytest.approx(tried, abs=1)
    assert asked.peak[0] <= 0.3 <= asked.peak[1]
    assert asked.at(np.mean(asked.peak)) == 300


@pytest.mark.parametrize(
    "anchors", [(0.5,), (0.3, 0.8), (0.0, 0.5, 0.3, 0.7, 1.0), (0.35, 0.2, 1.0)]
)
def test_the_shortest_list_of_round_anchors_is_found(anchors):
    rng = np.random.default_rng(2)
    asked = []
    for at in np.linspace(0, 1, 12):
        x, y = (round_to("BF16", rng.standard_normal(500).astype("f4")) for _ in range(2))
        t = value_at(anchors, at)
        words = round_to("BF16", np.float32(1 - t) * x + np.float32(t) * y)
        asked.append((at, WordIntervals.around(0.5, (x + y) / 2, y - x, words, "BF16", reach=1.0)))
    assert shortest_list(asked) == (pytest.approx(anchors), 0)


def test_where_no_word_tells_a_half_is_taken():
    nothing = WordIntervals(np.zeros(0), np.zeros(0))
    assert shortest_list([(0.0, nothing), (1.0, nothing)]) == ((0.5,), 0)


# ---- recipes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
@pytest.mark.parametrize("t", [0.3, 0.5, 0.55])
def test_one_t_is_recovered(dtype, t):
    pool = pool_of(models(2, dtype=dtype), slerped(lambda key: t, dtype))
    found = replayed(replay_slerp, pool, dtype)
    assert found.match == 1
    share = dict(zip(found.parents, found.weights, strict=True))["b"]
    assert share == pytest.approx(t)
    assert parameters(found)[0]["t"] == pytest.approx(min(t, 1 - t))


def test_gradients_by_filter_are_recovered_as_their_short_lists():
    def t_of(key):
        if key.role in ("q", "o"):
            return value_at(GRADIENT["self_attn"], position(key))
        return value_at(GRADIENT["mlp"], position(key)) if key.role in ("up", "down") else 0.5

    found = replayed(replay_slerp, pool_of(models(2), slerped(t_of)))
    assert found.match == 1
    listed = parameters(found)[0]["t"]
    assert [one.get("filter") for one in listed] == ["self_attn", "mlp", None]
    assert listed[0]["value"] == pytest.approx(GRADIENT["self_attn"])
    assert listed[1]["value"] == pytest.approx(GRADIENT["mlp"])
    assert listed[2]["value"] == 0.5


def test_a_list_that_is_longer_than_there_are_layers_is_told_by_what_it_gives_them():
    gradient = (0.0, 0.5, 0.3, 0.7, 1.0)
    layers = np.linspace(0, 1, 4)

    def t_of(key):
        return value_at(gradient, layers[max(key.layer, 0)])

    parents = {key: tensors for key, tensors in models(2, dtype="F32").items() if key.layer < 4}
    found = replayed(replay_slerp, pool_of(parents, slerped(t_of, "F32")), "F32")
    told = np.array(parameters(found)[0]["t"])
    given = np.array([t_of(TensorKey("q", layer)) for layer in range(4)])
    assert min(np.abs(told - one).max() for one in (given, 1 - given)) < 1e-8


def test_the_t_of_the_embedding_is_that_of_the_first_layer_or_its_own():
    gradient = [0.2, 0.8]
    pool = pool_of(models(2), slerped(lambda key: value_at(gradient, position(key))))
    assert parameters(replayed(replay_slerp, pool))[0]["t"] == pytest.approx(gradient)
    own = slerped(lambda key: 0.75 if key.role == "embed" else 0.4)
    listed = parameters(replayed(replay_slerp, pool_of(models(2), own)))[0]["t"]
    assert listed == [{"filter": "embed_tokens", "value": 0.75}, {"value": 0.4}]


def test_the_angle_of_what_was_not_read_is_found():
    pool = pool_of(models(2, size=0.5), slerped(lambda key: 0.3), rows=slice(0, 9))
    found = replayed(replay_slerp, pool)
    assert found.match > 0.995
    assert np.ravel(parameters(found)[0]["t"]) == pytest.approx(0.3, abs=1e-3)


def test_it_is_said_where_slerp_is_the_line():
    near = pool_of(models(2, size=0.01), slerped(lambda key: 0.3))
    assert "all 31 tensors" in line_or_sphere(near, "child", ("a", "b"))
    assert replayed(replay_slerp, near).remark == line_or_sphere(near, "child", ("a", "b"))
    far = pool_of(models(2, size=1.0), slerped(lambda key: 0.3))
    assert line_or_sphere(far, "child", ("a", "b")) == ""


@pytest.mark.parametrize("axis", [None, -1, 0])
@pytest.mark.parametrize("weights", [(0.6, 0.4), (0.3, 1.0)])
def test_nuslerp_is_recovered_with_what_it_took_for_a_vector(axis, weights):
    t = weights[1] / sum(weights)
    pool = pool_of(models(2, size=0.3), lambda key, v: nuslerp(v[0], v[1], t, "BF16", axis=axis))
    found = replayed(replay_nuslerp, pool)
    settings_, entries, _ = parameters(found)
    assert found.match == 1
    assert found.base is None
    got = [entry["weight"] for entry in entries]
    assert got[1] / sum(got) == pytest.approx(t, abs=1e-4)
    assert settings_.get("nuslerp_flatten", True) is (axis is None)
    assert settings_.get("nuslerp_row_wise", False) is (axis == 0)


def test_nuslerp_and_multislerp_on_a_base_are_recovered_with_it():
    def changes(tensors):
        return round_to("BF16", np.stack(tensors[:2]) - tensors[-1])

    def nu(key, v):
        x, y = changes(v)
        return round_to("BF16", v[-1] + nuslerp(x, y, 0.4, "BF16"))

    found = replayed(replay_nuslerp, pool_of(models(2, size=0.3), nu), bases=["base"])
    assert (found.match, found.base) == (1, "base")
    assert [e["weight"] for e in parameters(found)[1]] == pytest.approx([0.6, 0.4])

    def multi(key, v):
        return round_to("BF16", v[-1] + multislerp(changes(v), (0.7, 0.3), "BF16"))

    found = replayed(replay_multislerp, pool_of(models(2, size=0.3), multi), bases=["base"])
    assert (found.match, found.base) == (1, "base")
    assert found.weights == pytest.approx((0.7, 0.3), abs=0.002)


def test_a_gradient_of_nuslerp_is_recovered():
    def merge(key, v):
        return nuslerp(v[0], v[1], value_at([0.2, 0.8], position(key)), "BF16")

    found = replayed(replay_nuslerp, pool_of(models(2), merge))
    first, second = parameters(found)[1]
    assert found.match > 0.995
    assert second["weight"] == pytest.approx([0.2, 0.8], abs=0.002)
    assert first["weight"] == pytest.approx([0.8, 0.2], abs=0.002)


def test_multislerp_is_recovered_with_weights_of_any_sum():
    raw = (0.2, 0.3, 1.0)
    pool = pool_of(models(3), lambda key, v: multislerp(np.stack(v[:3]), raw, "BF16"), n_parents=3)
    found = replayed(replay_multislerp, pool, parents=("a", "b", "c"))
    assert found.match == 1
    assert found.weights == pytest.approx(np.array(raw) / sum(raw), abs=0.003)


def stored_as_one(pool, roles):
    """The same pool, the weights of some roles kept in one tensor by the child alone."""
    names = [f"{key.layer} fused" if key.role in roles else str(key) for key in pool.keys]
    alone = tuple(map(str, pool.keys))
    n_others = len(pool.ids) - 1
    stored = tuple((*[own] * n_others, name) for own, name in zip(alone, names, strict=True))
    return replace(pool, stored_as=stored)


@pytest.mark.parametrize(
    ("replay", "merged"),
    [
        (replay_multislerp, lambda v: multislerp(v, (0.3, 0.7), "BF16")),
        (replay_karcher, lambda v: karcher_mean(v, "BF16")),
        (replay_nuslerp, lambda v: nuslerp(*v, 0.3, "BF16")),
        (replay_slerp, lambda v: slerp(*v, 0.3, cosine_between(*v), "BF16")),
    ],
)
def test_weights_that_the_child_stores_as_one_tensor_share_a_norm(replay, merged):
    """Fused queries and keys, gates and ups, stacked experts."""
    parents = models(2, size=0.5)
    joined = {}
    for layer in range(LAYERS):
        q, o = (np.stack(parents[TensorKey(role, layer)][:2]) for role in ("q", "o"))
        o *= np.array([3, 7], np.float32)[:, None, None] / 4  # norms of parts are not those of both
        for n in range(2):
            parents[TensorKey("o", layer)][n] = round_to("BF16", o[n])
        both = merged(np.concatenate([q, round_to("BF16", o)], axis=1))
        joined |= {TensorKey("q", layer): both[:ROWS], TensorKey("o", layer): both[ROWS:]}
    pool = pool_of(parents, lambda key, v: joined.get(key, merged(np.stack(v[:2]))))
    assert replayed(replay, stored_as_one(pool, ("q", "o"))).match == 1
    apart = replayed(replay, pool)
    assert apart is None or apart.match < 0.9


def test_vectors_in_one_tensor_are_one_vector_even_where_rows_are_merged_one_by_one():
    """Biases of fused queries and keys."""
    parents = models(2, size=0.5)
    for layer in range(LAYERS):
        parents[TensorKey("ffn_norm", layer)] = [
            round_to("BF16", 3 * x[:, ::-1]) for x in parents[TensorKey("attn_norm", layer)]
        ]
    parents = dict(sorted(parents.items()))

    def merge(key, tensors):
        if not key.role.endswith("norm"):
            return nuslerp(*tensors[:2], 0.3, "BF16", axis=-1)
        norms = [parents[TensorKey(role, key.layer)] for role in ("attn_norm", "ffn_norm")]
        both = (np.concatenate([norm[n] for norm in norms], axis=1) for n in range(2))
        merged = nuslerp(*both, 0.3, "BF16", axis=-1)
        return merged[:, :COLUMNS] if key.role == "attn_norm" else merged[:, COLUMNS:]

    pool = stored_as_one(pool_of(parents, merge), ("attn_norm", "ffn_norm"))
    found = replayed(replay_nuslerp, pool)
    assert found.match == 1
    assert parameters(found)[0] == {"nuslerp_flatten": False}


def test_parts_of_unequal_width_and_parts_of_others_are_merged_alone():
    values = tuple(np.zeros((2, 4, width), np.float32) for width in (8, 8, 6, 8))
    keys = tuple(TensorKey(role, 0) for role in ("q", "k", "v", "o"))
    names = (("a", "f"), ("b", "f"), ("c", "f"), ("d", "o"))
    pool = Pool(("parent", "child"), keys, values, (), (), names)
    assert pool.stored_together("child") == ((0, 1), (2,), (3,))
    assert pool.stored_together("parent") == ((0,), (1,), (2,), (3,))
    assert replace(pool, stored_as=()).stored_together("child") == ((0,), (1,), (2,), (3,))


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_a_karcher_mean_is_recovered_with_the_order_of_its_parents(dtype):
    pool = pool_of(
        models(3, dtype=dtype, size=0.3),
        lambda key, v: karcher_mean(np.stack([v[2], v[0], v[1]]), dtype),
        n_parents=3,
    )
    found = replayed(replay_karcher, pool, dtype, parents=("a", "b", "c"))
    assert found.match == 1
    assert found.parents in set(permutations("abc"))
    assert found.parents[2] == "b"  # of the first two the sum is the same either way
    assert parameters(found)[1] == [None] * 3


def test_what_was_computed_in_float32_and_rounded_once_is_told():
    pool = pool_of(
        models(2), lambda key, v: round_to("BF16", multislerp(np.stack(v[:2]), (0.7, 0.3), "F32"))
    )
    found = replayed(replay_multislerp, pool)
    recipe = parameters(found)[2]
    assert found.match > 0.999
    assert (recipe["dtype"], recipe["out_dtype"]) == ("float32", "bfloat16")


# ---- strange models --------------------------------------------------------------------------


def strange(kind):
    parents = models(2)
    for tensors in parents.values():
        if kind == "zeros":
            tensors[0] = np.zeros_like(tensors[0])
        elif kind == "equal":
            tensors[1] = tensors[0]
        elif kind == "nan":
            tensors[0] = np.where(
                np.arange(tensors[0].size).reshape(tensors[0].shape) % 7, tensors[0], np.nan
            )
        elif kind == "constant":
            tensors[0], tensors[1] = np.ones_like(tensors[0]), np.ones_like(tensors[0]) * 2
    if kind == "one tensor":
        return {TensorKey("final_norm"): parents[TensorKey("attn_norm", 0)]}
    return parents


@pytest.mark.parametrize("replay", SPHERICAL)
@pytest.mark.parametrize("kind", ["zeros", "equal", "nan", "constant", "one tensor"])
def test_strange_parents_give_a_recipe_or_none(replay, kind):
    pool = pool_of(strange(kind), lambda key, v: round_to("BF16", (v[0] + v[1]) / 2))
    mixture = Mixture(("a", "b"), np.full((len(pool.keys), 2), 0.5), 1.0, 0.0, 0.0, np.inf)
    found = replay(pool, "child", "BF16", mixture, ["base"])
    if found is not None:
        assert 0 <= found.match <= 1
        assert np.isfinite(found.weights).all()
        assert yaml.safe_load(found.recipe_yaml)["merge_method"] == found.method


def test_a_stranger_is_no_merge_on_the_sphere():
    pool = pool_of(models(2), lambda key, v: v[-1][::-1].copy())
    for replay in SPHERICAL:
        found = replayed(replay, pool)
        assert found is None or found.match < 0.1


def test_slerp_wants_two_parents():
    pool = pool_of(models(3), lambda key, v: v[0], n_parents=3)
    assert replayed(replay_slerp, pool, parents=("a", "b", "c")) is None


# ---- with mergekit ---------------------------------------------------------------------------

ONE, TWO = "lanternworks/Wick-270k-Instruct", "j-okafor/wick-python"
BASE = "lanternworks/Wick-270k"
_MODELS = "models: [{}, {}]\n".format(
    f"{{model: {ONE}, parameters: {{weight: 0.3}}}}",
    f"{{model: {TWO}, parameters: {{weight: 1.0}}}}",
)
RECIPES = {
    "slerp": f"base_model: {ONE}\nmodels: [{{model: {ONE}}}, {{model: {TWO}}}]\n"
    "parameters: {t: [{filter: self_attn, value: [0, 0.4, 1]}, {value: 0.35}]}\n",
    "karcher": f"models: [{{model: {ONE}}}, {{model: {TWO}}}]\n",
    "nuslerp": _MODELS,
    "multislerp": _MODELS + f"base_model: {BASE}\n",
}


@pytest.mark.slow
@pytest.mark.parametrize(("method", "replay"), [
    ("slerp", replay_slerp), ("karcher", replay_karcher), ("nuslerp", replay_nuslerp),
    ("multislerp", replay_multislerp),
])  # fmt: skip
def test_recovered_recipes_rebuild_a_merge_of_mergekit(method, replay, pocket, tmp_path):
    pytest.importorskip("mergekit", reason="needs the extra 'merge'")
    config = read_config(f"merge_method: {method}\ndtype: bfloat16\n{RECIPES[method]}")
    with ExitStack() as opened:
        readers = {
            name: opened.enter_context(ModelReader(locate_folder(pocket / name.name)))
            for name in config.named()
        }
        scratch = opened.enter_context(scratch_folder(tmp_path))
        made = rebuild(config, readers, scratch, seed=None, output_bytes=10_000_000)
        child = shutil.copytree(made, tmp_path / "child")
    folders = [pocket / ONE, pocket / TWO, pocket / BASE, child]
    pool = pool_of_folders((ONE, TWO, BASE, "child"), folders)
    found = replayed(replay, pool, parents=(ONE, TWO), bases=(BASE,))
    assert found.method == method
    # torch sums the norms of Karcher means in an order of its own: a word in 28,000 differs.
    least = 0.9999 if method == "karcher" else 1
    assert found.match >= least
    options = VerifyOptions(models=pocket, scratch=tmp_path)
    assert verify(found.recipe_yaml, str(child), options).match.share >= least


def pool_of_folders(names, folders):
    """Whole tensors of stored models."""
    torch = pytest.importorskip("safetensors.torch")
    loaded = [
        {
            role_of(name).key: tensor.float().numpy()
            for file in sorted(folder.glob("*.safetensors"))
            for name, tensor in torch.load_file(file).items()
        }
        for folder in folders
    ]
    keys = sorted(set.intersection(*(set(one) for one in loaded)))
    values = [np.stack([np.atleast_2d(one[key]) for one in loaded]) for key in keys]
    return Pool(names, tuple(keys), tuple(values), (), tuple(v[0].size for v in values))


@pytest.mark.parametrize("n_partly", [2, 4])
def test_a_mean_on_the_sphere_is_told_by_the_tensors_that_were_read_whole(n_partly):
    """Norms of some rows give other last bits: they hide the recipe where most rows are such."""
    parents = models(2, size=0.5)
    pool = pool_of(parents, lambda _, tensors: karcher_mean(np.stack(tensors[:2]), "BF16"))
    partly = ROLES[:n_partly]
    values = tuple(
        array[:, :12] if key.role in partly else array
        for key, array in zip(pool.keys, pool.values, strict=True)
    )
    pool = replace(pool, values=values)
    mixture = fit_mixture(pool, "child", ("a", "b"), "BF16")
    found = sums._by_less_noise(pool, "child", "BF16", mixture, ())
    if n_partly == 4:  # vectors say too little
        assert found is None
        return
    assert (found.method, found.grade) == ("karcher", Grade.INFERRED)
    assert found.evidence[0].value == 1.0
    assert "read whole" in found.note
    assert "read whole" in found.evidence[0].text


def test_tensors_are_whole_where_nobody_asked_and_in_part_as_they_are_stored():
    parents = models(2)
    pool = pool_of(parents, lambda _, tensors: tensors[0], rows=slice(5))
    whole = pool.read_whole("child")
    assert {key.role for key in whole.keys} == {"attn_norm"}
    assert len(whole.values) == len(whole.n_words) == LAYERS
    unknown = replace(pool, n_words=())
    assert unknown.read_whole("child").keys == pool.keys
    fused = tuple((f"{key.layer}",) * 4 for key in pool.keys)
    together = replace(pool, stored_as=fused).read_whole("child")
    assert together.keys == ()
