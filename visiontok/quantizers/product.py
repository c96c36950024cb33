"""Product quantization (Jegou et al. 2011): a latent is cut into groups of channels, each with a quantizer of its own."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.base.noise import NoiseLike
from visiontok.quantizers.base import NeighborQuantizer, Quantized, configured_by
from visiontok.quantizers.levels import LeveledQuantizer
from visiontok.quantizers.multi_scale import MultiScaleQuantizerConfig
from visiontok.quantizers.parts import PointwiseConfig, mean_of
from visiontok.quantizers.residual import ResidualQuantizerConfig


class ProductQuantizerConfig(Config):
    """Groups of one kind.

    Attributes:
        num_groups: P; latents have P times the dimension of a group's quantizer.
        quantizer: of every group; it may itself have levels or scales.
    """

    type: Literal["product"] = "product"
    num_groups: Positive
    quantizer: PointwiseConfig | Annotated[ResidualQuantizerConfig | MultiScaleQuantizerConfig, Field(discriminator="type")]

    @property
    def dim(self) -> int:
        """P D of the latents."""
        return self.num_groups * self.quantizer.dim

    def build(self) -> ProductQuantizer:
        """The quantizer with random codebooks."""
        return ProductQuantizer(**dict(self))


class ProductQuantizer(NeighborQuantizer):
    """Latents (..., P D) -> codes (..., P D), indices (..., P): those of a group's quantizer, groups innermost. Each loss is the mean over groups.

    State:
        groups: P quantizers.
    """

    @configured_by(ProductQuantizerConfig)
    def __init__(self, config: ProductQuantizerConfig) -> None:
        super().__init__(input_dim=config.dim)
        self.config = config
        self.groups = nn.ModuleList(config.quantizer.build() for _ in range(config.num_groups))

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        """Quantize each group; where groups drop levels in training, all keep the same number."""
        first = self.groups[0]
        kept = first.draw_kept(latents, mask=mask, noise=noise) if isinstance(first, LeveledQuantizer) else None
        return self.quantize(latents, kept, mask=mask)

    def quantize(self, latents: Tensor, kept: Tensor | None = None, *, mask: Tensor | None = None) -> Quantized:
        """Quantize with levels kept as given; see `LeveledQuantizer.quantize`. `kept` is for groups with levels only."""
        parts = latents.chunk(len(self.groups), dim=-1)
        found = [
            group(part, mask=mask) if kept is None or not isinstance(group, LeveledQuantizer) else group.quantize(part, kept, mask=mask)
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
        """Indices (..., P) -> codes (..., P D)."""
        return torch.cat([group.lookup(part) for group, part in zip(self._groups(), indices.unbind(dim=-1), strict=True)], dim=-1)

    def neighbors(self, latents: Tensor, k: int) -> Tensor:
        """Latents (..., P D) -> the k nearest indices within each group, (..., P, k)."""
        parts = latents.chunk(len(self.groups), dim=-1)
        return torch.stack([group.neighbors(part, k) for group, part in zip(self._groups(), parts, strict=True)], dim=-2)

    def _groups(self) -> list[NeighborQuantizer]:
        return cast("list[NeighborQuantizer]", list(self.groups))
