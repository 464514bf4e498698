"""Rearranged layers and mixtures of experts."""

from __future__ import annotations

from collections.abc import Sequence

from lineage.infer.layers import expert_origin, layer_digests, layer_origin, similar_layers
from lineage.infer.quantised import is_quantised
from lineage.infer.rooting import date_log_odds
from lineage.infer.settle.family import OpenFamily, birth, is_rearranged_from
from lineage.model import Evidence, Finding, Grade, Kind, LayerSource, ParentShare

__all__ = ["settle_experts", "settle_layers", "similar_origin"]


def settle_experts(family: OpenFamily) -> None:
    """Settle mixtures of experts that were put together from dense models."""
    dense = [
        family.members[name]
        for name in family.open_models()
        if not any(key.expert >= 0 for key in family.members[name].samples)
    ]
    for child in family.open_models():
        origin = expert_origin(family.members[child], dense)
        if origin is None:
            continue
        owners, base = origin
        names = list(dict.fromkeys(owner for _, owner in owners))
        shares = tuple(
            ParentShare(name, sum(owner == name for _, owner in owners) / len(owners))
            for name in names
        )
        family.settle(
            Finding(
                child,
                Kind.MOE,
                Grade.PROVED,
                shares,
                base=base,
                method="mixture of experts",
                evidence=tuple(
                    Evidence(
                        f"expert_{expert}",
                        1.0,
                        f"expert {expert} is the feed-forward block of {owner}, word for word",
                    )
                    for expert, owner in owners
                ),
            )
        )


def settle_layers(family: OpenFamily) -> None:
    """Settle models whose layers all stand in others, word for word."""
    names = [n for n in family.open_models() if not is_quantised(family.members[n])]
    digests = {name: layer_digests(family.members[name]) for name in names}
    ordered = sorted(names, key=lambda name: birth(family.dates, name))
    for child in names:
        candidates = [
            name
            for name in ordered
            if name != child
            and child not in family.known_parents().get(name, ())
            and not is_rearranged_from(family, name, child)
            and date_log_odds(child, name, family.dates) >= 0
            and (_repeats(digests[child]) or not _repeats(digests[name]))
        ]
        origin = layer_origin(child, digests, candidates)
        if origin is None:
            continue
        stacked = len(origin.parents) > 1 or _repeats(digests[child])
        kind = Kind.PASSTHROUGH if stacked else Kind.PRUNED
        family.settle(_layer_finding(child, kind, origin.layer_map, Grade.PROVED))


def _repeats(digests: Sequence[str]) -> bool:
    """Whether a layer stands more than once: such a model was stacked, and is nobody's source."""
    return len(set(digests)) < len(digests)


def _layer_finding(
    child: str, kind: Kind, layer_map: Sequence[LayerSource], grade: Grade
) -> Finding:
    counts: dict[str, int] = {}
    for source in layer_map:
        counts[source.parent] = counts.get(source.parent, 0) + 1
    shares = tuple(
        ParentShare(name, n / len(layer_map))
        for name, n in sorted(counts.items(), key=lambda item: -item[1])
    )
    exactly = "word for word" if grade is Grade.PROVED else "by its feed-forward rows"
    return Finding(
        child,
        kind,
        grade,
        shares,
        method="passthrough" if kind is Kind.PASSTHROUGH else None,
        layer_map=tuple(layer_map),
        evidence=(
            Evidence(
                "layers_placed",
                float(len(layer_map)),
                f"all {len(layer_map)} layers were found in {', '.join(counts)}, {exactly}",
            ),
        ),
    )


def similar_origin(family: OpenFamily, name: str) -> Finding | None:
    """For the root of a layout that is not the family's first: the model it was cut from."""
    fingerprint = family.members[name]
    for other in sorted(family.members, key=lambda o: birth(family.dates, o)):
        finding = family.findings.get(other)
        if other == name or finding is None or is_quantised(family.members[other]):
            continue
        if date_log_odds(name, other, family.dates) < 0:
            continue
        if family.members[other].n_layers == fingerprint.n_layers:
            continue
        origin = similar_layers(fingerprint, family.members[other])
        if origin is not None:
            stacked = fingerprint.n_layers > family.members[other].n_layers
            kind = Kind.PASSTHROUGH if stacked else Kind.PRUNED
            return _layer_finding(name, kind, origin.layer_map, Grade.INFERRED)
    return None
