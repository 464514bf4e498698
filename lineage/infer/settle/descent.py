"""Descent among what is left of a family, shape by shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lineage.infer.change import Change, describe_change, frozen_share
from lineage.infer.descent import DECIDED, Descent, resolve_descent, resolve_family
from lineage.infer.geometry import Pool, make_pool
from lineage.infer.quantised import is_quantised
from lineage.infer.relatedness import bit_equality
from lineage.infer.rooting import date_log_odds
from lineage.infer.settle.family import OpenFamily, birth, is_made_from
from lineage.infer.settle.merges import settle_merges
from lineage.infer.settle.trained_layers import settle_trained_layers, similar_origin
from lineage.model import Evidence, Finding, Grade, Kind, ParentShare

__all__ = ["settle_group", "shape_groups"]

_SAME_VALUES = 0.9
_FROZEN_SHARE = 0.2


def settle_group(family: OpenFamily, group: Sequence[str]) -> None:
    """Settle everyone left among models of one layout: merges, surgery, founder, descent."""
    groups = shape_groups(family)
    settle_trained_layers(family, group, groups)
    pool = make_pool([family.members[name] for name in group])
    settle_merges(family, pool)
    _settle_surgery(family, pool)
    free = [name for name in group if name not in family.findings]
    rearranged = [
        name
        for name in group
        if name in family.findings and family.findings[name].kind in (Kind.PRUNED, Kind.PASSTHROUGH)
    ]
    if not free:
        return
    is_first = list(group) == groups[0]
    if rearranged and not is_first:
        # A rearranged model and what was trained from it: the rearranged one is the root.
        root = min(rearranged, key=lambda name: birth(family.dates, name))
        descents = resolve_descent(pool, root, free, family.dates, family.known_parents())
    else:
        found = resolve_family(pool, free, family.dates, family.known_parents())
        root, descents = found.founder, found.descents
        surgery = None if is_first else similar_origin(family, root, groups)
        family.settle(surgery or _founder(root, found.log_odds))
    for descent in descents:
        family.settle(_descent_finding(family, descent, root))


def shape_groups(family: OpenFamily) -> list[list[str]]:
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


def _says_nothing_new(family: OpenFamily, name: str) -> bool:
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


def _settle_surgery(family: OpenFamily, pool: Pool) -> None:
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
            if parent == child or odds < 0 or is_made_from(family, parent, child):
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
                    target_modules=change.target_modules,
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


def _descent_finding(family: OpenFamily, descent: Descent, root: str) -> Finding:
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
            unseen_ancestor=descent.unseen,
        )
    return Finding(
        child,
        change.kind,
        grade,
        (ParentShare(parent, 1.0),),
        ties=descent.ties,
        rank=change.rank,
        evidence=(*descent.evidence, *change.evidence),
        target_modules=change.target_modules,
        vocabulary_map=change.vocabulary_map,
        unseen_ancestor=descent.unseen,
    )
