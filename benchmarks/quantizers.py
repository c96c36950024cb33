"""Nearest-code search against vector-quantize-pytorch, in one process: time and peak additional memory.

    python benchmarks/quantizers.py [--rows 65536 --dim 12 --codes 4096]

Requires `pip install vector-quantize-pytorch`.
"""

from __future__ import annotations

import argparse

import torch
from costs import peak_bytes, seconds
from vector_quantize_pytorch import VectorQuantize

from visiontok.quantizers import nearest_codes

SIZES = ((65_536, 12, 4_096), (16_384, 8, 16_384))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="latents N; with --dim and --codes, instead of the two default sizes")
    parser.add_argument("--dim", type=int, default=12, help="their dimension D")
    parser.add_argument("--codes", type=int, default=4_096, help="codes K")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    for rows, dim, codes in SIZES if options.rows is None else ((options.rows, options.dim, options.codes),):
        latents = torch.randn(rows, dim)
        peer = VectorQuantize(dim=dim, codebook_size=codes).eval()
        codebook = peer.codebook.detach().clone()

        def ours(latents=latents, codebook=codebook) -> torch.Tensor:
            return nearest_codes(latents, codebook)

        @torch.no_grad()
        def theirs(latents=latents, peer=peer) -> torch.Tensor:
            return peer(latents[None])[1][0]

        ours_bytes, theirs_bytes = peak_bytes(ours), peak_bytes(theirs)
        ours_seconds, theirs_seconds = seconds(ours, 5), seconds(theirs, 3)
        agreement = (ours() == theirs()).double().mean().item()
        print(f"N = {rows:,}, D = {dim}, K = {codes:,}: the same code for {agreement:.4%} of the latents")
        print(f"  time    {ours_seconds * 1e3:8.0f} ms against {theirs_seconds * 1e3:8.0f} ms: {theirs_seconds / ours_seconds:.1f} times as fast")
        print(f"  memory  {ours_bytes / 2**20:8.1f} MB against {theirs_bytes / 2**20:8.1f} MB: 1 / {theirs_bytes / ours_bytes:.0f} of it")


if __name__ == "__main__":
    main()
