"""Types of the package reach those who use it."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

SNIPPET = """
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import visiontok
from visiontok.data.token_dataset import TokenDataset
from visiontok.metrics import psnr
from visiontok.quantizers import VectorQuantizer

tokenizer = visiontok.from_pretrained("vqgan-photos-f4")
assert isinstance(tokenizer, visiontok.Tokenizer)
image: Tensor = tokenizer.decode(tokenizer.encode(torch.rand(1, 3, 64, 64)))
again: Tensor = tokenizer.decode(torch.zeros(1, 16, 16, dtype=torch.int64))
sizes: int = tokenizer.vocab_size + tokenizer.num_parameters
folder: Path = tokenizer.save_pretrained("copy")
quality: Tensor = psnr(image, again, data_range=1.0)
maps: Tensor = VectorQuantizer(codebook_size=64, dim=8).quantize_channels_first(torch.rand(1, 8, 4, 4)).latents
dataset = TokenDataset("tokens")
key: str = dataset[0].key
keys: list[str] = dataset[:4].keys
loader = DataLoader(dataset, batch_size=4)
"""

WRONG = """
from visiontok.quantizers import VectorQuantizer

VectorQuantizer(codebook_sise=64, dim=8)
"""


def test_the_package_says_that_it_is_typed() -> None:
    assert (files("visiontok") / "py.typed").is_file()


@pytest.mark.slow
def test_a_type_checker_reads_the_signatures(tmp_path: Path) -> None:
    found = []
    for name, code in (("right", SNIPPET), ("wrong", WRONG)):
        (tmp_path / f"{name}.py").write_text(code)
        command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), f"{name}.py"]
        found.append(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout)
    assert found[0].startswith("Success"), found[0]
    assert "codebook_sise" in found[1]
