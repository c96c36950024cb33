"""The codes of a position one after the other, by a causal transformer that the backbone's output modulates (TokenBridge, arXiv 2503.16430)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.generators.heads.base import Choose, Embed, TokenHead
from visiontok.generators.orders import GenerationSteps
from visiontok.layers.block import Block
from visiontok.layers.initialization import xavier_linears
from visiontok.layers.kv_cache import KVCache
from visiontok.layers.modulation import modulate
from visiontok.layers.transformer import Mlp


class ChannelHeadConfig(Config):
    """Sizes of a `ChannelHead`.

    Attributes:
        dim: model dimension W.
        depth: number of blocks.
        num_heads: attention heads; must divide `dim`.
        mlp_ratio: hidden dim of the feed-forward parts over W.
        norm_eps: of all layer norms.
        order: in which order the codebooks of a position are written; None for theirs.
        samples_with_first_step: whether sampling, unlike training, adds the embedding of the first step to the first input, as the released models
            do.
    """

    dim: Positive
    depth: Positive
    num_heads: Positive
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    norm_eps: Annotated[float, Field(gt=0)] = 1e-6
    order: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    samples_with_first_step: bool = False

    @model_validator(mode="after")
    def _check(self) -> ChannelHeadConfig:
        if self.dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} must divide dim {self.dim}")
        if self.order is not None and sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"order {self.order} must hold every codebook once")
        return self


class ChannelHead(TokenHead):
    """Reads [condition, code 0, code 1, ...] of a position and predicts code 0, code 1, code 2, ..., each with a table of its own.

    Args:
        config: sizes.
        dim: D of the backbone.
        vocab_sizes: of the codebooks of a position, in their own order.

    Raises:
        ValueError: if the configuration's order has another number of codebooks.
    """

    def __init__(self, config: ChannelHeadConfig, *, dim: int, vocab_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        self.order = config.order or tuple(range(len(vocab_sizes)))
        if len(self.order) != len(vocab_sizes):
            raise ValueError(f"the order of the head names {len(self.order)} codebooks; a position has {len(vocab_sizes)}")
        sizes, width = [vocab_sizes[codebook] for codebook in self.order], config.dim
        self.condition = nn.Linear(dim, width)
        self.positions = nn.Parameter(torch.empty(len(sizes), width))
        self.steps = nn.Parameter(torch.empty(len(sizes), width))
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in sizes[:-1])
        self.blocks = nn.ModuleList(ChannelBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.output_norm = nn.LayerNorm(width, eps=config.norm_eps, elementwise_affine=False)
        self.output_modulation = nn.Linear(width, 2 * width)
        self.outputs = nn.ModuleList(nn.Linear(width, size) for size in sizes)
        for table in (self.positions, self.steps):
            nn.init.normal_(table, std=0.02)
        xavier_linears(self)
        for linear in (self.output_modulation, *(module.modulation for module in self.modules() if isinstance(module, ChannelBlock))):
            nn.init.zeros_(linear.weight)

    def logits(self, hidden: Tensor, codes: Tensor) -> list[Tensor]:
        """Teacher-forced logits (N, V) float32 of every codebook in the head's order, from (N, D) and codes (N, K) in that order."""
        condition = self.condition(hidden)
        written = [table(codes[:, step]) for step, table in enumerate(self.tables)]
        x = torch.stack([condition, *written], dim=1) + self.positions
        by_step = F.silu(condition[:, None] + self.steps)
        x = self._transformed(x, by_step, caches=None)
        return [output(x[:, step]).float() for step, output in enumerate(self.outputs)]

    def scores(self, hidden: Tensor, codes: Tensor, plan: GenerationSteps, embed: Embed) -> tuple[Tensor, Tensor]:
        samples, steps = plan.held.all(dim=-1).nonzero(as_tuple=True)
        ordered = codes[samples, steps][:, self.order]
        logits = self.logits(hidden[samples, steps], ordered)
        found = torch.stack([F.cross_entropy(each, ordered[:, step], reduction="none") for step, each in enumerate(logits)], dim=1)
        right = torch.stack([each.argmax(dim=-1) for each in logits], dim=1) == ordered
        nll, correct = hidden.new_zeros(codes.shape, dtype=torch.float32), torch.zeros_like(plan.held)
        nll[samples, steps], correct[samples, steps] = found[:, self._inverse_order], right[:, self._inverse_order]
        return nll, correct

    def sample(self, hidden: Tensor, unconditional: Tensor | None, plan: GenerationSteps, embed: Embed, choose: Choose) -> Tensor:
        both = hidden if unconditional is None else torch.cat([hidden, unconditional])
        condition = self.condition(both)
        heads, head_dim = self.config.num_heads, self.config.dim // self.config.num_heads
        caches = [KVCache(len(both), heads, len(self.order), head_dim, device=both.device, dtype=condition.dtype) for _ in self.blocks]
        x, written = condition, []
        for step, codebook in enumerate(self.order):
            x = x + self.positions[step]
            if step == 0 and self.config.samples_with_first_step:
                x = x + self.steps[0]
            out = self._transformed(x[:, None], F.silu(condition + self.steps[step])[:, None], caches=caches)[:, 0]
            logits = self.outputs[step](out).float()
            drawn = choose(logits[: len(hidden)], None if unconditional is None else logits[len(hidden) :], codebook)
            written.append(drawn)
            if step < len(self.tables):
                x = self.tables[step](drawn if unconditional is None else drawn.repeat(2))
        return torch.stack(written, dim=1)[:, self._inverse_order]

    @property
    def _inverse_order(self) -> list[int]:
        """The step that writes every codebook."""
        return [self.order.index(codebook) for codebook in range(len(self.order))]

    def _transformed(self, x: Tensor, condition: Tensor, *, caches: list[KVCache] | None) -> Tensor:
        """(N, T, W), and the SiLU of the condition of every step (N, T, W) -> (N, T, W)."""
        for number, block in enumerate(self.blocks):
            x = block(x, condition, cache=None if caches is None else caches[number])
        shift, scale = self.output_modulation(condition).chunk(2, dim=-1)
        return modulate(self.output_norm(self.norm(x)), shift, scale)


class ChannelBlock(Block):
    """A pre-norm transformer block with normalized queries and keys, causal, whose norms and outputs the condition of every step scales."""

    def __init__(self, config: ChannelHeadConfig) -> None:
        super().__init__()
        width, eps = config.dim, config.norm_eps
        self.num_heads = config.num_heads
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.qkv = nn.Linear(width, 3 * width)
        self.query_norm = nn.LayerNorm(width // config.num_heads, eps=eps)
        self.key_norm = nn.LayerNorm(width // config.num_heads, eps=eps)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, int(width * config.mlp_ratio))
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x: Tensor, condition: Tensor, *, cache: KVCache | None) -> Tensor:
        """(N, T, W), and the SiLU of the condition (N, T, W) -> (N, T, W); with a cache, T is 1."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        x = x + gate1 * self._attention(modulate(self.norm1(x), shift1, scale1), cache)
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2))

    def _attention(self, x: Tensor, cache: KVCache | None) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = self.query_norm(query), self.key_norm(key)
        if cache is not None:
            key, value = cache.append(key, value)
        attended = F.scaled_dot_product_attention(query.to(value.dtype), key.to(value.dtype), value, is_causal=cache is None)
        return self.proj(attended.transpose(1, 2).flatten(2))
