"""Throughput of training a generator against a bare loop of the same model on the same tokens, in one process: samples/s, and their ratio.

    python benchmarks/train_throughput.py --dim 256 --depth 4

The bare loop holds the tokens in memory and does the forward pass, the backward pass, clipping and AdamW. Training does the same, and streams a
token set from files, shuffles, averages weights (EMA), follows a schedule and writes its log. What both do once, at their beginning and end, is
subtracted: each runs for a few steps and for more. The target is a ratio of at least 0.9.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from token_streaming import write_set
from torch import nn

import visiontok
from visiontok.base.noise import SampleNoise
from visiontok.data.token_dataset import TokenDataset
from visiontok.training import parse_recipe, train

OPTIMIZER: dict[str, Any] = {"lr": 1e-3, "betas": [0.9, 0.95], "weight_decay": 0.05}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {"dim": 256, "depth": 4, "num-heads": 4, "tokens": 64, "batch-size": 16, "steps": 40, "samples": 20_000, "repeats": 2, "threads": 2}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = {
        "condition": {"type": "classes", "num_classes": 1000, "dropout": 0.1},
        "dim": options.dim,
        "depth": options.depth,
        "num_heads": options.num_heads,
    }
    with tempfile.TemporaryDirectory() as folder:
        write_set(Path(folder) / "tokens", options.samples, tokens=options.tokens, shard_size=5_000)
        runs = itertools.count()

        def trained(steps: int) -> None:
            recipe = {
                "kind": "generator",
                "output": f"{folder}/run-{next(runs)}",
                "steps": steps,
                "batch_size": options.batch_size,
                "data": {"tokens": f"{folder}/tokens"},
                "model": {"family": "gpt", "config": config},
                "optimizer": {**OPTIMIZER, "clip": 1.0},
                "schedule": {"kind": "cosine", "warmup": 10},
                "ema": {"decay": 0.999},
                "checkpoints": {"every": steps},
                "sample_images": {"every": 0},
                "logging": {"every": 20, "tensorboard": False},
            }
            train(parse_recipe(recipe))

        dataset = TokenDataset(f"{folder}/tokens")
        batches = [dataset[first : first + options.batch_size] for first in range(0, 32 * options.batch_size, options.batch_size)]

        def bare(steps: int) -> None:
            model = visiontok.create("gpt", layout=batches[0].tokens.layout, **config).train()
            optimizer = torch.optim.AdamW(model.parameters(), **OPTIMIZER)
            for step, batch in zip(range(steps), itertools.cycle(batches), strict=False):
                optimizer.zero_grad()
                noise = SampleNoise((0, step), range(options.batch_size))
                model.loss(batch.tokens, batch.labels, step=step, noise=noise)["loss"].backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()

        speeds = {name: options.batch_size / seconds_per_step(run, options) for name, run in {"bare loop": bare, "training": trained}.items()}
    for name, speed in speeds.items():
        print(f"{name:10s} {speed:8.1f} samples/s")
    print(f"ratio {speeds['training'] / speeds['bare loop']:.2f}")


def seconds_per_step(run: Callable[[int], None], options: argparse.Namespace) -> float:
    """Of the steps beyond the first few: the least of several runs."""
    few = options.steps // 4

    def seconds(steps: int) -> float:
        start = time.perf_counter()
        run(steps)
        return time.perf_counter() - start

    run(2)
    return min(seconds(options.steps + few) - seconds(few) for _ in range(options.repeats)) / options.steps


if __name__ == "__main__":
    main()
