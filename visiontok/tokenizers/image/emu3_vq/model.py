"""Emu3's tokenizer for images: an image is a clip that stands still for one step of the temporal stride."""

from __future__ import annotations

from torch import Tensor

from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.shared.emu3_networks import Emu3Networks, Emu3VqConfig
from visiontok.tokens import Segment, TokenLayout


class Emu3Vq(Emu3Networks):
    """One id for every `stride` x `stride` pixels."""

    def __init__(self, config: Emu3VqConfig) -> None:
        super().__init__(config)
        self.preprocessing = ImagePreprocessing(size=config.image_size, tensors_keep_size=True, multiple_of=config.stride)
        side = config.image_size // config.stride
        self.layout = self.layout_for((side, side))

    def layout_for(self, shape: tuple[int, ...]) -> TokenLayout:
        """A grid of ids for an image of `shape` times the stride."""
        grid = Segment(name="grid", shape=shape, vocab_size=self.config.codebook_size, stride=(self.stride, self.stride))
        return TokenLayout(modality="image", segments=(grid,), signal_shape=tuple(side * self.stride for side in shape))

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, H / stride, W / stride, D)."""
        still = signal[:, :, None].expand(-1, -1, self.config.temporal_downsample_factor, -1, -1)
        return self.encode_clip(still)[:, 0]

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Codes (B, h, w, D) -> (B, 3, h * stride, w * stride): the first frame of the decoded clip."""
        return self.decode_clip(latents[:, None])[:, :, 0]
