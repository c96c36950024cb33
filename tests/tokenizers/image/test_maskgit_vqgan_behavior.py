from __future__ import annotations

import pytest
import torch

from visiontok.base.errors import ConfigError
from visiontok.tokenizers.image.maskgit_vqgan.model import MaskGitVqgan, MaskGitVqganConfig

CONFIG = MaskGitVqganConfig(
    image_size=32,
    net={"channels": 32, "channel_mult": [1, 2, 1], "num_res_blocks": 1, "latent_channels": 8, "shortcut": "input"},
    quantizer={"codebook_size": 40, "dim": 8},
)


def test_any_multiple_of_the_stride_keeps_its_shape():
    model = MaskGitVqgan(CONFIG).eval()
    tokens = model.encode(torch.rand(2, 3, 16, 24))
    assert tokens.view("grid").shape == (2, 4, 6)
    assert tokens.layout.signal_shape == (16, 24)
    assert model.decode(tokens).shape == (2, 3, 16, 24)


def test_odd_sizes_come_back_and_files_become_squares(tmp_path):
    from PIL import Image

    model = MaskGitVqgan(CONFIG).eval()
    images = torch.rand(1, 3, 19, 34, generator=torch.Generator().manual_seed(0))
    tokens = model.encode(images)
    assert tokens.view().shape == (1, 5, 9)
    assert model.decode(tokens).shape == (1, 3, 19, 34)
    padded = model.decode(model.encode(torch.nn.functional.pad(images, (0, 2, 0, 1), mode="replicate")))
    assert torch.equal(model.decode(tokens), padded[:, :, :19, :34])
    assert model.decode(model.encode(torch.rand(1, 3, 5, 1))).shape == (1, 3, 5, 1)
    Image.new("RGB", (50, 90)).save(tmp_path / "tall.png")
    assert model.encode(tmp_path / "tall.png").view().shape == (1, 8, 8)


def test_a_usual_shortcut_passes_the_input_on():
    torch.manual_seed(0)
    block = MaskGitVqgan(CONFIG).encoder.levels[1].blocks[0]
    with torch.no_grad():
        block.conv2.weight.zero_()
        x = torch.randn(1, 32, 8, 8)
        torch.testing.assert_close(block(x), block.shortcut(x))


def test_the_codebook_is_as_wide_as_the_latents():
    with pytest.raises(ConfigError, match="latent_channels"):
        MaskGitVqganConfig.parse({"net": {"latent_channels": 8}, "quantizer": {"codebook_size": 4, "dim": 9}})


def test_unknown_reference_keys_are_named():
    with pytest.raises(ConfigError, match="attention"):
        MaskGitVqgan.config_from_reference({"attention": True}, {})
