"""IBQ (Shi et al. 2024, arXiv 2412.02692): a VQGAN with up to 262,144 wide codes that all learn, by index backpropagation.

Reads top to bottom: configuration, model, and how the released weights map to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import Self

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.layers.conv import TamingNetConfig
from visiontok.quantizers.index_backprop import IndexBackpropQuantizerConfig
from visiontok.tokenizers.shared.moving_average import averaged_weights, last_weights
from visiontok.tokenizers.shared.taming import (
    JOINED,
    QUANTIZER_PATTERNS,
    TamingConfig,
    TamingTokenizer,
    as_linear,
    attention_levels,
    net_patterns,
)

ENTROPY_WEIGHT = 0.05
"""Of the entropy terms in the authors' total loss; it stands in the configuration of their losses, not in the tokenizer's."""


class IbqConfig(TamingConfig):
    """The released sizes; see `TamingConfig`."""

    encoder: TamingNetConfig = TamingNetConfig(attention_levels=(4,), num_res_blocks=4)
    decoder: TamingNetConfig = TamingNetConfig(attention_levels=(4,), num_res_blocks=5)
    quantizer: IndexBackpropQuantizerConfig = IndexBackpropQuantizerConfig(codebook_size=16384, dim=256, entropy={"weight": ENTROPY_WEIGHT})


class Ibq(TamingTokenizer[IbqConfig]):
    """Ids by the largest dot product with a code; codes as wide as the encoder's latents."""

    config_class = IbqConfig
    reference_keys: ClassVar = KeyMap(
        {
            **net_patterns("encoder", {"down.{}": "levels.{}"}, block="block", mid=("block_1", "attn_1", "block_2")),
            **net_patterns("decoder", {"up.{}": "levels.{}"}, block="block", mid=("block_1", "attn_1", "block_2")),
            **QUANTIZER_PATTERNS,
        },
        JOINED,
    )

    @classmethod
    def from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Self:
        """Like `Model.from_reference`, with the moving averages of the weights where the configuration says `use_ema`."""
        weights = averaged_weights(state_dict) if config.get("use_ema", False) else last_weights(state_dict)
        return super().from_reference(config, weights)

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names."""
        return as_linear(super().weights_from_reference(state_dict))

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> IbqConfig:
        """From the arguments of the authors' `IBQ`: ddconfig, n_embed, embed_dim, beta, use_entropy_loss and what belongs to it, use_ema."""
        known = {
            "ddconfig", "n_embed", "embed_dim", "beta", "use_ema", "use_entropy_loss", "entropy_temperature", "sample_minimization_weight",
            "batch_maximization_weight",
        }  # fmt: skip
        known_sizes = {
            "double_z", "z_channels", "resolution", "in_channels", "out_ch", "ch", "ch_mult", "num_res_blocks", "attn_resolutions", "dropout",
        }  # fmt: skip
        sizes = config.get("ddconfig", {})
        unknown = sorted(set(config) - known) + [f"ddconfig.{key}" for key in sorted(set(sizes) - known_sizes)]
        if unknown:
            raise ConfigError(f"unknown keys in an IBQ tokenizer's configuration: {unknown}; known: {sorted(known)}, {sorted(known_sizes)}")
        if sizes.get("in_channels", 3) != 3 or sizes.get("out_ch", 3) != 3 or sizes.get("double_z", False):
            raise ConfigError("an IBQ tokenizer has 3 colour channels (in_channels, out_ch) and no double_z")
        try:
            channel_mult, blocks, resolution = tuple(sizes["ch_mult"]), sizes["num_res_blocks"], sizes["resolution"]
            net = {"channels": sizes["ch"], "channel_mult": channel_mult, "latent_channels": sizes["z_channels"]}
            quantizer: dict[str, Any] = {"codebook_size": config["n_embed"], "dim": config["embed_dim"]}
            attended = sizes["attn_resolutions"]
        except KeyError as error:
            raise ConfigError(f"the IBQ reference configuration lacks {error}") from error
        down, up = attention_levels(levels=len(channel_mult), resolution=resolution, attended=attended)
        quantizer["codebook_weight"] = config.get("beta", 0.25)
        if config.get("use_entropy_loss", False):
            quantizer["entropy"] = {
                "weight": ENTROPY_WEIGHT,
                "sample_weight": config.get("sample_minimization_weight", 1.0),
                "batch_weight": config.get("batch_maximization_weight", 1.0),
                "temperature": config.get("entropy_temperature", 0.01),
            }
        values = {
            "image_size": resolution,
            "encoder": {**net, "num_res_blocks": blocks, "attention_levels": down},
            "decoder": {**net, "num_res_blocks": blocks + 1, "attention_levels": up},
            "quantizer": quantizer,
        }
        return IbqConfig.parse(values, source="the IBQ reference configuration")
