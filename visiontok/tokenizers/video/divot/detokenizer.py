"""Divot's de-tokenizer: a video diffusion model (DynamiCrafter, arXiv 2310.12190) that makes a clip of latents of an autoencoder from tokens.

The U-Net is diffusers' `UNet3DConditionModel`, whose layers are those of the authors' model, except for its cross-attention (`SplitContext`). The
embedding of the frame rate, which is the same for all clips, is part of the bias of the time embedding.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.base.noise import Noise, integers
from visiontok.base.optional import import_optional_class
from visiontok.tokenizers.video.divot.resampler import ResamplerConfig

NUM_STEPS = 1000
"""Of the diffusion."""


class DiffusionSampling(Config):
    """How a clip is made from tokens by DDIM (arXiv 2010.02502).

    Attributes:
        steps: each is two passes of the U-Net, with tokens and with those of a gray clip.
        guidance: scale s of `u + s * (c - u)`.
        rescale: share of the guided prediction that gets the deviation of the one with tokens (arXiv 2305.08891).
        eta: deviation of the noise of every step, as a share of that of DDPM.
    """

    steps: Positive = Field(default=50, le=NUM_STEPS)
    guidance: float = 7.5
    rescale: float = Field(default=0.7, ge=0, le=1)
    eta: float = Field(default=1.0, ge=0, le=1)


class DetokenizerConfig(Config):
    """Sizes; the defaults are the published ones.

    Attributes:
        channels: of the U-Net's levels, the finest first; every level but the last halves the sides.
        layers_per_level: residual blocks.
        attention_levels: levels with attention over space and over time, 0 being the finest.
        head_dim: of every attention.
        norm_groups: of every GroupNorm.
        first_tokens: of the context, which the keys and values of the first kind read.
        context: makes it from the tokens.
        sampling: of clips.
    """

    channels: tuple[Positive, ...] = (320, 640, 1280, 1280)
    layers_per_level: Positive = 2
    attention_levels: tuple[int, ...] = (0, 1, 2)
    head_dim: Positive = 64
    norm_groups: Positive = 32
    first_tokens: Positive = 77
    context: ResamplerConfig = ResamplerConfig(num_latents=125, output_dim=1024)
    sampling: DiffusionSampling = DiffusionSampling()

    @model_validator(mode="after")
    def _check(self) -> DetokenizerConfig:
        if any(width % self.norm_groups or width % self.head_dim for width in self.channels):
            raise ValueError(f"channels {self.channels} are not all multiples of norm_groups {self.norm_groups} and head_dim {self.head_dim}")
        if not set(self.attention_levels) <= set(range(len(self.channels))):
            raise ValueError(f"attention_levels {self.attention_levels} name levels beyond the {len(self.channels)} that there are")
        if self.first_tokens >= self.context.num_latents:
            raise ValueError(f"first_tokens {self.first_tokens} leave none of the context's {self.context.num_latents}")
        return self

    def unet(self, latent_channels: int) -> nn.Module:
        """The network for latents of so many channels, with random weights."""
        levels = range(len(self.channels))
        network = import_optional_class("diffusers", "UNet3DConditionModel", extra="zoo")(
            in_channels=latent_channels,
            out_channels=latent_channels,
            block_out_channels=self.channels,
            layers_per_block=self.layers_per_level,
            down_block_types=tuple(_block("Down", level in self.attention_levels) for level in levels),
            up_block_types=tuple(_block("Up", level in self.attention_levels) for level in reversed(levels)),
            norm_num_groups=self.norm_groups,
            cross_attention_dim=self.context.output_dim,
            attention_head_dim=self.head_dim,
        )
        for name, module in network.named_modules():
            if name.endswith("attn2") and module.is_cross_attention:
                module.set_processor(SplitContext(module, first=self.first_tokens, context_dim=self.context.output_dim))
        return network  # type: ignore[no-any-return]


def _block(direction: str, has_attention: bool) -> str:
    return f"{'CrossAttn' if has_attention else ''}{direction}Block3D"


class SplitContext(nn.Module):
    """Cross-attention to two parts of a context, each with keys and values of its own: `a + (tanh(gate) + 1) * b`. A processor of diffusers.

    Args:
        attn: diffusers' attention, whose keys and values are those of the first part.
        first: tokens of the first part.
        context_dim: of a token.
    """

    def __init__(self, attn: Any, *, first: int, context_dim: int) -> None:
        super().__init__()
        self.first = first
        self.key = nn.Linear(context_dim, attn.inner_dim, bias=False)
        self.value = nn.Linear(context_dim, attn.inner_dim, bias=False)
        self.gate = nn.Parameter(torch.zeros(()))

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask: None = None) -> Tensor:
        """(S, N, D) and a context (S, L, C) -> (S, N, D)."""
        first, rest = encoder_hidden_states[:, : self.first], encoder_hidden_states[:, self.first :]
        query = attn.to_q(hidden_states)
        pairs = ((attn.to_k(first), attn.to_v(first)), (self.key(rest), self.value(rest)))
        of_first, of_rest = (_attend(query, key, value, attn.heads) for key, value in pairs)
        result: Tensor = attn.to_out[0](of_first + (self.gate.tanh() + 1) * of_rest)
        return result


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def new_scheduler() -> Any:
    """diffusers' DDIM: no signal at the last step (arXiv 2305.08891), velocities, and steps 1, 21, ... 981 for 50 of them."""
    return import_optional_class("diffusers", "DDIMScheduler", extra="zoo")(
        num_train_timesteps=NUM_STEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
        timestep_spacing="leading",
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
    )


