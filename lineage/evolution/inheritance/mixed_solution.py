"""Mixed-model equations solved at given variances: b, u, the likelihood and its slopes.

With the factor of C from :mod:`~lineage.evolution.inheritance.mixed_model`,

    log |V| = log |R| + Σ log |T_j ⊗ K_j| + log |C|
    V⁻¹ = R⁻¹ − R⁻¹ Z C⁻¹ Z' R⁻¹,    P = V⁻¹ − V⁻¹X (X'V⁻¹X)⁻¹ X'V⁻¹

X is replaced by an orthonormal basis and y by what ordinary least squares leaves of it, which
changes neither P nor Py but keeps their digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lineage.evolution.inheritance.mixed_model import Factor, MixedModel

__all__ = ["Solution", "log_determinant_slope"]

Floats = NDArray[np.float64]

_COMPLEX_STEP = 1e-20


@dataclass(frozen=True, eq=False)
class Solution:
    """A mixed model solved at parameters θ: estimates of b, predictions of u, likelihood."""

    model: MixedModel
    theta: Floats

    @cached_property
    def matrices(self) -> Floats:
        """T_1, T_2 …, R, shape (n_effects + 1, t, t)."""
        return np.asarray(self.model.matrices(self.theta), dtype=np.float64)

    @cached_property
    def _equations(self) -> tuple[csr_array, Factor | None]:
        return self.model.equations(self.matrices)

    def absorbed(self, right: Floats) -> tuple[Floats, Floats]:
        """``C⁻¹Z'R⁻¹B`` and ``V⁻¹B`` of right-hand sides B, shape (n, k)."""
        precision, factor = self._equations
        if factor is None:
            return np.empty((0, right.shape[1])), np.asarray(precision @ right)
        levels = factor.solve(np.asarray(self.model.design.T @ (precision @ right)))
        return levels, np.asarray(precision @ (right - self.model.design @ levels))

    @cached_property
    def _fixed(self) -> tuple[Floats, Floats]:
        """Predictions of u and ``V⁻¹Q``, Q being the basis of X."""
        return self.absorbed(self.model.basis)

    @cached_property
    def basis_covariance(self) -> Floats:
        """``(Q'V⁻¹Q)⁻¹``, shape (p, p)."""
        information = self.model.basis.T @ self._fixed[1]
        return np.asarray(np.linalg.inv(information), dtype=np.float64)

    @cached_property
    def fixed_covariance(self) -> Floats:
        """``(X'V⁻¹X)⁻¹``, shape (p, p)."""
        half = np.linalg.solve(self.model.coordinates, self.basis_covariance)
        return np.asarray(np.linalg.solve(self.model.coordinates, half.T))

    @cached_property
    def _moved(self) -> Floats:
        """Generalised least squares estimates on the basis, of the deviation."""
        return np.asarray(self.basis_covariance @ (self._fixed[1].T @ self.model.deviation))

    @property
    def fixed(self) -> Floats:
        """Generalised least squares estimates of b, shape (p,)."""
        whole = self.model.basis.T @ self.model.response + self._moved
        return np.asarray(np.linalg.solve(self.model.coordinates, whole))

    @cached_property
    def _random(self) -> tuple[Floats, Floats]:
        rest = self.model.deviation - self.model.basis @ self._moved
        levels, projected = self.absorbed(rest[:, None])
        return levels[:, 0], projected[:, 0]

    @property
    def levels(self) -> Floats:
        """Best linear unbiased predictions of u, in the order of the design's columns."""
        return self._random[0]

    @property
    def projected(self) -> Floats:
        """Py, shape (n,)."""
        return self._random[1]

    def project(self, right: Floats) -> Floats:
        """PB of right-hand sides B, shape (n, k)."""
        whole, fixed = self.absorbed(right)[1], self._fixed[1]
        return np.asarray(whole - fixed @ (self.basis_covariance @ (fixed.T @ right)))

    @cached_property
    def log_likelihood(self) -> float:
        """``−½ (log |V| + log |X'V⁻¹X| + y'Py)``: without the constant ``−½ (n − p) log 2π``."""
        model, t = self.model, self.model.n_traits
        factor = self._equations[1]
        total = 0.0 if factor is None else float(np.log(np.abs(factor.pivots)).sum())
        for traits, observations in model.patterns:
            block = self.matrices[-1][np.ix_(traits, traits)]
            total += observations.shape[0] * np.linalg.slogdet(block).logabsdet
        for matrix, effect in zip(self.matrices, model.effects, strict=False):
            q = effect.design.shape[1]
            total += q * np.linalg.slogdet(matrix).logabsdet + t * effect.log_determinant
        total -= np.linalg.slogdet(self.basis_covariance).logabsdet
        total += 2 * float(np.log(np.abs(np.diag(model.coordinates))).sum())
        return float(-0.5 * (total + model.deviation @ self.projected))

    def error_variance(self, levels: csr_array) -> Floats:
        """Prediction error variances of combinations of u, shape (k,).

        Rows of `levels` (k, number of u) are the combinations; one solve each. Errors of the fixed
        effects are contained (Henderson 1975, Biometrics 31:423).
        """
        factor = self._equations[1]
        if factor is None:
            raise ValueError("no random effects, so no errors of prediction")
        wanted = levels.toarray().T
        inner = np.einsum("ij,ij->j", wanted, factor.solve(wanted))
        through = levels @ self._fixed[0]
        return np.asarray(inner + np.einsum("ij,jk,ik->i", through, self.basis_covariance, through))

    def changes(self) -> Floats:
        """``V_i P y`` for every parameter i, where ``V_i = ∂V/∂θ_i``, shape (n, n_parameters)."""
        model, t = self.model, self.model.n_traits
        rows, columns = model.triangle
        found = []
        for j, (matrix, where) in enumerate(zip(self.matrices, model.columns, strict=False)):
            unscaled = np.linalg.solve(matrix, self.levels[where].reshape(t, -1))
            for row, column in zip(rows, columns, strict=True):
                drawn = np.zeros_like(unscaled)
                drawn[row] = unscaled[column]
                drawn[column] = unscaled[row]
                found.append(model.design[:, model.columns[j]] @ drawn.ravel())
        for row, column in zip(rows, columns, strict=True):
            found.append(model.residual_times(_unit(t, row, column), self.projected))
        return np.column_stack(found)


