"""Group normalisation whose scale and shift come from the latents (Open-MAGVIT2, arXiv 2409.04410, section 3.1)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.errors import SignalError


class AdaptiveGroupNorm(nn.Module):
    """y = scale(std(latents)) * GroupNorm(x) + shift(mean(latents)), statistics per channel over all positions.

    Args:
        channels: C of the map that is normalised.
        latent_channels: D of the latents.
        norm_groups: of the norm, which has no weights of its own.
    """

    def __init__(self, channels: int, latent_channels: int, *, norm_groups: int) -> None:
        super().__init__()
        self.norm_groups = norm_groups
        self.scale = nn.Linear(latent_channels, channels)
        self.shift = nn.Linear(latent_channels, channels)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        """(B, C, H, W) and latents (B, D, h, w) -> (B, C, H, W).

        Raises:
            SignalError: for latents with a single position, which have no (unbiased) variance.
        """
        positions = latents.flatten(2)
        if positions.shape[2] < 2:
            raise SignalError("one latent position has no variance, which this decoder's norms read; use images of more than one stride")
        scale = self.scale((positions.var(dim=2) + 1e-6).sqrt())
        shift = self.shift(positions.mean(dim=2))
        return scale[:, :, None, None] * F.group_norm(x, self.norm_groups, eps=1e-6) + shift[:, :, None, None]
