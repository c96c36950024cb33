"""The pipeline on handwritten digits: train and evaluate a tokenizer, tokenize, train and evaluate a generator."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from visiontok.core.identity import identify
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import EvalLoader, open_source
from visiontok.data.tokenizing import tokenize_source
from visiontok.demo.settings import DemoConfig
from visiontok.demo.stages import Stages
from visiontok.evaluation import GenerationSuite, Result, evaluate_samples, evaluate_suite, load_suite
from visiontok.evaluation.selection import choose
from visiontok.generators.base import Generator
from visiontok.generators.decoding import SampleNoise
from visiontok.hub import from_pretrained
from visiontok.signals import Preprocessing
from visiontok.tokens import Tokens
from visiontok.training import load_recipe, train

TRAIN, HELD_OUT = "digits:train", "digits:test"

Curve: TypeAlias = tuple[list[float], list[float]]
"""Steps and values."""


@dataclass(frozen=True, eq=False)
class Digits:
    """Models, samples and results of the pipeline.

    Attributes:
        tokenizer: trained.
        images, labels: held-out digits (B, 3, S, S) in [0, 1] and their classes (B,).
        tokens: (B, L) of the held-out digits.
        reconstruction: result of the suite `digits` on the held-out digits.
        tokenizer_curves, generator_curves: metrics logged in training, by name.
        samples: (10 * per_class, 3, S, S) generated digits in [0, 1], class by class.
        classes: (10 * per_class,) int64 classes that the samples are conditioned on.
        generation: Fréchet distance to the held-out digits and conditional accuracy of the samples.
        real: the same metrics of as many real training digits, as a baseline.
    """

    tokenizer: Tokenizer[Any]
    images: Tensor
    labels: Tensor
    tokens: Tokens
    reconstruction: Result
    tokenizer_curves: dict[str, Curve]
    generator_curves: dict[str, Curve]
    samples: Tensor
    classes: Tensor
    generation: Result
    real: Result


def run_digits(config: DemoConfig, folder: Path, stages: Stages) -> Digits:
    """Run the pipeline; models, tokens and results are written to `folder`.

    Raises:
        VisiontokError: from training or evaluation.
        KeyboardInterrupt: if a training was interrupted.
    """
    with stages.stage("Train a TiTok on handwritten digits"):
        trained = _train(config.tokenizer, [f"output={folder / 'tokenizer'}", f"seed={config.seed}", *config.tokenizer_overrides], stages)
        tokenizer = from_pretrained(trained)
        assert isinstance(tokenizer, Tokenizer)
    with stages.stage("Evaluate it on held-out digits"):
        reconstruction = evaluate_suite(load_suite("digits"), tokenizer, name="titok-digits")
        reconstruction.save(folder / "reconstruction.json")
        images, labels = _load(HELD_OUT, tokenizer.preprocessing)
        tokens = tokenizer.encode(images)
        assert isinstance(tokens, Tokens)
    with stages.stage("Tokenize the digits into Parquet"):
        tokenize_source(open_source(TRAIN), tokenizer, folder / "tokens", identity=identify(tokenizer, "titok-digits"))
        tokenize_source(open_source(HELD_OUT), tokenizer, folder / "held-out-tokens", identity=identify(tokenizer, "titok-digits"))
    with stages.stage("Train a gpt on the tokens"):
        paths = [f"output={folder / 'generator'}", f"data.tokens={folder / 'tokens'}", f"tokenizer={trained}"]
        paths += [f"validation.tokens={folder / 'held-out-tokens'}", "validation.every=75"]
        generator = from_pretrained(_train(config.generator, [*paths, f"seed={config.seed}", *config.generator_overrides], stages))
        assert isinstance(generator, Generator)
    with stages.stage("Generate digits of every class and evaluate them"):
        classes = torch.arange(generator.num_classes).repeat_interleave(config.per_class)
        samples = tokenizer.decode(generator.generate(classes, noise=SampleNoise(config.seed, range(len(classes)))))
        generation = _evaluate_samples(samples, classes)
        generation.save(folder / "generation.json")
        real = _evaluate_samples(*_load(TRAIN, tokenizer.preprocessing, count=len(classes), seed=config.seed))
    return Digits(
        tokenizer=tokenizer,
        images=images,
        labels=labels,
        tokens=tokens,
        reconstruction=reconstruction,
        tokenizer_curves=_curves(folder / "tokenizer" / "metrics.jsonl"),
        generator_curves=_curves(folder / "generator" / "metrics.jsonl"),
        samples=samples,
        classes=classes,
        generation=generation,
        real=real,
    )


def _train(recipe: str, overrides: list[str], stages: Stages) -> Path:
    """The folder of the trained model."""
    result = train(load_recipe(recipe, overrides), resume="none", cpu=True, console=stages.console)
    if result.final is None:
        raise KeyboardInterrupt
    return result.final


def _evaluate_samples(samples: Tensor, classes: Tensor) -> Result:
    """Fréchet distance to as many held-out digits, and conditional accuracy."""
    reference = {"name": "digits", "split": "test"}
    suite = GenerationSuite.parse({"reference": reference, "size": samples.shape[-1], "extractors": ["digit-classifier"]})
    return evaluate_samples(suite, [(samples, classes)])


def _load(split: str, preprocessing: Preprocessing, *, count: int | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Digits (B, 3, S, S) in [0, 1] and their classes (B,): all of a split, or `count` of them drawn with a seed."""
    batches = list(EvalLoader(choose(open_source(split), count, seed=seed), preprocessing=preprocessing, batch_size=64))
    return torch.cat([batch.signals.values for batch in batches]), torch.cat([batch.labels for batch in batches if batch.labels is not None])


def _curves(metrics: Path) -> dict[str, Curve]:
    """The metrics that a run logged, by name."""
    curves: dict[str, Curve] = {}
    for line in metrics.read_text(encoding="utf-8").splitlines():
        numbers = json.loads(line)
        step = numbers.pop("step")
        for name, value in numbers.items():
            steps, values = curves.setdefault(name, ([], []))
            steps.append(step)
            values.append(value)
    return curves
