"""Several weights in one tensor, taken apart: fused queries, keys and values; gates and ups.

A tensor that cannot be taken apart, because the configuration is silent or contradicts its shape,
stays whole under its own role: it still meets its like.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate

from crawler.errors import MalformedError
from lineage.weights.encodings import Encoding
from lineage.weights.facts import ModelFacts
from lineage.weights.roles import Fused, Role, TensorKey
from lineage.weights.stored import Stored
from lineage.weights.weight import RowOrder, Weight

__all__ = ["split"]

_BY_HEADS = {"q": "n_heads", "k": "n_kv_heads", "v": "n_kv_heads"}


def split(stored: Stored, role: Role, facts: ModelFacts) -> list[Weight]:
    """The weights that one stored one holds; one where it is not fused."""
    transposed = role.transposed if stored.columns_first is None else stored.columns_first
    transposed = transposed and len(stored.shape) > 1
    whole = Weight(
        role.key, role.known, stored.name, stored.dtype, stored.shape, stored.parts, transposed
    )
    if role.fused is None:
        return [whole]
    n_units = stored.shape[1] if transposed else stored.shape[0]
    sizes = _sizes(role.fused, n_units, facts)
    if sizes is None:
        return [whole]
    keys = [replace(role.key, role=name) for name in role.fused.roles]
    arrangement = role.fused.arrangement
    if arrangement == "by_group" and facts.n_kv_heads == 1:
        arrangement = "concatenated"
    if transposed:
        side_by_side = _packed_columns if stored.columns_first else _columns
        return side_by_side(whole, keys, sizes) if arrangement == "concatenated" else [whole]
    if arrangement == "concatenated":
        return _rows(whole, stored, keys, sizes)
    if whole.is_vector:
        return [whole]
    orders = _orders(arrangement, sizes, facts)
    return [
        replace(whole, key=key, shape=(size, *stored.shape[1:]), order=order)
        for key, size, order in zip(keys, sizes, orders, strict=False)
    ] or [whole]


def _sizes(fused: Fused, n_units: int, facts: ModelFacts) -> list[int] | None:
    """Output units of each part; None: they cannot be told."""
    heads = [_BY_HEADS.get(name.rpartition(".")[0] or name) for name in map(_bare, fused.roles)]
    if "q" not in map(_bare, fused.roles) or None in heads:
        share, rest = divmod(n_units, len(fused.roles))
        return None if rest or not share else [share] * len(fused.roles)
    if facts.head_dim is None:
        return None
    counts = [getattr(facts, name) for name in heads if name]
    sizes = [count * facts.head_dim for count in counts if count]
    return sizes if len(sizes) == len(heads) and sum(sizes) == n_units else None


def _bare(role: str) -> str:
    """``q`` of ``vision.q.bias``: the word that says which part it is."""
    words = [word for word in role.split(".") if word in ("q", "k", "v", "gate", "up")]
    return words[-1] if words else role


def _columns(whole: Weight, keys: list[TensorKey], sizes: list[int]) -> list[Weight]:
    stops = list(accumulate(sizes))
    return [
        replace(whole, key=key, shape=(whole.n_rows, size), columns=(stop - size, stop))
        for key, size, stop in zip(keys, sizes, stops, strict=True)
    ]


def _packed_columns(whole: Weight, keys: list[TensorKey], sizes: list[int]) -> list[Weight]:
    """Columns that only the encoding can cut, once it has taken the codes apart."""
    encoding, width = Encoding.parse(whole.dtype), whole.n_columns
    found = []
    for key, size, stop in zip(keys, sizes, accumulate(sizes), strict=True):
        place = {"first": str(stop - size), "width": str(width)}
        dtype = str(Encoding(encoding.name, {**encoding.options, **place}))
        found.append(replace(whole, key=key, dtype=dtype, shape=(whole.n_rows, size)))
    return found


def _rows(whole: Weight, stored: Stored, keys: list[TensorKey], sizes: list[int]) -> list[Weight]:
    """Parts one below the other; of a vector, one behind the other."""
    found = []
    for key, size, stop in zip(keys, sizes, accumulate(sizes), strict=True):
        try:
            cut = stored.behind if whole.is_vector else stored.below
            piece = cut(stop - size, size)
        except MalformedError:  # blocks lie across the seam
            return [whole]
        found.append(replace(whole, key=key, shape=piece.shape, parts=piece.parts))
    return found


def _orders(arrangement: str, sizes: list[int], facts: ModelFacts) -> Iterator[RowOrder]:
    """Where the rows of each part stand; nothing where that cannot be told."""
    if arrangement == "alternating":
        for place in range(len(sizes)):
            yield RowOrder(1, len(sizes), place)
        return
    heads, groups, width = facts.n_heads, facts.n_kv_heads, facts.head_dim
    if not heads or not groups or not width or heads % groups or len(sizes) != 3:
        return
    if arrangement == "by_head" and heads != groups:
        return
    if arrangement not in ("by_head", "by_group"):
        return
    chunks = [heads // groups * width, width, width]
    for chunk, stop in zip(chunks, accumulate(chunks), strict=True):
        yield RowOrder(chunk, sum(chunks), stop - chunk)
