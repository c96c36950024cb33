"""Settings of the whole suite."""

from __future__ import annotations

import os

from hypothesis import settings

# With pytest-xdist, every worker, and every process that its tests start, computes with one thread. Torch reads these when it is first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

# How long an example takes depends on the machine and on what else runs there; it says nothing about the code.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
