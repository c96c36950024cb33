"""A ViT that reads an image and writes it into a few latent tokens (TiTok, Yu et al. 2024, section 3.2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from visiontok.layers.vit import TextTokens, ViTConfig, init_vit_weights, prepend, token_table

LatentRead = Literal["per_token", "interleaved"]


class LatentViTEncoder(nn.Module):
    """The sequence [class | patches | latent queries | text] through a ViT; the queries' outputs become the latents.

    Args:
        config: sizes.
        image_size: side of the square image in pixels.
        num_latent_tokens: N.
        latent_dim: channels C of a latent.
        latent_read: how the last linear layer reads the N outputs of dim D. "per_token": each latent from its own token.
            "interleaved": the row-major (N, D) block is read as (D, N), so that latent n is made of the features c = n (mod N) of every
            token. The first TiTok releases (L-32, B-64, S-128) were trained that way.
        text_shape: (T, E) of the text embeddings that it reads beside the image; None for encoders that read none.
    """

    def __init__(
        self,
        config: ViTConfig,
        *,
        image_size: int,
        num_latent_tokens: int,
        latent_dim: int,
        latent_read: LatentRead = "per_token",
        text_shape: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        dim, grid = config.dim, image_size // config.patch_size
        self.num_latent_tokens = num_latent_tokens
        self.reads_interleaved = latent_read == "interleaved"
        self.patch_embed = nn.Conv2d(3, dim, config.patch_size, stride=config.patch_size)
        self.class_token = token_table(1, dim)
        self.patch_positions = token_table(grid**2 + 1, dim)
        self.latent_tokens = token_table(num_latent_tokens, dim)
        self.latent_positions = token_table(num_latent_tokens, dim)
        self.text = None if text_shape is None else TextTokens(length=text_shape[0], text_dim=text_shape[1], dim=dim)
        self.norm_pre = nn.LayerNorm(dim)
        self.blocks = config.blocks()
        self.norm_post = nn.LayerNorm(dim)
        self.to_latents = nn.Linear(dim, latent_dim)
        self.apply(init_vit_weights)

    def forward(self, images: Tensor, text: Tensor | None = None) -> Tensor:
        """(B, 3, S, S) in [0, 1], and for encoders that read text (B, T, E) -> latents (B, N, C)."""
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        image_tokens = prepend(self.class_token, patches) + self.patch_positions
        queries = (self.latent_tokens + self.latent_positions).expand(len(images), -1, -1)
        text_tokens = queries[:, :0] if self.text is None or text is None else self.text(text)
        x = self.blocks[:-1](self.norm_pre(torch.cat([image_tokens, queries, text_tokens], dim=1)))
        start = image_tokens.shape[1]
        x = self.norm_post(self.blocks[-1](x, kept=slice(start, start + self.num_latent_tokens)))
        if self.reads_interleaved:
            x = x.reshape(len(x), x.shape[2], x.shape[1]).transpose(1, 2)
        return self.to_latents(x)
