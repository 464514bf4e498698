"""Where each layer came from: pruned, stacked and frankenmerged models, and mixtures of experts.

Layers are compared by the digests of their sampled words first: equal digests are proof. Layers
that were trained after the surgery are placed by their distance instead. Either way the places are
joined by dynamic programming: layers follow each other as they did in the parent, are skipped,
repeated, or the path jumps, as stacks do (``[0, 10], [5, 15], …``).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lineage.infer.relatedness import common_rows
from lineage.model import LayerSource
from lineage.weights.encodings import round_to
from lineage.weights.fingerprint import Fingerprint, Sample
from lineage.weights.roles import TensorKey

__all__ = [
    "LayerOrigin",
    "align",
    "difference",
    "expert_origin",
    "has_values_of",
    "kept_units",
    "laid_out",
    "layer_digests",
    "layer_origin",
    "repeats_itself",
    "similar_layers",
]

F64 = NDArray[np.float64]
Place = tuple[int, int]

_MAX_PARENTS = 4
_MAX_OWNERS = 40
_ROUNDED = frozenset({"F32", "F16", "BF16"})
"""Candidates of which all small sets are tried, those with the most layers first."""
_SKIP, _REPEAT, _JUMP = 0.01, 0.02, 0.03
"""What leaving the order of layers costs, in shares of a layer's squared norm: it only decides
between places that fit alike."""
_SAME_LAYER = 0.5
"""Cosine from which a layer is another one, trained on; layers of one model have about 0."""
_UNITS = ("up", "gate")
_UNIT_COLUMNS = ("down", "up.bias", "gate.bias")
_MIN_UNITS = 8


@dataclass(frozen=True, slots=True)
class LayerOrigin:
    """A layer map that explains every layer, its parents in order of layers given.

    `distance` is the mean square of what changed since, 0 where the map is exact; `kept` the share
    of words that did not change.
    """

    parents: tuple[str, ...]
    layer_map: tuple[LayerSource, ...]
    exact: bool
    distance: float = 0.0
    kept: float = 1.0

    @property
    def repeats(self) -> bool:
        """Whether one layer of a parent stands in two places."""
        places = {(source.parent, source.parent_layer) for source in self.layer_map}
        return len(places) < len(self.layer_map)


def layer_digests(fingerprint: Fingerprint, dtype: str | None = None) -> tuple[str, ...]:
    """One digest a layer over its samples' roles, shapes and values (not dtypes).

    Parameters
    ----------
    dtype
        Number type to which values are rounded first, as stacking does that stores another type;
        types of fewer than 16 bits are nobody's to stack in, and round nothing.
    """
    hashers = [hashlib.sha256() for _ in range(fingerprint.n_layers)]
    for key, sample in sorted(fingerprint.samples.items()):
        if key.layer >= 0 and key.expert < 0:
            hashers[key.layer].update(f"{key.role}{sample.shape}{sample.rows}".encode())
            values = _as_stored_in(dtype, sample)
            hashers[key.layer].update((values + np.float32(0)).tobytes())  # no −0
    return tuple(hasher.hexdigest() for hasher in hashers)


def has_values_of(sample: Sample, other: Sample) -> bool:
    """Whether a sample holds another's values, as its own number type stores them."""
    return np.array_equal(_as_stored_in(sample.dtype, other), sample.values)


def _as_stored_in(dtype: str | None, sample: Sample) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return round_to(dtype, sample.values) if dtype in _ROUNDED else sample.values


def align(fits: Sequence[Mapping[Place, float]]) -> tuple[Place, ...] | None:
    """The cheapest way to lay a child's layers along places of its parents.

    Parameters
    ----------
    fits
        For every layer of the child, what each place (parent, layer) that it may have come from
        costs, in shares of the layer's squared norm.

    Returns
    -------
    tuple or None
        A place for every layer; None when a layer has none, or there are no layers. Of equal ways
        the one through smaller places.

    Examples
    --------
    >>> align([{(0, 0): 0}, {(0, 1): 0, (0, 5): 0}, {(0, 1): 0, (0, 2): 0}])
    ((0, 0), (0, 1), (0, 2))
    """
    if not fits or not all(fits):
        return None
    best: dict[Place, tuple[float, tuple[Place, ...]]] = {
        place: (cost, (place,)) for place, cost in sorted(fits[0].items())
    }
    for fit in fits[1:]:
        best = {
            place: min(
                (so_far + _step_cost(path[-1], place) + cost, (*path, place))
                for so_far, path in best.values()
            )
            for place, cost in sorted(fit.items())
        }
    return min(best.values())[1]


def _step_cost(here: Place, there: Place) -> float:
    if here[0] != there[0] or there[1] < here[1]:
        return _JUMP
    if there[1] == here[1]:
        return _REPEAT
    return 0.0 if there[1] == here[1] + 1 else _SKIP


