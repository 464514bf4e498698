"""Records of the Hub's listing as bytes with gaps.

:func:`compile_template` turns a real row into the bytes of a record as the Hub words it, with gaps
where simulated models drawn from the same row differ: id, dates, commit, counts, licence, parents.
Filling the gaps is one formatting operation.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import orjson

from benchmarks.hub_rows import (
    RELATION,
    Lookups,
    Row,
    find_licence,
    find_model_type,
    find_own_tags,
    find_parents,
)

__all__ = ["FIELDS", "Slot", "Template", "compile_template"]

# Fields that a simulated record can have, in the order in which they are written.
FIELDS = (
    "_id", "id", "modelId", "author", "cardData", "config", "createdAt", "disabled", "downloads",
    "downloadsAllTime", "gated", "gguf", "lastModified", "library_name", "likes", "model-index",
    "pipeline_tag", "private", "safetensors", "sha", "tags", "trendingScore",
)  # fmt: skip
_MARK = re.compile(rb'(")?\\u0001([a-z])([0-9]+)\\u0002(",|":0|")?')
_HEADS = {
    "any-to-any": "ForConditionalGeneration",
    "automatic-speech-recognition": "ForConditionalGeneration",
    "fill-mask": "ForMaskedLM",
    "image-classification": "ForImageClassification",
    "image-text-to-text": "ForConditionalGeneration",
    "question-answering": "ForQuestionAnswering",
    "text-classification": "ForSequenceClassification",
    "text-generation": "ForCausalLM",
    "token-classification": "ForTokenClassification",
    "translation": "ForConditionalGeneration",
}
_CONTEXT_LENGTHS = (2048, 4096, 8192, 32768, 40960, 131072, 262144)


class Slot(IntEnum):
    """What fills a gap; numbers from `PARENT` on are the first, second … parent's id."""

    ID = 0
    HEX_ID = 1
    NAME = 2
    AUTHOR = 3
    CREATED = 4
    MODIFIED = 5
    SHA = 6
    DISABLED = 7
    DOWNLOADS = 8
    DOWNLOADS_ALL_TIME = 9
    LIKES = 10
    LICENCE_TAG = 11
    LICENCE_CARD = 12
    EXTRA_TAG = 13
    PARENT = 14


@dataclass(frozen=True, slots=True)
class Template:
    """A record with gaps: ``text % pick(values)``, with `values` in the order of :class:`Slot`."""

    text: bytes
    pick: Callable[[Sequence[object]], tuple[object, ...]]


# The parts of a record. A mark stands for a gap: t inside a string, v for a whole value, k for a
# key with its value, i for an item of a list that may be missing with its comma.


def _mark(slot: int, kind: str = "t") -> str:
    return f"\x01{kind}{slot}\x02"


def _tags(row: Row, parents: Sequence[str]) -> list[str]:
    tags, licence = [], find_licence(row)
    for tag in row.tags:
        match = RELATION.fullmatch(tag)
        if match:
            parent = _mark(Slot.PARENT + parents.index(match[2]))
            tags.append(f"base_model:{match[1] or ''}{parent}")
        elif licence is not None and tag == licence[0]:
            tags.append(_mark(Slot.LICENCE_TAG))
        else:
            tags.append(tag)
    if not any(tag.startswith("region:") for tag in tags):
        tags.append("region:us")
    at = next(k for k, tag in enumerate(tags) if tag.startswith("region:"))
    return [*tags[:at], _mark(Slot.EXTRA_TAG, "i"), *tags[at:]]


def _model_index(row: Row) -> list[dict[str, Any]] | None:
    if not row.benchmarks:
        return None
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for measured in row.benchmarks:
        metrics = results.setdefault((str(measured["task"]), str(measured["dataset"])), [])
        name = str(measured["metric"])
        kind = re.sub(r"\W+", "_", name.lower()).strip("_")
        metrics.append({"name": name, "type": kind, "value": measured["value"]})
    return [
        {
            "name": _mark(Slot.NAME),
            "results": [
                {
                    "task": {"name": task, "type": task.lower().replace(" ", "-")},
                    "dataset": {"name": dataset, "type": dataset},
                    "metrics": metrics,
                }
                for (task, dataset), metrics in results.items()
            ],
        }
    ]


def _card(row: Row, parents: Sequence[str]) -> dict[str, Any] | None:
    card: dict[str, Any] = {}
    if find_licence(row) is not None:
        card[_mark(Slot.LICENCE_CARD, "k")] = 0
    if row.languages:
        card["language"] = list(row.languages)
    bases = [
        _mark(Slot.PARENT + parents.index(base)) if base in parents else base
        for base in row.base_models
    ]
    if bases:
        # Writers use both forms for one base; radar does not keep which.
        card["base_model"] = bases[0] if len(bases) == 1 and row.dice % 2 else bases
        relations = {m[1][:-1] for m in map(RELATION.fullmatch, row.tags) if m and m[1]}
        if len(relations) == 1 and row.dice % 4 == 0:
            card["base_model_relation"] = relations.pop()
    datasets = [tag.removeprefix("dataset:") for tag in row.tags if tag.startswith("dataset:")]
    stated = {
        "datasets": datasets,
        "library_name": row.library,
        "pipeline_tag": row.pipeline_tag,
        "tags": find_own_tags(row),
        "model-index": _model_index(row),
    }
    card |= {key: value for key, value in stated.items() if value}
    return card or None


