"""FlexTok's released configurations and the names of its tensors. Nothing that a configuration names is imported.

A tree lists the authors' modules in the order in which they run, each with its class and its arguments. Every name, every class and every argument
must be one that is known here: arguments that are settings of our model are returned, those that are constants of it must agree, and those without
effect (names of dictionary entries, initialization, recomputation) are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.tokenizers.image.kl_vae import reference as kl_vae

_PACKING = "model.preprocessors.flex_seq_packing.BlockWiseSequencePacker"
_UNPACKING = "model.postprocessors.seq_unpacking.SequenceUnpacker"
_POSITIONS = "model.utils.posembs.PositionalEmbeddingAdder"
_PATCHES = "model.preprocessors.patching.PatchEmbedder"
_TRUNK = "model.trunks.transformers.FlexTransformer"
_PER_SAMPLE = "model.utils.dict_ops.PerSampleOp"

_ENCODER = {
    "enc_channels_to_last": _PER_SAMPLE,
    "enc_patch_emb": _PATCHES,
    "enc_posemb_module": _POSITIONS,
    "enc_register_module": "model.preprocessors.registers.Registers1D",
    "enc_seq_packer": _PACKING,
    "enc_transformer": _TRUNK,
    "enc_unpacker": _UNPACKING,
    "enc_to_latents": "model.postprocessors.heads.LinearHead",
}
_DECODER = {
    "dec_from_latents": "model.preprocessors.linear.LinearLayer",
    "dec_registers_posemb_module": _POSITIONS,
    "dec_nested_dropout": "model.preprocessors.token_dropout.MaskedNestedDropout",
    "dec_latent_dropout": "model.preprocessors.nullcond.LearnedNullCond",
    "dec_noise_channels_to_last": _PER_SAMPLE,
    "dec_noise_patch_emb": _PATCHES,
    "dec_patches_posemb_module": _POSITIONS,
    "dec_seq_packer": _PACKING,
    "dec_time_embedder": "model.preprocessors.time_embedding.TimestepEmbedder",
    "dec_transformer": _TRUNK,
    "dec_unpacker": _UNPACKING,
    "dec_repa_unpacker": _UNPACKING,
    "dec_to_patches": "model.postprocessors.heads.ToPatchesLinearHead",
    "dec_channels_to_first": _PER_SAMPLE,
}
_OPTIONAL = {"dec_repa_unpacker"}
"""Takes features out for a training loss."""

_FACTS: Mapping[str, Mapping[str, Any]] = {
    "PositionalEmbeddingAdder": {"posemb_scaling": "absolute"},
    "Registers1D": {"ordering_mode": "nested", "extra_registers_dim": None},
    "FlexTransformer": {
        "mlp_ratio": 4.0, "qkv_bias": False, "proj_bias": False, "mlp_bias": False, "gated_mlp": True, "qk_norm": True, "drop": 0.0,
        "drop_path_rate": 0.0,
    },
    "LinearHead": {"use_mup_readout": False, "proj_bias": True, "adaLN_bias": True},
    "ToPatchesLinearHead": {"use_mup_readout": False, "proj_bias": True, "adaLN_bias": True},
    "LinearLayer": {"proj_bias": True},
    "TimestepEmbedder": {"temb_as_tokens": False},
    "LearnedNullCond": {"replace_with_single_token": False},
    "FSQ": {"drop_quant_p": 0.0, "corrupt_tokens_p": 0.0},
}  # fmt: skip
"""By class: arguments that must have this value where they are given."""

_SETTINGS: Mapping[str, frozenset[str]] = {
    "PerSampleOp": frozenset({"per_sample_op"}),
    "PatchEmbedder": frozenset({"channels_in", "dim", "patch_sizes"}),
    "PositionalEmbeddingAdder": frozenset({"dim", "max_sizes", "posemb_type"}),
    "Registers1D": frozenset({"dim", "n_max"}),
    "BlockWiseSequencePacker": frozenset({"mask_mode"}),
    "FlexTransformer": frozenset({"dim", "depth", "head_dim", "adaLN_expansion"}),
    "LinearHead": frozenset({"dim", "dim_out"}),
    "LinearLayer": frozenset({"dim_in", "dim"}),
    "MaskedNestedDropout": frozenset({"dim", "size_sampling_mode"}),
    "LearnedNullCond": frozenset({"dim", "dropout_prob"}),
    "TimestepEmbedder": frozenset({"dim", "frequency_embedding_size", "max_timestep"}),
    "ToPatchesLinearHead": frozenset({"dim", "channels_out", "patch_sizes"}),
    "FSQ": frozenset({"levels"}),
    "MinRFNoiseModule": frozenset({"ln", "stratisfied", "mode_scale"}),
    "MinRFPipeline": frozenset({"out_channels"}),
    "StableDiffusionVAE": frozenset({"latent_channels", "scaling_factor", "sample_posterior", "hf_hub_path"}),
    "SequentialModuleDictWrapper": frozenset({"module_dict"}),
}
"""By class: arguments that our configuration has too, or that must fit another entry."""

_IGNORED: Mapping[str, str] = {
    "_partial_": "how the authors' code builds a function",
    "compile_block_mask": "speed",
    "dtype_override": "computation follows the model's dtype",
    "flatten_patches": "a shape inside the authors' code",
    "frozen": "set by a recipe's `model.freeze`",
    "force_vae_encode": "images are always encoded",
    "intermediate_layers": "features for a training loss",
    "max_seq_len": "bounds a buffer",
    "n_eval": "how many tokens are kept is an argument of encoding",
    "n_min": "any number of tokens from 1 on decodes",
    "pad_to_multiple": "speed",
    "packed_call": "speed",
    "per_subseq_embs": "nothing in a model with one sequence",
    "return_materialized_mask": "speed",
    "size_sampling_mode": "read where it is a setting; elsewhere without effect",
    "use_act_checkpoint": "recomputes activations to save memory",
    "weight_init_style": "initialization",
    "zero_init_query_proj": "initialization",
    "min_corrupt_tokens_p": "of corruption, whose share corrupt_tokens_p is 0",
    "apply_corrupt_tokens_p": "of corruption, whose share corrupt_tokens_p is 0",
}
"""Arguments without effect here -> the reason; besides these, the names of dictionary entries (`..._key`, `..._keys`)."""

_VAE_TABLE = {
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
"""The autoencoder's sizes under diffusers' names; they are constants of the authors' code, not in their configuration."""

