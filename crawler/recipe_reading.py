"""From one document of a recipe (plain YAML) to what it says. Pure and bounded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from crawler.plain_yaml import items_of, mapping_of, number_of, word_of
from crawler.recipe_values import (
    Gradient,
    Layers,
    MergeRecipe,
    OutputSlice,
    Parameter,
    RecipeParent,
    SliceSource,
    chained,
    gradients_of,
)
from crawler.references import MAX_WORD_CHARACTERS, mention_of

__all__ = ["MAX_PARENTS", "MAX_TEXT_CHARACTERS", "read_recipe"]

MAX_PARENTS = 256
"""Further parents of one recipe are passed over."""

MAX_TEXT_CHARACTERS = 20_000
"""Of the text that a recipe was read from, no more is kept."""

_MAX_USES = 4_096
_MAX_SLICES = 512
_MAX_LAYERS = 100_000
_MAX_PARAMETERS = 16
_MAX_VALUES = 256  # of one parameter, over all its filters
_MAX_NUMBER = 1e9
_CANCELLED = 1e-8
"""Weights whose sum is smaller are not normalised, as in mergekit."""

_AVERAGES = frozenset({"linear", "slerp", "nuslerp", "passthrough"})
_INHERITED = ("weight", "density", "gamma", "epsilon")
_NUMBERS = frozenset({*_INHERITED, "t"})
_SWITCHES = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}

_Scopes = tuple[tuple[Parameter, ...], ...]


@dataclass(frozen=True, slots=True)
class _Name:
    model: str
    lora: str | None = None


@dataclass(frozen=True, slots=True)
class _Use:
    """One use of a model: layers taken, and parameters from the innermost scope outwards."""

    name: _Name
    layers: Layers | None
    scopes: _Scopes


def read_recipe(document: Mapping[str, object], child: str, text: str) -> MergeRecipe | None:
    """The merge of `child` that `document`, read from `text`, describes; None when it is none.

    Stages stay as they are named, and paths unresolved. A parameter that is no number, no switch
    and no gradient of numbers within the bounds is left out, never changed.
    """
    method = word_of(document.get("merge_method")) or word_of(document.get("method"))
    if method is None and document.get("experts") is not None:
        method = "moe"
    uses = list(islice(_uses(document, ()), _MAX_USES)) if method else []
    if method is None or not uses:
        return None
    method = method.lower()[:MAX_WORD_CHARACTERS]
    whole = _parameters(document)
    base = _name(document.get("base_model"))
    slices = tuple(_slices(document, child))
    return MergeRecipe(
        method=method,
        parents=_parents(method, base, uses, whole, _slerp_share(slices, whole), child),
        base=mention_of(base.model, child) if base else None,
        dtype=_word(document.get("dtype")),
        out_dtype=_word(document.get("out_dtype")),
        tokenizer_source=_tokenizer(document),
        parameters=whole,
        slices=slices,
        name=_word(document.get("name")),
        text=_clean(text[:MAX_TEXT_CHARACTERS]),
    )


def _word(value: object) -> str | None:
    word = word_of(value)
    return word[:MAX_WORD_CHARACTERS] if word else None


def _clean(text: str) -> str:
    """`text` without what UTF-8 or a database cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd").strip("\n")


def _tokenizer(document: Mapping[str, object]) -> str | None:
    stated = document.get("tokenizer_source")
    if stated is None:
        stated = mapping_of(document.get("tokenizer")).get("source")
    found = _name(stated)
    return found.model if found else None


def _name(value: object) -> _Name | None:
    """The model in ``X``, ``X+LORA``, ``{model: X, lora: Y}`` or ``{model: {path: X}}``."""
    lora = None
    for _ in range(4):
        if not isinstance(value, dict):
            break
        added = value.get("lora")
        lora = lora or _word(mapping_of(added).get("path") if isinstance(added, dict) else added)
        value = value.get("model", value.get("path", value.get("model_path")))
    model, _, added_word = (_word(value) or "").partition("+")
    word = _word(model)
    return _Name(word, lora or _word(added_word)) if word else None


# ---- models and layers -----------------------------------------------------------------


