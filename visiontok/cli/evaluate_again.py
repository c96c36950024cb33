"""`visiontok evaluate --repeat`: measure a result again and tell what changed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from visiontok.base.errors import ConfigError
from visiontok.cli.model import load_for_data, load_generator, load_tokenizer
from visiontok.cli.ranks import processes, progress_bar

if TYPE_CHECKING:
    from typing import TypeAlias

    import torch

    from visiontok.evaluation import GenerationSuite, Result

    Pair: TypeAlias = tuple[Result, Result | None]
    """Before, and now; None in all processes but the first."""

_KINDS = ("reconstruction", "generation", "rate-distortion")


def repeat(path: Path, models: list[str], tokenizer: str | None, samples: Path | None, device: torch.device) -> None:
    """Measure again and print every entry that differs; exit code 1 if a number does.

    Args:
        path: of a result: of reconstructions, of generated pictures, or of quality against rate.
        models: instead of the one that the result names; at most one.
        tokenizer: of a generator, instead of the one that the result names.
        samples: generated pictures; without them they are sampled again.
        device: of the models.
    """
    if len(models) > 1:
        raise ConfigError("--repeat measures one model")
    with processes() as is_first:
        pairs = _rate_distortion(path, device, shown=is_first) if _kind(path) == "rate-distortion" else None
        if pairs is None:
            pairs = [_single(path, models, tokenizer, samples, device, shown=is_first)]
    if is_first:
        _tell(pairs)


def _kind(path: Path) -> object:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} is not a readable result: {error}") from error
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind is None and isinstance(content, dict) and "study" in content:
        raise ConfigError(
            f"{path} is the result of a study, which trains what it measures; run it again with: visiontok study {content.get('name', 'NAME')}"
        )
    if kind not in _KINDS:
        found = "says no kind" if kind is None else f"is of the unknown kind {kind!r}"
        raise ConfigError(f"{path} {found}; --repeat takes a JSON file that `visiontok evaluate` wrote, of the kind {', '.join(_KINDS)}")
    return kind


def _single(path: Path, models: list[str], tokenizer: str | None, samples: Path | None, device: torch.device, *, shown: bool) -> Pair:
    from visiontok.evaluation import GenerationSuite, Result, Suite, evaluate_suite

    before = Result.load(path)
    if before.kind == "generation":
        wanted = GenerationSuite.parse(before.suite, source=f"the suite in {path}")
        return before, _generated(before, wanted, path, models, tokenizer, samples, device, shown=shown)
    if tokenizer is not None or samples is not None:
        raise ConfigError(f"--tokenizer and --samples belong to results of generated pictures; {path} is about reconstructions")
    if before.model is None:
        raise ConfigError(f"{path} does not say which model it is about; name it with --model")
    name = models[0] if models else before.model.name
    with progress_bar(name, shown=shown) as progress:
        measured = evaluate_suite(Suite.parse(before.suite, source=f"the suite in {path}"), load_for_data(name, device), name=name, progress=progress)
    return before, measured


def _generated(
    before: Result,
    suite: GenerationSuite,
    path: Path,
    models: list[str],
    tokenizer: str | None,
    samples: Path | None,
    device: torch.device,
    *,
    shown: bool,
) -> Result | None:
    """In a folder that is thrown away, unless the samples have a place of their own."""
    from visiontok.evaluation.generation.sampling import SamplePlan
    from visiontok.evaluation.generation.session import Sampler, measure_generated

    sampler = None
    if before.sampling is not None:
        plan = SamplePlan.parse({**before.sampling, "seed": suite.seed})
        generator, decoder = models[0] if models else plan.generator.name, tokenizer or plan.tokenizer.name
        sampler = Sampler(load_generator(generator, device), load_tokenizer(decoder, device), generator, decoder)
    elif samples is None:
        raise ConfigError(f"{path} measures pictures that were given; give them again with: visiontok evaluate --repeat {path} --samples PLACE")
    with tempfile.TemporaryDirectory() as folder:
        place, output = samples or Path(folder) / "samples.npz", Path(folder) / "result.json"
        return measure_generated(
            suite, place, output, sampler=sampler, device=device, progress=lambda label: progress_bar(label, shown=shown), report=False
        )


def _rate_distortion(path: Path, device: torch.device, *, shown: bool) -> list[Pair]:
    """Every result of every curve, by the tokenizer of that name."""
    from visiontok.evaluation import Suite, evaluate_suite
    from visiontok.evaluation.reconstruction.rate_distortion import Adaptive, RateDistortion

    pairs: list[Pair] = []
    for curve in RateDistortion.load(path).curves:
        tokenizer = load_for_data(curve.model, device)
        for number, before in enumerate(curve.results):
            asked = tokenizer
            if curve.wishes:
                if not isinstance(tokenizer, Adaptive):
                    raise ConfigError(
                        f"{curve.model} was asked for errors in {path}, but the model of that name does not choose its number of tokens"
                    )
                asked = tokenizer.with_max_loss(curve.wishes[number])
            with progress_bar(curve.model, shown=shown) as progress:
                suite = Suite.parse(before.suite, source=f"the suite in {path}")
                pairs.append((before, evaluate_suite(suite, asked, name=curve.model, progress=progress)))
    return pairs


def _tell(pairs: list[Pair]) -> None:
    from visiontok.evaluation.results.comparison import changes

    found = []
    for before, after in pairs:
        assert after is not None
        name = f"{before.model.name}: " if len(pairs) > 1 and before.model else ""
        found += [(name, change) for change in changes(before, after)]
    for name, change in found:
        typer.echo(f"{name}{change.place}: {change.before} -> {change.after}")
    numbers = sum(change.is_value for _, change in found)
    typer.echo("Nothing changed." if not found else f"{numbers} measured numbers changed, {len(found) - numbers} other entries.")
    if numbers:
        raise typer.Exit(1)
