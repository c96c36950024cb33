"""How a metric is declared: what it is called, what it needs, how it is computed and how it is aggregated. Each is declared once, in `entries/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from visiontok.base.finite import check_finite
from visiontok.core.tokenizer import Tokenizer
from visiontok.evaluation.features.base import FeatureExtractor, NamedNetwork
from visiontok.evaluation.features.sound_networks import SoundNetworksConfig
from visiontok.evaluation.metrics.accumulator import Accumulator
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig, Interval
from visiontok.evaluation.metrics.feature_side import FeatureRows, FeatureSide
from visiontok.evaluation.metrics.perturbation_grid import PerturbationGrid
from visiontok.evaluation.metrics.probes import LabeledFeatures, ProbeConfig
from visiontok.evaluation.metrics.value import Better, MetricValue
from visiontok.generators.base import Generator
from visiontok.signals import SignalBatch, SignalSpec
from visiontok.signals.batch import cropped
from visiontok.tokens import Latents, TokenLayout, Tokens

if TYPE_CHECKING:
    from visiontok.evaluation.features.statistics import ReferenceStatistics

Task: TypeAlias = Literal["reconstruction", "generation"]
Side: TypeAlias = Literal["reference", "samples"]
ComputedT = TypeVar("ComputedT")


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What is evaluated, and everything about it that metrics may use.

    Attributes:
        task: reconstructions, or generated samples.
        spec: of the signals that are compared.
        extractors: whose features distances are computed over.
        count: samples over all processes; None where it is not known beforehand.
        reference_count: samples that they are compared with, likewise; None where they are as many, or a file of statistics.
        size: of every sample along each axis; None where samples differ in size.
        tokenizer, layout: for reconstructions; the layout at the extent of the suite's size where it has one.
        lengths_vary: whether samples differ in their number of tokens.
        is_shortened: whether samples are decoded from some of their tokens.
        generator: a model of the tokens, for metrics under a prior.
        device: of the metrics' own networks.
        perturbations: settings of `perturbed_frechet`.
        probe: settings of the probes; None without training samples for them.
        networks: paths of networks of sound.
        reference: what the samples are compared with, in words.
        has_reference_samples: whether these are samples, or files of their statistics.
        paired: whether row i of both sides is the same sample, before and after.
        allow_unequal_counts, allow_few_samples: of distances; see the suites.
    """

    task: Task
    spec: SignalSpec
    extractors: Sequence[FeatureExtractor] = ()
    count: int | None = None
    reference_count: int | None = None
    size: tuple[int, ...] | None = None
    tokenizer: Tokenizer[Any] | None = None
    layout: TokenLayout | None = None
    lengths_vary: bool = False
    is_shortened: bool = False
    generator: Generator[Any] | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    perturbations: PerturbationGrid = field(default_factory=PerturbationGrid)
    probe: ProbeConfig | None = None
    networks: SoundNetworksConfig = field(default_factory=SoundNetworksConfig)
    reference: str = "the originals of the same samples, cut the same way"
    has_reference_samples: bool = True
    paired: bool = True
    allow_unequal_counts: bool = False
    allow_few_samples: bool = False

    @property
    def is_8bit(self) -> bool:
        """Whether samples are compared as 8-bit pixels: RGB images, as files store them."""
        return self.spec.modality == "image" and self.spec.is_rgb

    @property
    def peak(self) -> float:
        """Largest minus smallest value, on the scale on which samples are compared."""
        peak = 255.0 if self.is_8bit else self.spec.peak
        assert peak is not None  # metrics that ask need "bounded values"
        return peak

    @property
    def scale(self) -> str:
        """How samples are compared, in words."""
        if self.is_8bit:
            return "8-bit RGB"
        bounds = f"in [{self.spec.low:g}, {self.spec.high:g}]" if self.spec.low is not None and self.spec.high is not None else "without bounds"
        return f"{self.spec.channels}-channel {self.spec.modality}, values {bounds}"

    @property
    def samples_word(self) -> str:
        """The word for the samples in protocols."""
        return {"image": "images", "video": "clips", "audio": "recordings"}.get(self.spec.modality, "samples")


