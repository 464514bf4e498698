"""How large the child of a recipe becomes, before anything is merged. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crawler.records import TensorEntry
from lineage.errors import UsageError
from lineage.export.mergekit import MergeConfig, ModelName, Slice
from lineage.weights.encodings import PLAIN_BYTES, TORCH_NAMES
from lineage.weights.roles import role_of

__all__ = ["Extent", "extent_of", "output_bytes"]

_BYTES = {name: PLAIN_BYTES[dtype] for dtype, name in TORCH_NAMES.items()}


@dataclass(frozen=True, slots=True)
class Extent:
    """Values of one model: by layer, and `outside` the layers; bytes of its widest word."""

    layers: Mapping[int, int] = field(default_factory=dict)
    outside: int = 0
    word_bytes: int = 0

    @property
    def n_layers(self) -> int:
        """Layers, counted from 0 to the last that has a tensor."""
        return 1 + max(self.layers, default=-1)

    @property
    def n_values(self) -> int:
        """All values."""
        return self.outside + sum(self.layers.values())


def extent_of(tensors: Sequence[TensorEntry], model_type: str | None) -> Extent:
    """The extent of a model, from the headers of its weights."""
    layers: dict[int, int] = {}
    outside = 0
    for tensor in tensors:
        layer, n = role_of(tensor.name, model_type).key.layer, math.prod(tensor.shape)
        if layer < 0:
            outside += n
        else:
            layers[layer] = layers.get(layer, 0) + n
    return Extent(layers, outside, max((PLAIN_BYTES.get(t.dtype, 1) for t in tensors), default=0))


def output_bytes(config: MergeConfig, extents: Mapping[ModelName, Extent]) -> int:
    """At most so many bytes of tensors come out of a recipe.

    Raises
    ------
    UsageError
        If a slice takes layers that its model has not.
    """
    word_bytes = _BYTES.get(config.out_dtype or config.dtype or "") or max(
        (extent.word_bytes for extent in extents.values()), default=0
    )
    outside = [extent.outside for extent in extents.values()]
    values = max((extent.n_values for extent in extents.values()), default=0)
    if config.slices:
        stacked = sum(_slice_values(part, extents) for part in config.slices)
        values = stacked + max(outside, default=0)
    if config.tokenizer_source is not None:  # a union of vocabularies is no longer than all of them
        values += sum(outside)
    return values * word_bytes


def _slice_values(part: Slice, extents: Mapping[ModelName, Extent]) -> int:
    found = []
    for source in part.sources:
        extent = extents[source.model]
        start, stop = source.layers or (0, extent.n_layers)
        if stop > extent.n_layers:
            raise UsageError(
                f"the recipe takes layers {start} to {stop} of {source.model}, which has "
                f"{extent.n_layers}"
            )
        found.append(sum(extent.layers.get(layer, 0) for layer in range(start, stop)))
    return max(found, default=0)
