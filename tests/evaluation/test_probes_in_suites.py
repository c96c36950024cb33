from pathlib import Path

import numpy as np
import pytest
import torch
from gray_patches import GrayPatches, GrayPatchesConfig
from PIL import Image

from visiontok.base.errors import EvaluationError
from visiontok.data import EvalLoader, open_source
from visiontok.evaluation import Suite, evaluate_suite
from visiontok.evaluation.metrics.probes import LabeledFeatures, linear_probe, nearest_neighbors
from visiontok.evaluation.reconstruction.run import ReconstructionRun
from visiontok.evaluation.run_state import RunState
from visiontok.signals import ImagePreprocessing

SUITE = Suite.parse(
    {
        "name": "probes",
        "data": {"name": "digits", "split": "test"},
        "num_samples": 90,
        "size": 16,
        "metrics": ["linear_probe", "nearest_neighbors", "rate", "tokdense"],
        "probe": {"data": {"name": "digits", "split": "train"}, "pooling": "concatenate", "neighbors": 5},
        "batch_size": 32,
    }
)


def embeddings(split: str) -> LabeledFeatures:
    """The mean gray of every patch, in levels."""
    (batch,) = EvalLoader(open_source(f"digits:{split}"), preprocessing=ImagePreprocessing(size=16), batch_size=2000)
    tokenizer = GrayPatches()
    codes = tokenizer.codes_of(tokenizer.encode(batch.signals.values))
    return LabeledFeatures(codes.flatten(1).double().numpy(), batch.labels.numpy())


def test_accuracies_are_those_of_the_functions() -> None:
    result = evaluate_suite(SUITE.replace(num_samples=None), GrayPatches(), name="gray")
    train, test = embeddings("train"), embeddings("test")
    linear, neighbors = linear_probe(train, test).mean(), nearest_neighbors(train, test, neighbors=5).mean()
    assert min(linear, neighbors) > 0.8
    assert result.value("linear_probe").value == pytest.approx(linear)
    assert result.value("nearest_neighbors").value == pytest.approx(neighbors)
    assert result.value("linear_probe").interval is not None
    assert result.value("tokdense[linear_probe]").value == pytest.approx(100 * linear / 64)


def test_fewer_tokens_are_probed_at_their_own_length() -> None:
    tokenizer = GrayPatches(GrayPatchesConfig(ordered=True))
    suite = SUITE.replace(probe=SUITE.probe.replace(pooling="mean"))
    result = evaluate_suite(suite.replace(lengths=(2, 64)), tokenizer, name="gray")
    whole = evaluate_suite(suite, tokenizer, name="gray")
    assert result.value("linear_probe", length=64).value == whole.value("linear_probe").value
    assert result.value("linear_probe", length=2).value != whole.value("linear_probe").value


def test_data_without_classes_is_named(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    data = {"name": "folder", "path": str(tmp_path)}
    suite = Suite.parse({**SUITE.to_dict(), "data": data, "num_samples": None, "probe": {"data": data, "neighbors": 3}})
    result = evaluate_suite(suite, GrayPatches(), name="gray")
    assert {"linear_probe", "nearest_neighbors", "tokdense"} <= result.omitted.keys()
    assert "classes" in result.omitted["linear_probe"]


def test_an_interrupted_run_goes_on_within_the_training_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunState, "is_due", True)
    suite = SUITE.replace(probe=SUITE.probe.replace(num_samples=200))
    whole = evaluate_suite(suite, GrayPatches(), name="gray")
    encoded: list[int] = []

    class Counting(GrayPatches):
        def __init__(self, stop_after: int | None) -> None:
            super().__init__()
            self.stop_after = stop_after

        def encode_latents(self, signal: torch.Tensor) -> torch.Tensor:
            encoded.append(len(signal))
            if self.stop_after is not None and sum(encoded) > self.stop_after:
                raise KeyboardInterrupt
            return super().encode_latents(signal)

    state = RunState(tmp_path / "state", {"of": "this test"})
    with pytest.raises(KeyboardInterrupt):
        ReconstructionRun(suite, Counting(100), name="gray").run(state=state)
    encoded.clear()
    result, _ = ReconstructionRun(suite, Counting(None), name="gray").run(state=state)
    assert sum(encoded) < 200 + 90
    assert [value.to_dict() for value in result.values] == [value.to_dict() for value in whole.values]


def test_a_probe_needs_training_samples() -> None:
    result = evaluate_suite(SUITE.replace(probe=None), GrayPatches(), name="gray")
    assert {"linear_probe", "nearest_neighbors"} <= result.omitted.keys()
    with pytest.raises(EvaluationError, match="linear_probe"):
        evaluate_suite(SUITE.replace(probe=None, metrics=("linear_probe",)), GrayPatches(), name="gray")
