"""The option `--device` and its resolution."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from visiontok.base.errors import ConfigError

if TYPE_CHECKING:
    import torch

DeviceOption = Annotated[str, typer.Option("--device", help="auto (CUDA if available), cpu, cuda or cuda:N.", metavar="auto|cpu|cuda")]


def pick_device(name: str) -> torch.device:
    """The device that the option names.

    Raises:
        ConfigError: for an unknown name, or a CUDA device that is not available.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if known is None:
        raise ConfigError(f"--device {name!r} is not a device; use auto, cpu, cuda or cuda:0")
    if name != "cpu" and int(known[1] or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name} is not available: torch sees {torch.cuda.device_count()} CUDA devices; use --device cpu")
    return torch.device(name)
