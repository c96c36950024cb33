"""What a generator is conditioned on: nothing, classes, the embeddings of a text, or other tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Config, Positive, Probability
from visiontok.base.errors import ConditionError, ConfigError
from visiontok.base.finite import check_finite
from visiontok.encoders.text import TextConfig
from visiontok.tokens import TokenLayout, Tokens


@dataclass(frozen=True, eq=False)
class Condition:
    """The conditions of a batch, of one kind; all None for none.

    Attributes:
        classes: (B,) int64.
        text: (B, T, E) embeddings.
        text_mask: (B, T) bool, False at padding; None where nothing is padding.
        tokens: B samples.
    """

    classes: Tensor | None = None
    text: Tensor | None = None
    text_mask: Tensor | None = None
    tokens: Tokens | None = None

    @property
    def kind(self) -> str:
        """`none`, `classes`, `text` or `tokens`."""
        found = [name for name in ("classes", "text", "tokens") if getattr(self, name) is not None]
        return found[0] if found else "none"

    def __len__(self) -> int:
        """Samples; 0 for none."""
        value = next((part for part in (self.classes, self.text, self.tokens) if part is not None), None)
        return 0 if value is None else len(value)

    def __getitem__(self, rows: slice | Tensor) -> Condition:
        """Of some samples."""
        return Condition(*(None if part is None else part[rows] for part in (self.classes, self.text, self.text_mask, self.tokens)))  # type: ignore[arg-type]

    def to(self, device: torch.device) -> Condition:
        """On another device."""
        return Condition(*(None if part is None else part.to(device) for part in (self.classes, self.text, self.text_mask, self.tokens)))  # type: ignore[arg-type]


ConditionLike: TypeAlias = Condition | Tensor | None
"""A condition; or (B,) int64 classes."""


class NoCondition(Config):
    """Unconditional."""

    type: Literal["none"] = "none"

    def build(self, dim: int) -> ConditionEmbedding:
        """One learned start token."""
        return StartToken(dim)

    def check(self, condition: Condition) -> None:
        """Nothing to check."""


class ClassCondition(Config):
    """One class per sample.

    Attributes:
        num_classes: number of classes.
        names: one per class, in order; empty where they have none.
        start: whether a learned element stands before or after the class, and alone where the class is hidden, instead of a class that stands for
            none (OmniTokenizer); None for the class alone.
        dropout: probability of training without the class; what guidance and unconditional sampling need.
    """

    type: Literal["classes"] = "classes"
    num_classes: Positive
    names: tuple[str, ...] = ()
    start: Literal["before", "after"] | None = None
    dropout: Probability = 0.1

    @model_validator(mode="after")
    def _check_names(self) -> ClassCondition:
        if self.names and len(self.names) != self.num_classes:
            raise ValueError(f"{len(self.names)} class names for {self.num_classes} classes")
        return self

    def build(self, dim: int) -> ConditionEmbedding:
        """One token per class, and one for no class or a start."""
        if self.start is None:
            return ClassEmbedding(self.num_classes, dim)
        return StartedClassEmbedding(self.num_classes, dim, start_first=self.start == "before")

    def check(self, condition: Condition) -> None:
        """Refuse what is no class.

        Raises:
            ConditionError: naming the class.
        """
        classes = condition.classes
        assert classes is not None
        if classes.ndim != 1 or classes.dtype != torch.int64:
            raise ConditionError(f"classes must be int64 of shape (B,), got {classes.dtype} {tuple(classes.shape)}")
        wrong = classes[(classes < 0) | (classes >= self.num_classes)]
        if len(wrong):
            raise ConditionError(f"class {int(wrong[0])} is outside [0, {self.num_classes})")


class TextCondition(Config):
    """The embeddings of a text per sample, made by a frozen text encoder.

    Attributes:
        text: their length, dim and encoder.
        dropout: probability of training without the text.
    """

    type: Literal["text"] = "text"
    text: TextConfig
    dropout: Probability = 0.1

    def build(self, dim: int) -> ConditionEmbedding:
        """One token per embedding."""
        return TextEmbedding(self.text, dim)

    def check(self, condition: Condition) -> None:
        """Refuse embeddings of another shape, and what is no number, which attention would hide.

        Raises:
            ConditionError: naming the shapes.
            NonFiniteError: naming the sample.
        """
        text, mask = condition.text, condition.text_mask
        assert text is not None
        if text.ndim != 3 or tuple(text.shape[1:]) != self.text.shape or not text.is_floating_point():
            raise ConditionError(f"text embeddings must be floats of shape (B, {self.text.length}, {self.text.dim}), got {tuple(text.shape)}")
        if mask is not None and (mask.shape != text.shape[:2] or mask.dtype != torch.bool):
            raise ConditionError(f"the mask of a text must be bool of shape {tuple(text.shape[:2])}, got {mask.dtype} {tuple(mask.shape)}")
        check_finite(text if mask is None else text.masked_fill(~mask[..., None], 0), stage="the text embeddings of the condition")


class TokenCondition(Config):
    """Tokens of another layout, or of another part of the same signal, per sample.

    Attributes:
        layout: of those tokens.
        has_separator: whether one more element, the same for all, follows them (LARP).
        dropout: probability of training without them.
    """

    type: Literal["tokens"] = "tokens"
    layout: TokenLayout
    has_separator: bool = False
    dropout: Probability = 0.1

    def build(self, dim: int) -> ConditionEmbedding:
        """One element per token, and perhaps a separator."""
        return TokenPrefixEmbedding(self.layout, dim, has_separator=self.has_separator)

    def check(self, condition: Condition) -> None:
        """Refuse tokens of another layout.

        Raises:
            ConditionError: naming the layouts.
        """
        assert condition.tokens is not None
        if not self.layout.accepts(condition.tokens.layout) or not condition.tokens.is_full or condition.tokens.extents is not None:
            raise ConditionError(
                f"the condition's tokens have the layout {condition.tokens.layout}; this generator reads full samples of {self.layout}"
            )
        condition.tokens.validate()


ConditionConfig = Annotated[NoCondition | ClassCondition | TextCondition | TokenCondition, Field(discriminator="type")]
"""One kind of condition, for a field of a configuration."""


class ConditionEmbedding(nn.Module):
    """A condition as the first N elements of a sequence.

    Attributes:
        length: N.
        has_positions: whether these elements have learned positions of their own, apart from those of the sequence.
    """

    length: int
    has_positions: bool = False

    def forward(self, condition: Condition, dropped: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embed.

        Args:
            condition: of B samples.
            dropped: (B,) bool: the samples whose condition is hidden.

        Returns:
            (B, N, D); and (B, N) bool, False at padding, or None where nothing is.
        """
        raise NotImplementedError


