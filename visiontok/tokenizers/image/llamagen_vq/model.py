"""LlamaGen's tokenizer (Sun et al. 2024, arXiv 2406.06525): a VQGAN whose narrow codes of unit length are all in use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontok.layers.conv import TamingNetConfig
from visiontok.quantizers.vector import VectorQuantizerConfig
from visiontok.tokenizers.image.llamagen_vq.reference import convert_weights, read_config
from visiontok.tokenizers.shared.taming import TamingConfig, TamingTokenizer


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
        """The authors' tensors under our names."""
        return convert_weights(state_dict)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> LlamaGenVqConfig:
        """From the authors' `ModelArgs`."""
        return LlamaGenVqConfig.parse(read_config(config), source="the LlamaGen tokenizer's reference configuration")
