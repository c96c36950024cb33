"""Codes that an encoder searches in its own codebooks, and a decoder reads in others."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.quantizers.gradients import straight_through
from visiontok.tokenizers.audio.mimi.model import MimiQuantizer
from visiontok.tokenizers.shared.library_codec import COMMITMENT_WEIGHT, LibraryQuantizer


class ReadingBranch(nn.Module):
    """What the decoder reads for the codes of some levels: the sum of their rows, through one matrix.

    State:
        codebooks: (K, V, d).
    """

    codebooks: Tensor

    def __init__(self, num_levels: int, codebook_size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("codebooks", torch.randn(num_levels, codebook_size, dim))
        self.proj = nn.Conv1d(dim, 2 * dim, 1, bias=False)

    def rows(self, codes: Tensor) -> Tensor:
        """(B, K, T) -> (B, d, T)."""
        levels = [F.embedding(indices, table) for indices, table in zip(codes.unbind(dim=1), self.codebooks, strict=True)]
        return torch.stack(levels).sum(dim=0).transpose(1, 2)


class TwoSidedQuantizer(LibraryQuantizer):
    """One semantic level and acoustic ones beside it, as in Mimi, of which the decoder has codebooks of its own. All levels are needed to decode.

    Args:
        encoder: Mimi's quantizer, which may have more levels than are used.
        num_levels: K.
        codebook_size: V.
        dim: d of the codes on both sides.
    """

    def __init__(self, encoder: MimiQuantizer, *, num_levels: int, codebook_size: int, dim: int) -> None:
        super().__init__()
        for branch in encoder.branches:
            branch.output_proj = None  # its codes are not read
        self.encoder, self.num_levels = encoder, num_levels
        self.semantic = ReadingBranch(1, codebook_size, dim)
        self.acoustic = ReadingBranch(num_levels - 1, codebook_size, dim)

    def search_frames(self, latents: Tensor) -> Tensor:
        return self.encoder.search_frames(latents)[:, : self.num_levels]

    def lookup_frames(self, codes: Tensor) -> Tensor:
        found: Tensor = self.semantic.proj(self.semantic.rows(codes[:, :1])) + self.acoustic.proj(self.acoustic.rows(codes[:, 1:]))
        return found

    def quantize_frames(self, latents: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """See `LibraryQuantizer`; gradients pass straight through between the projections of both sides, so that these learn too."""
        with torch.no_grad():
            codes = self.search_frames(latents)
        quantized, distances = torch.zeros_like(latents), []
        for reading, projected, own in zip(
            (self.semantic, self.acoustic), self.encoder.projected(latents), (codes[:, :1], codes[:, 1:]), strict=True
        ):
            rows = reading.rows(own)
            quantized = quantized + reading.proj(straight_through(projected, rows))
            distances.append(F.mse_loss(projected, rows.detach()))
        return quantized, codes, {"commitment": COMMITMENT_WEIGHT * torch.stack(distances).sum()}
