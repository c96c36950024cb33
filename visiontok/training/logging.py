"""Logging of metrics: always to a JSON lines file; to TensorBoard and Weights & Biases if configured."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np
from pydantic import Field
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.base.errors import ConfigError, TrainingError
from visiontok.signals.image_writing import to_pil


class LoggingConfig(Config):
    """What is logged, and how often.

    Attributes:
        every: steps between two lines; each gives the means since the one before. Steps with a validation have a line too.
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


@runtime_checkable
class ImageWriter(Protocol):
    """A writer that takes sample images, too."""

    def show(self, step: int, image: Tensor) -> None:
        """Note the sample image (3, H, W) in [0, 1] after `step` finished steps."""


class JsonLines:
    """One JSON object per line: `{"step": 10, "loss": ...}`; numbers that are not finite become null."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        try:
            self._file.write(json.dumps({"step": step, **finite}) + "\n")
            self._file.flush()
        except OSError as error:
            raise TrainingError(
                f"{self._file.name} could not be written: {error.strerror or error}. Repeat the command to resume from the newest checkpoint"
            ) from error

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what could not be written was told by `write`
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

    def show(self, step: int, image: Tensor) -> None:
        self._writer.add_image("samples", np.asarray(to_pil(image)), step, dataformats="HWC")

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

    def show(self, step: int, image: Tensor) -> None:
        import wandb

        self._run.log({"samples": wandb.Image(to_pil(image))}, step=step)

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
