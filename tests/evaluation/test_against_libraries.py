"""Our numbers beside those of the libraries in common use, on random data."""

import inspect

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from visiontok.evaluation import frechet_distance
from visiontok.evaluation.features.inception import InceptionV3Compat
from visiontok.evaluation.features.inception_network import InceptionNetwork
from visiontok.evaluation.features.protocol import resize_for_inception
from visiontok.evaluation.features.statistics import Statistics
from visiontok.evaluation.features.weight_files import LoadedWeights
from visiontok.evaluation.metrics.fidelity import mse, psnr, psnr_from_mse
from visiontok.evaluation.metrics.inception_score import inception_score
from visiontok.evaluation.metrics.manifold import manifold_scores
from visiontok.evaluation.metrics.mmd import kernel_distance
from visiontok.evaluation.metrics.moments import Moments
from visiontok.evaluation.metrics.ssim import ms_ssim, ssim


def random_images(count: int = 3, side: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = np.random.default_rng(seed)
    first = draw.integers(0, 256, (count, 3, side, side + 7))
    second = np.clip(first + draw.integers(-30, 31, first.shape), 0, 255)
    return torch.from_numpy(first.astype(np.uint8)), torch.from_numpy(second.astype(np.uint8))


def features(seed: int, count: int = 90, width: int = 8) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(count, width)) @ draw.normal(size=(width, width)) + 0.2 * seed


def statistics(values: np.ndarray) -> Statistics:
    moments = Moments()
    moments.update(values)
    return moments.compute()


def distance(a: np.ndarray, b: np.ndarray) -> float:
    first, second = statistics(a), statistics(b)
    return frechet_distance(first.mean, first.covariance, second.mean, second.covariance)


def test_scikit_image():
    reference, reconstruction = random_images()
    pairs = list(zip(*(images.permute(0, 2, 3, 1).numpy() for images in (reference, reconstruction)), strict=True))
    expected = [peak_signal_noise_ratio(*pair, data_range=255) for pair in pairs]
    np.testing.assert_allclose(psnr(reference, reconstruction, data_range=255), expected, rtol=1e-12)
    canonical = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255, "channel_axis": 2}
    expected = [structural_similarity(*pair, **canonical) for pair in pairs]
    np.testing.assert_allclose(ssim(reference, reconstruction, data_range=255), expected, atol=1e-6)


def test_torchmetrics_images():
    from torchmetrics.functional import image

    reference, reconstruction = ((images / 255).double() for images in random_images())
    each = image.peak_signal_noise_ratio(reconstruction, reference, data_range=1.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(psnr(reference, reconstruction, data_range=1), each)
    pooled = image.peak_signal_noise_ratio(reconstruction, reference, data_range=1.0)
    torch.testing.assert_close(psnr_from_mse(mse(reference, reconstruction).mean(), data_range=1), pooled)


def test_torchmetrics_similarity():
    """Its mean takes in windows over a reflected border, which its multi-scale form does too, at the last scale."""
    from torchmetrics.functional import image

    reference, reconstruction = ((images / 255).double() for images in random_images())
    mean, everywhere = image.structural_similarity_index_measure(reconstruction, reference, data_range=1.0, reduction="none", return_full_image=True)
    whole_windows = everywhere[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))
    ours = ssim(reference, reconstruction, data_range=1)
    torch.testing.assert_close(ours, whole_windows, rtol=1e-6, atol=1e-8)
    assert not torch.allclose(ours, mean, atol=1e-4)


def test_pytorch_msssim():
    import pytorch_msssim as library

    reference, reconstruction = (images.float() for images in random_images(2, side=164))
    torch.testing.assert_close(ssim(reference, reconstruction, data_range=255).float(), library.ssim(reference, reconstruction, size_average=False))
    expected = library.ms_ssim(reference, reconstruction, size_average=False)
    torch.testing.assert_close(ms_ssim(reference, reconstruction, data_range=255).float(), expected, rtol=1e-4, atol=1e-5)


def test_torchmetrics_distances():
    from torchmetrics.image import fid

    a, b = features(0), features(1)
    sides = (torch.from_numpy(value) for side in (statistics(a), statistics(b)) for value in (side.mean, side.covariance))
    assert distance(a, b) == pytest.approx(float(fid._compute_fid(*sides)), rel=1e-8)


