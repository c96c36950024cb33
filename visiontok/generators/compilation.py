"""Parts of generators compiled for sampling on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, wraps
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

_QUIET = {"autotune_num_choices_displayed": 0, "max_autotune_report_choices_stats": False}
"""Options of torch's inductor; not all of its versions have those that keep it quiet."""


def compile_for_sampling(part: nn.Module) -> None:
    """Compile a backbone, or the table of a head with one codebook, in its place (`torch.compile`), for steps of few rows without gradients, such as
    one guided image.

    Weights become constants of what is compiled, in the layout of the product that was the fastest of those that were tried: later changes of the
    part go unseen. The first steps compile, for every number of samples anew, which takes a minute for 12 blocks and needs a C++ compiler. With
    gradients or in training mode the part runs as it is. A compiled table is read by `GPT.generate` without a drafter, in float32.
    """
    import torch._inductor.config as inductor  # late: it loads the compiler

    # Where torch can leave it out, nothing of the part is looked at again before a step, which takes time of every step. Versions that cannot (2.6)
    # would generate products that do not compile on every processor; they have those of the library.
    unguarded = getattr(torch.compiler, "skip_guard_on_all_nn_modules_unsafe", None)
    products = "ATEN" if unguarded is None else "CPP,ATEN"
    quiet = {name: value for name, value in _QUIET.items() if hasattr(inductor, name)}
    backend = partial(_compile, options={"max_autotune": True, "max_autotune_gemm_backends": products, **quiet})
    compiled = torch.compile(_own_forward(part), backend=backend, options=None if unguarded is None else {"guard_filter_fn": unguarded})

    @wraps(part.forward)
    def sampling(*args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled() or part.training:
            return part._call_impl(*args, **kwargs)
        before = inductor.freezing
        inductor.freezing = True  # torch reads it before it calls the backend, which reads the other options
        try:
            return compiled(*args, **kwargs)
        finally:
            inductor.freezing = before

    part._compiled_call_impl = sampling  # as `nn.Module.compile` does, which knows no scope


def _own_forward(module: nn.Module) -> MethodType:
    """`forward` with code of its own: torch keeps what it compiles by the code, which modules of one class share, and where nothing of a module is
    looked at again, that of the first module would be run for all."""
    shared = type(module).forward
    assert isinstance(shared, FunctionType)
    own = FunctionType(shared.__code__.replace(), shared.__globals__, shared.__name__, shared.__defaults__, shared.__closure__)
    own.__kwdefaults__ = shared.__kwdefaults__
    return MethodType(own, module)


def _compile(graph: fx.GraphModule, inputs: Sequence[Any], *, options: dict[str, Any]) -> Any:
    """As torch's inductor, with the attention of single queries as sums, which it compiles into loops: that of the library costs as much per call as
    reading many keys and values does."""
    from torch._inductor.compile_fx import compile_fx  # late: it loads the compiler

    for node in graph.graph.nodes:
        if node.target is F.scaled_dot_product_attention and _can_be_sums(node):
            node.target = _attend_by_sums
    graph.recompile()
    return compile_fx(graph, inputs, config_patches=options)


def _can_be_sums(attention: fx.Node) -> bool:
    """Whether a call of torch's attention is one of `_attend_by_sums`: in float32 on the CPU, without dropout, a scale or a mask of numbers."""
    options = attention.kwargs
    if len(attention.args) != 3 or not options.keys() <= {"attn_mask", "dropout_p", "is_causal", "enable_gqa"}:
        return False
    query, mask = (each.meta["example_value"] if isinstance(each, fx.Node) else None for each in (attention.args[0], options.get("attn_mask")))
    is_single = query is not None and query.dim() == 4 and query.shape[2] == 1 and query.dtype == torch.float32 and query.device.type == "cpu"
    return is_single and not (options.get("dropout_p") or options.get("is_causal")) and (mask is None or mask.dtype == torch.bool)


def _attend_by_sums(query: Tensor, keys: Tensor, values: Tensor, attn_mask: Tensor | None = None, **_: object) -> Tensor:
    """(B, H, 1, head_dim) from (B, H, 1, head_dim) and (B, G, S, head_dim), and a mask (B or 1, 1, 1, S) of bool, with True in every row."""
    if query.shape[1] != keys.shape[1]:
        keys, values = (each.repeat_interleave(query.shape[1] // each.shape[1], dim=1) for each in (keys, values))
    scores = (query * query.shape[-1] ** -0.5 * keys).sum(-1, keepdim=True)  # (B, H, S, 1)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask.transpose(-1, -2), -torch.inf)
    weights = (scores - scores.amax(-2, keepdim=True)).exp()
    return (weights * values).sum(-2, keepdim=True) / weights.sum(-2, keepdim=True)
