"""The training pass of sizes that the network does not take: padded and cropped back, or refused."""

from __future__ import annotations

import pytest
import torch

import visiontok
from visiontok.base.errors import SignalError

NET = {"channels": 4, "channel_mult": [1, 2], "num_res_blocks": 1, "latent_channels": 8, "norm_groups": 2, "mid": "residual"}
VIT = {"dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
VQ = {"type": "vq", "codebook_size": 16, "dim": 4}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(13, 9), (8, 11), (12, 8)])
def test_any_size_comes_back_exactly(size: tuple[int, int], training: bool) -> None:
    model = visiontok.create("conv-grid", image_size=16, encoder=NET, decoder=NET, quantizer=VQ).train(training)
    signal = torch.rand(2, 3, *size)
    output = model(signal)
    assert output.reconstruction.shape == signal.shape
    encoded = model.eval().encode(signal)
    assert torch.equal(output.tokens.indices, encoded.indices)
    assert model.decode(output.tokens).shape == signal.shape
    torch.testing.assert_close(model.decode(output.tokens), output.reconstruction.detach().clamp(0, 1))


def test_another_size_than_the_only_one_is_refused() -> None:
    model = visiontok.create("titok", image_size=16, num_latent_tokens=4, encoder=VIT, decoder=VIT, quantizer=VQ)
    with pytest.raises(SignalError, match=r"\(24, 16\).*\(16, 16\)"):
        model(torch.rand(1, 3, 24, 16))
