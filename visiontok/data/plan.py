"""Which samples a training step sees: a pure function of (seed, step), so that any run can be taken up at any step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from visiontok.base.errors import ConfigError

# Keep the random streams of one seed apart.
_ORDER, _AUGMENTATION = 1, 2


@dataclass(frozen=True)
class BatchPlan:
    """The endless stream of samples: epoch after epoch, each a permutation of the whole set, cut into global batches.

    A batch may span the end of an epoch, and a set may be smaller than a batch; nothing is dropped or repeated within an epoch.

    Attributes:
        num_samples: size of the set.
        batch_size: samples per step, over all processes.
        seed: of the permutations.
        shuffle: False keeps the order of the set in every epoch.
    """

    num_samples: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.num_samples < 1 or self.batch_size < 1:
            raise ConfigError(f"a plan needs at least one sample and a batch of at least one, got {self.num_samples} and {self.batch_size}")

    def slots(self, step: int) -> list[tuple[int, int]]:
        """(epoch, index) of every sample of global batch `step`."""
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        return [(epoch, self._index(epoch, within)) for epoch, within in (divmod(position, self.num_samples) for position in positions)]

    def _index(self, epoch: int, position: int) -> int:
        return int(_permutation(self.seed, epoch, self.num_samples)[position]) if self.shuffle else position


def augmentation_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random draws for one sample in one epoch, whoever loads it and whenever."""
    return np.random.default_rng([_AUGMENTATION, seed, epoch, index])


@lru_cache(maxsize=4)  # a large set's permutation takes milliseconds, and every step of an epoch requests it
def _permutation(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    return np.random.default_rng([_ORDER, seed, epoch]).permutation(num_samples)
