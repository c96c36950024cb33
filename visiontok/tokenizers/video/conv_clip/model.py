"""A small convolutional tokenizer of clips with any quantizer: for training, and for comparing causal and centered networks at equal sizes."""

from __future__ import annotations

from math import prod
from typing import Annotated

from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.core.chunks import Chunking
from visiontok.layers.carry import Carry
from visiontok.quantizers.binary import BinaryQuantizerConfig
from visiontok.quantizers.parts import PointwiseConfig
from visiontok.tokenizers.shared.causal_clips import CausalClips, clip_layout, clip_preprocessing
from visiontok.tokenizers.video.conv_clip.networks import ClipDecoder, ClipEncoder, ClipNetConfig


class ConvClipConfig(Config):
    """Sizes.

    Attributes:
        image_size: side of the square frames that it is trained on; it takes any size.
        num_frames: of the clips that it is trained on; it takes any number.
        frame_rate: of these clips, per second; None where that is not known.
        networks: of the encoder, and of the decoder that mirrors it.
        quantizer: of the latents.
    """

    image_size: Positive = 64
    num_frames: Positive = 17
    frame_rate: Annotated[float, Field(gt=0)] | None = None
    networks: ClipNetConfig = ClipNetConfig()
    quantizer: PointwiseConfig

    @model_validator(mode="after")
    def _check(self) -> ConvClipConfig:
        nets, (time, side, _) = self.networks, self.stride
        if len(nets.downsampling) != len(nets.channels) - 1:
            raise ValueError(f"downsampling {nets.downsampling} does not lie between the levels of channels {nets.channels}: give one pair fewer")
        if time > 1 and nets.time_kernel == 1:
            raise ValueError(f"downsampling {nets.downsampling} joins frames, and with time_kernel 1 every frame stands by itself: divide time by 1")
        if self.image_size % side:
            raise ValueError(f"frames of {self.image_size} pixels are no multiple of the stride {side}")
        if (self.num_frames - nets.causal) % time:
            takes = f"1 + a multiple of {time}" if nets.causal else f"a multiple of {time}"
            raise ValueError(f"num_frames {self.num_frames} must be {takes}")
        return self

    @property
    def stride(self) -> tuple[int, int, int]:
        """Frames, rows and columns of pixels per position."""
        side = self.networks.patch_size * prod(space for _, space in self.networks.downsampling)
        return prod(time for time, _ in self.networks.downsampling), side, side

    @property
    def vocab_size(self) -> int | tuple[int, ...]:
        """Number of codes; a tuple where a position may have several token indices."""
        return self.quantizer.vocab_size if isinstance(self.quantizer, BinaryQuantizerConfig) else self.quantizer.codebook_size


class ConvClip(CausalClips[ConvClipConfig]):
    """Encoder, quantizer, decoder. Causal networks take 1 + k * stride frames to 1 + k, centered ones k * stride frames to k. There are no released
    weights."""

    config_class = ConvClipConfig

    def __init__(self, config: ConvClipConfig) -> None:
        super().__init__(config)
        self.encoder = ClipEncoder(config.networks, dim=config.quantizer.dim)
        self.quantizer = config.quantizer.build()
        self.decoder = ClipDecoder(config.networks, dim=config.quantizer.dim)
        preprocessing = clip_preprocessing(config.stride, num_frames=config.num_frames, image_size=config.image_size)
        self.preprocessing = preprocessing.replace(first_frame_alone=config.networks.causal, rate=config.frame_rate)
        self.layout = clip_layout(config.stride, self.preprocessing, vocab_size=config.vocab_size).replace(rate=config.frame_rate)

    @property
    def chunking(self) -> Chunking:
        """See `Chunked`: exact where the networks are causal, otherwise with two units more on both sides of a chunk."""
        return super().chunking if self.config.networks.causal else Chunking(unit=self.config.stride[0], overlap=2)

    def encode_causal(self, signal: Tensor, carry: Carry) -> Tensor:
        """See `CausalClips`; centered networks take whole clips, and carry nothing."""
        return self.encoder(signal * 2 - 1, carry).movedim(1, -1)

    def decode_causal(self, latents: Tensor, carry: Carry) -> Tensor:
        """See `CausalClips`."""
        return (self.decoder(latents.movedim(-1, 1), carry) + 1) / 2
