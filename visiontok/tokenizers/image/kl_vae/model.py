"""The KL autoencoder of latent diffusion (Rombach et al. 2022): continuous latents on a grid; the front end of many tokenizers.

The networks are those of diffusers' `AutoencoderKL`. Weights are read in diffusers' names and in the names of the original code (LDM), on
which MAR, TokenBridge, xAR and KARL build. Reads top to bottom: configuration, model, and how released weights map to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.base.optional import import_optional
from visiontok.core.tokenizer import Tokenizer
from visiontok.quantizers.continuous import GaussianBottleneck, GaussianBottleneckConfig
from visiontok.signals.image_preprocessing import ImagePreprocessing
from visiontok.tokenizers.image.kl_vae.reference import to_diffusers_names
from visiontok.tokens import Segment, TokenLayout

Positive = Annotated[int, Field(gt=0)]
Level = Annotated[int, Field(ge=0)]

_ATTENTION_DOWN, _ATTENTION_UP = "AttnDownEncoderBlock2D", "AttnUpDecoderBlock2D"
_PLAIN_DOWN, _PLAIN_UP = "DownEncoderBlock2D", "UpDecoderBlock2D"


class KlVaeConfig(Config):
    """Sizes of a KL autoencoder.

    Attributes:
        image_size: side that files are resized and cropped to; tensors of any multiple of the stride are taken as they are.
        channels: width of each level, the finest first; every level but the last halves the sides.
        num_res_blocks: per level of the encoder; the decoder has one more.
        norm_groups: of every GroupNorm.
        stem_channels: width of the encoder's first convolution; None for that of the first level.
        encoder_attention, decoder_attention: levels whose residual blocks are each followed by attention, 0 being the finest.
        middle_attention: whether both nets attend between their two middle blocks.
        quant_conv, post_quant_conv: whether 1x1 convolutions stand around the bottleneck.
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

    `encode` gives the posterior's mode, or a sample when it is given a generator. As a front end of another model:
    `vae.quantizer(vae.encode_latents(images)).latents` are the scaled latents (B, h, w, D), `vae.decode_latents(...)` the way back.
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
        self.layout = self.layout_for((side, side))

    def layout_for(self, shape: tuple[int, ...]) -> TokenLayout:
        """A grid of latents for an image of `shape` times the stride."""
        stride = self.config.stride
        grid = Segment(name="grid", shape=shape, channels=self.config.bottleneck.dim, stride=(stride, stride))
        return TokenLayout(modality="image", segments=(grid,), signal_shape=tuple(side * stride for side in shape))

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
        values = _from_diffusers(config) if "block_out_channels" in config else _from_ldm(config)
        return KlVaeConfig.parse(values, source="the KL autoencoder's reference configuration")

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
        "down_block_types": tuple(_ATTENTION_DOWN if level in config.encoder_attention else _PLAIN_DOWN for level in levels),
        "up_block_types": tuple(_ATTENTION_UP if level in config.decoder_attention else _PLAIN_UP for level in reversed(levels)),
    }


_DIFFUSERS_DEFAULTS: Mapping[str, Any] = {
    "in_channels": 3, "out_channels": 3, "down_block_types": (_PLAIN_DOWN,), "up_block_types": (_PLAIN_UP,), "block_out_channels": (64,),
    "layers_per_block": 1, "act_fn": "silu", "latent_channels": 4, "norm_num_groups": 32, "sample_size": 32, "scaling_factor": 0.18215,
    "shift_factor": None, "latents_mean": None, "latents_std": None, "use_quant_conv": True, "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}  # fmt: skip
"""What an entry that is left out means to diffusers."""


def _from_diffusers(config: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in config.items() if not key.startswith("_") and key != "force_upcast"}  # what says nothing about the model
    if set(given) - set(_DIFFUSERS_DEFAULTS):
        raise ConfigError(f"unknown keys in an AutoencoderKL configuration: {sorted(set(given) - set(_DIFFUSERS_DEFAULTS))}")
    full = {**_DIFFUSERS_DEFAULTS, **given}
    fixed = {"in_channels": 3, "out_channels": 3, "act_fn": "silu", "latents_mean": None, "latents_std": None}
    for key, value in fixed.items():
        if full[key] != value:
            raise ConfigError(f"an AutoencoderKL with {key}={full[key]!r} is not supported, only {value!r}")
    down, up = list(full["down_block_types"]), list(full["up_block_types"])[::-1]
    for kind in {*down, *up} - {_PLAIN_DOWN, _PLAIN_UP, _ATTENTION_DOWN, _ATTENTION_UP}:
        raise ConfigError(f"an AutoencoderKL with blocks of type {kind!r} is not supported")
    return {
        "image_size": full["sample_size"],
        "channels": full["block_out_channels"],
        "num_res_blocks": full["layers_per_block"],
        "norm_groups": full["norm_num_groups"],
        "encoder_attention": [level for level, kind in enumerate(down) if kind == _ATTENTION_DOWN],
        "decoder_attention": [level for level, kind in enumerate(up) if kind == _ATTENTION_UP],
        "middle_attention": full["mid_block_add_attention"],
        "quant_conv": full["use_quant_conv"],
        "post_quant_conv": full["use_post_quant_conv"],
        "bottleneck": {"dim": full["latent_channels"], "scale": full["scaling_factor"], "shift": full["shift_factor"] or 0.0},
    }


_LDM_KEYS = frozenset({
    "embed_dim", "ch", "ch_mult", "num_res_blocks", "resolution", "encoder_attn_resolutions", "decoder_attn_resolutions", "scale_factor",
    "num_groups",
})  # fmt: skip


def _from_ldm(config: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes that are left out are those of KL-16, which its authors' code holds as constants."""
    if set(config) - _LDM_KEYS:
        raise ConfigError(f"unknown keys in a KL autoencoder's configuration: {sorted(set(config) - _LDM_KEYS)}; known: {sorted(_LDM_KEYS)}")
    width, multipliers, resolution = config.get("ch", 128), config.get("ch_mult", [1, 1, 2, 2, 4]), config.get("resolution", 256)

    def attention(resolutions: Any) -> list[int]:
        return [level for level in range(len(multipliers)) if resolution // 2**level in resolutions]

    return {
        "image_size": resolution,
        "channels": [width * multiplier for multiplier in multipliers],
        "num_res_blocks": config.get("num_res_blocks", 2),
        "norm_groups": config.get("num_groups", 32),
        "stem_channels": None if multipliers[0] == 1 else width,
        "encoder_attention": attention(config.get("encoder_attn_resolutions", [16])),
        "decoder_attention": attention(config.get("decoder_attn_resolutions", [])),
        "bottleneck": {"dim": config.get("embed_dim", 16), "scale": config.get("scale_factor", 1.0)},
    }
