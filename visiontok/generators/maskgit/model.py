"""`maskgit`: a bidirectional transformer that fills in masked tokens (MaskGIT, arXiv 2202.04200), as TiTok uses it (arXiv 2406.07550).

Rows of the network's own table, V being the codebook size and n the number of classes: 0 .. V - 1 codes, V the mask, V + 1 .. V + n the
classes, V + n + 1 no class. The sequence is [class | L tokens].
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from visiontok.base.noise import Noise, NoiseLike, as_noise
from visiontok.generators.backbones import BertConfig, MaskedLlamaConfig, UViTConfig
from visiontok.generators.base import Generator, GeneratorConfig
from visiontok.generators.condition import Condition, ConditionLike, needs_one_vector
from visiontok.generators.decoding import IterativeSampler, MaskGITSampling, TiTokSampling, guide
from visiontok.generators.heads.masked import LinearMaskedHeadConfig, MaskedHeadConfig
from visiontok.generators.maskgit.reference import CONFIG_KEYS, KEY_MAP, read_config
from visiontok.generators.masking import ArccosMasking, MaskingConfig
from visiontok.tokens import Latents, Tokens


class MaskGITConfig(GeneratorConfig):
    """Configuration of `MaskGIT`.

    Attributes:
        backbone: the network and its sizes.
        head: from the network's output to logits.
        masking: which tokens are hidden in training.
        label_smoothing: of the cross-entropy.
        unmasked_weight: weight of the positions that were not masked, in the loss; masked ones weigh 1.
    """

    backbone: Annotated[BertConfig | UViTConfig | MaskedLlamaConfig, Field(discriminator="type")]
    head: MaskedHeadConfig = LinearMaskedHeadConfig()
    masking: MaskingConfig = ArccosMasking()
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    unmasked_weight: Annotated[float, Field(ge=0)] = 0.1
    sampling: Annotated[TiTokSampling | MaskGITSampling, Field(discriminator="type")] = TiTokSampling()

    @model_validator(mode="before")
    @classmethod
    def _choose_sampling(cls, values: Any) -> Any:
        """TiTok's sampling, where its type is omitted."""
        if not isinstance(values, Mapping) or not isinstance(values.get("sampling"), Mapping):
            return values
        return {**values, "sampling": {"type": "titok", **values["sampling"]}}

    @model_validator(mode="after")
    def _check_codebook(self) -> MaskGITConfig:
        if len(self.layout.segments) > 1 or self.layout.segments[0].codebooks > 1:
            raise ValueError("maskgit ranks all tokens of a sample against each other, so it needs a layout of one segment with one codebook")
        if self.layout.ragged or self.layout.is_continuous:
            raise ValueError("maskgit fills in all tokens of a fixed number: the layout is ragged or continuous")
        axes = len(self.layout.segments[0].shape)
        if isinstance(self.backbone, MaskedLlamaConfig) and self.backbone.head_dim % (2 * axes):
            raise ValueError(f"rotary positions over {axes} axes need a head dim that is a multiple of {2 * axes}, got {self.backbone.head_dim}")
        needs_one_vector(self.condition, why="maskgit has a class token")
        return self


