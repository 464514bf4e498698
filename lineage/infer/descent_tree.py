"""The tree of a family as it is drawn from one root.

Models are placed in the order of their whitened distance. X is an ancestor of C when C carries
nearly all of what X did since its own parent (β(C|X) from .80: later training wears some of it off)
and has no row as it was before X moved it; where shares leave it open, when it has a row as X moved
it. Of several ancestors the surest that is no parent of another is the parent; the root if there is
none. Then every step is asked again which of its ends is the elder, and a child of the root that
carries parts of several models, which add up, becomes a merge of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lineage.infer.carrying import LARGEST_SHARE, Carrying
from lineage.infer.habits import Habit, habit_of
from lineage.infer.placement import (
    DECIDED,
    Descent,
    arrow_fact,
    habit_fact,
    parallel_fact,
    rows_fact,
    share_fact,
    unseen_fact,
    untouched_fact,
)
from lineage.infer.rooting import StepOdds, date_log_odds, founder_log_odds, taken_back
from lineage.infer.trained_merges import MIN_SHARE, explained_share, trained_merge
from lineage.infer.unseen import unseen_ancestors
from lineage.infer.untouched_rows import inherits_rows
from lineage.model import Evidence

__all__ = ["DescentTree", "draw_tree"]

_DISTANCE_ERROR = 0.5
_UNTOUCHED_LOG_ODDS = 5.0
"""What it counts when one model has rows as the root has them that the other moved."""
_LEAST_PART = 0.6
"""Of what a merge carries of a parent; on training families what was made of one has .9 and more,
what its parents were made of .35."""
_OPPOSITE = -0.2
"""Cosine of two steps that lead apart; those of a merge's k parents have −1/(k−1) on average."""


def draw_tree(
    steps: StepOdds,
    root: str,
    children: Sequence[str],
    known: Mapping[str, Sequence[str]],
    *,
    with_mixtures: bool = True,
) -> DescentTree:
    """Draw the tree of `children` below `root`.

    Parameters
    ----------
    known
        Parents that are already established.
    with_mixtures
        Whether children are placed below merges of `known`, and merges without a recipe looked for.
    """
    tree = DescentTree(steps, root, known)
    free = sorted((child for child in children if child != root), key=tree.travelled)
    for child in free:
        tree.place(child)
        if with_mixtures:
            tree.move_below_mixture(child)
    tree.place_below_farther()
    tree.place_below_siblings(free)
    tree.learn_habit(free)
    for child in free:
        tree.reconsider(child)
    if with_mixtures:
        tree.find_mixtures(free)
    return tree


