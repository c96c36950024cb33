import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import visiontok
from visiontok.base.errors import ConfigError, EvaluationError
from visiontok.base.files import contents
from visiontok.evaluation import GenerationSuite, evaluate_samples, model_identity
from visiontok.evaluation.generation.samples import open_samples
from visiontok.evaluation.generation.sampling import SamplePlan, classes_in_order, write_samples
from visiontok.generators.gpt.model import GPT, GPTConfig

SIZES = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    tokenizer = visiontok.create(
        "titok", image_size=16, num_latent_tokens=4, encoder=SIZES, decoder=SIZES, quantizer={"type": "vq", "codebook_size": 32, "dim": 4}
    )
    generator = GPT(
        GPTConfig.parse(
            {"layout": tokenizer.layout, "dim": 16, "depth": 1, "num_heads": 2, "multiple_of": 8, "condition": {"type": "classes", "num_classes": 3}}
        )
    )
    torch.nn.init.normal_(generator.head.table.weight)
    return generator.eval(), tokenizer.eval()


def plan_of(models, **changes):
    generator, tokenizer = models
    values = {"num_samples": 7, "generator": model_identity(generator, "g"), "tokenizer": model_identity(tokenizer, "t"), **changes}
    return SamplePlan(**values)


def pixels(path: Path) -> torch.Tensor:
    return torch.cat([images.values for images, _ in open_samples(path).batches(3)])


def test_orders_of_classes() -> None:
    assert classes_in_order(7, 3, "cycle", seed=0) == [0, 1, 2, 0, 1, 2, 0]
    assert classes_in_order(6, 3, "by-class", seed=0) == [0, 0, 1, 1, 2, 2]
    shuffled = classes_in_order(300, 3, "shuffled", seed=1)
    assert sorted(shuffled) == classes_in_order(300, 3, "by-class", seed=0)
    assert shuffled == classes_in_order(300, 3, "shuffled", seed=1) != classes_in_order(300, 3, "shuffled", seed=2)
    assert set(classes_in_order(300, 3, "uniform", seed=0)) == {0, 1, 2}
    with pytest.raises(ConfigError, match="7 samples cannot be shared equally by 3 classes"):
        classes_in_order(7, 3, "shuffled", seed=0)


def test_folder_and_file_hold_the_same_images_whatever_the_batches(models, tmp_path: Path) -> None:
    write_samples(plan_of(models), *models, tmp_path / "folder", batch_size=3)
    write_samples(plan_of(models), *models, tmp_path / "file.npz", batch_size=4)
    names = sorted(path.name for path in (tmp_path / "folder").glob("*.png"))
    assert names[:2] == ["00000-class-0000.png", "00001-class-0001.png"]
    assert len(names) == 7
    assert torch.equal(pixels(tmp_path / "folder"), pixels(tmp_path / "file.npz"))
    with np.load(tmp_path / "file.npz") as arrays:
        assert (arrays["arr_0"].dtype, arrays["arr_0"].shape) == (np.uint8, (7, 16, 16, 3))
        assert arrays["arr_1"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    classes = [torch.cat([labels for _, labels in open_samples(tmp_path / kind).batches(3)]).tolist() for kind in ("folder", "file.npz")]
    assert classes == [[0, 1, 2, 0, 1, 2, 0]] * 2
    assert [path.name for path in contents(tmp_path)] == ["file.npz", "file.plan.json", "folder"]


@pytest.mark.parametrize("kind", ["folder", "file.npz"])
def test_an_interrupted_run_goes_on_and_repeats_nothing(models, tmp_path: Path, kind: str) -> None:
    def stop_at(limit):
        def progress(done, total):
            if done >= limit:
                raise KeyboardInterrupt

        return progress

    whole, parts = tmp_path / "whole" / kind, tmp_path / "parts" / kind
    write_samples(plan_of(models), *models, whole, batch_size=2)
    seen = []
    for limit in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            write_samples(plan_of(models), *models, parts, batch_size=2, progress=stop_at(limit))
    write_samples(plan_of(models), *models, parts, batch_size=2, progress=lambda done, total: seen.append(done))
    assert seen == [4, 6, 7]
    assert torch.equal(pixels(whole), pixels(parts))


def test_another_plan_is_refused(models, tmp_path: Path) -> None:
    write_samples(plan_of(models), *models, tmp_path)
    with pytest.raises(EvaluationError, match="another plan: seed differ"):
        write_samples(plan_of(models, seed=1), *models, tmp_path)
    assert json.loads((tmp_path / "plan.json").read_text())["seed"] == 0


def test_a_broken_image_is_named_and_counted(models, tmp_path: Path) -> None:
    write_samples(plan_of(models, num_samples=80), *models, tmp_path, batch_size=40)
    victim = tmp_path / "00003-class-0000.png"
    victim.write_bytes(victim.read_bytes()[:50])
    Image.new("RGB", (200, 200)).save(tmp_path / "grid.png")
    suite = GenerationSuite.parse(
        {"reference": {"name": "digits", "split": "test"}, "size": 16, "extractors": ["digit-classifier"], "num_samples": 80}
    )
    samples = open_samples(tmp_path)
    result = evaluate_samples(suite, samples.batches(32), skips=samples.report, plan=plan_of(models, num_samples=80))
    assert [skip.split(":")[0] for skip in result.generated_skipped] == ["00003-class-0000.png"]
    assert result.value("FD[digit-classifier]").count == 79
    assert result.sampling["class_order"] == "cycle"
    with pytest.raises(EvaluationError, match=r"79 samples were given \(1 could not be read: 00003.*requires 90"):
        evaluate_samples(suite.replace(num_samples=90), samples.batches(32), skips=samples.report)


def test_files_of_other_samplers(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    for name, save in (("a.npz", np.savez), ("b.npz", np.savez_compressed)):
        save(tmp_path / name, images)
        found = open_samples(tmp_path / name)
        batches = list(found.batches(4))
        assert (len(found), [len(batch) for batch, _ in batches]) == (10, [4, 4, 2])
        assert all(classes is None for _, classes in batches)
        assert np.array_equal(pixels(tmp_path / name).permute(0, 2, 3, 1).numpy(), images)


def test_files_that_hold_no_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "floats.npz", np.zeros((2, 8, 8, 3), np.float32))
    np.savez(tmp_path / "other.npz", mu=np.zeros(3))
    np.savez(tmp_path / "labels.npz", np.zeros((2, 8, 8, 3), np.uint8), np.zeros(3, np.int64))
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "bytes.npz", np.zeros((2, 8, 8, 3), np.uint8))
    with zipfile.ZipFile(tmp_path / "bytes.npz", "a") as archive:
        archive.writestr("arr_1.npy", b"no array")
    for name, message in (
        ("floats", "float32"),
        ("other", "arr_0"),
        ("labels", "one class for each of 2"),
        ("text", "arr_0"),
        ("bytes", "arr_1"),
        ("none", "no samples"),
    ):
        with pytest.raises(EvaluationError, match=message):
            open_samples(tmp_path / f"{name}.npz")
