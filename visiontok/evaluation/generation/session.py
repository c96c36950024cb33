"""A generation suite from end to end: sample what is missing, measure what lies there, write result, evidence and page; both go on after a kill."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from visiontok.base.errors import ConfigError
from visiontok.core.tokenizer import Tokenizer
from visiontok.evaluation.generation.report import write_generation_report
from visiontok.evaluation.generation.run import SampleMeasurement
from visiontok.evaluation.generation.samples import open_samples
from visiontok.evaluation.generation.sampling import SamplePlan, write_samples
from visiontok.evaluation.generation.suite import GenerationSuite
from visiontok.evaluation.reconstruction.run import Report
from visiontok.evaluation.results.identity import model_identity, processes
from visiontok.evaluation.results.per_sample import Evidence
from visiontok.evaluation.results.result import Result
from visiontok.evaluation.results.seeds import across_seeds
from visiontok.evaluation.run_state import UnfinishedSides
from visiontok.generators.base import Generator

Bars = Callable[[str], AbstractContextManager[Report]]


@dataclass(frozen=True, eq=False)
class Sampler:
    """What samples: a generator, and the tokenizer that decodes its tokens, each with the name by which it was asked for."""

    generator: Generator[Any]
    tokenizer: Tokenizer[Any]
    generator_name: str
    tokenizer_name: str

    def plan(self, suite: GenerationSuite, seed: int) -> SamplePlan:
        """What the suite asks for, with one seed.

        Raises:
            ConfigError: if the suite does not say how many, or the two models do not fit.
        """
        if suite.num_samples is None:
            raise ConfigError(f"sampling from {self.generator_name} needs num_samples in the suite, or --set num_samples=50000")
        if not self.tokenizer.layout.accepts(self.generator.layout):
            raise ConfigError(f"{self.generator_name} writes tokens of another layout than {self.tokenizer_name} reads")
        return SamplePlan(
            num_samples=suite.num_samples,
            class_order=suite.class_order,
            seed=seed,
            generator=model_identity(self.generator, self.generator_name),
            tokenizer=model_identity(self.tokenizer, self.tokenizer_name),
            sampling={**self.generator.config.sampling.to_dict(), **suite.sampling},
        )


def measure_generated(
    suite: GenerationSuite, place: Path, output: Path, *, sampler: Sampler | None, device: torch.device, progress: Bars, report: bool = True
) -> Result | None:
    """Sample into `place` if there is a sampler, then measure what lies there.

    Under torch.distributed all processes sample, and the first one measures and writes; the others get None. An interrupted measurement goes
    on from a folder `.unfinished` beside the result, which is removed at the end.

    Args:
        suite: what to measure.
        place: where the samples lie or will lie: a folder or an .npz file; of several seeds, one for each with the seed in its name.
        output: the .json file of the result.
        sampler: None for samples that are there.
        device: of the extractors' networks.
        progress: gives a context around each step, whose value is called with the samples done and their number.
        report: write an HTML page beside the result.

    Raises:
        ConfigError: if the suite asks for several seeds, but samples are given.
        EvaluationError, DataError: see `SampleMeasurement`.
    """
    if suite.seeds and sampler is None:
        raise ConfigError(f"{suite.name} asks for {len(suite.seeds)} sets of samples; sample them with --model and --tokenizer, or set seeds=[]")
    measured: dict[int, tuple[Result, Evidence]] = {}
    states: list[UnfinishedSides] = []
    is_first = processes()[0] == 0
    places = {seed: _of_seed(place, seed) if suite.seeds else place for seed in suite.seeds or (suite.seed,)}
    for seed, where in places.items():
        plan = sampler.plan(suite, seed) if sampler else None
        found = None if sampler else open_samples(where)
        # Before anything is sampled, so that what must be refused is refused now.
        measurement = SampleMeasurement(suite, count=len(found) if found else None, model=plan.generator if plan else None, plan=plan, device=device)
        if sampler is not None and plan is not None:
            with progress(f"Sampling from {sampler.generator_name}") as step:
                write_samples(plan, sampler.generator, sampler.tokenizer, where, batch_size=suite.batch_size, progress=step)
            if dist.is_initialized():
                dist.barrier()
        if is_first:
            samples = found or open_samples(where)
            unfinished = UnfinishedSides(output.parent / ".unfinished", {**measurement.identity, "samples": samples.identity})
            states.append(unfinished)
            with progress(f"Measuring {where}") as step:
                measured[seed] = measurement.run(samples, progress=step, unfinished=unfinished)
    if not is_first:
        return None
    result, evidence = across_seeds(measured) if suite.seeds else measured[suite.seed]
    evidence.save_beside(output)
    result.save(output)
    if report:
        write_generation_report(output.with_suffix(".html"), result, open_samples(next(iter(places.values()))))
    for state in states:
        state.remove()
    return result


def _of_seed(place: Path, seed: int) -> Path:
    return place.with_name(f"{place.stem}-seed{seed}{place.suffix}")
