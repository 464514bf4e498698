"""Plain words and the blocks of GGML: against PyTorch, the gguf package, and naive decoders."""

from __future__ import annotations

import re
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawler.errors import MalformedError
from crawler.headers import DTYPE_BITS, GGML_BLOCKS
from lineage.weights.encodings.ggml import (
    REPLAYED,
    codes_of,
    decode_ggml,
    ggml_row_bytes,
    is_ggml,
    quantize,
)
from lineage.weights.encodings.plain import (
    PLAIN_BYTES,
    decode_plain,
    is_plain,
    plain_row_bytes,
    round_to,
)

TORCH = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "U16": "uint16", "U32": "uint32",
    "U64": "uint64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu", "C64": "complex64", "BOOL": "bool",
}  # fmt: skip
SMALL = {"F4": (2, 1), "F6_E2M3": (2, 3), "F6_E3M2": (3, 2)}


def words_of(dtype: str, rng: np.random.Generator) -> bytes:
    """Every word of a narrow dtype, random ones of a wide one."""
    if dtype == "BOOL":
        return bytes([0, 1, 1, 0])
    if DTYPE_BITS[dtype] <= 8:
        return bytes(range(256)) * 3  # whole groups of three bytes
    if DTYPE_BITS[dtype] == 16:
        return np.arange(1 << 16, dtype="<u2").tobytes()
    return rng.integers(0, 256, 8000, np.uint8).tobytes()


def same(a, b) -> bool:
    """Equal bit by bit, but for which NaN."""
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    return a.shape == b.shape and bool(
        np.where(np.isnan(a), np.isnan(b), a.view(np.uint32) == b.view(np.uint32)).all()
    )


def test_the_dtypes_are_those_of_the_safetensors_library():
    from safetensors import SafetensorError, deserialize

    head = b'{"w":{"dtype":"?","shape":[1],"data_offsets":[0,1]}}'
    with pytest.raises(SafetensorError) as refusal:
        deserialize(len(head).to_bytes(8, "little") + head + b"\0")
    known = set(re.findall(r"`(\w+)`", str(refusal.value)))
    assert known == set(DTYPE_BITS)
    assert all(is_plain(dtype) for dtype in known)


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.filterwarnings("ignore:The given buffer is not writable")
def test_words_mean_what_they_mean_in_pytorch(dtype):
    import torch

    data = words_of(dtype, np.random.default_rng(0))
    stored = torch.frombuffer(bytearray(data), dtype=getattr(torch, TORCH[dtype]))
    if dtype == "C64":
        expected = torch.view_as_real(stored).reshape(-1).numpy()
    elif DTYPE_BITS[dtype] == 8 and dtype.startswith("F"):
        expected = stored.float().numpy()
    else:
        with np.errstate(over="ignore"):
            expected = stored.float().numpy() if dtype == "BF16" else stored.numpy().astype("<f4")
    assert same(decode_plain(dtype, data), expected)


@pytest.mark.parametrize("dtype", SMALL)
def test_floats_of_four_and_six_bits_follow_the_microscaling_specification(dtype):
    exponent_bits, mantissa_bits = SMALL[dtype]
    bits = 1 + exponent_bits + mantissa_bits
    bias = 2 ** (exponent_bits - 1) - 1
    expected = []
    for word in range(2**bits):
        text = f"{word:0{bits}b}"
        exponent, mantissa = int(text[1 : 1 + exponent_bits], 2), int(text[1 + exponent_bits :], 2)
        part = Fraction(mantissa, 2**mantissa_bits)
        value = (
            (1 + part) * Fraction(2) ** (exponent - bias)
            if exponent
            else part * Fraction(2) ** (1 - bias)
        )
        expected.append(float(-value if text[0] == "1" else value))
    stream = "".join(f"{word:0{bits}b}"[::-1] for word in range(2**bits))  # lowest bit first
    data = bytes(int(stream[at : at + 8][::-1], 2) for at in range(0, len(stream), 8))
    found = decode_plain(dtype, data)
    assert found.tolist() == expected
    # Largest, smallest normal and smallest subnormal values, as the specification's tables say.
    largest, normal, smallest = {
        "F4": (6.0, 1.0, 0.5), "F6_E2M3": (7.5, 1.0, 0.125), "F6_E3M2": (28.0, 0.25, 0.0625),
    }[dtype]  # fmt: skip
    assert max(found) == largest
    assert found[1] == smallest
    assert found[2**mantissa_bits] == normal


