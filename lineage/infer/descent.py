"""Who descends from whom among models of one shape, copies taken out and exact merges known.

1. *Tree.* From a root, every model is placed below the one whose changes it carries whole
   (:mod:`.descent_tree`).
2. *Founder.* The tree's shape needs no direction; all its steps vote on which end is up
   (:mod:`.rooting`), and it is drawn again from the winner until nothing changes.
3. *Trained merges.* A child with no such ancestor that carries parts of at least two models, which
   add up, is a merge whose exact recipe is not (yet) known (:mod:`.trained_merges`). Those best
   explained are taken first, and none is made of what was made of it: all steps together close no
   circle.

The instruments and their measured errors are described in ``docs/inference.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from lineage.infer.descent_tree import draw_tree
from lineage.infer.geometry import Pool
from lineage.infer.placement import DECIDED, Descent
from lineage.infer.rooting import ARROW_CAP, StepOdds, arrow_log_odds, date_log_odds, is_above
from lineage.model import Evidence

__all__ = ["DECIDED", "Descent", "Family", "first_guess", "resolve_descent", "resolve_family"]

Dates = Mapping[str, datetime | None]

_MAX_VOTES = 3
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Family:
    """The founder of models of one shape, its log-odds against the others, where these stand."""

    founder: str
    log_odds: float
    descents: tuple[Descent, ...]


def first_guess(pool: Pool, nodes: Sequence[str], dates: Dates) -> str:
    """A founder to draw the first tree from, by a vote.

    Every other model votes on every candidate R with its arrow ``⟨X−R, R⟩/‖X−R‖²`` (about 0 from
    the founder, −½ from a sibling, below from a descendant), trusted less the larger its standard
    error. These votes share R's own position, so together they count as no more than three. Every
    model uploaded before R speaks against R.

    Raises
    ------
    ValueError
        If `nodes` is empty.
    """
    if not nodes:
        raise ValueError("a family needs at least one model")
    if len(nodes) == 1:
        return nodes[0]
    index = [pool.ids.index(name) for name in nodes]
    arrow = pool.arrow[np.ix_(index, index)]
    error = pool.arrow_error[np.ix_(index, index)]
    weight = min(len(nodes) - 1, _MAX_VOTES) / (len(nodes) - 1)
    scores = []
    for root, name in enumerate(nodes):
        arrows, order_in_time = 0.0, 0.0
        for child, other in enumerate(nodes):
            if child == root:
                continue
            witness = arrow_log_odds(float(arrow[child, root]), float(error[child, root]))
            arrows += float(np.clip(witness, -ARROW_CAP, ARROW_CAP))
            order_in_time += min(0.0, date_log_odds(other, name, dates))
        scores.append(weight * arrows + order_in_time)
    return nodes[int(np.argmax(scores))]


def resolve_family(
    pool: Pool, free: Sequence[str], dates: Dates, known: Mapping[str, Sequence[str]]
) -> Family:
    """Find the founder of a family and the parents of all others.

    A tree is drawn from a first guess, all its steps vote on the founder, and it is drawn again
    from there until nothing changes.

    Parameters
    ----------
    free
        Models whose parents are asked for; the founder is one of them.

    Raises
    ------
    ValueError
        If `free` is empty.
    """
    root = first_guess(pool, free, dates)
    steps = StepOdds(pool, dates, _merges(known))
    for _ in range(_ROUNDS):
        # Seen from a parent of a merge, the founder looks like the merge's child: merges come last.
        plain = draw_tree(steps, root, free, known, with_mixtures=False)
        odds = plain.founder_odds(set(free))
        best = max(odds, key=lambda name: odds[name])
        if best == root:
            break
        root = best
    plain = draw_tree(steps, root, free, known, with_mixtures=False)
    odds, undated = (plain.founder_odds(set(free), dated=dated) for dated in (True, False))
    others = [value for name, value in odds.items() if name != root]
    against = float(np.logaddexp.reduce(others)) if others else float("-inf")
    tree = draw_tree(steps, root, free, known)
    descents = []
    for child in free:
        if child == root:
            continue
        descent = tree.describe(child)
        facts = descent.evidence
        if len(descent.parents) == 1:
            facts += _undated_fact(descent, is_above(tree.parents, child, undated))
        above = is_above(tree.parents, child, odds)
        descents.append(replace(descent, evidence=facts, log_odds=above))
    return _unrooted_where_unseen(Family(root, odds[root] - against, tree.with_unseen(descents)))


def _unrooted_where_unseen(family: Family) -> Family:
    """The same, but undecided where the founder may be one more child of an unseen ancestor.

    If all that stands below the founder does so through one unseen ancestor, that one is in the
    middle of them all, and nothing in the tree says that the founder is above it.
    """
    below = [one for one in family.descents if one.parents[0][0] == family.founder]
    if len(below) < 2 or len({one.unseen for one in below}) > 1 or below[0].unseen is None:
        return family
    return Family(
        family.founder,
        min(family.log_odds, 0.0),
        tuple(replace(one, log_odds=0.0) if one in below else one for one in family.descents),
    )


def _undated_fact(descent: Descent, log_odds: float) -> tuple[Evidence, ...]:
    """How the weights alone direct a step; nothing where it cannot be turned."""
    if not np.isfinite(log_odds):
        return ()
    parent = descent.parents[0][0]
    words = f"log-odds {log_odds:+.1f} by weights alone that {parent} came first"
    return (Evidence("direction_log_odds", log_odds, words),)


def resolve_descent(
    pool: Pool,
    root: str,
    children: Sequence[str],
    dates: Dates,
    known: Mapping[str, Sequence[str]],
) -> tuple[Descent, ...]:
    """Find the parents of `children`, all descendants of `root`.

    Parameters
    ----------
    pool
        Values of the family, exact merges included.
    known
        Parents that are already established (merges, rearrangements): their children are not
        resolved again, and no ancestor of a model may become its child.
    """
    tree = draw_tree(StepOdds(pool, dates, _merges(known)), root, children, known)
    descents = [tree.describe(child) for child in children if child != root]
    return tree.with_unseen(descents)


def _merges(known: Mapping[str, Sequence[str]]) -> frozenset[str]:
    return frozenset(name for name, parents in known.items() if len(parents) > 1)
