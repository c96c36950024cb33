"""TokenBridge (Wang et al. 2025): a trained continuous tokenizer whose latents are quantized afterwards, dimension by dimension.

The published one quantizes the KL-16 autoencoder; other continuous image tokenizers of this library can be quantized too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.core.tokenizer import Tokenizer
from visiontok.quantizers.continuous import GaussianBottleneck
from visiontok.quantizers.dimension_wise import DimensionWiseQuantizerConfig
from visiontok.quantizers.quantized_bottleneck import QuantizedBottleneck
from visiontok.tokenizers.image.kl_vae.model import KlVae, KlVaeConfig
from visiontok.tokenizers.image.titok.model import TiTok, TiTokConfig
from visiontok.tokenizers.image.tokenbridge.reference import convert_weights, read_config
from visiontok.tokens import Tokens


class KlVaeBase(Config):
    """A KL autoencoder below."""

    family: Literal["kl-vae"] = "kl-vae"
    config: KlVaeConfig

    def build(self) -> KlVae:
        """With random weights."""
        return KlVae(self.config)


class TiTokBase(Config):
    """A TiTok with continuous latents below."""

    family: Literal["titok"] = "titok"
    config: TiTokConfig

    @model_validator(mode="after")
    def _check(self) -> TiTokBase:
        if self.config.quantizer.type != "gaussian":
            raise ValueError(
                f"this TiTok is discrete already (its quantizer is {self.config.quantizer.type!r}); only continuous latents are quantized"
            )
        return self

    def build(self) -> TiTok:
        """With random weights."""
        return TiTok(self.config)


class TokenBridgeConfig(Config):
    """What is quantized, and how.

    Attributes:
        base: family and configuration of the continuous tokenizer.
        quantizer: number of values per dimension, and the range of the latents.
    """

    base: Annotated[KlVaeBase | TiTokBase, Field(discriminator="family")]
    quantizer: DimensionWiseQuantizerConfig = DimensionWiseQuantizerConfig()


class TokenBridge(Tokenizer[TokenBridgeConfig]):
    """A continuous tokenizer with one token index for every dimension of every latent. Images and reconstructions in [0, 1].

    `encode` quantizes the posterior's mode, or a sample when noise is given, to which the published figures belong.
    """

    config_class = TokenBridgeConfig

    def __init__(self, config: TokenBridgeConfig, *, base: Tokenizer[Any] | None = None) -> None:
        """Quantize `base` where one is given, whose configuration is that in `config`, else a new one."""
        super().__init__(config)
        self.base: Tokenizer[Any] = base or config.base.build()
        assert isinstance(self.base.quantizer, GaussianBottleneck)
        self.quantizer: QuantizedBottleneck = QuantizedBottleneck(self.base.quantizer, config.quantizer.build())
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
            ConfigError: if the tokenizer is discrete, or of another family.
        """
        families = {KlVae: "kl-vae", TiTok: "titok"}
        if type(base) not in families:
            known = ", ".join(families.values())
            raise ConfigError(f"{type(base).__name__} cannot be quantized dimension by dimension; continuous tokenizers that can are {known}")
        values = {"base": {"family": families[type(base)], "config": base.config.to_dict()}, "quantizer": quantizer.to_dict()}
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
