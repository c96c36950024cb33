"""What to evaluate of reconstructions, on which samples, under which protocol: the YAML files with `task: reconstruction`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from visiontok.base.config import Config, Positive
from visiontok.base.file_names import Name
from visiontok.base.names import unknown
from visiontok.data import DataConfig, TextsConfig
from visiontok.evaluation.features import EXTRACTORS, Classifier
from visiontok.evaluation.features.i3d import I3DPipeline
from visiontok.evaluation.features.protocol import PROTOCOLS
from visiontok.evaluation.features.sound_networks import SoundNetworksConfig
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.perturbation_grid import PerturbationGrid
from visiontok.evaluation.metrics.probes import ProbeConfig
from visiontok.evaluation.metrics.registry import check_names, needs_extractors
from visiontok.evaluation.metrics.value import Cut

Seed = Annotated[int, Field(ge=0)]


class Suite(Config):
    """An evaluation of a tokenizer: of its reconstructions, and of its tokens.

    Attributes:
        task: what is evaluated.
        name: in results and in the names of their files.
        description: one sentence.
        data: the source of the samples: its options, or the short form `digits:test`, `folder:/path`.
        protocol: a published way of scoring by name, see `evaluation.features.protocol.PROTOCOLS`: its crop, its rounding of reconstructions,
            and for distances its extractor beside those named here. None for the crop below, and rounding to the nearest level.
        crop: of images: "center" resizes the shorter side and crops the center; "tiles" cuts squares side by side without resizing;
            "none" keeps every image at its own size, for models that take any.
        size: side of the square in pixels; None takes the model's own, so that results of models of different sizes are not comparable. Signals that
            are not RGB images go through the model's own preprocessing and keep their size.
        interpolation: of the resize, on 8-bit images with antialiasing.
        num_samples: that many samples, drawn with the seed; None for all.
        metrics: names in `evaluation.metrics.registry.METRICS`. Those that do not apply to a model are omitted from its result, with the reason.
        extractors: whose features the distances are computed over, and which classify.
        fvd: a further extractor, for distances of clips: every choice of its pipeline by itself, where none of the named extractors makes them.
        frame_rate: frames per second of the clips, for metrics per second of models that take any rate.
        perturbations: that the metric `perturbed_frechet` averages over.
        probe: training samples and settings of the metrics `linear_probe` and `nearest_neighbors`.
        networks: paths of networks of sound, for the metrics `wer`, `speaker_similarity` and `predicted_mos`, and for distances of features.
        lengths: evaluate the reconstructions from that many tokens of each sample, for tokenizers of flexible length; empty for all tokens.
        levels: instead, from that many first codebook levels, for tokenizers whose levels can be cut (residual quantizers, scales).
        max_loss: instead, of tokenizers of flexible length, as few tokens of each sample as reach this mean absolute error.
        text: which text goes with a sample, for tokenizers that read one; None takes captions where the data has them, else class names.
        batch_size: samples per call of the model and process.
        seed: of the choice of samples.
        seeds: two or more, of what tokenizers draw (noise of flows, posteriors), instead of their reproducible form: the numbers are means over
            them. Tokenizers that draw nothing are evaluated once.
        bootstrap: of the confidence intervals.
        allow_few_samples: compute distances also with no more samples than features.
        allow_training_split: compute Fréchet distances also on a split that holds training samples.
    """

    task: Literal["reconstruction"] = "reconstruction"
    name: Name
    description: str = ""
    data: DataConfig
    protocol: Literal["titok", "adm", "pytorch-fid", "clean"] | None = None
    crop: Literal["center", "tiles", "none"] = "center"
    size: Positive | None = None
    interpolation: Literal["bicubic", "bilinear", "lanczos"] = "bicubic"
    num_samples: Positive | None = None
    metrics: tuple[str, ...] = Field(min_length=1)
    extractors: tuple[str, ...] = ()
    fvd: I3DPipeline | None = None
    frame_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    perturbations: PerturbationGrid = PerturbationGrid()
    probe: ProbeConfig | None = None
    networks: SoundNetworksConfig = SoundNetworksConfig()
    lengths: tuple[Positive, ...] = ()
    levels: tuple[Positive, ...] = ()
    max_loss: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    text: TextsConfig | None = None
    batch_size: Positive = 32
    seed: Seed = 0
    seeds: tuple[Seed, ...] = ()
    bootstrap: BootstrapConfig = BootstrapConfig()
    allow_few_samples: bool = False
    allow_training_split: bool = False

    @model_validator(mode="after")
    def _check(self) -> Suite:
        check_names(self.metrics, "reconstruction")
        for kind, names in (("extractors", self.extractors), ("lengths", self.lengths), ("seeds", self.seeds)):
            if len(set(names)) < len(names):
                raise ValueError(f"{kind} names one twice: {', '.join(map(str, names))}")
        if len(self.seeds) == 1:
            raise ValueError(f"seeds are two or more, got {self.seeds[0]} alone: one draw has no spread; seed chooses the samples")
        for name in self.extractors:
            if name not in EXTRACTORS:
                raise ValueError(str(unknown("feature extractor", name, EXTRACTORS)))
        for metric in self.metrics:
            if needs_extractors(metric) and not self.all_extractors and self.networks.encoder is None and self.fvd is None:
                raise ValueError(f"the metric {metric!r} needs at least one of the extractors {', '.join(EXTRACTORS)}, or fvd")
        split = getattr(self.data, "split", None)
        if self.has_frechet and split in ("train", "all") and not self.allow_training_split:
            raise ValueError(
                f"a Fréchet distance of reconstructions belongs to held-out samples, but the split {split!r} of {self.data.name} holds training "
                "samples: set data.split to another one, or allow_training_split, and do not compare the value with others"
            )
        shortened = {name: given for name in ("lengths", "levels", "max_loss") if (given := getattr(self, name)) not in ((), None)}
        if len(shortened) > 1:
            raise ValueError(f"{' and '.join(f'{name} {given}' for name, given in shortened.items())} cannot be used together: give one of them")
        if self.protocol is not None and (self.crop, self.interpolation) != ("center", "bicubic"):
            raise ValueError(f"the protocol {self.protocol} defines how images are cut: drop crop and interpolation")
        if self.crop == "none" and self.size is not None:
            raise ValueError(f"crop none keeps every image at its own size, so size {self.size} cannot be used")
        if "classifier" in self.metrics and not self.classifiers:
            raise ValueError("the metric 'classifier' needs an extractor that classifies, such as digit-classifier")
        return self

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """The parts of every sample's tokens that are decoded, at least one."""
        return (*map(Cut, self.lengths), *(Cut(levels=count) for count in self.levels)) or (Cut(),)

    @property
    def has_frechet(self) -> bool:
        """Whether any of the metrics is a Fréchet distance."""
        return "frechet" in self.metrics or "perturbed_frechet" in self.metrics

    @property
    def all_extractors(self) -> tuple[str, ...]:
        """Those named here, and the protocol's where a distance is computed."""
        if self.protocol is None or not any(needs_extractors(metric) for metric in self.metrics):
            return self.extractors
        return tuple(dict.fromkeys((*self.extractors, PROTOCOLS[self.protocol].extractor)))

    @property
    def classifiers(self) -> tuple[str, ...]:
        """Those extractors that also name classes."""
        return tuple(name for name in self.extractors if issubclass(EXTRACTORS[name], Classifier))
