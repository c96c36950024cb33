"""Random replacement of the tokens that a generator reads in training."""

from __future__ import annotations

import pytest
import torch

import visiontok
from visiontok.base.errors import ConfigError
from visiontok.base.noise import SampleNoise
from visiontok.generators.perturbation import perturbed
from visiontok.tokens import Segment, TokenLayout, Tokens

LAYOUT = TokenLayout(
    modality="image", segments=(Segment(name="grid", shape=(2, 2), vocab_size=(5, 300), codebooks=2, stride=(4, 4)),), signal_shape=(8, 8)
)
SIZES = {"dim": 16, "depth": 1, "num_heads": 2, "multiple_of": 8, "token_dropout": 0.0, "residual_dropout": 0.0, "ffn_dropout": 0.0}


def test_as_many_codes_as_said_are_replaced_by_codes_of_their_own_codebook():
    sizes = torch.tensor([[[5, 300]]]).expand(1, 400, 2)
    codes = torch.zeros(20, 400, 2, dtype=torch.int64)
    found = perturbed(codes, sizes, probability=0.25, noise=SampleNoise(0, range(20)))
    for number, size in enumerate((5, 300)):
        column = found[..., number]
        assert column.unique().tolist()[:: size - 1] == [0, size - 1]
        assert (column != 0).float().mean() == pytest.approx(0.25 * (1 - 1 / size), abs=0.02)
    part = perturbed(codes[7:9, :100], sizes[:, :100], probability=0.25, noise=SampleNoise(0, range(7, 9)))
    assert torch.equal(part, found[7:9, :100]), "neither the batch nor the length of its longest sample matters"


@pytest.mark.parametrize("pattern", ["flatten", "parallel"])
def test_what_is_read_is_perturbed_and_what_is_predicted_is_not(pattern: str):
    torch.manual_seed(0)
    model = visiontok.create("gpt", layout=LAYOUT, pattern=pattern, token_perturbation=1 - 1e-9, **SIZES)
    for parameter in model.parameters():  # the new head predicts the same whatever it reads
        torch.nn.init.normal_(parameter, std=0.2)
    indices = torch.stack([torch.randint(0, 5, (6, 4)), torch.randint(0, 300, (6, 4))], dim=2).flatten(1)
    tokens, others = Tokens(indices, LAYOUT), Tokens(indices.roll(1, 0), LAYOUT)
    read = []
    model.embedding.register_forward_pre_hook(lambda module, arguments: read.append(arguments[0]))
    losses = [model.loss(batch, noise=SampleNoise(0, range(6)))["loss"] for batch in (tokens, others, tokens)]
    assert torch.equal(read[0], read[1]), "every code that is read is drawn"
    assert losses[0] != losses[1]
    assert losses[0] == losses[2]
    model.eval()
    clean = visiontok.create("gpt", layout=LAYOUT, pattern=pattern, **SIZES).eval()
    clean.load_state_dict(model.state_dict())
    assert model.loss(tokens)["loss"] == clean.loss(tokens)["loss"]


def test_latents_have_no_codes():
    layout = TokenLayout(modality="image", segments=(Segment(name="grid", shape=(2, 2), channels=3, stride=(4, 4)),), signal_shape=(8, 8))
    with pytest.raises(ConfigError, match="token_perturbation"):
        visiontok.create("gpt", layout=layout, token_perturbation=0.1, **SIZES)