def test_torchmetrics_kernel_distance():
    from torchmetrics.image import kid

    a, b = (torch.from_numpy(features(seed)) for seed in (0, 1))
    mean, deviation = kernel_distance(a, b, subsets=1, subset_size=len(a))  # one subset that holds everything
    assert mean == pytest.approx(float(kid.poly_mmd(a, b)), rel=1e-9)
    assert deviation == 0


def test_torchmetrics_inception_score():
    from torchmetrics.image import inception as library

    logits = torch.from_numpy(3 * features(0, width=20))
    theirs = library.InceptionScore(feature=torch.nn.Identity(), splits=1)  # more are drawn at random there
    theirs.update(logits)
    assert inception_score(logits, splits=1)[0] == pytest.approx(float(theirs.compute()[0]), rel=1e-6)


def test_clean_fid_distances(monkeypatch):
    import scipy.linalg
    from cleanfid import fid

    if "disp" not in inspect.signature(scipy.linalg.sqrtm).parameters:  # newer scipy returns the root alone, which clean-fid does not know
        root = scipy.linalg.sqrtm
        monkeypatch.setattr(scipy.linalg, "sqrtm", lambda matrix, disp: (root(matrix), 0.0))
    a, b = features(0), features(1)
    first, second = statistics(a), statistics(b)
    expected = fid.frechet_distance(first.mean, first.covariance, second.mean, second.covariance)
    assert distance(a, b) == pytest.approx(expected, rel=1e-8)
    mean, _ = kernel_distance(torch.from_numpy(a), torch.from_numpy(b), subsets=1, subset_size=len(a))
    assert mean == pytest.approx(fid.kernel_distance(a, b, num_subsets=3), rel=1e-9)


def test_torch_fidelity_distances():
    from torch_fidelity import metric_fid as fid

    a, b = (torch.from_numpy(features(seed)) for seed in (0, 1))
    expected = fid.fid_statistics_to_metric(*(fid.fid_features_to_statistics(side) for side in (a, b)), verbose=False)
    assert distance(a.numpy(), b.numpy()) == pytest.approx(expected["frechet_inception_distance"], rel=1e-9)

    from torch_fidelity import metric_kid as kid

    expected = kid.kid_features_to_metric(a, b, kid_subsets=10, kid_subset_size=40, verbose=False)
    mean, deviation = kernel_distance(a, b, subsets=10, subset_size=40)
    assert mean == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-9)
    assert deviation == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-9)

    from torch_fidelity import metric_prc as prc

    expected = prc.prc_features_to_metric(a, b, verbose=False)
    scores = manifold_scores(a, b)
    assert scores.precision == pytest.approx(expected["precision"])
    assert scores.recall == pytest.approx(expected["recall"])


def test_torch_fidelity_inception_score():
    from torch_fidelity import metric_isc as isc

    logits = torch.from_numpy(3 * features(0, width=20))
    expected = isc.isc_features_to_metric(logits)
    mean, deviation = inception_score(logits)
    assert mean == pytest.approx(expected["inception_score_mean"], rel=1e-9)
    assert deviation == pytest.approx(expected["inception_score_std"], rel=1e-9)


@pytest.mark.parametrize("side", [64, 320])
def test_torch_fidelity_resize(side: int):
    from torch_fidelity import interpolate_compat_tensorflow as library

    images, _ = random_images(2, side=side)
    expected = library.interpolate_bilinear_2d_like_tensorflow1x(images.float(), size=(299, 299), align_corners=False)
    torch.testing.assert_close(resize_for_inception(images, rule="tf1-bilinear"), expected, atol=1e-3, rtol=0)


def test_clean_fid_resize():
    from cleanfid import resize as library

    images, _ = random_images(2)
    resize = library.build_resizer("clean")
    expected = np.stack([resize(image).transpose(2, 0, 1) for image in images.permute(0, 2, 3, 1).numpy()])
    np.testing.assert_allclose(resize_for_inception(images, rule="clean"), expected.clip(0, 255), atol=1e-3)


def test_torch_fidelity_features(tmp_path):
    from torch_fidelity import feature_extractor_inceptionv3 as library

    torch.manual_seed(0)
    weights = {key: value for key, value in InceptionNetwork().state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(weights, tmp_path / "weights.pth")
    theirs = library.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(tmp_path / "weights.pth"))
    images, _ = random_images(2, side=64)
    torch.testing.assert_close(InceptionV3Compat(LoadedWeights(weights, "0" * 64))(images), theirs(images)[0].double(), rtol=1e-4, atol=1e-5)
