"""The tokens of a few pictures in one NumPy file (.npz), as `visiontok encode` writes and `visiontok decode` reads it.

Its arrays: `indices` (N, L) int64, -1 beyond a sample's length, or `values` (N, L, D) float32 for continuous latents; `lengths` (N,); `positions`
(N, L) where kept ids keep their place; `keys` (N,) names; `labels` (N,) where samples have classes; `layout` and `tokenizer`, texts in JSON.
For data sets there are Parquet shards, see `token_shards`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from visiontok.base.errors import TokenError
from visiontok.base.files import replacing
from visiontok.core.identity import TokenizerIdentity
from visiontok.tokens import Latents, TokenLayout, Tokens


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
        """Write the file; it gets its name when it is whole."""
        arrays: dict[str, np.ndarray] = {
            "keys": np.asarray(self.keys, dtype=np.str_),
            "layout": np.asarray(self.tokens.layout.model_dump_json()),
            "tokenizer": np.asarray(self.tokenizer.model_dump_json()),
        }
        if self.labels is not None:
            arrays["labels"] = np.asarray(self.labels, dtype=np.int64)
        if isinstance(self.tokens, Latents):
            arrays["values"] = self.tokens.values.detach().float().cpu().numpy()
        else:
            arrays["indices"] = self.tokens.indices.cpu().numpy()
            arrays["lengths"] = self.tokens.sample_lengths.cpu().numpy()
            if self.tokens.positions is not None:
                arrays["positions"] = self.tokens.positions.cpu().numpy()
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: str | Path) -> TokenFile:
        """Read and validate a file.

        Raises:
            TokenError: if it is no such file, is damaged, or its ids do not fit its layout.
            FileNotFoundError: if there is none.
        """
        with open(path, "rb") as opened:
            try:
                with np.load(opened, allow_pickle=False) as file:
                    arrays = {name: file[name] for name in file.files}
                tokens = _tokens(arrays)
                labels = tuple(arrays["labels"].tolist()) if "labels" in arrays else None
                found = cls(tokens, tuple(arrays["keys"].tolist()), TokenizerIdentity.model_validate_json(str(arrays["tokenizer"])), labels)
            except KeyError as error:
                raise TokenError(f"{path} is not a file of tokens: it has no array {error}") from error
            except TokenError as error:
                raise TokenError(f"{path}: {error}") from error
            except Exception as error:  # damaged archives fail in as many ways as there are bytes
                raise TokenError(f"{path} is not a file of tokens, or is damaged: {error}") from error
        _check_count(path, len(tokens), {"keys": found.keys, "labels": found.labels})
        return found


def _tokens(arrays: Mapping[str, np.ndarray]) -> Tokens | Latents:
    layout = TokenLayout.model_validate_json(str(arrays["layout"]))
    if layout.is_continuous:
        return Latents(torch.from_numpy(arrays["values"]).float(), layout)
    lengths = torch.from_numpy(arrays["lengths"])
    indices = torch.from_numpy(arrays["indices"])
    even = bool((lengths == indices.shape[1]).all())
    positions = torch.from_numpy(arrays["positions"]) if "positions" in arrays else None
    return Tokens(indices, layout, lengths=None if even else lengths, positions=positions).validate()


def _check_count(path: str | Path, count: int, columns: Mapping[str, Sequence[object] | None]) -> None:
    for name, column in columns.items():
        if column is not None and len(column) != count:
            raise TokenError(f"{path} holds {count} samples but {len(column)} {name}")
