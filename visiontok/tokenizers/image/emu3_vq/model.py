"""Emu3's tokenizer for images: an image is a clip of equal frames, one step of the temporal stride long."""

from __future__ import annotations

from torch import Tensor

from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.shared.emu3_networks import Emu3Networks, Emu3VqConfig
from visiontok.tokens.grid import grid_layout


class Emu3Vq(Emu3Networks):
    """One token for every `stride` x `stride` pixels."""

    def __init__(self, config: Emu3VqConfig) -> None:
        super().__init__(config)
        self.preprocessing = ImagePreprocessing(size=config.image_size, tensors_keep_size=True, multiple_of=config.stride)
        side = config.image_size // config.stride
        self.layout = grid_layout((side, side), stride=self.stride, vocab_size=config.codebook_size)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, H / stride, W / stride, D)."""
        still = signal[:, :, None].expand(-1, -1, self.config.temporal_downsample_factor, -1, -1)
        return self.encode_clip(still)[:, 0]

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Codes (B, h, w, D) -> (B, 3, h * stride, w * stride): the first frame of the decoded clip."""
        return self.decode_clip(latents[:, None])[:, :, 0]
