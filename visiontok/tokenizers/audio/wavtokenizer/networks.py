"""WavTokenizer's decoder: convolutions and attention over the whole sound, then those of Vocos."""

from __future__ import annotations

from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.decoders.vocos import SpectrumHead, VocosBackbone
from visiontok.layers.activations import silu
from visiontok.layers.conv import AttentionBlock, group_norm

NORM_GROUPS = 32
"""Of every group norm."""


class DecoderConfig(Config):
    """Sizes of the decoder.

    Attributes:
        dim: channels at the frame rate, a multiple of 32.
        mlp_dim: between the linear layers of a ConvNeXt block.
        depth: ConvNeXt blocks.
        n_fft: samples of a frame's window, four hops in all releases.
        dropout: within the residual blocks, in training.
    """

    dim: int = 768
    mlp_dim: Positive = 2304
    depth: Positive = 12
    n_fft: Positive = 1280
    dropout: float = 0.1


class ResidualBlock(nn.Module):
    """Norm, swish and convolution, twice, added to the input; (B, C, T) -> (B, C, T)."""

    def __init__(self, dim: int, *, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = group_norm(dim, NORM_GROUPS), group_norm(dim, NORM_GROUPS)
        self.conv1, self.conv2 = nn.Conv1d(dim, dim, 3, padding=1), nn.Conv1d(dim, dim, 3, padding=1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        hidden = self.conv1(silu(self.norm1(x)))
        result: Tensor = x + self.conv2(self.dropout(silu(self.norm2(hidden))))
        return result


class FrameAttention(AttentionBlock):
    """One head of attention over all frames, added to the input."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        return super().forward(x[:, :, None])[:, :, 0]


class WavTokenizerDecoder(nn.Module):
    """Codes (B, D, T) -> sound (B, 1, T * hop), not clamped.

    Args:
        code_dim: D.
        config: sizes.
        hop: samples per frame.
    """

    def __init__(self, code_dim: int, config: DecoderConfig, *, hop: int) -> None:
        super().__init__()
        dim, dropout = config.dim, config.dropout
        self.embed = nn.Conv1d(code_dim, dim, 7, padding=3)
        self.context = nn.Sequential(
            ResidualBlock(dim, dropout=dropout),
            ResidualBlock(dim, dropout=dropout),
            FrameAttention(dim, norm_groups=NORM_GROUPS),
            ResidualBlock(dim, dropout=dropout),
            ResidualBlock(dim, dropout=dropout),
            group_norm(dim, NORM_GROUPS),
        )
        self.backbone = VocosBackbone(dim, config.mlp_dim, config.depth)
        self.head = SpectrumHead(dim, n_fft=config.n_fft, hop=hop)

    def forward(self, codes: Tensor) -> Tensor:
        sound: Tensor = self.head(self.backbone(self.context(self.embed(codes))))
        return sound
