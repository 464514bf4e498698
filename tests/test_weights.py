"""Roles, formats, the probe plan, fingerprints and their store."""

from __future__ import annotations

import dataclasses

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from hypothesis import given
from hypothesis import strategies as st
from simulated import Herd, fingerprint

from crawler.errors import MalformedError, TruncatedError
from crawler.records import TensorEntry
from lineage.errors import IncomparableError, SchemaError
from lineage.store.fingerprints import load_fingerprint, save_fingerprint
from lineage.weights.fingerprint import make_fingerprint, require_comparable
from lineage.weights.formats import (
    codes_of,
    decode,
    quantize_q4_0,
    quantize_q8_0,
    round_to,
    row_bytes,
)
from lineage.weights.plan import Heads, plan_probe
from lineage.weights.reference import SEVEN_BILLION, Shape, tensors_of
from lineage.weights.roles import TensorKey, role_of


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("model.layers.3.self_attn.q_proj.weight", TensorKey("q", 3)),
        ("blk.3.attn_q.weight", TensorKey("q", 3)),
        ("_orig_mod.model.layers.0.mlp.up_proj.weight", TensorKey("up", 0)),
        ("transformer.h.5.mlp.c_fc.weight", TensorKey("up", 5)),
        ("h.5.mlp.c_fc.bias", TensorKey("up.bias", 5)),
        ("bert.encoder.layer.2.intermediate.dense.weight", TensorKey("up", 2)),
        ("model.layers.1.block_sparse_moe.experts.7.w3.weight", TensorKey("up", 1, 7)),
        ("model.layers.1.mlp.experts.7.down_proj.weight", TensorKey("down", 1, 7)),
        ("model.norm.weight", TensorKey("final_norm")),
        ("output_norm.weight", TensorKey("final_norm")),
        ("token_embd.weight", TensorKey("embed")),
        ("lm_head.weight", TensorKey("head")),
        (
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
            TensorKey("q.lora_a", 0),
        ),
        ("model.layers.2.mlp.down_proj.weight_scale", TensorKey("down.scale", 2)),
    ],
)
def test_names_of_one_tensor_in_different_formats_meet_in_one_role(name, key):
    role = role_of(name)
    assert role.key == key
    assert role.known


def test_an_unknown_name_keeps_itself_and_is_marked():
    role = role_of("visual.block7.frobnicate")
    assert not role.known
    assert role.key.role == "visual.block#.frobnicate"


@pytest.mark.parametrize("dtype", ["Q8_0", "Q4_0"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 40.0])
def test_quantisation_equals_the_reference_library_code_by_code(dtype, scale):
    values = (np.random.default_rng(3).standard_normal((33, 96)) * scale).astype(np.float32)
    values[0, :32] = 0
    stored = quantize(values, GGMLQuantizationType[dtype])
    routine = {"Q8_0": quantize_q8_0, "Q4_0": quantize_q4_0}[dtype]
    codes, scales = codes_of(dtype, stored.tobytes())
    replayed_codes, replayed_scales = routine(values)
    np.testing.assert_array_equal(codes, replayed_codes)
    np.testing.assert_array_equal(scales, replayed_scales)
    np.testing.assert_array_equal(
        decode(dtype, stored.tobytes()), dequantize(stored, GGMLQuantizationType[dtype]).ravel()
    )


def test_block_sizes_agree_with_the_gguf_package():
    for dtype in ("Q8_0", "Q4_0"):
        n_values, n_bytes = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[dtype]]
        assert row_bytes(dtype, n_values) == n_bytes


@pytest.mark.parametrize(
    ("dtype", "torch_name"),
    [("BF16", "bfloat16"), ("F8_E4M3", "float8_e4m3fn"), ("F8_E5M2", "float8_e5m2")],
)
def test_small_floats_decode_as_in_torch(dtype, torch_name):
    torch = pytest.importorskip("torch")
    width = row_bytes(dtype, 1)
    words = np.random.default_rng(0).integers(0, 256, 512 * width, dtype=np.uint8)
    expected = torch.from_numpy(words.copy()).view(getattr(torch, torch_name)).float().numpy()
    np.testing.assert_array_equal(decode(dtype, words.tobytes()), expected)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50))
def test_rounding_to_bfloat16_equals_torch(values):
    torch = pytest.importorskip("torch")
    array = np.array(values, np.float32)
    np.testing.assert_array_equal(
        round_to("BF16", array), torch.from_numpy(array).bfloat16().float().numpy()
    )


def test_rounding_is_idempotent_and_float32_is_left_alone():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    for dtype in ("BF16", "F16", "F32"):
        once = round_to(dtype, values)
        np.testing.assert_array_equal(round_to(dtype, once), once)
    np.testing.assert_array_equal(round_to("F32", values), values)


