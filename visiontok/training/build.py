"""From a recipe to a task: data, model, objective."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from visiontok.base.errors import ConfigError
from visiontok.core.identity import TokenizerIdentity, check_same_tokenizer, identify
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import DataBatch, EvalLoader, LoaderConfig, Source, Texts, TextsConfig, TrainLoader, open_source
from visiontok.data.center_cut import CenterCut
from visiontok.data.config import describe_source
from visiontok.data.joint_loader import JointLoader
from visiontok.data.token_dataset import TokenDataset
from visiontok.encoders.text import TextConfig
from visiontok.generators.base import Generator
from visiontok.generators.condition import ClassCondition, TextCondition
from visiontok.generators.eagle.model import EagleDrafter
from visiontok.generators.gpt.model import GPT
from visiontok.hub import from_pretrained
from visiontok.losses import TeacherCodesConfig
from visiontok.signals import ImagePreprocessing, Preprocessing, VideoPreprocessing
from visiontok.tokens import TokenLayout
from visiontok.training.drafter_task import DrafterTask
from visiontok.training.generator_task import GeneratorTask
from visiontok.training.held_out import centered, divided, divided_rows, encoding_validator, in_words, stored_validator, tokenizer_validator
from visiontok.training.recipe import DrafterRecipe, GeneratorRecipe, Recipe, TokenizerRecipe
from visiontok.training.starting_model import starting_model
from visiontok.training.targets import Signal, Target, TeacherCodes
from visiontok.training.task import Task
from visiontok.training.texts import EmbeddedTexts
from visiontok.training.token_loaders import EncodingLoader, TokenSetLoader
from visiontok.training.tokenizer_task import TokenizerTask
from visiontok.training.validation import GeneratorValidator


def build_task(recipe: Recipe, accelerator: Accelerator) -> Task[Any]:
    """The task that a recipe describes, its new weights drawn from torch's global state.

    Raises:
        VisiontokError: for what the recipe names and cannot be had: data, weights, a family, a size that does not fit.
    """
    if isinstance(recipe, TokenizerRecipe):
        return _tokenizer_task(recipe, accelerator)
    if isinstance(recipe, GeneratorRecipe):
        return _generator_task(recipe, accelerator)
    if isinstance(recipe, DrafterRecipe):
        return _drafter_task(recipe, accelerator)
    raise ConfigError(f"a {type(recipe).__name__} does not say what to train; use a TokenizerRecipe, a GeneratorRecipe or a DrafterRecipe")


def _tokenizer_task(recipe: TokenizerRecipe, accelerator: Accelerator) -> TokenizerTask:
    whole = open_source(recipe.data.source)
    source, held_out = divided(whole, recipe.validation)
    tokenizer = starting_model(recipe.model, kind="tokenizer")
    assert isinstance(tokenizer, Tokenizer)
    config = recipe.data.loader(tokenizer.preprocessing, batch_size=recipe.batch_size, seed=recipe.seed)
    target: Target = Signal()
    if isinstance(recipe.objective, TeacherCodesConfig):
        target = TeacherCodes(_frozen_tokenizer(recipe.objective.teacher, accelerator))
    if (tokenizer.text is None) != (recipe.text is None):
        raise ConfigError(
            "`text` says which text goes with a signal: set text.source to captions or class_names for a tokenizer that reads one, as this does"
            if recipe.text is None
            else f"text.source is {recipe.text.source}, but the tokenizer of this recipe reads no text: remove `text`"
        )
    objective = recipe.objective.build(tokenizer.spec)
    texts = None if tokenizer.text is None or recipe.text is None else _texts(recipe.text, source.class_names, tokenizer.text, accelerator)
    validator = None
    if held_out is not None:  # built when all initial weights are drawn
        validator = tokenizer_validator(recipe, held_out, tokenizer, config, objective=objective, target=target, texts=texts, accelerator=accelerator)
    shown = source if held_out is None else held_out
    task = TokenizerTask(
        recipe,
        tokenizer=tokenizer,
        objective=objective,
        target=target,
        loader=_loader(recipe, source, config, tokenizer.preprocessing, accelerator),
        texts=texts,
        examples=_examples(shown, tokenizer, config, count=recipe.sample_images.count) if recipe.sample_images.every else None,
        validator=validator,
        accelerator=accelerator,
    )
    count = 0 if held_out is None else len(held_out)
    task.data = f"{describe_source(recipe.data.source, whole)}; {in_words(recipe.validation, count)}"
    return task


def _loader(
    recipe: TokenizerRecipe, source: Source, config: LoaderConfig, preprocessing: Preprocessing, accelerator: Accelerator
) -> TrainLoader | JointLoader:
    loader = TrainLoader(source, config, preprocessing=preprocessing, **_share(accelerator))
    if recipe.images is None:
        return loader
    images = open_source(recipe.images.data.source)
    if not isinstance(preprocessing, VideoPreprocessing) or preprocessing.fixed_length or images.modality != "image":
        raise ConfigError(
            f"`images` are trained on in turn with clips of any length, and the tokenizer takes {preprocessing.spec.modality}: remove them"
            if images.modality == "image"
            else f"`images` names a source of {images.modality}: name one of images"
        )
    own = recipe.images.data.loader(preprocessing.frames, batch_size=recipe.images.batch_size or recipe.batch_size, seed=recipe.seed)
    return JointLoader(loader, TrainLoader(images, own, preprocessing=preprocessing.frames, **_share(accelerator)), every=recipe.images.every)


_OF_CLASSES = {"dropout", "start"}
"""What a recipe may say of the condition without its type, and what then means nothing where there are no classes."""


def _generator_task(recipe: GeneratorRecipe, accelerator: Accelerator) -> GeneratorTask:
    tokenizer = None if recipe.tokenizer is None else _frozen_tokenizer(recipe.tokenizer, accelerator)
    if tokenizer is not None and tokenizer.text is not None and recipe.sample_images.every:
        raise ConfigError(f"{recipe.tokenizer} decodes with a text, which generated tokens do not bring: set sample_images.every=0")
    given = None if tokenizer is None else identify(tokenizer, str(recipe.tokenizer))
    loader: TokenSetLoader | EncodingLoader
    held_rows: tuple[TokenDataset, np.ndarray] | None = None
    validator: GeneratorValidator | None = None
    if recipe.data.tokens is not None:
        dataset = TokenDataset(recipe.data.tokens)
        data = f"{recipe.data.tokens}: {len(dataset)} samples"
        samples, held_rows = divided_rows(dataset, recipe.validation)
        count = 0 if held_rows is None else len(held_rows[1])
        layout, class_names = dataset.layout, dataset.header.class_names
        num_classes = len(class_names) or (0 if dataset.label_range is None else dataset.label_range[1] + 1)
        made_by = dataset.header.tokenizer
        what = f"the token set {recipe.data.tokens}"
        check_same_tokenizer(made_by, given, what=what, allow_other=recipe.allow_other_tokenizer)
        share: dict[str, Any] = {"batch_size": recipe.batch_size, "seed": recipe.seed, **_share(accelerator)}
        loader = TokenSetLoader(dataset, samples=samples, num_workers=recipe.data.num_workers, **share)
    else:
        assert recipe.data.signals is not None
        assert tokenizer is not None
        assert given is not None
        whole = open_source(recipe.data.signals.source)
        source, held_signals = divided(whole, recipe.validation)
        count = 0 if held_signals is None else len(held_signals)
        data = describe_source(recipe.data.signals.source, whole)
        config = recipe.data.signals.loader(tokenizer.preprocessing, batch_size=recipe.batch_size, seed=recipe.seed)
        signals = TrainLoader(source, config, preprocessing=tokenizer.preprocessing, **_share(accelerator))
        read = (
            _texts(recipe.text or TextsConfig(source="captions"), source.class_names, tokenizer.text, accelerator)
            if tokenizer.text is not None and tokenizer.encoder_reads_text
            else None
        )
        size = _size(tokenizer, config)
        loader = EncodingLoader(signals, tokenizer, size=size, rank=accelerator.process_index, encoder_texts=read)
        if held_signals is not None:
            validator = encoding_validator(recipe, held_signals, loader, config, accelerator)
        layout, class_names, made_by, what = loader.layout, source.class_names or (), given, f"the tokens of {recipe.tokenizer}"
        num_classes = len(class_names)
    defaults = _what_the_data_says(recipe, layout, num_classes, class_names, made_by)
    wanted, asked = recipe.model, recipe.model.config.get("condition", {})
    if defaults["condition"]["type"] == "none" and _OF_CLASSES & set(asked):  # bundled recipes leave the type to the data
        left = {name: value for name, value in asked.items() if name not in _OF_CLASSES}
        wanted = wanted.model_copy(update={"config": {**wanted.config, "condition": left}})
        if "type" not in asked:
            data = f"{data}, which has no labels: the generator is unconditional"
    model = starting_model(wanted, kind="generator", defaults=defaults)
    assert isinstance(model, Generator)
    check_same_tokenizer(made_by, model.config.tokenizer, what=what, allow_other=recipe.allow_other_tokenizer)
    _check_layouts(layout, model, tokenizer)
    if isinstance(model.config.condition, ClassCondition):
        labels = loader.dataset.label_range if isinstance(loader, TokenSetLoader) else None
        if labels is None and isinstance(loader, TokenSetLoader):
            raise ConfigError(f"the generator has classes, but not every sample of {data} has a label: set model.config.condition.type=none")
        _check_classes(labels, class_names, model.num_classes, data=data)
    if isinstance(model.config.condition, TextCondition):
        loader.texts = _texts(recipe.text or TextsConfig(source="captions"), class_names, model.config.condition.text, accelerator)
    if held_rows is not None:
        validator = stored_validator(recipe, *held_rows, loader.texts, accelerator)
    task = GeneratorTask(recipe, model=model, loader=loader, tokenizer=tokenizer, validator=validator, accelerator=accelerator)
    task.data = f"{data}; {in_words(recipe.validation, count)}"
    return task


def _drafter_task(recipe: DrafterRecipe, accelerator: Accelerator) -> DrafterTask:
    generator = from_pretrained(recipe.generator, device=accelerator.device)
    if not isinstance(generator, GPT):
        raise ConfigError(f"{recipe.generator} does not sample token by token; name a generator such as a gpt")
    generator.requires_grad_(False)
    dataset = TokenDataset(recipe.tokens)
    check_same_tokenizer(dataset.header.tokenizer, generator.config.tokenizer, what=f"the token set {recipe.tokens}")
    _check_layouts(dataset.layout, generator, None)
    if isinstance(generator.config.condition, ClassCondition):
        if dataset.label_range is None:
            raise ConfigError(f"the generator has classes, but not every sample of {recipe.tokens} has a label")
        _check_classes(dataset.label_range, dataset.header.class_names, generator.num_classes, data=str(recipe.tokens))
    if recipe.model.init_from is None:
        if recipe.model.family != "eagle":
            raise ConfigError(f"model.family is {recipe.model.family!r}; drafters of generators are of the family eagle")
        model = EagleDrafter.of(generator, **recipe.model.config).train()
    else:
        found = starting_model(recipe.model, kind="drafter")
        assert isinstance(found, EagleDrafter)
        found.check_generator(generator)
        model = found
    share: dict[str, Any] = {"batch_size": recipe.batch_size, "seed": recipe.seed, **_share(accelerator)}
    loader = TokenSetLoader(dataset, samples=divided_rows(dataset, None)[0], **share)
    if isinstance(generator.config.condition, TextCondition):
        loader.texts = _texts(recipe.text or TextsConfig(source="captions"), dataset.header.class_names, generator.config.condition.text, accelerator)
    task = DrafterTask(recipe, model=model, generator=generator, loader=loader, accelerator=accelerator)
    task.data = f"{recipe.tokens}: {len(dataset)} samples"
    return task


def _texts(config: TextsConfig, class_names: tuple[str, ...] | None, text: TextConfig, accelerator: Accelerator) -> EmbeddedTexts:
    return EmbeddedTexts(Texts(config, class_names), text.build().to(accelerator.device))


def _share(accelerator: Accelerator) -> dict[str, int]:
    """This process's part of every global batch."""
    return {"rank": accelerator.process_index, "world_size": accelerator.num_processes}


