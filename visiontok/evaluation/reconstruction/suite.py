"""What to measure of reconstructions, on which images, under which protocol: the YAML files with `task: reconstruction`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from visiontok.base.config import Config, Positive
from visiontok.data import DataConfig, TextsConfig
from visiontok.evaluation.features import EXTRACTORS, Classifier
from visiontok.evaluation.features.protocol import PROTOCOLS
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.perturbation_grid import PerturbationGrid

Metric = Literal[
    "mse",
    "psnr",
    "ssim",
    "ms_ssim",
    "lpips.alex",
    "lpips.vgg",
    "lpips.squeeze",
    "dists",
    "codebook",
    "rate",
    "token_statistics",
    "complexity",
    "frechet",
    "perturbed_frechet",
    "kernel_distance",
    "cmmd",
    "manifold",
    "inception_score",
    "classifier",
]
OVER_FEATURES: tuple[Metric, ...] = ("frechet", "perturbed_frechet", "kernel_distance", "cmmd", "manifold", "inception_score")


class Suite(Config):
    """One measurement of reconstructions.

    Attributes:
        task: what is measured.
        name: in results.
        description: one sentence.
        data: the source of the pictures.
        protocol: a published way of scoring by name, see `evaluation.protocol.PROTOCOLS`: its crop, its rounding of reconstructions, and for
            distances its extractor beside those named here. None for the crop below, and rounding to the nearest level.
        crop: "center" resizes the shorter side and cuts out the centre; "tiles" cuts squares side by side without resizing.
        size: side of the square in pixels; None takes the model's own, so that results of models of different size do not compare.
        interpolation: of the resize, on 8-bit pictures with antialiasing.
        num_samples: that many pictures, drawn with the seed; None for all.
        metrics: what to measure.
        extractors: whose features the distances are computed over, and which classifiers judge.
        perturbations: that the metric `perturbed_frechet` averages over.
        lengths: measure the reconstructions from that many tokens of each picture, for tokenizers of flexible length; empty for all tokens.
        text: which text goes with a picture, for tokenizers that read one; None takes captions where the data has them, else class names.
        batch_size: pictures per call of the model and process.
        seed: of the choice of pictures.
        seeds: two or more, of what tokenizers draw (noise of flows, posteriors), instead of their reproducible form: the numbers are means over
            them. Tokenizers that draw nothing are measured once.
        bootstrap: of the confidence intervals.
        allow_few_samples: compute distances also with no more samples than features.
        allow_training_split: compute Fréchet distances also on a split that holds training pictures.
    """

    task: Literal["reconstruction"] = "reconstruction"
    name: str
    description: str = ""
    data: DataConfig
    protocol: Literal["titok", "adm", "pytorch-fid", "clean"] | None = None
    crop: Literal["center", "tiles"] = "center"
    size: Positive | None = None
    interpolation: Literal["bicubic", "bilinear", "lanczos"] = "bicubic"
    num_samples: Positive | None = None
    metrics: tuple[Metric, ...] = Field(min_length=1)
    extractors: tuple[str, ...] = ()
    perturbations: PerturbationGrid = PerturbationGrid()
    lengths: tuple[Positive, ...] = ()
    text: TextsConfig | None = None
    batch_size: Positive = 32
    seed: Annotated[int, Field(ge=0)] = 0
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = ()
    bootstrap: BootstrapConfig = BootstrapConfig()
    allow_few_samples: bool = False
    allow_training_split: bool = False

    @model_validator(mode="after")
    def _check(self) -> Suite:
        for kind, names in (("metrics", self.metrics), ("extractors", self.extractors), ("lengths", self.lengths), ("seeds", self.seeds)):
            if len(set(names)) < len(names):
                raise ValueError(f"{kind} names one twice: {', '.join(map(str, names))}")
        if len(self.seeds) == 1:
            raise ValueError(f"seeds are two or more, got {self.seeds[0]} alone: one draw says nothing about their spread; seed chooses the pictures")
        for name in self.extractors:
            if name not in EXTRACTORS:
                raise ValueError(f"there is no feature extractor {name!r}; known: {', '.join(EXTRACTORS)}")
        for metric in self.metrics:
            if metric in OVER_FEATURES and not self.all_extractors:
                raise ValueError(f"the metric {metric!r} needs at least one of the extractors {', '.join(EXTRACTORS)}")
        split = getattr(self.data, "split", None)
        if self.measures_frechet and split in ("train", "all") and not self.allow_training_split:
            raise ValueError(
                f"a Fréchet distance of reconstructions belongs to held-out pictures, but the split {split!r} of {self.data.name} holds training "
                "pictures: set data.split to another one, or allow_training_split and compare the value with nothing else"
            )
        if self.protocol is not None and (self.crop, self.interpolation) != ("center", "bicubic"):
            raise ValueError(f"the protocol {self.protocol} says how pictures are cut; leave out crop and interpolation")
        if "classifier" in self.metrics and not self.classifiers:
            raise ValueError("the metric 'classifier' needs an extractor that classifies, such as digit-classifier")
        return self

    @property
    def measures_frechet(self) -> bool:
        """Whether any of the metrics is a Fréchet distance."""
        return "frechet" in self.metrics or "perturbed_frechet" in self.metrics

    @property
    def all_extractors(self) -> tuple[str, ...]:
        """Those named here, and the protocol's where a distance is measured."""
        if self.protocol is None or not set(OVER_FEATURES) & set(self.metrics):
            return self.extractors
        return tuple(dict.fromkeys((*self.extractors, PROTOCOLS[self.protocol].extractor)))

    @property
    def classifiers(self) -> tuple[str, ...]:
        """Those extractors that also name classes."""
        return tuple(name for name in self.extractors if issubclass(EXTRACTORS[name], Classifier))
