"""Merge configurations of mergekit as values, and how they are written. Pure.

::

    MergeConfig
    ├── models      Source: model, parameters
    ├── slices      Slice: layers of the child
    │   └── sources Source: model, layers, parameters
    └── parameters  name → Setting
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeAlias

import yaml

from lineage.model import LayerSource

__all__ = [
    "RANDOM_METHODS",
    "Conditional",
    "MergeConfig",
    "ModelName",
    "Parameters",
    "Scalar",
    "Setting",
    "Slice",
    "Source",
    "slices_of",
]

RANDOM_METHODS = ("arcee_fusion", "dare_linear", "dare_ties", "della", "della_linear")
"""Merge methods that draw at random, so that a seed belongs to the recipe.

Arcee fusion draws only for tensors of more than a million values, whose quantiles it estimates.
"""

Scalar: TypeAlias = "bool | int | float | str"


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model as a recipe names it, at the commit, branch or tag that the recipe says."""

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


@dataclass(frozen=True, slots=True)
class Conditional:
    """A value, or a gradient over layers, for the tensors whose name holds `filter`."""

    value: Scalar | tuple[Scalar, ...]
    filter: str | None = None


Setting: TypeAlias = "Scalar | tuple[Scalar, ...] | tuple[Conditional, ...]"
"""What a parameter is: one value, a gradient over layers, or values by filter."""
Parameters: TypeAlias = "tuple[tuple[str, Setting], ...]"


@dataclass(frozen=True, slots=True)
class Source:
    """A model that is merged; `layers` (half open) where the recipe takes a slice of it."""

    model: ModelName
    layers: tuple[int, int] | None = None
    parameters: Parameters = ()


@dataclass(frozen=True, slots=True)
class Slice:
    """Layers of the child, and what is merged there."""

    sources: tuple[Source, ...]
    base: ModelName | None = None
    parameters: Parameters = ()


@dataclass(frozen=True, slots=True)
class MergeConfig:
    """One merge. Either `models` or `slices` is empty; `left_out` tells what was not kept."""

    method: str
    models: tuple[Source, ...] = ()
    slices: tuple[Slice, ...] = ()
    base: ModelName | None = None
    parameters: Parameters = ()
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: ModelName | str | None = None
    left_out: tuple[str, ...] = field(default=(), compare=False)

    def named(self) -> tuple[ModelName, ...]:
        """Every model that must be read, each once, in order of appearance."""
        return tuple(dict.fromkeys(self._named()))

    def _named(self) -> Iterator[ModelName]:
        for source in self.models:
            yield source.model
        for part in self.slices:
            yield from (source.model for source in part.sources)
            if part.base is not None:
                yield part.base
        if self.base is not None:
            yield self.base
        if isinstance(self.tokenizer_source, ModelName):
            yield self.tokenizer_source

    def renamed(self, rename: Callable[[ModelName], ModelName]) -> MergeConfig:
        """The same merge of models under other names."""
        tokenizer = self.tokenizer_source
        return replace(
            self,
            models=tuple(replace(one, model=rename(one.model)) for one in self.models),
            slices=tuple(
                replace(
                    part,
                    sources=tuple(replace(one, model=rename(one.model)) for one in part.sources),
                    base=part.base and rename(part.base),
                )
                for part in self.slices
            ),
            base=self.base and rename(self.base),
            tokenizer_source=rename(tokenizer) if isinstance(tokenizer, ModelName) else tokenizer,
        )

    def to_dict(self) -> dict[str, object]:
        """The configuration as mergekit wants it: plain mappings, lists and scalars."""
        stated: dict[str, object] = {"merge_method": self.method}
        if self.base is not None:
            stated["base_model"] = str(self.base)
        if self.models:
            stated["models"] = [_source_dict(source) for source in self.models]
        if self.slices:
            stated["slices"] = [
                {
                    "sources": [_source_dict(source) for source in part.sources],
                    **({"base_model": str(part.base)} if part.base is not None else {}),
                    **_parameters_dict(part.parameters),
                }
                for part in self.slices
            ]
        stated |= _parameters_dict(self.parameters)
        for key in ("dtype", "out_dtype", "tokenizer_source"):
            value = getattr(self, key)
            if value is not None:
                stated[key] = str(value)
        return stated

    def to_yaml(self) -> str:
        """The configuration as YAML of ASCII characters; lists of numbers stand on one line."""
        return yaml.dump(self.to_dict(), Dumper=_Dumper, sort_keys=False, width=100)


class _Dumper(yaml.SafeDumper):
    """YAML as people write recipes: what holds no other list or mapping stands on one line."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_list(dumper: _Dumper, data: list[object]) -> yaml.SequenceNode:
    flat = all(isinstance(item, bool | int | float) for item in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flat)


_Dumper.add_representer(list, _represent_list)


def _source_dict(source: Source) -> dict[str, object]:
    stated: dict[str, object] = {"model": str(source.model)}
    if source.layers is not None:
        stated["layer_range"] = list(source.layers)
    return stated | _parameters_dict(source.parameters)


def _parameters_dict(parameters: Parameters) -> dict[str, object]:
    return {"parameters": {k: _plain(v) for k, v in parameters}} if parameters else {}


def _plain(setting: Setting | Conditional) -> object:
    if isinstance(setting, Conditional):
        value = _plain(setting.value)
        return {"value": value} if setting.filter is None else {
            "filter": setting.filter, "value": value
        }  # fmt: skip
    return [_plain(item) for item in setting] if isinstance(setting, tuple) else setting


def slices_of(layer_map: Sequence[LayerSource]) -> tuple[Slice, ...]:
    """Slices that stack the layers of a layer map; neighbours of one parent become one range.

    Raises
    ------
    ValueError
        If a layer of the child is missing, or came from two layers.

    Examples
    --------
    >>> from lineage.model import LayerSource
    >>> [part.sources[0].layers for part in slices_of(
    ...     [LayerSource(0, "a/b", 0), LayerSource(1, "a/b", 1), LayerSource(2, "a/b", 1)])]
    [(0, 2), (1, 2)]
    """
    ordered = sorted(layer_map, key=lambda source: source.child_layer)
    if [source.child_layer for source in ordered] != list(range(len(ordered))):
        raise ValueError("the layer map does not tell every layer once")
    starts = [0] + [
        n
        for n, (before, here) in enumerate(pairwise(ordered), start=1)
        if (here.parent, here.parent_layer) != (before.parent, before.parent_layer + 1)
    ]
    runs = [ordered[a:b] for a, b in pairwise([*starts, len(ordered)])]
    return tuple(
        Slice((Source(ModelName(run[0].parent), (run[0].parent_layer, run[-1].parent_layer + 1)),))
        for run in runs
        if run
    )
