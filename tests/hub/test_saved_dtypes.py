"""What a model was saved in: nothing is rounded on the way back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import visiontok
from visiontok.core.model import plain_state


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32), (torch.float16, torch.float32)],
    ids=str,
)
def test_weights_come_back_without_loss(tmp_path: Path, saved: torch.dtype, loaded: torch.dtype) -> None:
    torch.manual_seed(0)
    model = visiontok.create("tiny").to(saved).eval()
    with torch.no_grad():
        model.encoder.weight.add_(1e-12)
    visiontok.save_pretrained(model, tmp_path)
    again = visiontok.from_pretrained(tmp_path)
    assert again.dtype == loaded
    assert all(torch.equal(tensor.to(torch.float64), plain_state(again)[name].to(torch.float64)) for name, tensor in plain_state(model).items())
    images = torch.rand(1, 3, 8, 8)
    if saved == loaded:
        assert torch.equal(again.encode(images).indices, model.encode(images).indices)
    assert visiontok.from_pretrained(tmp_path, dtype="float32").dtype == torch.float32
