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
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lineage.infer.token_rows import row_places
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey

__all__ = ["PARALLEL", "Carried", "Inheritance", "Pool", "make_pool"]

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

PARALLEL = 1.2
"""Whole over whitened share from which a change is shared by parallel training, not inherited."""
_PARALLEL_SHARE = 0.2
_PARALLEL_ERROR = 0.1
_LEAST_EXCESS = 0.1
_EXCESS_ERRORS = 5.0
"""Least whitened share either way, largest error of it, least difference from the whole share, also
in errors. On training and validation families 109 of 110 models so told are told rightly (on 61
steps), and between shares of .1 and .2 another 64 of 65."""
_FEED_FORWARD = frozenset({"gate", "up", "down"})
_COARSE = frozenset({"BF16", "F16"})
_FINENESS = ("BF16", "F16", "F32")
_EMBEDDING = "embed"
_REMOVED_SHARE = 1 / 2
"""Of singular directions, where many changes are fitted at once."""
_REMOVED_OF_ONE = 0.7
"""The same where a single change is followed: what is left is nearly free of shared text."""
_MIN_SIDE = 12
_LEAST_TRACE = 1e-6
_N_BOOTSTRAP = 200


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
        whitened, whole = [], []
        for values in self.values:
            if min(values.shape[1:]) < _MIN_SIDE:
                continue
            change = values.astype(np.float64) - values[r].astype(np.float64)
            instrument = _high_pass(change[x : x + 1], _REMOVED_OF_ONE)[0]
            whitened.append(np.tensordot(change, instrument, axes=2))
            whole.append(np.tensordot(change, change[x], axes=2))
        empty = np.zeros((0, len(self.ids)))
        return Carried(
            self.ids,
            ancestor,
            np.stack(whitened) if whitened else empty,
            np.stack(whole) if whole else empty,
            float(self.squared_distance[x, r]),
        )


@dataclass(frozen=True)
class Carried:
    """Inner products of one change with those of all models.

    Attributes
    ----------
    products
        ``⟨hp(X−R), C−R⟩`` per matrix: matrices × C.
    whole
        ``⟨X−R, C−R⟩`` per matrix: matrices × C.
    moved
        ``‖X−R‖²`` over all tensors.
    """

    ids: tuple[str, ...]
    ancestor: str
    products: F64
    whole: F64
    moved: float

    def share(self, child: str) -> tuple[float, float]:
        """``β(C|X)`` and its standard error, from its scatter over matrices (a ratio estimate's).

        NaN if X changed nothing, or nothing but the directions that are removed: an adapter merged
        in full precision leaves no more.
        """
        x, c, own = self.ids.index(self.ancestor), self.ids.index(child), self.own
        if own <= _LEAST_TRACE * self.moved:
            return float("nan"), float("inf")
        beta = float(self.products[:, c].sum()) / own
        n_matrices = len(self.products)
        if n_matrices < 2:
            return beta, float("inf")
        left = self.products[:, c] - beta * self.products[:, x]
        return beta, float(np.sqrt(n_matrices / (n_matrices - 1) * (left**2).sum())) / own

    @property
    def own(self) -> float:
        """``⟨hp(X−R), X−R⟩``: how far X is from the reference, whitened."""
        return float(self.products[:, self.ids.index(self.ancestor)].sum())

    def whole_share(self, child: str) -> float:
        """The same coefficient with nothing removed; NaN if X changed nothing."""
        x, c = self.ids.index(self.ancestor), self.ids.index(child)
        own = float(self.whole[:, x].sum())
        return float(self.whole[:, c].sum()) / own if own > 0 else float("nan")

    def parallel(self, passed_over: Collection[str] = ()) -> Parallel:
        """How many other models moved in parallel with X, seen from R, and with R, seen from X.

        Parallel training has a common starting point. Seen from there, a model C that moved as X
        did carries a part of its change, and more of it in leading directions than beyond. Seen
        from X as the root it is R that C moved with: from both ends that is one statement, since
        ``β(C|R from X) = 1 − β(C|X from R)``, with and without leading directions. So the end with
        which C moved is the younger. Shares near 0 and 1 do not tell: what a step takes back of the
        one before lies in leading directions, too, and so does what wears off.

        Parameters
        ----------
        passed_over
            Models that are not asked: a merge that kept only its parents' largest changes has more
            of them in leading directions, whatever the parents were trained on.
        """
        with_x = with_r = 0
        for name in self.ids:
            if name in passed_over:
                continue
            beta, error = self.share(name)
            excess = self.whole_share(name) - beta
            sure = error <= _PARALLEL_ERROR and abs(excess) >= max(
                _LEAST_EXCESS, _EXCESS_ERRORS * error
            )
            if sure and _PARALLEL_SHARE <= beta <= 1 - _PARALLEL_SHARE:
                with_x += excess > 0
                with_r += excess < 0
        return Parallel(with_x, with_r)


