"""What reading a model costs, stage by stage: bytes and requests. Prints a table, or JSON.

Every model is laid out as the Hub has it, with headers and index of their true length; the real
reader of headers runs on them, and the real plan on what it finds. Counted are the configuration
and the index, the resolution of each weight file's address, the headers, and the planned ranges
after neighbours are joined, gaps included. Not counted: the vocabulary, which is read once for all
models that share it.

Shapes come from published configurations: some are written down in ``lineage.weights.reference``,
others (``--configs``) built by transformers without memory from the files in ``../shared/data``.
Anchor tokens are those of real vocabularies when the folder is there, else leading rows.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import struct
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from crawler.headers import read_headers
from crawler.records import FileEntry, TensorEntry
from crawler.spans import coalesce
from lineage.weights.facts import ModelFacts, facts_of
from lineage.weights.layout import lay_out
from lineage.weights.probe import ProbePlan, plan_probe
from lineage.weights.reference import REAL_SIZES, Shape, header_of, in_shards, index_of, sharded
from lineage.weights.stages import BUDGET_BYTES
from lineage.weights.vocabulary import anchor_rows, vocabulary_of

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CONFIG_BYTES = 2048
SHARD_BYTES = 5_000_000_000
_CONFIGS = (
    "Qwen--Qwen3-0.6B", "Qwen--Qwen3-1.7B", "meta-llama--Meta-Llama-3.1-8B", "Qwen--Qwen3-32B",
    "meta-llama--Meta-Llama-3.1-70B", "meta-llama--Meta-Llama-3.1-405B",
    "mistralai--Mixtral-8x7B-v0.1", "Qwen--Qwen3-30B-A3B", "deepseek-ai--DeepSeek-V3",
    "openai--gpt-oss-20b",
)  # fmt: skip
_STACKED = re.compile(r"(.*\.experts)\.(gate_up_proj|down_proj)$")

Row = dict[str, object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget-bytes", type=int, default=BUDGET_BYTES)
    parser.add_argument("--configs", action="store_true", help="models of ../shared/data too")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [_cost(shape.name, sharded(shape), _facts(shape), options.budget_bytes)
            for shape in REAL_SIZES]  # fmt: skip
    if options.configs:
        rows += [_cost(*model, options.budget_bytes) for model in _from_configs()]
    vocabularies = list(_vocabularies())
    if options.json:
        print(json.dumps({"models": rows, "vocabularies": vocabularies}, indent=2))
        return
    _print(rows)
    _print(vocabularies)


def _print(rows: Sequence[Row]) -> None:
    if not rows:
        return
    widths = {key: max(len(key), *(len(str(row[key])) for row in rows)) for key in rows[0]}
    print("  ".join(key.rjust(width) for key, width in widths.items()))
    for row in rows:
        print("  ".join(str(row[key]).rjust(width) for key, width in widths.items()))
    print()


def _cost(name: str, tensors: Sequence[TensorEntry], facts: ModelFacts, budget: int) -> Row:
    """Bytes and requests of every stage, each with all stages before it."""
    files, contents = _repository(tensors)
    n_reads = n_bytes = 0

    def read(path: str, start: int, stop: int) -> bytes:
        nonlocal n_reads, n_bytes
        n_reads += 1
        n_bytes += stop - start
        found = contents[path][start:stop]
        return found + bytes(stop - start - len(found))

    report = read_headers(read, files)
    assert len(report.tensors) == len(tensors), report.problems
    # Every file that is read by range has its address resolved, and the configuration is one more.
    requests = n_reads + len(files) + 1
    n_bytes += CONFIG_BYTES
    weights = lay_out(report.tensors, facts).weights
    row: Row = {
        "model": name,
        "GB": round(sum(t.stop - t.start for t in tensors) / 1e9, 1),
        "files": len(files),
        "headers MB": round(n_bytes / 1e6, 2),
        "requests": requests,
    }
    anchors = _anchors(name)
    for stage in (2, 3):
        seconds = []
        for _ in range(3):
            started = time.process_time()
            plan = plan_probe(weights, stage, budget_bytes=budget, facts=facts, anchors=anchors)
            seconds.append(time.process_time() - started)
        row |= {
            f"{stage}: planned MB": round(plan.bytes_planned / 1e6, 2),
            f"{stage}: all MB": round((n_bytes + _on_the_wire(plan)) / 1e6, 2),
            f"{stage}: requests": requests + plan.n_ranges,
            f"{stage}: CPU ms": round(1000 * min(seconds)),
        }
    row["weights"] = len(weights)
    row["read of"] = len(plan.blocks)
    deep = [b for b in plan.blocks if b.weight.key.role in ("up", "gate_up")]
    row["deepest up"] = max((len(block.rows) for block in deep), default=0)
    row["first given up"] = plan.given_up[0].split(":")[0] if plan.given_up else "-"
    return row


def _repository(tensors: Sequence[TensorEntry]) -> tuple[list[FileEntry], dict[str, bytes]]:
    """Files with their sizes, and of each the bytes up to its weights."""
    by_path: dict[str, list[TensorEntry]] = {}
    for tensor in tensors:
        by_path.setdefault(tensor.path, []).append(tensor)
    contents = {path: header_of(found) for path, found in by_path.items()}
    files = [FileEntry(path, max(t.stop for t in found)) for path, found in by_path.items()]
    index = index_of(tensors)
    if index:
        contents["model.safetensors.index.json"] = index
        files.append(FileEntry("model.safetensors.index.json", len(index)))
    return files, contents


def _on_the_wire(plan: ProbePlan) -> int:
    ranges = (span for spans in plan.spans_by_path().values() for span in coalesce(spans))
    return sum(stop - start for start, stop in ranges)


def _facts(shape: Shape) -> ModelFacts:
    query = shape.query or shape.hidden
    return ModelFacts("llama", "safetensors", query // 128, shape.key_value // 128, 128,
                      shape.hidden, shape.mixture.experts if shape.mixture else None)  # fmt: skip


def _from_configs() -> Iterator[tuple[str, list[TensorEntry], ModelFacts]]:
    """Models of the configurations beside the project, as their files on the Hub are named."""
    archive = DATA / "configs" / "model-configs.tar.gz"
    if not archive.exists():
        print("skipped: no ../shared/data/configs")
        return
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    with tarfile.open(archive) as opened:
        for name in _CONFIGS:
            member = opened.extractfile(f"./{name}_config.json")
            assert member is not None
            stated = json.load(member)
            config = CONFIG_MAPPING[stated["model_type"]].from_dict(
                {key: value for key, value in stated.items() if key != "quantization_config"}
            )
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config)
            tied = "lm_head.weight" if config.tie_word_embeddings else None
            named = [
                tensor
                for stored, values in model.state_dict().items() if stored != tied
                for tensor in _unstacked(stored, tuple(values.shape), stated["model_type"])
            ]  # fmt: skip
            n_bytes = sum(2 * functools.reduce(int.__mul__, shape, 1) for _, _, shape in named)
            tensors = in_shards(named, -(-n_bytes // SHARD_BYTES))
            yield name.replace("--", "/"), tensors, facts_of(stated, "safetensors", {})


def _unstacked(
    name: str, shape: tuple[int, ...], model_type: str
) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Experts one by one, as most checkpoints store what transformers stacks."""
    stacked = _STACKED.match(name)
    if stacked is None or model_type == "gpt_oss":
        yield name, "BF16", shape
        return
    stem, what = stacked.groups()
    mixtral = model_type == "mixtral"
    words = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
    stem = stem.replace(".mlp.", ".block_sparse_moe.") if mixtral else stem
    for expert in range(shape[0]):
        if what == "down_proj":
            yield f"{stem}.{expert}.{words[2]}.weight", "BF16", shape[1:]
        else:
            half = (shape[1] // 2, shape[2])
            yield f"{stem}.{expert}.{words[0]}.weight", "BF16", half
            yield f"{stem}.{expert}.{words[1]}.weight", "BF16", half


def _anchors(model: str) -> tuple[int, ...]:
    """Anchor rows of the model's vocabulary, or of one whose anchors lie alike."""
    own = ("Llama-2", "Mistral", "Mixtral")
    return _anchors_in("llama-spm" if any(word in model for word in own) else "gpt-2")


@functools.cache
def _anchors_in(vocabulary: str) -> tuple[int, ...]:
    path = DATA / "gguf-vocab" / f"ggml-vocab-{vocabulary}.gguf"
    return anchor_rows(vocabulary_of(_tokens(path))) if path.exists() else ()


def _vocabularies() -> Iterator[Row]:
    """Anchors of real vocabularies, and the ranges they cost."""
    folder = DATA / "gguf-vocab"
    if not folder.is_dir():
        print("skipped: no ../shared/data/gguf-vocab")
        return
    for path in sorted(folder.glob("*.gguf")):
        vocabulary = vocabulary_of(_tokens(path))
        rows = anchor_rows(vocabulary)
        texts = {vocabulary.tokens[row] for row in rows}
        yield {
            "vocabulary": path.stem.removeprefix("ggml-vocab-"),
            "tokens": len(vocabulary.tokens),
            "anchors": len(rows),
            "ranges": _n_runs(rows),
            "ranges of first 16": _n_runs(rows[:16]),
            "ranges of first 48": _n_runs(rows[:48]),
            "shared with gpt-2": len(texts & _texts("gpt-2")),
        }


@functools.cache
def _texts(name: str) -> frozenset[str]:
    vocabulary = vocabulary_of(_tokens(DATA / "gguf-vocab" / f"ggml-vocab-{name}.gguf"))
    return frozenset(vocabulary.tokens[row] for row in anchor_rows(vocabulary))


def _n_runs(rows: Sequence[int]) -> int:
    return len(coalesce([(row, row + 1) for row in rows], 0)) if rows else 0


def _tokens(path: Path) -> list[str]:
    """The array of strings ``tokenizer.ggml.tokens`` of a GGUF file."""
    data = path.read_bytes()
    key = b"tokenizer.ggml.tokens"
    at = data.index(key) + len(key)
    (n_tokens,) = struct.unpack_from("<Q", data, at + 8)
    at += 16
    tokens = []
    for _ in range(n_tokens):
        (length,) = struct.unpack_from("<Q", data, at)
        tokens.append(data[at + 8 : at + 8 + length].decode("utf-8", "replace"))
        at += 8 + length
    return tokens


if __name__ == "__main__":
    main()
