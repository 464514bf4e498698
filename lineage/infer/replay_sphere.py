"""Replaying merges on the sphere: SLERP, Karcher mean, NuSLERP, multi-SLERP.

Each function takes the parents that the screen offers and gives the recipe that reproduces most of
the child's stored words, or None where the method does not apply. SLERP has a module of its own,
:mod:`lineage.infer.replay_slerp`. The arithmetic is that of :mod:`lineage.infer.sphere`.

The last three round every step to the number type of the merge, so a recipe is known by its noise:
parameters are found by replaying, those that people write first. Merges in the child's number type
are tried, and merges in float32 that were rounded once at the end.

Norms and angles belong to whole tensors; those of the rows that were read stand in for them. For
NuSLERP that is mended: its cosine is rounded to the number type, and the neighbouring values are
tried. Karcher means and multi-SLERP divide every word by a norm before they round it: recipes are
looked for in tensors that were read whole, where there are any, and those of which only some rows
were read replay in part. The match says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.gradients import BY_CHANCE, Scanned, shortest_list, value_at
from lineage.infer.merges import Mixture
from lineage.infer.replay import (
    Replay,
    n_equal,
    recipe_text,
    round_weights,
    unnormalised_weights,
)
from lineage.infer.replay_slerp import position_of, replay_slerp, t_of
from lineage.infer.sphere import (
    cosine_between,
    karcher_mean,
    multislerp,
    nuslerp,
    nuslerp_cosines,
)
from lineage.weights.encodings import TORCH_NAMES, round_to
from lineage.weights.roles import TensorKey

__all__ = ["SPHERICAL", "replay_karcher", "replay_multislerp", "replay_nuslerp"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_N_PROBES = 3
_LIKELY = 0.5
"""Share of the probed words that a variant must reproduce to be followed."""
_SURE = 0.98
"""Share beyond which no other variant is asked."""
_DIGITS = 9
_SPACING = {"BF16": 2.0**-8, "F16": 2.0**-11, "F32": 2.0**-24, "F64": 2.0**-24}
"""Distance of words just below 1, where cosines lie."""
_NEIGHBOURS = 3
_NEAR_T = 3e-4
_N_FINALISTS = 16
_ANY = 0.3
_MOST_ORDERED = 4
_CONDITION = 1e-10
_UNEQUAL = 0.1
"""How far fitted shares of a merge without weights may be from equal."""
_AXES: Mapping[int | None, dict[str, bool]] = {
    None: {},
    -1: {"nuslerp_flatten": False},
    0: {"nuslerp_flatten": False, "nuslerp_row_wise": True},
}
"""What NuSLERP takes for a vector, and how a recipe says so."""


@dataclass(frozen=True)
class _Merge:
    """Parents of one merge, the base they changed if there is one, and the number type of steps."""

    pool: Pool
    child: str
    parents: tuple[str, ...]
    base: str | None
    dtype: str
    computed_in: str

    @cached_property
    def tensors(self) -> tuple[tuple[int, ...], ...]:
        """Places in the pool of what the child stores as one tensor, of which norms are taken."""
        return self.pool.stored_together(self.child)

    @cached_property
    def keys(self) -> tuple[TensorKey, ...]:
        """The first weight that each tensor holds."""
        return tuple(self.pool.keys[places[0]] for places in self.tensors)

    def _values(self, names: Sequence[str]) -> Iterator[F32]:
        """Values of some models, tensor by tensor: models × rows × columns."""
        models = [self.pool.ids.index(name) for name in names]
        for places in self.tensors:
            parts = [self.pool.values[place][models] for place in places]
            # Vectors are stored end to end, matrices one below the other.
            axis = 2 if all(part.shape[1] == 1 for part in parts) else 1
            yield parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)

    @cached_property
    def words(self) -> tuple[F32, ...]:
        """The child's words, tensor by tensor."""
        return tuple(values[0] for values in self._values([self.child]))

    @cached_property
    def bases(self) -> tuple[F32, ...]:
        """The base as it was loaded; zeros where there is none."""
        if self.base is None:
            return tuple(np.zeros_like(words) for words in self.words)
        return tuple(round_to(self.computed_in, values[0]) for values in self._values([self.base]))

    @cached_property
    def vectors(self) -> tuple[F32, ...]:
        """What is merged, models × rows × columns: parents, or what they changed of the base."""
        loaded = (round_to(self.computed_in, values) for values in self._values(self.parents))
        if self.base is None:
            return tuple(loaded)
        return tuple(
            round_to(self.computed_in, values - base)
            for values, base in zip(loaded, self.bases, strict=True)
        )

    @cached_property
    def n_words(self) -> int:
        return sum(words.size for words in self.words)

    @cached_property
    def probes(self) -> tuple[int, ...]:
        """Numbers of a few matrices for first trials: read whole if any, parents far apart."""
        able = [n for n, words in enumerate(self.words) if len(words) > 1]
        whole = [n for n in able if self.pool.is_whole(self.tensors[n])]

        def apart(number: int) -> float:
            vectors = self.vectors[number]
            return float((vectors[0] != vectors[-1]).mean())

        ranked = sorted(whole or able or range(len(self.words)), key=apart, reverse=True)
        return tuple(ranked[:_N_PROBES])

    @cached_property
    def n_probed(self) -> int:
        """Words of the probes."""
        return sum(self.words[number].size for number in self.probes)

    def fitted(self, number: int) -> F64:
        """Least-squares coefficients of the vectors in one tensor."""
        flat = self.vectors[number].reshape(len(self.parents), -1).astype(np.float64)
        target = (self.words[number] - self.bases[number]).astype(np.float64).ravel()
        if not (np.isfinite(flat).all() and np.isfinite(target).all()):
            return np.full(len(flat), 1 / len(flat))
        # Without a base parents are nearly parallel: fit the first plus differences.
        reduced = np.vstack([flat[:1], flat[1:] - flat[:1]]) if self.base is None else flat
        solved = np.linalg.lstsq(reduced.T, target, rcond=_CONDITION)[0]
        if self.base is None:
            solved[0] -= solved[1:].sum()
        return np.asarray(solved)

    def n_replayed(self, number: int, merged: F32) -> int:
        """Words of one tensor that come out, given what its vectors were merged into."""
        if self.base is not None:
            merged = round_to(self.computed_in, self.bases[number] + merged)
        return n_equal(round_to(self.dtype, merged), self.words[number])

    def replay(
        self,
        method: str,
        shares: Sequence[float],
        entries: Sequence[Mapping[str, object]],
        settings: Mapping[str, object],
        equal: int,
    ) -> Replay:
        """The result, with its recipe."""
        models = [
            {"model": name} | ({"parameters": dict(entry)} if entry else {})
            for name, entry in zip(self.parents, entries, strict=True)
        ]
        out = TORCH_NAMES.get(self.dtype, "float32")
        recipe: dict[str, object] = {"merge_method": method}
        if self.base is not None:
            recipe["base_model"] = self.base
        recipe |= {"models": models} | ({"parameters": dict(settings)} if settings else {})
        recipe["dtype"] = TORCH_NAMES.get(self.computed_in, "float32")
        if self.computed_in != self.dtype:
            recipe["out_dtype"] = out
        return Replay(
            method,
            self.parents,
            tuple(round(float(share), _DIGITS) for share in shares),
            equal / self.n_words,
            recipe_text(recipe),
            base=self.base,
        )


