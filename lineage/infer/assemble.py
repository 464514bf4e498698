"""From fingerprints to findings: the order in which questions are asked.

Families first (a pair test for every two models). Inside a family: lossy and exact copies, then
rearranged layers and mixtures of experts, then merges that replay, and only then descent among
what is left, shape by shape (:mod:`lineage.infer.settle`). A model's finding names its parents only
where the evidence allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import networkx as nx

from lineage.infer.adapters import adapter_base, adapter_rank
from lineage.infer.quantised import dequantised, is_quantised
from lineage.infer.relatedness import test_pair
from lineage.infer.settle.copies import settle_copies
from lineage.infer.settle.descent import settle_group, shape_groups
from lineage.infer.settle.family import Dates, Likes, OpenFamily
from lineage.infer.settle.layers import settle_experts, settle_layers
from lineage.infer.settle.quantised import settle_quantised
from lineage.model import Evidence, Finding, Grade, Kind, PairTest, PairVerdict, ParentShare
from lineage.weights.fingerprint import Fingerprint

__all__ = ["Inference", "infer_lineage"]

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Inference:
    """Everything one run found: one finding a model, one test a pair."""

    findings: tuple[Finding, ...]
    pairs: tuple[PairTest, ...]


def infer_lineage(
    fingerprints: Sequence[Fingerprint],
    dates: Dates,
    likes: Likes | None = None,
    progress: Progress = lambda _: None,
) -> Inference:
    """Find the origin of every model.

    Parameters
    ----------
    fingerprints
        One per model, all of one scheme.
    dates
        Upload times; one capped witness among others. May be empty.
    likes
        Likes; a witness only between models whose weights are the same, since re-uploads may carry
        any date but seldom the original's following.
    progress
        Called with a sentence at the start of each step.

    Raises
    ------
    IncomparableError
        If fingerprints of different schemes are mixed.
    """
    by_id = {f.repo_id: f for f in sorted(fingerprints, key=lambda f: f.repo_id)}
    adapters = {name: f for name, f in by_id.items() if _is_adapter(f)}
    plain = {
        name: dequantised(f) if is_quantised(f) else f
        for name, f in by_id.items()
        if name not in adapters
    }
    findings: dict[str, Finding] = {}
    progress(f"testing {len(plain) * (len(plain) - 1) // 2} pairs")
    pairs = _test_pairs(plain)
    related = nx.Graph()
    related.add_nodes_from(plain)
    related.add_edges_from((p.a, p.b) for p in pairs if p.verdict is PairVerdict.RELATED)
    p_values = {
        frozenset((pair.a, pair.b)): pair.p_value for pair in pairs if pair.p_value is not None
    }
    twins = {
        name: other
        for pair in pairs
        if pair.verdict is PairVerdict.COMMON_INIT
        for name, other in ((pair.a, pair.b), (pair.b, pair.a))
    }
    for number, component in enumerate(nx.connected_components(related), start=1):
        members = {name: by_id[name] for name in sorted(component)}
        family = OpenFamily(members, dates, likes or {}, p_values)
        progress(f"family {number}: {len(component)} models")
        _resolve_family(family)
        findings.update(
            (name, _as_twin(finding, twins.get(name))) for name, finding in family.findings.items()
        )
    findings.update((name, _adapter(f, by_id, findings)) for name, f in adapters.items())
    untestable = [
        PairTest(min(name, other), max(name, other), PairVerdict.UNTESTABLE, None, None, None)
        for name in by_id
        for other in by_id
        if name != other and name not in plain and (other in plain or name < other)
    ]
    return Inference(tuple(findings[name] for name in by_id), (*pairs, *untestable))


def _is_adapter(fingerprint: Fingerprint) -> bool:
    return bool(fingerprint.samples) and all(".lora_" in key.role for key in fingerprint.samples)


def _test_pairs(models: Mapping[str, Fingerprint]) -> tuple[PairTest, ...]:
    n_pairs = max(1, len(models) * (len(models) - 1) // 2)
    return tuple(test_pair(models[a], models[b], n_pairs) for a, b in combinations(models, 2))


def _adapter(
    adapter: Fingerprint, by_id: Mapping[str, Fingerprint], findings: Mapping[str, Finding]
) -> Finding:
    """An adapter's base, if its merged model was published too."""
    merged = [
        (by_id[finding.child], by_id[finding.parents[0].parent])
        for finding in findings.values()
        if finding.kind is Kind.LORA_MERGED and finding.parents
    ]
    found = adapter_base(adapter, merged)
    if found is None:
        return Finding(
            adapter.repo_id,
            Kind.ADAPTER,
            Grade.ABSTAIN,
            rank=adapter_rank(adapter),
            note="an adapter holds only its own factors: its weights cannot tell the base model",
        )
    base, evidence = found
    return Finding(
        adapter.repo_id,
        Kind.ADAPTER,
        Grade.INFERRED,
        (ParentShare(base, 1.0),),
        rank=adapter_rank(adapter),
        evidence=(evidence,),
    )


def _as_twin(finding: Finding, twin: str | None) -> Finding:
    """A founder that shares its random initialisation with another says so."""
    if twin is None or finding.parents or finding.kind is not Kind.FOUNDER:
        return finding
    return replace(
        finding,
        kind=Kind.COMMON_INIT,
        note=f"started from the same random initialisation as {twin} and was trained apart",
        evidence=(
            *finding.evidence,
            Evidence(
                "same_initialisation", 1.0, f"unit by unit like {twin}, trained gains unlike it"
            ),
        ),
    )


def _resolve_family(family: OpenFamily) -> None:
    settle_copies(family)
    settle_quantised(family)
    settle_experts(family)
    settle_layers(family)
    for group in shape_groups(family):
        settle_group(family, group)
