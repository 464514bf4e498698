"""Selection differentials of traits, and the opportunity for selection.

Over relative fitness ``w = W / W̄``. Intervals are bootstraps over founders.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.clusters import cluster_bootstrap, untrusted
from lineage.evolution.selection.fitness import Fitness
from lineage.model import Estimate

__all__ = [
    "MIN_MODELS",
    "opportunity",
    "opportunity_excess",
    "selection_differential",
    "selection_intensity",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Covariance = Callable[[Floats, Floats, Floats, Floats], Floats]

MIN_MODELS = 3
_ROUNDING = 1e-12  # share of the scale below which a spread is rounding, not variation


def selection_differential(
    trait: Floats,
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Estimate:
    """Selection differential ``S = Cov(w, z)``, in units of the trait (Robertson 1966; Price 1970).

    How much the mean trait, weighted by fitness, exceeds the plain mean; the sample covariance
    (n − 1) is used. It contains every path from trait to fitness and every common cause of both.

    Parameters
    ----------
    trait : (n,)
        Values z; models with a NaN here or in `fitness` are left out of the means too.
    fitness
        Values W; ``w = W / W̄`` over the models that take part.
    cluster : (n,)
        Founder of each model; resampled whole.
    rng
        Source of the resamples.

    Returns
    -------
    Estimate
        NaN with the reason in `method` when fewer than 3 models or 3 groups take part, nobody has
        any fitness, or the trait does not vary.
    """
    method = f"selection differential S = Cov(w, z); {fitness.method}"

    def differential(n: Floats, mean_w: Floats, s_wz: Floats, s_zz: Floats) -> Floats:
        return np.asarray(s_wz / (n - 1) / mean_w)

    return _covariance(differential, trait, fitness, cluster, rng, level, n_resamples, method)


def selection_intensity(
    trait: Floats,
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Estimate:
    """Standardised selection differential ``i = S / σ_z``, in standard deviations of the trait.

    Both with n − 1 (Lande & Arnold 1983). Parameters and missing values as for
    :func:`selection_differential`; each resample is standardised by its own σ_z.
    """
    method = f"standardised selection differential i = Cov(w, z)/σ_z; {fitness.method}"

    def intensity(n: Floats, mean_w: Floats, s_wz: Floats, s_zz: Floats) -> Floats:
        return np.asarray(s_wz / (n - 1) / mean_w / np.sqrt(s_zz / (n - 1)))

    return _covariance(intensity, trait, fitness, cluster, rng, level, n_resamples, method)


def opportunity(
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Estimate:
    """Opportunity for selection ``I = Var(W) / W̄²`` (Crow 1958; Arnold & Wade 1984).

    Variance over n. ``√I`` bounds the intensity of selection on any trait whatever; it is not
    itself evidence of selection, since chance and fashion make fitness vary too.
    """
    method = f"opportunity for selection I = Var(W)/W̄²; {fitness.method}"
    return _opportunity(fitness, cluster, rng, level, n_resamples, method, 0.0)


def opportunity_excess(
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> Estimate:
    """Opportunity beyond chance, ``I − 1/W̄``; for counts only.

    If every model had the same expected number of children, counts would be Poisson with variance
    W̄ and I would be 1/W̄. An excess means that expectations differ, be it through traits, fashion
    or preferential attachment.
    """
    method = f"opportunity beyond Poisson chance I − 1/W̄; {fitness.method}"
    return _opportunity(fitness, cluster, rng, level, n_resamples, method, 1.0)


def _covariance(
    statistic: Covariance,
    trait: Floats,
    fitness: Fitness,
    cluster: Ints,
    rng: np.random.Generator,
    level: float,
    n_resamples: int,
    method: str,
) -> Estimate:
    """Bootstrap a function of n, W̄, Σ(W−W̄)(z−z̄) and Σ(z−z̄)²."""
    both = np.isfinite(trait) & np.isfinite(fitness.values)
    z, w, cluster = trait[both], fitness.values[both], cluster[both]
    n_clusters = np.unique(cluster).size
    if z.size < MIN_MODELS:
        reason = f"{z.size} models with trait and fitness, {MIN_MODELS} needed"
        return untrusted(z.size, level, method, reason, n_clusters)
    if np.ptp(z) <= _ROUNDING * np.abs(z).max():
        return untrusted(z.size, level, method, "the trait does not vary", n_clusters)
    if w.mean() <= 0:
        return untrusted(z.size, level, method, "no model has any fitness", n_clusters)
    mean_w = w.mean()
    # Centred before squaring, so that sums of clusters keep their digits.
    dz, dw = z - z.mean(), w - mean_w
    moments = np.column_stack([np.ones_like(z), dw, dz, dw * dz, dz * dz])
    floor = _ROUNDING * float(dz @ dz)

    def of_sums(sums: Floats) -> Floats:
        n, sw, sz, swz, szz = np.moveaxis(sums, -1, 0)
        mean = np.where(mean_w + sw / n > 0, mean_w + sw / n, np.nan)
        spread = szz - sz * sz / n
        usable = (n > 1) & (spread > floor)
        n = np.where(usable, n, np.nan)
        return statistic(n, mean, swz - sw * sz / n, np.where(usable, spread, np.nan))

    return cluster_bootstrap(
        moments, cluster, of_sums, rng=rng, level=level, n_resamples=n_resamples, method=method
    )


def _opportunity(
    fitness: Fitness,
    cluster: Ints,
    rng: np.random.Generator,
    level: float,
    n_resamples: int,
    method: str,
    chance: float,
) -> Estimate:
    known = np.isfinite(fitness.values)
    w, cluster = fitness.values[known], cluster[known]
    n_clusters = np.unique(cluster).size
    if w.size < MIN_MODELS:
        reason = f"{w.size} models with fitness, {MIN_MODELS} needed"
        return untrusted(w.size, level, method, reason, n_clusters)
    if w.mean() <= 0:
        return untrusted(w.size, level, method, "no model has any fitness", n_clusters)
    mean_w = w.mean()
    dw = w - mean_w
    moments = np.column_stack([np.ones_like(w), dw, dw * dw])

    def of_sums(sums: Floats) -> Floats:
        n, sw, sww = np.moveaxis(sums, -1, 0)
        mean = np.where(mean_w + sw / n > 0, mean_w + sw / n, np.nan)
        return np.asarray((sww - sw * sw / n) / n / mean**2 - chance / mean)

    return cluster_bootstrap(
        moments, cluster, of_sums, rng=rng, level=level, n_resamples=n_resamples, method=method
    )