@dataclass
class DescentTree:
    """A family's tree as it grows from the root, nearest models first.

    C descends from X when it carries what X did since its own parent P: a single step is the
    shortest ruler for what X alone did, so shares are judged from there and not from the root.
    """

    steps: StepOdds
    root: str
    known: Mapping[str, Sequence[str]]
    parents: dict[str, str] = field(default_factory=dict)
    ties: dict[str, tuple[str, ...]] = field(default_factory=dict)
    equal_rank: set[frozenset[str]] = field(default_factory=set)
    """Parent and child of which cannot be told which is which."""
    told_by_shares: set[str] = field(default_factory=set)
    """Children that carry all of their parent, which does not carry all of them."""
    habit: Habit = field(default_factory=Habit)
    """What steps of known direction take back of those before."""
    mixed: dict[str, Descent] = field(default_factory=dict)
    """Merges whose recipe is not known, found among the children of the root."""

    def __post_init__(self) -> None:
        self.pool, self.dates = self.steps.pool, self.steps.dates
        self.carrying = Carrying(self.steps)
        self.seen = self.pool.instrumented(self.root)
        for name in self.pool.ids:
            origins = self.known.get(name, ())
            if name == self.root or not origins:
                continue
            # Of several parents none carries the whole: seen from the root a merge is one step.
            single = len(origins) == 1 and origins[0] in self.pool.ids
            self.parents[name] = origins[0] if single else self.root

    def travelled(self, name: str) -> float:
        """How far a model is from the root, in whitened distance."""
        return float(self.seen.own[self.pool.ids.index(name)])

    def place(self, child: str) -> None:
        """Find the parent of a new model among those that stand.

        What an ancestor did last is carried most wholly, and later training wears off what was done
        long ago: so every model is asked for its own last step, whatever stands above it.
        """
        barred = self._descendants(child) | {child, *self._mixtures()}
        passed, unclear = self._ask(
            child, {name: at for name, at in self.parents.items() if name not in barred}
        )
        above = {self.parents[name] for name in passed}
        lowest = {name: self.parents[name] for name in passed if name not in above}
        at = self._surest(child, lowest) or self.root
        self.parents[child] = at
        self.ties[child] = tuple(name for name in unclear if self.parents[name] == at)

    def place_below_farther(self) -> None:
        """Place models below those farther from the root that only their rows tell to be above.

        Models are placed nearest first, and what comes from a model may lie nearer than it does.
        """
        for farther, name, above in self.carrying.found_untouched():
            side_by_side = self.parents[farther] == self.parents[name] == above
            if side_by_side and name not in self.known:
                self.place(name)

    def place_below_siblings(self, children: Sequence[str]) -> None:
        """Place models again that carry all of a sibling which does not carry all of theirs.

        Of two at about one distance the child may have been placed before its parent.
        """
        for child in children:
            at = self.parents[child]
            if any(
                self.carrying.descends(child, other, at)
                and self.carrying.descends(other, child, at) is False
                for other in self._below(at)
                if other != child and other not in self.known
            ):
                self.place(child)
                if self.parents[child] != at:
                    self.told_by_shares.add(child)

    def move_below_mixture(self, child: str) -> None:
        """Place a model below a merge that it carries and is nearer to than to its parent.

        Every relative carries something of a merge, and what it was made from carries much: here
        shares must be surer, the same for the whole change as without leading directions, and those
        of all parents.
        """
        at = self.parents[child]
        barred = self._descendants(child)
        mixed, _ = self._ask(child, {name: at for name in self._mixtures() if name not in barred})
        nearer = [
            name
            for name in mixed
            if self.carrying.is_surely_whole(child, name, at)
            and self._distance(child, name) < self._distance(child, at)
            and at not in self._descendants(name)
            and self._is_made_of(child, name)
        ]
        if nearer:
            self.parents[child] = min(nearer, key=lambda name: self._distance(child, name))
            self.ties[child] = ()

    def _is_made_of(self, model: str, mixture: str) -> bool:
        """Whether a model carries all parents of a merge as the merge does, and is none of theirs.

        What a parent descends from carries that parent, and not the others. What all of them
        descend from carries all; but seen from the merge, or what was made of it, its parents lie
        on opposite sides. And nothing that the model itself comes from descends from it.
        """
        at = self.parents[model]
        parents = [
            one
            for one in self.known[mixture]
            if one in self.pool.ids and self.carrying.part(mixture, one, at) > MIN_SHARE
        ]
        if any(
            self.carrying.most_of(model, one, at)
            < _LEAST_PART * self.carrying.part(mixture, one, at)
            for one in parents
        ):
            return False
        if any(one == at or at in self._descendants(one) for one in self.known[mixture]):
            return True
        return not all(
            self.carrying.descends(one, model, at)
            and all(
                self._cosine(model, one, other) > _OPPOSITE for other in parents if other != one
            )
            for one in parents
        )

    def _cosine(self, origin: str, one: str, other: str) -> float:
        """Of the steps from `origin` to two others; 0 where one of them is none."""
        first, second = self._distance(origin, one), self._distance(origin, other)
        size = 2 * float(np.sqrt(first * second))
        return (first + second - self._distance(one, other)) / size if size > 0 else 0.0

    def _ask(self, child: str, references: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """Models whose change since their reference `child` carries, and those it may carry.

        Models that it carries but that are dated later are of the second sort.
        """
        passed, unclear = [], []
        for name, reference in references.items():
            verdict = self.carrying.descends(child, name, reference)
            is_younger = date_log_odds(child, name, self.dates) < 0
            # An original may have been uploaded again: a date alone does not clear a parent.
            if (verdict and is_younger) or (verdict is None and not is_younger):
                unclear.append(name)
            elif verdict:
                passed.append(name)
        return passed, unclear

    def _surest(self, child: str, references: Mapping[str, str]) -> str | None:
        """Of several whose change `child` seems to carry, the one whose share is surest.

        Relatives that moved in parallel pass too, with wider errors: they share a few directions
        with the child, an ancestor shares all of its own.
        """

        def certainty(name: str) -> float:
            beta, error = self.steps.carried(references[name], name).share(child)
            return beta / max(error, 1e-12)

        return max(references, key=certainty, default=None)

    def _mixtures(self) -> list[str]:
        """Models of several known parents: a child of one carries it, wherever one looks from."""
        return [name for name in self.pool.ids if len(self.known.get(name, ())) > 1]

    def find_mixtures(self, children: Sequence[str]) -> None:
        """Find merges without a recipe among the children of the root.

        Two of them may each seem to hold a part of the other. The one that its parents explain
        best stands, and what is made from a model is no parent of it: no circle can be closed.
        """
        found = {
            child: merge
            for child in children
            if self.parents[child] == self.root and (merge := self._mixture(child))
        }
        for child in sorted(found, key=lambda name: -explained_share(found[name])):
            circular = found[child].names & self._descendants(child)
            merge = self._mixture(child) if circular else found[child]
            if merge is not None:
                self.mixed[child] = merge

    def _mixture(self, child: str) -> Descent | None:
        return trained_merge(self.seen, child, self._possible_parents(child))

    def learn_habit(self, children: Sequence[str]) -> None:
        """Learn from the steps below those of the root whose direction is told without it."""
        told = []
        for child in children:
            parent = self.parents[child]
            if parent == self.root:
                continue
            odds = self._step_log_odds(parent, child)
            if abs(odds) > DECIDED:
                told.append(self._goes_back(*((parent, child) if odds > 0 else (child, parent))))
        self.habit = habit_of(told)

    def _goes_back(self, parent: str, child: str) -> bool | None:
        return self.steps.carried(self.root, parent).goes_back(child)

    def reconsider(self, child: str) -> None:
        """Turn a step round if its own direction speaks louder against it than distance for it.

        What a large step left unsettled the next, smaller one may take back: then the parent may
        lie farther from the root than its child.
        """
        parent = self.parents[child]
        if parent == self.root or parent in self.known or child in self.told_by_shares:
            return
        odds = self._step_log_odds(parent, child)
        if odds > DECIDED:
            return
        if odds > -DECIDED:
            above = (self.parents[parent], *self.ties[parent])
            self.ties[child] = (*self.ties[child], *above)
            self.equal_rank.add(frozenset((child, parent)))
            return
        siblings = [name for name in self._below(parent) if name != child]
        self.parents[child], self.parents[parent] = self.parents[parent], child
        self.ties[parent] = ()
        self.place(child)
        for name in sorted(siblings, key=self.travelled):
            if name not in self.known:
                self.place(name)

    def _step_log_odds(self, parent: str, child: str) -> float:
        """Log-odds of a step's direction by itself, and from the distances of its ends to the root.

        If steps were orthogonal, ``s = (‖C−R‖² − ‖P−R‖²)/‖C−P‖²`` would be 1, and −1 the other way
        round. A cosine ε between the step and the way to P adds ``2ε‖P−R‖/‖C−P‖``. Its sign counts
        by itself, as this family's habit has it.
        """
        step = self.steps.carried(parent, child).own
        near, far = (self.steps.carried(self.root, name).own for name in (parent, child))
        if not step > 0:  # equal, or no numbers
            return self.steps.log_odds(parent, child)
        r = self.pool.ids.index(self.root)
        size = float(self.pool.gram[:, r, r].sum())
        relative = (self._distance(parent, self.root) / size) ** 0.5 if size > 0 else 0.0
        error = taken_back(near / step, relative)
        farther = 2 * (far - near) / step / (_DISTANCE_ERROR**2 + error)
        told_by_rows = _UNTOUCHED_LOG_ODDS * (
            self.carrying.has_untouched(parent, child, self.root)
            - self.carrying.has_untouched(child, parent, self.root)
        )
        as_usual = self._habitual_log_odds(parent, child)
        return self.steps.log_odds(parent, child, error) + farther + told_by_rows + as_usual

    def _habitual_log_odds(self, parent: str, child: str) -> float:
        """Log-odds of a step's direction from what it takes back of the way from the root."""
        return self.habit.log_odds(self._goes_back(parent, child), self._goes_back(child, parent))

    def founder_odds(self, free: Collection[str], *, dated: bool = True) -> dict[str, float]:
        """Log-probabilities of the founder, this tree's shape given; undated: by weights alone."""
        steps = {
            child: self.steps.log_odds(parent, child)
            - (0.0 if dated else date_log_odds(child, parent, self.dates))
            for child, parent in self.parents.items()
        }
        return founder_log_odds(self.parents, self.root, steps, set(free) - self.known.keys())

    def _descendants(self, model: str) -> set[str]:
        """What stands below a model in the tree, and what was merged from it, known or found."""
        found: set[str] = set()
        frontier = {model}
        while frontier:
            below = {child for child, parent in self.parents.items() if parent in frontier}
            made = {child for child, parents in self.known.items() if frontier & set(parents)}
            mixed = {child for child, one in self.mixed.items() if one.names & frontier}
            frontier = (below | made | mixed) - found
            found |= frontier
        return found

    def _below(self, name: str) -> list[str]:
        return [child for child, parent in self.parents.items() if parent == name]

    def _distance(self, a: str, b: str) -> float:
        ids = self.pool.ids
        return float(self.pool.squared_distance[ids.index(a), ids.index(b)])

    def describe(self, child: str) -> Descent:
        """Where a model was placed, and why."""
        if child in self.mixed:
            return self.mixed[child]
        parent = self.parents[child]
        if parent != self.root:
            above = self.parents.get(parent, self.root)
            beta, error = self.steps.carried(above, parent).share(child)
            facts = (share_fact(parent, above, beta, error), *self._descent_facts(child, parent))
            return Descent(child, ((parent, 1.0, error),), self._tied(child, parent), facts)
        fact = self._nearest_miss(child, self._possible_parents(child))
        facts = (fact, *self._descent_facts(child, self.root))
        return Descent(child, ((self.root, 1.0, 0.0),), self._tied(child, self.root), facts)

    def _descent_facts(self, child: str, parent: str) -> Iterator[Evidence]:
        """What else tells that one model comes from another, and which of the two came first."""
        above = self.parents.get(parent, self.root)
        if inherits_rows(self.pool, child, parent, above):
            yield rows_fact(parent, above)
        yield arrow_fact(self.pool, child, parent)
        if self.carrying.has_untouched(parent, child, self.root):
            yield untouched_fact(child, parent, self.root)
        parallel = self.steps.parallel(parent, child)
        if parallel.balance:
            yield parallel_fact(parent, parallel)
        if parent != self.root and (odds := self._habitual_log_odds(parent, child)):
            yield habit_fact(parent, self.root, self.habit, odds)

    def with_unseen(self, descents: Sequence[Descent]) -> tuple[Descent, ...]:
        """The same with ancestors between models and their parents that nobody published."""
        alone = [one.child for one in descents if len(one.parents) == 1]
        above = {
            child: unseen
            for unseen in unseen_ancestors(self.steps, self.parents, alone)
            for child in unseen.children
        }
        return tuple(
            replace(
                one,
                unseen=above[one.child].name,
                evidence=(*one.evidence, unseen_fact(above[one.child], one.child)),
            )
            if one.child in above
            else one
            for one in descents
        )

    def _possible_parents(self, child: str) -> list[str]:
        """Models that a model may have come from, the root aside."""
        barred = self._descendants(child) | {child, self.root}
        return [
            name
            for name in self.pool.ids
            if name not in barred and date_log_odds(child, name, self.dates) >= 0
        ]

    def _tied(self, child: str, parent: str) -> tuple[str, ...]:
        """The parent and those that may be it as well; nothing where there are none."""
        barred = self._descendants(child) | {parent}
        others = [name for name in self.ties[child] if name not in barred]
        others += [
            name for name in self._below(child) if frozenset((child, name)) in self.equal_rank
        ]
        return (parent, *dict.fromkeys(others)) if others else ()

    def _nearest_miss(self, child: str, others: Sequence[str]) -> Evidence:
        c = self.pool.ids.index(child)
        shares = [(float(self.seen.beta[c, self.pool.ids.index(name)]), name) for name in others]
        beta, name = max((one for one in shares if one[0] <= LARGEST_SHARE), default=(None, ""))
        return Evidence(
            "largest_inherited_share",
            beta,
            "carries the change of no other relative"
            if beta is None
            else f"carries the whole change of no other relative (most: {100 * beta:.0f} % of "
            f"{name})",
        )
