"""A weight as it lies in a file: one tensor, or codes with the tensors that decode them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from crawler.errors import MalformedError
from crawler.records import TensorEntry
from lineage.weights.encodings import row_bytes
from lineage.weights.weight import MAIN, Part

__all__ = ["Stored", "by_rows", "narrow", "plain", "whole"]


@dataclass(frozen=True, slots=True)
class Stored:
    """What one stored weight needs to be decoded, before its place in the network is settled.

    Attributes
    ----------
    name
        Of the tensor that holds its codes.
    dtype, shape, parts
        As in :class:`lineage.weights.weight.Weight`.
    columns_first
        Whether the encoding itself stores output units as columns; None: the role says it.
    whole_parts
        Parts that stay what they are when rows are cut off at the top.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    columns_first: bool | None = None
    whole_parts: frozenset[str] = field(default_factory=frozenset)

    @property
    def n_rows(self) -> int:
        """Rows; a vector is one."""
        return self.shape[0] if len(self.shape) > 1 else 1

    def below(self, first_row: int, n_rows: int) -> Stored:
        """Rows ``[first_row, first_row + n_rows)`` alone.

        Raises
        ------
        MalformedError
            If a part cannot be cut there.
        """
        return replace(
            self,
            shape=(n_rows, *self.shape[1:]),
            parts=tuple(self._cut(part, first_row, n_rows) for part in self.parts),
        )

    def behind(self, first: int, n: int) -> Stored:
        """Values ``[first, first + n)`` of a vector alone.

        Raises
        ------
        MalformedError
            If a value does not begin with a byte.
        """
        (part,) = self.parts
        width, rest = divmod(part.unit_bytes, self.shape[0])
        if rest:
            raise MalformedError("it cannot be cut between its values")
        start = part.start + first * width
        stop = start + n * width
        cut = replace(part, start=start, stop=stop, unit_bytes=n * width)
        return replace(self, shape=(n,), parts=(cut,))

    def _cut(self, part: Part, first_row: int, n_rows: int) -> Part:
        if part.name in self.whole_parts or (not first_row and n_rows == self.n_rows):
            return part
        if not part.rows_per_unit or first_row % part.rows_per_unit:
            raise MalformedError(f"its {part.name} cannot be cut at row {first_row}")
        start, stop = part.span(first_row, first_row + n_rows)
        return replace(part, start=start, stop=stop)


def plain(entry: TensorEntry) -> Stored:
    """A tensor that needs nothing else to be decoded.

    Raises
    ------
    MalformedError
        If its dtype is not read, or its shape does not fill its bytes.
    """
    n_rows = entry.shape[0] if len(entry.shape) > 1 else 1
    n_columns = math.prod(entry.shape) // n_rows
    width = row_bytes(entry.dtype, n_columns)
    if entry.dtype == "C64":
        raise MalformedError("complex numbers are not compared")
    if width * n_rows != entry.stop - entry.start:
        raise MalformedError(
            f"its shape {list(entry.shape)} of {entry.dtype} does not take "
            f"{entry.stop - entry.start} bytes"
        )
    part = Part(MAIN, entry.dtype, entry.path, entry.start, entry.stop, 1, width)
    return Stored(entry.name, entry.dtype, entry.shape, (part,))


def by_rows(name: str, entry: TensorEntry, values_per_item: int, shape: tuple[int, int]) -> Part:
    """A part that holds an item for so many values, in the order of the values.

    Where rows do not end with items, units are the shortest runs of rows that do; where the whole
    weight does not end with a unit, the part belongs to all rows.

    Parameters
    ----------
    values_per_item
        Values of the weight that one item stands for.
    shape
        Rows × columns of the weight.

    Raises
    ------
    MalformedError
        If the tensor has not as many items as the weight needs.
    """
    n_rows, n_columns = shape
    n_items = math.prod(entry.shape)
    needed = -(-n_rows * n_columns // values_per_item)
    if n_items != needed or (entry.stop - entry.start) % n_items:
        raise MalformedError(f"{entry.name}: {n_items} items where {needed} are needed")
    item_bytes = (entry.stop - entry.start) // n_items
    rows = values_per_item // math.gcd(values_per_item, n_columns)
    if n_rows % rows:
        return whole(name, entry)
    unit_bytes = rows * n_columns // values_per_item * item_bytes
    return Part(name, entry.dtype, entry.path, entry.start, entry.stop, rows, unit_bytes)


def whole(name: str, entry: TensorEntry) -> Part:
    """A part that belongs to all rows."""
    return Part(name, entry.dtype, entry.path, entry.start, entry.stop, rows_per_unit=0)


def narrow(entry: TensorEntry, number: int, count: int) -> TensorEntry:
    """One of `count` equal pieces that a tensor's first dimension is cut into.

    Raises
    ------
    MalformedError
        If it cannot be.
    """
    n_bytes = entry.stop - entry.start
    if not entry.shape or entry.shape[0] % count or n_bytes % count:
        raise MalformedError(f"{entry.name}: {list(entry.shape)} is not cut into {count}")
    size = n_bytes // count
    rest = entry.shape[0] // count
    shape = (rest, *entry.shape[1:]) if rest > 1 else entry.shape[1:]
    start = entry.start + number * size
    return replace(entry, shape=shape, start=start, stop=start + size)
