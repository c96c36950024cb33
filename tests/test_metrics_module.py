"""`visiontok.metrics`: every metric function in one place."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest
import torch
from torchvision.models import squeezenet1_1

import visiontok
import visiontok.metrics
from visiontok.base.errors import EvaluationError, NonFiniteError
from visiontok.evaluation import metrics as package
from visiontok.evaluation.features.weight_files import WeightFile
from visiontok.evaluation.metrics import perceptual
from visiontok.losses.perceptual import LpipsDistance

INTERIOR = {"accumulator", "bootstrap", "frechet_bootstrap", "metric", "needs", "one_number", "registry", "running", "value"}
"""Modules of suites, which hold no metric."""
PARTS = {
    "as_pair",
    "at_least",
    "check_pair",
    "check_span",
    "feature_pair",
    "flattened",
    "observed",
    "rising_once",
    "stored_indices",
    "polynomial_kernel",
    "gaussian_kernel",
    "neighbor_distances",
    "lpips_network",
    "dists_network",
}
"""What metrics are made of."""


def test_every_function_of_the_package_is_here() -> None:
    functions = set()
    for module in pkgutil.iter_modules(package.__path__):
        if not module.ispkg and module.name not in INTERIOR:
            found = vars(importlib.import_module(f"{package.__name__}.{module.name}"))
            functions |= {name for name, value in found.items() if inspect.isfunction(value) and value.__module__.endswith(f".{module.name}")}
    assert {name for name in functions if not name.startswith("_")} - PARTS == {name for name in visiontok.metrics.__all__ if name[0].islower()}


def test_names_are_listed_once_and_documented() -> None:
    assert len(set(visiontok.metrics.__all__)) == len(visiontok.metrics.__all__)
    assert all(getattr(visiontok.metrics, name).__doc__ for name in visiontok.metrics.__all__)


def test_packages_are_attributes_and_load_when_they_are_used() -> None:
    shown = "visiontok.metrics.psnr.__name__, visiontok.quantizers.VectorQuantizer.__name__"
    code = f"import sys, visiontok; assert 'torch' not in sys.modules; print({shown})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["psnr", "VectorQuantizer"]


@pytest.fixture
def squeeze(tmp_path, monkeypatch):
    torch.manual_seed(0)
    weights = squeezenet1_1(weights=None).state_dict()
    torch.save(weights, tmp_path / "squeeze.pth")
    monkeypatch.setenv("VISIONTOK_WEIGHTS", str(tmp_path))
    monkeypatch.setitem(perceptual.BACKBONES, "squeeze", WeightFile("squeeze.pth", "1 MB", "", "nowhere", "none"))
    perceptual.lpips_network.cache_clear()
    yield weights
    perceptual.lpips_network.cache_clear()


def test_lpips_of_any_range(squeeze) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=generator) for _ in range(2))
    expected = LpipsDistance(squeeze, net="squeeze")(first / 255, second / 255)
    found = visiontok.metrics.lpips(first, second, data_range=255, net="squeeze")
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), expected)
    torch.testing.assert_close(visiontok.metrics.lpips(first / 255, second / 255, data_range=1, net="squeeze"), found)
    assert visiontok.metrics.lpips(first, first, data_range=255, net="squeeze").tolist() == [0, 0]


@pytest.mark.parametrize(
    ("shape", "low", "high", "data_range", "message"),
    [
        ((2, 1, 64, 64), 0, 1, 1, r"\(2, 1, 64, 64\)"),
        ((2, 3, 64, 64), 0, 255, 1, "255"),
        ((2, 3, 64, 64), -1, 1, 2, "-1"),
        ((2, 3, 64, 64), 0, float("nan"), 1, "NaN"),
    ],
)
def test_lpips_of_something_else_is_refused(squeeze, shape, low, high, data_range, message) -> None:
    images = torch.full(shape, float(high))
    images[0] = low
    with pytest.raises((EvaluationError, NonFiniteError), match=message):
        visiontok.metrics.lpips(images, images, data_range=data_range, net="squeeze")
