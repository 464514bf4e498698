"""Quantised children: cells of codes, and whose values were given these codes."""

from __future__ import annotations

from dataclasses import replace

import gguf
import numpy as np
import pytest
from gguf import quants
from hypothesis import given
from hypothesis import strategies as st

from crawler.headers import GGML_BLOCKS
from lineage.infer.quantised import CODES_MISSED, Coded, levels_used, replay_codes, replay_tensor
from lineage.infer.settle.family import OpenFamily
from lineage.infer.settle.quantised import settle_quantised
from lineage.model import Evidence, Finding, Grade, Kind, ParentShare
from lineage.weights.encodings import cells, contains, decode_rows, round_to
from lineage.weights.encodings.cells import ggml_cells
from lineage.weights.encodings.ggml import decode_ggml
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.probe import SCHEME
from lineage.weights.roles import TensorKey

F32 = np.float32
CODE_BYTES = {
    "Q4_0": [(2, 18, 4, 0)],
    "Q4_1": [(4, 20, 4, 0)],
    "Q5_0": [(6, 22, 4, 0), (2, 6, 1, 4)],
    "Q5_1": [(8, 24, 4, 0), (4, 8, 1, 4)],
    "Q8_0": [(2, 34, 8, 0)],
    "Q2_K": [(16, 80, 2, 0)],
    "Q3_K": [(32, 96, 2, 0), (0, 32, 1, 2)],
    "Q4_K": [(16, 144, 4, 0)],
    "Q5_K": [(48, 176, 4, 0), (16, 48, 1, 4)],
    "Q6_K": [(0, 128, 4, 0), (128, 192, 2, 4)],
    "TQ2_0": [(0, 64, 2, 0)],
    "IQ4_NL": [(2, 18, 4, 0)],
    "IQ4_XS": [(8, 136, 4, 0)],
    "MXFP4": [(1, 17, 4, 0)],
    "NVFP4": [(4, 36, 4, 0)],
}
"""First and last byte, bits a code, and their place in it, from llama.cpp's ggml-common.h."""
HALF_SCALES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82),
    "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "TQ2_0": (64,),
    "IQ4_NL": (0,), "IQ4_XS": (0,),
}  # fmt: skip
"""Where float16 scales stand in a block."""


