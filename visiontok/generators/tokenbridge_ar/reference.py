"""TokenBridge's generators as their authors store them: configuration, arguments of sampling, and tensor names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.quantized_latents import quantized_layout
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.generators.decoding.masked_autoregressive import MaskedTokenSampling
from visiontok.generators.mar.reference import BACKBONE_CONFIG_KEYS, BACKBONE_KEYS, IGNORED, JOINED, masked_sampling, read_backbone, read_condition
from visiontok.quantizers.dimension_wise import CUT
from visiontok.tokens.grid import grid_layout

CHANNEL_ORDER = (8, 1, 10, 9, 6, 12, 4, 0, 3, 11, 7, 14, 2, 15, 13, 5)
"""Channels of the KL-16 autoencoder by falling share of low frequencies; the code that computed it is not published."""

KEY_MAP = KeyMap(
    {
        **BACKBONE_KEYS,
        "output_pos_embed": "backbone.output_positions",
        "condition_proj.{*}": "head.condition.{*}",
        "channel_embed": "head.positions",
        "timesteps_embeddings": "head.steps",
        "token_embeddings.{*}": "head.tables.{*}",
        "channel_blocks.{}.attn.q_norm.{*}": "head.blocks.{}.query_norm.{*}",
        "channel_blocks.{}.attn.k_norm.{*}": "head.blocks.{}.key_norm.{*}",
        "channel_blocks.{}.attn.{*}": "head.blocks.{}.{*}",
        "channel_blocks.{}.adaLN_modulation.1.{*}": "head.blocks.{}.modulation.{*}",
        "channel_blocks.{*}": "head.blocks.{*}",
        "channel_norm.{*}": "head.norm.{*}",
        "channel_final.adaLN_modulation.1.{*}": "head.output_modulation.{*}",
        "channel_heads.{*}": "head.outputs.{*}",
        # Constants: the causal mask, and the quantizer's values and boundaries, which follow from the configuration.
        "channel_mask": None,
        "reconstruction_values": None,
        "boundaries": None,
    },
    joined=JOINED,
    reordered={"head.output_modulation.{*}": (1, 0)},  # theirs: scale, shift
)

CONFIG_KEYS = ReferenceKeys(
    read=(
        *BACKBONE_CONFIG_KEYS, "channel_embed_dim", "channel_depth", "channel_heads", "quant_levels", "quant_min", "quant_max", "std_range",
    ),
    ignored={**IGNORED, "use_quantized_value": "without effect in their code: the backbone always reads the codes' values"},
)  # fmt: skip
"""The arguments of the authors' class; `norm_eps` is that of the norm layer that their factories pass."""


def read_config(config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of `TokenBridgeGeneratorConfig` from the arguments of the authors' class; `_sampler` may hold those of their sampler."""
    stride, channels, levels = config.get("vae_stride", 16), config.get("vae_embed_dim", 16), config.get("quant_levels", 64)
    if config.get("patch_size", 1) != 1 or channels != len(CHANNEL_ORDER):
        raise ConfigError(
            f"a TokenBridge generator has patch_size 1 and vae_embed_dim {len(CHANNEL_ORDER)}; got {config.get('patch_size', 1)}, {channels}"
        )
    side = config.get("img_size", 256) // stride
    return {
        "layout": quantized_layout(grid_layout((side, side), stride=stride, channels=channels), levels).to_dict(),
        "condition": read_condition(config),
        "backbone": read_backbone(config),
        "head": {
            "dim": config["channel_embed_dim"],
            "depth": config["channel_depth"],
            "num_heads": config["channel_heads"],
            "mlp_ratio": config.get("mlp_ratio", 4.0),
            "norm_eps": config.get("norm_eps", 1e-6),
            "order": CHANNEL_ORDER,
            "samples_with_first_step": True,
        },
        "code_values": _code_values(config, levels, state_dict),
        "least_masked": config.get("mask_ratio_min", 0.7),
        "sampling": sampling_from_reference(config.get("_sampler", {})).to_dict(),
    }


def _code_values(config: Mapping[str, Any], levels: int, state_dict: Mapping[str, Tensor]) -> dict[str, Any] | tuple[float, ...]:
    """Those of our quantizer where it is the same; else from the table in the checkpoint, which holds them before they are scaled to the range."""
    low, high, cut = config.get("quant_min", -5.0), config.get("quant_max", 5.0), config.get("std_range", CUT)
    if low == -high and cut == CUT:
        return {"levels": levels, "range": high}
    if "reconstruction_values" not in state_dict:
        raise ConfigError(f"quant_min {low}, quant_max {high}, std_range {cut}: the values of the codes are needed, 'reconstruction_values'")
    return tuple(((state_dict["reconstruction_values"].double() + cut) / (2 * cut) * (high - low) + low).tolist())


def sampling_from_reference(values: Mapping[str, Any]) -> MaskedTokenSampling:
    """The arguments of the authors' `sample_tokens` as parameters; a temperature of 0 takes the most likely codes."""
    ours = masked_sampling(values)
    if ours.get("temperature") == 0:
        ours = {**ours, "temperature": 1.0, "top_k": 1}
    return MaskedTokenSampling.parse(ours, source="reference sampler")
