"""Models whose layers are those of another depth, trained since, or cut from an unpublished model.

Where the layers came from is read off the nearest relative. Which relative the model descends from
is not: models that were trained on one text approach each other. So all relatives of that one are
laid out as the child is, and its parent is found among them as that of any child is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lineage.infer.descent import Descent, resolve_descent
from lineage.infer.geometry import make_pool
from lineage.infer.layers import (
    LayerOrigin,
    difference,
    laid_out,
    repeats_itself,
    similar_layers,
)
from lineage.infer.rooting import date_log_odds
from lineage.infer.settle.family import OpenFamily, is_made_from
from lineage.infer.settle.layers import layer_finding
from lineage.model import Finding, Grade, Kind
from lineage.weights.fingerprint import Fingerprint

__all__ = ["settle_trained_layers", "similar_origin"]

_NEARER = 0.25
"""A parent of another depth must be much nearer, squared, than any model of the child's own.

Models of one family that were trained on one text approach each other: by half of the square."""
_WORDS = 0.01
"""Share of kept words from which their number tells the nearest relative; else the distance does.

Training on one text brings models nearer, but seldom to the same words."""


def settle_trained_layers(
    family: OpenFamily, group: Sequence[str], groups: Sequence[Sequence[str]]
) -> None:
    """Settle models that are nearer to a model of another depth than to any of their own layout.

    Parameters
    ----------
    groups
        Models of every layout. Parents are told apart among models that are settled.
    """
    for child in group:
        if child in family.findings:
            continue
        origin = _nearest_origin(family, child, groups)
        if origin is not None and origin.distance < _NEARER * _nearest_of_its_depth(family, child):
            family.settle(_finding(family, origin, child, groups))


def similar_origin(
    family: OpenFamily, name: str, groups: Sequence[Sequence[str]]
) -> Finding | None:
    """For the root of a layout that is not the family's first: the model it was cut from."""
    origin = _nearest_origin(family, name, groups)
    return None if origin is None else _finding(family, origin, name, groups)


def _nearest_of_its_depth(family: OpenFamily, child: str) -> float:
    """Mean square of the difference from the nearest model of equal depth that is no copy of it."""
    fingerprint = family.members[child]
    return min(
        (
            difference(fingerprint, other)[0]
            for name, other in family.members.items()
            if name != child
            and other.n_layers == fingerprint.n_layers
            and not is_made_from(family, name, child)
        ),
        default=float("inf"),
    )


def _nearest_origin(
    family: OpenFamily, child: str, groups: Sequence[Sequence[str]]
) -> LayerOrigin | None:
    """The nearest model of another depth that a model's layers came from."""
    fingerprint = family.members[child]
    if not fingerprint.n_layers:
        return None
    found = [
        origin
        for name in sorted(name for group in groups for name in group)
        for other in (family.members[name],)
        if other.n_layers not in (0, fingerprint.n_layers)
        and _parts(other) == _parts(fingerprint)
        and not is_made_from(family, name, child)
        and date_log_odds(child, name, family.dates) >= 0
        and (origin := similar_layers(fingerprint, other)) is not None
        # What repeats layers is the child; else the shorter one is.
        and (
            origin.repeats or (fingerprint.n_layers < other.n_layers and not repeats_itself(other))
        )
    ]
    if max((origin.kept for origin in found), default=0.0) >= _WORDS:
        return max(found, key=lambda origin: (origin.kept, origin.parents))
    return min(found, key=lambda origin: (origin.distance, origin.parents), default=None)


def _parts(fingerprint: Fingerprint) -> set[tuple[str, int]]:
    """What a model is made of, whatever its number of layers: roles and experts."""
    return {(key.role, key.expert) for key in fingerprint.samples}


def _finding(
    family: OpenFamily, origin: LayerOrigin, child: str, groups: Sequence[Sequence[str]]
) -> Finding:
    kind = Kind.PASSTHROUGH if origin.repeats else Kind.PRUNED
    (nearest,) = origin.parents
    relatives = next(group for group in groups if nearest in group)
    descent = _placed_among(family, origin, child, relatives)
    if descent is None:
        return layer_finding(child, kind, origin.layer_map, Grade.INFERRED)
    parent, *others = (name for name, *_ in descent.parents)
    ties = descent.ties
    if others:  # cut from a merge that nobody published: its layers come from all of them
        ties = (parent, *others)
    layer_map = [replace(source, parent=parent) for source in origin.layer_map]
    finding = layer_finding(child, kind, layer_map, Grade.TIE if ties else Grade.INFERRED)
    evidence = (*finding.evidence, *descent.evidence)
    return replace(finding, ties=ties, evidence=evidence, unseen_ancestor=descent.unseen)


def _placed_among(
    family: OpenFamily, origin: LayerOrigin, child: str, relatives: Sequence[str]
) -> Descent | None:
    """Where a model stands among those of another depth, these laid out as it is.

    None where they have no one founder or are not settled.
    """
    above = {name: _parents(family, name) for name in relatives if name in family.findings}
    roots = [name for name, parents in above.items() if not set(parents) & above.keys()]
    if len(above) < len(relatives) or len(roots) != 1:
        return None
    places = [source.parent_layer for source in origin.layer_map]
    cut = [laid_out(family.members[name], places) for name in relatives]
    pool = make_pool([*cut, family.members[child]])
    (descent,) = resolve_descent(pool, roots[0], [child], family.dates, above)
    return descent


def _parents(family: OpenFamily, name: str) -> tuple[str, ...]:
    """A settled model's parents; where its direction is open, the likelier ones."""
    finding = family.findings[name]
    return tuple(share.parent for share in finding.parents) or finding.ties
