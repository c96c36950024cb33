"""The encoder and decoder of `conv-clip`: residual blocks of a convolution within frames and one along time."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, TypeAlias

from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, pixel_shuffle, pixel_unshuffle

from visiontok.base.config import Config, Positive
from visiontok.layers.activations import silu
from visiontok.layers.carry import Carry, trimmed
from visiontok.layers.causal_conv3d import Border, CausalConv3d
from visiontok.layers.frames import FrameNorm

Factor: TypeAlias = Literal[1, 2]
Kernel: TypeAlias = tuple[int, int, int]
WITHIN_FRAMES, ALONG_TIME, EVERYWHERE, POINTWISE = (1, 3, 3), (3, 1, 1), (3, 3, 3), (1, 1, 1)


class ClipNetConfig(Config):
    """Sizes of an encoder, and of the decoder that mirrors it. Level 0 is the full resolution.

    Attributes:
        channels: in every level.
        downsampling: what frames and sides are divided by between two levels, (time, space) for each: 1 or 2.
        num_res_blocks: in every level.
        patch_size: side of the patches of every frame that become channels at first.
        causal: whether no layer reads later frames; the first frame then stands by itself. Otherwise kernels along time are centered.
        border: what convolutions read beyond the borders of frames. Zeros tell where a frame ends, so that the tokens of a thing depend on its place;
            with "replicate" they move with it over even ground.
        time_kernel: frames that a kernel along time reads; with 1 every frame is tokens by itself, as a tokenizer of images makes them.
    """

    channels: tuple[Positive, ...] = (32, 64, 128)
    downsampling: tuple[tuple[Factor, Factor], ...] = ((2, 2), (2, 2))
    num_res_blocks: Positive = 1
    patch_size: Positive = 2
    causal: bool = True
    time_kernel: Literal[1, 3] = 3
    border: Border = "zeros"

    def conv(self, before: int, after: int, kernel: Kernel, *, stride: Kernel = (1, 1, 1)) -> CausalConv3d | CenteredConv3d:
        """A convolution, causal or centered, that reads no more frames than `time_kernel`."""
        kernel = (min(kernel[0], self.time_kernel), *kernel[1:])
        kind = CausalConv3d if self.causal else CenteredConv3d
        return kind(before, after, kernel, stride=stride, border=self.border)


class CenteredConv3d(nn.Conv3d):
    """The counterpart of `CausalConv3d` that reads as many later as earlier frames: beyond its ends a clip goes on with its first and last one."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Kernel, *, stride: Kernel, border: Border) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, (0, kernel[1] // 2, kernel[2] // 2), padding_mode=border)

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        """(B, C, T, H, W), T a multiple of the stride -> (B, C', T', H', W'); the whole clip."""
        beyond = self.kernel_size[0] - self.stride[0]
        return super().forward(pad(x, (0, 0, 0, 0, beyond // 2, beyond - beyond // 2), mode="replicate") if beyond > 0 else x)


class ClipBlock(nn.Module):
    """Norm, swish and a convolution within frames, the same along time, added to the input. Before training it adds nothing."""

    def __init__(self, channels: int, config: ClipNetConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = FrameNorm(channels), FrameNorm(channels)
        self.within = config.conv(channels, channels, WITHIN_FRAMES)
        self.along = config.conv(channels, channels, ALONG_TIME)
        for parameter in self.along.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H, W)."""
        h = self.within(silu(self.norm1(x)), carry)
        return x + self.along(silu(self.norm2(h)), carry)


class Upsample(nn.Module):
    """Every frame and every pixel repeated, and a convolution."""

    def __init__(self, before: int, after: int, factors: tuple[int, int], config: ClipNetConfig) -> None:
        super().__init__()
        self.time, self.space, self.causal = *factors, config.causal
        self.conv = config.conv(before, after, EVERYWHERE)

    def forward(self, x: Tensor, carry: Carry) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T * time, H * space, W * space); causal: 1 + (T - 1) * time frames of a whole clip."""
        x = interpolate(x, scale_factor=(float(self.time), float(self.space), float(self.space)))
        return self.conv(trimmed(x, self.time - 1, layer=self, carry=carry) if self.causal else x, carry)


class ClipEncoder(nn.Module):
    """Patches of frames, levels, and latents of `dim` channels."""

    def __init__(self, config: ClipNetConfig, *, dim: int) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        layers: list[nn.Module] = [config.conv(3 * config.patch_size**2, config.channels[0], EVERYWHERE)]
        layers += [ClipBlock(config.channels[0], config) for _ in range(config.num_res_blocks)]
        for (before, after), (time, space) in zip(pairwise(config.channels), config.downsampling, strict=True):
            layers.append(config.conv(before, after, EVERYWHERE, stride=(time, space, space)))
            layers += [ClipBlock(after, config) for _ in range(config.num_res_blocks)]
        self.layers = nn.ModuleList(layers)
        self.norm = FrameNorm(config.channels[-1])
        self.to_latents = config.conv(config.channels[-1], dim, POINTWISE)

    def forward(self, clips: Tensor, carry: Carry) -> Tensor:
        """(B, 3, T, H, W) in [-1, 1] -> (B, dim, t, h, w)."""
        x = pixel_unshuffle(clips.transpose(1, 2), self.patch_size).transpose(1, 2)
        for layer in self.layers:
            x = layer(x, carry)
        return self.to_latents(silu(self.norm(x)), carry)


class ClipDecoder(nn.Module):
    """The encoder's mirror image."""

    def __init__(self, config: ClipNetConfig, *, dim: int) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        layers: list[nn.Module] = [config.conv(dim, config.channels[-1], EVERYWHERE)]
        layers += [ClipBlock(config.channels[-1], config) for _ in range(config.num_res_blocks)]
        for (before, after), factors in zip(pairwise(config.channels[::-1]), config.downsampling[::-1], strict=True):
            layers.append(Upsample(before, after, factors, config))
            layers += [ClipBlock(after, config) for _ in range(config.num_res_blocks)]
        self.layers = nn.ModuleList(layers)
        self.norm = FrameNorm(config.channels[0])
        self.to_patches = config.conv(config.channels[0], 3 * config.patch_size**2, EVERYWHERE)

    def forward(self, latents: Tensor, carry: Carry) -> Tensor:
        """(B, dim, t, h, w) -> (B, 3, T, H, W), nominally in [-1, 1]."""
        x = latents
        for layer in self.layers:
            x = layer(x, carry)
        x = self.to_patches(silu(self.norm(x)), carry)
        return pixel_shuffle(x.transpose(1, 2), self.patch_size).transpose(1, 2)
