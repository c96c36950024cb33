"""Memory of training on token sets of different sizes: resident memory of one process that opens a set and reads it, for several sizes of the set.

Every size is written to a temporary folder and read by a process of its own, which opens the set as training does, with every check, holds samples
out, and reads shuffled batches: the first of an epoch, and then some from its middle and its end. The rows hold as few tokens as 1D tokenizers
write, so that the number of samples, and not their size, decides. Linux only. Run: python benchmarks/token_streaming.py [--help]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import torch

from visiontok.core.identity import TokenizerIdentity
from visiontok.data.holdout import hold_out
from visiontok.data.token_dataset import TokenDataset
from visiontok.data.token_shards import TokenSetHeader, TokenShardWriter
from visiontok.tokens import Segment, TokenLayout, Tokens
from visiontok.training.token_loaders import TokenSetLoader

CLASSES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000], help="sizes of the sets")
    parser.add_argument("--tokens", type=int, default=32, help="per sample")
    parser.add_argument("--shard-size", type=int, default=100_000, help="samples per file")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=400, help="batches that are read at each of three places of an epoch")
    parser.add_argument("--folder", type=Path, help="for the sets, one of which exists at a time; a temporary one by default")
    arguments = parser.parse_args()
    print(f"{arguments.tokens} tokens a sample, batches of {arguments.batch_size}, {3 * arguments.steps} of them")
    print(f"{'samples':>12} {'files MB':>9} {'open s':>7} {'samples/s':>10} {'resident MB':>12} {'peak MB':>8} {'before MB':>10}")
    for samples in arguments.samples:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            size = write_set(Path(folder), samples, tokens=arguments.tokens, shard_size=arguments.shard_size)
            pipe, theirs = multiprocessing.Pipe(duplex=False)
            child = multiprocessing.get_context("spawn").Process(target=read_set, args=(folder, arguments.batch_size, arguments.steps, theirs))
            child.start()
            theirs.close()
            opened, speed, before, resident, peak = pipe.recv()
            child.join()
        print(f"{samples:12,} {size / 1e6:9.1f} {opened:7.1f} {speed:10,.0f} {resident / 1e6:12.1f} {peak / 1e6:8.1f} {before / 1e6:10.1f}")


def write_set(folder: Path, samples: int, *, tokens: int, shard_size: int) -> int:
    """Write a set of random tokens and labels; returns the size of its files in bytes."""
    layout = TokenLayout(modality="image", segments=(Segment(name="latents", shape=(tokens,), vocab_size=4096),), signal_shape=(256, 256))
    tokenizer = TokenizerIdentity(name="synthetic", weights_sha256="0" * 64)
    names = tuple(f"class {number}" for number in range(CLASSES))
    writer = TokenShardWriter(folder, TokenSetHeader(layout=layout, tokenizer=tokenizer, source="synthetic", class_names=names))
    draw = torch.Generator().manual_seed(0)
    for number, first in enumerate(range(0, samples, shard_size)):
        rows = range(first, min(first + shard_size, samples))
        indices = torch.randint(0, 4096, (len(rows), tokens), generator=draw)
        writer.write(number, Tokens(indices, layout), keys=[f"{row:09d}" for row in rows], labels=[row % CLASSES for row in rows])
    writer.finish()
    return sum(file.stat().st_size for file in folder.iterdir())


def read_set(folder: str, batch_size: int, steps: int, pipe: multiprocessing.connection.Connection) -> None:
    """Send the seconds of opening, samples/s, and the resident memory of this process before that, at the end and at its peak."""
    torch.set_num_threads(1)
    before = _memory("VmRSS")
    start = time.perf_counter()
    dataset = TokenDataset(folder)
    trained, _ = hold_out(dataset.keys(), 256, total=len(dataset))
    loader = TokenSetLoader(dataset, samples=trained, batch_size=batch_size, seed=0, rank=0, world_size=1)
    opened = time.perf_counter() - start
    whole = len(trained) // batch_size
    start = time.perf_counter()
    for first in (0, max(0, whole // 2 - steps), max(0, whole - steps)):
        batches = loader.batches(first)
        for _ in range(steps):
            next(batches)
    speed = 3 * steps * batch_size / (time.perf_counter() - start)
    pipe.send((opened, speed, before, *(_memory(entry) for entry in ("VmRSS", "VmHWM"))))


def _memory(entry: str) -> int:
    """Bytes of an entry in /proc/self/status."""
    lines = Path(f"/proc/{os.getpid()}/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{entry}:"))


if __name__ == "__main__":
    main()
