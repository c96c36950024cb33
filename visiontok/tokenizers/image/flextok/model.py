"""FlexTok (Bachmann, Allardice, Mizrahi et al. 2025, arXiv 2502.13967): 1 to 256 ordered tokens, decoded by a rectified flow.

Reads top to bottom: configuration, model, and how the released weights map to it. An autoencoder brings the picture to a small grid of features;
a transformer writes the grid into registers, which are quantized to the tokens; a second transformer turns noise into a grid again, led by
as many of the tokens as it is given. Registers see only those before them and, in training, the decoder sees only a prefix of them: so what
matters most stands first, and any prefix decodes to a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.noise import RecordedNoise
from visiontok.core.keymap import KeyMap
from visiontok.core.tokenizer import Tokenizer, TokenizerOutput
from visiontok.decoders.flow.guidance import AdaptiveProjected, Guidance
from visiontok.decoders.flow.sampling import Velocity, drawn_noise, euler, guided, seeded_noise, starting_noise
from visiontok.decoders.flow.training import FlowTimes, ModeTimes, estimate, flow_loss, mix
from visiontok.layers.bfloat16 import products_for
from visiontok.layers.nested_dropout import NestedDropout, UniformLengths
from visiontok.quantizers.finite_scalar import FiniteScalarQuantizerConfig
from visiontok.signals.image_preprocessing import ImagePreprocessing
from visiontok.tokenizers.image.flextok.decoder import FlowCondition, RegisterFlowDecoder
from visiontok.tokenizers.image.flextok.encoder import RegisterEncoder
from visiontok.tokenizers.image.flextok.reference import read_tree
from visiontok.tokenizers.image.flextok.trunk import RegisterTrunkConfig
from visiontok.tokenizers.image.kl_vae.model import KlVae, KlVaeConfig
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens


class FlowSampling(Config):
    """How tokens are decoded unless the caller says otherwise.

    Attributes:
        steps: of the flow; each is one pass of the decoder.
        guidance: how far to exaggerate what the tokens say; None for not at all.
    """

    steps: int = Field(default=20, gt=0)
    guidance: Guidance | None = AdaptiveProjected(scale=7.5)


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
        time_features, time_scale: how the decoder is told the time, see `TimestepEmbedding`.
        nested_dropout: how many tokens the decoder sees at a training step.
        null_probability: share of the training samples whose tokens it does not see at all, which is what guidance guides away from.
        flow_times: at which times it is trained.
        sampling: how tokens are decoded.
    """

    image_size: int = Field(default=256, gt=0)
    vae: KlVaeConfig | None
    sample_posterior: bool = False
    patch_size: int = Field(default=2, gt=0)
    num_registers: int = Field(default=256, gt=0)
    quantizer: FiniteScalarQuantizerConfig = FiniteScalarQuantizerConfig(levels=(8, 8, 8, 5, 5, 5))
    encoder: RegisterTrunkConfig
    decoder: RegisterTrunkConfig
    time_features: int = Field(default=256, gt=0, multiple_of=2)
    time_scale: float = Field(default=1.0, gt=0)
    nested_dropout: NestedDropout = UniformLengths()
    null_probability: float = Field(default=0.2, ge=0, le=1)
    flow_times: FlowTimes = ModeTimes()
    sampling: FlowSampling = FlowSampling()

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


