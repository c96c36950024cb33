"""Which folder holds a model: a folder with a saved model itself, of a training run its `final/`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.base.json_text import read_json

_CONFIG, _WEIGHTS, _FINAL = "config.json", "model.safetensors", "final"
_MOST_SHOWN, _MOST_SEARCHED = 6, 1000


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training run is.

    Attributes:
        folder: of the run.
        step: of its newest checkpoint; 0 before the first.
        steps: that its recipe asks for; None where the recipe does not say.
        final: folder of the trained model; None while there is none.
    """

    folder: Path
    step: int
    steps: int | None
    final: Path | None


def model_folder(folder: Path) -> Path:
    """The folder that holds the model of a folder that a user named.

    Args:
        folder: with a saved model, or of a training run; anything else is given back as it is.

    Raises:
        CheckpointError: for a run that has no trained model yet, and for a folder beside, above or below models; with what to do instead.
    """
    if (folder / _WEIGHTS).is_file():
        return folder
    run = run_state(folder)
    if run is not None:
        if run.final is None:
            raise CheckpointError(_unfinished(run))
        return run.final
    if not (folder / _CONFIG).is_file() and (near := list(dict.fromkeys(_models_near(folder)))):
        more = f" and {len(near) - _MOST_SHOWN} more" if len(near) > _MOST_SHOWN else ""
        raise CheckpointError(f"{folder} is not the folder of a model; near it there are {', '.join(map(str, near[:_MOST_SHOWN]))}{more}")
    return folder


def run_state(folder: Path) -> TrainingProgress | None:
    """The state of the training run in a folder; None for any other folder."""
    final = folder / _FINAL
    trained = final if (final / _WEIGHTS).is_file() else None
    try:
        recipe = read_json(folder / _CONFIG)["recipe"]
        steps = recipe.get("steps")
    except (ConfigError, KeyError, TypeError, AttributeError):
        if trained is None or (folder / _WEIGHTS).is_file():
            return None
        steps = None
    names = [path.name.removeprefix("step-") for path in (folder / "checkpoints").glob("step-*")]
    return TrainingProgress(folder, max((int(name) for name in names if name.isdecimal()), default=0), steps, trained)


def _unfinished(run: TrainingProgress) -> str:
    """What to do about a run without a trained model."""
    text = f"{run.folder} is a training run without a trained model yet: it has no {_FINAL}/ with {_WEIGHTS}"
    if not run.step:
        return f"{text} and no checkpoint. Start it again with the same `visiontok train` command"
    of = f" of {run.steps}" if run.steps else ""
    return (
        f"{text}; its newest checkpoint is that of step {run.step}{of}. Repeat the same `visiontok train` command to finish it, or append "
        f"steps={run.step} to that command to end it there"
    )


def models_in(folder: Path) -> list[Path]:
    """The models and training runs directly in a folder; none where there is no such folder."""
    return [path for path in sorted(islice(folder.glob("*"), _MOST_SEARCHED)) if _is_model(path)]


def _models_near(folder: Path) -> Iterator[Path]:
    """Models and runs in the folder and its sub-folders, and those that the folder lies in."""
    below = sorted(islice(chain(folder.glob("*"), folder.glob("*/*")), _MOST_SEARCHED))
    above = islice(folder.absolute().parents, 2)
    yield from (path for path in chain(below, above) if path.name != _FINAL and _is_model(path))


def _is_model(path: Path) -> bool:
    return (path / _WEIGHTS).is_file() or run_state(path) is not None
