"""What llama.cpp's converter does to weights on the way into a GGUF file, undone where it can be.

Rows of queries and keys are reordered for architectures whose rotary embedding turns neighbouring
pairs there and the two halves of a head in the original; norms that multiply by ``1 + w`` are
stored with the one added; some weights are stored as something else altogether (a logarithm's
negative exponential), and these are passed over. Fused queries, keys and values come one below the
other whatever their order was. [1]_

References
----------
.. [1] ``conversion/*.py`` (formerly ``convert_hf_to_gguf.py``) of github.com/ggml-org/llama.cpp.
"""

from __future__ import annotations

from dataclasses import replace

from crawler.errors import MalformedError
from lineage.weights.facts import ModelFacts
from lineage.weights.roles import Role
from lineage.weights.weight import RowOrder, Weight

__all__ = ["PAIRED", "as_converted", "undo_conversion"]

PAIRED = frozenset({
    "llama", "llama-embed", "mistral3", "deci", "baichuan", "xverse", "internlm2", "minicpm",
    "olmo", "arctic", "deepseek", "granite", "granitemoe", "granitehybrid", "smollm3", "arcee",
    "llada", "bailingmoe", "chameleon",
})  # fmt: skip
"""Architectures whose query and key rows are stored as pairs, not halves."""
_SHIFTED = frozenset({
    "gemma", "gemma2", "gemma3", "gemma-embedding", "nemotron", "qwen3next", "qwen35", "qwen35moe",
})  # fmt: skip
"""Architectures whose norms are stored with one added."""
_UNSHIFTED = frozenset({"ssm_norm"})
_KEYS_BY_SHARE = frozenset({"baichuan", "xverse"})
"""Architectures whose keys are paired as if there were heads / key heads of them."""

_EVERYTHING = frozenset({"plamo", "plamo2", "plamo3", "falcon-h1", "bitnet"})
"""Architectures whose matrices are scaled, rounded or shuffled in ways that are not undone."""
_CHANGED: dict[str, tuple[str, ...]] = {
    "chameleon": ("attn_q_norm", "attn_k_norm"),
    "bailingmoe": ("output",),
    "jais": ("token_embd", "output"),
    "bert": ("position_embd",),
    "qwen3next": ("attn_qkv", "attn_gate", "ssm_in", "ssm_ba", "ssm_conv1d", "ssm_out"),
    **dict.fromkeys(
        ("qwen35", "qwen35moe"),
        ("attn_qkv", "attn_gate", "ssm_alpha", "ssm_beta", "ssm_conv1d", "ssm_out", "ssm_dt"),
    ),
}
"""Tensors that are changed in ways that are not undone, by architecture."""


def as_converted(role: Role) -> Role:
    """The role as a GGUF file stores it: fused parts one below the other."""
    fused = role.fused
    if fused is not None and fused.arrangement in ("by_head", "by_group"):
        fused = replace(fused, arrangement="concatenated")
    return replace(role, fused=fused)


def undo_conversion(weight: Weight, facts: ModelFacts) -> Weight:
    """The weight with the order of its rows, and what was added to its values.

    Raises
    ------
    MalformedError
        If the converter changed it in a way that is not undone, or the metadata do not say how.
    """
    architecture = (facts.model_type or "").lower()
    role, _, mark = weight.key.role.partition(".")
    tensor = weight.name.removesuffix(".weight").removesuffix(".bias").rpartition(".")[2]
    if tensor == "ssm_a":
        raise MalformedError("the negative exponential of the original is stored in its place")
    if architecture in _EVERYTHING or tensor in _CHANGED.get(architecture, ()):
        raise MalformedError(f"the converter changes this weight of {architecture}")
    if role in ("q", "k") and mark in ("", "bias") and architecture in PAIRED:
        return replace(weight, order=_pairs(weight, role, architecture, facts))
    is_norm = role.endswith("norm") and not mark and tensor not in _UNSHIFTED
    return replace(weight, shift=1.0) if architecture in _SHIFTED and is_norm else weight


def _pairs(weight: Weight, role: str, architecture: str, facts: ModelFacts) -> RowOrder:
    heads = facts.n_heads if role == "q" else facts.n_kv_heads
    by_share = role == "k" and architecture in _KEYS_BY_SHARE
    if heads is None or (by_share and facts.n_heads != facts.n_kv_heads):
        raise MalformedError("its rows are reordered by heads, whose number is not stated")
    if weight.is_vector:
        raise MalformedError("its values are reordered by heads")
    chunk, rest = divmod(weight.n_rows, heads)
    if rest or chunk % 2 or not chunk:
        raise MalformedError(f"{weight.n_rows} rows are not {heads} heads of pairs")
    return RowOrder(chunk, chunk, halves=True)
