"""Whole files sketched as they pass by are sketched as if they had been read at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.errors import MalformedError, TruncatedError
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey
from lineage.weights.sketch import (
    StreamSketch,
    batch,
    decode,
    sketch_fingerprints,
    stream,
    stream_sketch,
)
from lineage.weights.weight import MAIN, Part, RowOrder, Weight
from simulated import Herd, stored, words_of
from test_sketch import everything, gaussian

Q, K, V = (TensorKey(role, 0) for role in "qkv")
INT8 = "INT8:code=I8,columns=0,rows=1,scale=F32"


def weight(key, dtype, shape, start, n_bytes, path="f", **extra) -> Weight:
    rows = shape[0] if len(shape) > 1 else 1
    part = Part(MAIN, dtype, path, start, start + n_bytes, 1, n_bytes // max(rows, 1))
    return Weight(key, True, str(key), dtype, shape, (part,), **extra)


def file_of(samples: dict[TensorKey, Sample], gap: int = 3) -> tuple[bytes, list[Weight]]:
    """The samples' words behind each other, with some bytes between that belong to nobody."""
    data, weights = b"header", []
    for key, one in samples.items():
        weights.append(
            weight(key, one.dtype, one.shape, len(data), len(one.words), shift=one.shift)
        )
        data += one.words + b"x" * gap
    return data, weights


def at_once(samples: dict[TensorKey, Sample]):
    fingerprint = Fingerprint("a/b", "0" * 40, "probe-2", "safetensors", samples)
    return sketch_fingerprints([fingerprint], device="cpu")[0]


def cut(data: bytes, edges) -> list[tuple[int, bytes]]:
    inner = sorted(e % (len(data) + 1) for e in edges)
    edges = [0, *inner, len(data)]
    return [(a, data[a:b]) for a, b in pairwise(edges)]


def assert_same(found, expected) -> None:
    assert everything([found]) == everything([expected])
    assert found.norm_digests == expected.norm_digests
    for key, one in expected.tensors.items():
        other = found.tensors[key]
        for name in ("mean", "std", "skewness", "kurtosis"):
            a, b = getattr(one, name), getattr(other, name)
            assert b == pytest.approx(a, rel=1e-5, abs=1e-6 * abs(one.std), nan_ok=True), name
        np.testing.assert_allclose(one.row_norms, other.row_norms, rtol=1e-6)
        np.testing.assert_array_equal(one.projection, other.projection)


def mixed_samples() -> dict[TensorKey, Sample]:
    values = gaussian(7, 1500)
    values[2, 5] = np.nan
    blocks = np.random.default_rng(0).integers(0, 256, (4, 68), np.uint8)
    blocks.reshape(-1, 34)[:, :2] = np.array([0.01], "<f2").view(np.uint8)
    norm = gaussian(1, 100) + 1
    return {
        Q: Sample("q", "BF16", (7, 1500), tuple(range(7)), words_of(values, "BF16")),
        K: Sample("k", "Q8_0", (4, 64), (0, 1, 2, 3), blocks.tobytes()),
        V: Sample("v", "U8", (5, 7), tuple(range(5)), bytes(range(35))),
        TensorKey("attn_norm", 0): Sample("n", "F32", (100,), (0,), words_of(norm, "F32")),
        TensorKey("ffn_norm", 0): Sample("m", "F32", (100,), (0,), words_of(norm, "F32"), shift=1),
        TensorKey("deep", 1): Sample("c", "F16", (6, 3, 5), tuple(range(6)),
                                     words_of(gaussian(6, 15), "F16")),
    }  # fmt: skip


@settings(max_examples=25)
@given(st.lists(st.integers(0, 10**6), max_size=40))
def test_chunks_may_end_anywhere_in_the_middle_of_a_word_too(edges):
    samples = mixed_samples()
    data, weights = file_of(samples)
    assert_same(stream_sketch(cut(data, edges), weights, device="cpu"), at_once(samples))


@pytest.mark.parametrize("size", [1, 7, 1024])
def test_chunks_of_one_size(size):
    samples = mixed_samples()
    data, weights = file_of(samples)
    chunks = ((i, data[i : i + size]) for i in range(0, len(data), size))
    assert_same(stream_sketch(chunks, weights, device="cpu"), at_once(samples))


def test_files_of_several_shards_may_alternate():
    model = stored(Herd(1).founder(layers=1))
    samples = {
        key: Sample(str(key), "BF16", v.shape, tuple(range(len(v))) if v.ndim > 1 else (0,),
                    words_of(v, "BF16")) for key, v in model.items()
    }  # fmt: skip
    data, weights = file_of(samples)
    half = len(weights) // 2
    moved = [
        w if i < half else weight(w.key, w.dtype, w.shape, w.main.start, w.main.stop - w.main.start,
                                  path="g") for i, w in enumerate(weights)
    ]  # fmt: skip
    sketch = StreamSketch(moved, device="cpu")
    for offset, chunk in cut(data, range(0, len(data), 999)):
        for path in ("g", "f", "other"):
            sketch.feed(path, offset, memoryview(chunk))
    assert_same(sketch.finish(), at_once(samples))
    with pytest.raises(ValueError, match="2 files"):
        stream_sketch([], moved, device="cpu")


