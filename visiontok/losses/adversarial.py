"""GAN losses, their adaptive weight (Esser et al. 2021), the LeCam regularization (Tseng et al. 2021), and the matching of features that codecs of
sound add. All means are taken in float32."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

from visiontok.base.errors import ConfigError
from visiontok.base.noise import NoiseLike, as_noise


def generator_hinge(fake_logits: Tensor) -> Tensor:
    """-mean D(fake); scalar."""
    return -fake_logits.float().mean()


def generator_non_saturating(fake_logits: Tensor) -> Tensor:
    """-mean log sigmoid of each image's mean logit (Goodfellow et al. 2014, as VQGANs with LeCam use it); scalar."""
    return F.softplus(-fake_logits.float().flatten(1).mean(dim=1)).mean()


def generator_clipped_hinge(fake_logits: Tensor) -> Tensor:
    """mean relu(1 - D(fake)), the generator's hinge loss of SoundStream and EnCodec; scalar."""
    return F.relu(1 - fake_logits.float()).mean()


def generator_least_squares(fake_logits: Tensor) -> Tensor:
    """mean (D(fake) - 1)^2 (Mao et al. 2017, without their factor 1/2, as HiFi-GAN and DAC have it); scalar."""
    return (fake_logits.float() - 1).square().mean()


def discriminator_hinge(real_logits: Tensor, fake_logits: Tensor, noise: NoiseLike = None) -> Tensor:
    """(mean relu(1 - D(real)) + mean relu(1 + D(fake))) / 2; scalar."""
    return 0.5 * (F.relu(1 - real_logits.float()).mean() + F.relu(1 + fake_logits.float()).mean())


