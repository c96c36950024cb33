"""One run of a study: train and evaluate a tokenizer and, where the study has one, a generator; save the results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.base.files import clear_stale
from visiontok.core.identity import identify
from visiontok.core.model import weights_sha256
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import open_source
from visiontok.data.tokenizing import tokenize_source
from visiontok.evaluation import GenerationSuite, Result, evaluate_samples, evaluate_suite
from visiontok.evaluation.generation.sampling import classes_in_order
from visiontok.evaluation.reconstruction.quantizing import latent_rms
from visiontok.evaluation.results.identity import Clock
from visiontok.generators.base import Generator
from visiontok.generators.decoding import SampleNoise
from visiontok.hub import from_pretrained
from visiontok.quantizers import DimensionWiseQuantizerConfig
from visiontok.signals import ImagePreprocessing
from visiontok.studies.definition import GENERATED, QuantizedArm, Study, Trained
from visiontok.studies.result import RunValues
from visiontok.tokenizers.image.tokenbridge.model import TokenBridge
from visiontok.training import TokenizerRecipe, load_recipe, train
from visiontok.training.recipe import Recipe

RESULT = "run.json"

_TRAINING = ("validation=null",)
"""Arms train on all of their data and are evaluated by their study."""


@dataclass(frozen=True)
class StudyRun:
    """One data set, one arm and one seed, with a folder for its models.

    Attributes:
        study: that the run belongs to.
        data, arm: their names in the study.
        seed: of the trainings and the samples.
        root: folder of all runs of the study.
    """

    study: Study
    data: str
    arm: str
    seed: int
    root: Path

    @property
    def folder(self) -> Path:
        """Holds `tokenizer/`, `tokens/`, `generator/` and `run.json`."""
        return self.root / self.data / self.arm / f"seed-{self.seed}"

    def finished(self) -> RunValues | None:
        """Its result; None where it is not complete.

        Raises:
            EvaluationError: if the result belongs to another definition of the study.
        """
        path = self.folder / RESULT
        if not path.is_file():
            return None
        values = RunValues.load(path)
        if values.definition != self.definition():
            raise EvaluationError(f"{path} has other recipes or suites than this study: remove {self.folder}, or choose another folder for the runs")
        return values

    def definition(self) -> str:
        """SHA-256 of the recipes and suites."""
        data, arm = self.study.data[self.data], self.study.arms[self.arm]
        parts: list[Any] = [_defining_values(self._tokenizer_recipe()), data.reconstruction.to_dict()]
        if isinstance(arm, QuantizedArm):
            parts.append(arm.to_dict())
        if self.study.generator is not None and data.generation is not None:
            parts += [_defining_values(self._generator_recipe(self.study.generator)), data.generation.to_dict()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def execute(self, console: Console) -> RunValues:
        """Train, resuming from existing checkpoints, and evaluate.

        Raises:
            VisiontokError: from training or evaluation.
            KeyboardInterrupt: if a training was interrupted; it has saved a checkpoint.
        """
        clock = Clock()
        clear_stale(self.folder)
        data = self.study.data[self.data]
        tokenizer = self._tokenizer(console)
        weights = {"tokenizer": weights_sha256(tokenizer.state_dict())}
        evaluated = evaluate_suite(data.reconstruction, tokenizer, name=self.arm)
        values = {value.label: value for value in evaluated.values}
        omitted, failed, warnings = dict(evaluated.omitted), dict(evaluated.failed), evaluated.warnings
        if self.study.generator is not None and data.generation is not None:
            generator = self._generator(self.study.generator, tokenizer, console)
            weights["generator"] = weights_sha256(generator.state_dict())
            generated = self._evaluate_generated(data.generation, generator, tokenizer)
            values |= {GENERATED + value.label: value for value in generated.values}
            omitted |= {GENERATED + metric: reason for metric, reason in generated.omitted.items()}
            failed |= {GENERATED + metric: reason for metric, reason in generated.failed.items()}
            warnings += generated.warnings
        result = RunValues(
            data=self.data,
            arm=self.arm,
            seed=self.seed,
            definition=self.definition(),
            weights_sha256=weights,
            values={name: value.value for name, value in values.items()},
            units={name: value.unit for name, value in values.items() if value.unit},
            omitted=omitted,
            failed=failed,
            warnings=warnings,
            environment=evaluated.environment,
            seconds=clock.run(1).seconds,
        )
        result.save(self.folder / RESULT)
        return result

    def _tokenizer(self, console: Console) -> Tokenizer[Any]:
        arm = self.study.arms[self.arm]
        recipe = self._tokenizer_recipe()
        tokenizer = from_pretrained(_train(recipe, console))
        assert isinstance(tokenizer, Tokenizer)
        if isinstance(arm, Trained):
            return tokenizer
        side = tokenizer.preprocessing.size if isinstance(tokenizer.preprocessing, ImagePreprocessing) else None
        if side is None:
            raise EvaluationError(f"the arm {arm.quantizes} has no fixed image size, which is required to compute the range of its latents")
        rms = latent_rms(tokenizer, open_source(recipe.data.source), size=side, batch_size=64, progress=lambda done, total: None)
        return TokenBridge.quantizing(tokenizer, DimensionWiseQuantizerConfig(levels=arm.levels, range=arm.spread * rms))

    def _generator(self, trained: Trained, tokenizer: Tokenizer[Any], console: Console) -> Generator[Any]:
        source = open_source(self._tokenizer_recipe().data.source)
        tokenize_source(source, tokenizer, self.folder / "tokens", identity=identify(tokenizer, self.arm))
        generator = from_pretrained(_train(self._generator_recipe(trained), console))
        assert isinstance(generator, Generator)
        return generator

    @torch.no_grad()
    def _evaluate_generated(self, suite: GenerationSuite, generator: Generator[Any], tokenizer: Tokenizer[Any]) -> Result:
        assert suite.num_samples is not None  # checked by the study
        classes = torch.tensor(classes_in_order(suite.num_samples, generator.num_classes, suite.class_order, seed=self.seed))

        def samples() -> Iterator[tuple[Tensor, Tensor]]:
            for rows in torch.arange(len(classes)).split(suite.batch_size):
                tokens = generator.generate(classes[rows], noise=SampleNoise(self.seed, rows.tolist()))
                yield tokenizer.decode(tokens), classes[rows]

        return evaluate_samples(suite, samples())

    def _tokenizer_recipe(self) -> TokenizerRecipe:
        """For a quantized arm, that of the arm that it quantizes, with that arm's folder."""
        name, arm = self.arm, self.study.arms[self.arm]
        if isinstance(arm, QuantizedArm):
            name, arm = arm.quantizes, self.study.arms[arm.quantizes]
        assert isinstance(arm, Trained)
        output = self.root / self.data / name / f"seed-{self.seed}" / "tokenizer"
        overrides = [*self.study.data[self.data].overrides, *arm.overrides, *_TRAINING]
        recipe = load_recipe(arm.recipe, [*overrides, f"seed={self.seed}", f"output={output}"])
        if not isinstance(recipe, TokenizerRecipe):
            raise EvaluationError(f"the arm {name} trains a generator; arms are tokenizers: name the recipe under `generator`")
        return recipe

    def _generator_recipe(self, trained: Trained) -> Recipe:
        tokens = [f"data.tokens={self.folder / 'tokens'}", f"tokenizer={self._tokenizer_recipe().output / 'final'}"]
        return load_recipe(trained.recipe, [*trained.overrides, *tokens, *_TRAINING, f"seed={self.seed}", f"output={self.folder / 'generator'}"])


def _train(recipe: Recipe, console: Console) -> Path:
    result = train(recipe, resume="auto", cpu=True, console=console)
    if result.final is None:
        raise KeyboardInterrupt
    return result.final


def _defining_values(recipe: Recipe) -> dict[str, Any]:
    """A recipe without its folders and the settings that change no result."""
    ignored = ("output", "tokenizer", "validation", "checkpoints", "logging", "sample_images")
    values = {key: value for key, value in recipe.to_dict().items() if key not in ignored}
    if "tokens" in values["data"]:
        values.pop("data")
    return values
