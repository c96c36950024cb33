"""pFID and its variants: how well a tokenizer decodes tokens with simulated sampling errors of a generator (RobustTok, arXiv 2503.08354, section
3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor

from visiontok.base.noise import SampleNoise, integers
from visiontok.evaluation.features.protocol import to_uint8
from visiontok.evaluation.metrics.accumulator import Accumulator
from visiontok.evaluation.metrics.bootstrap import BootstrapConfig
from visiontok.evaluation.metrics.entries.frechet import distance_of_sides
from visiontok.evaluation.metrics.metric import Aggregate, EvaluatedBatch, StreamMetric, Subject, Value
from visiontok.evaluation.metrics.moments import Moments
from visiontok.evaluation.metrics.needs import suitable
from visiontok.quantizers import NeighborQuantizer


def _why_not(subject: Subject) -> str | None:
    tokenizer = subject.tokenizer
    if tokenizer is None:
        return "there is no tokenizer that decodes perturbed tokens"
    if tokenizer.text is not None:
        return "it reads a text with every sample, which perturbed tokens do not have"
    if not isinstance(tokenizer.quantizer, NeighborQuantizer):
        return f"codes of a {type(tokenizer.quantizer).__name__} have no neighbors"
    assert subject.layout is not None
    smallest, most = int(subject.layout.vocab_sizes.min()), max(subject.perturbations.deltas)
    if most > smallest:
        return f"there are {smallest} codes, fewer than the {most} nearest that the grid draws from: set perturbations.deltas"
    return None


def _accumulators(subject: Subject) -> dict[str, Accumulator]:
    settings = range(len(subject.perturbations.settings))
    parts: dict[str, Accumulator] = {f"reference.{extractor.name}": Moments() for extractor in suitable(subject)}
    parts.update({f"perturbed.{extractor.name}.{setting}": Moments() for extractor in suitable(subject) for setting in settings})
    return parts


@torch.no_grad()
def _compute(accumulators: Mapping[str, Any], batch: EvaluatedBatch, subject: Subject) -> None:
    """Decode once per setting and sample, however many extractors there are."""
    tokenizer, tokens, grid = subject.tokenizer, batch.token_indices, subject.perturbations
    assert tokenizer is not None
    assert batch.reference is not None
    assert isinstance(tokenizer.quantizer, NeighborQuantizer)
    for extractor in suitable(subject):
        accumulators[f"reference.{extractor.name}"].update(batch.features(extractor, "reference").features)
    latents = tokenizer.encode_latents(tokenizer.prepare(batch.reference.values).values)
    near = tokenizer.quantizer.neighbors(latents, max(grid.deltas)).reshape(len(tokens), tokens.indices.shape[1], -1)
    for setting, (alpha, delta) in enumerate(grid.settings):
        ranks = _ranks(batch.indices, tokens.indices.shape[1], alpha=alpha, delta=delta, seed=grid.seed)
        perturbed = tokens.with_data(near.gather(2, ranks.to(near.device)[..., None]).squeeze(2))
        decoded = tokenizer.decode(perturbed)
        for extractor in suitable(subject):
            samples = to_uint8(decoded.float()).cpu() if subject.is_8bit else decoded.float().cpu()
            accumulators[f"perturbed.{extractor.name}.{setting}"].update(extractor(samples).flatten(0, -2))


def _ranks(indices: Tensor, length: int, *, alpha: float, delta: int, seed: int) -> Tensor:
    """(B, L): the rank, among its neighbors, of the code that replaces each token; drawn from the sample's own stream, so equal draws at every
    setting."""
    noise = SampleNoise(seed, indices.tolist())
    chances = noise.uniform(len(indices), length)
    ranks = integers(noise, delta, len(indices), length)
    return torch.where(chances <= alpha, ranks, 0)


def _aggregate(accumulators: Mapping[str, Any], subject: Subject, bootstrap: BootstrapConfig) -> list[Aggregate]:
    """The mean, over a grid of perturbations, of the Fréchet distance between the originals and what perturbed tokens decode to."""
    grid, found = subject.perturbations, []
    for extractor in suitable(subject):
        reference = accumulators[f"reference.{extractor.name}"].compute()
        single = [
            distance_of_sides(
                accumulators[f"perturbed.{extractor.name}.{setting}"].compute(),
                reference,
                key="pFD[]",
                extractor=extractor,
                reference_side=subject.reference,
                allow_few_samples=subject.allow_few_samples,
            )
            for setting in range(len(grid.settings))
        ]
        distances = [each.value for each in single if each.value is not None]
        details: dict[str, JsonValue] = {
            **single[0].details,
            "alphas": list(grid.alphas),
            "deltas": list(grid.deltas),
            "beta": 1.0,
            "seed": grid.seed,
            "distances": [[alpha, delta, each] for (alpha, delta), each in zip(grid.settings, distances, strict=True)],
        }
        protocol = f"mean over {len(single)} settings (alpha, delta) of: tokens of every sample perturbed, decoded, and {single[0].protocol}"
        found.append(replace(single[0], value=sum(distances) / len(distances), protocol=protocol, details=details))
    return found


PERTURBED_FRECHET = StreamMetric(
    name="perturbed_frechet",
    values={"pFD[]": Value("Fréchet distance of perturbed tokens", better="lower")},
    needs=("decoder", "extractors", "tokens", "fixed length", "all tokens"),
    fewest_samples=2,
    version=2,
    unavailable=_why_not,
    accumulators=_accumulators,
    compute=_compute,
    aggregate=_aggregate,
)
