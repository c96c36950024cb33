"""A tokenizer of clips trains on cuts of clips and on images in turn, against discriminators of clips, with the guarantees of any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_children as children
from PIL import Image
from test_processes import assert_same_curve, assert_same_weights, curve
from test_resume import assert_equal, final_state

from visiontok.base.errors import ConfigError
from visiontok.data import LoaderConfig, TrainLoader, open_source
from visiontok.data.center_cut import CenterCut
from visiontok.data.joint_loader import JointLoader
from visiontok.data.moving_digits import MovingDigitsConfig
from visiontok.data.moving_shapes import MovingShapesConfig
from visiontok.signals import ImagePreprocessing, VideoPreprocessing
from visiontok.training import parse_recipe, train

SET = {"name": "moving-digits", "size": 16, "frames": 9, "num_samples": 24}
CONV_CLIP = {
    "image_size": 16,
    "num_frames": 5,
    "networks": {"channels": [8, 12], "downsampling": [[2, 2]]},
    "quantizer": {"type": "vq", "codebook_size": 16, "dim": 4, "ema": {"decay": 0.9}, "dead_code_reset": {"every_steps": 3}},
}
GAN = {
    "start_step": 1,
    "discriminator": {"type": "clip_vit", "vit": {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}},
    "discriminator_loss": "smoothed",
}
PREPROCESSING = VideoPreprocessing(frames=ImagePreprocessing(size=16, tensors_keep_size=True))


@pytest.fixture
def clip_recipe(tokenizer_recipe):
    """A function: a recipe with everything that has state, and changes to it."""

    def make(**changes: Any) -> dict[str, Any]:
        recipe = {
            "model": {"family": "conv-clip", "config": CONV_CLIP},
            "data": {"source": SET, "size": [5, 16, 16], "crop": "random", "frame_stride": [1, 2], "flip": True},
            "images": {"every": 3, "batch_size": 4, "data": {"source": "digits:train", "size": 16}},
            "objective": {"name": "reconstruction", "clip_gan": GAN},
            "accumulate": 1,
        }
        return tokenizer_recipe(**(recipe | changes))

    return make


def test_it_resumes_bit_for_bit(clip_recipe, tmp_path):
    common = {"schedule": {"steps": 7}, "accumulate": 2}
    children.run(clip_recipe(output=str(tmp_path / "whole"), steps=7, **common))
    children.run(clip_recipe(output=str(tmp_path / "parts"), steps=4, **common))
    children.run(clip_recipe(output=str(tmp_path / "parts"), steps=7, **common))
    assert_equal(final_state(tmp_path / "parts"), final_state(tmp_path / "whole"))
    lines = [line for line in curve(tmp_path / "whole") if "reconstruction" in line]
    assert ["clip_gan" in line for line in lines] == [False, True, False, True, True, False, True], "steps 3 and 6 are of images"
    assert ["clip_discriminator" in line for line in lines] == ["clip_gan" in line for line in lines]


def test_two_processes_train_it_as_one_does(clip_recipe, tmp_path):
    options = {"optimizer": {"lr": 1e-4}, "discriminator_optimizer": {"lr": 1e-4}, "steps": 5}
    children.run(clip_recipe(output=str(tmp_path / "one"), **options))
    assert_same_weights(children.run_ranks(clip_recipe(output=str(tmp_path / "two"), **options), tmp_path / "ranks"))
    assert_same_curve(curve(tmp_path / "two"), curve(tmp_path / "one"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"family": "titok", "config": {"image_size": 16, "num_latent_tokens": 4}}, "data": {"source": "digits"}}, "takes image"),
        ({"images": {"data": {"source": SET}}}, "source of video"),
        ({"images": {"batch_size": 3, "data": {"source": "digits"}}, "accumulate": 2}, "batch_size 3"),
        ({"data": {"source": SET, "frame_stride": [3, 2]}}, r"frame_stride \(3, 2\)"),
    ],
)
def test_what_has_no_meaning_is_refused(clip_recipe, changes, message):
    if "model" in changes:
        changes["model"]["config"] |= {part: {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8} for part in ("encoder", "decoder")}
        changes["model"]["config"]["quantizer"] = {"type": "vq", "codebook_size": 16, "dim": 4}
        changes["objective"] = {"name": "reconstruction"}
    with pytest.raises(ConfigError, match=message):
        train(parse_recipe(clip_recipe(**changes)), cpu=True)


def test_cuts_lie_at_a_stride_between_the_two_numbers() -> None:
    """Of clips whose frames are their numbers."""
    config = LoaderConfig(batch_size=30, size=(4, 16, 16), crop="random", frame_stride=(1, 3))  # type: ignore[arg-type]
    source = open_source(MovingDigitsConfig(size=16, frames=12, num_samples=30))
    found = set()
    batch = next(TrainLoader(source, config, preprocessing=PREPROCESSING).batches())
    for values, index in zip(batch.signals, batch.indices.tolist(), strict=True):
        whole = torch.from_numpy(source.read(index).signal.frames).permute(3, 0, 1, 2) / 255
        (match,) = [
            (start, stride)
            for stride in (1, 2, 3)
            for start in range(12 - 3 * stride)
            if torch.allclose(whole[:, start : start + 3 * stride + 1 : stride], values)
        ]
        found.add(match)
    assert {stride for _, stride in found} == {1, 2, 3}
    assert len({start for start, _ in found}) > 4


def test_a_stride_leaves_as_many_frames_as_a_short_clip_has() -> None:
    source = open_source(MovingDigitsConfig(size=16, frames=7, num_samples=2))
    for stride, size, expected in ((5, 4, 4), (2, 4, 4), (3, 9, 7), (2, None, 4)):
        config = LoaderConfig(batch_size=2, size=None if size is None else (size, 16, 16), frame_stride=stride)
        assert next(TrainLoader(source, config, preprocessing=PREPROCESSING).batches()).signals.values.shape[2] == expected


def test_frames_are_resized_to_the_size_of_training() -> None:
    source = open_source(MovingShapesConfig(size=64, frames=3, num_samples=2))
    config = LoaderConfig(batch_size=2, size=24)
    batch = next(TrainLoader(source, config, preprocessing=PREPROCESSING).batches())
    assert batch.signals.values.shape == (2, 3, 3, 24, 24)
    expected = VideoPreprocessing(frames=ImagePreprocessing(size=24))([source.read(index).signal for index in batch.indices.tolist()])
    assert torch.equal(batch.signals.values, expected.values)
    centered = CenterCut(source, config, preprocessing=PREPROCESSING)
    assert torch.equal(centered.read(int(batch.indices[0])).signal, expected.values[0])


def test_the_center_of_a_clip_is_cut_at_the_smallest_stride() -> None:
    source = open_source(MovingDigitsConfig(size=16, frames=11, num_samples=1))
    config = LoaderConfig(batch_size=1, size=(3, 16, 16), frame_stride=(2, 4))
    found = CenterCut(source, config, preprocessing=PREPROCESSING).read(0).signal
    assert np.array_equal((found * 255).round().to(torch.uint8).permute(1, 2, 3, 0).numpy(), source.read(0).signal.frames[3:8:2])


def test_images_and_clips_come_in_turn_from_wherever_a_run_is_taken_up() -> None:
    clips = TrainLoader(open_source(MovingDigitsConfig(size=16, frames=5, num_samples=10)), LoaderConfig(batch_size=4), preprocessing=PREPROCESSING)
    images = TrainLoader(open_source("digits"), LoaderConfig(batch_size=2, size=16), preprocessing=PREPROCESSING.frames)
    loader = JointLoader(clips, images, every=3)

    def taken(start: int, count: int) -> list[tuple[int, tuple[str, ...], tuple[int, ...]]]:
        batches = loader.batches(start)
        return [(batch.step, batch.keys, tuple(batch.signals.values.shape[2:])) for batch, _ in zip(batches, range(count), strict=False)]

    whole = taken(0, 9)
    assert [step for step, _, _ in whole] == list(range(9))
    assert [shape for _, _, shape in whole] == [(5, 16, 16), (5, 16, 16), (1, 16, 16)] * 3
    for start in range(1, 5):
        assert taken(start, 4) == whole[start : start + 4]
    assert len({key for _, keys, shape in whole if shape[0] == 5 for key in keys}) == 10, "every clip came"


def test_what_either_loader_could_not_use_is_reported(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    Image.new("RGB", (16, 16)).save(tmp_path / "c.png")
    clips = TrainLoader(open_source(MovingDigitsConfig(size=16, frames=3, num_samples=4)), LoaderConfig(batch_size=2), preprocessing=PREPROCESSING)
    images = TrainLoader(open_source(f"folder:{tmp_path}"), LoaderConfig(batch_size=3, size=16), preprocessing=PREPROCESSING.frames)
    loader = JointLoader(clips, images, every=2)
    batches = loader.batches()
    next(batches)
    assert len(loader.report) == 0
    next(batches)
    assert {skip.key for skip in loader.report.kept} == {"a.png", "b.png"}
