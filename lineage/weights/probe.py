"""Which bytes of a model to read: a pure function of roles, shapes, anchors and a budget.

The plan climbs the ladder of :mod:`lineage.weights.stages` until the budget ends. Which rows that
are depends on the places and shapes of the weights only, never on files or their order: models of
one shape are read at the same coordinates, and a smaller budget or stage reads a part of what a
larger one reads. (A budget of *requests* counts ranges, so there the files decide how far up the
ladder it reaches; the ladder stays the same.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from crawler.spans import Span, coalesce
from lineage.weights.costs import Reached, climb, planned_runs
from lineage.weights.facts import ModelFacts
from lineage.weights.ladder import Rung, rungs_of
from lineage.weights.runs import (
    PlannedSpan,
    Run,
    first_bytes,
    rows_in,
    spans_of,
    why_unreadable,
)
from lineage.weights.stages import LADDER, MAX_FIRST_BLOCK_BYTES, MAX_VECTOR_BYTES, STAGES
from lineage.weights.weight import Weight

__all__ = ["SCHEME", "Block", "ProbePlan", "plan_probe"]

SCHEME = "probe-2"
"""Version of the plan: fingerprints compare only under one scheme."""

_EVERYTHING = -1
"""Stands for the step of stage 4, which has no ladder."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one weight, and where they lie.

    Attributes
    ----------
    rows
        Row numbers of the original matrix, in the order in which `runs` store them.
    runs
        Half-open ranges of stored rows.
    spans
        (name of the part, path, start, stop): for each run the bytes of each part, parts in the
        weight's order.
    """

    weight: Weight
    rows: tuple[int, ...]
    runs: tuple[Run, ...]
    spans: tuple[PlannedSpan, ...]


@dataclass(frozen=True)
class ProbePlan:
    """What to read of one model, and what not, with the reason.

    Attributes
    ----------
    blocks
        By layer, role and expert.
    passed_over
        Weights of which nothing can be read at this stage: name and reason.
    unplanned
        Weights that could be read and are not: the stage does not read them, or the budget ended.
    given_up
        What the budget took away: the steps of the ladder that it did not reach, and their cost.
    """

    scheme: str
    stage: int
    blocks: tuple[Block, ...]
    passed_over: tuple[tuple[str, str], ...]
    given_up: tuple[str, ...] = ()
    unplanned: tuple[tuple[str, str], ...] = ()

    @cached_property
    def bytes_planned(self) -> int:
        """Bytes of all spans, each byte counted once; gaps are not counted."""
        return sum(_union_bytes(spans) for spans in self.spans_by_path().values())

    @property
    def n_ranges(self) -> int:
        """Range requests when the reader joins neighbours as it does."""
        return _n_ranges(self.spans_by_path())

    def spans_by_path(self) -> Mapping[str, tuple[Span, ...]]:
        """The distinct spans of every file, ascending."""
        return _by_path(block.spans for block in self.blocks)


def plan_probe(
    weights: Sequence[Weight],
    stage: int = 3,
    *,
    budget_bytes: int,
    budget_requests: int | None = None,
    facts: ModelFacts | None = None,
    anchors: Sequence[int] = (),
) -> ProbePlan:
    """Choose what to read.

    Parameters
    ----------
    weights
        All weights of the model, in any order.
    stage
        0 to 4; stages 0 and 1 read nothing of the weights, stage 4 everything.
    budget_bytes
        Upper bound of the bytes of all blocks; gaps that the reader reads along and headers come
        on top.
    budget_requests
        Upper bound of the ranges after neighbours are joined; headers and the resolution of
        addresses come on top. None: no bound.
    facts
        Tells the rows of a head, for whole heads.
    anchors
        Rows of the embedding by token, the most wanted first.

    Raises
    ------
    ValueError
        If there is no such stage, or a budget does not allow the least that the stage reads; says
        how much that is.
    """
    if not 0 <= stage < len(STAGES):
        raise ValueError(f"there is no stage {stage}; stages are 0 to {len(STAGES) - 1}")
    if stage < 2:
        return ProbePlan(SCHEME, stage, (), ())
    return _Climb(weights, stage, facts, anchors).plan(budget_bytes, budget_requests)


class _Climb:
    """How far up the ladder a budget reaches."""

    def __init__(
        self,
        weights: Sequence[Weight],
        stage: int,
        facts: ModelFacts | None,
        anchors: Sequence[int],
    ) -> None:
        self._weights = weights
        self._stage = stage
        self._anchors = tuple(dict.fromkeys(row for row in anchors if row >= 0))
        self._passed_over: list[tuple[str, str]] = []
        self._readable: list[int] = []
        for i, weight in enumerate(weights):
            reason = why_unreadable(weight) or (_too_long(weight) if stage < 4 else None)
            if reason is None:
                self._readable.append(i)
            else:
                self._passed_over.append((weight.name, reason))
        if stage < 4:
            rungs = rungs_of(weights, self._readable, stage, facts, len(self._anchors))
            self._rungs = list(rungs)
        else:
            most = max((weights[i].n_rows for i in self._readable), default=0)
            self._rungs = [Rung(_EVERYTHING, tuple(self._readable), most)] if most else []
        self._totals = climb(weights, self._rungs, self._anchors)

    def plan(self, budget_bytes: int, budget_requests: int | None) -> ProbePlan:
        """The plan within the budgets; see :func:`plan_probe`."""
        n_rungs = self._within_bytes(budget_bytes)
        if budget_requests is not None and n_rungs:
            n_rungs = self._within_requests(n_rungs, budget_requests)
        reached = self._reached(n_rungs)
        blocks = [self._block(i, *rows) for i, rows in reached.items()]
        blocks.sort(key=lambda block: _place(block.weight))
        given_up, missed_at = self._given_up(n_rungs)
        unplanned = sorted(
            (self._weights[i].name, missed_at.get(i, f"stage {self._stage} does not read it"))
            for i in self._readable
            if i not in reached
        )
        return ProbePlan(
            SCHEME, self._stage, tuple(blocks), tuple(self._passed_over), given_up, tuple(unplanned)
        )

    def _within_bytes(self, budget: int) -> int:
        """How many rungs the budget allows, and the stage."""
        if not self._rungs:
            return 0
        if self._totals[0] > budget:
            raise ValueError(
                f"a budget of {budget} bytes is too small: {self._step_name(0)} "
                f"needs {self._totals[0]}"
            )
        limit = STAGES[self._stage].at_most_bytes
        allowed = budget if limit is None else min(budget, limit)
        return max(1, bisect_right(self._totals, allowed))

    def _within_requests(self, n_rungs: int, budget: int) -> int:
        """How many of the first `n_rungs` rungs the budget of ranges allows."""
        if self._n_ranges(n_rungs) <= budget:
            return n_rungs
        least = self._n_ranges(1)
        if least > budget:
            raise ValueError(
                f"a budget of {budget} requests is too small: {self._step_name(0)} needs {least}"
            )
        low, high = 1, n_rungs  # low is allowed, high is not
        while high - low > 1:
            middle = (low + high) // 2
            if self._n_ranges(middle) <= budget:
                low = middle
            else:
                high = middle
        return low

    def _n_ranges(self, n_rungs: int) -> int:
        reached = self._reached(n_rungs)
        return _n_ranges(_by_path(self._block(i, *rows).spans for i, rows in reached.items()))

    def _reached(self, n_rungs: int) -> Reached:
        reached: Reached = {}
        for rung in self._rungs[:n_rungs]:
            for i in rung.members:
                rows, anchors = reached.get(i, (0, 0))
                reached[i] = max(rows, rung.rows), max(anchors, rung.anchors)
        return reached

    def _block(self, i: int, n_rows: int, n_anchors: int) -> Block:
        weight = self._weights[i]
        runs = planned_runs(weight, n_rows, self._anchors[:n_anchors])
        return Block(weight, rows_in(weight, runs), runs, spans_of(weight, runs))

    def _given_up(self, n_rungs: int) -> tuple[tuple[str, ...], dict[int, str]]:
        """Sentences on the steps not reached; of weights not read, why."""
        n_of = Counter(rung.step for rung in self._rungs)
        n_missed: Counter[int] = Counter()
        cost: Counter[int] = Counter()
        missed_at: dict[int, str] = {}
        for at in range(n_rungs, len(self._rungs)):
            rung = self._rungs[at]
            n_missed[rung.step] += 1
            cost[rung.step] += self._totals[at] - (self._totals[at - 1] if at else 0)
            reason = f"beyond the budget: {LADDER[rung.step].name}"
            for i in rung.members:
                missed_at.setdefault(i, reason)
        sentences = []
        for step, n_parts in n_missed.items():
            if cost[step]:
                part = f" ({n_parts} of {n_of[step]} parts)" if n_parts < n_of[step] else ""
                sentences.append(f"{LADDER[step].name}{part}: {cost[step]} bytes")
        return tuple(sentences), missed_at

    def _step_name(self, rung: int) -> str:
        step = self._rungs[rung].step
        return "everything" if step == _EVERYTHING else LADDER[step].name


def _too_long(weight: Weight) -> str | None:
    """Why the least that could be read of a weight is too much for any budget below stage 4."""
    n_bytes = first_bytes(weight)
    if weight.is_vector and n_bytes > MAX_VECTOR_BYTES:
        return f"a vector of more than {MAX_VECTOR_BYTES} bytes"
    if n_bytes > MAX_FIRST_BLOCK_BYTES:
        return f"its first row takes more than {MAX_FIRST_BLOCK_BYTES} bytes"
    return None


def _place(weight: Weight) -> tuple[int, str, int, str]:
    key = weight.key
    return key.layer, key.role, key.expert, weight.name


def _by_path(spans_of_blocks: Iterable[Sequence[PlannedSpan]]) -> dict[str, tuple[Span, ...]]:
    found: dict[str, set[Span]] = {}
    for spans in spans_of_blocks:
        for _, path, start, stop in spans:
            found.setdefault(path, set()).add((start, stop))
    return {path: tuple(sorted(found[path])) for path in sorted(found)}


def _n_ranges(spans_by_path: Mapping[str, Sequence[Span]]) -> int:
    return sum(len(coalesce(spans)) for spans in spans_by_path.values())


def _union_bytes(spans: Sequence[Span]) -> int:
    """Bytes of ascending spans, overlaps once."""
    total = end = 0
    for start, stop in spans:
        total += max(0, stop - max(start, end))
        end = max(end, stop)
    return total
