"""Trees as Newick, and pedigrees with merges as extended Newick.

Every label is quoted, a quote inside is doubled, control characters become the signs that stand
for them. Branch lengths are days between the births of parent and child, left out where a date is
missing. Sources: G. Olsen, "Newick's 8:45" tree format (1990); G. Cardona, F. Rosselló and
G. Valiente, "Extended Newick: it is time for a standard representation of phylogenetic networks",
BMC Bioinformatics 9:532 (2008).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lineage.export.pedigree import Forest, Pedigree, primary_forest, printable

__all__ = ["extended_newick", "newick", "quoted_label", "written_trees"]


def quoted_label(name: str) -> str:
    """A label that every reader of Newick and Nexus takes as one word.

    Examples
    --------
    >>> quoted_label("it's/a [model];")
    "'it''s/a [model];'"
    """
    return "'" + printable(name).replace("'", "''") + "'"


def newick(pedigree: Pedigree) -> str:
    """The primary trees, one a line, each ending with a semicolon.

    Only primary parents are held; models with children are labelled inner nodes. A model without
    a primary parent among the individuals is a root.
    """
    forest = primary_forest(pedigree)
    return "".join(f"{tree};\n" for tree in written_trees(forest, quoted_label))


def extended_newick(pedigree: Pedigree) -> str:
    """All parents as one network in extended Newick, on one line.

    A model with several parents is written whole below its first one, and as a leaf of the same
    label ``'name#H1'`` below each other one; the number is the merge's. Several founders hang on
    one root without a name. Bonds that would close a cycle are left out.
    """
    forest = primary_forest(pedigree, any_parent=True)
    number: dict[str, int] = {}
    again: dict[str, list[str]] = {}
    for bond in forest.extra:
        number.setdefault(bond.child, len(number) + 1)
        again.setdefault(bond.parent, []).append(bond.child)

    def label(name: str) -> str:
        return quoted_label(f"{name}#H{number[name]}" if name in number else name)

    trees = written_trees(forest, label, again)
    if not trees:
        return ""
    return f"{trees[0]};\n" if len(trees) == 1 else f"({','.join(trees)});\n"


def written_trees(
    forest: Forest, label: Callable[[str], str], leaves: Mapping[str, list[str]] | None = None
) -> list[str]:
    """Each tree of a forest without its semicolon; `leaves` are further leaves by parent."""
    leaves = leaves or {}
    return [_tree(forest, root, label, leaves) for root in forest.roots]


def _tree(
    forest: Forest, root: str, label: Callable[[str], str], leaves: Mapping[str, list[str]]
) -> str:
    def length(child: str, parent: str) -> str:
        days = forest.days(child, parent)
        return "" if days is None else f":{days}"

    # Chains may be longer than Python's stack is deep: from the last of all generations upwards.
    order = [root]
    for name in order:
        order += forest.children[name]
    written: dict[str, str] = {}
    for name in reversed(order):
        below = [written.pop(child) + length(child, name) for child in forest.children[name]]
        below += [label(leaf) + length(leaf, name) for leaf in leaves.get(name, [])]
        written[name] = (f"({','.join(below)})" if below else "") + label(name)
    return written[root]
