"""A codec trains with all losses of sound, and its training has the guarantees of any other."""

from __future__ import annotations

import pytest
import torch
import training_children as children
from small_models import SMALL
from speech_teacher import save_speech_teacher
from test_processes import assert_same_weights, curve
from test_resume import assert_equal, final_state

import visiontok
from visiontok.core.identity import identify
from visiontok.data import open_source
from visiontok.data.sounds import SoundsConfig
from visiontok.data.tokenizing import tokenize_source
from visiontok.training import load_recipe, parse_recipe, train

CODEC = {
    "sample_rate": 4000,
    "networks": {"channels": 2, "strides": [2, 4], "dim": 4, "lstm_depth": 1},
    "quantizer": {
        "type": "residual",
        "num_levels": 3,
        "quantizer": {"type": "vq", "codebook_size": 8, "dim": 4, "kmeans": {"after_steps": 1}, "ema": {}, "dead_code_reset": {"every_steps": 3}},
        "dropout": {"share": 0.5},
    },
}
OBJECTIVE = {
    "name": "codec",
    "waveform_weight": 1.0,
    "mel": {
        "resolutions": [{"n_fft": 32, "hop": 8, "num_bins": 5}, {"n_fft": 128, "hop": 32, "num_bins": 10}],
    },
    "gan": {
        "start_step": 2,
        "discriminators": [
            {"type": "periods", "periods": [2, 3], "channels": 2, "max_channels": 4},
            {"type": "spectra", "n_ffts": [64], "channels": 2},
        ],
    },
    "balancer": {"decay": 0.9},
}


@pytest.fixture
def codec_recipe(tokenizer_recipe):
    """A function: a recipe with everything that has state, and changes to it."""

    def make(**changes):
        data = {"source": {"name": "sounds", "sample_rate": 4000, "seconds": 0.2, "num_samples": 40}, "size": 400, "crop": "random"}
        return tokenizer_recipe(
            **({"accumulate": 1, "model": {"family": "conv-codec", "config": CODEC}, "data": data, "objective": OBJECTIVE} | changes)
        )

    return make


def test_it_trains_on_sounds_and_resumes_bit_for_bit(codec_recipe, tmp_path):
    common = {"schedule": {"steps": 6}}
    children.run(codec_recipe(output=str(tmp_path / "whole"), steps=6, **common))
    children.run(codec_recipe(output=str(tmp_path / "parts"), steps=4, **common))
    children.run(codec_recipe(output=str(tmp_path / "parts"), steps=6, **common))
    assert_equal(final_state(tmp_path / "parts"), final_state(tmp_path / "whole"))
    state = final_state(tmp_path / "whole")["objective"]
    assert {name.split(".")[0] for name in state} == {"balancer", "discriminator"}, "what has no state of its own is not saved"
    numbers = curve(tmp_path / "whole")[-1]
    assert {"waveform", "mel", "gan", "feature_matching", "discriminator", "commitment", "gradient_norm_mel"} <= numbers.keys()
    assert {"validation/waveform", "validation/mel"} <= {name for line in curve(tmp_path / "whole") for name in line}
    assert "gan" not in curve(tmp_path / "whole")[1]


def test_two_processes_train_it_as_one_does(codec_recipe, tmp_path):
    """But for rounding, which is all that a nearly constant sound has in most bins of its spectrum: there the mel distance takes its logarithm."""
    objective = {**OBJECTIVE, "balancer": None, "mel_weight": 1.0}
    options = {"objective": objective, "optimizer": {"lr": 1e-4}, "discriminator_optimizer": {"lr": 1e-4}, "steps": 6}
    children.run(codec_recipe(output=str(tmp_path / "one"), **options))
    assert_same_weights(children.run_ranks(codec_recipe(output=str(tmp_path / "two"), **options), tmp_path / "ranks"))
    for one, two in zip(curve(tmp_path / "one"), curve(tmp_path / "two"), strict=True):
        assert one.keys() == two.keys()
        for name in {"waveform", "mel", "commitment", "usage/frames.2", "gan", "feature_matching", "discriminator"} & one.keys():
            assert two[name] == pytest.approx(one[name], rel=1e-2 if name == "mel" else 1e-4, abs=1e-6), (one["step"], name)