_SCHEDULES = {
    "uniform": {"schedule": "uniform"},
    "pow2": {"schedule": "powers_of_two", "draws": "powers"},
    "uniform_pow2": {"schedule": "powers_of_two", "draws": "rounded"},
}


KEY_MAP = KeyMap(
    {
        "encoder.module_dict.enc_patch_emb.patch_proj.{}": "encoder.patch_embed.{}",
        "encoder.module_dict.enc_posemb_module.posembs": "encoder.patch_positions",
        "encoder.module_dict.enc_register_module.registers": "encoder.registers",
        "encoder.module_dict.enc_to_latents.proj.{}": "encoder.to_latents.{}",
        "decoder.module_dict.dec_from_latents.proj.{}": "decoder.from_latents.{}",
        "decoder.module_dict.dec_registers_posemb_module.posembs": "decoder.register_positions",
        "decoder.module_dict.dec_nested_dropout.dropout_mask_token": "decoder.mask_token",
        "decoder.module_dict.dec_latent_dropout.nullcond": "decoder.null_token",
        "decoder.module_dict.dec_noise_patch_emb.patch_proj.{}": "decoder.patch_embed.{}",
        "decoder.module_dict.dec_patches_posemb_module.posembs": "decoder.patch_positions",
        "decoder.module_dict.dec_time_embedder.mlp.0.{}": "decoder.time_embed.fc1.{}",
        "decoder.module_dict.dec_time_embedder.mlp.2.{}": "decoder.time_embed.fc2.{}",
        "decoder.module_dict.dec_to_patches.adaLN_modulation.1.{}": "decoder.modulation.linear.{}",
        "decoder.module_dict.dec_to_patches.proj.{}": "decoder.head.{}",
        **{f"{net}.module_dict.{short}_transformer.blocks.{{}}.{theirs}": f"{net}.blocks.{{}}.{ours}"
            for net, short in (("encoder", "enc"), ("decoder", "dec"))
            for theirs, ours in (
                ("attn.{}.weight", "attn.{}.weight"),
                ("mlp.fc1.weight", "mlp.w1.weight"),
                ("mlp.fc2.weight", "mlp.w2.weight"),
                ("mlp.fc3.weight", "mlp.w3.weight"),
                ("adaLN_modulation.1.{}", "modulation.linear.{}"),
            )
        },
    },
    joined={f"{net}.blocks.{{}}.attn.qkv.weight": tuple(f"{net}.blocks.{{}}.attn.{part}.weight" for part in ("wq", "wk", "wv"))
        for net in ("encoder", "decoder")},
)  # fmt: skip


