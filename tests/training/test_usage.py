"""Codebook usage in training."""

from __future__ import annotations

import torch
from accelerate import Accelerator

from visiontok.layout import Segment, TokenLayout
from visiontok.tokens import Tokens
from visiontok.training.usage import UsageWindow


def _layout(*shape: int) -> TokenLayout:
    return TokenLayout(modality="image", segments=(Segment(name="grid", shape=shape, vocab_size=8),), signal_shape=shape)


def test_a_model_trained_on_crops_smaller_than_its_pictures_counts_the_codes_of_the_crops() -> None:
    window = UsageWindow(_layout(4, 4), window=2, device=torch.device("cpu"))
    window.update(Tokens(torch.tensor([[0, 1, 2, 7]]), _layout(2, 2)), 0)
    assert window.usage(0, Accelerator(cpu=True)) == {"grid": 0.5}
    window.update(Tokens(torch.tensor([[3, 3, 3, 3]]), _layout(2, 2)), 2)
    assert window.usage(2, Accelerator(cpu=True)) == {"grid": 0.125}


def test_every_codebook_of_a_position_is_counted_on_its_own() -> None:
    layout = TokenLayout(modality="image", segments=(Segment(name="grid", shape=(1, 2), codebooks=2, vocab_size=(4, 2)),), signal_shape=(1, 2))
    window = UsageWindow(layout, window=1, device=torch.device("cpu"))
    window.update(Tokens(torch.tensor([[0, 1, 3, 1]]), layout), 0)
    assert window.usage(0, Accelerator(cpu=True)) == {"grid.0": 0.5, "grid.1": 0.5}
