"""The result of an evaluation: the numbers, and everything required to interpret and to reproduce them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue

from visiontok.base.config import Config
from visiontok.base.files import replacing
from visiontok.data.config import source_name
from visiontok.evaluation.metrics.value import Cut, MetricValue


class ModelIdentity(Config):
    """Which model was evaluated.

    Attributes:
        name: as it was requested.
        family: its registry name; None for models that the registry does not know.
        weights_sha256: of every parameter and buffer, by name.
        parameters: how many.
        config: its configuration.
    """

    name: str
    family: str | None
    weights_sha256: str
    parameters: int
    config: dict[str, JsonValue]


class DataIdentity(Config):
    """Which samples were evaluated.

    Attributes:
        config: where they came from and how they were cut.
        identity: fingerprint of the source's listing.
        samples: how many were evaluated.
        size: along every axis, (H, W) of images; None where samples differ in size.
        samples_sha256: of their values in order, 8-bit pixels of images, as the metrics saw them.
        skipped_count: how many could not be used.
        skipped: the first of them, with the reason.
    """

    config: dict[str, JsonValue]
    identity: str
    samples: int
    size: tuple[int, ...] | None
    samples_sha256: str
    skipped_count: int = 0
    skipped: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Where they came from, in one word: `photos:heldout`, or the files of their statistics."""
        statistics = self.config.get("statistics")
        files = [str(file.get("path")) for file in statistics if isinstance(file, dict)] if isinstance(statistics, list) else []
        return ", ".join(files) or source_name(self.config)

    @property
    def in_words(self) -> str:
        """How many samples of which size."""
        if self.size is None:
            return f"{self.samples} samples of different sizes"
        return f"{self.samples} samples of {' x '.join(map(str, self.size))}"


class Environment(Config):
    """Where it was computed; two machines may differ in the last digits.

    Attributes:
        versions: of Python and of the packages that compute.
        hardware: device, processor, system.
    """

    versions: dict[str, str]
    hardware: dict[str, str]


class Run(Config):
    """The only part of a result that differs between two runs of the same evaluation.

    Attributes:
        started, finished: ISO 8601, UTC.
        seconds: in between.
        processes: over how many the samples were divided.
    """

    started: str
    finished: str
    seconds: float
    processes: int


class Result(Config):
    """One model on one suite.

    Attributes:
        format: version of this layout.
        kind: what was evaluated: a tokenizer and its reconstructions, or samples of a generator.
        suite: its configuration, complete.
        model, data: what was evaluated on what; for generated samples, `data` are the real ones they are compared with, or files of their
            statistics: then the fingerprint is that of the files.
        generator: for tokenizers, the model of their tokens that metrics under a prior used.
        text: which text a tokenizer that reads one read with every sample: a `TextsConfig`; None for others.
        generated_sha256: of the generated samples' 8-bit pixels in order.
        generated_skipped: files of generated samples that could not be read.
        sampling: how they were sampled, where that is known: a `SamplePlan`.
        extractors: name -> identity of every feature extractor and classifier that took part.
        values: the numbers.
        omitted: metric -> why the suite asks for it but this model has none.
        failed: metric -> the error that ended its computation, after all samples; the other values are complete.
        warnings: what is wrong with the model although the numbers are right, for example that it has collapsed.
        per_sample_sha256: of the values of single samples and the use of codes, in files beside this one.
        environment, run: where and when.
    """

    format: Literal[2] = 2
    kind: Literal["reconstruction", "generation"]
    suite: dict[str, JsonValue]
    model: ModelIdentity | None = None
    generator: ModelIdentity | None = None
    data: DataIdentity
    text: dict[str, JsonValue] | None = None
    generated_sha256: str | None = None
    generated_skipped: tuple[str, ...] = ()
    sampling: dict[str, JsonValue] | None = None
    extractors: dict[str, str] = Field(default_factory=dict)
    values: tuple[MetricValue, ...] = Field(min_length=1)
    omitted: dict[str, str] = Field(default_factory=dict)
    failed: dict[str, str] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    per_sample_sha256: str | None = None
    environment: Environment
    run: Run

    @property
    def title(self) -> str:
        """The name of what was evaluated, for tables and plots."""
        return self.model.name if self.model else "samples"

    def value(self, name: str, part: str | None = None, length: int | None = None, levels: int | None = None) -> MetricValue:
        """The number of that name, of that codebook, at that length or number of codebook levels.

        Raises:
            KeyError: listing the names that there are.
        """
        for value in self.values:
            if value.key == (name, part, Cut(length, levels)):
                return value
        raise KeyError(f"this result has no {name!r}; it has {', '.join(value.label for value in self.values)}")

    def reproducible(self) -> dict[str, Any]:
        """Everything but `run`: equal for two runs of the same evaluation on the same machine."""
        return {key: value for key, value in self.to_dict().items() if key != "run"}

    def save(self, path: str | Path) -> None:
        """Write JSON that `load` reads, whole or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def result_path(output: Path, suite: str, model: str) -> Path:
    """Where the result of a model on a suite is written: `output` itself, if it is a .json file, else in that folder."""
    stem = re.sub(r"[^A-Za-z0-9.-]+", "-", model).strip("-.")
    return output if output.suffix == ".json" else output / f"{suite}--{stem}.json"
