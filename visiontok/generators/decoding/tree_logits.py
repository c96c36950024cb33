"""Guided and filtered logits of tokens of different steps at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from visiontok.generators.decoding.categorical import probabilities
from visiontok.generators.decoding.guidance import guide
from visiontok.generators.decoding.next_token import NextTokenSampler
from visiontok.generators.heads.base import TokenHead
from visiontok.generators.orders import GenerationSteps

if TYPE_CHECKING:
    from visiontok.generators.gpt.model import GPT


class TreeLogits:
    """What a generator of one token per step, and a sampler, make of hidden states.

    Logits are (B, n, V) for the largest codebook; minus infinity is where a smaller one has no code.

    Args:
        model: whose head reads the hidden states.
        sampler: guidance and filters.
        plan: of the samples, on the model's device.
    """

    def __init__(self, model: GPT, sampler: NextTokenSampler, plan: GenerationSteps) -> None:
        assert isinstance(model.head, TokenHead)
        self._head, self._embed, self._sampler = model.head, model.embed_rows, sampler
        keys = torch.stack([plan.first[:, 0], plan.sizes[:, 0], plan.codebooks[:, 0]])
        books, self._book = torch.unique(keys, dim=1, return_inverse=True)
        self._codebooks = [(int(size), int(codebook)) for _, size, codebook in books.T.tolist()]
        steps = list(plan.steps(len(plan.held)))
        self._at_step = [steps[int((self._book == number).nonzero()[0])] for number in range(len(self._codebooks))]
        self._scales = torch.tensor(
            [[sampler.of(codebook).guidance(step, len(steps)) for step in range(len(steps))] for _, codebook in self._codebooks],
            dtype=torch.float32,
            device=keys.device,
        )
        self.sizes = plan.sizes[:, 0]
        self.vocab_size = int(self.sizes.max())

    @torch.no_grad()
    def guided(self, hidden: Tensor, steps: Tensor) -> Tensor:
        """Logits (B, n, V) of the tokens of steps (B, n), from hidden states (B', n, D)."""
        found = torch.full((steps.numel(), self.vocab_size), -torch.inf, dtype=torch.float32, device=hidden.device)
        steps = steps.flatten()
        flat = hidden.unflatten(0, (-1, len(found) // hidden.shape[1])).flatten(1, 2)
        for number in range(len(self._codebooks)):
            rows = (self._book[steps] == number).nonzero().flatten()
            if not len(rows):
                continue
            scales = self._scales[number, steps[rows], None]

            def choose(logits: Tensor, unconditional: Tensor | None, _codebook: int, rows: Tensor = rows, scales: Tensor = scales) -> Tensor:
                if unconditional is not None:
                    logits = torch.where(scales == 1, logits, guide(logits, unconditional, scales))
                found[rows, : logits.shape[-1]] = logits
                return torch.zeros_like(rows)

            without = flat[1, rows] if len(flat) > 1 else None
            self._head.sample(flat[0, rows], without, self._at_step[number], self._embed, choose)
        return found.unflatten(0, (-1, hidden.shape[1]))

    def filtered(self, guided: Tensor, steps: Tensor) -> Tensor:
        """Guided logits (B, n, V) of steps (B, n) through the filters of their codebooks.

        Raises:
            NonFiniteError: naming the first step with NaN or plus infinity, or with nothing but minus infinity.
        """
        found = torch.full_like(guided, -torch.inf)
        for number, (size, codebook) in enumerate(self._codebooks):
            where = self._book[steps] == number
            logits = guided[where][:, :size]
            for filter_logits in self._sampler.of(codebook).filters:
                logits = filter_logits(logits)
            found[where] = F.pad(logits, (0, self.vocab_size - size), value=-torch.inf)
        self.check(found, steps)
        return found

    def check(self, logits: Tensor, steps: Tensor) -> None:
        """Look at logits (B, n, V) of steps (B, n).

        Raises:
            NonFiniteError: see `filtered`.
        """
        wrong = ~logits.float().logsumexp(dim=-1).isfinite()
        if bool(wrong.any()):
            first = steps[wrong].min()
            probabilities(logits[wrong & (steps == first)], step=int(first))
