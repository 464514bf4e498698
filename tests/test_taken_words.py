"""Merges of which a parent is missing, told by the words that are exactly one model's."""

from __future__ import annotations

import numpy as np
import pytest

from lineage.infer.geometry import make_pool
from lineage.infer.methods.taken_words import find_taken
from lineage.infer.settle.family import OpenFamily
from lineage.infer.settle.merges import settle_merges
from lineage.model import Finding, Grade, Kind
from lineage.weights.encodings import round_to
from lineage.weights.roles import TensorKey
from simulated import Herd, fingerprint, stored

EMBED = TensorKey("embed")
OLD = ("z/base", "p/one", "p/three", "d/child")


@pytest.fixture(scope="module")
def herd():
    """A base, fine-tunes of it far enough to tell their words apart, a child of one of them."""
    h = Herd(41)
    base = stored(h.founder(layers=2))
    models = {"z/base": base}
    for number, name in enumerate(("p/one", "p/missing", "p/three")):
        models[name] = h.train(base, 0.05 + 0.01 * number, text=number)
    models["d/child"] = h.train(models["p/one"], 0.03, text=5)
    return models


def ties(models, names, weights, density, dtype="BF16"):
    """TIES, word by word and tensor by tensor: trim, elect, take the mean of those that agree."""
    merged = {}
    for key, base in models["z/base"].items():
        kept = []
        for name in names:
            delta = models[name][key] - base
            least = np.quantile(np.abs(delta), 1 - density)
            kept.append(np.where(np.abs(delta) >= least, delta, 0))
        elected = np.sign(sum(w * d for w, d in zip(weights, kept, strict=True)))
        agrees = [(np.sign(d) == elected) & (d != 0) for d in kept]
        share = sum(w * a for w, a in zip(weights, agrees, strict=True))
        total = sum(w * d * a for w, d, a in zip(weights, kept, agrees, strict=True))
        mean = np.where(share > 0, total / np.where(share > 0, share, 1), 0)
        merged[key] = round_to(dtype, (base + mean).astype(np.float32))
    return merged


def asked(models, child, name="m/child", among=OLD, dtype="BF16"):
    members = {one: fingerprint(one, models[one]) for one in among if one != name}
    members[name] = fingerprint(name, child, dtype)
    return find_taken(make_pool(list(members.values())), name, dtype, sorted(members))


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize(("weights", "density"), [((0.5, 0.5), 0.5), ((0.3, 0.7), 0.7)])
def test_a_merge_with_a_parent_that_nobody_published_names_the_other_and_the_base(
    herd, weights, density, dtype
):
    found = asked(herd, ties(herd, ("p/one", "p/missing"), weights, density, dtype), dtype=dtype)
    assert (found.parent, found.base) == ("p/one", "z/base")
    assert found.taken > 0.2
    assert found.left > 0.04
    assert found.density == pytest.approx(density, abs=0.04)


def test_a_base_that_is_stored_finer_is_read_as_the_merge_loads_it(herd):
    merged = ties(herd, ("p/one", "p/missing"), (0.5, 0.5), 0.5)
    rng = np.random.default_rng(3)
    finer = {
        key: values * (1 + 1e-3 * rng.uniform(-1, 1, values.shape)).astype(np.float32)
        for key, values in herd["z/base"].items()
    }
    kept = {k: round_to("BF16", finer[k]) == v for k, v in herd["z/base"].items()}
    base = {k: np.where(kept[k], finer[k], v) for k, v in herd["z/base"].items()}
    assert any((base[key] != herd["z/base"][key]).mean() > 0.5 for key in base)
    members = [
        fingerprint("z/base", base, "F32"),
        fingerprint("p/one", herd["p/one"]),
        fingerprint("m/child", merged),
    ]
    found = find_taken(make_pool(members), "m/child", "BF16", ["z/base", "p/one"])
    assert (found.base, found.parent) == ("z/base", "p/one")
    assert found.density == pytest.approx(0.5, abs=0.05)


def test_it_is_settled_as_a_merge_with_one_parent_whose_share_is_a_lower_bound(herd):
    members = {name: fingerprint(name, herd[name]) for name in OLD}
    merged = ties(herd, ("p/one", "p/missing"), (0.5, 0.5), 0.5)
    members["m/merge"] = fingerprint("m/merge", merged)
    family = OpenFamily(members, {}, {}, {})
    settle_merges(family, make_pool(list(members.values())))
    assert family.findings.keys() == {"m/merge"}
    found = family.findings["m/merge"]
    assert (found.kind, found.grade, found.base) == (Kind.MERGE, Grade.INFERRED, "z/base")
    assert (found.method, found.recipe_yaml) == ("ties", None)
    (share,) = found.parents
    assert share.parent == "p/one"
    assert (share.low, share.high) == (share.weight, 1.0)
    assert 0.3 < share.weight < 0.5
    assert "not read" in found.note
    assert {fact.name for fact in found.evidence} == {"words_taken", "words_left", "densities"}


def test_neither_parents_nor_bases_nor_children_have_words_of_their_merge(herd):
    merged = ties(herd, ("p/one", "p/missing"), (0.5, 0.5), 0.5)
    models = herd | {"m/merge": merged, "d/after": Herd(3).train(merged, 0.02)}
    names = (*OLD, "m/merge", "d/after")
    for name in set(names) - {"m/merge"}:
        assert asked(models, models[name], name, names) is None, name


def test_casts_and_merges_are_not_what_words_are_taken_from(herd):
    merged = ties(herd, ("p/one", "p/missing"), (0.5, 0.5), 0.5)
    for kind in (Kind.CAST, Kind.QUANTIZED, Kind.MERGE):
        members = {name: fingerprint(name, herd[name]) for name in OLD}
        members["m/merge"] = fingerprint("m/merge", merged)
        family = OpenFamily(members, {}, {}, {})
        family.settle(Finding("p/one", kind, Grade.ABSTAIN))
        settle_merges(family, make_pool(list(members.values())))
        assert "m/merge" not in family.findings