def _merges(
    pool: Pool, child: str, dtype: str, mixture: Mixture, bases: Sequence[str], n_parents: int
) -> Iterator[_Merge]:
    """What may have been merged: without a base first, then on each; at least `n_parents`."""
    for base in (None, *dict.fromkeys((*mixture.parents, *bases))):
        parents = tuple(name for name in mixture.parents if name != base)
        if len(parents) >= n_parents and base != child:
            for computed_in in dict.fromkeys((dtype, "F32")):
                yield _Merge(pool, child, parents, base, dtype, computed_in)


# ---- Karcher mean ----------------------------------------------------------------------------


def replay_karcher(
    pool: Pool, child: str, dtype: str, mixture: Mixture, bases: Sequence[str] = ()
) -> Replay | None:
    """The Karcher mean of all parents, in the order that gives most words; `bases` are not asked.

    Up to four parents all orders are tried, beyond that the given one; iterations and tolerance
    are mergekit's defaults.

    Returns
    -------
    Replay or None
        None where fitted shares are clearly unequal: the method has no weights.
    """
    n_parents = len(mixture.parents)
    tried = []
    for computed_in in dict.fromkeys((dtype, "F32")):
        merge = _Merge(pool, child, mixture.parents, None, dtype, computed_in)
        if np.abs(_direction_shares(merge) - 1 / n_parents).max() > _UNEQUAL:
            return None
        tried.append(merge)
    merge = max(tried, key=lambda one: _n_karcher(one, one.probes))
    if _n_karcher(merge, merge.probes) < _ANY * merge.n_probed:
        return None
    if 2 < n_parents <= _MOST_ORDERED:  # of two parents the sum is the same either way
        orders = [replace(merge, parents=order) for order in permutations(merge.parents)]
        merge = max(orders, key=lambda one: _n_karcher(one, one.probes))
    equal = _n_karcher(merge, range(len(merge.words)))
    shares = [1 / n_parents] * n_parents
    return merge.replay("karcher", shares, [{}] * n_parents, {}, equal)


