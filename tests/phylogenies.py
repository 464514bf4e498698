"""Published trees and their tables, read with dendropy and the csv module."""

from __future__ import annotations

import csv
from pathlib import Path

import dendropy
import numpy as np
from numpy.typing import NDArray

from lineage.evolution.comparative.trees import Tree

Floats = NDArray[np.float64]


def tree_of(newick: str) -> Tree:
    """A Newick string as arrays; missing lengths are 1, unnamed nodes are named by number."""
    parsed = dendropy.Tree.get(data=newick, schema="newick", preserve_underscores=True)
    nodes = list(parsed.preorder_node_iter())
    number = {node: i for i, node in enumerate(nodes)}
    names, parent, length = [], [], []
    for i, node in enumerate(nodes):
        label = node.taxon.label if node.taxon else node.label
        names.append(label or f"node {i}")
        parent.append(-1 if node.parent_node is None else number[node.parent_node])
        given = 1.0 if node.edge.length is None else node.edge.length
        length.append(0.0 if node.parent_node is None else given)
    return Tree(tuple(names), np.array(parent), np.array(length, dtype=float))


def read_tree(path: Path) -> Tree:
    """The first tree of a file."""
    return tree_of(path.read_text().strip().splitlines()[0])


def read_table(path: Path) -> dict[str, dict[str, str]]:
    """Rows of a csv by their first column."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


def column(table: dict[str, dict[str, str]], name: str, order: list[str]) -> Floats:
    """One column as numbers, in the given order of rows."""
    return np.array([float(table[row][name]) for row in order])


def tip_names(tree: Tree) -> list[str]:
    """Names of the tips in order."""
    return [tree.names[i] for i in tree.tips]


def random_forest(seed: int, n: int, *, n_roots: int = 2) -> Tree:
    """A forest in no order at all, with polytomies, linear nodes and lone founders."""
    rng = np.random.default_rng(seed)
    parent = np.array([-1 if i < n_roots else int(rng.integers(0, i)) for i in range(n)])
    place = rng.permutation(n)
    shuffled = np.full(n, -1)
    shuffled[place] = np.where(parent < 0, -1, place[parent])
    length = np.where(shuffled < 0, 0.0, rng.exponential(1.0, n))
    return Tree(tuple(f"m{i}" for i in range(n)), shuffled, length)


def children_of(tree: Tree, node: int) -> list[int]:
    """Slow and obvious."""
    return [i for i in range(len(tree)) if tree.parent[i] == node]


def line_of(tree: Tree, node: int) -> list[int]:
    """A node and its ancestors up to the root."""
    line = [node]
    while tree.parent[line[-1]] >= 0:
        line.append(int(tree.parent[line[-1]]))
    return line
