"""The animal model of two traits: whether what makes one large also makes the other large.

``Var(a) = G ⊗ A`` and ``Var(e) = R ⊗ I`` with G and R covariance matrices among the two traits. The
genetic covariance of a trait with relative fitness w is the trait's predicted evolutionary change
in one generation, ``Δz̄ = Cov_A(w, z)`` (the secondary theorem of selection: Robertson 1966, Anim
Prod 8:95; Price 1970, Nature 227:520). Unlike ``h²S`` it is not misled by an environment that makes
both trait and fitness large (Morrissey, Kruuk & Wilson 2010, J Evol Biol 23:2277).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from lineage.evolution.clusters import untrusted
from lineage.evolution.inheritance.animal_design import ANIMAL, RESIDUAL, animal_design
from lineage.evolution.inheritance.relatedness import Relatedness
from lineage.evolution.inheritance.sparse_reml import Optimum, maximise, start
from lineage.model import Estimate

__all__ = ["BivariateFit", "fit_bivariate_model"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_PER_EFFECT = 3  # variance of the first trait, covariance, variance of the second
_EDGE = 1e-4  # least eigenvalue of a correlation matrix that counts as inside


@dataclass(frozen=True, eq=False)
class BivariateFit:
    """An animal model of two traits fitted by REML. Made by :func:`fit_bivariate_model`.

    Attributes
    ----------
    effects
        Names of the components: ``animal``, the groups, ``residual``.
    matrices : (k, 2, 2)
        Covariance of the two traits in each component.
    parameter_covariance : (3k, 3k)
        Inverse average information about variance, covariance, variance of each component in turn.
    fixed_names, fixed, fixed_covariance
        Estimates of b, of the first trait and then of the second, with their covariance.
    log_likelihood
        Restricted, without ``½ (n − p) log 2π``, n counting the values of both traits.
    n_records
        Records with either trait.
    n_founders
        Founders they descend from: the independent units.
    problem
        Why no estimate can be trusted; empty when all can.
    level
        Coverage of intervals.
    """

    effects: tuple[str, ...]
    matrices: Floats
    parameter_covariance: Floats
    fixed_names: tuple[str, ...]
    fixed: Floats
    fixed_covariance: Floats
    log_likelihood: float
    n_records: int
    n_founders: int
    problem: str
    level: float
    _optimum: Optimum

    def covariance(self, effect: str = ANIMAL) -> Estimate:
        """Covariance of the two traits in one component; the p-value is of a likelihood ratio.

        In ``animal`` it is the genetic covariance, and with relative fitness as one of the traits
        the predicted response to selection of the other.
        """
        block = self._block(effect)
        error = float(np.sqrt(self._errors(block)[1, 1]))
        value = float(self.matrices[self.effects.index(effect), 1, 0])
        method = f"covariance of {effect} in a bivariate animal model by REML"
        reach = float(norm.ppf((1 + self.level) / 2)) * error
        return self._estimate(value, (value - reach, value + reach), error, method, effect)

    def correlation(self, effect: str = ANIMAL) -> Estimate:
        """Correlation of the two traits in one component, e.g. the genetic correlation.

        Its SE is that of the delta method; the interval is normal in Fisher's z, so that it stays
        within ±1.
        """
        block = self._block(effect)
        (first, crossed), (_, second) = self.matrices[self.effects.index(effect)]
        value = float(crossed / np.sqrt(first * second))
        slope = np.array([-value / (2 * first), value / crossed, -value / (2 * second)])
        if crossed == 0:
            slope[1] = 1 / np.sqrt(first * second)
        error = float(np.sqrt(slope @ self._errors(block) @ slope))
        method = f"correlation of {effect} in a bivariate animal model by REML"
        if self.problem:
            return self._estimate(value, (value, value), error, method, effect)
        reach = float(norm.ppf((1 + self.level) / 2)) * error / (1 - value**2)
        ends = np.tanh(np.arctanh(value) + np.array([-reach, reach]))
        return self._estimate(value, (float(ends[0]), float(ends[1])), error, method, effect)

    def share(self, trait: int, effect: str = ANIMAL) -> Estimate:
        """Share of one component in the summed variance of trait 0 or 1, e.g. its heritability."""
        if trait not in {0, 1}:
            raise ValueError(f"traits are 0 and 1, not {trait}")
        self._block(effect)
        place = 2 * trait + _PER_EFFECT * np.arange(len(self.effects))
        variance = self.matrices[:, trait, trait]
        chosen = np.arange(len(self.effects)) == self.effects.index(effect)
        value = float(variance[chosen][0] / variance.sum())
        slope = (chosen - value) / variance.sum()
        among = self.parameter_covariance[np.ix_(place, place)]
        error = float(np.sqrt(slope @ among @ slope))
        method = f"share of {effect} in Σσ² of trait {trait} in a bivariate animal model by REML"
        reach = float(norm.ppf((1 + self.level) / 2)) * error
        ends = (max(value - reach, 0.0), min(value + reach, 1.0))
        return self._estimate(value, ends, error, method, None)

    def _block(self, effect: str) -> slice:
        if effect not in self.effects:
            raise ValueError(f"no effect {effect}: there are {', '.join(self.effects)}")
        first = _PER_EFFECT * self.effects.index(effect)
        return slice(first, first + _PER_EFFECT)

    def _errors(self, block: slice) -> Floats:
        return self.parameter_covariance[block, block]

    @cached_property
    def _p_values(self) -> dict[str, float]:
        return {}

    def _p_value(self, effect: str) -> float:
        """Of a covariance of zero: that is no boundary, so the ratio is χ²₁."""
        if effect not in self._p_values:
            solution = self._optimum.solution
            zero = self._block(effect).start + 1
            basis = np.delete(np.eye(solution.theta.size), zero, axis=1)
            without = maximise(solution.model, np.delete(solution.theta, zero), basis)
            gain = self.log_likelihood - without.solution.log_likelihood
            self._p_values[effect] = float(chi2.sf(max(2 * gain, 0.0), 1))
        return self._p_values[effect]

    def _estimate(
        self,
        value: float,
        ends: tuple[float, float],
        error: float,
        method: str,
        tested: str | None,
    ) -> Estimate:
        if self.problem:
            return untrusted(self.n_records, self.level, method, self.problem, self.n_founders)
        return Estimate(
            value,
            ends[0],
            ends[1],
            self.level,
            self.n_records,
            f"{method}; SE {error:.4g}",
            self.n_founders,
            None if tested is None else self._p_value(tested),
        )


def fit_bivariate_model(
    traits: Floats,
    fixed: Floats,
    fixed_names: Sequence[str],
    related: Relatedness,
    node: Ints,
    groups: Mapping[str, Ints] | None = None,
    *,
    level: float = 0.95,
) -> BivariateFit:
    """Fit an animal model of two traits by restricted maximum likelihood.

    Parameters
    ----------
    traits : (n_records, 2)
        A record may lack one trait (NaN): it still takes part with the other, so that selective
        measurement of one trait is corrected as far as the other tells of it.
    fixed, fixed_names, related, node, groups, level
        As for :func:`~lineage.evolution.inheritance.animal.fit_animal_model`; the same fixed
        effects are estimated for each trait.

    Returns
    -------
    BivariateFit
        Where the likelihood is highest at a correlation of ±1 or a variance of 0, no error holds:
        every estimate is NaN and says so.

    Raises
    ------
    ValueError
        As :func:`~lineage.evolution.inheritance.animal.fit_animal_model`, or if there are not two
        traits.
    """
    if traits.ndim != 2 or traits.shape[1] != 2:
        raise ValueError(f"two traits, a column each, expected; shape {traits.shape} given")
    design = animal_design(traits, fixed, fixed_names, related, node, groups or {})
    effects = (*(effect.name for effect in design.model.effects), RESIDUAL)
    optimum = maximise(design.model, start(design.model))
    solution = optimum.solution
    return BivariateFit(
        effects,
        solution.matrices,
        np.asarray(np.linalg.inv(optimum.information), dtype=np.float64),
        tuple(f"{name} of trait {trait}" for trait in (0, 1) for name in fixed_names),
        solution.fixed,
        solution.fixed_covariance,
        solution.log_likelihood,
        int(design.used.sum()),
        design.n_founders,
        _problem(optimum, effects),
        level,
        optimum,
    )


def _problem(optimum: Optimum, effects: Sequence[str]) -> str:
    for effect, matrix in zip(effects, optimum.solution.matrices, strict=True):
        variance = np.diag(matrix)
        correlation = matrix / np.sqrt(np.outer(variance, variance))
        lost = optimum.at_floor.any() or np.linalg.eigvalsh(correlation)[0] < _EDGE
        if lost:
            return f"{effect} at its boundary (a correlation of ±1 or a variance of 0)"
    return "" if optimum.converged else "the likelihood could not be climbed"
