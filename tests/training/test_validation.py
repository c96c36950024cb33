import io
import json
import math
from pathlib import Path

import pytest
import torch
import training_children as children
import yaml
from accelerate import Accelerator
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from training_recipes import TITOK

import visiontok
from visiontok.base.errors import ConfigError, IdentityError, TrainingError
from visiontok.core.identity import identify
from visiontok.data import open_source
from visiontok.data.holdout import Subset, hold_out
from visiontok.data.tokenizing import tokenize_source
from visiontok.evaluation.results.card import card_results
from visiontok.evaluation.results.result import Result
from visiontok.generators.decoding import SampleNoise
from visiontok.training import parse_recipe, train
from visiontok.training.build import build_task


@pytest.fixture(scope="module")
def token_sets(tokenizer_folder, tmp_path_factory):
    """Tokens of the test digits, and of some of the training digits."""
    root = tmp_path_factory.mktemp("tokens")
    tokenizer = visiontok.from_pretrained(tokenizer_folder)
    for name, source in (("many", open_source("digits:test")), ("few", Subset(open_source("digits:train"), range(20)))):
        tokenize_source(source, tokenizer, root / name, identity=identify(tokenizer, tokenizer_folder))
    return root


def validations(folder):
    """The numbers of every validation, by step."""
    lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    found = {line["step"]: {name: value for name, value in line.items() if name.startswith("validation/")} for line in lines}
    return {step: numbers for step, numbers in found.items() if numbers}


def weights(folder):
    return load_file(Path(folder) / "final" / "model.safetensors")


