"""Strangers' merge configurations, read strictly. Pure and bounded.

The reader keeps what changes the words of a merge and can be carried out without asking anything
but the named models; it refuses the rest by name, because what is half understood must not be run.
Keys that mergekit ignores, or that concern no weight, are left out and listed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import yaml

from crawler.errors import MalformedError
from crawler.plain_yaml import read_yaml
from lineage.errors import UsageError
from lineage.export.mergekit import (
    Conditional,
    MergeConfig,
    ModelName,
    Parameters,
    Scalar,
    Setting,
    Slice,
    Source,
)
from lineage.weights.encodings import TORCH_NAMES

__all__ = ["read_config"]

_MAX_MODELS = 64
_MAX_SLICES = 1_024
_MAX_LAYERS = 10_000
_MAX_PARAMETERS = 32
_MAX_VALUES = 4_096
_MAX_NUMBER = 1e9
_MAX_WORD = 1_000
_MAX_PLAIN = 1_000
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_METHOD = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9_](?:[\w.\-/]{0,98}\w)?", re.ASCII)


def read_config(text: str) -> MergeConfig:
    r"""The merge that a stranger's YAML describes.

    Raises
    ------
    UsageError
        If it is no YAML within the bounds, has aliases, tags or numbers to the base 60, describes
        several merges, a mixture of experts or no merge, names an adapter, or asks for what is not
        done.

    Examples
    --------
    >>> read_config("merge_method: linear\nmodels: [{model: a/b@main}]").models[0].model
    ModelName(name='a/b', revision='main')
    """
    try:
        documents = read_yaml(text)  # every bound before anything is built; aliases refused
        if len(documents) > 1:
            raise UsageError(
                f"the recipe has {len(documents)} documents: verify one merge at a time"
            )
        value = yaml.load(text, Loader=_Loader)
    except MalformedError as error:
        raise UsageError(f"the recipe is refused: {error}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"the recipe is refused: {_one_line(error)}") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"the recipe is refused: {_one_line(error)}") from error
    if not isinstance(value, dict):
        raise UsageError("the recipe describes no merge: it is no mapping")
    return _Reader().config(value)


class _Loader(yaml.SafeLoader):
    """As mergekit reads, but everything is composed, and bounded, before anything is built.

    Numbers are built in time that grows with the square of their digits, and a tag has words built
    as what they are not, which ends in errors of any kind.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise UsageError(f"the recipe is refused: it has a tag ({_shown(event.tag)})")
        is_plain = isinstance(event, yaml.ScalarEvent) and event.style is None
        if is_plain and len(event.value) > _MAX_PLAIN:
            raise UsageError(
                f"the recipe is refused: it has {len(event.value)} characters without quotes, "
                f"at most {_MAX_PLAIN} are read"
            )
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS and ":" in node.value:
            raise UsageError(
                f"the recipe is refused: {_shown(node.value)} is a number to the base 60 in YAML"
            )
        return node


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:300]


