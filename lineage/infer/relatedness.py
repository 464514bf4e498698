"""Are two models related? Six permutation tests, each exact under independence.

Hidden units, and coordinates of the residual stream, stand in arbitrary order: training commutes
with permuting them, so in independently trained networks pairing unit ``i`` of one with unit ``i``
of the other is no better than any other pairing (Zhu et al., "Independence tests for language
models", ICML 2025). Every test pairs things whose order is arbitrary and compares them by what
does not depend on that order; :mod:`lineage.infer.permutation` turns that into p-values.

=====================  ==================================  =======================================
test                   what is paired                      what may differ nevertheless
=====================  ==================================  =======================================
UNITS                  feed-forward units, by weights      attention, embeddings
VALUES                 value rows inside a head            feed-forward blocks, embeddings
COORDINATES            coordinates of the residual         all layers, depth, vocabulary
                       stream, over tokens
UNITS_BY_TOKEN         units, by responses to tokens       basis of the stream, moved gains
VALUES_BY_TOKEN        value rows, by the same             the same, and feed-forward blocks
SIGNS                  signs of units matched by gates     order of units, heads, basis, gains
=====================  ==================================  =======================================

The first three read weights as they stand. They are asked in turn until one answers; the
correction is for all six whichever were asked, so that spoils nothing. Models of other
depth are compared through all pairs of layers.

*Signs*: ``down(act(gate x) · up x)`` is linear in ``up``, so negating a unit's row of ``up`` and
its column of ``down`` changes nothing, and signs of ``up`` are fair coins. Units are matched by
``gate`` and the *size* of the similarity of ``up``; the coins decide.

What no test sees from samples: feed-forward units in another order where few of many rows were
read, *and* heads re-based, *and* the stream rotated, all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lineage.infer.permutation import (
    Permutation,
    best_test,
    centred,
    seed_of,
    sign_test,
    standardised,
    sum_test,
)
from lineage.infer.token_rows import TOKEN_ROLES, aligned_values, common_rows, row_places
from lineage.infer.training_marks import MarkPlaces, shared_training
from lineage.model import PairTest, PairVerdict
from lineage.weights.fingerprint import Directions, Fingerprint, Sample, require_comparable
from lineage.weights.responses import responses
from lineage.weights.roles import TensorKey
from lineage.weights.stages import spread

__all__ = [
    "FAMILY_ALPHA",
    "Outcome",
    "Pairing",
    "bit_equality",
    "common_rows",
    "match_rows",
    "run_tests",
    "shared_training",
    "test_pair",
]

F64 = NDArray[np.float64]
Matched = tuple[NDArray[np.float32], NDArray[np.float32]]
Views = Callable[[TensorKey, TensorKey], Matched | None]

FAMILY_ALPHA = 1e-3
"""Chance of any false relative among all pairs of one run (Bonferroni)."""

_MIN_ROWS = 8
_HEAD_BLOCK = 8
"""Rows of values permuted together: every size of head in use is a multiple of it."""
_MOST_SLOTS = 8
"""Layers of a model that are tried on every layer of one of another depth."""
_PLACED_Z = 6.0
_SAME_TRAINING = 0.5
_SAME_COORDINATE = 0.9
_FEED_FORWARD = ("up", "gate")
_VALUES = ("v",)
_PER_COORDINATE = (*TOKEN_ROLES, "position")


class Pairing(StrEnum):
    """The tests, by what was paired."""

    UNITS = "feed-forward units in their places"
    VALUES = "value rows in their places"
    COORDINATES = "coordinates of the residual stream, over tokens"
    UNITS_BY_TOKEN = "feed-forward units, by their responses to tokens"
    VALUES_BY_TOKEN = "value rows, by their responses to tokens"
    SIGNS = "signs of feed-forward units matched by their gates"


_IN_PLACE = frozenset({Pairing.UNITS, Pairing.VALUES, Pairing.COORDINATES})


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test of one pair; `p_value` is corrected for all six."""

    pairing: Pairing
    statistic: float
    p_value: float


def match_rows(a: Directions, b: Directions) -> float:
    """Standardised row-matching statistic of two matrices of equal shape.

    Parameters
    ----------
    a, b
        Directions of both; row ``i`` of both is the same unit if the models are related.

    Returns
    -------
    float
        ``tr(S)/sqrt(ΣS²/(R−1))`` with S the double-centred cosine matrix: mean 0 and variance 1
        over permutations of the rows. NaN with fewer than two rows that differ.
    """
    if len(a.matrix) < 2:
        return float("nan")
    scaled = standardised(_similarity((a.matrix, b.matrix))[None])
    return float("nan") if scaled is None else float(np.trace(scaled[0]))


