"""Backbones compiled for sampling on the CPU."""

from __future__ import annotations

from functools import wraps
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import nn

_QUIET = {"autotune_num_choices_displayed": 0, "max_autotune_report_choices_stats": False}
"""Options of torch's inductor; not all of its versions have those that keep it quiet."""


def compile_for_sampling(backbone: nn.Module) -> None:
    """Compile a backbone in its place (`torch.compile`) for steps of few rows without gradients, such as one guided image.

    Weights become constants of what is compiled, in the layout of the product that was the fastest of those that were tried: later changes of the
    backbone go unseen. The first steps compile, for every number of samples anew, which takes a minute for 12 blocks and needs a C++ compiler. With
    gradients or in training mode the backbone runs as it is.
    """
    import torch._inductor.config as inductor  # late: it loads the compiler

    # Where torch can leave it out, nothing of the backbone is looked at again before a step, which takes time of every step. The versions that cannot
    # generate products that do not compile on every processor (2.6), so that theirs are those of the library.
    unguarded = getattr(torch.compiler, "skip_guard_on_all_nn_modules_unsafe", None)
    compiled = torch.compile(_own_forward(backbone), options=None if unguarded is None else {"guard_filter_fn": unguarded})
    products = "ATEN" if unguarded is None else "CPP,ATEN"
    quiet = {name: value for name, value in _QUIET.items() if hasattr(inductor, name)}
    options = {"freezing": True, "max_autotune": True, "max_autotune_gemm_backends": products, **quiet}

    @wraps(backbone.forward)
    def sampling(*args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled() or backbone.training:
            return backbone._call_impl(*args, **kwargs)
        with inductor.patch(options):  # dynamo reads them, too
            return compiled(*args, **kwargs)

    backbone._compiled_call_impl = sampling  # as `nn.Module.compile` does, which knows no scope


def _own_forward(module: nn.Module) -> MethodType:
    """`forward` with code of its own: torch keeps what it compiles by the code, which modules of one class share, and where nothing of a module is
    looked at again, that of the first module would be run for all."""
    shared = type(module).forward
    assert isinstance(shared, FunctionType)
    own = FunctionType(shared.__code__.replace(), shared.__globals__, shared.__name__, shared.__defaults__, shared.__closure__)
    own.__kwdefaults__ = shared.__kwdefaults__
    return MethodType(own, module)
