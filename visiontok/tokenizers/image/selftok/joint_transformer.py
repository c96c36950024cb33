"""A transformer of two streams that attend to both: image patches and the tokens they are made from (MMDiT, Esser et al. 2024, arXiv 2403.03206).

As Selftok has it (Wang et al. 2025, arXiv 2505.07538): time modulates the patches; each token is modulated by its own position, whatever the time.
Tokens that are not visible are dropped from the sequence, so a step that sees few of them costs little.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.layers.activations import gelu_tanh
from visiontok.layers.modulation import Modulation, modulate
from visiontok.layers.nested_dropout import prefix_mask
from visiontok.layers.timesteps import TimestepEmbedding
from visiontok.layers.transformer import Mlp
from visiontok.tokenizers.image.selftok.position_modulation import PositionModulation, token_positions


class JointTransformerConfig(Config):
    """Sizes of both streams, which are alike.

    Attributes:
        dim: D.
        depth: number of blocks.
        num_heads: attention heads; must divide `dim`.
        mlp_ratio: hidden dim of the feed-forward parts over D.
    """

    dim: int = Field(default=1536, gt=0, multiple_of=4)
    depth: Positive = 24
    num_heads: Positive = 24
    mlp_ratio: float = Field(default=4.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> JointTransformerConfig:
        if self.dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide dim {self.dim}")
        return self


class Context(NamedTuple):
    """The context that tokens make; the same at every step.

    Attributes:
        tokens: (B, L, D), embedded.
        modulations: of every block but the last, six tensors (1, L, D).
    """

    tokens: Tensor
    modulations: tuple[tuple[Tensor, ...], ...]

    def first(self, count: int) -> Context:
        """The context of the first tokens."""
        return Context(self.tokens[:, :count], tuple(tuple(part[:, :count] for part in parts) for parts in self.modulations))


class Stream(nn.Module):
    """One stream's weights in a joint block.

    Args:
        config: sizes.
        is_read_only: whether the block ends with the attention for this stream: its keys and values are read, and it has no output.
    """

    def __init__(self, config: JointTransformerConfig, *, is_read_only: bool = False) -> None:
        super().__init__()
        dim = config.dim
        self.num_heads = config.num_heads
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = None if is_read_only else nn.Linear(dim, dim)
        self.mlp = None if is_read_only else Mlp(dim, int(dim * config.mlp_ratio), activation=gelu_tanh)

    def heads(self, x: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L, D) -> query, key and value, each (B, heads, L, D / heads)."""
        packed = self.qkv(modulate(self.norm(x), shift, scale)).unflatten(2, (3, self.num_heads, -1))
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        return query, key, value

    def update(self, x: Tensor, attended: Tensor, gate1: Tensor, shift2: Tensor, scale2: Tensor, gate2: Tensor) -> Tensor:
        """(B, L, D) and what its queries found (B, heads, L, D / heads) -> (B, L, D)."""
        assert self.proj is not None
        assert self.mlp is not None
        x = torch.addcmul(x, gate1, self.proj(attended.transpose(1, 2).flatten(2)))
        return torch.addcmul(x, gate2, self.mlp(modulate(self.norm(x), shift2, scale2)))


