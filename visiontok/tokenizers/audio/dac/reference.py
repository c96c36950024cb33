"""Configurations and tensor names of DAC: transformers' own, and those of Descript's release (`weights*.pth`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys

KEY_MAP = KeyMap({"encoder.{*}": "encoder.{*}", "decoder.{*}": "decoder.{*}", "quantizer.{*}": "quantizer.rvq.{*}"})

_TRAINING = "of the library's training loss; the weights of the losses here are the same"
_DERIVED = "follows from downsampling_ratios"
_DROPOUT = "levels are not dropped here in training"
IGNORED = {
    "quantizer_dropout": _DROPOUT,
    "commitment_loss_weight": _TRAINING,
    "codebook_loss_weight": _TRAINING,
    "upsampling_ratios": _DERIVED,
    "hop_length": _DERIVED,
    "frame_rate": _DERIVED,
}
"""Keys that do not affect the tokens -> the reason."""

_FIELDS = {
    "encoder_dim": "encoder_hidden_size",
    "encoder_rates": "downsampling_ratios",
    "latent_dim": "hidden_size",
    "decoder_dim": "decoder_hidden_size",
    "n_codebooks": "n_codebooks",
    "codebook_size": "codebook_size",
    "codebook_dim": "codebook_dim",
    "sample_rate": "sampling_rate",
}
"""Descript's names of the fields -> transformers'."""

_UNIT = ("snake1", "conv1", "snake2", "conv2")
"""transformers' names of the parts of a residual unit, in Descript's order."""


def is_original(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is written in Descript's names."""
    return "encoder_rates" in config


def library_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of transformers' configuration from Descript's.

    Raises:
        ConfigError: for unknown keys, and a decoder whose rates do not mirror the encoder's.
    """
    source = "Descript's configuration"
    ReferenceKeys(read=(*_FIELDS, "decoder_rates"), ignored={"quantizer_dropout": _DROPOUT}).check(config, source=source)
    rates = list(config["encoder_rates"])
    if list(config.get("decoder_rates", rates[::-1])) != rates[::-1]:
        raise ConfigError(f"{source} has decoder_rates {config['decoder_rates']}; only those that mirror encoder_rates {rates} are supported")
    return {ours: config[theirs] for theirs, ours in _FIELDS.items() if theirs in config}


def library_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under transformers' names, whichever names they have.

    Raises:
        CheckpointError: listing tensors that are not in this network.
    """
    stages = {name.split(".")[2] for name in state_dict if name.startswith("decoder.model.") and ".block." in name}
    return _original_keys(len(stages))(state_dict) if stages else dict(state_dict)


def _original_keys(num_stages: int) -> KeyMap:
    """Descript's names, which number all layers in turn, -> transformers'."""
    patterns: dict[str, str | None] = {"quantizer.{*}": "quantizer.{*}"}
    for network, first in (("encoder", "encoder.block"), ("decoder", "decoder.model")):
        ends = ((0, "conv1"), (num_stages + 1, "snake1"), (num_stages + 2, "conv2"))
        patterns |= {f"{first}.{layer}.{{*}}": f"{network}.{name}.{{*}}" for layer, name in ends}
    for stage in range(num_stages):
        encoder, decoder = ("snake1", "conv1"), ("snake1", "conv_t1")
        for theirs, ours, resampling, units in (
            (f"encoder.block.{stage + 1}.block", f"encoder.block.{stage}", (3, encoder), 0),
            (f"decoder.model.{stage + 1}.block", f"decoder.block.{stage}", (0, decoder), 2),
        ):
            start, names = resampling
            patterns |= {f"{theirs}.{start + layer}.{{*}}": f"{ours}.{name}.{{*}}" for layer, name in enumerate(names)}
            for unit in range(3):
                inner = f"{theirs}.{units + unit}.block"
                patterns |= {f"{inner}.{layer}.{{*}}": f"{ours}.res_unit{unit + 1}.{name}.{{*}}" for layer, name in enumerate(_UNIT)}
    return KeyMap(patterns)
