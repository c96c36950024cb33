"""Sizes and weights of the transformers that read patches and registers in one sequence."""

from __future__ import annotations

from pydantic import Field, model_validator
from torch import nn

from visiontok.base.config import Config, Positive
from visiontok.layers.modulated import ModulatedBlock


class RegisterTrunkConfig(Config):
    """Sizes of one trunk.

    Attributes:
        dim: model dimension D.
        depth: number of blocks.
        num_heads: attention heads; must divide `dim`.
    """

    dim: int = Field(gt=0, multiple_of=4)
    depth: Positive
    num_heads: Positive

    @model_validator(mode="after")
    def _check(self) -> RegisterTrunkConfig:
        if self.dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide dim {self.dim}")
        return self

    def blocks(self, *, kinds: int = 0) -> nn.ModuleList:
        """The blocks; `kinds` of tokens are modulated apart, 0 for none.

        The attention's scale is 8 / head_dim, after muP: the usual one for heads of 64 channels.
        """
        hidden_dim, scale = 8 * self.dim // 3, 8 * self.num_heads / self.dim
        return nn.ModuleList(
            ModulatedBlock(self.dim, self.num_heads, hidden_dim=hidden_dim, attention_scale=scale, kinds=kinds) for _ in range(self.depth)
        )


def init_register_weights(module: nn.Module) -> None:
    """Xavier for every matrix of a trunk and zero biases, for `Module.apply` before anything is set to zero."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
