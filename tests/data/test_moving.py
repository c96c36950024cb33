"""The built-in clips move as their descriptions say, by what is measured in their pixels."""

from __future__ import annotations

from math import hypot, pi

import numpy as np
import pytest

from visiontok.base.errors import ConfigError
from visiontok.data import DataConfig, open_source
from visiontok.data.moving import Motion
from visiontok.data.moving_digits import MovingDigitsConfig, MovingDigitsSource
from visiontok.data.moving_shapes import MovingScene, MovingShape, MovingShapesConfig, MovingShapesSource
from visiontok.data.shapes import COLORS
from visiontok.signals import VideoPreprocessing
from visiontok.signals.image import ImagePreprocessing

STILL = Motion(0.5, 0.5, 0.0, 0.0, 0.3)


def shape(**changes: object) -> MovingShape:
    return MovingShape(
        **{  # type: ignore[arg-type]
            **{"kind": "square", "color": "red", "motion": STILL, "angle": 0.0, "turn": 0.0},
            **{"radius": 0.2, "pulse": 0.0, "pulse_rate": 1.0, "phase": 0.0},
            **changes,
        }
    )


def center(frame: np.ndarray, background: float) -> tuple[float, float]:
    """x and y in sides, of what differs from the background."""
    weights = np.abs(frame.astype(float).mean(axis=-1) - background)
    places = (np.arange(len(frame)) + 0.5) / len(frame)
    return float(weights.sum(axis=0) @ places / weights.sum()), float(weights.sum(axis=1) @ places / weights.sum())


@pytest.mark.parametrize("name", ["moving-digits", "moving-shapes"])
def test_clips_follow_from_their_index(name: str) -> None:
    first, second = open_source(f"{name}:test"), open_source(f"{name}:test")
    for index in (0, 7):
        one, other = first.read(index), second.read(index)
        assert one.key == other.key == first.key(index) == f"{name}-test-{index:06d}"
        assert np.array_equal(one.signal.frames, other.signal.frames)
        assert one.signal.frames.shape == (17, 64, 64, 3)
        assert (one.label, one.caption, one.objects) == (other.label, other.caption, other.objects)
        assert not np.array_equal(one.signal.frames, open_source(name).read(index).signal.frames)
        assert one.signal.rate == 8
    assert first.identity == second.identity
    assert first.modality == "video"


def test_identities_tell_sets_apart() -> None:
    changes = [{}, {"split": "test"}, {"size": 32}, {"frames": 9}, {"fps": 4}, {"seed": 1}, {"max_objects": 1}, {"max_speed": 1.0}, {"lattice": 8}]
    configs: list[DataConfig] = [kind.parse(change) for kind in (MovingDigitsConfig, MovingShapesConfig) for change in changes]  # type: ignore[misc]
    assert len({open_source(config).identity for config in configs}) == len(configs)


@pytest.mark.parametrize("kind", [MovingDigitsConfig, MovingShapesConfig])
def test_rate_size_and_length_show_the_same_clip(kind: type[MovingDigitsConfig | MovingShapesConfig]) -> None:
    usual, faster = open_source(kind(frames=9, fps=8)), open_source(kind(frames=17, fps=16))
    larger, longer = open_source(kind(size=128, frames=9)), open_source(kind(frames=30))
    for index in range(3):
        clip = usual.read(index).signal.frames
        assert np.array_equal(clip, faster.read(index).signal.frames[::2])
        assert np.array_equal(clip, longer.read(index).signal.frames[:9])
        halved = larger.read(index).signal.frames.astype(float).reshape(9, 64, 2, 64, 2, 3).mean(axis=(2, 4))
        assert np.abs(halved - clip).mean() < 3


def test_a_long_clip_comes_in_parts() -> None:
    source = open_source(MovingDigitsConfig(frames=50, size=32))
    assert isinstance(source, MovingDigitsSource)
    parts = list(source.stream(4, chunk=16))
    assert [len(part) for part in parts] == [16, 16, 16, 2]
    assert np.array_equal(np.concatenate(parts), source.read(4).signal.frames)
    endless = open_source(MovingShapesConfig(frames=10**9, size=32))
    assert isinstance(endless, MovingShapesSource)
    assert len(next(endless.stream(0, chunk=4))) == 4


def test_motions_are_even_and_bounce_within_the_borders() -> None:
    motion = Motion(0.3, 0.6, 0.5, -0.25, 0.2)
    assert motion.direction == "up and right"
    for seconds, expected in [(0.0, (0.3, 0.6)), (0.4, (0.5, 0.5)), (1.0, (0.8, 0.35)), (1.2, (0.7, 0.3)), (2.2, (0.2, 0.35)), (2.4, (0.3, 0.4))]:
        assert motion.at(seconds) == pytest.approx(expected), seconds
    path = np.array([motion.at(seconds) for seconds in np.linspace(0, 100, 5001)])
    assert path.min() >= 0.2 - 1e-9
    assert path.max() <= 0.8 + 1e-9
    speeds = np.abs(np.diff(path, axis=0)) / 0.02
    assert np.quantile(speeds, 0.9, axis=0) == pytest.approx([0.5, 0.25])


