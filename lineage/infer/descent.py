"""Who descends from whom among models of one shape, copies taken out and exact merges known.

1. *Tree.* From a root, models are placed in the order of their whitened distance. X is an ancestor
   of C when C carries nearly all of what X did since its own parent (β(C|X) from .85: later
   training wears some of it off), and the words that X changed are kept rather than back as they
   were. A share above one is descent only if three quarters of those words are kept, since
   parallel training overshoots too. Of several ancestors the surest that is no parent of another
   is the parent; the root if there is none.
2. *Founder.* The tree's shape needs no direction; all its steps vote on which end is up
   (:mod:`.rooting`), and it is drawn again from the winner until nothing changes.
3. *Trained merges.* A child with no such ancestor that carries parts of at least two models, which
   add up, is a merge whose exact recipe is not (yet) known. Those best explained are taken first,
   and none is made of what was made of it: all steps together close no circle.

The instruments and their measured errors are described in ``docs/inference.md``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from lineage.infer.geometry import PARALLEL, Inheritance, Pool
from lineage.infer.rooting import (
    ARROW_CAP,
    StepOdds,
    arrow_log_odds,
    date_log_odds,
    founder_log_odds,
    is_above,
    taken_back,
)
from lineage.infer.unseen import Unseen, unseen_ancestors
from lineage.model import Evidence

__all__ = ["DECIDED", "Descent", "Family", "first_guess", "resolve_descent", "resolve_family"]

Dates = Mapping[str, datetime | None]

_MAX_VOTES = 3
DECIDED = float(np.log(9))
"""Nine to one: below, a direction is not asserted."""
_ROUNDS = 4
_DISTANCE_ERROR = 0.5
_LEAST_SHARE = 0.80
_LARGEST_SHARE = 1.15
_SURE_ERROR = 0.03
"""A whitened share surer than this is believed whatever else was trained on the same text."""
_N_ERRORS = 2.5
_MAX_ERROR = 0.15
_ASTRAY_SHARE = 0.5
_ASTRAY = 0.85
_ASTRAY_ERROR = 0.1
"""Least share, most of the whole change's share over it (by 2.5 errors), and largest error, where
what is missing is missing in the leading directions: there the reference went the child's way, from
the ancestor. What is mixed in lacks in all directions alike, and so does what lies beyond a
sibling; what moved in parallel lacks least in leading ones. Of 1,320 models beyond the parent of a
reference, on training families, 52 lie there; of 608 that do not descend none does."""
_MAX_MIXTURE_ERROR = 0.06
_MIXTURE_PARALLEL = 1.1
_LEAST_PART = 0.6
"""Of what a merge carries of a parent; on training families what was made of one has .9 and more,
what its parents were made of .35."""
_OPPOSITE = -0.2
"""Cosine of two steps that lead apart; those of a merge's k parents have −1/(k−1) on average."""
_MIN_SHARE = 0.12
_SHARE_ERRORS = 4.0
_LEAST_EXPLAINED = 0.65
"""Of a child's change; on training families relatives of single-parent children reach .54."""
_MOST_EXPLAINED = 1.1
"""Nothing explains more than all there is: shares that do are errors that cancel."""
_LARGEST_TOTAL = 2.0
"""Task vectors weigh more than one together now and then, hardly ever more than two."""
_MAX_FITTED = 24
"""Relatives that are fitted at once, those that explain most by themselves."""


@dataclass(frozen=True, slots=True)
class Family:
    """The founder of models of one shape, its log-odds against the others, where these stand."""

    founder: str
    log_odds: float
    descents: tuple[Descent, ...]


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
    steps = StepOdds(pool, dates)
    for _ in range(_ROUNDS):
        # Seen from a parent of a merge, the founder looks like the merge's child: merges come last.
        plain = _draw(steps, root, free, known, with_mixtures=False)
        odds = plain.founder_odds(set(free))
        best = max(odds, key=lambda name: odds[name])
        if best == root:
            break
        root = best
    plain = _draw(steps, root, free, known, with_mixtures=False)
    odds, undated = (plain.founder_odds(set(free), dated=dated) for dated in (True, False))
    others = [value for name, value in odds.items() if name != root]
    against = float(np.logaddexp.reduce(others)) if others else float("-inf")
    pedigree = _draw(steps, root, free, known)
    descents = []
    for child in free:
        if child == root:
            continue
        descent = pedigree.describe(child)
        facts = descent.evidence
        if len(descent.parents) == 1:
            facts += _undated_fact(descent, is_above(pedigree.parents, child, undated))
        above = is_above(pedigree.parents, child, odds)
        descents.append(replace(descent, evidence=facts, log_odds=above))
    return _unrooted_where_unseen(
        Family(root, odds[root] - against, pedigree.with_unseen(descents))
    )


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
    pedigree = _draw(StepOdds(pool, dates), root, children, known)
    descents = [pedigree.describe(child) for child in children if child != root]
    return pedigree.with_unseen(descents)


