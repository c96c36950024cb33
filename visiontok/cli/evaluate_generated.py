"""The part of `visiontok evaluate` for suites of generated pictures: sample what is missing, then measure what lies there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from visiontok.cli.model import load_generator, load_tokenizer
from visiontok.cli.ranks import progress_bar
from visiontok.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from visiontok.evaluation import GenerationSuite, Result


def evaluate_generated(
    suite: GenerationSuite, models: Sequence[str], tokenizer: str | None, samples: Path | None, output: Path, device: torch.device, *, shown: bool
) -> Result | None:
    """Sample into `samples` if a generator is given, measure, write the result; only the first of several processes measures.

    Args:
        suite: what to measure.
        models: at most one generator.
        tokenizer: that decodes its tokens.
        samples: where the pictures lie or will lie; by default a folder beside the result.
        output: folder of the result, or its .json file.
        device: of the models.
        shown: whether this is the first process.
    """
    import torch.distributed as dist

    from visiontok.evaluation import evaluate_samples, model_identity
    from visiontok.evaluation.samples import open_samples
    from visiontok.evaluation.sampling import SamplePlan, write_samples
    from visiontok.evaluation.session import file_stem

    if len(models) > 1:
        raise ConfigError("a suite of generated pictures measures one generator at a time")
    if not models and samples is None:
        raise ConfigError(f"{suite.name} measures generated pictures: give --samples, or --model and --tokenizer to sample them")
    name = models[0] if models else str(samples)
    path = output if output.suffix == ".json" else output / f"{suite.name}--{file_stem(name)}.json"
    place = samples or path.with_suffix("")
    model, plan = None, None
    if models:
        if tokenizer is None or suite.num_samples is None:
            lacking = "--tokenizer" if tokenizer is None else "num_samples in the suite, or --set num_samples=50000"
            raise ConfigError(f"sampling from {name} needs {lacking}")
        generator, decoder = load_generator(name, device), load_tokenizer(tokenizer, device)
        if generator.layout != decoder.layout_for(generator.layout.segments[0].shape):
            raise ConfigError(f"{name} writes tokens of another layout than {tokenizer} reads")
        model = model_identity(generator, name)
        plan = SamplePlan(
            num_samples=suite.num_samples,
            class_order=suite.class_order,
            seed=suite.seed,
            generator=model,
            tokenizer=model_identity(decoder, tokenizer),
            sampling={**generator.config.sampling.to_dict(), **suite.sampling},
        )
        with progress_bar(f"Sampling from {name}", shown=shown) as progress:
            write_samples(plan, generator, decoder, place, batch_size=suite.batch_size, progress=progress)
        if dist.is_initialized():
            dist.barrier()
    if not shown:
        return None
    found = open_samples(place)
    result = evaluate_samples(suite, found.batches(suite.batch_size), model=model, plan=plan, skips=found.report, device=device)
    result.save(path)
    typer.echo(f"{len(found)} samples in {place}; written to {path}", err=True)
    return result
