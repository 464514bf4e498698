"""Nearest neighbours among short sketches: all pairs of few, sorted lists of many.

Among many models a hash is sorted several times, each time by other bits of it, and compared with
its neighbours in the list: near hashes share a prefix in some of the lists. The cost is the number
of lists times the width of the window, whatever the hashes are; no dense family can make it
quadratic.

Notes
-----
Sorted permuted hashes: Charikar, Similarity estimation techniques from rounding algorithms, STOC
2002. Neighbours of neighbours: Dong, Charikar & Li, Efficient k-nearest neighbor graph construction
for generic similarity measures, WWW 2011.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from lineage.infer.candidates.codes import MAX_RANK, best, both_ways, pack, places_in_lists, unpack

__all__ = ["ALL_PAIRS_OF", "chance_distance", "cited", "descended", "nearest_in_lists", "refined"]

U64 = NDArray[np.uint64]
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

ALL_PAIRS_OF = 512
"""So many hashes are compared all with all."""
_WINDOW = 8
_PREFIX_BYTES = 5
_LISTS_AT_ONCE = 4
_HOPS = 6
_ROUNDS = 2
_VOTES = 3
_BLOCK = 1 << 15
_PAIRS_AT_ONCE = 1 << 12


def chance_distance(n_bits: int, n: int) -> int:
    """Largest Hamming distance at which a model has at most one chance neighbour among `n`.

    Hashes of unrelated models differ in ``n_bits/2 ± √n_bits/2`` bits (binomial).
    """
    z = -float(ndtri(1 / max(n, 4)))
    return int(n_bits / 2 - z * n_bits**0.5 / 2)


def nearest_in_lists(
    hashes: NDArray[np.uint8], models: I64, keep: int, max_distance: int, n_lists: int
) -> U64:
    """Ranked lists of near hashes, by Hamming distance.

    Parameters
    ----------
    hashes
        One a row, a multiple of 8 bytes.
    models
        Number of each.
    keep
        Length of a list.
    max_distance
        Bits at most that differ.
    n_lists
        How often many hashes are sorted.
    """
    n = len(hashes)
    if n < 2:
        return np.zeros(0, np.uint64)
    few = n <= ALL_PAIRS_OF
    n_lists, window = (1, n - 1) if few else (n_lists, _WINDOW)
    words = np.ascontiguousarray(hashes).view(np.uint64)
    kept = np.zeros(0, np.uint64)
    new: list[U64] = []
    for number in range(n_lists):
        order = _order(hashes, number)
        new += _along(words, order, models, window, max_distance)
        if (number + 1) % _LISTS_AT_ONCE == 0 or number + 1 == n_lists:
            kept, new = best([kept, *new], keep), []
    return kept


def _order(hashes: NDArray[np.uint8], number: int) -> I64:
    """Places of the hashes when sorted by some of their bytes, others for every number.

    Equal bytes are in random order: a dense family shows other neighbours in each list.
    """
    rng = np.random.default_rng(number)
    prefix = np.zeros(len(hashes), np.uint64)
    for column in rng.permutation(hashes.shape[1])[:_PREFIX_BYTES]:
        prefix = prefix << np.uint64(8) | hashes[:, column]
    shuffled = rng.permutation(len(hashes))
    codes = prefix[shuffled] << np.uint64(24) | np.arange(len(hashes), dtype=np.uint64)
    codes.sort()
    return np.asarray(shuffled[(codes & np.uint64((1 << 24) - 1)).astype(np.int64)])


def _along(words: U64, order: I64, models: I64, window: int, max_distance: int) -> list[U64]:
    """Pairs at most `window` places apart in one list that are near enough."""
    found = []
    for start in range(0, len(order), _BLOCK):
        own = words[order[start : start + _BLOCK + window]]
        names = models[order[start : start + _BLOCK + window]]
        for apart in range(1, min(window, len(own) - 1) + 1):
            n = min(_BLOCK, len(own) - apart)
            differ = np.bitwise_count(own[:n] ^ own[apart : apart + n])
            distance = differ.sum(axis=1, dtype=np.uint16)
            near = np.flatnonzero(distance <= max_distance)
            found.append(both_ways(names[near], distance[near], names[near + apart]))
    return found


def refined(codes: U64, projections: F32) -> U64:
    """The same lists ranked by Euclidean distance of the projections.

    A SimHash resolves a change of 1 % with 5 of 1,024 bits, too coarse to tell a parent from a
    sibling; the 512 sums it came from resolve the square of any distance to 6 %.
    """
    model, _, other = unpack(codes)
    codes = pack(model, _distances(projections, model, other), other)
    codes.sort()
    return codes


def descended(codes: U64, projections: F32, keep: int) -> U64:
    """Lists after asking the neighbours of neighbours, twice.

    In a family of thousands a window shows only some of the near ones. Founders are near to all,
    so whoever met one passes it on. Lists that are not full need nobody's help: their families are
    small enough to have been seen whole.
    """
    for _ in range(_ROUNDS):
        model, _, other = unpack(codes)
        place = places_in_lists(codes)
        n = len(projections)
        full = np.bincount(model, minlength=n) >= keep
        hops = np.full((n, _HOPS), -1, np.int64)
        close = place < _HOPS
        hops[model[close], place[close]] = other[close]
        asking = np.flatnonzero(full)
        if not len(asking):
            break
        parts = [codes]
        for start in range(0, len(asking), _BLOCK):
            some = asking[start : start + _BLOCK]
            reached = hops[hops[some]]
            reached[hops[some] < 0] = -1
            reached = np.sort(reached.reshape(len(some), -1), axis=1)
            new = reached >= 0
            new[:, 1:] &= reached[:, 1:] != reached[:, :-1]
            new &= reached != some[:, None]
            a = np.broadcast_to(some[:, None], reached.shape)[new]
            parts.append(pack(a, _distances(projections, a, reached[new]), reached[new]))
        codes = best(parts, keep)
    return codes


def cited(codes: U64, n: int, keep: int) -> U64:
    """Ranked lists of those that most of a model's neighbours have as their nearest.

    All that moved little from a founder lie as near to a child that moved much as the founder does.
    But the founder is nearest to every one of them.
    """
    model, _, other = unpack(codes)
    place = places_in_lists(codes)
    nearest = np.full((n, _VOTES), -1, np.int64)
    votes = place < _VOTES
    nearest[model[votes], place[votes]] = other[votes]
    parts = []
    for start in range(0, n, _BLOCK):
        first, stop = np.searchsorted(model, (start, start + _BLOCK))
        elected = nearest[other[first:stop]]
        voter = np.broadcast_to(model[first:stop, None], elected.shape)
        valid = (elected >= 0) & (elected != voter)
        pairs = pack(voter[valid], np.zeros(int(valid.sum()), np.int64), elected[valid])
        pairs.sort()
        begins = np.ones(len(pairs), bool)
        begins[1:] = pairs[1:] != pairs[:-1]
        first_of = np.flatnonzero(begins)
        n_votes = np.diff(first_of, append=len(pairs))
        whose, _, whom = unpack(pairs[first_of])
        parts.append(best([pack(whose, MAX_RANK - n_votes, whom)], keep))
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def _distances(projections: F32, a: I64, b: I64) -> NDArray[np.uint16]:
    """Distances as bits of float16, which sort as the numbers do."""
    found = np.empty(len(a), np.float16)
    for start in range(0, len(a), _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        cosines = np.einsum("ij,ij->i", projections[a[some]], projections[b[some]])
        found[some] = np.sqrt(np.maximum(2 - 2 * cosines, 0))  # both are of length one
    return found.view(np.uint16)
