"""Recipes: what to train, on what, and how. A YAML file, dotted overrides, and the models that check them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import Field, model_validator

from visiontok.base.config import Config, Positive
from visiontok.base.errors import ConfigError
from visiontok.base.markdown import escaped
from visiontok.base.resources import configs_folder, find_yaml, yaml_files
from visiontok.base.yaml_files import read_yaml
from visiontok.data import CenterCrop, DataConfig, LoaderConfig, TextsConfig
from visiontok.data.crops import Crop
from visiontok.data.train_loader import FrameStride
from visiontok.hub import ModelCard
from visiontok.losses import ObjectiveConfig, ReconstructionConfig
from visiontok.quantizers import LatentPerturbationConfig
from visiontok.signals import ImagePreprocessing, Preprocessing
from visiontok.training.ema import WeightEmaConfig
from visiontok.training.logging import LoggingConfig
from visiontok.training.optimizer import OptimizerConfig
from visiontok.training.schedule import ScheduleConfig
from visiontok.training.starting_model import ModelConfig


class CheckpointsConfig(Config):
    """When to save, and how many to keep.

    Attributes:
        every: steps between two checkpoints; the last step is always saved.
        keep_last: older ones are removed.
    """

    every: Positive = 1000
    keep_last: Positive = 2


class SampleImagesConfig(Config):
    """Grids of samples: reconstructions above their originals, or generated samples.

    Attributes:
        every: steps between two grids; 0 for none. The last step always has one.
        count: samples per grid.
    """

    every: Annotated[int, Field(ge=0)] = 1000
    count: Positive = 16

    def due(self, step: int, steps: int) -> bool:
        """Whether a grid is due after `step` of `steps` steps."""
        return self.every > 0 and (step % self.every == 0 or step == steps)


class ValidationConfig(Config):
    """Samples that are not trained on, and when the model is evaluated on them.

    Without a `source`, samples are held out of the training data: those whose keys have the lowest hashes, so the same ones for every seed, number
    of processes and resume; `num_samples` of them, or a twentieth of the data if that is less, none of fewer than twenty.

    Attributes:
        source: of the samples instead, as in `data`; it may hold more than are used.
        num_samples: at most so many are used, those whose keys have the lowest hashes.
        every: steps between two validations. The last step always has one, whose results are on the model card.
    """

    source: DataConfig | None = None
    num_samples: Positive = 256
    every: Positive = 1000


class TokenValidationConfig(ValidationConfig):
    """The same for generators.

    Attributes:
        tokens: folder of a token set to validate on, where the recipe trains on one.
    """

    tokens: Path | None = None


class SignalsConfig(Config):
    """Signals to train on.

    Attributes:
        source: a source and its options, or the short form `digits:train`, `folder:/path`.
        size: what is cut out of every signal: one number for the side of the square of images and frames, or the samples of sound; or one number per
            axis. None for the tokenizer's own size, or, where it takes any, for whole signals.
        crop: `center`, `random` or `random_scale`, or one of them with options.
        frame_stride: of clips, take every n-th frame; of two numbers, n is drawn between them for every sample.
        flip: mirror half of the samples (images and video).
        permute_colors: exchange red, green and blue in an order drawn for every sample.
        interpolation: of every resize, always with antialiasing.
        num_workers: processes that prepare batches; 0 prepares them in the training process.
        cache_bytes: decoded signals kept in memory, over all workers.
    """

    source: DataConfig
    size: Positive | tuple[Positive, ...] | None = None
    crop: Crop = CenterCrop()
    frame_stride: FrameStride = 1
    flip: bool = False
    permute_colors: bool = False
    interpolation: Literal["bicubic", "bilinear", "lanczos"] = "bicubic"
    num_workers: Annotated[int, Field(ge=0)] = 0
    cache_bytes: Annotated[int, Field(ge=0)] = 2**28

    def loader(self, preprocessing: Preprocessing, *, batch_size: int, seed: int) -> LoaderConfig:
        """The loader's configuration.

        Args:
            preprocessing: of the tokenizer.
            batch_size: samples per step, over all processes.
            seed: of the order and of the augmentation.

        Raises:
            ConfigError: if neither the recipe nor the tokenizer names a size of images.
        """
        size = self.size
        if size is None and isinstance(preprocessing, ImagePreprocessing):
            size = preprocessing.size
            if size is None:
                raise ConfigError("this tokenizer takes images of any size: name the one to train at, for example data.size=256")
        options = self.model_dump(exclude={"source", "size"})
        return LoaderConfig.parse({**options, "size": size, "batch_size": batch_size, "seed": seed})


class JointImagesConfig(Config):
    """Images that a tokenizer of clips is trained on in turn with these, as clips of one frame.

    Attributes:
        every: of so many steps, the last one is of images, the others of clips: 2 takes them in turn.
        batch_size: images of such a step, over all processes and micro-batches; None for as many as clips.
        data: the images, and how they are cut.
    """

    every: Annotated[int, Field(ge=2)] = 2
    batch_size: Positive | None = None
    data: SignalsConfig


class TokensConfig(Config):
    """Tokens to train a generator on: a set that `visiontok tokenize` wrote, or signals that the recipe's `tokenizer` encodes at every step.

    Attributes:
        tokens: folder of a token set.
        num_workers: processes that read it; 0 reads in the training process.
        signals: what to encode instead; slower, but with fresh crops and flips in every epoch.
    """

    tokens: Path | None = None
    num_workers: Annotated[int, Field(ge=0)] = 0
    signals: SignalsConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> TokensConfig:
        if (self.tokens is None) == (self.signals is None):
            raise ValueError("give `tokens` (folder of a token set) or `signals` (to encode at every step), one of the two")
        if self.signals is not None and self.num_workers:
            raise ValueError(f"num_workers {self.num_workers} is of `tokens`: set signals.num_workers")
        return self


class Recipe(Config, ABC):
    """What every recipe holds.

    Attributes:
        seed: of the initial weights, the order of the samples and every draw.
        output: folder of the run.
        steps: length of the run in optimizer steps.
        batch_size: samples per step, over all processes and micro-batches.
        accumulate: micro-batches per step and process.
        precision: of the forward pass; weights, their average and the optimizer stay in float32.
        parallel: what several processes do: `ddp` keeps the whole model on each, `fsdp` a part of it (generators, without fp16); see `sharding.py`.
        gradient_checkpointing: keep the inputs of transformer blocks only, and compute the blocks again in the backward pass: less memory, more time,
            the same steps.
        threads: CPU threads of a process; None leaves torch's choice alone. Another number rounds differently.
        model, optimizer, schedule, ema, validation, checkpoints, logging, sample_images: see their classes; `ema: null` keeps no average,
            `validation: null` trains on all of the data.
    """

    kind: str
    seed: Annotated[int, Field(ge=0)] = 0
    output: Path
    steps: Positive
    batch_size: Positive
    accumulate: Positive = 1
    precision: Literal["no", "bf16", "fp16"] = "no"
    parallel: Literal["ddp", "fsdp"] = "ddp"
    gradient_checkpointing: bool = False
    threads: Positive | None = None
    model: ModelConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    ema: WeightEmaConfig | None = WeightEmaConfig()
    validation: ValidationConfig | None = ValidationConfig()
    checkpoints: CheckpointsConfig = CheckpointsConfig()
    logging: LoggingConfig = LoggingConfig()
    sample_images: SampleImagesConfig = SampleImagesConfig()

    @property
    def run_name(self) -> str:
        """The name of the run's folder."""
        return self.output.resolve().name

    @property
    def final_weights(self) -> str:
        """Which weights are sampled from and exported."""
        return "model" if self.ema is None else "ema"

    @abstractmethod
    def in_words(self) -> str:
        """What the model was trained on, for its card."""

    def card(self) -> ModelCard:
        """What the run knows of its model: its name, its data, and the recipe as it was given, without the folder of the run."""
        values = self.model_dump(mode="json", exclude_unset=True, exclude={"output", "kind"})
        text = yaml.safe_dump({"kind": self.kind, **_without_folders(values)}, sort_keys=False, allow_unicode=True)
        return ModelCard(name=self.run_name, trained_on=escaped(self.in_words()), recipe=text)

    def _length(self) -> str:
        weights = "The weights" if self.ema is None else f"The average of the weights (decay {self.ema.decay:g})"
        return f"{weights} after {self.steps:,} steps with batches of {self.batch_size}"

    def validates(self, step: int) -> bool:
        """Whether a validation is due after `step` steps."""
        return self.validation is not None and (step % self.validation.every == 0 or step == self.steps)

    def check_division(self, processes: int) -> None:
        """Make sure that every process gets equal micro-batches.

        Raises:
            ConfigError: if the batch does not divide.
        """
        if self.batch_size % (processes * self.accumulate):
            raise ConfigError(
                f"batch_size {self.batch_size} does not divide into {processes} processes with {self.accumulate} micro-batches each; "
                f"choose a multiple of {processes * self.accumulate}"
            )


