"""From tensors, images and paths to a model's batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visiontok.base.errors import ConfigError, SignalError
from visiontok.signals import ImagePreprocessing


def example(height: int = 30, width: int = 50) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([rows * 255 // height, columns * 255 // width, (rows * columns) % 256], axis=-1).astype(np.uint8))


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


def test_a_fitting_image_passes_unchanged_from_every_source(tmp_path: Path) -> None:
    image = example(16, 16)
    path = tmp_path / "image.png"
    image.save(path)
    preprocess = ImagePreprocessing(size=16)
    expected = tensor(image)[None]
    for source in (image, np.asarray(image), path, str(path), path.read_bytes(), expected, expected[0], (expected[0] * 255).round().byte()):
        values = preprocess(source).values
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, expected, atol=1e-6, rtol=0)


def test_the_shorter_side_is_resized_and_the_center_cropped() -> None:
    image = example(30, 50)
    expected = image.resize((20, 12), Image.Resampling.BICUBIC).crop((4, 0, 16, 12))
    assert torch.equal(ImagePreprocessing(size=12)(image).values[0], tensor(expected))
    assert ImagePreprocessing(size=12)(example(50, 30)).values.shape == (1, 3, 12, 12)
    nearly = ImagePreprocessing(size=12)(tensor(image)).values[0]
    assert (nearly - tensor(expected)).abs().max() < 0.02, "floats are resized like 8-bit values, up to rounding"


def test_both_sides_are_resized() -> None:
    stretch = ImagePreprocessing(size=12, fit="stretch")
    for image in (example(30, 50), example(12, 40), example(5, 3)):
        expected = tensor(image.resize((12, 12), Image.Resampling.BICUBIC))
        assert torch.equal(stretch(image).values[0], expected)
        assert (stretch(tensor(image)).values[0] - expected).abs().max() < 0.02
    assert torch.equal(stretch(example(12, 12)).values[0], tensor(example(12, 12)))
    assert stretch(Image.new("RGB", (200_000, 2))).values.shape == (1, 3, 12, 12)
    assert "both sides" in stretch.in_words


def test_enlarging_stays_in_range() -> None:
    checks = torch.eye(4).expand(3, 4, 4).contiguous()
    for signal in (checks, (checks * 255).byte()):
        values = ImagePreprocessing(size=32)(signal).values
        assert values.shape == (1, 3, 32, 32)
        assert values.min() >= 0
        assert values.max() <= 1


def test_lists_are_batched_and_mixed_sources_allowed() -> None:
    preprocess = ImagePreprocessing(size=8)
    batch = preprocess([example(), np.asarray(example(20, 20)), torch.rand(3, 9, 11)])
    assert batch.values.shape == (3, 3, 8, 8)
    assert torch.equal(batch.values[0], preprocess(example()).values[0])


def test_models_without_a_size_take_every_size_and_pad_it() -> None:
    preprocess = ImagePreprocessing(multiple_of=8)
    image = example(30, 50)
    batch = preprocess([image, example(7, 50)])
    assert batch.sizes.tolist() == [[30, 50], [7, 50]]
    assert torch.equal(next(iter(batch)), tensor(image))
    padded = preprocess.pad(tensor(image)[None])
    assert padded.shape == (1, 3, 32, 56)
    assert torch.equal(padded[..., :30, :50], tensor(image)[None])
    assert torch.equal(padded[..., 30:, :50], padded[..., 29:30, :50].expand(-1, -1, 2, -1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(dtype: torch.dtype) -> None:
    assert ImagePreprocessing(size=4)(torch.rand(2, 3, 8, 8).to(dtype)).values.dtype == torch.float32


def test_gradients_reach_a_tensor() -> None:
    signal = torch.rand(1, 3, 8, 8, requires_grad=True)
    ImagePreprocessing(size=4)(signal).values.sum().backward()
    assert signal.grad is not None
    assert signal.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        ([], "signal"),
        (torch.rand(3, 3), r"item 0 has shape \(3, 3\)"),
        (torch.rand(2, 1, 8, 8), r"\(2, 1, 8, 8\)"),
        (torch.zeros(3, 0, 8), "0, 8"),
        (torch.zeros(0, 3, 8, 8), r"\(0, 3, 8, 8\)"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "int64"),
        (torch.rand(3, 8, 8) * 2 - 1, "item 0"),
        (torch.rand(3, 8, 8) * 255, "item 0"),
        (torch.full((3, 8, 8), float("nan")), "NaN"),
        (torch.full((3, 8, 8), float("inf")), "inf"),
        ([example(), 3], "item 1"),
        ("nowhere/image.png", "nowhere/image.png"),
        (np.zeros((1, 2, 3, 4), dtype=np.uint8), r"item 0 has shape \(1, 2, 3, 4\)"),
    ],
)
def test_what_cannot_be_taken_is_named(signal: object, message: str) -> None:
    with pytest.raises(SignalError, match=message):
        ImagePreprocessing(size=8)(signal)


def test_a_long_thin_image_does_not_become_huge() -> None:
    with pytest.raises(SignalError, match="200000"):
        ImagePreprocessing(size=256)(Image.new("RGB", (200_000, 2)))
    with pytest.raises(SignalError, match="200000"):
        ImagePreprocessing(size=256)(torch.zeros(3, 2, 200_000))


def test_sizes_must_be_positive() -> None:
    for values in ({"size": 0}, {"multiple_of": 0}, {"interpolation": "nearest"}):
        with pytest.raises(ConfigError):
            ImagePreprocessing.parse(values)
