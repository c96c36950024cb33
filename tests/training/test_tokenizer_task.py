import io
import json
import re
from pathlib import Path

import pytest
import torch
import training_children as children
from PIL import Image
from rich.console import Console
from test_resume import assert_equal, final_state
from training_recipes import GAN, TITOK

import visiontok
from visiontok.base.errors import ConfigError, TrainingError
from visiontok.training import parse_recipe, train
from visiontok.training.build import build_task
from visiontok.training.checkpoint import TrainingCheckpoint

NET = {"channels": 32, "channel_mult": [1, 2], "num_res_blocks": 1, "latent_channels": 8}


def lines(folder):
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def vqgan(tmp_path):
    """A saved teacher: 8 x 8 tokens of 16 codes for an image of 16 pixels."""
    torch.manual_seed(1)
    quantizer = {"type": "vq", "codebook_size": 16, "dim": 8}
    model = visiontok.create("maskgit-vqgan", image_size=16, net=NET, quantizer=quantizer)
    return str(visiontok.save_pretrained(model, tmp_path / "vqgan"))


def test_training_learns_and_exports_the_average(tokenizer_recipe):
    recipe = tokenizer_recipe(steps=40, objective={"name": "reconstruction"}, accumulate=1, optimizer={"lr": 1e-2})
    children.run(recipe)
    folder = Path(recipe["output"])
    curve = [line["reconstruction"] for line in lines(folder)]
    assert sum(curve[-5:]) < 0.8 * sum(curve[:5])
    assert json.loads((folder / "config.json").read_text())["final_weights"] == "ema"
    state = TrainingCheckpoint.open(folder / "checkpoints" / "step-00000040").load()
    final = visiontok.from_pretrained(folder / "final").state_dict()
    assert all(torch.equal(final[name], tensor) for name, tensor in state["ema"].items())
    assert not torch.equal(state["ema"]["head.conv.weight"], state["model"]["head.conv.weight"])
    card = (folder / "final" / "README.md").read_text()
    assert "The average of the weights (decay 0.999) after 40 steps with batches of 8 samples of digits (split train)." in card


def test_without_an_average_the_weights_themselves_are_exported(tokenizer_recipe):
    recipe = tokenizer_recipe(steps=2, ema=None)
    children.run(recipe)
    folder = Path(recipe["output"])
    assert json.loads((folder / "config.json").read_text())["final_weights"] == "model"
    state = TrainingCheckpoint.open(folder / "checkpoints" / "step-00000002").load()
    final = visiontok.from_pretrained(folder / "final").state_dict()
    assert all(torch.equal(final[name], tensor) for name, tensor in state["model"].items())
    assert "ema" not in state


def test_both_stages_of_titok(tokenizer_recipe, vqgan, tmp_path):
    """First stage: the teacher's codes. Second: encoder and codebook of the first, frozen, and the teacher's decoder, trained to pixels."""
    first_config = TITOK | {"head": "codes", "num_teacher_codes": 16, "decoder": TITOK["decoder"] | {"patch_size": 2}}
    children.run(
        tokenizer_recipe(
            output=str(tmp_path / "first"),
            model={"family": "titok", "config": first_config},
            objective={"name": "teacher_codes", "teacher": vqgan},
            sample_images={"every": 8, "count": 3},
        )
    )
    assert {"teacher_codes", "commitment"} <= lines(tmp_path / "first")[0].keys()
    assert (tmp_path / "first" / "samples" / "step-00000008.png").is_file()

    parts = {"encoder": "encoder", "quantizer": "quantizer", "decoder": "decoder", "head": "head"}
    model = {
        "family": "titok",
        "config": first_config | {"pixel_decoder": NET},
        "init_parts": [
            {"source": str(tmp_path / "first" / "final"), "parts": parts},
            {"source": vqgan, "parts": {"pixel_decoder": "decoder", "pixel_codebook": "quantizer.codebook"}},
        ],
        "freeze": ["encoder", "quantizer"],
    }
    children.run(tokenizer_recipe(output=str(tmp_path / "second"), model=model))
    before = visiontok.from_pretrained(tmp_path / "first" / "final").state_dict()
    after = TrainingCheckpoint.open(tmp_path / "second" / "checkpoints" / "step-00000008").load()["model"]
    frozen = [name for name in before if name.startswith(("encoder.", "quantizer."))]
    assert "quantizer.ema.sums" in frozen
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    assert not torch.equal(after["head.layers.0.weight"], before["head.layers.0.weight"])
    teacher = visiontok.from_pretrained(vqgan)
    assert not torch.equal(after["pixel_codebook"], teacher.quantizer.codebook)
    assert torch.allclose(after["pixel_codebook"], teacher.quantizer.codebook, atol=0.02)


