"""Memory that a long sound or clip takes beyond the model.

    python benchmarks/long_signals.py encodec --seconds 600
    python benchmarks/long_signals.py encodec --seconds 600 --chunk 240000
    python benchmarks/long_signals.py cosmos-0.1-dv8x16x16 --seconds 30 --chunk 16

Networks of the released sizes with random weights, or a saved one. Noise is encoded to tokens and decoded again: sounds by `encode` and `decode`,
which are given the whole and take it in windows by themselves; clips, and sounds with `--chunk`, in chunks, of which the tokens are held whole, the
signal is not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

import visiontok
from visiontok.core.chunks import Chunked
from visiontok.core.tokenizer import Tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a tokenizer that takes chunks: a name, or a folder")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--chunk", type=int, help="samples or frames of a chunk; 16 frames otherwise, and sounds are given whole")
    parser.add_argument("--rate", type=int, default=24, help="frames per second of clips")
    parser.add_argument("--side", type=int, default=256, help="pixels of clips")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    is_saved = Path(arguments.model).is_dir()
    model = (visiontok.from_pretrained if is_saved else visiontok.create)(arguments.model).eval()
    assert isinstance(model, Tokenizer), f"{arguments.model} is no tokenizer"
    spec = model.preprocessing.spec
    is_sound = spec.modality == "audio"
    rate = round(spec.rate or 0) if is_sound else arguments.rate
    sides = () if is_sound else (arguments.side,) * 2
    total = int(rate * arguments.seconds)
    chunk = arguments.chunk or (total if is_sound else 16)

    def noise() -> Iterator[Tensor]:
        low, high = spec.low or 0.0, 1.0 if spec.high is None else spec.high
        for start in range(0, total, chunk):
            yield torch.rand(1, spec.channels, min(chunk, total - start), *sides) * (high - low) / 2 + low / 2

    small = model.preprocessing.blank(model.preprocessing.padded_size((1, *(min(side, 64) for side in sides))))
    model.decode(model.encode(small))  # what libraries allocate once is not of the signal
    Path("/proc/self/clear_refs").write_text("5")  # the peak of building the model is none of the signal's
    before, start = _memory("VmRSS"), time.perf_counter()
    if chunk == total:
        signal = next(noise())
        whole = model.encode(signal)
        encoded, between = _memory("VmHWM"), time.perf_counter()
        length = model.decode(whole).shape[2]
    else:
        assert isinstance(model, Chunked), f"{arguments.model} takes no chunks"
        tokens = list(model.encode_chunks(noise()))
        encoded, between = _memory("VmHWM"), time.perf_counter()
        length = sum(part.shape[2] for part in model.decode_chunks(tokens))
    assert length == model.output_size((total, *sides))[0]
    decoded, after = _memory("VmHWM"), time.perf_counter()
    way = "whole" if chunk == total else f"in chunks of {chunk}"
    print(f"{arguments.model}, {model.num_parameters / 1e6:.1f} M parameters, {arguments.seconds:g} s {way}, {sides or 'sound'}")
    print(f"  peak beyond the model: {encoded - before:.0f} MiB after encoding, {decoded - before:.0f} MiB after decoding")
    print(f"  {between - start:.0f} s to encode, {after - between:.0f} s to decode, {torch.get_num_threads()} threads")


def _memory(kind: str) -> float:
    """Resident memory of the process in MiB: "VmRSS" now, "VmHWM" at its peak. Of Linux."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{kind}:")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
