"""Intervals from leaving out one founder at a time, for founders of very unequal weight.

A few founders have most models. The sandwich and the founder bootstrap then take too little for
chance: a large clade bends the fit towards itself, so that its residuals are small, and Student's
t counts founders that contribute nothing. Leaving a founder out lets its clade show how far it had
bent the fit, and the degrees of freedom count the founders that make the variance:

    SE² = (G − 1)/G · Σ_g δ_g²,   δ_g = θ₍g₎ − mean θ₍·₎,   df = (Σ δ_g²)² / Σ δ_g⁴

The variance is the cluster jackknife CV3 (Efron & Stein 1981; MacKinnon, Nielsen & Webb 2023,
J Appl Econom 38:671), df the effective number of clusters G* of Carter, Schnepel & Steigerwald
(2017, Rev Econ Stat 99:698) with each founder's share of the variance taken from the jackknife
itself. With equal founders it is about G/3, with one that makes everything 1;
at most G − 1 is used.

An interval has to hold whatever the truth is. That there is *nothing* can be tested with more
power: the founders' contributions are then as likely to have one sign as the other
(:func:`sign_flip_p_value`).

What is estimated here are functions of means and of sums of products about the means of strata
(months of birth, founders), which are known without any founder from its own sums alone:
:func:`left_out`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.clusters import student_interval, untrusted
from lineage.model import Estimate

__all__ = [
    "LeftOut",
    "contributions",
    "jackknife",
    "left_out",
    "partial_slope",
    "sign_flip_p_value",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_ROUNDING = 1e-12  # share of the scale below which a spread is rounding, not variation
_SINGULAR = 1e-10  # share of the largest eigenvalue below which a control adds nothing


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Sums over everybody, then without each of the G clusters in turn: 1 + G rows.

    Attributes
    ----------
    products : (1 + G, q, q)
        Sums of products of q columns about the means of their strata.
    n, free : (1 + G,)
        Observations, and observations less strata.
    mean : (1 + G, q)
        Means of the columns as they were given.
    own : (G, q, q)
        Each cluster's part of the products of everybody.
    """

    products: Floats
    n: Floats
    free: Floats
    mean: Floats
    own: Floats


def left_out(columns: Floats, cluster: Ints, stratum: Ints | None = None) -> LeftOut:
    """Sums of products without each cluster in turn, in time proportional to the observations.

    The strata lose their own means with a cluster's members:
    ``A₍g₎ = A − Σ_{i∈g} d_i d_i' − Σ_s t_gs t_gs' / (n_s − n_gs)`` with d the columns about the
    means of their strata and t_gs the sum of d over the members of cluster g in stratum s.

    Parameters
    ----------
    columns : (n, q)
    cluster : (n,)
        At least 2 different labels.
    stratum : (n,)
        One stratum for all by default.
    """
    n = len(columns)
    _, group, n_own = np.unique(cluster, return_inverse=True, return_counts=True)
    place = np.zeros(n, dtype=np.int64) if stratum is None else stratum
    _, part, size = np.unique(place, return_inverse=True, return_counts=True)
    about = columns - _sums(columns, part, size.size)[part] / size[part, None]
    # Rounding of large values must not pass for variation within a stratum.
    about[np.abs(about) <= _ROUNDING * np.abs(columns).max(axis=0, initial=0)] = 0.0
    cell, at = np.unique(group * size.size + part, return_inverse=True)
    of_group, of_part = np.divmod(cell, size.size)
    rest = size[of_part] - np.bincount(at)
    shift = _sums(about, at, cell.size) / np.sqrt(np.maximum(rest, 1))[:, None]
    own, lost = _products(about, group), _products(shift, of_group)
    whole = about.T @ about
    total, totals = columns.sum(axis=0), _sums(columns, group, n_own.size)
    kept = np.concatenate([[n], n - n_own]).astype(np.float64)
    strata = np.concatenate([[size.size], size.size - np.bincount(of_group, rest == 0)])
    return LeftOut(
        np.concatenate([whole[None], whole - own - lost]),
        kept,
        kept - strata,
        np.concatenate([total[None], total - totals]) / kept[:, None],
        own,
    )


