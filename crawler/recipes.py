"""Merge recipes (mergekit's YAML): method, base, parents, weights. Pure and bounded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from crawler.errors import MalformedError
from crawler.plain_yaml import items_of, mapping_of, number_of, read_yaml, word_of
from crawler.references import MAX_WORD_CHARACTERS, Mention, mention_of

__all__ = ["MergeRecipe", "RecipeParent", "find_recipes", "parse_recipe", "parse_recipes"]

_SHARES = frozenset({"linear", "slerp", "nuslerp", "passthrough"})
_MAX_PARENTS = 256
_MAX_BLOCKS = 50
_MAX_LINES = 5_000
_FENCE = re.compile(r"^[ \t>]*(`{3,}|~{3,})[^\n]*$", re.MULTILINE)
_PRE = re.compile(r"<(pre|code)\b[^<>]{0,200}>", re.IGNORECASE)
_MARKS = re.compile(r"^[ \t>-]*(merge_method|experts)[ \t]*:", re.MULTILINE)
_LOOSE_START = re.compile(r"(slices|models|merge_method|base_model)[ \t]*:")
_LOOSE_LINE = re.compile(r"[ \t]|- |#|$|[A-Za-z_]\w*[ \t]*:")


@dataclass(frozen=True, slots=True)
class RecipeParent:
    """A model that a recipe merges; `weight` is what it states, None where it varies or is unsaid.

    For methods that average (linear, slerp) the weights are shares and sum to one; for a stack of
    layers the share is that of the layers. `is_base` marks a base that is not merged itself, of
    which task vectors are taken.
    """

    mention: Mention
    weight: float | None = None
    is_base: bool = False


@dataclass(frozen=True, slots=True)
class MergeRecipe:
    """One merge; `parents` has the base last where it is not merged itself."""

    method: str
    parents: tuple[RecipeParent, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    text: str
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class _Merge:
    """One document; `name` is how later documents of the same text refer to it."""

    method: str
    parents: tuple[_Part, ...]
    base: str | None = None
    name: str | None = None


def parse_recipes(text: str, child: str) -> tuple[MergeRecipe, ...]:
    """The merges that `text`, a file of `child`, describes: one per document.

    A document that names an earlier one as a parent gets that one's parents instead, without
    weights. Documents that are no recipes are passed over.

    Raises
    ------
    MalformedError
        If the text is no YAML within the bounds.

    Examples
    --------
    >>> text = '''
    ... models:
    ...   - {model: a/one, parameters: {weight: 3}}
    ...   - {model: b/two, parameters: {weight: 1}}
    ... merge_method: linear
    ... '''
    >>> recipe = parse_recipes(text, "me/merged")[0]
    >>> [(parent.mention.repo_id, parent.weight) for parent in recipe.parents]
    [('a/one', 0.75), ('b/two', 0.25)]
    """
    documents: list[object] = []
    for document in read_yaml(text):
        documents.extend(document if isinstance(document, list) else [document])
    found = [merge for document in documents if (merge := _merge(mapping_of(document)))]
    return tuple(_named(merge, child) for merge in _expand(found))


def parse_recipe(text: str, child: str) -> MergeRecipe:
    """The merge that made `child`: the last document, with the parents of stages it left unnamed.

    Raises
    ------
    MalformedError
        If the text is no YAML within the bounds, or describes no merge.
    """
    recipes = parse_recipes(text, child)
    if not recipes:
        raise MalformedError("describes no merge")
    last = recipes[-1]
    parents = {parent.mention.words: parent for parent in last.parents}
    for recipe in recipes[:-1]:
        for parent in recipe.parents:
            parents.setdefault(parent.mention.words, replace(parent, weight=None))
    return MergeRecipe(last.method, tuple(parents.values()))


def _named(merge: _Merge, child: str) -> MergeRecipe:
    parents = []
    for part in merge.parents:
        mention = mention_of(part.text, child)
        if mention is not None:
            parents.append(RecipeParent(mention, part.weight))
    base = mention_of(merge.base, child)
    if base is not None and all(parent.mention.words != base.words for parent in parents):
        parents.append(RecipeParent(base, is_base=True))
    return MergeRecipe(merge.method, tuple(parents))


def _merge(document: Mapping[str, object]) -> _Merge | None:
    method = word_of(document.get("merge_method")) or word_of(document.get("method"))
    if method is None and document.get("experts") is not None:
        method = "moe"
    if method is None:
        return None
    method = method.lower()[:MAX_WORD_CHARACTERS]
    base = _model(document.get("base_model"))
    used = list(_uses(document))[:_MAX_PARENTS]
    if not used:
        return None
    weights: dict[str, list[tuple[float | None, float]]] = {}
    for text, weight, layers in used:
        weights.setdefault(text, []).append((weight, layers))
    parents = _weigh(method, base, weights, _slerp_t(document))
    return _Merge(method, parents, base, word_of(document.get("name")))


def _uses(document: Mapping[str, object]) -> Iterator[tuple[str, float | None, float]]:
    """Every use of a model: its name, stated weight, and number of layers taken."""
    for entry in items_of(document.get("models")):
        name = _model(entry)
        if name:
            yield name, _weight(mapping_of(entry)), 1.0
    for part in items_of(document.get("slices")):
        for source in items_of(mapping_of(part).get("sources")):
            name = _model(source)
            if name:
                yield name, _weight(mapping_of(source)), _layers(mapping_of(source))
    for expert in items_of(document.get("experts")):
        name = _model(mapping_of(expert).get("source_model"))
        if name:
            yield name, None, 1.0
    for module in mapping_of(document.get("modules")).values():
        nested = {**mapping_of(module), **mapping_of(mapping_of(module).get("definition"))}
        nested.pop("modules", None)
        yield from _uses(nested)


def _model(value: object) -> str | None:
    """The name in ``X``, ``{model: X}`` or ``{model: {path: X}}``; an added LoRA is cut off."""
    for _ in range(4):
        if not isinstance(value, dict):
            break
        value = value.get("model", value.get("path", value.get("model_path")))
    word = word_of(value)
    return word[:MAX_WORD_CHARACTERS].partition("+")[0].strip() or None if word else None


def _layers(source: Mapping[str, object]) -> float:
    span = [number_of(item) for item in items_of(source.get("layer_range"))]
    if len(span) == 2 and span[0] is not None and span[1] is not None and span[1] > span[0]:
        return span[1] - span[0]
    return 1.0


def _weight(entry: Mapping[str, object]) -> float | None:
    return _scalar(mapping_of(entry.get("parameters")).get("weight"))


def _scalar(value: object) -> float | None:
    """A parameter as one number: the mean of a gradient, the value without a filter, else None."""
    number = number_of(value)
    if number is not None or not isinstance(value, list) or not value:
        return number
    numbers = [number_of(item) for item in value]
    stated = [number for number in numbers if number is not None]
    if len(stated) == len(numbers):
        return sum(stated) / len(stated)
    rest = [item.get("value") for item in value if isinstance(item, dict) and "filter" not in item]
    filters = [item for item in value if isinstance(item, dict) and "filter" in item]
    return _scalar(rest[0]) if len(rest) == 1 and not filters else None


def _slerp_t(document: Mapping[str, object]) -> float | None:
    t = mapping_of(document.get("parameters")).get("t")
    if t is None:
        parts = items_of(document.get("slices"))
        if len(parts) == 1:
            t = mapping_of(mapping_of(parts[0]).get("parameters")).get("t")
    return _scalar(t)


def _weigh(
    method: str,
    base: str | None,
    uses: Mapping[str, Sequence[tuple[float | None, float]]],
    t: float | None,
) -> tuple[_Part, ...]:
    if method == "passthrough":
        total = sum(layers for found in uses.values() for _, layers in found)
        return tuple(
            _Part(text, sum(layers for _, layers in found) / total) for text, found in uses.items()
        )
    if method == "slerp":
        if t is None or base not in uses or len(uses) != 2:
            return tuple(_Part(text) for text in uses)
        return tuple(_Part(text, 1 - t if text == base else t) for text in uses)
    means: dict[str, float | None] = {}
    for text, found in uses.items():
        stated = [(weight, layers) for weight, layers in found if weight is not None]
        means[text] = (
            sum(weight * layers for weight, layers in stated) / sum(layers for _, layers in stated)
            if len(stated) == len(found)
            else None
        )
    total = sum(weight for weight in means.values() if weight is not None)
    if method in _SHARES and None not in means.values() and total > 0:
        means = {text: weight / total for text, weight in means.items() if weight is not None}
    return tuple(_Part(text, weight) for text, weight in means.items())


def _expand(merges: Sequence[_Merge]) -> tuple[_Merge, ...]:
    """Replace names of earlier documents by the parents of those."""
    named: dict[str, _Merge] = {}
    expanded = []
    for merge in merges:
        parents: dict[str, _Part] = {}
        for parent in merge.parents:
            stage = named.get(parent.text)
            for own in stage.parents if stage else (parent,):
                kept = _Part(own.text) if stage else own
                parents.setdefault(own.text, kept)
        base_stage = named.get(merge.base or "")
        base = base_stage.base if base_stage else merge.base
        whole = replace(merge, parents=tuple(parents.values())[:_MAX_PARENTS], base=base)
        expanded.append(whole)
        if merge.name:
            named[merge.name] = whole
    return tuple(expanded)


def find_recipes(card_text: str, child: str) -> tuple[MergeRecipe, ...]:
    """The merges that a card of `child` describes, in code blocks or between its lines.

    Text that is no recipe is passed over; the same recipe written twice is found once.
    """
    found: dict[MergeRecipe, None] = {}
    for block in _blocks(card_text.replace("\r\n", "\n")):
        if not _MARKS.search(block):
            continue
        try:
            recipes = parse_recipes(block, child)
        except MalformedError:
            recipes = tuple(_loose_recipes(block, child))
        found.update(dict.fromkeys(recipes))
    return tuple(found)


def _blocks(text: str) -> Iterator[str]:
    """Fenced blocks, preformatted HTML, then runs of lines that look like YAML."""
    fences = list(_FENCE.finditer(text))
    outside: list[str] = []
    n_blocks = at = end = 0
    while at < len(fences) and n_blocks < _MAX_BLOCKS:
        opening = fences[at]
        stop = at + 1
        while stop < len(fences) and fences[stop][1][:3] != opening[1][:3]:
            stop += 1
        closed = stop < len(fences)
        yield text[opening.end() : fences[stop].start() if closed else len(text)]
        outside.append(text[end : opening.start()])
        end = fences[stop].end() if closed else len(text)
        at, n_blocks = stop + 1, n_blocks + 1
    outside.append(text[end:])
    lower = text.lower()
    for match in _PRE.finditer(text):
        stop = lower.find(f"</{match[1].lower()}>", match.end())
        if n_blocks >= _MAX_BLOCKS or stop < 0:
            break
        yield text[match.end() : stop]
        n_blocks += 1
    yield from _loose_blocks("\n\n".join(outside))


def _loose_recipes(block: str, child: str) -> Iterator[MergeRecipe]:
    """Recipes in a block that holds other words too: commands, lists of parts."""
    for run in _loose_blocks(block):
        try:
            yield from parse_recipes(run, child)
        except MalformedError:
            continue


def _loose_blocks(text: str) -> Iterator[str]:
    if not _MARKS.search(text):
        return
    run: list[str] = []
    for line in [*text.splitlines()[:_MAX_LINES], "."]:
        if run and _LOOSE_LINE.match(line):
            run.append(line)
        elif run:
            yield "\n".join(run)
            run = [line] if _LOOSE_START.match(line) else []
        elif _LOOSE_START.match(line):
            run = [line]
