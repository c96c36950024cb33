"""The part of `visiontok evaluate` for suites of generated pictures: sample what is missing, then measure what lies there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from visiontok.base.errors import ConfigError
from visiontok.cli.model import load_generator, load_tokenizer
from visiontok.cli.ranks import progress_bar

if TYPE_CHECKING:
    import torch

    from visiontok.evaluation import GenerationSuite, Result


def evaluate_generated(
    suite: GenerationSuite,
    models: Sequence[str],
    tokenizer: str | None,
    samples: Path | None,
    output: Path,
    device: torch.device,
    *,
    shown: bool,
    report: bool = True,
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
        report: write a page beside the result.
    """
    from visiontok.evaluation.generation.session import Sampler, measure_generated
    from visiontok.evaluation.reconstruction.session import file_stem

    if len(models) > 1:
        raise ConfigError("a suite of generated pictures measures one generator at a time")
    if not models and samples is None:
        raise ConfigError(f"{suite.name} measures generated pictures: give --samples, or --model and --tokenizer to sample them")
    name = models[0] if models else str(samples)
    path = output if output.suffix == ".json" else output / f"{suite.name}--{file_stem(name)}.json"
    place = samples or path.with_suffix("")
    sampler = None
    if models:
        if tokenizer is None:
            raise ConfigError(f"sampling from {name} needs --tokenizer")
        sampler = Sampler(load_generator(name, device), load_tokenizer(tokenizer, device), name, tokenizer)
    result = measure_generated(
        suite, place, path, sampler=sampler, device=device, progress=lambda label: progress_bar(label, shown=shown), report=report
    )
    if result is not None:
        typer.echo(f"samples in {place}; written to {path}", err=True)
    return result
