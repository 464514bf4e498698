"""The Price equation for a pedigree of any number of parents, as an exact partition.

Shares of descent ``c_ij`` join child i to parent j and sum to 1 for each child with parents.
A parent's fitness is the sum of its shares, ``w_j = Σ_i c_ij``, and ``w̃ = w / w̄``. With N' children
of known parents and F immigrants (founders born in the interval), among M = N' + F newborn models

    z̄' − z̄ = Cov(w̃, z) + (1/N') Σ c_ij (z'_i − z_j) + (F/M) (z̄_F − z̄_N')

an identity, whatever made the numbers (Price 1970; fractional links: Kerr & Godfrey-Smith 2009,
Evolution 63:531). It describes one change; it has no sampling error and predicts nothing.

Two of its parts divide further, exactly: transmission by kind of edge (what fine-tuning, merging
or quantising did to the trait: :func:`transmission_by_kind`) and selection by level (between
families and within them: :func:`selection_by_level`). :func:`pedigree_links` reads the links off a
pedigree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage.graph import LineageGraph

__all__ = [
    "KindTransmission",
    "PedigreeLinks",
    "PricePartition",
    "pedigree_links",
    "price_partition",
    "selection_by_level",
    "transmission_by_kind",
]

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
        If a trait is missing (leave the model out and say so), a share is negative or NaN, the
        shares of a child do not sum to 1, or no child has a parent.

    Examples
    --------
    >>> import numpy as np
    >>> part = price_partition(
    ...     np.array([0.0, 2.0]), np.array([2.5]), np.array([0]), np.array([1]), np.array([1.0])
    ... )
    >>> part.change, part.selection, part.transmission, part.immigration
    (1.5, 1.0, 0.5, 0.0)
    """
    bred = _bred(parent_trait, child_trait, link_child, link_share)
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


@dataclass(frozen=True, slots=True)
class KindTransmission:
    """What one kind of edge did to the trait.

    Attributes
    ----------
    transmission
        Its part of the partition's transmission, in units of the trait.
    descent
        Share of all descent that ran over it: its shares, summed, over N'. The kinds sum to 1.
    mean_step
        Mean change from parent to child over it, weighted by share;
        ``transmission = descent · mean_step``. NaN where its shares are all zero.
    n_links
        Links of this kind.
    """

    transmission: float
    descent: float
    mean_step: float
    n_links: int


def transmission_by_kind(
    parent_trait: Floats,
    child_trait: Floats,
    link_child: Ints,
    link_parent: Ints,
    link_share: Floats,
    link_kind: Sequence[str],
) -> dict[str, KindTransmission]:
    """Divide the transmission term by kind of edge; the parts sum to it.

    ``(1/N') Σ_kinds Σ_{links of the kind} c_ij (z'_i − z_j)``. A child of several parents divides
    its change among them: ``z'_i − Σ_j c_ij z_j``, link by link, by share.

    Parameters
    ----------
    parent_trait, child_trait, link_child, link_parent, link_share
        As for :func:`price_partition`, and the same errors.
    link_kind : (L,)
        Kind of each link.

    Returns
    -------
    dict
        Kind to its part, kinds in order of name.

    Examples
    --------
    >>> import numpy as np
    >>> parts = transmission_by_kind(
    ...     np.array([0.0, 2.0]), np.array([2.5, 1.0]), np.array([0, 1]), np.array([1, 0]),
    ...     np.array([1.0, 1.0]), ["finetune", "quantized"],
    ... )
    >>> {kind: part.transmission for kind, part in parts.items()}
    {'finetune': 0.25, 'quantized': 0.5}
    """
    n_children = int(_bred(parent_trait, child_trait, link_child, link_share).sum())
    if len(link_kind) != link_share.size:
        raise ValueError(f"link_kind: {link_share.size} kinds expected, {len(link_kind)} given")
    kinds, kind_of = np.unique(np.asarray(link_kind, dtype=np.str_), return_inverse=True)
    moved = link_share * (child_trait[link_child] - parent_trait[link_parent])
    total = np.bincount(kind_of, weights=moved, minlength=kinds.size)
    share = np.bincount(kind_of, weights=link_share, minlength=kinds.size)
    count = np.bincount(kind_of, minlength=kinds.size)
    step = total / np.where(share > 0, share, np.nan)
    return {
        str(kind): KindTransmission(
            float(total[k] / n_children),
            float(share[k] / n_children),
            float(step[k]),
            int(count[k]),
        )
        for k, kind in enumerate(kinds)
    }


