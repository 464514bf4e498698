"""From stored words to values, whatever the words are.

A dtype is a plain one (``BF16``), a block type of GGML (``Q4_K``), or the name of a packed encoding
with its parameters (``GPTQ:bits=4,group=128,…``; see :class:`Encoding`), whose words mean something
only together with scales, zero points and tables that are stored elsewhere: its *parts*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from crawler.errors import MalformedError, TruncatedError
from lineage.weights.encodings.bitsandbytes import bnb4_codes
from lineage.weights.encodings.cells import Cells, ggml_cells
from lineage.weights.encodings.codes import F32, Codes
from lineage.weights.encodings.columns_first import awq_codes, gptq_codes
from lineage.weights.encodings.encoding import Encoding
from lineage.weights.encodings.ggml import codes_of, decode_ggml, ggml_row_bytes, is_ggml, quantize
from lineage.weights.encodings.plain import (
    PLAIN_BYTES,
    TORCH_NAMES,
    decode_plain,
    is_plain,
    plain_row_bytes,
    round_to,
)
from lineage.weights.encodings.scaled import SCALED, scaled_codes, scaled_row_bytes

__all__ = [
    "PLAIN_BYTES",
    "TORCH_NAMES",
    "Cells",
    "Encoding",
    "cells",
    "codes",
    "codes_of",
    "contains",
    "decode_rows",
    "is_packed",
    "is_plain",
    "is_quantised",
    "quantize",
    "round_to",
    "row_bytes",
]

_Reader = Callable[[Encoding, Mapping[str, bytes], int, int], Codes]

_READERS: dict[str, _Reader] = {
    "GPTQ": gptq_codes,
    "AWQ": awq_codes,
    "BNB4": bnb4_codes,
    **dict.fromkeys(SCALED, scaled_codes),
}


def decode_rows(dtype: str, parts: Mapping[str, bytes], n_rows: int, n_columns: int) -> F32:
    """The values of rows.

    Parameters
    ----------
    dtype
        The encoding.
    parts
        Stored bytes by the name of the part; ``words`` are always among them. Of a packed encoding
        the bytes begin at row 0 and may go on behind the last row.
    n_rows, n_columns
        Rows that are wanted, and values of a row.

    Returns
    -------
    array of float32
        `n_rows` × `n_columns`. Words that are NaN or infinite stay so.

    Raises
    ------
    MalformedError
        If the encoding is unknown or its parts contradict it; scales that are no finite numbers
        are such a contradiction.
    TruncatedError
        If bytes are missing.
    """
    if is_packed(dtype):
        return _read(dtype, parts, n_rows, n_columns).values
    data = parts.get("words", b"")
    wanted = n_rows * row_bytes(dtype, n_columns)
    if len(data) < wanted:
        raise TruncatedError(f"{len(data)} bytes of words came, {wanted} are needed")
    values = (decode_ggml if is_ggml(dtype) else decode_plain)(dtype, data[:wanted])
    return values.reshape(n_rows, -1)


def codes(dtype: str, parts: Mapping[str, bytes], n_rows: int, n_columns: int) -> NDArray[Any]:
    """Stored codes of a packed encoding, `n_rows` × `n_columns`, integers.

    Parameters and errors are those of :func:`decode_rows`.
    """
    return _read(dtype, parts, n_rows, n_columns).codes


def cells(dtype: str, parts: Mapping[str, bytes], n_rows: int, n_columns: int) -> Cells | None:
    """The values that round to each stored code, given the stored scales.

    Parameters and errors are those of :func:`decode_rows`.

    Returns
    -------
    Cells or None
        `n_rows` × `n_columns`. None where words are no codes, or stand for several values each.
    """
    if is_packed(dtype):
        return _read(dtype, parts, n_rows, n_columns).cells()
    if not is_ggml(dtype):
        return None
    data = parts.get("words", b"")
    wanted = n_rows * row_bytes(dtype, n_columns)
    if len(data) < wanted:
        raise TruncatedError(f"{len(data)} bytes of words came, {wanted} are needed")
    found = ggml_cells(dtype, data[:wanted])
    if found is None:
        return None
    return Cells(found.low.reshape(n_rows, -1), found.high.reshape(n_rows, -1))


def contains(
    dtype: str, parts: Mapping[str, bytes], n_rows: int, n_columns: int, values: F32
) -> tuple[int, int]:
    """How many of a candidate's values round to the stored codes, given the stored scales.

    Parameters and errors are those of :func:`decode_rows`.

    Parameters
    ----------
    values
        Of the candidate, `n_rows` × `n_columns`.

    Returns
    -------
    tuple of int
        How many do, of how many: values that are no finite number, and those under a scale of
        zero, are not asked. None are where :func:`cells` knows none.
    """
    found = cells(dtype, parts, n_rows, n_columns)
    return (0, 0) if found is None else found.count(values)


def row_bytes(dtype: str, n_columns: int) -> int:
    """Bytes of the words of one row of `n_columns` values.

    Raises
    ------
    MalformedError
        If the dtype is unknown, or a row does not fill whole blocks or bytes.
    """
    if not is_packed(dtype):
        return (ggml_row_bytes if is_ggml(dtype) else plain_row_bytes)(dtype, n_columns)
    encoding = Encoding.parse(dtype)
    if encoding.name in SCALED:
        return scaled_row_bytes(encoding, n_columns)
    bits = n_columns * encoding.number("bits", 4)
    if bits % 8:
        raise MalformedError(f"rows of {n_columns} codes of {encoding.name} do not fill bytes")
    return bits // 8


def is_packed(dtype: str) -> bool:
    """Whether `dtype` names a packed encoding.

    ``NVFP4`` and ``MXFP4`` alone are blocks of GGML; packed, their parameters follow the name.
    """
    return dtype.partition(":")[0] in _READERS and not is_ggml(dtype)


def is_quantised(dtype: str) -> bool:
    """Whether words of `dtype` are codes rather than numbers of a float format."""
    return is_packed(dtype) or is_ggml(dtype) or (is_plain(dtype) and dtype[0] in "IU")


def _read(dtype: str, parts: Mapping[str, bytes], n_rows: int, n_columns: int) -> Codes:
    """Codes of rows; of stored rows of ``width`` columns those from ``first`` on."""
    encoding = Encoding.parse(dtype)
    reader = _READERS.get(encoding.name)
    first = encoding.number("first", 0)
    width = encoding.number("width", max(n_columns, 0))
    if reader is None or n_rows < 1 or n_columns < 1 or first + n_columns > width:
        raise MalformedError(f"no {n_rows} × {n_columns} values are read from {dtype:.60}")
    found = reader(encoding, parts, n_rows, width)
    return found if width == n_columns else found.side_by_side(first, first + n_columns)
