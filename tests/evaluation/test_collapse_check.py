"""An evaluation says that a tokenizer has collapsed, whatever its codebook usage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gray_patches import GrayPatches
from torch import Tensor

from visiontok.evaluation import Suite, evaluate_suite
from visiontok.evaluation.metrics.spread import Spread
from visiontok.evaluation.reconstruction.examples import show_examples
from visiontok.evaluation.reconstruction.report import ReportEntry, write_run_report
from visiontok.evaluation.reconstruction.run import ReconstructionRun

SUITE = Suite.parse({"name": "s", "data": {"name": "digits", "split": "test"}, "num_samples": 12, "metrics": ["psnr", "codebook"], "size": 16})


class OneImage(GrayPatches):
    """Uses every code, in the same arrangement for every image."""

    def encode_latents(self, signal: Tensor) -> Tensor:
        side, levels = self.config.size // self.config.patch, self.config.levels
        return (torch.arange(side * side) % levels / (levels - 1)).view(1, side, side, 1).expand(len(signal), -1, -1, -1)


class OneColor(GrayPatches):
    """Different tokens, one brown image."""

    def decode_latents(self, latents: Tensor) -> Tensor:
        return super().decode_latents(latents) * 0.01 + 0.4


@pytest.mark.parametrize(("model", "count"), [(GrayPatches, 0), (OneImage, 2), (OneColor, 1)])
def test_collapsed_tokenizers_are_named(model: type[GrayPatches], count: int, tmp_path: Path) -> None:
    run = ReconstructionRun(SUITE, model(), name="gray")
    result, per_sample = run.run()
    assert len(result.warnings) == count
    assert all("collapsed" in warning for warning in result.warnings)
    if model is OneImage:
        assert result.value("codebook.usage").value == 1
    write_run_report(tmp_path / "run.html", [ReportEntry(result, per_sample, show_examples(run, result, per_sample))])
    assert ("has collapsed" in (tmp_path / "run.html").read_text()) == bool(count)


def test_samples_that_do_not_differ_tell_nothing(tmp_path: Path) -> None:
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (16, 16), "red").save(tmp_path / f"{number}.png")
    same = Suite.parse({**SUITE.to_dict(), "data": {"name": "folder", "path": str(tmp_path)}, "num_samples": None})
    assert evaluate_suite(same, OneImage(), name="gray").warnings == ()


def test_spread_is_the_mean_variance_however_samples_are_divided() -> None:
    values = np.random.default_rng(0).normal(size=(40, 3)) + 1e6
    first, second, stored = Spread(), Spread(), Spread()
    for start in range(0, 30, 7):
        first.update(values[start : start + 7])
    second.update(values[35:])
    stored.load_state(first.state())
    stored.merge(second)
    assert stored.compute() == pytest.approx(values.var(axis=0, ddof=1).mean(), rel=1e-9)
    assert (Spread().compute(), second.count) == (0, 5)
    alone = Spread()
    alone.update(values[:1])
    assert alone.compute() == 0
