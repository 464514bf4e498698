"""What chance alone would do: copying nulls for selection, and the sizes of families by copying.

A model that is copied much is seen much and copied more, so that numbers of children differ far
beyond Poisson without any merit, and the models of one month have all had the same time. The null
of every figure of selection here is therefore the observed Hub grown anew: the same births on the
same days with the same numbers of parents and the same traits, but with parents chosen by the law
of attention of :mod:`lineage.evolution.simulate`, blind to traits. Its parameters come from the
observed pedigree by maximum likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.special import ndtri
from scipy.stats import chi2

from lineage.evolution.clusters import untrusted
from lineage.evolution.selection import MIN_MODELS, children_within
from lineage.evolution.simulate import MAX_HALVINGS, Attachment, copy_parents
from lineage.graph import LineageGraph
from lineage.model import Estimate

__all__ = [
    "AttachmentFit",
    "CopyingNull",
    "NullFigure",
    "ProgenyFit",
    "copying_null",
    "fit_attachment",
    "fit_progeny",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_Attention = tuple[Floats, Floats, Floats, Floats]
_Bounds = tuple[tuple[float, float], tuple[float, float]]

MIN_CHOICES = 30
"""Choices of a parent below which no law of attention is fitted."""

MIN_FAMILIES = 10
"""Families below which no distribution of sizes is fitted."""

_ROUNDING = 1e-12
_MODELS_AT_ONCE = 200_000  # of the replicates grown together
_FAR = 20.0  # longest half-life tried, in spans of observation
_RANGE = (0.0, 1e4)  # of α and ε
_START = np.array([0.5, 0.1])
_LAW = "law of attention, maximum likelihood over choices of a parent; profile-likelihood interval"
_SECTIONS = 7  # half-lives at which the intervals of α and ε are sought
_HEAD = 20_000  # sizes summed one by one; beyond, the sum is an integral
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)


@dataclass(frozen=True, slots=True)
class AttachmentFit:
    """Law of attention fitted to a pedigree.

    Attributes
    ----------
    attachment
        The point estimates.
    strength, half_life_days, spontaneous
        α, h and ε with their intervals, which may reach 0 or ∞. Where no ageing was found h is ∞
        and ε NaN, with the reason in `method`; h is NaN where the shortest one tried (1/720 of the
        span) fits best.
    log_likelihood, uniform_log_likelihood
        Of all choices: as fitted, and were every earlier model as likely as any other.
    n_choices
        Edges whose parent was born before its child, both on known days.
    """

    attachment: Attachment
    strength: Estimate
    half_life_days: Estimate
    spontaneous: Estimate
    log_likelihood: float
    uniform_log_likelihood: float
    n_choices: int


@dataclass(frozen=True, slots=True)
class NullFigure:
    """An observed figure beside its distribution under the null.

    `low` and `high` are quantiles of the null at `level` (not an interval of the figure);
    `p_value` is (1 + as extreme)/(1 + replicates).
    """

    value: float
    expected: float
    low: float
    high: float
    level: float
    p_value: float
    n: int
    n_replicates: int
    method: str


@dataclass(frozen=True, slots=True)
class CopyingNull:
    """Figures of selection beside what copying without regard to traits makes of them.

    Attributes
    ----------
    differential, intensity, gradient
        S = Cov(w, z), i = S/σ_z, and the gradient β on standardised traits, by name of the trait;
        two-sided p-values.
    opportunity
        I = Var(W)/W̄²; its `expected` is the opportunity that chance gives. Upper p-value.
    poisson_opportunity
        1/W̄, what chance would give if all models were equally attractive all the time.
    """

    differential: Mapping[str, NullFigure]
    intensity: Mapping[str, NullFigure]
    gradient: Mapping[str, NullFigure]
    opportunity: NullFigure
    poisson_opportunity: float


@dataclass(frozen=True, slots=True)
class ProgenyFit:
    """Power law with exponential cut-off fitted to sizes of families.

    `exponent` is a (its `p_value` tests 3/2), `cutoff` is c, in models; both as in
    ``P(n) ∝ n^{−a} exp(−n/c)``.
    """

    exponent: Estimate
    cutoff: Estimate
    log_likelihood: float


# -- the law of attention --------------------------------------------------------------------------


def fit_attachment(graph: LineageGraph, born_day: Floats, *, level: float = 0.95) -> AttachmentFit:
    """Maximum likelihood of α, h and ε from who chose whom, and when.

    The likelihood is the product over edges of ``λ_parent(t) / Σ_k λ_k(t)`` with λ as in
    :mod:`lineage.evolution.simulate` at v = 1, given the days of birth. The parents of a merge are
    taken as separate choices, which errs by the share of attention that its other parents have.
    Intervals are those of the profile likelihood (½χ² with 1 df below the maximum): a normal one
    fails near α = 0 or ε = 0 and along the ridge of h and α. Some thousand evaluations are needed
    for them, each in proportion to the number of edges: a second for 5,000, minutes for a million.

    What can be told: only ratios of attention, so a newborn's is 1. Without ageing ε cannot be
    told from 1 and is set to 0; that is assumed unless a likelihood-ratio test of h and ε together
    (χ² with 2 df, at `level`) shows ageing. Lasting differences of merit between models also make
    the rich richer: α takes them up, and the null then allows chance too much rather than too
    little.

    Parameters
    ----------
    graph
        The pedigree.
    born_day : (n,)
        Births in days, NaN when unknown. Such models neither choose nor are chosen; edges whose
        child was born before its parent are left out.

    Raises
    ------
    ValueError
        With fewer than 30 usable edges, or when all births fall on one day.
    """
    choices = _Choices(graph, born_day)
    if choices.n < MIN_CHOICES:
        raise ValueError(f"{choices.n} dated choices of a parent, {MIN_CHOICES} needed")
    if choices.span <= 0:
        raise ValueError("all births fall on one day: births of different days are needed")
    profile = _Profile(choices, level)
    half_life = profile.half_life()
    strength, spontaneous = profile.shares(half_life)
    attachment = Attachment(strength.value, half_life.value, spontaneous.value)
    if math.isinf(half_life.value):
        reason = "without ageing it cannot be told from the attention of the newborn"
        spontaneous = untrusted(choices.n, level, _LAW, reason, 0)
    if half_life.value < 1.01 * math.exp(profile.shortest):
        reason = f"the likelihood rises towards half-lives below {half_life.value:.3g} d"
        half_life = untrusted(choices.n, level, _LAW, reason, 0)
    uniform = -float(np.log(choices.child).sum())
    return AttachmentFit(
        attachment, strength, half_life, spontaneous, -profile.minimum, uniform, choices.n
    )


class _Choices:
    """Dated choices of a parent, prepared so that the likelihood costs little to evaluate."""

    def __init__(self, graph: LineageGraph, born_day: Floats) -> None:
        order, rank = _order(graph, born_day)
        day = born_day[order]
        child, parent = rank[graph.edge_child], rank[graph.parent_index]
        usable = (child >= 0) & (parent >= 0) & (parent < child)
        child, parent = child[usable], parent[usable]
        sort = np.lexsort((child, parent))
        self.child, self.parent = child[sort], parent[sort]
        self.n = int(self.child.size)
        self.day = day
        self.span = float(day[-1] - day[0]) if day.size else 0.0
        self.n_chosen = np.bincount(self.child, minlength=day.size)
        place = np.arange(self.n)
        opens = np.concatenate(([True], np.diff(self.parent) > 0))[: self.n]
        self.elder = place - place[opens][np.cumsum(opens) - 1]  # siblings born before

    def attention(self, log_h: float) -> _Attention:
        """Fading attention of the chosen from itself and its children, and both of all models."""
        rate = math.log(2) * math.exp(-log_h)
        child_day = self.day[self.child]
        own = np.exp(-rate * (child_day - self.day[self.parent]))
        fresh = np.exp(rate * (self.day - self.day[-1]))
        all_own = np.concatenate(([0.0], np.cumsum(fresh)))[self.child] / fresh[self.child]
        drawn = np.concatenate(([0.0], np.cumsum(fresh * self.n_chosen)))
        all_children = drawn[self.child] / fresh[self.child]
        return own, self._of_elder(rate, child_day), all_own, all_children

    def _of_elder(self, rate: float, child_day: Floats) -> Floats:
        """Faded number of elder siblings of each choice.

        With ``s_i = Σ_{j ≤ i} exp(−rate (t_i − t_j))`` within a parent, the sum over the last
        2w siblings is that over the last w and, faded, that of the sibling w places before.
        """
        total, width = np.ones(self.n), 1
        while self.n and width <= self.elder.max():
            later = np.flatnonzero(self.elder >= width)
            fade = np.exp(-rate * (child_day[later] - child_day[later - width]))
            total[later] += fade * total[later - width]
            width *= 2
        return total - 1

    def misfit(self, x: Floats, attention: _Attention) -> tuple[float, Floats]:
        """Minus the mean log-likelihood of a choice at α and ε, and its slopes."""
        own, children, all_own, all_children = attention
        a, e = x
        chosen = e + own + a * children
        everyone = e * self.child + all_own + a * all_children
        value = float(np.log(everyone).mean() - np.log(chosen).mean())
        by_a = (all_children / everyone - children / chosen).mean()
        by_e = (self.child / everyone - 1 / chosen).mean()
        return value, np.array([by_a, by_e])

    def least(self, attention: _Attention, start: Floats, bounds: _Bounds) -> tuple[float, Floats]:
        """Least of minus the log-likelihood, and the α and ε where it is.

        Not in their logarithms: where these are very negative the likelihood is flat.
        """
        found = minimize(
            self.misfit, start, args=(attention,), jac=True, method="L-BFGS-B", bounds=bounds,
            options={"ftol": 1e-13, "gtol": 1e-8},
        )  # fmt: skip
        return self.n * float(found.fun), found.x


class _Profile:
    """Maximum and profile-likelihood intervals of the law of attention."""

    def __init__(self, choices: _Choices, level: float) -> None:
        self.choices, self.level = choices, level
        self.shortest = math.log(choices.span / (0.9 * MAX_HALVINGS))
        self.longest = math.log(_FAR * choices.span)
        self.bounds: _Bounds = (_RANGE, _RANGE)
        # Coarse first: the likelihood need not have a single maximum in h.
        grid = np.linspace(self.shortest, self.longest, 15)
        best = int(np.argmin([self._at(float(x))[1] for x in grid]))
        found = minimize_scalar(
            lambda x: self._at(float(x))[1],
            bounds=(grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]),
            method="bounded",
            options={"xatol": 1e-4},
        )
        self.ageing_log_h = self.log_h = float(found.x)
        _, self.minimum, self.x = self._at(self.log_h)
        self.reach = float(chi2.ppf(level, 1)) / 2
        self.ageing_limit = self.minimum + self.reach
        _, without, x = self._at(math.inf, (_RANGE, (_RANGE[0], _RANGE[0])))
        # Without ageing two parameters go at once; only a likelihood ratio shows that they count.
        if 2 * (without - self.minimum) < chi2.ppf(level, 2):
            self.bounds = (_RANGE, (_RANGE[0], _RANGE[0]))
            self.log_h, self.minimum, self.x = math.inf, without, x

    def _at(self, log_h: float, bounds: _Bounds | None = None) -> tuple[_Attention, float, Floats]:
        attention = self.choices.attention(log_h)
        misfit, x = self.choices.least(attention, _START, bounds or self.bounds)
        return attention, misfit, x

    def half_life(self) -> Estimate:
        """Interval of h; its upper end is ∞ where the longest half-life cannot be excluded."""
        free: _Bounds = (_RANGE, _RANGE)

        def excess(log_h: float) -> float:
            return self._at(log_h, free)[1] - self.ageing_limit

        value = math.exp(self.log_h)
        low = math.exp(_crossing(excess, self.ageing_log_h, self.shortest))
        if math.isinf(value) or excess(self.longest) <= 0:
            high = math.inf
        else:
            high = math.exp(_crossing(excess, self.ageing_log_h, self.longest))
        return Estimate(value, low, high, self.level, self.choices.n, _LAW)

    def shares(self, half_life: Estimate) -> tuple[Estimate, Estimate]:
        """α and ε; their intervals are the unions of those at all credible half-lives."""
        half_lives, limit = [self.log_h], self.minimum + self.reach
        if math.isfinite(self.log_h):
            low, high = math.log(half_life.low), min(math.log(half_life.high), self.longest)
            half_lives += np.linspace(low, high, _SECTIONS).tolist()
        ends: tuple[list[float], list[float]] = ([], [])
        for log_h in half_lives:
            attention, misfit, x = self._at(log_h)
            if misfit < limit:
                for parameter in (0, 1):
                    ends[parameter].extend(self._section(attention, x, parameter, limit))
        return self._estimate(0, ends[0]), self._estimate(1, ends[1])

    def _section(
        self, attention: _Attention, x: Floats, parameter: int, limit: float
    ) -> list[float]:
        """Where the profile of one parameter crosses the limit on either side."""
        nearest = x.copy()

        def excess(value: float) -> float:
            bounds = list(self.bounds)
            bounds[parameter] = (value, value)
            start = nearest.copy()
            start[parameter] = value
            misfit, nearest[:] = self.choices.least(attention, start, (bounds[0], bounds[1]))
            return misfit - limit

        return [_crossing(excess, float(x[parameter]), end) for end in self.bounds[parameter]]

    def _estimate(self, parameter: int, ends: list[float]) -> Estimate:
        value = float(self.x[parameter])
        return Estimate(value, min(ends), max(ends), self.level, self.choices.n, _LAW)


def _crossing(excess: Callable[[float], float], inside: float, end: float) -> float:
    """Where `excess` turns positive on the way to `end`; `end` if it does not."""
    step = math.copysign(0.05, end - inside)
    near = inside
    while True:
        far = near + step
        if (far - end) * step >= 0:
            if near == end or excess(end) <= 0:
                return end
            far = end
        if excess(far) > 0:
            return float(brentq(excess, near, far, xtol=1e-7, rtol=1e-4))
        near, step = far, 2 * step


def _order(graph: LineageGraph, born_day: Floats) -> tuple[Ints, Ints]:
    """Models of known birth in order of birth, parents first on one day; place of each, or −1."""
    order = np.lexsort((graph.generation, born_day))
    order = order[np.isfinite(born_day[order])]
    rank = np.full(born_day.size, -1)
    rank[order] = np.arange(order.size)
    return order, rank


# -- the copying null ------------------------------------------------------------------------------


def copying_null(
    graph: LineageGraph,
    born_day: Floats,
    traits: Mapping[str, Floats],
    attachment: Attachment,
    *,
    rng: np.random.Generator,
    until_day: float,
    window_days: float = 180.0,
    n_replicates: int = 999,
    level: float = 0.95,
) -> CopyingNull:
    """Figures of selection beside their distribution under trait-blind copying.

    Fitness is the number of children within `window_days`
    (:func:`lineage.evolution.selection.children_within`). Every replicate draws all parents anew
    on the observed days and in the observed numbers; traits stay with their models, so that a
    trend of the trait and the shorter or busier time of the young are part of the null.

    Parameters
    ----------
    graph, born_day
        The pedigree and births in days; models of unknown birth take no part.
    traits
        Name to values, shape (n,); a model without one of them takes no part in any figure, but
        can choose and be chosen.
    attachment
        The law of attention, as a rule from :func:`fit_attachment`. That it was fitted to the same
        pedigree is not accounted for.
    rng
        Source of the replicates.
    until_day
        Last day that was watched.

    Returns
    -------
    CopyingNull
        Figures are NaN with the reason in `method` where fewer than 3 models take part, nobody
        has children, or the traits do not vary or are not independent of one another.

    Raises
    ------
    ValueError
        Without replicates, or if no birth is known.
    """
    if n_replicates < 1:
        raise ValueError(f"at least one replicate is needed: {n_replicates}")
    order, rank = _order(graph, born_day)
    if not order.size:
        raise ValueError("no model has a known birth")
    child, parent = rank[graph.edge_child], rank[graph.parent_index]
    usable = (child >= 0) & (parent >= 0) & (parent < child)
    n_parents = np.bincount(child[usable], minlength=order.size)
    day = born_day[order]
    ids = tuple(graph.ids[i] for i in order)
    start = np.concatenate(([0], np.cumsum(n_parents)))
    weight = np.ones(int(start[-1]))

    def fitness(parents: Ints) -> Floats:
        grown = LineageGraph(ids, start, parents, weight)
        return children_within(grown, day, until_day, window_days).values

    observed = fitness(parent[usable][np.argsort(child[usable], kind="stable")])
    z = np.array([values[order] for values in traits.values()]).reshape(len(traits), order.size)
    takes_part = np.isfinite(observed) & np.isfinite(z).all(axis=0)
    figures = _Figures(z[:, takes_part])
    names = ["S", "i", "β"]
    if figures.problem or not observed[takes_part].sum() > 0:
        reason = figures.problem or "no model has any children in the window"
        return _untested(tuple(traits), reason, int(takes_part.sum()), level)
    value = figures(observed[takes_part])
    at_once = max(1, _MODELS_AT_ONCE // order.size)
    rows = []
    for first in range(0, n_replicates, at_once):
        n_copies = min(at_once, n_replicates - first)
        grown = copy_parents(day, n_parents, attachment, rng, n_copies=n_copies)
        rows += [figures(fitness(one)[takes_part]) for one in grown.reshape(n_copies, -1)]
    null = np.array(rows)
    law = (
        f"copying null: parents redrawn blind to traits, α {attachment.strength:.3g}, "
        f"h {attachment.half_life_days:.4g} d, ε {attachment.spontaneous:.3g}"
    )
    n = int(takes_part.sum())
    found = [
        _null_figure(float(value[j]), null[:, j], n, level, law, upper=j == value.size - 1)
        for j in range(value.size)
    ]
    by_figure = [
        dict(zip(traits, found[k * len(traits) : (k + 1) * len(traits)], strict=True))
        for k in range(len(names))
    ]
    poisson = float(1 / observed[takes_part].mean())
    return CopyingNull(by_figure[0], by_figure[1], by_figure[2], found[-1], poisson)


class _Figures:
    """S, i and β of every trait, then I, from fitness; all but I are linear in w = W/W̄."""

    def __init__(self, z: Floats) -> None:
        n_traits, n = z.shape
        self.problem = ""
        if n < MIN_MODELS:
            self.problem = f"{n} models with traits and fitness, {MIN_MODELS} needed"
            return
        centred = z - z.mean(axis=1, keepdims=True)
        spread = np.sqrt((centred**2).sum(axis=1) / (n - 1))
        if (spread <= _ROUNDING * np.abs(z).max(axis=1, initial=0)).any():
            self.problem = "a trait does not vary"
            return
        standard = centred / spread[:, None]
        correlation = standard @ standard.T / (n - 1)
        if n_traits and np.linalg.eigvalsh(correlation).min() <= 1e-10:
            self.problem = "the traits are not independent of one another"
            return
        solved = np.linalg.solve(correlation, standard)
        self.rows = np.concatenate([centred, standard, solved]) / (n - 1)

    def __call__(self, fitness: Floats) -> Floats:
        mean = fitness.mean()
        relative = fitness / mean if mean > 0 else np.full(fitness.size, np.nan)
        return np.append(self.rows @ relative, relative.var())


def _null_figure(
    value: float, null: Floats, n: int, level: float, method: str, *, upper: bool
) -> NullFigure:
    null = null[np.isfinite(null)]  # a replicate in which nobody has children has no figure
    scale = _ROUNDING * max(abs(value), float(np.abs(null).max(initial=0)))
    above = (1 + int((null >= value - scale).sum())) / (1 + null.size)
    below = (1 + int((null <= value + scale).sum())) / (1 + null.size)
    p_value = above if upper else min(1.0, 2 * min(above, below))
    if not null.size:
        return NullFigure(value, math.nan, math.nan, math.nan, level, math.nan, n, 0, method)
    low, high = np.quantile(null, [(1 - level) / 2, (1 + level) / 2])
    return NullFigure(
        value, float(null.mean()), float(low), float(high), level, p_value, n, null.size, method
    )


def _untested(names: tuple[str, ...], reason: str, n: int, level: float) -> CopyingNull:
    method = f"copying null; not estimated: {reason}"
    nan = math.nan
    empty = NullFigure(nan, nan, nan, nan, level, nan, n, 0, method)
    figures = dict.fromkeys(names, empty)
    return CopyingNull(figures, figures, figures, empty, nan)


# -- sizes of families -----------------------------------------------------------------------------


def fit_progeny(sizes: ArrayLike, *, smallest: int = 1, level: float = 0.95) -> ProgenyFit:
    """Fit ``P(n) ∝ n^{−a} exp(−n/c)``, n ≥ `smallest`, by discrete maximum likelihood.

    Where variants are copied at random the total progeny of a novelty (itself and all copies ever)
    is a power law of exponent 3/2 up to a cut-off set by the rate of novelty (O'Dwyer & Kandler
    2017, Phil Trans R Soc B 372:20160426). On a pedigree the progeny of a founder or of a mutation
    is the clade that bears it. Use clades old enough to be complete: recent ones are cut short,
    and a growing population is not the equilibrium of the theory. Only the most popular clades
    (a top list) mislead.

    The law is an exponential family in log n and n; intervals are normal, from its information,
    the cut-off's on the scale of 1/c (its upper end is ∞ where none can be shown). `p_value` of
    the exponent is the likelihood-ratio test of a = 3/2.

    Parameters
    ----------
    sizes : (n,)
        Whole sizes; those below `smallest` are left out.

    Returns
    -------
    ProgenyFit
        NaN with the reason in `method` with fewer than 10 families or all of one size; the
        cut-off is NaN where it lies beyond what the sizes can show.

    Raises
    ------
    ValueError
        If sizes are not whole, or `smallest` is below 1.
    """
    given = np.asarray(sizes)
    n = given.astype(np.int64)
    if (n != given).any() or smallest < 1:
        raise ValueError("sizes must be whole numbers, and the smallest at least 1")
    n = n[n >= smallest]
    method = f"power law with exponential cut-off, sizes from {smallest}, maximum likelihood"
    if n.size < MIN_FAMILIES or np.ptp(n) == 0:
        reason = (
            f"{n.size} families, {MIN_FAMILIES} needed"
            if n.size < MIN_FAMILIES
            else "all families are of one size"
        )
        nothing = untrusted(n.size, level, method, reason, n.size)
        return ProgenyFit(nothing, nothing, math.nan)
    law = _CutPowerLaw(smallest, float(np.log(n).mean()), float(n.mean()))
    a, log_c, misfit = law.fit(None)
    _, _, misfit_neutral = law.fit(1.5)
    ratio = max(0.0, 2 * n.size * (misfit_neutral - misfit))
    reach = float(ndtri((1 + level) / 2))
    information = n.size * law.covariance(a, log_c)
    endless = log_c > law.log_c_bounds[1] - 0.01
    if endless:
        cutoff = untrusted(n.size, level, method, "no cut-off within reach of the sizes", n.size)
        error = 1 / math.sqrt(information[0, 0])
    else:
        variance = np.linalg.inv(information)
        error = math.sqrt(variance[0, 0])
        b, reach_b = math.exp(-log_c), reach * math.sqrt(variance[1, 1])
        high = 1 / (b - reach_b) if b > reach_b else math.inf
        cutoff = Estimate(1 / b, 1 / (b + reach_b), high, level, n.size, method, n.size)
    exponent = Estimate(
        a, a - reach * error, a + reach * error, level, n.size,
        f"{method}; p-value of a = 3/2 by likelihood ratio", n.size, float(chi2.sf(ratio, 1)),
    )  # fmt: skip
    return ProgenyFit(exponent, cutoff, -n.size * misfit)


class _CutPowerLaw:
    """Mean misfit −log P of sizes of given mean logarithm and mean."""

    def __init__(self, smallest: int, mean_log: float, mean: float) -> None:
        self.smallest, self.mean_log, self.mean = smallest, mean_log, mean
        self.log_c_bounds = (math.log(0.05), math.log(1e7 * mean))

    def _terms(self, log_c: float) -> tuple[Floats, Floats]:
        """Sizes and their multiplicities: one by one, then Gauss nodes of an integral over log n.

        The sum beyond N is the integral from N + ½ (midpoint rule, error of order N^{−a−2}).
        """
        n = np.arange(self.smallest, self.smallest + _HEAD, dtype=float)
        low = math.log(n[-1] + 0.5)
        high = max(low + 1e-9, math.log(n[-1] + 45 * math.exp(log_c)))
        middle, half = (high + low) / 2, (high - low) / 2
        far = np.exp(middle + half * _NODES)
        return np.concatenate([n, far]), np.concatenate([np.ones(n.size), half * _WEIGHTS * far])

    def _chances(self, a: float, log_c: float) -> tuple[Floats, Floats, float]:
        n, times = self._terms(log_c)
        log_p = -a * np.log(n) - n * math.exp(-log_c)
        top = float(log_p.max())
        p = times * np.exp(log_p - top)
        total = float(p.sum())
        return n, p / total, top + math.log(total)

    def _misfit(self, x: Floats) -> tuple[float, Floats]:
        a, log_c = float(x[0]), float(x[1])
        n, p, log_z = self._chances(a, log_c)
        b = math.exp(-log_c)
        by_a = self.mean_log - float(p @ np.log(n))
        by_b = self.mean - float(p @ n)
        return a * self.mean_log + b * self.mean + log_z, np.array([by_a, -b * by_b])

    def fit(self, exponent: float | None) -> tuple[float, float, float]:
        """Exponent, log c and the least misfit, the exponent fixed where it is given."""
        first = (-3.0, 12.0) if exponent is None else (exponent, exponent)
        start = np.array([1.5 if exponent is None else exponent, math.log(10 * self.mean)])
        found = minimize(
            self._misfit, start, jac=True, method="L-BFGS-B",
            bounds=(first, self.log_c_bounds), options={"ftol": 1e-14, "gtol": 1e-9},
        )  # fmt: skip
        return float(found.x[0]), float(found.x[1]), float(found.fun)

    def covariance(self, a: float, log_c: float) -> Floats:
        """Covariance of log n and n, the information of one family on a and 1/c."""
        n, p, _ = self._chances(a, log_c)
        both = np.array([np.log(n), n])
        centred = both - (both @ p)[:, None]
        return np.asarray((centred * p) @ centred.T)
