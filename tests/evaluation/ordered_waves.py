"""A tokenizer with ordered tokens that needs no training: cosines over the gray of an image, the slowest first, each of which lowers the error."""

import math

import torch
from torch import Tensor, nn

from visiontok.base.config import Config
from visiontok.base.noise import NoiseLike
from visiontok.core.tokenizer import Tokenizer
from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.signals import ImagePreprocessing
from visiontok.tokens import Segment, TokenLayout


class OrderedWavesConfig(Config):
    size: int = 16
    length: int = 16


class Steps(Quantizer):
    """1024 levels from -1 to 1."""

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        indices = ((latents[..., 0] + 1) / 2 * 1023).round().long().clamp(0, 1023)
        return Quantized(self.lookup(indices), indices)

    def lookup(self, indices: Tensor) -> Tensor:
        return (indices / 1023 * 2 - 1)[..., None]


class OrderedWaves(Tokenizer[OrderedWavesConfig]):
    def __init__(self, config: OrderedWavesConfig | None = None) -> None:
        super().__init__(config or OrderedWavesConfig())
        size, length = self.config.size, self.config.length
        position = (torch.arange(size) + 0.5) / size
        waves = torch.stack([torch.cos(math.pi * frequency * position) for frequency in range(size)])
        waves = waves / waves.norm(dim=1, keepdim=True)
        pairs = sorted(((u, v) for u in range(size) for v in range(size)), key=lambda pair: (sum(pair), pair))[:length]
        self.register_buffer("basis", torch.stack([torch.outer(waves[u], waves[v]) for u, v in pairs]).flatten(1))
        self.quantizer = Steps()
        self.preprocessing = ImagePreprocessing(size=size)
        segment = Segment(name="waves", shape=(length,), vocab_size=1024)
        self.layout = TokenLayout(modality="image", segments=(segment,), signal_shape=(size, size), prefixes="any")
        self.unused = nn.Parameter(torch.zeros(1))

    def encode_latents(self, signal: Tensor) -> Tensor:
        return (signal.mean(dim=1).flatten(1) @ self.basis.T / self.config.size)[..., None]

    def decode_latents(self, latents: Tensor) -> Tensor:
        gray = latents[..., 0] @ self.basis[: latents.shape[1]] * self.config.size
        return gray.view(-1, 1, self.config.size, self.config.size).expand(-1, 3, -1, -1)

    def decode_prefix(self, latents: Tensor, lengths: Tensor) -> Tensor:
        held = torch.arange(latents.shape[1]) < lengths[:, None]
        return self.decode_latents(latents * held[..., None])
