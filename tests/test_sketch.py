"""Sketches of fingerprints, against oracles in plain Python and numpy."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from crawler.errors import MalformedError
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey
from lineage.weights.sketch import (
    NoDeviceError,
    batch,
    cosine_top_k,
    decode,
    fused,
    nearest_simhash,
    resolve_device,
    sketch_fingerprints,
    sketcher,
)
from lineage.weights.sketch.digest import block_lanes, place_lanes
from lineage.weights.sketch.joins import NO_DIGEST, norm_vector_digest
from lineage.weights.sketch.mixing import key_hash, mix64, pseudo_random
from lineage.weights.sketch.scratch import Scratch
from lineage.weights.sketch.simhash import fold
from lineage.weights.sketch.staging import Staging
from simulated import Herd, fingerprint, stored, words_of

KEY = TensorKey("q", 3)
INT8 = "INT8:code=I8,columns=0,rows=1,scale=F32"
M64 = (1 << 64) - 1
SCRATCH = Scratch(torch.device("cpu"))
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


# --- oracles -------------------------------------------------------------------------------------


def slow_mix(x: int) -> int:
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & M64
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & M64
    return x ^ x >> 31


def slow_factors() -> list[list[int]]:
    stream = hashlib.shake_128(b"herdbook sketch 1: digest").digest(2048)
    words = [int.from_bytes(stream[i : i + 8], "little") | 1 for i in range(0, 2048, 8)]
    return [words[:128], words[128:]]


def slow_digest(rows: tuple[int, ...], words: bytes, extras: dict[str, bytes] | None = None):
    row_bytes = len(words) // len(rows)
    totals = [0, 0]
    factors = slow_factors()
    for i, row in enumerate(rows):
        data = words[i * row_bytes : (i + 1) * row_bytes]
        data += bytes(-len(data) % 8)
        numbers = [int.from_bytes(data[j : j + 8], "little") for j in range(0, len(data), 8)]
        for block in range(0, len(numbers), 128):
            place = (row * 0x9E3779B97F4A7C15 + block // 128 * 0xD1B54A32D192ED03) & M64
            for lane in (0, 1):
                total = 0
                for factor, w in zip(factors[lane], numbers[block : block + 128], strict=False):
                    high = (w >> 32) - ((1 << 32) if w >> 63 else 0)
                    total += factor * ((w + high) & M64)
                totals[lane] += slow_mix((total + slow_mix(place)) & M64)
    final = hashlib.blake2b(digest_size=16)
    for number in (*totals, len(rows), row_bytes):
        final.update((number & M64).to_bytes(8, "little"))
    for name in sorted(extras or {}):
        final.update(name.encode() + b"\0")
        final.update(hashlib.blake2b(extras[name], digest_size=16).digest())
    return final.digest()


def slow_buckets(key: TensorKey, rows: tuple[int, ...], values: np.ndarray) -> np.ndarray:
    """Bucket sums of one matrix, value by value, in float32 steps as the definition says."""
    f = np.float32
    n_columns = values.shape[1]
    sums = np.zeros(1024, np.int64)
    text = f"{key.role}\0{key.layer}\0{key.expert}".encode()
    h = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    for row, line in zip(rows, values, strict=True):
        for segment, start in enumerate(range(0, n_columns, 1024)):
            x = line[start : start + 1024]
            top = float(np.abs(x).max())
            if top == 0:
                continue
            shift = min(13 - int(np.frexp(top)[1]), 100)
            y = [f(np.ldexp(float(v), shift)) for v in x]
            q = [round(float(v)) for v in y]
            m = round(float(f(sum(q)) * f(1 / len(q))))
            magnitude = sum(abs(v) for v in q)
            if magnitude == 0:
                continue
            g = f(16 * len(q) * (2 / np.pi) ** 0.5) / f(magnitude)
            place = slow_mix(h ^ (row * 0x8CB92BA72F3D8DD7 & M64))
            place = (place + segment * 0xA24BAED4963EE407) & M64
            sign = -1 if slow_mix(place) >> 63 else 1
            for column, v in enumerate(y):
                z = max(-127, min(127, round(float(f(v - f(m)) * g))))
                sums[(row * n_columns + start + column + h % 1024) % 1024] += sign * z
    return sums


def bits(sketch) -> np.ndarray:
    return np.unpackbits(np.frombuffer(sketch.simhash, np.uint8), bitorder="little")


def hamming(a, b) -> int:
    return int((bits(a) != bits(b)).sum())


def sample(values: np.ndarray, dtype: str = "F32", rows=None, **extra) -> Sample:
    rows = tuple(range(len(values))) if rows is None else tuple(rows)
    shape = (max(rows) + 1, values.shape[1])
    return Sample("t", dtype, shape, rows, words_of(values, dtype), **extra)


def model(samples: dict[TensorKey, Sample]) -> Fingerprint:
    return Fingerprint("a/b", "0" * 40, "probe-2", "safetensors", samples)


def sketch_of(one: Sample, key: TensorKey = KEY):
    return sketch_fingerprints([model({key: one})], device="cpu")[0]


def gaussian(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


# --- hashing -------------------------------------------------------------------------------------


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_mixing_is_splitmix_in_plain_integers(words):
    mixed = mix64(torch.tensor(words, dtype=torch.int64)).tolist()
    assert [m & M64 for m in mixed] == [slow_mix(w & M64) for w in words]


@settings(max_examples=40)
@given(
    st.integers(1, 4), st.sampled_from([1, 3, 8, 130, 1016, 1024, 1030, 2056]), st.integers(0, 99)
)
def test_digest_is_what_its_definition_says_for_rows_of_any_length(n_rows, row_bytes, seed):
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 256, n_rows * row_bytes, np.uint8).tobytes()
    rows = tuple(sorted(int(r) for r in rng.choice(10**6, n_rows, replace=False)))
    one = Sample("t", "U8", (10**6, row_bytes), rows, words)
    assert sketch_of(one).tensors[KEY].digest == slow_digest(rows, words)


def test_digest_counts_the_other_parts_of_a_packed_weight():
    scales = np.array([0.5, 2.0], "<f4").tobytes()
    one = Sample("t", INT8, (2, 32), (0, 1), bytes(range(64)), extras={"scales": scales})
    found = sketch_of(one).tensors[KEY]
    assert found.digest == slow_digest((0, 1), bytes(range(64)), {"scales": scales})
    assert found.mean == pytest.approx(one.values.mean(dtype=float), rel=1e-6)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(["flip", "swap", "swap rows", "zero tail"]))
def test_any_small_change_changes_the_digest(seed, change):
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (3, 2048), np.uint8)
    other = data.copy()
    if change == "flip":
        other.reshape(-1)[rng.integers(data.size)] ^= np.uint8(1 << rng.integers(8))
    elif change == "swap":
        words = other.reshape(-1).view(np.int64)
        i, j = rng.choice(len(words), 2, replace=False)
        words[[i, j]] = words[[j, i]]
    elif change == "swap rows":
        other[[0, 1]] = other[[1, 0]]
    else:
        other[:, -8:] = 0
    lanes = [
        place_lanes(block_lanes(torch.from_numpy(d), SCRATCH), torch.arange(3)).sum(0)
        for d in (data, other)
    ]
    assert not (lanes[0] == lanes[1]).any(), "both lanes tell"


def test_flipping_the_top_bits_of_two_words_changes_both_lanes():
    data = np.zeros((1, 1024), np.uint8)
    seen = set()
    for i in range(16):
        for j in range(i):
            other = data.copy()
            other[0, [8 * i + 7, 8 * j + 7]] ^= np.uint8(128)
            seen.add(tuple(block_lanes(torch.from_numpy(other), SCRATCH)[0, 0].tolist()))
    assert len({a for a, _ in seen}) == len({b for _, b in seen}) == 120


def test_digest_tells_padding_from_zeros():
    digests = {
        sketch_of(Sample("t", "U8", (1, n), (0,), bytes(n))).tensors[KEY].digest
        for n in range(1, 17)
    }
    assert len(digests) == 16


def test_keys_hash_apart():
    keys = [TensorKey("q", 1), TensorKey("q", 11), TensorKey("q1"), TensorKey("q", 1, 1)]
    assert len({key_hash(key) for key in keys}) == 4
    assert pseudo_random("a", 4).tolist() != pseudo_random("b", 4).tolist()


# --- moments -------------------------------------------------------------------------------------


def assert_moments(found, values: np.ndarray, rel: float = 1e-6) -> None:
    x = values.astype(np.float64).ravel()
    x = x[np.isfinite(x)]
    assert found.mean == pytest.approx(x.mean(), rel=rel, abs=rel * x.std())
    assert found.std == pytest.approx(x.std(), rel=rel)
    assert found.skewness == pytest.approx(stats.skew(x), abs=20 * rel)
    assert found.kurtosis == pytest.approx(stats.kurtosis(x, fisher=False), rel=20 * rel)
    assert found.abs_max == np.abs(x).max()


@settings(max_examples=40)
@given(
    st.integers(1, 5), st.integers(2, 2300), st.sampled_from([0.0, 1.0, 1e4, -3e7]),
    st.sampled_from([1e-30, 1e-3, 1.0, 1e30]), st.integers(0, 9),
)  # fmt: skip
def test_moments_are_those_of_float64_also_with_nasty_offsets(n_rows, n_columns, offset, size, s):
    values = (offset + np.random.default_rng(s).gamma(2, 1, (n_rows, n_columns))) * size
    values = values.astype(np.float32)
    if np.unique(values).size < 2:
        return
    found = sketch_of(sample(values)).tensors[KEY]
    assert_moments(found, values, rel=1e-5)
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(values.astype(float), axis=1).astype(np.float32)
    np.testing.assert_allclose(found.row_norms, norms, rtol=2e-6)


def test_what_is_no_finite_number_is_counted_and_left_out():
    values = gaussian(3, 2500) + 5
    values[0, 3], values[1, 2400], values[2, :5] = np.nan, np.inf, -np.inf
    values[0, 10:14] = 0
    found = sketch_of(sample(values)).tensors[KEY]
    assert (found.n, found.n_zero, found.n_nan, found.n_inf) == (7500, 4, 1, 6)
    assert_moments(found, values, rel=1e-5)
    clean = np.where(np.isfinite(values), values, 0)
    np.testing.assert_allclose(found.row_norms, np.linalg.norm(clean, axis=1), rtol=2e-6)
    assert sketch_of(sample(values)).simhash == sketch_of(sample(clean)).simhash


@pytest.mark.parametrize("fill", [np.nan, np.inf])
def test_a_tensor_without_finite_values_has_no_moments(fill):
    found = sketch_of(sample(np.full((2, 40), fill, np.float32))).tensors[KEY]
    assert found.n == 80
    assert found.n_nan + found.n_inf == 80
    assert np.isnan([found.mean, found.std, found.skewness, found.kurtosis, found.abs_max]).all()
    assert not found.projection.any()


def test_an_empty_tensor_is_sketched():
    found = sketch_of(Sample("t", "F32", (0, 8), (), b"")).tensors[KEY]
    assert found.n == 0
    assert np.isnan(found.mean)
    assert found.row_norms.shape == (0,)
    assert sketch_fingerprints([], device="cpu") == []
    assert sketch_fingerprints([model({})], device="cpu")[0].simhash == bytes(128)


def test_a_constant_has_no_skewness_and_no_share_in_simhash():
    found = sketch_of(sample(np.full((4, 1500), 0.25, np.float32)))
    one = found.tensors[KEY]
    assert (one.mean, one.std, one.abs_max) == (0.25, 0.0, 0.25)
    assert np.isnan([one.skewness, one.kurtosis]).all()
    assert found.simhash == bytes(128)


def test_zeros_of_both_signs_are_counted():
    values = np.array([[0.0, -0.0, 1.0]], np.float32)
    assert sketch_of(sample(values)).tensors[KEY].n_zero == 2


def test_subnormal_values_are_measured():
    values = (gaussian(2, 1024) * 1e-40).astype(np.float32)
    found = sketch_of(sample(values)).tensors[KEY]
    assert found.std == pytest.approx(values.astype(float).std(), rel=1e-4)
    assert found.abs_max == np.abs(values).max()


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_values_are_decoded_as_samples_decode_them(dtype):
    values = gaussian(3, 100)
    one = sample(values, dtype)
    assert_moments(sketch_of(one).tensors[KEY], one.values)


@pytest.mark.parametrize(
    ("dtype", "width"),
    [("F64", 8), ("F8_E4M3", 1), ("F8_E5M2", 1), ("I8", 1), ("U8", 1), ("I16", 2), ("I32", 4),
     ("I64", 8), ("BOOL", 1)],
)  # fmt: skip
def test_every_dtype_that_torch_decodes_agrees_with_the_decoder(dtype, width):
    words = np.random.default_rng(1).integers(0, 256, 3 * 64 * width, np.uint8)
    if dtype == "F64":
        words = gaussian(3, 64).astype("<f8").view(np.uint8).reshape(-1)
    if dtype == "BOOL":
        words &= 1
    one = Sample("t", dtype, (3, 64), (0, 1, 2), words.tobytes())
    values = one.values.astype(float)
    found = sketch_of(one).tensors[KEY]
    n = found.n - found.n_nan - found.n_inf
    assert found.mean * n == pytest.approx(values.sum(), rel=1e-5, abs=1e-6 * np.abs(values).sum())
    assert found.abs_max == np.abs(values).max()


def test_quantised_words_and_shifted_norms_come_from_the_samples_values():
    words = np.random.default_rng(2).integers(0, 256, (2, 34), np.uint8)
    words[:, :2] = np.array([0.01], "<f2").view(np.uint8)
    one = Sample("t", "Q8_0", (2, 32), (0, 1), words.tobytes())
    found = sketch_of(one).tensors[KEY]
    assert_moments(found, one.values)
    assert found.digest == slow_digest((0, 1), one.words)
    shifted = sample(gaussian(1, 64), shift=1.0)
    assert_moments(sketch_of(shifted).tensors[KEY], shifted.values)


# --- spectra -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 300), (300, 5), (20, 400), (2, 2)])
def test_singular_values_are_those_of_the_decomposition(shape):
    values = gaussian(*shape)
    found = sketch_of(sample(values)).tensors[KEY].singular_values
    expected = np.linalg.svd(values.astype(float), compute_uv=False)[:16]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(257, 300), (1, 300), (300, 1)])
def test_large_blocks_and_single_rows_have_no_spectrum(shape):
    assert not sketch_of(sample(gaussian(*shape))).tensors[KEY].singular_values.size


# --- SimHash -------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    st.integers(1, 12), st.sampled_from([1, 2, 7, 48, 100, 768, 1023, 1024, 1025, 2048, 2500]),
    st.integers(0, 99), st.booleans(), st.sampled_from([1, 1e-34, 1e30]),
)  # fmt: skip
def test_simhash_is_what_its_definition_says(n_rows, n_columns, seed, wild, size):
    rng = np.random.default_rng(seed)
    values = gaussian(n_rows, n_columns, seed)
    if wild:
        values *= np.exp(8 * rng.standard_normal(values.shape)).astype(np.float32)
        values += np.float32(rng.choice([0, 100]))
        values[:, ::3] = 0
    values = (values.clip(-1e8, 1e8) * size).astype(np.float32)
    rows = sorted(int(r) for r in rng.choice(5000, n_rows, replace=False))
    sums = slow_buckets(KEY, tuple(rows), values)
    found = sketch_of(sample(values, rows=rows))
    assert found.simhash == np.packbits(sums > 0, bitorder="little").tobytes()
    signs = 1 - 2 * (pseudo_random("projection", 1024).numpy() & 1)
    expected = (sums * signs).reshape(2, 512).sum(0).astype(float)
    norm = np.linalg.norm(expected)
    np.testing.assert_allclose(found.projection, expected / (norm or 1), rtol=1e-6)
    small = (sums * signs).reshape(32, 32).sum(0).astype(float)
    np.testing.assert_allclose(
        found.tensors[KEY].projection, small / (np.linalg.norm(small) or 1), rtol=1e-6
    )


@given(st.integers(1, 30), st.integers(1, 1500), st.integers(0, 10**6), st.integers(0, 3))
@settings(max_examples=40)
def test_values_fall_into_their_buckets_one_by_one_or_in_rows(n_rows, n_columns, start, step):
    values = np.random.default_rng(n_columns).integers(-127, 128, (n_rows, n_columns))
    rows = start + (1 + step) * np.arange(n_rows)
    expected = np.zeros(1024, np.int64)
    places = (rows[:, None] * n_columns + np.arange(n_columns)) % 1024
    np.add.at(expected, places, values)
    found = fold(torch.from_numpy(values).float(), rows, n_columns, 0)
    assert (found.numpy() == expected).all()


def test_simhash_of_unrelated_models_is_binomial_and_of_children_close():
    herd = Herd(5)
    founders = [stored(herd.founder()) for _ in range(24)]
    children = [herd.train(founders[0], size, text=1) for size in (0.001, 0.01, 0.1, 0.5)]
    sketches = sketch_fingerprints(
        [fingerprint(str(i), weights) for i, weights in enumerate([*founders, *children])],
        device="cpu",
    )
    unrelated = [hamming(a, b) for i, a in enumerate(sketches[:24]) for b in sketches[:i]]
    assert np.mean(unrelated) == pytest.approx(512, abs=4)
    assert np.std(unrelated) == pytest.approx(16, abs=3)
    assert max(abs(d - 512) for d in unrelated) < 16 * 5
    assert [hamming(sketches[0], child) for child in sketches[24:]] < [4, 16, 60, 200]
    cosines = [float(sketches[0].projection @ child.projection) for child in sketches[24:]]
    assert cosines == pytest.approx([1, 1, 0.995, 0.9], abs=0.03)


def test_large_rows_do_not_outvote_the_others():
    values = gaussian(64, 1024)
    loud = values.copy()
    loud[0] *= 1e4
    assert sketch_of(sample(values)).simhash == sketch_of(sample(loud)).simhash or (
        hamming(sketch_of(sample(values)), sketch_of(sample(loud))) < 8
    )


def test_a_cast_of_a_model_has_nearly_its_simhash_and_its_norms():
    weights = stored(Herd(2).founder())
    bf16, f16, f32 = sketch_fingerprints(
        [fingerprint(dtype, weights, dtype) for dtype in ("BF16", "F16", "F32")], device="cpu"
    )
    assert hamming(bf16, f16) <= 2
    assert bf16.simhash == f32.simhash
    assert bf16.norm_digest == f16.norm_digest == f32.norm_digest != NO_DIGEST
    assert bf16.norm_digests == f32.norm_digests
    assert bf16.shape_digest == f16.shape_digest
    assert bf16.tensors[KEY].digest != f32.tensors[KEY].digest


def test_samples_that_hold_different_rows_agree_on_the_common_ones():
    values = gaussian(40, 600)
    some, more = (
        sketch_of(sample(values[rows], rows=rows)) for rows in (range(0, 30), range(5, 40))
    )
    assert hamming(some, more) < 340, "25 of 40 rows are common"
    moved = sketch_of(sample(values[:30], rows=range(100, 130)))
    assert abs(hamming(some, moved) - 512) < 100, "a row's number matters"


def test_a_tensor_elsewhere_in_the_network_has_other_buckets():
    values = gaussian(8, 1024)
    here, there = sketch_of(sample(values)), sketch_of(sample(values), TensorKey("q", 4))
    assert abs(hamming(here, there) - 512) < 100


def test_vectors_stand_aside_in_simhash():
    vector = Sample("v", "F32", (512,), (0,), words_of(gaussian(1, 512), "F32"))
    found = sketch_of(vector)
    assert found.simhash == bytes(128)
    assert found.tensors[KEY].n == 512


# --- joins ---------------------------------------------------------------------------------------


def test_constant_norms_join_nothing():
    ones = Sample("n", "F32", (64,), (0,), words_of(np.ones(64, np.float32), "F32"))
    found = sketch_of(ones, TensorKey("attn_norm", 0))
    assert found.norm_digest == NO_DIGEST
    assert not found.norm_digests
    assert sketch_of(ones).norm_digest == NO_DIGEST, "no norm at all"


def test_norms_stored_with_a_shift_or_as_float32_join_their_source():
    key = TensorKey("attn_norm", 0)
    exact = words_of(gaussian(1, 64), "BF16")
    source = Sample("n", "BF16", (64,), (0,), exact)
    shifted = Sample("n", "F32", (64,), (0,), words_of(source.values + 1, "F32"), shift=1.0)
    plain = Sample("n", "F32", (64,), (0,), words_of(source.values, "F32"))
    expected = sketch_of(source, key).norm_digests[key]
    assert sketch_of(plain, key).norm_digests[key] == expected
    if (shifted.values == source.values).all():
        assert sketch_of(shifted, key).norm_digests[key] == expected


def test_the_two_zeros_are_one_value_and_rounding_is_to_the_even():
    a = np.array([0.0, 1.0, 1.00390625], np.float32)
    b = np.array([-0.0, 1.0, 1.0], np.float32)
    assert norm_vector_digest(a) == norm_vector_digest(b)
    assert norm_vector_digest(a) != norm_vector_digest(b + np.float32(0.01))


def test_shape_digest_tells_shapes_and_keys():
    values = gaussian(4, 8)
    base = sketch_of(sample(values)).shape_digest
    assert base == sketch_of(sample(gaussian(4, 8, 9), "BF16")).shape_digest
    others = [
        sketch_of(sample(gaussian(4, 9))).shape_digest,
        sketch_of(sample(values), TensorKey("k", 3)).shape_digest,
        sketch_of(replace(sample(values), shape=(4, 2, 4))).shape_digest,
    ]
    assert len({base, *others}) == 4


# --- batches, devices, errors --------------------------------------------------------------------


def everything(sketches) -> list:
    return [
        (s.simhash, s.projection.tobytes(), s.norm_digest, s.shape_digest,
         [(k, t.digest, t.n, t.n_zero, t.n_nan, t.n_inf, t.abs_max) for k, t in s.tensors.items()])
        for s in sketches
    ]  # fmt: skip


def herd_of_sorts() -> list[Fingerprint]:
    herd = Herd(9)
    weights = [stored(herd.founder(layers=2)) for _ in range(3)]
    wide = sample(gaussian(9, 3000), "F16", rows=range(2, 20, 2))
    return [
        *(fingerprint(str(i), w, d) for i, (w, d) in enumerate(zip(weights, ("BF16", "F32", "F16"),
                                                                   strict=True))),
        model({KEY: wide, TensorKey("odd"): Sample("o", "U8", (3, 7), (0, 1, 2), bytes(21))}),
    ]  # fmt: skip


def test_results_do_not_hang_on_chunks_waves_or_company(monkeypatch):
    fingerprints = herd_of_sorts()
    together = sketch_fingerprints(fingerprints, device="cpu")
    alone = [sketch_fingerprints([f], device="cpu")[0] for f in fingerprints]
    assert everything(together) == everything(alone)
    assert everything(together) == everything(
        sketch_fingerprints(fingerprints, device="cpu", memory_bytes=1)
    )
    monkeypatch.setattr(batch, "CACHE_VALUES", 500)
    small = sketch_fingerprints(fingerprints, device="cpu")
    assert everything(together) == everything(small)
    for a, b in zip(together, small, strict=True):
        for key, one in a.tensors.items():
            other = b.tensors[key]
            assert one.std == pytest.approx(other.std, rel=1e-6, nan_ok=True)
            assert one.kurtosis == pytest.approx(other.kurtosis, rel=1e-5, nan_ok=True)
            np.testing.assert_allclose(one.row_norms, other.row_norms, rtol=1e-6)


def test_rows_longer_than_a_chunk_are_cut(monkeypatch):
    values = gaussian(1, 5 << 16)
    values[0, 7] = np.nan
    words = np.random.default_rng(0).integers(0, 256, (1, (5 << 16) // 32 * 34), np.uint8)
    words.reshape(-1, 34)[:, :2] = np.array([0.01], "<f2").view(np.uint8)
    blocks = Sample("t", "Q8_0", (1, 5 << 16), (0,), words.tobytes())
    for one in (sample(values), sample(values, "BF16", rows=[70_000]), blocks):
        cut = sketch_of(one)
        monkeypatch.setattr(batch, "CACHE_VALUES", 1 << 20)
        whole = sketch_of(one)
        monkeypatch.undo()
        assert everything([cut]) == everything([whole])
        np.testing.assert_allclose(
            cut.tensors[KEY].row_norms, whole.tensors[KEY].row_norms, rtol=1e-6
        )
        assert cut.tensors[KEY].digest == slow_digest(one.rows, one.words)


def test_words_that_do_not_fill_their_rows_are_refused():
    with pytest.raises(MalformedError, match="not 2 rows of F32"):
        sketch_of(Sample("t", "F32", (2, 3), (0, 1), bytes(20)))
    with pytest.raises(MalformedError, match="not 2 rows of F32"):
        sketch_of(Sample("t", "F32", (2, 3), (0, 1), bytes(21)))


def test_packed_words_that_rows_share_are_digested_as_a_whole(monkeypatch):
    # Two bytes hold the four codes of three rows and what fills them up.
    def of(words: bytes) -> Sample:
        for module in (batch, decode):
            monkeypatch.setattr(module, "decode_sample", lambda sample: gaussian(3, 3))
        return Sample("t", "NF4:block=64", (3, 3), (0, 1, 2), words)

    found = sketch_of(of(b"abcde")).tensors[KEY]
    assert found.digest != sketch_of(of(b"abcdf")).tensors[KEY].digest
    assert found.n == 9


def test_norms_of_rows_beyond_the_bound_are_dropped(monkeypatch):
    monkeypatch.setattr(batch, "MAX_NORMS", 3)
    values = gaussian(8, 20)
    found = sketch_of(sample(values)).tensors[KEY]
    np.testing.assert_allclose(found.row_norms, np.linalg.norm(values[:3], axis=1), rtol=1e-6)
    assert found.n == 160


def test_devices_are_named_and_their_absence_is_told(monkeypatch):
    assert resolve_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(NoDeviceError, match="no CUDA device"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda", 0)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(NoDeviceError, match="2 CUDA devices, no cuda:7"):
        resolve_device("cuda:7")
    for wrong in ("tpu", "cuda:x", "cpu:1", ""):
        with pytest.raises(NoDeviceError, match="say auto, cpu or cuda"):
            resolve_device(wrong)


def test_staging_on_the_cpu_hands_out_what_was_filled_in():
    staging = Staging(torch.device("cpu"), 8)
    staging.fill(3)[:] = (1, 2, 3)
    assert staging.send().tolist() == [1, 2, 3]
    staging.release()


@needs_cuda
def test_cuda_gives_the_digests_and_simhashes_of_the_cpu():
    fingerprints = herd_of_sorts()
    assert everything(sketch_fingerprints(fingerprints, device="cuda")) == everything(
        sketch_fingerprints(fingerprints, device="cpu")
    )


@pytest.mark.skipif(
    find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") != "1",
    reason="the Triton kernel runs here only with triton installed and TRITON_INTERPRET=1",
)
def test_the_fused_kernel_interpreted_gives_what_torch_gives(monkeypatch):
    values = gaussian(9, 1500)
    values[0, :4], values[1, 7], values[2, 1030] = 0, np.nan, np.inf
    values[3] += 1e6
    values[4] = 0
    values[5, :3] = (1e30, -1e-30, 1e-40)
    tiny = (values * 1e-42).astype(np.float32)
    fp8 = np.random.default_rng(1).integers(0, 256, (3, 1024), np.uint8)
    fingerprints = [
        model({
            KEY: sample(values, rows=range(0, 27, 3)), TensorKey("b"): sample(values, "BF16"),
            TensorKey("v"): Sample("v", "F32", (1500,), (0,), words_of(values[6], "F32")),
            TensorKey("t"): sample(tiny), TensorKey("k"): sample(gaussian(20, 2048), "F16"),
            TensorKey("e"): Sample("e", "F8_E4M3", (3, 1024), (0, 1, 2), fp8.tobytes()),
            TensorKey("f"): Sample("f", "F8_E5M2", (3, 1024), (0, 1, 2), fp8.tobytes()),
        }),
    ]  # fmt: skip
    expected = sketch_fingerprints(fingerprints, device="cpu")
    used = []
    monkeypatch.setattr(
        sketcher, "can_fuse",
        lambda device, *what: used.append(what) or fused.can_fuse(torch.device("cuda"), *what),
    )  # fmt: skip
    found = sketch_fingerprints(fingerprints, device="cpu")
    assert {dtype for dtype, _ in used} >= set(fused.FUSED_DTYPES)
    assert everything(found) == everything(expected)
    for a, b in zip(expected, found, strict=True):
        for key, one in a.tensors.items():
            other = b.tensors[key]
            assert (one.mean, one.std, one.kurtosis) == pytest.approx(
                (other.mean, other.std, other.kurtosis), rel=1e-5, abs=1e-12, nan_ok=True
            )
            np.testing.assert_allclose(one.row_norms, other.row_norms, rtol=1e-6)
            np.testing.assert_array_equal(one.projection, other.projection)


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(1, 3000), st.integers(0, 99))
def test_tiles_of_the_fused_kernel_hold_each_row_once(n_rows, n_columns, seed):
    rng = np.random.default_rng(seed)
    rows, slots = rng.integers(0, 10**9, n_rows), np.sort(rng.integers(0, 4, n_rows))
    order, tiles, shifts, owners = fused._tiles(rows, slots, n_columns)
    assert sorted(order) == list(range(n_rows))
    assert (tiles[0], tiles[-1], len(tiles)) == (0, n_rows, len(shifts) + 1)
    for a, b, shift, owner in zip(tiles, tiles[1:], shifts, owners, strict=False):
        own = order[a:b]
        assert 1 <= len(own) <= 8
        assert set(slots[own]) == {owner}
        assert {int(r) * n_columns % 1024 for r in rows[own]} == {shift}


# --- search --------------------------------------------------------------------------------------


def slow_neighbours(hashes, buckets, k=None, max_distance=None):
    found = []
    for i, a in enumerate(hashes):
        near = sorted(
            (int(np.bitwise_count(a ^ b).sum()), j)
            for j, b in enumerate(hashes)
            if i != j and buckets[i] == buckets[j]
        )
        if k is not None:
            found += [(i, j, d) for d, j in near[:k]]
        else:
            found += sorted((i, j, d) for d, j in near if d <= max_distance and i < j)
    return found


@pytest.mark.parametrize("tile", [4096, 4])
@settings(max_examples=30)
@given(n=st.integers(0, 40), n_buckets=st.integers(1, 12), k=st.integers(1, 6), seed=st.integers(0))
def test_neighbours_by_simhash_are_those_of_the_slow_search(tile, n, n_buckets, k, seed):
    from lineage.weights.sketch import search

    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 256, (n, 128), np.uint8)
    hashes[1::2] = hashes[: n // 2]  # equals
    hashes[1::2, 0] ^= rng.integers(0, 4, n // 2, np.uint8)
    buckets = rng.integers(0, n_buckets, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_TILE", tile)
        for how in ({"k": k}, {"max_distance": 3}, {"max_distance": 1024}):
            found = nearest_simhash(hashes, buckets, device="cpu", memory_bytes=1, **how)
            rows = list(
                zip(found.first.tolist(), found.second.tolist(), found.distance.tolist(),
                    strict=True)
            )  # fmt: skip
            assert rows == slow_neighbours(hashes, buckets, **how)


def test_hashes_may_be_bytes_and_buckets_anything_hashable():
    hashes = [bytes(128), bytes([1]) + bytes(127), bytes(128)]
    found = nearest_simhash(hashes, [b"x", "y", b"x"], k=2, device="cpu")
    assert (found.first.tolist(), found.second.tolist()) == ([0, 2], [2, 0])
    with pytest.raises(ValueError, match="either k or max_distance"):
        nearest_simhash(hashes, [0, 0, 0], device="cpu")
    with pytest.raises(ValueError, match="3 hashes and 2 buckets"):
        nearest_simhash(hashes, [0, 0], k=1, device="cpu")


@pytest.mark.parametrize(
    ("n", "k", "memory"), [(50, 7, 1 << 30), (50, 7, 2400), (5, 50, 24), (1, 3, 99)]
)
def test_cosine_neighbours_are_those_of_the_slow_search(n, k, memory):
    matrix = gaussian(n, 20)
    matrix[n // 2] = 0
    unit = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-30)
    cosines = unit.astype(float) @ unit.astype(float).T
    np.fill_diagonal(cosines, -np.inf)
    k_real = min(k, n - 1)
    indices, found = cosine_top_k(matrix, k, device="cpu", memory_bytes=memory)
    assert indices.shape == found.shape == (n, k_real)
    np.testing.assert_allclose(found, -np.sort(-cosines, axis=1)[:, :k_real], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(cosines, indices, 1), found, atol=1e-6)
    assert all(len(set(row)) == k_real for row in indices.tolist())
