"""What every model offers beside its contract: sizes, saving itself, and tokenizers that decode plain tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import visiontok
from visiontok.base.errors import ConditionError, SignalError, TokenError
from visiontok.hub import ModelCard

VIT = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
NET = {"channels": 8, "channel_mult": [1, 2], "num_res_blocks": 1, "latent_channels": 8, "norm_groups": 4}
TITOK = {"image_size": 16, "num_latent_tokens": 4, "encoder": VIT, "decoder": VIT}
MODELS = {
    "line": ("titok", {**TITOK, "quantizer": {"type": "vq", "codebook_size": 16, "dim": 4}}),
    "continuous": ("titok", {**TITOK, "quantizer": {"type": "gaussian", "dim": 4}}),
    "grid": ("conv-grid", {"image_size": 16, "encoder": NET, "decoder": NET, "quantizer": {"type": "fsq", "levels": [5, 5]}}),
    "chunks": ("conv-grid", {"image_size": 16, "encoder": NET, "decoder": NET, "quantizer": {"type": "binary", "dim": 6, "chunks": [3, 3]}}),
}
every = pytest.mark.parametrize("name", MODELS)


def build(name: str) -> visiontok.Tokenizer:
    family, config = MODELS[name]
    torch.manual_seed(0)
    model = visiontok.create(family, **config).eval()
    assert isinstance(model, visiontok.Tokenizer)
    return model


@every
def test_decode_takes_the_shaped_tensor(name):
    model = build(name)
    tokens = model.encode(torch.rand(2, 3, 16, 16))
    assert torch.equal(model.decode(tokens.view()), model.decode(tokens))
    with pytest.raises(TokenError, match=r"\(2, 3, 1, 1, 1\)"):
        model.decode(torch.zeros(2, 3, 1, 1, 1, dtype=tokens.data.dtype))


def test_decode_takes_a_grid_of_any_size():
    image = build("grid").decode(torch.zeros(1, 3, 5, dtype=torch.int64))
    assert image.shape == (1, 3, 6, 10)


def test_decode_names_what_it_cannot_take():
    model = build("line")
    with pytest.raises(TokenError, match=r"16.*outside"):
        model.decode(torch.full((1, 4), 16))
    with pytest.raises(TokenError, match="float32"):
        model.decode(torch.zeros(1, 4))
    with pytest.raises(TokenError, match="list"):
        model.decode([[1, 2, 3, 4]])


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "uint8"),
        (torch.zeros(3, 16, 16), r"\(3, 16, 16\)"),
        (torch.zeros(2, 16, 16, 3), r"\(2, 16, 16, 3\)"),
        ([1.0], "list"),
    ],
)
def test_a_training_pass_names_what_it_cannot_take(signal, message):
    with pytest.raises(SignalError, match=message):
        build("line")(signal)


def test_generators_take_the_tensor_and_name_what_they_cannot_take():
    layout = build("line").layout
    generator = visiontok.create("gpt", layout=layout, dim=16, depth=1, num_heads=2).eval()
    indices = torch.randint(0, 16, (2, 4))
    assert torch.equal(generator.loss(indices)["loss"], generator.loss(visiontok.Tokens(indices, layout))["loss"])
    with pytest.raises(TokenError, match=r"\(2, 5\)"):
        generator.loss(torch.zeros(2, 5, dtype=torch.int64))
    with pytest.raises(TokenError, match="list"):
        generator.loss([1, 2])
    with pytest.raises(ConditionError, match="3"):
        generator.generate(3)


def test_sizes():
    model = build("line")
    assert model.vocab_size == model.quantizer.codebook_size == 16
    assert build("chunks").vocab_size == 8
    assert model.num_parameters == sum(parameter.numel() for parameter in model.parameters()) > 0
    with pytest.raises(TokenError, match="continuous"):
        _ = build("continuous").vocab_size
    generator = visiontok.create("gpt", layout=model.layout, dim=16, depth=1, num_heads=2)
    assert generator.vocab_size == 16
    assert generator.num_parameters == sum(parameter.numel() for parameter in generator.parameters())


def test_a_model_saves_itself(tmp_path: Path):
    model = build("line")
    folder = model.save_pretrained(tmp_path / "mine", card=ModelCard(license="mit"))
    assert folder == tmp_path / "mine"
    assert "license: mit" in (folder / "README.md").read_text(encoding="utf-8")
    again = visiontok.from_pretrained(folder)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
