"""SCE (Wan et al. 2024): words on which the parents differ most, averaged by the size of changes.

Of every tensor the words are *selected* whose changes vary most between the parents (a share
``select_topk`` of those that vary at all), parents are weighted by the mean square of their
selected changes (*calculate*), and changes against the sign of the sum are *erased*. There is
nothing to choose in such a recipe but its members and that share. Where only rows of a tensor were
read, the weights are those of the rows, and words near the threshold may go either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.methods.arithmetic import change_of, moved
from lineage.infer.methods.masks import spacing
from lineage.infer.methods.trimmed import largest_mask
from lineage.infer.replay import Replay, recipe_text
from lineage.weights.encodings import TORCH_NAMES, round_to

__all__ = ["replay_sce"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

_LEAST_MATCH = 0.97
"""Share of the words that such a merge must give; the search ends when it no longer can."""
_LEAST_SQUARE = 1e-6
"""Sum of mean square changes below which mergekit weights all parents alike."""
_LEAST_DIVISOR = 1e-6
_ROUNDS = 8
_FAR = 3.0
_LEAST_LEFT = 0.3
"""What rounding alone leaves of a word, in its steps: they are even between −½ and ½."""
_ALL = 0.995
"""Share selected from which everything is taken to be."""


def replay_sce(
    pool: Pool, child: str, dtype: str, base: str, parents: Sequence[str]
) -> Replay | None:
    """The SCE merge of `parents` on `base`; None where it gives too few words.

    Returns
    -------
    Replay or None
        Weights are those of the largest tensors: mean squares of the selected changes.
    """
    c, b = pool.ids.index(child), pool.ids.index(base)
    p = [pool.ids.index(name) for name in parents]
    if len(p) < 2 or all(min(values.shape[1:]) == 1 for values in pool.values):
        return None
    every = np.array([values[0].size for values in pool.values], dtype=np.float64)
    spare = (1 - _LEAST_MATCH) * every.sum()
    tensors: dict[int, _Tensor] = {}
    # Most models are no such merge, and the largest tensors tell.
    for t in np.argsort(-every, kind="stable"):
        tensor = tensors[t] = _Tensor.of(pool.values[t], c, b, p, dtype)
        spare -= every[t] - tensor.contained(tensor.density)[0]
        if spare < 0:
            return None
    matrices = [t for t, values in enumerate(pool.values) if min(values.shape[1:]) > 1]
    by_tensor = [tensors[t].density for t in matrices]
    density = round(float(np.average(by_tensor, weights=every[matrices])), 2)
    density = 1.0 if density >= _ALL else density
    found = [
        max(
            (tensor.contained(share) for share in (density, tensor.density)), key=lambda one: one[0]
        )
        for _, tensor in sorted(tensors.items())
    ]
    weights = np.average([shares for _, shares in found], axis=0, weights=every)
    recipe: dict[str, object] = {
        "merge_method": "sce",
        "base_model": base,
        "models": [{"model": name} for name in parents],
        "dtype": TORCH_NAMES.get(dtype, "float32"),
    }
    if density < 1:
        recipe["parameters"] = {"select_topk": density}
    return Replay(
        "sce",
        tuple(parents),
        tuple(map(float, weights)),
        sum(equal for equal, _ in found) / float(every.sum()),
        recipe_text(recipe),
        base=base,
    )


@dataclass(frozen=True)
class _Tensor:
    """One tensor's words: changes of the parents from the base, how these vary, base and child."""

    changes: F32
    variance: F32
    origin: F32
    target: F32
    dtype: str

    @staticmethod
    def of(values: F32, child: int, base: int, parents: Sequence[int], dtype: str) -> _Tensor:
        origin = round_to(dtype, values[base]).ravel()
        changes = _changes(values, origin, parents, dtype)
        return _Tensor(changes, _variance(changes, dtype), origin, values[child].ravel(), dtype)

    @cached_property
    def density(self) -> float:
        """Share of the varying words that were selected: the threshold that best parts kept words.

        Only words on which the merge of everything differs from the base can tell.
        """
        changes, variance, dtype = self.changes, self.variance, self.dtype
        given = moved(self.origin, _combined(changes, _weights(changes, dtype), dtype), dtype)
        telling = (given != self.origin) & (variance > 0)
        kept = self.target[telling] != self.origin[telling]
        if kept.all():
            return 1.0
        order = np.argsort(variance[telling], kind="stable")
        # Words below the cut should be the base's, those above it should not.
        right = np.concatenate([[0], np.cumsum(~kept[order])]) + np.concatenate(
            [np.cumsum(kept[order][::-1])[::-1], [0]]
        )
        cut = int(np.argmax(right))
        threshold = variance[telling][order][cut] if cut < len(order) else np.inf
        return float((variance >= threshold).sum() / max((variance > 0).sum(), 1))

    def contained(self, density: float) -> tuple[int, F64]:
        """Words that come out, or may where selection is not sure; the weights that give most.

        Rows that were chosen for their tokens vary more, or less, than the rest of their tensor.
        """
        kept, unsure = _selected(self.variance, density)
        count = _Count.of(self, kept, unsure)
        fitted = _fitted_weights(
            self.changes[:, kept], self.origin[kept], self.target[kept], self.dtype
        )
        found = (
            count.improved(_weights(self.changes * kept, self.dtype)),
            count.improved(fitted),
        )
        return max(found, key=lambda one: one[0])


