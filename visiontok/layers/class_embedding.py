"""The class of a sample as a vector, with a row for "no class"."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ClassEmbedding(nn.Module):
    """A table of `num_classes` + 1 rows; the last one, the null class, stands for no condition.

    Args:
        num_classes: classes n; 0 leaves only the null class.
        dim: width D.
        dropout: probability of replacing a class by the null class in training, for classifier-free guidance.
    """

    def __init__(self, num_classes: int, dim: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.null_class = num_classes
        self.dropout = dropout
        self.embedding_table = nn.Embedding(num_classes + 1, dim)

    def forward(self, classes: Tensor, uniform: Tensor | None = None) -> Tensor:
        """(B,) int64 -> (B, D).

        Args:
            classes: in range(num_classes + 1).
            uniform: (B,) draws from U[0, 1); classes whose draw lies below `dropout` are replaced. None replaces nothing.
        """
        if uniform is not None:
            classes = torch.where(uniform.to(classes.device) < self.dropout, self.null_class, classes)
        return self.embedding_table(classes)
