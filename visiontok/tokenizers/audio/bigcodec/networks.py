"""BigCodec's encoder and decoder: DAC's convolutions with anti-aliased SnakeBeta, and LSTMs at the lowest rate."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.layers.residual import Residual
from visiontok.layers.snake import AntiAliased, SnakeBeta


class NetConfig(Config):
    """One side.

    Attributes:
        width: channels where they are fewest, next to the sound.
        strides: of the stages, in the order in which the side applies them; each stage of the encoder doubles the channels.
        dilations: of the residual units of a stage.
        lstm_depth: layers of the LSTM at the lowest rate; 0 for none.
        bidirectional: whether it also reads backwards.
    """

    width: Positive = 48
    strides: tuple[Positive, ...] = Field(default=(2, 2, 2, 5, 5), min_length=1)
    dilations: tuple[Positive, ...] = Field(default=(1, 3, 9), min_length=1)
    lstm_depth: int = Field(default=2, ge=0)
    bidirectional: bool = False

    @property
    def widest(self) -> int:
        """Channels at the lowest rate."""
        return int(self.width * 2 ** len(self.strides))


def encoder(config: NetConfig, latent_dim: int) -> nn.Sequential:
    """Sound (B, 1, T), T a multiple of the hop -> (B, latent_dim, T / hop)."""
    layers: list[nn.Module] = [nn.Conv1d(1, config.width, 7, padding=3)]
    for stage, stride in enumerate(config.strides):
        channels = config.width * 2**stage
        conv = nn.Conv1d(channels, 2 * channels, 2 * stride, stride=stride, padding=(stride + 1) // 2)
        layers.append(nn.Sequential(*_units(channels, config.dilations), _activation(channels), conv))
    layers += [*_lstm(config), _activation(config.widest), nn.Conv1d(config.widest, latent_dim, 3, padding=1)]
    return nn.Sequential(*layers)


def decoder(config: NetConfig, latent_dim: int) -> nn.Sequential:
    """(B, latent_dim, frames) -> sound (B, 1, frames * hop)."""
    layers: list[nn.Module] = [nn.Conv1d(latent_dim, config.widest, 7, padding=3), *_lstm(config)]
    for stage, stride in enumerate(config.strides):
        channels = config.widest // 2**stage
        conv = nn.ConvTranspose1d(channels, channels // 2, 2 * stride, stride=stride, padding=(stride + 1) // 2, output_padding=stride % 2)
        layers.append(nn.Sequential(_activation(channels), conv, *_units(channels // 2, config.dilations)))
    layers += [_activation(config.width), nn.Conv1d(config.width, 1, 7, padding=3), nn.Tanh()]
    return nn.Sequential(*layers)


class ResidualLstm(nn.Module):
    """An LSTM over time, from a state of zeros, added to its input."""

    def __init__(self, channels: int, *, depth: int, bidirectional: bool) -> None:
        super().__init__()
        hidden = channels // 2 if bidirectional else channels
        self.lstm = nn.LSTM(channels, hidden, depth, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        read: Tensor = self.lstm(x.transpose(1, 2))[0]
        return x + read.transpose(1, 2)


def _units(channels: int, dilations: Sequence[int]) -> list[Residual]:
    """For each dilation, a convolution of 7 and one of 1, each after an activation, added to the input."""
    return [
        Residual(
            _activation(channels),
            nn.Conv1d(channels, channels, 7, dilation=dilation, padding=3 * dilation),
            _activation(channels),
            nn.Conv1d(channels, channels, 1),
        )
        for dilation in dilations
    ]


def _activation(channels: int) -> AntiAliased:
    return AntiAliased(SnakeBeta(channels))


def _lstm(config: NetConfig) -> list[ResidualLstm]:
    return [ResidualLstm(config.widest, depth=config.lstm_depth, bidirectional=config.bidirectional)] if config.lstm_depth else []
