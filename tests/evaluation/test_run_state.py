import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evaluation_children import Child, evaluate_as_one_of_two
from gray_patches import GrayPatches
from PIL import Image

from visiontok.base.errors import EvaluationError
from visiontok.data import SkipReport
from visiontok.evaluation import Result, Suite, evaluate_suite
from visiontok.evaluation.metrics.per_sample import PerSample
from visiontok.evaluation.reconstruction.run import ReconstructionRun
from visiontok.evaluation.results.per_sample import PerSampleResults
from visiontok.evaluation.run_state import RunState

SUITE = Suite.parse(
    {
        "name": "small",
        "data": {"name": "shapes", "split": "test"},
        "num_samples": 200,
        "metrics": ["psnr", "ssim", "codebook", "rate", "frechet"],
        "extractors": ["downsampled-pixels"],
        "batch_size": 16,
    }
)


def test_killed_and_killed_again_gives_the_result_of_an_uninterrupted_run(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert Child(SUITE.to_dict(), whole).finish() == 2 * [*range(16, 200, 16), 200]
    parts = tmp_path / "parts"
    first = Child(SUITE.to_dict(), parts).kill_after(4)  # in the first model
    assert first[-1] < 200
    second = Child(SUITE.to_dict(), parts).kill_after(16)  # in the second
    assert second[0] >= first[-2]  # the last state may be one batch older than the last line
    assert not (parts / "small--b.json").exists()
    third = Child(SUITE.to_dict(), parts).finish()
    assert len(third) < 13  # the first model is not evaluated again, the second is not begun again
    assert sorted(path.name for path in parts.iterdir()) == sorted(path.name for path in whole.iterdir())
    for name in "ab":
        results = [Result.load(folder / f"small--{name}.json") for folder in (whole, parts)]
        assert json.dumps(results[0].reproducible()) == json.dumps(results[1].reproducible())
        samples = [(folder / f"small--{name}.samples.parquet").read_bytes() for folder in (whole, parts)]
        assert samples[0] == samples[1]


def stop_at(limit: int):
    def progress(done: int, total: int) -> None:
        if done >= limit:
            raise KeyboardInterrupt

    return progress


def test_broken_files_are_named_once_and_counted_across_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunState, "is_due", True)
    folder = tmp_path / "images"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(30):
        Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    for number in (1, 4, 5, 6, 7, 29):  # a whole batch among them
        path = folder / f"{number:02d}.png"
        path.write_bytes(path.read_bytes()[:60])
    suite = Suite.parse({"name": "folder", "data": {"name": "folder", "path": str(folder)}, "metrics": ["mse", "codebook"], "batch_size": 4})
    whole = evaluate_suite(suite, GrayPatches(), name="gray")
    state = RunState(tmp_path / "state", {"of": "this test"})
    with pytest.raises(KeyboardInterrupt):
        ReconstructionRun(suite, GrayPatches(), name="gray").run(progress=stop_at(9), state=state)
    done = []
    result, _ = ReconstructionRun(suite, GrayPatches(), name="gray").run(progress=lambda count, total: done.append(count), state=state)
    assert done[0] == 7  # after three batches, of which one held nothing but broken files and one three good ones
    assert result.reproducible() == whole.reproducible()
    assert (result.data.samples, result.data.skipped_count) == (24, 6)
    assert [line.split(":")[0] for line in result.data.skipped] == ["01.png", "04.png", "05.png", "06.png", "07.png", "29.png"]


def test_a_damaged_or_foreign_state_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunState, "is_due", True)
    run, folder = ReconstructionRun(SUITE, GrayPatches(), name="gray"), tmp_path / "states"
    state = RunState(folder, run.identity)

    def position(of: RunState, name: str = "samples") -> int | None:
        return of.restore(name, SkipReport(), {})

    with pytest.raises(KeyboardInterrupt):
        run.run(progress=stop_at(64), state=state)
    assert position(state) == 48
    assert position(state, "reference") is None
    other = GrayPatches()
    other.unused.data += 1
    assert position(RunState(folder, ReconstructionRun(SUITE, other, name="gray").identity)) is None
    assert position(RunState(folder, ReconstructionRun(SUITE.replace(seed=1), GrayPatches(), name="gray").identity)) is None
    (file,) = state.folder.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert position(state) is None
    (folder / "another").mkdir()
    state.remove()
    assert [path.name for path in folder.iterdir()] == ["another"]
    (folder / "another").rmdir()
    state.remove()
    assert not folder.exists()


