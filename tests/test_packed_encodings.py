"""Packed encodings: what hostile parts end in, and a naive oracle beside the fast reading."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crawler.errors import CrawlError, MalformedError, TruncatedError
from lineage.weights.encodings import (
    Encoding,
    codes,
    contains,
    decode_rows,
    is_quantised,
    row_bytes,
)
from lineage.weights.encodings.codes import per_block, unpack_bits

F32 = np.float32
SCALED = "INT8:code=I8,columns=0,rows=1,scale=F32"


def f32(*values: float) -> bytes:
    return np.array(values, F32).tobytes()


def scaled(scale: float = 0.5) -> dict[str, bytes]:
    return {"words": np.arange(-4, 4, dtype=np.int8).tobytes(), "scales": f32(scale, 2)}


# the name


KEYS = st.from_regex(r"[a-z]{1,5}", fullmatch=True)
VALUES = st.from_regex(r"[A-Za-z0-9_]{1,6}", fullmatch=True)


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_an_encodings_name_survives_being_written_and_read(options):
    encoding = Encoding("NAME", options)
    assert Encoding.parse(str(encoding)) == encoding


@pytest.mark.parametrize(
    "text",
    ["", ":", "GPTQ:", "GPTQ:bits", "GPTQ:bits=4,", "GPTQ:group=1,bits=4", "GPTQ:bits=4,bits=4",
     "GPTQ:bits==4", "GPTQ:BITS=4", "A" * 40, "GPTQ:a=" + "1" * 400, "GPTQ:bits=4\n", "a b"],
)  # fmt: skip
def test_what_is_no_name_of_an_encoding_is_refused(text):
    with pytest.raises(MalformedError):
        Encoding.parse(text)


@pytest.mark.parametrize("value", ["-1", "x", "99999999999", "٣"])
def test_a_parameter_that_is_no_number_is_refused(value):
    with pytest.raises(MalformedError):
        Encoding("GPTQ", {"bits": value}).number("bits")


def test_quantised_are_codes_and_not_floats():
    assert all(is_quantised(dtype) for dtype in (SCALED, "Q4_K", "I8", "U8", "GPTQ:bits=4"))
    assert not any(is_quantised(dtype) for dtype in ("BF16", "F32", "F8_E4M3", "F4"))


def test_bytes_of_a_row():
    assert row_bytes(SCALED, 10) == 10
    assert row_bytes("NVFP4:code=F4,columns=16,rows=1,scale=F8_E4M3", 32) == 16
    assert row_bytes("PACKED:code=Q3,columns=32,rows=1,scale=F32", 40) == 16
    assert row_bytes("AWQ:bits=4,group=32,scale=F16", 64) == 32
    with pytest.raises(MalformedError):
        row_bytes("NVFP4:code=F4,columns=16,rows=1,scale=F8_E4M3", 33)
    with pytest.raises(MalformedError):
        row_bytes("PACKED:code=Q9,columns=32,rows=1,scale=F32", 40)


# bits


@given(st.integers(1, 8), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_numbers_are_unpacked_as_one_long_row_of_bits(bits, n, seed):
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**32, (3, -(-n * bits // 32)), np.uint32)
    found = unpack_bits(words, bits, n)
    for row, stored in enumerate(words):
        number = sum(int(word) << (32 * at) for at, word in enumerate(stored))
        naive = [(number >> (bits * at)) & ((1 << bits) - 1) for at in range(n)]
        assert found[row].tolist() == naive


# values


def naive_value(code: int, scale: float, over: int) -> np.float32:
    return F32(F32(code) * F32(scale)) * (F32(1 / over) if over > 1 else F32(1))


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(0, 4), st.integers(0, 4),
    st.sampled_from([1, 127]), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_scales_on_a_grid_reach_their_rectangle(n_rows, n_columns, rows, columns, over, seed):
    rng = np.random.default_rng(seed)
    stored = rng.integers(-128, 128, (n_rows, n_columns), np.int8)
    grid = rng.standard_normal(
        (-(-n_rows // rows) if rows else 1, -(-n_columns // columns) if columns else 1)
    ).astype(F32)
    dtype = f"INT8:code=I8,columns={columns},over={over},rows={rows},scale=F32"
    parts = {"words": stored.tobytes(), "scales": grid.tobytes()}
    values = decode_rows(dtype, parts, n_rows, n_columns)
    for i in range(n_rows):
        for j in range(n_columns):
            scale = grid[i // rows if rows else 0, j // columns if columns else 0]
            assert values[i, j] == naive_value(stored[i, j], scale, over)
    assert np.array_equal(codes(dtype, parts, n_rows, n_columns), stored)
    some = rng.integers(1, n_rows + 1)
    assert np.array_equal(decode_rows(dtype, parts, int(some), n_columns), values[:some])


def gptq(bits: int = 4, n_rows: int = 32, n_columns: int = 32, **more: object) -> tuple[str, dict]:
    """A weight of random codes whose groups of eight rows stand in order."""
    rng = np.random.default_rng(bits)
    options = {"bits": bits, "group": 8, "order": "given", "groups": n_rows // 8,
               "scale": "F16", "zeros": "v2"} | more  # fmt: skip
    parts = {
        "words": rng.bytes(n_rows * n_columns * bits // 8),
        "zeros": rng.bytes(n_rows // 8 * n_columns * bits // 8),
        "scales": rng.standard_normal((n_rows // 8, n_columns)).astype(np.float16).tobytes(),
        "groups": (np.arange(n_rows, dtype=np.int32) // 8).tobytes(),
    }
    encoding = Encoding("GPTQ", {key: str(value) for key, value in options.items()})
    return str(encoding), parts


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq_is_read_as_its_definition_says(bits):
    dtype, parts = gptq(bits)
    words = np.frombuffer(parts["words"], "<u4").reshape(-1, 32)
    zeros = np.frombuffer(parts["zeros"], "<u4").reshape(4, -1)
    scales = np.frombuffer(parts["scales"], "<f2").reshape(4, 32)
    values = decode_rows(dtype, parts, 32, 32)
    for row in range(32):
        for column in range(32):
            code = sum(int(w) << (32 * at) for at, w in enumerate(words[:, column]))
            zero = sum(int(w) << (32 * at) for at, w in enumerate(zeros[row // 8]))
            mask = (1 << bits) - 1
            level = (code >> (bits * row) & mask) - (zero >> (bits * column) & mask)
            assert values[row, column] == F32(scales[row // 8, column]) * F32(level)


def test_a_zero_point_of_none_survives_the_borrowing_of_version_one():
    zeros = np.array([0, 5, 0, 15, 1, 0, 0, 8], np.uint32)
    word = np.uint32(sum(int(z) << (4 * at) for at, z in enumerate(zeros)))
    stored = (np.array([word]) - np.uint32(0x11111111)).astype("<u4")
    parts = {"words": bytes(32), "zeros": stored.tobytes(), "groups": bytes(32),
             "scales": np.ones(8, np.float16).tobytes()}  # fmt: skip
    dtype = "GPTQ:bits=4,group=8,groups=1,order=given,scale=F16,zeros=v1"
    assert decode_rows(dtype, parts, 8, 8)[0].tolist() == (-zeros.astype(F32)).tolist()


# containment


def test_values_contain_their_codes_up_to_half_a_step():
    dtype, parts = SCALED, scaled()
    values = decode_rows(dtype, parts, 2, 4)
    assert contains(dtype, parts, 2, 4, values) == (8, 8)
    steps = np.array([[0.5], [2]], F32)
    assert contains(dtype, parts, 2, 4, values + F32(0.5) * steps) == (8, 8)
    assert contains(dtype, parts, 2, 4, values + F32(0.51) * steps) == (0, 8)
    assert contains(dtype, parts, 2, 4, values - F32(0.51) * steps) == (0, 8)


def test_what_is_clamped_contains_the_last_code():
    parts = {"words": np.array([-128, 127], np.int8).tobytes(), "scales": f32(1)}
    dtype = "INT8:code=I8,columns=0,rows=0,scale=F32"
    assert contains(dtype, parts, 1, 2, np.array([[-1e9, 1e9]], F32)) == (2, 2)
    assert contains(dtype, parts, 1, 2, np.array([[1e9, -1e9]], F32)) == (0, 2)


def test_a_scale_of_zero_and_what_is_no_number_are_not_asked():
    values = np.array([[1, 2, 3, 4], [-0.0, np.nan, np.inf, 6]], F32)
    parts = scaled(0)
    assert contains(SCALED, parts, 2, 4, values) == (2, 2)


@given(st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_of_a_table_the_nearest_level_counts(byte, seed):
    levels = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    levels += [-level for level in levels]
    value = np.random.default_rng(seed).uniform(-8, 8, 2).astype(F32)
    dtype = "MXFP4:code=F4,columns=0,rows=0,scale=F32"
    parts = {"words": bytes([byte]), "scales": f32(1)}
    nearest = [
        abs(levels[code] - v) <= min(abs(level - v) for level in levels) + 1e-6
        for code, v in zip((byte & 15, byte >> 4), value.tolist(), strict=True)
    ]
    assert contains(dtype, parts, 1, 2, value.reshape(1, 2)) == (sum(nearest), 2)


def test_columns_side_by_side_are_cut_after_decoding():
    dtype, parts = gptq()
    whole = decode_rows(dtype, parts, 32, 32)
    cut = str(Encoding("GPTQ", {**Encoding.parse(dtype).options, "first": "5", "width": "32"}))
    assert np.array_equal(decode_rows(cut, parts, 32, 9), whole[:, 5:14])
    assert np.array_equal(codes(cut, parts, 32, 9), codes(dtype, parts, 32, 32)[:, 5:14])
    with pytest.raises(MalformedError):
        decode_rows(cut, parts, 32, 28)


# lies


@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf])
def test_scales_that_are_no_numbers_are_refused(scale):
    with pytest.raises(MalformedError, match="scales"):
        decode_rows(SCALED, scaled(scale), 2, 4)
    dtype, parts = gptq()
    parts["scales"] = np.full(128, scale, np.float16).tobytes()
    with pytest.raises(MalformedError):
        decode_rows(dtype, parts, 32, 32)


def test_rows_of_padding_have_a_scale_of_zero_and_searches_find_negative_ones():
    assert decode_rows(SCALED, scaled(0), 2, 4)[0].tolist() == [0, 0, 0, 0]
    assert decode_rows(SCALED, scaled(-1), 2, 4)[0].tolist() == [4, 3, 2, 1]


@pytest.mark.parametrize("part", ["words", "scales"])
def test_parts_that_are_short_or_absent_are_told(part):
    parts = scaled()
    with pytest.raises(TruncatedError, match=part):
        decode_rows(SCALED, parts | {part: parts[part][:-1]}, 2, 4)
    del parts[part]
    with pytest.raises(MalformedError, match=part):
        decode_rows(SCALED, parts, 2, 4)


@pytest.mark.parametrize(
    "dtype",
    ["INT8:code=I8,columns=0,over=0,rows=1,scale=F32", "INT8:code=I4,columns=0,rows=1,scale=F32",
     "INT8:code=I8,columns=0,rows=1,scale=Q8_0", "INT8:code=I8,columns=0,rows=1",
     "INT8:code=I8,columns=0,rows=1,scale=F32,zero=U8", "FP8:code=Q0,columns=0,rows=1,scale=F32",
     "PACKED:code=Q,columns=0,rows=1,scale=F32", "INT8:code=I8,columns=-1,rows=1,scale=F32",
     "INT8:code=I8,columns=0,outer=plus,rows=1,scale=F32", "INT8", "NONE:code=I8"],
)  # fmt: skip
def test_parameters_that_make_no_sense_are_refused(dtype):
    parts = scaled() | {"outer_scale": f32(1), "zeros": bytes(8)}
    with pytest.raises(MalformedError):
        decode_rows(dtype, parts, 2, 4)


@pytest.mark.parametrize(("outer", "how"), [(0, "over"), (np.nan, "times"), (1e38, "times")])
def test_a_scale_of_scales_that_leads_nowhere_is_refused(outer, how):
    dtype = f"INT8:code=I8,columns=0,outer={how},rows=1,scale=F32"
    parts = {"words": bytes(8), "scales": f32(1e10, 1), "outer_scale": f32(outer)}
    with pytest.raises(MalformedError):
        decode_rows(dtype, parts, 2, 4)


@pytest.mark.parametrize("groups", [-1, 4, 2**31 - 1])
def test_a_group_out_of_range_is_refused(groups):
    dtype, parts = gptq()
    parts["groups"] = np.full(32, groups, np.int32).tobytes()
    with pytest.raises(MalformedError, match="group"):
        decode_rows(dtype, parts, 32, 32)
    dtype = "PACKED:code=Q4,columns=8,order=given,rows=1,scale=F32"
    parts = {"words": bytes(16), "scales": f32(1, 1, 1, 1), "groups": parts["groups"]}
    with pytest.raises(MalformedError, match="group"):
        decode_rows(dtype, parts, 1, 32)


def test_the_group_of_a_column_may_be_stated():
    groups = np.array([1, 0] * 4, np.int32)
    dtype = "PACKED:code=Q4,columns=4,order=given,rows=1,scale=F32"
    parts = {"words": b"\x99" * 4, "scales": f32(1, 10), "groups": groups.tobytes()}
    assert decode_rows(dtype, parts, 1, 8).tolist() == [[10, 1] * 4]


def test_groups_out_of_order_are_refused_where_the_configuration_denies_them():
    dtype, parts = gptq(order="checked")
    decode_rows(dtype, parts, 32, 32)
    parts["groups"] = np.arange(32, dtype=np.int32).tobytes()
    with pytest.raises(MalformedError, match="order"):
        decode_rows(dtype, parts, 32, 32)


@pytest.mark.parametrize("more", [{"group": 0}, {"bits": 5}, {"bits": 0}, {"zeros": "v3"},
                                  {"order": "any"}, {"scale": "F7"}])  # fmt: skip
def test_gptq_with_senseless_parameters_is_refused(more):
    dtype, parts = gptq(**more) if "bits" not in more else (gptq(**{})[0], gptq()[1])
    if "bits" in more:
        dtype = dtype.replace("bits=4", f"bits={more['bits']}")
    with pytest.raises(MalformedError):
        decode_rows(dtype, parts, 32, 32)


def test_symmetric_codes_whose_zero_points_say_otherwise_are_refused():
    dtype, parts = gptq(sym=1)
    with pytest.raises(MalformedError, match="symmetric"):
        decode_rows(dtype, parts, 32, 32)
    parts["zeros"] = b"\x88" * len(parts["zeros"])
    decode_rows(dtype, parts, 32, 32)


def test_a_stated_shape_that_is_another_is_refused():
    dtype = "PACKED:checked=1,code=Q4,columns=0,height=2,rows=1,scale=F32"
    parts = {"words": bytes(8), "scales": f32(1, 1),
             "shape": np.array([2, 8], np.int64).tobytes()}  # fmt: skip
    assert decode_rows(dtype, parts, 2, 8).shape == (2, 8)
    parts["shape"] = np.array([2, 7], np.int64).tobytes()
    with pytest.raises(MalformedError, match="shape"):
        decode_rows(dtype, parts, 2, 8)


def bnb(**more: object) -> dict[str, bytes]:
    state = {"quant_type": "nf4", "blocksize": 64, "shape": [2, 64], "dtype": "float32",
             "nested_blocksize": 256, "nested_offset": 0.5} | more  # fmt: skip
    return {
        "words": bytes(range(64)), "scales": bytes([7, 9]), "scales_of_scales": f32(2),
        "table": f32(*range(16)), "table_of_scales": f32(*range(256)),
        "state": json.dumps(state).encode(),
    }  # fmt: skip


BNB = "BNB4:block=64,code=nf4,nested=1,rows=2"


def test_four_bit_blocks_are_read_as_their_definition_says():
    values = decode_rows(BNB, bnb(), 2, 64)
    assert values[0, :4].tolist() == [0, 0, 0, 1 * (7 * 2 + 0.5)]  # bytes 00 01: high half first
    assert values[1, 1] == (32 & 15) * (9 * 2 + 0.5)
    assert values[1, 0] == (32 >> 4) * (9 * 2 + 0.5)


@pytest.mark.parametrize(
    "lie",
    [{"blocksize": 0}, {"blocksize": -64}, {"blocksize": 128}, {"blocksize": "64"},
     {"blocksize": True}, {"blocksize": 2**40}, {"shape": [2, 65]}, {"shape": [64, 2]},
     {"shape": None}, {"shape": [2] * 100}, {"shape": "2"}, {"quant_type": "fp4"},
     {"nested_blocksize": 0}, {"nested_offset": "x"}, {"nested_offset": float("nan")},
     {"nested_offset": float("inf")}, {"nested_offset": None}, {"blocksize": [64]}],
    ids=str,
)  # fmt: skip
def test_a_quantisation_state_that_lies_is_refused(lie):
    with pytest.raises(MalformedError):
        decode_rows(BNB, bnb(**lie), 2, 64)


@pytest.mark.parametrize(
    "state",
    [b"", b"[]", b"{", b"null", b"[" * 4000, b"\xff\xfe", b'{"shape":' * 400, b" " * 5000,
     b"1" * 4000, json.dumps({"quant_type": "nf4", "blocksize": 64, "shape": [2, 64],
                                           "nested_blocksize": 256, "nested_offset": 0.5}).encode()
     + b" " * 5000, b'"' + b"x" * 3000],
)  # fmt: skip
def test_a_quantisation_state_that_is_none_is_refused(state):
    with pytest.raises(MalformedError):
        decode_rows(BNB, bnb() | {"state": state}, 2, 64)


@pytest.mark.parametrize("name", ["table", "table_of_scales"])
@pytest.mark.parametrize("table", [f32(1, 2), f32(*range(300)), f32(*([np.nan] * 256)), b""])
def test_a_codebook_of_the_wrong_size_or_no_numbers_is_refused(name, table):
    with pytest.raises(CrawlError):
        decode_rows(BNB, bnb() | {name: table}, 2, 64)


def test_a_negative_magnitude_is_refused():
    parts = bnb() | {"scales_of_scales": f32(-2)}
    with pytest.raises(MalformedError, match="negative"):
        decode_rows(BNB, parts, 2, 64)


@settings(max_examples=300)
@given(
    st.sampled_from([SCALED, BNB, gptq()[0], "AWQ:bits=4,group=8,scale=F16",
                     "PACKED:code=Q3,columns=8,rows=1,scale=F16,zero=Q",
                     "NVFP4:code=F4,columns=16,outer=over,rows=1,scale=F8_E4M3"]),
    st.dictionaries(st.sampled_from(["words", "scales", "zeros", "groups", "table", "state",
                                     "scales_of_scales", "table_of_scales", "outer_scale"]),
                    st.binary(max_size=200)),
    st.integers(-1, 9), st.integers(-1, 40),
)  # fmt: skip
def test_arbitrary_bytes_are_read_or_refused(dtype, parts, n_rows, n_columns):
    try:
        values = decode_rows(dtype, parts, n_rows, n_columns)
    except CrawlError:
        return
    assert values.shape == (n_rows, n_columns)
    assert values.dtype == np.float32


def test_a_stated_block_far_larger_than_the_weight_takes_no_memory():
    grid = np.arange(8, dtype=np.float32).reshape(1, 8)
    tracemalloc.start()
    found = per_block(grid, (1 << 24, 1), 4, 8)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
    np.testing.assert_array_equal(found, np.repeat(grid, 4, axis=0))
    np.testing.assert_array_equal(
        per_block(np.array([[1.0, 2.0]]), (2, 3), 2, 5), [[1, 1, 1, 2, 2]] * 2
    )
