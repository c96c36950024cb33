from __future__ import annotations

import pytest
import torch
from dino_files import SIZES, save_dinov2
from torch.nn import functional as F

from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.losses import ReconstructionConfig
from visiontok.losses.semantic import SemanticConfig, SemanticLoss, info_nce
from visiontok.signals import SignalSpec


def projection() -> torch.nn.Linear:
    layer = torch.nn.Linear(16, 4)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(5))
    return layer


PROJECTION = projection()


def config(tmp_path, **changes) -> SemanticConfig:
    weights = str(save_dinov2(tmp_path / "dinov2.pth"))
    return SemanticConfig.parse({"teacher": {"weights": weights, "backbone": SIZES, "image_size": 32}, "projection": "to_latents", **changes})


def build(config: SemanticConfig, **signal) -> SemanticLoss:
    return SemanticLoss(config, teacher=config.teacher.build(), **signal)


def images(batch: int = 4, size: int = 32) -> torch.Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_info_nce_is_the_symmetric_cross_entropy():
    first, second = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)), torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    logits = 2.0 * first @ second.T
    expected = -(logits.log_softmax(dim=1).diagonal() + logits.log_softmax(dim=0).diagonal()).mean() / 2
    torch.testing.assert_close(info_nce(first, second, scale=2.0), expected)


def test_the_loss_falls_as_latents_turn_to_the_teachers_features(tmp_path):
    loss = build(config(tmp_path, normalize=True, scale=10.0))
    latents = torch.randn(4, 3, 3, 4, generator=torch.Generator().manual_seed(2)).requires_grad_(True)
    optimizer = torch.optim.Adam([latents], lr=0.1)
    values = []
    for _ in range(100):
        value = loss(images(), latents, PROJECTION, step=0)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0] / 3
    assert all(not parameter.requires_grad for parameter in loss.teacher.parameters())


def test_the_last_channels_of_the_samples_that_are_not_excluded_are_compared(tmp_path):
    loss = build(config(tmp_path, excluded_share=0.5))
    latents = torch.randn(4, 9, 8, generator=torch.Generator().manual_seed(2))
    projected = PROJECTION(loss.teacher(loss.normalize(images()))[:, 0])[2:]
    expected = info_nce(projected, latents[2:, :, 4:].mean(dim=1), scale=1.0)
    torch.testing.assert_close(loss(images(), latents, PROJECTION, step=0), expected)


def test_the_scale_rises_by_units_of_steps(tmp_path):
    rising = config(tmp_path, scale=1.0, scale_rise={"end": 101.0, "units": 4, "steps_per_unit": 10})
    assert [rising.scale_at(step) for step in (0, 9, 10, 25, 40, 1000)] == [1.0, 1.0, 26.0, 51.0, 101.0, 101.0]


def test_images_of_other_sizes_and_ranges_are_brought_to_the_teachers(tmp_path):
    latents = torch.randn(4, 9, 4, generator=torch.Generator().manual_seed(2))
    loss, signed = build(config(tmp_path)), build(config(tmp_path), signal=SignalSpec(modality="image", channels=3, low=-1.0, high=1.0))
    torch.testing.assert_close(signed(images() * 2 - 1, latents, PROJECTION, step=0), loss(images(), latents, PROJECTION, step=0))
    flat = torch.full((4, 3, 1, 1), 0.3)
    large, right = (loss(flat.expand(-1, -1, side, side), latents, PROJECTION, step=0) for side in (48, 32))
    torch.testing.assert_close(large, right)


def test_what_the_teacher_cannot_look_at_is_an_error(tmp_path):
    for signal, named in (
        (SignalSpec(modality="image", channels=4, low=0.0, high=1.0), "4 channels"),
        (SignalSpec(modality="image", channels=3, low=0.0), "None"),
        (SignalSpec(modality="video", channels=3, low=0.0, high=1.0), "video"),
    ):
        with pytest.raises(ConfigError, match=named):
            build(config(tmp_path), signal=signal)
    absent = config(tmp_path).replace(teacher={"weights": str(tmp_path / "absent.pth")})
    with pytest.raises(CheckpointError, match=r"absent\.pth"):
        absent.teacher.build()


def test_the_objective_reads_the_projection_of_the_tokenizer(tmp_path):
    semantic = config(tmp_path, weight=0.5)
    objective = ReconstructionConfig(semantic=semantic).build()
    latents = torch.randn(4, 9, 4, generator=torch.Generator().manual_seed(2))
    model = torch.nn.ModuleDict({"to_latents": PROJECTION})
    objective.attach(model)
    term = objective.generator_terms(images(), images(), {}, step=0, latents=latents)["semantic"]
    torch.testing.assert_close(term, 0.5 * objective.semantic(images(), latents, PROJECTION, step=0))
    assert not any(name.startswith("_handles") or "to_latents" in name for name, _ in objective.named_parameters())
    with pytest.raises(ConfigError, match="to_latents"):
        objective.attach(torch.nn.ModuleDict({"to_latent": PROJECTION}))


def test_normalized_features_are_directions(tmp_path):
    loss = build(config(tmp_path, normalize=True))
    latents = torch.randn(4, 9, 4, generator=torch.Generator().manual_seed(2))
    projected = F.normalize(PROJECTION(loss.teacher(loss.normalize(images()))[:, 0]), dim=1)
    torch.testing.assert_close(
        loss(images(), 3 * latents, PROJECTION, step=0), info_nce(projected, F.normalize(latents.mean(dim=1), dim=1), scale=1.0)
    )
