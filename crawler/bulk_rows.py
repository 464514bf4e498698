"""Cells of bulk tables: which model a cell names, and a row as the Hub's own record. Pure.

Cells are text from strangers, HTML among it: looked at within bounds, never rendered.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from datetime import datetime

import orjson

from crawler.bulk import Field
from crawler.records import MAX_NAME_CHARACTERS, is_repo_id
from crawler.references import resolve_repo_id

__all__ = ["MAX_CELL_CHARACTERS", "hub_record", "model_named"]

MAX_CELL_CHARACTERS = 4_000
"""A longer cell names no model."""

_MAX_ID_CHARACTERS = 2 * MAX_NAME_CHARACTERS + 1
_MAX_JSON_CHARACTERS = 4 << 20
_MAX_BASE_MODELS = 256
_LINK = re.compile(r"<a\s[^<>]{0,2000}?href\s*=\s*[\"']?(?P<address>[^\s\"'<>]{1,300})", re.I)
_TAG = re.compile(r"<[^<>]{0,3000}>")
_RELATIONS = frozenset({"adapter", "finetune", "merge", "quantized"})
_FALSE = frozenset({"", "0", "false", "no", "none", "null", "f", "nan"})
_TRUE = frozenset({"1", "true", "yes", "t"})


def model_named(cell: str) -> tuple[str | None, str]:
    """The repository that a cell names, and why not when it names none.

    A link counts by its address, then by its words. A name without an owner counts only where the
    Hub redirects it, for it may be anybody's.

    Examples
    --------
    >>> model_named('<a href="https://huggingface.co/a/b">a/b</a> <a href="x">📑</a>')
    ('a/b', '')
    >>> model_named("gpt2"), model_named("my model"), model_named("")
    (('openai-community/gpt2', ''), (None, 'not an id'), (None, 'no id'))
    """
    if len(cell) > MAX_CELL_CHARACTERS:
        return None, "too long"
    words = cell.strip()
    if "<" in words:
        link = _LINK.search(words)
        if link is not None:
            found = resolve_repo_id(html.unescape(link["address"]))
            if found is not None:
                return found, ""
        words = next((part.strip() for part in _TAG.split(words) if part.strip()), "")
        words = html.unescape(words)
    if not words:
        return None, "no id"
    if not words.isprintable():
        return None, "control characters"
    found = resolve_repo_id(words)
    if found is not None:
        return found, ""
    if len(words) > _MAX_ID_CHARACTERS and " " not in words:
        return None, "id too long"
    is_bare = "/" not in words and is_repo_id(words)
    return None, "name without owner" if is_bare else "not an id"


def hub_record(cells: Mapping[str, object]) -> tuple[dict[str, object], tuple[str, ...]]:
    """A row of a bulk table as a record of the Hub's listing, and the fields that were unreadable.

    Parameters
    ----------
    cells
        By field. Numbers and moments as such; everything else as text, lists and mappings as JSON
        text.

    Notes
    -----
    What a table says in columns of its own (licence, languages, ``base_model``) is put where the
    Hub's record has it, unless the table has the card's metadata too. Several base models in one
    text stand between commas. The Hub's ``baseModels`` are its reading of the tags; they count as
    tags where the table has none.
    """
    unread: list[str] = []

    def loaded(field: Field) -> object:
        value = cells.get(field)
        if not isinstance(value, str) or value.strip().lower() in _FALSE:
            return None
        try:
            if len(value) > _MAX_JSON_CHARACTERS:
                raise ValueError
            return orjson.loads(value)
        except ValueError:
            unread.append(field.value)
            return None

    def mapping(field: Field) -> dict[str, object]:
        value = loaded(field)
        return value if isinstance(value, dict) else {}

    card, safetensors = mapping(Field.CARD_DATA), mapping(Field.SAFETENSORS)
    tags = _listed(cells.get(Field.TAGS))
    if not any(str(tag).startswith("base_model:") for tag in tags):
        tags = [*tags, *_base_model_tags(loaded(Field.BASE_MODELS))]
    for field, key in ((Field.LICENCE, "license"), (Field.LANGUAGES, "language")):
        value = cells.get(field)
        if value is not None and key not in card:
            card[key] = _listed(value) if field is Field.LANGUAGES else value
    bases = _listed(cells.get(Field.BASE_MODEL))[:_MAX_BASE_MODELS]
    if bases and "base_model" not in card:
        card["base_model"] = bases
    parameters = cells.get(Field.PARAMETERS)
    if parameters is not None and not safetensors:
        safetensors = {"total": parameters}
    record: dict[str, object] = {
        "id": cells.get(Field.REPO_ID),
        "author": cells.get(Field.AUTHOR),
        "sha": cells.get(Field.REVISION),
        "createdAt": _moment(cells.get(Field.CREATED_AT)),
        "lastModified": _moment(cells.get(Field.LAST_MODIFIED)),
        "disabled": _flag(cells.get(Field.DISABLED)) is True,
        "gated": _flag(cells.get(Field.GATED)),
        "library_name": cells.get(Field.LIBRARY),
        "pipeline_tag": cells.get(Field.PIPELINE_TAG),
        "config": mapping(Field.CONFIG),
        "safetensors": safetensors,
        "gguf": mapping(Field.GGUF),
    }
    # A table without these columns says nothing of them; an empty value would end what stands.
    if {Field.TAGS, Field.BASE_MODELS} & cells.keys():
        record["tags"] = tags
    if {Field.CARD_DATA, Field.BASE_MODEL} & cells.keys() or card:
        record["cardData"] = card
    if card.get("model-index"):
        record["model-index"] = card["model-index"]
    return record, tuple(unread)


def _moment(value: object) -> str | None:
    return value.isoformat() if isinstance(value, datetime) else None


def _flag(value: object) -> bool | str:
    """A truth value, or the word that stands for one."""
    word = str(value if value is not None else "").strip().strip('"')
    return False if word.lower() in _FALSE else True if word.lower() in _TRUE else word


def _listed(value: object) -> list[object]:
    """A list in JSON, or between commas; a text alone is a list of one."""
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_JSON_CHARACTERS:
        return []
    if value.lstrip().startswith("["):
        try:
            found = orjson.loads(value)
        except ValueError:
            # numpy and Python print lists with single quotes.
            found = [part.strip(" '\"\n") for part in value.strip().strip("[]").split(",")]
        return [item for item in found if item] if isinstance(found, list) else []
    return [part.strip() for part in value.split(",") if part.strip()]


def _base_model_tags(stated: object) -> list[object]:
    """``{"relation": …, "models": [{"id": …}]}`` as the tags that the Hub makes of it."""
    if not isinstance(stated, dict):
        return []
    models, relation = stated.get("models"), stated.get("relation")
    if not isinstance(models, list):
        return []
    prefix = f"base_model:{relation}:" if relation in _RELATIONS else "base_model:"
    ids = [one.get("id") if isinstance(one, dict) else one for one in models[:_MAX_BASE_MODELS]]
    return [prefix + one for one in ids if isinstance(one, str)]
