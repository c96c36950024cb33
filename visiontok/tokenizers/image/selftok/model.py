"""Selftok (Wang et al. 2025, arXiv 2505.07538): 512 ordered tokens, of which the decoder sees fewer as its image becomes less noisy.

Stable Diffusion 3's autoencoder maps the image to a grid of latents; learned queries read the grid and are quantized to the tokens; a rectified flow,
or a renderer that was trained after it, reconstructs the grid. At pure noise the flow sees all tokens, near the end only the first: the first tokens
are used at all times, the last ones only at high noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import Self

from visiontok.base.config import Config, Positive
from visiontok.base.errors import ConfigError
from visiontok.base.noise import NoiseLike
from visiontok.decoders.flow.guidance import Guidance
from visiontok.decoders.flow.sampling import FlowSampling
from visiontok.decoders.flow.training import FlowTimes, ModeTimes
from visiontok.quantizers.positional_vector import PositionalVectorQuantizerConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.image.kl_vae.model import KlVae, KlVaeConfig
from visiontok.tokenizers.image.selftok.decoder import JointFlowDecoder, JointOneStepDecoder
from visiontok.tokenizers.image.selftok.encoder import DualStreamConfig, DualStreamEncoder
from visiontok.tokenizers.image.selftok.joint_transformer import JointTransformerConfig
from visiontok.tokenizers.image.selftok.reference import KEY_MAP, center_of_table, convert_weights, read_config
from visiontok.tokenizers.image.selftok.visible_tokens import VisibleTokens
from visiontok.tokenizers.shared.flow_tokenizer import FlowTokenizer
from visiontok.tokens import Segment, TokenLayout


class FlowDecoding(Config):
    """Decode along a rectified flow.

    Attributes:
        visible: how many tokens are visible at which time.
        tokens_see_image: whether tokens attend to the noisy image.
        steps: of the flow; each is one pass of the decoder.
        guidance: how the velocities with and without tokens are combined; None, as the authors do, for the velocity with tokens alone.
        null_probability: share of the training samples whose tokens are not seen.
        flow_times: at which times it is trained.
    """

    type: Literal["flow"] = "flow"
    visible: VisibleTokens
    tokens_see_image: bool = True
    steps: Positive = 50
    guidance: Guidance | None = None
    null_probability: float = Field(default=0.1, ge=0, le=1)
    flow_times: FlowTimes = ModeTimes(mode_scale=0.0)

    @property
    def sampling(self) -> FlowSampling:
        """Steps and guidance where a call gives none."""
        return FlowSampling(steps=self.steps, guidance=self.guidance)


class OneStepDecoding(Config):
    """Decode in one pass from all tokens (the renderer). Training it leaves encoder and codebook as they are."""

    type: Literal["one_step"] = "one_step"


class SelftokConfig(Config):
    """Sizes of a Selftok.

    Attributes:
        image_size: side of the square image in pixels; positions are absolute, so no other size is taken.
        latent_stride: pixels per position of the grid that is tokenized, along a side.
        channels: of that grid.
        vae: the autoencoder between images and the grid, never trained here. None without one: then either the grid is the image itself, with
            values in [-1, 1] (stride 1, 3 channels), or the model waits for `attach`.
        patch_size: side of a patch on the grid.
        num_tokens: K.
        encoder, quantizer, decoder: sizes of the parts.
        decoding: by a flow, or in one step.
    """

    image_size: Positive = 256
    latent_stride: Positive = 8
    channels: Positive = 16
    vae: KlVaeConfig | None = None
    patch_size: Positive = 2
    num_tokens: Positive = 512
    encoder: DualStreamConfig = DualStreamConfig()
    quantizer: PositionalVectorQuantizerConfig
    decoder: JointTransformerConfig = JointTransformerConfig()
    decoding: Annotated[FlowDecoding | OneStepDecoding, Field(discriminator="type")]

    @model_validator(mode="after")
    def _check(self) -> SelftokConfig:
        stride = self.latent_stride * self.patch_size
        if self.image_size % stride:
            raise ValueError(f"patches of {stride} pixels do not divide an image of {self.image_size}")
        if self.quantizer.num_positions != self.num_tokens:
            raise ValueError(f"the quantizer has {self.quantizer.num_positions} positions for {self.num_tokens} tokens")
        if isinstance(self.decoding, FlowDecoding) and sum(self.decoding.visible.tokens_per_stage) != self.num_tokens:
            raise ValueError(f"tokens_per_stage must sum to the {self.num_tokens} tokens, got {sum(self.decoding.visible.tokens_per_stage)}")
        if self.vae is not None and (self.vae.stride, self.vae.bottleneck.dim) != (self.latent_stride, self.channels):
            raise ValueError(
                f"an autoencoder of stride {self.vae.stride} with {self.vae.bottleneck.dim} channels does not give the grid of stride "
                f"{self.latent_stride} with {self.channels} channels"
            )
        return self

    @property
    def grid(self) -> tuple[int, int, int]:
        """(H, W, C) of what is tokenized."""
        side = self.image_size // self.latent_stride
        return side, side, self.channels


class Selftok(FlowTokenizer[SelftokConfig]):
    """Autoencoder, dual-stream encoder, cosine codebook, joint transformer.

    Tokens are stored from the first to the last; generators write them from the last to the first, as the authors' do.
    """

    config_class = SelftokConfig
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: SelftokConfig) -> None:
        super().__init__(config)
        grid_size, _, channels = config.grid
        grid = {"channels": channels, "grid_size": grid_size, "patch_size": config.patch_size}
        self.vae = None if config.vae is None else KlVae(config.vae).requires_grad_(False)
        self.encoder = DualStreamEncoder(config.encoder, **grid, num_queries=config.num_tokens, latent_dim=config.quantizer.dim)
        self.quantizer = config.quantizer.build()
        codes = {"num_tokens": config.num_tokens, "latent_dim": config.quantizer.dim}
        self.decoder: JointFlowDecoder | JointOneStepDecoder
        if isinstance(config.decoding, FlowDecoding):
            self.decoder = JointFlowDecoder(
                config.decoder,
                **grid,
                **codes,
                tokens_see_image=config.decoding.tokens_see_image,
                visible=config.decoding.visible,
                sampling=config.decoding.sampling,
                flow_times=config.decoding.flow_times,
                null_probability=config.decoding.null_probability,
            )
        else:
            self.decoder = JointOneStepDecoder(config.decoder, **grid, **codes)
        self.encoder.requires_grad_(self.decoder.trains_codes)
        self.preprocessing = ImagePreprocessing(size=config.image_size, interpolation="bilinear")
        self.layout = TokenLayout(
            modality="image",
            segments=(Segment(name="queries", shape=(config.num_tokens,), vocab_size=config.quantizer.codebook_size),),
            signal_shape=(config.image_size, config.image_size),
            prefixes="any" if isinstance(config.decoding, FlowDecoding) else "none",
            order="reverse",
        )

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        return self.config.grid

    def attach(self, vae: KlVae) -> Self:
        """Take a trained autoencoder for a model that has none, such as a released one; returns self.

        Raises:
            ConfigError: if its stride or channels do not fit.
        """
        self.config = self.config.replace(vae=vae.config.to_dict())
        self.vae = vae.requires_grad_(False).to(device=self.device, dtype=self.dtype).eval()
        return self

    def features(self, signal: Tensor, *, noise: NoiseLike = None) -> Tensor:
        """See `FlowTokenizer.features`.

        Raises:
            ConfigError: if the model waits for an autoencoder.
        """
        self._check_autoencoder()
        return super().features(signal, noise=noise)

    def images(self, features: Tensor) -> Tensor:
        """See `FlowTokenizer.images`.

        Raises:
            ConfigError: if the model waits for an autoencoder.
        """
        self._check_autoencoder()
        return super().images(features)

    def _check_autoencoder(self) -> None:
        if self.vae is None and (self.config.latent_stride, self.config.channels) != (1, 3):
            raise ConfigError(
                f"this Selftok reads an autoencoder's latents of {self.config.channels} channels and holds no autoencoder: "
                'tokenizer.attach(visiontok.from_pretrained("sd3-vae")) gives it one'
            )

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names; tables of positions as they are, which may cover a larger grid."""
        return convert_weights(state_dict)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> SelftokConfig:
        """From the authors' YAML; its encoders and decoders are classes whose sizes `fixture_sizes` may change."""
        return SelftokConfig.parse(read_config(config), source="the Selftok reference configuration")

    @classmethod
    def weights_for(cls, config: Config, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Model`; of the tables of positions only the center, as large as the grid, is taken."""
        assert isinstance(config, SelftokConfig)
        weights = cls.weights_from_reference(state_dict)
        for name in {"encoder.patch_positions", "decoder.patch_positions"} & set(weights):
            weights[name] = center_of_table(weights[name], config.grid[0] // config.patch_size)
        return weights
