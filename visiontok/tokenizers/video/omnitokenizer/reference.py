"""OmniTokenizer's checkpoints: the arguments that they hold as hyperparameters, and the names of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap, matches
from visiontok.core.reference_keys import ReferenceKeys, check_values

SOURCE = "the OmniTokenizer reference configuration"

_LETTERS = {"t": "attention", "w": "window"}

CONFIG_KEYS = ReferenceKeys(
    read=(
        "n_codes", "codebook_dim", "embedding_dim", "resolution", "sequence_length", "patch_size", "temporal_patch_size", "patch_embed",
        "enc_block", "dec_block", "twod_window_size", "spatial_depth", "temporal_depth", "causal_in_temporal_transformer", "causal_in_peg",
        "dim_head", "heads", "attn_dropout", "ff_dropout", "ff_mult", "spatial_pos", "image_channels", "l2_code", "use_external_codebook",
        "use_vae", "kl_weight", "defer_temporal_pool", "defer_spatial_pool", "gen_upscale", "sdpa",
    ),
    ignored={
        "commitment_weight": "the authors' codebook multiplies its loss by 0.25 whatever it says, as here",
        "fp32_quant": "the search runs in float32 here",
        "tokenizer": "the name of the class",
        **dict.fromkeys(("no_random_restart", "restart_thres"), "of the codebook's training: set quantizer.dead_code_reset in the recipe"),
        **dict.fromkeys(
            ("codebook_type", "norm_type", "padding_type", "n_hiddens", "downsample", "i3d_feat", "inflation_pe"),
            "of discriminators and of parts that no release has",
        ),
        **dict.fromkeys(
            (
                "disc_channels", "disc_layers", "disc_loss_type", "apply_noise", "apply_blur", "apply_diffaug", "sigmoid_in_disc",
                "activation_in_disc", "discriminator_iter_start", "no_init_idis", "init_vgen", "init_vdis", "initialize_vit", "pretrained",
                "freeze_trans",
            ),
            "of new weights, and of the discriminators, which are not read",
        ),
        **dict.fromkeys(
            (
                "image_gan_weight", "video_gan_weight", "gan_feat_weight", "perceptual_weight", "video_perceptual_weight", "recon_loss_type",
                "l1_weight", "logitslaplace_weight", "apply_allframes", "disloss_check_thres", "perloss_check_thres", "recloss_check_thres", "lr",
                "lr_min", "warmup_steps", "warmup_lr_init", "max_steps", "grad_accumulates", "grad_clip_val", "grad_clip_val_disc",
                "dis_warmup_steps", "dis_lr_multiplier", "dis_minlr_multiplier", "bf16", "fp16",
            ),
            "of the training: set it in the recipe",
        ),
        **dict.fromkeys(
            (
                "resolution_scale", "batch_size", "num_workers", "sample_ratio", "force_alternation", "loader_type", "fps", "sample_every_n_frames",
                "data_path", "train_datalist", "val_datalist", "resizecrop", "smap_cond", "smap_only", "text_cond", "vtokens", "vtokens_pos",
                "spatial_length", "image_folder", "stft_data",
            ),
            "of the data: set it in the recipe",
        ),
    },
)  # fmt: skip
"""Of `hyper_parameters["args"]`, among which those of Lightning's `Trainer` stand, too: leave these out. `sdpa` is a key of ours: false for weights
that were trained before torch had `scaled_dot_product_attention`, with the biases that the authors' code drops where it uses it."""

_BIAS = "spatial_rel_pos_bias.net"
_POSITIONS = {"0.0": "0", "1.0": "2", "2": "4"}

_TRANSFORMERS = {
    "encoder.enc_spatial_transformer": "encoder.spatial",
    "encoder.enc_temporal_transformer": "encoder.temporal",
    "decoder.dec_temporal_transformer": "decoder.temporal",
    "decoder.dec_spatial_transformer": "decoder.spatial",
}


def _transformer_patterns(theirs: str, ours: str) -> dict[str, str | None]:
    layer, own = f"{theirs}.layers.{{}}", f"{ours}.layers.{{}}"
    return {
        f"{layer}.0.dsconv.{{}}": f"{own}.peg.conv.{{}}",
        f"{layer}.1.norm.gamma": f"{own}.attn.norm.weight",
        f"{layer}.1.norm.beta": f"{own}.attn.norm.bias",
        f"{layer}.1.context_norm.{{}}": None,
        f"{layer}.1.to_q.weight": f"{own}.attn.query.weight",
        f"{layer}.1.to_kv.weight": f"{own}.attn.key_value.weight",
        f"{layer}.1.to_out.weight": f"{own}.attn.proj.weight",
        f"{layer}.1.q_scale": f"{own}.attn.query_scale",
        f"{layer}.1.k_scale": f"{own}.attn.key_scale",
        f"{layer}.1.relative_position_bias_table": f"{own}.attn.scores",
        f"{layer}.1.relative_position_index": None,
        f"{layer}.1.qkv.weight": f"{own}.attn.attn.qkv.weight",
        f"{layer}.1.proj.{{}}": f"{own}.attn.attn.proj.{{}}",
        **(
            {f"{layer}.1.{_BIAS}.{number}.{{}}": f"{own}.attn.bias.mlp.{position}.{{}}" for number, position in _POSITIONS.items()}
            if ours.endswith("spatial")
            else {f"{layer}.1.{_BIAS}.{{*}}": None}
        ),
        f"{layer}.3.0.{{}}": f"{own}.mlp.norm.{{}}",
        f"{layer}.3.1.weight": f"{own}.mlp.fc1.weight",
        f"{layer}.3.4.weight": f"{own}.mlp.fc2.weight",
        f"{theirs}.norm_out.gamma": f"{ours}.norm.weight",
        f"{theirs}.norm_out.beta": f"{ours}.norm.bias",
    }


