"""What a fitted animal model says: variances, shares, tests, effects, breeding values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import norm

from lineage.evolution.clusters import untrusted
from lineage.evolution.inheritance.animal_design import ANIMAL, RESIDUAL, AnimalDesign
from lineage.evolution.inheritance.mixed_solution import Solution
from lineage.evolution.inheritance.relatedness import Relatedness
from lineage.evolution.inheritance.sparse_reml import fit_variances, maximise
from lineage.evolution.inheritance.spectral_reml import Spectrum, boundary_p_value, profile_interval
from lineage.model import Estimate

__all__ = ["AnimalModelFit", "LikelihoodRatio"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_LEAST_SHARE = 1e-4  # as near as a profile of h² comes to 1


@dataclass(frozen=True, slots=True)
class LikelihoodRatio:
    """Test of one variance against zero: ``statistic`` is twice the gain in log-likelihood."""

    effect: str
    statistic: float
    p_value: float
    method: str


@dataclass(frozen=True, eq=False)
class AnimalModelFit:
    """An animal model fitted by REML.

    Made by :func:`~lineage.evolution.inheritance.animal.fit_animal_model`.

    Attributes
    ----------
    effects
        Names of the variance components: ``animal``, the groups, ``residual``.
    variance : (k,)
        Their values in squared units of the trait; exactly 0 on the boundary.
    variance_covariance : (k, k)
        Inverse of the average information; NaN for components on the boundary, for all when the
        variances were given.
    at_boundary : (k,)
        Components whose likelihood is highest at zero.
    fixed_names, fixed, fixed_covariance
        Estimates of b and their covariance (p, p), with the variances taken as known.
    log_likelihood
        Restricted: ``−½ (log |V| + log |X'V⁻¹X| + y'Py)``, as ASReml prints it. Subtract
        ``½ (n − p) log 2π`` for the density of y (lme4, nlme), and add ``½ log |X'X|`` for that of
        orthonormal error contrasts (EMMA).
    n_records, n_left_out
        Records that took part, and those with something missing.
    n_founders
        Founders they descend from: the independent units.
    converged
        False if the climb stalled; every estimate is then NaN.
    level
        Coverage of intervals.
    """

    effects: tuple[str, ...]
    variance: Floats
    variance_covariance: Floats
    at_boundary: Bools
    fixed_names: tuple[str, ...]
    fixed: Floats
    fixed_covariance: Floats
    log_likelihood: float
    n_records: int
    n_left_out: int
    n_founders: int
    converged: bool
    level: float
    _design: AnimalDesign
    _solution: Solution
    _spectrum: Spectrum | None
    _pedigree: Relatedness | None

    # -- variances ------------------------------------------------------------------------------

    def component(self, effect: str) -> Estimate:
        """One variance with its normal interval, cut at 0; NaN on the boundary."""
        i = self._number(effect)
        return self._normal(
            float(self.variance[i]),
            np.eye(len(self.effects))[i],
            f"variance of {effect} by REML",
            (0.0, np.inf),
        )

    @property
    def heritability(self) -> Estimate:
        """``h² = σ²_A / Σσ²`` with its interval by the delta method.

        It refers to the founders: σ²_A is the variance among unrelated models of variance 1. See
        :meth:`share_among_records` for the living, and :meth:`heritability_profile` for an
        interval that is usable near 0 and 1.

        Raises
        ------
        ValueError
            If the model has no breeding values.
        """
        return self.share(ANIMAL)

    def share(self, *effects: str) -> Estimate:
        """Share of some components in the sum of all, e.g. a repeatability; delta method.

        Raises
        ------
        ValueError
            If there is no such component, or all are named.
        """
        return self._share(effects, np.ones(len(self.effects)), "Σσ²")

    def share_among_records(self, *effects: str) -> Estimate:
        """Share of some components in the variance *among these records*; delta method.

        Each component counts by the sample variance that it is expected to make among the records,
        ``σ²_j (mean diag K_j − mean K_j) n/(n − 1)`` (Legarra 2016, Theor Popul Biol 107:26). In a
        pedigree of founders, fine-tunes and merges this differs from the share in ``Σσ²``:
        relatives share what does not make them differ, fine-tunes add, merges average.
        """
        return self._share(effects, self.spread, "the variance among the records")

    @cached_property
    def spread(self) -> Floats:
        """Expected sample variance among the records that σ²_j = 1 would make, shape (k,)."""
        design, n = self._design, self.n_records
        made = []
        for effect in design.model.effects:
            if effect.name == ANIMAL and design.related is not None:
                place = np.searchsorted(design.members, design.node)
                diagonal = float(design.related.diagonal[place].mean())
                mean = design.related.mean_covariance(place)
            else:
                sizes = np.asarray(effect.design.sum(axis=0))
                diagonal, mean = 1.0, float(sizes @ sizes) / n**2
            made.append((diagonal - mean) * n / (n - 1))
        return np.array([*made, 1.0])

    def heritability_profile(self) -> Estimate:
        """h² with its profile-likelihood interval within [0, 1], and the p-value of σ²_A = 0.

        Every point of the profile is a fit of the other components, some 15 fits in all; instant
        for breeding values alone in a small model, which are decomposed once.
        """
        self._number(ANIMAL)
        model = self._design.model
        if self._spectrum is not None:
            return self._spectrum.heritability(level=self.level, n_clusters=self.n_founders)
        method = "h² = σ²_A/Σσ² by REML; profile-likelihood interval"
        if not self.converged:
            return self._untrusted(method, "the likelihood could not be climbed")
        k, total = len(self.effects), float(self.variance.sum())
        without = fit_variances(model.without({ANIMAL})).solution.log_likelihood
        others = np.maximum(self.variance[1:], _LEAST_SHARE * total)

        def log_likelihood(share: float) -> float:
            if share == peak:
                return self.log_likelihood
            if share == 0:
                return without
            share = min(share, 1 - _LEAST_SHARE)  # at 1 itself V could be singular
            basis = np.vstack([np.full(k - 1, share / (1 - share)), np.eye(k - 1)])
            initial = others * ((1 - share) * total / others.sum())
            return maximise(model, initial, basis).solution.log_likelihood

        peak = float(self.variance[0] / self.variance.sum())
        low, high = profile_interval(log_likelihood, peak, self.level)
        p_value = boundary_p_value(2 * (self.log_likelihood - without))
        return Estimate(
            peak, low, high, self.level, self.n_records, method, self.n_founders or None, p_value
        )

    def likelihood_ratio(self, effect: str) -> LikelihoodRatio:
        """Test one variance against zero by refitting without it.

        The p-value is half that of χ²₁, because a variance cannot be negative (Self & Liang 1987).

        Raises
        ------
        ValueError
            If there is no such component, or it is the residual.
        """
        if effect == RESIDUAL:
            raise ValueError("a model without residual is not fitted")
        statistic = 0.0
        if not self.at_boundary[self._number(effect)]:
            reduced = fit_variances(self._design.model.without({effect})).solution
            statistic = max(2 * (self.log_likelihood - reduced.log_likelihood), 0.0)
        return LikelihoodRatio(
            effect,
            statistic,
            boundary_p_value(statistic),
            "restricted likelihood ratio; ½χ²₀ + ½χ²₁ at the boundary",
        )

    # -- effects --------------------------------------------------------------------------------

    def fixed_effect(self, name: str) -> Estimate:
        """A fixed effect with its normal interval and the p-value of 0."""
        if name not in self.fixed_names:
            raise ValueError(f"no fixed effect {name}: there are {', '.join(self.fixed_names)}")
        i = self.fixed_names.index(name)
        method = f"fixed effect {name} of the animal model"
        error = float(np.sqrt(self.fixed_covariance[i, i]))
        if not self.converged:
            return self._untrusted(method, "the likelihood could not be climbed")
        value, reach = float(self.fixed[i]), float(norm.ppf((1 + self.level) / 2)) * error
        return Estimate(
            value,
            value - reach,
            value + reach,
            self.level,
            self.n_records,
            f"{method}; variances taken as known; SE {error:.4g}",
            self.n_founders or None,
            float(2 * norm.sf(abs(value) / error)),
        )

    @cached_property
    def breeding_values(self) -> Floats:
        """Best linear unbiased prediction of every model of the pedigree, shape (n_models,).

        Models without records are predicted from their relatives; those related to no record get 0.
        """
        if self._pedigree is None or self._design.related is None:
            raise ValueError("the model has no breeding values")
        kept = self.group_values(ANIMAL)
        return self._pedigree.expected(self._design.members, self._design.related.expression @ kept)

    def group_values(self, effect: str) -> Floats:
        """Predictions of the levels of a random effect; those of groups in the order of labels."""
        self._number(effect)
        names = [e.name for e in self._solution.model.effects]
        if effect in names:
            return self._solution.levels[self._solution.model.columns[names.index(effect)]]
        whole = {e.name: e for e in self._design.model.effects}
        return np.zeros(whole[effect].design.shape[1])  # on the boundary nothing is predicted

    def group_labels(self, effect: str) -> Ints:
        """Labels of the levels of a group effect, in the order of :meth:`group_values`."""
        return self._design.levels[effect]

    def reliability(self, nodes: Ints) -> Floats:
        """Squared accuracy of breeding values, ``1 − PEV / (A_ii σ²_A)``, shape (s,).

        Parameters
        ----------
        nodes : (s,)
            Recorded models or their ancestors, as nodes of the pedigree; one solve of the equations
            for each.

        Raises
        ------
        ValueError
            If a model is neither, or the genetic variance is on its boundary.
        """
        related, members = self._design.related, self._design.members
        if related is None or self.at_boundary[self._number(ANIMAL)]:
            raise ValueError("no genetic variance, so nothing that a prediction could explain")
        place = np.minimum(np.searchsorted(members, nodes), members.size - 1)
        if (members[place] != nodes).any():
            raise ValueError("reliability is of models with records and their ancestors")
        drawn = csr_array(related.expression[place])
        width = self._solution.model.design.shape[1]
        padded = csr_array((drawn.data, drawn.indices, drawn.indptr), shape=(nodes.size, width))
        error = self._solution.error_variance(padded)
        return np.asarray(1 - error / (related.diagonal[place] * self.variance[0]))

    # -- ----------------------------------------------------------------------------------------

    def _number(self, effect: str) -> int:
        if effect not in self.effects:
            raise ValueError(f"no effect {effect}: there are {', '.join(self.effects)}")
        return self.effects.index(effect)

    def _untrusted(self, method: str, reason: str) -> Estimate:
        return untrusted(self.n_records, self.level, method, reason, self.n_founders)

    def _share(self, effects: Sequence[str], weight: Floats, of: str) -> Estimate:
        chosen = np.zeros(len(self.effects))
        chosen[[self._number(effect) for effect in effects]] = 1.0
        if chosen.all():
            raise ValueError("the share of all components is 1 whatever the data: leave one out")
        whole = float(weight @ self.variance)
        value = float((chosen * weight) @ self.variance) / whole
        slope = weight * (chosen - value) / whole
        name = " + ".join(effects)
        return self._normal(value, slope, f"share of {name} in {of} by REML", (0.0, 1.0), chosen)

    def _normal(
        self,
        value: float,
        slope: Floats,
        method: str,
        limits: tuple[float, float],
        chosen: Floats | None = None,
    ) -> Estimate:
        """Normal interval of a function of the variances, by its slope."""
        matters = slope != 0 if chosen is None else chosen != 0
        if not self.converged:
            return self._untrusted(method, "the likelihood could not be climbed")
        zero = [
            e for e, at, m in zip(self.effects, self.at_boundary, matters, strict=True) if at and m
        ]
        if zero:
            reason = f"{', '.join(zero)} at its boundary 0, where no standard error holds"
            return self._untrusted(method, reason)
        free = ~self.at_boundary
        error = float(
            np.sqrt(slope[free] @ self.variance_covariance[np.ix_(free, free)] @ slope[free])
        )
        if error == 0:  # a share of 1: all else is zero, which is no certainty
            reason = "every other component at its boundary 0"
            return self._untrusted(method, reason)
        if not np.isfinite(error):
            return self._untrusted(method, "the variances were given")
        if self.at_boundary.any():
            held = ", ".join(np.array(self.effects)[self.at_boundary])
            method += f", {held} being 0 at its boundary"
        reach = float(norm.ppf((1 + self.level) / 2)) * error
        return Estimate(
            value,
            max(value - reach, limits[0]),
            min(value + reach, limits[1]),
            self.level,
            self.n_records,
            f"{method}; SE {error:.4g}, normal interval",
            self.n_founders or None,
        )
