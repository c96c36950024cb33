"""A saved model comes back as it was, whatever its family: weights, buffers that no file holds, and everything else that its constructor computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import SMALL
from torch import Tensor, nn

import visiontok
from visiontok import registry


@pytest.fixture
def tiny() -> None:
    """The real registry in place of the tiny one."""


def everything(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Tensors, arrays, numbers and flags of every module, by name."""
    for name, module in model.named_modules():
        yield f"{name}:mode", (type(module).__name__, module.training)
        for kind in (module._parameters, module._buffers, module.__dict__):
            for key, value in kind.items():
                if isinstance(value, Tensor):
                    yield f"{name}.{key}", (value.dtype, value.shape, value.requires_grad, value.detach().numpy().tobytes())
                elif isinstance(value, np.ndarray):
                    yield f"{name}.{key}", (value.dtype, value.shape, value.tobytes())
                elif isinstance(value, int | float | str | tuple):
                    yield f"{name}.{key}", value


def test_there_is_a_small_model_of_every_family() -> None:
    assert set(SMALL) == set(registry.families())


@pytest.mark.parametrize("family", SMALL)
def test_every_state_comes_back(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = visiontok.create(family, **SMALL[family]).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, dtype=tensor.dtype))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    loaded = visiontok.from_pretrained(visiontok.save_pretrained(model, tmp_path / "model"))
    assert torch.equal(torch.get_rng_state(), before)
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    expected, found = dict(everything(model)), dict(everything(loaded))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == value, name
