"""The law of attention that a pedigree shows: α, h and ε by maximum likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.stats import chi2

from lineage.evolution.chance.attachment import MAX_HALVINGS, Attachment
from lineage.evolution.clusters import untrusted
from lineage.graph import LineageGraph
from lineage.model import Estimate

__all__ = ["AttachmentFit", "birth_order", "fit_attachment", "law_score", "most_likely_law"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_Attention = tuple[Floats, Floats, Floats, Floats]
_Bounds = tuple[tuple[float, float], tuple[float, float]]

MIN_CHOICES = 30
"""Choices of a parent below which no law of attention is fitted."""

_FAR = 20.0  # longest half-life tried, in spans of observation
_RANGE = (0.0, 1e4)  # of α and ε
_START = np.array([0.5, 0.1])
_LAW = "law of attention, maximum likelihood over choices of a parent; profile-likelihood interval"
_STEP = 1e-4  # of ln h, for the slope of the likelihood
_SECTIONS = 7  # half-lives at which the intervals of α and ε are sought


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


def fit_attachment(graph: LineageGraph, born_day: Floats, *, level: float = 0.95) -> AttachmentFit:
    """Maximum likelihood of α, h and ε from who chose whom, and when.

    The likelihood is the product over edges of ``λ_parent(t) / Σ_k λ_k(t)`` with λ as in
    :mod:`lineage.evolution.chance.attachment` at v = 1, given the days of birth. The parents of a
    merge are taken as separate choices, which errs by the share of attention that its other
    parents have. Intervals are those of the profile likelihood (½χ² with 1 df below the maximum):
    a normal one fails near α = 0 or ε = 0 and along the ridge of h and α. Some thousand
    evaluations are needed for them, each in proportion to the number of edges: a second for 5,000,
    minutes for a million.

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
    choices = _enough_choices(graph, born_day)
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


def most_likely_law(graph: LineageGraph, born_day: Floats, *, level: float = 0.95) -> Attachment:
    """The law of :func:`fit_attachment` without its intervals, which take most of the time."""
    profile = _Profile(_enough_choices(graph, born_day), level)
    return Attachment(float(profile.x[0]), math.exp(profile.log_h), float(profile.x[1]))


def law_score(graph: LineageGraph, born_day: Floats, attachment: Attachment) -> Floats:
    """Slopes of the log-likelihood of a law in its parameters: α, ε and ln h, or α without ageing.

    About 0 where the law was fitted to the same choices, but at a bound of its parameters.
    """
    choices = _Choices(graph, born_day)
    x = np.array([attachment.strength, attachment.spontaneous])
    log_h = math.log(attachment.half_life_days)
    value, slopes = choices.misfit(x, choices.attention(log_h))
    if math.isinf(log_h):
        return np.asarray(-choices.n * slopes[:1])
    later, _ = choices.misfit(x, choices.attention(log_h + _STEP))
    return -choices.n * np.append(slopes, (later - value) / _STEP)


def birth_order(graph: LineageGraph, born_day: Floats) -> tuple[Ints, Ints]:
    """Models of known birth in order of birth, parents first on one day; place of each, or −1."""
    order = np.lexsort((graph.generation, born_day))
    order = order[np.isfinite(born_day[order])]
    rank = np.full(born_day.size, -1)
    rank[order] = np.arange(order.size)
    return order, rank


def _enough_choices(graph: LineageGraph, born_day: Floats) -> _Choices:
    choices = _Choices(graph, born_day)
    if choices.n < MIN_CHOICES:
        raise ValueError(f"{choices.n} dated choices of a parent, {MIN_CHOICES} needed")
    if choices.span <= 0:
        raise ValueError("all births fall on one day: births of different days are needed")
    return choices


class _Choices:
    """Dated choices of a parent, prepared so that the likelihood costs little to evaluate."""

    def __init__(self, graph: LineageGraph, born_day: Floats) -> None:
        order, rank = birth_order(graph, born_day)
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
