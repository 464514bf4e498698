"""Genetics of behaviour: prompts are genes, what a model says next are its alleles.

The idea is PhyloLM's (Yax, Oudeyer & Palminteri 2024, arXiv 2404.04671): a population genetics of
continuations. At gene g (a prompt) model a has allele i (the next characters) with frequency
``p_agi``. Two models are compared by Nei's (1972) standard genetic identity

    S_ab = J_ab / √(J_a J_b),   J_ab = Σ_g Σ_i p_agi p_bgi,   J_a = Σ_g Σ_i p_agi²

over the genes that both have, and lie ``D = −ln S`` apart (*American Naturalist* 106:283). Alleles
are characters, not tokens, so that models with different vocabularies compare.

Frequencies that were computed are taken as they are. Those that were counted in n draws make a
model look less varied than it is: ``Σ_i p_i²`` of counted frequencies also counts each draw's
agreement with itself. For them J_a adds up Nei's (1978) unbiased ``(n Σ_i p_i² − 1) / (n − 1)``,
the chance that two different draws agree (*Genetics* 89:583; n in place of 2n, as a draw is
haploid), so that computed and counted frequencies can stand in one table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["AlleleTable", "allele_table", "nei_distance", "nei_identity"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_TOLERANCE = 1e-6  # by which stored frequencies of one gene may exceed a sum of one


@dataclass(frozen=True, eq=False)
class AlleleTable:
    """Allele frequencies of several models at the same genes. Make it with :func:`allele_table`.

    Attributes
    ----------
    models
        Their names.
    gene : (n_alleles,)
        Gene of each allele, in order; equal texts at different genes are different alleles.
    frequency : (n_models, n_alleles)
        Zero where a model never showed the allele, and where it lacks the gene.
    n_samples : (n_models, n_genes)
        Draws behind the frequencies; infinite where they were computed, NaN where a model lacks
        the gene.
    """

    models: tuple[str, ...]
    gene: Ints
    frequency: Floats
    n_samples: Floats

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return int(self.n_samples.shape[1])

    @cached_property
    def agreement(self) -> Floats:
        """``Σ_i p_agi p_bgi`` by gene, shape (n_genes, n_models, n_models).

        The chance that two models say the same; on the diagonal that two different draws of one
        model do (unbiased where it was sampled). Zero where a model lacks the gene.
        """
        n_models = len(self.models)
        found = np.zeros((self.n_genes, n_models, n_models))
        first = np.searchsorted(self.gene, np.arange(self.n_genes + 1))
        for g in range(self.n_genes):
            shares = self.frequency[:, first[g] : first[g + 1]]
            found[g] = shares @ shares.T
        own = found[:, np.arange(n_models), np.arange(n_models)]  # a copy, (n_genes, n_models)
        n = self.n_samples.T
        sampled = np.isfinite(n)
        own[sampled] = (n[sampled] * own[sampled] - 1.0) / (n[sampled] - 1.0)
        found[:, np.arange(n_models), np.arange(n_models)] = own
        return found


def allele_table(
    observed: Mapping[str, Sequence[Mapping[str, float] | None]],
    n_samples: Mapping[str, float | None],
) -> AlleleTable:
    """Lay out the frequencies of several models in one table.

    Parameters
    ----------
    observed
        Of each model, gene by gene in one order: allele to frequency; None where it was not
        observed. Frequencies may sum to less than one: rare alleles that are left out add
        (almost) nothing to sums of squares, where scaling the others up would.
    n_samples
        Of each model, draws behind each gene's frequencies, at least 2; None: they were computed.

    Raises
    ------
    ValueError
        If there is no model or no gene, models have different numbers of genes, frequencies are
        negative or not finite, sum to zero or to more than one, or draws are fewer than two.

    Examples
    --------
    >>> table = allele_table({"a": [{"x": 1.0}], "b": [{"x": 0.5, "y": 0.5}]}, {"a": None, "b": 8})
    >>> table.frequency.tolist(), table.n_samples.tolist()
    ([[1.0, 0.0], [0.5, 0.5]], [[inf], [8.0]])
    """
    models = tuple(observed)
    counts = {len(genes) for genes in observed.values()}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"every model needs the same genes, at least one: there are {sorted(counts)}"
        )
    n_genes = counts.pop()
    texts: list[set[str]] = [set() for _ in range(n_genes)]
    for genes in observed.values():
        for g, alleles in enumerate(genes):
            texts[g].update(alleles or ())
    ordered = [(g, text) for g in range(n_genes) for text in sorted(texts[g])]
    place = {allele: i for i, allele in enumerate(ordered)}
    frequency = np.zeros((len(models), len(place)))
    draws = np.full((len(models), n_genes), np.nan)
    for row, name in enumerate(models):
        n = n_samples[name]
        if n is not None and n < 2:
            raise ValueError(f"{name}: {n} draws; two are the least that show variation")
        for g, alleles in enumerate(observed[name]):
            if alleles is None:
                continue
            _require_frequencies(name, g, alleles)
            draws[row, g] = math.inf if n is None else n
            for allele, share in alleles.items():
                frequency[row, place[g, allele]] = share
    gene = np.array([g for g, _ in ordered], dtype=np.int64)
    return AlleleTable(models, gene, frequency, draws)


def _require_frequencies(model: str, gene: int, alleles: Mapping[str, float]) -> None:
    shares = list(alleles.values())
    if not all(math.isfinite(share) and share >= 0 for share in shares):
        raise ValueError(f"{model}, gene {gene}: a frequency is negative or not finite")
    total = math.fsum(shares)
    if not 0 < total <= 1.0 + _TOLERANCE:
        raise ValueError(f"{model}, gene {gene}: frequencies sum to {total:.6g}")


def nei_identity(table: AlleleTable, weight: Floats | None = None) -> Floats:
    """Nei's standard genetic identity of every two models, shape (n_models, n_models).

    Parameters
    ----------
    table
        Allele frequencies.
    weight : (n_genes,)
        How often each gene counts (of a bootstrap); default: once.

    Returns
    -------
    Floats
        Symmetric, one on the diagonal. Above one by chance where frequencies were sampled; NaN
        where two models share no gene, or a model's draws never showed an allele twice.

    Raises
    ------
    ValueError
        If the weights are of another number than the genes, or negative.

    Notes
    -----
    Sums over genes, as in Nei (1972), not means of identities gene by gene: a gene at which both
    models vary much tells little and weighs little.

    Examples
    --------
    >>> varied = {"a": [{"x": 1.0}], "b": [{"x": 0.6, "y": 0.4}]}
    >>> table = allele_table(varied, {"a": None, "b": None})
    >>> round(float(nei_identity(table)[0, 1]), 6)  # .6 / √(1 · .52)
    0.83205
    """
    counts = np.ones(table.n_genes) if weight is None else np.asarray(weight, dtype=np.float64)
    if counts.shape != (table.n_genes,) or not (counts >= 0).all():
        raise ValueError(f"weights: {table.n_genes} of zero or more are needed, one for each gene")
    has_gene = (~np.isnan(table.n_samples)).astype(np.float64)
    across = np.tensordot(counts, table.agreement, axes=1)
    own = np.einsum("gaa->ag", table.agreement)
    within = (own * counts) @ has_gene.T  # row a, column b: of a, over the genes that b has too
    usable = (within > 0) & (within.T > 0)
    identity = np.full(across.shape, np.nan)
    np.divide(across, np.sqrt(np.where(usable, within * within.T, 1.0)), out=identity, where=usable)
    np.fill_diagonal(identity, 1.0)
    return identity


def nei_distance(identity: Floats) -> Floats:
    """Nei's standard genetic distance ``−ln S``.

    Zero where sampling puts the identity above one (Nei 1978), infinite where no allele is shared,
    NaN where the identity is.

    Examples
    --------
    >>> import numpy as np
    >>> nei_distance(np.array([1.0, 0.5, 1.02, 0.0])).round(6).tolist()
    [0.0, 0.693147, 0.0, inf]
    """
    with np.errstate(divide="ignore"):
        distance = -np.log(np.minimum(identity, 1.0))
    return np.asarray(distance + 0.0, dtype=np.float64)  # no minus zero
