"""LARP's tokenizer as its authors store it: configuration and tensor names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys, check_values

SOURCE = "the LARP reference configuration"

_VQ = "bottleneck.args.regularizer"

CONFIG_KEYS = ReferenceKeys(
    read=(
        "input_size", "frame_num", "temporal_patch_size", "patch_size", "decoder_temporal_patch_size", "decoder_patch_size", "in_channels",
        "bottleneck_token_num",
        *(f"{net}_{size}" for net in ("encoder", "decoder") for size in ("hidden_size", "num_heads", "depth", "name")),
        "transformer_name",
        "learned_encoder_patch_pe", "learned_encoder_latent_query_embed", "learned_decoder_latent_pe", "learned_decoder_patch_query_embed",
        "use_encoder_patch_token_type_embed", "use_encoder_latent_query_token_type_embed",
        "use_decoder_latent_token_type_embed", "use_decoder_patch_query_token_type_embed",
        "latent_pe_scale_factor",
        "bottleneck.name", "bottleneck.args.bottleneck_dim", "bottleneck.args.norm",
        f"{_VQ}.name",
        *(f"{_VQ}.args.{key}" for key in (
            "codebook_size", "commitment_loss_weight", "codebook_loss_weight", "entropy_loss_weight", "l2_normalized", "stochastic",
            "stochastic_temperature",
        )),
        *(f"prior_model.{key}" for key in (
            "name", "use_mix_ss", "mix_ss_max_ratio", "n_rounds", "avg_loss_over_rounds", "no_grad_before_last_round", "no_dropout",
            "latent_ce_temperature", "args.l2_normalized",
        )),
        "prior_model",
    ),
    ignored={
        f"{_VQ}.args.entropy_loss_temperature": "of the entropy term, whose weight is 0",
        f"{_VQ}.args.eval_deterministic": "encode is deterministic unless noise is given",
        "prior_model.mix_ss_peak_steps_ratio": "a share of all steps, which the configuration does not tell: set prior.sampling_ramp_steps",
        "encoder_query_gaussian_init": "of new weights: normal, as here",
        "query_init_std": "of new weights: 0.02, as here",
    },
)  # fmt: skip
"""Of the constructor's arguments, which `config.json` of the released repository holds."""

_BLOCK = ("norm1.{}", "norm2.{}", "attn.qkv.{}", "attn.proj.{}", "mlp.fc1.{}", "mlp.fc2.{}")

KEY_MAP = KeyMap(
    {
        "x_embedder.proj.{}": "encoder.patch_embed.{}",
        "encoder_patch_pe": "encoder.patch_positions.table",
        "encoder_t_embed": "encoder.patch_positions.time",
        "encoder_h_embed": "encoder.patch_positions.height",
        "encode_w_embed": "encoder.patch_positions.width",
        "encoder_patch_token_type_embed": "encoder.patch_type",
        "encoder_latent_query_embed": "encoder.latent_queries",
        "encoder_latent_query_token_type_embed": "encoder.latent_query_type",
        **{f"{net}.blocks.{{}}.{part}": f"{net}.blocks.{{}}.{part}" for net in ("encoder", "decoder") for part in _BLOCK},
        "bottleneck.in_linear.{}": "encoder.to_latents.{}",
        "bottleneck.regularizer.embedding.weight": "quantizer.codebook",
        "bottleneck.out_linear.{}": "decoder.embed.{}",
        "decoder_latent_pe": "decoder.latent_positions",
        "decoder_latent_token_type_embed": "decoder.latent_type",
        "decoder_patch_query_embed": "decoder.query_positions.table",
        "decoder_t_embed": "decoder.query_positions.time",
        "decoder_h_embed": "decoder.query_positions.height",
        "decoder_w_embed": "decoder.query_positions.width",
        "decoder_patch_query_token_type_embed": "decoder.query_type",
        "final_layer.norm_final.{}": "decoder.norm.{}",
        "final_layer.linear.{}": "decoder.to_pixels.{}",
        "prior_model.input_proj.{}": "prior.embed.{}",
        "prior_model.pos_emb": "prior.positions",
        "prior_model.blocks.{}.ln1.{}": "prior.blocks.{}.norm1.{}",
        "prior_model.blocks.{}.ln2.{}": "prior.blocks.{}.norm2.{}",
        "prior_model.blocks.{}.attn.proj.{}": "prior.blocks.{}.attn.proj.{}",
        **{f"prior_model.blocks.{{}}.attn.{part}.{{}}": f"prior.blocks.{{}}.attn.{part}.{{}}" for part in ("query", "key", "value")},
        "prior_model.blocks.{}.mlp.0.{}": "prior.blocks.{}.mlp.fc1.{}",
        "prior_model.blocks.{}.mlp.2.{}": "prior.blocks.{}.mlp.fc2.{}",
        "prior_model.ln_f.{}": "prior.norm.{}",
        "prior_model.head.{}": "prior.head.{}",
    },
    joined={"prior.blocks.{}.attn.qkv.{}": tuple(f"prior.blocks.{{}}.attn.{part}.{{}}" for part in ("query", "key", "value"))},
)

