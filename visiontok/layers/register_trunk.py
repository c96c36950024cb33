"""Sizes of the transformers that read patches and registers in one sequence (FlexTok)."""

from __future__ import annotations

from pydantic import Field, model_validator
from torch import nn

from visiontok.base.config import Config
from visiontok.layers.modulated import ModulatedBlock


class RegisterTrunkConfig(Config):
    """Sizes of one trunk.

    Attributes:
        width: model width D.
        depth: number of blocks.
        head_dim: width of an attention head; must divide the width.
    """

    width: int = Field(gt=0, multiple_of=4)
    depth: int = Field(gt=0)
    head_dim: int = Field(default=64, gt=0)

    @model_validator(mode="after")
    def _check(self) -> RegisterTrunkConfig:
        if self.width % self.head_dim:
            raise ValueError(f"heads of {self.head_dim} do not divide a width of {self.width}")
        return self

    def blocks(self, *, kinds: int = 0) -> nn.ModuleList:
        """The blocks; `kinds` of tokens are modulated apart, 0 for none.

        The attention's scale is 8 / head_dim, after muP: the usual one for heads of 64.
        """
        heads, hidden_dim = self.width // self.head_dim, 8 * self.width // 3
        return nn.ModuleList(
            ModulatedBlock(self.width, heads, hidden_dim=hidden_dim, attention_scale=8 / self.head_dim, kinds=kinds) for _ in range(self.depth)
        )


def init_register_weights(module: nn.Module) -> None:
    """Xavier for every matrix of a trunk and zero biases, for `Module.apply` before anything is set to zero."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
