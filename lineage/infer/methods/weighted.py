"""Linear merges and task arithmetic of many parents, or with weights that vary by layer.

The stored word tells between which two values the unrounded sum lies. Weights that put every sum
into its cell are found by maximum likelihood (:func:`.masks.fit_masks` without masks), so that no
grid of weights has to be searched and rounding biases nothing; then they are rounded as people
write them and replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.methods.arithmetic import change_of, mixed, moved
from lineage.infer.methods.masks import Rule, changes_from, fit_masks
from lineage.infer.replay import Replay, n_equal, recipe_text
from lineage.weights.encodings import TORCH_NAMES, round_to

__all__ = ["replay_weighted_changes", "replay_weighted_mean"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Merged = Callable[[F32, Sequence[float]], F32]

_WORDS = 12_000
_DIGITS = (1, 2, 3, 4)
_LOST_TO_ROUNDNESS = 0.001


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

    others = _fitted(pool, child, dtype, parents[0], parents[1:])
    fitted = [np.column_stack([1 - one.sum(axis=1), one]) for one in others]
    match, weights = _best(pool, child, fitted, merged)
    return _replay("linear", pool, parents, weights, match, dtype, None)


def _fitted(pool: Pool, child: str, dtype: str, base: str, parents: Sequence[str]) -> list[F64]:
    """Weights for the whole model, and by layer where every layer is a group: groups × parents."""
    changes = changes_from(pool, child, base, parents, dtype, _WORDS)
    start = changes.least_squares()
    layers = 1 + max(key.layer for key in pool.keys)
    found = []
    for by_group in (False, True):
        fit = fit_masks(changes, Rule.SUM, False, start, masked=False, by_group=by_group)
        if len(fit.coefficients) in (1, layers):
            found.append(fit.coefficients)
    return found


def _best(pool: Pool, child: str, fitted: Sequence[F64], merged: Merged) -> tuple[float, F64]:
    """The roundest of the weights that give most words."""
    c = pool.ids.index(child)
    total = sum(values[0].size for values in pool.values)

    def replayed(weights: F64) -> float:
        equal = sum(
            n_equal(merged(values, weights[max(key.layer, 0) % len(weights)]), values[c])
            for key, values in zip(pool.keys, pool.values, strict=True)
        )
        return float(equal / total)

    tried = [
        (replayed(np.round(one, digits)), np.round(one, digits))
        for one in fitted
        for digits in _DIGITS
        if np.round(one, digits).any(axis=1).all()
    ]
    if not tried:
        return 0.0, fitted[0]
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
