"""Mixed models with sparse precision matrices, and the factor of their equations.

``y = Xb + Σ_j Z_j u_j + e``, ``u_j ~ N(0, T_j ⊗ K_j)``, ``e ~ N(0, R)``, for one trait (T and R are
variances) or several (T and R are covariance matrices among traits, some of them unobserved).
Everything is read from the mixed-model equations (Henderson 1950, 1984) with the fixed effects
absorbed, ``C = Z'R⁻¹Z + diag(T_j⁻¹ ⊗ K_j⁻¹)``, whose factor stays nearly as sparse as a pedigree.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import block_diag, coo_array, csc_array, csr_array, hstack, kron
from scipy.sparse.linalg import SuperLU, splu

__all__ = ["Factor", "MixedModel", "RandomEffect"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Numbers = NDArray[Any]  # real, or complex for the complex step


@dataclass(frozen=True, eq=False)
class RandomEffect:
    """One random effect: which levels each record draws on, and how levels covary.

    Attributes
    ----------
    name
        For messages and results.
    design : (n_records, q)
        Z of one trait.
    precision : (q, q)
        K⁻¹, sparse; the identity for independent levels.
    log_determinant
        ``log |K|``.
    """

    name: str
    design: csr_array
    precision: csc_array
    log_determinant: float


@dataclass(frozen=True, eq=False)
class MixedModel:
    """The observations and effects of a mixed model, stacked over traits.

    Parameters θ are the lower triangles of T_1, T_2 …, R in turn, each of t(t + 1)/2 values row by
    row; for one trait simply the variances, the residual's last.

    Attributes
    ----------
    response : (n,)
        Observed values of all traits.
    fixed : (n, p)
        X, of full column rank.
    record, trait : (n,)
        Record and trait that each observation belongs to, no two the same; residuals covary
        within a record.
    effects
        Random effects other than the residual.
    n_traits
        Number of traits t.
    """

    response: Floats
    fixed: Floats
    record: Ints
    trait: Ints
    effects: tuple[RandomEffect, ...]
    n_traits: int = 1

    @cached_property
    def _orthogonal(self) -> tuple[Floats, Floats]:
        """Q and R of X: an origin or a unit far from the data's own would cost digits."""
        basis, triangle = np.linalg.qr(self.fixed)
        return np.asarray(basis, dtype=np.float64), np.asarray(triangle, dtype=np.float64)

    @property
    def basis(self) -> Floats:
        """Orthonormal columns that span X, shape (n, p)."""
        return self._orthogonal[0]

    @property
    def coordinates(self) -> Floats:
        """The triangle R of ``X = QR``, Q being the basis, shape (p, p)."""
        return self._orthogonal[1]

    @cached_property
    def deviation(self) -> Floats:
        """What X leaves of the response by ordinary least squares, shape (n,)."""
        once = self.response - self.basis @ (self.basis.T @ self.response)
        return np.asarray(once - self.basis @ (self.basis.T @ once))  # again, for its rounding

    def without(self, names: Collection[str]) -> MixedModel:
        """The same observations without some random effects."""
        return replace(self, effects=tuple(e for e in self.effects if e.name not in names))

    @cached_property
    def triangle(self) -> tuple[Ints, Ints]:
        """Rows and columns of one lower triangle, in the order of its parameters."""
        rows, columns = np.tril_indices(self.n_traits)
        return rows.astype(np.int64), columns.astype(np.int64)

    @cached_property
    def is_variance(self) -> NDArray[np.bool_]:
        """Which parameters lie on a diagonal."""
        rows, columns = self.triangle
        return np.tile(rows == columns, len(self.effects) + 1)

    def matrices(self, theta: Numbers) -> Numbers:
        """T_1, T_2 …, R of parameters θ, shape (n_effects + 1, t, t)."""
        rows, columns = self.triangle
        found = np.zeros((len(self.effects) + 1, self.n_traits, self.n_traits), dtype=theta.dtype)
        values = theta.reshape(len(self.effects) + 1, rows.size)
        found[:, rows, columns] = values
        found[:, columns, rows] = values
        return found

    @cached_property
    def design(self) -> csr_array:
        """Z of all random effects side by side; within one, trait after trait."""
        blocks = [csr_array((self.response.size, 0))]
        for effect in self.effects:
            rows = csr_array(effect.design[self.record])
            q = rows.shape[1]
            columns = rows.indices + q * np.repeat(self.trait, np.diff(rows.indptr))
            shape = (rows.shape[0], q * self.n_traits)
            blocks.append(csr_array((rows.data, columns, rows.indptr), shape=shape))
        return csr_array(hstack(blocks, format="csr"))

    @cached_property
    def columns(self) -> tuple[slice, ...]:
        """Where the levels of each random effect stand among the columns of `design`."""
        ends = np.cumsum([0, *(self.n_traits * e.design.shape[1] for e in self.effects)]).tolist()
        return tuple(slice(low, high) for low, high in pairwise(ends))

    @cached_property
    def patterns(self) -> list[tuple[Ints, Ints]]:
        """Records grouped by the traits they have: traits (k,), observations (n_records, k)."""
        observation = np.full((int(self.record.max()) + 1, self.n_traits), -1, dtype=np.int64)
        observation[self.record, self.trait] = np.arange(self.response.size)
        code = (observation >= 0) @ (1 << np.arange(self.n_traits))
        found = []
        for present in np.unique(code[code > 0]).tolist():
            traits = np.flatnonzero([present >> trait & 1 for trait in range(self.n_traits)])
            found.append((traits, observation[code == present][:, traits]))
        return found

    def residual_precision(self, residual: Numbers) -> csr_array:
        """R⁻¹ from the residual matrix among traits: for each record, of the traits it has."""
        rows, columns, values = [], [], []
        for traits, observations in self.patterns:
            count, k = observations.shape
            rows.append(np.repeat(observations, k, axis=1).ravel())
            columns.append(np.tile(observations, (1, k)).ravel())
            inverse = np.linalg.inv(residual[np.ix_(traits, traits)])
            values.append(np.tile(inverse.ravel(), count))
        n = self.response.size
        entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        return csr_array(coo_array(entries, shape=(n, n)))

    def residual_times(self, residual: Floats, vector: Floats) -> Floats:
        """The residual covariance of all observations times `vector`, shape (n,)."""
        product = np.empty_like(vector)
        for traits, observations in self.patterns:
            product[observations] = vector[observations] @ residual[np.ix_(traits, traits)]
        return product

    @cached_property
    def order(self) -> Ints:
        """An order of the levels in which factorising C fills little, found once.

        It is the minimum degree order of SuperLU, read from a factor at variances of 1; finding it
        takes longer than a factorisation.
        """
        one = np.stack([np.eye(self.n_traits)] * (len(self.effects) + 1))
        crossed = self.design.T @ (self.residual_precision(one[-1]) @ self.design)
        factor = _factorised(crossed + self._own(one), "MMD_AT_PLUS_A")
        return np.asarray(np.argsort(factor.perm_c), dtype=np.int64)

    def _own(self, matrices: Numbers) -> csc_array:
        return csc_array(
            block_diag(
                [
                    kron(csc_array(np.linalg.inv(matrix)), effect.precision, format="csc")
                    for matrix, effect in zip(matrices, self.effects, strict=False)
                ],
                format="csc",
            )
        )

    def equations(self, matrices: Numbers) -> tuple[csr_array, Factor | None]:
        """R⁻¹ and the factorised C at T_1 …, R; complex if those are.

        None stands for C when there are no random effects.
        """
        precision = self.residual_precision(matrices[-1])
        if not self.effects:
            return precision, None
        crossed = csc_array(self.design.T @ (precision @ self.design)) + self._own(matrices)
        ordered = csc_array(crossed)[self.order][:, self.order]
        return precision, Factor(_factorised(ordered, "NATURAL"), self.order)


@dataclass(frozen=True, eq=False)
class Factor:
    """A factorised C with its levels in another order."""

    triangular: SuperLU[Any]
    order: Ints

    @property
    def pivots(self) -> Numbers:
        """Numbers whose product is ``|C|``, up to sign."""
        return np.asarray(self.triangular.U.diagonal())

    def solve(self, right: Numbers) -> Numbers:
        """``C⁻¹B``, shape (n_levels, k); B must be complex if C is."""
        ordered = self.triangular.solve(np.ascontiguousarray(right[self.order]))
        solved = np.empty_like(ordered)
        solved[self.order] = ordered
        return solved


def _factorised(matrix: csc_array, order: Literal["MMD_AT_PLUS_A", "NATURAL"]) -> SuperLU[Any]:
    """LU factor with pivots from the diagonal, as in a Cholesky factor: C is positive definite."""
    matrix = csc_array(matrix)
    matrix.indices = matrix.indices.astype(np.int32)  # all that SuperLU reads
    matrix.indptr = matrix.indptr.astype(np.int32)
    factor: SuperLU[Any] = splu(
        matrix, permc_spec=order, diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    return factor
