"""`mar`: masked autoregressive generation of continuous latents (Li et al. 2024, arXiv 2406.11838): an MAE backbone with a diffusion head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.config import Positive
from visiontok.base.noise import NoiseLike, as_noise
from visiontok.generators.backbones import MaeBackbone, MaeConfig
from visiontok.generators.base import Generator, GeneratorConfig
from visiontok.generators.condition import Condition, ConditionLike, needs_one_vector
from visiontok.generators.decoding.continuous_speculative import ContinuousSpeculativeSampler
from visiontok.generators.decoding.masked_autoregressive import MaskedLatentSampler, MaskedLatentSampling, MaskedStep
from visiontok.generators.heads.diffusion import DiffusionHead, DiffusionHeadConfig
from visiontok.generators.heads.diffusion_schedule import kept_steps
from visiontok.generators.mar.reference import CONFIG_KEYS, KEY_MAP, read_config
from visiontok.generators.orders import masked_positions
from visiontok.layers.initialization import normal_weights
from visiontok.layers.patches import patchify, unpatchify
from visiontok.tokens import Latents, Tokens


class MarConfig(GeneratorConfig):
    """Configuration of `Mar`.

    Attributes:
        backbone: sizes of encoder and decoder.
        head: sizes of the diffusion model.
        patch_size: side of the square of latents that the model treats as one, for layouts with two axes.
        least_masked: share of the positions that training masks at least; 0.7 in MAR. MMAR (arXiv 2410.10798) goes on with 0 after that, since
            otherwise the last positions that sampling fills in were never trained.
    """

    backbone: MaeConfig
    head: DiffusionHeadConfig = DiffusionHeadConfig()
    patch_size: Positive = 1
    least_masked: Annotated[float, Field(ge=0, le=1)] = 0.7
    sampling: MaskedLatentSampling = MaskedLatentSampling()

    @model_validator(mode="after")
    def _check_layout(self) -> MarConfig:
        layout = self.layout
        if not layout.is_continuous or len(layout.segments) > 1 or layout.ragged:
            raise ValueError("mar models one segment of continuous latents that is not ragged; gpt takes other layouts")
        shape = layout.segments[0].shape
        if self.patch_size > 1 and (len(shape) != 2 or any(side % self.patch_size for side in shape)):
            raise ValueError(f"patch_size {self.patch_size} must divide both sides of a grid of latents; this layout has the shape {shape}")
        needs_one_vector(self.condition, why="mar has one embedding for the condition")
        kept_steps(self.head.num_timesteps, str(self.sampling.diffusion_steps))  # refuses what cannot be read
        return self


class Mar(Generator[MarConfig]):
    """Class-conditional (or unconditional) generator that fills in latents in random order."""

    config_class = MarConfig
    reference_keys = KEY_MAP

    def __init__(self, config: MarConfig) -> None:
        super().__init__(config)
        channels = (config.layout.segments[0].channels or 0) * config.patch_size**2
        self.condition = config.condition.build(config.backbone.encoder.dim)
        self.backbone = MaeBackbone(config.backbone, channels=channels, length=self.num_positions)
        self.head = DiffusionHead(config.head, dim=config.backbone.decoder.dim, channels=channels)
        normal_weights(self.condition)

    @property
    def num_positions(self) -> int:
        """Patches of a sample L."""
        return self.layout.length // self.config.patch_size**2

    def loss(
        self, tokens: Tokens | Latents | Tensor, condition: ConditionLike = None, *, step: int = 0, noise: NoiseLike = None
    ) -> dict[str, Tensor]:
        """Mean of the diffusion loss over the masked positions.

        Draws: those of `masked_positions`; in training mode a uniform one (B,) that hides classes; those of the head.

        Returns:
            "loss", and "weight", the masked positions per sample.
        """
        tokens, found = self.whole_batch(tokens, condition)
        source = as_noise(noise, self.device)
        values = self.to_patches(tokens.data)
        mask = masked_positions(*values.shape[:2], least=self.config.least_masked, noise=source).to(self.device)
        dropped = self.dropped(len(tokens), source)
        hidden = self.backbone(values, mask, self._embedded(found, dropped))
        return {"loss": self.head.loss(hidden, values, mask, source).mean(), "weight": mask.sum() / len(mask)}

    @torch.no_grad()
    def generate(
        self,
        condition: ConditionLike = None,
        *,
        num_samples: int | None = None,
        noise: NoiseLike = None,
        sampler: MaskedLatentSampler | ContinuousSpeculativeSampler | None = None,
    ) -> Latents:
        """Sample latents; see `Generator.generate` for the arguments and the sampler for the draws."""
        found, count, sampler = self.sampling_condition(condition, sampler, samples=num_samples)
        return Latents(self.from_patches(sampler(self, found, count, as_noise(noise, self.device))), self.layout)

    def hidden(self, values: Tensor, step: MaskedStep, condition: Condition) -> tuple[Tensor, Tensor | None]:
        """See `MaskedLatentModel`; one pass over a doubled batch if the step is guided."""
        kept = torch.zeros(len(values), dtype=torch.bool, device=values.device)
        embedded = [self._embedded(condition, dropped) for dropped in ([kept, ~kept] if step.is_guided else [kept])]
        conditional, *unconditional = self.backbone.at(step.positions, values, step.mask, embedded)
        return conditional, unconditional[0] if unconditional else None

    def to_patches(self, latents: Tensor) -> Tensor:
        """Latents (B, h * w, C) in storage order -> (B, L, C * p * p) float32, within a patch (channel, row, column)."""
        size = self.config.patch_size
        if size == 1:
            return latents.float()
        patches = patchify(latents.float().unflatten(1, self.layout.segments[0].shape), size)
        return patches.unflatten(2, (size * size, -1)).transpose(2, 3).flatten(2)

    def from_patches(self, patches: Tensor) -> Tensor:
        """The inverse of `to_patches`."""
        size = self.config.patch_size
        if size == 1:
            return patches
        rows, columns = (side // size for side in self.layout.segments[0].shape)
        grid = patches.unflatten(2, (-1, size * size)).transpose(2, 3).flatten(2).unflatten(1, (rows, columns))
        return unpatchify(grid, size).flatten(1, 2)

    def _embedded(self, condition: Condition, dropped: Tensor) -> Tensor:
        """(B, D)."""
        return self.condition(condition, dropped)[0][:, 0]

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> MarConfig:
        with CONFIG_KEYS.reading(config, source="the reference configuration of a MAR"):
            return MarConfig.parse(read_config(config), source="reference configuration")

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Their learned tables and the mask token have axes of length 1 in front."""
        return flat_tables(super().weights_from_reference(state_dict))


def flat_tables(renamed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The learned tables of the backbone (1, L, D) as (L, D), and its mask token (1, 1, D) as (1, D)."""
    tables = {f"backbone.{name}" for name in ("encoder_positions", "decoder_positions", "output_positions", "mask_token")}
    return {name: tensor[0] if name in tables else tensor for name, tensor in renamed.items()}
