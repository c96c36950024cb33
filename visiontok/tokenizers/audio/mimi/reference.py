"""transformers' own configuration and tensor names of Mimi: those of its files, and those of its newer models in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.core.keymap import KeyMap

KEY_MAP = KeyMap(
    {
        "encoder.encoder_seanet.{*}": "encoder.{*}",
        "encoder.encoder_transformer.{*}": "encoder_transformer.{*}",
        "encoder.downsample.{*}": "downsample.{*}",
        "decoder.upsample.{*}": "upsample.{*}",
        "decoder.decoder_transformer.{*}": "decoder_transformer.{*}",
        "decoder.decoder_seanet.{*}": "decoder.{*}",
        "quantizer.{*}": "quantizer.rvq.{*}",
        **{f"{part}.{{*}}": f"{part}.{{*}}" for part in ("encoder", "encoder_transformer", "downsample")},
        **{f"{part}.{{*}}": f"{part}.{{*}}" for part in ("upsample", "decoder_transformer", "decoder")},
    }
)

_STREAMING = "of streaming, which is not a property of the tokens"
_DERIVED = "follows from other keys"
IGNORED = {
    "use_cache": _STREAMING,
    "use_streaming": _STREAMING,
    "frame_rate": _DERIVED,
    "_frame_rate": _DERIVED,
    "tie_word_embeddings": "a setting of language models",
}
"""Keys that do not affect the tokens -> the reason."""


def with_rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as newer versions of transformers write it: older ones have `rope_theta` by itself."""
    plain = dict(config)
    theta = plain.pop("rope_theta", None)
    return {"rope_parameters": {"rope_theta": theta}, **plain} if theta is not None else plain
