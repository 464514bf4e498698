"""What a child and each of its parents show of each other layer by layer, for everybody to see.

The numbers are those of :func:`lineage.infer.explanation.explain_pair`, summed over the tensors of
a layer, so that a page and ``herdbook explain`` tell the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lineage.infer.explanation import PairExplanation, explain_pair, fit_parents
from lineage.infer.side_by_side import LayerMatch, best_layers, total
from lineage.model import Finding, Kind
from lineage.weights.fingerprint import Fingerprint

__all__ = ["EdgeLayer", "EdgeMatch", "describe_parents"]

_DECIMALS = 1
"""Of z: more would not be seen in a matrix, and cost four times the room."""


@dataclass(frozen=True, slots=True)
class EdgeLayer:
    """One layer of a child beside its counterpart in one parent.

    Attributes
    ----------
    layer, parent_layer
        None outside the layers.
    n_words, n_equal
        Values compared, and those that are equal after decoding. A pair of which nothing compares
        has one row, of 0 words and outside the layers.
    relative_change
        ``‖C−P‖/‖P‖``; None where P is zero or nothing compares.
    n_codes, n_replayed
        Of a quantised child: codes asked, and those that the parent's values reproduce.
    coefficient
        Of a merge: this parent's mean coefficient when all parents are fitted together, freely.
    """

    child: str
    parent: str
    layer: int | None
    parent_layer: int | None
    n_words: int
    n_equal: int
    relative_change: float | None
    n_codes: int
    n_replayed: int
    coefficient: float | None = None


@dataclass(frozen=True, slots=True)
class EdgeMatch:
    """Row-matching z of one layer of a child against each layer of a parent, to one decimal.

    `roles` are the matrices by which they were matched; None where too few rows compare.
    """

    child: str
    parent: str
    roles: str
    layer: int
    z: tuple[float | None, ...]


def describe_parents(
    child: Fingerprint, parents: Sequence[Fingerprint], finding: Finding | None
) -> tuple[tuple[EdgeLayer, ...], tuple[EdgeMatch, ...]]:
    """Hold a child against parents that somebody named or that its finding names.

    Parameters
    ----------
    child, parents
        Fingerprints of one scheme; no parent is the child.
    finding
        The child's, which says where its layers come from and what was merged.

    Raises
    ------
    IncomparableError
        If the fingerprints are of different schemes.
    """
    coefficients = _coefficients(child, parents, finding)
    layers: list[EdgeLayer] = []
    matches: list[EdgeMatch] = []
    for parent in parents:
        # One test, since its verdict is not asked here; the sums do not depend on their number.
        pair = explain_pair(child, parent, 1, finding.layer_map if finding is not None else ())
        layers += _layers(child.repo_id, parent.repo_id, pair, coefficients)
        matches += _matches(child.repo_id, parent.repo_id, pair.layer_matches)
    return tuple(layers), tuple(matches)


def _coefficients(
    child: Fingerprint, parents: Sequence[Fingerprint], finding: Finding | None
) -> Mapping[tuple[str, int | None], float]:
    """By parent and layer; empty unless all parents of a merge are here."""
    if finding is None or finding.kind is not Kind.MERGE:
        return {}
    by_name = {parent.repo_id: parent for parent in parents}
    names = [share.parent for share in finding.parents]
    if len(names) < 2 or not by_name.keys() >= set(names):
        return {}
    fit = fit_parents(child, [by_name[name] for name in names])
    if fit is None:
        return {}
    return {
        (name, layer): value
        for layer, values in fit.by_layer()
        for name, value in zip(fit.parents, values, strict=True)
    }


def _layers(
    child: str,
    parent: str,
    pair: PairExplanation,
    coefficients: Mapping[tuple[str, int | None], float],
) -> list[EdgeLayer]:
    if not pair.tensors:
        return [EdgeLayer(child, parent, None, None, 0, 0, None, 0, 0)]
    places = {row.layer: row.parent_layer for row in pair.tensors}
    found = []
    for layer in sorted(places, key=lambda one: -1 if one is None else one):
        sums = total(row for row in pair.tensors if row.layer == layer)
        found.append(
            EdgeLayer(
                child,
                parent,
                layer,
                places[layer],
                sums.n_words,
                sums.n_equal,
                sums.relative_change,
                sums.n_codes,
                sums.n_replayed,
                coefficients.get((parent, layer)),
            )
        )
    return found


def _matches(child: str, parent: str, matches: Sequence[LayerMatch]) -> list[EdgeMatch]:
    """The matrix that tells most: the one whose best matches are the clearest."""
    told = [match for match in matches if any(best_layers(match))]
    if not told:
        return []
    match = max(told, key=lambda one: math.fsum(found[1] for found in best_layers(one) if found))
    return [
        EdgeMatch(
            child,
            parent,
            ", ".join(match.roles),
            layer,
            tuple(None if z is None else round(z, _DECIMALS) for z in row),
        )
        for layer, row in enumerate(match.z)
    ]
