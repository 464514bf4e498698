"""From fingerprints to findings: the order in which questions are asked.

Families first (a pair test for every two models). Inside a family: lossy and exact copies, then
rearranged layers and mixtures of experts, then merges that replay, and only then descent among what
is left, shape by shape. A model's finding names its parents only where the evidence allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import combinations

import networkx as nx
import numpy as np

from lineage.infer.adapters import adapter_base, adapter_rank
from lineage.infer.change import Change, describe_change, frozen_share
from lineage.infer.descent import DECIDED, Descent, resolve_descent, resolve_family
from lineage.infer.geometry import Pool, make_pool
from lineage.infer.identity import Copy, find_copy, is_duplicate
from lineage.infer.layers import expert_origin, layer_digests, layer_origin, similar_layers
from lineage.infer.merges import MIN_GAIN, MIN_MATCH, Mixture, screen_merge
from lineage.infer.quantised import dequantised, is_quantised, method_of, replay_codes
from lineage.infer.relatedness import bit_equality, test_pair
from lineage.infer.replay import (
    Replay,
    replay_linear,
    replay_slerp,
    replay_task_arithmetic,
)
from lineage.infer.rooting import date_log_odds
from lineage.model import (
    Evidence,
    Finding,
    Grade,
    Kind,
    LayerSource,
    PairTest,
    PairVerdict,
    ParentShare,
)
from lineage.weights.fingerprint import Fingerprint

__all__ = ["Inference", "infer_lineage"]

Dates = Mapping[str, datetime | None]
Likes = Mapping[str, int | None]
Progress = Callable[[str], None]

_COPY_DATE_LOG_ODDS = 1.0
_LIKES_LOG_ODDS = 3.0
_PROVED_CODES = 0.995
_LIKELY_CODES = 0.60
_PROVED_REPLAY = 0.99
_SAME_VALUES = 0.9
_FROZEN_SHARE = 0.2
_TRIED_BASES = 3


@dataclass(frozen=True)
class Inference:
    """Everything one run found: one finding a model, one test a pair."""

    findings: tuple[Finding, ...]
    pairs: tuple[PairTest, ...]


@dataclass
class _Family:
    """Work in progress on one family: what is settled, and who is left."""

    members: dict[str, Fingerprint]
    dates: Dates
    likes: Likes
    p_values: Mapping[frozenset[str], float]
    findings: dict[str, Finding] = field(default_factory=dict)

    def open_models(self) -> list[str]:
        return [name for name in self.members if name not in self.findings]

    def known_parents(self) -> dict[str, tuple[str, ...]]:
        return {
            child: tuple(share.parent for share in finding.parents)
            for child, finding in self.findings.items()
        }

    def settle(self, finding: Finding) -> None:
        """Record a finding, with the family test against its first parent."""
        if finding.parents and finding.p_value is None:
            pair = frozenset((finding.child, finding.parents[0].parent))
            finding = replace(finding, p_value=self.p_values.get(pair))
        self.findings[finding.child] = finding

    def original(self, name: str) -> str:
        """The model that `name` is a byte-for-byte duplicate of, or itself."""
        seen = {name}
        while (finding := self.findings.get(name)) and finding.kind is Kind.DUPLICATE:
            name = finding.parents[0].parent
            if name in seen:
                break
            seen.add(name)
        return name


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
        family = _Family(members, dates, likes or {}, p_values)
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


def _resolve_family(family: _Family) -> None:
    _settle_copies(family)
    _settle_quantised(family)
    _settle_experts(family)
    _settle_layers(family)
    for group in _shape_groups(family):
        _settle_group(family, group)


def _settle_copies(family: _Family) -> None:
    for twins in _duplicate_classes(family):
        original = max(twins, key=lambda name: (_seniority(family, name, twins), name))
        for child in twins:
            if child == original:
                continue
            copy = find_copy(family.members[child], family.members[original])
            if copy is not None:
                family.settle(_copy_finding(family, child, original, copy))
    originals = family.open_models()
    for child in originals:
        found = [
            (parent, copy)
            for parent in originals
            if parent != child
            and is_quantised(family.members[child]) == is_quantised(family.members[parent])
            and (copy := find_copy(family.members[child], family.members[parent])) is not None
            and (copy.directed or _log_odds_older(family, parent, child) > 0)
        ]
        if found:
            parent, copy = min(found, key=lambda item: _birth(family.dates, item[0]))
            family.settle(_copy_finding(family, child, parent, copy))


def _duplicate_classes(family: _Family) -> list[list[str]]:
    """Sets of models with the same words, singletons left out."""
    same = nx.Graph()
    same.add_nodes_from(family.members)
    for a, b in combinations(family.members, 2):
        if is_duplicate(family.members[a], family.members[b]):
            same.add_edge(a, b)
    return [sorted(twins) for twins in nx.connected_components(same) if len(twins) > 1]


def _copy_finding(family: _Family, child: str, parent: str, copy: Copy) -> Finding:
    undecided = not copy.directed and _log_odds_older(family, parent, child) == 0
    note = "" if copy.directed else "which of the two came first is told by date and likes"
    return Finding(
        child,
        copy.kind,
        Grade.TIE if undecided else Grade.PROVED,
        (ParentShare(parent, 1.0),),
        ties=(parent,) if undecided else (),
        evidence=copy.evidence,
        note=note,
    )


def _seniority(family: _Family, name: str, twins: Sequence[str]) -> float:
    return sum(_log_odds_older(family, name, other) for other in twins if other != name)


def _log_odds_older(family: _Family, a: str, b: str) -> float:
    """Log-odds that `a` is the original of the equal models `a` and `b`."""
    odds = date_log_odds(b, a, family.dates, cap=_COPY_DATE_LOG_ODDS)
    liked_a, liked_b = family.likes.get(a), family.likes.get(b)
    if liked_a is not None and liked_b is not None:
        ratio = float(np.log((liked_a + 1) / (liked_b + 1)))
        odds += float(np.clip(ratio, -_LIKES_LOG_ODDS, _LIKES_LOG_ODDS))
    return odds


def _birth(dates: Dates, name: str) -> tuple[float, str]:
    born = dates.get(name)
    return (born.timestamp() if born else float("inf"), name)


def _settle_quantised(family: _Family) -> None:
    sources = [name for name, f in family.members.items() if not is_quantised(f)]
    for child in family.open_models():
        fingerprint = family.members[child]
        if not is_quantised(fingerprint):
            continue
        tried = [
            (*replayed, name)
            for name in sources
            if (replayed := replay_codes(fingerprint, family.members[name])) is not None
        ]
        if not tried:
            family.settle(
                Finding(
                    child,
                    Kind.QUANTIZED,
                    Grade.ABSTAIN,
                    method=method_of(fingerprint),
                    note="no model of the catalogue can be compared with its codes",
                )
            )
            continue
        top = max(share for share, _, _ in tried)
        best = [(evidence, name) for share, evidence, name in tried if share >= top - 1e-9]
        evidence, parent = min(
            best, key=lambda item: (_n_copies_away(family, item[1]), _birth(family.dates, item[1]))
        )
        if top < _LIKELY_CODES:
            family.settle(
                Finding(
                    child,
                    Kind.QUANTIZED,
                    Grade.ABSTAIN,
                    method=method_of(fingerprint),
                    evidence=(evidence,),
                    note="no model of the catalogue has the values that were quantised",
                )
            )
            continue
        family.settle(
            Finding(
                child,
                Kind.QUANTIZED,
                Grade.PROVED if top >= _PROVED_CODES else Grade.INFERRED,
                (ParentShare(parent, 1.0),),
                method=method_of(fingerprint),
                evidence=(evidence,),
            )
        )


def _n_copies_away(family: _Family, name: str) -> int:
    """How many exact-copy steps lie between `name` and an original."""
    steps, seen = 0, {name}
    while (finding := family.findings.get(name)) and finding.parents:
        name = finding.parents[0].parent
        if name in seen:
            break
        seen.add(name)
        steps += 1
    return steps


def _settle_experts(family: _Family) -> None:
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


def _settle_layers(family: _Family) -> None:
    names = [n for n in family.open_models() if not is_quantised(family.members[n])]
    digests = {name: layer_digests(family.members[name]) for name in names}
    ordered = sorted(names, key=lambda name: _birth(family.dates, name))
    for child in names:
        candidates = [
            name
            for name in ordered
            if name != child
            and child not in family.known_parents().get(name, ())
            and not _is_rearranged_from(family, name, child)
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


def _is_rearranged_from(family: _Family, name: str, source: str) -> bool:
    finding = family.findings.get(name)
    return bool(finding and any(share.parent == source for share in finding.parents))


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


def _shape_groups(family: _Family) -> list[list[str]]:
    """Open models and their possible ancestors, by number of layers and matrix widths."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, fingerprint in family.members.items():
        if is_quantised(fingerprint) or _says_nothing_new(family, name):
            continue
        layout = tuple(
            (key, sample.shape[1:]) for key, sample in sorted(fingerprint.samples.items())
        )
        groups.setdefault(layout, []).append(name)
    return sorted(groups.values(), key=len, reverse=True)


