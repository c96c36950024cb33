"""What the numbers of a result were computed from, in a file beside it: values of single images, counts of ids."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from visiontok.base.errors import EvaluationError
from visiontok.base.files import replacing

SUFFIX = ".evidence.safetensors"

_NUMBERS, _IMAGES, _CODES, _RESAMPLED = "numbers", "image: ", "codes: ", "resampled: "


@dataclass(frozen=True, eq=False)
class Evidence:
    """With it two results can be compared image by image, and the best and worst images found.

    Attributes:
        numbers: (N,) int64, places of the images in the data set, rising.
        per_image: label of a value -> (N,) float64, what each image contributes to that mean; not finite where it is left out.
        code_counts: codebook, and the length where there are several -> (K,) int64.
        resampled: label of a value over sets of images -> (R,) float64, the same value over resampled images.
    """

    numbers: np.ndarray
    per_image: Mapping[str, np.ndarray]
    code_counts: Mapping[str, np.ndarray]
    resampled: Mapping[str, np.ndarray] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """A safetensors file; equal evidence gives equal bytes."""
        arrays = {_NUMBERS: self.numbers}
        arrays.update({_IMAGES + label: np.ascontiguousarray(column, dtype=np.float64) for label, column in self.per_image.items()})
        arrays.update({_CODES + name: np.ascontiguousarray(counts) for name, counts in self.code_counts.items()})
        arrays.update({_RESAMPLED + label: np.ascontiguousarray(column, dtype=np.float64) for label, column in self.resampled.items()})
        return save(arrays)

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def save_beside(self, result: Path) -> Path:
        """Write the file that belongs to the result file `result`, whole or not at all."""
        path = evidence_path(result)
        with replacing(path) as temporary:
            temporary.write_bytes(self.to_bytes())
        return path

    @classmethod
    def load_beside(cls, result: Path, sha256: str | None) -> Evidence | None:
        """The evidence of a result file; None where the file is missing.

        Args:
            result: path of the result.
            sha256: that the result names.

        Raises:
            EvaluationError: if the file belongs to another result, or is damaged.
        """
        path = evidence_path(result)
        if sha256 is None or not path.is_file():
            return None
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise EvaluationError(f"{path} does not belong to {result}, or was damaged: its SHA-256 is not the one that the result names; remove it")
        try:
            arrays = load(data)
        except SafetensorError as error:  # the sum matches, so somebody wrote it so
            raise EvaluationError(f"{path} is not a safetensors file: {error}") from error
        return cls(arrays[_NUMBERS], *(_under(arrays, kind) for kind in (_IMAGES, _CODES, _RESAMPLED)))


def evidence_path(result: Path) -> Path:
    """Beside `name.json`: `name.evidence.safetensors`."""
    return result.with_name(result.stem + SUFFIX)


def _under(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
