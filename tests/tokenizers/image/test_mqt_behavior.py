"""What MQT promises beside parity: prefixes at no cost, features instead of images, no decoder, and a prefix that training draws."""

from __future__ import annotations

import pytest
import torch
from family_checks import fit

import visiontok
from visiontok import Psnr
from visiontok.base.errors import CheckpointError, ConfigError, SignalError, TokenError

SIZES = {"query_side": 3, "feature_side": 4, "feature_dim": 16, "output_dim": 8, "num_heads": 2}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return visiontok.create("mqt", **SIZES).eval()


def features(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 16, 16, generator=torch.Generator().manual_seed(1))


def test_prefixes_are_the_first_rows(model):
    whole = model.encode(features())
    assert whole.values.shape == (3, 9, 8)
    for length in model.lengths_supported:
        torch.testing.assert_close(model.encode(features(), num_tokens=length).values, whole.prefix(length).values)
    assert whole.prefix(5).prefix(2).values.shape == (3, 2, 8)


@pytest.mark.parametrize("length", [0, 10])
def test_lengths_that_there_are_not(model, length):
    with pytest.raises(TokenError, match=str(length)):
        model.encode(features(), num_tokens=length)
    with pytest.raises(TokenError, match=str(length)):
        model.encode(features()).prefix(length)


def test_lengths_differ_within_a_batch(model):
    assert model.encode(features(), num_tokens=torch.tensor([4, 4, 4])).values.shape == (3, 4, 8)
    mixed = model.encode(features(), num_tokens=torch.tensor([4, 1, 5]))
    assert mixed.sample_lengths.tolist() == [4, 1, 5]
    for row, length in enumerate((4, 1, 5)):
        torch.testing.assert_close(mixed.values[row, :length], model.encode(features(), num_tokens=9).values[row, :length])


def test_there_is_no_decoder(model):
    latents = model.encode(features(), num_tokens=4)
    assert not model.can_decode
    assert model(features()).reconstruction is None
    with pytest.raises(TokenError, match="Mqt"):
        model.decode(latents)
    with pytest.raises(TokenError):
        model.encode(features(), target=Psnr(20))
    with pytest.raises(TokenError):
        latents.view()


@pytest.mark.parametrize("signal", [torch.rand(2, 3, 56, 56), torch.randn(2, 15, 16), torch.zeros(2, 16, 16, dtype=torch.int64), "photo.jpg"])
def test_images_are_refused(model, signal):
    with pytest.raises(SignalError):
        model.encode(signal)


def test_training_draws_one_even_length_for_the_batch(model):
    noise = torch.Generator().manual_seed(3)
    lengths = {model.random_prefix(features(), noise=noise).shape[1] for _ in range(60)}
    assert lengths == {2, 4, 6, 8}


def test_a_loss_of_prefixes_falls(model):
    """A linear reader, instead of a language model, learns from prefixes of every length."""
    torch.manual_seed(0)
    reader = torch.nn.Linear(8, 4)
    target = torch.randn(3, 4)
    noise = torch.Generator().manual_seed(0)

    def loss(step: int) -> torch.Tensor:
        return (reader(model.random_prefix(features(), noise=noise).mean(dim=1)) - target).square().mean()

    losses = fit([*model.parameters(), *reader.parameters()], loss, steps=60, lr=1e-2)
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_whole_language_models_are_read_for_their_resampler(model):
    reference = {"grid_size": 3, "embed_dim": 8, "num_heads": 2, "kv_dim": 16, "tgt_size": [4, 4]}
    names = {"queries": "query", "positions": "pos_embed", "norm_queries": "ln_q", "norm_keys": "ln_k", "norm_values": "ln_v"}
    state = {}
    for key, tensor in model.state_dict().items():
        first, *rest = key.removeprefix("encoder.").split(".")
        state[".".join(("model.query_abstractor", names.get(first, first), *rest))] = tensor
    loaded = visiontok.from_reference(
        "mqt", reference, {**state, "model.layers.0.mlp.up_proj.weight": torch.zeros(1), "lm_head.weight": torch.zeros(1)}
    )
    assert torch.equal(loaded.encode(features()).values, model.encode(features()).values)
    with pytest.raises(CheckpointError, match="surprise"):
        visiontok.from_reference("mqt", reference, {**state, "model.surprise": torch.zeros(1)})
    with pytest.raises(ConfigError, match="depth"):
        visiontok.from_reference("mqt", {**reference, "depth": 2}, state)


def test_heads_must_fit():
    with pytest.raises(ConfigError, match="heads"):
        visiontok.create("mqt", **{**SIZES, "num_heads": 3})
