"""A stack of Llama's or GPT-2's blocks, causal or bidirectional, with or without modulation by the condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive, Probability
from visiontok.layers.kv_cache import KVCache
from visiontok.layers.llama import LlamaBlock, SwiGLU, swiglu_dim
from visiontok.layers.modulation import Modulation, modulate
from visiontok.layers.norms import RMSNorm
from visiontok.layers.transformer import Mlp


class LlamaConfig(Config):
    """Sizes of a stack.

    Attributes:
        dim: model dimension D.
        depth: number of blocks.
        num_heads: attention heads.
        num_kv_heads: key-value heads; None for as many as heads.
        block: `llama` has RMSNorm, SwiGLU and no biases; `gpt2` has layer norms, a GELU in a feed-forward dim of 4 D, and biases in all linear maps.
        multiple_of: the feed-forward dim of `llama` is 8 D / 3 rounded up to a multiple of this.
        norm_eps: of every norm.
        rope_base: of the rotary frequencies, which fall from 1, or rise with a base below 1: on short axes neighbors then differ more.
        residual_dropout, ffn_dropout, attention_dropout: after the attention, after the feed-forward part, of the attention probabilities.
    """

    dim: Positive
    depth: Positive
    num_heads: Positive
    num_kv_heads: Positive | None = None
    block: Literal["llama", "gpt2"] = "llama"
    multiple_of: Positive = 256
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    rope_base: Annotated[float, Field(gt=0)] = 10000.0
    residual_dropout: Probability = 0.1
    ffn_dropout: Probability = 0.1
    attention_dropout: Probability = 0.0

    @model_validator(mode="after")
    def _check_heads(self) -> LlamaConfig:
        if self.dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} must divide dim {self.dim}")
        if self.num_heads % (self.num_kv_heads or 1):
            raise ValueError(f"num_kv_heads {self.num_kv_heads} must divide num_heads {self.num_heads}")
        return self

    @property
    def head_dim(self) -> int:
        """Of one attention head."""
        return self.dim // self.num_heads

    def new_norm(self, dim: int) -> nn.Module:
        """A norm of `dim` values, as the blocks have it."""
        return (nn.LayerNorm if self.block == "gpt2" else RMSNorm)(dim, eps=self.norm_eps)

    def new_block(self) -> LlamaBlock:
        """One block."""
        feed_forward: nn.Module
        if self.block == "gpt2":
            feed_forward = nn.Sequential(Mlp(self.dim, 4 * self.dim), nn.Dropout(self.ffn_dropout))
        else:
            feed_forward = SwiGLU(self.dim, swiglu_dim(self.dim, self.multiple_of), dropout=self.ffn_dropout)
        return LlamaBlock(
            self.dim,
            self.num_heads,
            norm=self.new_norm,
            feed_forward=feed_forward,
            num_kv_heads=self.num_kv_heads,
            bias=self.block == "gpt2",
            attention_dropout=self.attention_dropout,
            residual_dropout=self.residual_dropout,
        )


class LlamaStack(nn.Module):
    """Blocks, and a norm after the last.

    Args:
        config: sizes.
        depth: number of blocks, where it is not the configuration's.
        is_modulated: whether a condition shifts, scales and gates every block, and shifts and scales after the last norm (IBQ's generator).
        has_norm: whether a norm follows the last block.
    """

    def __init__(self, config: LlamaConfig, *, depth: int | None = None, is_modulated: bool = False, has_norm: bool = True) -> None:
        super().__init__()
        self.config = config
        depth = config.depth if depth is None else depth
        self.blocks = nn.ModuleList(config.new_block() for _ in range(depth))
        self.norm = config.new_norm(config.dim) if has_norm else None
        self.modulation = nn.ModuleList(Modulation(config.dim, parts=6) for _ in range(depth)) if is_modulated else None
        self.output_modulation = Modulation(config.dim, parts=2) if is_modulated else None
        for module in self.modules():
            if isinstance(module, nn.Linear) and not _is_part_of(self.modulation, self.output_modulation, module=module):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def modulations(self, condition: Tensor) -> list[tuple[Tensor, ...]]:
        """What a condition (B, D) does to every block, and last to the output: tensors (B, 1, D)."""
        assert self.modulation is not None
        assert self.output_modulation is not None
        return [module(condition) for module in (*self.modulation, self.output_modulation)]

    def forward(
        self,
        x: Tensor,
        *,
        rope: Tensor | None = None,
        mask: Tensor | None = None,
        is_causal: bool = False,
        caches: Sequence[KVCache] = (),
        modulations: Sequence[tuple[Tensor, ...]] = (),
    ) -> Tensor:
        """(B, T, D) -> (B, T, D); the arguments are those of `LlamaBlock.forward`, with one cache and one modulation per block."""
        for number, block in enumerate(self.blocks):
            x = block(
                x,
                rope=rope,
                mask=mask,
                is_causal=is_causal,
                cache=caches[number] if caches else None,
                modulation=modulations[number] if modulations else None,
            )
        if self.norm is not None:
            x = self.norm(x)
        return modulate(x, *modulations[-1]) if modulations else x

    def new_caches(self, batch: int, length: int) -> list[KVCache]:
        """Empty caches, one per block, for so many sequences of so many elements."""
        config, weight = self.config, next(self.parameters())
        heads = config.num_kv_heads or config.num_heads
        return [KVCache(batch, heads, length, config.head_dim, device=weight.device, dtype=weight.dtype) for _ in self.blocks]


def causal_mask(start: int, end: int, *, prefix_mask: Tensor | None, device: torch.device) -> Tensor | None:
    """Where the elements `start` to `end` of a sequence may look: at themselves and those before, but not at padding; None for everywhere.

    Args:
        start, end: of the new elements; those before lie in caches.
        prefix_mask: (B, P) bool, False at padding among the first P elements; None where there is none.
        device: of the mask.

    Returns:
        (1 or B, 1, end - start, end) bool. A padded element looks at itself at least, so that no row is empty.
    """
    mask = None
    if end - start > 1:
        elements = torch.arange(end, dtype=torch.int64, device=device)
        mask = (elements[start:, None] >= elements)[None, None]
    return _without_padding(mask, start, end, prefix_mask)


def block_causal_mask(sizes: Sequence[int], start: int, *, prefix_mask: Tensor | None, device: torch.device) -> Tensor | None:
    """Where the elements from `start` on of a sequence of blocks may look: at their own block and those before, but not at padding; None for
    everywhere.

    Args:
        sizes: elements of every block.
        start: of the new elements, which begin a block; those before lie in caches.
        prefix_mask, device: see `causal_mask`.

    Returns:
        as `causal_mask`, with the sum of `sizes` as end.
    """
    end, mask = sum(sizes), None
    if start < end - sizes[-1]:
        numbers = torch.arange(len(sizes), dtype=torch.int64, device=device).repeat_interleave(torch.tensor(sizes, device=device), output_size=end)
        mask = (numbers[start:, None] >= numbers)[None, None]
    return _without_padding(mask, start, end, prefix_mask)


def _without_padding(mask: Tensor | None, start: int, end: int, prefix_mask: Tensor | None) -> Tensor | None:
    if prefix_mask is None:
        return mask
    prefix = prefix_mask.shape[1]
    seen = nn.functional.pad(prefix_mask, (0, end - prefix), value=True)[:, None, None].expand(-1, -1, end - start, -1)
    if start < prefix:
        elements = torch.arange(end, dtype=torch.int64, device=prefix_mask.device)
        seen = seen | (elements[start:, None] == elements)
    return seen if mask is None else mask & seen


def _is_part_of(*owners: nn.Module | None, module: nn.Module) -> bool:
    return any(module is part for owner in owners if owner is not None for part in owner.modules())
