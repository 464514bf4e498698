"""One root orients a whole family: every step's evidence of direction, pooled over the tree.

The shape of a family's tree can be read without knowing which end is up (:mod:`.descent`). Each
step of it then has log-odds that it leads the way it is drawn: from its arrow, from the rounding
of its words, from dates. Taking another model as founder turns the steps between the two around
and leaves all others as they are, so one pass over the tree weighs every possible founder.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from lineage.infer.geometry import Pool
from lineage.infer.inheritance import Carried, Parallel
from lineage.infer.lattice import lattice_log_odds
from lineage.infer.rounding import rounding_arrow

__all__ = [
    "ARROW_CAP", "StepOdds", "arrow_log_odds", "date_log_odds", "founder_log_odds", "is_above",
    "lattice_odds", "taken_back",
]  # fmt: skip

_ARROW_SCALE = 3.0
ARROW_CAP = 3.0
"""Most that one arrow over all tensors counts by itself."""
_ARROW_WEIGHT = 0.8
_GROWTH_LOG_ODDS = 2.0
"""What it counts when every feed-forward matrix clearly grew."""
_EMBEDDING_WEIGHT = 20.0
_LARGEST_COSINE = 0.15
"""Beyond, an embedding that grew more clearly says no more."""
_ROUNDING_WEIGHT = 0.8
"""The four weights: a logistic fit to 171 trained steps of eighteen training families."""
_ROUNDING_CAP = 5.0
_PARALLEL_LOG_ODDS = 3.5
_TAKEN_BACK = 0.06
"""Cosine between a step and what came before it, as chance and continued training have it."""
_UNSETTLED = 2.0
_MOST_UNSETTLED = 0.2
"""The same after steps of a tenth of the weights and more, which leave much unsettled: root mean
square over training families. Smaller steps count in proportion."""
_DATE_LOG_ODDS = 5.0
_SAME_TIME = timedelta(hours=1)


def date_log_odds(
    child: str, parent: str, dates: Mapping[str, datetime | None], cap: float = _DATE_LOG_ODDS
) -> float:
    """Log-odds that `parent` came first, from upload dates; 0 when unknown or equal."""
    born, origin = dates.get(child), dates.get(parent)
    if born is None or origin is None or abs(born - origin) < _SAME_TIME:
        return 0.0
    return cap if origin < born else -cap


def taken_back(before: float, relative: float) -> float:
    """Variance of a step's direction from what it takes back of what came before it.

    Parameters
    ----------
    before
        Squared length of what came before, over that of the step.
    relative
        Length of what came before, over that of the weights.
    """
    unsettled = min(_MOST_UNSETTLED, _UNSETTLED * relative)
    return 4 * (_TAKEN_BACK**2 + unsettled**2) * before


def arrow_log_odds(arrow: float, error: float) -> float:
    """``3(2a+1)/(1+(2·error)²)``, not capped; 0 where the arrow or its error is unknown."""
    if not np.isfinite(arrow) or not np.isfinite(error):
        return 0.0
    return _ARROW_SCALE * (2 * arrow + 1) / (1 + (2 * error) ** 2)


@dataclass
class StepOdds:
    """The direction of any step between two models of a pool, and what was done in it.

    Each is computed once, however often the tree is drawn.
    """

    pool: Pool
    dates: Mapping[str, datetime | None]
    merges: Collection[str] = ()
    """Models of several parents, which are not asked what they moved along with."""
    _known: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    _carried: dict[tuple[str, str], Carried] = field(default_factory=dict)

    def carried(self, reference: str, ancestor: str) -> Carried:
        """How much of what `ancestor` changed since `reference` every model carries."""
        key = reference, ancestor
        if key not in self._carried:
            self._carried[key] = self.pool.carried(reference, ancestor)
        return self._carried[key]

    def log_odds(self, parent: str, child: str, taken_back: float = 0.0) -> float:
        """Log-odds that `child` was trained from `parent` rather than `parent` from `child`.

        Swapping the two changes the sign. Counted are the growth of feed-forward matrices, at most
        2, and their arrow, at most 2.4; the growth of the embedding, at most 3; what rounding left,
        at most 4; relatives that moved in parallel with one of the two, at most 3.5; dates.

        Parameters
        ----------
        taken_back
            As :func:`taken_back` has it. A small step after a large one takes back some of what was
            left unsettled, and so looks turned round: growth and arrow then say little.
        """
        if (parent, child) not in self._known:
            trend = _GROWTH_LOG_ODDS * self.pool.growth(child, parent)
            trend += _ARROW_WEIGHT * self._arrow(parent, child)
            grown = self.pool.embedding_growth(child, parent)
            trend += _EMBEDDING_WEIGHT * float(np.clip(grown, -_LARGEST_COSINE, _LARGEST_COSINE))
            marks = _ROUNDING_WEIGHT * self._rounding(parent, child)
            marks += _PARALLEL_LOG_ODDS * self.parallel(parent, child).balance
            marks += date_log_odds(child, parent, self.dates)
            self._known[parent, child] = trend, marks
            self._known[child, parent] = -trend, -marks
        trend, marks = self._known[parent, child]
        return trend / (1 + taken_back) + marks

    def parallel(self, parent: str, child: str) -> Parallel:
        """How many models moved along with the one end of a step, and with the other."""
        return self.carried(parent, child).parallel(self.merges)

    def _arrow(self, parent: str, child: str) -> float:
        witness = arrow_log_odds(*self.pool.feed_forward_arrow(child, parent))
        return float(np.clip(witness, -ARROW_CAP, ARROW_CAP))

    def _rounding(self, parent: str, child: str) -> float:
        """What the number types tell: words of one type, or the finer one about the coarser."""
        before, after = (
            [values[self.pool.ids.index(name)] for values in self.pool.values]
            for name in (parent, child)
        )
        told = rounding_arrow(before, after, self.pool.common_grid(parent, child)).log_odds
        told += lattice_odds(self.pool, parent, child)
        return float(np.clip(told, -_ROUNDING_CAP, _ROUNDING_CAP))


def lattice_odds(pool: Pool, parent: str, child: str) -> float:
    """Log-odds that `parent` came first, from how the finer of the two lies about the coarser.

    0 for models of one number type. Swapping the two changes the sign.
    """
    finer = pool.finer(parent, child)
    if finer is None:
        return 0.0
    f = pool.ids.index(finer)
    c = pool.ids.index(child if finer == parent else parent)
    fine, coarse = ([values[i] for values in pool.values] for i in (f, c))
    odds = lattice_log_odds(fine, coarse, pool.dtypes[c])
    return odds if finer == parent else -odds


def founder_log_odds(
    parents: Mapping[str, str],
    root: str,
    step_odds: Mapping[str, float],
    candidates: Collection[str],
) -> dict[str, float]:
    """Log-probability of every candidate to be the founder, the tree's shape given.

    Parameters
    ----------
    parents
        The tree as drawn from `root`: parent by child.
    step_odds
        By child, log-odds that the step to it leads the way it is drawn.
    candidates
        Models that may be the founder. Steps into others cannot be turned, nor what lies below
        them, and they are no neighbours: where they hang says nothing.

    Returns
    -------
    dict
        By candidate; their exponentials sum to 1. To start with, a model is as likely the founder
        as the number of orders in which the tree could have grown from it, every model having been
        as likely a parent as any other: between neighbours, the ratio of how many models lie on
        either side of the step ("rumor centrality", Shah & Zaman 2011, eq. 8).
    """
    below: dict[str, list[str]] = {}
    for child, parent in parents.items():
        if child in candidates:
            below.setdefault(parent, []).append(child)
    order = [root]
    for at in order:
        order += below.get(at, ())
    n_under = dict.fromkeys(order, 1)
    for child in reversed(order[1:]):
        n_under[parents[child]] += n_under[child]
    scores = {root: 0.0}
    for child in order[1:]:
        centrality = np.log(n_under[child] / (len(order) - n_under[child]))
        scores[child] = scores[parents[child]] - step_odds[child] + float(centrality)
    total = float(np.logaddexp.reduce(list(scores.values())))
    return {name: score - total for name, score in scores.items()}


def is_above(parents: Mapping[str, str], child: str, founder_odds: Mapping[str, float]) -> float:
    """Log-odds that the step into `child` leads the way it is drawn: no founder lies below it."""
    inside = {child}
    grown = True
    while grown:
        more = {c for c, p in parents.items() if p in inside} - inside
        grown = bool(more)
        inside |= more
    under = [odds for name, odds in founder_odds.items() if name in inside]
    over = [odds for name, odds in founder_odds.items() if name not in inside]
    if not under:
        return float("inf")
    if not over:
        return float("-inf")
    return float(np.logaddexp.reduce(over) - np.logaddexp.reduce(under))
