"""Merges whose recipe does not replay: parts of several relatives that add up."""

from __future__ import annotations

from collections.abc import Sequence

from lineage.infer.inheritance import Inheritance
from lineage.infer.placement import Descent
from lineage.model import Evidence

__all__ = ["MIN_SHARE", "SHARE_ERRORS", "explained_share", "trained_merge"]

MIN_SHARE = 0.12
SHARE_ERRORS = 4.0
"""Least share that is a part of a merge, also in its errors."""
_LEAST_EXPLAINED = 0.65
"""Of a child's change; on training families relatives of single-parent children reach .54."""
_MOST_EXPLAINED = 1.1
"""Nothing explains more than all there is: shares that do are errors that cancel."""
_LARGEST_TOTAL = 2.0
"""Task vectors weigh more than one together now and then, hardly ever more than two."""
_MAX_FITTED = 24
"""Relatives that are fitted at once, those that explain most by themselves."""


def trained_merge(seen: Inheritance, child: str, others: Sequence[str]) -> Descent | None:
    """Parents of a merge that was rescaled or trained on: joint shares that explain its change."""
    c = seen.ids.index(child)
    able = [x for x in map(seen.ids.index, others) if seen.own[x] > 0.02 * seen.own[c]]
    likely = sorted(able, key=lambda x: -float(seen.products[:, x, c].sum()) / seen.own[x] ** 0.5)
    movers = [seen.ids[x] for x in likely[:_MAX_FITTED]]
    shares, errors = seen.shares(child, movers)
    chosen = [
        (name, float(share), float(error))
        for name, share, error in zip(movers, shares, errors, strict=True)
        if share >= MIN_SHARE and share > SHARE_ERRORS * error
    ]
    if len(chosen) < 2:
        return None
    explained = seen.explained(child, movers, [float(share) for share in shares])
    total = sum(share for _, share, _ in chosen)
    if not _LEAST_EXPLAINED <= explained <= _MOST_EXPLAINED or total > _LARGEST_TOTAL:
        return None
    chosen.sort(key=lambda item: -item[1])
    listed = ", ".join(f"{100 * share:.0f} % of {name}" for name, share, _ in chosen)
    facts = (
        Evidence("joint_shares", total, f"carries, jointly fitted, {listed}"),
        Evidence(
            "change_explained",
            explained,
            f"these shares make up {100 * explained:.0f} % of its whitened change",
        ),
    )
    return Descent(
        child,
        tuple((name, share / total, error / total) for name, share, error in chosen),
        (),
        facts,
    )


def explained_share(merge: Descent) -> float:
    """How much of a merge's change its parents make up."""
    return next(fact.value or 0.0 for fact in merge.evidence if fact.name == "change_explained")
