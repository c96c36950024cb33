"""DISTS (Ding et al., arXiv 2004.07728): similarity of structure and of texture in the stages of VGG-16."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import vgg16

from visiontok.base.errors import CheckpointError
from visiontok.losses.weight_files import IMAGENET_MEAN, IMAGENET_STD

STAGES = (range(0, 4), range(5, 9), range(10, 16), range(17, 23), range(24, 30))
"""Layers of torchvision's VGG-16 between its poolings, each stage up to its last ReLU."""
CHANNELS = (3, 64, 128, 256, 512, 512)
STABILIZER = 1e-6


class Dists(nn.Module):
    """The distance, for evaluation only.

    Every channel of the image itself and of five stages adds a term for its mean (texture) and one for its covariance (structure),
    with learned weights alpha and beta that sum to 1. VGG's max pooling is replaced by root mean squares under a Hann window.
    """

    mean: Tensor
    std: Tensor
    window: Tensor
    alpha: Tensor
    beta: Tensor

    def __init__(self, backbone: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        """Load the weights.

        Args:
            backbone: state dict of torchvision's `vgg16`; the classifier is not used.
            weights: the authors' "alpha" and "beta" (1, 1475, 1, 1).

        Raises:
            CheckpointError: if they are something else.
        """
        super().__init__()
        features = {key: value for key, value in backbone.items() if key.startswith("features.")}
        with torch.device("meta"):
            network = vgg16(weights=None).features
        try:
            network.load_state_dict({key.removeprefix("features."): value for key, value in features.items()}, assign=True)
            scale = weights["alpha"].sum() + weights["beta"].sum()
            alpha, beta = ((weights[name] / scale).detach().reshape(sum(CHANNELS)) for name in ("alpha", "beta"))
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(f"these weights do not belong to DISTS: {error}") from error
        self.stages = nn.ModuleList(network[stage.start : stage.stop] for stage in STAGES)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None])
        hann = torch.hann_window(5, periodic=False)[1:-1]
        self.register_buffer("window", torch.outer(hann, hann) / hann.sum() ** 2)
        self.register_buffer("alpha", alpha)
        self.register_buffer("beta", beta)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """Two batches (B, 3, H, W) in [0, 1] -> (B,), 0 for equal images. The authors resize images to a shorter side of 256 before."""
        texture, structure = [], []
        for first, second in zip(self._stages(images), self._stages(reconstructions), strict=True):
            mean1, mean2 = first.mean(dim=(2, 3)), second.mean(dim=(2, 3))
            texture.append((2 * mean1 * mean2 + STABILIZER) / (mean1.square() + mean2.square() + STABILIZER))
            centered1, centered2 = first - mean1[..., None, None], second - mean2[..., None, None]
            variance = centered1.square().mean(dim=(2, 3)) + centered2.square().mean(dim=(2, 3))
            structure.append((2 * (centered1 * centered2).mean(dim=(2, 3)) + STABILIZER) / (variance + STABILIZER))
        return 1 - torch.cat(texture, dim=1) @ self.alpha - torch.cat(structure, dim=1) @ self.beta

    def _stages(self, images: Tensor) -> list[Tensor]:
        outputs, x = [images], (images - self.mean) / self.std
        for number, stage in enumerate(self.stages):
            x = stage(x if number == 0 else self._pool(x))
            outputs.append(x)
        return outputs

    def _pool(self, x: Tensor) -> Tensor:
        window = self.window.expand(x.shape[1], 1, -1, -1)
        return (F.conv2d(x.square(), window, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()
