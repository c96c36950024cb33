import io

import numpy as np
import pytest
import torch
from gray_patches import GrayPatches
from selected import BOOTSTRAP, batch, selected, values

from visiontok.evaluation import METRICS, find_extractor
from visiontok.evaluation.features import Classifier
from visiontok.evaluation.metrics.metric import DerivedMetric, EvaluatedBatch, FeatureMetric
from visiontok.evaluation.metrics.needs import NEEDS
from visiontok.signals import SignalBatch, SignalSpec
from visiontok.tokens import Segment, TokenLayout, Tokens

NAMES = ("mse", "psnr", "ssim", "codebook", "entropy", "rate", "frechet", "kernel_distance", "classifier", "density", "tokdense", "token_statistics")
NAMED = ("classifier", "perturbed_frechet", "wer", "speaker_similarity", "predicted_mos")
"""Beside those over features, the metrics whose values are named after a network."""
DEPTH = SignalSpec(modality="image", channels=1, low=0, high=20)
MONO = SignalSpec(modality="audio", channels=1, low=-1, high=1, rate=100)


def part(start: int, count: int) -> EvaluatedBatch:
    model = GrayPatches()
    images = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(start))
    tokens = model.encode(images)
    return batch(torch.arange(start, start + count), images, (model.decode(tokens) * 255).to(torch.uint8), tokens, torch.arange(count) % 10)


def running():
    return selected(NAMES, GrayPatches().layout, [find_extractor("digit-classifier")], allow_few_samples=True, count=7)[0]


def test_every_metric_is_declared_whole() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.version >= 1
        assert set(metric.needs) <= set(NEEDS)
        for key, value in metric.values.items():
            assert value.title
            assert value.better in ("higher", "lower", "neither")
            assert ("[]" in key) == (isinstance(metric, FeatureMetric | DerivedMetric) or name in NAMED)


def test_a_run_continues_from_its_stored_state() -> None:
    whole, first, second = running(), running(), running()
    for each in (part(0, 3), part(3, 4)):
        whole.update(each)
    first.update(part(0, 3))
    for name, accumulator in first.accumulators.items():
        stored = io.BytesIO()
        np.savez(stored, **accumulator.state())
        stored.seek(0)
        second.accumulators[name].load_state(np.load(stored, allow_pickle=False))
    second.update(part(3, 4))
    assert second.outcome(BOOTSTRAP).values == whole.outcome(BOOTSTRAP).values
    assert set(whole.outcome(BOOTSTRAP).per_sample) >= {"psnr.mean_db", "accuracy[digit-classifier].originals", "tokens_per_sample"}


def test_shards_merge_to_the_whole() -> None:
    whole, first, second = running(), running(), running()
    for each in (part(0, 3), part(3, 4)):
        whole.update(each)
    first.update(part(3, 4))
    second.update(part(0, 3))
    for name, accumulator in first.accumulators.items():
        accumulator.merge(second.accumulators[name])
    ours, theirs = values(first), values(whole)
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        if theirs[name].value is None:
            assert value.value is None
        else:
            assert value.value == pytest.approx(theirs[name].value, rel=1e-9, abs=1e-9)


def test_continuous_latents_have_no_tokens_to_count() -> None:
    layout = TokenLayout(modality="image", signal_shape=(16, 16), segments=(Segment(name="z", shape=(4,), channels=2),))
    chosen, omitted = selected(["mse", "codebook", "rate", "entropy", "token_statistics", "density"], layout)
    assert set(omitted) == {"codebook", "rate", "entropy", "token_statistics", "density"}
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    chosen.update(batch(torch.arange(2), images, images))
    assert list(values(chosen)) == ["mse"]


def test_samples_of_varying_length_are_rated_by_what_they_hold() -> None:
    segments = (Segment(name="q", shape=(4,), vocab_size=8), Segment(name="never", shape=(1,), vocab_size=8))
    layout = TokenLayout(modality="image", signal_shape=(16, 16), ragged=True, segments=segments)
    tokens = Tokens.from_samples([torch.tensor([1, 2, 3]), torch.tensor([1])], layout)
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    chosen, omitted = selected(["codebook", "rate", "token_statistics"], layout, lengths_vary=True)
    assert not omitted
    chosen.update(batch(torch.arange(2), images, images, tokens))
    found = values(chosen)
    assert (found["tokens.huffman_bits"].details["tokens"], found["tokens.huffman_bits"].part) == (4, None)
    assert (found["tokens_per_sample"].value, found["bits_per_sample.nominal"].value) == (2, 6)
    assert found["tokens_per_sample"].interval is not None
    assert found["tokens_per_sample"].details == {"min": 1, "max": 3}
    assert found["bits_per_token.nominal"].value == 3
    assert found["codebook.usage"].value == 3 / 8
    assert found["bits_per_sample.entropy"].value == pytest.approx(1.5 * 2)
    assert found["bits_per_token.entropy"].value == pytest.approx(1.5)


