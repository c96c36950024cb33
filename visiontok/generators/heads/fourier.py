"""The Fourier head (arXiv 2410.22269): smooth distributions over ordered codes, from a density on [-1, 1] that is a Fourier series.

A linear map gives complex coefficients a_0 ... a_N. Their autocorrelation c_k = sum_j a_{j+k} conj(a_j) makes the series
f(x) = 1/2 + Re sum_k c_k / c_0 exp(i pi k x) = |sum_j a_j exp(i pi j x)|^2 / (2 c_0), which is never negative and integrates to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.generators.heads.categorical import CodeDistributions, IndependentHead

LEAST_PROBABILITY = 1e-5
"""Added to the probability of every code before the logarithm."""


class FourierHeadConfig(Config):
    """Size and training of a `FourierHead`.

    Attributes:
        num_frequencies: N; well below half the number of codes for smooth distributions.
        regularization: weight of the squared norm of the series' derivative, which prefers low frequencies.
        weight_divisor, bias_divisor: of the linear map at initialization.
    """

    num_frequencies: Positive = 12
    regularization: Annotated[float, Field(ge=0)] = 1e-6
    weight_divisor: Annotated[float, Field(gt=0)] = 100.0
    bias_divisor: Annotated[float, Field(gt=0)] = 100.0


class FourierHead(IndependentHead):
    """A Fourier series for every token of a step. The codes of every codebook must be ordered: neighbors in number mean neighbors in value.

    Args:
        config: size and training.
        dim: D.
        codebooks: the first row of every codebook in the table of all, and the number of its codes.
    """

    def __init__(self, config: FourierHeadConfig, dim: int, codebooks: Sequence[tuple[int, int]]) -> None:
        super().__init__(FourierTable(config, dim, codebooks))


class FourierTable(CodeDistributions):
    """One linear map to coefficients per codebook; arguments as of `FourierHead`."""

    def __init__(self, config: FourierHeadConfig, dim: int, codebooks: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.config, self.codebooks = config, tuple(codebooks)
        maps = [nn.Linear(dim, 2 * (config.num_frequencies + 1)) for _ in self.codebooks]
        with torch.no_grad():
            for each in maps:
                each.weight.div_(config.weight_divisor)
                each.bias.div_(config.bias_divisor)
        self.maps = nn.ModuleList(maps)

    def coefficients(self, hidden: Tensor, first: int) -> Tensor:
        """Complex (..., N + 1) a_0 ... a_N for the codebook whose rows begin at `first`, from (..., D)."""
        number = next(number for number, (begin, _) in enumerate(self.codebooks) if begin == first)
        real, imaginary = self.maps[number](hidden).float().chunk(2, dim=-1)
        return torch.complex(real, imaginary)

    def logits(self, hidden: Tensor, first: int, size: int) -> Tensor:
        """The logarithm of the density at the centers of as many equal bins, normalized over these."""
        values = squared_series(self.coefficients(hidden, first), bin_centers(size, hidden.device))
        return (values / values.sum(dim=-1, keepdim=True) + LEAST_PROBABILITY).log()

    def penalty(self, hidden: Tensor, first: Tensor) -> Tensor:
        """The regularization of every series."""
        found = hidden.new_zeros(len(hidden), dtype=torch.float32)
        if self.config.regularization:
            for begin in first.unique().tolist():
                where = first == begin
                found[where] = self.config.regularization * roughness(autocorrelation(self.coefficients(hidden[where], begin)))
        return found


def bin_centers(count: int, device: torch.device | None = None) -> Tensor:
    """(count,) float32 centers of equal bins of [-1, 1]."""
    edges = torch.linspace(-1, 1, count + 1, dtype=torch.float32, device=device)
    return (edges[1:] + edges[:-1]) / 2


def squared_series(coefficients: Tensor, x: Tensor) -> Tensor:
    """|sum_j a_j exp(i pi j x)|^2, (..., n) float32, of a (..., N + 1) at x (n,): the density but for a constant factor."""
    frequencies = torch.arange(coefficients.shape[-1], dtype=torch.float32, device=x.device)
    angles = math.pi * frequencies[:, None] * x
    with torch.autocast(x.device.type, enabled=False):
        return (coefficients @ torch.complex(angles.cos(), angles.sin())).abs().square()


def autocorrelation(coefficients: Tensor) -> Tensor:
    """c_k = sum_j a_{j+k} conj(a_j), complex (..., N + 1) for k = 0 ... N, of a (..., N + 1)."""
    count = coefficients.shape[-1]
    return torch.fft.ifft(torch.fft.fft(coefficients, n=2 * count).abs().square())[..., :count].resolve_conj()


def roughness(correlation: Tensor) -> Tensor:
    """2 sum_k 2 pi^2 k^2 |c_k|^2, (...) float32, of c (..., N + 1): large where a series has high frequencies."""
    frequencies = torch.arange(correlation.shape[-1], dtype=torch.float32, device=correlation.device)
    return 4 * math.pi**2 * (frequencies.square() * correlation.abs().square()).sum(dim=-1)


def density(correlation: Tensor, x: Tensor) -> Tensor:
    """f(x), (..., n) float32, of the series with autocorrelation c (..., N + 1), at x (..., n) in [-1, 1]."""
    return 0.5 + (_normalized(correlation) * torch.exp(1j * _angles(correlation, x))).sum(dim=-1).real


def cumulative(correlation: Tensor, x: Tensor) -> Tensor:
    """The distribution function F(x), (..., n) float32, with arguments as of `density`."""
    angles = _angles(correlation, x)
    frequencies = torch.arange(1, correlation.shape[-1], dtype=torch.float32, device=x.device)
    signs = 1 - 2 * (frequencies % 2)
    terms = _normalized(correlation) * (torch.exp(1j * angles) - signs) / (1j * math.pi * frequencies)
    return x / 2 + 0.5 + terms.sum(dim=-1).real


def sample_series(correlation: Tensor, uniform: Tensor, *, steps: int = 25) -> Tensor:
    """x (..., n) float32 with F(x) = u for uniform draws u (..., n), by `steps` bisections of [-1, 1]."""
    low, high = torch.full_like(uniform, -1), torch.ones_like(uniform)
    for _ in range(steps):
        middle = (low + high) / 2
        is_low = cumulative(correlation, middle) < uniform
        low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
    return (low + high) / 2


def series_nll(correlation: Tensor, x: Tensor) -> Tensor:
    """-log(f(x) + 1e-10), the loss of continuous values, with arguments as of `density`."""
    return -(density(correlation, x) + 1e-10).log()


def _normalized(correlation: Tensor) -> Tensor:
    """(..., 1, N) complex c_k / c_0 for k = 1 ... N."""
    return (correlation[..., 1:] / correlation[..., :1].real)[..., None, :]


def _angles(correlation: Tensor, x: Tensor) -> Tensor:
    """(..., n, N) pi k x for k = 1 ... N."""
    return math.pi * torch.arange(1, correlation.shape[-1], dtype=torch.float32, device=x.device) * x[..., None]
