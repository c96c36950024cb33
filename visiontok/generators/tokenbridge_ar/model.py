"""`tokenbridge-ar`: TokenBridge's generators (Wang et al. 2025, arXiv 2503.16430): MAR's backbone and decoding over codes of single dimensions.

The backbone reads the values behind the codes; a causal head writes the codes of a position one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from visiontok.base.noise import Noise, NoiseLike, as_noise
from visiontok.generators.backbones import MaeBackbone, MaeConfig
from visiontok.generators.base import Generator, GeneratorConfig
from visiontok.generators.condition import Condition, ConditionLike, needs_one_vector
from visiontok.generators.decoding import NextTokenSampler, guide
from visiontok.generators.decoding.masked_autoregressive import MaskedStep, MaskedTokenSampler, MaskedTokenSampling
from visiontok.generators.heads.channel import ChannelHead, ChannelHeadConfig
from visiontok.generators.mar.model import flat_tables
from visiontok.generators.orders import GenerationSteps, generation_steps, masked_positions
from visiontok.generators.tokenbridge_ar.reference import CONFIG_KEYS, KEY_MAP, read_config
from visiontok.layers.initialization import normal_weights
from visiontok.quantizers.dimension_wise import DimensionWiseQuantizerConfig, normal_table
from visiontok.tokens import Latents, Tokens


class TokenBridgeGeneratorConfig(GeneratorConfig):
    """Configuration of `TokenBridgeGenerator`.

    Attributes:
        backbone: sizes of encoder and decoder.
        head: sizes of the head.
        code_values: the values of the codes, the same for all codebooks: those of a dimension-wise quantizer, or one number per code.
        least_masked: share of the positions that training masks at least.
    """

    backbone: MaeConfig
    head: ChannelHeadConfig
    code_values: DimensionWiseQuantizerConfig | tuple[float, ...] = DimensionWiseQuantizerConfig()
    least_masked: Annotated[float, Field(gt=0, le=1)] = 0.7
    sampling: MaskedTokenSampling = MaskedTokenSampling()

    @model_validator(mode="after")
    def _check_layout(self) -> TokenBridgeGeneratorConfig:
        layout = self.layout
        if layout.is_continuous or len(layout.segments) > 1 or layout.ragged:
            raise ValueError("tokenbridge-ar models one segment of tokens that is not ragged; gpt takes other layouts")
        sizes, values = set(layout.segments[0].vocab_sizes), self.code_values
        count = len(values) if isinstance(values, tuple) else values.levels
        if sizes != {count}:
            raise ValueError(f"code_values has {count} values; the codebooks of this layout have {sorted(sizes)} codes")
        if self.head.order is not None and len(self.head.order) != layout.segments[0].codebooks:
            raise ValueError(f"the order of the head names {len(self.head.order)} codebooks; a position has {layout.segments[0].codebooks}")
        needs_one_vector(self.condition, why="tokenbridge-ar has one embedding for the condition")
        return self


class TokenBridgeGenerator(Generator[TokenBridgeGeneratorConfig]):
    """Class-conditional (or unconditional) generator that fills in the codes of positions in random order."""

    config_class = TokenBridgeGeneratorConfig
    reference_keys = KEY_MAP

    def __init__(self, config: TokenBridgeGeneratorConfig) -> None:
        super().__init__(config)
        segment, given = config.layout.segments[0], config.code_values
        self.condition = config.condition.build(config.backbone.encoder.dim)
        self.backbone = MaeBackbone(config.backbone, channels=segment.codebooks, length=segment.num_positions)
        self.head = ChannelHead(config.head, dim=config.backbone.decoder.dim, vocab_sizes=segment.vocab_sizes)
        table = torch.tensor(given, dtype=torch.float32) if isinstance(given, tuple) else normal_table(given.levels, given.range)
        self.register_buffer("code_values", table, persistent=False)
        normal_weights(self.condition)

    code_values: Tensor

    def loss(
        self, tokens: Tokens | Latents | Tensor, condition: ConditionLike = None, *, step: int = 0, noise: NoiseLike = None
    ) -> dict[str, Tensor]:
        """Mean cross-entropy in nats over the codes of the masked positions.

        Draws: those of `masked_positions`; in training mode a uniform one (B,) that hides classes.

        Returns:
            "loss", "weight" (masked positions per sample), and "masked_accuracy", the share of a sample's masked codes that were the most likely,
            averaged over samples.
        """
        tokens, found = self.whole_batch(tokens, condition)
        assert isinstance(tokens, Tokens)
        source = as_noise(noise, self.device)
        codes = tokens.indices.unflatten(1, (-1, self.layout.segments[0].codebooks))
        mask = masked_positions(*codes.shape[:2], least=self.config.least_masked, noise=source).to(self.device)
        dropped = self.dropped(len(tokens), source)
        hidden = self.backbone(self.embed(codes), mask, self.condition(found, dropped)[0][:, 0])
        plan = replace(self._plan, held=mask[..., None].expand_as(codes))
        nll, correct = self.head.scores(hidden, codes, plan, self.embed)
        accuracy = correct.sum(dim=(1, 2)) / plan.held.sum(dim=(1, 2))
        return {"loss": nll[mask].mean(), "weight": mask.sum() / len(mask), "masked_accuracy": accuracy.mean()}

    @torch.no_grad()
    def generate(
        self,
        condition: ConditionLike = None,
        *,
        num_samples: int | None = None,
        noise: NoiseLike = None,
        sampler: MaskedTokenSampler | None = None,
    ) -> Tokens:
        """Sample tokens; see `Generator.generate`.

        Draws: a permutation (B, L); per step with M positions and per codebook, exponential (B, M, V).
        """
        found, count, sampler = self.sampling_condition(condition, sampler, samples=num_samples)
        segment, source = self.layout.segments[0], as_noise(noise, self.device)
        start = torch.zeros(count, segment.num_positions, segment.codebooks, dtype=torch.int64, device=self.device)
        return Tokens(sampler(partial(self.fill_in, found, source), start, source).flatten(1), self.layout)

    def fill_in(self, condition: Condition, noise: Noise, codes: Tensor, step: MaskedStep, sampler: NextTokenSampler) -> Tensor:
        """Draw the codes (B, M, K) of a step's positions, guided on what the head reads.

        Args:
            condition: of every sample.
            noise: source of the draws.
            codes: (B, L, K), ignored at unknown positions.
            step: which positions are unknown and which are filled in.
            sampler: filters for single codes.
        """
        hidden = self.features(codes, step.mask, step.positions, condition, scale=step.scale)
        shape = hidden.shape[:2]

        def choose(logits: Tensor, _unconditional: Tensor | None, codebook: int) -> Tensor:
            by_sample = logits.unflatten(0, shape)
            return sampler.choose(by_sample, None, noise, codebook=codebook, step=step.number, num_steps=step.number + 1).flatten()

        return self.head.sample(hidden.flatten(0, 1), None, self._plan, self.embed, choose).unflatten(0, shape)

    def features(self, codes: Tensor, mask: Tensor, positions: Tensor, condition: Condition, *, scale: float) -> Tensor:
        """What the head reads at positions (B, M): (B, M, D); one pass over a doubled batch unless the scale is 1."""
        values, kept = self.embed(codes), torch.zeros(len(codes), dtype=torch.bool, device=codes.device)
        embedded = [self.condition(condition, dropped)[0][:, 0] for dropped in ([kept] if scale == 1 else [kept, ~kept])]
        conditional, *unconditional = self.backbone.at(positions, values, mask, embedded)
        return guide(conditional, unconditional[0], scale) if unconditional else conditional

    def embed(self, codes: Tensor) -> Tensor:
        """The values (...) of codes (...), which the backbone reads; the head embeds codes by itself."""
        return self.code_values[codes]

    @property
    def _plan(self) -> GenerationSteps:
        return generation_steps(self.layout, self.layout, "parallel").to(self.device)

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> TokenBridgeGeneratorConfig:
        with CONFIG_KEYS.reading(config, source="the reference configuration of a TokenBridge generator"):
            return TokenBridgeGeneratorConfig.parse(read_config(config, state_dict), source="reference configuration")

    @classmethod
    def weights_from_reference(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Their learned tables have axes of length 1 in front."""
        renamed = flat_tables(super().weights_from_reference(state_dict))
        return {name: tensor[0] if name in ("head.positions", "head.steps") else tensor for name, tensor in renamed.items()}
