"""`gpt`: a causal transformer of Llama's or GPT-2's blocks over the tokens or latents of any layout, conditioned on anything.

The sequence is [condition | step_0 ... step_{T-1}] in the layout's generation order; the element before a step predicts what it writes. The model
is that of LlamaGen (arXiv 2406.06525), except that a layout may hold several codebooks or continuous latents, may vary in extent, and that
positions may be learned. The generators of IBQ, Open-MAGVIT2, ELM, LARP and OmniTokenizer are assemblies of the same parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Probability
from visiontok.base.errors import ConfigError, TokenError
from visiontok.base.finite import FiniteSteps
from visiontok.base.noise import Noise, NoiseLike, as_noise
from visiontok.generators.backbones import LlamaConfig, LlamaStack
from visiontok.generators.backbones.llama import causal_mask
from visiontok.generators.base import Generator, GeneratorConfig
from visiontok.generators.condition import Condition, ConditionLike, needs_one_class
from visiontok.generators.decoding import DraftedSampler, LatentSampler, LatentSampling, NextTokenSampler, NextTokenSampling
from visiontok.generators.decoding.drafted import drafter_condition
from visiontok.generators.endings import batch_steps_with_end, check_has_end, end_code, ended_samples, may_end, with_end
from visiontok.generators.gpt.embedding import StepEmbedding
from visiontok.generators.gpt.session import GPTSession, GPTTreeSession
from visiontok.generators.heads import (
    CategoricalHead,
    DiffusionHead,
    DiffusionHeadConfig,
    FlowHead,
    FlowHeadConfig,
    FourierHead,
    FourierHeadConfig,
    InnerHead,
    InnerHeadConfig,
    LatentHead,
    MixtureHead,
    MixtureHeadConfig,
    TokenHead,
)
from visiontok.generators.heads.diffusion_schedule import kept_steps
from visiontok.generators.orders import GenerationSteps, Pattern, batch_generation_steps, check_pattern, generation_steps
from visiontok.generators.perturbation import perturbed
from visiontok.layers.initialization import normal_weights
from visiontok.layers.nested_dropout import LengthSchedule, NestedDropout
from visiontok.layers.rope import rope_table
from visiontok.tokens import Latents, TokenLayout, Tokens


class GPTConfig(GeneratorConfig, LlamaConfig):
    """Configuration of `GPT`: the sizes of its backbone, and the following.

    Attributes:
        positions: `rope` turns queries and keys by the position of their token within its segment, over as many axes as the segments have (the
            condition has rows of zeros, as in LlamaGen); `rope-1d` turns every element by its place in the sequence, the condition included, as
            language models do; `learned` adds one learned row per element of the sequence.
        pattern: how the codebooks of a position are written; see `orders.Pattern`.
        combine: how the embeddings of the tokens of a step become one: their sum, or a projection of their concatenation.
        inner_head: a causal transformer over the tokens of a step, for patterns that write several; None predicts them independently.
        has_end: whether samples of different lengths end by a code of their own, so that generation says how long they are: for ragged layouts, and
            for those whose extents grow along one axis; the layout is that of the longest sample. Without it, `generate` is told the length.
        nested_lengths: in training, every sample is cut to a drawn one of the layout's prefixes (see `nested_dropout`): a length where any prefix
            decodes, the k-th of the listed ones where only they do. Early tokens so weigh more. None keeps whole samples.
        fourier_head: smooth distributions for ordered codes, such as dimension-wise ones, by Fourier series; None for a logit per code.
        is_modulated: whether the class also shifts, scales and gates every block.
        token_dropout: of the embedded sequence.
        token_perturbation: the probability, in training, that a token is replaced by a random one of its codebook where the model reads it; what is
            to be predicted stays.
        flow_head: for continuous layouts, the head that samples latents.
        diffusion_head: a diffusion model, as in MAR, instead of that head.
        mixture_head: a mixture of Gaussians, as in GIVT and Divot, instead of either.
    """

    positions: Literal["rope", "rope-1d", "learned"] = "rope"
    pattern: Pattern = "flatten"
    combine: Literal["sum", "concat"] = "sum"
    inner_head: InnerHeadConfig | None = None
    has_end: bool = False
    nested_lengths: NestedDropout | None = None
    fourier_head: FourierHeadConfig | None = None
    is_modulated: bool = False
    token_dropout: Probability = 0.1
    token_perturbation: Probability = 0.0
    flow_head: FlowHeadConfig = FlowHeadConfig()
    diffusion_head: DiffusionHeadConfig | None = None
    mixture_head: MixtureHeadConfig | None = None
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
    def _check_layout(self) -> GPTConfig:
        if self.layout.is_continuous != isinstance(self.sampling, LatentSampling):
            raise ValueError(
                f"sampling of type {self.sampling.type!r} does not fit a {'continuous' if self.layout.is_continuous else 'discrete'} layout"
            )
        if self.diffusion_head is not None and self.mixture_head is not None:
            raise ValueError("latents are sampled by one head: give diffusion_head or mixture_head")
        if self.diffusion_head is not None and isinstance(self.sampling, LatentSampling):
            kept_steps(self.diffusion_head.num_timesteps, str(self.sampling.steps))  # refuses more steps than there are
        if self.positions == "rope":
            axes = {len(segment.shape) for segment in self.layout.segments}
            if len(axes) > 1:
                raise ValueError(f"segments with {sorted(axes)} axes have no common rotary positions; use positions 'rope-1d' or 'learned'")
            if self.head_dim % (2 * max(axes)):
                raise ValueError(f"rotary positions over {max(axes)} axes need a head dim that is a multiple of {2 * max(axes)}")
        if self.positions == "rope-1d" and self.head_dim % 2:
            raise ValueError(f"rotary positions need an even head dim, got {self.head_dim}")
        check_pattern(self.layout, self.pattern)
        if self.has_end:
            check_has_end(self.layout, self.pattern)
        if self.nested_lengths is not None and (self.layout.prefixes == "none" or self.layout.is_variable or not self.layout.is_in_storage_order):
            raise ValueError("nested_lengths need a layout of one extent that is generated in storage order, and of which prefixes decode")
        if self.nested_lengths is not None and self.has_end:
            raise ValueError("nested_lengths cut samples where they do not end: use them without has_end")
        if self.inner_head is not None and self.pattern != "parallel":
            raise ValueError(f"inner_head predicts all codebooks of a position in one step: it needs the pattern 'parallel', not {self.pattern!r}")
        if self.fourier_head is not None and (self.inner_head is not None or self.layout.is_continuous or self.has_end):
            raise ValueError("fourier_head predicts ordered codes independently: it needs a discrete layout, no inner_head and no has_end")
        if self.token_perturbation and self.layout.is_continuous:
            raise ValueError("token_perturbation replaces codes: it needs a discrete layout")
        if self.is_modulated:
            needs_one_class(self.condition)
        return self


class GPT(Generator[GPTConfig]):
    """Next-token (or next-latent) transformer with key-value cache and classifier-free guidance."""

    config_class = GPTConfig

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        layout, dim = config.layout, config.dim
        self.condition = config.condition.build(dim)
        self.embedding: StepEmbedding | nn.Linear
        self.head: TokenHead | LatentHead
        if layout.is_continuous:
            channels = layout.segments[0].channels or 0
            self.embedding = nn.Linear(channels, dim)
            if config.mixture_head is not None:
                self.head = MixtureHead(config.mixture_head, dim=dim, channels=channels)
            elif config.diffusion_head is not None:
                self.head = DiffusionHead(config.diffusion_head, dim=dim, channels=channels)
            else:
                self.head = FlowHead(config.flow_head, dim=dim, channels=channels)
        else:
            tokens_per_step = 1 if config.pattern == "flatten" else layout.segments[0].codebooks
            num_codes = layout.num_codes + config.has_end
            self.embedding = StepEmbedding(num_codes, dim, tokens_per_step=tokens_per_step, combine=config.combine)
            if config.fourier_head is not None:
                sizes = zip(layout.codebook_rows, (segment.vocab_sizes for segment in layout.segments), strict=True)
                codebooks = {(int(first), int(size)) for rows, counts in sizes for first, size in zip(rows, counts, strict=True)}
                self.head = FourierHead(config.fourier_head, dim, sorted(codebooks))
            elif config.inner_head is None:
                self.head = CategoricalHead(dim, num_codes)
            else:
                self.head = InnerHead(config.inner_head, config, num_codes=num_codes, codebooks=tokens_per_step)
        self._first_position = self.condition.length if self.condition.has_positions else 0
        self.dropout = nn.Dropout(config.token_dropout)
        # An inner head has the only norm, after its own blocks (Open-MAGVIT2).
        self.backbone = LlamaStack(config, is_modulated=config.is_modulated, has_norm=config.inner_head is None)
        self.position_embedding: nn.Parameter | None = None
        if config.positions == "learned":
            self.position_embedding = nn.Parameter(torch.empty(self.condition.length - 1 + self.num_steps() - self._first_position, dim))
            nn.init.normal_(self.position_embedding, std=0.02)
        for part in (self.condition, self.embedding):
            normal_weights(part)

    def num_steps(self, sampler: Any = None) -> int:
        """Steps of a full sample of the configuration's layout, whatever the sampler."""
        return len(self.plan(self.layout).held)

    # Training.

    def loss(
        self, tokens: Tokens | Latents | Tensor, condition: ConditionLike = None, *, step: int = 0, noise: NoiseLike = None
    ) -> dict[str, Tensor]:
        """Mean over what the batch holds: of the cross-entropy in nats, or of the head's loss for latents.

        Draws: in training mode a uniform one (B,) that hides conditions, with `nested_lengths` one (B,) for these, and with `token_perturbation` that
        of `perturbed`; for latents then those of the head.

        Returns:
            "loss", "weight" (tokens held, with the ends of samples where the model has them), and for tokens "bits_per_token", the cross-entropy in
            bits; in evaluation mode also "accuracy_per_token", the share of tokens whose most likely code is right.
        """
        tokens, found = self.training_batch(tokens, condition)
        source = as_noise(noise, self.device)
        dropped = self.dropped(len(tokens), source)
        if self.training and self.config.nested_lengths is not None:
            tokens = self._nested(tokens, self.config.nested_lengths, source)
        if isinstance(tokens, Tokens):
            nll, correct, where, penalty = self._scores(tokens, found, dropped, source)
            held = where.sum()
            loss = nll.sum() / held
            numbers = {"loss": loss + penalty, "weight": held / len(tokens), "bits_per_token": loss.detach() / math.log(2)}
            return numbers if self.training else {**numbers, "accuracy_per_token": correct.sum() / held}
        assert isinstance(self.head, LatentHead)
        hidden, values, plan = self._predictions(tokens, found, dropped, source)
        errors = self.head.loss(hidden, values, plan.held[..., 0], source)
        return {"loss": errors.mean(), "weight": plan.held.sum() / len(values)}

    def _nested(self, tokens: Tokens | Latents, lengths: LengthSchedule, noise: Noise) -> Tokens | Latents:
        """Every sample cut to a drawn prefix, where it is longer."""
        prefixes, longest = self.layout.prefixes, self.layout.length
        if isinstance(prefixes, tuple):
            choices = torch.tensor(sorted({*prefixes, longest}), dtype=torch.int64, device=self.device)
            drawn = choices[lengths.draw(len(tokens), len(choices), device=self.device, noise=noise) - 1]
        else:
            drawn = lengths.draw(len(tokens), longest, device=self.device, noise=noise)
        return tokens.prefix(torch.minimum(drawn, tokens.sample_lengths))

    def nll(self, tokens: Tokens | Tensor, condition: ConditionLike = None) -> Tensor:
        """(B,) float32: minus the log-probability of every sample in nats; divide by ln 2 for the bits that an ideal coder would need.

        With `has_end` that is of the sample and its length, otherwise of the sample given its length.
        """
        checked, found = self.training_batch(tokens, condition)
        assert isinstance(checked, Tokens)
        nll, *_ = self._scores(checked, found, torch.zeros(len(checked), dtype=torch.bool, device=self.device))
        return nll.sum(dim=(1, 2))

    def _scores(self, tokens: Tokens, condition: Condition, dropped: Tensor, noise: Noise | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `TokenHead.scores`, in generation order; where there is a token; and `TokenHead.penalty`."""
        assert isinstance(self.head, TokenHead)
        hidden, codes, plan = self._predictions(tokens, condition, dropped, noise)
        return *self.head.scores(hidden, codes, plan, self.embed_rows), plan.held, self.head.penalty(hidden, plan)

    def _predictions(
        self, tokens: Tokens | Latents, condition: Condition, dropped: Tensor, noise: Noise | None = None
    ) -> tuple[Tensor, Tensor, GenerationSteps]:
        """What predicts every step (B, T, D); and the rest as `hidden_states` gives it."""
        hidden, data, plan = self.hidden_states(tokens, condition, dropped, noise)
        return hidden[:, self.condition.length - 1 :], data, plan

    def hidden_states(
        self, tokens: Tokens | Latents, condition: Condition, dropped: Tensor, noise: Noise | None = None
    ) -> tuple[Tensor, Tensor, GenerationSteps]:
        """What the head reads after every element of the condition and every step but the last.

        Args:
            tokens, condition: checked, see `training_batch`.
            dropped: (B,) bool, the samples whose condition is hidden.
            noise: of the perturbation of what is read in training; None reads the tokens as they are.

        Returns:
            (B, P - 1 + T, D), of which the last T predict the steps; the tokens (B, T, K) or latents (B, T, C) in generation order, 0 where there is
            none; the steps.
        """
        if self.config.has_end:
            plan, ends = batch_steps_with_end(tokens, self.layout, self.config.pattern)
            data = _in_order(tokens.data, plan).masked_fill(ends, end_code(self.layout))
        else:
            plan = batch_generation_steps(tokens, self.layout, self.config.pattern)
            self._check_steps(plan.held.shape[1])
            data = _in_order(tokens.data, plan)
        prefix, mask = self.condition(condition, dropped)
        modulations = self.backbone.modulations(prefix[:, 0]) if self.config.is_modulated else ()
        read = data[:, :-1]
        if noise is not None and self.training and self.config.token_perturbation:
            read = perturbed(read, plan.sizes[:, :-1], probability=self.config.token_perturbation, noise=noise)
        tail = self.embed(read, plan.first[:, :-1], plan.held[:, :-1])
        x = self.positioned(torch.cat([prefix, tail.to(prefix.dtype)], dim=1), 0)
        mask = None if mask is None else causal_mask(0, x.shape[1], prefix_mask=mask, device=x.device)
        rope = self.rope_rows(plan.coordinates[:, :-1])
        hidden = self.backbone(x, rope=rope, mask=mask, is_causal=mask is None, modulations=modulations)
        return hidden, data, plan

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
        found, count = self.session_condition(condition, samples=num_samples, guided=guided)
        own = self._own_layout(layout)
        return GPTSession(self, found, count, own, guided=guided)

    @torch.no_grad()
    def tree_session(
        self, condition: ConditionLike = None, *, num_samples: int | None = None, layout: TokenLayout | None = None, guided: bool = False, room: int
    ) -> GPTTreeSession:
        """Reads trees of tokens behind samples; see `GPTTreeSession` for `room`, `session` for the rest.

        Raises:
            ConfigError: also for a model that generates latents, ends its samples itself, or writes several tokens per step.
            ConditionError, TokenError, NonFiniteError: see `session`.
        """
        if self.layout.is_continuous or self.config.has_end or self.config.pattern != "flatten":
            raise ConfigError("a tree of tokens needs a generator that writes one token per step, and as many steps as the layout has")
        found, count = self.session_condition(condition, samples=num_samples, guided=guided)
        return GPTTreeSession(self, found, count, self._own_layout(layout), guided=guided, room=room)

    def draft_session(self, model: GPT, condition: ConditionLike, *, samples: int, layout: TokenLayout, guided: bool, room: int) -> GPTTreeSession:
        """As a drafter for `model`; see `decoding.Drafter`."""
        own = drafter_condition(self, model, condition)
        return self.tree_session(own, num_samples=samples, layout=layout, guided=guided, room=room)

    @torch.no_grad()
    def generate(
        self,
        condition: ConditionLike = None,
        *,
        num_samples: int | None = None,
        noise: NoiseLike = None,
        sampler: NextTokenSampler | LatentSampler | DraftedSampler | None = None,
        num_tokens: int | None = None,
        layout: TokenLayout | None = None,
        start: Tokens | Latents | None = None,
    ) -> Tokens | Latents:
        """Sample step by step: one sample per entry of the condition, or `num_samples` without one.

        Args:
            condition: of every sample; (B,) int64 classes may stand for themselves.
            num_samples: how many, where no condition is given.
            noise: source of the random draws, one exponential draw (B, V) per token, or a normal one (B, 1, C) per latent.
            sampler: guidance and filters, or a strategy with a drafter (`SpeculativeSampler`, `TreeSampler`), which has draws of its own; None for
                the configuration's.
            num_tokens: stop after so many, where such prefixes of the layout decode; None for all.
            layout: of the samples, where the generator's is variable: `generator.layout.at(extents)`; None for the generator's own. With `has_end`
                that of the longest possible sample.
            start: what every sample begins with, such as the tokens of the first frames of clips, and what is sampled then follows: full samples of a
                layout of the same kind, whose tokens are those that come first in the generation order.

        Returns:
            one sample each, as long as the layout or `num_tokens`; with `has_end` as long as the model made it.

        Raises:
            ConditionError, ConfigError, TokenError: see `session`; if the layout has no such prefix, or does not begin with `start`.
        """
        sampler = self.sampler() if sampler is None else sampler
        own = self._own_layout(layout)
        length = self._checked_length(own, num_tokens)
        plan = self.plan(own)
        total = len(plan.held)
        steps = int((plan.positions < length).any(dim=-1).nonzero().max()) + 1
        given = None if start is None else self._given(start, own, most=steps - 1)
        num_samples = len(given) if given is not None and condition is None and num_samples is None else num_samples
        is_guided = [sampler.is_guided(step, total) for step in range(steps)]
        source = as_noise(noise, self.device)
        if isinstance(sampler, DraftedSampler):
            if given is not None:
                raise ConfigError("speculative decoding writes samples from their first token on; continue samples without a drafter")
            if self.config.has_end:
                raise ConfigError("speculative decoding writes samples of a known length; this generator ends them by a code of their own (has_end)")
            drawn = sampler.draw(self, condition, num_samples=num_samples, layout=own, guided=any(is_guided), noise=source, steps=steps)
        else:
            session = self.session(condition, num_samples=num_samples, layout=own, guided=any(is_guided))
            if given is not None and len(given) != session.samples:
                raise TokenError(f"{len(given)} samples to begin with for {session.samples} samples: give as many")
            if isinstance(sampler, LatentSampler):
                drawn = self._draw_latents(session, sampler, plan, source, is_guided, given)
            else:
                drawn = self._draw_tokens(session, sampler, plan, source, is_guided, given)
        held = plan.held[: drawn.shape[1]].to(self.device)
        data = drawn.new_zeros(len(drawn), own.length, *drawn.shape[3:])
        data[:, plan.positions[: drawn.shape[1]].to(self.device)[held]] = drawn[:, held]
        if self.config.has_end:
            is_end = (drawn[..., 0] == end_code(self.layout)) & may_end(plan, own)[: drawn.shape[1]].to(self.device)
            counts = torch.where(is_end.any(dim=1), is_end.long().argmax(dim=1), total)
            return ended_samples(data, counts, own, self.layout, self.config.pattern)
        return Latents(data[:, :length].float(), own) if own.is_continuous else Tokens(data[:, :length], own)

    def _given(self, start: Tokens | Latents, layout: TokenLayout, *, most: int) -> Tensor:
        """(B, n, K) tokens or (B, n, C) latents of the first steps, in generation order; `most` steps at most.

        Raises:
            TokenError: if they are not the first ones of samples of the layout.
        """
        if not self.layout.accepts(start.layout) or not start.is_full or len(list(start.groups())) > 1:
            raise TokenError(f"samples begin with full ones of one extent of the generator's layout {self.layout}, not with {start.layout}")
        start = start.validate().to(self.device)
        begun, whole = (generation_steps(each, self.layout, self.config.pattern) for each in (start.layout, layout))
        count = len(begun.held)
        same = (torch.equal(getattr(begun, name), getattr(whole, name)[:count]) for name in ("first", "coordinates", "held"))
        if count > most or not all(same):
            raise TokenError(
                f"a sample of the extents {layout.extents} does not begin with one of the extents {start.layout.extents}, in the order in which this "
                f"generator writes it (pattern {self.config.pattern!r}), or ends there"
            )
        return _in_order(start.data, batch_generation_steps(start, self.layout, self.config.pattern))

    def _draw_tokens(
        self, session: GPTSession, sampler: NextTokenSampler, plan: GenerationSteps, noise: Noise, is_guided: list[bool], given: Tensor | None
    ) -> Tensor:
        """(B, T, K) int64 in generation order, behind the given ones; T is smaller where every sample has ended. Only a step that may end samples
        waits for the device."""
        assert isinstance(self.head, TokenHead)
        finite, total = FiniteSteps(), len(plan.held)
        ended = torch.zeros(session.samples, dtype=torch.bool, device=self.device)
        ending = may_end(plan, session.layout).tolist() if self.config.has_end else [False] * total
        drawn: list[Tensor] = [] if given is None else list(given.unbind(dim=1))
        begun = len(drawn)
        hidden = session.prefill(given)
        head = self.head.for_steps(total - begun, session.samples * (1 + session.guided))
        for step in range(begun, len(is_guided)):
            if step > begun:
                hidden = session.step(drawn[-1])
            at_step = plan.step(step)
            choose = partial(_choose, sampler, noise, finite, step, total)
            drawn.append(head.sample(hidden[0], hidden[1] if is_guided[step] else None, at_step, self.embed_rows, choose))
            if ending[step]:
                ended |= drawn[-1][:, 0] == end_code(self.layout)
                if bool(ended.all()):
                    break
        finite.check("the logits")
        return torch.stack(drawn, dim=1)

    def _draw_latents(
        self, session: GPTSession, sampler: LatentSampler, plan: GenerationSteps, noise: Noise, is_guided: list[bool], given: Tensor | None
    ) -> Tensor:
        """(B, T, 1, C) in generation order, behind the given ones."""
        assert isinstance(self.head, LatentHead)
        finite, total = FiniteSteps(), len(plan.held)
        drawn: list[Tensor] = [] if given is None else list(given.unbind(dim=1))
        begun = len(drawn)
        hidden = session.prefill(given)
        for step in range(begun, len(is_guided)):
            guided = is_guided[step]
            if step > begun:
                hidden = session.step(drawn[-1])
            conditional, unconditional = hidden[0][:, None], hidden[1] if guided else None
            found = self.head.sample(
                conditional,
                None if unconditional is None else unconditional[:, None],
                noise,
                steps=sampler.steps,
                guidance=sampler.guidance(step, total),
                temperature=sampler.temperature,
            )
            finite.add(found, step)
            drawn.append(found[:, 0])
        finite.check("the latents")
        return torch.stack(drawn, dim=1)[:, :, None]

    # The network.

    def embed(self, data: Tensor, first: Tensor, held: Tensor) -> Tensor:
        """Tokens (B, T, K) of codebooks that begin at rows `first`, or latents (B, T, C) -> (B, T, D)."""
        if isinstance(self.embedding, StepEmbedding):
            return self.embedding(data + first, held)
        return self.embedding(data.to(self.dtype))

    def embed_rows(self, rows: Tensor) -> Tensor:
        """Rows (...) of the table of all codebooks -> (..., D)."""
        assert isinstance(self.embedding, StepEmbedding)
        return self.embedding.table(rows)

    def rope_rows(self, coordinates: Tensor) -> Tensor | None:
        """(B or 1, 1, P + T, head_dim / 2, 2) for the condition and steps at coordinates (B or 1, T, A); None for learned positions."""
        if self.config.positions == "learned":
            return None
        samples, steps, axes = coordinates.shape
        if self.config.positions == "rope-1d":
            sequence = torch.arange(self.condition.length + steps, device=coordinates.device)
            return rope_table(sequence[:, None], self.config.head_dim, base=self.config.rope_base)[None, None]
        rows = rope_table(coordinates.reshape(samples * steps, axes), self.config.head_dim, base=self.config.rope_base).unflatten(0, (samples, steps))
        zeros = rows.new_zeros(samples, self.condition.length, *rows.shape[2:])
        return torch.cat([zeros, rows], dim=1)[:, None]

    def positioned(self, x: Tensor, start: int) -> Tensor:
        """Embedded elements (B, T, D) from number `start` of the sequence on, with dropout, and learned positions where there are any."""
        x, rows = self.dropout(x), self.position_rows(start, start + x.shape[1])
        return x if rows is None else x + rows

    def position_rows(self, start: int, end: int) -> Tensor | None:
        """(end - start, D): the learned positions of these elements of the sequence, zeros for those of a condition that has its own; None for others
        than learned ones."""
        if self.position_embedding is None:
            return None
        first = self._first_position
        rows = self.position_embedding[max(start - first, 0) : max(end - first, 0)]
        return rows if start >= first else F.pad(rows, (0, 0, min(first, end) - start, 0))

    def plan(self, layout: TokenLayout) -> GenerationSteps:
        """The steps of a full sample of a layout that this generator accepts."""
        found = generation_steps(layout, self.layout, self.config.pattern)
        return with_end(found, layout) if self.config.has_end else found

    def _own_layout(self, layout: TokenLayout | None) -> TokenLayout:
        if layout is None:
            return self.layout
        if not self.layout.accepts(layout):
            raise TokenError(f"this generator was trained on {self.layout}; it cannot sample {layout}")
        self._check_steps(len(self.plan(layout).held))
        return layout

    def _check_steps(self, steps: int) -> None:
        if (self.position_embedding is not None or self.config.has_end) and steps > self.num_steps():
            learned = "ends" if self.config.has_end else "positions"
            raise TokenError(f"samples of {steps} steps are longer than the {self.num_steps()} that this generator has learned {learned} for")

    def _checked_length(self, layout: TokenLayout, num_tokens: int | None) -> int:
        if num_tokens is None or num_tokens == layout.length:
            return layout.length
        if self.config.has_end:
            raise TokenError(f"num_tokens = {num_tokens}: this generator ends its samples itself; to bound them, give the layout of the longest")
        if not layout.is_in_storage_order:
            raise TokenError(f"num_tokens = {num_tokens}: the layout has the generation order {layout.order!r}, so all {layout.length} are sampled")
        return self.checked_prefix(layout, num_tokens)


def _in_order(data: Tensor, plan: GenerationSteps) -> Tensor:
    """Tokens (B, L) -> (B, T, K), latents (B, L, C) -> (B, T, C), in generation order; 0 where there is none."""
    if data.ndim == 2:
        return data.gather(1, plan.positions.flatten(1)).view_as(plan.positions).masked_fill(~plan.held, 0)
    return data.gather(1, plan.positions.expand(-1, -1, data.shape[2])).masked_fill(~plan.held, 0)


def _choose(
    sampler: NextTokenSampler,
    noise: Noise,
    finite: FiniteSteps,
    step: int,
    num_steps: int,
    logits: Tensor,
    unconditional: Tensor | None,
    codebook: int,
) -> Tensor:
    return sampler.choose(logits, unconditional, noise, codebook=codebook, step=step, num_steps=num_steps, finite=finite)
