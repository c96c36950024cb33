"""Sampling with LlamaGen's GPT-B against the reference implementation, in one process: tokens/s, and the share of the streaming limit.

    git clone https://github.com/FoundationVision/LlamaGen
    python benchmarks/llamagen.py --peer LlamaGen

Both sides have the same random weights, sample 256 tokens per image greedily with guidance 2 in float32, and run in turn; medians are shown. The
streaming limit is what one step must at least read, the weights and the cached keys and values, at the bandwidth at which this process sums a tensor
of that size just before and after each run. Without --peer only visiontok is timed. With --int8 a third run has the weights of its blocks in 8 bits;
equal tokens are then those that it also holds most likely, given the same tokens before (without guidance). With --compile another run has its
backbone and its table of codes compiled, once for every number of images, which is not timed.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import visiontok
from visiontok.generators.compilation import compile_for_sampling
from visiontok.generators.gpt.model import GPT
from visiontok.layers.int8_linear import round_weights

SIZES = {"dim": 768, "n_layer": 12, "n_head": 12, "vocab_size": 16384, "block_size": 256, "num_classes": 1000, "cls_token_num": 1}
CONFIG = {**SIZES, "model_type": "c2i"}
TOKENS = SIZES["block_size"]
GUIDANCE = 2.0


def load_peer(folder: Path) -> tuple[torch.nn.Module, Callable[..., Tensor]]:
    """The authors' model with random weights, and their sampling."""
    sys.path.insert(0, str(folder))
    gpt = importlib.import_module("autoregressive.models.gpt")
    peer = gpt.Transformer(gpt.ModelArgs(**CONFIG)).eval()
    torch.nn.init.normal_(peer.output.weight, std=0.02)
    return peer, importlib.import_module("autoregressive.models.generate").generate


def streamed_bytes(model: GPT, batch: int) -> float:
    """Mean over the steps of what one must read: weights of the blocks and the head, and the cache of both streams."""
    weights = sum(p.numel() * p.element_size() for part in (model.backbone, model.head) for p in part.parameters())
    config = model.config
    cached = 2 * config.depth * (config.num_kv_heads or config.num_heads) * config.head_dim * 4 * (1 + SIZES["block_size"]) / 2
    return weights + 2 * batch * cached


def bandwidth(values: Tensor, repeats: int = 64) -> float:
    """Bytes per second at which a tensor is summed, over about as long as a run takes, since that of a shared machine varies."""
    start = time.perf_counter()
    for _ in range(repeats):
        values.sum()
    return repeats * values.numel() * values.element_size() / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="checkout of FoundationVision/LlamaGen")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8], help="images per call")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--int8", action="store_true", help="also with weights of 8 bits")
    parser.add_argument("--compile", action="store_true", help="also with compiled parts, which needs a C++ compiler")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)

    runs: dict[str, Callable[[Tensor], Tensor]] = {}
    if arguments.peer:
        peer, generate = load_peer(arguments.peer)
        state: dict[str, Any] = peer.state_dict()
        model = visiontok.from_reference("llamagen-gpt", CONFIG, state)
        runs["peer"] = lambda classes: generate(peer, classes, TOKENS, cfg_scale=GUIDANCE, top_k=1, sample_logits=False)
    else:
        model = visiontok.create("llamagen-b-256")
        torch.nn.init.normal_(model.head.table.weight, std=0.02)
    model.eval()
    greedy = model.sampler(guidance=GUIDANCE, top_k=1)
    runs["ours"] = lambda classes: model.generate(classes, sampler=greedy).indices
    if arguments.int8:
        rounded = copy.deepcopy(model)
        round_weights(rounded.backbone)
        runs["int8"] = lambda classes: rounded.generate(classes, sampler=greedy).indices
    if arguments.compile:
        compiled = copy.deepcopy(model)
        compile_for_sampling(compiled.backbone)
        compile_for_sampling(compiled.head.table)
        runs["compiled"] = lambda classes: compiled.generate(classes, sampler=greedy).indices

    print(
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f} M parameters, {arguments.threads} threads, {torch.backends.cpu.get_cpu_capability()}"
    )
    for batch in arguments.batches:
        classes = torch.arange(batch) * 7 % 1000
        times: dict[str, list[float]] = {name: [] for name in runs}
        tokens: dict[str, Tensor] = {}
        size = streamed_bytes(model, batch)
        values = torch.ones(int(size) // 4)
        limits: dict[str, list[float]] = {name: [] for name in runs}
        if arguments.compile:
            runs["compiled"](classes)
        after = bandwidth(values)
        for _ in range(arguments.repeats):
            for name, run in runs.items():
                before = after
                start = time.perf_counter()
                tokens[name] = run(classes)
                times[name].append(time.perf_counter() - start)
                after = bandwidth(values)
                limits[name].append(batch * (before + after) / 2 / size)
        speed = {name: batch * TOKENS / statistics.median(values) for name, values in times.items()}
        line = f"batch {batch}: " + ", ".join(f"{name} {value:.1f} tokens/s" for name, value in speed.items())
        if arguments.int8:
            likely = model.generate(classes, sampler=model.sampler(guidance=1.0, top_k=1))
            same = rounded.loss(likely, classes)["accuracy_per_token"].item()
            line += f", int8 {speed['int8'] / speed['ours']:.2f} times as fast with {same:.1%} equal tokens"
        for name in ("ours", "compiled"):
            if name in speed:
                share = statistics.median(batch * TOKENS / took / limit for took, limit in zip(times[name], limits[name], strict=True))
                line += f"; {name} reached {share:.0%} of a streaming limit of {statistics.median(limits[name]):.1f} tokens/s"
                if arguments.peer:
                    same = (tokens["peer"] == tokens[name]).float().mean().item()
                    line += f", {speed[name] / speed['peer']:.2f} times as fast as the peer, {same:.1%} equal tokens"
        print(line, flush=True)


if __name__ == "__main__":
    main()
