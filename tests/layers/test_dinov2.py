from __future__ import annotations

import pytest
import torch
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from visiontok.base.errors import CheckpointError
from visiontok.layers.dinov2 import DinoViT, dino_weights
from visiontok.layers.vit import ViTConfig

CONFIG = ViTConfig(dim=16, depth=2, num_heads=2, patch_size=8)


def published(*, patch_size: int = 8, image_size: int = 32, layer_scale: float | None = 0.5) -> tuple[object, dict[str, Tensor]]:
    """timm's network with random weights, whose names are Meta's."""
    torch.manual_seed(0)
    network = VisionTransformer(
        img_size=image_size, patch_size=patch_size, embed_dim=16, depth=2, num_heads=2, num_classes=0, init_values=layer_scale
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval(), network.state_dict()


@pytest.mark.parametrize("layer_scale", [None, 0.5])
def test_the_encoder_is_timms(layer_scale):
    network, weights = published(layer_scale=layer_scale)
    encoder = DinoViT(CONFIG, image_size=32, layer_scale=layer_scale)
    encoder.load_state_dict(dino_weights({**weights, "mask_token": torch.zeros(1, 16)}, patch_size=8, grid_side=4))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(encoder(images), network.forward_features(images), rtol=1e-4, atol=1e-5)


def test_positions_and_kernels_are_resampled_as_timm_does():
    _, weights = published(patch_size=7, image_size=28)
    ours = dino_weights(weights, patch_size=8, grid_side=6)
    positions = resample_abs_pos_embed(weights["pos_embed"], [6, 6], num_prefix_tokens=1)
    torch.testing.assert_close(ours["trunk.positions"], positions[0])
    kernels = resample_patch_embed(weights["patch_embed.proj.weight"], [8, 8])
    torch.testing.assert_close(ours["patch_embed.weight"], kernels, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("added", "removed"), [("reg_token", None), ("head.weight", None), (None, "pos_embed")])
def test_other_networks_are_refused_by_the_tensor(added, removed):
    _, weights = published()
    if added:
        weights[added] = torch.zeros(1)
    weights = {key: tensor for key, tensor in weights.items() if key != removed}
    with pytest.raises(CheckpointError, match=added or removed):
        dino_weights(weights, patch_size=8, grid_side=4)
