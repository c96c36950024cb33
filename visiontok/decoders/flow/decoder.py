"""The base of networks that predict the velocity of a flow from codes: how they are sampled and trained."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from visiontok.base.noise import Noise
from visiontok.decoders.flow.sampling import FlowSampling, Velocity, euler, guided
from visiontok.decoders.flow.training import TimeSchedule, estimate, flow_loss, mix


class FlowDecoder(nn.Module, ABC):
    """From codes (B, L, D) to a grid of features (B, H, W, C), along a rectified flow.

    Args:
        sampling: steps and guidance where a call gives none.
        flow_times: at which times it is trained.
        null_probability: share of the training samples whose codes it does not see at all, for classifier-free guidance.
    """

    is_stochastic = True
    trains_codes = True

    def __init__(self, *, sampling: FlowSampling, flow_times: TimeSchedule, null_probability: float) -> None:
        super().__init__()
        self.sampling, self.flow_times, self.null_probability = sampling, flow_times, null_probability

    @abstractmethod
    def velocity(self, codes: Tensor, lengths: Tensor) -> Velocity:
        """The velocity that the first `lengths` (B,) codes of every sample lead to."""

    @abstractmethod
    def unconditional_velocity(self, codes: Tensor) -> Velocity:
        """The velocity of a batch like `codes` without any code."""

    @abstractmethod
    def training_velocity(self, noisy: Tensor, times: Tensor, codes: Tensor, noise: Noise) -> Tensor:
        """The velocity (B, H, W, C) of noisy features at `times` (B,), conditioned on the codes that a training step shows, which `noise` draws."""

    def decode(self, codes: Tensor, lengths: Tensor, start: Tensor | None, sampling: FlowSampling | None = None) -> Tensor:
        """Follow the flow from the noise `start` (B, H, W, C) to features; `lengths` (B,) are how many of its codes a sample keeps."""
        assert start is not None
        chosen = sampling or self.sampling
        velocity = self.velocity(codes, lengths)
        if chosen.guidance is not None:
            # Not one batch of both: without codes the sequence is shorter, and would be padded to the length that it has with them.
            velocity = guided(velocity, self.unconditional_velocity(codes), chosen.guidance)
        return euler(velocity, start, steps=chosen.steps)

    def training_terms(self, data: Tensor, codes: Tensor, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """One noisy sample per sample of the batch, at a random time.

        Draws, in this order: the times, normal (B, H, W, C), then those of `training_velocity`.

        Returns:
            The estimate of the features (B, H, W, C) from the noisy sample, and the loss `flow`.
        """
        times, drawn = self.flow_times.draw(len(data), noise), noise.normal(*data.shape).to(data)
        noisy = mix(data, drawn, times)
        velocity = self.training_velocity(noisy, times, codes, noise)
        return estimate(noisy, velocity, times), {"flow": flow_loss(velocity, data, drawn).mean()}