def _says_nothing_new(family: _Family, name: str) -> bool:
    """Whether a copy's values are its original's, so that the two could not be told apart.

    A cast that rounded is kept: its rounding noise is a mark that its own children inherit.
    """
    finding = family.findings.get(name)
    if finding is None:
        return False
    if finding.kind is Kind.CAST:
        original = family.members[finding.parents[0].parent]
        equal = bit_equality(family.members[name], original)
        return equal is not None and equal > _SAME_VALUES
    return finding.kind in (Kind.DUPLICATE, Kind.PERMUTED) or (
        finding.kind is Kind.VOCABULARY and finding.grade is Grade.PROVED
    )


def _settle_group(family: _Family, group: Sequence[str]) -> None:
    pool = make_pool([family.members[name] for name in group])
    _settle_merges(family, pool)
    _settle_surgery(family, pool)
    free = [name for name in group if name not in family.findings]
    rearranged = [
        name
        for name in group
        if name in family.findings and family.findings[name].kind in (Kind.PRUNED, Kind.PASSTHROUGH)
    ]
    if not free:
        return
    is_first = list(group) == _shape_groups(family)[0]
    if rearranged and not is_first:
        # A rearranged model and what was trained from it: the rearranged one is the root.
        root = min(rearranged, key=lambda name: _birth(family.dates, name))
        descents = resolve_descent(pool, root, free, family.dates, family.known_parents())
    else:
        found = resolve_family(pool, free, family.dates, family.known_parents())
        root, descents = found.founder, found.descents
        surgery = None if is_first else _similar_origin(family, root)
        family.settle(surgery or _founder(root, found.log_odds))
    for descent in descents:
        family.settle(_descent_finding(family, descent, root))


