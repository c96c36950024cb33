"""A ViT that writes an image from a few latent tokens (TiTok, Yu et al. 2024, section 3.2), and its two heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.layers.nested_dropout import prefix_mask
from visiontok.layers.patches import unpatchify
from visiontok.layers.vit import TextTokens, ViTConfig, init_vit_weights, prepend, token_table


class LatentViTDecoder(nn.Module):
    """The sequence [class | mask tokens | latents | text] through a ViT; the mask tokens' outputs become the image grid.

    Args:
        config: sizes.
        image_size: side of the square image in pixels.
        num_latent_tokens: the longest latent sequence N.
        latent_dim: channels C of a latent.
        text_shape: (T, E) of the text embeddings that it reads beside the latents; None for decoders that read none.
    """

    def __init__(
        self, config: ViTConfig, *, image_size: int, num_latent_tokens: int, latent_dim: int, text_shape: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        dim, self.grid = config.dim, image_size // config.patch_size
        self.embed = nn.Linear(latent_dim, dim)
        self.class_token = token_table(1, dim)
        self.mask_token = token_table(1, dim)
        self.patch_positions = token_table(self.grid**2 + 1, dim)
        self.latent_positions = token_table(num_latent_tokens, dim)
        self.text = None if text_shape is None else TextTokens(length=text_shape[0], text_dim=text_shape[1], dim=dim)
        self.norm_pre = nn.LayerNorm(dim)
        self.blocks = config.blocks()
        self.norm_post = nn.LayerNorm(dim)
        self.apply(init_vit_weights)

    def forward(self, latents: Tensor, lengths: Tensor | None = None, text: Tensor | None = None) -> Tensor:
        """Latents (B, n <= N, C) -> features (B, grid, grid, D).

        Args:
            latents: the first n of every sample.
            lengths: (B,) int64, how many of them a sample has; the others are ignored. None for all n.
            text: (B, T, E), for decoders that read text; all of it is read.
        """
        latent_tokens = self.embed(latents) + self.latent_positions[: latents.shape[1]]
        masks = self.mask_token.expand(len(latents), self.grid**2, -1)
        image_tokens = prepend(self.class_token, masks) + self.patch_positions
        text_tokens = latent_tokens[:, :0] if self.text is None or text is None else self.text(text)
        x = self.norm_pre(torch.cat([image_tokens, latent_tokens, text_tokens], dim=1))
        mask = None
        if lengths is not None:
            seen = prefix_mask(lengths, latents.shape[1])
            mask = F.pad(seen, (image_tokens.shape[1], text_tokens.shape[1]), value=True)[:, None, None]
        for block in self.blocks[:-1]:
            x = block(x, mask)
        x = self.blocks[-1](x, mask, kept=slice(1, 1 + self.grid**2))
        return self.norm_post(x).unflatten(1, (self.grid, self.grid))


class PixelHead(nn.Module):
    """Features to pixels: a linear layer per patch, then a 3x3 convolution over the image."""

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.layers = nn.Sequential(nn.Linear(dim, 3 * patch_size**2))
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.apply(init_vit_weights)

    def forward(self, features: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, 3, h * p, w * p)."""
        return self.conv(unpatchify(self.layers(features), self.patch_size).permute(0, 3, 1, 2).contiguous())


class CodeHead(nn.Module):
    """Features to logits over the codes of another tokenizer (the teacher codes of TiTok's first stage)."""

    def __init__(self, dim: int, num_codes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, 2 * dim), nn.Tanh(), nn.Linear(2 * dim, num_codes))
        self.apply(init_vit_weights)

    def forward(self, features: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, num_codes, h, w)."""
        return self.layers(features).permute(0, 3, 1, 2)
