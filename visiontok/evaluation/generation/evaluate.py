"""A generation suite from end to end: sample what is missing, evaluate all samples, write the result and its page; sampling and evaluation are
resumable."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from visiontok.base.errors import ConfigError
from visiontok.core.identity import check_same_tokenizer, identify
from visiontok.core.tokenizer import Tokenizer
from visiontok.evaluation.generation.report import write_generation_report
from visiontok.evaluation.generation.run import GenerationRun
from visiontok.evaluation.generation.samples import open_samples
from visiontok.evaluation.generation.sampling import SamplePlan, write_samples
from visiontok.evaluation.generation.suite import GenerationSuite
from visiontok.evaluation.results.identity import model_identity, rank_and_world_size
from visiontok.evaluation.results.per_sample import PerSampleResults
from visiontok.evaluation.results.result import Result
from visiontok.evaluation.results.seeds import across_seeds
from visiontok.evaluation.run_state import ProgressCallback, RunStates
from visiontok.generators.base import Generator
from visiontok.signals import SignalSpec
from visiontok.signals.stills import shown_spec


@dataclass(frozen=True, eq=False)
class SampleMaker:
    """A generator, and the tokenizer that decodes its tokens, each with the name by which it was requested.

    Attributes:
        generator, tokenizer: the models.
        generator_name, tokenizer_name: their names.
        allow_other_tokenizer: whether the tokenizer may be another one than that of the generator's training tokens.
    """

    generator: Generator[Any]
    tokenizer: Tokenizer[Any]
    generator_name: str
    tokenizer_name: str
    allow_other_tokenizer: bool = False

    @property
    def spec(self) -> SignalSpec:
        """Of the samples."""
        return shown_spec(self.tokenizer.spec, self.generator.layout.signal_shape)

    def plan(self, suite: GenerationSuite, seed: int) -> SamplePlan:
        """What the suite requests, with one seed.

        Raises:
            ConfigError: if the suite has no number of samples, or the two models do not fit.
            IdentityError: if the generator was trained on the tokens of another tokenizer, unless allowed.
        """
        if suite.num_samples is None:
            raise ConfigError(f"sampling from {self.generator_name} needs num_samples in the suite, or --set num_samples=50000")
        if not self.tokenizer.layout.accepts(self.generator.layout):
            raise ConfigError(f"{self.generator_name} writes tokens of another layout than {self.tokenizer_name} reads")
        made_by, given = self.generator.config.tokenizer, identify(self.tokenizer, self.tokenizer_name)
        check_same_tokenizer(made_by, given, what=f"the generator {self.generator_name}", allow_other=self.allow_other_tokenizer)
        return SamplePlan(
            num_samples=suite.num_samples,
            class_order=suite.class_order,
            seed=seed,
            generator=model_identity(self.generator, self.generator_name),
            tokenizer=model_identity(self.tokenizer, self.tokenizer_name),
            sampling={**self.generator.config.sampling.to_dict(), **suite.sampling},
        )


def evaluate_generated(
    suite: GenerationSuite,
    samples: Path,
    output: Path,
    *,
    maker: SampleMaker | None,
    device: torch.device,
    progress: Callable[[str], AbstractContextManager[ProgressCallback]],
    report: bool = True,
) -> Result | None:
    """Sample what is missing, if there is a generator, then evaluate all samples.

    Under torch.distributed all processes sample, and the first one evaluates and writes; the others get None. An interrupted evaluation continues
    from its state in a folder `.run-state` beside the result, which is removed at the end.

    Args:
        suite: what to evaluate.
        samples: where the samples are or will be written: a folder or an .npz file; of several seeds, one for each with the seed in its name.
        output: the .json file of the result.
        maker: of the samples; None for samples that are there.
        device: of the extractors' networks.
        progress: gives a context around each step, whose value is called with the samples done and their number.
        report: write an HTML page beside the result.

    Raises:
        ConfigError: if the suite requests several seeds, but samples are given.
        EvaluationError, DataError: see `GenerationRun`.
    """
    if suite.seeds and maker is None:
        raise ConfigError(f"{suite.name} requests {len(suite.seeds)} sets of samples; sample them with --model and --tokenizer, or set seeds=[]")
    states, results = RunStates(output.parent), {}
    paths = {seed: _of_seed(samples, seed) if suite.seeds else samples for seed in suite.seeds or (suite.seed,)}
    for seed, path in paths.items():
        of_seed = _evaluate_set(suite, path, seed=seed, maker=maker, device=device, progress=progress, states=states)
        if of_seed is not None:
            results[seed] = of_seed
    if not results:
        return None
    result, per_sample = across_seeds(results) if suite.seeds else results[suite.seed]
    per_sample.save_beside(output)
    result.save(output)
    if report:
        write_generation_report(output.with_suffix(".html"), result, open_samples(next(iter(paths.values()))))
    states.clear()
    return result


def _evaluate_set(
    suite: GenerationSuite,
    path: Path,
    *,
    seed: int,
    maker: SampleMaker | None,
    device: torch.device,
    progress: Callable[[str], AbstractContextManager[ProgressCallback]],
    states: RunStates,
) -> tuple[Result, PerSampleResults] | None:
    """The samples of one seed; None in all processes but the first."""
    if maker is None:
        given = open_samples(path)
        run = GenerationRun(suite, spec=given.spec, count=len(given), device=device)
    else:
        plan = maker.plan(suite, seed)
        run = GenerationRun(suite, spec=maker.spec, model=plan.generator, plan=plan, device=device)  # before sampling, so that its errors come first
        with progress(f"Sampling from {maker.generator_name}") as step:
            write_samples(plan, maker.generator, maker.tokenizer, path, batch_size=suite.batch_size, progress=step)
        if dist.is_initialized():
            dist.barrier()
    if rank_and_world_size()[0] != 0:
        return None
    samples = open_samples(path)
    state = states.open({**run.identity, "samples": samples.identity})
    with progress(f"Evaluating {path}") as step:
        return run.run(samples, progress=step, state=state)


def _of_seed(path: Path, seed: int) -> Path:
    return path.with_name(f"{path.stem}-seed{seed}{path.suffix}")
