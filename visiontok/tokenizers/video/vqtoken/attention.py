"""VQ-attention: a transformer mixes a clip's codebook with the map of its labels, from which a language model then reads where things are."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from visiontok.base.config import Config, Positive


class VqAttentionConfig(Config):
    """Sizes of either form.

    Attributes:
        num_heads: attention heads; must divide the model dimension.
        depth: layers; the paper's form has one.
        mlp_dim: hidden width of the feed-forward layers, of the paper's form that of the MLP over labels.
        dropout: in training; the paper's form has none.
    """

    num_heads: Positive = 8
    depth: Positive = 1
    mlp_dim: Positive = 2048
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1


class PublishedVqAttention(nn.Module):
    """That of the authors' code: frames are queries, made from their raw labels, and attend to each other and to the codebook.

    The shorter one of frames and codes is repeated to the length of the longer one, so that the result is as long as that.

    Args:
        config: of the layers.
        dim: model dimension D.
        num_positions: labels of a frame, N.
        num_frames, most_codes: of the largest clip; any are taken here.
    """

    def __init__(self, config: VqAttentionConfig, *, dim: int, num_positions: int, num_frames: int, most_codes: int) -> None:
        super().__init__()
        self.query = nn.Linear(num_positions, dim)
        layer = nn.TransformerDecoderLayer(dim, config.num_heads, config.mlp_dim, config.dropout)
        self.decoder = nn.TransformerDecoder(layer, config.depth)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:  # gains of the norms, as published
                nn.init.uniform_(parameter, -0.01, 0.01)

    @staticmethod
    def length(frames: Tensor, codes: Tensor) -> Tensor:
        """(B,) int64: rows of the result for clips of so many frames (B,) and codes (B,)."""
        return torch.maximum(frames, codes)

    def forward(self, labels: Tensor, codebook: Tensor) -> Tensor:
        """Labels (T, N) int64 and codebook (K, D) -> (max(T, K), D)."""
        length = max(len(labels), len(codebook))
        queries, memory = (_repeated(rows, length) for rows in (self.query(labels.to(codebook.dtype)), codebook))
        mixed: Tensor = self.decoder(queries[:, None], memory[:, None])
        return mixed[:, 0]


class PaperVqAttention(nn.Module):
    """That of the paper: codes are queries and keys, and an MLP of the whole map of labels gives the values.

    The paper does not say what the MLP is. Here it has one hidden layer with GELU and gives a row for each of the most codes, of which the first K
    are read; labels count from 1, as in the paper.

    Args:
        config: of the layers.
        dim: model dimension D.
        num_positions: labels of a frame, N.
        num_frames: T of every clip.
        most_codes: K at most.
    """

    def __init__(self, config: VqAttentionConfig, *, dim: int, num_positions: int, num_frames: int, most_codes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(num_frames * num_positions, config.mlp_dim), nn.GELU(), nn.Linear(config.mlp_dim, most_codes * dim), nn.Unflatten(0, (-1, dim))
        )
        self.attention = nn.MultiheadAttention(dim, config.num_heads, batch_first=True)

    @staticmethod
    def length(frames: Tensor, codes: Tensor) -> Tensor:
        """(B,) int64: rows of the result for clips of so many frames (B,) and codes (B,)."""
        return codes

    def forward(self, labels: Tensor, codebook: Tensor) -> Tensor:
        """Labels (T, N) int64 and codebook (K, D) -> (K, D)."""
        values = self.mlp((labels + 1).to(codebook.dtype).flatten())[: len(codebook)]
        mixed, _ = self.attention(codebook[None], codebook[None], values[None], need_weights=False)
        return mixed[0]


def _repeated(rows: Tensor, length: int) -> Tensor:
    """Rows (n, D), over and over -> (length, D)."""
    return rows[torch.arange(length, device=rows.device) % len(rows)]
