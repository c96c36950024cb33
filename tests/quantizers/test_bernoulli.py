from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visiontok.base.errors import ConfigError
from visiontok.quantizers.bernoulli import BernoulliQuantizerConfig


@given(chunks=st.lists(st.integers(1, 6), min_size=1, max_size=4), values=st.sampled_from(["unit", "signed"]), seed=st.integers(0, 1000))
def test_indices_look_up_what_the_decoder_read(chunks: list[int], values: str, seed: int) -> None:
    torch.manual_seed(seed)
    quantizer = BernoulliQuantizerConfig(dim=4, chunks=tuple(chunks), values=values).build()
    quantized = quantizer(torch.randn(2, 3, 4))
    assert quantized.indices.shape == ((2, 3) if len(chunks) == 1 else (2, 3, len(chunks)))
    assert torch.equal(quantizer.lookup(quantized.indices), quantized.latents)


def test_the_first_bit_of_a_chunk_is_its_most_significant() -> None:
    quantizer = BernoulliQuantizerConfig(dim=2, chunks=(2, 1)).build()
    with torch.no_grad():
        quantizer.to_logits.weight.zero_()
        quantizer.to_logits.bias.copy_(torch.tensor([9.0, -9.0, 9.0]))
    quantized = quantizer.eval()(torch.zeros(1, 2))
    assert quantized.indices.tolist() == [[2, 1]]
    torch.testing.assert_close(quantized.latents[0], quantizer.rows[0] + quantizer.rows[2])


def test_bits_are_drawn_in_training_and_with_noise_only() -> None:
    torch.manual_seed(0)
    quantizer = BernoulliQuantizerConfig(dim=4, chunks=(12,)).build()
    latents = torch.randn(50, 4)
    thresholded = quantizer.eval()(latents)
    assert torch.equal(quantizer(latents).indices, thresholded.indices)
    first, second = (quantizer(latents, noise=torch.Generator().manual_seed(1)).indices for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, thresholded.indices)
    assert not torch.equal(quantizer.train()(latents).indices, thresholded.indices)
    fixed = BernoulliQuantizerConfig(dim=4, chunks=(12,), draws=False).build()
    fixed.load_state_dict(quantizer.state_dict())
    assert torch.equal(fixed.train()(latents).indices, thresholded.indices)


def test_drawn_bits_come_up_as_often_as_they_should() -> None:
    quantizer = BernoulliQuantizerConfig(dim=1, chunks=(1,)).build().train()
    with torch.no_grad():
        quantizer.to_logits.weight.zero_()
        quantizer.to_logits.bias.fill_(torch.logit(torch.tensor(0.2)))
    torch.manual_seed(0)
    assert quantizer(torch.zeros(20_000, 1)).indices.float().mean() == pytest.approx(0.2, abs=0.01)


def test_gradients_pass_through_the_bits_to_the_logits() -> None:
    quantizer = BernoulliQuantizerConfig(dim=3, chunks=(5,)).build().eval()
    latents = torch.randn(7, 3, requires_grad=True)
    quantizer(latents).latents.sum().backward()
    given = latents.detach().requires_grad_(True)
    (quantizer.probabilities(given) @ quantizer.rows.detach()).sum().backward()
    torch.testing.assert_close(latents.grad, given.grad)


def test_chunks_beyond_an_int64_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 to 62 bits"):
        BernoulliQuantizerConfig.parse({"dim": 2, "chunks": [63]})
