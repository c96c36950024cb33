"""LARP's prior (arXiv 2410.21264, section 3.3): a small causal transformer over the codes, trained with the tokenizer.

Its loss teaches the encoder to write tokens that are easy to predict one after the other, which gives them their order. Encoding and decoding do
without it.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.base.noise import Noise
from visiontok.layers.transformer import TransformerBlock
from visiontok.quantizers.stochastic_vector import drawn_codes


class PriorConfig(Config):
    """Sizes of the prior and its part in training.

    Attributes:
        dim, depth, num_heads: sizes; the defaults are the published ones.
        max_length: rows of its table of positions; at least the tokens of a sample less one.
        weight: of its loss beside the quantizer's terms. Published: 0.06 where these have 0.1.
        temperature: divides the logits.
        num_rounds: passes per step. Each one but the first reads codes that were drawn from the pass before, at some positions (scheduled sampling).
        sampling_ratio: share of these positions at the end.
        sampling_ramp_steps: steps in which the share rises linearly from 0; published: 30 % of all steps.
        attention_dropout: in training. Theirs also drops in evaluation.
    """

    dim: Positive = 384
    depth: Positive = 12
    num_heads: Positive = 6
    max_length: Positive = 1024
    weight: float = Field(default=0.6, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    num_rounds: Positive = 2
    sampling_ratio: float = Field(default=0.5, ge=0, le=1)
    sampling_ramp_steps: Positive = 100_000
    attention_dropout: float = Field(default=0.1, ge=0, lt=1)

    def ratio(self, step: int) -> float:
        """Share of positions with drawn codes in step `step`, counted from 0."""
        return self.sampling_ratio * min(step / self.sampling_ramp_steps, 1.0)


class ContinuousPrior(nn.Module):
    """Codes (B, N, C) in, a direction for each next code out.

    Args:
        config: sizes.
        latent_dim: channels C of a code.
    """

    def __init__(self, config: PriorConfig, *, latent_dim: int) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(latent_dim, config.dim)
        self.positions = nn.Parameter(torch.randn(config.max_length, config.dim) * 0.02)
        self.blocks = nn.ModuleList(
            TransformerBlock(config.dim, config.num_heads, mlp_dim=4 * config.dim, attention_dropout=config.attention_dropout)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.head = nn.Linear(config.dim, latent_dim)

    def forward(self, codes: Tensor) -> Tensor:
        """(B, N, C) -> predictions (B, N, C) on the unit sphere; the first is the first code itself."""
        x = self.embed(codes[:, :-1])
        x = x + self.positions[: x.shape[1]]
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        for block in self.blocks:
            x = block(x, causal)
        return F.normalize(torch.cat([codes[:, :1], self.head(self.norm(x))], dim=1), dim=-1)

    def loss(self, codes: Tensor, indices: Tensor, codebook: Tensor, *, step: int, noise: Noise) -> Tensor:
        """The mean cross entropy of all codes but the first, over all rounds; not weighted.

        Draws, if any position is to be replaced, one uniform value per position, then the codes of each round but the last.

        Args:
            codes: (B, N, C) what the decoder reads; gradients reach the encoder through them.
            indices: (B, N) int64.
            codebook: (K, C) of unit length, a constant.
            step: of training.
            noise: gives the draws.
        """
        config = self.config
        ratio = config.ratio(step)
        rounds = config.num_rounds if ratio > 0 else 1  # all rounds would read the same
        predicted = self(codes)[:, 1:]
        losses = [self.cross_entropy(predicted, indices, codebook)]
        if rounds == 1:
            return losses[0]
        replaced = noise.uniform(len(codes), codes.shape[1] - 1, 1) < ratio
        for _ in range(rounds - 1):
            drawn = drawn_codes(predicted.detach().float(), codebook, temperature=config.temperature, noise=noise)
            mixed = torch.where(replaced, codebook[drawn].to(codes.dtype), codes[:, 1:])
            predicted = self(torch.cat([codes[:, :1], mixed], dim=1))[:, 1:]
            losses.append(self.cross_entropy(predicted, indices, codebook))
        return torch.stack(losses).mean()

    def cross_entropy(self, predicted: Tensor, indices: Tensor, codebook: Tensor) -> Tensor:
        """The mean for predictions (B, N - 1, C) of the indices (B, N) but the first."""
        return F.cross_entropy(self.logits(predicted, codebook).flatten(0, 1), indices[:, 1:].flatten())

    def logits(self, predicted: Tensor, codebook: Tensor) -> Tensor:
        """Predictions (B, n, C) and the codebook (K, C) -> float32 logits (B, n, K)."""
        with torch.autocast(predicted.device.type, enabled=False):
            return predicted.float() @ codebook.T / self.config.temperature
