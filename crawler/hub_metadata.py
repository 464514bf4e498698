"""What a Hub derives from a repository's files: tags, library, task, summaries of weights.

The derivation follows the Hub's observed behaviour: a card whose block of metadata cannot be read
gives no metadata and no tags; the relation to the base models is the card's ``base_model_relation``
or a guess from the files (adapter, quantized, merge for several bases, else finetune).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TypeAlias

import yaml

from crawler.errors import MalformedError, NotFoundError
from crawler.headers import HeaderReport, read_headers
from crawler.hub_folder import HostedRepo
from crawler.records import FileEntry, is_repo_id

__all__ = ["Description", "Json", "describe", "iso_time"]

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None

_CONFIG_KEYS = ("architectures", "model_type")
_MAX_TEXT_BYTES = 4 << 20
_MAX_NODES = 50_000
_MAX_DEPTH = 40
_MAX_TAG_CHARACTERS = 200
_FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
# The YAML reader lets errors of conversion through for odd scalars (`!!bool x`, 2024-99-99).
_YAML_ERRORS = (
    yaml.YAMLError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
_TASKS = {
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForConditionalGeneration": "text2text-generation",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForImageClassification": "image-classification",
}


@dataclass(frozen=True, slots=True)
class Description:
    """What the files of a repository say; None where they say nothing."""

    card: Mapping[str, Json] | None
    config: Mapping[str, Json] | None
    library: str | None
    task: str | None
    base_models: tuple[str, ...]
    relation: str | None
    tags: tuple[str, ...]
    parameters: Mapping[str, int] | None
    gguf: Mapping[str, Json] | None


def iso_time(moment: datetime) -> str:
    """A time as the Hub writes it: UTC, milliseconds, a final Z.

    >>> iso_time(datetime(2024, 1, 2, tzinfo=UTC))
    '2024-01-02T00:00:00.000Z'
    """
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def _plain(value: object, budget: list[int], depth: int = 0) -> Json:
    """A YAML value as JSON; aliases that unfold without end are refused."""
    budget[0] -= 1
    if budget[0] < 0 or depth > _MAX_DEPTH:
        raise MalformedError("the metadata is too large or too deep")
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date):
        return iso_time(value) if isinstance(value, datetime) and value.tzinfo else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, budget, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, budget, depth + 1) for item in value]
    return str(value)


def _read_card(repo: HostedRepo) -> dict[str, Json] | None:
    file = repo.files.get("README.md")
    if file is None:
        return None
    text = file.read(0, _MAX_TEXT_BYTES).decode("utf-8", errors="replace")
    block = _FRONT_MATTER.match(text)
    if block is None:
        return None
    try:
        card = _plain(yaml.safe_load(block[1]), [_MAX_NODES])
        json.dumps(card).encode()
    except (*_YAML_ERRORS, MalformedError):
        return None
    return card if isinstance(card, dict) else None


def _read_object(repo: HostedRepo, path: str) -> dict[str, Json] | None:
    file = repo.files.get(path)
    if file is None:
        return None
    try:
        value = json.loads(file.read(0, _MAX_TEXT_BYTES))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _words(value: Json) -> list[str]:
    """The words of a card's field, which may be one word, a list or nonsense."""
    items = value if isinstance(value, list) else [value]
    return [
        item for item in items if isinstance(item, str) and 0 < len(item) <= _MAX_TAG_CHARACTERS
    ]


def _word(value: Json) -> str | None:
    return next(iter(_words(value)), None) if isinstance(value, str) else None


def _task_of(config: Mapping[str, Json] | None) -> str | None:
    for architecture in _words((config or {}).get("architectures")):
        for ending, task in _TASKS.items():
            if architecture.endswith(ending):
                return task
    return None


def _headers_of(repo: HostedRepo, suffix: str) -> HeaderReport:
    """Headers of the model's own weights; an adapter's do not count, as on the Hub."""
    files = [
        FileEntry(file.path, file.size_bytes)
        for file in repo.files.values()
        if file.path.endswith((suffix, ".safetensors.index.json"))
        and not file.path.startswith("adapter_")
    ]

    def read(path: str, start: int, stop: int) -> bytes:
        if path not in repo.files:
            raise NotFoundError(f"{repo.repo_id} has no {path}")
        return repo.files[path].read(start, stop)

    return read_headers(read, files)


def _safetensors_parameters(repo: HostedRepo) -> dict[str, int] | None:
    counts: dict[str, int] = {}
    for tensor in _headers_of(repo, ".safetensors").tensors:
        counts[tensor.dtype] = counts.get(tensor.dtype, 0) + math.prod(tensor.shape)
    return counts or None


def _gguf_summary(repo: HostedRepo) -> dict[str, Json] | None:
    report = _headers_of(repo, ".gguf")
    if not report.tensors:
        return None
    summary: dict[str, Json] = {"total": sum(math.prod(tensor.shape) for tensor in report.tensors)}
    architecture = report.metadata.get("general.architecture")
    if isinstance(architecture, str):
        summary["architecture"] = architecture
        context = report.metadata.get(f"{architecture}.context_length")
        if isinstance(context, int):
            summary["context_length"] = context
    return summary


def _has(repo: HostedRepo, suffix: str) -> bool:
    return any(path.endswith(suffix) for path in repo.files)


def _relation(repo: HostedRepo, card: Mapping[str, Json], bases: tuple[str, ...]) -> str | None:
    if not bases:
        return None
    stated = _word(card.get("base_model_relation"))
    if stated in ("adapter", "finetune", "merge", "quantized"):
        return stated
    if "adapter_config.json" in repo.files:
        return "adapter"
    if _has(repo, ".gguf") or _has(repo, ".onnx"):
        return "quantized"
    return "merge" if len(bases) > 1 else "finetune"


def _library(repo: HostedRepo, card: Mapping[str, Json], config: object) -> str | None:
    stated = _word(card.get("library_name"))
    if stated:
        return stated
    if "adapter_config.json" in repo.files:
        return "peft"
    if config is not None:
        return "transformers"
    return "gguf" if _has(repo, ".gguf") else None


def describe(repo: HostedRepo) -> Description:
    """Derive tags, library, task and summaries from a repository's files.

    Raises
    ------
    NotFoundError
        A file went away while it was being read.
    """
    card = _read_card(repo)
    stated = card or {}
    config = _read_object(repo, "config.json")
    if config is not None:
        config = {key: item for key, item in config.items() if key in _CONFIG_KEYS}
    bases = tuple(
        dict.fromkeys(word for word in _words(stated.get("base_model")) if is_repo_id(word))
    )
    relation = _relation(repo, stated, bases)
    library = _library(repo, stated, config)
    task = _word(stated.get("pipeline_tag")) or _task_of(config)
    model_type = _word((config or {}).get("model_type"))
    tags = [
        *([library] if library else []),
        *(["safetensors"] if _has(repo, ".safetensors") else []),
        *(["gguf"] if _has(repo, ".gguf") else []),
        *([model_type] if model_type else []),
        *([task] if task else []),
        *_words(stated.get("tags")),
        *_words(stated.get("language")),
        *(f"dataset:{name}" for name in _words(stated.get("datasets"))),
        *(f"base_model:{base}" for base in bases),
        *(f"base_model:{relation}:{base}" for base in bases),
        *(f"license:{name}" for name in _words(stated.get("license"))),
        "region:us",
    ]
    return Description(
        card=card,
        config=config,
        library=library,
        task=task,
        base_models=bases,
        relation=relation,
        tags=tuple(dict.fromkeys(tags)),
        parameters=_safetensors_parameters(repo),
        gguf=_gguf_summary(repo),
    )
