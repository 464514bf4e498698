"""Blocks of GGML: codes with their scales, as GGUF files hold them.

Values come from the reference decoder in Python, the ``gguf`` package of llama.cpp, for every type
that it decodes. Its encoder replays the five types whose codes follow from the values alone
(``Q8_0``, ``Q4_0``, ``Q4_1``, ``Q5_0``, ``Q5_1``); the scales of the others are searched for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crawler.errors import MalformedError
from crawler.headers import GGML_BLOCKS
from lineage.weights.encodings.plain import is_plain

__all__ = [
    "REPLAYED",
    "Codes",
    "codes_of",
    "decode_ggml",
    "ggml_blocks",
    "ggml_row_bytes",
    "is_ggml",
    "quantize",
]

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType

F32 = NDArray[np.float32]

REPLAYED = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
"""Types whose codes follow from the values alone."""

_BLOCK = 32
"""Values in a block of each of :data:`REPLAYED`."""
_VALUES_AT_ONCE = 1 << 16
"""Values decoded at once: the decoder's intermediate arrays take up to a hundred bytes a value."""


@dataclass(frozen=True, slots=True)
class Codes:
    """What blocks of 32 values hold: ``values = codes · scales + minima``.

    Attributes
    ----------
    codes
        Blocks × 32: centred on zero where there are no minima, else counted from zero.
    scales
        One a block.
    minima
        One a block; None for ``Q8_0``, ``Q4_0`` and ``Q5_0``.
    """

    codes: NDArray[np.int8]
    scales: F32
    minima: F32 | None = None


def is_ggml(dtype: str) -> bool:
    """Whether `dtype` is a block type of GGML (its plain types are plain dtypes)."""
    return dtype in GGML_BLOCKS and not is_plain(dtype)


def ggml_row_bytes(dtype: str, n_columns: int) -> int:
    """Bytes of one row of `n_columns` values.

    Raises
    ------
    MalformedError
        If the dtype is unknown, or a row does not consist of whole blocks.
    """
    values, size_bytes = _block(dtype)
    if n_columns % values:
        raise MalformedError(f"{dtype} rows need a multiple of {values} columns, not {n_columns}")
    return n_columns // values * size_bytes


def decode_ggml(dtype: str, data: bytes) -> F32:
    """The values of `data` as a flat float32 array.

    Raises
    ------
    MalformedError
        If the dtype is unknown or one that the reference decoder does not decode, or `data` is
        not a whole number of blocks.
    """
    values, _ = _block(dtype)
    blocks = ggml_blocks(dtype, data)
    decoded = np.empty(len(blocks) * values, np.float32)
    step = _VALUES_AT_ONCE // values
    from gguf import quants  # three tenths of a second, and few models need it

    kind = _kind(dtype)
    for first in range(0, len(blocks), step):
        some = np.ascontiguousarray(blocks[first : first + step]).reshape(1, -1)
        try:
            with np.errstate(all="ignore"):  # scales may be NaN or infinite
                found = quants.dequantize(some, kind)
        except NotImplementedError as error:
            raise MalformedError(
                f"{dtype} is not decoded: the gguf package has no decoder for it"
            ) from error
        at = first * values
        decoded[at : at + found.size] = found.reshape(-1)
    return decoded


def quantize(dtype: str, values: F32) -> bytes:
    """Blocks that the reference encoder makes of `values`.

    Parameters
    ----------
    dtype
        One of :data:`REPLAYED`.
    values
        Any shape; rows are multiples of 32 values.

    Raises
    ------
    MalformedError
        If codes of `dtype` do not follow from the values, or the values do not fill blocks.
    """
    if dtype not in REPLAYED:
        raise MalformedError(f"codes of {dtype:.40} do not follow from the values alone")
    if values.size % _BLOCK:
        raise MalformedError(f"{values.size} values do not fill blocks of {dtype}")
    from gguf import quants

    step = _VALUES_AT_ONCE
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    with np.errstate(all="ignore"):
        return b"".join(
            quants.quantize(flat[at : at + step].reshape(1, -1), _kind(dtype)).tobytes()
            for at in range(0, flat.size, step)
        )


def codes_of(dtype: str, data: bytes) -> Codes:
    """Codes, scales and minima of `data`.

    Raises
    ------
    MalformedError
        If `dtype` is none of :data:`REPLAYED`, or `data` is not a whole number of blocks.

    Examples
    --------
    >>> block = np.float16(0.5).tobytes() + bytes([0x0F] + 15 * [0x88])
    >>> found = codes_of("Q4_0", block)
    >>> found.codes[0, :2].tolist(), int(found.codes[0, 16]), found.scales.tolist()
    ([7, 0], -8, [0.5])
    """
    if dtype not in REPLAYED:
        raise MalformedError(f"codes of {dtype:.40} are not taken apart")
    blocks = ggml_blocks(dtype, data)
    scales = _halves(blocks, 0)
    if dtype == "Q8_0":
        return Codes(blocks[:, 2:].view(np.int8), scales)
    has_minima, has_fifth_bit = dtype.endswith("_1"), dtype.startswith("Q5")
    nibbles = blocks[:, -16:]
    codes = np.concatenate([nibbles & 0x0F, nibbles >> 4], axis=1)
    if has_fifth_bit:
        fifth = blocks[:, -20:-16]
        codes |= np.unpackbits(fifth, axis=1, bitorder="little") << np.uint8(4)
    if has_minima:
        return Codes(codes.view(np.int8), scales, _halves(blocks, 2))
    return Codes(codes.view(np.int8) - np.int8(16 if has_fifth_bit else 8), scales)


def _block(dtype: str) -> tuple[int, int]:
    """Values and bytes of one block."""
    if not is_ggml(dtype):
        raise MalformedError(f"{dtype:.40} is no block type of GGML that is known")
    return GGML_BLOCKS[dtype]


def ggml_blocks(dtype: str, data: bytes) -> NDArray[np.uint8]:
    """Blocks × bytes of a block.

    Raises
    ------
    MalformedError
        If the dtype is unknown, or `data` is not a whole number of blocks.
    """
    _, size_bytes = _block(dtype)
    if len(data) % size_bytes:
        raise MalformedError(f"{len(data)} bytes are not whole blocks of {dtype}")
    return np.frombuffer(data, np.uint8).reshape(-1, size_bytes)


def _halves(blocks: NDArray[np.uint8], at: int) -> F32:
    """The float16 number at byte `at` of every block."""
    return blocks[:, at : at + 2].copy().view("<f2").astype(np.float32)[:, 0]


def _kind(dtype: str) -> GGMLQuantizationType:
    """The gguf package's name of a type.

    Raises
    ------
    MalformedError
        If the installed package does not have it.
    """
    from gguf import GGMLQuantizationType

    try:
        return GGMLQuantizationType[dtype]
    except KeyError as error:
        raise MalformedError(
            f"{dtype} is not decoded: the gguf package does not know it"
        ) from error
