"""Image tokenizers of other libraries whose tokens lie on a grid: pixels in [-1, 1], a convolutional encoder, perhaps a decoder."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from visiontok.core.model import ConfigT
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.shared.library_vq import LibraryVq
from visiontok.tokens.grid import grid_layout


class LibraryGridVq(LibraryVq[ConfigT]):
    """One token for every `stride` x `stride` pixels; takes images of any size."""

    encoder: nn.Module
    quant_conv: nn.Module

    def __init__(
        self,
        config: ConfigT,
        *,
        network: nn.Module,
        image_size: int,
        interpolation: Literal["bicubic", "bilinear", "lanczos"] = "bicubic",
    ) -> None:
        """See `LibraryVq`.

        Args:
            config: of the tokenizer.
            network: of the library.
            image_size: side that files are resized and cropped to.
            interpolation: of that resize.
        """
        super().__init__(config, network=network)
        self.preprocessing = ImagePreprocessing(size=image_size, interpolation=interpolation, tensors_keep_size=True, multiple_of=self.stride)
        side = image_size // self.stride
        self.layout = grid_layout((side, side), stride=self.stride, vocab_size=self.quantizer.config.codebook_size)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, H / stride, W / stride, D)."""
        latents: Tensor = self.quant_conv(self.encoder(self.normalize(signal)))
        return latents.permute(0, 2, 3, 1)

    def normalize(self, signal: Tensor) -> Tensor:
        """[0, 1] to what the encoder was trained on."""
        return signal * 2 - 1
