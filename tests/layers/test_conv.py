"""The convolutional blocks."""

from __future__ import annotations

import pytest
import torch

from visiontok.decoders.conv import ConvDecoder
from visiontok.errors import ConfigError
from visiontok.layers.conv import ConvNetConfig

SMALL = {"channels": 32, "channel_mult": (1, 2), "num_res_blocks": 1, "latent_channels": 4}


def test_the_number_of_norm_groups_reaches_every_block() -> None:
    few, many = (ConvDecoder(ConvNetConfig.parse({**SMALL, "norm_groups": groups})) for groups in (4, 32))
    many.load_state_dict(few.state_dict())
    groups = {module.num_groups for module in few.modules() if isinstance(module, torch.nn.GroupNorm)}
    latents = torch.randn(1, 4, 4, 4)
    assert groups == {4}
    assert not torch.allclose(few(latents), many(latents))


def test_groups_that_do_not_divide_a_width_are_refused() -> None:
    with pytest.raises(ConfigError, match="norm_groups 24 do not divide a width of 32"):
        ConvNetConfig.parse({**SMALL, "norm_groups": 24})
