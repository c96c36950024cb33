"""One categorical distribution per token, over the codes of its codebook; the tokens of a step are independent given the backbone's output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.generators.heads.base import Choose, Embed, TokenHead
from visiontok.generators.orders import GenerationSteps
from visiontok.layers.few_rows import MOST_ROWS, is_plain, product_of


class CodeDistributions(nn.Module, ABC):
    """Maps to distributions over the codes of several codebooks; a token uses those of its own."""

    @abstractmethod
    def logits(self, hidden: Tensor, first: int, size: int) -> Tensor:
        """Logits (..., size) float32 over the codebook whose rows begin at `first`, from (..., D)."""

    def for_steps(self, steps: int, rows: int) -> CodeDistributions:
        """See `TokenHead.for_steps`."""
        return self

    def scores(self, hidden: Tensor, codes: Tensor, first: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Minus log-probabilities (N,) float32 and correctness (N,) bool of codes (N,), whose codebooks begin at rows `first` (N,) and hold `sizes`
        (N,) codes, from (N, D)."""
        nll = hidden.new_zeros(codes.shape, dtype=torch.float32)
        correct = torch.zeros_like(codes, dtype=torch.bool)
        for begin, size in torch.unique(torch.stack([first, sizes]), dim=1).T.tolist():
            where = (first == begin) & (sizes == size)
            logits = self.logits(hidden[where], begin, size)
            nll[where] = F.cross_entropy(logits, codes[where], reduction="none")
            correct[where] = logits.argmax(dim=-1) == codes[where]
        return nll, correct

    def penalty(self, hidden: Tensor, first: Tensor) -> Tensor:
        """What is added to the training loss for every distribution, (N,) float32, from (N, D) and the codebooks' first rows (N,); 0 unless a
        subclass says otherwise."""
        return hidden.new_zeros(len(hidden), dtype=torch.float32)


class CodeTable(CodeDistributions, nn.Linear):
    """A linear map to the rows of all codebooks in one table; a token uses those of its own codebook.

    Args:
        dim: D.
        num_codes: rows of the table, `TokenLayout.num_codes`.
        bias: of every code.
    """

    def __init__(self, dim: int, num_codes: int, *, bias: bool = False) -> None:
        super().__init__(dim, num_codes, bias=bias)

    def reset_parameters(self) -> None:
        """Zero, so that an untrained model gives every code the same probability."""
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def codebook(self, first: int, size: int) -> tuple[Tensor, Tensor | None]:
        """Weight (size, D) and bias (size,) of a codebook."""
        rows = slice(first, first + size)
        return self.weight[rows], None if self.bias is None else self.bias[rows]

    def logits(self, hidden: Tensor, first: int, size: int) -> Tensor:
        weight, bias = self.codebook(first, size)
        if torch.is_grad_enabled() or hidden.dim() != 2 or len(hidden) > MOST_ROWS:
            return F.linear(hidden, weight, bias).float()
        return product_of(weight, len(hidden), uses=1, bias=bias)(hidden).float()

    def for_steps(self, steps: int, rows: int) -> CodeDistributions:
        return StreamedCodeTable(self, steps, rows) if is_plain(self.weight) else self


class StreamedCodeTable(CodeDistributions):
    """A table whose codebooks are arranged for reading when they are first read; without gradients. One that was compiled is read as it is, where all
    of it is one codebook.

    Args:
        table: of codes.
        steps: see `TokenHead.for_steps`.
        rows: likewise.
    """

    def __init__(self, table: CodeTable, steps: int, rows: int) -> None:
        super().__init__()
        self._table, self._steps, self._rows = table, steps, rows
        self._products: dict[tuple[int, int], Callable[[Tensor], Tensor]] = {}

    def logits(self, hidden: Tensor, first: int, size: int) -> Tensor:
        if (first, size) not in self._products:
            self._products[first, size] = self._product(first, size)
        return self._products[first, size](hidden)

    def _product(self, first: int, size: int) -> Callable[[Tensor], Tensor]:
        if self._table._compiled_call_impl is not None and size == self._table.out_features:
            return lambda hidden: self._table(hidden.contiguous())  # other strides would be compiled anew
        weight, bias = self._table.codebook(first, size)
        return product_of(weight, self._rows, uses=self._steps, bias=bias)


class IndependentHead(TokenHead):
    """The tokens of a step are independent of each other.

    Args:
        table: their distributions.
    """

    def __init__(self, table: CodeDistributions) -> None:
        super().__init__()
        self.table = table

    def scores(self, hidden: Tensor, codes: Tensor, plan: GenerationSteps, embed: Embed) -> tuple[Tensor, Tensor]:
        samples, steps, _ = held = plan.held.nonzero(as_tuple=True)
        nll, correct = hidden.new_zeros(codes.shape, dtype=torch.float32), torch.zeros_like(plan.held)
        nll[held], correct[held] = self.table.scores(hidden[samples, steps], codes[held], plan.first[held], plan.sizes[held])
        return nll, correct

    def for_steps(self, steps: int, rows: int) -> TokenHead:
        return IndependentHead(self.table.for_steps(steps, rows))

    def sample(self, hidden: Tensor, unconditional: Tensor | None, plan: GenerationSteps, embed: Embed, choose: Choose) -> Tensor:
        codes = torch.zeros(len(hidden), len(plan.held), dtype=torch.int64, device=hidden.device)
        both = hidden if unconditional is None else torch.cat([hidden, unconditional])  # so that the table is read once
        for column in plan.held.nonzero().flatten().tolist():
            first, size = int(plan.first[column]), int(plan.sizes[column])
            logits = self.table.logits(both, first, size)
            without = None if unconditional is None else logits[len(hidden) :]
            codes[:, column] = choose(logits[: len(hidden)], without, int(plan.codebooks[column]))
        return codes

    def penalty(self, hidden: Tensor, plan: GenerationSteps) -> Tensor:
        samples, steps, _ = held = plan.held.nonzero(as_tuple=True)
        return self.table.penalty(hidden[samples, steps], plan.first[held]).mean()


class CategoricalHead(IndependentHead):
    """The head of LlamaGen, and with several codebooks per step that of ELM.

    Args:
        dim: D.
        num_codes: of all codebooks, `TokenLayout.num_codes`.
        bias: of every code.
    """

    def __init__(self, dim: int, num_codes: int, *, bias: bool = False) -> None:
        super().__init__(CodeTable(dim, num_codes, bias=bias))

    table: CodeTable
