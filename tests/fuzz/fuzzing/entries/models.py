"""Saved models, and weights and configurations as authors release them."""

from __future__ import annotations

import io
import json
import re
from argparse import Namespace
from functools import lru_cache
from pathlib import Path

import torch
import yaml
from torch import Tensor

import visiontok
from fuzzing.entries.tokens import written
from fuzzing.entry import Entry, Files
from visiontok.core.model import weights_sha256
from visiontok.hub.reading import read_config, read_weights
from visiontok.hub.saving import add_results, save_pretrained
from visiontok.losses.weight_files import read_state_dict

_VIT = {"dim": 8, "depth": 1, "num_heads": 2, "patch_size": 8}
_QUANTIZER = {"type": "vq", "codebook_size": 8, "dim": 4}
_TITOK = {"image_size": 16, "num_latent_tokens": 4, "encoder": _VIT, "decoder": _VIT, "quantizer": _QUANTIZER}


@lru_cache(maxsize=1)
def saved() -> Files:
    """The folder of a small tokenizer."""
    torch.manual_seed(0)
    return written(lambda folder: save_pretrained(visiontok.create("titok", **_TITOK).eval(), folder))


def _read_model(folder: Path) -> None:
    model = visiontok.from_pretrained(folder)
    for name, tensor in model.state_dict().items():
        assert not tensor.is_floating_point() or bool(tensor.isfinite().all()), f"{name} is not finite"
    assert weights_sha256(model.state_dict())
    tokens = model.encode(torch.zeros(1, 3, 16, 16))  # type: ignore[union-attr]
    model.decode(tokens)  # type: ignore[union-attr]


def _state() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {"encoder.weight": torch.randn(3, 4, generator=draw), "encoder.bias": torch.zeros(3), "codebook": torch.ones(2, 2).half()}


def _torch(value: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)  # type: ignore[arg-type]
    return re.sub(rb"X.\x00\x00\x00\d{10,18}", b"X\x01\x00\x00\x000", buffer.getvalue(), flags=re.DOTALL)  # addresses, in the old format


def _pickles() -> list[Files]:
    state = _state()
    lightning = {"state_dict": {f"model.{name}": value for name, value in state.items()}, "epoch": 3, "hyper_parameters": Namespace(lr=0.1)}
    return [
        {"x.pt": _torch(state)},
        {"x.bin": _torch(state)},
        {"x.pt": _torch({"codebook": state["codebook"]}, _use_new_zipfile_serialization=False)},  # several tensors have no fixed order
        {"x.ckpt": _torch(lightning)},
        {"x.ckpt": _torch({"ema": {"shadow": state}, "model": state})},
        {"x.pt": _torch({name: torch.nn.Parameter(value) for name, value in state.items()})},
    ]


def _read_pickle(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        _check_state(read_weights(path).tensors)


def _check_state(tensors: object) -> None:
    assert isinstance(tensors, dict), type(tensors)
    for name, tensor in tensors.items():
        assert isinstance(name, str), name
        assert isinstance(tensor, Tensor), type(tensor)
        tensor.sum()  # every element lies in memory that is there


class _Module(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(3, 4)
        self.second = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x)


def _scripts() -> list[Files]:
    torch.manual_seed(0)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(_Module(), torch.zeros(1, 3)), buffer)
    return [{"x.ts": buffer.getvalue()}]


def _loss_weights() -> list[Files]:
    return [{"x.pth": _torch(_state())}]


def _read_loss_weights(folder: Path) -> None:
    assert isinstance(read_state_dict(folder / "x.pth"), dict)


def _configs() -> list[Files]:
    values = {"model": {"target": "x.Y", "params": {"dim": 16, "ratios": [1, 2], "act": "silu", "eps": 1e-6}}, "on": True}
    return [{"x.json": json.dumps(values).encode()}, {"x.yaml": yaml.safe_dump(values).encode()}]


def _read_config(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        assert isinstance(read_config(path), dict)


def _read_card(folder: Path) -> None:
    add_results(folder, ())
    (folder / "README.md").read_text(encoding="utf-8")


ENTRIES = (
    Entry("saved-model", lambda: [saved()], _read_model, cases=60, mutable=lambda name: not name.startswith("README")),
    Entry("pickled-weights", _pickles, _read_pickle, cases=200),
    Entry("torchscript", _scripts, _read_pickle, cases=100),
    Entry("loss-weights", _loss_weights, _read_loss_weights, cases=50),
    Entry("authors-config", _configs, _read_config, cases=100),
    Entry("model-card", lambda: [saved()], _read_card, cases=60, mutable=lambda name: name.startswith("README")),
)
