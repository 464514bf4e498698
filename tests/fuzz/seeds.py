"""What the cases are made of: seeds written here, and real files where they lie beside the project.

Real files are read at run time alone, from ``../shared/data``; nothing of them is kept.
"""

from __future__ import annotations

import json
import struct
import tarfile
from functools import cache
from pathlib import Path

from . import archives

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
MAX_SEED_BYTES = 64 << 10
_MAX_SEEDS = 400

CARDS = (
    """---
license: apache-2.0
language: [en, no]
base_model:
- mistralai/Mistral-7B-v0.1
- https://huggingface.co/a/b
base_model_relation: merge
datasets: c/d
tags: [merge, mergekit]
model-index:
- name: x
  results:
  - dataset: {name: MMLU, type: mmlu, config: all, split: test}
    metrics:
    - {type: acc, value: 61.3}
    - {type: perplexity, value: "5.1%"}
---
# A model

This is a fine-tuned version of [Mistral](https://huggingface.co/mistralai/Mistral-7B-v0.1).
It was merged from `a/one-7b` and `b/two-7b`, based on c/three-7b.

## Models merged
* [a/one-7b](https://huggingface.co/a/one-7b)
* /home/me/models/two-7b

```yaml
slices:
- sources:
  - {model: a/one-7b, layer_range: [0, 16]}
  - model: b/two-7b+c/lora
    layer_range: [8, 24]
    parameters: {weight: [{filter: mlp, value: [0, 0.5, 1]}, {value: 0.3}]}
merge_method: slerp
base_model: a/one-7b
parameters:
  t: [0, 0.5, 1]
dtype: bfloat16
```

## Evaluation

| task | score |
|---|---|
| MMLU | 61 |
""",
    "---\nbase_model: a/b c/d\nlicense: other\nlicense_name: my own\nlicense_link: LICENSE\n---\n",
    "---\nlanguage: no\ntags:\n\t- x\nbase_model: [\n# no end\n\nquantized from a/b-7b",
    "no front matter at all, trained on top of [x](https://hf.co/a/b-1)\n<!-- based on c/d-2 -->",
    "",
)
RECIPES = (
    """models:
  - model: a/one
    parameters: {weight: 0.6, density: [0.1, 0.9]}
  - model: ./local/two-7b
    parameters: {weight: {filter: self_attn, value: 0.4}}
merge_method: dare_ties
base_model: {model: c/base, revision: main}
parameters: {normalize: true, int8_mask: true}
dtype: float16
tokenizer_source: union
""",
    """name: stage-1
merge_method: linear
models: [{model: a/one, parameters: {weight: 1}}, {model: b/two, parameters: {weight: 2}}]
---
merge_method: slerp
base_model: stage-1
slices:
- sources:
  - {model: stage-1, layer_range: [0, 32]}
  - {model: "C:\\\\models\\\\c_three", layer_range: [0, 32]}
parameters: {t: [{filter: mlp, value: [0, 1]}, {value: 0.5}]}
""",
    """merge_method: passthrough
modules:
  text_decoder:
    slices:
    - sources: [{model: a/one, layer_range: [0, 8]}]
    - sources: [{model: a/one, layer_range: [4, 12]}]
""",
    "base_model: a/one\ngate_mode: hidden\nexperts:\n- {source_model: b/two, prompts: [x]}",
)
CONFIGS: tuple[dict[str, object], ...] = (
    {"_name_or_path": "a/b", "architectures": ["LlamaForCausalLM"], "model_type": "llama",
     "max_position_embeddings": 4096, "torch_dtype": "bfloat16",
     "quantization_config": {"quant_method": "gptq", "bits": 4, "model_name_or_path": "a/b"}},
    {"bits": 4, "model_name_or_path": "/tmp/x", "model_file_base_name": "model"},
    {"quantization_config": {"config_groups": {"group_0": {"format": "nvfp4-pack-quantized",
     "weights": {"num_bits": 8, "type": "float"}}}}, "text_config": {"max_position_embeddings": 1}},
    {"base_model_name_or_path": "a/b", "peft_type": "LORA", "revision": "main", "r": 8},
    {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}},
)  # fmt: skip
RECORD: dict[str, object] = {
    "id": "a/b", "modelId": "a/b", "sha": "0" * 40, "author": "a", "library_name": "transformers",
    "createdAt": "2024-01-02T03:04:05.000Z", "lastModified": "2024-01-02T03:04:05Z",
    "gated": "auto", "disabled": False, "private": False, "downloads": 3, "downloadsAllTime": 4,
    "likes": 5, "trendingScore": 1.5, "pipeline_tag": "text-generation",
    "tags": ["en", "license:mit", "dataset:c/d", "base_model:e/f", "base_model:finetune:e/f",
             "gptq"],
    "cardData": {"base_model": ["e/f"], "license": ["mit", "x"], "language": ["en", "no"],
                 "datasets": ["c/d"], "base_model_relation": "finetune", "library_name": "peft"},
    "config": CONFIGS[0], "safetensors": {"parameters": {"BF16": 10, "F32": 2}, "total": 12},
    "gguf": {"total": 7, "architecture": "llama", "context_length": 4096},
    "model-index": [{"name": "x", "results": [{"dataset": {"name": "MMLU", "type": "mmlu"},
                     "metrics": [{"type": "acc", "value": 0.5}]}]}],
    "evalResults": [{"data": {"dataset": {"id": "cais/hle", "task_id": "x"}, "value": 20.9,
                     "date": "2026-01-01"}, "filename": ".eval_results/x.yaml"}],
    "siblings": [
        {"rfilename": "README.md", "size": 900}, {"rfilename": "config.json", "size": 9},
        {"rfilename": "adapter_config.json", "size": 70, "blobId": "1" * 40},
        {"rfilename": "x.gguf", "size": 400, "lfs": {"sha256": "2" * 64, "size": 400}},
        {"rfilename": "tokenizer.json", "size": 5, "lfs": {"sha256": "3" * 64}},
    ],
}  # fmt: skip
PAYLOADS: tuple[dict[str, object], ...] = (
    {"event": {"action": "update", "scope": "repo.content"},
     "repo": {"type": "model", "name": "a/b", "id": "1", "private": False, "headSha": "4" * 40},
     "webhook": {"id": "5", "version": 3},
     "updatedRefs": [{"ref": "refs/heads/main", "newSha": "6"}]},
    {"event": {"action": "move", "scope": "repo"}, "repo": {"type": "model", "name": "a/b"},
     "movedTo": {"name": "c/d"}, "updatedConfig": {"private": True}},
)  # fmt: skip
CELLS: tuple[dict[str, object], ...] = (
    {"repo_id": "a/b", "tags": '["en", "base_model:c/d"]', "card_data": '{"license": "mit"}',
     "base_models": '{"relation": "merge", "models": [{"id": "c/d"}]}', "licence": "mit",
     "config": '{"model_type": "llama"}', "safetensors": '{"total": 3}', "gated": "manual",
     "languages": "['en' 'fr']", "base_model": "c/d, e/f", "parameters": 7, "disabled": "no"},
    {"repo_id": '<a target="_blank" href="https://huggingface.co/a/b">a/b</a> <a href="x">d</a>'},
)  # fmt: skip
WORDS = (
    "a/b", "gpt2", "https://huggingface.co/a/b/tree/main?x#y", "hf.co/a", "./output/checkpoint-5",
    "~/.cache/huggingface/hub/models--a--b/snapshots/1", "D:\\models\\a_b-7B", "a/b@main", "`a/b`",
    "../../etc/passwd", "a/..", "datasets/a/b", "a/b.git", "/home/me/b\na/b c/d\nb\na_b",
)  # fmt: skip


