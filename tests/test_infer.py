"""Inference on simulated families: perfect evidence must give the exact answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import gguf
import numpy as np
import pytest
import yaml
from gguf.quants import quantize

from lineage.infer.assemble import infer_lineage
from lineage.infer.change import describe_change
from lineage.infer.descent import resolve_descent, resolve_family
from lineage.infer.geometry import make_pool
from lineage.infer.quantised import dequantised, method_of, replay_codes
from lineage.infer.relatedness import bit_equality
from lineage.infer.surgery import numerical_rank
from lineage.infer.token_rows import aligned_values
from lineage.model import Grade, Kind
from lineage.weights.encodings import decode_rows, round_to
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.probe import SCHEME
from lineage.weights.roles import TensorKey
from simulated import LAYERS, VOCAB, D, Herd, fingerprint, shapes, stored

BIRTH = datetime(2025, 1, 1, tzinfo=UTC)


def infer(models, *, dated=True):
    """Findings by name; models are born in the order given."""
    made = [m if isinstance(m, Fingerprint) else fingerprint(name, m) for name, m in models.items()]
    dates = {name: BIRTH + timedelta(days=i) for i, name in enumerate(models)} if dated else {}
    return {finding.child: finding for finding in infer_lineage(made, dates).findings}


def parents(finding):
    return {share.parent: share.weight for share in finding.parents}


def mix(weights, *models):
    """A linear merge, each product added before it is rounded, as fused operations do."""
    merged = {}
    for key in models[0]:
        total = np.zeros_like(models[0][key])
        for weight, model in zip(weights, models, strict=True):
            total = (total + np.float64(np.float32(weight)) * model[key]).astype(np.float32)
        merged[key] = round_to("BF16", total / np.float32(np.sum(np.array(weights, np.float32))))
    return merged


def slerp(t, a, b):
    merged = {}
    for key in a:
        x, y = a[key].astype("f8"), b[key].astype("f8")
        cosine = (x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y)
        angle = np.arccos(cosine)
        first, second = (
            (np.sin((1 - t) * angle) / np.sin(angle), np.sin(t * angle) / np.sin(angle))
            if cosine <= 0.9995
            else (1 - t, t)
        )
        merged[key] = round_to("BF16", (first * x + second * y).astype("f4"))
    return merged


@pytest.fixture(scope="module")
def herd():
    """Two founders, a chain of four, siblings, and convergence on shared text."""
    h = Herd(11)
    base, other = stored(h.founder()), stored(h.founder())
    m = {"z/base": base, "z/other": other}
    m["a/one"] = h.train(base, 0.01, text=1)
    m["a/two"] = h.train(m["a/one"], 0.005, text=2)
    m["a/three"] = h.train(m["a/two"], 0.01, text=1)
    m["a/four"] = h.train(m["a/three"], 0.02, text=3)
    m["b/one"] = h.train(base, 0.01, text=1)
    m["b/two"] = h.train(base, 0.02, text=2)
    m["b/small"] = h.train(base, 0.002, text=3)
    m["o/one"] = h.train(other, 0.01, text=1)
    return h, m


def test_chains_and_siblings_are_told_apart_though_trained_on_the_same_text(herd):
    _, models = herd
    found = infer(models)
    assert found["z/base"].kind is Kind.FOUNDER
    assert found["z/other"].kind is Kind.FOUNDER
    expected = {
        "a/one": "z/base",
        "a/two": "a/one",
        "a/three": "a/two",
        "a/four": "a/three",
        "b/one": "z/base",
        "b/two": "z/base",
        "b/small": "z/base",
        "o/one": "z/other",
    }
    for child, parent in expected.items():
        assert parents(found[child]) == {parent: 1.0}, child
        assert found[child].kind is Kind.FINETUNE
        assert found[child].p_value is not None
        assert found[child].p_value < 1e-6


def test_without_dates_no_step_is_turned_round_and_most_are_decided(herd):
    _, models = herd
    found = infer(models, dated=False)
    true = {
        "a/one": "z/base", "a/two": "a/one", "a/three": "a/two", "a/four": "a/three",
        "b/one": "z/base", "b/two": "z/base", "b/small": "z/base",
    }  # fmt: skip
    decided = {child: parents(found[child]) for child in true if found[child].parents}
    assert decided == {child: {true[child]: 1.0} for child in decided}
    assert len(decided) >= 4
    for child in true.keys() - decided.keys():
        assert found[child].grade is Grade.ABSTAIN
        assert found[child].ties in ((), (true[child],))


def test_no_finding_says_nan_and_every_finding_has_evidence_or_a_note(herd):
    _, models = herd
    for finding in infer(models).values():
        assert finding.evidence or finding.note
        for fact in finding.evidence:
            assert fact.value is None or np.isfinite(fact.value)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.6, 0.4), (0.75, 0.25), (0.37, 0.63)])
def test_a_linear_merge_replays_with_its_weights_and_its_recipe(herd, weights):
    _, models = herd
    merged = mix(weights, models["a/one"], models["b/two"])
    found = infer(models | {"m/merge": merged})["m/merge"]
    assert (found.kind, found.grade, found.method) == (Kind.MERGE, Grade.PROVED, "linear")
    got = parents(found)
    assert got["a/one"] == pytest.approx(weights[0], abs=0.005)
    assert got["b/two"] == pytest.approx(weights[1], abs=0.005)
    recipe = yaml.safe_load(found.recipe_yaml)
    assert recipe["merge_method"] == "linear"
    assert {entry["model"] for entry in recipe["models"]} == {"a/one", "b/two"}


@pytest.mark.parametrize("weights", [(0.2, 0.4), (0.14, 0.5, 0.2), (1.0, 0.3, 0.5)])
def test_weights_that_do_not_add_up_and_the_order_of_parents_are_recovered(herd, weights):
    _, models = herd
    names = ["b/two", "a/one", "b/small"][: len(weights)]
    merged = mix(weights, *(models[name] for name in names))
    found = infer({**models, "m/merge": merged})["m/merge"]
    assert (found.grade, found.method) == (Grade.PROVED, "linear")
    assert found.evidence[0].value == 1.0
    recipe = yaml.safe_load(found.recipe_yaml)
    again = mix(
        [entry["parameters"]["weight"] for entry in recipe["models"]],
        *(models[entry["model"]] for entry in recipe["models"]),
    )
    assert all((again[key] == merged[key]).all() for key in merged)
    shares = np.array(weights) / sum(weights)
    assert parents(found) == pytest.approx(dict(zip(names, shares, strict=True)), abs=1e-9)


def test_weights_are_recovered_where_least_squares_gives_too_much_to_the_large_parents(herd):
    _, models = herd
    merged = mix((0.75, 0.05, 1.0), models["a/one"], models["b/two"], models["a/two"])
    found = infer(models | {"m/merge": merged})["m/merge"]
    assert (found.grade, found.method, found.evidence[0].value) == (Grade.PROVED, "linear", 1.0)
    shares = {"a/one": 0.75 / 1.8, "b/two": 0.05 / 1.8, "a/two": 1 / 1.8}
    assert parents(found) == pytest.approx(shares, abs=1e-9)


def test_a_linear_merge_of_three_replays(herd):
    _, models = herd
    merged = mix((0.5, 0.3, 0.2), models["a/two"], models["b/one"], models["b/two"])
    found = infer(models | {"m/merge": merged})["m/merge"]
    assert found.grade is Grade.PROVED
    assert parents(found) == pytest.approx({"a/two": 0.5, "b/one": 0.3, "b/two": 0.2}, abs=0.01)


def test_a_slerp_of_distant_relatives_is_told_from_a_linear_merge():
    h = Herd(21)
    base = stored(h.founder())
    far = {"a/x": h.train(base, 0.12), "a/y": h.train(base, 0.15)}
    models = {"z/base": base, **far, "m/merge": slerp(0.3, far["a/x"], far["a/y"])}
    found = infer(models)["m/merge"]
    assert (found.grade, found.method) == (Grade.PROVED, "slerp")
    assert parents(found) == pytest.approx({"a/x": 0.7, "a/y": 0.3}, abs=0.005)
    assert yaml.safe_load(found.recipe_yaml)["parameters"]["t"] in (0.3, 0.7)


def task_arithmetic(base, changed, dtype="BF16"):
    """The base plus weighted changes, every step rounded."""

    def rounded(values):
        return round_to(dtype, np.ascontiguousarray(values, dtype="f4"))

    merged = {}
    for key in base:
        total = 0.0
        for weight, model in changed:
            step = rounded(rounded(np.array([weight])) * rounded(model[key] - base[key]))
            total = rounded(total + step)
        merged[key] = rounded(base[key] + total)
    return merged


def test_task_arithmetic_replays_with_its_base_and_its_weights(herd):
    _, models = herd
    changed = ((0.8, models["a/two"]), (0.5, models["b/two"]))
    merged = task_arithmetic(models["z/base"], changed)
    found = infer(models | {"m/merge": merged})["m/merge"]
    assert (found.grade, found.method, found.base) == (Grade.PROVED, "task_arithmetic", "z/base")
    assert found.evidence[0].value == 1.0
    assert parents(found) == pytest.approx({"a/two": 8 / 13, "b/two": 5 / 13}, abs=1e-9)


def test_the_base_of_a_finely_stored_merge_is_not_the_merge_less_its_parents(herd):
    _, models = herd
    near = {name: models[name] for name in ("z/base", "a/two", "b/two")}
    changed = ((1.0, near["a/two"]), (0.41, near["b/two"]))
    merged = task_arithmetic(near["z/base"], changed, "F16")
    found = infer(near | {"m/merge": fingerprint("m/merge", merged, "F16")}, dated=False)
    assert (found["m/merge"].kind, found["m/merge"].base) == (Kind.MERGE, "z/base")
    assert not parents(found["z/base"])


def test_a_merge_does_not_turn_its_parents_into_its_children(herd):
    _, models = herd
    merged = mix((0.5, 0.5), models["a/one"], models["b/two"])
    found = infer(models | {"m/merge": merged})
    assert parents(found["a/one"]) == {"z/base": 1.0}
    assert parents(found["b/two"]) == {"z/base": 1.0}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [0.003, 0.02])
def test_parents_of_a_merge_never_become_its_children(seed, size):
    h = Herd(seed)
    base = stored(h.founder())
    a, b, c = h.train(base, size), h.train(base, size), h.train(base, 1.2 * size)
    models = {"f/base": base, "a/a": a, "b/b": b, "c/c": c, "m/m": mix((0.5, 0.5), a, b)}
    pool = make_pool([fingerprint(name, weights) for name, weights in models.items()])
    free = ["f/base", "a/a", "b/b", "c/c"]
    found = resolve_descent(pool, "f/base", free[1:], {}, {"m/m": ("a/a", "b/b")})
    assert {one.child: one.parents[0][0] for one in found} == dict.fromkeys(free[1:], "f/base")
    family = resolve_family(pool, free, {}, {"m/m": ("a/a", "b/b")})
    for one in family.descents:
        if one.parents[0][0] == "m/m":
            assert one.child not in ("a/a", "b/b")
            assert not one.decided


def test_a_family_of_equal_models_and_a_family_of_one_are_drawn():
    h = Herd(9)
    base = stored(h.founder())
    pool = make_pool([fingerprint(name, base) for name in ("a/a", "b/b", "c/c")])
    family = resolve_family(pool, list(pool.ids), {}, {})
    assert not any(one.decided for one in family.descents)
    alone = make_pool([fingerprint("a/a", base)])
    assert resolve_family(alone, ["a/a"], {}, {}).founder == "a/a"


def test_strange_models_in_a_family_stop_nothing_and_are_no_parents():
    h = Herd(12)
    base = stored(h.founder())
    child = h.train(base, 0.01)
    grandchild = h.train(child, 0.0005)
    models = {
        "f/base": base,
        "a/a": child,
        "b/b": grandchild,
        "c/c": dict(base),
        "d/d": dict(child),
    }
    strange = {
        "s/zero": lambda values: np.zeros_like(values),
        "s/constant": lambda values: np.full_like(values, 0.5),
        "s/nan": lambda values: np.where(h.rng.random(values.shape) < 0.1, np.nan, values),
        "s/inf": lambda values: np.where(h.rng.random(values.shape) < 0.01, np.inf, values),
        "s/huge": lambda values: values * np.float32(1e30),
        "s/shrunk": lambda values: round_to("BF16", values * np.float32(0.9)),
    }
    for name, change in strange.items():
        source = child if name in ("s/nan", "s/inf", "s/shrunk") else base
        models[name] = {key: change(values).astype(np.float32) for key, values in source.items()}
    for dated in (True, False):
        found = infer(models, dated=dated)
        assert found.keys() == models.keys()
        for finding in found.values():
            assert not {"s/zero", "s/constant", "s/huge"} & set(parents(finding))


def test_an_adapter_merged_in_full_precision_leaves_no_share_to_speak_of():
    h = Herd(10)
    base = stored(h.founder(), "F32")
    adapted = {
        key: values
        + np.float32(0.01)
        * np.outer(
            h.rng.standard_normal(values.shape[0]), h.rng.standard_normal(values.shape[1])
        ).astype(np.float32)
        if values.ndim == 2
        else values
        for key, values in base.items()
    }
    other = h.train(base, 0.01, dtype="F32")
    models = {"f/base": base, "a/adapted": adapted, "o/other": other}
    pool = make_pool([fingerprint(name, weights, "F32") for name, weights in models.items()])
    share, error = pool.carried("f/base", "a/adapted").share("o/other")
    assert np.isnan(share)
    assert error == np.inf


def test_a_fine_tuned_merge_descends_from_the_merge(herd):
    h, models = herd
    merged = mix((0.5, 0.5), models["a/one"], models["b/two"])
    found = infer(models | {"m/merge": merged, "m/tuned": h.train(merged, 0.01, text=7)})
    assert parents(found["m/tuned"]) == {"m/merge": 1.0}


def test_a_fine_tune_is_never_called_a_merge(herd):
    _, models = herd
    assert not any(finding.kind is Kind.MERGE for finding in infer(models).values())


def test_a_near_copy_is_no_merge_however_well_a_mixture_fits(herd):
    h, models = herd
    child = {key: values.copy() for key, values in models["b/two"].items()}
    child[TensorKey("q", 1)] = h.train({TensorKey("q", 1): child[TensorKey("q", 1)]}, 0.01)[
        TensorKey("q", 1)
    ]
    found = infer(models | {"c/near": child})["c/near"]
    assert found.kind is not Kind.MERGE
    assert parents(found) == {"b/two": 1.0}


@pytest.mark.parametrize("share", [0.5, 1.4])
def test_a_relative_that_moved_in_parallel_is_no_ancestor(herd, share):
    h, models = herd
    base, sibling = models["z/base"], models["b/one"]
    child = h.train(
        {key: base[key] + np.float32(share) * (sibling[key] - base[key]) for key in base}, 0.01
    )
    found = infer(models | {"c/parallel": child})["c/parallel"]
    assert "b/one" not in parents(found)


def test_duplicates_follow_the_date_and_do_not_inherit_children(herd):
    _, models = herd
    found = infer(models | {"c/copy": models["a/one"]})
    assert found["c/copy"].kind is Kind.DUPLICATE
    assert found["c/copy"].grade is Grade.PROVED
    assert parents(found["c/copy"]) == {"a/one": 1.0}
    assert parents(found["a/two"]) == {"a/one": 1.0}


def test_a_re_upload_with_an_earlier_date_is_told_by_its_following(herd):
    _, models = herd
    pair = {"a/original": models["a/one"], "b/mirror": models["a/one"]}
    made = [fingerprint(name, weights) for name, weights in pair.items()]
    dates = {"a/original": BIRTH + timedelta(days=9), "b/mirror": BIRTH}
    liked = {"a/original": 240, "b/mirror": 2}
    by_likes = {f.child: f for f in infer_lineage(made, dates, liked).findings}
    assert parents(by_likes["b/mirror"]) == {"a/original": 1.0}
    by_date = {f.child: f for f in infer_lineage(made, dates, {}).findings}
    assert parents(by_date["a/original"]) == {"b/mirror": 1.0}


def test_equal_files_are_duplicates_whatever_was_sampled():
    weights = Herd(0).founder()
    models = {
        "a/x": fingerprint("a/x", weights, "F32", file_digests=("s",)),
        "b/y": fingerprint("b/y", weights, "F32", file_digests=("s",)),
    }
    assert infer(models)["b/y"].evidence[0].text == "the weight files have equal sha256 digests"


@pytest.mark.parametrize("to", ["BF16", "F16"])
def test_a_cast_comes_from_the_finer_type_even_when_dates_say_otherwise(to):
    weights = Herd(1).founder()
    models = {
        "a/cast": fingerprint("a/cast", stored(weights, to), to),
        "b/full": fingerprint("b/full", weights, "F32"),
    }
    found = infer(models)
    assert found["a/cast"].kind is Kind.CAST
    assert parents(found["a/cast"]) == {"b/full": 1.0}
    assert [fact.name for fact in found["a/cast"].evidence] == ["equal_after_cast"]
    assert not found["b/full"].parents


def test_an_upcast_is_known_by_its_empty_low_bits():
    weights = stored(Herd(1).founder())
    models = {
        "a/wide": fingerprint("a/wide", weights, "F32"),
        "b/narrow": fingerprint("b/narrow", weights, "BF16"),
    }
    found = infer(models)
    assert parents(found["a/wide"]) == {"b/narrow": 1.0}
    kept = found["a/wide"].evidence[-1]
    assert (kept.name, kept.value) == ("equal_values", 1.0)
    assert not found["b/narrow"].parents


def test_a_wider_model_of_which_one_word_differs_is_no_cast():
    narrow = stored(Herd(1).founder())
    wide = dict(narrow)
    key = next(key for key in wide if wide[key].ndim == 2)
    wide[key] = wide[key].copy()
    wide[key][0, 0] += np.float32(1e-3)
    both = {
        "b/narrow": fingerprint("b/narrow", narrow),
        "a/wide": fingerprint("a/wide", wide, "F32"),
    }
    assert infer(both)["a/wide"].kind is not Kind.CAST
    both["a/wide"] = fingerprint("a/wide", narrow, "F32")
    assert infer(both)["a/wide"].kind is Kind.CAST


def test_a_cast_that_lost_the_tiniest_values_alone_is_as_well_a_parent():
    h = Herd(1)
    weights = stored(h.founder())
    tiny = {k: np.where(np.abs(v) < 1e-4, np.float32(1e-9), v) for k, v in weights.items()}
    half = stored(tiny, "F16")
    child = h.train(half, 0.01)
    models = {
        "a/half": fingerprint("a/half", half, "F16"),
        "b/first": fingerprint("b/first", tiny, "BF16"),
        "c/child": fingerprint("c/child", child, "BF16"),
    }
    found = infer(models)
    assert parents(found["a/half"]) == {"b/first": 1.0}
    kept = found["a/half"].evidence[-1]
    assert kept.name == "equal_values"
    assert 0.99 < kept.value < 0.9995
    assert found["c/child"].grade is Grade.TIE
    assert found["c/child"].ties == ("b/first", "a/half")


def quantised(name, weights, dtype):
    """A GGUF's samples: matrices in blocks, gains in float32, as the converter writes them."""
    samples = {}
    for key, values in weights.items():
        kind, words = "F32", np.ascontiguousarray(values, "<f4").tobytes()
        if values.ndim == 2:
            wide = np.concatenate([values, values[:, : -values.shape[1] % 32]], axis=1)
            kind, words = dtype, quantize(wide, gguf.GGMLQuantizationType[dtype]).tobytes()
            values = wide
        rows = tuple(range(len(values))) if values.ndim == 2 else (0,)
        samples[key] = Sample(str(key), kind, values.shape, rows, words)
    return Fingerprint(name, "0" * 40, SCHEME, "gguf", samples)


