import numpy as np
import pytest
import torch

from visiontok.base.errors import EvaluationError, UnknownNameError
from visiontok.evaluation.features import Classifier, DigitClassifier, FunctionExtractor, find_extractor


def random_images(count: int = 5, side: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["digit-classifier", "downsampled-pixels"])
def test_every_extractor_without_a_weight_file(name: str) -> None:
    extractor = find_extractor(name)
    features = extractor(random_images())
    assert features.dtype == torch.float64
    assert features.shape[0] == 5
    torch.testing.assert_close(extractor(random_images()[2:4]), features[2:4], rtol=1e-12, atol=1e-12)
    assert find_extractor(name) is extractor
    assert len(extractor.identity) == 64
    assert extractor.protocol


def test_the_digit_classifier_is_good_and_always_the_same() -> None:
    first = find_extractor("digit-classifier")
    assert isinstance(first, Classifier)
    assert first.test_accuracy > 0.96
    assert first.test_count == 355
    assert DigitClassifier().identity == first.identity


def test_the_digit_classifier_sees_any_size_alike() -> None:
    classifier = find_extractor("digit-classifier")
    small = random_images(side=8)
    large = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(classifier(large), classifier(small))
    assert torch.equal(classifier.classify(large), classifier.classify(small))


def test_downsampled_pixels_are_area_means() -> None:
    images = random_images(1, 16)
    expected = images.double().numpy().reshape(3, 8, 2, 8, 2).mean(axis=(2, 4)).ravel() / 255
    np.testing.assert_allclose(find_extractor("downsampled-pixels")(images)[0].numpy(), expected, rtol=1e-12)


def test_only_uint8_images_are_taken() -> None:
    extractor = find_extractor("downsampled-pixels")
    for wrong in (random_images().float() / 255, random_images()[:, :1], random_images()[0]):
        with pytest.raises(EvaluationError, match=r"takes uint8 images \(B, 3, H, W\)"):
            extractor(wrong)


def test_a_callable_is_an_extractor() -> None:
    extractor = FunctionExtractor(lambda images: images.float().mean(dim=(2, 3)), name="mean-color", identity="1")
    assert extractor(random_images()).shape == (5, 3)
    with pytest.raises(EvaluationError, match="gave features of shape"):
        FunctionExtractor(lambda images: images.float(), name="wrong", identity="1")(random_images())


def test_unknown_names_list_close_ones() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean digit-classifier"):
        find_extractor("digits-classifier")