class JointBlock(nn.Module):
    """Patches attend to tokens and patches; tokens attend to tokens and, if they may, to patches."""

    def __init__(self, config: JointTransformerConfig, *, is_last: bool) -> None:
        super().__init__()
        self.image, self.context = Stream(config), Stream(config, is_read_only=is_last)
        self.image_modulation = Modulation(config.dim, parts=6)
        self.context_modulation = Modulation(config.dim, parts=2) if is_last else PositionModulation(config.dim, parts=6)

    def forward(
        self,
        image: Tensor,
        tokens: Tensor,
        time: Tensor,
        modulation: tuple[Tensor, ...] | None,
        *,
        mask: Tensor | None,
        tokens_see_image: bool,
    ) -> tuple[Tensor, Tensor]:
        """Both streams, a block further.

        Args:
            image: (B, n, D).
            tokens: (B, L, D).
            time: (B, D) or (1, D), embedded.
            modulation: of the tokens by their positions: shift, scale, gate, shift, scale, gate. None in the last block, which time modulates.
            mask: (B, 1, 1, L) bool, True for tokens that are seen; None for all.
            tokens_see_image: whether they may.
        """
        shift, scale, *rest = self.image_modulation(time)
        query, key, value = self.image.heads(image, shift, scale)
        context_shift, context_scale, *context_rest = self.context_modulation(time) if modulation is None else modulation
        context_query, context_key, context_value = self.context.heads(tokens, context_shift, context_scale)
        keys, values = torch.cat([context_key, key], dim=2), torch.cat([context_value, value], dim=2)
        mask_of_both = None if mask is None else F.pad(mask, (0, image.shape[1]), value=True)
        updated = self.image.update(image, F.scaled_dot_product_attention(query, keys, values, attn_mask=mask_of_both), *rest)
        if not context_rest:
            return updated, tokens
        if tokens_see_image:
            attended = F.scaled_dot_product_attention(context_query, keys, values, attn_mask=mask_of_both)
        else:
            attended = F.scaled_dot_product_attention(context_query, context_key, context_value, attn_mask=mask)
        return updated, self.context.update(tokens, attended, *context_rest)


class JointTransformer(nn.Module):
    """Embedded patches and codes through joint blocks; each patch then becomes a vector.

    Args:
        config: sizes.
        num_tokens: K, the longest sequence of codes.
        latent_dim: channels of a code.
        output_dim: channels that each patch becomes.
        tokens_see_image: whether tokens attend to patches.
    """

    token_positions: Tensor

    def __init__(self, config: JointTransformerConfig, *, num_tokens: int, latent_dim: int, output_dim: int, tokens_see_image: bool) -> None:
        super().__init__()
        dim, self.tokens_see_image = config.dim, tokens_see_image
        self.code_norm = nn.LayerNorm(latent_dim, eps=1e-6)
        self.context_embed = nn.Linear(latent_dim, dim)
        self.register_buffer("token_positions", _sincos(token_positions(num_tokens), dim))
        self.time_embed = TimestepEmbedding(dim)
        self.blocks = nn.ModuleList(JointBlock(config, is_last=number == config.depth) for number in range(1, config.depth + 1))
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.modulation = Modulation(dim, parts=2)
        self.head = nn.Linear(dim, output_dim)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def context(self, codes: Tensor, *, dropped: Tensor | None = None) -> Context:
        """The context of codes (B, L <= K, latent_dim); `dropped` (B,) bool are samples without one: their codes are zeros."""
        length, normed = codes.shape[1], self.code_norm(codes)
        if dropped is not None:
            normed = normed.masked_fill(dropped[:, None, None], 0)
        by_position = [block.context_modulation for block in self.blocks if isinstance(block, JointBlock)]
        modulations = tuple(part.of_first(length) for part in by_position if isinstance(part, PositionModulation))
        return Context(self.context_embed(normed) + self.token_positions[:length], modulations)

    def forward(self, image: Tensor, times: Tensor, context: Context, lengths: Tensor | None = None) -> Tensor:
        """Patches (B, n, D) -> (B, n, output_dim).

        Args:
            image: embedded, with their positions.
            times: (B,) or (1,) in [0, 1].
            context: of the tokens.
            lengths: (B,) int64 from 1 on, on the CPU: how many of the tokens each sample sees; None for all.
        """
        mask = None
        if lengths is not None:
            longest = int(lengths.max())
            context = context.first(longest)
            if bool((lengths < longest).any()):
                mask = prefix_mask(lengths.to(image.device), longest)[:, None, None]
        time = self.time_embed(1000 * times)
        tokens = context.tokens.to(image.dtype)
        for block, modulation in zip(self.blocks, (*context.modulations, None), strict=True):
            image, tokens = block(image, tokens, time, modulation, mask=mask, tokens_see_image=self.tokens_see_image)
        shift, scale = self.modulation(time)
        return self.head(modulate(self.norm(image), shift, scale))


def _sincos(positions: Tensor, dim: int) -> Tensor:
    """Positions (L,) -> (L, dim): sines, then cosines."""
    frequencies = 10_000 ** -(torch.arange(dim // 2, dtype=torch.float64) / (dim // 2))
    angles = positions.double()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()
