"""Reconstruction suites with seeds: draws that belong to the samples, values of every seed, their mean and spread."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gray_patches import GrayPatches
from noisy_waves import NoisyWaves
from two_processes import sharded_by_two

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.data import SkipReport
from visiontok.evaluation import Result, Suite, compare_results, evaluate_suite
from visiontok.evaluation.metrics.value import Cut
from visiontok.evaluation.reconstruction.examples import show_examples
from visiontok.evaluation.reconstruction.run import ReconstructionRun
from visiontok.evaluation.run_state import RunState

SUITE = Suite.parse(
    {
        "name": "drawn",
        "data": {"name": "digits", "split": "test"},
        "num_samples": 30,
        "metrics": ["psnr", "rate", "frechet"],
        "extractors": ["downsampled-pixels"],
        "allow_few_samples": True,
        "batch_size": 8,
        "seeds": [0, 1, 2],
        "bootstrap": {"resamples": 100},
    }
)


@pytest.fixture(scope="module")
def result() -> Result:
    return evaluate_suite(SUITE, NoisyWaves(), name="noisy")


def test_every_value_is_a_mean_over_the_seeds_with_its_spread(result: Result) -> None:
    for name in ("psnr.mean_db", "FD[downsampled-pixels]"):
        value = result.value(name)
        assert list(value.seeds.values) == ["0", "1", "2"]
        numbers = list(value.seeds.values.values())
        assert len(set(numbers)) == 3
        assert value.value == pytest.approx(np.mean(numbers))
        assert value.seeds.deviation == pytest.approx(np.std(numbers, ddof=1))
    assert result.value("tokens_per_sample").seeds.deviation == 0
    assert not result.omitted
    reproducible = evaluate_suite(SUITE.replace(seeds=[]), NoisyWaves(), name="noisy")
    assert reproducible.value("psnr.mean_db").seeds is None
    assert reproducible.value("psnr.mean_db").value > result.value("psnr.mean_db").value


def test_a_draw_belongs_to_the_seed_and_the_image(result: Result) -> None:
    assert evaluate_suite(SUITE.replace(batch_size=30), NoisyWaves(), name="noisy").values == result.values
    one, two = (ReconstructionRun(SUITE.replace(seeds=seeds), NoisyWaves(), name="noisy").run()[0] for seeds in ([2, 7], [1, 2]))
    value = [each.value("psnr.mean_db").seeds.values["2"] for each in (one, two, result)]
    assert value[0] == value[1] == value[2]


def test_every_length_of_a_image_starts_from_the_same_noise() -> None:
    """All tokens give the same sample, whichever lengths are evaluated before."""
    long, all_lengths = (
        evaluate_suite(SUITE.replace(lengths=lengths, metrics=["psnr"], extractors=[]), NoisyWaves(), name="noisy") for lengths in ([16], [1, 4, 16])
    )
    assert long.value("psnr.mean_db", length=16) == all_lengths.value("psnr.mean_db", length=16)


def test_a_tokenizer_that_draws_nothing_is_evaluated_once_and_still_compares(result: Result) -> None:
    plain = evaluate_suite(SUITE, GrayPatches(), name="gray")
    assert list(plain.omitted) == ["seeds"]
    once = evaluate_suite(SUITE.replace(seeds=[]), GrayPatches(), name="gray")
    assert plain.values == once.values
    (psnr,) = [found for found in compare_results(plain, result) if found.first.name == "psnr.mean_db"]
    assert psnr.conclusion == "first better"


def test_interrupted_and_continued_equals_uninterrupted(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunState, "is_due", True)
    run = ReconstructionRun(SUITE, NoisyWaves(), name="noisy")
    state = RunState(tmp_path, run.identity)

    def stop(done: int, total: int) -> None:
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(progress=stop, state=state)
    assert state.restore("samples", SkipReport(), {}) == 8
    again, _ = ReconstructionRun(SUITE, NoisyWaves(), name="noisy").run(state=state)
    assert json.dumps(again.reproducible()) == json.dumps(result.reproducible())


def test_two_processes_give_the_numbers_of_one(result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sharded = sharded_by_two(SUITE, NoisyWaves, name="noisy", tmp_path=tmp_path, monkeypatch=monkeypatch)
    assert sharded.value("psnr.mean_db") == result.value("psnr.mean_db")
    distances = [each.value("FD[downsampled-pixels]").seeds.values for each in (sharded, result)]
    assert distances[0] == pytest.approx(distances[1], rel=1e-12)


def test_examples_show_the_first_seed() -> None:
    run = ReconstructionRun(SUITE, NoisyWaves(), name="noisy")
    examples = show_examples(run, *run.run())
    loaded = run.loader.read([3])
    first = ReconstructionRun(SUITE.replace(seeds=[0, 9]), NoisyWaves(), name="noisy").reconstruct(loaded)[Cut()][1]
    assert torch.equal(run.reconstruct(loaded)[Cut()][1].values, first.values)
    assert len(examples.samples) == 6


@pytest.mark.parametrize("seeds", [[3], [1, 1], [-1, 2]])
def test_one_seed_or_the_same_twice_is_refused(seeds: list[int]) -> None:
    with pytest.raises(ConfigError, match="seeds"):
        SUITE.replace(seeds=seeds)


def flextok():
    trunk = {"dim": 16, "depth": 1, "num_heads": 2}
    sizes = {"image_size": 16, "patch_size": 4, "num_registers": 4, "quantizer": {"levels": [4, 5]}, "encoder": trunk, "decoder": trunk}
    return visiontok.create("flextok", **sizes, vae=None, time_features=16, sampling={"steps": 2, "guidance": None})


def kl_vae():
    sizes = {"image_size": 16, "channels": [8, 8], "num_res_blocks": 1, "norm_groups": 4, "middle_attention": False}
    return visiontok.create("kl-vae", **sizes, bottleneck={"type": "gaussian", "dim": 2})


@pytest.mark.parametrize("make", [flextok, kl_vae])
def test_flows_and_posteriors_are_drawn(make) -> None:
    torch.manual_seed(0)
    model = make()
    suite = SUITE.replace(num_samples=3, metrics=["mse"], extractors=[], seeds=[0, 1])
    value = evaluate_suite(suite, model, name="drawing").value("mse")
    assert len(set(value.seeds.values.values())) == 2
    assert evaluate_suite(suite.replace(batch_size=2), model, name="drawing").value("mse") == value
