"""SEANet's encoder of sound, as in EnCodec, but not causal: strided convolutions and a recurrent network at the lowest rate."""

from __future__ import annotations

from torch import nn

from visiontok.layers.seanet import ACTIVATIONS, PaddedConv1d, ResidualLstm, SeanetBlock, SeanetConfig


class SeanetEncoder(nn.Sequential):
    """Sound (B, 1, T) -> (B, D, ceil(T / hop))."""

    def __init__(self, config: SeanetConfig) -> None:
        act, channels = ACTIVATIONS[config.activation], config.channels
        stages: list[nn.Module] = [PaddedConv1d(1, channels, 7)]
        for stride in config.strides:
            stages += [
                SeanetBlock(channels, kernel=config.residual_kernel, dilation=dilation, activation=config.activation) for dilation in config.dilations
            ]
            stages += [act(channels), PaddedConv1d(channels, 2 * channels, 2 * stride, stride=stride)]
            channels *= 2
        stages.append(ResidualLstm(channels, config.lstm_depth, bidirectional=config.bidirectional))
        if config.bidirectional:
            channels *= 2
        super().__init__(*stages, act(channels), PaddedConv1d(channels, config.dim, 7))
