"""Relatedness of models: the covariance of what they inherit, and its sparse inverse.

A child inherits shares of its parents and adds something of its own,
``a_i = Σ_k w_ik a_k + m_i``, ``Var(m_i) = d_i σ²_A``. With W the matrix of shares and
``D = diag(d)``

    A = (I − W)⁻¹ D (I − W)⁻ᵀ        A⁻¹ = (I − W)ᵀ D⁻¹ (I − W)

(Henderson 1976, Biometrics 32:69; Quaas 1976, Biometrics 32:949). Nothing in it needs two parents.
It holds Mendelian pedigrees (w = ½, d = ½ − (F_s + F_d)/4), Brownian motion on networks with
unequal hybrids (d = Σ w_k² t_k; Bastide et al. 2018, Syst Biol 67:800), clonal descent (w = 1, d
the variance of a fine-tune), and merging, which blends: d near 0, so variance shrinks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, diags_array, eye_array

from lineage.evolution.inheritance.covariance_sweep import covariance_sweep
from lineage.evolution.inheritance.shares import descend, share_sums, shares_of_parents
from lineage.graph import LineageGraph

__all__ = ["Relatedness", "mendelian", "relatedness", "variance_by_kind"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Relatedness:
    """The matrix A of a pedigree, never formed. Make it with :func:`relatedness`.

    Values are in units of a founder's variance: 1 for a founder of variance 1. They refer to the
    founders, not to the living population: along fine-tunes the diagonal grows, over merges it
    shrinks. In diploid terms A is twice the kinship, and its diagonal 1 + F.

    Attributes
    ----------
    graph
        The pedigree.
    variance : (n,)
        Own variance d of each model. Models with 0 are exact combinations of their parents.
    """

    graph: LineageGraph
    variance: Floats

    @cached_property
    def shares(self) -> csr_array:
        """W, the share of each model (row) that came from each other, shape (n, n)."""
        return shares_of_parents(self.graph)

    @cached_property
    def kept(self) -> Ints:
        """Nodes with variance of their own, in order of `graph.ids`, shape (m,)."""
        return np.flatnonzero(self.variance > 0)

    @cached_property
    def expression(self) -> csr_array:
        """Every model as a combination of the kept ones, shape (n, m).

        A kept model is itself. A copy (d = 0, one parent of share 1) is the model it copies; a
        merge of d = 0 is its parents' weighted sum, through chains of them.
        """
        n, m = self.variance.size, self.kept.size
        itself = csr_array((np.ones(m), (self.kept, np.arange(m))), shape=(n, m))
        if m == n:
            return itself
        within = diags_array((self.variance == 0).astype(float)) @ self.shares
        return descend(csr_array(within), itself)

    @cached_property
    def inverse(self) -> csc_array:
        """A⁻¹ among the kept models, sparse and symmetric, shape (m, m).

        One row of K parents adds (K + 1)² entries: linear in models, about 10 s for three million.
        """
        shares = self.shares
        if self.kept.size < self.variance.size:
            shares = csr_array(shares[self.kept] @ self.expression)
        own = eye_array(self.kept.size, format="csr") - shares
        weighted = diags_array(1 / self.variance[self.kept]) @ own
        return csc_array(own.T.tocsr() @ weighted)

    @cached_property
    def log_determinant(self) -> float:
        """``log |A|`` among the kept models: I − W is triangular with ones, so it is Σ log d."""
        return float(np.log(self.variance[self.kept]).sum())

    @cached_property
    def diagonal(self) -> Floats:
        """Variance A_ii of every model, shape (n,); minus 1 it is Wright's F when Mendelian.

        Cost: see :func:`~lineage.evolution.inheritance.covariance_sweep.covariance_sweep`.
        """
        nobody = np.empty(0, dtype=np.int64)
        return covariance_sweep(self.graph, self.shares, self.variance, nobody, nobody).diagonal

    def between(self, first: Sequence[str], second: Sequence[str]) -> Floats:
        """Covariances A_ij of pairs of models, exact, shape (n_pairs,).

        Parameters
        ----------
        first, second
            Models, pair by pair.

        Raises
        ------
        ValueError
            If the two are not of one length.
        KeyError
            If a model is not in the pedigree.
        """
        if len(first) != len(second):
            raise ValueError(f"pairs expected: {len(first)} first and {len(second)} second models")
        one, other = (
            np.array([self.graph.number(model) for model in models], dtype=np.int64)
            for models in (first, second)
        )
        return covariance_sweep(self.graph, self.shares, self.variance, one, other).covariance

    def matrix(self, nodes: Ints) -> Floats:
        """A among some nodes, dense, shape (s, s).

        By what each node draws from each of its ancestors (Colleau 2002, Genet Sel Evol 34:409):
        memory grows with the nodes times their ancestors, never with the pedigree squared.
        """
        n, s = self.variance.size, nodes.size
        chosen = csr_array((np.ones(s), (nodes, np.arange(s))), shape=(n, s))
        drawn = descend(csr_array(self.shares.T), chosen)
        weighted = diags_array(self.variance) @ drawn
        return np.asarray((drawn.T @ weighted).toarray(), dtype=np.float64)

    def mean_covariance(self, nodes: Ints) -> float:
        """Mean of A over all pairs of some nodes, each with itself included, in one sweep."""
        start = np.bincount(nodes, minlength=self.variance.size) / nodes.size
        above = self.shares.T.tocsr()
        drawn = moving = start
        while moving.any():
            moving = above @ moving
            drawn = drawn + moving
        return float(drawn**2 @ self.variance)

    def ancestry(self, nodes: Ints) -> tuple[Relatedness, Ints]:
        """Relatedness among some nodes and all their ancestors, and who these are.

        Nothing about the chosen nodes is lost: what descends from a pedigree does not change it.

        Returns
        -------
        related
            The smaller pedigree.
        members : (s,)
            Its models as nodes of this one, in this one's order.
        """
        graph, above = self.graph, self.shares.T.tocsr()
        reached = np.zeros(len(graph), dtype=bool)
        ring = np.zeros(len(graph))
        ring[nodes] = 1.0
        while ring.any():
            reached |= ring > 0
            ring = np.where((above @ ring > 0) & ~reached, 1.0, 0.0)
        members = np.flatnonzero(reached)
        number = np.cumsum(reached) - 1
        rows = self.shares[members]
        ids = tuple(graph.ids[i] for i in members.tolist())
        smaller = LineageGraph(
            ids, rows.indptr.astype(np.int64), number[rows.indices].astype(np.int64), rows.data
        )
        return Relatedness(smaller, self.variance[members]), members

    def expected(self, members: Ints, values: Floats) -> Floats:
        """Expected values of all models, given those of some and of all their ancestors, (n,).

        A model outside gets the weighted sum of its parents, a founder outside 0.
        """
        outside = np.ones(self.variance.size)
        outside[members] = 0.0
        start = np.zeros(self.variance.size)
        start[members] = values
        step = diags_array(outside) @ self.shares
        total = moving = start
        while moving.any():
            moving = step @ moving
            total = total + moving
        return total


def relatedness(graph: LineageGraph, variance: Floats) -> Relatedness:
    """Relatedness in a pedigree of any number of parents with unequal shares.

    Parameters
    ----------
    graph
        The pedigree. Its weights are taken as they are: shares of a child that sum to less than 1
        leave the rest to an unknown parent, whose variance belongs in d.
    variance : (n,)
        Own variance d_i of each model in units of σ²_A; :func:`variance_by_kind` makes it from
        kinds of edges. 0 means that the model adds nothing of its own (a copy, a plain merge).

    Raises
    ------
    ValueError
        If a variance is missing or negative, a founder's is 0, a share is negative, or the shares
        of a child sum to more than 1.

    Examples
    --------
    >>> import numpy as np
    >>> graph = LineageGraph.from_edges(
    ...     ["a", "b", "m"], [("m", "a", 0.75, 0), ("m", "b", 0.25, 1)]
    ... )
    >>> related = relatedness(graph, np.array([1.0, 1.0, 0.1]))
    >>> related.between(["m", "a"], ["m", "m"]).tolist()
    [0.725, 0.75]
    >>> related.inverse.toarray().round(3).tolist()
    [[6.625, 1.875, -7.5], [1.875, 1.625, -2.5], [-7.5, -2.5, 10.0]]
    """
    n = len(graph)
    if variance.shape != (n,):
        raise ValueError(f"variance: {n} values expected, one per model; {variance.size} given")
    sums = share_sums(graph)
    if not np.isfinite(variance).all() or (variance < 0).any():
        worst = np.flatnonzero(~(variance >= 0) | ~np.isfinite(variance))[0]
        raise ValueError(
            f"variance of {graph.ids[worst]} is {variance[worst]}: finite and ≥ 0 needed"
        )
    dead = np.flatnonzero((sums == 0) & (variance == 0))
    if dead.size:
        raise ValueError(f"variance of founder {graph.ids[dead[0]]} is 0: more is needed")
    return Relatedness(graph, variance)


def mendelian(graph: LineageGraph) -> Relatedness:
    """Relatedness of diploid organisms: every known parent gives half.

    ``d = 1 − Σ_k w_k² A_kk``, that is ½ − (F_s + F_d)/4 with both parents known, ¾ − F/4 with one,
    1 with none, so that A_ii = 1 + ½ A_sd. Not for models: a merge blends, nothing segregates.

    Raises
    ------
    ValueError
        If a child has more than two parents or a share other than ½.
    """
    odd = np.flatnonzero(graph.n_parents > 2)
    if odd.size:
        raise ValueError(f"{graph.ids[odd[0]]} has more than two parents: not Mendelian")
    odd = graph.edge_child[graph.parent_weight != 0.5]
    if odd.size:
        raise ValueError(f"{graph.ids[odd[0]]} draws a share other than ½: not Mendelian")
    nobody = np.empty(0, dtype=np.int64)
    swept = covariance_sweep(graph, shares_of_parents(graph), None, nobody, nobody)
    return Relatedness(graph, swept.variance)


def variance_by_kind(
    graph: LineageGraph, kind: Sequence[str], variance_of: Mapping[str, float]
) -> Floats:
    """Own variance d of each model from how it came to be, shape (n,).

    Parameters
    ----------
    graph
        The pedigree.
    kind
        Kind of each model's edges (``finetune``, ``merge`` …), in order of `graph.ids`; not read
        for models without parents, whose variance is 1.
    variance_of
        Variance of each kind in units of a founder's; 0 for kinds that add nothing.

    Raises
    ------
    ValueError
        If the number of kinds is not that of the models, or a kind has no variance.
    """
    if len(kind) != len(graph):
        raise ValueError(f"kind: {len(graph)} expected, one per model; {len(kind)} given")
    labels, index = np.unique(np.asarray(kind, dtype=object).astype(str), return_inverse=True)
    bred = graph.n_parents > 0
    unknown = [str(labels[i]) for i in np.unique(index[bred]) if labels[i] not in variance_of]
    if unknown:
        raise ValueError(f"no variance is given for kind {', '.join(unknown)}")
    values = np.array([variance_of.get(str(label), np.nan) for label in labels], dtype=float)
    return np.where(bred, values[index], 1.0)