class Detokenizer(nn.Module):
    """Tokens to the latents of a clip.

    Args:
        config: sizes.
        token_dim: of a token.
        latent_channels: of the autoencoder.
    """

    def __init__(self, config: DetokenizerConfig, *, token_dim: int, latent_channels: int) -> None:
        super().__init__()
        self.context = config.context.build(token_dim)
        self.unet = config.unet(latent_channels)

    def loss(self, tokens: Tensor, latents: Tensor, noise: Noise) -> Tensor:
        """Mean squared error of the predicted velocity at a random step of every sample.

        Draws: uniform (B,) for the steps, then normal (B, C, T, h, w).

        Args:
            tokens: (B, N, token_dim).
            latents: (B, C, T, h, w), scaled.
            noise: source of the draws.
        """
        steps = integers(noise, NUM_STEPS, len(latents)).to(latents.device)
        drawn = noise.normal(*latents.shape).to(latents)
        scheduler = new_scheduler()
        noisy, velocity = scheduler.add_noise(latents, drawn, steps), scheduler.get_velocity(latents, drawn, steps)
        return F.mse_loss(self._predict(noisy, steps, self.context(tokens)).float(), velocity.float())

    def sample(self, tokens: Tensor, unconditional: Tensor, shape: tuple[int, ...], sampling: DiffusionSampling, noise: Noise) -> Tensor:
        """Latents (B, *shape) of clips.

        Draws: normal (B, *shape) for the start, then one for every step.

        Args:
            tokens: (B, N, token_dim).
            unconditional: (1, N, token_dim), the tokens of a gray clip.
            shape: channels, frames, height and width of a sample.
            sampling: steps and guidance.
            noise: source of the draws.
        """
        with_tokens = self.context(tokens)
        context = torch.cat([self.context(unconditional).expand_as(with_tokens), with_tokens])
        x = noise.normal(len(tokens), *shape).to(tokens)
        scheduler = new_scheduler()
        scheduler.set_timesteps(sampling.steps)
        for step in scheduler.timesteps.tolist():
            steps = torch.full((2 * len(x),), step, dtype=torch.int64, device=x.device)
            without, given = self._predict(torch.cat([x, x]), steps, context).chunk(2)
            guided = rescaled(without + sampling.guidance * (given - without), given, sampling.rescale)
            drawn = noise.normal(*x.shape).to(x)
            x = scheduler.step(guided, step, x, eta=sampling.eta, variance_noise=drawn).prev_sample
        return x

    def _predict(self, x: Tensor, steps: Tensor, context: Tensor) -> Tensor:
        """The velocity at noisy latents (B, C, T, h, w), at steps (B,), given a context (B, L, D)."""
        result: Tensor = self.unet(x, steps, encoder_hidden_states=context).sample
        return result


def rescaled(guided: Tensor, conditional: Tensor, share: float) -> Tensor:
    """A guided prediction (B, ...) of which a share has the deviation of the conditional one (arXiv 2305.08891, section 3.4)."""
    dims = tuple(range(1, guided.ndim))
    ratio = conditional.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True)
    return share * guided * ratio + (1 - share) * guided
