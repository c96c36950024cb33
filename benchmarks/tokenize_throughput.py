"""Throughput of `visiontok tokenize` relative to the model's: images/s of the model alone, of the whole run, and their ratio.

Both are timed in one process on the same images, which are written to a temporary folder as JPEG files and read back. The weights are random;
the speed does not depend on them. Run: python benchmarks/tokenize_throughput.py [--help]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from skimage import data

from visiontok import create
from visiontok.core.identity import identify
from visiontok.data.folder import FolderConfig, FolderSource
from visiontok.data.tokenizing import tokenize_source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="titok-b64", help="released tokenizer whose sizes are built")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--side", type=int, default=320, help="shorter side of the files in pixels")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--num-workers", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="of torch; by default all cores")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    tokenizer = create(arguments.model).to(arguments.device).eval()
    with tempfile.TemporaryDirectory() as folder:
        source = write_images(Path(folder) / "images", arguments.images, arguments.side)
        before = model_only(tokenizer, source, arguments.batch_size)
        identity = identify(tokenizer, arguments.model)
        start = time.perf_counter()
        tokenize_source(
            source, tokenizer, Path(folder) / "tokens", identity=identity, batch_size=arguments.batch_size, num_workers=arguments.num_workers
        )
        whole = len(source) / (time.perf_counter() - start)
        after = model_only(tokenizer, source, arguments.batch_size)
    alone = (before + after) / 2  # other work on the machine comes and goes
    print(f"{arguments.model}, {len(source)} images, batch {arguments.batch_size}, {torch.get_num_threads()} threads, {tokenizer.device}")
    print(f"model only:  {alone:8.2f} images/s ({before:.2f} before, {after:.2f} after)")
    print(f"end to end:  {whole:8.2f} images/s")
    print(f"ratio:       {whole / alone:8.3f}")


def write_images(folder: Path, count: int, side: int) -> FolderSource:
    """Crops of a photograph, each a little further on, so that no two files are equal."""
    folder.mkdir()
    photograph = Image.fromarray(data.astronaut())
    for number in range(count):
        offset = number % 64
        photograph.crop((offset, offset, offset + 448, offset + 400)).resize((side * 448 // 400, side)).save(folder / f"{number:05d}.jpg", quality=90)
    return FolderSource(FolderConfig(path=str(folder)))


def model_only(tokenizer, source: FolderSource, batch_size: int) -> float:
    """Images/s of `encode` on batches in memory, with the tokens moved to the CPU."""
    batch = tokenizer.preprocessing([source.read(index).signal for index in range(batch_size)]).values.to(tokenizer.device)
    tokenizer.encode(batch)
    start = time.perf_counter()
    for _ in range(len(source) // batch_size):
        tokenizer.encode(batch).to("cpu")
    return len(source) // batch_size * batch_size / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
