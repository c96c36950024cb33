"""`gpt`: a causal Llama-style transformer over the ids of any layout, conditioned on a class.

The sequence is [class | id_0 ... id_{L-1}], the ids in the layout's visiting order; position k predicts id_k. The model is that of LlamaGen
(arXiv 2406.06525), except that a layout may hold several codebooks and that positions may be learned.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.errors import TokenError
from visiontok.generators.base import Generator, GeneratorConfig
from visiontok.generators.decoding import NextTokenSampler, NextTokenSampling, NoiseLike, as_noise, guide
from visiontok.layers.kv_cache import KVCache
from visiontok.layers.llama import LlamaBlock, swiglu_dim
from visiontok.layers.norms import RMSNorm
from visiontok.layers.rope import grid_positions, rope_table
from visiontok.tokens import TokenLayout, Tokens, TokenStream

Probability = Annotated[float, Field(ge=0, lt=1)]
Size = Annotated[int, Field(gt=0)]


class GPTConfig(GeneratorConfig):
    """Configuration of `GPT`.

    Attributes:
        dim: model dimension D.
        depth: number of blocks.
        num_heads: attention heads.
        num_kv_heads: key-value heads; None for as many as `num_heads`.
        multiple_of: the feed-forward width is 8 D / 3 rounded up to a multiple of this.
        norm_eps: of every RMSNorm.
        positions: `rope` turns queries and keys by the position of their id within its segment, over as many axes as the segments have (the
            class has a row of zeros, as in LlamaGen); `learned` adds one learned row per place in the sequence.
        rope_base: of the rotary frequencies.
        class_dropout: probability of training without the class.
        token_dropout, residual_dropout, ffn_dropout, attention_dropout: of the embedded sequence, after the attention, after the
            feed-forward part, of the attention probabilities.
    """

    dim: Size
    depth: Size
    num_heads: Size
    num_kv_heads: Size | None = None
    multiple_of: Size = 256
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    positions: Literal["rope", "learned"] = "rope"
    rope_base: Annotated[float, Field(gt=1)] = 10000.0
    class_dropout: Probability = 0.1
    token_dropout: Probability = 0.1
    residual_dropout: Probability = 0.1
    ffn_dropout: Probability = 0.1
    attention_dropout: Probability = 0.0
    sampling: NextTokenSampling = NextTokenSampling()

    @model_validator(mode="after")
    def _check_sizes(self) -> GPTConfig:
        if self.dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide dim {self.dim}")
        if self.num_heads % (self.num_kv_heads or 1):
            raise ValueError(f"num_kv_heads {self.num_kv_heads} does not divide num_heads {self.num_heads}")
        if self.layout.ragged:
            raise ValueError("the layout is ragged: which places a sample holds is not modelled by gpt")
        if self.positions == "rope":
            axes = {len(segment.shape) for segment in self.layout.segments}
            if len(axes) > 1:
                raise ValueError(f"segments with {sorted(axes)} axes have no common rotary positions; use positions 'learned'")
            if self.dim // self.num_heads % (2 * max(axes)):
                raise ValueError(f"rotary positions over {max(axes)} axes need a head width that is a multiple of {2 * max(axes)}")
        return self


class GPT(Generator[GPTConfig]):
    """Class-conditional (or unconditional) next-id transformer with key-value cache and classifier-free guidance."""

    config_class = GPTConfig
    places: Tensor  # (L,) the storage place that every step visits
    offsets: Tensor  # (L,) the first row of every step's codebook in the embedding table and the head
    positions: Tensor  # (L, A) where every step's id lies within its segment, for rotary positions

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        layout = config.layout
        stream = TokenStream(layout, specials=())
        places = torch.from_numpy(np.arange(layout.length) if layout.order is None else np.asarray(layout.order))
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("offsets", stream.offsets[places], persistent=False)
        first_rows, sizes = self.offsets.tolist(), layout.vocab_sizes[places.numpy()].tolist()
        self._rows = [slice(first, first + size) for first, size in zip(first_rows, sizes, strict=True)]  # of the head, for every step
        self._steps = [[step for step, other in enumerate(first_rows) if other == first] for first in dict.fromkeys(first_rows)]  # per codebook
        self.cls_embedding = nn.Embedding(config.num_classes + 1, config.dim)  # the last row stands for no class
        self.tok_embeddings = nn.Embedding(stream.vocab_size, config.dim)
        self.tok_dropout = nn.Dropout(config.token_dropout)
        self.layers = nn.ModuleList(
            LlamaBlock(
                config.dim,
                config.num_heads,
                num_kv_heads=config.num_kv_heads,
                hidden_dim=swiglu_dim(config.dim, config.multiple_of),
                norm_eps=config.norm_eps,
                attention_dropout=config.attention_dropout,
                residual_dropout=config.residual_dropout,
                ffn_dropout=config.ffn_dropout,
            )
            for _ in range(config.depth)
        )
        self.norm = RMSNorm(config.dim, eps=config.norm_eps)
        self.output = nn.Linear(config.dim, stream.vocab_size, bias=False)
        self.position_embedding = None
        if config.positions == "learned":
            self.position_embedding = nn.Parameter(torch.empty(layout.length, config.dim))
        else:
            self.register_buffer("positions", _positions(layout)[places], persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal with deviation 0.02; the output head is zero, so that an untrained model gives every id the same probability."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(self.output.weight)
        if self.position_embedding is not None:
            nn.init.normal_(self.position_embedding, std=0.02)

    def loss(self, tokens: Tokens, condition: Tensor | None = None, *, generator: NoiseLike = None) -> dict[str, Tensor]:
        """Mean cross-entropy over the ids that the batch holds, in nats. In training mode classes are dropped by one uniform draw (B,).

        Returns:
            "loss", and "bits_per_token", which is the same in bits.
        """
        classes = self.training_classes(tokens, condition)
        if self.training:
            classes = self.drop_classes(classes, self.config.class_dropout, as_noise(generator, self.device))
        loss = self._token_nll(tokens, classes).sum() / tokens.mask.sum()
        return {"loss": loss, "bits_per_token": loss.detach() / math.log(2)}

    def nll(self, tokens: Tokens, condition: Tensor | None = None) -> Tensor:
        """(B,) float32: minus the log-probability of every sample in nats; divide by ln 2 for the bits that an ideal coder would need."""
        return self._token_nll(tokens, self.training_classes(tokens, condition)).sum(dim=1)

    @torch.no_grad()
    def generate(
        self,
        condition: Tensor | None = None,
        *,
        num_samples: int | None = None,
        generator: NoiseLike = None,
        sampler: NextTokenSampler | None = None,
        num_tokens: int | None = None,
        use_cache: bool = True,
    ) -> Tokens:
        """Sample tokens id by id: one sample per entry of `condition` (B,), or `num_samples` without a condition.

        Args:
            condition: (B,) int64 classes.
            num_samples: how many, where no condition is given.
            generator: source of the random draws, one exponential draw (B, V) per step.
            sampler: guidance and filters; None for the configuration's.
            num_tokens: stop after this many ids, where prefixes of the layout decode; None for all.
            use_cache: keep keys and values instead of reading the whole sequence again at every step; the ids are the same.
        """
        classes = self.condition_classes(condition, num_samples=num_samples)
        sampler = self.sampler() if sampler is None else sampler
        noise = as_noise(generator, self.device)
        length = self._checked_length(num_tokens)
        scales = [sampler.guidance(step, self.layout.length) for step in range(length)]
        guided = any(scale != 1 for scale in scales)
        streams = torch.cat([classes, torch.full_like(classes, self.config.num_classes)]) if guided else classes
        caches = self._caches(len(streams), length) if use_cache else None
        ids = classes.new_empty(len(classes), length)
        for step, scale in enumerate(scales):
            known = ids[:, :step]
            hidden = self._hidden(streams, torch.cat([known, known]) if guided else known, caches=caches)[:, -1]
            logits = self._logits(hidden, self._rows[step])
            if guided:
                conditional, unconditional = logits.chunk(2)
                logits = guide(conditional, unconditional, scale)
            ids[:, step] = sampler(logits, noise)
        indices = torch.empty_like(ids)
        indices[:, self.places[:length]] = ids
        return Tokens(indices, self.layout)

    def _token_nll(self, tokens: Tokens, classes: Tensor) -> Tensor:
        """(B, T) float32: minus the log-probability of every id, in visiting order; 0 beyond a sample's length."""
        if self.layout.order is not None and not tokens.is_full:
            raise TokenError("samples that hold only some ids cannot be modelled where the layout has a visiting order of its own")
        length = tokens.indices.shape[1]
        held = tokens.mask.to(self.device)
        ids = tokens.indices.to(self.device)[:, self.places[:length]].clamp_min(0)
        hidden = self._hidden(classes, ids[:, :-1])
        nll = hidden.new_zeros(ids.shape, dtype=torch.float32)
        for all_steps in self._steps:
            steps = [step for step in all_steps if step < length]
            if steps:
                logits = self._logits(hidden[:, steps], self._rows[steps[0]])
                nll[:, steps] = F.cross_entropy(logits.transpose(1, 2), ids[:, steps], reduction="none")
        return nll * held

    def _hidden(self, classes: Tensor, ids: Tensor, *, caches: list[KVCache] | None = None) -> Tensor:
        """(B, T, D): what the head reads at every place of [class | ids], or only at those that the caches do not hold yet."""
        start, end = caches[0].length if caches else 0, ids.shape[1] + 1
        first = max(start - 1, 0)
        x = self.tok_embeddings(ids[:, first:] + self.offsets[first : end - 1])
        if start == 0:
            x = torch.cat([self.cls_embedding(classes)[:, None], x], dim=1)
        x = self.tok_dropout(x)
        rope = None
        if self.position_embedding is not None:
            x = x + self.position_embedding[start:end]
        else:
            head_dim = self.config.dim // self.config.num_heads
            rope = rope_table(self.positions, head_dim, base=self.config.rope_base, zero_rows=1)[start:end]
        mask = None
        if end - start > 1:
            mask = torch.ones(end, end, dtype=torch.bool, device=x.device).tril()[None, None, start:]
        for number, layer in enumerate(self.layers):
            x = layer(x, rope=rope, mask=mask, cache=caches[number] if caches else None)
        return self.norm(x)

    def _logits(self, hidden: Tensor, rows: slice) -> Tensor:
        """Logits (..., V) float32 over the ids of the codebook that has these rows of the head."""
        return F.linear(hidden, self.output.weight[rows]).float()

    def _caches(self, batch: int, length: int) -> list[KVCache]:
        config, weight = self.config, self.tok_embeddings.weight
        heads, head_dim = config.num_kv_heads or config.num_heads, config.dim // config.num_heads
        return [KVCache(batch, heads, length, head_dim, device=weight.device, dtype=weight.dtype) for _ in self.layers]

    def _checked_length(self, num_tokens: int | None) -> int:
        length = self.layout.length
        if num_tokens is None or num_tokens == length:
            return length
        if not self.layout.prefix_decodable or self.layout.order is not None:
            reason = "has a visiting order of its own" if self.layout.prefix_decodable else "has prefixes that do not decode"
            raise TokenError(f"num_tokens = {num_tokens}: the layout {reason}, so all {length} ids must be sampled")
        if not 1 <= num_tokens < length:
            raise TokenError(f"num_tokens = {num_tokens} is outside [1, {length}]")
        return num_tokens


def _positions(layout: TokenLayout) -> Tensor:
    """(L, A): the position of every storage place within its segment; the codebooks of a position share it."""
    parts = [grid_positions(segment.shape).repeat_interleave(segment.codebooks, dim=0) for segment in layout.segments]
    return torch.cat(parts)