def _gguf(*items: tuple[str, object], tensors: int = 1) -> bytes:
    def text(word: str) -> bytes:
        return struct.pack("<Q", len(word.encode())) + word.encode()

    data = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(items))
    for key, value in items:
        if isinstance(value, str):
            data += text(key) + struct.pack("<I", 8) + text(value)
        elif isinstance(value, list):
            data += text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        else:
            data += text(key) + struct.pack("<II", 4, value)
    for n in range(tensors):
        data += text(f"blk.{n}.attn_q.weight") + struct.pack("<IQQIQ", 2, 32, 4, 8, n * 136)
    return data


def _tensors(n: int) -> bytes:
    head: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for at in range(n):
        head[f"model.layers.{at}.w"] = {
            "dtype": "BF16", "shape": [4, 8], "data_offsets": [64 * at, 64 * at + 64],
        }  # fmt: skip
    data = json.dumps(head).encode()
    return struct.pack("<Q", len(data)) + data


def _members(archive: Path, ending: str) -> list[bytes]:
    if not archive.is_file():
        return []
    with tarfile.open(archive) as tar:
        files = sorted(
            (member for member in tar if member.name.endswith(ending)), key=lambda m: m.name
        )
        opened = (tar.extractfile(member) for member in files[:_MAX_SEEDS])
        return [file.read(MAX_SEED_BYTES) for file in opened if file is not None]


