"""Where one model stands among its relatives, and the sentences that say why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lineage.infer.geometry import Pool
from lineage.infer.habits import Habit
from lineage.infer.inheritance import Parallel
from lineage.infer.unseen import Unseen
from lineage.model import Evidence

__all__ = [
    "DECIDED", "Descent", "arrow_fact", "habit_fact", "parallel_fact", "rows_fact",
    "share_fact", "unseen_fact", "untouched_fact",
]  # fmt: skip

DECIDED = float(np.log(9))
"""Nine to one: below, a direction is not asserted."""


@dataclass(frozen=True, slots=True)
class Descent:
    """Where one model stands: parents with shares, or ties."""

    child: str
    parents: tuple[tuple[str, float, float], ...]
    """Parent, share, standard error of the share."""
    ties: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    log_odds: float = float("inf")
    """That the step leads this way and not back."""
    unseen: str | None = None
    """Name of an ancestor nobody published, between the model and its parent."""

    @property
    def names(self) -> frozenset[str]:
        """The parents' names."""
        return frozenset(name for name, *_ in self.parents)

    @property
    def decided(self) -> bool:
        """Whether the direction is worth an assertion."""
        return self.log_odds >= DECIDED


def share_fact(parent: str, above: str, beta: float, error: float) -> Evidence:
    """How much of the parent's last step, since what stands above it, was carried on."""
    if not (np.isfinite(beta) and np.isfinite(error)):
        return Evidence("inherited_share", None, f"{parent} left no mark that could be carried")
    return Evidence(
        "inherited_share",
        beta,
        f"carries {100 * beta:.1f} ± {100 * error:.1f} % of what {parent} had changed since "
        f"{above}",
    )


def unseen_fact(unseen: Unseen, child: str) -> Evidence:
    """What a model has in common with siblings through a parent that nobody published."""
    others = " and ".join(name for name in unseen.children if name != child)
    share = unseen.shares[child]
    return Evidence(
        "unseen_ancestor",
        share,
        f"{100 * share:.0f} % of what it changed since {unseen.parent} it has in common with "
        f"{others}, as children of one unseen model do",
    )


def arrow_fact(pool: Pool, child: str, parent: str) -> Evidence:
    """Whether the step leads away from where the parent stands."""
    arrow = float(pool.arrow[pool.ids.index(child), pool.ids.index(parent)])
    if not np.isfinite(arrow):
        return Evidence("arrow", None, f"no sampled word differs from {parent}")
    return Evidence(
        "arrow",
        arrow,
        f"arrow {arrow:+.2f} (above −0.5 speaks for this direction, below against it)",
    )


def untouched_fact(child: str, parent: str, root: str) -> Evidence:
    """That the child moved rows which the parent has as their founder has them."""
    return Evidence("untouched_rows", 1.0, f"{parent} still has rows of {root} that {child} moved")


def rows_fact(parent: str, above: str) -> Evidence:
    """That the child has rows which only the parent moved."""
    return Evidence(
        "rows_inherited", 1.0, f"has rows word for word that {parent} moved since {above}"
    )


def parallel_fact(parent: str, parallel: Parallel) -> Evidence:
    """Which end of the step other models moved along with."""
    told = []
    if parallel.with_child:
        told.append(f"{_relatives(parallel.with_child)} moved along with it from {parent}")
    if parallel.with_parent:
        told.append(f"{_relatives(parallel.with_parent)} moved along with {parent} from it")
    words = " and ".join(told) + ": parallel ways part at the elder"
    return Evidence("moved_in_parallel", parallel.balance, words)


def habit_fact(parent: str, root: str, habit: Habit, log_odds: float) -> Evidence:
    """What the step takes back of what came before it, if steps of this family do."""
    return Evidence(
        "goes_back",
        log_odds,
        f"log-odds {log_odds:+.1f} from what it takes back of the way from {root} to {parent}: of "
        f"{habit.n_steps} steps in this family whose direction is known {habit.n_back} went back, "
        f"{habit.n_on} on, {habit.n_neither} clearly neither way",
    )


def _relatives(number: int) -> str:
    return "one relative" if number == 1 else f"{number} relatives"
