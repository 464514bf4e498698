"""The part of the inference that describes every edge layer by layer, for the Evidence page.

Nothing is decided here, and findings do not depend on it: declared parents are described too, so
that a reader sees what a contradicted claim looks like in the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple

import duckdb

from lineage.infer.edge_layers import EdgeLayer, EdgeMatch, describe_parents
from lineage.model import Finding
from lineage.store.edge_layers import described_edges, drop_edge_layers, store_edge_layers
from lineage.store.fingerprint_ledger import LedgerRow
from lineage.store.fingerprint_parts import Where, read_fingerprints
from lineage.weights.fingerprint import Fingerprint

__all__ = ["describe_edges"]

_CHILDREN_AT_ONCE = 64
"""Bounds the fingerprints in memory; the database is written once for so many."""


def describe_edges(
    connection: duckdb.DuckDBPyConnection,
    where: Where,
    rows: Sequence[LedgerRow],
    findings: Iterable[Finding],
    declared: Iterable[tuple[str, str]],
    *,
    afresh: bool,
) -> int:
    """Describe every child beside its found, tied and declared parents; returns how many pairs.

    Parameters
    ----------
    where, rows
        The fingerprints that were inferred from, one of each model.
    findings, declared
        The current findings; pairs of child and parent that somebody named.
    afresh
        Whether fingerprints, findings or code have changed, so that nothing kept holds. Otherwise
        only pairs that are new are described, and those that nobody names any more forgotten.
    """
    by_name = {row.repo_id: row for row in rows}
    of_child = {finding.child: finding for finding in findings}
    wanted = _wanted(of_child, declared, by_name)
    kept = described_edges(connection)
    stale = kept if afresh else kept - wanted.keys()
    connection.begin()
    try:
        if stale:
            drop_edge_layers(connection, stale)
        parents: dict[str, list[str]] = {}
        for child, parent in wanted:
            if (child, parent) not in kept - stale:
                parents.setdefault(child, []).append(parent)
        for chunk in _chunks(list(parents), _CHILDREN_AT_ONCE):
            _describe(connection, where, by_name, of_child, {name: parents[name] for name in chunk})
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return sum(map(len, parents.values()))


def _wanted(
    findings: Mapping[str, Finding],
    declared: Iterable[tuple[str, str]],
    read: Mapping[str, LedgerRow],
) -> dict[tuple[str, str], None]:
    """Pairs that somebody names and of which both were read, each once, found parents first."""
    found = (
        (child, parent)
        for child, finding in sorted(findings.items())
        for parent in (*(share.parent for share in finding.parents), *finding.ties)
    )
    return dict.fromkeys(
        (child, parent)
        for child, parent in (*found, *declared)
        if child != parent and child in read and parent in read
    )


def _describe(
    connection: duckdb.DuckDBPyConnection,
    where: Where,
    rows: Mapping[str, LedgerRow],
    findings: Mapping[str, Finding],
    parents: Mapping[str, Sequence[str]],
) -> None:
    names = dict.fromkeys(name for child, above in parents.items() for name in (child, *above))
    members: dict[str, Fingerprint] = {
        one.repo_id: one for one in read_fingerprints(where, [rows[name] for name in names])
    }
    layers: list[EdgeLayer] = []
    matches: list[EdgeMatch] = []
    for child, above in parents.items():
        described = describe_parents(
            members[child], [members[name] for name in above], findings.get(child)
        )
        layers += described[0]
        matches += described[1]
    store_edge_layers(connection, [astuple(row) for row in layers], [astuple(m) for m in matches])


def _chunks(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (names[at : at + size] for at in range(0, len(names), size))
