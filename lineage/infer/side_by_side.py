"""Two models side by side: what is equal, what moved, which layer is which, what tokens did.

Everything is counted on the rows that both fingerprints hold. Values are compared after decoding,
so that formats may differ; what is no finite number counts as 0 on both sides, as everywhere in
the inference. Matrices that are stored the other way round are not compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from lineage.infer.quantised import replay_tensor
from lineage.infer.relatedness import common_rows, match_rows
from lineage.model import LayerSource
from lineage.weights.fingerprint import Directions, Fingerprint, Sample
from lineage.weights.roles import TensorKey

__all__ = [
    "MATCHED_ROLES",
    "LayerMatch",
    "TensorPair",
    "TokenRows",
    "Total",
    "best_layers",
    "compare_tensors",
    "compare_tokens",
    "laid_along",
    "match_layers",
    "total",
]

MATCHED_ROLES = (("up", "gate"), ("v",))
"""Matrices whose units have no order of their own: the two family tests."""
_TOKEN_ROLES = ("embed", "head")
_MIN_ROWS = 8


@dataclass(frozen=True, slots=True)
class TensorPair:
    """One tensor of the child beside its counterpart.

    Attributes
    ----------
    parent_layer
        Layer of the parent that it was held against; None outside the layers.
    n_words, n_equal
        Values compared, and those that are equal after decoding.
    moved, size
        ``Σ(C−P)²`` and ``ΣP²`` over the values compared.
    n_codes, n_replayed
        Of a quantised tensor: codes asked, and those that the parent's values reproduce.
    """

    role: str
    layer: int | None
    expert: int | None
    parent_layer: int | None
    n_words: int
    n_equal: int
    moved: float
    size: float
    is_matrix: bool
    n_codes: int = 0
    n_replayed: int = 0


@dataclass(frozen=True, slots=True)
class Total:
    """Sums over tensors; shares are None where nothing was compared."""

    n_tensors: int
    n_words: int
    n_equal: int
    moved: float
    size: float
    n_codes: int
    n_replayed: int

    @property
    def equal(self) -> float | None:
        """Share of the values that are equal."""
        return self.n_equal / self.n_words if self.n_words else None

    @property
    def relative_change(self) -> float | None:
        """``‖C−P‖/‖P‖``; None where P is zero."""
        return math.sqrt(self.moved / self.size) if self.size > 0 else None

    @property
    def replayed(self) -> float | None:
        """Share of the codes that are reproduced."""
        return self.n_replayed / self.n_codes if self.n_codes else None


def total(tensors: Iterable[TensorPair]) -> Total:
    """Sums over `tensors`."""
    rows = list(tensors)
    return Total(
        len(rows),
        sum(row.n_words for row in rows),
        sum(row.n_equal for row in rows),
        math.fsum(row.moved for row in rows),
        math.fsum(row.size for row in rows),
        sum(row.n_codes for row in rows),
        sum(row.n_replayed for row in rows),
    )


def laid_along(parent: Fingerprint, layer_map: Iterable[LayerSource]) -> Fingerprint:
    """`parent` with its layers where a child has them; layers that the map leaves out are gone."""
    places: dict[int, list[int]] = {}
    for source in layer_map:
        if source.parent == parent.repo_id:
            places.setdefault(source.parent_layer, []).append(source.child_layer)
    samples = {
        replace(key, layer=layer): sample
        for key, sample in parent.samples.items()
        for layer in (places.get(key.layer, ()) if key.layer >= 0 else (key.layer,))
    }
    return replace(parent, samples=samples)


def compare_tensors(
    child: Fingerprint, parent: Fingerprint, parent_layers: Mapping[int, int] | None = None
) -> tuple[TensorPair, ...]:
    """Every tensor that both hold in part, in order of role, layer and expert.

    Experts are held against the same expert, or against the one block of a dense parent.

    Parameters
    ----------
    parent
        With its layers laid along the child's (:func:`laid_along`).
    parent_layers
        Where each layer of the child stands in the parent as it was; default: at its own place.
    """
    found = []
    for key, ours in sorted(child.samples.items()):
        theirs = parent.samples.get(key) or parent.samples.get(replace(key, expert=-1))
        if theirs is None:
            continue
        n_replayed, n_codes = replay_tensor(ours, theirs)
        n_words = n_equal = 0
        moved = size = 0.0
        if ours.transposed == theirs.transposed:
            x, y = common_rows(ours, theirs)
            before = y.astype(np.float64)
            n_words, n_equal = x.size, int((x == y).sum())
            moved, size = float(((x - before) ** 2).sum()), float((before**2).sum())
        if n_words or n_codes:
            layer = key.layer if key.layer >= 0 else None
            found.append(
                TensorPair(
                    key.role,
                    layer,
                    key.expert if key.expert >= 0 else None,
                    layer if layer is None or parent_layers is None else parent_layers[layer],
                    n_words,
                    n_equal,
                    moved,
                    size,
                    len(ours.shape) > 1,
                    n_codes,
                    n_replayed,
                )
            )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class LayerMatch:
    """Row-matching statistic of every layer of the child against every layer of the parent.

    `z` is child layers × parent layers: of independent layers about standard normal, under the
    hypothesis exactly of mean 0 and variance 1. None where fewer than eight rows compare. Several
    matrices add up by Stouffer's sum; of experts the best pair counts.
    """

    roles: tuple[str, ...]
    z: tuple[tuple[float | None, ...], ...]


def match_layers(child: Fingerprint, parent: Fingerprint, roles: tuple[str, ...]) -> LayerMatch:
    """Hold every layer of `child` against every layer of `parent` by the units of `roles`."""
    ours, theirs = _units(child, roles), _units(parent, roles)
    return LayerMatch(
        roles,
        tuple(
            tuple(_match(ours.get(i, {}), theirs.get(j, {})) for j in range(parent.n_layers))
            for i in range(child.n_layers)
        ),
    )


_Units = dict[int, dict[str, Sample]]
"""Samples by expert and role."""


def _units(fingerprint: Fingerprint, roles: tuple[str, ...]) -> dict[int, _Units]:
    found: dict[int, _Units] = {}
    for key, sample in fingerprint.samples.items():
        if key.role in roles and key.layer >= 0 and len(sample.shape) == 2:
            found.setdefault(key.layer, {}).setdefault(key.expert, {})[key.role] = sample
    return found


def _match(ours: _Units, theirs: _Units) -> float | None:
    best: float | None = None
    for mine in ours.values():
        for other in theirs.values():
            scores = [
                z
                for role in sorted(mine.keys() & other.keys())
                if (z := _row_match(mine[role], other[role])) is not None
            ]
            if scores:
                combined = math.fsum(scores) / math.sqrt(len(scores))
                best = combined if best is None else max(best, combined)
    return best


def _row_match(a: Sample, b: Sample) -> float | None:
    if a.transposed != b.transposed or a.shape != b.shape:
        return None
    if a.rows == b.rows:
        x, y = a.directions, b.directions
    else:
        ours, theirs = common_rows(a, b)
        # Where inputs are sampled, the units of both would be cut short.
        if a.transposed or len(ours) < _MIN_ROWS:
            return None
        x, y = Directions.of(ours), Directions.of(theirs)
    z = match_rows(x, y) if len(x.matrix) >= _MIN_ROWS else math.nan
    return z if math.isfinite(z) else None


def best_layers(match: LayerMatch) -> tuple[tuple[int, float, float | None] | None, ...]:
    """Of every child layer: the parent's layer that matches best, its z, and the next best z.

    None where nothing compares; the first of several that match equally well.
    """
    found: list[tuple[int, float, float | None] | None] = []
    for row in match.z:
        ranked = sorted((-z, layer) for layer, z in enumerate(row) if z is not None)
        found.append(
            (ranked[0][1], -ranked[0][0], -ranked[1][0] if len(ranked) > 1 else None)
            if ranked
            else None
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class TokenRows:
    """What became of the rows of a token matrix, of which one stands for each token.

    Attributes
    ----------
    n_child, n_parent
        Rows of the whole matrices; what the child has more was appended.
    n_compared
        Rows that both fingerprints hold; they are `untouched`, `moved` or `changed`.
    moved
        Rows that differ from the parent's of their number and equal one of another number. Rows
        of one value only (unused tokens) are not looked for.
    """

    role: str
    n_child: int
    n_parent: int
    n_compared: int
    untouched: int
    moved: int
    changed: int


def compare_tokens(child: Fingerprint, parent: Fingerprint) -> tuple[TokenRows, ...]:
    """The token matrices of equal width that both hold."""
    found = []
    for role in _TOKEN_ROLES:
        ours, theirs = child.samples.get(TensorKey(role)), parent.samples.get(TensorKey(role))
        if ours is None or theirs is None or ours.transposed or theirs.transposed:
            continue
        if len(ours.shape) != 2 or ours.shape[1:] != theirs.shape[1:]:
            continue
        x, y = common_rows(ours, theirs)
        same = (x == y).all(axis=1)
        elsewhere = {row.tobytes() for row in theirs.values if row.min() < row.max()}
        moved = sum(row.tobytes() in elsewhere for row in x[~same])
        untouched = int(same.sum())
        found.append(
            TokenRows(
                role,
                ours.shape[0],
                theirs.shape[0],
                len(x),
                untouched,
                moved,
                len(x) - untouched - moved,
            )
        )
    return tuple(found)
