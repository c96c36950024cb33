"""TokenBridge (Wang et al. 2025): a trained continuous tokenizer whose latents are quantized afterwards, dimension by dimension.

The published one quantizes the KL-16 autoencoder; other continuous image tokenizers of this library can be quantized too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError, UnknownNameError
from visiontok.core.tokenizer import Tokenizer
from visiontok.quantizers.continuous import GaussianBottleneck
from visiontok.quantizers.dimension_wise import DimensionWiseQuantizerConfig
from visiontok.quantizers.quantized_bottleneck import QuantizedBottleneck
from visiontok.tokenizers.image.tokenbridge.reference import convert_weights, read_config
from visiontok.tokenizers.shared.families import family_name, tokenizer_class
from visiontok.tokens import Tokens


class ContinuousBase(Config):
    """The continuous tokenizer that is quantized.

    Attributes:
        family: its registry name; its quantizer is a Gaussian posterior.
        config: its configuration.
    """

    family: str
    config: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """With every field of the base's configuration, so that equal models have equal configurations."""
        if not isinstance(values, Mapping) or not isinstance(values.get("family"), str) or not isinstance(values.get("config"), Mapping):
            return values
        try:
            config = tokenizer_class(values["family"]).config_class.parse(values["config"], source=f"the configuration of {values['family']}")
        except UnknownNameError as error:
            raise ValueError(str(error)) from error
        return {**values, "config": config.to_dict()}

    def build(self) -> Tokenizer[Any]:
        """With random weights."""
        model_class = tokenizer_class(self.family)
        return model_class(model_class.config_class.parse(self.config))


class TokenBridgeConfig(Config):
    """What is quantized, and how.

    Attributes:
        base: family and configuration of the continuous tokenizer.
        quantizer: number of values per dimension, and the range of the latents.
    """

    base: ContinuousBase
    quantizer: DimensionWiseQuantizerConfig = DimensionWiseQuantizerConfig()


class TokenBridge(Tokenizer[TokenBridgeConfig]):
    """A continuous tokenizer with one token index for every dimension of every latent. Images and reconstructions in [0, 1].

    `encode` quantizes the posterior's mode, or a sample when noise is given, to which the published figures belong.
    """

    config_class = TokenBridgeConfig

    def __init__(self, config: TokenBridgeConfig, *, base: Tokenizer[Any] | None = None) -> None:
        """Quantize `base` where one is given, whose configuration is that in `config`, else a new one.

        Raises:
            ConfigError: if the base is not continuous, with a Gaussian posterior, or reads a text.
        """
        super().__init__(config)
        self.base: Tokenizer[Any] = base or config.base.build()
        bottleneck = self.base.quantizer
        if not isinstance(bottleneck, GaussianBottleneck) or self.base.text is not None:
            found = "reads a text" if self.base.text is not None else f"has a {type(bottleneck).__name__}"
            raise ConfigError(f"this {config.base.family} {found}; tokenizers with a Gaussian posterior and without a text can be quantized")
        self.quantizer: QuantizedBottleneck = QuantizedBottleneck(bottleneck, config.quantizer.build())
        self.preprocessing = self.base.preprocessing
        latents = self.base.layout.segments[0]
        tokens = {**latents.to_dict(), "channels": None, "vocab_size": config.quantizer.levels, "codebooks": latents.channels}
        self.layout = self.base.layout.replace(segments=[tokens])  # the dimensions of a latent are its codebooks

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> the base's posterior parameters (B, *shape, 2 D)."""
        return self.base.encode_latents(signal)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Quantized latents (B, *shape, D) -> (B, 3, H, W)."""
        return self.base.decode_latents(latents)

    @classmethod
    def quantizing(cls, base: Tokenizer[Any], quantizer: DimensionWiseQuantizerConfig) -> TokenBridge:
        """A trained continuous tokenizer, quantized: its weights are shared, not copied.

        Raises:
            ConfigError: if the tokenizer is not continuous, with a Gaussian posterior, or reads a text.
        """
        values = {"base": {"family": family_name(base), "config": base.config.to_dict()}, "quantizer": quantizer.to_dict()}
        model = cls(TokenBridgeConfig.parse(values, source="the tokenizer to be quantized"), base=base)
        return model.to(base.device).train(base.training)

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The autoencoder's tensors; the quantizer has none."""
        return convert_weights(state_dict)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> TokenBridgeConfig:
        """From the sizes of the autoencoder and the quantizer's `bits` and `range`."""
        return TokenBridgeConfig.parse(read_config(config), source="the TokenBridge reference configuration")

    def unwrap(self, tokens: Tokens) -> Tensor:
        segment = tokens.layout.segments[0]
        return tokens.indices.unflatten(1, (*segment.shape, segment.codebooks))
