"""Cosmos' tokenizers of clips (NVIDIA 2025, arXiv 2501.03575): causal networks on wavelets, with finite scalar codes (DV) or without (CV)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.layers.carry import Carry
from visiontok.layers.causal_conv3d import CausalConv3d
from visiontok.tokenizers.shared.causal_clips import CausalClips, clip_layout, clip_preprocessing
from visiontok.tokenizers.shared.cosmos import BottleneckConfig, Patches, layout_kind
from visiontok.tokenizers.video.cosmos.networks import CosmosDecoder, CosmosEncoder, CosmosNetConfig
from visiontok.tokenizers.video.cosmos.reference import KEY_MAP, SOURCE, convert_weights, is_unused, read_config


class CosmosConfig(Config):
    """Sizes.

    Attributes:
        image_size: side of the square that frames of files are resized and cropped to; None keeps their size. Tensors keep theirs.
        num_frames: of a clip for probing; any number is taken.
        patches: of frames and pixels, which become channels; the first frame is repeated to a patch.
        encoder, decoder: the two networks, which change frames and sides by the same factors.
        quantizer: codes (DV), latents as they are (CV), or a Gaussian posterior.
    """

    image_size: Positive | None = None
    num_frames: Positive = 17
    patches: Patches = Patches()
    encoder: CosmosNetConfig
    decoder: CosmosNetConfig
    quantizer: BottleneckConfig

    @model_validator(mode="after")
    def _check(self) -> CosmosConfig:
        if self.encoder.factors != self.decoder.factors:
            raise ValueError(f"the encoder divides frames and sides by {self.encoder.factors}, the decoder multiplies them by {self.decoder.factors}")
        time, side, _ = self.stride
        if (self.num_frames - 1) % time or (self.image_size or 0) % side:
            raise ValueError(
                f"num_frames {self.num_frames} must be 1 + a multiple of {time}, and image_size {self.image_size} a multiple of {side} or null"
            )
        return self

    @property
    def stride(self) -> tuple[int, int, int]:
        """Frames, rows and columns of pixels per position."""
        time, side = (self.patches.size * factor for factor in self.encoder.factors)
        return time, side, side


class Cosmos(CausalClips[CosmosConfig]):
    """Encoder, 1x1x1 convolution, bottleneck, 1x1x1 convolution, decoder. Clips are (B, 3, T, H, W) in [0, 1]; an image is a clip of one frame."""

    config_class = CosmosConfig
    reference_keys: ClassVar = KEY_MAP

    def __init__(self, config: CosmosConfig) -> None:
        super().__init__(config)
        self.encoder = CosmosEncoder(config.encoder, config.patches)
        self.quantizer = config.quantizer.build()
        dim = config.quantizer.dim
        self.quant_conv = CausalConv3d(config.encoder.latent_channels, self.quantizer.input_dim or dim, 1)
        self.post_quant_conv = CausalConv3d(dim, config.decoder.latent_channels, 1)
        self.decoder = CosmosDecoder(config.decoder, config.patches)
        self.preprocessing = clip_preprocessing(config.stride, num_frames=config.num_frames, image_size=config.image_size)
        self.layout = clip_layout(config.stride, self.preprocessing, **layout_kind(config.quantizer))

    def encode_causal(self, signal: Tensor, carry: Carry) -> Tensor:
        """See `CausalClips`."""
        return self.quant_conv(self.encoder(signal * 2 - 1, carry)).movedim(1, -1)

    def decode_causal(self, latents: Tensor, carry: Carry) -> Tensor:
        """See `CausalClips`."""
        return (self.decoder(self.post_quant_conv(latents.movedim(-1, 1)), carry) + 1) / 2

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> CosmosConfig:
        """From the arguments of the authors' network; the levels of a CV4x8x8 from its weights."""
        return CosmosConfig.parse(read_config(config, state_dict), source=SOURCE)

    @classmethod
    def weights_for(cls, config: Config, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Model`; without the convolutions of the authors' resampling that are never run."""
        assert isinstance(config, CosmosConfig)
        between = {"encoder": config.encoder.resampling, "decoder": config.decoder.resampling}
        return {name: tensor for name, tensor in cls.weights_from_reference(state_dict).items() if not is_unused(name, **between)}

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names."""
        return convert_weights(state_dict)
