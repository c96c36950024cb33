"""The convolutions of SEANet: lengths, and ends that are reflected."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from visiontok.layers.seanet import PaddedConv1d, ResidualLstm, TrimmedConvTranspose1d, reflected


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 40])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(7, 1, 1), (3, 1, 4), (10, 5, 1), (8, 4, 1)])
def test_convolutions_give_a_frame_for_every_begun_stride(length: int, kernel: int, stride: int, dilation: int) -> None:
    frames = PaddedConv1d(2, 3, kernel, stride=stride, dilation=dilation)(torch.rand(1, 2, length))
    assert frames.shape == (1, 3, -(-length // stride))
    assert TrimmedConvTranspose1d(3, 2, 2 * stride, stride=stride)(frames).shape[-1] == frames.shape[-1] * stride


def test_ends_are_reflected_also_of_short_sounds() -> None:
    x = torch.arange(1.0, 6.0).view(1, 1, 5)
    assert torch.equal(reflected(x, 2, 1), F.pad(x, (2, 1), mode="reflect"))
    assert reflected(x[..., :2], 3, 2)[0, 0].tolist() == [0.0, 0.0, 2.0, 1.0, 2.0, 0.0, 0.0]


def test_a_network_in_both_directions_reads_its_input_twice() -> None:
    lstm = ResidualLstm(3, 1, bidirectional=True)
    for parameter in lstm.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.rand(2, 3, 5)
    assert torch.equal(lstm(x), torch.cat([x, x], dim=1))