def _size(tokenizer: Tokenizer[Any], config: LoaderConfig) -> tuple[int, ...] | None:
    """Of the signals that a loader cuts; None for the tokenizer's usual size."""
    axes = tokenizer.preprocessing.spec.axes
    if isinstance(config.size, int):
        usual = tokenizer.preprocessing.usual_size
        return tuple(usual[axis] if name == "frames" else config.size for axis, name in enumerate(axes))
    return config.size


def _what_the_data_says(
    recipe: GeneratorRecipe, layout: TokenLayout, num_classes: int, class_names: tuple[str, ...], made_by: TokenizerIdentity
) -> dict[str, Any]:
    """The fields of a generator's configuration that follow from its data; names only where they fit the recipe's number of classes."""
    asked = recipe.model.config.get("condition", {})
    condition: dict[str, Any] = {"type": asked.get("type", "classes" if num_classes else "none")}
    if condition["type"] == "classes":
        condition["num_classes"] = num_classes
        if asked.get("num_classes", num_classes) == len(class_names):
            condition["names"] = class_names
    # Of a folder on this machine only its last part: the configuration is shared.
    identity = made_by.replace(name=Path(made_by.name).name if Path(made_by.name).exists() else made_by.name)
    return {"layout": layout.to_dict(), "condition": condition, "tokenizer": identity.to_dict()}