def layer_origin(
    child: str,
    digests: Mapping[str, tuple[str, ...]],
    candidates: Sequence[str],
) -> LayerOrigin | None:
    """The fewest candidates whose layers, word for word, make up all layers of `child`.

    Candidates come in order of preference. None when some layer is nobody's, when one candidate
    has the same layers in the same places (that is no rearrangement), or when more than four
    parents would be needed. Of equally many parents those whose layers keep their order best.
    """
    wanted = digests[child]
    if not wanted or any(digests[name] == wanted for name in candidates):
        return None
    owned: dict[frozenset[str], str] = {}  # of candidates with the same layers the preferred one
    for name in candidates:
        layers = frozenset(wanted) & frozenset(digests[name])
        if layers:
            owned.setdefault(layers, name)
    chosen = _fewest(frozenset(wanted), owned)
    found = [
        (cost, names, path)
        for names in chosen
        if (path := align(_exact_fits(wanted, [digests[name] for name in names]))) is not None
        for cost in [sum(map(_step_cost, path, path[1:]))]
    ]
    if not found:
        return None
    _, names, path = min(found, key=lambda item: item[0])
    sources = tuple(
        LayerSource(layer, names[parent], place) for layer, (parent, place) in enumerate(path)
    )
    used = Counter(source.parent for source in sources)
    order = sorted(used, key=lambda name: -used[name])
    return LayerOrigin(tuple(order), sources, exact=True)


def _fewest(wanted: frozenset[str], owned: Mapping[frozenset[str], str]) -> list[tuple[str, ...]]:
    """All smallest sets of candidates that own every layer, preferred ones first."""
    # A candidate with fewer of the same layers adds nothing.
    useful = [layers for layers in owned if not any(layers < other for other in owned)]
    useful = sorted(useful, key=len, reverse=True)[:_MAX_OWNERS]
    for n in range(1, _MAX_PARENTS + 1):
        sets = [
            tuple(owned[layers] for layers in some)
            for some in combinations(useful, n)
            if frozenset().union(*some) == wanted
        ]
        if sets:
            return sets
    return []


def _exact_fits(
    wanted: Sequence[str], parents: Sequence[Sequence[str]]
) -> list[dict[Place, float]]:
    return [
        {
            (number, layer): 0.0
            for number, digests in enumerate(parents)
            for layer, other in enumerate(digests)
            if other == digest
        }
        for digest in wanted
    ]


def similar_layers(child: Fingerprint, parent: Fingerprint) -> LayerOrigin | None:
    """Place every layer of `child` at the layer of `parent` that it came from, trained since.

    None when a layer resembles none, or every layer stands where it stood.
    """
    products = _layer_products(child, parent)
    if products is None:
        return None
    cross, ours, theirs = products
    cosine = cross / np.sqrt(np.outer(ours, theirs))
    cost = (ours[:, None] + theirs[None, :] - 2 * cross) / ours[:, None]
    fits = [
        {(0, int(j)): float(cost[i, j]) for j in np.flatnonzero(cosine[i] >= _SAME_LAYER)}
        for i in range(len(cost))
    ]
    path = align(fits)
    if path is None:
        return None
    if [layer for _, layer in path] == list(range(parent.n_layers)):
        return None
    places = [layer for _, layer in path]
    sources = tuple(LayerSource(i, parent.repo_id, j) for i, j in enumerate(places))
    distance, kept = difference(child, parent, places)
    return LayerOrigin((parent.repo_id,), sources, False, distance, kept)


def laid_out(fingerprint: Fingerprint, places: Sequence[int]) -> Fingerprint:
    """A model of which only the layers at `places` are left, in this order, numbered anew."""
    samples = {key: sample for key, sample in fingerprint.samples.items() if key.layer < 0}
    for layer, place in enumerate(places):
        for key, sample in fingerprint.samples.items():
            if key.layer == place:
                samples[replace(key, layer=layer)] = sample
    return replace(fingerprint, samples=samples)


def repeats_itself(fingerprint: Fingerprint) -> bool:
    """Whether two layers of a model are one layer, word for word or trained apart since."""
    products = _layer_products(fingerprint, fingerprint)
    if products is None:
        return False
    cross, ours, _ = products
    cosine = cross / np.sqrt(np.outer(ours, ours))
    return bool((cosine[~np.eye(len(cosine), dtype=bool)] >= _SAME_LAYER).any())


def _layer_products(a: Fingerprint, b: Fingerprint) -> tuple[F64, F64, F64] | None:
    """Inner products of all layers of two models, and squared norms, over matrices alike in shape.

    None where a layer has no such matrix, or nothing but zeros.
    """
    shared = _alike(a, b)
    if not shared or not a.n_layers or not b.n_layers:
        return None
    cross = np.zeros((a.n_layers, b.n_layers))
    ours, theirs = np.zeros(a.n_layers), np.zeros(b.n_layers)
    for role in shared:
        x, y = _flat(a, role), _flat(b, role)
        cross += x @ y.T
        ours += (x**2).sum(axis=1)
        theirs += (y**2).sum(axis=1)
    return (cross, ours, theirs) if ours.all() and theirs.all() else None


