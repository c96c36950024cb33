"""`visiontok list`: which models there are."""

from __future__ import annotations

import fnmatch
import json
from typing import Annotated, Any

import typer

from visiontok import registry
from visiontok.cli.output import print_table

_COLUMNS = ("name", "kind", "modality", "tokens", "vocabulary", "size", "parameters", "from")


def list_models(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Shell pattern of names; quote it.")] = "*",
    modality: Annotated[str | None, typer.Option(metavar="image|video|audio", help="Only models of this modality.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, for programs.")] = False,
) -> None:
    """List released and bundled tokenizers and generators.

    \b
    Examples:
      visiontok list
      visiontok list 'titok*' --modality image
      visiontok list --json
    """
    found = [entry for entry in _entries() if fnmatch.fnmatchcase(entry["name"], pattern) and modality in (None, entry["modality"])]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    if not found:
        typer.echo(f"No model matches {pattern!r}{f' in {modality}' if modality else ''}; see all with: visiontok list", err=True)
    print_table(_COLUMNS, [[_shown(entry[column]) for column in _COLUMNS] for entry in found])


def _entries() -> list[dict[str, Any]]:
    released = [_entry(name, family, vars(entry), entry.repo or entry.page) for name, (family, entry) in registry.checkpoints().items()]
    bundled = [_entry(name, model.family, model.card, "bundled") for name, model in registry.bundled().items()]
    return sorted(released + bundled, key=lambda entry: (entry["kind"] != "tokenizer", entry["name"]))


def _entry(name: str, family: registry.Family, facts: Any, place: str) -> dict[str, Any]:
    return {
        "name": name,
        "family": family.name,
        "kind": family.kind,
        "modality": family.modality,
        "tokens": facts.get("tokens"),
        "vocabulary": facts.get("vocab_size"),
        "size": facts.get("input_size"),
        "parameters": facts.get("parameters"),
        "from": place,
    }


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value / 1e6:.1f} M" if isinstance(value, int) and value >= 100_000 else str(value)
