"""From a recipe to a task: data, model, objective."""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator

from visiontok.base.errors import ConfigError
from visiontok.core.text_tokenizer import TextTokenizer
from visiontok.core.tokenizer import Tokenizer
from visiontok.data import DataBatch, EvalLoader, LoaderConfig, Source, Texts, TrainLoader, open_source
from visiontok.data.token_dataset import TokenDataset
from visiontok.generators.base import Generator
from visiontok.hub import from_pretrained
from visiontok.losses import TeacherCodesConfig
from visiontok.signals import ImagePreprocessing
from visiontok.tokens import TokenLayout
from visiontok.training.generator_task import GeneratorTask
from visiontok.training.recipe import GeneratorRecipe, Recipe, TokenizerRecipe
from visiontok.training.starting_model import starting_model
from visiontok.training.targets import Pixels, Target, TeacherCodesTarget
from visiontok.training.task import Task
from visiontok.training.texts import EmbeddedTexts
from visiontok.training.token_loaders import EncodingLoader, TokenSetLoader
from visiontok.training.tokenizer_task import TokenizerTask


def build_task(recipe: Recipe, accelerator: Accelerator) -> Task[Any]:
    """The task that a recipe describes, its new weights drawn from torch's global state.

    Raises:
        VisiontokError: for what the recipe names and cannot be had: data, weights, a family, a size that does not fit.
    """
    if isinstance(recipe, TokenizerRecipe):
        return _tokenizer_task(recipe, accelerator)
    if isinstance(recipe, GeneratorRecipe):
        return _generator_task(recipe, accelerator)
    raise ConfigError(f"{type(recipe).__name__} says nothing about what to train; use a TokenizerRecipe or a GeneratorRecipe")


def _tokenizer_task(recipe: TokenizerRecipe, accelerator: Accelerator) -> TokenizerTask:
    source = open_source(recipe.data.source)
    tokenizer = starting_model(recipe.model, kind="tokenizer")
    assert isinstance(tokenizer, Tokenizer)
    config = recipe.data.loader(image_size=_image_size(tokenizer), batch_size=recipe.batch_size, seed=recipe.seed)
    target: Target = Pixels()
    if isinstance(recipe.objective, TeacherCodesConfig):
        target = TeacherCodesTarget(_frozen_tokenizer(recipe.objective.teacher, accelerator))
    return TokenizerTask(
        recipe,
        tokenizer=tokenizer,
        objective=recipe.objective.build(tokenizer.spec),
        target=target,
        loader=TrainLoader(
            source, config, preprocessing=tokenizer.preprocessing, rank=accelerator.process_index, world_size=accelerator.num_processes
        ),
        texts=_texts(recipe, tokenizer, source, accelerator),
        examples=_examples(source, tokenizer, config, count=recipe.pictures.count) if recipe.pictures.every else None,
        accelerator=accelerator,
    )


def _texts(recipe: TokenizerRecipe, tokenizer: Tokenizer[Any], source: Source, accelerator: Accelerator) -> EmbeddedTexts | None:
    if isinstance(tokenizer, TextTokenizer) != (recipe.text is not None):
        raise ConfigError(
            "`text` says which text goes with a picture: set text.source to captions or class_names for a tokenizer that reads one, as this does"
            if recipe.text is None
            else "the recipe sets `text`, but its tokenizer reads none; leave it out"
        )
    if not isinstance(tokenizer, TextTokenizer) or recipe.text is None:
        return None
    return EmbeddedTexts(Texts(recipe.text, source.class_names), tokenizer.text.build().to(accelerator.device))


