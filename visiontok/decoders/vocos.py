"""The decoder of Vocos (Siuzdak 2023, arXiv 2306.00814): ConvNeXt blocks at the frame rate, and an inverse Fourier transform to sound."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import fold

from visiontok.layers.carry import Carry, Edge
from visiontok.layers.convnext import ConvNeXtBlock

MAX_MAGNITUDE = 100.0
"""Of a spectrum's value."""


class VocosBackbone(nn.Module):
    """A norm, ConvNeXt blocks and a norm.

    Args:
        dim: C.
        mlp_dim: between the linear layers of a block.
        depth: blocks.
        kernel, causal, edge: of their convolutions, see `FrameConv`.
    """

    def __init__(self, dim: int, mlp_dim: int, depth: int, *, kernel: int = 7, causal: bool = False, edge: Edge = "constant") -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        blocks = (ConvNeXtBlock(dim, mlp_dim, scale=1 / depth, kernel=kernel, causal=causal, edge=edge) for _ in range(depth))
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor, carry: Carry | None = None) -> Tensor:
        """(B, C, T) -> (B, T, C)."""
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            x = block(x, carry)
        result: Tensor = self.final_norm(x.transpose(1, 2))
        return result


class SpectrumHead(nn.Module):
    """Logarithmic magnitudes and phases of every frame's spectrum by a linear layer, and their inverse Fourier transform.

    Args:
        dim: C.
        n_fft: samples of a frame's window.
        hop: samples between frames; at most n_fft, from which it differs by an even number.
    """

    window: Tensor

    def __init__(self, dim: int, *, n_fft: int, hop: int) -> None:
        super().__init__()
        self.hop = hop
        self.linear = nn.Linear(dim, n_fft + 2)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> sound (B, 1, T * hop), not clamped."""
        with torch.autocast(x.device.type, enabled=False):
            magnitude, phase = self.linear(x.to(self.linear.weight.dtype)).float().chunk(2, dim=-1)
            spectrum = torch.polar(magnitude.exp().clamp_max(MAX_MAGNITUDE), phase)
            return self.sound(spectrum).to(x.dtype)

    def sound(self, spectrum: Tensor) -> Tensor:
        """(B, T, n_fft / 2 + 1) complex -> (B, 1, T * hop): frames overlap."""
        return inverse_stft(spectrum, self.window.float(), self.hop)


class CausalSpectrumHead(SpectrumHead):
    """One whose frames do not overlap: each gives the last samples of its own transform."""

    def sound(self, spectrum: Tensor) -> Tensor:
        """(B, T, n_fft / 2 + 1) complex -> (B, 1, T * hop)."""
        return torch.fft.irfft(spectrum, n=len(self.window))[..., -self.hop :].flatten(1)[:, None]


def inverse_stft(spectrum: Tensor, window: Tensor, hop: int) -> Tensor:
    """Windowed inverse transforms of all frames, added up where they overlap, divided by the sum of the squared windows.

    `torch.istft` centers frames or pads none; here as many samples are cut at both ends as leave `hop` of them for every frame.

    Args:
        spectrum: (B, T, n_fft / 2 + 1) complex.
        window: (n_fft,).
        hop: samples between frames.

    Returns:
        (B, 1, T * hop).
    """
    frames, size = spectrum.shape[1], len(window)
    total, cut = (frames - 1) * hop + size, (size - hop) // 2

    def added(parts: Tensor) -> Tensor:
        """(B, T, n_fft) -> (B, 1, total)."""
        return fold(parts.transpose(1, 2), (1, total), kernel_size=(1, size), stride=(1, hop))[:, :, 0]

    sound = added(torch.fft.irfft(spectrum, n=size) * window)
    weight = added(window.square().expand(1, frames, size))
    return sound[..., cut : total - cut] / weight[..., cut : total - cut]
