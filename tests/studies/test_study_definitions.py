"""Definitions of studies: the bundled ones, and invalid ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import visiontok
from visiontok.base.errors import ConfigError, UnknownNameError
from visiontok.studies import Study, list_studies, load_study
from visiontok.studies.definition import Trained
from visiontok.studies.run import runs_of
from visiontok.training.recipe import TokenizerRecipe, load_recipe

TINY = Path(__file__).parent / "tiny_study.yaml"


@pytest.mark.parametrize("name", list_studies())
def test_a_bundled_study_is_valid_and_so_are_its_recipes(name: str, tmp_path: Path):
    study = load_study(name)
    assert Study.parse(study.to_dict()) == study
    assert len(study.seeds) >= 5
    definitions = [run.definition() for run in runs_of(study.replace(seeds=[0]), tmp_path)]
    assert len(set(definitions)) == len(definitions)


def test_a_definition_ignores_folders_checkpoints_and_sample_images(tmp_path: Path):
    run, other = (runs_of(load_study(TINY), tmp_path / name)[0] for name in ("here", "there"))
    assert run.definition() == other.definition()
    quieter = load_study(TINY, ["data.digits.overrides=['data.source=digits:test',steps=6,batch_size=8,checkpoints.every=2,sample_images.every=0]"])
    assert runs_of(quieter, tmp_path)[0].definition() == run.definition()


def test_a_definition_depends_on_steps_suites_and_generator(tmp_path: Path):
    known = {runs_of(load_study(TINY), tmp_path)[0].definition()}
    for change in (
        "arms.vq.overrides=[steps=7]",
        "data.digits.reconstruction.num_samples=80",
        "data.digits.generation.num_samples=80",
        "generator.overrides=[steps=5]",
    ):
        known.add(runs_of(load_study(TINY, [change]), tmp_path)[0].definition())
    assert len(known) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": {"vq": {"quantizes": "kl", "levels": 8}}}, "'kl'"),
        ({"comparisons": [{"type": "difference", "question": "?", "metric": "psnr.mean_db", "arms": ["vq", "vae"]}]}, "'vae'"),
        ({"comparisons": [{"type": "mean", "question": "?", "metric": "psnr.mean_db", "arm": "vae"}]}, "'vae'"),
        ({"generator": None}, "data.digits.generation"),
        ({"arms": {"vq": {"recipe": "small/vq"}, "gpt": {"tokens_of": "vae", "recipe": "small/gpt"}}}, "'vae'"),
        ({"arms": {"vq": {"recipe": "small/vq"}, "gpt": {"tokens_of": "gpt", "recipe": "small/gpt"}}}, "'gpt'"),
        ({"arms": {"vq": {"recipe": "small/vq"}, "guided": {"generator_of": "vae", "sampling": {"guidance": 2.0}}}}, "'vae'"),
        ({"arms": {"vq": {"recipe": "small/vq"}, "guided": {"generator_of": "guided", "sampling": {"guidance": 2.0}}}}, "'guided'"),
        ({"seeds": [1, 1]}, r"seeds \(1, 1\)"),
    ],
)
def test_an_invalid_definition_is_refused(change: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        Study.parse({**load_study(TINY).to_dict(), **change})


def test_names_stay_within_the_folder():
    with pytest.raises(ConfigError):
        Study.parse({**load_study(TINY).to_dict(), "arms": {"../vq": {"recipe": "small/vq"}}})


def test_an_unknown_name_lists_close_ones():
    with pytest.raises(UnknownNameError, match="latent-perturbation"):
        load_study("latent-perturbations")


def test_an_arm_that_trains_a_generator_is_refused(tmp_path: Path):
    from visiontok.base.errors import VisiontokError

    with pytest.raises(VisiontokError, match="fsq"):
        runs_of(load_study(TINY, ["arms.fsq.recipe=small/gpt"]), tmp_path)


ARMS = {
    "vq": {"recipe": "small/vq"},
    "gpt": {"tokens_of": "vq", "recipe": "small/gpt"},
    "guided": {"generator_of": "gpt", "sampling": {"guidance": 2.0}},
}


def generated(tmp_path: Path, arms: dict[str, Any]) -> dict[str, str]:
    """The definition of every arm."""
    study = Study.parse({**load_study(TINY).to_dict(), "generator": None, "arms": arms, "seeds": [0], "comparisons": [MEAN]})
    return {run.arm: run.definition() for run in runs_of(study, tmp_path)}


MEAN = {"type": "mean", "question": "?", "metric": "psnr.mean_db", "arm": "vq"}


def test_a_definition_depends_on_the_generator_and_its_sampling(tmp_path: Path):
    known = generated(tmp_path, ARMS)
    assert len(set(known.values())) == 3
    more = generated(tmp_path, {**ARMS, "guided": {"generator_of": "gpt", "sampling": {"guidance": 3.0}}})
    assert {name for name in known if more[name] != known[name]} == {"guided"}
    other = generated(tmp_path, {**ARMS, "gpt": {"tokens_of": "vq", "recipe": "small/gpt", "overrides": ["steps=7"]}})
    assert {name for name in known if other[name] != known[name]} == {"gpt", "guided"}


def test_a_generator_of_which_nothing_is_sampled_is_refused():
    values = load_study(TINY).to_dict()
    values["data"]["digits"]["generation"] = None
    with pytest.raises(ConfigError, match=r"data\.digits\.generation"):
        Study.parse({**values, "generator": None, "arms": ARMS, "comparisons": [MEAN]})


def test_another_arms_samples_need_a_generator():
    arms = {"vq": ARMS["vq"], "guided": {"generator_of": "vq", "sampling": {"guidance": 2.0}}}
    values = load_study(TINY).to_dict()
    with pytest.raises(ConfigError, match="'vq'"):
        Study.parse({**values, "generator": None, "arms": arms, "comparisons": [MEAN]})
    Study.parse({**values, "arms": arms, "comparisons": [MEAN]})  # with one on the tokens of every tokenizer


def test_all_arms_of_the_study_of_clips_spend_the_same_bits() -> None:
    study, bits = load_study("clip-tokenizers"), {}
    for name, arm in study.arms.items():
        assert isinstance(arm, Trained)
        recipe = load_recipe(arm.recipe, [*study.data["moving-digits"].overrides, *arm.overrides])
        assert isinstance(recipe, TokenizerRecipe)
        assert recipe.model is not None
        model = visiontok.create(recipe.model.family, **recipe.model.config).eval()
        bits[name] = float(model.encode(torch.zeros(1, 3, 17, 16, 16)).bits[0])
    assert bits == pytest.approx(dict.fromkeys(bits, bits["causal-2"]), rel=0.006)
