"""Selection differentials of traits, and the opportunity for selection.

Over relative fitness ``w = W / W̄``. A few founders have most models, and in every month the field
is another: :func:`differential_jackknife` and :func:`intensity_jackknife` allow for both, and are
what tests selection. :func:`selection_differential` is the plain figure with a founder bootstrap,
for those that are resampled together with others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.clusters import cluster_bootstrap, too_few_clusters, untrusted
from lineage.evolution.jackknife import contributions, jackknife, left_out, sign_flip_p_value
from lineage.evolution.selection.fitness import Fitness
from lineage.model import Estimate

__all__ = [
    "MIN_MODELS",
    "differential_jackknife",
    "intensity_jackknife",
    "opportunity",
    "opportunity_excess",
    "selection_differential",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

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
    z, w, known = _both(trait, fitness)
    problem = _problem(z, w)
    if problem:
        return untrusted(z.size, level, method, problem, np.unique(cluster[known]).size)
    # Centred before squaring, so that sums of clusters keep their digits.
    mean_w = w.mean()
    dz, dw = z - z.mean(), w - mean_w
    moments = np.column_stack([np.ones_like(z), dw, dz, dw * dz, dz * dz])
    floor = _ROUNDING * float(dz @ dz)

    def of_sums(sums: Floats) -> Floats:
        n, sw, sz, swz, szz = np.moveaxis(sums, -1, 0)
        mean = np.where(mean_w + sw / n > 0, mean_w + sw / n, np.nan)
        usable = (n > 1) & (szz - sz * sz / n > floor)
        return np.asarray((swz - sw * sz / n) / np.where(usable, n - 1, np.nan) / mean)

    return cluster_bootstrap(
        moments, cluster[known], of_sums,
        rng=rng, level=level, n_resamples=n_resamples, method=method,
    )  # fmt: skip


def differential_jackknife(
    trait: Floats,
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    month: Ints | None = None,
    level: float = 0.95,
) -> Estimate:
    """Selection differential with the interval and the p-value of a jackknife over founders.

    Parameters
    ----------
    trait, fitness, cluster : (n,)
        As for :func:`selection_differential`.
    rng
        Source of the p-value's flips; the interval does not depend on it.
    month : (n,)
        Month of each model's birth. With it the covariance is taken among models of one month,
        ``S = Σ (w_i − w̄_m)(z_i − z̄_m) / (n − M)``: a trend of the field moves trait and fitness
        alike and is no selection. Fitness stays relative to the mean of all.

    Returns
    -------
    Estimate
        The interval holds for other founders, whatever selection there is; `p_value` is that of no
        selection and has more power (:mod:`lineage.evolution.jackknife`). NaN with the reason in
        `method` also where the figure is undefined without one of the founders.

    Examples
    --------
    >>> import numpy as np
    >>> w = Fitness("w", np.array([0.0, 2.0, 1.0, 3.0, 4.0, 8.0]), "fitness: given")
    >>> month = np.array([0, 0, 0, 1, 1, 1])
    >>> z = np.array([1.0, 2.0, 3.0, 7.0, 8.0, 9.0])
    >>> rng = np.random.default_rng(1)
    >>> round(differential_jackknife(z, w, np.arange(6), month=month, rng=rng).value, 6)
    0.5
    """
    method = "selection differential S = Cov(w, z)"
    return _jackknifed(method, trait, fitness, cluster, rng, month, level)


def intensity_jackknife(
    trait: Floats,
    fitness: Fitness,
    cluster: Ints,
    *,
    rng: np.random.Generator,
    month: Ints | None = None,
    level: float = 0.95,
) -> Estimate:
    """Standardised selection differential ``i = S / σ_z``, in standard deviations of the trait.

    Both with n − 1 (Lande & Arnold 1983), or both among models of one month. Everything else as for
    :func:`differential_jackknife`; without a founder, σ_z is that of the others.
    """
    method = "standardised selection differential i = Cov(w, z)/σ_z"
    return _jackknifed(method, trait, fitness, cluster, rng, month, level, standardised=True)


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


def _jackknifed(
    figure: str,
    trait: Floats,
    fitness: Fitness,
    cluster: Ints,
    rng: np.random.Generator,
    month: Ints | None,
    level: float,
    *,
    standardised: bool = False,
) -> Estimate:
    among = " among models of one month" if month is not None else ""
    method = f"{figure}{among}; {fitness.method}"
    z, w, known = _both(trait, fitness)
    n_clusters = np.unique(cluster[known]).size
    problem = _problem(z, w) or too_few_clusters(n_clusters)
    if problem:
        return untrusted(z.size, level, method, problem, n_clusters)
    sums = left_out(
        np.column_stack([w, z]), cluster[known], None if month is None else month[known]
    )
    mean_w, free = sums.mean[:, 0], np.where(sums.free > 0, sums.free, np.nan)
    found = sums.products[:, 0, 1] / free / np.where(mean_w > 0, mean_w, np.nan)
    spread = sums.products[:, 1, 1]
    spread = np.where(spread > _ROUNDING * spread[0], spread / free, np.nan)
    # Within months of one model each nothing varies, however much it does between them.
    found = found / np.sqrt(spread) if standardised else np.where(spread > 0, found, np.nan)
    p_value = sign_flip_p_value(contributions(sums), rng=rng)
    return jackknife(found, z.size, level, method, p_value)


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


def _both(trait: Floats, fitness: Fitness) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Trait and fitness of the models with both, and which they are."""
    known = np.isfinite(trait) & np.isfinite(fitness.values)
    return trait[known], fitness.values[known], known


def _problem(z: Floats, w: Floats) -> str | None:
    """Why no selection can be told, None when it can."""
    if z.size < MIN_MODELS:
        return f"{z.size} models with trait and fitness, {MIN_MODELS} needed"
    if np.ptp(z) <= _ROUNDING * np.abs(z).max():
        return "the trait does not vary"
    return "no model has any fitness" if w.mean() <= 0 else None
