"""Training a drafter for a frozen generator on tokens: one update per step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from accelerate import Accelerator
from torch import Tensor

from visiontok.base.noise import SampleNoise
from visiontok.data import SkipReport
from visiontok.generators.condition import ClassCondition, Condition
from visiontok.generators.eagle.model import EagleDrafter
from visiontok.generators.gpt.model import GPT
from visiontok.hub import CardResult, save_pretrained
from visiontok.training.ema import averaged_copy, update_average
from visiontok.training.recipe import DrafterRecipe
from visiontok.training.task import Task
from visiontok.training.token_loaders import ConditionedTokens, TokenSetLoader
from visiontok.training.updater import Terms, Updater


class DrafterTask(Task[ConditionedTokens]):
    """A drafter, its generator and the tokens.

    Args:
        recipe: the numbers.
        model: the drafter, in training mode.
        generator: frozen, in evaluation mode.
        loader: this process's share of the global batches, from a given step on.
        accelerator: device, precision and processes.
    """

    unit: ClassVar[str] = "samples"

    def __init__(self, recipe: DrafterRecipe, *, model: EagleDrafter, generator: GPT, loader: TokenSetLoader, accelerator: Accelerator) -> None:
        self.recipe, self.loader, self.accelerator = recipe, loader, accelerator
        self.batch_size, self.num_parameters = recipe.batch_size, model.num_parameters
        self.model, self.generator = model.to(accelerator.device), generator.to(accelerator.device)
        self.average = averaged_copy(self.model) if recipe.ema else None
        self.updater = Updater(self.model, optimizer=recipe.optimizer, schedule=recipe.schedule, steps=recipe.steps, accelerator=accelerator)

    def batches(self, start: int) -> Iterator[ConditionedTokens]:
        return self.loader.batches(start)

    def step(self, batch: ConditionedTokens, step: int) -> dict[str, float]:
        tokens, condition = batch.tokens.to(self.accelerator.device), self._condition(batch)
        size = len(tokens) // self.recipe.accumulate

        def terms(rows: slice) -> Terms:
            noise = SampleNoise((self.recipe.seed, step), batch.rows[rows])
            numbers = self.updater.module(self.generator, tokens[rows], None if condition is None else condition[rows], noise=noise)
            return Terms({"loss": numbers.pop("loss")}, numbers)

        report = self.updater.update([slice(first, first + size) for first in range(0, len(tokens), size)], terms, step=step)
        if self.average is not None and self.recipe.ema is not None:
            update_average(self.average, self.model, decay=self.recipe.ema.decay, step=step)
        return report

    def state(self) -> dict[str, Any]:
        state = {"model": self.model.state_dict(), "optimizer": self.updater.state()}
        return state if self.average is None else {**state, "ema": self.average.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.updater.load_state(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["ema"])

    def skipped(self) -> SkipReport:
        return SkipReport()

    def sample_image(self) -> Tensor | None:
        return None

    def export(self, folder: Path, results: Sequence[CardResult] = ()) -> None:
        save_pretrained(self.model if self.average is None else self.average, folder, card=self.recipe.card(), results=results)

    def _condition(self, batch: ConditionedTokens) -> Condition | None:
        if isinstance(self.generator.config.condition, ClassCondition):
            return Condition(classes=batch.labels)
        return None if batch.text is None else Condition(text=batch.text)