class TokenizerRecipe(Recipe):
    """How to train a tokenizer.

    Attributes:
        data: signals.
        images: to train on in turn with clips; None for none.
        objective: what the tokenizer is trained for; see `visiontok.losses`.
        discriminator_optimizer: of the objective's discriminator, where it has one.
        perturbation: of the codes that the decoder reads in training, for any tokenizer with a codebook; None for none.
        text: what text goes with a signal, for tokenizers that read one; None for the others.
    """

    kind: Literal["tokenizer"]
    data: SignalsConfig
    images: JointImagesConfig | None = None
    objective: ObjectiveConfig = ReconstructionConfig()
    discriminator_optimizer: OptimizerConfig = OptimizerConfig()
    perturbation: LatentPerturbationConfig | None = None
    text: TextsConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> TokenizerRecipe:
        if self.parallel == "fsdp":
            raise ValueError("parallel=fsdp shards generators only: quantizers and discriminators update whole tensors; set parallel=ddp")
        return self

    def check_division(self, processes: int) -> None:
        super().check_division(processes)
        if self.images is not None and self.images.batch_size is not None:
            self.model_copy(update={"batch_size": self.images.batch_size, "images": None}).check_division(processes)

    def in_words(self) -> str:
        """What the model was trained on, for its card."""
        images = "" if self.images is None else f", and at every {self.images.every}th step of {source_in_words(self.images.data.source)}"
        return f"{self._length()} samples of {source_in_words(self.data.source)}{images}."


