"""Pairs of models that share keys, found by sorting."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lineage.infer.candidates.codes import MAX_RANK, best, both_ways

__all__ = ["SHARED_BY_MOST", "shared_keys"]

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

SHARED_BY_MOST = 64
"""A key of more models than this is dropped: it names a large family, not a relative within it,
and its pairs would be quadratic in that family."""
_PARTS = 16
_MODEL = np.uint64(24)


def shared_keys(keys: U64, starts: I64, keep: int) -> U64:
    """Ranked lists of those that share most keys with each model.

    Keys are sorted part by part with the number of their model in the low bits; members of one key
    then stand side by side. At most 44 bits of a key count: a chance meeting adds a candidate.

    Parameters
    ----------
    keys, starts
        As in :class:`~lineage.infer.candidates.marks.Marks`; the keys of one model differ.
    keep
        Length of a list.

    Returns
    -------
    NDArray[np.uint64]
        Codes (:mod:`.codes`) whose rank is `MAX_RANK` less the number of shared keys.
    """
    owners = np.repeat(np.arange(len(starts) - 1, dtype=np.uint64), np.diff(starts))
    part = keys & np.uint64(_PARTS - 1)
    pairs = [_pairs_of(keys[part == p], owners[part == p]) for p in range(_PARTS)]
    together = np.concatenate(pairs)
    together.sort()
    first = _begins(together)
    n_shared = np.diff(first, append=len(together))
    pair = together[first]
    a, b = pair >> _MODEL, pair & np.uint64((1 << 24) - 1)
    return best([both_ways(a, MAX_RANK - np.minimum(n_shared, MAX_RANK), b)], keep)


def _pairs_of(keys: U64, owners: U64) -> U64:
    """``first << 24 | second`` of all pairs that share a key, once for each key they share."""
    placed = (keys >> _MODEL << _MODEL) | owners
    placed.sort()
    names = placed >> _MODEL
    sizes = np.diff(_begins(names), append=len(names))
    fits = np.repeat((sizes > 1) & (sizes <= SHARED_BY_MOST), sizes)
    placed, names = placed[fits], names[fits]
    owners = placed & np.uint64((1 << 24) - 1)
    found = [np.zeros(0, np.uint64)]
    for apart in range(1, SHARED_BY_MOST):
        same = names[apart:] == names[:-apart]
        if not same.any():
            break
        found.append((owners[:-apart][same] << _MODEL) | owners[apart:][same])
    return np.concatenate(found)


def _begins(values: U64) -> I64:
    """Where runs of equal values begin."""
    new = np.ones(len(values), bool)
    new[1:] = values[1:] != values[:-1]
    return np.flatnonzero(new)
