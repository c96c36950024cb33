"""What the sampling loop of `gpt` does at every step, beside the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from visiontok.base.errors import NonFiniteError
from visiontok.generators.gpt.model import GPT, GPTConfig
from visiontok.generators.gpt.session import GPTSession
from visiontok.tokens import Segment, TokenLayout

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal.")
"""Operations whose result the host must wait for."""


class Waits(TorchDispatchMode):
    """Counts those on what a model computes. The steps themselves lie on the CPU for any model: integers, and rows of what a step writes."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in str(func) for name in WAITS):
            self.count += args[0].dtype != torch.int64 if args[0].ndim == 0 else args[0].ndim > 1
        return func(*args, **(kwargs or {}))


def gpt(length: int, **fields: object) -> GPT:
    layout = TokenLayout(modality="image", segments=(Segment(name="sequence", shape=(length,), **fields),), signal_shape=(8, 8))
    torch.manual_seed(0)
    head = {"flow_head": {"dim": 8, "depth": 1}} if "channels" in fields else {}
    return GPT(GPTConfig(layout=layout, condition={"type": "classes", "num_classes": 3}, dim=16, depth=2, num_heads=2, **head)).eval()


def waits(model: GPT, **sampling: float) -> int:
    with Waits() as counted:
        model.generate(torch.arange(3), sampler=model.sampler(**sampling))
    return counted.count


@pytest.mark.parametrize("sampling", [{"guidance": 2.0, "top_k": 5, "top_p": 0.9}, {"top_k": 1}], ids=["sampled", "greedy"])
def test_no_step_waits_for_the_device(sampling: dict[str, float]):
    assert waits(gpt(24, vocab_size=7), **sampling) == waits(gpt(8, vocab_size=7), **sampling)


def test_no_step_waits_for_the_device_with_latents():
    assert waits(gpt(12, channels=2), guidance=2.0) == waits(gpt(4, channels=2), guidance=2.0)


@pytest.mark.parametrize("sampling", [{}, {"top_k": 1}, {"guidance": 2.0}], ids=["sampled", "greedy", "guided"])
def test_logits_that_are_not_finite_are_an_error_with_the_first_step(sampling: dict[str, float], monkeypatch: pytest.MonkeyPatch):
    model = gpt(8, vocab_size=7)
    step, calls = GPTSession.step, iter(range(1, 100))

    def damaged(session: GPTSession, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        hidden, unconditional = step(session, codes)
        hidden[1] = torch.nan if next(calls) >= 3 else hidden[1]
        return hidden, unconditional

    monkeypatch.setattr(GPTSession, "step", damaged)
    with pytest.raises(NonFiniteError, match=r"step 3.*sample 1"):
        model.generate(torch.arange(3), sampler=model.sampler(**sampling))
