"""The grid tokenizers on which KARL is built: what its encoder reads of an image, what its decoder predicts, and how that becomes pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.base.noise import NoiseLike
from visiontok.decoders.conv import ConvDecoder
from visiontok.encoders.conv import ConvEncoder
from visiontok.layers.conv import ConvNetConfig
from visiontok.quantizers.base import expected_code
from visiontok.quantizers.nearest import nearest_codes
from visiontok.tokenizers.image.kl_vae.model import KlVae, KlVaeConfig


class Base(nn.Module, ABC):
    """A grid of image tokens.

    Attributes:
        prediction_channels: of what a decoder predicts at each position.
    """

    prediction_channels: int

    @abstractmethod
    def features(self, images: Tensor, noise: NoiseLike = None) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> what an encoder reads of them, (B, h, w, channels).

        Args:
            images: the batch.
            noise: of bases that draw; without it they give their mode.
        """

    @abstractmethod
    def target(self, features: Tensor) -> Tensor:
        """What a decoder should predict, without gradient: token indices (B, h, w) or latents (B, h, w, channels)."""

    @abstractmethod
    def losses(self, predicted: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Terms that compare predictions (B, prediction_channels, h, w) with a target."""

    @abstractmethod
    def pixels(self, predicted: Tensor) -> Tensor:
        """Predictions (B, prediction_channels, h, w) -> images (B, 3, H, W), about [0, 1]."""


class VqganBaseConfig(Config):
    """MAGE's VQGAN, which is MaskGIT's: the decoder predicts its codes.

    Attributes:
        net: encoder and decoder.
        codebook_size: K.
    """

    type: Literal["vqgan"] = "vqgan"
    net: ConvNetConfig = ConvNetConfig()
    codebook_size: Positive = 1024

    @property
    def stride(self) -> int:
        return self.net.stride

    @property
    def channels(self) -> int:
        return self.net.latent_channels

    def build(self) -> VqganBase:
        """The base with random weights."""
        return VqganBase(self)


class VqganBase(Base):
    """Features are the latents before quantization; predictions are logits over the codes, decoded as their expectation."""

    def __init__(self, config: VqganBaseConfig) -> None:
        super().__init__()
        self.prediction_channels = config.codebook_size
        self.encoder = ConvEncoder(config.net)
        self.codebook = nn.Parameter(torch.randn(config.codebook_size, config.channels))
        self.decoder = ConvDecoder(config.net)

    def features(self, images: Tensor, noise: NoiseLike = None) -> Tensor:
        latents: Tensor = self.encoder(images)
        return latents.permute(0, 2, 3, 1)

    def target(self, features: Tensor) -> Tensor:
        return nearest_codes(features.flatten(0, 2), self.codebook).view(features.shape[:3])

    def losses(self, predicted: Tensor, target: Tensor) -> dict[str, Tensor]:
        expected = F.embedding(target, self.codebook).permute(0, 3, 1, 2)
        return {"nll": F.cross_entropy(predicted, target), "code": F.mse_loss(self._soft_codes(predicted), expected)}

    def pixels(self, predicted: Tensor) -> Tensor:
        return self.decoder(self._soft_codes(predicted))

    def _soft_codes(self, logits: Tensor) -> Tensor:
        return expected_code(logits.permute(0, 2, 3, 1).softmax(dim=-1), self.codebook).permute(0, 3, 1, 2)


class KlVaeBaseConfig(Config):
    """MAR's KL autoencoder: the decoder predicts its latents.

    Attributes:
        vae: its sizes, and the scale of the latents that the encoder reads.
    """

    type: Literal["kl_vae"] = "kl_vae"
    vae: KlVaeConfig

    @property
    def stride(self) -> int:
        return self.vae.stride

    @property
    def channels(self) -> int:
        return self.vae.bottleneck.dim

    def build(self) -> KlVaeBase:
        """The base with random weights."""
        return KlVaeBase(self)


class KlVaeBase(Base):
    """Features and targets are scaled latents. As in the released weights, pixels are read in [0, 1] and predictions decoded without unscaling."""

    def __init__(self, config: KlVaeBaseConfig) -> None:
        super().__init__()
        self.vae = KlVae(config.vae)
        self.prediction_channels = config.channels

    def features(self, images: Tensor, noise: NoiseLike = None) -> Tensor:
        parameters = self.vae.quant_conv(self.vae.encoder(images)).permute(0, 2, 3, 1)
        return self.vae.quantizer.mode(parameters) if noise is None else self.vae.quantizer(parameters, noise=noise).latents

    def target(self, features: Tensor) -> Tensor:
        return features.detach()

    def losses(self, predicted: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"code": F.mse_loss(predicted, target.permute(0, 3, 1, 2))}

    def pixels(self, predicted: Tensor) -> Tensor:
        images: Tensor = self.vae.decoder(self.vae.post_quant_conv(predicted))
        return images


class PatchBaseConfig(Config):
    """No base tokenizer: the decoder predicts the pixels of each patch. For small experiments.

    Attributes:
        patch_size: side of a patch in pixels.
    """

    type: Literal["patches"] = "patches"
    patch_size: Positive

    @property
    def stride(self) -> int:
        return self.patch_size

    @property
    def channels(self) -> int:
        return 3 * self.patch_size**2

    def build(self) -> PatchBase:
        """The base; it has no weights."""
        return PatchBase(self)


class PatchBase(Base):
    """Features and targets are the pixels of a patch, in [-1, 1]."""

    def __init__(self, config: PatchBaseConfig) -> None:
        super().__init__()
        self.patch_size, self.prediction_channels = config.patch_size, config.channels

    def features(self, images: Tensor, noise: NoiseLike = None) -> Tensor:
        return F.pixel_unshuffle(images * 2 - 1, self.patch_size).permute(0, 2, 3, 1)

    def target(self, features: Tensor) -> Tensor:
        return features

    def losses(self, predicted: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"code": F.mse_loss(predicted, target.permute(0, 3, 1, 2))}

    def pixels(self, predicted: Tensor) -> Tensor:
        return (F.pixel_shuffle(predicted, self.patch_size) + 1) / 2


BaseConfig = Annotated[VqganBaseConfig | KlVaeBaseConfig | PatchBaseConfig, Field(discriminator="type")]
