"""Families that take any size: what is no multiple of the stride is padded for the encoder, and comes back at its exact size."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import visiontok
from visiontok.core.tokenizer import Tokenizer

NET = {"channels": 8, "channel_mult": [1, 2], "num_res_blocks": 1, "latent_channels": 8, "norm_groups": 4}
BAE_NET = {**NET, "last_activation": False}
GRID = {"image_size": 16, "encoder": NET, "decoder": NET}
LIBRARY = {"base_channels": 32, "channel_multiplier": [1, 2], "num_res_blocks": 1, "latent_channels": 4, "embed_dim": 4}
VQ = {"type": "vq", "codebook_size": 32, "dim": 4}
BLOCKS = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2, "block_out_channels": [32, 32]}
VAE = {"image_size": 16, "channels": [8, 16], "num_res_blocks": 1, "norm_groups": 4, "bottleneck": {"dim": 3}}
FAMILIES: dict[str, dict[str, Any]] = {
    "llamagen-vq": {**GRID, "quantizer": VQ},
    "conv-grid": {**GRID, "quantizer": {"type": "fsq", "levels": [4, 4, 3]}},
    "ibq": {**GRID, "quantizer": {"codebook_size": 32, "dim": 6}},
    "elm-bae": {
        **GRID,
        "encoder": {**NET, "last_activation": False},
        "decoder": {**NET, "last_activation": False},
        "quantizer": {"dim": 8, "chunks": [3]},
    },
    "open-magvit2": {"image_size": 16, "net": {**NET, "latent_channels": 6}, "quantizer": {"dim": 6}},
    "maskgit-vqgan": {"image_size": 16, "net": NET, "quantizer": {"codebook_size": 32, "dim": 8}},
    "kl-vae": VAE,
    "tokenbridge": {"base": {"family": "kl-vae", "config": VAE}, "quantizer": {"levels": 16}},
    "janus-vq": {**LIBRARY, "num_embeddings": 32, "num_patches": 8},
    "diffusers-vq": {**BLOCKS, "num_vq_embeddings": 32, "image_size": 16},
    "emu3-vq": {**LIBRARY, "codebook_size": 32, "attn_resolutions": [], "hidden_size": 64, "image_size": 16},
}


@pytest.fixture(params=FAMILIES)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer[Any]:
    torch.manual_seed(0)
    return visiontok.create(request.param, **FAMILIES[request.param]).eval()


def image(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height * width))


def test_an_image_comes_back_at_its_size(tokenizer: Tokenizer[Any]) -> None:
    odd = image(15, 22)
    tokens = tokenizer.encode(odd)
    assert tokens.layout.extents == (8, 11)
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == odd.shape
    padded = torch.nn.functional.pad(odd, (0, 0, 0, 1), mode="replicate")
    torch.testing.assert_close(decoded, tokenizer.decode(tokenizer.encode(padded))[:, :, :15])


def test_images_of_different_sizes_share_a_call(tokenizer: Tokenizer[Any]) -> None:
    sizes = [(15, 22), (16, 16), (15, 22), (9, 7)]
    together = tokenizer.encode([image(*size)[0] for size in sizes])
    decoded = tokenizer.decode(together)
    for row, size in enumerate(sizes):
        alone = tokenizer.encode(image(*size))
        one = together[row : row + 1]
        assert torch.equal(one.data, alone.data) if not tokenizer.layout.is_continuous else torch.allclose(one.data, alone.data, atol=1e-5)
        torch.testing.assert_close(decoded[row : row + 1, :, : size[0], : size[1]], tokenizer.decode(alone), atol=1e-5, rtol=1e-5)
