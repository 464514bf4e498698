"""Merges: which relatives a model is a mixture of, and in what shares.

A merge without later training lies in the span of its parents up to the rounding of its own dtype.
The screen fits every tensor separately by least squares on Gram matrices (so coefficients may vary
by layer, as SLERP gradients do) and asks how many stored words the *rounded* fit equals. A model
that a single parent explains as well is no merge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.parent_sets import parent_sets
from lineage.weights.encodings import round_to

__all__ = [
    "MIN_GAIN",
    "MIN_MATCH",
    "Mixture",
    "best_single_match",
    "fit_mixture",
    "screen_merge",
]

F64 = NDArray[np.float64]

MIN_MATCH = 0.97
"""Share of words that the rounded fit or the replayed recipe must reproduce."""
MIN_GAIN = 0.03
"""By how much it must beat the best single parent."""
_PLAUSIBLE_MATCH = 0.5
_WORTHWHILE = 0.97
"""One more member must take away at least the rest of what is left."""
_MIN_SHARE = 0.01


@dataclass(frozen=True)
class Mixture:
    """A fit of one child by several relatives.

    Attributes
    ----------
    coefficients
        Tensors × parents, in the order of the pool's keys.
    match
        Share of the child's words that the rounded fit reproduces.
    """

    parents: tuple[str, ...]
    coefficients: F64
    match: float
    single_match: float

    def weights(self, sizes: F64) -> F64:
        """Mean coefficient of each parent over tensors, weighted by `sizes`, summing to 1.

        Coefficients that add up to nothing (of a model without weights) stay as they are.
        """
        means = (self.coefficients * sizes[:, None]).sum(axis=0) / sizes.sum()
        return np.asarray(means / (means.sum() or 1.0))


def screen_merge(
    pool: Pool, child: str, candidates: Sequence[str], dtype: str
) -> Iterator[Mixture]:
    """Mixtures that may have made `child`, smallest sets of parents first.

    A mixture is offered when its rounded fit reproduces at least half of the words and clearly
    more than the best single parent; whether it *is* the recipe is for the replay to say, since
    fitted coefficients miss words that lie exactly between two stored values. At most one member
    has a negative weight: the base of task vectors that add up to more than one. (A parent of a
    merge is a combination of the merge and the others too, but with more of them negative.)

    Parameters
    ----------
    pool
        Aligned values of the family.
    dtype
        The child's dtype, whose grid the fit is rounded to.
    """
    names = [name for name in candidates if name != child]
    if len(names) < 2:
        return
    single = best_single_match(pool, child, names, dtype)
    if single > 1 - MIN_GAIN:
        return
    before = np.inf
    for chosen in parent_sets(pool, child, names)[1:]:
        if chosen.left > _WORTHWHILE * before:
            return
        before = chosen.left
        shares = np.array(chosen.shares)
        if (shares < 0).sum() > 1 or np.abs(shares).min() < _MIN_SHARE:
            continue
        fit = fit_mixture(pool, child, chosen.members, dtype, single)
        if fit.match >= max(_PLAUSIBLE_MATCH, single + MIN_GAIN):
            yield fit


def fit_mixture(
    pool: Pool, child: str, parents: Sequence[str], dtype: str, single_match: float = 0.0
) -> Mixture:
    """Least-squares coefficients per tensor, and how many words their rounded sum reproduces."""
    c = pool.ids.index(child)
    p = [pool.ids.index(name) for name in parents]
    rows, equal, total = [], 0, 0
    for values in pool.values:
        target = values[c].astype(np.float64).ravel()
        basis = values[p].reshape(len(p), -1).astype(np.float64)
        # Parents are nearly parallel: solve for the first plus differences.
        reduced = np.vstack([basis[:1], basis[1:] - basis[:1]])
        solved = np.linalg.lstsq(reduced.T, target, rcond=None)[0]
        coefficients = np.concatenate([[solved[0] - solved[1:].sum()], solved[1:]])
        fitted = (coefficients @ basis).astype(np.float32)
        equal += int((round_to(dtype, fitted) == values[c].ravel()).sum())
        total += target.size
        rows.append(coefficients)
    return Mixture(tuple(parents), np.array(rows), equal / total, single_match)


def best_single_match(pool: Pool, child: str, candidates: Sequence[str], dtype: str) -> float:
    """Share of the child's words that the best of the candidates has alone; 0 without any."""
    return max((_match_one(pool, child, name, dtype) for name in candidates), default=0.0)


def _match_one(pool: Pool, child: str, name: str, dtype: str) -> float:
    c, p = pool.ids.index(child), pool.ids.index(name)
    equal = sum(int((round_to(dtype, v[p]) == v[c]).sum()) for v in pool.values)
    return float(equal / sum(v[c].size for v in pool.values))
