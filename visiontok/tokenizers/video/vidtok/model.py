"""VidTok (Tang et al. 2024, arXiv 2412.13061) with diffusers' `AutoencoderVidTok`: causal or not, with finite scalar codes or continuous latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import pad

from visiontok.base.config import Config, Positive
from visiontok.base.errors import TokenError
from visiontok.base.noise import NoiseLike
from visiontok.core.chunks import Chunked, Chunking
from visiontok.layers.carry import Carry, trimmed
from visiontok.quantizers.base import Bottleneck, Quantized
from visiontok.quantizers.continuous import GaussianBottleneckConfig
from visiontok.quantizers.finite_scalar import FiniteScalarQuantizerConfig
from visiontok.signals import ImagePreprocessing, VideoPreprocessing
from visiontok.tokenizers.shared.causal_clips import clip_layout
from visiontok.tokenizers.shared.library_model import LibraryConfig, LibraryTokenizer
from visiontok.tokenizers.video.vidtok.causal import CausalConv, CausalUpsample, InterpolatingUpsample, RepeatingUpsample, make_causal
from visiontok.tokenizers.video.vidtok.chunks import decode_chunk, encode_chunk
from visiontok.tokenizers.video.vidtok.group_norm import use_group_norms
from visiontok.tokenizers.video.vidtok.reference import KEY_MAP, read_config
from visiontok.tokenizers.video.vidtok.tiling import TiledConv, TiledUpsample, TilingConfig, decode_tiled, encode_tiled

Level = Annotated[int, Field(ge=0)]

READ_AROUND = 16
"""Frames that a network whose norms look at all frames reads on both sides of a chunk, unless the caller chooses: clips of training are as long."""


class AnnealingConfig(Config):
    """The weight of the quantizer's entropy loss falls linearly to that which it states.

    Attributes:
        factor: by which it is larger at step 0.
        steps: of training, after which it falls no more.
    """

    factor: float = Field(default=3.0, ge=0)
    steps: Positive = 2000

    def at(self, step: int) -> float:
        """The factor at a step."""
        return 1 + (self.factor - 1) * max(0.0, 1 - step / self.steps)


class VidTokConfig(LibraryConfig):
    """Fields of diffusers' `AutoencoderVidTok` by its names, and what it does not know; the defaults are the released 4x8x8 model of 32,768 codes.

    Attributes:
        ch, ch_mult: channels of the finest level, and by how much every level has more.
        num_res_blocks: per level of the encoder; the decoder has one more.
        spatial_ds, spatial_us, tempo_ds, tempo_us: levels after which space and time are halved or doubled, 0 being the finest; None for all levels
            but the coarsest (space), and for two of them (time).
        dropout: within residual blocks.
        time: whether a frame depends on those before it only, by the authors' first or second version of such networks, or on all.
            In the first version zeros stand before the first frame of every layer, in the second that frame.
        interpolation: between frames where their number is doubled; the networks of the second version can interpolate.
        front_padding: what stands before the first frame of a clip to make it a whole latent: copies of it, or gray.
        norm: of the channels of every position, or of groups of channels.
        quantizer: its `dim` are the latent channels.
        entropy_annealing: of the weight of the entropy loss, if the quantizer has one.
        tiling: the authors' chunks, instead of whole clips; for networks of the second version.
        image_size: side that the frames of files are resized and cropped to; tensors of any size are taken.
        num_frames: of the clips that the layout describes; any number is taken.
    """

    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    ch: Positive = 128
    ch_mult: tuple[Positive, ...] = Field(default=(1, 2, 4, 4), min_length=1)
    num_res_blocks: Positive = 2
    spatial_ds: tuple[Level, ...] | None = None
    spatial_us: tuple[Level, ...] | None = None
    tempo_ds: tuple[Level, ...] | None = None
    tempo_us: tuple[Level, ...] | None = None
    dropout: float = Field(default=0.0, ge=0, lt=1)
    time: Literal["causal", "causal-v1.1", "noncausal"] = "causal"
    interpolation: Literal["nearest", "linear"] = "nearest"
    front_padding: Literal["replicate", "constant"] = "replicate"
    norm: Literal["layer", "group"] = "layer"
    quantizer: Annotated[FiniteScalarQuantizerConfig | GaussianBottleneckConfig, Field(discriminator="type")] = FiniteScalarQuantizerConfig(
        levels=(8,) * 5
    )
    entropy_annealing: AnnealingConfig | None = None
    tiling: TilingConfig | None = None
    image_size: Positive = 256
    num_frames: Positive = 17

    @model_validator(mode="after")
    def _check(self) -> VidTokConfig:
        (space_ds, space_us), (time_ds, time_us) = self.space_levels, self.time_levels
        for name, down, up in (("spatial", space_ds, space_us), ("tempo", time_ds, time_us)):
            if len(set(down)) != len(set(up)):
                raise ValueError(f"{name}_ds {down} and {name}_us {up} must have equally many levels, so that a clip keeps its size")
        for name, time, space in (("ds", time_ds, space_ds), ("us", time_us, space_us)):
            if not set(time) <= set(space) <= set(range(len(self.ch_mult))):
                raise ValueError(f"tempo_{name} {time} must be among spatial_{name} {space}, and these among the {len(self.ch_mult)} levels")
        if self.time != "causal-v1.1" and (self.interpolation != "nearest" or self.tiling is not None):
            raise ValueError(f"interpolation {self.interpolation} and tiling {self.tiling} are of time 'causal-v1.1', not of {self.time!r}")
        if self.tiling is not None and self.tiling.frames % self.time_factor:
            raise ValueError(f"tiling.frames {self.tiling.frames} is no multiple of the {self.time_factor} frames of a latent")
        if self.norm == "group" and self.ch % 32:
            raise ValueError(f"group norms have 32 groups, which do not divide {self.ch} channels")
        return self

    def library_arguments(self) -> dict[str, Any]:
        """What diffusers' constructor takes; the quantizer is ours."""
        bottleneck = {"regularizer": "kl", "z_channels": self.quantizer.dim, "double_z": isinstance(self.quantizer, GaussianBottleneckConfig)}
        return {**super().library_arguments(), **bottleneck, "is_causal": self.is_causal}

    @classmethod
    def added_fields(cls) -> frozenset[str]:
        """What diffusers does not know."""
        return frozenset(("time", "interpolation", "front_padding", "norm", "quantizer", "entropy_annealing", "tiling", "image_size", "num_frames"))

    @property
    def is_causal(self) -> bool:
        return self.time != "noncausal"

    @property
    def space_levels(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """After which the encoder halves the sides, and the decoder doubles them."""
        last = len(self.ch_mult) - 1
        return (
            tuple(range(last)) if self.spatial_ds is None else self.spatial_ds,
            tuple(range(1, last + 1)) if self.spatial_us is None else self.spatial_us,
        )

    @property
    def time_levels(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """After which the encoder halves the number of frames, and the decoder doubles it."""
        last = len(self.ch_mult) - 1
        return (last - 1, last - 2) if self.tempo_ds is None else self.tempo_ds, (1, 2) if self.tempo_us is None else self.tempo_us

    @property
    def time_factor(self) -> int:
        """Frames of a latent."""
        return int(2 ** len(self.time_levels[0]))

    @property
    def space_factor(self) -> int:
        """Pixels of a latent along a side."""
        return int(2 ** len(self.space_levels[0]))


class VidTok(LibraryTokenizer[VidTokConfig], Chunked[VidTokConfig]):
    """Convolutions over space and convolutions over time in turn, attention within frames between encoder and decoder's halves, and a grid of codes.

    Causal models encode the first frame by itself and then every `time_factor` frames, and take images as clips of one frame. Clips of other lengths
    are padded by their last frame. Clips in chunks give what the whole gives.
    """

    config_class = VidTokConfig
    library: ClassVar = "diffusers"
    network_class: ClassVar = "AutoencoderVidTok"
    reference_keys: ClassVar = KEY_MAP
    chunk_values: ClassVar = 2**18

    encoder: Any
    decoder: Any
    quantizer: Bottleneck

    def __init__(self, config: VidTokConfig) -> None:
        super().__init__(config)
        network = self.new_network(config.library_arguments())
        if config.is_causal:
            make_causal(network, conv=partial(_conv_class(config), edge=_edge(config)), upsample=_upsample_class(config))
        if config.norm == "group":
            use_group_norms(network, causal=config.is_causal)
        _start_without_time(network)
        self.encoder, self.decoder = network.encoder, network.decoder
        self.quantizer = config.quantizer.build()
        time, space = config.time_factor, config.space_factor
        frames = ImagePreprocessing(size=config.image_size, interpolation="bilinear", tensors_keep_size=True, multiple_of=space)
        self.preprocessing = VideoPreprocessing(
            frames=frames, num_frames=config.num_frames, frames_multiple_of=time, first_frame_alone=config.is_causal
        )
        fsq = config.quantizer if isinstance(config.quantizer, FiniteScalarQuantizerConfig) else None
        kind = {"channels": config.quantizer.dim} if fsq is None else {"vocab_size": fsq.codebook_size}
        self.layout = clip_layout((time, space, space), self.preprocessing, **kind)

    @property
    def chunking(self) -> Chunking:
        """See `Chunked`. Networks whose norms look at all frames read some around every chunk, by far not all on which their latents depend.

        Raises:
            TokenError: for models that cut the authors' chunks.
        """
        config = self.config
        if config.tiling is not None:
            raise TokenError("this VidTok cuts the authors' chunks (tiling): give the whole clip to encode, and all tokens to decode")
        if not config.is_causal and config.norm == "group":
            return Chunking(unit=config.time_factor, overlap=READ_AROUND // config.time_factor)
        if not config.is_causal:
            return Chunking(unit=config.time_factor, is_carried=True, is_exact=True, encoder_waits=True, decoder_waits=True)
        return Chunking(unit=config.time_factor, lead=1, is_carried=True, is_exact=True, first=0, decoder_waits=config.interpolation == "linear")

    def chunk_length(self, size: Sequence[int]) -> int | None:
        """See `Chunked`; the authors' chunks are cut elsewhere."""
        return None if self.config.tiling is not None else super().chunk_length(size)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B, T', H / space_factor, W / space_factor, D), or 2 D where a KL follows.

        As in the authors' code, T need not be 1 + a multiple of `time_factor`: what lacks is put before the first frame.
        """
        clip, tiling = signal * 2 - 1, self.config.tiling
        if tiling is None:
            latents: Tensor = self.encoder(self._front_padded(clip) if self.config.is_causal else clip)
        else:
            latents = encode_tiled(self.encoder, clip, tiling, padded=self._front_padded)
        return latents.movedim(1, -1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, T', h, w, D) -> (B, 3, T, H, W), T = 1 + (T' - 1) * time_factor for causal models, and T' * time_factor for others."""
        codes, tiling = latents.movedim(-1, 1), self.config.tiling
        frames = self.decoder(codes) if tiling is None else decode_tiled(self.decoder, codes, tiling, factor=self.config.time_factor)
        return self._from_first(frames, None) / 2 + 0.5

    def encode_next(self, signal: Tensor, carry: Carry) -> Tensor:
        clip, factor = signal * 2 - 1, self.config.time_factor
        if self.config.is_causal and carry.get(self.encoder.conv_in) is None:
            clip = self._front_padded(clip, factor - 1)
        return encode_chunk(self.encoder, pad(clip, (0, 0, 0, 0, 0, -clip.shape[2] % factor), mode="replicate"), carry).movedim(1, -1)

    def decode_next(self, latents: Tensor, carry: Carry) -> Tensor:
        return self._from_first(decode_chunk(self.decoder, latents.movedim(-1, 1), carry), carry) / 2 + 0.5

    def quantize(self, latents: Tensor, *, step: int, noise: NoiseLike) -> Quantized:
        """See `Tokenizer`; the entropy loss has the weight of the step."""
        quantized, annealing = super().quantize(latents, step=step, noise=noise), self.config.entropy_annealing
        if annealing is None or "entropy" not in quantized.losses:
            return quantized
        return replace(quantized, losses={**quantized.losses, "entropy": annealing.at(step) * quantized.losses["entropy"]})

    def _front_padded(self, clip: Tensor, count: int | None = None) -> Tensor:
        """Behind the frames that it lacks for whole latents; in the first version, where it lacks any, those that complete the first frame's."""
        factor = self.config.time_factor
        missing = -clip.shape[2] % factor
        if count is None:
            count = missing if self.config.time == "causal-v1.1" else (factor - 1) * bool(missing)
        return pad(clip, (0, 0, 0, 0, count, 0), mode=self.config.front_padding)

    def _from_first(self, frames: Tensor, carry: Carry | None) -> Tensor:
        """Without the frames before the first one, which its latent decodes to as well."""
        return trimmed(frames, (self.config.time_factor - 1) * self.config.is_causal, layer=self, carry=carry)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> VidTokConfig:
        """From the authors' YAML file, or from what is under `model` in it."""
        return VidTokConfig.parse(read_config(config), source="the VidTok reference configuration")


def _edge(config: VidTokConfig) -> Literal["constant", "replicate"]:
    return "constant" if config.time == "causal" else "replicate"


def _conv_class(config: VidTokConfig) -> type[CausalConv]:
    return CausalConv if config.tiling is None else TiledConv


def _upsample_class(config: VidTokConfig) -> type[CausalUpsample]:
    if config.interpolation == "nearest":
        return RepeatingUpsample
    return InterpolatingUpsample if config.tiling is None else TiledUpsample


@torch.no_grad()
def _start_without_time(network: nn.Module) -> None:
    """Residual blocks over time begin as identities, as in the authors' training."""
    for name, parameter in network.named_parameters():
        if "_temporal." in name and ".conv2." in name:
            parameter.zero_()
