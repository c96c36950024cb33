"""BSQ-ViT (Zhao et al. 2024, arXiv 2406.07548): a ViT whose every patch becomes the signs of a few channels on the unit sphere.

Reads top to bottom: configuration, model, and how the released weights map to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError
from visiontok.core.keymap import KeyMap
from visiontok.core.tokenizer import Tokenizer
from visiontok.layers.vit import ViTConfig
from visiontok.quantizers.binary import BinaryQuantizer, BinaryQuantizerConfig
from visiontok.signals.image_preprocessing import ImagePreprocessing
from visiontok.tokenizers.image.bsq_vit.decoder import GridViTDecoder
from visiontok.tokenizers.image.bsq_vit.encoder import GridViTEncoder
from visiontok.tokenizers.shared.grid import grid_layout

LARGEST_ID_BITS = 24
"""Up to so many bits, a position's bits are one id, as the authors' float32 sum of powers of two is exact."""

COMMITMENT_WEIGHT = 0.25
"""The authors' code overwrites its `beta` with this value before it builds the quantizer."""


def spherical(dim: int) -> dict[str, Any]:
    """The quantizer of the paper for so many bits, as plain configuration values."""
    log = {"kind": "add", "eps": 1e-8}
    return {
        "dim": dim,
        "normalize": True,
        "codes": "sphere",
        "bit_order": "msb",
        "scale_gradient": True,
        "commitment_weight": COMMITMENT_WEIGHT,
        "commitment_mean": "positions",
        "entropy": {"weight": 1.0, "inv_temperature": 1.0, "group_size": 1, "sample_log": log, "batch_log": log},
        "losses_in_eval": True,
    }


class BsqVitConfig(Config):
    """Sizes of the model; the defaults are the released 18-bit model.

    Attributes:
        image_size: side of the square image in pixels; the position tables are absolute, so no other size is taken.
        encoder, decoder: sizes of the two ViTs.
        head_dim: width of the decoder's last hidden layer.
        quantizer: a binary one.
        pixel_range: what black and white are to the model; reconstructions are clamped to it.
    """

    image_size: int = Field(default=256, gt=0)
    encoder: ViTConfig = ViTConfig(dim=768, depth=12, num_heads=12, patch_size=8)
    decoder: ViTConfig = ViTConfig(dim=768, depth=12, num_heads=12, patch_size=8)
    head_dim: int = Field(default=3072, gt=0)
    quantizer: BinaryQuantizerConfig = BinaryQuantizerConfig(**spherical(18))
    pixel_range: tuple[float, float] = (-1.0, 1.0)

    @model_validator(mode="after")
    def _check(self) -> BsqVitConfig:
        if self.encoder.patch_size != self.decoder.patch_size or self.image_size % self.encoder.patch_size:
            raise ValueError(
                f"patches of {self.encoder.patch_size} (encoder) and {self.decoder.patch_size} pixels (decoder) must be equal "
                f"and divide an image of {self.image_size}"
            )
        if self.quantizer.input_dim is not None:
            raise ValueError("the ViTs end and begin with the linear layers of the quantizer: leave out quantizer.input_dim")
        if not self.pixel_range[0] < self.pixel_range[1]:
            raise ValueError(f"pixel_range {self.pixel_range} must rise")
        return self