def discriminator_least_squares(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """(mean (D(real) - 1)^2 + mean D(fake)^2) / 2; scalar."""
    return 0.5 * ((real_logits.float() - 1).square().mean() + fake_logits.float().square().mean())


def discriminator_logistic(real_logits: Tensor, fake_logits: Tensor, noise: NoiseLike = None) -> Tensor:
    """(mean -log sigmoid D(real) + mean -log sigmoid -D(fake)) / 2, the "vanilla" loss of VQGANs; scalar."""
    return 0.5 * (F.softplus(-real_logits.float()).mean() + F.softplus(fake_logits.float()).mean())


def discriminator_smoothed(real_logits: Tensor, fake_logits: Tensor, noise: NoiseLike = None) -> Tensor:
    """The same with targets 1 - |0.15 n| of at least 0.7 and |0.15 n| of at most 0.3 instead of 1 and 0, n from N(0, 1) for every logit, real ones
    first (LARP, arXiv 2410.21264); scalar."""
    source = as_noise(noise, real_logits.device)
    losses = []
    for logits, sign in ((real_logits.float(), -1), (fake_logits.float(), 1)):
        smoothing = (0.15 * source.normal(*logits.shape)).abs().clamp_max(0.3)
        losses.append(((1 - smoothing) * F.softplus(sign * logits) + smoothing * F.softplus(-sign * logits)).mean())
    return 0.5 * torch.stack(losses).sum()


GENERATOR_LOSSES: Mapping[str, Callable[[Tensor], Tensor]] = {"hinge": generator_hinge, "non_saturating": generator_non_saturating}
DISCRIMINATOR_LOSSES: Mapping[str, Callable[[Tensor, Tensor, NoiseLike], Tensor]] = {
    "hinge": discriminator_hinge,
    "logistic": discriminator_logistic,
    "smoothed": discriminator_smoothed,
}


FeatureMaps: TypeAlias = Sequence[Sequence[Tensor]]
"""Of several discriminators; the last map of each, its logits, is not matched."""


def matched_features(fake: FeatureMaps, real: FeatureMaps, weights: Sequence[float] | None = None) -> Tensor:
    """The sum over all feature maps of mean |fake - real| (MelGAN, HiFi-GAN, DAC); scalar, no gradient for `real`.

    Args:
        fake, real: feature maps.
        weights: of the discriminators; None for 1 each.
    """
    return torch.stack([weight * (a - b).abs().mean() for weight, a, b in _matched(fake, real, weights)]).sum()


def matched_features_relative(fake: FeatureMaps, real: FeatureMaps, weights: Sequence[float] | None = None) -> Tensor:
    """The weighted mean over all feature maps of mean |fake - real| / mean |real| (EnCodec, arXiv 2210.13438, equation 2); scalar, no gradient for
    `real`. For the arguments see `matched_features`."""
    matched = _matched(fake, real, weights)
    shares = [weight * (a - b).abs().mean() / b.abs().mean().clamp_min(1e-8) for weight, a, b in matched]
    return torch.stack(shares).sum() / sum(weight for weight, _, _ in matched)


FEATURE_MATCHING: Mapping[str, Callable[[FeatureMaps, FeatureMaps, Sequence[float] | None], Tensor]] = {
    "absolute": matched_features,
    "relative": matched_features_relative,
}


def _matched(fake: FeatureMaps, real: FeatureMaps, weights: Sequence[float] | None) -> list[tuple[float, Tensor, Tensor]]:
    """The weight of every feature map, and the map of either side in float32."""
    given = [1.0] * len(fake) if weights is None else weights
    triples = zip(given, fake, real, strict=True)
    return [(weight, a.float(), b.detach().float()) for weight, fakes, reals in triples for a, b in zip(fakes[:-1], reals[:-1], strict=True)]


@contextmanager
def constant(module: nn.Module) -> Iterator[None]:
    """Without gradients of the module's parameters; those that are frozen stay so afterwards."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def gradient_ratio(reconstruction: Tensor, generator: Tensor, last_layer: nn.Parameter, *, eps: float, maximum: float, scale: float = 1.0) -> Tensor:
    """|gradient of the reconstruction| / (|gradient of the generator's loss| + eps) at one parameter, at most `maximum`; a scalar without gradient.

    Multiplied by it, the generator's loss moves the parameter as much as the reconstruction does. The batches of all processes count.

    Args:
        reconstruction: loss; its graph is kept.
        generator: loss; its graph is kept.
        last_layer: the decoder's last weight.
        eps: keeps the ratio finite.
        maximum: see above.
        scale: the losses are multiplied by it before their gradients are computed, so that those do not vanish in half precision. Where they
            overflow instead, the ratio is 0: a gradient scaler will skip that step.

    Raises:
        ConfigError: if the parameter is frozen, or one of the losses does not depend on it.
    """
    if not last_layer.requires_grad:
        raise ConfigError("the adaptive weight reads gradients of the last layer, which is frozen; shorten `model.freeze` or remove gan.adaptive")
    norms = []
    for name, loss in (("reconstruction", reconstruction), ("generator's loss", generator)):
        (gradient,) = torch.autograd.grad(scale * loss, last_layer, retain_graph=True, allow_unused=True)
        if gradient is None:
            raise ConfigError(f"the {name} does not depend on the parameter of gan.adaptive.last_layer; name the weight of the decoder's last layer")
        norms.append(mean_of_ranks(gradient.float()).norm() / scale)
    ratio = (norms[0] / (norms[1] + eps)).clamp(max=maximum).detach()
    return torch.where(torch.stack(norms).isfinite().all(), ratio, 0.0)


class LeCam(nn.Module, ABC):
    """Keep logits near moving averages of the other side's. Means run over the batches of all processes.

    Args:
        decay: of the averages R of the real and F of the generated images' mean logits.
    """

    real_mean: Tensor
    fake_mean: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("real_mean", torch.zeros(1, dtype=torch.float32))
        self.register_buffer("fake_mean", torch.zeros(1, dtype=torch.float32))

    @abstractmethod
    def forward(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Logit maps of a batch -> scalar; the averages move."""

    def _distance(self, real: Tensor, fake: Tensor) -> Tensor:
        # Copies: the averages are overwritten before the backward pass reads them.
        return F.relu(real - self.fake_mean.clone()).square().mean() + F.relu(self.real_mean.clone() - fake).square().mean()

    def _move(self, real: Tensor, fake: Tensor) -> None:
        self.real_mean.lerp_(real.detach(), 1 - self.decay)
        self.fake_mean.lerp_(fake.detach(), 1 - self.decay)


class MeanLeCam(LeCam):
    """Of the batch's mean logits r and f: relu(r - F)^2 + relu(R - f)^2; the averages move afterwards. TiTok's form."""

    def forward(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        real, fake = _mean_over_ranks(real_logits), _mean_over_ranks(fake_logits)
        loss = self._distance(real, fake)
        self._move(real, fake)
        return loss


class LogitLeCam(LeCam):
    """Of every logit: mean relu(r - F)^2 + mean relu(R - f)^2; the averages move first. The form of Open-MAGVIT2, IBQ and RobustTok."""

    def forward(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        self._move(_mean_over_ranks(real_logits), _mean_over_ranks(fake_logits))
        return self._distance(real_logits.float(), fake_logits.float())


LECAMS: Mapping[str, type[LeCam]] = {"means": MeanLeCam, "logits": LogitLeCam}


def _mean_over_ranks(logits: Tensor) -> Tensor:
    """The mean over every process's logits, of which there are equally many.

    Its gradient is that of this process's mean; averaged over the processes, as gradients are, this gives the gradient of the whole.
    """
    mean = logits.float().mean()
    return mean + (mean_of_ranks(mean.detach()) - mean.detach())


def mean_of_ranks(tensor: Tensor) -> Tensor:
    """The mean of every process's tensor, without gradient."""
    if not (dist.is_available() and dist.is_initialized()):
        return tensor.detach()
    whole = tensor.detach().clone()
    dist.all_reduce(whole)
    return whole / dist.get_world_size()
