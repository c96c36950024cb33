"""Selftok (Wang et al. 2025, arXiv 2505.07538): 512 ordered tokens; how many of them the decoder sees follows from how noisy its picture still is.

Reads top to bottom: configuration, model, and how the released weights map to it. Stable Diffusion 3's autoencoder brings the picture to a grid
of latents; learned queries read the grid and are quantized to the tokens; a rectified flow, or a renderer that was trained after it, makes the
grid again. At pure noise the flow sees all tokens, near the end only the first: those matter always, the last only for the first outline.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Self

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError, TokenError
from visiontok.core.model import load_weights
from visiontok.core.tokenizer import Tokenizer, TokenizerOutput
from visiontok.decoders.flow.sampling import euler, seeded_noise, starting_noise
from visiontok.decoders.flow.training import FlowTimes, ModeTimes, estimate, flow_loss, mix
from visiontok.decoders.flow.visible_tokens import VisibleTokens
from visiontok.layers.bfloat16 import products_for
from visiontok.quantizers.positional_vector import PositionalVectorQuantizer, PositionalVectorQuantizerConfig
from visiontok.signals.image_preprocessing import ImagePreprocessing
from visiontok.tokenizers.image.kl_vae.model import KlVae, KlVaeConfig
from visiontok.tokenizers.image.selftok.decoder import JointFlowDecoder, JointOneStepDecoder
from visiontok.tokenizers.image.selftok.encoder import DualStreamConfig, DualStreamEncoder
from visiontok.tokenizers.image.selftok.joint_transformer import JointTransformerConfig
from visiontok.tokenizers.image.selftok.reference import REFERENCE_KEYS, centre_of_table, in_our_shapes, read_reference, without_unread
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens


class FlowDecoding(Config):
    """Decode along a rectified flow.

    Attributes:
        visible: how many tokens are seen at which time.
        tokens_see_image: whether tokens attend to the noisy picture.
        steps: of the flow; each is one pass of the decoder.
        null_probability: share of the training samples whose tokens say nothing.
        flow_times: at which times it is trained.
    """

    type: Literal["flow"] = "flow"
    visible: VisibleTokens
    tokens_see_image: bool = True
    steps: int = Field(default=50, gt=0)
    null_probability: float = Field(default=0.1, ge=0, le=1)
    flow_times: FlowTimes = ModeTimes(mode_scale=0.0)


class OneStepDecoding(Config):
    """Decode in one pass from all tokens (the renderer). Training it leaves encoder and codebook as they are."""

    type: Literal["one_step"] = "one_step"


class SelftokConfig(Config):
    """Sizes of a Selftok.

    Attributes:
        image_size: side of the square image in pixels; positions are absolute, so no other size is taken.
        latent_stride: pixels per position of the grid that is tokenized, along a side.
        channels: of that grid.
        vae: the autoencoder between pictures and the grid, never trained here. None without one: then either the grid is the picture itself, with
            values in [-1, 1] (stride 1, 3 channels), or the model waits for `attach`.
        patch_size: side of a patch on the grid.
        num_tokens: K.
        encoder, quantizer, decoder: sizes of the parts.
        decoding: by a flow, or in one step.
    """

    image_size: int = Field(default=256, gt=0)
    latent_stride: int = Field(default=8, gt=0)
    channels: int = Field(default=16, gt=0)
    vae: KlVaeConfig | None = None
    patch_size: int = Field(default=2, gt=0)
    num_tokens: int = Field(default=512, gt=0)
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


class Selftok(Tokenizer[SelftokConfig]):
    """Autoencoder, dual-stream encoder, cosine codebook, joint transformer.

    Tokens are stored as they are numbered; generators are to write them from the last to the first, as the authors' do.
    """

    config_class = SelftokConfig
    decoder: JointFlowDecoder | JointOneStepDecoder

    def __init__(self, config: SelftokConfig) -> None:
        super().__init__(config)
        grid_size, _, channels = config.grid
        grid = {"channels": channels, "grid_size": grid_size, "patch_size": config.patch_size}
        codes = {"num_tokens": config.num_tokens, "latent_dim": config.quantizer.dim}
        is_flow = isinstance(config.decoding, FlowDecoding)
        self.vae = None if config.vae is None else KlVae(config.vae).requires_grad_(False)
        self.encoder = DualStreamEncoder(config.encoder, **grid, num_queries=config.num_tokens, latent_dim=config.quantizer.dim)
        self.quantizer: PositionalVectorQuantizer = config.quantizer.build()
        if isinstance(config.decoding, FlowDecoding):
            self.decoder = JointFlowDecoder(config.decoder, **grid, **codes, tokens_see_image=config.decoding.tokens_see_image)
        else:
            self.decoder = JointOneStepDecoder(config.decoder, **grid, **codes)
            self.encoder.requires_grad_(False)
        self.preprocessing = ImagePreprocessing(size=config.image_size, interpolation="bilinear")
        self.layout = TokenLayout(
            modality="image",
            segments=(Segment(name="queries", shape=(config.num_tokens,), vocab_size=config.quantizer.codebook_size),),
            signal_shape=(config.image_size, config.image_size),
            prefix_decodable=is_flow,
            order=tuple(reversed(range(config.num_tokens))),
        )

    # Between pictures and the grid.

    def attach(self, vae: KlVae) -> Self:
        """Take a trained autoencoder for a model that has none, such as a released one; returns self.

        Raises:
            ConfigError: if its stride or channels do not fit.
        """
        self.config = self.config.replace(vae=vae.config.to_dict())
        self.vae = vae.requires_grad_(False).to(device=self.device, dtype=self.dtype).eval()
        return self

    @torch.no_grad()
    def features(self, signal: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> what is tokenized (B, H, W, C): the mode of the autoencoder's posterior.

        Raises:
            ConfigError: if the model waits for an autoencoder.
        """
        if self.vae is None:
            self._check_pixels()
            return (signal * 2 - 1).permute(0, 2, 3, 1)
        posterior = self.vae.encode_latents(signal)
        return self.vae.quantizer.mode(posterior)

    def pictures(self, features: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, 3, S, S), about [0, 1].

        Raises:
            ConfigError: if the model waits for an autoencoder.
        """
        if self.vae is None:
            self._check_pixels()
            return (features.permute(0, 3, 1, 2) + 1) / 2
        return self.vae.decode_latents(features)

    def _check_pixels(self) -> None:
        if (self.config.latent_stride, self.config.channels) != (1, 3):
            raise ConfigError(
                f"this Selftok reads an autoencoder's latents of {self.config.channels} channels and holds no autoencoder: "
                'tokenizer.attach(visiontok.from_pretrained("sd3-vae")) gives it one'
            )

    # Encoding and decoding.

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> (B, K, D), before quantization."""
        return self.encoder(self.features(signal))

    @property
    def starts_from_noise(self) -> bool:
        """Whether `decode` draws where it is given a generator: the one-step renderer has no noise."""
        return isinstance(self.config.decoding, FlowDecoding)

    @torch.no_grad()
    def decode(
        self,
        tokens: Tokens | Latents,
        *,
        steps: int | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Tokens -> images (B, 3, S, S) clamped to [0, 1].

        A flow starts from noise. Without a generator and without noise, a sample's noise follows from its first id: the same tokens, and all of
        their prefixes, meet the same noise, whatever else is in the batch. A prefix hides the other tokens at every time.

        Args:
            tokens: what `encode` gave, perhaps shortened.
            steps: of the flow; None for those of the configuration.
            generator: draws the noise, sample by sample.
            noise: (B, H, W, C) itself.

        Raises:
            TokenError: if the tokens have another layout, an id is out of range, the noise has another shape, or steps or noise are given for a
                decoder that has neither.
        """
        if isinstance(self.config.decoding, OneStepDecoding) and (steps, generator, noise) != (None, None, None):
            raise TokenError("this Selftok decodes in one step, without noise: leave out steps, generator and noise")
        checked = self.checked(tokens)
        assert isinstance(checked, Tokens)
        with products_for(next(self.parameters())):
            return self._picture(checked, steps=steps, generator=generator, noise=noise).clamp(0, 1)

    def decode_tokens(self, tokens: Tokens | Latents) -> Tensor:
        """Checked tokens -> images (B, 3, S, S), not clamped."""
        assert isinstance(tokens, Tokens)
        return self._picture(tokens)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Codes (B, K, D) -> images (B, 3, S, S), not clamped, a flow's all from one noise: codes alone do not tell the ids that seed it."""
        if isinstance(self.decoder, JointOneStepDecoder):
            return self.pictures(self.decoder(self.decoder.trunk.context(latents)))
        return self.decode_prefix(latents, torch.full((len(latents),), latents.shape[1]))

    def decode_prefix(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """The first codes of every sample -> images, not clamped, all from one noise."""
        noise = seeded_noise([0] * len(latents), self.config.grid)
        return self.pictures(self.denoise(latents, lengths, noise.to(latents)))

    def denoise(self, codes: Tensor, lengths: Tensor, noise: Tensor, *, steps: int | None = None) -> Tensor:
        """Follow the flow.

        Args:
            codes: (B, L <= K, D).
            lengths: (B,), how many of its codes a sample keeps.
            noise: (B, H, W, C).
            steps: None for those of the configuration.

        Returns:
            features (B, H, W, C).
        """
        config, decoder = self._flow()
        context, kept = decoder.trunk.context(codes), lengths.cpu()

        def velocity(noisy: Tensor, time: Tensor) -> Tensor:
            seen = int(config.visible.at((1000 * time).int()))  # whole thousandths, as the authors count
            return decoder(noisy, time, context, kept.clamp_max(seen))

        return euler(velocity, noise, steps=config.steps if steps is None else steps)

    def _picture(self, tokens: Tokens, *, steps: int | None = None, generator: torch.Generator | None = None, noise: Tensor | None = None) -> Tensor:
        codes = self.codes_of(tokens)
        if isinstance(self.decoder, JointOneStepDecoder):
            return self.decode_latents(codes)
        start = starting_noise(tokens.indices, self.config.grid, generator=generator, noise=noise)
        return self.pictures(self.denoise(codes, tokens.sample_lengths, start.to(codes), steps=steps))

    def _flow(self) -> tuple[FlowDecoding, JointFlowDecoder]:
        if not isinstance(self.config.decoding, FlowDecoding) or not isinstance(self.decoder, JointFlowDecoder):
            raise TokenError("this Selftok decodes in one step: it has no flow, and needs every token")
        return self.config.decoding, self.decoder

    # Training.

    def forward(self, signal: Tensor) -> TokenizerOutput:
        """Training pass: the quantizer's losses and `flow`, that of one noisy sample per picture at a random time; for the renderer `latents` alone.

        In training the reconstruction is the decoder's guess at the features (B, H, W, C); in evaluation mode it is the decoded picture. All draws
        come from torch's global state.
        """
        data = self.features(signal)
        if isinstance(self.decoder, JointOneStepDecoder):
            indices = self.quantizer.search(self.encoder(data))
            codes, losses, stats = self.quantizer.lookup(indices), {}, {}
        else:
            quantized = self.quantizer(self.encoder(data))
            assert quantized.indices is not None
            indices, codes, losses, stats = quantized.indices, quantized.latents, quantized.losses, quantized.stats
        tokens = Tokens(indices, self.layout)
        if not self.training:
            reconstruction = self.decode_tokens(tokens)
        elif isinstance(self.decoder, JointOneStepDecoder):
            reconstruction = self.decoder(self.decoder.trunk.context(codes))
            losses = {"latents": F.mse_loss(reconstruction.float(), data.float())}
        else:
            reconstruction, flow = self._flow_terms(data, codes)
            losses = {**losses, "flow": flow}
        return TokenizerOutput(reconstruction, tokens, codes, losses, stats)

    def _flow_terms(self, data: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The guess at the features (B, H, W, C), and the loss."""
        config, decoder = self._flow()
        times, noise = config.flow_times.draw(len(data), device=data.device), torch.randn_like(data)
        dropped = torch.rand(len(data), device=data.device) < config.null_probability
        noisy, seen = mix(data, noise, times), config.visible.at(1000 * times)
        velocity = decoder(noisy, times, decoder.trunk.context(codes, dropped=dropped), seen.cpu())
        return estimate(noisy, velocity, times), flow_loss(velocity, data, noise).mean()

    # The authors' checkpoints.

    reference_keys: ClassVar = REFERENCE_KEYS

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names; tables of positions as they are, which may cover a larger grid."""
        return in_our_shapes(super().weights_from_reference(without_unread(state_dict)))

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> SelftokConfig:
        """From the authors' YAML; its encoders and decoders are classes whose sizes `fixture_sizes` may change."""
        return SelftokConfig.parse(read_reference(config), source="the Selftok reference configuration")

    @classmethod
    def from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Self:
        """As for every model; of the tables of positions only the centre, as large as the grid, is taken."""
        ours = cls.config_from_reference(config, state_dict)
        weights = cls.weights_from_reference(state_dict)
        for name in {"encoder.patch_positions", "decoder.patch_positions"} & set(weights):
            weights[name] = centre_of_table(weights[name], ours.grid[0] // ours.patch_size)
        model = cls(ours)
        load_weights(model, weights, source="the reference checkpoint")
        return model.eval()
