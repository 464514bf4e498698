"""Merges of two models that decide word by word: NearSwap and Arcee Fusion.

NearSwap moves every word of the first model by at most t towards the second's,
``C = A + w (B − A)`` with ``w = min(1, t/|A − B|)``. Arcee Fusion takes the second model's word
where the change is important: where ``|B − A|`` times its row's divergence
``KL(softmax B ‖ softmax A)`` exceeds the tensor's median by one and a half interquartile ranges.
All of it is computed in the merge's number type. In 16 bits the divergence of two rows that are
nearly the same is little but rounding, so each step is rounded as mergekit rounds it. Of a tensor
of which rows were read the threshold is known within a factor: the value is taken that best parts
the second model's words from the first's. That costs little certainty: it is one number for the
thousands of words of a tensor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.methods.arithmetic import change_of
from lineage.infer.methods.masks import spacing
from lineage.infer.replay import Replay, n_equal, recipe_text
from lineage.weights.encodings import TORCH_NAMES, round_to

__all__ = ["replay_arcee_fusion", "replay_nearswap"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

_LEAST_GAP = 1e-6
_DIGITS = (1, 2, 3)
_SPACINGS = (0, 2, 8)
"""Least moves of words that are asked, in their spacings."""
_PLAUSIBLE = 0.5
_QUARTILES = (0.25, 0.5, 0.75)
_OUTLIERS = 1.5
_EPSILON = np.float32(1e-8)
_REACH = 2.0
"""Factor by which the importance threshold may differ from that of the rows that were read."""
_NOISE = np.float32(4 * 2.0**-24)
"""Error granted to a divergence: rows that are summed in float32 add up to 1 but for last bits."""
_MOST_UNSURE = 0.2
"""Share of a tensor's words that such an error may leave open; beyond it proves nothing."""


def replay_nearswap(pool: Pool, child: str, dtype: str, pair: Sequence[str]) -> Replay | None:
    """NearSwap of two models, either being the first; None where it gives less than half."""
    probe, sizes = _probe(pool)
    c = pool.ids.index(child)
    tried = []
    for first, second in (tuple(pair), tuple(reversed(pair))):
        a, b = pool.ids.index(first), pool.ids.index(second)
        steps = _typical_steps(pool, c, a, b, dtype)
        # Fewest digits come last and stay: of steps that give as many words the roundest is told.
        rounded = {
            float(f"{step:.{digits - 1}e}"): -digits
            for digits in reversed(_DIGITS)
            for step in steps
        }
        for t, n_digits in rounded.items():
            equal = n_equal(_nearswapped(probe[a], probe[b], t, dtype), probe[c])
            tried.append((equal / probe[0].size, n_digits, t, a, b))
    if not tried:
        return None
    match, _, t, a, b = max(tried)
    if match < _PLAUSIBLE:
        return None
    equal = sum(n_equal(_nearswapped(v[a], v[b], t, dtype), v[c]) for v in pool.values)
    recipe: dict[str, object] = {
        "merge_method": "nearswap",
        "base_model": pool.ids[a],
        "models": [{"model": pool.ids[a]}, {"model": pool.ids[b]}],
        "parameters": {"t": t},
        "dtype": TORCH_NAMES.get(dtype, "float32"),
    }
    return _replay("nearswap", pool, c, (a, b), equal / float(sizes.sum()), recipe)


def replay_arcee_fusion(pool: Pool, child: str, dtype: str, pair: Sequence[str]) -> Replay | None:
    """Arcee Fusion of two models; None where its words are not those of the two.

    mergekit's result is in float32 whatever number type the recipe names; that type is found too.
    """
    probe, sizes = _probe(pool)
    c = pool.ids.index(child)
    inner = dict.fromkeys((dtype, "BF16", "F16", "F32"))
    tried = []
    for first, second in (tuple(pair), tuple(reversed(pair))):
        a, b = pool.ids.index(first), pool.ids.index(second)
        for kind in inner:
            tried.append((_n_fused(probe, c, a, b, kind, dtype) / probe[0].size, a, b, kind))
    match, a, b, kind = max(tried, key=lambda one: one[0])
    if match < _PLAUSIBLE:
        return None
    equal = sum(_n_fused(v, c, a, b, kind, dtype) for v in pool.values)
    recipe: dict[str, object] = {
        "merge_method": "arcee_fusion",
        "base_model": pool.ids[a],
        "models": [{"model": pool.ids[a]}, {"model": pool.ids[b]}],
        "dtype": TORCH_NAMES.get(kind, "float32"),
    }
    return _replay("arcee_fusion", pool, c, (a, b), equal / float(sizes.sum()), recipe)


def _probe(pool: Pool) -> tuple[F32, F64]:
    sizes = np.array([values[0].size for values in pool.values], dtype=np.float64)
    matrices = [values for values in pool.values if min(values.shape[1:]) > 1]
    return max(matrices or pool.values, key=lambda values: values[0].size), sizes


