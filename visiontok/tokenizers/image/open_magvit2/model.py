"""Open-MAGVIT2 (Luo et al. 2024, arXiv 2409.04410): a convolutional tokenizer whose 18 channels become signs, 2^18 codes without a codebook.

Reads top to bottom: configuration, model, and how the released weights map to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import Self

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.tokenizer import Tokenizer
from visiontok.decoders.conv import ConvDecoder
from visiontok.encoders.conv import ConvEncoder
from visiontok.layers.conv import ConvNetConfig, Shortcut
from visiontok.layers.resampling import Downsampling, Upsampling
from visiontok.quantizers.binary import BinaryQuantizer, BinaryQuantizerConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.shared.grid import grid_layout
from visiontok.tokenizers.shared.moving_average import averaged_weights, last_weights


class OpenMagvit2NetConfig(ConvNetConfig):
    """No attention, learned resampling, and norms of the decoder that read the code; the defaults are the released 16 x 16 model's sizes."""

    num_res_blocks: int = Field(default=4, gt=0)
    latent_channels: int = Field(default=18, gt=0)
    shortcut: Shortcut = "input"
    downsample: Downsampling = "conv"
    upsample: Upsampling = "depth_to_space"
    adaptive_norm: Literal[True] = True


class OpenMagvit2Config(Config):
    """Sizes of the model.

    Attributes:
        image_size: side that files are resized and cropped to; tensors of any multiple of the stride are taken as they are.
        net: encoder and decoder.
        quantizer: lookup-free; as many bits as the net has latent channels. With `chunks`, a position has several ids.
    """

    image_size: int = Field(default=256, gt=0)
    net: OpenMagvit2NetConfig = OpenMagvit2NetConfig()
    quantizer: BinaryQuantizerConfig = BinaryQuantizerConfig(dim=18)

    @model_validator(mode="after")
    def _check(self) -> OpenMagvit2Config:
        if (self.quantizer.input_dim or self.quantizer.dim) != self.net.latent_channels:
            raise ValueError(f"{self.quantizer.dim} bits cannot stand for {self.net.latent_channels} latent_channels: make them equal")
        if self.image_size % self.net.stride:
            raise ValueError(f"an image of {self.image_size} pixels is no multiple of the stride {self.net.stride}")
        return self


