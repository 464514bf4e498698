"""Heritability of yes/no traits and counts: from the scale of the data to the latent one, and back.

A yes/no trait (fits in memory, permissive licence) can be seen as a continuous *liability* that is
cut at a threshold. Its heritability on the 0/1 scale depends on how common the trait is, so that
only the liability's compares across traits and populations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr
from scipy.stats import norm

from lineage.evolution.clusters import untrusted
from lineage.model import Estimate

__all__ = [
    "DATA_MODELS",
    "DataModel",
    "DataScale",
    "data_scale",
    "liability_factor",
    "on_liability",
]

Floats = NDArray[np.float64]

_NODES = 100
_FEWER_NODES = 70
_QUADRATURE_ERROR = 1e-6  # relative difference of the two at which the integral is not believed


def liability_factor(prevalence: float, sampled: float | None = None) -> float:
    """What a 0/1-scale heritability is multiplied by to give that of the liability.

    ``p(1 − p) / φ(Φ⁻¹(p))²`` (Dempster & Lerner 1950, Genetics 35:212). Where the trait was sampled
    at another rate s than it has in the population, ``p²(1 − p)² / (φ(Φ⁻¹(p))² s(1 − s))``
    (Lee et al. 2011, Am J Hum Genet 88:294).

    Parameters
    ----------
    prevalence
        Share p of the population that has the trait.
    sampled
        Share s of the records that have it; left out, the records are a random sample.

    Raises
    ------
    ValueError
        If a share does not lie between 0 and 1, both excluded.

    Examples
    --------
    >>> round(liability_factor(0.1), 7)
    2.9221098
    """
    share = prevalence if sampled is None else sampled
    for value in (prevalence, share):
        if not 0 < value < 1:
            raise ValueError(f"a share between 0 and 1 is needed, not {value}: some must have it")
    spread = prevalence * (1 - prevalence)
    height = float(norm.pdf(norm.ppf(prevalence)))
    return spread**2 / (height**2 * share * (1 - share))


def on_liability(observed: Estimate, prevalence: float, sampled: float | None = None) -> Estimate:
    """Heritability of the liability from one estimated on zeros and ones.

    Parameters
    ----------
    observed
        Heritability of the trait coded 0/1, e.g. of
        :func:`~lineage.evolution.inheritance.animal.fit_animal_model`.
    prevalence, sampled
        As for :func:`liability_factor`; taken as known.

    Returns
    -------
    Estimate
        The interval is scaled alike and cut to [0, 1]. NaN if the value exceeds 1: the 0/1 scale
        then carries something that no liability can (a common environment, a rare trait).
    """
    factor = liability_factor(prevalence, sampled)
    method = f"{observed.method}; × {factor:.4g} to the liability scale (Dempster & Lerner 1950)"
    value = observed.value * factor
    n_clusters = observed.n_clusters
    if not value <= 1:
        reason = "it was not on the 0/1 scale" if np.isnan(value) else f"{value:.3g} exceeds 1"
        return untrusted(observed.n, observed.level, method, reason, n_clusters or 0)
    return Estimate(
        value,
        max(observed.low * factor, min(value, 0.0)),
        min(observed.high * factor, 1.0),
        observed.level,
        observed.n,
        method,
        n_clusters,
        observed.p_value,
    )


@dataclass(frozen=True, slots=True)
class DataModel:
    """How data arise from the latent value ℓ.

    `mean` is the expected datum, `slope` its derivative, `variance` the variance of data around it.
    """

    mean: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]
    variance: Callable[[Floats], Floats]


def _normal_density(latent: Floats) -> Floats:
    return np.asarray(np.exp(-0.5 * latent**2) / np.sqrt(2 * np.pi))


DATA_MODELS: Mapping[str, DataModel] = MappingProxyType(
    {
        "probit": DataModel(ndtr, _normal_density, lambda x: ndtr(x) * ndtr(-x)),
        "logit": DataModel(expit, lambda x: expit(x) * expit(-x), lambda x: expit(x) * expit(-x)),
        "poisson": DataModel(np.exp, np.exp, np.exp),
    }
)
"""Yes/no data by a probit or logit link, counts by a logarithmic one."""


@dataclass(frozen=True, slots=True)
class DataScale:
    """What a latent normal model means for the data.

    Attributes
    ----------
    mean, variance
        Of the data.
    additive_variance
        Genetic variance of the data that breeding values make, ``Ψ² σ²_A``.
    heritability
        Their ratio.
    slope
        Ψ, the mean change of the data with the latent value.
    """

    mean: float
    variance: float
    additive_variance: float
    heritability: float
    slope: float


def data_scale(
    kind: str, latent_mean: float, additive_variance: float, latent_variance: float
) -> DataScale:
    """Translate a generalised animal model to the scale of its data.

    With latent ``ℓ ~ N(μ, V)``, expected data g⁻¹(ℓ) and their noise v(ℓ): mean ``E g⁻¹(ℓ)``,
    ``Ψ = E dg⁻¹/dℓ``, genetic variance ``Ψ² σ²_A``, and phenotypic variance ``Var g⁻¹(ℓ) + E v(ℓ)``
    (de Villemereuil et al. 2016, Genetics 204:1281), by Gauss–Hermite quadrature.

    Parameters
    ----------
    kind
        One of :data:`DATA_MODELS`: ``probit``, ``logit``, ``poisson``.
    latent_mean
        μ, the intercept.
    additive_variance
        σ²_A on the latent scale.
    latent_variance
        V, *all* latent variance: σ²_A, other random effects, and over-dispersion, without the
        link's own (1 or π²/3).

    Raises
    ------
    ValueError
        If the kind is unknown, the variances are not ``0 ≤ σ²_A ≤ V`` with V > 0, or V is so large
        that the quadrature cannot be believed.

    Examples
    --------
    >>> found = data_scale("probit", 0.0, 1.0, 2.0)
    >>> round(found.mean, 6), round(found.heritability, 7)
    (0.5, 0.2122066)
    """
    if kind not in DATA_MODELS:
        raise ValueError(f"no data model {kind}: there are {', '.join(DATA_MODELS)}")
    if not (np.isfinite(latent_mean) and np.isfinite(latent_variance)):
        raise ValueError("latent mean and variance must be finite")
    if not (latent_variance > 0 and 0 <= additive_variance <= latent_variance):
        raise ValueError(
            f"0 ≤ σ²_A ≤ V and V > 0 needed, not σ²_A = {additive_variance}, V = {latent_variance}"
        )
    mean, slope, variance = _moments(kind, latent_mean, latent_variance, _NODES)
    again = _moments(kind, latent_mean, latent_variance, _FEWER_NODES)
    if not np.allclose([mean, slope, variance], again, rtol=_QUADRATURE_ERROR, atol=0):
        raise ValueError(f"a latent variance of {latent_variance} is too large to integrate over")
    genetic = slope**2 * additive_variance
    return DataScale(mean, variance, genetic, genetic / variance, slope)


def _moments(
    kind: str, latent_mean: float, latent_variance: float, nodes: int
) -> tuple[float, float, float]:
    """Mean, mean slope and variance of the data."""
    model = DATA_MODELS[kind]
    point, weight = np.polynomial.hermite_e.hermegauss(nodes)
    weight = weight / weight.sum()
    latent = latent_mean + np.sqrt(latent_variance) * point
    expected = model.mean(latent)
    mean = float(weight @ expected)
    between = float(weight @ (expected - mean) ** 2)
    return (
        mean,
        float(weight @ model.slope(latent)),
        between + float(weight @ model.variance(latent)),
    )
