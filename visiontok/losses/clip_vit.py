"""A ViT over whole clips as their discriminator, as LARP has it (Wang et al. 2024, arXiv 2410.21264)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from visiontok.base.config import Config, Positive
from visiontok.base.noise import NoiseLike
from visiontok.layers.initialization import xavier_linears
from visiontok.layers.patches import clip_positions
from visiontok.layers.vit import ViTConfig
from visiontok.losses.discriminator import ClipDiscriminator
from visiontok.losses.pixels import check_clips, to_unit
from visiontok.signals.spec import SignalSpec


class ClipVitConfig(Config):
    """Sizes; the default is LARP's.

    Attributes:
        vit: of the transformer, and the side of its patches.
        frames_per_patch: frames of a patch.
    """

    type: Literal["clip_vit"] = "clip_vit"
    vit: ViTConfig = ViTConfig(dim=512, depth=12, num_heads=8, patch_size=8)
    frames_per_patch: Positive = 4

    def build(self, signal: SignalSpec) -> ClipVit:
        """The discriminator of such clips, with random weights.

        Raises:
            ConfigError: if the signals are no videos.
        """
        check_clips(signal, name="the discriminator 'clip_vit'")
        return ClipVit(self, signal=signal)


class ClipVit(ClipDiscriminator):
    """A class token reads all patches of a clip, with fixed positions, and becomes its logit. Clips are padded to whole patches by their ends."""

    def __init__(self, config: ClipVitConfig, *, signal: SignalSpec) -> None:
        super().__init__()
        self.signal = signal
        self.patch = (config.frames_per_patch, config.vit.patch_size, config.vit.patch_size)
        dim = config.vit.dim
        self.to_tokens = nn.Conv3d(signal.channels, dim, self.patch, stride=self.patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, dim))
        self.blocks = config.vit.blocks()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.to_logit = nn.Linear(dim, 1)
        xavier_linears(self)
        for weight in (self.to_tokens.weight.data.flatten(1), self.class_token.data):
            nn.init.xavier_uniform_(weight)

    def forward(self, images: Tensor, noise: NoiseLike = None) -> Tensor:
        """(B, C, T, H, W) -> logits (B, 1)."""
        clips = to_unit(images, self.signal)
        missing = [-size % patch for size, patch in zip(clips.shape[2:], self.patch, strict=True)]
        tokens = self.to_tokens(pad(clips, [amount for side in reversed(missing) for amount in (0, side)], mode="replicate"))
        positions = clip_positions((tokens.shape[2], tokens.shape[3], tokens.shape[4]), tokens.shape[1]).to(tokens)
        sequence = tokens.flatten(2).transpose(1, 2) + positions
        read = self.blocks(torch.cat([self.class_token.expand(len(clips), -1, -1), sequence], dim=1))
        return self.to_logit(self.norm(read[:, 0]))
