"""One pass over stored words on CUDA: digest, statistics and SimHash in a single Triton kernel.

Each word is read from memory once for its value and once more, out of the cache, for the digest.
The arithmetic of SimHash is that of :mod:`lineage.weights.sketch.segments`, step by step; divisions
are the correctly rounded ones, since Triton's ``/`` is not. Sums that are not exact (the moments')
differ from the CPU's in the last places.

Triton comes with torch's CUDA builds; without it (or for dtypes that are not listed in
:data:`FUSED_DTYPES`) the same is computed by torch operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lineage.weights.sketch.digest import BLOCK_BYTES, factors
from lineage.weights.sketch.segments import SEGMENT, STATISTICS, standardising_factor
from lineage.weights.sketch.simhash import BUCKETS

__all__ = ["FUSED_DTYPES", "Fused", "can_fuse", "measure_fused"]

FUSED_DTYPES = {
    "BF16": torch.int16, "F16": torch.float16, "F32": torch.float32,
    "F8_E4M3": torch.uint8, "F8_E5M2": torch.uint8,
}  # fmt: skip
"""Dtypes the kernel decodes, and as what it loads their words."""
_TILE_ROWS = 8
"""Rows of one program at most: their sums of buckets stay in registers."""


@dataclass(frozen=True)
class Fused:
    """What one pass over rows tells.

    Attributes
    ----------
    lanes
        Rows × blocks × 2, int64: as of :func:`~lineage.weights.sketch.digest.block_lanes`.
    statistics, counts
        As of :func:`~lineage.weights.sketch.segments.measure_segments`, for rows × segments; the
        last segment of a row may be shorter.
    buckets
        Slots × 1,024, int32: sums of the signed standardised values.
    """

    lanes: Tensor
    statistics: Tensor
    counts: Tensor
    buckets: Tensor


def can_fuse(device: torch.device, dtype: str, n_columns: int) -> bool:
    """Whether the kernel takes rows of so many words: on CUDA, with Triton, eight-byte words."""
    kind = FUSED_DTYPES.get(dtype)
    whole = kind is not None and n_columns * kind.itemsize % 8 == 0
    return device.type == "cuda" and whole and has_triton()


@lru_cache
def has_triton() -> bool:
    """Whether Triton is installed."""
    return find_spec("triton") is not None


def measure_fused(
    words: Tensor,
    dtype: str,
    rows: NDArray[np.int64],
    slots: NDArray[np.int64],
    n_slots: int,
    signs: Tensor,
) -> Fused:
    """Run the kernel over whole rows.

    Parameters
    ----------
    words
        Rows × bytes, uint8, contiguous, on the device.
    dtype
        One of :data:`FUSED_DTYPES`.
    rows, slots
        Number of each row in its matrix, and its tensor counted from 0 within this call.
    n_slots
        How many tensors there are.
    signs
        Sign of each segment (0: stands aside), rows × segments, float32.
    """
    from lineage.weights.sketch import fused_kernel

    values = words.view(FUSED_DTYPES[dtype])
    n_rows, n_columns = values.shape
    n_segments, n_blocks = -(-n_columns // SEGMENT), -(-words.shape[1] // BLOCK_BYTES)
    device = words.device
    order, tiles, shifts, owners = _tiles(rows, slots, n_columns)
    lanes = torch.empty((n_rows, n_blocks, 2), dtype=torch.int64, device=device)
    statistics = torch.empty((n_rows, n_segments, len(STATISTICS)), device=device)
    counts = torch.empty((n_rows, n_segments, 3), dtype=torch.int32, device=device)
    buckets = torch.zeros((n_slots, BUCKETS), dtype=torch.int32, device=device)
    table = factors(device)
    widths = [min(SEGMENT, n_columns), n_columns - (n_segments - 1) * SEGMENT]
    inverses = [float(np.float32(1.0 / n)) for n in widths]
    scalings = [float(np.float32(standardising_factor(n))) for n in widths]

    def there(array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(device)

    fused_kernel.sketch_rows[(len(tiles) - 1, n_segments)](
        values, words.view(torch.int64), there(order), there(tiles), there(shifts), there(owners),
        signs, table[0], table[1], lanes, statistics, counts, buckets,
        n_columns, n_segments, n_blocks, words.shape[1] // 8,
        *inverses, *scalings,
        KIND=dtype, WORD_BYTES=values.element_size(), SEGMENT=SEGMENT,
        BLOCK_WORDS=BLOCK_BYTES // 8, num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
    return Fused(lanes, statistics, counts.to(torch.int64), buckets)


def _tiles(
    rows: NDArray[np.int64], slots: NDArray[np.int64], n_columns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows in groups of one tensor and one place in the buckets.

    Returns
    -------
    order
        The rows, group by group.
    tiles
        Where in `order` each group begins, and the end.
    shifts, owners
        Bucket of the first column, and tensor, of each group.
    """
    shift = rows % BUCKETS * (n_columns % BUCKETS) % BUCKETS
    order = np.lexsort((shift, slots)).astype(np.int64)
    shift, slot = shift[order], slots[order]
    fresh = np.flatnonzero((np.diff(shift) != 0) | (np.diff(slot) != 0)) + 1
    edges = np.concatenate([[0], fresh, [len(order)]])
    starts = [np.arange(a, b, _TILE_ROWS) for a, b in pairwise(edges.tolist())]
    tiles = np.concatenate([*starts, [len(order)]]).astype(np.int64)
    return order, tiles, shift[tiles[:-1]].astype(np.int64), slot[tiles[:-1]].astype(np.int64)
