"""Growing and shrinking the set of parents of a masked merge, its base given.

Under a right but incomplete model, what is left of each word still leans towards the change of a
parent that is missing (a score test; Rao 1948). Parents are added while the likelihood asks for
it, and taken out again where it does not mind. Expectation and maximisation only climb the nearest
hill, so that every move is tried from several starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lineage.infer.methods.masks import N_BINS, Changes, MaskFit, Rule, fit_masks

__all__ = [
    "FIRST_FORMS",
    "LATER_FORMS",
    "MAX_PARENTS",
    "WORTH",
    "Form",
    "MaskSearch",
    "largest",
    "likelihood",
    "thinned",
    "usual_start",
]

F64 = NDArray[np.float64]

_TYPICAL_KEEP = 0.6
_SELDOM_KEPT = 0.1
_LEAST_START = 0.02
_LEAST_SCORE = 4.0
WORTH = 15.0
"""Log-likelihood over all words that one more parent must win."""
_BETTER = 2.0
"""The same of another parent in the place of one: there are no more numbers to find."""
_NEGLIGIBLE = 0.01
"""Weight of a parent, of the largest one's, below which nobody writes any."""
MAX_PARENTS = 8
_WIDE_SCORE = 1.0
_N_LAST = 3
_N_SELDOM = 20
_N_POLISHED = 100
"""Rounds after which parents are compared to the end: masks creep, the slower the more parents."""
_N_TRIED = 2
_N_WIDE = 4
_N_REFUSED = 4
_UNEXPLAINED = 0.97
"""Share of the words explained below which a change may be missing that was kept seldom."""
_N_EXCHANGES = 4
_ALIKE = 0.5
"""Cosine of two changes from which one model may stand in for the other."""
_PRICE = 4.0
"""Log-likelihood that a coefficient must win: half the logarithm of the words (Schwarz 1978)."""


@dataclass(frozen=True, slots=True)
class Form:
    """How kept changes are combined, and whether their weights differ between runs of layers."""

    rule: Rule
    rescaled: bool = False
    by_group: bool = False

    def fit(self, changes: Changes, start: F64, n_last: int, curves: F64 | None = None) -> MaskFit:
        """Fit these changes (:func:`.masks.fit_masks`)."""
        return fit_masks(
            changes,
            self.rule,
            self.rescaled,
            start,
            by_group=self.by_group,
            n_last=n_last,
            curves=curves,
        )


FIRST_FORMS = (Form(Rule.SUM), Form(Rule.MEAN))
LATER_FORMS = (
    Form(Rule.ELECTED),
    Form(Rule.MEAN, rescaled=True),
    Form(Rule.SUM, by_group=True),
    Form(Rule.ELECTED, by_group=True),
)
"""All bases are tried with the first, those that do best with the others."""


def likelihood(fit: MaskFit, changes: Changes) -> float:
    """A word's mean log-likelihood, less the price of the coefficients."""
    return fit.log_likelihood - _PRICE * fit.coefficients.size / len(changes.child)


def largest(changes: Changes, n: int) -> list[int]:
    """The parents whose weighted changes are largest, in their given order."""
    sizes = np.linalg.norm(changes.parents / changes.unit, axis=1)
    explained = sizes * np.abs(changes.least_squares())
    return sorted(int(i) for i in np.argsort(-explained)[:n])


def usual_start(changes: Changes) -> F64:
    """Coefficients by least squares, none too small, enlarged by what is usually dropped."""
    return np.asarray(np.maximum(changes.least_squares(), _LEAST_START) / _TYPICAL_KEEP)


def _all_weigh(fit: MaskFit) -> bool:
    """Whether no parent is taken away or has next to no weight."""
    weights = fit.coefficients.mean(axis=0)
    return bool(weights.min() > _NEGLIGIBLE * weights.max())


def thinned(changes: Changes, form: Form, fit: MaskFit) -> MaskFit:
    """A fit where a change was kept seldom, and is the larger where it was, if that is likelier.

    Far from there expectation and maximisation do not find it: they end where little is kept and
    what is kept is small.
    """
    for place in range(len(changes.parents)):
        curves, start = fit.curves.copy(), fit.coefficients.copy()
        curves[place] = _SELDOM_KEPT
        start[:, place] = changes.of([place]).least_squares()[0] / _SELDOM_KEPT
        other = form.fit(changes, start, _N_LAST, curves)
        won = (other.log_likelihood - fit.log_likelihood) * len(changes.child)
        if won > WORTH and other.coefficients.mean(axis=0).min() > 0:
            fit = other
    return fit