class _Reader:
    """Reads one configuration; collects what is left out."""

    def __init__(self) -> None:
        self.left_out: list[str] = []

    def config(self, value: Mapping[object, object]) -> MergeConfig:
        if "experts" in value:
            raise UsageError(
                "the recipe makes a mixture of experts (mergekit-moe), whose routers no recipe "
                "tells: only merges of mergekit are rebuilt"
            )
        if "modules" in value:
            raise UsageError("recipes with modules are not carried out: give models or slices")
        if value.get("merge_method") is None:
            raise UsageError("the recipe describes no merge: it has no merge_method")
        stated = self.known(
            value, "recipe",
            ("merge_method", "models", "slices", "base_model", "parameters", "dtype", "out_dtype",
             "tokenizer_source", "tokenizer"),
        )  # fmt: skip
        method = stated["merge_method"]
        if not isinstance(method, str) or not _METHOD.fullmatch(method):
            raise UsageError(f"no merge method: {_shown(method)}")
        models = self.items(stated.get("models"), "models", _MAX_MODELS)
        slices = self.items(stated.get("slices"), "slices", _MAX_SLICES)
        if bool(models) == bool(slices):
            raise UsageError("a recipe has either models or slices")
        found = MergeConfig(
            method,
            tuple(self.source(item, "models", sliced=False) for item in models),
            tuple(self.slice(item) for item in slices),
            self.optional_name(stated.get("base_model")),
            self.parameters(stated.get("parameters")),
            _dtype(stated.get("dtype")),
            _dtype(stated.get("out_dtype")),
            self.tokenizer(stated),
            tuple(dict.fromkeys(self.left_out)),
        )
        n_layers = sum(
            b - a for part in found.slices for a, b in [part.sources[0].layers or (0, 0)]
        )
        if n_layers > _MAX_LAYERS:
            raise UsageError(f"the recipe stacks {n_layers} layers, at most {_MAX_LAYERS} are made")
        return found

    def known(self, value: object, where: str, keys: Sequence[str]) -> dict[str, object]:
        """What stands under known keys; the others are left out, as mergekit does."""
        if not isinstance(value, dict):
            raise UsageError(f"{where} of the recipe: a mapping is needed, not {_shown(value)}")
        self.left_out += [_shown(key) for key in value if key not in keys]
        return {key: value[key] for key in keys if value.get(key) is not None}

    @staticmethod
    def items(value: object, where: str, most: int) -> list[object]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise UsageError(f"{where} of the recipe: a list is needed, not {_shown(value)}")
        if len(value) > most:
            raise UsageError(f"{where} of the recipe: {len(value)} are more than {most}")
        return value

    def slice(self, value: object) -> Slice:
        stated = self.known(value, "slices", ("sources", "base_model", "parameters"))
        items = self.items(stated.get("sources"), "sources", _MAX_MODELS)
        if not items:
            raise UsageError("a slice of the recipe has no sources")
        sources = tuple(self.source(item, "sources", sliced=True) for item in items)
        lengths = {b - a for source in sources for a, b in [source.layers or (0, 0)]}
        if len(lengths) > 1:
            raise UsageError("the sources of a slice differ in their numbers of layers")
        return Slice(
            sources,
            self.optional_name(stated.get("base_model")),
            self.parameters(stated.get("parameters")),
        )

    def source(self, value: object, where: str, *, sliced: bool) -> Source:
        keys = ("model", "parameters", *(["layer_range"] if sliced else []))
        stated = self.known(value, where, keys)
        if "model" not in stated:
            raise UsageError(f"an entry of {where} names no model")
        layers = _layers(stated.get("layer_range")) if sliced else None
        return Source(self.name(stated["model"]), layers, self.parameters(stated.get("parameters")))

    def optional_name(self, value: object) -> ModelName | None:
        return None if value is None else self.name(value)

    def name(self, value: object) -> ModelName:
        """A model: ``name``, ``name@revision``, or mergekit's mapping of the same."""
        if isinstance(value, dict):
            stated = self.known(value, "model", ("model", "lora", "path", "revision"))
            if "lora" in stated:
                raise UsageError(f"{_shown(value)} is a model with an adapter: {_ADAPTERS}")
            if value.get("override_architecture") is not None:
                raise UsageError("the architecture of a model is not overridden here")
            if "model" in stated:
                return self.name(stated["model"])
            name, revision = stated.get("path"), stated.get("revision")
        else:
            name, _, revision = value.partition("@") if isinstance(value, str) else (value, "", "")
        if (
            not isinstance(name, str)
            or not name.strip()
            or len(name) > _MAX_WORD
            or "@" in name  # of a mapping, and not to be told from a revision
        ):
            raise UsageError(f"no name of a model: {_shown(value)}")
        if "+" in name or "+" in str(revision or ""):
            raise UsageError(f"{_shown(value)} is a model with an adapter: {_ADAPTERS}")
        if not revision:
            return ModelName(name)
        if not isinstance(revision, str) or not _REVISION.fullmatch(revision) or ".." in revision:
            raise UsageError(f"{_shown(value)} names no revision of a model")
        return ModelName(name, revision)

    def tokenizer(self, stated: Mapping[str, object]) -> ModelName | str | None:
        source = stated.get("tokenizer_source")
        if "tokenizer" in stated:
            if source is not None:
                raise UsageError("the recipe has both tokenizer_source and tokenizer")
            if isinstance(stated["tokenizer"], dict) and set(stated["tokenizer"]) - {"source"}:
                raise UsageError("a tokenizer with tokens of its own is not carried out")
            source = self.known(stated["tokenizer"], "tokenizer", ("source",)).get("source")
        if source is None:
            return None
        return source if source in ("union", "base") else self.name(source)

    def parameters(self, value: object) -> Parameters:
        if value is None:
            return ()
        if not isinstance(value, dict):
            raise UsageError(f"parameters of the recipe: no mapping, but {_shown(value)}")
        if len(value) > _MAX_PARAMETERS:
            raise UsageError(f"{len(value)} parameters are more than {_MAX_PARAMETERS}")
        found = []
        for key, setting in value.items():
            if not isinstance(key, str) or not key.isidentifier() or len(key) > 60:
                raise UsageError(f"no name of a parameter: {_shown(key)}")
            if setting is not None:
                found.append((key, self.setting(key, setting)))
        return tuple(found)

    def setting(self, key: str, value: object) -> Setting:
        if isinstance(value, dict):
            return (self.conditional(key, value),)
        if not isinstance(value, list):
            return _scalar(key, value)
        if not 0 < len(value) <= _MAX_VALUES:
            raise UsageError(f"parameter {key} has {len(value)} values, not 1 to {_MAX_VALUES}")
        if any(isinstance(item, dict) for item in value):
            return tuple(self.conditional(key, item) for item in value)
        return tuple(_scalar(key, item) for item in value)

    def conditional(self, key: str, value: object) -> Conditional:
        stated = self.known(value, f"parameter {key}", ("value", "filter"))
        setting, pattern = stated.get("value"), stated.get("filter")
        if setting is None or not (pattern is None or isinstance(pattern, str)):
            raise UsageError(f"parameter {key} has no usable value: {_shown(value)}")
        if pattern is not None and len(pattern) > _MAX_WORD:
            raise UsageError(f"parameter {key} has a filter of {len(pattern)} characters")
        if isinstance(setting, list):
            if not 0 < len(setting) <= _MAX_VALUES:
                raise UsageError(f"parameter {key} has {len(setting)} values")
            return Conditional(tuple(_scalar(key, item) for item in setting), pattern)
        return Conditional(_scalar(key, setting), pattern)


_ADAPTERS = "merge the adapter into its model first, and name that"


def _scalar(key: str, value: object) -> Scalar:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and abs(value) <= _MAX_NUMBER:  # so it is no NaN either
        return value
    if isinstance(value, str) and len(value) <= _MAX_WORD:
        return value  # YAML takes 1e-3 for text; mergekit makes a number of it
    raise UsageError(f"parameter {key} has no usable value: {_shown(value)}")


def _layers(value: object) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2 and all(type(item) is int for item in value):
        start, stop = value
        if 0 <= start < stop <= _MAX_LAYERS:
            return start, stop
    raise UsageError(f"no range of layers: {_shown(value)}")


def _dtype(value: object) -> str | None:
    if value is None:
        return None
    name = value.removeprefix("torch.") if isinstance(value, str) else value
    if name not in TORCH_NAMES.values():
        raise UsageError(f"no dtype that models are merged in: {_shown(value)}")
    return str(name)


def _shown(value: object) -> str:
    """A stranger's value in a sentence: on one line, cut, in ASCII."""
    return ascii(value)[:100]
