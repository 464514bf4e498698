"""The search: joins and neighbours of all marks, put together into one list a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from lineage.infer.candidates.codes import best, pack, places_in_lists, unpack
from lineage.infer.candidates.joins import shared_keys
from lineage.infer.candidates.marks import EMBEDDING_BITS, Marks
from lineage.infer.candidates.near import (
    chance_distance,
    cited,
    descended,
    nearest_in_lists,
    refined,
)
from lineage.weights.sketch import nearest_simhash, resolve_device

__all__ = ["Candidates", "find_candidates"]

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

_BITS = 1024
_LISTS, _EMBEDDING_LISTS = 16, 8
_SPARE = 14
"""Places beyond `k` that each search keeps: what others found too falls out."""
_BRUTE = {"cpu": 1 << 12, "cuda": 1 << 17}
"""Models of one shape that are compared all with all."""


@dataclass(frozen=True)
class Candidates:
    """A shortlist for every model.

    Attributes
    ----------
    ids
        Names.
    originals
        For each model the number of the first with the very same marks, itself where there is
        none. Only these first ones were searched for, and only they are on lists.
    others
        Models × k numbers of candidates, the likeliest first, -1 where there are no more. The list
        of a model is that of its original.
    """

    ids: tuple[str, ...]
    originals: I64
    others: I64

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.ids)}

    def of(self, name: str) -> tuple[str, ...]:
        """Candidates of one model, the likeliest first; its original before all.

        Raises
        ------
        KeyError
            If there is no such model.
        """
        number = self._numbers[name]
        original = int(self.originals[number])
        found = [original] if original != number else []
        found += [int(other) for other in self.others[original] if other >= 0]
        return tuple(self.ids[other] for other in found)

    def lists(self) -> dict[str, tuple[str, ...]]:
        """Candidates of all models by name."""
        return {name: self.of(name) for name in self.ids}


def find_candidates(marks: Marks, k: int = 50, device: str | torch.device = "auto") -> Candidates:
    """The likeliest relatives of every model.

    Four searches make a list each: near SimHashes, ranked by the distance of the projections; most
    shared keys; near embeddings of another shape, by token and by row. A model's place is its best
    in any list, so each search fills its part of the `k` however many the others find.

    Parameters
    ----------
    marks
        Of all models.
    k
        Length of a list.
    device
        Where all pairs of one shape are compared: ``auto``, ``cpu`` or ``cuda``. On the CPU shapes
        of up to 4,096 models, on CUDA of up to 131,072; larger ones through sorted lists.

    Raises
    ------
    ValueError
        If `k` is below 1.
    NoDeviceError
        If the device is not there.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1: {k}")
    originals = _originals(marks)
    firsts = np.flatnonzero(originals == np.arange(len(originals)))
    some = _chosen(marks, firsts)
    lists = best(_interleaved([*_searches(some, k + _SPARE, device)]), k)
    model, _, other = unpack(lists)
    others = np.full((len(originals), k), -1, np.int64)
    others[firsts[model], places_in_lists(lists)] = firsts[other]
    return Candidates(marks.ids, originals, others)


def _searches(marks: Marks, keep: int, device: str | torch.device) -> list[U64]:
    speaks = np.flatnonzero(marks.projections.any(axis=1))
    limit = chance_distance(_BITS, len(speaks))
    near = best(
        [
            _near_of_shape(marks, speaks, keep, limit, device),
            nearest_in_lists(marks.simhashes[speaks], speaks, keep, limit, _LISTS),
        ],
        keep,
    )
    near = descended(refined(near, marks.projections), marks.projections, keep)
    found = [
        near,
        shared_keys(marks.keys, marks.starts, keep),
        cited(near, len(marks.ids), keep),
    ]
    other_shapes = []
    for hashes in (marks.tokens, marks.rows):
        speaks = np.flatnonzero(hashes.any(axis=1))
        limit = chance_distance(EMBEDDING_BITS, len(speaks))
        codes = nearest_in_lists(hashes[speaks], speaks, keep, limit, _EMBEDDING_LISTS)
        model, _, other = unpack(codes)
        other_shapes.append(codes[marks.shapes[model] != marks.shapes[other]])
    return [*found, best(other_shapes, keep)]


def _near_of_shape(
    marks: Marks, speaks: I64, keep: int, limit: int, device: str | torch.device
) -> U64:
    """All pairs of each shape that is not too common."""
    where = device if isinstance(device, torch.device) else resolve_device(device)
    sizes = np.bincount(marks.shapes[speaks], minlength=1)[marks.shapes[speaks]]
    few = speaks[(sizes > 1) & (sizes <= _BRUTE["cpu" if where.type == "cpu" else "cuda"])]
    pairs = nearest_simhash(marks.simhashes[few], marks.shapes[few], k=keep, device=where)
    near = pairs.distance <= limit
    return pack(few[pairs.first[near]], pairs.distance[near], few[pairs.second[near]])


def _interleaved(lists: list[U64]) -> list[U64]:
    """Lists whose ranks are turns: each search has its own, the first of them has two a round."""
    found = []
    n_turns = len(lists) + 1
    for number, codes in enumerate(lists):
        model, _, other = unpack(codes)
        place = places_in_lists(codes)
        turn = place * n_turns + number if number else place // 2 * n_turns + place % 2 * 2
        found.append(pack(model, turn, other))
    return found


def _originals(marks: Marks) -> I64:
    """For each model the first with the same marks; models that have none stand alone."""
    n = len(marks.ids)
    weights = np.random.default_rng(0).integers(1, 1 << 63, 18, np.uint64) | np.uint64(1)
    words = np.ascontiguousarray(marks.simhashes).view(np.uint64)
    sums = (words * weights[: words.shape[1]]).sum(axis=1, dtype=np.uint64)
    sums ^= marks.shapes.astype(np.uint64) * weights[16]
    n_keys = np.diff(marks.starts)
    owners = np.repeat(np.arange(n), n_keys)
    np.add.at(sums, owners, marks.keys * weights[17])
    own = np.random.default_rng(1).integers(0, 1 << 63, n, np.uint64)
    mute = (n_keys == 0) & ~marks.projections.any(axis=1)
    sums[mute] = own[mute]
    _, first, inverse = np.unique(sums, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], np.int64)


def _chosen(marks: Marks, numbers: I64) -> Marks:
    if len(numbers) == len(marks.ids):
        return marks
    n_keys = np.diff(marks.starts)
    chosen = np.zeros(len(marks.ids), bool)
    chosen[numbers] = True
    return replace(
        marks,
        ids=tuple(marks.ids[number] for number in numbers),
        shapes=marks.shapes[numbers],
        simhashes=marks.simhashes[numbers],
        projections=marks.projections[numbers],
        tokens=marks.tokens[numbers],
        rows=marks.rows[numbers],
        keys=marks.keys[np.repeat(chosen, n_keys)],
        starts=np.cumsum([0, *n_keys[numbers]]).astype(np.int64),
    )
