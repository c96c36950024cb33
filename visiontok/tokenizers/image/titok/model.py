"""TiTok (Yu et al. 2024, "An Image is Worth 32 Tokens"): a ViT that writes an image into a few latent tokens, and one that reads them.

Reads top to bottom: configuration, model, and how the released weights map to it. Three flavours, told apart by `head` and `pixel_decoder`:
the single-stage model predicts pixels; the first-stage model predicts the codes of MaskGIT's VQGAN; the second-stage model sends those
predictions, softly, through the VQGAN's decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.errors import ConfigError, TokenError
from visiontok.core.keymap import KeyMap
from visiontok.core.tokenizer import Tokenizer
from visiontok.decoders.conv import ConvDecoder
from visiontok.decoders.vit import CodeHead, LatentViTDecoder, PixelHead
from visiontok.encoders.vit import LatentRead, LatentViTEncoder
from visiontok.layers.conv import ConvNetConfig
from visiontok.quantizers.continuous import GaussianBottleneckConfig
from visiontok.signals.image_preprocessing import ImagePreprocessing
from visiontok.tokenizers.image.maskgit_vqgan.model import MaskGitVqgan
from visiontok.tokenizers.image.titok.reference import REFERENCE_KEYS
from visiontok.tokenizers.shared.latent_vit import LatentViTConfig
from visiontok.tokens import Latents, Tokens

VIT_SIZES = {
    "tiny": {"dim": 32, "depth": 2, "num_heads": 4},
    "micro": {"dim": 48, "depth": 3, "num_heads": 6},
    "small": {"dim": 512, "depth": 8, "num_heads": 8},
    "base": {"dim": 768, "depth": 12, "num_heads": 12},
    "large": {"dim": 1024, "depth": 24, "num_heads": 16},
}
"""The paper's sizes, and two for tests."""


class TiTokConfig(LatentViTConfig):
    """Sizes and flavour of a TiTok.

    Attributes:
        latent_read: how latents are read from the encoder's outputs; see `LatentViTEncoder`.
        head: what the decoder predicts: "pixels", or "codes" of MaskGIT's VQGAN.
        num_proxy_codes: codebook size of that VQGAN.
        pixel_decoder: sizes of the VQGAN decoder of a second-stage model; None otherwise.
    """

    latent_read: LatentRead = "per_token"
    head: Literal["pixels", "codes"] = "pixels"
    num_proxy_codes: int = Field(default=1024, gt=0)
    pixel_decoder: ConvNetConfig | None = None

    @model_validator(mode="after")
    def _check_flavour(self) -> TiTokConfig:
        if self.pixel_decoder is not None and self.head != "codes":
            raise ValueError('a pixel_decoder reads predicted codes: it needs head "codes"')
        if isinstance(self.quantizer, GaussianBottleneckConfig) and self.head == "codes":
            raise ValueError('continuous latents are trained in one stage: a "gaussian" quantizer needs head "pixels"')
        return self