def convert_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors under our names.

    Their tables of positions are images of channels, ours rows of tokens; their modulations come as gate, gate, shift, scale, shift, scale.

    Raises:
        CheckpointError: listing tensors that no pattern matches.
    """
    vae = {key.removeprefix("vae.vae."): tensor for key, tensor in state_dict.items() if key.startswith("vae.")}
    rest = {key.replace("_checkpoint_wrapped_module.", ""): tensor for key, tensor in state_dict.items() if not key.startswith("vae.")}
    mapped = KEY_MAP(rest)
    for key, tensor in mapped.items():
        if key.endswith("_positions"):
            mapped[key] = tensor.flatten(2)[0].T if key.endswith("patch_positions") else tensor[0, 0].T
        elif key.endswith("_token"):
            mapped[key] = tensor[None]
        elif ".blocks." in key and ".modulation." in key:
            mapped[key] = tensor.unflatten(0, (2, 6, -1))[:, [2, 3, 0, 4, 5, 1]].flatten(0, 2)
    return {**mapped, **{f"vae.{key}": tensor for key, tensor in kl_vae.to_diffusers_names(vae).items()}}


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `FlexTokConfig` from the authors' tree; where there is none, `sizes`, which has our fields.

    Raises:
        ConfigError: see `read_tree`.
    """
    if set(config) == {"sizes"}:
        return dict(config["sizes"])
    fields, autoencoder = read_tree(config)
    return {**fields, "vae": kl_vae.read_config(autoencoder)}


