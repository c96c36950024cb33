"""Speculative against plain sampling of one `gpt`, in one process: steps per pass, and time.

The drafter is the generator's first blocks. The others change the result by more or less (`difference`, the scale of what they write), which
stands for drafters that are right more or less often. Weights are random; only sizes and the agreement matter for the time.

python benchmarks/speculative.py --tokens 128 --dim 768 --depth 12
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch

from visiontok import Segment, TokenLayout
from visiontok.generators.decoding import NextTokenSampler, SampleNoise, SpeculativeSampler
from visiontok.generators.gpt.model import GPT, GPTConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {"tokens": 128, "vocab-size": 4096, "dim": 512, "depth": 12, "drafter-depth": 1, "num-heads": 8, "runs": 3, "threads": 2}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--draft-lengths", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--differences", type=float, nargs="+", default=[0.005, 0.02, 0.1])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    segment = Segment(name="latents", shape=(options.tokens,), vocab_size=options.vocab_size)
    layout = TokenLayout(modality="image", segments=(segment,), signal_shape=(256, 256))
    sizes = {"dim": options.dim, "num_heads": options.num_heads, "condition": {"type": "classes", "num_classes": 10}}
    torch.manual_seed(0)
    drafter = GPT(GPTConfig.parse({"layout": layout, **sizes, "depth": options.drafter_depth})).eval()
    torch.nn.init.normal_(drafter.head.table.weight, std=0.2)  # type: ignore[union-attr, arg-type]
    for difference in options.differences:
        model = deeper(drafter, options.depth, difference)
        for batch in options.batches:
            samplers: dict[int, NextTokenSampler | SpeculativeSampler] = {0: model.sampler(guidance=2.0)}
            for length in options.draft_lengths:
                samplers[length] = SpeculativeSampler(drafter, model.sampler(guidance=2.0), draft_length=length)
            times: dict[int, list[float]] = {length: [] for length in samplers}
            for run in range(options.runs):
                for length, sampler in samplers.items():
                    began = time.perf_counter()
                    model.generate(torch.arange(batch) % 10, sampler=sampler, noise=SampleNoise(run, range(batch)))
                    times[length].append(time.perf_counter() - began)
            plain = statistics.median(times.pop(0))
            for length, seconds in times.items():
                sampler = samplers[length]
                assert isinstance(sampler, SpeculativeSampler)
                speculative = statistics.median(seconds)
                print(
                    json.dumps(
                        {
                            "difference": difference,
                            "batch": batch,
                            "draft_length": length,
                            "acceptance_length": round(sampler.acceptance_length, 2),
                            "seconds_plain": round(plain, 3),
                            "seconds_speculative": round(speculative, 3),
                            "times_as_fast": round(plain / speculative, 2),
                        }
                    ),
                    flush=True,
                )


def deeper(drafter: GPT, depth: int, difference: float) -> GPT:
    """A generator of more blocks, of which the first are the drafter's and the others write `difference` times as much as they would."""
    torch.manual_seed(1)
    model = GPT(drafter.config.replace(depth=depth)).eval()
    model.load_state_dict(drafter.state_dict(), strict=False)
    with torch.no_grad():
        for block in list(model.backbone.blocks)[drafter.config.depth :]:
            block.attention.wo.weight *= difference
            block.feed_forward.w2.weight *= difference
    return model


if __name__ == "__main__":
    main()
