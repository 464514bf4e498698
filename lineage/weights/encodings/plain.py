"""Plain dtypes: one word a value, no scale beside it.

Names are those of the safetensors format, which PyTorch's and ONNX's dtypes are translated to.
Words are little-endian. Small floats follow the OCP 8-bit Floating Point Specification (E4M3, E5M2)
and the OCP Microscaling Formats Specification 1.0 (E8M0, E3M2, E2M3, E2M1); ``FNUZ`` is the
encoding of Graphcore, AMD and Qualcomm: one NaN in the place of minus zero, a bias higher by one.
Words of less than a byte stand one after the other from the lowest bit of the first byte on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from crawler.errors import MalformedError
from crawler.headers import DTYPE_BITS

__all__ = [
    "PLAIN_BYTES",
    "TORCH_NAMES",
    "decode_plain",
    "is_plain",
    "plain_row_bytes",
    "round_to",
]

F32 = NDArray[np.float32]

PLAIN_BYTES = {dtype: bits // 8 for dtype, bits in DTYPE_BITS.items() if not bits % 8}
"""Bytes of one word of every plain dtype whose words are whole bytes."""

TORCH_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
"""What PyTorch, and with it mergekit, calls the floats that models are merged in."""

_NUMPY = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I8": "i1", "U8": "u1", "BOOL": "u1", "C64": "<f4",
    "I16": "<i2", "I32": "<i4", "I64": "<i8", "U16": "<u2", "U32": "<u4", "U64": "<u8",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _SmallFloat:
    """A binary float of at most eight bits: sign, exponent, mantissa, from the highest bit down.

    `special` says what the words besides the finite ones are: ``ieee`` (infinities and NaNs take
    the highest exponent), ``top`` (the highest word is NaN), ``minus zero`` (that word is NaN) or
    ``none``.
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int
    special: str

    @property
    def quantum_exponent(self) -> int:
        """Exponent of the distance between the smallest values."""
        return 1 - self.bias - self.mantissa_bits

    def value(self, word: int) -> float:
        """The value of one word."""
        magnitude_bits = self.exponent_bits + self.mantissa_bits
        sign = -1.0 if word >> magnitude_bits else 1.0
        exponent = (word >> self.mantissa_bits) & ((1 << self.exponent_bits) - 1)
        mantissa = word & ((1 << self.mantissa_bits) - 1)
        is_highest_exponent = exponent == (1 << self.exponent_bits) - 1
        if self.special == "minus zero" and word == 1 << magnitude_bits:
            return np.nan
        if self.special == "ieee" and is_highest_exponent:
            return np.nan if mantissa else sign * np.inf
        if self.special == "top" and word & ((1 << magnitude_bits) - 1) == (
            (1 << magnitude_bits) - 1
        ):
            return np.nan
        significand = mantissa + (1 << self.mantissa_bits if exponent else 0)
        return sign * significand * 2.0 ** (max(exponent, 1) - 1 + self.quantum_exponent)

    @property
    def n_words(self) -> int:
        """How many words there are."""
        return 1 << (1 + self.exponent_bits + self.mantissa_bits)


_SMALL_FLOATS = {
    "F8_E4M3": _SmallFloat(4, 3, 7, "top"),
    "F8_E5M2": _SmallFloat(5, 2, 15, "ieee"),
    "F8_E4M3FNUZ": _SmallFloat(4, 3, 8, "minus zero"),
    "F8_E5M2FNUZ": _SmallFloat(5, 2, 16, "minus zero"),
    "F6_E2M3": _SmallFloat(2, 3, 1, "none"),
    "F6_E3M2": _SmallFloat(3, 2, 3, "none"),
    "F4": _SmallFloat(2, 1, 1, "none"),
}


def is_plain(dtype: str) -> bool:
    """Whether `dtype` is one word a value."""
    return dtype in DTYPE_BITS


def plain_row_bytes(dtype: str, n_columns: int) -> int:
    """Bytes of one row of `n_columns` words.

    Raises
    ------
    MalformedError
        If the dtype is unknown, or a row does not fill whole bytes (``F4``, ``F6``).
    """
    bits = _bits(dtype) * n_columns
    if bits % 8:
        raise MalformedError(f"rows of {n_columns} words of {dtype} do not fill whole bytes")
    return bits // 8


