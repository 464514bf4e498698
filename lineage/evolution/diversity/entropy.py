"""Entropy of a population over a categorical trait, and where its change comes from, exactly.

From one moment to the next a population passes through six distributions over the categories:

0. the parents as they are, each counted once;
1. the parents weighted by fitness, ``w_j = Σ_i c_ij`` (shares of descent c_ij of child i from
   parent j);
2. the children where they have the value of one of their parents, and still the mixture of their
   parents where they have none of those values;
3. the children of known parents as they are, each by its share of known parents;
4. those and the children of parents outside the population or of unknown value;
5. all children, founders among them.

Each step has its cause: *selection* 0→1 (differential propagation, removal among it), *choice*
1→2 (a merge of parents that differ takes the value of one: none with single parents), *mutation*
2→3, *unplaced* 3→4 (not known to be inheritance or novelty), *immigration* 4→5. The entropy
differences of the steps add up to the whole change, whatever made the numbers. The order of the
steps is part of the definition: entropy is not additive over causes, and another order would
share the change differently.

An account describes the models that were counted; were they a sample, each entropy would fall
short by about (S − 1)/2n (Miller 1955), which the differences of populations of like size cancel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lineage.evolution.diversity.hill import hill_number
from lineage.evolution.diversity.intervals import founder_interval
from lineage.model import Estimate

__all__ = [
    "PARTS",
    "EntropyAccount",
    "binned",
    "chao_shen",
    "entropy_account",
    "entropy_account_intervals",
    "miller_madow",
    "shannon",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

PARTS = ("selection", "choice", "mutation", "unplaced", "immigration")
"""Steps of an account, in order."""

_N_STAGES = len(PARTS) + 1


# -- entropy of counts ----------------------------------------------------------------------------


def shannon(counts: Floats) -> Floats:
    """Shannon entropy ``−Σ p ln p`` of the counts themselves in nats, shape (...).

    Parameters
    ----------
    counts : (..., S)
        Counts or shares; NaN is returned where all are zero.

    Raises
    ------
    ValueError
        If a count is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(shannon(np.array([2, 1, 1]))), 6)  # 1.5 bits
    1.039721
    """
    return np.asarray(np.log(hill_number(counts, 1)))


def miller_madow(counts: Floats) -> Floats:
    """Entropy with the first-order bias of the plug-in added: ``H + (S − 1)/2n`` (Miller 1955).

    S counts the categories seen; the unseen ones keep it biased low. Parameters as for
    :func:`shannon`, but whole counts.
    """
    n = np.asarray(counts, dtype=float).sum(axis=-1)
    seen = (np.asarray(counts) > 0).sum(axis=-1)
    return np.asarray(shannon(counts) + (seen - 1) / (2 * np.where(n > 0, n, np.nan)))


def chao_shen(counts: Floats) -> Floats:
    """Coverage-adjusted entropy of Chao & Shen (2003, Environ Ecol Stat 10:429, eq. 7).

    ``−Σ p̃ ln p̃ / (1 − (1 − p̃)ⁿ)`` with ``p̃ = C p`` and Good's coverage ``C = 1 − f₁/n``; where
    every category was seen once, f₁ = n − 1 is taken, for C would be zero.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(chao_shen(np.array([4, 2, 1]))), 6)
    1.182543
    """
    x = np.asarray(counts, dtype=float)
    plain = shannon(x)  # and its demands
    n = x.sum(axis=-1, keepdims=True)
    once = (x == 1).sum(axis=-1, keepdims=True)
    n = np.where(n > 0, n, 1.0)
    covered = 1 - np.where(once == n, n - 1, once) / n
    p = np.where(x > 0, covered * x / n, 1.0)  # the logarithm of 1 drops a category
    with np.errstate(divide="ignore"):  # p = 1 of a single category: 0 / (1 − 0)
        seen = -np.expm1(n * np.log1p(-p))
    value = -(p * np.log(p) / seen).sum(axis=-1)
    return np.asarray(np.where(np.isnan(plain), np.nan, value))


def binned(values: Floats, edges: Floats) -> Ints:
    """Categories of a measured trait: k where ``edges[k−1] ≤ value < edges[k]``, −1 for NaN.

    The same edges must serve all moments: edges that follow the data would hide what changes.

    Raises
    ------
    ValueError
        If the edges do not ascend.
    """
    if not (np.diff(edges) > 0).all():
        raise ValueError("edges must ascend")
    return np.where(np.isnan(values), -1, np.searchsorted(edges, values, side="right"))


# -- the account ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class EntropyAccount:
    """What each step did to the entropy, in nats.

    Attributes
    ----------
    stages : (6, S)
        Mass of each category after each step; not scaled.
    n_parents, n_children
        Models in the first and in the last distribution.
    """

    stages: Floats
    n_parents: int
    n_children: int

    @property
    def entropies(self) -> Floats:
        """Entropy of each distribution, shape (6,); NaN where it has no mass."""
        return shannon(self.stages)

    @property
    def change(self) -> float:
        """Entropy of all children less that of the parents."""
        entropies = self.entropies
        return float(entropies[-1] - entropies[0])

    @property
    def parts(self) -> dict[str, float]:
        """Difference of each of `PARTS`; they sum to `change` up to rounding."""
        return dict(zip(PARTS, np.diff(self.entropies).tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class _Masses:
    """Entries of the six distributions: stage, category, mass, and cluster of the model."""

    stage: Ints
    category: Ints
    mass: Floats
    cluster: Ints


def entropy_account(
    parent_category: Ints,
    child_category: Ints,
    link_child: Ints,
    link_parent: Ints,
    link_share: Floats,
) -> EntropyAccount:
    """Account for the change of entropy from parents to children with any number of parents.

    Models that live on are children of themselves: one link of share 1.

    Parameters
    ----------
    parent_category : (N,)
        Category of every model that could have been a parent, with or without children.
    child_category : (M,)
        Category of every child, founders among them.
    link_child, link_parent : (L,)
        Indices into the two; a parent of −1 is outside the population or of unknown category.
    link_share : (L,)
        Shares of descent c_ij. Those of one child sum to at most 1; what is missing came from
        nowhere (a founder's whole 1, or the share of a founder born in the same interval).

    Raises
    ------
    ValueError
        If a category is unknown (leave the model out and say so), a share negative or missing,
        the shares of a child sum to more than 1, or nobody has a parent in the population.

    Examples
    --------
    >>> import numpy as np
    >>> found = entropy_account(
    ...     np.array([0, 1]), np.array([0, 2]), np.array([0, 1]), np.array([0, 0]), np.ones(2)
    ... )
    >>> {part: round(value, 4) for part, value in found.parts.items() if value}
    {'selection': -0.6931, 'mutation': 0.6931}
    """
    n, m = parent_category.size, child_category.size
    masses = _masses(
        parent_category,
        child_category,
        link_child,
        link_parent,
        link_share,
        np.zeros(n, dtype=np.int64),
        np.zeros(m, dtype=np.int64),
    )
    width = 1 + int(masses.category.max())
    stages = np.zeros((_N_STAGES, width))
    np.add.at(stages, (masses.stage, masses.category), masses.mass)
    return EntropyAccount(stages, n, m)


def entropy_account_intervals(
    parent_category: Ints,
    child_category: Ints,
    link_child: Ints,
    link_parent: Ints,
    link_share: Floats,
    parent_cluster: Ints,
    child_cluster: Ints,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    n_resamples: int = 500,
) -> dict[str, Estimate]:
    """The same account with intervals: how far each part rests on a few founders.

    Parameters
    ----------
    parent_category, child_category, link_child, link_parent, link_share
        As for :func:`entropy_account`.
    parent_cluster : (N,)
        Founder of each parent; resampled whole.
    child_cluster : (M,)
        Founder of each child; its links are resampled with it.

    Returns
    -------
    dict
        `PARTS` and ``change``.
    """
    masses = _masses(
        parent_category,
        child_category,
        link_child,
        link_parent,
        link_share,
        parent_cluster,
        child_cluster,
    )
    labels, row = np.unique(masses.cluster, return_inverse=True)
    width = 1 + int(masses.category.max())
    column = masses.stage * width + masses.category
    sums = csr_array((masses.mass, (row, column)), shape=(labels.size, _N_STAGES * width))

    def entropies(totals: Floats) -> Floats:
        # Sums of shares in another order may leave a rounding below zero.
        return shannon(np.maximum(totals.reshape(*totals.shape[:-1], _N_STAGES, width), 0.0))

    found = {}
    for k, part in enumerate((*PARTS, "change")):
        after, before = (k + 1, k) if part != "change" else (-1, 0)

        def difference(totals: Floats, after: int = after, before: int = before) -> Floats:
            steps = entropies(totals)
            return np.asarray(steps[..., after] - steps[..., before])

        found[part] = founder_interval(
            sums,
            difference,
            n=child_category.size,
            rng=rng,
            level=level,
            n_resamples=n_resamples,
            method=f"difference of entropies in nats: {part}",
        )
    return found


def _masses(
    parent_category: Ints,
    child_category: Ints,
    link_child: Ints,
    link_parent: Ints,
    link_share: Floats,
    parent_cluster: Ints,
    child_cluster: Ints,
) -> _Masses:
    m = child_category.size
    if (parent_category < 0).any() or (child_category < 0).any():
        raise ValueError("every model needs its category: leave out those without")
    if not (np.isfinite(link_share).all() and (link_share >= 0).all()):
        raise ValueError("shares are numbers of at least zero")
    given = np.bincount(link_child, weights=link_share, minlength=m)
    if (given > 1 + 1e-9).any():
        raise ValueError("the shares of a child must not sum to more than 1")
    counted = link_share > 0
    placed = counted & (link_parent >= 0)
    if not placed.any():
        raise ValueError("no child has a parent in the population")
    child, share = link_child[placed], link_share[placed]
    inherited = parent_category[link_parent[placed]]
    known = np.bincount(child, weights=share, minlength=m)
    unplaced = counted & (link_parent < 0)
    outside = np.bincount(link_child[unplaced], weights=link_share[unplaced], minlength=m)
    # A child that has a parent's value has chosen it; the others still are their parents' mixture.
    alike = np.bincount(child[inherited == child_category[child]], minlength=m) > 0
    chosen = np.where(alike[child], child_category[child], inherited)
    everyone = np.arange(m)
    pieces = [
        (parent_category, np.ones(parent_category.size), parent_cluster),
        (inherited, share, child_cluster[child]),
        (chosen, share, child_cluster[child]),
        (child_category, known, child_cluster),
        (child_category, known + outside, child_cluster),
        (child_category, np.ones(m), child_cluster[everyone]),
    ]
    return _Masses(
        np.repeat(np.arange(_N_STAGES), [piece[0].size for piece in pieces]),
        np.concatenate([piece[0] for piece in pieces]),
        np.concatenate([piece[1] for piece in pieces]),
        np.concatenate([piece[2] for piece in pieces]),
    )
