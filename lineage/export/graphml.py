"""A pedigree as GraphML, for networkx, Gephi, yEd and Cytoscape.

Source: U. Brandes, M. Eiglsperger, J. Lerner and C. Pich, "Graph Markup Language (GraphML)", in
R. Tamassia (ed.), Handbook of Graph Drawing and Visualization (2013).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from lineage.export.pedigree import Fact, Pedigree, printable

__all__ = ["graphml"]

_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"


def _type(values: Sequence[Fact]) -> str:
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, bool) for value in present):
        return "boolean"
    if present and all(isinstance(value, int) for value in present):
        return "long"
    if present and all(isinstance(value, int | float) for value in present):
        return "double"
    return "string"


def graphml(pedigree: Pedigree) -> str:
    """Models as nodes and parents as directed edges, parent to child; missing facts are absent.

    Nodes are numbered ``n0``, ``n1``, … since identifiers of XML hold less than names of models
    do; the name is the datum ``name``. Parents that are not among the individuals are left out.
    """
    number = {one.name: f"n{place}" for place, one in enumerate(pedigree.individuals)}
    nodes: list[dict[str, Fact]] = [
        {
            **one.facts,
            "name": one.name,
            "born": one.born.isoformat() if one.born is not None else None,
            "colour": one.colour,
        }
        for one in pedigree.individuals
    ]
    bonds = [b for b in pedigree.bonds if b.child in number and b.parent in number]
    edges: list[dict[str, Fact]] = [{**bond.facts, "primary": bond.is_primary} for bond in bonds]
    root = ElementTree.Element("graphml", xmlns=_NAMESPACE)
    node_keys = _declare(root, "node", nodes)
    edge_keys = _declare(root, "edge", edges)
    graph = ElementTree.SubElement(root, "graph", id="pedigree", edgedefault="directed")
    for one, facts in zip(pedigree.individuals, nodes, strict=True):
        node = ElementTree.SubElement(graph, "node", id=number[one.name])
        _write(node, node_keys, facts)
    for bond, facts in zip(bonds, edges, strict=True):
        edge = ElementTree.SubElement(
            graph, "edge", source=number[bond.parent], target=number[bond.child]
        )
        _write(edge, edge_keys, facts)
    ElementTree.indent(root, " ")
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _declare(
    root: ElementTree.Element, domain: str, records: Sequence[Mapping[str, Fact]]
) -> dict[str, str]:
    """Declare every fact once; gives the identifier of each."""
    names = list(dict.fromkeys(name for record in records for name in record))
    keys = {name: f"{domain[0]}{place}" for place, name in enumerate(names)}
    for name, key in keys.items():
        ElementTree.SubElement(
            root, "key", {
                "id": key, "for": domain, "attr.name": printable(name),
                "attr.type": _type([record.get(name) for record in records]),
            },
        )  # fmt: skip
    return keys


def _write(
    element: ElementTree.Element, keys: Mapping[str, str], facts: Mapping[str, Fact]
) -> None:
    for name, value in facts.items():
        if value is None:
            continue
        text = str(value).lower() if isinstance(value, bool) else printable(str(value))
        ElementTree.SubElement(element, "data", key=keys[name]).text = text
