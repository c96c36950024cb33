"""Means and covariances of one side of a Fréchet distance in files that the common programs read and write.

ADM, pytorch-fid and clean-fid keep `mu` and `sigma` in an .npz, torch-fidelity keeps them in a .pt. None of them records the number of images, the
split or the network; our files do, in entries that other programs ignore.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from visiontok.base.errors import EvaluationError
from visiontok.base.files import replacing
from visiontok.base.torch_files import read_torch

Split = Literal["train", "val", "test", "generated"]
ADM_TRAINING_FILES = ("VIRTUAL_imagenet", "adm_in256_stats")
"""Prefix of the names of ADM's files, which hold statistics of ImageNet's training set."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """What a Fréchet distance needs of one side.

    Attributes:
        mean: (D,) float64.
        covariance: (D, D) float64, unbiased (divided by n - 1).
        count: number of samples.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int


@dataclass(frozen=True, eq=False)
class ReferenceStatistics:
    """What a file contains about one side.

    Attributes:
        mean: (D,) float64.
        covariance: (D, D) float64.
        sha256: of the file.
        count: number of images; None if neither the file nor the caller gives it.
        split: which images; None if unknown.
        extractor: identity of the features' extractor; None if unknown.
    """

    mean: np.ndarray
    covariance: np.ndarray
    sha256: str
    count: int | None
    split: Split | None
    extractor: str | None

    @property
    def statistics(self) -> Statistics:
        """Mean and covariance, with 0 samples where N is not known."""
        return Statistics(self.mean, self.covariance, self.count or 0)


def write_statistics(path: str | Path, statistics: Statistics, *, split: Split, extractor: str, spatial: Statistics | None = None) -> None:
    """Write a file, whole or not at all.

    Args:
        path: ending in .npz for ADM, pytorch-fid and clean-fid, or in .pt for torch-fidelity, which requires the mean in float32.
        statistics: of the pooled features.
        split: which images these were.
        extractor: identity of the features' extractor.
        spatial: of the spatial features; ADM's script does not read a file without them.

    Raises:
        EvaluationError: for another ending.
    """
    path = Path(path)
    values: dict[str, Any] = {"mu": statistics.mean, "sigma": statistics.covariance}
    if spatial is not None:
        values |= {"mu_s": spatial.mean, "sigma_s": spatial.covariance}
    values |= {"count": np.asarray(statistics.count), "split": np.asarray(split), "extractor": np.asarray(extractor)}
    if path.suffix not in (".npz", ".pt"):
        raise EvaluationError(f"statistics are written as .npz or .pt, not as {path.name}")
    with replacing(path) as temporary:
        if path.suffix == ".npz":
            np.savez(temporary, **values)
        else:
            values |= {"mu": statistics.mean.astype(np.float32), "count": statistics.count, "split": split, "extractor": extractor}
            torch.save(values, temporary)


def read_statistics(path: str | Path, *, count: int | None = None, split: Split | None = None, extractor: str | None = None) -> ReferenceStatistics:
    """Read a file of any of these programs.

    Args:
        path: .npz or .pt.
        count, split, extractor: what you know and the file may not contain; where it does, both must agree.

    Raises:
        EvaluationError: if the file cannot be read, holds no statistics or impossible ones, or contradicts the arguments.
    """
    path = Path(path)
    if not path.is_file():
        raise EvaluationError(f"there is no statistics file {path}")
    try:
        values = _read_npz(path) if path.suffix == ".npz" else _read_pt(path)
        mean, covariance = (np.asarray(values[key], dtype=np.float64) for key in ("mu", "sigma"))
    except KeyError as error:
        raise EvaluationError(f"{path} holds no {error}; expected the mean 'mu' (D,) and the covariance 'sigma' (D, D)") from error
    except Exception as error:  # both libraries raise many types of exceptions for damaged files
        raise EvaluationError(f"{path} is not a readable statistics file: {error}") from error
    if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
        raise EvaluationError(f"{path} holds a mean of shape {mean.shape} and a covariance of shape {covariance.shape}; expected (D,) and (D, D)")
    check_moments(mean, covariance, side=f"file {path}")
    if "count" in values and int(values["count"]) < 2:
        raise EvaluationError(f"{path} says that it was made from {int(values['count'])} samples; a covariance needs at least 2")
    said_split = str(values["split"]) if "split" in values else "train" if path.name.startswith(ADM_TRAINING_FILES) else None
    if said_split not in (None, *get_args(Split)):
        raise EvaluationError(f"{path} is of the split {said_split!r}; known: {', '.join(get_args(Split))}")
    return ReferenceStatistics(
        mean,
        covariance,
        hashlib.sha256(path.read_bytes()).hexdigest(),
        count=_agreed(path, "count", int(values["count"]) if "count" in values else None, count),
        split=_agreed(path, "split", said_split, split),
        extractor=_agreed(path, "extractor", str(values["extractor"]) if "extractor" in values else None, extractor),
    )


def check_moments(mean: np.ndarray, covariance: np.ndarray, *, side: str) -> None:
    """Make sure that a mean (D,) and a covariance (D, D) are such.

    Raises:
        EvaluationError: if a number is not finite, the matrix is not symmetric or a variance negative; names the side.
    """
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise EvaluationError(f"the {side} holds numbers that are not finite")
    scale = np.abs(covariance).max()
    if not np.allclose(covariance, covariance.T, rtol=1e-5, atol=1e-8 * scale):
        raise EvaluationError(f"the covariance of the {side} is not symmetric")
    smallest = covariance.diagonal().min()
    if smallest < -1e-8 * scale - 1e-12 * np.square(mean).max():
        raise EvaluationError(f"the {side} has a variance of {smallest:.3g}; a variance is never negative")


def _agreed(path: Path, what: str, said: Any, given: Any) -> Any:
    if None not in (said, given) and said != given:
        raise EvaluationError(f"{path} says that its {what} is {said}, not {given}")
    return given if said is None else said


def _read_npz(path: Path) -> Mapping[str, Any]:
    if not zipfile.is_zipfile(path):
        raise ValueError("no .npz archive")
    with np.load(path, allow_pickle=False) as archive:
        known = [key for key in ("mu", "sigma", "count", "split", "extractor") if key in archive.files]  # ADM's files hold images too
        return {key: archive[key] for key in known}


def _read_pt(path: Path) -> Mapping[str, Any]:
    """A dictionary of arrays: torch reads NumPy's arrays only if the functions that build them are listed as safe."""
    reconstruct: Any = np.empty(0).__reduce__()[0]
    names = ("numpy._core.multiarray._reconstruct", "numpy.core.multiarray._reconstruct")
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)]
    with torch.serialization.safe_globals([np.ndarray, np.dtype, *kinds, *((reconstruct, name) for name in names)]):
        loaded = read_torch(path)
    if not isinstance(loaded, dict):
        raise KeyError("mu")
    return loaded