def test_floats_of_four_and_six_bits_agree_with_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype, name in (
        ("F4", "float4_e2m1fn"), ("F6_E2M3", "float6_e2m3fn"), ("F6_E3M2", "float6_e3m2fn"),
    ):  # fmt: skip
        bits = DTYPE_BITS[dtype]
        words = np.arange(2**bits, dtype=np.uint8)
        packed = np.packbits(
            np.unpackbits(words[:, None], axis=1, bitorder="little")[:, :bits], bitorder="little"
        )
        expected = words.view(getattr(ml_dtypes, name)).astype(np.float32)
        assert same(decode_plain(dtype, packed.tobytes()), expected)


def test_exponents_alone_are_powers_of_two_and_one_nan():
    found = decode_plain("F8_E8M0", bytes(range(256)))
    assert found[:255].tolist() == [2.0 ** (word - 127) for word in range(255)]
    assert np.isnan(found[255])


def test_a_float64_beyond_float32_becomes_infinite_without_a_warning():
    assert decode_plain("F64", np.array([1e300, -1e300]).tobytes()).tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F8_E4M3", "F8_E5M2"])
def test_casts_are_those_of_pytorch(dtype):
    import torch

    rng = np.random.default_rng(1)
    values = np.concatenate(
        [
            (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32),
            np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32),
            rng.integers(0, 1 << 32, 100_000, np.uint32).view(np.float32),
            (rng.standard_normal(100_000) * 10.0 ** rng.integers(-4, 3, 100_000)).astype("<f4"),
        ]
    )
    if dtype == "F8_E4M3":  # what lies beyond is cast differently by different versions
        values = values[~(np.abs(values) > 448)]
    expected = torch.from_numpy(values).to(getattr(torch, TORCH[dtype])).float().numpy()
    assert same(round_to(dtype, values), expected)


def test_a_cast_to_eight_bits_ends_at_the_largest_value_or_at_infinity():
    values = np.array([1e9, -1e9, np.inf, 449.0, np.nan], np.float32)
    assert same(round_to("F8_E4M3", values), [448, -448, 448, 448, np.nan])
    assert same(round_to("F8_E5M2", values), [np.inf, -np.inf, np.inf, 448, np.nan])


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_rounding_twice_is_rounding_once(values):
    for dtype in ("F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"):
        once = round_to(dtype, np.array(values, np.float32))
        assert same(round_to(dtype, once), once)


def test_values_are_not_cast_to_integers():
    with pytest.raises(MalformedError, match="not cast to I8"):
        round_to("I8", np.zeros(1, np.float32))


def test_rows_are_as_long_as_their_words():
    assert PLAIN_BYTES["BF16"] == 2
    assert "F4" not in PLAIN_BYTES
    assert plain_row_bytes("BF16", 7) == 14
    assert plain_row_bytes("F6_E3M2", 8) == 6
    assert plain_row_bytes("C64", 3) == 24
    with pytest.raises(MalformedError, match="do not fill whole bytes"):
        plain_row_bytes("F4", 3)
    with pytest.raises(MalformedError, match="no plain dtype"):
        plain_row_bytes("Q8_0", 32)


@pytest.mark.parametrize(("dtype", "n_bytes"), [("F32", 5), ("F6_E2M3", 4), ("C64", 12)])
def test_a_part_of_a_word_is_refused(dtype, n_bytes):
    with pytest.raises(MalformedError, match="not whole words"):
        decode_plain(dtype, bytes(n_bytes))


def test_an_unknown_dtype_is_refused():
    with pytest.raises(MalformedError, match="no plain dtype"):
        decode_plain("F128", bytes(16))


# ---- GGML --------------------------------------------------------------------------------

NOT_DECODED = {"Q8_1", "Q8_K", "Q1_0"}
"""Types without a decoder in the gguf package: two of activations, one of one bit."""


def blocks_of(dtype: str, n_blocks: int, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, n_blocks * GGML_BLOCKS[dtype][1], np.uint8).tobytes()