def _uses(document: Mapping[str, object], outer: _Scopes) -> Iterator[_Use]:
    """Every use of a model in `document`, where `outer` holds the parameters around it."""
    for entry in items_of(document.get("models")):
        if name := _name(entry):
            yield _Use(name, None, (_parameters(entry), *outer))
    for part in items_of(document.get("slices")):
        around = (_parameters(part), *outer)
        for source in items_of(mapping_of(part).get("sources")):
            if name := _name(source):
                yield _Use(name, _layers(source), (_parameters(source), *around))
    for key in ("experts", "shared_experts"):
        for expert in items_of(document.get(key)):
            if name := _name(mapping_of(expert).get("source_model")):
                yield _Use(name, None, ())
    for module in _modules(document).values():
        yield from _uses(module, (_parameters(module), *outer))


def _modules(document: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    """Modules by name; what stands under ``definition`` stands for the module itself."""
    found: dict[str, Mapping[str, object]] = {}
    for name, module in mapping_of(document.get("modules")).items():
        parts = {**mapping_of(module), **mapping_of(mapping_of(module).get("definition"))}
        parts.pop("modules", None)
        found[name[:MAX_WORD_CHARACTERS]] = parts
    return found


def _slices(document: Mapping[str, object], child: str) -> Iterator[OutputSlice]:
    for part, module, outer in islice(_parts(document), _MAX_SLICES):
        sources = tuple(_sources(part, child))
        if sources:
            yield OutputSlice(sources, _merged(_parameters(part), outer), module)


def _parts(
    document: Mapping[str, object],
) -> Iterator[tuple[object, str | None, tuple[Parameter, ...]]]:
    """Slices of the recipe and of its modules; the models of a module are one slice."""
    for part in items_of(document.get("slices")):
        yield part, None, ()
    for name, module in _modules(document).items():
        for part in items_of(module.get("slices")):
            yield part, name, _parameters(module)
        if module.get("models") is not None:
            yield {**module, "sources": module["models"]}, name, ()


def _sources(part: object, child: str) -> Iterator[SliceSource]:
    for source in items_of(mapping_of(part).get("sources"))[:MAX_PARENTS]:
        name = _name(source)
        mention = mention_of(name.model, child) if name else None
        if name and mention:
            lora = mention_of(name.lora, child)
            yield SliceSource(mention, _layers(source), lora, _parameters(source))


def _layers(source: object) -> Layers | None:
    span = items_of(mapping_of(source).get("layer_range"))
    if len(span) != 2:
        return None
    start, stop = number_of(span[0]), number_of(span[1])
    if start is None or stop is None:
        return None
    if not (0 <= start < stop <= _MAX_LAYERS and start == int(start) and stop == int(stop)):
        return None
    return int(start), int(stop)


# ---- parameters ------------------------------------------------------------------------


def _parameters(scope: object) -> tuple[Parameter, ...]:
    """What stands under ``parameters`` of a document, slice, model or source."""
    found = []
    for name, value in mapping_of(mapping_of(scope).get("parameters")).items():
        gradients = _gradients(value, switches=name not in _NUMBERS)
        if gradients and len(name) <= 100 and word_of(name) == name:
            found.append(Parameter(name, gradients))
        if len(found) >= _MAX_PARAMETERS:
            break
    return tuple(found)


def _gradients(value: object, *, switches: bool) -> tuple[Gradient, ...]:
    """A parameter's value by filter; empty where any part of it cannot be read."""
    by_filter = isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(item, dict) for item in value)
    )
    found = []
    n_values = 0
    for item in items_of(value) if by_filter else ({"value": value},):
        fields = mapping_of(item)
        values = _values(fields.get("value"), switches=switches)
        pattern = _word(fields.get("filter"))
        n_values += len(values)
        if not values or n_values > _MAX_VALUES:
            return ()
        found.append(Gradient(values, None if pattern == "*" else pattern))
    return tuple(found)


def _values(value: object, *, switches: bool) -> tuple[float | bool, ...]:
    found: list[float | bool] = []
    for item in items_of(value)[: _MAX_VALUES + 1]:
        word = word_of(item)
        number = number_of(item)
        if number is not None and abs(number) <= _MAX_NUMBER:
            found.append(number)
        elif switches and word is not None and word.lower() in _SWITCHES:
            found.append(_SWITCHES[word.lower()])
        else:
            return ()
    return tuple(found)


