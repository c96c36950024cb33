"""The configuration of Cosmos' video tokenizers and the names of their tensors, as in the authors' repository and archives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.tokenizers.shared.cosmos import BUFFERS, IGNORED_KEYS, NET_KEYS, check_networks, halvings, read_bottleneck, read_patches
from visiontok.tokenizers.shared.taming_keys import attention_levels

SOURCE = "the Cosmos reference configuration"

CONFIG_KEYS = ReferenceKeys(
    read=(*NET_KEYS, "temporal_compression", "legacy_mode"),
    ignored={**IGNORED_KEYS, "num_groups": "factorized networks normalize whole frames, whatever its value"},
)


def _conv(theirs: str, ours: str) -> dict[str, str | None]:
    """Key patterns of a factorized convolution."""
    return {f"{theirs}.0.conv3d.{{}}": f"{ours}.space.{{}}", f"{theirs}.1.conv3d.{{}}": f"{ours}.time.{{}}"}


def _block(theirs: str, ours: str) -> dict[str, str | None]:
    patterns = {f"{theirs}.norm{number}.norm.{{}}": f"{ours}.norm{number}.{{}}" for number in (1, 2)}
    patterns[f"{theirs}.nin_shortcut.conv3d.{{}}"] = f"{ours}.shortcut.{{}}"
    return {**patterns, **_conv(f"{theirs}.conv1", f"{ours}.conv1"), **_conv(f"{theirs}.conv2", f"{ours}.conv2")}


def _attention(theirs: str, ours: str) -> dict[str, str | None]:
    """Query, key and value are joined afterwards."""
    patterns: dict[str, str | None] = {}
    for number, axis, attn in ((0, "space", "space.attn"), (1, "time", "time")):
        patterns[f"{theirs}.{number}.norm.norm.{{}}"] = f"{ours}.{axis}.norm.{{}}"
        patterns[f"{theirs}.{number}.proj_out.conv3d.{{}}"] = f"{ours}.{attn}.proj.{{}}"
        patterns[f"{theirs}.{number}.{{}}.conv3d.{{}}"] = f"{ours}.{attn}.{{}}.{{}}"
    return patterns


def _net(net: str, levels: str, resample: Mapping[str, str]) -> dict[str, str | None]:
    theirs, ours = f"{net}.{levels}.{{}}", f"{net}.levels.{{}}"
    return {
        **_block(f"{theirs}.block.{{}}", f"{ours}.blocks.{{}}"),
        **_attention(f"{theirs}.attn.{{}}", f"{ours}.attention.{{}}"),
        **{f"{theirs}.{name}.conv3d.{{}}": f"{ours}.resample.{part}.{{}}" for name, part in resample.items()},
        **_block(f"{net}.mid.block_1", f"{net}.mid.0"),
        **_attention(f"{net}.mid.attn_1", f"{net}.mid.1"),
        **_block(f"{net}.mid.block_2", f"{net}.mid.2"),
        **_conv(f"{net}.conv_in", f"{net}.conv_in"),
        f"{net}.norm_out.norm.{{}}": f"{net}.norm_out.{{}}",
        **_conv(f"{net}.conv_out", f"{net}.conv_out"),
    }


KEY_MAP = KeyMap(
    {
        **_net("encoder", "down", {"downsample.conv1": "space", "downsample.conv2": "time", "downsample.conv3": "mix"}),
        **_net("decoder", "up", {"upsample.conv1": "time", "upsample.conv2": "space", "upsample.conv3": "mix"}),
        "quant_conv.conv3d.{}": "quant_conv.{}",
        "post_quant_conv.conv3d.{}": "post_quant_conv.{}",
        **BUFFERS,
    },
    joined={
        f"{net}.{block}.{attn}.qkv.{{}}": tuple(f"{net}.{block}.{attn}.{part}.{{}}" for part in "qkv")
        for net in ("encoder", "decoder")
        for block in ("levels.{}.attention.{}", "mid.{}")
        for attn in ("space.attn", "time")
    },
)


_LINEAR = re.compile(r"\.(qkv|proj)\.weight$")
"""Of attention: 1x1x1 convolutions there, linear layers here."""

_RESAMPLE = re.compile(r"(encoder|decoder)\.levels\.(\d+)\.resample\.(space|time|mix)\..*")


def convert_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors under our names.

    Raises:
        CheckpointError: listing tensors that no pattern matches.
    """
    return {name: tensor.flatten(1) if _LINEAR.search(name) else tensor for name, tensor in KEY_MAP(state_dict).items()}


