"""Which relatives a masked merge was made of, on which base, by which rule.

Least squares sees a masked merge through the noise of its masks: large parents and the base are
found, small ones hide. So the search begins with what least squares is sure of, tries bases and
rules on a part of the words, and then lets the words speak: under a right but incomplete model,
what is left of each word still leans towards the change of a parent that is missing (a score
test; Rao 1948). Parents are added while the likelihood asks for it, and taken out again
where it does not mind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.methods.masks import N_BINS, Changes, MaskFit, Rule, changes_from, fit_masks
from lineage.infer.parent_sets import FLAT, ParentSet

__all__ = ["MaskedMerge", "find_masked"]

F64 = NDArray[np.float64]

_QUICK_WORDS = 1_000
_QUICK_PARENTS = 5
"""The largest parents, with which bases and rules are compared: the outcomes double with each."""
_WORDS = 3_000
_FINAL_WORDS = 12_000
_TYPICAL_KEEP = 0.6
_SELDOM_KEPT = 0.1
_LEAST_START = 0.02
_LEAST_SCORE = 4.0
_HOPEFUL = 0.9
"""Share of the words that masks must explain for all words to be asked."""
_LEAST_GAIN = 0.02
"""By how much masks must be likelier than noise to begin with, in natural logarithms a word."""
_WORTH = 15.0
"""Log-likelihood over all words that one more parent must win."""
_MAX_PARENTS = 8
_N_BASES = 3
_N_BASES_TRIED = 6
_N_BASES_SEARCHED = 3
_N_TRIED = 2
_N_REFUSED = 4
_SOME_SMALLEST = 2
_N_EXCHANGES = 4
_ALIKE = 0.5
"""Cosine of two changes from which one model may stand in for the other."""
_CENTRAL = 0.5
"""Share of the base's slant below which the child is the centre; train families: .93 and more."""
_RULES = ((Rule.SUM, False), (Rule.ELECTED, False), (Rule.MEAN, False), (Rule.MEAN, True))
_FIRST_RULES = ((Rule.SUM, False), (Rule.MEAN, False))


@dataclass(frozen=True)
class MaskedMerge:
    """A masked merge: its base, its parents and the fit that explains it.

    Attributes
    ----------
    gain
        By how much the masks are likelier than noise around a weighted sum, logarithms a word.
    """

    base: str
    parents: tuple[str, ...]
    changes: Changes
    fit: MaskFit
    gain: float


def find_masked(
    pool: Pool, child: str, dtype: str, sets: Sequence[ParentSet], candidates: Sequence[str]
) -> MaskedMerge | None:
    """The masked merge that `child` may be; None where masks explain no more than noise does.

    Parameters
    ----------
    sets
        What least squares offers, smallest first.
    candidates
        Possible parents beside those.
    """
    sure = _sure(sets)
    if sure is None:
        return None
    members = sure.members
    added = [name for one in sets[len(members) : len(members) + 1] for name in one.members]
    bases = _likely_bases(pool, child, sure, added, candidates)
    starts = _starts(pool, child, dtype, members, bases)
    everyone = dict.fromkeys((*sets[-1].members, *candidates))
    searches = []
    for base, rule, rescaled in starts:
        names = tuple(name for name in everyone if name not in (base, child))
        changes = changes_from(pool, child, base, names, dtype, _WORDS)
        search = _Search(base, names, changes, rule, rescaled)
        known = [names.index(name) for name in members if name != base]
        search.begin([known[i] for i in _largest(changes.of(known), _QUICK_PARENTS)])
        search.settle()
        if search.is_sound:
            searches.append(search)
    if not searches:
        return None
    best = max(searches, key=lambda search: search.fit.log_likelihood)
    best.exchange()
    best.thin_out()
    best.settle()
    if not best.is_sound or best.fit.explained < _HOPEFUL or _is_in_the_middle(pool, child, best):
        return None
    return _merge(pool, child, dtype, best)


