"""The geometry of one family: changes, their inner products, and what is inherited.

A *pool* holds the sampled values of models of one shape, aligned. Two kinds of inner products
answer different questions:

*Raw* products give distances, the arrow of an edge ``⟨C−P, P⟩/‖C−P‖²``, and least squares.

*Instrumented* products ``⟨hp(X−R), C−R⟩`` tell descent from convergence. ``hp`` removes the leading
half of the singular directions of every matrix: models trained on the same text move together in
few directions, whereas what a descendant inherits from an ancestor, rounding noise included, is
all of it. So ``β(C|X) = ⟨hp(X−R), C−R⟩ / ⟨hp(X−R), X−R⟩`` is 1 when X lies on the path from the
reference R to C, less than 1 when it does not, near 0 for strangers inside the family.

How ``β`` depends on what is removed tells the two apart once more. Over the whole change a relative
that moved in parallel scores high and loses share as leading directions are taken out; a descendant
keeps what it inherited, and where later training wore something off, it was in those directions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lineage.infer.inheritance import Carried, Inheritance
from lineage.infer.token_rows import row_places
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey

__all__ = ["Pool", "make_pool"]

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

_FEED_FORWARD = frozenset({"gate", "up", "down"})
_COARSE = frozenset({"BF16", "F16"})
_FINENESS = ("BF16", "F16", "F32")
_EMBEDDING = "embed"
_REMOVED_SHARE = 1 / 2
"""Of singular directions, where many changes are fitted at once."""
_REMOVED_OF_ONE = 0.7
"""The same where a single change is followed: what is left is nearly free of shared text."""
_MIN_SIDE = 12


@dataclass(frozen=True)
class Pool:
    """Aligned sampled values of models of one shape.

    Attributes
    ----------
    ids
        Models, in the order of the first axis of every array.
    keys
        Tensors that all models share.
    values
        One array a tensor: models × rows × columns.
    dtypes
        Number type that each model is stored in; empty where nobody asks.
    n_words
        Words of each whole tensor, of which `values` may hold some rows; 0 where models differ in
        it, empty where nobody asks.
    stored_as
        Names of the tensors that models keep each of `keys` in, one a model: several weights may
        be stored as one tensor. Empty where nobody asks.
    """

    ids: tuple[str, ...]
    keys: tuple[TensorKey, ...]
    values: tuple[F32, ...]
    dtypes: tuple[str, ...] = ()
    n_words: tuple[int, ...] = ()
    stored_as: tuple[tuple[str, ...], ...] = ()

    def stored_together(self, model: str) -> tuple[tuple[int, ...], ...]:
        """Places of `keys`, those together that a model keeps in one tensor; each alone if unknown.

        Fused queries, keys and values, gates and ups, stacked experts: whoever takes a norm of a
        stored tensor takes it of all of them. Parts of unequal width stay alone.
        """
        m = self.ids.index(model)
        groups: dict[tuple[object, ...], list[int]] = {}
        for n, values in enumerate(self.values):
            name = (self.stored_as[n][m], values.shape[2]) if self.stored_as else (n,)
            groups.setdefault(name, []).append(n)
        return tuple(map(tuple, groups.values()))

    def is_whole(self, places: Sequence[int]) -> bool:
        """Whether all words of the tensors at some `places` were read; True where nobody asks."""
        n_read = sum(self.values[place][0].size for place in places)
        return not self.n_words or sum(self.n_words[place] for place in places) == n_read

    def read_whole(self, model: str) -> Pool:
        """The tensors of which all rows were read, as a model stores them."""
        kept = sorted(
            place
            for places in self.stored_together(model)
            if self.is_whole(places)
            for place in places
        )
        return Pool(
            self.ids,
            tuple(self.keys[place] for place in kept),
            tuple(self.values[place] for place in kept),
            self.dtypes,
            tuple(self.n_words[place] for place in kept) if self.n_words else (),
            tuple(self.stored_as[place] for place in kept) if self.stored_as else (),
        )

    def common_grid(self, a: str, b: str) -> str:
        """The coarse number type that two models were rounded to; F32 where they share none."""
        named = {self.dtypes[self.ids.index(name)] for name in (a, b)} if self.dtypes else set()
        coarse = named & _COARSE
        return coarse.pop() if len(coarse) == 1 else "F32"

    def finer(self, a: str, b: str) -> str | None:
        """That of two models whose number type tells more neighbouring values apart, or None."""
        if not self.dtypes:
            return None
        kinds = {name: self.dtypes[self.ids.index(name)] for name in (a, b)}
        if not all(kind in _FINENESS for kind in kinds.values()) or kinds[a] == kinds[b]:
            return None
        return max(kinds, key=lambda name: _FINENESS.index(kinds[name]))

    def coarsest(self, *names: str) -> str:
        """The number type of some models that tells fewest neighbouring values apart, or F32."""
        kinds = {self.dtypes[self.ids.index(name)] for name in names} if self.dtypes else set()
        return next((kind for kind in _FINENESS if kind in kinds), "F32")

    @cached_property
    def gram(self) -> F64:
        """Raw inner products per tensor: tensors × models × models, float64."""
        return np.stack([_gram(values) for values in self.values])

    @cached_property
    def squared_distance(self) -> F64:
        """``‖X−Y‖²`` over all tensors, models × models."""
        gram = self.gram.sum(axis=0)
        square = np.diag(gram)
        return np.asarray(np.maximum(square[:, None] + square[None, :] - 2 * gram, 0.0))

    @cached_property
    def arrow(self) -> F64:
        """``a[c, p] = ⟨C−P, P⟩/‖C−P‖²``; NaN where two models are equal."""
        gram = self.gram.sum(axis=0)
        square = np.diag(gram)
        with np.errstate(divide="ignore", invalid="ignore"):
            arrow: F64 = (gram - square[None, :]) / self.squared_distance
        arrow[self.squared_distance == 0] = np.nan
        return arrow

    @cached_property
    def arrow_error(self) -> F64:
        """Standard error of `arrow`, from its scatter over tensors (a ratio estimate's).

        Steps of training lie in few directions, so counting words would understate it.
        """
        gram = self.gram
        n_tensors = len(gram)
        square = np.einsum("tii->ti", gram)
        along = gram - square[:, None, :]
        moved = square[:, :, None] + square[:, None, :] - 2 * gram
        with np.errstate(divide="ignore", invalid="ignore"):
            scatter = ((along - self.arrow * moved) ** 2).sum(axis=0)
            return np.asarray(
                np.sqrt(n_tensors / max(1, n_tensors - 1) * scatter) / self.squared_distance
            )

    def feed_forward_arrow(self, child: str, parent: str) -> tuple[float, float]:
        """The arrow of feed-forward matrices alone, and its standard error over matrices.

        Attention outputs and values shrink under training as often as they grow, and hide it.
        Layouts without feed-forward matrices are asked for all their tensors. NaN where nothing
        differs.
        """
        c, p = self.ids.index(child), self.ids.index(parent)
        asked = [i for i, key in enumerate(self.keys) if key.role in self._arrow_roles]
        both, after, before = (self.gram[asked, i, j] for i, j in ((c, p), (c, c), (p, p)))
        along = both - before
        moved = after + before - 2 * both
        total = float(moved.sum())
        if not total > 0:
            return float("nan"), float("nan")
        arrow = float(along.sum()) / total
        scatter = float(((along - arrow * moved) ** 2).sum())
        return arrow, math.sqrt(len(asked) / max(1, len(asked) - 1) * scatter) / total

    def embedding_growth(self, child: str, parent: str) -> float:
        """Cosine of an embedding's step with the mean of where it began and where it ended.

        It is ``(‖C‖² − ‖P‖²) / (‖C−P‖·‖C+P‖)`` over the rows of tokens, which training carries away
        from the origin; 0 where nothing differs or no embedding is shared. Swapping the two
        changes the sign.
        """
        c, p = self.ids.index(child), self.ids.index(parent)
        asked = [i for i, key in enumerate(self.keys) if key.role == _EMBEDDING]
        after, before, both = (
            float(self.gram[asked, a, b].sum()) for a, b in ((c, c), (p, p), (c, p))
        )
        lengths = max(0.0, after + before - 2 * both) * max(0.0, after + before + 2 * both)
        return (after - before) / math.sqrt(lengths) if 0 < lengths < math.inf else 0.0

    def growth(self, child: str, parent: str) -> float:
        """How clearly feed-forward matrices grew from `parent` to `child`, from −1 to 1.

        With δ the change and hp(·) removing the leading half of its singular directions, a matrix
        of n values grew by ``x = 2⟨hp(δ), P⟩ + ⟨hp(δ), δ⟩``, and ``s = 2‖hp(δ)‖·‖P‖/√n`` is what a
        random direction would give; it counts ``x/√(x²+s²)``. Training adds what is orthogonal to
        where it started or goes on along it; in leading directions it may as well take back what
        came before, and attention outputs and values shrink as often as they grow. Layouts without
        feed-forward matrices are asked for all their matrices. Swapping the two changes the sign.
        """
        c, p = self.ids.index(child), self.ids.index(parent)
        told = []
        for key, values in zip(self.keys, self.values, strict=True):
            if min(values.shape[1:]) < _MIN_SIDE or key.role not in self._arrow_roles:
                continue
            after, before = values[[c, p]].astype(np.float64)
            change = after - before
            kept = _high_pass(change[None], _REMOVED_SHARE)[0]
            grew = float((kept * (after + before)).sum())
            size = float(np.linalg.norm(after) * np.linalg.norm(before)) / before.size
            chance = 2 * float(np.linalg.norm(kept)) * float(np.sqrt(size))
            if np.isfinite(grew) and np.isfinite(chance):
                told.append(grew / np.hypot(grew, chance) if grew else 0.0)
        return float(np.mean(told)) if told else 0.0

    @cached_property
    def _arrow_roles(self) -> frozenset[str]:
        roles = frozenset(key.role for key in self.keys)
        return roles & _FEED_FORWARD or roles

    def inherited_words(self, child: str, ancestor: str, reference: str) -> tuple[int, int]:
        """Words that `ancestor` changed since `reference`: kept by `child`, and back as they were.

        Stored words are discrete characters: a descendant keeps its ancestor's unless it changed
        them itself, whereas a relative that moved in parallel seldom lands on the same word.
        """
        c, x, r = (self.ids.index(name) for name in (child, ancestor, reference))
        kept = reverted = 0
        for values in self.values:
            changed = values[x] != values[r]
            kept += int((changed & (values[c] == values[x])).sum())
            reverted += int((changed & (values[c] == values[r])).sum())
        return kept, reverted

    def instrumented(self, reference: str) -> Inheritance:
        """Inheritance coefficients with paths leading from `reference`."""
        r = self.ids.index(reference)
        products = []
        for values in self.values:
            if min(values.shape[1:]) < _MIN_SIDE:
                continue
            change = values.astype(np.float64) - values[r].astype(np.float64)
            instruments = _high_pass(change, _REMOVED_SHARE).reshape(len(self.ids), -1)
            products.append(instruments @ change.reshape(len(self.ids), -1).T)
        stacked = np.stack(products) if products else np.zeros((0, len(self.ids), len(self.ids)))
        return Inheritance(self.ids, reference, stacked)

    def carried(self, reference: str, ancestor: str) -> Carried:
        """How much of what `ancestor` changed since `reference` every model carries."""
        r, x = self.ids.index(reference), self.ids.index(ancestor)
        whitened, whole, lengths = [], [], np.zeros(len(self.ids))
        for values in self.values:
            if min(values.shape[1:]) < _MIN_SIDE:
                continue
            change = values.astype(np.float64) - values[r].astype(np.float64)
            instrument = _high_pass(change[x : x + 1], _REMOVED_OF_ONE)[0]
            whitened.append(np.tensordot(change, instrument, axes=2))
            whole.append(np.tensordot(change, change[x], axes=2))
            lengths += np.einsum("mrc,mrc->m", change, change)
        empty = np.zeros((0, len(self.ids)))
        return Carried(
            self.ids,
            ancestor,
            np.stack(whitened) if whitened else empty,
            np.stack(whole) if whole else empty,
            lengths,
            float(self.squared_distance[x, r]),
        )


def make_pool(fingerprints: Sequence[Fingerprint]) -> Pool:
    """Align fingerprints on the tensors and rows that all of them share.

    Rows of token matrices are aligned by token where vocabularies number them differently; such
    matrices are left out if a model's vocabulary is not known.

    Raises
    ------
    ValueError
        If nothing is shared.
    """
    keys, arrays, n_words, stored_as = [], [], [], []
    shared = set.intersection(*(set(f.samples) for f in fingerprints)) if fingerprints else set()
    for key in sorted(shared):
        samples = [f.samples[key] for f in fingerprints]
        if len({sample.shape[1:] for sample in samples}) > 1:
            continue
        places = row_places(fingerprints, key)
        if places is None or not len(places[0]):
            continue
        stack = [
            sample.values if _is_everything(place, sample) else sample.values[place]
            for sample, place in zip(samples, places, strict=True)
        ]
        if len({values.shape for values in stack}) > 1:
            continue
        keys.append(key)
        arrays.append(np.stack(stack))
        whole = {math.prod(sample.shape) for sample in samples}
        n_words.append(whole.pop() if len(whole) == 1 else 0)
        stored_as.append(tuple(sample.name for sample in samples))
    if not keys:
        raise ValueError("these fingerprints share no tensor")
    ids = tuple(f.repo_id for f in fingerprints)
    dtypes = tuple(f.dtype for f in fingerprints)
    return Pool(ids, tuple(keys), tuple(arrays), dtypes, tuple(n_words), tuple(stored_as))


def _is_everything(place: NDArray[np.intp], sample: Sample) -> bool:
    return np.array_equal(place, np.arange(len(sample.rows)))


def _gram(values: F32) -> F64:
    flat = values.reshape(len(values), -1).astype(np.float64)
    return np.asarray(flat @ flat.T)


def _high_pass(change: F64, removed: float) -> F64:
    """Remove a share of the leading singular directions of each matrix (models × r × c)."""
    rows, columns = change.shape[1:]
    if rows > columns:
        return np.swapaxes(_high_pass(np.swapaxes(change, 1, 2), removed), 1, 2)
    n_removed = min(int(np.ceil(removed * rows)), rows - 1)
    _, directions = np.linalg.eigh(change @ np.swapaxes(change, 1, 2))
    leading = directions[:, :, rows - n_removed :]
    return np.asarray(change - leading @ (np.swapaxes(leading, 1, 2) @ change))
