"""RAR (arXiv 2411.00776): a causal transformer that is trained on random generation orders, which give way to raster order.

The sequence is [start | condition | token_0 ... token_{L-1}] in generation order; the element before a token predicts it, and is told where it
lies. The condition, together with the place in the sequence, modulates every block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.config import Positive, Probability
from visiontok.base.noise import NoiseLike, as_noise
from visiontok.generators.backbones import ModulatedCausalBlock, ModulatedStack
from visiontok.generators.backbones.llama import causal_mask
from visiontok.generators.base import Generator, GeneratorConfig
from visiontok.generators.condition import Condition, ConditionLike, needs_one_vector
from visiontok.generators.decoding import NextTokenSampler, NextTokenSampling
from visiontok.generators.heads import CategoricalHead
from visiontok.generators.orders import AnnealedOrder
from visiontok.generators.rar.reference import CONFIG_KEYS, KEY_MAP, merged_table_from_reference, read_config
from visiontok.generators.rar.session import RarSession
from visiontok.layers.kv_cache import KVCache
from visiontok.layers.modulation import Modulation, modulate
from visiontok.layers.transformer import Mlp
from visiontok.tokens import Latents, Tokens

SPARE_POSITIONS, SPARE_ELEMENTS = 1024, 100
"""Rows beyond L that the published tables have; those beyond L + 2 are never used."""


class RarConfig(GeneratorConfig):
    """Configuration of `Rar`.

    Attributes:
        dim: model dimension D.
        depth: number of blocks.
        num_heads: attention heads.
        mlp_dim: hidden dim of the feed-forward parts.
        dropout: after the attention, and twice in every feed-forward part.
        attention_dropout: of the attention probabilities.
        order: the generation orders of training.
    """

    dim: Positive
    depth: Positive
    num_heads: Positive
    mlp_dim: Positive
    dropout: Probability = 0.1
    attention_dropout: Probability = 0.1
    order: AnnealedOrder = AnnealedOrder()
    sampling: NextTokenSampling = NextTokenSampling()

    @model_validator(mode="after")
    def _check_sizes(self) -> RarConfig:
        if len(self.layout.segments) > 1 or self.layout.is_continuous or self.layout.segments[0].codebooks > 1 or self.layout.ragged:
            raise ValueError("rar permutes the tokens of a sample, so it needs a layout of one segment with one codebook, and not a ragged one")
        needs_one_vector(self.condition, why="rar has one element for its condition")
        if self.dim % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} must divide dim {self.dim}")
        return self


class Rar(Generator[RarConfig]):
    """Class-conditional (or unconditional) next-token transformer over permuted tokens, with key-value cache and guidance."""

    config_class = RarConfig
    reference_keys = KEY_MAP

    def __init__(self, config: RarConfig) -> None:
        super().__init__(config)
        dim, length = config.dim, config.layout.length
        self.condition = config.condition.build(dim)
        self.embedding = nn.Embedding(self.vocab_size, dim)
        self.start = nn.Parameter(torch.zeros(dim))
        # Row 0 is of the start, row 1 of the condition, and row 2 + p of position p.
        self.positions = nn.Parameter(torch.empty(length + SPARE_POSITIONS, dim))
        self.target_positions = nn.Parameter(torch.empty(length + SPARE_POSITIONS, dim))
        self.element_embedding = nn.Parameter(torch.empty(length + SPARE_ELEMENTS, dim))
        self.backbone = ModulatedStack(
            ModulatedCausalBlock(
                dim,
                config.num_heads,
                norm=partial(nn.LayerNorm, eps=1e-6),
                mlp=Mlp(dim, config.mlp_dim, dropout=config.dropout),
                qk_norm=partial(nn.LayerNorm, eps=1e-6),
                attention_dropout=config.attention_dropout,
                residual_dropout=config.dropout,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.output_modulation = Modulation(dim, parts=2)
        self.head = CategoricalHead(dim, self.vocab_size, bias=True)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal with deviation 0.02 for matrices and tables, zero biases; modulation starts at zero, norms keep their ones."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1 and "modulation" not in name:
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    @property
    def own_order(self) -> Tensor:
        """(L,) int64: the storage positions in the layout's generation order."""
        return torch.from_numpy(self.layout.generation_order.copy()).to(self.device)

    # Training.

    def loss(
        self, tokens: Tokens | Latents | Tensor, condition: ConditionLike = None, *, step: int = 0, noise: NoiseLike = None
    ) -> dict[str, Tensor]:
        """Mean cross-entropy in nats.

        In training mode the order of every sample is drawn as `config.order` says, otherwise it is the layout's. Draws in training mode: a
        uniform one (B,) that hides classes, then those of `AnnealedOrder.draw`.

        Returns:
            "loss", and "bits_per_token", which is the same in bits.
        """
        whole, found = self.whole_batch(tokens, condition)
        assert isinstance(whole, Tokens)
        samples, source = len(whole), as_noise(noise, self.device)
        dropped, orders = self.dropped(samples, source), self.own_order.expand(samples, -1)
        if self.training:
            orders = self.config.order.draw(self.own_order, samples, source, step=step)
        loss = self._nll(whole, found, dropped, orders).mean()
        return {"loss": loss, "bits_per_token": loss.detach() / math.log(2)}

    def nll(self, tokens: Tokens, condition: ConditionLike = None) -> Tensor:
        """(B,) float32: minus the log-probability of every sample in nats, in the layout's generation order."""
        whole, found = self.whole_batch(tokens, condition)
        assert isinstance(whole, Tokens)
        none = torch.zeros(len(whole), dtype=torch.bool, device=self.device)
        return self._nll(whole, found, none, self.own_order.expand(len(whole), -1)).sum(dim=1)

    def logits(self, indices: Tensor, condition: Condition, dropped: Tensor, orders: Tensor) -> Tensor:
        """Of every token, given those before it in its sample's order.

        Args:
            indices: (B, T) int64 codes in generation order, T <= L.
            condition: of every sample.
            dropped: (B,) bool: the samples whose condition is hidden.
            orders: (B, L) int64: the storage position that every step writes.

        Returns:
            (B, T + 1, V) float32; [:, k] predicts the code of step k.
        """
        prefix = self.prefix(condition, dropped)
        x = torch.cat([prefix, self.embedding(indices)], dim=1)
        hidden = self.transform(x, self.element_positions(orders), self.element_conditions(prefix))
        return self.head.table.logits(hidden[:, 1:], 0, self.vocab_size)

    def _nll(self, tokens: Tokens, condition: Condition, dropped: Tensor, orders: Tensor) -> Tensor:
        """(B, L) float32 in generation order."""
        codes = tokens.indices.gather(1, orders)
        return F.cross_entropy(self.logits(codes[:, :-1], condition, dropped, orders).transpose(1, 2), codes, reduction="none")

    # Generation.

    @torch.no_grad()
    def session(self, condition: ConditionLike = None, *, num_samples: int | None = None, guided: bool = False) -> RarSession:
        """Reads tokens step by step in the layout's generation order; see `RarSession`.

        Args:
            condition: of every sample.
            num_samples: how many, where no condition is given.
            guided: read every sample a second time without its condition.

        Raises:
            ConditionError: if the condition does not fit.
            ConfigError: if a model that never saw samples without a condition is to do so.
        """
        found, count = self.session_condition(condition, samples=num_samples, guided=guided)
        return RarSession(self, found, count, guided=guided)

    @torch.no_grad()
    def generate(
        self,
        condition: ConditionLike = None,
        *,
        num_samples: int | None = None,
        noise: NoiseLike = None,
        sampler: NextTokenSampler | None = None,
    ) -> Tokens:
        """Sample token by token; one exponential draw (B, V) each. See `Generator.generate`."""
        sampler = self.sampler() if sampler is None else sampler
        assert isinstance(sampler, NextTokenSampler)
        steps, source = self.layout.length, as_noise(noise, self.device)
        is_guided = [sampler.is_guided(step, steps) for step in range(steps)]
        session = self.session(condition, num_samples=num_samples, guided=any(is_guided))
        indices = torch.zeros(session.samples, steps, dtype=torch.int64, device=self.device)
        hidden = session.prefill()
        for step, position in enumerate(self.layout.generation_order.tolist()):
            logits = self.head.table.logits(hidden[0], 0, self.vocab_size)
            without = self.head.table.logits(hidden[1], 0, self.vocab_size) if hidden[1] is not None and is_guided[step] else None
            indices[:, position] = sampler.choose(logits, without, source, codebook=0, step=step, num_steps=steps)
            if step + 1 < steps:
                hidden = session.step(indices[:, position, None])
        return Tokens(indices, self.layout)

    # The network.

    def prefix(self, condition: Condition, dropped: Tensor) -> Tensor:
        """(B, 2, D): the start and the condition; see `logits`."""
        embedded, _ = self.condition(condition, dropped)
        return torch.cat([self.start.expand(len(embedded), 1, -1), embedded], dim=1)

    def element_positions(self, orders: Tensor) -> Tensor:
        """(B, L + 2, D): where every element of the sequence lies, and where its target does, by orders (B, L)."""
        own = torch.cat([torch.arange(2, device=orders.device).expand(len(orders), -1), orders + 2], dim=1)
        targets = F.pad(self.target_positions[orders + 2], (0, 0, 1, 1))  # neither the start nor the last token predicts anything
        return self.positions[own] + targets

    def element_conditions(self, prefix: Tensor) -> Tensor:
        """(B, L + 2, D): what modulates every element of the sequence."""
        return prefix[:, 1:] + self.element_embedding[: self.layout.length + 2]

    def transform(self, x: Tensor, positions: Tensor, conditions: Tensor, caches: Sequence[KVCache] = ()) -> Tensor:
        """Embedded elements (B, T, D) that follow those in the caches -> what the head reads (B, T, D).

        Args:
            x: embedded elements.
            positions: (1 or B, L + 2, D); see `element_positions`.
            conditions: (B, L + 2, D); see `element_conditions`.
            caches: one per block, to which the new elements are added; empty to read a sequence from its beginning.
        """
        start = caches[0].length if caches else 0
        end = start + x.shape[1]
        conditions = conditions[:, start:end]
        mask = causal_mask(start, end, prefix_mask=None, device=x.device) if caches else None
        x = self.backbone(x + positions[:, start:end], conditions, mask=mask, is_causal=not caches, caches=caches)
        return modulate(self.norm(x), *self.output_modulation.of_runs(conditions, 1))

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> RarConfig:
        with CONFIG_KEYS.reading(config, source="the reference configuration of a RAR generator"):
            return RarConfig.parse(read_config(config), source="reference configuration")

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return merged_table_from_reference(super().weights_from_reference(state_dict))
