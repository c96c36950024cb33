"""Codebook updates on two processes equal those on one, with padding and without, and both hold the same codebook."""

from __future__ import annotations

from pathlib import Path

import torch
from forked import start
from torch import distributed as dist

from visiontok.base.noise import SampleNoise
from visiontok.cli.ranks import leaving_process_group
from visiontok.quantizers import (
    BernoulliQuantizerConfig,
    BinaryQuantizerConfig,
    FiniteScalarQuantizerConfig,
    GaussianBottleneckConfig,
    PositionalVectorQuantizerConfig,
    ResidualQuantizerConfig,
    VectorQuantizerConfig,
)

RESET = {"every_steps": 2, "threshold": 0.3}
CONFIGS = {
    "averages": VectorQuantizerConfig(codebook_size=24, dim=4, kmeans={"after_steps": 1}, ema={"decay": 0.9}, dead_code_reset=RESET),
    "clustering": VectorQuantizerConfig(codebook_size=24, dim=4, clustering={"decay": 0.9}),
    "positions": PositionalVectorQuantizerConfig(codebook_size=24, dim=4, num_positions=6, dead_below=0.6, kmeans={"after_steps": 1}),
}
SAMPLES = 16


def train(name: str, first: int, last: int, *, masked: bool) -> dict[str, torch.Tensor]:
    """The state after some steps on the samples from `first` to `last` of every batch; now and then one process has nothing but padding."""
    torch.manual_seed(0)
    quantizer = CONFIGS[name].build()
    for step in range(12):
        random = torch.Generator().manual_seed(step)
        batch = torch.randn(SAMPLES, 6, 4, generator=random) * (1 + step)
        mask = torch.rand(SAMPLES, 6, generator=random) < 0.7
        if step % 5 == 3:
            mask[: SAMPLES // 2] = False
        if step == 7:
            mask[:] = False
        quantizer(batch[first:last], mask=mask[first:last] if masked else None)
    return quantizer.state_dict()


LOSSES = {
    "vq": VectorQuantizerConfig(codebook_size=24, dim=4),
    "signs": BinaryQuantizerConfig(dim=4),
    "scalars": FiniteScalarQuantizerConfig(levels=(5, 4, 3, 2), commitment_weight=0.25, entropy={"weight": 0.1, "temperature": 0.2}),
    "gaussian": GaussianBottleneckConfig(dim=2),
    "bernoulli": BernoulliQuantizerConfig(dim=4, chunks=(3,)),
    "residual": ResidualQuantizerConfig.parse({"num_levels": 2, "quantizer": {"type": "vq", "codebook_size": 24, "dim": 4}}),
}


def gradients(name: str, first: int, last: int) -> dict[str, torch.Tensor]:
    """Of the losses of padded samples with regard to the parameters and to a scale of the latents, and the losses themselves."""
    torch.manual_seed(0)
    quantizer = LOSSES[name].build()
    random = torch.Generator().manual_seed(5)
    batch, mask = torch.randn(SAMPLES, 6, 4, generator=random), torch.rand(SAMPLES, 6, generator=random) < torch.linspace(0.1, 1, SAMPLES)[:, None]
    scale = torch.ones((), requires_grad=True)
    losses = quantizer(batch[first:last] * scale, mask=mask[first:last], noise=SampleNoise(0, range(first, last))).losses
    chosen = {key: loss for key, loss in losses.items() if (name, key) != ("signs", "entropy")}  # which is of the codes of one process
    sum(chosen.values()).backward()
    found = {f"gradient {key}": value.grad for key, value in (*quantizer.named_parameters(), ("scale", scale)) if value.grad is not None}
    return found | {key: loss.detach() for key, loss in chosen.items()}


def worker(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    with leaving_process_group():
        half = SAMPLES // 2
        for name in CONFIGS:
            for masked in (False, True):
                torch.save(train(name, half * rank, half * (rank + 1), masked=masked), folder / f"{name}-{masked}-{rank}.pt")
        for name in LOSSES:
            torch.save(gradients(name, half * rank, half * (rank + 1)), folder / f"losses-{name}-{rank}.pt")


def test_two_processes_learn_the_codebook_of_one(tmp_path):
    ranks = [start(worker, rank, tmp_path) for rank in range(2)]
    for rank in ranks:
        rank.join(120)
        assert rank.exitcode == 0
    for learned in CONFIGS:
        for masked in (False, True):
            first, second = (torch.load(tmp_path / f"{learned}-{masked}-{rank}.pt", weights_only=True) for rank in range(2))
            alone = train(learned, 0, SAMPLES, masked=masked)
            for name, value in first.items():
                assert torch.equal(value, second[name]), name
                torch.testing.assert_close(value, alone[name], rtol=1e-4, atol=1e-4, msg=f"{learned}, masked {masked}: {name}")
    for name in LOSSES:
        one, other = (torch.load(tmp_path / f"losses-{name}-{rank}.pt", weights_only=True) for rank in range(2))
        for key, value in gradients(name, 0, SAMPLES).items():
            torch.testing.assert_close((one[key] + other[key]) / 2, value, rtol=1e-4, atol=1e-6, msg=f"{name}: {key}")