def _config(row: Row, lookups: Lookups) -> dict[str, Any] | None:
    model_type = find_model_type(row, lookups)
    if model_type is None:
        return None
    words = (word[:1].upper() + word[1:] for word in re.split(r"[_-]", model_type))
    guessed = "".join(words) + _HEADS.get(row.pipeline_tag or "", "Model")
    config: dict[str, Any] = {
        "architectures": [lookups.architectures.get(model_type, guessed)],
        "model_type": model_type,
    }
    if "conversational" in row.tags and lookups.tokenizers:
        config["tokenizer_config"] = lookups.tokenizers[row.dice % len(lookups.tokenizers)]
    return config


def _safetensors(row: Row) -> dict[str, Any] | None:
    if row.parameters is None or "safetensors" not in row.formats:
        return None
    main = ("BF16", "BF16", "F16", "F32")[row.dice % 4]
    counts = {main: row.parameters}
    if any(tag in row.tags for tag in ("4-bit", "8-bit", "bitsandbytes")):
        packed = row.parameters * 3 // 4
        counts = {main: row.parameters - packed, "U8": packed}
    return {"parameters": counts, "total": row.parameters}


def _gguf(row: Row, lookups: Lookups) -> dict[str, Any] | None:
    if row.parameters is None or "gguf" not in row.formats:
        return None
    architecture = next((tag for tag in row.tags if tag in lookups.model_types), "llama")
    gguf: dict[str, Any] = {
        "total": row.parameters,
        "architecture": architecture.replace("_", ""),
        "context_length": _CONTEXT_LENGTHS[row.dice % len(_CONTEXT_LENGTHS)],
    }
    if "conversational" in row.tags and lookups.tokenizers:
        tokenizer = lookups.tokenizers[row.dice % len(lookups.tokenizers)]
        keys = ("chat_template", "bos_token", "eos_token")
        gguf |= {key: tokenizer[key] for key in keys if key in tokenizer}
    return gguf


def _fields(row: Row, lookups: Lookups) -> dict[str, Any]:
    """All fields with their marks; None for what the row says nothing about."""
    parents = find_parents(row)
    gated = ("auto", "auto", "manual")[row.dice % 3] if row.is_gated else False
    return {
        "_id": _mark(Slot.HEX_ID),
        "id": _mark(Slot.ID),
        "modelId": _mark(Slot.ID),
        "author": _mark(Slot.AUTHOR),
        "cardData": _card(row, parents),
        "config": _config(row, lookups),
        "createdAt": _mark(Slot.CREATED) + ".000Z",
        "disabled": _mark(Slot.DISABLED, "v"),
        "downloads": _mark(Slot.DOWNLOADS, "v"),
        "downloadsAllTime": _mark(Slot.DOWNLOADS_ALL_TIME, "v"),
        "gated": gated,
        "gguf": _gguf(row, lookups),
        "lastModified": _mark(Slot.MODIFIED) + ".000Z",
        "library_name": row.library,
        "likes": _mark(Slot.LIKES, "v"),
        "model-index": _model_index(row),
        "pipeline_tag": row.pipeline_tag,
        "private": False,
        "safetensors": _safetensors(row),
        "sha": _mark(Slot.SHA),
        "tags": _tags(row, parents),
        "trendingScore": row.trending_score,
    }


def compile_template(row: Row, lookups: Lookups, wanted: Collection[str]) -> Template:
    """The record of `row` with the fields `wanted`, ``_id`` and ``id``.

    Fields about which the row says nothing are left out as the Hub does, except ``model-index``,
    which it gives as null.
    """
    names = {"_id", "id", *wanted}
    record = {
        name: value
        for name, value in _fields(row, lookups).items()
        if name in names and (value is not None or name == "model-index")
    }
    text, slots, at = [], [], 0
    body = orjson.dumps(record)
    for match in _MARK.finditer(body):
        kind, before, after = match[2], match[1] or b"", match[4] or b""
        if kind != b"t":  # quotes, a key's value, an item's comma belong to the gap
            before, after = b"", b"," if kind == b"v" and after.endswith(b",") else b""
        text += [body[at : match.start()].replace(b"%", b"%%"), before, b"%b", after]
        slots.append(int(match[3]))
        at = match.end()
    text.append(body[at:].replace(b"%", b"%%"))
    return Template(b"".join(text), operator.itemgetter(*slots))
