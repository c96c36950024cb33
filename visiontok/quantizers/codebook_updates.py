"""How a codebook changes other than by its gradient: initialization by k-means, moving averages, reset of dead codes, online clustering.

Every update reads the global batch over all ranks and draws from a generator seeded by its own step counter, so that all ranks hold the same
codebook, and a resumed run continues as an uninterrupted one. Latents are those without padding; none may be left on some of the ranks.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive
from visiontok.quantizers.across_ranks import num_rows, rows_of_global_batch, rows_of_lowest_score, sum_over_ranks
from visiontok.quantizers.float32 import Float32Module
from visiontok.quantizers.nearest import nearest_codes


class KMeansConfig(Config):
    """Start the codebook from the latents instead of at random.

    Attributes:
        after_steps: training steps during which latents pass unquantized, so that the encoder has learned something before they are clustered.
        iterations: Lloyd iterations.
        max_samples: latents clustered at most.
    """

    after_steps: int = Field(default=0, ge=0)
    iterations: Positive = 10
    max_samples: Positive = 65536


class EmaConfig(Config):
    """Codes as moving averages of the latents assigned to them (van den Oord et al. 2017, appendix A.1).

    Attributes:
        decay: of the averages.
        epsilon: Laplace smoothing of the counts.
        unit_codes: put every code on the unit sphere after an update.
    """

    decay: float = Field(default=0.99, ge=0, lt=1)
    epsilon: float = Field(default=1e-5, gt=0)
    unit_codes: bool = False


class DeadCodeResetConfig(Config):
    """Replace codes that are hardly used by latents of the batch.

    Attributes:
        threshold: a code is dead when its average usage is below this share of even usage (1 / K).
        decay: of the average usage.
        every_steps: how often dead codes are looked for.
    """

    threshold: float = Field(default=0.05, gt=0, lt=1)
    decay: float = Field(default=0.95, ge=0, lt=1)
    every_steps: Positive = 10


class ClusteringConfig(Config):
    """Pull every code towards the latent that is closest to it, the more the less it is used (Zheng and Vedaldi 2023, "Online Clustered Codebook").

    Attributes:
        decay: of the average usage.
    """

    decay: float = Field(default=0.99, ge=0, lt=1)


class KMeans(nn.Module):
    """Lloyd's algorithm on the first batch after the warm-up."""

    steps: Tensor

    def __init__(self, config: KMeansConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def warming_up(self) -> bool:
        return int(self.steps) < self.config.after_steps

    @torch.no_grad()
    def step(self, codebook: Tensor, latents: Tensor) -> bool:
        """Count a training step; at the step after the warm-up, overwrite the codebook (K, D) with centers of the latents (N, D).

        Returns:
            whether this was that step.
        """
        is_start = int(self.steps) == self.config.after_steps
        if is_start:
            codebook.copy_(self._centers(len(codebook), latents))
        self.steps += 1
        return is_start

    def _centers(self, size: int, latents: Tensor) -> Tensor:
        total, _ = num_rows(latents)
        generator = torch.Generator().manual_seed(total)
        count = min(total, self.config.max_samples)
        samples = rows_of_global_batch(latents, torch.randperm(total, generator=generator)[:count].to(latents.device))
        # Fewer latents than codes: some start twice, a little apart, and separate in use.
        picks = torch.arange(size, dtype=torch.int64, device=latents.device) % count
        centers = samples[picks]
        jitter = torch.randn(size, latents.shape[1], generator=generator, dtype=torch.float32).to(latents)
        jitter = jitter * samples.std(dim=0, correction=0) * 1e-3
        centers = centers + jitter * (torch.arange(size, dtype=torch.int64, device=latents.device) >= count)[:, None]
        for _ in range(self.config.iterations):
            indices = nearest_codes(samples, centers)
            counts, sums = assigned(samples, indices, size)
            centers = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), centers)
        return centers