def _starts(
    pool: Pool, child: str, dtype: str, members: Sequence[str], bases: Sequence[str]
) -> list[tuple[str, Rule, bool]]:
    """The likeliest bases with their likeliest rules, on few words; none where noise does as well.

    All bases are tried with a plain sum and a plain mean, those that do best with every rule.
    """
    unmasked = -np.inf
    asked: list[tuple[str, Changes, F64, list[MaskFit]]] = []
    for base in bases:
        parents = [name for name in members if name != base]
        changes = changes_from(pool, child, base, parents, dtype, _QUICK_WORDS)
        changes = changes.of(_largest(changes, _QUICK_PARENTS))
        start = np.maximum(changes.least_squares(), _LEAST_START)
        plain = fit_masks(changes, Rule.SUM, False, start, masked=False, n_last=2)
        unmasked = max(unmasked, plain.log_likelihood)
        start = start / _TYPICAL_KEEP
        firsts = _FIRST_RULES if len(start) > 1 else _FIRST_RULES[:1]
        fits = [fit_masks(changes, *rule, start, n_last=2) for rule in firsts]
        asked.append((base, changes, start, fits))
    asked.sort(key=lambda one: -max(fit.log_likelihood for fit in one[3]))
    tried: list[tuple[float, str, Rule, bool]] = []
    for base, changes, start, fits in asked[:_N_BASES_TRIED]:
        rules = [rule for rule in _RULES if rule not in _FIRST_RULES] if len(start) > 1 else []
        for fit in (*fits, *(fit_masks(changes, *rule, start, n_last=2) for rule in rules)):
            # Seen from a wrong base, the true one is taken away.
            if fit.coefficients.min() > 0:
                tried.append((fit.log_likelihood, base, fit.rule, fit.rescaled))
    tried.sort(key=lambda one: -one[0])
    if not tried or tried[0][0] < unmasked + _LEAST_GAIN:
        return []
    best = {base: (base, rule, rescaled) for _, base, rule, rescaled in reversed(tried)}
    return [best[base] for base in dict.fromkeys(one[1] for one in tried)][:_N_BASES_SEARCHED]


def _is_in_the_middle(pool: Pool, child: str, search: _Search) -> bool:
    """Whether the child is clearly more of a centre than the base is.

    What they were all made from lies between them too, and few steps of rounding away masks of
    many parents explain any word. But steps that were taken apart from one another are at right
    angles where they began. With ``c_i = ⟨M−B, P_i−B⟩`` and ``V = ‖M−B‖²`` those from a merge M
    multiply to ``V − c_i`` and ``⟨P_i−B, P_j−B⟩ − c_i − c_j + V``, which are not all zero; parents
    that were trained alike slant from their base too, so the child has to do so half as much.
    """
    parents = [search.names[i] for i in search.chosen]
    from_child = _slant(pool, child, [search.base, *parents])
    return from_child < _CENTRAL * _slant(pool, search.base, parents)


def _slant(pool: Pool, origin: str, ends: Sequence[str]) -> float:
    """Mean size of the cosines between the steps from one model to others."""
    o, index = pool.ids.index(origin), [pool.ids.index(name) for name in ends]
    apart = pool.squared_distance
    lengths = apart[index, o]
    products = (lengths[:, None] + lengths[None, :] - apart[np.ix_(index, index)]) / 2
    cosines = products / np.sqrt(np.maximum(np.outer(lengths, lengths), 1e-300))
    return float(np.abs(cosines[np.triu_indices(len(ends), 1)]).mean())


def _merge(pool: Pool, child: str, dtype: str, search: _Search) -> MaskedMerge:
    """The merge with all words asked, weights free in every run of layers where that helps."""
    base, parents = search.base, tuple(search.names[i] for i in search.chosen)
    changes = changes_from(pool, child, base, parents, dtype, _FINAL_WORDS)
    start = search.fit.coefficients[0]
    fits = [
        fit_masks(
            changes, search.rule, search.rescaled, start, by_group=free, curves=search.fit.curves
        )
        for free in (False, True)
    ]
    plain = fit_masks(changes, Rule.SUM, False, changes.least_squares(), masked=False, n_last=4)
    free_numbers = (fits[1].coefficients.size - fits[0].coefficients.size) * _WORTH
    varies = (fits[1].log_likelihood - fits[0].log_likelihood) * len(changes.child) > free_numbers
    fit = fits[1] if varies else fits[0]
    return MaskedMerge(base, parents, changes, fit, fit.log_likelihood - plain.log_likelihood)