def test_other_signals_are_compared_in_their_own_range_and_rgb_networks_are_omitted() -> None:
    chosen, omitted = selected(["mse", "psnr", "ssim", "lpips.alex", "frechet"], None, [find_extractor("downsampled-pixels")], spec=DEPTH)
    assert set(omitted) == {"lpips.alex", "frechet"}
    depth = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 20
    chosen.update(EvaluatedBatch(torch.arange(3), SignalBatch.of(depth), SignalBatch.of(depth + 0.2)))
    found = values(chosen)
    assert found["mse"].value == pytest.approx(0.04, rel=1e-4)
    assert found["psnr.mean_db"].value == pytest.approx(40, abs=1e-3)
    unbounded = SignalSpec(modality="image", channels=1)
    assert set(selected(["mse", "psnr", "ssim"], None, spec=unbounded)[1]) == {"psnr", "ssim"}


def test_signals_of_different_sizes_share_a_batch_without_their_padding() -> None:
    waves = [torch.rand(1, length, generator=torch.Generator().manual_seed(length)) for length in (50, 200)]
    reference, samples = SignalBatch.stack(waves), SignalBatch.stack([waves[0] + 0.1, waves[1] - 0.2])
    segment = Segment(name="codes", shape=(5,), vocab_size=16, stride=(10,), free_axes=(0,))
    layout = TokenLayout(modality="audio", signal_shape=(50,), rate=100, segments=(segment,))
    tokens = Tokens.cat([Tokens(torch.ones(1, length // 10, dtype=torch.int64), layout.at((length // 10,))) for length in (50, 200)])
    chosen, omitted = selected(["mse", "ssim", "rate", "codebook"], layout, spec=MONO)
    assert list(omitted) == ["ssim"]
    chosen.update(EvaluatedBatch(torch.arange(2), reference, samples, tokens))
    outcome = chosen.outcome(BOOTSTRAP)
    assert outcome.per_sample["mse"].tolist() == pytest.approx([0.01, 0.04], rel=1e-5)
    assert outcome.per_sample["tokens_per_sample"].tolist() == [5, 20]
    assert outcome.per_sample["bits_per_second.nominal"].tolist() == pytest.approx([40, 40])
    assert outcome.code_counts["codes"].sum() == 25


def test_clips_are_compared_frame_by_frame() -> None:
    clips = SignalSpec(modality="video", channels=3, low=0, high=1, rate=8)
    chosen, _ = selected(["ssim", "frechet"], None, [find_extractor("downsampled-clips")], spec=clips, allow_few_samples=True)
    video = torch.rand(4, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    chosen.update(EvaluatedBatch(torch.arange(4), SignalBatch.of(video), SignalBatch.of(video)))
    found = values(chosen)
    assert found["ssim"].value == pytest.approx(1)
    assert found["FD[downsampled-clips]"].value == pytest.approx(0, abs=1e-9)


def test_densities_are_ratios_of_the_numbers_beside_them() -> None:
    chosen = running()
    chosen.update(part(0, 7))
    found = values(chosen)
    assert found["psnr.mean_db.per_token"].value == pytest.approx(found["psnr.mean_db"].value / 64)
    assert found["ssim.per_bit.entropy"].value == pytest.approx(found["ssim"].value / found["bits_per_sample.entropy"].value)
    assert "FD[digit-classifier].per_bit.nominal" in found
    accuracy = found["accuracy[digit-classifier].reconstructions"].value
    assert found["tokdense[digit-classifier]"].value == pytest.approx(100 * accuracy / 64)
    assert found["tokdense[digit-classifier]"].details["token_ratio_percent"] == 100
    low, high = (getattr(found["psnr.mean_db"].interval, end) / 64 for end in ("low", "high"))
    assert (found["psnr.mean_db.per_token"].interval.low, found["psnr.mean_db.per_token"].interval.high) == pytest.approx((low, high))


def test_classifiers_take_part_in_several_metrics_with_one_pass() -> None:
    class Counting(Classifier):
        name, identity, protocol, seen = "counting", "1", "", 0

        def extract(self, samples):
            self.seen += len(samples)
            return samples.float().mean(dim=(2, 3))

        def logits_of(self, features):
            return features

    extractor = Counting()
    chosen, _ = selected(["frechet", "kernel_distance", "classifier"], None, [extractor], allow_few_samples=True)
    extractor.seen = 0
    chosen.update(part(0, 5))
    assert extractor.seen == 10