def test_two_processes_balance_gradients_and_distill_a_teacher_as_one_does(codec_recipe, tmp_path):
    save_speech_teacher(tmp_path / "teacher")  # of another sampling rate
    distillation = {"teacher": {"folder": str(tmp_path / "teacher")}}
    objective = {**OBJECTIVE, "gan": {**OBJECTIVE["gan"], "start_step": 0}, "distillation": distillation}
    networks = SMALL["speechtokenizer"]["networks"] | {"strides": [5, 5]}
    model = {"family": "speechtokenizer", "config": SMALL["speechtokenizer"] | {"sample_rate": 4000, "networks": networks}}
    options = {"objective": objective, "model": model, "steps": 2}
    children.run(codec_recipe(output=str(tmp_path / "one"), **options))
    assert_same_weights(children.run_ranks(codec_recipe(output=str(tmp_path / "two"), **options), tmp_path / "ranks"))
    one, two = (curve(tmp_path / name)[0] for name in ("one", "two"))
    assert {"gradient_norm_mel", "distillation"} <= one.keys()
    for name in one:
        assert two[name] == pytest.approx(one[name], rel=1e-3, abs=1e-6), name


def test_a_teacher_is_distilled_and_not_saved(codec_recipe, tmp_path):
    save_speech_teacher(tmp_path / "teacher", sample_rate=4000)
    objective = {"name": "codec", "mel": OBJECTIVE["mel"], "distillation": {"teacher": {"folder": str(tmp_path / "teacher")}}}
    config, run = SMALL["speechtokenizer"] | {"sample_rate": 4000}, tmp_path / "run"
    model = {"family": "speechtokenizer", "config": config}
    assert train(parse_recipe(codec_recipe(output=str(run), model=model, objective=objective, steps=2)), cpu=True).step == 2
    assert curve(run)[0]["distillation"] > 0
    assert final_state(run)["objective"] == {}
    torch.manual_seed(0)
    before = visiontok.create("speechtokenizer", **config).semantic_projection.weight
    assert not torch.equal(visiontok.from_pretrained(run).semantic_projection.weight, before)


def test_sounds_of_different_lengths_share_a_batch(codec_recipe, tmp_path):
    sounds = {"name": "sounds", "sample_rate": 4000, "min_seconds": 0.1, "seconds": 0.2, "num_samples": 40}
    result = train(parse_recipe(codec_recipe(output=str(tmp_path / "run"), data={"source": sounds}, steps=3)), cpu=True)
    assert result.step == 3


@pytest.mark.parametrize(("pattern", "steps"), [("delay", 7), ("flatten", 15)])
def test_a_gpt_writes_its_codes_by_label(pattern, steps, tmp_path):
    torch.manual_seed(0)
    codec = visiontok.create("conv-codec", **CODEC).eval()
    visiontok.save_pretrained(codec, tmp_path / "codec")
    tones = open_source(SoundsConfig(name="tones", sample_rate=4000, min_seconds=0.1, seconds=0.2, num_samples=24))
    tokenize_source(tones, codec, tmp_path / "tokens", identity=identify(codec, str(tmp_path / "codec")))
    data = [f"data.tokens={tmp_path / 'tokens'}", f"tokenizer={tmp_path / 'codec'}", f"output={tmp_path / 'run'}", "validation=null"]
    less = ["steps=2", "batch_size=8", "model.config.dim=16", "model.config.depth=1", f"model.config.pattern={pattern}"]
    train(load_recipe("small/gpt-codec", [*data, *less]), cpu=True)
    generator = visiontok.from_pretrained(tmp_path / "run")
    layout = codec.layout.at([5])
    assert len(generator.plan(layout).held) == steps
    assert generator.config.condition.names == tones.class_names
    tokens = generator.generate(torch.tensor([0, 11]), layout=layout, noise=torch.Generator().manual_seed(0))
    assert tokens.view().shape == (2, 5, 3)
    assert codec.decode(tokens).shape == (2, 1, 5 * codec.hop)
