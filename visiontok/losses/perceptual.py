"""Perceptual distances on frozen classification networks. Weights are read from a file that the user names; nothing is downloaded."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.losses.pixels import RGB, as_images, check_rgb, to_unit
from visiontok.losses.weight_files import ImageNetNormalization, frozen, read_state_dict
from visiontok.signals.spec import SignalSpec


class LpipsConfig(Config):
    """LPIPS on VGG-16 (Zhang et al. 2018); needs the package `lpips`, which contains the learned weights of the distance.

    Attributes:
        weights: file with torchvision's `vgg16` ImageNet weights (vgg16-397923af.pth, 528 MB).
        weight: of this distance among the others.
    """

    name: Literal["lpips"] = "lpips"
    weights: Path
    weight: float = Field(default=1.0, gt=0)

    def build(self) -> nn.Module:
        """The frozen distance."""
        return LpipsDistance(read_state_dict(self.weights), net="vgg")


class ConvNextConfig(Config):
    """Squared difference of ConvNeXt-S logits, as the TiTok authors use it.

    Attributes:
        weights: file with torchvision's `convnext_small` ImageNet weights (convnext_small-0c510722.pth, 192 MB).
        weight: of this distance among the others.
    """

    name: Literal["convnext_s"] = "convnext_s"
    weights: Path
    weight: float = Field(default=1.0, gt=0)

    def build(self) -> nn.Module:
        """The frozen distance."""
        return ConvNextDistance(self.weights)


PerceptualTerm = Annotated[LpipsConfig | ConvNextConfig, Field(discriminator="name")]


class PerceptualLoss(nn.Module):
    """The weighted mean of several perceptual distances: sum(w_i d_i) / sum(w_i).

    Args:
        terms: which distances.
        signal: what is compared.

    Raises:
        ConfigError: if the signal is not RGB, or has no known range.
        CheckpointError: if weights are missing or another network's.
    """

    def __init__(self, terms: tuple[LpipsConfig | ConvNextConfig, ...], *, signal: SignalSpec = RGB) -> None:
        super().__init__()
        for term in terms:
            check_rgb(signal, name=f"the perceptual distance {term.name!r}")
        self.signal = signal
        self.distances = nn.ModuleList(term.build() for term in terms)
        self.weights = [term.weight for term in terms]

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """Two batches of images (B, 3, H, W) or videos (B, 3, T, H, W) -> scalar."""
        pair = to_unit(as_images(images), self.signal), to_unit(as_images(reconstructions), self.signal)
        distances = [weight * distance(*pair).mean() for weight, distance in zip(self.weights, self.distances, strict=True)]
        return torch.stack(distances).sum() / sum(self.weights)


class ConvNextDistance(nn.Module):
    """Mean squared difference of the 1000 logits, images resized to 224 pixels."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        from torchvision.models import convnext_small

        self.net = frozen(convnext_small(weights=None), read_state_dict(weights))
        self.normalize = ImageNetNormalization()

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """Two batches (B, 3, H, W) in [0, 1] -> (B,)."""
        return (self._logits(images) - self._logits(reconstructions)).square().mean(dim=1)

    def _logits(self, images: Tensor) -> Tensor:
        resized = F.interpolate(images, size=224, mode="bilinear", align_corners=False, antialias=True)
        return self.net(self.normalize(resized))


LpipsNet = Literal["alex", "vgg", "squeeze"]


class LpipsDistance(nn.Module):
    """The package's LPIPS, version 0.1, whose learned weights it contains; the caller provides those of the backbone."""

    def __init__(self, backbone: Mapping[str, Tensor], *, net: LpipsNet) -> None:
        """Load torchvision's weights into the backbone.

        Args:
            backbone: state dict of torchvision's `alexnet`, `vgg16` or `squeezenet1_1`; the classifier is not used.
            net: which of them.

        Raises:
            ConfigError: if the package is not installed.
            CheckpointError: if the weights are another network's.
        """
        super().__init__()
        try:
            import lpips
        except ImportError as error:
            raise ConfigError('the "lpips" distance needs the package lpips: pip install "visiontok[metrics]"') from error
        with warnings.catch_warnings():  # it builds the backbone by an argument that torchvision has renamed
            warnings.simplefilter("ignore")
            self.net = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        slices = {f"features.{key.split('.', 1)[1]}": key for key in self.net.net.state_dict()}
        frozen(self.net.net, {slices[key]: tensor for key, tensor in backbone.items() if key in slices})
        self.net.eval().requires_grad_(False)

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """Two batches (B, 3, H, W) in [0, 1] -> (B,)."""
        return self.net(images, reconstructions, normalize=True).flatten()
