"""`next-scale`: a transformer over tokens of several scales that predicts all positions of a scale at once (VAR, arXiv 2404.02905).

The sequence is [condition | scale_0 | scale_1 ...]. The element of a position is the sum of the scales before its own, resized to its scale, with a
learned position and scale; it predicts the position's own tokens. Elements see the condition, their own scale, and those before it. The scales are
the layout's segments, in their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn

from visiontok.base.config import Probability
from visiontok.base.errors import TokenError
from visiontok.base.noise import Noise, NoiseLike, as_noise
from visiontok.generators.backbones import LlamaConfig, LlamaStack
from visiontok.generators.backbones.llama import block_causal_mask
from visiontok.generators.base import Generator, GeneratorConfig, check_extents
from visiontok.generators.condition import Condition, ConditionLike, needs_one_class
from visiontok.generators.decoding import NextTokenSampler, NextTokenSampling
from visiontok.generators.gpt.embedding import StepEmbedding
from visiontok.generators.heads import CategoricalHead, InnerHead, InnerHeadConfig, TokenHead
from visiontok.generators.next_scale.resizing import resizing_matrix
from visiontok.generators.next_scale.session import NextScaleSession
from visiontok.generators.orders import GenerationSteps, generation_steps
from visiontok.layers.initialization import normal_weights
from visiontok.layers.kv_cache import KVCache
from visiontok.tokens import Latents, TokenLayout, Tokens


class NextScaleConfig(GeneratorConfig, LlamaConfig):
    """Configuration of `NextScale`: the sizes of its backbone, and the following.

    Attributes:
        combine: how the embeddings of the codebooks of a position become one; see `GPTConfig`.
        inner_head: a causal transformer over the codebooks of a position; None predicts them independently, as all positions of a scale.
        is_modulated: whether the class also shifts, scales and gates every block, as in VAR.
        token_dropout: of the embedded sequence.
        sampling: a step is a scale.
    """

    combine: Literal["sum", "concat"] = "sum"
    inner_head: InnerHeadConfig | None = None
    is_modulated: bool = False
    token_dropout: Probability = 0.0
    sampling: NextTokenSampling = NextTokenSampling()

    @model_validator(mode="after")
    def _check_layout(self) -> NextScaleConfig:
        segments = self.layout.segments
        if self.layout.is_continuous or self.layout.ragged:
            raise ValueError(f"next-scale models tokens, as many in every sample; this layout is {'ragged' if self.layout.ragged else 'continuous'}")
        if len(segments) < 2 or len({len(segment.shape) for segment in segments}) > 1 or len({segment.codebooks for segment in segments}) > 1:
            raise ValueError(
                "next-scale needs two segments or more, its scales, with as many axes and codebooks in each; this layout has segments of the shapes "
                f"{[segment.shape for segment in segments]} with {[segment.codebooks for segment in segments]} codebooks"
            )
        if self.layout.order not in ("raster", "by-scale"):
            raise ValueError(f"next-scale writes segments in their order, 'raster' or 'by-scale', not {self.layout.order!r:.60}")
        if self.inner_head is not None and segments[0].codebooks == 1:
            raise ValueError("inner_head predicts the codebooks of a position one after the other: it needs several; this layout has one")
        if self.is_modulated:
            needs_one_class(self.condition)
        return self


class NextScale(Generator[NextScaleConfig]):
    """Next-scale transformer with key-value cache and classifier-free guidance.

    Attributes:
        sizes: positions of every scale.
        starts, ends: its first position, and the one after its last.
    """

    config_class = NextScaleConfig

    def __init__(self, config: NextScaleConfig) -> None:
        super().__init__(config)
        layout, dim = config.layout, config.dim
        self.sizes = [segment.num_positions for segment in layout.segments]
        self.ends = list(accumulate(self.sizes))
        self.starts = [0, *self.ends[:-1]]
        codebooks = layout.segments[0].codebooks
        self.condition = config.condition.build(dim)
        self.embedding = StepEmbedding(layout.num_codes, dim, tokens_per_step=codebooks, combine=config.combine)
        self.register_buffer("resizing", resizing_matrix([segment.shape for segment in layout.segments]), persistent=False)
        self.position_embedding = nn.Parameter(torch.empty(self.ends[-1], dim))
        self.scale_embedding = nn.Parameter(torch.empty(len(self.sizes), dim))
        self.dropout = nn.Dropout(config.token_dropout)
        self.backbone = LlamaStack(config, is_modulated=config.is_modulated, has_norm=config.inner_head is None)
        self.head: TokenHead
        if config.inner_head is None:
            self.head = CategoricalHead(dim, layout.num_codes)
        else:
            self.head = InnerHead(config.inner_head, config, num_codes=layout.num_codes, codebooks=codebooks)
        for table in (self.position_embedding, self.scale_embedding):
            nn.init.normal_(table, std=0.02)
        for part in (self.condition, self.embedding):
            normal_weights(part)

    resizing: Tensor

    def num_steps(self, sampler: Any = None) -> int:
        """Scales, whatever the sampler."""
        return len(self.sizes)

    # Training.

    def loss(
        self, tokens: Tokens | Latents | Tensor, condition: ConditionLike = None, *, step: int = 0, noise: NoiseLike = None
    ) -> dict[str, Tensor]:
        """Mean cross-entropy in nats over the tokens that the batch holds; samples may end after any scale.

        Draws: in training mode a uniform one (B,) that hides conditions.

        Returns:
            "loss", "weight" (tokens held), "bits_per_token", the cross-entropy in bits; in evaluation mode also "accuracy_per_token", the share of
            tokens whose most likely code is right.
        """
        checked, found = self.training_batch(tokens, condition)
        assert isinstance(checked, Tokens)
        nll, correct, held = self._scores(checked, found, self.dropped(len(checked), as_noise(noise, self.device)))
        count = held.sum()
        loss = nll.sum() / count
        numbers = {"loss": loss, "weight": count / len(checked), "bits_per_token": loss.detach() / math.log(2)}
        return numbers if self.training else {**numbers, "accuracy_per_token": correct.sum() / count}

    def nll(self, tokens: Tokens | Tensor, condition: ConditionLike = None) -> Tensor:
        """(B,) float32: minus the log-probability of every sample in nats, given how many scales it has."""
        checked, found = self.training_batch(tokens, condition)
        assert isinstance(checked, Tokens)
        nll, *_ = self._scores(checked, found, torch.zeros(len(checked), dtype=torch.bool, device=self.device))
        return nll.sum(dim=(1, 2))

    def _scores(self, tokens: Tokens, condition: Condition, dropped: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `TokenHead.scores`: (B, N, K) each for the positions of the scales that the longest sample holds; and where there is a token."""
        layout = self.layout.with_levels(self.layout.levels_of(tokens.layout) or self.layout.num_levels)
        lengths, scales = self._whole_scales(tokens, layout)
        known, whole = self.starts[scales - 1], self.ends[scales - 1]
        plan = self.plan(layout).to(self.device).batch(lengths, whole)
        codes = tokens.data[:, plan.positions[0].flatten()].view_as(plan.positions).masked_fill(~plan.held, 0)
        prefix, mask = self.condition(condition, dropped)
        embedded = self.embed(codes[:, :known], plan.first[:, :known], plan.held[:, :known]).to(prefix.dtype)
        x = torch.cat([prefix, self.elements(embedded, 0, whole)], dim=1)
        hidden = self.transform(x, scales=scales, prefix_mask=mask, caches=[], modulations=self.modulations(prefix))
        return *self.head.scores(hidden[:, self.condition.length :], codes, plan, self.embed_rows), plan.held

    def _whole_scales(self, tokens: Tokens, layout: TokenLayout) -> tuple[Tensor, int]:
        """(B,) the tokens of every sample, and the most scales that one holds.

        Raises:
            TokenError: if a sample has other extents than a layout, or ends within a scale.
        """
        check_extents(tokens, layout)
        ends = torch.tensor(list(accumulate(segment.length for segment in layout.segments)), device=tokens.data.device)
        lengths = tokens.sample_lengths
        wrong = (~torch.isin(lengths, ends)).nonzero().flatten()
        if len(wrong):
            row = int(wrong[0])
            raise TokenError(f"sample {row} holds {int(lengths[row])} tokens, not those of whole scales, which end after {ends.tolist()}")
        return lengths, int((ends <= lengths.max()).sum())

    # Generation.

    @torch.no_grad()
    def session(self, condition: ConditionLike = None, *, num_samples: int | None = None, guided: bool = False) -> NextScaleSession:
        """Reads tokens scale by scale; see `NextScaleSession`.

        Args:
            condition: of every sample.
            num_samples: how many, where no condition is given.
            guided: read every sample a second time without its condition.

        Raises:
            ConditionError: if the condition does not fit.
            ConfigError: if a model that never saw samples without a condition is to do so.
        """
        found, count = self.session_condition(condition, samples=num_samples, guided=guided)
        return NextScaleSession(self, found, count, guided=guided)

    @torch.no_grad()
    def generate(
        self,
        condition: ConditionLike = None,
        *,
        num_samples: int | None = None,
        noise: NoiseLike = None,
        sampler: NextTokenSampler | None = None,
        num_tokens: int | None = None,
    ) -> Tokens:
        """Sample scale by scale; see `Generator.generate`.

        Args:
            condition, num_samples, sampler: see `Generator.generate`. Guidance is that of a scale; the codebook level that the sampler is told is
                the number of the scale, where positions have one codebook each.
            noise: source of the random draws, one exponential draw (B, n, V) per scale of n positions and codebook.
            num_tokens: stop after so many, where such prefixes of the layout decode; None for all.

        Raises:
            ConditionError, ConfigError: see `session`.
            TokenError: if the layout has no such prefix.
        """
        found, count, sampler = self.sampling_condition(condition, sampler, samples=num_samples)
        assert isinstance(sampler, NextTokenSampler)
        length, total, source = self.checked_prefix(self.layout, num_tokens), len(self.sizes), as_noise(noise, self.device)
        plan = self.plan(self.layout).to(self.device)
        scales = sum(start * plan.held.shape[1] < length for start in self.starts)
        is_guided = [sampler.is_guided(scale, total) for scale in range(scales)]
        session = NextScaleSession(self, found, count, guided=any(is_guided))
        indices = torch.zeros(count, self.layout.length, dtype=torch.int64, device=self.device)
        hidden = session.prefill()
        for scale in range(scales):
            conditional, unconditional = (None if part is None else part.flatten(0, 1) for part in hidden)
            assert conditional is not None
            choose = partial(_choose, sampler, source, scale, total, self.sizes[scale])
            at_scale = plan.step(self.starts[scale])  # all positions of a scale have the same codebooks
            drawn = self.head.sample(conditional, unconditional if is_guided[scale] else None, at_scale, self.embed_rows, choose)
            codes = drawn.unflatten(0, (count, -1))
            indices[:, plan.positions[self.starts[scale] : self.ends[scale]]] = codes
            if scale + 1 < scales:
                hidden = session.step(codes)
        return Tokens(indices[:, :length], self.layout)

    # The network.

    def embed(self, codes: Tensor, first: Tensor, held: Tensor) -> Tensor:
        """Tokens (B, N, K) of codebooks that begin at rows `first` -> (B, N, D)."""
        return self.embedding(codes + first, held)

    def embed_rows(self, rows: Tensor) -> Tensor:
        """Rows (...) of the table of all codebooks -> (..., D)."""
        return self.embedding.table(rows)

    def elements(self, embedded: Tensor, first: int, last: int) -> Tensor:
        """The elements (B, last - first, D) of positions, which begin and end with scales.

        Args:
            embedded: (B, n, D) tokens of all positions of the scales before the last of them; see `embed`.
            first, last: of the positions.
        """
        scales = [number for number, start in enumerate(self.starts) if first <= start < last]
        sizes = torch.tensor([self.sizes[number] for number in scales], device=embedded.device)
        own = self.scale_embedding[scales[0] : scales[-1] + 1].repeat_interleave(sizes, dim=0, output_size=last - first)
        resized = self.resizing[first:last, : embedded.shape[1]].to(embedded.dtype) @ embedded
        return resized + (self.position_embedding[first:last] + own).to(embedded.dtype)

    def modulations(self, prefix: Tensor) -> Sequence[tuple[Tensor, ...]]:
        """What the embedded condition (B, P, D) does to every block; see `LlamaStack.modulations`."""
        return self.backbone.modulations(prefix[:, 0]) if self.config.is_modulated else ()

    def transform(
        self, x: Tensor, *, scales: int, prefix_mask: Tensor | None, caches: list[KVCache], modulations: Sequence[tuple[Tensor, ...]]
    ) -> Tensor:
        """Elements (B, T, D) that follow those in the caches -> what the head reads (B, T, D).

        Args:
            x: the condition, or what follows it.
            scales: how many the sequence has with these.
            prefix_mask: (B, P) bool, False where the condition is padding.
            caches: one per block, to which the new elements are added; empty to read a sequence from its beginning.
            modulations: see `modulations`.
        """
        blocks = [self.condition.length, *self.sizes[:scales]]
        mask = block_causal_mask(blocks, caches[0].length if caches else 0, prefix_mask=prefix_mask, device=x.device)
        return self.backbone(self.dropout(x), mask=mask, caches=caches, modulations=modulations)

    def plan(self, layout: TokenLayout) -> GenerationSteps:
        """The tokens of every position of a layout that this generator accepts, one position after the other."""
        return generation_steps(layout, self.layout, "flatten" if self.layout.segments[0].codebooks == 1 else "parallel")


def _choose(
    sampler: NextTokenSampler, noise: Noise, scale: int, scales: int, positions: int, logits: Tensor, unconditional: Tensor | None, codebook: int
) -> Tensor:
    """Codes (B * n,) of one codebook at all positions of a scale, from logits (B * n, V)."""
    by_sample, without = (None if part is None else part.unflatten(0, (-1, positions)) for part in (logits, unconditional))
    assert by_sample is not None
    return sampler.choose(by_sample, without, noise, codebook=codebook, step=scale, num_steps=scales).flatten()
