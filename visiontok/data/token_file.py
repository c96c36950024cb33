"""The tokens of a few samples in one NumPy file (.npz), as `visiontok encode` writes and `visiontok decode` reads it.

Its arrays: those of `Tokens.save` or `Latents.save`; `keys` (N,) names; `labels` (N,) where samples have classes; `tokenizer`, a text in JSON.
For data sets there are Parquet shards, see `token_shards`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visiontok.base.errors import TokenError
from visiontok.base.npz import read_npz, write_npz
from visiontok.core.identity import TokenizerIdentity
from visiontok.tokens import Latents, Tokens


@dataclass(frozen=True)
class TokenFile:
    """What such a file holds.

    Attributes:
        tokens: N samples.
        keys: N names.
        tokenizer: that made or decodes them.
        labels: N classes; None where samples have none.
    """

    tokens: Tokens | Latents
    keys: tuple[str, ...]
    tokenizer: TokenizerIdentity
    labels: tuple[int, ...] | None = None

    def write(self, path: str | Path) -> None:
        """Write the file; it gets its name when it is complete."""
        arrays = self.tokens.to_arrays()
        arrays["keys"] = np.asarray(self.keys, dtype=np.str_)
        arrays["tokenizer"] = np.asarray(self.tokenizer.model_dump_json())
        if self.labels is not None:
            arrays["labels"] = np.asarray(self.labels, dtype=np.int64)
        write_npz(path, arrays)

    @classmethod
    def read(cls, path: str | Path) -> TokenFile:
        """Read and validate a file.

        Raises:
            TokenError: if it is no such file, is damaged, or its tokens do not fit its layout.
            FileNotFoundError: if there is none.
        """
        try:
            arrays = read_npz(path)
            missing = {"keys", "tokenizer"} - set(arrays)
            if missing:
                raise TokenError(f"it has no array {sorted(missing)[0]!r}, so it is not a file of tokens")
            for name, kinds, what in (("keys", "U", "texts"), ("labels", "iu", "whole numbers")):
                if name in arrays and (arrays[name].dtype.kind not in kinds or arrays[name].ndim != 1):
                    raise TokenError(f"{name} must be {what} of shape (N,), got {arrays[name].dtype} {arrays[name].shape}")
            if "labels" in arrays and bool((arrays["labels"] < 0).any()):
                raise TokenError(f"label {int(arrays['labels'].min())} is negative; a sample has a class, or the file has no labels")
            found = cls(
                (Latents if "values" in arrays else Tokens).from_arrays(arrays),
                tuple(map(str, arrays["keys"].tolist())),
                TokenizerIdentity.model_validate_json(str(arrays["tokenizer"])),
                tuple(int(label) for label in arrays["labels"].tolist()) if "labels" in arrays else None,
            )
        except TokenError as error:
            raise TokenError(f"{path}: {error}") from error
        except (ValueError, TypeError) as error:
            raise TokenError(f"{path} is not a file of tokens, or is damaged: {error}") from error
        _check_count(path, len(found.tokens), {"keys": found.keys, "labels": found.labels})
        return found


def _check_count(path: str | Path, count: int, columns: Mapping[str, Sequence[object] | None]) -> None:
    for name, column in columns.items():
        if column is not None and len(column) != count:
            raise TokenError(f"{path} holds {count} samples but {len(column)} {name}")
