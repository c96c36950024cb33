from pathlib import Path

import numpy as np
import pytest
from gray_patches import GrayPatches, GrayPatchesConfig

from visiontok.base.errors import EvaluationError
from visiontok.evaluation import Result, Suite
from visiontok.evaluation.metrics.value import SeedSpread
from visiontok.evaluation.reconstruction.run import ReconstructionRun
from visiontok.evaluation.results.comparison import changes, compare_results
from visiontok.evaluation.results.per_sample import PerSampleResults

SUITE = Suite.parse({"name": "small", "data": {"name": "shapes"}, "num_samples": 40, "metrics": ["psnr", "ssim", "codebook", "rate"]})

Pair = tuple[Result, PerSampleResults]


def evaluated(suite: Suite = SUITE, name: str = "gray", **config) -> Pair:
    return ReconstructionRun(suite, GrayPatches(GrayPatchesConfig(**config)), name=name).run()


@pytest.fixture(scope="module")
def coarse() -> Pair:
    return evaluated(levels=9)


@pytest.fixture(scope="module")
def fine() -> Pair:
    return evaluated(levels=17)


def conclusions(first: Pair, second: Pair, *, paired: bool = True) -> dict[str, str]:
    per_sample = (first[1], second[1]) if paired else (None, None)
    return {found.first.label: found.conclusion for found in compare_results(first[0], second[0], per_sample)}


def test_pairing_finds_what_overlapping_intervals_hide(coarse: Pair, fine: Pair) -> None:
    paired, unpaired = conclusions(coarse, fine), conclusions(coarse, fine, paired=False)
    assert paired["psnr.mean_db"] == "second better"
    assert unpaired["psnr.mean_db"] == "no significant difference"
    assert conclusions(fine, coarse)["psnr.mean_db"] == "first better"
    assert paired["codebook.usage"] == "not tested"
    assert paired["tokens_per_sample"] == "equal"
    assert paired["bits_per_sample.nominal"] == "first better"  # nine levels cost fewer bits than seventeen
    found = next(entry for entry in compare_results(coarse[0], fine[0], (coarse[1], fine[1])) if entry.first.label == "psnr.mean_db")
    gap = fine[1].per_sample["psnr.mean_db"] - coarse[1].per_sample["psnr.mean_db"]
    assert found.interval.low < gap[np.isfinite(gap)].mean() < found.interval.high


def test_a_result_equals_itself_and_noise_is_not_a_difference(fine: Pair) -> None:
    assert set(conclusions(fine, fine).values()) == {"equal"}
    result, per_sample = fine
    draw = np.random.default_rng(0)
    conclusion = []
    for _ in range(200):
        columns = [per_sample.per_sample["ssim"] + draw.normal(0, 0.1, size=40) for _ in range(2)]
        sides = [PerSampleResults(per_sample.indices, per_sample.keys, {"ssim": column}) for column in columns]
        (found,) = [entry for entry in compare_results(result, result, (sides[0], sides[1])) if entry.first.label == "ssim"]
        conclusion.append(found.conclusion)
    assert conclusion.count("no significant difference") > 175  # 95 % of 200 are 190


def test_refusals_say_what_differs(fine: Pair) -> None:
    for other, message in (
        (evaluated(SUITE.replace(seed=1))[0], "suite.seed: 0 and 1"),
        (evaluated(SUITE.replace(num_samples=41))[0], "40 samples of 16 x 16.*and 41 samples"),
        (evaluated(SUITE.replace(interpolation="lanczos"))[0], "suite.interpolation: bicubic and lanczos"),
        (evaluated(Suite.parse({**SUITE.to_dict(), "data": {"name": "digits"}}))[0], "the samples that were evaluated"),
        (evaluated(SUITE.replace(protocol="titok"))[0], "suite.protocol: None and titok"),
    ):
        with pytest.raises(EvaluationError, match=message):
            compare_results(fine[0], other)
    edited = fine[0].values[0].model_copy(update={"protocol": "another way"})
    with pytest.raises(EvaluationError, match=r"the protocol of psnr\.mean_db"):
        compare_results(fine[0], fine[0].model_copy(update={"values": (edited, *fine[0].values[1:])}))


