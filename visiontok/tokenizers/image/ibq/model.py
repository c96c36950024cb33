"""IBQ (Shi et al. 2024, arXiv 2412.02692): a VQGAN with up to 262,144 wide codes that all learn, by index backpropagation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import Self

from visiontok.layers.conv import TamingNetConfig
from visiontok.quantizers.index_backprop import IndexBackpropQuantizerConfig
from visiontok.tokenizers.image.ibq.reference import ENTROPY_WEIGHT, KEY_MAP, SOURCE, read_config
from visiontok.tokenizers.shared.moving_average import averaged_weights, last_weights
from visiontok.tokenizers.shared.taming import TamingConfig, TamingTokenizer
from visiontok.tokenizers.shared.taming_keys import as_linear
from visiontok.tokenizers.shared.taming_objective import model_arguments


class IbqConfig(TamingConfig):
    """The released sizes; see `TamingConfig`."""

    encoder: TamingNetConfig = TamingNetConfig(attention_levels=(4,), num_res_blocks=4)
    decoder: TamingNetConfig = TamingNetConfig(attention_levels=(4,), num_res_blocks=5)
    quantizer: IndexBackpropQuantizerConfig = IndexBackpropQuantizerConfig(codebook_size=16384, dim=256, entropy={"weight": ENTROPY_WEIGHT})


class Ibq(TamingTokenizer[IbqConfig]):
    """Token indices by the largest dot product with a code; codes as wide as the encoder's latents."""

    config_class = IbqConfig
    reference_keys: ClassVar = KEY_MAP

    @classmethod
    def from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Self:
        """Like `Model.from_reference`, with the moving averages of the weights where the configuration says `use_ema`."""
        weights = averaged_weights(state_dict) if model_arguments(config, source=SOURCE).get("use_ema", False) else last_weights(state_dict)
        return super().from_reference(config, weights)

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names."""
        return as_linear(super().weights_from_reference(state_dict))

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> IbqConfig:
        """From the arguments of the authors' `IBQ`: ddconfig, n_embed, embed_dim, beta, use_entropy_loss and what belongs to it, use_ema."""
        return IbqConfig.parse(read_config(config), source="the IBQ reference configuration")