def partial_slope(products: Floats) -> Floats:
    """Slope of the first column on the second, the others held, from products (..., q, q).

    Controls that say the same twice count once; NaN where nothing of the second column is left.
    """
    y, x, held = 0, 1, slice(2, None)
    controls, scale = products[..., held, held], np.max(products[..., x, x])
    if controls.shape[-1]:
        root = np.sqrt(np.diagonal(controls, axis1=-2, axis2=-1)).reshape(-1, controls.shape[-1])
        unit = 1 / np.where(root.max(axis=0) > 0, root.max(axis=0), 1.0)
        controls = controls * unit[:, None] * unit
        inverse = np.linalg.pinv(controls, rcond=_SINGULAR, hermitian=True)
        through = products[..., held, :2] * unit[:, None]
        products = products[..., :2, :2] - np.swapaxes(through, -1, -2) @ inverse @ through
    spread = products[..., x, x]
    usable = spread > _ROUNDING * scale
    return np.asarray(products[..., x, y] / np.where(usable, spread, np.nan))


def contributions(sums: LeftOut) -> Floats:
    """Each cluster's part of the product of the first two columns, the others held, shape (G,).

    Of both columns the fit on the others alone is taken off, as if the second said nothing of the
    first.
    """
    whole, held = sums.products[0], slice(2, None)
    through = np.linalg.pinv(whole[held, held], rcond=_SINGULAR, hermitian=True) @ whole[held, :2]
    keep = np.concatenate([np.eye(2), -through])  # what turns the columns into what is left of them
    return np.asarray(np.einsum("i,gij,j->g", keep[:, 0], sums.own, keep[:, 1]))


def sign_flip_p_value(
    parts: Floats, *, rng: np.random.Generator, n_flips: int = 1999
) -> float | None:
    """Two-sided p-value of no effect from the signs of the clusters' contributions.

    Without an effect, clusters are independent and contribute as much either way, so that any
    of them may have its sign turned: ``p = (1 + b)/(1 + m)``, b of m random flips having a sum at
    least as far from 0. Clusters may be as unequal as they like; fewer than 6 cannot be
    significant at .05. It is the wild cluster bootstrap of the score with the null imposed
    (Cameron, Gelbach & Miller 2008, Rev Econ Stat 90:414), a randomisation test under approximate
    symmetry (Canay, Romano & Shaikh 2017, Econometrica 85:1013). None where nothing contributes.
    """
    scale = float(np.abs(parts).sum())
    if not scale > 0:
        return None
    signs = rng.integers(0, 2, size=(n_flips, parts.size), dtype=np.int8) * 2.0 - 1.0
    far = np.abs(signs @ parts) >= abs(parts.sum()) - _ROUNDING * scale
    return (1 + int(far.sum())) / (1 + n_flips)


def jackknife(
    values: Floats, n: int, level: float, method: str, p_value: float | None = None
) -> Estimate:
    """Estimate with the interval of the cluster jackknife.

    Parameters
    ----------
    values : (1 + G,)
        The statistic of everybody, then without each of at least 2 clusters in turn.
    n
        Observations.
    p_value
        Of zero, where it comes from elsewhere; by default from Student's t.

    Returns
    -------
    Estimate
        NaN with the reason in `method` where the statistic is undefined, be it without a single
        one of the clusters.
    """
    value, without = float(values[0]), values[1:]
    n_clusters = without.size
    undefined = int(n_clusters - np.isfinite(without).sum())
    if not math.isfinite(value):
        problem = "no variation to measure it by"
    elif undefined:
        problem = f"undefined without one of {undefined} of the independent groups"
    else:
        problem = None
    if problem:
        return untrusted(n, level, method, problem, n_clusters)
    away = without - without.mean()
    error = math.sqrt((n_clusters - 1) / n_clusters * float(away @ away))
    df = min(_effective_number(away), n_clusters - 1)
    method = f"{method}; jackknife over independent groups (CV3), t with {df:.3g} effective groups"
    if p_value is not None:
        method = f"{method}, p by turning the signs of their contributions"
    found = student_interval(value, error, df, n, n_clusters, level, method)
    return found if p_value is None else replace(found, p_value=p_value)


def _effective_number(away: Floats) -> float:
    """How many groups make the variance: ``(Σ δ²)² / Σ δ⁴``, from 1 to G."""
    largest = float(np.abs(away).max())
    share = (away / largest) ** 2 if largest > 0 else np.ones_like(away)
    return float(share.sum() ** 2 / (share @ share))


def _products(rows: Floats, group: Ints) -> Floats:
    """Sums of products of the rows of each group, every group having some."""
    ends = np.cumsum(np.bincount(group))
    some = np.split(rows[np.argsort(group, kind="stable")], ends[:-1])
    return np.stack([part.T @ part for part in some])


def _sums(columns: Floats, group: Ints, n_groups: int) -> Floats:
    return np.stack([np.bincount(group, column, n_groups) for column in columns.T], axis=1)
