"""Model cards: the metadata, and what it says of parents. Pure and bounded.

A card is never refused: of a block of metadata that is no YAML the simple lines still count, what
stands after the bound on length is cut off, and both are told as problems. Nothing of a card is
ever executed or rendered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from crawler.errors import MalformedError
from crawler.plain_yaml import items_of, read_yaml, word_of
from crawler.references import MAX_WORD_CHARACTERS, Mention, mention_of, resolve_repo_id

__all__ = [
    "MAX_CARD_CHARACTERS",
    "Card",
    "Mention",
    "card_metadata",
    "declared_parents",
    "mentions",
    "read_card",
    "relation_of",
    "text_of",
]

MAX_CARD_CHARACTERS = 1 << 20
"""Of a longer card the rest is not read."""

_START = re.compile(r"\s*---[ \t]*\n")
_STOP = re.compile(r"^---[ \t]*$", re.MULTILINE)
_RELATIONS = frozenset({"adapter", "finetune", "merge", "quantized"})
_MAX_BASE_MODELS = 256
_MAX_SIMPLE_LINES = 5_000

# What is read line by line where the block as a whole is no YAML: flat, and needed for the graph.
_SIMPLE_KEYS = frozenset(
    {
        "base_model", "base_model_relation", "datasets", "language", "library_name", "license",
        "license_link", "license_name", "pipeline_tag", "tags",
    }
)  # fmt: skip
_SIMPLE_KEY = re.compile(r"""["']?([A-Za-z_]\w{0,60})["']?[ \t]*:(?:[ \t]+(.*))?$""", re.ASCII)
_SIMPLE_ITEM = re.compile(r"[ \t]*-[ \t]+(.*)$")
_TRAILING_COMMENT = re.compile(r"(?:^|[ \t])#.*")
_LINE_OF_METADATA = re.compile(r"""[ \t]*(?:$|#[^#]|-[ \t]|["']?[A-Za-z_][\w\-]*["']?[ \t]*:)""")


@dataclass(frozen=True, slots=True)
class Card:
    """A card taken apart: metadata, the text after it, and what was wrong with it."""

    metadata: Mapping[str, object]
    body: str
    problems: tuple[str, ...] = ()


def read_card(card_text: str) -> Card:
    r"""The metadata and the text of a card, as far as they can be read. Never fails.

    At most ``MAX_CARD_CHARACTERS`` are read. Where the block of metadata is no YAML, or is never
    closed, its plain lines ``key: value``, ``key: [a, b]`` and ``- item`` count, for the keys that
    matter to lineage: base model, relation, licence, tags, data sets, language, library, task.

    Examples
    --------
    >>> card = read_card("---\nbase_model: a/b\nname: this: breaks: YAML\n---\n# A model")
    >>> card.metadata, card.body
    ({'base_model': 'a/b'}, '\n# A model')
    >>> card.problems
    ('the metadata is no YAML; 1 of its fields could be read line by line',)
    """
    problems = []
    if len(card_text) > MAX_CARD_CHARACTERS:
        problems.append(f"longer than {MAX_CARD_CHARACTERS} characters; the rest was not read")
        card_text = card_text[:MAX_CARD_CHARACTERS]
    block, body = _split(card_text)
    metadata: Mapping[str, object] = {}
    if block is None:
        block, body = _unclosed(body)
        if block is not None:
            metadata = _simple_fields(block)
            problems.append(
                "the metadata is never closed; "
                f"{len(metadata)} of its fields could be read line by line"
            )
    else:
        try:
            metadata = _fields(block)
        except MalformedError as error:
            metadata = _simple_fields(block)
            what = "no mapping" if "mapping of names" in str(error) else "no YAML"
            problems.append(
                f"the metadata is {what}; {len(metadata)} of its fields could be read line by line"
            )
    return Card(metadata, body, tuple(problems))


def card_metadata(card_text: str) -> Mapping[str, object]:
    r"""The block of metadata at the top of a card: plain text, lists and mappings; empty without.

    Raises
    ------
    MalformedError
        If the card is too long, or the block is no mapping within the bounds of
        :func:`crawler.plain_yaml.read_yaml`.

    Examples
    --------
    >>> card_metadata("---\nlanguage: no\nbase_model: a/b\n---\n# A model")
    {'language': 'no', 'base_model': 'a/b'}
    """
    if len(card_text) > MAX_CARD_CHARACTERS:
        raise MalformedError(f"{len(card_text)} characters are too many for a card")
    block, _ = _split(card_text)
    return {} if block is None else _fields(block)


def _fields(block: str) -> Mapping[str, object]:
    documents = read_yaml(block) if block.strip() else []
    fields = documents[0] if documents else {}
    if not isinstance(fields, dict):
        if word_of(fields) is None and not isinstance(fields, list):
            return {}  # comments alone
        raise MalformedError("the metadata is not a mapping of names to values")
    return fields


def _split(card_text: str) -> tuple[str | None, str]:
    """The block of metadata between two lines ``---`` at the top, and what follows it."""
    text = card_text
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.removeprefix("\ufeff")
    start = _START.match(text)
    if start is None:
        return None, text
    stop = _STOP.search(text, start.end())
    if stop is None:
        return None, text
    return text[start.end() : stop.start()], text[stop.end() :]


def _unclosed(text: str) -> tuple[str | None, str]:
    """The lines of metadata after an opening ``---`` that nothing closes, and what follows."""
    start = _START.match(text)
    if start is None:
        return None, text
    at = start.end()
    for _ in range(_MAX_SIMPLE_LINES):
        stop = text.find("\n", at)
        line = text[at : stop if stop >= 0 else len(text)]
        if not _LINE_OF_METADATA.match(line):
            break
        at = stop + 1 if stop >= 0 else len(text)
        if stop < 0:
            break
    block = text[start.end() : at]
    # A line across the page and a sentence with a colon are no metadata.
    return (block, text[at:]) if _simple_fields(block) else (None, text)


def _simple_fields(block: str) -> dict[str, object]:
    """The fields of `block` that stand on lines of their own; of two of one name the last."""
    fields: dict[str, object] = {}
    items: list[object] | None = None
    for line in block.split("\n")[:_MAX_SIMPLE_LINES]:
        field = _SIMPLE_KEY.match(line)
        if field is not None:
            items = None
            if field[1] in _SIMPLE_KEYS:
                value = _simple_value(field[2] or "")
                if value == "":
                    items = []
                fields[field[1]] = items if items is not None else value
            continue
        item = _SIMPLE_ITEM.match(line)
        if item is not None and items is not None:
            items.append(_simple_value(item[1]))
        elif line.strip() and not line.lstrip().startswith("#"):
            items = None
    return {key: value for key, value in fields.items() if value != []}


def _simple_value(text: str) -> object:
    """A value on one line: a word, without quotes and comment, or a list in brackets."""
    word = text.strip()
    if word[:1] in ('"', "'") and word.find(word[0], 1) > 0:
        return word[1 : word.find(word[0], 1)]
    word = _TRAILING_COMMENT.sub("", word).strip()
    if word.startswith("[") and word.endswith("]"):
        return [part for item in word[1:-1].split(",") if (part := item.strip(" \t\"'"))]
    return word.strip("\"'")


def text_of(value: object) -> str | None:
    """A word of metadata, cut to a sane length; None when there is none."""
    word = word_of(value)
    return word[:MAX_WORD_CHARACTERS] if word else None


def mentions(value: object, child: str) -> tuple[Mention, ...]:
    """The models that a ``base_model`` names: a word, a list, or mappings such as ``{name: X}``.

    A word that is several ids with spaces or commas between them names each of them.
    """
    if isinstance(value, str) and "/" in value and " " not in value and "," not in value:
        alone = mention_of(value, child)  # nearly all of them
        return (alone,) if alone is not None else ()
    found: dict[str, Mention] = {}
    for item in items_of(value)[:_MAX_BASE_MODELS]:
        named = item
        if isinstance(item, dict):
            keys = [key for key in ("model", "name", "id", "repo", "path") if key in item]
            named = item[keys[0]] if keys else None
        for part in _parts(named):
            mention = mention_of(part, child)
            if mention is not None and len(found) < _MAX_BASE_MODELS:
                found.setdefault(mention.words, mention)
    return tuple(found.values())


_BETWEEN_IDS = re.compile(r"[\s,;]+")


def _parts(named: object) -> list[object]:
    """The ids in ``a/b c/d`` or ``a/b, c/d``; any other value as it is."""
    if isinstance(named, str) and (" " in named or "," in named) and "/" in named:
        parts = _BETWEEN_IDS.split(named.strip(" \t\n,;")[: _MAX_BASE_MODELS * MAX_WORD_CHARACTERS])
        if all("/" in part and resolve_repo_id(part) is not None for part in parts):
            return list(parts)
    return [named]


def declared_parents(metadata: Mapping[str, object], child: str) -> tuple[Mention, ...]:
    """The models that a card's metadata declares as `child`'s base."""
    return mentions(metadata.get("base_model"), child)


def relation_of(metadata: Mapping[str, object]) -> str | None:
    """The relation that a card's metadata declares, if it is one of the Hub's four words."""
    relation = (text_of(metadata.get("base_model_relation")) or "").lower()
    return relation if relation in _RELATIONS else None
