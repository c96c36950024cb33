"""A tokenizer that needs no training: the mean gray of every patch, in a few levels."""

import torch
from torch import Tensor, nn

from visiontok.base.config import Config
from visiontok.base.noise import NoiseLike
from visiontok.core.tokenizer import Tokenizer
from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.signals import ImagePreprocessing
from visiontok.tokens import Segment, TokenLayout


class GrayPatchesConfig(Config):
    size: int = 16
    patch: int = 2
    levels: int = 17
    broken_size: bool = False
    any_size: bool = False
    ordered: bool = False


class Levels(Quantizer):
    def __init__(self, levels: int) -> None:
        super().__init__()
        self.register_buffer("codebook", torch.linspace(0, 1, levels))

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        indices = (latents[..., 0] * (len(self.codebook) - 1)).round().long()
        return Quantized(self.lookup(indices), indices)

    def lookup(self, indices: Tensor) -> Tensor:
        return self.codebook[indices][..., None]


class GrayPatches(Tokenizer[GrayPatchesConfig]):
    def __init__(self, config: GrayPatchesConfig | None = None) -> None:
        super().__init__(config or GrayPatchesConfig())
        side = self.config.size // self.config.patch
        self.quantizer = Levels(self.config.levels)
        self.preprocessing = ImagePreprocessing(size=self.config.size, tensors_keep_size=self.config.any_size, multiple_of=self.config.patch)
        self.layout = self.layout_for((side, side))
        self.unused = nn.Parameter(torch.zeros(1))

    def layout_for(self, shape: tuple[int, ...]) -> TokenLayout:
        return TokenLayout(
            modality="image",
            signal_shape=tuple(side * self.config.patch for side in shape),
            segments=(
                Segment(
                    name="grid",
                    shape=shape,
                    vocab_size=self.config.levels,
                    stride=(self.config.patch,) * 2,
                    free_axes=(0, 1) if self.config.any_size else (),
                ),
            ),
            prefixes="any" if self.config.ordered else "none",
        )

    def encode_latents(self, signal: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(signal.mean(dim=1, keepdim=True), self.config.patch).movedim(1, -1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        patch = self.config.patch * (2 if self.config.broken_size else 1)
        return latents.movedim(-1, 1).repeat_interleave(patch, 2).repeat_interleave(patch, 3).expand(-1, 3, -1, -1)

    def decode_prefix(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """The first patches in the order of reading; gray for the others."""
        side = self.config.size // self.config.patch
        held = torch.arange(latents.shape[1]) < lengths[:, None]
        whole = latents.new_full((len(latents), side * side, 1), 0.5)
        whole[:, : latents.shape[1]] = torch.where(held[..., None], latents, 0.5)
        return self.decode_latents(whole.unflatten(1, (side, side)))