def test_states_cost_little_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    state = RunState(tmp_path, {}, every=1.0)
    assert not state.is_due
    clock[0] = 1.0
    assert state.is_due
    state._cost = 0.1  # a state that took a tenth of a second is written every five
    clock[0] = 4.9
    assert not state.is_due
    clock[0] = 5.0
    assert state.is_due


def test_per_sample_results_are_tables_that_pandas_opens(tmp_path: Path) -> None:
    result, per_sample = ReconstructionRun(SUITE, GrayPatches(), name="gray").run()
    result.save(tmp_path / "r.json")
    per_sample.save_beside(tmp_path / "r.json")
    samples, codes = (pd.read_parquet(tmp_path / f"r.{name}.parquet") for name in ("samples", "codes"))
    assert samples["ssim"].mean() == pytest.approx(result.value("ssim").value)
    assert samples["key"].is_unique
    assert codes["count"].sum() == 200 * 64
    assert len(codes) == 17
    back = PerSampleResults.load_beside(tmp_path / "r.json", result.per_sample_sha256)
    assert back is not None
    assert np.array_equal(back.indices, per_sample.indices)
    assert set(back.per_sample) == {
        "psnr.mean_db",
        "ssim",
        "tokens_per_sample",
        "bits_per_sample.nominal",
        "bits_per_pixel.nominal",
    }
    assert back.per_sample["ssim"].mean() == result.value("ssim").value
    assert back.code_counts["grid"].sum() == 200 * 64
    assert PerSampleResults.load_beside(tmp_path / "other.json", result.per_sample_sha256) is None
    with pytest.raises(EvaluationError, match=r"r\.json"):
        PerSampleResults.load_beside(tmp_path / "r.json", "0" * 64)


def test_two_processes_killed_go_on_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    suite = SUITE.replace(num_samples=80, metrics=["psnr", "codebook"], extractors=[], batch_size=8).to_dict()

    def pair(folder: str, meeting: str) -> list[Child]:
        return [Child(suite, tmp_path / folder, f"file://{tmp_path / meeting}", rank, target=evaluate_as_one_of_two) for rank in range(2)]

    for child in pair("whole", "first"):
        child.finish()
    killed = [child.kill_after(3) for child in pair("parts", "second")]
    assert all(seen[-1] < 40 for seen in killed)
    rest = [child.finish() for child in pair("parts", "third")]
    assert all(seen[0] >= 8 for seen in rest)  # neither begins again
    results = [Result.load(tmp_path / folder / "small--a.json") for folder in ("whole", "parts")]
    assert json.dumps(results[0].reproducible()) == json.dumps(results[1].reproducible())
    assert results[0].run.processes == 2


def test_a_damaged_state_is_no_state(tmp_path: Path) -> None:
    """The run begins again: numbers in the wrong place, or a position beyond the samples, would give wrong numbers in silence."""
    table = PerSample()
    table.update([0, 1], {"value": [1.0, 2.0]})
    state = RunState(tmp_path, {"of": "this test"})
    state.save("pass", 2, SkipReport(), {"table": table})
    (path,) = state.folder.iterdir()
    whole = path.read_bytes()
    assert state.restore("pass", SkipReport(), {"table": PerSample()}) == 2
    for position in range(8, len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        restored = PerSample()
        if state.restore("pass", SkipReport(), {"table": restored}) is not None:
            assert restored.compute()["value"].tolist() == [1.0, 2.0]
    path.unlink()
    os.mkfifo(path)
    assert state.restore("pass", SkipReport(), {"table": PerSample()}) is None
