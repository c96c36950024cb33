"""A tokenizer of ordered tokens that draws: whatever it decodes lies on noise."""

import torch
from ordered_waves import OrderedWaves
from torch import Tensor

from visiontok.base.noise import as_noise


class NoisyWaves(OrderedWaves):
    @property
    def is_stochastic(self) -> bool:
        return True

    def decode_tokens(self, tokens, options) -> Tensor:
        shape = (len(tokens), 3, self.config.size, self.config.size)
        noise = torch.full(shape, 0.5) if options.noise is None else as_noise(options.noise, torch.device("cpu")).uniform(*shape)
        return (super().decode_tokens(tokens, options).clamp(0, 1) * 0.8 + noise * 0.2).clamp(0, 1)
