"""Merge recipes (mergekit's YAML) in files and cards. Pure and bounded.

What a recipe says is described in :mod:`crawler.recipe_values`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from crawler.errors import MalformedError
from crawler.plain_yaml import mapping_of, read_yaml
from crawler.recipe_blocks import Block, documents_of, has_mark, loose_blocks, marked_blocks
from crawler.recipe_lines import read_lines
from crawler.recipe_reading import MAX_PARENTS, read_recipe
from crawler.recipe_stages import expand_stages, name_stages, unresolved, with_mentions
from crawler.recipe_values import MergeRecipe, RecipeParent, recipe_document
from crawler.references import Mention, repo_ids_in, resolve_paths

__all__ = [
    "MergeRecipe",
    "RecipeParent",
    "find_recipes",
    "parse_recipe",
    "parse_recipes",
    "recipe_document",
]

_MAX_CHARACTERS = 1 << 20
_MAX_RECIPES = 64
"""In one text; also the number of documents that are parsed for them."""
_MAX_HEADING_CHARACTERS = 500


def parse_recipes(text: str, child: str, candidates: Iterable[str] = ()) -> tuple[MergeRecipe, ...]:
    """The merges that `text`, a file of `child`, describes: one per document.

    A document that names another one as a parent gets that one's parents instead, without
    weights. Documents that are no recipes are passed over. `candidates` are Hub ids that stand
    elsewhere in the repository, of which paths may be resolved: see
    :func:`crawler.references.resolve_paths`.

    Raises
    ------
    MalformedError
        If the text is no YAML within the bounds, or has more than 64 documents or recipes.

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
    if len(text) > _MAX_CHARACTERS:
        raise MalformedError(f"{len(text)} characters are too many for a recipe")
    pieces = documents_of(_unix(text))
    if len(pieces) > _MAX_RECIPES:
        raise MalformedError(f"{len(pieces)} documents are too many")
    found = [recipe for piece in pieces for recipe in _read(piece, child)]
    if len(found) > _MAX_RECIPES:
        raise MalformedError(f"{len(found)} merges in one file are too many")
    return _resolved(expand_stages(found), child, candidates)


def parse_recipe(text: str, child: str, candidates: Iterable[str] = ()) -> MergeRecipe:
    """The merge that made `child`, with the parents of the other stages in the file.

    It is the only document without a name, as in mergekit, or else the last one.

    Raises
    ------
    MalformedError
        As :func:`parse_recipes`, and if the text describes no merge.
    """
    recipes = parse_recipes(text, child, candidates)
    if not recipes:
        raise MalformedError("describes no merge")
    unnamed = [recipe for recipe in recipes if recipe.name is None]
    final = unnamed[0] if len(unnamed) == 1 else recipes[-1]
    parents = {(parent.mention.words, parent.lora): parent for parent in final.parents}
    for recipe in recipes:
        for parent in recipe.parents if recipe is not final else ():
            came = replace(
                parent, weight=None, stage=parent.stage or recipe.name, parameters=(), layers=()
            )
            parents.setdefault((came.mention.words, came.lora), came)
    return replace(final, parents=tuple(parents.values())[:MAX_PARENTS])


def find_recipes(card_text: str, child: str) -> tuple[MergeRecipe, ...]:
    """The merges that a card of `child` describes, in code blocks or between its lines.

    Recipes whose YAML is broken are read line by line where their meaning is plain. Text that is
    no recipe is passed over; the same recipe written twice is found once. A stage that another
    recipe of the card makes is replaced by the parents of that one. Paths and bare names become
    the Hub ids that stand in the card, where exactly one fits. At most 1 MiB of the card and 64
    recipes are read.
    """
    text = _unix(card_text[:_MAX_CHARACTERS])
    if not has_mark(text):  # the quick way out for most cards
        return ()
    tried = islice(_tried(text, child), _MAX_RECIPES)
    found = [(recipe, heading) for recipes, heading in tried for recipe in recipes][:_MAX_RECIPES]
    recipes = name_stages([one for one, _ in found], [heading for _, heading in found])
    expanded = expand_stages(recipes)
    candidates = repo_ids_in(text) if unresolved(expanded) else ()
    return tuple(dict.fromkeys(_resolved(expanded, child, candidates)))


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read(piece: str, child: str) -> list[MergeRecipe]:
    """The recipes of one document: of a mapping, or of every mapping in a list."""
    found = []
    for document in read_yaml(piece):
        for item in document if isinstance(document, list) else [document]:
            recipe = read_recipe(mapping_of(item), child, piece)
            if recipe is not None:
                found.append(recipe)
    return found


def _tried(text: str, child: str) -> Iterator[tuple[list[MergeRecipe], str]]:
    """What every document with a mark says, and its heading."""
    for block in marked_blocks(text):
        pieces = _pieces(block)
        try:
            read = [_read(piece, child) for piece, _ in pieces[:_MAX_RECIPES]]
        except MalformedError:
            for run in loose_blocks(block.text):
                for piece, heading in _pieces(replace(run, heading=block.heading)):
                    yield _read_anyhow(piece, child), heading
        else:
            yield from zip(read, [heading for _, heading in pieces], strict=False)


def _pieces(block: Block) -> list[tuple[str, str]]:
    """Documents with a mark, each with its heading: the line above, and its own first comment.

    A line above several documents is the heading of none.
    """
    pieces = [piece for piece in documents_of(block.text, restarts=True) if has_mark(piece)]
    above = block.heading if len(pieces) == 1 else ""
    found = []
    for piece in pieces:
        first = piece.lstrip("\n").partition("\n")[0]
        comment = first[:_MAX_HEADING_CHARACTERS].partition("#")[2]
        found.append((piece, f"{above} {comment}"))
    return found


def _read_anyhow(piece: str, child: str) -> list[MergeRecipe]:
    try:
        return _read(piece, child)
    except MalformedError:
        document = read_lines(piece)
        recipe = read_recipe(document, child, piece) if document else None
        return [recipe] if recipe else []


def _resolved(
    recipes: Sequence[MergeRecipe], child: str, candidates: Iterable[str]
) -> tuple[MergeRecipe, ...]:
    """`recipes` with the paths resolved that `candidates` make certain; never a stage's name."""
    stages = {recipe.name for recipe in recipes}
    paths = [mention for mention in unresolved(recipes) if mention.words not in stages]
    resolved = resolve_paths(paths, candidates, child)
    changed: dict[Mention, Mention] = {
        old: new for old, new in zip(paths, resolved, strict=True) if old != new
    }
    return tuple(_without_twins(with_mentions(recipe, changed)) for recipe in recipes)


def _without_twins(recipe: MergeRecipe) -> MergeRecipe:
    """`recipe` without a base that is one of its merged parents, written in another way."""
    merged = {parent.mention.repo_id for parent in recipe.parents if not parent.is_base} - {None}
    kept = [one for one in recipe.parents if not one.is_base or one.mention.repo_id not in merged]
    return recipe if len(kept) == len(recipe.parents) else replace(recipe, parents=tuple(kept))