def test_training_goes_on_from_a_saved_model(tokenizer_recipe, tokenizer_folder):
    recipe = tokenizer_recipe(steps=1, model={"init_from": tokenizer_folder}, optimizer={"lr": 1e-9})
    children.run(recipe)
    before, after = visiontok.from_pretrained(tokenizer_folder), visiontok.from_pretrained(Path(recipe["output"]) / "final")
    assert torch.allclose(before.head.conv.weight, after.head.conv.weight, atol=1e-7)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"family": "titok", "config": TITOK, "freeze": ["encodr"]}, "no part 'encodr'.*encoder, quantizer"),
        ({"family": "titok", "config": TITOK, "init_parts": [{"source": "VQGAN", "parts": {"pixels": "decoder"}}]}, "new model has no part 'pixels'"),
        ({"family": "titok", "config": TITOK, "init_parts": [{"source": "VQGAN", "parts": {"encoder": "enc"}}]}, "has no part 'enc'"),
        ({"family": "titok", "config": TITOK, "init_parts": [{"source": "VQGAN", "parts": {"encoder": "encoder"}}]}, "do not fit"),
        ({"family": "gpt"}, "gpt is a generator, but the recipe trains a tokenizer"),
        ({"family": "titokk"}, "titok"),
        ({"family": "titok", "config": TITOK | {"image_siz": 8}}, "did you mean image_size"),
        ({"init_from": "./nowhere"}, "nowhere"),
    ],
)
def test_a_model_that_cannot_be_had_leaves_no_folder(model, message, tokenizer_recipe, vqgan):
    for entry in model.get("init_parts", ()):
        entry["source"] = entry["source"].replace("VQGAN", vqgan)
    recipe = tokenizer_recipe(model=model)
    with pytest.raises(visiontok.VisiontokError, match=message):
        train(parse_recipe(recipe), cpu=True)
    assert not Path(recipe["output"]).exists()


def test_sample_images_show_originals_above_reconstructions(tokenizer_recipe):
    recipe = tokenizer_recipe(steps=3, sample_images={"every": 2, "count": 10})
    children.run(recipe)
    folder = Path(recipe["output"]) / "samples"
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000002.png", "step-00000003.png"]
    with Image.open(folder / "step-00000002.png") as grid:
        assert grid.size == (8 * 18 + 2, 4 * 18 + 2)  # two lines of eight and two, each with its reconstructions
        assert grid.getpixel((3 * 18 + 5, 2 * 18 + 5)) == (255, 255, 255)  # nothing stands where the last line is shorter


def test_a_codebook_that_collapses_raises_the_alarm(tokenizer_recipe, capsys):
    config = TITOK | {"quantizer": {"type": "vq", "codebook_size": 4096, "dim": 4}}
    recipe = tokenizer_recipe(
        model={"family": "titok", "config": config}, logging={"every": 1, "tensorboard": False, "usage_window": 4, "usage_alarm": 0.5}
    )
    train(parse_recipe(recipe), cpu=True)
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning") and "of codebook" in line]
    assert [line.split(":")[1] for line in warnings] == [" step 4", " step 5", " step 6", " step 7", " step 8"]  # not before the window is full
    assert "of codebook 'latents' was used in the last 4 steps" in warnings[0]


def test_nan_says_the_step_the_term_and_the_checkpoint(tokenizer_recipe):
    def build(recipe, accelerator):
        task = build_task(recipe, accelerator)
        children.poison(task, 4)
        return task

    recipe = tokenizer_recipe()
    with pytest.raises(TrainingError, match=r"step 5: loss term 'reconstruction' is nan.*run/checkpoints/step-00000003"):
        train(parse_recipe(recipe), build=build, cpu=True)
    assert not (Path(recipe["output"]) / "final").exists()
    train(parse_recipe(recipe), cpu=True)
    assert (Path(recipe["output"]) / "final").exists()


def test_an_infinite_gradient_stops_before_the_step(tokenizer_recipe):
    def build(recipe, accelerator):
        task = build_task(recipe, accelerator)
        task.tokenizer.head.conv.weight.register_hook(lambda gradient: gradient * float("inf"))
        return task

    with pytest.raises(TrainingError, match=r"step 1: the norm of the gradient is .*no checkpoint was written yet"):
        train(parse_recipe(tokenizer_recipe(accumulate=1)), build=build, cpu=True)


def test_bf16_trains_and_keeps_float32_weights(tokenizer_recipe):
    recipe = tokenizer_recipe(precision="bf16")
    children.run(recipe)
    state = TrainingCheckpoint.open(Path(recipe["output"]) / "checkpoints" / "step-00000008").load()
    assert {tensor.dtype for tensor in state["model"].values() if tensor.is_floating_point()} == {torch.float32}


def test_fp16_without_an_accelerator_is_refused(tokenizer_recipe):
    with pytest.raises(ConfigError, match="fp16"):
        train(parse_recipe(tokenizer_recipe(precision="fp16")), cpu=True)


def test_files_that_cannot_be_used_are_named_at_the_end(tokenizer_recipe, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    for number in range(6):
        Image.new("RGB", (20, 20), (40 * number, 90, 200)).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "images" / "broken.png").write_bytes(b"")
    train(parse_recipe(tokenizer_recipe(data={"source": f"folder:{tmp_path / 'images'}"})), cpu=True)
    told = capsys.readouterr().err
    assert "1 sample skipped" in told
    assert "broken.png" in told


