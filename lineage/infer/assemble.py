"""From fingerprints to findings: the order in which questions are asked.

Families first (a pair test for every two models; for candidate pairs where there are many,
:mod:`lineage.infer.pair_tests`). Inside a family: lossy and exact copies, then rearranged layers
and mixtures of experts, then merges that replay, and only then descent among what is left, shape by
shape (:mod:`lineage.infer.settle`); families of thousands neighbourhood by neighbourhood
(:mod:`lineage.infer.neighbourhoods`). A model's finding names its parents only where the evidence
allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lineage.infer.adapters import adapter_base, adapter_modules, adapter_rank
from lineage.infer.calibration import calibrated
from lineage.infer.equal_copies import tie_equal_parents
from lineage.infer.neighbourhoods import (
    MAX_WHOLE,
    Shortlists,
    part_of,
    settle_by_neighbourhood,
)
from lineage.infer.pair_tests import PairTests, PValues
from lineage.infer.settle.copies import settle_copies, settle_duplicates
from lineage.infer.settle.descent import settle_group, shape_groups
from lineage.infer.settle.family import Dates, Likes, OpenFamily
from lineage.infer.settle.layers import settle_experts, settle_layers
from lineage.infer.settle.quantised import settle_quantised
from lineage.model import Evidence, Finding, Grade, Kind, PairTest, PairVerdict, ParentShare
from lineage.weights.fingerprint import Fingerprint

if TYPE_CHECKING:
    from lineage.weights.sketch import ModelSketch

__all__ = ["ALL_PAIRS_UP_TO", "Inference", "infer_lineage"]

ALL_PAIRS_UP_TO = 400
"""Models that are tested all with all: eighty thousand pairs, minutes at ten milliseconds each."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Inference:
    """Everything one run found.

    Attributes
    ----------
    findings
        One for every model.
    pairs
        The family tests that were made: of every two models, or, where there were more than
        `ALL_PAIRS_UP_TO`, of those pairs only that had to be tested. A pair of one family that is
        not among them was neither tested nor found unrelated.
    """

    findings: tuple[Finding, ...]
    pairs: tuple[PairTest, ...]


def infer_lineage(
    fingerprints: Sequence[Fingerprint],
    dates: Dates,
    likes: Likes | None = None,
    progress: Progress = lambda _: None,
    *,
    sketches: Mapping[str, ModelSketch] | None = None,
    asked: Iterable[tuple[str, str]] = (),
    all_pairs_up_to: int = ALL_PAIRS_UP_TO,
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
    sketches
        Stored sketches by model; only many models need them, and those missing are computed.
    asked
        Pairs whose test somebody wants to see, such as declared parents. They are tested after all
        is found and change nothing of it.
    all_pairs_up_to
        So many models are tested all with all, more of them candidate pairs only.

    Raises
    ------
    IncomparableError
        If fingerprints of different schemes are mixed.
    """
    by_id = {f.repo_id: f for f in sorted(fingerprints, key=lambda f: f.repo_id)}
    adapters = {name: f for name, f in by_id.items() if _is_adapter(f)}
    plain = {name: f for name, f in by_id.items() if f.samples and name not in adapters}
    findings = {name: _unread(name) for name, f in by_id.items() if not f.samples}
    tests = PairTests(plain)
    shortlists: Shortlists | None = None
    if len(plain) <= all_pairs_up_to:
        progress(f"testing {len(plain) * (len(plain) - 1) // 2} pairs")
        tests.ask_all()
    else:
        progress(f"looking for candidates among {len(plain)} models")
        shortlists = tests.ask_candidates(sketches)
    families = tests.families()
    twins = {
        name: other
        for pair in tests.rows
        if pair.verdict is PairVerdict.COMMON_INIT
        for name, other in ((pair.a, pair.b), (pair.b, pair.a))
    }
    for number, members in enumerate(families, start=1):
        family = OpenFamily(
            {name: by_id[name] for name in members}, dates, likes or {}, PValues(tests)
        )
        progress(f"family {number}: {len(members)} models")
        _resolve_family(family, shortlists, sketches)
        findings.update(
            (name, _as_twin(finding, twins.get(name))) for name, finding in family.findings.items()
        )
    findings.update((name, _adapter(f, by_id, findings)) for name, f in adapters.items())
    for pair in asked:
        tests.ask_if_possible(*pair)
    untestable = [] if shortlists is not None else list(_untestable(by_id, plain))
    ordered = tie_equal_parents([findings[name] for name in by_id], dates)
    return Inference(calibrated(ordered), (*tests.rows, *untestable))


def _is_adapter(fingerprint: Fingerprint) -> bool:
    return bool(fingerprint.samples) and all(".lora_" in key.role for key in fingerprint.samples)


def _unread(name: str) -> Finding:
    note = "none of its weights could be read"
    return Finding(name, Kind.FOUNDER, Grade.ABSTAIN, note=note)


def _untestable(everyone: Iterable[str], plain: Mapping[str, Fingerprint]) -> Iterator[PairTest]:
    """Pairs of which one is an adapter or was not read: nothing of them compares."""
    for name in everyone:
        for other in everyone:
            if name != other and name not in plain and (other in plain or name < other):
                a, b = min(name, other), max(name, other)
                yield PairTest(a, b, PairVerdict.UNTESTABLE, None, None, None)


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
            target_modules=adapter_modules(adapter),
            note="an adapter holds only its own factors: its weights cannot tell the base model",
        )
    base, evidence = found
    return Finding(
        adapter.repo_id,
        Kind.ADAPTER,
        Grade.INFERRED,
        (ParentShare(base, 1.0),),
        rank=adapter_rank(adapter),
        target_modules=adapter_modules(adapter),
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


def _resolve_family(
    family: OpenFamily,
    shortlists: Shortlists | None,
    sketches: Mapping[str, ModelSketch] | None,
) -> None:
    settle_duplicates(family)
    left = family.open_models()
    if len(left) > MAX_WHOLE:
        if shortlists is None:
            shortlists = _shortlists([family.members[name] for name in left], sketches)
        settle_by_neighbourhood(family, _of_originals(shortlists, family), _settle_rest)
        return
    # Ten thousand re-uploads are no witnesses of anything else.
    rest = part_of(family, left)
    _settle_rest(rest)
    family.findings |= rest.findings


def _shortlists(
    models: Sequence[Fingerprint], sketches: Mapping[str, ModelSketch] | None
) -> Shortlists:
    from lineage.infer.candidates import find_candidates, marks_of  # imports torch

    return find_candidates(marks_of(models, sketches)).lists()


def _of_originals(shortlists: Shortlists, family: OpenFamily) -> Shortlists:
    """Lists of a family's originals: of equal models, any may have been searched for."""
    return {
        family.original(name): [
            family.original(other) for other in shortlists[name] if other in family.members
        ]
        for name in family.members
        if name in shortlists
    }


def _settle_rest(family: OpenFamily) -> None:
    settle_copies(family)
    settle_quantised(family)
    settle_experts(family)
    settle_layers(family)
    for group in shape_groups(family):
        settle_group(family, group)
