"""From rows of a weight to runs of stored rows, and to the bytes that hold them. Pure.

A *run* is a half-open range of stored rows, all of which are the weight's own. Where an encoding
keeps several rows in one unit, runs are widened to whole units; where several parts must be put
together, there is one run and it begins at stored row 0, because what decodes a row is counted from
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from lineage.weights.weight import RowOrder, Weight

__all__ = [
    "PlannedSpan",
    "Run",
    "bytes_of",
    "first_bytes",
    "leading_runs",
    "row_runs",
    "rows_in",
    "spans_of",
    "why_unreadable",
]

Run = tuple[int, int]
PlannedSpan = tuple[str, str, int, int]
"""Name of the part, path, start, stop."""


def leading_runs(weight: Weight, n_rows: int) -> tuple[Run, ...]:
    """Runs that hold the first `n_rows` rows of the original matrix, and what comes along.

    Examples
    --------
    >>> from lineage.weights.roles import TensorKey
    >>> from lineage.weights.weight import Part
    >>> part = Part("words", "BF16", "m", 0, 4096, 1, 128)
    >>> q = Weight(TensorKey("q", 0), True, "q", "BF16", (32, 64), (part,),
    ...            order=RowOrder(16, 16, halves=True))
    >>> leading_runs(q, 4)  # rows 0 8 1 9 2 10 3 of the original
    ((0, 7),)
    """
    if weight.is_vector:
        return ((0, 1),)
    n_rows = min(n_rows, weight.n_rows)
    if weight.order is None:
        return _widened(weight, ((0, n_rows),))
    return _widened(weight, _ordered_runs(weight.order, n_rows))


def row_runs(weight: Weight, rows: Sequence[int]) -> tuple[Run, ...]:
    """Runs that hold certain rows of the original matrix (ascending, each once)."""
    order = weight.order
    stored = list(rows) if order is None else sorted(order.stored(row) for row in rows)
    return _widened(weight, _joined([(row, row + 1) for row in stored]))


def rows_in(weight: Weight, runs: Sequence[Run]) -> tuple[int, ...]:
    """Original row numbers of all rows of `runs`, in stored order."""
    order = weight.order
    if weight.is_vector:
        return (0,)
    if order is None:
        return _numbers(runs[0]) if len(runs) == 1 else sum(map(_numbers, runs), ())
    found = [order.original(row) for start, stop in runs for row in range(start, stop)]
    return tuple(row for row in found if row is not None)


def spans_of(weight: Weight, runs: Sequence[Run]) -> tuple[PlannedSpan, ...]:
    """For each run the span of each part, parts in the weight's order."""
    if weight.is_vector:
        return tuple((p.name, p.path, p.start, p.stop) for p in weight.parts)
    return tuple(
        (part.name, part.path, *part.span(start, stop))
        for start, stop in runs
        for part in weight.parts
    )


def bytes_of(weight: Weight, runs: Sequence[Run]) -> int:
    """Bytes of `runs` in all parts, a part that belongs to all rows once."""
    return sum(stop - start for _, _, start, stop in set(spans_of(weight, runs)))


def first_bytes(weight: Weight) -> int:
    """Bytes of the least that can be read of a weight: a vector, or its first rows."""
    if weight.order is not None:
        return bytes_of(weight, leading_runs(weight, 1))
    if len(weight.shape) < 2:
        return sum(part.stop - part.start for part in weight.parts)
    n_rows = min(weight.main.rows_per_unit or weight.shape[0], weight.shape[0])
    return sum(
        -(-n_rows // part.rows_per_unit) * part.unit_bytes
        if part.rows_per_unit
        else part.stop - part.start
        for part in weight.parts
    )


def why_unreadable(weight: Weight) -> str | None:
    """Why no row of a weight can be read, whatever the budget; None: it can."""
    shape, order = weight.shape, weight.order
    if not shape or 0 in shape:
        return "empty or scalar"
    is_vector = len(shape) < 2
    n_stored = shape[0] if order is None else 1 + _last_stored(order, shape[0])
    for part in weight.parts:
        needed = 1
        if part.rows_per_unit and not is_vector:
            needed = -(-n_stored // part.rows_per_unit) * part.unit_bytes
            if part.unit_bytes <= 0:
                return f"part {part.name} has rows of no bytes"
        if not 0 <= part.start <= part.stop - needed:
            return f"part {part.name} is shorter than its rows"
    if order is not None and not is_vector and not _free(weight):
        # Widened runs must not hold rows of the weights that lie between.
        whole = _widened(weight, _ordered_runs(order, weight.n_rows))
        if len(rows_in(weight, whole)) < sum(stop - start for start, stop in whole):
            return "its rows share units with another weight's"
    return None


def _free(weight: Weight) -> bool:
    """Whether a run may begin at any row and end after any."""
    return all(part.rows_per_unit == 1 for part in weight.parts)


def _widened(weight: Weight, runs: tuple[Run, ...]) -> tuple[Run, ...]:
    if _free(weight):
        return runs
    unit = weight.main.rows_per_unit
    end = weight.n_rows if weight.order is None else 1 + _last_stored(weight.order, weight.n_rows)
    if not unit:
        return ((0, end),)
    if len(weight.parts) > 1:
        runs = ((0, runs[-1][1]),)
    return _joined(
        [(start // unit * unit, min(-(-stop // unit) * unit, end)) for start, stop in runs]
    )


def _joined(runs: Sequence[Run]) -> tuple[Run, ...]:
    joined: list[Run] = []
    for start, stop in runs:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return tuple(joined)


@lru_cache(maxsize=4096)
def _ordered_runs(order: RowOrder, n_rows: int) -> tuple[Run, ...]:
    """Runs over the first `n_rows` rows; of the rotary order the rows between come along."""
    if order.halves:
        joined: list[Run] = []
        for row in sorted(order.stored(row) for row in range(n_rows)):
            if joined and row - joined[-1][1] <= 1 and order.original(row - 1) is not None:
                joined[-1] = (joined[-1][0], row + 1)
            else:
                joined.append((row, row + 1))
        return tuple(joined)
    runs = []
    for first in range(0, n_rows, order.chunk):
        stored = order.stored(first)
        runs.append((stored, stored + min(order.chunk, n_rows - first)))
    return _joined(runs)


@lru_cache(maxsize=1024)
def _last_stored(order: RowOrder, n_rows: int) -> int:
    if order.halves:
        return order.offset + (n_rows - 1) // order.chunk * order.stride + order.chunk - 1
    return order.stored(n_rows - 1)


@lru_cache(maxsize=256)
def _numbers(run: Run) -> tuple[int, ...]:
    return tuple(range(*run))