def selection_by_level(
    trait: Floats, fitness: Floats, levels: Mapping[str, Ints]
) -> dict[str, float]:
    """Divide the selection term by nested levels: between groups, then within them.

    With w̃ = W / W̄, and w̃_k, z_k the means of a group k,
    ``Cov(w̃, z) = Cov_k(w̃_k, z_k) + E_k[Cov_within k(w̃, z)]``, groups weighted by their size. With
    groups within groups the second part divides again in the same way (Price 1972; Okasha 2006,
    *Evolution and the Levels of Selection*, ch. 2). Covariances are over n, as in the identity.

    Parameters
    ----------
    trait : (N,)
        Trait of every model that could have been a parent.
    fitness : (N,)
        Its fitness: the sum of its shares of descent, or any other measure of propagation.
    levels
        Name of each level to the group of each model, shape (N,), the widest level first. Each
        group must lie within one group of the level before.

    Returns
    -------
    dict
        Level to the selection between its groups within those of the level before, last
        ``"within"``: among the models of one group of the narrowest level. The parts sum to
        ``Cov(w̃, z)``.

    Raises
    ------
    ValueError
        If a trait or a fitness is missing, a fitness is negative, nobody has any, a level is
        called ``within``, or the levels are not nested.

    Notes
    -----
    Selection between groups is not group selection as a cause: groups differ in fitness also
    because their members differ (Heisler & Damuth 1987, Am Nat 130:582).

    Examples
    --------
    >>> import numpy as np
    >>> selection_by_level(
    ...     np.array([0.0, 2.0, 4.0, 6.0]), np.array([0.0, 1.0, 1.0, 2.0]),
    ...     {"family": np.array([0, 0, 1, 1])},
    ... )
    {'family': 1.0, 'within': 0.5}
    """
    if not np.isfinite(trait).all():
        raise ValueError("every model needs its trait: leave out those without")
    if not (fitness >= 0).all() or np.isinf(fitness).any():
        raise ValueError("every model needs its fitness, not negative: leave out those without")
    if not fitness.any():
        raise ValueError("no model has any fitness")
    if "within" in levels:
        raise ValueError("no level may be called 'within': that is what remains")
    z, w = trait - trait.mean(), fitness / fitness.mean() - 1.0
    parts: dict[str, float] = {}
    wide_z, wide_w = np.zeros_like(z), np.zeros_like(w)
    outer = np.zeros(trait.size, dtype=np.int64)
    for name, label in levels.items():
        if label.shape != trait.shape:
            raise ValueError(f"{name}: {trait.size} labels expected, {label.size} given")
        _, group = np.unique(label, return_inverse=True)
        if np.unique(np.column_stack([outer, group]), axis=0).shape[0] != group.max() + 1:
            raise ValueError(f"{name}: a group lies in several groups of the level before")
        size = np.bincount(group)
        mean_z = (np.bincount(group, weights=z) / size)[group]
        mean_w = (np.bincount(group, weights=w) / size)[group]
        parts[name] = float(np.mean((mean_w - wide_w) * (mean_z - wide_z)))
        wide_z, wide_w, outer = mean_z, mean_w, group
    parts["within"] = float(np.mean((w - wide_w) * (z - wide_z)))
    return parts


