"""`visiontok evaluate --repeat`: evaluate a result again and list what changed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from visiontok.base.errors import ConfigError
from visiontok.base.json_text import read_json
from visiontok.cli.model import load_for_data, load_generator, load_tokenizer
from visiontok.cli.ranks import processes, progress_bar

if TYPE_CHECKING:
    from typing import TypeAlias

    import torch

    from visiontok.evaluation import Result

    Pair: TypeAlias = tuple[Result, Result | None]
    """Before, and now; None in all processes but the first."""

_KINDS = ("reconstruction", "generation", "rate-distortion")


def repeat(path: Path, models: list[str], generator: str | None, tokenizer: str | None, samples: Path | None, device: torch.device) -> None:
    """Evaluate again and print every entry that differs; exit code 1 if a number does.

    Args:
        path: of a result: of a tokenizer, of generated samples, or of quality against rate.
        models: instead of the one that the result names; at most one.
        generator: of the prior, instead of the one that the result names.
        tokenizer: of a generator, instead of the one that the result names.
        samples: generated samples; without them they are sampled again.
        device: of the models.
    """
    if len(models) > 1:
        raise ConfigError("--repeat evaluates one model")
    kind = _kind(path)
    if kind != "generation" and (tokenizer is not None or samples is not None):
        raise ConfigError(f"--tokenizer and --samples belong to results of generated samples; {path} is about a tokenizer")
    with processes() as is_first:
        if kind == "rate-distortion":
            pairs = _rate_distortion(path, device, shown=is_first)
        elif kind == "generation":
            pairs = [_generated(path, models, tokenizer, samples, device, shown=is_first)]
        else:
            pairs = [_tokenizer(path, models, generator, device, shown=is_first)]
    if is_first:
        _show(pairs)


def _kind(path: Path) -> str:
    content = read_json(path)
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind is None and isinstance(content, dict) and "study" in content:
        raise ConfigError(
            f"{path} is the result of a study, which trains what it evaluates; run it again with: visiontok study {content.get('name', 'NAME')}"
        )
    if kind not in _KINDS:
        found = "has no kind" if kind is None else f"is of the unknown kind {kind!r}"
        raise ConfigError(f"{path} {found}; --repeat takes a JSON file that `visiontok evaluate` wrote, of the kind {', '.join(_KINDS)}")
    return str(kind)


def _tokenizer(path: Path, models: list[str], generator: str | None, device: torch.device, *, shown: bool) -> Pair:
    from visiontok.evaluation import NamedGenerator, Result, Suite, evaluate_suite

    before = Result.load(path)
    if before.model is None:
        raise ConfigError(f"{path} names no model; name it with --model")
    name = models[0] if models else before.model.name
    prior_name = generator or (before.generator.name if before.generator else None)
    prior = None if prior_name is None else NamedGenerator(prior_name, load_generator(prior_name, device))
    suite = Suite.parse(before.suite, source=f"the suite in {path}")
    with progress_bar(name, shown=shown) as progress:
        return before, evaluate_suite(suite, load_for_data(name, device), name=name, generator=prior, progress=progress)


def _generated(path: Path, models: list[str], tokenizer: str | None, samples: Path | None, device: torch.device, *, shown: bool) -> Pair:
    """In a temporary folder, unless the samples are given."""
    from visiontok.evaluation import GenerationSuite, Result, SamplePlan
    from visiontok.evaluation.generation.evaluate import SampleMaker, evaluate_generated

    before, maker = Result.load(path), None
    suite = GenerationSuite.parse(before.suite, source=f"the suite in {path}")
    if before.sampling is not None:
        plan = SamplePlan.parse({**before.sampling, "seed": suite.seed})
        name, decoder = models[0] if models else plan.generator.name, tokenizer or plan.tokenizer.name
        maker = SampleMaker(load_generator(name, device), load_tokenizer(decoder, device), name, decoder)
    elif samples is None:
        raise ConfigError(f"{path} is about samples that were given; give them again with: visiontok evaluate --repeat {path} --samples PATH")
    with tempfile.TemporaryDirectory() as folder:
        where, output = samples or Path(folder) / "samples.npz", Path(folder) / "result.json"
        now = evaluate_generated(
            suite, where, output, maker=maker, device=device, progress=lambda label: progress_bar(label, shown=shown), report=False
        )
    return before, now


def _rate_distortion(path: Path, device: torch.device, *, shown: bool) -> list[Pair]:
    """Every result of every curve, by the tokenizer of that name."""
    from visiontok.evaluation import Suite, evaluate_suite
    from visiontok.evaluation.reconstruction.rate_distortion import RateDistortion

    pairs: list[Pair] = []
    for curve in RateDistortion.load(path).curves:
        tokenizer = load_for_data(curve.model, device)
        for before in curve.results:
            suite = Suite.parse(before.suite, source=f"the suite in {path}")
            with progress_bar(curve.model, shown=shown) as progress:
                pairs.append((before, evaluate_suite(suite, tokenizer, name=curve.model, progress=progress)))
    return pairs


def _show(pairs: list[Pair]) -> None:
    from visiontok.evaluation import changes

    found = []
    for number, (before, after) in enumerate(pairs):
        assert after is not None
        if not number:
            typer.echo(f"{after.data.source}: {after.data.in_words}", err=True)
        name = f"{before.title}: " if len(pairs) > 1 else ""
        found += [(name, change) for change in changes(before, after)]
    for name, change in found:
        typer.echo(f"{name}{change.path}: {change.before} -> {change.after}")
    values = sum(change.is_value for _, change in found)
    typer.echo("Nothing changed." if not found else f"{values} values changed, {len(found) - values} other entries.")
    if values:
        raise typer.Exit(1)