def assert_same(left, right):
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def card_of(folder):
    """Front matter and text."""
    _, matter, body = (Path(folder) / "final" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(matter)["visiontok"], body


@pytest.mark.parametrize("kind", ["tokenizer", "generator"])
def test_how_often_a_run_validates_changes_no_weight(kind, tokenizer_recipe, generator_recipe, tmp_path):
    make = {"tokenizer": tokenizer_recipe, "generator": generator_recipe}[kind]
    for every in (1, 1000):
        children.run(make(output=str(tmp_path / f"every-{every}"), validation={"num_samples": 10, "every": every}))
    assert_same(weights(tmp_path / "every-1"), weights(tmp_path / "every-1000"))
    often, once = validations(tmp_path / "every-1"), validations(tmp_path / "every-1000")
    (last,) = once
    assert list(often) == list(range(1, last + 1))
    assert often[last] == once[last]


def test_other_validation_samples_change_no_weight(tokenizer_recipe, tmp_path):
    for name, validation in (("none", None), ("test", {"source": "digits:test", "num_samples": 20})):
        children.run(tokenizer_recipe(output=str(tmp_path / name), validation=validation))
    assert_same(weights(tmp_path / "none"), weights(tmp_path / "test"))
    assert validations(tmp_path / "none") == {}
    assert card_of(tmp_path / "none")[0]["results"] == []
    assert Result.load(tmp_path / "test" / "validation.json").data.samples == 20


def test_a_resumed_run_validates_like_an_uninterrupted_one(tokenizer_recipe, tmp_path):
    common = {"schedule": {"steps": 8}, "validation": {"num_samples": 10, "every": 2}, "logging": {"every": 3, "tensorboard": False}}
    children.run(tokenizer_recipe(output=str(tmp_path / "whole"), **common))
    children.run(tokenizer_recipe(output=str(tmp_path / "parts"), steps=5, **common))
    children.run(tokenizer_recipe(output=str(tmp_path / "parts"), **common))
    assert list(validations(tmp_path / "whole")) == [2, 4, 6, 8]
    assert {step: numbers for step, numbers in validations(tmp_path / "parts").items() if step != 5} == validations(tmp_path / "whole")
    assert_same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


def test_held_out_samples_are_never_trained_on(tokenizer_recipe, generator_recipe, token_sets):
    accelerator = Accelerator(cpu=True)
    source = open_source("digits:test")
    held = {source.key(row) for row in hold_out([source.key(row) for row in range(len(source))], 256, total=len(source))[1].tolist()}
    assert len(held) == len(source) // 20

    task = build_task(parse_recipe(tokenizer_recipe(data={"source": "digits:test"}, batch_size=256, accumulate=1, validation={})), accelerator)
    batches = task.batches(0)
    trained = {key for _ in range(2) for key in next(batches).keys}
    assert len(trained) == len(source) - len(held)  # a whole epoch
    assert not trained & held
    assert {task.validator.source.key(row) for row in range(len(held))} == held

    task = build_task(parse_recipe(generator_recipe(data={"tokens": str(token_sets / "many")}, validation={})), accelerator)
    loader = task.loader
    assert not set(loader.dataset.batch(loader.samples[:].tolist()).keys) & held
    assert len(loader.samples) == len(source) - len(held)


def test_the_card_says_the_name_the_recipe_and_the_numbers_of_the_harness(tokenizer_recipe, tmp_path):
    recipe = tokenizer_recipe(output=str(tmp_path / "secret" / "my-digits"))
    children.run(recipe)
    folder = Path(recipe["output"])
    matter, body = card_of(folder)
    result = Result.load(folder / "validation.json")
    assert {row["metric"]: row["value"] for row in matter["results"]} == {row.metric: row.value for row in card_results(result)}
    psnr = result.value("psnr.mean_db")
    assert psnr.value == validations(folder)[8]["validation/psnr"]
    assert f"| {psnr.value:.6g} dB | digits-held-out (10 samples of 16 x 16) | {psnr.protocol} |" in body
    assert body.strip().startswith("# my-digits\n")
    shown = yaml.safe_load(body.partition("```yaml\n")[2].partition("```")[0])
    assert shown["data"]["source"] == {"name": "digits", "split": "train"}
    assert shown["optimizer"] == {"lr": 1e-3}
    assert "secret" not in body
    visiontok.hub.add_results(folder / "final", card_results(result))  # of these weights


def test_the_numbers_are_those_of_evaluating_the_exported_model(tokenizer_recipe):
    from visiontok.evaluation import Suite, evaluate_suite

    recipe = tokenizer_recipe(steps=2)
    children.run(recipe)
    source = open_source("digits:train")
    held = Subset(source, hold_out([source.key(row) for row in range(len(source))], 10, total=len(source))[1])
    saved = Result.load(Path(recipe["output"]) / "validation.json")
    again = evaluate_suite(Suite.parse(saved.suite), visiontok.from_pretrained(Path(recipe["output"]) / "final"), name="run", source=held)
    assert [(value.label, value.value) for value in again.values] == [(value.label, value.value) for value in saved.values]


def test_a_finished_run_that_is_started_again_keeps_its_card(tokenizer_recipe):
    recipe = tokenizer_recipe(steps=2)
    children.run(recipe)
    before = card_of(recipe["output"])
    children.run(recipe)
    assert card_of(recipe["output"]) == before


def test_a_generator_is_validated_by_its_loss(generator_recipe, token_sets):
    recipe = generator_recipe(data={"tokens": str(token_sets / "many")}, steps=30, validation={"every": 10})
    children.run(recipe)
    numbers = validations(recipe["output"])
    last = numbers[30]
    assert last["validation/loss"] < numbers[10]["validation/loss"]
    assert last["validation/perplexity"] == pytest.approx(math.exp(last["validation/loss"]))
    assert 0 < last["validation/accuracy"] <= 1

    task = build_task(parse_recipe(recipe), Accelerator(cpu=True))
    dataset = task.loader.dataset
    held = dataset.batch(sorted(set(range(len(dataset))) - set(task.loader.samples[:].tolist())))
    model = visiontok.from_pretrained(Path(recipe["output"]) / "final")
    assert last["validation/loss"] == pytest.approx(model.loss(held.tokens, held.labels)["loss"].item(), rel=1e-5)
    matter, body = card_of(recipe["output"])
    assert {row["metric"]: row["value"] for row in matter["results"]}["bits_per_token"] == last["validation/bits_per_token"]
    assert "17 samples held out of the token set many" in body


def test_a_generator_validates_on_another_token_set_of_the_same_tokenizer(generator_recipe, token_sets, tmp_path):
    recipe = generator_recipe(data={"tokens": str(token_sets / "many")}, validation={"tokens": str(token_sets / "few"), "num_samples": 9})
    task = build_task(parse_recipe(recipe), Accelerator(cpu=True))
    assert sum(len(batch.tokens) for _, batch in task.validator.batches()) == 9
    assert len(task.loader.samples) == len(task.loader.dataset)

    torch.manual_seed(3)
    other = visiontok.create("titok", **TITOK)
    tokenize_source(open_source("photos:heldout"), other, tmp_path / "other", identity=identify(other, "other"))
    with pytest.raises(IdentityError, match="other"):
        train(parse_recipe(recipe | {"validation": {"tokens": str(tmp_path / "other")}}), cpu=True)


def test_masked_generators_draw_the_same_masks_at_every_validation(generator_recipe, token_sets):
    model = {"family": "maskgit", "config": {"backbone": {"type": "bert", "dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 16}}}
    recipe = generator_recipe(
        data={"tokens": str(token_sets / "few")}, model=model, steps=3, optimizer={"lr": 1e-12}, validation={"num_samples": 8, "every": 1}
    )
    children.run(recipe)
    first, second, third = validations(recipe["output"]).values()
    assert first == pytest.approx(second, rel=1e-5) == third
    assert 0 <= first["validation/masked_accuracy"] <= 1


def test_the_most_likely_codes_are_all_correct(tokenizer_folder):
    from training_recipes import GPT

    torch.manual_seed(0)
    layout = visiontok.from_pretrained(tokenizer_folder).layout
    model = visiontok.create("gpt", **GPT, layout=layout.to_dict()).eval()
    torch.nn.init.normal_(model.head.table.weight)
    likely = model.generate(num_samples=3, sampler=model.sampler(top_k=1), noise=SampleNoise(0, range(3)))
    assert float(model.loss(likely)["accuracy_per_token"]) == 1
    assert "accuracy_per_token" not in model.train().loss(likely)


def test_too_few_samples_are_said_and_all_are_trained_on(tokenizer_recipe, tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(8):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / "images" / f"{number}.png")
    said = io.StringIO()
    recipe = tokenizer_recipe(data={"source": f"folder:{tmp_path / 'images'}"}, steps=1)
    train(parse_recipe(recipe), cpu=True, console=Console(file=said, width=200))
    assert "8 samples; no validation" in said.getvalue()
    assert validations(recipe["output"]) == {}


def test_what_is_held_out_may_not_change_on_resume_but_how_often_may(tokenizer_recipe):
    children.run(tokenizer_recipe(steps=2))
    with pytest.raises(TrainingError, match=r"validation\.num_samples"):
        train(parse_recipe(tokenizer_recipe(steps=2, validation={"num_samples": 9})), cpu=True)
    children.run(tokenizer_recipe(steps=3, validation={"num_samples": 10, "every": 1}))


@pytest.mark.parametrize(
    ("data", "validation"), [({"tokens": "set"}, {"source": "digits:test"}), ({"signals": {"source": "digits:train"}}, {"tokens": "set"})]
)
def test_a_generator_validates_on_what_it_trains_on(data, validation, generator_recipe):
    with pytest.raises(ConfigError, match=rf"validation\.{next(iter(validation))}"):
        parse_recipe(generator_recipe(data=data, validation=validation))


def test_sample_images_are_in_tensorboard_too_and_show_held_out_samples(tokenizer_recipe):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = tokenizer_recipe(steps=2, logging={"every": 1}, sample_images={"every": 2, "count": 4})
    children.run(recipe)
    folder = Path(recipe["output"])
    (event,) = EventAccumulator(str(folder / "tensorboard")).Reload().Images("samples")
    with Image.open(io.BytesIO(event.encoded_image_string)) as shown, Image.open(folder / "samples" / "step-00000002.png") as saved:
        assert event.step == 2
        assert shown.convert("RGB").tobytes() == saved.convert("RGB").tobytes()
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("validation/psnr")] == [pytest.approx(validations(folder)[2]["validation/psnr"])]
