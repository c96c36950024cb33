import pytest
import torch

from visiontok.data import EvalLoader, open_source
from visiontok.errors import EvaluationError
from visiontok.evaluation import GenerationSuite, evaluate_samples
from visiontok.preprocessing import ImagePreprocessing

SUITE = GenerationSuite.parse({"reference": {"name": "digits", "split": "test"}, "size": 16, "extractors": ["digit-classifier"]})


def real_digits(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    loader = EvalLoader(open_source("digits:train"), preprocessing=ImagePreprocessing(size=16), batch_size=count)
    batch = next(iter(loader))
    return batch.images, batch.labels


def test_real_digits_pass_for_generated_ones() -> None:
    images, classes = real_digits(300)
    batches = [(images[:100], classes[:100]), (images[100:], classes[100:])]
    good = evaluate_samples(SUITE, batches)
    wrong = evaluate_samples(SUITE, [(images, (classes + 1) % 10)])
    noise = evaluate_samples(SUITE, [(torch.rand(300, 3, 16, 16, generator=torch.Generator().manual_seed(0)), classes)])
    agreement = good.value("agreement[digit-classifier].asked_class")
    assert agreement.value > 0.95
    assert len(agreement.details["by_class"]) == 10
    assert wrong.value("agreement[digit-classifier].asked_class").value < 0.05
    assert noise.value("FD[digit-classifier]").value > 10 * good.value("FD[digit-classifier]").value
    assert good.kind == "generation"
    assert good.data.images == 300
    assert good.value("FD[digit-classifier]").count == good.value("FD[digit-classifier]").details["reference_count"] == 300
    assert evaluate_samples(SUITE, batches).measured() == good.measured()
    assert good.generated_sha256 == wrong.generated_sha256 != noise.generated_sha256


def test_without_classes_there_is_only_the_distance() -> None:
    images, _ = real_digits(80)
    result = evaluate_samples(SUITE, [(images, None)])
    assert [value.name for value in result.values] == ["FD[digit-classifier]"]


def test_refusals() -> None:
    images, classes = real_digits(400)
    with pytest.raises(EvaluationError, match="400 samples were given against a reference of 355"):
        evaluate_samples(SUITE, [(images, classes)])
    allowed = evaluate_samples(SUITE.replace(allow_unequal_counts=True), [(images, classes)])
    assert allowed.value("FD[digit-classifier]").details["reference_count"] == 355
    with pytest.raises(EvaluationError, match="64 features of digit-classifier"):
        evaluate_samples(SUITE, [(images[:30], classes[:30])])
    with pytest.raises(EvaluationError, match="100 of 200 samples have a class"):
        evaluate_samples(SUITE, [(images[:100], classes[:100]), (images[100:200], None)])
    with pytest.raises(EvaluationError, match=r"brought to \(B, 3, 16, 16\)"):
        evaluate_samples(SUITE, [(torch.zeros(90, 3, 8, 8), None)])
    with pytest.raises(EvaluationError, match="no samples"):
        evaluate_samples(SUITE, [])
