from __future__ import annotations

import pytest
import torch
from dino_files import SIZES, save_dino

from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.losses import ReconstructionConfig
from visiontok.losses.dino_discriminator import DinoDiscriminatorConfig, VirtualBatchNorm
from visiontok.signals import SignalSpec

CONFIG = {"type": "dino", "backbone": SIZES, "image_size": 32, "blocks": [0, 1], "kernel_size": 3}


def images(seed: int, size: int = 48, batch: int = 3) -> torch.Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def objective(tmp_path):
    torch.manual_seed(0)
    discriminator = {**CONFIG, "weights": str(save_dino(tmp_path / "dino.pth")), "crop_share": 0.0}
    return ReconstructionConfig.parse({"gan": {"weight": 1.0, "discriminator": discriminator}}).build()


def test_every_head_gives_a_logit_per_patch(objective):
    assert objective.adversaries["gan"].discriminator(images(0)).shape == (3, 3 * 16)


def test_the_backbone_stays_frozen_while_the_heads_learn(objective):
    discriminator = objective.adversaries["gan"].discriminator.train()
    before = {name: parameter.detach().clone() for name, parameter in discriminator.named_parameters()}
    trained = [parameter for parameter in discriminator.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-2)
    fake = torch.nn.functional.interpolate(images(1, size=3), size=48, mode="bilinear")
    losses = []
    for _ in range(60):
        objective.generator_terms(fake, images(0), {}, step=0)  # leaves what is frozen frozen
        loss = sum(objective.discriminator_terms(fake, images(0), step=0).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    after = dict(discriminator.named_parameters())
    assert all(torch.equal(after[name], tensor) and not after[name].requires_grad for name, tensor in before.items() if name.startswith("backbone."))
    assert all(not torch.equal(after[name], tensor) for name, tensor in before.items() if name.startswith("heads.") and "original" in name)
    assert losses[-1] < 0.7 * losses[0]


def test_gradients_reach_the_images_through_the_backbone(objective):
    fake = images(1).requires_grad_(True)
    objective.generator_terms(fake, images(0), {}, step=0)["gan"].backward()
    assert fake.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in objective.adversaries["gan"].discriminator.parameters())


def test_larger_images_are_cropped_or_resized_smaller_ones_only_resized(tmp_path):
    config = DinoDiscriminatorConfig.parse({**CONFIG, "weights": str(save_dino(tmp_path / "dino.pth"))})
    discriminator = config.build().eval()
    draws = [discriminator(images(0), torch.Generator().manual_seed(seed)) for seed in range(8)]
    assert torch.equal(draws[0], discriminator(images(0), torch.Generator().manual_seed(0)))
    assert any(not torch.equal(draws[0], other) for other in draws[1:])
    small = images(0, size=24)
    assert torch.equal(discriminator(small, torch.Generator().manual_seed(0)), discriminator(small, torch.Generator().manual_seed(1)))


def test_values_are_read_in_the_range_of_the_signal(tmp_path):
    config = DinoDiscriminatorConfig.parse({**CONFIG, "weights": str(save_dino(tmp_path / "dino.pth"))})
    unit, signed = config.build(), config.build(SignalSpec(modality="image", channels=3, low=-1.0, high=1.0))
    signed.load_state_dict(unit.state_dict())
    x = images(0, size=32)
    torch.testing.assert_close(unit.eval()(x), signed.eval()(x * 2 - 1), rtol=1e-4, atol=1e-4)


def test_virtual_batch_norm_does_not_depend_on_the_batch_size():
    norm = VirtualBatchNorm(4, 2)
    x = torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1
    torch.testing.assert_close(norm(x)[2:4], norm(x[2:4]))
    torch.testing.assert_close(norm(x[:2]).mean(dim=(0, 2)), torch.zeros(4), rtol=0, atol=1e-5)
    assert norm(x[:5]).shape == (5, 4, 5)


def test_other_signals_and_missing_weights_are_errors(tmp_path):
    config = DinoDiscriminatorConfig.parse({**CONFIG, "weights": str(tmp_path / "absent.pth")})
    with pytest.raises(CheckpointError, match=r"absent\.pth"):
        config.build()
    with pytest.raises(ConfigError, match="1 channels"):
        config.build(SignalSpec(modality="image", channels=1, low=0.0, high=1.0))
    with pytest.raises(ConfigError, match="blocks"):
        DinoDiscriminatorConfig.parse({**CONFIG, "weights": "a.pth", "blocks": [1, 5]})
