import io

import numpy as np
import pytest
import torch
from grey_patches import GreyPatches

from visiontok.base.errors import EvaluationError
from visiontok.evaluation import BootstrapConfig, Suite, find_extractor
from visiontok.evaluation.metrics.registry import Batch, build_measures
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens

NAMES = ("mse", "psnr", "ssim", "codebook", "rate", "frechet", "classifier")
SUITE = Suite.parse(
    {"name": "x", "data": {"name": "digits", "split": "test"}, "metrics": NAMES, "extractors": ["digit-classifier"], "allow_few_samples": True}
)
BOOTSTRAP = BootstrapConfig(resamples=100)


def batch(start: int, count: int) -> Batch:
    model = GreyPatches()
    images = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(start))
    tokens = model.encode(images)
    return Batch(torch.arange(start, start + count), images, (model.decode(tokens) * 255).to(torch.uint8), tokens, torch.arange(count) % 10)


def measures():
    return build_measures(SUITE, GreyPatches().layout, [find_extractor("digit-classifier")])[0]


def test_a_measurement_goes_on_from_its_stored_state() -> None:
    whole, first, second = measures(), measures(), measures()
    for name in whole:
        for part in (batch(0, 3), batch(3, 4)):
            whole[name].update(part)
        first[name].update(batch(0, 3))
        stored = io.BytesIO()
        np.savez(stored, **first[name].state())
        stored.seek(0)
        second[name].load_state(np.load(stored, allow_pickle=False))
        second[name].update(batch(3, 4))
        assert second[name].values(BOOTSTRAP) == whole[name].values(BOOTSTRAP)


def test_continuous_latents_have_no_ids() -> None:
    layout = TokenLayout(modality="image", signal_shape=(16, 16), segments=(Segment(name="z", shape=(4,), channels=2),))
    built, omitted = build_measures(SUITE, layout, [find_extractor("digit-classifier")])
    assert set(omitted) == {"codebook", "rate"}
    assert "mse" in built
    images = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    with pytest.raises(EvaluationError, match="continuous"):
        measures()["rate"].update(Batch(torch.tensor([0]), images, images, Latents(torch.zeros(1, 4, 2), layout)))


def test_ragged_samples_are_rated_by_what_they_hold() -> None:
    layout = TokenLayout(
        modality="image",
        signal_shape=(16, 16),
        ragged=True,
        segments=(Segment(name="q", shape=(4,), vocab_size=8), Segment(name="never", shape=(1,), vocab_size=8)),
    )
    tokens = Tokens.from_samples([torch.tensor([1, 2, 3]), torch.tensor([1])], layout)
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    built, _ = build_measures(SUITE, layout, [])
    for name in ("codebook", "rate"):
        built[name].update(Batch(torch.arange(2), images, images, tokens))
    rate = {value.name: value for value in built["rate"].values(BOOTSTRAP)}
    assert (rate["tokens_per_image"].value, rate["bits_per_image.nominal"].value) == (2, 6)
    assert rate["tokens_per_image"].interval is not None
    assert rate["tokens_per_image"].details == {"min": 1, "max": 3}
    use = {value.name: value for value in built["codebook"].values(BOOTSTRAP)}
    assert use["codebook.usage"].value == 3 / 8
    assert use["bits_per_image.entropy"].value == pytest.approx(1.5 * 2)
