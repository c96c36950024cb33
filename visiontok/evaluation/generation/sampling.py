"""Writing the samples that a generation suite requests: how many, of which classes, in which order; an interrupted run is resumed."""

from __future__ import annotations

import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, JsonValue
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.base.errors import ConfigError, EvaluationError
from visiontok.base.files import clear_stale, replacing
from visiontok.base.json_text import read_json
from visiontok.base.locks import exclusive
from visiontok.base.noise import SampleNoise
from visiontok.core.tokenizer import Tokenizer
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.evaluation.results.identity import rank_and_world_size
from visiontok.evaluation.results.result import ModelIdentity
from visiontok.generators.base import Generator
from visiontok.signals import SignalSpec
from visiontok.signals.stills import shown, shown_spec
from visiontok.signals.writing import writer_of

ClassOrder = Literal["cycle", "by-class", "shuffled", "uniform"]


class SamplePlan(Config):
    """What is to be sampled. Equal plans give equal samples, whatever the batch size and however often the run was interrupted.

    Attributes:
        num_samples: N.
        class_order: `cycle` goes through the classes again and again, so that every run of consecutive samples is balanced (TiTok, RAR);
            `by-class` writes one class after the other in equal shares (MAR); `shuffled` are the same shares in an order drawn with the
            seed (LlamaGen), which block-wise Inception Scores need; `uniform` draws every class on its own.
        seed: of the draws of every sample, and of the order.
        generator, tokenizer: the model that samples and the one that decodes.
        sampling: settings of the sampler, such as guidance and temperature.
    """

    num_samples: Positive
    class_order: ClassOrder = "cycle"
    seed: int = Field(default=0, ge=0)
    generator: ModelIdentity
    tokenizer: ModelIdentity
    sampling: dict[str, JsonValue] = Field(default_factory=dict)


def classes_in_order(num_samples: int, num_classes: int, order: ClassOrder, *, seed: int) -> list[int]:
    """The class of every sample.

    Raises:
        ConfigError: if equal shares are requested and N is no multiple of the number of classes.
    """
    draw = np.random.default_rng([3, seed])
    if order == "uniform":
        return draw.integers(num_classes, size=num_samples).tolist()
    if num_samples % num_classes and order != "cycle":
        raise ConfigError(f"{num_samples} samples cannot be shared equally by {num_classes} classes; take a multiple, or class_order=cycle")
    cycle = np.arange(num_samples) % num_classes
    if order == "by-class":
        return np.sort(cycle).tolist()
    return (draw.permutation(cycle) if order == "shuffled" else cycle).tolist()


