"""From the bytes that a plan wanted to the samples that inference compares."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from crawler.errors import TruncatedError
from crawler.records import TensorEntry
from lineage.errors import IncomparableError
from lineage.weights.facts import ModelFacts
from lineage.weights.fingerprint import make_fingerprint, require_comparable
from lineage.weights.layout import lay_out
from lineage.weights.probe import plan_probe
from lineage.weights.reference import Shape, plain_weights, tensors_of
from lineage.weights.roles import TensorKey
from simulated import Herd, fingerprint

LLAMA = Shape("small", 64, 160, 2, 64, 300)


def entry(name: str, array: np.ndarray, dtype: str = "F32", start: int = 0) -> TensorEntry:
    return TensorEntry(name, dtype, array.shape, "m", start, start + array.nbytes)


def made(entries, data: bytes, facts: ModelFacts, **options):
    layout = lay_out(entries, facts)
    plan = plan_probe(layout.weights, budget_bytes=10**6, facts=facts)
    payloads = {("m", a, b): data[a:b] for a, b in plan.spans_by_path().get("m", ())}
    return make_fingerprint(
        plan, payloads, repo_id="a/b", revision="0" * 40, format_name="x", **options
    )


def test_the_row_order_of_gguf_query_matrices_is_undone():
    n_heads, head = 4, 6
    matrix = np.arange(n_heads * head * 2, dtype=np.float32).reshape(n_heads * head, 2)
    # As the converter permutes: (head, half, pair) becomes (head, pair, half).
    permuted = matrix.reshape(n_heads, 2, head // 2, 2).swapaxes(1, 2).reshape(n_heads * head, 2)
    facts = ModelFacts(
        model_type="llama", format="gguf", n_heads=n_heads, n_kv_heads=n_heads, head_dim=head
    )
    found = made([entry("blk.0.attn_q.weight", matrix)], permuted.tobytes(), facts)
    sample = found.samples[TensorKey("q", 0)]
    assert sample.rows == tuple(range(n_heads * head))
    np.testing.assert_array_equal(sample.values, matrix)


def test_what_a_gguf_adds_to_the_norms_of_gemma_is_taken_off():
    norm = np.array([0.5, -0.25, 0.0], np.float32)
    facts = ModelFacts(model_type="gemma2", format="gguf")
    found = made([entry("blk.0.attn_norm.weight", norm)], (norm + 1).tobytes(), facts)
    sample = found.samples[TensorKey("attn_norm", 0)]
    np.testing.assert_array_equal(sample.values[0], norm)
    assert sample.words == (norm + 1).tobytes()


@pytest.mark.parametrize("name", ["h.0.attn.c_attn.weight", "transformer.h.0.attn.c_attn.weight"])
def test_queries_keys_and_values_that_lie_side_by_side_are_told_apart(name):
    fused = np.arange(4 * 12, dtype=np.float32).reshape(4, 12)
    facts = ModelFacts(
        model_type="gpt2", format="safetensors", n_heads=2, n_kv_heads=2, head_dim=2, hidden=4
    )
    found = made([entry(name, fused)], fused.tobytes(), facts)
    for i, role in enumerate("qkv"):
        sample = found.samples[TensorKey(role, 0)]
        assert sample.transposed
        np.testing.assert_array_equal(sample.values, fused[:, 4 * i : 4 * i + 4])


def test_queries_keys_and_values_that_lie_head_by_head_are_told_apart():
    head, heads = 2, 3
    fused = np.arange(3 * head * heads * 4, dtype=np.float32).reshape(-1, 4)
    facts = ModelFacts(
        model_type="gpt_neox",
        format="safetensors",
        n_heads=heads,
        n_kv_heads=heads,
        head_dim=head,
        hidden=6,
    )
    name = "gpt_neox.layers.0.attention.query_key_value.weight"
    found = made([entry(name, fused)], fused.tobytes(), facts)
    by_head = fused.reshape(heads, 3, head, 4)
    for i, role in enumerate("qkv"):
        sample = found.samples[TensorKey(role, 0)]
        np.testing.assert_array_equal(sample.values, by_head[:, i].reshape(-1, 4))


def test_words_are_kept_and_what_is_no_number_counts_as_zero():
    matrix = np.array([[1.0, np.nan], [np.inf, 2.0]], np.float32)
    facts = ModelFacts(format="safetensors")
    found = made([entry("model.layers.0.mlp.up_proj.weight", matrix)], matrix.tobytes(), facts)
    sample = found.samples[TensorKey("up", 0)]
    assert sample.words == matrix.tobytes()
    assert sample.values.tolist() == [[1.0, 0.0], [0.0, 2.0]]


def test_tokens_are_kept_of_sampled_rows_of_the_embedding_only():
    matrix = np.ones((70, 4), np.float32)
    facts = ModelFacts(format="safetensors")
    found = made(
        [entry("model.embed_tokens.weight", matrix)], matrix.tobytes(), facts,
        tokens={3: "a", 10**6: " the"},
    )  # fmt: skip
    assert found.tokens == {3: "a"}


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"\0"])
def test_a_payload_of_another_length_is_refused(damage):
    plan = plan_probe(plain_weights(tensors_of(LLAMA)), budget_bytes=10**6)
    payloads = {
        (path, a, b): bytes(b - a) for path, spans in plan.spans_by_path().items() for a, b in spans
    }
    victim = sorted(payloads)[2]
    payloads[victim] = damage(payloads[victim])
    with pytest.raises(TruncatedError):
        make_fingerprint(plan, payloads, repo_id="a/b", revision="0" * 40, format_name="x")


def test_a_missing_payload_is_refused():
    plan = plan_probe(plain_weights(tensors_of(LLAMA)), budget_bytes=10**6)
    with pytest.raises(TruncatedError):
        make_fingerprint(plan, {}, repo_id="a/b", revision="0" * 40, format_name="x")


def test_fingerprints_of_different_schemes_do_not_compare():
    a = fingerprint("a/b", Herd(0).founder())
    b = dataclasses.replace(a, scheme="rows-2")
    with pytest.raises(IncomparableError, match=f"scheme: {a.scheme} and rows-2"):
        require_comparable(a, b)
