"""The Descript Audio Codec (Kumar et al. 2023, arXiv 2306.06546) with transformers' `DacModel`: fully convolutional, factorized residual codes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from typing_extensions import Self

from visiontok.base.config import Config, Positive
from visiontok.core.chunks import Chunking
from visiontok.layers.receptive_field import reach
from visiontok.signals import AudioPreprocessing
from visiontok.tokenizers.audio.dac.reference import IGNORED, KEY_MAP, is_original, library_fields, library_names
from visiontok.tokenizers.shared.codec import codec_layout, fitted
from visiontok.tokenizers.shared.library_codec import COMMITMENT_WEIGHT, LibraryCodec, LibraryQuantizer
from visiontok.tokenizers.shared.library_model import LibraryConfig


class DacConfig(LibraryConfig):
    """Fields of transformers' `DacConfig`, by its names.

    Attributes:
        hidden_size: of the latents; None for the encoder's own width, as in all releases but the one of 16 kbps.
    """

    encoder_hidden_size: Positive = 64
    downsampling_ratios: tuple[Positive, ...] = (2, 4, 8, 8)
    decoder_hidden_size: Positive = 1536
    n_codebooks: Positive = 9
    codebook_size: Positive = 1024
    codebook_dim: Positive = 8
    hidden_size: Positive | None = None
    sampling_rate: Positive = 44100

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.downsampling_ratios)

    def library_arguments(self) -> dict[str, Any]:
        """See `LibraryConfig`; the library computes what is not given."""
        return {name: value for name, value in super().library_arguments().items() if value is not None}


class Dac(LibraryCodec[DacConfig]):
    """Mono. Sound is padded with silence to whole frames, as the published preprocessing does.

    A stage of an odd stride gives one sample less than it covers, so that models with such strides lose their last samples (8 in the releases of 16
    and 24 kHz, 0.3 to 0.5 ms): `decode` gives silence there.
    """

    config_class = DacConfig
    network_class: ClassVar = "DacModel"
    network_config_class: ClassVar = "DacConfig"
    reference_keys: ClassVar = KEY_MAP
    ignored_settings: ClassVar = IGNORED

    encoder: nn.Module
    decoder: nn.Module
    quantizer: DacQuantizer

    def __init__(self, config: DacConfig) -> None:
        super().__init__(config)
        network = self.new_network(config.library_arguments())
        self.encoder, self.decoder = network.encoder, network.decoder
        self.quantizer = DacQuantizer(network.quantizer)
        self.preprocessing = AudioPreprocessing(sample_rate=config.sampling_rate, multiple_of=config.hop)
        self.layout = codec_layout(sample_rate=config.sampling_rate, hop=config.hop, vocab_size=config.codebook_size, num_levels=config.n_codebooks)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """From transformers' `config.json`, or from the arguments that Descript's files hold."""
        if is_original(config):
            return cls.config_class.parse(library_fields(config), source="Descript's configuration")
        return super().config_from_reference(config, state_dict)

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """From transformers' names or Descript's."""
        return super().weights_from_reference(library_names(state_dict))

    @property
    def chunking(self) -> Chunking:
        """See `Chunked`; convolutions read so far and no further."""
        overlap = max(-(-reach(self.encoder) // self.hop), reach(self.decoder))
        return Chunking(unit=self.hop, overlap=overlap, is_exact=True)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 1, T) -> (B, frames, D)."""
        latents: Tensor = self.encoder(signal)
        return latents.transpose(1, 2)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, frames, D) -> (B, 1, frames * hop)."""
        return fitted(self.decoder(latents.transpose(1, 2)), latents.shape[1] * self.hop)


class DacQuantizer(LibraryQuantizer):
    """Residual levels that search in a few dimensions on the unit sphere, behind a projection in and one out; every level has its gradients."""

    rvq: Any

    def __init__(self, rvq: nn.Module) -> None:
        super().__init__()
        self.rvq = rvq.eval()

    def train(self, mode: bool = True) -> Self:
        """The library's module stays in evaluation mode: in training it would draw levels to drop from torch's global state."""
        super().train(mode)
        self.rvq.eval()
        return self

    def quantize_frames(self, latents: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """See `LibraryQuantizer`; losses are means over the frames, added up over the levels, with the published weights."""
        quantized, codes, _, commitment, codebook = self.rvq(latents)
        return quantized, codes, {"commitment": COMMITMENT_WEIGHT * commitment.mean(), "codebook": codebook.mean()}

    def search_frames(self, latents: Tensor) -> Tensor:
        codes: Tensor = self.quantize_frames(latents)[1]
        return codes

    def lookup_frames(self, codes: Tensor) -> Tensor:
        latents: Tensor = self.rvq.from_codes(codes)[0]
        return latents