def picked(models, names, seed=0, *, whole=False):
    """Each word, or each `whole` tensor, one of several models', at random."""
    rng = np.random.default_rng(seed)
    found = {}
    for key, base in models["z/base"].items():
        which = rng.integers(len(names), size=() if whole else base.shape)
        found[key] = np.choose(which, [models[name][key] for name in names])
    return found


def test_tensors_of_two_models_are_no_words_of_two_models(herd):
    names = ("p/one", "z/base", "p/missing")
    by_word, by_tensor = (picked(herd, names, whole=whole) for whole in (False, True))
    assert asked(herd, by_word).taken > 0.2
    assert asked(herd, by_word).density is None  # nothing was trimmed
    assert asked(herd, by_tensor) is None


def test_words_that_come_to_rest_next_to_a_models_are_not_taken_from_it(herd):
    """One rounding step up or down for most of the words: what small steps of training do."""
    chosen = picked(herd, ("p/one", "z/base", "p/missing"))
    rng = np.random.default_rng(1)
    moved = {
        key: round_to("BF16", (w * (1 + rng.choice([-1, 0, 1], w.shape) / 128)).astype("f4"))
        for key, w in chosen.items()
    }
    assert asked(herd, chosen) is not None
    assert asked(herd, moved) is None


@pytest.mark.parametrize("shares", [(0.95, 0.01, 0.04), (0.06, 0.5, 0.44)])
def test_few_words_of_either_are_too_few(shares):
    """Of the parent, whose small changes were trimmed, of the base, and of another."""
    h = Herd(43)
    base = stored(h.founder(layers=2))
    far = {"z/base": base, "p/one": h.train(base, 0.8), "p/missing": h.train(base, 0.8)}
    rng = np.random.default_rng(2)
    child = {}
    for key, origin in base.items():
        trimmed = np.argsort(np.argsort(np.abs(far["p/one"][key] - origin).ravel()))
        trimmed = trimmed.reshape(origin.shape) < shares[1] * origin.size
        other = rng.random(origin.shape) < shares[2] / (1 - shares[1])
        child[key] = np.where(other, far["p/missing"][key], far["p/one"][key])
        child[key] = np.where(trimmed, origin, child[key])
    assert asked(far, child, among=("z/base", "p/one")) is None
    assert asked(far, ties(far, ("p/one", "p/missing"), (1, 1), 0.5), among=("z/base", "p/one"))


def test_of_two_bases_the_one_with_more_words_is_told(herd):
    """Though of the words that lie far from the other more are the parent's."""
    merged = ties(herd, ("p/one", "p/missing"), (0.5, 0.5), 0.5)
    rng = np.random.default_rng(6)
    near = {
        key: np.where(
            (merged[key] != herd["p/one"][key]) & (rng.random(base.shape) < 0.5),
            herd["p/one"][key],
            base,
        )
        for key, base in herd["z/base"].items()
    }
    for name in ("a/near", "zz/near"):
        found = asked(herd | {name: near}, merged, among=("z/base", "p/one", name))
        assert (found.base, found.parent) == ("z/base", "p/one")


def test_tokens_that_never_moved_and_small_tensors_do_not_speak_against_it(herd):
    """Where most rows stay as they were nothing is trimmed."""
    small = TensorKey("router", 0)
    rng = np.random.default_rng(4)
    models = {}
    for name, model in herd.items():
        embed = herd["z/base"][EMBED].copy()
        embed[:8] = model[EMBED][:8]
        models[name] = model | {
            EMBED: embed,
            small: stored({small: rng.normal(size=(2, 3))})[small],
        }
    merged = ties(models, ("p/one", "p/missing"), (0.5, 0.5), 0.5)
    merged[small] = models["p/missing"][small]
    found = asked(models, merged)
    assert (found.base, found.parent) == ("z/base", "p/one")


def test_models_that_lie_near_each_other_have_no_words_to_tell_them_by(herd):
    near = herd | {"p/one": Herd(5).train(herd["z/base"], 0.002)}
    assert asked(near, picked(near, ("p/one", "z/base", "p/missing"))) is None


def test_models_without_matrices_of_layers_are_not_asked(herd):
    vectors = {
        name: {key: w for key, w in model.items() if w.ndim == 1} for name, model in herd.items()
    }
    assert asked(vectors, vectors["p/three"], "p/three") is None


@pytest.mark.parametrize("among", [(), ("z/base",), ("z/base", "p/one")])
def test_who_has_fewer_than_two_relatives_takes_no_words_of_two(herd, among):
    merged = ties(herd, ("p/one", "p/missing"), (0.5, 0.5), 0.5)
    members = [fingerprint(name, herd[name]) for name in among]
    pool = make_pool([*members, fingerprint("m/child", merged)])
    assert (find_taken(pool, "m/child", "BF16", among) is None) == (len(among) < 2)


def test_an_upcast_model_is_read_by_the_grid_of_its_values(herd):
    """Light steps on a coarse grid come to rest on others' words, and on none beside in float32."""
    light = Herd(8)
    models = {"z/base": herd["z/base"], "p/one": light.train(herd["z/base"], 0.004)}
    child = light.train(models["p/one"], 0.004)
    for dtype in ("BF16", "F16", "F32"):
        assert asked(models, child, among=("z/base", "p/one"), dtype=dtype) is None
    far = ties(herd, ("p/one", "p/missing"), (0.5, 0.5), 0.5)
    assert asked(herd, far, dtype="F32").parent == "p/one"
