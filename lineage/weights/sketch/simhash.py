"""SimHash of standardised rows: 1,024 sums whose signs are the hash.

Value ``(row, column)`` of a tensor falls into bucket ``(row · columns + column + h) mod 1024``,
``h`` a hash of the tensor's key; its segment's sign is a hash of key, row and segment. Buckets
collect the standardised integers, which is exact in any order. Since place and sign hang on a
value's own coordinates alone, two samples agree wherever they hold the same rows.

Notes
-----
Charikar: Similarity estimation techniques from rounding algorithms, STOC 2002: the expected
Hamming distance of two hashes of 1,024 bits is ``1024 · angle / π``. Charikar, Chen,
Farach-Colton: Finding frequent items in data streams, 2002 (count sketch).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lineage.weights.sketch.mixing import mix64, pseudo_random, signed

__all__ = [
    "BUCKETS", "PROJECTION", "SMALL_PROJECTION", "fold", "normalised", "project", "segment_signs",
    "simhash_bytes",
]  # fmt: skip

BUCKETS = 1024
PROJECTION = 512
"""Length of a model's projection."""
SMALL_PROJECTION = 32
"""Length of a tensor's projection."""
_MANY_STARTS = 8
"""From so many different starts of rows on, values are put into their buckets one by one."""
_ROW = signed(0x8CB92BA72F3D8DD7)
_SEGMENT = signed(0xA24BAED4963EE407)


def segment_signs(keys: Tensor, rows: Tensor, first: int, n_segments: int) -> Tensor:
    """±1 for each segment: rows × segments, float32.

    Parameters
    ----------
    keys
        :func:`~lineage.weights.sketch.mixing.key_hash` of each row's tensor, int64.
    rows
        Number of each row in the original matrix, int64.
    first
        Number of the first segment.
    """
    segments = torch.arange(first, first + n_segments, device=rows.device) * _SEGMENT
    place = mix64(keys ^ (rows * _ROW))[:, None] + segments
    return 1.0 - 2.0 * (mix64(place) < 0).float()


def fold(
    signed_values: Tensor, rows: NDArray[np.int64], n_columns: int, first_column: int
) -> Tensor:
    """Sums of the buckets, 1,024 int64, before the turn by the tensor's key.

    Parameters
    ----------
    signed_values
        Standardised integers times the signs of their segments, rows × columns, float32.
    rows
        Number of each row.
    n_columns
        Columns of the whole matrix.
    first_column
        Number of the first of the given columns.
    """
    width = signed_values.shape[1]
    if width == n_columns and (np.diff(rows) == 1).all():
        return _fold_run(signed_values.reshape(-1), int(rows[0]) * n_columns % BUCKETS)
    if n_columns % BUCKETS == 0 and width % BUCKETS == 0 and first_column % BUCKETS == 0:
        return signed_values.reshape(-1, BUCKETS).sum(0).to(torch.int64)
    starts = (rows % BUCKETS * (n_columns % BUCKETS) + first_column) % BUCKETS
    distinct = np.unique(starts)
    sums = signed_values.new_zeros(BUCKETS)
    if len(distinct) > _MANY_STARTS:
        places = torch.from_numpy(starts).to(sums.device)[:, None]
        places = (places + torch.arange(width, device=sums.device)) % BUCKETS
        sums.scatter_add_(0, places.view(-1), signed_values.reshape(-1))
        return sums.to(torch.int64)
    for start in distinct.tolist():
        chosen = signed_values
        if len(distinct) > 1:
            chosen = signed_values[
                torch.from_numpy(np.flatnonzero(starts == start)).to(sums.device)
            ]
        padded = torch.nn.functional.pad(chosen.sum(0), (start, -(start + width) % BUCKETS))
        sums += padded.view(-1, BUCKETS).sum(0)
    return sums.to(torch.int64)


def _fold_run(signed_values: Tensor, start: int) -> Tensor:
    """Sums of the buckets of values that fall into one after the other, from `start` on."""
    sums = signed_values.new_zeros(BUCKETS)
    head = signed_values[: BUCKETS - start]
    sums[start : start + len(head)] += head
    rest = signed_values[len(head) :]
    whole = len(rest) // BUCKETS * BUCKETS
    sums += rest[:whole].view(-1, BUCKETS).sum(0)
    sums[: len(rest) - whole] += rest[whole:]
    return sums.to(torch.int64)


def project(sums: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Sums of 1,024 buckets folded to `length`, with fixed signs."""
    signs = 1 - 2 * (pseudo_random("projection", BUCKETS) & 1).numpy()
    folded = (sums * signs).reshape(*sums.shape[:-1], BUCKETS // length, length)
    return np.asarray(folded.sum(-2))


def normalised(sums: NDArray[np.int64]) -> NDArray[np.float32]:
    """`sums` scaled to length one, float32; zeros stay zeros."""
    values = sums.astype(np.float64)
    length = np.sqrt((values * values).sum(-1, keepdims=True))
    return (values / np.where(length > 0, length, 1)).astype(np.float32)


def simhash_bytes(sums: NDArray[np.int64]) -> bytes:
    """1,024 bits: bit ``i`` (little-endian within bytes) tells whether bucket ``i`` is above 0."""
    return np.packbits(sums > 0, bitorder="little").tobytes()
