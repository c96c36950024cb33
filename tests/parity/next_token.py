"""What every next-token generator's cases hold: teacher-forced logits, and samples drawn with recorded noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visiontok.base.noise import RecordedNoise
from visiontok.generators.condition import Condition, ConditionLike, as_condition
from visiontok.generators.decoding import NextTokenSampler, TopK
from visiontok.generators.gpt.model import GPT
from visiontok.generators.heads.categorical import CategoricalHead
from visiontok.tokens import Tokens


def teacher_forced(model: GPT, tokens: Tensor, condition: ConditionLike, dropped: Tensor | None = None) -> list[Tensor]:
    """For every codebook of a step, the logits (B, T, V) that predict tokens (B, L)."""
    batch = Tokens(tokens, model.layout)
    none = torch.zeros(len(batch), dtype=torch.bool) if dropped is None else dropped
    hidden, codes, plan = model._predictions(batch, as_condition(condition), none)
    if isinstance(model.head, CategoricalHead):
        columns = zip(plan.first[0, 0].tolist(), plan.sizes[0, 0].tolist(), strict=True)
        return [model.head.table.logits(hidden, first, size) for first, size in columns]
    seen: list[list[Tensor]] = []
    for step in range(hidden.shape[1]):
        chosen = iter(codes[:, step].T)
        logits: list[Tensor] = []

        def choose(conditional: Tensor, _without: Tensor | None, _codebook: int, chosen=chosen, logits=logits) -> Tensor:
            logits.append(conditional)
            return next(chosen)

        at_step = next(iter(_steps(plan, step)))
        model.head.sample(hidden[:, step], None, at_step, model.embed_rows, choose)
        seen.append(logits)
    return [torch.stack(each, dim=1) for each in zip(*seen, strict=True)]


class Watched:
    """A sampler that keeps what it saw: guided logits before filters, and probabilities after them.

    Args:
        sampler: the strategy.
    """

    def __init__(self, sampler: NextTokenSampler) -> None:
        self.guided: list[Tensor] = []
        self.probabilities: list[Tensor] = []
        self._of = tuple(sampler.by_codebook or (sampler,))
        self.sampler = NextTokenSampler(
            by_codebook=tuple(NextTokenSampler(each.guidance, (self._first, *each.filters, self._last)) for each in self._of)
            if sampler.by_codebook
            else (),
            guidance=sampler.guidance,
            filters=(self._first, *sampler.filters, self._last),
        )

    def _first(self, logits: Tensor) -> Tensor:
        self.guided.append(logits)
        return logits

    def _last(self, logits: Tensor) -> Tensor:
        self.probabilities.append(logits.softmax(dim=-1))
        return logits


def greedy(model: GPT) -> NextTokenSampler:
    """The configured guidance, and always the most likely code."""
    return NextTokenSampler(model.sampler().guidance, (TopK(1),))


def recorded(draws: Sequence[Tensor] | Tensor) -> RecordedNoise:
    """Exponential draws, one (B, V) per token."""
    return RecordedNoise(exponential=list(draws))


def sampled(model: GPT, condition: Condition | Tensor, draws: Sequence[Tensor] | Tensor) -> tuple[Tokens, Watched]:
    """Tokens drawn with recorded noise by the configured sampler, and what it saw."""
    watched = Watched(model.sampler())
    tokens = model.generate(condition, sampler=watched.sampler, noise=recorded(draws))
    assert isinstance(tokens, Tokens)
    return tokens.validate(), watched


def _steps(plan, step: int):
    yield type(plan)(*(getattr(plan, name)[0, step] for name in type(plan).__dataclass_fields__))