@dataclass(frozen=True, eq=False)
class EvaluatedBatch:
    """One batch, as metrics receive it. Absent parts are None: a batch of reference samples has no `samples`, and an encode-only tokenizer gives
    none.

    Attributes:
        indices: (B,) of the samples in the data set, each once over all processes.
        reference: originals: uint8 for RGB images, floats for other signals.
        samples: reconstructions or generated samples, likewise.
        tokens: of the originals, or of the part of them that was decoded.
        labels: (B,) int64 classes; for generated samples those that were requested.
        objects: (B,) int64 how many objects a sample shows.
        texts: one per sample, for generators and tokenizers that read one.
    """

    indices: Tensor
    reference: SignalBatch | None = None
    samples: SignalBatch | None = None
    tokens: Tokens | Latents | None = None
    labels: Tensor | None = None
    objects: Tensor | None = None
    texts: Sequence[str] | None = None
    _of_reference: dict[str, Any] = field(default_factory=dict, repr=False)
    _of_samples: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def pairs(self) -> tuple[SignalBatch, SignalBatch]:
        """Originals and reconstructions."""
        assert self.reference is not None
        assert self.samples is not None
        return self.reference, self.samples

    @property
    def token_indices(self) -> Tokens:
        """The tokens of a discrete tokenizer."""
        assert isinstance(self.tokens, Tokens)
        return self.tokens

    def each(self, function: Callable[[Tensor, Tensor], Tensor], *, smallest_side: int = 1) -> Tensor:
        """(B,) a number for every pair, by a function of (reference, samples), each (n, C, *axes) of one size.

        It is NaN for pairs whose images have a side below `smallest_side`.

        Raises:
            NonFiniteError: if the function gives another number that is not finite.
        """
        reference, samples = self.pairs
        found = torch.full((len(self.indices),), torch.nan, dtype=torch.float64)
        for rows, originals in reference.groups():
            size = originals.shape[2:]
            if smallest_side > 1 and min(size[-2:]) < smallest_side:
                continue
            values = samples.values[rows.to(samples.values.device)]
            numbers = function(originals, cropped(values, size)).double().cpu()
            check_finite(numbers, stage=f"what {getattr(function, '__name__', 'a metric')} gives for originals and samples")
            found[rows] = numbers
        return found

    def features(self, extractor: FeatureExtractor, side: Side) -> FeatureRows:
        """In float64; computed once, however many metrics ask."""
        return self.computed(extractor.name, side, lambda batch: self._rows([(rows, extractor(values)) for rows, values in batch.groups()]))

    def _rows(self, parts: Sequence[tuple[Tensor, Tensor]]) -> FeatureRows:
        """Of positions (n,) in the batch and their features (n, D) or (n, R, D), group by group."""
        positions = torch.cat([rows.cpu().repeat_interleave(features[..., 0].numel() // len(rows)) for rows, features in parts])
        order = torch.argsort(positions, stable=True)
        return FeatureRows(self.indices.cpu()[positions[order]], torch.cat([features.flatten(0, -2) for _, features in parts])[order])

    def computed(self, name: str, side: Side, function: Callable[[SignalBatch], ComputedT]) -> ComputedT:
        """What a function gives for the originals or the samples; computed once by its name, for all metrics, and for all cuts of one original."""
        batch, known = (self.reference, self._of_reference) if side == "reference" else (self.samples, self._of_samples)
        if name not in known:
            assert batch is not None
            known[name] = function(batch)
        found: ComputedT = known[name]
        return found

    def reconstructed(self, tokens: Tokens | Latents, samples: SignalBatch | None) -> EvaluatedBatch:
        """The same originals with other tokens; what is known of the originals, then or later, is not computed again. Of clips that have lost frames
        the originals are cut to those that are left."""
        reference, known = self.reference, self._of_reference
        if samples is not None and reference is not None and not torch.equal(samples.sizes, reference.sizes):
            reference, known = SignalBatch(cropped(reference.values, samples.values.shape[2:]), samples.sizes), {}
        return EvaluatedBatch(self.indices, reference, samples, tokens, self.labels, self.objects, self.texts, known)


@dataclass(frozen=True)
class Value:
    """One of the numbers that a metric gives.

    Attributes:
        title: for tables and plots.
        unit: "dB", "bits"; empty for shares and distances.
        better: which direction is better, if any.
    """

    title: str
    unit: str = ""
    better: Better = "neither"


@dataclass(frozen=True, kw_only=True, eq=False)
class Aggregate:
    """A number over all samples, as a metric's `aggregate` gives it.

    Attributes:
        key: of the metric's `values`.
        value: None where it is not defined.
        no_value: why it is not.
        count: number of samples.
        protocol: how it was computed, in words.
        interval: over samples.
        no_interval: why a number has none.
        part: which codebook it is about, where there are several.
        extractor: over whose features it was computed, or with which network.
        details: further numbers that belong to it.
        per_sample: (N,) float64 what each sample contributes to a mean, by sample index; not finite where it is ignored.
        resampled: (R,) float64 the same number over resampled samples.
        code_counts: codebook -> (K,) int64 how often each code occurred.
    """

    key: str
    value: float | None
    count: int
    protocol: str
    no_value: str = ""
    interval: Interval | None = None
    no_interval: str = ""
    part: str | None = None
    extractor: NamedNetwork | None = None
    details: Mapping[str, JsonValue] = field(default_factory=dict)
    per_sample: np.ndarray | None = None
    resampled: np.ndarray | None = None
    code_counts: Mapping[str, np.ndarray] = field(default_factory=dict)


Table: TypeAlias = Mapping[str, np.ndarray]
"""Column -> (N, ...) by rising sample index; "indices" holds the indices."""


def no_reason(subject: Subject) -> str | None:
    """The `unavailable` of metrics whose requirements are all in `needs`."""
    return None


def nothing(subject: Subject) -> None:
    """The `prepare` of metrics without a network."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Metric:
    """What every declaration holds.

    Attributes:
        name: in suites.
        values: key -> what the number is. In a key, `[]` stands for the name of the extractor that it is computed over.
        needs: what the subject must have; see `needs.NEEDS`. Where it lacks something, the metric is omitted with the reason.
        tasks: of which it is a metric.
        fewest_samples: below which it is not defined; on each side, where it compares two sets of samples.
        smallest_side: in pixels, of images and frames, below which it is not defined.
        version: increased whenever the same samples give other values.
        unavailable: a reason that no name in `needs` covers.
        prepare: loads networks, so that missing weights are refused before anything is computed.
        absent: why there may be no value although all requirements were met.
    """

    name: str
    values: Mapping[str, Value]
    needs: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ("reconstruction",)
    fewest_samples: int = 1
    smallest_side: int = 1
    version: int = 1
    unavailable: Callable[[Subject], str | None] = no_reason
    prepare: Callable[[Subject], object] = nothing
    absent: str = "no sample has the data that it is computed from"

    @property
    def is_quality(self) -> bool:
        """Whether it says how good reconstructions or embeddings are, whatever the tokens cost."""
        directed = any(value.better != "neither" for value in self.values.values())
        return directed and bool({"decoder", "probe"} & set(self.needs)) and "tokens" not in self.needs


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleMetric(Metric):
    """A metric whose columns are kept for every sample.

    Attributes:
        compute: batch -> columns (B, ...); nothing where the batch lacks what it is computed from.
        aggregate: all columns -> numbers.
    """

    compute: Callable[[EvaluatedBatch, Subject], Mapping[str, Tensor]]
    aggregate: Callable[[Table, Subject, BootstrapConfig], list[Aggregate]]


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamMetric(Metric):
    """A metric that keeps statistics instead of columns.

    Attributes:
        accumulators: empty ones, by name.
        compute: takes a batch into them.
        aggregate: what they hold -> numbers.
    """

    accumulators: Callable[[Subject], dict[str, Accumulator]]
    compute: Callable[[Mapping[str, Any], EvaluatedBatch, Subject], None]
    aggregate: Callable[[Mapping[str, Any], Subject, BootstrapConfig], list[Aggregate]]


@dataclass(frozen=True, eq=False)
class FeatureSides:
    """Features of both sides over one extractor.

    Attributes:
        extractor: whose.
        samples: of reconstructions or generated samples.
        reference: of what they are compared with, or what a file says of it.
    """

    extractor: FeatureExtractor
    samples: FeatureSide
    reference: FeatureSide | ReferenceStatistics


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureMetric(Metric):
    """A metric over the features of two sets, once for every extractor.

    Attributes:
        keeps_features: whether the features of every sample are required, given D, or their moments are enough.
        aggregate: both sides -> numbers.
    """

    keeps_features: Callable[[Subject, int], bool]
    aggregate: Callable[[FeatureSides, Subject, BootstrapConfig], list[Aggregate]]


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeMetric(Metric):
    """A probe of frozen tokens: a classifier is fitted to the embeddings of training samples.

    Attributes:
        classify: embeddings of training samples, of test samples -> (N,) bool whether each test sample is classified correctly.
        undefined: why these training samples do not allow that; empty where they do.
        protocol: how, in words.
    """

    classify: Callable[[LabeledFeatures, LabeledFeatures, Subject], np.ndarray]
    undefined: Callable[[LabeledFeatures, Subject], str]
    protocol: Callable[[Subject], str]


@dataclass(frozen=True, eq=False)
class Computed:
    """The values of the other metrics.

    Attributes:
        values: all numbers so far.
        per_sample: label of a number -> (N,) float64.
    """

    values: Sequence[MetricValue]
    per_sample: Mapping[str, np.ndarray]

    @cached_property
    def by_name(self) -> Mapping[str, MetricValue]:
        """Those of whole tokenizers, not of single codebooks, by name."""
        return {value.name: value for value in self.values if value.part is None}


@dataclass(frozen=True, kw_only=True, eq=False)
class DerivedMetric(Metric):
    """A metric computed from the numbers of others, after them.

    Attributes:
        derive: those numbers -> further ones, complete.
    """

    derive: Callable[[DerivedMetric, Computed, Subject, BootstrapConfig], list[MetricValue]]
