"""Training a tokenizer: one update of the tokenizer, and one of its discriminator where the objective has one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from accelerate import Accelerator
from torch import Tensor, nn

from visiontok.base.errors import ConfigError
from visiontok.base.modes import evaluating
from visiontok.base.noise import SampleNoise
from visiontok.core.tokenizer import Tokenizer, TokenizerOutput
from visiontok.data import DataBatch, SkipReport, TrainLoader
from visiontok.data.joint_loader import JointLoader
from visiontok.hub import CardResult, save_pretrained
from visiontok.layers.block import recompute_activations
from visiontok.losses import Objective
from visiontok.quantizers import LatentPerturbation
from visiontok.quantizers.perturbation import with_neighbors
from visiontok.signals.image_writing import as_rgb, originals_above_reconstructions
from visiontok.tokens import Tokens
from visiontok.training.ema import averaged_copy, update_average
from visiontok.training.recipe import TokenizerRecipe
from visiontok.training.targets import Target
from visiontok.training.task import Task
from visiontok.training.texts import EmbeddedTexts
from visiontok.training.updater import Terms, Updater
from visiontok.training.usage import UsageWindow
from visiontok.training.validation import TokenizerValidator, Validation
from visiontok.training.variation import COMPARED_WITH, Variation


@dataclass(frozen=True, eq=False)
class _Inputs:
    """A micro-batch: signals (B, C, *axes), text embeddings (B, T, E) or None, and one stream of draws per sample for each of the two updates."""

    signals: Tensor
    text: Tensor | None
    noise: SampleNoise
    discriminator_noise: SampleNoise


class TokenizerTask(Task[DataBatch]):
    """A tokenizer, its objective and its signals.

    Args:
        recipe: the numbers.
        tokenizer: in training mode, frozen parts frozen.
        objective: weighted loss terms, perhaps with a discriminator.
        target: what the decoder should predict for a signal, and the signal that a prediction stands for.
        loader: this process's share of the global batches, from a given step on.
        texts: gives a batch's text embeddings, for tokenizers that read a text; None for the others.
        examples: whose reconstructions are shown; None for none.
        validator: evaluates the tokenizer on samples that are not trained on; None for none.
        accelerator: device, precision and processes.
    """

    unit: ClassVar[str] = "samples"

    def __init__(
        self,
        recipe: TokenizerRecipe,
        *,
        tokenizer: Tokenizer[Any],
        objective: Objective,
        target: Target,
        loader: TrainLoader | JointLoader,
        texts: EmbeddedTexts | None,
        examples: DataBatch | None,
        validator: TokenizerValidator | None,
        accelerator: Accelerator,
    ) -> None:
        self.recipe, self.target, self.loader, self.accelerator = recipe, target, loader, accelerator
        self.texts, self.examples, self.validator = texts, examples, validator
        self.batch_size = recipe.batch_size
        self.tokenizer = tokenizer.to(accelerator.device)
        self.num_parameters = tokenizer.num_parameters
        self.average = averaged_copy(self.tokenizer) if recipe.ema else None
        if recipe.gradient_checkpointing:
            recompute_activations(self.tokenizer)
        if recipe.perturbation is not None:
            with_neighbors(self.tokenizer.quantizer)
            self.tokenizer.perturbation = LatentPerturbation(recipe.perturbation)
        self.objective = objective.to(accelerator.device)
        self.objective.attach(self.tokenizer)
        run = {"schedule": recipe.schedule, "steps": recipe.steps, "accelerator": accelerator}
        self.updater = Updater(self.tokenizer, optimizer=recipe.optimizer, **run)
        self.discriminator_updater = None
        if objective.is_adversarial:
            wrapped = _DiscriminatorLoss(self.objective)
            self.discriminator_updater = Updater(wrapped, name="discriminator_", optimizer=recipe.discriminator_optimizer, **run)
        self.variation = Variation()
        self.usage = UsageWindow(tokenizer.layout, window=recipe.logging.usage_window, device=accelerator.device)

    def batches(self, start: int) -> Iterator[DataBatch]:
        return self.loader.batches(start)

    def step(self, batch: DataBatch, step: int) -> dict[str, float]:
        micro_batches = self._inputs(batch, step)
        scaler = self.accelerator.scaler
        self.objective.loss_scale = 1.0 if scaler is None else scaler.get_scale()
        predictions: list[Tensor] = []  # of the tokenizer before its update, for the discriminator

        def tokenizer_terms(inputs: _Inputs) -> Terms:
            output: TokenizerOutput = self.updater.module(inputs.signals, text=inputs.text, step=step, noise=inputs.noise)
            if isinstance(output.tokens, Tokens) and not output.passed_through:
                self.usage.update(output.tokens, step)
            if output.reconstruction is None:
                self.variation.update(output.latents, None, None)
                return Terms(output.losses, output.stats)
            prediction = output.reconstruction.float()
            predictions.append(prediction.detach())
            target = self.target.of(inputs.signals) if output.target is None else output.target
            self.variation.update(output.latents, prediction, target)
            terms = self.objective.generator_terms(
                prediction, target, output.losses, step=step, latents=output.latents, first_level=output.first_level, noise=inputs.noise
            )
            return Terms(terms, {**output.stats, **self.objective.stats})

        report = self.updater.update(micro_batches, tokenizer_terms, step=step)
        if self.discriminator_updater is not None:
            report |= self._update_discriminator(self.discriminator_updater, micro_batches, predictions, step)
        if self.average is not None and self.recipe.ema is not None:
            update_average(self.average, self.tokenizer, decay=self.recipe.ema.decay, step=step)
        return report

    def watch(self, step: int) -> tuple[dict[str, float], list[str]]:
        alarm, numbers, warnings = self.recipe.logging.usage_alarm, {}, []
        for name, share in self.variation.flush(self.accelerator).items():
            numbers[f"variation/{name}"] = share
            least = self.recipe.logging.variation_alarm
            if share < least and step + 1 >= self.recipe.schedule.warmup + self.usage.window:
                warnings.append(
                    f"the {name} hardly differ between samples: their variance is {share:.2g} of {COMPARED_WITH[name]} (alarm at {least:g}). If this "
                    "lasts, the tokenizer has collapsed, whatever the usage of its codebook: lower optimizer.lr or lengthen schedule.warmup."
                )
        if self.usage.first_step is None:
            return numbers, warnings  # nothing was quantized yet
        for name, share in self.usage.usage(step, self.accelerator).items():
            numbers[f"usage/{name}"] = share
            if share < alarm and self.usage.is_full(step):
                warnings.append(
                    f"only {share:.1%} of codebook {name!r} was used in the last {self.usage.window} steps (alarm at {alarm:.1%}): it is "
                    "collapsing. A k-means start, dead-code reset or a lower learning rate help."
                )
        return numbers, warnings

    def validate(self, step: int) -> Validation | None:
        return None if self.validator is None else self.validator(self._final(), step=step)

    def state(self) -> dict[str, Any]:
        state = {
            "model": self.tokenizer.state_dict(),
            "optimizer": self.updater.state(),
            "objective": _trained_state(self.objective),
            "usage": self.usage.state(self.accelerator),
        }
        if self.average is not None:
            state["ema"] = self.average.state_dict()
        if self.discriminator_updater is not None:
            state["discriminator_optimizer"] = self.discriminator_updater.state()
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        self.tokenizer.load_state_dict(state["model"])
        self.updater.load_state(state["optimizer"])
        self.objective.load_state_dict(state["objective"], strict=False)  # frozen parts come from the recipe
        self.usage.load_state(state["usage"])
        if self.average is not None:
            self.average.load_state_dict(state["ema"])
        if self.discriminator_updater is not None:
            self.discriminator_updater.load_state(state["discriminator_optimizer"])

    def skipped(self) -> SkipReport:
        return self.loader.report

    def sample_image(self) -> Tensor | None:
        if self.examples is None or not self.accelerator.is_main_process:
            return None
        model = self._final()
        with evaluating(model):
            (inputs,) = self._inputs(self.examples, 0, parts=1)
            output = model(inputs.signals, text=inputs.text)
            if output.reconstruction is None:
                return None
            originals = as_rgb(inputs.signals, model.preprocessing.spec)
            decoded = as_rgb(self.target.signal(output.reconstruction.float()), model.spec)
            return None if originals is None or decoded is None else originals_above_reconstructions(originals, decoded)

    def export(self, folder: Path, results: Sequence[CardResult] = ()) -> None:
        if self.accelerator.is_main_process:
            save_pretrained(self._final(), folder, card=self.recipe.card(), results=results)

    def _inputs(self, batch: DataBatch, step: int, *, parts: int | None = None) -> list[_Inputs]:
        """What the tokenizer's forward pass takes, micro-batch by micro-batch.

        What is drawn for a sample follows from the seed, the step and its index in the global batch, not from the process that holds it.
        """
        if not batch.signals.is_even and self.tokenizer.preprocessing.spec.modality != "audio":
            sizes = sorted({tuple(size) for size in batch.signals.sizes.tolist()})
            raise ConfigError(f"signals of different sizes {sizes} meet in a training batch: set data.size")
        signals = self.tokenizer.preprocessing.pad(batch.signals.values.to(self.accelerator.device))
        texts = None if self.texts is None else self.texts.of(batch)
        first, count = self.accelerator.process_index * len(batch), len(batch) // (parts or self.recipe.accumulate)
        inputs = []
        for start in range(0, len(batch), count):
            rows = range(first + start, first + start + count)
            noises = (SampleNoise((self.recipe.seed, step, *update), rows) for update in ((), (1,)))
            inputs.append(_Inputs(signals[start : start + count], None if texts is None else texts[start : start + count], *noises))
        return inputs

    def _final(self) -> Tokenizer[Any]:
        """The model that is shown and exported."""
        return self.tokenizer if self.average is None else self.average

    def _update_discriminator(self, updater: Updater, inputs: list[_Inputs], predictions: list[Tensor], step: int) -> dict[str, float]:
        def discriminator_terms(pair: tuple[Tensor, _Inputs]) -> Terms:
            prediction, own = pair
            return Terms(updater.module(prediction, own.signals, step=step, noise=own.discriminator_noise))

        return updater.update(list(zip(predictions, inputs, strict=True)), discriminator_terms, step=step)


class _DiscriminatorLoss(nn.Module):
    """The discriminator's side of an objective as a module whose forward pass is its loss, as wrappers for several processes need it."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, prediction: Tensor, target: Tensor, *, step: int, noise: SampleNoise) -> dict[str, Tensor]:
        return self.objective.discriminator_terms(prediction, target, step=step, noise=noise)


def _trained_state(module: nn.Module) -> dict[str, Tensor]:
    """The state without frozen parameters, such as those of perceptual networks."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: tensor for name, tensor in module.state_dict().items() if name not in frozen}