def _n_karcher(merge: _Merge, numbers: Sequence[int]) -> int:
    return sum(
        merge.n_replayed(number, karcher_mean(merge.vectors[number], merge.computed_in))
        for number in numbers
    )


def _direction_shares(merge: _Merge) -> F64:
    """Weights of the parents' directions, fitted to the probes: coefficients times norms."""
    found = []
    for number in merge.probes:
        vectors = merge.vectors[number].reshape(len(merge.parents), -1).astype(np.float64)
        found.append(merge.fitted(number) * np.linalg.norm(vectors, axis=1))
    total = np.sum(found, axis=0)
    scale = float(total.sum())
    if not np.isfinite(scale) or scale == 0:
        return np.full(len(merge.parents), 1 / len(merge.parents))
    return np.asarray(total / scale)


# ---- NuSLERP ---------------------------------------------------------------------------------


def replay_nuslerp(
    pool: Pool, child: str, dtype: str, mixture: Mixture, bases: Sequence[str] = ()
) -> Replay | None:
    """Interpolation between two parents, or between what they changed of a base.

    A tensor is one vector, or each row or each column is (`nuslerp_flatten`, `nuslerp_row_wise`).
    Weights are constants or gradients over layers; only their ratio t is in the words.

    Parameters
    ----------
    bases
        Asked beside the mixture's own models, where no base reproduces half of the probed words.

    Returns
    -------
    Replay or None
        None where no two parents reproduce half of the probed words.
    """
    best: tuple[float, _NuSlerp, float] | None = None
    for merge in _merges(pool, child, dtype, mixture, bases, 2):
        if len(merge.parents) != 2:
            continue
        if best is not None and best[1].merge.base != merge.base and best[0] >= _LIKELY:
            break
        for axis in _AXES:
            variant = _NuSlerp(merge, axis)
            t, share = variant.probed()
            if best is None or share > best[0]:
                best = share, variant, t
            if share >= _SURE:
                break
    if best is None or best[0] < _LIKELY:
        return None
    return best[1].replay(best[2])


@dataclass(frozen=True)
class _NuSlerp:
    """NuSLERP of two parents along one axis."""

    merge: _Merge
    axis: int | None

    def n_replayed(self, number: int, t: float) -> int:
        """Words of one tensor that come out."""
        x, y = self.merge.vectors[number]
        computed_in = self.merge.computed_in
        return self.merge.n_replayed(number, nuslerp(x, y, t, computed_in, axis=self.axis))

    def n_with_neighbours(self, number: int, t: float) -> int:
        """The same with the cosine next to the sample's that gives most words."""
        best = self.n_replayed(number, t)
        x, y = self.merge.vectors[number]
        if best == x.size or (self.axis is not None and len(x) > 1):
            return best
        computed_in = self.merge.computed_in
        cosine = nuslerp_cosines(x, y, computed_in, self.axis)
        step = np.float32(_SPACING[computed_in])
        for n in range(-_NEIGHBOURS, _NEIGHBOURS + 1):
            near = np.clip(
                round_to(computed_in, cosine + np.float32(n) * step), np.float32(-1), np.float32(1)
            )
            merged = nuslerp(x, y, t, computed_in, axis=self.axis, cosine=near)
            best = max(best, self.merge.n_replayed(number, merged))
        return best

    def probed(self) -> tuple[float, float]:
        """About which t lies, and the share of the probes' words that hundredths give."""
        merge = self.merge
        best, found = 0, []
        for number in merge.probes:  # each for itself: t may vary over the layers
            fit = t_of(merge.fitted(number), cosine_between(*merge.vectors[number]))
            tried = [n / 100 for n in range(round(100 * fit) - 6, round(100 * fit) + 7)]
            counts = [self.n_replayed(number, t) for t in tried]
            best += max(counts)
            found.append(tried[int(np.argmax(counts))])
        return float(np.median(found)), best / merge.n_probed

    def replay(self, near: float) -> Replay:
        """The recipe whose t lies near a value."""
        everywhere = range(len(self.merge.words))
        weights, lost = self._weights(near)
        anchors: tuple[float, ...] = (weights[1] / sum(weights),)
        if lost > BY_CHANCE:
            varying = self._gradient(near)
            if len(varying) > 1:
                anchors = varying
        n_layers = 1 + max(key.layer for key in self.merge.keys)
        t = [value_at(anchors, position_of(key.layer, n_layers)) for key in self.merge.keys]
        equal = sum(self.n_with_neighbours(number, t[number]) for number in everywhere)
        sizes = np.array([words.size for words in self.merge.words], dtype=np.float64)
        share = float((np.array(t) * sizes).sum() / sizes.sum())
        listed: tuple[object, object] = weights
        if len(anchors) > 1:
            listed = [round(1 - anchor, _DIGITS) for anchor in anchors], list(anchors)
        entries = [{"weight": weight} for weight in listed]
        return self.merge.replay("nuslerp", (1 - share, share), entries, _AXES[self.axis], equal)

    def _weights(self, near: float) -> tuple[tuple[float, float], int]:
        """Two round weights for all layers, and the words of the probes that do not come out."""
        probes = self.merge.probes

        def count(t: float) -> int:
            return sum(self.n_replayed(number, t) for number in probes)

        (t, *_), _ = shortest_list([(0.0, Scanned(count, near))])
        tried: list[tuple[float, float]] = [(round(1 - t, _DIGITS), t)]
        if count(t) < self.merge.n_probed:
            tried += [
                (first, second)
                for first, second in unnormalised_weights(np.array([1 - t, t]))
                if abs(second / (first + second) - t) < _NEAR_T
            ]
        counts = [count(second / (first + second)) for first, second in tried]
        best = int(np.argmax(counts))
        return tried[best], self.merge.n_probed - counts[best]

    def _gradient(self, near: float) -> tuple[float, ...]:
        """Anchors of t over the layers."""
        keys = self.merge.keys
        n_layers = 1 + max(key.layer for key in keys)
        asked = []
        for layer in sorted({key.layer for key in keys}):
            numbers = [n for n, key in enumerate(keys) if key.layer == layer]

            def count(t: float, numbers: Sequence[int] = tuple(numbers)) -> int:
                return sum(self.n_replayed(number, t) for number in numbers)

            asked.append((position_of(layer, n_layers), Scanned(count, self._start(numbers, near))))
        return shortest_list(asked)[0]

    def _start(self, numbers: Sequence[int], near: float) -> float:
        """Where the search for a layer's t begins: at the fit of its matrices."""
        matrices = [n for n in numbers if len(self.merge.words[n]) > 1]
        fits = [
            t_of(self.merge.fitted(n), cosine_between(*self.merge.vectors[n])) for n in matrices
        ]
        return float(np.median(fits)) if fits else near


