"""Reading what others wrote: configurations and weights, without running any of their code."""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from visiontok.base.config import Config, Sha256
from visiontok.base.errors import CheckpointError, ConfigError
from visiontok.base.files import check_regular, file_sha256
from visiontok.base.json_text import parse_json, read_json
from visiontok.base.torch_files import check_nesting, read_torch
from visiontok.base.yaml_text import read_yaml_values
from visiontok.hub.inert_pickle import foreign, read_inert
from visiontok.hub.torchscript import is_torchscript, read_torchscript
from visiontok.hub.wrappers import Weights, unwrap, without_common_prefixes
from visiontok.registry import Kind

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"
METADATA_KEY = "visiontok"
"""Under which our safetensors files carry the text of the config.json that they were saved with."""

PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".th", ".jit", ".ts"})

MAX_REPEATED_BYTES = 2**30
"""By which the tensors of a pickle may exceed its size: expanded ones hold their values once."""

logger = logging.getLogger(__name__)


class SavedConfig(Config):
    """Our `config.json`.

    Attributes:
        format: of this file; raised when older versions could no longer read it.
        library, version: what wrote it.
        kind, family: as in the registry.
        config: the family's own configuration.
        checksums: SHA-256 of each tensor file, by its name; empty where the configuration is that in the weights' own header.
    """

    format: Literal[1] = 1
    library: Literal["visiontok"] = "visiontok"
    version: str
    kind: Kind
    family: str
    config: dict[str, Any]
    checksums: dict[str, Sha256] = Field(default_factory=dict)

    @classmethod
    def read(cls, values: Mapping[str, Any], *, source: str) -> SavedConfig:
        """Parse, with a clear word about files of a later version."""
        found = values.get("format")
        if isinstance(found, int) and found > 1:
            by = f"visiontok {values.get('version', '(unknown version)')}"
            raise ConfigError(f"{source} has format {found}, written by {by}; this version reads format 1: update visiontok")
        return cls.parse(values, source=source)

    def describes_same_model(self, other: SavedConfig) -> bool:
        """Whether both belong to the same weights, whichever version wrote them."""
        return (self.family, self.config) == (other.family, other.config)


def read_config(path: Path) -> dict[str, Any]:
    """A configuration file, JSON or YAML by its suffix.

    Raises:
        ConfigError: naming the file and the line where it cannot be read.
    """
    values = read_yaml_values(path) if path.suffix in (".yaml", ".yml") else read_json(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}; a configuration is an object with named values")
    return values


def check_whole(path: Path) -> None:
    """Check header and length of a safetensors file without reading its tensors, and that a configuration can be parsed; other files pass.

    Raises:
        CheckpointError, ConfigError: if it is truncated or corrupt.
    """
    if path.suffix == ".safetensors":
        read_metadata(path)
    elif path.suffix in (".json", ".yaml", ".yml"):
        read_config(path)


def read_metadata(path: Path) -> dict[str, str]:
    """The free text that a safetensors file carries in its header.

    Raises:
        CheckpointError: if the file is truncated or corrupt.
    """
    try:
        with safe_open(check_regular(path), framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def read_own_config(path: Path) -> dict[str, Any] | None:
    """The configuration that weights which we saved carry in their header; None for other files.

    Raises:
        CheckpointError: if the file is truncated or corrupt.
    """
    text = read_metadata(path).get(METADATA_KEY)
    try:
        values = None if text is None else parse_json(text, source=f"the header of {path}")
    except ConfigError as error:
        raise _damaged(path, error) from error
    return values if isinstance(values, dict) else None


def check_sha256(path: Path, expected: str) -> None:
    """Compare a file with the checksum that was written beside it; takes about a second per GB.

    Raises:
        CheckpointError: naming the file and both sums.
    """
    found = file_sha256(path)
    if found != expected:
        raise CheckpointError(f"{path} is damaged, or was replaced: its SHA-256 is {found}, but {CONFIG_NAME} says {expected}. Get or save it again.")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file under the names that stand there, on the CPU.

    Raises:
        CheckpointError: if the file is truncated or corrupt.
    """
    try:
        return load_file(check_regular(path))
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def read_weights(path: Path, *, key: str | None = None) -> Weights:
    """A state dict, on the CPU, without the wrappers around it.

    Args:
        path: .safetensors, a TorchScript archive, or a pickle (.bin, .pt, .pth, .ckpt, .th), of which only tensors and plain containers are read.
        key: the entry of a pickle that holds the state dict; None for the pickle itself or the first of `wrappers.CONTAINERS`.

    Raises:
        CheckpointError: if the file is truncated, corrupt, of an unknown kind, or holds other objects than tensors.
    """
    if path.suffix == ".safetensors":
        return without_common_prefixes(Weights(read_safetensors(path)))
    if path.suffix not in PICKLES:
        raise CheckpointError(f"{path} is not a weight file that can be read; expected .safetensors or one of {', '.join(sorted(PICKLES))}")
    _guarded(check_nesting, path)
    values = _guarded(read_torchscript, path) if is_torchscript(path) else _load_pickle(path)
    weights = unwrap(values, key=key, source=str(path))
    if weights.wrappers:
        logger.info("%s: reading the tensors within %s", path, weights)
    declared, held = sum(tensor.numel() * tensor.element_size() for tensor in weights.tensors.values()), path.stat().st_size
    if declared - held > MAX_REPEATED_BYTES:  # tensors of a pickle may repeat their values
        raise CheckpointError(f"{path} declares tensors of {declared} bytes and holds {held}")
    return weights


def _load_pickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([Namespace]):  # a plain container; many training scripts save their arguments in it
            return read_torch(path)
    except pickle.UnpicklingError as error:
        forbidden = re.search(r"GLOBAL ([\w.]+)", str(error))
        if forbidden is None:
            raise _damaged(path, error) from error
        if not zipfile.is_zipfile(path):
            raise foreign(path, forbidden[1]) from error
    except Exception as error:
        raise _damaged(path, error) from error
    return _guarded(read_inert, path)


def _guarded(read: Callable[[Path], Any], path: Path) -> Any:
    """Call a reader; damaged pickles fail in as many ways as there are bytes."""
    try:
        return read(path)
    except CheckpointError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CheckpointError:
    size = f"{path.stat().st_size} bytes" if path.is_file() else "not there"
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return CheckpointError(f"{path} ({size}) is truncated or corrupt: {reason}.")
