"""From codes to a grid of features through a joint transformer: along a rectified flow, or in one step (Selftok, arXiv 2505.07538)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.errors import TokenError
from visiontok.base.noise import Noise
from visiontok.decoders.flow.decoder import FlowDecoder
from visiontok.decoders.flow.sampling import FlowSampling, Velocity
from visiontok.decoders.flow.training import TimeSchedule
from visiontok.layers.patches import patchify, sincos_positions, unpatchify
from visiontok.tokenizers.image.selftok.joint_transformer import Context, JointTransformer, JointTransformerConfig
from visiontok.tokenizers.image.selftok.visible_tokens import VisibleTokens


class JointFlowDecoder(FlowDecoder):
    """The velocity of a noisy grid, conditioned on tokens.

    Args:
        config: sizes.
        channels: of the grid.
        grid_size: side of the square grid.
        patch_size: side of a patch on it.
        num_tokens: K.
        latent_dim: channels of a code.
        tokens_see_image: whether tokens attend to the noisy patches.
        visible: how many tokens are visible at which time.
        sampling, flow_times, null_probability: see `FlowDecoder`.
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
        visible: VisibleTokens,
        sampling: FlowSampling,
        flow_times: TimeSchedule,
        null_probability: float,
    ) -> None:
        super().__init__(sampling=sampling, flow_times=flow_times, null_probability=null_probability)
        self.visible = visible
        self.side, self.patch_size = grid_size // patch_size, patch_size
        patch_dim = channels * patch_size**2
        self.patch_embed = nn.Linear(patch_dim, config.dim)
        self.register_buffer("patch_positions", sincos_positions(self.side, self.side, config.dim))
        self.trunk = JointTransformer(config, num_tokens=num_tokens, latent_dim=latent_dim, output_dim=patch_dim, tokens_see_image=tokens_see_image)

    def forward(self, noisy: Tensor, times: Tensor, context: Context, lengths: Tensor | None = None) -> Tensor:
        """Samples (B, H, W, C) at times (B,) or (1,) -> their velocity; `lengths` as for `JointTransformer`."""
        patches = self.patch_embed(patchify(noisy, self.patch_size)) + self.patch_positions
        out = self.trunk(patches, times, context, lengths)
        return unpatchify(out.unflatten(1, (self.side, self.side)), self.patch_size)

    def velocity(self, codes: Tensor, lengths: Tensor) -> Velocity:
        context, kept = self.trunk.context(codes), lengths.cpu()

        def velocity(noisy: Tensor, time: Tensor) -> Tensor:
            count = int(self.visible.at((1000 * time).int()))  # whole thousandths, as the authors count
            return self(noisy, time, context, kept.clamp_max(count))

        return velocity

    def unconditional_velocity(self, codes: Tensor) -> Velocity:
        first = codes[:, :1]
        context = self.trunk.context(first, dropped=torch.ones(len(first), dtype=torch.bool, device=codes.device))
        return lambda noisy, time: self(noisy, time, context)

    def training_velocity(self, noisy: Tensor, times: Tensor, codes: Tensor, noise: Noise) -> Tensor:
        """Draws uniform (B,) for the samples without codes."""
        dropped = noise.uniform(len(codes)) < self.null_probability
        return self(noisy, times, self.trunk.context(codes, dropped=dropped), self.visible.at(1000 * times).cpu())


class JointOneStepDecoder(nn.Module):
    """The grid in one step from all tokens (the renderer): every patch starts as the same learned vector, with its position.

    Tokens do not attend to patches. Training it leaves encoder and codebook as they are.

    Args:
        config, channels, grid_size, patch_size, num_tokens, latent_dim: as for `JointFlowDecoder`.
    """

    is_stochastic = False
    trains_codes = False

    def __init__(self, config: JointTransformerConfig, *, channels: int, grid_size: int, patch_size: int, num_tokens: int, latent_dim: int) -> None:
        super().__init__()
        self.side, self.patch_size = grid_size // patch_size, patch_size
        self.mask_token = nn.Parameter(torch.randn(1, config.dim) * 0.02)
        self.patch_positions = nn.Parameter(torch.randn(self.side**2, config.dim) * config.dim**-0.5)
        self.trunk = JointTransformer(
            config, num_tokens=num_tokens, latent_dim=latent_dim, output_dim=channels * patch_size**2, tokens_see_image=False
        )

    def forward(self, context: Context) -> Tensor:
        """The context of all tokens -> (B, H, W, C)."""
        patches = (self.mask_token + self.patch_positions).expand(len(context.tokens), -1, -1)
        pure_noise = torch.ones(1, dtype=torch.float32, device=patches.device)
        out = self.trunk(patches, pure_noise, context)
        return unpatchify(out.unflatten(1, (self.side, self.side)), self.patch_size)

    def decode(self, codes: Tensor, lengths: Tensor, start: Tensor | None, sampling: FlowSampling | None = None) -> Tensor:
        """Features (B, H, W, C) from all codes (B, K, D).

        Raises:
            TokenError: for a flow's options.
        """
        if sampling is not None:
            raise TokenError(f"this Selftok decodes in one step, without a flow, but got sampling {sampling}: omit it")
        return self(self.trunk.context(codes))

    def training_terms(self, data: Tensor, codes: Tensor, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """The features that are decoded, and their mean square error `latents`. Draws nothing."""
        decoded = self(self.trunk.context(codes))
        return decoded, {"latents": F.mse_loss(decoded.float(), data.float())}