def random_blocks(dtype, n, seed=0):
    """Blocks with any codes and sane scales; ternary codes of three are made two."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (n, GGML_BLOCKS[dtype][1]), dtype=np.uint8)
    for at in HALF_SCALES.get(dtype, ()):
        halves = rng.uniform(0.001, 0.01, n).astype("<f2")
        blocks[:, at : at + 2] = halves.view(np.uint8).reshape(n, 2)
    if dtype == "MXFP4":
        blocks[:, 0] = rng.integers(115, 125, n)
    if dtype == "NVFP4":
        blocks[:, :4] = rng.integers(20, 80, (n, 4))
    if dtype == "TQ2_0":
        blocks[:, :64] = rng.choice([0x00, 0x55, 0xAA, 0x06, 0x90], (n, 64))
    return blocks.tobytes()


def all_levels(dtype, data):
    """The value at every place for every code: codes × values, by the reference decoder."""
    n_bits = max(shift + bits for *_, bits, shift in CODE_BYTES[dtype])
    blocks = np.frombuffer(data, np.uint8).reshape(-1, GGML_BLOCKS[dtype][1])
    levels = []
    for code in range(3 if dtype == "TQ2_0" else 1 << n_bits):
        filled = blocks.copy()
        for start, stop, bits, shift in CODE_BYTES[dtype]:
            part = (code >> shift) & ((1 << bits) - 1)
            filled[:, start:stop] = sum(part << at for at in range(0, 8, bits))
        levels.append(decode_ggml(dtype, filled.tobytes()))
    return np.stack(levels)


@pytest.mark.parametrize("dtype", CODE_BYTES)
def test_a_value_lies_in_the_cell_of_its_code_if_and_only_if_no_level_is_nearer(dtype):
    data = random_blocks(dtype, 4)
    values, levels = decode_ggml(dtype, data), all_levels(dtype, data)
    found = ggml_cells(dtype, data)
    asked = ~np.isnan(found.low)
    assert found.count(values) == (asked.sum(), asked.sum())
    assert asked.mean() > 0.75
    spread = levels.max(axis=0) - levels.min(axis=0)
    rng = np.random.default_rng(1)
    for size in (0.02, 0.1, 0.6):
        moved = (values + size * spread * rng.uniform(-1, 1, values.size)).astype(F32)
        off = np.abs(moved - values)
        nearest = np.abs(moved - levels).min(axis=0)
        slack = 3 * 2.0**-11 * np.abs(levels).max(axis=0)
        inside = (moved >= found.low) & (moved <= found.high)
        assert inside[asked & (off <= nearest)].all()
        assert not inside[asked & (off > nearest + 2 * slack)].any()


def test_codes_of_several_values_have_no_cells_and_are_not_asked():
    data = random_blocks("IQ2_XS", 1)
    assert ggml_cells("IQ2_XS", data) is None
    assert cells("BF16", {"words": bytes(8)}, 1, 4) is None
    assert contains("IQ2_XS", {"words": data}, 1, 256, np.zeros((1, 256), F32)) == (0, 0)


@pytest.mark.parametrize("dtype", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4"])
@given(seed=st.integers(0, 1 << 30), size=st.floats(1e-6, 1e3))
def test_what_the_reference_encoder_is_given_lies_in_the_cells_that_it_makes(dtype, seed, size):
    values = (size * np.random.default_rng(seed).standard_normal((4, 64))).astype(F32)
    data = quants.quantize(values, gguf.GGMLQuantizationType[dtype]).tobytes()
    fit, n = contains(dtype, {"words": data}, 4, 64, values)
    assert fit == n


@given(st.binary(min_size=34 * 8, max_size=34 * 8))
def test_cells_of_any_bytes_are_intervals_or_not_asked(data):
    found = ggml_cells("Q8_0", data)
    asked = ~np.isnan(found.low)
    assert (asked == ~np.isnan(found.high)).all()
    assert (found.low[asked] <= found.high[asked]).all()


# -- models ----------------------------------------------------------------------------------------

ROWS, COLUMNS, LAYERS = 16, 256, 4


def sample(values, dtype="F32", name="w"):
    words = {"F32": lambda v: v.astype("<f4").tobytes(),
             "BF16": lambda v: (v.astype(F32).view(np.uint32) >> 16).astype("<u2").tobytes(),
             }[dtype](np.ascontiguousarray(values))  # fmt: skip
    rows = tuple(range(len(values))) if values.ndim == 2 else (0,)
    return Sample(name, dtype, values.shape, rows, words)


def model(name, matrices, norms, dtype="F32", vocabulary=None):
    samples = {TensorKey("down", n): sample(m, dtype) for n, m in enumerate(matrices)}
    samples |= {TensorKey("ffn_norm", n): sample(v, dtype) for n, v in enumerate(norms)}
    if vocabulary is not None:
        samples[TensorKey("embed")] = sample(vocabulary, dtype)
    return Fingerprint(name, "0" * 40, SCHEME, "safetensors", samples)


def coded(name, blocks, norms, dtype):
    samples = {
        TensorKey("down", n): Sample("w", dtype, (ROWS, COLUMNS), tuple(range(ROWS)), data)
        for n, data in enumerate(blocks)
    }
    samples |= {TensorKey("ffn_norm", n): sample(v) for n, v in enumerate(norms)}
    return Fingerprint(name, "0" * 40, SCHEME, "gguf", samples)


def given_codes(dtype, seed=0):
    """Random codes, values that would be given them, and values some thousandths away."""
    away = 0.03 if dtype == "TQ2_0" else 0.003  # two of its three cells are open to one side
    rng = np.random.default_rng(seed)
    n_blocks = ROWS * COLUMNS // GGML_BLOCKS[dtype][0]
    blocks = [random_blocks(dtype, n_blocks, seed * LAYERS + n) for n in range(LAYERS)]
    sources, near = [], []
    for data in blocks:
        values, found = decode_ggml(dtype, data), ggml_cells(dtype, data)
        low = np.where(np.isfinite(found.low), found.low, values)
        high = np.where(np.isfinite(found.high), found.high, values)
        own = (low + (high - low) * rng.uniform(0.02, 0.98, values.size)).astype(F32)
        sources.append(own.reshape(ROWS, COLUMNS))
        step = rng.standard_normal(values.size) * np.abs(own).mean() * away
        near.append((own + step).astype(F32).reshape(ROWS, COLUMNS))
    norms = [1 + 0.1 * rng.standard_normal(COLUMNS).astype(F32) for _ in range(LAYERS)]
    return blocks, sources, near, norms


def settled(*members, findings=()):
    family = OpenFamily({m.repo_id: m for m in members}, {}, {}, {})
    for finding in findings:
        family.settle(finding)
    settle_quantised(family)
    return {name: finding for name, finding in family.findings.items()}


def parents(finding):
    return {share.parent: share.weight for share in finding.parents}


@pytest.mark.parametrize("dtype", CODE_BYTES)
def test_the_source_is_proved_among_siblings_a_few_thousandths_away_for_every_type(dtype):
    blocks, sources, near, norms = given_codes(dtype)
    found = settled(
        coded("q/child", blocks, norms, dtype),
        model("a/near", near, norms),
        model("b/source", sources, norms),
    )["q/child"]
    assert (found.kind, found.grade, found.method) == (Kind.QUANTIZED, Grade.PROVED, dtype)
    assert parents(found) == {"b/source": 1.0}
    assert [fact.name for fact in found.evidence] == ["codes_replayed", "unquantised_words"]


@pytest.mark.parametrize("dtype", ["Q3_K", "Q4_K", "Q6_K"])
def test_codes_of_nobody_in_the_catalogue_are_nobodys_and_say_who_was_tried(dtype):
    blocks, _, near, norms = given_codes(dtype)
    found = settled(coded("q/child", blocks, norms, dtype), model("a/near", near, norms))["q/child"]
    assert (found.grade, found.parents) == (Grade.ABSTAIN, ())
    missed = next(fact for fact in found.evidence if fact.name == f"{CODES_MISSED}a/near")
    assert 0 < missed.value < 0.2
    assert "a source misses none" in missed.text


def test_sources_that_round_to_the_same_codes_tie_unless_one_is_a_copy_of_the_other():
    blocks, sources, _, norms = given_codes("Q4_K")
    child = coded("q/child", blocks, norms, "Q4_K")
    twins = [model("a/one", sources, norms), model("b/two", sources, norms)]
    found = settled(child, *twins)["q/child"]
    assert (found.grade, found.ties) == (Grade.TIE, ("a/one", "b/two"))
    copy = Finding("a/one", Kind.DUPLICATE, Grade.PROVED, (ParentShare("b/two", 1.0),))
    found = settled(child, *twins, findings=[copy])["q/child"]
    assert (found.grade, found.ties) == (Grade.PROVED, ())
    assert parents(found) == {"b/two": 1.0}
    assert any(fact.name == "equal_sources" for fact in found.evidence)


def test_gains_that_were_never_quantised_decide_between_equal_codes():
    blocks, sources, _, norms = given_codes("Q4_K")
    others = [norm + F32(0.01) for norm in norms]
    found = settled(
        coded("q/child", blocks, norms, "Q4_K"),
        model("a/one", sources, others),
        model("b/two", sources, norms),
    )["q/child"]
    assert (found.grade, parents(found)) == (Grade.PROVED, {"b/two": 1.0})
    assert "4 of 4 tensors that were left unquantised" in found.evidence[1].text


def test_codes_of_two_models_name_both_and_how_many_tensors_each_gave():
    blocks, sources, near, norms = given_codes("Q5_K")
    one = model("a/one", [*sources[:3], near[3]], norms)
    two = model("b/two", [*near[:3], sources[3]], norms)
    found = settled(coded("q/child", blocks, norms, "Q5_K"), one, two)["q/child"]
    assert (found.grade, parents(found)) == (Grade.INFERRED, {"a/one": 0.75, "b/two": 0.25})
    assert [fact.text for fact in found.evidence] == [
        "3 of 4 quantised tensors have the codes of a/one",
        "1 of 4 quantised tensors have the codes of b/two",
    ]


def test_a_model_quantised_twice_comes_from_the_quantised_one_or_is_told_by_its_levels():
    rng = np.random.default_rng(5)
    kinds = gguf.GGMLQuantizationType
    original = [rng.standard_normal((ROWS, COLUMNS)).astype(F32) for _ in range(LAYERS)]
    norms = [np.ones(COLUMNS, F32)] * LAYERS
    coarse = [quants.quantize(m, kinds.Q4_0) for m in original]
    fine = [quants.quantize(quants.dequantize(m, kinds.Q4_0), kinds.Q8_0) for m in coarse]
    child = coded("q/fine", [m.tobytes() for m in fine], norms, "Q8_0")
    middle = coded("q/coarse", [m.tobytes() for m in coarse], norms, "Q4_0")
    source = model("z/source", original, norms)
    found = settled(child, middle, source)
    assert parents(found["q/coarse"]) == {"z/source": 1.0}
    assert parents(found["q/fine"]) == {"q/coarse": 1.0}
    assert "second time" in found["q/fine"].note
    alone = settled(child, source)["q/fine"]
    assert alone.grade is Grade.ABSTAIN
    assert "quantised before" in alone.note
    assert levels_used(source) > 30
    once = [quants.quantize(m, kinds.Q8_0).tobytes() for m in original]
    assert levels_used(coded("q/once", once, norms, "Q8_0")) > 20
    assert levels_used(middle) is None


def test_a_float32_source_may_have_been_rounded_on_the_way():
    rng = np.random.default_rng(6)
    original = [rng.standard_normal((ROWS, COLUMNS)).astype(F32) for _ in range(LAYERS)]
    norms = [np.ones(COLUMNS, F32)] * LAYERS
    kind = gguf.GGMLQuantizationType.Q8_0
    blocks = [quants.quantize(round_to("BF16", m), kind).tobytes() for m in original]
    child = coded("q/child", blocks, norms, "Q8_0")
    found = settled(child, model("z/source", original, norms))["q/child"]
    assert (found.grade, parents(found)) == (Grade.PROVED, {"z/source": 1.0})


def test_one_source_among_a_hundred_is_found():
    blocks, sources, near, norms = given_codes("Q4_K")
    rng = np.random.default_rng(7)
    crowd = [
        model(f"n/{n:03}", [m + F32(1e-4) * rng.standard_normal(m.shape).astype(F32) for m in near],
              norms)
        for n in range(99)
    ]  # fmt: skip
    child = coded("q/child", blocks, norms, "Q4_K")
    found = settled(child, *crowd, model("z/source", sources, norms))["q/child"]
    assert parents(found) == {"z/source": 1.0}


def test_a_source_with_other_token_rows_is_no_proof():
    blocks, sources, _, norms = given_codes("Q8_0")
    child = coded("q/child", blocks, norms, "Q8_0")
    tokens = np.random.default_rng(0).standard_normal((10, COLUMNS)).astype(F32)
    child.samples[TensorKey("embed")] = sample(tokens[:8])
    wider = model("a/wider", sources, norms, vocabulary=tokens)
    found = settled(child, wider)["q/child"]
    assert (found.grade, parents(found)) == (Grade.INFERRED, {"a/wider": 1.0})
    assert "another number of token rows" in found.note
    exact = model("b/exact", sources, norms, vocabulary=tokens[:8])
    found = settled(child, wider, exact)["q/child"]
    assert (found.grade, parents(found)) == (Grade.PROVED, {"b/exact": 1.0})


@pytest.mark.parametrize("fill", [0.0, 1.0, np.nan, np.inf])
def test_constant_and_broken_candidates_are_no_sources(fill):
    blocks, _, _, norms = given_codes("Q4_K")
    broken = [np.full((ROWS, COLUMNS), fill, F32)] * LAYERS
    found = settled(coded("q/child", blocks, norms, "Q4_K"), model("a/b", broken, norms))["q/child"]
    assert (found.grade, found.parents) == (Grade.ABSTAIN, ())


def test_models_without_a_shared_tensor_are_not_compared():
    blocks, sources, _, norms = given_codes("Q4_K")
    child = coded("q/child", blocks, norms, "Q4_K")
    narrow = model("a/b", [m[:, :128] for m in sources], norms)
    assert replay_codes(child, narrow) is None
    assert settled(child, narrow)["q/child"].note.startswith("no model of the catalogue can be")
    empty = Fingerprint("a/e", "0" * 40, SCHEME, "safetensors", {})
    assert settled(child, empty)["q/child"].grade is Grade.ABSTAIN
    assert replay_tensor(child.samples[TensorKey("down", 0)], None) == (0, 0)


def test_codes_of_a_transposed_original_are_compared_where_both_were_read():
    rng = np.random.default_rng(8)
    original = rng.standard_normal((32, 64)).astype(F32)  # inputs × outputs, as GPT-2 stores them
    kind = gguf.GGMLQuantizationType.Q8_0
    turned = np.ascontiguousarray(original.T)
    child = Sample("w", "Q8_0", (64, 32), tuple(range(64)), quants.quantize(turned, kind).tobytes())
    part = replace(sample(original[:5]), shape=(32, 64), transposed=True)
    assert replay_tensor(child, part) == (5 * 64, 5 * 64)
    assert replay_tensor(child, replace(part, words=sample(original[5:10]).words))[0] < 100


# -- calibrated routines ---------------------------------------------------------------------------


def gptq(order="none"):
    """Four-bit codes, inputs as rows, one group; decoded outputs × inputs."""
    rng = np.random.default_rng(9)
    n_in, n_out = 32, 64
    dtype = f"GPTQ:bits=4,group=32,order={order},scale=F16,zeros=v2"
    extras = {
        "zeros": np.full(n_out // 8, 0x88888888, "<u4").tobytes(),
        "scales": (0.01 * (1 + rng.random((1, n_out)))).astype("<f2").tobytes(),
    }
    if order == "given":
        dtype = dtype.replace("order", "groups=1,order")
        extras["groups"] = np.zeros(n_in, "<i4").tobytes()
    words = rng.bytes(n_in * n_out // 2)
    made = Sample("w", dtype, (n_in, n_out), tuple(range(n_in)), words, True, extras)
    values = decode_rows(dtype, {"words": words, **extras}, n_in, n_out)
    return made, values


def compensated(values, seed=0):
    """What GPTQ may have started from: the first input as rounded, the others pushed about."""
    rng = np.random.default_rng(seed)
    step = np.full(values.shape, 0.01, F32)
    moved = values + step * rng.normal(0, 0.5, values.shape).astype(F32)
    moved[0] = values[0] + 0.4 * step[0]
    return moved.astype(F32)


def one_matrix(name, made):
    return Fingerprint(name, "0" * 40, SCHEME, "safetensors", {TensorKey("up", 0): made})


def test_gptq_is_told_by_its_first_input_where_compensation_hides_the_rest():
    made, values = gptq()
    source = compensated(values)
    other = source.copy()
    other[0] += np.where(np.arange(64) % 8 == 0, F32(0.02), F32(0))
    family = [
        one_matrix("q/child", made),
        one_matrix("a/near", sample(np.ascontiguousarray(other.T))),
        one_matrix("b/source", sample(np.ascontiguousarray(source.T))),
    ]
    found = settled(*family)["q/child"]
    assert (found.grade, parents(found)) == (Grade.INFERRED, {"b/source": 1.0})
    assert settled(*family[:2])["q/child"].grade is not Grade.PROVED


def test_gptq_with_activation_order_is_never_proved():
    made, values = gptq("given")
    found = settled(
        one_matrix("q/child", made),
        one_matrix("b/source", sample(np.ascontiguousarray(values.T))),
    )["q/child"]
    assert (found.grade, parents(found)) == (Grade.INFERRED, {"b/source": 1.0})


def awq_pair():
    rng = np.random.default_rng(10)
    n_in, n_out = 64, 64
    dtype = "AWQ:bits=4,group=64,scale=F16"
    extras = {
        "zeros": np.full(n_out // 8, 0x88888888, "<u4").tobytes(),
        "scales": (0.01 * (1 + rng.random((1, n_out)))).astype("<f2").tobytes(),
    }
    words = rng.bytes(n_in * n_out // 2)
    made = Sample("w", dtype, (n_in, n_out), tuple(range(n_in)), words, True, extras)
    values = decode_rows(dtype, {"words": words, **extras}, n_in, n_out)
    stretch = rng.uniform(0.5, 2, n_in).astype(F32)
    norm = rng.uniform(0.5, 1.5, n_in).astype(F32)
    child = {TensorKey("up", 0): made, TensorKey("ffn_norm", 0): sample(norm / stretch)}
    jitter = rng.uniform(-0.4, 0.4, values.shape) * 0.01
    original = ((values + jitter) / stretch[:, None]).astype(F32)
    source = {
        TensorKey("up", 0): sample(np.ascontiguousarray(original.T)),
        TensorKey("ffn_norm", 0): sample(norm),
    }
    return child, source


def test_awq_is_compared_after_its_scales_are_taken_back_through_the_norm():
    child, source = awq_pair()
    made = Fingerprint("q/child", "0" * 40, SCHEME, "safetensors", child)
    told = Fingerprint("b/source", "0" * 40, SCHEME, "safetensors", source)
    share, evidence = replay_codes(made, told)
    assert share == 1
    assert isinstance(evidence, Evidence)
    unscaled = {**source, TensorKey("ffn_norm", 0): child[TensorKey("ffn_norm", 0)]}
    share, _ = replay_codes(made, replace(told, samples=unscaled))
    assert share < 0.5


def test_awq_matrices_behind_no_norm_are_left_out():
    child, source = awq_pair()
    child[TensorKey("down", 0)] = child[TensorKey("up", 0)]
    source[TensorKey("down", 0)] = source[TensorKey("up", 0)]
    made = Fingerprint("q/child", "0" * 40, SCHEME, "safetensors", child)
    match = Coded(made).match(Fingerprint("b/s", "0" * 40, SCHEME, "safetensors", source))
    assert set(match.codes) == {TensorKey("up", 0)}


def test_nested_four_bit_blocks_are_measured_by_their_own_largest_value():
    from lineage.infer.quantised import _on_stored_magnitudes

    decoded = np.array([[1.0, -0.5, 0.25, 0.0]], F32)
    child = sample(decoded)
    child = replace(child, dtype="BNB4:block=4,code=nf4,nested=1,rows=1")
    object.__setattr__(child, "values", decoded)  # a cached property
    own = np.array([[1.02, -0.51, 0.2, 0.1]], F32)
    assert _on_stored_magnitudes(own, child) == pytest.approx(own / 1.02)
    assert _on_stored_magnitudes(own[:, :3], child) is not None


def test_codes_without_cells_are_told_by_the_least_error_and_the_gains():
    rng = np.random.default_rng(11)
    n_blocks = ROWS * COLUMNS // 256
    blocks = []
    for n in range(LAYERS):
        data = np.frombuffer(random_blocks("IQ2_XS", n_blocks, n), np.uint8).reshape(n_blocks, -1)
        data = data.copy()
        data[:, :2] = np.full(n_blocks, 0.01, "<f2").view(np.uint8).reshape(-1, 2)
        blocks.append(data.tobytes())
    values = [decode_ggml("IQ2_XS", data).reshape(ROWS, COLUMNS) for data in blocks]
    size = float(np.abs(values[0]).mean())
    noise = [0.3 * size * rng.standard_normal(v.shape).astype(F32) for v in values]
    norms = [1 + 0.1 * rng.standard_normal(COLUMNS).astype(F32) for _ in range(LAYERS)]
    source = [v + e for v, e in zip(values, noise, strict=True)]
    far = [v + 2 * e for v, e in zip(values, noise, strict=True)]
    child = coded("q/child", blocks, norms, "IQ2_XS")
    found = settled(child, model("a/far", far, norms), model("b/source", source, norms))["q/child"]
    assert (found.grade, parents(found)) == (Grade.INFERRED, {"b/source": 1.0})
    same = settled(child, model("a/one", source, norms), model("b/two", source, norms))["q/child"]
    assert same.grade is Grade.TIE
    others = [norm + F32(0.01) for norm in norms]
    assert settled(child, model("b/source", source, others))["q/child"].grade is Grade.ABSTAIN
