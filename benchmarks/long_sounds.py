"""Memory that a long sound takes beyond the model, in chunks of ten seconds: `python benchmarks/long_sounds.py encodec --minutes 10`.

Networks of the released sizes with random weights. The sound is encoded to tokens and decoded again; both are held whole.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch

import visiontok
from visiontok.tokenizers.shared.codec import Codec
from visiontok.tokens import join_chunks, split_chunks

SECONDS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", help="an audio codec")
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    codec = visiontok.create(arguments.family).eval()
    assert isinstance(codec, Codec)
    rate = round(codec.preprocessing.spec.rate or 0)
    codec.decode(codec.encode(torch.zeros(1, codec.preprocessing.spec.channels, rate)))  # what libraries allocate once is not of the sound
    before = _peak()
    sound = torch.rand(1, codec.preprocessing.spec.channels, int(60 * rate * arguments.minutes)) - 0.5
    start = time.perf_counter()
    tokens = join_chunks(list(codec.encode_chunks(sound.split(SECONDS * rate, dim=-1))))
    encoded, between = _peak(), time.perf_counter()
    decoded = torch.cat(list(codec.decode_chunks(split_chunks(tokens, SECONDS * rate))), dim=-1)
    assert decoded.shape[-1] == codec.output_size(sound.shape[2:])[0]
    megabytes = (sound.nbytes + decoded.nbytes + tokens.data.nbytes) / 2**20
    print(f"{arguments.family}, {codec.num_parameters / 1e6:.1f} M parameters, {arguments.minutes:g} minutes in chunks of {SECONDS} s")
    print(f"  sound, tokens and sound again: {megabytes:.0f} MiB")
    print(f"  peak beyond the model: {encoded - before:.0f} MiB after encoding, {_peak() - before:.0f} MiB after decoding")
    print(f"  {between - start:.0f} s to encode, {time.perf_counter() - between:.0f} s to decode, {torch.get_num_threads()} threads")


def _peak() -> float:
    """Resident memory of the process at its peak, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
