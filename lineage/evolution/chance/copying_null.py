"""The copying null of selection: what chance alone would make of every figure.

A model that is copied much is seen much and copied more, so that numbers of children differ far
beyond Poisson without any merit, and the models of one month have all had the same time. The null
of every figure of selection here is therefore the observed Hub grown anew: the same births on the
same days with the same numbers of parents and the same traits, but with parents chosen by the law
of attention of :mod:`lineage.evolution.chance.attachment`, blind to traits. Its parameters come
from the observed pedigree (:mod:`lineage.evolution.chance.attachment_fit`).

A law fitted to a pedigree has taken up what chance made of its opportunity: held against that law,
the opportunity is never surprising. Its p-value is therefore that of the part that the fit cannot
take up: of √I less its regression, over the replicates, on the slopes of their likelihood at the
law. Robins, van der Vaart & Ventura (2000), J Am Stat Assoc 95:1143: p-values of a statistic that
goes with the score are conservative, of one that does not they are uniform. Figures of traits do
not go with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.chance.attachment import Attachment, copy_parents
from lineage.evolution.chance.attachment_fit import birth_order, law_score
from lineage.evolution.selection.differentials import MIN_MODELS
from lineage.evolution.selection.fitness import children_within
from lineage.graph import LineageGraph

__all__ = ["CopyingNull", "NullFigure", "copying_null"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_ROUNDING = 1e-12
_MODELS_AT_ONCE = 200_000  # of the replicates grown together


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
        I = Var(W)/W̄²; its `expected` is the opportunity that chance gives. Upper p-value, free of
        the law's having been fitted to the same pedigree.
    poisson_opportunity
        1/W̄, what chance would give if all models were equally attractive all the time.
    """

    differential: Mapping[str, NullFigure]
    intensity: Mapping[str, NullFigure]
    gradient: Mapping[str, NullFigure]
    opportunity: NullFigure
    poisson_opportunity: float


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
    (:func:`lineage.evolution.selection.fitness.children_within`). Every replicate draws all parents
    anew on the observed days and in the observed numbers; traits stay with their models, so that a
    trend of the trait and the shorter or busier time of the young are part of the null.

    Parameters
    ----------
    graph, born_day
        The pedigree and births in days; models of unknown birth take no part.
    traits
        Name to values, shape (n,); a model without one of them takes no part in any figure, but
        can choose and be chosen.
    attachment
        The law of attention, as a rule from
        :func:`lineage.evolution.chance.attachment_fit.fit_attachment` to the same pedigree.
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
    order, rank = birth_order(graph, born_day)
    if not order.size:
        raise ValueError("no model has a known birth")
    child, parent = rank[graph.edge_child], rank[graph.parent_index]
    usable = (child >= 0) & (parent >= 0) & (parent < child)
    n_parents = np.bincount(child[usable], minlength=order.size)
    day = born_day[order]
    ids = tuple(graph.ids[i] for i in order)
    start = np.concatenate(([0], np.cumsum(n_parents)))
    weight = np.ones(int(start[-1]))

    def grown(parents: Ints) -> LineageGraph:
        return LineageGraph(ids, start, parents, weight)

    def fitness(hub: LineageGraph) -> Floats:
        return children_within(hub, day, until_day, window_days).values

    own = grown(parent[usable][np.argsort(child[usable], kind="stable")])
    observed = fitness(own)
    z = np.array([values[order] for values in traits.values()]).reshape(len(traits), order.size)
    takes_part = np.isfinite(observed) & np.isfinite(z).all(axis=0)
    figures = _Figures(z[:, takes_part])
    names = ["S", "i", "β"]
    if figures.problem or not observed[takes_part].sum() > 0:
        reason = figures.problem or "no model has any children in the window"
        return _untested(tuple(traits), reason, int(takes_part.sum()), level)
    value = figures(observed[takes_part])
    at_once = max(1, _MODELS_AT_ONCE // order.size)
    rows, scores = [], []
    for first in range(0, n_replicates, at_once):
        n_copies = min(at_once, n_replicates - first)
        drawn = copy_parents(day, n_parents, attachment, rng, n_copies=n_copies)
        for hub in map(grown, drawn.reshape(n_copies, -1)):
            rows.append(figures(fitness(hub)[takes_part]))
            scores.append(law_score(hub, day, attachment))
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
    own_score = law_score(own, day, attachment)
    p_value = _beyond_the_fit(float(value[-1]), null[:, -1], own_score, np.array(scores))
    found[-1] = replace(found[-1], p_value=p_value)
    poisson = float(1 / observed[takes_part].mean())
    return CopyingNull(by_figure[0], by_figure[1], by_figure[2], found[-1], poisson)


def _beyond_the_fit(value: float, null: Floats, score: Floats, scores: Floats) -> float:
    """Upper p-value of √I less what the scores of the law foretell of it.

    Each replicate is held against what the others foretell of it, as the observed Hub is.
    """
    drawn = np.isfinite(null)
    if not drawn.any():
        return math.nan
    root, design = np.sqrt(null[drawn]), np.column_stack([np.ones(drawn.sum()), scores[drawn]])
    unit = np.abs(design).max(axis=0)
    unit = np.where(unit > 0, unit, 1.0)
    solver = np.linalg.pinv(design / unit)
    leverage = np.einsum("ij,ji->i", design / unit, solver)
    if (leverage > 1 - _ROUNDING).any():  # too few replicates to tell what the fit takes up
        solver, leverage = np.zeros_like(solver), np.zeros_like(leverage)
    coefficient = solver @ root
    away = (root - design / unit @ coefficient) / (1 - leverage)
    observed = math.sqrt(value) - float(np.append(1.0, score) / unit @ coefficient)
    scale = _ROUNDING * max(math.sqrt(value), float(root.max()))
    return (1 + int((away >= observed - scale).sum())) / (1 + root.size)


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