@dataclass
class MaskSearch:
    """Growing and shrinking a set of parents, the base given."""

    base: str
    names: tuple[str, ...]
    changes: Changes
    form: Form
    chosen: list[int] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)
    fit: MaskFit = field(init=False)

    @property
    def is_sound(self) -> bool:
        """Whether several parents were found, none of which is taken away."""
        return len(self.chosen) > 1 and bool(self.mean.min() > 0)

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the parents chosen."""
        return tuple(self.names[i] for i in self.chosen)

    @property
    def mean(self) -> F64:
        """Coefficients, their mean over runs of layers."""
        return np.asarray(self.fit.coefficients.mean(axis=0))

    @property
    def likelihood(self) -> float:
        """How likely the present fit makes a word, the price of its coefficients taken off."""
        return likelihood(self.fit, self.changes)

    def begin(self, names: Sequence[str], most: int) -> bool:
        """Fit a first set of parents, the largest; False where none has a share."""
        known = [self.names.index(name) for name in names if name != self.base]
        shares = self.changes.of(known).least_squares()
        known = [i for i, share in zip(known, shares, strict=True) if share > _LEAST_START]
        if not known:
            return False
        self.chosen = [known[i] for i in largest(self.changes.of(known), most)]
        self.fit = self.fitted_anew(self.chosen, self.form)
        return True

    def thin_out(self) -> None:
        """Ask of every parent whether its change was kept seldom (:func:`thinned`)."""
        self.fit = thinned(self.changes.of(self.chosen), self.form, self.fit)

    def fitted_anew(self, which: list[int], form: Form) -> MaskFit:
        """A fit that begins with least squares and the usual share kept."""
        part = self.changes.of(which)
        return form.fit(part, usual_start(part), _N_LAST)

    def fitted(self, which: list[int], form: Form) -> MaskFit:
        """A fit of other parents that begins where the present one stands."""
        if form != self.form:
            return self.fitted_anew(which, form)
        part = self.changes.of(which)
        start = np.tile(usual_start(part), (len(self.fit.coefficients), 1))
        curves = np.full((len(which), N_BINS), _TYPICAL_KEEP)
        for place, i in enumerate(which):
            if i in self.chosen:
                known = self.chosen.index(i)
                curves[place] = self.fit.curves[known]
                if form.rule is not Rule.MEAN:
                    start[:, place] = self.fit.coefficients[:, known]
        return form.fit(part, start, _N_LAST, curves)

    def settle(self) -> None:
        """Add parents while the likelihood asks for it, then take out those it does not miss."""
        self.refused.clear()
        while self.grow():
            pass
        self.shrink()

    def grow(self) -> bool:
        """Try the relatives that what is left leans to most; False when there is none left."""
        if len(self.chosen) >= MAX_PARENTS or len(self.refused) > _N_REFUSED:
            return False
        new = self._leaning(_LEAST_SCORE, _N_TRIED)
        forms = FIRST_FORMS + LATER_FORMS if len(self.chosen) < 2 else (self.form,)
        fits = [(self.fitted([*self.chosen, i], form), form, i) for i in new for form in forms]
        if not fits:
            return False
        fit, form, i = max(fits, key=lambda one: likelihood(one[0], self.changes))
        if self._lost(fit) > -WORTH:
            self.refused.update(new)
            return True
        self.chosen.append(i)
        self.fit, self.form = fit, form
        return True

    def widen(self) -> bool:
        """Ask one relative more, from other starts than :meth:`grow`; False when none helps.

        What one of two parents left is taken up by the other where they are near relatives, so
        that only both together, fitted anew, show what they are. And a change that was kept seldom
        leaves words that nothing explains, but leans nowhere.
        """
        if len(self.chosen) >= MAX_PARENTS:
            return False
        self.refused.clear()
        asked = dict.fromkeys((*self._leaning(_WIDE_SCORE, _N_WIDE), *self._beside()))
        begun = [(self.fitted_anew([*self.chosen, i], self.form), i) for i in asked]
        if self.fit.explained < _UNEXPLAINED:
            outside = [i for i in range(len(self.names)) if i not in self.chosen]
            begun += [(self._seldom_kept(i), i) for i in outside]
        begun.sort(key=lambda one: -one[0].log_likelihood)
        fits = [
            (self._polished([*self.chosen, i], self.form, fit), i) for fit, i in begun[:_N_TRIED]
        ]
        # What is taken away, or weighs next to nothing, stands for what the form lacks.
        fits = [one for one in fits if _all_weigh(one[0])]
        fit, i = max(fits, key=lambda one: one[0].log_likelihood, default=(self.fit, -1))
        if self._lost(fit) > -WORTH:
            return False
        self.chosen.append(i)
        self.fit = fit
        return True

    def polish(self) -> None:
        """Carry the fit on to where hardly anything is won by more rounds.

        Weights become those of runs of layers, or of the whole again, where that is likelier.
        """
        self.fit = self._polished(self.chosen, self.form, self.fit)
        other = replace(self.form, by_group=not self.form.by_group)
        if other not in (*FIRST_FORMS, *LATER_FORMS):
            return
        fit = self._polished(self.chosen, other, replace(self.fit, coefficients=self.mean[None]))
        won = likelihood(fit, self.changes) - self.likelihood
        if won * len(self.changes.child) > WORTH and _all_weigh(fit):
            self.fit, self.form = fit, other

    def _polished(self, which: list[int], form: Form, fit: MaskFit) -> MaskFit:
        """A fit that was begun, carried on."""
        return form.fit(self.changes.of(which), fit.coefficients, _N_POLISHED, fit.curves)

    def _beside(self) -> list[int]:
        """Near relatives of the parents that are none themselves, the nearest first."""
        nearest = self._alike[self.chosen].max(axis=0)
        nearest[self.chosen] = 0.0
        return [int(i) for i in np.argsort(-nearest)[:_N_WIDE] if nearest[i] > _ALIKE]

    def _seldom_kept(self, new: int) -> MaskFit:
        """A fit with one parent more, whose change was kept seldom and is the larger for it."""
        part = self.changes.of([*self.chosen, new])
        start = np.tile(part.least_squares() / _SELDOM_KEPT, (len(self.fit.coefficients), 1))
        start[:, :-1] = self.fit.coefficients
        curves = np.concatenate([self.fit.curves, np.full((1, N_BINS), _SELDOM_KEPT)])
        return self.form.fit(part, start, _N_SELDOM, curves)

    def _leaning(self, least: float, most: int) -> list[int]:
        """Relatives that are neither chosen nor refused, the largest scores first."""
        leaning = self.changes.parents / self.changes.unit * self.fit.score
        t = leaning.sum(axis=1) / np.sqrt((leaning**2).sum(axis=1) + 1e-300)
        t[[*self.chosen, *self.refused]] = 0.0
        return [int(i) for i in np.argsort(-np.abs(t))[:most] if abs(t[i]) > least]

    def exchange(self, *, polished: bool = False) -> None:
        """Put near relatives in the place of parents where that is likelier.

        What was made from a parent, or what it was made from, stands in for it: then nothing that
        is left leans to the parent, and nothing is won by adding it. Where the fit is `polished`,
        so is what may take its place.
        """
        alike = self._alike
        for _ in range(_N_EXCHANGES):
            outside = np.ones(len(alike), bool)
            outside[self.chosen] = False
            moves = [
                [new if i == old else i for i in self.chosen]
                for old in self.chosen
                for new in map(int, np.argsort(-alike[old] * outside)[:_N_TRIED])
                if outside[new] and alike[old, new] > _ALIKE
            ]
            fits = [(self.fitted(which, self.form), which) for which in moves]
            fit, which = max(fits, key=lambda one: one[0].log_likelihood, default=(self.fit, []))
            if which and polished:
                fit = self._polished(which, self.form, fit)
            if not which or self._lost(fit) > -_BETTER:
                return
            self.chosen, self.fit = which, fit

    @cached_property
    def _alike(self) -> F64:
        """Sizes of the cosines between the changes of the relatives."""
        steps = self.changes.parents / self.changes.unit
        lengths = np.linalg.norm(steps, axis=1)
        return np.asarray(np.abs(steps @ steps.T) / np.maximum(np.outer(lengths, lengths), 1e-300))

    def shrink(self) -> None:
        """Take out parents that the likelihood does not miss, the least missed first.

        So are those that it misses and that have next to no weight: they stand for what the form
        lacks.
        """
        while len(self.chosen) > 1:
            fits = [
                (self.fitted([j for j in self.chosen if j != i], self.form), i) for i in self.chosen
            ]
            fit, i = max(fits, key=lambda one: one[0].log_likelihood)
            smallest = int(np.argmin(np.abs(self.mean)))
            if abs(self.mean[smallest]) < _NEGLIGIBLE * np.abs(self.mean).max():
                fit, i = fits[smallest]
            elif self._lost(fit) > WORTH:
                return
            self.chosen.remove(i)
            self.fit = fit

    def _lost(self, fit: MaskFit) -> float:
        return (self.fit.log_likelihood - fit.log_likelihood) * len(self.changes.child)
