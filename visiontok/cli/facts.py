"""What `visiontok info` shows, as names and values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from visiontok import registry

_LONGEST = 6


def released_facts(family: registry.Family, entry: registry.Checkpoint) -> dict[str, Any]:
    """Of a released checkpoint."""
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
        **{axis: ", ".join(values) for axis, values in entry.taxonomy.items()},
        "trained on the tokens of": entry.tokenizer or "",
        "published by the authors, not computed here": figures,
        "checked here": entry.verified,
        "load it": loading(entry.name),
    }


def saved_facts(model: registry.SavedModel, *, origin: Mapping[str, str]) -> dict[str, Any]:
    """Of a model in a folder that `save_pretrained` wrote.

    Args:
        model: what its files say.
        origin: where it is, as facts.
    """
    card = model.card
    tokens, vocab_size, parameters, codebooks = (_whole(card.get(name)) for name in ("tokens", "vocab_size", "parameters", "codebooks"))
    return {
        "name": model.name,
        **_what(model.family),
        **origin,
        "license of the weights": card.get("license", ""),
        **(_tokens(tokens, vocab_size, model.signal, parameters) if card else {}),
        **_rates(codebooks, card.get("frame_rate"), card.get("bits_per_second")),
        "trained on the tokens of": card.get("tokenizer", ""),
        "results": [_result(result) for result in card.get("results", ())],
        "configuration": [f"{name}: {value}" for name, value in value_rows(model.config)],
        "load it": loading(model.name),
    }


def family_facts(family: registry.Family) -> dict[str, Any]:
    """Of a family, without its configuration."""
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


def run_facts(run: registry.TrainingProgress) -> dict[str, str]:
    """Of a training run."""
    steps = "" if run.steps is None else f" of {run.steps}"
    return {
        "run": str(run.folder),
        "newest checkpoint": f"step {run.step}{steps}" if run.step else "none",
        "trained model": "none yet" if run.final is None else str(run.final),
    }


def value_rows(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """(dotted name, value) of every field of a written configuration."""
    rows: list[tuple[str, str]] = []
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            rows += value_rows(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", shortened(value)))
    return rows


def shortened(value: Any) -> str:
    """A value as JSON; of long lists the ends."""
    if isinstance(value, list | tuple) and len(value) > _LONGEST:
        return f"[{', '.join(map(shortened, value[:3]))}, ... {shortened(value[-1])}] ({len(value)} values)"
    return json.dumps(value, default=str)


def loading(name: str) -> str:
    """The call that loads a model."""
    return f'visiontok.from_pretrained("{name}")'


def _whole(value: Any) -> int | None:
    """A card's number; a card that was written by hand may hold anything."""
    return value if type(value) is int else None


def _result(result: Mapping[str, Any]) -> str:
    value = result.get("value")
    number = f"{value:g}" if isinstance(value, int | float) else str(value)
    return " ".join(filter(None, [f"{result.get('metric')} {number}", result.get("unit"), f"on {result.get('dataset')} ({result.get('protocol')})"]))