class TiTok(Tokenizer[TiTokConfig]):
    """Latent-query ViT encoder, quantizer over N tokens, mask-token ViT decoder."""

    config_class = TiTokConfig
    reference_keys: ClassVar = KeyMap(
        {
            "latent_tokens": "encoder.latent_tokens",
            "encoder.conv_out.{}": "encoder.to_latents.{}",
            "decoder.decoder_embed.{}": "decoder.embed.{}",
            "decoder.mask_token": "decoder.mask_token",
            **{f"{net}.{theirs}": f"{net}.{ours}" for net in ("encoder", "decoder") for theirs, ours in (
                ("class_embedding", "class_token"),
                ("positional_embedding", "patch_positions"),
                ("latent_token_positional_embedding", "latent_positions"),
                ("patch_embed.{}", "patch_embed.{}"),
                ("ln_pre.{}", "norm_pre.{}"),
                ("ln_post.{}", "norm_post.{}"),
                ("transformer.{}.ln_1.{}", "blocks.{}.norm1.{}"),
                ("transformer.{}.attn.in_proj_weight", "blocks.{}.attn.qkv.weight"),
                ("transformer.{}.attn.in_proj_bias", "blocks.{}.attn.qkv.bias"),
                ("transformer.{}.attn.out_proj.{}", "blocks.{}.attn.proj.{}"),
                ("transformer.{}.ln_2.{}", "blocks.{}.norm2.{}"),
                ("transformer.{}.mlp.c_fc.{}", "blocks.{}.mlp.fc1.{}"),
                ("transformer.{}.mlp.c_proj.{}", "blocks.{}.mlp.fc2.{}"),
            )},
            "decoder.ffn.{}.{}": "head.layers.{}.{}",
            "decoder.conv_out.{}": "head.conv.{}",
            "quantize.embedding.weight": "quantizer.codebook",
            "quantize.embed_prob": None,  # a usage average of the authors' training code
            "pixel_quantize.embedding.weight": "pixel_codebook",
            **{f"pixel_{theirs}": f"pixel_{ours}" for theirs, ours in MaskGitVqgan.reference_keys.patterns.items() if theirs.startswith("decoder.")},
        }
    )  # fmt: skip

    def __init__(self, config: TiTokConfig) -> None:
        super().__init__(config)
        sizes: dict[str, Any] = {"image_size": config.image_size, "num_latent_tokens": config.num_latent_tokens}
        self.encoder = LatentViTEncoder(config.encoder, **sizes, latent_dim=config.encoder_channels, latent_read=config.latent_read)
        self.quantizer = config.quantizer.build()
        self.decoder = LatentViTDecoder(config.decoder, **sizes, latent_dim=config.quantizer.dim)
        self.head = (
            PixelHead(config.decoder.dim, config.decoder.patch_size)
            if config.head == "pixels"
            else CodeHead(config.decoder.dim, config.num_proxy_codes)
        )
        self.pixel_codebook: nn.Parameter | None = None
        self.pixel_decoder: ConvDecoder | None = None
        if config.pixel_decoder is not None:
            self.pixel_codebook = nn.Parameter(torch.randn(config.num_proxy_codes, config.pixel_decoder.latent_channels))
            self.pixel_decoder = ConvDecoder(config.pixel_decoder)
        self.preprocessing = ImagePreprocessing(size=config.image_size)
        self.nested_dropout = config.nested_dropout
        self.layout = config.layout

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> (B, N, D), or (B, N, 2 D) posterior parameters."""
        return self.encoder(signal)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, N, D) -> image (B, 3, S, S), or for a first-stage model logits (B, num_proxy_codes, g, g) over the VQGAN's codes."""
        return self._predict(self.decoder(latents))

    def decode_prefix(self, latents: Tensor, lengths: Tensor) -> Tensor:
        """The first latents of every sample (B, n <= N, D) -> what `decode_latents` gives."""
        return self._predict(self.decoder(latents, lengths))

    def _predict(self, features: Tensor) -> Tensor:
        predicted = self.head(features)
        return predicted if self.pixel_decoder is None else self.pixel_decoder(self.soft_pixel_latents(predicted))

    def soft_pixel_latents(self, logits: Tensor) -> Tensor:
        """Logits (B, num_proxy_codes, g, g) -> expected VQGAN codes (B, D_pixel, g, g).

        Raises:
            TokenError: for models without a pixel decoder.
        """
        if self.pixel_codebook is None:
            raise TokenError("this TiTok has no pixel decoder, so its logits cannot become VQGAN codes")
        return torch.einsum("bkhw,kd->bdhw", logits.softmax(dim=1), self.pixel_codebook)

    @torch.no_grad()
    def decode(self, tokens: Tokens | Latents) -> Tensor:
        """Tokens -> image (B, 3, S, S) clamped to [0, 1].

        Raises:
            TokenError: if the tokens have another layout, an id is out of range, or the model is a first-stage one, which has no pixels.
        """
        if self.config.head == "codes" and self.pixel_decoder is None:
            raise TokenError(
                "a first-stage TiTok predicts the codes of MaskGIT's VQGAN, not pixels: take decode_latents(...).argmax(1) and decode it there"
            )
        return super().decode(tokens)

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names; their 1x1 convolutions over tokens are linear layers here."""
        return with_linear_layers(super().weights_from_reference(state_dict))

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> TiTokConfig:
        """From the authors' nested configuration (`model.vq_model`, `dataset.preprocessing.crop_size`).

        Flags missing there mean what the authors' code takes them to mean: a second-stage model whose latents are read interleaved.
        An optional top-level `overrides` holds sizes that their code hard-codes (`vit_sizes`, `pixel_vqgan`).
        """
        sizes = read_reference_sizes(config)
        model, pixel = config["model"]["vq_model"], config.get("overrides", {}).get("pixel_vqgan", {})
        is_legacy = model.get("is_legacy", True)
        vqgan = {**pixel.get("decoder", {}), **{key: value for key, value in pixel.items() if key != "decoder"}}
        has_pixel_decoder = sizes["quantizer"]["type"] == "vq" and model.get("finetune_decoder", True)
        values = {
            **sizes,
            "latent_read": "interleaved" if is_legacy else "per_token",
            "head": "codes" if is_legacy else "pixels",
            "num_proxy_codes": pixel.get("num_embeddings", 1024),
            "pixel_decoder": MaskGitVqgan.config_from_reference(vqgan, {}).net.to_dict() if has_pixel_decoder else None,
        }
        return TiTokConfig.parse(values, source="the TiTok reference configuration")


def with_linear_layers(mapped: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renamed tensors of the authors, with their 1x1 convolutions over tokens as linear layers and the mask token as one row."""
    linear = ("encoder.to_latents.weight", "head.layers.0.weight", "head.layers.2.weight")
    flat = {key: mapped[key].flatten(1) for key in linear if key in mapped}
    if "decoder.mask_token" in mapped:
        flat["decoder.mask_token"] = mapped["decoder.mask_token"].flatten(0, 1)
    return {**mapped, **flat}


