"""Merges that replay, exactly or with free coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lineage.infer.geometry import Pool
from lineage.infer.merges import MIN_GAIN, MIN_MATCH, Mixture, screen_merge
from lineage.infer.replay import (
    Replay,
    replay_linear,
    replay_slerp,
    replay_task_arithmetic,
)
from lineage.infer.rooting import date_log_odds
from lineage.infer.settle.family import OpenFamily, birth, is_rearranged_from
from lineage.model import Evidence, Finding, Grade, Kind, ParentShare

__all__ = ["settle_merges"]

_PROVED_REPLAY = 0.99
_TRIED_BASES = 3


def settle_merges(family: OpenFamily, pool: Pool) -> None:
    """Settle merges that a recipe, or free coefficients per tensor, reproduce."""
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
            and not is_rearranged_from(family, name, child)
        ]
        dtype = family.members[child].dtype
        oldest = sorted(candidates, key=lambda name: (birth(family.dates, name)[0], central[name]))
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
