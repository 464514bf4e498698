"""Diffusion models: UNets, transformers and autoencoders, as diffusers and as first published.

The number of a UNet's or autoencoder's block stands in the role (``unet.down_1.resnet_0``), since
blocks of one number differ in kind; the layer is that of the transformer inside, if any. The first
Stable Diffusion counted all blocks of one direction through, three a level; diffusers counts
levels. Both meet in one key.
"""

from __future__ import annotations

from lineage.weights.names.scheme import Rule, Scheme, fused, under, within

__all__ = ["DIFFUSION"]

_LEVELS = range(4)
_RESNETS = range(3)

_RESNET: dict[str, str | Rule] = {
    "norm1": "norm_1", "conv1": "conv_1", "time_emb_proj": "time",
    "norm2": "norm_2", "conv2": "conv_2", "conv_shortcut|nin_shortcut|skip_connection": "shortcut",
    "in_layers.2": "conv_1", "emb_layers.1": "time", "out_layers.0": "norm_2",
    "out_layers.3": "conv_2", "in_layers.0": "norm_1",
}  # fmt: skip

_INNER: dict[str, str | Rule] = {
    "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o",
}  # fmt: skip

_TRANSFORMER: dict[str, str | Rule] = (
    {"norm": "norm", "proj_in": "proj_in", "proj_out": "proj_out"}
    | under(("transformer_blocks.{layer}.attn1",), _INNER)
    | under(("transformer_blocks.{layer}.attn2",), within("cross.", _INNER))
    | {
        "transformer_blocks.{layer}.norm1": "attn_norm",
        "transformer_blocks.{layer}.norm2": "cross.attn_norm",
        "transformer_blocks.{layer}.norm3": "ffn_norm",
        # GEGLU: the second half is activated
        "transformer_blocks.{layer}.ff.net.0.proj": Rule("gate_up", parts=("up", "gate")),
        "transformer_blocks.{layer}.ff.net.2": "down",
    }
)  # fmt: skip

_ATTENTION: dict[str, str | Rule] = {
    "group_norm|norm": "attn_norm", "to_q|query|q": "q", "to_k|key|k": "k", "to_v|value|v": "v",
    "to_out.0": "o", "proj_attn|proj_out": "o",
}  # fmt: skip


def _unet() -> dict[str, str | Rule]:
    found: dict[str, str | Rule] = {
        "conv_in": "conv_in", "conv_norm_out": "norm_out", "conv_out": "conv_out",
        "time_embedding.linear_1": "time_1", "time_embedding.linear_2": "time_2",
        "add_embedding.linear_1": "added_1", "add_embedding.linear_2": "added_2",
        "input_blocks.0.0": "conv_in", "out.0": "norm_out", "out.2": "conv_out",
        "time_embed.0": "time_1", "time_embed.2": "time_2",
        "label_emb.0.0": "added_1", "label_emb.0.2": "added_2",
    }  # fmt: skip
    for level in _LEVELS:
        down, up = f"down_{level}.", f"up_{level}."
        found[f"down_blocks.{level}.downsamplers.0.conv"] = f"{down}sample"
        found[f"up_blocks.{level}.upsamplers.0.conv"] = f"{up}sample"
        found[f"input_blocks.{3 * level + 3}.0.op"] = f"{down}sample"
        for slot in (1, 2):
            found[f"output_blocks.{3 * level + 2}.{slot}.conv"] = f"{up}sample"
        for j in _RESNETS:
            resnet, attention = f"resnet_{j}.", f"attn_{j}."
            places = {
                f"down_blocks.{level}.resnets.{j}": down + resnet,
                f"down_blocks.{level}.attentions.{j}": down + attention,
                f"up_blocks.{level}.resnets.{j}": up + resnet,
                f"up_blocks.{level}.attentions.{j}": up + attention,
                f"output_blocks.{3 * level + j}.0": up + resnet,
                f"output_blocks.{3 * level + j}.1": up + attention,
            }
            if j < 2:  # the third of each level is the downsampler
                places[f"input_blocks.{3 * level + 1 + j}.0"] = down + resnet
                places[f"input_blocks.{3 * level + 1 + j}.1"] = down + attention
            found |= _placed(places)
    return found | _placed({
        "mid_block.resnets.0": "mid.resnet_0.", "mid_block.resnets.1": "mid.resnet_1.",
        "mid_block.attentions.0": "mid.attn_0.", "middle_block.0": "mid.resnet_0.",
        "middle_block.1": "mid.attn_0.", "middle_block.2": "mid.resnet_1.",
    })  # fmt: skip


