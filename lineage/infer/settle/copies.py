"""Exact copies: duplicates, casts, permuted units, edited vocabularies."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from lineage.infer.identity import Copy, find_copy
from lineage.infer.quantised import is_quantised
from lineage.infer.rooting import date_log_odds
from lineage.infer.settle.family import (
    COPY_DATE_LOG_ODDS,
    LIKES_LOG_ODDS,
    Dates,
    Likes,
    OpenFamily,
    birth,
    log_odds_older,
)
from lineage.infer.twins import equal_models
from lineage.model import Finding, Grade, ParentShare

__all__ = ["seniority", "settle_copies", "settle_duplicates"]


def settle_duplicates(family: OpenFamily) -> None:
    """Settle re-uploads, however many there are: all but the likeliest original of each."""
    for twins in equal_models(family.members.values()):
        older = seniority(twins, family.dates, family.likes)
        original = max(twins, key=lambda name: (older[name], name))
        for child in twins:
            if child == original:
                continue
            copy = find_copy(family.members[child], family.members[original])
            if copy is not None:
                family.settle(_copy_finding(family, child, original, copy))


def settle_copies(family: OpenFamily) -> None:
    """Settle casts, permuted units and edited vocabularies: exact on some grid."""
    originals = family.open_models()
    for child in originals:
        found = [
            (parent, copy)
            for parent in originals
            if parent != child
            and is_quantised(family.members[child]) == is_quantised(family.members[parent])
            and (copy := find_copy(family.members[child], family.members[parent])) is not None
            and (copy.directed or log_odds_older(family, parent, child) > 0)
        ]
        if found:
            parent, copy = min(found, key=lambda item: birth(family.dates, item[0]))
            family.settle(_copy_finding(family, child, parent, copy))


def _copy_finding(family: OpenFamily, child: str, parent: str, copy: Copy) -> Finding:
    undecided = not copy.directed and log_odds_older(family, parent, child) == 0
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


def seniority(twins: Sequence[str], dates: Dates, likes: Likes) -> dict[str, float]:
    """For each of many equal models the summed log-odds that it is older than each of the others.

    The sum of :func:`~lineage.infer.settle.family.log_odds_older` over all others, in
    ``n log n`` steps: of dates only their order counts, and of likes the clipped difference of
    logarithms, which sorted sums give.
    """
    older = dict.fromkeys(twins, 0.0)
    dated = sorted((name for name in twins if dates.get(name)), key=lambda name: birth(dates, name))
    for name in dated:
        # Along the sorted models the odds against `name` are −cap, then 0, then +cap.
        n_older, n_not_younger = (
            bisect_left(dated, bound, key=lambda other: date_log_odds(other, name, dates))
            for bound in (0.0, COPY_DATE_LOG_ODDS)
        )
        older[name] += COPY_DATE_LOG_ODDS * (len(dated) - n_not_younger - n_older)
    liked = [name for name in twins if likes.get(name) is not None]
    logs = np.log(np.array([likes[name] for name in liked], np.float64) + 1)
    rising = np.sort(logs)
    sums = np.concatenate([[0.0], np.cumsum(rising)])
    low = np.searchsorted(rising, logs - LIKES_LOG_ODDS)
    high = np.searchsorted(rising, logs + LIKES_LOG_ODDS)
    within = (high - low) * logs - (sums[high] - sums[low])
    for name, odds in zip(
        liked, within + LIKES_LOG_ODDS * (low - (len(liked) - high)), strict=True
    ):
        older[name] += float(odds)
    return older
