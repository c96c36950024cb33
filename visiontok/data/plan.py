"""Which samples a training step sees: a pure function of (seed, step), so that any run can be taken up at any step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from visiontok.base.errors import ConfigError

# Keep the random streams of one seed apart.
_ORDER, _AUGMENTATION, _BLOCKS = 1, 2, 3


@dataclass(frozen=True, eq=False)
class Blocks:
    """How the samples of a set lie in blocks that are read as a whole, such as the row groups of Parquet files.

    A whole permutation would read a block for every sample. Instead, an epoch draws an order of the blocks, cuts it into windows of about
    `window_bytes`, and permutes the samples of every window: neighbors come from random places of the set, and every block is read once an epoch.

    Attributes:
        rows: (K,) int64 samples of every block, in order; may be 0.
        nbytes: (K,) int64 memory that every block takes.
        window_bytes: memory of a window.
    """

    rows: np.ndarray
    nbytes: np.ndarray
    window_bytes: int

    @property
    def is_one_window(self) -> bool:
        """Whether all blocks fit in memory at once, so that a whole permutation reads every block once."""
        return int(self.nbytes.sum()) <= self.window_bytes

    def without(self, samples: np.ndarray) -> Blocks:
        """The blocks of the remaining samples, numbered anew, where some (n,) are not used."""
        used = np.bincount(np.searchsorted(np.cumsum(self.rows), samples, side="right"), minlength=len(self.rows))
        return replace(self, rows=self.rows - used)

    def shuffled(self, positions: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
        """(n,) int64: the samples at these positions (n,) of an epoch."""
        _, _, ends = _windows(self, seed, epoch)
        windows = np.searchsorted(ends, positions, side="right")
        indices = np.empty(len(positions), dtype=np.int64)
        for window in np.unique(windows).tolist():
            found = _window(self, seed, epoch, window)
            here = windows == window
            indices[here] = found[positions[here] - (ends[window] - len(found))]
        return indices


@dataclass(frozen=True)
class BatchPlan:
    """The endless stream of samples: epoch after epoch, each a permutation of the whole set, cut into global batches.

    A batch may span the end of an epoch, and a set may be smaller than a batch; nothing is dropped or repeated within an epoch.

    Attributes:
        num_samples: size of the set.
        batch_size: samples per step, over all processes.
        seed: of the permutations.
        shuffle: False keeps the order of the set in every epoch.
        blocks: of a set that is too large for memory; None where samples are read one by one, or all blocks fit.
    """

    num_samples: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    blocks: Blocks | None = None

    def __post_init__(self) -> None:
        if self.num_samples < 1 or self.batch_size < 1:
            raise ConfigError(f"a plan needs at least one sample and a batch of at least one, got {self.num_samples} and {self.batch_size}")

    def slots(self, step: int) -> list[tuple[int, int]]:
        """(epoch, index) of every sample of global batch `step`."""
        positions = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, within = np.divmod(positions, self.num_samples)
        indices = np.concatenate([self._indices(epoch, within[epochs == epoch]) for epoch in np.unique(epochs).tolist()])
        return list(zip(epochs.tolist(), indices.tolist(), strict=True))

    def _indices(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        """(n,) samples at these positions (n,) of an epoch."""
        if not self.shuffle:
            return positions
        if self.blocks is not None:
            return self.blocks.shuffled(positions, seed=self.seed, epoch=epoch)
        return _permutation(self.seed, epoch, self.num_samples)[positions]


def augmentation_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random draws for one sample in one epoch, whoever loads it and whenever."""
    return np.random.default_rng([_AUGMENTATION, seed, epoch, index])


@lru_cache(maxsize=4)  # a large set's permutation takes milliseconds, and every step of an epoch requests it
def _permutation(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    return np.random.default_rng([_ORDER, seed, epoch]).permutation(num_samples)


@lru_cache(maxsize=2)
def _windows(blocks: Blocks, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The order of an epoch's blocks (K,), where its windows begin among them (W + 1,), and the samples up to the end of each window (W,)."""
    order = np.random.default_rng([_BLOCKS, seed, epoch]).permutation(len(blocks.rows))
    sizes = blocks.nbytes[order]
    window = (np.cumsum(sizes) - sizes) // blocks.window_bytes
    bounds = np.append(np.flatnonzero(np.diff(window, prepend=-1)), len(order))
    return order, bounds, np.cumsum(blocks.rows[order])[bounds[1:] - 1]


@lru_cache(maxsize=2)
def _window(blocks: Blocks, seed: int, epoch: int, number: int) -> np.ndarray:
    """(n,) int64: the samples of one window of an epoch, in the order in which they are read."""
    order, bounds, _ = _windows(blocks, seed, epoch)
    ends = np.cumsum(blocks.rows)
    members = np.sort(order[bounds[number] : bounds[number + 1]])
    samples = np.concatenate([np.arange(ends[block] - blocks.rows[block], ends[block]) for block in members])
    return np.random.default_rng([_ORDER, seed, epoch, number]).permutation(samples)
