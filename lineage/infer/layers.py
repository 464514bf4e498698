"""Where each layer came from: pruned, stacked and frankenmerged models, and mixtures of experts.

Layers are compared by the digests of their sampled words first: equal digests are proof. A layer
that was trained after the surgery is placed by its feed-forward rows (row matching) instead.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lineage.infer.relatedness import match_rows
from lineage.model import LayerSource
from lineage.weights.fingerprint import Fingerprint

__all__ = ["LayerOrigin", "expert_origin", "layer_digests", "layer_origin", "similar_layers"]

_PLACED_Z = 8.0


@dataclass(frozen=True, slots=True)
class LayerOrigin:
    """A layer map that explains every layer, its parents in order of layers given."""

    parents: tuple[str, ...]
    layer_map: tuple[LayerSource, ...]
    exact: bool


def layer_digests(fingerprint: Fingerprint) -> tuple[str, ...]:
    """One digest a layer over its samples' roles, shapes and values (not dtypes)."""
    hashers = [hashlib.sha256() for _ in range(fingerprint.n_layers)]
    for key, sample in sorted(fingerprint.samples.items()):
        if key.layer >= 0 and key.expert < 0:
            hashers[key.layer].update(f"{key.role}{sample.shape}{sample.rows}".encode())
            hashers[key.layer].update(sample.values.tobytes())
    return tuple(hasher.hexdigest() for hasher in hashers)


def layer_origin(
    child: str,
    digests: Mapping[str, tuple[str, ...]],
    candidates: Sequence[str],
) -> LayerOrigin | None:
    """The fewest candidates whose layers, word for word, make up all layers of `child`.

    Candidates come in order of preference. None when some layer is nobody's, when one candidate
    has the same layers in the same places (that is no rearrangement), or when more than four
    parents would be needed.
    """
    wanted = digests[child]
    if not wanted or any(digests[name] == wanted for name in candidates):
        return None
    places: dict[str, dict[str, int]] = {}
    for name in candidates:
        where = {digest: layer for layer, digest in reversed(list(enumerate(digests[name])))}
        if any(digest in where for digest in wanted):
            places[name] = where
    missing = set(wanted)
    chosen: list[str] = []
    while missing and len(chosen) < 4:
        best = max(
            (name for name in places if name not in chosen),
            key=lambda name: (
                len(missing & places[name].keys()),
                _runs(wanted, places[name]),
                -candidates.index(name),
            ),
            default=None,
        )
        if best is None or not missing & places[best].keys():
            return None
        chosen.append(best)
        missing -= places[best].keys()
    if missing:
        return None
    sources = []
    for layer, digest in enumerate(wanted):
        owner = next(name for name in chosen if digest in places[name])
        sources.append(LayerSource(layer, owner, places[owner][digest]))
    used = Counter(source.parent for source in sources)
    order = sorted(used, key=lambda name: -used[name])
    return LayerOrigin(tuple(order), tuple(sources), exact=True)


def _runs(wanted: Sequence[str], where: Mapping[str, int]) -> int:
    """How many neighbouring layers of the child are neighbours in the candidate too."""
    return sum(where.get(a, -9) + 1 == where.get(b, -19) for a, b in pairwise(wanted))


def similar_layers(child: Fingerprint, parent: Fingerprint) -> LayerOrigin | None:
    """Place every layer of `child` at the layer of `parent` whose feed-forward rows match best.

    None when a layer matches none, or every layer stands where it stood.
    """
    sources: list[LayerSource] = []
    for layer in range(child.n_layers):
        scores = [
            (_layer_match(child, layer, parent, other), other) for other in range(parent.n_layers)
        ]
        best, where = max(scores, default=(0.0, -1))
        if not best > _PLACED_Z:
            return None
        sources.append(LayerSource(layer, parent.repo_id, where))
    identity = all(source.child_layer == source.parent_layer for source in sources)
    if identity and child.n_layers == parent.n_layers:
        return None
    return LayerOrigin((parent.repo_id,), tuple(sources), exact=False)


def _layer_match(a: Fingerprint, layer_a: int, b: Fingerprint, layer_b: int) -> float:
    best = float("-inf")
    for key, sample in a.samples.items():
        if key.layer != layer_a or key.role != "up":
            continue
        for other_key, other in b.samples.items():
            same_place = other_key.layer == layer_b and other_key.role == "up"
            if same_place and sample.units.shape == other.units.shape:
                best = max(best, match_rows(sample.directions, other.directions))
    return best


def expert_origin(
    child: Fingerprint, candidates: Sequence[Fingerprint]
) -> tuple[tuple[tuple[int, str], ...], str | None] | None:
    """Dense models whose feed-forward blocks became the experts of `child`.

    Returns
    -------
    tuple or None
        Pairs (expert, model) for every expert, and the model whose attention is the child's
        (None if nobody's). None when `child` has no experts or one of them is nobody's.
    """
    experts = sorted({key.expert for key in child.samples if key.expert >= 0})
    if not experts:
        return None
    owners: list[tuple[int, str]] = []
    for expert in experts:
        owner = next((c.repo_id for c in candidates if _is_expert(child, expert, c)), None)
        if owner is None:
            return None
        owners.append((expert, owner))
    base = next((c.repo_id for c in candidates if _shares_attention(child, c)), None)
    return tuple(owners), base


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
