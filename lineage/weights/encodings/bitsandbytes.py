"""bitsandbytes: four-bit codes of a table (``nf4``, ``fp4``), and eight-bit rows.

Four-bit weights are one long row of values, two a byte, the first in the high half; each block of
`blocksize` values is divided by its largest magnitude. These magnitudes may be quantised in turn,
in blocks of 256: codes of a second table, times a magnitude of the second order, plus an offset
that stands with block sizes, shape and dtype in a JSON text stored as bytes. [1]_

References
----------
.. [1] Dettmers et al., QLoRA, NeurIPS 2023.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from crawler.errors import MalformedError
from lineage.weights.encodings.codes import F32, Codes, read_scales, take
from lineage.weights.encodings.encoding import Encoding

__all__ = ["MAX_STATE_BYTES", "bnb4_codes"]

MAX_STATE_BYTES = 4096
"""Longest JSON text that is read; real ones have 200 bytes."""

_MAX_BLOCK = 1 << 16
_MAX_OFFSET = 3e38


def bnb4_codes(
    encoding: Encoding, parts: Mapping[str, bytes], n_rows: int, n_columns: int
) -> Codes:
    """Codes of the first `n_rows` rows.

    Parameters
    ----------
    encoding
        ``block``: values of a block, 0 when only the state says; ``code``: ``nf4`` or ``fp4``;
        ``nested``: 1 when magnitudes are quantised; ``rows``: rows of the whole weight.
    parts
        ``words``, ``scales`` (absmax), ``table`` (quant_map), ``state`` (the JSON text) and, when
        nested, ``scales_of_scales`` and ``table_of_scales``.

    Raises
    ------
    MalformedError
        If the state is not what the names and shapes of the tensors led to expect, a table has not
        its 16 or 256 finite numbers, a magnitude is negative or not finite, or a part is missing.
    TruncatedError
        If a part is too short.
    """
    nested = encoding.number("nested")
    state = _State(parts, encoding.text("code"))
    block = state.number("blocksize", _MAX_BLOCK)
    if block != encoding.number("block"):
        raise MalformedError(f"blocks of {block}, not of {encoding.text('block')} values")
    expected = [encoding.number("rows"), n_columns]
    if state.shape != expected:
        raise MalformedError(f"the state tells of shape {state.shape}, the names of {expected}")
    n_values = n_rows * n_columns
    packed = np.frombuffer(take(parts, "words", -(-n_values // 2)), np.uint8)
    codes = np.stack([packed >> 4, packed & 0x0F], axis=1).reshape(-1)[:n_values]
    n_blocks = -(-n_values // block)
    if nested:
        scales = _nested_scales(parts, state, n_blocks)
    else:
        scales = read_scales(parts, "scales", "F32", n_blocks, signed=False)
    table = _table(parts, "table", 16)
    each = np.repeat(scales, block)[:n_values].reshape(n_rows, n_columns)
    return Codes(codes.reshape(n_rows, n_columns), each, table=table)


def _nested_scales(parts: Mapping[str, bytes], state: _State, n_blocks: int) -> F32:
    block = state.number("nested_blocksize", _MAX_BLOCK)
    codes = np.frombuffer(take(parts, "scales", n_blocks), np.uint8)
    outer = read_scales(parts, "scales_of_scales", "F32", -(-n_blocks // block), signed=False)
    table = _table(parts, "table_of_scales", 256)
    scales = table[codes] * np.repeat(outer, block)[:n_blocks]
    return scales + np.float32(state.offset)


def _table(parts: Mapping[str, bytes], name: str, n: int) -> F32:
    data = take(parts, name, 4 * n)
    if len(parts[name]) != 4 * n:
        raise MalformedError(f"the {name} has {len(parts[name])} bytes, not {4 * n}")
    table = np.frombuffer(data, "<f4").astype(np.float32)
    if not np.isfinite(table).all():
        raise MalformedError(f"the {name} holds what is no finite number")
    return table


class _State:
    """The JSON text beside a four-bit weight, held against what is expected of it."""

    def __init__(self, parts: Mapping[str, bytes], code: str) -> None:
        data = take(parts, "state", 0) if "state" not in parts else parts["state"]
        if len(data) > MAX_STATE_BYTES:
            raise MalformedError(f"a quantisation state of {len(data)} bytes is not read")
        try:
            stated = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise MalformedError("the quantisation state is no JSON text") from error
        if not isinstance(stated, dict):
            raise MalformedError("the quantisation state is no JSON object")
        self._stated = stated
        if stated.get("quant_type") != code:
            raise MalformedError(f"the quantisation state is not that of {code}")

    def number(self, key: str, most: int) -> int:
        value = self._stated.get(key)
        if type(value) is not int or not 0 < value <= most:
            raise MalformedError(f"the quantisation state has no usable {key}")
        return value

    @property
    def shape(self) -> list[object]:
        shape = self._stated.get("shape")
        if not isinstance(shape, list) or len(shape) > 8:
            raise MalformedError("the quantisation state has no usable shape")
        return shape

    @property
    def offset(self) -> float:
        value = self._stated.get("nested_offset")
        if not isinstance(value, float) or not abs(value) < _MAX_OFFSET:  # NaN is not below
            raise MalformedError("the quantisation state has no usable nested_offset")
        return value
