"""One new element per sequence through a `LlamaStack` on the CPU, where reading the weights from memory bounds the speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.generators.backbones.llama import LlamaStack
from visiontok.layers.int8_linear import Int8Linear
from visiontok.layers.kv_cache import KVCache
from visiontok.layers.llama import LlamaAttention, LlamaBlock, SwiGLU
from visiontok.layers.norms import RMSNorm
from visiontok.layers.streamed_linear import LEAST_ROWS, StreamedLinear


def can_stream(stack: LlamaStack) -> bool:
    """Whether `LlamaStep` computes what the stack does: on the CPU, in evaluation mode, without modulation, hooks, compiled or replaced modules."""
    known = {LlamaStack, LlamaBlock, LlamaAttention, SwiGLU, RMSNorm, nn.Linear, Int8Linear, nn.Dropout, nn.ModuleList}
    return all(parameter.device.type == "cpu" for parameter in stack.parameters()) and all(
        type(module) in known
        and not (module.training or module._forward_hooks or module._forward_pre_hooks or module._compiled_call_impl is not None)
        for module in stack.modules()
    )


class LlamaStep:
    """The same numbers as the stack, up to rounding, in fewer and faster operations.

    Args:
        stack: whose weights are arranged anew, where that pays; see `StreamedLinear` and `can_stream`.
        rows: sequences R.
        rope: (1, 1, S, head_dim / 2, 2) rows of a `rope_table` for all elements of a sequence; None for no rotation.
    """

    def __init__(self, stack: LlamaStack, *, rows: int, rope: Tensor | None) -> None:
        self._blocks = [_BlockStep(block, rows) for block in stack.blocks if isinstance(block, LlamaBlock)]
        self._norm = stack.norm
        self._turns = None if rope is None else torch.view_as_complex(rope[0, 0].contiguous())

    def __call__(self, x: Tensor, *, mask: Tensor | None, caches: Sequence[KVCache]) -> Tensor:
        """(R, 1, D) -> (R, 1, D), as `LlamaStack.forward` with a cache per block."""
        turn = None if self._turns is None else self._turns[caches[0].length]
        x = x[:, 0]
        for block, cache in zip(self._blocks, caches, strict=True):
            x = block(x, turn=turn, mask=mask, cache=cache)
        return (x if self._norm is None else self._norm(x))[:, None]


class _BlockStep:
    """A `LlamaBlock` for (R, D)."""

    def __init__(self, block: LlamaBlock, rows: int) -> None:
        attention, mlp = block.attention, block.feed_forward
        self._attention_norm, self._ffn_norm = block.attention_norm, block.ffn_norm
        self._wqkv, self._wo, self._w1, self._w2, self._w3 = (
            _streamed(linear, rows) for linear in (attention.wqkv, attention.wo, mlp.w1, mlp.w2, mlp.w3)
        )
        self._heads = [attention.num_heads, attention.num_kv_heads, attention.num_kv_heads]
        self._head_dim, self._is_grouped = attention.head_dim, attention.num_kv_heads != attention.num_heads

    def __call__(self, x: Tensor, *, turn: Tensor | None, mask: Tensor | None, cache: KVCache) -> Tensor:
        packed = self._wqkv(self._attention_norm(x)).unflatten(-1, (-1, 1, self._head_dim))
        query, key, value = packed.split(self._heads, dim=1)
        if turn is not None:
            turned = _turned(packed[:, : -self._heads[2]], turn)
            query, key = turned.split(self._heads[:2], dim=1)
        keys, values = cache.append(key, value)
        attended = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=self._is_grouped)
        x = self._wo(attended.flatten(1)) + x
        normed = self._ffn_norm(x)
        return self._w2(F.silu(self._w1(normed)).mul_(self._w3(normed))) + x


def _streamed(linear: nn.Linear | Int8Linear, rows: int) -> Callable[[Tensor], Tensor]:
    """Weights of 8 bits are read as such where their kernel is the faster one."""
    return linear if isinstance(linear, Int8Linear) and rows < LEAST_ROWS else StreamedLinear(linear.weight, rows=rows)


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    """`apply_rope` as a product of complex numbers: x (..., head_dim), turn (head_dim / 2) complex64."""
    return torch.view_as_real(torch.view_as_complex(x.float().unflatten(-1, (-1, 2))) * turn).flatten(-2).type_as(x)