@dataclass(frozen=True)
class _Count:
    """Counts the words of a tensor that come out; what weights do not change is known before."""

    changes: F32
    agrees: Bools
    origin: F32
    target: F32
    dtype: str
    n_untouched: int
    """Words outside of what is asked that come out anyway."""
    may_stay: Bools

    @staticmethod
    def of(tensor: _Tensor, kept: Bools, unsure: Bools) -> _Count:
        """What weights decide: the selected words and those of which that is not sure."""
        untouched = tensor.origin == tensor.target
        asked = kept | unsure
        agrees = _agrees(tensor.changes[:, asked], tensor.dtype)
        return _Count(
            tensor.changes[:, asked],
            agrees,
            tensor.origin[asked],
            tensor.target[asked],
            tensor.dtype,
            int((untouched & ~asked).sum()),
            (untouched & unsure)[asked],
        )

    def n_words(self, weights: F64) -> int:
        change = _mean_of(self.changes, self.agrees, weights, self.dtype)
        same = moved(self.origin, change, self.dtype) == self.target
        return self.n_untouched + int((same | self.may_stay).sum())

    def improved(self, weights: F64) -> tuple[int, F64]:
        """Words that come out when each weight may move by its last bit."""
        best = self.n_words(weights), weights
        for i in range(len(weights)):
            step = float(spacing(weights[i : i + 1].astype(np.float32), self.dtype)[0])
            for moved_by in (-step, step):
                near = weights.copy()
                near[i] = max(near[i] + moved_by, 0.0)
                best = max(best, (self.n_words(near), near), key=lambda one: one[0])
        return best


def _changes(values: F32, origin: F32, parents: Sequence[int], dtype: str) -> F32:
    return np.stack([change_of(values[i].ravel(), origin, dtype) for i in parents])


def _variance(changes: F32, dtype: str) -> F32:
    return round_to(dtype, changes.var(axis=0, dtype=np.float64).astype(np.float32))


def _selected(variance: F32, density: float) -> tuple[Bools, Bools]:
    """Which words are selected, and of which that is not sure."""
    varies = variance > 0
    if density >= 1:
        return np.ones(len(variance), bool), np.zeros(len(variance), bool)
    kept, unsure = np.zeros(len(variance), bool), np.zeros(len(variance), bool)
    if varies.any():
        kept[varies], unsure[varies] = largest_mask(variance[varies], density)
    return kept, unsure


def _weights(changes: F32, dtype: str) -> F64:
    squares = round_to(dtype, changes * changes).mean(axis=1, dtype=np.float64)
    squares = round_to(dtype, squares.astype(np.float32))
    total = float(round_to(dtype, np.array([squares.sum()], np.float32))[0])
    if total < _LEAST_SQUARE:
        squares, total = np.ones(len(changes), np.float32), float(len(changes))
    return round_to(dtype, squares / np.float32(total)).astype(np.float64)


def _fitted_weights(changes: F32, origin: F32, target: F32, dtype: str) -> F64:
    """The weights that the child's words ask for, where a tensor's rows give them but nearly.

    Each word is a weighted mean ``y`` of agreeing changes, so ``Σ wᵢ aᵢ (δᵢ − y) = 0``: the
    direction in which its mean square is least, less what the rounding of ``y`` adds to it. Words
    that were not selected after all lie far off, the farther the finer the number type: what is
    off by more than most words are counts the less (Cauchy's weights).
    """
    y = target.astype(np.float64) - origin
    step = spacing(np.maximum(np.abs(target), np.abs(origin)), dtype)
    agrees = _agrees(changes, dtype)
    is_mean = agrees.sum(axis=0) > 1
    off = (agrees * (changes - y) / step)[:, is_mean]
    agreeing = agrees[:, is_mean].astype(np.float64)
    weights, trust = np.ones(len(changes)), np.ones(int(is_mean.sum()))
    for _ in range(_ROUNDS if is_mean.any() else 0):
        square = (off * trust) @ off.T - (agreeing * trust) @ agreeing.T / 12
        direction = np.linalg.eigh(square)[1][:, 0]
        weights = np.maximum(direction * (np.sign(direction.sum()) or 1.0), 0.0)
        left = np.abs((weights / weights.sum()) @ off)
        typical = max(float(np.median(left)), _LEAST_LEFT)
        trust = 1 / (1 + (left / (_FAR * typical)) ** 2)
    return round_to(dtype, (weights / weights.sum()).astype(np.float32)).astype(np.float64)


def _agrees(changes: F32, dtype: str) -> Bools:
    """Which changes go with the sum of all; a sum of nothing counts as positive."""
    sign = np.where(round_to(dtype, changes.sum(axis=0)) >= 0, 1, -1)
    return np.asarray(np.sign(changes) == sign)


def _combined(changes: F32, weights: F64, dtype: str) -> F32:
    """Weighted mean of the changes that go with the sum of all."""
    return _mean_of(changes, _agrees(changes, dtype), weights, dtype)


def _mean_of(changes: F32, agrees: Bools, weights: F64, dtype: str) -> F32:
    scale = np.where(agrees, weights[:, None], 0.0).astype(np.float32)
    total = round_to(dtype, round_to(dtype, changes * scale).sum(axis=0))
    divisor = np.maximum(round_to(dtype, scale.sum(axis=0)), _LEAST_DIVISOR).astype(np.float32)
    return round_to(dtype, total / divisor)
