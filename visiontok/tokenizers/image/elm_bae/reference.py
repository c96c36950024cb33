"""The configuration of ELM's binary autoencoder and the names of its tensors, as in the authors' repository."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.reference_keys import ReferenceKeys
from visiontok.layers.conv import TamingNetConfig
from visiontok.tokenizers.shared.taming_keys import JOINED, as_linear, attention_levels, attention_patterns

SOURCE = "the configuration of ELM's autoencoder"

CONFIG_KEYS = ReferenceKeys(
    read=(
        "n_channels", "quantizer", "use_tanh", "deterministic", "gen_mul", "nf", "res_blocks", "codebook_size", "emb_dim", "ch_mult", "img_size",
        "attn_resolutions", "norm_first", "token_each",
    ),
    ignored={"beta": "a weight of the authors' training that no release uses"},
)  # fmt: skip


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `ElmBaeConfig` from the authors' hyperparameters.

    Raises:
        ConfigError: if it has unknown keys, lacks one, or has values that this model cannot have.
    """
    with CONFIG_KEYS.reading(config, source=SOURCE):
        bits, dim, size = config["codebook_size"], config["emb_dim"], config["img_size"]
        channel_mult, blocks = tuple(config["ch_mult"]), config["res_blocks"]
        net = {"channels": config["nf"], "channel_mult": channel_mult, "latent_channels": dim, "last_activation": False}
        down, up = attention_levels(levels=len(channel_mult), resolution=size, attended=config["attn_resolutions"])
    chunks = config.get("token_each", config.get("_token_each", 1))
    if config.get("n_channels", 3) != 3 or config.get("quantizer", "binary") != "binary" or bits % chunks:
        raise ConfigError(
            f"ELM's autoencoder has 3 color channels (n_channels), quantizer 'binary' and codebook_size bits in token_each equal chunks; got "
            f"n_channels {config.get('n_channels', 3)}, quantizer {config.get('quantizer', 'binary')!r}, {bits} bits in {chunks} chunks"
        )
    decoder_blocks = int(blocks * config.get("gen_mul", 1.0))
    return {
        "image_size": size,
        "encoder": {**net, "num_res_blocks": blocks, "attention_levels": down},
        "decoder": {**net, "num_res_blocks": decoder_blocks, "attention_levels": up, "norm_latents": config.get("norm_first", True)},
        "quantizer": {
            "dim": dim,
            "chunks": (bits // chunks,) * chunks,
            "values": "signed" if config.get("use_tanh", False) else "unit",
            "draws": not config.get("deterministic", False),
        },
    }


def convert_weights(state_dict: Mapping[str, Tensor], encoder: TamingNetConfig, decoder: TamingNetConfig) -> dict[str, Tensor]:
    """The authors' tensors under our names.

    Raises:
        CheckpointError: listing tensors that no pattern matches.
    """
    weights = as_linear(key_map(encoder, decoder)(state_dict))
    if "quantizer.to_logits.weight" in weights:  # a 1x1 convolution there
        weights["quantizer.to_logits.weight"] = weights["quantizer.to_logits.weight"].flatten(1)
    return weights


def key_map(encoder: TamingNetConfig, decoder: TamingNetConfig) -> KeyMap:
    """The authors' names for nets of these sizes: a flat list of blocks per net, in the order in which they run."""
    patterns: dict[str, str | None] = {
        "ae.quantize.proj.0.{}": "quantizer.to_logits.{}",
        "ae.quantize.embed.weight": "quantizer.rows",
        "ae.generator.logsigma.{*}": None,  # never used
        "disc.{*}": None,
        "perceptual.{*}": None,
    }
    for theirs, net, blocks in (("encoder", "encoder", _encoder_blocks(encoder)), ("generator", "decoder", _decoder_blocks(decoder))):
        for number, (kind, name) in enumerate(blocks):
            block, ours = f"ae.{theirs}.blocks.{number}", f"{net}.{name}"
            if kind in ("residual", "widening"):  # the checkpoint has a shortcut in every block; it is used only where the channels change
                patterns[f"{block}.conv_out.{{}}"] = f"{ours}.shortcut.{{}}" if kind == "widening" else None
            if kind == "attention":
                patterns |= attention_patterns(block, ours)
            patterns[f"{block}.{{*}}"] = f"{ours}.{{*}}"
    return KeyMap(patterns, JOINED)


Kind = Literal["plain", "residual", "widening", "attention"]


def _encoder_blocks(net: TamingNetConfig) -> Iterator[tuple[Kind, str]]:
    yield "plain", "conv_in"
    entering = (net.channels, *net.widths[:-1])
    for level, (before, after) in enumerate(zip(entering, net.widths, strict=True)):
        yield from _level_blocks(net, level, changes=before != after)
        if level < len(net.widths) - 1:
            yield "plain", f"levels.{level}.downsample"
    yield from _mid_blocks()
    yield from (("plain", "norm_out"), ("plain", "conv_out"))


def _decoder_blocks(net: TamingNetConfig) -> Iterator[tuple[Kind, str]]:
    if net.norm_latents:
        yield "plain", "norm_in"
    yield "plain", "conv_in"
    yield from _mid_blocks()
    entering = (*net.widths[1:], net.widths[-1])
    for level in reversed(range(len(net.widths))):
        yield from _level_blocks(net, level, changes=entering[level] != net.widths[level])
        if level > 0:
            yield "plain", f"levels.{level}.upsample"
    yield from (("plain", "norm_out"), ("plain", "conv_out"))


def _mid_blocks() -> Iterator[tuple[Kind, str]]:
    yield from (("residual", "mid.0"), ("attention", "mid.1"), ("residual", "mid.2"))


def _level_blocks(net: TamingNetConfig, level: int, *, changes: bool) -> Iterator[tuple[Kind, str]]:
    for number in range(net.num_res_blocks):
        yield "widening" if changes and number == 0 else "residual", f"levels.{level}.blocks.{number}"
        if level in net.attention_levels:
            yield "attention", f"levels.{level}.attention.{number}"
