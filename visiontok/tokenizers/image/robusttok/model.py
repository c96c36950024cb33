"""RobustTok (Qiu et al. 2025, arXiv 2503.08354) and its base ImageFolder / XQ-GAN (Li et al. 2024, arXiv 2410.01756 and 2412.01762).

Two ViTs in DINOv2's shape with queries that lie on a grid. Between them either vector quantization (VQ-4096, VQ-8192, RobustTok), two branches
of it (VP2), or two branches of multi-scale residual quantization of vectors (MSVR10P2) or of signs (MSBR10P2).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.base.errors import TokenError
from visiontok.core.keymap import check_state_dict
from visiontok.core.tokenizer import DecodeOptions, Tokenizer
from visiontok.layers.dinov2 import dino_weights
from visiontok.layers.vit import ViTConfig
from visiontok.quantizers.binary import BinaryQuantizerConfig
from visiontok.quantizers.multi_scale import MultiScaleQuantizer, MultiScaleQuantizerConfig
from visiontok.quantizers.product import ProductQuantizerConfig
from visiontok.quantizers.vector import VectorQuantizerConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokenizers.image.robusttok.decoder import GridQueryDecoder
from visiontok.tokenizers.image.robusttok.encoder import GridQueryEncoder
from visiontok.tokenizers.image.robusttok.reference import KEY_MAP, convert_weights, read_config
from visiontok.tokens import Latents, Segment, TokenLayout, Tokens


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

    image_size: Positive = 256
    encoder: ViTConfig
    decoder: ViTConfig
    grid_side: Positive = 16
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
        """A grid of tokens, or one grid per scale, with one token per branch at every position."""
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
        lengths = tuple(accumulate(segment.length for segment in segments))
        signal_shape = (self.image_size, self.image_size)
        return TokenLayout(modality="image", segments=tuple(segments), signal_shape=signal_shape, prefixes=lengths if len(lengths) > 1 else "none")


class RobustTok(Tokenizer[RobustTokConfig]):
    """Query ViT encoder, quantizer over a grid of latents, mask-token ViT decoder."""

    config_class = RobustTokConfig
    reference_keys: ClassVar = KEY_MAP

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

    def load_backbone(self, state_dict: Mapping[str, Tensor]) -> None:
        """Put the weights of a DINOv2 of the same dim and depth into both ViTs, resampled to their patches and grids.

        Raises:
            CheckpointError: if they are another network's, or of other sizes.
        """
        for name, net, vit in (("encoder", self.encoder, self.config.encoder), ("decoder", self.decoder, self.config.decoder)):
            side = self.config.image_size // vit.patch_size
            own = {key: tensor for key, tensor in net.state_dict().items() if key.startswith(("trunk.", "patch_embed."))}
            weights = dino_weights(state_dict, patch_size=vit.patch_size, grid_side=side)
            if name == "decoder":  # it reads no images
                weights = {key: tensor for key, tensor in weights.items() if key.startswith("trunk.")}
            check_state_dict(own, weights, source=f"the backbone, in the {name},")
            net.load_state_dict(weights, strict=False)

    def encode_latents(self, signal: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] -> (B, H, H, P C)."""
        return self.encoder(signal * 2 - 1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """(B, H, H, P C) -> image (B, 3, S, S), not clamped."""
        return (self.decoder(latents) + 1) / 2

    def next_scale_inputs(self, tokens: Tokens) -> Tensor:
        """The input of a next-scale generator for these tokens, (B, positions of all scales but the first, P C); see `MultiScaleQuantizer`.

        Raises:
            TokenError: for models without scales.
        """
        if not isinstance(self.config.branch, MultiScaleQuantizerConfig):
            raise TokenError("this model has a single scale, so there is no next one to predict")
        by_branch = tokens.indices.unflatten(1, (-1, self.config.num_branches)).unbind(dim=-1)
        branches = [module for module in self.quantizer.modules() if isinstance(module, MultiScaleQuantizer)]
        return torch.cat([branch.next_scale_inputs(part) for branch, part in zip(branches, by_branch, strict=True)], dim=-1)

    def decode_tokens(self, tokens: Tokens | Latents, options: DecodeOptions) -> Tensor:
        """Tokens of all scales, or of the first ones, coarse to fine; samples of different numbers of scales may share a batch."""
        assert isinstance(tokens, Tokens)
        images = torch.empty(len(tokens), 3, self.config.image_size, self.config.image_size, dtype=self.dtype, device=self.device)
        for length in tokens.sample_lengths.unique().tolist():
            rows = torch.nonzero(tokens.sample_lengths == length).flatten()
            indices = self._by_branch(tokens.indices[rows, :length])
            images[rows] = self.decode_latents(self.lookup(indices)).to(images.dtype)
        return images

    def _by_branch(self, indices: Tensor) -> Tensor:
        """(B, L) -> (B, H, H) or (B, M), with P on a last axis where there are branches."""
        by_branch = indices if self.config.num_branches == 1 else indices.unflatten(1, (-1, self.config.num_branches))
        is_multi_scale = isinstance(self.config.branch, MultiScaleQuantizerConfig)
        return by_branch if is_multi_scale else by_branch.unflatten(1, (self.config.grid_side,) * 2)

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' tensors under our names."""
        return convert_weights(state_dict)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> RobustTokConfig:
        """From the authors' flat configuration."""
        return RobustTokConfig.parse(read_config(config), source="the RobustTok reference configuration")