def test_metrics_batches_and_descriptions_may_differ(fine: Pair) -> None:
    other = evaluated(SUITE.replace(metrics=["psnr", "mse"], batch_size=7, description="other words"))
    assert conclusions(fine, other) == {"psnr.mean_db": "equal", "psnr.pooled": "equal"}
    with pytest.raises(EvaluationError, match="no metric in common"):
        compare_results(fine[0], evaluated(SUITE.replace(metrics=["mse"]))[0])


def test_what_a_second_run_changed(fine: Pair, coarse: Pair) -> None:
    result = fine[0]
    assert changes(result, evaluated(levels=17)[0]) == []
    versions = {**result.environment.versions, "torch": "1.0"}
    older = result.model_copy(update={"environment": result.environment.model_copy(update={"versions": versions})})
    (change,) = changes(older, result)
    assert (change.path, change.before, change.is_value) == ("environment.versions.torch", "1.0", False)
    found = changes(coarse[0], result)
    assert {change.path for change in found if change.is_value} >= {"psnr.mean_db", "ssim", "codebook.usage.details.vocab_size"}
    assert "model.weights_sha256" in {change.path for change in found if not change.is_value}
    assert [change.is_value for change in found] == sorted((change.is_value for change in found), reverse=True)


def test_saved_results_and_their_per_sample(fine: Pair, coarse: Pair, tmp_path: Path) -> None:
    loaded = []
    for name, (result, per_sample) in (("a", coarse), ("b", fine)):
        result.save(tmp_path / f"{name}.json")
        per_sample.save_beside(tmp_path / f"{name}.json")
        back = Result.load(tmp_path / f"{name}.json")
        loaded.append((back, PerSampleResults.load_beside(tmp_path / f"{name}.json", back.per_sample_sha256)))
    assert conclusions(*loaded) == conclusions(coarse, fine)


def test_frechet_distances_are_judged_by_the_same_resampled_samples() -> None:
    data = {"name": "digits", "split": "test"}
    suite = Suite.parse({"name": "sets", "data": data, "num_samples": 200, "metrics": ["frechet"], "extractors": ["digit-classifier"]})
    first, second = evaluated(suite, patch=4), evaluated(suite, patch=2)
    assert conclusions(first, second) == {"FD[digit-classifier]": "second better"}
    assert conclusions(second, first) == {"FD[digit-classifier]": "first better"}
    assert conclusions(first, first) == {"FD[digit-classifier]": "equal"}
    near = evaluated(suite, levels=16, patch=2)
    (found,) = compare_results(second[0], near[0], (second[1], near[1]))
    width = found.interval.high - found.interval.low
    alone = sum(value.interval.high - value.interval.low for value in (found.first, found.second))
    assert width < alone  # what makes the images hard for both falls out


def test_seeds_widen_a_difference_and_judge_alone_where_nothing_else_does(fine: Pair) -> None:
    result, _ = fine
    usage = result.value("codebook.usage")

    def over_seeds(*numbers: float) -> Result:
        spread = SeedSpread(values={str(seed): number for seed, number in enumerate(numbers)}, deviation=float(np.std(numbers, ddof=1)))
        return result.model_copy(update={"values": (usage.model_copy(update={"value": float(np.mean(numbers)), "seeds": spread}),)})

    def conclusion(first: Result, second: Result) -> str:
        (found,) = compare_results(first, second)
        return found.conclusion

    low, high, wide = over_seeds(0.5, 0.51, 0.49), over_seeds(0.6, 0.61, 0.59), over_seeds(0.4, 0.9, 0.5)
    assert conclusion(low, high) == "second better"
    assert conclusion(high, low) == "first better"
    assert conclusion(low, wide) == "no significant difference"
    psnr = result.value("psnr.mean_db")
    sides = []
    for shift, deviation in ((0.0, 0.0), (5.0, 0.1), (5.0, 20.0)):
        spread = SeedSpread(values={"0": 0.0, "1": 0.0}, deviation=deviation)
        interval = psnr.interval.model_copy(update={"low": psnr.value + shift - 1, "high": psnr.value + shift + 1})
        sides.append(psnr.model_copy(update={"value": psnr.value + shift, "interval": interval, "seeds": spread}))
    results = [result.model_copy(update={"values": (value,)}) for value in sides]
    assert conclusion(results[0], results[1]) == "second better"
    assert conclusion(results[0], results[2]) == "no significant difference"
