"""One run of a study: train and evaluate a tokenizer and, where the arm has one, a generator; save the results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from visiontok.evaluation.reconstruction.run import NamedGenerator
from visiontok.evaluation.results.identity import Clock
from visiontok.generators.base import Generator
from visiontok.generators.decoding import SampleNoise
from visiontok.hub import from_pretrained
from visiontok.quantizers import DimensionWiseQuantizerConfig
from visiontok.signals import ImagePreprocessing
from visiontok.signals.stills import shown, shown_spec
from visiontok.studies.definition import GENERATED, PARAMETERS, ArmParts, Generated, QuantizedArm, Study, Trained
from visiontok.studies.result import RunValues
from visiontok.studies.samples import save_samples
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
        """Holds `run.json` and what the arm makes itself: `tokenizer/`, `tokens/`, `generator/`, and samples."""
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
        data, parts = self.study.data[self.data], self._parts
        tokenizer = self.study.arms[parts.tokenizer]
        defining: list[Any] = [_defining_values(self._tokenizer_recipe()), data.reconstruction.to_dict()]
        if isinstance(tokenizer, QuantizedArm):
            defining.append(tokenizer.to_dict())
        if parts.generator is not None and data.generation is not None:
            defining += [_defining_values(self._generator_recipe(parts.generator)), data.generation.to_dict()]
        if parts.sampling:
            defining.append(dict(parts.sampling))
        return hashlib.sha256(json.dumps(defining, sort_keys=True).encode()).hexdigest()

    def execute(self, console: Console) -> RunValues:
        """Train, resuming from existing checkpoints, and evaluate.

        Raises:
            VisiontokError: from training or evaluation.
            KeyboardInterrupt: if a training was interrupted; it has saved a checkpoint.
        """
        clock = Clock()
        clear_stale(self.folder)
        data, trained = self.study.data[self.data], self._parts.generator
        tokenizer = self._tokenizer(console)
        generator = None if trained is None else self._generator(trained, tokenizer, console)
        named = None if generator is None else NamedGenerator(self.arm, generator)
        weights = {"tokenizer": weights_sha256(tokenizer.state_dict())}
        evaluated = evaluate_suite(data.reconstruction, tokenizer, name=self.arm, generator=named)
        values = {value.label: value for value in evaluated.values}
        omitted, failed, warnings = dict(evaluated.omitted), dict(evaluated.failed), evaluated.warnings
        if generator is not None and data.generation is not None:
            weights["generator"] = weights_sha256(generator.state_dict())
            generated = self._evaluate_generated(data.generation, generator, tokenizer)
            values |= {GENERATED + value.label: value for value in generated.values}
            omitted |= {GENERATED + metric: reason for metric, reason in generated.omitted.items()}
            failed |= {GENERATED + metric: reason for metric, reason in generated.failed.items()}
            warnings += generated.warnings
        known = {name: value.value for name, value in values.items()}
        result = RunValues(
            data=self.data,
            arm=self.arm,
            seed=self.seed,
            definition=self.definition(),
            weights_sha256=weights,
            values=known if generator is None else {**known, PARAMETERS: float(generator.num_parameters)},
            units={name: value.unit for name, value in values.items() if value.unit},
            omitted=omitted,
            failed=failed,
            warnings=warnings,
            environment=evaluated.environment,
            seconds=clock.run(1).seconds,
        )
        result.save(self.folder / RESULT)
        return result

    @property
    def _parts(self) -> ArmParts:
        return self.study.parts(self.arm)

    def _folder_of(self, arm: str) -> Path:
        """The folder of another arm with the same data and seed."""
        return replace(self, arm=arm).folder

    def _tokenizer(self, console: Console) -> Tokenizer[Any]:
        arm = self.study.arms[self._parts.tokenizer]
        recipe = self._tokenizer_recipe()
        tokenizer = from_pretrained(_train(recipe, console))
        assert isinstance(tokenizer, Tokenizer)
        if not isinstance(arm, QuantizedArm):
            return tokenizer
        side = tokenizer.preprocessing.size if isinstance(tokenizer.preprocessing, ImagePreprocessing) else None
        if side is None:
            raise EvaluationError(f"the arm {arm.quantizes} has no fixed image size, which is required to compute the range of its latents")
        rms = latent_rms(tokenizer, open_source(recipe.data.source), size=side, batch_size=64, progress=lambda done, total: None)
        return TokenBridge.quantizing(tokenizer, DimensionWiseQuantizerConfig(levels=arm.levels, range=arm.spread * rms))

    def _generator(self, trained: Trained | Generated, tokenizer: Tokenizer[Any], console: Console) -> Generator[Any]:
        source, name = open_source(self._tokenizer_recipe().data.source), self._parts.tokenizer
        tokenize_source(source, tokenizer, self._tokens, identity=identify(tokenizer, name))
        generator = from_pretrained(_train(self._generator_recipe(trained), console))
        assert isinstance(generator, Generator)
        return generator

    @property
    def _tokens(self) -> Path:
        """The token set that generators of this tokenizer share."""
        return self._folder_of(self._parts.tokenizer) / "tokens"

    @torch.no_grad()
    def _evaluate_generated(self, suite: GenerationSuite, generator: Generator[Any], tokenizer: Tokenizer[Any]) -> Result:
        assert suite.num_samples is not None  # checked by the study
        classes = torch.tensor(classes_in_order(suite.num_samples, generator.num_classes, suite.class_order, seed=self.seed))
        sampler = generator.sampler(**{**suite.sampling, **self._parts.sampling})
        generator.check_sampler(sampler, unconditional=False)
        spec = shown_spec(tokenizer.spec, generator.layout.signal_shape)

        def samples() -> Iterator[tuple[Tensor, Tensor]]:
            for rows in torch.arange(len(classes), dtype=torch.int64).split(suite.batch_size):
                tokens = generator.generate(classes[rows], noise=SampleNoise(self.seed, rows.tolist()), sampler=sampler)
                signals = shown(tokenizer.decode(tokens), spec)
                if rows[0] == 0:
                    save_samples(signals, spec, self.folder)
                yield signals, classes[rows]

        return evaluate_samples(suite, samples(), spec=spec)

    def _tokenizer_recipe(self) -> TokenizerRecipe:
        """For a quantized tokenizer, that of the arm that it quantizes, with that arm's folder."""
        name = self._parts.tokenizer
        arm = self.study.arms[name]
        if isinstance(arm, QuantizedArm):
            name, arm = arm.quantizes, self.study.arms[arm.quantizes]
        assert isinstance(arm, Trained)
        overrides = [*self.study.data[self.data].overrides, *arm.overrides, *_TRAINING]
        recipe = load_recipe(arm.recipe, [*overrides, f"seed={self.seed}", f"output={self._folder_of(name) / 'tokenizer'}"])
        if not isinstance(recipe, TokenizerRecipe):
            raise EvaluationError(f"the arm {name} trains a generator; name it with `tokens_of` the tokenizer")
        return recipe

    def _generator_recipe(self, trained: Trained | Generated) -> Recipe:
        """With the samples left to the study."""
        own = [f"data.tokens={self._tokens}", "tokenizer=null", *_TRAINING, f"seed={self.seed}"]
        return load_recipe(trained.recipe, [*trained.overrides, *own, f"output={self._folder_of(self._parts.owner) / 'generator'}"])


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
