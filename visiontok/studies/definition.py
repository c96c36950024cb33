"""The definition of a study: a YAML file and the model that validates it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

PARAMETERS = "generator parameters"
"""Name of the number of a generator's parameters, among the metrics."""


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


class Generated(Config):
    """A generator that is trained on the tokens of another arm.

    Attributes:
        tokens_of: name of that arm, a tokenizer.
        recipe: of the generator, by name or path.
        overrides: of the recipe.
    """

    tokens_of: str
    recipe: str
    overrides: tuple[str, ...] = ()


class Sampled(Config):
    """The generator of another arm, sampled with other settings.

    Attributes:
        generator_of: name of that arm.
        sampling: settings of the sampler that differ from those of the arm.
    """

    generator_of: str
    sampling: dict[str, float | int | str | bool | None] = Field(min_length=1)


class StudyData(Config):
    """One data set.

    Attributes:
        overrides: of every tokenizer's recipe, to train on it.
        reconstruction: suite for tokenizers, and for what generators know of held-out tokens.
        generation: suite for samples of generators; required where an arm has one, and only then.
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


class Concordance(Config):
    """The share of pairs of arms, trained with the same seed, that two metrics put in the same order; half by chance. Ties in one of them count half.

    The interval is over resampled seeds, so it is about these arms.

    Attributes:
        metrics: both; where one is better low and the other high, a small share means that they agree.
        against: the share that the interval is compared with.
    """

    type: Literal["concordance"]
    question: str
    metrics: tuple[str, str]
    against: Annotated[float, Field(ge=0, le=1)] = 0.5


Comparison = Annotated[ArmDifference | Correlation | Trend | Mean | Concordance, Field(discriminator="type")]


@dataclass(frozen=True)
class ArmParts:
    """What an arm consists of.

    Attributes:
        tokenizer: name of the arm that is its tokenizer.
        owner: name of the arm that trains its generator.
        generator: the recipe; None where there is no generator.
        sampling: settings of its samples that differ from the generator's.
    """

    tokenizer: str
    owner: str
    generator: Trained | Generated | None
    sampling: Mapping[str, float | int | str | bool | None]


class Study(Config):
    """Every arm, trained and evaluated on every data set with every seed, and comparisons of the results.

    Attributes:
        title: heading of its page.
        question: the claim, in words, with its source.
        setting: models, data and training, in words.
        conclusion: what the results show and what does not follow from them, in words; written when they are known.
        seeds: of tokenizers, generators and samples.
        data: data sets by name.
        arms: by name: tokenizers, generators and ways of sampling.
        generator: trained on the tokens of every tokenizer; None where there is none, or where arms are generators.
        shown: metrics that the page tabulates; "generated " precedes the names of metrics of generated samples, and "generator parameters" is
            their number. Here and in comparisons, a
            metric of features may be named without its extractor ("FD" for "FD[digit-classifier]") where a data set has one extractor.
        comparisons: of the results.
        bootstrap: for all intervals.
    """

    title: str
    question: str
    setting: str = ""
    conclusion: str = ""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    data: dict[Name, StudyData] = Field(min_length=1)
    arms: dict[Name, Trained | QuantizedArm | Generated | Sampled] = Field(min_length=1)
    generator: Trained | None = None
    shown: tuple[str, ...] = Field(min_length=1)
    comparisons: tuple[Comparison, ...] = Field(min_length=1)
    bootstrap: BootstrapConfig = BootstrapConfig()

    @model_validator(mode="after")
    def _check(self) -> Study:
        for name, arm in self.arms.items():
            self._check_arm(name, arm)
        for comparison in self.comparisons:
            named = comparison.arms if isinstance(comparison, ArmDifference) else (comparison.arm,) if isinstance(comparison, Trend | Mean) else ()
            for arm_name in named:
                if arm_name not in self.arms:
                    raise ValueError(f"{comparison.question!r} names the arm {arm_name!r}; expected one of {', '.join(self.arms)}")
        has_generator = any(self.parts(name).generator is not None for name in self.arms)
        for name, data in self.data.items():
            if (data.generation is None) == has_generator:
                raise ValueError(f"data.{name}.generation is required where an arm has a generator, and only then")
            if data.generation is not None and data.generation.num_samples is None:
                raise ValueError(f"data.{name}.generation.num_samples is required: the number of samples")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {self.seeds} are not unique")
        return self

    def _check_arm(self, name: str, arm: Trained | QuantizedArm | Generated | Sampled) -> None:
        if isinstance(arm, QuantizedArm) and not isinstance(self.arms.get(arm.quantizes), Trained):
            raise ValueError(f"the arm {name} quantizes {arm.quantizes!r}; expected a trained arm of this study")
        if isinstance(arm, Generated) and not isinstance(self.arms.get(arm.tokens_of), Trained | QuantizedArm):
            raise ValueError(f"the arm {name} generates tokens of {arm.tokens_of!r}; expected an arm of this study that is a tokenizer")
        if isinstance(arm, Sampled):
            sampled = self.arms.get(arm.generator_of)
            if sampled is None or isinstance(sampled, Sampled) or self.parts(arm.generator_of).generator is None:
                raise ValueError(f"the arm {name} samples the generator of {arm.generator_of!r}; expected an arm of this study that trains one")

    def parts(self, arm: str) -> ArmParts:
        """What an arm consists of."""
        found, owner, sampling = self.arms[arm], arm, {}
        if isinstance(found, Sampled):
            owner, sampling = found.generator_of, found.sampling
            found = self.arms[owner]
        if isinstance(found, Generated):
            return ArmParts(found.tokens_of, owner, found, sampling)
        return ArmParts(owner, owner, self.generator, sampling)


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
