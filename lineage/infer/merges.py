"""Merges: which relatives a model is a mixture of, and in what shares.

A merge without later training lies in the span of its parents up to the rounding of its own dtype.
The screen fits every tensor separately by least squares on Gram matrices (so coefficients may vary
by layer, as SLERP gradients do) and asks how many stored words the *rounded* fit equals. A model
that a single parent explains as well is no merge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from lineage.infer.geometry import Pool
from lineage.weights.encodings import round_to

__all__ = ["MIN_GAIN", "MIN_MATCH", "Mixture", "fit_mixture", "screen_merge"]

F64 = NDArray[np.float64]

MIN_MATCH = 0.97
"""Share of words that the rounded fit or the replayed recipe must reproduce."""
MIN_GAIN = 0.03
"""By how much it must beat the best single parent."""
_PLAUSIBLE_MATCH = 0.5
_TRIED_PER_SIZE = 2
_SHORT_LIST = 7
_MAX_PARENTS = 4
_MIN_SHARE = 0.02


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
    fitted coefficients miss words that lie exactly between two stored values.

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
    single = max(_match_one(pool, child, name, dtype) for name in names)
    if single > 1 - MIN_GAIN:
        return
    short = _short_list(pool, child, names)
    for size in range(2, _MAX_PARENTS + 1):
        ranked = sorted(
            combinations(short, size), key=lambda chosen: _residual(pool, child, chosen)
        )
        for chosen in ranked[:_TRIED_PER_SIZE]:
            fit = fit_mixture(pool, child, chosen, dtype, single)
            shares = np.abs(fit.weights(_sizes(pool)))
            if fit.match >= max(_PLAUSIBLE_MATCH, single + MIN_GAIN) and shares.min() >= _MIN_SHARE:
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


def _sizes(pool: Pool) -> F64:
    return np.array([values[0].size for values in pool.values], dtype=np.float64)


def _match_one(pool: Pool, child: str, name: str, dtype: str) -> float:
    c, p = pool.ids.index(child), pool.ids.index(name)
    equal = sum(int((round_to(dtype, v[p]) == v[c]).sum()) for v in pool.values)
    return equal / float(_sizes(pool).sum())


def _short_list(pool: Pool, child: str, names: Sequence[str]) -> list[str]:
    """Candidates worth combining: found by forward selection, best pairs, non-negative fit."""
    c = pool.ids.index(child)
    index = [pool.ids.index(name) for name in names]
    gram = pool.gram.sum(axis=0)
    # Differences to the child: the fit wants Σ w (X − C) = 0 with Σ w = 1.
    shifted = (
        gram[np.ix_(index, index)] - gram[index, c][:, None] - gram[c, index][None, :] + gram[c, c]
    )
    scale = float(np.trace(shifted)) / len(index) or 1.0
    penalty = 1e3 * scale
    target = np.full(len(index), penalty)
    values, vectors = np.linalg.eigh(shifted + penalty)
    root = vectors * np.sqrt(np.maximum(values, 1e-12 * values.max()))
    weights, _ = nnls(root.T, np.linalg.lstsq(root, target, rcond=None)[0])
    by_weight = [names[i] for i in np.argsort(-weights) if weights[i] > 1e-3]
    pairs = sorted(combinations(names, 2), key=lambda chosen: _residual(pool, child, chosen))[:2]
    grown = list(pairs[0])
    while len(grown) < min(_MAX_PARENTS, len(names)):
        rest = [name for name in names if name not in grown]
        grown.append(min(rest, key=lambda name: _residual(pool, child, (*grown, name))))
    ordered = [*grown, *pairs[-1], *by_weight]
    return list(dict.fromkeys(ordered))[:_SHORT_LIST]


def _residual(pool: Pool, child: str, chosen: Sequence[str]) -> float:
    """Sum over tensors of the squared residual of the best affine mixture, relative to rounding."""
    c = pool.ids.index(child)
    p = [pool.ids.index(name) for name in chosen]
    first, rest = p[0], p[1:]
    g = pool.gram
    # a = C − X₀, b_k = X_k − X₀, per tensor
    aa = g[:, c, c] - 2 * g[:, c, first] + g[:, first, first]
    ab = np.stack(
        [g[:, c, k] - g[:, c, first] - g[:, k, first] + g[:, first, first] for k in rest], axis=1
    )
    bb = np.stack(
        [
            np.stack(
                [g[:, j, k] - g[:, j, first] - g[:, k, first] + g[:, first, first] for k in rest],
                axis=1,
            )
            for j in rest
        ],
        axis=1,
    )
    ridge = 1e-12 * np.einsum("tkk->t", bb)[:, None, None] * np.eye(len(rest)) + 1e-30 * np.eye(
        len(rest)
    )
    solved = np.linalg.solve(bb + ridge, ab[:, :, None])[:, :, 0]
    left = np.maximum(aa - (ab * solved).sum(axis=1), 0.0)
    return float((left / np.maximum(g[:, c, c], 1e-30)).sum())
