"""Configuration files and GGUF metadata: what they say about a model's parent. Pure.

References
----------
.. [1] ``BaseQuantizeConfig`` of AutoGPTQ, saved as ``quantize_config.json``; transformers copies
   it to ``quantization_config`` of ``config.json``.
.. [2] ggml, docs/gguf.md, "Source metadata" and "Base model": ``general.source.*`` is where the
   file comes from, ``general.base_model.*`` what the model in it was derived from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from crawler.errors import MalformedError
from crawler.plain_yaml import word_of
from crawler.references import MAX_WORD_CHARACTERS, Mention, mention_of

__all__ = [
    "AdapterConfig",
    "adapter_config",
    "architecture_of",
    "config_parent",
    "gguf_parents",
    "gguf_sources",
    "load_json_object",
    "quantisation_parent",
]

_MAX_CHARACTERS = 64 << 20
_MAX_JSON_VALUES = 1_000_000  # 100,000 files of a repository have 800,000; read in under a second
_MAX_BASE_MODELS = 64
# What the file itself was made from, in the order in which to believe it [2]_.
_SOURCE_KEYS = (
    "general.source.huggingface.repository",
    "general.source.repo_url",
    "general.source.url",
)
_QUANTISATION_FIELDS = ("quantization_config", "quantization")
_BASE_MODEL_KEY = re.compile(r"general\.base_model\.(\d{1,3})\.(repo_url|organization|name)")


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What an adapter's configuration says: base, the base's revision, and method (``lora``)."""

    base: Mention | None
    base_revision: str | None
    method: str | None


def load_json_object(text: str, path: str) -> dict[str, object]:
    """A JSON object from a stranger's file.

    Raises
    ------
    MalformedError
        If the text is too long, has too many values, is nested too deeply, or no JSON object.
    """
    if len(text) > _MAX_CHARACTERS:
        raise MalformedError(f"{path}: {len(text)} characters are too many")
    if sum(map(text.count, ",[{")) > _MAX_JSON_VALUES:
        raise MalformedError(f"{path}: more than {_MAX_JSON_VALUES} values")
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise MalformedError(f"{path}: nested too deeply") from error
    except ValueError as error:
        raise MalformedError(f"{path}: not JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise MalformedError(f"{path}: a {type(value).__name__}, not an object")
    return value


def architecture_of(config: Mapping[str, object]) -> str | None:
    """The first of a config's ``architectures``; None when it names none.

    >>> architecture_of({"architectures": ["LlamaForCausalLM"]})
    'LlamaForCausalLM'
    """
    names = config.get("architectures")
    first = word_of(names[0]) if isinstance(names, list) and names else None
    return first[:MAX_WORD_CHARACTERS] if first else None


def adapter_config(text: str, child: str) -> AdapterConfig:
    """What ``adapter_config.json`` of `child` says.

    Raises
    ------
    MalformedError
        If the text is no JSON object.
    """
    config = load_json_object(text, "adapter_config.json")
    method = word_of(config.get("peft_type"))
    revision = word_of(config.get("revision"))
    return AdapterConfig(
        mention_of(config.get("base_model_name_or_path"), child),
        revision[:MAX_WORD_CHARACTERS] if revision else None,
        method.lower()[:MAX_WORD_CHARACTERS] if method else None,
    )


def config_parent(config: Mapping[str, object], child: str) -> Mention | None:
    """Where ``config.json`` of `child` says that it was loaded from."""
    return mention_of(config.get("_name_or_path"), child)


def quantisation_parent(config: Mapping[str, object], child: str) -> Mention | None:
    """The model that a quantisation's configuration says it was made from.

    Parameters
    ----------
    config
        ``quantize_config.json``, ``quant_config.json`` or ``config.json`` with a
        ``quantization_config``; read is ``model_name_or_path`` [1]_. File names such as
        ``model_file_base_name`` name no model and do not count.
    child
        Whose configuration it is.

    Examples
    --------
    >>> quantisation_parent({"bits": 4, "model_name_or_path": "a/b"}, "me/b-GPTQ").repo_id
    'a/b'
    """
    stated = [config.get(field) for field in _QUANTISATION_FIELDS]
    nested = [fields for fields in stated if isinstance(fields, dict)]
    if not nested and ("bits" in config or "w_bit" in config):
        nested = [dict(config)]  # the file of the quantisation itself
    for fields in nested:
        mention = mention_of(fields.get("model_name_or_path"), child)
        if mention is not None:
            return mention
    return None


def gguf_sources(metadata: Mapping[str, object], child: str) -> Mention | None:
    """The repository that a GGUF file says it was made from: ``general.source.*`` [2]_."""
    found = [mention_of(metadata.get(key), child) for key in _SOURCE_KEYS]
    stated = [mention for mention in found if mention is not None]
    resolved = (mention for mention in stated if mention.repo_id is not None)
    return next(resolved, stated[0] if stated else None)


def gguf_parents(metadata: Mapping[str, object], child: str) -> tuple[Mention, ...]:
    """The base models that GGUF metadata names: by address, else by organisation and name.

    Converters copy them from the card of the model that they convert [2]_: they are ancestors, and
    the direct parents only where that model is not on the Hub itself.
    """
    stated: dict[int, dict[str, str]] = {}
    for key, value in metadata.items():
        match, word = _BASE_MODEL_KEY.fullmatch(key), word_of(value)
        if match and word:
            stated.setdefault(int(match[1]), {})[match[2]] = word
    found = []
    for _, fields in sorted(stated.items())[:_MAX_BASE_MODELS]:
        full_name = "/".join(
            fields[part].replace(" ", "-") for part in ("organization", "name") if part in fields
        )
        by_address = mention_of(fields.get("repo_url"), child)
        by_name = mention_of(full_name, child)
        best = by_address if by_address and by_address.repo_id else by_name or by_address
        if best is not None:
            found.append(best)
    return tuple(found)
