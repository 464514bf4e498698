"""Nearest neighbours among sketches, by brute force inside bounded memory.

Hamming distances come from products of ±1 vectors: ``(1024 - x·y) / 2``. Such products are whole
numbers up to 1,024, exact in float16 as in float32, so distances are equal on every device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lineage.weights.sketch.device import resolve_device

__all__ = ["Pairs", "cosine_top_k", "nearest_simhash"]

_BITS = 1024
_TILE = 4096
"""Hashes of a side of the largest product."""
_FAR = 1 << 62
"""Key of what is no neighbour."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of models and their Hamming distances, arrays of one length.

    Attributes
    ----------
    first, second
        Numbers of the models, int64.
    distance
        Bits that differ, int64.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    distance: NDArray[np.int64]


def nearest_simhash(
    simhashes: Sequence[bytes] | NDArray[np.uint8],
    buckets: Sequence[object] | NDArray[np.int64],
    *,
    k: int | None = None,
    max_distance: int | None = None,
    device: str | torch.device = "auto",
    memory_bytes: int = 1 << 30,
) -> Pairs:
    """Neighbours by SimHash within each bucket.

    Parameters
    ----------
    simhashes
        128 bytes a model, or models × 128.
    buckets
        The bucket of each model: only models of one bucket are compared.
    k
        For every model its `k` nearest, the lower number first among equals, sorted by model,
        distance, number. Smaller buckets give fewer.
    max_distance
        Instead: every pair at most so far apart, once, the lower number first; sorted by numbers.
    device, memory_bytes
        Where, and a bound of the working memory there, for the products; at least about 200 MB are
        used where a bucket is large.

    Raises
    ------
    ValueError
        Unless exactly one of `k` and `max_distance` is given.
    """
    if (k is None) == (max_distance is None):
        raise ValueError("say either k or max_distance")
    where = device if isinstance(device, torch.device) else resolve_device(device)
    hashes = _as_matrix(simhashes)
    search = _Search(torch.from_numpy(hashes).to(where), where, k, max_distance)
    found: list[NDArray[np.int64]] = [np.zeros((3, 0), np.int64)]
    for members in _batches(buckets, len(hashes), memory_bytes):
        size = members.shape[1]
        found += search.whole(members) if size <= _TILE else search.tiled(members[0])
    first, second, distance = np.concatenate(found, axis=1)
    order = np.lexsort((second, distance, first) if k is not None else (second, first))
    return Pairs(first[order], second[order], distance[order])


