"""Divot's configuration files and checkpoints: names and values as the authors store them, and what becomes of them here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys, check_values
from visiontok.tokenizers.image.kl_vae.model import KlVae
from visiontok.tokenizers.video.divot.detokenizer import DetokenizerConfig

SOURCE = "the Divot reference configuration"

_ENCODER, _DETOKENIZER = "visual_encoder", "video_detokenizer"
_UNET, _VAE, _CONTEXT = f"{_DETOKENIZER}.diffusion_model", f"{_DETOKENIZER}.first_stage_model", f"{_DETOKENIZER}.image_proj_model"
_PATH = "where the authors' code finds its files and classes"
_TRAINING = "of training"

CONFIG_KEYS = ReferenceKeys(
    read=(
        "clip", "clip.{}",
        *(f"{_ENCODER}.{key}" for key in (
            "num_frames", "input_dim", "hidden_size", "width", "temporal_depth", "pool_size", "use_norm", "transformer_depth", "resampler_depth",
            "st_num_tokens", "down_num_tokens", "resampler_dim",
        )),
        *(f"{_UNET}.{key}" for key in (
            "in_channels", "out_channels", "model_channels", "attention_resolutions", "num_res_blocks", "channel_mult", "num_head_channels",
            "transformer_depth", "context_dim", "use_linear", "temporal_conv", "temporal_attention", "temporal_selfatt_only",
            "use_relative_position", "use_causal_attention", "temporal_length", "addition_attention", "image_cross_attention",
            "image_cross_attention_scale_learnable", "fs_condition",
        )),
        *(f"{_VAE}.{key}" for key in ("embed_dim", *(f"ddconfig.{size}" for size in (
            "z_channels", "resolution", "in_channels", "out_ch", "ch", "ch_mult", "num_res_blocks", "attn_resolutions",
        )))),
        *(f"{_CONTEXT}.{key}" for key in ("dim", "depth", "dim_head", "heads", "num_queries", "embedding_dim", "output_dim")),
        *(f"{_DETOKENIZER}.{key}" for key in (
            "unconditional_guidance_scale", "ddim_steps", "ddim_eta", "guidance_rescale", "timestep_spacing", "fs", "image_size", "scale_factor",
        )),
    ),
    ignored={
        f"{_ENCODER}._target_": _PATH, f"{_ENCODER}.pretrained_model_path": _PATH,
        f"{_DETOKENIZER}._target_": _PATH, f"{_DETOKENIZER}.pretrained_model_path": _PATH,
        f"{_UNET}._target_": _PATH, f"{_VAE}._target_": _PATH, f"{_CONTEXT}._target_": _PATH,
        f"{_UNET}.dropout": _TRAINING, f"{_UNET}.use_checkpoint": _TRAINING, f"{_VAE}.lossconfig.{{*}}": _TRAINING, f"{_VAE}.monitor": _TRAINING,
        f"{_VAE}.ddconfig.dropout": _TRAINING, f"{_VAE}.ddconfig.double_z": "always, in these autoencoders",
        f"{_UNET}.default_fs": "the de-tokenizer always says which: fs",
    },
)  # fmt: skip
"""Of the files for the encoder and the de-tokenizer, under their names; `clip` is ours: sizes of another CLIP than ViT-H/14."""

_RESAMPLER = {
    "proj_in.{}": "proj_in.{}",
    "proj_out.{}": "proj_out.{}",
    "norm_out.{}": "norm.{}",
    "latents": "latents",
    "layers.{}.0.norm1.{}": "layers.{}.norm_input.{}",
    "layers.{}.0.norm2.{}": "layers.{}.norm_latents.{}",
    "layers.{}.0.to_q.{}": "layers.{}.query.{}",
    "layers.{}.0.to_kv.{}": "layers.{}.key_value.{}",
    "layers.{}.0.to_out.{}": "layers.{}.proj.{}",
    "layers.{}.1.0.{}": "layers.{}.norm_mlp.{}",
    "layers.{}.1.1.{}": "layers.{}.fc1.{}",
    "layers.{}.1.3.{}": "layers.{}.fc2.{}",
}
_BLOCK = "temporal_encoder.transformer.resblocks.{}"

RESAMPLER_KEYS = KeyMap(_RESAMPLER)
"""Of a perceiver resampler; `latents` loses its first axis, of one."""

ENCODER_KEYS = KeyMap(
    {
        "temporal_encoder.positional_embedding": "temporal.positions",
        "temporal_encoder.input_proj.{}": "temporal.proj_in.{}",
        "temporal_encoder.output_proj.{}": "temporal.proj_out.{}",
        "temporal_encoder.ln_final.{}": "temporal.norm.{}",
        f"{_BLOCK}.attn.in_proj_weight": "temporal.blocks.{}.attn.qkv.weight",
        f"{_BLOCK}.attn.in_proj_bias": "temporal.blocks.{}.attn.qkv.bias",
        f"{_BLOCK}.attn.out_proj.{{}}": "temporal.blocks.{}.attn.proj.{}",
        f"{_BLOCK}.ln_1.{{}}": "temporal.blocks.{}.norm1.{}",
        f"{_BLOCK}.ln_2.{{}}": "temporal.blocks.{}.norm2.{}",
        f"{_BLOCK}.mlp.c_fc.{{}}": "temporal.blocks.{}.mlp.fc1.{}",
        f"{_BLOCK}.mlp.c_proj.{{}}": "temporal.blocks.{}.mlp.fc2.{}",
        "norm.{}": "norm.{}",
        "image_proj_model.pos_embed_spatial": "spacetime.places",
        "image_proj_model.pos_embed_temporal": "spacetime.times",
        "image_proj_model.norm.{}": "spacetime.norm.{}",
        "image_proj_model.blocks.{}.{}.{*}": "spacetime.blocks.{}.{}.{*}",
        **{f"image_proj_model.down_sampler.{theirs}": f"resampler.{ours}" for theirs, ours in _RESAMPLER.items()},
        "vit_model.{*}": None,  # the CLIP, which is read from its own file
    }
)

_CLIP_KEYS = KeyMap(
    {
        "vision_model.embeddings.position_ids": None,
        "vision_model.{*}": "{*}",
        "text_model.{*}": None,
        "visual_projection.{}": None,
        "text_projection.{}": None,
        "logit_scale": None,
    }
)

_SCHEDULE = frozenset((
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1",
    "posterior_mean_coef2",
))  # fmt: skip
"""Of the diffusion, which are computed here; also within `diffusion_model.`."""


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `DivotConfig`.

    Args:
        config: `visual_encoder`, and for a decoder `video_detokenizer`, each as in the authors' file; `clip` for another CLIP than ViT-H/14.

    Raises:
        ConfigError: if a key is unknown or missing, or has a value of which there is no release.
    """
    with CONFIG_KEYS.reading(config, source=SOURCE):
        encoder = config[_ENCODER]
        clip = {"hidden_size": encoder["input_dim"], **config.get("clip", {})}
        fields: dict[str, Any] = {"clip": clip, "encoder": read_encoder(encoder)}
        if _DETOKENIZER not in config:
            return fields
        detokenizer = config[_DETOKENIZER]
        vae = detokenizer["first_stage_model"]
        sizes, attended = vae["ddconfig"], vae["ddconfig"]["attn_resolutions"]
        ldm = {
            **{key: sizes[key] for key in ("resolution", "ch", "ch_mult", "num_res_blocks")},
            "embed_dim": vae["embed_dim"],
            "encoder_attn_resolutions": attended,
            "decoder_attn_resolutions": attended,
            "scale_factor": detokenizer.get("scale_factor", 0.18215),
        }
        check_values(sizes, {"in_channels": (3,), "out_ch": (3,), "z_channels": (vae["embed_dim"],)}, source=SOURCE, prefix=f"{_VAE}.ddconfig.")
        return {
            **fields,
            "image_size": detokenizer.get("image_size", 256),
            "num_frames": detokenizer["diffusion_model"]["temporal_length"],
            "vae": KlVae.config_from_reference(ldm, {}).to_dict(),
            "detokenizer": _read_detokenizer(detokenizer, latent_channels=vae["embed_dim"], token_dim=encoder["resampler_dim"]),
        }


