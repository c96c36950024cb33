"""Sampling with `gpt`: key-value cache against recomputing the whole sequence at every step, in one process.

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
    torch.nn.init.normal_(model.head.table.weight, std=0.1)
    classes = torch.arange(options.batch) % 10
    sampler = model.sampler(guidance=2.0)

    def with_cache() -> torch.Tensor:
        return model.generate(classes, noise=SampleNoise(0, range(options.batch)), sampler=sampler).indices

    @torch.no_grad()
    def without_cache() -> torch.Tensor:
        noise, session = SampleNoise(0, range(options.batch)), model.session(classes, guided=True)
        tokens = torch.zeros(options.batch, 0, dtype=torch.int64)
        for step in range(options.tokens):
            conditional, unconditional = (model.head.table.logits(hidden, 0, options.vocab_size) for hidden in session.prefill(tokens[..., None]))
            drawn = sampler.choose(conditional, unconditional, noise, codebook=0, step=step, num_steps=options.tokens)
            tokens = torch.cat([tokens, drawn[:, None]], dim=1)
        return tokens

    times: dict[str, list[float]] = {"with": [], "without": []}
    tokens: dict[str, torch.Tensor] = {}
    for name, run in {"with": with_cache, "without": without_cache}.items():
        for _ in range(options.runs):
            began = time.perf_counter()
            tokens[name] = run()
            times[name].append(time.perf_counter() - began)
    cached, recomputed = statistics.median(times["with"]), statistics.median(times["without"])
    print(
        json.dumps(
            {
                **vars(options),
                "seconds_with_cache": round(cached, 3),
                "seconds_without_cache": round(recomputed, 3),
                "ratio": round(recomputed / cached, 2),
                "same_tokens": bool(torch.equal(tokens["with"], tokens["without"])),
            }
        )
    )


if __name__ == "__main__":
    main()
