"""One optimizer step: backward over micro-batches, check for NaN, clip, step."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from visiontok.training.optimizer import OptimizerConfig, build_optimizer
from visiontok.training.schedule import ScheduleConfig, learning_rate
from visiontok.training.sharding import is_sharded, part_of, whole


@dataclass(frozen=True)
class Terms:
    """What a forward pass gives.

    Attributes:
        losses: terms whose sum is the loss.
        stats: numbers to watch, means over samples.
        weighted_stats: numbers to watch that are means over what the losses are means over.
        weight: how much that is, for losses over positions whose number differs between micro-batches or processes; None where it is equal.
    """

    losses: Mapping[str, Tensor]
    stats: Mapping[str, Tensor] = field(default_factory=dict)
    weighted_stats: Mapping[str, Tensor] = field(default_factory=dict)
    weight: Tensor | None = None


class NonFiniteTermError(Exception):
    """A loss term, or the norm of the gradient, is NaN or infinite on some process; every process raises it, before the weights change."""

    def __init__(self, term: str, value: float) -> None:
        super().__init__(f"{term} is {value}")


ItemT = TypeVar("ItemT")

_MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps for a parameter in the parameter's shape."""

_SMALLEST_SCALE = 2.0**-20
"""A loss scale that fell this far was halved at dozens of steps in a row: the gradients are NaN, not merely large."""


class Updater:
    """A module with its optimizer and its schedule.

    Args:
        module: what is trained; wrapped for the processes of the run, unless it is sharded.
        name: prefix of the numbers that it reports, "" for the main one.
        optimizer: also holds the peak learning rate and the clipping norm.
        schedule: how the rate runs over the steps.
        steps: length of the run.
        accelerator: device, precision and processes.
    """

    def __init__(
        self, module: nn.Module, *, name: str = "", optimizer: OptimizerConfig, schedule: ScheduleConfig, steps: int, accelerator: Accelerator
    ) -> None:
        self.name, self.config, self.schedule, self.steps, self.accelerator = name, optimizer, schedule, steps, accelerator
        if is_sharded(module):
            self.module, self.optimizer = module, accelerator.prepare(build_optimizer(optimizer, module))
        else:
            module.to(accelerator.device)
            self.module, self.optimizer = accelerator.prepare(module, build_optimizer(optimizer, module))
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def update(self, micro_batches: Sequence[ItemT], terms_of: Callable[[ItemT], Terms], *, step: int) -> dict[str, float]:
        """Take one step on the mean loss of the micro-batches of every process, weighted where they have weights.

        Args:
            micro_batches: this process's share of the global batch, in parts of equal size.
            terms_of: forward pass over one of them; must call `self.module`.
            step: number of the step, from 0.

        Returns:
            the mean of every term over the global batch, the norm of the gradient and the learning rate; nothing, and no step, if there
            are no loss terms yet.

        Raises:
            NonFiniteTermError: on every process, before the weights change.
        """
        passes = []
        for number, micro_batch in enumerate(micro_batches):
            with self._reducing_gradients(number == len(micro_batches) - 1):
                with self.accelerator.autocast():
                    terms = terms_of(micro_batch)
                if not terms.losses:
                    return {}
                loss = _sum(terms.losses) / len(micro_batches)
                self.accelerator.backward(loss if terms.weight is None else loss * terms.weight)
            passes.append(terms)
        report, weight = self._mean_over_everything(passes)
        if weight is not None:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad /= weight
        for term in passes[0].losses:
            if not math.isfinite(report[term]):
                raise NonFiniteTermError(f"loss term {term!r}", report[term])
        rate = learning_rate(self.schedule, peak=self.config.lr, step=step, steps=self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
        norm = self._clip()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {**report, f"{self.name}grad_norm": norm, f"{self.name}lr": rate}

    def state(self) -> dict[str, Any]:
        """The optimizer's state; of a sharded module with sharded tensors."""
        return self.optimizer.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state`, with whole tensors."""
        moments = {
            number: {name: part_of(value, self.parameters[number]) if name in _MOMENTS else value for name, value in entry.items()}
            for number, entry in state["state"].items()
        }
        self.optimizer.load_state_dict({**state, "state": moments})

    def _reducing_gradients(self, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Gradients are averaged over the processes with the last micro-batch only; those of sharded modules, which no process can hold whole, with
        every one."""
        return contextlib.nullcontext() if last else self.accelerator.no_sync(self.module)

    def _mean_over_everything(self, passes: Sequence[Terms]) -> tuple[dict[str, float], float | None]:
        """Every number, and the mean weight where there are weights, by one reduction; a NaN of any process reaches all."""
        first, rows = passes[0], []
        for terms in passes:
            weighted = [value.detach().float().mean() for value in (*terms.losses.values(), *terms.weighted_stats.values())]
            plain = [value.detach().float().mean() for value in terms.stats.values()]
            if terms.weight is not None:
                weighted = [value * terms.weight for value in weighted]
                plain.append(terms.weight.detach().float())
            rows.append(torch.stack([*weighted, *plain]))
        means = self.accelerator.reduce(torch.stack(rows).mean(dim=0), reduction="mean").tolist()
        weight = means.pop() if first.weight is not None else None
        names = [*first.losses, *first.weighted_stats]
        found = {name: value / (1.0 if weight is None else weight) for name, value in zip(names, means, strict=False)}
        return found | dict(zip(first.stats, means[len(names) :], strict=True)), weight

    def _clip(self) -> float:
        """Scale the gradient down to the clipping norm; returns its norm before that."""
        self.accelerator.unscale_gradients(self.optimizer)
        norm = float(whole(torch.nn.utils.clip_grad_norm_(self.parameters, math.inf if self.config.clip is None else self.config.clip)))
        scaler = self.accelerator.scaler
        if not math.isfinite(norm) and (scaler is None or scaler.get_scale() < _SMALLEST_SCALE):  # a scaler skips the step and tries a smaller scale
            raise NonFiniteTermError(f"the norm of the {self.name}gradient", norm)
        return norm


def _sum(terms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([value.float() for value in terms.values()]).sum()
