"""The quantizer contract: the bottleneck between an encoder and a decoder, discrete or continuous."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from visiontok.base.config import Config
from visiontok.base.errors import LatentError, TokenError
from visiontok.base.finite import WeightCheck, check_finite
from visiontok.base.modes import evaluating
from visiontok.base.noise import NoiseLike
from visiontok.base.pytrees import registered
from visiontok.quantizers.across_ranks import share_of_mean
from visiontok.quantizers.masks import at_positions, valid_rows, without_padding

LARGEST_TABLE = 2**20
"""Codes of the largest table that quantizers without a stored codebook list."""


@registered(passed_through=bool)
@dataclass(frozen=True)
class Quantized:
    """What a quantizer returns.

    Attributes:
        latents: (..., D) what the decoder reads; gradients pass through to the quantizer's input. Zero at padding.
        indices: (...) or (..., C) int64; None for continuous bottlenecks. Zero at padding.
        losses: terms already multiplied by their weights; their sum is the quantizer's loss.
        stats: scalars to log, never part of the loss.
        passed_through: whether the latents are those that were given, as in a warm-up; the indices then only say which codes are nearest.
        first_level: (..., D) what the first level of a residual quantizer gives by itself, with gradients to the input; None elsewhere.
    """

    latents: Tensor
    indices: Tensor | None
    losses: dict[str, Tensor] = field(default_factory=dict)
    stats: dict[str, Tensor] = field(default_factory=dict)
    passed_through: bool = False
    first_level: Tensor | None = None


Fields = ParamSpec("Fields")
ConfigT = TypeVar("ConfigT", bound=Config)


def configured_by(config_class: Callable[Fields, ConfigT]) -> Callable[[Callable[[Any, ConfigT], None]], Callable[Concatenate[Any, Fields], None]]:
    """Make a constructor that takes a configuration take the fields of that configuration by keyword, with the same types, defaults and checks.

    `VectorQuantizer(codebook_size=64, dim=8)` is then the same as `VectorQuantizerConfig(codebook_size=64, dim=8).build()`.

    Raises:
        ConfigError: by the constructor, for unknown, missing or invalid fields.
        TypeError: by the constructor, for positional arguments.
    """
    assert isinstance(config_class, type)
    assert issubclass(config_class, Config)
    parse: Callable[..., Any] = config_class.parse
    fields = [field for name, field in inspect.signature(config_class).parameters.items() if name != "type"]
    whole = inspect.Signature([inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), *fields])

    def decorate(init: Callable[[Any, ConfigT], None]) -> Callable[Concatenate[Any, Fields], None]:
        def constructor(self: Any, /, *args: Fields.args, **values: Fields.kwargs) -> None:
            name = type(self).__name__
            if args:
                given = ", ".join(f"{field.name}=..." for field in fields[:2])
                raise TypeError(f"arguments are given by keyword: {name}({given}); of a configuration, call build()")
            modules = [f"{field}={type(value).__name__}(...)" for field, value in values.items() if isinstance(value, nn.Module)]
            if modules:
                raise TypeError(f"{name} builds its parts itself: give {modules[0]} as a configuration")
            init(self, parse(values, source=f"the call of {name}"))

        functools.update_wrapper(constructor, init)
        constructor.__signature__ = whole  # type: ignore[attr-defined]
        constructor.__doc__ = config_class.__doc__
        return constructor

    return decorate


class Bottleneck(nn.Module, ABC):
    """Latents in, what the decoder reads out; knows no family, no layout and no signal.

    Attributes:
        input_dim: size of the last axis of the latents that it reads; None where it takes any.
    """

    def __init__(self, *, input_dim: int | None = None) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.weight_check = WeightCheck()
        self.register_forward_pre_hook(_check_latents, with_kwargs=True)

    @property
    def is_stochastic(self) -> bool:
        """Whether it draws in evaluation where noise is given."""
        return False

    @abstractmethod
    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        """Quantize latents (..., D).

        Args:
            latents: (..., D).
            mask: (...) bool, False for padding, which is excluded from losses, statistics and codebook updates; None for no padding.
            noise: where draws come from, for those that draw: in training always, in evaluation only if it is given.

        Raises:
            LatentError: if the latents are no floats, or their last axis or the mask has another size.
            NonFiniteError: in evaluation, naming a sample or a weight with NaN or infinity.
        """

    def quantize_channels_first(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        """`forward` for feature maps with their channels on the second axis, as convolutions give them.

        Args:
            latents: (B, D, *axes), for example (B, D, H, W).
            mask: (B, *axes) bool.
            noise: as for `forward`.

        Returns:
            `latents` (B, D, *axes); `indices` as those of latents (B, *axes, D), so (B, H, W) with one index per position.

        Raises:
            LatentError, NonFiniteError: as `forward`.
        """
        found: Quantized = self(latents.movedim(1, -1), mask=mask, noise=noise)
        return replace(found, latents=found.latents.movedim(-1, 1))


def _check_latents(module: Bottleneck, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> None:
    """Floats of the right width; in evaluation finite: NaN would become an index like any other. In training the losses are checked instead."""
    if not inputs:
        return
    latents, dim = inputs[0], module.input_dim
    if not isinstance(latents, Tensor):
        raise LatentError(f"{type(module).__name__} reads a tensor, got {type(latents).__name__}")
    if not latents.is_floating_point() or not latents.ndim or dim not in (None, latents.shape[-1]):
        found = f"{type(module).__name__} reads floats (..., {dim or 'D'}), got {latents.dtype} {tuple(latents.shape)}"
        hint = " (for channels on the second axis, call quantize_channels_first)" if latents.ndim > 2 and latents.shape[1] == dim else ""
        raise LatentError(found + hint)
    if not module.training:
        module.weight_check(module)
        check_finite(without_padding(latents, options.get("mask")), stage="the encoder's latents")


class ContinuousBottleneck(Bottleneck):
    """Base of bottlenecks whose latents stay continuous: there are no indices."""

    @abstractmethod
    def mode(self, latents: Tensor) -> Tensor:
        """What the decoder reads when nothing is drawn, in training too: latents as the encoder gives them -> (..., D)."""


class Quantizer(Bottleneck):
    """Base of bottlenecks that give indices."""

    @abstractmethod
    def lookup(self, indices: Tensor) -> Tensor:
        """The latents (..., D) of indices (...); equals `forward(x).latents` for `forward(x).indices`."""

    def checked(self, indices: Tensor, sizes: int | tuple[int, ...]) -> Tensor:
        """Indices for `lookup`: whole numbers (...) below one size, or (..., C) below C sizes.

        In training on an accelerator, where they are those of the search, nothing waits for them to be looked at.

        Raises:
            TokenError: naming the first index that is no code.
        """
        if indices.is_floating_point():
            raise TokenError(f"indices must be whole numbers, got {indices.dtype}")
        if not isinstance(sizes, int) and indices.shape[-1:] != (len(sizes),):
            raise TokenError(f"indices of shape {tuple(indices.shape)} must have {len(sizes)} on the last axis, one for each of {sizes} codes")
        if not torch.compiler.is_compiling() and not (self.training and indices.device.type != "cpu"):
            limit = sizes if isinstance(sizes, int) else torch.tensor(sizes, dtype=torch.int64, device=indices.device)
            wrong = (indices < 0) | (indices >= limit)
            if bool(wrong.any()):
                raise TokenError(f"index {int(indices[wrong][0])} is no code of this {type(self).__name__}: they are numbered below {sizes}")
        return indices

    def lookup_channels_first(self, indices: Tensor) -> Tensor:
        """`lookup` for feature maps: indices of latents (B, *axes, D) -> latents (B, D, *axes), as `quantize_channels_first` gives them."""
        return self.lookup(indices).movedim(-1, 1)

    @property
    def has_codes(self) -> bool:
        """Whether there is one table of all codes, `codes()`: see `CodebookQuantizer`."""
        return False

    def search(self, latents: Tensor) -> Tensor:
        """The indices of `forward(latents)` alone; nothing is learned from these latents."""
        with evaluating(self):
            indices = self(latents).indices
        assert indices is not None
        return indices


class NeighborQuantizer(Quantizer):
    """Base of quantizers whose codes have neighbors."""

    @abstractmethod
    def neighbors(self, latents: Tensor, k: int) -> Tensor:
        """For every index of `forward(latents)`, the k indices nearest to its latent, nearest first; rank 0 is that index itself.

        Returns:
            (*indices.shape, k) int64.

        Raises:
            ValueError: if there are fewer than k codes.
        """


class CodebookQuantizer(NeighborQuantizer):
    """Base of quantizers whose indices name one of K codes each."""

    @property
    @abstractmethod
    def codebook_size(self) -> int:
        """K."""

    @property
    def has_codes(self) -> bool:
        return True

    def codes(self) -> Tensor:
        """The table of all codes (K, D): row k is `lookup(k)`.

        Raises:
            TokenError: if there is none (see `has_codes`): too many codes to list, or several indices per latent.
        """
        if not self.has_codes:
            raise TokenError(f"this {type(self).__name__} of {self.codebook_size} codes has no table: too many rows, or several indices a latent")
        device = next(chain(self.parameters(), self.buffers())).device
        return self.lookup(torch.arange(self.codebook_size, dtype=torch.int64, device=device))

    def soft_lookup(self, probabilities: Tensor) -> Tensor:
        """The expected code under probabilities (..., K): (..., D); for a one-hot distribution, `lookup`. Gradients reach both."""
        return expected_code(probabilities, self.codes())


class PointwiseQuantizer(CodebookQuantizer):
    """Base of quantizers that treat every latent by itself, so that padding is simply removed."""

    def forward(self, latents: Tensor, *, mask: Tensor | None = None, noise: NoiseLike = None) -> Quantized:
        """See `quantize_rows`, whose losses and stats these are."""
        found, shape = self.quantize_rows(valid_rows(latents, mask)), latents.shape[:-1]
        found = of_all_ranks(found, None if mask is None else mask.sum())
        assert found.indices is not None
        return replace(found, latents=at_positions(found.latents, shape, mask), indices=at_positions(found.indices, shape, mask))

    @abstractmethod
    def quantize_rows(self, latents: Tensor) -> Quantized:
        """Latents (N, D) without padding, N perhaps 0 -> latents (N, D) and indices (N,) or (N, C)."""


def of_all_ranks(quantized: Quantized, count: Tensor | None) -> Quantized:
    """With losses and stats whose means over ranks are those over all elements, however padding is divided among the ranks.

    Args:
        quantized: whose losses and stats are means over the elements of this rank.
        count: of them (scalar); None for as many on every rank.
    """
    share = None if count is None else share_of_mean(count)
    if share is None:
        return quantized
    losses, stats = ({name: value * share for name, value in terms.items()} for terms in (quantized.losses, quantized.stats))
    return replace(quantized, losses=losses, stats=stats)


def expected_code(probabilities: Tensor, codes: Tensor) -> Tensor:
    """sum_k p_k e_k for probabilities (..., K) and codes (K, D): (..., D) in the type of the codes, added up in float32."""
    with torch.autocast(codes.device.type, enabled=False):
        return (probabilities.float() @ codes.float()).to(codes.dtype)
