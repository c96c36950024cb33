"""What to measure of generated pictures, and against what: the YAML files with `task: generation`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from visiontok.base.config import Config, Positive
from visiontok.data import DataConfig
from visiontok.evaluation.features import EXTRACTORS
from visiontok.evaluation.features.statistics import Split
from visiontok.evaluation.generation.sampling import ClassOrder
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig

GenerationMetric = Literal["frechet", "kernel_distance", "cmmd", "manifold", "inception_score", "classifier"]
AGAINST_PICTURES: tuple[GenerationMetric, ...] = ("kernel_distance", "cmmd", "manifold")
"""Metrics that compare single pictures with single pictures, so that stored means and covariances are not enough."""


class StatisticsFile(Config):
    """The real side as somebody stored it, for one extractor.

    Attributes:
        path: .npz of ADM, pytorch-fid or clean-fid, or .pt of torch-fidelity.
        extractor: over whose features it was made.
        split, count: of which pictures and how many, where the file does not say it.
    """

    path: str
    extractor: str
    split: Split | None = None
    count: Annotated[int, Field(gt=1)] | None = None


class GenerationSuite(Config):
    """What to measure of generated pictures, and against what.

    Attributes:
        task: what is measured.
        name: in results.
        description: one sentence.
        reference: the source of the real pictures.
        statistics: instead of it, files with statistics of real pictures.
        size: side of the square that real pictures are brought to, in pixels; the generated ones must have it.
        num_samples: how many to sample; of given samples, the number that is expected. None for any number of given samples.
        class_order: see `SamplePlan`.
        sampling: numbers of the sampler, such as guidance.
        metrics: `frechet`, `kernel_distance`, `cmmd`, `manifold` (precision, recall, density, coverage) over every extractor,
            `inception_score` over Inception's; `classifier`: do extractors that classify see the class that was asked for?
        extractors: whose features the distances are computed over.
        seed: of the samples, and of the choice of real pictures, where there are more of them than generated ones.
        seeds: of the samples instead: as many sets are sampled and measured, and the numbers are means over them; empty for one set.
        batch_size: pictures at a time.
        bootstrap: of the confidence intervals.
        allow_unequal_counts: compare with fewer real pictures than generated ones.
        allow_few_samples: compute distances also with no more samples than features.
    """

    task: Literal["generation"] = "generation"
    name: str = "generation"
    description: str = ""
    reference: DataConfig | None = None
    statistics: tuple[StatisticsFile, ...] = ()
    size: Positive
    num_samples: Positive | None = None
    class_order: ClassOrder = "cycle"
    sampling: dict[str, float | int | str | bool | None] = Field(default_factory=dict)
    metrics: tuple[GenerationMetric, ...] = Field(default=("frechet", "classifier"), min_length=1)
    extractors: tuple[str, ...] = Field(min_length=1)
    seed: Annotated[int, Field(ge=0)] = 0
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = ()
    batch_size: Positive = 64
    bootstrap: BootstrapConfig = BootstrapConfig()
    allow_unequal_counts: bool = False
    allow_few_samples: bool = False

    @model_validator(mode="after")
    def _check(self) -> GenerationSuite:
        for name in self.extractors:
            if name not in EXTRACTORS:
                raise ValueError(f"there is no feature extractor {name!r}; known: {', '.join(EXTRACTORS)}")
        if (self.reference is None) == (not self.statistics):
            raise ValueError("give a reference, the source of real pictures, or statistics, files made from them; one of the two")
        made = [file.extractor for file in self.statistics]
        if self.statistics and sorted(made) != sorted(self.extractors):
            raise ValueError(f"statistics must name one file for each of the extractors {', '.join(self.extractors)}, got {', '.join(made)}")
        impossible = [metric for metric in self.metrics if metric in AGAINST_PICTURES]
        if self.statistics and impossible:
            raise ValueError(f"{', '.join(impossible)} need the real pictures themselves, not their statistics: give a reference")
        if len(self.seeds) == 1 or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds are two or more different ones, got {', '.join(map(str, self.seeds))}; for a single one say seed")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metrics names one twice: {', '.join(self.metrics)}")
        return self

    @property
    def over_sets(self) -> tuple[GenerationMetric, ...]:
        """Those metrics that need the features of all pictures at once."""
        return tuple(metric for metric in self.metrics if metric in (*AGAINST_PICTURES, "inception_score"))
