"""TokenBridge (Wang et al. 2025): a trained continuous tokenizer whose latents are quantized afterwards, dimension by dimension.

The published one quantizes the KL-16 autoencoder; here any continuous tokenizer of any family can take its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import model_validator
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError, UnknownNameError
from visiontok.core.quantized_latents import quantized_layout, to_latents, to_tokens
from visiontok.core.tokenizer import DecodeOptions, EncodeOptions, Tokenizer
from visiontok.quantizers.base import ContinuousBottleneck
from visiontok.quantizers.dimension_wise import DimensionWiseQuantizer, DimensionWiseQuantizerConfig
from visiontok.quantizers.quantized_bottleneck import QuantizedBottleneck
from visiontok.signals import SignalSpec
from visiontok.tokenizers.image.tokenbridge.reference import convert_weights, read_config
from visiontok.tokenizers.shared.families import family_name, tokenizer_class
from visiontok.tokens import Latents, Tokens


class ContinuousBase(Config):
    """The continuous tokenizer that is quantized.

    Attributes:
        family: its registry name.
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
    """A continuous tokenizer with one token for every dimension of every latent; signals, texts, lengths and positions are those of the base.

    `encode` quantizes the posterior's mode, or a sample where noise is given, as for the published metrics.
    """

    config_class = TokenBridgeConfig

    def __init__(self, config: TokenBridgeConfig, *, base: Tokenizer[Any] | None = None) -> None:
        """Quantize `base` where one is given, whose configuration is that in `config`, else a new one.

        Raises:
            ConfigError: if the base is discrete.
        """
        super().__init__(config)
        self.base: Tokenizer[Any] = base or config.base.build()
        bottleneck, family = self.base.quantizer, config.base.family
        if not self.base.layout.is_continuous or not isinstance(bottleneck, ContinuousBottleneck):
            raise ConfigError(
                f"this {family} is discrete already: its quantizer is a {type(bottleneck).__name__}. Only continuous latents are quantized"
            )
        self.quantizer: QuantizedBottleneck = QuantizedBottleneck(bottleneck=bottleneck, quantizer=config.quantizer.build())
        self.preprocessing, self.can_decode = self.base.preprocessing, self.base.can_decode
        self.nested_dropout = self.base.nested_dropout
        self.text, self.encoder_reads_text, self.text_encoder = self.base.text, self.base.encoder_reads_text, self.base.text_encoder
        self.layout = quantized_layout(self.base.layout, config.quantizer.levels)

    @classmethod
    def quantizing(cls, base: Tokenizer[Any], quantizer: DimensionWiseQuantizerConfig) -> TokenBridge:
        """A trained continuous tokenizer, quantized: its weights are shared, not copied.

        Raises:
            ConfigError: if the tokenizer is discrete.
            UnknownNameError: if it is of no family of this library, so that the result could not be loaded again.
        """
        values = {"base": {"family": family_name(base), "config": base.config.to_dict()}, "quantizer": quantizer.to_dict()}
        model = cls(TokenBridgeConfig.parse(values, source="the tokenizer to be quantized"), base=base)
        return model.to(base.device).train(base.training)

    @property
    def is_stochastic(self) -> bool:
        return self.base.is_stochastic

    @property
    def spec(self) -> SignalSpec:
        return self.base.spec

    def output_size(self, size: Sequence[int]) -> tuple[int, ...]:
        return self.base.output_size(size)

    def encode_prepared(self, signal: Tensor, options: EncodeOptions) -> Tokens | Latents:
        lengths = None if options.lengths is None else options.lengths // self._dims
        latents = self.base.encode_prepared(signal, replace(options, lengths=lengths))
        assert isinstance(latents, Latents)
        return to_tokens(latents, self._table)

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        assert isinstance(tokens, Tokens)
        return self.base.decode_tokens(to_latents(tokens, self.base.layout, self._table), options)

    def encode_latents(self, signal: Tensor, *text: Tensor) -> Tensor:
        """What the base's bottleneck reads; the text is that of bases whose encoder reads one."""
        return self.base.encode_latents(signal, *text)

    def decode_latents(self, latents: Tensor, *text: Tensor) -> Tensor:
        """Quantized latents (B, *shape, D), and the text that the base reads -> signal, not clamped."""
        return self.base.decode_latents(latents, *text)

    def decode_prefix(self, latents: Tensor, lengths: Tensor, *text: Tensor) -> Tensor:
        """The first latents of every sample, and the text that the base reads -> signal, not clamped."""
        return self.base.decode_prefix(latents, lengths, *text)

    def unwrap(self, tokens: Tokens) -> Tensor:
        """(B, *shape, D) indices."""
        segment = tokens.layout.segments[0]
        return tokens.indices.unflatten(1, (*segment.shape, segment.codebooks))

    @property
    def _dims(self) -> int:
        return self.layout.segments[0].codebooks

    @property
    def _table(self) -> DimensionWiseQuantizer:
        assert isinstance(self.quantizer.quantizer, DimensionWiseQuantizer)
        return self.quantizer.quantizer

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The autoencoder's tensors; the quantizer has none."""
        return convert_weights(state_dict)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> TokenBridgeConfig:
        """From the sizes of the autoencoder and the quantizer's `bits` and `range`."""
        return TokenBridgeConfig.parse(read_config(config), source="the TokenBridge reference configuration")
