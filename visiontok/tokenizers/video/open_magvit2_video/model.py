"""Open-MAGVIT2's tokenizer of clips (Luo et al. 2024, arXiv 2409.04410): that of images with causal kernels along time, 18 signs per position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator
from torch import Tensor
from typing_extensions import Self

from visiontok.base.config import Config, Positive
from visiontok.quantizers.binary import BinaryQuantizer, BinaryQuantizerConfig
from visiontok.tokenizers.shared.causal_clips import clip_layout, clip_preprocessing
from visiontok.tokenizers.shared.moving_average import averaged_weights, last_weights
from visiontok.tokenizers.shared.taming_objective import model_arguments
from visiontok.tokenizers.shared.windowed_clips import WindowedClips
from visiontok.tokenizers.video.open_magvit2_video.networks import ClipDecoder, ClipEncoder, OpenMagvit2ClipNetConfig
from visiontok.tokenizers.video.open_magvit2_video.reference import KEY_MAP, SOURCE, read_config


class OpenMagvit2VideoConfig(Config):
    """Sizes of the model.

    Attributes:
        image_size: side of the square that frames of files are resized and cropped to; tensors keep their size.
        num_frames: of a clip for probing; any number is taken.
        net: encoder and decoder.
        quantizer: lookup-free; as many bits as the net has latent channels. With `chunks`, a position has several token indices.
    """

    image_size: Positive = 128
    num_frames: Positive = 17
    net: OpenMagvit2ClipNetConfig = OpenMagvit2ClipNetConfig()
    quantizer: BinaryQuantizerConfig = BinaryQuantizerConfig(dim=18)

    @model_validator(mode="after")
    def _check(self) -> OpenMagvit2VideoConfig:
        if self.quantizer.dim != self.net.latent_channels:
            raise ValueError(f"a quantizer of {self.quantizer.dim} channels cannot read {self.net.latent_channels} latent_channels: make them equal")
        time, side, _ = self.net.stride
        if (self.num_frames - 1) % time or self.image_size % side:
            raise ValueError(f"num_frames {self.num_frames} must be 1 + a multiple of {time}, and image_size {self.image_size} a multiple of {side}")
        return self


class OpenMagvit2Video(WindowedClips[OpenMagvit2VideoConfig]):
    """Causal convolutional encoder, lookup-free quantization, causal convolutional decoder modulated by the code.

    Clips are (B, 3, T, H, W) in [0, 1]; an image is a clip of one frame. Norms look at all frames of a clip, so that its first frames are
    not encoded alike whatever follows: longer clips than those of training are taken as several.
    """

    config_class = OpenMagvit2VideoConfig
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: OpenMagvit2VideoConfig) -> None:
        super().__init__(config)
        self.encoder = ClipEncoder(config.net)
        self.quantizer: BinaryQuantizer = config.quantizer.build()
        self.decoder = ClipDecoder(config.net)
        self.preprocessing = clip_preprocessing(config.net.stride, num_frames=config.num_frames, image_size=config.image_size)
        self.layout = clip_layout(config.net.stride, self.preprocessing, vocab_size=config.quantizer.vocab_size)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, T, H, W) in [0, 1] -> (B, t, h, w, D)."""
        return self.encoder(signal * 2 - 1).movedim(1, -1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, t, h, w, D) -> (B, 3, T, H, W).

        Raises:
            SignalError: for a single position, which has no variance for the decoder's norms to read.
        """
        return (self.decoder(latents.movedim(-1, 1)) + 1) / 2

    @classmethod
    def from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Self:
        """Like `Model.from_reference`, with the moving averages of the weights unless the configuration says `use_ema: false`."""
        weights = averaged_weights(state_dict) if model_arguments(config, source=SOURCE).get("use_ema", True) else last_weights(state_dict)
        return super().from_reference(config, weights)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> OpenMagvit2VideoConfig:
        """From the arguments of the authors' `VQModel`, as for images."""
        return OpenMagvit2VideoConfig.parse(read_config(config), source=SOURCE)
