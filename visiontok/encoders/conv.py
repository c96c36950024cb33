"""The convolutional encoder of the VQGAN family."""

from __future__ import annotations

from torch import Tensor, channels_last, nn

from visiontok.layers.activations import silu
from visiontok.layers.conv import ConvNetConfig, ResLevel, group_norm, mid_blocks
from visiontok.layers.resampling import DOWNSAMPLE


class EncoderLevel(ResLevel):
    """Residual blocks at one resolution, then halving, but for the last levels."""

    def __init__(self, in_channels: int, out_channels: int, config: ConvNetConfig, *, level: int) -> None:
        super().__init__(in_channels, out_channels, config, level=level)
        self.downsample = DOWNSAMPLE[config.downsample](out_channels) if level < config.halvings else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / 2, W / 2), or (B, C_out, H, W) without halving."""
        return self.downsample(super().forward(x))


class ConvEncoder(nn.Module):
    """A convolution, residual levels with halving between them, a middle, a norm and a convolution.

    Args:
        config: sizes.
        image_channels: of what it reads; three of images, more of their patches.
    """

    def __init__(self, config: ConvNetConfig, *, image_channels: int = 3) -> None:
        super().__init__()
        widths, kernel = config.widths, config.latent_kernel
        self.conv_in = nn.Conv2d(image_channels, config.channels, 3, padding=1, bias=config.bias)
        self.levels = nn.ModuleList(
            EncoderLevel(before, width, config, level=level)
            for level, (before, width) in enumerate(zip((config.channels, *widths[:-1]), widths, strict=True))
        )
        self.mid = mid_blocks(widths[-1], config)
        self.norm_out = group_norm(widths[-1], config.norm_groups)
        self.last_activation = config.last_activation
        self.conv_out = nn.Conv2d(widths[-1], config.latent_channels, kernel, padding=kernel // 2)
        self.to(memory_format=channels_last)  # convolutions on the CPU run faster with channels innermost

    def forward(self, images: Tensor) -> Tensor:
        """(B, image_channels, H, W) -> (B, latent_channels, H / stride, W / stride)."""
        x = self.conv_in(images.contiguous(memory_format=channels_last))
        for level in self.levels:
            x = level(x)
        x = self.norm_out(self.mid(x))
        return self.conv_out(silu(x) if self.last_activation else x)
