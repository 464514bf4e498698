"""Rearranged layers and mixtures of experts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from lineage.infer.layers import (
    LayerOrigin,
    expert_origin,
    has_values_of,
    kept_units,
    layer_digests,
    layer_origin,
)
from lineage.infer.quantised import is_quantised
from lineage.infer.rooting import date_log_odds
from lineage.infer.settle.family import OpenFamily, birth, is_made_from
from lineage.model import Evidence, Finding, Grade, Kind, LayerSource, ParentShare

__all__ = ["layer_finding", "settle_experts", "settle_layers"]

_FOUND_UNITS = 0.5
"""Share of the units that can be found by chance of sampling: any order of choice leaves more."""


def settle_experts(family: OpenFamily) -> None:
    """Settle mixtures of experts that were put together from dense models."""
    dense = [
        name
        for name in family.open_models()
        if not any(key.expert >= 0 for key in family.members[name].samples)
    ]
    for child in family.open_models():
        candidates = [family.members[name] for name in _by_preference(family, child, dense)]
        origin = expert_origin(family.members[child], candidates)
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


def _by_preference(family: OpenFamily, child: str, names: Sequence[str]) -> list[str]:
    """Models with more of the child's tensors outside the layers first, then the older ones.

    Models that differ in their vocabulary alone have the same layers, and so do lossless casts:
    originals are merged and cut more often than these, whatever type the child is stored in.
    """
    fingerprint = family.members[child]
    outside = [(key, sample) for key, sample in fingerprint.samples.items() if key.layer < 0]

    def n_equal(name: str) -> int:
        other = family.members[name].samples
        return sum(key in other and has_values_of(sample, other[key]) for key, sample in outside)

    def order(name: str) -> tuple[int, bool, tuple[float, str]]:
        return -n_equal(name), name in family.findings, birth(family.dates, name)

    return sorted(names, key=order)


def settle_layers(family: OpenFamily) -> None:
    """Settle models whose layers or feed-forward units all stand in others, word for word."""
    for is_wanted in (_is_stack, _has_one_parent, lambda *_: True):
        _settle_exact_layers(family, is_wanted)
    _settle_kept_units(family)


def _settle_exact_layers(
    family: OpenFamily, is_wanted: Callable[[OpenFamily, LayerOrigin], bool]
) -> None:
    """Settle models made of others' layers in a wanted way.

    Stacks come first, then what was cut from one model: an original is made of the layers of the
    stacks that hold its pieces, too, and of the models that were pruned from it.
    """
    names = [n for n in family.open_models() if not is_quantised(family.members[n])]
    # Copies that are no longer word for word what they are copies of have layers of their own.
    sources = [
        name
        for name, member in family.members.items()
        if not is_quantised(member)
        and (name in names or family.findings[name].kind in (Kind.PERMUTED, Kind.CAST))
    ]
    by_dtype = {
        dtype: _Layers.of(family, sources, dtype)
        for dtype in sorted({family.members[name].dtype for name in names})
    }
    for child in names:
        digests, owners = by_dtype[family.members[child].dtype]
        sharing = {name for digest in digests[child] for name in owners[digest]} - {child}
        candidates = [
            name
            for name in _by_preference(family, child, sorted(sharing))
            if child not in family.known_parents().get(name, ())
            and not is_made_from(family, name, child)
            and date_log_odds(child, name, family.dates) >= 0
            and (_repeats(digests[child]) or not _repeats(digests[name]))
        ]
        origin = layer_origin(child, digests, candidates)
        if origin is None or not is_wanted(family, origin):
            continue
        stacked = len(origin.parents) > 1 or _repeats(digests[child])
        kind = Kind.PASSTHROUGH if stacked else Kind.PRUNED
        family.settle(layer_finding(child, kind, origin.layer_map, Grade.PROVED))


class _Layers(NamedTuple):
    """Digests of layers by model, as stored in one number type, and models by digest."""

    digests: Mapping[str, tuple[str, ...]]
    owners: Mapping[str, Collection[str]]

    @staticmethod
    def of(family: OpenFamily, names: Sequence[str], dtype: str) -> _Layers:
        digests = {name: layer_digests(family.members[name], dtype) for name in names}
        owners: dict[str, set[str]] = {}
        for name in names:
            for digest in digests[name]:
                owners.setdefault(digest, set()).add(name)
        return _Layers(digests, owners)


def _is_stack(family: OpenFamily, origin: LayerOrigin) -> bool:
    """Whether layers of several models make a deeper one.

    What was cut from one model has one embedding, and in turns all of its layers: there only runs
    of layers tell a stack.
    """
    depth = len(origin.layer_map)
    steps = [
        (one.parent, one.parent_layer + 1) == (following.parent, following.parent_layer)
        for one, following in pairwise(origin.layer_map)
    ]
    is_deeper = all(family.members[name].n_layers < depth for name in origin.parents)
    has_runs = 2 * (1 + steps.count(False)) <= depth
    return len(origin.parents) > 1 and is_deeper and (has_runs or _are_apart(family, origin))


def _are_apart(family: OpenFamily, origin: LayerOrigin) -> bool:
    """Whether no two parents have the same words outside of their layers."""
    outside = [
        tuple(sample.words for key, sample in sorted(member.samples.items()) if key.layer < 0)
        for member in (family.members[name] for name in origin.parents)
    ]
    return all(outside) and len(set(outside)) == len(outside)


def _has_one_parent(_: OpenFamily, origin: LayerOrigin) -> bool:
    return len(origin.parents) == 1


def _repeats(digests: Sequence[str]) -> bool:
    """Whether a layer stands more than once: such a model was stacked, and is nobody's source."""
    return len(set(digests)) < len(digests)


def layer_finding(
    child: str, kind: Kind, layer_map: Sequence[LayerSource], grade: Grade
) -> Finding:
    """A model whose layers all stand in others: their shares, and the layer map."""
    counts: dict[str, int] = {}
    for source in layer_map:
        counts[source.parent] = counts.get(source.parent, 0) + 1
    shares = tuple(
        ParentShare(name, n / len(layer_map))
        for name, n in sorted(counts.items(), key=lambda item: -item[1])
    )
    exactly = "word for word" if grade is Grade.PROVED else "trained since"
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


def _settle_kept_units(family: OpenFamily) -> None:
    """Settle models that kept some feed-forward units of a wider one and changed nothing else."""
    names = [n for n in family.open_models() if not is_quantised(family.members[n])]
    for child in names:
        found = [
            (counts, name)
            for name in sorted(family.members, key=lambda name: birth(family.dates, name))
            if name != child
            and not is_quantised(family.members[name])
            and not is_made_from(family, name, child)
            and (counts := kept_units(family.members[child], family.members[name])) is not None
            and counts[0] >= _FOUND_UNITS * counts[1]
        ]
        if not found:
            continue
        (n_found, n_asked), parent = max(found, key=lambda item: item[0][0])
        told = (
            f"{n_found} sampled feed-forward units are units of the wider {parent}, in its order "
            f"({n_asked} expected); every other word is equal"
        )
        family.settle(
            Finding(
                child,
                Kind.PRUNED,
                Grade.PROVED,
                (ParentShare(parent, 1.0),),
                method="width",
                evidence=(Evidence("units_found", float(n_found), told),),
            )
        )
