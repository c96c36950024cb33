"""Codebook levels as a setting of suites, and curves that do not rise with rate."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gray_patches import GrayPatches
from ordered_waves import OrderedWaves
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError, EvaluationError
from visiontok.core.tokenizer import DecodeOptions, EncodeOptions, Tokenizer
from visiontok.evaluation import BootstrapConfig, Suite, evaluate_suite
from visiontok.evaluation.metrics.value import Cut, MetricValue
from visiontok.evaluation.reconstruction.falling_curves import RatePoint, curve_warnings
from visiontok.evaluation.reconstruction.rate_distortion import Settings, evaluate_curve, rate_suite
from visiontok.evaluation.reconstruction.rate_distortion_report import write_rate_distortion_report
from visiontok.evaluation.results.result import Result
from visiontok.signals import ImagePreprocessing
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens

SUITE = {
    "name": "tiny",
    "data": {"name": "digits", "split": "test"},
    "num_samples": 24,
    "metrics": ["psnr", "rate", "codebook", "token_statistics"],
    "bootstrap": {"resamples": 100},
}


class GrayBitsConfig(Config):
    levels: int = 3
    inverted_level: int | None = None


class GrayBits(Tokenizer[GrayBitsConfig]):
    """The mean gray of every patch, one binary digit per codebook: a residual quantizer that needs no training. An inverted level does harm."""

    config_class = GrayBitsConfig

    def __init__(self, config: GrayBitsConfig | None = None) -> None:
        super().__init__(config or GrayBitsConfig())
        self.preprocessing = ImagePreprocessing(size=16)
        segment = Segment(name="grid", shape=(8, 8), vocab_size=2, codebooks=self.config.levels)
        self.layout = TokenLayout(modality="image", segments=(segment,), signal_shape=(16, 16), levels="any")

    def encode_prepared(self, signal: Tensor, options: EncodeOptions) -> Tokens:
        gray = torch.nn.functional.avg_pool2d(signal.mean(dim=1), 2).clamp(0, 0.999)
        digits = [(gray * 2 ** (level + 1)).long() % 2 for level in range(self.config.levels)]
        return Tokens(torch.stack(digits, dim=-1).flatten(1), self.layout)

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        assert isinstance(tokens, Tokens)
        digits = tokens.indices.view(-1, 8, 8, tokens.layout.num_levels).to(torch.float32)
        if self.config.inverted_level is not None and self.config.inverted_level < digits.shape[-1]:
            digits[..., self.config.inverted_level] = 1 - digits[..., self.config.inverted_level]
        gray = sum((digits[..., level] - 0.5) / 2 ** (level + 1) for level in range(digits.shape[-1])) + 0.5
        return gray.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, None].expand(-1, 3, -1, -1)  # type: ignore[union-attr]


def evaluated(**changes: Any) -> Result:
    return evaluate_suite(Suite.parse({**SUITE, **changes}), GrayBits(), name="bits")


def test_each_level_is_that_of_a_tokenizer_that_has_no_more() -> None:
    result = evaluated(levels=[1, 2, 3])
    for levels in (1, 2, 3):
        alone = evaluate_suite(Suite.parse(SUITE), GrayBits(GrayBitsConfig(levels=levels)), name="bits")
        for name in ("psnr.mean_db", "tokens_per_sample", "bits_per_sample.nominal", "bits_per_sample.entropy"):
            assert result.value(name, levels=levels).value == pytest.approx(alone.value(name).value, rel=1e-9)
    parts = {value.part for value in result.values if value.cut == Cut(levels=2) and value.name == "tokens.zipf_exponent"}
    assert parts == {"grid[0]", "grid[1]"}
    assert result.value("codebook.usage", part="grid joint", levels=3).value == 1
    assert not result.warnings


def test_settings_that_exclude_each_other_or_do_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"levels \(1,\)"):
        Suite.parse({**SUITE, "levels": [1], "lengths": [4]})
    with pytest.raises(EvaluationError, match="4 codebook levels"):
        evaluated(levels=[4])
    with pytest.raises(EvaluationError, match="--fixed gray"):
        curve(GrayPatches(), Settings(levels=(1, 2)), "gray")


def curve(tokenizer: Tokenizer[Any], settings: Settings, name: str = "bits") -> Any:
    suite = rate_suite(Suite.parse(SUITE))
    return evaluate_curve(suite, tokenizer, settings, name=name, examples=2, progress=lambda label: nullcontext(lambda done, total: None))


def test_the_curve_of_a_residual_tokenizer_is_over_its_levels(tmp_path: Path) -> None:
    found, gallery = curve(GrayBits(), Settings())
    assert found.setting == "levels"
    assert [(point.label, point.tokens, point.bits) for point in found.points] == [
        ("1 level", 64, 64),
        ("2 levels", 128, 128),
        ("3 levels", 192, 192),
    ]
    decibels = [point.qualities["psnr.mean_db"].value for point in found.points]
    assert decibels == sorted(decibels)
    assert [row.label for row in gallery.rows] == ["1 level", "2 levels", "3 levels"]
    assert not found.warnings
    assert [point.label for point in curve(GrayBits(), Settings(levels=(1, 3)))[0].points] == ["1 level", "3 levels"]
    assert curve(GrayBits(), Settings.none())[0].setting == "none"
    write_rate_distortion_report(tmp_path / "rd.html", [found], [gallery])
    assert "cut to their first codebook levels" in (tmp_path / "rd.html").read_text()


def test_a_level_that_does_harm_is_named_in_result_and_report(tmp_path: Path) -> None:
    found, gallery = curve(GrayBits(GrayBitsConfig(inverted_level=1)), Settings())
    (result,) = found.results
    assert result.warnings == found.warnings
    (falls,) = [warning for warning in found.warnings if "PSNR" in warning]
    assert "2 codebook levels" in falls
    assert "1 codebook levels" in falls
    write_rate_distortion_report(tmp_path / "rd.html", [found], [gallery])
    assert falls in (tmp_path / "rd.html").read_text()


def test_falls_of_ordered_tokens_and_of_target_errors_are_named_too() -> None:
    waves = OrderedWaves()
    waves.basis[1:3] *= -1  # encoder and decoder disagree on the sign of the second and third wave
    encode = OrderedWaves().encode_latents
    waves.encode_latents = encode  # type: ignore[method-assign]
    assert any("at 2 tokens" in warning for warning in curve(waves, Settings(lengths=(1, 2, 4)))[0].warnings)
    assert not curve(OrderedWaves(), Settings(lengths=(1, 2, 4)))[0].warnings
    assert not curve(OrderedWaves(), Settings(max_losses=(0.3, 0.2)))[0].warnings


def point(label: str, column: list[float], better: str = "higher") -> RatePoint:
    values = {"metric": "psnr", "name": "q", "title": "Q", "value": float(np.mean(column)), "better": better, "count": len(column), "protocol": ""}
    return RatePoint(label, {"q": MetricValue.parse(values)}, {"q": np.asarray(column)})


def test_chance_is_no_fall_and_a_flat_curve_is_no_rise() -> None:
    bootstrap, draw = BootstrapConfig(resamples=100), np.random.default_rng(0)
    low = draw.normal(size=50)
    noisy = (low + draw.normal(size=50)).tolist()
    assert not curve_warnings([point("a", low.tolist()), point("b", noisy)], bootstrap)
    (flat,) = curve_warnings([point("a", low.tolist()), point("b", low.tolist())], bootstrap)
    assert "no better at b" in flat
    (fall,) = curve_warnings([point("a", low.tolist()), point("b", (low + 1).tolist()), point("c", low.tolist())], bootstrap)
    assert "worse at c" in fall
    assert not curve_warnings([point("a", (low + 1).tolist(), "lower"), point("b", low.tolist(), "lower")], bootstrap)
    assert not curve_warnings([point("a", low.tolist())], bootstrap)
