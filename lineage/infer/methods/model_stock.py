"""Model stock (Jang et al. 2024): every tensor between its base and the mean of its parents.

With N parents whose changes have the mean cosine c, ``t = N c / (1 + (N−1) c)`` and the merge is
``t·mean + (1−t)·base``. The cosine belongs to the whole tensor; where only rows were read it is
known but nearly, and the child's own words tell t by least squares too. There is nothing to choose
in such a recipe but its members.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, permutations

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.methods.arithmetic import change_of
from lineage.infer.replay import Replay, n_equal, recipe_text
from lineage.weights.encodings import TORCH_NAMES, round_to

__all__ = ["replay_model_stock"]

F32 = NDArray[np.float32]

_SPACING = {"BF16": 2.0**-8, "F16": 2.0**-11}
_NEIGHBOURS = 6
_N_ORDERS = 24
_PLAUSIBLE = 0.5
_ROWS_ERROR = 0.2
"""How far rows may mislead about the t of their tensor."""


def replay_model_stock(pool: Pool, child: str, dtype: str, members: Sequence[str]) -> Replay | None:
    """The model stock of these members, one of them the base; None for fewer than three."""
    if len(members) < 3:
        return None
    matrices = [values for values in pool.values if min(values.shape[1:]) > 1]
    if not matrices:
        return None
    probe = max(matrices, key=lambda values: values[0].size)
    c = pool.ids.index(child)
    index = [pool.ids.index(name) for name in members]
    tried = [
        (_best(probe, c, base, order, dtype)[0] / probe[0].size, base, order)
        for base in index
        for order in islice(permutations([i for i in index if i != base]), _N_ORDERS)
    ]
    match, base, order = max(tried, key=lambda one: one[0])
    if match < _PLAUSIBLE:
        return None
    found = [_best(values, c, base, order, dtype) for values in pool.values]
    sizes = np.array([values[0].size for values in pool.values], dtype=np.float64)
    share = float(np.average([t for _, t in found], weights=sizes)) / len(order)
    parents = tuple(pool.ids[i] for i in order)
    recipe = {
        "merge_method": "model_stock",
        "base_model": pool.ids[base],
        "models": [{"model": name} for name in parents],
        "dtype": TORCH_NAMES.get(dtype, "float32"),
    }
    return Replay(
        "model_stock",
        parents,
        (share,) * len(parents),
        sum(equal for equal, _ in found) / float(sizes.sum()),
        recipe_text(recipe),
        base=pool.ids[base],
    )


def _best(
    values: F32, child: int, base: int, parents: Sequence[int], dtype: str
) -> tuple[int, float]:
    """Most words of one tensor that come out, and the t with which they do."""
    origin = round_to(dtype, values[base])
    loaded = [round_to(dtype, values[i]) for i in parents]
    changes = np.stack([change_of(x, origin, dtype) for x in loaded])
    total = np.zeros_like(origin)
    for x in loaded:
        total = round_to(dtype, total + x)
    mean = round_to(dtype, total / np.float32(len(loaded)))
    found = []
    for here in _near(
        _ratio(changes), _least_squares(values[child] - origin, mean - origin), dtype
    ):
        rest = round_to(dtype, np.float32(1) - here)
        given = round_to(dtype, round_to(dtype, here * mean) + round_to(dtype, rest * origin))
        found.append((n_equal(given, values[child]), float(here)))
    return max(found, key=lambda one: one[0])


def _near(ratio: float, fitted: float, dtype: str) -> F32:
    """Numbers of a type around two estimates of t, the one the cosines give first."""
    centres = (ratio, fitted) if abs(fitted - ratio) <= _ROWS_ERROR else (ratio,)
    step = _SPACING.get(dtype, 0.0) * 2.0 ** np.floor(np.log2(max(abs(ratio), 1e-6)) + 1)
    around = np.arange(-_NEIGHBOURS, _NEIGHBOURS + 1) if step else np.zeros(1)
    around = around[np.argsort(np.abs(around), kind="stable")]
    near = [centre + steps * step for centre in centres for steps in around]
    return round_to(dtype, np.array(list(dict.fromkeys(near)), np.float32))


def _least_squares(child: F32, mean: F32) -> float:
    """The share of the parents' mean change that the child has; 0 where there is none."""
    along = mean.ravel().astype(np.float64)
    square = float(along @ along)
    return float(child.ravel().astype(np.float64) @ along) / square if square else 0.0


def _ratio(changes: F32) -> float:
    """The t that the cosines between the changes give; 0 where there is none to give."""
    flat = changes.reshape(len(changes), -1).astype(np.float64)
    norms = np.linalg.norm(flat, axis=1)
    square = flat @ flat.T / np.maximum(np.outer(norms, norms), 1e-6)
    upper = np.triu_indices(len(flat), 1)
    cosine = float(np.clip(square[upper], -1, 1).mean())
    below = 1 + (len(flat) - 1) * cosine
    return len(flat) * cosine / below if abs(below) > 1e-6 else 0.0
