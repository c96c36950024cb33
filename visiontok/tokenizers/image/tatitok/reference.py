"""The authors' configuration of TA-TiTok and the names of its tensors, beyond those of TiTok."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.core.keymap import KeyMap
from visiontok.tokenizers.image.titok import reference as titok

KEY_MAP = KeyMap(
    {
        "decoder.text_guidance_proj.{}": "decoder.text.proj.{}",
        "decoder.text_guidance_positional_embedding": "decoder.text.positions",
        **titok.KEY_MAP.patterns,
    }
)


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `TaTiTokConfig` from the authors' nested configuration; `text_encoder`, which is not in theirs, names the text encoder.

    Their `clustering_vq` is about how the codebook moves in training. Its average usage is not among released weights, so it is ignored: set
    `quantizer.clustering` to train on.

    Raises:
        ConfigError: as for TiTok.
    """
    sizes = titok.read_sizes(config)
    model = config["model"]["vq_model"]
    text = {"length": model.get("text_context_length", 77), "dim": model.get("text_embed_dim", 768), "encoder": config.get("text_encoder")}
    return {**sizes, "text": text}