def log_determinant_slope(solution: Solution, direction: Floats) -> float:
    """``tr(P V_d)``, the slope of ``log |V| + log |X'V⁻¹X|`` along a direction of θ.

    By a complex step (Squire & Trapp 1998, SIAM Rev 40:110): C factorised at θ + ih with h = 10⁻²⁰
    carries the derivative in its imaginary part, exact to rounding because nothing is subtracted.
    """
    model = solution.model
    slopes = model.matrices(direction)
    stepped = solution.matrices + 1j * _COMPLEX_STEP * slopes
    precision, factor = model.equations(stepped)
    if factor is None:
        raise ValueError("no random effects: the only slope follows from the scale of V")
    pivots = factor.pivots
    total = float((pivots.imag / pivots.real).sum()) / _COMPLEX_STEP
    crossed = precision @ model.basis
    absorbed = np.asarray(model.design.T @ crossed)
    information = model.basis.T @ crossed - absorbed.T @ factor.solve(absorbed)
    total += float(np.trace(solution.basis_covariance @ information.imag)) / _COMPLEX_STEP
    for traits, observations in model.patterns:
        block = np.ix_(traits, traits)
        inner = np.linalg.solve(solution.matrices[-1][block], slopes[-1][block])
        total += observations.shape[0] * float(np.trace(inner))
    for matrix, slope, effect in zip(solution.matrices, slopes, model.effects, strict=False):
        total += effect.design.shape[1] * float(np.trace(np.linalg.solve(matrix, slope)))
    return total


def _unit(t: int, row: int, column: int) -> Floats:
    matrix = np.zeros((t, t))
    matrix[row, column] = matrix[column, row] = 1.0
    return matrix