def _draw(
    steps: StepOdds,
    root: str,
    children: Sequence[str],
    known: Mapping[str, Sequence[str]],
    *,
    with_mixtures: bool = True,
) -> _Pedigree:
    pedigree = _Pedigree(steps, root, known)
    free = sorted((child for child in children if child != root), key=pedigree.travelled)
    for child in free:
        pedigree.place(child)
        if with_mixtures:
            pedigree.move_below_mixture(child)
    for child in free:
        pedigree.reconsider(child)
    if with_mixtures:
        pedigree.find_mixtures(free)
    return pedigree


@dataclass
class _Pedigree:
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
    mixed: dict[str, Descent] = field(default_factory=dict)
    """Merges whose recipe is not known, found among the children of the root."""

    def __post_init__(self) -> None:
        self.pool, self.dates = self.steps.pool, self.steps.dates
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
            if self._is_surely_whole(child, name, at)
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
        on opposite sides.
        """
        at = self.parents[model]
        parents = [
            one
            for one in self.known[mixture]
            if one in self.pool.ids and self._part(mixture, one, at) > _MIN_SHARE
        ]
        if any(
            self._part(model, one, at) < _LEAST_PART * self._part(mixture, one, at)
            for one in parents
        ):
            return False
        return not all(
            self._descends(one, model, at)
            and all(
                self._cosine(model, one, other) > _OPPOSITE for other in parents if other != one
            )
            for one in parents
        )

    def _part(self, model: str, other: str, reference: str) -> float:
        """Share of another's change that a model surely carries, else 0."""
        beta, error = self.steps.carried(reference, other).share(model)
        return beta if beta > _SHARE_ERRORS * error else 0.0

    def _cosine(self, origin: str, one: str, other: str) -> float:
        """Of the steps from `origin` to two others; 0 where one of them is none."""
        first, second = self._distance(origin, one), self._distance(origin, other)
        size = 2 * float(np.sqrt(first * second))
        return (first + second - self._distance(one, other)) / size if size > 0 else 0.0

    def _is_surely_whole(self, child: str, mixture: str, reference: str) -> bool:
        carried = self.steps.carried(reference, mixture)
        beta, error = carried.share(child)
        return (
            error <= _MAX_MIXTURE_ERROR and carried.whole_share(child) <= _MIXTURE_PARALLEL * beta
        )

    def _ask(self, child: str, references: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """Models whose change since their reference `child` carries, and those it may carry.

        Models that it carries but that are dated later are of the second sort.
        """
        passed, unclear = [], []
        for name, reference in references.items():
            verdict = self._descends(child, name, reference)
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
        for child in sorted(found, key=lambda name: -_explained(found[name])):
            circular = found[child].names & self._descendants(child)
            merge = self._mixture(child) if circular else found[child]
            if merge is not None:
                self.mixed[child] = merge

    def _mixture(self, child: str) -> Descent | None:
        return _trained_merge(self.seen, child, self._possible_parents(child))

    def reconsider(self, child: str) -> None:
        """Turn a step round if its own direction speaks louder against it than distance for it.

        What a large step left unsettled the next, smaller one may take back: then the parent may
        lie farther from the root than its child.
        """
        parent = self.parents[child]
        if parent == self.root or parent in self.known:
            return
        odds = self._step_log_odds(parent, child)
        if odds > DECIDED:
            return
        if odds > -DECIDED:
            self.ties[child] = (*self.ties[child], self.parents[parent])
            self.equal_rank.add(frozenset((child, parent)))
            return
        siblings = [name for name in self._below(parent) if name != child]
        self.parents[child], self.parents[parent] = self.parents[parent], child
        self.ties[child], self.ties[parent] = self.ties[parent], ()
        for name in sorted(siblings, key=self.travelled):
            if name not in self.known:
                self.place(name)

    def _step_log_odds(self, parent: str, child: str) -> float:
        """Log-odds of a step's direction by itself, and from the distances of its ends to the root.

        If steps were orthogonal, ``s = (‖C−R‖² − ‖P−R‖²)/‖C−P‖²`` would be 1, and −1 the other way
        round. A cosine ε between the step and the way to P adds ``2ε‖P−R‖/‖C−P‖``.
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
        return self.steps.log_odds(parent, child, error) + farther

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

    def _descends(self, child: str, ancestor: str, reference: str) -> bool | None:
        """Whether `child` carries what `ancestor` did since `reference`; None: cannot be told."""
        carried = self.steps.carried(reference, ancestor)
        beta, error = carried.share(child)
        if not np.isfinite(beta) or not np.isfinite(error):
            return False
        whole = carried.whole_share(child)
        if error <= _MAX_ERROR and _LEAST_SHARE <= beta <= _LARGEST_SHARE:
            return not (error > _SURE_ERROR and whole > PARALLEL * beta)
        slack = _N_ERRORS * error
        is_astray = error <= _ASTRAY_ERROR and _ASTRAY_SHARE <= beta < 1
        if is_astray and whole + slack <= _ASTRAY * beta:
            return True
        if error <= _MAX_ERROR and whole > PARALLEL * beta + slack:
            return False
        return None if _LEAST_SHARE - slack <= beta <= _LARGEST_SHARE + slack else False

    def describe(self, child: str) -> Descent:
        """Where a model was placed, and why."""
        if child in self.mixed:
            return self.mixed[child]
        parent = self.parents[child]
        if parent != self.root:
            above = self.parents.get(parent, self.root)
            beta, error = self.steps.carried(above, parent).share(child)
            facts = (
                _share_fact(parent, above, beta, error),
                _arrow_fact(self.pool, child, parent),
            )
            return Descent(child, ((parent, 1.0, error),), self._tied(child, parent), facts)
        fact = self._nearest_miss(child, self._possible_parents(child))
        facts = (fact, _arrow_fact(self.pool, child, self.root))
        return Descent(child, ((self.root, 1.0, 0.0),), self._tied(child, self.root), facts)

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
                evidence=(*one.evidence, _unseen_fact(above[one.child], one.child)),
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
        beta, name = max((one for one in shares if one[0] <= _LARGEST_SHARE), default=(None, ""))
        return Evidence(
            "largest_inherited_share",
            beta,
            "carries the change of no other relative"
            if beta is None
            else f"carries the whole change of no other relative (most: {100 * beta:.0f} % of "
            f"{name})",
        )


def _share_fact(parent: str, above: str, beta: float, error: float) -> Evidence:
    if not (np.isfinite(beta) and np.isfinite(error)):
        return Evidence("inherited_share", None, f"{parent} left no mark that could be carried")
    return Evidence(
        "inherited_share",
        beta,
        f"carries {100 * beta:.1f} ± {100 * error:.1f} % of what {parent} had changed since "
        f"{above}",
    )


def _unseen_fact(unseen: Unseen, child: str) -> Evidence:
    others = " and ".join(name for name in unseen.children if name != child)
    share = unseen.shares[child]
    return Evidence(
        "unseen_ancestor",
        share,
        f"{100 * share:.0f} % of what it changed since {unseen.parent} it has in common with "
        f"{others}, as children of one unseen model do",
    )


def _arrow_fact(pool: Pool, child: str, parent: str) -> Evidence:
    arrow = float(pool.arrow[pool.ids.index(child), pool.ids.index(parent)])
    if not np.isfinite(arrow):
        return Evidence("arrow", None, f"no sampled word differs from {parent}")
    return Evidence(
        "arrow",
        arrow,
        f"arrow {arrow:+.2f} (above −0.5 speaks for this direction, below against it)",
    )


def _explained(merge: Descent) -> float:
    """How much of a merge's change its parents make up."""
    return next(fact.value or 0.0 for fact in merge.evidence if fact.name == "change_explained")


def _trained_merge(seen: Inheritance, child: str, others: Sequence[str]) -> Descent | None:
    """Parents of a merge that was rescaled or trained on: joint shares that explain its change."""
    c = seen.ids.index(child)
    able = [x for x in map(seen.ids.index, others) if seen.own[x] > 0.02 * seen.own[c]]
    likely = sorted(able, key=lambda x: -float(seen.products[:, x, c].sum()) / seen.own[x] ** 0.5)
    movers = [seen.ids[x] for x in likely[:_MAX_FITTED]]
    shares, errors = seen.shares(child, movers)
    chosen = [
        (name, float(share), float(error))
        for name, share, error in zip(movers, shares, errors, strict=True)
        if share >= _MIN_SHARE and share > _SHARE_ERRORS * error
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