class StartToken(ConditionEmbedding):
    """The same token for all."""

    length = 1

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1, dim)

    def forward(self, condition: Condition, dropped: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.embedding(torch.zeros_like(dropped, dtype=torch.int64))[:, None], None


class ClassEmbedding(ConditionEmbedding):
    """A table of classes, whose last row stands for none."""

    length = 1

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.embedding = nn.Embedding(num_classes + 1, dim)

    def forward(self, condition: Condition, dropped: Tensor) -> tuple[Tensor, Tensor | None]:
        none = torch.full_like(dropped, self.num_classes, dtype=torch.int64)
        classes = none if condition.classes is None else torch.where(dropped, none, condition.classes)
        return self.embedding(classes)[:, None], None


class StartedClassEmbedding(ConditionEmbedding):
    """A table of classes and a start, at two learned positions; without a class the start is at the first one, and padding precedes it."""

    length = 2
    has_positions = True

    def __init__(self, num_classes: int, dim: int, *, start_first: bool) -> None:
        super().__init__()
        self.start_first = start_first
        self.embedding = nn.Embedding(num_classes, dim)
        self.start = nn.Parameter(torch.empty(dim, dtype=torch.float32).normal_(std=0.02))
        self.positions = nn.Parameter(torch.zeros(2, dim, dtype=torch.float32))

    def forward(self, condition: Condition, dropped: Tensor) -> tuple[Tensor, Tensor | None]:
        hidden = dropped if condition.classes is not None else torch.ones_like(dropped)
        classes = torch.zeros_like(dropped, dtype=torch.int64) if condition.classes is None else condition.classes
        embedded, start = self.embedding(classes), self.start.expand(len(dropped), -1)
        pair = torch.stack([start, embedded] if self.start_first else [embedded, start], dim=1) + self.positions
        if not bool(hidden.any()):
            return pair, None
        alone = torch.stack([torch.zeros_like(start), start + self.positions[0]], dim=1)
        return torch.where(hidden[:, None, None], alone, pair), torch.stack([~hidden, torch.ones_like(hidden)], dim=1)


class TextEmbedding(ConditionEmbedding):
    """Two linear layers without biases and a tanh-GELU between them (LlamaGen's captions), and learned embeddings that stand for no text.

    A dropped text keeps its mask, as in LlamaGen.
    """

    def __init__(self, text: TextConfig, dim: int) -> None:
        super().__init__()
        self.length = text.length
        self.null = nn.Parameter(torch.empty(text.length, text.dim, dtype=torch.float32).normal_(std=text.dim**-0.5))
        self.fc1 = nn.Linear(text.dim, dim, bias=False)
        self.fc2 = nn.Linear(dim, dim, bias=False)

    def forward(self, condition: Condition, dropped: Tensor) -> tuple[Tensor, Tensor | None]:
        null = self.null.expand(len(dropped), -1, -1)
        text = null if condition.text is None else torch.where(dropped[:, None, None], null, condition.text.to(null.dtype))
        embedded = self.fc2(F.gelu(self.fc1(text), approximate="tanh"))
        mask = None if condition.text is None else condition.text_mask
        # The last element predicts the first token; where it is padding, it must not say what the padding held.
        return embedded if mask is None else embedded.masked_fill(~mask[..., None], 0), mask


class TokenPrefixEmbedding(ConditionEmbedding):
    """A table of codes, whose last row stands for none, and learned positions; perhaps a separator behind."""

    def __init__(self, layout: TokenLayout, dim: int, *, has_separator: bool) -> None:
        super().__init__()
        self.length = layout.length + has_separator
        self.register_buffer("offsets", torch.from_numpy(layout.code_offsets), persistent=False)
        self.embedding = nn.Embedding(layout.num_codes + 1, dim)
        self.positions = nn.Parameter(torch.zeros(layout.length, dim, dtype=torch.float32))
        self.separator = nn.Parameter(torch.zeros(dim, dtype=torch.float32)) if has_separator else None

    offsets: Tensor

    def forward(self, condition: Condition, dropped: Tensor) -> tuple[Tensor, Tensor | None]:
        none = torch.full((len(dropped), len(self.offsets)), self.embedding.num_embeddings - 1, dtype=torch.int64, device=dropped.device)
        rows = none if condition.tokens is None else torch.where(dropped[:, None], none, condition.tokens.indices + self.offsets)
        embedded = self.embedding(rows) + self.positions
        if self.separator is not None:
            embedded = torch.cat([embedded, self.separator.expand(len(embedded), 1, -1)], dim=1)
        return embedded, None


def as_condition(condition: ConditionLike) -> Condition:
    """A condition from classes (B,), or as it is.

    Raises:
        ConditionError: if it is something else.
    """
    if isinstance(condition, Tensor):
        return Condition(classes=condition)
    if condition is not None and not isinstance(condition, Condition):
        raise ConditionError(f"a condition is a Condition or classes (B,) int64, got {condition!r:.60}; without one, give num_samples")
    return Condition() if condition is None else condition


def checked_condition(expected: ConditionConfig, condition: ConditionLike, *, samples: int | None) -> tuple[Condition, int]:
    """A condition that fits a generator, and the number of samples.

    Args:
        expected: what the generator was built for.
        condition: of every sample; none means samples without a condition.
        samples: how many, where no condition is given.

    Raises:
        ConditionError: if it is of another kind, has values out of range, or is of another number of samples.
    """
    found = as_condition(condition)
    if found.kind == "none":
        if samples is None or samples < 1:
            raise ConditionError(f"give a condition or num_samples, at least 1; got num_samples={samples}")
        return found, samples
    if found.kind != expected.type:
        wants = "is unconditional" if expected.type == "none" else f"is conditioned on {expected.type}"
        raise ConditionError(f"this generator {wants}, but got a condition of the kind {found.kind!r}")
    if len(found) < 1 or samples not in (None, len(found)):
        raise ConditionError(f"a condition of {len(found)} samples for {samples or 'at least 1'} samples")
    expected.check(found)
    return found, len(found)


def needs_one_vector(config: ConditionConfig, *, why: str) -> None:
    """Refuse conditions of several elements, for generators that read one vector.

    Args:
        config: of the condition.
        why: what the generator does with it.

    Raises:
        ValueError: naming the condition.
    """
    if not isinstance(config, NoCondition | ClassCondition):
        raise ValueError(f"{why}; it cannot be conditioned on {config.type}")
    if isinstance(config, ClassCondition) and config.start is not None:
        raise ValueError(f"{why}; a start {config.start} the class is one element more: leave condition.start out")


def needs_one_class(config: ConditionConfig) -> None:
    """Refuse conditions other than one vector of a class, for generators whose blocks it modulates (`is_modulated`).

    Raises:
        ValueError: naming the condition.
    """
    if not isinstance(config, ClassCondition):
        raise ValueError(f"is_modulated needs a condition of the type 'classes', not {config.type!r}")
    needs_one_vector(config, why="is_modulated gives the blocks one vector")


def needs_dropout(config: ConditionConfig) -> None:
    """Refuse to sample without a condition from a generator that was never trained so.

    Raises:
        ConfigError: if its condition was never dropped in training.
    """
    if not isinstance(config, NoCondition) and config.dropout == 0:
        raise ConfigError(
            f"this generator never saw a sample without its {config.type} (condition.dropout is 0), so guidance and unconditional sampling have no "
            "meaning: use guidance 1 with a condition, or train with condition.dropout above 0"
        )
