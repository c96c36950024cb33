"""SEANet's decoder of sound, the mirror of its encoder."""

from __future__ import annotations

from torch import nn

from visiontok.layers.seanet import ACTIVATIONS, PaddedConv1d, ResidualLstm, SeanetBlock, SeanetConfig, TrimmedConvTranspose1d


class SeanetDecoder(nn.Sequential):
    """Latents (B, D, frames) -> sound (B, 1, frames * hop), not clamped. Its recurrent network runs in one direction, whatever the encoder's does."""

    def __init__(self, config: SeanetConfig) -> None:
        act = ACTIVATIONS[config.activation]
        channels = config.channels * 2 ** len(config.strides)
        stages: list[nn.Module] = [PaddedConv1d(config.dim, channels, 7), ResidualLstm(channels, config.lstm_depth)]
        for stride in reversed(config.strides):
            half = channels // 2
            stages += [act(channels), TrimmedConvTranspose1d(channels, half, 2 * stride, stride=stride)]
            stages += [
                SeanetBlock(half, kernel=config.residual_kernel, dilation=dilation, activation=config.activation) for dilation in config.dilations
            ]
            channels = half
        super().__init__(*stages, act(channels), PaddedConv1d(channels, 1, 7))