@pytest.mark.parametrize("kind", [MovingDigitsConfig, MovingShapesConfig])
def test_on_a_lattice_things_go_from_point_to_point_along_rows_or_columns(kind: type[MovingDigitsConfig | MovingShapesConfig]) -> None:
    source, turns = open_source(kind.parse({"lattice": 16, "min_speed": 0.25, "max_speed": 0.25})), set()
    assert isinstance(source, MovingDigitsSource | MovingShapesSource)
    for index in range(40):
        scene = source.scene(index)
        for thing in scene.shapes if isinstance(scene, MovingScene) else scene:
            motion = thing.motion
            turns.add((np.sign(motion.vx), np.sign(motion.vy)))
            places = np.array([motion.at(step / 4) for step in range(100)]) * 16
            assert places == pytest.approx(places.round())
            assert np.abs(np.diff(places, axis=0)).sum(axis=1) == pytest.approx(np.ones(99))
            assert places.min() >= 16 * motion.margin - 1e-9
            assert places.max() <= 16 * (1 - motion.margin) + 1e-9
    assert turns == {(1, 0), (0, 1), (-1, 0), (0, -1)}


@pytest.mark.parametrize(("kind", "coarse"), [(MovingDigitsConfig, {2}), (MovingShapesConfig, {2, 4})])
def test_a_lattice_that_is_too_coarse_is_refused(kind: type[MovingDigitsConfig | MovingShapesConfig], coarse: set[int]) -> None:
    for lattice in range(2, 9):
        if lattice in coarse:
            with pytest.raises(ConfigError, match=f"lattice {lattice} has no two points"):
                kind.parse({"lattice": lattice})
        else:
            source = open_source(kind.parse({"lattice": lattice}))
            assert isinstance(source, MovingDigitsSource | MovingShapesSource)
            for index in range(100):
                source.scene(index)


def test_digits_are_where_their_motions_say() -> None:
    source = MovingDigitsSource(MovingDigitsConfig(min_objects=1, max_objects=1, frames=40, fps=10, min_speed=0.3, max_speed=0.6))
    for index in range(40):
        (digit,) = source.scene(index)
        sample = source.read(index)
        assert sample.label == digit.digit
        assert sample.caption == f"a {digit.digit} moving {digit.motion.direction}"
        assert sample.objects == 1
        assert 0.3 <= hypot(digit.motion.vx, digit.motion.vy) <= 0.6
        offsets = [np.subtract(center(frame, 0), digit.motion.at(number / 10)) for number, frame in enumerate(sample.signal.frames)]
        assert np.std(offsets, axis=0).max() < 0.003, "the scan keeps its place in the moving square"
        assert np.abs(offsets).max() < 0.1
    assert {source.scene(index)[0].digit for index in range(200)} == set(range(10))


def test_digits_of_the_splits_are_different_scans() -> None:
    still = {"frames": 1, "max_objects": 1, "size": 128}
    train, test = (MovingDigitsSource(MovingDigitsConfig(split=split, **still)) for split in ("train", "test"))  # type: ignore[arg-type]
    assert {scene[0].scan for scene in map(test.scene, range(500))} <= set(range(355))
    assert max(scene[0].scan for scene in map(train.scene, range(500))) > 355


def test_two_digits_are_both_seen() -> None:
    source = MovingDigitsSource(MovingDigitsConfig(min_objects=2, max_objects=2))
    for index in range(5):
        scene = source.scene(index)
        assert scene[0].side >= scene[1].side
        assert source.contents(scene).label == scene[0].digit
        one, other = (source.draw((each,), 0.7) for each in scene)
        assert np.array_equal(source.draw(scene, 0.7), np.maximum(one, other))


def test_shapes_are_where_their_motions_say_in_their_colors() -> None:
    source = MovingShapesSource(MovingShapesConfig(min_objects=1, max_objects=3, frames=12))
    counts = set()
    for index in range(30):
        scene, sample = source.scene(index), source.read(index)
        counts.add(sample.objects)
        main = max(scene.shapes, key=lambda each: each.radius)
        assert source.class_names[sample.label or 0] == f"{main.color} {main.kind}"
        assert sample.caption == " and ".join(f"a {each.color} {each.kind} moving {each.motion.direction}" for each in scene.shapes)
        front = scene.shapes[-1]
        for number, frame in enumerate(sample.signal.frames):
            now = front.at(number / 8, size=64)
            assert now.radius <= now.x <= 64 - now.radius
            if front.kind != "ring":
                assert tuple(frame[int(now.y), int(now.x)]) == COLORS[front.color]
    assert counts == {1, 2, 3}


def test_shapes_turn_grow_and_shrink_as_they_say() -> None:
    source = MovingShapesSource(MovingShapesConfig(size=128))
    pulsing = MovingScene(255, (shape(pulse=0.25, pulse_rate=0.5),))
    red = [(255 - source.draw(pulsing, seconds)[..., 2].astype(float)).sum() / (255 - COLORS["red"][2]) for seconds in (0.0, 0.5, 1.5)]
    assert red == pytest.approx([2 * (0.2 * (1 + pulse) * 128) ** 2 for pulse in (0, 0.25, -0.25)], rel=0.01)
    turning = MovingScene(255, (shape(kind="triangle", turn=pi / 2),))
    start, quarter = source.draw(turning, 0.0), source.draw(turning, 1.0)
    assert not np.array_equal(start, quarter)
    assert np.array_equal(np.rot90(start, k=-1), quarter), "clockwise"


def test_the_model_reads_them() -> None:
    clips = [open_source(name).read(0).signal for name in ("moving-digits", "moving-shapes")]
    batch = VideoPreprocessing(frames=ImagePreprocessing(size=32))(clips)
    assert batch.values.shape == (2, 3, 17, 32, 32)


def test_contradictory_clips_are_refused() -> None:
    with pytest.raises(ConfigError, match="min_objects 3 exceeds max_objects 2"):
        MovingDigitsConfig.parse({"min_objects": 3})
    with pytest.raises(ConfigError, match=r"min_speed 2\.0 exceeds max_speed 0\.8"):
        MovingShapesConfig.parse({"min_speed": 2})
