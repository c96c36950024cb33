"""The convolutional decoder of the VQGAN family."""

from __future__ import annotations

from torch import Tensor, channels_last, contiguous_format, nn
from torch.nn import functional as F

from visiontok.base.errors import SignalError
from visiontok.layers.activations import silu
from visiontok.layers.conv import ConvNetConfig, ResLevel, group_norm, mid_blocks
from visiontok.layers.resampling import UPSAMPLE


class AdaptiveGroupNorm(nn.Module):
    """Open-MAGVIT2's adaptive group norm (arXiv 2409.04410, section 3.1).

    y = scale(std(latents)) * GroupNorm(x) + shift(mean(latents)), statistics per channel over all positions.

    Args:
        channels: C of the map that is normalized.
        latent_channels: D of the latents.
        norm_groups: of the norm, which has no weights of its own.
    """

    def __init__(self, channels: int, latent_channels: int, *, norm_groups: int) -> None:
        super().__init__()
        self.norm_groups = norm_groups
        self.scale = nn.Linear(latent_channels, channels)
        self.shift = nn.Linear(latent_channels, channels)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        """(B, C, *axes) and latents (B, D, *axes) -> (B, C, *axes), of images or clips.

        Raises:
            SignalError: for latents with a single position, which have no (unbiased) variance.
        """
        positions = latents.flatten(2)
        if positions.shape[2] < 2:
            raise SignalError("one latent position has no variance, which this decoder's norms read; use images of more than one stride")
        scale = self.scale((positions.var(dim=2) + 1e-6).sqrt())
        shift = self.shift(positions.mean(dim=2))
        every = (..., *[None] * (x.ndim - 2))
        return scale[every] * F.group_norm(x, self.norm_groups, eps=1e-6) + shift[every]


class DecoderLevel(ResLevel):
    """Residual blocks at one resolution, then doubling, but for the first levels, the last to run."""

    def __init__(self, in_channels: int, out_channels: int, config: ConvNetConfig, *, level: int) -> None:
        super().__init__(in_channels, out_channels, config, level=level)
        doubles = level >= len(config.channel_mult) - config.halvings
        self.upsample = UPSAMPLE[config.upsample](out_channels) if doubles else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, 2H, 2W), or (B, C_out, H, W) without doubling."""
        return self.upsample(super().forward(x))


class ConvDecoder(nn.Module):
    """A convolution, a middle, residual levels with doubling between them, a norm and a convolution.

    `levels[0]` and `adaptive_norms[0]` belong to the full resolution and run last.

    Args:
        config: sizes.
        image_channels: of what it writes; three of images, more of their patches.
    """

    def __init__(self, config: ConvNetConfig, *, image_channels: int = 3) -> None:
        super().__init__()
        widths, latent_channels, groups = config.widths, config.latent_channels, config.norm_groups
        entering = (*widths[1:], widths[-1])
        self.norm_in = group_norm(latent_channels, groups) if config.norm_latents else nn.Identity()
        self.conv_in = nn.Conv2d(latent_channels, widths[-1], 3, padding=1)
        self.mid = mid_blocks(widths[-1], config)
        self.adaptive_norms = nn.ModuleList(
            AdaptiveGroupNorm(width, latent_channels, norm_groups=groups) for width in entering if config.adaptive_norm
        )
        self.levels = nn.ModuleList(
            DecoderLevel(before, width, config, level=level) for level, (before, width) in enumerate(zip(entering, widths, strict=True))
        )
        self.norm_out = group_norm(widths[0], groups)
        self.last_activation = config.last_activation
        self.conv_out = nn.Conv2d(widths[0], image_channels, 3, padding=1)
        # Convolutions on the CPU run faster with channels innermost, but GroupNorm then takes variances as differences of squares, and loses
        # them where an adaptive norm has shifted a channel far from zero.
        self.memory_format = contiguous_format if config.adaptive_norm else channels_last
        self.to(memory_format=self.memory_format)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, latent_channels, h, w) -> (B, image_channels, h * stride, w * stride), not clamped."""
        latents = latents.contiguous(memory_format=self.memory_format)
        x = self.mid(self.conv_in(self.norm_in(latents)))
        for number in reversed(range(len(self.levels))):
            if self.adaptive_norms:
                x = self.adaptive_norms[number](x.contiguous(memory_format=self.memory_format), latents)
            x = self.levels[number](x)
        x = self.norm_out(x)
        return self.conv_out(silu(x) if self.last_activation else x)
