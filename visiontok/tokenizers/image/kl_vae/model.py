"""The KL autoencoder of latent diffusion (Rombach et al. 2022): continuous latents on a grid; the front end of many tokenizers.

The networks are those of diffusers' `AutoencoderKL`. Weights are read in diffusers' names and in the names of the original code (LDM), on
which MAR, TokenBridge, xAR and KARL build.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.base.optional import import_optional
from visiontok.core.tokenizer import Tokenizer
from visiontok.quantizers.continuous import GaussianBottleneck, GaussianBottleneckConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.image.kl_vae.reference import ATTENTION_DOWN, ATTENTION_UP, PLAIN_DOWN, PLAIN_UP, read_config, to_diffusers_names
from visiontok.tokens.grid import grid_layout

Level = Annotated[int, Field(ge=0)]


class KlVaeConfig(Config):
    """Sizes of a KL autoencoder.

    Attributes:
        image_size: side that files are resized and cropped to; tensors of any multiple of the stride are taken as they are.
        channels: of each level, the finest first; every level but the last halves the sides.
        num_res_blocks: per level of the encoder; the decoder has one more.
        norm_groups: of every GroupNorm.
        stem_channels: of the encoder's first convolution; None for that of the first level.
        encoder_attention, decoder_attention: levels whose residual blocks are each followed by attention, 0 being the finest.
        middle_attention: whether both nets attend between their two middle blocks.
        quant_conv, post_quant_conv: whether 1x1 convolutions are around the bottleneck.
        bottleneck: the posterior; its `dim` are the latent channels, its `scale` and `shift` what consumers of the latents expect.
    """

    image_size: Positive = 256
    channels: tuple[Positive, ...] = Field(min_length=1)
    num_res_blocks: Positive = 2
    norm_groups: Positive = 32
    stem_channels: Positive | None = None
    encoder_attention: tuple[Level, ...] = ()
    decoder_attention: tuple[Level, ...] = ()
    middle_attention: bool = True
    quant_conv: bool = True
    post_quant_conv: bool = True
    bottleneck: GaussianBottleneckConfig

    @model_validator(mode="after")
    def _check(self) -> KlVaeConfig:
        for width in (*self.channels, self.stem_channels or self.channels[0]):
            if width % self.norm_groups:
                raise ValueError(f"{self.norm_groups} norm_groups do not divide {width} channels")
        for name in ("encoder_attention", "decoder_attention"):
            if not set(getattr(self, name)) <= set(range(len(self.channels))):
                raise ValueError(f"{name} {getattr(self, name)} names levels beyond the {len(self.channels)} that there are")
        if self.image_size % self.stride:
            raise ValueError(f"an image of {self.image_size} pixels is no multiple of the stride {self.stride}")
        return self

    @property
    def stride(self) -> int:
        """Pixels per latent along a side."""
        return int(2 ** (len(self.channels) - 1))


class KlVae(Tokenizer[KlVaeConfig]):
    """Convolutional encoder, Gaussian posterior, convolutional decoder. Continuous: gives `Latents`.

    `encode` gives the posterior's mode, or a sample when noise is given. As a front end of another model:
    `vae.quantizer(vae.encode_latents(images)).latents` are the scaled latents (B, h, w, D), and `vae.decode_latents(...)` decodes them.
    """

    config_class = KlVaeConfig

    def __init__(self, config: KlVaeConfig) -> None:
        super().__init__(config)
        vae = import_optional("diffusers", extra="zoo").AutoencoderKL(**_arguments(config))
        self.encoder: nn.Module = vae.encoder
        self.quant_conv: nn.Module = vae.quant_conv or nn.Identity()
        self.quantizer: GaussianBottleneck = config.bottleneck.build()
        self.post_quant_conv: nn.Module = vae.post_quant_conv or nn.Identity()
        self.decoder: nn.Module = vae.decoder
        if config.stem_channels not in (None, config.channels[0]):
            self._widen_stem(config.stem_channels)
        self.preprocessing = ImagePreprocessing(size=config.image_size, tensors_keep_size=True, multiple_of=config.stride)
        side = config.image_size // config.stride
        self.layout = grid_layout((side, side), stride=config.stride, channels=config.bottleneck.dim)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> the posterior's parameters (B, H / stride, W / stride, 2 D), means then log-variances."""
        moments: Tensor = self.quant_conv(self.encoder(signal * 2 - 1))
        return moments.permute(0, 2, 3, 1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Scaled latents (B, h, w, D) -> (B, 3, h * stride, w * stride), about [0, 1]."""
        return self.decode_unscaled(self.quantizer.restore(latents))

    def decode_unscaled(self, latents: Tensor) -> Tensor:
        """Like `decode_latents`, for latents at the posterior's own scale."""
        pixels: Tensor = self.decoder(self.post_quant_conv(latents.permute(0, 3, 1, 2)))
        return (pixels + 1) / 2

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors in the names of LDM or of any version of diffusers."""
        return to_diffusers_names(state_dict)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> KlVaeConfig:
        """From diffusers' `config.json`, or from the sizes of LDM's networks: ch, ch_mult, embed_dim, attention by nominal resolution ..."""
        return KlVaeConfig.parse(read_config(config), source="the KL autoencoder's reference configuration")

    def _widen_stem(self, width: int) -> None:
        """diffusers ties the first convolution to the first level; LDM does not."""
        blocks = import_optional("diffusers.models.resnet", extra="zoo")
        first = self.config.channels[0]
        self.encoder.conv_in = nn.Conv2d(3, width, 3, padding=1)
        self.encoder.down_blocks[0].resnets[0] = blocks.ResnetBlock2D(  # type: ignore[index, union-attr]
            in_channels=width, out_channels=first, temb_channels=None, eps=1e-6, groups=self.config.norm_groups
        )


def _arguments(config: KlVaeConfig) -> dict[str, Any]:
    """What diffusers' constructor takes."""
    levels = range(len(config.channels))
    return {
        "block_out_channels": config.channels,
        "layers_per_block": config.num_res_blocks,
        "norm_num_groups": config.norm_groups,
        "latent_channels": config.bottleneck.dim,
        "sample_size": config.image_size,
        "mid_block_add_attention": config.middle_attention,
        "use_quant_conv": config.quant_conv,
        "use_post_quant_conv": config.post_quant_conv,
        "down_block_types": tuple(ATTENTION_DOWN if level in config.encoder_attention else PLAIN_DOWN for level in levels),
        "up_block_types": tuple(ATTENTION_UP if level in config.decoder_attention else PLAIN_UP for level in reversed(levels)),
    }
