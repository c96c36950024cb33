"""Emu3's tokenizer for video."""

from __future__ import annotations

from torch import Tensor

from visiontok.signals import ImagePreprocessing, VideoPreprocessing
from visiontok.tokenizers.shared.emu3_networks import Emu3Networks, Emu3VqConfig
from visiontok.tokens.grid import grid_layout


class Emu3VqVideo(Emu3Networks):
    """One token for every `stride` x `stride` pixels of every `temporal_downsample_factor` frames. Clips are (B, 3, T, H, W) in [0, 1]."""

    def __init__(self, config: Emu3VqConfig) -> None:
        super().__init__(config)
        factor, side = config.temporal_downsample_factor, config.image_size // config.stride
        frames = ImagePreprocessing(size=config.image_size, tensors_keep_size=True, multiple_of=config.stride)
        self.preprocessing = VideoPreprocessing(frames=frames, num_frames=config.num_frames, frames_multiple_of=factor)
        self.layout = grid_layout(
            (config.num_frames // factor, side, side), stride=(factor, self.stride, self.stride), vocab_size=config.codebook_size
        )

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B, T / factor, H / stride, W / stride, D)."""
        return self.encode_clip(signal)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Codes (B, t, h, w, D) -> (B, 3, t * factor, h * stride, w * stride)."""
        return self.decode_clip(latents)
