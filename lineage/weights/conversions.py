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
    "llama", "deci", "baichuan", "internlm2", "minicpm", "xverse", "olmo", "arctic", "deepseek",
    "granite", "granitemoe", "smollm3", "arcee", "llada", "bailingmoe", "mistral3",
})  # fmt: skip
"""Architectures whose query and key rows are stored as pairs, not halves."""

_UNCLEAR = frozenset({"chameleon"})
"""Architectures that permute under conditions that the file does not state."""
_SHIFTED = frozenset({
    "gemma", "gemma2", "gemma3", "gemma-embedding", "nemotron", "qwen3next", "qwen35", "qwen35moe",
})  # fmt: skip
"""Architectures whose norms are stored with one added."""
_UNSHIFTED_NORMS = frozenset({"ssm_norm"})
_REPLACED = frozenset({"ssm_a"})
"""Roles whose stored values are not the original's."""
_SHUFFLED = frozenset({"qwen35", "qwen35moe", "plamo", "plamo2", "plamo3"})
"""Architectures some of whose matrices are reordered or scaled in ways that are not undone."""
_KEPT = frozenset({"embed", "head", "final_norm"})


def as_converted(role: Role) -> Role:
    """The role as a GGUF file stores it: nothing lies as columns, and fused parts one by one."""
    fused = role.fused
    if fused is not None and fused.arrangement in ("by_head", "by_group"):
        fused = replace(fused, arrangement="concatenated")
    return replace(role, transposed=False, fused=fused)


def undo_conversion(weight: Weight, facts: ModelFacts) -> Weight:
    """The weight with the order of its rows, and what was added to its values.

    Raises
    ------
    MalformedError
        If the converter changed it in a way that is not undone, or the metadata do not say how.
    """
    architecture = (facts.model_type or "").lower()
    role, _, mark = weight.key.role.partition(".")
    if role in _REPLACED:
        raise MalformedError("the converter stores something else in its place")
    if architecture in _SHUFFLED and role not in _KEPT:
        raise MalformedError(f"the converter changes weights of {architecture}")
    if role in ("q", "k") and mark in ("", "bias"):
        if architecture in _UNCLEAR:
            raise MalformedError(f"rows of {architecture} stand in an order that is not stated")
        if architecture in PAIRED:
            return replace(weight, order=_pairs(weight, role, facts))
    is_norm = role.endswith("norm") and not mark and role not in _UNSHIFTED_NORMS
    if architecture in _SHIFTED and is_norm:
        return replace(weight, shift=1.0)
    return weight


def _pairs(weight: Weight, role: str, facts: ModelFacts) -> RowOrder:
    heads = facts.n_heads if role == "q" else facts.n_kv_heads
    if heads is None:
        raise MalformedError("its rows are reordered by heads, whose number is not stated")
    if weight.is_vector:
        raise MalformedError("its values are reordered by heads")
    chunk, rest = divmod(weight.n_rows, heads)
    if rest or chunk % 2 or not chunk:
        raise MalformedError(f"{weight.n_rows} rows are not {heads} heads of pairs")
    return RowOrder(chunk, chunk, halves=True)
