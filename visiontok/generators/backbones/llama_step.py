"""One new element per sequence through a `LlamaStack` on the CPU, where reading the weights from memory bounds the speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

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
    """The same numbers as the stack, up to rounding, in fewer and faster operations, and without gradients.

    Args:
        stack: whose weights are arranged anew, where that pays; see `StreamedLinear` and `can_stream`.
        rows: sequences R.
        rope: (1, 1, S, head_dim / 2, 2) rows of a `rope_table` for all elements of a sequence; None for no rotation.
    """

    def __init__(self, stack: LlamaStack, *, rows: int, rope: Tensor | None) -> None:
        blocks = [block for block in stack.blocks if isinstance(block, LlamaBlock)]
        heads = _Heads(blocks[0].attention, rows, is_turned=rope is not None)
        self._blocks = [_BlockStep(block, rows, heads) for block in blocks]
        self._norm = None if stack.norm is None else _NormStep(stack.norm, rows)
        self._turns = None if rope is None else torch.view_as_complex(rope[0, 0].contiguous())

    @torch.no_grad()
    def __call__(self, x: Tensor, *, mask: Tensor | None, caches: Sequence[KVCache]) -> Tensor:
        """(R, 1, D) -> (R, 1, D), as `LlamaStack.forward` with a cache per block."""
        turn = None if self._turns is None else self._turns[caches[0].length]
        x = x[:, 0]
        for block, cache in zip(self._blocks, caches, strict=True):
            x = block(x, turn=turn, mask=mask, cache=cache)
        return (x if self._norm is None else self._norm(x))[:, None]


class _Heads:
    """Memory for the queries, keys and values of one block after the other, and views of it: every operation that a step is spared counts, since the
    stream of weights leaves nothing of the interpreter in the caches."""

    def __init__(self, attention: LlamaAttention, rows: int, *, is_turned: bool) -> None:
        heads = [attention.num_heads, attention.num_kv_heads, attention.num_kv_heads]
        self.is_grouped = heads[0] != heads[1]
        self._packed = attention.wqkv.weight.new_empty(rows, sum(heads), 1, attention.head_dim, dtype=torch.float32)
        self._flat = self._packed.view(rows, -1)
        self._query, self._key, self._value = self._packed.split(heads, dim=1)
        # (R, H + G, 1, head_dim / 2) complex64
        self._turned = torch.view_as_complex(self._packed[:, : -heads[2]].unflatten(-1, (-1, 2))) if is_turned else None

    def __call__(self, packed: Tensor, turn: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """(R, (H + 2 G) * head_dim) -> query (R, H, 1, head_dim), key and value (R, G, 1, head_dim), float32, rotated as `apply_rope` does by a
        product of complex numbers, and valid until the next call."""
        self._flat.copy_(packed)
        if self._turned is not None:
            assert turn is not None
            self._turned.mul_(turn)
        return self._query, self._key, self._value


class _NormStep:
    """An `RMSNorm` for (R, D): the mean of squares is a product of matrices."""

    def __init__(self, norm: RMSNorm, rows: int) -> None:
        dim = len(norm.weight)
        self._weight = norm.weight
        self._mean = norm.weight.new_full((dim, 1), 1 / dim, dtype=torch.float32)
        self._eps = norm.weight.new_full((rows, 1), norm.eps, dtype=torch.float32)

    def __call__(self, x: Tensor) -> Tensor:
        wide = x.float()
        scale = torch.addmm(self._eps, wide.square(), self._mean).rsqrt_()
        return (wide * scale).to(x.dtype).mul_(self._weight)


class _BlockStep:
    """A `LlamaBlock` for (R, D)."""

    def __init__(self, block: LlamaBlock, rows: int, heads: _Heads) -> None:
        attention, mlp = block.attention, block.feed_forward
        self._heads = heads
        self._attention_norm, self._ffn_norm = _NormStep(block.attention_norm, rows), _NormStep(block.ffn_norm, rows)
        self._wqkv, self._w1, self._w3 = (_product(linear, rows) for linear in (attention.wqkv, mlp.w1, mlp.w3))
        self._wo, self._w2 = (_sum_with_product(linear, rows) for linear in (attention.wo, mlp.w2))

    def __call__(self, x: Tensor, *, turn: Tensor | None, mask: Tensor | None, cache: KVCache) -> Tensor:
        query, key, value = self._heads(self._wqkv(self._attention_norm(x)), turn)
        keys, values = cache.append(key, value)
        attended = F.scaled_dot_product_attention(query.to(x.dtype), keys, values, attn_mask=mask, enable_gqa=self._heads.is_grouped)
        x = self._wo(x, attended.flatten(1))
        normed = self._ffn_norm(x)
        return self._w2(x, F.silu(self._w1(normed), inplace=True).mul_(self._w3(normed)))


def _product(linear: nn.Linear | Int8Linear, rows: int) -> Callable[[Tensor], Tensor]:
    """`W x`. Weights of 8 bits are read as such where their kernel is the faster one."""
    if rows >= LEAST_ROWS:
        return StreamedLinear(linear.weight)
    return linear if isinstance(linear, Int8Linear) else partial(torch.mm, mat2=linear.weight.t())


def _sum_with_product(linear: nn.Linear | Int8Linear, rows: int) -> Callable[[Tensor, Tensor], Tensor]:
    """`r + W x`, likewise, of r and x."""
    if rows < LEAST_ROWS and isinstance(linear, nn.Linear):
        return partial(torch.addmm, mat2=linear.weight.t())
    product = _product(linear, rows)
    return lambda residual, x: product(x).add_(residual)
