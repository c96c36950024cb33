"""A residual tokenizer of sound that needs no training: the binary digits of every sample, one codebook each. An inverted level does harm."""

import torch
from torch import Tensor, nn

from visiontok.base.config import Config
from visiontok.base.noise import NoiseLike
from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.signals.audio import AudioPreprocessing
from visiontok.tokenizers.shared.codec import Codec, codec_layout


class SoundBitsConfig(Config):
    rate: int = 16000
    channels: int = 1
    levels: int = 6
    inverted_level: int | None = None


class Digits(Quantizer):
    """Numbers in [-1, 1] -> digits, the largest first."""

    def __init__(self, levels: int, inverted_level: int | None) -> None:
        super().__init__()
        self.levels, self.inverted_level = levels, inverted_level

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        whole = ((latents + 1) / 2 * 2**self.levels).long().clamp(0, 2**self.levels - 1)
        digits = whole >> torch.arange(self.levels - 1, -1, -1) & 1
        return Quantized(self.lookup(digits), digits)

    def lookup(self, indices: Tensor) -> Tensor:
        steps = 0.5 ** torch.arange(1, indices.shape[-1] + 1)
        signs = torch.ones_like(steps)
        if self.inverted_level is not None and self.inverted_level < len(signs):
            signs[self.inverted_level] = -1
        return ((indices * 2 - 1) * signs * steps).sum(dim=-1, keepdim=True)


class SoundBits(Codec[SoundBitsConfig]):
    config_class = SoundBitsConfig

    def __init__(self, config: SoundBitsConfig | None = None) -> None:
        super().__init__(config or SoundBitsConfig())
        config = self.config
        self.layout = codec_layout(sample_rate=config.rate, hop=1, vocab_size=2, num_levels=config.levels)
        self.preprocessing = AudioPreprocessing(sample_rate=config.rate, channels=config.channels)
        self.quantizer = Digits(config.levels, config.inverted_level)
        self.unused = nn.Parameter(torch.zeros(1))

    def encode_latents(self, signal: Tensor) -> Tensor:
        return signal.mean(dim=1)[..., None]

    def decode_latents(self, latents: Tensor) -> Tensor:
        return latents.transpose(1, 2).expand(-1, self.config.channels, -1)
