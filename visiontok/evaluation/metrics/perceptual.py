"""Perceptual distances of single images: LPIPS and DISTS, on networks whose weights lie in checked files."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from visiontok.base.errors import EvaluationError
from visiontok.evaluation.features.weight_files import WeightFile, verified_weights
from visiontok.evaluation.metrics.dists import Dists
from visiontok.evaluation.metrics.fidelity import as_pair
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
    license="MIT",
)


@cache
def lpips_network(net: LpipsNet) -> tuple[nn.Module, str]:
    """The distance of images in [0, 1], kept in memory, and the digest of its backbone.

    Raises:
        CheckpointError: if the weights are missing (says how to get them) or another network's.
        ConfigError: if the package `lpips` is not installed.
    """
    weights = verified_weights(BACKBONES[net])
    return LpipsDistance(weights.tensors, net=net), weights.sha256


@cache
def dists_network() -> tuple[nn.Module, str]:
    """The distance of images in [0, 1], kept in memory, and the digest of its backbone.

    Raises:
        CheckpointError: as `lpips_network`.
    """
    backbone = verified_weights(BACKBONES["vgg"])
    return Dists(backbone.tensors, verified_weights(DISTS_WEIGHTS).tensors), backbone.sha256


def lpips(reference: Tensor, reconstruction: Tensor, *, data_range: float, net: LpipsNet = "alex") -> Tensor:
    """LPIPS 0.1 of each image, on the images' device; the values of two networks do not compare.

    Args:
        reference, reconstruction: (B, 3, H, W) in [0, data_range].
        data_range: 255 for uint8, 1 for [0, 1].
        net: the backbone.

    Returns:
        (B,) float64, at least 0; 0 for identical images.

    Raises:
        EvaluationError: if these are no RGB images of one shape in that range, or there is no such network.
        CheckpointError: if the weights of the backbone are missing (says how to get them).
        ConfigError: if the package `lpips` is not installed.
    """
    if net not in BACKBONES:
        raise EvaluationError(f"there is no LPIPS on {net!r}; choose one of {', '.join(BACKBONES)}")
    return _distance(lpips_network(net)[0], *_unit_pair(reference, reconstruction, data_range=data_range))


def dists(reference: Tensor, reconstruction: Tensor, *, data_range: float) -> Tensor:
    """DISTS of each image; arguments, result and errors as of `lpips`."""
    return _distance(dists_network()[0], *_unit_pair(reference, reconstruction, data_range=data_range))


@torch.no_grad()
def _distance(network: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    found: Tensor = network.to(first.device)(first, second)
    return found.double()


def _unit_pair(reference: Tensor, reconstruction: Tensor, *, data_range: float) -> tuple[Tensor, Tensor]:
    """Both batches as float32 in [0, 1]."""
    first, second = as_pair(reference, reconstruction)
    if first.ndim != 4 or first.shape[1] != 3:
        raise EvaluationError(f"images (B, 3, H, W) are required, got {tuple(first.shape)}")
    for images in (first, second):
        low, high = (float(value) for value in images.aminmax()) if images.numel() else (0.0, 0.0)
        if not 0 <= low <= high <= data_range:
            raise EvaluationError(f"the images lie in [{low:g}, {high:g}], not in [0, {data_range:g}] as data_range={data_range:g} says")
    return (first / data_range).float(), (second / data_range).float()
