from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from gray_patches import GrayPatches
from ordered_waves import OrderedWaves

from visiontok.base.errors import EvaluationError
from visiontok.evaluation import Suite
from visiontok.evaluation.reconstruction.rate_distortion import Curve, RateDistortion, Settings, evaluate_curve, rate_suite
from visiontok.evaluation.reconstruction.rate_distortion_report import write_rate_distortion_report
from visiontok.tokenizers.image.karl.model import Karl, KarlConfig

SUITE = {"name": "tiny", "data": {"name": "digits", "split": "test"}, "num_samples": 24, "metrics": ["codebook"], "bootstrap": {"resamples": 100}}
VIT = {"dim": 64, "depth": 1, "num_heads": 2, "patch_size": 4}
KARL = {
    "image_size": 16, "num_latent_tokens": 8, "max_latent_tokens": 8, "training_lengths": [8], "position_side": 4, "halting_dim": 8,
    "base": {"type": "patches", "patch_size": 4}, "encoder": VIT, "decoder": VIT, "quantizer": {"type": "vq", "codebook_size": 32, "dim": 6},
}  # fmt: skip


def evaluated(tokenizer, settings: Settings, name: str = "model", **options):
    suite = rate_suite(Suite.parse(SUITE))
    return evaluate_curve(suite, tokenizer, settings, name=name, examples=3, progress=lambda label: nullcontext(lambda done, total: None), **options)


def karl() -> Karl:
    """Keeps 2 tokens of dark images and 7 of others; one more where the target error is small."""
    torch.manual_seed(0)
    model = Karl(KarlConfig.parse(KARL)).eval()
    distill = model.distill

    def counted(images, features, quality, *, num_tokens):
        latents, _ = distill(images, features, quality, num_tokens=num_tokens)
        counts = torch.where(images.mean(dim=(1, 2, 3)) < 0.3, 2, 7) + (quality < 0.1)
        return latents, torch.where(torch.arange(num_tokens) < counts[:, None], -9.0, 9.0)

    model.distill = counted
    return model


def test_an_ordered_tokenizer_at_lengths():
    curve, gallery = evaluated(OrderedWaves(), Settings(lengths=(8, 1, 16, 2)))
    points = curve.points
    assert [point.tokens for point in points] == [1, 2, 8, 16]
    assert [point.bits for point in points] == [10, 20, 80, 160]
    assert [point.bits_per_unit for point in points] == [10 / 256, 20 / 256, 80 / 256, 160 / 256]
    decibels = [point.qualities["psnr.mean_db"].value for point in points]
    assert decibels == sorted(decibels)
    assert decibels[-1] > decibels[0] + 2
    assert set(points[0].qualities) == {"psnr.mean_db", "psnr.pooled", "ssim"}
    assert [row.label for row in gallery.rows] == ["1 token", "2 tokens", "8 tokens", "16 tokens"]
    assert [image.shape for image in (*gallery.originals, *gallery.rows[0].reconstructions)] == [(16, 16, 3)] * 6
    assert [entry.decibels for entry in curve.reached] == [20, 25, 30, 35]
    assert curve.reached[0].share >= curve.reached[-1].share
    assert curve.setting == "length"


def test_without_settings_an_ordered_tokenizer_gets_powers_of_two_and_all():
    curve, _ = evaluated(OrderedWaves(OrderedWaves().config.replace(length=12)), Settings())
    assert [point.tokens for point in curve.points] == [1, 2, 4, 8, 12]


def test_a_fixed_tokenizer_is_one_point():
    for settings in (Settings(), Settings.none()):
        curve, _ = evaluated(GrayPatches(), settings)
        assert [point.tokens for point in curve.points] == [64]
        assert curve.setting == "none"


def test_an_ordered_tokenizer_may_be_one_point_too():
    curve, _ = evaluated(OrderedWaves(), Settings.none())
    assert [point.tokens for point in curve.points] == [16]


def test_unordered_tokens_have_no_curve():
    with pytest.raises(EvaluationError, match=r"64 tokens.* 4, 64; .*--fixed gray"):
        evaluated(GrayPatches(), Settings(lengths=(4, 64)), name="gray")
    with pytest.raises(EvaluationError, match="17 tokens"):
        evaluated(OrderedWaves(), Settings(lengths=(17,)))
    with pytest.raises(EvaluationError, match=r"0\.1.* 64 tokens"):
        evaluated(GrayPatches(), Settings(max_losses=(0.1,)))


def test_an_ordered_tokenizer_reaches_target_errors_with_the_fewest_tokens():
    curve, _ = evaluated(OrderedWaves(), Settings(max_losses=(0.3, 0.2)))
    generous, strict = curve.counts
    assert all(few <= many for few, many in zip(generous, strict, strict=True))
    assert min(generous) < max(strict)
    assert curve.targets == (0.3, 0.2)


def test_an_adaptive_tokenizer_is_asked_for_errors():
    curve, gallery = evaluated(karl(), Settings(max_losses=(0.05, 0.2)))
    assert curve.targets == (0.2, 0.05)
    generous, strict = curve.counts
    assert set(generous) == {2, 7}
    assert [count + 1 for count in generous] == list(strict)
    assert [point.label for point in curve.points] == ["error up to 0.2", "error up to 0.05"]
    assert curve.points[0].tokens == pytest.approx(sum(generous) / 24)
    assert set(gallery.rows[0].tokens) <= {2, 7}


def test_an_adaptive_tokenizer_at_exact_lengths():
    curve, _ = evaluated(karl(), Settings(lengths=(2, 8)))
    assert [point.tokens for point in curve.points] == [2, 8]
    assert not curve.counts


def test_continuous_latents_have_no_rate():
    model = Karl(KarlConfig.parse({**KARL, "quantizer": {"type": "continuous", "dim": 6}})).eval()
    with pytest.raises(EvaluationError, match="no nominal bits"):
        evaluated(model, Settings())


def test_the_file_and_the_page(tmp_path: Path):
    evaluations = [
        evaluated(OrderedWaves(), Settings(lengths=(1, 4, 16)), name="waves"),
        evaluated(karl(), Settings(max_losses=(0.05, 0.2)), name="<karl>"),
    ]
    curves = [curve for curve, _ in evaluations]
    RateDistortion(curves=tuple(curves)).save(tmp_path / "rd.json")
    assert RateDistortion.load(tmp_path / "rd.json").curves == tuple(curves)
    write_rate_distortion_report(tmp_path / "rd.html", curves, [gallery for _, gallery in evaluations])
    page = (tmp_path / "rd.html").read_text()
    assert "&lt;karl&gt;" in page
    assert "<karl>" not in page
    assert page.count("<img") == 3 * (1 + 3) + 3 * (1 + 2)
    assert len(re.findall("PSNR against", page)) == 2
    assert "Rank correlation of PSNR with the number of tokens: 1.00" in page
    assert not re.search(r"<script|<link|@import|url\((?!#)", page)
    assert isinstance(curves[0], Curve)
