"""No quantization at all, for tokenizers whose latents stay continuous and have no posterior either."""

from __future__ import annotations

from typing import Literal, NoReturn

from pydantic import Field
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.errors import TokenError
from visiontok.quantizers.base import Quantized, Quantizer


class ContinuousConfig(Config):
    """Latents as they are.

    Attributes:
        dim: width D of a latent.
    """

    type: Literal["continuous"] = "continuous"
    dim: int = Field(gt=0)

    def build(self) -> Continuous:
        """The bottleneck; it has no weights."""
        return Continuous()


class Continuous(Quantizer):
    """Passes latents through, without ids and without losses."""

    def forward(self, latents: Tensor) -> Quantized:
        return Quantized(latents, None)

    def lookup(self, indices: Tensor) -> NoReturn:
        """Continuous latents have no ids."""
        raise TokenError("this tokenizer is continuous: decode Latents, there are no ids to look up")
