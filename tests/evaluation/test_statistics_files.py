import zipfile

import numpy as np
import pytest
import torch

from visiontok.base.errors import EvaluationError
from visiontok.evaluation import FunctionExtractor, frechet_distance
from visiontok.evaluation.features.statistics import Statistics, read_statistics, write_statistics
from visiontok.evaluation.metrics.entries.frechet import distance_of_sides
from visiontok.evaluation.metrics.moments import Moments

EXTRACTOR = FunctionExtractor(lambda images: images.float().mean(dim=(2, 3)), name="mean-color", identity="mean-color/1")


def statistics(count: int = 40, seed: int = 0) -> Statistics:
    moments = Moments()
    moments.update(np.random.default_rng(seed).normal(size=(count, 3)))
    return moments.compute()


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_round_trip(tmp_path, suffix):
    path = tmp_path / f"val{suffix}"
    write_statistics(path, statistics(), split="val", extractor="e")
    found = read_statistics(path)
    assert (found.count, found.split, found.extractor) == (40, "val", "e")
    rel = 1e-15 if suffix == ".npz" else 1e-6  # torch-fidelity's mean is float32
    np.testing.assert_allclose(found.mean, statistics().mean, rtol=rel)
    np.testing.assert_allclose(found.covariance, statistics().covariance, rtol=1e-15)


def test_the_npz_is_what_the_other_programs_read(tmp_path):
    write_statistics(tmp_path / "val.npz", statistics(), split="val", extractor="e", spatial=statistics(seed=1))
    with np.load(tmp_path / "val.npz") as archive:  # neither pytorch-fid nor clean-fid nor ADM allows pickles
        assert archive["mu"].shape == archive["mu_s"].shape == (3,)
        assert archive["sigma"].shape == archive["sigma_s"].shape == (3, 3)


def test_torch_fidelity_reads_ours_and_we_read_theirs(tmp_path):
    from torch_fidelity import metric_fid, utils_torch

    features = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    theirs = metric_fid.fid_features_to_statistics(features)
    utils_torch.torch_atomic_save(theirs, str(tmp_path / "theirs.pt"))
    found = read_statistics(tmp_path / "theirs.pt", count=50, split="val")
    np.testing.assert_array_equal(found.covariance, theirs["sigma"])
    write_statistics(tmp_path / "ours.pt", Statistics(found.mean, found.covariance, 50), split="val", extractor="e")
    ours = torch.load(tmp_path / "ours.pt", weights_only=False)
    assert metric_fid.fid_statistics_to_metric(ours, theirs, verbose=False)["frechet_inception_distance"] == pytest.approx(0, abs=1e-12)


def test_files_of_other_programs_lack_what_makes_a_number_comparable(tmp_path):
    path = tmp_path / "VIRTUAL_imagenet256_labeled.npz"
    np.savez(path, mu=np.zeros(3), sigma=np.eye(3), mu_s=np.zeros(2), sigma_s=np.eye(2), arr_0=np.zeros((2, 4, 4, 3), dtype=np.uint8))
    found = read_statistics(path)
    assert (found.count, found.split, found.extractor) == (None, "train", None)
    with pytest.raises(EvaluationError, match="says that its split is train, not val"):
        read_statistics(path, split="val")
    assert read_statistics(path, count=1_281_167).count == 1_281_167


def test_unreadable_files_are_errors(tmp_path):
    with pytest.raises(EvaluationError, match="there is no statistics file"):
        read_statistics(tmp_path / "absent.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "broken.pt").write_bytes(b"no checkpoint")
    for name in ("broken.npz", "broken.pt"):
        with pytest.raises(EvaluationError, match="not a readable statistics file"):
            read_statistics(tmp_path / name)
    np.savez(tmp_path / "other.npz", arr_0=np.zeros(3))
    with pytest.raises(EvaluationError, match="holds no 'mu'"):
        read_statistics(tmp_path / "other.npz")
    np.savez(tmp_path / "shapes.npz", mu=np.zeros(3), sigma=np.eye(2))
    with pytest.raises(EvaluationError, match=r"shape \(2, 2\)"):
        read_statistics(tmp_path / "shapes.npz")
    np.savez(tmp_path / "pickled.npz", mu=np.asarray([object()]), sigma=np.eye(2))
    assert zipfile.is_zipfile(tmp_path / "pickled.npz")
    with pytest.raises(EvaluationError, match="not a readable statistics file"):
        read_statistics(tmp_path / "pickled.npz")
    with pytest.raises(EvaluationError, match=r"as \.npz or \.pt"):
        write_statistics(tmp_path / "val.json", statistics(), split="val", extractor="e")


def reference(tmp_path, **changes):
    write_statistics(tmp_path / "s.npz", statistics(seed=1), split="val", extractor=EXTRACTOR.identity)
    found = read_statistics(tmp_path / "s.npz")
    return type(found)(**{**found.__dict__, **changes})


def test_the_distance_to_a_file_is_the_distance(tmp_path):
    a, b = statistics(), statistics(seed=1)
    value = distance_of_sides(a, reference(tmp_path), extractor=EXTRACTOR, are_reconstructions=True)
    assert EXTRACTOR.title(value.key) == "FD[mean-color]"
    assert value.value == pytest.approx(frechet_distance(a.mean, a.covariance, b.mean, b.covariance), rel=1e-12)
    assert value.value == distance_of_sides(a, b, extractor=EXTRACTOR, reference_side="here").value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "train"}, "training set"),
        ({"split": None}, "split"),
        ({"count": None}, "its N"),
        ({"count": 50}, "40 samples were given against a reference of 50"),
        ({"extractor": "another"}, "made by another extractor"),
    ],
)
def test_reconstructions_are_refused_against_the_wrong_reference(tmp_path, changes, message):
    with pytest.raises(EvaluationError, match=message):
        distance_of_sides(statistics(), reference(tmp_path, **changes), extractor=EXTRACTOR, are_reconstructions=True)


def test_generated_samples_take_training_statistics(tmp_path):
    train = reference(tmp_path, split="train", count=None, extractor=None)
    assert distance_of_sides(statistics(), train, extractor=EXTRACTOR).count == 40
    with pytest.raises(EvaluationError, match="3 samples cannot estimate the covariance of the 3 features"):
        distance_of_sides(statistics(3), train, extractor=EXTRACTOR, are_reconstructions=False)
