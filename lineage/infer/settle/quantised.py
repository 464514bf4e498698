"""Quantised children: whose values were they made from."""

from __future__ import annotations

from lineage.infer.quantised import is_quantised, method_of, replay_codes
from lineage.infer.settle.family import OpenFamily, birth
from lineage.model import Finding, Grade, Kind, ParentShare

__all__ = ["settle_quantised"]

_PROVED_CODES = 0.995
_LIKELY_CODES = 0.60


def settle_quantised(family: OpenFamily) -> None:
    """Settle quantised models by replaying their codes on every plain model."""
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
            best, key=lambda item: (_n_copies_away(family, item[1]), birth(family.dates, item[1]))
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


def _n_copies_away(family: OpenFamily, name: str) -> int:
    """How many exact-copy steps lie between `name` and an original."""
    steps, seen = 0, {name}
    while (finding := family.findings.get(name)) and finding.parents:
        name = finding.parents[0].parent
        if name in seen:
            break
        seen.add(name)
        steps += 1
    return steps
