"""Replaying merge recipes exactly, and writing them down.

From the per-tensor coefficients of a :class:`~lineage.infer.merges.Mixture` the recipe is read:
one weight per parent (linear), a base and weighted differences (task arithmetic, model stock), or
an interpolation on the sphere (SLERP, Shoemake 1985) with one t or a t per layer and block.
Published recipes use round numbers, so round numbers are tried first; whichever recipe reproduces
more of the stored words is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import yaml
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.merges import Mixture
from lineage.weights.formats import round_to
from lineage.weights.roles import TensorKey

__all__ = ["Replay", "replay_linear", "replay_slerp"]

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

_LINEAR_ABOVE = 0.9995
"""Cosine above which merge tools interpolate on the line instead of the sphere."""
_TORCH_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_ATTENTION = frozenset({"q", "k", "v", "o"})
_FFN = frozenset({"gate", "up", "down"})


@dataclass(frozen=True)
class Replay:
    """A recipe and how many of the child's words it reproduces."""

    method: str
    parents: tuple[str, ...]
    weights: tuple[float, ...]
    match: float
    recipe_yaml: str
    base: str | None = None


def replay_linear(pool: Pool, child: str, dtype: str, mixture: Mixture) -> Replay:
    """One weight per parent for the whole model: ``Σ w X / Σ w``, rounded once."""
    sizes = np.array([values[0].size for values in pool.values], dtype=np.float64)
    raw = mixture.weights(sizes)
    c = pool.ids.index(child)
    p = [pool.ids.index(name) for name in mixture.parents]
    best: tuple[float, tuple[float, ...]] = (-1.0, ())
    for weights in _round_weights(raw):
        equal = 0
        for values in pool.values:
            equal += int((round_to(dtype, _linear(values[p], weights)) == values[c]).sum())
        if equal / sizes.sum() > best[0]:
            best = (equal / float(sizes.sum()), weights)
    recipe = {
        "merge_method": "linear",
        "models": [
            {"model": name, "parameters": {"weight": weight}}
            for name, weight in zip(mixture.parents, best[1], strict=True)
        ],
        "dtype": _TORCH_NAMES.get(dtype, "float32"),
    }
    return Replay("linear", mixture.parents, best[1], best[0], _yaml(recipe))


def _round_weights(raw: F64) -> list[tuple[float, ...]]:
    """Candidate weights, roundest first: shares of 1, .1, .05, .01, then as fitted."""
    candidates: list[tuple[float, ...]] = []
    equal = tuple(round(1 / len(raw), 12) for _ in raw)
    if np.abs(raw - equal).max() < 0.02:
        candidates.append(equal)
    for step in (0.1, 0.05, 0.01):
        rounded = np.round(np.round(raw / step) * step, 4)
        if np.abs(rounded - raw).max() < 0.02 and abs(rounded.sum() - 1) < 1e-9:
            candidates.append(tuple(float(weight) for weight in rounded))
    candidates.append(tuple(float(weight) for weight in raw))
    return list(dict.fromkeys(candidates))


def _linear(parents: F32, weights: Sequence[float]) -> F32:
    total = np.zeros(parents.shape[1:], np.float32)
    for values, weight in zip(parents, weights, strict=True):
        total += values * np.float32(weight)
    return total / np.float32(np.float32(np.sum(np.array(weights, np.float32))))


def replay_slerp(pool: Pool, child: str, dtype: str, mixture: Mixture) -> Replay | None:
    """Interpolation on the sphere between two parents, t per tensor; None for more parents.

    The angle of a tensor is that of its sampled rows; where only part of a tensor was sampled the
    whole tensor's angle may differ slightly, and the match says by how much that hurts.
    """
    if len(mixture.parents) != 2:
        return None
    c = pool.ids.index(child)
    a, b = (pool.ids.index(name) for name in mixture.parents)
    equal, total = 0, 0
    found: dict[TensorKey, float] = {}
    for key, values, coefficients in zip(pool.keys, pool.values, mixture.coefficients, strict=True):
        x, y, target = values[a], values[b], values[c]
        cosine = _cosine(x, y)
        fitted = _t_of(coefficients, cosine)
        best, best_t = -1, fitted
        for t in dict.fromkeys((*(_nearest(fitted, s) for s in (0.1, 0.05, 0.01)), fitted)):
            replayed = int((round_to(dtype, _slerp(x, y, t, cosine)) == target).sum())
            if replayed > best:
                best, best_t = replayed, t
        equal += best
        total += target.size
        found[key] = best_t
    sizes = np.array([values[0].size for values in pool.values], dtype=np.float64)
    share = float((np.array(list(found.values())) * sizes).sum() / sizes.sum())
    recipe = _slerp_recipe(mixture.parents, found, dtype)
    weights = (round(1 - share, 6), round(share, 6))
    return Replay(
        "slerp", mixture.parents, weights, equal / total, _yaml(recipe), base=mixture.parents[0]
    )


def _cosine(x: F32, y: F32) -> float:
    x64, y64 = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    scale = float(np.linalg.norm(x64) * np.linalg.norm(y64))
    return min(1.0, float(x64 @ y64) / scale) if scale > 0 else 1.0


def _t_of(coefficients: F64, cosine: float) -> float:
    """The t whose sphere (or line) coefficients have the ratio of the fitted ones."""
    first, second = float(coefficients[0]), float(coefficients[1])
    if cosine > _LINEAR_ABOVE:
        return second / (first + second)
    angle = float(np.arccos(cosine))
    return float(np.arctan2(second * np.sin(angle), first + second * np.cos(angle)) / angle)


def _nearest(value: float, step: float) -> float:
    return round(round(value / step) * step, 4)


def _slerp(x: F32, y: F32, t: float, cosine: float) -> F32:
    if cosine > _LINEAR_ABOVE:
        first, second = 1.0 - t, t
    else:
        angle = np.arccos(np.float32(cosine))
        first = float(np.sin((1 - t) * angle) / np.sin(angle))
        second = float(np.sin(t * angle) / np.sin(angle))
    return np.asarray(np.float32(first) * x + np.float32(second) * y, dtype=np.float32)


def _slerp_recipe(
    parents: Sequence[str], found: Mapping[TensorKey, float], dtype: str
) -> dict[str, object]:
    values = set(found.values())
    t: object
    if len(values) == 1:
        t = values.pop()
    else:
        n_layers = 1 + max(key.layer for key in found)
        t = [
            {"filter": "self_attn", "value": _by_layer(found, _ATTENTION, n_layers)},
            {"filter": "mlp", "value": _by_layer(found, _FFN, n_layers)},
            {"value": _by_layer(found, None, n_layers)},
        ]
    return {
        "merge_method": "slerp",
        "base_model": parents[0],
        "models": [{"model": name} for name in parents],
        "parameters": {"t": t},
        "dtype": _TORCH_NAMES.get(dtype, "float32"),
    }


def _by_layer(
    found: Mapping[TensorKey, float], roles: frozenset[str] | None, n_layers: int
) -> list[float]:
    named = _ATTENTION | _FFN
    lists = [
        [
            t
            for key, t in found.items()
            if key.layer == layer and (key.role in roles if roles else key.role not in named)
        ]
        for layer in range(n_layers)
    ]
    return [float(round(float(np.median(ts)), 4)) if ts else 0.5 for ts in lists]


def _yaml(recipe: Mapping[str, object]) -> str:
    return yaml.safe_dump(dict(recipe), sort_keys=False)