def _settle_surgery(family: _Family, pool: Pool) -> None:
    """Children that were cut open rather than trained: adapters merged in, a direction removed.

    Such a change leaves most tensors untouched word for word and is of low rank elsewhere, against
    the true parent only. A low-rank change reads the same in both directions, so it needs a date.
    """
    for child in pool.ids:
        if child in family.findings:
            continue
        found: list[tuple[int, float, str, Change]] = []
        for parent in pool.ids:
            odds = date_log_odds(child, parent, family.dates)
            if parent == child or odds < 0 or _is_rearranged_from(family, parent, child):
                continue
            if frozen_share(family.members[child], family.members[parent]) < _FROZEN_SHARE:
                continue
            change = describe_change(family.members[child], family.members[parent])
            if change.kind is Kind.ABLITERATED or (change.kind is Kind.LORA_MERGED and odds > 0):
                found.append((change.rank or 0, change.relative, parent, change))
        if found:
            _, _, parent, change = min(found, key=lambda item: item[:3])
            family.settle(
                Finding(
                    child,
                    change.kind,
                    Grade.INFERRED,
                    (ParentShare(parent, 1.0),),
                    rank=change.rank,
                    evidence=change.evidence,
                )
            )


def _founder(name: str, log_odds: float) -> Finding:
    facts: tuple[Evidence, ...] = ()
    if np.isfinite(log_odds):
        facts = (
            Evidence(
                "root_log_odds",
                log_odds,
                f"root of its family by arrows, rounding and dates, log-odds {log_odds:.1f} to all "
                "others",
            ),
        )
    return Finding(
        name,
        Kind.FOUNDER,
        Grade.INFERRED if log_odds >= DECIDED else Grade.ABSTAIN,
        evidence=facts,
        note="no parent among the models that were read"
        if log_odds >= DECIDED
        else "likelier the founder than any other, but not nine times likelier than all of them",
    )


def _similar_origin(family: _Family, name: str) -> Finding | None:
    """For the root of a layout that is not the family's first: the model it was cut from."""
    fingerprint = family.members[name]
    for other in sorted(family.members, key=lambda o: _birth(family.dates, o)):
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


