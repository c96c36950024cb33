"""Every family goes through a suite: what applies has a value, what does not is omitted with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from families import CASES, Case, every_case
from typer.testing import CliRunner

import visiontok
from visiontok.cli import app
from visiontok.core.tokenizer import Tokenizer
from visiontok.evaluation import Suite, evaluate_suite
from visiontok.evaluation.reconstruction.rate_distortion import RateDistortion

METRICS = ("mse", "psnr", "rate", "codebook", "entropy", "token_statistics", "density")


def suite(case: Case, folder: Path, **changes: object) -> Suite:
    for number, signal in enumerate(case.signals()):
        np.save(folder / f"{number}.npy", signal.numpy())
    data = {"name": "arrays", "path": str(folder), "modality": case.modality}
    return Suite.parse({"name": "width", "data": data, "metrics": METRICS, "batch_size": 2, **changes})


@every_case
def test_signals_of_all_sizes_are_evaluated_together(case: Case, tmp_path: Path):
    model = case.build()
    result = evaluate_suite(suite(case, tmp_path), model, name=case.name)
    found = {value.metric: value.value for value in result.values}
    if model.can_decode:
        errors = [(model.decode(model.encode([signal]))[0].double() - signal.double()).square().mean() for signal in case.signals()]
        assert found["mse"] == pytest.approx(float(torch.stack(errors).mean()), rel=1e-4)
        assert "psnr" in found
    else:
        assert {"mse", "psnr"} <= result.omitted.keys()
    of_tokens = {"rate", "codebook", "entropy", "token_statistics"}
    if model.layout.is_continuous:
        assert of_tokens <= result.omitted.keys()
    else:
        assert not of_tokens & result.omitted.keys()
        per = "pixel" if case.modality in ("image", "video") else "second"
        assert {f"bits_per_{per}.nominal", f"bits_per_{per}.entropy", "tokens.zipf_exponent"} <= {value.name for value in result.values}
    again = evaluate_suite(suite(case, tmp_path, batch_size=5), model, name=case.name)
    assert {value.metric: value.value for value in again.values} == pytest.approx(found, rel=1e-9)


def test_a_psnr_follows_the_range_of_the_values(tmp_path: Path):
    depth = next(case for case in CASES if case.name == "depth-tokenizer")
    model: Tokenizer = depth.build()
    result = evaluate_suite(suite(depth, tmp_path), model, name="depth")
    signals = depth.signals()
    errors = [(model.decode(model.encode([signal]))[0].double() - signal.double()).square().mean() for signal in signals]
    expected = torch.stack([10 * torch.log10(80.0**2 / error) for error in errors]).mean()
    (mean,) = [value.value for value in result.values if value.metric == "psnr" and value.protocol.startswith("mean")]
    assert mean == pytest.approx(float(expected), abs=1e-3)


def test_codebook_levels_of_signals_of_all_lengths(tmp_path: Path):
    codec = next(case for case in CASES if case.name == "stereo-codec")
    (tmp_path / "data").mkdir()
    file = suite(codec, tmp_path / "data", bootstrap={"resamples": 100}, metrics=["mse", "rate", "codebook", "token_statistics"])
    (tmp_path / "suite.yaml").write_text(json.dumps(file.to_dict()))
    visiontok.save_pretrained(codec.build(), tmp_path / "codec")
    common = ["evaluate", "rd", str(tmp_path / "suite.yaml"), "-m", str(tmp_path / "codec"), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*common, "--levels", "3,1"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (curve,) = RateDistortion.load(tmp_path / "out" / "width-rd.json").curves
    seconds = [signal.shape[1] / 800 for signal in codec.signals()]
    frames = [-(-signal.shape[1] // 16) for signal in codec.signals()]
    expected = [sum(3 * each * share / time for each, time in zip(frames, seconds, strict=True)) / len(frames) for share in (1, 7)]
    assert [point.bits_per_unit for point in curve.points] == pytest.approx(expected)
    assert [point.label for point in curve.points] == ["1 level", "3 levels"]
    result = evaluate_suite(file.replace(levels=(1, 2)), codec.build(), name="codec")
    assert {value.part for value in result.values if value.name == "tokens.heaps_exponent" and value.levels == 2} == {"coarse", "middle"}
