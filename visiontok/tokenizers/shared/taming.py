"""What the tokenizers on the first VQGAN's nets (Esser et al. 2021, arXiv 2012.09841) share: LlamaGen's, IBQ's, and those with any quantizer.

Images in [-1, 1] inside; a convolutional encoder and decoder, each with a 1x1 convolution to or from the narrow latents of the quantizer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar

from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Config
from visiontok.core.tokenizer import Tokenizer
from visiontok.decoders.conv import ConvDecoder
from visiontok.encoders.conv import ConvEncoder
from visiontok.layers.conv import TamingNetConfig
from visiontok.quantizers.binary import BinaryQuantizerConfig
from visiontok.quantizers.finite_scalar import FiniteScalarQuantizerConfig
from visiontok.quantizers.index_backprop import IndexBackpropQuantizerConfig
from visiontok.quantizers.sim_vq import SimVectorQuantizerConfig
from visiontok.quantizers.vector import VectorQuantizerConfig
from visiontok.signals.image_preprocessing import ImagePreprocessing
from visiontok.tokenizers.shared.grid import grid_layout
from visiontok.tokens import TokenLayout


class TamingConfig(Config):
    """Sizes of the model.

    Attributes:
        image_size: side that files are resized and cropped to; tensors of any multiple of the stride are taken as they are.
        encoder, decoder: the two nets; `latent_channels` is the width on the far side of the 1x1 convolutions.
        quantizer: its `dim` is the width on their near side.
    """

    image_size: int = Field(default=256, gt=0)
    encoder: TamingNetConfig
    decoder: TamingNetConfig
    quantizer: Annotated[
        VectorQuantizerConfig | SimVectorQuantizerConfig | IndexBackpropQuantizerConfig | FiniteScalarQuantizerConfig | BinaryQuantizerConfig,
        Field(discriminator="type"),
    ]

    @model_validator(mode="after")
    def _check(self) -> TamingConfig:
        if self.encoder.stride != self.decoder.stride:
            raise ValueError(f"the encoder's stride {self.encoder.stride} is not the decoder's {self.decoder.stride}: give both as many levels")
        if self.image_size % self.encoder.stride:
            raise ValueError(f"an image of {self.image_size} pixels is no multiple of the stride {self.encoder.stride}")
        if isinstance(self.quantizer, BinaryQuantizerConfig) and self.quantizer.input_dim is not None:
            raise ValueError("1x1 convolutions lead to the quantizer's channels and back: leave quantizer.input_dim out")
        return self

    @property
    def vocab_size(self) -> int | tuple[int, ...]:
        """Number of ids; a tuple where a position may have several."""
        return self.quantizer.vocab_size if isinstance(self.quantizer, BinaryQuantizerConfig) else self.quantizer.codebook_size


ConfigT = TypeVar("ConfigT", bound=TamingConfig)


class TamingTokenizer(Tokenizer[ConfigT]):
    """Encoder, 1x1 convolution, quantizer, 1x1 convolution, decoder."""

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        self.encoder = ConvEncoder(config.encoder)
        self.quant_conv = nn.Conv2d(config.encoder.latent_channels, config.quantizer.dim, 1)
        self.quantizer = config.quantizer.build()
        self.post_quant_conv = nn.Conv2d(config.quantizer.dim, config.decoder.latent_channels, 1)
        self.decoder = ConvDecoder(config.decoder)
        stride = config.encoder.stride
        self.preprocessing = ImagePreprocessing(size=config.image_size, tensors_keep_size=True, multiple_of=stride)
        self.layout = self.layout_for((config.image_size // stride,) * 2)

    def layout_for(self, shape: tuple[int, ...]) -> TokenLayout:
        """A grid of ids for an image of `shape` times the stride."""
        return grid_layout(shape, stride=self.config.encoder.stride, vocab_size=self.config.vocab_size)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, H / stride, W / stride, D)."""
        return self.quant_conv(self.encoder(signal * 2 - 1)).permute(0, 2, 3, 1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, 3, h * stride, w * stride)."""
        return (self.decoder(self.post_quant_conv(latents.permute(0, 3, 1, 2))) + 1) / 2


def attention_levels(*, levels: int, resolution: int, attended: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The levels of encoder and decoder with attention, where a configuration names them by their sides in an image of `resolution` pixels.

    The encoder counts down from the image, the decoder up from the lowest level; they agree where the stride divides the resolution.
    """
    lowest = resolution // 2 ** (levels - 1)
    encoder = tuple(level for level in range(levels) if resolution // 2**level in attended)
    decoder = tuple(level for level in range(levels) if lowest * 2 ** (levels - 1 - level) in attended)
    return encoder, decoder


def block_patterns(theirs: str, ours: str) -> dict[str, str | None]:
    """Key patterns of a residual block; the usual name of its shortcut is `nin_shortcut`."""
    return {f"{theirs}.nin_shortcut.{{*}}": f"{ours}.shortcut.{{*}}", f"{theirs}.{{*}}": f"{ours}.{{*}}"}


def attention_patterns(theirs: str, ours: str) -> dict[str, str | None]:
    """Key patterns of an attention block; query, key and value are joined afterwards, see `JOINED`."""
    return {
        f"{theirs}.norm.{{*}}": f"{ours}.norm.{{*}}",
        f"{theirs}.proj_out.{{*}}": f"{ours}.attn.proj.{{*}}",
        f"{theirs}.{{}}.{{*}}": f"{ours}.attn.{{}}.{{*}}",
    }


def net_patterns(net: str, levels: Mapping[str, str], *, block: str, mid: tuple[str, str, str]) -> dict[str, str | None]:
    """Key patterns of an encoder or a decoder in the usual naming.

    Args:
        net: its name, the same here and there.
        levels: patterns of a level's name, theirs -> ours.
        block: their name for a level's list of residual blocks.
        mid: their names in the middle of the net: residual block, attention, residual block.
    """
    patterns: dict[str, str | None] = {}
    for theirs, ours in levels.items():
        patterns |= block_patterns(f"{net}.{theirs}.{block}.{{}}", f"{net}.{ours}.blocks.{{}}")
        patterns |= attention_patterns(f"{net}.{theirs}.attn.{{}}", f"{net}.{ours}.attention.{{}}")
        patterns[f"{net}.{theirs}.{{}}.conv.{{}}"] = f"{net}.{ours}.{{}}.conv.{{}}"
    before, attention, after = (f"{net}.mid.{name}" for name in mid)
    patterns |= block_patterns(before, f"{net}.mid.0") | attention_patterns(attention, f"{net}.mid.1") | block_patterns(after, f"{net}.mid.2")
    return patterns | {f"{net}.{part}.{{}}": f"{net}.{part}.{{}}" for part in ("conv_in", "norm_out", "conv_out")}


QUANTIZER_PATTERNS: Mapping[str, str | None] = {
    "quant_conv.{}": "quant_conv.{}",
    "post_quant_conv.{}": "post_quant_conv.{}",
    "quantize.embedding.weight": "quantizer.codebook",
}
"""Key patterns of what lies between the nets."""

JOINED: Mapping[str, tuple[str, ...]] = {
    f"{net}.{place}.attn.qkv.{{*}}": tuple(f"{net}.{place}.attn.{part}.{{*}}" for part in "qkv")
    for net in ("encoder", "decoder")
    for place in ("levels.{}.attention.{}", "mid.{}")
}
"""What a `KeyMap` joins so that three 1x1 convolutions become one packed projection."""


def as_linear(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, with the 1x1 convolutions of attention as the linear layers that they are here."""
    return {name: tensor.flatten(1) if re.search(r"\.attn\.(qkv|proj)\.weight$", name) else tensor for name, tensor in weights.items()}
