"""The smallest tokenizer with ordered tokens: brightness of ever smaller parts of an 8 x 8 image, which add up."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visiontok.base.config import Config
from visiontok.base.noise import NoiseLike
from visiontok.core.tokenizer import Tokenizer
from visiontok.layers.nested_dropout import NestedDropout, prefix_mask
from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.signals import ImagePreprocessing
from visiontok.tokens import Segment, TokenLayout


class Levels(Quantizer):
    """256 levels from -1 to 1."""

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        indices = ((latents[..., 0] + 1) * 127.5).round().long().clamp(0, 255)
        return Quantized(latents + (self.lookup(indices) - latents).detach(), indices)

    def lookup(self, indices: Tensor) -> Tensor:
        return (indices / 127.5 - 1)[..., None]


class OrderedConfig(Config):
    depth: int = 3
    nested_dropout: NestedDropout | None = None


class OrderedTokenizer(Tokenizer[OrderedConfig]):
    """Coefficients of the image's mean over ever finer halves (an orthogonal Haar basis along the columns): each reduces the error."""

    config_class = OrderedConfig

    def __init__(self, config: OrderedConfig) -> None:
        super().__init__(config)
        rows = [torch.ones(8)]
        for level in range(config.depth):
            step = 8 // 2**level
            for start in range(0, 8, step):
                row = torch.zeros(8)
                row[start : start + step // 2], row[start + step // 2 : start + step] = 1, -1
                rows.append(row)
        self.register_buffer("basis", torch.stack(rows))
        self.scale = nn.Parameter(torch.ones(()))
        self.quantizer = Levels()
        self.preprocessing = ImagePreprocessing(size=8)
        segment = Segment(name="latents", shape=(len(rows),), vocab_size=256)
        self.layout = TokenLayout(modality="image", segments=(segment,), signal_shape=(8, 8), prefixes="any")
        self.nested_dropout = config.nested_dropout

    def encode_latents(self, signal: Tensor) -> Tensor:
        columns = signal.mean(dim=(1, 2))  # (B, 8)
        return (columns @ self.basis.T / self.basis.square().sum(dim=1))[..., None]

    def decode_latents(self, latents: Tensor) -> Tensor:
        columns = self.scale * (latents[..., 0] @ self.basis[: latents.shape[1]])
        return columns[:, None, None].expand(-1, 3, 8, -1)

    def decode_prefix(self, latents: Tensor, lengths: Tensor) -> Tensor:
        return self.decode_latents(latents * prefix_mask(lengths, latents.shape[1])[..., None])
