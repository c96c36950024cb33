"""`visiontok list`: which models there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from visiontok import registry
from visiontok.base.errors import ConfigError
from visiontok.base.names import close_names, matches, unknown
from visiontok.cli.completion import complete_modalities, complete_models
from visiontok.cli.output import print_table

_COLUMNS = ("name", "kind", "modality", "tokens", "vocabulary", "signal", "parameters", "from")


def list_models(
    pattern: Annotated[
        str,
        typer.Argument(metavar="[PATTERN]", help="Part of a name, or a shell pattern such as 'vit*', in quotes.", autocompletion=complete_models),
    ] = "*",
    modality: Annotated[
        str | None, typer.Option(metavar="image|video|audio", help="Only of this modality.", autocompletion=complete_modalities)
    ] = None,
    streamable: Annotated[bool, typer.Option("--streamable", help="Only codecs whose encoder and decoder are causal.")] = False,
    quantizer: Annotated[str | None, typer.Option(metavar="NAME", help="Only codecs with this kind of quantizer, such as RVQ or FSQ.")] = None,
    domain: Annotated[str | None, typer.Option(metavar="NAME", help="Only codecs for this kind of sound, such as speech or music.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="AXIS=VALUE",
            help="Only codecs with this value on an axis of the taxonomy (encoder, decoder, representation, quantizer, bitrate, objectives, "
            "auxiliary, joint, domains); may be repeated.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, for programs.")] = False,
) -> None:
    """List released and bundled tokenizers, generators, and drafters of generators.

    \b
    Examples:
      visiontok list
      visiontok list titok
      visiontok list 'titok*' --modality image
      visiontok list --modality audio --streamable
      visiontok list --quantizer RVQ --domain music
      visiontok list --where encoder=CNN+Transformer --where auxiliary='semantic distillation'
      visiontok list --json
    """
    if modality is not None and modality not in registry.MODALITIES:
        raise unknown("modality", modality, registry.MODALITIES)
    wanted = registry.checked_filter(_wanted(quantizer, domain, where or []))
    entries = _entries()
    found = [
        entry
        for entry in entries
        if matches(entry["name"], pattern)
        and modality in (None, *entry["modalities"])
        and (entry["streamable"] or not streamable)
        and registry.belongs(entry["taxonomy"], wanted)
    ]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    if not found:
        close = close_names(pattern, [entry["name"] for entry in entries])
        hint = f"Did you mean {', '.join(close)}?" if close else "See all with: visiontok list"
        typer.echo(f"No model matches {pattern!r}{f' in {modality}' if modality else ''}. {hint}", err=True)
        return
    print_table(_COLUMNS, [_row(entry) for entry in found])


def _entries() -> list[dict[str, Any]]:
    released = [
        _entry(name, family, entry.signal, {**vars(entry), "kilobits": entry.kilobits}, entry.repo or entry.page)
        for name, (family, entry) in registry.checkpoints().items()
    ]
    bundled = [_entry(name, model.family, model.signal, model.card, "bundled") for name, model in registry.bundled().items()]
    return sorted(released + bundled, key=lambda entry: (entry["kind"] != "tokenizer", entry["name"]))


def _entry(name: str, family: registry.Family, signal: registry.SignalFacts | None, facts: Mapping[str, Any], origin: str) -> dict[str, Any]:
    return {
        "name": name,
        "family": family.name,
        "kind": family.kind,
        "modalities": list(registry.modalities_of(family, signal)),
        "tokens": facts.get("tokens"),
        "vocabulary": facts.get("vocab_size"),
        "codebooks": facts.get("codebooks"),
        "frame_rate": facts.get("frame_rate"),
        "kilobits_per_second": facts.get("kilobits"),
        "streamable": facts.get("streamable"),
        "taxonomy": dict(facts.get("taxonomy") or {}),
        "signal": None if signal is None else {field: value for field, value in asdict(signal).items() if value is not None},
        "parameters": facts.get("parameters"),
        "from": origin,
    }


def _wanted(quantizer: str | None, domain: str | None, where: list[str]) -> dict[str, str]:
    """Values on axes of the taxonomy."""
    given = {"quantizer": quantizer, "domains": domain}
    wanted = {axis: value for axis, value in given.items() if value is not None}
    for condition in where:
        axis, sign, value = condition.partition("=")
        if not sign:
            raise ConfigError(f"--where {condition!r}: expected AXIS=VALUE, such as quantizer=RVQ")
        if wanted.setdefault(axis, value) != value:
            raise ConfigError(f"--where {condition!r}: {axis} is to be {wanted[axis]!r} already")
    return wanted


def _row(entry: Mapping[str, Any]) -> list[str]:
    signal = "" if entry["signal"] is None else registry.SignalFacts.read(entry["signal"]).short()
    cells = {**entry, "modality": "/".join(entry["modalities"]), "signal": signal or None}
    return [_shown(cells[column]) for column in _COLUMNS]


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value / 1e6:.1f} M" if isinstance(value, int) and value >= 100_000 else str(value)
