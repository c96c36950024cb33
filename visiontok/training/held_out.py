"""From a recipe to its validation: which samples are held out, and what evaluates the model on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from visiontok.core.identity import check_same_tokenizer
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import EvalLoader, LoaderConfig, Source, open_source
from visiontok.data.center_cut import CenterCut
from visiontok.data.holdout import Remaining, Subset, hold_out, lowest_hashes
from visiontok.data.token_dataset import TokenDataset
from visiontok.evaluation.reconstruction.suite import Suite
from visiontok.losses import Objective
from visiontok.signals import ImagePreprocessing, Preprocessing
from visiontok.training.recipe import GeneratorRecipe, Recipe, TokenizerRecipe, TokenValidationConfig, ValidationConfig, source_in_words
from visiontok.training.targets import Target
from visiontok.training.texts import EmbeddedTexts
from visiontok.training.token_loaders import ConditionedTokens, EncodingLoader, conditioned
from visiontok.training.validation import LARGEST_BATCH, METRICS, GeneratorValidator, TokenizerValidator, own_batches, suite_for


def divided(source: Source, validation: ValidationConfig | None) -> tuple[Source, Source | None]:
    """The samples to train on, and those to validate on; None where there are none."""
    if validation is None:
        return source, None
    if validation.source is not None:
        other = open_source(validation.source)
        return source, Subset(other, lowest_hashes(_keys(other), validation.num_samples))
    trained, held = hold_out(_keys(source), validation.num_samples, total=len(source))
    return (Subset(source, trained[:]), Subset(source, held)) if len(held) else (source, None)


def divided_rows(dataset: TokenDataset, validation: TokenValidationConfig | None) -> tuple[Remaining, tuple[TokenDataset, np.ndarray] | None]:
    """The rows of a token set to train on; and the set and its rows to validate on, None where there are none."""
    every = Remaining(len(dataset), np.arange(0))
    if validation is None:
        return every, None
    if validation.tokens is not None:
        other = TokenDataset(validation.tokens)
        check_same_tokenizer(other.tokenizer, dataset.tokenizer, what=f"the token set {validation.tokens}")
        return every, (other, lowest_hashes(other.keys(), validation.num_samples))
    trained, held = hold_out(dataset.keys(), validation.num_samples, total=len(dataset))
    return trained, (dataset, held) if len(held) else None


def in_words(validation: ValidationConfig | None, count: int) -> str:
    """What a run says of its validation, with the number of its samples."""
    if validation is None:
        return "no validation"
    if not count:
        return "no validation: too few samples to hold a twentieth out; name others with validation.source"
    held_out = validation.source is None and not (isinstance(validation, TokenValidationConfig) and validation.tokens is not None)
    return f"validation every {validation.every} steps on {count} {'samples held out of them' if held_out else 'other samples'}"


def centered(preprocessing: Preprocessing, config: LoaderConfig) -> Preprocessing:
    """What brings a signal to the size of training, cut at its center."""
    if isinstance(preprocessing, ImagePreprocessing) and isinstance(config.size, int):
        return preprocessing.replace(size=config.size)
    return preprocessing


def tokenizer_validator(
    recipe: TokenizerRecipe,
    source: Source,
    tokenizer: Tokenizer[Any],
    config: LoaderConfig,
    *,
    objective: Objective,
    target: Target,
    texts: EmbeddedTexts | None,
    accelerator: Accelerator,
) -> TokenizerValidator:
    """Validation of a tokenizer on the samples of a source, at the size of training."""
    validation, spec = recipe.validation, tokenizer.preprocessing.spec
    assert validation is not None
    is_rgb_image, size = spec.modality == "image" and spec.is_rgb, config.size
    if size is not None and not is_rgb_image:
        source = CenterCut(source, config, preprocessing=tokenizer.preprocessing)
    suite = Suite(
        name=f"{(validation.source or recipe.data.source).name}-{'held-out' if validation.source is None else 'validation'}",
        description=_samples_in_words(validation.source is None, len(source), source_in_words(validation.source or recipe.data.source)),
        data=validation.source or recipe.data.source,
        size=None if size is None or not is_rgb_image else size if isinstance(size, int) else size[-1],
        interpolation=config.interpolation,
        metrics=METRICS,
        text=recipe.text,
        batch_size=_batch_size(recipe),
    )
    return TokenizerValidator(
        source=source,
        suite=suite_for(suite, tokenizer, source=source, texts=texts),
        name=recipe.run_name,
        objective=objective,
        target=target,
        preprocessing=centered(tokenizer.preprocessing, config),
        texts=texts,
        batch_size=suite.batch_size,
        accelerator=accelerator,
    )


def stored_validator(
    recipe: GeneratorRecipe, dataset: TokenDataset, samples: np.ndarray, texts: EmbeddedTexts | None, accelerator: Accelerator
) -> GeneratorValidator:
    """Validation of a generator on some samples of a token set, by their rows (n,)."""
    assert recipe.validation is not None
    size = _batch_size(recipe)

    def batches() -> Iterator[tuple[int, ConditionedTokens]]:
        for number, rows in own_batches(len(samples), size, accelerator):
            yield number, conditioned(dataset.batch(samples[rows.start : rows.stop].tolist()), rows, texts)

    name = Path(recipe.validation.tokens or recipe.data.tokens or "").name
    words = _samples_in_words(recipe.validation.tokens is None, len(samples), f"the token set {name}")
    return GeneratorValidator(batches=batches, dataset=words, accelerator=accelerator)


def encoding_validator(
    recipe: GeneratorRecipe, source: Source, loader: EncodingLoader, config: LoaderConfig, accelerator: Accelerator
) -> GeneratorValidator:
    """Validation of a generator on signals that the loader's tokenizer encodes, at the size of training."""
    validation, signals = recipe.validation, recipe.data.signals
    assert validation is not None
    assert signals is not None
    own, size = loader.tokenizer.preprocessing, _batch_size(recipe)
    if config.size is not None and not isinstance(own, ImagePreprocessing):
        source = CenterCut(source, config, preprocessing=own)
    reader = EvalLoader(source, preprocessing=centered(own, config), batch_size=size)

    def batches() -> Iterator[tuple[int, ConditionedTokens]]:
        for number, rows in own_batches(len(source), size, accelerator):
            for batch in reader.batches(rows):
                yield number, loader.encoded(batch, range(rows.start, rows.start + len(batch)))

    words = _samples_in_words(validation.source is None, len(source), source_in_words(validation.source or signals.source))
    return GeneratorValidator(batches=batches, dataset=f"{words}, as tokens", accelerator=accelerator)


def _keys(source: Source) -> list[str]:
    return [source.key(index) for index in range(len(source))]


def _batch_size(recipe: Recipe) -> int:
    """The same for every number of processes."""
    return min(LARGEST_BATCH, recipe.batch_size // recipe.accumulate)


def _samples_in_words(held_out: bool, count: int, data: str) -> str:
    return f"{count} samples held out of {data}" if held_out else f"{count} samples of {data}"