@dataclass
class _Search:
    """Growing and shrinking a set of parents, the base given."""

    base: str
    names: tuple[str, ...]
    changes: Changes
    rule: Rule
    rescaled: bool
    chosen: list[int] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)
    fit: MaskFit = field(init=False)

    @property
    def is_sound(self) -> bool:
        """Whether several parents were found, none of which is taken away."""
        return len(self.chosen) > 1 and bool(self.fit.coefficients.min() > 0)

    def begin(self, chosen: list[int]) -> None:
        """Fit a first set of parents."""
        self.chosen = chosen
        part = self.changes.of(chosen)
        start = np.maximum(part.least_squares(), _LEAST_START) / _TYPICAL_KEEP
        self.fit = fit_masks(part, self.rule, self.rescaled, start, n_last=3)
        self.thin_out()

    def thin_out(self) -> None:
        """Ask of every parent whether its change was kept seldom, and is the larger where it was.

        Far from there expectation and maximisation do not find it: they end where little is kept
        and what is kept is small.
        """
        for place, i in enumerate(self.chosen):
            curves, start = self.fit.curves.copy(), self.fit.coefficients[0].copy()
            curves[place] = _SELDOM_KEPT
            start[place] = self.changes.of([i]).least_squares()[0] / _SELDOM_KEPT
            part = self.changes.of(self.chosen)
            fit = fit_masks(part, self.rule, self.rescaled, start, n_last=3, curves=curves)
            if self._lost(fit) < -_WORTH and fit.coefficients.min() > 0:
                self.fit = fit

    def fitted(self, which: list[int], rule: Rule, rescaled: bool) -> MaskFit:
        """A fit of other parents that begins where the present one stands."""
        part = self.changes.of(which)
        start = np.maximum(part.least_squares(), _LEAST_START) / _TYPICAL_KEEP
        if (rule, rescaled) != (self.rule, self.rescaled):
            return fit_masks(part, rule, rescaled, start, n_last=3)
        curves = np.full((len(which), N_BINS), _TYPICAL_KEEP)
        for place, i in enumerate(which):
            if i in self.chosen:
                known = self.chosen.index(i)
                curves[place] = self.fit.curves[known]
                if rule is not Rule.MEAN:
                    start[place] = self.fit.coefficients[0, known]
        return fit_masks(part, rule, rescaled, start, n_last=3, curves=curves)

    def settle(self) -> None:
        """Add parents while the likelihood asks for it, then take out those it does not miss."""
        self.refused.clear()
        while self.grow():
            pass
        self.shrink()

    def grow(self) -> bool:
        """Try the relatives that what is left leans to most; False when there is none left."""
        if len(self.chosen) >= _MAX_PARENTS or len(self.refused) > _N_REFUSED:
            return False
        leaning = self.changes.parents / self.changes.unit * self.fit.score
        t = leaning.sum(axis=1) / np.sqrt((leaning**2).sum(axis=1) + 1e-300)
        t[[*self.chosen, *self.refused]] = 0.0
        new = [int(i) for i in np.argsort(-np.abs(t))[:_N_TRIED] if abs(t[i]) > _LEAST_SCORE]
        rules = _RULES if len(self.chosen) < 2 else ((self.rule, self.rescaled),)
        fits = [(self.fitted([*self.chosen, i], *rule), i) for i in new for rule in rules]
        if not fits:
            return False
        fit, i = max(fits, key=lambda one: one[0].log_likelihood)
        if self._lost(fit) > -_WORTH:
            self.refused.update(new)
            return True
        self.chosen.append(i)
        self.fit, self.rule, self.rescaled = fit, fit.rule, fit.rescaled
        return True

    def exchange(self) -> None:
        """Put near relatives in the place of parents where that is likelier.

        What was made from a parent, or what it was made from, stands in for it: then nothing that
        is left leans to the parent, and nothing is won by adding it.
        """
        steps = self.changes.parents / self.changes.unit
        lengths = np.linalg.norm(steps, axis=1)
        alike = np.abs(steps @ steps.T) / np.maximum(np.outer(lengths, lengths), 1e-300)
        for _ in range(_N_EXCHANGES):
            outside = np.ones(len(steps), bool)
            outside[self.chosen] = False
            moves = [
                [new if i == old else i for i in self.chosen]
                for old in self.chosen
                for new in map(int, np.argsort(-alike[old] * outside)[:_N_TRIED])
                if outside[new] and alike[old, new] > _ALIKE
            ]
            fits = [(self.fitted(which, self.rule, self.rescaled), which) for which in moves]
            fit, which = max(fits, key=lambda one: one[0].log_likelihood, default=(self.fit, []))
            if not which or self._lost(fit) > -_WORTH:
                return
            self.chosen, self.fit = which, fit

    def shrink(self) -> None:
        """Take out parents that the likelihood does not miss, the smallest first."""
        while len(self.chosen) > 1:
            sizes = np.linalg.norm(self.changes.parents[self.chosen] / self.changes.unit, axis=1)
            sizes = sizes * np.abs(self.fit.coefficients[0])
            some = [self.chosen[i] for i in np.argsort(sizes)[:_SOME_SMALLEST]]
            fits = [
                (self.fitted([j for j in self.chosen if j != i], self.rule, self.rescaled), i)
                for i in some
            ]
            fit, i = max(fits, key=lambda one: one[0].log_likelihood)
            if self._lost(fit) > _WORTH:
                return
            self.chosen.remove(i)
            self.fit = fit

    def _lost(self, fit: MaskFit) -> float:
        return (self.fit.log_likelihood - fit.log_likelihood) * len(self.changes.child)