def test_every_type_of_the_gguf_package_is_decoded_as_there_or_refused_with_a_reason():
    import gguf

    refused = {}
    for kind in gguf.GGMLQuantizationType:
        if is_plain(kind.name):
            assert not is_ggml(kind.name)
            continue
        data = blocks_of(kind.name, 6)
        try:
            found = decode_ggml(kind.name, data)
        except MalformedError as error:
            refused[kind.name] = str(error)
            continue
        with np.errstate(all="ignore"):
            expected = gguf.quants.dequantize(np.frombuffer(data, np.uint8)[None], kind)
        assert same(found, expected.reshape(-1))
    assert refused.keys() <= NOT_DECODED
    assert all("no decoder" in reason for reason in refused.values())


@pytest.mark.parametrize("dtype", ["Q4_0", "Q6_K", "IQ2_XXS"])
def test_many_blocks_decode_as_one_by_one(dtype):
    size = GGML_BLOCKS[dtype][1]
    n = 2 * 65536 // GGML_BLOCKS[dtype][0] + 3
    data = blocks_of(dtype, n)
    found = decode_ggml(dtype, data).reshape(n, -1)
    for at in (0, 1, n // 2, n - 2, n - 1):
        assert same(found[at], decode_ggml(dtype, data[at * size : (at + 1) * size]))


def naive_q4_k(block: bytes) -> list[float]:
    """``Q4_K`` of 256 values, number by number, as ggml's specification describes it."""
    d, least = (float(x) for x in np.frombuffer(block[:4], "<f2"))
    packed, nibbles = block[4:16], block[16:]
    values = []
    for group in range(8):
        if group < 4:
            scale, minimum = packed[group] & 63, packed[group + 4] & 63
        else:
            scale = (packed[group + 4] & 15) | (packed[group - 4] >> 6) << 4
            minimum = (packed[group + 4] >> 4) | (packed[group] >> 6) << 4
        for i in range(32):
            byte = nibbles[32 * (group // 2) + i]
            code = byte >> 4 if group % 2 else byte & 15
            values.append(d * scale * code - least * minimum)
    return values


def naive_q6_k(block: bytes) -> list[float]:
    low, high, scales = block[:128], block[128:192], np.frombuffer(block[192:208], np.int8)
    d = float(np.frombuffer(block[208:], "<f2")[0])
    values = [0.0] * 256
    for half in range(2):
        for i in range(32):
            for quarter in range(4):
                byte = low[64 * half + i + (32 if quarter % 2 else 0)]
                nibble = byte >> 4 if quarter >= 2 else byte & 15
                top = (high[32 * half + i] >> 2 * quarter) & 3
                at = 128 * half + 32 * quarter + i
                values[at] = d * int(scales[at // 16]) * ((nibble | top << 4) - 32)
    return values


def naive_mxfp4(block: bytes) -> list[float]:
    table = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6]
    scale = 2.0 ** (block[0] - 127)
    return [table[byte & 15] * scale for byte in block[1:]] + [
        table[byte >> 4] * scale for byte in block[1:]
    ]


@pytest.mark.parametrize(
    ("dtype", "naive"), [("Q4_K", naive_q4_k), ("Q6_K", naive_q6_k), ("MXFP4", naive_mxfp4)]
)
def test_blocks_mean_what_a_naive_decoder_says(dtype, naive):
    for seed in range(20):
        block = bytearray(blocks_of(dtype, 1, seed))
        # Scales that are ordinary numbers.
        for at in {"Q4_K": (0, 2), "Q6_K": (208,)}.get(dtype, ()):
            block[at : at + 2] = np.float16(0.01 * (seed + 1)).tobytes()
        if dtype == "MXFP4":
            block[0] = 120 + seed % 10
        found = decode_ggml(dtype, bytes(block))
        np.testing.assert_allclose(found, naive(bytes(block)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", REPLAYED)
def test_codes_scales_and_minima_make_the_values(dtype):
    codes = codes_of(dtype, blocks_of(dtype, 200))
    assert codes.codes.dtype == np.int8
    assert codes.codes.shape == (200, 32)
    with np.errstate(all="ignore"):
        values = codes.codes.astype(np.float32) * codes.scales[:, None]
        if codes.minima is not None:
            values = values + codes.minima[:, None]
    expected = decode_ggml(dtype, blocks_of(dtype, 200)).reshape(200, 32)
    usable = np.isfinite(expected).all(axis=1)
    np.testing.assert_allclose(values[usable], expected[usable], rtol=1e-6)
    assert (codes.minima is not None) == (dtype in ("Q4_1", "Q5_1"))


def naive_codes(dtype: str, values: list[float]) -> tuple[list[int], float, float]:
    """Codes, scale and minimum of one block by the rule of ggml's reference, number by number."""
    x = [np.float32(value) for value in values]
    if dtype == "Q8_0":
        scale = np.float32(max(abs(v) for v in x)) / np.float32(127)
        inverse = np.float32(1) / scale
        scaled = [v * inverse for v in x]
        codes = [int(np.sign(v)) * int(abs(v) + np.float32(0.5)) for v in scaled]
        return codes, float(np.float16(scale)), 0.0
    top = 15 if dtype.startswith("Q4") else 31
    if dtype.endswith("_0"):
        extreme = max(x, key=abs)
        scale = extreme / np.float32(-(top + 1) // 2)
        inverse = np.float32(1) / scale
        half = (top + 1) // 2
        codes = [min(top, int(float(v) * float(inverse) + half + 0.5)) - half for v in x]
        return codes, float(np.float16(scale)), 0.0
    least = min(x)
    scale = (max(x) - least) / np.float32(top)
    inverse = np.float32(1) / scale
    codes = [min(top, int((v - least) * inverse + np.float32(0.5))) for v in x]
    return codes, float(np.float16(scale)), float(np.float16(least))


@pytest.mark.parametrize("dtype", REPLAYED)
def test_quantising_follows_the_reference_number_by_number(dtype):
    rng = np.random.default_rng(3)
    values = (rng.standard_normal((60, 32)) * 10.0 ** rng.integers(-3, 2, (60, 1))).astype("<f4")
    found = codes_of(dtype, quantize(dtype, values))
    for at, row in enumerate(values):
        codes, scale, minimum = naive_codes(dtype, row.tolist())
        assert found.codes[at].tolist() == codes
        assert found.scales[at] == np.float32(scale)
        if found.minima is not None:
            assert found.minima[at] == np.float32(minimum)


@pytest.mark.parametrize("dtype", REPLAYED)
def test_quantising_keeps_every_value_within_a_step(dtype):
    values = np.random.default_rng(4).standard_normal((4100, 32)).astype(np.float32)
    data = quantize(dtype, values)  # more than is encoded at once
    assert len(data) == ggml_row_bytes(dtype, values.size)
    decoded = decode_ggml(dtype, data).reshape(values.shape)
    step = np.abs(codes_of(dtype, data).scales)[:, None]
    assert (np.abs(decoded - values) <= 1.1 * step).all()


def test_a_block_of_zeros_and_one_of_nan_are_quantised_without_a_warning():
    values = np.zeros((3, 32), np.float32)
    values[1] = np.nan
    values[2] = np.inf
    for dtype in REPLAYED:
        assert decode_ggml(dtype, quantize(dtype, values))[:32].tolist() == [0.0] * 32


def test_codes_of_other_types_do_not_follow_from_values():
    for function in (
        lambda: quantize("Q4_K", np.zeros(256, np.float32)),
        lambda: codes_of("Q4_K", b""),
    ):
        with pytest.raises(MalformedError, match="codes of Q4_K"):
            function()
    with pytest.raises(MalformedError, match="fill blocks"):
        quantize("Q8_0", np.zeros(33, np.float32))


def test_parts_of_blocks_are_refused():
    with pytest.raises(MalformedError, match="not whole blocks"):
        decode_ggml("Q4_K", bytes(143))
    with pytest.raises(MalformedError, match="not whole blocks"):
        codes_of("Q8_0", bytes(33))
    with pytest.raises(MalformedError, match="multiple of 256"):
        ggml_row_bytes("Q4_K", 300)
    assert ggml_row_bytes("Q4_K", 512) == 288
    for dtype in ("GGML_77", "F32"):
        with pytest.raises(MalformedError, match="no block type"):
            decode_ggml(dtype, b"")


def test_no_blocks_are_no_values():
    assert decode_ggml("Q4_0", b"").shape == (0,)
    assert quantize("Q4_0", np.zeros((0, 32), np.float32)) == b""


def test_the_gguf_package_is_imported_when_it_is_needed_and_not_before():
    code = "import sys, lineage.weights.encodings.ggml; assert 'gguf' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
