"""Packed weights, recognised by the tensors that stand beside their codes.

Names tell what a tensor is for; shapes are held against one another; the configuration says only
what neither shows: how wide a code is, how many columns share a scale, how zero points are counted.
Where they contradict one another the weight is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from crawler.errors import MalformedError
from crawler.records import TensorEntry
from lineage.weights.encodings import Encoding
from lineage.weights.facts import ModelFacts
from lineage.weights.grids import float_scales, grid_of, schemes_of
from lineage.weights.grouped import Named, grouped, matrix, needed, of_dtype
from lineage.weights.stored import Stored, by_rows, whole
from lineage.weights.weight import MAIN, Part

__all__ = ["ACTIVATIONS", "Anchor", "anchor_of", "recognise"]

Anchor = tuple[str, str, tuple[str, ...]]
"""Name of the weight, and kind of packing, and ends of the names that may stand beside it."""

ACTIVATIONS = (
    "input_scale", "input_global_scale", "output_scale", "input_zero_point", "scale_input",
    "qscale_act", "weight_format", "k_scale", "v_scale", "q_scale", "kv_scale",
)  # fmt: skip
"""Ends of names that stand beside a weight and say nothing of its values."""

_SCALES = ("weight_scale", "weight_scale_inv", "scale_weight", "qscale_weight")
_WEIGHT_SIDE = (*_SCALES, "weight_scale_2", "weight_zero_point", "weight_shape", "weight_g_idx",
                "weight_global_scale")  # fmt: skip
_BNB_STATE = "weight.quant_state.bitsandbytes__"
_BNB = (
    "weight.absmax", "weight.quant_map", "weight.nested_absmax", "weight.nested_quant_map",
    f"{_BNB_STATE}nf4", f"{_BNB_STATE}fp4",
)  # fmt: skip
_E8M0 = {"U8": "F8_E8M0", "F8_E8M0": "F8_E8M0"}


def anchor_of(name: str, names: Mapping[str, object]) -> Anchor | None:
    """What kind of packed weight the tensor `name` holds the codes of; None: of none."""
    stem, dot, end = name.rpartition(".")
    if end == "qweight":
        return f"{stem}.weight", "groups", ("qzeros", "scales", "g_idx")
    if end == "weight_packed":
        return f"{stem}.weight", "packed", _WEIGHT_SIDE
    if name.endswith("_blocks") and f"{name[:-7]}_scales" in names:
        return name, "microscaled", ("_scales",)
    if end == "weight" and dot:
        if f"{name}.absmax" in names:
            return name, "bitsandbytes", _BNB
        if f"{stem}.SCB" in names:
            return name, "rows of eight bits", ("SCB",)
        if any(f"{stem}.{scale}" in names for scale in _SCALES):
            return name, "scaled", _WEIGHT_SIDE
    for scale in ("_scale_inv", "_scale"):
        if name + scale in names:
            return name, "scaled", (scale,)
    return None


def recognise(kind: str, named: Named, facts: ModelFacts, shape: tuple[int, int] | None) -> Stored:
    """The weight that codes and companions make up.

    Parameters
    ----------
    kind
        As :func:`anchor_of` told it.
    named
        The codes and what stands beside them; of one expert only where experts are stacked.
    facts
        Of the model.
    shape
        Rows × columns as the role tells them, for encodings that do not show them.

    Raises
    ------
    MalformedError
        If something is missing, or shapes and facts contradict one another.
    """
    return _KINDS[kind](named, facts, shape)


def _bitsandbytes(named: Named, _: ModelFacts, shape: tuple[int, int] | None) -> Stored:
    """Four-bit blocks. Their shape stands in the state, which is held against it later."""
    words, absmax = named[""], needed(named, "weight.absmax")
    codes = [code for code in ("nf4", "fp4") if _BNB_STATE + code in named]
    if len(codes) != 1:
        raise MalformedError("its quantisation state is not there")
    n_values = 2 * (words.stop - words.start)
    if shape is None or math.prod(shape) != n_values:
        raise MalformedError("its shape stands in its state alone, and its name does not tell it")
    is_nested = "weight.nested_absmax" in named
    of_dtype(absmax, "U8" if is_nested else "F32")
    n_blocks = math.prod(absmax.shape)
    block = next((b for b in _BNB_BLOCKS if -(-n_values // b) == n_blocks), None)
    if block is None:
        raise MalformedError(f"{n_blocks} blocks of {n_values} values are of no usual size")
    packed = _bytes_of(words)
    parts = [
        by_rows(MAIN, packed, 2, shape),
        by_rows("scales", absmax, block, shape),
        whole("table", needed(named, "weight.quant_map")),
        whole("state", needed(named, _BNB_STATE + codes[0])),
    ]
    if is_nested:
        nested = needed(named, "weight.nested_absmax")
        of_dtype(nested, "F32")
        parts += [
            by_rows("scales_of_scales", nested, block * _BNB_NESTED_BLOCK, shape),
            whole("table_of_scales", needed(named, "weight.nested_quant_map")),
        ]
    for part in parts:
        if part.stop - part.start > _MAX_TABLE_BYTES and part.name in _BNB_TABLES:
            raise MalformedError(f"its {part.name} has {part.stop - part.start} bytes")
    options = {
        "block": str(block), "code": codes[0], "nested": str(int(is_nested)), "rows": str(shape[0]),
    }  # fmt: skip
    return Stored(
        words.name, str(Encoding("BNB4", options)), shape, tuple(parts), False, _BNB_TABLES
    )


_BNB_BLOCKS = (64, 128, 256, 512, 1024, 2048, 4096, 32)
_BNB_NESTED_BLOCK = 256
_BNB_TABLES = frozenset({"table", "state", "table_of_scales"})
_MAX_TABLE_BYTES = 4096


def _bytes_of(entry: TensorEntry) -> TensorEntry:
    """The same tensor as bytes: codes may be stored as numbers of any dtype."""
    n_bytes = entry.stop - entry.start
    return TensorEntry(entry.name, "U8", (n_bytes,), entry.path, entry.start, entry.stop)


def _int8_rows(named: Named, _: ModelFacts, __: object) -> Stored:
    """LLM.int8: a row's largest magnitude is 127."""
    words, scales = named[""], named["SCB"]
    of_dtype(words, "I8")
    of_dtype(scales, "F32")
    if math.prod(scales.shape) != matrix(words)[0]:
        raise MalformedError("its rows and their magnitudes are not as many")
    options = {"code": "I8", "over": "127", "rows": "1", "columns": "0", "scale": "F32"}
    return _on_grid(named, words, scales, "INT8", options, matrix(words), (1, 0))