@dataclass(frozen=True, eq=False)
class PedigreeLinks:
    """Links of descent between two sets of models of one pedigree.

    `parent` (N,) and `child` (M,) are node numbers; `link_child` and `link_parent` (L,) index
    them; `link_edge` (L,) says which edge of the graph each link is. Feed
    :func:`price_partition` with ``trait[links.parent], trait[links.child], links.link_child,
    links.link_parent, links.link_share``.

    `n_left_out` counts newborn models with a parent outside the parental set.
    """

    parent: Ints
    child: Ints
    link_child: Ints
    link_parent: Ints
    link_share: Floats
    link_edge: Ints
    n_left_out: int


def pedigree_links(
    graph: LineageGraph, is_parent: NDArray[np.bool_], is_newborn: NDArray[np.bool_]
) -> PedigreeLinks:
    """Links of the newborn models of a pedigree to their parents.

    Parameters
    ----------
    graph
        The pedigree; :meth:`LineageGraph.from_edges` refuses cycles.
    is_parent : (n,)
        Models that could have been parents and have the trait, with children or without.
    is_newborn : (n,)
        Models born in the interval that have the trait. The sets may share models: one born early
        in the interval may be a parent later in it.

    Returns
    -------
    PedigreeLinks
        Shares are scaled to sum to 1 in each child, as recipes state them on any scale, and
        parents of no share are no parents. Newborn founders are immigrants. A newborn model of
        which any parent is not in the parental set is left out: neither can its change be stated,
        nor is it an immigrant.

    Raises
    ------
    ValueError
        If a mask has the wrong length or a newborn model has a parent of negative share, names it.
    """
    for name, mask in (("is_parent", is_parent), ("is_newborn", is_newborn)):
        if mask.shape != (len(graph),):
            raise ValueError(f"{name}: {len(graph)} values expected, {mask.size} given")
    edge = np.flatnonzero(is_newborn[graph.edge_child] & (graph.parent_weight != 0))
    below = edge[graph.parent_weight[edge] < 0]
    if below.size:
        model = graph.ids[graph.edge_child[below[0]]]
        raise ValueError(f"{model}: a share of descent must not be negative, leave the model out")
    stray = np.zeros(len(graph), dtype=np.bool_)
    stray[graph.edge_child[edge[~is_parent[graph.parent_index[edge]]]]] = True
    # A child all of whose shares are zero has parents but no descent that could be stated.
    bred = np.bincount(graph.edge_child[edge], minlength=len(graph)) > 0
    stray |= is_newborn & ~bred & (graph.n_parents > 0)
    edge = edge[~stray[graph.edge_child[edge]]]
    parent, child = np.flatnonzero(is_parent), np.flatnonzero(is_newborn & ~stray)
    place = np.zeros(len(graph), dtype=np.int64)
    place[child] = np.arange(child.size)
    link_child = place[graph.edge_child[edge]]
    place[parent] = np.arange(parent.size)
    total = np.bincount(link_child, weights=graph.parent_weight[edge], minlength=child.size)
    return PedigreeLinks(
        parent,
        child,
        link_child,
        place[graph.parent_index[edge]],
        graph.parent_weight[edge] / total[link_child],
        edge,
        int(stray.sum()),
    )


def _bred(
    parent_trait: Floats, child_trait: Floats, link_child: Ints, link_share: Floats
) -> NDArray[np.bool_]:
    """Which children have parents; refuses what no partition can be made of."""
    if not (np.isfinite(parent_trait).all() and np.isfinite(child_trait).all()):
        raise ValueError("every model needs its trait: leave out those without")
    if not (link_share >= 0).all():
        raise ValueError("every link needs its share, not negative: they sum to fitness")
    shares = np.bincount(link_child, weights=link_share, minlength=child_trait.size)
    bred = np.bincount(link_child, minlength=child_trait.size) > 0
    if not bred.any():
        raise ValueError("no child has a parent")
    if not np.allclose(shares[bred], 1.0, rtol=0, atol=1e-9):
        raise ValueError("the shares of every child must sum to 1")
    return bred
