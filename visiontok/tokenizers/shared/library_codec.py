"""What audio codecs share whose networks are those of transformers: weights without weight normalization, and their residual quantizers."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from visiontok.base.noise import NoiseLike
from visiontok.core.model import ConfigT
from visiontok.core.weight_norm import folded
from visiontok.quantizers.base import Quantized, Quantizer, of_all_ranks
from visiontok.quantizers.gradients import straight_through
from visiontok.quantizers.masks import at_positions, valid_rows
from visiontok.tokenizers.shared.codec import Codec
from visiontok.tokenizers.shared.library_model import LibraryTokenizer

COMMITMENT_WEIGHT = 0.25
"""Of the mean squared distance that draws the encoder to the codes, where the library has no loss of its own."""


class LibraryCodec(LibraryTokenizer[ConfigT], Codec[ConfigT]):
    """Base of a codec of transformers. Weight normalization is folded into the weights, which computes the same."""

    library: ClassVar[str] = "transformers"

    @classmethod
    def new_network(cls, arguments: Mapping[str, Any]) -> Any:
        """The library's network with random weights, which are plain tensors."""
        return without_weight_norm(super().new_network(arguments))

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The library's tensors under our names, with weight normalization in either spelling folded."""
        return super().weights_from_reference(folded(state_dict))


def without_weight_norm(network: nn.Module) -> Any:
    """The same network, whose weights are plain tensors."""
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    return network


class LibraryQuantizer(Quantizer):
    """Base of a codec's own quantizer behind the contract: latents (B, T, D) -> indices (B, T, K), and back from the first levels of them.

    Every frame is quantized by itself, so that padding is simply removed. For training, gradients pass straight through the sum of all levels.
    Codebooks that are moving averages in the library's training stay as they are.
    """

    @abstractmethod
    def search_frames(self, latents: Tensor) -> Tensor:
        """Latents (1, D, N) -> the codes (1, K, N) of all levels."""

    @abstractmethod
    def lookup_frames(self, codes: Tensor) -> Tensor:
        """The first levels (B, k, T) -> latents (B, D, T)."""

    def quantize_frames(self, latents: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Latents (1, D, N) -> what the decoder reads, the codes (1, K, N) of all levels, and losses."""
        with torch.no_grad():
            codes = self.search_frames(latents)
        found = self.lookup_frames(codes)
        return straight_through(latents, found), codes, {"commitment": COMMITMENT_WEIGHT * F.mse_loss(latents, found.detach())}

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        """See `Quantizer`; latents are (B, T, D)."""
        quantized, codes, losses = self.quantize_frames(valid_rows(latents, mask).transpose(0, 1)[None])
        values, indices = (at_positions(found[0].transpose(0, 1), latents.shape[:-1], mask) for found in (quantized, codes.to(torch.int64)))
        return of_all_ranks(Quantized(values, indices, losses), None if mask is None else mask.sum())

    def lookup(self, indices: Tensor) -> Tensor:
        """The first k levels (B, T, k) -> the latents (B, T, D)."""
        return self.lookup_frames(indices.transpose(1, 2)).transpose(1, 2)


class LibraryResidualQuantizer(LibraryQuantizer):
    """EnCodec's and X-Codec's: residual codebooks that are moving averages; the nearest code in the Euclidean distance."""

    rvq: Any

    def __init__(self, rvq: nn.Module) -> None:
        super().__init__()
        self.rvq = rvq

    def search_frames(self, latents: Tensor) -> Tensor:
        codes: Tensor = self.rvq.encode(latents)
        return codes.transpose(0, 1)

    def lookup_frames(self, codes: Tensor) -> Tensor:
        latents: Tensor = self.rvq.decode(codes.transpose(0, 1))
        return latents


def levels_of_bandwidth(kilobits: float, *, sample_rate: int, hop: int, codebook_size: int) -> int:
    """Codebooks that a bandwidth holds, as the library counts them: with whole frames per second and whole bits."""
    return int(1000 * kilobits // (math.ceil(sample_rate / hop) * math.ceil(math.log2(codebook_size))))