def _scaled(named: Named, facts: ModelFacts, _: object) -> Stored:
    """A weight of whole bytes with scales beside it."""
    words = named[""]
    scales = next(named[end] for end in (*_SCALES, "_scale_inv", "_scale") if end in named)
    if words.dtype == "U8":
        return _four_bit_floats(named, scales, facts, outer=named.get("weight_scale_2"))
    if "weight_scale_2" in named or "weight_global_scale" in named or "weight_g_idx" in named:
        raise MalformedError("it has more scales than are understood")
    shape = matrix(words)
    is_integer = of_dtype(words, "I8", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ") == "I8"
    scale = float_scales(scales) if is_integer else _E8M0.get(scales.dtype) or float_scales(scales)
    block = grid_of(scales, shape, schemes_of(facts))
    name = "INT8" if is_integer else "MXFP8" if block == (1, 32) and scale == "F8_E8M0" else "FP8"
    options = {"code": words.dtype, "scale": scale}
    zeros = named.get("weight_zero_point")
    if zeros is not None:
        if zeros.shape != scales.shape or not is_integer:
            raise MalformedError("its zero points are not on the grid of its scales")
        options["zero"] = of_dtype(zeros, "I8")
    return _on_grid(named, words, scales, name, options, shape, block)


def _packed(named: Named, facts: ModelFacts, _: object) -> Stored:
    """compressed-tensors: integers packed into words, or four-bit floats into bytes."""
    words, scales = named[""], needed(named, "weight_scale")
    if words.dtype == "U8":
        return _four_bit_floats(named, scales, facts, outer=named.get("weight_global_scale"))
    of_dtype(words, "I32")
    n_rows, n_words = matrix(words)
    found = {
        (scheme.bits, n_columns, block)
        for scheme in schemes_of(facts)
        for n_columns, block in [scheme.packed_columns(n_rows, n_words, scales.shape)]
        if block is not None
    }
    if len(found) != 1:
        raise MalformedError("the configuration does not say how its words are packed")
    bits, n_columns, block = found.pop()
    shape = (n_rows, n_columns)
    options = {"code": f"Q{bits}", "scale": float_scales(scales)}
    if "weight_shape" in named:
        of_dtype(named["weight_shape"], "I64")
        options |= {"checked": "1", "height": str(n_rows)}
    if (zeros := named.get("weight_zero_point")) is not None:
        options["zero"] = "Q" if zeros.dtype == "I32" else of_dtype(zeros, "I8")
    if (index := named.get("weight_g_idx")) is not None:
        if index.shape != (n_columns,):
            raise MalformedError("the groups of its columns are not as many as these")
        of_dtype(index, "I32")
        options["order"] = "given"
    return _on_grid(named, words, scales, "PACKED", options, shape, block)


def _four_bit_floats(
    named: Named, scales: TensorEntry, facts: ModelFacts, outer: TensorEntry | None
) -> Stored:
    """NVFP4 and MXFP4: which of them is told by the dtype of the scales and their number."""
    words = named[""]
    n_rows, n_bytes = matrix(words)
    shape = (n_rows, 2 * n_bytes)
    if scales.dtype == "F8_E4M3":
        size, name, scale = 16, "NVFP4", "F8_E4M3"
        if outer is None or math.prod(outer.shape) != 1:
            raise MalformedError("it has no scale of scales")
        of_dtype(outer, "F32")
    else:
        size, name, scale = 32, "MXFP4", _E8M0.get(of_dtype(scales, *_E8M0), "")
        if outer is not None:
            raise MalformedError("it has a scale of scales, which MXFP4 has not")
    if scales.shape != (n_rows, shape[1] // size) or shape[1] % size:
        raise MalformedError(f"scales of {list(scales.shape)} do not fit codes of {list(shape)}")
    if "weight_zero_point" in named:
        raise MalformedError("four-bit floats with zero points are not read")
    options = {"code": "F4", "scale": scale}
    if outer is not None:
        options["outer"] = "over" if outer.name.endswith("global_scale") else "times"
        named = {**named, "outer": outer}
    return _on_grid(named, words, scales, name, options, shape, (1, size))


def _microscaled(named: Named, _: ModelFacts, __: object) -> Stored:
    """gpt-oss: rows × blocks × 16 bytes, and an exponent for each block."""
    words, scales = named[""], named["_scales"]
    of_dtype(words, "U8")
    if len(words.shape) != 3 or words.shape[2] != 16 or scales.shape != words.shape[:2]:
        raise MalformedError(
            f"blocks of {list(words.shape)} and scales of {list(scales.shape)} do not fit"
        )
    options = {"code": "F4", "scale": _E8M0[of_dtype(scales, *_E8M0)]}
    shape = (words.shape[0], 32 * words.shape[1])
    return _on_grid(named, words, scales, "MXFP4", options, shape, (1, 32))


def _on_grid(
    named: Named,
    words: TensorEntry,
    scales: TensorEntry,
    name: str,
    options: dict[str, str],
    shape: tuple[int, int],
    block: tuple[int, int],
) -> Stored:
    """A weight whose scales lie on a grid of blocks."""
    n_rows, n_columns = shape
    rows, columns = block
    per_row = -(-n_columns // columns) if columns else 1
    unit = (words.stop - words.start) // n_rows
    parts = [Part(MAIN, words.dtype, words.path, words.start, words.stop, 1, unit)]
    fixed = {"outer_scale", "shape", "groups"}
    for part_name, entry in (("scales", scales), ("zeros", named.get("weight_zero_point"))):
        if entry is None:
            continue
        if part_name == "zeros" and options["zero"] == "Q":
            parts.append(_packed_zeros(entry, int(options["code"][1:]), n_rows, per_row))
        elif not rows:
            parts.append(whole(part_name, entry))
            fixed.add(part_name)
        else:
            size = (entry.stop - entry.start) // (-(-n_rows // rows))
            parts.append(
                Part(part_name, entry.dtype, entry.path, entry.start, entry.stop, rows, size)
            )
    for part_name, end in (("outer_scale", "outer"), ("shape", "weight_shape"),
                           ("groups", "weight_g_idx")):  # fmt: skip
        if end in named:
            parts.append(whole(part_name, named[end]))
    encoding = Encoding(name, {**options, "rows": str(rows), "columns": str(columns)})
    return Stored(words.name, str(encoding), shape, tuple(parts), None, frozenset(fixed))


def _packed_zeros(entry: TensorEntry, bits: int, n_rows: int, per_row: int) -> Part:
    """Zero points packed along the rows."""
    rows = 32 // math.gcd(32, bits)
    words = rows * bits // 32
    if n_rows % rows or entry.shape != (n_rows * bits // 32, per_row):
        raise MalformedError(f"zero points of {list(entry.shape)} do not fit {n_rows} rows")
    unit = 4 * words * per_row
    return Part("zeros", "I32", entry.path, entry.start, entry.stop, rows, unit)


_KINDS: Mapping[str, Callable[[Named, ModelFacts, tuple[int, int] | None], Stored]] = {
    "groups": grouped,
    "packed": _packed,
    "microscaled": _microscaled,
    "bitsandbytes": _bitsandbytes,
    "rows of eight bits": _int8_rows,
    "scaled": _scaled,
}
