"""The chain on handwritten digits: train a tokenizer, measure it, tokenize, train a generator, sample, measure the samples."""

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
    """What the chain leaves behind.

    Attributes:
        tokenizer: trained.
        images, labels: held-out scans (B, 3, S, S) in [0, 1] and their classes (B,).
        tokens: of the held-out scans.
        reconstruction: the suite `digits` on held-out scans.
        tokenizer_curves, generator_curves: what was logged in training, by name.
        samples: (10 * per_class, 3, S, S) in [0, 1], class after class.
        classes: (10 * per_class,) int64, those that were asked for.
        generation: distance to held-out scans, and whether the classifier sees the class asked for.
        real: the same measurement of as many real training digits, as a yardstick.
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
    """Train, measure, tokenize, train, sample, measure; everything is kept in `folder`.

    Raises:
        VisiontokError: whatever the trainer or a measurement refuses.
        KeyboardInterrupt: if a training was interrupted.
    """
    with stages.stage("Train a TiTok on handwritten digits"):
        trained = _train(config.tokenizer, [f"output={folder / 'tokenizer'}", f"seed={config.seed}", *config.tokenizer_overrides], stages)
        tokenizer = from_pretrained(trained)
        assert isinstance(tokenizer, Tokenizer)
    with stages.stage("Measure it on held-out digits"):
        reconstruction = evaluate_suite(load_suite("digits"), tokenizer, name="titok-digits")
        reconstruction.save(folder / "reconstruction.json")
        images, labels = _load(HELD_OUT, tokenizer.preprocessing)
        tokens = tokenizer.encode(images)
        assert isinstance(tokens, Tokens)
    with stages.stage("Write the training digits as tokens, in Parquet"):
        tokenize_source(open_source(TRAIN), tokenizer, folder / "tokens", identity=identify(tokenizer, "titok-digits"))
    with stages.stage("Train a gpt on the tokens"):
        places = [f"output={folder / 'generator'}", f"data.tokens={folder / 'tokens'}", f"tokenizer={trained}"]
        generator = from_pretrained(_train(config.generator, [*places, f"seed={config.seed}", *config.generator_overrides], stages))
        assert isinstance(generator, Generator)
    with stages.stage("Generate digits of every class and measure them"):
        classes = torch.arange(generator.num_classes).repeat_interleave(config.per_class)
        samples = tokenizer.decode(generator.generate(classes, noise=SampleNoise(config.seed, range(len(classes)))))
        generation = _measure_samples(samples, classes)
        generation.save(folder / "generation.json")
        real = _measure_samples(*_load(TRAIN, tokenizer.preprocessing, count=len(classes), seed=config.seed))
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


def _measure_samples(samples: Tensor, classes: Tensor) -> Result:
    """Against as many held-out digits."""
    reference = {"name": "digits", "split": "test"}
    suite = GenerationSuite.parse({"reference": reference, "size": samples.shape[-1], "extractors": ["digit-classifier"]})
    return evaluate_samples(suite, [(samples, classes)])


def _load(split: str, preprocessing: Preprocessing, *, count: int | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Digits (B, 3, S, S) in [0, 1] and their classes (B,): all of a split, or `count` of them drawn with a seed."""
    batches = list(EvalLoader(choose(open_source(split), count, seed=seed), preprocessing=preprocessing, batch_size=64))
    return torch.cat([batch.signals.values for batch in batches]), torch.cat([batch.labels for batch in batches if batch.labels is not None])


def _curves(metrics: Path) -> dict[str, Curve]:
    """What a run logged, by name."""
    curves: dict[str, Curve] = {}
    for line in metrics.read_text(encoding="utf-8").splitlines():
        numbers = json.loads(line)
        step = numbers.pop("step")
        for name, value in numbers.items():
            steps, values = curves.setdefault(name, ([], []))
            steps.append(step)
            values.append(value)
    return curves