def _placed(places: dict[str, str]) -> dict[str, str | Rule]:
    found: dict[str, str | Rule] = {}
    for path, prefix in places.items():
        inner = _RESNET if "resnet" in prefix else _TRANSFORMER
        found |= under((path,), within(prefix, inner))
    return found


def _autoencoder() -> dict[str, str | Rule]:
    found: dict[str, str | Rule] = {
        "quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv",
    }  # fmt: skip
    for half in ("encoder", "decoder"):
        found |= {
            f"{half}.conv_in": f"{half}.conv_in", f"{half}.conv_out": f"{half}.conv_out",
            f"{half}.conv_norm_out|norm_out": f"{half}.norm_out",
        }  # fmt: skip
        for j in (0, 1):
            inner = within(f"{half}.mid.resnet_{j}.", _RESNET)
            found |= under((f"{half}.mid_block.resnets.{j}", f"{half}.mid.block_{j + 1}"), inner)
        inner = within(f"{half}.mid.", _ATTENTION)
        found |= under((f"{half}.mid_block.attentions.0", f"{half}.mid.attn_1"), inner)
    for level in _LEVELS:
        # The first decoder counted from the picture, diffusers counts from the latent.
        down, up, first = f"encoder.down_{level}.", f"decoder.up_{level}.", 3 - level
        found |= {
            f"encoder.down_blocks.{level}.downsamplers.0.conv": f"{down}sample",
            f"encoder.down.{level}.downsample.conv": f"{down}sample",
            f"decoder.up_blocks.{level}.upsamplers.0.conv": f"{up}sample",
            f"decoder.up.{first}.upsample.conv": f"{up}sample",
        }
        for j in _RESNETS:
            inner = within(f"{down}resnet_{j}.", _RESNET)
            found |= under(
                (f"encoder.down_blocks.{level}.resnets.{j}", f"encoder.down.{level}.block.{j}"),
                inner,
            )
            inner = within(f"{up}resnet_{j}.", _RESNET)
            found |= under(
                (f"decoder.up_blocks.{level}.resnets.{j}", f"decoder.up.{first}.block.{j}"), inner
            )
    return found


_TRANSFORMER_BLOCK: dict[str, str | Rule] = {
    "attn|attn1.to_q": "q", "attn|attn1.to_k": "k", "attn|attn1.to_v": "v",
    "attn|attn1.to_out.0": "o",
    "attn.add_q_proj": "context.q", "attn.add_k_proj": "context.k", "attn.add_v_proj": "context.v",
    "attn.to_add_out": "context.o", "attn.norm_q": "q_norm", "attn.norm_k": "k_norm",
    "attn.norm_added_q": "context.q_norm", "attn.norm_added_k": "context.k_norm",
    "attn2.to_q": "second.q", "attn2.to_k": "second.k", "attn2.to_v": "second.v",
    "attn2.to_out.0": "second.o", "attn2.norm_q": "second.q_norm", "attn2.norm_k": "second.k_norm",
    "attn1.norm_q": "q_norm", "attn1.norm_k": "k_norm",
    "norm1.linear": "modulation", "norm1_context.linear": "context.modulation",
    "norm1": "attn_norm", "norm2": "second.attn_norm", "norm3": "ffn_norm",
    "ff.net.0.proj": "up", "ff.net.2": "down",
    "ff_context.net.0.proj": "context.up", "ff_context.net.2": "context.down",
    "proj_mlp": "up", "proj_out": "o_down", "norm.linear": "modulation",
    "scale_shift_table": "modulation_table",
}  # fmt: skip

