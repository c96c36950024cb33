"""What Cosmos' tokenizers of images and of clips share: patches as channels, the bottleneck, and how their configurations are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.base.errors import ConfigError
from visiontok.layers.haar import haar, inverse_haar
from visiontok.layers.patches import depth_to_space, space_to_depth
from visiontok.quantizers.continuous import GaussianBottleneckConfig, IdentityBottleneckConfig
from visiontok.quantizers.finite_scalar import FiniteScalarQuantizerConfig

BottleneckConfig: TypeAlias = Annotated[
    FiniteScalarQuantizerConfig | IdentityBottleneckConfig | GaussianBottleneckConfig, Field(discriminator="type")
]
"""Codes (DI, DV), latents as they are (CI, CV), or a posterior, which no release has."""


def layout_kind(config: FiniteScalarQuantizerConfig | IdentityBottleneckConfig | GaussianBottleneckConfig) -> dict[str, Any]:
    """What `grid_layout` is told of the tokens."""
    return {"vocab_size": config.codebook_size} if isinstance(config, FiniteScalarQuantizerConfig) else {"channels": config.dim}


class Patches(Config):
    """Patches of images or clips as channels, along all axes.

    Attributes:
        size: of a side, and of time; a power of 2.
        method: wavelets, or the values as they are.
    """

    size: Positive = 4
    method: Literal["haar", "rearrange"] = "haar"

    @model_validator(mode="after")
    def _check(self) -> Patches:
        if self.size & (self.size - 1):
            raise ValueError(f"patches of {self.size} cannot be halved down to 1: give a power of 2")
        return self

    def channels(self, *, axes: int) -> int:
        """Of RGB patches."""
        return 3 * self.size**axes

    def of(self, x: Tensor) -> Tensor:
        """(B, 3, *axes) -> (B, channels, *axes / size)."""
        if self.method == "rearrange":
            return space_to_depth(x, self.size)
        return haar(x, _axes(x), levels=self.size.bit_length() - 1)

    def inverse(self, x: Tensor) -> Tensor:
        """(B, channels, *axes / size) -> (B, 3, *axes)."""
        if self.method == "rearrange":
            return depth_to_space(x, self.size)
        return inverse_haar(x, _axes(x), levels=self.size.bit_length() - 1)


def _axes(x: Tensor) -> tuple[int, ...]:
    """In the order of Cosmos' bands: images width and height, clips time, height and width."""
    return (3, 2) if x.ndim == 4 else (2, 3, 4)


NET_KEYS = (
    "channels", "channels_mult", "num_res_blocks", "attn_resolutions", "resolution", "patch_size", "patch_method", "in_channels", "out_channels",
    "z_channels", "z_factor", "spatial_compression", "encoder", "decoder", "quantizer", "embedding_dim", "levels", "latent_channels", "formulation",
)  # fmt: skip
"""Keys of the authors' configurations that are read, of images and of clips."""

IGNORED_KEYS = {
    "name": "the other keys say which of the four it is",
    "dropout": "of training; 0 in every release",
    "num_quantizers": "of residual quantizers, which no release has",
}
"""Keys of both that decide nothing here -> the reason."""


BUFFERS: Mapping[str, str | None] = dict.fromkeys(
    (
        "quantizer.{*}", "inv_quant.{*}", "encoder.patcher.{*}", "encoder.patcher3d.{*}", "decoder.unpatcher.{*}", "decoder.unpatcher3d.{*}",
    )
)  # fmt: skip
"""Key patterns of constants, which TorchScript archives hold too."""


def check_networks(config: Mapping[str, Any], *, network: str, source: str) -> None:
    """Only the networks of the releases are built, on RGB.

    Raises:
        ConfigError: for others.
    """
    for side in ("encoder", "decoder"):
        if config.get(side) != network:
            raise ConfigError(f"{side} of {source} is {config.get(side)!r}; every release has {network!r}, and no other is built")
    for key in ("in_channels", "out_channels"):
        if config.get(key, 3) != 3:
            raise ConfigError(f"{key} of {source} is {config[key]}; a Cosmos tokenizer has 3 color channels")


def read_bottleneck(config: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """`quantizer` of our configurations.

    Raises:
        ConfigError: for quantizers that no release has, and sizes that contradict each other.
        KeyError: for a key that is missing.
    """
    if "embedding_dim" in config:
        levels, dim = config["levels"], config["embedding_dim"]
        if config.get("quantizer") != "FSQ" or len(levels) != dim:
            raise ConfigError(
                f"{source} has quantizer {config.get('quantizer')!r} with levels {list(levels)} and embedding_dim {dim}; every release has 'FSQ' "
                "and one level for every dimension"
            )
        return {"type": "fsq", "levels": levels}
    kinds = {("AE", 1): "continuous", ("VAE", 2): "gaussian"}
    kind = (config.get("formulation", "AE"), config["z_factor"])
    if kind not in kinds:
        raise ConfigError(f"formulation and z_factor of {source} are {kind}; possible are {', '.join(map(str, kinds))}")
    return {"type": kinds[kind], "dim": config["latent_channels"]}


def read_patches(config: Mapping[str, Any]) -> dict[str, Any]:
    """`patches` of our configurations; missing keys have the defaults of the authors' code."""
    return {"size": config.get("patch_size", 1), "method": config.get("patch_method", "rearrange")}


def halvings(config: Mapping[str, Any], key: str, *, default: int, at_most: int, source: str) -> int:
    """How often the networks halve what patches have left of a compression.

    Args:
        config: of the authors.
        key: of the compression.
        default: of their code.
        at_most: levels that can halve.
        source: what the configuration is called in errors.

    Raises:
        ConfigError: if it cannot be reached.
    """
    compression, patch = config.get(key, default), config.get("patch_size", 1)
    count = compression.bit_length() - patch.bit_length()
    if patch << max(count, 0) != compression or count > at_most:
        raise ConfigError(f"{key} of {source} is {compression}, but patches of {patch} can be halved 0 to {at_most} times more")
    return count
