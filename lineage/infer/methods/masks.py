"""Merges that keep a parent's change in some words and drop it in others.

TIES trims small changes (Yadav et al. 2023), DARE drops at random (Yu et al. 2024), DELLA at random
but small ones more often (Deep et al. 2024), breadcrumbs both tails (Davari & Belilovsky 2024). All
are one model with a hidden mask. A word of the child is

    ``C = round(B + Σ_i m_i a_i δ_i)``,  ``P(m_i = 1) = q_i(rank of |δ_i|)``,

with ``δ_i`` the change of parent i from the base B. With k parents a word has 2^k possible values,
so coefficients ``a`` and keep curves ``q`` are found by expectation and maximisation, and every
word's mask is told as far as the grid of the number type allows. Three rules combine what the mask
leaves: the plain sum; the sum of those that agree with the elected sign; and the mean of these.
The shape of the keep curve names the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.weights.encodings import round_to

__all__ = ["Changes", "MaskFit", "Rule", "changes_from", "fit_masks"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

N_BINS = 20
_MANTISSA_BITS = {"BF16": 8, "F16": 11, "F32": 24}
_MAX_WORDS = 20_000
_N_GROUPS = 8
_LOOSENESS = (0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03)
"""Relative error granted to a prediction, round by round: first guesses are rough."""
_N_LAST = 12
_PATIENCE, _STANDSTILL = 10, 0.5
"""After how many rounds at most how much log-likelihood, of all words, is won at a standstill."""
_N_ROUGH = 4
"""Rounds that are for first guesses only."""
_SETTLED = 1e-3
"""A step of so many standard errors, or so much less noise, that changes nothing any more."""
_STRAY = 0.01
_FIRST_NOISE = 0.1
_MEAN_SIZE = 2 * float(np.log(2))
"""Mean size of a logistic variable of scale 1."""
_LEAST_SHARE = 1e-3
_CONDITION = 1e-10
_N_REWEIGHTED = 4
_ENTRIES_AT_ONCE = 1 << 14
"""Words times outcomes that are worked on together: what a second-level cache holds."""


class Rule(StrEnum):
    """How the changes that the masks leave are combined."""

    SUM = "sum"
    ELECTED = "elected"
    MEAN = "mean"


@dataclass(frozen=True)
class Changes:
    """Changes of a child and of possible parents from one base, word by word.

    Attributes
    ----------
    child
        ``C − B``, words.
    parents
        ``X − B`` as the merge's number type has it, parents × words.
    place
        Rank of each ``|δ|`` in its tensor, as a share of the tensor: parents × words.
    row_place
        The same within its row.
    unit
        Spacing of the child's number type at the child's word.
    group
        Which run of layers a word is in; weights may differ from one to the next.
    tensor
        Number of the word's tensor in the pool.
    """

    child: F64
    parents: F64
    place: F64
    row_place: F64
    unit: F64
    group: I64
    tensor: I64

    def taken(self, which: NDArray[np.bool_] | I64) -> Changes:
        """The words that `which` selects."""
        return Changes(
            self.child[which],
            self.parents[:, which],
            self.place[:, which],
            self.row_place[:, which],
            self.unit[which],
            self.group[which],
            self.tensor[which],
        )

    def of(self, which: Sequence[int]) -> Changes:
        """Some of the parents only."""
        some = list(which)
        return replace(
            self,
            parents=self.parents[some],
            place=self.place[some],
            row_place=self.row_place[some],
        )

    def least_squares(self) -> F64:
        """Shares of the parents' changes that explain the child's best, all masks neglected.

        Words are weighed by rounding (at least the usual rounding of their tensor) and by what a
        mask may have dropped of them, which depends on the answer: a few rounds.
        """
        usual = np.zeros(int(self.tensor.max(initial=0)) + 1)
        for t in np.unique(self.tensor):
            usual[t] = np.median(self.unit[self.tensor == t])
        rounding: F64 = np.maximum(self.unit, usual[self.tensor])
        spread: F64 = rounding
        shares: F64 = np.zeros(len(self.parents))
        for _ in range(_N_REWEIGHTED):
            solved = np.linalg.lstsq(
                (self.parents / spread).T, self.child / spread, rcond=_CONDITION
            )[0]
            shares = np.asarray(solved, dtype=np.float64)
            dropped = ((shares[:, None] * self.parents) ** 2).sum(axis=0) / 2
            spread = np.sqrt(rounding**2 + dropped)
        return shares


@dataclass(frozen=True)
class MaskFit:
    """Coefficients and keep curves of a hidden-mask model.

    Attributes
    ----------
    coefficients
        Of a kept change: groups × parents. Under :attr:`Rule.MEAN` relative weights, adding to 1.
    curves
        Share kept by rank of the change in its tensor: parents × bins.
    log_likelihood
        Mean over words, natural logarithm of the probability of the stored word.
    explained
        Share of the words that are likelier under the model than as strays.
    kept
        Posterior probability that a parent's change was kept: parents × words.
    score
        Derivative of each word's log-likelihood by what is predicted, times the word's spacing.
    noise
        What masks do not explain: logistic scale, in mean changes of the child.
    errors
        Standard errors of the coefficients, from the curvature of the likelihood: groups × parents.
    """

    rule: Rule
    rescaled: bool
    coefficients: F64
    curves: F64
    log_likelihood: float
    explained: float
    kept: F64
    score: F64
    noise: float
    errors: F64


def changes_from(
    pool: Pool,
    child: str,
    base: str,
    parents: Sequence[str],
    dtype: str,
    n_words: int = _MAX_WORDS,
    seed: int = 0,
    *,
    ranked: bool = True,
) -> Changes:
    """Collect words of the pool's matrices, of its vectors where there are no matrices.

    Parameters
    ----------
    dtype
        Number type of the merge: parents and base are loaded in it, and changes rounded to it.
    n_words
        About so many are drawn at random, from each tensor in proportion.
    ranked
        Without, `place` and `row_place` are zeros: only masks ask for them.
    """
    rng = np.random.default_rng(seed)
    c, b = pool.ids.index(child), pool.ids.index(base)
    p = [pool.ids.index(name) for name in parents]
    matrices = [t for t, values in enumerate(pool.values) if min(values.shape[1:]) > 1]
    matrices = matrices or list(range(len(pool.values)))
    layers = max((pool.keys[t].layer for t in matrices), default=0) + 1
    total = sum(pool.values[t][0].size for t in matrices)
    parts: list[Changes] = []
    for t in matrices:
        values = pool.values[t]
        origin = round_to(dtype, values[b])
        delta = np.stack([round_to(dtype, round_to(dtype, values[i]) - origin) for i in p])
        n_all = origin.size
        size = np.abs(delta)
        some = np.arange(n_all)
        wanted = int(np.ceil(n_words * n_all / total))
        if wanted < n_all:
            some = np.sort(rng.choice(n_all, wanted, replace=False))
        target = values[c].ravel()[some]
        unranked = np.zeros((len(p), len(some)))
        parts.append(
            Changes(
                target.astype(np.float64) - origin.ravel()[some],
                delta.reshape(len(p), -1)[:, some].astype(np.float64),
                np.stack([_rank_shares(one, some) for one in size]) if ranked else unranked,
                np.stack([_rank_shares_in_rows(one, some) for one in size]) if ranked else unranked,
                spacing(np.maximum(np.abs(target), np.abs(origin.ravel()[some])), dtype),
                np.full(
                    len(some), max(pool.keys[t].layer, 0) * min(layers, _N_GROUPS) // max(layers, 1)
                ),
                np.full(len(some), t),
            )
        )
    return Changes(
        *(
            np.concatenate([getattr(part, name) for part in parts], axis=-1)
            for name in Changes.__dataclass_fields__
        )
    )


def _rank_shares(size: NDArray[np.float32], some: I64) -> F64:
    """Rank of some values among all, as a share of their number; equal ones share the mean rank."""
    ordered, asked = np.sort(size, axis=None), size.ravel()[some]
    below = np.searchsorted(ordered, asked, "left")
    not_above = np.searchsorted(ordered, asked, "right")
    return np.asarray((below + not_above + 1) / (2 * size.size))


def _rank_shares_in_rows(size: NDArray[np.float32], some: I64) -> F64:
    """The same of each value in its row of a matrix."""
    n = size.shape[1]
    ranks = np.empty(len(some))
    at_once = max(1, _ENTRIES_AT_ONCE // n)
    for first in range(0, len(some), at_once):
        words = some[first : first + at_once]
        row, asked = size[words // n], size.ravel()[words, None]
        ranks[first : first + at_once] = (row < asked).sum(axis=1) + (row <= asked).sum(axis=1)
    return np.asarray((ranks + 1) / (2 * n))


def spacing(values: NDArray[np.float32], dtype: str) -> F64:
    """Distance between neighbouring numbers of `dtype` at each value."""
    bits = _MANTISSA_BITS.get(dtype, 24)
    _, exponent = np.frexp(values.astype(np.float64))
    return np.asarray(np.ldexp(1.0, np.maximum(exponent, -13 if dtype == "F16" else -125) - bits))


def fit_masks(
    changes: Changes,
    rule: Rule,
    rescaled: bool,
    start: F64,
    *,
    masked: bool = True,
    by_group: bool = False,
    n_last: int = _N_LAST,
    curves: F64 | None = None,
) -> MaskFit:
    """Coefficients and keep curves that make the child's words likeliest.

    Parameters
    ----------
    rescaled
        Whether what is kept is scaled up by what was lost, as DARE and DELLA do. It only matters
        under :attr:`Rule.MEAN`, whose size would otherwise be fixed.
    start
        First guess of the coefficients, one a parent, or groups × parents.
    masked
        Without, every change is kept: a weighted sum of changes, up to rounding.
    by_group
        Whether coefficients may differ between runs of layers.
    n_last
        Rounds with the tightest tolerance, at most: it ends where hardly anything is won by more.
    curves
        Keep curves to begin with, where they are nearly known already.
    """
    group = changes.group if by_group else np.zeros_like(changes.group)
    a = np.array(np.broadcast_to(start, (int(group.max(initial=0)) + 1, len(changes.parents))))
    fit = _Fit(changes, rule, rescaled, group, a, masked)
    if curves is not None:
        fit.curves = curves.copy()
    rounds = _LOOSENESS if masked and curves is None else _LOOSENESS[_N_ROUGH:]
    for looseness in rounds:
        fit.step(looseness)
    was = -np.inf
    for done in range(1, n_last + 1):
        # A sum without masks is soon found; masks creep, so that small steps say nothing there.
        if fit.step(_LOOSENESS[-1]) < _SETTLED and not masked:
            break
        if done % _PATIENCE == 0:
            now = float(fit.log_likelihood.sum())
            if now - was < _STANDSTILL:
                break
            was = now
    return MaskFit(
        rule,
        rescaled,
        fit.a.copy(),
        fit.curves.copy(),
        float(np.mean(fit.log_likelihood)),
        float(np.mean(fit.is_explained)),
        fit.kept,
        fit.score,
        fit.noise,
        fit.errors,
    )


class _Fit:
    """The state of one fit; :meth:`step` is one round of expectation and maximisation.

    Arrays run over words last: a word has few outcomes, and what is done to all words at once is
    done in long runs.
    """

    def __init__(
        self, changes: Changes, rule: Rule, rescaled: bool, group: I64, start: F64, masked: bool
    ) -> None:
        self.changes, self.rule, self.rescaled, self.group = changes, rule, rescaled, group
        self.a = start.astype(np.float64)
        k = start.shape[1]
        self.outcomes = np.array(list(product((0.0, 1.0) if masked else (1.0,), repeat=k)))
        self.pairs = _outer(self.outcomes.T)
        self.in_group = (group[:, None] == np.arange(len(start))).astype(np.float64)
        self.bins = np.minimum((changes.place * N_BINS).astype(int), N_BINS - 1)
        self.curves = np.full((k, N_BINS), 0.6)
        self.touched = changes.parents != 0
        self.typical = _by_tensor(np.abs(changes.child), changes.tensor)
        self.noise = _FIRST_NOISE
        self.errors = np.full_like(self.a, np.inf)
        n = len(changes.child)
        self.kept = np.zeros((k, n))
        self.log_likelihood, self.certain, self.score = np.zeros(n), np.zeros(n), np.zeros(n)
        self.is_explained = np.zeros(n, dtype=bool)

    def scale(self) -> F64:
        """By how much kept changes are scaled up under the mean rule, per parent."""
        if not (self.rescaled and self.rule is Rule.MEAN):
            return np.ones(self.a.shape[1])
        size = np.abs(self.changes.parents)
        left = (size * np.take_along_axis(self.curves, self.bins, axis=1)).sum(axis=1)
        return np.asarray(size.sum(axis=1) / np.maximum(left, 0.02 * size.sum(axis=1) + 1e-300))

    def step(self, looseness: float) -> float:
        """Probabilities of all outcomes of every word, then coefficients and curves from these.

        Words are taken some at a time, so that what is computed of them stays in the cache.

        Returns
        -------
        float
            The largest move of a coefficient in standard errors, or of the noise as a share of it.
        """
        n, (n_groups, k) = len(self.changes.child), self.a.shape
        scale, at_once = self.scale(), max(1, _ENTRIES_AT_ONCE // len(self.outcomes))
        gradient, square = np.zeros((n_groups, k)), np.zeros((n_groups, k * k))
        beyond = 0.0
        for first in range(0, n, at_once):
            some = slice(first, min(first + at_once, n))
            beyond += self._expect(some, looseness, scale, gradient, square)
        self._update_curves()
        was = self.noise, self.a.copy()
        self.noise = float(beyond / max(self.certain.sum(), 1e-9)) / _MEAN_SIZE
        self._update_coefficients(gradient, square.reshape(n_groups, k, k))
        moved = np.abs(self.a - was[1]) / np.maximum(self.errors, 1e-300)
        return max(float(moved.max(initial=0.0)), abs(1 - self.noise / max(was[0], 1e-300)))

    def _expect(
        self, some: slice, looseness: float, scale: F64, gradient: F64, square: F64
    ) -> float:
        """Set what is known of some words, add to the likelihood's derivatives; what noise left.

        The last is the expected distance of words from their predicted cells, in mean changes.
        """
        s = self.outcomes
        child, unit, typical = self.changes.child[some], self.changes.unit[some], self.typical[some]
        features = self.changes.parents[:, some] * scale[:, None]
        a = self.a[self.group[some]].T
        predicted, positive, share = self._predicted(a, a * features)
        # The unrounded value lies in the word's cell: logistic errors make that a closed form.
        width = np.abs(predicted)
        width *= looseness / 4
        width += (0.02 + looseness / 2) * unit + self.noise * typical
        off = child - predicted
        below, above, spread, log_p = _logistic_cell((off - unit / 2) / width, unit / width)
        keep = np.take_along_axis(self.curves, self.bins[:, some], axis=1)
        keep = np.clip(keep, 1e-4, 1 - 1e-4)
        dropped = np.log1p(-keep)
        log_p += s @ (np.log(keep) - dropped)
        log_p += dropped.sum(axis=0)
        highest = log_p.max(axis=0)
        log_p -= highest
        p = np.exp(log_p, out=log_p)
        inside = p.sum(axis=0)
        log_model = highest + np.log(inside) + np.log1p(-_STRAY)
        log_stray = np.log(_STRAY) + np.log(np.minimum(1.0, unit / (2 * typical)))
        log_stray -= np.abs(child) / typical
        log_likelihood = np.logaddexp(log_model, log_stray)
        p *= np.exp(log_model - log_likelihood) / inside
        self.log_likelihood[some] = log_likelihood
        self.is_explained[some] = log_model > log_stray
        self.certain[some] = p.sum(axis=0)
        self.kept[:, some] = s.T @ p
        slope, curvature = below, spread
        slope -= above
        slope *= p
        slope /= width
        curvature *= p
        curvature /= width**2
        self.score[some] = slope.sum(axis=0) * unit
        if share is not None:
            slope, curvature = slope / share, curvature / share**2
        in_group = self.in_group[some]
        first, second = self._derivatives(slope, curvature, predicted, positive, a, features)
        gradient += (first @ in_group).T
        square += (second @ in_group).T
        beyond = np.abs(off, out=off)
        beyond -= unit / 2
        np.maximum(beyond, 0.0, out=beyond)
        return float(((p * beyond).sum(axis=0) / typical).sum())

    def _predicted(self, a: F64, values: F64) -> tuple[F64, NDArray[np.bool_] | None, F64 | None]:
        """Changes that all outcomes give; which were elected positive; the shares of a mean."""
        s = self.outcomes
        if self.rule is Rule.SUM:
            return s @ values, None, None
        up, down = s @ np.maximum(values, 0), s @ np.minimum(values, 0)
        positive = up + down >= 0
        predicted = np.where(positive, up, down)
        if self.rule is Rule.ELECTED:
            return predicted, positive, None
        share = np.where(positive, s @ (a * (values > 0)), s @ (a * (values < 0)))
        share[share < _LEAST_SHARE] = 1.0
        return predicted / share, positive, share

    def _update_curves(self) -> None:
        for i, used in enumerate(self.touched):
            bins = self.bins[i, used]
            kept = np.bincount(bins, self.kept[i, used], N_BINS)
            seen = np.bincount(bins, self.certain[used], N_BINS)
            mean = kept.sum() / max(seen.sum(), 1e-9)
            self.curves[i] = (kept + 2 * mean) / (seen + 2)

    def _derivatives(
        self,
        slope: F64,
        curvature: F64,
        predicted: F64,
        positive: NDArray[np.bool_] | None,
        a: F64,
        features: F64,
    ) -> tuple[F64, F64]:
        """Slope and curvature of each word's log-likelihood: parents × words, pairs × words."""
        s, pairs, squares = self.outcomes.T, self.pairs, _outer(features)
        if positive is None:
            return features * (s @ slope), squares * (pairs @ curvature)
        values = a * features
        gradient, square = np.zeros_like(features), np.zeros_like(squares)
        together = (features[:, None] + features).reshape(squares.shape)
        for chosen, agrees in ((positive, values > 0), (~positive, values < 0)):
            agree = agrees.astype(np.float64)
            both = _outer(agree)
            first, second = slope * chosen, curvature * chosen
            gradient += agree * features * (s @ first)
            square += both * squares * (pairs @ second)
            if self.rule is Rule.MEAN:
                gradient -= agree * (s @ (first * predicted))
                second *= predicted
                square -= both * together * (pairs @ second)
                second *= predicted
                square += both * (pairs @ second)
        return gradient, square

    def _update_coefficients(self, gradient: F64, square: F64) -> None:
        """One Newton step a group; the likelihood is concave in what is predicted."""
        own = np.einsum("gii->gi", square)
        trace = own.sum(axis=1, keepdims=True)
        own += 1e-6 * own + 1e-12 * np.where(trace > 0, trace, 1.0)
        inverse = np.linalg.pinv(square, rcond=_CONDITION)
        self.errors = np.sqrt(np.maximum(np.einsum("gii->gi", inverse), 0.0))
        step = np.einsum("gij,gj->gi", inverse, gradient)
        reach = np.maximum(0.3 * np.abs(self.a), 0.05)
        self.a += np.clip(step, -reach, reach)
        if self.rule is Rule.MEAN:
            self.a = np.maximum(self.a, _LEAST_SHARE)
            self.a /= self.a.sum(axis=1, keepdims=True)


