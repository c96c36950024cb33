"""Quantizers against their equivalents in vector-quantize-pytorch, in one process: time and peak additional memory of training passes.

    python benchmarks/quantizer_library.py [--rows 65536] [--threads 1] [--only vq]

Requires `pip install vector-quantize-pytorch`. Both sides train: codebooks move, losses are computed. "forward" is a training pass without its
backward pass. The two sides alternate, and medians are shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
import vector_quantize_pytorch as peer
from costs import peak_bytes, seconds
from torch import Tensor, nn

from visiontok.quantizers import (
    BinaryQuantizerConfig,
    FiniteScalarQuantizerConfig,
    ProductQuantizerConfig,
    ResidualQuantizerConfig,
    SimVectorQuantizerConfig,
    VectorQuantizerConfig,
)

DIM, CODES = 16, 4096
VQ = {"type": "vq", "codebook_size": CODES, "dim": DIM}
EMA = VQ | {"ema": {"decay": 0.8}}


@dataclass(frozen=True)
class Pair:
    """One quantizer of each library.

    Attributes:
        ours, theirs: build one.
        dim: width of the latents.
        target: how many times as fast ours should at least be.
        most_rows: where the peer holds a row for each of 2^18 codes, as many latents as fit in 8 GB of memory.
    """

    ours: Callable[[], nn.Module]
    theirs: Callable[[], nn.Module]
    dim: int = DIM
    target: float = 1.0
    most_rows: int | None = None


PAIRS = {
    "vq, moving averages": Pair(
        lambda: VectorQuantizerConfig.parse(EMA).build(), lambda: peer.VectorQuantize(dim=DIM, codebook_size=CODES, rotation_trick=False), target=2.0
    ),
    "vq, cosine, gradient": Pair(
        lambda: VectorQuantizerConfig.parse(VQ | {"normalize_latents": True, "normalize_codes": True}).build(),
        lambda: peer.VectorQuantize(dim=DIM, codebook_size=CODES, use_cosine_sim=True, rotation_trick=False),
        target=2.0,
    ),
    "vq, rotation trick": Pair(
        lambda: VectorQuantizerConfig.parse(EMA | {"gradient": "rotation"}).build(),
        lambda: peer.VectorQuantize(dim=DIM, codebook_size=CODES, rotation_trick=True),
        target=2.0,
    ),
    "sim-vq": Pair(
        lambda: SimVectorQuantizerConfig(codebook_size=CODES, dim=DIM).build(), lambda: peer.SimVQ(dim=DIM, codebook_size=CODES, rotation_trick=False)
    ),
    "residual vq, 8 levels": Pair(
        lambda: ResidualQuantizerConfig(num_levels=8, quantizer=EMA).build(),
        lambda: peer.ResidualVQ(dim=DIM, codebook_size=CODES, num_quantizers=8, rotation_trick=False),
        target=2.0,
    ),
    "product, 2 groups": Pair(
        lambda: ProductQuantizerConfig(num_groups=2, quantizer=EMA | {"dim": DIM // 2}).build(),
        lambda: peer.GroupedResidualVQ(dim=DIM, codebook_size=CODES, groups=2, num_quantizers=1, rotation_trick=False),
    ),
    "lfq, 2^18 codes, entropy": Pair(
        lambda: BinaryQuantizerConfig(dim=18).build(),
        lambda: peer.LFQ(codebook_size=2**18, dim=18, entropy_loss_weight=0.1),
        dim=18,
        target=2.0,
        most_rows=1024,
    ),
    "bsq, 18 bits": Pair(
        lambda: BinaryQuantizerConfig(dim=18, normalize=True, codes="sphere", entropy=None).build(),
        lambda: peer.LFQ(codebook_size=2**18, dim=18, spherical=True, entropy_loss_weight=0.0),
        dim=18,
        most_rows=1024,
    ),
    "fsq, 8 x 8 x 8 x 5 x 5 x 5": Pair(
        lambda: FiniteScalarQuantizerConfig(levels=(8, 8, 8, 5, 5, 5)).build(), lambda: peer.FSQ(levels=[8, 8, 8, 5, 5, 5], dim=6), dim=6
    ),
}


def passes(quantizer: nn.Module, latents: Tensor) -> tuple[Callable[[], object], Callable[[], object]]:
    """A training pass without and with its backward pass."""
    quantizer.train()

    def forward() -> object:
        return quantizer(latents)

    def both() -> None:
        leaf = latents.detach().requires_grad_(True)
        result = quantizer(leaf)
        total = result.latents.sum() + sum(result.losses.values()) if hasattr(result, "losses") else of_peer(result)
        total.backward()

    return forward, both


def of_peer(result: tuple[Tensor, ...]) -> Tensor:
    """The scalar to differentiate: quantized latents, and the losses where there are any."""
    return result[0].sum() + (result[2].sum() if len(result) > 2 else 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=65_536)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="pairs whose name holds this")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads; latents, milliseconds and MB, ours against theirs")
    for name, pair in PAIRS.items():
        if options.only not in name:
            continue
        torch.manual_seed(0)
        rows = min(options.rows, pair.most_rows or options.rows)
        latents = torch.randn(1, rows, pair.dim)
        sides = [passes(build(), latents) for build in (pair.ours, pair.theirs)]
        for what, (ours, theirs) in zip(("forward", "forward + backward"), zip(*sides, strict=True), strict=True):
            memory = [peak_bytes(run) / 2**20 for run in (ours, theirs)]
            times = [seconds(run, options.repeats) * 1e3 for run in (ours, theirs)]
            ratio = times[1] / times[0]
            remark = "" if ratio >= pair.target and memory[0] <= memory[1] else f"   <- below {pair.target:g} times, or more memory"
            print(f"{name:28}{what:20}{times[0]:9.1f} :{times[1]:9.1f}  {ratio:5.1f} times as fast   {memory[0]:7.1f} :{memory[1]:7.1f} MB{remark}")


if __name__ == "__main__":
    main()
