"""Heritability by an animal model where descent is by copying and changing, not by segregation.

``a_i = Σ_k w_ik a_k + m_i``: a founder has the variance σ²_A, and every derivation adds d σ²_A of
its own, which it hands on. How large d is nobody knows beforehand, and h² depends on it; so the
restricted likelihood chooses d too, from a grid. What is reported is the share of breeding values
in the variance *among the measured models* (Legarra 2016, Theor Popul Biol 107:26): in a pedigree
that grows by adding variance the share in the founders' generation is about nobody alive.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.clusters import untrusted
from lineage.evolution.inheritance.animal import fit_animal_model
from lineage.evolution.inheritance.animal_fit import AnimalModelFit
from lineage.evolution.inheritance.bivariate import fit_bivariate_model
from lineage.evolution.inheritance.relatedness import Relatedness, relatedness
from lineage.graph import LineageGraph
from lineage.model import Estimate

__all__ = ["VARIANCE_OF_A_STEP", "animal_heritability", "genetic_covariance"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

VARIANCE_OF_A_STEP = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Values of d that the likelihood chooses from, in units of the founders' variance."""

MIN_RECORDS = 10
MOST_RECORDS = 1_500
"""Models beyond which two traits are not fitted together: minutes, and memory by the square."""
_METHOD = "animal model by REML: share of breeding values in the variance among these models"


def animal_heritability(graph: LineageGraph, trait: Floats, *, level: float = 0.95) -> Estimate:
    """Share of the variance among measured models that they hand on, with its interval.

    Uses all relatives at once, unmeasured ancestors too, where the parent–offspring slope uses
    pairs; the mean is the only fixed effect.

    Parameters
    ----------
    graph
        The pedigree, copies collapsed. Shares of a child that do not sum to 1 are scaled to.
    trait : (n,)
        NaN where unmeasured.
    level
        Coverage of the interval (delta method, given d).

    Returns
    -------
    Estimate
        NaN with the reason in `method` for fewer than 10 measured models or 2 founders of them, a
        trait that does not vary, or where the likelihood is highest at a bound.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> founders = [f"f{i}" for i in range(30)]
    >>> tuned = [f"t{i}" for i in range(90)]
    >>> graph = LineageGraph.from_edges(
    ...     founders + tuned, [(t, founders[i // 3], 1.0, 0) for i, t in enumerate(tuned)]
    ... )
    >>> base = rng.normal(size=30)
    >>> trait = np.concatenate([base, np.repeat(base, 3)]) + 0.5 * rng.normal(size=120)
    >>> found = animal_heritability(graph, trait)
    >>> found.low < 0.8 < found.high
    True
    """
    record = np.flatnonzero(np.isfinite(trait))
    n_founders = np.unique(graph.founder[record]).size
    problem = _problem(trait[record], n_founders)
    if problem:
        return untrusted(record.size, level, _METHOD, problem, n_founders)
    best, step = _best_fit(graph, trait, record, level)
    method = f"{_METHOD}; each derivation adds {step:g} of the founders' variance (REML)"
    if not best.converged or best.at_boundary.any():
        where = ", ".join(
            name for name, at in zip(best.effects, best.at_boundary, strict=True) if at
        )
        reason = f"the likelihood is highest where {where} has no variance"
        return untrusted(record.size, level, method, reason if where else "no fit", n_founders)
    found = best.share_among_records("animal")
    return replace(found, method=f"{method}; {found.method}", n_clusters=n_founders)


def genetic_covariance(
    graph: LineageGraph, trait: Floats, fitness: Floats, *, level: float = 0.95
) -> Estimate:
    """``Cov_A(w, z)``: the change of a trait that its genetic covariance with fitness predicts.

    From an animal model of the trait and of relative fitness together (the secondary theorem of
    selection; Robertson 1966, Anim Prod 8:95), with the variance of a step that the trait's own
    likelihood prefers; the covariance of breeding values *among the measured models*, in units of
    the trait.

    Parameters
    ----------
    fitness : (n,)
        Absolute fitness, NaN where a model was not watched; it still counts with its trait.

    Returns
    -------
    Estimate
        NaN with the reason in `method` where :func:`animal_heritability` is, fitness does not
        vary, more than :data:`MOST_RECORDS` models are measured, or no error holds.
    """
    method = "genetic covariance of trait and relative fitness"
    record = np.flatnonzero(np.isfinite(trait))
    n_founders = np.unique(graph.founder[record]).size
    w = fitness[record]
    watched = w[np.isfinite(w)]
    problem = _problem(trait[record], n_founders)
    if problem is None and record.size > MOST_RECORDS:
        problem = f"{record.size} measured models, {MOST_RECORDS} at most"
    if problem is None and (watched.size < MIN_RECORDS or not np.ptp(watched) > 0):
        problem = "too few models have a fitness, or it does not vary"
    if problem:
        return untrusted(record.size, level, method, problem, n_founders)
    alone, step = _best_fit(graph, trait, record, level)
    try:
        fit = fit_bivariate_model(
            np.column_stack([trait[record], w / watched.mean()]),
            np.ones((record.size, 1)),
            ["mean"],
            _related(graph, step),
            record,
            level=level,
        )
    except ValueError as error:
        return untrusted(record.size, level, method, str(error), n_founders)
    found = fit.covariance()
    # From founders of variance 1 to the models that were measured, as for the share above.
    among = float(alone.spread[alone.effects.index("animal")])
    return replace(
        found,
        value=among * found.value,
        low=among * found.low,
        high=among * found.high,
        method=f"{found.method}, among these models",
        n_clusters=n_founders,
    )


def _problem(measured: Floats, n_founders: int) -> str | None:
    if measured.size < MIN_RECORDS:
        return f"{measured.size} measured models, {MIN_RECORDS} needed"
    if n_founders < 2:
        return "all measured models have one founder"
    if np.ptp(measured) <= 1e-12 * np.abs(measured).max():
        return "the trait does not vary"
    return None


def _related(graph: LineageGraph, step: float) -> Relatedness:
    return relatedness(_shares_of_one(graph), np.where(graph.n_parents == 0, 1.0, step))


def _best_fit(
    graph: LineageGraph, trait: Floats, record: Ints, level: float
) -> tuple[AnimalModelFit, float]:
    """The fit whose variance of a step is likeliest, and that variance."""
    mean = np.ones((record.size, 1))
    fits = [
        (
            fit_animal_model(
                trait[record], mean, ["mean"], _related(graph, step), record, level=level
            ),
            step,
        )
        for step in VARIANCE_OF_A_STEP
    ]
    return max(fits, key=lambda one: _likelihood(one[0]))


def _likelihood(fit: AnimalModelFit) -> float:
    return fit.log_likelihood if fit.converged else -math.inf


def _shares_of_one(graph: LineageGraph) -> LineageGraph:
    """The pedigree with every child's shares scaled to sum to 1; equal where they cannot be."""
    total = np.bincount(graph.edge_child, weights=graph.parent_weight, minlength=len(graph))
    lowest = np.full(len(graph), np.inf)
    np.minimum.at(lowest, graph.edge_child, graph.parent_weight)
    able = (total > 0) & (lowest >= 0)
    child = graph.edge_child
    share = np.where(
        able[child],
        graph.parent_weight / np.where(able, total, 1.0)[child],
        1.0 / graph.n_parents[child],
    )
    return replace(graph, parent_weight=share)
