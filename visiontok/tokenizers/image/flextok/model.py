"""FlexTok (Bachmann, Allardice, Mizrahi et al. 2025, arXiv 2502.13967): 1 to 256 ordered tokens, decoded by a rectified flow.

An autoencoder maps the image to a small grid of features; a transformer writes the grid into registers, which are quantized to the tokens; a second
transformer turns noise into a grid, conditioned on the tokens that it is given. Registers see only those before them and, in
training, the decoder sees only a prefix of them: so the most important content comes first, and any prefix decodes to an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.base.noise import Noise
from visiontok.core.tokenizer import EncodeOptions
from visiontok.decoders.flow.guidance import AdaptiveProjected
from visiontok.decoders.flow.sampling import FlowSampling
from visiontok.decoders.flow.training import FlowTimes, ModeTimes
from visiontok.layers.nested_dropout import NestedDropout, UniformLengths
from visiontok.quantizers.finite_scalar import FiniteScalarQuantizerConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.image.flextok.decoder import RegisterFlowDecoder
from visiontok.tokenizers.image.flextok.encoder import RegisterEncoder
from visiontok.tokenizers.image.flextok.reference import KEY_MAP, convert_weights, read_config
from visiontok.tokenizers.image.flextok.trunk import RegisterTrunkConfig
from visiontok.tokenizers.image.kl_vae.model import KlVae, KlVaeConfig
from visiontok.tokenizers.shared.flow_tokenizer import FlowTokenizer
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens


class FlexTokConfig(Config):
    """Sizes of a FlexTok.

    Attributes:
        image_size: side of the square image in pixels; positions are absolute, so no other size is taken.
        vae: the autoencoder whose latents are tokenized, never trained here; None to tokenize the pixels themselves, as values in [-1, 1].
        sample_posterior: whether training reads samples of the autoencoder's posterior instead of its mode.
        patch_size: side of a patch on the grid of features (of latents, or of pixels).
        num_registers: the longest sequence of tokens N.
        quantizer: finite scalars; their product is the vocabulary.
        encoder, decoder: sizes of the two transformers.
        time_features, time_scale: how the decoder embeds the time, see `TimestepEmbedding`.
        nested_dropout: how many tokens the decoder sees at a training step.
        null_probability: share of the training samples whose tokens it does not see at all, for classifier-free guidance.
        flow_times: at which times it is trained.
        sampling: how tokens are decoded.
    """

    image_size: Positive = 256
    vae: KlVaeConfig | None
    sample_posterior: bool = False
    patch_size: Positive = 2
    num_registers: Positive = 256
    quantizer: FiniteScalarQuantizerConfig = FiniteScalarQuantizerConfig(levels=(8, 8, 8, 5, 5, 5))
    encoder: RegisterTrunkConfig
    decoder: RegisterTrunkConfig
    time_features: int = Field(default=256, gt=0, multiple_of=2)
    time_scale: float = Field(default=1.0, gt=0)
    nested_dropout: NestedDropout = UniformLengths()
    null_probability: float = Field(default=0.2, ge=0, le=1)
    flow_times: FlowTimes = ModeTimes()
    sampling: FlowSampling = FlowSampling(steps=20, guidance=AdaptiveProjected(scale=7.5))

    @model_validator(mode="after")
    def _check(self) -> FlexTokConfig:
        stride = self.patch_size * (1 if self.vae is None else self.vae.stride)
        if self.image_size % stride:
            raise ValueError(f"patches of {stride} pixels do not divide an image of {self.image_size}")
        return self

    @property
    def grid(self) -> tuple[int, int, int]:
        """(H, W, C) of the features that are tokenized and that the flow makes."""
        side = self.image_size // (1 if self.vae is None else self.vae.stride)
        return side, side, 3 if self.vae is None else self.vae.bottleneck.dim


class FlexTok(FlowTokenizer[FlexTokConfig]):
    """Autoencoder, register encoder, finite scalars, flow decoder."""

    config_class = FlexTokConfig
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: FlexTokConfig) -> None:
        super().__init__(config)
        height, _, channels = config.grid
        shared = {"channels": channels, "grid_size": height, "patch_size": config.patch_size, "num_registers": config.num_registers}
        self.vae = None if config.vae is None else KlVae(config.vae).requires_grad_(False)
        self.encoder = RegisterEncoder(config.encoder, **shared, latent_dim=config.quantizer.dim)
        self.quantizer = config.quantizer.build()
        self.decoder = RegisterFlowDecoder(
            config.decoder,
            **shared,
            latent_dim=config.quantizer.dim,
            time_features=config.time_features,
            time_scale=config.time_scale,
            nested_dropout=config.nested_dropout,
            sampling=config.sampling,
            flow_times=config.flow_times,
            null_probability=config.null_probability,
        )
        self.preprocessing = ImagePreprocessing(size=config.image_size, interpolation="bilinear")
        self.layout = TokenLayout(
            modality="image",
            segments=(Segment(name="registers", shape=(config.num_registers,), vocab_size=config.quantizer.codebook_size),),
            signal_shape=(config.image_size, config.image_size),
            prefixes="any",
        )

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        return self.config.grid

    def encode_prepared(self, signal: Tensor, options: EncodeOptions) -> Tokens | Latents:
        """Tokens of images; noise samples the autoencoder's posterior, as the authors do."""
        indices = self.quantizer(self.encoder(self.features(signal, noise=options.noise))).indices
        assert indices is not None
        whole = Tokens(indices, self.layout)
        return whole if options.lengths is None else whole.prefix(options.lengths)

    def training_features(self, signal: Tensor, noise: Noise) -> Tensor:
        """Draws normal (B, H, W, C) where the posterior is sampled."""
        return self.features(signal, noise=noise if self.config.sample_posterior else None)

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names."""
        return convert_weights(state_dict)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> FlexTokConfig:
        """From the authors' tree of `_target_` entries, none of which is imported. Where there is no tree, from `sizes`, which has our fields."""
        return FlexTokConfig.parse(read_config(config), source="the FlexTok reference configuration")
