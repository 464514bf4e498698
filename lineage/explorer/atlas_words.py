"""What the categories of the atlas are called, and which colours of the palette they have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["COLOURINGS", "Category", "Colouring"]


@dataclass(frozen=True, slots=True)
class Category:
    """A category in words, with its colour in :mod:`lineage.explorer.palette` and its shape.

    Single models have the shape of their relation (:mod:`lineage.explorer.shapes`) in every
    colouring; the categories of the others are shown as circles.
    """

    word: str
    colour: str
    shape: str = "unknown"


@dataclass(frozen=True, slots=True)
class Colouring:
    """A way to colour the models; `categories` stand in the order of their codes."""

    title: str
    says: str
    categories: tuple[Category, ...]


COLOURINGS: Mapping[str, Colouring] = {
    "relation": Colouring(
        "Relation",
        "how a model came from its primary parent",
        (
            Category("no parent known", "unknown"),
            Category("fine-tune", "finetune", "finetune"),
            Category("adapter", "adapter", "adapter"),
            Category("quantisation", "quantized", "quantized"),
            Category("merge", "merge", "merge"),
            Category("other", "line"),
        ),
    ),
    "licence": Colouring(
        "Licence",
        "what its stated licence asks, coarsely",
        (
            Category("permissive", "quantized"),
            Category("copyleft", "finetune"),
            Category("non-commercial", "merge"),
            Category("custom terms", "adapter"),
            Category("not stated or not known", "unknown"),
        ),
    ),
    "verdict": Colouring(
        "Verdict",
        "whether what was declared agrees with the weights; the gravest of a model's edges counts",
        (
            Category("contradicted", "contradicted"),
            Category("undeclared", "undeclared"),
            Category("confirmed", "confirmed"),
            Category("unverified", "unverified"),
            Category("no edge", "line"),
        ),
    ),
    "status": Colouring(
        "Status",
        "whether its repository can be read",
        (
            Category("open", "finetune"),
            Category("gated", "adapter"),
            Category("disabled", "merge"),
            Category("gone", "undeclared"),
            Category("other", "unknown"),
        ),
    ),
}
"""By the names of :data:`lineage.store.atlas_tiles.FACETS`, in their order."""
