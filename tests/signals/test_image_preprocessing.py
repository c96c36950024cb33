"""From tensors, pictures and paths to a model's batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visiontok.base.errors import ConfigError, SignalError
from visiontok.signals import ImagePreprocessing


def picture(height: int = 30, width: int = 50) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([rows * 255 // height, columns * 255 // width, (rows * columns) % 256], axis=-1).astype(np.uint8))


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


def test_a_fitting_picture_passes_unchanged_from_every_source(tmp_path: Path) -> None:
    image = picture(16, 16)
    path = tmp_path / "picture.png"
    image.save(path)
    preprocess = ImagePreprocessing(size=16)
    expected = tensor(image)[None]
    for source in (image, np.asarray(image), path, str(path), path.read_bytes(), expected, expected[0], (expected[0] * 255).round().byte()):
        batch = preprocess(source)
        assert batch.dtype == torch.float32
        torch.testing.assert_close(batch, expected, atol=1e-6, rtol=0)


def test_the_shorter_side_is_resized_and_the_centre_cropped() -> None:
    image = picture(30, 50)
    expected = image.resize((20, 12), Image.Resampling.BICUBIC).crop((4, 0, 16, 12))
    assert torch.equal(ImagePreprocessing(size=12)(image)[0], tensor(expected))
    assert ImagePreprocessing(size=12)(picture(50, 30)).shape == (1, 3, 12, 12)
    nearly = ImagePreprocessing(size=12)(tensor(image))[0]
    assert (nearly - tensor(expected)).abs().max() < 0.02, "floats are resized like 8-bit values, up to rounding"


def test_enlarging_stays_in_range() -> None:
    checks = torch.eye(4).expand(3, 4, 4).contiguous()
    for signal in (checks, (checks * 255).byte()):
        batch = ImagePreprocessing(size=32)(signal)
        assert batch.shape == (1, 3, 32, 32)
        assert batch.min() >= 0
        assert batch.max() <= 1


def test_lists_are_batched_and_mixed_sources_allowed() -> None:
    preprocess = ImagePreprocessing(size=8)
    batch = preprocess([picture(), np.asarray(picture(20, 20)), torch.rand(3, 9, 11)])
    assert batch.shape == (3, 3, 8, 8)
    assert torch.equal(batch[0], preprocess(picture())[0])


def test_models_without_a_size_crop_to_their_stride() -> None:
    preprocess = ImagePreprocessing(multiple_of=8)
    image = picture(30, 50)
    assert torch.equal(preprocess(image)[0], tensor(image.crop((1, 3, 49, 27))))
    with pytest.raises(SignalError, match="stride of 8"):
        preprocess(picture(7, 50))
    with pytest.raises(SignalError, match="different sizes"):
        preprocess([picture(16, 16), picture(24, 24)])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(dtype: torch.dtype) -> None:
    assert ImagePreprocessing(size=4)(torch.rand(2, 3, 8, 8).to(dtype)).dtype == torch.float32


def test_gradients_reach_a_tensor() -> None:
    signal = torch.rand(1, 3, 8, 8, requires_grad=True)
    ImagePreprocessing(size=4)(signal).sum().backward()
    assert signal.grad is not None
    assert signal.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        ([], "no image"),
        (torch.rand(3, 3), r"item 0 has shape \(3, 3\)"),
        (torch.rand(2, 1, 8, 8), r"\(2, 1, 8, 8\); expected \(B, 3, H, W\)"),
        (torch.zeros(3, 0, 8), "no pixel"),
        (torch.zeros(0, 3, 8, 8), "no pixel"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "int64"),
        (torch.rand(3, 8, 8) * 2 - 1, r"\(x \+ 1\) / 2"),
        (torch.rand(3, 8, 8) * 255, "scale it first"),
        (torch.full((3, 8, 8), float("nan")), "NaN"),
        (torch.full((3, 8, 8), float("inf")), "inf"),
        ([picture(), 3], "item 1 is a int"),
        ("nowhere/picture.png", "no file nowhere/picture.png"),
        (np.zeros((1, 2, 3, 4), dtype=np.uint8), r"item 0 has shape \(1, 2, 3, 4\)"),
    ],
)
def test_what_cannot_be_taken_is_named(signal: object, message: str) -> None:
    with pytest.raises(SignalError, match=message):
        ImagePreprocessing(size=8)(signal)


def test_a_long_thin_picture_does_not_become_huge() -> None:
    with pytest.raises(SignalError, match="too long and thin"):
        ImagePreprocessing(size=256)(Image.new("RGB", (200_000, 2)))
    with pytest.raises(SignalError, match="too long and thin"):
        ImagePreprocessing(size=256)(torch.zeros(3, 2, 200_000))


def test_sizes_must_be_positive() -> None:
    for values in ({"size": 0}, {"multiple_of": 0}, {"interpolation": "nearest"}):
        with pytest.raises(ConfigError):
            ImagePreprocessing.parse(values)
