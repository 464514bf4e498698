"""Everything that a repository says about its parents, each word with its source. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from crawler.cards import (
    card_metadata,
    declared_parents,
    mentions,
    prose_parents,
    relation_of,
)
from crawler.configs import adapter_config, config_parent, gguf_parents, load_json_object
from crawler.errors import CrawlError
from crawler.gguf_headers import GgufValue
from crawler.recipes import MergeRecipe, find_recipes, parse_recipe
from crawler.records import Claim, ClaimSource, RepoSnapshot
from crawler.references import Mention

__all__ = [
    "ADAPTER_CONFIG",
    "CARD",
    "CONFIG",
    "MERGE_RECIPES",
    "FileProblem",
    "Words",
    "read_words",
]

CARD = "README.md"
CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
MERGE_RECIPES = ("mergekit_config.yml", "mergekit_config.yaml", "mergekit_moe_config.yml")

_TAG = "base_model:"
_RELATIONS = ("finetune", "adapter", "quantized", "merge")
_MAX_CLAIMS = 512


@dataclass(frozen=True, slots=True)
class FileProblem:
    """Why a file of a repository (or the repository, `path` None) could not be read."""

    path: str | None
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Words:
    """Claims of one repository, and the files whose words could not be read."""

    claims: tuple[Claim, ...]
    problems: tuple[FileProblem, ...] = field(default=())


class _Collector:
    """Gathers claims of one child, each (words, relation, source) once."""

    def __init__(self, snapshot: RepoSnapshot) -> None:
        self.snapshot = snapshot
        self.claims: dict[tuple[str, str | None, ClaimSource], Claim] = {}

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
            parent_text=mention.words,
            relation=relation,
            source=source,
            text=text or mention.context,
            revision=self.snapshot.ref.revision,
            observed_at=self.snapshot.observed_at,
            weight=weight,
            method=method,
        )
        self.claims.setdefault((mention.words, relation, source), claim)

    def add_recipe(self, recipe: MergeRecipe, source: ClaimSource) -> None:
        for parent in recipe.parents:
            said = f"{recipe.method or 'merge'} of {parent.mention.words}"
            if parent.is_base:
                said = f"base_model {parent.mention.words} of a {recipe.method or 'merge'}"
            self.add(
                parent.mention, source, "merge",
                text=said, weight=parent.weight, method=recipe.method,
            )  # fmt: skip


def _tag_parents(tags: tuple[str, ...], child: str) -> Iterator[tuple[Mention, str | None, str]]:
    """Parents in tags; the plain tag counts only where no relation is given for that parent."""
    related: dict[str, tuple[str, str]] = {}
    plain: dict[str, str] = {}
    for tag in tags:
        if not tag.startswith(_TAG):
            continue
        relation, colon, parent = tag.removeprefix(_TAG).partition(":")
        if colon and relation in _RELATIONS:
            related.setdefault(parent, (relation, tag))
        else:
            plain.setdefault(tag.removeprefix(_TAG), tag)
    for parent, (relation, tag) in related.items():
        for mention in mentions(parent, child):
            yield mention, relation, tag
    for parent, tag in plain.items():
        if parent not in related:
            for mention in mentions(parent, child):
                yield mention, None, tag


def _card_claims(into: _Collector, card_text: str) -> FileProblem | None:
    """Claims of the card; a malformed block of metadata leaves what the prose says."""
    child = into.snapshot.ref.repo_id
    problem = None
    try:
        metadata = card_metadata(card_text)
    except CrawlError as error:
        problem = FileProblem(CARD, error.code, f"{CARD}: {error}")
    else:
        for mention in declared_parents(metadata, child):
            said = f"base_model: {mention.context}"
            into.add(mention, ClaimSource.CARD, relation_of(metadata), text=said)
    for recipe in find_recipes(card_text, child):
        into.add_recipe(recipe, ClaimSource.CARD_RECIPE)
    for mention, relation in prose_parents(card_text, child):
        into.add(mention, ClaimSource.PROSE, relation)
    return problem


def _file_claims(into: _Collector, path: str, text: str) -> None:
    """Claims of one small file; raises CrawlError when it is malformed."""
    child = into.snapshot.ref.repo_id
    if path in MERGE_RECIPES:
        into.add_recipe(parse_recipe(text, child), ClaimSource.MERGE_RECIPE)
    elif path == ADAPTER_CONFIG:
        found = adapter_config(text, child)
        if found.base is not None:
            said = f"base_model_name_or_path: {found.base.words}"
            if found.base_revision:
                said += f" at {found.base_revision[:100]}"
            into.add(
                found.base, ClaimSource.ADAPTER_CONFIG, "adapter", text=said, method=found.method
            )
    elif path == CONFIG:
        mention = config_parent(load_json_object(text, CONFIG), child)
        if mention is not None:
            said = f"_name_or_path: {mention.words}"
            into.add(mention, ClaimSource.CONFIG, None, text=said)


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
        Text of ``adapter_config.json`` and merge recipes, by path.
    gguf_metadata
        Metadata of a GGUF file, if there is one.

    Returns
    -------
    Words
        Malformed files become problems; the other sources still count.
    """
    into = _Collector(snapshot)
    problems: list[FileProblem] = []
    files = dict(extra_files)
    if snapshot.config_text is not None:
        files[CONFIG] = snapshot.config_text
    for path, text in files.items():
        try:
            _file_claims(into, path, text)
        except CrawlError as error:
            said = str(error)
            reason = said if said.startswith(path) else f"{path}: {said}"
            problems.append(FileProblem(path, error.code, reason))
    for mention in gguf_parents(gguf_metadata or {}, snapshot.ref.repo_id):
        said = f"general.base_model: {mention.words}"
        into.add(mention, ClaimSource.GGUF_METADATA, "quantized", text=said)
    if snapshot.card_text is not None:
        problem = _card_claims(into, snapshot.card_text)
        if problem is not None:
            problems.append(problem)
    for mention, relation, tag in _tag_parents(snapshot.tags, snapshot.ref.repo_id):
        into.add(mention, ClaimSource.TAG, relation, text=tag)
    return Words(tuple(into.claims.values()), tuple(problems))
