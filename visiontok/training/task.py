"""The interface between the training loop and a task: batches, updates, state, sample images and export."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from visiontok.data import SkipReport
from visiontok.hub import CardResult
from visiontok.training.validation import Validation

BatchT = TypeVar("BatchT")


class Task(ABC, Generic[BatchT]):
    """A model in training. Every method but `skipped` is called by every process.

    Attributes:
        unit: plural name of a sample.
        batch_size: samples of a step, over all processes.
        num_parameters: of the model that is trained.
        gathered_parameters: of them and their gradients, what a process of a sharded run holds whole; 0 where the run is not to be sharded.
        data: the data that was opened and its number of samples, in one line; empty where that is not known.
    """

    unit: ClassVar[str]
    batch_size: int
    num_parameters: int
    gathered_parameters: int = 0
    data: str = ""

    @abstractmethod
    def batches(self, start: int) -> Iterator[BatchT]:
        """This process's share of the global batches of steps start, start + 1, ..."""

    @abstractmethod
    def step(self, batch: BatchT, step: int) -> dict[str, float]:
        """Compute, check and apply the updates of one step; returns metrics that are equal on every process.

        Raises:
            NonFiniteTermError: on every process, before the weights change.
        """

    def watch(self, step: int) -> tuple[dict[str, float], list[str]]:
        """Metrics that are computed on logged steps only, and warnings."""
        return {}, []

    def validate(self, step: int) -> Validation | None:
        """Evaluate the model that would be exported after `step` steps on samples that are not trained on; None for tasks without any.

        Changes nothing that a later step depends on.
        """
        return None

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, by part, with whole tensors; of sharded ones only the first process has more than the shapes."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""

    @abstractmethod
    def skipped(self) -> SkipReport:
        """Samples that could not be used so far, on this process."""

    @abstractmethod
    def sample_image(self) -> Tensor | None:
        """A sample image (3, H, W) in [0, 1] of the current model; None for tasks without one, and allowed on all processes but the first."""

    @abstractmethod
    def export(self, folder: Path, results: Sequence[CardResult] = ()) -> None:
        """On the first process, write the trained model in the layout that `from_pretrained` reads, with these results of its last validation on its
        card."""