class OpenMagvit2(Tokenizer[OpenMagvit2Config]):
    """Convolutional encoder, lookup-free quantization, convolutional decoder modulated by the code."""

    config_class = OpenMagvit2Config
    reference_keys: ClassVar = KeyMap(
        {
            "encoder.down.{}.downsample.{*}": "encoder.levels.{}.downsample.conv.{*}",
            "decoder.up.{}.upsample.conv1.{*}": "decoder.levels.{}.upsample.conv.{*}",
            "decoder.adaptive.{}.gamma.{*}": "decoder.adaptive_norms.{}.scale.{*}",
            "decoder.adaptive.{}.beta.{*}": "decoder.adaptive_norms.{}.shift.{*}",
            **{f"{net}.{theirs}": f"{net}.{ours}" for net, levels in (("encoder", "down"), ("decoder", "up")) for theirs, ours in (
                (f"{levels}.{{}}.block.{{}}.nin_shortcut.{{*}}", "levels.{}.blocks.{}.shortcut.{*}"),
                (f"{levels}.{{}}.block.{{}}.{{*}}", "levels.{}.blocks.{}.{*}"),
                ("mid_block.{*}", "mid.{*}"),
                ("conv_in.{*}", "conv_in.{*}"),
                ("norm_out.{*}", "norm_out.{*}"),
                ("conv_out.{*}", "conv_out.{*}"),
            )},
        }
    )  # fmt: skip

    def __init__(self, config: OpenMagvit2Config) -> None:
        super().__init__(config)
        self.encoder = ConvEncoder(config.net)
        self.quantizer: BinaryQuantizer = config.quantizer.build()
        self.decoder = ConvDecoder(config.net)
        stride = config.net.stride
        self.preprocessing = ImagePreprocessing(size=config.image_size, interpolation="bilinear", tensors_keep_size=True, multiple_of=stride)
        self.layout = grid_layout((config.image_size // stride,) * 2, stride=stride, vocab_size=config.quantizer.vocab_size)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, H / stride, W / stride, D)."""
        return self.encoder(signal * 2 - 1).permute(0, 2, 3, 1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, 3, h * stride, w * stride).

        Raises:
            SignalError: for a grid of one position, which has no variance for the decoder's norms to read.
        """
        return (self.decoder(latents.permute(0, 3, 1, 2)) + 1) / 2

    @classmethod
    def from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> Self:
        """Like `Model.from_reference`, with the moving averages of the weights where the configuration says `use_ema`."""
        weights = averaged_weights(state_dict) if config.get("use_ema", False) else last_weights(state_dict)
        return super().from_reference(config, weights)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> OpenMagvit2Config:
        """From the arguments of the authors' `VQModel`: ddconfig, n_embed, embed_dim, the weights of the entropy terms, use_ema, ..."""
        sizes, loss = config.get("ddconfig", {}), config.get("lossconfig", {}).get("params", {})
        unknown = sorted(set(config) - KNOWN - OF_TRAINING) + [f"ddconfig.{key}" for key in sorted(set(sizes) - KNOWN_SIZES)]
        if unknown:
            raise ConfigError(f"unknown keys in an Open-MAGVIT2 configuration: {unknown}; known: {sorted(KNOWN)}, ddconfig: {sorted(KNOWN_SIZES)}")
        if sizes.get("in_channels", 3) != 3 or sizes.get("out_ch", 3) != 3:
            raise ConfigError("an Open-MAGVIT2 tokenizer has 3 colour channels (in_channels, out_ch)")
        try:
            net = {
                "channels": sizes["ch"],
                "channel_mult": sizes["ch_mult"],
                "num_res_blocks": sizes["num_res_blocks"],
                "latent_channels": sizes["z_channels"],
            }
            bits, size = config["embed_dim"], config["n_embed"]
        except KeyError as error:
            raise ConfigError(f"the Open-MAGVIT2 reference configuration lacks {error}") from error
        if size != 2**bits:
            raise ConfigError(f"n_embed is {size}, but embed_dim {bits} signs make {2**bits} codes")
        quantizer = {
            "dim": bits,
            "chunks": config.get("factorized_bits", [9, 9]) if config.get("token_factorization", False) else None,
            "commitment_weight": loss.get("commit_weight", 0.25),
            "entropy": {
                "weight": loss.get("codebook_weight", 0.1),
                "sample_weight": config.get("sample_minimization_weight", 1.0),
                "batch_weight": config.get("batch_maximization_weight", 1.0),
            },
        }
        values = {"image_size": sizes.get("resolution", 256), "net": net, "quantizer": quantizer}
        return OpenMagvit2Config.parse(values, source="the Open-MAGVIT2 reference configuration")


KNOWN = frozenset({
    "ddconfig", "lossconfig", "n_embed", "embed_dim", "sample_minimization_weight", "batch_maximization_weight", "use_ema", "token_factorization",
    "factorized_bits",
})  # fmt: skip
KNOWN_SIZES = frozenset({"double_z", "z_channels", "resolution", "in_channels", "out_ch", "ch", "ch_mult", "num_res_blocks"})
OF_TRAINING = frozenset({
    "image_key", "monitor", "learning_rate", "resume_lr", "warmup_epochs", "scheduler_type", "min_learning_rate", "stage", "lr_drop_epoch",
    "lr_drop_rate", "lr_drop_iter", "use_shared_epoch", "sche_type", "wpe", "wp", "wp0", "max_iter", "wp_iter",
})  # fmt: skip
"""What stands beside the sizes in the released files and has no part in a trained model."""
