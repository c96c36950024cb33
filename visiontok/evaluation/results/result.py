"""What a measurement leaves behind: the numbers, and everything needed to know what they mean and to measure them again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue

from visiontok.base.config import Config
from visiontok.base.files import replacing
from visiontok.evaluation.metrics.value import MetricValue


class ModelIdentity(Config):
    """Which model was measured.

    Attributes:
        name: as it was asked for.
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
    """Which pictures were measured.

    Attributes:
        config: where they came from and how they were cut.
        identity: fingerprint of the source's listing.
        images: how many were measured.
        size: (H, W) of each.
        pixels_sha256: of their 8-bit pixels in order, as the metrics saw them.
        skipped_count: how many could not be used.
        skipped: the first of them, with the reason.
    """

    config: dict[str, JsonValue]
    identity: str
    images: int
    size: tuple[int, int]
    pixels_sha256: str
    skipped_count: int = 0
    skipped: tuple[str, ...] = ()


class Environment(Config):
    """Where it was measured; two machines may differ in the last digits.

    Attributes:
        versions: of Python and of the packages that compute.
        hardware: device, processor, system.
    """

    versions: dict[str, str]
    hardware: dict[str, str]


class Run(Config):
    """The only part of a result that differs between two runs of the same measurement.

    Attributes:
        started, finished: ISO 8601, UTC.
        seconds: in between.
        processes: over how many the images were divided.
    """

    started: str
    finished: str
    seconds: float
    processes: int


class Result(Config):
    """One model on one suite.

    Attributes:
        format: version of this layout.
        kind: what was measured: reconstructions of pictures, or pictures from a generator.
        suite: its configuration, complete.
        model, data: what was measured on what; for generated pictures, `data` are the real ones they are compared with, or files of their
            statistics: then the pixels' fingerprint is that of the files.
        text: which text a tokenizer that reads one read with every picture: a `TextsConfig`; None for others.
        generated_sha256: of the generated pictures' 8-bit pixels in order.
        generated_skipped: files of generated pictures that could not be read.
        sampling: how they were sampled, where that is known: a `SamplePlan`.
        extractors: name -> identity of every feature extractor and classifier that took part.
        values: the numbers.
        omitted: metric -> why the suite asks for it but this model has none.
        evidence_sha256: of the file with the values of single images and the counts of ids; None where there is none.
        environment, run: where and when.
    """

    format: Literal[1] = 1
    kind: Literal["reconstruction", "generation"]
    suite: dict[str, JsonValue]
    model: ModelIdentity | None = None
    data: DataIdentity
    text: dict[str, JsonValue] | None = None
    generated_sha256: str | None = None
    generated_skipped: tuple[str, ...] = ()
    sampling: dict[str, JsonValue] | None = None
    extractors: dict[str, str] = Field(default_factory=dict)
    values: tuple[MetricValue, ...] = Field(min_length=1)
    omitted: dict[str, str] = Field(default_factory=dict)
    evidence_sha256: str | None = None
    environment: Environment
    run: Run

    def value(self, name: str, part: str | None = None, length: int | None = None) -> MetricValue:
        """The number of that name, of that codebook, at that length.

        Raises:
            KeyError: listing the names that there are.
        """
        for value in self.values:
            if value.place == (name, part, length):
                return value
        raise KeyError(f"this result has no {name!r}; it has {', '.join(value.label for value in self.values)}")

    def measured(self) -> dict[str, Any]:
        """Everything but `run`: equal for two runs of the same measurement on the same machine."""
        return {key: value for key, value in self.to_dict().items() if key != "run"}

    def save(self, path: str | Path) -> None:
        """Write JSON that `load` reads, whole or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