class BsqVit(Tokenizer[BsqVitConfig]):
    """Plain ViT encoder, binary spherical quantization, plain ViT decoder."""

    config_class = BsqVitConfig
    reference_keys: ClassVar = KeyMap(
        {
            "encoder.conv1.{*}": "encoder.patch_embed.{*}",
            "quant_embed.{*}": "encoder.to_latents.{*}",
            "post_quant_embed.{*}": "decoder.embed.{*}",
            "decoder.ffn.0.{*}": "decoder.head.0.{*}",
            "decoder.conv_out.{*}": "decoder.head.2.{*}",
            "{}.positional_embedding": "{}.positions",
            "{}.ln_pre.{*}": "{}.norm_pre.{*}",
            "{}.ln_post.{*}": "{}.norm_post.{*}",
            "{}.transformer.resblocks.{}.ln_1.{*}": "{}.blocks.{}.norm1.{*}",
            "{}.transformer.resblocks.{}.attn.in_proj_weight": "{}.blocks.{}.attn.qkv.weight",
            "{}.transformer.resblocks.{}.attn.in_proj_bias": "{}.blocks.{}.attn.qkv.bias",
            "{}.transformer.resblocks.{}.attn.out_proj.{*}": "{}.blocks.{}.attn.proj.{*}",
            "{}.transformer.resblocks.{}.ln_2.{*}": "{}.blocks.{}.norm2.{*}",
            "{}.transformer.resblocks.{}.mlp.c_fc.{*}": "{}.blocks.{}.mlp.fc1.{*}",
            "{}.transformer.resblocks.{}.mlp.c_proj.{*}": "{}.blocks.{}.mlp.fc2.{*}",
            "quantize.{*}": None,  # powers of two
        }
    )

    def __init__(self, config: BsqVitConfig) -> None:
        super().__init__(config)
        bits = config.quantizer.dim
        self.encoder = GridViTEncoder(config.encoder, image_size=config.image_size, latent_dim=bits)
        self.quantizer: BinaryQuantizer = config.quantizer.build()
        self.decoder = GridViTDecoder(config.decoder, image_size=config.image_size, latent_dim=bits, head_dim=config.head_dim)
        self.preprocessing = ImagePreprocessing(size=config.image_size, interpolation="lanczos")
        patch = config.encoder.patch_size
        self.layout = grid_layout((config.image_size // patch,) * 2, stride=patch, vocab_size=config.quantizer.vocab_size)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> (B, h, w, D), not yet on the sphere."""
        low, high = self.config.pixel_range
        return self.encoder(signal * (high - low) + low)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, 3, S, S)."""
        low, high = self.config.pixel_range
        return (self.decoder(latents) - low) / (high - low)

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names, without the prefixes of their wrappers; their linear layer over patches is a convolution here."""
        bare = {name.removeprefix("module.").removeprefix("module."): tensor for name, tensor in state_dict.items()}
        mapped = super().weights_from_reference(bare)
        embed = mapped.get("encoder.patch_embed.weight")
        if embed is not None and embed.ndim == 2:
            side = round((embed.shape[1] / 3) ** 0.5)
            mapped["encoder.patch_embed.weight"] = embed.unflatten(1, (3, side, side))
        return mapped

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> BsqVitConfig:
        """From the arguments of the authors' `VITBSQModel`, or from their whole file, where these stand under `model.params`.

        Left-out arguments mean what the authors' code takes them to mean.
        """
        if "model" in config:
            zero_mean = config.get("data", {}).get("zero_mean", False)
            config = {**config["model"].get("params", {}), "clamp_range": (-1, 1) if zero_mean else (0, 1)}
        known = {
            "vitconfig", "dvitconfig", "embed_dim", "embed_group_size", "l2_norm", "post_q_l2_norm", "persample_entropy_compute",
            "cb_entropy_compute", "logit_laplace", "clamp_range", "beta", "gamma0", "gamma", "zeta", "inv_temperature",
        }  # fmt: skip
        if set(config) - known:
            raise ConfigError(f"unknown keys in a BSQ-ViT configuration: {sorted(set(config) - known)}; known: {sorted(known)}")
        if config.get("logit_laplace", False):
            raise ConfigError("BSQ-ViTs with logit_laplace are not supported; no released one has it")
        try:
            bits, vit = config["embed_dim"], config["vitconfig"]
            decoder = config.get("dvitconfig") or vit
            values = {
                "image_size": vit["image_size"],
                "encoder": _vit(vit),
                "decoder": _vit(decoder),
                "head_dim": decoder.get("dim_ffn_output", 3072),
                "quantizer": _quantizer(bits, config),
                "pixel_range": config.get("clamp_range", (0, 1)),
            }
        except KeyError as error:
            raise ConfigError(f"the BSQ-ViT reference configuration lacks {error}") from error
        return BsqVitConfig.parse(values, source="the BSQ-ViT reference configuration")


def _vit(sizes: Mapping[str, Any]) -> dict[str, Any]:
    known = {"image_size", "patch_size", "width", "layers", "heads", "mlp_ratio", "dim_ffn_output", "drop_rate"}  # 0 in every release
    if set(sizes) - known:
        raise ConfigError(f"unknown keys in the vitconfig of a BSQ-ViT: {sorted(set(sizes) - known)}; known: {sorted(known)}")
    names = {"dim": "width", "depth": "layers", "num_heads": "heads", "patch_size": "patch_size", "mlp_ratio": "mlp_ratio"}
    return {ours: sizes[theirs] for ours, theirs in names.items()}


def _quantizer(bits: int, config: Mapping[str, Any]) -> dict[str, Any]:
    """The authors' arguments in ours: `analytical` is entropies of single bits, whatever the group size."""
    group = config.get("embed_group_size", 9)
    mode, inv_temperature = config.get("persample_entropy_compute", "group"), config.get("inv_temperature", 1.0)
    if mode not in ("group", "analytical"):
        raise ConfigError(f"persample_entropy_compute {mode!r} is unknown; known: 'group', 'analytical'")
    values = spherical(bits)
    on_sphere = config.get("post_q_l2_norm", False)
    entropy = {
        **values["entropy"],
        "weight": config.get("zeta", 1.0) / inv_temperature,
        "sample_weight": config.get("gamma0", 1.0),
        "batch_weight": config.get("gamma", 1.0),
        "inv_temperature": inv_temperature,
        "group_size": group if mode == "group" else 1,
    }
    changes = {"normalize": config.get("l2_norm", False), "codes": "sphere" if on_sphere else "cube", "entropy": entropy}
    return {**values, **changes, "chunks": _chunks(bits, group)}


def _chunks(bits: int, group: int) -> list[int] | None:
    """Bits per id: all in one where a table of so many ids is thinkable, else the authors' groups, or the largest equal parts."""
    if bits <= LARGEST_ID_BITS:
        return None
    size = group if group > 1 else next(size for size in range(18, 0, -1) if bits % size == 0)
    return [size] * (bits // size)
