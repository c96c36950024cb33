"""A tokenizer of ordered tokens that draws: whatever it decodes lies on noise."""

import torch
from ordered_waves import OrderedWaves
from torch import Tensor


class NoisyWaves(OrderedWaves):
    starts_from_noise = True

    @torch.no_grad()
    def decode(self, tokens, *, generator: torch.Generator | None = None) -> Tensor:
        shape = (len(tokens), 3, self.config.size, self.config.size)
        noise = torch.full(shape, 0.5) if generator is None else torch.rand(shape, generator=generator)
        return (super().decode(tokens) * 0.8 + noise * 0.2).clamp(0, 1)