class MaskGIT(Generator[MaskGITConfig]):
    """Class-conditional (or unconditional) masked-token transformer with iterative decoding."""

    config_class = MaskGITConfig
    reference_keys = KEY_MAP

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__(config)
        self.mask_id = self.vocab_size
        self.backbone = config.backbone.build(self.vocab_size + self.num_classes + 2, config.layout.segments[0].shape)
        self.lm_head = config.head.build(config.backbone.dim, self.vocab_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal with deviation 0.02 for matrices and tables, zero biases; norms keep their ones."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def logits(self, indices: Tensor, classes: Tensor) -> Tensor:
        """(B, L, V) float32 for every position.

        Args:
            indices: (B, L) int64 codes, or `mask_id`.
            classes: (B,) int64; `num_classes` stands for none.
        """
        sequence = torch.cat([(classes + self.vocab_size + 1)[:, None], indices], dim=1)
        return self.lm_head(self.backbone(sequence)[:, 1:], self.backbone.embeddings.weight[: self.vocab_size]).float()

    def guided_logits(self, classes: Tensor, indices: Tensor, scale: float) -> Tensor:
        """(B, L, V): `guide` between the logits with and without the class; one pass over a doubled batch, or a plain one at scale 1."""
        if scale == 1:
            return self.logits(indices, classes)
        streams = torch.cat([classes, torch.full_like(classes, self.num_classes)])
        conditional, unconditional = self.logits(torch.cat([indices, indices]), streams).chunk(2)
        return guide(conditional, unconditional, scale)

    def mask_tokens(self, indices: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Mask a random share of every sample, at least one position; the draws are those of the configuration's masking.

        Returns:
            the codes (B, L) with `mask_id` at the masked positions; (B, L) bool, True at these positions.
        """
        batch, length = indices.shape
        mask = self.config.masking.mask(batch, length, noise).to(indices.device)
        return indices.masked_fill(mask, self.mask_id), mask

    def loss(
        self, tokens: Tokens | Latents | Tensor, condition: ConditionLike = None, *, step: int = 0, noise: NoiseLike = None
    ) -> dict[str, Tensor]:
        """Weighted mean of the smoothed cross-entropy over all positions, in nats.

        The draws are those of `mask_tokens`, then, in training mode, a uniform one (B,) that hides classes.

        Returns:
            "loss", "weight" (the sum of the positions' weights), and "masked_accuracy", the share of a sample's masked positions whose most likely
            code is right, averaged over samples.
        """
        tokens, found = self.whole_batch(tokens, condition)
        assert isinstance(tokens, Tokens)
        source, classes = as_noise(noise, self.device), self._classes(found, len(tokens))
        masked, mask = self.mask_tokens(tokens.indices, source)
        classes = classes.masked_fill(self.dropped(len(tokens), source), self.num_classes)
        return self.masked_loss(tokens.indices, masked, mask, classes)

    def masked_loss(self, indices: Tensor, masked: Tensor, mask: Tensor, classes: Tensor) -> dict[str, Tensor]:
        """See `loss`: of codes (B, L), given the same with `mask_id` where `mask` (B, L) is True, and classes (B,); no draws."""
        logits = self.logits(masked, classes)
        nats = F.cross_entropy(logits.transpose(1, 2), indices, reduction="none", label_smoothing=self.config.label_smoothing)
        weight = torch.where(mask, 1.0, self.config.unmasked_weight).to(nats.dtype)
        right = ((logits.argmax(dim=-1) == indices) & mask).sum(dim=1) / mask.sum(dim=1)
        whole = weight.sum()
        return {"loss": (nats * weight).sum() / (whole + 1e-8), "weight": whole / len(indices), "masked_accuracy": right.mean()}

    @torch.no_grad()
    def generate(
        self,
        condition: ConditionLike = None,
        *,
        num_samples: int | None = None,
        noise: NoiseLike = None,
        sampler: IterativeSampler | None = None,
    ) -> Tokens:
        """Sample tokens, all positions at once, in the sampler's number of steps; see `Generator.generate`."""
        found, count, sampler = self.sampling_condition(condition, sampler, samples=num_samples)
        indices = torch.full((count, self.layout.length), self.mask_id, dtype=torch.int64, device=self.device)
        predict = partial(self.guided_logits, self._classes(found, count))
        return Tokens(sampler(predict, indices, self.mask_id, as_noise(noise, self.device)), self.layout)

    def num_steps(self, sampler: IterativeSampler) -> int:
        return sampler.num_steps

    def _classes(self, condition: Condition, samples: int) -> Tensor:
        """(B,) int64; `num_classes` stands for none."""
        if condition.classes is None:
            return torch.full((samples,), self.num_classes, dtype=torch.int64, device=self.device)
        return condition.classes

    @classmethod
    def config_from_reference(cls, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> MaskGITConfig:
        """Our configuration from the authors'; the weights are not needed.

        Raises:
            ConfigError: if a key is unknown, or a size missing or out of range.
        """
        with CONFIG_KEYS.reading(config, source="the reference configuration of a maskgit generator"):
            return MaskGITConfig.parse(read_config(config), source="reference configuration")
