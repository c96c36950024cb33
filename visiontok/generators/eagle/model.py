"""EAGLE's drafter (arXiv 2401.15077) as LANTERN trains it for image generators (arXiv 2410.03355).

One decoder layer predicts the next hidden state of a generator, that is what its head reads, from the hidden state before a token and the token's
embedding; the generator's own head turns it into logits. So the drafter is small, and knows what the generator thought, but serves only that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from visiontok.base.config import Positive
from visiontok.base.errors import ConfigError
from visiontok.base.noise import NoiseLike, as_noise
from visiontok.core.identity import check_same_tokenizer
from visiontok.generators.base import DrafterConfig, DrafterModel
from visiontok.generators.condition import ConditionLike, NoCondition
from visiontok.generators.eagle.reference import CONFIG_KEYS, KEY_MAP, read_config
from visiontok.generators.eagle.session import EagleSession
from visiontok.generators.gpt.embedding import StepEmbedding
from visiontok.generators.gpt.model import GPT
from visiontok.generators.heads.categorical import IndependentHead
from visiontok.layers.kv_cache import KVCache
from visiontok.layers.llama import LlamaAttention, SwiGLU, swiglu_dim
from visiontok.layers.norms import RMSNorm
from visiontok.layers.rope import rope_table
from visiontok.tokens import TokenLayout, Tokens


class EagleConfig(DrafterConfig):
    """Configuration of `EagleDrafter`: the sizes of the generator's blocks.

    Attributes:
        dim: model dimension D, that of the generator.
        hidden_dim: of the feed-forward part.
        num_heads: attention heads.
        num_kv_heads: key-value heads; None for as many as heads.
        norm_eps: of the norm.
        rope_base: of the rotary frequencies, over as many axes as the layout's segments have.
        feature_noise: in training, hidden states get uniform noise from +- feature_noise / 2 * 512 / (elements of the sequence).
        token_weight: in the loss, of the cross-entropy beside the smooth L1 distance of hidden states.
    """

    dim: Positive
    hidden_dim: Positive
    num_heads: Positive
    num_kv_heads: Positive | None = None
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    rope_base: Annotated[float, Field(gt=0)] = 10000.0
    feature_noise: Annotated[float, Field(ge=0)] = 0.2
    token_weight: Annotated[float, Field(ge=0)] = 0.1

    @model_validator(mode="after")
    def _check_heads(self) -> EagleConfig:
        axes = max(len(segment.shape) for segment in self.layout.segments)
        if self.dim % self.num_heads or self.num_heads % (self.num_kv_heads or 1) or self.head_dim % (2 * axes):
            raise ValueError(
                f"num_heads {self.num_heads} must divide dim {self.dim} into heads of a multiple of {2 * axes}, and be a multiple of num_kv_heads"
            )
        return self

    @property
    def head_dim(self) -> int:
        """Of one attention head."""
        return self.dim // self.num_heads


class EagleDrafter(DrafterModel[EagleConfig]):
    """The drafter of one `gpt` with one token per step; see `decoding.TreeSampler`.

    The embedding is a copy of the generator's and is not trained. Elements of the condition have the embedding of code 0 and rotary rows of zeros.
    """

    config_class = EagleConfig
    reference_keys = KEY_MAP

    def __init__(self, config: EagleConfig) -> None:
        super().__init__(config)
        dim, heads = config.dim, config.num_heads
        self.embedding = StepEmbedding(config.layout.num_codes, dim, tokens_per_step=1, combine="sum").requires_grad_(False)
        self.fc = nn.Linear(2 * dim, dim)
        self.attention = LlamaAttention(dim, heads, num_kv_heads=config.num_kv_heads or heads, dropout=0.0, residual_dropout=0.0)
        self.norm = RMSNorm(dim, eps=config.norm_eps)
        self.feed_forward = SwiGLU(dim, config.hidden_dim, dropout=0.0)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> EagleConfig:
        with CONFIG_KEYS.reading(config, source="the reference configuration of a LANTERN drafter"):
            return EagleConfig.parse(read_config(config), source="reference configuration")

    @classmethod
    def of(cls, model: GPT, **changes: Any) -> Self:
        """A new drafter for a generator: its sizes, its embedding.

        Args:
            model: the generator.
            changes: other fields of the configuration.

        Raises:
            ConfigError: if the generator does not write one token per step, or for an invalid change.
        """
        own = model.config
        fields = {
            "layout": own.layout.to_dict(),
            "tokenizer": None if own.tokenizer is None else own.tokenizer.to_dict(),
            "dim": own.dim,
            "hidden_dim": swiglu_dim(own.dim, own.multiple_of),
            "num_heads": own.num_heads,
            "num_kv_heads": own.num_kv_heads,
            "norm_eps": own.norm_eps,
            "rope_base": own.rope_base,
        }
        drafter = cls(EagleConfig.parse({**fields, **changes}))
        drafter.check_generator(model)
        assert isinstance(model.embedding, StepEmbedding)
        drafter.embedding.load_state_dict(model.embedding.state_dict())
        return drafter.to(model.device)

    def check_generator(self, model: GPT) -> None:
        """Refuse a generator that this drafter does not fit.

        Raises:
            ConfigError: if it writes several tokens per step or ends its samples itself, has another dim, or another layout.
            IdentityError: if it was trained on the tokens of another tokenizer.
        """
        if model.config.pattern != "flatten" or model.config.has_end or not isinstance(model.head, IndependentHead):
            raise ConfigError("an eagle drafts for a gpt that writes one token per step and as many as its layout has")
        if model.config.dim != self.config.dim:
            raise ConfigError(f"this drafter reads hidden states of dim {self.config.dim}; those of the generator have {model.config.dim}")
        if not self.layout.accepts(model.layout):
            raise ConfigError(f"this drafter was made for another layout than the generator's: {self.layout} instead of {model.layout}")
        check_same_tokenizer(self.config.tokenizer, model.config.tokenizer, what="the drafter")

    def draft_session(self, model: GPT, condition: ConditionLike, *, samples: int, layout: TokenLayout, guided: bool, room: int) -> EagleSession:
        """See `decoding.Drafter`; the condition is in the hidden states of `model`."""
        self.check_generator(model)
        return EagleSession(self, model, samples, layout, guided=guided, room=room)

    def loss(self, model: GPT, tokens: Tokens | Tensor, condition: ConditionLike = None, *, noise: NoiseLike = None) -> dict[str, Tensor]:
        """Training loss: the smooth L1 distance to the generator's hidden states, and the cross-entropy of its distributions.

        Draws: in training mode a uniform one (B,) that hides conditions as in the generator's training, where it has any; then one (B, L, D) for the
        noise of L hidden states.

        Args:
            model: the generator, in evaluation mode; gradients do not reach it.
            tokens, condition: see `Generator.loss`.
            noise: source of the draws.

        Returns:
            "loss", its terms "feature_loss" and "token_loss", means over the steps but the first; and "accuracy", the share of these at which drafter
            and generator hold the same code most likely.
        """
        self.check_generator(model)
        checked, found = model.training_batch(tokens, condition)
        assert isinstance(checked, Tokens)
        source, samples = as_noise(noise, self.device), len(checked)
        dropped = torch.zeros(samples, dtype=torch.bool, device=self.device)
        if self.training and not isinstance(model.config.condition, NoCondition):
            dropped = source.uniform(samples).to(self.device) < model.config.condition.dropout
        with torch.no_grad():
            hidden, codes, plan = model.hidden_states(checked, found, dropped)
        read, wanted, prefix = hidden[:, :-1], hidden[:, 1:], model.condition.length - 1
        if self.training:
            width = self.config.feature_noise * 512 / hidden.shape[1]
            read = read + (source.uniform(*read.shape).to(read) - 0.5) * width
        x = self.elements(torch.cat([codes.new_zeros(samples, prefix), (codes + plan.first)[:, :-1, 0]], dim=1), read)
        predicted = self.layer(x, rope=self.rope_rows(plan.coordinates[:, :-1], prefix), is_causal=True)[:, prefix:]
        held = plan.held[:, 1:, 0]
        ours, theirs = predicted[held], wanted[:, prefix:][held]
        feature = F.smooth_l1_loss(ours, theirs)
        token, correct = _compared(model.head, ours, theirs, plan.first[:, 1:, 0][held], plan.sizes[:, 1:, 0][held])
        return {
            "loss": feature + self.config.token_weight * token,
            "feature_loss": feature.detach(),
            "token_loss": token.detach(),
            "accuracy": correct,
        }

    def forward(self, model: GPT, tokens: Tokens | Tensor, condition: ConditionLike = None, *, noise: NoiseLike = None) -> dict[str, Tensor]:
        return self.loss(model, tokens, condition, noise=noise)

    # The network.

    def elements(self, rows: Tensor, hidden: Tensor) -> Tensor:
        """Rows (B, T) of the table of all codebooks, and the hidden states before these tokens (B, T, D) -> what the layer reads (B, T, D)."""
        return self.fc(torch.cat([self.embedding.table(rows), hidden.to(self.dtype)], dim=-1))

    def layer(self, x: Tensor, *, rope: Tensor | None, mask: Tensor | None = None, is_causal: bool = False, cache: KVCache | None = None) -> Tensor:
        """Predicted hidden states (B, T, D) after each of the elements (B, T, D); no norm precedes the attention. See `LlamaBlock.forward`."""
        x = x + self.attention(x, rope=rope, mask=mask, is_causal=is_causal, cache=cache)
        return x + self.feed_forward(self.norm(x))

    def rope_rows(self, coordinates: Tensor, prefix: int) -> Tensor:
        """(B or 1, 1, prefix + T, head_dim / 2, 2) of the condition and of steps at coordinates (B or 1, T, A)."""
        table = rope_table(coordinates.flatten(0, 1), self.config.head_dim, base=self.config.rope_base)
        return F.pad(table.unflatten(0, coordinates.shape[:2]), (0, 0, 0, 0, prefix, 0))[:, None]

    def new_cache(self, batch: int, length: int) -> KVCache:
        """An empty cache for so many sequences of so many elements."""
        attention = self.attention
        return KVCache(batch, attention.num_kv_heads, length, attention.head_dim, device=self.device, dtype=self.dtype)


def _compared(head: nn.Module, ours: Tensor, theirs: Tensor, first: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """The mean cross-entropy of predicted hidden states (N, D) under the distributions of the true ones, and the share of equal most likely codes."""
    assert isinstance(head, IndependentHead)
    total, correct = ours.new_zeros((), dtype=torch.float32), ours.new_zeros((), dtype=torch.float32)
    for begin, size in torch.unique(torch.stack([first, sizes]), dim=1).T.tolist():
        where = (first == begin) & (sizes == size)
        predicted, wanted = head.table.logits(ours[where], begin, size), head.table.logits(theirs[where], begin, size).detach()
        total = total + F.cross_entropy(predicted, wanted.softmax(dim=-1), reduction="sum")
        correct = correct + (predicted.argmax(dim=-1) == wanted.argmax(dim=-1)).sum()
    return total / len(ours), correct.detach() / len(ours)