def read_encoder(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `EncoderConfig`. Heads are constants of the authors' code."""
    places = encoder["num_frames"] * encoder["pool_size"] ** 2
    if encoder["st_num_tokens"] != places:
        raise ConfigError(f"st_num_tokens of {SOURCE} is {encoder['st_num_tokens']}; frames times places are {places}")
    return {
        "num_frames": encoder["num_frames"],
        "dim": encoder["hidden_size"],
        "temporal_dim": encoder["width"],
        "temporal_depth": encoder["temporal_depth"],
        "pool_size": encoder["pool_size"],
        "has_norm": encoder["use_norm"],
        "depth": encoder["transformer_depth"],
        "resampler": {
            "dim": encoder["hidden_size"],
            "depth": encoder["resampler_depth"],
            "num_latents": encoder["down_num_tokens"],
            "output_dim": encoder["resampler_dim"],
        },
    }


def read_resampler(context: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the `ResamplerConfig` that makes the context."""
    return {
        "dim": context["dim"],
        "depth": context["depth"],
        "num_heads": context["heads"],
        "head_dim": context["dim_head"],
        "num_latents": context["num_queries"],
        "output_dim": context["output_dim"],
    }


def _read_detokenizer(config: Mapping[str, Any], *, latent_channels: int, token_dim: int) -> dict[str, Any]:
    unet, context = config["diffusion_model"], config["image_proj_model"]
    check_values(
        unet,
        {
            "in_channels": (latent_channels,), "out_channels": (latent_channels,), "transformer_depth": (1,), "context_dim": (context["output_dim"],),
            "use_linear": (True,), "temporal_conv": (True,), "temporal_attention": (True,), "temporal_selfatt_only": (True,),
            "use_relative_position": (False,), "use_causal_attention": (False,), "addition_attention": (True,), "image_cross_attention": (True,),
            "image_cross_attention_scale_learnable": (True,), "fs_condition": (True,),
        },
        source=SOURCE,
        prefix=f"{_UNET}.",
    )  # fmt: skip
    check_values(context, {"embedding_dim": (token_dim,)}, source=SOURCE, prefix=f"{_CONTEXT}.")
    check_values(config, {"timestep_spacing": ("uniform",)}, source=SOURCE, prefix=f"{_DETOKENIZER}.")
    return {
        "channels": [unet["model_channels"] * multiplier for multiplier in unet["channel_mult"]],
        "layers_per_level": unet["num_res_blocks"],
        "attention_levels": sorted(int(math.log2(downsampling)) for downsampling in unet["attention_resolutions"]),
        "head_dim": unet["num_head_channels"],
        "context": read_resampler(context),
        "sampling": {
            "steps": config.get("ddim_steps", 50),
            "guidance": config.get("unconditional_guidance_scale", 7.5),
            "rescale": config.get("guidance_rescale", 0.7),
            "eta": config.get("ddim_eta", 1.0),
        },
    }


def convert_weights(state_dict: Mapping[str, Tensor], detokenizer: DetokenizerConfig | None, *, frame_rate: int) -> dict[str, Tensor]:
    """The authors' tensors, and those of CLIP under `clip.`, under our names.

    Args:
        state_dict: parts of the model by their first component.
        detokenizer: its sizes; None to read the encoder alone.
        frame_rate: whose embedding becomes part of the U-Net's time embedding.

    Raises:
        CheckpointError: listing tensors that the model does not have.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state_dict.items():
        if name not in _SCHEDULE:
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor
    weights = {f"clip.network.{name}": tensor for name, tensor in _CLIP_KEYS(parts.pop("clip", {})).items()}
    weights |= {f"encoder.{name}": tensor for name, tensor in without_batch(ENCODER_KEYS(parts.pop("video_tokenizer", {}))).items()}
    if detokenizer is not None:
        context = without_batch(RESAMPLER_KEYS(parts.pop("image_proj_model", {})))
        weights |= {f"detokenizer.context.{name}": tensor for name, tensor in context.items()}
        unet = {name: tensor for name, tensor in parts.pop("diffusion_model", {}).items() if name not in _SCHEDULE}
        weights |= {f"detokenizer.unet.{name}": tensor for name, tensor in convert_unet(unet, detokenizer, frame_rate=frame_rate).items()}
        weights |= {f"vae.{name}": tensor for name, tensor in KlVae.weights_from_reference(parts.pop("first_stage_model", {})).items()}
    if parts:
        raise CheckpointError(f"the checkpoint has parts that this model does not have: {', '.join(sorted(parts))}")
    return weights


def without_batch(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With the latents of resamplers as tables: theirs have a first axis of one."""
    return {name: tensor[0] if name.rpartition(".")[2] == "latents" and tensor.ndim == 3 else tensor for name, tensor in weights.items()}


def convert_unet(state_dict: Mapping[str, Tensor], config: DetokenizerConfig, *, frame_rate: int) -> dict[str, Tensor]:
    """The tensors of the authors' U-Net under the names of diffusers' `UNet3DConditionModel`.

    Raises:
        CheckpointError: listing tensors that it does not have.
    """
    embedding = {name: tensor for name, tensor in state_dict.items() if name.startswith("fps_embedding.")}
    weights = unet_keys(config)({name: tensor for name, tensor in state_dict.items() if name not in embedding})
    for name in ("proj_in", "proj_out"):  # convolutions of width 1 in the authors' model
        key = f"transformer_in.{name}.weight"
        if key in weights:
            weights[key] = weights[key].flatten(1)
    if embedding and "time_embedding.linear_2.bias" in weights:
        first, second = ((embedding[f"fps_embedding.{number}.weight"], embedding[f"fps_embedding.{number}.bias"]) for number in (0, 2))
        hidden = F.silu(F.linear(sinusoids(frame_rate, first[0].shape[1]).to(first[0]), *first))
        weights["time_embedding.linear_2.bias"] = weights["time_embedding.linear_2.bias"] + F.linear(hidden, *second)
    return weights


def sinusoids(value: int, dim: int) -> Tensor:
    """(dim,) float32: cosines, then sines, of a number at dim / 2 frequencies."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(dim // 2, dtype=torch.float32) / (dim // 2))
    return torch.cat([(value * frequencies).cos(), (value * frequencies).sin()])


_RES_BLOCK = {
    "in_layers.0.{}": "norm1.{}",
    "in_layers.2.{}": "conv1.{}",
    "emb_layers.1.{}": "time_emb_proj.{}",
    "out_layers.0.{}": "norm2.{}",
    "out_layers.3.{}": "conv2.{}",
    "skip_connection.{}": "conv_shortcut.{}",
}
_CROSS = "transformer_blocks.{}.attn2"


def unet_keys(config: DetokenizerConfig) -> KeyMap:
    """Their blocks are numbered through all levels, down and up; one holds a residual block, attention over space and over time, a resampling."""
    patterns: dict[str, str | None] = {
        "time_embed.0.{}": "time_embedding.linear_1.{}",
        "time_embed.2.{}": "time_embedding.linear_2.{}",
        "input_blocks.0.0.{}": "conv_in.{}",
        "init_attn.0.{*}": "transformer_in.{*}",
        "out.0.{}": "conv_norm_out.{}",
        "out.2.{}": "conv_out.{}",
        **_residual("middle_block.0", "mid_block", 0),
        **_attention("middle_block", "mid_block", 0),
        **_residual("middle_block.3", "mid_block", 1),
    }
    levels, layers = len(config.channels), config.layers_per_level
    for level in range(levels):
        down, up = 1 + level * (layers + 1), (levels - 1 - level) * (layers + 1)
        for theirs, ours, first, count in (
            ("input_blocks", f"down_blocks.{level}", down, layers),
            ("output_blocks", f"up_blocks.{levels - 1 - level}", up, layers + 1),
        ):
            for layer in range(count):
                patterns |= _residual(f"{theirs}.{first + layer}.0", ours, layer)
                if level in config.attention_levels:
                    patterns |= _attention(f"{theirs}.{first + layer}", ours, layer)
        patterns[f"input_blocks.{down + layers}.0.op.{{}}"] = f"down_blocks.{level}.downsamplers.0.conv.{{}}"
        last = 3 if level in config.attention_levels else 1
        patterns[f"output_blocks.{up + layers}.{last}.conv.{{}}"] = f"up_blocks.{levels - 1 - level}.upsamplers.0.conv.{{}}"
    return KeyMap(patterns)


def _residual(theirs: str, ours: str, number: int) -> dict[str, str | None]:
    blocks: dict[str, str | None] = {f"{theirs}.{old}": f"{ours}.resnets.{number}.{new}" for old, new in _RES_BLOCK.items()}
    return {**blocks, f"{theirs}.temopral_conv.{{*}}": f"{ours}.temp_convs.{number}.{{*}}"}  # their spelling


def _attention(theirs: str, ours: str, number: int) -> dict[str, str | None]:
    spatial, own = f"{theirs}.1.{_CROSS}", f"{ours}.attentions.{number}.{_CROSS}.processor"
    return {
        f"{spatial}.to_k_ip.{{}}": f"{own}.key.{{}}",
        f"{spatial}.to_v_ip.{{}}": f"{own}.value.{{}}",
        f"{spatial}.alpha": f"{own}.gate",
        f"{theirs}.1.{{*}}": f"{ours}.attentions.{number}.{{*}}",
        f"{theirs}.2.{{*}}": f"{ours}.temp_attentions.{number}.{{*}}",
    }
