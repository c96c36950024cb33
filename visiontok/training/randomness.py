"""Seeding torch's global state step by step, so that nothing random is carried from one step to the next.

A resumed run therefore draws what an uninterrupted one draws, without stored generator states. What is drawn per sample (crops, masks,
dropped conditions) does not come from here but from (seed, step, sample) directly; what is left are draws inside layers, such as dropout.
"""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed Python, numpy and torch (every device) for one step of one process."""
    state = int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint32)[0])
    random.seed(state)
    np.random.seed(state)
    torch.manual_seed(state)
