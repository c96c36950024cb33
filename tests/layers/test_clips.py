"""Layers of clips: causal convolutions in chunks, Haar wavelets, patches in channels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from visiontok.layers.carry import Carry, trimmed
from visiontok.layers.causal_conv3d import CausalConv3d
from visiontok.layers.haar import haar, inverse_haar
from visiontok.layers.patches import depth_to_space, space_to_depth

KERNELS = [
    ((3, 3, 3), (1, 1, 1)),
    ((3, 1, 1), (2, 1, 1)),
    ((1, 3, 3), (1, 2, 2)),
    ((2, 2, 2), (2, 2, 2)),
    ((4, 3, 3), (2, 2, 2)),
    ((5, 1, 1), (4, 1, 1)),
]


def clip(frames: int, *, sides: tuple[int, int] = (6, 8), channels: int = 3) -> Tensor:
    return torch.randn(2, channels, frames, *sides, generator=torch.Generator().manual_seed(frames))


def conv(kernel: tuple[int, int, int], stride: tuple[int, int, int], edge: str) -> CausalConv3d:
    torch.manual_seed(0)
    return CausalConv3d(3, 5, kernel, stride=stride, edge=edge)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kernel", "stride"), KERNELS)
@pytest.mark.parametrize("edge", ["replicate", "constant"])
@torch.no_grad()
def test_a_causal_convolution_reads_no_later_frame(kernel: tuple[int, int, int], stride: tuple[int, int, int], edge: str) -> None:
    layer, x = conv(kernel, stride, edge), clip(17)
    whole = layer(x)
    assert whole.shape[2] == 1 + 16 // stride[0]
    for frames in (1, 5, 13):
        begun = layer(x[:, :, :frames])
        torch.testing.assert_close(begun, whole[:, :, : begun.shape[2]], rtol=0, atol=1e-5)
        assert begun.shape[2] == 1 + (frames - 1) // stride[0]


@pytest.mark.parametrize(("kernel", "stride"), KERNELS)
@pytest.mark.parametrize("chunks", [(1, 4, 8, 4), (5, 12), (9, 4, 4)])
@torch.no_grad()
def test_chunks_give_what_the_whole_gives(kernel: tuple[int, int, int], stride: tuple[int, int, int], chunks: tuple[int, ...]) -> None:
    layer, x, carry = conv(kernel, stride, "replicate"), clip(17), Carry()
    parts = [layer(chunk, carry) for chunk in x.split(chunks, dim=2)]
    torch.testing.assert_close(torch.cat(parts, dim=2), layer(x), rtol=0, atol=1e-5)


@torch.no_grad()
def test_what_stands_before_the_first_frame() -> None:
    x = clip(4)
    for edge, before in (("replicate", x[:, :, :1].expand(-1, -1, 2, -1, -1)), ("constant", torch.zeros(2, 3, 2, 6, 8))):
        layer = conv((3, 3, 3), (1, 1, 1), edge)
        expected = F.conv3d(torch.cat([before, x], dim=2), layer.weight, layer.bias, padding=(0, 1, 1))
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)


def test_the_state_of_a_chunk_does_not_keep_the_chunk() -> None:
    layer, carry = conv((3, 1, 1), (1, 1, 1), "replicate"), Carry()
    layer(clip(40), carry)
    assert carry.get(layer).untyped_storage().nbytes() == 4 * math.prod((2, 3, 2, 6, 8))


def test_a_stride_beyond_the_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="1 frames cannot move by 2"):
        CausalConv3d(3, 3, 1, stride=(2, 1, 1))


def test_only_the_beginning_is_trimmed() -> None:
    layer, x, carry = torch.nn.Identity(), clip(6), Carry()
    assert torch.equal(trimmed(x, 2, layer=layer, carry=None), x[:, :, 2:])
    parts = [trimmed(part, 1, layer=layer, carry=carry) for part in x.split(2, dim=2)]
    assert torch.equal(torch.cat(parts, dim=2), x[:, :, 1:])


@pytest.mark.parametrize("axes", [(2, 3, 4), (4, 3), (2,)])
@pytest.mark.parametrize("levels", [0, 1, 2])
def test_the_haar_transform_is_inverted(axes: tuple[int, ...], levels: int) -> None:
    x = clip(8, sides=(4, 12))
    bands = haar(x, axes, levels=levels)
    assert bands.shape[1] == 3 * 2 ** (levels * len(axes))
    assert [bands.shape[axis] for axis in axes] == [x.shape[axis] >> levels for axis in axes]
    torch.testing.assert_close(inverse_haar(bands, axes, levels=levels), x, rtol=0, atol=1e-6)


def test_bands_are_ordered_by_the_axes_low_before_high() -> None:
    """Band 0 is the mean of every block; a clip that alternates along some axes is in the one band that is high along them."""
    x = clip(4)
    low = haar(x, (2, 3, 4))[:, :3]
    torch.testing.assert_close(low, F.avg_pool3d(x, 2), rtol=0, atol=1e-6)
    signs = [(-1.0) ** torch.arange(size) for size in (4, 6, 8)]
    for band, (time, height, width) in enumerate(((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1))):
        waves = [sign if high else sign.abs() for sign, high in zip(signs, (time, height, width), strict=True)]
        wave = torch.einsum("t,h,w->thw", *waves).expand(1, 3, -1, -1, -1) * torch.tensor([1.0, 2.0, 3.0])[:, None, None, None]
        energy = haar(wave, (2, 3, 4)).square().sum(dim=(0, 2, 3, 4))
        assert torch.nonzero(energy).flatten().tolist() == [3 * band, 3 * band + 1, 3 * band + 2]
        assert energy[3 * band + 1] == 4 * energy[3 * band]


def test_patches_in_channels() -> None:
    image, x = torch.randn(2, 3, 6, 8), clip(4)
    assert torch.equal(space_to_depth(image, 2), F.pixel_unshuffle(image, 2))
    assert torch.equal(depth_to_space(F.pixel_unshuffle(image, 2), 2), image)
    channels = space_to_depth(x, 2)
    assert channels.shape == (2, 24, 2, 3, 4)
    assert torch.equal(channels[:, 8 + 4 + 1], x[:, 1, 1::2, ::2, 1::2])  # channel 1, odd frames, even rows, odd columns
    assert torch.equal(depth_to_space(channels, 2), x)
