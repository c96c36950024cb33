"""Every parameter that requires a gradient gets one in a training step: with several processes, one that does not stops the run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import visiontok
from visiontok.base.noise import SampleNoise
from visiontok.losses import ReconstructionConfig

VIT = {"dim": 32, "depth": 1, "num_heads": 2, "patch_size": 8}
