"""The convolutional decoder of the VQGAN family."""

from __future__ import annotations

from torch import Tensor, channels_last, nn

from visiontok.layers.activations import silu
from visiontok.layers.conv import ConvNetConfig, Upsample, group_norm, res_blocks


class DecoderLevel(nn.Module):
    """Residual blocks at one resolution, then doubling, but for the last level to run."""

    def __init__(self, in_channels: int, out_channels: int, config: ConvNetConfig, *, upsample: bool) -> None:
        super().__init__()
        self.blocks = res_blocks(in_channels, out_channels, config)
        self.upsample = Upsample(out_channels) if upsample else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, 2H, 2W), or (B, C_out, H, W) at the last level."""
        return self.upsample(self.blocks(x))


class ConvDecoder(nn.Module):
    """Residual levels with nearest-neighbour upsampling between them (MaskGIT's VQGAN, Chang et al. 2022).

    `levels[0]` is the full resolution and runs last.
    """

    def __init__(self, config: ConvNetConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.mid = res_blocks(widths[-1], widths[-1], config)
        self.levels = nn.ModuleList(
            DecoderLevel(below, width, config, upsample=number > 0)
            for number, (below, width) in enumerate(zip((*widths[1:], widths[-1]), widths, strict=True))
        )
        self.norm_out = group_norm(widths[0], config.norm_groups)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)
        self.to(memory_format=channels_last)  # convolutions on the CPU run faster with channels innermost

    def forward(self, latents: Tensor) -> Tensor:
        """(B, latent_channels, h, w) -> (B, 3, h * stride, w * stride), not clamped."""
        x = self.mid(self.conv_in(latents.contiguous(memory_format=channels_last)))
        for level in reversed(self.levels):
            x = level(x)
        return self.conv_out(silu(self.norm_out(x)))
