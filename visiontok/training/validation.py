"""Evaluation on samples that are not trained on, in the middle of a run and at its end.

Nothing here changes the run: models are in evaluation mode, draws have seeds of their own, and the samples follow from their keys. Batches are the
same for every number of processes, so the numbers are too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from accelerate import Accelerator
from accelerate.utils import gather_object

from visiontok.base.errors import EvaluationError, TrainingError
from visiontok.base.modes import evaluating
from visiontok.base.noise import SampleNoise
from visiontok.core.model import weights_sha256
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import EvalLoader, Source
from visiontok.evaluation.reconstruction.run import ReconstructionRun
from visiontok.evaluation.reconstruction.suite import Suite
from visiontok.evaluation.results.card import card_results
from visiontok.evaluation.results.result import Result
from visiontok.generators.base import Generator
from visiontok.generators.condition import Condition
from visiontok.hub import CardResult
from visiontok.losses import Objective
from visiontok.signals import Preprocessing
from visiontok.training.targets import Target
from visiontok.training.texts import EmbeddedTexts
from visiontok.training.token_loaders import ConditionedTokens

METRICS = ("mse", "psnr", "ssim", "codebook")
"""Of the suite that tokenizers are validated with."""

LARGEST_BATCH = 32
"""Samples per forward pass, at most."""

_CURVES = {"psnr.mean_db": "psnr", "ssim": "ssim", "codebook.usage": "usage", "codebook.perplexity": "codebook_perplexity"}
"""Values of a result that are logged -> their names in the log."""

_ON_CARDS: dict[str, tuple[str, str, Literal["higher", "lower"]]] = {
    "loss": ("Loss", "", "lower"),
    "bits_per_token": ("Bits per token", "bits", "lower"),
    "perplexity": ("Perplexity", "", "lower"),
    "accuracy": ("Accuracy of the most likely code", "", "higher"),
    "masked_accuracy": ("Accuracy on masked tokens", "", "higher"),
}
"""Numbers of a generator's loss -> title, unit and better direction on its card."""


@dataclass(frozen=True)
class Validation:
    """What one validation gave, on every process.

    Attributes:
        numbers: to be logged, by name.
        results: for the model's card.
        result: of tokenizers, the whole result of the evaluation harness.
    """

    numbers: Mapping[str, float]
    results: tuple[CardResult, ...] = ()
    result: Result | None = None


@dataclass(frozen=True, kw_only=True)
class TokenizerValidator:
    """Validates a tokenizer: the objective's terms without its discriminator, and the suite through the evaluation harness.

    Attributes:
        source: the held-out samples.
        suite: what the harness evaluates; None where it can evaluate nothing of this tokenizer.
        name: of the run.
        objective, target: of the training.
        preprocessing: brings samples to the size of training.
        texts: gives embeddings, for tokenizers that read a text.
        batch_size: samples per forward pass.
        accelerator: device and processes.
    """

    source: Source
    suite: Suite | None
    name: str
    objective: Objective
    target: Target
    preprocessing: Preprocessing
    texts: EmbeddedTexts | None
    batch_size: int
    accelerator: Accelerator

    def __call__(self, tokenizer: Tokenizer[Any], *, step: int) -> Validation:
        """Evaluate the tokenizer after `step` steps; every process calls this.

        Raises:
            TrainingError: if a loss term is not finite.
            EvaluationError: see `ReconstructionRun`.
        """
        losses = _means(list(self._terms(tokenizer)), step=step)
        numbers = {**({"loss": sum(losses.values())} if losses else {}), **losses}
        if self.suite is None:
            return Validation(numbers)
        with _reading(tokenizer, self.texts):
            result, _ = ReconstructionRun(self.suite, tokenizer, name=self.name, source=self.source).run()
        for value in result.values:
            if value.name in _CURVES and value.value is not None:
                numbers[_CURVES[value.name] + (f"/{value.part}" if value.part else "")] = value.value
        return Validation(numbers, card_results(result), result)

    def _terms(self, tokenizer: Tokenizer[Any]) -> Iterator[_Share]:
        """Of this process's batches."""
        loader = EvalLoader(self.source, preprocessing=self.preprocessing, batch_size=self.batch_size)
        with evaluating(tokenizer):
            for number, rows in own_batches(len(self.source), self.batch_size, self.accelerator):
                for batch in loader.batches(rows):
                    signals = tokenizer.preprocessing.pad(batch.signals.values.to(self.accelerator.device))
                    output = tokenizer(signals, text=None if self.texts is None else self.texts.of(batch))
                    if output.reconstruction is not None:
                        target = self.target.of(signals) if output.target is None else output.target
                        terms = self.objective.validation_terms(output.reconstruction.float(), target)
                        yield _Share(number, {name: (float(value), len(batch)) for name, value in terms.items()})


