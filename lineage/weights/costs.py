"""What rungs of the ladder cost in bytes, for many weights at once. Pure.

Almost every weight is stored in the order of its rows, so its leading rows cost what arithmetic on
its parts says, and a rung is a few array operations. The few others (rotary order, interleaved
heads, tensors shared by columns, anchor rows) are counted run by run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lineage.weights.ladder import Rung
from lineage.weights.runs import Run, bytes_of, leading_runs, row_runs
from lineage.weights.weight import Weight

__all__ = ["Reached", "climb", "planned_runs"]

Reached = dict[int, tuple[int, int]]
"""Of each weight's number the leading rows and the anchor rows that are read."""

_I64 = NDArray[np.int64]


def climb(weights: Sequence[Weight], rungs: Sequence[Rung], anchors: Sequence[int]) -> list[int]:
    """Bytes up to and with each rung, at least those of the union of the spans.

    Weights that stand side by side in one tensor are read together and counted once.

    Parameters
    ----------
    weights
        All weights of the model.
    rungs
        From the bottom up.
    anchors
        Rows of the embedding, the most wanted first.
    """
    used = sorted({i for members in {rung.members for rung in rungs} for i in members})
    n_leading = {rung.members: np.array(rung.members, np.int64) for rung in rungs}
    table = _Table(weights, used)
    singly = _Singly(weights, anchors)
    totals, total = [], 0
    for rung in rungs:
        members = n_leading[rung.members]
        is_special = table.is_special[members]
        if rung.anchors:
            singly.take_over(table, rung.members)
            is_special = np.ones(len(members), bool)
        total += table.raise_to(members[~is_special], rung.rows)
        total += sum(singly.raise_to(int(i), rung) for i in members[is_special])
        totals.append(total)
    return totals


def planned_runs(weight: Weight, n_rows: int, anchors: Sequence[int]) -> tuple[Run, ...]:
    """Runs of so many leading rows and of these anchor rows."""
    if not anchors or weight.is_vector or any(part.rows_per_unit != 1 for part in weight.parts):
        # In packed encodings an anchor would drag along all rows before it.
        return leading_runs(weight, max(n_rows, 1))
    rows = set(range(min(n_rows, weight.n_rows)))
    rows.update(row for row in anchors if row < weight.n_rows)
    return row_runs(weight, sorted(rows)) if rows else leading_runs(weight, 1)


class _Table:
    """Parts of the weights as arrays, and how many leading rows of each are paid for."""

    def __init__(self, weights: Sequence[Weight], used: Sequence[int]) -> None:
        n = len(weights)
        n_parts = max((len(weights[i].parts) for i in used), default=0)
        self.is_special = np.zeros(n, bool)
        self.rows = np.zeros(n, np.int64)
        self._n_rows = np.zeros(n, np.int64)
        self._unit = np.ones(n, np.int64)
        self._paid = np.zeros(n, np.int64)
        # A part that belongs to all rows counts as one unit of all rows.
        self._per_unit = np.ones((n_parts, n), np.int64)
        self._unit_bytes = np.zeros((n_parts, n), np.int64)
        for i in used:
            weight = weights[i]
            if weight.order is not None or weight.columns is not None:
                self.is_special[i] = True
                continue
            is_matrix = len(weight.shape) > 1
            n_rows = self._n_rows[i] = weight.shape[0] if is_matrix else 1
            self._unit[i] = weight.main.rows_per_unit or n_rows if is_matrix else 1
            for at, part in enumerate(weight.parts):
                if is_matrix and part.rows_per_unit:
                    self._per_unit[at, i] = part.rows_per_unit
                    self._unit_bytes[at, i] = part.unit_bytes
                else:
                    self._per_unit[at, i] = n_rows
                    self._unit_bytes[at, i] = part.stop - part.start

    def raise_to(self, members: _I64, rows: int) -> int:
        """Read at least so many leading rows of the members; what that costs."""
        members = members[self.rows[members] < np.minimum(rows, self._n_rows[members])]
        if not len(members):
            return 0
        self.rows[members] = np.minimum(rows, self._n_rows[members])
        unit = self._unit[members]
        read = np.minimum(-(-self.rows[members] // unit) * unit, self._n_rows[members])
        units = -(-read // self._per_unit[:, members])
        n_bytes = (units * self._unit_bytes[:, members]).sum(axis=0)
        cost = int((n_bytes - self._paid[members]).sum())
        self._paid[members] = n_bytes
        return cost

    def hand_over(self, i: int) -> tuple[int, int]:
        """From here on `i` is counted elsewhere: its rows so far, and what was paid for them."""
        self.is_special[i] = True
        return int(self.rows[i]), int(self._paid[i])


class _Singly:
    """Weights that are counted run by run."""

    def __init__(self, weights: Sequence[Weight], anchors: Sequence[int]) -> None:
        self._weights = weights
        self._anchors = anchors
        self._reached: Reached = {}
        self._paid: dict[object, int] = {}

    def take_over(self, table: _Table, members: Sequence[int]) -> None:
        """Count these here from now on."""
        for i in members:
            if not table.is_special[i]:
                rows, paid = table.hand_over(i)
                self._reached[i] = rows, 0
                self._paid[self._storage(i)] = paid

    def raise_to(self, i: int, rung: Rung) -> int:
        """Read of `i` what `rung` wants; what that costs."""
        had = self._reached.get(i, (0, 0))
        now = max(had[0], rung.rows), max(had[1], rung.anchors)
        if now == had:
            return 0
        self._reached[i] = now
        weight = self._weights[i]
        n_bytes = bytes_of(weight, planned_runs(weight, now[0], self._anchors[: now[1]]))
        storage = self._storage(i)
        before = self._paid.get(storage, 0)
        self._paid[storage] = max(n_bytes, before)
        return max(0, n_bytes - before)

    def _storage(self, i: int) -> object:
        """The tensor whose rows are read along for all its weights, or the weight alone."""
        weight = self._weights[i]
        if weight.columns is None and not (weight.is_vector and weight.order is not None):
            return i
        return weight.main.path, weight.main.start, weight.main.stop
