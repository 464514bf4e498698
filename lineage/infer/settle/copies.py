"""Exact copies: duplicates, casts, permuted units, edited vocabularies."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

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
from lineage.infer.token_rows import common_rows
from lineage.infer.twins import equal_models
from lineage.model import Finding, Grade, Kind, ParentShare
from lineage.weights.fingerprint import Fingerprint

__all__ = ["seniority", "settle_copies", "settle_duplicates"]

F64 = NDArray[np.float64]

_LAYOUT_LOG_ODDS = 3.0
_SAME_LAYOUT = 0.75
"""Mean cosine of matrices: a model trained on keeps it, moved units or turned bases do not."""
_WORDS_KEPT = 0.03
"""By how much one of two copies must have more words in common with all relatives together."""


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
    """Settle casts, permuted units, other bases and edited vocabularies: exact on some grid."""
    originals = family.open_models()
    for child in originals:
        found = [
            (parent, copy)
            for parent in originals
            if parent != child
            and is_quantised(family.members[child]) == is_quantised(family.members[parent])
            and (copy := find_copy(family.members[child], family.members[parent])) is not None
            and (copy.directed or _may_be_original(family, parent, child))
        ]
        if found:
            parent, copy = min(found, key=lambda item: birth(family.dates, item[0]))
            family.settle(_copy_finding(family, child, parent, copy))


def _may_be_original(family: OpenFamily, parent: str, child: str) -> bool:
    """Whether `parent` is the original of an undirected copy, or as likely so and not yet taken."""
    odds = log_odds_older(family, parent, child) or _log_odds_by_layout(family, parent, child)
    taken = family.findings.get(parent)
    is_free = taken is None or child not in {share.parent for share in taken.parents}
    return odds > 0 or (odds == 0 and is_free)


def _log_odds_by_layout(family: OpenFamily, parent: str, child: str) -> float:
    """Log-odds that the other models of a family follow the layout, or the scale, of `parent`.

    Whoever moves units, turns a basis or rescales makes one odd model; its relatives, the
    original's parents and children, keep their units in place and many of their words as they are.
    """
    others = [family.members[name] for name in family.members if name not in (parent, child)]
    for likeness, least in ((_same_layout, 1.0), (_kept_words, _WORDS_KEPT)):
        like_parent, like_child = (
            sum(likeness(family.members[name], other) for other in others)
            for name in (parent, child)
        )
        if abs(like_parent - like_child) >= least:
            return _LAYOUT_LOG_ODDS * float(np.sign(like_parent - like_child))
    return 0.0


def _same_layout(a: Fingerprint, b: Fingerprint) -> float:
    """1 if two models hold the same units at the same places, changed by training at most."""
    cosines = []
    for x, y in _matrices(a, b):
        size = float(np.linalg.norm(x) * np.linalg.norm(y))
        if size > 0:
            cosines.append(float((x * y).sum()) / size)
    return float(bool(cosines) and float(np.mean(cosines)) > _SAME_LAYOUT)


def _kept_words(a: Fingerprint, b: Fingerprint) -> float:
    """Share of the words of two models' matrices that are equal."""
    pairs = list(_matrices(a, b))
    n_words = sum(x.size for x, _ in pairs)
    return sum(int((x == y).sum()) for x, y in pairs) / n_words if n_words else 0.0


def _matrices(a: Fingerprint, b: Fingerprint) -> Iterator[tuple[F64, F64]]:
    """Values of the rows that two models have in common, matrix by matrix."""
    for key in sorted(a.samples.keys() & b.samples.keys()):
        if len(a.samples[key].shape) == 2:
            x, y = common_rows(a.samples[key], b.samples[key])
            if x.shape == y.shape:
                yield x.astype(np.float64), y.astype(np.float64)


def _copy_finding(family: OpenFamily, child: str, parent: str, copy: Copy) -> Finding:
    if copy.directed:
        return _found(child, parent, copy, Grade.PROVED, "")
    if log_odds_older(family, parent, child) != 0:
        note = "which of the two came first is told by date and likes"
        return _found(child, parent, copy, Grade.PROVED, note)
    if copy.kind is Kind.PERMUTED and _log_odds_by_layout(family, parent, child) > 0:
        note = "their relatives are laid out like the parent"
        return _found(child, parent, copy, Grade.INFERRED, note)
    note = "which of the two came first is told by date and likes"
    return replace(_found(child, parent, copy, Grade.TIE, note), ties=(parent,))


def _found(child: str, parent: str, copy: Copy, grade: Grade, note: str) -> Finding:
    return Finding(
        child,
        copy.kind,
        grade,
        (ParentShare(parent, 1.0),),
        evidence=copy.evidence,
        note=note,
        vocabulary_map=copy.vocabulary_map,
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
