"""What holds for the decoding of several families."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from visiontok.base.noise import RecordedNoise, SampleNoise
from visiontok.core.tokenizer import DecodeOptions, Tokenizer


def assert_lengths_share_a_batch(model: Tokenizer[Any], images: Tensor, lengths: Tensor, options: DecodeOptions | None = None) -> Tensor:
    """A sample decodes alike alone and among samples of other lengths; gives the mixed batch."""
    options = options or DecodeOptions()
    mixed = model.decode_with(model.encode(images, num_tokens=lengths), options)
    for row, length in enumerate(lengths.tolist()):
        alone = model.decode_with(model.encode(images[row : row + 1], num_tokens=length), options)
        torch.testing.assert_close(mixed[row : row + 1], alone)
    return mixed


def assert_noise_follows_from_tokens_or_is_given(model: Tokenizer[Any], images: Tensor, noise: Tensor) -> None:
    """Decoding draws nothing unless it is told to, and a sample's draws do not depend on its batch; `noise` (B, ...) is a recording."""
    assert model.is_stochastic
    tokens = model.encode(images)
    first = model.decode(tokens)
    torch.manual_seed(5)
    assert torch.equal(model.decode(tokens), first)
    torch.testing.assert_close(model.decode(tokens[1:2]), first[1:2])
    drawn = model.decode(tokens, noise=torch.Generator().manual_seed(3))
    assert torch.equal(model.decode(tokens, noise=torch.Generator().manual_seed(3)), drawn)
    assert not torch.equal(drawn, first)
    by_sample = model.decode(tokens, noise=SampleNoise(7, range(len(tokens))))
    torch.testing.assert_close(model.decode(tokens[1:2], noise=SampleNoise(7, [1])), by_sample[1:2])
    replayed = [model.decode(tokens, noise=RecordedNoise(normal=[noise])) for _ in range(2)]
    assert torch.equal(*replayed)
    with pytest.raises(ValueError, match=str(len(tokens) - 1)):
        model.decode(tokens, noise=RecordedNoise(normal=[noise[:-1]]))
