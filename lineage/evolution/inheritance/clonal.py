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
from lineage.evolution.inheritance.relatedness import relatedness
from lineage.graph import LineageGraph
from lineage.model import Estimate

__all__ = ["VARIANCE_OF_A_STEP", "animal_heritability"]

Floats = NDArray[np.float64]

VARIANCE_OF_A_STEP = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Values of d that the likelihood chooses from, in units of the founders' variance."""

MIN_RECORDS = 10
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
    problem = None
    if record.size < MIN_RECORDS:
        problem = f"{record.size} measured models, {MIN_RECORDS} needed"
    elif n_founders < 2:
        problem = "all measured models have one founder"
    elif np.ptp(trait[record]) <= 1e-12 * np.abs(trait[record]).max():
        problem = "the trait does not vary"
    if problem:
        return untrusted(record.size, level, _METHOD, problem, n_founders)
    whole, founders = _shares_of_one(graph), graph.n_parents == 0

    def fitted(step: float) -> AnimalModelFit:
        related = relatedness(whole, np.where(founders, 1.0, step))
        mean = np.ones((record.size, 1))
        return fit_animal_model(trait[record], mean, ["mean"], related, record, level=level)

    fits = [(fitted(step), step) for step in VARIANCE_OF_A_STEP]
    best, step = max(fits, key=lambda one: _likelihood(one[0]))
    method = f"{_METHOD}; each derivation adds {step:g} of the founders' variance (REML)"
    if not best.converged or best.at_boundary.any():
        where = ", ".join(
            name for name, at in zip(best.effects, best.at_boundary, strict=True) if at
        )
        reason = f"the likelihood is highest where {where} has no variance"
        return untrusted(record.size, level, method, reason if where else "no fit", n_founders)
    found = best.share_among_records("animal")
    return replace(found, method=f"{method}; {found.method}", n_clusters=n_founders)


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
