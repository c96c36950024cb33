"""What codecs with EnCodec's encoder and codebooks share that are implemented here: WavTokenizer, SpeechTokenizer and the
convolutional codec."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from visiontok.core.model import ConfigT
from visiontok.core.weight_norm import folded
from visiontok.encoders.seanet import SeanetEncoder
from visiontok.tokenizers.shared.codec import Codec

_NETWORK = {
    "{}.block.{}.conv.conv.{*}": "{}.block.{}.{*}",
    "{}.block.{}.alpha": "{}.block.{}.alpha",
    "{}.shortcut.conv.conv.{*}": "{}.shortcut.{*}",
    "{}.conv.conv.{*}": "{}.{*}",
    "{}.convtr.convtr.{*}": "{}.{*}",
    "{}.lstm.{*}": "{}.lstm.{*}",
    "{}.alpha": "{}.alpha",
}
_CODEBOOK = {"embed": "codebook", "cluster_size": "ema.counts", "embed_avg": "ema.sums", "inited": "ema.started"}


def network_names(theirs: str, ours: str) -> dict[str, str | None]:
    """Patterns of a `KeyMap` for an encoder or a decoder whose layers are numbered in turn."""
    return {f"{theirs}.{old}": f"{ours}.{new}" for old, new in _NETWORK.items()}


def codebook_names(theirs: str, ours: str) -> dict[str, str | None]:
    """Patterns of a `KeyMap` for a codebook and its moving averages."""
    return {f"{theirs}.{old}": f"{ours}.{new}" for old, new in _CODEBOOK.items()}


class SeanetCodec(Codec[ConfigT]):
    """Base of the three."""

    encoder: SeanetEncoder
    decoder: nn.Module

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """With weight normalization folded; whether averages have started is one flag, which the authors keep as a vector of one float."""
        weights = super().weights_from_reference(folded(state_dict))
        return {name: tensor.bool().reshape(()) if name.endswith("ema.started") else tensor for name, tensor in weights.items()}

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 1, T) -> (B, ceil(T / hop), D)."""
        latents: Tensor = self.encoder(signal)
        return latents.transpose(1, 2)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, frames, D) -> (B, 1, frames * hop)."""
        sound: Tensor = self.decoder(latents.transpose(1, 2))
        return sound
