"""Merges of which a parent is missing: words taken from one model, or left as another has them.

TIES (Yadav et al. 2023) trims the small changes of every parent, elects a sign for each word, and
takes the weighted mean of the changes that agree with it. Where one parent alone is left, the mean
is its change: the word is exactly the parent's. Where none is left it is exactly the base's. So
where the two lie far apart many words are exactly the one's or the other's and hardly any lie next
to either, in all tensors alike, whoever else took part. Training does neither: what it moves
comes to rest anywhere.

Which of the two is the base is told by the trimming: the small differences are the base's words.
Under TIES there is one size in each tensor from which no word is the base's and below which none
is the parent's; other methods that leave words (SCE, Wan et al. 2024) choose by more than it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from lineage.infer.geometry import Pool
from lineage.infer.methods.masks import spacing
from lineage.weights.encodings import round_to

__all__ = ["TakenWords", "find_taken"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
I64 = NDArray[np.int64]

_WORDS = 20_000
_FAR = 3.0
"""Rounding steps between two models from which a word is told to be the one's or the other's."""
_BESIDE = 2.0
"""Rounding steps of what lies beside a word: four cells."""
_LEAST_FAR = 0.2
_LEAST_TAKEN = 0.1
_LEAST_LEFT = 0.03
_EXACTLY = 2.0
"""How much more words are exact than lie in the four cells beside, at least."""
_EVENLY = 0.3
"""Share of a tensor's words, in that of all, below which words were taken tensor by tensor."""
_PARTED = 1 / 3
"""Of the words left, or of those taken if they are fewer, how many may be on the wrong side."""
_LEAST_WORDS = 150
"""Words that lie far apart from which a tensor is asked by itself."""


@dataclass(frozen=True, slots=True)
class TakenWords:
    """A base and one parent of a merge, by the words that are exactly theirs.

    Attributes
    ----------
    taken, left
        Shares of the words, among those where parent and base lie far apart, that are exactly the
        parent's and exactly the base's.
    either
        Share of all words that are the one's or the other's.
    density
        Share of the parent's changes that were kept, the largest, to some hundredths; None where
        words that are exactly the parent's or the base's are not parted by size.
    """

    base: str
    parent: str
    taken: float
    left: float
    either: float
    density: float | None


