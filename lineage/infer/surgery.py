"""Changes that no gradient step makes: low ranks (merged adapters) and removed directions.

*Low rank.* A merged adapter leaves ``δ = s·B·A`` and the rounding of the sum. Singular values above
what rounding makes are counted by the threshold of Gavish and Donoho [1]_; the rank is where they
fall by a factor of two or more down to that noise. Without such a fall the change may be of low
rank all the same, but which is not said.

*Removed directions.* Abliteration projects a direction ``r`` out of every matrix that writes into
the residual stream: ``δ = −λ·r·rᵀW``, usually with λ = 1 [2]_. So all writers change along one and
the same ``r``, and what is left of them along it is ``1−λ`` times what was there. Training changes
each writer along directions of its own, and never by just what was there.

References
----------
.. [1] Gavish & Donoho, "The optimal hard threshold for singular values is 4/√3", IEEE Trans. Inf.
   Theory 60 (2014), equation 11.
.. [2] Arditi et al., "Refusal in language models is mediated by a single direction", NeurIPS 2024,
   equation 5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.weights.fingerprint import Sample
from lineage.weights.roles import TensorKey

__all__ = [
    "LowRank",
    "RemovedDirections",
    "Step",
    "low_rank",
    "numerical_rank",
    "removed_directions",
]

F64 = NDArray[np.float64]

_MIN_SIDE = 12
_GAP = 2.0
"""Least ratio of neighbouring singular values that tells a rank."""
_CLIFF = 4.0
"""The same where more than matrices of the layers changed, as it does in all full training."""
_NOISE_REACH = 1.5
"""How far rounding noise may stand above its edge: it is neither Gaussian nor even."""
_EXACT = 1e-6
"""Relative size of singular values that float32 arithmetic alone makes."""
_AGREEING = 0.8
_WRITERS = ("o", "down")
_TOKENS = ("embed", "head")
"""Where few tokens occurred in training few rows change: a low rank that no adapter made."""
_MANTISSA_BITS = {"BF16": 7, "F16": 10, "F32": 23}
_MAX_DIRECTIONS = 8
_LEAST_REMOVED = 0.25
"""Share of a direction whose removal is told from a shrinkage of all weights."""
_OPPOSED = -0.95
"""Cosine between what changed along a direction and what was there."""
_ONE_DIRECTION = 0.8
_LEAST_THERE = 0.5
"""Half way between the parent of a direction wholly removed, which had it, and its child."""
_LEAST_SHARE = 0.05
_LEAST_WRITERS = 2


@dataclass(frozen=True, slots=True)
class Step:
    """One tensor before and after, on the rows that both models hold.

    `before` and `after` are rows × columns as stored, float64.
    """

    sample: Sample
    before: F64
    after: F64

    @property
    def delta(self) -> F64:
        """The change."""
        return self.after - self.before

    @property
    def is_complete(self) -> bool:
        """Whether every output unit is at hand."""
        shape = self.sample.shape
        return self.sample.transposed or len(self.before) == shape[0]

    def along_outputs(self, values: F64) -> F64:
        """`values` with one output unit a row."""
        return values.T if self.sample.transposed else values


@dataclass(frozen=True, slots=True)
class LowRank:
    """A change of low rank.

    Attributes
    ----------
    rank
        The commonest rank; None where no spectrum falls clearly.
    by_module
        Rank by role of the changed matrices, in order of the roles; None as for `rank`.
    saved
        Roles that were trained as a whole beside them (embeddings, gains).
    n_matrices
        Matrices of low rank.
    """

    rank: int | None
    by_module: Mapping[str, int | None]
    saved: tuple[str, ...]
    n_matrices: int


def low_rank(steps: Mapping[TensorKey, Step]) -> LowRank | None:
    """The rank of a change, if every changed matrix of the layers is of low rank.

    A small change of full rank shows no more than its few strongest directions above the rounding,
    so a low count alone says little: the spectra must fall to noise at one rank in all matrices of
    a module, or the change must spare embeddings, gains and some module altogether.

    Parameters
    ----------
    steps
        All tensors of the model, changed or not.

    Returns
    -------
    LowRank or None
        None when a matrix large enough to tell has full rank, or nothing in a layer changed. A
        matrix whose shorter side is less than twice the rank of the others tells nothing.
    """
    touched = {key: step for key, step in steps.items() if np.any(step.delta)}
    found: dict[TensorKey, _Spectrum] = {}
    for key, step in touched.items():
        is_matrix = len(step.sample.shape) > 1 and min(step.before.shape) >= _MIN_SIDE
        if not is_matrix or key.role in _TOKENS:
            continue
        spectrum = _spectrum(step.delta, _rounding(step))
        # A matrix beside the layers may be a target too; trained whole, it tells nothing of them.
        if key.layer >= 0 or spectrum.rank is not None:
            found[key] = spectrum
    low = {key: one for key, one in found.items() if 1 <= one.n_above <= one.side / 2}
    if len(low) < max(1, _AGREEING * len(found)) and not _are_too_small(found, low):
        return None
    by_module = {role: _rank_of_role(role, low) for role in sorted({key.role for key in found})}
    saved = tuple(sorted({key.role for key in touched} - by_module.keys()))
    least_fall = _CLIFF if saved else _GAP
    n_agreeing = sum(
        one.fall >= least_fall and one.could_be(by_module[key.role]) for key, one in low.items()
    )
    is_clear = n_agreeing >= max(1, _AGREEING * len(low))
    if not is_clear and (saved or not n_agreeing or not _spares_a_module(by_module, steps)):
        return None
    ranks = [one.rank for one in low.values() if one.rank is not None]
    return LowRank(_commonest(ranks, len(low)), by_module, saved, len(low))


def _spares_a_module(changed: Mapping[str, int | None], steps: Mapping[TensorKey, Step]) -> bool:
    """Whether no matrix of some role changed in any layer, as where adapters have targets."""
    roles = {key.role for key, s in steps.items() if key.layer >= 0 and len(s.sample.shape) > 1}
    return not roles <= changed.keys()


def _are_too_small(
    found: Mapping[TensorKey, _Spectrum], low: Mapping[TensorKey, _Spectrum]
) -> bool:
    """Whether all matrices of full rank are too small to show the rank that the others have."""
    ranks = [one.rank for one in low.values() if one.rank is not None]
    if not ranks or len(ranks) < _AGREEING * len(low):
        return False
    return all(one.side < 2 * max(ranks) for key, one in found.items() if key not in low)


def _rank_of_role(role: str, low: Mapping[TensorKey, _Spectrum]) -> int | None:
    ranks = [one.rank for key, one in low.items() if key.role == role]
    return _commonest([rank for rank in ranks if rank is not None], len(ranks))


def _commonest(ranks: Sequence[int], n: int) -> int | None:
    """The rank that most of `n` matrices have; the larger one of two, since small ones hide."""
    if not ranks or 2 * len(ranks) < n:
        return None
    values, counts = np.unique(ranks, return_counts=True)
    return int(values[counts == counts.max()].max())


def numerical_rank(delta: F64, noise_rms: float) -> int:
    """How many singular values noise cannot make: those above ``λ(β)·√n·rms``.

    Parameters
    ----------
    delta
        A change, rows × columns; n is its longer side, β the ratio of the shorter to it.
    noise_rms
        Root mean square of the independent noise on its entries.
    """
    return _spectrum(delta, noise_rms).n_above


@dataclass(frozen=True, slots=True)
class _Spectrum:
    """How the singular values of a change end.

    Attributes
    ----------
    n_above
        How many stand above noise.
    rank
        The last place where a value is at least twice the next one, and that one no more than
        noise; None if there is none.
    fall
        The ratio there; 0 without one.
    side
        The shorter side of the matrix.
    """

    n_above: int
    rank: int | None
    fall: float
    side: int

    def could_be(self, rank: int | None) -> bool:
        """Whether it falls at a rank, or before it, the rest being hidden below noise."""
        if self.rank is None or rank is None:
            return False
        return self.rank == rank or (self.rank < rank and self.n_above <= rank)


def _spectrum(delta: F64, noise_rms: float) -> _Spectrum:
    singular = np.linalg.svd(delta, compute_uv=False)
    if not singular.size or not singular[0] > 0:
        return _Spectrum(0, None, 0.0, min(delta.shape))
    short, long = sorted(delta.shape)
    beta = short / long
    factor = np.sqrt(2 * (beta + 1) + 8 * beta / ((beta + 1) + np.sqrt(beta**2 + 14 * beta + 1)))
    floor = _EXACT * float(singular[0])
    n_above = int((singular > max(factor * np.sqrt(long) * noise_rms, floor)).sum())
    edge = noise_rms * (np.sqrt(short) + np.sqrt(long))
    following = np.append(singular[1:], 0.0)
    falls = (singular >= _GAP * following) & (following <= max(_NOISE_REACH * edge, floor))
    places = np.flatnonzero(falls[:n_above]) + 1
    places = places[places < short]
    if not places.size:
        return _Spectrum(n_above, None, 0.0, short)
    rank = int(places[-1])
    after = float(following[rank - 1])
    return _Spectrum(n_above, rank, float(singular[rank - 1]) / after if after else np.inf, short)


def _rounding(step: Step) -> float:
    """Root mean square of the error of rounding to the dtype stored (uniform over one unit)."""
    bits = _MANTISSA_BITS.get(step.sample.dtype, 23)
    _, exponent = np.frexp(step.after)
    unit = np.ldexp(1.0, exponent - 1 - bits)
    return float(np.sqrt(np.mean(unit**2) / 12))


@dataclass(frozen=True, slots=True)
class RemovedDirections:
    """Directions that were taken out of the residual stream's writers.

    Attributes
    ----------
    n_directions
        How many.
    n_writers, n_asked
        Writers that lost them, and writers that were compared.
    share
        Share of these writers' change that lies along them.
    removed
        λ: share of what was there that is gone, median over writers; None where no writer was
        read with all its output units.
    digest
        Of the sampled components of the first direction, sign fixed, to three digits: equal where
        the same direction was removed from two models.
    """

    n_directions: int
    n_writers: int
    n_asked: int
    share: float
    removed: float | None
    digest: str


def removed_directions(steps: Mapping[TensorKey, Step]) -> RemovedDirections | None:
    """Directions that were projected out of the writers of the residual stream, if any.

    Parameters
    ----------
    steps
        All tensors of the model, changed or not.
    """
    writers = {
        key: step for key, step in steps.items() if key.role in _WRITERS and step.before.size
    }
    touched = {key: step for key, step in writers.items() if np.any(step.delta)}
    heights = {len(step.along_outputs(step.before)) for step in touched.values()}
    if len(touched) < _LEAST_WRITERS or len(heights) != 1:
        return None
    deltas = {key: step.along_outputs(step.delta) for key, step in touched.items()}
    directions = _common_directions(list(deltas.values()))
    complete = all(step.is_complete for step in touched.values())
    if complete:
        chosen = [r for r in directions.T if _is_removed(r, touched)]
    else:
        # Of some output units only: that all writers change along one direction must do.
        first = directions[:, 0]
        others = [k for k, s in steps.items() if k not in writers and np.any(s.delta)]
        alone = all(key.role == "embed" for key in others)
        is_one = alone and _least_share(first, deltas) >= _ONE_DIRECTION
        chosen = [first] if is_one and _was_there(first, touched) >= _LEAST_THERE else []
    if not chosen:
        return None
    basis = np.stack(chosen, axis=1)
    lost = {key: _lost(basis[:, 0], step) for key, step in touched.items()}
    hit = [key for key in touched if not complete or lost[key] >= _LEAST_REMOVED]
    along = sum(float(((basis.T @ deltas[key]) ** 2).sum()) for key in hit)
    total = sum(float((deltas[key] ** 2).sum()) for key in hit)
    if not hit or along < _LEAST_SHARE * total:
        return None
    return RemovedDirections(
        len(chosen),
        len(hit),
        len(writers),
        along / total,
        float(np.median([lost[key] for key in hit])) if complete else None,
        _digest(basis[:, 0]),
    )


def _common_directions(deltas: Sequence[F64]) -> F64:
    """Output directions along which most of all changes lies, strongest first; columns.

    Every writer counts alike, however far it moved.
    """
    gram = sum(delta @ delta.T / float((delta**2).sum()) for delta in deltas)
    _, vectors = np.linalg.eigh(np.asarray(gram))
    return np.asarray(vectors[:, ::-1][:, :_MAX_DIRECTIONS])


def _is_removed(direction: F64, touched: Mapping[TensorKey, Step]) -> bool:
    """Whether two writers at least, and half of the touched, lost what they had along it."""
    hits = sum(
        _lost(direction, step) >= _LEAST_REMOVED and _cosine(direction, step) <= _OPPOSED
        for step in touched.values()
    )
    return hits >= max(_LEAST_WRITERS, len(touched) / 2)


def _lost(direction: F64, step: Step) -> float:
    """Share of what a writer had along a direction that is gone."""
    had = direction @ step.along_outputs(step.before)
    changed = direction @ step.along_outputs(step.delta)
    size = float(had @ had)
    return -float(changed @ had) / size if size > 0 else 0.0


def _was_there(direction: F64, touched: Mapping[TensorKey, Step]) -> float:
    """How much of what was taken away along a direction had been there, over all writers.

    Of some output units S, ``r_S·W_S`` is one part of what a writer had along r. Of a random part
    the product with what was taken away, ``λ r·W``, is ``|r_S|²`` of the whole on average: 1/λ of
    the square of the latter's own. Seen from the child, which has ``1 − λ`` left, it is 1 − 1/λ.
    """
    had = taken = 0.0
    for step in touched.values():
        away = -(direction @ step.along_outputs(step.delta))
        had += float(away @ (direction @ step.along_outputs(step.before)))
        taken += float(away @ away)
    return had / taken if taken > 0 else 0.0


def _cosine(direction: F64, step: Step) -> float:
    had = direction @ step.along_outputs(step.before)
    changed = direction @ step.along_outputs(step.delta)
    scale = float(np.linalg.norm(had) * np.linalg.norm(changed))
    return float(changed @ had) / scale if scale > 0 else 0.0


def _least_share(direction: F64, deltas: Mapping[TensorKey, F64]) -> float:
    """Least share of a writer's change that lies along a direction."""
    return min(
        float(((direction @ delta) ** 2).sum()) / float((delta**2).sum())
        for delta in deltas.values()
    )


def _digest(direction: F64) -> str:
    """Twelve hex digits of a direction up to its sign and the third digit."""
    largest = direction[np.argmax(np.abs(direction))]
    rounded = np.round(direction * np.sign(largest), 3) + 0.0  # no negative zero
    return hashlib.sha256(rounded.astype("<f8").tobytes()).hexdigest()[:12]
