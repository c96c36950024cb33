"""The quantizer contract: what stands between an encoder and a decoder, discrete or continuous."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from visiontok.base.errors import TokenError
from visiontok.base.finite import check_finite
from visiontok.base.modes import evaluating
from visiontok.base.noise import NoiseLike
from visiontok.quantizers.across_ranks import share_of_mean
from visiontok.quantizers.masks import at_positions, valid_rows, without_padding

LARGEST_TABLE = 2**20
"""Codes of the largest table that quantizers without a stored codebook list."""


@dataclass(frozen=True)
class Quantized:
    """What a quantizer returns.

    Attributes:
        latents: (..., D) what the decoder reads; gradients pass through to the quantizer's input. Zero at padding.
        indices: (...) or (..., C) int64; None for continuous bottlenecks. Zero at padding.
        losses: terms already multiplied by their weights; their sum is the quantizer's loss.
        stats: scalars to watch, never part of the loss.
        passed_through: whether the latents are those that were given, as in a warm-up; the indices then only say which codes are nearest.
    """

    latents: Tensor
    indices: Tensor | None
    losses: dict[str, Tensor] = field(default_factory=dict)
    stats: dict[str, Tensor] = field(default_factory=dict)
    passed_through: bool = False


class Bottleneck(nn.Module, ABC):
    """Latents in, what the decoder reads out; knows no family, no layout and no signal."""

    def __init__(self) -> None:
        super().__init__()
        self.register_forward_pre_hook(_refuse_non_finite, with_kwargs=True)

    @property
    def is_stochastic(self) -> bool:
        """Whether it draws in evaluation where noise is given."""
        return False

    @abstractmethod
    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        """Quantize latents (..., D).

        Args:
            latents: (..., D).
            mask: (...) bool, False for padding, which is kept out of losses, statistics and codebook updates; None for no padding.
            noise: where draws come from, for those that draw: in training always, in evaluation only if it is given.
        """


def _refuse_non_finite(module: nn.Module, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> None:
    """NaN would become an index like any other. In training the losses are checked instead."""
    if not module.training and inputs:
        check_finite(without_padding(inputs[0], options.get("mask")), stage="the encoder's latents")


class ContinuousBottleneck(Bottleneck):
    """Base of bottlenecks whose latents stay continuous: there are no indices."""

    @abstractmethod
    def mode(self, latents: Tensor) -> Tensor:
        """What the decoder reads when nothing is drawn, in training too: latents as the encoder gives them -> (..., D)."""


class Quantizer(Bottleneck):
    """Base of bottlenecks that give indices."""

    @abstractmethod
    def lookup(self, indices: Tensor) -> Tensor:
        """The latents (..., D) that stand behind indices (...); equals `forward(x).latents` for `forward(x).indices`."""

    @property
    def has_codes(self) -> bool:
        """Whether there is one table of all codes, `codes()`: see `CodebookQuantizer`."""
        return False

    def search(self, latents: Tensor) -> Tensor:
        """The indices of `forward(latents)` alone; nothing is learned from these latents."""
        with evaluating(self):
            indices = self(latents).indices
        assert indices is not None
        return indices


class NeighborQuantizer(Quantizer):
    """Base of quantizers whose codes have neighbors."""

    @abstractmethod
    def neighbors(self, latents: Tensor, k: int) -> Tensor:
        """For every index of `forward(latents)`, the k indices nearest to the latent that it stands for, nearest first; rank 0 is that index itself.

        Returns:
            (*indices.shape, k) int64.

        Raises:
            ValueError: if there are fewer than k codes.
        """


class CodebookQuantizer(NeighborQuantizer):
    """Base of quantizers whose indices name one of K codes each."""

    @property
    @abstractmethod
    def codebook_size(self) -> int:
        """K."""

    @property
    def has_codes(self) -> bool:
        return True

    def codes(self) -> Tensor:
        """The table of all codes (K, D): row k is `lookup(k)`.

        Raises:
            TokenError: if there is none (see `has_codes`): too many codes to list, or several indices per latent.
        """
        if not self.has_codes:
            raise TokenError(f"this {type(self).__name__} of {self.codebook_size} codes has no table: too many rows, or several indices a latent")
        device = next(chain(self.parameters(), self.buffers())).device
        return self.lookup(torch.arange(self.codebook_size, dtype=torch.int64, device=device))

    def soft_lookup(self, probabilities: Tensor) -> Tensor:
        """The expected code under probabilities (..., K): (..., D); for a one-hot distribution, `lookup`. Gradients reach both."""
        return expected_code(probabilities, self.codes())


class PointwiseQuantizer(CodebookQuantizer):
    """Base of quantizers that treat every latent by itself, so that padding is simply removed."""

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        """See `quantize_rows`, whose losses and stats these are."""
        found, shape = self.quantize_rows(valid_rows(latents, mask)), latents.shape[:-1]
        found = of_all_ranks(found, None if mask is None else mask.sum())
        assert found.indices is not None
        return replace(found, latents=at_positions(found.latents, shape, mask), indices=at_positions(found.indices, shape, mask))

    @abstractmethod
    def quantize_rows(self, latents: Tensor) -> Quantized:
        """Latents (N, D) without padding, N perhaps 0 -> latents (N, D) and indices (N,) or (N, C)."""


def of_all_ranks(quantized: Quantized, count: Tensor | None) -> Quantized:
    """With losses and stats whose means over ranks are those over all elements, however padding is divided among the ranks.

    Args:
        quantized: whose losses and stats are means over the elements of this rank.
        count: of them (scalar); None for as many on every rank.
    """
    share = None if count is None else share_of_mean(count)
    if share is None:
        return quantized
    losses, stats = ({name: value * share for name, value in terms.items()} for terms in (quantized.losses, quantized.stats))
    return replace(quantized, losses=losses, stats=stats)


def expected_code(probabilities: Tensor, codes: Tensor) -> Tensor:
    """sum_k p_k e_k for probabilities (..., K) and codes (K, D): (..., D) in the type of the codes, added up in float32."""
    with torch.autocast(codes.device.type, enabled=False):
        return (probabilities.float() @ codes.float()).to(codes.dtype)
