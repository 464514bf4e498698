"""The same function in other weights: what somebody would do who hides where a model came from.

Every disguise keeps a Llama's outputs, up to the rounding of the stored type. Inspired by the
symmetries that quantisation methods use to move outliers (rotations: QuaRot, arXiv:2404.00456;
scales: SmoothQuant, arXiv:2211.10438).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import torch
from transformers import PreTrainedModel

__all__ = ["DISGUISES"]

Disguise = Callable[[PreTrainedModel, torch.Generator], None]


def _readers(block: torch.nn.Module) -> Iterator[tuple[torch.nn.Parameter, torch.nn.Parameter]]:
    """The matrices that read the residual stream, each with the gains before it."""
    attention, mlp = block.self_attn, block.mlp
    for reader in (attention.q_proj, attention.k_proj, attention.v_proj):
        yield reader.weight, block.input_layernorm.weight
    for reader in (mlp.gate_proj, mlp.up_proj):
        yield reader.weight, block.post_attention_layernorm.weight


def _writers(block: torch.nn.Module) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    """The matrices that write into the residual stream."""
    return block.self_attn.o_proj.weight, block.mlp.down_proj.weight


def _orthogonal(size: int, generator: torch.Generator) -> torch.Tensor:
    q, r = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return (q * r.diagonal().sign()).float()


def _flip_signs(network: PreTrainedModel, generator: torch.Generator) -> None:
    """Hidden units and directions of the residual stream negated: exact in every bit."""

    def signs(size: int) -> torch.Tensor:
        return torch.randint(0, 2, (size,), generator=generator).float() * 2 - 1

    for block in network.model.layers:
        flipped = signs(block.mlp.up_proj.weight.shape[0])
        block.mlp.up_proj.weight.mul_(flipped[:, None])
        block.mlp.down_proj.weight.mul_(flipped)
    _change_basis(network, torch.diag(signs(network.config.hidden_size)))


def _permute_basis(network: PreTrainedModel, generator: torch.Generator) -> None:
    """The coordinates of the residual stream in another order, gains with them."""
    order = torch.randperm(network.config.hidden_size, generator=generator)
    _change_basis(network, torch.eye(len(order))[:, order])
    norms = [n for n in network.modules() if type(n).__name__ == "LlamaRMSNorm"]
    for norm in norms:
        norm.weight.copy_(norm.weight[order])


def _rotate(network: PreTrainedModel, generator: torch.Generator) -> None:
    """The residual stream in a random basis; the gains move into the matrices behind them."""
    for block in network.model.layers:
        for reader, gains in _readers(block):
            reader.mul_(gains)
        block.input_layernorm.weight.fill_(1)
        block.post_attention_layernorm.weight.fill_(1)
    network.lm_head.weight.mul_(network.model.norm.weight)
    network.model.norm.weight.fill_(1)
    _change_basis(network, _orthogonal(network.config.hidden_size, generator))


def _change_basis(network: PreTrainedModel, basis: torch.Tensor) -> None:
    """Express the residual stream in the columns of an orthogonal matrix."""
    for tokens in {network.model.embed_tokens.weight, network.lm_head.weight}:
        tokens.copy_(tokens @ basis)
    for block in network.model.layers:
        for reader, _ in _readers(block):
            reader.copy_(reader @ basis)
        for writer in _writers(block):
            writer.copy_(basis.T @ writer)


def _rebase_heads(network: PreTrainedModel, generator: torch.Generator) -> None:
    """Every head in another basis, and the groups of heads in another order.

    Values and outputs turn freely; queries and keys turn in the planes of the rotary embedding,
    and what queries gain keys lose.
    """
    config = network.config
    n_groups, size = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    per_group = config.num_attention_heads // n_groups
    for block in network.model.layers:
        attention = block.self_attn
        query = attention.q_proj.weight.view(n_groups, per_group, size, -1)
        key = attention.k_proj.weight.view(n_groups, size, -1)
        value = attention.v_proj.weight.view(n_groups, size, -1)
        output = attention.o_proj.weight.view(-1, n_groups, per_group, size)
        for group in range(n_groups):
            basis = _orthogonal(size, generator)
            value[group] = basis @ value[group]
            output[:, group] = output[:, group] @ basis.T
            angles = torch.rand(size // 2, generator=generator) * 2 * torch.pi
            gain = float(torch.rand((), generator=generator)) + 0.5
            planes = torch.diag(angles.cos().repeat(2))
            planes[: size // 2, size // 2 :] = -torch.diag(angles.sin())
            planes[size // 2 :, : size // 2] = torch.diag(angles.sin())
            query[group] = gain * planes @ query[group]
            key[group] = planes @ key[group] / gain
        order = torch.randperm(n_groups, generator=generator)
        for heads in (query, key, value):
            heads.copy_(heads[order].clone())
        output.copy_(output[:, order].clone())


def _move_gains(network: PreTrainedModel, generator: torch.Generator) -> None:
    """Scales moved between the gains of a normalisation and the matrices behind it."""

    def scales() -> torch.Tensor:
        return torch.randn(network.config.hidden_size, generator=generator).mul(0.3).exp()

    for block in network.model.layers:
        before = {block.input_layernorm.weight: scales()}
        before[block.post_attention_layernorm.weight] = scales()
        for reader, gains in _readers(block):
            reader.div_(before[gains])
        for gains, scale in before.items():
            gains.mul_(scale)
    if not network.config.tie_word_embeddings:
        scale = scales()
        network.lm_head.weight.div_(scale)
        network.model.norm.weight.mul_(scale)


def _without_gradients(disguise: Disguise) -> Disguise:
    def disguised(network: PreTrainedModel, generator: torch.Generator) -> None:
        with torch.no_grad():
            disguise(network, generator)

    return disguised


DISGUISES: Final[Mapping[str, Disguise]] = {
    name: _without_gradients(disguise)
    for name, disguise in (
        ("signs", _flip_signs),
        ("basis", _permute_basis),
        ("rotation", _rotate),
        ("heads", _rebase_heads),
        ("gains", _move_gains),
    )
}
"""By name; ``rotation`` needs an output matrix of its own (no tied embeddings)."""
