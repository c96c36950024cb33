"""`gpt`: a causal Llama-style transformer over the tokens or latents of any layout, conditioned on anything.

The sequence is [condition | t_0 ... t_{L-1}], the tokens in the layout's generation order; the element before t_k predicts it. The model is that of
LlamaGen (arXiv 2406.06525), except that a layout may hold several codebooks or continuous latents, may vary in extent, and that positions may be
learned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Positive, Probability
from visiontok.base.errors import TokenError
from visiontok.base.finite import check_finite, check_finite_weights
from visiontok.base.noise import NoiseLike, as_noise
from visiontok.generators.base import Generator, GeneratorConfig
from visiontok.generators.condition import Condition, ConditionLike, needs_dropout
from visiontok.generators.decoding import LatentSampler, LatentSampling, NextTokenSampler, NextTokenSampling, guide
from visiontok.generators.gpt.session import GPTSession
from visiontok.generators.heads import CategoricalHead, FlowHead, FlowHeadConfig
from visiontok.generators.orders import GenerationSteps, batch_generation_steps, generation_steps
from visiontok.layers.kv_cache import KVCache
from visiontok.layers.llama import LlamaBlock, swiglu_dim
from visiontok.layers.norms import RMSNorm
from visiontok.layers.rope import rope_table
from visiontok.tokens import Latents, TokenLayout, Tokens


class GPTConfig(GeneratorConfig):
    """Configuration of `GPT`.

    Attributes:
        dim: model dimension D.
        depth: number of blocks.
        num_heads: attention heads.
        num_kv_heads: key-value heads; None for as many as heads.
        multiple_of: the feed-forward dim is 8 D / 3 rounded up to a multiple of this.
        norm_eps: of every RMSNorm.
        positions: `rope` turns queries and keys by the position of their token within its segment, over as many axes as the segments have (the
            condition has rows of zeros, as in LlamaGen); `learned` adds one learned row per element of the sequence.
        rope_base: of the rotary frequencies.
        token_dropout, residual_dropout, ffn_dropout, attention_dropout: of the embedded sequence, after the attention, after the
            feed-forward part, of the attention probabilities.
        flow_head: for continuous layouts, the head that samples latents.
    """

    dim: Positive
    depth: Positive
    num_heads: Positive
    num_kv_heads: Positive | None = None
    multiple_of: Positive = 256
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    positions: Literal["rope", "learned"] = "rope"
    rope_base: Annotated[float, Field(gt=1)] = 10000.0
    token_dropout: Probability = 0.1
    residual_dropout: Probability = 0.1
    ffn_dropout: Probability = 0.1
    attention_dropout: Probability = 0.0
    flow_head: FlowHeadConfig = FlowHeadConfig()
    sampling: Annotated[NextTokenSampling | LatentSampling, Field(discriminator="type")] = NextTokenSampling()

    @model_validator(mode="before")
    @classmethod
    def _choose_sampling(cls, values: Any) -> Any:
        """Sampling of the kind that the layout needs, where its type is omitted."""
        if not isinstance(values, Mapping) or "layout" not in values:
            return values
        layout, sampling = values["layout"], values.get("sampling", {})
        segments = layout.segments if isinstance(layout, TokenLayout) else layout.get("segments", ())
        continuous = any((s.channels if not isinstance(s, Mapping) else s.get("channels")) is not None for s in segments)
        if isinstance(sampling, Mapping) and "type" not in sampling:
            return {**values, "sampling": {"type": "latents" if continuous else "next-token", **sampling}}
        return values

    @model_validator(mode="after")
    def _check_sizes(self) -> GPTConfig:
        if self.dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} must divide dim {self.dim}")
        if self.num_heads % (self.num_kv_heads or 1):
            raise ValueError(f"num_kv_heads {self.num_kv_heads} must divide num_heads {self.num_heads}")
        if self.layout.is_continuous != isinstance(self.sampling, LatentSampling):
            raise ValueError(
                f"sampling of type {self.sampling.type!r} does not fit a {'continuous' if self.layout.is_continuous else 'discrete'} layout"
            )
        if self.positions == "rope":
            axes = {len(segment.shape) for segment in self.layout.segments}
            if len(axes) > 1:
                raise ValueError(f"segments with {sorted(axes)} axes have no common rotary positions; use positions 'learned'")
            if self.dim // self.num_heads % (2 * max(axes)):
                raise ValueError(f"rotary positions over {max(axes)} axes need a head dim that is a multiple of {2 * max(axes)}")
        return self


class GPT(Generator[GPTConfig]):
    """Next-token (or next-latent) transformer with key-value cache and classifier-free guidance."""

    config_class = GPTConfig

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        layout, dim = config.layout, config.dim
        self.condition = config.condition.build(dim)
        self.token_embedding: nn.Embedding | nn.Linear
        self.head: CategoricalHead | FlowHead
        if layout.is_continuous:
            channels = layout.segments[0].channels or 0
            self.token_embedding = nn.Linear(channels, dim)
            self.head = FlowHead(config.flow_head, dim=dim, channels=channels)
        else:
            self.token_embedding = nn.Embedding(layout.num_codes, dim)
            self.head = CategoricalHead(dim, layout.num_codes)
        self.dropout = nn.Dropout(config.token_dropout)
        self.blocks = nn.ModuleList(
            LlamaBlock(
                dim,
                config.num_heads,
                num_kv_heads=config.num_kv_heads,
                hidden_dim=swiglu_dim(dim, config.multiple_of),
                norm_eps=config.norm_eps,
                attention_dropout=config.attention_dropout,
                residual_dropout=config.residual_dropout,
                ffn_dropout=config.ffn_dropout,
            )
            for _ in range(config.depth)
        )
        self.norm = RMSNorm(dim, eps=config.norm_eps)
        self.position_embedding: nn.Parameter | None = None
        if config.positions == "learned":
            self.position_embedding = nn.Parameter(torch.empty(self.condition.length - 1 + layout.length, dim))
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Normal with deviation 0.02; the head keeps its own start, from which an untrained model gives every code the same probability."""
        of_head = set(self.head.modules())
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding) and module not in of_head:
                nn.init.normal_(module.weight, std=0.02)
        if self.position_embedding is not None:
            nn.init.normal_(self.position_embedding, std=0.02)

    # Training.

    def loss(
        self, tokens: Tokens | Latents | Tensor, condition: ConditionLike = None, *, step: int = 0, noise: NoiseLike = None
    ) -> dict[str, Tensor]:
        """Mean over what the batch holds: of the cross-entropy in nats, or of the flow's squared error.

        Draws: in training mode a uniform one (B,) that hides conditions; for latents then the times (B,) of the flow and normal noise (B, T, C).

        Returns:
            "loss", "weight" (tokens held), and for tokens "bits_per_token", which is the loss in bits; in evaluation mode also
            "accuracy_per_token", the share of tokens whose most likely code is right.
        """
        tokens, found = self.training_batch(tokens, condition)
        source = as_noise(noise, self.device)
        dropped = self.dropped(len(tokens), source) if self.training else torch.zeros(len(tokens), dtype=torch.bool, device=self.device)
        if isinstance(tokens, Tokens):
            assert isinstance(self.head, CategoricalHead)
            hidden, indices, ordered = self._predictions(tokens, found, dropped)
            targets, held = (hidden, indices, ordered.first, ordered.sizes, ordered.held), tokens.mask.sum()
            loss = self.head.nll(*targets).sum() / held
            numbers = {"loss": loss, "weight": held / len(tokens), "bits_per_token": loss.detach() / math.log(2)}
            return numbers if self.training else {**numbers, "accuracy_per_token": self.head.correct(*targets).sum() / held}
        assert isinstance(self.head, FlowHead)
        hidden, values, ordered = self._predictions(tokens, found, dropped)
        # One time per sample and position, spread over the sequence from the sample's draw, so that a batch needs no more draws than samples.
        steps = torch.arange(values.shape[1], device=self.device) / values.shape[1]
        times = (self.config.flow_head.times.draw(len(values), source).to(self.device)[:, None] + steps) % 1
        drawn = source.normal(*values.shape).to(values)
        errors = self.head.loss(hidden[ordered.held], values[ordered.held], drawn[ordered.held], times[ordered.held])
        return {"loss": errors.mean(), "weight": ordered.held.sum() / len(values)}

    def nll(self, tokens: Tokens | Tensor, condition: ConditionLike = None) -> Tensor:
        """(B,) float32: minus the log-probability of every sample in nats; divide by ln 2 for the bits that an ideal coder would need."""
        checked, found = self.training_batch(tokens, condition)
        assert isinstance(checked, Tokens)
        return self._nll(checked, found, torch.zeros(len(checked), dtype=torch.bool, device=self.device)).sum(dim=1)

    def _nll(self, tokens: Tokens, condition: Condition, dropped: Tensor) -> Tensor:
        """(B, T) float32 in generation order; 0 beyond a sample's length."""
        assert isinstance(self.head, CategoricalHead)
        hidden, indices, ordered = self._predictions(tokens, condition, dropped)
        return self.head.nll(hidden, indices, ordered.first, ordered.sizes, ordered.held)

    def _predictions(self, tokens: Tokens | Latents, condition: Condition, dropped: Tensor) -> tuple[Tensor, Tensor, GenerationSteps]:
        """What predicts every token (B, T, D); the tokens in generation order (B, T) or (B, T, C), 0 where there is none; and the steps."""
        self._check_length(tokens.layout.length)
        ordered = batch_generation_steps(tokens)
        index = ordered.positions if isinstance(tokens, Tokens) else ordered.positions[..., None].expand(-1, -1, tokens.data.shape[2])
        data = tokens.data.gather(1, index)
        data = data.masked_fill(~ordered.held, 0) if isinstance(tokens, Tokens) else data.masked_fill(~ordered.held[..., None], 0)
        prefix, mask = self.condition(condition, dropped)
        tail = self.embed(data[:, :-1], ordered.first[:, :-1])
        hidden = self.transform(torch.cat([prefix, tail.to(prefix.dtype)], dim=1), ordered.coordinates[:, :-1], prefix_mask=mask)
        return hidden[:, self.condition.length - 1 :], data, ordered

    # Generation.

    @torch.no_grad()
    def session(
        self, condition: ConditionLike = None, *, num_samples: int | None = None, layout: TokenLayout | None = None, guided: bool = False
    ) -> GPTSession:
        """Reads tokens step by step; see `GPTSession`.

        Args:
            condition: of every sample.
            num_samples: how many, where no condition is given.
            layout: of the samples, where the generator's is variable; None for the generator's own.
            guided: read every sample a second time without its condition.

        Raises:
            ConditionError: if the condition does not fit.
            ConfigError: if a model that never saw samples without a condition is to do so.
            TokenError: if the layout does not fit.
            NonFiniteError: if the weights are damaged.
        """
        check_finite_weights(self)
        found, count = self.checked_condition(condition, samples=num_samples)
        own = self._own_layout(layout)
        if guided or found.kind == "none":
            needs_dropout(self.config.condition)
        return GPTSession(self, found, count, own, guided=guided)

    @torch.no_grad()
    def generate(
        self,
        condition: ConditionLike = None,
        *,
        num_samples: int | None = None,
        noise: NoiseLike = None,
        sampler: NextTokenSampler | LatentSampler | None = None,
        num_tokens: int | None = None,
        layout: TokenLayout | None = None,
    ) -> Tokens | Latents:
        """Sample token by token: one sample per entry of the condition, or `num_samples` without one.

        Args:
            condition: of every sample; (B,) int64 classes may stand for themselves.
            num_samples: how many, where no condition is given.
            noise: source of the random draws, one exponential draw (B, V) per token, or a normal one (B, C) per latent.
            sampler: guidance and filters; None for the configuration's.
            num_tokens: stop after so many, where such prefixes of the layout decode; None for all.
            layout: of the samples, where the generator's is variable: `generator.layout.at(extents)`; None for the generator's own.

        Raises:
            ConditionError, ConfigError, TokenError: see `session`; if the layout has no such prefix.
        """
        sampler = self.sampler() if sampler is None else sampler
        own = self._own_layout(layout)
        length = self._checked_length(own, num_tokens)
        scales = [sampler.guidance(step, own.length) for step in range(length)]
        session = self.session(condition, num_samples=num_samples, layout=own, guided=any(scale != 1 for scale in scales))
        source, ordered = as_noise(noise, self.device), generation_steps(own)
        channels = own.segments[0].channels
        shape = (session.samples, own.length) if channels is None else (session.samples, own.length, channels)
        data = torch.zeros(shape, dtype=torch.int64 if channels is None else self.dtype, device=self.device)
        hidden = session.prefill()
        for step, scale in enumerate(scales):
            conditional, unconditional = hidden if scale != 1 else (hidden[0], None)
            if isinstance(self.head, FlowHead):
                assert isinstance(sampler, LatentSampler)
                drawn = self.head.sample(conditional, unconditional, source, steps=sampler.steps, guidance=scale, temperature=sampler.temperature)
                check_finite(drawn, stage=f"the latents of generation step {step}")
            else:
                assert isinstance(sampler, NextTokenSampler)
                first, size = int(ordered.first[step]), int(ordered.sizes[step])
                logits = self.head.logits(conditional, first, size)
                if unconditional is not None:
                    logits = guide(logits, self.head.logits(unconditional, first, size), scale)
                drawn = sampler(logits, source, codebook=session.codebook(step), step=step)
            data[:, int(ordered.positions[step])] = drawn
            if step + 1 < length:
                hidden = session.step(drawn)
        return Tokens(data[:, :length], own) if channels is None else Latents(data[:, :length].float(), own)

    # The network.

    def embed(self, data: Tensor, first: Tensor) -> Tensor:
        """Tokens (B, T) of codebooks that begin at rows `first`, or latents (B, T, C) -> (B, T, D)."""
        return self.token_embedding(data + first if isinstance(self.token_embedding, nn.Embedding) else data.to(self.dtype))

    def transform(self, x: Tensor, coordinates: Tensor, *, prefix_mask: Tensor | None = None, caches: list[KVCache] | None = None) -> Tensor:
        """Embedded elements (B, T, D) of the sequence, at their start or after those in the caches -> what the head reads (B, T, D).

        Args:
            x: embedded elements.
            coordinates: (B or 1, S, A) of all tokens up to the last of these, without the condition.
            prefix_mask: (B, N) bool, False where the condition is padding.
            caches: one per block; the new elements are added.
        """
        start = caches[0].length if caches else 0
        end, prefix = start + x.shape[1], self.condition.length
        x = self.dropout(x)
        rope = None
        if self.position_embedding is not None:
            x = x + self.position_embedding[start:end]
        else:
            rope = self._rope(coordinates[:, : max(end - prefix, 0)])[:, :, start:end]
        mask = None
        if end - start > 1:
            mask = torch.ones(end, end, dtype=torch.bool, device=x.device).tril()[None, None, start:]
        if prefix_mask is not None:
            seen = nn.functional.pad(prefix_mask, (0, end - prefix), value=True)[:, None, None]
            itself = torch.eye(end, dtype=torch.bool, device=x.device)[None, None, start:]  # a padded element looks at something, at least
            mask = (seen | itself) if mask is None else mask & (seen | itself)
        for number, block in enumerate(self.blocks):
            x = block(x, rope=rope, mask=mask, cache=caches[number] if caches else None)
        return self.norm(x)

    def _rope(self, coordinates: Tensor) -> Tensor:
        """(B or 1, 1, N + S, head_dim / 2, 2): rows of zeros for the condition, then those of the tokens."""
        head_dim = self.config.dim // self.config.num_heads
        samples, steps, axes = coordinates.shape
        rows = rope_table(coordinates.reshape(samples * steps, axes), head_dim, base=self.config.rope_base).unflatten(0, (samples, steps))
        zeros = rows.new_zeros(samples, self.condition.length, *rows.shape[2:])
        return torch.cat([zeros, rows], dim=1)[:, None]

    def new_caches(self, batch: int, length: int) -> list[KVCache]:
        """Empty caches for so many sequences of so many elements."""
        config, weight = self.config, self.norm.weight
        heads, head_dim = config.num_kv_heads or config.num_heads, config.dim // config.num_heads
        return [KVCache(batch, heads, length, head_dim, device=weight.device, dtype=weight.dtype) for _ in self.blocks]

    def _own_layout(self, layout: TokenLayout | None) -> TokenLayout:
        if layout is None:
            return self.layout
        if not self.layout.accepts(layout) or layout.num_levels != self.layout.num_levels:
            raise TokenError(f"this generator was trained on {self.layout}; it cannot sample {layout}")
        self._check_length(layout.length)
        return layout

    def _check_length(self, length: int) -> None:
        if self.position_embedding is not None and length > self.layout.length:
            raise TokenError(f"samples of {length} tokens are longer than the {self.layout.length} that this generator has learned positions for")

    def _checked_length(self, layout: TokenLayout, num_tokens: int | None) -> int:
        if num_tokens is None or num_tokens == layout.length:
            return layout.length
        if layout.order != "raster":
            raise TokenError(f"num_tokens = {num_tokens}: the layout has the generation order {layout.order!r}, so all {layout.length} are sampled")
        if not layout.allows_prefix(num_tokens):
            raise TokenError(f"num_tokens = {num_tokens}: of {layout.length} tokens such a prefix does not decode (prefixes: {layout.prefixes})")
        return num_tokens
