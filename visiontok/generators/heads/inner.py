"""The tokens of a step one after the other, by a small causal transformer over the codebooks (Open-MAGVIT2, arXiv 2409.04410; RQ-Transformer)."""

from __future__ import annotations

import torch
from torch import Tensor

from visiontok.base.config import Config, Positive
from visiontok.generators.backbones.llama import LlamaConfig, LlamaStack
from visiontok.generators.heads.base import Choose, Embed, TokenHead
from visiontok.generators.heads.categorical import CodeTable
from visiontok.generators.orders import GenerationSteps
from visiontok.layers.rope import rope_table


class InnerHeadConfig(Config):
    """Size of an `InnerHead`; everything else is the backbone's.

    Attributes:
        depth: number of its blocks.
    """

    depth: Positive = 2


class InnerHead(TokenHead):
    """Reads [hidden, token 0, token 1, ...] of a step and predicts token 0, token 1, token 2, ...

    The rotary row of the backbone's output is zeros, so that it is seen by every token with a score of 0; those of the tokens count 0, 1, 2, ...

    Args:
        config: depth.
        backbone: sizes of the blocks, those of the backbone.
        num_codes: of all codebooks, `TokenLayout.num_codes`.
        codebooks: tokens per step K.
    """

    def __init__(self, config: InnerHeadConfig, backbone: LlamaConfig, *, num_codes: int, codebooks: int) -> None:
        super().__init__()
        self.stack = LlamaStack(backbone, depth=config.depth)
        self.table = CodeTable(backbone.dim, num_codes)
        positions = torch.arange(codebooks - 1)[:, None]
        self.register_buffer("rope", rope_table(positions, backbone.head_dim, base=backbone.rope_base, zero_rows=1), persistent=False)

    rope: Tensor

    def scores(self, hidden: Tensor, codes: Tensor, plan: GenerationSteps, embed: Embed) -> tuple[Tensor, Tensor]:
        samples, steps = plan.held.any(dim=-1).nonzero(as_tuple=True)
        codes_, first, sizes, held = (part[samples, steps] for part in (codes, plan.first, plan.sizes, plan.held))
        x = torch.cat([hidden[samples, steps, None], embed(codes_ + first)[:, :-1].to(hidden.dtype)], dim=1)
        x = self.stack(x, rope=self.rope.to(hidden.device), is_causal=True)
        found, right = hidden.new_zeros(held.shape, dtype=torch.float32), torch.zeros_like(held)
        found[held], right[held] = self.table.scores(x[held], codes_[held], first[held], sizes[held])
        nll, correct = hidden.new_zeros(codes.shape, dtype=torch.float32), torch.zeros_like(plan.held)
        nll[samples, steps], correct[samples, steps] = found, right
        return nll, correct

    def sample(self, hidden: Tensor, unconditional: Tensor | None, plan: GenerationSteps, embed: Embed, choose: Choose) -> Tensor:
        count, held = len(hidden), int(plan.held.sum())
        codes = torch.zeros(count, len(plan.held), dtype=torch.int64, device=hidden.device)
        x = (hidden if unconditional is None else torch.cat([hidden, unconditional]))[:, None]
        caches = self.stack.new_caches(len(x), len(plan.held))
        for column in range(held):
            out = self.stack(x, rope=self.rope[column : column + 1].to(x.device), caches=caches)[:, 0]
            first, size = int(plan.first[column]), int(plan.sizes[column])
            logits = self.table.logits(out, first, size)
            codes[:, column] = choose(logits[:count], None if unconditional is None else logits[count:], int(plan.codebooks[column]))
            x = embed(codes[:, column] + first)[:, None].to(x.dtype)
            x = x if unconditional is None else torch.cat([x, x])
        return codes