def _alike(a: Fingerprint, b: Fingerprint) -> list[str]:
    """Roles of matrices that every layer of both models has, sampled at the same rows."""
    layouts = []
    for one in (a, b):
        found: dict[str, set[object]] = {}
        counts: Counter[str] = Counter()
        for key, sample in one.samples.items():
            if key.layer >= 0 and key.expert < 0 and len(sample.shape) > 1:
                found.setdefault(key.role, set()).add((sample.shape, sample.rows))
                counts[key.role] += 1
        layouts.append({role: s for role, s in found.items() if counts[role] == one.n_layers})
    return sorted(
        role
        for role in layouts[0].keys() & layouts[1].keys()
        if layouts[0][role] == layouts[1][role] and len(layouts[0][role]) == 1
    )


def _flat(fingerprint: Fingerprint, role: str) -> F64:
    return np.stack(
        [
            fingerprint.samples[TensorKey(role, layer)].values.ravel().astype(np.float64)
            for layer in range(fingerprint.n_layers)
        ]
    )


def difference(
    child: Fingerprint, parent: Fingerprint, places: Sequence[int] | None = None
) -> tuple[float, float]:
    """Mean square of the difference of two models, and the share of equal words.

    The child's layers are laid at `places`, by default at their own. Infinite and 0 when nothing is
    comparable.
    """
    moved, n_equal, n = 0.0, 0, 0
    for key, sample in child.samples.items():
        layer = places[key.layer] if places is not None and key.layer >= 0 else key.layer
        other = parent.samples.get(TensorKey(key.role, layer, key.expert))
        if other is None or other.transposed != sample.transposed:
            continue
        x, y = common_rows(sample, other)
        moved += float(((x.astype(np.float64) - y) ** 2).sum())
        n_equal += int((x == y).sum())
        n += x.size
    return (moved / n, n_equal / n) if n else (float("inf"), 0.0)


def kept_units(child: Fingerprint, parent: Fingerprint) -> tuple[int, int] | None:
    """Feed-forward units of `child` that are units of the wider `parent`, in the parent's order.

    Returns
    -------
    tuple or None
        How many sampled units were found, and how many could be: a unit that stands further on in
        the parent than its sample reaches cannot. None unless every other tensor is equal word for
        word, every layer has fewer units than the parent's, and those found keep their order.
    """
    found = asked = 0
    if child.samples.keys() != parent.samples.keys():
        return None
    for key, sample in child.samples.items():
        other = parent.samples[key]
        if key.role in _UNITS:
            ours, theirs = _unit_places(sample), _unit_places(other)
            if len(sample.units) < _MIN_UNITS or _n_units(sample) >= _n_units(other):
                return None
            places = [theirs[unit] for unit in ours if unit in theirs]
            if places != sorted(places):
                return None
            found += len(places)
            asked += _n_findable(sample, other)
        elif sample.shape != other.shape:
            if key.role not in _UNIT_COLUMNS:
                return None
        elif sample.words != other.words:
            return None
    return (found, asked) if asked else None


def _unit_places(sample: Sample) -> dict[bytes, int]:
    return {row.tobytes(): place for place, row in enumerate(np.ascontiguousarray(sample.units))}


def _n_units(sample: Sample) -> int:
    return sample.shape[1] if sample.transposed else sample.shape[0]


def _n_findable(sample: Sample, other: Sample) -> int:
    """Sampled units of the narrow matrix that a proportional choice leaves in the wide sample."""
    share = len(other.units) / _n_units(other)
    return int(min(len(sample.units), share * _n_units(sample)))


def expert_origin(
    child: Fingerprint, candidates: Sequence[Fingerprint]
) -> tuple[tuple[tuple[int, str], ...], str | None] | None:
    """Dense models whose feed-forward blocks became the experts of `child`.

    Candidates come in order of preference: where several have one block, the first is named; the
    model that gave the attention comes before all.

    Returns
    -------
    tuple or None
        Pairs (expert, model) for every expert, and the model whose attention is the child's
        (None if nobody's). None when `child` has no experts or one of them is nobody's.
    """
    experts = sorted({key.expert for key in child.samples if key.expert >= 0})
    if not experts:
        return None
    base = next((c for c in candidates if _shares_attention(child, c)), None)
    preferred = [base, *candidates] if base is not None else candidates
    owners: list[tuple[int, str]] = []
    for expert in experts:
        owner = next((c.repo_id for c in preferred if _is_expert(child, expert, c)), None)
        if owner is None:
            return None
        owners.append((expert, owner))
    return tuple(owners), None if base is None else base.repo_id


def _is_expert(child: Fingerprint, expert: int, dense: Fingerprint) -> bool:
    compared = 0
    for key, sample in child.samples.items():
        if key.expert != expert:
            continue
        other = next(
            (s for k, s in dense.samples.items() if (k.role, k.layer) == (key.role, key.layer)),
            None,
        )
        if other is None or other.shape != sample.shape or other.words != sample.words:
            return False
        compared += 1
    return compared > 0


def _shares_attention(child: Fingerprint, dense: Fingerprint) -> bool:
    keys = [key for key in child.samples if key.role in ("q", "k", "v", "o")]
    return bool(keys) and all(
        key in dense.samples and dense.samples[key].words == child.samples[key].words
        for key in keys
    )