@pytest.mark.parametrize("dtype", ["Q8_0", "Q4_0"])
def test_a_quantisation_is_proved_by_its_codes_and_finds_the_right_sibling(dtype):
    h = Herd(31)
    # Widths of whole blocks, as every real matrix has.
    base = {
        key: np.resize(values, (*values.shape[:-1], 64 if values.shape[-1] == D else 96))
        for key, values in stored(h.founder()).items()
    }
    child = h.train(base, 0.004, text=1)
    near = h.train(child, 0.001, text=2)
    models = {
        "z/base": base,
        "a/child": child,
        "a/near": near,
        "q/gguf": quantised("q/gguf", child, dtype),
    }
    found = infer(models)["q/gguf"]
    assert (found.kind, found.grade, found.method) == (Kind.QUANTIZED, Grade.PROVED, dtype)
    assert parents(found) == {"a/child": 1.0}


def test_a_quantisation_of_an_absent_model_abstains():
    h = Herd(32)
    base = {
        key: np.resize(values, (*values.shape[:-1], 64 if values.shape[-1] == D else 96))
        for key, values in stored(h.founder()).items()
    }
    absent = h.train(base, 0.05)
    models = {"z/base": base, "q/gguf": quantised("q/gguf", absent, "Q8_0")}
    found = infer(models)["q/gguf"]
    assert found.grade is Grade.ABSTAIN
    assert not found.parents


