"""The generator contract: built from a token layout and a condition; knows no tokenizer family."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from visiontok.base.config import Config
from visiontok.base.errors import TokenError
from visiontok.base.noise import Noise, NoiseLike
from visiontok.core.identity import TokenizerIdentity
from visiontok.core.model import Model
from visiontok.generators.condition import ClassCondition, Condition, ConditionConfig, ConditionLike, NoCondition, checked_condition, needs_dropout
from visiontok.generators.decoding.base import SamplingConfig
from visiontok.tokens import Latents, TokenLayout, Tokens, as_tokens


class GeneratorConfig(Config):
    """What every generator's configuration holds.

    Attributes:
        layout: the arrangement of the tokens or latents that it models; of variable layouts, at the largest extents.
        condition: what samples are conditioned on.
        tokenizer: whose tokens it was trained on; None where that is not known.
        sampling: how `generate` samples by default; families narrow the type.
    """

    layout: TokenLayout
    condition: ConditionConfig = NoCondition()
    tokenizer: TokenizerIdentity | None = None
    sampling: SamplingConfig


GeneratorConfigT = TypeVar("GeneratorConfigT", bound=GeneratorConfig)


class Generator(Model[GeneratorConfigT]):
    """Base of every token generator. `forward` is the training loss, so that wrappers for several processes see one call.

    `noise` is the source of all random draws. `SampleNoise(seed, sample_indices)` gives every sample its own stream, so that the draws
    depend neither on the batch size nor on how a global batch is divided among processes. (Dropout inside the network is torch's own and always
    draws from its global state.)
    """

    config_class: ClassVar[type[GeneratorConfig]]

    @property
    def layout(self) -> TokenLayout:
        return self.config.layout

    @property
    def vocab_size(self) -> int:
        """Codes of every token.

        Raises:
            TokenError: if it generates continuous latents, or tokens of several vocabularies (see `layout.vocab_sizes`).
        """
        return self.layout.vocab_size

    @property
    def num_classes(self) -> int:
        """Classes of the condition; 0 where it is another."""
        return self.config.condition.num_classes if isinstance(self.config.condition, ClassCondition) else 0

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class; empty where they have none."""
        return self.config.condition.names if isinstance(self.config.condition, ClassCondition) else ()

    @abstractmethod
    def loss(
        self, tokens: Tokens | Latents | Tensor, condition: ConditionLike = None, *, step: int = 0, noise: NoiseLike = None
    ) -> dict[str, Tensor]:
        """Training loss.

        Args:
            tokens: a batch of the model's layout, latents where that is continuous; or a tensor, as `Tokens.from_view` reads it.
            condition: of every sample, or None for unconditional models; (B,) int64 classes may stand for themselves.
            step: of training, for what changes over it.
            noise: source of the random draws (condition dropout in training mode, masking, orders).

        Returns:
            "loss" (scalar, to minimize); where it is a mean over positions whose number differs between batches, "weight", that number for each
            sample, by which means over batches and processes are weighted; and values to log: those named "..._per_token" are means as the loss
            is, all others over samples.
        """

    @abstractmethod
    def generate(
        self, condition: ConditionLike = None, *, num_samples: int | None = None, noise: NoiseLike = None, sampler: Any = None
    ) -> Tokens | Latents:
        """Sample tokens: one sample per entry of `condition`, or `num_samples` without a condition.

        Args:
            condition: of every sample; (B,) int64 classes may stand for themselves.
            num_samples: how many, where no condition is given.
            noise: source of the random draws.
            sampler: strategy objects; None for those of the configuration, `sampler(...)` for those with some parameters changed.
        """

    def forward(
        self, tokens: Tokens | Latents | Tensor, condition: ConditionLike = None, *, step: int = 0, noise: NoiseLike = None
    ) -> dict[str, Tensor]:
        return self.loss(tokens, condition, step=step, noise=noise)

    def sampler(self, **changes: Any) -> Any:
        """The configuration's sampler, with some of its parameters changed: `sampler(temperature=0.9)`.

        Raises:
            ConfigError: for a parameter that this family's sampler does not have, or that is out of range.
        """
        return self.config.sampling.replace(**changes).sampler()

    def num_steps(self, sampler: Any) -> int:
        """How many steps of guidance `generate` takes with a sampler."""
        return self.layout.length

    def check_sampler(self, sampler: Any, *, unconditional: bool) -> None:
        """Refuse before anything is sampled what training never gave a meaning: guidance, or samples without the condition, where none was dropped.

        Raises:
            ConfigError: see `needs_dropout`.
        """
        steps = self.num_steps(sampler)
        if unconditional or any(sampler.is_guided(step, steps) for step in range(steps)):
            needs_dropout(self.config.condition)

    def checked_condition(self, condition: ConditionLike, *, samples: int | None) -> tuple[Condition, int]:
        """A condition that fits, on the model's device, and the number of samples.

        Raises:
            ConditionError: if it is missing, of another kind, out of range, or of another number of samples.
        """
        found, count = checked_condition(self.config.condition, condition, samples=samples)
        return found.to(self.device), count

    def session_condition(self, condition: ConditionLike, *, samples: int | None, guided: bool) -> tuple[Condition, int]:
        """The condition of a session, as `checked_condition` gives it; `guided` where every sample is also read without it.

        Raises:
            NonFiniteError: if the weights are damaged.
            ConditionError: see `checked_condition`.
            ConfigError: see `needs_dropout`.
        """
        self.check_weights()
        found, count = self.checked_condition(condition, samples=samples)
        if guided or found.kind == "none":
            needs_dropout(self.config.condition)
        return found, count

    def sampling_condition(self, condition: ConditionLike, sampler: Any, *, samples: int | None) -> tuple[Condition, int, Any]:
        """What `generate` begins with: the condition and the number of samples, as `checked_condition` gives them, and the sampler, which fits.

        Raises:
            NonFiniteError: if the weights are damaged.
            ConditionError: see `checked_condition`.
            ConfigError: see `check_sampler`.
        """
        self.check_weights()
        found, count = self.checked_condition(condition, samples=samples)
        sampler = self.sampler() if sampler is None else sampler
        self.check_sampler(sampler, unconditional=found.kind == "none")
        return found, count, sampler

    def training_batch(self, tokens: Tokens | Latents | Tensor, condition: ConditionLike) -> tuple[Tokens | Latents, Condition]:
        """A training batch, checked and on the model's device.

        Raises:
            TokenError: if the tokens have another layout, or an index is out of range.
            ConditionError: if the condition does not fit, or is missing where the generator has one.
            NonFiniteError: in evaluation, if the weights are damaged.
        """
        if not self.training:
            self.check_weights()
        tokens = as_tokens(tokens, self.layout)
        if not self.layout.accepts(tokens.layout):
            raise TokenError(f"these tokens have another layout than this generator: {tokens.layout} instead of {self.layout}")
        needed = None if not isinstance(self.config.condition, NoCondition) and condition is None else len(tokens)
        found, _ = self.checked_condition(condition, samples=needed)
        return tokens.validate().to(self.device), found

    def whole_batch(self, tokens: Tokens | Latents | Tensor, condition: ConditionLike) -> tuple[Tokens | Latents, Condition]:
        """A training batch of samples that hold every position of the model's own extent; for models of a fixed number of positions.

        Raises:
            ConditionError, TokenError: see `training_batch`; if a sample is larger, smaller or not complete.
        """
        tokens, found = self.training_batch(tokens, condition)
        if not self.layout.is_same_kind(tokens.layout):
            raise TokenError(
                f"samples have {tokens.layout.num_levels} of {self.layout.num_levels} codebook levels; this generator models all of them"
            )
        check_extents(tokens, self.layout)
        if not tokens.is_full:
            held = int(tokens.sample_lengths.min())
            raise TokenError(f"a sample holds {held} of {self.layout.length} positions; this generator models every token of a sample")
        return next(group for _, group in tokens.groups()), found

    def checked_prefix(self, layout: TokenLayout, num_tokens: int | None) -> int:
        """How many first tokens of a sample of a layout are to be sampled; all where `num_tokens` is None.

        Raises:
            TokenError: if such a prefix does not decode.
        """
        if num_tokens is None:
            return layout.length
        if not layout.allows_prefix(num_tokens):
            raise TokenError(f"num_tokens = {num_tokens}: of {layout.length} tokens such a prefix does not decode (prefixes: {layout.prefixes})")
        return num_tokens

    def dropped(self, samples: int, noise: Noise) -> Tensor:
        """(B,) bool: the samples of a batch whose condition is hidden, in training mode; there, one uniform draw (B,) where it may be."""
        config = self.config.condition
        if not self.training or isinstance(config, NoCondition):
            return torch.zeros(samples, dtype=torch.bool, device=self.device)
        return noise.uniform(samples).to(self.device) < config.dropout


class DrafterConfig(Config):
    """What the configuration of every drafter holds that is no generator itself.

    Attributes:
        layout: of the tokens that it drafts.
        tokenizer: whose tokens these are; None where that is not known.
    """

    layout: TokenLayout
    tokenizer: TokenizerIdentity | None = None


DrafterConfigT = TypeVar("DrafterConfigT", bound=DrafterConfig)


class DrafterModel(Model[DrafterConfigT]):
    """Base of the models that propose tokens from the hidden states of one generator, for speculative decoding; see `decoding.Drafter`."""

    @property
    def layout(self) -> TokenLayout:
        return self.config.layout


def check_extents(tokens: Tokens | Latents, layout: TokenLayout) -> None:
    """Refuse samples of other extents than those of a layout of the same kind; for models of a fixed number of positions.

    Raises:
        TokenError: naming the sample and its extents.
    """
    found = tokens.sample_extents
    wrong = (found != found.new_tensor(layout.extents)).any(dim=1).nonzero().flatten()
    if len(wrong):
        sample = int(wrong[0])
        raise TokenError(f"sample {sample} has the extents {tuple(found[sample].tolist())}; this generator models {layout.extents}")
