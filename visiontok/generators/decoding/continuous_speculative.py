"""Continuous speculative decoding: a small generator of latents drafts, a large one verifies several steps at once (CSpD, arXiv 2411.11925).

Both sample a latent from the same noise, so that their diffusions stay close and a latent's probability under one can be compared with that under
the other by the last step alone. This is an approximation: samples are not exactly those of the large generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.base.finite import check_finite
from visiontok.base.noise import Noise, as_noise, selected
from visiontok.core.identity import check_same_tokenizer
from visiontok.generators.condition import Condition
from visiontok.generators.decoding.masked_autoregressive import MaskedLatentModel, MaskedLatentSampler, MaskedStep, write
from visiontok.generators.heads.diffusion import DenoisedLatents


@dataclass(frozen=True)
class Verified:
    """What became of drafted latents.

    Attributes:
        values: (B, M, C) the drafted latents, and resampled ones where they were rejected.
        accepted: (B, M) bool.
    """

    values: Tensor
    accepted: Tensor


class Verification(Protocol):
    """Accepts or resamples drafted latents, each by itself."""

    def __call__(self, latents: Tensor, draft: DenoisedLatents, target: DenoisedLatents, noise: Noise) -> Verified:
        """Verify.

        Args:
            latents: (B, M, C) drafted.
            draft: the last steps of the drafter.
            target: those of the target, from the same noise.
            noise: source of the draws.
        """


@dataclass(frozen=True)
class PaperVerification:
    """The paper's: the ratio of both densities times that of the deviations of all earlier steps; rejected latents come from the residual.

    A latent for which no proposal is kept becomes the last one, a draw from the target's last step. A sample's result does not depend on the others'.

    Attributes:
        attempts: proposals for every rejected latent.
    """

    attempts: int = 100

    def __call__(self, latents: Tensor, draft: DenoisedLatents, target: DenoisedLatents, noise: Noise) -> Verified:
        """See `Verification`.

        Draws: uniform (B, M); then, for samples with a rejected latent only, normal (B, M, attempts, C) and uniform (B, M, attempts).
        """
        factor = self.log_factor(draft, target)
        accepted = log_ratio(latents, draft, target, factor) > noise.uniform(*latents.shape[:2]).to(latents.device).log()
        rows = (~accepted).any(dim=1).nonzero().flatten()
        if not len(rows):
            return Verified(latents, accepted)
        part = as_noise(selected(noise, rows), latents.device)
        shape = (len(rows), latents.shape[1], self.attempts)
        of_draft, of_target = _of_rows(draft, rows), _of_rows(target, rows)
        proposals = of_target.values + of_target.std * part.normal(*shape, latents.shape[2])
        kept = part.uniform(*shape) < keep_probability(proposals, of_draft, of_target, factor[rows][..., None])
        first = torch.where(kept.any(dim=2), kept.to(torch.uint8).argmax(dim=2), self.attempts - 1)
        resampled = proposals.gather(2, first[..., None, None].expand(-1, -1, 1, latents.shape[2]))[:, :, 0]
        values = latents.clone()
        values[rows] = torch.where(accepted[rows][..., None], latents[rows], resampled)
        return Verified(values, accepted)

    def log_factor(self, draft: DenoisedLatents, target: DenoisedLatents) -> Tensor:
        """(B, M): logarithm of the factor by which the earlier steps enter the ratio."""
        return (draft.log_std - target.log_std).sum(dim=-1)


@dataclass(frozen=True)
class ReferenceVerification:
    """That of the released code, which differs from the paper: the factor is the inverse, distances in the ratio are divided by a temperature, and
    resampling goes on, with later proposals replacing earlier ones, until every latent of the batch had one that is kept; others become 0.

    Attributes:
        inner_temperature: by which distances are divided.
        attempts: at most so many proposals.
    """

    inner_temperature: float = 42.0
    attempts: int = 100

    def __call__(self, latents: Tensor, draft: DenoisedLatents, target: DenoisedLatents, noise: Noise) -> Verified:
        """See `Verification`; a sample's result depends on its batch.

        Draws: uniform (B, M); then, if any latent of the batch was rejected, per attempt normal (B, M, C) and uniform (B, M).
        """
        shape, factor = latents.shape, self.log_factor(draft, target)
        ratio = log_ratio(latents, draft, target, factor, temperature=self.inner_temperature)
        accepted = ratio > noise.uniform(*shape[:2]).to(latents.device).log()
        if bool(accepted.all()):
            return Verified(latents, accepted)
        resampled, found = torch.zeros_like(latents), torch.zeros_like(accepted)
        for _ in range(self.attempts):
            proposals = target.values + target.std * noise.normal(*shape).to(latents.device)
            kept = noise.uniform(*shape[:2]).to(latents.device) < keep_probability(proposals, draft, target, factor)
            resampled, found = torch.where(kept[..., None], proposals, resampled), found | kept
            if bool(found.all()):
                break
        return Verified(torch.where(accepted[..., None], latents, resampled), accepted)

    def log_factor(self, draft: DenoisedLatents, target: DenoisedLatents) -> Tensor:
        """(B, M): logarithm of the factor by which the earlier steps enter the ratio."""
        return (target.log_std - draft.log_std).sum(dim=-1)


def log_ratio(latents: Tensor, draft: DenoisedLatents, target: DenoisedLatents, log_factor: Tensor, *, temperature: float = 1.0) -> Tensor:
    """(B, M): the logarithm of target over draft density of latents (B, M, C), above that of a uniform draw where they are accepted.

    Args:
        latents: drafted.
        draft, target: the last steps.
        log_factor: (B, M) of the earlier steps.
        temperature: by which distances from the means are divided.
    """
    squares = [((latents - each.values) / (each.std * temperature)).square().sum(dim=-1) for each in (draft, target)]
    return (squares[0] - squares[1]) / 2 + log_factor + (draft.std.log() - target.std.log()).sum(dim=-1)


def keep_probability(proposals: Tensor, draft: DenoisedLatents, target: DenoisedLatents, log_factor: Tensor) -> Tensor:
    """(...): with which probability a draw (..., C) from the target is one from the residual max(0, factor * target - draft)."""
    return (1 - torch.exp(log_density(proposals, draft) - log_density(proposals, target) - log_factor)).clamp_min(0)


def log_density(latents: Tensor, steps: DenoisedLatents) -> Tensor:
    """(...): logarithm of the normal density of a last step at latents (..., C)."""
    distances = ((latents - steps.values) / steps.std).square().sum(dim=-1)
    return -distances / 2 - steps.std.log().sum(dim=-1) - latents.shape[-1] / 2 * math.log(2 * math.pi)


@dataclass(frozen=True)
class ContinuousSpeculativeSampler:
    """A strategy of `mar`: the generator whose `generate` is called is the target.

    Attributes:
        base: the strategy of the target, which the drafter follows too.
        drafter: a generator of the same latents, smaller; its head has as many diffusion steps.
        verification: of the drafted latents.
        num_draft: the drafts are verified at every step whose number is a multiple of it, and at the last.
        prefill: share of the steps that the target makes itself; at least the first.
    """

    base: MaskedLatentSampler
    drafter: MaskedLatentModel
    verification: Verification = PaperVerification()
    num_draft: int = 4
    prefill: float = 0.05

    def __post_init__(self) -> None:
        if self.num_draft < 1 or not 0 <= self.prefill <= 1:
            raise ConfigError(f"num_draft must be at least 1 and prefill a share; got {self.num_draft} and {self.prefill}")
        if self.base.temperature <= 0:
            raise ConfigError("without noise in its last step a latent has no density to be verified by: the temperature must be above 0")

    def is_guided(self, step: int, num_steps: int) -> bool:
        """See `MaskedLatentSampler.is_guided`."""
        return self.base.is_guided(step, num_steps)

    def __call__(self, model: MaskedLatentModel, condition: Condition, samples: int, noise: Noise) -> Tensor:
        """Latents (B, L, C) float32; see `run`."""
        return self.run(model, condition, samples, noise)[0]

    def run(self, model: MaskedLatentModel, condition: Condition, samples: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Sample.

        Draws: a permutation (B, L); normal (B, L, C) and (B, L, T, C), the noise of every latent for T diffusion steps; those of the verification.

        Returns:
            latents (B, L, C) float32; (B, L) bool, True where a drafted latent was accepted.

        Raises:
            ConfigError: if the drafter models other latents than the target, or never saw samples without the condition where that is needed.
            ConditionError: if the condition does not fit the drafter.
            IdentityError: if both were trained on latents of different tokenizers.
        """
        shape, drafter = (samples, model.num_positions, model.head.channels), self.drafter
        drafted = (samples, drafter.num_positions, drafter.head.channels)
        if drafter.config.layout != model.config.layout or drafted != shape:
            raise ConfigError(f"a drafter of {drafter.config.layout} in patches of {drafted[1:]} cannot draft {model.config.layout} in {shape[1:]}")
        check_same_tokenizer(drafter.config.tokenizer, model.config.tokenizer, what="what the drafter was trained on")
        drafter.checked_condition(condition, samples=samples)
        drafter.check_sampler(self, unconditional=condition.kind == "none")
        order = noise.permutation(*shape[:2]).to(model.device)
        start = noise.normal(*shape).to(model.device)
        step_noise = noise.normal(*shape[:2], model.head.num_steps(self.base.respacing), shape[2]).to(model.device)
        values, accepted = torch.zeros_like(start), torch.zeros(shape[:2], dtype=torch.bool, device=model.device)
        unknown_to_target = torch.ones_like(accepted)
        drafts: list[tuple[Tensor, DenoisedLatents]] = []
        for step in self.base.schedule.steps(order):
            if step.number <= self.base.schedule.num_steps * self.prefill:
                values = write(values, step.positions, self._denoised(model, values, step, condition, start, step_noise).values)
                unknown_to_target = step.mask.scatter(1, step.positions, False)
                continue
            draft = self._denoised(self.drafter, values, step, condition, start, step_noise)
            values = write(values, step.positions, draft.values)
            drafts.append((step.positions, draft))
            if step.number % self.num_draft == 0 or step.number == self.base.schedule.num_steps - 1:
                positions, draft = _in_position_order(drafts)
                window = MaskedStep(step.number, unknown_to_target, positions, step.scale)
                target = self._denoised(model, values, window, condition, start, step_noise)
                verified = self.verification(draft.values, draft, target, noise)
                check_finite(verified.values, stage=f"the latents verified at generation step {step.number}")
                values = write(values, positions, verified.values)
                accepted = accepted.scatter(1, positions, verified.accepted)
                unknown_to_target, drafts = step.mask.scatter(1, step.positions, False), []
        return values, accepted

    def _denoised(
        self, model: MaskedLatentModel, values: Tensor, step: MaskedStep, condition: Condition, start: Tensor, step_noise: Tensor
    ) -> DenoisedLatents:
        """A model's latents at the step's positions, from their own noise."""
        rows = step.positions[..., None].expand(-1, -1, start.shape[2])
        found = model.head.denoise(
            *model.hidden(values, step, condition),
            start.gather(1, rows),
            lambda number: step_noise[:, :, number].gather(1, rows),
            respacing=self.base.respacing,
            guidance=step.scale,
            temperature=self.base.temperature,
        )
        check_finite(found.values, stage=f"the latents of generation step {step.number}")
        return found


def _of_rows(steps: DenoisedLatents, rows: Tensor) -> DenoisedLatents:
    """Those of some samples, with an axis for proposals: (N, M, 1, C)."""
    return DenoisedLatents(*(part[rows][:, :, None] for part in (steps.values, steps.std, steps.log_std)))


def _in_position_order(drafts: list[tuple[Tensor, DenoisedLatents]]) -> tuple[Tensor, DenoisedLatents]:
    """Several steps' positions (B, M) and drafts as one, positions rising."""
    positions, order = torch.cat([each for each, _ in drafts], dim=1).sort(dim=1)
    parts = (torch.cat([getattr(draft, name) for _, draft in drafts], dim=1) for name in ("values", "std", "log_std"))
    return positions, DenoisedLatents(*(part.gather(1, order[..., None].expand_as(part)) for part in parts))
