"""What transformers gets to see of a stranger's model: a folder made here, of data only.

Weights are safetensors, linked or downloaded; configuration and tokenizer are copied without
whatever names code or files. So nothing is unpickled, nothing that a repository brings is
executed, and nothing more is asked of the network once the folder stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from crawler.configs import architecture_of, load_json_object
from lineage.errors import HerdbookError
from lineage.pipeline.located import ModelReader
from lineage.pipeline.progress import megabytes
from lineage.pipeline.weight_folder import weight_paths, write_weights

__all__ = ["UnsuitableError", "download_bytes", "require_suitable", "stage"]

_VOCABULARIES = (
    "tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
_TOKENIZER = (*_VOCABULARIES, "merges.txt", "special_tokens_map.json", "added_tokens.json")
_TOKENIZER_CONFIG = "tokenizer_config.json"
_MAX_TOKENIZER_BYTES = 64 << 20
_MOST_LAYERS = 10_000
_COUNTS = re.compile(r"(?!.*(?:size|dim|_id|token)).*(?:layer|expert|depth|block|head)", re.DOTALL)
_NAMES_CODE = frozenset({"auto_map", "attribute_map", "name_or_path", "_name_or_path"})


class UnsuitableError(HerdbookError):
    """A model whose behaviour is not read here; says why."""


def require_suitable(reader: ModelReader) -> None:
    """Raise unless the model is a causal language model that transformers knows, in safetensors.

    Raises
    ------
    UnsuitableError
        If it is not; only configuration and headers were read.
    CrawlError
        If they cannot be read.
    """
    paths = {file.path for file in reader.located.snapshot.files}
    config = reader.config
    if config is None:
        adapter = "adapter_config.json" in paths
        reason = "an adapter alone" if adapter else "no config.json"
        raise UnsuitableError(f"{reason}; only whole models that transformers knows are run")
    architecture = architecture_of(config)
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KNOWN

    if architecture not in set(KNOWN.values()):
        raise UnsuitableError(
            f"{architecture or 'an unnamed architecture'} is no causal language model that "
            "transformers knows; others (masked, vision, encoder–decoder, code of their own) are "
            "not run"
        )
    if "quantization_config" in config:
        raise UnsuitableError("its weights are quantised; only plain weights are run")
    report = reader.headers
    if report.format != "safetensors" or report.problems:
        reasons = "; ".join(problem.reason for problem in report.problems[:2])
        raise UnsuitableError(
            f"its weights are {report.format or 'of no known format'}, only whole safetensors "
            f"are run{': ' if reasons else ''}{reasons}"
        )
    if not paths.intersection(_VOCABULARIES):
        raise UnsuitableError("it has no tokenizer")
    _require_sane_counts(config)


def _require_sane_counts(config: Mapping[str, object]) -> None:
    """Raise where a configuration promises endless layers, heads or experts."""
    waiting: list[tuple[str, object]] = list(config.items())
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, int) and _COUNTS.match(key.lower()) and value > _MOST_LAYERS:
            raise UnsuitableError(f"config.json states {str(value)[:20]} for {key!a:.100}")


def download_bytes(reader: ModelReader) -> int:
    """Bytes of weights that :func:`stage` copies; nothing of a folder."""
    if reader.located.folder is not None:
        return 0
    sizes = {file.path: file.size_bytes for file in reader.located.snapshot.files}
    return sum(sizes[path] for path in weight_paths(reader))


def stage(reader: ModelReader, folder: Path) -> None:
    """Make the folder that transformers loads a suitable model from.

    Raises
    ------
    HerdbookError
        If a file is too large or malformed, or not what its digest says.
    CrawlError
        If it cannot be read.
    """
    _write_json(folder / "config.json", reader.config or {})
    for name in (_TOKENIZER_CONFIG, *_TOKENIZER):
        data = reader.small_file(name, _MAX_TOKENIZER_BYTES)
        if data is None:
            continue
        if name == _TOKENIZER_CONFIG:
            _write_json(folder / name, load_json_object(data.decode("utf-8", "replace"), name))
        else:
            (folder / name).write_bytes(data)
    with megabytes(f"downloading {reader.located.name}", download_bytes(reader)) as advance:
        write_weights(reader, folder, advance)


def _write_json(path: Path, stated: Mapping[str, object]) -> None:
    """A configuration without the entries by which it could name code or other files."""
    plain = {
        key: value
        for key, value in stated.items()
        if not (key in _NAMES_CODE or key.endswith("_file") or key == "chat_template")
    }
    path.write_text(json.dumps(plain), encoding="utf-8")
