"""The option `--device` and its resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from visiontok.base.errors import ConfigError

if TYPE_CHECKING:
    import torch

DeviceOption = Annotated[str, typer.Option("--device", help="auto (CUDA if available), cpu, cuda or cuda:N.", metavar="auto|cpu|cuda")]


def pick_device(name: str) -> torch.device:
    """The device that the option names.

    Raises:
        ConfigError: for an unknown name, or a device that is not available.
    """
    from visiontok.base.devices import find_device

    try:
        found = find_device(name)
    except ConfigError as error:
        raise ConfigError(f"--device {name}: {error}") from error
    if found.type == "meta":
        raise ConfigError(f"--device {name} holds no values, so nothing can be computed there")
    return found
