"""Square crops for training."""

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from visiontok.data.crops import CenterCrop, Crop, RandomCrop, RandomScaleCrop
from visiontok.signals import ImagePreprocessing


def coordinates(height: int, width: int) -> Image.Image:
    """Red tells the column, green the row."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([columns, rows, rows * 0], axis=-1).astype(np.uint8))


def crops(crop: Crop, image: Image.Image, size: int, count: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    resizing = ImagePreprocessing(size=size)
    prepared = crop.prepare(image, size, resizing)
    return [np.asarray(crop.cut(prepared, size, resizing, rng)).astype(int) for _ in range(count)]


@pytest.mark.parametrize("crop", [CenterCrop(), RandomCrop(), RandomScaleCrop(min_scale=0.1)])
@pytest.mark.parametrize("shape", [(8, 8), (40, 60), (61, 33), (16, 16), (16, 200)])
def test_every_crop_has_the_models_size(crop: Crop, shape: tuple[int, int]) -> None:
    assert all(cut.shape == (16, 16, 3) for cut in crops(crop, coordinates(*shape), 16, 5))


def test_the_center_is_that_of_evaluation() -> None:
    image = coordinates(41, 70)
    resizing = ImagePreprocessing(size=16)
    square = CenterCrop().prepare(image, 16, resizing)
    assert np.array_equal(np.asarray(square) / np.float32(255), resizing(image).values[0].permute(1, 2, 0).numpy())


def test_random_crops_reach_every_place_and_keep_the_scale() -> None:
    cuts = crops(RandomCrop(), coordinates(16, 40), 16, 200)
    assert {cut[0, 0, 0] for cut in cuts} == set(range(25))
    assert all(np.array_equal(np.diff(cut[0, :, 0]), np.ones(15)) for cut in cuts)


def test_random_scale_crops_vary_in_size_within_their_bounds() -> None:
    def widths(min_scale: float, side: int) -> list[int]:
        return [np.ptp(cut[:, :, 0]) for cut in crops(RandomScaleCrop(min_scale=min_scale), coordinates(200, 200), side, 200)]

    half = widths(0.5, 16)
    assert min(half) == pytest.approx(100, abs=16)
    assert max(half) == pytest.approx(200, abs=16)
    assert min(widths(0.01, 64)) == pytest.approx(63, abs=2), "the image is never enlarged"
    lefts = {cut[0, 0, 0] // 50 for cut in crops(RandomScaleCrop(min_scale=0.2), coordinates(200, 200), 16, 200)}
    assert {0, 1, 2} <= lefts


def test_a_recipe_names_a_crop_alone_or_with_options() -> None:
    adapter = TypeAdapter(Crop)
    assert adapter.validate_python("random") == RandomCrop()
    assert adapter.validate_python({"name": "random_scale", "min_scale": 0.3}) == RandomScaleCrop(min_scale=0.3)
    for wrong in ("zoom", {"name": "center", "min_scale": 0.3}, {"name": "random_scale", "min_scale": 0}):
        with pytest.raises(ValueError):
            adapter.validate_python(wrong)