def test_pair(a: Fingerprint, b: Fingerprint, n_pairs: int) -> PairTest:
    """The family test of two models.

    Parameters
    ----------
    a, b
        Fingerprints of one scheme.
    n_pairs
        Tests made in this run, for the Bonferroni correction.

    Returns
    -------
    PairTest
        With the p-value of the most significant of the six tests, times six, and its statistic.

    Raises
    ------
    IncomparableError
        If the fingerprints are of different schemes.
    """
    require_comparable(a, b)
    if a.repo_id > b.repo_id:
        a, b = b, a
    level = FAMILY_ALPHA / n_pairs
    outcomes = run_tests(a, b, level)
    if not outcomes:
        return PairTest(a.repo_id, b.repo_id, PairVerdict.UNTESTABLE, None, None, None)
    best = min(outcomes, key=lambda outcome: (outcome.p_value, -outcome.statistic))
    verdict = PairVerdict.UNRELATED
    if best.p_value <= level:
        shared = shared_training(a, b, _mark_places(a, b, best.pairing))
        apart = shared is not None and shared < _SAME_TRAINING
        verdict = PairVerdict.COMMON_INIT if apart else PairVerdict.RELATED
    return PairTest(a.repo_id, b.repo_id, verdict, best.statistic, best.p_value, bit_equality(a, b))


test_pair.__test__ = False  # type: ignore[attr-defined]  # a statistical test, not pytest's


def run_tests(a: Fingerprint, b: Fingerprint, level: float) -> list[Outcome]:
    """The tests that can be made, in turn, until one reaches `level`."""
    found: list[Outcome] = []
    for pairing, test in _TESTS.items():
        result = test(a, b, seed_of(pairing.name, a.repo_id, b.repo_id))
        if result is not None:
            corrected = min(1.0, len(Pairing) * result.p_value)
            found.append(Outcome(pairing, result.statistic, corrected))
            if corrected <= level:
                break
    return found


# the tests


def _units(a: Fingerprint, b: Fingerprint, seed: int) -> Permutation | None:
    return _through_layers(a, b, _FEED_FORWARD, _by_weights(a, b), seed)


def _values(a: Fingerprint, b: Fingerprint, seed: int) -> Permutation | None:
    return _through_layers(a, b, _VALUES, _by_weights(a, b), seed)


def _units_by_token(a: Fingerprint, b: Fingerprint, seed: int) -> Permutation | None:
    return _through_layers(a, b, _FEED_FORWARD, _by_responses(a, b), seed)


def _values_by_token(a: Fingerprint, b: Fingerprint, seed: int) -> Permutation | None:
    return _through_layers(a, b, _VALUES, _by_responses(a, b), seed)


def _coordinates(a: Fingerprint, b: Fingerprint, seed: int) -> Permutation | None:
    """Columns of the matrices with one row a token or a position, permuted together."""
    parts = []
    for role in _PER_COORDINATE:
        key = TensorKey(role)
        if not {key} <= a.samples.keys() & b.samples.keys():
            continue
        if len(a.samples[key].shape) != 2 or len(b.samples[key].shape) != 2:
            continue
        x, y = _columns(a, b, key)
        if len(x) >= _MIN_ROWS:
            parts.append(_similarity((x, y))[None])
    group = _joined(parts)
    return None if group is None else sum_test([group], seed)


def _signs(a: Fingerprint, b: Fingerprint, seed: int) -> Permutation | None:
    """Signs of `up` between units that match by `gate` and by the size of their `up`."""
    view = _by_responses(a, b)
    coins = []
    for layer in range(min(a.n_layers, b.n_layers)):
        gates = view(TensorKey("gate", layer), TensorKey("gate", layer))
        ups = view(TensorKey("up", layer), TensorKey("up", layer))
        if gates is None or ups is None:
            continue
        alike, similar = (_similarity(pair) for pair in (gates, ups))
        if alike.shape != similar.shape:
            continue
        likeness = np.maximum(alike, 0) * np.abs(similar)
        i = np.arange(len(likeness))
        j = likeness.argmax(axis=1)
        mutual = (likeness[:, j].argmax(axis=0) == i) & (likeness[i, j] > 0)
        coins.append((np.sign(similar) * likeness)[i[mutual], j[mutual]])
    return sign_test(np.concatenate(coins), seed) if coins else None