@dataclass(frozen=True, slots=True)
class Parallel:
    """Models that moved in parallel with the one end of a step, and with the other."""

    with_child: int
    with_parent: int

    @property
    def balance(self) -> float:
        """From −1 (all with the parent, which then is the younger) to 1; 0 where there are none."""
        total = self.with_child + self.with_parent
        return (self.with_child - self.with_parent) / total if total else 0.0


@dataclass(frozen=True)
class Inheritance:
    """Instrumented products of one family seen from one reference.

    Attributes
    ----------
    products
        ``⟨hp(X−R), C−R⟩`` per matrix: matrices × X × C.
    """

    ids: tuple[str, ...]
    reference: str
    products: F64

    @cached_property
    def own(self) -> F64:
        """``⟨hp(X−R), X−R⟩`` of every model: how far it is from the reference, whitened."""
        return np.einsum("txx->x", self.products) if len(self.products) else np.zeros(len(self.ids))

    @cached_property
    def beta(self) -> F64:
        """``β[c, x]``: share of X's change from the reference that C carries; NaN if X has none."""
        total = self.products.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            beta: F64 = total.T / self.own[None, :]
        beta[:, self.own <= 0] = np.nan
        return beta

    def shares(self, child: str, relatives: Sequence[str]) -> tuple[F64, F64]:
        """Joint coefficients of `relatives` in `child`, and their standard errors.

        Solves ``(ZᵀD) β = Zᵀ(C−R)`` summed over matrices; errors by bootstrap over matrices.
        """
        c = self.ids.index(child)
        x = [self.ids.index(name) for name in relatives]
        if not x:
            return np.zeros(0), np.zeros(0)
        square = self.products[:, x][:, :, x]
        target = self.products[:, x, c]
        rng = np.random.default_rng(0)
        n_matrices = len(self.products)
        weights = rng.multinomial(n_matrices, np.full(n_matrices, 1 / n_matrices), _N_BOOTSTRAP)
        draws = [
            np.linalg.lstsq(
                np.tensordot(w, square, axes=1), np.tensordot(w, target, axes=1), rcond=1e-10
            )[0]
            for w in weights.astype(np.float64)
        ]
        solved = np.linalg.lstsq(square.sum(axis=0), target.sum(axis=0), rcond=1e-10)[0]
        return solved, np.std(draws, axis=0, ddof=1)

    def explained(self, child: str, relatives: Sequence[str], shares: Sequence[float]) -> float:
        """Share of the child's own whitened change that these shares of relatives make up.

        Near 1 for sums of relatives, however weighted; what is trimmed, dropped at random or
        trained afterwards lowers it. Siblings trained on one text explain half of each other at
        most: two thirds of what they share was taken out with the leading directions.
        """
        c = self.ids.index(child)
        own = float(self.own[c])
        if own <= 0:
            return float("nan")
        x = [self.ids.index(name) for name in relatives]
        return float(self.products[:, x, c].sum(axis=0) @ np.asarray(shares, np.float64)) / own


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
