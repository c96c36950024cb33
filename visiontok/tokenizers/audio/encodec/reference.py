"""transformers' own configuration and tensor names of EnCodec."""

from __future__ import annotations

from visiontok.core.keymap import KeyMap

KEY_MAP = KeyMap({"encoder.{*}": "encoder.{*}", "decoder.{*}": "decoder.{*}", "quantizer.{*}": "quantizer.rvq.{*}"})

_DERIVED = "follows from other keys"
IGNORED = dict.fromkeys(("frame_rate", "num_quantizers", "hop_length", "chunk_length", "chunk_stride", "codebook_nbits"), _DERIVED)
"""Keys that do not affect the tokens -> the reason."""
