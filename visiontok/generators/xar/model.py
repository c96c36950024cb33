"""xAR (arXiv 2502.20388): a transformer that generates the latents of an image cell by cell, each cell by a flow from noise.

The sequence is [cell_0 ... cell_{M-1}], S latents each. A latent sees its own cell and those before it. In training every cell is noised to a time
of its own, so that a cell also learns from imperfect cells before it (noisy context); in sampling the cells before are finished ones at time 0.
The condition and a cell's time modulate every block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from visiontok.base.config import Positive, Probability
from visiontok.base.noise import NoiseLike, as_noise
from visiontok.decoders.flow.training import flow_loss, mix
from visiontok.generators.backbones import ModulatedCausalBlock, ModulatedStack
from visiontok.generators.backbones.llama import block_causal_mask
from visiontok.generators.base import Generator, GeneratorConfig
from visiontok.generators.condition import Condition, ConditionLike, needs_one_vector
from visiontok.generators.decoding import CellSampler, CellSampling
from visiontok.generators.orders import cell_order
from visiontok.generators.xar.reference import CONFIG_KEYS, KEY_MAP, read_config
from visiontok.generators.xar.session import XarSession
from visiontok.layers.activations import gelu
from visiontok.layers.kv_cache import KVCache
from visiontok.layers.norms import RMSNorm
from visiontok.layers.rope import grid_positions, rope_table
from visiontok.layers.timesteps import TimestepEmbedding
from visiontok.tokens import Latents, Tokens


class XarConfig(GeneratorConfig):
    """Configuration of `Xar`.

    Attributes:
        cells: along each axis of the layout's grid.
        dim: model dimension D.
        encoder_depth, decoder_depth: blocks before and after the linear layer in the middle.
        num_heads: attention heads.
        mlp_dim: hidden dim of the feed-forward parts.
        dropout: after the attention, and twice in every feed-forward part.
        attention_dropout: of the attention probabilities.
    """

    cells: tuple[Positive, ...] = Field(min_length=1)
    dim: Positive
    encoder_depth: Positive
    decoder_depth: Positive
    num_heads: Positive
    mlp_dim: Positive
    dropout: Probability = 0.1
    attention_dropout: Probability = 0.1
    sampling: CellSampling = CellSampling()

    @model_validator(mode="after")
    def _check_sizes(self) -> XarConfig:
        if len(self.layout.segments) > 1 or not self.layout.is_continuous or self.layout.ragged or self.layout.order != "raster":
            raise ValueError("xar models continuous latents in one segment, neither ragged nor with a generation order of its own")
        shape = self.layout.segments[0].shape
        if len(self.cells) != len(shape) or any(size % count for size, count in zip(shape, self.cells, strict=True)):
            raise ValueError(f"cells {self.cells} must divide the positions {shape} along every axis")
        needs_one_vector(self.condition, why="xar is modulated by one vector")
        if self.dim % self.num_heads or self.dim // self.num_heads % (2 * len(shape)):
            raise ValueError(f"num_heads {self.num_heads} must divide dim {self.dim} into heads whose dim is a multiple of {2 * len(shape)}")
        return self


class Xar(Generator[XarConfig]):
    """Next-cell flow-matching transformer with key-value cache and guidance."""

    config_class = XarConfig
    reference_keys = KEY_MAP

    def __init__(self, config: XarConfig) -> None:
        super().__init__(config)
        segment, dim = config.layout.segments[0], config.dim
        assert segment.channels is not None
        self.num_cells = math.prod(config.cells)
        self.cell_size = segment.length // self.num_cells
        order = cell_order(segment.shape, config.cells)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("coordinates", grid_positions(segment.shape)[order], persistent=False)
        self.condition = config.condition.build(dim)
        self.time = TimestepEmbedding(dim)
        self.input = nn.Linear(segment.channels, dim)
        self.input_norm = RMSNorm(dim, eps=1e-6)
        self.encoder_positions = nn.Parameter(torch.empty(segment.length, dim))
        self.encoder = self._stack(config.encoder_depth)
        self.encoder_norm = RMSNorm(dim, eps=1e-6)
        self.middle = nn.Linear(dim, dim)
        self.decoder_positions = nn.Parameter(torch.empty(segment.length, dim))
        self.decoder = self._stack(config.decoder_depth)
        self.decoder_norm = RMSNorm(dim, eps=1e-6)
        self.output = nn.Linear(dim, segment.channels)
        self.reset_parameters()

    order: Tensor
    coordinates: Tensor

    def _stack(self, depth: int) -> ModulatedStack:
        config = self.config
        return ModulatedStack(
            ModulatedCausalBlock(
                config.dim,
                config.num_heads,
                norm=partial(nn.RMSNorm, eps=1e-6, elementwise_affine=False),
                mlp=GatedMlp(config.dim, config.mlp_dim, dropout=config.dropout),
                attention_dropout=config.attention_dropout,
                residual_dropout=config.dropout,
            )
            for _ in range(depth)
        )

    def reset_parameters(self) -> None:
        """Xavier for every linear layer, modulation included, with zero biases; normal with deviation 0.02 for tables."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for table in (self.encoder_positions, self.decoder_positions):
            nn.init.normal_(table, std=0.02)

    # Training.

    def loss(
        self, tokens: Tokens | Latents | Tensor, condition: ConditionLike = None, *, step: int = 0, noise: NoiseLike = None
    ) -> dict[str, Tensor]:
        """Mean square of the velocity's error.

        Draws: in training mode a uniform one (B,) that hides classes; then normal ones, (B, M) whose logistic function is the time of every
        cell, and (B, L, C) in generation order.

        Returns:
            "loss".
        """
        whole, found = self.whole_batch(tokens, condition)
        samples, source = len(whole), as_noise(noise, self.device)
        dropped = self.dropped(samples, source)
        data = self.in_cells(whole.data)
        times = source.normal(samples, self.num_cells).sigmoid().flatten()
        start = source.normal(samples, *whole.data.shape[1:]).to(data).unflatten(1, (self.num_cells, -1)).flatten(0, 1)
        noisy = mix(data, start, times).unflatten(0, (samples, -1)).flatten(1, 2)
        velocity = self.velocity(noisy, self.class_vectors(found, dropped), times.view(samples, -1))
        return {"loss": flow_loss(velocity.unflatten(1, (self.num_cells, -1)).flatten(0, 1), data, start).mean()}

    def in_cells(self, values: Tensor) -> Tensor:
        """Latents (B, L, C) in storage order -> (B * M, S, C), the cells of a sample one after the other."""
        return values[:, self.order].unflatten(1, (self.num_cells, -1)).flatten(0, 1)

    # Generation.

    @torch.no_grad()
    def session(self, condition: ConditionLike = None, *, num_samples: int | None = None, guided: bool = False) -> XarSession:
        """Reads cells one after the other; see `XarSession`.

        Args:
            condition: of every sample.
            num_samples: how many, where no condition is given.
            guided: read every sample a second time without its condition.

        Raises:
            ConditionError: if the condition does not fit.
            ConfigError: if a model that never saw samples without a condition is to do so.
        """
        found, count = self.session_condition(condition, samples=num_samples, guided=guided)
        return XarSession(self, found, count, guided=guided)

    def num_steps(self, sampler: CellSampler) -> int:
        return self.num_cells

    @torch.no_grad()
    def generate(
        self,
        condition: ConditionLike = None,
        *,
        num_samples: int | None = None,
        noise: NoiseLike = None,
        sampler: CellSampler | None = None,
    ) -> Latents:
        """Sample cell by cell; the draws are those of `CellSampler`. See `Generator.generate`."""
        sampler = self.sampler() if sampler is None else sampler
        assert isinstance(sampler, CellSampler)
        session = self.session(
            condition, num_samples=num_samples, guided=any(sampler.is_guided(cell, self.num_cells) for cell in range(self.num_cells))
        )
        ordered = sampler(session, as_noise(noise, self.device))
        return Latents(torch.empty_like(ordered).index_copy_(1, self.order, ordered), self.layout)

    # The network.

    def velocity(self, noisy: Tensor, vectors: Tensor, times: Tensor) -> Tensor:
        """Of the first n cells of a sample, each at a time of its own.

        Args:
            noisy: (B, n * S, C) in generation order.
            vectors: (B, D); see `class_vectors`.
            times: (B, n).

        Returns:
            (B, n * S, C).
        """
        return self.output(self.transform(noisy, self.cell_conditions(vectors, times)))

    def class_vectors(self, condition: Condition, dropped: Tensor) -> Tensor:
        """(B, D) of the condition; `dropped` (B,) bool are the samples whose condition is hidden."""
        embedded, _ = self.condition(condition, dropped)
        return embedded[:, 0]

    def cell_conditions(self, vectors: Tensor, times: Tensor) -> Tensor:
        """(B, n, D): what modulates cells at times (B or 1, n), which count in whole thousandths, rounded down in float32."""
        thousandths = (times.float() * 1000).trunc()
        return vectors[:, None] + self.time(thousandths.flatten()).unflatten(0, times.shape)

    def transform(self, values: Tensor, conditions: Tensor, caches: Sequence[KVCache] = ()) -> Tensor:
        """Cells that follow those in the caches -> what the output layer reads.

        Args:
            values: (B, n * S, C) in generation order.
            conditions: (B, n, D); see `cell_conditions`.
            caches: one per block of encoder and decoder, to which the cells are added; empty to read a sample from its beginning.

        Returns:
            (B, n * S, D).
        """
        start = caches[0].length if caches else 0
        end = start + values.shape[1]
        mask = block_causal_mask([self.cell_size] * (end // self.cell_size), start, prefix_mask=None, device=values.device)
        # Not a buffer: in half precision the angles would be wrong.
        rope = rope_table(self.coordinates[start:end], self.config.dim // self.config.num_heads)
        x = self.input_norm(self.input(values.to(self.dtype)) + self.encoder_positions[start:end])
        split = self.config.encoder_depth
        x = self.encoder_norm(self.encoder(x, conditions, rope=rope, mask=mask, caches=caches[:split]))
        x = self.middle(x) + self.decoder_positions[start:end]
        return self.decoder_norm(self.decoder(x, conditions, rope=rope, mask=mask, caches=caches[split:]))

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> XarConfig:
        with CONFIG_KEYS.reading(config, source="the reference configuration of an xAR generator"):
            return XarConfig.parse(read_config(config), source="reference configuration")

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Their tables of positions have a batch axis."""
        renamed = super().weights_from_reference(state_dict)
        return {name: tensor[0] if name.endswith("_positions") else tensor for name, tensor in renamed.items()}


class GatedMlp(nn.Module):
    """`fc2(gelu(gate x) * fc1 x)` with biases and the exact GELU (GEGLU, arXiv 2002.05202).

    Args:
        dim: model dimension D.
        hidden_dim: in between.
        dropout: of the product and of the output, in training.
    """

    def __init__(self, dim: int, hidden_dim: int, *, dropout: float) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, hidden_dim)
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.dropout(self.fc2(self.dropout(gelu(self.gate(x)) * self.fc1(x))))
