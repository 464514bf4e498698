"""The Price equation for a pedigree of any number of parents, as an exact partition.

Shares of descent ``c_ij`` join child i to parent j and sum to 1 for each child with parents.
A parent's fitness is the sum of its shares, ``w_j = Σ_i c_ij``, and ``w̃ = w / w̄``. With N' children
of known parents and F immigrants (founders born in the interval), among M = N' + F newborn models

    z̄' − z̄ = Cov(w̃, z) + (1/N') Σ c_ij (z'_i − z_j) + (F/M) (z̄_F − z̄_N')

an identity, whatever made the numbers (Price 1970; fractional links: Kerr & Godfrey-Smith 2009,
Evolution 63:531). It describes one change; it has no sampling error and predicts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PricePartition", "price_partition"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PricePartition:
    """Change of the mean trait from parents to newborn models, and its three parts.

    ``change = selection + transmission + immigration`` up to rounding.
    """

    change: float
    selection: float
    transmission: float
    immigration: float
    n_parents: int
    n_children: int
    n_immigrants: int


def price_partition(
    parent_trait: Floats,
    child_trait: Floats,
    link_child: Ints,
    link_parent: Ints,
    link_share: Floats,
) -> PricePartition:
    """Partition the change of a mean trait between two sets of models.

    Parameters
    ----------
    parent_trait : (N,)
        Trait of every model that could have been a parent, including those without children.
    child_trait : (M,)
        Trait of every newborn model; those without links are immigrants.
    link_child, link_parent : (L,)
        Indices into `child_trait` and `parent_trait`.
    link_share : (L,)
        Shares c_ij; those of one child must sum to 1.

    Raises
    ------
    ValueError
        If a trait is missing (leave the model out and say so), the shares of a child do not sum
        to 1, or no child has a parent.

    Examples
    --------
    >>> import numpy as np
    >>> part = price_partition(
    ...     np.array([0.0, 2.0]), np.array([2.5]), np.array([0]), np.array([1]), np.array([1.0])
    ... )
    >>> part.change, part.selection, part.transmission, part.immigration
    (1.5, 1.0, 0.5, 0.0)
    """
    if not (np.isfinite(parent_trait).all() and np.isfinite(child_trait).all()):
        raise ValueError("every model needs its trait: leave out those without")
    shares = np.bincount(link_child, weights=link_share, minlength=child_trait.size)
    bred = np.bincount(link_child, minlength=child_trait.size) > 0
    if not bred.any():
        raise ValueError("no child has a parent")
    if not np.allclose(shares[bred], 1.0, rtol=0, atol=1e-9):
        raise ValueError("the shares of every child must sum to 1")
    n_children, n_immigrants = int(bred.sum()), int((~bred).sum())
    fitness = np.bincount(link_parent, weights=link_share, minlength=parent_trait.size)
    relative = fitness / fitness.mean()
    mean = parent_trait.mean()
    selection = float(np.mean((relative - 1.0) * (parent_trait - mean)))
    step = child_trait[link_child] - parent_trait[link_parent]
    transmission = float(link_share @ step / n_children)
    immigration = 0.0
    if n_immigrants:
        apart = child_trait[~bred].mean() - child_trait[bred].mean()
        immigration = float(n_immigrants / child_trait.size * apart)
    return PricePartition(
        float(child_trait.mean() - mean),
        selection,
        transmission,
        immigration,
        parent_trait.size,
        n_children,
        n_immigrants,
    )
