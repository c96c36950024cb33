"""Overhead of evaluation beside the networks: a suite on random images in files, against a bare loop of tokenizer and feature extractor.

    python benchmarks/evaluation_overhead.py --images 256 --model vqgan-photos-f4

The bare loop holds the images in memory, encodes, decodes and extracts features of both sides. The suite does the same, and reads PNG files, crops,
converts to 8 bits, computes fingerprints, MSE, PSNR, SSIM, codebook and rate metrics, accumulates moments and writes the result. Both are run
`--repeats` times in turn; the fastest run of each counts. The target is at most 10 % more. Without Inception's weights, the same network with
random weights is used.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import inception_v3

import visiontok
from visiontok.core.tokenizer import Tokenizer
from visiontok.evaluation import FunctionExtractor, Suite
from visiontok.evaluation.reconstruction.run import ReconstructionRun

SIZE = 256


class Inception:
    """Features of 2,048 numbers at 299 pixels, from random weights."""

    def __init__(self, device: torch.device) -> None:
        torch.manual_seed(0)
        network = inception_v3(weights=None, init_weights=False, aux_logits=True)
        network.fc = nn.Identity()
        self._network, self._device = network.eval().to(device), device

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, 2048) features of uint8 images (B, 3, H, W)."""
        pixels = images.to(self._device).float() / 127.5 - 1
        return self._network(nn.functional.interpolate(pixels, size=(299, 299), mode="bilinear", align_corners=False))


def bare(tokenizer: Tokenizer, extract: Inception, images: Tensor, batch_size: int) -> None:
    for batch in images.split(batch_size):
        decoded = tokenizer.decode(tokenizer.encode(batch))
        extract(batch).cpu()
        extract((decoded.float() * 255).round().to(torch.uint8)).cpu()


def whole(suite: Suite, tokenizer: Tokenizer, extract: Inception, workers: int) -> None:
    extractor = FunctionExtractor(extract, name="random-inception", identity="benchmark", protocol="benchmark")
    result, per_sample = ReconstructionRun(suite, tokenizer, name="benchmark", extractors=[extractor], num_workers=workers).run()
    with tempfile.TemporaryDirectory() as folder:
        result.save(Path(folder) / "result.json")
        per_sample.save_beside(Path(folder) / "result.json")


def timed(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--model", default="vqgan-photos-f4")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    tokenizer = visiontok.from_pretrained(arguments.model, device=device)
    extract = Inception(device)
    pixels = np.random.default_rng(0).integers(0, 256, (arguments.images, SIZE, SIZE, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    with tempfile.TemporaryDirectory() as folder:
        for index, image in enumerate(pixels):
            Image.fromarray(image).save(Path(folder) / f"{index:06d}.png")
        suite = Suite.parse(
            {
                "name": "overhead",
                "data": {"name": "folder", "path": folder},
                "size": SIZE,
                "metrics": ["mse", "psnr", "ssim", "codebook", "rate", "frechet"],
                "extractors": ["downsampled-pixels"],
                "batch_size": arguments.batch_size,
                "allow_few_samples": True,
            }
        )
        bare(tokenizer, extract, images[: arguments.batch_size], arguments.batch_size)  # warm up
        loops, suites = [], []
        for _ in range(arguments.repeats):
            loops.append(timed(bare, tokenizer, extract, images, arguments.batch_size))
            suites.append(timed(whole, suite, tokenizer, extract, arguments.workers))
    each = 1000 / arguments.images
    print(f"{arguments.images} images of {SIZE} x {SIZE}, batches of {arguments.batch_size}, {torch.get_num_threads()} threads, {device}")
    print(f"bare loop    {min(loops) * each:8.1f} ms per image")
    print(f"whole suite  {min(suites) * each:8.1f} ms per image")
    print(f"overhead     {100 * (min(suites) / min(loops) - 1):8.1f} %")


if __name__ == "__main__":
    main()
