"""The convolutional encoder of the VQGAN family."""

from __future__ import annotations

from torch import Tensor, channels_last, nn
from torch.nn import functional as F

from visiontok.layers.activations import silu
from visiontok.layers.conv import ConvNetConfig, group_norm, res_blocks


class EncoderLevel(nn.Module):
    """Residual blocks at one resolution; the first changes the width."""

    def __init__(self, in_channels: int, out_channels: int, config: ConvNetConfig) -> None:
        super().__init__()
        self.blocks = res_blocks(in_channels, out_channels, config)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H, W)."""
        return self.blocks(x)


class ConvEncoder(nn.Module):
    """Residual levels with 2x2 mean pooling between them (MaskGIT's VQGAN, Chang et al. 2022)."""

    def __init__(self, config: ConvNetConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(3, config.channels, 3, padding=1, bias=False)
        self.levels = nn.ModuleList(
            EncoderLevel(before, width, config) for before, width in zip((config.channels, *widths[:-1]), widths, strict=True)
        )
        self.mid = res_blocks(widths[-1], widths[-1], config)
        self.norm_out = group_norm(widths[-1], config.norm_groups)
        self.conv_out = nn.Conv2d(widths[-1], config.latent_channels, 1)
        self.to(memory_format=channels_last)  # convolutions on the CPU run faster with channels innermost

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, latent_channels, H / stride, W / stride)."""
        x = self.conv_in(images.contiguous(memory_format=channels_last))
        for number, level in enumerate(self.levels):
            x = level(x)
            if number < len(self.levels) - 1:
                x = F.avg_pool2d(x, 2)
        return self.conv_out(silu(self.norm_out(self.mid(x))))
