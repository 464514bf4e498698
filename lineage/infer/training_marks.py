"""What only training leaves in weights, and so only descent can share.

Two models that were trained apart from one initialisation are dependent in every weight, and yet
neither comes from the other. Telling them from relatives takes quantities that start without any
information and get all of it from training:

*Gains* of normalisations start at one constant. Their correlation, each vector centred, is that of
what training did.

*Lengths of units*: rows of independent initial weights have nearly one length, the variance of
its logarithm being ``½ Σγ⁴/(Σγ²)²`` (γ the gains before them; ``1/(2·width)`` where they are
equal). What varies beyond that came from training; the correlation is of this excess.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.responses import READERS
from lineage.weights.roles import TensorKey

__all__ = ["MarkPlaces", "shared_training"]

F64 = NDArray[np.float64]

_LEAST_EXCESS = 0.25
"""Of the variance that initialisation gives: less than this of it is not trained enough to say."""


@dataclass(frozen=True)
class MarkPlaces:
    """What of two models stands in the same place, so that its marks may be compared.

    Attributes
    ----------
    layers
        Layers of B by layers of A.
    units, values
        Whether feed-forward units and value rows are in the same order.
    coordinates
        Whether coordinates of the residual stream are known to correspond.
    order
        Coordinates of B by coordinates of A; None where they are the same.
    """

    layers: Mapping[int, int]
    units: bool = True
    values: bool = True
    coordinates: bool = True
    order: NDArray[np.intp] | None = field(default=None)


def shared_training(
    a: Fingerprint, b: Fingerprint, places: MarkPlaces | None = None
) -> float | None:
    """Mean correlation of the marks of training that two models have in common places.

    Parameters
    ----------
    places
        Everything in its place by default.

    Returns
    -------
    float or None
        About 1 for close relatives, 0 for models that share an initialisation or nothing. None
        where no mark is comparable: no gains that moved, no units that grew apart.
    """
    places = places or MarkPlaces({n: n for n in range(min(a.n_layers, b.n_layers))})
    marks = [_gains(a, b, places)]
    marks += [_lengths(a, b, places.layers, ("up", "gate"))] if places.units else []
    marks += [_lengths(a, b, places.layers, ("v",))] if places.values else []
    told = [mark for mark in marks if mark is not None]
    return float(np.mean(told)) if told else None


def _gains(a: Fingerprint, b: Fingerprint, places: MarkPlaces) -> float | None:
    """Correlation of normalisation gains, each vector centred; None if one side never moved."""
    if not places.coordinates:
        return None
    ours: list[F64] = []
    theirs: list[F64] = []
    for first, second in _norms(a, b, places.layers):
        if first.values.shape == second.values.shape:
            x, y = _centred(first.values), _centred(second.values)
            if places.order is not None and len(places.order) == y.size:
                y = y[places.order]
            ours.append(x)
            theirs.append(y)
    if not ours:
        return None
    x, y = np.concatenate(ours), np.concatenate(theirs)
    scale = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / scale if scale > 0 else None


def _centred(values: NDArray[np.float32]) -> F64:
    flat = values.ravel().astype(np.float64)
    return np.asarray(flat - flat.mean())


def _lengths(
    a: Fingerprint, b: Fingerprint, layers: Mapping[int, int], roles: tuple[str, ...]
) -> float | None:
    """Correlation of units' lengths in excess of what initialisation can explain."""
    covariance = variance_a = variance_b = initial = 0.0
    for first, second, gains_a, gains_b in _readers(a, b, layers, roles):
        x, x_initial = _log_lengths(first, gains_a)
        y, y_initial = _log_lengths(second, gains_b)
        if len(x) != len(y) or len(x) < 2:
            continue
        covariance += float(x @ y)
        variance_a += float(x @ x)
        variance_b += float(y @ y)
        initial += len(x) * float(np.sqrt(x_initial * y_initial))
    trained = float(np.sqrt(variance_a * variance_b)) - initial
    if trained <= _LEAST_EXCESS * initial:
        return None
    return float(np.clip((covariance - initial) / trained, -1, 1))


def _log_lengths(sample: Sample, gains: F64 | None) -> tuple[F64, float]:
    """Centred logarithms of the units' lengths behind their gains, and their initial variance."""
    units = sample.units.astype(np.float64)
    weights = np.ones(units.shape[1]) if gains is None or gains.size != units.shape[1] else gains
    lengths = np.linalg.norm(units * weights, axis=1)
    logarithms = np.log(np.maximum(lengths, 1e-30))
    square = weights**2
    initial = 0.5 * float((square**2).sum()) / max(float(square.sum()) ** 2, 1e-300)
    return logarithms - logarithms.mean(), initial


def _readers(
    a: Fingerprint, b: Fingerprint, layers: Mapping[int, int], roles: tuple[str, ...]
) -> Iterator[tuple[Sample, Sample, F64 | None, F64 | None]]:
    """Matrices that read the residual stream in both models, each with the gains before it."""
    for key, first in sorted(a.samples.items()):
        other = TensorKey(key.role, layers.get(key.layer, -1), key.expert)
        second = b.samples.get(other)
        if key.role not in roles or second is None or len(first.shape) != 2:
            continue
        if first.rows == second.rows and first.units.shape == second.units.shape:
            yield first, second, _gains_before(a, key), _gains_before(b, other)


def _gains_before(model: Fingerprint, key: TensorKey) -> F64 | None:
    gains = model.samples.get(TensorKey(READERS[key.role], key.layer))
    return None if gains is None else gains.values.ravel().astype(np.float64)


def _norms(
    a: Fingerprint, b: Fingerprint, layers: Mapping[int, int]
) -> Iterator[tuple[Sample, Sample]]:
    for key, sample in sorted(a.samples.items()):
        layer = layers.get(key.layer) if key.layer >= 0 else -1
        if layer is None or not key.role.endswith("norm"):
            continue
        other = b.samples.get(TensorKey(key.role, layer, key.expert))
        if other is not None:
            yield sample, other
