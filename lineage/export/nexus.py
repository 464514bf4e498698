"""Trees as Nexus with colours, as FigTree reads and writes them.

Source: D. R. Maddison, D. L. Swofford and W. P. Maddison, "NEXUS: an extensible file format for
systematic information", Systematic Biology 46:590 (1997); colours as FigTree's ``[&!color=…]``.
"""

from __future__ import annotations

import re

from lineage.export.newick import quoted_label, written_trees
from lineage.export.pedigree import Pedigree, primary_forest

__all__ = ["nexus"]

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def nexus(pedigree: Pedigree) -> str:
    """The primary trees as a Nexus document, one ``TREE`` for each root.

    ``TAXLABELS`` holds the tips, that is the models without children among the individuals; the
    others are labelled inner nodes. Tips and nodes carry their colour.
    """
    forest = primary_forest(pedigree)

    def label(name: str) -> str:
        colour = forest.individuals[name].colour
        shown = f"[&!color={colour}]" if colour and _COLOUR.fullmatch(colour) else ""
        return quoted_label(name) + shown

    tips = [name for name in forest.individuals if not forest.children[name]]
    trees = [
        f"\tTREE tree_{number} = [&R] {text};"
        for number, text in enumerate(written_trees(forest, label), 1)
    ]
    return "\n".join(
        [
            "#NEXUS",
            "BEGIN TAXA;",
            f"\tDIMENSIONS NTAX={len(tips)};",
            "\tTAXLABELS",
            *[f"\t\t{label(name)}" for name in tips],
            "\t;",
            "END;",
            "BEGIN TREES;",
            *trees,
            "END;",
            "",
        ]
    )