def _merged(inner: tuple[Parameter, ...], outer: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
    """Parameters of an inner scope, with those of the outer one where the inner one is silent."""
    names = dict.fromkeys(stated.name for stated in (*inner, *outer))
    return tuple(
        Parameter(name, chained(gradients_of(inner, name), gradients_of(outer, name)))
        for name in names
    )


def _effective(use: _Use, whole: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
    """The parameters of a use: its own, and of the inherited ones those of all scopes around."""
    found = use.scopes[0] if use.scopes else ()
    for scope in (*use.scopes[1:], whole):
        found = _merged(found, tuple(stated for stated in scope if stated.name in _INHERITED))
    return found


def _single(gradients: Sequence[Gradient]) -> float | None:
    """A parameter as one number: the mean of its gradient, None where it depends on a filter."""
    if not gradients or gradients[0].filter is not None:
        return None
    return sum(map(float, gradients[0].values)) / len(gradients[0].values)


def _slerp_share(slices: Sequence[OutputSlice], whole: tuple[Parameter, ...]) -> float | None:
    """Slerp's ``t`` as one number; None also where several slices state their own."""
    own = [gradients_of(part.parameters, "t") for part in slices]
    outer = gradients_of(whole, "t")
    if len(slices) == 1:
        return _single(chained(own[0], outer))
    return None if any(own) else _single(outer)


# ---- parents ---------------------------------------------------------------------------


def _parents(
    method: str,
    base: _Name | None,
    uses: Sequence[_Use],
    whole: tuple[Parameter, ...],
    t: float | None,
    child: str,
) -> tuple[RecipeParent, ...]:
    used: dict[_Name, list[_Use]] = {}
    for use in uses:
        used.setdefault(use.name, []).append(use)
    stated = {
        name: [
            # Task vectors of the base itself are nothing: what holds for all is not for it.
            use.scopes[0] if name == base and method not in _AVERAGES and use.scopes
            else _effective(use, whole)
            for use in own
        ]
        for name, own in used.items()
    }  # fmt: skip
    shares = _shares(method, base, used, stated, whole, t)
    parents = []
    for name, own in list(used.items())[:MAX_PARENTS]:
        mention = mention_of(name.model, child)
        if mention is None:
            continue
        parents.append(
            RecipeParent(
                mention,
                shares[name],
                lora=mention_of(name.lora, child),
                parameters=_agreed(stated[name]),
                layers=tuple(dict.fromkeys(use.layers for use in own if use.layers)),
            )
        )
    if base is not None and base not in used:
        mention = mention_of(base.model, child)
        if mention is not None and all(parent.mention != mention for parent in parents):
            lora = mention_of(base.lora, child)
            parents.append(RecipeParent(mention, is_base=True, lora=lora))
    return tuple(parents)


def _agreed(stated: Sequence[tuple[Parameter, ...]]) -> tuple[Parameter, ...]:
    """The parameters that are the same in every use of a model."""
    first, *rest = stated
    others = [set(parameters) for parameters in rest]
    return tuple(one for one in first if all(one in other for other in others))


def _shares(
    method: str,
    base: _Name | None,
    used: Mapping[_Name, Sequence[_Use]],
    stated: Mapping[_Name, Sequence[tuple[Parameter, ...]]],
    whole: tuple[Parameter, ...],
    t: float | None,
) -> dict[_Name, float | None]:
    if method == "passthrough":
        n_layers = {name: sum(_depth(use) for use in own) for name, own in used.items()}
        depth = sum(n_layers.values())
        return {name: count / depth for name, count in n_layers.items()}
    if method == "slerp":
        if t is None or base not in used or len(used) != 2:
            return dict.fromkeys(used)
        return {name: 1 - t if name == base else t for name in used}
    means: dict[_Name, float | None] = {}
    for name, own in used.items():
        weights = [_single(gradients_of(parameters, "weight")) for parameters in stated[name]]
        known = [
            (weight, _depth(use))
            for weight, use in zip(weights, own, strict=True)
            if weight is not None
        ]
        means[name] = (
            sum(weight * depth for weight, depth in known) / sum(depth for _, depth in known)
            if len(known) == len(own)
            else None
        )
    given = [mean for mean in means.values() if mean is not None]
    total = math.fsum(given)
    as_stated = gradients_of(whole, "normalize") == (Gradient((False,)),)
    if method in _AVERAGES and not as_stated and len(given) == len(means) and total > _CANCELLED:
        return {name: mean / total for name, mean in means.items() if mean is not None}
    return means


def _depth(use: _Use) -> int:
    return use.layers[1] - use.layers[0] if use.layers else 1
