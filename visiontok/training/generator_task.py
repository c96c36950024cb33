"""Training a generator on tokens: one update per step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import Tensor

from visiontok.base.errors import ConfigError
from visiontok.base.modes import evaluating
from visiontok.base.noise import SampleNoise
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import SkipReport
from visiontok.generators.base import Generator
from visiontok.generators.condition import ClassCondition, Condition
from visiontok.hub import CardResult, save_pretrained
from visiontok.layers.block import recompute_activations
from visiontok.signals.image_writing import as_rgb, image_grid
from visiontok.training.ema import averaged_copy, update_average
from visiontok.training.recipe import GeneratorRecipe
from visiontok.training.sharding import check_can_shard, copy_weights, gathered, gathered_parameters, load_weights, shard
from visiontok.training.task import Task
from visiontok.training.token_loaders import ConditionedTokens, EncodingLoader, TokenSetLoader
from visiontok.training.updater import Terms, Updater
from visiontok.training.validation import GeneratorValidator, Validation


class GeneratorTask(Task[ConditionedTokens]):
    """A generator and its tokens.

    Args:
        recipe: the numbers.
        model: in training mode.
        loader: this process's share of the global batches, from a given step on.
        tokenizer: decodes samples; None for no sample images.
        validator: evaluates the generator on samples that are not trained on; None for none.
        accelerator: device, precision and processes.

    Raises:
        ConfigError: if sample images would need guidance or samples without a condition, which the model is not trained for.
    """

    unit: ClassVar[str] = "samples"

    def __init__(
        self,
        recipe: GeneratorRecipe,
        *,
        model: Generator[Any],
        loader: TokenSetLoader | EncodingLoader,
        tokenizer: Tokenizer[Any] | None,
        validator: GeneratorValidator | None,
        accelerator: Accelerator,
    ) -> None:
        self.recipe, self.loader, self.tokenizer, self.validator, self.accelerator = recipe, loader, tokenizer, validator, accelerator
        self.batch_size = recipe.batch_size
        if recipe.sample_images.every and tokenizer is not None:
            model.check_sampler(model.sampler(), unconditional=not model.num_classes)
        self.num_parameters = model.num_parameters
        if recipe.parallel == "fsdp":
            self.gathered_parameters = gathered_parameters(model)
        is_sharded = recipe.parallel == "fsdp" and accelerator.num_processes > 1
        self.model = model if is_sharded else model.to(accelerator.device)
        self.average = averaged_copy(self.model) if recipe.ema else None
        self._whole = averaged_copy(self.model) if is_sharded else None
        if recipe.gradient_checkpointing:
            recompute_activations(self.model)
        if is_sharded:
            check_can_shard(accelerator)
            shard(self.model, accelerator)
            if self.average is not None:
                shard(self.average, accelerator)
        self.updater = Updater(self.model, optimizer=recipe.optimizer, schedule=recipe.schedule, steps=recipe.steps, accelerator=accelerator)

    def batches(self, start: int) -> Iterator[ConditionedTokens]:
        return self.loader.batches(start)

    def step(self, batch: ConditionedTokens, step: int) -> dict[str, float]:
        tokens = batch.tokens.to(self.accelerator.device)
        condition = self._condition(batch)
        size = len(tokens) // self.recipe.accumulate

        def terms(rows: slice) -> Terms:
            # What is drawn for a sample follows from the seed, the step and its index in the global batch, not from the process that holds it.
            noise = SampleNoise((self.recipe.seed, step), batch.rows[rows])
            numbers = self.updater.module(tokens[rows], None if condition is None else condition[rows], step=step, noise=noise)
            watched = {name: value for name, value in numbers.items() if name not in ("loss", "weight")}
            per_token = {name: value for name, value in watched.items() if name.endswith("_per_token")}
            others = {name: value for name, value in watched.items() if name not in per_token}
            return Terms({"loss": numbers["loss"]}, others, weighted_stats=per_token, weight=numbers.get("weight"))

        report = self.updater.update([slice(first, first + size) for first in range(0, len(tokens), size)], terms, step=step)
        if self.average is not None and self.recipe.ema is not None:
            update_average(self.average, self.model, decay=self.recipe.ema.decay, step=step)
        return report

    def validate(self, step: int) -> Validation | None:
        if self.validator is None:
            return None
        with self._final() as model:
            return self.validator(model, self._condition, step=step)

    def state(self) -> dict[str, Any]:
        state = {"model": self.model.state_dict(), "optimizer": self.updater.state()}
        if self.average is not None:
            state["ema"] = self.average.state_dict()
        return gathered(state, self.accelerator)

    def load_state(self, state: dict[str, Any]) -> None:
        load_weights(self.model, state["model"])
        self.updater.load_state(state["optimizer"])
        if self.average is not None:
            load_weights(self.average, state["ema"])

    def skipped(self) -> SkipReport:
        return self.loader.loader.report if isinstance(self.loader, EncodingLoader) else SkipReport()

    def sample_image(self) -> Tensor | None:
        """One sample per class in turn, from noise that is the same every time; unconditional samples where the condition is no class."""
        if self.tokenizer is None or not self.tokenizer.can_decode or self.tokenizer.decoder_extras:
            return None
        count, classes = self.recipe.sample_images.count, self.model.num_classes
        condition = torch.arange(count, device=self.accelerator.device) % classes if classes else None
        with self._final() as model, evaluating(model):
            if not self.accelerator.is_main_process:
                return None
            samples = model.generate(condition, num_samples=None if classes else count, noise=SampleNoise(self.recipe.seed, range(count)))
            images = as_rgb(self.tokenizer.decode(samples), self.tokenizer.spec)
        return None if images is None else image_grid(images, columns=min(count, classes or 8, 16))

    def export(self, folder: Path, results: Sequence[CardResult] = ()) -> None:
        with self._final() as model:
            if self.accelerator.is_main_process:
                save_pretrained(model, folder, card=self.recipe.card(), results=results)

    def _condition(self, batch: ConditionedTokens) -> Condition | None:
        config = self.model.config.condition
        if isinstance(config, ClassCondition):
            if batch.labels is None:
                raise ConfigError("the generator has classes, but not every sample has a label: set model.config.condition.type=none, or label them")
            return Condition(classes=batch.labels.to(self.accelerator.device))
        return None if batch.text is None else Condition(text=batch.text.to(self.accelerator.device))

    @contextmanager
    def _final(self) -> Iterator[Generator[Any]]:
        """The model that is shown and exported, whole; every process calls this. Of a sharded run a copy, which is on the device only within."""
        model = self.model if self.average is None else self.average
        if self._whole is None:
            yield model
            return
        copy_weights(model, self._whole.to(self.accelerator.device))
        try:
            yield self._whole
        finally:
            self._whole.to("cpu")