def test_a_quantisation_that_nothing_can_be_compared_with_abstains():
    h = Herd(33)
    base = {
        key: np.resize(values, (*values.shape[:-1], 64 if values.shape[-1] == D else 96))
        for key, values in stored(h.founder()).items()
    }
    other = {key: values[..., : values.shape[-1] // 2] for key, values in base.items()}
    for models in ({}, {"z/other": other}):
        found = infer({**models, "q/gguf": quantised("q/gguf", base, "Q8_0")})["q/gguf"]
        assert (found.kind, found.grade) == (Kind.QUANTIZED, Grade.ABSTAIN)
        assert not found.parents


def test_models_that_share_rows_and_not_widths_have_no_words_in_common():
    h = Herd(34)
    base = stored(h.founder())
    narrow = {
        key: values[..., :60] if key.role == "down" else values for key, values in base.items()
    }
    a, b = fingerprint("a", base), fingerprint("b", narrow)
    assert bit_equality(a, b) == 1.0  # of all the others
    infer({"a": base, "b": narrow})


def plain(matrix, rows, *, transposed=False):
    words = np.ascontiguousarray(matrix[list(rows)], "<f4").tobytes()
    return Sample("w", "F32", matrix.shape, tuple(rows), words, transposed)


def made_of(name, *samples):
    found = {TensorKey("up", layer): sample for layer, sample in enumerate(samples)}
    return Fingerprint(name, "0" * 40, SCHEME, "safetensors", found)


GPTQ = "GPTQ:bits=4,group=8,groups=2,order=given,scale=F16,zeros=v2"


def gptq(rows=tuple(range(15, -1, -1)), shape=(64, 24)):
    """Random codes as GPTQ stores them: inputs as rows; and the values of these rows."""
    rng = np.random.default_rng(0)
    extras = {
        "zeros": rng.bytes(2 * 12),
        "scales": (1 + rng.random((2, 24))).astype(np.float16).tobytes(),
        "groups": (np.arange(16, dtype=np.int32) // 8).tobytes(),
    }
    sample = Sample("w", GPTQ, shape, rows, rng.bytes(16 * 12), True, extras)
    return sample, decode_rows(GPTQ, {"words": sample.words, **extras}, 16, 24)


def test_a_transposed_quantisation_meets_plain_rows_where_they_cross():
    sample, values = gptq()
    original = np.full((24, 64), 99, np.float32)
    original[:, list(sample.rows)] = values.T
    child = made_of("q/gptq", sample)
    rows = (2, 5, 9, 20)
    share, evidence = replay_codes(child, made_of("a/b", plain(original, rows)))
    assert (share, evidence.value) == (1, 1)
    assert "quantising a/b to GPTQ gives 100.00 %" in evidence.text
    original[5, list(sample.rows)] += 100  # one row of four is a stranger's
    share, _ = replay_codes(child, made_of("a/b", plain(original, rows)))
    assert share == pytest.approx(0.75, abs=0.05)
    assert share < 0.8
    for other in (original[:, :60], original[:23], original.T):
        assert replay_codes(child, made_of("a/b", plain(other, (2, 5)))) is None


def test_a_transposed_quantisation_meets_plain_rows_that_lie_as_its_own():
    sample, values = gptq()
    original = np.full((64, 24), 99, np.float32)
    original[list(sample.rows)] = values
    child = made_of("q/gptq", sample)
    other = plain(original, (1, 2, 12, 40), transposed=True)
    share, _ = replay_codes(child, made_of("a/b", other))
    assert share == 1  # of the three rows that both have
    original[12] += 100
    share, _ = replay_codes(child, made_of("a/b", plain(original, (1, 2, 12), transposed=True)))
    assert share == pytest.approx(2 / 3, abs=0.07)
    wide = plain(np.zeros((64, 25), np.float32), (1, 2), transposed=True)
    assert replay_codes(child, made_of("a/b", wide)) is None
    assert replay_codes(child, made_of("a/b", plain(original, (40, 41), transposed=True))) is None


def test_quantised_blocks_meet_the_rows_that_both_have():
    original = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    kind = gguf.GGMLQuantizationType.Q8_0

    def blocks(rows):
        return Sample("w", "Q8_0", (32, 32), rows, quantize(original[list(rows)], kind).tobytes())

    child = made_of("q/gguf", blocks((0, 1, 2, 3)))
    share, _ = replay_codes(child, made_of("a/b", plain(original, (1, 3, 9))))
    assert share == 1
    stranger = plain(-original, (0, 1, 2, 3))
    two = made_of("q/gguf", blocks((0, 1, 2, 3)), blocks((0, 1, 2, 3)))
    for samples in ((plain(original, range(4)), stranger), (stranger, plain(original, range(4)))):
        share, _ = replay_codes(two, made_of("a/b", *samples))
        assert share == pytest.approx(0.5, abs=0.02)
    for other in (
        plain(original, (4, 5)),  # no row of the child's
        plain(original[:, :16], (0, 1), transposed=True),
        plain(np.tile(original, 2), (0, 1)),
    ):
        assert replay_codes(child, made_of("a/b", other)) is None
    assert replay_codes(child, made_of("a/b")) is None


def test_a_quantised_model_decodes_to_the_same_samples_in_float32():
    sample, values = gptq()
    child = made_of("q/gptq", sample)
    (found,) = dequantised(child).samples.values()
    assert (found.dtype, found.rows, found.shape) == ("F32", sample.rows, sample.shape)
    assert found.transposed
    np.testing.assert_array_equal(found.values, values)
    assert (method_of(child), dequantised(child).scheme) == ("GPTQ", SCHEME)
    sample = replace(plain(values, range(16)), dtype="INT8:code=I8,columns=0,rows=0,scale=F32")
    assert method_of(made_of("q/int8", sample)) == "int8"


def relayered(weights, order):
    outside = {key: values for key, values in weights.items() if key.layer < 0}
    return outside | {
        TensorKey(key.role, new): values
        for new, old in enumerate(order)
        for key, values in weights.items()
        if key.layer == old
    }


def test_pruned_layers_are_mapped_exactly(herd):
    _, models = herd
    found = infer(models | {"p/short": relayered(models["a/two"], [0, 2, 3])})["p/short"]
    assert (found.kind, found.grade) == (Kind.PRUNED, Grade.PROVED)
    assert [(s.parent, s.parent_layer) for s in found.layer_map] == [
        ("a/two", 0),
        ("a/two", 2),
        ("a/two", 3),
    ]


def test_a_self_stack_is_mapped_exactly(herd):
    _, models = herd
    order = [0, 1, 2, 1, 2, 3]
    found = infer(models | {"p/tall": relayered(models["b/two"], order)})["p/tall"]
    assert found.kind is Kind.PASSTHROUGH
    assert [s.parent_layer for s in found.layer_map] == order
    assert parents(found) == {"b/two": 1.0}


def test_a_passthrough_of_two_parents_is_mapped_exactly(herd):
    _, models = herd
    half = LAYERS // 2
    first, second = models["a/one"], models["b/two"]
    both = {key: (first if key.layer < half else second)[key] for key in shapes()}
    found = infer(models | {"p/frank": both})["p/frank"]
    assert found.kind is Kind.PASSTHROUGH
    assert [s.parent for s in found.layer_map] == ["a/one"] * half + ["b/two"] * half


def test_what_was_trained_after_pruning_descends_from_the_pruned_model(herd):
    h, models = herd
    short = relayered(models["a/two"], [0, 2, 3])
    found = infer(models | {"p/short": short, "p/tuned": h.train(short, 0.01, text=5)})
    assert parents(found["p/tuned"]) == {"p/short": 1.0}


def test_a_pruned_and_trained_model_finds_its_layers_without_the_pruned_one(herd):
    h, models = herd
    tuned = h.train(relayered(models["a/two"], [0, 2, 3]), 0.02, text=5)
    found = infer(models | {"p/tuned": tuned})["p/tuned"]
    assert found.kind is Kind.PRUNED
    assert found.grade is Grade.INFERRED
    assert [s.parent_layer for s in found.layer_map] == [0, 2, 3]


def test_experts_are_traced_to_dense_models(herd):
    _, models = herd
    mixture = {k: v for k, v in models["a/one"].items() if k.role not in ("up", "gate", "down")}
    for expert, name in enumerate(("a/two", "b/two")):
        for key, values in models[name].items():
            if key.role in ("up", "gate", "down"):
                mixture[TensorKey(key.role, key.layer, expert)] = values
    found = infer(models | {"e/moe": mixture})["e/moe"]
    assert found.kind is Kind.MOE
    assert parents(found) == {"a/two": 0.5, "b/two": 0.5}
    assert found.base == "a/one"


def test_permuted_hidden_units_are_recognised(herd):
    h, models = herd
    order = h.rng.permutation(96)
    child = dict(models["b/two"])
    for key in list(child):
        if key.role in ("up", "gate"):
            child[key] = child[key][order]
        if key.role == "down":
            child[key] = child[key][:, order]
    found = infer(models | {"p/perm": child})["p/perm"]
    assert found.kind is Kind.PERMUTED
    assert parents(found) == {"b/two": 1.0}


def test_appended_tokens_make_a_vocabulary_edit(herd):
    h, models = herd
    child = dict(models["a/one"])
    for role in ("embed", "head"):
        key = TensorKey(role)
        extra = round_to("BF16", h.rng.standard_normal((8, D)).astype("f4"))
        child[key] = np.concatenate([child[key], extra])
    found = infer(models | {"v/more": child})["v/more"]
    assert found.kind is Kind.VOCABULARY
    assert found.grade is Grade.PROVED
    assert parents(found) == {"a/one": 1.0}


def test_a_bias_with_one_number_a_token_is_edited_with_the_vocabulary(herd):
    h, models = herd
    bias = TensorKey("logits.bias")
    parent = models["a/one"] | {bias: round_to("BF16", h.rng.standard_normal(VOCAB).astype("f4"))}
    child = dict(parent)
    for key in (TensorKey("embed"), TensorKey("head")):
        extra = round_to("BF16", h.rng.standard_normal((8, D)).astype("f4"))
        child[key] = np.concatenate([child[key], extra])
    child[bias] = np.concatenate([parent[bias], np.zeros(8, "f4")])
    both = {"a/one": parent, "v/more": child}
    found = infer(both)
    assert (found["v/more"].kind, found["v/more"].grade) == (Kind.VOCABULARY, Grade.PROVED)
    assert parents(found["v/more"]) == {"a/one": 1.0}
    child[bias] = child[bias] + np.float32(1)
    assert infer(both)["v/more"].grade is not Grade.PROVED


def test_numbers_of_renumbered_tokens_are_paired_by_token():
    bias, embed = TensorKey("logits.bias"), TensorKey("embed")
    rows = np.arange(12, dtype="f4").reshape(6, 2)
    a = fingerprint("a/a", {embed: rows, bias: rows[:, 0]})
    b = fingerprint("b/b", {embed: rows[[2, 0, 1, 4]], bias: rows[[2, 0, 1, 4], 0]})
    a = replace(a, tokens=dict(enumerate("abcdef")))
    b = replace(b, tokens=dict(enumerate("cabe")))
    ours, theirs = aligned_values(b, a, bias)
    assert sorted(ours.ravel()) == [0, 2, 4, 8]
    assert np.array_equal(ours, theirs)


def test_a_merged_adapter_has_low_rank_and_a_removed_direction_rank_one(herd):
    h, models = herd
    base = models["z/base"]
    tuned = dict(base)
    for key in base:
        if key.role in ("q", "v"):
            step = h.rng.standard_normal((D, 4)) @ h.rng.standard_normal((4, D))
            tuned[key] = round_to("BF16", (base[key] + 0.003 * step).astype("f4"))
    change = describe_change(fingerprint("l/lora", tuned), fingerprint("z/base", base))
    assert (change.kind, change.rank) == (Kind.LORA_MERGED, 4)
    direction = h.rng.standard_normal(D)
    direction /= np.linalg.norm(direction)
    cleaned = dict(base)
    for key in base:
        if key.role in ("o", "down"):
            removed = np.outer(direction, direction @ base[key])
            cleaned[key] = round_to("BF16", (base[key] - removed).astype("f4"))
    change = describe_change(fingerprint("l/abl", cleaned), fingerprint("z/base", base))
    assert change.kind is Kind.ABLITERATED
    doubled = {key: round_to("BF16", (2 * base[key] - cleaned[key]).astype("f4")) for key in base}
    change = describe_change(fingerprint("l/more", doubled), fingerprint("z/base", base))
    assert change.kind is not Kind.ABLITERATED


def test_large_changes_are_continued_pretraining(herd):
    h, models = herd
    found = infer(models | {"c/cpt": h.train(models["z/base"], 0.2, text=9)})["c/cpt"]
    assert found.kind is Kind.CONTINUED_PRETRAINING


def test_rank_of_a_low_rank_matrix_in_noise_is_recovered():
    rng = np.random.default_rng(0)
    for rank in (1, 4, 16):
        signal = rng.standard_normal((64, rank)) @ rng.standard_normal((rank, 96))
        assert numerical_rank(signal + 0.1 * rng.standard_normal((64, 96)), 0.1) == rank
        assert numerical_rank(signal, 0.0) == rank


def test_without_dates_and_with_one_pair_the_direction_is_not_asserted_lightly():
    h = Herd(41)
    base = stored(h.founder())
    child = h.train(base, 0.0005)
    found = infer({"a/x": base, "b/y": child}, dated=False)
    for finding in found.values():
        if finding.parents:  # decided: then it must be the right way round
            assert parents(finding) == {"a/x": 1.0}


def test_the_founder_wins_by_pooled_evidence_against_one_wrong_date(herd):
    _, models = herd
    names = [name for name in models if name[0] in "ab" or name == "z/base"]
    pool = make_pool([fingerprint(name, models[name]) for name in names])
    dates = {name: BIRTH + timedelta(days=i) for i, name in enumerate(sorted(names))}
    dates["z/base"] = BIRTH - timedelta(days=5)
    assert resolve_family(pool, names, dates, {}).founder == "z/base"


def test_adapters_abstain():
    factor = np.zeros((4, D), "f4")
    samples = {
        TensorKey("q.lora_a", 0): Sample("x", "F32", (4, D), tuple(range(4)), factor.tobytes())
    }
    adapter = Fingerprint("l/adapter", "0" * 40, SCHEME, "adapter", samples)
    found = infer({"z/base": Herd(0).founder(), "l/adapter": adapter})["l/adapter"]
    assert (found.kind, found.grade, found.rank) == (Kind.ADAPTER, Grade.ABSTAIN, 4)


def test_an_adapter_finds_its_base_through_the_model_it_was_merged_into(herd):
    h, models = herd
    base = models["a/two"]
    merged, factors = dict(base), {}
    for key in base:
        if key.role in ("q", "v"):
            up, down = h.rng.standard_normal((D, 4)), h.rng.standard_normal((4, D))
            merged[key] = round_to("BF16", (base[key] + 0.003 * up @ down).astype("f4"))
            for side, factor in (("lora_b", up), ("lora_a", down)):
                words = factor.astype("<f4").tobytes()
                factors[TensorKey(f"{key.role}.{side}", key.layer)] = Sample(
                    "x", "F32", factor.shape, tuple(range(len(factor))), words
                )
    adapter = Fingerprint("l/adapter", "0" * 40, SCHEME, "safetensors", factors)
    found = infer(models | {"l/merged": merged, "l/adapter": adapter})
    assert found["l/merged"].kind is Kind.LORA_MERGED
    assert parents(found["l/merged"]) == {"a/two": 1.0}
    assert parents(found["l/adapter"]) == {"a/two": 1.0}
    assert found["l/adapter"].grade is Grade.INFERRED
    other = {
        key: Sample(
            "x",
            "F32",
            sample.shape,
            sample.rows,
            h.rng.standard_normal(sample.shape).astype("<f4").tobytes(),
        )
        for key, sample in factors.items()
    }
    stranger = Fingerprint("l/stranger", "0" * 40, SCHEME, "safetensors", other)
    found = infer(models | {"l/merged": merged, "l/stranger": stranger})
    assert found["l/stranger"].grade is Grade.ABSTAIN
