"""Nested dropout as one line of a fixed-length family's configuration: a TiTok whose prefixes decode."""

from __future__ import annotations

import pytest
import torch
from decoding_checks import assert_lengths_share_a_batch

import visiontok
from visiontok import Psnr
from visiontok.base.errors import TokenError

VIT = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
TITOK = {"image_size": 16, "num_latent_tokens": 6, "encoder": VIT, "decoder": VIT, "quantizer": {"type": "vq", "codebook_size": 8, "dim": 4}}


@pytest.fixture
def matryoshka():
    torch.manual_seed(0)
    return visiontok.create("titok", **TITOK, nested_dropout={"schedule": "uniform"}).eval()


def images(count=3):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_prefixes_decode_alone_and_mixed_alike(matryoshka):
    mixed = assert_lengths_share_a_batch(matryoshka, images(), torch.tensor([1, 6, 3]))
    assert not torch.allclose(mixed[0], matryoshka.decode(matryoshka.encode(images()))[0])


def test_all_tokens_decode_as_without_nested_dropout(matryoshka):
    plain = visiontok.create("titok", **TITOK).eval()
    plain.load_state_dict(matryoshka.state_dict())
    tokens = plain.encode(images())
    assert torch.equal(matryoshka.encode(images()).indices, tokens.indices)
    assert torch.equal(matryoshka(images()).reconstruction, plain(images()).reconstruction)
    with pytest.raises(TokenError):
        tokens.prefix(2)


def test_training_reads_prefixes_and_trains_every_part(matryoshka):
    matryoshka.train()
    torch.manual_seed(2)
    first, second = (matryoshka(images()).reconstruction for _ in range(2))
    assert not torch.equal(first, second)
    second.square().mean().backward()
    assert all(parameter.grad is not None for name, parameter in matryoshka.decoder.named_parameters())


def test_continuous_latents_can_be_ordered_too():
    torch.manual_seed(0)
    model = visiontok.create("titok", **{**TITOK, "quantizer": {"type": "gaussian", "dim": 4}}, nested_dropout={"schedule": "uniform"}).eval()
    mixed = assert_lengths_share_a_batch(model, images(), torch.tensor([1, 6, 3]))
    latents = model.encode(images())
    assert not torch.allclose(mixed[0], model.decode(latents)[0])
    torch.testing.assert_close(model.decode(latents.prefix(3))[2], mixed[2])
    assert model.encode(images(), target=Psnr(1)).sample_lengths.tolist() == [1, 1, 1]