def find_taken(pool: Pool, child: str, dtype: str, candidates: Sequence[str]) -> TakenWords | None:
    """The two models of which most words are; None where no two explain enough of them.

    Parameters
    ----------
    dtype
        Number type of the merge. Parent and base are loaded in it: finer ones are rounded.
    """
    # Tokens that no text of a parent's holds never moved: token matrices are trimmed unlike others.
    matrices = [
        t
        for t, values in enumerate(pool.values)
        if min(values.shape[1:]) > 1 and pool.keys[t].layer >= 0
    ]
    if not matrices or len(candidates) < 2:
        return None
    total = sum(pool.values[t][0].size for t in matrices)
    step = max(1, total // _WORDS)
    # Shifted from tensor to tensor, so that no column is left out.
    flat = [pool.values[t].reshape(len(pool.ids), -1)[:, t % step :: step] for t in matrices]
    words = np.concatenate(flat, axis=1)
    target = words[pool.ids.index(child)]
    grid = _coarsest(dtype, target)
    asked = _Asked(
        target,
        {name: round_to(grid, words[pool.ids.index(name)]) for name in candidates},
        np.repeat(np.arange(len(flat)), [part.shape[1] for part in flat]),
        grid,
    )
    found = [one for a, b in asked.pairs() for one in [asked.between(a, b)] if one is not None]
    return max(found, key=lambda one: one.either, default=None)


@dataclass(frozen=True)
class _Asked:
    """Words of a child and of its relatives, by name; the number of each word's tensor."""

    target: F32
    words: Mapping[str, F32]
    tensor: I64
    dtype: str

    @cached_property
    def equal(self) -> Mapping[str, Bools]:
        return {name: own == self.target for name, own in self.words.items()}

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Relatives of which the child has enough words of either that the other has not."""
        names = list(self.equal)
        equal = np.array([self.equal[name] for name in names], np.float32)
        own = equal @ (1 - equal).T / len(self.target)
        is_enough = np.minimum(own, own.T) >= _LEAST_FAR * _LEAST_LEFT
        is_enough &= np.maximum(own, own.T) >= _LEAST_FAR * _LEAST_TAKEN
        for i, j in np.argwhere(np.triu(is_enough, 1)):
            yield names[i], names[j]

    def between(self, a: str, b: str) -> TakenWords | None:
        """The merge that has words of two relatives, whichever of the two is the base."""
        is_a, is_b = self.equal[a] & ~self.equal[b], self.equal[b] & ~self.equal[a]
        unit = spacing(np.maximum(np.abs(self.target), np.abs(self.words[a])), self.dtype)
        apart = np.abs(self.words[a].astype(np.float64) - self.words[b])
        far = apart >= _FAR * unit
        if far.mean() < _LEAST_FAR:
            return None
        shares = {a: self._exact(a, far, unit), b: self._exact(b, far, unit)}
        if min(shares.values()) < _LEAST_LEFT:
            return None
        size = _ranks(apart, self.tensor)
        # What was trimmed is what moved least.
        base, parent = (a, b) if size[is_a & far].mean() < size[is_b & far].mean() else (b, a)
        if shares[parent] < _LEAST_TAKEN:
            return None
        either = float((self.equal[a] | self.equal[b]).mean())
        known = far & (is_a | is_b)
        density = _density(size[known], self.equal[parent][known])
        return TakenWords(base, parent, shares[parent], shares[base], either, density)

    def _exact(self, name: str, far: Bools, unit: F64) -> float:
        """Share of the far words that are one relative's; 0 where they may be so by chance."""
        mine = far & self.equal[name]
        exact = mine.sum()
        off = np.abs(self.target.astype(np.float64) - self.words[name])
        beside = far & ~mine & (off <= _BESIDE * unit)
        if exact < _EXACTLY * beside.sum() or not _is_even(mine, far, self.tensor):
            return 0.0
        return float(exact / far.sum())


def _coarsest(dtype: str, values: F32) -> str:
    """The coarsest number type that holds all values: an upcast model's are not as fine as stored.

    By the stored type they would lie far apart where they are neighbours, and beside none.
    """
    held = (one for one in ("BF16", "F16") if (round_to(one, values) == values).all())
    return next(held, dtype)


def _is_even(mine: Bools, far: Bools, tensor: I64) -> bool:
    """Whether no tensor has far fewer such words than all have."""
    of, all_of = np.bincount(tensor, mine), np.bincount(tensor, far)
    asked = all_of >= _LEAST_WORDS
    return bool((of[asked] >= _EVENLY * all_of[asked] * mine.sum() / far.sum()).all())


def _density(size: F64, is_taken: Bools) -> float | None:
    """Share of the sizes above the cut that best parts taken words from left ones, if any does."""
    order = np.argsort(size, kind="stable")
    taken = is_taken[order]
    wrong = np.concatenate([[0], np.cumsum(taken)])
    wrong = wrong + np.concatenate([np.cumsum(~taken[::-1])[::-1], [0]])
    cut = int(np.argmin(wrong))
    if wrong[cut] > _PARTED * min(int(taken.sum()), int((~taken).sum())):
        return None
    return float(1 - size[order[cut]])


def _ranks(size: F64, tensor: I64) -> F64:
    """Rank of each size within its tensor, as a share of the tensor's words."""
    ranks = np.empty(len(size))
    for t in np.unique(tensor):
        own = tensor == t
        ranks[own] = rankdata(size[own]) / own.sum()
    return ranks
