"""Speculative against plain sampling of one trained `gpt`, in one process: steps per pass, and time.

The tokens are the gray levels of the built-in digits, 8 x 8 of a vocabulary of 17, so no tokenizer is needed, and neighboring levels are the nearest
codes of LANTERN's relaxation. A generator, a smaller one and an EAGLE head for the first are trained in a few minutes and kept in --folder; a
second call loads them.

python benchmarks/speculative.py --folder runs/speculative
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import visiontok
from visiontok import Segment, TokenLayout
from visiontok.data import open_source
from visiontok.data.digits import DigitsConfig
from visiontok.generators.decoding import (
    DraftedSampler,
    DraftTree,
    DynamicTree,
    LanternAcceptance,
    Relaxation,
    SampleNoise,
    SpeculativeSampler,
    StaticTree,
    TreeSampler,
    nearest_latents,
)
from visiontok.generators.eagle.model import EagleDrafter
from visiontok.generators.gpt.model import GPT, GPTConfig

LEVELS, SIDE = 17, 8
TREE = DraftTree([(0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 0, 0, 0)], drafted=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of the trained models")
    numbers = {"dim": 256, "depth": 6, "steps": 120, "drafter-dim": 64, "drafter-steps": 250, "runs": 3, "threads": torch.get_num_threads()}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--train-only", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, small, eagle = models(options)
    if options.train_only:
        return
    print(json.dumps({"machine": platform.processor() or platform.machine(), "threads": options.threads, "torch": torch.__version__}))
    parameters = {
        "generator": model.num_parameters,
        "gpt": small.num_parameters,
        "eagle": sum(p.numel() for p in eagle.parameters() if p.requires_grad),
    }
    print(json.dumps({"parameters": parameters}), flush=True)
    plain = model.sampler(guidance=1.5)
    neighbors = nearest_latents(torch.arange(LEVELS)[:, None] / LEVELS, LEVELS)
    relaxation = Relaxation(neighbors, 4, 0.3)
    dynamic = DynamicTree(children=4, expansions=3, nodes=20)
    strategies: dict[str, Callable[[], DraftedSampler]] = {
        "gpt, sequence of 4": lambda: SpeculativeSampler(small, plain, draft_length=4),
        "gpt, sequence of 4, relaxed": lambda: SpeculativeSampler(small, plain, draft_length=4, acceptance=LanternAcceptance((relaxation,))),
        "gpt, static tree": lambda: TreeSampler(small, plain, tree=StaticTree(TREE)),
        "eagle, sequence of 4": lambda: TreeSampler(eagle, plain, tree=StaticTree(DraftTree.chain(4))),
        "eagle, static tree": lambda: TreeSampler(eagle, plain, tree=StaticTree(TREE)),
        "eagle, dynamic tree": lambda: TreeSampler(eagle, plain, tree=dynamic),
        "eagle, static tree, relaxed": lambda: TreeSampler(eagle, plain, tree=StaticTree(TREE), relaxation=relaxation),
        "eagle, dynamic tree, relaxed": lambda: TreeSampler(eagle, plain, tree=dynamic, relaxation=relaxation),
    }
    for batch in options.batches:
        seconds = timed(model, {"plain": plain, **{name: make() for name, make in strategies.items()}}, batch, options.runs)
        for name, (median, sampler) in seconds.items():
            row = {"strategy": name, "batch": batch, "seconds": round(median, 3), "times_as_fast": round(seconds["plain"][0] / median, 2)}
            if isinstance(sampler, DraftedSampler):
                row["steps_per_pass"] = round(sampler.acceptance_length, 2)
            print(json.dumps(row), flush=True)


def timed(model: GPT, samplers: dict, batch: int, runs: int) -> dict:
    """The median time of every strategy, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in samplers}
    for run in range(runs):
        for name, sampler in samplers.items():
            began = time.perf_counter()
            model.generate(torch.arange(batch) % 10, sampler=sampler, noise=SampleNoise(run, range(batch)))
            times[name].append(time.perf_counter() - began)
    return {name: (statistics.median(times[name]), sampler) for name, sampler in samplers.items()}


def models(options: argparse.Namespace) -> tuple[GPT, GPT, EagleDrafter]:
    """The generator, a smaller one, and the EAGLE head: loaded, or trained and saved."""
    names = ("generator", "gpt", "eagle")
    if not all((options.folder / name).is_dir() for name in names):
        tokens, labels = digits()
        torch.manual_seed(0)
        segment = Segment(name="gray", shape=(SIDE, SIDE), vocab_size=LEVELS)
        layout = TokenLayout(modality="image", segments=(segment,), signal_shape=(SIDE, SIDE))
        shared = {"layout": layout, "condition": {"type": "classes", "num_classes": 10}, "multiple_of": 64}
        model = GPT(GPTConfig.parse({**shared, "dim": options.dim, "depth": options.depth, "num_heads": options.dim // 32}))
        small = GPT(GPTConfig.parse({**shared, "dim": options.drafter_dim, "depth": 1, "num_heads": 2}))
        for name, each, steps in (("generator", model, options.steps), ("gpt", small, options.drafter_steps)):
            train(name, each, each, tokens, labels, steps)
        eagle = EagleDrafter.of(model)
        train("eagle", eagle, lambda *batch, noise: eagle(model, *batch, noise=noise), tokens, labels, options.drafter_steps)
        for name, trained in zip(names, (model, small, eagle), strict=True):
            trained.save_pretrained(options.folder / name)
    return tuple(visiontok.from_pretrained(options.folder / name) for name in names)  # type: ignore[return-value]


def train(name: str, model: torch.nn.Module, loss: Callable[..., dict[str, Tensor]], tokens: Tensor, labels: Tensor, steps: int) -> None:
    """AdamW with a linear decay, on batches of 32."""
    model.train()
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-3, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=steps)
    for step in range(steps):
        rows = torch.randint(len(tokens), (32,))
        numbers = loss(tokens[rows], labels[rows], noise=SampleNoise((0, step), rows.tolist()))
        optimizer.zero_grad()
        numbers["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    print(json.dumps({"trained": name, "steps": steps, **{key: round(value.item(), 3) for key, value in numbers.items()}}), flush=True)


def digits() -> tuple[Tensor, Tensor]:
    """Gray levels (N, 64) from 0 to 16, and classes (N,)."""
    source = open_source(DigitsConfig(split="train"))
    samples = [source.read(index) for index in range(len(source))]
    pixels = torch.stack([torch.from_numpy(np.asarray(sample.image)[..., 0].flatten()) for sample in samples])
    return (pixels / 255 * (LEVELS - 1)).round().long(), torch.tensor([sample.label for sample in samples])


if __name__ == "__main__":
    main()
