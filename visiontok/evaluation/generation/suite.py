"""What to evaluate of generated samples, and against what: the YAML files with `task: generation`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from visiontok.base.config import Config, Positive
from visiontok.base.file_names import Name
from visiontok.base.names import unknown
from visiontok.data import DataConfig
from visiontok.evaluation.features import EXTRACTORS
from visiontok.evaluation.features.i3d import I3DPipeline
from visiontok.evaluation.features.statistics import Split
from visiontok.evaluation.generation.sampling import ClassOrder
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.registry import METRICS, check_names


class StatisticsFile(Config):
    """Stored statistics of real samples, for one extractor.

    Attributes:
        path: .npz of ADM, pytorch-fid or clean-fid, or .pt of torch-fidelity.
        extractor: over whose features they were computed.
        split, count: of which samples and how many, where the file does not contain it.
    """

    path: str
    extractor: str
    split: Split | None = None
    count: Annotated[int, Field(gt=1)] | None = None


class GenerationSuite(Config):
    """What to evaluate of generated samples, and against what.

    Attributes:
        task: what is evaluated.
        name: in results and in the names of their files.
        description: one sentence.
        reference: the source of the real samples.
        statistics: instead of it, files with statistics of real samples.
        size: side of the squares in pixels to which real images and the frames of real clips are resized; generated ones must have it. Required for
            images; None for clips of their own size, and for sound.
        num_samples: how many to sample; of given samples, the number that is expected. None for any number of given samples.
        class_order: see `SamplePlan`.
        sampling: settings of the sampler, such as guidance.
        metrics: `frechet`, `kernel_distance`, `cmmd`, `manifold` (precision, recall, density, coverage) over every extractor,
            `inception_score` over Inception's; `classifier`: do classifiers predict the class that was requested?
        extractors: whose features the distances are computed over.
        fvd: a further extractor, for distances of clips: every choice of its pipeline by itself, where none of the named extractors makes them.
        seed: of the samples, and of the choice of real samples, where there are more of them than generated ones.
        seeds: of the samples instead: as many sets are sampled and evaluated, and the numbers are means over them; empty for one set.
        batch_size: samples at a time.
        bootstrap: of the confidence intervals.
        allow_unequal_counts: compare with fewer real samples than generated ones.
        allow_few_samples: compute distances also with no more samples than features.
    """

    task: Literal["generation"] = "generation"
    name: Name = "generation"
    description: str = ""
    reference: DataConfig | None = None
    statistics: tuple[StatisticsFile, ...] = ()
    size: Positive | None = None
    num_samples: Positive | None = None
    class_order: ClassOrder = "cycle"
    sampling: dict[str, float | int | str | bool | None] = Field(default_factory=dict)
    metrics: tuple[str, ...] = Field(default=("frechet", "classifier"), min_length=1)
    extractors: tuple[str, ...] = ()
    fvd: I3DPipeline | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = ()
    batch_size: Positive = 64
    bootstrap: BootstrapConfig = BootstrapConfig()
    allow_unequal_counts: bool = False
    allow_few_samples: bool = False

    @model_validator(mode="after")
    def _check(self) -> GenerationSuite:
        check_names(self.metrics, "generation")
        for name in self.extractors:
            if name not in EXTRACTORS:
                raise ValueError(str(unknown("feature extractor", name, EXTRACTORS)))
        if not self.extractors and self.fvd is None:
            raise ValueError(f"extractors names none; expected some of {', '.join(EXTRACTORS)}, or fvd")
        if (self.reference is None) == (not self.statistics):
            raise ValueError("give a reference, the source of real samples, or statistics, files made from them; one of the two")
        made = [file.extractor for file in self.statistics]
        if self.statistics and sorted(made) != sorted(self.extractors):
            raise ValueError(f"statistics must name one file for each of the extractors {', '.join(self.extractors)}, got {', '.join(made)}")
        impossible = [metric for metric in self.metrics if "reference samples" in METRICS[metric].needs]
        if self.statistics and impossible:
            raise ValueError(f"{', '.join(impossible)} need the real samples themselves, not their statistics: give a reference")
        if len(self.seeds) == 1 or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be two or more different numbers, got {', '.join(map(str, self.seeds))}; for a single one, set seed")
        return self
