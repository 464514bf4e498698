"""What the probe plan reads of models of real size: bytes, share and ranges, from shapes alone.

The shapes are those of published configurations (hidden size, feed-forward size, layers, key-value
width, vocabulary); no weights are needed, since a plan is a function of roles and shapes.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass

from crawler.records import TensorEntry
from lineage.weights.plan import plan_probe


@dataclass(frozen=True)
class Shape:
    """A Llama-style configuration."""

    name: str
    hidden: int
    ffn: int
    layers: int
    key_value: int
    vocabulary: int


SHAPES = (
    Shape("Qwen2.5-0.5B", 896, 4864, 24, 128, 151_936),
    Shape("Llama-2-7B", 4096, 11_008, 32, 4096, 32_000),
    Shape("Mistral-7B", 4096, 14_336, 32, 1024, 32_000),
    Shape("Llama-3-70B", 8192, 28_672, 80, 1024, 128_256),
)


def tensors_of(shape: Shape) -> list[TensorEntry]:
    """The tensors of a bf16 checkpoint of this shape, one behind the other."""
    named: list[tuple[str, tuple[int, ...]]] = [
        ("model.embed_tokens.weight", (shape.vocabulary, shape.hidden)),
        ("lm_head.weight", (shape.vocabulary, shape.hidden)),
        ("model.norm.weight", (shape.hidden,)),
    ]
    for layer in range(shape.layers):
        stem = f"model.layers.{layer}"
        named += [
            (f"{stem}.self_attn.q_proj.weight", (shape.hidden, shape.hidden)),
            (f"{stem}.self_attn.k_proj.weight", (shape.key_value, shape.hidden)),
            (f"{stem}.self_attn.v_proj.weight", (shape.key_value, shape.hidden)),
            (f"{stem}.self_attn.o_proj.weight", (shape.hidden, shape.hidden)),
            (f"{stem}.mlp.gate_proj.weight", (shape.ffn, shape.hidden)),
            (f"{stem}.mlp.up_proj.weight", (shape.ffn, shape.hidden)),
            (f"{stem}.mlp.down_proj.weight", (shape.hidden, shape.ffn)),
            (f"{stem}.input_layernorm.weight", (shape.hidden,)),
            (f"{stem}.post_attention_layernorm.weight", (shape.hidden,)),
        ]
    entries, at = [], 0
    for name, dimensions in named:
        size = 2
        for length in dimensions:
            size *= length
        entries.append(TensorEntry(name, "BF16", dimensions, "model.safetensors", at, at + size))
        at += size
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget-bytes", type=int, default=8_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for shape in SHAPES:
        tensors = tensors_of(shape)
        started = time.perf_counter()
        try:
            plan = plan_probe(tensors, options.budget_bytes)
        except ValueError as error:
            rows.append({"model": shape.name, "refused": str(error)})
            continue
        rows.append(
            {
                "model": shape.name,
                "checkpoint_bytes": sum(t.stop - t.start for t in tensors),
                "planned_bytes": plan.bytes_planned,
                "blocks": len(plan.blocks),
                "plan_ms": round(1000 * (time.perf_counter() - started), 1),
            }
        )
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        if "refused" in row:
            print(f"{row['model']:<14} {row['refused']}")
        else:
            share = 100 * row["planned_bytes"] / row["checkpoint_bytes"]
            print(
                f"{row['model']:<14} {row['planned_bytes'] / 1e6:6.2f} MB of "
                f"{row['checkpoint_bytes'] / 1e9:7.2f} GB ({share:.3f} %), "
                f"{row['blocks']} blocks, planned in {row['plan_ms']} ms"
            )


if __name__ == "__main__":
    main()
