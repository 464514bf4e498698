"""Whether one model carries what another did: the question that every ancestor has to pass."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lineage.infer.inheritance import PARALLEL
from lineage.infer.placement import DECIDED
from lineage.infer.rooting import StepOdds
from lineage.infer.trained_merges import SHARE_ERRORS
from lineage.infer.untouched_rows import has_rows_untouched, inherits_rows

__all__ = ["LARGEST_SHARE", "Carrying"]

_LEAST_SHARE = 0.80
LARGEST_SHARE = 1.15
_SURE_ERROR = 0.03
"""A whitened share surer than this is believed whatever else was trained on the same text."""
_PARALLEL_ERRORS = 2.0
"""So many errors below the whole share an unsure one cannot be told; of `PARALLEL` times it, it is
not inherited. On training and validation families all 66 unsure shares of ancestors lie within 1.4
errors, those of relatives near 1 beyond 2.2."""
_N_ERRORS = 2.5
_MAX_ERROR = 0.15
_CHANCE_COSINE = 0.05
_HIDDEN_SHARE = 0.3
"""What a step ten times as long as another and longer shares with it by chance, over the ratio of
their lengths: root mean square, .047 over 147 pairs of development families of which neither
comes from the other, .051 beside the whole share over 43 of which one does. Matrices agree in it,
so their scatter does not show it; and what a step takes back of the one before is as large. From
this part of a share on, under a step six times as long, a whole one is told from none by
likelihood."""
_MOST_TAKEN_BACK = -0.75
"""Least cosine between the way to an ancestor and the way on from it: of 417 descendants on single
lines of development families the least has −.62. Below, a relative shares what is left without the
leading directions, as with an adapter merged into a model that moved in parallel, and not the
change."""
_WORN_SHARE = 0.7
_WORN = 0.95
_WORN_ERROR = 0.1
"""Least share, most of the whole share over it, and largest error, where later training wore off
some of what was inherited: it did so in the leading directions first."""
_LARGEST_GROWN = 1.35
_GROWN = 1.1
_GROWN_ERROR = 0.07
"""Largest share, most of the whole share over it, and largest error, of one above `LARGEST_SHARE`
where a child went on along its parent's way, in all directions alike; what moved in parallel did so
in the leading ones."""
_ASTRAY_SHARE = 0.5
_ASTRAY = 0.85
"""Least share, and most of the whole change's share over it (by 2.5 errors), where what is missing
is missing in the leading directions: there the reference went the child's way, from the ancestor.
What is mixed in lacks in all directions alike, and so does what lies beyond a sibling; what moved
in parallel lacks least in leading ones. On training and validation families all 131 models that
lie there, seen from a neighbour of the ancestor, come from it. Seen from further away most do not;
and below .5 siblings lie there, too, where a step was too small to be a ruler."""
_MAX_MIXTURE_ERROR = 0.06
_MIXTURE_PARALLEL = 1.1
"""Every relative carries something of a merge: here shares must be surer, and hardly larger over
the whole change than without leading directions."""


@dataclass
class Carrying:
    """What models of one family carry of each other, and what they have left untouched."""

    steps: StepOdds
    untouched: dict[tuple[str, str, str], bool] = field(default_factory=dict)
    """Answers of `has_untouched` so far, by model, other and reference."""

    def descends(self, child: str, ancestor: str, reference: str) -> bool | None:
        """Whether `child` carries what `ancestor` did since `reference`; None: cannot be told."""
        verdict = self._carries(child, ancestor, reference)
        if verdict is not False and self.has_untouched(child, ancestor, reference):
            return False
        if verdict is None and inherits_rows(self.steps.pool, child, ancestor, reference):
            return True
        return verdict

    def has_untouched(self, model: str, other: str, reference: str) -> bool:
        """Whether `model` has rows as `reference` has them that `other` moved; asked once."""
        key = model, other, reference
        if key not in self.untouched:
            self.untouched[key] = has_rows_untouched(self.steps.pool, *key)
        return self.untouched[key]

    def found_untouched(self) -> list[tuple[str, str, str]]:
        """Model, other and reference wherever the answer was yes."""
        return [names for names, is_so in self.untouched.items() if is_so]

    def _carries(self, child: str, ancestor: str, reference: str) -> bool | None:
        carried = self.steps.carried(reference, ancestor)
        beta, error = carried.share(child)
        if not np.isfinite(beta) or not np.isfinite(error):
            return False
        if carried.turning(child) < _MOST_TAKEN_BACK:
            return False
        whole = carried.whole_share(child)
        slack = _N_ERRORS * error
        if error <= _MAX_ERROR and _LEAST_SHARE <= beta <= LARGEST_SHARE:
            if error <= _SURE_ERROR:
                return True
            if whole > PARALLEL * beta:
                return False
            return None if whole > beta + _PARALLEL_ERRORS * error else True
        if _is_beside_the_range(beta, error, whole):
            return True
        if error <= _MAX_ERROR and whole > PARALLEL * beta + slack:
            return False
        chance = _CHANCE_COSINE * carried.times_as_long(child)
        if error > _MAX_ERROR and chance >= _HIDDEN_SHARE:
            error = float(np.hypot(error, chance))
            is_open = 0.5 - DECIDED * error**2 <= beta <= 1 + _N_ERRORS * error
            return None if is_open else False
        return None if _LEAST_SHARE - slack <= beta <= LARGEST_SHARE + slack else False

    def part(self, model: str, other: str, reference: str) -> float:
        """Share of another's change that a model surely carries, else 0."""
        beta, error = self.steps.carried(reference, other).share(model)
        return beta if beta > SHARE_ERRORS * error else 0.0

    def most_of(self, model: str, other: str, reference: str) -> float:
        """Largest share of another's change that a model may carry."""
        beta, error = self.steps.carried(reference, other).share(model)
        return beta + _N_ERRORS * error if np.isfinite(beta) else float("inf")

    def is_surely_whole(self, child: str, mixture: str, reference: str) -> bool:
        """Whether `child` carries all of a merge, in all directions alike."""
        carried = self.steps.carried(reference, mixture)
        beta, error = carried.share(child)
        return (
            error <= _MAX_MIXTURE_ERROR and carried.whole_share(child) <= _MIXTURE_PARALLEL * beta
        )


def _is_beside_the_range(beta: float, error: float, whole: float) -> bool:
    """Whether a share below or above those of plain descent is inherited all the same."""
    if beta > LARGEST_SHARE:
        return beta <= _LARGEST_GROWN and error <= _GROWN_ERROR and whole <= _GROWN * beta
    if error > _WORN_ERROR or beta >= 1:
        return False
    is_worn = beta >= _WORN_SHARE and whole <= _WORN * beta
    return is_worn or (beta >= _ASTRAY_SHARE and whole + _N_ERRORS * error <= _ASTRAY * beta)
