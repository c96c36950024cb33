import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from visiontok.base.errors import EvaluationError, NonFiniteError
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.evaluation.metrics.fidelity import mse, psnr
from visiontok.evaluation.metrics.moments import Moments
from visiontok.evaluation.metrics.ssim import ms_ssim, ssim


def random_images(height: int = 21, width: int = 34) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    first = torch.randint(0, 256, (3, 3, height, width), dtype=torch.uint8, generator=draw)
    noise = torch.randint(-20, 21, first.shape, generator=draw)
    return first, (first.int() + noise).clamp(0, 255).to(torch.uint8)


def test_against_scikit_image() -> None:
    first, second = random_images()
    for a, b, ours, similarity in zip(
        first.numpy(), second.numpy(), psnr(first, second, data_range=255), ssim(first, second, data_range=255), strict=True
    ):
        assert float(ours) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=1e-10)
        expected = structural_similarity(
            a, b, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )  # crops the border by itself
        assert float(similarity) == pytest.approx(expected, abs=1e-9)


def test_the_data_range_scales_with_the_values() -> None:
    first, second = random_images()
    unit = [image.double() / 255 for image in (first, second)]
    signed = [image * 2 - 1 for image in unit]
    for metric in (psnr, ssim):
        expected = metric(first, second, data_range=255)
        torch.testing.assert_close(metric(*unit, data_range=1), expected)
        torch.testing.assert_close(metric(first.float() / 255, second.float() / 255, data_range=1), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(psnr(*signed, data_range=2), psnr(first, second, data_range=255))


def test_identical_images() -> None:
    first, _ = random_images(170, 165)
    assert mse(first, first).tolist() == [0, 0, 0]
    assert torch.isinf(psnr(first, first, data_range=255)).all()
    torch.testing.assert_close(ssim(first, first, data_range=255), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(ms_ssim(first, first, data_range=255), torch.ones(3, dtype=torch.float64))


def test_uint8_differences_do_not_wrap() -> None:
    black, white = torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    assert mse(black, white).item() == 255**2
    assert psnr(black, white, data_range=255).item() == 0


def test_ssim_does_not_drown_in_rounding_where_the_image_is_flat() -> None:
    flat = torch.full((1, 3, 16, 16), 0.9, dtype=torch.float32)
    assert ssim(flat, flat, data_range=1).item() == pytest.approx(1, abs=1e-12)


def test_refusals() -> None:
    first, second = random_images()
    with pytest.raises(EvaluationError, match=r"\(3, 3, 20, 34\)"):
        mse(first, second[:, :, :-1])
    with pytest.raises(EvaluationError, match="data_range must be positive"):
        psnr(first, second, data_range=0)
    with pytest.raises(EvaluationError, match="at least 11 x 11"):
        ssim(first[..., :10, :], second[..., :10, :], data_range=255)
    with pytest.raises(EvaluationError, match="161 pixels"):
        ms_ssim(first, second, data_range=255)
    assert np.isfinite(ssim(first, second, data_range=255)).all()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_every_float_type_is_computed_in_double_precision(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    images, other = (torch.rand(2, 3, 16, 16, generator=generator).to(dtype) for _ in range(2))
    for function in (psnr, ssim):
        assert torch.equal(function(images, other, data_range=1), function(images.double(), other.double(), data_range=1))
    assert to_uint8(images).dtype == torch.uint8
    moments = Moments()
    moments.update(images.flatten(1))
    assert np.allclose(moments.compute().mean, images.double().flatten(1).mean(dim=0).numpy())


def test_other_scales_and_numbers_that_are_not_finite_are_refused() -> None:
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    floats = images.float() / 255
    for function in (psnr, ssim):
        with pytest.raises(EvaluationError, match=r"torch\.uint8 and torch\.float32"):
            function(images, floats, data_range=255)
        for mistaken in (images, images.float()):
            with pytest.raises(EvaluationError, match="data_range of 1"):
                function(mistaken, mistaken, data_range=1)
        for value, word in ((float("nan"), "NaN"), (float("inf"), "infinity")):
            broken = floats.clone()
            broken[1, 0, 0, 0] = value
            with pytest.raises(NonFiniteError, match=f"reconstruction of a metric: sample 1 .* {word}"):
                function(floats, broken, data_range=1)
    with pytest.raises(EvaluationError, match=r"torch\.uint8"):
        to_uint8(images)
