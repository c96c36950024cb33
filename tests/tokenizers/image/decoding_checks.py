"""What holds for the decoding of several families."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from visiontok.base.errors import TokenError
from visiontok.core.tokenizer import Tokenizer


def assert_lengths_share_a_batch(model: Tokenizer[Any], images: Tensor, lengths: Tensor, **options: Any) -> Tensor:
    """A sample decodes alike alone and among samples of other lengths; gives the mixed batch."""
    decode: Any = partial(model.decode, **options)
    mixed = decode(model.encode(images, num_tokens=lengths))
    for row, length in enumerate(lengths.tolist()):
        alone = decode(model.encode(images[row : row + 1], num_tokens=length))
        torch.testing.assert_close(mixed[row : row + 1], alone)
    return mixed


def assert_noise_follows_from_tokens_or_generator(model: Any, images: Tensor, noise: Tensor) -> None:
    """Decoding draws nothing unless it is told to, does not depend on the batch, and refuses noise of another shape."""
    tokens = model.encode(images)
    first = model.decode(tokens)
    torch.manual_seed(5)
    assert torch.equal(model.decode(tokens), first)
    torch.testing.assert_close(model.decode(tokens[1:2]), first[1:2])
    drawn = model.decode(tokens, generator=torch.Generator().manual_seed(3))
    assert torch.equal(model.decode(tokens, generator=torch.Generator().manual_seed(3)), drawn)
    assert not torch.equal(drawn, first)
    with pytest.raises(TokenError, match="shape"):
        model.decode(tokens, noise=noise[:2])
