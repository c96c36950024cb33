"""What the numbers of a result were computed from, as Parquet files beside it: values of single samples, use of codes, resampled distances."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from visiontok.base.errors import EvaluationError, damage_as
from visiontok.base.files import replacing

SAMPLES, CODES, RESAMPLES = ".samples.parquet", ".codes.parquet", ".resamples.parquet"
"""Ends of file names: one row per sample; one row per code of a codebook; one row per resample."""

_INDEX, _KEY, _CODEBOOK, _CODE, _COUNT, _RESAMPLE = "index", "key", "codebook", "code", "count", "resample"


@dataclass(frozen=True, eq=False)
class PerSampleResults:
    """With it two results can be compared sample by sample, and the best and worst samples found.

    Attributes:
        indices: (N,) int64 of the samples in the data set, rising.
        keys: N names of the samples in their source; empty where they have none.
        per_sample: label of a number -> (N,) float64, what each sample contributes to that mean; not finite where it is ignored.
        code_counts: codebook, and the length where there are several -> (K,) int64.
        resampled: label of a number over sets of samples -> (R,) float64, the same number over resampled samples.
    """

    indices: np.ndarray
    keys: Sequence[str]
    per_sample: Mapping[str, np.ndarray]
    code_counts: Mapping[str, np.ndarray] = field(default_factory=dict)
    resampled: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of the contents, whatever wrote the files."""
        digest = hashlib.sha256()
        parts = [("indices", self.indices.astype("<i8")), ("keys", np.frombuffer("\0".join(self.keys).encode(), dtype=np.uint8))]
        parts += [(f"sample {label}", column.astype("<f8")) for label, column in self.per_sample.items()]
        parts += [(f"codes {name}", counts.astype("<i8")) for name, counts in self.code_counts.items()]
        parts += [(f"resampled {label}", column.astype("<f8")) for label, column in self.resampled.items()]
        for name, array in parts:
            digest.update(f"{name}\0{len(array)}\0".encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save_beside(self, result: Path) -> None:
        """Write the files that belong to the result file `result`, each whole or not at all."""
        samples: dict[str, pa.Array] = {_INDEX: pa.array(self.indices)}
        if self.keys:
            samples[_KEY] = pa.array(self.keys)
        _write(_beside(result, SAMPLES), pa.table(samples | {label: pa.array(column) for label, column in self.per_sample.items()}))
        if self.code_counts:
            codebooks = np.repeat(list(self.code_counts), [len(counts) for counts in self.code_counts.values()])
            codes = np.concatenate([np.arange(len(counts)) for counts in self.code_counts.values()])
            columns = {_CODEBOOK: pa.array(codebooks).dictionary_encode(), _CODE: codes, _COUNT: np.concatenate([*self.code_counts.values()])}
            _write(_beside(result, CODES), pa.table(columns))
        if self.resampled:
            rows = {_RESAMPLE: np.arange(len(next(iter(self.resampled.values()))))}
            _write(_beside(result, RESAMPLES), pa.table(rows | dict(self.resampled)))

    @classmethod
    def load_beside(cls, result: Path, sha256: str | None) -> PerSampleResults | None:
        """What belongs to a result file; None where the file of the samples is missing.

        Args:
            result: path of the result.
            sha256: that the result names.

        Raises:
            EvaluationError: if the files belong to another result, or are damaged.
        """
        path = _beside(result, SAMPLES)
        if sha256 is None or not path.is_file():
            return None
        with damage_as(EvaluationError, f"{path} and the files beside it are damaged; remove them"):
            samples = _read(path)
            indices, keys = samples.pop(_INDEX), samples.pop(_KEY, np.asarray([])).tolist()
            codes, resampled = _read(_beside(result, CODES)), _read(_beside(result, RESAMPLES))
            resampled.pop(_RESAMPLE, None)
            texts = [name for name, column in {**samples, **resampled}.items() if column.dtype.kind not in "fiu"]
            if texts:
                raise EvaluationError(f"{path} and the files beside it are damaged: {texts[0]!r} does not hold numbers; remove them")
            counts = {name: codes[_COUNT][codes[_CODEBOOK] == name] for name in dict.fromkeys(codes.get(_CODEBOOK, np.asarray([])).tolist())}
            found = cls(indices, keys, samples, counts, resampled)
            digest = found.sha256
        if digest != sha256:
            raise EvaluationError(
                f"{path} and the files beside it do not belong to {result}, or were damaged: their SHA-256 is not the one that the result "
                "names; remove them"
            )
        return found


def _beside(result: Path, end: str) -> Path:
    """Beside `name.json`: `name.samples.parquet`."""
    return result.with_name(result.stem + end)


def _write(path: Path, table: pa.Table) -> None:
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def _read(path: Path) -> dict[str, np.ndarray]:
    """Columns by name; none where there is no file."""
    if not path.is_file():
        return {}
    with damage_as(EvaluationError, f"{path} is not a readable Parquet file"):
        table = pq.read_table(path)
    return {name: table.column(name).to_numpy() for name in table.column_names}