class GeneratorRecipe(Recipe):
    """How to train a generator. What its configuration omits of `layout`, `condition` and `tokenizer` follows from the data.

    Attributes:
        data: tokens.
        tokenizer: released name, hub repository or folder; encodes `data.signals`, and decodes samples. None for no sample images.
        text: what text goes with a signal, for tokenizers whose encoder reads one, and for generators conditioned on texts; None takes captions.
        validation: on another source of signals, or on another token set.
        allow_other_tokenizer: train on tokens of another tokenizer than `tokenizer`, or than the generator was trained on before.
    """

    kind: Literal["generator"]
    data: TokensConfig
    tokenizer: str | None = None
    text: TextsConfig | None = None
    validation: TokenValidationConfig | None = TokenValidationConfig()
    allow_other_tokenizer: bool = False

    @model_validator(mode="after")
    def _check(self) -> GeneratorRecipe:
        if self.parallel == "fsdp" and self.precision == "fp16":
            raise ValueError("parallel=fsdp has no gradient scaler for precision fp16: set precision=bf16")
        if self.data.signals is not None and self.tokenizer is None:
            raise ValueError("data.signals must be encoded: name the `tokenizer`")
        if self.validation is not None and self.data.signals is not None and self.validation.tokens is not None:
            raise ValueError(f"validation.tokens {self.validation.tokens} cannot be used with data.signals: give a validation.source")
        if self.validation is not None and self.data.tokens is not None and self.validation.source is not None:
            raise ValueError(f"validation.source {self.validation.source.name} cannot be used with data.tokens: give validation.tokens")
        return self

    def in_words(self) -> str:
        """What the model was trained on, for its card."""
        if self.data.signals is not None:
            return f"{self._length()} samples of {source_in_words(self.data.signals.source)}, as tokens."
        return f"{self._length()} samples of the token set {Path(self.data.tokens or '').name}."


class DrafterRecipe(Recipe):
    """How to train a drafter for a generator. The sizes that its configuration omits are the generator's.

    Attributes:
        generator: released name, hub repository or folder of the generator, which is not trained.
        tokens: folder of a token set; best one that the generator sampled, or the one that it was trained on.
        text: what text goes with a sample, for generators conditioned on texts; None takes captions.
        validation: none; how many tokens are accepted is measured by sampling.
    """

    kind: Literal["drafter"]
    generator: str
    tokens: Path
    text: TextsConfig | None = None
    model: ModelConfig = ModelConfig(family="eagle")
    validation: None = None
    sample_images: SampleImagesConfig = SampleImagesConfig(every=0)

    def in_words(self) -> str:
        """What the model was trained on, for its card."""
        generator = Path(self.generator).name if Path(self.generator).is_absolute() else self.generator
        return f"{self._length()} samples of the token set {self.tokens.name}, for the generator {generator}."


AnyRecipe: TypeAlias = TokenizerRecipe | GeneratorRecipe | DrafterRecipe

_KINDS: dict[str, type[AnyRecipe]] = {"tokenizer": TokenizerRecipe, "generator": GeneratorRecipe, "drafter": DrafterRecipe}


def _without_folders(value: Any) -> Any:
    """Plain values with absolute paths cut to their last part."""
    if isinstance(value, Mapping):
        return {key: _without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_folders(entry) for entry in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def source_in_words(source: DataConfig) -> str:
    """`digits (split train)`; of paths only the last part, for cards that others read."""
    options = source.model_dump(exclude={"name"}, exclude_none=True)
    named = [f"{key} {Path(value).name if key == 'path' else value}" for key, value in options.items()]
    return f"{source.name} ({', '.join(named)})" if named else source.name


def parse_recipe(values: Mapping[str, Any], *, source: str = "the recipe") -> AnyRecipe:
    """Check plain values.

    Raises:
        ConfigError: with one line per unknown key or value out of range.
    """
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigError(f"{source}: `kind` is {kind!r}; set it to tokenizer, generator or drafter")
    return _KINDS[kind].parse(values, source=source)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> AnyRecipe:
    """Read a YAML recipe, apply overrides such as "optimizer.lr=1e-4" and check the result.

    Args:
        path: a file, or the name of a recipe that comes with visiontok, such as "generators/gpt-b".
        overrides: dotted keys and YAML values.

    Raises:
        UnknownNameError: if there is neither a bundled recipe nor a file of that name, with close matches.
        ConfigError: if the file cannot be read, is not a mapping, or holds unknown keys or values out of range.
    """
    return parse_recipe(
        read_yaml(find_yaml(path, yaml_files(configs_folder(), deep=True), what="recipe"), overrides, what="recipe"), source=str(path)
    )
