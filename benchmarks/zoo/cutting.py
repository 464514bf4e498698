"""Models cut from fine-tunes that nobody published: who is named their parent?

Every fine-tune of one parent is taken out of its family with all that was made of it, every second
layer of it is put in its place, and the inference is asked where that came from. The ground itself
holds only a few such models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from benchmarks.zoo.labels import Label
from lineage.infer.layers import difference, laid_out
from lineage.infer.settle.descent import shape_groups
from lineage.infer.settle.family import OpenFamily
from lineage.infer.settle.trained_layers import similar_origin
from lineage.infer.truth import TrueModel, Truth
from lineage.model import Finding, Kind
from lineage.weights.fingerprint import Fingerprint

__all__ = ["cut_models"]

_TUNED = (Kind.FINETUNE, Kind.CONTINUED_PRETRAINING, Kind.LORA_MERGED)
_LEAST_LAYERS = 4
_CUT = "cut"


def cut_models(
    truth: Truth,
    labels: Mapping[str, Label],
    models: Mapping[str, Fingerprint],
    findings: Sequence[Finding],
) -> dict[str, dict[str, int]]:
    """How often the published parent of an unpublished model is named of what was cut from it.

    Returns
    -------
    dict
        By the unpublished model's kind: the number `n` of cuts, two a model; those of which the
        parent is named alone (`right`), among others (`tie_with_parent`, `tie_without`), not
        (`wrong`, `none`), or another layer map (`other_layers`); and of how many the `nearest`
        model of its shape, by distance of what is left, is the parent. Equal copies are one.
    """
    found = {finding.child: finding for finding in findings}
    counts: dict[str, Counter[str]] = {}
    for name, model in truth.models.items():
        if model.kind not in _TUNED or len(model.parents) != 1 or name not in models:
            continue
        if models[name].n_layers < _LEAST_LAYERS:
            continue
        relatives = list(_relatives(truth, labels, name, models.keys() & found.keys()))
        for first in (0, 1):
            places = range(first, models[name].n_layers, 2)
            family = OpenFamily({n: models[n] for n in relatives}, {}, {}, {})
            family.findings = {n: found[n] for n in relatives}
            family.members[_CUT] = replace(laid_out(models[name], places), repo_id=_CUT)
            count = counts.setdefault(str(model.kind), Counter(n=0))
            count["n"] += 1
            origin = similar_origin(family, _CUT, shape_groups(family))
            count[_outcome(truth, model, origin, places)] += 1
            count["nearest"] += _nearest_is_parent(truth, model, family, places)
    return {kind: dict(count) for kind, count in sorted(counts.items())}


def _relatives(
    truth: Truth, labels: Mapping[str, Label], name: str, among: Collection[str]
) -> Iterator[str]:
    """A model's published family without all that was made of it, and without adapters."""
    for other in sorted(among):
        if (
            labels[other].family == labels[name].family
            and name not in truth.ancestors(other)
            and truth.are_related(name, other)
            and truth.models[other].kind is not Kind.ADAPTER
        ):
            yield other


def _outcome(truth: Truth, model: TrueModel, origin: Finding | None, places: range) -> str:
    if origin is None:
        return "none"
    if [source.parent_layer for source in origin.layer_map] != list(places):
        return "other_layers"
    parent = truth.original(model.parents[0][0])
    named = {truth.original(one) for one in (*origin.ties, origin.parents[0].parent)}
    if named == {parent}:
        return "right"
    if len(named) > 1:
        return "tie_with_parent" if parent in named else "tie_without"
    return "wrong"


def _nearest_is_parent(
    truth: Truth, model: TrueModel, family: OpenFamily, places: Sequence[int]
) -> bool:
    whole = max((one.n_layers for one in family.members.values()), default=0)
    away = {
        name: difference(family.members[_CUT], other, places)[0]
        for name, other in family.members.items()
        if name != _CUT and other.n_layers == whole
    }
    nearest = min(away, key=lambda name: away[name], default="")
    return truth.original(nearest) == truth.original(model.parents[0][0])
