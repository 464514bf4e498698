"""Which sets of relatives a model may be a mixture of: a search that no crowd of relatives breaks.

A mixture without a mask is an affine combination ``C = Σ w X`` with ``Σ w = 1`` (the base of a task
vector is one of the X); masks and rounding add noise. With ``G`` the Gram matrix of ``X − C``, the
best combination of a set S leaves ``1 / (1ᵀ G_S⁻¹ 1)``. Sets grow by one relative at a time, each
chosen with the Schur complement, and after each step members are exchanged for
outsiders as long as that helps (sequential replacement; Miller 2002, *Subset Selection in
Regression*, §3.4), so that another merge of the same parents does not stand in for them.

Words are weighed by the size of their rounding. Coefficients are free in every run of layers and
for attention, feed-forward and other matrices, since recipes vary them; what that freedom takes
up is corrected by degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.weights.roles import TensorKey

__all__ = ["FLAT", "ParentSet", "parent_sets"]

F64 = NDArray[np.float64]

MAX_MEMBERS = 9
"""Parents and base together."""
FLAT = 0.994
"""A member that leaves more than this share of what was left takes away next to nothing."""
_MAX_WORDS = 80_000
_N_RUNS = 24
_N_STARTS = 3
_LEAST_SIZE = 1 / 8
_RIDGE = 1e-9
_EQUAL = 1e-9
"""Squared distance of two relatives that are one, in those of both to the child."""
_WORTH_A_SWAP = 1e-6
_N_SWAPS = 8
_ATTENTION = frozenset({"q", "k", "v", "o"})
_FFN = frozenset({"gate", "up", "down"})


@dataclass(frozen=True)
class ParentSet:
    """Relatives whose best affine combination comes nearest, among sets of this size.

    Attributes
    ----------
    shares
        Weights of the members, the mean over runs of layers; they add up to 1.
    left
        What is left of the child, in units of a bfloat16 rounding step: mean square over words.
    """

    members: tuple[str, ...]
    shares: tuple[float, ...]
    left: float


def parent_sets(pool: Pool, child: str, candidates: Sequence[str]) -> tuple[ParentSet, ...]:
    """The best set of every size up to :data:`MAX_MEMBERS`, smallest first.

    The nearest alone where no second and third take anything away: a child of one parent, among
    siblings.

    Parameters
    ----------
    candidates
        Possible members; those equal to one another are taken once, the first of them.
    """
    if not candidates:
        return ()
    search = _Search.of(pool, child, candidates)
    found = [search.nearest()]
    starts = search.pairs()
    if starts and search.left(starts[0]) > FLAT * search.left(found[0]):
        # A second may take nothing away without the base of both.
        third = min((search.left(search.grown(pair)) for pair in starts), default=np.inf)
        starts = starts if third <= FLAT**2 * search.left(found[0]) else []
    while starts and len(found) < MAX_MEMBERS:
        found.append(starts[0])
        if len(found) == len(search.names):
            break
        tried = {
            tuple(sorted(members)): members
            for start in starts
            for members in [search.exchanged(search.grown(start))]
        }
        starts = sorted(tried.values(), key=search.left)[:_N_STARTS]
    return tuple(search.described(members) for members in found)


@dataclass(frozen=True)
class _Search:
    """Gram matrices of the relatives' differences to the child, one per group of tensors."""

    names: tuple[str, ...]
    gram: F64
    n_words: F64

    @staticmethod
    def of(pool: Pool, child: str, candidates: Sequence[str]) -> _Search:
        c = pool.ids.index(child)
        index = [pool.ids.index(name) for name in candidates]
        matrices = [t for t, values in enumerate(pool.values) if min(values.shape[1:]) > 1]
        matrices = matrices or list(range(len(pool.values)))
        total = sum(pool.values[t][0].size for t in matrices)
        step = max(1, -(-total // _MAX_WORDS))
        layers = 1 + max(pool.keys[t].layer for t in matrices)
        groups: dict[tuple[int, str], int] = {}
        grams: list[F64] = []
        counts: list[float] = []
        for t in matrices:
            values = pool.values[t]
            # Every step-th word, shifted from row to row so that no column is left out.
            target = values[c].ravel()[t % step :: step].astype(np.float64)
            if not target.size:
                continue
            others = values.reshape(len(values), -1)[index, t % step :: step].astype(np.float64)
            usual = float(np.sqrt(np.mean(target**2))) or float(np.abs(others).max()) or 1.0
            size = np.maximum(np.abs(target), _LEAST_SIZE * usual)
            scaled = (others - target) / size * 2.0**8
            group = groups.setdefault(_group(pool.keys[t], layers), len(groups))
            if group == len(grams):
                grams.append(np.zeros((len(index), len(index))))
                counts.append(0.0)
            grams[group] += scaled @ scaled.T
            counts[group] += target.size
        gram = np.stack(grams) if grams else np.zeros((1, len(index), len(index)))
        kept = _distinct(gram.sum(axis=0))
        return _Search(
            tuple(candidates[i] for i in kept),
            gram[:, kept][:, :, kept],
            np.array(counts or [1.0]),
        )

    def nearest(self) -> list[int]:
        """The one relative that is nearest."""
        return [int(np.argmin(np.einsum("gii->i", self.gram)))]

    def pairs(self) -> list[list[int]]:
        """The best pairs, all having been looked at."""
        n = len(self.names)
        if n < 2:
            return []
        # 1 / (1ᵀ G_S⁻¹ 1) of all pairs at once.
        own = np.einsum("gii->gi", self.gram)
        both = own[:, :, None] + own[:, None, :]
        apart = both - 2 * self.gram
        product = own[:, :, None] * own[:, None, :] - self.gram**2
        # An adapter leaves most tensors as they were: there the two are one.
        equal = apart <= _EQUAL * both
        left_in = np.where(equal, both / 2, np.maximum(product, 0.0) / np.where(equal, 1.0, apart))
        left = self._mean(left_in, 2)
        left[np.tril_indices(n)] = np.inf
        best = np.argsort(left, axis=None)[: min(_N_STARTS, n * (n - 1) // 2)]
        return [[int(i) for i in np.unravel_index(at, left.shape)] for at in best]

    def described(self, members: list[int]) -> ParentSet:
        """A set by its names."""
        return ParentSet(
            tuple(self.names[i] for i in members),
            tuple(map(float, self.shares(members))),
            self.left(members),
        )

    def grown(self, members: list[int]) -> list[int]:
        """The set with the relative that takes away most of what is left."""
        left = self._left_with(members)
        left[members] = np.inf
        return [*members, int(np.argmin(left))]

    def exchanged(self, members: list[int]) -> list[int]:
        """The set after all exchanges of one member for an outsider that help."""
        if len(members) < 2:
            return members
        best = self.left(members)
        for _ in range(_N_SWAPS):
            moves = []
            for gone in members:
                rest = [i for i in members if i != gone]
                left = self._left_with(rest)
                left[members] = np.inf
                new = int(np.argmin(left))
                moves.append((float(left[new]), [*rest, new]))
            left_after, after = min(moves)
            if not left_after < best * (1 - _WORTH_A_SWAP):
                break
            best, members = left_after, after
        return members

    def left(self, members: list[int]) -> float:
        """Mean square that the best combination leaves."""
        inverse = self._inverse(members)
        return float(self._mean(1 / np.maximum(inverse.sum(axis=(1, 2)), 1e-200), len(members)))

    def shares(self, members: list[int]) -> F64:
        """Weights of the best combination, the mean over groups by words."""
        weights = self._inverse(members).sum(axis=2)
        weights /= np.where(np.abs(weights.sum(axis=1)) > 0, weights.sum(axis=1), 1.0)[:, None]
        return np.asarray(np.average(weights, axis=0, weights=self.n_words))

    def _left_with(self, members: list[int]) -> F64:
        """Mean square left after adding each relative in turn."""
        inverse = self._inverse(members)
        beside = self.gram[:, :, members]
        solved = inverse.sum(axis=2)
        projected = np.einsum("gnk,gkl,gnl->gn", beside, inverse, beside, optimize=True)
        own = np.einsum("gii->gi", self.gram)
        rest = np.maximum(own - projected, _RIDGE * own + 1e-200)
        gain = (1 - np.einsum("gnk,gk->gn", beside, solved)) ** 2 / rest
        precision = solved.sum(axis=1)[:, None] + gain
        return self._mean(1 / np.maximum(precision, 1e-200), len(members) + 1)

    def _inverse(self, members: list[int]) -> F64:
        square = self.gram[:, members][:, :, members]
        ridge = _RIDGE * np.einsum("gii->g", square) / len(members) + 1e-200
        return np.linalg.inv(square + ridge[:, None, None] * np.eye(len(members)))

    def _mean(self, left: F64, n_members: int) -> F64:
        """Mean over the words of all groups, which are the first axis of `left`."""
        free = np.maximum(self.n_words - n_members + 1, 1.0)
        weights = self.n_words / free / self.n_words.sum()
        return np.asarray(np.tensordot(weights, left, axes=1))


def _group(key: TensorKey, layers: int) -> tuple[int, str]:
    block = "attention" if key.role in _ATTENTION else "ffn" if key.role in _FFN else "else"
    return max(key.layer, 0) * min(layers, _N_RUNS) // max(layers, 1), block


def _distinct(gram: F64) -> list[int]:
    """Relatives that are no copy, in values, of one before them."""
    own = np.diag(gram)
    apart = own[:, None] + own[None, :] - 2 * gram
    kept: list[int] = []
    for i in range(len(own)):
        if all(apart[i, j] > _EQUAL * (own[i] + own[j]) for j in kept):
            kept.append(i)
    return kept
