"""TIES and breadcrumbs: masks that follow from the size of the change, so that they replay.

TIES keeps the largest ``density`` of each parent's changes in every tensor; breadcrumbs leaves out
the largest one per cent (``gamma``) as well. Of a tensor of which rows were read, the threshold is
known between two sizes; words in between, and words that tie with the threshold, may have been kept
or dropped: for these the child's word must be one of the possible ones, all others are replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.methods.arithmetic import change_of, mixed, moved
from lineage.infer.methods.masked_search import MaskedMerge
from lineage.infer.methods.masks import Rule
from lineage.infer.methods.recipes import GAMMA, mask_shapes, method_name, rounded_weights
from lineage.infer.replay import Replay, recipe_text
from lineage.weights.encodings import TORCH_NAMES

__all__ = ["largest_mask", "replay_trimmed"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_N_ERRORS = 3.0
_SEARCHED = 3
_PLAUSIBLE = 0.5


def replay_trimmed(pool: Pool, child: str, dtype: str, merge: MaskedMerge) -> Replay | None:
    """The TIES or breadcrumbs recipe behind a masked merge; None where masks are random."""
    shapes = mask_shapes(merge)
    if not shapes.are_trimmed:
        return None
    c, b = pool.ids.index(child), pool.ids.index(merge.base)
    p = [pool.ids.index(name) for name in merge.parents]
    gamma = GAMMA if shapes.loses_top else 0.0
    matrices = [t for t, values in enumerate(pool.values) if min(values.shape[1:]) > 1]
    some = matrices[:: max(1, len(matrices) // _SEARCHED)]

    def replayed(which: Sequence[int], recipe: _Recipe) -> float:
        counts = [
            _n_contained(pool.values[t], c, b, p, recipe.at(pool.keys[t].layer), dtype)
            for t in which
        ]
        return float(sum(counts) / sum(pool.values[t][0].size for t in which))

    layers = 1 + max(key.layer for key in pool.keys)
    recipes = [
        _Recipe(weights, shapes.densities, merge.fit.rule, gamma)
        for weights in rounded_weights(merge, layers)
    ]
    best = max(recipes, key=lambda recipe: replayed(some, recipe), default=None)
    if best is None or replayed(some, best) < _PLAUSIBLE:
        return None
    match = replayed(range(len(pool.values)), best)
    return _as_replay(merge, best, match, dtype)


@dataclass(frozen=True)
class _Recipe:
    """Weights by parent, one or one a layer; densities; the rule."""

    weights: tuple[tuple[float, ...], ...]
    densities: tuple[float, ...]
    rule: Rule
    gamma: float

    def at(self, layer: int) -> _Recipe:
        """The recipe of one layer; tensors outside the layers go with the first."""
        here = tuple((w[max(layer, 0)] if len(w) > 1 else w[0],) for w in self.weights)
        return _Recipe(here, self.densities, self.rule, self.gamma)


def _n_contained(
    values: F32, child: int, base: int, parents: Sequence[int], recipe: _Recipe, dtype: str
) -> int:
    """Words of one tensor that the recipe gives, or may give where masks are not known."""
    origin = values[base].ravel()
    target = values[child].ravel()
    changes = np.stack([change_of(values[i].ravel(), origin, dtype) for i in parents])
    weights = [w[0] for w in recipe.weights]
    kept, unsure = np.zeros(changes.shape, bool), np.zeros(changes.shape, bool)
    for i, density in enumerate(recipe.densities):
        kept[i], unsure[i] = largest_mask(np.abs(changes[i]), density, recipe.gamma)
    given = moved(origin, mixed(changes * kept, weights, recipe.rule, dtype), dtype)
    contained = given == target
    open_words = np.flatnonzero(~contained & unsure.any(axis=0))
    left = changes[:, open_words]
    possible = np.zeros(len(open_words), bool)
    for turned in product((False, True), repeat=len(parents)):
        mask = np.where(
            unsure[:, open_words] & np.array(turned)[:, None],
            ~kept[:, open_words],
            kept[:, open_words],
        )
        given = moved(origin[open_words], mixed(left * mask, weights, recipe.rule, dtype), dtype)
        possible |= given == target[open_words]
    return int(contained.sum() + possible.sum())


def largest_mask(
    size: F32, density: float, gamma: float = 0.0
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of some words are kept by size, and of which that is not sure.

    Parameters
    ----------
    density
        Share of all words of the tensor that is kept, the largest but for a share `gamma`.
    """
    if density >= 1:
        return np.ones(len(size), bool), np.zeros(len(size), bool)
    n = len(size)
    ordered = np.sort(size)
    top = gamma
    bottom = max(0.0, 1 - density - top)
    kept, unsure = np.ones(n, bool), np.zeros(n, bool)
    for share, above in ((bottom, True), (bottom + density, False)):
        if (above and share <= 0) or (not above and gamma == 0):
            continue
        error = _N_ERRORS * np.sqrt(share * (1 - share) / n) + 1 / n
        low, middle, high = (
            ordered[int(np.clip(np.floor(q * n), 0, n - 1))]
            for q in (share - error, share, share + error)
        )
        kept &= (size >= middle) if above else (size <= middle)
        unsure |= (size >= low) & (size <= high)
    return kept, unsure


def _as_replay(merge: MaskedMerge, recipe: _Recipe, match: float, dtype: str) -> Replay:
    method = method_name(merge)
    means = np.array([np.mean(weights) for weights in recipe.weights])
    models = [
        {
            "model": name,
            "parameters": {
                "weight": weights[0] if len(weights) == 1 else list(weights),
                "density": density,
            },
        }
        for name, weights, density in zip(
            merge.parents, recipe.weights, recipe.densities, strict=True
        )
    ]
    text = recipe_text(
        {
            "merge_method": method,
            "base_model": merge.base,
            "models": models,
            "parameters": {"normalize": recipe.rule is Rule.MEAN},
            "dtype": TORCH_NAMES.get(dtype, "float32"),
        }
    )
    shares = tuple(float(share) for share in means / (means.sum() or 1.0))
    return Replay(method, merge.parents, shares, match, text, base=merge.base)