def read_reference_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `LatentViTConfig` from the authors' nested configuration.

    Raises:
        ConfigError: if it has an unknown key, lacks a size, or names a ViT size that nobody knows.
    """
    REFERENCE_KEYS.check(config, source="the TiTok reference configuration")
    try:
        model, size = config["model"]["vq_model"], config["dataset"]["preprocessing"]["crop_size"]
        known = {**VIT_SIZES, **{name: _our_names(vit) for name, vit in config.get("overrides", {}).get("vit_sizes", {}).items()}}
        vits = {
            net: {**known[model[f"vit_{short}_model_size"]], "patch_size": model[f"vit_{short}_patch_size"]}
            for net, short in (("encoder", "enc"), ("decoder", "dec"))
        }
        kl_weight = config.get("losses", {}).get("kl_weight", 1e-6)
        quantizer: dict[str, Any] = {"type": "gaussian", "dim": model["token_size"], "kl_weight": kl_weight}
        if model.get("quantize_mode", "vq") == "vq":
            normalize = model.get("use_l2_norm", False)
            quantizer = {
                "type": "vq",
                "codebook_size": model["codebook_size"],
                "dim": model["token_size"],
                "normalize_latents": normalize,
                "normalize_codes": normalize,
                "commitment_weight": model.get("commitment_cost", 0.25),
            }
        return {"image_size": size, "num_latent_tokens": model["num_latent_tokens"], **vits, "quantizer": quantizer}
    except KeyError as error:
        raise ConfigError(f"the TiTok reference configuration lacks {error}, or names an unknown ViT size (known: {list(VIT_SIZES)})") from error


def _our_names(vit: Mapping[str, int]) -> dict[str, int]:
    """The authors' name for depth is layers, for num_heads heads."""
    return {"dim": vit["width"], "depth": vit["layers"], "num_heads": vit["heads"]}
