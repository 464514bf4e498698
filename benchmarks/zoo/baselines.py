"""What simpler rules say of the same bytes, for comparison.

Each is computed here from what its authors published, on the sampled values that the inference
sees: their own programs read whole checkpoints and answer less.

References
----------
.. [1] Horwitz et al., "Unsupervised Model Tree Heritage Recovery", ICLR 2025: directed minimum
   spanning trees over distances, direction by kurtosis, the number of trees known.
.. [2] Non-negative least squares of a merge's change on its candidates' changes, the base known:
   the usual formulation of merge unmixing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import networkx as nx
import numpy as np
from scipy.optimize import nnls
from scipy.stats import kurtosis

from lineage.infer.geometry import Pool
from lineage.weights.fingerprint import Fingerprint

__all__ = ["equal_configurations", "kurtosis_trees", "nearest_by_cosine", "unmixed"]

_KURTOSIS_PENALTY = 1.0
_LEAST_SHARE = 0.05
_ROOT = ""  # no model is named so


def equal_configurations(a: Fingerprint, b: Fingerprint) -> bool:
    """Whether a check of configurations would call two models related: every shape is equal."""
    return {k: s.shape for k, s in a.samples.items()} == {k: s.shape for k, s in b.samples.items()}


def nearest_by_cosine(pool: Pool) -> dict[str, str]:
    """Every model's nearest other by the cosine of all sampled values."""
    gram = pool.gram.sum(axis=0)
    norms = np.sqrt(np.diag(gram))
    cosine = gram / np.outer(norms, norms)
    np.fill_diagonal(cosine, -np.inf)
    return {name: pool.ids[int(row.argmax())] for name, row in zip(pool.ids, cosine, strict=True)}


def kurtosis_trees(pool: Pool, n_trees: int) -> dict[str, str]:
    """Parents by the tree-recovery rule [1]_ within one family; the number of roots is known.

    A step that raises kurtosis costs the mean distance of the family more.

    Returns
    -------
    dict
        Parent by child; roots are absent.
    """
    distance = np.sqrt(pool.squared_distance)
    tails = np.array(
        [
            np.mean([kurtosis(values[i], axis=None) for values in pool.values])
            for i in range(len(pool.ids))
        ]
    )
    against = tails[:, None] < tails[None, :]  # parent's tails lighter than the child's
    cost = distance + _KURTOSIS_PENALTY * distance.mean() * against
    graph = nx.DiGraph()
    for parent, name in enumerate(pool.ids):
        for child, other in enumerate(pool.ids):
            if parent != child:
                graph.add_edge(name, other, weight=float(cost[parent, child]))
    return _arborescence(graph, n_trees)


def _arborescence(graph: nx.DiGraph, n_trees: int) -> dict[str, str]:
    """The cheapest `n_trees` trees: a virtual root is made as dear as it takes."""
    total = sum(weight for *_, weight in graph.edges(data="weight"))
    low, high = 0.0, total
    best: dict[str, str] = {}
    nodes = list(graph)
    for _ in range(40):
        price = (low + high) / 2
        rooted = graph.copy()
        rooted.add_weighted_edges_from((_ROOT, node, price) for node in nodes)
        tree = nx.minimum_spanning_arborescence(rooted)
        parents = {child: parent for parent, child in tree.edges if parent != _ROOT}
        n_roots = len(nodes) - len(parents)
        if n_roots == n_trees:
            return parents
        low, high = (price, high) if n_roots > n_trees else (low, price)
        best = parents
    return best


def unmixed(pool: Pool, child: str, base: str, candidates: Sequence[str]) -> Mapping[str, float]:
    """Shares of a merge by non-negative least squares, its base known [2]_."""
    at = pool.ids.index
    origin = _flat(pool, at(base))
    changes = np.stack([_flat(pool, at(name)) - origin for name in candidates], axis=1)
    shares, _ = nnls(changes, _flat(pool, at(child)) - origin)
    return {
        name: float(share)
        for name, share in zip(candidates, shares, strict=True)
        if share >= _LEAST_SHARE
    }


def _flat(pool: Pool, model: int) -> np.ndarray:
    return np.concatenate([values[model].ravel() for values in pool.values]).astype(np.float64)