def _typical_steps(pool: Pool, child: int, a: int, b: int, dtype: str) -> list[float]:
    """Median moves of words that are further apart than they were moved, of ever finer words.

    A word keeps no move much smaller than its spacing, and those it keeps are rounded to it.
    """
    moves: list[list[F32]] = [[] for _ in _SPACINGS]
    for values in pool.values:
        move, gap = np.abs(values[child] - values[a]), np.abs(values[b] - values[a])
        far = (move > 0) & (gap > 2 * move)
        coarseness = spacing(np.maximum(np.abs(values[child]), np.abs(values[a])), dtype)
        for told, least in zip(moves, _SPACINGS, strict=True):
            told.append(move[far & (move >= least * coarseness)])
    return [float(np.median(words)) for told in moves if (words := np.concatenate(told)).size]


def _nearswapped(first: F32, second: F32, t: float, dtype: str) -> F32:
    a, b = round_to(dtype, first), round_to(dtype, second)
    gap = np.maximum(np.abs(round_to(dtype, a - b)), np.float32(_LEAST_GAP)).astype(np.float32)
    weight = np.minimum(round_to(dtype, np.float32(t) / gap), np.float32(1)).astype(np.float32)
    rest = round_to(dtype, np.float32(1) - weight)
    return round_to(dtype, round_to(dtype, weight * b) + round_to(dtype, rest * a))


def _n_fused(values: F32, child: int, a: int, b: int, inner: str, dtype: str) -> int:
    """Words that fusion gives, or may give where the order of a float32 sum decides."""
    first, second = (round_to(inner, values[i]) for i in (a, b))
    target = values[child].ravel()
    untouched = round_to(dtype, first).ravel()
    taken = round_to(dtype, first + change_of(second, first, inner)).ravel()
    importance = _importance(second, first, inner).ravel()
    threshold = _threshold(importance, target == taken, target == untouched)
    is_right = np.where(importance >= threshold, taken, untouched) == target
    unsure = np.abs(importance - threshold) <= _NOISE * np.abs(second - first).ravel()
    if unsure.mean() <= _MOST_UNSURE:
        is_right |= unsure & ((target == taken) | (target == untouched))
    return int(is_right.sum())


def _threshold(importance: F32, is_taken: Bools, is_untouched: Bools) -> np.float32:
    """The value near that of the rows' outliers that best parts taken words from untouched ones."""
    lower, middle, upper = np.quantile(importance, _QUARTILES, method="lower")
    of_rows = middle + _OUTLIERS * (upper - lower)
    low, high = sorted((of_rows / _REACH, of_rows * _REACH))
    order = np.argsort(importance, kind="stable")
    order = order[(importance[order] >= low) & (importance[order] <= high)]
    if not len(order):
        return np.float32(of_rows)
    # Below the cut words should be untouched, from it on taken.
    wrong = np.concatenate([[0], np.cumsum(~is_untouched[order])])
    wrong = wrong + np.concatenate([np.cumsum(~is_taken[order][::-1])[::-1], [0]])
    # Equal importances stand on one side.
    between = np.concatenate([[True], np.diff(importance[order]) > 0, [True]])
    cut = int(np.argmin(np.where(between, wrong, len(order) + 1)))
    return np.float32(importance[order[cut]] if cut < len(order) else np.nextafter(high, np.inf))


def _importance(params: F32, base: F32, inner: str) -> F32:
    """``|B − A| KL(softmax B ‖ softmax A)`` of every word, rounded after every step."""

    def rounded(values: F32) -> F32:
        return round_to(inner, values)

    p, q = (rounded(rounded(_softmax(one)) + _EPSILON) for one in (params, base))
    terms = rounded(p * rounded(np.log(rounded(p / q))))
    divergence = rounded(terms.sum(axis=-1, keepdims=True))
    return rounded(np.abs(rounded(params - base)) * divergence)


def _softmax(values: F32) -> F32:
    """As torch computes it; by way of logarithms a row would be off by as much as it diverges."""
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _replay(
    method: str,
    pool: Pool,
    child: int,
    pair: tuple[int, int],
    match: float,
    recipe: dict[str, object],
) -> Replay:
    """With the second model's share: least squares of the child's change on the pair's."""
    a, b = pair
    along = square = 0.0
    for values in pool.values:
        change = values[b].astype(np.float64) - values[a]
        along += float(((values[child].astype(np.float64) - values[a]) * change).sum())
        square += float((change**2).sum())
    share = along / square if square else 0.0
    return Replay(
        method,
        (pool.ids[a], pool.ids[b]),
        (1 - share, share),
        match,
        recipe_text(recipe),
        base=pool.ids[a],
    )
