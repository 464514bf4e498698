"""From stored words to values: plain dtypes, and the blocks of GGUF.

A *word* is one stored number's bits. Everything here works on raw bytes and returns float32 arrays
(float64 words lose precision there, which no comparison at the grid of a coarser dtype notices).
Block layouts follow the GGUF specification (ggml-quants): ``Q8_0`` is 32 codes with one float16
scale, ``Q4_0`` is 32 four-bit codes with one float16 scale and an offset of 8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crawler.errors import MalformedError

__all__ = [
    "BLOCK_BYTES",
    "PLAIN_BYTES",
    "codes_of",
    "decode",
    "quantize_q4_0",
    "quantize_q8_0",
    "round_to",
    "row_bytes",
]

F32 = NDArray[np.float32]

PLAIN_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "I16": 2, "I32": 4, "I64": 8, "U16": 2, "U32": 4, "U64": 8, "BOOL": 1,
}  # fmt: skip
"""Bytes of one word of every plain dtype that is read."""

BLOCK_BYTES = {"Q8_0": 34, "Q4_0": 18}
"""Bytes of one block of 32 values."""
_BLOCK = 32

_NUMPY = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I8": "i1", "U8": "u1", "BOOL": "u1",
    "I16": "<i2", "I32": "<i4", "I64": "<i8", "U16": "<u2", "U32": "<u4", "U64": "<u8",
}  # fmt: skip


def row_bytes(dtype: str, n_columns: int) -> int:
    """Bytes of one row of `n_columns` values.

    Raises
    ------
    MalformedError
        If the dtype is unknown, or a row does not consist of whole blocks.
    """
    if dtype in PLAIN_BYTES:
        return PLAIN_BYTES[dtype] * n_columns
    if dtype in BLOCK_BYTES:
        if n_columns % _BLOCK:
            raise MalformedError(f"{dtype} rows need a multiple of 32 columns, not {n_columns}")
        return BLOCK_BYTES[dtype] * n_columns // _BLOCK
    raise MalformedError(f"dtype {dtype} cannot be read yet")


def decode(dtype: str, data: bytes) -> F32:
    """The values of `data` as a flat float32 array.

    Raises
    ------
    MalformedError
        If the dtype is unknown or `data` is not a whole number of words.
    """
    if dtype in BLOCK_BYTES:
        codes, scales = codes_of(dtype, data)
        return np.asarray(codes.astype(np.float32) * scales[:, None]).reshape(-1)
    width = PLAIN_BYTES.get(dtype)
    if width is None:
        raise MalformedError(f"dtype {dtype} cannot be read yet")
    if len(data) % width:
        raise MalformedError(f"{len(data)} bytes are not whole words of {dtype}")
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    if dtype in ("F8_E4M3", "F8_E5M2"):
        return _FP8_VALUES[dtype][np.frombuffer(data, np.uint8)]
    with np.errstate(over="ignore"):
        return np.frombuffer(data, _NUMPY[dtype]).astype(np.float32)


def codes_of(dtype: str, data: bytes) -> tuple[NDArray[np.int8], F32]:
    """Codes (blocks × 32, centred on zero) and scales (blocks) of quantised `data`.

    Raises
    ------
    MalformedError
        If `data` is not a whole number of blocks.
    """
    width = BLOCK_BYTES[dtype]
    if len(data) % width:
        raise MalformedError(f"{len(data)} bytes are not whole blocks of {dtype}")
    blocks = np.frombuffer(data, np.uint8).reshape(-1, width)
    scales = blocks[:, :2].copy().view("<f2").astype(np.float32)[:, 0]
    if dtype == "Q8_0":
        return blocks[:, 2:].view(np.int8), scales
    packed = blocks[:, 2:]
    codes = np.concatenate([packed & 0x0F, packed >> 4], axis=1).astype(np.int8) - np.int8(8)
    return codes, scales


def quantize_q8_0(values: F32) -> tuple[NDArray[np.int8], F32]:
    """Codes and float16-rounded scales of the reference ``Q8_0`` routine.

    The scale is max|x| / 127; codes are rounded half away from zero with the *unrounded* scale.
    """
    blocks = values.reshape(-1, _BLOCK).astype(np.float32)
    scale = np.abs(blocks).max(axis=1) / np.float32(127)
    with np.errstate(divide="ignore"):
        inverse = np.where(scale == 0, np.float32(0), np.float32(1) / scale)
    scaled = blocks * inverse[:, None]
    codes = np.copysign(np.floor(np.abs(scaled) + np.float32(0.5)), scaled)
    return codes.astype(np.int8), scale.astype(np.float16).astype(np.float32)


def quantize_q4_0(values: F32) -> tuple[NDArray[np.int8], F32]:
    """Codes (centred on zero) and float16-rounded scales of the reference ``Q4_0`` routine.

    The scale is the value of largest magnitude, with its sign, divided by -8; codes are
    ``min(15, trunc(x / scale + 8.5))`` before centring.
    """
    blocks = values.reshape(-1, _BLOCK).astype(np.float32)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)[:, 0]
    scale = extreme / np.float32(-8)
    with np.errstate(divide="ignore"):
        inverse = np.where(scale == 0, np.float32(0), np.float32(1) / scale)
    codes = np.trunc(blocks * inverse[:, None] + np.float32(8.5)).clip(0, 15)
    return (codes - 8).astype(np.int8), scale.astype(np.float16).astype(np.float32)


def round_to(dtype: str, values: F32) -> F32:
    """`values` rounded to the grid of `dtype` (nearest, ties to even), as float32.

    Raises
    ------
    MalformedError
        For dtypes that values are not cast to.
    """
    if dtype in ("F32", "F64"):
        return values
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float32)
    if dtype == "BF16":
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) & np.uint32(0xFFFF0000)
        return rounded.view(np.float32)
    raise MalformedError(f"values are not cast to {dtype}")


def _fp8_table(exponent_bits: int, mantissa_bits: int, finite_only: bool) -> F32:
    """All 256 values of an 8-bit float (OCP 8-bit Floating Point Specification)."""
    bias = 2 ** (exponent_bits - 1) - 1
    table = np.zeros(256, np.float32)
    for word in range(256):
        sign = -1.0 if word >> 7 else 1.0
        exponent = (word >> mantissa_bits) & (2**exponent_bits - 1)
        mantissa = word & (2**mantissa_bits - 1)
        top = exponent == 2**exponent_bits - 1
        if top and (not finite_only or mantissa == 2**mantissa_bits - 1):
            table[word] = np.nan if finite_only or mantissa else sign * np.inf
        elif exponent == 0:
            table[word] = sign * mantissa * 2.0 ** (1 - bias - mantissa_bits)
        else:
            table[word] = sign * (1 + mantissa / 2**mantissa_bits) * 2.0 ** (exponent - bias)
    return table


_FP8_VALUES = {
    "F8_E4M3": _fp8_table(4, 3, finite_only=True),
    "F8_E5M2": _fp8_table(5, 2, finite_only=False),
}