def _files(folder: str, pattern: str) -> list[bytes]:
    found = []
    for path in sorted((DATA / folder).glob(pattern)):
        with path.open("rb") as file:
            found.append(file.read(MAX_SEED_BYTES))
    return found


def _json(*values: object) -> list[bytes]:
    return [json.dumps(value).encode() for value in values]


def _real_records() -> list[bytes]:
    path = DATA / "model-info" / "model_data.json"
    if not path.is_file():
        return []
    found = json.loads(path.read_bytes())
    records = found if isinstance(found, list) else list(found.values())
    return _json(*[record for record in records if isinstance(record, dict)][:50])


@cache
def seeds(kind: str, *, real: bool = True) -> tuple[bytes, ...]:
    """The seeds of one kind of text; with `real`, those of real files too, where they are."""
    own: list[bytes]
    found: list[bytes] = []
    if kind == "card":
        own = [text.encode() for text in CARDS]
        found = _members(DATA / "cards" / "cards.tar.gz", "README.md") + _files(
            "cards/edge-cases", "*"
        )
    elif kind == "recipe":
        own = [text.encode() for text in (*RECIPES, CARDS[0])]
        found = _files("cards/recipes", "*.yml")
    elif kind == "config":
        own = _json(*CONFIGS)
        for name in ("adapter-configs.tar.gz", "model-configs.tar.gz"):
            found += _members(DATA / "configs" / name, ".json")
    elif kind == "details":
        own, found = _json(RECORD), _real_records()
    elif kind == "page":
        bare = {key: RECORD[key] for key in ("id", "tags", "createdAt", "likes")}
        own = _json([RECORD], [bare, {**bare, "id": "c/d"}], [bare, {"id": 7}, {"id": "not an id"}])
        found = [b"[" + record + b"]" for record in _real_records()]
    elif kind == "words":
        own = [word.encode() for word in WORDS] + [CARDS[0].encode()]
    elif kind == "payload":
        own = _json(*PAYLOADS)
    elif kind == "cells":
        own = _json(*CELLS)
    elif kind == "safetensors":
        own = [_tensors(0), _tensors(1), _tensors(6)]
    elif kind == "gguf":
        names = ("general.architecture", "llama"), ("general.alignment", 32)
        own = [_gguf(), _gguf(*names, ("tokenizer.ggml.tokens", ["a", "b"]), tensors=3)]
        own.append(_gguf(("general.base_model.0.repo_url", "https://huggingface.co/a/b"), *names))
        found = _files("gguf-vocab", "*.gguf")
    elif kind == "torch":
        own = list(archives.ARCHIVES)
    elif kind == "pickled":
        own = list(archives.PICKLES)
    elif kind == "onnx":
        own = list(archives.MODELS)
    else:
        raise ValueError(f"no seeds of the kind {kind!r}")
    return tuple(own + found) if real else tuple(own)