def _generator_task(recipe: GeneratorRecipe, accelerator: Accelerator) -> GeneratorTask:
    tokenizer = None if recipe.tokenizer is None else _frozen_tokenizer(recipe.tokenizer, accelerator)
    if isinstance(tokenizer, TextTokenizer) and recipe.pictures.every:
        raise ConfigError(f"{recipe.tokenizer} decodes with a text, which generated tokens do not bring: set pictures.every=0")
    loader: TokenSetLoader | EncodingLoader
    if recipe.data.tokens is not None:
        dataset = TokenDataset(recipe.data.tokens)
        layout, class_names = dataset.layout, dataset.header.class_names
        num_classes = len(class_names) or (0 if dataset.labels is None else int(dataset.labels.max()) + 1)
        loader = TokenSetLoader(
            dataset, batch_size=recipe.batch_size, seed=recipe.seed, rank=accelerator.process_index, world_size=accelerator.num_processes
        )
    else:
        assert recipe.data.images is not None
        assert tokenizer is not None
        source = open_source(recipe.data.images.source)
        config = recipe.data.images.loader(image_size=_image_size(tokenizer), batch_size=recipe.batch_size, seed=recipe.seed)
        images = TrainLoader(
            source, config, preprocessing=tokenizer.preprocessing, rank=accelerator.process_index, world_size=accelerator.num_processes
        )
        assert isinstance(config.size, int)
        loader = EncodingLoader(images, tokenizer, size=(config.size, config.size), rank=accelerator.process_index)
        layout, class_names = loader.layout, source.class_names or ()
        num_classes = len(class_names)
    model = starting_model(recipe.model, kind="generator", defaults=_what_the_data_says(recipe, layout, num_classes, class_names))
    assert isinstance(model, Generator)
    _check_layouts(layout, model, tokenizer)
    return GeneratorTask(recipe, model=model, loader=loader, tokenizer=tokenizer, accelerator=accelerator)


def _share(accelerator: Accelerator) -> dict[str, int]:
    """This process's part of every global batch."""
    return {"rank": accelerator.process_index, "world_size": accelerator.num_processes}


def _image_size(tokenizer: Tokenizer[Any]) -> int | None:
    """The side of the images that the tokenizer is made for."""
    preprocessing = tokenizer.preprocessing
    return preprocessing.size if isinstance(preprocessing, ImagePreprocessing) else None


def _what_the_data_says(recipe: GeneratorRecipe, layout: TokenLayout, num_classes: int, class_names: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a generator's configuration that follow from its data; names only where they fit the recipe's number of classes."""
    asked = recipe.model.config.get("condition", {})
    condition: dict[str, Any] = {"type": asked.get("type", "classes" if num_classes else "none")}
    if condition["type"] == "classes":
        condition["num_classes"] = num_classes
        if asked.get("num_classes", num_classes) == len(class_names):
            condition["names"] = class_names
    return {"layout": layout.to_dict(), "condition": condition}


def _check_layouts(layout: TokenLayout, model: Generator[Any], tokenizer: Tokenizer[Any] | None) -> None:
    if not model.layout.accepts(layout):
        raise ConfigError(f"the generator models another layout than the data has: {model.layout} instead of {layout}")
    if tokenizer is not None and not tokenizer.layout.accepts(layout):
        raise ConfigError(f"the recipe's tokenizer has another layout than the data: {tokenizer.layout} instead of {layout}")


def _frozen_tokenizer(name: str, accelerator: Accelerator) -> Tokenizer[Any]:
    tokenizer = from_pretrained(name, device=accelerator.device)
    if not isinstance(tokenizer, Tokenizer):
        raise ConfigError(f"{name} is a generator; name a tokenizer")
    return tokenizer.requires_grad_(False)


def _examples(source: Source, tokenizer: Tokenizer[Any], config: LoaderConfig, *, count: int) -> DataBatch | None:
    """Samples from all over the source, cut at their centers to the size of training; None if none of them can be read."""
    spread = range(0, len(source), max(1, len(source) // count))[:count]
    preprocessing = tokenizer.preprocessing
    if isinstance(preprocessing, ImagePreprocessing) and isinstance(config.size, int):
        preprocessing = preprocessing.replace(size=config.size)
    for batch in EvalLoader(source, preprocessing=preprocessing, batch_size=count).batches(spread):
        return batch
    return None
