"""One new element per sequence through a `LlamaStack` on the CPU, where reading the weights from memory bounds the speed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.generators.backbones.llama import LlamaStack
from visiontok.layers.few_rows import LEAST_ROWS, Product, is_plain, product_of
from visiontok.layers.int8_linear import Int8Linear
from visiontok.layers.kv_cache import KVCache
from visiontok.layers.llama import LlamaAttention, LlamaBlock, SwiGLU
from visiontok.layers.norms import RMSNorm


def can_stream(stack: LlamaStack) -> bool:
    """Whether `LlamaStep` computes what the stack does: Llama's blocks, on the CPU, in float32 without autocast, in evaluation mode, without
    modulation, hooks, compiled or replaced modules."""
    known = {LlamaStack, LlamaBlock, LlamaAttention, SwiGLU, RMSNorm, nn.Linear, Int8Linear, nn.Dropout, nn.ModuleList}
    return all(map(is_plain, stack.parameters())) and all(
        type(module) in known
        and not (module.training or module._forward_hooks or module._forward_pre_hooks or module._compiled_call_impl is not None)
        for module in stack.modules()
    )


class LlamaStep:
    """The same numbers as the stack, up to rounding, in fewer and faster operations, and without gradients.

    Args:
        stack: see `can_stream`. Its weights are copied into another layout where that pays.
        rows: sequences R.
        steps: about how many there will be.
        rope: (1, 1, S, head_dim / 2, 2) rows of a `rope_table` for all elements of a sequence; None for no rotation.
    """

    def __init__(self, stack: LlamaStack, *, rows: int, steps: int, rope: Tensor | None) -> None:
        blocks = [block for block in stack.blocks if isinstance(block, LlamaBlock)]
        memory = _Memory(blocks[0], rows, is_turned=rope is not None)
        self._blocks = [_BlockStep(block, rows, steps, memory) for block in blocks]
        self._norm = None if stack.norm is None else _NormStep(stack.norm, memory)
        self._turns = None if rope is None else torch.view_as_complex(rope[0, 0].contiguous())

    @torch.no_grad()
    def __call__(self, x: Tensor, *, mask: Tensor | None, caches: Sequence[KVCache]) -> Tensor:
        """(R, 1, D) -> (R, 1, D), as `LlamaStack.forward` with a cache per block."""
        turn = None if self._turns is None else self._turns[caches[0].length]
        x = x[:, 0].clone()
        for block, cache in zip(self._blocks, caches, strict=True):
            block.add_to(x, turn=turn, mask=mask, cache=cache)
        return (x if self._norm is None else self._norm(x).clone())[:, None]


class _Memory:
    """What one block after the other writes into, and views of it: every operation and every allocation that a step is spared counts, since the
    stream of weights leaves nothing of the interpreter in the caches."""

    def __init__(self, block: LlamaBlock, rows: int, *, is_turned: bool) -> None:
        attention = block.attention
        heads = [attention.num_heads, attention.num_kv_heads, attention.num_kv_heads]
        empty, dim = partial(torch.empty, dtype=torch.float32), attention.num_heads * attention.head_dim
        self.mean = torch.full((dim, 1), 1 / dim, dtype=torch.float32)
        self.square, self.normed, self.scale = empty(rows, dim), empty(rows, dim), empty(rows, 1)
        self.gate, self.up = empty(0), empty(0)  # the first product gives them their size
        packed = empty(rows, sum(heads), 1, attention.head_dim)
        self.packed = packed.view(rows, -1)
        self.query, self.key, self.value = packed.split(heads, dim=1)
        # (R, H + G, 1, head_dim / 2) complex64
        self.turned = torch.view_as_complex(packed[:, : -heads[2]].unflatten(-1, (-1, 2))) if is_turned else None


class _NormStep:
    """An `RMSNorm` for (R, D): the mean of squares is a product of matrices."""

    def __init__(self, norm: nn.Module, memory: _Memory) -> None:
        assert isinstance(norm, RMSNorm)
        self._memory, self._weight = memory, norm.weight
        self._eps = torch.full_like(memory.scale, norm.eps)

    def __call__(self, x: Tensor) -> Tensor:
        """(R, D), valid until the next norm."""
        memory = self._memory
        torch.mul(x, x, out=memory.square)
        scale = torch.addmm(self._eps, memory.square, memory.mean, out=memory.scale).rsqrt_()
        return torch.mul(x, scale, out=memory.normed).mul_(self._weight)


class _BlockStep:
    """A `LlamaBlock` for (R, D)."""

    def __init__(self, block: LlamaBlock, rows: int, steps: int, memory: _Memory) -> None:
        attention, mlp = block.attention, block.feed_forward
        assert isinstance(mlp, SwiGLU)
        self._memory, self._attend = memory, _attend_in_one if rows < LEAST_ROWS else _attend_by_products
        self._attention_norm, self._ffn_norm = _NormStep(block.attention_norm, memory), _NormStep(block.ffn_norm, memory)

        def product(linear: nn.Linear | Int8Linear, out: Tensor | None = None) -> Product:
            if rows < LEAST_ROWS and isinstance(linear, Int8Linear):
                return _Int8Product(linear)
            return product_of(linear.weight, rows, uses=steps, out=out)

        self._wqkv, self._wo = product(attention.wqkv, memory.packed), product(attention.wo)
        self._w1, self._w3, self._w2 = product(mlp.w1, memory.gate), product(mlp.w3, memory.up), product(mlp.w2)

    def add_to(self, x: Tensor, *, turn: Tensor | None, mask: Tensor | None, cache: KVCache) -> None:
        """Add what the block adds to (R, D)."""
        memory = self._memory
        packed = self._wqkv(self._attention_norm(x))
        if packed is not memory.packed:
            memory.packed.copy_(packed)
        if turn is not None and memory.turned is not None:  # as `apply_rope` does, by a product of complex numbers
            memory.turned.mul_(turn)
        keys, values = cache.append(memory.key, memory.value)
        self._wo.add_to(x, self._attend(memory.query, keys, values, mask))
        normed = self._ffn_norm(x)
        self._w2.add_to(x, F.silu(self._w1(normed), inplace=True).mul_(self._w3(normed)))


def _attend_in_one(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """(R, H * head_dim) from (R, H, 1, head_dim) and (R, G, S, head_dim)."""
    is_grouped = query.shape[1] != keys.shape[1]
    return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=is_grouped).flatten(1)


def _attend_by_products(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """The same by two products and a softmax, which read many keys and values faster, and for few cost more than what they spare."""
    rows, groups, _, dim = keys.shape
    scaled = (query * dim**-0.5).view(rows * groups, -1, dim)
    scores = torch.bmm(scaled, keys.flatten(0, 1).transpose(1, 2))
    if mask is not None:
        scores.view(rows, -1, 1, scores.shape[2]).masked_fill_(~mask, -torch.inf)
    return torch.bmm(scores.softmax(dim=2), values.flatten(0, 1)).view(rows, -1)


class _Int8Product(Product):
    """That of weights which are read as 8 bits."""

    def __init__(self, linear: Int8Linear) -> None:
        self._linear = linear

    def __call__(self, x: Tensor) -> Tensor:
        return self._linear.forward(x)
