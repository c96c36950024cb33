"""`visiontok info`: everything the registry knows about one model or family."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Annotated, Any

import typer

from visiontok import registry
from visiontok.cli.output import print_facts


def info(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A released or bundled model, or a family; see `visiontok list`.")],
    as_json: Annotated[bool, typer.Option("--json", help="The registry's data as one JSON object, for programs.")] = False,
) -> None:
    """Show what is known of a model or family.

    For a model: where it comes from, its licenses, its tokens, published and own results, and how to load it.

    \b
    Examples:
      visiontok info titok-l32
      visiontok info titok
      visiontok info titok-b64 --json
    """
    if name in registry.checkpoints():
        family, entry = registry.checkpoints()[name]
        facts, raw = _released(family, entry), {"family": family.name, **asdict(entry)}
    elif name in registry.bundled():
        model = registry.bundled()[name]
        facts, raw = _bundled(model), {"name": name, "family": model.family.name, "folder": model.folder, **model.card}
    elif name in registry.families():
        facts, raw = _family(registry.families()[name]), asdict(registry.families()[name])
    else:
        raise registry.unknown("model or family", name, [*registry.checkpoints(), *registry.bundled(), *registry.families()])
    if as_json:
        typer.echo(json.dumps(raw, indent=1, default=str))
    else:
        print_facts(facts)


def _released(family: registry.Family, entry: registry.Checkpoint) -> dict[str, Any]:
    figures = [f"{figure.metric} {figure.value:g} on {figure.dataset} ({figure.source})" for figure in entry.published]
    return {
        "name": entry.name,
        **_what(family),
        "repository": f"{entry.repo}@{entry.revision}" if entry.repo else f"none; to be downloaded by hand from {entry.page}",
        "files": [_part(part) for part in entry.files],
        "license of the weights": entry.weights_license,
        "license of the authors' code": entry.code_license,
        "note": entry.license_note,
        **_tokens(entry.tokens, entry.vocab_size, entry.signal, entry.parameters),
        **_rates(entry.codebooks, entry.frame_rate, None),
        "streamable": "" if entry.streamable is None else ("yes" if entry.streamable else "no"),
        **entry.taxonomy,
        "trained on the tokens of": entry.tokenizer or "",
        "published by the authors, not computed here": figures,
        "checked here": entry.verified,
        "load it": _loading(entry.name),
    }


def _bundled(model: registry.BundledModel) -> dict[str, Any]:
    card = model.card
    results = [f"{r['metric']} {r['value']:g} {r['unit']} on {r['dataset']} ({r['protocol']})" for r in card.get("results", ())]
    return {
        "name": model.name,
        **_what(model.family),
        "bundled in": str(model.folder),
        "license of the weights": card["license"],
        **_tokens(card.get("tokens"), card.get("vocab_size"), model.signal, card.get("parameters")),
        **_rates(card.get("codebooks"), card.get("frame_rate"), card.get("bits_per_second")),
        "trained on the tokens of": card.get("tokenizer", ""),
        "results": results,
        "load it": _loading(model.name),
    }


def _family(family: registry.Family) -> dict[str, Any]:
    models = [entry.name for entry in family.checkpoints] + [model.name for model in registry.bundled().values() if model.family == family]
    return {
        "name": family.name,
        **_what(family),
        "reads checkpoints of": ", ".join(family.systems),
        "models": models,
        "make one with random weights": f'visiontok.create("{family.name}", ...)',
    }


def _what(family: registry.Family) -> dict[str, str]:
    return {
        "family": f"{family.name}: {family.summary}",
        "kind": f"{family.kind}, {', '.join(family.modalities)}",
        "paper": family.paper,
        "authors' code": family.code,
    }


def _part(part: registry.WeightPart) -> str:
    repository = "" if part.repo is None else f" of {part.repo}"
    inside = "" if part.key is None else f", its entry {part.key!r}"
    return " or ".join(part.names) + repository + inside


def _rates(codebooks: int | None, frame_rate: float | None, bits_per_second: float | None) -> dict[str, str]:
    return {
        "codebooks": "" if codebooks is None else str(codebooks),
        "frame rate": "" if frame_rate is None else f"{frame_rate:g} positions per second",
        "bit rate": "" if bits_per_second is None else f"{bits_per_second / 1000:g} kbit/s",
    }


def _tokens(tokens: int | None, vocab_size: int | None, signal: registry.SignalFacts | None, parameters: int | None) -> dict[str, str]:
    bits = "" if tokens is None or vocab_size is None else f", {tokens * math.log2(vocab_size):g} bits"
    vocabulary = "" if vocab_size is None else f" from a vocabulary of {vocab_size}"
    if tokens is not None:
        shown = f"{tokens}{vocabulary}{bits}"
    else:
        shown = "continuous latents" if vocab_size is None else f"as many as the signal needs{vocabulary}"
    return {
        "tokens": shown,
        "trained on signals of": "" if signal is None else str(signal),
        "parameters": "" if parameters is None else f"{parameters:,}",
    }


def _loading(name: str) -> str:
    return f'visiontok.from_pretrained("{name}")'
