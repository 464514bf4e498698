"""A weight as inference sees it: a matrix or vector with a place in the network.

One weight may be stored in several tensors (codes, scales, zero points), and several weights in one
tensor (fused queries, keys and values; stacked experts). What is stored where is a matter of the
format and is settled once, in :mod:`lineage.weights.layout`; from here on everything speaks of the
rows of weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lineage.weights.roles import TensorKey

__all__ = ["MAIN", "Part", "RowOrder", "Weight"]

MAIN = "words"
"""Name of the part that holds one code a value."""


@dataclass(frozen=True, slots=True)
class Part:
    """Stored bytes that belong to a weight.

    A *unit* is the shortest run of bytes that holds whole rows.

    Attributes
    ----------
    name
        ``words`` for the codes themselves; ``scales``, ``zeros`` … for what decodes them.
    dtype
        Stored dtype of these bytes.
    path, start, stop
        The span of the file, from the unit of row 0 on; `stop` is exclusive.
    rows_per_unit
        Rows of the weight in one unit; 0: the part belongs to all rows and is read whole.
    unit_bytes
        Bytes of one unit.
    """

    name: str
    dtype: str
    path: str
    start: int
    stop: int
    rows_per_unit: int = 1
    unit_bytes: int = 0

    def span(self, first_row: int, stop_row: int) -> tuple[int, int]:
        """The bytes that hold rows ``[first_row, stop_row)``, widened to whole units."""
        if not self.rows_per_unit:
            return self.start, self.stop
        first = first_row // self.rows_per_unit
        last = -(-stop_row // self.rows_per_unit)
        return self.start + first * self.unit_bytes, self.start + last * self.unit_bytes


@dataclass(frozen=True, slots=True)
class RowOrder:
    """Which row of the original matrix stands where in the stored one.

    Rows stand in chunks: stored row ``i`` of chunk ``c`` is row ``c * chunk + within[i]``, and the
    chunks of this weight begin ``stride`` stored rows apart, the first at stored row ``offset``.

    Attributes
    ----------
    chunk
        Rows of one chunk.
    stride
        Stored rows from the beginning of one chunk to the next.
    offset
        Stored row of the first chunk's beginning.
    halves
        Whether rows within a chunk are stored as (pair, half) instead of (half, pair): the rotary
        order of llama.cpp.
    """

    chunk: int
    stride: int
    offset: int = 0
    halves: bool = False

    def stored(self, row: int) -> int:
        """Where row `row` of the original stands."""
        chunk, within = divmod(row, self.chunk)
        if self.halves:
            half, pair = divmod(within, self.chunk // 2)
            within = 2 * pair + half
        return self.offset + chunk * self.stride + within

    def original(self, stored: int) -> int | None:
        """Which row of the original stands at `stored`; None: another weight's."""
        chunk, within = divmod(stored - self.offset, self.stride)
        if stored < self.offset or within >= self.chunk:
            return None
        if self.halves:
            pair, half = divmod(within, 2)
            within = half * (self.chunk // 2) + pair
        return chunk * self.chunk + within


@dataclass(frozen=True, slots=True)
class Weight:
    """A matrix or vector with a place in the network, and where its words lie.

    Attributes
    ----------
    key, known
        Its place, and whether a rule of names told it.
    name
        Name of the stored tensor that holds its codes.
    dtype
        Encoding with its parameters: ``BF16``, ``Q4_K``, ``GPTQ:bits=4,group=128``, …
    shape
        Rows × columns … in the order in which they are stored. A vector has one dimension.
    parts
        Where the words lie; the first is :data:`MAIN`.
    transposed
        Whether output units are the *columns* (GPT-2's Conv1D, GPTQ, AWQ).
    order
        Where rows stand that are not stored in the original's order; None: in order.
    columns
        Of a stored tensor that holds several weights side by side, the columns of this one; units
        of its parts are whole stored rows.
    shift
        Added to every value when the file was made (Gemma's norms in GGUF: 1); taken off again.
    """

    key: TensorKey
    known: bool
    name: str
    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    transposed: bool = False
    order: RowOrder | None = None
    columns: tuple[int, int] | None = None
    shift: float = 0.0

    @property
    def main(self) -> Part:
        """The part that holds one code a value."""
        return self.parts[0]

    @property
    def is_vector(self) -> bool:
        """Whether there is one dimension only."""
        return len(self.shape) < 2

    @property
    def n_rows(self) -> int:
        """Rows; a vector is one row."""
        return 1 if self.is_vector else self.shape[0]

    @property
    def n_columns(self) -> int:
        """Values of a row."""
        return math.prod(self.shape) if self.is_vector else math.prod(self.shape[1:])

    @property
    def n_values(self) -> int:
        """Values of all rows."""
        return math.prod(self.shape)

    @property
    def row_bytes(self) -> float:
        """Bytes of one row, its share of the parts that are stored by rows included."""
        return sum(p.unit_bytes / p.rows_per_unit for p in self.parts if p.rows_per_unit)
