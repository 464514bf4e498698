"""The funnel as data: what every stage reads, where, and what a budget takes away first.

A stage-2 or stage-3 plan climbs one *ladder* of steps from the bottom and stops where the budget
ends. So a small budget reads a part of what a large one reads, and stage 2 a part of what stage 3
reads, always at the same coordinates. Read upwards the ladder says what matters most; read
downwards it is the order in which a tight budget gives things up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "BUDGET_BYTES",
    "LADDER",
    "MAX_FIRST_BLOCK_BYTES",
    "MAX_VECTOR_BYTES",
    "SMALL_MODEL_VALUES",
    "STAGES",
    "Stage",
    "Step",
    "spread",
]

BUDGET_BYTES = 5_700_000
"""Weights of one model read by default: with headers, index and configuration 6 MB for 7 B."""

MAX_VECTOR_BYTES = 256 << 10
"""Longer vectors (flattened matrices, tables, masks) are passed over below stage 4."""

MAX_FIRST_BLOCK_BYTES = 512 << 10
"""A matrix whose first row, with what decodes it, takes more is passed over below stage 4."""

SMALL_MODEL_VALUES = 10_000_000
"""A model of at most so many values is small: stage 2 reads the vectors of all its layers."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the funnel.

    Attributes
    ----------
    reads, where
        What is read, and of which files.
    answers
        The questions that can be answered afterwards.
    at_most_bytes
        Bytes of weights it reads at most, whatever the budget; None: only the budget counts.
    """

    number: int
    reads: str
    where: str
    answers: str
    at_most_bytes: int | None


STAGES = (
    Stage(0, "digests and sizes of files", "the repository's listing", "duplicates, shared shards",
          0),
    Stage(1, "names, shapes, dtypes and places of tensors", "the headers of the weight files",
          "shape signature, candidates' bucket, contradictions", 0),
    Stage(2, "vectors of a few layers, some anchor tokens, a few row blocks",
          "the weight files, by range", "family, nearest relatives", 1_250_000),
    Stage(3, "all vectors, a row block of every matrix, deep feed-forward blocks, more anchors",
          "the weight files, by range", "kind, direction, layer map, merge screening", None),
    Stage(4, "everything", "the weight files, whole", "exact replay, proof", None),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the ladder: the leading rows of some weights, at least so many.

    Attributes
    ----------
    name
        What it reads, for people.
    stage
        The first stage that takes it.
    kind
        ``vectors``, ``matrices``, or ``all``; ``anchors``: rows of the token matrices chosen by
        token; ``heads``: matrices, their rows counted in attention heads.
    where
        ``layers``, ``outside`` of them, or ``everywhere``.
    rows
        Leading rows of every matrix; for anchors how many of them; for heads 1: first query, key
        and value head, more: all queries of the first key.
    roles
        Only these roles; empty: all.
    layers
        So many layers, evenly spread, of those that have such weights; None: all.
    experts
        So many experts of a layer, evenly spread; None: all.
    apart
        Whether the budget may end between two layers (two weights outside the layers); else the
        step is taken as a whole or not at all.
    at_most
        So many weights outside the layers; None: all.
    small_only
        Whether only small models take it.
    """

    name: str
    stage: int
    kind: Literal["vectors", "matrices", "all", "anchors", "heads"]
    where: Literal["layers", "outside", "everywhere"]
    rows: int = 1
    roles: tuple[str, ...] = ()
    layers: int | None = None
    experts: int | None = 2
    apart: bool = False
    at_most: int | None = None
    small_only: bool = False


def _deep(stage: int, role: str, rows: int, layers: int, *roles: str, apart: bool = False) -> Step:
    name = f"{rows} rows of {role} in {layers} layers"
    return Step(name, stage, "matrices", "layers", rows, (role, *roles), layers, 1, apart)


_UNSPLIT = ("gate_up",)
"""Where gate and up could not be told apart, their common matrix stands for both."""

# Layers are spread by halving, so 3, 5, 9 and 17 of them are evenly spaced.
LADDER: tuple[Step, ...] = (
    Step("vectors outside the layers", 2, "vectors", "outside", at_most=16),
    Step("vectors of 5 layers", 2, "vectors", "layers", layers=5, experts=1),
    Step("vectors of all layers of a small model", 2, "vectors", "layers", small_only=True),
    _deep(2, "up", 8, 5, *_UNSPLIT),
    Step("16 anchors of the embedding", 2, "anchors", "outside", 16, ("embed",)),
    _deep(2, "up", 16, 5, *_UNSPLIT),
    # In the files of the Hub the first rows of k follow a norm: its range brings them along.
    _deep(2, "k", 4, 5),
    Step("vectors and one row of every matrix outside the layers", 3, "all", "outside", apart=True),
    Step("vectors and one row of every matrix of the layers", 3, "all", "layers", apart=True),
    _deep(3, "up", 24, 5, *_UNSPLIT),
    _deep(3, "up", 32, 5, *_UNSPLIT),
    _deep(3, "up", 48, 3, *_UNSPLIT),
    _deep(3, "up", 64, 3, *_UNSPLIT),
    Step("48 anchors of the embedding", 3, "anchors", "outside", 48, ("embed",)),
    _deep(3, "up", 64, 5, *_UNSPLIT, apart=True),
    _deep(3, "up", 64, 9, *_UNSPLIT, apart=True),
    _deep(3, "gate", 64, 5, apart=True),
    Step("one row of every matrix of 4 experts a layer", 3, "all", "layers", experts=4, apart=True),
    Step("one row of every matrix of 8 experts a layer", 3, "all", "layers", experts=8, apart=True),
    *(
        Step(f"{rows} rows of every matrix", 3, "all", "everywhere", rows, experts=8)
        for rows in (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
    ),
    Step("64 rows of every expert", 3, "all", "layers", 64, experts=None, apart=True),
    Step("all anchors of the embedding and the head", 3, "anchors", "outside", 1 << 20,
         ("embed", "head")),
    Step("a whole head of attention", 3, "heads", "layers", 1, ("q", "k", "v")),
    Step("a whole group of heads", 3, "heads", "layers", 1 << 20, ("q", "k", "v")),
)  # fmt: skip
"""The steps, what matters most first."""


def spread(n: int) -> list[int]:
    """The numbers ``0 … n-1`` in an order whose every beginning is spread over them.

    First and last come first, then the middles of what lies between, by halving.

    Examples
    --------
    >>> spread(9)
    [0, 8, 4, 2, 6, 1, 3, 5, 7]
    """
    order = list(range(n)) if n < 3 else [0, n - 1]
    gaps = [(0, n - 1)] if n > 2 else []
    while gaps:
        inner: list[tuple[int, int]] = []
        for low, high in gaps:
            middle = (low + high) // 2
            order.append(middle)
            inner += [gap for gap in ((low, middle), (middle, high)) if gap[1] - gap[0] > 1]
        gaps = inner
    return order
