"""Codes apart from their scales: what every quantised encoding comes down to.

``value = scale · (level(code) - zero)``, where the level is the code itself or stands in a table.
An encoding only has to say where its codes, scales and zero points lie; values, and whether other
values would have been given the same codes, follow from that alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crawler.errors import MalformedError, TruncatedError
from lineage.weights.encodings.cells import Cells
from lineage.weights.encodings.plain import decode_plain, plain_row_bytes

__all__ = ["F32", "Codes", "Ints", "per_block", "read_scales", "take", "unpack_bits"]

F32 = NDArray[np.float32]
Ints = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Codes:
    """Codes of whole rows and what turns them into values.

    Attributes
    ----------
    codes
        Rows × columns, integers as stored.
    scales
        Anything that broadcasts to rows × columns.
    zeros
        Likewise; None: no zero points.
    table
        Level of every code that can be stored; None: the code is the level.
    lowest, highest
        Codes that the writer clamps to, where there is no table.
    factor
        Multiplies at the very end, as the writer's own library does.
    """

    codes: Ints
    scales: F32
    zeros: Ints | None = None
    table: F32 | None = None
    lowest: int = 0
    highest: int = 0
    factor: float = 1.0

    @property
    def levels(self) -> F32:
        """Values before scaling, rows × columns."""
        table = self.table
        levels = self.codes.astype(np.float32) if table is None else table[self.codes]
        return levels if self.zeros is None else levels - self.zeros.astype(np.float32)

    @property
    def values(self) -> F32:
        """Values, rows × columns."""
        values = self.levels
        with np.errstate(over="ignore"):
            values *= self.scales
            if self.factor != 1.0:
                values *= np.float32(self.factor)
        return values

    def side_by_side(self, first: int, stop: int) -> Codes:
        """The columns ``[first, stop)`` alone."""
        width = self.codes.shape[1]

        def cut(numbers: NDArray[Any]) -> NDArray[Any]:
            return numbers[:, first:stop] if numbers.shape[1] == width else numbers

        zeros = None if self.zeros is None else cut(self.zeros)
        return replace(self, codes=cut(self.codes), scales=cut(self.scales), zeros=zeros)

    def cells(self) -> Cells:
        """Values that round to each code, given the stored scale, rows × columns.

        Of two levels equally near, either counts, since routines break ties in different ways.
        Where the scale is zero every value has the same code, and nothing is asked.
        """
        levels = self.levels
        below, above = self._steps(levels)
        scale = np.broadcast_to(self.scales * np.float32(self.factor), levels.shape)
        # Half a step either way, up to the error of dividing float32 numbers.
        slack = np.float32(1e-6) * (np.abs(levels) + np.float32(1))
        with np.errstate(invalid="ignore", over="ignore"):
            one, other = (levels - below - slack) * scale, (levels + above + slack) * scale
        asked = (scale != 0) & np.isfinite(scale)
        nothing = np.float32(np.nan)
        return Cells(
            np.where(asked, np.minimum(one, other), nothing),
            np.where(asked, np.maximum(one, other), nothing),
        )

    def _steps(self, levels: F32) -> tuple[F32, F32]:
        """Half the way to the next lower and the next higher level; infinite at the ends."""
        if self.table is None:
            half = np.float32(0.5)
            below = np.where(self.codes <= self.lowest, np.float32(np.inf), half)
            above = np.where(self.codes >= self.highest, np.float32(np.inf), half)
            return below.astype(np.float32), above.astype(np.float32)
        grid = np.unique(self.table[np.isfinite(self.table)])
        place = np.searchsorted(grid, levels)
        padded = np.concatenate([[-np.inf], grid, [np.inf]]).astype(np.float32)
        with np.errstate(invalid="ignore"):
            below = levels - padded[place]
            above = padded[np.minimum(place + 2, grid.size + 1)] - levels
        return below / np.float32(2), above / np.float32(2)


def take(parts: Mapping[str, bytes], name: str, n_bytes: int) -> bytes:
    """The first `n_bytes` bytes of a part.

    Raises
    ------
    MalformedError
        If there is no such part.
    TruncatedError
        If it is shorter.
    """
    data = parts.get(name)
    if data is None:
        raise MalformedError(f"there are no {name} to decode with")
    if len(data) < n_bytes:
        raise TruncatedError(f"{len(data)} bytes of {name} came, {n_bytes} are needed")
    return data[:n_bytes]


def read_scales(
    parts: Mapping[str, bytes], name: str, dtype: str, n: int, *, signed: bool = True
) -> F32:
    """The first `n` scales of a part.

    Zero is a scale: rows of padding have it. Negative ones are written by some searches for the
    best scale; where the scale is a magnitude, they are none.

    Raises
    ------
    MalformedError
        If a scale is infinite or no number, or negative where `signed` is false.
    TruncatedError
        If there are fewer.
    """
    scales = decode_plain(dtype, take(parts, name, plain_row_bytes(dtype, n)))
    if not np.isfinite(scales).all():
        raise MalformedError(f"a number among the {name} is infinite or none at all")
    if not signed and (scales < 0).any():
        raise MalformedError(f"a magnitude among the {name} is negative")
    return scales


def per_block(
    grid: NDArray[Any], block: tuple[int, int], n_rows: int, n_columns: int
) -> NDArray[Any]:
    """Every value of a grid of blocks, repeated over its block; 0 in `block` is all there are.

    The result broadcasts to `n_rows` × `n_columns`.
    """
    # A stated block may be far larger than the weight that it covers.
    rows, columns = min(block[0], n_rows), min(block[1], n_columns)
    if rows > 1:
        grid = np.repeat(grid, rows, axis=0)[:n_rows]
    if columns > 1:
        grid = np.repeat(grid, columns, axis=1)[:, :n_columns]
    return grid


def unpack_bits(words: NDArray[np.uint32], bits: int, n: int) -> NDArray[np.uint8]:
    """The first `n` numbers of `bits` bits in every row of words, packed from the lowest bit on.

    Thirty-two numbers fill `bits` words; where 32 is no multiple of `bits`, numbers straddle words.

    Parameters
    ----------
    words
        Rows × words.
    bits
        1 to 8.
    n
        Numbers of a row; the words hold at least so many.

    Returns
    -------
    array of uint8
        Rows × `n`.
    """
    n_rows, n_words = words.shape
    n_groups = -(-n // 32)
    padded = np.zeros((n_rows, n_groups * bits + 1), np.uint32)  # one more: the last may look on
    padded[:, : min(n_words, n_groups * bits)] = words[:, : n_groups * bits]
    groups = padded[:, :-1].reshape(n_rows, n_groups, bits)
    following = padded[:, 1:].reshape(n_rows, n_groups, bits)
    numbers = np.empty((n_rows, n_groups, 32), np.uint8)
    mask = np.uint32((1 << bits) - 1)
    for place in range(32):
        word, shift = divmod(place * bits, 32)
        number = groups[:, :, word] >> np.uint32(shift)
        if shift + bits > 32:
            number = number | following[:, :, word] << np.uint32(32 - shift)
        numbers[:, :, place] = number & mask
    return numbers.reshape(n_rows, -1)[:, :n]