def _logistic_cell(low: F64, size: F64) -> tuple[F64, F64, F64, F64]:
    """Chances of a logistic number to fall short of a cell and beyond it, and the log of inside.

    `low` is the cell's lower end and `size` its size, in scales of the logistic. The chance to fall
    inside, ``σ(high) − σ(low)``, is ``σ(−low) σ(high) (1 − exp(−size))``, which stays exact where
    the cell is narrow or far away. The third is the curvature of its logarithm, ``below (1 − below)
    + above (1 − above)``. This is where fits spend their time: few exponentials, one logarithm.
    """
    high = low + size
    short, long = np.exp(-np.abs(low)), np.exp(-np.abs(high))
    near, far = 1 / (1 + short), 1 / (1 + long)
    log_inside = np.log(-np.expm1(-size) * near * far)
    log_inside -= np.maximum(low, 0)
    log_inside += np.minimum(high, 0)
    short *= near
    long *= far
    spread = short * near + long * far
    return np.where(low >= 0, near, short), np.where(high <= 0, far, long), spread, log_inside


def _by_tensor(sizes: F64, tensor: I64) -> F64:
    """The mean of each word's tensor; 1 where it is 0."""
    total = np.bincount(tensor, sizes)
    mean = total / np.maximum(np.bincount(tensor), 1)
    return np.asarray(np.where(mean > 0, mean, 1.0)[tensor])


def _outer(columns: F64) -> F64:
    """Products of all pairs of rows: n × words becomes n² × words."""
    return np.asarray((columns[:, None] * columns).reshape(-1, columns.shape[1]))
