"""Golden cases made by the authors' own code, and the comparison that accounts for every one of their outputs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

OWN = Path(__file__).parents[1] / "reference"
REFERENCE = Path(os.environ.get("VISIONTOK_REFERENCE", OWN))


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

    @cached_property
    def tolerance(self) -> float:
        """The absolute tolerance of tensors that meta.json gives no other one by name."""
        tolerances = self.meta["tolerance"]
        stated = next(tolerances[name] for name in ("float", "floats_abs", "logits_abs", "entropy_abs", "default", "*") if name in tolerances)
        if isinstance(stated, str):  # such as "rtol 1e-4, atol 1e-4 (float32, CPU)" and "abs 1e-4 (...)"
            words = re.search(r"\b(?:abs|atol) ([\d.e-]+)", stated)
            assert words, f"{self.path}/meta.json states no absolute tolerance: {stated!r}"
            stated = float(words[1])
        return stated

    def _named_tolerance(self, name: str) -> object:
        """What meta.json states for an output: by its name, by a pattern, or for all floats."""
        tolerances = self.meta["tolerance"]
        patterned = (value for key, value in tolerances.items() if key != "*" and any(fnmatch(name, part) for part in key.split(" and ")))
        return tolerances.get(name, next(patterned, tolerances.get("float")))

    def check(self, name: str, ours: Tensor) -> None:
        """An output must equal ours: integers exactly, floats within the tolerance of meta.json."""
        expected = self.outputs[name]
        if not expected.is_floating_point():
            torch.testing.assert_close(ours.detach(), expected, rtol=0, atol=0, msg=lambda text: f"{name}: {text}")
            return
        named = self._named_tolerance(name)
        scaled = re.match(r"([\d.e-]+) relative( to (?:the )?max abs)?", named) if isinstance(named, str) else None
        if scaled:  # of every value, or of the largest one
            share = float(scaled[1])
            tolerance, relative = (share * float(expected.abs().max()), 0.0) if scaled[2] else (0.0, share)
        else:
            tolerance = named if isinstance(named, float) else self.tolerance
            relative = tolerance if "rtol = atol" in self.meta.get("notes", "") else 0.0
        if "loss" in name and "loss_rel" in self.meta["tolerance"]:
            tolerance, relative = 0.0, self.meta["tolerance"]["loss_rel"]
        torch.testing.assert_close(ours.detach().to(expected.dtype), expected, rtol=relative, atol=tolerance, msg=lambda text: f"{name}: {text}")

    def compare(self, ours: Mapping[str, Tensor], *, without_counterpart: Mapping[str, str] | None = None) -> None:
        """Every output must equal ours, as `check` says.

        Args:
            ours: by the names of outputs.safetensors.
            without_counterpart: patterns of outputs that nothing of ours corresponds to -> the reason.
        """
        reasons = without_counterpart or {}
        listed = {name for name in self.outputs if any(re.fullmatch(pattern, name) for pattern in reasons)}
        assert not listed & set(ours), f"listed as without counterpart, yet compared: {sorted(listed & set(ours))}"
        missing = set(ours) - set(self.outputs)
        assert not missing, f"outputs.safetensors lacks {sorted(missing)}"
        unknown = set(self.outputs) - set(ours) - listed
        assert not unknown, f"nothing was compared with {sorted(unknown)}"
        for name, value in ours.items():
            self.check(name, value)


def cases(system: str, where: Callable[[ReferenceCase], bool] | None = None, *, not_built: Mapping[str, str] | None = None) -> list[Any]:
    """Parameters of a test: the cases of a system, with ids `<system>/<case>`.

    Without a folder of the system, or where the repository's own has no such case, the test gets a case that is absent, and fails.

    Args:
        system: name of the folder.
        where: which cases the test is about; None for all.
        not_built: shell patterns of cases that are skipped -> what the library lacks for them.
    """
    found = [ReferenceCase(path) for path in sorted((REFERENCE / system).glob("*")) if path.is_dir()]
    absent = [pytest.param(ReferenceCase(REFERENCE / system / "absent"), id=f"{system}/absent")]
    if not found:
        return absent
    reasons = {case: [reason for pattern, reason in (not_built or {}).items() if fnmatch(case.path.name, pattern)] for case in found}
    parameters = [
        pytest.param(case, id=f"{system}/{case.path.name}", marks=[pytest.mark.skip(reason=reason) for reason in reasons[case]])
        for case in found
        if reasons[case] or where is None or where(case)
    ]
    return absent if not parameters and REFERENCE == OWN else parameters


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