def test_progress_in_a_pipe_is_plain_lines(tokenizer_recipe, capsys):
    train(parse_recipe(tokenizer_recipe(logging={"every": 4, "tensorboard": False})), cpu=True)
    told = capsys.readouterr()
    assert told.out == ""
    progress = [line for line in told.err.splitlines() if re.match(r"step \d+/", line)]
    assert [line.split()[1] for line in progress] == ["4/8", "8/8"]
    assert all("samples/s" in line and "reconstruction" in line and line.endswith("left") for line in progress)
    assert "\x1b" not in told.err


def test_progress_on_a_terminal_is_a_bar(tokenizer_recipe):
    console = Console(force_terminal=True, file=io.StringIO(), width=160, color_system=None)
    train(parse_recipe(tokenizer_recipe()), cpu=True, console=console)
    shown = console.file.getvalue()
    assert "8/8" in shown
    assert "100%" in shown
    assert "samples/s" in shown
    assert "reconstruction" in shown


def test_curves_for_tensorboard(tokenizer_recipe):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = tokenizer_recipe(logging={"every": 2})
    children.run(recipe)
    events = EventAccumulator(str(Path(recipe["output"]) / "tensorboard")).Reload()
    written = [(event.step, event.value) for event in events.Scalars("reconstruction")]
    assert written == [(line["step"], pytest.approx(line["reconstruction"])) for line in lines(recipe["output"])]


@pytest.mark.parametrize("collapsed", [True, False])
def test_a_tokenizer_whose_reconstructions_do_not_differ_raises_the_alarm_after_warmup_and_window(collapsed, tokenizer_recipe, capsys):
    """Its codebook is used completely: positions differ, samples do not."""

    def build(recipe, accelerator):
        task = build_task(recipe, accelerator)

        def constant(module, inputs, output):
            return output[:1].expand(len(output), *output.shape[1:])

        task.tokenizer.encoder.register_forward_hook(constant if collapsed else lambda module, inputs, output: output * 30)
        return task

    config = TITOK | {"quantizer": {"type": "gaussian", "dim": 4}}
    logging = {"every": 1, "tensorboard": True, "usage_window": 4}
    recipe = tokenizer_recipe(model={"family": "titok", "config": config}, logging=logging, objective={"name": "reconstruction"}, accumulate=1)
    train(parse_recipe(recipe), build=build, cpu=True)
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    lines = [json.loads(line) for line in (Path(recipe["output"]) / "metrics.jsonl").read_text().splitlines()]
    assert all(line["variation/latents"] >= 0 and line["variation/reconstructions"] >= 0 for line in lines)
    if collapsed:
        steps = [line.split(":")[1] for line in warnings if "the reconstructions hardly differ" in line]
        assert steps == [" step 7", " step 8"]  # after 3 steps of warmup and a window of 4
    else:
        assert not [line for line in warnings if "the latents hardly differ" in line]


def test_usage_is_counted_from_the_first_quantized_step_on(tokenizer_recipe, capsys):
    quantizer = {"type": "vq", "codebook_size": 4096, "dim": 4, "kmeans": {"after_steps": 3}}
    logging = {"every": 1, "tensorboard": False, "usage_window": 2, "usage_alarm": 1.0}
    recipe = tokenizer_recipe(model={"family": "titok", "config": TITOK | {"quantizer": quantizer}}, logging=logging, accumulate=1)
    train(parse_recipe(recipe), cpu=True)
    lines = [json.loads(line) for line in (Path(recipe["output"]) / "metrics.jsonl").read_text().splitlines()]
    assert ["usage/latents" in line for line in lines] == [False] * 3 + [True] * 5
    steps = [line.split(":")[1] for line in capsys.readouterr().err.splitlines() if "of codebook 'latents'" in line]
    assert steps == [" step 5", " step 6", " step 7", " step 8"]


def test_gradient_checkpointing_changes_nothing(tokenizer_recipe, tmp_path):
    """Not even an adaptive weight, for which a layer's gradients are taken before those of the whole model."""
    objective = {"name": "reconstruction", "gan": GAN | {"adaptive": {"last_layer": "head.conv.weight"}}}
    children.run(tokenizer_recipe(output=str(tmp_path / "kept"), objective=objective))
    children.run(tokenizer_recipe(output=str(tmp_path / "again"), objective=objective, gradient_checkpointing=True))
    assert_equal(final_state(tmp_path / "again"), final_state(tmp_path / "kept"))


def test_gradient_checkpointing_needs_blocks(tokenizer_recipe):
    vae = {"image_size": 16, "channels": [8, 16], "num_res_blocks": 1, "norm_groups": 4, "bottleneck": {"dim": 3}}
    recipe = tokenizer_recipe(model={"family": "kl-vae", "config": vae}, objective={"name": "reconstruction"}, gradient_checkpointing=True)
    with pytest.raises(ConfigError, match="gradient checkpointing"):
        train(parse_recipe(recipe), cpu=True)