def _check_layouts(layout: TokenLayout, model: Generator[Any], tokenizer: Tokenizer[Any] | None) -> None:
    if not model.layout.accepts(layout):
        raise ConfigError(f"the generator models another layout than the data has: {model.layout} instead of {layout}")
    if tokenizer is not None and not tokenizer.layout.accepts(layout):
        raise ConfigError(f"the recipe's tokenizer has another layout than the data: {tokenizer.layout} instead of {layout}")


def _check_classes(label_range: tuple[int, int] | None, class_names: Sequence[str], num_classes: int, *, data: str) -> None:
    """Labels of the data, or where they are not known beforehand the names of its classes, must be those of the generator."""
    lowest, highest = (0, len(class_names) - 1) if label_range is None else label_range
    if lowest < 0 or highest >= num_classes:
        wrong = lowest if lowest < 0 else highest
        raise ConfigError(f"{data} has the class {wrong}, but the generator has {num_classes} classes: set model.config.condition.num_classes")


def _frozen_tokenizer(name: str, accelerator: Accelerator) -> Tokenizer[Any]:
    tokenizer = from_pretrained(name, device=accelerator.device)
    if not isinstance(tokenizer, Tokenizer):
        raise ConfigError(f"{name} is no tokenizer; name one")
    return tokenizer.requires_grad_(False)


def _examples(source: Source, tokenizer: Tokenizer[Any], config: LoaderConfig, *, count: int) -> DataBatch | None:
    """Samples from all over the source, cut at their centers to the size of training; None if none of them can be read."""
    if config.size is not None and not isinstance(tokenizer.preprocessing, ImagePreprocessing):
        source = CenterCut(source, config, preprocessing=tokenizer.preprocessing)
    spread = range(0, len(source), max(1, len(source) // count))[:count]
    for batch in EvalLoader(source, preprocessing=centered(tokenizer.preprocessing, config), batch_size=count).batches(spread):
        return batch
    return None
