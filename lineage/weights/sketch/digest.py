"""A 128-bit digest of stored words that may be computed in any order and in pieces.

Rows are cut into blocks of 128 eight-byte words (little-endian; a row is padded with zero bytes to
whole words). Two lanes of every block are multilinear in its words, with fixed random odd factors;
the lane of a block is then mixed with the number of its row and its place in the row, and all are
added modulo 2^64. So pieces are computed apart and added, whoever holds them; the sum of a set of
rows does not depend on the order in which they came, only on which rows stand where.

*Not cryptographic*: whoever wants two tensors of one digest can make them. It finds equal tensors
among honest ones; the proof against forgers is the files' sha256.

Notes
-----
The factors are public, so the usual promise of multilinear hashing (two given inputs collide with
probability 2⁻³³ a lane, at the worst, and mostly 2⁻⁶⁴) holds for data that do not depend on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lineage.weights.sketch.mixing import mix64, pseudo_random, signed
from lineage.weights.sketch.scratch import Scratch

__all__ = ["BLOCK_BYTES", "block_lanes", "factors", "finish_digest", "place_lanes"]

BLOCK_BYTES = 1024
"""Bytes of one block."""
_WORDS = BLOCK_BYTES // 8
_ROW = signed(0x9E3779B97F4A7C15)
_BLOCK = signed(0xD1B54A32D192ED03)


@lru_cache
def factors(device: torch.device) -> Tensor:
    """The factors of both lanes, 2 × 128 int64, all odd."""
    return (pseudo_random("digest", 2 * _WORDS) | 1).view(2, _WORDS).to(device)


def block_lanes(rows: Tensor, scratch: Scratch) -> Tensor:
    """Both lanes of every block.

    Parameters
    ----------
    rows
        Stored bytes, rows × bytes, uint8, contiguous; bytes of a row are any number.
    scratch
        Working memory.

    Returns
    -------
    Tensor
        Rows × blocks × 2, int64. The last block of a row may be shorter.
    """
    n_rows, n_bytes = rows.shape
    if n_bytes % 8:
        rows = torch.nn.functional.pad(rows, (0, -n_bytes % 8))
    words = rows.view(torch.int64)
    full = words.shape[1] // _WORDS
    lanes = torch.empty((n_rows, -(-words.shape[1] // _WORDS), 2), dtype=torch.int64,
                        device=rows.device)  # fmt: skip
    # High bits come down first: what differs in a top bit alone would cancel out in pairs.
    folded = scratch.take("second", words.shape, torch.int64)
    torch.bitwise_right_shift(words, 32, out=folded)
    folded += words
    lanes[:, :full] = _lanes(folded[:, : full * _WORDS].reshape(n_rows, full, _WORDS))
    if full < lanes.shape[1]:
        lanes[:, full] = _lanes(folded[:, full * _WORDS :])
    return lanes


def _lanes(folded: Tensor) -> Tensor:
    """Products of … × words with the factors of both lanes, … × 2."""
    table = factors(folded.device)[:, : folded.shape[-1]]
    if folded.device.type == "cpu":
        # Torch has no product of integer matrices that would spare the single products a place.
        return torch.from_numpy(np.einsum("...j,kj->...k", folded.numpy(), table.numpy()))
    return torch.stack([(folded * factor).sum(-1) for factor in table], -1)


def place_lanes(lanes: Tensor, rows: Tensor, first_block: int = 0) -> Tensor:
    """What the blocks of each row add to the sum of their tensor: rows × 2, int64.

    Parameters
    ----------
    lanes
        Of :func:`block_lanes`.
    rows
        Number of each row in the original matrix, int64.
    first_block
        Number of the first block within its row.
    """
    blocks = torch.arange(first_block, first_block + lanes.shape[1], device=lanes.device)
    place = rows[:, None] * _ROW + blocks * _BLOCK
    return mix64(lanes + mix64(place)[:, :, None]).sum(1)


def finish_digest(
    lanes: tuple[int, int], n_rows: int, row_bytes: int, extras: Mapping[str, bytes]
) -> bytes:
    """The 16 bytes of a digest.

    Parameters
    ----------
    lanes
        Sums over all rows.
    n_rows, row_bytes
        How much was digested: padding is told from zeros by it.
    extras
        Digest of each further part of a packed weight (scales …), by name.
    """
    final = hashlib.blake2b(digest_size=16)
    for number in (*lanes, n_rows, row_bytes):
        final.update(signed(number).to_bytes(8, "little", signed=True))
    for name in sorted(extras):
        final.update(name.encode() + b"\0" + extras[name])
    return final.digest()