_FLUX_DOUBLE: dict[str, str | Rule] = {
    "img_attn.qkv": "qkv", "img_attn.proj": "o", "img_mlp.0": "up", "img_mlp.2": "down",
    "img_attn.norm.query_norm.scale": "q_norm", "img_attn.norm.key_norm.scale": "k_norm",
    "img_mod.lin": "modulation", "txt_attn.qkv": "context.qkv", "txt_attn.proj": "context.o",
    "txt_mlp.0": "context.up", "txt_mlp.2": "context.down", "txt_mod.lin": "context.modulation",
    "txt_attn.norm.query_norm.scale": "context.q_norm",
    "txt_attn.norm.key_norm.scale": "context.k_norm",
}  # fmt: skip

_FLUX_SINGLE: dict[str, str | Rule] = {
    # queries, keys, values and the feed-forward's units, which are not of one number
    "linear1": fused("qkv_up", ""), "linear2": "o_down", "modulation.lin": "modulation",
    "norm.query_norm.scale": "q_norm", "norm.key_norm.scale": "k_norm",
}  # fmt: skip

_SD3_BLOCK: dict[str, str | Rule] = {
    "attn.qkv": "qkv", "attn.proj": "o", "attn.ln_q": "q_norm", "attn.ln_k": "k_norm",
    "attn2.qkv": "second.qkv", "attn2.proj": "second.o", "attn2.ln_q": "second.q_norm",
    "attn2.ln_k": "second.k_norm", "mlp.fc1": "up", "mlp.fc2": "down",
    "adaLN_modulation.1": "modulation",
}  # fmt: skip

_TRANSFORMER_OUTSIDE: dict[str, str | Rule] = {
    "x_embedder|img_in": "patch", "x_embedder|pos_embed.proj": "patch",
    "pos_embed.pos_embed": "position",
    "context_embedder|txt_in": "context",
    "time_text_embed.timestep_embedder.linear_1": "time_1", "time_in.in_layer": "time_1",
    "time_text_embed.timestep_embedder.linear_2": "time_2", "time_in.out_layer": "time_2",
    "t_embedder.mlp.0": "time_1", "t_embedder.mlp.2": "time_2",
    "time_text_embed.text_embedder.linear_1": "vector_1", "vector_in.in_layer": "vector_1",
    "time_text_embed.text_embedder.linear_2": "vector_2", "vector_in.out_layer": "vector_2",
    "y_embedder.mlp.0": "vector_1", "y_embedder.mlp.2": "vector_2",
    "time_text_embed.guidance_embedder.linear_1": "guidance_1",
    "guidance_in.in_layer": "guidance_1",
    "time_text_embed.guidance_embedder.linear_2": "guidance_2",
    "guidance_in.out_layer": "guidance_2",
    "norm_out.linear": "final_modulation", "final_layer.adaLN_modulation.1": "final_modulation",
    "final_layer.linear": "head",
    "caption_projection.linear_1": "caption_1", "caption_projection.linear_2": "caption_2",
    "adaln_single.linear": "modulation_single", "scale_shift_table": "modulation_table",
    "adaln_single.emb.timestep_embedder.linear_1": "time_1",
    "adaln_single.emb.timestep_embedder.linear_2": "time_2",
}  # fmt: skip

DIFFUSION = (
    Scheme("UNets", outside=_unet(), prefix="unet."),
    Scheme("autoencoders", outside=_autoencoder(), prefix="vae."),
    Scheme(
        "transformers as in diffusers",
        ("transformer_blocks",),
        _TRANSFORMER_BLOCK,
        _TRANSFORMER_OUTSIDE,
        prefix="dit.",
    ),
    Scheme(
        "their blocks of one stream",
        ("single_transformer_blocks",),
        _TRANSFORMER_BLOCK,
        prefix="dit.single.",
    ),
    Scheme("Flux as first published", ("double_blocks",), _FLUX_DOUBLE, prefix="dit."),
    Scheme("its blocks of one stream", ("single_blocks",), _FLUX_SINGLE, prefix="dit.single."),
    Scheme(
        "Stable Diffusion 3 as first published",
        ("joint_blocks",),
        under(("x_block",), _SD3_BLOCK) | under(("context_block",), within("context.", _SD3_BLOCK)),
        prefix="dit.",
    ),
)
