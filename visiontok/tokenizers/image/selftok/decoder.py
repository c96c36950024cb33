"""From codes to a grid of features through a joint transformer: along a rectified flow, or in one step (Selftok, arXiv 2505.07538)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visiontok.layers.patches import patchify, sincos_positions, unpatchify
from visiontok.tokenizers.image.selftok.joint_transformer import Context, JointTransformer, JointTransformerConfig


class JointFlowDecoder(nn.Module):
    """The velocity of a noisy grid, led by tokens.

    Args:
        config: sizes.
        channels: of the grid.
        grid_size: side of the square grid.
        patch_size: side of a patch on it.
        num_tokens: K.
        latent_dim: channels of a code.
        tokens_see_image: whether tokens attend to the noisy patches.
    """

    patch_positions: Tensor

    def __init__(
        self,
        config: JointTransformerConfig,
        *,
        channels: int,
        grid_size: int,
        patch_size: int,
        num_tokens: int,
        latent_dim: int,
        tokens_see_image: bool,
    ) -> None:
        super().__init__()
        self.side, self.patch_size = grid_size // patch_size, patch_size
        patch_dim = channels * patch_size**2
        self.patch_embed = nn.Linear(patch_dim, config.dim)
        self.register_buffer("patch_positions", sincos_positions(self.side, self.side, config.dim))
        self.trunk = JointTransformer(config, num_tokens=num_tokens, latent_dim=latent_dim, output_dim=patch_dim, tokens_see_image=tokens_see_image)

    def forward(self, noisy: Tensor, times: Tensor, context: Context, lengths: Tensor | None = None) -> Tensor:
        """Samples (B, H, W, C) at times (B,) or (1,) -> their velocity; `lengths` as for `JointTransformer`."""
        patches = self.patch_embed(patchify(noisy, self.patch_size)) + self.patch_positions
        return unpatchify(self.trunk(patches, times, context, lengths), self.patch_size, height=self.side)


class JointOneStepDecoder(nn.Module):
    """The grid at once: every patch starts as the same learned vector at its position. Tokens do not attend to patches.

    Args:
        config, channels, grid_size, patch_size, num_tokens, latent_dim: as for `JointFlowDecoder`.
    """

    def __init__(self, config: JointTransformerConfig, *, channels: int, grid_size: int, patch_size: int, num_tokens: int, latent_dim: int) -> None:
        super().__init__()
        self.side, self.patch_size = grid_size // patch_size, patch_size
        self.mask_token = nn.Parameter(torch.randn(1, config.dim) * 0.02)
        self.patch_positions = nn.Parameter(torch.randn(self.side**2, config.dim) * config.dim**-0.5)
        self.trunk = JointTransformer(
            config, num_tokens=num_tokens, latent_dim=latent_dim, output_dim=channels * patch_size**2, tokens_see_image=False
        )

    def forward(self, context: Context) -> Tensor:
        """What all tokens say -> (B, H, W, C)."""
        patches = (self.mask_token + self.patch_positions).expand(len(context.tokens), -1, -1)
        pure_noise = torch.ones(1, device=patches.device)
        return unpatchify(self.trunk(patches, pure_noise, context), self.patch_size, height=self.side)
