from __future__ import annotations

import torch

from visiontok.base.noise import RecordedNoise
from visiontok.losses.augmentation import DiffAugmentConfig, diff_augment


def images(batch: int = 2, size: int = 16) -> torch.Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_every_sample_is_shifted_by_its_own_draw():
    config = DiffAugmentConfig(translation=0.125, color=False, cutout=0)
    x = images()
    shifted = diff_augment(x, config, RecordedNoise(uniform=[torch.tensor([[0.0, 0.5], [0.999, 0.999]])]))
    assert torch.equal(shifted[0, :, 2:, :], x[0, :, :-2, :])  # two rows down
    assert shifted[0, :, :2].abs().sum() == 0
    assert torch.equal(shifted[1, :, :-2, :-2], x[1, :, 2:, 2:])  # two rows up, two columns to the left


def test_colors_change_in_the_stated_ranges_and_the_middle_of_the_draws_changes_nothing():
    config = DiffAugmentConfig(translation=0, color=True, cutout=0)
    x = images(batch=1)
    same = diff_augment(x, config, RecordedNoise(uniform=[torch.full((1, 3), 0.5)]))
    torch.testing.assert_close(same, x)
    brighter = diff_augment(x, config, RecordedNoise(uniform=[torch.tensor([[0.75, 0.5, 0.5]])]))
    torch.testing.assert_close(brighter, x + 0.25)
    gray = diff_augment(x, config, RecordedNoise(uniform=[torch.tensor([[0.5, 0.0, 0.5]])]))
    torch.testing.assert_close(gray, x.mean(dim=1, keepdim=True).expand_as(x))
    contrast = diff_augment(x, config, RecordedNoise(uniform=[torch.tensor([[0.5, 0.5, 1.0]])]))
    torch.testing.assert_close(contrast.std(), 1.5 * x.std(), rtol=0.02, atol=0)


def test_a_square_is_cut_out_of_each_image():
    config = DiffAugmentConfig(translation=0, color=False, cutout=0.25)
    ones = torch.ones(2, 1, 16, 16)
    cut = diff_augment(ones, config, RecordedNoise(uniform=[torch.tensor([[0.5, 0.5], [0.0, 0.0]])]))
    assert cut[0, 0, 6:10, 6:10].sum() == 0
    assert cut[0].sum() == 256 - 16
    assert cut[1].sum() == 256 - 4  # cut by the border


def test_gradients_flow_and_equal_draws_give_equal_images():
    x = images().requires_grad_(True)
    out = diff_augment(x, DiffAugmentConfig(), torch.Generator().manual_seed(0))
    out.square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert torch.equal(out, diff_augment(x, DiffAugmentConfig(), torch.Generator().manual_seed(0)))
    assert not torch.equal(out, diff_augment(x, DiffAugmentConfig(), torch.Generator().manual_seed(1)))
