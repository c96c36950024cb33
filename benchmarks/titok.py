"""TiTok-B-64 at 256 px against the reference implementation, in one process: seconds per batch and peak memory.

    git clone https://github.com/bytedance/1d-tokenizer && pip install omegaconf einops
    python benchmarks/titok.py --peer 1d-tokenizer

Random weights, the same on both sides; runs on two threads. Without --peer only visiontok is timed.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import torch
from costs import peak_bytes

import visiontok

CONFIG = {
    "model": {
        "vq_model": {
            "codebook_size": 4096,
            "token_size": 12,
            "use_l2_norm": True,
            "commitment_cost": 0.25,
            "vit_enc_model_size": "base",
            "vit_dec_model_size": "base",
            "vit_enc_patch_size": 16,
            "vit_dec_patch_size": 16,
            "num_latent_tokens": 64,
            "finetune_decoder": True,
        }
    },
    "dataset": {"preprocessing": {"crop_size": 256}},
}


def load_peer(folder: Path) -> torch.nn.Module:
    """The authors' model; text encoders that their package imports, but TiTok does not use, are replaced by stand-ins."""
    from omegaconf import OmegaConf

    sys.path.insert(0, str(folder))
    for unused in ("open_clip", "clip"):
        sys.modules.setdefault(unused, types.ModuleType(unused))
    return importlib.import_module("modeling.titok").TiTok(OmegaConf.create(CONFIG)).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="checkout of bytedance/1d-tokenizer")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--bfloat16", action="store_true", help="both sides in bfloat16 (the peer by autocast); slow on CPUs without such instructions"
    )
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(2)

    images = torch.rand(arguments.batch, 3, 256, 256)
    registered = visiontok.create("titok-b64").eval()
    runs: dict[str, Callable[[], object]] = {}
    if arguments.peer:
        peer = load_peer(arguments.peer)
        registered = visiontok.from_reference("titok", CONFIG, peer.state_dict())
        codes = registered.encode(images).indices[:, None]
        runs |= {"encode, peer": lambda: peer.encode(images), "decode, peer": lambda: peer.decode_tokens(codes)}
    tokens = registered.encode(images)
    runs |= {"encode, ours": lambda: registered.encode(images), "decode, ours": lambda: registered.decode(tokens)}
    if arguments.bfloat16:
        half = copy.deepcopy(registered).to(torch.bfloat16)
        runs = {f"{name}, bfloat16": autocast(run) for name, run in runs.items() if "peer" in name}
        runs |= {"encode, ours, bfloat16": lambda: half.encode(images), "decode, ours, bfloat16": lambda: half.decode(tokens)}

    times: dict[str, list[float]] = {name: [] for name in runs}
    with torch.no_grad():
        for repeat in range(arguments.repeats + 1):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                if repeat:
                    times[name].append(time.perf_counter() - start)
        for name, run in runs.items():
            print(f"{name:24s} {statistics.median(times[name]):7.2f} s   peak {peak_bytes(run) / 2**20:7.0f} MB")
    for name in times:
        if "ours" in name and arguments.peer:
            other = statistics.median(times[name.replace("ours", "peer")])
            print(f"{name}: {other / statistics.median(times[name]):.2f} times as fast as the authors' code")


def autocast(run: Callable[[], object]) -> Callable[[], object]:
    def wrapped() -> object:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return run()

    return wrapped


if __name__ == "__main__":
    main()
