"""Settings of the whole suite."""

from __future__ import annotations

import os
import random
from collections.abc import Generator

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """torch's attention in bfloat16 asks the processor what it can, not ATEN_CPU_CAPABILITY, and so fails where that imitates an older one."""
    try:
        return (yield)
    except RuntimeError as error:
        if "ATEN_CPU_CAPABILITY" in os.environ and "pack_vnni2 is only supported" in str(error):
            pytest.skip("torch's attention in bfloat16 does not run with an imitated instruction set on this processor")
        raise
