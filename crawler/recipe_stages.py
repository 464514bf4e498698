"""Recipes that merge what another recipe beside them makes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from crawler.recipe_reading import MAX_PARENTS
from crawler.recipe_values import MergeRecipe, OutputSlice, RecipeParent, SliceSource
from crawler.references import Mention

__all__ = ["expand_stages", "name_stages", "unresolved", "with_mentions"]

_WORD = re.compile(r"[\w.\-]+")
_LAST = re.compile(r"[^\\/]*$")
_PLAIN = re.compile(r"[a-z]*")


def name_stages(recipes: Sequence[MergeRecipe], headings: Sequence[str]) -> tuple[MergeRecipe, ...]:
    """Give a recipe without a name the one that its heading has and another recipe merges.

    A model that is merged by a name, no Hub id, is what a recipe makes if the last part of its
    path, more than a plain word, stands in the heading of exactly one recipe, and this does not
    merge it itself.
    """
    words = [{word.strip(".-_") for word in _WORD.findall(heading)} for heading in headings]
    wanted = dict.fromkeys(
        mention.words for recipe in recipes for mention in _merged(recipe) if not mention.repo_id
    )
    named = list(recipes)
    for name in wanted:
        last = _last_part(name)
        makers = [at for at, known in enumerate(words) if last in known]
        if _PLAIN.fullmatch(last) or len(makers) != 1 or named[makers[0]].name is not None:
            continue
        if all(mention.words != name for mention in _merged(named[makers[0]])):
            named[makers[0]] = replace(named[makers[0]], name=name)
    return tuple(named)


def _last_part(path: str) -> str:
    match = _LAST.search(path.rstrip("\\/"))
    return match[0] if match else path


def _merged(recipe: MergeRecipe) -> list[Mention]:
    return [parent.mention for parent in recipe.parents]


def expand_stages(recipes: Sequence[MergeRecipe]) -> tuple[MergeRecipe, ...]:
    """Replace every parent that is another recipe's name by the parents of that one.

    The order of the recipes does not matter. What merges itself, directly or through others,
    stays as it is named. Names of stages are never Hub ids.
    """
    stages: dict[str, MergeRecipe] = {}
    for recipe in recipes:
        if recipe.name is not None:
            stages.setdefault(recipe.name, recipe)
    if not stages:
        return tuple(recipes)
    known: dict[str, tuple[RecipeParent, ...]] = {}
    named = {
        mention: replace(mention, repo_id=None)
        for recipe in recipes
        for mention in _mentions(recipe)
        if mention.repo_id is not None and mention.words in stages
    }
    return tuple(
        with_mentions(replace(recipe, parents=_expanded(recipe, stages, known, ())), named)
        for recipe in recipes
    )


def _expanded(
    recipe: MergeRecipe,
    stages: Mapping[str, MergeRecipe],
    known: dict[str, tuple[RecipeParent, ...]],
    above: tuple[str, ...],
) -> tuple[RecipeParent, ...]:
    """The parents of `recipe`; `above` are the stages that are being expanded around it."""
    path = (*above, recipe.name) if recipe.name is not None else above
    parents: dict[tuple[str, Mention | None], RecipeParent] = {}
    for parent in recipe.parents:
        name = parent.mention.words
        if name not in stages or name in path:
            parents.setdefault((name, parent.lora), parent)
            continue
        if name not in known:
            known[name] = _expanded(stages[name], stages, known, path)
        for inner in known[name]:
            came = replace(inner, weight=None, stage=name, parameters=(), layers=())
            parents.setdefault((came.mention.words, came.lora), came)
    bases_last = sorted(parents.values(), key=lambda parent: parent.is_base)
    return tuple(bases_last[:MAX_PARENTS])


def _mentions(recipe: MergeRecipe) -> list[Mention]:
    found = [recipe.base]
    for parent in recipe.parents:
        found += (parent.mention, parent.lora)
    for part in recipe.slices:
        for source in part.sources:
            found += (source.mention, source.lora)
    return [mention for mention in found if mention is not None]


def unresolved(recipes: Sequence[MergeRecipe]) -> tuple[Mention, ...]:
    """The mentions in `recipes` that mean no Hub id as they stand, each once."""
    return tuple(
        dict.fromkeys(
            mention
            for recipe in recipes
            for mention in _mentions(recipe)
            if mention.repo_id is None
        )
    )


def with_mentions(recipe: MergeRecipe, changed: Mapping[Mention, Mention]) -> MergeRecipe:
    """`recipe` with every mention that `changed` has replaced, wherever it stands."""
    if not changed:
        return recipe

    def new(mention: Mention) -> Mention:
        return changed.get(mention, mention)

    def added(lora: Mention | None) -> Mention | None:
        return None if lora is None else new(lora)

    def source(old: SliceSource) -> SliceSource:
        return replace(old, mention=new(old.mention), lora=added(old.lora))

    def part(old: OutputSlice) -> OutputSlice:
        return replace(old, sources=tuple(map(source, old.sources)))

    return replace(
        recipe,
        parents=tuple(
            replace(parent, mention=new(parent.mention), lora=added(parent.lora))
            for parent in recipe.parents
        ),
        base=added(recipe.base),
        slices=tuple(map(part, recipe.slices)),
    )
