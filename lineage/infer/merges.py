"""Merges: which relatives a model is a mixture of, and in what shares.

A merge without masks and without later training lies in the span of its parents, up to the rounding
of its own number type and of what the merge tool rounded on its way. The screen fits every tensor
separately by least squares (so coefficients may vary by layer, as SLERP gradients do) and asks how
far the fit is from the stored words, in steps of their number type, and how many of them it equals.
A model that a single parent explains as well is no merge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.methods.masks import spacing
from lineage.infer.parent_sets import parent_sets
from lineage.weights.encodings import round_to

__all__ = [
    "MIN_GAIN",
    "Mixture",
    "best_single_match",
    "fit_mixture",
    "screen_merge",
]

F64 = NDArray[np.float64]

MIN_GAIN = 0.03
"""By how much the words of a mixture must beat those of the best single parent."""
_LARGEST_LEFT = 0.5
"""What a mixture may leave, in squared rounding steps.

Rounding the sum leaves 1/12; number types as short as the child's, on the way, a little more.
"""
_SPANNED_SHARE = 0.03
"""What a mixture may leave of the child's squared distance to its nearest relative."""
_LEAST_SIZE = 1 / 8
_FINEST = 2.0**-16
"""Arithmetic of merge tools is no finer than this, in usual sizes of a tensor's words."""
_WORTHWHILE = 0.97
"""One more member must take away at least the rest of what is left."""
_MIN_SHARE = 0.01
_HOPELESS = 32.0, 0.2
"""Squared steps, and share of the distance to the nearest relative, that coefficients by runs of
layers may leave for those by tensor to be tried: one of the two."""


@dataclass(frozen=True)
class Mixture:
    """A fit of one child by several relatives.

    Attributes
    ----------
    coefficients
        Tensors × parents, in the order of the pool's keys.
    match
        Share of the child's words that the rounded fit reproduces.
    single_match
        The same of the best single parent.
    left
        Mean square of what the fit leaves, in rounding steps of the child's number type.
    single_left
        The same of the nearest single parent.
    """

    parents: tuple[str, ...]
    coefficients: F64
    match: float
    single_match: float
    left: float
    single_left: float

    @property
    def is_spanned(self) -> bool:
        """Whether it leaves next to nothing of what a single parent leaves.

        What was trained on has something of its own left: on the train families of the proving
        ground mixtures with positive weights leave .14 of the distance and more, unless the child
        is a merge without masks; those leave .011 and less.
        """
        return self.left <= _SPANNED_SHARE * self.single_left

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

    A mixture is offered when it leaves hardly more than rounding does and its rounded fit has
    clearly more words right than the best single parent; whether it *is* the recipe is for the
    replay to say, since fitted coefficients know nothing of what was rounded on the way. At most
    one member has a negative weight: the base of task vectors that add up to more than one. (A
    parent of a merge is a combination of the merge and the others too, but with more of them
    negative.)

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
    nearest, *sets = parent_sets(pool, child, names)
    hopeless = max(_HOPELESS[0], _HOPELESS[1] * nearest.left)
    if not any(chosen.left <= hopeless for chosen in sets):
        return
    single_left = fit_mixture(pool, child, nearest.members, dtype).left
    for chosen in sets:
        if chosen.left > _WORTHWHILE * before:
            return
        before = chosen.left
        shares = np.array(chosen.shares)
        if (shares < 0).sum() > 1 or np.abs(shares).min() < _MIN_SHARE:
            continue
        if chosen.left > hopeless:
            continue
        fit = fit_mixture(pool, child, chosen.members, dtype, single, single_left)
        if fit.left <= _LARGEST_LEFT and fit.match >= single + MIN_GAIN:
            yield fit


def fit_mixture(
    pool: Pool,
    child: str,
    parents: Sequence[str],
    dtype: str,
    single_match: float = 0.0,
    single_left: float = np.inf,
) -> Mixture:
    """Least-squares coefficients per tensor, and what of the child their sum leaves.

    Coefficients add up to anything; that of a single parent is fitted too.
    """
    c = pool.ids.index(child)
    p = [pool.ids.index(name) for name in parents]
    rows, equal, total, left = [], 0, 0, 0.0
    for values in pool.values:
        target = values[c].astype(np.float64).ravel()
        basis = values[p].reshape(len(p), -1).astype(np.float64)
        # Parents are nearly parallel: solve for the first plus differences.
        reduced = np.vstack([basis[:1], basis[1:] - basis[:1]])
        solved = np.linalg.lstsq(reduced.T, target, rcond=None)[0]
        coefficients = np.concatenate([[solved[0] - solved[1:].sum()], solved[1:]])
        fitted = coefficients @ basis
        equal += int((round_to(dtype, fitted.astype(np.float32)) == values[c].ravel()).sum())
        left += float((((fitted - target) / _steps(values[c], dtype)) ** 2).sum())
        total += target.size
        rows.append(coefficients)
    match = equal / total
    return Mixture(tuple(parents), np.array(rows), match, single_match, left / total, single_left)


def _steps(values: NDArray[np.float32], dtype: str) -> F64:
    """Rounding steps of a tensor's words, small words counted as an eighth of the usual size."""
    usual = float(np.sqrt(np.mean(values.astype(np.float64) ** 2))) or 1.0
    size = np.maximum(np.abs(values).ravel(), _LEAST_SIZE * usual).astype(np.float32)
    return np.maximum(spacing(size, dtype), _FINEST * usual)


def best_single_match(pool: Pool, child: str, candidates: Sequence[str], dtype: str) -> float:
    """Share of the child's words that the best of the candidates has alone; 0 without any."""
    return max((_match_one(pool, child, name, dtype) for name in candidates), default=0.0)


def _match_one(pool: Pool, child: str, name: str, dtype: str) -> float:
    c, p = pool.ids.index(child), pool.ids.index(name)
    equal = sum(int((round_to(dtype, v[p]) == v[c]).sum()) for v in pool.values)
    return float(equal / sum(v[c].size for v in pool.values))
