"""Product quantization (Jegou et al. 2011): a latent is cut into groups of channels, each with a quantizer of its own."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from visiontok.base.config import Config
from visiontok.quantizers.base import Quantized, Quantizer
from visiontok.quantizers.levels import LevelledQuantizer
from visiontok.quantizers.losses import mean_of
from visiontok.quantizers.multi_scale import MultiScaleQuantizerConfig
from visiontok.quantizers.pointwise import PointwiseConfig
from visiontok.quantizers.residual import ResidualQuantizerConfig


class ProductQuantizerConfig(Config):
    """Groups of one kind.

    Attributes:
        num_groups: P; latents are P times as wide as the quantizer of a group says.
        quantizer: of every group; it may itself have levels or scales.
    """

    type: Literal["product"] = "product"
    num_groups: int = Field(gt=0)
    quantizer: PointwiseConfig | Annotated[ResidualQuantizerConfig | MultiScaleQuantizerConfig, Field(discriminator="type")]

    @property
    def dim(self) -> int:
        """Width P D of the latents."""
        return self.num_groups * self.quantizer.dim

    def build(self) -> ProductQuantizer:
        """The quantizer with random codebooks."""
        return ProductQuantizer(self)


class ProductQuantizer(Quantizer):
    """Latents (..., P D) -> codes (..., P D), ids (..., P): those of a group's quantizer, groups innermost. Each loss is the mean over groups.

    State:
        groups: P quantizers.
    """

    def __init__(self, config: ProductQuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.groups = nn.ModuleList(config.quantizer.build() for _ in range(config.num_groups))

    def forward(self, latents: Tensor) -> Quantized:
        """Quantize each group; where groups drop levels in training, all keep the same number."""
        first = self.groups[0]
        kept = first.draw_kept(len(latents), latents.device) if isinstance(first, LevelledQuantizer) else None
        return self.quantize(latents, kept)

    def quantize(self, latents: Tensor, kept: Tensor | None = None) -> Quantized:
        """Quantize with levels kept as told; see `LevelledQuantizer.quantize`. `kept` is for groups with levels only."""
        parts = latents.chunk(len(self.groups), dim=-1)
        found = [
            group(part) if kept is None or not isinstance(group, LevelledQuantizer) else group.quantize(part, kept)
            for group, part in zip(self._groups(), parts, strict=True)
        ]
        return Quantized(
            torch.cat([part.latents for part in found], dim=-1),
            torch.stack([part.indices for part in found if part.indices is not None], dim=-1),
            mean_of([part.losses for part in found]),
            mean_of([part.stats for part in found]),
            passed_through=any(part.passed_through for part in found),
        )

    def lookup(self, indices: Tensor) -> Tensor:
        """Ids (..., P) -> codes (..., P D)."""
        return torch.cat([group.lookup(ids) for group, ids in zip(self._groups(), indices.unbind(dim=-1), strict=True)], dim=-1)

    def neighbours(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., P D) -> the k nearest ids within each group, (..., P, k)."""
        parts = latents.chunk(len(self.groups), dim=-1)
        return torch.stack([group.neighbours(part, k) for group, part in zip(self._groups(), parts, strict=True)], dim=-2)

    def _groups(self) -> list[Quantizer]:
        return cast("list[Quantizer]", list(self.groups))
