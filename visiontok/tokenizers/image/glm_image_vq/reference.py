"""The parts of a whole GLM-Image model that make its tokenizer: their configuration and the names of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.tokenizers.shared.library_model import general_settings
from visiontok.tokenizers.shared.library_vq import KEY_MAP as VQ_KEY_MAP

KEY_MAP = KeyMap(
    {
        **{f"{prefix}visual.{{*}}": "encoder.{*}" for prefix in ("", "model.")},
        **{f"{prefix}vqmodel.{theirs}": ours for prefix in ("", "model.") for theirs, ours in VQ_KEY_MAP.patterns.items()},
        **{f"{prefix}language_model.{{*}}": None for prefix in ("", "model.")},
        "lm_head.{*}": None,
    }
)


_VISION_FIELDS = (
    "depth", "hidden_size", "hidden_act", "attention_bias", "attention_dropout", "num_heads", "in_channels", "image_size", "patch_size",
    "spatial_merge_size", "intermediate_size", "layer_norm_eps",
)  # fmt: skip
_VQ_FIELDS = ("embed_dim", "num_embeddings", "latent_channels", "in_channels")


def config_keys() -> ReferenceKeys:
    """The keys of a whole model's `config.json`."""
    language_model = "of the language model, which reads and writes the tokens"
    names = ("text_config", "text_config.{*}", "image_token_id", "image_start_token_id", "image_end_token_id", "tie_word_embeddings")
    return ReferenceKeys(
        read=(*(f"vq_config.{name}" for name in _VQ_FIELDS), *(f"vision_config.{name}" for name in _VISION_FIELDS)),
        ignored={
            **dict.fromkeys(names, language_model),
            **general_settings(),
            **general_settings("vq_config."),
            **general_settings("vision_config."),
        },
    )


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `GlmImageVqConfig` from the `config.json` of a whole model: those of its `vq_config` and of its `vision_config`.

    Raises:
        ConfigError: for unknown keys, or if one of the two is missing.
        DependencyError: without transformers, whose general settings are ignored.
    """
    with config_keys().reading(config, source="the GLM-Image configuration"):
        vq, vision = config["vq_config"], config["vision_config"]
        values = {key: vq[key] for key in _VQ_FIELDS if key in vq}
        return {**values, "vision": {key: vision[key] for key in _VISION_FIELDS if key in vision}}
