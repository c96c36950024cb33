"""Time of sampling with `gpt`: key-value cache against reading the whole sequence again at every step, in one process.

python benchmarks/generate.py --tokens 256 --dim 256 --depth 4
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch

from visiontok import Segment, TokenLayout
from visiontok.generators.decoding import SampleNoise
from visiontok.generators.gpt.model import GPT, GPTConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {"tokens": 256, "vocab-size": 4096, "dim": 256, "depth": 4, "num-heads": 4, "batch": 2, "runs": 2, "threads": 2}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    segment = Segment(name="latents", shape=(options.tokens,), vocab_size=options.vocab_size)
    layout = TokenLayout(modality="image", segments=(segment,), signal_shape=(256, 256))
    model = GPT(
        GPTConfig(layout=layout, condition={"type": "classes", "num_classes": 10}, dim=options.dim, depth=options.depth, num_heads=options.num_heads)
    ).eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    classes = torch.arange(options.batch) % 10
    sampler = model.sampler(guidance=2.0)

    def run(use_cache: bool) -> tuple[float, torch.Tensor]:
        began = time.perf_counter()
        tokens = model.generate(classes, noise=SampleNoise(0, range(options.batch)), sampler=sampler)
        return time.perf_counter() - began, tokens.indices

    times: dict[bool, list[float]] = {True: [], False: []}
    ids = {}
    for use_cache in (True, False) * options.runs:
        seconds, ids[use_cache] = run(use_cache)
        times[use_cache].append(seconds)
    with_cache, without = statistics.median(times[True]), statistics.median(times[False])
    print(
        json.dumps(
            {
                **vars(options),
                "seconds_with_cache": round(with_cache, 3),
                "seconds_without_cache": round(without, 3),
                "ratio": round(without / with_cache, 2),
                "same_ids": bool(torch.equal(ids[True], ids[False])),
            }
        )
    )


if __name__ == "__main__":
    main()