def _sure(sets: Sequence[ParentSet]) -> ParentSet | None:
    """The two or more that least squares is sure of: others take away next to nothing."""
    for smaller, larger in pairwise(sets[1:]):
        if larger.left > FLAT * smaller.left:
            return smaller
    return sets[-1] if len(sets) > 1 else None


def _largest(changes: Changes, n: int) -> list[int]:
    """The parents whose weighted changes are largest, in their given order."""
    sizes = np.linalg.norm(changes.parents / changes.unit, axis=1)
    explained = sizes * np.abs(changes.least_squares())
    return sorted(int(i) for i in np.argsort(-explained)[:n])


def _likely_bases(
    pool: Pool, child: str, sure: ParentSet, added: Sequence[str], candidates: Sequence[str]
) -> tuple[str, ...]:
    """Who may be the base: whose words the child kept most often, and who is in the middle.

    The base is the centre of a star, whether least squares sees it or not, and most often of all
    that is known. Where weights add up to more than one, it is what least squares takes away, and
    where they do not, what it `added` next.
    """
    members = sure.members
    taken = [name for name, share in zip(members, sure.shares, strict=True) if share < 0]
    names = tuple(dict.fromkeys((*members, *candidates)))
    index = [pool.ids.index(name) for name in names]
    c = pool.ids.index(child)
    kept = {
        name: sum(int((v[i] == v[c]).sum()) for v in pool.values)
        for name, i in zip(names, index, strict=True)
    }
    apart = pool.squared_distance[:, [pool.ids.index(name) for name in members]].sum(axis=1)
    central = sorted(names, key=lambda name: float(apart[pool.ids.index(name)]))
    to_others = np.median(pool.squared_distance[np.ix_(index, index)], axis=1)
    middle = [names[i] for i in np.argsort(to_others)[:_N_BASES]]
    most_kept = sorted(names, key=lambda name: -kept[name])
    inside = [name for name in central if name in members]
    likely = (*most_kept[:_N_BASES], *central[:_N_BASES], *inside[:1], *middle, *taken, *added)
    return tuple(dict.fromkeys(likely))