_UNBATCHED = (
    "encoder.patch_type", "encoder.latent_query_type", "decoder.latent_type", "decoder.query_type", "decoder.latent_positions", "prior.positions",
    *(f"{net}.{part}" for net in ("encoder.patch_positions", "decoder.query_positions") for part in ("table", "time", "height", "width")),
)  # fmt: skip
"""Tables that they keep with a first axis of 1, for the batch."""

PRIORS = {"gptc-S": {"dim": 384, "depth": 12, "num_heads": 6, "max_length": 1024}, "gptc-tiny": {"dim": 32, "depth": 2, "num_heads": 4}}
"""Of the release, and one for tests."""


def convert_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors under our names."""
    renamed = KEY_MAP(state_dict)
    return {**renamed, **{key: renamed[key][0] for key in _UNBATCHED if key in renamed}}


def read_config(config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of `LarpConfig` from the authors' constructor arguments.

    Raises:
        ConfigError: for unknown keys, missing sizes, and values that no release has and that nothing here does.
    """
    with CONFIG_KEYS.reading(config, source=SOURCE):
        fixed = {
            "in_channels": (3,),
            "decoder_temporal_patch_size": (config["temporal_patch_size"],),
            "decoder_patch_size": (config["patch_size"],),
            "transformer_name": ("none", "transformer_encoder_parallel"),
            "encoder_name": ("none",),
            "decoder_name": ("none",),
            "learned_encoder_latent_query_embed": (True,),
            "latent_pe_scale_factor": (10_000,),
        }
        check_values(config, fixed, source=SOURCE)
        bottleneck = config["bottleneck"]
        check_values(bottleneck, {"name": ("bottleneck",)}, source=SOURCE, prefix="bottleneck.")
        check_values(bottleneck["args"], {"norm": ("none",)}, source=SOURCE, prefix="bottleneck.args.")
        types = {
            "patches": config.get("use_encoder_patch_token_type_embed", False),
            "latent_queries": config.get("use_encoder_latent_query_token_type_embed", False),
            "latents": config.get("use_decoder_latent_token_type_embed", False),
            "patch_queries": config.get("use_decoder_patch_query_token_type_embed", False),
        }
        return {
            "image_size": config["input_size"],
            "num_frames": config["frame_num"],
            "frames_per_patch": config["temporal_patch_size"],
            "num_latent_tokens": config["bottleneck_token_num"],
            **{
                net: {
                    "dim": config[f"{net}_hidden_size"],
                    "depth": config[f"{net}_depth"],
                    "num_heads": config[f"{net}_num_heads"],
                    "patch_size": config["patch_size"],
                }
                for net in ("encoder", "decoder")
            },
            "quantizer": _quantizer(bottleneck["args"]),
            "learned_patch_positions": config.get("learned_encoder_patch_pe", False),
            "learned_query_positions": config.get("learned_decoder_patch_query_embed", False),
            "learned_latent_positions": config.get("learned_decoder_latent_pe", False),
            "token_types": [name for name, present in types.items() if present],
            "prior": None if config.get("prior_model") is None else _prior(config["prior_model"], state_dict),
        }


def _quantizer(bottleneck: Mapping[str, Any]) -> dict[str, Any]:
    """From `bottleneck.args`."""
    regularizer = bottleneck["regularizer"]
    values = regularizer["args"]
    check_values(regularizer, {"name": ("vq",)}, source=SOURCE, prefix=f"{_VQ}.")
    check_values(values, {"entropy_loss_weight": (0,)}, source=SOURCE, prefix=f"{_VQ}.args.")
    shared = {
        "codebook_size": values["codebook_size"],
        "dim": bottleneck["bottleneck_dim"],
        "commitment_weight": values.get("commitment_loss_weight", 0.25),
        "codebook_weight": values.get("codebook_loss_weight", 1.0),
    }
    normalized = values["l2_normalized"]
    if not values["stochastic"]:
        return {"type": "vq", **shared, "normalize_latents": normalized, "normalize_codes": normalized}
    temperature = values["stochastic_temperature"]
    if not normalized or temperature <= 0:
        raise ConfigError(
            f"{_VQ}.args of {SOURCE} has l2_normalized {normalized} and stochastic_temperature {temperature}; codes are drawn on the unit sphere "
            "here, by a fixed temperature, as in every release"
        )
    return {"type": "svq", **shared, "temperature": temperature}


def _prior(values: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """From `prior_model`; the length of its table of positions from the weights, where they are given."""
    check_values(
        values, {"name": tuple(PRIORS), "avg_loss_over_rounds": (True,), "no_grad_before_last_round": (False,)}, source=SOURCE, prefix="prior_model."
    )
    check_values(values.get("args", {}), {"l2_normalized": (True,)}, source=SOURCE, prefix="prior_model.args.")
    sizes = dict(PRIORS[values["name"]])
    if "prior_model.pos_emb" in state_dict:
        sizes["max_length"] = state_dict["prior_model.pos_emb"].shape[1]
    return {
        **sizes,
        "temperature": values.get("latent_ce_temperature", 1.0),
        "num_rounds": values.get("n_rounds", 1) if values.get("use_mix_ss", False) else 1,
        "sampling_ratio": values.get("mix_ss_max_ratio", 0.5),
        "attention_dropout": 0.0 if values.get("no_dropout", False) else 0.1,
    }
