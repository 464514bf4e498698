"""Finds, in a publication, models whose licence allows more than that of an ancestor.

The rule, by classes of terms (:class:`crawler.licences.LicenceClass`):

===============  ==============================  ===========================================
an ancestor is   a conflict if the model is      since
===============  ==============================  ===========================================
non_commercial   permissive, copyleft            commercial use is granted anew
custom           permissive, copyleft            the ancestor's conditions are not passed on
copyleft         permissive                      the same terms are not kept
===============  ==============================  ===========================================

Nothing is concluded from ``unknown``, of models that state no licence or none that is known; custom
terms are not compared with each other or with ``non_commercial``. Ancestors are those along edges
that stand: contradicted claims and ties, which are one parent of several, are left out. Of each
class the nearest ancestor is told. It is a comparison of words, no legal advice: a licence may
permit what its class does not, weights may not be covered by it, and owners may license twice.
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import numpy as np
from numpy.typing import NDArray

from crawler.licences import LicenceClass, class_of

__all__ = ["FORBIDDEN", "fill_licence_conflicts", "nearest_above"]

Ints = NDArray[np.int64]

_PERMISSIVE, _COPYLEFT = LicenceClass.PERMISSIVE, LicenceClass.COPYLEFT
FORBIDDEN: Mapping[LicenceClass, tuple[LicenceClass, ...]] = {
    LicenceClass.NON_COMMERCIAL: (_PERMISSIVE, _COPYLEFT),
    LicenceClass.CUSTOM: (_PERMISSIVE, _COPYLEFT),
    LicenceClass.COPYLEFT: (_PERMISSIVE,),
}
"""Classes of a model that conflict with a class of an ancestor."""
_CODES = tuple(LicenceClass)


def nearest_above(
    n: int, child: Ints, parent: Ints, sources: NDArray[np.bool_]
) -> tuple[Ints, Ints]:
    """The nearest of some nodes on or above each node of an acyclic graph.

    Parameters
    ----------
    n
        Number of nodes.
    child, parent : (n_edges,)
        Node numbers of both ends.
    sources : (n,)
        The nodes that are looked for.

    Returns
    -------
    nearest, n_edges : (n,)
        The source, of several equally near the one of the lowest number, and the edges of a
        shortest path to it; both −1 where none is above.

    Examples
    --------
    >>> near, edges = nearest_above(
    ...     3, np.array([1, 2]), np.array([0, 1]), np.array([True, False, False])
    ... )
    >>> near.tolist(), edges.tolist()
    ([0, 0, 0], [0, 1, 2])
    """
    order = np.argsort(parent, kind="stable")
    children = child[order]
    start = np.searchsorted(parent[order], np.arange(n + 1))
    nearest = np.where(sources, np.arange(n), -1)
    steps = np.where(sources, 0, -1)
    frontier, distance = np.flatnonzero(sources), 0
    while frontier.size:
        counts = start[frontier + 1] - start[frontier]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        below = children[np.repeat(start[frontier], counts) + within]
        origin = np.repeat(nearest[frontier], counts)
        fresh = steps[below] < 0
        order = np.lexsort((origin[fresh], below[fresh]))
        below, origin = below[fresh][order], origin[fresh][order]
        first = np.diff(below, prepend=-1) != 0
        frontier, distance = below[first], distance + 1
        nearest[frontier], steps[frontier] = origin[first], distance
    return nearest, steps


def fill_licence_conflicts(connection: duckdb.DuckDBPyConnection) -> None:
    """Fill ``licence_conflict`` of the attached ``publication``, whose models and edges stand."""
    import pyarrow as pa

    _register_classes(connection)
    codes = connection.execute(
        "SELECT code FROM publication.model LEFT JOIN licence_codes"
        " ON licence IS NOT DISTINCT FROM word ORDER BY pos"
    ).fetchnumpy()["code"]
    ends = connection.execute(
        "SELECT child.pos AS child, parent.pos AS parent FROM publication.edge AS edge"
        " JOIN publication.model AS child ON child.repo_id = edge.child"
        " JOIN publication.model AS parent ON parent.repo_id = edge.parent"
        " WHERE verdict <> 'contradicted' AND edge.grade <> 'tie'"
    ).fetchnumpy()
    connection.unregister("licence_codes")
    classes = np.asarray(codes, dtype=np.int64)
    child, parent = (np.asarray(ends[name], dtype=np.int64) for name in ("child", "parent"))
    for terms, forbidden in FORBIDDEN.items():
        nearest, steps = nearest_above(
            classes.size, child, parent, classes == _CODES.index(terms)
        )  # fmt: skip
        wrong = np.flatnonzero(
            np.isin(classes, [_CODES.index(one) for one in forbidden]) & (nearest >= 0)
        )
        found = pa.table(
            {"child_pos": wrong, "ancestor_pos": nearest[wrong], "n_edges": steps[wrong],
             "child_code": classes[wrong]}
        )  # fmt: skip
        connection.register("found_conflicts", found)
        connection.execute(
            "INSERT INTO publication.licence_conflict SELECT child.repo_id, ancestor.repo_id,"
            " list_extract(?::VARCHAR[], child_code + 1), ?, n_edges FROM found_conflicts"
            " JOIN publication.model AS child ON child.pos = child_pos"
            " JOIN publication.model AS ancestor ON ancestor.pos = ancestor_pos ORDER BY child_pos",
            [[str(one) for one in _CODES], str(terms)],
        )
        connection.unregister("found_conflicts")


def _register_classes(connection: duckdb.DuckDBPyConnection) -> None:
    """Every licence that models state, with the number of its class."""
    import pyarrow as pa

    words = [
        word
        for (word,) in connection.execute(
            "SELECT DISTINCT licence FROM publication.model"
        ).fetchall()
    ]
    codes = [_CODES.index(class_of(word)) for word in words]
    table = pa.table({"word": pa.array(words, pa.string()), "code": pa.array(codes, pa.int64())})
    connection.register("licence_codes", table)
