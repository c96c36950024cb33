"""Losses of codecs: mel distances, discriminators of sound, matched features and the balance of gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from visiontok.base.errors import ConfigError
from visiontok.losses import CodecConfig, CodecObjective
from visiontok.losses.adversarial import (
    discriminator_least_squares,
    generator_clipped_hinge,
    generator_least_squares,
    matched_features,
    matched_features_relative,
)
from visiontok.losses.balancer import BalancerConfig, LossBalancer
from visiontok.losses.mel import MelConfig, MelDistance
from visiontok.losses.sound_discriminators import MagnitudesConfig, PeriodsConfig, ScalesConfig, SoundDiscriminatorConfig, SpectraConfig
from visiontok.signals import SignalSpec

SOUND = SignalSpec(modality="audio", channels=1, low=-1.0, high=1.0, rate=8000.0)
DISCRIMINATORS = [
    {"type": "periods", "periods": [2, 3], "channels": 4, "max_channels": 16},
    {"type": "spectra", "n_ffts": [128, 64], "channels": 4},
    {"type": "scales", "factors": [1, 2], "channels": 4, "max_channels": 32},
    {"type": "magnitudes", "n_ffts": [64], "channels": 4, "weight": 0.5},
]
GAN = {"discriminators": DISCRIMINATORS, "start_step": 3}


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(*(shape or (2, 1, 1500)), generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def objective(**config: object) -> CodecObjective:
    torch.manual_seed(0)
    return CodecConfig.parse(config).build(SOUND)


def test_the_mel_distance_is_the_published_one() -> None:
    """By torch's transform and transformers' filters, at DAC's seven resolutions."""
    from transformers.audio_utils import mel_filter_bank

    prediction, target = noise(0, 2, 1, 4096), 0.3 * noise(1, 2, 1, 4096)

    def logs(sound: Tensor, n_fft: int, bins: int) -> Tensor:
        spectrum = torch.stft(sound[:, 0], n_fft, n_fft // 4, window=torch.hann_window(n_fft), pad_mode="reflect", return_complex=True).abs()
        filters = mel_filter_bank(n_fft // 2 + 1, bins, 0.0, 4000.0, 8000, norm="slaney", mel_scale="slaney")
        return (spectrum.transpose(1, 2) @ torch.from_numpy(filters).float()).clamp_min(1e-5).log10()

    sizes = [(32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320)]
    expected = sum((logs(prediction, *size) - logs(target, *size)).abs().mean() for size in sizes)
    torch.testing.assert_close(MelDistance(MelConfig(), sample_rate=8000)(prediction, target), torch.as_tensor(expected))


def test_the_mel_distance_has_weights_natural_logarithms_and_squares() -> None:
    resolution = {"n_fft": 64, "hop": 32, "num_bins": 8}
    plain, weighted, squares = (
        MelDistance(MelConfig.parse({"resolutions": [resolution | more], "l2_weight": l2}), sample_rate=8000)
        for more, l2 in (({}, 0.0), ({"weight": 3.0}, 0.0), ({}, 2.0))
    )
    louder = noise(0) / 2, noise(0)
    assert plain(*louder).item() == pytest.approx(math.log10(2), rel=1e-4)
    assert weighted(*louder).item() == pytest.approx(3 * math.log10(2), rel=1e-4)
    assert squares(*louder).item() == pytest.approx(3 * math.log10(2), rel=1e-4)
    natural = MelDistance(MelConfig.parse({"resolutions": [resolution], "log": "ln"}), sample_rate=8000)
    assert natural(*louder).item() == pytest.approx(math.log(2), rel=1e-4)
    assert plain(torch.zeros(1, 1, 100), torch.zeros(1, 1, 100)) == 0


def test_a_period_is_seen_sample_by_sample() -> None:
    (network,) = PeriodsConfig(periods=(5,), channels=2, max_channels=4).build(1)
    sound = noise(0, 1, 1, 203)
    changed = sound.clone()
    changed[..., 42] += 0.5
    *features, logits = (after - before for after, before in zip(network(changed), network(sound), strict=True))
    assert len(features) == 5
    assert features[0].shape == (1, 2, 14, 5)
    assert logits.shape[-1] == 5
    touched = [difference.abs().sum(dim=(0, 1, 2)) > 0 for difference in (*features, logits)]
    assert all(columns.tolist() == [False, False, True, False, False] for columns in touched)


def test_bands_of_a_spectrum_have_networks_of_their_own() -> None:
    (network,) = SpectraConfig(n_ffts=(128,), bands=(0.0, 0.5, 1.0), channels=2).build(1)
    silence, sine = torch.zeros(1, 1, 2000), torch.sin(torch.arange(2000) * 2.6)[None, None]
    *changes, logits = ((after - before).abs()[:, :, 8:-8].max() for after, before in zip(network(sine), network(silence), strict=True))
    assert len(changes) == 10
    assert all(low < 0.02 * high for low, high in zip(changes[:5], changes[5:], strict=True))
    assert logits > 0
    assert network(silence)[0].shape == (1, 2, 2000 // 32 + 1, 32)
    assert network(silence)[5].shape[-1] == 33
    with pytest.raises(ConfigError, match=r"0\.5"):
        SpectraConfig.parse({"bands": [0.0, 0.5]})
    with pytest.raises(ConfigError, match="16"):
        SpectraConfig.parse({"n_ffts": [16]})


def test_magnitudes_are_seen_as_in_vocos() -> None:
    """Kernels, strides, shapes and number of parameters of the authors' networks, here by torch's transform with its rectangular window."""
    networks = MagnitudesConfig().build(1)
    assert sum(parameter.numel() for network in networks for parameter in network.parameters()) == 3 * (200_066)
    sound = noise(0, 1, 1, 3000)
    for network, n_fft in zip(networks, (1024, 2048, 512), strict=True):
        x = torch.stft(sound[:, 0], n_fft, n_fft // 4, window=torch.ones(n_fft), return_complex=True).abs()[:, None]
        *maps, logits = network(sound)
        for layer, strides, found in zip(network.layers, ((2, 2), (2, 1), (2, 2), (2, 1), (2, 2)), maps, strict=True):
            padding = [size // 2 for size in layer.weight.shape[2:]]
            x = F.leaky_relu(F.conv2d(x, layer.weight, layer.bias, stride=strides, padding=padding), 0.1)
            torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-4)
        assert logits.shape == (1, 1, *x.shape[2:]) == (1, 1, n_fft // 64 + 1, -(-(3000 // (n_fft // 4) + 1) // 8))
    kernels = [tuple(layer.weight.shape) for layer in (*networks[0].layers, networks[0].logits)]  # type: ignore[union-attr]
    assert kernels == [(64, 1, 7, 5), (64, 64, 5, 3), (64, 64, 5, 3), (64, 64, 3, 3), (64, 64, 3, 3), (1, 64, 3, 3)]
    with pytest.raises(ConfigError, match="30"):
        MagnitudesConfig.parse({"n_ffts": [30]})


@pytest.mark.parametrize(
    "config",
    [
        PeriodsConfig(channels=4, max_channels=18),
        SpectraConfig(n_ffts=(64,), channels=4),
        MagnitudesConfig(n_ffts=(64,), channels=4),
        ScalesConfig(channels=6),
    ],
)
@pytest.mark.parametrize("length", [1, 90, 1000])
def test_discriminators_take_any_length_and_stereo(config: SoundDiscriminatorConfig, length: int) -> None:
    for network in config.build(2):
        if length >= getattr(network, "factor", 1):
            assert all(features.isfinite().all() and len(features) == 3 for features in network(noise(0, 3, 2, length)))


def test_adversarial_losses_are_those_of_their_papers() -> None:
    real, fake = torch.tensor([0.5, 2.0]), torch.tensor([-1.0, 3.0])
    assert generator_least_squares(fake) == (4 + 4) / 2
    assert discriminator_least_squares(real, fake) == ((0.25 + 1) / 2 + (1 + 9) / 2) / 2
    assert generator_clipped_hinge(fake) == (2 + 0) / 2
    of_fake, of_real = [[fake, real, fake], [real, real]], [[real, real, real], [2 * real, fake]]
    first, second = (fake - real).abs().mean(), real.abs().mean()
    assert matched_features(of_fake, of_real) == first + second
    torch.testing.assert_close(matched_features_relative(of_fake, of_real), (first / real.abs().mean() + 0 + 0.5) / 3)
    assert matched_features(of_fake, of_real, [3.0, 0.5]) == 3 * first + 0.5 * second
    torch.testing.assert_close(matched_features_relative(of_fake, of_real, [3.0, 0.5]), (3 * first / real.abs().mean() + 0 + 0.25) / 6.5)


def test_terms_carry_their_weights_and_add_up_over_discriminators() -> None:
    plain, weighted = (objective(waveform_weight=w, mel_weight=m, gan={**GAN, "weight": g, "feature_weight": f}, quantizer_weight=q)
                       for w, m, g, f, q in ((1, 1, 1, 1, 1), (2, 3, 4, 5, 6)))  # fmt: skip
    prediction, target, losses = noise(0), noise(1), {"commitment": torch.tensor(2.0)}
    ones, many = (each.generator_terms(prediction, target, losses, step=3) for each in (plain, weighted))
    assert list(ones) == ["waveform", "mel", "gan", "feature_matching", "commitment"]
    for (name, one), factor in zip(ones.items(), (2, 3, 4, 5, 6), strict=True):
        torch.testing.assert_close(many[name], factor * one)
    torch.testing.assert_close(ones["waveform"], (prediction - target).abs().mean())
    assert plain.discriminator is not None
    logits = [[maps[-1] for maps in plain.discriminator(sound)] for sound in (target, prediction)]
    shares = [1, 1, 1, 1, 1, 1, 0.5]
    torch.testing.assert_close(ones["gan"], sum(share * (fake - 1).square().mean() for share, fake in zip(shares, logits[1], strict=True)))
    expected = sum(share * ((a - 1).square().mean() + b.square().mean()) / 2 for share, a, b in zip(shares, *logits, strict=True))
    torch.testing.assert_close(plain.discriminator_terms(prediction, target, step=3)["discriminator"], expected)


def test_the_discriminators_wait_for_the_first_step_and_are_not_moved_by_the_generator() -> None:
    found = objective(gan=GAN)
    prediction = noise(0).requires_grad_(True)
    assert set(found.generator_terms(prediction, noise(1), {}, step=2)) == {"mel"}
    assert found.discriminator_terms(prediction, noise(1), step=2) == {}
    terms = found.generator_terms(prediction, noise(1), {}, step=3)
    (terms["gan"] + terms["feature_matching"]).backward()
    assert prediction.grad is not None
    assert prediction.grad.abs().sum() > 0
    assert found.discriminator is not None
    assert all(parameter.grad is None and parameter.requires_grad for parameter in found.discriminator.parameters())
    assert set(found.validation_terms(noise(0), noise(1))) == {"mel"}


def test_objectives_of_sound_refuse_images_and_nothing_to_compare() -> None:
    with pytest.raises(ConfigError, match="image"):
        CodecConfig().build(SignalSpec(modality="image", channels=3, low=0.0, high=1.0))
    with pytest.raises(ConfigError, match="mel_weight"):
        CodecConfig.parse({"mel_weight": 0})


def test_the_balancer_gives_every_loss_its_share_of_the_gradient() -> None:
    output, target = noise(0).requires_grad_(True), noise(1)
    losses = {"small": 1e-3 * (output - target).abs().mean(), "large": 1e3 * F.mse_loss(output, target)}
    balancer = LossBalancer(BalancerConfig(total_norm=8.0), {"small": 1.0, "absent": 5.0, "large": 3.0})
    balanced, stats = balancer(losses, output)
    for name, share in (("small", 0.25), ("large", 0.75)):
        (gradient,) = torch.autograd.grad(balanced[name], output, retain_graph=True)
        assert (2 * gradient).flatten(1).norm(dim=1).mean().item() == pytest.approx(8.0 * share, rel=1e-4)
        (own,) = torch.autograd.grad(losses[name], output, retain_graph=True)
        assert stats[f"gradient_norm_{name}"].item() == pytest.approx(2 * own.flatten(1).norm(dim=1).mean().item(), rel=1e-4)
    scaled = LossBalancer(BalancerConfig(total_norm=8.0), {"small": 1.0, "large": 3.0})(losses, output, scale=1024.0)[0]
    torch.testing.assert_close(scaled, balanced)


def test_the_balancer_averages_norms_and_does_not_depend_on_the_batch() -> None:
    output = torch.ones(4, 1, 10, requires_grad=True)
    balancer = LossBalancer(BalancerConfig(decay=0.75), {"loss": 1.0})
    for scale in (1.0, 3.0):
        balanced, stats = balancer({"loss": scale * output.square().sum(dim=2).mean()}, output)
    expected = 2 * math.sqrt(10) * (0.75 * 0.25 * 1 + 0.25 * 3) / (1 - 0.75**2)
    assert stats["gradient_norm_loss"].item() == pytest.approx(expected, rel=1e-5)
    assert balanced["loss"].item() == pytest.approx(30 / expected, rel=1e-5)
    part = torch.ones(1, 1, 10, requires_grad=True)
    alone = LossBalancer(BalancerConfig(), {"loss": 1.0})({"loss": part.square().sum(dim=2).mean()}, part)[0]["loss"]
    whole = LossBalancer(BalancerConfig(), {"loss": 1.0})({"loss": output.square().sum(dim=2).mean()}, output)[0]["loss"]
    torch.testing.assert_close(alone, whole)


def test_a_loss_without_a_gradient_counts_as_nothing() -> None:
    output = torch.ones(2, 1, 4, requires_grad=True)
    balanced, _ = LossBalancer(BalancerConfig(), {"flat": 1.0, "loss": 1.0})({"flat": 3 + 0 * output.sum(), "loss": output.square().mean()}, output)
    assert balanced["flat"] == 0
    assert balanced["loss"] > 0


def test_where_gradients_overflow_the_averages_stay() -> None:
    output = torch.ones(2, 1, 4, requires_grad=True)
    balancer = LossBalancer(BalancerConfig(), {"loss": 1.0})
    balancer({"loss": output.square().mean()}, output)
    before = balancer.norms.clone()
    balanced, _ = balancer({"loss": 10 * output.square().mean()}, output, scale=1e38)
    assert balanced["loss"] == 0
    assert torch.equal(balancer.norms, before)