@dataclass(kw_only=True)
class GeneratorValidator:
    """Validates a generator: its loss in evaluation mode, with draws that are the same at every validation.

    Attributes:
        batches: reads this process's batches, by number; they are read once and kept.
        dataset: the held-out samples in words.
        accelerator: device and processes.
    """

    batches: Callable[[], Iterator[tuple[int, ConditionedTokens]]]
    dataset: str
    accelerator: Accelerator
    _kept: list[tuple[int, ConditionedTokens]] | None = field(default=None, init=False)

    def __call__(self, model: Generator[Any], condition_of: Callable[[ConditionedTokens], Condition | None], *, step: int) -> Validation:
        """Evaluate the generator after `step` steps; every process calls this.

        Raises:
            TrainingError: if a number is not finite.
        """
        if self._kept is None:
            self._kept = list(self.batches())
        shares = []
        with evaluating(model):
            for number, batch in self._kept:
                noise = SampleNoise(0, batch.rows)
                terms = model.loss(batch.tokens.to(self.accelerator.device), condition_of(batch), step=step, noise=noise)
                samples = len(batch.tokens)
                positions = float(terms.pop("weight", 1.0)) * samples  # what the loss, and what is given per token, is a mean over
                weights = {name: positions if name == "loss" or name.endswith("_per_token") else samples for name in terms}
                shares.append(_Share(number, {name: (float(value), weights[name]) for name, value in terms.items()}))
        numbers = _means(shares, step=step)
        if "accuracy_per_token" in numbers:
            numbers["accuracy"] = numbers.pop("accuracy_per_token")
        if "bits_per_token" in numbers:
            numbers["perplexity"] = 2 ** numbers["bits_per_token"]
        return Validation(numbers, self._card_results(model, numbers))

    def _card_results(self, model: Generator[Any], numbers: Mapping[str, float]) -> tuple[CardResult, ...]:
        condition = "no condition" if model.config.condition.type == "none" else f"each with its {model.config.condition.type}"
        protocol = f"training loss of {type(model).__name__} in evaluation mode, mean over tokens, {condition}, validation of the training run"
        weights = weights_sha256(model.state_dict())
        return tuple(
            CardResult(
                metric=name,
                title=title,
                better=better,
                value=numbers[name],
                unit=unit,
                dataset=self.dataset,
                protocol=protocol,
                weights_sha256=weights,
            )
            for name, (title, unit, better) in _ON_CARDS.items()
            if name in numbers
        )


def suite_for(suite: Suite, tokenizer: Tokenizer[Any], *, source: Source, texts: EmbeddedTexts | None) -> Suite | None:
    """The suite, if the harness can evaluate this tokenizer on these samples, else None."""
    try:
        with _reading(tokenizer, texts):
            ReconstructionRun(suite, tokenizer, name=suite.name, source=source)
    except EvaluationError:
        return None
    return suite


def own_batches(total: int, batch_size: int, accelerator: Accelerator) -> Iterator[tuple[int, range]]:
    """Number and rows of this process's batches; the batches do not depend on the number of processes."""
    for number in range(accelerator.process_index, -(-total // batch_size), accelerator.num_processes):
        yield number, range(number * batch_size, min((number + 1) * batch_size, total))


@contextmanager
def _reading(tokenizer: Tokenizer[Any], texts: EmbeddedTexts | None) -> Iterator[None]:
    """With the text encoder of the training attached, for tokenizers that read a text."""
    if texts is None or tokenizer.text is None:
        yield
        return
    tokenizer.attach_text_encoder(texts.encoder)
    try:
        yield
    finally:
        tokenizer.text_encoder = None


@dataclass(frozen=True)
class _Share:
    """The means of one batch, each with its weight, and the batch's number."""

    number: int
    values: Mapping[str, tuple[float, float]]


def _means(shares: Sequence[_Share], *, step: int) -> dict[str, float]:
    """Weighted means over the batches of all processes, summed in their order."""
    every: list[_Share] = sorted(gather_object(list(shares)), key=lambda share: share.number)
    means = {}
    for name in dict.fromkeys(name for share in every for name in share.values):
        parts = [share.values[name] for share in every]
        means[name] = sum(value * weight for value, weight in parts) / sum(weight for _, weight in parts)
    for name, value in means.items():
        if not math.isfinite(value):
            raise TrainingError(f"step {step}: {name} on the validation samples is {value}; lower optimizer.lr, or resume from an earlier checkpoint")
    return means
