"""Discriminators of whole clips, the features that they match, and when they count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.base.noise import RecordedNoise, SampleNoise
from visiontok.layers.patches import clip_positions
from visiontok.losses import ReconstructionConfig, ReconstructionObjective
from visiontok.losses.adversarial import discriminator_logistic, discriminator_smoothed
from visiontok.losses.patchgan import PatchGan3dConfig
from visiontok.signals.spec import SignalSpec

CLIPS = SignalSpec(modality="video", channels=3, low=0.0, high=1.0)
PATCHES = {"type": "patchgan_3d", "channels": 4, "num_layers": 2}
VIT = {"type": "clip_vit", "vit": {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}}


def clips(seed: int, frames: int = 5, size: int = 16) -> Tensor:
    return torch.rand(2, 3, frames, size, size, generator=torch.Generator().manual_seed(seed))


def build(signal: SignalSpec = CLIPS, **gan: Any) -> ReconstructionObjective:
    torch.manual_seed(0)
    return ReconstructionConfig.parse({"clip_gan": {"lecam_weight": 0.0, **gan}}).build(signal)


@pytest.mark.parametrize("discriminator", [PATCHES, VIT])
def test_it_learns_to_tell_clips_whose_frames_are_in_another_order(discriminator: dict[str, Any]) -> None:
    objective = build(discriminator=discriminator)
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    ramp = torch.linspace(0, 1, 5)[:, None, None] * clips(0)
    losses = []
    for _ in range(60):
        loss = objective.discriminator_terms(ramp.flip(2), ramp, step=0)["clip_discriminator"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("discriminator", [PATCHES, VIT])
@pytest.mark.parametrize(("frames", "size"), [(2, 16), (5, 20), (9, 30)])
def test_any_clip_of_several_frames_has_a_logit(discriminator: dict[str, Any], frames: int, size: int) -> None:
    objective = build(discriminator=discriminator).eval()
    prediction = clips(1, frames, size).requires_grad_(True)
    terms = objective.generator_terms(prediction, clips(0, frames, size), {}, step=0)
    assert set(terms) == {"reconstruction", "clip_gan"}
    (gradient,) = torch.autograd.grad(terms["clip_gan"], prediction)
    assert bool((gradient.abs().amax(dim=(0, 1, 3, 4)) > 0).all()), "every frame counts"
    assert all(parameter.grad is None for parameter in objective.parameters())


def test_clips_of_one_frame_are_not_judged() -> None:
    objective = build(discriminator=PATCHES, feature_weight=1.0)
    one = clips(0, frames=1)
    assert set(objective.generator_terms(one, one, {}, step=0)) == {"reconstruction"}
    assert objective.discriminator_terms(one, one, step=0) == {}


def test_both_kinds_of_discriminators_together() -> None:
    gan = {"feature_weight": 4.0, "lecam_weight": 0.1}
    config = {"gan": {**gan, "discriminator": {"type": "patchgan", "channels": 4, "num_layers": 2}}, "clip_gan": {**gan, "discriminator": PATCHES}}
    objective = ReconstructionConfig.parse(config).build(CLIPS)
    assert objective.is_adversarial
    terms = objective.generator_terms(clips(1), clips(0), {}, step=0)
    assert set(terms) == {"reconstruction", "gan", "feature_matching", "clip_gan", "clip_feature_matching"}
    terms = objective.discriminator_terms(clips(1), clips(0), step=0)
    assert set(terms) == {"discriminator", "lecam", "clip_discriminator", "clip_lecam"}


def test_features_are_matched_map_by_map() -> None:
    objective = build(discriminator=PATCHES, feature_weight=4.0).eval()
    judge = objective.adversaries["clip_gan"].discriminator
    real, fake = judge.features(clips(0)), judge.features(clips(1))
    assert len(real) == 4
    torch.testing.assert_close(real[-1], judge(clips(0)))
    expected = 4 * sum((a - b).abs().mean() for a, b in zip(fake[:-1], real[:-1], strict=True))
    terms = objective.generator_terms(clips(1), clips(0), {}, step=0)
    torch.testing.assert_close(terms["clip_feature_matching"], expected)
    assert objective.generator_terms(clips(0), clips(0), {}, step=0)["clip_feature_matching"] == 0


def test_features_are_matched_only_where_there_are_some() -> None:
    with pytest.raises(ConfigError, match="'clip_vit' does not give"):
        build(discriminator=VIT, feature_weight=1.0)


def test_the_3d_patch_discriminator_has_the_published_size() -> None:
    judge = PatchGan3dConfig().build(CLIPS)
    assert [tuple(layer.kernel_size) for layer in judge.layers if hasattr(layer, "kernel_size")] == [(4, 4, 4)] * 5
    assert judge(torch.rand(1, 3, 17, 64, 64)).shape == (1, 1, 5, 11, 11)


def test_discriminators_of_clips_refuse_images() -> None:
    with pytest.raises(ConfigError, match="image"):
        build(CLIPS.replace(modality="image"), discriminator=PATCHES)


def test_smoothed_targets() -> None:
    real, fake = torch.tensor([[2.0], [-1.0]]), torch.tensor([[0.5], [1.0]])
    draws = [torch.tensor([[1.0], [-4.0]]), torch.tensor([[0.0], [2.0]])]
    found = discriminator_smoothed(real, fake, RecordedNoise(normal=draws))
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits
    expected = cross_entropy(real, torch.tensor([[0.85], [0.7]])) + cross_entropy(fake, torch.tensor([[0.0], [0.3]]))
    torch.testing.assert_close(found, expected / 2)
    none = RecordedNoise(normal=[torch.zeros(2, 1)] * 2)
    torch.testing.assert_close(discriminator_smoothed(real, fake, none), discriminator_logistic(real, fake))


def test_a_discriminator_may_train_at_some_steps_only() -> None:
    objective = build(discriminator=VIT, discriminator_every=5, discriminator_loss="smoothed")
    trained = [bool(objective.discriminator_terms(clips(0), clips(1), step=step, noise=SampleNoise(step, range(2)))) for step in range(11)]
    assert [step for step, did in enumerate(trained) if did] == [0, 5, 10]


def test_augmentation_of_frames_draws_from_the_stream_of_the_clip() -> None:
    gan = {"discriminator": {"type": "patchgan", "channels": 4, "num_layers": 2}, "augmentation": {}}
    objective = ReconstructionConfig.parse({"gan": gan}).build(CLIPS).eval()
    both = objective.generator_terms(clips(1), clips(0), {}, step=0, noise=SampleNoise(0, range(2)))["gan"]
    parts = [objective.generator_terms(clips(1)[row : row + 1], clips(0)[row : row + 1], {}, step=0, noise=SampleNoise(0, [row])) for row in (0, 1)]
    torch.testing.assert_close(both, torch.stack([part["gan"] for part in parts]).mean())


def test_positions_of_patches_lie_on_a_grid_of_time_rows_and_columns() -> None:
    table = clip_positions((2, 3, 4), 8).unflatten(0, (2, 3, 4))
    steps = table[1] - table[0]
    torch.testing.assert_close(steps, steps[:1, :1].expand_as(steps))
    torch.testing.assert_close(table[:, 0, 0, :4], table[:, 2, 0, :4])
    torch.testing.assert_close(table[:, 0, 0, 4:], table[:, 0, 3, 4:])
    assert len(torch.unique(table.flatten(0, 2), dim=0)) == 24
