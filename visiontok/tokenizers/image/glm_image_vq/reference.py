"""The parts of a whole GLM-Image model that make its tokenizer: their configuration and the names of their tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.tokenizers.shared.library_vq import KEY_MAP as VQ_KEY_MAP

KEY_MAP = KeyMap(
    {
        **{f"{prefix}visual.{{*}}": "encoder.{*}" for prefix in ("", "model.")},
        **{f"{prefix}vqmodel.{theirs}": ours for prefix in ("", "model.") for theirs, ours in VQ_KEY_MAP.patterns.items()},
        **{f"{prefix}language_model.{{*}}": None for prefix in ("", "model.")},
        "lm_head.{*}": None,
    }
)


def read_config(config: Mapping[str, Any], *, vision_fields: Collection[str]) -> dict[str, Any]:
    """The fields of `GlmImageVqConfig` from the `config.json` of a whole model: its `vq_config`, and of its `vision_config` the `vision_fields`.

    Raises:
        ConfigError: if one of the two is missing.
    """
    try:
        vq, vision = config["vq_config"], config["vision_config"]
    except KeyError as error:
        raise ConfigError(f"the GLM-Image configuration lacks the key {error}") from error
    values = {key: vq[key] for key in ("embed_dim", "num_embeddings", "latent_channels") if key in vq}
    return {**values, "vision": {key: vision[key] for key in vision_fields if key in vision}}
