"""Replaying merge recipes exactly, and writing them down.

From the per-tensor coefficients of a :class:`~lineage.infer.merges.Mixture` the recipe is read:
one weight per parent (linear), or a base and weighted differences (task arithmetic, model stock);
merges on the sphere are replayed in :mod:`lineage.infer.replay_sphere`. Published recipes use round
numbers, so round numbers are tried first; whichever recipe reproduces more of the stored words is
kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
import yaml
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.merges import Mixture
from lineage.weights.encodings import TORCH_NAMES, round_to

__all__ = [
    "Replay",
    "n_equal",
    "recipe_text",
    "replay_linear",
    "replay_task_arithmetic",
    "round_weights",
    "unnormalised_weights",
]

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

_REACH = 4
"""Hundredths around a fitted coefficient that are tried."""
_SEARCHED_TENSORS = 6
_PLAUSIBLE = 0.5
_LARGEST_TOTAL = 300
"""Hundredths that the weights of a linear merge add up to at most."""
_N_LIKELY = 16


@dataclass(frozen=True)
class Replay:
    """A recipe and how many of the child's words it reproduces.

    `remark` says in words what cannot be told from it, if anything.
    """

    method: str
    parents: tuple[str, ...]
    weights: tuple[float, ...]
    match: float
    recipe_yaml: str
    base: str | None = None
    remark: str = ""


def replay_linear(
    pool: Pool, child: str, dtype: str, parents: Sequence[str], shares: Sequence[float]
) -> Replay:
    """One weight per parent for the whole model: ``Σ w X / Σ w``, rounded once.

    Weights are searched near the `shares` that a fit gives, adding up to 1 or to anything. The sum
    is taken parent by parent, so the order in which the recipe lists them decides some last bits:
    it is recovered too.
    """
    raw = np.asarray(shares, dtype=np.float64)
    c = pool.ids.index(child)
    p = [pool.ids.index(name) for name in parents]
    asked = [values for values in pool.values if values.ndim == 3 and values.shape[1] > 1]
    asked = asked[:: max(1, len(asked) // _SEARCHED_TENSORS)]

    def replayed(tensors: Sequence[F32], order: Sequence[int], weights: Sequence[float]) -> int:
        return sum(_n_replayed(values, c, order, weights, dtype) for values in tensors)

    searched = max(round_weights(raw), key=lambda weights: replayed(asked, p, weights))
    n_asked, n_words = (sum(v[0].size for v in some) for some in (asked, pool.values))
    likely: list[tuple[float, ...]] = []
    if (
        asked
        and replayed(asked, p, searched) >= _PLAUSIBLE * n_asked
        and replayed(pool.values, p, searched) < n_words
    ):
        likely = sorted(
            unnormalised_weights(raw),
            key=lambda weights: -_n_replayed(asked[0], c, p, weights, dtype),
        )
    tried = (searched, *likely[: _N_LIKELY if len(p) <= 3 else 1])
    # What is left to tell is a word in ten thousand: all are asked.
    listed = max(
        (
            entries
            for weights in tried
            for entries in permutations(zip(parents, p, weights, strict=True))
        ),
        key=lambda entries: replayed(
            pool.values, [at for _, at, _ in entries], [w for *_, w in entries]
        ),
    )
    order, weights = [at for _, at, _ in listed], [weight for *_, weight in listed]
    equal = replayed(pool.values, order, weights)
    recipe = {
        "merge_method": "linear",
        "models": [{"model": name, "parameters": {"weight": weight}} for name, _, weight in listed],
        "dtype": TORCH_NAMES.get(dtype, "float32"),
    }
    return Replay(
        "linear",
        tuple(name for name, *_ in listed),
        tuple(weight / sum(weights) for weight in weights),
        equal / n_words,
        recipe_text(recipe),
    )


def _n_replayed(
    values: F32, child: int, parents: Sequence[int], weights: Sequence[float], dtype: str
) -> int:
    return n_equal(round_to(dtype, _linear(values[parents], weights)), values[child])


def round_weights(raw: F64) -> list[tuple[float, ...]]:
    """Weights in hundredths near the fit, roundest first, then the fit itself.

    Least squares is off by a few hundredths, since where parents differ by one unit in the last
    place rounding gives the whole word to the heavier one; so the neighbourhood is searched.
    """
    reach = range(-_REACH, _REACH + 1) if len(raw) <= 3 else range(-2, 3)
    centre = np.round(raw * 100).astype(int)
    found = []
    for steps in product(reach, repeat=len(raw) - 1):
        first = centre[:-1] + np.array(steps)
        hundredths = (*(int(n) for n in first), 100 - int(first.sum()))
        if min(hundredths) != 0:
            found.append(hundredths)
    found.sort(key=lambda hundredths: -sum((n % 10 == 0) + (n % 5 == 0) for n in hundredths))
    equal = [tuple(1 / len(raw) for _ in raw)]
    close = equal if np.abs(raw - equal[0]).max() < _REACH / 100 else []
    return [
        *close,
        *(tuple(n / 100 for n in hundredths) for hundredths in found),
        tuple(float(weight) for weight in raw),
    ]


def unnormalised_weights(raw: F64) -> list[tuple[float, ...]]:
    """Weights as people write them, not adding up to 1, whose shares are near the fit.

    Roundest first. Equal shares in other sizes are kept: they differ in some last bits.
    """
    found: dict[tuple[int, ...], None] = {}
    for grid in (10, 5, 1):
        for total in range(grid, _LARGEST_TOTAL + 1):
            hundredths = grid * np.round(raw * total / grid).astype(int)
            if hundredths.min() > 0:
                shares = hundredths / hundredths.sum()
                if np.abs(shares - raw).max() <= _REACH / 100:
                    found.setdefault(tuple(map(int, hundredths)))
    return [tuple(n / 100 for n in hundredths) for hundredths in found]


def _linear(parents: F32, weights: Sequence[float]) -> F32:
    """``Σ w X / Σ w`` in float32, each product added unrounded, as processors do by default."""
    total = np.zeros(parents.shape[1:], np.float32)
    for values, weight in zip(parents, weights, strict=True):
        product_ = values.astype(np.float64) * np.float64(np.float32(weight))
        total = (total + product_).astype(np.float32)
    return total / np.float32(np.sum(np.array(weights, np.float32)))


def replay_task_arithmetic(
    pool: Pool, child: str, dtype: str, mixture: Mixture, base: str
) -> Replay | None:
    """A base plus weighted changes (Ilharco et al. 2023), every step rounded to the stored dtype.

    Merge tools do this arithmetic in the merge's own dtype, so it differs from a linear merge of
    the same weights in the last bit of every thirtieth word. None when no parent is left beside
    the base.
    """
    parents = tuple(name for name in mixture.parents if name != base)
    if not parents:
        return None
    sizes = np.array([values[0].size for values in pool.values], dtype=np.float64)
    by_name = dict(zip(mixture.parents, mixture.weights(sizes), strict=True))
    c, b = pool.ids.index(child), pool.ids.index(base)
    p = [pool.ids.index(name) for name in parents]

    some = [values for values in pool.values if values.shape[1] > 1]
    some = some[:: max(1, len(some) // _SEARCHED_TENSORS)]
    centre = [round(100 * by_name[name]) for name in parents]
    reach = _REACH if len(parents) <= 2 else 2
    choices = [range(n - reach, n + reach + 1) for n in centre]
    candidates = sorted(
        product(*choices),
        key=lambda hundredths: -sum((n % 10 == 0) + (n % 5 == 0) for n in hundredths),
    )
    replayed: Counter[tuple[int, ...]] = Counter()
    for values in some:
        weighted = [
            {n: _weighted(values[i] - values[b], n / 100, dtype) for n in choice}
            for i, choice in zip(p, choices, strict=True)
        ]
        for candidate in candidates:
            changes = [by_n[n] for by_n, n in zip(weighted, candidate, strict=True)]
            replayed[candidate] += n_equal(_moved(values[b], changes, dtype), values[c])
    best = max(candidates, key=replayed.__getitem__)
    weights = tuple(n / 100 for n in best)
    equal = 0
    for values in pool.values:
        changes = [
            _weighted(values[i] - values[b], weight, dtype)
            for i, weight in zip(p, weights, strict=True)
        ]
        equal += n_equal(_moved(values[b], changes, dtype), values[c])
    recipe = {
        "merge_method": "task_arithmetic",
        "base_model": base,
        "models": [
            {"model": name, "parameters": {"weight": weight}}
            for name, weight in zip(parents, weights, strict=True)
        ],
        "dtype": TORCH_NAMES.get(dtype, "float32"),
    }
    return Replay(
        "task_arithmetic",
        parents,
        weights,
        equal / float(sizes.sum()),
        recipe_text(recipe),
        base=base,
    )


def _weighted(change: F32, weight: float, dtype: str) -> F32:
    """A change times its weight, as computed in `dtype`."""
    rounded = round_to(dtype, np.array([weight], np.float32))
    return round_to(dtype, rounded * round_to(dtype, change))


def _moved(base: F32, changes: Sequence[F32], dtype: str) -> F32:
    """A base plus weighted changes, as computed in `dtype`."""
    total = np.zeros_like(base)
    for change in changes:
        total += change
    return round_to(dtype, base + round_to(dtype, total))


def n_equal(values: F32, others: F32) -> int:
    """How many words are equal."""
    return int((values == others).sum())


def recipe_text(recipe: Mapping[str, object]) -> str:
    """A recipe as YAML, keys in their order."""
    return yaml.safe_dump(dict(recipe), sort_keys=False)
