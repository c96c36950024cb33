"""Cosmos' networks of clips against diffusers' `AutoencoderKLCosmos`: what no case of the authors' code shows, such as single frames."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visiontok.layers.carry import Carry
from visiontok.tokenizers.video.cosmos.model import Cosmos

REFERENCE = Path(__file__).parents[2] / "reference" / "cosmos"
NAMES = {
    r"\.mid\.0\.": ".mid_block.resnets.0.",
    r"\.mid\.2\.": ".mid_block.resnets.1.",
    r"\.mid\.1\.space\.": ".mid_block.attentions.0.",
    r"\.mid\.1\.time\.": ".mid_block.temp_attentions.0.",
    r"\.blocks\.": ".resnets.",
    r"\.attention\.(\d+)\.space\.": r".attentions.\1.",
    r"\.attention\.(\d+)\.time\.": r".temp_attentions.\1.",
    r"\.shortcut\.": ".conv_shortcut.",
    r"\.norm(\d|_out|)\.": r".norm\1.norm.",
    r"\.(conv\d|conv_in|conv_out)\.space\.": r".\1.conv_s.",
    r"\.(conv\d|conv_in|conv_out)\.time\.": r".\1.conv_t.",
    r"(encoder.*)\.resample\.space\.": r"\1.downsamplers.0.conv1.",
    r"(encoder.*)\.resample\.time\.": r"\1.downsamplers.0.conv2.",
    r"(decoder.*)\.resample\.time\.": r"\1.upsamplers.0.conv1.",
    r"(decoder.*)\.resample\.space\.": r"\1.upsamplers.0.conv2.",
    r"(encoder.*)\.resample\.mix\.": r"\1.downsamplers.0.conv3.",
    r"(decoder.*)\.resample\.mix\.": r"\1.upsamplers.0.conv3.",
    r"\.(?:attn\.)?proj\.": ".to_out.0.",
}


def theirs(name: str, *, levels: int) -> str:
    """The name of a tensor in diffusers; its decoder counts levels in the order in which they run."""
    name = re.sub(r"encoder\.levels\.(\d+)", r"encoder.down_blocks.\1", name)
    name = re.sub(r"decoder\.levels\.(\d+)", lambda found: f"decoder.up_blocks.{levels - 1 - int(found[1])}", name)
    for pattern, replacement in NAMES.items():
        name = re.sub(pattern, replacement, name)
    return name


def in_diffusers(model: Cosmos, config: dict[str, Any]) -> nn.Module:
    """Its encoder and decoder with our weights."""
    diffusers = pytest.importorskip("diffusers")
    widths = {net: [config["channels"] * mult for mult in getattr(model.config, net).channel_mult] for net in ("encoder", "decoder")}
    other = diffusers.AutoencoderKLCosmos(
        latent_channels=config["z_channels"],
        encoder_block_out_channels=[config["channels"], *widths["encoder"]],
        decode_block_out_channels=[*widths["decoder"], widths["decoder"][-1]],
        attention_resolutions=config["attn_resolutions"],
        resolution=config["resolution"],
        num_layers=config["num_res_blocks"],
        patch_size=config["patch_size"],
        patch_type=config["patch_method"],
        spatial_compression_ratio=config["spatial_compression"],
        temporal_compression_ratio=config["temporal_compression"],
    ).eval()
    weights: dict[str, Tensor] = {}
    for ours, tensor in model.state_dict().items():
        if not ours.startswith(("encoder.", "decoder.")):
            continue
        name = theirs(ours, levels=len(widths["decoder"]))
        if ".qkv." in name:
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                weights[re.sub(r"\.(?:attn\.)?qkv\.", f".to_{part}.", name)] = rows
        else:
            weights[name] = tensor
    expected = {name: tensor for name, tensor in other.state_dict().items() if name.startswith(("encoder.", "decoder."))}
    assert set(weights) == set(expected)
    other.load_state_dict({name: tensor.view(expected[name].shape) for name, tensor in weights.items()}, strict=False)
    return other


@pytest.mark.parametrize("frames", [1, 9, 17])
@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("dv_8x16x16", {}),
        ("dv_8x16x16", {"patch_method": "rearrange"}),
        ("dv_8x8x8", {"attn_resolutions": [8, 4]}),
        ("dv_4x8x8", {"patch_size": 2, "attn_resolutions": []}),  # of the LowRes models
        ("cv_4x8x8", {}),
    ],
)
@torch.no_grad()
def test_both_networks_make_the_same(case: str, changes: dict[str, Any], frames: int) -> None:
    config = {**json.loads((REFERENCE / case / "config.json").read_text()), **changes}
    torch.manual_seed(0)
    model = Cosmos(Cosmos.config_from_reference(config, {})).eval()
    other = in_diffusers(model, config)
    clip = torch.rand(1, 3, frames, 32, 48, generator=torch.Generator().manual_seed(frames)) * 2 - 1
    latents = model.encoder(clip, Carry())
    torch.testing.assert_close(latents, other.encoder(clip), rtol=1e-4, atol=1e-4)
    decoded = model.decoder(latents, Carry())
    assert decoded.shape == clip.shape
    torch.testing.assert_close(decoded, other.decoder(latents), rtol=1e-4, atol=1e-4)
