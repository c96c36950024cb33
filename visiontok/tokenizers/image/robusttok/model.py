"""RobustTok (Qiu et al. 2025, arXiv 2503.08354) and its base ImageFolder / XQ-GAN (Li et al. 2024, arXiv 2410.01756 and 2412.01762).

Two ViTs in DINOv2's shape with queries that lie on a grid. Between them either vector quantization (VQ-4096, VQ-8192, RobustTok), two branches
of it (VP2), or two branches of multi-scale residual quantization of vectors (MSVR10P2) or of signs (MSBR10P2).
Reads top to bottom: configuration, model, and how the released weights map to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.errors import ConfigError, TokenError
from visiontok.core.keymap import KeyMap
from visiontok.core.tokenizer import Tokenizer
from visiontok.layers.vit import ViTConfig
from visiontok.quantizers.binary import BinaryQuantizerConfig
from visiontok.quantizers.multi_scale import MultiScaleQuantizer, MultiScaleQuantizerConfig
from visiontok.quantizers.product import ProductQuantizerConfig
from visiontok.quantizers.vector import VectorQuantizerConfig
from visiontok.signals.image_preprocessing import ImagePreprocessing
from visiontok.tokenizers.image.robusttok.decoder import GridQueryDecoder
from visiontok.tokenizers.image.robusttok.encoder import GridQueryEncoder
from visiontok.tokens import Segment, TokenLayout, Tokens

VIT_SIZES = {
    "small": {"dim": 384, "depth": 12, "num_heads": 6},
    "base": {"dim": 768, "depth": 12, "num_heads": 12},
    "large": {"dim": 1024, "depth": 24, "num_heads": 16},
}
"""DINOv2's sizes, by the second word of timm's names such as `vit_base_patch14_dinov2`."""


class RobustTokConfig(Config):
    """Sizes and quantizer of a RobustTok.

    Attributes:
        image_size: side of the square image in pixels; the position tables are absolute, so no other size is taken.
        encoder, decoder: sizes of the two ViTs.
        grid_side: of the square of latents, H.
        quantizer: a codebook ("vq"), scales ("multi_scale"), or a "product" of branches of either.
        layer_scale: initial scale of every branch of every block. DINOv2's 1e-5 is for starting from its weights; from scratch the queries
            would hardly see the image.
        drop_path: share of samples that skip a branch of the last block in training; it rises evenly from 0 at the first.
    """

    image_size: int = Field(default=256, gt=0)
    encoder: ViTConfig
    decoder: ViTConfig
    grid_side: int = Field(default=16, gt=0)
    quantizer: Annotated[VectorQuantizerConfig | MultiScaleQuantizerConfig | ProductQuantizerConfig, Field(discriminator="type")]
    layer_scale: float = Field(default=0.1, gt=0)
    drop_path: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> RobustTokConfig:
        for name, vit in (("encoder", self.encoder), ("decoder", self.decoder)):
            if self.image_size % vit.patch_size:
                raise ValueError(f"{name}: patches of {vit.patch_size} pixels do not divide an image of {self.image_size}")
        branch = self.branch
        if not isinstance(branch, VectorQuantizerConfig | MultiScaleQuantizerConfig):
            raise ValueError(f'the branches of the product must be "vq" or "multi_scale", not {branch.type!r}')
        if isinstance(branch, MultiScaleQuantizerConfig) and branch.scales[-1] != self.grid_side:
            raise ValueError(f"the last of the scales {branch.scales} must be grid_side {self.grid_side}")
        return self

    @property
    def num_branches(self) -> int:
        return self.quantizer.num_groups if isinstance(self.quantizer, ProductQuantizerConfig) else 1

    @property
    def branch(self) -> Any:
        """The quantizer of one branch."""
        return self.quantizer.quantizer if isinstance(self.quantizer, ProductQuantizerConfig) else self.quantizer

    def layout(self) -> TokenLayout:
        """A grid of ids, or one grid per scale, with one id per branch at every position."""
        branch = self.branch
        is_multi_scale = isinstance(branch, MultiScaleQuantizerConfig)
        codes = branch.quantizer if is_multi_scale else branch
        vocab_size = codes.vocab_size[0] if isinstance(codes, BinaryQuantizerConfig) else codes.codebook_size
        segments = [
            Segment(
                name=f"scale{number}" if is_multi_scale else "grid",
                shape=(side, side),
                vocab_size=vocab_size,
                codebooks=self.num_branches,
                stride=(self.image_size // side,) * 2 if self.image_size % side == 0 else None,
                codebook="scales" if is_multi_scale else None,
            )
            for number, side in enumerate(branch.scales if is_multi_scale else (self.grid_side,))
        ]
        return TokenLayout(modality="image", segments=tuple(segments), signal_shape=(self.image_size, self.image_size))


class RobustTok(Tokenizer[RobustTokConfig]):
    """Query ViT encoder, quantizer over a grid of latents, mask-token ViT decoder."""

    config_class = RobustTokConfig
    reference_keys: ClassVar = KeyMap(
        {
            "encoder.latent_tokens": "encoder.latent_tokens",
            "encoder.model.patch_embed.proj.{}": "encoder.patch_embed.{}",
            "decoder.mask_token": "decoder.mask_token",
            "decoder.to_pixel.model.{}": "decoder.to_pixels.{}",
            **{f"{net}.{theirs}": f"{net}.{ours}" for net in ("encoder", "decoder") for theirs, ours in (
                ("lvl_embed.weight", "levels"),
                ("model.cls_token", "trunk.class_token"),
                ("model.pos_embed", "trunk.positions"),
                ("model.blocks.{}.ls1.gamma", "trunk.blocks.{}.scale1"),
                ("model.blocks.{}.ls2.gamma", "trunk.blocks.{}.scale2"),
                ("model.blocks.{}.{*}", "trunk.blocks.{}.{*}"),
                ("model.norm.{}", "trunk.norm.{}"),
            )},
            "encoder.lvl1LC": None,  # which row of lvl_embed each token takes
            "decoder.lvl1LC": None,
            "quant_conv.{}": "encoder.to_latents.{}",
            "post_quant_conv.{}": "decoder.embed.{}",
            **{f"{theirs}.{tensor}": None if name is None else f"{ours}.{name}" for tensor, name in (
                ("embedding.weight", "codebook"),
                ("quant_resi.qresi_ls.{}.{}", "phi.convs.{}.{}"),
                ("quant_resi.qresi.{}", "phi.convs.0.{}"),
                ("quant_resi.{}.{}", "phi.convs.{}.{}"),
                ("ema_vocab_hit_SV", None),  # a usage average of the authors' training code
                ("scaler", None),  # follows from the configuration
            ) for theirs, ours in (("quantize", "quantizer"), ("quantizes.{}", "quantizer.groups.{}"))},
            "semantic_model.{*}": None,  # frozen teachers of the authors' training, and their projections
            "detail_model.{*}": None,
            "sem_linear.{*}": None,
            "detail_linear.{*}": None,
        }
    )  # fmt: skip

    def __init__(self, config: RobustTokConfig) -> None:
        super().__init__(config)
        trunk: dict[str, Any] = {
            "image_size": config.image_size,
            "side": config.grid_side,
            "layer_scale": config.layer_scale,
            "drop_path": config.drop_path,
        }
        self.encoder = GridQueryEncoder(config.encoder, num_branches=config.num_branches, latent_dim=config.branch.dim, **trunk)
        self.quantizer = config.quantizer.build()
        self.decoder = GridQueryDecoder(config.decoder, latent_dim=config.quantizer.dim, **trunk)
        self.preprocessing = ImagePreprocessing(size=config.image_size)
        self.layout = config.layout()

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> (B, H, H, P C)."""
        return self.encoder(signal * 2 - 1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, H, H, P C) -> image (B, 3, S, S), not clamped."""
        return (self.decoder(latents) + 1) / 2

    @torch.no_grad()
    def decode_scales(self, tokens: Tokens, num_scales: int) -> Tensor:
        """The image (B, 3, S, S) in [0, 1] that the first scales alone give, coarse to fine.

        Raises:
            TokenError: for models without scales, another layout, ids out of range, or a number of scales that there is not.
        """
        branch = self.config.branch
        if not isinstance(branch, MultiScaleQuantizerConfig):
            raise TokenError("this model has a single scale; use decode")
        if tokens.layout != self.layout:
            raise TokenError(f"these tokens come from another tokenizer: their layout is {tokens.layout}, this model's is {self.layout}")
        if not 1 <= num_scales <= len(branch.scales):
            raise TokenError(f"{num_scales} scales were asked for; this model has {len(branch.scales)}")
        indices = self._unwrap(tokens.validate().to(str(self.device)))
        kept = sum(side**2 for side in branch.scales[:num_scales])
        return self.decode_latents(self.lookup(indices[:, :kept])).clamp(0, 1)

    def next_scale_inputs(self, tokens: Tokens) -> Tensor:
        """What a next-scale generator reads of these tokens, (B, positions of all scales but the first, P C); see `MultiScaleQuantizer`.

        Raises:
            TokenError: for models without scales.
        """
        if not isinstance(self.config.branch, MultiScaleQuantizerConfig):
            raise TokenError("this model has a single scale, so there is no next one to predict")
        ids = tokens.indices.unflatten(1, (-1, self.config.num_branches)).unbind(dim=-1)
        branches = [module for module in self.quantizer.modules() if isinstance(module, MultiScaleQuantizer)]
        return torch.cat([branch.next_scale_inputs(part) for branch, part in zip(branches, ids, strict=True)], dim=-1)

    def _unwrap(self, tokens: Tokens) -> Tensor:
        """(B, H, H) or (B, M) ids, with P on a last axis where there are branches."""
        if not tokens.is_full:
            raise TokenError("this model decodes whole samples; these tokens do not hold every id")
        ids = tokens.indices if self.config.num_branches == 1 else tokens.indices.unflatten(1, (-1, self.config.num_branches))
        return ids if isinstance(self.config.branch, MultiScaleQuantizerConfig) else ids.unflatten(1, (self.config.grid_side,) * 2)

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names: 1x1 convolutions are linear layers here, and tables have no batch axis."""
        mapped = super().weights_from_reference(state_dict)
        scales = any(".phi." in key for key in mapped)
        return {_inside(key) if scales else key: _ours(key, tensor) for key, tensor in mapped.items()}

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> RobustTokConfig:
        """From the authors' flat configuration. Keys of their training alone are not read.

        An optional `_tiny` holds sizes that their code takes from tables (`embed_dim`, `depth`, `num_heads`, `img_size`, `patch_size`).
        """
        if not config.get("abs_pos_embed", True):
            raise ConfigError("abs_pos_embed false: latents with positions of their own were never released and are not read")
        try:
            sizes = config.get("_tiny", {})
            vits = {net: _vit(config[f"{net}_model"], sizes) for net in ("encoder", "decoder")}
            branches, side = config["product_quant"], math.isqrt(config["num_latent_tokens"])
            branch = quantizer_from_reference(config)
        except KeyError as error:
            known = ", ".join(VIT_SIZES)
            raise ConfigError(f"the RobustTok reference configuration lacks {error}, or names a ViT of unknown size (known: {known})") from error
        values = {
            "image_size": sizes.get("img_size", 256),
            **vits,
            "grid_side": side,
            "quantizer": branch if branches == 1 else {"type": "product", "num_groups": branches, "quantizer": branch},
            "layer_scale": 1e-5,
        }
        return RobustTokConfig.parse(values, source="the RobustTok reference configuration")