def is_unused(name: str, *, encoder: Sequence[str], decoder: Sequence[str]) -> bool:
    """Whether a tensor is of a convolution that the authors build and never run; the released archives do not seem to hold these.

    Args:
        name: ours.
        encoder, decoder: what they change between every level and the next one.
    """
    found = _RESAMPLE.fullmatch(name)
    if not found:
        return False
    net, level, part = found.groups()
    behind = dict(enumerate(encoder)) if net == "encoder" else dict(enumerate(decoder, 1))  # the level
    how = behind.get(int(level), "none")
    return how == "none" if part == "mix" else part not in how


def read_config(config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of `CosmosConfig` from the arguments of the authors' network.

    Args:
        config: with the keys of their `networks/configs.py`.
        state_dict: says how many levels a CV4x8x8 has; empty where it is not known, and then as their code builds it.

    Raises:
        ConfigError: for unknown or missing keys, networks that no release has, and sizes that contradict each other.
    """
    with CONFIG_KEYS.reading(config, source=SOURCE):
        check_networks(config, network="FACTORIZED", source=SOURCE)
        mult = {net: _channel_mult(config, state_dict, net) for net in ("encoder", "decoder")}
        most = min(map(len, mult.values())) - 1
        space = halvings(config, "spatial_compression", default=16, at_most=most, source=SOURCE)
        time = halvings(config, "temporal_compression", default=8, at_most=most, source=SOURCE)
        resampling = {
            "encoder": [_resampling(space=level < space, time=level < time) for level in range(len(mult["encoder"]) - 1)],
            "decoder": _upsampling(len(mult["decoder"]), space, time, legacy=config.get("legacy_mode", False)),
        }
        resolution = config["resolution"] // config.get("patch_size", 1)
        nets = {
            net: {
                "channels": config["channels"],
                "channel_mult": mult[net],
                "num_res_blocks": config["num_res_blocks"] + number,
                "latent_channels": config["z_channels"] * (config["z_factor"] if net == "encoder" else 1),
                "resampling": resampling[net],
                "attention_levels": attention_levels(levels=len(mult[net]), resolution=resolution, attended=config["attn_resolutions"])[number],
            }
            for number, net in enumerate(("encoder", "decoder"))
        }
        return {
            **nets,
            "patches": read_patches(config),
            "quantizer": read_bottleneck(config, source=SOURCE),
        }


def _channel_mult(config: Mapping[str, Any], state_dict: Mapping[str, Tensor], net: str) -> Sequence[int]:
    """Channels of the levels of a network, as multiples.

    The authors' code gives the decoder of a CV4x8x8 two levels whatever the configuration says, and their later code the encoder too. Which of these
    were released is not known: the tensors decide. Patches of 2 need three levels.
    """
    stated: Sequence[int] = config["channels_mult"]
    if "embedding_dim" in config or config.get("temporal_compression", 4) != 4:
        return stated
    pattern = re.compile(rf"{net}\.(?:down|up)\.(\d+)\.block\.0\.conv1\.0\.conv3d\.weight")
    widths = {int(found[1]): len(tensor) for key, tensor in state_dict.items() if (found := pattern.fullmatch(key))}
    if widths:
        return [width // config["channels"] for _, width in sorted(widths.items())]
    doubled_once = 2 * config.get("patch_size", 1) >= config.get("spatial_compression", 16)
    return [2, 4] if net == "decoder" and doubled_once else stated


def _upsampling(levels: int, space: int, time: int, *, legacy: bool) -> list[str]:
    """What the decoder doubles between every level and the next one."""
    found = []
    for passed in reversed(range(levels - 1)):  # levels that ran before
        doubles_time = passed < time if legacy else 0 < passed <= time
        found.append(_resampling(space=doubles_time or (passed < space and space > time), time=doubles_time))
    return found


def _resampling(*, space: bool, time: bool) -> str:
    return "-".join(axis for axis, changes in (("space", space), ("time", time)) if changes) or "none"
