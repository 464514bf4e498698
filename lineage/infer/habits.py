"""What a family's steps take back of what came before them, and which way that directs a step.

Training leaves more in the weights than the next training needs: noise, and what suited one text
alone. So the next step goes a little back, ``⟨C−P, P−R⟩ < 0``. Turned round the same step would
not: of a small step after a large one ``⟨P−C, C−R⟩`` is near 0 or above. How surely steps go back
differs between families (in those that predict the next token nearly all do, in those that fill in
gaps about half, and less clearly), and a family's own steps of known direction tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Habit", "habit_of"]

_PRIOR_COUNT = 0.5
"""Of each outcome before any step is seen: Jeffreys' prior of three proportions."""


@dataclass(frozen=True, slots=True)
class Habit:
    """How many steps of a family went back, on, and clearly neither way."""

    n_back: int = 0
    n_on: int = 0
    n_neither: int = 0

    @property
    def n_steps(self) -> int:
        """All steps that were asked."""
        return self.n_back + self.n_on + self.n_neither

    def log_odds(self, forwards: bool | None, backwards: bool | None) -> float:
        """Log-odds that a step leads forwards: how much likelier what it does is that way round.

        Parameters
        ----------
        forwards, backwards
            Whether the step goes back on what came before, drawn one way and drawn the other; None
            where it does neither clearly (:meth:`.inheritance.Carried.goes_back`).
        """
        return math.log(self._count(forwards) / self._count(backwards))

    def _count(self, outcome: bool | None) -> float:
        seen = self.n_neither if outcome is None else self.n_back if outcome else self.n_on
        return seen + _PRIOR_COUNT


def habit_of(outcomes: Iterable[bool | None]) -> Habit:
    """The habit of steps that went back (true), on (false), or clearly neither way (None)."""
    told = list(outcomes)
    return Habit(told.count(True), told.count(False), told.count(None))