def read_tree(tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Our configuration's fields but `vae`, and the autoencoder's configuration as diffusers would hold it.

    Raises:
        ConfigError: naming the entry that is missing, unknown, or not what this model does.
    """
    known = {"vae", "encoder", "decoder", "regularizer", "flow_matching_noise_module", "pipeline", "sizes", "fixture_vae_config"}
    if set(tree) - known:
        raise ConfigError(f"unknown parts in a FlexTok configuration: {sorted(set(tree) - known)}; known: {sorted(known)}")
    encoder, decoder = _modules(tree, "encoder", _ENCODER), _modules(tree, "decoder", _DECODER)
    fsq = _entry(tree, "regularizer", "regularizers.quantize_fsq.FSQ")
    noise = _entry(tree, "flow_matching_noise_module", "flow_matching.noise_modules.MinRFNoiseModule")
    vae = _entry(tree, "vae", "vae_wrapper.StableDiffusionVAE")
    _entry(tree, "pipeline", "flow_matching.pipelines.MinRFPipeline")
    try:
        _check(encoder, decoder, levels=fsq["levels"])
        patch_size, registers = encoder["enc_patch_emb"]["patch_sizes"][0], encoder["enc_register_module"]["n_max"]
        time = decoder["dec_time_embedder"]
        side = patch_size * encoder["enc_posemb_module"]["max_sizes"][0]
        fields = {
            "patch_size": patch_size,
            "num_registers": registers,
            "quantizer": {"type": "fsq", "levels": fsq["levels"]},
            "encoder": _trunk(encoder["enc_transformer"]),
            "decoder": _trunk(decoder["dec_transformer"]),
            "time_features": time.get("frequency_embedding_size", 256),
            "time_scale": 1000.0 / time.get("max_timestep", 1000.0),
            "nested_dropout": _SCHEDULES[decoder["dec_nested_dropout"].get("size_sampling_mode", "uniform")],
            "null_probability": decoder["dec_latent_dropout"].get("dropout_prob", 0.0),
            "flow_times": {"times": "logit_normal", "stratified": noise.get("stratisfied", False)}
            if noise.get("ln", True)
            else {"times": "mode", "mode_scale": noise.get("mode_scale", 0.0)},
            "sample_posterior": vae.get("sample_posterior", True),
        }
        if not vae.get("scaling_factor"):
            raise ConfigError("the FlexTok configuration has no vae.scaling_factor, and the autoencoder's own is not in it: add the number")
        autoencoder = {**_VAE_TABLE, **tree.get("fixture_vae_config", {})}
        stride = 2 ** (len(autoencoder["block_out_channels"]) - 1)
        autoencoder |= {
            "sample_size": side * stride,
            "latent_channels": encoder["enc_patch_emb"]["channels_in"],
            "scaling_factor": vae["scaling_factor"],
        }
    except KeyError as error:
        raise ConfigError(f"the FlexTok configuration lacks {error}, or holds it as a value of an unknown name") from error
    return {**fields, "image_size": side * stride}, autoencoder


def _modules(tree: Mapping[str, Any], part: str, known: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The settings of every module of `encoder` or `decoder`."""
    modules = _entry(tree, part, "model.utils.wrappers.SequentialModuleDictWrapper").get("module_dict", {})
    expected = [name for name in known if name in modules or name not in _OPTIONAL]
    if list(modules) != expected:
        raise ConfigError(f"{part}.module_dict must hold {', '.join(expected)} in this order, got {', '.join(modules)}")
    return {name: _entry(modules, name, known[name]) for name in expected}


def _entry(parent: Mapping[str, Any], name: str, target: str) -> dict[str, Any]:
    """The settings of one entry, after a check of everything else in it."""
    entry = parent.get(name)
    if not isinstance(entry, Mapping) or entry.get("_target_") != f"flextok.{target}":
        found = entry.get("_target_") if isinstance(entry, Mapping) else entry
        raise ConfigError(f"{name} of a FlexTok configuration must have _target_ flextok.{target}, got {found!r}; it is not imported")
    kind = target.rpartition(".")[2]
    settings, facts = _SETTINGS.get(kind, frozenset()), _FACTS.get(kind, {})
    for key, value in entry.items():
        if key in facts and value != facts[key]:
            raise ConfigError(f"{name}.{key} is {value!r}; released FlexTok models have {facts[key]!r}, and others are not supported")
        if key not in settings and key not in facts and key not in _IGNORED and key != "_target_" and not key.endswith(("_key", "_keys")):
            raise ConfigError(f"unknown key {key!r} (value {value!r}) in {name} of a FlexTok configuration")
    return {key: value for key, value in entry.items() if key in settings}


def _trunk(entry: Mapping[str, Any]) -> dict[str, Any]:
    dim, head_dim = entry["dim"], entry.get("head_dim", 64)
    if dim % head_dim:
        raise ConfigError(f"heads of {head_dim} channels (head_dim) do not divide dim {dim} of a FlexTok configuration")
    return {"dim": dim, "depth": entry["depth"], "num_heads": dim // head_dim}


def _check(encoder: Mapping[str, dict[str, Any]], decoder: Mapping[str, dict[str, Any]], *, levels: Any) -> None:
    """Values that follow from others in our model, and kinds of parts of which it has one."""
    patches, patch_sizes = encoder["enc_posemb_module"]["max_sizes"], encoder["enc_patch_emb"]["patch_sizes"]
    channels, registers = encoder["enc_patch_emb"]["channels_in"], encoder["enc_register_module"]["n_max"]
    expected = [
        (encoder, "enc_channels_to_last", "per_sample_op", _partial("channels_first_to_last")),
        (encoder, "enc_patch_emb", "patch_sizes", [patch_sizes[0]] * 2),
        (encoder, "enc_posemb_module", "max_sizes", [patches[0]] * 2),
        (encoder, "enc_posemb_module", "posemb_type", "sincos"),
        (encoder, "enc_seq_packer", "mask_mode", "causal_last"),
        (encoder, "enc_to_latents", "dim_out", len(levels)),
        (decoder, "dec_from_latents", "dim_in", len(levels)),
        (decoder, "dec_registers_posemb_module", "max_sizes", [registers]),
        (decoder, "dec_registers_posemb_module", "posemb_type", "learnable_sum"),
        (decoder, "dec_noise_channels_to_last", "per_sample_op", _partial("channels_first_to_last")),
        (decoder, "dec_noise_patch_emb", "channels_in", channels),
        (decoder, "dec_noise_patch_emb", "patch_sizes", patch_sizes),
        (decoder, "dec_patches_posemb_module", "max_sizes", patches),
        (decoder, "dec_patches_posemb_module", "posemb_type", "sincos"),
        (decoder, "dec_seq_packer", "mask_mode", "full"),
        (decoder, "dec_transformer", "adaLN_expansion", 2),
        (decoder, "dec_to_patches", "channels_out", channels),
        (decoder, "dec_to_patches", "patch_sizes", patch_sizes),
        (decoder, "dec_channels_to_first", "per_sample_op", _partial("channels_last_to_first")),
    ]
    for modules, name, key, value in expected:
        if modules[name].get(key) != value:
            raise ConfigError(f"{name}.{key} of a FlexTok configuration must be {value!r}, got {modules[name].get(key)!r}")


def _partial(function: str) -> dict[str, Any]:
    return {"_target_": f"flextok.model.utils.dict_ops.{function}", "_partial_": True}
