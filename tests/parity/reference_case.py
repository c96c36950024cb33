"""Golden cases made by the authors' own code, and the comparison that accounts for every one of their outputs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

REFERENCE = Path(os.environ.get("VISIONTOK_REFERENCE", Path(__file__).parents[1] / "reference"))


@dataclass(frozen=True)
class ReferenceCase:
    """One folder `<system>/<case>`: config.json, meta.json, weights, inputs and outputs."""

    path: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        return json.loads((self.path / "config.json").read_text())

    @cached_property
    def meta(self) -> dict[str, Any]:
        return json.loads((self.path / "meta.json").read_text())

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        return load_file(self.path / "weights.safetensors")

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        return load_file(self.path / "inputs.safetensors")

    @cached_property
    def outputs(self) -> dict[str, Tensor]:
        return load_file(self.path / "outputs.safetensors")

    def compare(self, ours: Mapping[str, Tensor], *, without_counterpart: Mapping[str, str] | None = None, tolerance: float | None = None) -> None:
        """Every output must equal ours: integers exactly, floats within the tolerance of meta.json.

        Args:
            ours: by the names of outputs.safetensors.
            without_counterpart: patterns of outputs that nothing of ours corresponds to -> the reason.
            tolerance: of floats, where meta.json says it in words.
        """
        reasons = without_counterpart or {}
        listed = {name for name in self.outputs if any(re.fullmatch(pattern, name) for pattern in reasons)}
        assert not listed & set(ours), f"listed as without counterpart, yet compared: {sorted(listed & set(ours))}"
        missing = set(ours) - set(self.outputs)
        assert not missing, f"outputs.safetensors lacks {sorted(missing)}"
        unknown = set(self.outputs) - set(ours) - listed
        assert not unknown, f"nothing was compared with {sorted(unknown)}"
        if tolerance is None:
            tolerance = next(self.meta["tolerance"][name] for name in ("float", "floats_abs", "default") if name in self.meta["tolerance"])
        for name, value in ours.items():
            expected = self.outputs[name]
            exact = not expected.is_floating_point()
            torch.testing.assert_close(
                value.detach().to(expected.dtype) if not exact else value,
                expected,
                rtol=0 if exact else tolerance,
                atol=0 if exact else tolerance,
                msg=lambda text, name=name: f"{name}: {text}",
            )


def cases(system: str, pattern: str = "*") -> list[Any]:
    """Parameters of a test: the cases of a system whose name matches a shell pattern, with ids `<system>/<case>`."""
    folders = sorted(path for path in (REFERENCE / system).glob(pattern) if (path / "meta.json").is_file())
    return [pytest.param(ReferenceCase(path), id=f"{system}/{path.name}") for path in folders]


class Taps:
    """Records the outputs of named submodules during forward passes; the last call wins.

    A block that is asked for some positions only is run once more for all of them.
    """

    def __init__(self, model: nn.Module, names: Mapping[str, str]) -> None:
        self.seen: dict[str, Tensor] = {}
        for theirs, ours in names.items():
            model.get_submodule(ours).register_forward_hook(partial(self._record, theirs), with_kwargs=True)

    def _record(self, theirs: str, module: nn.Module, args: tuple[object, ...], options: dict[str, object], output: Tensor) -> None:
        asked = options.get("kept")
        whole = output if asked is None else module.forward(*args, **{**options, "kept": slice(None)})
        if asked is not None:
            torch.testing.assert_close(output, whole[:, asked], rtol=1e-5, atol=1e-5)
        self.seen[theirs] = whole.clone()
