"""Predicting what a model scores from whom it behaves like.

A score is predicted as the mean of other models' scores, weighted by ``exp(−d / h)`` of their
distance d (Nadaraya 1964; Watson 1964). Relatives share their scores by descent, so a model is
predicted from other founders' families only; what remains is what behaviour itself tells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.evolution.clusters import cluster_bootstrap, untrusted
from lineage.model import Estimate

__all__ = ["MIN_FOUNDERS", "TraitPrediction", "predict_trait"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIN_FOUNDERS = 3
"""One is left out, and among the others one more, to choose the reach."""
_REACHES = (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, np.inf)
"""Candidates for h, in medians of the training distances; infinite is the plain mean."""
_METHOD = (
    "R² of the kernel prediction from behavioural distance, each founder's family predicted from "
    "the others, against their mean; reach chosen inside the training families"
)


@dataclass(frozen=True, eq=False)
class TraitPrediction:
    """A prediction and how good it was.

    Attributes
    ----------
    r_squared
        ``1 − Σ (z − ẑ)² / Σ (z − z̄)²`` with z̄ the mean of the models that z was predicted from.
        Negative where the prediction is worse than that mean.
    predicted, baseline : (n_models,)
        ẑ and z̄; NaN where the trait is missing or nothing could be predicted.
    """

    r_squared: Estimate
    predicted: Floats
    baseline: Floats


def predict_trait(
    distance: Floats,
    trait: Floats,
    founder: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> TraitPrediction:
    """Predict a trait from distances, leaving out one founder's family at a time.

    Parameters
    ----------
    distance : (n, n)
        Behavioural distances; infinite ones weigh nothing.
    trait : (n,)
        The trait; NaN where it was not measured: such models take no part.
    founder : (n,)
        Family of each model.
    rng
        Source of the resamples of families.

    Returns
    -------
    TraitPrediction
        Its R² is NaN, with the reason, below three families or where the trait does not vary.

    Raises
    ------
    ValueError
        If the shapes disagree, or a distance is negative or NaN.

    Notes
    -----
    h is chosen for each family left out, by leaving out each of the remaining families once more
    (nested cross-validation); among equals the greater. The interval resamples families with the
    predictions held fixed.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.array([0.0, 0.1, 1.0, 0.0, 1.1, 1.0])
    >>> near = np.abs(z[:, None] - z[None, :])
    >>> found = predict_trait(
    ...     near, z, np.array([0, 0, 1, 1, 2, 2]), rng=np.random.default_rng(0), n_resamples=99
    ... )
    >>> 0.9 < found.r_squared.value < 1
    True
    """
    n = trait.size
    if distance.shape != (n, n) or founder.shape != (n,):
        raise ValueError(f"{n} traits need {n} founders and distances of {n} by {n}")
    if np.isnan(distance).any() or (distance < 0).any():
        raise ValueError("distances must not be negative or NaN")
    predicted, baseline = np.full(n, np.nan), np.full(n, np.nan)
    known = np.flatnonzero(np.isfinite(trait))
    families = np.unique(founder[known])
    if families.size < MIN_FOUNDERS:
        reason = f"{families.size} founders with the trait, {MIN_FOUNDERS} needed"
        return TraitPrediction(
            untrusted(known.size, level, _METHOD, reason, families.size), predicted, baseline
        )
    for family in families:
        left_out = known[founder[known] == family]
        training = known[founder[known] != family]
        reach = _best_reach(distance, trait, founder, training)
        predicted[left_out] = _weighted_mean(
            distance[np.ix_(left_out, training)], trait[training], reach
        )
        baseline[left_out] = trait[training].mean()
    z = trait[known]
    moments = np.column_stack(
        [np.ones(known.size), (z - predicted[known]) ** 2, (z - baseline[known]) ** 2]
    )
    least = np.finfo(float).eps * max(float(np.square(z).sum()), np.finfo(float).tiny)

    def r_squared(sums: Floats) -> Floats:
        _, left, whole = np.moveaxis(sums, -1, 0)
        return np.asarray(1.0 - left / np.where(whole > least, whole, np.nan))

    estimate = cluster_bootstrap(
        moments,
        founder[known],
        r_squared,
        rng=rng,
        level=level,
        n_resamples=n_resamples,
        method=_METHOD,
    )
    return TraitPrediction(estimate, predicted, baseline)


def _best_reach(distance: Floats, trait: Floats, founder: Ints, training: Ints) -> float:
    """The h that predicts each training family best from the other training families."""
    among = distance[np.ix_(training, training)]
    apart = founder[training][:, None] != founder[training][None, :]
    usual = among[apart & np.isfinite(among) & (among > 0)]
    scale = float(np.median(usual)) if usual.size else 1.0
    best, least = np.inf, np.inf
    for share in reversed(_REACHES):
        error = 0.0
        for family in np.unique(founder[training]):
            out = founder[training] == family
            guess = _weighted_mean(among[np.ix_(out, ~out)], trait[training][~out], share * scale)
            error += float(((trait[training][out] - guess) ** 2).sum())
        if error < least:
            best, least = share * scale, error
    return best


def _weighted_mean(distance: Floats, values: Floats, reach: float) -> Floats:
    """Mean of `values` (k,) for each row of `distance` (m, k), weighted by nearness."""
    if np.isinf(reach):
        return np.full(distance.shape[0], values.mean())
    nearest = distance.min(axis=1, keepdims=True)
    stranger = np.isinf(nearest)  # shares nothing with anybody: all the same to it
    gap = np.where(stranger, 0.0, distance - np.where(stranger, 0.0, nearest))
    weight = np.exp(-gap / reach)  # relative to the nearest, so that it cannot vanish
    return np.asarray(weight @ values / weight.sum(axis=1), dtype=np.float64)
