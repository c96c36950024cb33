"""What ViTs share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visiontok.layers.vit import init_vit_weights


@pytest.mark.parametrize(("width", "deviation"), [(96, 0.02 * (512 / 96) ** 0.5), (512, 0.02), (1024, 0.02)])
def test_narrow_layers_write_on_the_scale_of_wide_ones(width: int, deviation: float) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(width, 512)
    init_vit_weights(layer)
    assert layer.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert not layer.bias.any()
