"""TokenBridge's configuration and the names of its tensors: those of the KL autoencoder that it quantizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.tokenizers.image.kl_vae import reference as kl_vae


def convert_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The autoencoder's tensors; the quantizer has none.

    Raises:
        CheckpointError: listing tensors that no pattern matches.
    """
    return {f"base.{name}": tensor for name, tensor in kl_vae.to_diffusers_names(state_dict).items()}


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `TokenBridgeConfig` from the sizes of the autoencoder and the quantizer's `bits` and `range`.

    Raises:
        ConfigError: if it has unknown keys, or another number of bits than 1 to 9.
    """
    bits, sizes = config.get("bits", 6), {key: value for key, value in config.items() if key not in ("bits", "range")}
    if not isinstance(bits, int) or not 0 < bits < 10:
        raise ConfigError(f"bits of a TokenBridge is {bits!r}; expected 1 to 9 (without quantization the model is a kl-vae)")
    return {
        "base": {"family": "kl-vae", "config": kl_vae.read_config(sizes)},
        "quantizer": {"levels": 2**bits, "range": config.get("range", 5.0)},
    }
