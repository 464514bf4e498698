"""Rows of the radar data set, one real model each, and what can be read from their tags."""

from __future__ import annotations

import gzip
import json
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

__all__ = [
    "RELATION",
    "Lookups",
    "MissingDataError",
    "Row",
    "dump_row",
    "find_licence",
    "find_model_type",
    "find_own_tags",
    "find_parents",
    "load_row",
    "read_lookups",
    "read_rows",
]

RELATION = re.compile(r"base_model:(adapter:|finetune:|merge:|quantized:)?(.*)", re.DOTALL)
_WEIGHT_FORMATS = frozenset({
    "coreml", "flax", "gguf", "jax", "joblib", "keras", "mlx", "onnx", "openvino", "peft",
    "pytorch", "rust", "safetensors", "tensorboard", "tf", "tflite", "transformers",
})  # fmt: skip
_COMPUTED = _WEIGHT_FORMATS | {
    "conversational", "deploy:azure", "diffusers", "endpoints_compatible", "eval-results",
    "imatrix", "text-embeddings-inference", "text-generation-inference",
}  # fmt: skip
_MODEL_TYPE_SHARE = 0.2
_COMPUTED_PREFIXES = ("arxiv:", "base_model:", "dataset:", "deploy:", "doi:", "license:", "region:")


class MissingDataError(Exception):
    """The real data that the simulation learns from is not there."""


@dataclass(frozen=True, slots=True)
class Row:
    """One real model: the columns of radar that a listing shows, under our names."""

    repo_id: str
    created_s: int
    modified_s: int
    licence: str | None
    pipeline_tag: str | None
    library: str | None
    languages: tuple[str, ...]
    tags: tuple[str, ...]
    likes: int
    downloads_30d: int
    trending_score: float
    parameters: int | None
    base_models: tuple[str, ...]
    formats: tuple[str, ...]
    is_gated: bool
    benchmarks: tuple[Mapping[str, Any], ...]

    @property
    def dice(self) -> int:
        """A number from the id, for what radar does not say and a real record does."""
        return zlib.crc32(self.repo_id.encode())


@dataclass(frozen=True, slots=True)
class Lookups:
    """What completes a row: model types, their architectures, tokenizer configurations."""

    model_types: frozenset[str]
    architectures: Mapping[str, str]
    tokenizers: tuple[Mapping[str, Any], ...]


def read_rows(shared_data: Path) -> list[Row]:
    """The rows of radar, in the order of the file.

    Raises
    ------
    MissingDataError
        There is no such file.
    ValueError
        A row holds the characters that mark gaps, or is not of radar's shape.
    """
    path = shared_data / "radar" / "models.jsonl.gz"
    if not path.is_file():
        raise MissingDataError(f"the simulated Hub learns from {path}, which is absent")
    rows = []
    with gzip.open(path, "rb") as lines:
        for line in lines:
            if b"\\u0001" in line:
                raise ValueError("a row of radar holds the control character that marks gaps")
            rows.append(_row_of(orjson.loads(line)))
    return rows


def _row_of(raw: Mapping[str, Any]) -> Row:
    named = raw["base_model"]
    return Row(
        repo_id=raw["id"],
        created_s=int(datetime.fromisoformat(raw["created_at"]).timestamp()),
        modified_s=int(datetime.fromisoformat(raw["updated_at"]).timestamp()),
        licence=raw["license"],
        pipeline_tag=raw["pipeline_tag"],
        library=raw["library"],
        languages=tuple(raw["languages"]),
        tags=tuple(raw["tags"]),
        likes=raw["likes"],
        downloads_30d=raw["downloads_30d"],
        trending_score=raw["trending_score"],
        parameters=raw["parameters"],
        base_models=tuple(named.split(", ")) if named else (),
        formats=tuple(raw["formats"]),
        is_gated=raw["gated"],
        benchmarks=tuple(raw["benchmarks"]),
    )


def dump_row(row: Row) -> bytes:
    """A row as bytes: a tenth of the memory that its objects take."""
    return orjson.dumps([getattr(row, name) for name in Row.__slots__])


def load_row(dumped: bytes) -> Row:
    """The row that :func:`dump_row` wrote."""
    cells = orjson.loads(dumped)
    values: list[Any] = [tuple(cell) if isinstance(cell, list) else cell for cell in cells]
    return Row(*values)


def read_lookups(shared_data: Path, rows: Sequence[Row]) -> Lookups:
    """Learn model types from the rows' tags, and the rest from the real configurations."""
    architectures: dict[str, str] = {}
    configs = shared_data / "configs" / "model-configs.tar.gz"
    if configs.is_file():
        with tarfile.open(configs) as archive:
            for member in archive.getmembers():
                file = archive.extractfile(member)
                config = _json_object(file.read()) if file is not None else {}
                if config.get("model_type") and config.get("architectures"):
                    architectures[str(config["model_type"])] = str(config["architectures"][0])
    tokenizers = []
    records = shared_data / "model-info" / "model_data.json"
    if records.is_file():
        for model in json.loads(records.read_bytes())["models"]:
            config = _json_object(model["metadata"].encode()).get("config") or {}
            if config.get("tokenizer_config"):
                tokenizers.append(config["tokenizer_config"])
    return Lookups(_model_types(rows), architectures, tuple(tokenizers))


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _model_types(rows: Sequence[Row]) -> frozenset[str]:
    """Tags that are model types.

    The Hub writes library, weight formats, model type, task, and only then what the card says: a
    word that stands between the formats and the task, in a good part of its uses, is a model type.
    """
    between = Counter(
        tag
        for row in rows
        if row.pipeline_tag is not None and "transformers" in row.tags
        for tag, after in [_after_formats(row.tags)]
        if after == row.pipeline_tag and re.fullmatch(r"[a-z0-9_-]+", tag)
    )
    uses = Counter(tag for row in rows for tag in set(row.tags))
    return frozenset(
        tag
        for tag, count in between.items()
        if count > 1 and count >= _MODEL_TYPE_SHARE * uses[tag]
    )


def _after_formats(tags: Sequence[str]) -> tuple[str, str]:
    rest = [tag for tag in tags if tag not in _WEIGHT_FORMATS][:2]
    first, second = [*rest, "", ""][:2]
    return first, second


def find_parents(row: Row) -> tuple[str, ...]:
    """The parents that the row's tags name, each once, in the tags' order."""
    found = (RELATION.fullmatch(tag) for tag in row.tags)
    return tuple(dict.fromkeys(match[2] for match in found if match))


def find_licence(row: Row) -> tuple[str, dict[str, str]] | None:
    """The row's licence as its tag and as the card words it; None when the tags state none."""
    tag = next((tag for tag in row.tags if tag.startswith("license:")), None)
    if tag is None:
        return None
    stated = tag.removeprefix("license:")
    card = {"license": stated}
    if stated == "other" and row.licence not in (None, "other"):
        card["license_name"] = str(row.licence)
    return tag, card


def find_own_tags(row: Row) -> list[str]:
    """The tags that the card's author wrote: neither computed by the Hub nor from other fields."""
    fields = {row.library, row.pipeline_tag, *row.languages, *row.formats}
    return [
        tag
        for tag in row.tags
        if tag not in fields
        and tag not in _COMPUTED
        and not tag.startswith(_COMPUTED_PREFIXES)
        and tag != _after_formats(row.tags)[0]
    ]


def find_model_type(row: Row, lookups: Lookups) -> str | None:
    """The model type of the row's transformers configuration; None when it has none."""
    model_type = _after_formats(row.tags)[0]
    known = "transformers" in row.tags and model_type in lookups.model_types
    return model_type if known else None