class FlexTok(Tokenizer[FlexTokConfig]):
    """Autoencoder, register encoder, finite scalars, flow decoder."""

    config_class = FlexTokConfig

    def __init__(self, config: FlexTokConfig) -> None:
        super().__init__(config)
        height, _, channels = config.grid
        shared = {"channels": channels, "grid_size": height, "patch_size": config.patch_size, "num_registers": config.num_registers}
        self.vae = None if config.vae is None else KlVae(config.vae).requires_grad_(False)
        self.encoder = RegisterEncoder(config.encoder, **shared, latent_dim=config.quantizer.dim)
        self.quantizer = config.quantizer.build()
        self.decoder = RegisterFlowDecoder(
            config.decoder, **shared, latent_dim=config.quantizer.dim, time_features=config.time_features, time_scale=config.time_scale
        )
        self.preprocessing = ImagePreprocessing(size=config.image_size, interpolation="bilinear")
        self.layout = TokenLayout(
            modality="image",
            segments=(Segment(name="registers", shape=(config.num_registers,), vocab_size=config.quantizer.codebook_size),),
            signal_shape=(config.image_size, config.image_size),
            prefix_decodable=True,
        )

    # Between pictures and the grid of features.

    @torch.no_grad()
    def features(self, signal: Tensor, *, noise: Tensor | None = None) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> what is tokenized (B, H, W, C): the mode of the autoencoder's posterior, or its mean + deviation * noise."""
        if self.vae is None:
            return (signal * 2 - 1).permute(0, 2, 3, 1)
        posterior = self.vae.encode_latents(signal)
        if noise is None:
            return self.vae.quantizer.mode(posterior)
        return self.vae.quantizer(posterior, noise=RecordedNoise(normal=[noise])).latents

    def pictures(self, features: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, 3, S, S), about [0, 1]."""
        return (features.permute(0, 3, 1, 2) + 1) / 2 if self.vae is None else self.vae.decode_latents(features)

    # Encoding.

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> (B, N, D), before quantization."""
        return self.encoder(self.features(signal))

    def encode_prepared(self, prepared: Tensor, lengths: Tensor | None, generator: torch.Generator | None) -> Tokens | Latents:
        """Tokens of a preprocessed batch; a generator draws from the autoencoder's posterior, as the authors do."""
        noise = None if generator is None else drawn_noise(len(prepared), self.config.grid, generator).to(prepared)
        indices = self.quantizer(self.encoder(self.features(prepared, noise=noise))).indices
        assert indices is not None
        whole = Tokens(indices, self.layout)
        return whole if lengths is None else whole.prefix(lengths)

    # Decoding.

    @property
    def starts_from_noise(self) -> bool:
        """Whether `decode` draws where it is given a generator."""
        return True

    @torch.no_grad()
    def decode(
        self,
        tokens: Tokens | Latents,
        *,
        sampling: FlowSampling | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Tokens of any lengths -> images (B, 3, S, S) clamped to [0, 1].

        The flow starts from noise. Without a generator and without noise, a sample's noise follows from its first id: the same tokens, and all of
        their prefixes, meet the same noise, whatever else is in the batch.

        Args:
            tokens: what `encode` gave, perhaps shortened.
            sampling: steps and guidance; None for those of the configuration.
            generator: draws the noise, sample by sample.
            noise: (B, H, W, C) itself.

        Raises:
            TokenError: if the tokens have another layout, an id is out of range, or the noise has another shape.
        """
        checked = self.checked(tokens)
        assert isinstance(checked, Tokens)
        with products_for(next(self.parameters())):
            return self._picture(checked, sampling or self.config.sampling, generator=generator, noise=noise).clamp(0, 1)

    def decode_tokens(self, tokens: Tokens | Latents) -> Tensor:
        """Checked tokens -> images (B, 3, S, S), not clamped."""
        assert isinstance(tokens, Tokens)
        return self._picture(tokens, self.config.sampling)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Codes (B, N, D) -> images (B, 3, S, S), not clamped, all from one noise: codes alone do not tell the ids that seed it."""
        return self.decode_prefix(latents, torch.full((len(latents),), latents.shape[1], device=latents.device))

    def decode_prefix(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """The first codes of every sample -> images, not clamped, all from one noise."""
        noise = seeded_noise([0] * len(latents), self.config.grid)
        return self.pictures(self.denoise(latents, lengths, noise.to(latents), self.config.sampling))

    def denoise(self, codes: Tensor, lengths: Tensor, noise: Tensor, sampling: FlowSampling) -> Tensor:
        """Follow the flow.

        Args:
            codes: (B, L <= N, D).
            lengths: (B,), how many of its codes a sample keeps.
            noise: (B, H, W, C).
            sampling: steps and guidance.

        Returns:
            features (B, H, W, C).
        """
        velocity: Velocity = partial(self.decoder, condition=self.decoder.condition(codes, lengths))
        if sampling.guidance is not None:
            # Not one batch of both: without tokens a sample has one register, and would be padded to as many as it has with them.
            nothing = self.decoder.condition(codes, torch.zeros_like(lengths), dropped=torch.ones_like(lengths, dtype=torch.bool))
            velocity = guided(velocity, partial(self.decoder, condition=nothing), sampling.guidance)
        return euler(velocity, noise, steps=sampling.steps)

    def _picture(self, tokens: Tokens, sampling: FlowSampling, *, generator: torch.Generator | None = None, noise: Tensor | None = None) -> Tensor:
        start = starting_noise(tokens.indices, self.config.grid, generator=generator, noise=noise)
        codes = self.codes_of(tokens)
        return self.pictures(self.denoise(codes, tokens.sample_lengths, start.to(codes), sampling))

    # Training.

    def forward(self, signal: Tensor) -> TokenizerOutput:
        """Training pass: the loss `flow` of one noisy sample per picture, seen at a random time with a random prefix.

        In training the reconstruction is the flow's guess at the features (B, H, W, C) from that sample; in evaluation mode it is the decoded
        picture. All draws come from torch's global state.
        """
        config, device = self.config, signal.device
        posterior_noise = torch.randn(len(signal), *config.grid, device=device) if self.training and config.sample_posterior else None
        data = self.features(signal, noise=posterior_noise)
        quantized = self.quantizer(self.encoder(data))
        assert quantized.indices is not None
        tokens = Tokens(quantized.indices, self.layout)
        losses, stats = quantized.losses, quantized.stats
        if self.training:
            times, noise = config.flow_times.draw(len(data), device=device), torch.randn_like(data)
            noisy = mix(data, noise, times)
            velocity = self.decoder(noisy, times, self._training_condition(quantized.latents))
            losses = {**losses, "flow": flow_loss(velocity, data, noise).mean()}
            reconstruction = estimate(noisy, velocity, times)
        else:
            reconstruction = self.decode_tokens(tokens)
        return TokenizerOutput(reconstruction, tokens, quantized.latents, losses, stats)

    def _training_condition(self, codes: Tensor) -> FlowCondition:
        lengths = self.config.nested_dropout.draw(len(codes), codes.shape[1], device=codes.device)
        dropped = torch.rand(len(codes), device=codes.device) < self.config.null_probability
        return self.decoder.condition(codes, lengths, dropped=dropped)

    # The authors' checkpoints.

    reference_keys: ClassVar = KeyMap(
        {
            "encoder.module_dict.enc_patch_emb.patch_proj.{}": "encoder.patch_embed.{}",
            "encoder.module_dict.enc_posemb_module.posembs": "encoder.patch_positions",
            "encoder.module_dict.enc_register_module.registers": "encoder.registers",
            "encoder.module_dict.enc_to_latents.proj.{}": "encoder.to_latents.{}",
            "decoder.module_dict.dec_from_latents.proj.{}": "decoder.from_latents.{}",
            "decoder.module_dict.dec_registers_posemb_module.posembs": "decoder.register_positions",
            "decoder.module_dict.dec_nested_dropout.dropout_mask_token": "decoder.mask_token",
            "decoder.module_dict.dec_latent_dropout.nullcond": "decoder.null_token",
            "decoder.module_dict.dec_noise_patch_emb.patch_proj.{}": "decoder.patch_embed.{}",
            "decoder.module_dict.dec_patches_posemb_module.posembs": "decoder.patch_positions",
            "decoder.module_dict.dec_time_embedder.mlp.0.{}": "decoder.time_embed.fc1.{}",
            "decoder.module_dict.dec_time_embedder.mlp.2.{}": "decoder.time_embed.fc2.{}",
            "decoder.module_dict.dec_to_patches.adaLN_modulation.1.{}": "decoder.modulation.linear.{}",
            "decoder.module_dict.dec_to_patches.proj.{}": "decoder.head.{}",
            **{f"{net}.module_dict.{short}_transformer.blocks.{{}}.{theirs}": f"{net}.blocks.{{}}.{ours}"
                for net, short in (("encoder", "enc"), ("decoder", "dec"))
                for theirs, ours in (
                    ("attn.{}.weight", "attn.{}.weight"),
                    ("mlp.fc1.weight", "mlp.w1.weight"),
                    ("mlp.fc2.weight", "mlp.w2.weight"),
                    ("mlp.fc3.weight", "mlp.w3.weight"),
                    ("adaLN_modulation.1.{}", "modulation.linear.{}"),
                )
            },
        },
        joined={f"{net}.blocks.{{}}.attn.qkv.weight": tuple(f"{net}.blocks.{{}}.attn.{part}.weight" for part in ("wq", "wk", "wv"))
            for net in ("encoder", "decoder")},
    )  # fmt: skip

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names.

        Their tables of positions are images of channels, ours rows of tokens; their modulations come as gate, gate, shift, scale, shift, scale.
        """
        vae = {key.removeprefix("vae.vae."): tensor for key, tensor in state_dict.items() if key.startswith("vae.")}
        rest = {key.replace("_checkpoint_wrapped_module.", ""): tensor for key, tensor in state_dict.items() if not key.startswith("vae.")}
        mapped = super().weights_from_reference(rest)
        for key, tensor in mapped.items():
            if key.endswith("_positions"):
                mapped[key] = tensor.flatten(2)[0].T if key.endswith("patch_positions") else tensor[0, 0].T
            elif key.endswith("_token"):
                mapped[key] = tensor[None]
            elif ".blocks." in key and ".modulation." in key:
                mapped[key] = tensor.unflatten(0, (2, 6, -1))[:, [2, 3, 0, 4, 5, 1]].flatten(0, 2)
        return {**mapped, **{f"vae.{key}": tensor for key, tensor in KlVae.weights_from_reference(vae).items()}}

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> FlexTokConfig:
        """From the authors' tree of `_target_` entries, none of which is imported. Where there is no tree, from `sizes`, which has our fields."""
        if "encoder" not in config and "sizes" in config:
            return FlexTokConfig.parse(config["sizes"], source="the sizes of a released FlexTok")
        fields, autoencoder = read_tree(config)
        vae = KlVae.config_from_reference(autoencoder, {}).to_dict()
        return FlexTokConfig.parse({**fields, "vae": vae}, source="the FlexTok reference configuration")
