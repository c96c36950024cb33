"""The definition of a study: a YAML file and the model that validates it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from visiontok.base.config import Config
from visiontok.base.resources import find_yaml, suites_folder, yaml_files
from visiontok.base.yaml_files import read_yaml
from visiontok.evaluation import BootstrapConfig, GenerationSuite, Suite
from visiontok.quantizers.dimension_wise import MOST_LEVELS

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
"""Also the name of a folder."""

GENERATED = "generated "
"""Prefix of the names of metrics of generated samples."""


class Trained(Config):
    """A recipe, by name or path, and overrides of it."""

    recipe: str
    overrides: tuple[str, ...] = ()


class QuantizedArm(Config):
    """The continuous tokenizer of another arm, quantized dimension by dimension without training.

    Attributes:
        quantizes: name of that arm.
        levels: values per dimension.
        spread: range of the values, in root mean squares of the latents of the training data; 5 is the published range for latents of unit
            variance.
    """

    quantizes: str
    levels: Annotated[int, Field(ge=2, le=MOST_LEVELS)]
    spread: Annotated[float, Field(gt=0)] = 5.0


class StudyData(Config):
    """One data set.

    Attributes:
        overrides: of every tokenizer's recipe, to train on it.
        reconstruction: suite for tokenizers.
        generation: suite for generators; required with the study's `generator`, and only then.
    """

    overrides: tuple[str, ...]
    reconstruction: Suite
    generation: GenerationSuite | None = None


class ArmDifference(Config):
    """The second arm minus the first in one metric, paired by seed; the interval is over resampled seeds."""

    type: Literal["difference"]
    question: str
    metric: str
    arms: tuple[str, str]


class Correlation(Config):
    """Spearman's and Kendall's rank correlation of two metrics over all tokenizers; the interval is over resampled tokenizers."""

    type: Literal["correlation"]
    question: str
    metrics: tuple[str, str]


class Trend(Config):
    """Spearman's rank correlation of a metric with the number of tokens kept, within each run; the interval is over resampled seeds."""

    type: Literal["trend"]
    question: str
    metric: str
    arm: str


class Mean(Config):
    """The mean of a metric of one arm, compared with the number `against`; the interval is over resampled seeds."""

    type: Literal["mean"]
    question: str
    metric: str
    arm: str
    against: float = 0.0


Comparison = Annotated[ArmDifference | Correlation | Trend | Mean, Field(discriminator="type")]


class Study(Config):
    """Every arm, trained and evaluated on every data set with every seed, and comparisons of the results.

    Attributes:
        title: heading of its page.
        question: the claim, in words, with its source.
        setting: models, data and training, in words.
        seeds: of tokenizers, generators and samples.
        data: data sets by name.
        arms: tokenizers by name.
        generator: trained on the tokens of every arm; None for studies of tokenizers alone.
        shown: metrics that the page tabulates; "generated " precedes the names of metrics of generated samples. Here and in comparisons, a
            metric of features may be named without its extractor ("FD" for "FD[digit-classifier]") where a data set has one extractor.
        comparisons: of the results.
        bootstrap: for all intervals.
    """

    title: str
    question: str
    setting: str = ""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    data: dict[Name, StudyData] = Field(min_length=1)
    arms: dict[Name, Trained | QuantizedArm] = Field(min_length=1)
    generator: Trained | None = None
    shown: tuple[str, ...] = Field(min_length=1)
    comparisons: tuple[Comparison, ...] = Field(min_length=1)
    bootstrap: BootstrapConfig = BootstrapConfig()

    @model_validator(mode="after")
    def _check(self) -> Study:
        for name, arm in self.arms.items():
            if isinstance(arm, QuantizedArm) and not isinstance(self.arms.get(arm.quantizes), Trained):
                raise ValueError(f"the arm {name} quantizes {arm.quantizes!r}; expected a trained arm of this study")
        for comparison in self.comparisons:
            named = comparison.arms if isinstance(comparison, ArmDifference) else (comparison.arm,) if isinstance(comparison, Trend | Mean) else ()
            for arm_name in named:
                if arm_name not in self.arms:
                    raise ValueError(f"{comparison.question!r} names the arm {arm_name!r}; expected one of {', '.join(self.arms)}")
        for name, data in self.data.items():
            if (data.generation is None) != (self.generator is None):
                raise ValueError(f"data.{name}.generation is required with the study's `generator`, and only then")
            if data.generation is not None and data.generation.num_samples is None:
                raise ValueError(f"data.{name}.generation.num_samples is required: the number of samples")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {self.seeds} are not unique")
        return self


def list_studies() -> list[str]:
    """Names of the bundled studies."""
    return sorted(yaml_files(suites_folder() / "studies"))


def load_study(name: str | Path, overrides: Sequence[str] = ()) -> Study:
    """A study by name, or from a YAML file, with overrides such as "seeds=[0,1]".

    Raises:
        UnknownNameError: if there is neither a study nor a file of that name, with close matches.
        ConfigError: if the file cannot be read, or holds unknown keys or values.
    """
    path = find_yaml(name, yaml_files(suites_folder() / "studies"), what="study")
    return Study.parse(read_yaml(path, overrides, what="study"), source=f"the study {path}")
