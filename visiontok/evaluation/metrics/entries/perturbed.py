"""pFID and its kin: how well a tokenizer still decodes when a generator's sampling errors are imitated (RobustTok, arXiv 2503.08354, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visiontok.base.errors import EvaluationError
from visiontok.core.text_tokenizer import TextTokenizer
from visiontok.core.tokenizer import Tokenizer
from visiontok.evaluation.features import FeatureExtractor
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.entries.base import Batch, Measure
from visiontok.evaluation.metrics.entries.frechet_sides import frechet_value
from visiontok.evaluation.metrics.moments import Moments
from visiontok.evaluation.metrics.perturbation_grid import PerturbationGrid
from visiontok.evaluation.metrics.value import MetricValue
from visiontok.quantizers import NeighborQuantizer
from visiontok.tokens import Tokens


class PerturbedFrechetMeasure(Measure):
    """The mean, over a grid of perturbations, of the Fréchet distance between the originals and what perturbed tokens decode to.

    Its name is that of the extractor's distance with a p before it: pFID with the Inception network alone, pFD with the extractor's name else.
    """

    def __init__(self, tokenizer: Tokenizer[Any], extractors: Sequence[FeatureExtractor], *, grid: PerturbationGrid, allow_few_samples: bool) -> None:
        """Decode once per setting and image, however many extractors there are.

        Args:
            tokenizer: with codes that have neighbors.
            extractors: whose features the distances are computed over.
            grid: of settings.
            allow_few_samples: accept no more samples than features.
        """
        self._tokenizer, self._extractors, self._grid, self._allow_few_samples = tokenizer, extractors, grid, allow_few_samples
        self._reference = {extractor.name: Moments() for extractor in extractors}
        self._perturbed = {(extractor.name, number): Moments() for extractor in extractors for number in range(len(grid.settings))}
        super().__init__(
            **{f"reference.{name}": moments for name, moments in self._reference.items()},
            **{f"perturbed.{name}.{number}": moments for (name, number), moments in self._perturbed.items()},
        )

    @torch.no_grad()
    def update(self, batch: Batch) -> None:
        tokens = batch.tokens
        if not isinstance(tokens, Tokens) or not tokens.is_full:
            raise EvaluationError("perturbed tokens are drawn for whole samples; leave `lengths` out of a suite with perturbed_frechet")
        for extractor in self._extractors:
            self._reference[extractor.name].update(batch.reference_features(extractor))
        latents = self._tokenizer.encode_latents(self._tokenizer.prepare(batch.reference).values)
        assert isinstance(self._tokenizer.quantizer, NeighborQuantizer)
        neighbors = self._tokenizer.quantizer.neighbors(latents, max(self._grid.deltas))
        near = neighbors.reshape(len(tokens), tokens.layout.length, -1)
        for number, (alpha, delta) in enumerate(self._grid.settings):
            ranks = self._ranks(batch.numbers, tokens.layout.length, alpha=alpha, delta=delta)
            indices = near.gather(2, ranks.to(near.device)[..., None]).squeeze(2)
            pictures = to_uint8(self._tokenizer.decode(Tokens(indices, tokens.layout)).float()).cpu()
            for extractor in self._extractors:
                self._perturbed[extractor.name, number].update(extractor(pictures))

    def values(self, bootstrap: BootstrapConfig) -> list[MetricValue]:
        return [self._value(extractor) for extractor in self._extractors]

    def _value(self, extractor: FeatureExtractor) -> MetricValue:
        reference = self._reference[extractor.name].compute()
        single = [
            frechet_value(
                self._perturbed[extractor.name, number].compute(),
                reference,
                extractor=extractor,
                reference_side="the originals of the same images, through the same crop",
                allow_few_samples=self._allow_few_samples,
            )
            for number in range(len(self._grid.settings))
        ]
        distances = [value.value for value in single if value.value is not None]
        return single[0].replace(
            name=f"p{single[0].name}",
            value=sum(distances) / len(distances),
            protocol=f"mean over {len(single)} settings (alpha, delta) of: tokens of every image perturbed, decoded, and {single[0].protocol}",
            details={
                **single[0].details,
                "alphas": list(self._grid.alphas),
                "deltas": list(self._grid.deltas),
                "beta": 1.0,
                "seed": self._grid.seed,
                "distances": [[alpha, delta, distance] for (alpha, delta), distance in zip(self._grid.settings, distances, strict=True)],
            },
        )

    def _ranks(self, numbers: Tensor, length: int, *, alpha: float, delta: int) -> Tensor:
        """(B, L): at which rank among its neighbors each token is drawn, from a generator of the image's own, equal at every setting."""
        rows = []
        for number in numbers.tolist():
            generator = torch.Generator().manual_seed((self._grid.seed * 2_654_435_761 + number) % 2**32)  # it reads no more bits
            chances = torch.rand(length, generator=generator)
            ranks = torch.randint(delta, (length,), generator=generator)
            rows.append(torch.where(chances <= alpha, ranks, 0))
        return torch.stack(rows)


def why_not_perturbed(tokenizer: Tokenizer[Any] | None, grid: PerturbationGrid) -> str | None:
    """Why a tokenizer's tokens cannot be perturbed by the grid; None if they can."""
    if tokenizer is None:
        return "there is no tokenizer that decodes perturbed tokens"
    if isinstance(tokenizer, TextTokenizer):
        return "it reads a text with every picture, which perturbed tokens do not bring"
    if tokenizer.layout.is_continuous:
        return "the latents are continuous: there are no codes to draw"
    if not isinstance(tokenizer.quantizer, NeighborQuantizer):
        return f"codes of a {type(tokenizer.quantizer).__name__} have no neighbors"
    smallest = int(tokenizer.layout.vocab_sizes.min())
    if max(grid.deltas) > smallest:
        return f"there are {smallest} codes, fewer than the {max(grid.deltas)} nearest that the grid draws from: set perturbations.deltas"
    return None