@pytest.mark.parametrize(("dtype", "data"), [("F32", b"123"), ("Q8_0", bytes(33)), ("Q9_9", b"")])
def test_bytes_that_are_no_whole_words_are_malformed(dtype, data):
    with pytest.raises(MalformedError):
        decode(dtype, data)


def llama(layers: int, width: int, ffn: int, vocab: int) -> list[TensorEntry]:
    return tensors_of(Shape("small", width, ffn, layers, width, vocab))


def test_a_seven_billion_model_costs_at_most_eight_megabytes():
    tensors = tensors_of(SEVEN_BILLION)
    plan = plan_probe(tensors, 8_000_000)
    assert sum(t.stop - t.start for t in tensors) > 13_000_000_000
    assert 4_000_000 < plan.bytes_planned <= 8_000_000
    assert len(plan.blocks) == len(tensors)
    deep = [b for b in plan.blocks if b.role.key.role == "up" and len(b.rows) >= 64]
    assert len(deep) == 8


def test_models_of_one_shape_are_read_at_the_same_rows():
    first = plan_probe(llama(4, 64, 160, 300), 100_000)
    second = plan_probe(llama(4, 64, 160, 300), 100_000)
    assert [b.rows for b in first.blocks] == [b.rows for b in second.blocks]


@given(st.integers(1_000, 3_000_000))
def test_the_plan_keeps_its_budget_and_never_leaves_a_tensor(budget):
    tensors = llama(3, 64, 160, 300)
    plan = plan_probe(tensors, budget)
    assert plan.bytes_planned <= budget
    for block in plan.blocks:
        assert block.tensor.start <= block.start < block.stop <= block.tensor.stop


def test_a_budget_too_small_for_one_row_says_how_much_is_needed():
    with pytest.raises(ValueError, match="needs 384"):
        plan_probe(llama(3, 64, 160, 300), 200)


def test_a_tight_budget_gives_up_whole_layers_evenly_and_says_so():
    plan = plan_probe(llama(80, 256, 512, 300), 60_000)
    layers = sorted({b.role.key.layer for b in plan.blocks if b.role.key.layer >= 0})
    assert layers[0] == 0
    assert layers[-1] == 79
    assert len(layers) < 80
    assert plan.bytes_planned <= 60_000
    assert len(plan.skipped) + len(plan.blocks) == len(llama(80, 256, 512, 300))


def test_unreadable_dtypes_are_passed_over_with_the_reason():
    odd = TensorEntry("blk.0.ffn_up.weight", "Q4_K", (64, 256), "m.gguf", 0, 9216)
    plan = plan_probe([*llama(1, 64, 160, 300), odd], 10**6)
    assert plan.skipped == (("blk.0.ffn_up.weight", "dtype Q4_K cannot be read yet"),)


def test_the_row_order_of_gguf_query_matrices_is_undone():
    n_heads, head = 4, 6
    matrix = np.arange(n_heads * head * 2, dtype=np.float32).reshape(n_heads * head, 2)
    # As the converter permutes: (head, half, pair) becomes (head, pair, half).
    permuted = matrix.reshape(n_heads, 2, head // 2, 2).swapaxes(1, 2).reshape(n_heads * head, 2)
    entry = TensorEntry("blk.0.attn_q.weight", "F32", matrix.shape, "m.gguf", 0, matrix.nbytes)
    plan = plan_probe([entry], 10**6, Heads(n_heads, n_heads))
    made = make_fingerprint(
        plan, [permuted.tobytes()], repo_id="a/b", revision="0" * 40, format_name="gguf"
    )
    np.testing.assert_array_equal(made.samples[TensorKey("q", 0)].values, matrix)


def test_a_short_payload_is_refused():
    plan = plan_probe(llama(1, 64, 160, 300), 10**6)
    payloads = [bytes(b.stop - b.start) for b in plan.blocks]
    payloads[2] = payloads[2][:-1]
    with pytest.raises(TruncatedError):
        make_fingerprint(plan, payloads, repo_id="a/b", revision="0" * 40, format_name="x")


def test_fingerprints_of_different_schemes_do_not_compare():
    a = fingerprint("a/b", Herd(0).founder())
    b = dataclasses.replace(a, scheme="rows-2")
    with pytest.raises(IncomparableError, match="scheme: rows-1 and rows-2"):
        require_comparable(a, b)


def test_a_stored_fingerprint_comes_back_word_for_word(tmp_path):
    made = fingerprint("a/b", Herd(0).founder(), file_digests=("d",), n_parameters=7)
    assert load_fingerprint(tmp_path, save_fingerprint(tmp_path, made)) == made
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_a_damaged_fingerprint_says_what_to_do(tmp_path):
    digest = save_fingerprint(tmp_path, fingerprint("a/b", Herd(0).founder()))
    path = tmp_path / f"{digest}.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(SchemaError, match="herdbook fingerprint"):
        load_fingerprint(tmp_path, digest)
