"""LlamaGen's tokenizer (Sun et al. 2024, arXiv 2406.06525): a VQGAN whose narrow codes of unit length are all in use.

Reads top to bottom: configuration, model, and how the released weights map to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.layers.conv import TamingNetConfig
from visiontok.quantizers.vector import VectorQuantizerConfig
from visiontok.tokenizers.shared.taming import JOINED, QUANTIZER_PATTERNS, TamingConfig, TamingTokenizer, as_linear, net_patterns


class LlamaGenVqConfig(TamingConfig):
    """The released sizes; see `TamingConfig`."""

    encoder: TamingNetConfig = TamingNetConfig(attention_levels=(4,))
    decoder: TamingNetConfig = TamingNetConfig(attention_levels=(4,), num_res_blocks=3)
    quantizer: VectorQuantizerConfig = VectorQuantizerConfig(codebook_size=16384, dim=8, normalize_latents=True, normalize_codes=True)


class LlamaGenVq(TamingTokenizer[LlamaGenVqConfig]):
    """Attention at the lowest level; latents and codes on the unit sphere, for the search and for the decoder."""

    config_class = LlamaGenVqConfig

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names; their decoder numbers its levels in the order in which they run."""
        numbers = {int(found[1]) for key in state_dict if (found := re.match(r"decoder\.conv_blocks\.(\d+)\.", key))}
        decoder_levels = {f"conv_blocks.{number}": f"levels.{max(numbers) - number}" for number in numbers}
        patterns = {
            **net_patterns("encoder", {"conv_blocks.{}": "levels.{}"}, block="res", mid=("0", "1", "2")),
            **net_patterns("decoder", decoder_levels, block="res", mid=("0", "1", "2")),
            **QUANTIZER_PATTERNS,
            "quantize.codebook_used": None,  # a record of the training
        }
        return as_linear(KeyMap(patterns, JOINED)(state_dict))

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> LlamaGenVqConfig:
        """From the authors' `ModelArgs`. Two sizes that their code fixes may be given beside them: ch (128) and num_res_blocks (2)."""
        known = {
            "codebook_size", "codebook_embed_dim", "codebook_l2_norm", "codebook_show_usage", "commit_loss_beta", "entropy_loss_ratio",
            "encoder_ch_mult", "decoder_ch_mult", "z_channels", "dropout_p", "ch", "num_res_blocks",
        }  # fmt: skip
        if set(config) - known:
            raise ConfigError(f"unknown keys in a LlamaGen tokenizer's configuration: {sorted(set(config) - known)}; known: {sorted(known)}")
        nets = {}
        for net, extra_blocks in (("encoder", 0), ("decoder", 1)):
            channel_mult = config.get(f"{net}_ch_mult", [1, 1, 2, 2, 4])
            nets[net] = {
                "channels": config.get("ch", 128),
                "channel_mult": channel_mult,
                "num_res_blocks": config.get("num_res_blocks", 2) + extra_blocks,
                "latent_channels": config.get("z_channels", 256),
                "attention_levels": [len(channel_mult) - 1],
            }
        normalize, entropy_weight = config.get("codebook_l2_norm", True), config.get("entropy_loss_ratio", 0.0)
        quantizer = {
            "codebook_size": config.get("codebook_size", 16384),
            "dim": config.get("codebook_embed_dim", 8),
            "normalize_latents": normalize,
            "normalize_codes": normalize,
            "commitment_weight": config.get("commit_loss_beta", 0.25),
            "entropy": {"weight": entropy_weight} if entropy_weight else None,
        }
        return LlamaGenVqConfig.parse({**nets, "quantizer": quantizer}, source="the LlamaGen tokenizer's reference configuration")
