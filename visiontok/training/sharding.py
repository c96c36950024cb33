"""Fully sharded data parallel training (FSDP, arXiv 2304.11277): every process keeps its part of every weight, gradient, moment and average.

Weights are gathered block by block while a step computes. Checkpoints and exported models hold whole tensors, as those of unsharded runs do, so a run
may go on with another number of processes, or unsharded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_map_only

from visiontok.base.errors import ConfigError
from visiontok.layers.block import blocks


def check_can_shard(accelerator: Accelerator) -> None:
    """Make sure that this machine can train sharded.

    Raises:
        ConfigError: if torch cannot shard on its device.
    """
    if accelerator.device.type == "cpu" and not hasattr(torch.cpu.Stream, "record_event"):
        raise ConfigError(f"parallel=fsdp: torch {torch.__version__} shards on accelerators only; update torch, or set parallel=ddp")


def shard(module: nn.Module, accelerator: Accelerator) -> None:
    """Leave this process its part of every parameter, on the run's device: of blocks block by block, and of the rest together. In place.

    Args:
        module: the same on every process, on any device; its buffers stay whole.
        accelerator: processes, device and precision.
    """
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    # Gathered in the precision of the forward pass, so that no whole copy in that precision is kept for the backward pass; summed in float32.
    low = {"bf16": torch.bfloat16}.get(accelerator.mixed_precision)
    precision = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=None if low is None else torch.float32, cast_forward_inputs=False)
    for part in (*blocks(module), module):
        fully_shard(part, mesh=mesh, mp_policy=precision)


def is_sharded(module: nn.Module) -> bool:
    """Whether `shard` was called on it."""
    return isinstance(module, FSDPModule)


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: of a sharded one its rows, which may be none, and which share its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; every process calls this for the same tensors in the same order."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(state: Any, accelerator: Accelerator) -> Any:
    """A state with whole tensors in place of sharded ones; every process calls this.

    The first process gets them on the CPU, one after the other; the others get their shapes only, on the meta device.
    """

    def on_first(tensor: DTensor) -> Tensor:
        full = tensor.full_tensor().detach()
        return full.cpu() if accelerator.is_main_process else full.to("meta")

    return tree_map_only(DTensor, on_first, state)


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, as another one is: sharded in the same way if that is sharded. No process asks another one.

    Raises:
        ValueError: if the shapes differ.
    """
    if not isinstance(like, DTensor):
        return tensor
    if tensor.shape != like.shape:
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} does not fit the shape {tuple(like.shape)}")
    parts = tensor.chunk(like.device_mesh.size())
    rank = like.device_mesh.get_local_rank()
    own = parts[rank] if rank < len(parts) else tensor[:0]
    own = own.to(like.device, copy=True)
    return DTensor.from_local(own, like.device_mesh, like.placements, run_check=False, shape=tensor.shape, stride=tensor.stride())


def load_weights(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a module, sharded or not, whole tensors.

    Raises:
        RuntimeError, ValueError: if they do not fit.
    """
    own = module.state_dict()
    module.load_state_dict({name: part_of(tensor, own[name]) if name in own else tensor for name, tensor in state.items()})


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy the weights of a sharded module into a whole one of the same kind, tensor by tensor; every process calls this."""
    given = source.state_dict()
    for name, tensor in target.state_dict().items():
        tensor.copy_(whole(given[name]))


def gathered_parameters(model: nn.Module) -> int:
    """How many parameters of a sharded model, and of their gradients, a process holds whole at the most.

    Two blocks, one of which computes while the next one is gathered, the gradient of one, and the parameters beside the blocks with their gradients.
    """
    sizes = [sum(parameter.numel() for parameter in block.parameters()) for block in blocks(model)]
    beside = sum(parameter.numel() for parameter in model.parameters()) - sum(sizes)
    return 2 * beside + 3 * max(sizes, default=0)
