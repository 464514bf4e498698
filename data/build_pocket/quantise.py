"""Quantised copies: GGUF files as llama.cpp lays them out, and int8 and fp8 safetensors copies."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

__all__ = ["write_float8", "write_gguf", "write_int8"]

_FLOAT8_MAX = torch.finfo(torch.float8_e4m3fn).max

_OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_IN_LAYER = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
_KEPT_WHOLE = ("embed_tokens", "lm_head", "wte", "wpe", "embeddings", "predictions")
_TYPES = {
    "Q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "Q4_0": (gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
    "Q4_1": (gguf.GGMLQuantizationType.Q4_1, gguf.LlamaFileType.MOSTLY_Q4_1),
    "Q5_0": (gguf.GGMLQuantizationType.Q5_0, gguf.LlamaFileType.MOSTLY_Q5_0),
    "Q5_1": (gguf.GGMLQuantizationType.Q5_1, gguf.LlamaFileType.MOSTLY_Q5_1),
}


def _gguf_name(name: str) -> str:
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{_IN_LAYER[rest.removesuffix('.weight')]}.weight"


def _interleave(rows: np.ndarray, heads: int) -> np.ndarray:
    # llama.cpp rotates neighbouring pairs, Hugging Face the two halves of a head.
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, rows.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


def _halve(rows: np.ndarray, heads: int) -> np.ndarray:
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, rows.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows.shape))


def write_gguf(
    state: Mapping[str, torch.Tensor],
    config: LlamaConfig,
    tokenizer_path: Path,
    path: Path,
    *,
    quantisation: str,
    name: str,
    base_model: str | None,
) -> dict[str, torch.Tensor]:
    """Write the file; returns the weights that a reader gets back, in Hugging Face's order."""
    kind, file_type = _TYPES[quantisation]
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, config, tokenizer_path, name, base_model)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    read_back = {}
    for tensor_name, tensor in state.items():
        values = tensor.float().numpy()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(
            tensor_name.split(".")[-2]
        )
        if values.ndim == 1:
            writer.add_tensor(_gguf_name(tensor_name), values)
            read_back[tensor_name] = tensor.float()
            continue
        if heads:
            values = _interleave(values, heads)
        # The output matrix stays finer than the rest, as llama.cpp keeps it.
        this = gguf.GGMLQuantizationType.Q8_0 if tensor_name == "lm_head.weight" else kind
        codes = gguf.quants.quantize(values, this)
        writer.add_tensor(_gguf_name(tensor_name), codes, raw_dtype=this)
        decoded = gguf.quants.dequantize(codes, this)
        read_back[tensor_name] = torch.from_numpy(_halve(decoded, heads) if heads else decoded)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_back


def _describe(
    writer: gguf.GGUFWriter,
    config: LlamaConfig,
    tokenizer_path: Path,
    name: str,
    base_model: str | None,
) -> None:
    writer.add_name(name)
    if base_model is not None:
        organisation, base_name = base_model.split("/")
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, base_name)
        writer.add_base_model_organization(0, organisation)
        writer.add_base_model_repo_url(0, f"https://huggingface.co/{base_model}")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = json.loads(tokenizer_path.read_text(encoding="utf-8"))
    tokens = sorted(vocabulary["model"]["vocab"], key=vocabulary["model"]["vocab"].__getitem__)
    special = {entry["content"] for entry in vocabulary["added_tokens"]}
    tokens += [token for token in sorted(special) if token not in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges(
        [m if isinstance(m, str) else " ".join(m) for m in vocabulary["model"]["merges"]]
    )
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)


def write_int8(state: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Write row-wise absmax codes and scales; returns the weights that a reader gets back."""

    def code(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scale = tensor.abs().amax(dim=1, keepdim=True) / 127
        return torch.clamp(torch.round(tensor / scale), -127, 127).to(torch.int8), scale

    return _write_codes(state, path, code)


def write_float8(state: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Write E4M3 codes and one scale a matrix; returns the weights that a reader gets back."""

    def code(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scale = (tensor.abs().amax() / _FLOAT8_MAX).reshape(1)
        return (tensor / scale).clamp(-_FLOAT8_MAX, _FLOAT8_MAX).to(torch.float8_e4m3fn), scale

    return _write_codes(state, path, code)


def _write_codes(
    state: Mapping[str, torch.Tensor],
    path: Path,
    code: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
) -> dict[str, torch.Tensor]:
    stored: dict[str, torch.Tensor] = {}
    read_back = {}
    for name, tensor in state.items():
        if tensor.ndim == 1 or any(part in name for part in _KEPT_WHOLE):
            stored[name] = tensor.to(torch.bfloat16)
            read_back[name] = stored[name].float()
            continue
        stored[name], scale = code(tensor.float())
        stored[f"{name}_scale"] = scale
        read_back[name] = stored[name].float() * scale
    save_file(stored, str(path), metadata={"format": "pt"})
    return read_back
