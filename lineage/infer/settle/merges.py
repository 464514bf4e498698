"""Merges: those that replay, those whose masks can be told, those that free coefficients give.

First weighted sums that replay, on the line or the sphere; then, with these merges out of the way,
such sums again, sums that no recipe here replays, and what decides word by word: another merge of
the same parents would else be taken for one of them. Last, merges of which a parent is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

from lineage.infer.geometry import Pool
from lineage.infer.parent_sets import parent_sets
from lineage.infer.rooting import date_log_odds
from lineage.infer.settle.family import OpenFamily, is_made_from
from lineage.infer.settle.merged import without_merges
from lineage.infer.settle.sums import spanned, weighted_sum, weighted_sum_of_plain
from lineage.infer.settle.words import masked, partly_told, word_by_word
from lineage.model import Finding

__all__ = ["settle_merges"]


def settle_merges(family: OpenFamily, pool: Pool) -> None:
    """Settle merges that a recipe, masks, or free coefficients per tensor reproduce."""
    able = [name for name in pool.ids if _can_be_mixed(pool, name)]
    inside_out: set[str] = set()
    for settle in (weighted_sum, weighted_sum_of_plain, word_by_word, spanned):
        inside_out |= _settle_by(settle, family, pool, able, able).inside_out
    # A parent is its merge less the others: only what is still open now is such a sum.
    for settle in (weighted_sum, weighted_sum_of_plain):
        _settle_by(settle, family, pool, able, sorted(inside_out), inside_out_too=True)
    found = _settle_by(masked, family, pool, able, able).settled
    if found:
        _settle_by(masked, family, pool, able, _misled(family, pool, able, found))
    _settle_by(partly_told, family, pool, able, able)


Settle = Callable[[OpenFamily, Pool, str, Sequence[str]], Finding | None]


class _Round(NamedTuple):
    """Who was settled by one question, and who is a sum with a negative weight."""

    settled: set[str]
    inside_out: set[str]


def _settle_by(
    settle: Settle,
    family: OpenFamily,
    pool: Pool,
    able: Sequence[str],
    asked: Sequence[str],
    *,
    inside_out_too: bool = False,
) -> _Round:
    """Settle the models asked that are open still, in one way."""
    done = _Round(set(), set())
    for child in asked:
        if child in family.findings:
            continue
        finding = settle(family, pool, child, _candidates(family, able, child))
        if finding is None:
            continue
        if min(share.weight for share in finding.parents) < 0 and not inside_out_too:
            done.inside_out.add(child)
        else:
            family.settle(finding)
            done.settled.add(child)
    return done


def _misled(
    family: OpenFamily, pool: Pool, able: Sequence[str], found: Collection[str]
) -> list[str]:
    """Open models among whose candidates stood merges that were `found` after they were asked."""
    return [
        child
        for child in able
        if child not in family.findings
        and _offered(pool, child, [*found, *_plain_candidates(family, able, child)]) & set(found)
    ]


def _offered(pool: Pool, child: str, candidates: Sequence[str]) -> set[str]:
    return {name for one in parent_sets(pool, child, candidates) for name in one.members}


def _can_be_mixed(pool: Pool, name: str) -> bool:
    """Whether all squares are numbers, and some tensor has two values: any sum to a constant."""
    values = [values[pool.ids.index(name)] for values in pool.values]
    with np.errstate(over="ignore"):
        finite = all(bool(np.isfinite(one * one).all()) for one in values)
    return finite and any(bool((one != one.flat[0]).any()) for one in values)


def _candidates(family: OpenFamily, able: Sequence[str], child: str) -> list[str]:
    return [
        name
        for name in able
        if name != child
        and date_log_odds(child, name, family.dates) >= 0
        and not is_made_from(family, name, child)
    ]


def _plain_candidates(family: OpenFamily, able: Sequence[str], child: str) -> list[str]:
    return without_merges(family, _candidates(family, able, child))