class Ema(Float32Module):
    """Moving averages of counts and sums; the codebook is their quotient."""

    counts: Tensor
    sums: Tensor
    started: Tensor

    def __init__(self, config: EmaConfig, *, codebook_size: int, dim: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("counts", torch.ones(codebook_size, dtype=torch.float32))
        self.register_buffer("sums", torch.zeros(codebook_size, dim, dtype=torch.float32))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def step(self, codebook: Tensor, latents: Tensor, indices: Tensor) -> None:
        """Move the averages towards this batch and overwrite the codebook (K, D) with their quotient."""
        if not bool(self.started):
            self.sums.copy_(codebook)
            self.started.fill_(True)
        counts, sums = assigned(latents, indices, len(codebook))
        self.counts.lerp_(sum_over_ranks(counts), 1 - self.config.decay)
        self.sums.lerp_(sum_over_ranks(sums), 1 - self.config.decay)
        total = self.counts.sum()
        smoothed = (self.counts + self.config.epsilon) / (total + len(codebook) * self.config.epsilon) * total
        means = self.sums / smoothed[:, None]
        codebook.copy_(F.normalize(means, dim=1) if self.config.unit_codes else means)

    @torch.no_grad()
    def restart(self, codes: Tensor, rows: Tensor, *, count: float = 1.0) -> None:
        """Forget the history of the codes (M,), which now equal `rows` (M, D), as if each of them had been used `count` times."""
        self.counts[codes] = count
        self.sums[codes] = rows * count


class DeadCodeReset(Float32Module):
    """Watch usage and replace dead codes by latents of the batch."""

    usage: Tensor
    steps: Tensor

    def __init__(self, config: DeadCodeResetConfig, *, codebook_size: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("usage", torch.ones(codebook_size, dtype=torch.float32))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def step(self, codebook: Tensor, latents: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Count a batch; now and then replace dead rows of the codebook (K, D).

        Returns:
            The replaced codes (M,) and their new rows (M, D).
        """
        size = len(codebook)
        counts = sum_over_ranks(torch.bincount(indices, minlength=size).to(self.usage))
        self.usage.lerp_(counts * (size / counts.sum()), 1 - self.config.decay)
        self.steps += 1
        dead = codebook.new_zeros(0, dtype=torch.int64)
        if int(self.steps) % self.config.every_steps == 0:
            dead = torch.nonzero(self.usage < self.config.threshold).flatten()
        total, _ = num_rows(latents)
        generator = torch.Generator().manual_seed(int(self.steps))
        picks = torch.randint(total, (len(dead),), generator=generator, dtype=torch.int64).to(latents.device)
        rows = rows_of_global_batch(latents, picks)
        codebook[dead] = rows
        self.usage[dead] = 1.0
        return dead, rows


class Clustering(Float32Module):
    """Watch usage and move rarely used codes to their closest latents, at every step; codes in steady use stay where they are."""

    usage: Tensor

    def __init__(self, config: ClusteringConfig, *, codebook_size: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("usage", torch.zeros(codebook_size, dtype=torch.float32))

    @torch.no_grad()
    def step(self, codebook: Tensor, latents: Tensor, indices: Tensor, *, codes: Tensor, searched: Tensor) -> None:
        """Count a batch and move the codebook (K, D): e_k <- (1 - a_k) e_k + a_k f_k, where f_k is the latent closest to code k.

        a_k = exp(-10 K usage_k / (1 - decay) - 0.001), so that a code that was never used is replaced almost entirely.

        Args:
            codebook: (K, D) as it is stored.
            latents: (N, D) as the encoder gave them; f_k is one of these.
            indices: (N,) the codes they fell on.
            codes, searched: codebook and latents in the space of the search, where distances are taken.
        """
        counts = sum_over_ranks(torch.bincount(indices, minlength=len(codebook)).to(self.usage))
        self.usage.lerp_(counts / counts.sum(), 1 - self.config.decay)
        rows, distances = torch.zeros_like(codes), torch.full_like(codes[:, 0], torch.inf)
        if len(latents):
            closest = nearest_codes(codes, searched)
            rows, distances = latents[closest], (codes - searched[closest]).square().sum(dim=1)
        shares = torch.exp(-10 * len(codebook) / (1 - self.config.decay) * self.usage - 1e-3)
        codebook.lerp_(rows_of_lowest_score(rows, distances), shares[:, None])


def assigned(latents: Tensor, indices: Tensor, codebook_size: int) -> tuple[Tensor, Tensor]:
    """How many latents (N, D) fell on each code (K,), and their sums (K, D)."""
    counts = torch.bincount(indices, minlength=codebook_size).to(latents.dtype)
    sums = latents.new_zeros(codebook_size, latents.shape[1]).index_add_(0, indices, latents)
    return counts, sums
