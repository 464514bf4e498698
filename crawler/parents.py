"""Everything that a repository says about its parents, each word with its source. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from crawler.cards import MAX_CARD_CHARACTERS, Card, declared_parents, read_card, relation_of
from crawler.configs import (
    adapter_config,
    config_parent,
    gguf_parents,
    gguf_sources,
    load_json_object,
    quantisation_parent,
)
from crawler.errors import CrawlError, MalformedError
from crawler.gguf_headers import GgufValue
from crawler.prose import prose_parents
from crawler.recipes import MergeRecipe, find_recipes, parse_recipe
from crawler.records import Claim, ClaimSource, RepoSnapshot
from crawler.references import MAX_WORD_CHARACTERS, Mention, repo_ids_in
from crawler.tags import tag_parents

__all__ = [
    "ADAPTER_CONFIG",
    "CARD",
    "CONFIG",
    "MAX_TEXT_CHARACTERS",
    "MERGE_RECIPES",
    "QUANTISATION_CONFIGS",
    "FileProblem",
    "FoundRecipe",
    "Words",
    "read_words",
]

CARD = "README.md"
CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
MERGE_RECIPES = ("mergekit_config.yml", "mergekit_config.yaml", "mergekit_moe_config.yml")
QUANTISATION_CONFIGS = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")

MAX_TEXT_CHARACTERS = 1_000
"""The words around a claim are cut to so many."""

_MAX_CLAIMS = 512
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class FileProblem:
    """Why a file of a repository (or the repository, `path` None) could not be read."""

    path: str | None
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class FoundRecipe:
    """A merge recipe, and whether it is a file of the repository or stands in its card."""

    recipe: MergeRecipe
    source: ClaimSource


@dataclass(frozen=True, slots=True)
class Words:
    """Everything that one repository says: claims, recipes, its card, and what was unreadable."""

    claims: tuple[Claim, ...]
    problems: tuple[FileProblem, ...] = field(default=())
    recipes: tuple[FoundRecipe, ...] = field(default=())
    card: Card | None = None


class _Collector:
    """Gathers claims of one child, each (words, relation, source) once."""

    def __init__(self, snapshot: RepoSnapshot) -> None:
        self.snapshot = snapshot
        self.claims: dict[tuple[str, str | None, ClaimSource], Claim] = {}
        self.recipes: list[FoundRecipe] = []
        self.problems: list[FileProblem] = []

    def add(
        self,
        mention: Mention,
        source: ClaimSource,
        relation: str | None,
        *,
        text: str | None = None,
        weight: float | None = None,
        method: str | None = None,
    ) -> None:
        if len(self.claims) >= _MAX_CLAIMS:
            return
        claim = Claim(
            child=self.snapshot.ref.repo_id,
            parent=mention.repo_id,
            parent_text=_kept(mention.words, MAX_WORD_CHARACTERS),
            relation=relation,
            source=source,
            text=_kept(text or mention.context, MAX_TEXT_CHARACTERS),
            revision=self.snapshot.ref.revision,
            observed_at=self.snapshot.observed_at,
            weight=weight,
            method=method,
        )
        self.claims.setdefault((mention.words, relation, source), claim)

    def add_recipe(self, recipe: MergeRecipe, source: ClaimSource) -> None:
        self.recipes.append(FoundRecipe(recipe, source))
        method = recipe.method or "merge"
        for parent in recipe.parents:
            said = f"{method} of {parent.mention.words}"
            if parent.is_base:
                said = f"base_model {parent.mention.words} of a {method}"
            self.add(
                parent.mention, source, "merge",
                text=said, weight=parent.weight, method=recipe.method,
            )  # fmt: skip
            if parent.lora is not None:
                added = f"{method} of {parent.mention.words} with {parent.lora.words} added"
                self.add(parent.lora, source, "merge", text=added, method=recipe.method)

    def add_problem(self, path: str, code: str, reason: str) -> None:
        whole = reason if reason.startswith(path) else f"{path}: {reason}"
        self.problems.append(FileProblem(path, code, _kept(whole, MAX_TEXT_CHARACTERS)))


def _kept(text: str, n_characters: int) -> str:
    """`text` as it is stored: bounded, no control characters but tab and line feed, UTF-8."""
    text = text[:n_characters]
    if text.isascii() and text.isprintable():
        return text
    return _CONTROL.sub("\ufffd", text.encode("utf-8", "replace").decode("utf-8"))


def _card_claims(into: _Collector, card_text: str) -> Card:
    """Claims of the card; of malformed metadata the simple lines count, and the prose always."""
    child = into.snapshot.ref.repo_id
    card = read_card(card_text)
    for problem in card.problems:
        into.add_problem(CARD, MalformedError.code, problem)
    relation = relation_of(card.metadata)
    for mention in declared_parents(card.metadata, child):
        said = f"base_model: {mention.context}"
        into.add(mention, ClaimSource.CARD, relation, text=said)
    for recipe in find_recipes(card_text[:MAX_CARD_CHARACTERS], child):
        into.add_recipe(recipe, ClaimSource.CARD_RECIPE)
    for mention, spoken in prose_parents(card.body, child):
        into.add(mention, ClaimSource.PROSE, spoken)
    return card


def _file_claims(into: _Collector, path: str, text: str) -> None:
    """Claims of one small file; raises CrawlError when it is malformed.

    Paths in a recipe are resolved to what the card names, where that makes them certain.
    """
    child = into.snapshot.ref.repo_id
    if path in MERGE_RECIPES:
        named = repo_ids_in((into.snapshot.card_text or "")[:MAX_CARD_CHARACTERS])
        into.add_recipe(parse_recipe(text, child, named), ClaimSource.MERGE_RECIPE)
    elif path == ADAPTER_CONFIG:
        found = adapter_config(text, child)
        if found.base is not None:
            said = f"base_model_name_or_path: {found.base.words}"
            if found.base_revision:
                said += f" at {found.base_revision[:100]}"
            into.add(
                found.base, ClaimSource.ADAPTER_CONFIG, "adapter", text=said, method=found.method
            )
    elif path == CONFIG or path in QUANTISATION_CONFIGS:
        config = load_json_object(text, path)
        mention = config_parent(config, child) if path == CONFIG else None
        if mention is not None:
            into.add(mention, ClaimSource.CONFIG, None, text=f"_name_or_path: {mention.words}")
        mention = quantisation_parent(config, child)
        if mention is not None:
            said = f"model_name_or_path: {mention.words}"
            into.add(mention, ClaimSource.QUANTISATION_CONFIG, "quantized", text=said)


def read_words(
    snapshot: RepoSnapshot,
    extra_files: Mapping[str, str],
    gguf_metadata: Mapping[str, GgufValue] | None = None,
) -> Words:
    """Everything that `snapshot` and its small files say about parents.

    Parameters
    ----------
    snapshot
        With card and configuration as text, where they could be read.
    extra_files
        Text of ``adapter_config.json``, merge recipes and configurations of quantisations, by path.
    gguf_metadata
        Metadata of a GGUF file, if there is one.

    Returns
    -------
    Words
        Malformed files become problems; the other sources still count. Words of strangers have at
        most 500 characters, the text around them 1,000, and no control characters but tab and
        line feed. At most 512 claims are kept, those of files and card first.
    """
    into = _Collector(snapshot)
    child = snapshot.ref.repo_id
    files = dict(extra_files)
    if snapshot.config_text is not None:
        files[CONFIG] = snapshot.config_text
    for path, text in files.items():
        try:
            _file_claims(into, path, text)
        except CrawlError as error:
            into.add_problem(path, error.code, str(error))
    metadata = gguf_metadata or {}
    source = gguf_sources(metadata, child)
    if source is not None:
        said = f"general.source: {source.words}"
        into.add(source, ClaimSource.GGUF_METADATA, "quantized", text=said)
    for mention in gguf_parents(metadata, child):
        said = f"general.base_model: {mention.words}"
        into.add(mention, ClaimSource.GGUF_METADATA, "quantized", text=said)
    card = None
    if snapshot.card_text is not None:
        card = _card_claims(into, snapshot.card_text)
    for mention, relation, tag in tag_parents(snapshot.tags, child):
        into.add(mention, ClaimSource.TAG, relation, text=tag)
    return Words(tuple(into.claims.values()), tuple(into.problems), tuple(into.recipes), card)
