"""Codes on a grid of scales: one scale a tensor, a row, a group of columns, or a rectangle.

Covers what the formats of 8-bit and 4-bit floats and most integer formats share, whatever they are
called: compressed-tensors, DeepSeek's 128 × 128 blocks, fbgemm's rows, ModelOpt, LLM.int8, the
microscaling formats MXFP4 and MXFP8 (a power of two for 32 values) and NVFP4 (an 8-bit float for 16
values, and one scale for the tensor). [1]_ [2]_

References
----------
.. [1] OCP Microscaling Formats (MX) Specification 1.0.
.. [2] Dettmers et al., LLM.int8(), NeurIPS 2022: value = code · SCB / 127.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crawler.errors import MalformedError
from lineage.weights.encodings.codes import Codes, Ints, per_block, read_scales, take, unpack_bits
from lineage.weights.encodings.encoding import Encoding
from lineage.weights.encodings.plain import decode_plain

__all__ = ["SCALED", "scaled_codes", "scaled_row_bytes"]

SCALED = ("FP8", "INT8", "PACKED", "MXFP4", "MXFP8", "NVFP4")
"""Names of encodings whose parameters are those of :func:`scaled_codes`."""

_FLOATS = {"F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F4": 4}
_INTEGERS = {"I8": (-128, 127), "U8": (0, 255)}


def scaled_row_bytes(encoding: Encoding, n_columns: int) -> int:
    """Bytes of one row's codes.

    Raises
    ------
    MalformedError
        If a row does not fill whole bytes, or the codes are of no kind that is read.
    """
    code = encoding.text("code")
    if code.startswith("Q"):
        return 4 * -(-n_columns * _width(encoding) // 32)
    bits = _FLOATS.get(code, 8 if code in _INTEGERS else 0)
    if not bits or n_columns * bits % 8:
        raise MalformedError(f"rows of {n_columns} codes of {code} are not read")
    return n_columns * bits // 8


def scaled_codes(
    encoding: Encoding, parts: Mapping[str, bytes], n_rows: int, n_columns: int
) -> Codes:
    """Codes of the first `n_rows` rows.

    Parameters
    ----------
    encoding
        ``code``: dtype of the codes, or ``Q`` and a number of bits for integers packed into
        32-bit words, stored plus half their range;
        ``rows`` and ``columns``: size of the rectangle that has one scale, 0 for all there are;
        ``scale``: dtype of the scales;
        ``outer``: ``times`` or ``over`` when scales are multiplied or divided by one number for
        the tensor;
        ``zero``: dtype of the zero points, ``Q`` when they are packed as codes are, but along the
        rows;
        ``order``: ``given`` when the group of a column is stated;
        ``over``: a number that values are divided by in the end;
        ``checked``: 1 when the shape stands beside the codes, and the whole weight has ``height``
        rows.
    parts
        ``words``, ``scales``, and as the parameters say ``outer_scale``, ``zeros``, ``groups``,
        ``shape``.

    Raises
    ------
    MalformedError
        If the parameters do not make sense, the shape is another, a column's group does not
        exist, a part is missing, or a scale is no finite number.
    TruncatedError
        If a part is too short.
    """
    block = encoding.number("rows"), encoding.number("columns")
    grid = tuple(-(-n // b) if b else 1 for n, b in zip((n_rows, n_columns), block, strict=True))
    if encoding.number("checked", 0):
        _check_shape(parts, encoding.number("height"), n_columns)
    scales = read_scales(parts, "scales", encoding.text("scale"), grid[0] * grid[1])
    scales = _with_outer(encoding, parts, scales).reshape(grid)
    zeros = _zeros(encoding, parts, grid)
    data = take(parts, "words", n_rows * scaled_row_bytes(encoding, n_columns))
    codes, table, lowest, highest = _numbers(encoding, data, n_rows, n_columns)
    over = encoding.number("over", 1)
    if not over:
        raise MalformedError("values are not divided by zero")
    group_of = _groups(encoding, parts, n_columns, grid[1])

    def spread(numbers: NDArray[Any]) -> NDArray[Any]:
        if group_of is None:
            return per_block(numbers, block, n_rows, n_columns)
        return per_block(numbers[:, group_of], (block[0], 1), n_rows, n_columns)

    return Codes(
        codes,
        spread(scales),
        None if zeros is None else spread(zeros),
        table,
        lowest,
        highest,
        1 / over,
    )


def _width(encoding: Encoding) -> int:
    bits = encoding.text("code")[1:]
    if len(bits) != 1 or not "1" <= bits <= "8":
        raise MalformedError(f"integers of {bits} bits are not packed")
    return int(bits)


def _numbers(
    encoding: Encoding, data: bytes, n_rows: int, n_columns: int
) -> tuple[Ints, NDArray[np.float32] | None, int, int]:
    """Codes, the table of their levels, and the lowest and highest code."""
    code = encoding.text("code")
    if code.startswith("Q"):
        bits = _width(encoding)
        words = np.frombuffer(data, "<u4").reshape(n_rows, -1)
        half = 1 << (bits - 1)
        centred = unpack_bits(words, bits, n_columns).astype(np.int16) - half
        return centred, None, -half, half - 1
    if code in _INTEGERS:
        kind = np.dtype(np.int8 if code == "I8" else np.uint8)
        codes: Ints = np.frombuffer(data, kind).reshape(n_rows, n_columns)
        return codes, None, *_INTEGERS[code]
    stored = np.frombuffer(data, np.uint8)
    if _FLOATS[code] == 4:
        stored = np.stack([stored & 0x0F, stored >> 4], axis=1).reshape(-1)
        table = decode_plain(code, bytes(first | (first + 1) << 4 for first in range(0, 16, 2)))
    else:
        table = decode_plain(code, bytes(range(256)))
    return stored.reshape(n_rows, n_columns), table, 0, 0


def _with_outer(
    encoding: Encoding, parts: Mapping[str, bytes], scales: NDArray[np.float32]
) -> NDArray[np.float32]:
    how = encoding.text("outer", "none")
    if how == "none":
        return scales
    outer = read_scales(parts, "outer_scale", "F32", 1)[0]
    if how not in ("times", "over") or not outer:
        raise MalformedError("scales are not multiplied or divided by this number")
    with np.errstate(over="ignore"):
        found: NDArray[np.float32] = scales * outer if how == "times" else scales / outer
    if not np.isfinite(found).all():
        raise MalformedError("scales of scales that are too large")
    return found


def _zeros(encoding: Encoding, parts: Mapping[str, bytes], grid: tuple[int, ...]) -> Ints | None:
    """Zero points, on the grid of the scales."""
    dtype = encoding.text("zero", "none")
    rows, columns = grid
    if dtype == "none":
        return None
    if dtype == "Q":
        bits = _width(encoding)
        n_words = -(-rows * bits // 32)
        words = np.frombuffer(take(parts, "zeros", 4 * n_words * columns), "<u4")
        along_rows = np.ascontiguousarray(words.reshape(n_words, columns).T)
        return unpack_bits(along_rows, bits, rows).T.astype(np.int16) - (1 << (bits - 1))
    if dtype != "I8":
        raise MalformedError(f"zero points of {dtype} are not read")
    return np.frombuffer(take(parts, "zeros", rows * columns), np.int8).reshape(rows, columns)


def _groups(
    encoding: Encoding, parts: Mapping[str, bytes], n_columns: int, n_groups: int
) -> NDArray[np.int32] | None:
    """The group of every column, where it is stated."""
    if encoding.text("order", "none") != "given":
        return None
    stated = np.frombuffer(take(parts, "groups", 4 * n_columns), "<i4").astype(np.int32)
    if (stated < 0).any() or (stated >= n_groups).any():
        raise MalformedError(f"a column's group is none of the {n_groups}")
    return stated


def _check_shape(parts: Mapping[str, bytes], n_rows: int, n_columns: int) -> None:
    stated = np.frombuffer(take(parts, "shape", 16), "<i8").tolist()
    if stated != [n_rows, n_columns]:
        raise MalformedError(f"stated is the shape {stated}, not {[n_rows, n_columns]}")