def decode_plain(dtype: str, data: bytes) -> F32:
    """The values of `data` as a flat float32 array; a complex word is two, real before imaginary.

    Words of float64 and of long integers lose precision there, which no comparison on the grid of
    a coarser dtype notices. NaN and infinities come as they are stored.

    Raises
    ------
    MalformedError
        If the dtype is unknown or `data` is not a whole number of words.

    Examples
    --------
    >>> decode_plain("BF16", bytes([0x80, 0x3F, 0x00, 0xC0])).tolist()
    [1.0, -2.0]
    >>> decode_plain("F4", bytes([0x21])).tolist()
    [0.5, 1.0]
    """
    bits = _bits(dtype)
    if len(data) * 8 % bits:
        raise MalformedError(f"{len(data)} bytes are not whole words of {dtype}")
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    if dtype in _NUMPY:
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite
            return np.frombuffer(data, _NUMPY[dtype]).astype(np.float32)
    return _table(dtype)[_words(np.frombuffer(data, np.uint8), bits)]


def round_to(dtype: str, values: F32) -> F32:
    """`values` rounded to the grid of `dtype` (nearest, ties to even), as float32.

    What lies beyond the largest value becomes infinite, or the largest value where the dtype has no
    infinity: writers of ``F8_E4M3`` clamp before they cast, and PyTorch's own cast does by now.

    Raises
    ------
    MalformedError
        For dtypes that values are not cast to.

    Examples
    --------
    >>> round_to("F8_E4M3", np.array([0.3, 17.0, 1e4], np.float32)).tolist()
    [0.3125, 16.0, 448.0]
    """
    if dtype in ("F32", "F64"):
        return values
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float32)
    if dtype == "BF16":
        return _round_to_bfloat16(values)
    if dtype in ("F8_E4M3", "F8_E5M2"):
        return _round_to_small(dtype, values)
    raise MalformedError(f"values are not cast to {dtype}")


def _bits(dtype: str) -> int:
    bits = DTYPE_BITS.get(dtype)
    if bits is None:
        raise MalformedError(f"{dtype:.40} is no plain dtype")
    return bits


@cache
def _table(dtype: str) -> F32:
    """The value of every word of a small float."""
    if dtype == "F8_E8M0":  # an exponent alone
        exponents = np.arange(256, dtype=np.float64) - 127
        values = np.exp2(exponents)
        values[255] = np.nan
        return values.astype(np.float32)
    kind = _SMALL_FLOATS[dtype]
    return np.array([kind.value(word) for word in range(kind.n_words)], np.float32)


def _words(data: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Words of four, six or eight bits, the first in the lowest bits."""
    if bits == 8:
        return data
    if bits == 4:
        return np.stack([data & 0x0F, data >> 4], axis=1).reshape(-1)
    triples = data.reshape(-1, 3).astype(np.uint32)
    joined = triples[:, 0] | triples[:, 1] << 8 | triples[:, 2] << 16
    words = np.stack([joined >> shift & 0x3F for shift in (0, 6, 12, 18)], axis=1)
    return words.reshape(-1).astype(np.uint8)


def _round_to_bfloat16(values: F32) -> F32:
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded &= 0xFFFF0000
    found = rounded.view(np.float32)
    # Rounding up carries the highest NaNs over into the sign; a cast keeps them NaN.
    is_nan = np.isnan(values)
    if is_nan.any():
        found[is_nan] = np.nan
    return found


def _round_to_small(dtype: str, values: F32) -> F32:
    """Round to a float of eight bits: to multiples of the distance between values there."""
    kind = _SMALL_FLOATS[dtype]
    _, exponents = np.frexp(values)  # |values| = m · 2^exponent with m in [0.5, 1)
    quanta = np.maximum(exponents - 1 - kind.mantissa_bits, kind.quantum_exponent)
    largest = np.float32(np.nanmax(_finite(_table(dtype))))
    # A multiple that is even has an even mantissa, at the border of two exponents as well.
    with np.errstate(invalid="ignore", over="ignore"):  # signalling NaNs; the largest
        rounded = np.ldexp(np.rint(np.ldexp(values, -quanta)), quanta)
    beyond = np.copysign(np.float32(np.inf) if kind.special == "ieee" else largest, values)
    return np.where(np.abs(rounded) > largest, beyond, rounded).astype(np.float32)


def _finite(values: F32) -> F32:
    return values[np.isfinite(values)]
