"""The names of the tensors of Open-MAGVIT2's tokenizer of clips; its configuration has the keys of that of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visiontok.core.keymap import KeyMap
from visiontok.tokenizers.image.open_magvit2 import reference as images

SOURCE = "the Open-MAGVIT2 video reference configuration"


def _block(theirs: str, ours: str) -> dict[str, str | None]:
    parts = {"norm1": "norm1", "norm2": "norm2", "conv1.conv_1": "conv1", "conv2.conv_1": "conv2", "nin_shortcut.conv_1": "shortcut"}
    return {f"{theirs}.{their}.{{}}": f"{ours}.{our}.{{}}" for their, our in parts.items()}


def _net(net: str, levels: str) -> dict[str, str | None]:
    ends = {"conv_in.conv_1": "conv_in", "norm_out": "norm_out", "conv_out.conv_1": "conv_out"}
    return {
        **_block(f"{net}.{levels}.{{}}.block.{{}}", f"{net}.levels.{{}}.blocks.{{}}"),
        **_block(f"{net}.mid_block.{{}}", f"{net}.mid.{{}}"),
        **{f"{net}.{theirs}.{{}}": f"{net}.{ours}.{{}}" for theirs, ours in ends.items()},
    }


KEY_MAP = KeyMap(
    {
        **_net("encoder", "down"),
        **_net("decoder", "up"),
        "encoder.down.{}.downsample.conv_1.{}": "encoder.levels.{}.downsample.{}",
        "decoder.up.{}.upsample.conv1.conv_1.{}": "decoder.levels.{}.upsample.conv.{}",
        "decoder.adaptive.{}.gamma.{}": "decoder.levels.{}.norm.scale.{}",
        "decoder.adaptive.{}.beta.{}": "decoder.levels.{}.norm.shift.{}",
    }
)


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `OpenMagvit2VideoConfig` from the arguments of the authors' `VQModel`; time is kept behind levels with the multiple 1.

    Raises:
        ConfigError: as that of images.
    """
    values = images.read_config(config)
    return {**values, "net": {**values["net"], "halves_time": [mult != 1 for mult in values["net"]["channel_mult"][:-1]]}}
