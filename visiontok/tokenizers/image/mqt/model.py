"""MQT, the Matryoshka Query Transformer (Hu et al. 2024, arXiv 2405.19315): image features as 1 to 256 continuous tokens for a language model.

Not a tokenizer of pixels: it takes the features of a CLIP model, and a language model reads its output, so there is no decoder. It
is here for its tokens, any prefix of which represents the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.base.noise import NoiseLike
from visiontok.core.tokenizer import EncodeOptions, Tokenizer
from visiontok.layers.nested_dropout import NestedDropout, UniformLengths
from visiontok.quantizers.continuous import IdentityBottleneckConfig
from visiontok.signals import FeaturePreprocessing
from visiontok.tokenizers.image.mqt.encoder import QueryResampler
from visiontok.tokenizers.image.mqt.reference import KEY_MAP, read_config
from visiontok.tokens import Latents, Segment, TokenLayout


class MqtConfig(Config):
    """Sizes of an MQT.

    Attributes:
        query_side: of the square grid of query positions; its square is the longest sequence M.
        feature_side: of the square grid of features that it reads.
        feature_dim: of a feature.
        output_dim: of a token, that of the language model.
        num_heads: attention heads; must divide `feature_dim`.
        patch_size: pixels per feature along a side.
        nested_dropout: how many tokens a training step keeps.
    """

    query_side: Positive = 16
    feature_side: Positive = 24
    feature_dim: int = Field(default=1024, gt=0, multiple_of=4)
    output_dim: Positive = 4096
    num_heads: Positive = 16
    patch_size: Positive = 14
    nested_dropout: NestedDropout = UniformLengths(shortest=2, step=2)

    @model_validator(mode="after")
    def _check(self) -> MqtConfig:
        if self.feature_dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide dim {self.feature_dim}")
        return self


class Mqt(Tokenizer[MqtConfig]):
    """Image features -> `Latents` of any length up to M, which a language model reads. It only encodes."""

    config_class = MqtConfig
    can_decode = False
    nested_dropout: NestedDropout
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: MqtConfig) -> None:
        super().__init__(config)
        self.encoder = QueryResampler(
            query_side=config.query_side,
            feature_side=config.feature_side,
            feature_dim=config.feature_dim,
            output_dim=config.output_dim,
            num_heads=config.num_heads,
        )
        self.quantizer = IdentityBottleneckConfig(dim=config.output_dim).build()
        self.nested_dropout = config.nested_dropout
        self.preprocessing = FeaturePreprocessing(channels=config.feature_dim, length=config.feature_side**2)
        self.layout = TokenLayout(
            modality="features",
            segments=(Segment(name="queries", shape=(config.query_side**2,), channels=config.output_dim),),
            signal_shape=(config.feature_side**2,),
            prefixes="any",
        )

    def encode_latents(self, signal: Tensor) -> Tensor:
        """Features (B, D, n) -> all M latents (B, M, output_dim); the first m of them are those of m queries alone."""
        return self.encoder(signal.transpose(1, 2))

    def encode_prepared(self, signal: Tensor, options: EncodeOptions) -> Latents:
        """The first latents of every sample; no more than the longest of them are computed."""
        longest = None if options.lengths is None else int(options.lengths.max())
        latents = Latents(self.encoder(signal.transpose(1, 2), longest), self.layout)
        return latents if options.lengths is None else latents.prefix(options.lengths)

    def random_prefix(self, features: Tensor, *, noise: NoiseLike = None) -> Tensor:
        """The input of the language model at a training step: the first m latents (B, m, output_dim), with one m for the whole batch, as published.

        `nested_dropout` draws m from `noise`, one draw.
        """
        return self.encoder(features.transpose(1, 2), int(self.nested_dropout.draw(1, self.layout.length, noise=noise)))

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> MqtConfig:
        """From the arguments of the authors' module: grid_size, embed_dim, num_heads, kv_dim, and tgt_size, the side of the grid of features."""
        return MqtConfig.parse(read_config(config), source="the MQT reference configuration")
