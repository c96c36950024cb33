"""transformers' own configuration and tensor names of X-Codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.core.keymap import KeyMap
from visiontok.tokenizers.shared.hubert import semantic_fields
from visiontok.tokenizers.shared.library_model import general_names

_PARTS = ("acoustic_encoder", "acoustic_decoder", "encoder_semantic", "decoder_semantic", "semantic_model", "fc", "fc1", "fc2")

KEY_MAP = KeyMap(
    {
        "semantic_model.masked_spec_embed": None,  # of the training of the semantic model
        **{f"{part}.{{*}}": f"{part}.{{*}}" for part in _PARTS},
        "quantizer.{*}": "quantizer.rvq.{*}",
    }
)

IGNORED = {"initializer_range": "of random weights", "codebook_dim": "the width of both encoders together"}
"""Keys that do not affect the tokens -> the reason."""


_ACOUSTIC_IGNORED = frozenset((
    "n_codebooks", "codebook_size", "codebook_dim", "quantizer_dropout", "commitment_loss_weight", "codebook_loss_weight", "sampling_rate",
    "hop_length",
))  # fmt: skip
"""Of DAC's configuration: X-Codec has codebooks, a rate and losses of its own, and the hop follows from the strides."""


def fields_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without what does not affect the tokens in those of its two parts; unknown keys stay, and are refused by name."""
    acoustic = config.get("acoustic_model_config") or {}
    return {
        **config,
        "acoustic_model_config": {name: value for name, value in acoustic.items() if name not in _ACOUSTIC_IGNORED | general_names()},
        "semantic_model_config": semantic_fields(config.get("semantic_model_config") or {}),
    }