_TESTS: Mapping[Pairing, Callable[[Fingerprint, Fingerprint, int], Permutation | None]] = {
    Pairing.UNITS: _units,
    Pairing.VALUES: _values,
    Pairing.COORDINATES: _coordinates,
    Pairing.UNITS_BY_TOKEN: _units_by_token,
    Pairing.VALUES_BY_TOKEN: _values_by_token,
    Pairing.SIGNS: _signs,
}


# what is similar to what


def _similarity(pair: Matched) -> F64:
    """Cosines of two sets of directions; double-centred, since both sets are centred."""
    return np.asarray(pair[0] @ pair[1].T, dtype=np.float64)


def _columns(a: Fingerprint, b: Fingerprint, key: TensorKey) -> Matched:
    """Coordinates of the residual stream as directions over the rows that both models hold."""
    x, y = aligned_values(a, b, key)
    if len(x) < _MIN_ROWS:
        return x[:0], y[:0]
    return Directions.of(x.T).matrix, Directions.of(y.T).matrix


def _by_weights(a: Fingerprint, b: Fingerprint) -> Views:
    def view(key_a: TensorKey, key_b: TensorKey) -> Matched | None:
        first, second = a.samples.get(key_a), b.samples.get(key_b)
        if first is None or second is None or not _comparable(first, second):
            return None
        if first.rows == second.rows and first.units.shape == second.units.shape:
            return first.directions.matrix, second.directions.matrix
        if first.transposed:
            return None
        x, y = (Directions.of(values).matrix for values in common_rows(first, second))
        return (x, y) if len(x) >= _MIN_ROWS else None

    return view


def _comparable(a: Sample, b: Sample) -> bool:
    return (
        len(a.shape) == len(b.shape) == 2
        and a.transposed == b.transposed
        and a.units.shape[1] == b.units.shape[1]
        and min(len(a.units), len(b.units)) >= _MIN_ROWS
    )


def _by_responses(a: Fingerprint, b: Fingerprint) -> Views:
    """Units as responses to the tokens that both embeddings hold; widths may differ."""
    key = TensorKey("embed")
    places = None
    if {key} <= a.samples.keys() & b.samples.keys():
        places = row_places((a, b), key)
    if places is None or len(places[0]) < _MIN_ROWS:
        return lambda _, __: None
    of_a, of_b = (_responses(model, place) for model, place in zip((a, b), places, strict=True))

    def view(key_a: TensorKey, key_b: TensorKey) -> Matched | None:
        if key_a not in of_a or key_b not in of_b:
            return None
        first, second = a.samples[key_a], b.samples[key_b]
        if first.rows != second.rows and not first.transposed and not second.transposed:
            _, in_a, in_b = np.intersect1d(first.rows, second.rows, return_indices=True)
            in_a, in_b = in_a[in_a < len(of_a[key_a])], in_b[in_b < len(of_b[key_b])]
            n = min(len(in_a), len(in_b))
            x, y = of_a[key_a][in_a[:n]], of_b[key_b][in_b[:n]]
        else:
            x, y = of_a[key_a], of_b[key_b]
        return (x, y) if len(x) == len(y) >= _MIN_ROWS else None

    return view


def _responses(
    model: Fingerprint, places: NDArray[np.intp]
) -> Mapping[TensorKey, NDArray[np.float32]]:
    """Directions of responses to the tokens at some places of the embedding's sample."""
    embedding = model.samples[TensorKey("embed")]
    if len(embedding.shape) != 2:
        return {}
    if np.array_equal(places, np.arange(len(embedding.rows))):
        return {key: directions.matrix for key, directions in model.responses.items()}
    found = responses(model.samples, embedding.values[places], model.responding_keys)
    return {key: Directions.of(units).matrix for key, units in found.items()}


# through layers


def _through_layers(
    a: Fingerprint, b: Fingerprint, roles: Sequence[str], view: Views, seed: int
) -> Permutation | None:
    """Slot by slot where layouts agree, else every slot of one on every slot of the other."""
    slots_a, slots_b = _slots(a, roles), _slots(b, roles)
    if a.n_layers == b.n_layers and slots_a == slots_b:
        groups = [_group(slot, slot, roles, view) for slot in slots_a]
        return sum_test([group for group in groups if group is not None], seed)
    same_depth = a.n_layers == b.n_layers
    found = []
    for slot in _few(slots_a):
        partners = (other for other in _few(slots_b) if not same_depth or other[0] == slot[0])
        ways = [way for other in partners if (way := _group(slot, other, roles, view)) is not None]
        if ways:
            found.append(np.stack([way for way in ways if way.shape == ways[0].shape]))
    return best_test(found, seed)