# ---- multi-SLERP -----------------------------------------------------------------------------


def replay_multislerp(
    pool: Pool, child: str, dtype: str, mixture: Mixture, bases: Sequence[str] = ()
) -> Replay | None:
    """Weighted mean direction of any number of parents, or of what they changed of a base.

    Parameters
    ----------
    bases
        Asked beside the mixture's own models, where no base reproduces half of the probed words.

    Returns
    -------
    Replay or None
        None where nothing reproduces half of the probed words.
    """
    best: tuple[float, _Merge, tuple[float, ...]] | None = None
    for merge in _merges(pool, child, dtype, mixture, bases, 2):
        if best is not None and best[1].base != merge.base and best[0] >= _LIKELY:
            break
        weights, share = _multislerp_weights(merge)
        if best is None or share > best[0]:
            best = share, merge, weights
    if best is None or best[0] < _LIKELY:
        return None
    _, merge, weights = best
    equal = _n_multislerp(merge, weights, range(len(merge.words)))
    shares = [weight / sum(weights) for weight in weights]
    return merge.replay("multislerp", shares, [{"weight": w} for w in weights], {}, equal)


def _multislerp_weights(merge: _Merge) -> tuple[tuple[float, ...], float]:
    """The roundest weights that give most words of the probes, and the share they give."""
    raw = _direction_shares(merge)
    tried = list(dict.fromkeys((*round_weights(raw), *unnormalised_weights(raw))))
    first = sorted(tried, key=lambda weights: -_n_multislerp(merge, weights, merge.probes[:1]))
    finalists = first[:_N_FINALISTS]
    counts = [_n_multislerp(merge, weights, merge.probes) for weights in finalists]
    best = int(np.argmax(counts))
    return finalists[best], counts[best] / merge.n_probed


def _n_multislerp(merge: _Merge, weights: Sequence[float], numbers: Sequence[int]) -> int:
    return sum(
        merge.n_replayed(number, multislerp(merge.vectors[number], weights, merge.computed_in))
        for number in numbers
    )


SPHERICAL: tuple[Callable[[Pool, str, str, Mixture, Sequence[str]], Replay | None], ...] = (
    replay_slerp,
    replay_karcher,
    replay_nuslerp,
    replay_multislerp,
)
"""All replays on the sphere, the simplest recipe first."""
