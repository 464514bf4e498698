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
_MOST_NEIGHBOURS = 128
_N_ERRORS = 6
"""Rounding is no noise, and of small changes it is most: errors are larger than they seem."""
_ASKED_WORDS = 2048
_LIKELY = 3
"""Words on which every t is tried, and how many of them are tried on all."""
_FEWER_MISSED = 0.5
"""Of the words that the nearest member misses, what is missed before t is searched for further."""
_N_ORDERS = 24
_PLAUSIBLE = 0.5
_ROWS_ERROR = 0.4
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
    sizes = np.array([values[0].size for values in pool.values], dtype=np.float64)
    found = [_best(values, c, base, order, dtype) for values in pool.values]
    missed = sizes.sum() - sum(equal for equal, _ in found)
    if 0 < missed < _FEWER_MISSED * min(_n_missed(pool, c, i) for i in index):
        # It is one: where words are missed, the rows read tell too little of t.
        found = [
            one
            if one[0] == values[c].size
            else _best(values, c, base, order, dtype, _MOST_NEIGHBOURS)
            for one, values in zip(found, pool.values, strict=True)
        ]
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


def _n_missed(pool: Pool, child: int, other: int) -> int:
    return sum(values[child].size - n_equal(values[child], values[other]) for values in pool.values)


def _best(
    values: F32,
    child: int,
    base: int,
    parents: Sequence[int],
    dtype: str,
    reach: int = _NEIGHBOURS,
) -> tuple[int, float]:
    """Most words of one tensor that come out, and the t with which they do.

    Asked are numbers near two estimates of t, at most `reach` steps of the number type away.
    """
    origin = round_to(dtype, values[base])
    loaded = [round_to(dtype, values[i]) for i in parents]
    changes = np.stack([change_of(x, origin, dtype) for x in loaded])
    total = np.zeros_like(origin)
    for x in loaded:
        total = round_to(dtype, total + x)
    mean = round_to(dtype, total / np.float32(len(loaded)))
    asked = _shares_asked(changes, values[child] - origin, mean - origin, dtype, reach)

    def n_given(here: F32, words: slice) -> int:
        rest = round_to(dtype, 1 - here)
        kept = round_to(dtype, rest * origin.ravel()[words])
        given = round_to(dtype, round_to(dtype, here * mean.ravel()[words]) + kept)
        return n_equal(given, values[child].ravel()[words])

    some, every = slice(None, None, max(1, -(-origin.size // _ASKED_WORDS))), slice(None)
    likely = sorted(asked, key=lambda here: -n_given(here, some))[:_LIKELY]
    return max(((n_given(here, every), here.item()) for here in likely), key=lambda one: one[0])


def _shares_asked(changes: F32, child: F32, mean: F32, dtype: str, reach: int) -> list[F32]:
    """Numbers of a type around two estimates of t, the one that the cosines give first.

    Of nearly orthogonal changes t is small, and the cosines of some rows tell little of it.
    """
    ratio = _ratio(changes)
    fitted, error = _least_squares(child, mean)
    near = _near(ratio, 0.0, dtype, reach)
    if abs(fitted - ratio) <= _ROWS_ERROR:
        near += _near(fitted, error, dtype, reach)
    return list(round_to(dtype, np.array(list(dict.fromkeys(near)), np.float32))[:, None])


def _near(centre: float, error: float, dtype: str, reach: int) -> list[float]:
    """Numbers of a type around one, the nearest first, as far as some errors or `reach` go."""
    step = _SPACING.get(dtype, 0.0) * 2.0 ** np.floor(np.log2(max(abs(centre), 1e-6)) + 1)
    if not step:
        return [centre]
    n_beside = int(np.clip(np.ceil(_N_ERRORS * error / step), _NEIGHBOURS, reach))
    around = np.arange(-n_beside, n_beside + 1)
    return [centre + int(n) * step for n in around[np.argsort(np.abs(around), kind="stable")]]


def _least_squares(child: F32, mean: F32) -> tuple[float, float]:
    """The share of the parents' mean change that the child has, and its standard error."""
    along, change = mean.ravel().astype(np.float64), child.ravel().astype(np.float64)
    square = float(along @ along)
    if not square:
        return 0.0, 0.0
    share = float(change @ along) / square
    left = change - share * along
    return share, float(np.sqrt(left @ left / max(1, left.size - 1) / square))


def _ratio(changes: F32) -> float:
    """The t that the cosines between the changes give; 0 where there is none to give."""
    flat = changes.reshape(len(changes), -1).astype(np.float64)
    norms = np.linalg.norm(flat, axis=1)
    square = flat @ flat.T / np.maximum(np.outer(norms, norms), 1e-6)
    upper = np.triu_indices(len(flat), 1)
    cosine = float(np.clip(square[upper], -1, 1).mean())
    below = 1 + (len(flat) - 1) * cosine
    return len(flat) * cosine / below if abs(below) > 1e-6 else 0.0
