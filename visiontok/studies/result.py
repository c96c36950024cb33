"""The results of a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from visiontok.base.config import Config
from visiontok.base.files import replacing
from visiontok.evaluation import Interval
from visiontok.evaluation.results.result import Environment, Run
from visiontok.studies.definition import Study


class RunValues(Config):
    """Metrics of one arm on one data set with one seed.

    Attributes:
        data, arm, seed: of the run.
        definition: SHA-256 of its recipes and suites; with the libraries and the machine, they determine the values.
        weights_sha256: of the tokenizer, and of the generator where there is one.
        values: by the metric's full name; None where it is not defined.
        units: of the metrics that have one.
        omitted: metric -> why this tokenizer has none.
        failed: metric -> the error that ended its computation.
        warnings: what is wrong with the models although the values are right, for example that one has collapsed.
        environment: versions and hardware.
        seconds: of training, sampling and evaluation in the process that completed the run.
    """

    data: str
    arm: str
    seed: int
    definition: str
    weights_sha256: dict[str, str]
    values: dict[str, float | None]
    units: dict[str, str]
    omitted: dict[str, str]
    failed: dict[str, str] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    environment: Environment
    seconds: float

    def label(self, metric: str) -> str | None:
        """The full name of a metric that may be given without its extractor; None where this run has none, or several."""
        if metric in self.values:
            return metric
        labels = [label for label in self.values if label.startswith(f"{metric}[")]
        return labels[0] if len(labels) == 1 else None

    def value(self, metric: str) -> float | None:
        """The value of a metric; None where there is none."""
        return self.values.get(self.label(metric) or metric)

    def save(self, path: Path) -> None:
        """Write JSON, atomically; `load` reads it."""
        _write(self, path)


class Finding(Config):
    """The result of one comparison on one data set.

    Attributes:
        question: in words.
        data: name of the data set.
        statistic: name of the value.
        value: None where it is not defined, for example between equal values.
        unit: of the value.
        interval: None where there are too few runs.
        count: number of seeds or tokenizers, whichever `over` says.
        over: what was resampled.
        single: the values by seed, where there is one for each.
        against: the number that the interval is compared with.
    """

    question: str
    data: str
    statistic: str
    value: float | None
    unit: str = ""
    interval: Interval | None
    count: int
    over: Literal["seeds", "tokenizers"]
    single: dict[int, float] = Field(default_factory=dict)
    against: float = 0.0

    @property
    def reading(self) -> str:
        """Whether the interval lies above or below `against`, or contains it."""
        if self.interval is None:
            return "not tested"
        against = f"{self.against:g}" if self.against else "zero"
        if self.interval.low <= self.against <= self.interval.high:
            return f"includes {against}"
        return f"above {against}" if self.interval.low > self.against else f"below {against}"


class StudyResult(Config):
    """All runs of a study and its findings.

    Attributes:
        format: version of this format.
        name: of the study.
        study: its definition.
        runs: in the order in which they were executed.
        findings: in the order of the comparisons.
        run: time and duration.
    """

    format: Literal[1] = 1
    name: str
    study: Study
    runs: tuple[RunValues, ...]
    findings: tuple[Finding, ...]
    run: Run

    def save(self, path: Path) -> None:
        """Write JSON, atomically; `load` reads it."""
        _write(self, path)


def _write(config: Config, path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(config.to_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