def test_bytes_of_no_weight_may_be_left_out():
    samples = mixed_samples()
    data, weights = file_of(samples)
    chunks = [(w.main.start, data[w.main.start : w.main.stop]) for w in weights]
    assert_same(stream_sketch(chunks, weights, device="cpu"), at_once(samples))


def test_missing_bytes_are_told():
    data, weights = file_of(mixed_samples())
    with pytest.raises(TruncatedError, match="q@0: byte 0 was due, 94 came"):
        stream_sketch([(100, data[100:])], weights, device="cpu")
    with pytest.raises(TruncatedError, match="94 bytes came of 21000"):
        stream_sketch([(0, data[:100])], [w for w in weights if w.key == Q], device="cpu")
    with pytest.raises(TruncatedError, match="byte 94 was due, 0 came"):
        stream_sketch([(0, data[:100]), (0, data[:200])], weights, device="cpu")


@settings(max_examples=15)
@given(st.lists(st.integers(0, 10**6), max_size=9), st.booleans())
def test_fused_tensors_are_told_apart_row_by_row(edges, halves):
    heads, dim, columns = 3, 4, 40
    values = {key: gaussian(heads * dim, columns, i) for i, key in enumerate((Q, K, V))}
    rows = np.zeros((heads * 3 * dim, columns), np.float32)
    weights = []
    n_bytes = rows.size * 2
    for i, key in enumerate((Q, K, V)):
        order = RowOrder(dim, 3 * dim, i * dim, halves=halves)
        rows[[order.stored(r) for r in range(heads * dim)]] = values[key]
        weights.append(weight(key, "BF16", (heads * dim, columns), 6, n_bytes, order=order))
        part = weights[-1].parts[0]
        fixed = Part(MAIN, "BF16", "f", part.start, part.stop, 1, columns * 2)
        weights[-1] = Weight(
            key, True, "qkv", "BF16", (heads * dim, columns), (fixed,), order=order
        )
    samples = {
        key: Sample("qkv", "BF16", v.shape, tuple(range(len(v))), words_of(v, "BF16"))
        for key, v in values.items()
    }
    data = b"header" + words_of(rows, "BF16")
    assert_same(stream_sketch(cut(data, edges), weights, device="cpu"), at_once(samples))


def test_weights_that_stand_side_by_side_take_their_columns():
    values = gaussian(6, 50)
    words = words_of(values, "BF16")
    samples, weights = {}, []
    for key, (first, stop) in zip((Q, K), ((0, 20), (20, 50)), strict=True):
        part = Part(MAIN, "BF16", "f", 0, len(words), 1, 100)
        shape = (6, stop - first)
        weights.append(Weight(key, True, "qk", "BF16", shape, (part,), columns=(first, stop)))
        own = np.ascontiguousarray(values[:, first:stop])
        samples[key] = Sample("qk", "BF16", shape, tuple(range(6)), words_of(own, "BF16"))
    found = stream_sketch(cut(words, [33, 210]), weights, device="cpu")
    assert_same(found, at_once(samples))


def test_packed_weights_have_a_digest_of_all_their_parts(monkeypatch):
    codes, scales = bytes(range(64)), bytes(range(100, 132))
    parts = (Part(MAIN, "I8", "f", 0, 64, 1, 32), Part("scales", "F32", "f", 70, 102, 0))
    one = Weight(Q, True, "q", INT8, (2, 32), parts)
    found = stream_sketch(cut(codes + b"------" + scales, [5, 80]), [one], device="cpu")
    sample = Sample("q", INT8, (2, 32), (0, 1), codes, extras={"scales": scales})
    for module in (batch, decode):
        monkeypatch.setattr(module, "decode_sample", lambda sample: gaussian(*sample.shape))
    assert found.tensors[Q].digest == at_once({Q: sample}).tensors[Q].digest
    assert np.isnan(found.tensors[Q].mean)
    assert found.tensors[Q].n == 0
    shared = Weight(Q, True, "q", "NF4:block=64", (3, 3), (Part(MAIN, "U8", "f", 0, 5, 0),))
    found = stream_sketch([(0, b"abcde")], [shared], device="cpu")
    sample = Sample("q", "NF4:block=64", (3, 3), (0, 1, 2), b"abcde")
    assert found.tensors[Q].digest == at_once({Q: sample}).tensors[Q].digest


def test_long_rows_pass_by_in_pieces(monkeypatch):
    values = gaussian(2, 5 << 17)
    sample = Sample("q", "BF16", values.shape, (0, 1), words_of(values, "BF16"))
    data, weights = file_of({Q: sample})
    sketch = StreamSketch(weights, device="cpu")
    for offset, chunk in cut(data, range(0, len(data), 100_001)):
        sketch.feed("f", offset, chunk)
    assert_same(sketch.finish(), at_once({Q: sample}))
    monkeypatch.setattr(stream, "_MAX_STEP_BYTES", 1000)
    odd = weight(Q, "IQ:odd", (1, 1 << 20), 0, 1_000_001)
    with pytest.raises(MalformedError, match="1000001 bytes cannot be cut"):
        StreamSketch([odd], device="cpu")


def test_empty_tensors_and_models_without_weights_are_sketched():
    empty = weight(Q, "F32", (0, 8), 5, 0)
    found = stream_sketch([(0, b"12345678")], [empty], device="cpu")
    assert found.tensors[Q].n == 0
    assert stream_sketch([], [], device="cpu").simhash == bytes(128)
