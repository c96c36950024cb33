"""Speculative decoding: a small generator drafts a sequence, and the large one checks it in one pass (arXiv 2211.17192, 2302.01318)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.base.noise import Noise
from visiontok.generators.decoding.categorical import probabilities, race
from visiontok.generators.decoding.drafted import DraftedSampler, drafter_condition
from visiontok.generators.decoding.next_token import NextTokenSampler
from visiontok.generators.heads.base import Choose, TokenHead
from visiontok.generators.orders import GenerationSteps

if TYPE_CHECKING:
    from visiontok.generators.condition import ConditionLike
    from visiontok.generators.gpt.model import GPT
    from visiontok.generators.gpt.session import GPTSession
    from visiontok.tokens import TokenLayout


class Acceptance(Protocol):
    """Which drafted codes are kept, and what replaces the others."""

    def __call__(self, target: Tensor, draft: Tensor, codes: Tensor, uniform: Tensor, *, codebook: int) -> tuple[Tensor, Tensor]:
        """Accept or replace one code of every sample.

        Args:
            target: (B, V) probabilities of the large generator.
            draft: (B, V) probabilities of the small one, from which the codes were drawn.
            codes: (B,) drafted.
            uniform: (B,) draws.
            codebook: level of the codes.

        Returns:
            (B,) bool, whether the code is kept; (B, V) weights, not negative, with which another one is drawn otherwise.
        """


@dataclass(frozen=True)
class ExactAcceptance:
    """Keeps a code x with probability min(1, p(x) / q(x)), and draws from max(p - q, 0) otherwise: the result is distributed as p."""

    def __call__(self, target: Tensor, draft: Tensor, codes: Tensor, uniform: Tensor, *, codebook: int) -> tuple[Tensor, Tensor]:
        p, q = (values.gather(-1, codes[:, None])[:, 0] for values in (target, draft))
        return uniform * q < p, (target - draft).clamp_min(0)


class SpeculativeSampler(DraftedSampler):
    """A drafter proposes one sequence, of which the generator keeps a prefix.

    With `ExactAcceptance` a sample has the distribution that it has without a drafter, and with `TopK(1)` the same tokens.

    Both generators see the same guidance and filters. Every token has draws of its own, which are made once in generation order: two exponential
    ones (B, V), for the draft and for its replacement, and a uniform one (B,) between. So a token depends on the draws and the tokens before it, and
    neither on the batch nor on `draft_length`. (The usual extra token after a draft that is kept whole would break that; here the last
    drafted token is checked in its place, which costs one more pass of the drafter and none of the generator.) A batch goes on from
    the first token that any of its samples rejects.

    Args:
        drafter: a generator of the same layout and pattern; conditioned likewise, or not at all.
        sampler: guidance and filters.
        draft_length: steps drafted per pass.
        acceptance: the rule.

    Raises:
        ConfigError: if the draft length is below 1, or the drafter generates continuous latents.
    """

    def __init__(self, drafter: GPT, sampler: NextTokenSampler, *, draft_length: int = 4, acceptance: Acceptance | None = None) -> None:
        if draft_length < 1:
            raise ConfigError(f"draft_length is at least 1, got {draft_length}")
        if drafter.layout.is_continuous:
            raise ConfigError("speculative decoding needs a generator of tokens; this drafter generates continuous latents")
        super().__init__(sampler)
        self.drafter, self.draft_length = drafter, draft_length
        self.acceptance = ExactAcceptance() if acceptance is None else acceptance

    def draw(
        self, model: GPT, condition: ConditionLike, *, num_samples: int | None, layout: TokenLayout, guided: bool, noise: Noise, steps: int
    ) -> Tensor:
        target = model.session(condition, num_samples=num_samples, layout=layout, guided=guided)
        own = drafter_condition(self.drafter, model, condition)
        drafter = self.drafter.session(own, num_samples=target.samples, layout=layout, guided=guided)
        plan = model.plan(layout).to(model.device)
        total, at_steps = len(plan.held), list(plan.steps(steps))
        codes = torch.zeros(target.samples, steps, plan.held.shape[1], dtype=torch.int64, device=plan.held.device)
        choices = [_StepChoice(self, noise, step, total) for step in range(steps)]
        begin = 0
        while begin < steps:
            end = min(begin + self.draft_length, steps)
            if begin:
                for session in (target, drafter):
                    session.rewind(begin - 1)
            read = drafter.step(codes[:, begin - 1]) if begin else drafter.prefill()
            for step in range(begin, end):
                codes[:, step] = choices[step].draft(drafter, read, at_steps[step])
                if step + 1 < end:
                    read = drafter.step(codes[:, step])
            hidden = _read(target, codes, begin, end)
            self.passes += 1
            for at, step in enumerate(range(begin, end)):
                read = hidden[0][:, at], None if hidden[1] is None else hidden[1][:, at]
                codes[:, step], kept = choices[step].verify(target, read, at_steps[step])
                choices[step].forget()
                begin = step + 1
                if not kept:
                    break
        self.steps += steps
        return codes


class _StepChoice:
    """The draws of one step, and its last draft."""

    def __init__(self, sampler: SpeculativeSampler, noise: Noise, step: int, num_steps: int) -> None:
        self._sampler, self._noise, self._step, self._num_steps = sampler.sampler, noise, step, num_steps
        self._accept, self._is_guided = sampler.acceptance, sampler.is_guided(step, num_steps)
        self._draws: list[tuple[Tensor, Tensor, Tensor]] = []
        self._drafts: list[tuple[Tensor, Tensor]] = []

    def draft(self, session: GPTSession, read: tuple[Tensor, Tensor | None], at_step: GenerationSteps) -> Tensor:
        """Codes (B, K) of the small generator, from what its head reads."""
        self._drafts.clear()

        def choose(logits: Tensor, unconditional: Tensor | None, codebook: int) -> Tensor:
            if len(self._draws) == len(self._drafts):
                draws = self._noise
                self._draws.append((draws.exponential(*logits.shape), draws.uniform(len(logits)), draws.exponential(*logits.shape)))
            odds = self._probabilities(logits, unconditional, codebook)
            drawn = race(odds, self._draws[len(self._drafts)][0])
            self._drafts.append((drawn, odds))
            return drawn

        return self._sample(session, read, at_step, choose)

    def verify(self, session: GPTSession, read: tuple[Tensor, Tensor | None], at_step: GenerationSteps) -> tuple[Tensor, bool]:
        """Codes (B, K) of the large generator, and whether every sample keeps its draft."""
        judged = zip(self._draws, self._drafts, strict=True)
        kept = torch.ones(session.samples, dtype=torch.bool, device=at_step.held.device)

        def choose(logits: Tensor, unconditional: Tensor | None, codebook: int) -> Tensor:
            nonlocal kept
            (_, uniform, again), (drafted, draft) = next(judged)
            target = self._probabilities(logits, unconditional, codebook)
            accepted, weights = self._accept(target, draft, drafted, uniform, codebook=codebook)
            # After a rejected code of the step, the later ones were drafted for nothing; where rounding leaves no weight, p and q are equal.
            weights = torch.where(kept[:, None] & (weights.sum(dim=-1, keepdim=True) > 0), weights, target)
            kept = kept & accepted
            return torch.where(kept, drafted, race(weights, again))

        return self._sample(session, read, at_step, choose), bool(kept.all())

    def forget(self) -> None:
        """Frees the draws of a step that is done."""
        self._draws, self._drafts = [], []

    def _probabilities(self, logits: Tensor, unconditional: Tensor | None, codebook: int) -> Tensor:
        filtered = self._sampler.filtered(logits, unconditional, codebook=codebook, step=self._step, num_steps=self._num_steps)
        return probabilities(filtered, step=self._step)

    def _sample(self, session: GPTSession, read: tuple[Tensor, Tensor | None], at_step: GenerationSteps, choose: Choose) -> Tensor:
        head = session.model.head
        assert isinstance(head, TokenHead)
        return head.sample(read[0], read[1] if self._is_guided else None, at_step, session.model.embed_rows, choose)


def _read(session: GPTSession, codes: Tensor, begin: int, end: int) -> tuple[Tensor, Tensor | None]:
    """What the head reads for the steps from `begin` to `end`, (B, n, D) each, in one pass over the steps before them."""
    if begin:
        return session.extend(codes[:, begin - 1 : end - 1])
    first = session.prefill()
    rest = session.extend(codes[:, : end - 1]) if end > 1 else (None, None)
    parts = [torch.cat([one[:, None], *([] if more is None else [more])], dim=1) for one, more in zip(first, rest, strict=True) if one is not None]
    return parts[0], parts[1] if len(parts) > 1 else None
