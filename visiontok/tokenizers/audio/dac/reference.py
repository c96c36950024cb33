"""transformers' own configuration and tensor names of DAC."""

from __future__ import annotations

from visiontok.core.keymap import KeyMap

KEY_MAP = KeyMap({"encoder.{*}": "encoder.{*}", "decoder.{*}": "decoder.{*}", "quantizer.{*}": "quantizer.rvq.{*}"})

_TRAINING = "of the library's training loss; the weights of the losses here are the same"
_DERIVED = "follows from downsampling_ratios"
IGNORED = {
    "quantizer_dropout": "levels are not dropped here in training",
    "commitment_loss_weight": _TRAINING,
    "codebook_loss_weight": _TRAINING,
    "upsampling_ratios": _DERIVED,
    "hop_length": _DERIVED,
    "frame_rate": _DERIVED,
}
"""Keys that do not affect the tokens -> the reason."""
