"""The built-in sets: digits, photographs and shapes."""

import numpy as np
import pytest

from visiontok.base.errors import ConfigError, DataError
from visiontok.data import open_source
from visiontok.data import photos as photos_module
from visiontok.data.digits import DigitsConfig
from visiontok.data.photos import PhotosConfig
from visiontok.data.shapes import COLORS, KINDS, Scene, Shape, ShapesConfig, ShapesSource, draw_scene


@pytest.mark.parametrize("name", ["digits:train", "digits:test", "photos:heldout", "shapes:test"])
def test_samples_and_identity_are_the_same_every_time(name: str) -> None:
    first, second = open_source(name), open_source(name)
    assert first.identity == second.identity
    for index in (0, len(first) - 1):
        one, other = first.read(index), second.read(index)
        assert one.key == other.key == first.key(index)
        assert (one.label, one.caption) == (other.label, other.caption)
        assert np.array_equal(one.image, other.image)
        assert one.image.mode == "RGB"


def test_identities_tell_sets_apart() -> None:
    names = ["digits:train", "digits:test", "photos:train", "photos:all", "shapes:train", "shapes:test"]
    sources = [open_source(name) for name in names]
    sources += [
        open_source(ShapesConfig(seed=1)),
        open_source(ShapesConfig(size=32)),
        open_source(ShapesConfig(cells=4)),
        open_source(PhotosConfig(textures=True)),
    ]
    assert len({source.identity for source in sources}) == len(sources)


def test_digits_are_split_evenly_and_without_overlap() -> None:
    train, test, both = (open_source(f"digits:{split}") for split in ("train", "test", "all"))
    assert (len(train), len(test), len(both)) == (1442, 355, 1797)
    keys = [{source.key(index) for index in range(len(source))} for source in (train, test, both)]
    assert not keys[0] & keys[1]
    assert keys[0] | keys[1] == keys[2]
    counts = np.bincount([test.read(index).label for index in range(len(test))])
    assert counts.min() >= 34
    assert counts.max() <= 36
    assert train.class_names == tuple("0123456789")


def test_digits_are_the_scans() -> None:
    from sklearn.datasets import load_digits

    scans, source = load_digits(), open_source(DigitsConfig(split="all"))
    for index in (0, 5, 1796):
        pixels = np.asarray(source.read(index).signal)
        assert pixels.shape == (8, 8, 3)
        assert np.abs(pixels / 255 * 16 - scans.images[index][..., None]).max() < 0.05
        assert source.read(index).label == scans.target[index]


def test_photos_are_split_by_name() -> None:
    train, heldout, both = (open_source(f"photos:{split}") for split in ("train", "heldout", "all"))
    names = [[source.key(index) for index in range(len(source))] for source in (train, heldout, both)]
    assert names[1] == ["camera", "chelsea", "china", "coffee"]
    assert len(names[0]) == 12
    assert sorted(names[0] + names[1]) == names[2]
    assert not train.skipped
    for source in (train, heldout):
        for index in range(len(source)):
            assert min(source.read(index).signal.size) >= 172
    with_textures = open_source(PhotosConfig(textures=True))
    assert len(with_textures) == 15
    assert open_source(PhotosConfig(split="heldout", textures=True)).identity == heldout.identity, "textures are never held out"


def test_a_photograph_that_is_not_installed_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(photos_module._HELDOUT, "zebra", ("skimage", "data", "zebra.png"))
    source = open_source("photos:heldout")
    assert len(source) == 4
    assert [skip.key for skip in source.skipped] == ["zebra"]
    assert "zebra.png is not installed" in source.skipped[0].reason
    monkeypatch.setattr(photos_module, "_HELDOUT", {"zebra": ("no_such_package", "data", "zebra.png")})
    with pytest.raises(DataError, match="no_such_package"):
        open_source("photos:heldout")


def test_shapes_are_labelled_exactly() -> None:
    source = ShapesSource(ShapesConfig(size=48, num_samples=200, max_objects=4))
    counts = set()
    for index in range(60):
        scene, sample = source.scene(index), source.read(index)
        counts.add(len(scene.shapes))
        assert sample.objects == len(scene.shapes)
        main = max(scene.shapes, key=lambda shape: shape.radius)
        assert source.class_names[sample.label] == f"{main.color} {main.kind}"
        assert sample.caption == " and ".join(f"a {shape.color} {shape.kind}" for shape in scene.shapes)
        pixels = np.asarray(sample.signal)
        for shape in scene.shapes:
            reach = 0.75 * shape.radius if shape.kind == "ring" else 0.0  # a ring has a hole
            assert tuple(pixels[int(shape.y), int(shape.x + reach)]) == COLORS[shape.color]
            assert shape.radius < shape.x < 48 - shape.radius
            assert shape.radius < shape.y < 48 - shape.radius
    assert counts == {1, 2, 3, 4}
    assert len(source.class_names) == len(KINDS) * len(COLORS) == 30


def test_shapes_in_cells_are_alike_in_size_and_stay_inside() -> None:
    source = ShapesSource(ShapesConfig(size=24, max_objects=9, cells=3, num_samples=80))
    counts = set()
    for index in range(80):
        scene, sample = source.scene(index), source.read(index)
        counts.add(sample.objects)
        assert sample.objects == len(scene.shapes) == len({(shape.x, shape.y) for shape in scene.shapes})
        radii = [shape.radius for shape in scene.shapes]
        assert radii == sorted(radii, reverse=True)
        assert 0.8 * 3.5 <= radii[-1] <= radii[0] <= 3.5
        pixels = np.asarray(sample.signal)
        taken = {(int(shape.y) // 8, int(shape.x) // 8) for shape in scene.shapes}
        for row, column in np.ndindex(3, 3):
            cell = pixels[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
            assert ((row, column) in taken) == (cell != scene.background).any()
    assert counts == set(range(1, 10))


@pytest.mark.parametrize(("kind", "area"), [("circle", np.pi), ("square", 2.0), ("triangle", 3 * 3**0.5 / 4), ("cross", 2.0), ("ring", 0.75 * np.pi)])
def test_outlines_are_smooth_and_cover_the_right_area(kind: str, area: float) -> None:
    radius = 40.0
    pixels = draw_scene(Scene(255, (Shape(kind, "red", 50.3, 49.6, radius, 0.4),)), 100).astype(float)
    covered = (255 - pixels[..., 2]) / (255 - COLORS["red"][2])
    assert covered.sum() == pytest.approx(area * radius**2, rel=0.01)
    assert ((covered > 0.1) & (covered < 0.9)).sum() > radius


def test_train_and_test_shapes_differ_and_a_longer_set_begins_with_a_shorter_one() -> None:
    train, test = open_source("shapes:train"), open_source("shapes:test")
    short = open_source(ShapesConfig(num_samples=3))
    assert train.scene(0) != test.scene(0)
    assert all(short.scene(index) == train.scene(index) for index in range(3))
    assert len(short) == 3


def test_contradictory_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match="min_objects 4 exceeds max_objects 2"):
        ShapesConfig.parse({"min_objects": 4, "max_objects": 2})
    with pytest.raises(ConfigError, match="max_objects 5 exceeds the 4 cells of a grid with side 2"):
        ShapesConfig.parse({"max_objects": 5, "cells": 2})
    with pytest.raises(ConfigError, match="5 cells beside each other need 20 pixels at least, and size is 16"):
        ShapesConfig.parse({"size": 16, "cells": 5})
