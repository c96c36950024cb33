"""Backbones compiled for sampling on the CPU."""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
from torch import nn

_OPTIONS = {"max_autotune": True, "max_autotune_gemm_backends": "CPP,ATEN"}
_QUIET = {"autotune_num_choices_displayed": 0, "max_autotune_report_choices_stats": False}
"""Options of torch's inductor; not all of its versions have those that keep it quiet."""


def compile_for_sampling(backbone: nn.Module) -> None:
    """Compile a backbone in its place (`torch.compile`) for steps of few rows without gradients, such as one guided image.

    Weights become constants of what is compiled, in the layout of the product that was the fastest of those that were tried: later changes of them go
    unseen. The first steps compile, for every number of samples anew, which takes a minute for 12 blocks and needs a C++ compiler.
    """
    import torch._inductor.config as inductor  # late: it loads the compiler

    compiled = torch.compile(backbone.forward)
    options = {**_OPTIONS, **{name: value for name, value in _QUIET.items() if hasattr(inductor, name)}}

    @wraps(backbone.forward)
    def frozen(*args: Any, **kwargs: Any) -> Any:
        with inductor.patch({**options, "freezing": not torch.is_grad_enabled()}):
            return compiled(*args, **kwargs)

    backbone._compiled_call_impl = frozen  # as `nn.Module.compile` does, which knows no scope
