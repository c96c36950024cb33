"""Logging of metrics: always to a JSON lines file; to TensorBoard and Weights & Biases if configured."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import Field

from visiontok.base.config import Config, Positive
from visiontok.base.errors import ConfigError


class LoggingConfig(Config):
    """What is logged, and how often.

    Attributes:
        every: steps between two lines; each gives the means since the one before.
        tensorboard: write curves to `tensorboard/` in the run folder.
        wandb: project to log to with Weights & Biases; needs the `wandb` package.
        usage_window: steps over which codebook usage is counted.
        usage_alarm: warn when less than this share of a codebook was used within the window; 0 never warns.
        variation_alarm: warn when latents or reconstructions differ less between samples than this share of what is expected, after the warmup and
            one window; 0 never warns.
    """

    every: Positive = 10
    tensorboard: bool = True
    wandb: str | None = None
    usage_window: Positive = 100
    usage_alarm: Annotated[float, Field(ge=0, le=1)] = 0.05
    variation_alarm: Annotated[float, Field(ge=0, le=1)] = 0.01


class MetricsWriter(Protocol):
    """Takes the numbers of a logged step."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Note `values` after `step` finished steps."""

    def close(self) -> None:
        """Flush and let go."""


class JsonLines:
    """One JSON object per line: `{"step": 10, "loss": ...}`; numbers that are not finite become null."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """Curves for `tensorboard --logdir`."""

    def __init__(self, folder: Path, *, start: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter  # takes a second to import

        # Hides what a killed run had logged after the step from which this one resumes.
        self._writer: Any = SummaryWriter(str(folder), purge_step=start + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """Curves on a Weights & Biases server; the parts of a run that was resumed share a group.

    Raises:
        ConfigError: if the package is not installed.
    """

    def __init__(self, project: str, folder: Path, config: Mapping[str, Any]) -> None:
        if importlib.util.find_spec("wandb") is None:
            raise ConfigError("logging.wandb is set but the wandb package is not installed; `pip install wandb` or set logging.wandb=null")
        import wandb

        self._run = wandb.init(project=project, dir=str(folder), name=folder.name, group=folder.name, config=dict(config))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def open_writers(config: LoggingConfig, *, metrics: Path, tensorboard: Path, run_config: Mapping[str, Any], start: int) -> list[MetricsWriter]:
    """The writers that the configuration asks for."""
    writers: list[MetricsWriter] = [JsonLines(metrics)]
    if config.tensorboard:
        writers.append(TensorBoard(tensorboard, start=start))
    if config.wandb is not None:
        writers.append(Wandb(config.wandb, metrics.parent, run_config))
    return writers