def _as_matrix(simhashes: Sequence[bytes] | NDArray[np.uint8]) -> NDArray[np.uint8]:
    if isinstance(simhashes, np.ndarray):
        return np.array(simhashes, np.uint8).reshape(-1, _BITS // 8)
    return np.frombuffer(b"".join(simhashes), np.uint8).reshape(-1, _BITS // 8).copy()


def _batches(
    buckets: Sequence[object] | NDArray[np.int64], n: int, memory_bytes: int
) -> Iterator[NDArray[np.int64]]:
    """Buckets of similar size, filled up with -1 to one size: buckets × size."""
    numbers: dict[object, int] = {}
    codes = np.array([numbers.setdefault(b, len(numbers)) for b in buckets], np.int64)
    if len(codes) != n:
        raise ValueError(f"{n} hashes and {len(codes)} buckets")
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes, minlength=len(numbers))
    starts = np.cumsum(sizes) - sizes
    # From 2 up to the next power of two; single models have no neighbours.
    classes = np.where(sizes > 1, np.ceil(np.log2(np.maximum(sizes, 2))).astype(np.int64), 0)
    for power in np.unique(classes[classes > 0]):
        chosen = np.flatnonzero(classes == power)
        if 1 << power > _TILE:
            yield from (order[None, starts[b] : starts[b] + sizes[b]] for b in chosen)
            continue
        size = 1 << int(power)
        at_once = max(memory_bytes // (size * (_BITS * 6 + size * 32)), 1)
        for first in range(0, len(chosen), at_once):
            some = chosen[first : first + at_once]
            place = np.arange(size)
            inside = place < sizes[some, None]
            yield np.where(inside, order[np.minimum(starts[some, None] + place, n - 1)], -1)


@dataclass(frozen=True)
class _Search:
    """Hashes on the device, and what is looked for among them."""

    hashes: Tensor
    device: torch.device
    k: int | None
    max_distance: int | None

    def whole(self, members: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Neighbours within small buckets (buckets × size, -1: nobody), all in one product."""
        numbers = torch.from_numpy(members).to(self.device)
        signs = self._signs(numbers.clamp(min=0))
        distance = _distances(signs @ signs.mT)
        absent = numbers < 0
        itself = torch.eye(members.shape[1], dtype=torch.bool, device=self.device)
        excluded = absent[:, :, None] | absent[:, None, :] | itself
        firsts = numbers[:, :, None].expand_as(distance)
        seconds = numbers[:, None, :].expand_as(distance)
        if self.max_distance is not None:
            near = (distance <= self.max_distance) & ~excluded & (firsts < seconds)
            return [_table(firsts[near], seconds[near], distance[near])]
        keys = (distance << 32 | seconds).masked_fill_(excluded, _FAR)
        best = keys.topk(min(self.k or 0, keys.shape[2]), dim=2, largest=False).values
        return [_unpacked(numbers[:, :, None].expand_as(best), best)]

    def tiled(self, members: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Neighbours within a large bucket, tile by tile."""
        numbers = torch.from_numpy(members).to(self.device)
        tiles = [numbers[start : start + _TILE] for start in range(0, len(numbers), _TILE)]
        found = []
        for row, own in enumerate(tiles):
            signs, best = self._signs(own), None
            if self.max_distance is not None:
                found += [self._near(own, signs, others) for others in tiles[row:]]
                continue
            for others in tiles:
                distance = _distances(signs @ self._signs(others).mT)
                keys = (distance << 32 | others).masked_fill_(own[:, None] == others, _FAR)
                keys = keys if best is None else torch.cat([best, keys], dim=1)
                best = keys.topk(min(self.k or 0, keys.shape[1]), dim=1, largest=False).values
            if best is not None:
                found.append(_unpacked(own[:, None].expand_as(best), best))
        return found

    def _near(self, own: Tensor, signs: Tensor, others: Tensor) -> NDArray[np.int64]:
        """Pairs of one tile; most are far, so distances are taken of the near ones only."""
        products = signs @ self._signs(others).mT
        near = (products >= _BITS - 2 * (self.max_distance or 0)) & (own[:, None] < others)
        i, j = near.nonzero(as_tuple=True)
        return _table(own[i], others[j], _distances(products[i, j]))

    def _signs(self, numbers: Tensor) -> Tensor:
        """±1 for every bit: … × 1,024."""
        chosen = self.hashes[numbers]
        bits = (chosen[..., None] >> torch.arange(8, dtype=torch.uint8, device=self.device)) & 1
        kind = torch.float16 if self.device.type == "cuda" else torch.float32
        return bits.flatten(-2).to(kind).mul_(2).sub_(1)


def _distances(products: Tensor) -> Tensor:
    return (_BITS - products.to(torch.int64)) >> 1


def _unpacked(firsts: Tensor, keys: Tensor) -> NDArray[np.int64]:
    real = keys < _FAR
    chosen = keys[real]
    return _table(firsts[real], chosen & 0xFFFFFFFF, chosen >> 32)


def _table(first: Tensor, second: Tensor, distance: Tensor) -> NDArray[np.int64]:
    return torch.stack([first, second, distance]).cpu().numpy()


def cosine_top_k(
    matrix: NDArray[np.float32],
    k: int,
    *,
    device: str | torch.device = "auto",
    memory_bytes: int = 1 << 30,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `k` rows of largest cosine with each row, itself left out.

    Parameters
    ----------
    matrix
        Rows × features. A row of zeros has cosine 0 with everybody.
    k
        Neighbours; ``min(k, rows - 1)`` are given.
    device, memory_bytes
        Where, and a bound of the working memory there beside the matrix itself.

    Returns
    -------
    indices, cosines
        Rows × neighbours, descending; cosines are float32 products, within about 1e-6. The order
        among equals is open.
    """
    where = device if isinstance(device, torch.device) else resolve_device(device)
    rows = torch.from_numpy(np.ascontiguousarray(matrix, np.float32)).to(where)
    rows = torch.nn.functional.normalize(rows, dim=1, eps=1e-30)
    n = len(rows)
    k = max(min(k, n - 1), 0)
    # A tile of products, and what top-k makes of it.
    side = max(int((memory_bytes / 24) ** 0.5), 1)
    indices = np.empty((n, k), np.int64)
    cosines = np.empty((n, k), np.float32)
    for first in range(0, n if k else 0, side):
        own = rows[first : first + side]
        best = own.new_empty((len(own), 0))
        which = torch.empty((len(own), 0), dtype=torch.int64, device=where)
        for start in range(0, n, side):
            tile = own @ rows[start : start + side].T
            if start == first:
                tile.fill_diagonal_(-torch.inf)
            values, places = tile.topk(min(k, tile.shape[1]), dim=1)
            best, which = torch.cat([best, values], 1), torch.cat([which, places + start], 1)
            best, chosen = best.topk(min(k, best.shape[1]), dim=1)
            which = which.gather(1, chosen)
        indices[first : first + side] = which.cpu().numpy()
        cosines[first : first + side] = best.clamp(-1, 1).cpu().numpy()
    return indices, cosines
