"""Devices and dtypes by name: unknown ones are an error that lists the known."""

from __future__ import annotations

import torch

from visiontok.base.errors import ConfigError

DTYPES = ("float32", "float64", "bfloat16", "float16")
"""That models compute in."""


def find_device(device: torch.device | str) -> torch.device:
    """The device of that name; "auto" is CUDA if there is any, else the CPU.

    Raises:
        ConfigError: if torch knows no such device, or it is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"{device!r} is not a device; use one of {', '.join(_available())}") from error
    if not _is_there(found):
        raise ConfigError(f"the device {str(found)!r} is not available here; use one of {', '.join(_available())}")
    return found


def find_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """The floating-point dtype of that name, such as "bfloat16"; None stays None.

    Raises:
        ConfigError: for anything that is no floating-point dtype.
    """
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if found is None and dtype is None:
        return None
    if not isinstance(found, torch.dtype) or str(found).removeprefix("torch.") not in DTYPES:
        raise ConfigError(f"{dtype!r} is not a dtype that models compute in; use one of {', '.join(DTYPES)}")
    return found


def _is_there(device: torch.device) -> bool:
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):  # every backend says it in its own way
        return False
    return True


def _available() -> list[str]:
    others = [device for device in (torch.device("mps"), torch.device("xpu")) if _is_there(device)]
    return ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count())), *map(str, others)]