_PATCHES = {"1": "norm1", "2": "proj", "3": "norm2"}

KEY_MAP = KeyMap(
    {
        **{f"encoder.to_patch_emb_first_frame.{number}.{{}}": f"encoder.embed_first.{name}.{{}}" for number, name in _PATCHES.items()},
        **{f"encoder.to_patch_emb.{number}.{{}}": f"encoder.embed_rest.{name}.{{}}" for number, name in _PATCHES.items()},
        **{pattern: target for theirs, ours in _TRANSFORMERS.items() for pattern, target in _transformer_patterns(theirs, ours).items()},
        "pre_vq_conv.1.{}": "to_latents.{}",
        "post_vq_conv.1.{}": "from_latents.{}",
        "codebook.embeddings": "quantizer.codebook",
        "codebook.N": "quantizer.ema.counts",
        "codebook.z_avg": "quantizer.ema.sums",
        "codebook.codebook_usage": None,
        "decoder.to_pixels_first_frame.0.{}": "decoder.first_pixels.proj.{}",
        "decoder.to_pixels.0.{}": "decoder.rest_pixels.proj.{}",
        "image_discriminator.{*}": None,
        "video_discriminator.{*}": None,
        "perceptual_model.{*}": None,
    }
)


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `OmniTokenizerConfig` from the authors' arguments; those that are missing have the authors' defaults.

    Raises:
        ConfigError: if a key is unknown or missing, or has a value of which there is no release.
    """
    with CONFIG_KEYS.reading(config, source=SOURCE):
        released = {"patch_embed": ("linear",), "image_channels": (3,), "use_external_codebook": (False,), "gen_upscale": (None,)}
        check_values(config, {**released, "spatial_pos": ("rel", "rope")}, source=SOURCE)
        depth = config.get("spatial_depth", 4)
        encoder = config.get("enc_block", "t" * depth)
        if len(encoder) != depth:
            raise ConfigError(f"enc_block {encoder!r} of {SOURCE} names {len(encoder)} layers, but spatial_depth is {depth}")
        sdpa, causal = config.get("sdpa", True), config.get("causal_in_temporal_transformer", False)
        positions = config.get("spatial_pos", "rel")
        return {
            "image_size": config["resolution"],
            "num_frames": config["sequence_length"],
            "patch_size": config["patch_size"],
            "frames_per_token": config["temporal_patch_size"],
            "dim": config["embedding_dim"],
            "num_heads": config["heads"],
            "head_dim": config["dim_head"],
            "mlp_ratio": config["ff_mult"],
            "encoder_layers": _layers(encoder, "enc_block"),
            "decoder_layers": _layers(config.get("dec_block", "t" * depth), "dec_block"),
            "temporal_depth": config["temporal_depth"],
            "window_size": config.get("twod_window_size", 4),
            "spatial_positions": positions if positions != "rel" else "none" if sdpa else "bias",
            "causal_attention": causal,
            "alibi": causal and not sdpa,
            "causal_peg": config.get("causal_in_peg", False),
            "pools_time": config.get("defer_temporal_pool", False),
            "pools_space": config.get("defer_spatial_pool", False),
            "attention_dropout": config.get("attn_dropout", 0.0),
            "dropout": config.get("ff_dropout", 0.0),
            "quantizer": _quantizer(config),
        }


def convert_weights(state_dict: Mapping[str, Tensor], *, has_codebook: bool, has_bias: bool) -> dict[str, Tensor]:
    """The authors' tensors under our names.

    Args:
        state_dict: as released.
        has_codebook: whether the codebook is used; continuous releases hold the one of the model that they were trained from.
        has_bias: whether the position biases over frames are.

    Raises:
        CheckpointError: listing tensors that the model does not have.
    """
    weights = KEY_MAP(state_dict)
    unused = [] if has_bias else [name for name in weights if any(matches(f"{net}.spatial.layers.{{}}.attn.bias.{{*}}", name) for net in _NETS)]
    unused += [] if has_codebook else [name for name in weights if name.startswith("quantizer.")]
    for name in unused:
        del weights[name]
    return {**weights, "quantizer.ema.started": torch.tensor(True)} if has_codebook else weights


_NETS = ("encoder", "decoder")


def _quantizer(config: Mapping[str, Any]) -> dict[str, Any]:
    if config.get("use_vae", False):
        return {"type": "gaussian", "dim": config["codebook_dim"], "kl_weight": config.get("kl_weight", 1e-6)}
    return {
        "type": "vq",
        "codebook_size": config["n_codes"],
        "dim": config["codebook_dim"],
        "normalize_latents": config["l2_code"],
        "commitment_weight": 0.25,
        "ema": {"decay": 0.99, "epsilon": 1e-7},
    }


def _layers(letters: str, key: str) -> tuple[str, ...]:
    unknown = sorted(set(letters) - set(_LETTERS))
    if unknown:
        raise ConfigError(
            f"{key} {letters!r} of {SOURCE} has layers {', '.join(unknown)}; known here are t (attention) and w (windows), those of the releases"
        )
    return tuple(_LETTERS[letter] for letter in letters)