def _settle_merges(family: _Family, pool: Pool) -> None:
    # Without dates the base of a merge is looked for in the middle of its family.
    central = dict(zip(pool.ids, pool.squared_distance.sum(axis=0), strict=True))
    for child in pool.ids:
        if child in family.findings:
            continue
        candidates = [
            name
            for name in pool.ids
            if name != child
            and date_log_odds(child, name, family.dates) >= 0
            and not _is_rearranged_from(family, name, child)
        ]
        dtype = family.members[child].dtype
        oldest = sorted(candidates, key=lambda name: (_birth(family.dates, name)[0], central[name]))
        for mixture in screen_merge(pool, child, candidates, dtype):
            finding = _merge_finding(pool, child, dtype, mixture, oldest[:_TRIED_BASES])
            if finding is not None:
                family.settle(finding)
                break


def _merge_finding(
    pool: Pool, child: str, dtype: str, mixture: Mixture, bases: Sequence[str]
) -> Finding | None:
    """The finding if a recipe, or free coefficients per tensor, reproduce the child; else None."""
    best = _best_replay(pool, child, dtype, mixture, bases)
    match = max(best.match, mixture.match)
    if match < MIN_MATCH or match - mixture.single_match < MIN_GAIN:
        return None
    proved = best.match >= _PROVED_REPLAY
    facts = (
        Evidence(
            "words_replayed",
            best.match,
            f"the {best.method} recipe gives {100 * best.match:.2f} % of the stored words",
        ),
        Evidence(
            "words_fitted",
            mixture.match,
            f"free coefficients per tensor give {100 * mixture.match:.2f} %, the best single "
            f"parent {100 * mixture.single_match:.2f} %",
        ),
    )
    if not proved:
        sizes = np.array([values[0].size for values in pool.values], dtype=np.float64)
        best = replace(
            best, parents=mixture.parents, weights=tuple(map(float, mixture.weights(sizes)))
        )
    shares = (ParentShare(*share) for share in zip(best.parents, best.weights, strict=True))
    return Finding(
        child,
        Kind.MERGE,
        Grade.PROVED if proved else Grade.INFERRED,
        tuple(sorted(shares, key=lambda share: -share.weight)),
        base=best.base if proved else None,
        method=best.method if proved else None,
        evidence=facts,
        recipe_yaml=best.recipe_yaml if proved else None,
    )


def _best_replay(
    pool: Pool, child: str, dtype: str, mixture: Mixture, bases: Sequence[str]
) -> Replay:
    """The recipe that reproduces most words; the simplest where two do equally well."""
    best = replay_linear(pool, child, dtype, mixture)
    if best.match < 1:  # a line comes close to the sphere, and not to the last bit
        slerp = replay_slerp(pool, child, dtype, mixture)
        if slerp is not None and slerp.match > best.match:
            best = slerp
    if best.match < _PROVED_REPLAY:
        for base in dict.fromkeys((*mixture.parents, *bases)):
            tasks = replay_task_arithmetic(pool, child, dtype, mixture, base)
            if tasks is not None and tasks.match > best.match:
                best = tasks
            if best.match >= _PROVED_REPLAY:
                break
    return best


def _descent_finding(family: _Family, descent: Descent, root: str) -> Finding:
    child = descent.child
    if len(descent.parents) > 1 and not descent.decided:
        return Finding(
            child,
            Kind.MERGE,
            Grade.ABSTAIN,
            ties=tuple(name for name, *_ in descent.parents),
            evidence=descent.evidence,
            note="carries parts of several relatives, but which came first cannot be told",
        )
    if len(descent.parents) > 1:
        return Finding(
            child,
            Kind.MERGE,
            Grade.INFERRED,
            tuple(
                ParentShare(name, share, max(0.0, share - 2 * error), share + 2 * error)
                for name, share, error in descent.parents
            ),
            base=root,
            evidence=descent.evidence,
            note="a merge whose exact recipe was not recovered",
        )
    parent = descent.parents[0][0]
    change = describe_change(family.members[child], family.members[parent])
    grade = Grade.TIE if descent.ties else Grade.INFERRED
    if not descent.decided:
        return Finding(
            child,
            change.kind,
            Grade.ABSTAIN,
            ties=(parent,),
            evidence=(*descent.evidence, *change.evidence),
            note=f"related to {parent}, but which of the two came first cannot be told",
        )
    return Finding(
        child,
        change.kind,
        grade,
        (ParentShare(parent, 1.0),),
        ties=descent.ties,
        rank=change.rank,
        evidence=(*descent.evidence, *change.evidence),
    )
