"""GPTQ and AWQ: integers packed into 32-bit words, inputs as rows and outputs as columns.

Both keep codes, zero points and float16 scales for groups of inputs. GPTQ packs along the inputs
(``qweight`` is inputs·bits/32 × outputs), AWQ along the outputs and in another order
(``qweight`` is inputs × outputs/8). Version 1 of GPTQ's files stores every zero point less one, by
a subtraction from whole words; ``gptq_v2`` stores them as they are. With activation order the group
of an input stands in ``g_idx``; without, it is checked to be the input's number divided by the size
of a group. [1]_ [2]_

References
----------
.. [1] Frantar et al., GPTQ, ICLR 2023; the files are those of AutoGPTQ and GPTQModel.
.. [2] Lin et al., AWQ, MLSys 2024; the files are those of AutoAWQ, version ``gemm``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from crawler.errors import MalformedError
from lineage.weights.encodings.codes import Codes, read_scales, take, unpack_bits
from lineage.weights.encodings.encoding import Encoding

__all__ = ["AWQ_BITS", "GPTQ_BITS", "awq_codes", "gptq_codes"]

GPTQ_BITS = (2, 3, 4, 8)
"""Widths whose packing is that of AutoGPTQ; others lie in planes."""
AWQ_BITS = (4,)

_AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Which of a word's eight numbers is the first column's, the second's …"""
_ONES = {bits: np.uint32(sum(1 << at for at in range(0, 32, bits))) for bits in (2, 4, 8)}


def gptq_codes(
    encoding: Encoding, parts: Mapping[str, bytes], n_rows: int, n_columns: int
) -> Codes:
    """Codes of the first `n_rows` inputs.

    Parameters
    ----------
    encoding
        ``bits``; ``group``: inputs of a group; ``order``: ``given`` when groups stand in
        ``g_idx``, ``checked`` when ``g_idx`` says what the row's number does, ``none`` without it;
        ``groups``: how many there are, for ``given``; ``scale``: dtype of scales; ``zeros``:
        ``v1`` or ``v2``; ``sym``: 1 when all zero points are to be half the range.
    parts
        ``words`` (qweight), ``zeros`` (qzeros), ``scales``, ``groups`` (g_idx).

    Raises
    ------
    MalformedError
        If the parameters do not make sense, a part is missing, ``g_idx`` is out of range or not
        what ``checked`` wants, zero points are not what ``sym`` wants, or a scale is no finite
        number.
    TruncatedError
        If a part is too short.
    """
    bits, group = encoding.number("bits"), encoding.number("group")
    if bits not in GPTQ_BITS or not group:
        raise MalformedError(f"GPTQ with {bits} bits in groups of {group} is not read")
    period, n_words = (32, bits) if bits == 3 else (32 // bits, 1)
    n_units = -(-n_rows // period)
    packed = np.frombuffer(take(parts, "words", n_units * n_words * n_columns * 4), "<u4")
    # Units × columns × words of a unit: numbers run along the inputs.
    by_column = packed.reshape(n_units, n_words, n_columns).transpose(0, 2, 1)
    numbers = unpack_bits(np.ascontiguousarray(by_column).reshape(-1, n_words), bits, period)
    codes = numbers.reshape(n_units, n_columns, period).transpose(0, 2, 1)
    group_of, n_groups = _groups(encoding, parts, n_rows, group)
    scales = read_scales(parts, "scales", encoding.text("scale"), n_groups * n_columns)
    zeros = _gptq_zeros(encoding, parts, n_groups, n_columns, bits)
    return Codes(
        codes.reshape(-1, n_columns)[:n_rows],
        scales.reshape(n_groups, n_columns)[group_of],
        zeros[group_of],
        highest=(1 << bits) - 1,
    )


def _groups(
    encoding: Encoding, parts: Mapping[str, bytes], n_rows: int, group: int
) -> tuple[NDArray[np.int64], int]:
    """The group of every row, and how many groups must be at hand."""
    in_order = np.arange(n_rows) // group
    n_groups = int(-(-n_rows // group))
    order = encoding.text("order")
    if order == "none":
        return in_order, n_groups
    if order not in ("checked", "given"):
        raise MalformedError(f"GPTQ has no order called {order}")
    stated = np.frombuffer(take(parts, "groups", 4 * n_rows), "<i4").astype(np.int64)
    if order == "checked":
        if (stated != in_order).any():
            raise MalformedError("groups are not in order, though the configuration says so")
        return in_order, n_groups
    n_groups = encoding.number("groups")
    if (stated < 0).any() or (stated >= n_groups).any():
        raise MalformedError(f"a row's group is none of the {n_groups}")
    return stated, n_groups


def _gptq_zeros(
    encoding: Encoding, parts: Mapping[str, bytes], n_groups: int, n_columns: int, bits: int
) -> NDArray[np.int16]:
    version = encoding.text("zeros")
    if version not in ("v1", "v2"):
        raise MalformedError(f"GPTQ has no zero points called {version}")
    n_words = _words_of(n_columns, bits)
    words = np.frombuffer(take(parts, "zeros", 4 * n_groups * n_words), "<u4")
    words = words.reshape(n_groups, n_words)
    if version == "v1" and bits in _ONES:
        # The writer took one off every number by subtracting from the word, borrowing where a
        # zero point was 0; adding to the word gives that back.
        words = words + _ONES[bits]
    zeros = unpack_bits(words, bits, n_columns).astype(np.int16)
    if version == "v1" and bits not in _ONES:
        zeros = (zeros + 1) & ((1 << bits) - 1)
    if encoding.number("sym", 0) and (zeros != 1 << (bits - 1)).any():
        raise MalformedError("zero points are not in the middle, though said to be symmetric")
    return zeros


def _words_of(n: int, bits: int) -> int:
    return -(-n * bits // 32)


def awq_codes(encoding: Encoding, parts: Mapping[str, bytes], n_rows: int, n_columns: int) -> Codes:
    """Codes of the first `n_rows` inputs.

    Parameters
    ----------
    encoding
        ``bits``, ``group``, ``scale`` as for :func:`gptq_codes`.
    parts
        ``words`` (qweight), ``zeros`` (qzeros), ``scales``.

    Raises
    ------
    MalformedError
        If the parameters do not make sense, columns do not fill words, a part is missing or a
        scale is no finite number.
    TruncatedError
        If a part is too short.
    """
    bits, group = encoding.number("bits"), encoding.number("group")
    if bits not in AWQ_BITS or not group or n_columns % 8:
        raise MalformedError(f"AWQ with {bits} bits, groups of {group}, {n_columns} columns")
    n_groups = -(-n_rows // group)
    codes = _awq_numbers(take(parts, "words", n_rows * n_columns // 2), n_rows)
    zeros = _awq_numbers(take(parts, "zeros", n_groups * n_columns // 2), n_groups)
    scales = read_scales(parts, "scales", encoding.text("scale"), n_groups * n_columns)
    group_of = np.arange(n_rows) // group
    return Codes(
        codes,
        scales.reshape(n_groups, n_columns)[group_of],
        zeros.astype(np.int16)[group_of],
        highest=(1 << bits) - 1,
    )


def _awq_numbers(data: bytes, n_rows: int) -> NDArray[np.uint8]:
    words = np.frombuffer(data, "<u4").reshape(-1, 1)
    numbers = unpack_bits(words, 4, 8)[:, list(_AWQ_PLACES)]
    return numbers.reshape(n_rows, -1)
