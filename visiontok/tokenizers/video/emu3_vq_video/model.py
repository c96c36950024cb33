"""Emu3's tokenizer for video."""

from __future__ import annotations

from torch import Tensor

from visiontok.signals import VideoPreprocessing
from visiontok.tokenizers.shared.emu3_networks import Emu3Networks, Emu3VqConfig
from visiontok.tokens import Segment, TokenLayout


class Emu3VqVideo(Emu3Networks):
    """One id for every `stride` x `stride` pixels of every `temporal_downsample_factor` frames. Clips are (B, 3, T, H, W) in [0, 1]."""

    def __init__(self, config: Emu3VqConfig) -> None:
        super().__init__(config)
        factor, side = config.temporal_downsample_factor, config.image_size // config.stride
        self.preprocessing = VideoPreprocessing(size=config.image_size, tensors_keep_size=True, multiple_of=config.stride, frames_multiple_of=factor)
        self.layout = self.layout_for((config.num_frames // factor, side, side))

    def layout_for(self, shape: tuple[int, ...]) -> TokenLayout:
        """A block of ids for a clip of `shape` times the strides."""
        strides = (self.config.temporal_downsample_factor, self.stride, self.stride)
        block = Segment(name="grid", shape=shape, vocab_size=self.config.codebook_size, stride=strides)
        return TokenLayout(modality="video", segments=(block,), signal_shape=tuple(n * stride for n, stride in zip(shape, strides, strict=True)))

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B, T / factor, H / stride, W / stride, D)."""
        return self.encode_clip(signal)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Codes (B, t, h, w, D) -> (B, 3, t * factor, h * stride, w * stride)."""
        return self.decode_clip(latents)
