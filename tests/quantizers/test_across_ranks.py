"""Codebook updates on two processes equal those on one, and both hold the same codebook."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.multiprocessing as mp
from torch import distributed as dist

from visiontok.quantizers import VectorQuantizerConfig

AVERAGES = VectorQuantizerConfig(
    codebook_size=24, dim=4, kmeans={"after_steps": 1}, ema={"decay": 0.9}, dead_code_reset={"every_steps": 2, "threshold": 0.3}
)
CLUSTERING = VectorQuantizerConfig(codebook_size=24, dim=4, clustering={"decay": 0.9})


def train(config: VectorQuantizerConfig, first: int, last: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    quantizer = config.build()
    for step in range(12):
        batch = torch.randn(64, 4, generator=torch.Generator().manual_seed(step)) * (1 + step)
        quantizer(batch[first:last])
    return quantizer.state_dict()


def worker(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for name, config in (("averages", AVERAGES), ("clustering", CLUSTERING)):
        torch.save(train(config, 32 * rank, 32 * rank + 32), folder / f"{name}-{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_learn_the_codebook_of_one(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    mp.spawn(worker, args=(tmp_path,), nprocs=2)
    for learned, config in (("averages", AVERAGES), ("clustering", CLUSTERING)):
        first, second = (torch.load(tmp_path / f"{learned}-{rank}.pt", weights_only=True) for rank in range(2))
        alone = train(config, 0, 64)
        for name, value in first.items():
            assert torch.equal(value, second[name]), name
            torch.testing.assert_close(value, alone[name], rtol=1e-5, atol=1e-5, msg=f"{learned} {name}")
