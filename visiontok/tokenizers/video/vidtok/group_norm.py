"""The authors' other norm, which no release has: over groups of channels, where diffusers' networks have layer norms over all channels."""

from __future__ import annotations

from torch import Tensor, nn

GROUPS = 32
EPS = 1e-6


class FrameGroupNorm(nn.GroupNorm):
    """Of every frame by itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) or clips (B, C, T, H, W)."""
        if x.ndim == 4:
            return super().forward(x)
        return super().forward(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1)).transpose(1, 2)


class PositionGroupNorm(nn.GroupNorm):
    """Of every pixel of every frame by itself."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...)."""
        rows = x.movedim(1, -1)
        return super().forward(rows.flatten(0, -2)).view(rows.shape).movedim(-1, 1)


def use_group_norms(network: nn.Module, *, causal: bool) -> None:
    """Put group norms in the place of diffusers' layer norms.

    Args:
        network: diffusers' encoder and decoder.
        causal: whether norms see one frame at a time, and those between convolutions over time one position; the others see all frames.
    """
    for name, layer in list(network.named_modules()):
        inner = getattr(layer, "norm", None)
        if isinstance(inner, nn.LayerNorm):
            kind = nn.GroupNorm if not causal else PositionGroupNorm if "_temporal." in name else FrameGroupNorm
            network.set_submodule(name, kind(GROUPS, inner.normalized_shape[0], eps=EPS))
