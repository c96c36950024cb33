"""Sound, depth maps, clips and features from NumPy files."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from visiontok.base.errors import ConfigError, DataError, SignalError
from visiontok.data import EvalLoader, LoaderConfig, TrainLoader, open_source, parse_source
from visiontok.data.arrays import ArraysConfig
from visiontok.signals import AudioPreprocessing, FeaturePreprocessing, ImagePreprocessing

SOUND = AudioPreprocessing(sample_rate=100, channels=2)


def sounds(count: int = 4) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.uniform(-1, 1, (2, 30 + 10 * number)).astype(np.float32) for number in range(count)]


def archive(path: Path, **changes: np.ndarray | None) -> Path:
    padded = np.stack([np.pad(sound, ((0, 0), (0, 60 - sound.shape[1]))) for sound in sounds()])
    arrays = {"signals": padded, "sizes": np.array([[30], [40], [50], [60]]), "labels": np.array([1, 0, -1, 1]), **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_an_archive_gives_signals_at_their_exact_sizes(tmp_path: Path) -> None:
    texts = {"captions": np.array(["a", "b", "c", "d"]), "keys": np.array(list("wxyz")), "class_names": np.array(["dog", "bird"])}
    source = open_source(f"arrays:audio:{archive(tmp_path / 's.npz', **texts)}")
    assert (len(source), source.modality, source.class_names) == (4, "audio", ("dog", "bird"))
    samples = [source.read(index) for index in range(4)]
    assert [(sample.key, sample.label, sample.caption) for sample in samples] == [("w", 1, "a"), ("x", 0, "b"), ("y", None, "c"), ("z", 1, "d")]
    for sample, sound in zip(samples, sounds(), strict=True):
        assert np.array_equal(sample.signal, sound)


def test_a_folder_gives_one_signal_per_file_and_classes(tmp_path: Path) -> None:
    for number, sound in enumerate(sounds()):
        path = tmp_path / ("b" if number % 2 else "a") / f"{number}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, sound)
    source = open_source(ArraysConfig(path=str(tmp_path), modality="audio"))
    assert [source.key(index) for index in range(4)] == ["a/0.npy", "a/2.npy", "b/1.npy", "b/3.npy"]
    assert [source.read(index).label for index in range(4)] == [0, 0, 1, 1]
    assert np.array_equal(source.read(1).signal, sounds()[2])
    (tmp_path / "a" / "0.npy").write_bytes((tmp_path / "a" / "0.npy").read_bytes()[:-7])
    with pytest.raises(SignalError, match=r"0\.npy"):
        source.read(0)


def test_identity_follows_the_contents(tmp_path: Path) -> None:
    first = open_source(f"arrays:audio:{archive(tmp_path / 'a.npz')}").identity
    assert open_source(f"arrays:audio:{archive(tmp_path / 'b.npz')}").identity == first
    assert open_source(f"arrays:audio:{archive(tmp_path / 'c.npz', labels=np.array([1, 0, 0, 1]))}").identity != first
    assert open_source(f"arrays:features:{tmp_path / 'a.npz'}").identity != first


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"signals": None}, "signals"),
        ({"signals": np.zeros((4, 60))}, r"\(4, 60\)"),
        ({"signals": np.zeros((0, 2, 60))}, r"\(0, 2, 60\)"),
        ({"sizes": np.array([[30], [40], [50], [61]])}, "sizes"),
        ({"sizes": np.array([[30], [0], [50], [60]])}, "sizes"),
        ({"sizes": np.array([30, 40, 50, 60])}, "sizes"),
        ({"labels": np.array([0.5, 1, 1, 1])}, "labels"),
        ({"labels": np.array([1])}, r"labels .* 4 signals"),
        ({"keys": np.array(["a", "a", "b", "c"])}, "keys"),
        ({"lables": np.array([1, 2, 3, 4])}, "lables"),
        ({"captions": np.array([{}] * 4, dtype=object)}, "captions"),
    ],
)
def test_wrong_archives_are_refused(tmp_path: Path, changes: dict[str, np.ndarray | None], named: str) -> None:
    with pytest.raises(DataError, match=named):
        open_source(f"arrays:audio:{archive(tmp_path / 's.npz', **changes)}")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"nothing")
    (tmp_path / "empty").mkdir()
    for path in ("x.npz", "gone.npz", "empty"):
        with pytest.raises(DataError, match=path):
            open_source(f"arrays:audio:{tmp_path / path}")
    assert parse_source("arrays:video:/x") == ArraysConfig(path="/x", modality="video")
    with pytest.raises(LookupError, match="smell"):
        parse_source("arrays:smell:/x")
    with pytest.raises(ConfigError, match="arrays:audio"):
        parse_source("arrays:audio")


def test_sounds_of_different_length_share_a_batch(tmp_path: Path) -> None:
    source = open_source(f"arrays:audio:{archive(tmp_path / 's.npz')}")
    (batch,) = EvalLoader(source, preprocessing=SOUND, batch_size=4)
    assert batch.signals.values.shape == (4, 2, 60)
    assert batch.signals.sizes.tolist() == [[30], [40], [50], [60]]
    assert all(np.array_equal(signal, sound) for signal, sound in zip(batch.signals, sounds(), strict=True))


def test_sounds_of_another_sampling_rate_are_resampled(tmp_path: Path) -> None:
    path = str(archive(tmp_path / "s.npz"))
    for rate, lengths in ((100, [30, 40, 50, 60]), (50, [60, 80, 100, 120])):
        (batch,) = EvalLoader(open_source(ArraysConfig(path=path, modality="audio", rate=rate)), preprocessing=SOUND, batch_size=4)
        assert batch.signals.sizes.flatten().tolist() == lengths
    with pytest.raises(DataError, match=r"50\.5"):
        list(EvalLoader(open_source(ArraysConfig(path=path, modality="audio", rate=50.5)), preprocessing=SOUND, batch_size=4))


def test_training_cuts_windows_that_follow_from_the_seed(tmp_path: Path) -> None:
    source = open_source(f"arrays:audio:{archive(tmp_path / 's.npz')}")
    config = LoaderConfig(batch_size=4, size=20, crop="random", shuffle=False, seed=1)
    batches = list(islice(TrainLoader(source, config, preprocessing=SOUND).batches(), 3))
    again = list(islice(TrainLoader(source, config, preprocessing=SOUND).batches(2), 1))
    assert torch.equal(again[0].signals.values, batches[2].signals.values)
    starts = set()
    for batch in batches:
        assert batch.signals.values.shape == (4, 2, 20)
        for signal, sound in zip(batch.signals, sounds(), strict=True):
            (start,) = (at for at in range(sound.shape[1] - 19) if np.array_equal(sound[:, at : at + 20], signal))
            starts.add(start)
    assert len(starts) > 5
    centered = next(TrainLoader(source, config.replace(crop="center"), preprocessing=SOUND).batches())
    assert np.array_equal(centered.signals.values[0], sounds()[0][:, 5:25])
    longer = next(TrainLoader(source, config.replace(size=45), preprocessing=SOUND).batches())
    assert longer.signals.sizes.flatten().tolist() == [30, 40, 45, 45]


def test_depth_maps_are_cut_and_mirrored(tmp_path: Path) -> None:
    depth = np.random.default_rng(0).uniform(0, 80, (3, 1, 12, 16)).astype(np.float32)
    np.savez(tmp_path / "d.npz", signals=depth)
    source = open_source(f"arrays:image:{tmp_path / 'd.npz'}")
    meters = ImagePreprocessing(channels=1, low=0, high=100)
    batch = next(TrainLoader(source, LoaderConfig(batch_size=30, size=8, flip=True, shuffle=False), preprocessing=meters).batches())
    middle = depth[:, :, 2:10, 4:12]
    expected = [middle[number % 3] for number in range(30)]
    mirrored = [np.array_equal(signal, own[:, :, ::-1]) for signal, own in zip(batch.signals, expected, strict=True)]
    plain = [np.array_equal(signal, own) for signal, own in zip(batch.signals, expected, strict=True)]
    assert 5 < sum(mirrored) < 25
    assert sum(mirrored) + sum(plain) == 30


@pytest.mark.parametrize("options", [{"flip": True}, {"permute_colors": True}, {"crop": "random_scale"}, {"size": (2, 20)}])
def test_augmentation_of_images_is_refused_for_sound(tmp_path: Path, options: dict[str, object]) -> None:
    source = open_source(f"arrays:audio:{archive(tmp_path / 's.npz')}")
    with pytest.raises(ConfigError, match="audio"):
        TrainLoader(source, LoaderConfig.parse({"batch_size": 2, **options}), preprocessing=SOUND)


def test_features_need_no_range(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(0, 30, (5, 7, 9)).astype(np.float64)
    np.savez(tmp_path / "f.npz", signals=features)
    (batch,) = EvalLoader(open_source(f"arrays:features:{tmp_path / 'f.npz'}"), preprocessing=FeaturePreprocessing(channels=7), batch_size=5)
    assert torch.equal(batch.signals.values, torch.from_numpy(features).float())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"signals": np.array([[["a"] * 60] * 2] * 4)}, "signals"),
        ({"labels": np.array(1)}, "labels"),
        ({"captions": np.array([b"a", b"b", b"c", b"d"])}, "captions"),
        ({"class_names": np.array([0, 1])}, "class_names"),
    ],
)
def test_arrays_of_other_kinds_are_refused(tmp_path: Path, changes: dict[str, np.ndarray], named: str) -> None:
    with pytest.raises(DataError, match=named):
        open_source(f"arrays:audio:{archive(tmp_path / 's.npz', **changes)}")


def test_arrays_of_another_byte_order_hold_the_same_values(tmp_path: Path) -> None:
    swapped = sounds()[0].astype(">f4")
    np.savez(tmp_path / "s.npz", signals=swapped[None])
    np.save(tmp_path / "s.npy", swapped)
    for source in (open_source(f"arrays:audio:{tmp_path / 's.npz'}"), open_source(ArraysConfig(path=str(tmp_path), modality="audio"))):
        assert np.array_equal(source.read(0).signal, sounds()[0])


@pytest.mark.parametrize("array", [np.array(["a"]), np.zeros((2, 0), np.float32), np.zeros((2, 4), np.complex64), np.zeros((2, 4), np.longdouble)])
def test_a_file_that_holds_no_sound_is_skipped(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    np.save(tmp_path / "b.npy", sounds()[0])
    (tmp_path / "c.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4',")
    loader = EvalLoader(open_source(ArraysConfig(path=str(tmp_path), modality="audio")), preprocessing=SOUND, batch_size=4)
    assert [key for batch in loader for key in batch.keys] == ["b.npy"]
    assert [skip.key for skip in loader.report.kept] == ["a.npy", "c.npy"]
