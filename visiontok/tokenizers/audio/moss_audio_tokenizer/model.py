"""MOSS-Audio-Tokenizer (OpenMOSS 2026, arXiv 2602.10934): causal transformers only, and 32 levels of factorized codes at 12.5 frames per second."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Config, Positive
from visiontok.core.chunks import Chunking
from visiontok.core.weight_norm import folded
from visiontok.layers.carry import Carry, CarryingSequence
from visiontok.quantizers import FactorizedResidualQuantizerConfig, ResidualQuantizerConfig
from visiontok.signals import AudioPreprocessing
from visiontok.tokenizers.audio.moss_audio_tokenizer.reference import KEY_MAP, fields_of
from visiontok.tokenizers.audio.moss_audio_tokenizer.stages import PatchConfig, Patches, StageConfig, TransformerConfig, Unpatches, transformer
from visiontok.tokenizers.shared.codec import Codec, codec_layout

LevelsConfig = Annotated[FactorizedResidualQuantizerConfig | ResidualQuantizerConfig, Field(discriminator="type")]


def _sides(dims: Sequence[int]) -> tuple[StageConfig, ...]:
    """Transformers between patches of the released model; dims are those of the channels in and out of each."""
    stages: list[StageConfig] = []
    for number, (in_dim, out_dim) in enumerate(zip(dims[::2], dims[1::2], strict=True)):
        large = 1280 in (in_dim, out_dim)
        size = {"dim": 1280, "depth": 32, "num_heads": 20, "mlp_dim": 5120} if large else {"dim": 768, "depth": 12, "num_heads": 12, "mlp_dim": 3072}
        stages += [*([PatchConfig(size=2)] if number else []), TransformerConfig(in_dim=in_dim, out_dim=out_dim, **size)]
    return tuple(stages)


class MossAudioTokenizerConfig(Config):
    """Sizes; the defaults are those of the released model.

    Attributes:
        sample_rate: in Hz.
        context_seconds: what every transformer sees of the past.
        encoder, decoder: stages in the order in which they are applied, with the same product of patches.
        latent_dim: channels between encoder and decoder.
        quantizer: of latents of its own `dim`, to and from which linear layers lead.
    """

    sample_rate: Positive = 24000
    context_seconds: float = Field(default=10.0, gt=0)
    encoder: tuple[StageConfig, ...] = (PatchConfig(size=240), *_sides((240, 384, 768, 384, 768, 640, 1280, 768)))
    decoder: tuple[StageConfig, ...] = (*_sides((768, 1280, 640, 768, 384, 768, 384, 240)), PatchConfig(size=240))
    latent_dim: Positive = 768
    quantizer: LevelsConfig = FactorizedResidualQuantizerConfig(codebook_sizes=(1024,) * 32, dim=512)

    @model_validator(mode="after")
    def _check(self) -> MossAudioTokenizerConfig:
        if self.hop != _patches(self.decoder):
            raise ValueError(f"the patches of the encoder make {self.hop} samples one frame, those of the decoder {_patches(self.decoder)}")
        ends = (_channels(self.encoder, 1, grows=True), _channels(self.decoder, self.latent_dim, grows=False))
        if ends != (self.latent_dim, 1):
            raise ValueError(f"the encoder ends with {ends[0]} channels, the decoder with {ends[1]}; expected {self.latent_dim} and 1")
        return self

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return _patches(self.encoder)


class MossAudioTokenizer(Codec[MossAudioTokenizerConfig]):
    """Mono; any prefix of the levels decodes. Sound is padded with silence to whole frames, of which all are kept: the published encoder marks
    as valid only the frames that the sound fills, and gives the last, unfilled one codes of nothing. Nothing reads what follows a frame."""

    config_class = MossAudioTokenizerConfig
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: MossAudioTokenizerConfig) -> None:
        super().__init__(config)
        levels = config.quantizer
        self.encoder = CarryingSequence(*_stages(config.encoder, config, encodes=True))
        self.project_in = nn.Identity() if config.latent_dim == levels.dim else nn.Linear(config.latent_dim, levels.dim)
        self.quantizer = levels.build()
        self.project_out = nn.Identity() if config.latent_dim == levels.dim else nn.Linear(levels.dim, config.latent_dim)
        self.decoder = CarryingSequence(*_stages(config.decoder, config, encodes=False))
        self.preprocessing = AudioPreprocessing(sample_rate=config.sample_rate, multiple_of=config.hop)
        sizes = levels.codebook_sizes
        self.layout = codec_layout(sample_rate=config.sample_rate, hop=config.hop, vocab_size=sizes, num_levels=len(sizes))

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Config:
        """From the authors' `config.json`."""
        return cls.config_class.parse(fields_of(config), source="the configuration of MOSS-Audio-Tokenizer")

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names: weight normalization is folded, and pointwise convolutions become matrices."""
        weights = super().weights_from_reference(folded(state_dict))
        pointwise = {name for name in weights if ".project_" in f".{name}" and name.endswith(".weight")}
        scales = {name for name in weights if ".norm" in name}
        return {name: tensor.flatten(1) if name in pointwise else tensor.flatten() if name in scales else tensor for name, tensor in weights.items()}

    @property
    def chunking(self) -> Chunking:
        """See `Chunked`; keys and values of the windows are carried."""
        return Chunking(unit=self.hop, is_carried=True, is_exact=True)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 1, T), T a multiple of the hop -> (B, T / hop, D)."""
        return self._encoded(signal, None)

    def encode_next(self, signal: Tensor, carry: Carry) -> Tensor:
        return self._encoded(self.preprocessing.pad(signal), carry)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, frames, D) -> (B, 1, frames * hop)."""
        return self._decoded(latents, None)

    def decode_next(self, latents: Tensor, carry: Carry) -> Tensor:
        return self._decoded(latents, carry)

    def _encoded(self, signal: Tensor, carry: Carry | None) -> Tensor:
        latents: Tensor = self.project_in(self.encoder(signal.transpose(1, 2), carry))
        return latents

    def _decoded(self, latents: Tensor, carry: Carry | None) -> Tensor:
        sound: Tensor = self.decoder(self.project_out(latents), carry)
        return sound.transpose(1, 2)


def _stages(stages: Sequence[StageConfig], config: MossAudioTokenizerConfig, *, encodes: bool) -> list[nn.Module]:
    """Modules (B, L, C) -> (B, L', C'). How many frames a transformer sees follows from the rate at which it stands."""
    rate, modules = float(config.sample_rate if encodes else config.sample_rate / config.hop), list[nn.Module]()
    for stage in stages:
        if isinstance(stage, TransformerConfig):
            modules.append(transformer(stage, window=max(1, int(rate * config.context_seconds))))
        elif encodes:
            modules.append(Patches(stage.size))
            rate /= stage.size
        else:
            modules.append(Unpatches(stage.size))
            rate *= stage.size
    return modules


def _patches(stages: Sequence[StageConfig]) -> int:
    return math.prod(stage.size for stage in stages if isinstance(stage, PatchConfig))


def _channels(stages: Sequence[StageConfig], channels: int, *, grows: bool) -> int:
    """Channels behind the stages.

    Raises:
        ValueError: if a transformer reads another number than the stage before it gives, or patches do not divide it.
    """
    for stage in stages:
        if isinstance(stage, PatchConfig):
            if not grows and channels % stage.size:
                raise ValueError(f"{channels} channels cannot be divided among the {stage.size} frames of a patch")
            channels = channels * stage.size if grows else channels // stage.size
        elif stage.in_dim != channels:
            raise ValueError(f"a transformer with in_dim {stage.in_dim} gets {channels} channels")
        else:
            channels = stage.out_dim
    return channels