Slot = tuple[int, int]
"""A layer and an expert, −1 where there are none."""


def _slots(fingerprint: Fingerprint, roles: Sequence[str]) -> list[Slot]:
    return sorted({(key.layer, key.expert) for key in fingerprint.samples if key.role in roles})


def _few(slots: Sequence[Slot]) -> Iterator[Slot]:
    return (slots[place] for place in spread(len(slots))[:_MOST_SLOTS])


def _group(slot: Slot, other: Slot, roles: Sequence[str], view: Views) -> F64 | None:
    """Similarities of all units of a slot, the matrices that share the units added up.

    Blocks × n × n. Values are permuted inside blocks of a head only: rows of one head have a
    common history that rows of different heads do not share.
    """
    parts = []
    for role in roles:
        pair = view(TensorKey(role, *slot), TensorKey(role, *other))
        if pair is not None:
            parts.append(_blocks(pair) if roles == _VALUES else _similarity(pair)[None])
    return _joined(parts)


def _blocks(pair: Matched) -> F64:
    n_blocks = len(pair[0]) // _HEAD_BLOCK
    x, y = (
        side[: n_blocks * _HEAD_BLOCK].reshape(n_blocks, _HEAD_BLOCK, -1).astype(np.float64)
        for side in pair
    )
    return centred(np.einsum("kid,kjd->kij", x, y))


def _joined(parts: Sequence[F64]) -> F64 | None:
    """Similarities of the same units in several matrices, each to the same scale, added up."""
    scaled = [one for part in parts if (one := standardised(part)) is not None]
    if not scaled:
        return None
    return np.asarray(sum(one for one in scaled if one.shape == scaled[0].shape))


# relatives, or only of one initialisation


def _mark_places(a: Fingerprint, b: Fingerprint, seen: Pairing) -> MarkPlaces:
    """What stands in the same place in both models, by the test that said so."""
    in_place = seen in _IN_PLACE
    order = None if in_place else _coordinate_order(a, b)
    layers: Mapping[int, int]
    if seen is Pairing.COORDINATES:
        layers = {}  # nothing says that any layer of one is a layer of the other
    elif a.n_layers == b.n_layers:
        layers = {n: n for n in range(a.n_layers)}
    else:
        layers = _placed_layers(a, b, _by_weights(a, b) if in_place else _by_responses(a, b))
    return MarkPlaces(
        layers,
        units=seen in (Pairing.UNITS, Pairing.UNITS_BY_TOKEN),
        values=seen in (Pairing.VALUES, Pairing.VALUES_BY_TOKEN),
        coordinates=in_place or order is not None,
        order=order,
    )


def _placed_layers(a: Fingerprint, b: Fingerprint, view: Views) -> dict[int, int]:
    """For layers of A the layer of B whose feed-forward units match, where one does."""
    placed: dict[int, int] = {}
    slots_b = list(_few(_slots(b, _FEED_FORWARD)))
    for slot in _few(_slots(a, _FEED_FORWARD)):
        scores = []
        for other in slots_b:
            group = _group(slot, other, _FEED_FORWARD, view)
            scaled = None if group is None else standardised(group)
            if scaled is not None:
                scores.append((float(np.einsum("kii->", scaled)), other[0]))
        best = max(scores, default=(0.0, -1))
        if best[0] > _PLACED_Z:
            placed[slot[0]] = best[1]
    return placed


def _coordinate_order(a: Fingerprint, b: Fingerprint) -> NDArray[np.intp] | None:
    """For coordinates of A's residual stream those of B, if B only reordered or negated them."""
    key = TensorKey("embed")
    if not {key} <= a.samples.keys() & b.samples.keys():
        return None
    x, y = aligned_values(a, b, key)
    if len(x) < _MIN_ROWS or x.shape != y.shape:
        return None
    sides = [side / np.maximum(np.linalg.norm(side, axis=0), 1e-30) for side in (x, y)]
    likeness = np.abs(sides[0].T @ sides[1])
    order = np.asarray(likeness.argmax(axis=1))
    if len(set(order.tolist())) < len(order) or likeness.max(axis=1).min() < _SAME_COORDINATE:
        return None
    return order


def bit_equality(a: Fingerprint, b: Fingerprint) -> float | None:
    """Share of compared values of matrices that are equal; None when nothing is comparable."""
    equal = total = 0
    for key in a.samples.keys() & b.samples.keys():
        if len(a.samples[key].shape) < 2:
            continue
        x, y = aligned_values(a, b, key)
        if x.shape == y.shape:
            equal += int((x == y).sum())
            total += x.size
    return equal / total if total else None
