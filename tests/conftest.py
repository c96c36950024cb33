"""Settings of the whole suite."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import settings

# With pytest-xdist, every worker, and every process that its tests start, computes with one thread. Torch reads these when it is first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

# How long an example takes depends on the machine and on what else runs there; it says nothing about the code.
# Examples are derived from the test, so that every run tries the same ones.
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state, whatever ran before it."""
    import numpy as np
    import torch

    torch.manual_seed(20_250_101)
    np.random.seed(20_250_101)
    random.seed(20_250_101)
