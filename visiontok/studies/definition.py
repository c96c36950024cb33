"""What a study is: a YAML file and the model that checks it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from visiontok.base.config import Config
from visiontok.base.resources import suites_folder
from visiontok.base.yaml_files import read_yaml
from visiontok.evaluation import BootstrapConfig, GenerationSuite, Suite
from visiontok.quantizers.dimension_wise import MOST_LEVELS
from visiontok.registry import unknown

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
"""Of a folder too."""

GENERATED = "generated "
"""Stands before the names of what is measured of generated pictures."""


class Trained(Config):
    """A recipe, by name or path, and what an arm changes in it."""

    recipe: str
    overrides: tuple[str, ...] = ()


class Quantized(Config):
    """Another arm's continuous tokenizer, quantized dimension by dimension without further training.

    Attributes:
        quantizes: name of that arm.
        levels: values per dimension.
        spread: latents beyond that many root mean squares of the training data's latents become the outermost value; 5 is the published
            range where latents have unit variance.
    """

    quantizes: str
    levels: Annotated[int, Field(ge=2, le=MOST_LEVELS)]
    spread: Annotated[float, Field(gt=0)] = 5.0


class StudyData(Config):
    """One data set.

    Attributes:
        overrides: that make every tokenizer's recipe train on it.
        reconstruction: what is measured of tokenizers.
        generation: what is measured of generators; only with the study's `generator`.
    """

    overrides: tuple[str, ...]
    reconstruction: Suite
    generation: GenerationSuite | None = None


class Difference(Config):
    """Second arm minus first in one metric, seed by seed; the interval is over resampled seeds."""

    type: Literal["difference"]
    question: str
    metric: str
    arms: tuple[str, str]


class Correlation(Config):
    """Do two metrics order all trained tokenizers alike? Spearman's and Kendall's coefficients; the interval is over resampled tokenizers."""

    type: Literal["correlation"]
    question: str
    metrics: tuple[str, str]


class Trend(Config):
    """Spearman's correlation of a metric with the number of tokens that are kept, within each run; the interval is over resampled seeds."""

    type: Literal["trend"]
    question: str
    metric: str
    arm: str


class Mean(Config):
    """A metric of one arm, held against a number; the interval is over resampled seeds."""

    type: Literal["mean"]
    question: str
    metric: str
    arm: str
    against: float = 0.0


Comparison = Annotated[Difference | Correlation | Trend | Mean, Field(discriminator="type")]


class Study(Config):
    """Every arm is trained on every data set with every seed, measured, and compared.

    Attributes:
        title: of the page.
        question: the claim, in words, with its source.
        setting: what was trained and measured, in words.
        seeds: of tokenizers, generators and samples.
        data: data sets by name.
        arms: tokenizers by name.
        generator: trained on the tokens of every arm; None for studies of tokenizers alone.
        shown: metrics that the page tabulates, those of generated pictures with "generated " before their name. Here and in comparisons, a
            metric over features may be named without its extractor, "FD" for "FD[digit-classifier]", where a data set has one extractor.
        comparisons: what is asked of the measurements.
        bootstrap: of all intervals.
    """

    title: str
    question: str
    setting: str = ""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    data: dict[Name, StudyData] = Field(min_length=1)
    arms: dict[Name, Trained | Quantized] = Field(min_length=1)
    generator: Trained | None = None
    shown: tuple[str, ...] = Field(min_length=1)
    comparisons: tuple[Comparison, ...] = Field(min_length=1)
    bootstrap: BootstrapConfig = BootstrapConfig()

    @model_validator(mode="after")
    def _check(self) -> Study:
        for name, arm in self.arms.items():
            if isinstance(arm, Quantized) and not isinstance(self.arms.get(arm.quantizes), Trained):
                raise ValueError(f"the arm {name} quantizes {arm.quantizes!r}, which is no trained arm of this study")
        for comparison in self.comparisons:
            named = comparison.arms if isinstance(comparison, Difference) else (comparison.arm,) if isinstance(comparison, Trend | Mean) else ()
            for wanted in named:
                if wanted not in self.arms:
                    raise ValueError(f"{comparison.question!r} names the arm {wanted!r}; there are {', '.join(self.arms)}")
        for name, data in self.data.items():
            if (data.generation is None) != (self.generator is None):
                raise ValueError(f"the data set {name} and the study must both have generation, or neither: one says what is measured of the other")
            if data.generation is not None and data.generation.num_samples is None:
                raise ValueError(f"data.{name}.generation.num_samples is missing: how many pictures are to be sampled?")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {self.seeds} names one twice")
        return self


def list_studies() -> list[str]:
    """Names of the studies that come with the library."""
    return sorted(path.stem for path in (suites_folder() / "studies").glob("*.yaml"))


def load_study(name: str | Path, overrides: Sequence[str] = ()) -> Study:
    """A study by name, or from a YAML file, with overrides such as "seeds=[0,1]".

    Raises:
        UnknownNameError: if there is neither a study nor a file of that name, with close matches.
        ConfigError: if the file cannot be read, or holds unknown keys or values.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = suites_folder() / "studies" / f"{name}.yaml"
        if str(name) not in list_studies():
            raise unknown("study", str(name), list_studies())
    return Study.parse(read_yaml(path, overrides, what="study"), source=f"the study {path}")
