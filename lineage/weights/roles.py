"""What a tensor does in a network, read from its name: (role, layer, expert).

The rules are data: one pattern per role for every naming scheme in use (Hugging Face Llama-style
and Mixtral, GPT-2, BERT-style encoders, GGUF). A name that no rule knows keeps itself as its role,
with its first number taken as the layer, so that equal names still meet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Role", "TensorKey", "role_of"]

_PREFIX = re.compile(
    r"^(?:_orig_mod\.|base_model\.model\.|module\.|language_model\.|transformer\.|model\.|bert\.|roberta\.)+"
)
_SUFFIX = re.compile(r"\.(weight|bias)$")
_LAYER = re.compile(
    r"^(?:layers|h|blk|encoder\.layer|decoder\.layers|encoder\.layers)\.(\d+)\.(.+)$"
)
_EXPERT = re.compile(r"^(?:block_sparse_moe|mlp)\.experts\.(\d+)\.(.+)$")
_LORA = re.compile(r"^(.*)\.lora_(A|B)(?:\.default)?$")

_IN_LAYER: dict[str, str] = {
    # Llama, Mistral, Qwen, Gemma
    "self_attn.q_proj": "q", "self_attn.k_proj": "k", "self_attn.v_proj": "v",
    "self_attn.o_proj": "o", "self_attn.q_norm": "q_norm", "self_attn.k_norm": "k_norm",
    "mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.down_proj": "down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "block_sparse_moe.gate": "router", "mlp.gate": "router",
    # GGUF
    "attn_q": "q", "attn_k": "k", "attn_v": "v", "attn_output": "o", "ffn_gate": "gate",
    "ffn_up": "up", "ffn_down": "down", "attn_norm": "attn_norm", "ffn_norm": "ffn_norm",
    "attn_qkv": "qkv", "ffn_gate_inp": "router",
    # GPT-2
    "attn.c_attn": "qkv", "attn.c_proj": "o", "mlp.c_fc": "up", "mlp.c_proj": "down",
    "ln_1": "attn_norm", "ln_2": "ffn_norm",
    # BERT
    "attention.self.query": "q", "attention.self.key": "k", "attention.self.value": "v",
    "attention.output.dense": "o", "attention.output.LayerNorm": "attn_norm",
    "intermediate.dense": "up", "output.dense": "down", "output.LayerNorm": "ffn_norm",
}  # fmt: skip
_IN_EXPERT = {
    "w1": "gate", "w2": "down", "w3": "up",
    "gate_proj": "gate", "up_proj": "up", "down_proj": "down",
}  # fmt: skip
_OUTSIDE = {
    "embed_tokens": "embed", "wte": "embed", "token_embd": "embed",
    "embeddings.word_embeddings": "embed", "wpe": "position", "position_embd": "position",
    "embeddings.position_embeddings": "position", "lm_head": "head", "output": "head",
    "norm": "final_norm", "ln_f": "final_norm", "output_norm": "final_norm",
    "embeddings.LayerNorm": "embed_norm",
}  # fmt: skip
_TRANSPOSED = {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}


@dataclass(frozen=True, slots=True, order=True)
class TensorKey:
    """A tensor's place in a network. `layer` and `expert` are -1 where they do not apply."""

    role: str
    layer: int = -1
    expert: int = -1

    def __str__(self) -> str:
        expert = f"/{self.expert}" if self.expert >= 0 else ""
        return f"{self.role}@{self.layer}{expert}" if self.layer >= 0 else self.role


@dataclass(frozen=True, slots=True)
class Role:
    """A key, whether a rule knew the name, and whether rows are stored as columns (GPT-2)."""

    key: TensorKey
    known: bool
    transposed: bool = False


def role_of(name: str) -> Role:
    """The place of the tensor called `name`.

    Examples
    --------
    >>> str(role_of("model.layers.3.self_attn.q_proj.weight").key)
    'q@3'
    >>> str(role_of("blk.3.attn_q.weight").key)
    'q@3'
    >>> str(role_of("model.layers.0.block_sparse_moe.experts.1.w2.weight").key)
    'down@0/1'
    >>> role_of("something.else").known
    False
    """
    stem = _PREFIX.sub("", name)
    match = _SUFFIX.search(stem)
    kind = match.group(1) if match else None
    stem = _SUFFIX.sub("", stem)
    mark = ".bias" if kind == "bias" else ""
    lora = _LORA.match(stem)
    if lora:
        stem, mark = lora.group(1), f".lora_{lora.group(2).lower()}"
    if stem.endswith((".weight_scale", ".qscale")):
        stem, mark = stem.rsplit(".", 1)[0], ".scale"
    layer, expert, rule, inside = -1, -1, _OUTSIDE, stem
    if in_layer := _LAYER.match(stem):
        layer, inside, rule = int(in_layer.group(1)), in_layer.group(2), _IN_LAYER
        if in_expert := _EXPERT.match(inside):
            expert, inside, rule = int(in_expert.group(1)), in_expert.group(2), _IN_EXPERT
    role = rule.get(inside)
    if role is None:
        return Role(TensorKey(re.sub(r"\d+", "#", inside) + mark, layer, expert), known=False)
    return Role(TensorKey(role + mark, layer, expert), True, inside in _TRANSPOSED and not mark)