def quantizer_from_reference(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of one branch's quantizer from the authors' flat one; where that is silent, their code's defaults stand."""
    scales, dim, unit = config["v_patch_nums"], config["codebook_embed_dim"], config.get("codebook_l2_norm", True)
    if len(scales) == 1:
        sizes = {"type": "vq", "codebook_size": config["codebook_size"], "dim": dim}
        return {**sizes, "normalize_latents": unit, "normalize_codes": unit, "commitment_weight": config.get("commit_loss_beta", 0.25)}
    is_soft, drop = config.get("soft_entropy", True), config.get("codebook_drop", 0.0)
    shared = {
        "type": "multi_scale",
        "scales": scales,
        "phi": {"num_convs": config.get("share_quant_resi", 4)},
        "dropout": {"share": drop, "min_levels": config.get("start_drop", 1)} if drop else None,
    }
    if not config.get("lfq", config.get("kind") == "msbq"):
        codes = {"type": "vq", "codebook_size": config["codebook_size"], "dim": dim}
        normalized = {"normalize_latents": True, "normalize_codes": True, "raw_lookup": True}
        return {**shared, "quantizer": {**codes, **normalized}, "commitment_weight": 0.25 * len(scales)}  # theirs is summed over scales
    if config["codebook_size"] != 2**dim:
        raise ConfigError(f"binary codes of {dim} bits have {2**dim} values; codebook_size is {config['codebook_size']}")
    soft = {"inv_temperature": 1.0, "group_size": 1, "sample_log": {"eps": 1e-8}, "batch_log": {"eps": 1e-8}}
    hard = {"inv_temperature": 100.0, "sample_log": {"eps": 0.0}, "batch_log": {"eps": 1e-5}}
    entropy = {"weight": config.get("entropy_loss_ratio", 0.1), **(soft if is_soft else hard)}
    return {
        **shared,
        "quantizer": {"type": "binary", "dim": dim, "codes": "sphere" if unit else "cube", "bit_order": "lsb", "entropy": entropy},
        "amplitude_ratio": config.get("scale", 1.0),
        "normalize": unit,
        "entropy_samples": "first_two" if is_soft else "kept",
    }


def _vit(name: str, tiny: Mapping[str, int]) -> dict[str, int]:
    sizes = {"dim": tiny["embed_dim"], "depth": tiny["depth"], "num_heads": tiny["num_heads"]} if tiny else VIT_SIZES[name.split("_")[1]]
    return {**sizes, "patch_size": tiny.get("patch_size", 16)}


def _inside(key: str) -> str:
    """Codebooks of multi-scale quantizers lie one module deeper."""
    return key.removesuffix("codebook") + "quantizer.codebook" if key.endswith(".codebook") else key


def _ours(key: str, tensor: Tensor) -> Tensor:
    if key in ("encoder.to_latents.weight", "decoder.embed.weight"):
        return tensor.flatten(1)
    if key.endswith(("latent_tokens", "mask_token", "class_token", "positions")):
        return tensor.flatten(0, 1)
    return tensor
