"""Perceptual distances in a suite: LPIPS and DISTS, on networks whose weights lie in checked files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import get_args

import torch
from torch import Tensor, nn

from visiontok.evaluation.features.weight_files import WeightFile, load_weights
from visiontok.evaluation.metrics.dists import Dists
from visiontok.evaluation.metrics.entries.fidelity import PICTURES, MeanMeasure
from visiontok.losses.perceptual import LpipsDistance, LpipsNet

TORCHVISION = "BSD-3-Clause; trained on ImageNet"
BACKBONES: dict[str, WeightFile] = {
    net: WeightFile(name, size, sha256, f"https://download.pytorch.org/models/{name}", TORCHVISION)
    for net, name, size, sha256 in (
        ("alex", "alexnet-owt-7be5be79.pth", "233 MB", "7be5be79"),
        ("vgg", "vgg16-397923af.pth", "528 MB", "397923af"),
        ("squeeze", "squeezenet1_1-b8a52dc0.pth", "5 MB", "b8a52dc0"),
    )
}
DISTS_WEIGHTS = WeightFile(
    name="dists-weights.pt",
    size="12 kB",
    sha256="f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
    source="weights.pt of https://github.com/dingkeyan93/DISTS (torchmetrics carries it as functional/image/dists_models/weights.pt)",
    licence="MIT",
)


def lpips_measure(net: LpipsNet, *, device: torch.device) -> MeanMeasure:
    """LPIPS on one backbone; the values of two backbones do not compare.

    Raises:
        CheckpointError: if the backbone's weights are missing (says how to get them) or another network's.
        ConfigError: if the package `lpips` is not installed.
    """
    distance, digest = _lpips(net)
    protocol = f"mean over images; LPIPS 0.1 on {net}, backbone {digest[:12]}, pictures as given, [-1, 1] inside; {PICTURES}"
    return MeanMeasure(f"lpips.{net}", _on_pictures(distance.to(device), device), better="lower", protocol=protocol)


def dists_measure(*, device: torch.device) -> MeanMeasure:
    """DISTS, at the size of the pictures.

    Raises:
        CheckpointError: if the weights are missing (says how to get them) or another network's.
    """
    distance, digest = _dists()
    protocol = f"mean over images; DISTS on VGG-16, backbone {digest[:12]}, pictures as given; {PICTURES}"
    return MeanMeasure("dists", _on_pictures(distance.to(device), device), better="lower", protocol=protocol)


PERCEPTUAL: dict[str, Callable[..., MeanMeasure]] = {
    **{f"lpips.{net}": partial(lpips_measure, net) for net in get_args(LpipsNet)},
    "dists": dists_measure,
}
"""The measures by the names that suites use."""


@cache
def _lpips(net: LpipsNet) -> tuple[nn.Module, str]:
    weights = load_weights(BACKBONES[net])
    return LpipsDistance(weights.tensors, net=net), weights.sha256


@cache
def _dists() -> tuple[nn.Module, str]:
    backbone = load_weights(BACKBONES["vgg"])
    return Dists(backbone.tensors, load_weights(DISTS_WEIGHTS).tensors), backbone.sha256


def _on_pictures(distance: nn.Module, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    @torch.no_grad()
    def measure(reference: Tensor, reconstruction: Tensor) -> Tensor:
        first, second = (images.to(device).float() / 255 for images in (reference, reconstruction))
        return distance(first, second).cpu().double()

    return measure
