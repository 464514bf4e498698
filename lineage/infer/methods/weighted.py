"""Linear merges and task arithmetic of many parents, or with weights that vary by layer.

The stored word tells between which two values the unrounded sum lies. Weights that put every sum
into its cell are found by maximum likelihood (:func:`.masks.fit_masks` without masks), so that no
grid of weights has to be searched and rounding biases nothing; then they are rounded as people
write them and replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.methods.arithmetic import change_of, mixed, moved
from lineage.infer.methods.masks import Changes, Rule, changes_from, fit_masks
from lineage.infer.replay import Replay, n_equal, recipe_text
from lineage.weights.encodings import TORCH_NAMES, round_to

__all__ = ["replay_weighted_changes", "replay_weighted_mean"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Merged = Callable[[F32, Sequence[float]], F32]

_WORDS = 12_000
_ROUGHLY = 6
"""Every how manieth word tells whether such a merge comes near at all."""
_PLAUSIBLE = 0.8
_DIGITS = (1, 2, 3, 4)
_LOST_TO_ROUNDNESS = 0.001
_LEAST_MATCH = 0.97
"""Share of the words that a recipe must give; its replay ends when it no longer can."""


def replay_weighted_changes(
    pool: Pool, child: str, dtype: str, base: str, parents: Sequence[str]
) -> Replay:
    """Task arithmetic: the base plus weighted changes of the parents (Ilharco et al. 2023)."""
    b = pool.ids.index(base)
    p = [pool.ids.index(name) for name in parents]

    def merged(values: F32, weights: Sequence[float]) -> F32:
        changes = np.stack([change_of(values[i], values[b], dtype) for i in p])
        return moved(values[b], mixed(changes, weights, Rule.SUM, dtype), dtype)

    fitted = _fitted(pool, child, dtype, base, parents)
    match, weights = _best(pool, child, fitted, merged)
    return _replay("task_arithmetic", pool, parents, weights, match, dtype, base)


def replay_weighted_mean(pool: Pool, child: str, dtype: str, parents: Sequence[str]) -> Replay:
    """A linear merge: the weighted mean of its parents, weights adding up to 1."""
    p = [pool.ids.index(name) for name in parents]

    def merged(values: F32, weights: Sequence[float]) -> F32:
        total = np.zeros(values.shape[1:], np.float32)
        for i, weight in zip(p, weights, strict=True):
            product = values[i].astype(np.float64) * np.float64(np.float32(weight))
            total = (total + product).astype(np.float32)
        return round_to(dtype, total / np.float32(np.sum(np.array(weights, np.float32))))

    fitted = _fitted(pool, child, dtype, parents[0], parents[1:])
    means = replace(
        fitted,
        weights=tuple(np.column_stack([1 - one.sum(axis=1), one]) for one in fitted.weights),
    )
    match, weights = _best(pool, child, means, merged)
    return _replay("linear", pool, parents, weights, match, dtype, None)


@dataclass(frozen=True)
class _Fitted:
    """Weights for the whole model, and by layer where every layer is a group: groups × parents.

    `near` is the share of the asked words that the best of them brings to within a rounding step.
    """

    weights: tuple[F64, ...]
    near: float


def _fitted(pool: Pool, child: str, dtype: str, base: str, parents: Sequence[str]) -> _Fitted:
    changes = changes_from(pool, child, base, parents, dtype, _WORDS, ranked=False)
    rough = _fitted_to(pool, changes.taken(np.arange(0, len(changes.child), _ROUGHLY)))
    return rough if rough.near < _PLAUSIBLE else _fitted_to(pool, changes)


def _fitted_to(pool: Pool, changes: Changes) -> _Fitted:
    start = changes.least_squares()
    layers = 1 + max(key.layer for key in pool.keys)
    found, near = [], 0.0
    for by_group in (False, True):
        fit = fit_masks(changes, Rule.SUM, False, start, masked=False, by_group=by_group)
        if len(fit.coefficients) in (1, layers):
            found.append(fit.coefficients)
            of_word = fit.coefficients[changes.group if by_group else np.zeros_like(changes.group)]
            off = np.abs(changes.child - (of_word * changes.parents.T).sum(axis=1))
            near = max(near, float((off <= changes.unit).mean()))
    return _Fitted(tuple(found), near)


def _best(pool: Pool, child: str, fitted: _Fitted, merged: Merged) -> tuple[float, F64]:
    """The roundest of the weights that give most words; a match of 0 where none gives enough."""
    if fitted.near < _PLAUSIBLE:
        return 0.0, fitted.weights[0]
    c = pool.ids.index(child)
    sizes = np.array([values[0].size for values in pool.values])
    largest_first = np.argsort(-sizes, kind="stable")
    total = int(sizes.sum())

    def replayed(weights: F64) -> float:
        spare = (1 - _LEAST_MATCH) * total
        for t in largest_first:
            key, values = pool.keys[t], pool.values[t]
            given = merged(values, weights[max(key.layer, 0) % len(weights)])
            spare -= int(sizes[t]) - n_equal(given, values[c])
            if spare < 0:
                return 0.0
        return _LEAST_MATCH + spare / total

    tried = [(0.0, fitted.weights[0])]
    for one, digits in product(fitted.weights, _DIGITS):
        weights = np.round(one, digits)
        if weights.any(axis=1).all():
            tried.append((replayed(weights), weights))
            if tried[-1][0] >= 1 - _LOST_TO_ROUNDNESS:
                break
    most = max(match for match, _ in tried)
    return next(one for one in tried if one[0] >= most - _LOST_TO_ROUNDNESS)


def _replay(
    method: str,
    pool: Pool,
    parents: Sequence[str],
    weights: F64,
    match: float,
    dtype: str,
    base: str | None,
) -> Replay:
    columns = [[float(w) for w in column] for column in weights.T]
    models = [
        {"model": name, "parameters": {"weight": column if len(column) > 1 else column[0]}}
        for name, column in zip(parents, columns, strict=True)
    ]
    recipe: dict[str, object] = {"merge_method": method}
    if base is not None:
        recipe["base_model"] = base
    recipe |= {"models": models, "dtype": TORCH_NAMES.get(dtype, "float32")}
    shares = weights.mean(axis=0)
    if base is None:
        shares = shares / (shares.sum() or 1.0)
    return Replay(
        method, tuple(parents), tuple(map(float, shares)), match, recipe_text(recipe), base=base
    )