def write_samples(
    plan: SamplePlan,
    generator: Generator[Any],
    tokenizer: Tokenizer[Any],
    output: str | Path,
    *,
    batch_size: int = 16,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Sample what is missing.

    Under torch.distributed every process samples its share of a folder.

    Args:
        plan: of the samples; a folder or file that was started with another plan is refused.
        generator, tokenizer: those of the plan.
        output: a folder, which gets one PNG or wav file per sample, or an .npz file with `arr_0` uint8 (N, H, W, 3), of clips (N, T, H, W, 3), and
            the classes in `arr_1`; clips of one frame are images.
        batch_size: samples at a time.
        progress: called with the samples done and their number.

    Raises:
        EvaluationError: if the output was started with another plan, several processes are to write one file, or such samples have no place there.
        ConfigError: if the classes cannot be shared as the plan says, or the generator was not trained for such sampling.
        FolderInUseError: if another command writes there.
    """
    num_classes = generator.num_classes
    classes = classes_in_order(plan.num_samples, num_classes, plan.class_order, seed=plan.seed) if num_classes else None
    output = Path(output)
    with ExitStack() as stack:
        if rank_and_world_size()[0] == 0:
            folder, name = (output.parent, output.name) if output.suffix == ".npz" else (output, "")
            stack.enter_context(exclusive(folder, name))
            clear_stale(folder)
        _write_missing(plan, generator, tokenizer, output, classes, batch_size, progress)


def _write_missing(
    plan: SamplePlan,
    generator: Generator[Any],
    tokenizer: Tokenizer[Any],
    output: Path,
    classes: list[int] | None,
    batch_size: int,
    progress: Callable[[int, int], None],
) -> None:
    rank, world_size = rank_and_world_size()
    sampler = generator.sampler(**plan.sampling)
    generator.check_sampler(sampler, unconditional=classes is None)
    spec = shown_spec(tokenizer.spec, generator.layout.signal_shape)
    store = (_ArrayStore if output.suffix == ".npz" else _FolderStore)(output, plan, classes, spec)
    if world_size > 1 and isinstance(store, _ArrayStore):
        raise EvaluationError("several processes cannot write one .npz file; let them write a folder")
    share = range(plan.num_samples * rank // world_size, plan.num_samples * (rank + 1) // world_size)
    missing = store.missing(share)
    for start in range(0, len(missing), batch_size):
        progress(len(share) - len(missing) + start, len(share))
        rows = missing[start : start + batch_size]
        condition = None if classes is None else torch.tensor([classes[row] for row in rows])
        count = len(rows) if classes is None else None
        tokens = generator.generate(condition, num_samples=count, noise=SampleNoise(plan.seed, rows), sampler=sampler)
        store.write(rows, shown(tokenizer.decode(tokens).float().cpu(), spec))
    progress(len(share), len(share))
    store.finish()


class _Store(ABC):
    """Where samples are written, and which are written already."""

    def __init__(self, notes: Path, plan: SamplePlan) -> None:
        """Start, or resume what was started.

        Raises:
            EvaluationError: if it was started with another plan.
        """
        if notes.is_file():
            known = read_json(notes)
            changed = [key for key, value in plan.to_dict().items() if not isinstance(known, dict) or known.get(key) != value]
            if changed:
                where = f"{notes.parent} holds samples of another plan: {', '.join(changed)} differ"
                raise EvaluationError(f"{where}; choose another folder, or empty this one")
        else:
            with replacing(notes) as temporary:
                temporary.write_text(json.dumps(plan.to_dict(), indent=2), encoding="utf-8")

    @abstractmethod
    def missing(self, share: range) -> list[int]:
        """Indices of the samples that are not written yet."""

    @abstractmethod
    def write(self, rows: Sequence[int], signals: Tensor) -> None:
        """Store samples (B, C, *axes) in the range of their spec."""

    @abstractmethod
    def finish(self) -> None:
        """Complete the output, now that all samples are written."""


class _FolderStore(_Store):
    """One file per sample, each whole or absent."""

    def __init__(self, folder: Path, plan: SamplePlan, classes: Sequence[int] | None, spec: SignalSpec) -> None:
        if not (spec.is_rgb and spec.modality == "image") and spec.modality != "audio":
            raise EvaluationError(f"a folder takes samples of images and sound; these are {spec.modality}: name an .npz file")
        super().__init__(folder / "plan.json", plan)
        self._save = writer_of(spec).save
        digits = max(5, len(str(plan.num_samples - 1)))
        suffixes = [""] * plan.num_samples if classes is None else [f"-class-{label:04d}" for label in classes]
        self._paths = [folder / f"{row:0{digits}d}{suffix}{writer_of(spec).suffix}" for row, suffix in enumerate(suffixes)]

    def missing(self, share: range) -> list[int]:
        return [row for row in share if not self._paths[row].is_file()]

    def write(self, rows: Sequence[int], signals: Tensor) -> None:
        for row, signal in zip(rows, signals, strict=True):
            self._save(signal, self._paths[row])

    def finish(self) -> None:
        """Nothing is left to do: every sample is a file of its own."""


class _ArrayStore(_Store):
    """An array on disk that becomes the .npz file when all samples are written."""

    def __init__(self, path: Path, plan: SamplePlan, classes: Sequence[int] | None, spec: SignalSpec) -> None:
        if not spec.is_rgb:
            raise EvaluationError(
                f"an .npz file takes samples of RGB images and clips; these are {spec.channels}-channel {spec.modality}: name a folder"
            )
        self._path, self._classes, self._count = path, classes, plan.num_samples
        self._array_path = path.with_name(f".{path.stem}.run-state.npy")
        self._position_path = path.with_name(f".{path.stem}.run-state.txt")
        super().__init__(path.with_name(f"{path.stem}.plan.json"), plan)

    def missing(self, share: range) -> list[int]:
        if self._path.is_file():
            return []
        if not (self._array_path.is_file() and self._position_path.is_file()):
            return list(share)
        written = self._position_path.read_text(encoding="utf-8")
        return list(range(int(written), share.stop)) if written.isdecimal() else list(share)

    def write(self, rows: Sequence[int], signals: Tensor) -> None:
        images = to_uint8(signals)
        mode: Any = "r+" if self._array_path.is_file() and rows[0] else "w+"
        shape = (self._count, *images.shape[2:], 3)
        array = np.lib.format.open_memmap(self._array_path, mode=mode, dtype=np.uint8, shape=None if mode == "r+" else shape)
        array[rows[0] : rows[-1] + 1] = images.movedim(1, -1).numpy()
        array.flush()
        with replacing(self._position_path) as temporary:
            temporary.write_text(str(rows[-1] + 1), encoding="utf-8")

    def finish(self) -> None:
        if not self._path.is_file():
            with replacing(self._path) as temporary, zipfile.ZipFile(temporary, "w", compression=zipfile.ZIP_STORED) as archive:
                archive.write(self._array_path, "arr_0.npy")
                if self._classes is not None:
                    with archive.open("arr_1.npy", "w") as file:
                        np.lib.format.write_array(file, np.asarray(self._classes, dtype=np.int64))
        self._array_path.unlink(missing_ok=True)
        self._position_path.unlink(missing_ok=True)
