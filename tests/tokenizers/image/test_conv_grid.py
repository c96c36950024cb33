"""The grid of tokens with any quantizer."""

from __future__ import annotations

import math

import pytest
import torch

import visiontok
from visiontok.base.errors import ConfigError

NET = {"channels": 8, "channel_mult": [1, 2], "num_res_blocks": 1, "latent_channels": 8, "norm_groups": 1, "mid": "residual"}
QUANTIZERS = {
    "vq": {"codebook_size": 16, "dim": 4, "kmeans": {"after_steps": 20}},
    "sim_vq": {"codebook_size": 16, "dim": 4},
    "ibq": {
        "codebook_size": 16,
        "dim": 4,
        "index_weight": 0.02,
        "commitment_weight": 0.02,
        "codebook_weight": 0.02,
        "entropy": {"weight": 0.02, "temperature": 1.0},
    },
    "fsq": {"levels": [4, 4]},
    "binary": {"dim": 4, "entropy": None},
}


def create(quantizer: dict):
    torch.manual_seed(0)
    return visiontok.create("conv-grid", image_size=8, encoder=NET, decoder=NET, quantizer=quantizer)


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_every_quantizer_takes_its_place(kind: str, tmp_path):
    model = create({"type": kind, **QUANTIZERS[kind]}).eval()
    images = torch.rand(2, 3, 8, 16, generator=torch.Generator().manual_seed(0))
    tokens = model.encode(images)
    assert tokens.layout.segments[0].shape == (4, 8)
    assert tokens.layout.vocab_sizes.tolist() == [16] * 32
    assert tokens.layout.bits == 32 * math.log2(16)
    with torch.no_grad():
        torch.testing.assert_close(model.decode(tokens), model(images).reconstruction.clamp(0, 1))
    visiontok.save_pretrained(model, tmp_path / "saved")
    loaded = visiontok.from_pretrained(tmp_path / "saved")
    assert loaded.config == model.config
    assert torch.equal(loaded.encode(images).indices, tokens.indices)


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_every_quantizer_learns(kind: str):
    model = create({"type": kind, **QUANTIZERS[kind]}).train()
    patches = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.interpolate(patches, scale_factor=4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(50):
        output = model(images)
        losses.append((output.reconstruction - images).square().mean())
        optimizer.zero_grad()
        (losses[-1] + sum(output.losses.values())).backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_signs_of_several_ids_per_position():
    tokens = create({"type": "binary", "dim": 6, "chunks": [4, 2], "entropy": None}).eval().encode(torch.rand(1, 3, 8, 8))
    assert tokens.view().shape == (1, 4, 4, 2)
    assert sorted(set(tokens.layout.vocab_sizes.tolist())) == [4, 16]


def test_two_projections_in_a_row_are_refused():
    with pytest.raises(ConfigError, match="num_bits"):
        create({"type": "binary", "dim": 4, "num_bits": 8})
