"""Which bytes of a model to read: a pure function of roles, shapes and a budget.

One-dimensional tensors are read whole. Of every matrix a block of leading rows is read, contiguous
in the file, so one range each; the positions depend on role and shape only, so that all models of
one shape are read at the same coordinates. Feed-forward rows ("up") of a few layers come first: the
family test needs many rows of one matrix. When the budget is tight, the other matrices give up rows
first, then those feed-forward blocks, then whole layers, evenly spaced.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from crawler.errors import MalformedError
from crawler.records import TensorEntry
from lineage.weights.formats import row_bytes
from lineage.weights.roles import Role, role_of

__all__ = ["SCHEME", "Block", "Heads", "ProbePlan", "plan_probe"]

SCHEME = "rows-1"
"""Version of the plan: fingerprints compare only under one scheme."""

_MAX_VECTOR_BYTES = 1 << 18
_ROW_CAPS = (64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)
_DEEP_ROWS = 64
_DEEP_LAYERS = 8
_LAYER_CAPS = (10_000, 48, 32, 24, 16, 12, 8, 4, 2, 0)


@dataclass(frozen=True, slots=True)
class Heads:
    """Attention heads, needed to undo the row order of GGUF's query and key matrices."""

    query: int
    key_value: int


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one tensor: where they lie, and which rows of the matrix they are.

    `rows` are row numbers in the order of the original (Hugging Face) matrix; the bytes
    ``[start, stop)`` of the file hold them in this order.
    """

    tensor: TensorEntry
    role: Role
    rows: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """What to read of one model, and what is passed over with the reason."""

    scheme: str
    blocks: tuple[Block, ...]
    skipped: tuple[tuple[str, str], ...]

    @property
    def bytes_planned(self) -> int:
        """Sum of the blocks' bytes."""
        return sum(block.stop - block.start for block in self.blocks)


def plan_probe(
    tensors: Sequence[TensorEntry], budget_bytes: int, heads: Heads | None = None
) -> ProbePlan:
    """Choose the blocks to read.

    Parameters
    ----------
    tensors
        All tensors of the model.
    budget_bytes
        Upper bound of the bytes of all blocks.
    heads
        Given for GGUF files of the llama family, whose q and k rows are permuted.

    Raises
    ------
    ValueError
        If the budget does not even allow a row of every tensor outside the layers; says how much
        that needs.
    """
    readable: list[tuple[TensorEntry, Role, int]] = []
    skipped: list[tuple[str, str]] = []
    for tensor in tensors:
        try:
            width = row_bytes(tensor.dtype, _row_length(tensor))
        except MalformedError as error:
            skipped.append((tensor.name, str(error)))
            continue
        if not tensor.shape or 0 in tensor.shape:
            skipped.append((tensor.name, "empty or scalar"))
        elif len(tensor.shape) == 1 and width > _MAX_VECTOR_BYTES:
            skipped.append((tensor.name, "vector too long"))
        else:
            readable.append((tensor, role_of(tensor.name), width))
    for n_layers in _LAYER_CAPS:
        layers = _spread(
            {role.key.layer for _, role, _ in readable if role.key.layer >= 0}, n_layers
        )
        kept = [item for item in readable if item[1].key.layer < 0 or item[1].key.layer in layers]
        blocks = _fit(kept, budget_bytes, heads)
        if blocks is not None:
            dropped = [
                (tensor.name, f"its layer is none of the {len(layers)} that the budget allows")
                for tensor, role, _ in readable
                if role.key.layer >= 0 and role.key.layer not in layers
            ]
            return ProbePlan(SCHEME, blocks, (*skipped, *dropped))
    least = sum(width for _, role, width in readable if role.key.layer < 0)
    raise ValueError(
        f"a budget of {budget_bytes} bytes is too small: one row of each tensor outside the layers "
        f"needs {least}"
    )


def _fit(
    readable: Sequence[tuple[TensorEntry, Role, int]], budget_bytes: int, heads: Heads | None
) -> tuple[Block, ...] | None:
    """The largest blocks that the budget allows; None if one row of each is too much."""
    deep = _spread(
        {role.key.layer for _, role, _ in readable if role.key.role == "up"}, _DEEP_LAYERS
    )
    for deep_rows in (_DEEP_ROWS, 32, 16, 1):
        for cap in _ROW_CAPS:
            counts = [
                _n_rows(tensor, role, cap, deep_rows if role.key.layer in deep else 1)
                for tensor, role, _ in readable
            ]
            wanted = zip(counts, readable, strict=True)
            if sum(n * width for n, (_, _, width) in wanted) <= budget_bytes:
                return tuple(
                    _block(tensor, role, n, width, heads)
                    for n, (tensor, role, width) in zip(counts, readable, strict=True)
                )
    return None


def _row_length(tensor: TensorEntry) -> int:
    if len(tensor.shape) == 1:
        return tensor.shape[0]
    length = 1
    for size in tensor.shape[1:]:
        length *= size
    return length


def _n_rows(tensor: TensorEntry, role: Role, cap: int, deep_rows: int) -> int:
    if len(tensor.shape) == 1:
        return 1
    wanted = max(cap, deep_rows) if role.key.role == "up" else cap
    return min(tensor.shape[0], wanted)


def _spread(layers: Collection[int], at_most: int) -> frozenset[int]:
    """At most so many of the layers, evenly spaced, first and last included."""
    ordered = sorted(layers)
    if len(ordered) <= at_most:
        return frozenset(ordered)
    if at_most < 2:
        return frozenset(ordered[:at_most])
    last = len(ordered) - 1
    return frozenset(ordered[i * last // (at_most - 1)] for i in range(at_most))


def _block(tensor: TensorEntry, role: Role, n_rows: int, width: int, heads: Heads | None) -> Block:
    rows: tuple[int, ...] = tuple(range(n_rows))
    if heads is not None and role.key.role in ("q", "k"):
        n_heads = heads.query if role.key.role == "q" else heads.key_value
        rows = tuple(_unpermuted_row(row, tensor.shape[0], n_heads) for row in range(n_rows))
    return Block(tensor, role, rows, tensor.start, tensor.start + n_rows * width)


def _unpermuted_row(row: int, n_rows: int, n_heads: int) -> int:
    """Where row `row` of a llama GGUF's q or k stood before the rotary permutation.

    The converter stores a head's rows (half, pair) in the order (pair, half).
    """
    if n_heads <= 0 or n_rows % (2 * n_heads):
        return row
    per_head = n_rows // n_heads
    head, within = divmod(row, per_head)
    pair, half = divmod(within, 2)
    return head * per_head + half * (per_head // 2) + pair
